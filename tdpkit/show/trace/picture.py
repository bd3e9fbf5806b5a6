"""The trace viewer's picture of one step: a pure function of its state.

From top to bottom: where the step is in the whole trace; what happened; the frames on one axis, broken where
nothing was touched; below it the steps around this one, time going down, so that a leaf is a bar as long as
it lived; the trace's own lines; the legend.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise

from tdpkit.lab.traces.tree import pages_of
from tdpkit.lab.words import count_of, group_digits

from ..drawing import (
    HATCHED,
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Drawing,
    Picture,
    Spot,
    Track,
    box,
    cross,
    diamond,
    pointer,
    shorten,
    wrap,
)
from ..strips import (
    STRIP_HEIGHT,
    AxisName,
    Cell,
    draw_legend,
    draw_names,
    draw_range,
    name_edges,
    name_where_room,
)
from ..theme import Palette
from .moments import Canvas, level_of
from .state import ROWS, TraceState
from .words import (
    LEGEND,
    LINES,
    answer,
    guess_in_short,
    known,
    lines_of,
    role,
    sentence,
    short,
    title,
)

RAIL = 118
"""Top of the line along which one goes through the trace, below an answer of three lines."""
_RAIL_HEIGHT = 16
_SAID = 166
"""The base of the step's first line; it has two."""
STRIP = 228
MAP, ROW = 284, 18
"""Top of the steps around this one, and the height of each."""
_NAMES = STRIP + STRIP_HEIGHT + 20
AXIS_RIGHT = 640
"""The axis ends here, for what the steps are is written beside it."""
_GAP = 16
_NARROWEST = 70
"""Least width of a stretch: both its ends can be named, if they are short."""
_LINES = MAP + ROWS * ROW + 34
_LEGEND = _LINES + LINES * LINE + 30
_MARK = 5
_MUST_SHOW = ("lost", "refaulted", "split", "zapped")
"""Drawn on top, and never thinner than a mark."""
_COLUMNS = (66, 78, 168, 290)
"""Where the number of a line ends, and where its time, task and text begin."""


def trace_svg(state: TraceState, palette: Palette, ids: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    name, said = shorten(title(state), RIGHT - LEFT, 14, weight=700), answer(state)
    drawing = Drawing(WIDTH, _LEGEND, palette, ids, "tv")
    drawing.headed(name, said, role(state), lines=3)
    _draw_rail(drawing, state)
    _draw_sentence(drawing, state)
    axis = Axis(state.stretches)
    _draw_strip(drawing, state, axis)
    _draw_map(drawing, state, axis)
    _draw_range(drawing, state, axis)
    _draw_lines(drawing, state)
    y = draw_legend(drawing, LEGEND, LEFT, _LEGEND)
    drawing.text(LEFT, y + 24, shorten(guess_in_short(state.reading.story), RIGHT - LEFT), "muted")
    drawing.height = y + 34
    return drawing.svg(name, said)


# ---- the whole trace ------------------------------------------------------------------------------------


def x_of_step(state: TraceState, step: int) -> int:
    """Where a step is on the line of the whole trace."""
    return LEFT + 6 + (RIGHT - LEFT - 12) * step // len(state.reading.moments)


def _draw_rail(drawing: Drawing, state: TraceState) -> None:
    """Where splits, zaps and losses are in the whole trace, and where this step is."""
    reading, middle = state.reading, RAIL + _RAIL_HEIGHT // 2
    drawing.rect(LEFT, RAIL, RIGHT - LEFT, _RAIL_HEIGHT, drawing.fill("hole"))

    def places(name: str) -> list[int]:
        """At most one in four units: of a long trace many would be drawn upon each other."""
        return [*{x // 4: x for x in (x_of_step(state, step) for step in reading.steps[name])}.values()]

    losses = "".join(box(x - 3, RAIL, x + 3, RAIL + _RAIL_HEIGHT) for x in places("loss"))
    drawing.path(losses, "lost-mark", fill=_fill(drawing, "lost") if losses else "none")
    drawing.path("".join(cross(x, middle, 3) for x in places("zap")), "muted")
    drawing.path("".join(diamond(x, middle, 4) for x in places("split")), "split-mark", fill="split")
    drawing.path(box(LEFT, RAIL, RIGHT, RAIL + _RAIL_HEIGHT), "line")
    now = x_of_step(state, state.step)
    drawing.path(f"M{now} {RAIL - 3} V{RAIL + _RAIL_HEIGHT + 3}", "ink", width=2)
    drawing.path(pointer(now, RAIL + _RAIL_HEIGHT + 2), fill="ink")
    last = len(reading.moments)
    knots = (0, x_of_step(state, 0)), (last, x_of_step(state, last))
    drawing.track(Track("step", knots, RAIL, RAIL + _RAIL_HEIGHT + 11))


def _draw_sentence(drawing: Drawing, state: TraceState) -> None:
    first, *others = wrap(sentence(state), size=13)
    colour = "bad" if state.moment and state.moment.judged else "ink"
    drawing.text(LEFT, _SAID, first, colour, size=13, weight=600)
    rest = shorten(" ".join(others), RIGHT - LEFT, 13, weight=600)
    drawing.text(LEFT, _SAID + LINE, rest, colour, size=13, weight=600)


# ---- the axis of frames ---------------------------------------------------------------------------------


class Axis:
    """Stretches of frames side by side; the longer the wider, but none too narrow to be seen."""

    def __init__(self, stretches: Iterable[tuple[int, int]]) -> None:
        self.stretches = [*stretches]
        ends = [*accumulate((last - first for first, last in self.stretches), initial=0)]
        room = AXIS_RIGHT - LEFT + _GAP - (_GAP + _NARROWEST) * len(self.stretches)
        edges = [LEFT + (_GAP + _NARROWEST) * at + room * end // ends[-1] for at, end in enumerate(ends)]
        self.places = [(left, right - _GAP) for left, right in pairwise(edges)]
        """Left and right of each stretch."""

    def spans(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Each part of frames [first, last) that is on the axis: left, right, and how many frames it is."""
        for (low, high), (left, right) in zip(self.stretches, self.places, strict=True):
            start, end = max(first, low), min(last, high)
            if start < end:
                x, to = (left + (right - left) * (edge - low) // (high - low) for edge in (start, end))
                yield x, to, end - start

    def x_of(self, edge: int) -> int | None:
        """Where an edge between frames is; None where the axis is broken."""
        for (low, high), (left, right) in zip(self.stretches, self.places, strict=True):
            if low <= edge <= high:
                return left + (right - left) * (edge - low) // (high - low)
        return None


def _drawn(axis: Axis, cells: Iterable[Cell]) -> list[Cell]:
    """Cells as they are drawn, in units of the picture: in order, none upon another, of kind "" in gaps."""
    canvas = Canvas()
    canvas.paint(0, WIDTH, "")
    for first, last, kind, _ in sorted(cells, key=lambda cell: cell.kind in _MUST_SHOW):
        for left, right, _ in axis.spans(first, last):
            if kind in _MUST_SHOW:
                left = max(LEFT, min(left, AXIS_RIGHT - _MARK))
                right = max(right, left + _MARK)
            if left < right:
                canvas.paint(left, right, kind)
    return [*canvas.cells(LEFT, AXIS_RIGHT)]


def _draw_strip(drawing: Drawing, state: TraceState, axis: Axis) -> None:
    """The frames as they are after the step, and the ends of each stretch."""
    drawing.text(LEFT, STRIP - 27, f"after step {state.step}", weight=700)
    note = known(state)
    if state.left_out:
        note += f"; {count_of(state.left_out, 'more run')} of frames than are drawn"
    drawing.text(RIGHT, STRIP - 27, note, "muted", anchor="end")
    _draw_bars(drawing, [(cell, STRIP, STRIP + STRIP_HEIGHT) for cell in _drawn(axis, state.now.cells)])
    for first, last, kind, _ in state.now.cells:
        for left, right, pages in axis.spans(first, last):
            middle, room = (left + right) // 2, right - left
            drawing.plate(middle, STRIP + STRIP_HEIGHT // 2, _word(kind, pages), room)
    names: list[AxisName] = []
    for (low, high), (left, right) in zip(axis.stretches, axis.places, strict=True):
        drawing.path(box(left, STRIP, right, STRIP + STRIP_HEIGHT), "line")
        ends = name_edges([(left, f"{low:#x}"), (right, f"{high:#x}")], left, right)
        names += name_where_room([(name.x, name.name) for name in ends], names, LEFT, AXIS_RIGHT)
    draw_names(drawing, names, _NAMES)
    for (_, before), (after, _) in pairwise(axis.places):
        x = (before + after) // 2
        for y in (STRIP + STRIP_HEIGHT // 2, MAP + ROW * len(state.rows) // 2):
            drawing.path(f"M{x - 4} {y + 7} L{x} {y - 7} M{x} {y + 7} L{x + 4} {y - 7}", "muted")


def _word(kind: str, pages: int) -> str:
    level = level_of(kind)
    if not level:
        return {"hole": "empty", "unknown": "unknown", "mmio": "MMIO"}.get(kind, "")
    count = pages // pages_of(level)
    size = ["4K", "2M", "1G"][level - 1] if level <= 3 else f"level {level}"
    return f"{group_digits(count)} × {size}" if count > 1 else size


def _draw_bars(drawing: Drawing, bars: Iterable[tuple[Cell, int, int]]) -> None:
    """(cell, top, bottom) of each: one path for each kind, and lines at their sides."""
    paths: dict[str, str] = {}
    sides = ""
    for (left, right, kind, _), top, bottom in bars:
        if kind:
            paths[kind] = paths.get(kind, "") + box(left, top, right, bottom)
            sides += f"M{left} {top} V{bottom} M{right} {top} V{bottom}"
    for kind, d in sorted(paths.items()):
        drawing.path(d, fill=_fill(drawing, "table" if kind == "mmio" else kind))
    drawing.path(sides, "line")


def _fill(drawing: Drawing, kind: str) -> str:
    """How a path is filled as `kind`: its hatch, or its role."""
    hatch = drawing.fill(kind)
    return hatch if kind in HATCHED else kind if kind in drawing.palette else "leaf3"


# ---- the steps around this one --------------------------------------------------------------------------


def y_of_row(state: TraceState, step: int) -> int:
    """The top of a step's row."""
    return MAP + ROW * (step - state.rows[0].step)


def _draw_map(drawing: Drawing, state: TraceState, axis: Axis) -> None:
    """What the frames were after each of the steps around this one, a bar as long as it stayed so."""
    drawn = [_drawn(axis, row.cells) for row in state.rows]
    _draw_bars(drawing, _bars(drawn))
    _draw_changes(drawing, axis, drawn)
    drawing.text(AXIS_RIGHT + 62, MAP - 8, "the steps around it; time goes down", "muted")
    splits = zaps = ""
    for row in state.rows:
        y = y_of_row(state, row.step)
        moment = state.reading.moments[row.step - 1] if row.step else None
        for first, last, kind, _ in row.cells:
            for left, right, _ in axis.spans(first, last):
                if kind == "split":
                    splits += diamond((left + right) // 2, y + ROW // 2)
                elif kind == "zapped":
                    zaps += cross((left + right) // 2, y + ROW // 2)
        now = row.step == state.step
        colour = "bad" if moment and moment.judged else "ink" if now else "muted"
        drawing.text(AXIS_RIGHT + 52, y + 13, f"{row.step}", colour, anchor="end", mono=True)
        said = short(moment, state.reading.story)
        if moment and moment.judged:
            said += f" · {group_digits(sum(span.pages for span in moment.taken))} outside"
        weight = 700 if now else 400
        room = RIGHT - AXIS_RIGHT - 62
        drawing.text(AXIS_RIGHT + 62, y + 13, shorten(said, room, weight=weight), colour, weight=weight)
        label = f"step {row.step}: {said}"
        drawing.spot(Spot(f"step:{row.step}", label, AXIS_RIGHT + 8, y, RIGHT, y + ROW, now))
    drawing.path(splits, "split-mark", fill="split")
    drawing.path(zaps, "ink", width=2)
    y = y_of_row(state, state.step)
    drawing.path(box(LEFT - 4, y, AXIS_RIGHT + 4, y + ROW), "ink", width=2)


def _bars(drawn: Sequence[Sequence[Cell]]) -> Iterator[tuple[Cell, int, int]]:
    """(cell, top, bottom) of what stays as it is over some rows."""
    begun: dict[Cell, int] = {}
    for number, cells in enumerate(drawn):
        y, now = MAP + ROW * number, {*cells}
        for cell in [*begun]:
            if cell not in now:
                yield cell, begun.pop(cell), y
        for cell in cells:
            begun.setdefault(cell, y)
    for cell, top in begun.items():
        yield cell, top, MAP + ROW * len(drawn)


def _draw_changes(drawing: Drawing, axis: Axis, drawn: Sequence[Sequence[Cell]]) -> None:
    """A line between two rows where they differ, and above the first and below the last."""
    lines = ""
    for number, (above, below) in enumerate(pairwise(drawn), 1):
        y = MAP + ROW * number
        for first, last in _differing(above, below):
            lines += f"M{first} {y} H{last}"
    for left, right in axis.places:
        lines += f"M{left} {MAP} H{right} M{left} {MAP + ROW * len(drawn)} H{right}"
    drawing.path(lines, "line")


def _differing(above: Sequence[Cell], below: Sequence[Cell]) -> Iterator[tuple[int, int]]:
    """Stretches of the picture in which two rows are not alike."""
    upper, lower = 0, 0
    x = above[0].first
    while upper < len(above):
        end = min(above[upper].last, below[lower].last)
        if above[upper].kind != below[lower].kind:
            yield x, end
        upper += above[upper].last == end
        lower += below[lower].last == end
        x = end


def _draw_range(drawing: Drawing, state: TraceState, axis: Axis) -> None:
    """The range: a bracket above the strip, and its edges through all that is below."""
    if state.judged is None:
        return
    start, end = state.judged.span.start, state.judged.span.end
    for left, right, _ in axis.spans(start, end):
        draw_range(drawing, left, right, STRIP - 8, 5)
    for edge in (start, end):
        x = axis.x_of(edge)
        if x is not None:
            drawing.path(f"M{x} {STRIP - 8} V{STRIP + STRIP_HEIGHT}", "range", width=2)
            drawing.path(f"M{x} {MAP} V{MAP + ROW * len(state.rows)}", "range", width=2, dash="3 3")
    places = [(x, f"{edge:#x}") for edge in (start, end) if (x := axis.x_of(edge)) is not None]
    if len(places) == 2:
        draw_names(drawing, name_edges(places, LEFT, AXIS_RIGHT), STRIP - 12, "range")


# ---- the trace's own lines ------------------------------------------------------------------------------


def _draw_lines(drawing: Drawing, state: TraceState) -> None:
    """What the trace says of the step, line by line."""
    drawing.text(LEFT, _LINES - 8, "its lines in the trace", weight=700)
    drawing.rect(LEFT, _LINES, RIGHT - LEFT, LINES * LINE + 10, drawing.palette["paper"], "grid")
    shown, more = lines_of(state)
    number, time, task, text = _COLUMNS
    for at, one in enumerate(shown):
        y = _LINES + 18 + LINE * at
        drawing.text(number, y, one.number, "muted", anchor="end", mono=True)
        drawing.text(time, y, shorten(one.time, task - time - 8), "muted")
        drawing.text(task, y, shorten(one.task, text - task - 8), "muted")
        drawing.text(text, y, shorten(one.text, RIGHT - text - 6))
    if more:
        drawing.text(text, _LINES + 18 + LINE * len(shown), f"and {count_of(more, 'more line')}", "muted")
