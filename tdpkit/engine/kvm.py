"""One VM: its kind, its roots, and the functions that choose among them.

A plain VM has a direct root, walked by the hardware. A TD has two: the direct root holds the shared half
and is indexed with the shared bit; the mirror root is KVM's copy of the private half and is indexed without
(kernel-facts 1.11, 3.10). Ranges carry no shared bit; a filter says which half is meant.

Left out so far: memslot layout, page faults, the external tables of the TDX module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .events import EOPNOTSUPP, Coroutine, Trace
from .gfn import PAGE_SHIFT, PG_LEVEL_4K, Geometry, GfnRange, InvalidValueError, check_gfn, name_gfn
from .pool import PageTablePool
from .tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from .tree import TdpMmuRoot

KVM_X86_DEFAULT_VM = 0
KVM_X86_TDX_VM = 5
VM_TYPE_NAMES = {KVM_X86_DEFAULT_VM: "plain VM", KVM_X86_TDX_VM: "TD"}

KVM_INVALID_ROOTS = 1 << 0
KVM_DIRECT_ROOTS = 1 << 1
KVM_MIRROR_ROOTS = 1 << 2
KVM_VALID_ROOTS = KVM_DIRECT_ROOTS | KVM_MIRROR_ROOTS
KVM_ALL_ROOTS = KVM_VALID_ROOTS | KVM_INVALID_ROOTS

KVM_FILTER_SHARED = 1 << 0
KVM_FILTER_PRIVATE = 1 << 1

TDX_SHARED_BIT_PWL_4 = 1 << (47 - PAGE_SHIFT)
TDX_SHARED_BIT_PWL_5 = 1 << (51 - PAGE_SHIFT)
"""The shared bit as a GFN mask, by the level of the root (kernel-facts 1.8)."""


@dataclass(frozen=True)
class KvmMemorySlot:
    """A range of guest frames that userspace backs: first frame, number of frames, address space."""

    base_gfn: int
    npages: int
    as_id: int = 0


@dataclass(frozen=True)
class KvmGfnRange:
    """struct kvm_gfn_range: frames [start, end) of `slot`, the halves meant, whether sleeping is allowed.

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


class Kvm:
    """struct kvm, as far as its tables go.

    vm_type: KVM_X86_DEFAULT_VM or KVM_X86_TDX_VM; gfn_direct_bits: the shared bit in frames (a TD's default
    follows its root level: bit 47 or 51; a toy's is the root's topmost index bit). Each root has rows in the
    one `pool`. Raises InvalidValueError for an unknown kind, a pool of another geometry, or a shared bit that
    is no bit of the root's index.
    """

    def __init__(
        self,
        vm_type: int,
        geometry: Geometry,
        *,
        pool: PageTablePool | None = None,
        gfn_direct_bits: int | None = None,
    ) -> None:
        if vm_type not in VM_TYPE_NAMES:
            known = " or ".join(f"{number} ({name})" for number, name in VM_TYPE_NAMES.items())
            raise InvalidValueError(f"a VM is of type {known}; {vm_type!r} is neither")
        self.vm_type = vm_type
        self.geometry = geometry
        self.pool = pool or PageTablePool(geometry)
        if self.pool.geometry != geometry:
            raise InvalidValueError(
                f"a VM's pool has its geometry, {geometry}; this one has {self.pool.geometry}"
            )
        self.gfn_direct_bits = 0
        if self.has_mirrored_tdp:
            default = geometry.root_pages >> 1 if geometry.root_level < 5 else TDX_SHARED_BIT_PWL_5
            self.gfn_direct_bits = self._checked_shared_bit(
                default if gfn_direct_bits is None else check_gfn(gfn_direct_bits, "a shared bit")
            )
        elif gfn_direct_bits:
            raise InvalidValueError(f"only a TD has a shared bit; {gfn_direct_bits:#x} is set in a plain VM")
        self.direct_root = TdpMmuRoot(self.pool, gfn_bits=self.gfn_direct_bits)
        self.mirror_root = TdpMmuRoot(self.pool, is_mirror=True) if self.has_mirrored_tdp else None
        self.tdp_mmu_roots = [root for root in (self.direct_root, self.mirror_root) if root]
        self.slot = KvmMemorySlot(0, self.gfn_direct_bits or geometry.root_pages)

    def _checked_shared_bit(self, bit: int) -> int:
        low, high = self.geometry.pages(self.geometry.root_level), self.geometry.root_pages
        if bit.bit_count() != 1 or not low <= bit < high:
            raise InvalidValueError(
                f"the shared bit is one bit of the root's index, {name_gfn(low)} to {name_gfn(high >> 1)}; "
                f"{name_gfn(bit)} is not"
            )
        return bit

    @property
    def has_mirrored_tdp(self) -> bool:
        """kvm_has_mirrored_tdp: the VM is a TD."""
        return self.vm_type == KVM_X86_TDX_VM


def kvm_gfn_range_filter_to_root_types(kvm: Kvm, attr_filter: int) -> int:
    """Root types that a filter means; a VM without a mirror has one answer whatever the filter.

    0 if a TD's filter names neither half (the kernel WARNs). Source: tdp_mmu.h; kernel-facts 3.6.
    """
    if not kvm.has_mirrored_tdp:
        return KVM_DIRECT_ROOTS
    mirror = KVM_MIRROR_ROOTS if attr_filter & KVM_FILTER_PRIVATE else 0
    direct = KVM_DIRECT_ROOTS if attr_filter & KVM_FILTER_SHARED else 0
    return mirror | direct


def tdp_mmu_root_match(root: TdpMmuRoot, types: int) -> bool:
    """Does `root` belong to `types`? INVALID lets invalid roots in and matches nothing by itself.

    Source: tdp_mmu_root_match, tdp_mmu.c; kernel-facts 3.5.
    """
    if root.invalid and not types & KVM_INVALID_ROOTS:
        return False
    return bool(types & (KVM_MIRROR_ROOTS if root.is_mirror else KVM_DIRECT_ROOTS))


def tdp_mmu_next_root(kvm: Kvm, prev: TdpMmuRoot | None, as_id: int, types: int) -> TdpMmuRoot | None:
    """The next matching root, with a reference taken; the reference on `prev` is dropped.

    Whoever leaves the loop early puts the root it holds (kernel-facts 3.12).
    """
    after = 0 if prev is None else kvm.tdp_mmu_roots.index(prev) + 1
    following: Iterator[TdpMmuRoot] = (
        root for root in kvm.tdp_mmu_roots[after:] if root.as_id == as_id and tdp_mmu_root_match(root, types)
    )
    root = next(following, None)
    if root is not None:
        root.tdp_mmu_root_count += 1
    if prev is not None:
        kvm_tdp_mmu_put_root(prev)
    return root


def kvm_tdp_mmu_put_root(root: TdpMmuRoot) -> None:
    """Drop one reference."""
    root.tdp_mmu_root_count -= 1


def kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool
) -> Coroutine[int]:
    """Split what crosses an edge of the range, in every valid root the filter means, down to 4K.

    mmu_lock is held as `shared` says. Returns 0 or the first root's negative errno, after which no further
    root is looked at. Source: patch v3 11/24, tdp_mmu.c; kernel-facts 6.5. Raises as
    :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    _check_range(kvm, gfn_range)
    return _gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared)


def _gfn_range_split_cross_boundary_leafs(kvm: Kvm, gfn_range: KvmGfnRange, shared: bool) -> Coroutine[int]:
    types = kvm_gfn_range_filter_to_root_types(kvm, gfn_range.attr_filter)
    if not types:
        yield Trace("WARN_ON_ONCE(!(filter & (KVM_FILTER_SHARED | KVM_FILTER_PRIVATE)))")
    root, ret = None, 0
    try:
        while ret == 0 and (root := tdp_mmu_next_root(kvm, root, gfn_range.slot.as_id, types)):
            ret = yield from tdp_mmu_split_huge_pages_root(
                root, gfn_range.start, gfn_range.end, PG_LEVEL_4K, shared=shared, only_cross_boundary=True
            )
    finally:
        if root is not None:
            kvm_tdp_mmu_put_root(root)
    return ret


def kvm_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool, as_posted: bool = False
) -> Coroutine[int]:
    """The patch's API: no leaf crosses an edge of the range afterwards. Flushes nothing.

    Returns 0, -EOPNOTSUPP if the caller may not sleep, -ENOMEM. `as_posted` is v3 to the letter: its local
    ``bool ret`` turns any errno of the walk into 1, which callers take for success (kernel-facts 6.12 D1).
    Raises as :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    _check_range(kvm, gfn_range)
    return _split_cross_boundary_leafs(kvm, gfn_range, shared, as_posted)


def _split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, shared: bool, as_posted: bool
) -> Coroutine[int]:
    if not gfn_range.may_block:
        return -EOPNOTSUPP
    ret = yield from _gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared)
    return int(bool(ret)) if as_posted else ret


def kvm_tdp_mmu_unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange, *, flush: bool = False) -> Coroutine[bool]:
    """Zap the range in every root the filter means, invalid ones too; mmu_lock is held for write.

    Returns whether a TLB flush is owed. Source: tdp_mmu.c; kernel-facts 3.14. Raises as
    :func:`~.tdp_mmu.tdp_mmu_zap_leafs`, before anything changes.
    """
    _check_range(kvm, gfn_range)
    return _unmap_gfn_range(kvm, gfn_range, flush)


def _unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange, flush: bool) -> Coroutine[bool]:
    types = kvm_gfn_range_filter_to_root_types(kvm, gfn_range.attr_filter) | KVM_INVALID_ROOTS
    root = None
    try:
        while root := tdp_mmu_next_root(kvm, root, gfn_range.slot.as_id, types):
            flush = yield from tdp_mmu_zap_leafs(
                root, gfn_range.start, gfn_range.end, can_yield=gfn_range.may_block, flush=flush
            )
    finally:
        if root is not None:
            kvm_tdp_mmu_put_root(root)
    return flush


def _check_range(kvm: Kvm, gfn_range: KvmGfnRange) -> None:
    start = kvm.geometry.check_start(gfn_range.start)
    if start >= kvm.slot.npages:
        raise InvalidValueError(
            f"a range of a TD is written without the shared bit {name_gfn(kvm.gfn_direct_bits)}; "
            f"its start {name_gfn(start)} has it"
        )
