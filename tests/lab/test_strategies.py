"""Strategies on the engine: the thread's numbers, the kernel's recorded trees, long calls against short."""

import re
from random import Random

import pytest

from tdpkit.engine.events import run
from tdpkit.engine.gfn import (
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    GfnRange,
    InvalidValueError,
    parse_gfn,
)
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.scan import populate
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_run, tables_per_level
from tdpkit.lab.conformance import GEOMETRY
from tdpkit.lab.judge import run_strategy
from tdpkit.lab.shapes import LEAF, leaves_of, plant, random_shape, read
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES, PlannedCall, edge_blocks, plan_of
from tdpkit.lab.worlds import CountingWorld, JournalWorld
from tests.lab.test_search import EXACT
from tests.oracles import brute
from tests.oracles.vectors import cases_of

from .test_shapes import as_brute

HOLE = GfnRange.parse("2T+4K", "14T+4K")
SMALL, FOUR = Geometry(1, 3, 3), Geometry(2, 3, 3)


def guest(level, count, gfn="0"):
    """A plain VM's tree with `count` leaves of `level` side by side."""
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    populate(root, parse_gfn(gfn), level, count, 0)
    return root


@pytest.fixture(scope="module")
def of_2m():
    return guest(2, 1 << 23)


@pytest.fixture(scope="module")
def of_1g():
    return guest(3, 1 << 14)


def race(root, name, span, **named):
    """A report, and the tree as it was again."""
    world = JournalWorld(root.pool)
    report = run_strategy(root, STRATEGIES[name], span, world=world, **named)
    world.undo()
    return report


# ---- the numbers of the measurements -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "visits", "splits"),
    [
        ("walk_v3", 6_303_777, 2),
        ("two_calls", 523, 2),
        ("head_and_tail", 16, 2),
        ("kai_two_step", 16, 2),
        ("one_block_per_edge", 12, 2),
        ("empty_range", 12, 2),
        ("plain_split", 25_178_142, 6_291_457),
        ("head_rounded_up", 16, 2),
    ],
)
def test_twelve_tib_of_2m_leaves(of_2m, name, visits, splits):
    """S230 and S233, and the sketch of the race: [2T+4K, 14T+4K) in 16 TiB."""
    report = race(of_2m, name, HOLE)
    assert (report.all_visits, report.splits) == (visits, splits)
    assert report.tables == report.lock_drops == report.restarts == splits
    assert report.priced == (name == "plain_split")


@pytest.mark.parametrize(
    ("name", "visits"),
    [
        ("walk_v3", 12_837),
        ("two_calls", 527),
        ("kai_two_step", 20),
        ("one_block_per_edge", 16),
        ("empty_range", 16),
    ],
)
def test_twelve_tib_of_1g_leaves(of_1g, name, visits):
    report = race(of_1g, name, HOLE)
    assert (report.all_visits, report.splits, report.priced) == (visits, 4, False)


@pytest.mark.parametrize(
    ("start", "end", "one_call", "two_step", "splits"),
    [
        (0x207, 0x209, 8, 10, 2),  # 8 KiB in one 2M block of a 1G leaf
        (0x3FF, 0x401, 12, 16, 3),  # across a 2M edge
        (0x3FFFF, 0x40001, 15, 20, 4),  # across a 1G edge
    ],
)
def test_short_ranges_cost_what_the_thread_argued_about(start, end, one_call, two_step, splits):
    """S139: 8 visits against 10, 12 against 16, 15 against 20; as many splits either way."""
    root = guest(3, 4)
    for name, visits in (("walk_v3", one_call), ("kai_two_step", two_step)):
        report = race(root, name, GfnRange(start, end))
        assert (report.all_visits, report.splits) == (visits, splits)


@pytest.mark.parametrize(
    ("start", "end", "one_call", "two_step", "one_block"),
    [
        ("1G+4K", "1G+512M", 2 + 256 + (2 + 3), (2 + 2) + (3 + 3), (3 + 2 + 3) + 2),
        ("1G+4K", "2G-4K", 2 + 512 + (2 + 3 + 3), (2 + 2) + 2 * (3 + 3), (3 + 2 + 3) + (3 + 3)),
    ],
)
def test_below_1g_the_walk_may_visit_many_times_more(start, end, one_call, two_step, one_block):
    """S139: 263 visits against 10, 522 against 16 and 14. M14 claims all lengths below 1 GB. By hand, under
    a 4-level root: a call visits an entry each of levels 4 and 3, then those of level 2 in its range, and for
    each split the way down to the leaf once more, two entries to a 1G leaf and three to a 2M leaf.
    """
    root, span = guest(3, 4), GfnRange.parse(start, end)
    assert (one_call, two_step, one_block) in {(263, 10, 10), (522, 16, 14)}
    for name, visits in (
        ("walk_v3", one_call),
        ("kai_two_step", two_step),
        ("one_block_per_edge", one_block),
    ):
        assert race(root, name, span).all_visits == visits, name


def test_the_two_long_calls_are_long_for_a_short_range():
    """S233: 522 visits for an 8 KiB range where v3 needs 8."""
    assert race(guest(3, 4), "two_calls", GfnRange(0x207, 0x209)).visits == (518, 4)


def test_merging_across_levels_costs_513_splits():
    """S233: one 1G leaf, the first five frames."""
    root = guest(3, 1)
    assert race(root, "kai_two_step", GfnRange(0, 5)).splits == 2
    merged = race(root, "merged_blocks", GfnRange(0, 5))
    assert (merged.calls, merged.splits) == ((PlannedCall(0, 1 << 18, 1),), 513)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end", "level", "tables"),
    [("0", "16G", 3, 8208), ("0", "16G", 2, 8192), ("4K", "16G+4K", 3, 8210)],
)
def test_splitting_sixteen_gib_to_4k(start, end, level, tables):
    """S133: 16 * (1 + 512) tables, 16 * 512 if 2M leaves are there already."""
    root = guest(level, 17 << (18 - 9 * (level - 1)))
    report = run_strategy(root, STRATEGIES["plain_split"], GfnRange.parse(start, end))
    assert (report.splits, report.tables, report.lock_drops, report.priced) == (tables, tables, tables, False)
    assert report.all_visits == {8208: 32_817, 8192: 32_785, 8210: 32_824}[tables]
    made = 1 + 1 + {8208: 16 + 8192, 8192: 17 + 8192, 8210: 17 + 8193}[tables]
    assert sum(tables_per_level(root)) == made


# ---- the arithmetic ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "geometry", [SMALL, FOUR, Geometry(1, 4, 2), Geometry(3, 2, 2), Geometry(2, 3, 1)], ids=str
)
def test_the_blocks_of_an_edge_are_all_the_leaves_that_could_cross_it(geometry):
    """Every leaf that the machine could have, tried at every edge; each block goes one level down."""
    for x in range(geometry.root_pages + 1):
        could = [
            PlannedCall(gfn, gfn + size, level - 1)
            for level in range(geometry.max_leaf_level, 1, -1)
            for size in [brute.pages(geometry, level)]
            for gfn in range(0, geometry.root_pages, size)
            if gfn < x < gfn + size
        ]
        assert edge_blocks(x, geometry) == could


@pytest.mark.parametrize(
    ("x", "blocks"),
    [
        ("0", []),
        ("3G", []),
        ("3G+2M", [("3G", "4G", 2)]),
        ("3G+4K", [("3G", "4G", 2), ("3G", "3G+2M", 1)]),
        ("4G-4K", [("3G", "4G", 2), ("4G-2M", "4G", 1)]),
        ("14T+4K", [("14T", "14T+1G", 2), ("14T", "14T+2M", 1)]),
    ],
)
def test_the_blocks_of_x86_by_hand(x, blocks):
    """Kai's rule (S138)."""
    assert edge_blocks(parse_gfn(x)) == [
        PlannedCall(parse_gfn(s), parse_gfn(e), level) for s, e, level in blocks
    ]
    assert edge_blocks(parse_gfn(x), X86_5LEVEL) == edge_blocks(parse_gfn(x))


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("walk_v3", ["[1G+4K, 3G+2M) to level 1, only what crosses"]),
        ("two_calls", ["[1G+4K, 2G) to level 1, only what crosses",
                       "[3G, 3G+2M) to level 1, only what crosses"]),
        ("kai_two_step", ["[1G, 2G) to level 2", "[1G, 1G+2M) to level 1", "[3G, 4G) to level 2"]),
        ("one_block_per_edge", ["[1G, 1G+2M) to level 1", "[3G, 4G) to level 2"]),
        ("empty_range", ["[1G+4K, 1G+4K) to level 1", "[3G+2M, 3G+2M) to level 1"]),
        ("plain_split", ["[1G+4K, 3G+2M) to level 1"]),
        ("two_calls_unfiltered", ["[1G+4K, 2G) to level 1", "[3G, 3G+2M) to level 1"]),
        ("merged_blocks", ["[1G, 2G) to level 1", "[3G, 4G) to level 2"]),
        ("head_rounded_up", ["[2G, 3G) to level 2", "[1G+2M, 1G+4M) to level 1", "[3G, 4G) to level 2"]),
        ("one_frame_each", ["[1G+4K, 1G+8K) to level 1", "[3G+2M, 3G+2M+4K) to level 1"]),
        ("last_frame_as_edge", ["[1G, 2G) to level 2", "[1G, 1G+2M) to level 1", "[3G, 4G) to level 2",
                                "[3G, 3G+2M) to level 1"]),
        ("one_2m_pass", ["[1G, 1G+2M) to level 1"]),
    ],
)  # fmt: skip
def test_the_calls_of_each_strategy_by_hand(name, calls):
    """A start that is a multiple of 4K only, an end that is one of 2M."""
    assert list(map(str, STRATEGIES[name](X86_4LEVEL, GfnRange.parse("1G+4K", "3G+2M")))) == calls


def test_a_block_that_both_edges_share_is_split_once():
    """Kai's overlap: one 1G block for both edges of [0x3ff, 0x401), two 2M blocks."""
    span = GfnRange(0x3FF, 0x401)
    assert len(STRATEGIES["head_and_tail"](X86_4LEVEL, span)) == 4
    assert STRATEGIES["kai_two_step"](X86_4LEVEL, span) == [
        PlannedCall(0, 0x40000, 2),
        PlannedCall(0x200, 0x400, 1),
        PlannedCall(0x400, 0x600, 1),
    ]


def test_every_strategy_says_what_it_does_and_where_it_comes_from():
    for name, one in STRATEGIES.items():
        assert one.__name__ == name
        assert len(one.__doc__.splitlines()[0]) > 20
        assert re.search(r"\b[SM]\d+\b", one.source), "an entry of sources.md"
    assert len({one.rule.title for one in STRATEGIES.values()}) == len(STRATEGIES)


# ---- the kernel's own trees ----------------------------------------------------------------------------


def recorded():
    return [case for case in cases_of("split_cross") if case["target_level"] == 1 and case["ret"] == 0]


@pytest.mark.slow
def test_every_exact_strategy_leaves_the_trees_that_the_kernel_left():
    """Recorded with the kernel's C code: the patch's call, on some hundred guests of x86 size."""
    tried = 0
    for case in recorded():
        span = GfnRange(case["start"], case["end"])
        for name in EXACT:
            root = TdpMmuRoot(PageTablePool(GEOMETRY[case["root_level"]]))
            for run_of_leaves in case["leaves"]:
                map_run(root, *run_of_leaves)
            if span.start >= root.max_gfn_exclusive:
                continue
            report = run_strategy(root, STRATEGIES[name], span)
            assert [list(leaf_run) for leaf_run in leaf_runs(root)] == case["final"], (name, case["id"])
            assert report.splits == case["n_splits"]
            tried += 1
            if name == "walk_v3":
                assert report.all_visits == case["iterations"]
    assert tried > 1000


# ---- the end past the root, and the empty range --------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("end", [64, 65, 70, 1000])
def test_an_end_at_the_roots_end_or_past_it_is_no_edge(name, end):
    """No call starts there: the tree and the splits are those that the start alone demands."""
    root, nearest = plant(FOUR, (LEAF,) * 4), plant(FOUR, (LEAF,) * 4)
    report = run_strategy(root, STRATEGIES[name], GfnRange(50, end))
    assert all(call.start < 64 for call in report.calls)
    at_end = run_strategy(nearest, STRATEGIES[name], GfnRange(50, 64))
    if name != "last_frame_as_edge":  # 63 is an edge for it, as it should not be
        assert (read(root), report.splits) == (read(nearest), at_end.splits)
    if name in EXACT:
        assert sorted(report.made) == [(48, 2), (48, 3)]


def test_a_walk_that_starts_past_the_root_splits_a_low_leaf():
    """S233: what a strategy would do without that rule. The call is for frames 64 to 80, which nobody
    has; its index is cut to the table's bits, so the leaf of frames 0 to 15 is split.
    """
    root = plant(FOUR, (LEAF,) * 4)
    call = tdp_mmu_split_huge_pages_root(root, 64, 80, 2, shared=False, check_start=False)
    world = CountingWorld()
    assert run(call, world) == 0
    assert [(gfn, level) for _, gfn, level in world.splits] == [(64, 3)], "it believes so"
    assert read(root) == ((LEAF,) * 4, LEAF, LEAF, LEAF)
    with pytest.raises(InvalidValueError, match="starts inside the root"):
        tdp_mmu_split_huge_pages_root(root, 64, 80, 2, shared=False)
    assert not run(
        tdp_mmu_split_huge_pages_root(
            root, 0, 80, 1, shared=False, only_cross_boundary=True, check_start=False
        )
    )
    assert read(root) == ((LEAF,) * 4, LEAF, LEAF, LEAF), "v3 starts inside, and stops at the last entry"


@pytest.mark.slow
def test_for_each_strategy_an_empty_range_is_one_edge():
    """All that are exact split what holds x - 1 and x, and so does the plain split, by the loop's quirk."""
    for shape in [(LEAF,) * 4, ("hole",) * 4, *(random_shape(FOUR, Random(seed)) for seed in range(60))]:
        for x in range(64):
            expected, _ = brute.split_at_edges(FOUR, as_brute(FOUR, shape), x, x)
            for name in [*sorted(EXACT), "plain_split"]:
                root = plant(FOUR, shape)
                run_strategy(root, STRATEGIES[name], GfnRange(x, x))
                assert brute.read(root) == expected, (name, x)


def test_the_others_on_an_empty_range():
    """One leaf of 16 frames, edge at 4, by hand: what each does that is not asked for, or leaves undone."""
    made = {}
    for name in sorted(set(STRATEGIES) - EXACT - {"plain_split"}):
        root = plant(FOUR, (LEAF, LEAF, LEAF, LEAF))
        made[name] = sorted(run_strategy(root, STRATEGIES[name], GfnRange(4, 4)).made)
    assert made == {
        "head_rounded_up": [(0, 3), (16, 3)],
        "last_frame_as_edge": [(0, 2), (0, 3)],
        "merged_blocks": [(0, 3)],
        "one_2m_pass": [],
        "one_frame_each": [(0, 3), (4, 2)],
        "two_calls_unfiltered": [(0, 2), (0, 3), (4, 2), (8, 2), (12, 2)],
    }


def test_plans_stay_below_the_limit_and_repeat_no_call_but_where_they_say_so():
    for span in (GfnRange(a, b) for a in range(65) for b in range(a, 65)):
        for name, strategy in STRATEGIES.items():
            calls = plan_of(strategy, FOUR, span, 64)
            assert all(0 <= call.start < 64 and call.start <= call.end for call in calls)
            assert name == "head_and_tail" or not span.pages or len(set(calls)) == len(calls)
            assert len(calls) <= 4


def test_contenders_are_three_of_the_thread_and_the_form_of_the_later_code():
    cited = {name: re.findall(r"\b(?:M\d+|S141)\b", one.source) for name, one in CONTENDERS.items()}
    assert cited == {
        "walk_v3": ["M0"],
        "two_calls": ["M7"],
        "kai_two_step": ["M13"],
        "one_block_per_edge": ["S141"],
    }
    later = CONTENDERS["one_block_per_edge"].source
    assert re.search(r"2M: Sean .* TODO .*; leaves of 1G: ours", later), "R2 stops at 2M"


def test_a_machine_is_planted_with_four_leaves_in_its_root():
    assert leaves_of(FOUR, (LEAF,) * 4) == ((0, 3), (16, 3), (32, 3), (48, 3))
