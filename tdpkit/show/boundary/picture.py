"""The boundary explorer's markup: a picture, a line and a table of one state, all pure functions of it."""

from __future__ import annotations

import textwrap
from html import escape
from zlib import crc32

from tdpkit.engine.gfn import GfnRange, format_gfn, name_gfn

from ..drawing import Drawing
from ..strips import STRIP_HEIGHT, draw_borders, draw_boxes, draw_legend, draw_texts, draw_wedge, x_of
from ..theme import Palette
from .state import BoundaryState, Lens

_WIDTH, _LEFT, _RIGHT = 1000, 24, 976
_ANSWER_CHARACTERS = 112
_LENS_TOP, _TOY_TOP = 196, 152
_STRIP_STEP = 74


def boundary_svg(state: BoundaryState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`.

    `ids` prefixes every id in it; by default it follows from what the picture says, so that two different
    pictures on one page do not share ids.
    """
    ids = ids or f"be-{crc32(f'{state.title} {state.answer}'.encode()):08x}"
    strips = len(state.lenses[0].strips)
    bottom = _TOY_TOP + strips * _STRIP_STEP + 92 if state.memory else _LENS_TOP + strips * _STRIP_STEP + 26
    drawing = Drawing(_WIDTH, bottom + 104, palette, ids)
    _heading(drawing, state)
    _guest(drawing, state)
    half = (_RIGHT - _LEFT - 40) // 2
    if state.memory:
        _lens(drawing, state, state.lenses[0], _LEFT, _RIGHT)
        _memory(drawing, state, _TOY_TOP + strips * _STRIP_STEP + 30)
    else:
        _lens(drawing, state, state.lenses[0], _LEFT, _LEFT + half)
        _lens(drawing, state, state.lenses[1], _RIGHT - half, _RIGHT)
    _counters(drawing, state, bottom + 34)
    draw_legend(drawing, state.legend, _LEFT, bottom + 84)
    return drawing.svg(state.title, state.answer)


def boundary_text(state: BoundaryState) -> str:
    """`state` in plain text: the answer, then a line per edge and counter."""
    lines = [f"{state.title}. {state.answer}"]
    if state.note:
        lines.append(state.note)
    lines += [f"{lens.name} {name_gfn(lens.edge)}: {lens.caption}" for lens in state.lenses if lens.caption]
    lines += [f"{caption}: {value}" for value, caption, _ in state.counters]
    if state.memory:
        lines.append("the guest reads: " + " ".join(state.memory))
    return "\n".join(lines)


def boundary_table(state: BoundaryState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    rows = [(lens.name, f"{name_gfn(lens.edge)}: {lens.caption}") for lens in state.lenses if lens.caption]
    for lens in state.lenses:
        for strip in lens.strips:
            at = f"{strip.label}{f', {strip.note}' if strip.note else ''}"
            cells = (f"{GfnRange(cell.first, cell.last)} {cell.text}" for cell in strip.cells)
            rows.append((f"{lens.name}, {at}", "; ".join(cells)))
    rows += [(caption, value) for value, caption, _ in state.counters]
    if state.note:
        rows.append(("note", state.note))
    if state.memory:
        rows.append(("the guest reads", " ".join(state.memory)))
    body = "".join(
        f'<tr><th scope="row">{escape(head)}</th><td>{escape(data)}</td></tr>' for head, data in rows
    )
    return f"<table><caption>{escape(state.title)}. {escape(state.answer)}</caption>{body}</table>"


def _heading(drawing: Drawing, state: BoundaryState) -> None:
    drawing.text(_LEFT, 30, state.title, size=18, weight=700)
    for line, text in enumerate(textwrap.wrap(state.answer, _ANSWER_CHARACTERS)):
        drawing.text(_LEFT, 54 + 18 * line, text, state.role, size=13, weight=600)


def _guest(drawing: Drawing, state: BoundaryState) -> None:
    span, strip, top = state.outcome.span, state.guest, 106
    drawing.text(_LEFT, top - 7, strip.label, weight=600)
    if state.note:
        drawing.text(_RIGHT, top - 7, state.note, "crossing-mark", anchor="end", weight=600)
    draw_boxes(drawing, strip, _LEFT, _RIGHT, top)
    draw_borders(drawing, strip, _LEFT, _RIGHT, top)
    low, high = x_of(span.start, strip, _LEFT, _RIGHT), x_of(span.end, strip, _LEFT, _RIGHT)
    high = max(high, low + 2)
    size = f"the range: {format_gfn(span.pages)}"
    half = 4 * len(size)
    drawing.path(f"M{low} {top + 42} V{top + 36} H{high} V{top + 42}", "range", width=2)
    drawing.text(
        min(max((low + high) // 2, _LEFT + half), _RIGHT - half),
        top + 57,
        size,
        "range",
        anchor="middle",
        weight=600,
    )


def _lens(drawing: Drawing, state: BoundaryState, lens: Lens, left: int, right: int) -> None:
    top, span = _TOY_TOP if state.memory else _LENS_TOP, state.outcome.span
    if lens.caption:
        drawing.text(left, top, lens.name, size=14, weight=700)
        drawing.text(right, top, name_gfn(lens.edge), "muted", anchor="end", mono=True)
        at = x_of(lens.edge, state.guest, _LEFT, _RIGHT)
        draw_wedge(drawing, at, at, 136, left, right, top + 34)
    for number, strip in enumerate(lens.strips):
        y = top + 34 + number * _STRIP_STEP
        drawing.text(left, y - 7, strip.label, weight=600)
        drawing.text(right, y - 7, strip.note, "muted", size=11, anchor="end")
        draw_boxes(drawing, strip, left, right, y)
        draw_borders(drawing, strip, left, right, y)
        if lens.caption:
            low = x_of(strip.focus[0], strip, left, right)
            high = max(x_of(strip.focus[1], strip, left, right), low + 3)
            drawing.path(f"M{low} {y} H{high} V{y + STRIP_HEIGHT} H{low} Z", "ink", width=2)
            if number + 1 < len(lens.strips):
                draw_wedge(drawing, low, high, y + STRIP_HEIGHT, left, right, y + _STRIP_STEP)
        draw_texts(drawing, strip, left, right, y)
        low, high = x_of(span.start, strip, left, right), x_of(span.end, strip, left, right)
        if span.overlap(strip.first, strip.last - strip.first):
            drawing.path(f"M{low} {y + 39} V{y + 34} H{max(high, low + 2)} V{y + 39}", "range", width=2)
    if lens.caption:
        below = top + len(lens.strips) * _STRIP_STEP + 22
        drawing.text(left, below, lens.caption, lens.role, size=13, weight=600)


def _memory(drawing: Drawing, state: BoundaryState, top: int) -> None:
    strip = state.lenses[0].strips[-1]
    drawing.text(_LEFT, top + 12, "what the guest reads in each frame", weight=600)
    fates = {frame: cell.kind for cell in strip.cells for frame in range(cell.first, cell.last)}
    for frame, byte in enumerate(state.memory):
        low, high = x_of(frame, strip, _LEFT, _RIGHT), x_of(frame + 1, strip, _LEFT, _RIGHT)
        role = {"lost": "bad", "refaulted": "refaulted-mark"}.get(fates[frame], "ink")
        drawing.rect(low, top + 20, high - low, 26, drawing.palette["paper"], "line")
        drawing.text((low + high) // 2, top + 38, byte, role, anchor="middle", mono=True, size=13, weight=600)
        drawing.text((low + high) // 2, top + 58, f"{frame}", "muted", anchor="middle", size=10)


def _counters(drawing: Drawing, state: BoundaryState, top: int) -> None:
    for number, (value, caption, role) in enumerate(state.counters):
        x = _LEFT + number * (_RIGHT - _LEFT) // len(state.counters)
        drawing.text(x, top, value, role, size=20, weight=700)
        drawing.text(x, top + 18, caption, "muted")
