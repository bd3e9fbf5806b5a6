"""Strips: one table, or a stretch of frames, as boxes on an axis of frames; what all pictures share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_MMU_PRESENT_MASK

from .drawing import Drawing

STRIP_HEIGHT = 30
_MARK = 5
"""Least width of what must not be overlooked, in units of the picture."""
_MUST_SHOW = ("crossing", "lost", "refaulted")
_SEPARATED = 64
"""Strips of at most this many entries show each one's border."""


class Cell(NamedTuple):
    """Frames [first, last) that look alike, and what they are in words.

    kind: "leaf1" and up by level, "table", "hole", "crossing" (would go with the range, not all in it),
    "split" (leaves in a table it made), "zapped" (in the range), "lost" or "refaulted" (zapped outside it).
    """

    first: int
    last: int
    kind: str
    text: str = ""


class Strip(NamedTuple):
    """One table, or the stretch of frames it would hold, as a strip of cells."""

    label: str
    note: str
    first: int
    last: int
    cells: tuple[Cell, ...]
    focus: tuple[int, int]
    """The frames of the entry in focus, which the next strip enlarges."""


def runs_of_entries(entries: Iterable[int], level: int, first: int, pages: int) -> Iterator[Cell]:
    """`entries` of `level`, side by side from frame `first` on, `pages` frames each, as runs of one kind.

    kind: "hole", "table" or "leaf".
    """
    leaf = SPTE_MMU_PRESENT_MASK | (PT_PAGE_SIZE_MASK if level > PG_LEVEL_4K else 0)
    for bits, run in groupby(entries, leaf.__and__):
        last = first + pages * sum(1 for _ in run)
        present = bits & SPTE_MMU_PRESENT_MASK
        yield Cell(first, last, "hole" if not present else "leaf" if bits == leaf else "table")
        first = last


def join_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Runs of cells of one kind; what a picture draws is one box per run."""
    runs: list[Cell] = []
    for cell in cells:
        if runs and runs[-1].kind == cell.kind and runs[-1].last == cell.first and cell.kind != "crossing":
            runs[-1] = Cell(runs[-1].first, cell.last, cell.kind)
        else:
            runs.append(cell)
    return runs


def x_of(frame: int, strip: Strip, left: int, right: int) -> int:
    """Where `frame` is on a strip drawn from `left` to `right`; frames beyond its ends are at its ends."""
    frame = min(max(frame, strip.first), strip.last)
    return left + (right - left) * (frame - strip.first) // (strip.last - strip.first)


def draw_boxes(
    drawing: Drawing, strip: Strip, left: int, right: int, top: int, height: int = STRIP_HEIGHT
) -> None:
    """The cells of a strip: one box per run, what must be seen on top and not thinner than a mark."""
    for cell in sorted(strip.cells, key=lambda cell: cell.kind in _MUST_SHOW):
        low, high = x_of(cell.first, strip, left, right), x_of(cell.last, strip, left, right)
        if cell.kind in _MUST_SHOW and high - low < _MARK:
            low = max(left, min(low, right - _MARK))
            high = low + _MARK
        if low < high:
            drawing.rect(low, top, high - low, height, drawing.fill(cell.kind), "line")


def draw_borders(drawing: Drawing, strip: Strip, left: int, right: int, top: int) -> None:
    """The strip's own border, and each entry's where there are few."""
    entry = strip.focus[1] - strip.focus[0]
    entries = (strip.last - strip.first) // entry
    if entries <= _SEPARATED:
        lines = (x_of(strip.first + n * entry, strip, left, right) for n in range(1, entries))
        drawing.path("".join(f"M{x} {top} V{top + STRIP_HEIGHT}" for x in lines), "line")
    drawing.path(f"M{left} {top} H{right} V{top + STRIP_HEIGHT} H{left} Z", "line")


def draw_texts(drawing: Drawing, strip: Strip, left: int, right: int, top: int) -> None:
    """What the cells are, in words, where there is room: on paper, so that every hatch lets them be read."""
    for cell in strip.cells:
        low, high = x_of(cell.first, strip, left, right), x_of(cell.last, strip, left, right)
        width = 7 * len(cell.text) + 12
        if cell.text and width <= high - low:
            middle = (low + high) // 2
            drawing.rect(middle - width // 2, top + 6, width, 18, drawing.palette["paper"])
            drawing.text(middle, top + 19, cell.text, anchor="middle", size=11)


def draw_wedge(drawing: Drawing, low: int, high: int, top: int, left: int, right: int, bottom: int) -> None:
    """Says that the strip below enlarges a part of the one above."""
    drawing.path(f"M{low} {top} L{left} {bottom} H{right} L{high} {top} Z", fill="grid", opacity=".3")


def draw_legend(drawing: Drawing, legend: Iterable[tuple[str, str]], left: int, top: int) -> None:
    """(kind, name) of each kind of cell, side by side."""
    for kind, name in legend:
        drawing.rect(left, top - 11, 16, 14, drawing.fill(kind), "line")
        drawing.text(left + 22, top, name, "muted")
        left += 22 + 7 * len(name) + 20
