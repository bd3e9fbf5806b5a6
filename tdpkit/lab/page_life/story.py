"""The life of a range of private pages, step by step: accepted, converted, used, converted back.

:class:`PageLife` tells one story on a :class:`~.td.Td` from beginning to end and keeps a step for each thing
that happened. What the guest and its VMM do is the story's; what follows from it is the engine's.

Left out: the shared half's TLB, and on x86 what the guest does with all pages but the first in each 2M.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    GfnRange,
    InvalidValueError,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.splits import SPLITS

from ..layouts import LIFE_TOY, TD_4LEVEL
from ..words import count_of
from .fold import Step
from .guest import LifeGuest, name_errno
from .record import Recorder, ToldTd
from .view import Run, Watch
from .words import GUEST, KVM, Names, Said


class Machine(NamedTuple):
    """A TD to tell of."""

    geometry: Geometry
    frames: int
    title: str


MACHINES = {
    "toy": Machine(LIFE_TOY, 32, "toy of 32 frames, leaves of eight"),
    "x86": Machine(TD_4LEVEL, 4 * TD_4LEVEL.pages(PG_LEVEL_2M), "x86, four leaves of 2M"),
}
THEN = ("convert", "punch hole")
"""What becomes of the range: it is converted to shared and back; or its pages are punched out of the file."""


class Folios(NamedTuple):
    """What the guest_memfd is made of."""

    level: int
    spans: bool
    title: str


FOLIOS = {
    "2M": Folios(PG_LEVEL_2M, False, "2M folios"),
    "4K": Folios(PG_LEVEL_4K, False, "4K folios"),
    "4K, spanned": Folios(PG_LEVEL_4K, True, "4K folios that a mapping spans"),
}
"""As x86 has it; on the toy a "2M" folio is eight frames. The last breaks the rule that no mapping is larger
than its folio (kernel-facts 9.6, C17)."""

_VCPUS = (0, 1)
_IOCTL, _FALLOCATE = "KVM_SET_MEMORY_ATTRIBUTES", "fallocate(PUNCH_HOLE)"


class PageLife:
    """One story of frames [start, end), in `steps`.

    split: a name of SPLITS, what is done before private pages are zapped; machine: of MACHINES; then: of
    THEN; refuse: the so-manyth page that the conversion, or the punch, asks the host for is refused (0:
    none); folios: of FOLIOS. `result` is what that call returned, `requests` how many pages it asked for.
    Raises InvalidValueError or InvalidTypeError for an unknown name, an empty range or one beyond the TD, and
    for folios of 4K on x86, which the guest would take one by one.
    """

    def __init__(
        self,
        start: SupportsIndex,
        end: SupportsIndex,
        *,
        split: str = "v3",
        machine: str = "toy",
        then: str = "convert",
        refuse: SupportsIndex = 0,
        folios: str = "2M",
    ) -> None:
        for name, known in ((machine, MACHINES), (split, SPLITS), (then, THEN), (folios, FOLIOS)):
            if name not in list(known):
                raise InvalidValueError(f"one of {', '.join(known)} is meant here; {name!r} is none of them")
        geometry, frames, _ = MACHINES[machine]
        self.span = GfnRange(check_gfn(start, "the start"), check_gfn(end, "the end"))
        if not self.span.pages or self.span.end > frames:
            raise InvalidValueError(
                f"a story is of one frame at least and ends at {name_gfn(frames)} at most; "
                f"{self.span!r} does not"
            )
        if machine == "x86" and folios == "4K":
            raise InvalidValueError(
                f"with folios of 4K the guest would take {name_gfn(frames)} page by page; "
                "that is shown on the toy, not on x86"
            )
        self.machine, self.split, self.then, self.folios = machine, split, then, folios
        self.refuse = check_gfn(refuse, "the number of a page")
        level, spans, _ = FOLIOS[folios]
        self.td = ToldTd(geometry, frames, accepted=False, folio_level=level, spans_folios=spans)
        for vcpu in _VCPUS[1:]:
            self.td.module.vp_enter(vcpu)
        self.names = Names(geometry, machine == "toy")
        watch = Watch(self.td, self.span, _VCPUS)
        self._recorder = Recorder(self.td, watch, self.names)
        self._guest = LifeGuest(
            self.td,
            watch,
            self._recorder,
            self.names,
            by_block=level > PG_LEVEL_4K or spans,
            every=machine == "toy",
        )
        self.requests = 0
        self.result = self._tell()

    def __repr__(self) -> str:
        return (
            f"life of {self.span}: {count_of(len(self.steps), 'step')}, {count_of(self.lost, 'frame')} lost"
        )

    @property
    def geometry(self) -> Geometry:
        """The machine's."""
        return self.td.geometry

    @property
    def frames(self) -> int:
        """The TD's."""
        return self.td.frames

    @property
    def steps(self) -> list[Step]:
        """In order."""
        return self._recorder.steps

    @property
    def acts(self) -> dict[str, range]:
        """Title of each act: its steps, from 0."""
        acts: dict[str, range] = {}
        for number, step in enumerate(self.steps):
            acts[step.act] = range(acts.get(step.act, range(number, number)).start, number + 1)
        return acts

    @property
    def lost(self) -> int:
        """Frames outside the range whose bytes are gone."""
        return self.steps[-1].view.lost

    @property
    def saved(self) -> int:
        """Frames outside the range that a split took off the leaves that held some of it."""
        return self.steps[-1].view.saved

    # ---- the story -------------------------------------------------------------------------------------

    def _tell(self) -> int:
        recorder, guest, span = self._recorder, self._guest, range(self.span.start, self.span.end)
        where = self.names.span(*self._edges)
        recorder.act = "touch and accept"
        guest.take(range(self.frames), write=True)
        if self.then == "punch hole":
            recorder.act = "punch a hole"
            self._say(KVM, _FALLOCATE, f"Userspace punches pages {where} out of the guest_memfd.")
            result = self._refusing(self._punch)
            recorder.act = "use"
            self._say(GUEST, "goes on", "The guest goes on with its frames around the hole.")
            self._use_private()
            recorder.act = "touch the hole"
            guest.take(span)
            return result
        recorder.act = "convert"
        self._say(GUEST, "map_gpa", f"The guest asks for {where} to be shared; userspace calls {_IOCTL}.")
        result = self._refusing(self._convert)
        recorder.act = "use"
        what = (
            f"uses {where} with the S-bit, and its own frames around it"
            if result == 0
            else "finds its frames"
        )
        self._say(GUEST, "goes on", f"The guest goes on: it {what}.")
        if result == 0:
            guest.use_shared(span)
        self._use_private()
        if result == 0:
            recorder.act = "convert back"
            self._say(
                GUEST, "map_gpa", f"The guest asks for {where} to be private again; userspace calls {_IOCTL}."
            )
            self._convert("private")
            guest.take(span)
        else:
            recorder.act = "call again"
            self._say(KVM, _IOCTL, f"Userspace calls again for {where}; this time no page is refused.")
            if self._convert() == 0:
                guest.use_shared(span)
        return result

    @property
    def _edges(self) -> tuple[int, int]:
        return self.span.start, self.span.end

    def _refusing(self, call: Callable[[], int]) -> int:
        """`call`, while the host refuses the page it is told to."""
        pages = self.td.tdx.pages
        before = len(pages.requests)
        self.td.refuse(self.refuse)
        result = call()
        self.requests = len(pages.requests) - before
        self.td.refuse(0)
        return result

    def _convert(self, to: str = "shared") -> int:
        self._recorder.lock_function = "kvm_handle_gfn_range"
        result = self.td.convert(*self._edges, to, self.split)
        self._returned(_IOCTL, result, still_private=to == "shared")
        return result

    def _punch(self) -> int:
        self._recorder.lock_function = "kvm_gmem_punch_hole"
        result = self.td.punch_hole(self.span.start, self.span.pages, split=self.split)
        self._returned(_FALLOCATE, result, still_private=False)
        return result

    def _returned(self, call: str, ret: int, *, still_private: bool) -> None:
        self._recorder.close()
        self._recorder.lock_function = "tdx_honor_guest_accept_level"
        said = f"{call} returns {name_errno(ret)}."
        if ret:
            said += " Nothing was zapped, and no attribute changed."
            if self.then == "punch hole" and not self.requests:
                said = f"{said[:-1]}: a hole has to be of whole folios."
        elif still_private and any(self.span.overlap(run.gfn, run.pages) for run in self._sept):
            said += (
                " But nothing was zapped: the errno of the split was lost, and the private pages stay mapped."
            )
        self._say(KVM, f"returns {ret}", said)

    def _use_private(self) -> None:
        """The guest goes back to what is private in the blocks that hold some of the range."""
        block = self.geometry.pages(PG_LEVEL_2M)
        low, high = self.span.start // block * block, min(-(-self.span.end // block) * block, self.frames)
        hole = self.then == "punch hole"
        for part in self.td.kvm.mem_attributes.ranges():
            pieces = self.span.outside(part.start, part.pages) if hole else [part]
            for piece in pieces:
                frames = range(max(piece.start, low), min(piece.end, high))
                if frames:
                    self._guest.take(frames)

    @property
    def _sept(self) -> tuple[Run, ...]:
        return self.steps[-1].view.sept

    def _say(self, actor: str, title: str, sentence: str) -> None:
        self._recorder.notice()
        self._recorder.say(Said(actor, title, sentence))
