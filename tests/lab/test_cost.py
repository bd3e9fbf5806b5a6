"""Visits by arithmetic: against counting entries one by one, and against the kernel's own counters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, GfnRange
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.scan import scan
from tdpkit.engine.tree import TdpMmuRoot, map_run
from tdpkit.lab.cost import price_plain_split, visits_again, visits_in_new_tables, visits_when_mapped
from tdpkit.lab.layouts import LAYOUTS, layout_of
from tdpkit.lab.split_call import SplitCall
from tests.oracles import brute
from tests.oracles.vectors import cases_of

TOYS = [Geometry(1, 1, 1), Geometry(2, 1, 1), Geometry(1, 3, 2), Geometry(1, 4, 3), Geometry(2, 2, 2)]
TOYS += [Geometry(2, 3, 3), Geometry(3, 2, 1)]


# ---- a range that is mapped ----------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", TOYS, ids=str)
def test_a_mapped_range_is_counted_entry_by_entry(geometry):
    """Every range of the toy, every level to stop at, leaves of that level and of every smaller one."""
    frames = brute.pages(geometry, geometry.root_level + 1)
    for min_level in range(1, geometry.root_level + 1):
        for leaves_of in range(1, min_level + 1):
            table = brute.full(geometry, leaves_of)
            for start in range(frames):
                for end in range(start + 1, frames + 1):
                    counted = dict.fromkeys(range(geometry.root_level, min_level - 1, -1), 0)
                    for _, level, _ in brute.entries(geometry, table, start, end, min_level):
                        counted[level] += 1
                    assert visits_when_mapped(geometry, GfnRange(start, end), min_level) == counted


def test_the_threads_range_costs_6_303_771_visits():
    """S230: [2T+4K, 14T+4K) over 2M leaves, 4-level root."""
    levels = visits_when_mapped(X86_4LEVEL, GfnRange.parse("2T+4K", "14T+4K"), 2)
    assert levels == {4: 25, 3: 12289, 2: 6291457}
    assert sum(levels.values()) == 6303771


def test_an_edge_inside_an_entry_costs_that_entry_at_every_level():
    """By hand: 8 KiB across 1G are two entries below the level that holds both; a fifth level adds one."""
    across = GfnRange.parse("1G-4K", "1G+4K")
    assert visits_when_mapped(X86_4LEVEL, across, 1) == {4: 1, 3: 2, 2: 2, 1: 2}
    assert visits_when_mapped(X86_5LEVEL, across, 2) == {5: 1, 4: 1, 3: 2, 2: 2}
    assert visits_when_mapped(X86_4LEVEL, GfnRange.parse("1G", "2G"), 3) == {4: 1, 3: 1}
    assert visits_when_mapped(X86_4LEVEL, GfnRange.parse("1G", "2G"), 2) == {4: 1, 3: 1, 2: 512}
    assert visits_when_mapped(X86_4LEVEL, GfnRange.parse("1G", "2G+4K"), 2) == {4: 1, 3: 2, 2: 513}


def test_levels_come_from_the_roots_down():
    """Readers sum them and print them in the walk's order."""
    assert list(visits_when_mapped(X86_5LEVEL, GfnRange(0, 1), 1)) == [5, 4, 3, 2, 1]


# ---- what a call visits twice --------------------------------------------------------------------------


def test_a_split_repeats_the_way_down_to_its_leaf():
    """By hand: root 4, a 1G leaf is the second entry on its way, a 2M leaf the third, a root's the first."""
    assert visits_again(X86_4LEVEL, []) == 0
    assert visits_again(X86_4LEVEL, [3]) == 2
    assert visits_again(X86_4LEVEL, [2]) == 3
    assert visits_again(X86_5LEVEL, [2]) == 4
    assert visits_again(X86_4LEVEL, [4]) == 1
    assert visits_again(X86_4LEVEL, iter([3, 2, 3, 2])) == 10
    assert visits_again(Geometry(2, 2, 2), [2, 2, 2]) == 3


def blocks(runs: list[list[int]], level: int) -> Iterator[tuple[int, int]]:
    """[first, last] numbers of the entries of `level` that point to a table, as its leaves have it.

    A recorded tree starts out with no empty table, and a split leaves none: where there is a table of the
    level below, there is a leaf of that level or smaller.
    """
    for gfn, leaf_level, count, _ in runs:
        if leaf_level < level:
            yield gfn // 512 ** (level - 1), (gfn + count * 512 ** (leaf_level - 1) - 1) // 512 ** (level - 1)


def numbers(runs: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers as runs that do not touch."""
    apart: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if apart and first <= apart[-1][1] + 1:
            apart[-1] = (apart[-1][0], max(apart[-1][1], last))
        else:
            apart.append((first, last))
    return apart


def walk_of(case: dict[str, Any], runs: list[list[int]]) -> int:
    """Entries of the tree of `runs` at the level above the target and higher that touch the range.

    All entries of a table count, mapped or not; for an empty range those strictly around it.
    """
    root, visits = case["root_level"], 0
    for level in range(case["target_level"] + 1, root + 1):
        size = 512 ** (level - 1)
        tables = [(0, 0)] if level == root else numbers(blocks(runs, level + 1))
        for first, last in tables:
            low, high = case["start"] // size, -(-case["end"] // size)
            visits += max(0, min((last + 1) * 512, high) - max(first * 512, low))
    return visits


@pytest.mark.parametrize("kind", ["split_all", "split_cross"])
def test_the_kernels_visits_are_a_walk_of_the_final_tree_and_what_is_visited_again(kind):
    """S230, on every recorded case without interference."""
    assert len(cases_of(kind)) > 200
    again = 0
    for case in cases_of(kind):
        geometry = {4: X86_4LEVEL, 5: X86_5LEVEL}[case["root_level"]]
        levels = [level for _, level, count in case["splits"] for _ in range(count)]
        assert case["iterations"] == walk_of(case, case["final"]) + visits_again(geometry, levels), case["id"]
        again += visits_again(geometry, levels) > 0
    assert again > 100


@pytest.mark.parametrize("layout", ["large", "one-1G", "mixed"])
def test_a_mapped_range_and_what_is_visited_again_make_a_whole_call(layout):
    """Both together, where the range is mapped by leaves no larger than the walk's lowest level."""
    if layout == "large":
        whole = layout_of(Geometry(2, 3, 3), 64, (0, 2, 16))
        calls = [SplitCall(whole, start, end) for start in range(64) for end in range(start + 1, 65)]
    else:
        runs = LAYOUTS[layout].leaves
        small = [run for run in runs if run.level < 3] or [runs[0]._replace(level=2, count=512)]
        whole = LAYOUTS[layout]._replace(leaves=tuple(small))
        first, last = small[0].gfn, small[0].gfn + small[0].count * 512 ** (small[0].level - 1)
        calls = [SplitCall(whole, first + 3, last - 5), SplitCall(whole, first, last - 512)]
    for call in calls:
        mapped = visits_when_mapped(call.geometry, call.span, call.min_level)
        again = visits_again(call.geometry, [level for level, _ in call.splits])
        assert call.steps[-1].visits == sum(mapped.values()) + again


# ---- what was not there before -------------------------------------------------------------------------


def test_new_tables_are_walked_as_far_as_the_range_goes():
    """By hand: a 1G leaf split makes a table of 512 entries; [1G-4M, 1G+2M) has two of one and one of the
    next; a 2M leaf's new table is below a walk that stops at 2M.
    """
    span = GfnRange.parse("1G-4M", "1G+2M")
    first, second = (0, 3), (1 << 18, 3)
    assert visits_in_new_tables(X86_4LEVEL, [], span, 2) == 0
    assert visits_in_new_tables(X86_4LEVEL, [first], span, 2) == 2
    assert visits_in_new_tables(X86_4LEVEL, [first, second, (0, 2)], span, 2) == 3
    assert visits_in_new_tables(X86_4LEVEL, [first, second], span, 3) == 0
    assert visits_in_new_tables(X86_4LEVEL, [((1 << 18) - 512, 2)], span, 1) == 512


def mapped(*runs: tuple[int, int, int]) -> TdpMmuRoot:
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    for gfn, level, count in runs:
        map_run(root, gfn, level, count, gfn)
    return root


@pytest.mark.parametrize(
    ("runs", "span", "target", "splits", "visits"),
    [
        # S133: 32 817 and 32 785 visits, 8208 and 8192 tables.
        ([(0, 3, 16)], ("0", "16G"), 1, 16 * 513, 32_817),
        ([(0, 2, 8192)], ("0", "16G"), 1, 8192, 32_785),
        # 1G leaves to 2M: one split each; the root's entry, 16 entries of 1G, and 2 on the way to each.
        ([(0, 3, 16)], ("0", "16G"), 2, 16, 1 + 16 + 2 * 16),
        # One frame of a 1G leaf: two splits, three entries in the end, 2 + 3 on the ways down.
        ([(0, 3, 1)], ("4K", "8K"), 1, 2, 3 + 5),
        # Two frames across 2M: the 1G leaf, two 2M leaves.
        ([(0, 3, 1)], ("2M-4K", "2M+4K"), 1, 3, 4 + 2 + 3 + 3),
        # 4K leaves and nothing: what is there is walked, none is split.
        ([(0, 1, 512)], ("0", "2M"), 1, 0, 3),
        ([], ("0", "16G"), 1, 0, 1),
    ],
)
def test_a_plain_call_is_priced_as_the_fact_sheet_has_it(runs, span, target, splits, visits):
    frames = GfnRange.parse(*span)
    found = scan(mapped(*runs), frames.start, frames.end, target + 1)
    assert price_plain_split(X86_4LEVEL, found, frames, target) == (visits, splits)
