"""Split and zap: the functions that change one root's tree.

Each is a coroutine (see `events`): it checks its arguments at once and returns the generator. They follow
tdp_mmu.c of Linux 7.2.12 with patch v3 11/24 applied (S80, S100-S105). With each change of a mirror root
comes an `External` event for the TDX side.

Left out: dirty-bit harvesting, huge-page recovery, NX-huge-page accounting.
"""

from __future__ import annotations

from array import array
from typing import SupportsIndex

from .events import (
    EBUSY,
    EIO,
    ENOMEM,
    AllocTable,
    Coroutine,
    External,
    Flush,
    FreeTable,
    KvmBugOn,
    Lock,
    NeedTopup,
    SetSpte,
    Topup,
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
    spte_to_pfn,
)
from .tdp_iter import TdpIter
from .tree import TdpMmuRoot, check_inside

_HUGE_LEAF = SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK
"""Both bits set: is_shadow_present_pte and is_large_pte in one test, for the walk's millions of visits."""


class KvmBug(RuntimeError):  # noqa: N818 - the kernel's own name
    """The kernel has a KVM_BUG here: the VM is dead, and its tables may be half changed."""


# ---- changing an entry ---------------------------------------------------------------------------------


def tdp_mmu_set_spte_atomic(root: TdpMmuRoot, it: TdpIter, new_spte: int) -> Coroutine[int]:
    """Compare-and-exchange under the shared lock: returns 0, or -EBUSY with `it.old_spte` read again.

    On a mirror entry that is present RFC v5 06 has a KVM_BUG_ON before anything is written (S140). Else, on a
    mirror entry: freeze it, call the TDX side, then write the new value. If the TDX side fails, write
    the old value back and return its errno (S162). A lost freeze refreshes `it.old_spte` too, as RFC v5 02
    has it; before that patch the snapshot stays stale, and a retry compares with it again (S85). In
    a direct root the new value may be a leaf in the place of a table, which goes with all below it.
    """
    old_spte = it.old_spte
    if root.bug_on_present and is_shadow_present_pte(old_spte):
        root.vm_bugged = True
        yield KvmBugOn("is_shadow_present_pte(iter->old_spte)")
        return -EBUSY
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
    yield from _handle_changed_spte(root, it, old_spte, new_spte)
    return 0


def _tdp_mmu_set_spte(root: TdpMmuRoot, it: TdpIter, new_spte: int) -> Coroutine[None]:
    """Store under the exclusive lock, trace, then call the TDX side (S162).

    If the TDX side fails the mirror has already changed: raises KvmBug.
    """
    yield SetSpte(it.pt_path[it.level], it.index, it.gfn, it.level, it.old_spte, new_spte)
    old_spte = it.table[it.index]
    it.table[it.index] = new_spte
    yield _changed(root, it, old_spte, new_spte)
    if root.is_mirror:
        errno = yield _external_of(it, old_spte, new_spte, shared=False)
        if errno:
            raise KvmBug(
                f"the TDX side failed ({errno}) after the mirror entry at {name_gfn(it.gfn)} changed"
            )


def _external_of(it: TdpIter, old_spte: int, new_spte: int, *, shared: bool) -> External:
    """Choose the hook for a change (S161)."""
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


def _handle_changed_spte(root: TdpMmuRoot, it: TdpIter, old_spte: int, new_spte: int) -> Coroutine[None]:
    """Trace a change under the shared lock. If it took a table out of the tree, remove what hangs below it.

    The tables are freed as call_rcu() does, so that another thread inside them meets frozen entries. Left
    out: kvm_mmu_prepare_zap_page, the trace event of each table.
    """
    pool = root.pool
    removed = [spte_to_pfn(old_spte)] if _is_table(old_spte, it.level) else []
    try:
        yield _changed(root, it, old_spte, new_spte)
        if removed:
            yield from _handle_removed_pt(root, removed[0], removed)
    finally:
        for row in removed:  # grows by what an abandoned call has not met yet
            level = pool.level(row)
            removed += [spte_to_pfn(spte) for spte in pool.table(row) if _is_table(spte, level)]
            pool.free_rcu(row)


def _handle_removed_pt(root: TdpMmuRoot, row: int, removed: list[int]) -> Coroutine[None]:
    """Freeze every entry of the table in `row`, empty ones too, so that no other thread stores into it.

    A table below comes right after the entry that linked it, and goes into `removed`. An entry that another
    thread has frozen is tried until that thread has given it another value. Source: handle_removed_pt,
    tdp_mmu.c; S263.
    """
    table, level, first = root.pool.table(row), root.pool.level(row), root.pool.gfn[row]
    for index in range(root.geometry.entries):
        gfn, old_spte = first + index * root.geometry.pages(level), FROZEN_SPTE
        while old_spte == FROZEN_SPTE:
            yield SetSpte(row, index, gfn, level, table[index], FROZEN_SPTE)
            old_spte, table[index] = table[index], FROZEN_SPTE
        below = spte_to_pfn(old_spte) if _is_table(old_spte, level) else None
        removed += [below] if below is not None else []
        yield Trace("kvm_tdp_mmu_spte_changed", gfn, level, old_spte, FROZEN_SPTE, as_id=root.as_id)
        if below is not None:
            yield from _handle_removed_pt(root, below, removed)


def _is_table(spte: int, level: int) -> bool:
    return is_shadow_present_pte(spte) and not is_last_spte(spte, level)


def _resched(it: TdpIter, shared: bool, flush: bool) -> Coroutine[None]:
    """Drop mmu_lock and retake it (the second half of tdp_mmu_iter_cond_resched).

    The caller has done the first half: a reschedule is due, and the goal has moved since the walk last retook
    the lock (`next_last_level_gfn != yielded_gfn`). Without that rule it might never make progress.
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
    """Link the empty table in `row` into an empty entry, under the shared lock; page faults need it.

    Returns 0, or -EBUSY or the TDX side's errno with `row` unused. Source: tdp_mmu_link_sp, tdp_mmu.c.
    """
    root.pool.init_page(row, root.child_role(it.level - 1), it.gfn)
    return (yield from tdp_mmu_set_spte_atomic(root, it, make_nonleaf_spte(row)))


def iter_cross_boundary(it: TdpIter, start: int, end: int) -> bool:
    """Test "not fully inside [start, end)", the patch's predicate for "crosses an edge".

    It is right only for entries that the walk visits, because those overlap the range. A leaf far away is
    "not fully inside" as well (S101).
    """
    return not (it.gfn >= start and it.gfn + (1 << it.shifts[it.level]) <= end)


def tdp_mmu_split_huge_page(root: TdpMmuRoot, it: TdpIter, row: int, *, shared: bool) -> Coroutine[int]:
    """Fill the table in `row` and link it in place of the huge leaf at `it`.

    Returns 0. Under the shared lock it returns -EBUSY if another thread changed the entry, with `it.old_spte`
    up to date, or the TDX side's errno; `row` is then unused. Source: tdp_mmu_split_huge_page, tdp_mmu.c.
    """
    geometry, huge_spte, child_level = root.geometry, it.old_spte, it.level - 1
    root.pool.init_page(row, root.child_role(child_level), it.gfn)
    # A huge leaf's frame is aligned, so adding an offset to it equals ORing it in.
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
    retry_refused: bool = True,
    in_hand: list[int] | None = None,
) -> Coroutine[int]:
    """Split the huge leaves of [start, end) down to `target_level`; with `only_cross_boundary` (the patch)
    only those not fully inside the range.

    start, end: frames. An end beyond the root is accepted: the walk stops at the root's last entry.
    target_level: 1 to root_level - 1. shared: the caller holds mmu_lock for read and entries change by
    compare-and-exchange; else it holds it for write. check_start: refuse a start beyond the root; if False
    the walk aliases to a low entry, as in the kernel (S235). retry_refused: when a split under the read lock
    is refused, by the TDX side or by a KVM_BUG_ON, try the same leaf again, for ever, as the kernel's loop
    does (S105); if False return the refusal (-EIO for a dead VM), which is this model's own choice. in_hand:
    rows allocated beforehand, as M7 proposes (S132); a split takes its page from this list, and drops the
    lock only if the list is empty. Rows left in it stay the caller's. Returns 0, -ENOMEM or that refusal;
    splits made before stay, and another call completes them. A mirror root's split also needs memory of the
    TDX side: see `NeedTopup`. For start == end inside a huge leaf the walk visits and splits that leaf (a
    quirk). Raises InvalidTypeError or InvalidValueError for a range that is negative, reversed or starts
    beyond the root, or an unknown level. Source: tdp_mmu_split_huge_pages_root, tdp_mmu.c; S80, S100-S105.
    """
    span = _check_range(root, start, end, check_start)
    level = root.geometry.level(target_level).number
    if level == root.geometry.root_level:
        raise InvalidValueError(f"a target level lies below the root's {level}; {level} does not")
    return _split_huge_pages_root(
        root, span.start, span.end, level, shared, only_cross_boundary, retry_refused, in_hand or []
    )


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
    root: TdpMmuRoot,
    start: int,
    end: int,
    target_level: int,
    shared: bool,
    only_cross_boundary: bool,
    retry_refused: bool,
    in_hand: list[int],
) -> Coroutine[int]:
    sp: int | None = None
    ret = 0
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
            elif sp is None and not in_hand:
                it.rcu_read_unlock()
                yield Unlock(shared, "alloc")
                sp = yield AllocTable(root.pool, root.is_mirror)
                yield Lock(shared)
                if sp is None:
                    ret = yield from _no_memory(it)
                    break
                it.rcu_read_lock()
                # Anyone may have changed the entry meanwhile, so restart at the root. The progress rule
                # does not apply: the walk now owns the page it lacked.
                it.yielded = True
            elif root.is_mirror and (yield NeedTopup()):
                # The check is made again after each restart, because another thread may drain the cache
                # while the lock is dropped. From the last check to the split the lock is held.
                it.rcu_read_unlock()
                yield Unlock(shared, "top-up")
                granted = yield Topup()
                yield Lock(shared)
                if not granted:
                    ret = yield from _no_memory(it)
                    break
                it.rcu_read_lock()
                it.yielded = True
            else:
                sp = in_hand.pop() if sp is None else sp
                errno = yield from tdp_mmu_split_huge_page(root, it, sp, shared=shared)
                if errno and (errno != -EBUSY or root.vm_bugged) and not retry_refused:
                    yield Trace(f"model: the split is refused ({errno}); the kernel would try again for ever")
                    ret = -EIO if root.vm_bugged else errno
                    break
                if errno:
                    continue  # the same entry again, with the same page
                sp = None
            it.next()
    finally:
        it.rcu_read_unlock()
        # If the walk was abandoned after the store, the page is already part of the tree.
        if sp is not None and it.table[it.index] != make_nonleaf_spte(sp):
            root.pool.free(sp)
    if sp is not None:
        yield FreeTable(sp)
    return ret


def _no_memory(it: TdpIter) -> Coroutine[int]:
    yield Trace("kvm_mmu_split_huge_page", it.gfn, it.level, it.old_spte, errno=-ENOMEM)
    return -ENOMEM


# ---- zapping -------------------------------------------------------------------------------------------


def tdp_mmu_zap_leafs(
    root: TdpMmuRoot,
    start: SupportsIndex,
    end: SupportsIndex,
    *,
    can_yield: bool = True,
    flush: bool = False,
) -> Coroutine[bool]:
    """Empty every leaf that holds frames of [start, end), whole; the caller holds mmu_lock for write.

    A leaf that straddles an edge loses its frames outside the range too: nothing here looks at the edges.
    Emptied tables stay. start, end: frames; `end` is clamped to what the host can address. can_yield: honour
    a due reschedule. flush: a flush is already owed. Returns whether a flush is owed at the end. Raises as
    :func:`tdp_mmu_split_huge_pages_root` does. Source: tdp_mmu_zap_leafs, tdp_mmu.c; S84.
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
