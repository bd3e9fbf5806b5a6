"""The functions of the thread that split before a zap, by name, with their mails.

Callers split under the write lock, with the range protected by an invalidation or, for an ACCEPT, by SRCU.
Each caller interprets the return value differently; that is the bug of v3's ``bool ret`` (S107).

* :data:`SPLITS`: ways to make the edges of a range safe before a zap;
* :data:`ACCEPT_SPLITS`: ways to split a leaf that maps more than the guest accepts;
* the functions they call: Kai Huang's refactoring, the mirror-root split that followed, and the wrong-root
  call that it corrected. The patch's own function is in `mmu`.
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
    """Split in the roots that the filter selects; returns -EOPNOTSUPP if the caller may not sleep.

    Otherwise returns and raises as :func:`~.mmu.kvm_split_cross_boundary_leafs`. Source: Kai Huang, M1
    (2906b4d3b789985917a063d095c4063ee6ab7b72.camel@intel.com); S123.
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

    On a TD it WARNs and returns -EINVAL, so its filter of 0 does not matter (S124).
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
    """Kai's wrapper for the patch's purpose: only leaves that cross an edge (S123)."""
    return __kvm_tdp_mmu_split_huge_pages(
        kvm, gfn_range, target_level, shared=shared, cross_boundary_only=True
    )


# ---- after the review ------------------------------------------------------------------------------------


@checked_range
def kvm_tdp_mmu_mirrors_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex
) -> Coroutine[int]:
    """Split the huge leaves of [start, end) to `target_level` in the mirror roots, under the write lock.

    Returns 0 or a negative errno; does nothing on a VM without a mirror. Source: Sean
    Christopherson, 2026-01-29 (aXt9pfN8uGLX2c-o@google.com); S140. Raises as
    :func:`~.mmu.kvm_split_cross_boundary_leafs`.
    """
    return split_in_roots(kvm, 0, KVM_MIRROR_ROOTS, start, end, target_level, shared=False)


@checked_range
def kvm_tdp_mmu_split_huge_pages(
    kvm: Kvm, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[int]:
    """The call of RFC v5 41 as posted, a documented defect: it uses the vCPU's root.hpa, the *direct* root.

    A TD's private half is in the mirror root. So this splits nothing private, returns 0, and needlessly
    splits a shared huge leaf at the same frame. Source: RFC v5 41; S140. Raises as
    :func:`~.mmu.kvm_split_cross_boundary_leafs`.
    """
    return tdp_mmu_split_huge_pages_root(kvm.direct_root, start, end, target_level, shared=shared)


# ---- before a range is zapped ----------------------------------------------------------------------------

RangeSplit = Callable[[Kvm, KvmGfnRange], Coroutine[int]]
"""Make the edges of a private range safe to zap, under the write lock; return 0 or a value for the caller."""


def split_v3(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """Split as the patch does, and return its errno."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False)


def split_v3_as_posted(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """Split as the patch does as posted: an errno comes back as 1."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False, as_posted=True)


def split_head_and_tail(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """Split as the later code does: at most two 2M blocks, found by arithmetic, in the mirror roots.

    A TD's leaf is at most 2M, so one level is enough. Source: Sean Christopherson, 2026-01-29
    (aXt_L6QKB9CSTZcW@google.com); S141.
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
    """Split nothing, so the zap takes leaves that cross an edge whole."""
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
"""Split, under the write lock, a leaf larger than the level the guest accepts: (kvm, gfn, level)."""


def accept_split_v3(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Split as v3 13/24 does: at the edges of the block that the guest accepts."""
    return _boundary_split(kvm, gfn, level, False)


def accept_split_v3_as_posted(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Split as :func:`accept_split_v3` does, with v3's ``bool ret``: an errno becomes 1."""
    return _boundary_split(kvm, gfn, level, True)


def _boundary_split(kvm: Kvm, gfn: int, level: int, as_posted: bool) -> Coroutine[int]:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    slot = kvm.slot_of(gfn) or kvm.slot
    block = KvmGfnRange(slot, first, first + kvm.geometry.pages(level), KVM_FILTER_PRIVATE)
    return kvm_split_cross_boundary_leafs(kvm, block, shared=False, as_posted=as_posted)


def accept_split_root_hpa(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Split as RFC v5 41 posted it: in the vCPU's root.hpa, the wrong root (S140)."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level, shared=False)


def accept_split_mirrors(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Split to the accepted level in the mirror roots: the correction of RFC v5 41 (R1)."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level)


ACCEPT_SPLITS: dict[str, AcceptSplit] = {
    "v3": accept_split_v3,
    "v3 as posted": accept_split_v3_as_posted,
    "root.hpa (RFC v5 41 as posted)": accept_split_root_hpa,
    "mirror roots": accept_split_mirrors,
}
"""Every way KVM can split what an ACCEPT finds too large, by name."""
