"""A range in all roots of a VM: the patch, upstream's dirty-log split, unmap; and where huge pages are
allowed.

Every split here is one loop over roots (:func:`split_in_roots`) around `tdp_mmu_split_huge_pages_root`.
Callers differ in the roots they match, the level they split to, and their use of an errno:

* the patch, v3 11/24: `kvm_split_cross_boundary_leafs`;
* dirty logging upstream: `kvm_tdp_mmu_try_split_huge_pages` and its two callers.

The thread's other proposals are in `splits`. The caller holds mmu_lock, for read if `shared`, and holds it
again on return.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from typing import Any, ParamSpec, SupportsIndex, TypeVar

from .events import EOPNOTSUPP, Coroutine, Lock, Trace, Unlock
from .gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange, InvalidValueError, check_gfn, name_gfn
from .kvm import KVM_INVALID_ROOTS, KVM_VALID_ROOTS, Kvm, KvmGfnRange, KvmMemorySlot
from .roots import each_tdp_mmu_root, kvm_gfn_range_filter_to_root_types, warn_unless_root_types
from .tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from .tree import TdpMmuRoot

KVM_LPAGE_GUEST_INHIBIT_FLAG = 1 << 30
KVM_LPAGE_MIXED_FLAG = 1 << 31
"""Bits of lpage_info.disallow_lpage, per level and block (S173). Left out: the count of
write-tracked pages in the same word, and dirty logging, which also forbids huge pages."""

P = ParamSpec("P")
T = TypeVar("T")


def checked_range(function: Callable[P, Coroutine[T]]) -> Callable[P, Coroutine[T]]:
    """Check the range of a call to `function` at once; the generator alone would check at its first step.

    The range is `gfn_range`, or `start` and `end`, or all of `slot`, whichever `function` takes. Raises
    InvalidTypeError or InvalidValueError for a start that is negative, beyond the root, or has the shared
    bit, and for a negative end. An end beyond the root is accepted, as by the kernel's walks.
    """
    parameters = inspect.signature(function).parameters
    names = [*parameters]
    needed = {name for name in names if parameters[name].default is inspect.Parameter.empty}

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Coroutine[T]:
        given: dict[str, Any] = dict(zip(names, args, strict=False), **kwargs)
        if not needed <= given.keys():
            return function(*args, **kwargs)  # which raises: Python says what is missing
        span, slot = given.get("gfn_range"), given.get("slot")
        if span is not None:
            _check_range(given["kvm"], span.start, span.end)
        elif "start" in given:
            _check_range(given["kvm"], given["start"], given["end"])
        elif slot is not None:
            _check_range(given["kvm"], slot.base_gfn, slot.base_gfn + slot.npages)
        return function(*args, **kwargs)

    return checked


def _check_range(kvm: Kvm, start: SupportsIndex, end: SupportsIndex) -> None:
    first = kvm.geometry.check_start(start)
    if first >= kvm.max_gfn_exclusive:
        raise InvalidValueError(
            f"a range of a TD is written without the shared bit {name_gfn(kvm.gfn_direct_bits)}; "
            f"its start {name_gfn(first)} has it"
        )
    check_gfn(end, "the end")


# ---- the loop over roots -------------------------------------------------------------------------------


def in_each_root(
    kvm: Kvm, as_id: int, types: int, split: Callable[[TdpMmuRoot], Coroutine[int]]
) -> Coroutine[int]:
    """Make the call `split` on each root that matches `types`; return its first errno, or 0.

    After an errno later roots are not touched. Source: the loop of kvm_tdp_mmu_try_split_huge_pages,
    tdp_mmu.c.
    """
    yield from warn_unless_root_types(types)
    with closing(each_tdp_mmu_root(kvm, as_id, types)) as roots:
        for root in roots:
            ret = yield from split(root)
            if ret:
                return ret
    return 0


def split_in_roots(
    kvm: Kvm,
    as_id: int,
    types: int,
    start: int,
    end: int,
    target_level: SupportsIndex,
    *,
    shared: bool,
    only_cross_boundary: bool = False,
    retry_refused: bool = False,
) -> Coroutine[int]:
    """Split the huge leaves of frames [start, end) to `target_level` in each root that matches `types`.

    Returns 0, or the negative errno of the first root that fails; later roots are not touched. The TDX side
    refuses a split under the read lock (S109). The kernel's walk would try that leaf again for ever; here it
    says so and returns the refusal, unless `retry_refused` (see
    :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`). Source: kvm_tdp_mmu_try_split_huge_pages, tdp_mmu.c.
    """

    def split(root: TdpMmuRoot) -> Coroutine[int]:
        return tdp_mmu_split_huge_pages_root(
            root,
            start,
            end,
            target_level,
            shared=shared,
            only_cross_boundary=only_cross_boundary,
            retry_refused=retry_refused,
        )

    return in_each_root(kvm, as_id, types, split)


@checked_range
def split_by_filter(
    kvm: Kvm,
    gfn_range: KvmGfnRange,
    target_level: SupportsIndex,
    *,
    shared: bool,
    only_cross_boundary: bool,
    retry_refused: bool = False,
) -> Coroutine[int]:
    """Call :func:`split_in_roots` for the roots that the range's filter selects; return its result."""
    types = yield from _root_types(kvm, gfn_range.attr_filter)
    return (
        yield from split_in_roots(
            kvm,
            gfn_range.slot.as_id,
            types,
            gfn_range.start,
            gfn_range.end,
            target_level,
            shared=shared,
            only_cross_boundary=only_cross_boundary,
            retry_refused=retry_refused,
        )
    )


def _root_types(kvm: Kvm, attr_filter: int) -> Coroutine[int]:
    types = kvm_gfn_range_filter_to_root_types(kvm, attr_filter)
    if not types:
        yield Trace("WARN_ON_ONCE(!(filter & (KVM_FILTER_SHARED | KVM_FILTER_PRIVATE)))")
    return types


# ---- the patch -----------------------------------------------------------------------------------------


def kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool, as_posted: bool = False
) -> Coroutine[int]:
    """Split what crosses an edge of the range down to 4K, in every valid root that the filter selects.

    Returns 0, or the negative errno of the first root that fails, with later roots untouched; -EOPNOTSUPP for
    a private leaf that crosses, under the read lock: this model's own refusal. `as_posted` tries that leaf
    again for ever (S105). Source: patch v3 11/24, tdp_mmu.c; S103. Raises as
    :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    return split_by_filter(
        kvm, gfn_range, PG_LEVEL_4K, shared=shared, only_cross_boundary=True, retry_refused=as_posted
    )


@checked_range
def kvm_split_cross_boundary_leafs(
    kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool, as_posted: bool = False
) -> Coroutine[int]:
    """The patch's API: split so that no leaf crosses an edge of the range. Does not flush.

    The caller protects the range by an invalidation in progress, slots_lock or the VM's SRCU; else the
    kernel's lockdep WARNs. Returns 0 (with nothing done if the TDP MMU is off); -EOPNOTSUPP if the caller may
    not sleep, or for a private leaf that crosses under the read lock (our refusal); -ENOMEM. `as_posted` is
    v3 to the letter: that leaf is tried again for ever (S105), and the local ``bool ret`` turns any errno of
    the walk into 1, which each caller takes for something else (S107).
    Raises as :func:`~.tdp_mmu.tdp_mmu_split_huge_pages_root`, before anything changes.
    """
    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):
        yield Trace("WARN: lockdep: no invalidation in progress, neither slots_lock nor SRCU held")
    if not gfn_range.may_block:
        return -EOPNOTSUPP
    if not kvm.tdp_mmu_enabled:
        return 0
    ret = yield from kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
        kvm, gfn_range, shared=shared, as_posted=as_posted
    )
    return int(bool(ret)) if as_posted else ret


def weak_kvm_split_cross_boundary_leafs(kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool) -> Coroutine[int]:
    """Do nothing and return 0, for an architecture without an override.

    Source: patch v3 11/24, the __weak definition in kvm_main.c.
    """
    yield from ()
    return 0


# ---- dirty logging upstream ------------------------------------------------------------------------------


@checked_range
def kvm_tdp_mmu_try_split_huge_pages(
    kvm: Kvm, slot: KvmMemorySlot, start: int, end: int, target_level: SupportsIndex, *, shared: bool
) -> Coroutine[None]:
    """Split all huge leaves of [start, end) in every valid root, mirror roots included; drop any error.

    Source: tdp_mmu.c; S81, S124. Raises as :func:`kvm_split_cross_boundary_leafs`.
    """
    yield from split_in_roots(kvm, slot.as_id, KVM_VALID_ROOTS, start, end, target_level, shared=shared)


@checked_range
def kvm_mmu_slot_try_split_huge_pages(kvm: Kvm, slot: KvmMemorySlot) -> Coroutine[None]:
    """Split the whole slot to 4K when dirty logging is switched on; takes the read lock itself.

    Source: mmu.c. Raises as :func:`kvm_split_cross_boundary_leafs`.
    """
    if kvm.tdp_mmu_enabled:
        end = slot.base_gfn + slot.npages
        yield Lock(True)
        yield from kvm_tdp_mmu_try_split_huge_pages(kvm, slot, slot.base_gfn, end, PG_LEVEL_4K, shared=True)
        yield Unlock(True, "done")


@checked_range
def kvm_mmu_try_split_huge_pages(kvm: Kvm, slot: KvmMemorySlot, start: int, end: int) -> Coroutine[None]:
    """Split [start, end) to 4K for KVM_CLEAR_DIRTY_LOG (initially-all-set), with the write lock held.

    Source: mmu.c. Raises as :func:`kvm_split_cross_boundary_leafs`.
    """
    if kvm.tdp_mmu_enabled:
        yield from kvm_tdp_mmu_try_split_huge_pages(kvm, slot, start, end, PG_LEVEL_4K, shared=False)


# ---- unmap -----------------------------------------------------------------------------------------------


@checked_range
def kvm_tdp_mmu_unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange, *, flush: bool = False) -> Coroutine[bool]:
    """Zap the range in every root that the filter selects, invalid ones too; mmu_lock is held for write.

    Returns whether a TLB flush is owed. Source: tdp_mmu.c; S49. Raises as
    :func:`~.tdp_mmu.tdp_mmu_zap_leafs`, before anything changes.
    """
    types = yield from _root_types(kvm, gfn_range.attr_filter)
    yield from warn_unless_root_types(types | KVM_INVALID_ROOTS)
    with closing(each_tdp_mmu_root(kvm, gfn_range.slot.as_id, types | KVM_INVALID_ROOTS)) as roots:
        for root in roots:
            flush = yield from tdp_mmu_zap_leafs(
                root, gfn_range.start, gfn_range.end, can_yield=gfn_range.may_block, flush=flush
            )
    return flush


@checked_range
def kvm_unmap_gfn_range(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[bool]:
    """Call :func:`kvm_tdp_mmu_unmap_gfn_range` for code outside the MMU, which must protect the range.

    That takes an invalidation in progress or slots_lock; with SRCU alone lockdep WARNs (S100).
    Source: mmu.c.
    """
    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock):
        yield Trace("WARN: lockdep: no invalidation in progress, and slots_lock not held")
    if not kvm.tdp_mmu_enabled:
        return False
    return (yield from kvm_tdp_mmu_unmap_gfn_range(kvm, gfn_range))


# ---- where huge pages are allowed --------------------------------------------------------------------------


def hugepage_allowed(kvm: Kvm, slot: KvmMemorySlot, gfn: int, level: int) -> bool:
    """Whether the slot's edges and the flags allow a `level` leaf that holds `gfn` (S193)."""
    first, pages = kvm.geometry.gfn_round_for_level(gfn, level), kvm.geometry.pages(level)
    if not slot.base_gfn <= first <= first + pages <= slot.base_gfn + slot.npages:
        return False
    return not kvm.disallow_lpage.get((level, first))


def kvm_max_mapping_level(kvm: Kvm, slot: KvmMemorySlot, gfn: int, max_level: int) -> int:
    """The largest level up to `max_level` at which the slot may map `gfn` (source: mmu.c)."""
    levels = range(max_level, PG_LEVEL_4K, -1)
    return next((level for level in levels if hugepage_allowed(kvm, slot, gfn, level)), PG_LEVEL_4K)


def set_disallow_lpage(kvm: Kvm, gfn: int, level: int, flag: int, on: bool) -> None:
    """Set or clear one flag of the `level` block that holds `gfn`."""
    key = (level, kvm.geometry.gfn_round_for_level(gfn, level))
    flags = kvm.disallow_lpage.pop(key, 0)
    flags = flags | flag if on else flags & ~flag
    if flags:
        kvm.disallow_lpage[key] = flags


def hugepage_test_guest_inhibit(kvm: Kvm, gfn: int, level: int) -> bool:
    """Whether the guest accepted this `level` block in smaller pieces (S173)."""
    key = (level, kvm.geometry.gfn_round_for_level(gfn, level))
    return bool(kvm.disallow_lpage.get(key, 0) & KVM_LPAGE_GUEST_INHIBIT_FLAG)


def kvm_arch_post_set_memory_attributes(kvm: Kvm, span: GfnRange) -> None:
    """Recompute which blocks hold both halves after the attributes of `span` were stored.

    Only the first and last block of a level can: those between them are of one half. Source: mmu.c;
    S196.
    """
    for level in range(PG_LEVEL_2M, kvm.max_leaf_level + 1):
        pages = kvm.geometry.pages(level)
        inside = [gfn for of, gfn in kvm.disallow_lpage if of == level and span.start <= gfn < span.end]
        ends = (kvm.geometry.gfn_round_for_level(gfn, level) for gfn in (span.start, span.end - 1))
        for gfn in {*inside, *ends}:
            mixed = not kvm.mem_attributes.uniform(GfnRange(gfn, gfn + pages))
            set_disallow_lpage(kvm, gfn, level, KVM_LPAGE_MIXED_FLAG, mixed)
