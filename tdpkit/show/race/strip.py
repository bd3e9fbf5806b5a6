"""The strips of the strategy race: the guest before, and for each row its calls, leaves and splits."""

from __future__ import annotations

from collections.abc import Iterable

from tdpkit.engine.gfn import PG_LEVEL_4K, format_gfn

from ..drawing import Drawing
from ..strips import Cell
from .cells import Mark
from .state import Race, Row
from .words import range_words

MARK_STEP = 11
_MARK_ROLES = {"needed": "good", "needless": "crossing-mark", "missing": "bad"}
_HEIGHT = 18
_APART = 5
"""Leaves at least this wide have borders of their own; of smaller ones a comb says that they are many."""


def draw_guest(drawing: Drawing, race: Race, left: int, right: int, top: int) -> None:
    """The strip of the guest as it was, the places of its blocks above it, the range below."""
    _places(drawing, race, left, right, top - 4)
    draw_strip(drawing, race, race.cells, left, right, top)
    low, high = (race.axis.x(edge, left, right) for edge in (race.span.start, race.span.end))
    high = max(high, low + 2)
    y = top + _HEIGHT + 9
    drawing.path(f"M{low} {y - 6} V{y} H{high} V{y - 6}", "range", width=2)
    names = [format_gfn(race.span.start), format_gfn(race.span.end)]
    if names[0] == names[1]:
        names.pop()
    room = []
    for x, name in zip((low, high), names, strict=False):
        half = 4 * len(name)
        room.append(min(max(x, left + half), right - half))
    apart = len(room) < 2 or room[1] - room[0] >= 4 * sum(map(len, names)) + 8
    for number, (x, name) in enumerate(zip(room, names, strict=True)):
        line = y + 16 + (0 if apart else 14 * number)
        drawing.text(x, line, name, "range", anchor="middle", weight=600, mono=True)
    words = range_words(race.span)
    if len(room) == 2 and apart and room[1] - room[0] >= 4 * sum(map(len, names)) + 8 * len(words):
        low, high = room[0] + 4 * len(names[0]), room[1] - 4 * len(names[1])
        drawing.text((low + high) // 2, y + 16, words, "range", anchor="middle", size=11)


def _places(drawing: Drawing, race: Race, left: int, right: int, y: int) -> None:
    """Addresses over the strip, where there is room: of the largest blocks first."""
    axis, geometry = race.axis, race.geometry
    if axis.is_whole:
        step = geometry.pages(geometry.max_leaf_level)
        points = list(range(0, axis.last + 1, step))
    else:
        points = [point for point in axis.points if point not in (race.span.start, race.span.end)]
    taken: list[tuple[int, int]] = []
    for point in sorted(points, key=lambda point: (-(point & -point) if point else -race.frames, point)):
        if point % geometry.pages(2) or not axis.in_sight(point):
            continue
        name, x = format_gfn(point), axis.x(point, left, right)
        half = 3 * len(name) + 3
        middle = min(max(x, left + half - 3), right - half + 3)
        if all(middle + half <= low or high <= middle - half for low, high in taken):
            taken.append((middle - half, middle + half))
            drawing.text(middle, y - 4, name, "muted", anchor="middle", size=10, mono=True)
            drawing.path(f"M{x} {y - 1} V{y + 3}", "line")


def draw_strip(
    drawing: Drawing,
    race: Race,
    cells: Iterable[Cell],
    left: int,
    right: int,
    top: int,
    ground: str = "paper",
) -> None:
    """Leaves on the axis: a box per run, borders or a comb for its leaves, its size where there is room.

    ground: the role of what lies around it.
    """

    def x(frame: int) -> int:
        return race.axis.x(frame, left, right)

    boxes = [(cell, x(cell.first), x(cell.last)) for cell in cells]
    for cell, low, high in boxes:
        if low < high:
            drawing.rect(low, top, high - low, _HEIGHT, drawing.fill(cell.kind), "line")
    borders = "".join(_leaf_borders(race, cell, left, right, top) for cell, _, _ in boxes)
    if borders:
        drawing.path(borders, "line")
    ends = [(window.start, 1) for window in race.axis.windows if window.start > 0]
    ends += [(window.end, -1) for window in race.axis.windows if window.end < race.frames]
    if ends:
        cuts = [(_zigzag(x(frame), inwards, top), x(frame) - inwards) for frame, inwards in ends]
        drawing.path("".join(f"{zigzag} H{beyond} V{top - 3} Z" for zigzag, beyond in cuts), fill=ground)
        drawing.path("".join(zigzag for zigzag, _ in cuts), "line")
    for first, last, _, _, is_gap in race.axis.stretches:
        if is_gap:
            drawing.path(f"M{x(first) + 5} {top + 9} H{x(last) - 4}", "line", dash="2 3")
    sizes = [(cell.text, (low + high) // 2, 6 * len(cell.text) + 4, high - low) for cell, low, high in boxes]
    sizes = [size for size in sizes if size[0] and size[2] + 6 <= size[3]]
    labels = [(middle - width // 2, middle - width // 2 + width) for _, middle, width, _ in sizes]
    if labels:
        d = "".join(f"M{low} {top + 3} H{high} V{top + 15} H{low} Z" for low, high in labels)
        drawing.path(d, fill="paper")
    for text, middle, _, _ in sizes:
        drawing.text(middle, top + 13, text, anchor="middle", size=10)


def _zigzag(x: int, inwards: int, top: int) -> str:
    """The strip goes on there, unseen."""
    deep = x + 6 * inwards
    return f"M{x} {top - 3} L{deep} {top + 7} L{x} {top + 11} L{deep} {top + _HEIGHT + 3}"


def _leaf_borders(race: Race, cell: Cell, left: int, right: int, top: int) -> str:
    level = next(
        (n for n in range(1, race.geometry.root_level + 1) if race.geometry.level(n).label == cell.text), 0
    )
    if not level:
        return ""
    pages, lines = race.geometry.pages(level), []
    for first, last, _, _, is_gap in race.axis.stretches:
        low, high = max(first, cell.first), min(last, cell.last)
        if is_gap or low >= high:
            continue
        begin, end = race.axis.x(low, left, right), race.axis.x(high, left, right)
        leaves = (high - low) // pages
        if leaves * _APART <= end - begin:
            borders = range(-(-low // pages) * pages, high, pages)
            lines += [f"M{race.axis.x(border, left, right)} {top} V{top + _HEIGHT}" for border in borders]
        elif cell.kind != "split":
            lines += comb(begin, end, top + _HEIGHT)
    return "".join(lines)


def comb(begin: int, end: int, bottom: int) -> list[str]:
    """Says that there are many leaves."""
    return [f"M{at} {bottom - 5} V{bottom}" for at in range(begin + _APART, end, _APART)]


def draw_calls(drawing: Drawing, race: Race, row: Row, left: int, right: int, bottom: int, step: int) -> None:
    """A bracket for each call, over the strip: dashed if it stops above 4K, open where it goes on unseen."""
    lanes = 1 + max(row.lanes, default=0)
    for call, lane in zip(row.calls, row.lanes, strict=True):
        y = bottom - 5 - step * (lanes - 1 - lane)
        low, high = (race.axis.x(frame, left, right) for frame in (call.start, call.end))
        if call.start == call.end:
            drawing.path(arrow(low, y), "ink", width=2)
            continue
        low, high = min(low, right - 8) + 1, max(high - 1, min(low, right - 8) + 5)
        to_4k = call.target_level == PG_LEVEL_4K
        role = "ink" if to_4k else "private"
        drawing.path(f"M{low} {y} H{high}", role, width=2, dash="" if to_4k else "4 3")
        ends = [(low, race.axis.in_sight(call.start)), (high, race.axis.in_sight(call.end))]
        if ticks := "".join(f"M{at} {y - 1} V{y + 4}" for at, is_seen in ends if is_seen):
            drawing.path(ticks, role, width=2)


def arrow(x: int, y: int) -> str:
    """A call over no frame at all, at `x`."""
    return f"M{x} {y - 8} V{y + 2} M{x - 4} {y - 2} L{x} {y + 3} L{x + 4} {y - 2}"


def draw_marks(drawing: Drawing, race: Race, marks: Iterable[Mark], left: int, right: int, top: int) -> None:
    """A diamond below each leaf that was split, or had to be and was not; a line under all of the leaf."""
    levels = range(max(race.levels, default=1), 1, -1)
    lines: dict[str, list[str]] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    for mark in marks:
        y = top + 7 + MARK_STEP * levels.index(mark.level)
        for window in race.axis.windows:
            first, last = max(mark.first, window.start), min(mark.last, window.end)
            if first < last:
                low, high = (race.axis.x(frame, left, right) for frame in (first, last))
                lines.setdefault(mark.kind, []).append(f"M{low + 1} {y} H{max(high - 1, low + 2)}")
                middle = min(max((low + high) // 2, left + 5), right - 5)
                places.setdefault(mark.kind, []).append((middle, y))
    for kind, drawn in lines.items():
        drawing.path("".join(drawn), _MARK_ROLES[kind], dash="2 3" if kind == "missing" else "")
        draw_diamonds(drawing, kind, places[kind])


def draw_diamonds(drawing: Drawing, kind: str, places: Iterable[tuple[int, int]]) -> None:
    """A split around each of `places`: full if it had to be, hollow if not, dashed if it is missing."""
    shapes = "".join(f"M{x} {y - 5} L{x + 5} {y} L{x} {y + 5} L{x - 5} {y} Z" for x, y in places)
    role = _MARK_ROLES[kind]
    if kind == "needed":
        drawing.path(shapes, role, fill=role)
    else:
        drawing.path(shapes, role, fill="paper", width=2, dash="2 2" if kind == "missing" else "")
