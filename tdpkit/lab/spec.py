"""What "correct and minimal" means for a boundary split, said without a walk and without alignment.

For a range [s, e) and each edge x of it: afterwards no leaf holds both x - 1 and x, every frame is mapped as
it was, and no leaf was split that did not have to be. A leaf that holds both must be split, whoever does it;
so must each leaf it leaves that still holds both; and nothing else. This *forced closure* is the one
expected result (findings 3): :func:`forced_splits` computes it from leaves as intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange
from tdpkit.engine.tree import Leaf, TdpMmuRoot, translate

from .shapes import HOLE, LEAF, Shape
from .strategies import Report

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

    def entry(was: Shape, level: int, gfn: int) -> Shape:
        if was == LEAF and level > PG_LEVEL_4K and holds_both_sides(gfn, geometry.pages(level), edges):
            was = (LEAF,) * geometry.entries
        if was in (HOLE, LEAF):
            return was
        pages = geometry.pages(level - 1)
        return tuple(entry(child, level - 1, gfn + at * pages) for at, child in enumerate(was))

    return entry(shape, geometry.root_level + 1, 0)


# ---- judging a run -------------------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What the spec says of a strategy's run."""

    verdict: str
    """"exact"; "needless": safe, but more was split than had to be; "wrong": a leaf still crosses an edge."""
    forced: tuple[tuple[int, int], ...]
    """(gfn, level) of each leaf that must be split, in order."""
    missing: tuple[tuple[int, int], ...]
    """Those of them that were not."""
    needless: int
    """Splits that nothing forced."""
    outside: tuple[GfnRange, ...]
    """Frames outside the range that a zap would take now: lost in a TD."""

    @property
    def outside_frames(self) -> int:
        """Frames in `outside`."""
        return sum(part.pages for part in self.outside)


def leaves_at_edges(root: TdpMmuRoot, span: GfnRange) -> list[Leaf]:
    """The leaves that hold frames on both sides of an edge, in order: each holds the edge's own frame."""
    found = (translate(root, x) for x in sorted(edges_of(span)) if x < root.max_gfn_exclusive)
    crossing = {
        leaf
        for leaf in found
        if leaf and holds_both_sides(leaf.gfn, root.geometry.pages(leaf.level), edges_of(span))
    }
    return sorted(crossing)


def forced_in(root: TdpMmuRoot, span: GfnRange) -> tuple[tuple[int, int], ...]:
    """(gfn, level) of each leaf of the tree that must be split for `span`, those below it after it."""
    return tuple(
        split
        for leaf in leaves_at_edges(root, span)
        for split in forced_splits(root.geometry, leaf.gfn, leaf.level, edges_of(span))
    )


def judge(report: Report, span: GfnRange, forced: tuple[tuple[int, int], ...]) -> Judgement:
    """What a run is worth. forced: :func:`forced_in` of the tree as it was before.

    The tree is asked, not the strategy: what still crosses an edge afterwards is read from its memory.
    """
    root, made = report.root, set(report.made)
    crossing = leaves_at_edges(root, span)
    missing = tuple(split for split in forced if split not in made)
    needless = report.splits - (len(forced) - len(missing))
    parts = (part for leaf in crossing for part in span.outside(leaf.gfn, root.geometry.pages(leaf.level)))
    verdict = "wrong" if crossing else "needless" if needless else "exact"
    return Judgement(verdict, forced, missing, needless, tuple(parts))
