"""The walk stepper's markup: a picture, a line and a table of one state, all pure functions of it."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from zlib import crc32

from ..drawing import Drawing
from ..strips import STRIP_HEIGHT, Strip, draw_borders, draw_boxes, draw_legend, draw_texts, draw_wedge, x_of
from ..theme import Palette
from .rail import draw_rail
from .state import LOG_LINES, Place, WalkState

_WIDTH, _LEFT, _RIGHT = 1000, 24, 976
_TREE_RIGHT, _SIDE = 664, 696
"""The tree and the rail lie left of the one, code and log right of the other."""
_ANSWER_CHARACTERS = 118
_TOP = 118
_ROW_STEP, _ROW_HEIGHT = 78, 44
"""Of a machine drawn whole."""
_LENS_STEP = 74
_CODE_LINE, _LOG_LINE = 17, 20


def walk_svg(state: WalkState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`.

    `ids` prefixes every id in it; by default it follows from what the picture says, so that two different
    pictures on one page do not share ids.
    """
    ids = ids or f"ws-{crc32(f'{state.title} {state.answer}'.encode()):08x}"
    rows = len(state.strips)
    tree = _TOP + rows * (_ROW_STEP if state.whole else _LENS_STEP) + (18 if state.whole else 0)
    rail = max(tree + 22, _TOP + len(state.code) * _CODE_LINE + 40)
    drawing = Drawing(_WIDTH, rail + 236, palette, ids)
    drawing.text(_LEFT, 32, state.title, size=18, weight=700)
    for number, text in enumerate(textwrap.wrap(state.answer, _ANSWER_CHARACTERS, break_on_hyphens=False)):
        drawing.text(_LEFT, 56 + 18 * number, text, state.role, size=13, weight=600)
    if state.whole:
        _icicle(drawing, state)
    else:
        _lens(drawing, state)
    _code(drawing, state)
    draw_rail(drawing, state, rail, _LEFT, _TREE_RIGHT)
    _log(drawing, state, rail)
    _counters(drawing, state, rail + 186)
    draw_legend(drawing, state.legend, _LEFT, rail + 220)
    return drawing.svg(state.title, state.answer)


def walk_text(state: WalkState) -> str:
    """`state` in plain text: the answer, then locks, counters and the kernel's trace lines."""
    lines = [f"{state.title}. {state.answer}", "; ".join(text for text, _ in state.pills)]
    lines.append(", ".join(f"{value} {caption}" for value, caption in state.counters))
    if state.totals:
        lines[-1] += f" ({state.totals})"
    return "\n".join([*lines, *(f"trace: {line}" for line in state.trace)])


# ---- the tree ------------------------------------------------------------------------------------------


def _icicle(drawing: Drawing, state: WalkState) -> None:
    """Every level on one axis: a box is as wide as its entry has frames, a table hangs below its entry."""
    tops = [_TOP + number * _ROW_STEP for number in range(len(state.strips))]
    bottom = tops[-1] + _ROW_HEIGHT + 14
    for strip, top in zip(state.strips[:-1], tops, strict=False):
        for cell in strip.cells:
            if cell.kind == "table":
                low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in (cell.first, cell.last))
                draw_wedge(drawing, low, high, top + _ROW_HEIGHT, low, high, top + _ROW_STEP)
    for number, (strip, top) in enumerate(zip(state.strips, tops, strict=True)):
        level = len(state.strips) - number
        note = strip.note + (", never visited" if level < state.unvisited_below else "")
        drawing.text(_TREE_RIGHT - 6, top - 6, f"{strip.label} · {note}", "muted", anchor="end", size=11)
        draw_boxes(drawing, strip, _LEFT, _TREE_RIGHT, top, _ROW_HEIGHT)
        _entry_borders(drawing, strip, top)
    _edges(drawing, state, tops[0], bottom)
    for number, (strip, top) in enumerate(zip(state.strips, tops, strict=True)):
        _words(drawing, strip, top)
        _badges(drawing, state, len(state.strips) - number, strip, top)
    for place in state.path:
        _ring(drawing, place, state.strips[-place.level], tops[-place.level], _ROW_HEIGHT, "muted", 2)
    if state.entry:
        level = state.entry.level
        _ring(drawing, state.entry, state.strips[-level], tops[-level], _ROW_HEIGHT, "ink", 4)
    _axis(drawing, state, bottom)


def _entry_borders(drawing: Drawing, strip: Strip, top: int) -> None:
    """A line between entries, where there are tables at all."""
    entry = strip.focus[1] - strip.focus[0]
    if x_of(entry, strip, _LEFT, _TREE_RIGHT) - _LEFT < 3:
        return
    lines = [
        x_of(at, strip, _LEFT, _TREE_RIGHT)
        for cell in strip.cells
        for at in range(cell.first + entry, cell.last, entry)
    ]
    if lines:
        drawing.path("".join(f"M{x} {top} V{top + _ROW_HEIGHT}" for x in lines), "line")


def _words(drawing: Drawing, strip: Strip, top: int) -> None:
    """What the entries are, in their lower half: the upper one is for the badges. Each by itself where there
    is room, else the run of equal ones together.
    """
    entry = strip.focus[1] - strip.focus[0]
    for cell in strip.cells:
        single = {"table": "table", "hole": "none"}.get(cell.kind, "leaf")
        for text, ends in (
            (single, list(range(cell.first, cell.last + 1, entry))),
            (cell.text, [cell.first, cell.last]),
        ):
            xs = [x_of(at, strip, _LEFT, _TREE_RIGHT) for at in ends]
            width = 6 * len(text) + 6
            if all(width <= high - low - 4 for low, high in pairwise(xs)):
                for low, high in pairwise(xs):
                    middle = (low + high) // 2
                    drawing.rect(middle - width // 2, top + 25, width, 14, drawing.palette["paper"])
                    drawing.text(middle, top + 36, text, anchor="middle", size=11)
                break


def _badges(drawing: Drawing, state: WalkState, level: int, strip: Strip, top: int) -> None:
    """The numbers of the visits on each visited entry; a tick where there is no room for them."""
    newest = sum(len(visited.numbers) for visited in state.visited)
    for _, first, last, numbers in (v for v in state.visited if v.level == level):
        low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in (first, last))
        room = max(0, (high - low - 2) // 19)
        if not room:
            drawing.rect(low + 1, top + 3, max(2, high - low - 2), 4, drawing.palette["ink"])
            continue
        shown = numbers if len(numbers) <= room else numbers[-room:]
        x = (low + high) // 2 - 19 * (len(shown) - 1) // 2
        for number in shown:
            at_last = number == newest
            drawing.circle(x, top + 13, 9, "ink" if at_last else "paper", "line")
            role = "paper" if at_last else "ink"
            drawing.text(x, top + 17, f"{number}", role, anchor="middle", size=10, weight=700)
            x += 19


def _ring(drawing: Drawing, place: Place, strip: Strip, top: int, height: int, role: str, width: int) -> None:
    low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in (place.first, place.last))
    high = max(high, low + 3)
    drawing.path(f"M{low} {top} H{high} V{top + height} H{low} Z", role, width=width)


def _edges(drawing: Drawing, state: WalkState, top: int, bottom: int) -> None:
    """The edges of the range, through the whole tree."""
    for edge in (state.span.start, state.span.end):
        x = x_of(edge, state.strips[0], _LEFT, _TREE_RIGHT)
        drawing.path(f"M{x} {top} V{bottom - 6}", "range", dash="3 3")


def _axis(drawing: Drawing, state: WalkState, y: int) -> None:
    """The axis of frames under the tree, with the range and the goal."""
    strip = state.strips[0]

    def x(frame: int) -> int:
        return x_of(frame, strip, _LEFT, _TREE_RIGHT)

    step = strip.last // 16 or 1
    ticks = "".join(f"M{x(at)} {y} V{y + 5}" for at in range(0, strip.last + 1, step))
    drawing.path(f"M{_LEFT} {y} H{_TREE_RIGHT}{ticks}", "line")
    low, high = x(state.span.start), max(x(state.span.end), x(state.span.start) + 2)
    drawing.path(f"M{low} {y - 6} V{y} H{high} V{y - 6}", "range", width=3)
    taken = [x(min(edge, strip.last)) for edge in (state.span.start, state.span.end)]
    names: tuple[str, ...] = state.span_names
    anchors = ("middle", "middle")
    if taken[0] == taken[1]:
        taken, names = taken[:1], names[:1]
    elif taken[1] - taken[0] < 5 * sum(map(len, names)):
        anchors = ("end", "start")
    for at, name, anchor in zip(taken, names, anchors, strict=False):
        if at + 8 * len(name) > _TREE_RIGHT and anchor != "end":
            at, anchor = _TREE_RIGHT, "end"
        drawing.text(at, y + 18, name, "range", anchor=anchor, weight=700, mono=True)
    for at in range(0, strip.last + 1, strip.last // 4):
        if all(abs(x(at) - other) > 40 for other in taken):
            anchor = "end" if at == strip.last else "start" if at == 0 else "middle"
            drawing.text(x(at), y + 18, f"{at}", "muted", anchor=anchor, mono=True)
    at = x(min(state.goal, strip.last))
    drawing.path(f"M{at} {y + 22} L{at - 6} {y + 31} H{at + 6} Z", fill="ink")
    text = f"goal {state.goal_name}"
    half = 4 * len(text)
    drawing.text(
        min(max(at, _LEFT + half), _TREE_RIGHT - half), y + 43, text, anchor="middle", mono=True, weight=700
    )


def _lens(drawing: Drawing, state: WalkState) -> None:
    """One strip per level, each the table on the way to where the walk is."""
    for number, strip in enumerate(state.strips):
        level, top = len(state.strips) - number, _TOP + number * _LENS_STEP
        never = ", never visited" if level < state.unvisited_below else ""
        drawing.text(_LEFT, top - 7, f"{strip.label}{never}", weight=600)
        drawing.text(_TREE_RIGHT, top - 7, strip.note, "muted", size=11, anchor="end")
        if not strip.cells:
            drawing.path(
                f"M{_LEFT} {top} H{_TREE_RIGHT} V{top + STRIP_HEIGHT} H{_LEFT} Z", "line", dash="3 3"
            )
            continue
        draw_boxes(drawing, strip, _LEFT, _TREE_RIGHT, top)
        draw_borders(drawing, strip, _LEFT, _TREE_RIGHT, top)
        low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in strip.focus)
        if number + 1 < len(state.strips) and state.strips[number + 1].cells:
            wide = max(high, low + 3)
            draw_wedge(drawing, low, wide, top + STRIP_HEIGHT, _LEFT, _TREE_RIGHT, top + _LENS_STEP)
        draw_texts(drawing, strip, _LEFT, _TREE_RIGHT, top)
        for place in (*state.path, *([state.entry] if state.entry else [])):
            if place.level == level:
                now = place == state.entry
                _ring(drawing, place, strip, top, STRIP_HEIGHT, "ink", 4 if now else 2)
        _under(drawing, state, strip, level, top + STRIP_HEIGHT)


def _under(drawing: Drawing, state: WalkState, strip: Strip, level: int, top: int) -> None:
    """Below a strip: what was visited of it, the range, and the goal."""
    for visited in state.visited:
        if visited.level == level and visited.first < strip.last and visited.last > strip.first:
            low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in (visited.first, visited.last))
            drawing.rect(low, top + 3, max(2, high - low), 4, drawing.palette["ink"])
    if state.span.overlap(strip.first, strip.last - strip.first):
        low, high = (x_of(at, strip, _LEFT, _TREE_RIGHT) for at in (state.span.start, state.span.end))
        drawing.path(f"M{low} {top + 16} V{top + 11} H{max(high, low + 2)} V{top + 16}", "range", width=2)
    if strip.first <= state.goal < strip.last:
        x = x_of(state.goal, strip, _LEFT, _TREE_RIGHT)
        drawing.path(f"M{x} {top + 10} L{x - 5} {top + 19} H{x + 5} Z", fill="ink")


# ---- code and log --------------------------------------------------------------------------------------


def _code(drawing: Drawing, state: WalkState) -> None:
    """The call in our own words, the lines at which it is marked."""
    height = len(state.code) * _CODE_LINE + 14
    drawing.text(_SIDE, _TOP - 14, "what the call does", weight=700)
    drawing.rect(_SIDE, _TOP - 4, _RIGHT - _SIDE, height, drawing.palette["hole"], "grid")
    for number, (key, indent, text) in enumerate(state.code):
        y = _TOP + 12 + number * _CODE_LINE
        now = key == state.code_key
        if now:
            drawing.rect(_SIDE + 1, y - 12, _RIGHT - _SIDE - 2, _CODE_LINE, drawing.palette["leaf1"])
            drawing.rect(_SIDE + 1, y - 12, 4, _CODE_LINE, drawing.palette["ink"])
        drawing.text(_SIDE + 12 + 14 * indent, y, text, mono=True, size=11, weight=700 if now else 400)


def _log(drawing: Drawing, state: WalkState, top: int) -> None:
    """The last steps in a few words each, the newest at the end."""
    drawing.text(_SIDE, top - 8, "event log", weight=700)
    drawing.text(_RIGHT, top - 8, "newest last", "muted", size=11, anchor="end")
    drawing.rect(_SIDE, top, _RIGHT - _SIDE, LOG_LINES * _LOG_LINE + 10, drawing.palette["paper"], "grid")
    for number, (step, text) in enumerate(state.log):
        y = top + 19 + number * _LOG_LINE
        now = step == state.at + 1
        if now:
            drawing.rect(_SIDE + 1, y - 14, _RIGHT - _SIDE - 2, _LOG_LINE, drawing.palette["leaf1"])
            drawing.rect(_SIDE + 1, y - 14, 4, _LOG_LINE, drawing.palette["ink"])
        drawing.text(
            _SIDE + 44, y, f"{step}", "muted" if not now else "ink", anchor="end", mono=True, size=11
        )
        drawing.text(_SIDE + 52, y, text, size=11, weight=700 if now else 400)


def _counters(drawing: Drawing, state: WalkState, y: int) -> None:
    x = _LEFT
    for value, caption in state.counters:
        drawing.text(x, y, value, size=20, weight=700)
        x += 13 * len(value) + 6
        drawing.text(x, y, caption, "muted")
        x += 7 * len(caption) + 24
    if state.totals:
        drawing.text(_RIGHT, y, state.totals, "muted", anchor="end")
