"""A TD with all that stands behind it: KVM, the TDX module, a guest_memfd, one vCPU, and bytes to look at.

Each method of :class:`Td` is one act of the guest or its VMM, one call of the engine; `calls` and `events`
say what happened on the way. Notebooks 04 and 05 work with it.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import groupby
from typing import Any, NamedTuple, SupportsIndex

from tdpkit.engine.conversion import KVM_MEMORY_ATTRIBUTE_PRIVATE, kvm_vm_set_mem_attributes
from tdpkit.engine.events import Coroutine, Event, Visit, run
from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    GfnRange,
    InvalidValueError,
    as_integer,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.guest_memfd import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    GuestMemfd,
    kvm_gmem_error_folio,
    kvm_gmem_fallocate,
    kvm_gmem_set_attributes,
)
from tdpkit.engine.kvm import KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import ACCEPT_SPLITS, SPLITS, RangeSplit
from tdpkit.engine.tree import translate
from tdpkit.tdx.abi import TDX_SUCCESS, Access, Call
from tdpkit.tdx.guest import td_accept, td_access
from tdpkit.tdx.kvm_tdx import HostPages, KvmTdx, TdxWorld
from tdpkit.tdx.module import SeptState, TdxModule, sept_state

from .layouts import TOY
from .words import known_name

FIRST_BYTE = 0x10
SHARED_BYTE = 0xA0
"""The bytes of frame 0 at first: private, and in userspace's own memory; frame 1 has the next, and so on."""

_SHOWN_FRAMES = 64
_ATTRIBUTES = {"shared": 0, "private": KVM_MEMORY_ATTRIBUTE_PRIVATE}


def _range_split(name: str) -> RangeSplit:
    return SPLITS[known_name(name, SPLITS, "a split")]


def bytes_of(pages: GfnRange) -> tuple[int, int]:
    """Offset and size in bytes of these pages, as ioctls and fallocate() take them."""
    return pages.start << PAGE_SHIFT, pages.pages << PAGE_SHIFT


class PageRun(NamedTuple):
    """Frames side by side in one state, under leaves of one level (0: nothing is mapped)."""

    gfn: int
    pages: int
    half: str
    """"private" or "shared": what the attributes say."""
    state: SeptState
    """Of the S-EPT entry; FREE where nothing private is mapped."""
    level: int


class _TdWorld(TdxWorld):
    """Keeps every event except visits."""

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__(tdx)
        self.events: list[Event] = []

    def answer(self, event: Event) -> Any:
        if not isinstance(event, Visit):
            self.events.append(event)
        return super().answer(event)


class Td:
    """A TD of `frames` frames, all private and, unless `accepted` is False, accepted and written to.

    accept_level: the guest accepts its memory at this level, or lower where KVM mapped smaller pages;
    folio_level, spans_folios: see GuestMemfd; leaf_level: the largest leaf that KVM maps, above 2M a what-if
    (S3); series: see Kvm; pamt: see KvmTdx; the other arguments are the module's. Each frame of a small TD
    has a visible byte: FIRST_BYTE + gfn in private memory, SHARED_BYTE + gfn in userspace's memory behind the
    shared half. Raises InvalidValueError unless `frames` is a multiple of the folios' size and fits the
    private half.
    """

    def __init__(
        self,
        geometry: Geometry = TOY,
        frames: int = 32,
        *,
        accepted: bool = True,
        accept_level: int = PG_LEVEL_2M,
        folio_level: int = PG_LEVEL_2M,
        spans_folios: bool = False,
        leaf_level: int = PG_LEVEL_2M,
        series: str = "v3",
        pamt: str = "v3",
        dynamic_pamt: bool = False,
        sept_ve_disable: bool = False,
    ) -> None:
        self.geometry = geometry
        self.frames = frames = check_gfn(frames, "a number of frames")
        block = geometry.level(max(PG_LEVEL_2M, folio_level)).pages
        largest = geometry.level(accept_level).number
        base = -(-frames // block) * block
        self.gmem = GuestMemfd(geometry, frames, base, folio_level=folio_level, spans_folios=spans_folios)
        slot = KvmMemorySlot(0, frames, host_pfn=2 * base, gmem=self.gmem)
        self.kvm = Kvm(KVM_X86_TDX_VM, geometry, memslots=[slot], td_leaf_level=leaf_level, series=series)
        self.gmem.bind(self.kvm)
        self.memory: dict[int, int] = {}
        """Host frame -> its byte, where the TD is small enough to show them."""
        self.module = TdxModule(
            geometry,
            max_level=leaf_level,
            gfn_direct_bits=self.kvm.gfn_direct_bits,
            memory=self.memory,
            dynamic_pamt=dynamic_pamt,
            sept_ve_disable=sept_ve_disable,
        )
        self.tdx = KvmTdx(self.kvm, self.module, pages=HostPages(4 * base), pamt=pamt)
        self.world = _TdWorld(self.tdx)
        self.vcpu = 0
        self.own: set[int] = set()
        """Private frames that the guest has accepted and nobody has asked back: it counts on them."""
        self.run(kvm_vm_set_mem_attributes(self.kvm, 0, frames, KVM_MEMORY_ATTRIBUTE_PRIVATE))
        self.module.vp_enter(self.vcpu)
        if frames <= _SHOWN_FRAMES:
            self.memory |= {2 * base + gfn: (SHARED_BYTE + gfn) & 0xFF for gfn in range(frames)}
            self.memory |= {base + gfn: 0 for gfn in range(frames)}
        if accepted:
            self._accept_all(largest)
            if frames <= _SHOWN_FRAMES:
                self.memory |= {base + gfn: (FIRST_BYTE + gfn) & 0xFF for gfn in range(frames)}
        self.forget()

    def __repr__(self) -> str:
        return f"<TD of {self.frames} frames, {len(self.accepted())} accepted>"

    def _accept_all(self, largest: int) -> None:
        """As Linux does: if the module refuses a size, try the next smaller one."""
        gfn = 0
        while gfn < self.frames:
            fitting = (level for level in range(largest, 0, -1) if not gfn % self.geometry.pages(level))
            gfn += next(self.geometry.pages(level) for level in fitting if self.accept(gfn, level) == 0)

    def run(self, coroutine: Coroutine[Any]) -> Any:
        """Run a call of the engine in this TD's world."""
        return run(coroutine, self.world)

    def forget(self) -> None:
        """Clear the logs of calls and events."""
        self.module.log.clear()
        self.world.events.clear()

    @property
    def calls(self) -> list[Call]:
        """SEAMCALLs and TDCALLs since the log began."""
        return self.module.log

    @property
    def events(self) -> list[Event]:
        """Events of the kernel functions since the log began, except visits."""
        return self.world.events

    def refuse(self, k: int) -> None:
        """Refuse the k-th request for host memory from now on (k from 1; 0: refuse none)."""
        pages = self.tdx.pages
        at = len(pages.requests) + k if check_gfn(k, "a number of a request") else 0
        pages.refuse = lambda number, what: number == at

    # ---- the guest and its VMM -------------------------------------------------------------------------

    def touch(self, gfn: SupportsIndex) -> Access | int:
        """The guest touches frame `gfn` as private memory: "ok", "#VE" (added, PENDING), or KVM's errno.

        After an errno the vCPU is outside; before the next call userspace calls KVM_RUN.
        Raises InvalidValueError for a frame beyond the TD's, or if the TD is no longer running.
        """
        frame = self._frame(gfn)
        self._kvm_run()
        got: Access | int = self.run(td_access(self.tdx, self.vcpu, frame))
        return got

    def accept(self, gfn: SupportsIndex, level: int = PG_LEVEL_4K, split: str = "mirror roots") -> int | None:
        """The guest accepts the page of `level` at `gfn`: a status, KVM's errno, or None: it faults for ever.

        split: a name in ACCEPT_SPLITS. Raises InvalidValueError for another name and as :meth:`touch` does.
        """
        how, frame = ACCEPT_SPLITS[known_name(split, ACCEPT_SPLITS, "a split")], self._frame(gfn)
        self._kvm_run()
        got: int | None = self.run(td_accept(self.tdx, self.vcpu, frame, level, split=how))
        if got == TDX_SUCCESS:
            self.own |= {*range(frame, frame + self.geometry.pages(level))}
        return got

    def read(self, gfn: SupportsIndex) -> int | None:
        """The byte the guest reads at `gfn`, in the half that the attributes say; None if it reads none.

        A read faults a shared frame in; of a private one it only adds a page (see :meth:`touch`).
        """
        frame = self._frame(gfn)
        if frame in self.kvm.mem_attributes:
            got = self.touch(frame)
            return self.memory.get(got.pfn) if isinstance(got, Access) and got.pfn is not None else None
        self.run(kvm_tdp_mmu_page_fault(self.kvm, frame, is_private=False))
        leaf = translate(self.kvm.direct_root, frame)
        return self.memory.get(leaf.pfn + frame - leaf.gfn) if leaf else None

    def convert(
        self, start: int, end: int, to: str = "shared", split: str = "v3", *, as_posted: bool = False
    ) -> int:
        """KVM_SET_MEMORY_ATTRIBUTES on frames [start, end): 0 or a negative errno.

        to: "shared" or "private"; split: a name in SPLITS; as_posted: an errno leaves the invalidation open,
        as in v3 15/24. Raises InvalidValueError for another name and for a range that the TD does not have.
        """
        half, how = _ATTRIBUTES[known_name(to, _ATTRIBUTES, "a half")], _range_split(split)
        ret: int = self.run(
            kvm_vm_set_mem_attributes(self.kvm, start, end, half, split=how, as_posted=as_posted)
        )
        if ret == 0:
            self.own -= {*range(start, end)}
        return ret

    def convert_by_file(self, start: int, end: int, to: str = "shared", split: str = "v3") -> int:
        """KVM_SET_MEMORY_ATTRIBUTES2 on file pages [start, end), which are the frames of these numbers.

        Returns 0, a negative errno, or v3's 1; to and split as in :meth:`convert`.
        """
        half, how = _ATTRIBUTES[known_name(to, _ATTRIBUTES, "a half")], _range_split(split)
        offset, size = bytes_of(GfnRange(start, end))
        ret: int = self.run(kvm_gmem_set_attributes(self.gmem, offset, size, half, split=how))
        if ret == 0:
            self.own -= {*range(start, end)}
        return ret

    def punch_hole(self, start: int, pages: int, *, whole_folios: bool = True, split: str = "none") -> int:
        """fallocate(PUNCH_HOLE) on `pages` file pages from `start` on: 0, a negative errno, or v3's 1.

        whole_folios: upstream's agreement for hugetlb and THP, or, if False, the rule of Linux 6.16 (S127).
        """
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        how = _range_split(split)
        first, count = as_integer(start, "a page of the file"), as_integer(pages, "a number of pages")
        ret: int = self.run(
            kvm_gmem_fallocate(
                self.gmem,
                mode,
                first << PAGE_SHIFT,
                count << PAGE_SHIFT,
                whole_folios=whole_folios,
                split=how,
            )
        )
        if ret == 0:
            self.own -= {*range(first, first + count)}
        return ret

    def memory_failure(self, page: int, *, split: str = "none") -> int:
        """The host finds file page `page` broken; its folio is zapped."""
        ret: int = self.run(kvm_gmem_error_folio(self.gmem, page, split=_range_split(split)))
        self.own.discard(page)
        return ret

    # ---- looking ---------------------------------------------------------------------------------------

    def state(self, gfn: SupportsIndex) -> tuple[SeptState, int]:
        """State and level of the S-EPT's leaf that holds `gfn`; (FREE, 0) where there is none."""
        leaf = translate(self.module.sept, self._frame(gfn))
        return (sept_state(leaf.spte), leaf.level) if leaf else (SeptState.FREE, 0)

    def accepted(self) -> set[int]:
        """The private frames that the guest can use now."""
        return {gfn for gfn in range(self.frames) if self.state(gfn)[0] == SeptState.PRESENT}

    def page_runs(self) -> list[PageRun]:
        """All frames of the TD in runs: neighbours of one half, state and level."""

        def key(gfn: int) -> tuple[str, SeptState, int]:
            half = "private" if gfn in self.kvm.mem_attributes else "shared"
            return half, *self.state(gfn)

        runs = []
        for (half, state, level), gfns in groupby(range(self.frames), key):
            frames = list(gfns)
            runs.append(PageRun(frames[0], len(frames), half, state, level))
        return runs

    def bytes_in_sight(self) -> str:
        """The private bytes that the guest reads without a fault, in hex; ``--`` for other frames.

        Raises InvalidValueError for a TD too large to keep bytes.
        """
        if self.frames > _SHOWN_FRAMES:
            raise InvalidValueError(
                f"bytes are kept of a TD of {_SHOWN_FRAMES} frames at most; this one has {self.frames}"
            )
        sight = []
        for gfn in range(self.frames):
            leaf = translate(self.module.sept, gfn)
            seen = leaf and sept_state(leaf.spte) == SeptState.PRESENT
            sight.append(f"{self.memory[leaf.pfn + gfn - leaf.gfn]:02x}" if leaf and seen else "--")
        return " ".join(sight)

    def lost(self, before: set[int], span: Container[int]) -> list[int]:
        """Frames of `before` (see :meth:`accepted`) outside `span` that the guest can no longer use."""
        return sorted(gfn for gfn in before - self.accepted() if gfn not in span)

    def _kvm_run(self) -> None:
        """Userspace calls KVM_RUN: the vCPU enters, unless the TD is over."""
        over = self.tdx.dead or self.module.torn_down
        if not over and self.vcpu not in self.module.vcpus_inside:
            self.module.vp_enter(self.vcpu)

    def _frame(self, gfn: SupportsIndex) -> int:
        frame = check_gfn(gfn)
        if frame >= self.frames:
            raise InvalidValueError(
                f"this TD ends at {name_gfn(self.frames)}; frame {name_gfn(frame)} is beyond it"
            )
        return frame
