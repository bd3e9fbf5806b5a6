"""One VM: its kind, memory slots and roots, and its record of each frame.

A range carries no shared bit; a filter selects the half of a TD (`roots`). Operations on a range are in
`mmu`, page faults in `page_fault`, the TDX side in `tdx`. mmu_lock is no object here: a coroutine announces
by an event that it takes or drops the lock, and a world that schedules keeps the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from .gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    FrameSet,
    Geometry,
    GfnRange,
    InvalidValueError,
    as_integer,
    check_gfn,
    name_gfn,
)
from .pool import PageTablePool
from .tree import TdpMmuRoot

KVM_X86_DEFAULT_VM = 0
KVM_X86_SW_PROTECTED_VM = 1
KVM_X86_TDX_VM = 5
VM_TYPE_NAMES = {
    KVM_X86_DEFAULT_VM: "plain VM",
    KVM_X86_SW_PROTECTED_VM: "software-protected VM",
    KVM_X86_TDX_VM: "TD",
}
"""A software-protected VM has private frames, and no hardware that protects them (S265)."""

KVM_INVALID_ROOTS = 1 << 0
KVM_DIRECT_ROOTS = 1 << 1
KVM_MIRROR_ROOTS = 1 << 2
KVM_VALID_ROOTS = KVM_DIRECT_ROOTS | KVM_MIRROR_ROOTS
KVM_ALL_ROOTS = KVM_VALID_ROOTS | KVM_INVALID_ROOTS
"""enum kvm_tdp_mmu_root_types (S42)."""

KVM_FILTER_SHARED = 1 << 0
KVM_FILTER_PRIVATE = 1 << 1
"""enum kvm_gfn_range_filter (S44)."""

TDX_SERIES = ("v3", "RFC v5")
"""What becomes of a private leaf that is split under the read lock: in v3 the hook refuses it (v3 09/24); RFC
v5 06 has a KVM_BUG_ON before any hook (S140)."""


class GmemFile(Protocol):
    """The file behind a slot's private half, as far as a page fault uses it."""

    def get_pfn(self, index: int) -> tuple[int, int]:
        """Return the host frame of page `index` and the largest level of a mapping there, or (-errno, 0)."""


@dataclass(frozen=True)
class KvmMemorySlot:
    """A range of guest frames that userspace backs: first frame, number of frames, address space.

    host_pfn: the first host frame of userspace's own memory, or None; that memory consists of pages of
    host_level and backs a plain VM, or the shared half of a TD. gmem: the guest_memfd that backs the private
    half, from its page gmem_pgoff on (S190). Raises InvalidTypeError or InvalidValueError for a
    number that is no integer or negative, and for a host_level below 1.
    """

    base_gfn: int
    npages: int
    as_id: int = 0
    host_pfn: int | None = None
    host_level: int = PG_LEVEL_4K
    gmem: GmemFile | None = None
    gmem_pgoff: int = 0

    def __post_init__(self) -> None:
        for name in ("base_gfn", "npages", "as_id", "host_pfn", "host_level", "gmem_pgoff"):
            value = getattr(self, name)
            if value is not None or name != "host_pfn":
                object.__setattr__(self, name, check_gfn(value, f"a slot's {name}"))
        if self.host_level < PG_LEVEL_4K:
            raise InvalidValueError(
                f"a slot's host_level is at least {PG_LEVEL_4K}; {self.host_level} is not"
            )

    def __contains__(self, gfn: int) -> bool:
        return self.base_gfn <= gfn < self.base_gfn + self.npages


@dataclass(frozen=True)
class KvmGfnRange:
    """struct kvm_gfn_range: frames [start, end) of `slot`, the halves selected, whether the call may sleep.

    Raises InvalidTypeError or InvalidValueError for a negative, reversed or non-integer range.
    """

    slot: KvmMemorySlot
    start: int
    end: int
    attr_filter: int = KVM_FILTER_SHARED | KVM_FILTER_PRIVATE
    may_block: bool = True

    def __post_init__(self) -> None:
        span = GfnRange(self.start, self.end)
        object.__setattr__(self, "start", span.start)
        object.__setattr__(self, "end", span.end)


class Held:
    """A lock that the model only asserts. Hold it with ``with``; holds may nest."""

    def __init__(self) -> None:
        self._times = 0

    def __bool__(self) -> bool:
        return self._times > 0

    def __enter__(self) -> Held:
        self._times += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._times -= 1


class Kvm:
    """struct kvm, as far as its page tables are concerned.

    vm_type: of VM_TYPE_NAMES; gfn_direct_bits: the shared bit as a frame mask (by default
    bit 47 or 51 of the address, by the TD's root level; for a toy the topmost index bit of the root).
    memslots: one over all frames if None. tdp_mmu_enabled: False for a VM under the shadow MMU, for which the
    model does nothing. td_leaf_level: the level of a TD's largest leaf; the series stops at 2M, and a TD with
    larger ones is a what-if (S3). series: of TDX_SERIES. All roots have their rows in `pool`. All frames
    start shared, as in KVM. Raises InvalidValueError for an unknown kind, a pool of another geometry, a
    shared bit that is no bit of the root's index, a level below 1, an unknown series, and slots that overlap
    or reach beyond the VM's frames.
    """

    def __init__(
        self,
        vm_type: int,
        geometry: Geometry,
        *,
        pool: PageTablePool | None = None,
        gfn_direct_bits: int | None = None,
        memslots: Sequence[KvmMemorySlot] | None = None,
        tdp_mmu_enabled: bool = True,
        td_leaf_level: int = PG_LEVEL_2M,
        series: str = "v3",
    ) -> None:
        if vm_type not in VM_TYPE_NAMES:
            *known, last = (f"{number} ({name})" for number, name in VM_TYPE_NAMES.items())
            raise InvalidValueError(f"a VM is of type {', '.join(known)} or {last}; {vm_type!r} is none")
        self.vm_type = vm_type
        self.geometry = geometry
        self.tdp_mmu_enabled = tdp_mmu_enabled
        if series not in TDX_SERIES:
            raise InvalidValueError(f"a series is {' or '.join(TDX_SERIES)}; {series!r} is neither")
        self.series = series
        self.td_leaf_level = as_integer(td_leaf_level, "a level")
        if self.td_leaf_level < PG_LEVEL_4K:
            raise InvalidValueError(f"the largest leaf is of level 1 (4K) or above; {td_leaf_level} is not")
        self.pool = pool or PageTablePool(geometry)
        if self.pool.geometry != geometry:
            raise InvalidValueError(
                f"a VM's pool has its geometry, {geometry}; this one has {self.pool.geometry}"
            )
        self.gfn_direct_bits = 0
        if self.has_mirrored_tdp:
            self.gfn_direct_bits = geometry.shared_bit(gfn_direct_bits)
        elif gfn_direct_bits:
            raise InvalidValueError(
                f"only a TD has a shared bit; {gfn_direct_bits:#x} is set in a {self.kind}"
            )
        self.memslots = self._checked_slots(memslots)
        self.mem_attributes = FrameSet()
        """The private frames (kvm->mem_attr_array; PRIVATE is its only attribute)."""
        self.disallow_lpage: dict[tuple[int, int], int] = {}
        """lpage_info: flags by (level, first frame of the block), for blocks that have any."""
        self.page_caches: dict[bool, list[int]] = {False: [], True: []}
        """Rows that a vCPU keeps for its next fault; True: for a mirror root."""
        self.slots_lock = Held()
        self.srcu = Held()
        self.mmu_invalidate_in_progress = 0
        self.mmu_invalidate_seq = 0
        self.mmu_invalidate_range: GfnRange | None = None
        self.tdp_mmu_roots: list[TdpMmuRoot] = []
        # The mirror root comes first, as in mmu_alloc_direct_roots; so the direct root heads the list.
        self.mirror_root = kvm_tdp_mmu_alloc_root(self, is_mirror=True) if self.has_mirrored_tdp else None
        """The vCPUs' mirror_root_hpa."""
        self.direct_root = kvm_tdp_mmu_alloc_root(self, is_mirror=False)
        """The vCPUs' root.hpa."""

    def _checked_slots(self, memslots: Sequence[KvmMemorySlot] | None) -> list[KvmMemorySlot]:
        if memslots is None:
            return [KvmMemorySlot(0, self.max_gfn_exclusive)]
        last: dict[int, int] = {}
        for slot in sorted(memslots, key=lambda slot: (slot.as_id, slot.base_gfn)):
            end = slot.base_gfn + slot.npages
            if slot.npages < 1 or slot.base_gfn < last.get(slot.as_id, 0) or end > self.max_gfn_exclusive:
                raise InvalidValueError(
                    f"slots hold frames below {name_gfn(self.max_gfn_exclusive)} and do not overlap; "
                    f"the one of {slot.npages} frames at {name_gfn(slot.base_gfn)} breaks that"
                )
            last[slot.as_id] = end
        return list(memslots)

    @property
    def has_mirrored_tdp(self) -> bool:
        """kvm_has_mirrored_tdp: the VM is a TD."""
        return self.vm_type == KVM_X86_TDX_VM

    @property
    def has_private_mem(self) -> bool:
        """kvm_arch_has_private_mem: a frame can be private or shared."""
        return self.vm_type != KVM_X86_DEFAULT_VM

    @property
    def private_root(self) -> TdpMmuRoot | None:
        """The root that maps private frames: a TD's mirror; a software-protected VM has one root for both."""
        return self.direct_root if self.vm_type == KVM_X86_SW_PROTECTED_VM else self.mirror_root

    @property
    def kind(self) -> str:
        """``plain VM``, ``software-protected VM``, ``TD``."""
        return VM_TYPE_NAMES[self.vm_type]

    @property
    def max_gfn_exclusive(self) -> int:
        """The first frame beyond this VM: the shared bit of a TD, else the root's end."""
        return self.gfn_direct_bits or self.geometry.root_pages

    @property
    def max_leaf_level(self) -> int:
        """The level of this VM's largest leaf."""
        largest = self.geometry.max_leaf_level
        return min(largest, self.td_leaf_level) if self.has_mirrored_tdp else largest

    @property
    def slot(self) -> KvmMemorySlot:
        """The first slot, which is the only one unless the VM was built with slots."""
        return self.memslots[0]

    def slot_of(self, gfn: int, as_id: int = 0) -> KvmMemorySlot | None:
        """The slot that holds `gfn`, or None (gfn_to_memslot)."""
        return next((slot for slot in self.memslots if slot.as_id == as_id and gfn in slot), None)


# ---- roots -------------------------------------------------------------------------------------------------


def kvm_tdp_mmu_alloc_root(kvm: Kvm, *, is_mirror: bool) -> TdpMmuRoot:
    """Get a valid root of this kind for a vCPU: take a reference on the one there is, or allocate one.

    A new root goes to the head of the list and has two references, the vCPU's and the TDP MMU's own, which
    lasts until the root is invalidated. Raises InvalidValueError for a mirror root in a VM without a mirror.
    Source: tdp_mmu.c; S45.
    """
    if is_mirror and not kvm.has_mirrored_tdp:
        raise InvalidValueError("only a TD has a mirror root; this is a " + kvm.kind)
    for root in kvm.tdp_mmu_roots:
        if root.is_mirror == is_mirror and not root.invalid:
            root.tdp_mmu_root_count += 1
            return root
    gfn_bits = 0 if is_mirror else kvm.gfn_direct_bits
    bug = is_mirror and kvm.series == "RFC v5"
    root = TdpMmuRoot(kvm.pool, gfn_bits=gfn_bits, is_mirror=is_mirror, bug_on_present=bug)
    kvm.tdp_mmu_roots.insert(0, root)
    return root


# ---- invalidation ------------------------------------------------------------------------------------------


def kvm_mmu_invalidate_begin(kvm: Kvm, span: GfnRange) -> None:
    """Make faults on `span` retry from now on; the caller holds mmu_lock for write (S212)."""
    kvm.mmu_invalidate_in_progress += 1
    was = kvm.mmu_invalidate_range
    kvm.mmu_invalidate_range = GfnRange(min(was.start, span.start), max(was.end, span.end)) if was else span


def kvm_mmu_invalidate_end(kvm: Kvm) -> None:
    """End the invalidation; a fault that began before its end sees that the sequence count moved."""
    if not kvm.mmu_invalidate_in_progress:
        raise InvalidValueError("an invalidation ends once for each time it began; none is in progress")
    kvm.mmu_invalidate_seq += 1
    kvm.mmu_invalidate_in_progress -= 1
    if not kvm.mmu_invalidate_in_progress:
        kvm.mmu_invalidate_range = None


def mmu_invalidate_retry_gfn(kvm: Kvm, seq: int, gfn: int) -> bool:
    """Whether a fault on `gfn` that read the sequence count `seq` must retry."""
    span = kvm.mmu_invalidate_range
    return bool(span and gfn in span) or kvm.mmu_invalidate_seq != seq
