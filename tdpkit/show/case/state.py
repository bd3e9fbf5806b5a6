"""One case of a search: a tree, a range, the calls for it, and what they left, entry by entry.

:func:`case_state` reads a :class:`~tdpkit.lab.search.Case`. Frames are those of a toy, so they are written as
plain numbers, and a leaf's size is its number of frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry
from tdpkit.lab.search import Case
from tdpkit.lab.shapes import HOLE, LEAF, Shape
from tdpkit.lab.spec import edges_of, holds_both_sides
from tdpkit.lab.strategies import Call
from tdpkit.lab.words import count_of

from ..strips import Cell, Strip


class Tree(NamedTuple):
    """A tree, a strip per level that may hold leaves, the largest first; cells are single entries.

    A strip holds the entries that there are: below a leaf, or below a hole, it has none.
    """

    name: str
    strips: tuple[Strip, ...]


class CaseState(NamedTuple):
    """All that words and picture are made from."""

    geometry: Geometry
    start: int
    end: int
    calls: tuple[Call, ...]
    splits: int
    forced: int
    """Splits that the range needs."""
    trees: tuple[Tree, ...]
    """Before, after, and what should have been, if that is another. Where the last is as the one before it,
    its cells are of kind "same"."""
    crossing: tuple[tuple[int, int], ...]
    """Leaves, as [first, last), that hold frames on both sides of an edge after the calls."""
    needless: tuple[tuple[int, int], ...]
    """Leaves, as [first, last), that were split and should be there: the largest of them."""

    @property
    def frames(self) -> int:
        """The machine has the frames 0 to frames - 1."""
        return self.geometry.root_pages


def case_state(case: Case) -> CaseState:
    """Read what became of one tree and one range."""
    reader = _Reader(case)
    trees = [Tree("before", reader.strips(reader.plain(case.shape)))]
    trees.append(Tree("after", reader.strips(reader.after())))
    if case.after != case.expected:
        trees.append(Tree("should be", reader.strips(reader.should_be())))
    return CaseState(
        geometry=case.geometry,
        start=case.span.start,
        end=case.span.end,
        calls=case.calls,
        splits=case.splits,
        forced=case.forced,
        trees=tuple(trees),
        crossing=tuple(reader.still_crossing()),
        needless=tuple(reader.split_needlessly()),
    )


class _Reader:
    """Reads the trees of a case, entry by entry."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.geometry = case.geometry
        self.edges = edges_of(case.span)

    # ---- cells ------------------------------------------------------------------------------------------

    def strips(self, cells: Iterator[tuple[int, Cell]]) -> tuple[Strip, ...]:
        """Cells with their levels as strips, the level of the largest leaf first."""
        found: dict[int, list[Cell]] = {n: [] for n in range(self.geometry.max_leaf_level, 0, -1)}
        for level, cell in cells:
            found[level].append(cell)
        return tuple(
            Strip(
                f"level {level}",
                count_of(self.geometry.pages(level), "frame"),
                0,
                self.geometry.root_pages,
                tuple(cells),
                (0, self.geometry.pages(level)),
            )
            for level, cells in found.items()
        )

    def _entries(self, table: Shape, level: int, gfn: int) -> Iterator[tuple[int, int, Shape]]:
        """(number, first frame, entry) of each entry of a table of `level`."""
        pages = self.geometry.pages(level)
        return ((at, gfn + at * pages, entry) for at, entry in enumerate(table))

    def _cell(self, level: int, gfn: int, kind: str, text: str = "") -> Iterator[tuple[int, Cell]]:
        """One entry; of a level at which no leaf can be only what lies below is shown."""
        first, pages = min(level, self.geometry.max_leaf_level), self.geometry.pages(level)
        if level == first or kind == "hole":
            texts = {"hole": "not mapped", "table": "table", "split": "needless", "crossing": "crosses"}
            yield first, Cell(gfn, gfn + pages, kind, text or texts.get(kind, "leaf"))

    def plain(self, shape: Shape) -> Iterator[tuple[int, Cell]]:
        """The cells of a tree."""

        def below(table: Shape, level: int, gfn: int) -> Iterator[tuple[int, Cell]]:
            for _, first, entry in self._entries(table, level, gfn):
                yield from self._cell(level, first, self._kind(entry, level))
                if not isinstance(entry, str):
                    yield from below(entry, level - 1, first)

        return below(shape, self.geometry.root_level, 0)

    @staticmethod
    def _kind(entry: Shape, level: int) -> str:
        return "hole" if entry == HOLE else f"leaf{level}" if entry == LEAF else "table"

    def after(self) -> Iterator[tuple[int, Cell]]:
        """The cells of the tree after the calls, with what is wrong in it marked."""

        def below(table: Shape, wanted: Shape, level: int, gfn: int) -> Iterator[tuple[int, Cell]]:
            needless = isinstance(wanted, str)
            for at, first, entry in self._entries(table, level, gfn):
                kind = self._kind(entry, level)
                if entry == LEAF and needless:
                    kind = "split"
                elif entry == LEAF and self._crosses(first, level):
                    kind = "crossing"
                yield from self._cell(level, first, kind)
                if not isinstance(entry, str):
                    yield from below(entry, wanted if needless else wanted[at], level - 1, first)

        return below(self.case.after, self.case.expected, self.geometry.root_level, 0)

    def should_be(self) -> Iterator[tuple[int, Cell]]:
        """The cells of the tree that should have been, one for all of an entry that is as it should be."""

        def below(table: Shape, made: Shape, level: int, gfn: int) -> Iterator[tuple[int, Cell]]:
            for at, first, entry in self._entries(table, level, gfn):
                if not isinstance(made, str) and entry == made[at]:
                    pages = self.geometry.pages(level)
                    yield (
                        min(level, self.geometry.max_leaf_level),
                        Cell(first, first + pages, "same", "as above"),
                    )
                    continue
                yield from self._cell(level, first, self._kind(entry, level))
                if not isinstance(entry, str):
                    yield from below(entry, made if isinstance(made, str) else made[at], level - 1, first)

        return below(self.case.expected, self.case.after, self.geometry.root_level, 0)

    def _crosses(self, gfn: int, level: int) -> bool:
        return level > PG_LEVEL_4K and holds_both_sides(gfn, self.geometry.pages(level), self.edges)

    # ---- what is wrong ----------------------------------------------------------------------------------

    def still_crossing(self) -> list[tuple[int, int]]:
        """The leaves, as [first, last), that hold frames on both sides of an edge after the calls."""
        marked = (cell for _, cell in self.after() if cell.kind == "crossing")
        return [(cell.first, cell.last) for cell in marked]

    def split_needlessly(self) -> list[tuple[int, int]]:
        """The leaves, as [first, last), that were split and should be there: the largest of them."""

        def below(table: Shape, made: Shape, level: int, gfn: int) -> Iterator[tuple[int, int]]:
            for at, first, entry in self._entries(table, level, gfn):
                if entry == LEAF and not isinstance(made[at], str):
                    yield first, first + self.geometry.pages(level)
                elif not isinstance(entry, str) and not isinstance(made[at], str):
                    yield from below(entry, made[at], level - 1, first)

        return list(below(self.case.expected, self.case.after, self.geometry.root_level, 0))
