"""Running plans: long calls against short, trouble on the way; verdicts, which follow from trees alone."""

from random import Random

import pytest

from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.engine.tree import Leaf, map_run
from tdpkit.lab.judge import Report, forced_in, judge, leaves_at_edges, run_strategy
from tdpkit.lab.layouts import LAYOUTS, map_layout
from tdpkit.lab.shapes import LEAF, plant, random_shape, read
from tdpkit.lab.strategies import STRATEGIES, PlannedCall
from tdpkit.lab.worlds import Faults, FaultWorld, JournalWorld
from tests.oracles import brute

from .test_search import by_model
from .test_shapes import as_brute
from .test_strategies import FOUR, HOLE, SMALL, guest

# ---- long calls ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_call_is_counted_as_if_it_were_walked():
    """Every strategy, random trees and ranges: none is walked from end to end, and nothing differs but what
    a priced call leaves in the tree.
    """
    random, priced = Random(7), 0
    for _ in range(300):
        geometry = random.choice([SMALL, FOUR, Geometry(1, 4, 3)])
        shape = random_shape(geometry, random)
        span = GfnRange(*sorted(random.choices(range(geometry.root_pages + 1), k=2)))
        if span.start == geometry.root_pages:
            continue
        for name, strategy in STRATEGIES.items():
            one, other = plant(geometry, shape), plant(geometry, shape, shuffle=1)
            walked, short = run_strategy(one, strategy, span), run_strategy(other, strategy, span, stepwise=0)
            assert walked[:3] == short[:3], (name, shape, span)  # calls, visits, splits
            assert walked[4:7] == short[4:7]  # restarts, lock drops, tables
            assert not walked.priced
            assert set(short.made) <= set(walked.made)
            assert short.priced == (len(short.made) < short.splits)
            forced = forced_in(plant(geometry, shape), span)
            assert judge(short, span, forced) == judge(walked, span, forced), (name, shape, span)
            priced += short.priced
            if not short.priced:
                assert read(other) == read(one)
                assert short.made == walked.made
    assert priced > 50


@pytest.mark.slow
def test_what_scans_found_may_be_shared_by_runs_on_one_tree():
    """Strategy after strategy, each taken back: as if each had scanned for itself. Some scans serve twice."""
    random, asked, made = Random(13), 0, 0
    for _ in range(120):
        shape = random_shape(FOUR, random)
        span = GfnRange(*sorted(random.choices(range(64), k=2)))
        root, scans = plant(FOUR, shape), {}
        for strategy in STRATEGIES.values():
            world = JournalWorld(root.pool)
            shared = run_strategy(root, strategy, span, world=world, stepwise=0, scans=scans)
            left = read(root)
            world.undo()
            alone, own = plant(FOUR, shape), {}
            assert run_strategy(alone, strategy, span, stepwise=0, scans=own)[:-1] == shared[:-1]
            assert read(alone) == left
            asked += len(own)
        made += len(scans)
    assert made < asked


def test_a_priced_call_splits_both_ends_for_real():
    of_2m = guest(2, 1 << 23)
    world = JournalWorld(of_2m.pool)
    report = run_strategy(of_2m, STRATEGIES["plain_split"], HOLE, world=world)
    assert report.made == ((parse_gfn("2T"), 2), (parse_gfn("14T"), 2))
    assert "25 178 142 visits, 6 291 457 splits" in repr(report)
    assert "(by formula between the edges)" in repr(report)
    world.undo()


@pytest.mark.slow
def test_the_tree_is_as_the_model_says_after_every_strategy():
    """And what a journal remembers brings it back."""
    random = Random(11)
    for _ in range(150):
        shape = random_shape(FOUR, random)
        span = GfnRange(*sorted(random.choices(range(64), k=2)))
        root = plant(FOUR, shape, shuffle=random.randrange(99))
        for strategy in STRATEGIES.values():
            world = JournalWorld(root.pool)
            report = run_strategy(root, strategy, span, world=world)
            assert brute.read(root) == by_model(FOUR, shape, report.calls)
            assert report.splits == len(report.made) == len(set(report.made))
            world.undo()
            assert read(root) == shape


# ---- trouble -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_a_page_the_later_calls_are_not_made(name):
    """-ENOMEM at the second page: what was split stays, translations too, and a second try completes it."""
    span, frames = GfnRange(5, 37), set(range(64))
    root, clean = plant(FOUR, (LEAF,) * 4), plant(FOUR, (LEAF,) * 4)
    whole = run_strategy(clean, STRATEGIES[name], span)
    if whole.splits < 2:
        pytest.skip("it asks for one page only")
    failed = run_strategy(root, STRATEGIES[name], span, world=FaultWorld(root, Faults(refuse_page=2)))
    assert (failed.errno, failed.splits, failed.tables) == (-12, 1, 2)
    assert (failed.lock_drops, failed.restarts) == (2, 1)
    assert failed.made == whole.made[:1]
    assert len(failed.visits) == len(failed.calls) <= len(whole.calls)
    assert repr(failed).endswith("returned -12")
    assert set(brute.frames(FOUR, brute.read(root))) == frames
    again = run_strategy(root, STRATEGIES[name], span)
    assert (again.errno, again.splits) == (0, whole.splits - 1)
    assert read(root) == read(clean)


def test_a_long_call_without_a_page_fails_too():
    """At either crossing leaf, and at either end of a priced call."""
    for name in ("walk_v3", "plain_split"):
        for page in (1, 2, 3, 4):
            root = plant(FOUR, (LEAF,) * 4)
            world = FaultWorld(root, Faults(refuse_page=page))
            report = run_strategy(root, STRATEGIES[name], GfnRange(5, 37), world=world, stepwise=0)
            assert report.errno == -12
            assert len(report.made) == page - 1


def test_a_reschedule_is_a_restart():
    root = plant(FOUR, (LEAF,) * 4)
    world = FaultWorld(root, Faults(resched_at=2))
    report = run_strategy(root, STRATEGIES["walk_v3"], GfnRange(16, 64), world=world)
    assert (report.splits, report.lock_drops, report.restarts) == (0, 1, 1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_range_that_starts_beyond_the_root_is_refused(name):
    root = plant(FOUR, (LEAF,) * 4)
    before = brute.memory(root.pool)
    with pytest.raises(InvalidValueError, match="holds frames below 0x40"):
        run_strategy(root, STRATEGIES[name], GfnRange(64, 70))
    assert brute.memory(root.pool) == before


@pytest.mark.parametrize("wrong", [(9, 5, 1), (-4, 5, 1), (0, 5, 0), (0, 5, 3), (0, 5.0, 1)])
def test_a_call_that_the_engine_refuses_is_refused_before_any_is_made(wrong):
    root = plant(FOUR, (LEAF,) * 4)
    before = brute.memory(root.pool)
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        run_strategy(
            root, lambda geometry, span: [PlannedCall(0, 16, 1), PlannedCall(*wrong)], GfnRange(1, 5)
        )
    assert brute.memory(root.pool) == before


# ---- judging a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "start", "end", "crossing", "forced"),
    [
        ("one-1G", "1G", "2G", [], []),
        ("one-1G", "1G+1M", "2G", [("1G", 3)], [("1G", 3), ("1G", 2)]),
        ("one-1G", "1G+2M", "2G", [("1G", 3)], [("1G", 3)]),
        ("one-1G", "0", "1G+4K", [("1G", 3)], [("1G", 3), ("1G", 2)]),
        ("one-1G", "1G+4K", "2G-4K", [("1G", 3)], [("1G", 3), ("1G", 2), ("2G-2M", 2)]),
        ("mixed", "6M+12K", "3G+513M", [("6M", 2), ("3G", 3)], [("6M", 2), ("3G", 3), ("3G+512M", 2)]),
        ("mixed", "4K", "8K", [], []),
    ],
)
def test_what_is_forced_in_a_real_machine(layout, start, end, crossing, forced):
    """By hand; 1G leaves at 1G and 3G, 2M leaves from 4M on, 4K leaves below."""
    span, root = GfnRange.parse(start, end), plant(LAYOUTS[layout].geometry, ("hole",) * 512)
    map_layout(root, LAYOUTS[layout])
    named = [GfnRange.parse("0", at).end for at, _ in crossing]
    assert [(leaf.gfn, leaf.level) for leaf in leaves_at_edges(root, span)] == [
        (gfn, level) for gfn, (_, level) in zip(named, crossing, strict=True)
    ]
    assert forced_in(root, span) == tuple((GfnRange.parse("0", at).end, level) for at, level in forced)


def judged(shape, span, strategy, geometry=FOUR):
    root = plant(geometry, shape)
    forced = forced_in(root, span)
    return judge(run_strategy(root, strategy, span), span, forced), root


@pytest.mark.slow
def test_verdicts_follow_from_the_trees_alone():
    """Against the model's trees, whatever the strategy says: for each strategy and many cases."""
    random, seen = Random(5), set()
    for _ in range(250):
        shape = random_shape(FOUR, random)
        span = GfnRange(*sorted(random.choices(range(65), k=2)))
        before = as_brute(FOUR, shape)
        expected, splits = brute.split_at_edges(FOUR, before, span.start, span.end)
        for name, strategy in STRATEGIES.items():
            said, root = judged(shape, span, strategy)
            after = brute.read(root)
            still = brute.split_at_edges(FOUR, after, span.start, span.end)[1]
            verdict = "wrong" if still else "exact" if after == expected else "needless"
            assert said.verdict == verdict, (name, shape, span)
            assert sorted(said.forced, key=lambda leaf: (leaf[0], -leaf[1])) == splits
            gone = set(brute.frames(FOUR, after)) - set(
                brute.frames(FOUR, brute.zap(FOUR, after, span.start, span.end)[0])
            )
            outside = {gfn for gfn in gone if not span.start <= gfn < span.end}
            assert {gfn for part in said.outside for gfn in range(part.start, part.end)} == outside
            assert said.outside_frames == len(outside)
            made = sum(brute.tables_per_level(FOUR, after)) - sum(brute.tables_per_level(FOUR, before))
            assert said.needless == made - len(splits) + len(said.missing)
            seen.add((verdict, bool(said.missing), bool(said.needless)))
    assert {verdict for verdict, _, _ in seen} == {"wrong", "needless", "exact"}
    assert ("wrong", True, True) in seen, "splits the wrong leaf and leaves the right one"


def test_a_strategy_that_does_nothing_is_exact_where_nothing_crosses_and_wrong_elsewhere():
    nothing = lambda geometry, span: []  # noqa: E731
    shape = (LEAF, LEAF, LEAF, LEAF)
    assert judged(shape, GfnRange(16, 32), nothing)[0].verdict == "exact"
    said, _ = judged(shape, GfnRange(16, 33), nothing)
    assert (said.verdict, said.missing, said.outside) == ("wrong", ((32, 3), (32, 2)), (GfnRange(33, 48),))


def test_a_report_that_lies_about_its_splits_does_not_change_the_verdict():
    root, span = plant(FOUR, (LEAF,) * 4), GfnRange(5, 16)
    forced = forced_in(root, span)
    lie = Report((PlannedCall(0, 16, 2),), (1,), 2, forced, 0, 0, 0, False, 0, root)
    assert judge(lie, span, forced).verdict == "wrong"


def test_an_edge_at_the_end_of_the_root_or_beyond_has_no_leaf():
    root = plant(FOUR, (LEAF,) * 4)
    assert leaves_at_edges(root, GfnRange(0, 64)) == []
    assert leaves_at_edges(root, GfnRange(0, 1 << 40)) == []
    [leaf] = leaves_at_edges(root, GfnRange(63, 64))
    assert isinstance(leaf, Leaf)
    assert (leaf.gfn, leaf.level) == (48, 3)


def test_one_leaf_that_crosses_both_edges_is_named_once():
    root = plant(Geometry(2, 2, 2), ("hole",) * 4)
    map_run(root, 0, 2, 4, 0)
    assert [leaf.gfn for leaf in leaves_at_edges(root, GfnRange(5, 7))] == [4]
    assert forced_in(root, GfnRange(5, 7)) == ((4, 2),)
