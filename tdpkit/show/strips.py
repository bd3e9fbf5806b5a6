"""Strips: one table, or a stretch of frames, as boxes on an axis of frames; what all pictures share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_MMU_PRESENT_MASK

from .drawing import RIGHT, Drawing, Key, Track, box, text_width

STRIP_HEIGHT = 24
"""Room for a word on its plate, and for the hatch to be seen above and below it."""
_MARK = 5
"""Least width of what must not be overlooked: one period of a hatch."""
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
    inside: tuple[tuple[int, int], ...] = ()
    """Stretches [first, last) without entries of their own: they lie inside larger leaves."""


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


def track_of(name: str, strip: Strip, left: int, right: int, top: int, *, keyed: bool = True) -> Track:
    """The track along a strip that is drawn from `left` to `right`: values are frames."""
    knots = ((strip.first, left), (strip.last, right))
    return Track(name, knots, top, top + STRIP_HEIGHT, keyed)


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
            entries = not any(first <= cell.first < last for first, last in strip.inside)
            drawing.rect(low, top, high - low, height, drawing.fill(cell.kind), "line" if entries else "")


_DASH = "3 3"


def draw_borders(drawing: Drawing, strip: Strip, left: int, right: int, top: int) -> None:
    """The strip's own border, and each entry's where there are few: dashed inside a leaf, where none is."""
    entry = strip.focus[1] - strip.focus[0]
    entries = (strip.last - strip.first) // entry
    bottom = top + STRIP_HEIGHT
    if entries <= _SEPARATED:
        lines: dict[str, str] = {"": "", _DASH: ""}
        for edge in (strip.first + n * entry for n in range(1, entries)):
            within = any(first < edge < last for first, last in strip.inside)
            lines[_DASH if within else ""] += f"M{x_of(edge, strip, left, right)} {top} V{bottom}"
        for dash, d in lines.items():
            drawing.path(d, "line", dash=dash)
    drawing.path(box(left, top, right, bottom), "line")


def draw_texts(drawing: Drawing, strip: Strip, left: int, right: int, top: int) -> None:
    """What the cells are, in words, where there is room."""
    for cell in strip.cells:
        low, high = x_of(cell.first, strip, left, right), x_of(cell.last, strip, left, right)
        drawing.plate((low + high) // 2, top + STRIP_HEIGHT // 2, cell.text, high - low)


def draw_wedge(drawing: Drawing, low: int, high: int, top: int, left: int, right: int, bottom: int) -> None:
    """Says that the strip below enlarges a part of the one above."""
    drawing.path(f"M{low} {top} L{left} {bottom} H{right} L{high} {top} Z", fill="grid", opacity=".3")


def draw_legend(
    drawing: Drawing, legend: Iterable[tuple[str, str]], left: int, top: int, right: int = RIGHT
) -> int:
    """(kind, name) of each kind that was drawn, in as many lines as it takes; the y of the last of them."""

    def swatch(kind: str) -> Callable[[int, int], None]:
        return lambda x, y: drawing.rect(x, y - 11, 16, 14, drawing.fill(kind), "line")

    drawn = {*drawing.filled}
    keys = (Key(swatch(kind), 16, name) for kind, name in legend if kind in drawn)
    return drawing.keys(top, keys, left, right)


# ---- the range, and names along an axis ----------------------------------------------------------------


def draw_range(drawing: Drawing, low: int, high: int, y: int, tick: int, width: int = 2) -> None:
    """The range as a bracket: a line at `y`, its ends bent by `tick` (upwards if that is negative)."""
    high = max(high, low + 2)
    drawing.path(f"M{low} {y + tick} V{y} H{high} V{y + tick}", "range", width=width)


class AxisName(NamedTuple):
    """A name on an axis: where it belongs, and where it stands from `low` to `high`."""

    x: int
    name: str
    low: int
    high: int


_APART = 8
"""Between two names of a line, and so far a name may stand out beyond the end of its axis."""


def name_edges(names: Sequence[tuple[int, str]], left: int, right: int, size: int = 12) -> list[AxisName]:
    """The names of both edges of a range, at (x, name): moved apart where they are too close to each other.

    Edges with one name are one place. A name stands out beyond an end of its axis by a few units at most.
    """
    first, last = (_around(x, name, left, right, size) for x, name in names)
    if first.name == last.name:
        return [first]
    over = max(first.high + _APART - last.low, 0)
    back = min(over // 2, first.low - (left - _APART))
    on = min(over - back, right + _APART - last.high)
    back = over - on
    return [
        first._replace(low=first.low - back, high=first.high - back),
        last._replace(low=last.low + on, high=last.high + on),
    ]


def name_where_room(
    names: Iterable[tuple[int, str]], taken: Sequence[AxisName], left: int, right: int, size: int = 12
) -> list[AxisName]:
    """Those of `names`, at (x, name), that have room beside those before them and beside `taken`."""
    places: list[AxisName] = []
    for x, name in names:
        new = _around(x, name, left, right, size)
        if all(new.high + _APART <= old.low or old.high + _APART <= new.low for old in (*taken, *places)):
            places.append(new)
    return places


def _around(x: int, name: str, left: int, right: int, size: int) -> AxisName:
    width = text_width(name, size, mono=True)
    low = min(max(x - width // 2, left - _APART), right + _APART - width)
    return AxisName(x, name, low, low + width)


def draw_names(
    drawing: Drawing, places: Iterable[AxisName], y: int, role: str = "muted", *, size: int = 12
) -> None:
    """Names of frames along an axis; those of the range's edges (role "range") are bold."""
    weight = 700 if role == "range" else 400
    for place in places:
        middle = (place.low + place.high) // 2
        drawing.text(middle, y, place.name, role, anchor="middle", mono=True, size=size, weight=weight)
