"""Toy trees as values: all of them are there, and memory holds what the value says."""

from random import Random

import pytest

from tdpkit.engine.gfn import Geometry
from tdpkit.engine.tree import map_leaf
from tdpkit.lab.shapes import (
    HOLE,
    LEAF,
    NotTheTree,
    frames_of,
    leaves_of,
    plant,
    random_shape,
    read,
    shapes,
    tables_of,
)
from tests.oracles import brute

SMALL = [Geometry(1, 1, 1), Geometry(1, 2, 1), Geometry(1, 2, 2), Geometry(1, 3, 2), Geometry(2, 1, 1)]
FOUR = Geometry(2, 3, 3)


def as_brute(geometry, shape):
    """The same tree as the tests' own model writes it, on the host frames that follow the guest's."""

    def table(entries, level, base):
        pages = brute.pages(geometry, level)
        return [entry(of, level, base + at * pages) for at, of in enumerate(entries)]

    def entry(of, level, gfn):
        if of == HOLE:
            return brute.HOLE
        if of == LEAF:
            return brute.leaf(brute.pages(geometry, geometry.root_level + 1) + gfn, level)
        return table(of, level - 1, gfn)

    return table(shape, geometry.root_level, 0)


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("geometry", SMALL, ids=str)
def test_all_trees_are_there_once(geometry, holes):
    """Counted by the choices at each place: a hole, a leaf, or any table of the level below."""
    entries = 0
    for level in range(1, geometry.root_level + 1):
        tables = entries**2**geometry.index_bits if level > 1 else 0
        entries = holes + (level <= geometry.max_leaf_level) + tables
    found = list(shapes(geometry, holes=holes))
    assert len(found) == len(set(found)) == entries**2**geometry.index_bits


@pytest.mark.parametrize("geometry", SMALL, ids=str)
def test_every_tree_of_the_smallest_machines_is_planted_and_read(geometry):
    for shape in shapes(geometry):
        root = plant(geometry, shape)
        assert brute.read(root) == as_brute(geometry, shape)
        assert read(root) == shape


@pytest.mark.parametrize("shuffle", [None, 1, 2])
def test_random_trees_with_rows_in_any_order(shuffle):
    random = Random(1)
    for _ in range(200):
        shape = random_shape(FOUR, random)
        root = plant(FOUR, shape, shuffle=shuffle)
        assert brute.read(root) == as_brute(FOUR, shape)
        assert read(root) == shape
        assert (
            root.pool.rows_in_use == tables_of(shape) == sum(brute.tables_per_level(FOUR, brute.read(root)))
        )


def test_random_trees_are_not_all_alike():
    random = Random(1)
    drawn = [random_shape(FOUR, random) for _ in range(300)]
    assert len(set(drawn)) > 250
    assert {level for shape in drawn for _, level in leaves_of(FOUR, shape)} == {1, 2, 3}
    assert drawn == [random_shape(FOUR, random) for random in [Random(1)] for _ in range(300)]


def test_leaves_and_frames_are_those_of_the_model():
    random = Random(2)
    for _ in range(200):
        shape = random_shape(FOUR, random)
        model = as_brute(FOUR, shape)
        assert list(leaves_of(FOUR, shape)) == [leaf[:2] for leaf in brute.leaves(FOUR, model)]
        assert frames_of(FOUR, shape) == set(brute.frames(FOUR, model))


@pytest.mark.parametrize(
    "change",
    [
        lambda spte: spte + (1 << 12),  # another host frame
        lambda spte: spte & ~(1 << 9),  # not Dirty any more
        lambda spte: spte & ~(1 << 11),  # not present
        lambda spte: spte ^ (1 << 7),  # another size
        lambda spte: brute.FROZEN,
        lambda spte: 0,
    ],
)
@pytest.mark.parametrize("at", [(0, 1), (2, 0)])
def test_one_bit_of_an_entry_makes_it_no_tree(change, at):
    """A leaf of two frames and one of one: what reads memory sees any difference."""
    geometry, shape = Geometry(1, 2, 2), (LEAF, (LEAF, HOLE))
    root = plant(geometry, shape)
    row, index = (root.row, 0) if at == (0, 1) else (root.row + 1, 0)
    root.pool.table(row)[index] = change(root.pool.table(row)[index])
    with pytest.raises(NotTheTree, match="is no entry of a toy tree"):
        read(root)


def test_a_leaf_where_none_may_be_is_no_tree():
    root = plant(Geometry(1, 3, 2), (((LEAF, LEAF), HOLE), HOLE))
    with pytest.raises(NotTheTree):
        read_after_mapping(root)


def read_after_mapping(root):
    """A leaf on the guest's own frames: a shape's lie on others."""
    map_leaf(root, 4, 1, 4)
    return read(root)
