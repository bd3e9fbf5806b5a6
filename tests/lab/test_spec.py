"""The spec against the tests' own model, and against a search of all ways to split."""

from collections import deque
from random import Random

import pytest

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.tree import Leaf, map_run
from tdpkit.lab.layouts import LAYOUTS, map_layout
from tdpkit.lab.shapes import LEAF, leaves_of, plant, random_shape, shapes, tables_of
from tdpkit.lab.spec import (
    edges_of,
    forced_in,
    forced_splits,
    holds_both_sides,
    judge,
    leaves_at_edges,
    split_as_forced,
)
from tdpkit.lab.strategies import STRATEGIES, Call, Report, run_strategy
from tests.oracles import brute

from .test_shapes import as_brute

THREE = Geometry(1, 3, 3)
FOUR = Geometry(2, 3, 3)


def all_ranges(frames):
    return [GfnRange(start, end) for start in range(frames + 1) for end in range(start, frames + 1)]


def test_the_forced_tree_is_the_models():
    """Every tree and range of the smallest universe, and samples of a larger one."""
    random = Random(3)
    cases = [(THREE, shape, span) for shape in shapes(THREE) for span in all_ranges(8)]
    for _ in range(400):
        start, end = sorted(random.choices(range(65), k=2))
        cases.append((FOUR, random_shape(FOUR, random), GfnRange(start, end)))
    for geometry, shape, span in cases:
        after, splits = brute.split_at_edges(geometry, as_brute(geometry, shape), span.start, span.end)
        edges = edges_of(span)
        assert as_brute(geometry, split_as_forced(geometry, shape, edges)) == after
        forced = [
            split for leaf in leaves_of(geometry, shape) for split in forced_splits(geometry, *leaf, edges)
        ]
        assert sorted(forced, key=lambda leaf: (leaf[0], -leaf[1])) == splits


def split_once(geometry, shape):
    """Every tree that one split of one huge leaf makes of `shape`."""

    def below(entry, level):
        if entry == LEAF and level > 1:
            yield (LEAF,) * 2**geometry.index_bits
        if isinstance(entry, tuple):
            for at, child in enumerate(entry):
                for changed in below(child, level - 1):
                    yield (*entry[:at], changed, *entry[at + 1 :])

    return below(shape, geometry.root_level + 1)


def is_safe(geometry, shape, span):
    """Frame by frame: no leaf has frames on both sides of an edge."""
    for gfn, level in leaves_of(geometry, shape):
        frames = range(gfn, gfn + brute.pages(geometry, level))
        if any(x - 1 in frames and x in frames for x in (span.start, span.end)):
            return False
    return True


def test_it_is_the_only_safe_tree_with_the_fewest_splits():
    """Breadth first over all sequences of splits, which know nothing of edges."""
    for shape in list(shapes(THREE))[::7]:
        for span in all_ranges(8):
            ring, seen, safe = deque([(shape, 0)]), {shape}, []
            while ring:
                tree, splits = ring.popleft()
                if safe and splits > safe[0][1]:
                    break
                if is_safe(THREE, tree, span):
                    safe.append((tree, splits))
                    continue
                for after in split_once(THREE, tree):
                    if after not in seen:
                        seen.add(after)
                        ring.append((after, splits + 1))
            expected = split_as_forced(THREE, shape, edges_of(span))
            assert [tree for tree, splits in safe if splits == safe[0][1]] == [expected]
            assert safe[0][1] == tables_of(expected) - tables_of(shape)


@pytest.mark.parametrize(
    ("gfn", "pages", "x", "holds"),
    [
        (0, 4, 0, False),
        (0, 4, 1, True),
        (0, 4, 3, True),
        (0, 4, 4, False),
        (4, 4, 3, False),
        (4, 1, 4, False),
    ],
)
def test_a_leaf_holds_both_sides_of_an_edge_strictly_inside(gfn, pages, x, holds):
    assert holds_both_sides(gfn, pages, [x]) is holds
    assert holds_both_sides(gfn, pages, [100, x]) is holds


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
    lie = Report((Call(0, 16, 2),), (1,), 2, forced, 0, 0, 0, False, 0, root)
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
