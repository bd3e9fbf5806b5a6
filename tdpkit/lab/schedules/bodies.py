"""What the threads of a scenario do: calls of the engine, with a flush policy around them.

A policy says when a caller of the split flushes the TLBs. It sees what the call announces (a store of a
split, a drop of mmu_lock) and what the call did (how many entries it changed), and may use shared words.
Three rules are the patch's, one for each use (M0); the others are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from tdpkit.engine.conversion import with_huge_edges
from tdpkit.engine.events import (
    ENOMEM,
    AllocTable,
    Coroutine,
    Event,
    Flush,
    FreeTable,
    Lock,
    NeedTopup,
    SetSpte,
    Topup,
    Trace,
    Unlock,
    Visit,
)
from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import Kvm, KvmGfnRange, kvm_mmu_invalidate_begin, kvm_mmu_invalidate_end
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs, kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.spte import VMX_EPT_DIRTY_BIT, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import (
    iter_cross_boundary,
    tdp_mmu_set_spte_atomic,
    tdp_mmu_split_huge_page,
    tdp_mmu_split_huge_pages_root,
    tdp_mmu_zap_leafs,
)
from tdpkit.engine.tree import TdpMmuRoot

from .threads import Give, GuestWrite, Report, Take, Word

T = TypeVar("T")

# ---- flush policies ------------------------------------------------------------------------------------


def _nothing(own: int = 0) -> Coroutine[None]:
    yield from ()


def _flush(own: int = 1) -> Coroutine[None]:
    yield Flush()


def _flush_if_own(own: int) -> Coroutine[None]:
    if own:
        yield Flush()


def _set_flag(own: int = 0) -> Coroutine[None]:
    yield Word("dirty", "write", "set", 1)


def _clear_then_flush(own: int) -> Coroutine[None]:
    if (yield Word("dirty", "read", "test")):
        yield Word("dirty", "write", "clear", 0)
        yield Flush()


def _flush_then_clear(own: int) -> Coroutine[None]:
    if (yield Word("dirty", "read", "test")):
        yield Flush()
        yield Word("dirty", "write", "clear", 0)


def _test_and_clear(own: int) -> Coroutine[None]:
    if (yield Word("dirty", "exchange", "test-and-clear", 0)):
        yield Flush()


def _begin(own: int = 0) -> Coroutine[None]:
    yield Word("begun", "add", "begin", 1)


def _end(own: int = 0) -> Coroutine[None]:
    yield Word("ended", "add", "end", 1)


def _flush_to_generation(own: int) -> Coroutine[None]:
    begun = yield Word("begun", "read", "begun?")
    flushed = yield Word("flushed", "read", "flushed?")
    if flushed < begun:
        ended = yield Word("ended", "read", "ended?")
        yield Flush()
        yield Word("flushed", "max", "flushed", ended)


class Policy(NamedTuple):
    """When a caller flushes. Each part is a coroutine that gets the number of entries the call has changed
    itself, by a split or by a dirty bit cleared: since the last drop of mmu_lock for `before_drop`, in all
    for the others.
    """

    title: str
    rule: str
    source: str
    before_split: Callable[[int], Coroutine[None]] = _nothing
    """Before the store of a split."""
    after_split: Callable[[int], Coroutine[None]] = _nothing
    """After it, lost or won."""
    before_drop: Callable[[int], Coroutine[None]] = _nothing
    """Before each drop of mmu_lock, the last included."""
    at_end: Callable[[int], Coroutine[None]] = _nothing
    """After the last drop of mmu_lock."""
    words: tuple[str, ...] = ()


POLICIES = {
    "none": Policy("no flush", "never", "M0, for the fault path of TDX"),
    "own split": Policy(
        "flush if I split",
        "at the end, if the call itself split",
        "what a status would be for",
        at_end=_flush_if_own,
    ),
    "own split, locked": Policy(
        "flush if I split, under the lock",
        "before each drop of mmu_lock, if the call split since the last flush",
        "ours",
        before_drop=_flush_if_own,
    ),
    "always": Policy(
        "flush always", "at the end, whatever the call did", "M0, for splits for PML", at_end=_flush
    ),
    "flag, clear first": Policy(
        "a dirty flag, cleared before the flush",
        "set before a split; at the end, if it is set: clear, flush",
        "ours",
        before_split=_set_flag,
        at_end=_clear_then_flush,
        words=("dirty",),
    ),
    "flag, flush first": Policy(
        "a dirty flag, cleared after the flush",
        "set before a split; at the end, if it is set: flush, clear",
        "ours",
        before_split=_set_flag,
        at_end=_flush_then_clear,
        words=("dirty",),
    ),
    "flag, atomic": Policy(
        "a dirty flag, tested and cleared at once",
        "set before a split; at the end: test and clear by one instruction, flush if it was set",
        "ours",
        before_split=_set_flag,
        at_end=_test_and_clear,
        words=("dirty",),
    ),
    "generations": Policy(
        "generation counters",
        "count splits begun and ended; at the end flush unless a flush covers all that began",
        "ours",
        before_split=_begin,
        after_split=_end,
        at_end=_flush_to_generation,
        words=("begun", "ended", "flushed"),
    ),
}
"""By name. Where one relies on what the call itself did, "did" is what its status would report."""


# ---- calls ---------------------------------------------------------------------------------------------


def is_split(event: Event) -> bool:
    """Whether the event announces a store that puts a table in the place of a leaf."""
    return (
        isinstance(event, SetSpte)
        and is_shadow_present_pte(event.old_spte)
        and is_last_spte(event.old_spte, event.level)
        and is_shadow_present_pte(event.new_spte)
        and not is_last_spte(event.new_spte, event.level)
    )


def under_policy(
    call: Coroutine[int], policy: Policy, *, shared: bool, plain_store: bool = False
) -> Coroutine[Report]:
    """Take mmu_lock, make `call`, give the lock back; flush as `policy` says; report as a status would.

    plain_store: the call changes entries as under the write lock, while mmu_lock is held for read.
    """
    held = shared or plain_store
    split = own = owed = 0
    yield Lock(held)
    answer = None
    while True:  # as `passed_on`, without a closure: its counters are part of every state of a search
        try:
            event = call.send(answer)
        except StopIteration as stop:
            ret: int = stop.value
            break
        if is_split(event):
            yield from policy.before_split(own)
        if isinstance(event, Unlock):
            yield from policy.before_drop(owed)
            owed = 0
        if isinstance(event, Lock | Unlock):
            event.shared = held
        answer = yield event
        if isinstance(event, Trace):
            changed = event.name == "kvm_tdp_mmu_spte_changed"
            own, owed = own + changed, owed + changed
            if event.name == "kvm_mmu_split_huge_page":
                split += event.errno == 0
                yield from policy.after_split(own)
    flushed = yield from _flushes(policy.before_drop(owed))
    yield Unlock(held, "done")
    flushed |= yield from _flushes(policy.at_end(own))
    return Report(ret, bool(split), flushed)


def passed_on(call: Coroutine[T], each: Callable[[Event], Coroutine[Any]]) -> Coroutine[T]:
    """Make `call` with each of its events passed through `each`, which returns the answer."""
    answer = None
    while True:
        try:
            event = call.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = yield from each(event)


def _flushes(part: Coroutine[None]) -> Coroutine[bool]:
    """Run a part of a policy; whether it flushed."""
    flushed = False

    def each(event: Event) -> Coroutine[Any]:
        nonlocal flushed
        flushed |= isinstance(event, Flush)
        return (yield event)

    yield from passed_on(part, each)
    return flushed


def split_with_pages_in_hand(
    root: TdpMmuRoot, span: GfnRange, pages: Sequence[int], *, shared: bool
) -> Coroutine[int]:
    """The split of a range with rows allocated beforehand (M7); frees those that it did not need."""
    in_hand = [*pages]
    ret = yield from tdp_mmu_split_huge_pages_root(
        root, span.start, span.end, PG_LEVEL_4K, shared=shared, only_cross_boundary=True, in_hand=in_hand
    )
    for row in in_hand:
        root.pool.free(row)
        yield FreeTable(row)
    return ret


def under_lock(call: Coroutine[int]) -> Coroutine[int]:
    """Make `call` with mmu_lock held for write."""
    yield Lock(False)
    ret = yield from call
    yield Unlock(False, "done")
    return ret


def clear_dirty(root: TdpMmuRoot, start: int, end: int) -> Coroutine[int]:
    """Clear the dirty bit of every leaf of [start, end), as dirty logging with PML does; returns 0.

    Ours, and cruder than the kernel's: the engine leaves dirty logging out.
    """
    it = TdpIter(root, PG_LEVEL_4K, start)
    visit = Visit(it)
    while it.valid and it.gfn < end:
        yield visit
        leaf = is_shadow_present_pte(it.old_spte) and is_last_spte(it.old_spte, it.level)
        clean = it.old_spte & ~VMX_EPT_DIRTY_BIT if leaf else it.old_spte
        if clean != it.old_spte and (yield from tdp_mmu_set_spte_atomic(root, it, clean)):
            continue  # another thread, or the guest, was first: look at the entry again
        it.next()
    return 0


def split_and_track(root: TdpMmuRoot, split: Coroutine[int], span: GfnRange) -> Coroutine[int]:
    """Split, then make the range's leaves clean, so that the next write to each is logged."""
    ret = yield from split
    return ret or (yield from clear_dirty(root, span.start, span.end))


def split_and_zap(kvm: Kvm, span: GfnRange) -> Coroutine[tuple[int, bool]]:
    """Split at the edges and zap the range, as a conversion does: an errno, and whether a flush is owed.

    Here of a plain VM's tree; the TDX side of a conversion is left out.
    """
    gfn_range = KvmGfnRange(kvm.slot, span.start, span.end)
    with kvm.slots_lock:
        ret = yield from kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False)
        owed = ret == 0 and (yield from kvm_tdp_mmu_unmap_gfn_range(kvm, gfn_range))
    return ret, owed


def convert(kvm: Kvm, span: GfnRange) -> Coroutine[int]:
    """Split, zap, and flush if the zap owes it."""
    ret, owed = yield from split_and_zap(kvm, span)
    if owed:
        yield Flush()
    return ret


def under_invalidation(kvm: Kvm, span: GfnRange, call: Coroutine[int]) -> Coroutine[int]:
    """Make `call` with mmu_lock held for write, while faults on the range retry.

    The invalidation ends in a lock hold of its own, as in the kernel.
    """
    yield Lock(False)
    kvm_mmu_invalidate_begin(kvm, with_huge_edges(kvm, span))
    ret = yield from call
    yield Unlock(False, "done")
    yield Lock(False)
    kvm_mmu_invalidate_end(kvm)
    yield Unlock(False, "done")
    return ret


def zap(root: TdpMmuRoot, span: GfnRange) -> Coroutine[int]:
    """Zap a range, and flush before mmu_lock is dropped."""
    yield Lock(False)
    if (yield from tdp_mmu_zap_leafs(root, span.start, span.end)):
        yield Flush()
    yield Unlock(False, "done")
    return 0


def guest_write(gfn: int) -> Coroutine[None]:
    """The guest writes once."""
    yield GuestWrite(gfn)


# ---- planted bugs --------------------------------------------------------------------------------------


def split_without_restart(root: TdpMmuRoot, span: GfnRange, *, shared: bool) -> Coroutine[int]:
    """The split of a range with a bug: after it dropped the lock for a page it goes on with the entry that it
    had read before, and does not look again.
    """
    it = TdpIter(root, PG_LEVEL_4K + 1, span.start)
    visit = Visit(it)
    while it.valid and it.gfn < span.end:
        yield visit
        huge = is_shadow_present_pte(it.old_spte) and is_last_spte(it.old_spte, it.level)
        if huge and iter_cross_boundary(it, span.start, span.end):
            yield Unlock(shared, "alloc")
            row = yield AllocTable(root.pool)
            yield Lock(shared)
            if row is None:
                return -ENOMEM
            if (yield from tdp_mmu_split_huge_page(root, it, row, shared=shared)):
                root.pool.free(row)
                yield FreeTable(row)
                continue
        it.next()
    return 0


def one_topup(call: Coroutine[int]) -> Coroutine[int]:
    """Make `call` with a bug: once it topped its cache up, it never asks again whether it has to."""
    topped_up = False

    def each(event: Event) -> Coroutine[Any]:
        nonlocal topped_up
        if isinstance(event, NeedTopup) and topped_up:
            return False
        topped_up |= isinstance(event, Topup)
        return (yield event)

    return (yield from passed_on(call, each))


def under_mutex(call: Coroutine[int]) -> Coroutine[int]:
    """Make `call` with a mutex held outside mmu_lock, and top the cache up before mmu_lock is taken.

    R2 holds such a mutex too, and tops up in the drop of mmu_lock for the page table (S179).
    """

    def each(event: Event) -> Coroutine[Any]:
        return False if isinstance(event, NeedTopup) else (yield event)

    yield Take("mutex")
    yield Topup()
    ret = yield from passed_on(call, each)
    yield Give("mutex")
    return ret
