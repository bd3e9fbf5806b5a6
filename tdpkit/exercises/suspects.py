"""The suspects of the hunt: the split functions of `mmu` and `splits`, each called as its authors call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tdpkit.engine.events import Coroutine
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, Kvm, KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_mmu_slot_try_split_huge_pages,
    kvm_mmu_try_split_huge_pages,
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    weak_kvm_split_cross_boundary_leafs,
)
from tdpkit.engine.splits import (
    AcceptSplit,
    kvm_tdp_mmu_mirrors_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages_cross_boundary,
    kvm_tdp_mmu_split_huge_pages_log_dirty,
)

Function = Callable[..., Coroutine[Any]]
_Suspect = tuple[Function, Callable[[Kvm, KvmGfnRange, int], Coroutine[Any]]]

_CALLS: tuple[_Suspect, ...] = (
    (
        kvm_split_cross_boundary_leafs,
        lambda kvm, page, level: kvm_split_cross_boundary_leafs(kvm, page, shared=False),
    ),
    (
        kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
        lambda kvm, page, level: kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, page, shared=False),
    ),
    (
        weak_kvm_split_cross_boundary_leafs,
        lambda kvm, page, level: weak_kvm_split_cross_boundary_leafs(kvm, page, shared=False),
    ),
    (
        kvm_tdp_mmu_split_huge_pages_log_dirty,
        lambda kvm, page, level: kvm_tdp_mmu_split_huge_pages_log_dirty(
            kvm, page.slot, page.start, page.end, level, shared=False
        ),
    ),
    (
        kvm_tdp_mmu_split_huge_pages_cross_boundary,
        lambda kvm, page, level: kvm_tdp_mmu_split_huge_pages_cross_boundary(kvm, page, level, shared=False),
    ),
    (
        kvm_tdp_mmu_try_split_huge_pages,
        lambda kvm, page, level: kvm_tdp_mmu_try_split_huge_pages(
            kvm, page.slot, page.start, page.end, level, shared=False
        ),
    ),
    (
        kvm_mmu_slot_try_split_huge_pages,
        lambda kvm, page, level: kvm_mmu_slot_try_split_huge_pages(kvm, page.slot),
    ),
    (
        kvm_mmu_try_split_huge_pages,
        lambda kvm, page, level: kvm_mmu_try_split_huge_pages(kvm, page.slot, page.start, page.end),
    ),
    (
        kvm_tdp_mmu_mirrors_split_huge_pages,
        lambda kvm, page, level: kvm_tdp_mmu_mirrors_split_huge_pages(kvm, page.start, page.end, level),
    ),
    (
        kvm_tdp_mmu_split_huge_pages,
        lambda kvm, page, level: kvm_tdp_mmu_split_huge_pages(kvm, page.start, page.end, level, shared=False),
    ),
)
SUSPECTS: dict[str, Function] = {function.__name__: function for function, _ in _CALLS}
"""The split functions of tdpkit.engine.mmu and tdpkit.engine.splits, by name."""


def _as_accept_split(call: Callable[[Kvm, KvmGfnRange, int], Coroutine[Any]]) -> AcceptSplit:
    """A call on the accepted page, of the private half where a half is named; a void one says 0."""

    def split(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
        page = KvmGfnRange(kvm.slot, gfn, gfn + kvm.geometry.pages(level), KVM_FILTER_PRIVATE)
        return (yield from call(kvm, page, level)) or 0

    return split


ACCEPT_SPLITS: dict[str, AcceptSplit] = {
    function.__name__: _as_accept_split(call) for function, call in _CALLS
}
"""Each as KVM would call it where an ACCEPT finds a larger page."""
