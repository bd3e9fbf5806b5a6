"""Toy trees as values: every tree of a small geometry, put into an engine's memory and read back.

A shape is the tree below one root as nested tuples: HOLE, LEAF, or a table as the tuple of its entries. The
frames that its leaves map follow from their place, so two trees with one shape are the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import product
from random import Random

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import (
    SHADOW_NONPRESENT_VALUE,
    make_leaf_spte,
    make_nonleaf_spte,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot

HOLE, LEAF = "hole", "leaf"
Shape = str | tuple["Shape", ...]


class NotTheTree(AssertionError):  # noqa: N818 - what it says is a fact, not a fault of the caller
    """Memory holds an entry that no shape has: a frame has moved, or a bit has changed."""


# ---- all of them, and some of them ---------------------------------------------------------------------


@cache
def entries_of(geometry: Geometry, level: int, holes: bool) -> tuple[Shape, ...]:
    """Every entry that `level` can have: a hole (if `holes`), a leaf, a table; the simplest first."""
    found: list[Shape] = [HOLE] if holes else []
    if level <= geometry.max_leaf_level:
        found.append(LEAF)
    if level > PG_LEVEL_4K:
        found += product(entries_of(geometry, level - 1, holes), repeat=geometry.entries)
    return tuple(found)


def shapes(geometry: Geometry, *, holes: bool = True) -> Iterator[Shape]:
    """Every tree of `geometry`; with `holes`, of any size, or with every frame mapped."""
    return product(entries_of(geometry, geometry.root_level, holes), repeat=geometry.entries)


def random_shape(geometry: Geometry, random: Random) -> Shape:
    """Some tree of `geometry`: at each place a leaf, a hole or a table, leaves and tables the most often."""

    def entry(level: int) -> Shape:
        kinds = [HOLE]
        kinds += [LEAF] * 3 if level <= geometry.max_leaf_level else []
        kinds += ["table"] * 3 if level > PG_LEVEL_4K else []
        kind = random.choice(kinds)
        return table(level - 1) if kind == "table" else kind

    def table(level: int) -> Shape:
        return tuple(entry(level) for _ in range(geometry.entries))

    return table(geometry.root_level)


# ---- what they map -------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 14)
def leaves_of(geometry: Geometry, shape: Shape) -> tuple[tuple[int, int], ...]:
    """(gfn, level) of every leaf, in order."""
    found: list[tuple[int, int]] = []

    def below(table: Shape, level: int, gfn: int) -> None:
        pages = geometry.pages(level)
        for entry in table:
            if entry == LEAF:
                found.append((gfn, level))
            elif entry != HOLE:
                below(entry, level - 1, gfn)
            gfn += pages

    below(shape, geometry.root_level, 0)
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def frames_of(geometry: Geometry, shape: Shape) -> frozenset[int]:
    """Every frame that is mapped."""
    return frozenset(
        frame
        for gfn, level in leaves_of(geometry, shape)
        for frame in range(gfn, gfn + geometry.pages(level))
    )


@lru_cache(maxsize=1 << 14)
def tables_of(shape: Shape) -> int:
    """Page-table pages, the root's included; tables without a leaf too."""
    return 0 if isinstance(shape, str) else 1 + sum(map(tables_of, shape))


# ---- in memory -----------------------------------------------------------------------------------------


@cache
def _leaf_sptes(geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """By level, the leaf at each place: on the host frames that follow the guest's last."""
    levels = range(geometry.max_leaf_level + 1)
    return tuple(
        tuple(
            make_leaf_spte(geometry.root_pages + gfn, level)
            for gfn in range(0, geometry.root_pages, geometry.pages(level))
        )
        if level
        else ()
        for level in levels
    )


def plant(geometry: Geometry, shape: Shape, *, capacity: int = 1, shuffle: int | None = None) -> TdpMmuRoot:
    """A root of its own, in a pool of its own, whose tables hold `shape`.

    capacity: rows that the pool starts with. shuffle: a seed; rows are then handed out in random order.
    """
    root = TdpMmuRoot(PageTablePool(geometry, capacity=capacity, shuffle=shuffle))
    plant_in(root, shape)
    return root


def plant_in(root: TdpMmuRoot, shape: Shape) -> None:
    """Write `shape` into the tables of an empty `root`."""
    geometry = root.geometry

    def fill(row: int, table: Shape, level: int, base: int) -> None:
        for index, entry in enumerate(table):
            gfn = base + index * geometry.pages(level)
            value = SHADOW_NONPRESENT_VALUE
            if entry == LEAF:
                value = _leaf_sptes(geometry)[level][gfn >> geometry.shifts[level]]
            elif entry != HOLE:
                child = root.pool.alloc()
                root.pool.init_page(child, root.child_role(level - 1), gfn)
                fill(child, entry, level - 1, gfn)
                value = make_nonleaf_spte(child)
            root.pool.table(row)[index] = value

    fill(root.row, shape, geometry.root_level, 0)


def read(root: TdpMmuRoot) -> Shape:
    """The shape that lies in memory below `root`.

    Raises NotTheTree if an entry is none of a shape's, bit for bit: a leaf elsewhere than on its frames.
    """
    geometry, table_of = root.geometry, root.pool.table
    leaf_sptes = _leaf_sptes(geometry)

    def table(row: int, level: int, at: int) -> Shape:
        """`at`: the number of the first entry among all of its level."""
        leaves = leaf_sptes[level] if level <= geometry.max_leaf_level else ()
        found: list[Shape] = []
        for spte in table_of(row).tolist():
            if spte == SHADOW_NONPRESENT_VALUE:
                found.append(HOLE)
            elif leaves and spte == leaves[at]:
                found.append(LEAF)
            else:
                child = spte_to_pfn(spte)
                if level == PG_LEVEL_4K or spte != make_nonleaf_spte(child):
                    raise NotTheTree(
                        f"level {level}, frame {at << geometry.shifts[level]}: {spte:#018x} is no entry of "
                        "a toy tree"
                    )
                found.append(table(child, level - 1, at << geometry.index_bits))
            at += 1
        return tuple(found)

    return table(root.row, geometry.root_level, 0)
