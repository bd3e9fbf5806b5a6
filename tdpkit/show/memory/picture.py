"""The markup of a strip of memory: a caption, the frames with their bytes, and below them their numbers."""

from __future__ import annotations

from collections.abc import Callable

from tdpkit.engine.gfn import GfnRange, format_gfn

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Key, box, pointer, shorten, text_width
from ..strips import Strip, draw_boxes, draw_names, name_edges, x_of
from ..theme import Palette
from .state import FrameByte, MemoryState
from .words import legend

_CAPTION, _TOP, _HEIGHT = 17, 28, 34
"""Lines of the caption and of the strip's upper edge, and room in it for a byte with its hatch around."""
_BELOW = _TOP + _HEIGHT
_NUMBERS = _BELOW + 24
"""The frames' numbers, below the range's bracket or the pointer."""
_PLATE = 24
"""Width of the plate under a byte: less than one of 32 frames."""
_ROLES = {"there": "ink", "kept": "refaulted-mark", "gone": "ink", "zero": "bad"}
"""Colours of a byte by how the guest finds it."""


def memory_svg(state: MemoryState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    drawing = Drawing(WIDTH, _NUMBERS + 8, palette, ids, "gm")
    drawing.height = _head(drawing, state)
    ends = (state.first, state.first + state.frames)
    strip = Strip("", "", *ends, state.cells, ends)
    if state.bytes:
        _frames(drawing, state, strip)
    else:
        draw_boxes(drawing, strip, LEFT, RIGHT, _TOP, _HEIGHT)
        _edges(drawing, state, strip)
    for span, role in _brackets(state):
        low, high = (x_of(frame, strip, LEFT, RIGHT) for frame in (span.start, span.end))
        drawing.path(_bracket(low, max(high, low + 2), _BELOW + 8), role, width=2)
    return drawing.svg(state.caption, state.said)


def _head(drawing: Drawing, state: MemoryState) -> int:
    """The caption, and the legend beside it, or at the end where that has no room; the picture's height."""
    role = "bad" if state.bad else "ink"
    caption = shorten(state.caption, RIGHT - LEFT, 13, weight=600)
    drawing.text(LEFT, _CAPTION, caption, role, size=13, weight=600)
    keys = _keys(drawing, state)
    room = sum(key.width + 6 + text_width(key.name) + 20 for key in keys) - 20
    left, bottom = RIGHT - room, _NUMBERS + 8
    if left >= LEFT + text_width(caption, 13, weight=600) + 20:
        drawing.keys(_CAPTION, keys, left)
        return bottom
    return drawing.keys(bottom + 14, keys) + 8


def _keys(drawing: Drawing, state: MemoryState) -> list[Key]:
    def swatch(kind: str) -> Callable[[int, int], None]:
        return lambda x, y: drawing.rect(x, y - 11, 16, 14, drawing.fill(kind), "line")

    def shared(x: int, y: int) -> None:
        drawing.path(_bracket(x, x + 16, y - 2), "shared", width=2)

    keys = [Key(swatch(kind), 16, name) for kind, name in legend(state)]
    return [*keys, *([Key(shared, 16, "shared")] if state.shared else [])]


def _brackets(state: MemoryState) -> list[tuple[GfnRange, str]]:
    """(span, role) of what is marked below the strip: the range that was asked for, or what is shared."""
    return [(span, "range") for span in (state.span,) if span] + [(span, "shared") for span in state.shared]


def _bracket(low: int, high: int, y: int) -> str:
    return f"M{low} {y - 5} V{y} H{high} V{y - 5}"


def _frames(drawing: Drawing, state: MemoryState, strip: Strip) -> None:
    """Each leaf as a box by itself, ticks at its frames, bytes in them; each frame's number below."""

    def at(frame: int) -> int:
        return x_of(frame, strip, LEFT, RIGHT)

    for cell in state.cells:
        drawing.rect(at(cell.first), _TOP, at(cell.last) - at(cell.first), _HEIGHT, drawing.fill(cell.kind))
    inner = {frame for first, last in state.leaves for frame in range(first + 1, last)}
    mapped = {frame for first, last in state.leaves for frame in range(first, last)}
    ticks = "".join(
        f"M{at(frame)} {_TOP} V{_TOP + 5} M{at(frame)} {_BELOW} V{_BELOW - 5}" for frame in sorted(inner)
    )
    drawing.path(ticks, "line")
    edges = sorted({edge for leaf in state.leaves for edge in leaf})
    drawing.path("".join(f"M{at(edge)} {_TOP} V{_BELOW}" for edge in edges), "paper", width=4)
    for first, last in state.leaves:
        drawing.path(box(at(first) + 2, _TOP, at(last) - 2, _BELOW), "ink")
    gaps = "".join(
        box(at(frame) + 2, _TOP, at(frame + 1) - 2, _BELOW)
        for frame in range(state.frames)
        if frame not in mapped
    )
    drawing.path(gaps, "line", dash="3 3")
    kinds = {frame: cell.kind for cell in state.cells for frame in range(cell.first, cell.last)}
    for frame, byte in enumerate(state.bytes):
        middle = (at(frame) + at(frame + 1)) // 2
        if byte:
            _byte(drawing, byte, middle, plate=kinds[frame] not in ("leaf1", "leaf2"))
        _number(drawing, state, frame, middle)
    if state.touched is not None:
        low, high = at(state.touched), at(state.touched + 1)
        drawing.path(box(low + 2, _TOP, high - 2, _BELOW), "ink", width=3)
        drawing.path(pointer((low + high) // 2, _BELOW + 3), fill="ink")


def _byte(drawing: Drawing, byte: FrameByte, x: int, *, plate: bool) -> None:
    """Two digits, on paper where a hatch or a dark leaf is below them; struck out if they are gone."""
    role, y = _ROLES[byte.look], _TOP + _HEIGHT // 2
    if plate:
        drawing.rect(x - _PLATE // 2, y - 9, _PLATE, 18, drawing.palette["paper"])
    drawing.text(x, y + 5, byte.text, role, anchor="middle", mono=True, size=14, weight=600)
    if byte.look == "gone":
        drawing.path(f"M{x - 12} {y} H{x + 12}", "lost-mark", width=2)


def _number(drawing: Drawing, state: MemoryState, frame: int, x: int) -> None:
    """A frame's number, marked where it belongs to what was done."""
    marked = [role for span, role in _brackets(state) if frame in span] + ["ink"] * (frame == state.touched)
    role = marked[0] if marked else "muted"
    drawing.text(x, _NUMBERS, f"{frame}", role, anchor="middle", size=11, weight=700 if marked else 400)


def _edges(drawing: Drawing, state: MemoryState, strip: Strip) -> None:
    """A large guest's own ends, or those of the range, by their addresses."""
    span, role = (state.span, "range") if state.span else (GfnRange(0, state.frames), "muted")
    names = [(x_of(frame, strip, LEFT, RIGHT), format_gfn(frame)) for frame in (span.start, span.end)]
    draw_names(drawing, name_edges(names, LEFT, RIGHT), _NUMBERS, role)
