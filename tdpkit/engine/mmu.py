"""What is done to a range of a VM: split in its roots, and unmap.

Every split here is one loop over roots (`_split_in_roots`) around `tdp_mmu_split_huge_pages_root`. They
differ in which roots, to which level, and in what they do with an errno:

* the patch, v3 11/24: `kvm_split_cross_boundary_leafs` (kernel-facts 6);
* Kai Huang's proposal (M1): one helper, `__kvm_tdp_mmu_split_huge_pages`, and two wrappers;
* dirty logging upstream: `kvm_tdp_mmu_try_split_huge_pages` and its two callers (5.6);
* what followed: `kvm_tdp_mmu_mirrors_split_huge_pages` (R1), and the call of RFC v5 41 that it corrected,
  `kvm_tdp_mmu_split_huge_pages`, which takes the vCPU's direct root (C43).

mmu_lock is held as `shared` says and is held again on return.
"""

from __future__ import annotations

from contextlib import closing
from typing import SupportsIndex

from .events import EINVAL, EOPNOTSUPP, Coroutine, Lock, Trace, Unlock
from .gfn import PG_LEVEL_4K, InvalidValueError, check_gfn, name_gfn
from .kvm import Kvm, KvmGfnRange, KvmMemorySlot
from .roots import (
    KVM_INVALID_ROOTS,
    KVM_MIRROR_ROOTS,
    KVM_VALID_ROOTS,
    each_tdp_mmu_root,
    kvm_gfn_range_filter_to_root_types,
    warn_unless_root_types,
)
from .tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs

# ---- the loop over roots -------------------------------------------------------------------------------


def _split_in_roots(
    kvm: Kvm,
    as_id: int,
    types: int,
    start: int,
    end: int,
    target_level: SupportsIndex,
    *,
    shared: bool,
    only_cross_boundary: bool = False,
) -> Coroutine[int]:
    """0, or the first root's negative errno, after which no further root is looked at.

    The TDX side splits under the write lock only: under the read lock it WARNs and refuses (kernel-facts
    5.3, 6.7, 8.8; refused here before the walk, since the walk would retry the same entry for ever).
    """
    yield from warn_unless_root_types(types)
    with closing(each_tdp_mmu_root(kvm, as_id, types)) as roots:
        for root in roots:
            if root.is_mirror and shared:
                yield Trace("WARN: a mirror root is split under the write lock only")
                return -EOPNOTSUPP
            ret = yield from tdp_mmu_split_huge_pages_root(
                root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
            )
            if ret:
                return ret
    return 0


def _root_types(kvm: Kvm, attr_filter: int) -> Coroutine[int]:
    types = kvm_gfn_range_filter_to_root_types(kvm, attr_filter)
    if not types:
        yield Trace("WARN_ON_ONCE(!(filter & (KVM_FILTER_SHARED | KVM_FILTER_PRIVATE)))")
    return types


def _check_range(kvm: Kvm, start: SupportsIndex, end: SupportsIndex) -> None:
    first = kvm.geometry.check_start(start)
    if first >= kvm.max_gfn_exclusive:
        raise InvalidValueError(
            f"a range of a TD is written without the shared bit {name_gfn(kvm.gfn_direct_bits)}; "
            f"its start {name_gfn(first)} has it"
        )
    check_gfn(end, "the end")


# ---- the patch -----------------------------------------------------------------------------------------


def kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool
) -> Coroutine[int]:
    """Split what crosses an edge of the range, in every valid root the filter means, down to 4K.

    Returns 0 or the first root's negative errno, after which no further root is looked at; -EOPNOTSUPP for a
    mirror root under the read lock. Source: patch v3 11/24, tdp_mmu.c; kernel-facts 6.5. Raises as
    :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    return _gfn_range_split(kvm, gfn_range, PG_LEVEL_4K, shared, True)


def kvm_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool, as_posted: bool = False
) -> Coroutine[int]:
    """The patch's API: no leaf crosses an edge of the range afterwards. Flushes nothing.

    The range must be protected: an invalidation in progress, slots_lock or the VM's SRCU; else the kernel's
    lockdep WARNs. Returns 0 (also where the TDP MMU is off: nothing is done); -EOPNOTSUPP if the caller may
    not sleep; -ENOMEM; -EOPNOTSUPP for a mirror root under the read lock. `as_posted` is v3 to the letter:
    its local ``bool ret`` turns any errno of the walk into 1, which callers take for success (kernel-facts
    6.12 D1). Raises as :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    _check_range(kvm, gfn_range.start, gfn_range.end)
    return _split_cross_boundary_leafs(kvm, gfn_range, shared, as_posted)


def _split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, shared: bool, as_posted: bool
) -> Coroutine[int]:
    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):
        yield Trace("WARN: lockdep: no invalidation in progress, neither slots_lock nor SRCU held")
    if not gfn_range.may_block:
        return -EOPNOTSUPP
    if not kvm.tdp_mmu_enabled:
        return 0
    ret = yield from kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared=shared)
    return int(bool(ret)) if as_posted else ret


def weak_kvm_split_cross_boundary_leafs(kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool) -> Coroutine[int]:
    """What an architecture without the function of its own gets: nothing is done, 0 is returned.

    Source: patch v3 11/24, the __weak definition in kvm_main.c; kernel-facts 6.6.
    """
    yield from ()
    return 0


# ---- Kai's proposal ------------------------------------------------------------------------------------


def __kvm_tdp_mmu_split_huge_pages(
    kvm: Kvm,
    gfn_range: KvmGfnRange,
    target_level: SupportsIndex,
    *,
    shared: bool,
    cross_boundary_only: bool,
) -> Coroutine[int]:
    """The helper under both wrappers; it also asks whether the caller may sleep.

    Returns and raises as :func:`kvm_split_cross_boundary_leafs`. Source: Kai Huang, M1
    (2906b4d3b789985917a063d095c4063ee6ab7b72.camel@intel.com); kernel-facts C9, C11.
    """
    _check_range(kvm, gfn_range.start, gfn_range.end)

    def split() -> Coroutine[int]:
        if not gfn_range.may_block:
            return -EOPNOTSUPP
        return (yield from _gfn_range_split(kvm, gfn_range, target_level, shared, cross_boundary_only))

    return split()


def kvm_tdp_mmu_split_huge_pages_log_dirty(
    kvm: Kvm, slot: KvmMemorySlot, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """Kai's wrapper for dirty logging: all huge leaves of [start, end), on VMs without a mirror.

    On a TD it WARNs and returns -EINVAL; that is why its filter, 0, does not matter (kernel-facts C10).
    """
    gfn_range = KvmGfnRange(slot, start, end, attr_filter=0)
    inner = __kvm_tdp_mmu_split_huge_pages(
        kvm, gfn_range, target_level, shared=shared, cross_boundary_only=False
    )

    def split() -> Coroutine[int]:
        if kvm.has_mirrored_tdp:
            yield Trace("WARN_ON_ONCE(kvm_has_mirrored_tdp(kvm))")
            return -EINVAL
        return (yield from inner)

    return split()


def kvm_tdp_mmu_split_huge_pages_cross_boundary(
    kvm: Kvm, gfn_range: KvmGfnRange, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """Kai's wrapper for the patch's purpose: only what crosses an edge (kernel-facts C9)."""
    return __kvm_tdp_mmu_split_huge_pages(
        kvm, gfn_range, target_level, shared=shared, cross_boundary_only=True
    )


def _gfn_range_split(
    kvm: Kvm, gfn_range: KvmGfnRange, target_level: SupportsIndex, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    _check_range(kvm, gfn_range.start, gfn_range.end)

    def split() -> Coroutine[int]:
        types = yield from _root_types(kvm, gfn_range.attr_filter)
        return (
            yield from _split_in_roots(
                kvm,
                gfn_range.slot.as_id,
                types,
                gfn_range.start,
                gfn_range.end,
                target_level,
                shared=shared,
                only_cross_boundary=only_cross_boundary,
            )
        )

    return split()


# ---- dirty logging upstream ------------------------------------------------------------------------------


def kvm_tdp_mmu_try_split_huge_pages(
    kvm: Kvm, slot: KvmMemorySlot, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[None]:
    """Split all huge leaves of [start, end) in every valid root, a TD's mirror root too; errors are dropped.

    Source: tdp_mmu.c; kernel-facts 5.6, C10. Raises as :func:`kvm_split_cross_boundary_leafs`.
    """
    _check_range(kvm, start, end)

    def split() -> Coroutine[None]:
        yield from _split_in_roots(kvm, slot.as_id, KVM_VALID_ROOTS, start, end, target_level, shared=shared)

    return split()


def kvm_mmu_slot_try_split_huge_pages(kvm: Kvm, slot: KvmMemorySlot) -> Coroutine[None]:
    """Dirty logging is switched on: split the whole slot to 4K, under the read lock, which it takes."""
    end = slot.base_gfn + slot.npages
    inner = kvm_tdp_mmu_try_split_huge_pages(kvm, slot, slot.base_gfn, end, PG_LEVEL_4K, shared=True)

    def split() -> Coroutine[None]:
        if kvm.tdp_mmu_enabled:
            yield Lock(True)
            yield from inner
            yield Unlock(True, "done")

    return split()


def kvm_mmu_try_split_huge_pages(kvm: Kvm, slot: KvmMemorySlot, start: int, end: int) -> Coroutine[None]:
    """KVM_CLEAR_DIRTY_LOG where all was dirty at first: split [start, end) to 4K; the caller holds the write
    lock.
    """
    inner = kvm_tdp_mmu_try_split_huge_pages(kvm, slot, start, end, PG_LEVEL_4K, shared=False)

    def split() -> Coroutine[None]:
        if kvm.tdp_mmu_enabled:
            yield from inner

    return split()


# ---- after the review ------------------------------------------------------------------------------------


def kvm_tdp_mmu_mirrors_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex
) -> Coroutine[int]:
    """Split the huge leaves of [start, end) to `target_level` in the mirror roots, under the write lock.

    Returns 0 or a negative errno; on a VM without a mirror there is nothing to do. Source: Sean
    Christopherson, 2026-01-29 (aXt9pfN8uGLX2c-o@google.com); kernel-facts C43. Raises as
    :func:`kvm_split_cross_boundary_leafs`.
    """
    _check_range(kvm, start, end)
    return _split_in_roots(kvm, 0, KVM_MIRROR_ROOTS, start, end, target_level, shared=False)


def kvm_tdp_mmu_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """The same as RFC v5 41 posted it, a documented defect: it takes the vCPU's root.hpa, the *direct* root.

    On a TD the private half is in the mirror root; so nothing private is split, 0 is returned, and a shared
    huge leaf at the same frame is split for nothing. Source: 20260129011517.3545883-1-seanjc@google.com;
    kernel-facts C43. Raises as :func:`kvm_split_cross_boundary_leafs`.
    """
    _check_range(kvm, start, end)
    return tdp_mmu_split_huge_pages_root(kvm.direct_root, start, end, target_level, shared=shared)


# ---- unmap -----------------------------------------------------------------------------------------------


def kvm_tdp_mmu_unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange, *, flush: bool = False) -> Coroutine[bool]:
    """Zap the range in every root the filter means, invalid ones too; mmu_lock is held for write.

    Returns whether a TLB flush is owed. Source: tdp_mmu.c; kernel-facts 3.14. Raises as
    :func:`~.tdp_mmu.tdp_mmu_zap_leafs`, before anything changes.
    """
    _check_range(kvm, gfn_range.start, gfn_range.end)
    return _unmap_gfn_range(kvm, gfn_range, flush)


def _unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange, flush: bool) -> Coroutine[bool]:
    types = yield from _root_types(kvm, gfn_range.attr_filter)
    yield from warn_unless_root_types(types | KVM_INVALID_ROOTS)
    with closing(each_tdp_mmu_root(kvm, gfn_range.slot.as_id, types | KVM_INVALID_ROOTS)) as roots:
        for root in roots:
            flush = yield from tdp_mmu_zap_leafs(
                root, gfn_range.start, gfn_range.end, can_yield=gfn_range.may_block, flush=flush
            )
    return flush


def kvm_unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[bool]:
    """:func:`kvm_tdp_mmu_unmap_gfn_range` for callers outside the MMU, who protect the range.

    An invalidation in progress or slots_lock; SRCU alone is not enough here, and lockdep WARNs (kernel-facts
    6.2). Source: mmu.c.
    """
    _check_range(kvm, gfn_range.start, gfn_range.end)

    def unmap() -> Coroutine[bool]:
        if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock):
            yield Trace("WARN: lockdep: no invalidation in progress, and slots_lock not held")
        if not kvm.tdp_mmu_enabled:
            return False
        return (yield from kvm_tdp_mmu_unmap_gfn_range(kvm, gfn_range))

    return unmap()
