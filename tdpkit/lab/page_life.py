"""The life of a range of private pages, step by step: accepted, converted, used, converted back.

:class:`PageLife` tells one story on a :class:`~.td.Td` from beginning to end and keeps a step for each thing
that happened. The story is the guest's and its VMM's; what follows from it is the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.events import EHWPOISON, EINVAL, EIO, ENOMEM
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
from tdpkit.engine.range_split import SPLITS
from tdpkit.engine.sept import SeptState
from tdpkit.engine.tdx_abi import TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS, Access
from tdpkit.engine.tree import translate, way_down

from .page_life_record import Recorder, Step, ToldTd
from .page_life_view import Watch
from .page_life_words import GUEST, KVM, Names, Said
from .td import FIRST_BYTE, TD_4LEVEL
from .words import count_of

LIFE_TOY = Geometry(index_bits=3, root_level=3, max_leaf_level=2)


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
    "4K, spanned": Folios(PG_LEVEL_4K, True, "4K folios, a mapping spans many (against the rule)"),
}
"""As x86 has it; on the toy a "2M" folio is eight frames. The last breaks the rule that no mapping is larger
than its folio (kernel-facts 9.6, C17)."""

_VCPUS = (0, 1)
_ERRNOS = {-ENOMEM: "-ENOMEM", -EINVAL: "-EINVAL", -EIO: "-EIO", -EHWPOISON: "-EHWPOISON"}


class PageLife:
    """One story of frames [start, end): `steps`, and `acts`, the first step of each act by its title.

    split: a name of SPLITS, what is done before private pages are zapped; machine: of MACHINES; then: of
    THEN; refuse: the so-manyth page that the conversion asks the host for is refused (0: none); folios: of
    FOLIOS. `result` is what the conversion, or the punch, returned. Raises InvalidValueError or
    InvalidTypeError for an unknown name, an empty range or one beyond the TD.
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
        if machine == "x86" and folios == "4K":
            raise InvalidValueError(
                "on x86 the guest takes memory by 2M; with folios of 4K it would take 2048 (0x800, 8M) pages one "
                "by one, which the toy shows in 32"
            )
        geometry, frames, _ = MACHINES[machine]
        self.span = GfnRange(check_gfn(start, "the start"), check_gfn(end, "the end"))
        if not self.span.pages or self.span.end > frames:
            raise InvalidValueError(
                f"a story has a range of at least one frame, below {name_gfn(frames)}; {self.span!r} is none"
            )
        self.machine, self.split, self.then, self.folios = machine, split, then, folios
        self.refuse = check_gfn(refuse, "the number of a page")
        level, spans, _ = FOLIOS[folios]
        self.td = ToldTd(geometry, frames, accepted=False, folio_level=level, spans_folios=spans)
        for vcpu in _VCPUS[1:]:
            self.td.module.vp_enter(vcpu)
        self.td.forget()
        self.names = Names(geometry, machine == "toy")
        self.watch = Watch(self.td, self.span, _VCPUS)
        self._told = Recorder(self.td, self.watch, self.names)
        self.acts: dict[str, int] = {}
        self._tell()

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
        return self._told.steps

    @property
    def lost(self) -> int:
        """Frames outside the range whose bytes are gone."""
        return self.steps[-1].view.lost

    @property
    def saved(self) -> int:
        """Frames outside the range that were split off the leaves that crossed an edge."""
        return self.steps[-1].view.saved

    # ---- the story -------------------------------------------------------------------------------------

    def _tell(self) -> None:
        span, punch = self.span, self.then == "punch hole"
        self._act("touch and accept")
        self._take_all(range(self.frames), write=True)
        self._act("punch a hole" if punch else "convert")
        self._say(KVM, "KVM_SET_MEMORY_ATTRIBUTES" if not punch else "fallocate(PUNCH_HOLE)", self._asked())
        self.requests_before = len(self.td.tdx.pages.requests)
        self.td.refuse(self.refuse)
        if punch:
            self.result = self.td.punch_hole(span.start, span.pages, whole_folios=True, split=self.split)
        else:
            self.result = self.td.convert(span.start, span.end, "shared", self.split)
        self.requests = len(self.td.tdx.pages.requests) - self.requests_before
        self.td.refuse(0)
        self._returned(self.result)
        self._act("use")
        if not punch and self.result == 0:
            self._use_shared()
        self._use_private()
        if punch:
            self._act("touch the hole")
            self._take_all(range(span.start, span.end))
        elif self.result == 0:
            self._act("convert back")
            self._say(
                KVM, "KVM_SET_MEMORY_ATTRIBUTES", f"Userspace asks for {self._where} to be private again."
            )
            self._returned(self.td.convert(span.start, span.end, "private", self.split))
            self._take_all(range(span.start, span.end))
        else:
            self._act("call again")
            self._say(
                KVM,
                "KVM_SET_MEMORY_ATTRIBUTES",
                f"Userspace calls again: {self._where} to shared; this time no page is refused.",
            )
            self._returned(self.td.convert(span.start, span.end, "shared", self.split))
            self._use_shared()

    @property
    def _where(self) -> str:
        return self.names.span(self.span.start, self.span.end)

    def _act(self, title: str) -> None:
        self._told.act = title
        self.acts[title] = len(self.steps)

    def _say(
        self,
        actor: str,
        title: str,
        sentence: str,
        *,
        function: str = "",
        part: str = "",
        focus: tuple[int, int] | None = None,
    ) -> None:
        self._told.notice()
        self._told.say(Said(actor, title, sentence, function, part), focus)

    def _asked(self) -> str:
        if self.then == "punch hole":
            return f"Userspace punches pages {self._where} out of the guest_memfd."
        return f"The guest asked for it, and userspace calls: {self._where} is to be shared."

    def _returned(self, ret: int) -> None:
        self._told.close()
        title = f"returns {_ERRNOS.get(ret, ret)}"
        said = {0: "The call returns 0."}.get(
            ret, f"The call returns {ret} ({_ERRNOS.get(ret, 'no errno')})."
        )
        if ret:
            said += " Nothing was zapped, no attribute changed."
        self._say(KVM, title, said)

    # ---- the guest -------------------------------------------------------------------------------------

    def _each(self, what: str, frames: range, do: Callable[[int], int]) -> None:
        """`do` one piece of work after the other; it says how many frames it did.

        Of single pages, on x86 the first in each 2M block is enough: the guest takes others when it needs them.
        """
        gfn = frames.start
        while gfn < frames.stop:
            kind = self._kind(what, gfn)
            with self._told.unit(
                kind, gfn, gfn + (self._size(gfn, frames.stop) if kind[0] == "accept" else 1)
            ):
                gfn += do(gfn)
            if not self.names.toy and gfn % self.geometry.pages(PG_LEVEL_2M):
                gfn = self.geometry.gfn_round_for_level(gfn, PG_LEVEL_2M) + self.geometry.pages(PG_LEVEL_2M)
        self._told.close()

    def _kind(self, what: str, gfn: int) -> tuple[object, ...]:
        """Work on frames of one kind goes alike."""
        kvm = self.td.kvm
        if what == "read shared":
            leaf = translate(kvm.direct_root, gfn)
            return (what, leaf is not None, len(way_down(kvm.direct_root, gfn)))
        assert kvm.mirror_root is not None
        if self.td.state(gfn)[0] == SeptState.PRESENT:
            return ("read", gfn in self.watch.written)
        return (what, self.td.state(gfn), len(way_down(kvm.mirror_root, gfn)))

    def _size(self, gfn: int, end: int) -> int:
        """Frames that the guest accepts at once: a block, where it means all of it."""
        block = self.geometry.pages(PG_LEVEL_2M)
        return block if gfn % block == 0 and gfn + block <= end and self._fits(gfn) else 1

    def _fits(self, gfn: int) -> bool:
        return FOLIOS[self.folios].level > PG_LEVEL_4K or FOLIOS[self.folios].spans

    def _take_all(self, frames: range, *, write: bool = False) -> None:
        """The guest takes all these private frames: touches, ACCEPTs, and perhaps writes."""
        self._each("accept", frames, lambda gfn: self._take(gfn, frames.stop, write))

    def _take(self, gfn: int, end: int, write: bool) -> int:
        pages = self._size(gfn, end)
        if not self._touch(gfn):
            return 1
        level = PG_LEVEL_2M if pages > 1 else PG_LEVEL_4K
        self._told.at = gfn
        status = self.td.accept(gfn, level)
        if status == TDX_PAGE_SIZE_MISMATCH:
            pages = 1
            status = self.td.accept(gfn, PG_LEVEL_4K)
        if write and status == TDX_SUCCESS:
            self._write(gfn, pages)
        return pages

    def _touch(self, gfn: int) -> bool:
        """True if the guest must ACCEPT."""
        self._told.at = gfn
        self._told.fault_is_private = True
        got = self.td.touch(gfn)
        name, focus = self.names.frame(gfn), (gfn, gfn + 1)
        if not isinstance(got, Access):
            self._say(
                KVM, f"returns {_ERRNOS.get(got, got)}", f"KVM cannot serve frame {name}: {got}.", focus=focus
            )
            return False
        if got.outcome == "#VE":
            self._say(
                GUEST,
                "#VE",
                f"#VE: frame {name} is PENDING. The guest is told, and must ACCEPT before it may use it.",
                focus=focus,
            )
            return True
        self._told.notice()
        own = gfn in self.watch.written
        what = "its own bytes, as it left them" if own else "zeros"
        self._say(GUEST, "read", f"The guest reads frame {name}: {what}.", part="finds", focus=focus)
        return False

    def _write(self, gfn: int, pages: int) -> None:
        first = self.td.gmem.first_pfn
        if self.td.memory:
            self.td.memory.update({first + at: (FIRST_BYTE + at) & 0xFF for at in range(gfn, gfn + pages)})
        self.watch.written.store(GfnRange(gfn, gfn + pages), True)
        self.watch.stale.add("bytes")
        what = (
            f"frames {self.names.span(gfn, gfn + pages)}" if pages > 1 else f"frame {self.names.frame(gfn)}"
        )
        self._say(
            GUEST,
            "write",
            f"The guest writes to {what}: these are its bytes from now on.",
            part="finds",
            focus=(gfn, gfn + pages),
        )

    def _use_shared(self) -> None:
        self._each("read shared", range(self.span.start, self.span.end), self._read_shared)

    def _read_shared(self, gfn: int) -> int:
        td, told, name = self.td, self._told, self.names.frame(gfn)
        told.at, told.fault_is_private = gfn, False
        if translate(td.kvm.direct_root, gfn) is None:
            self._say(
                GUEST,
                "EPT violation",
                f"The guest uses frame {name} with the S-bit. The direct tree has nothing there: an exit to KVM.",
                focus=(gfn, gfn + 1),
                function="tdx_handle_ept_violation",
            )
            td.run(kvm_tdp_mmu_page_fault(td.kvm, gfn, is_private=False))
        sentence = f"The guest reads frame {name} with the S-bit: userspace’s byte. Both can use it."
        self._say(GUEST, "read shared", sentence, part="finds", focus=(gfn, gfn + 1))
        return 1

    def _use_private(self) -> None:
        """The guest goes back to its frames in the leaves that crossed an edge; and into the range, if that is still private."""
        block = self.geometry.pages(PG_LEVEL_2M)
        low = self.span.start // block * block
        high = min(-(-self.span.end // block) * block, self.frames)
        for part in self._private_parts(low, high):
            self._take_all(part)

    def _private_parts(self, low: int, high: int) -> Iterator[range]:
        for part in self.td.kvm.mem_attributes.private_ranges():
            if max(part.start, low) < min(part.end, high):
                yield range(max(part.start, low), min(part.end, high))
