"""What "correct and minimal" means for a boundary split, said without a walk and without alignment.

For a range [s, e) and each edge x of it: afterwards no leaf holds both x - 1 and x, every frame is mapped as
it was, and no leaf was split that did not have to be. A leaf that holds both must be split, whoever does it;
so must each leaf it leaves that still holds both; and nothing else. This *forced closure* is the one
expected result (S232): :func:`forced_splits` computes it from leaves as intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import count

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange

from .shapes import HOLE, LEAF, Shape, leaves_of

Edges = frozenset[int]


def edges_of(span: GfnRange) -> Edges:
    """The frames that begin beyond an edge: the range's start and its end."""
    return frozenset((span.start, span.end))


def holds_both_sides(gfn: int, pages: int, edges: Iterable[int]) -> bool:
    """A leaf over `pages` frames from `gfn` on holds x - 1 and x, for one x of `edges`."""
    return any(gfn <= x - 1 and x < gfn + pages for x in edges)


def forced_splits(geometry: Geometry, gfn: int, level: int, edges: Edges) -> Iterator[tuple[int, int]]:
    """(gfn, level) of the leaf at `gfn`, if it must be split, and of those below it that then must be."""
    if level > PG_LEVEL_4K and holds_both_sides(gfn, geometry.pages(level), edges):
        yield gfn, level
        pages = geometry.pages(level - 1)
        for child in range(gfn, gfn + geometry.pages(level), pages):
            yield from forced_splits(geometry, child, level - 1, edges)


def split_as_forced(geometry: Geometry, shape: Shape, edges: Edges) -> Shape:
    """The one correct and minimal tree."""
    return _table_as_forced(geometry, shape, geometry.root_level, 0, edges)


def _table_as_forced(geometry: Geometry, table: Shape, level: int, gfn: int, edges: Edges) -> Shape:
    pages = geometry.pages(level)
    entries = []
    for first, was in zip(count(gfn, pages), table):
        inside = frozenset(x for x in edges if first <= x - 1 and x < first + pages)
        entries.append(_as_forced(geometry, was, level, first, inside) if inside else was)
    return tuple(entries)


@lru_cache(maxsize=1 << 17)
def _as_forced(geometry: Geometry, was: Shape, level: int, gfn: int, edges: Edges) -> Shape:
    """The entry at `gfn`, with `edges` inside it: on other edges it does not depend, so ranges share it."""
    if was == HOLE:
        return was
    table = (LEAF,) * geometry.entries if was == LEAF else was
    return _table_as_forced(geometry, table, level - 1, gfn, edges)


def crossed_edges(geometry: Geometry, shape: Shape) -> Edges:
    """Every frame x such that a leaf of the tree holds x - 1 and x."""
    leaves = ((gfn, geometry.pages(level)) for gfn, level in leaves_of(geometry, shape))
    return frozenset(x for gfn, pages in leaves for x in range(gfn + 1, gfn + pages))
