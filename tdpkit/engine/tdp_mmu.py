"""The functions that change one root's tree: split and zap.

Each is a coroutine (see `events`): it checks its arguments at once and returns the generator. They follow
Linux 7.2.12's tdp_mmu.c with patch v3 11/24 applied (kernel-facts 5, 6). A mirror root's changes are
followed by an `External` event for the TDX side.

Left out: dirty-bit harvesting, huge-page recovery, NX-huge-page accounting.
"""

from __future__ import annotations

from array import array
from typing import SupportsIndex

from .events import (
    EBUSY,
    ENOMEM,
    AllocTable,
    Coroutine,
    External,
    Flush,
    FreeTable,
    Lock,
    SetSpte,
    Trace,
    Unlock,
    Visit,
)
from .gfn import PG_LEVEL_4K, GfnRange, InvalidValueError, as_integer, name_gfn, tdp_mmu_max_gfn_exclusive
from .spte import (
    FROZEN_SPTE,
    PT_PAGE_SIZE_MASK,
    SHADOW_NONPRESENT_VALUE,
    SPTE_MMU_PRESENT_MASK,
    is_last_spte,
    is_shadow_present_pte,
    make_nonleaf_spte,
    make_small_spte,
)
from .tdp_iter import TdpIter
from .tree import TdpMmuRoot, check_inside

_HUGE_LEAF = SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK
"""Both bits set: is_shadow_present_pte and is_large_pte in one test, for the walk's millions of visits."""


class KvmBug(RuntimeError):  # noqa: N818 - the kernel's own name
    """Where the kernel has a KVM_BUG: the VM is dead, its tables may be half changed."""


# ---- changing an entry ---------------------------------------------------------------------------------


def tdp_mmu_set_spte_atomic(root: TdpMmuRoot, it: TdpIter, new_spte: int) -> Coroutine[int]:
    """Compare-and-exchange under the shared lock: 0, or -EBUSY with `it.old_spte` read anew.

    On a mirror entry: freeze it, let the TDX side follow, then write the new value, or the old one back if
    the TDX side failed, whose errno is returned (kernel-facts 8.3).
    """
    old_spte = it.old_spte
    value = FROZEN_SPTE if root.is_mirror else new_spte
    yield SetSpte(it.pt_path[it.level], it.index, it.gfn, it.level, old_spte, value)
    current = it.table[it.index]
    if current != old_spte or current == FROZEN_SPTE:
        it.old_spte = current
        return -EBUSY
    it.table[it.index] = value
    if root.is_mirror:
        errno: int = yield _external_of(it, old_spte, new_spte, shared=True)
        value = old_spte if errno else new_spte
        yield SetSpte(it.pt_path[it.level], it.index, it.gfn, it.level, FROZEN_SPTE, value)
        it.table[it.index] = value
        if errno:
            return errno
    yield _changed(root, it, old_spte, new_spte)
    return 0


def _tdp_mmu_set_spte(root: TdpMmuRoot, it: TdpIter, new_spte: int) -> Coroutine[None]:
    """Store under the exclusive lock. If the TDX side fails, the mirror has changed already: KvmBug."""
    yield SetSpte(it.pt_path[it.level], it.index, it.gfn, it.level, it.old_spte, new_spte)
    old_spte = it.table[it.index]
    it.table[it.index] = new_spte
    if root.is_mirror:
        errno = yield _external_of(it, old_spte, new_spte, shared=False)
        if errno:
            raise KvmBug(
                f"the TDX side failed ({errno}) after the mirror entry at {name_gfn(it.gfn)} changed"
            )
    yield _changed(root, it, old_spte, new_spte)


def _external_of(it: TdpIter, old_spte: int, new_spte: int, *, shared: bool) -> External:
    """The hook that follows a change (kernel-facts 8.2)."""
    leaf = is_last_spte(new_spte, it.level)
    if not is_shadow_present_pte(new_spte):
        op = "remove"
    elif is_shadow_present_pte(old_spte):
        op = "split"
    else:
        op = "set" if leaf else "link"
    return External(op, it.gfn, it.level, old_spte, new_spte, shared)


def _changed(root: TdpMmuRoot, it: TdpIter, old_spte: int, new_spte: int) -> Trace:
    return Trace("kvm_tdp_mmu_spte_changed", it.gfn, it.level, old_spte, new_spte, as_id=root.as_id)


def _resched(it: TdpIter, shared: bool, flush: bool) -> Coroutine[None]:
    """Let go of mmu_lock and take it again (the second half of tdp_mmu_iter_cond_resched).

    The first half is the caller's: a reschedule is due, and the walk has passed the goal at which it last
    came back (`next_last_level_gfn != yielded_gfn`), else it might never get on.
    """
    if flush:
        yield Flush()
    it.rcu_read_unlock()
    yield Unlock(shared, "resched")
    yield Lock(shared)
    it.rcu_read_lock()
    it.yielded = True


# ---- linking and splitting -----------------------------------------------------------------------------


def tdp_mmu_link_sp(root: TdpMmuRoot, it: TdpIter, row: int) -> Coroutine[int]:
    """Put the empty table in `row` where nothing is, under the shared lock: a page fault needs it.

    Returns 0, -EBUSY or the TDX side's errno; `row` is unused then. Source: tdp_mmu_link_sp, tdp_mmu.c.
    """
    root.pool.init_page(row, root.child_role(it.level - 1), it.gfn)
    return (yield from tdp_mmu_set_spte_atomic(root, it, make_nonleaf_spte(row)))


def iter_cross_boundary(it: TdpIter, start: int, end: int) -> bool:
    """Not fully inside [start, end): the patch's predicate for "crosses".

    Right only for entries the walk visits, which all overlap the range: a leaf far away is "not fully
    inside" either (kernel-facts 6.3).
    """
    return not (it.gfn >= start and it.gfn + (1 << it.shifts[it.level]) <= end)


def tdp_mmu_split_huge_page(root: TdpMmuRoot, it: TdpIter, row: int, *, shared: bool) -> Coroutine[int]:
    """Replace the huge leaf at `it` by the table in `row`, filled before it is linked.

    Returns 0, or -EBUSY if another thread changed the entry (shared lock only; `it.old_spte` is fresh then
    and `row` unused). Source: tdp_mmu_split_huge_page, tdp_mmu.c.
    """
    geometry, huge_spte, child_level = root.geometry, it.old_spte, it.level - 1
    root.pool.init_page(row, root.child_role(child_level), it.gfn)
    # A huge leaf's frame is aligned, so advancing it by addition and by OR are the same thing.
    first = make_small_spte(huge_spte, child_level, 0, geometry)
    step = make_small_spte(huge_spte, child_level, 1, geometry) - first
    root.pool.table(row)[:] = array("Q", range(first, first + geometry.entries * step, step))
    if shared:
        errno = yield from tdp_mmu_set_spte_atomic(root, it, make_nonleaf_spte(row))
    else:
        errno = 0
        yield from _tdp_mmu_set_spte(root, it, make_nonleaf_spte(row))
    yield Trace("kvm_mmu_split_huge_page", it.gfn, it.level, huge_spte, errno=errno)
    return errno


def tdp_mmu_split_huge_pages_root(
    root: TdpMmuRoot,
    start: SupportsIndex,
    end: SupportsIndex,
    target_level: SupportsIndex,
    *,
    shared: bool,
    only_cross_boundary: bool = False,
    check_start: bool = True,
) -> Coroutine[int]:
    """Split the huge leaves of [start, end) down to `target_level`; with `only_cross_boundary`, only those
    that are not fully inside the range (the patch).

    start, end: frames; `end` may lie beyond the root, the walk stops at its last entry. target_level:
    1 to root_level - 1. shared: mmu_lock is held for read, entries change by compare-and-exchange; else for
    write. check_start: a start beyond the root is refused; if False it is taken as the kernel takes it, and
    the walk aliases to a low entry (findings 3). Returns 0 or -ENOMEM; earlier splits then stay, and calling
    again completes them. With start == end inside a huge leaf that leaf is visited and split (a quirk of the
    walk). Raises InvalidTypeError or InvalidValueError for a range that is negative, reversed or starts
    beyond the root, or an unknown level.
    Source: tdp_mmu_split_huge_pages_root, tdp_mmu.c; kernel-facts 5.1, 6.
    """
    span = _check_range(root, start, end, check_start)
    level = root.geometry.level(target_level).number
    if level == root.geometry.root_level:
        raise InvalidValueError(f"a target level lies below the root's {level}; {level} does not")
    return _split_huge_pages_root(root, span.start, span.end, level, shared, only_cross_boundary)


def _check_range(
    root: TdpMmuRoot, start: SupportsIndex, end: SupportsIndex, check_start: bool = True
) -> GfnRange:
    if not root.tdp_mmu_root_count:
        raise InvalidValueError(f"a root is used while somebody has a reference on it; {root} has none left")
    span = GfnRange(as_integer(start, "the start"), as_integer(end, "the end"))
    if check_start:
        check_inside(root, root.geometry.check_start(span.start))
    return span


def _split_huge_pages_root(
    root: TdpMmuRoot, start: int, end: int, target_level: int, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    sp: int | None = None
    it = TdpIter(root, target_level + 1, start)
    visit = Visit(it)
    it.rcu_read_lock()
    try:
        while it.valid and it.gfn < end:
            if (yield visit) and it.next_last_level_gfn != it.yielded_gfn:
                yield from _resched(it, shared, flush=False)
            elif it.old_spte & _HUGE_LEAF != _HUGE_LEAF or (
                only_cross_boundary and not iter_cross_boundary(it, start, end)
            ):
                pass
            elif sp is None:
                it.rcu_read_unlock()
                yield Unlock(shared, "alloc")
                sp = yield AllocTable(root.pool, root.is_mirror)
                yield Lock(shared)
                if sp is None:
                    yield Trace("kvm_mmu_split_huge_page", it.gfn, it.level, it.old_spte, errno=-ENOMEM)
                    return -ENOMEM
                it.rcu_read_lock()
                # Anyone may have changed the entry meanwhile: look at it again, from the root. The
                # progress rule is not asked, since the walk now owns the page it lacked.
                it.yielded = True
            elif (yield from tdp_mmu_split_huge_page(root, it, sp, shared=shared)):
                continue  # lost the compare-and-exchange: the same entry once more, page still in hand
            else:
                sp = None
            it.next()
    finally:
        it.rcu_read_unlock()
        # Given up between the store and the next step, the page is part of the tree already.
        if sp is not None and it.table[it.index] != make_nonleaf_spte(sp):
            root.pool.free(sp)
    if sp is not None:
        yield FreeTable(sp)
    return 0


# ---- zapping -------------------------------------------------------------------------------------------


def tdp_mmu_zap_leafs(
    root: TdpMmuRoot,
    start: SupportsIndex,
    end: SupportsIndex,
    *,
    can_yield: bool = True,
    flush: bool = False,
) -> Coroutine[bool]:
    """Make every leaf that holds frames of [start, end) non-present, whole; mmu_lock is held for write.

    Frames of a leaf that straddles an edge go too: nothing here looks at the edges. Emptied tables stay.
    start, end: frames; `end` is clamped to what the host can address. can_yield: a due reschedule is
    honoured. flush: a flush is owed already. Returns whether a flush is owed at the end. Raises as
    :func:`tdp_mmu_split_huge_pages_root` does. Source: tdp_mmu_zap_leafs, tdp_mmu.c; kernel-facts 5.10.
    """
    span = _check_range(root, start, end)
    return _zap_leafs(root, span.start, min(span.end, tdp_mmu_max_gfn_exclusive()), can_yield, flush)


def _zap_leafs(root: TdpMmuRoot, start: int, end: int, can_yield: bool, flush: bool) -> Coroutine[bool]:
    it = TdpIter(root, PG_LEVEL_4K, start)
    visit = Visit(it)
    it.rcu_read_lock()
    try:
        while it.valid and it.gfn < end:
            due = yield visit
            if due and can_yield and it.next_last_level_gfn != it.yielded_gfn:
                yield from _resched(it, False, flush)
                flush = False
            elif is_shadow_present_pte(it.old_spte) and is_last_spte(it.old_spte, it.level):
                yield from _tdp_mmu_set_spte(root, it, SHADOW_NONPRESENT_VALUE)
                flush = flush or not root.invalid
            it.next()
    finally:
        it.rcu_read_unlock()
    return flush
