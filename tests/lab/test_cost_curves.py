"""Plan, split and zap: the thread's numbers, and every number of a curve against the engine's own steps."""

import pytest

from tdpkit.engine.events import run
from tdpkit.engine.gfn import X86_4LEVEL, GfnRange, InvalidValueError, parse_gfn
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.scan import populate
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs
from tdpkit.lab.cost_curves import (
    GUEST_FRAMES,
    MAPS,
    SIZES,
    START,
    Curves,
    convert,
    convert_4k,
    cost_curves,
    mapped_guest,
    zap_seamcalls,
)
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES
from tdpkit.lab.worlds import CountingWorld

HOLE = GfnRange.parse("2T+4K", "14T+4K")


def stepwise(root, strategy, span):
    """Calls, visits and splits, then visits and leaves of the zap, each entry visited one by one."""
    split, zap = CountingWorld(), CountingWorld()
    calls = strategy(root.geometry, span)
    for start, end, target_level, crossing, _ in calls:
        call = tdp_mmu_split_huge_pages_root(
            root, start, end, target_level, shared=False, only_cross_boundary=crossing
        )
        assert run(call, split) == 0
    run(tdp_mmu_zap_leafs(root, span.start, span.end), zap)
    return len(calls), split.iterations, len(split.splits), zap.iterations, len(zap.zapped)


@pytest.mark.parametrize(
    ("mapped_by", "zap", "leaves", "splits"),
    [
        ("2M leaves", 6_304_283, 6_291_455 + 511 + 1, 2),
        ("1G leaves", 13_339, 12_287 + 511 + 511 + 1, 4),
        ("nothing", 25, 0, 0),
    ],
)
def test_the_zap_walks_12_tib_too(mapped_by, zap, leaves, splits):
    """S230 and S122. By hand, for 2M leaves: 6 303 771 entries of a walk down to 2M, and 511
    and 1 in the two new 4K tables. For 1G leaves: 12 287 whole, 511 of 2M at the start and none at the end,
    and again 511 and 1 of 4K.
    """
    root = mapped_guest(mapped_by)
    before = [*leaf_runs(root)] if splits != 2 else None
    for strategy in CONTENDERS.values():
        found = convert(root, strategy, HOLE)
        assert (found.zap_visits, found.splits) == (zap, splits)
        assert found.zapped == leaves
    assert before is None or [*leaf_runs(root)] == before


def test_the_zap_of_12_tib_makes_three_billion_seamcalls():
    """S161: BLOCK, TRACK and REMOVE for each leaf, WBINVD for each 4K page of it. Of 12 TiB from 2T+4K on,
    6 291 455 leaves of 2M are whole, and 511 + 1 of 4K come of the two that were split.
    """
    calls = zap_seamcalls(6_291_455 + 511 + 1, 6_291_455 * 512 + 511 + 1)
    assert sum(calls.values()) == 6_291_455 * (3 + 512) + 512 * 4 == 3_240_101_373
    assert calls["TDH.PHYMEM.PAGE.WBINVD"] == 12 * (1 << 40) // 4096
    assert calls["TDH.MEM.RANGE.BLOCK"] == calls["TDH.MEM.TRACK"] == calls["TDH.MEM.PAGE.REMOVE"] == 6_291_967
    assert len(calls) == 4


def test_one_2m_leaf_takes_515_seamcalls_to_remove_and_a_4k_leaf_four():
    assert sum(zap_seamcalls(1, 512).values()) == 515
    assert sum(zap_seamcalls(1, 1).values()) == 4
    assert sum(zap_seamcalls(0, 0).values()) == 0


def test_the_walk_at_most_doubles_a_long_conversion_and_not_a_short_one():
    """12 TiB of 2M leaves: 6 303 777 visits and then 6 304 283 of the zap (S230). 8 KiB in a 1G leaf: 8
    (S139), and then a zap that meets an entry each of levels 4 to 2, and two of 4K.
    """
    long = convert(mapped_guest("2M leaves"), CONTENDERS["walk_v3"], HOLE)
    assert (long.split_visits, long.zap_visits) == (6_303_777, 6_304_283)
    short = convert(mapped_guest("1G leaves"), CONTENDERS["walk_v3"], GfnRange.parse("1G+3M", "1G+3M+8K"))
    assert (short.split_visits, short.zap_visits) == (8, 3 + 2)


def test_where_nothing_is_mapped_the_walk_still_visits_25_entries():
    """S122 has 24 for aligned edges: the entries of the root. With unaligned ones the last is a 25th."""
    visits = {
        name: convert(mapped_guest("nothing"), plan, HOLE).split_visits for name, plan in CONTENDERS.items()
    }
    assert visits == {"walk_v3": 25, "two_calls": 2, "kai_two_step": 4, "one_block_per_edge": 2}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8K", "2M", "4M", "1G", "3G"])
@pytest.mark.parametrize("mapped_by", [name for name in MAPS if name != "4K leaves"])
def test_each_number_is_the_engines_own_step_by_step(mapped_by, size):
    span = GfnRange(START, START + parse_gfn(size))
    for strategy in CONTENDERS.values():
        assert convert(mapped_guest(mapped_by), strategy, span) == stepwise(
            mapped_guest(mapped_by), strategy, span
        )


@pytest.mark.parametrize("start", ["4K", "2M", "1G", "1G+2M+4K"])
@pytest.mark.parametrize("size", ["8K", "2M", "10M"])
def test_the_formula_for_4k_leaves_is_what_the_engine_does(start, size):
    """On somewhat more than 1 GiB, which can be built."""
    span = GfnRange(parse_gfn(start), parse_gfn(start) + parse_gfn(size))
    for name in ("walk_v3", "kai_two_step", "one_block_per_edge", "plain_split"):
        root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
        populate(root, 0, 1, parse_gfn("1G+64M"), 0)
        assert convert_4k(STRATEGIES[name], span) == stepwise(root, STRATEGIES[name], span)


def test_the_formula_refuses_a_call_over_nothing():
    with pytest.raises(InvalidValueError, match=r"empty ranges; \[4K, 4K\)"):
        convert_4k(STRATEGIES["empty_range"], GfnRange(1, 3))


def test_a_guest_of_4k_leaves_is_not_built():
    for name in ("4K leaves", "2M", ""):
        with pytest.raises(InvalidValueError, match="is one of nothing, 1G leaves, 2M leaves;"):
            mapped_guest(name)
    with pytest.raises(InvalidValueError, match="is one of"):
        cost_curves("3M leaves")


def test_sizes_go_from_8k_to_12t_and_fit_the_guest():
    assert SIZES[0] == parse_gfn("8K")
    assert SIZES[-1] == parse_gfn("12T")
    assert list(SIZES) == sorted(SIZES)
    assert START + SIZES[-1] == HOLE.end <= GUEST_FRAMES
    assert HOLE.start == START


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mapped_by", "contender", "size"),
    [
        ("2M leaves", "one_block_per_edge", "8M"),
        ("2M leaves", "kai_two_step", "16M"),
        ("2M leaves", "two_calls", "2G"),
        ("1G leaves", "one_block_per_edge", "8M"),
        ("1G leaves", "two_calls", "4G"),
        ("nothing", "one_block_per_edge", "1T"),
    ],
)
def test_where_one_call_over_the_range_visits_more(mapped_by, contender, size):
    """S233: one v3 call visits fewest up to some 4 to 8 MiB. Both sides of the crossing, stepwise."""
    at = cost_curves(mapped_by).crossover(contender)
    assert at == parse_gfn(size)
    for frames, more in ((at // 2, False), (at, True)):
        span = GfnRange(START, START + frames)
        v3 = stepwise(mapped_guest(mapped_by), CONTENDERS["walk_v3"], span)
        other = stepwise(mapped_guest(mapped_by), CONTENDERS[contender], span)
        assert (v3[1] > other[1]) is more


def test_a_curve_that_is_never_overtaken_has_no_crossing():
    curves = Curves(
        "2M leaves", (2, 4, 8), {"walk_v3": (1, 2, 3), "other": (1, 2, 3), "less": (0, 3, 2)}, (1, 1, 1)
    )
    assert curves.crossover("other") is None
    assert curves.crossover("less") == 8
    assert curves._replace(split={"walk_v3": (1, 2, 3), "none": (0, 0, 0)}).crossover("none") == 2


def test_the_price_of_safety_is_the_same_for_the_zap_whoever_split():
    root = mapped_guest("2M leaves")
    for size in (2, 512, 1 << 12, 1 << 20):
        span = GfnRange(START, START + size)
        assert len({convert(root, strategy, span)[2:] for strategy in CONTENDERS.values()}) == 1
