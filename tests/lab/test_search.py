"""Every case of the toy universes, on the engine, for each strategy; and what the search would notice."""

from functools import cache, partial
from random import Random

import pytest

from tdpkit.engine import tdp_mmu
from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.lab import search as exhaust
from tdpkit.lab import strategies
from tdpkit.lab.judge import run_strategy
from tdpkit.lab.search import SAMPLED, UNIVERSES, Universe, sample, search
from tdpkit.lab.shapes import LEAF, NotTheTree, leaves_of, plant, random_shape, shapes, tables_of
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES, PlannedCall, plan_of
from tests.oracles import brute

from .test_shapes import as_brute
from .test_spec import is_safe

pytestmark = pytest.mark.slow

EXACT = {*CONTENDERS, "empty_range", "head_and_tail"}
SAFE = {"plain_split", "two_calls_unfiltered", "merged_blocks", "one_frame_each"}
WRONG = {"head_rounded_up", "last_frame_as_edge", "one_2m_pass"}

CASES = {"three levels": 64_980, "four levels, full": 95_625, "four levels, one root entry": 442_170}
"""S236 and the issue: universe by universe."""


def test_each_strategy_has_a_place_here():
    assert set(STRATEGIES) == EXACT | SAFE | WRONG


@cache
def tallies(name):
    """What was found in a universe or a sample; each is searched once in a process."""
    if name in SAMPLED:
        return sample(SAMPLED[name], STRATEGIES, 20_000)
    return search(UNIVERSES[name], CONTENDERS if name == "four levels, one root entry" else STRATEGIES)


@pytest.mark.parametrize("name", UNIVERSES)
def test_the_whole_universe_is_searched(name):
    assert {tally.cases for tally in tallies(name).values()} == {CASES[name]}
    for tally in tallies(name).values():
        assert tally.exact + tally.needless + tally.wrong == tally.cases


@pytest.mark.parametrize("name", UNIVERSES)
def test_the_contenders_are_exact_in_every_case(name):
    """And what S233 says of the others, where they are tried."""
    for strategy, tally in tallies(name).items():
        if strategy in EXACT:
            assert (tally.exact, tally.smallest) == (tally.cases, None), strategy
        elif strategy in SAFE:
            assert tally.wrong == 0 < tally.needless, strategy
        else:
            assert tally.wrong > 0, strategy


def test_the_smallest_counterexamples_are_the_ones_found_by_hand():
    """One leaf of four frames in a machine of eight, and an edge inside it or at half of it."""
    found = {name: tally.smallest for name, tally in tallies("three levels").items() if tally.smallest}
    assert {case.shape for case in found.values()} == {(LEAF, "hole")}
    assert {name: str(case.span) for name, case in found.items()} == {
        "plain_split": "[0, 8K)",
        "two_calls_unfiltered": "[4K, 8K)",
        "merged_blocks": "[0, 4K)",
        "head_rounded_up": "[4K, 8K)",
        "one_frame_each": "[4K, 8K)",
        "last_frame_as_edge": "[0, 4K)",
        "one_2m_pass": "[0, 8K)",
    }
    assert {name for name, case in found.items() if case.verdict == "wrong"} == WRONG


@pytest.mark.parametrize("name", ["three levels", "four levels, full"])
def test_no_smaller_counterexample_exists(name):
    """Every smaller tree and range is tried again, on the model of the tests."""
    universe = UNIVERSES[name]
    geometry = universe.geometry
    for strategy, tally in tallies(name).items():
        case = tally.smallest
        if case is None:
            continue
        size = len(leaves_of(geometry, case.shape)) + tables_of(case.shape)
        for shape in universe.shapes():
            parts = len(leaves_of(geometry, shape)) + tables_of(shape)
            if parts > size:
                continue
            for span in universe.ranges:
                smaller = (parts, span.pages, span.start) < (size, case.span.pages, case.span.start)
                if span.pages and smaller:
                    after = by_model(
                        geometry, shape, plan_of(STRATEGIES[strategy], geometry, span, geometry.root_pages)
                    )
                    worse = {"wrong": ("wrong",), "needless": ("wrong", "needless")}[case.verdict]
                    assert verdict_of(geometry, shape, after, span) not in worse


# ---- the engine's steps against a model of them --------------------------------------------------------


def by_model(geometry, shape, calls):
    """What the calls make of the tree, by what a split call is for: no walk, no page, no lock."""
    table = as_brute(geometry, shape)
    for start, end, target_level, crossing, _ in calls:

        def must(gfn, level, start=start, end=end, target_level=target_level, crossing=crossing):
            size = brute.pages(geometry, level)
            inside = start <= gfn and gfn + size <= end
            return level > target_level and brute.touches(gfn, size, start, end) and not (crossing and inside)

        table, _ = brute.split(geometry, table, must)
    return table


def verdict_of(geometry, shape, after, span):
    expected, _ = brute.split_at_edges(geometry, as_brute(geometry, shape), span.start, span.end)
    if after == expected:
        return "exact"
    return "wrong" if brute.split_at_edges(geometry, after, span.start, span.end)[1] else "needless"


def test_every_case_of_the_smallest_universe_ends_as_the_model_does():
    """The counts of each verdict, strategy by strategy, found a second time."""
    universe = UNIVERSES["three levels"]
    some = list(universe.shapes())[::6]
    found = search(universe._replace(shapes=lambda: some), STRATEGIES)
    for name, strategy in STRATEGIES.items():
        counts = {"exact": 0, "needless": 0, "wrong": 0}
        for span in universe.ranges:
            calls = plan_of(strategy, universe.geometry, span, 8)
            for shape in some:
                after = by_model(universe.geometry, shape, calls)
                counts[verdict_of(universe.geometry, shape, after, span)] += 1
        tally = found[name]
        assert {"exact": tally.exact, "needless": tally.needless, "wrong": tally.wrong} == counts, name


# ---- samples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLED)
def test_twenty_thousand_samples_of_each_larger_toy(name):
    """With two levels only, one size of leaf is above 4K: then one 2M-level pass is enough (S233)."""
    enough = (
        {"one_2m_pass", "two_calls_unfiltered", "merged_blocks"} if name.endswith("two levels") else set()
    )
    for strategy, tally in tallies(name).items():
        assert tally.cases == 20_000
        if strategy in EXACT | enough:
            assert tally.exact == 20_000, strategy
        elif strategy in SAFE:
            assert tally.wrong == 0 < tally.needless, strategy
        else:
            assert tally.wrong > 0, strategy


def test_a_sample_is_the_same_for_the_same_seed_only():
    one, again, other = (
        sample(SAMPLED["four entries, three levels"], STRATEGIES, 200, seed) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_samples_meet_empty_ranges_and_both_ends():
    """Drawn as `sample` draws them."""
    random, spans = Random(0), set()
    for _ in range(20_000):
        random_shape(SAMPLED["four entries, two levels"], random)
        spans.add(tuple(sorted(random.choices(range(17), k=2))))
    assert len(spans) == 17 * 18 // 2


# ---- what the search itself would notice ---------------------------------------------------------------

TINY = Universe("one size above 4K", Geometry(1, 2, 2), partial(shapes, Geometry(1, 2, 2)))


def test_a_strategy_that_does_nothing_is_found_out():
    [tally] = search(TINY, {"nothing": lambda geometry, span: []}).values()
    assert tally.wrong > 0
    assert tally.smallest.after == tally.smallest.shape
    assert repr(tally) == (
        f"{tally.exact} of {tally.cases} cases exact, 0 safe but not minimal, {tally.wrong} wrong"
    )


def test_a_call_beyond_the_machine_is_left_out():
    [tally] = search(
        TINY, {"far": lambda geometry, span: [*strategies.walk_v3(geometry, span), PlannedCall(4, 9, 1)]}
    ).values()
    assert repr(tally) == f"exact in all {tally.cases} cases"


def broken(monkeypatch, name, change):
    """The engine's `name` does something else."""
    real = getattr(tdp_mmu, name)
    monkeypatch.setattr(tdp_mmu, name, lambda *given, **named: change(real(*given, **named), *given))


def test_a_split_that_moves_a_frame_is_no_split(monkeypatch):
    broken(monkeypatch, "make_small_spte", lambda spte, huge, level, index, *_: spte + (index << 12))
    with pytest.raises(NotTheTree):
        search(TINY, CONTENDERS)


def test_a_split_that_drops_a_bit_is_no_split(monkeypatch):
    broken(monkeypatch, "make_small_spte", lambda spte, *_: spte & ~(1 << 9))
    with pytest.raises(NotTheTree):
        search(TINY, CONTENDERS)


def test_a_predicate_that_is_off_by_one_is_found_out(monkeypatch):
    """`<` for `<=`: a leaf that ends where the range ends is then split."""

    def cross(it, start, end):
        return not (it.gfn >= start and it.gfn + (1 << it.shifts[it.level]) < end)

    monkeypatch.setattr(tdp_mmu, "iter_cross_boundary", cross)
    assert search(TINY, {"v3": strategies.walk_v3})["v3"].needless > 0


def test_a_call_that_unmaps_frames_is_no_split(monkeypatch):
    """A tree that is a tree, with other frames."""
    real = exhaust.run

    def and_zap(call, world):
        real(call, world)
        table = world.pool.table(0)
        if table[0] != brute.HOLE:
            world.written.append((0, 0, table[0]))
            table[0] = brute.HOLE

    monkeypatch.setattr(exhaust, "run", and_zap)
    with pytest.raises(NotTheTree, match="other frames are mapped"):
        search(TINY, CONTENDERS)


def test_a_call_that_goes_too_far_is_found_out(monkeypatch):
    """One frame more than planned: a leaf beyond the range is split, in some tree that it is tried on."""
    real = exhaust.coroutine_of
    longer = lambda call, root: real(call._replace(end=call.end + 1), root)  # noqa: E731
    monkeypatch.setattr(exhaust, "coroutine_of", longer)
    with pytest.raises(NotTheTree, match="beyond its range"):
        search(TINY, {"plain": strategies.plain_split})


def test_a_call_that_cannot_be_taken_back_is_found_out(monkeypatch):
    """The next one would find another tree than it was planted."""
    monkeypatch.setattr(exhaust.JournalWorld, "undo", lambda self: self.written.clear())
    with pytest.raises(NotTheTree, match="other memory than before"):
        search(TINY, {"plain": strategies.plain_split})


@pytest.mark.parametrize("geometry", [Geometry(1, 4, 3), Geometry(2, 3, 3), Geometry(2, 3, 2)], ids=str)
def test_what_cases_share_is_what_each_would_find_alone(geometry):
    """Any calls on any trees, in one search: end, visits and splits are those of a run of its own."""
    random, frames, cases = Random(9), geometry.root_pages, []
    for _ in range(250):
        calls = []
        for _ in range(random.randint(1, 3)):
            start = random.randrange(frames)
            end = random.choice((start, start + 1, random.randint(start, frames), frames + 3))
            crossing = random.random() < 0.5
            calls.append(PlannedCall(start, end, random.randrange(1, geometry.root_level), crossing))
        cases.append((random_shape(geometry, random), calls))
    engine = exhaust._Engine(geometry, 64)
    for shape, calls in [*cases, *cases]:
        root = plant(geometry, shape)
        report = run_strategy(root, lambda *_, calls=calls: calls, GfnRange(0, 0))
        after, visits, splits = engine.made(shape, calls)
        assert (as_brute(geometry, after), visits, splits) == (
            brute.read(root),
            report.all_visits,
            report.splits,
        )


def test_what_is_judged_safe_is_safe_frame_by_frame():
    for name, tally in tallies("three levels").items():
        if case := tally.smallest:
            assert is_safe(case.geometry, case.after, case.span) == (name in SAFE)
            assert is_safe(case.geometry, case.expected, case.span)
            assert case.splits == tables_of(case.after) - tables_of(case.shape)
            assert case.forced == tables_of(case.expected) - tables_of(case.shape)


def test_ranges_are_all_there_the_shortest_first():
    ranges = UNIVERSES["three levels"].ranges
    assert len(ranges) == len(set(ranges)) == 45
    assert [span.pages for span in ranges] == sorted(span.pages for span in ranges)
    assert ranges[0] == GfnRange(0, 0)
