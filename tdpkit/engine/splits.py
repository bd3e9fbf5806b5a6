"""The thread in one file: every way to split before a zap, by name, with its mail.

A caller splits under the write lock, with the range protected by an invalidation. Each caller interprets the
return value differently; that is the bug of v3's ``bool ret`` (kernel-facts 6.12 D1).

* :data:`SPLITS`: ways to make the edges of a range safe before it is zapped;
* :data:`ACCEPT_SPLITS`: ways to split a leaf that maps more than the guest accepts;
* what these call: the patch's own function is in `mmu`; Kai Huang's refactoring, the mirror-root split that
  followed, and the wrong-root call that it corrected are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import SupportsIndex

from .events import EINVAL, EOPNOTSUPP, Coroutine, Trace
from .gfn import PG_LEVEL_4K, align_down
from .kvm import KVM_FILTER_PRIVATE, KVM_MIRROR_ROOTS, Kvm, KvmGfnRange, KvmMemorySlot
from .mmu import checked_range, kvm_split_cross_boundary_leafs, split_by_filter, split_in_roots
from .tdp_mmu import tdp_mmu_split_huge_pages_root

# ---- Kai Huang's refactoring: one helper, two wrappers ---------------------------------------------------


@checked_range
def __kvm_tdp_mmu_split_huge_pages(
    kvm: Kvm,
    gfn_range: KvmGfnRange,
    target_level: SupportsIndex,
    *,
    shared: bool,
    cross_boundary_only: bool,
) -> Coroutine[int]:
    """Split in the roots that the filter means; -EOPNOTSUPP if the caller may not sleep.

    Otherwise returns and raises as :func:`~.mmu.kvm_split_cross_boundary_leafs`. Source: Kai Huang, M1
    (2906b4d3b789985917a063d095c4063ee6ab7b72.camel@intel.com); kernel-facts C9, C11.
    """
    if not gfn_range.may_block:
        return -EOPNOTSUPP
    return (
        yield from split_by_filter(
            kvm, gfn_range, target_level, shared=shared, only_cross_boundary=cross_boundary_only
        )
    )


@checked_range
def kvm_tdp_mmu_split_huge_pages_log_dirty(
    kvm: Kvm, slot: KvmMemorySlot, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """Kai's wrapper for dirty logging: all huge leaves of [start, end), on VMs without a mirror.

    On a TD it WARNs and returns -EINVAL; that is why its filter, 0, does not matter (kernel-facts C10).
    """
    if kvm.has_mirrored_tdp:
        yield Trace("WARN_ON_ONCE(kvm_has_mirrored_tdp(kvm))")
        return -EINVAL
    gfn_range = KvmGfnRange(slot, start, end, attr_filter=0)
    return (
        yield from __kvm_tdp_mmu_split_huge_pages(
            kvm, gfn_range, target_level, shared=shared, cross_boundary_only=False
        )
    )


def kvm_tdp_mmu_split_huge_pages_cross_boundary(
    kvm: Kvm, gfn_range: KvmGfnRange, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """Kai's wrapper for the patch's purpose: only what crosses an edge (kernel-facts C9)."""
    return __kvm_tdp_mmu_split_huge_pages(
        kvm, gfn_range, target_level, shared=shared, cross_boundary_only=True
    )


# ---- after the review ------------------------------------------------------------------------------------


@checked_range
def kvm_tdp_mmu_mirrors_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex
) -> Coroutine[int]:
    """Split the huge leaves of [start, end) to `target_level` in the mirror roots, under the write lock.

    Returns 0 or a negative errno; on a VM without a mirror there is nothing to do. Source: Sean
    Christopherson, 2026-01-29 (aXt9pfN8uGLX2c-o@google.com); kernel-facts C43. Raises as
    :func:`~.mmu.kvm_split_cross_boundary_leafs`.
    """
    return split_in_roots(kvm, 0, KVM_MIRROR_ROOTS, start, end, target_level, shared=False)


@checked_range
def kvm_tdp_mmu_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """The same as RFC v5 41 posted it, a documented defect: it takes the vCPU's root.hpa, the *direct* root.

    On a TD the private half is in the mirror root; so nothing private is split, 0 is returned, and a shared
    huge leaf at the same frame is split for nothing. Source: 20260129011517.3545883-1-seanjc@google.com;
    kernel-facts C43. Raises as :func:`~.mmu.kvm_split_cross_boundary_leafs`.
    """
    return tdp_mmu_split_huge_pages_root(kvm.direct_root, start, end, target_level, shared=shared)


# ---- before a range is zapped ----------------------------------------------------------------------------

RangeSplit = Callable[[Kvm, KvmGfnRange], Coroutine[int]]
"""Makes the edges of a private range safe to zap, under the write lock: 0, or a value for its caller."""


def split_v3(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """The patch, with its return value mended."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False)


def split_v3_as_posted(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """The patch as posted: an errno comes back as 1."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False, as_posted=True)


def split_head_and_tail(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """What followed: at most two blocks of 2M, found by arithmetic, each split in the mirror roots.

    A TD's leaf is 2M at most, so one level is enough. Source: Sean Christopherson, 2026-01-29
    (aXt_L6QKB9CSTZcW@google.com); kernel-facts 7.3.
    """
    block = kvm.geometry.pages(PG_LEVEL_4K + 1)
    head, tail = align_down(gfn_range.start, block), align_down(gfn_range.end, block)
    blocks = [head] if head != gfn_range.start else []
    if tail != gfn_range.end and tail not in blocks:
        blocks.append(tail)
    for first in blocks:
        ret = yield from kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + block, PG_LEVEL_4K)
        if ret:
            return ret
    return 0


def no_split(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """Nothing: the zap takes whole what crosses an edge."""
    yield from ()
    return 0


SPLITS: dict[str, RangeSplit] = {
    "v3": split_v3,
    "v3 as posted": split_v3_as_posted,
    "head and tail": split_head_and_tail,
    "none": no_split,
}
"""Every way a caller can prepare a range, by name."""


# ---- when the guest accepts less than is mapped ------------------------------------------------------------

AcceptSplit = Callable[[Kvm, int, int], Coroutine[int]]
"""Splits, under the write lock, what maps a frame above the level its guest accepted: (kvm, gfn, level)."""


def accept_split_v3(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """v3 13/24: a boundary split of the block that is accepted."""
    return _boundary_split(kvm, gfn, level, False)


def accept_split_v3_as_posted(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """The same with v3's ``bool ret``: an errno becomes 1."""
    return _boundary_split(kvm, gfn, level, True)


def _boundary_split(kvm: Kvm, gfn: int, level: int, as_posted: bool) -> Coroutine[int]:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    slot = kvm.slot_of(gfn) or kvm.slot
    block = KvmGfnRange(slot, first, first + kvm.geometry.pages(level), KVM_FILTER_PRIVATE)
    return kvm_split_cross_boundary_leafs(kvm, block, shared=False, as_posted=as_posted)


def accept_split_root_hpa(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """RFC v5 41 as posted: the vCPU's root.hpa, which is the wrong root (kernel-facts C43)."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level, shared=False)


def accept_split_mirrors(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Its correction (R1): split to the accepted level in the mirror roots."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level)


ACCEPT_SPLITS: dict[str, AcceptSplit] = {
    "v3": accept_split_v3,
    "v3 as posted": accept_split_v3_as_posted,
    "root.hpa (RFC v5 41 as posted)": accept_split_root_hpa,
    "mirror roots": accept_split_mirrors,
}
"""Every way KVM can split what an ACCEPT finds too large, by name."""
