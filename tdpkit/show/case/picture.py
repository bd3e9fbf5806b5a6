"""The markup of one case: a picture and a text, pure functions of one state, and the two as an output."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any
from zlib import crc32

from tdpkit.lab.search import ToyCase
from tdpkit.lab.words import count_of

from ..drawing import Drawing
from ..strips import STRIP_HEIGHT, Cell, Strip, draw_legend, x_of
from ..theme import LIGHT, Palette
from .state import CallMark, CaseState, Tree, case_state

_WIDTH, _LEFT, _RIGHT = 1000, 24, 976
_AXIS = 190
"""Where frame 0 is: names stand left of it."""
_ANSWER_CHARACTERS = 118
_CALL_STEP, _MOST_CALLS = 24, 6
_LABELS_APART = 30
"""Least distance of two frame numbers."""


def case_svg(state: CaseState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`.

    `ids` prefixes every id in it; by default it follows from what the picture says, so that two different
    pictures on one page do not share ids.
    """
    ids = ids or f"ca-{crc32(repr(state).encode()):08x}"
    answer = _lines(state.answer)
    calls, legend = _shown_calls(state), list(_legend_lines(state))
    tree = len(state.trees[0].strips) * STRIP_HEIGHT
    before = 56 + 18 * len(answer) + 28
    marks = before + tree + 26
    after = marks + _CALL_STEP * (1 + len(calls)) + 28
    tops = [before, *(after + number * (tree + 40) for number in range(len(state.trees) - 1))]
    bottom = tops[-1] + tree
    drawing = Drawing(_WIDTH, bottom + 40 + 22 * len(legend), palette, ids)
    drawing.text(_LEFT, 32, state.title, size=18, weight=700)
    for number, text in enumerate(answer):
        drawing.text(_LEFT, 56 + 18 * number, text, state.role, size=13, weight=600)
    for part, top in zip(state.trees, tops, strict=True):
        _boxes(drawing, part, top)
    _edges(drawing, state, before - 4, marks + _CALL_STEP * len(calls) + 10)
    for top in tops[1:]:
        _edges(drawing, state, top - 4, top + tree + 4)
    for part, top in zip(state.trees, tops, strict=True):
        _words(drawing, part, top)
    _axis(drawing, state, before - 9)
    _axis(drawing, state, bottom + 17)
    _range(drawing, state, marks)
    for number, call in enumerate(calls, start=1):
        _call(drawing, state, call, marks + number * _CALL_STEP)
    if state.caption:
        drawing.text(_AXIS, after - 9, state.caption, "bad", weight=600)
    if len(state.trees) > 2:
        drawing.text(_AXIS, tops[2] - 9, "where it is another tree; what is left empty is as above", "muted")
    for number, line in enumerate(legend):
        draw_legend(drawing, line, _LEFT, bottom + 50 + 22 * number)
    return drawing.svg(state.title, state.answer)


def _lines(text: str) -> list[str]:
    """`text` in lines of the picture's width; a range such as [4, 8) stays on one."""
    glued = re.sub(r"\[(\w+), (\w+)\)", "[\\1,\N{NO-BREAK SPACE}\\2)", text)
    lines = textwrap.wrap(glued, _ANSWER_CHARACTERS, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def case_text(state: CaseState) -> str:
    """`state` in plain text: the answer, the range, the calls, and every tree as its leaves."""
    before, *others = (f"{tree.name}: {'; '.join(_entries(tree))}" for tree in state.trees)
    calls = "; ".join(call.text + (f", {call.note}" if call.note else "") for call in state.calls)
    lines = [f"{state.title}. {state.answer}", before, f"calls: {calls or 'none'}", *others]
    return "\n".join([*lines, *([state.caption] if state.caption else [])])


class CasePicture:
    """A case to be displayed: a picture, and the same in words."""

    def __init__(self, case: ToyCase) -> None:
        self.state = case_state(case)

    def __repr__(self) -> str:
        return case_text(self.state)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "image/svg+xml": case_svg(self.state, LIGHT)}


# ---- text ----------------------------------------------------------------------------------------------


def _entries(tree: Tree) -> Iterator[str]:
    """``[0, 4) leaf``, in order: all but tables, equal ones side by side together."""
    shown = [cell for strip in tree.strips for cell in strip.cells if cell.kind != "table"]
    in_order = Strip("", "", 0, 0, tuple(sorted(shown)), (0, 0))
    for run in _runs(in_order):
        first = run[0]
        if first.kind in ("hole", "same"):
            what = first.text
        else:
            mark = {"split": ", needless", "crossing": ", crosses"}.get(first.kind, "")
            what = f"{f'{len(run)} leaves' if len(run) > 1 else 'leaf'}{mark}"
        yield f"[{first.first}, {run[-1].last}) {what}"


# ---- trees ---------------------------------------------------------------------------------------------


def _boxes(drawing: Drawing, tree: Tree, top: int) -> None:
    """Every entry as a box that reaches down to the lowest level: what lies below a table covers it there."""
    bottom = top + len(tree.strips) * STRIP_HEIGHT
    for number, strip in enumerate(tree.strips):
        y = top + number * STRIP_HEIGHT
        for cell in strip.cells:
            low, high = (x_of(at, strip, _AXIS, _RIGHT) for at in (cell.first, cell.last))
            same = cell.kind == "same"
            fill = drawing.palette["paper"] if same else drawing.fill(cell.kind)
            drawing.rect(low, y, high - low, bottom - y, fill, "grid" if same else "line")


def _words(drawing: Drawing, tree: Tree, top: int) -> None:
    drawing.text(_LEFT, top - 9, tree.name, size=13, weight=700)
    for number, strip in enumerate(tree.strips):
        y = top + number * STRIP_HEIGHT
        drawing.text(_AXIS - 10, y + 19, f"{strip.label} · {strip.note}", "muted", anchor="end", size=11)
        for run in _runs(strip):
            single = all(_has_room(cell, strip) for cell in run)
            # A word over several marked leaves, where each by itself is too narrow for it.
            marked = not single and run[0].kind in ("split", "crossing")
            whole = [run[0]._replace(last=run[-1].last)] if marked else []
            for cell in run if single else whole:
                _word(drawing, cell, strip, y)


def _runs(strip: Strip) -> Iterator[list[Cell]]:
    """Equal cells side by side."""
    run: list[Cell] = []
    for cell in strip.cells:
        if run and (cell.kind, cell.first) != (run[-1].kind, run[-1].last):
            yield run
            run = []
        run.append(cell)
    if run:
        yield run


def _place(cell: Cell, strip: Strip) -> tuple[int, int, int]:
    """Where a cell begins and ends, and the width that its word takes."""
    low, high = (x_of(at, strip, _AXIS, _RIGHT) for at in (cell.first, cell.last))
    return low, high, 6 * len(cell.text) + 6


def _has_room(cell: Cell, strip: Strip) -> bool:
    low, high, width = _place(cell, strip)
    return width <= high - low


def _word(drawing: Drawing, cell: Cell, strip: Strip, top: int) -> None:
    low, high, width = _place(cell, strip)
    if width <= high - low:
        middle, width = (low + high) // 2, min(width + 8, high - low)
        drawing.rect(middle - width // 2, top + 6, width, 18, drawing.palette["paper"])
        drawing.text(middle, top + 19, cell.text, anchor="middle", size=11)


# ---- the range and the calls ---------------------------------------------------------------------------


def _x(state: CaseState, frame: int) -> int:
    return x_of(frame, state.trees[0].strips[0], _AXIS, _RIGHT)


def _edges(drawing: Drawing, state: CaseState, top: int, bottom: int) -> None:
    """The edges of the range, from `top` to `bottom`."""
    for edge in sorted({state.start, state.end}):
        if 0 < edge < state.frames:  # the tree's own border stays
            drawing.path(f"M{_x(state, edge)} {top} V{bottom}", "paper", width=4)
        drawing.path(f"M{_x(state, edge)} {top} V{bottom}", "range", width=2, dash="4 3")


def _axis(drawing: Drawing, state: CaseState, y: int) -> None:
    """Frame numbers: the edges', and others where there is room."""
    start, end = _x(state, state.start), _x(state, state.end)
    if state.start != state.end and end - start < _LABELS_APART:
        edges = {(start + end) // 2: f"{state.start}, {state.end}"}
    else:
        edges = {start: f"{state.start}", end: f"{state.end}"}
    for x, text in edges.items():
        drawing.text(x, y, text, "range", anchor="middle", mono=True, size=12, weight=700)
    step = state.frames // 16 or 1
    for frame in range(0, state.frames + 1, step):
        x = _x(state, frame)
        if all(abs(x - edge) >= _LABELS_APART for edge in edges):
            drawing.text(x, y, f"{frame}", "muted", anchor="middle", mono=True, size=11)


def _range(drawing: Drawing, state: CaseState, y: int) -> None:
    drawing.text(_LEFT, y + 4, "range", "range", size=13, weight=700)
    drawing.text(_AXIS - 10, y + 4, state.range_text, "range", anchor="end", weight=700)
    _bar(drawing, state, state.start, state.end, y, "range")


def _shown_calls(state: CaseState) -> list[CallMark]:
    """The calls that are drawn, and a word on the others."""
    calls = list(state.calls)
    if len(calls) > _MOST_CALLS:
        more = count_of(len(calls) - _MOST_CALLS + 1, "more call")
        calls[_MOST_CALLS - 1 :] = [CallMark(-1, -1, f"and {more}", "")]
    return calls or [CallMark(-1, -1, "no call", "")]


def _call(drawing: Drawing, state: CaseState, call: CallMark, y: int) -> None:
    drawing.text(_AXIS - 10, y + 4, call.text, anchor="end")
    if call.start >= 0:
        _bar(drawing, state, call.start, call.end, y, "ink")
    if call.note:
        low, high = _x(state, call.start), _x(state, call.end)
        width = 7 * len(call.note) + 12
        middle = min(max((low + high) // 2, _AXIS + width // 2), _RIGHT - width // 2)
        drawing.rect(middle - width // 2, y - 9, width, 18, drawing.palette["paper"])
        drawing.text(middle, y + 4, call.note, "muted", anchor="middle", size=11)


def _bar(drawing: Drawing, state: CaseState, start: int, end: int, y: int, role: str) -> None:
    """[start, end) as a line between ticks; an arrow where it leaves the machine, a dot if it is empty."""
    low, high = _x(state, start), _x(state, end)
    if low == high:
        drawing.circle(low, y, 5, role)
        return
    right = (
        f"M{high} {y - 6} V{y + 6}"
        if end <= state.frames
        else f"M{high - 8} {y - 6} L{high} {y} L{high - 8} {y + 6}"
    )
    drawing.path(f"M{low} {y - 6} V{y + 6} M{low} {y} H{high} {right}", role, width=2)


def _legend_lines(state: CaseState) -> Iterator[list[tuple[str, str]]]:
    """The legend in lines that the picture has room for."""
    line: list[tuple[str, str]] = []
    width = 0
    for kind, name in state.legend:
        more = 42 + 7 * len(name)
        if width + more > _RIGHT - _LEFT:
            yield line
            line, width = [], 0
        line.append((kind, name))
        width += more
    yield line
