"""One case of a search, ready to be drawn or read out: a tree, a range, the calls for it, what they left.

:func:`case_state` reads a :class:`~tdpkit.lab.search.ToyCase`; it draws nothing. Frames are those of a toy,
so they are written as plain numbers, and a leaf's size is its number of frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry
from tdpkit.lab.search import ToyCase
from tdpkit.lab.shapes import HOLE, LEAF, Shape
from tdpkit.lab.spec import edges_of, holds_both_sides
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.words import count_of

from ..strips import Cell, Strip

_MOST_NAMED = 3
"""So many leaves are named one by one."""
_LONGEST_NUMBER = 9999
"""A call that ends beyond it, which is far outside any toy, is not written out."""


class Tree(NamedTuple):
    """A tree, a strip per level that may hold leaves, the largest first; cells are single entries.

    A strip holds the entries that there are: below a leaf, or below a hole, it has none.
    """

    name: str
    strips: tuple[Strip, ...]


class CallMark(NamedTuple):
    """One call: its frames, its text, and what else there is to say of it."""

    start: int
    end: int
    text: str
    note: str


class CaseState(NamedTuple):
    """All that the picture and the text show."""

    title: str
    answer: str
    role: str
    """How the answer is to be taken: "good", "ink" or "bad"."""
    frames: int
    """The machine has the frames 0 to frames - 1."""
    start: int
    end: int
    range_text: str
    calls: tuple[CallMark, ...]
    trees: tuple[Tree, ...]
    """Before, after, and what should have been, if that is another. Where the last is as the one before it,
    its cells are of kind "same"."""
    caption: str
    """What is marked in the tree after: leaves that still cross an edge, and leaves that were split
    needlessly."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell that occurs."""


def case_state(case: ToyCase) -> CaseState:
    """What became of one tree and one range."""
    reader = _Reader(case)
    trees = [Tree("before", reader.strips(reader.plain(case.shape)))]
    trees.append(Tree("after", reader.strips(reader.after())))
    if case.after != case.expected:
        trees.append(Tree("should be", reader.strips(reader.should_be())))
    kinds = {cell.kind for tree in trees for strip in tree.strips for cell in strip.cells}
    answer, role = reader.answer()
    frames, calls = case.geometry.root_pages, case.calls
    return CaseState(
        title=f"Range {_span(case.span.start, case.span.end)} of {count_of(frames, 'frame')}: "
        f"{count_of(len(calls), 'call')}, {count_of(case.splits, 'split')}",
        answer=answer,
        role=role,
        frames=frames,
        start=case.span.start,
        end=case.span.end,
        range_text=_span(case.span.start, case.span.end),
        calls=tuple(_mark(call) for call in calls),
        trees=tuple(trees),
        caption=reader.caption(),
        legend=tuple((kind, name) for kind, name in _names(case.geometry).items() if kind in kinds),
    )


def _span(start: int, end: int) -> str:
    return f"[{start}, {end})"


def _mark(call: PlannedCall) -> CallMark:
    note = "only what crosses" if call.only_cross_boundary else ""
    end = f"{call.end}" if call.end <= _LONGEST_NUMBER else "..."
    return CallMark(call.start, call.end, f"[{call.start}, {end}) to level {call.target_level}", note)


def _names(geometry: Geometry) -> dict[str, str]:
    """What each kind of cell is called in the legend, in its order."""
    levels = range(geometry.max_leaf_level, 0, -1)
    return {
        **{f"leaf{level}": f"leaf of {count_of(geometry.pages(level), 'frame')}" for level in levels},
        "table": "table",
        "hole": "not mapped",
        "crossing": "still crosses an edge",
        "split": "made by a needless split",
    }


class _Reader:
    """Reads the trees of a case, entry by entry."""

    def __init__(self, case: ToyCase) -> None:
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

    # ---- words ------------------------------------------------------------------------------------------

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

    def answer(self) -> tuple[str, str]:
        """The one sentence that says what went wrong, and its role."""
        case, crossing = self.case, self.still_crossing()
        if crossing:
            first, last = crossing[0]
            x = min(x for x in self.edges if first < x < last)
            more = f", and so does {_leaves(crossing[1:])}" if crossing[1:] else ""
            return f"Wrong: the leaf {_span(first, last)} still holds both {x - 1} and {x}{more}.", "bad"
        made, forced = count_of(case.splits, "split"), count_of(case.forced, "split")
        if case.after == case.expected:
            return (
                f"Exact: {made}, and every one was needed." if case.splits else "Exact: no split needed.",
                "good",
            )
        needed = (
            f"where {forced} {'does' if case.forced == 1 else 'do'}"
            if case.forced
            else "where none is needed"
        )
        return f"Safe, but not minimal: {made} {needed}.", "bad"

    def caption(self) -> str:
        """What is marked in the tree after the calls."""
        said = []
        if crossing := self.still_crossing():
            said.append(f"still crosses: {_leaves(crossing)}")
        if needless := self.split_needlessly():
            said.append(f"split needlessly: {_leaves(needless)}")
        return "; ".join(said)


def _leaves(spans: list[tuple[int, int]]) -> str:
    named = ", ".join(_span(*span) for span in spans[:_MOST_NAMED])
    return named + (f" and {len(spans) - _MOST_NAMED} more" if len(spans) > _MOST_NAMED else "")
