"""The life of a range of private pages, step by step: accepted, converted, used, converted back.

:class:`PageLife` plays one story on a :class:`~.td.Td` from beginning to end, records it, and folds the
record into a step for each thing that happened. What the guest and its VMM do is the story's; what follows
from it is the engine's.

The guest touches before it accepts, and lives: it runs without SEPT_VE_DISABLE, on which a Linux guest
insists (S171). Left out: the shared half's TLB, and on x86 what the guest does with all pages but the first
in each 2M. Without Dynamic PAMT no split needs a top-up.
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
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import SPLITS
from tdpkit.engine.tree import translate, way_down
from tdpkit.tdx.abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Access
from tdpkit.tdx.module import SeptState

from ..layouts import LIFE_TOY, TD_4LEVEL
from ..td import FIRST_BYTE
from ..words import Names, count_of, known_name
from .fold import LifeStep, fold
from .record import Act, Deed, RecordedTd, Recorder, Work


class LifeMachine(NamedTuple):
    """A TD to tell of."""

    geometry: Geometry
    frames: int
    title: str


MACHINES = {
    "toy": LifeMachine(LIFE_TOY, 32, "toy of 32 frames, leaves of eight"),
    "x86": LifeMachine(TD_4LEVEL, 4 * TD_4LEVEL.pages(PG_LEVEL_2M), "x86, four leaves of 2M"),
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
    "4K, spanned": Folios(PG_LEVEL_4K, True, "spanned 4K folios"),
}
"""As x86 has it; on the toy a "2M" folio is eight frames. The last breaks the rule that no mapping is larger
than its folio (S195, S128)."""

_VCPUS = (0, 1)


class PageLife:
    """One story of frames [start, end), in `steps`.

    split: a name of SPLITS, what is done before private pages are zapped; machine: of MACHINES; then: of
    THEN; refuse: the so-manyth page that the conversion, or the punch, asks the host for is refused (0:
    none); folios: of FOLIOS. `result` is what that call returned, `requests` how many pages it asked for;
    `facts` is the record that `steps` are folded from. Raises InvalidValueError or InvalidTypeError for an
    unknown name, an empty range or one beyond the TD, and for folios of 4K on x86, which the guest would take
    one by one.
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
        self.machine = known_name(machine, MACHINES, "a machine")
        self.split = known_name(split, SPLITS, "a way to split")
        self.then = known_name(then, THEN, "what becomes of the range")
        self.folios = known_name(folios, FOLIOS, "a size of folios")
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
        self.refuse = check_gfn(refuse, "the number of a page")
        level, spans, _ = FOLIOS[folios]
        self.td = RecordedTd(geometry, frames, accepted=False, folio_level=level, spans_folios=spans)
        for vcpu in _VCPUS[1:]:
            self.td.module.vp_enter(vcpu)
        self.names = Names(geometry, machine == "toy")
        self._recorder = Recorder(self.td, every=self.names.toy)
        by_block = level > PG_LEVEL_4K or spans
        self._guest = _Guest(self.td, self._recorder, by_block=by_block, every=machine == "toy")
        self.requests = 0
        self.result = self._play()
        self.facts = self._recorder.facts
        self.steps: list[LifeStep] = fold(self.facts, self.names, self.span, frames)

    def __repr__(self) -> str:
        return (
            f"life of {self.span}: {count_of(len(self.steps), 'step')}, {count_of(self.lost, 'frame')} lost"
        )

    @property
    def geometry(self) -> Geometry:
        """The geometry of the machine that the story is told of."""
        return self.td.geometry

    @property
    def frames(self) -> int:
        """Frames that the TD has."""
        return self.td.frames

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

    def _play(self) -> int:
        recorder, guest, span = self._recorder, self._guest, range(self.span.start, self.span.end)
        everything = 0, self.frames
        recorder.note(
            Act("touch and accept"),
            *recorder.memory(*everything),
            *recorder.memory(*everything, shared=True),
        )
        guest.take(range(self.frames), write=True)
        return self._hole(guest, span) if self.then == "punch hole" else self._conversion(guest, span)

    def _hole(self, guest: _Guest, span: range) -> int:
        self._begin("punch a hole", "punches")
        result = self._refusing(
            lambda: self.td.punch_hole(span.start, len(span), split=self.split), "returns: punch"
        )
        self._begin("use", "goes on around")
        self._use_private()
        self._recorder.note(Act("touch the hole"))
        guest.take(span)
        return result

    def _conversion(self, guest: _Guest, span: range) -> int:
        self._begin("convert", "asks shared")
        result = self._refusing(self._convert, "returns: shared")
        self._begin("use", "goes on as before" if result else "goes on shared")
        if result == 0:
            guest.use_shared(span)
        self._use_private()
        if result == 0:
            self._begin("convert back", "asks private")
            self._deed("returns: private", self._convert("private"))
            guest.take(span)
        else:
            self._begin("call again", "calls again")
            again = self._convert()
            self._deed("returns: shared", again)
            if again == 0:
                guest.use_shared(span)
        return result

    def _begin(self, act: str, deed: str) -> None:
        self._recorder.note(Act(act))
        self._deed(deed)

    def _deed(self, what: str, ret: int = 0) -> None:
        self._recorder.note(Deed(what, self.span.start, self.span.end, ret))

    def _convert(self, to: str = "shared") -> int:
        return self.td.convert(self.span.start, self.span.end, to, self.split)

    def _refusing(self, call: Callable[[], int], deed: str) -> int:
        """`call`, while the host refuses the page it is told to; and what it returns is told."""
        pages = self.td.tdx.pages
        before = len(pages.requests)
        self.td.refuse(self.refuse)
        result = call()
        self.requests = len(pages.requests) - before
        self.td.refuse(0)
        self._deed(deed, result)
        return result

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


class _Guest:
    """Works on frames of `td`, one piece after the other: a page, or a block where it takes 2M at once.

    by_block: KVM may map 2M, so the guest accepts 2M where it means all of it. every: it works on each page;
    else on the first one in each block of 2M, and on others when it needs them.
    """

    def __init__(self, td: RecordedTd, recorder: Recorder, *, by_block: bool, every: bool) -> None:
        self.td, self.recorder = td, recorder
        self.by_block, self.every = by_block, every
        self.block = td.geometry.pages(PG_LEVEL_2M)

    def take(self, frames: range, *, write: bool = False) -> None:
        """Take these frames as private memory: touch, ACCEPT where need be, and perhaps write."""
        gfn = frames.start
        while gfn < frames.stop:
            state, pages = self.td.state(gfn), self._size(gfn, frames.stop)
            if state[0] == SeptState.PRESENT:
                work = Work("read", gfn, gfn + 1)
            else:
                assert self.td.kvm.mirror_root is not None
                like = state, len(way_down(self.td.kvm.mirror_root, gfn))
                work = Work("accept", gfn, gfn + pages, like)
            self.recorder.note(work)
            gfn = self._next(gfn + self._take(gfn, frames.stop, write))

    def use_shared(self, frames: range) -> None:
        """Read these frames with the S-bit."""
        gfn, root = frames.start, self.td.kvm.direct_root
        while gfn < frames.stop:
            mapped = translate(root, gfn) is not None
            self.recorder.note(Work("read shared", gfn, gfn + 1, (mapped, len(way_down(root, gfn)))))
            if not mapped:
                self.td.module.vp_exit(self.td.vcpu)
                self.td.run(kvm_tdp_mmu_page_fault(self.td.kvm, gfn, is_private=False))
                self.td.module.vp_enter(self.td.vcpu)
            self._deed("read shared", gfn)
            gfn = self._next(gfn + 1)

    def _next(self, gfn: int) -> int:
        """The first frame from `gfn` on that it works on."""
        return gfn if self.every else -(-gfn // self.block) * self.block

    def _size(self, gfn: int, end: int) -> int:
        """Frames that it accepts at once."""
        whole = self.by_block and gfn % self.block == 0 and gfn + self.block <= end
        return self.block if whole else 1

    def _take(self, gfn: int, end: int, write: bool) -> int:
        """Touch one piece, accept it if it must be; how many frames that was."""
        if not self._must_accept(gfn):
            return 1
        pages = self._size(gfn, end)
        # It tries the larger size first, as Linux does (which begins at 1G); KVM may have mapped less.
        level = PG_LEVEL_2M if gfn % self.block == 0 and gfn + self.block <= end else PG_LEVEL_4K
        status = self.td.accept(gfn, level)
        if status == TDX_PAGE_SIZE_MISMATCH:
            pages, status = 1, self.td.accept(gfn, PG_LEVEL_4K)
        if write and status == TDX_SUCCESS:
            self._write(gfn, pages)
        return pages

    def _must_accept(self, gfn: int) -> bool:
        """Touch a frame; True if it is PENDING."""
        got = self.td.touch(gfn)
        if not isinstance(got, Access):
            self._deed("errno", gfn, ret=got)
            return False
        self._deed("#VE" if got.outcome == "#VE" else "read", gfn)
        return got.outcome == "#VE"

    def _write(self, gfn: int, pages: int) -> None:
        first, frames = self.td.gmem.first_pfn, range(gfn, gfn + pages)
        if self.td.memory:
            self.td.memory.update({first + frame: (FIRST_BYTE + frame) & 0xFF for frame in frames})
        self._deed("write", gfn, pages)

    def _deed(self, what: str, gfn: int, pages: int = 1, *, ret: int = 0) -> None:
        written = self.recorder.memory(gfn, gfn + pages) if what == "write" else []
        self.recorder.note(Deed(what, gfn, gfn + pages, ret), *written)
