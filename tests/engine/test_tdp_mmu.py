"""Splitting and zapping one root, against nested lists that were changed without walking.

The exact result of a boundary split is the forced closure (S232): every leaf that holds an edge of the
range strictly inside, and its children as far as they do. `brute.split_at_edges` computes it leaf by leaf.
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.events import (
    ENOMEM,
    AllocTable,
    Event,
    External,
    Flush,
    FreeTable,
    Lock,
    Recording,
    SetSpte,
    Trace,
    Unlock,
    Visit,
    World,
)
from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.engine.pool import ROLE_INVALID, PageTablePool
from tdpkit.engine.tdp_mmu import KvmBug, tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_run, tables_per_level, translate
from tests.oracles import brute
from tests.oracles.worlds import Finite, Impatient, Interfering, Refusing, Stubborn, record, run

TOY = Geometry(2, 3, 3)
CASES = brute.cases(root_levels=(2, 4))  # a root of one level has nothing to split


def boundary_split(root: TdpMmuRoot, start: int, end: int, *, shared: bool = True):
    return tdp_mmu_split_huge_pages_root(root, start, end, 1, shared=shared, only_cross_boundary=True)


def plain_split(root: TdpMmuRoot, start: int, end: int, target_level: int = 1, *, shared: bool = True):
    return tdp_mmu_split_huge_pages_root(root, start, end, target_level, shared=shared)


def splits(recording: Recording) -> list[tuple[int, int]]:
    """(gfn, level) of each split that succeeded, in order."""
    traces = [trace for trace in recording.of(Trace) if trace.name == "kvm_mmu_split_huge_page"]
    return [(trace.gfn, trace.level) for trace in traces if not trace.errno]


def number(recording: Recording, kind: type[Event]) -> int:
    return len(recording.of(kind))


def assert_settled(root: TdpMmuRoot) -> None:
    """No table is lost (each row in use is met on the way down), and nobody holds RCU."""
    assert root.pool.rows_in_use == sum(brute.tables_per_level(root.geometry, brute.read(root)))
    assert root.pool.rcu_readers == 0


# ---- splitting at the edges of a range -----------------------------------------------------------------


@settings(max_examples=150)
@given(CASES, st.booleans())
def test_a_boundary_split_does_what_the_edges_force_and_nothing_else(case, shared):
    """To the bit: children keep the parent's bits, links have a non-leaf's, all else is untouched."""
    layout, start, end = case
    geometry, root = layout.geometry, brute.plant(*layout)
    recording = record(boundary_split(root, start, end, shared=shared))
    table, forced = brute.split_at_edges(*layout, start, end)
    after = brute.read(root)
    assert recording.result == 0
    assert after == table
    assert splits(recording) == forced  # a parent before its children, in order of frames
    for gfn, level, _ in brute.leaves(geometry, after):
        assert not brute.holds_inside(geometry, gfn, level, (start, end))
    assert brute.frames(geometry, after) == brute.frames(*layout)


@settings(max_examples=100)
@given(CASES, st.booleans())
def test_a_boundary_split_costs_the_visits_of_the_final_table_and_one_descent_per_split(case, shared):
    """S230, exact on all recorded cases; one table and one release of the lock per split."""
    layout, start, end = case
    root = brute.plant(*layout)
    recording = record(boundary_split(root, start, end, shared=shared))
    table, forced = brute.split_at_edges(*layout, start, end)
    final = len(list(brute.entries(layout.geometry, table, start, end, min_level=2)))
    descents = sum(layout.geometry.root_level - level + 1 for _, level in forced)
    assert number(recording, Visit) == final + descents
    assert {number(recording, kind) for kind in (AllocTable, Unlock, Lock)} == {len(forced)}
    assert {number(recording, kind) for kind in (FreeTable, Flush, External)} == {0}
    assert_settled(root)


@settings(max_examples=60)
@given(CASES, st.booleans(), st.integers(0, 6))
def test_a_split_takes_its_pages_from_those_in_hand_and_drops_the_lock_only_without_one(case, shared, pages):
    """The tree and the splits are those of pages on demand; what was not needed stays the caller's (M7)."""
    layout, start, end = case
    root = brute.plant(*layout)
    in_hand = [root.pool.alloc() for _ in range(pages)]
    call = tdp_mmu_split_huge_pages_root(
        root, start, end, 1, shared=shared, only_cross_boundary=True, in_hand=in_hand
    )
    recording = record(call)
    table, forced = brute.split_at_edges(*layout, start, end)
    assert recording.result == 0
    assert brute.read(root) == table
    assert splits(recording) == forced
    on_demand = max(0, len(forced) - pages)
    assert {number(recording, kind) for kind in (AllocTable, Unlock, Lock)} == {on_demand}
    assert len(in_hand) == max(0, pages - len(forced))
    for row in in_hand:
        root.pool.free(row)
    assert_settled(root)


@settings(max_examples=40)
@given(CASES)
def test_a_boundary_split_done_again_finds_nothing_to_do(case):
    layout, start, end = case
    root = brute.plant(*layout)
    run(boundary_split(root, start, end))
    before = brute.memory(root.pool)
    again = record(boundary_split(root, start, end))
    assert (again.result, splits(again), number(again, AllocTable)) == (0, [], 0)
    assert brute.memory(root.pool) == before


@settings(max_examples=40)
@given(CASES)
def test_the_lower_edge_alone_is_an_empty_range(case):
    """Start == end inside a leaf is visited and split: no no-op, but the quirk of S234."""
    layout, x, _ = case
    root = brute.plant(*layout)
    recording = record(boundary_split(root, x, x))
    table, forced = brute.split_at_edges(*layout, x, x)
    assert splits(recording) == forced
    assert brute.read(root) == table


@settings(max_examples=40)
@given(CASES, st.integers(0, 2**50))
def test_an_end_beyond_the_root_is_no_edge(case, beyond):
    layout, start, _ = case
    root, same = brute.plant(*layout), brute.plant(*layout)
    there = record(boundary_split(root, start, layout.geometry.root_pages + beyond))
    at_the_end = record(boundary_split(same, start, layout.geometry.root_pages))
    assert splits(there) == splits(at_the_end) == brute.split_at_edges(*layout, start, start)[1]
    assert number(there, Visit) == number(at_the_end, Visit)
    assert brute.read(root) == brute.read(same)


@settings(max_examples=60)
@given(CASES, st.booleans(), st.booleans())
def test_a_table_is_filled_before_it_is_linked(case, shared, mirror):
    """A vCPU that reads without the lock must never find a half-filled table."""
    layout, start, end = case
    root = brute.plant(*layout, is_mirror=mirror)
    frames, width = brute.frames(*layout), 2**layout.geometry.index_bits

    class Watching(Finite):
        def set_spte(self, event: SetSpte) -> None:
            if event.new_spte == brute.FROZEN:
                return
            row, size = (event.new_spte & brute.FRAME) >> 12, brute.pages(layout.geometry, event.level - 1)
            children = root.pool.table(row).tolist()
            assert root.pool.table(event.row)[event.index] != event.new_spte
            assert [raw & ~brute.LARGE for raw in children] == [
                frames[event.gfn + i * size] for i in range(width)
            ]
            assert {bool(raw & brute.LARGE) for raw in children} == {event.level > 2}
            assert (root.pool.role[row] & 0xF, root.pool.gfn[row]) == (event.level - 1, event.gfn)

    run(boundary_split(root, start, end, shared=shared), Watching())


ONE_1G, TWO_1G, FOUR_1G, SOME_2M = (3, 1), (3, 2), (3, 4), (2, 8)  # level and number of the leaves from 0 on


@pytest.mark.parametrize(
    ("mapped", "start", "end", "entries", "collateral"),
    [
        (ONE_1G, 0, 0x40000, [], 0),
        (ONE_1G, 0x200, 0x400, [(0, 3)], 261_632),
        (ONE_1G, 1, 0x40000, [(0, 3), (0, 2)], 1),
        (ONE_1G, 0, 0x3FFFF, [(0, 3), (0x3FE00, 2)], 1),
        (ONE_1G, 0x207, 0x209, [(0, 3), (0x200, 2)], 262_142),
        (ONE_1G, 0x3FF, 0x401, [(0, 3), (0x200, 2), (0x400, 2)], 262_142),
        (TWO_1G, 0x3FFFF, 0x40001, [(0, 3), (0x3FE00, 2), (0x40000, 3), (0x40000, 2)], 524_286),
        (FOUR_1G, 0x200, 0xC0200, [(0, 3), (0xC0000, 3)], 262_144),
        (FOUR_1G, 7, 0xC0005, [(0, 3), (0, 2), (0xC0000, 3), (0xC0000, 2)], 262_146),
        (SOME_2M, 0, 0x200, [], 0),
        (SOME_2M, 1, 0x1FF, [(0, 2)], 2),
        (SOME_2M, 0x1FF, 0x201, [(0, 2), (0x200, 2)], 1022),
        (SOME_2M, 0, 0x201, [(0x200, 2)], 511),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_the_vectors_of_the_fact_sheet_hold(mapped, start, end, entries, collateral, shared):
    """S142: what is split, in order, and what a zap without the split takes besides the range."""

    def guest() -> TdpMmuRoot:
        root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
        map_run(root, 0, *mapped, 2**30)
        return root

    def frames(root: TdpMmuRoot) -> int:
        return sum(count * X86_4LEVEL.pages(level) for _, level, count, _ in leaf_runs(root))

    def lost(root: TdpMmuRoot) -> int:
        before = frames(root)
        run(tdp_mmu_zap_leafs(root, start, end))
        return before - frames(root) - (end - start)

    careful = guest()
    recording = record(boundary_split(careful, start, end, shared=shared))
    assert splits(recording) == entries
    assert number(recording, AllocTable) == len(entries)
    assert lost(careful) == 0
    assert lost(guest()) == collateral


@pytest.mark.parametrize(
    ("level", "count", "start", "end", "visits", "tables"),
    [
        (2, 2048, "28K", "3G+20K", 1548, 2),  # [7, 3G+5) of S133
        (3, 1, "2M+4K", "2M+12K", 8, 2),  # 8 KB inside one 2M block: S139
        (3, 1, "4M-4K", "4M+4K", 12, 3),  # ... straddling a 2M edge
        (3, 2, "1G-4K", "1G+4K", 15, 4),  # ... straddling a 1G edge
        (3, 16384, "2T+4K", "14T+4K", 12_837, 4),  # the thread's range over 1G leaves: S230
    ],
)
def test_the_boundary_walk_costs_what_was_measured(level, count, start, end, visits, tables):
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    map_run(root, 0, level, count, 0)
    recording = record(boundary_split(root, parse_gfn(start), parse_gfn(end)))
    assert (number(recording, Visit), number(recording, AllocTable)) == (visits, tables)


# ---- splitting down to a level -------------------------------------------------------------------------


@settings(max_examples=80)
@given(CASES, st.booleans(), st.data())
def test_a_plain_split_breaks_every_leaf_of_the_range_above_the_target(case, shared, data):
    layout, start, end = case
    geometry, root = layout.geometry, brute.plant(*layout)
    target = data.draw(st.integers(1, geometry.root_level - 1))
    recording = record(plain_split(root, start, end, target, shared=shared))
    table, broken = brute.split(
        *layout,
        lambda gfn, level: level > target and brute.touches(gfn, brute.pages(geometry, level), start, end),
    )
    assert recording.result == 0
    assert brute.read(root) == table
    assert splits(recording) == broken
    assert brute.frames(geometry, table) == brute.frames(*layout)
    final = len(list(brute.entries(geometry, table, start, end, min_level=target + 1)))
    assert number(recording, Visit) == final + sum(geometry.root_level - level + 1 for _, level in broken)
    assert len(broken) == number(recording, AllocTable) == number(recording, Unlock)
    assert_settled(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "count", "tables", "visits"), [(3, 16, 8208, 32_817), (2, 8192, 8192, 32_785), (2, 1, 1, 6)]
)
def test_sixteen_gigabytes_split_to_4k_take_the_tables_of_the_fact_sheet(level, count, tables, visits):
    """8208 from 1G leaves, not the 8192 of the review (S133)."""
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    map_run(root, 0, level, count, 0)
    end = count * X86_4LEVEL.pages(level)

    class Counting(World):
        visits = tables = drops = 0

        def visit(self, event: Visit) -> bool:
            self.visits += 1
            return False

        def alloc_table(self, event: AllocTable) -> int | None:
            self.tables += 1
            return super().alloc_table(event)

        def unlock(self, event: Unlock) -> None:
            self.drops += 1

    world = Counting()
    assert run(plain_split(root, 0, end), world) == 0
    assert (world.tables, world.drops, world.visits) == (tables, tables, visits)
    assert leaf_runs(root) == [(0, 1, end, 0)]


# ---- no memory -----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(CASES, st.booleans())
def test_without_memory_earlier_splits_stay_nothing_leaks_and_a_retry_completes(case, shared):
    layout, start, end = case
    table, forced = brute.split_at_edges(*layout, start, end)
    for k in range(1, len(forced) + 1):
        root = brute.plant(*layout)
        recording = record(boundary_split(root, start, end, shared=shared), Refusing(k))
        until_then, _ = brute.split(*layout, lambda *leaf, k=k: leaf in forced[: k - 1])
        assert recording.result == -ENOMEM
        assert splits(recording) == forced[: k - 1]
        assert brute.read(root) == until_then
        assert number(recording, Lock) == number(recording, Unlock) == k  # held on return
        last = recording.events[-1]
        assert (last.name, last.errno) == ("kvm_mmu_split_huge_page", -ENOMEM)
        assert (last.gfn, last.level) == forced[k - 1]
        assert_settled(root)
        assert run(boundary_split(root, start, end, shared=shared)) == 0
        assert brute.read(root) == table
        assert_settled(root)


# ---- rescheduling --------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(CASES, st.booleans())
def test_a_reschedule_at_any_visit_changes_neither_tree_nor_splits(case, shared):
    layout, start, end = case
    table, forced = brute.split_at_edges(*layout, start, end)
    calm = number(record(boundary_split(brute.plant(*layout), start, end)), Visit)
    worlds = [Impatient(lambda n, at=at: n == at) for at in range(1, min(calm, 20) + 1)]
    for world in [*worlds, Impatient(), Impatient(lambda n: n % 2 == 0)]:
        root = brute.plant(*layout)
        recording = record(boundary_split(root, start, end, shared=shared), world)
        assert recording.result == 0
        assert brute.read(root) == table
        assert splits(recording) == forced
        assert number(recording, AllocTable) == len(forced)
        assert number(recording, Flush) == 0
        assert_settled(root)


def goals_of_rescheds(events: list[Event]) -> list[int]:
    """The goal at each reschedule: the walk goes on there."""
    return [
        visit.iter.next_last_level_gfn
        for visit, event in pairwise(event for event in events if not isinstance(event, Flush))
        if isinstance(event, Unlock) and event.reason == "resched"
    ]


@settings(max_examples=60)
@given(CASES)
def test_a_walk_that_is_always_asked_to_resched_gets_on_each_time(case):
    """The progress rule of S65; without it this test would not end."""
    layout, start, end = case
    for call, min_level in ((boundary_split, 2), (tdp_mmu_zap_leafs, 1)):
        goals = goals_of_rescheds(record(call(brute.plant(*layout), start, end), Impatient()).events)
        assert all(before < after for before, after in pairwise([start, *goals]))
        assert goals or all(gfn <= start for gfn, *_ in brute.entries(*layout, start, end, min_level))


@settings(max_examples=60)
@given(CASES, st.sampled_from([boundary_split, plain_split, tdp_mmu_zap_leafs]))
def test_a_walk_holds_rcu_while_it_looks_at_tables_and_not_while_it_lets_go_of_the_lock(case, call):
    """Else a table on its path could be handed out again, or an allocation would sleep inside RCU."""
    layout, start, end = case
    root = brute.plant(*layout)

    class Watching(Impatient):
        def answer(self, event: Event) -> object:
            if not isinstance(event, Flush):
                inside = not isinstance(event, (Unlock, AllocTable, Lock, FreeTable))
                assert root.pool.rcu_readers == inside, event
            return super().answer(event)

    run(call(root, start, end), Watching())
    assert root.pool.rcu_readers == 0


# ---- other threads, under the shared lock --------------------------------------------------------------


def flip_dirty(root: TdpMmuRoot, event: SetSpte) -> None:
    root.pool.table(event.row)[event.index] ^= 1 << 9


def zap_it(root: TdpMmuRoot, event: SetSpte) -> None:
    root.pool.table(event.row)[event.index] = brute.HOLE


def freeze(root: TdpMmuRoot, event: SetSpte) -> None:
    root.pool.table(event.row)[event.index] = brute.FROZEN


def split_it(root: TdpMmuRoot, event: SetSpte) -> None:
    """One level, with a table of its own."""
    last = event.gfn + brute.pages(root.geometry, event.level)
    run(plain_split(root, event.gfn, last, event.level - 1))


OTHERS = {
    flip_dirty: lambda geometry, level, raw: brute.small_leaves(geometry, raw ^ 1 << 9, level),
    zap_it: lambda geometry, level, raw: brute.HOLE,
    freeze: lambda geometry, level, raw: brute.FROZEN,
    split_it: lambda geometry, level, raw: brute.small_leaves(geometry, raw, level),
}


@settings(max_examples=30)
@given(case=CASES)
@pytest.mark.parametrize("act", OTHERS, ids=lambda act: act.__name__)
def test_a_lost_compare_and_exchange_is_tried_again_with_the_page_in_hand(act, case):
    """A plain store would undo what the other thread did; a new page per attempt would leak."""
    layout, start, end = case
    geometry, forced = layout.geometry, brute.split_at_edges(*layout, start, end)[1]
    for k in range(1, len(forced) + 1):
        root = brute.plant(*layout)
        world = Interfering(k, lambda event, root=root: act(root, event))
        recording = record(boundary_split(root, start, end), world)
        victim = world.victim

        def change(gfn: int, level: int, raw: int, victim=victim) -> brute.Entry:
            if (gfn, level) == victim and brute.is_leaf(raw):
                return OTHERS[act](geometry, level, raw)
            if brute.is_leaf(raw) and level > 1 and brute.holds_inside(geometry, gfn, level, (start, end)):
                return brute.small_leaves(geometry, raw, level)
            return raw

        traces = [trace for trace in recording.of(Trace) if trace.name == "kvm_mmu_split_huge_page"]
        lost = [(trace.gfn, trace.level) for trace in traces if trace.errno]
        unused = number(recording, AllocTable) - len(splits(recording))
        assert victim == forced[k - 1]
        assert recording.result == 0
        assert brute.read(root) == brute.rebuild(*layout, change)
        assert lost == [victim]
        assert [trace.errno for trace in traces if trace.errno] == [-16]  # -EBUSY
        assert (victim in splits(recording)) == (act is flip_dirty)
        assert number(recording, FreeTable) == unused <= 1
        assert_settled(root)


def test_an_entry_that_comes_back_to_its_old_value_is_exchanged():
    """A compare-and-exchange compares values; nobody counts how often they changed."""
    layout = brute.Layout(TOY, brute.full(TOY, 2))
    root = brute.plant(*layout)

    def there_and_back(event: SetSpte) -> None:
        table = root.pool.table(event.row)
        table[event.index], kept = brute.HOLE, table[event.index]
        table[event.index] = kept

    recording = record(boundary_split(root, 1, 4), Interfering(1, there_and_back))
    assert splits(recording) == [(0, 2)]
    assert brute.read(root) == brute.split_at_edges(*layout, 1, 4)[0]
    assert number(recording, Visit) == number(record(boundary_split(brute.plant(*layout), 1, 4)), Visit)


@settings(max_examples=40)
@given(CASES, st.booleans())
def test_a_leaf_that_another_thread_split_while_the_lock_was_free_is_left_alone(case, shared):
    """The first thread then splits nothing, frees its page and returns 0 all the same (S211)."""
    layout, start, end = case
    table, forced = brute.split_at_edges(*layout, start, end)
    for k in range(1, len(forced) + 1):
        root = brute.plant(*layout)

        class Overtaken(Finite):
            left = k

            def alloc_table(self, event: AllocTable, root=root) -> int | None:
                self.left -= 1
                if self.left == 0:
                    run(boundary_split(root, start, end, shared=shared))
                return super().alloc_table(event)

        recording = record(boundary_split(root, start, end, shared=shared), Overtaken())
        assert recording.result == 0
        assert splits(recording) == forced[: k - 1]
        assert (number(recording, AllocTable), number(recording, FreeTable)) == (k, 1)
        assert isinstance(recording.events[-1], FreeTable)
        assert brute.read(root) == table
        assert_settled(root)


@settings(max_examples=100)
@given(CASES, st.data(), st.lists(st.booleans(), max_size=60))
def test_two_splitters_in_any_interleaving_leave_what_both_edges_force(case, data, turns):
    layout, start, end = case
    other_range = data.draw(brute.ranges(layout))
    root, world = brute.plant(*layout), Finite()
    threads = [boundary_split(root, start, end), boundary_split(root, *other_range)]
    answers: list[object] = [None, None]
    results: dict[int, int] = {}
    for who in [*turns, *[False, True] * 2000]:
        if who in results:
            continue
        try:
            answers[who] = world.answer(threads[who].send(answers[who]))
        except StopIteration as stop:
            results[who] = stop.value
    assert results == {False: 0, True: 0}
    forced = {start, end, *other_range}
    assert (
        brute.read(root)
        == brute.split(*layout, lambda *leaf: brute.holds_inside(layout.geometry, *leaf, forced))[0]
    )
    assert_settled(root)


# ---- a walk that is given up ---------------------------------------------------------------------------


def given_up_after(coroutine, events: int) -> Event | None:
    """Drive `coroutine` to its event number `events` (from 0) and close it there; None if it ended before."""
    world, answer = Finite(), None
    try:
        for _ in range(events):
            answer = world.answer(coroutine.send(answer))
        last = coroutine.send(answer)
    except StopIteration:
        return None
    coroutine.close()
    return last


@pytest.mark.parametrize("mirror", [False, True], ids=["direct", "mirror"])
@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
def test_an_abandoned_split_leaks_no_table_and_no_reader_and_never_frees_a_linked_one(shared, mirror):
    """An explorer of schedules gives coroutines up at every event; the tree must stay one."""
    layout = brute.Layout(TOY, [brute.leaf(64, 3), brute.leaf(256, 3), brute.HOLE, brute.HOLE])
    frames, at = brute.frames(*layout), 0
    while True:
        root = brute.plant(*layout, is_mirror=mirror)
        last = given_up_after(boundary_split(root, 3, 21, shared=shared), at)
        after = brute.read(root)
        assert_settled(root)
        frozen = [(g, n) for g, n, entry in brute.entries(TOY, after) if entry == brute.FROZEN]
        assert len(frozen) <= (mirror and shared)  # given up in the middle of the TDX side's work
        missing = {g + i for g, n in frozen for i in range(brute.pages(TOY, n))}
        assert brute.frames(TOY, after) == {g: raw for g, raw in frames.items() if g not in missing}
        if last is None:
            break
        at += 1
    assert at > 30
    assert after == brute.split_at_edges(*layout, 3, 21)[0]


def test_an_abandoned_zap_leaves_no_reader():
    layout, at = brute.Layout(TOY, brute.full(TOY, 2)), 0
    while True:
        root = brute.plant(*layout)
        last = given_up_after(tdp_mmu_zap_leafs(root, 1, 30), at)
        assert_settled(root)
        if last is None:
            break
        at += 1
    assert at > 10


def test_a_split_that_was_never_started_holds_nothing():
    root = brute.plant(TOY, brute.full(TOY, 2))
    boundary_split(root, 1, 2).close()
    tdp_mmu_zap_leafs(root, 1, 2).close()
    assert_settled(root)


def test_a_world_that_raises_gets_its_exception_and_nothing_leaks():
    class Failing(Finite):
        def lock(self, event: Lock) -> None:
            raise KeyboardInterrupt

    root = brute.plant(TOY, brute.full(TOY, 2))
    coroutine = boundary_split(root, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        run(coroutine, Failing())
    coroutine.close()
    assert_settled(root)


# ---- zapping -------------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(CASES)
def test_a_zap_takes_the_leaves_that_touch_the_range_and_nothing_else(case):
    """To the bit: a zapped entry is the non-present value, not 0; emptied tables stay."""
    layout, start, end = case
    root = brute.plant(*layout)
    recording = record(tdp_mmu_zap_leafs(root, start, end))
    table, gone = brute.zap(*layout, start, end)
    assert brute.read(root) == table
    assert [(store.gfn, store.level) for store in recording.of(SetSpte)] == gone
    assert {store.new_spte for store in recording.of(SetSpte)} <= {0x8000_0000_0000_0000}
    assert recording.result is bool(gone)
    assert number(recording, Visit) == len(list(brute.entries(*layout, start, end)))
    assert number(recording, Flush) == number(recording, Unlock) == number(recording, External) == 0
    assert_settled(root)


def test_a_zap_takes_a_straddling_leaf_whole():
    """Eight kilobytes in a 1G leaf lose 262 142 frames besides (S238)."""
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    map_run(root, 0, 3, 2, 0)
    run(tdp_mmu_zap_leafs(root, 0x207, 0x209))
    assert leaf_runs(root) == [(0x40000, 3, 1, 0x40000)]


@settings(max_examples=60)
@given(CASES)
def test_after_a_boundary_split_a_zap_takes_the_range_and_not_a_frame_more(case):
    layout, start, end = case
    root = brute.plant(*layout)
    run(boundary_split(root, start, end))
    run(tdp_mmu_zap_leafs(root, start, end))
    kept = {gfn: raw for gfn, raw in brute.frames(*layout).items() if not start <= gfn < end}
    assert brute.frames(layout.geometry, brute.read(root)) == kept


def test_a_zap_of_the_empty_range_inside_a_leaf_takes_that_leaf():
    root = brute.plant(TOY, brute.full(TOY, 2))
    assert run(tdp_mmu_zap_leafs(root, 6, 6)) is True
    assert translate(root, 4) is None
    assert run(tdp_mmu_zap_leafs(root, 12, 12)) is False
    assert translate(root, 12) is not None


@settings(max_examples=80)
@given(CASES, st.booleans(), st.lists(st.booleans(), min_size=1, max_size=7))
def test_a_zap_flushes_what_it_owes_before_it_lets_go_of_the_lock(case, flush, due):
    """Another thread would see the frames gone and the TLBs still full."""
    layout, start, end = case
    root = brute.plant(*layout)
    call = tdp_mmu_zap_leafs(root, start, end, flush=flush)
    recording = record(call, Impatient(lambda n: due[n % len(due)]))
    owed, flushed = flush, False
    for event in recording.events:
        if isinstance(event, Unlock):
            assert event == Unlock(shared=False, reason="resched")
            assert flushed == owed
            owed = False
        flushed = isinstance(event, Flush)
        owed = owed or isinstance(event, SetSpte)
    assert recording.result is owed
    assert number(recording, Flush) <= number(recording, Unlock) == number(recording, Lock)
    assert brute.read(root) == brute.zap(*layout, start, end)[0]
    assert_settled(root)


def test_a_zap_that_may_not_yield_does_not():
    root = brute.plant(TOY, brute.full(TOY, 1))
    calm = record(tdp_mmu_zap_leafs(brute.plant(TOY, brute.full(TOY, 1)), 0, 64))
    recording = record(tdp_mmu_zap_leafs(root, 0, 64, can_yield=False), Impatient())
    assert number(recording, Unlock) == number(recording, Flush) == 0
    assert number(recording, Visit) == number(calm, Visit)
    assert recording.result is True


@pytest.mark.parametrize("owed", [False, True])
def test_a_zap_in_an_invalid_root_owes_no_flush_of_its_own(owed):
    """A vCPU flushes when it loads a new root (S210)."""
    root = brute.plant(TOY, brute.full(TOY, 2))
    root.pool.role[root.row] |= ROLE_INVALID
    assert run(tdp_mmu_zap_leafs(root, 0, 64, flush=owed)) is owed
    assert leaf_runs(root) == []


def test_a_zap_ends_where_the_host_cannot_address_a_frame():
    """The end is clamped to 2^40 frames (S7), which only a 5-level root reaches."""
    root = TdpMmuRoot(PageTablePool(X86_5LEVEL))
    map_run(root, 2**40 - 2, 1, 4, 0)
    run(tdp_mmu_zap_leafs(root, 2**40 - 1, 2**45 + 7))
    assert leaf_runs(root) == [(2**40 - 2, 1, 1, 0), (2**40, 1, 2, 2)]
    assert run(tdp_mmu_zap_leafs(root, 2**40, 2**45)) is False
    assert leaf_runs(root) == [(2**40 - 2, 1, 1, 0), (2**40, 1, 2, 2)]


def test_emptied_tables_stay():
    root = brute.plant(TOY, brute.full(TOY, 1))
    run(tdp_mmu_zap_leafs(root, 0, 64))
    assert tables_per_level(root) == (16, 4, 1)
    assert leaf_runs(root) == []


# ---- a mirror root and the TDX side --------------------------------------------------------------------

MIRROR = brute.Layout(TOY, [brute.leaf(64, 3), brute.FROZEN, brute.HOLE, brute.leaf(256, 3)])


def test_the_tdx_side_follows_every_split_and_every_removal_of_a_mirror_root():
    root = brute.plant(*MIRROR, is_mirror=True)
    forced = brute.split_at_edges(*MIRROR, 3, 50)[1]
    split = record(boundary_split(root, 3, 50, shared=False))
    asked = split.of(External)
    assert [(event.op, event.gfn, event.level) for event in asked] == [("split", *leaf) for leaf in forced]
    assert all(event.new_spte & ~brute.FRAME == brute.LINK for event in asked)
    assert [event.old_spte for event in asked] == [store.old_spte for store in split.of(SetSpte)]
    zap = record(tdp_mmu_zap_leafs(root, 3, 50))
    gone = brute.zap(TOY, brute.split_at_edges(*MIRROR, 3, 50)[0], 3, 50)[1]
    assert [(event.op, event.gfn, event.level, event.new_spte) for event in zap.of(External)] == [
        ("remove", *leaf, brute.HOLE) for leaf in gone
    ]


@pytest.mark.parametrize("shared", [False, True], ids=["exclusive", "shared"])
def test_a_mirror_entry_is_frozen_for_the_tdx_side_under_the_shared_lock_only(shared):
    """S162; under the exclusive lock the new value is there already (S238)."""
    root, held = brute.plant(*MIRROR, is_mirror=True), []

    class Watching(Finite):
        def external(self, event: External) -> int:
            held.append((translate_raw(root, event.gfn, event.level), event))
            return 0

    run(boundary_split(root, 3, 50, shared=shared), Watching())
    assert len(held) == 4
    assert all(raw == (brute.FROZEN if shared else event.new_spte) for raw, event in held)
    assert brute.read(root) == brute.split_at_edges(*MIRROR, 3, 50)[0]
    assert_settled(root)


def test_under_the_write_lock_the_trace_comes_before_the_tdx_side_and_under_the_read_lock_after_it():
    """S162."""
    for shared, order in ((False, [Trace, External]), (True, [External, Trace])):
        root = brute.plant(*MIRROR, is_mirror=True)
        events = record(boundary_split(root, 3, 50, shared=shared)).events
        changes = [event for event in events if getattr(event, "name", "") != "kvm_mmu_split_huge_page"]
        told = [type(event) for event in changes if isinstance(event, Trace | External)]
        assert told == order * 4


@pytest.mark.parametrize("act", [flip_dirty, zap_it, split_it], ids=lambda act: act.__name__)
def test_a_lost_freeze_of_a_mirror_entry_reads_the_entry_again(act):
    """As RFC v5 02 has it; with a stale snapshot the retry would lose again, or split what is gone (S85)."""
    root = brute.plant(*MIRROR, is_mirror=True)
    first = brute.split_at_edges(*MIRROR, 3, 50)[1][0]
    world = Interfering(1, lambda event: act(root, event))
    recording = record(boundary_split(root, 3, 50), world)
    assert (recording.result, world.victim) == (0, first)
    stores = [store for store in recording.of(SetSpte) if (store.gfn, store.level) == first]
    lost, *after = stores
    assert lost.new_spte == brute.FROZEN
    # Frozen again from what the other thread left, and then the link; or nothing, if no leaf is left.
    assert [store.old_spte for store in after] == (
        [lost.old_spte ^ 1 << 9, brute.FROZEN] if act is flip_dirty else []
    )
    assert_settled(root)


def translate_raw(root: TdpMmuRoot, gfn: int, level: int) -> int:
    """The entry of `level` that holds `gfn`, as it lies in memory."""
    row, raw = root.row, 0
    for above in range(root.geometry.root_level, level - 1, -1):
        raw = root.pool.table(row)[gfn // brute.pages(root.geometry, above) % 2**root.geometry.index_bits]
        row = (raw & brute.FRAME) >> 12
    return raw


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("errno", [-16, -5])
def test_a_busy_tdx_side_is_asked_again_and_the_leaf_is_whole_in_between(times, errno):
    root, between = brute.plant(*MIRROR, is_mirror=True), []

    class Watching(Stubborn):
        def visit(self, event: Visit) -> bool:
            between.append(root.pool.table(root.row)[0] == brute.FROZEN)
            return False

    recording = record(boundary_split(root, 3, 50), Watching(times, errno))
    traces = [trace for trace in recording.of(Trace) if trace.name == "kvm_mmu_split_huge_page"]
    assert recording.result == 0
    assert not any(between)
    assert number(recording, External) == times + 4
    assert [trace.errno for trace in traces] == [errno] * times + [0] * 4
    assert number(recording, AllocTable) == 4
    assert brute.read(root) == brute.split_at_edges(*MIRROR, 3, 50)[0]
    assert_settled(root)


def test_a_tdx_side_that_never_gives_in_is_asked_for_ever():
    """The v3 loop has no way out (S238); who gives up the walk finds the leaf where it was."""
    root, world, answer, asked = brute.plant(*MIRROR, is_mirror=True), Stubborn(10**9), None, 0
    coroutine = boundary_split(root, 3, 50)
    while asked < 100:
        event = coroutine.send(answer)
        asked += isinstance(event, External)
        answer = world.answer(event)
    while not isinstance(coroutine.send(answer), Visit):
        answer = None
    coroutine.close()
    assert brute.read(root) == MIRROR.table
    assert_settled(root)


def test_a_tdx_side_that_fails_under_the_exclusive_lock_is_a_bug_after_the_mirror_has_changed():
    root = brute.plant(*MIRROR, is_mirror=True)
    with pytest.raises(KvmBug, match=r"-5.*0x0 \(0\)"):
        run(boundary_split(root, 3, 50, shared=False), Stubborn(1, -5))
    first_only = brute.split(*MIRROR, lambda *leaf: leaf == (0, 3))[0]
    assert brute.read(root) == first_only
    assert_settled(root)


def test_a_removal_that_the_tdx_side_refuses_is_a_bug():
    root = brute.plant(*MIRROR, is_mirror=True)
    with pytest.raises(KvmBug):
        run(tdp_mmu_zap_leafs(root, 0, 64), Stubborn(1))
    assert brute.read(root) == [brute.HOLE, *MIRROR.table[1:]]
    assert_settled(root)


# ---- bad input -----------------------------------------------------------------------------------------

BAD_RANGES = [
    (-1, 5, InvalidValueError, r"the start is at least 0; -1 \(-0x1\)"),
    (0, -4, InvalidValueError, r"the end is at least 0; -4 \(-0x4\)"),
    (9, 3, InvalidValueError, r"start 0x9 \(36K\) is above end 0x3 \(12K\)"),
    (64, 64, InvalidValueError, r"inside the root, below 0x40 \(256K\); 0x40 \(256K\) is beyond it"),
    (65, 2**40, InvalidValueError, r"inside the root, below 0x40 \(256K\); 0x41 \(260K\) is beyond it"),
    (1.0, 5, InvalidTypeError, "the start is counted in whole numbers; 1.0 is a float"),
    (0, 5.5, InvalidTypeError, "the end is counted in whole numbers; 5.5 is a float"),
    ("0", 5, InvalidTypeError, "the start is counted in whole numbers; '0' is a str"),
    (0, None, InvalidTypeError, "the end is counted in whole numbers; None is a NoneType"),
    (True, 5, InvalidTypeError, "the start is counted in whole numbers; True is a bool"),
]


@pytest.mark.parametrize(("start", "end", "kind", "message"), BAD_RANGES)
@pytest.mark.parametrize("call", [plain_split, boundary_split, tdp_mmu_zap_leafs])
def test_a_bad_range_is_refused_at_the_call_and_the_machine_is_as_it_was(call, start, end, kind, message):
    """At the call, not at the first step of a coroutine that may never be driven."""
    root = brute.plant(TOY, brute.full(TOY, 2))
    before = brute.memory(root.pool)
    with pytest.raises(kind, match=message):
        call(root, start, end)
    assert brute.memory(root.pool) == before


@pytest.mark.parametrize(
    ("level", "kind", "message"),
    [
        (0, InvalidValueError, "a level is from 1 to 3 under this root; 0"),
        (-1, InvalidValueError, "a level is from 1 to 3 under this root; -1"),
        (3, InvalidValueError, "a target level lies below the root's 3; 3 does not"),
        (4, InvalidValueError, "a level is from 1 to 3 under this root; 4"),
        (1.0, InvalidTypeError, "a level is counted in whole numbers; 1.0"),
        ("1", InvalidTypeError, "a level is counted in whole numbers; '1'"),
        (None, InvalidTypeError, "a level is counted in whole numbers; None"),
    ],
)
def test_a_bad_target_level_is_refused_and_the_machine_is_as_it_was(level, kind, message):
    root = brute.plant(TOY, brute.full(TOY, 2))
    before = brute.memory(root.pool)
    with pytest.raises(kind, match=message):
        plain_split(root, 0, 5, level)
    assert brute.memory(root.pool) == before


def test_a_range_with_the_shared_bit_is_refused_by_the_direct_root_of_a_td():
    root = brute.plant(TOY, brute.full(TOY, 2), gfn_bits=32)
    for call in (boundary_split, tdp_mmu_zap_leafs):
        with pytest.raises(InvalidValueError, match=r"below 0x20 \(128K\); 0x20 \(128K\) is beyond it"):
            call(root, 32, 40)
