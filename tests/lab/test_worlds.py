"""Worlds that watch: their counts against the events of the same call, their undoing against a copy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.events import (
    AllocTable,
    External,
    FreeTable,
    Lock,
    SetSpte,
    Trace,
    Unlock,
    Visit,
    World,
    record,
    run,
)
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_FILTER_SHARED, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs, kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import LeafRun, map_leaf, map_run
from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.layouts import Layout
from tdpkit.lab.worlds import CountingWorld, JournalWorld
from tests.oracles import byframe


def vm(layout, kind, **of_pool) -> tuple[Kvm, object]:
    """A VM on `layout`, and the root that holds it."""
    kvm = Kvm(VM_KINDS[kind], layout.geometry, pool=PageTablePool(layout.geometry, **of_pool))
    root = kvm.mirror_root or kvm.direct_root
    for leaf_run in layout.leaves:
        map_run(root, *leaf_run)
    return kvm, root


def call(kvm, step: str, start: int, end: int, shared: bool = False):
    """One of the two calls of the lab, on private memory."""
    gfn_range = KvmGfnRange(kvm.slot, start, end, KVM_FILTER_PRIVATE)
    if step == "split":
        return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=shared)
    return kvm_tdp_mmu_unmap_gfn_range(kvm, gfn_range)


steps = st.lists(
    st.tuples(st.sampled_from(["split", "zap"]), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6
)


def within(frames: int, one: float, other: float) -> tuple[int, int]:
    """A range of the guest, empty now and then (the engine allows it)."""
    start, end = sorted((int(one * (frames - 1)), int(other * (frames - 1))))
    return start, end


# ---- counting ------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, st.sampled_from(["split", "zap"]), st.booleans())
def test_a_counting_world_counts_the_events_of_the_same_call(case, kind, step, shared):
    layout, start, end = case
    one, other = vm(layout, kind)[0], vm(layout, kind)[0]
    world = CountingWorld()
    result = run(call(one, step, start, end, shared), world)
    recording = record(call(other, step, start, end, shared), World())
    assert result == recording.result
    assert world.iterations == len(recording.of(Visit))
    assert world.allocations == len(recording.of(AllocTable))
    assert world.lock_drops == len(recording.of(Unlock)) == len(recording.of(Lock))
    assert world.yields == 0, "nobody asked for a reschedule"
    assert world.external_set_calls == len(recording.of(External))
    assert world.unused_sp_freed is bool(recording.of(FreeTable))
    assert world.failed_cmpxchg == 0


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds)
def test_a_counting_world_keeps_each_split_and_each_zapped_leaf_in_order(case, kind):
    layout, start, end = case
    kvm, root = vm(layout, kind)
    split, zap = CountingWorld(), CountingWorld()
    run(call(kvm, "split", start, end), split)
    run(call(kvm, "zap", start, end), zap)
    frames, splits = byframe.Frames(layout).split(start, end)
    assert split.splits == [(root.row, gfn, level) for gfn, level in splits]
    assert (split.zapped, zap.splits) == ([], [])
    host = {
        gfn + ahead: pfn + ahead
        for gfn, level, count, pfn in layout.leaves
        for ahead in range(count * frames.pages(level))
    }
    held = [x for x in range(start, end) if frames.level[x]]
    taken = sorted({(int(frames.leaf[x]), int(frames.level[x])) for x in held})
    assert zap.zapped == [LeafRun(gfn, level, 1, host[gfn]) for gfn, level in taken]


def test_splits_of_two_roots_are_told_apart_by_the_row_of_their_root():
    kvm = Kvm(KVM_X86_TDX_VM, Geometry(3, 2, 2))
    for root in kvm.tdp_mmu_roots:
        map_leaf(root, 0, 2, 8)
    world = CountingWorld()
    both = KvmGfnRange(kvm.slot, 3, 8, KVM_FILTER_PRIVATE | KVM_FILTER_SHARED)
    run(kvm_split_cross_boundary_leafs(kvm, both, shared=False), world)
    assert world.splits == [(kvm.direct_root.row, 0, 2), (kvm.mirror_root.row, 0, 2)]
    assert world.external_set_calls == 1, "only a mirror entry is followed on the TDX side"


def test_a_lost_compare_and_exchange_counts_as_lost_and_not_as_a_split():
    _, root = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 1, 0),), 32), "plain")

    class Rival(CountingWorld):
        """Clears the entry's Dirty bit just before the first store."""

        def set_spte(self, event: SetSpte) -> None:
            super().set_spte(event)
            root.pool.table(event.row)[event.index] &= ~(1 << 9)

    world = Rival()
    run(tdp_mmu_split_huge_pages_root(root, 3, 8, 1, shared=True, only_cross_boundary=True), world)
    assert (world.failed_cmpxchg, world.splits) == (1, [(root.row, 0, 2)])


def test_a_page_that_was_not_needed_after_all_is_noted():
    _, root = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 1, 0),), 32), "plain")

    class Rival(CountingWorld):
        """Zaps the leaf while the lock is dropped for the page."""

        def unlock(self, event: Unlock) -> None:
            super().unlock(event)
            run(tdp_mmu_zap_leafs(root, 0, 8))

    world = Rival()
    run(tdp_mmu_split_huge_pages_root(root, 3, 8, 1, shared=False, only_cross_boundary=True), world)
    assert (world.unused_sp_freed, world.allocations, world.splits) == (True, 1, [])


def test_a_reschedule_is_a_lock_drop_and_a_yield_and_a_page_is_only_a_lock_drop():
    _, root = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 4, 0),), 32), "plain")

    class Busy(CountingWorld):
        """A reschedule is due at the third visit."""

        def visit(self, event: Visit) -> bool:
            super().visit(event)
            return self.iterations == 3

    world = Busy()
    run(tdp_mmu_split_huge_pages_root(root, 3, 29, 1, shared=False, only_cross_boundary=True), world)
    assert (world.yields, world.allocations, world.lock_drops) == (1, 2, 3)


# ---- taking back ---------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.layouts(), byframe.kinds, steps, st.integers(0, 3))
def test_undo_gives_back_the_same_machine_after_any_mix_of_splits_and_zaps(layout, kind, mix, shuffle):
    kvm, _ = vm(layout, kind, capacity=1, shuffle=shuffle)
    before = byframe.memory(kvm.pool)
    world = JournalWorld(kvm.pool)
    for step, one, other in mix:
        run(call(kvm, step, *within(layout.frames, one, other)), world)
    world.undo()
    assert byframe.memory(kvm.pool) == before


@settings(max_examples=150)
@given(byframe.layouts(), byframe.kinds, steps)
def test_journals_taken_back_in_reverse_order_each_give_back_what_they_found(layout, kind, mix):
    kvm, _ = vm(layout, kind)
    found, journals = [], []
    for step, one, other in mix:
        found.append(byframe.memory(kvm.pool))
        journals.append(JournalWorld(kvm.pool))
        run(call(kvm, step, *within(layout.frames, one, other)), journals[-1])
    for before, journal in zip(reversed(found), reversed(journals), strict=True):
        journal.undo()
        assert byframe.memory(kvm.pool) == before


def test_undo_does_change_something_and_a_second_undo_changes_nothing():
    kvm, _ = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 4, 0),), 32), "TD")
    before, world = byframe.memory(kvm.pool), JournalWorld(kvm.pool)
    run(call(kvm, "split", 3, 29), world)
    run(call(kvm, "zap", 3, 29), world)
    assert byframe.memory(kvm.pool) != before
    world.undo()
    assert byframe.memory(kvm.pool) == before
    run(call(kvm, "split", 3, 29), World())
    after = byframe.memory(kvm.pool)
    world.undo()
    assert byframe.memory(kvm.pool) == after, "what another world did is not this journal's to take back"


def test_an_entry_written_twice_gets_its_first_value_back():
    kvm, root = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 1, 0),), 32), "plain")
    table, world = kvm.pool.table(root.row), JournalWorld(kvm.pool)
    first = table[0]
    for value in (1 << 63, 5, 1 << 63 | 7):
        world.answer(SetSpte(root.row, 0, 0, 2, table[0], value))
        table[0] = value
    world.undo()
    assert table[0] == first


def test_undo_takes_back_a_split_that_ran_out_of_pages_midway():
    kvm, _ = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 4, 0),), 32), "plain")

    class OnePage(JournalWorld):
        """Has one page to give."""

        def alloc_table(self, event: AllocTable) -> int | None:
            return super().alloc_table(event) if not self.rows else None

    before, world = byframe.memory(kvm.pool), OnePage(kvm.pool)
    assert run(call(kvm, "split", 3, 29), world) == -12
    assert byframe.memory(kvm.pool) != before
    world.undo()
    assert byframe.memory(kvm.pool) == before


def test_a_journal_counts_as_its_parent_does():
    layout = Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 4, 0),), 32)
    one, other = vm(layout, "TD")[0], vm(layout, "TD")[0]
    counting, journal = CountingWorld(), JournalWorld(other.pool)
    run(call(one, "split", 3, 29), counting)
    run(call(other, "split", 3, 29), journal)
    for name in ("iterations", "allocations", "lock_drops", "splits", "zapped", "external_set_calls"):
        assert getattr(journal, name) == getattr(counting, name)


def test_a_trace_that_is_no_split_is_no_split():
    world = CountingWorld()
    world.answer(Trace("kvm_tdp_mmu_spte_changed", 3, 2))
    assert (world.splits, world.failed_cmpxchg) == ([], 0)


@pytest.mark.parametrize("kind", VM_KINDS)
def test_an_empty_range_inside_a_leaf_is_taken_back_too(kind):
    """S234: the walk splits a leaf strictly around an empty range."""
    kvm, _ = vm(Layout(Geometry(3, 2, 2), (LeafRun(0, 2, 1, 0),), 32), kind)
    before, world = byframe.memory(kvm.pool), JournalWorld(kvm.pool)
    run(call(kvm, "split", 3, 3), world)
    assert [split[1:] for split in world.splits] == [(0, 2)]
    world.undo()
    assert byframe.memory(kvm.pool) == before
