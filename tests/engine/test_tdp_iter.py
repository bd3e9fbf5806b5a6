"""The walk against a recursive listing of nested lists that knows nothing of steps, goals or restarts."""

from collections.abc import Iterator

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_5LEVEL, Geometry
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import make_leaf_spte
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tree import TdpMmuRoot
from tests.oracles import brute

TWO_LEVELS = Geometry(2, 2, 2)


def steps(root: TdpMmuRoot, start: int, end: int, min_level: int = 1) -> Iterator[TdpIter]:
    """The loop of every user of the iterator."""
    it, visits = TdpIter(root, min_level, start), 0
    while it.valid and it.gfn < end:
        yield it
        visits += 1
        assert visits < 50_000, "the walk does not end"
        it.next()


def visits(root: TdpMmuRoot, start: int, end: int, min_level: int = 1) -> list[tuple[int, int, int]]:
    return [(it.gfn, it.level, it.old_spte & ~brute.FRAME) for it in steps(root, start, end, min_level)]


def expected(layout: brute.Layout, start: int, end: int, min_level: int = 1) -> list[tuple[int, int, int]]:
    """What `visits` should say; the frame of a link is the pool's business."""
    found = brute.entries(*layout, start, end, min_level)
    return [
        (gfn, level, brute.LINK if isinstance(entry, list) else entry & ~brute.FRAME)
        for gfn, level, entry in found
    ]


@settings(max_examples=100)
@given(brute.cases(), st.data())
def test_the_walk_visits_the_entries_that_hold_frames_of_the_range_parents_first(case, data):
    layout, start, end = case
    root = brute.plant(*layout)
    for min_level in range(1, layout.geometry.root_level + 1):
        assert visits(root, start, end, min_level) == expected(layout, start, end, min_level)


@given(brute.layouts())
def test_an_empty_range_visits_exactly_the_entries_that_straddle_it(layout):
    """The start is rounded down and the loop asks gfn < end: the quirk of S234."""
    root = brute.plant(*layout)
    for x in range(min(layout.geometry.root_pages, 64)):
        around = [
            (gfn, level)
            for gfn, level, _ in brute.entries(*layout)
            if gfn < x < gfn + brute.pages(layout.geometry, level)
        ]
        assert [(it.gfn, it.level) for it in steps(root, x, x)] == around


@settings(max_examples=60)
@given(brute.cases())
def test_each_visited_entry_reports_its_index_and_is_the_one_in_memory(case):
    layout, start, end = case
    root = brute.plant(*layout)
    for it in steps(root, start, end):
        index = it.gfn // brute.pages(layout.geometry, it.level) % 2**layout.geometry.index_bits
        assert it.index == index
        assert it.table[it.index] == root.pool.table(it.pt_path[it.level])[index] == it.old_spte


@settings(max_examples=60)
@given(brute.cases(), st.integers(1, 3))
def test_a_start_beyond_the_root_aliases_to_a_low_entry(case, turns):
    """As in the kernel, whose index is masked; frames are counted on from where the walk began."""
    layout, start, end = case
    root, away = brute.plant(*layout), turns * layout.geometry.root_pages
    shifted = [(gfn + away, level, bits) for gfn, level, bits in expected(layout, start, end)]
    assert visits(root, start + away, end + away) == shifted


@settings(max_examples=60)
@given(brute.cases(root_levels=(2, 4)), st.data())
def test_a_root_with_gfn_bits_is_indexed_with_them_and_reports_frames_without(case, data):
    """The direct root of a TD: frame g lives where g | S is, and ranges are written without S."""
    layout, start, end = case
    geometry = layout.geometry
    bits = [bit for bit in range(60) if geometry.pages(geometry.root_level) <= 1 << bit < geometry.root_pages]
    shared = 1 << data.draw(st.sampled_from(bits))
    assume(start < shared)
    end = min(end, shared)
    root = brute.plant(geometry, layout.table, gfn_bits=shared)
    assert visits(root, start, end) == [
        (gfn - shared, level, raw) for gfn, level, raw in expected(layout, start + shared, end + shared)
    ]


def test_a_walk_that_starts_at_the_shared_bit_is_over_before_it_begins():
    root = TdpMmuRoot(PageTablePool(TWO_LEVELS), gfn_bits=8)
    assert not TdpIter(root, 1, 8).valid
    assert not TdpIter(root, 1, 9).valid
    assert TdpIter(root, 1, 7).valid


def test_the_walk_of_a_5_level_td_enters_the_root_at_the_shared_bit():
    """Bit 51 of the address is index 8 of a 5-level root (S8)."""
    root = TdpMmuRoot(PageTablePool(X86_5LEVEL), gfn_bits=1 << 39)
    assert [(it.gfn, it.index) for it in steps(root, 5, 2**36 + 1)] == [(0, 8), (2**36, 9)]


# ---- letting go of the lock ----------------------------------------------------------------------------


def listed_with_rescheds(
    layout: brute.Layout, start: int, end: int, due: list[bool]
) -> list[tuple[int, int]]:
    """Visits of a walk that is asked to resched at each visit where `due` says so.

    What it has passed it need not see again: it goes on at the first entry of the range that it had not
    stepped to, from the root. It may let go only if that is further on than last time.
    """
    seen: list[tuple[int, int]] = []
    goal, again = start, True
    while again:
        again = False
        for gfn, level, _ in brute.entries(*layout, goal, end):
            seen.append((gfn, level))
            if due[(len(seen) - 1) % len(due)] and gfn > goal:
                goal, again = gfn, True
                break
    return seen


@settings(max_examples=100)
@given(brute.cases(), st.lists(st.booleans(), min_size=1, max_size=9))
@example((brute.Layout(TWO_LEVELS, brute.full(TWO_LEVELS, 1)), 1, 15), [True])
@example((brute.Layout(TWO_LEVELS, brute.full(TWO_LEVELS, 1)), 6, 6), [True])
def test_a_walk_that_let_go_goes_on_at_its_goal_from_the_root(case, due):
    """A restart at `start` would never end; one at the entry after the goal would miss it."""
    layout, start, end = case
    root = brute.plant(*layout)
    seen = []
    for it in steps(root, start, end):
        seen.append((it.gfn, it.level))
        if due[(len(seen) - 1) % len(due)] and it.next_last_level_gfn != it.yielded_gfn:
            it.yielded = True
    assert seen == listed_with_rescheds(layout, start, end, due)


def test_a_restart_after_every_side_step_is_written_out():
    """Two tables of two 4K leaves, range [1, 4): each step sideways lets go, each restart visits the root."""
    geometry = Geometry(1, 2, 2)
    root = brute.plant(geometry, brute.full(geometry, 1))
    seen = []
    for it in steps(root, 1, 4):
        seen.append((it.gfn, it.level))
        it.yielded = it.next_last_level_gfn != it.yielded_gfn
    assert seen == [(0, 2), (1, 1), (2, 2), (2, 2), (2, 1), (3, 1), (2, 2), (3, 1)]


def test_a_walk_after_a_restart_sees_what_others_have_changed():
    """The tables on its path may be gone: nothing it remembers may be used."""
    root = brute.plant(TWO_LEVELS, brute.full(TWO_LEVELS, 2))
    walk = steps(root, 5, 16)
    it = next(walk)
    assert (it.gfn, it.level) == (4, 2)
    child = root.pool.alloc()
    for index in range(4):
        root.pool.table(child)[index] = make_leaf_spte(4 + index, 1)
    root.pool.table(root.row)[1] = brute.LINK | child << 12
    it.yielded = True
    assert [(it.gfn, it.level) for it in walk] == [
        *((4, 2), (5, 1), (6, 1), (7, 1)),
        *((8, 2), (12, 2)),
    ]


def test_a_step_down_reads_the_entry_again():
    """It may have changed between the visit and the step (a leaf that became a table, or the reverse)."""
    geometry = Geometry(1, 2, 2)
    root = brute.plant(geometry, brute.full(geometry, 1))
    walk = steps(root, 0, 4)
    assert next(walk).level == 2
    root.pool.table(root.row)[0] = brute.HOLE
    it = next(walk)
    assert (it.gfn, it.level) == (2, 2)


def test_a_copy_stays_where_it_was():
    root = brute.plant(TWO_LEVELS, brute.full(TWO_LEVELS, 1))
    it = TdpIter(root, 1, 0)
    copies = []
    while it.valid:
        copies.append((it.gfn, it.level, it.pt_path.copy(), it.copy()))
        it.next()
    assert [(gfn, level, path) for gfn, level, path, _ in copies] == [
        (kept.gfn, kept.level, kept.pt_path) for *_, kept in copies
    ]


# ---- how many visits -----------------------------------------------------------------------------------


@given(brute.geometries(), st.data())
def test_a_fully_mapped_range_costs_what_the_formula_says(geometry, data):
    """Per level floor((e - 1) / F^(l - 1)) - floor(s / F^(l - 1)) + 1 (S230)."""
    assume(geometry.root_pages <= 512)
    mapped_at = data.draw(st.integers(1, geometry.root_level))
    min_level = data.draw(st.integers(1, geometry.root_level))
    start = data.draw(st.integers(0, geometry.root_pages - 1))
    end = data.draw(st.integers(start + 1, geometry.root_pages))
    root = brute.plant(geometry, brute.full(geometry, mapped_at))
    sizes = [brute.pages(geometry, n) for n in range(max(mapped_at, min_level), geometry.root_level + 1)]
    formula = sum((end - 1) // size - start // size + 1 for size in sizes)
    assert len(visits(root, start, end, min_level)) == formula


@pytest.mark.parametrize("min_level", [1, 2, 3, 4, 5])
def test_an_empty_5_level_tree_has_one_visit_per_root_entry_of_the_range(min_level):
    """Moot if empty: one visit for 12 TiB under a 5-level root (S122)."""
    root = TdpMmuRoot(PageTablePool(X86_5LEVEL))
    assert visits(root, 2**29, 14 * 2**28, min_level) == [(0, 5, brute.HOLE)]
