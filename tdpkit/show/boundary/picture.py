"""The boundary explorer's markup: a picture, lines and a table of one state, all pure functions of it."""

from __future__ import annotations

from contextlib import nullcontext

from tdpkit.engine.gfn import GfnRange, name_gfn
from tdpkit.lab.guest import Guest
from tdpkit.lab.words import html_table

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture, box
from ..strips import (
    STRIP_HEIGHT,
    draw_borders,
    draw_boxes,
    draw_legend,
    draw_range,
    draw_texts,
    draw_wedge,
    track_of,
    x_of,
)
from ..theme import Palette
from .state import BoundaryState, Lens, boundary_state
from .words import BoundaryWords, boundary_words

_ANSWER_LINES = 2
"""Lines that have room in any case, so that a slider's longer answer does not move what is below it."""
_HALF = (RIGHT - LEFT - 40) // 2
"""Width of each of the two lenses: half of the picture, but for a gap that tells them apart."""
_STRIP_STEP = STRIP_HEIGHT + 44
"""From one strip of a lens to the next: the range's bracket below it, then the label of the next one."""
_GONE = "··"
"""For the byte of a frame that was zapped as asked."""
_FATE_ROLES = {"lost": "bad", "refaulted": "refaulted-mark"}
"""Colours of the bytes that are not as they were."""


def boundary_svg(state: BoundaryState, palette: Palette, ids: str = "", verdict: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it.

    verdict: the words of a check that found the state wrong, in place of the state's own answer.
    """
    said = boundary_words(state)
    if verdict:
        said = said._replace(answer=verdict, role="bad")
    drawing = Drawing(WIDTH, 0, palette, ids, "be")
    y = drawing.headed(said.title, said.answer, said.role, _ANSWER_LINES)
    guest = y + 34
    _guest(drawing, state, guest, said.note)
    if state.memory:
        y = _strips(drawing, state, state.lenses[0], LEFT, RIGHT, guest + STRIP_HEIGHT + 56)
        y = _memory(drawing, state, y + 8)
    else:
        for lens, caption, left in zip(state.lenses, said.captions, (LEFT, RIGHT - _HALF), strict=True):
            y = _lens(drawing, state, lens, caption, left, guest)
    drawing.counters(y + 38, said.counters)
    drawing.height = draw_legend(drawing, said.legend, LEFT, y + 88) + 20
    return drawing.svg(said.title, said.answer)


def boundary_text(state: BoundaryState) -> str:
    """`state` in plain text: the answer, then a line per edge and counter."""
    said = boundary_words(state)
    lines = [f"{said.title}. {said.answer}", *([said.note] * bool(said.note))]
    lines += [f"{name} {words}" for name, words in _edges(state, said)]
    lines += [f"{counter.caption}: {counter.value}" for counter in said.counters]
    if state.memory:
        lines.append("the guest reads: " + " ".join(state.memory))
    return "\n".join(lines)


def boundary_table(state: BoundaryState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    said = boundary_words(state)
    rows = _edges(state, said)
    for lens in state.lenses:
        for strip in lens.strips:
            at = f"{strip.label}{f', {strip.note}' if strip.note else ''}"
            cells = (f"{GfnRange(cell.first, cell.last)} {cell.text}" for cell in strip.cells)
            rows.append((f"{lens.name}, {at}", "; ".join(cells)))
    rows += [(counter.caption, counter.value) for counter in said.counters]
    rows += [("note", said.note)] * bool(said.note)
    rows += [("the guest reads", " ".join(state.memory))] * bool(state.memory)
    return html_table(f"{said.title}. {said.answer}", (), rows)


def _edges(state: BoundaryState, said: BoundaryWords) -> list[tuple[str, str]]:
    """(name, place and fate) of each edge that has a lens of its own."""
    captions = zip(state.lenses, said.captions, strict=True)
    return [(lens.name, f"{name_gfn(lens.edge)}: {caption}") for lens, (caption, _) in captions if caption]


class BoundaryPicture:
    """The explorer's picture of what `action` does to frames [start, end) of `guest`, without its controls.

    IPython shows it (tdpkit.glance). Raises as :func:`~tdpkit.show.boundary.state.boundary_state` does.
    """

    def __init__(self, guest: Guest, start: int, end: int, action: str = "look") -> None:
        self.state = boundary_state(guest, start, end, action)

    def __repr__(self) -> str:
        return boundary_text(self.state)


# ---- parts of the picture ------------------------------------------------------------------------------


def _guest(drawing: Drawing, state: BoundaryState, top: int, note: str) -> None:
    """The whole guest, and below it the range with its size."""
    span, strip = state.outcome.span, state.guest
    drawing.text(LEFT, top - 7, strip.label, weight=600)
    drawing.text(RIGHT, top - 7, note, "crossing-mark", anchor="end", weight=600)
    draw_boxes(drawing, strip, LEFT, RIGHT, top)
    draw_borders(drawing, strip, LEFT, RIGHT, top)
    low, high = (x_of(edge, strip, LEFT, RIGHT) for edge in (span.start, span.end))
    y = top + STRIP_HEIGHT + 6
    drawing.track(track_of("range", strip, LEFT, RIGHT, top))
    draw_range(drawing, low, high, y, 6)
    said = f"the range: {state.names.size(span.pages)}"
    drawing.label((low + high) // 2, y + 21, said, "range", weight=600)


def _lens(
    drawing: Drawing, state: BoundaryState, lens: Lens, caption: tuple[str, str], left: int, guest: int
) -> int:
    """The strips around one edge below the guest's, each enlarging the entry in focus; where they end."""
    right, top = left + _HALF, guest + STRIP_HEIGHT + 60
    at = x_of(lens.edge, state.guest, LEFT, RIGHT)
    draw_wedge(drawing, at, at, guest + STRIP_HEIGHT, left, right, top + 34)
    drawing.text(left, top, lens.name, size=14, weight=700)
    drawing.text(right, top, name_gfn(lens.edge), "muted", anchor="end", mono=True)
    bottom = _strips(drawing, state, lens, left, right, top + 34)
    text, role = caption
    drawing.text(left, bottom + 22, text, role, size=13, weight=600)
    return bottom + 22


def _strips(drawing: Drawing, state: BoundaryState, lens: Lens, left: int, right: int, top: int) -> int:
    """Strips below each other, with the range's part of each; where the last one and its bracket end."""
    span, zooms = state.outcome.span, lens.name != "frames"
    tops = [top + _STRIP_STEP * number for number in range(len(lens.strips))]
    if zooms:
        for strip, y in zip(lens.strips[:-1], tops, strict=False):
            low, high = (x_of(frame, strip, left, right) for frame in strip.focus)
            draw_wedge(drawing, low, max(high, low + 3), y + STRIP_HEIGHT, left, right, y + _STRIP_STEP)
    for strip, y in zip(lens.strips, tops, strict=True):
        drawing.text(left, y - 7, strip.label, weight=600)
        drawing.text(right, y - 7, strip.note, "muted", anchor="end")
        draw_boxes(drawing, strip, left, right, y)
        draw_borders(drawing, strip, left, right, y)
        low, high = (x_of(edge, strip, left, right) for edge in (span.start, span.end))
        if span.overlap(strip.first, strip.last - strip.first):
            draw_range(drawing, low, high, y + STRIP_HEIGHT + 4, 5)
        if zooms:
            drawing.track(track_of(lens.name, strip, left, right, y, keyed=False))
            low, high = (x_of(frame, strip, left, right) for frame in strip.focus)
            high = max(high, low + 3)
            drawing.path(box(low, y, high, y + STRIP_HEIGHT), "ink", width=2)
        draw_texts(drawing, strip, left, right, y)
    return top + _STRIP_STEP * (len(lens.strips) - 1) + STRIP_HEIGHT + 10


def _memory(drawing: Drawing, state: BoundaryState, top: int) -> int:
    """The byte that the guest reads in each frame, on the axis of the strips above; where the numbers end."""
    strip = state.lenses[0].strips[-1]
    drawing.text(LEFT, top + 12, "what the guest reads in each frame", weight=600)
    fates = {frame: cell.kind for cell in strip.cells for frame in range(cell.first, cell.last)}
    for frame, byte in enumerate(state.memory):
        low, high = x_of(frame, strip, LEFT, RIGHT), x_of(frame + 1, strip, LEFT, RIGHT)
        middle, role = (low + high) // 2, _FATE_ROLES.get(fates[frame], "ink")
        drawing.rect(low, top + 20, high - low, STRIP_HEIGHT, drawing.palette["paper"], "line")
        turned = role != "ink" or byte == _GONE
        with drawing.turning(100 * frame // len(state.memory)) if turned else nullcontext():
            drawing.text(middle, top + 37, byte, role, anchor="middle", mono=True, size=13, weight=600)
        drawing.text(middle, top + 58, f"{frame}", "muted", anchor="middle")
    return top + 58
