"""The spec against the tests' own model, and against a search of all ways to split."""

from collections import deque
from random import Random

import pytest

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.lab.shapes import LEAF, leaves_of, random_shape, shapes, tables_of
from tdpkit.lab.spec import crossed_edges, edges_of, forced_splits, holds_both_sides, split_as_forced
from tests.oracles import brute

from .test_shapes import as_brute

THREE = Geometry(1, 3, 3)
FOUR = Geometry(2, 3, 3)


def all_ranges(frames):
    return [GfnRange(start, end) for start in range(frames + 1) for end in range(start, frames + 1)]


@pytest.mark.slow
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


def test_crossed_edges_are_those_that_a_split_would_change():
    """Frame by frame, on random trees: the model splits something for x, or nothing."""
    random = Random(8)
    for _ in range(60):
        shape = random_shape(FOUR, random)
        crossed = {x for x in range(65) if brute.split_at_edges(FOUR, as_brute(FOUR, shape), x, x)[1]}
        assert crossed_edges(FOUR, shape) == crossed


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
