"""What the axis of the strategy race shows of a guest: its leaves before and after the calls, and the splits.

All of it follows from the guest's layout and the list of splits; no table is read. That the same stands in
the tables of a tree that is really split is for the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple, TypeVar

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.guest import Layout
from tdpkit.lab.judge import Judgement, Report

from ..strips import Cell
from .axis import Axis


class Mark(NamedTuple):
    """Leaves of `level` in [first, last) of which all were split, or all should have been.

    kind: "needed", "needless" or "missing".
    """

    first: int
    last: int
    level: int
    kind: str


class Part(NamedTuple):
    """Frames [first, last) under leaves of one level (0: nothing mapped), which a split may have made."""

    first: int
    last: int
    level: int
    made: bool


T = TypeVar("T", Cell, Part)


class Painter:
    """Cells and marks, from the layout and what was split in it: no table is read."""

    def __init__(self, layout: Layout, axis: Axis, span: GfnRange) -> None:
        self.geometry = layout.geometry
        self.layout = layout
        self.windows = axis.windows
        self.span = span
        self.label = cache(lambda level: layout.geometry.level(level).label)

    def before(self, crossing: Iterable[tuple[int, int]]) -> tuple[Cell, ...]:
        """The guest as it is, the leaves that cross an edge marked as a whole."""
        cells = [self._cell(part) for part in self._layout_parts()]
        for gfn, level in crossing:
            last = gfn + self.geometry.pages(level)
            cells = _put(cells, Cell(gfn, last, "crossing", self.label(level)))
        return self._in_sight(cells)

    def after(self, report: Report, crossing: Iterable[tuple[int, int]]) -> tuple[Cell, ...]:
        """The guest after the calls; of a leaf that still crosses an edge also what a zap takes outside."""
        parts = self._layout_parts()
        for first, last, level in sorted(self._splits(report), key=lambda split: (-split[2], split)):
            if self._seen(first, last):
                parts = _put(parts, Part(first, last, level - 1, True))
        cells = [self._cell(part) for part in parts]
        for gfn, level in crossing:
            pages, label = self.geometry.pages(level), self.label(level)
            cells = _put(cells, Cell(gfn, gfn + pages, "crossing", label))
            for outside in self.span.outside(gfn, pages):
                cells = _put(cells, Cell(outside.start, outside.end, "lost", label))
        return self._in_sight(cells)

    def marks(self, report: Report, judged: Judgement) -> tuple[Mark, ...]:
        """Splits in sight: each that is forced by itself, the others joined where they lie side by side."""
        pages = self.geometry.pages
        missing, forced = set(judged.missing), judged.forced
        marks = [
            Mark(gfn, gfn + pages(level), level, "missing" if (gfn, level) in missing else "needed")
            for gfn, level in judged.forced
        ]
        free = [
            (level, *part)
            for first, last, level in self._splits(report)
            for part in _without(first, last, [(gfn, gfn + pages(n)) for gfn, n in forced if n == level])
        ]
        joined: list[Mark] = []
        for level, first, last in sorted(free):
            if joined and joined[-1].level == level and first <= joined[-1].last:
                last = max(last, joined[-1].last)
                first = joined.pop().first
            joined.append(Mark(first, last, level, "needless"))
        return tuple(mark for mark in (*marks, *joined) if self._seen(mark.first, mark.last))

    # ---- parts ------------------------------------------------------------------------------------------

    def _layout_parts(self) -> list[Part]:
        parts = [Part(0, self.layout.frames, 0, False)]
        for gfn, level, count, _ in self.layout.leaves:
            parts = _put(parts, Part(gfn, gfn + count * self.geometry.pages(level), level, False))
        return parts

    def _splits(self, report: Report) -> set[tuple[int, int, int]]:
        """(first, last, level): all leaves of that level in [first, last) were split.

        Those that were made one by one; and where a plain call was counted by formula, what it splits: each
        leaf that holds frames of its range, of every size above its target.
        """
        splits = {(gfn, gfn + self.geometry.pages(level), level) for gfn, level in report.made}
        plain = [call for call in report.calls if report.priced and not call.only_cross_boundary]
        for call, (gfn, of, count, _) in ((call, run) for call in plain for run in self.layout.leaves):
            low = max(gfn, call.start)
            high = min(gfn + count * self.geometry.pages(of), call.end)
            for level in range(of, call.target_level, -1) if low < high else ():
                pages = self.geometry.pages(level)
                splits.add((low & -pages, (high + pages - 1) & -pages, level))
        return splits

    def _cell(self, part: Part) -> Cell:
        if not part.level:
            return Cell(part.first, part.last, "hole")
        kind = "split" if part.made else f"leaf{part.level}"
        return Cell(part.first, part.last, kind, self.label(part.level))

    def _seen(self, first: int, last: int) -> bool:
        return any(first < window.end and window.start < last for window in self.windows)

    def _in_sight(self, cells: Iterable[Cell]) -> tuple[Cell, ...]:
        """What the windows show of `cells`; leaves of one kind side by side are one cell,
        but for those that cross an edge.
        """
        shown: list[Cell] = []
        for window in self.windows:
            begin = len(shown)
            for cell in cells:
                low, high = max(cell.first, window.start), min(cell.last, window.end)
                if low < high:
                    same = len(shown) > begin and shown[-1][2:] == cell[2:] and cell.kind != "crossing"
                    low = shown.pop().first if same else low
                    shown.append(cell._replace(first=low, last=high))
        return tuple(shown)


def _put(parts: list[T], new: T) -> list[T]:
    """`parts`, in order, with `new` over what was there."""
    found: list[T] = []
    for part in parts:
        if part.first < new.first:
            found.append(part._replace(last=min(part.last, new.first)))
        if part.last > new.last:
            found.append(part._replace(first=max(part.first, new.last)))
    found.append(new)
    return sorted(found)


def _without(first: int, last: int, holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What `holes` leave of [first, last)."""
    left = []
    for low, high in sorted(holes):
        if first < low < last:
            left.append((first, low))
        if low < last:
            first = max(first, high)
    return [*left, (first, last)] if first < last else left
