"""The markup of one case: a picture and a text, pure functions of one state, and the two as an output."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tdpkit.lab.search import ToyCase
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.words import count_of

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture, text_width
from ..strips import STRIP_HEIGHT, Cell, Strip, draw_legend, draw_names, name_edges, name_where_room, x_of
from ..theme import LIGHT, Palette, still
from .state import CaseState, Tree, case_state
from .words import CaseWords, call_text, case_words, filter_text, span_text

_AXIS = 190
"""Where frame 0 is: the longest call, such as "[1234, 5678) to level 3", has room left of it."""
_CALL_STEP = 24
"""From one call to the next: the ticks at their ends keep apart."""
_MOST_CALLS = 6
"""Calls drawn; the picture of a plan with more stays lower than a screen."""
_ABOVE_TREE = 40
"""From one tree to the next: a caption, and the ends of the dashed edges."""


def case_svg(state: CaseState, palette: Palette, ids: str = "", verdict: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it.

    verdict: the words of a check that found the state wrong, in place of the state's own answer.
    """
    said = case_words(state)
    if verdict:
        said = said._replace(answer=verdict, role="bad")
    drawing = Drawing(WIDTH, 0, palette, ids, "ca")
    before, height = drawing.headed(said.title, said.answer, said.role) + 34, _height(state.trees[0])
    marks = before + height + 26
    calls = max(min(len(state.calls), _MOST_CALLS), 1)
    after = marks + _CALL_STEP * (1 + calls) + 28
    tops = [before, *(after + number * (height + _ABOVE_TREE) for number in range(len(state.trees) - 1))]
    for tree, top in zip(state.trees, tops, strict=True):
        _boxes(drawing, tree, top)
    _edges(drawing, state, before - 4, marks + _CALL_STEP * calls + 10)
    for top in tops[1:]:
        _edges(drawing, state, top - 4, top + height + 4)
    for tree, top in zip(state.trees, tops, strict=True):
        _words(drawing, tree, top)
    _axis(drawing, state, before - 9)
    _axis(drawing, state, tops[-1] + height + 17)
    _calls(drawing, state, marks)
    drawing.text(_AXIS, after - 9, said.caption, "bad", weight=600)
    if len(state.trees) > 2:
        drawing.text(_AXIS, tops[2] - 9, "where it is another tree; what is left empty is as above", "muted")
    drawing.height = draw_legend(drawing, said.legend, LEFT, tops[-1] + height + 50) + 16
    return drawing.svg(said.title, said.answer)


def case_text(state: CaseState) -> str:
    """`state` in plain text: the answer, the range, the calls, and every tree as its leaves."""
    said = case_words(state)
    before, *others = (f"{tree.name}: {'; '.join(_entries(tree))}" for tree in state.trees)
    calls = "; ".join(", ".join(filter(None, (call_text(call), filter_text(call)))) for call in state.calls)
    lines = [f"{said.title}. {said.answer}", before, f"calls: {calls or 'none'}", *others]
    return "\n".join([*lines, *([said.caption] if said.caption else [])])


class CasePicture:
    """A case to be displayed: a picture, and the same in words."""

    def __init__(self, case: ToyCase) -> None:
        self.state = case_state(case)

    @property
    def words(self) -> CaseWords:
        """Title, answer and caption, as the picture says them."""
        return case_words(self.state)

    def __repr__(self) -> str:
        return case_text(self.state)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "image/svg+xml": still(case_svg(self.state, LIGHT))}


def _entries(tree: Tree) -> Iterator[str]:
    """``[0, 4) leaf``, in order: all but tables, equal ones side by side together."""
    shown = sorted(cell for strip in tree.strips for cell in strip.cells if cell.kind != "table")
    for run in _runs(shown):
        first = run[0]
        if first.kind in ("hole", "same"):
            what = first.text
        else:
            mark = {"split": ", needless", "crossing": ", crosses"}.get(first.kind, "")
            what = f"{f'{len(run)} leaves' if len(run) > 1 else 'leaf'}{mark}"
        yield f"{span_text(first.first, run[-1].last)} {what}"


def _runs(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Equal cells side by side."""
    starts = [0, *(at for at, (one, new) in enumerate(pairwise(cells), 1) if not _alike(one, new))]
    yield from (cells[low:high] for low, high in pairwise([*starts, len(cells)]) if low < high)


def _alike(one: Cell, new: Cell) -> bool:
    return (one.kind, one.last) == (new.kind, new.first)


# ---- trees ---------------------------------------------------------------------------------------------


def _height(tree: Tree) -> int:
    return len(tree.strips) * STRIP_HEIGHT


def _boxes(drawing: Drawing, tree: Tree, top: int) -> None:
    """Every entry as a box that reaches down to the lowest level: what lies below a table covers it there."""
    bottom = top + _height(tree)
    for number, strip in enumerate(tree.strips):
        y = top + number * STRIP_HEIGHT
        for cell in strip.cells:
            low, high = (x_of(at, strip, _AXIS, RIGHT) for at in (cell.first, cell.last))
            same = cell.kind == "same"
            fill = drawing.palette["paper"] if same else drawing.fill(cell.kind)
            drawing.rect(low, y, high - low, bottom - y, fill, "grid" if same else "line")


def _words(drawing: Drawing, tree: Tree, top: int) -> None:
    """Levels at the left; in the boxes what they are, or over several marked ones too narrow for the word."""
    drawing.text(LEFT, top - 9, tree.name, size=13, weight=700)
    for number, strip in enumerate(tree.strips):
        y = top + number * STRIP_HEIGHT
        drawing.text(_AXIS - 10, y + 16, f"{strip.label} · {strip.note}", "muted", anchor="end")
        for run in _runs([*strip.cells]):
            written = [_word(drawing, cell, strip, y) for cell in run]
            if not any(written) and run[0].kind in ("split", "crossing"):
                _word(drawing, run[0]._replace(last=run[-1].last), strip, y)


def _word(drawing: Drawing, cell: Cell, strip: Strip, top: int) -> bool:
    low, high = (x_of(at, strip, _AXIS, RIGHT) for at in (cell.first, cell.last))
    return drawing.plate((low + high) // 2, top + STRIP_HEIGHT // 2, cell.text, high - low)


# ---- the range and the calls ---------------------------------------------------------------------------


def _x(state: CaseState, frame: int) -> int:
    return x_of(frame, state.trees[0].strips[0], _AXIS, RIGHT)


def _edges(drawing: Drawing, state: CaseState, top: int, bottom: int) -> None:
    """The edges of the range, from `top` to `bottom`."""
    for edge in sorted({state.start, state.end}):
        x = _x(state, edge)
        if 0 < edge < state.frames:  # the tree's own border stays
            drawing.path(f"M{x} {top} V{bottom}", "paper", width=4)
        drawing.path(f"M{x} {top} V{bottom}", "range", width=2, dash="4 3")


def _axis(drawing: Drawing, state: CaseState, y: int) -> None:
    """Frame numbers: the edges', and others where there is room."""
    edges = name_edges([(_x(state, at), f"{at}") for at in (state.start, state.end)], _AXIS, RIGHT)
    frames = range(0, state.frames + 1, state.frames // 16 or 1)
    others = name_where_room([(_x(state, at), f"{at}") for at in frames], edges, _AXIS, RIGHT)
    draw_names(drawing, edges, y, "range")
    draw_names(drawing, others, y)


def _calls(drawing: Drawing, state: CaseState, y: int) -> None:
    """The range, and below it the calls, as many as have room, with a word on the others."""
    drawing.text(LEFT, y + 4, "range", "range", size=13, weight=700)
    text = span_text(state.start, state.end)
    drawing.text(_AXIS - 10, y + 4, text, "range", anchor="end", weight=700)
    _bar(drawing, state, state.start, state.end, y, "range")
    shown = state.calls if len(state.calls) <= _MOST_CALLS else state.calls[: _MOST_CALLS - 1]
    for call in shown:
        y += _CALL_STEP
        drawing.text(_AXIS - 10, y + 4, call_text(call), anchor="end")
        _bar(drawing, state, call.start, call.end, y, "ink")
        _filter(drawing, state, call, y)
    if len(shown) < len(state.calls) or not shown:
        more = count_of(len(state.calls) - len(shown), "more call")
        drawing.text(_AXIS - 10, y + _CALL_STEP + 4, f"and {more}" if shown else "no call", anchor="end")


def _filter(drawing: Drawing, state: CaseState, call: PlannedCall, y: int) -> None:
    """What a call is restricted to: on its bar, or beside one that is too short for it."""
    text, low, high = filter_text(call), _x(state, call.start), _x(state, call.end)
    width = text_width(text) + 28
    middle = (low + high) // 2
    if high - low < width:
        middle = high + width // 2 if high + width <= RIGHT else low - width // 2
    drawing.plate(middle, y, text, width, "muted")


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
