"""The conversion stepper's axis, and the marks on its strips: the range, and what a step is about."""

from __future__ import annotations

from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.fold import LifeStep
from tdpkit.lab.page_life.words import GUEST

from ..drawing import Drawing

LEFT, RIGHT = 24, 976
PLACES = {
    "attributes": (143, 18),
    "direct": (192, 28),
    "mirror": (251, 28),
    "sept": (310, 34),
    "finds": (375, 28),
}
"""Top and height of each strip; its label stands 7 above."""
_AXIS = 411


def x_of_frame(life: PageLife, gfn: int) -> int:
    """Where a frame begins; frames beyond the TD are at its end."""
    return LEFT + (RIGHT - LEFT) * min(gfn, life.frames) // life.frames


def draw_edges(drawing: Drawing, life: PageLife) -> None:
    """The edges of the range, on each strip."""
    for edge in (life.span.start, life.span.end):
        x = x_of_frame(life, edge)
        d = "".join(f"M{x} {top - 3} V{top + height + 3}" for top, height in PLACES.values())
        drawing.path(d, "range", width=2, dash="3 3")


def draw_focus(drawing: Drawing, life: PageLife, step: LifeStep) -> None:
    """A ring around the entry that a step changes and a mark at either end of its strip; a dashed ring around
    what it is about and leaves as it is.
    """
    part, focus = step.said.part, step.focus
    if part:
        top, height = PLACES[part]
        y = top + height // 2
        drawing.path(f"M8 {y - 6} L18 {y} L8 {y + 6} Z", fill="ink")
        drawing.path(f"M992 {y - 6} L982 {y} L992 {y + 6} Z", fill="ink")
    if focus is None:
        return
    top, height = PLACES[part or ("finds" if step.said.actor == GUEST else "sept")]
    low = x_of_frame(life, focus[0])
    high = max(x_of_frame(life, focus[1]), low + 3)
    d = f"M{low} {top} H{high} V{top + height} H{low} Z"
    drawing.path(d, "ink", width=3, dash="" if part else "6 4")


def draw_axis(drawing: Drawing, life: PageLife) -> None:
    """The frames, and the range with its edges' names, which keep apart."""
    frames, name = life.frames, life.names.frame
    ticks = "".join(f"M{x} {_AXIS} V{_AXIS + 4}" for x in range(LEFT, RIGHT + 1, (RIGHT - LEFT) // 32))
    if life.names.toy:
        ticks = "".join(f"M{x_of_frame(life, gfn)} {_AXIS} V{_AXIS + 4}" for gfn in range(frames + 1))
    drawing.path(f"M{LEFT} {_AXIS} H{RIGHT}{ticks}", "line")
    low, high = (x_of_frame(life, edge) for edge in (life.span.start, life.span.end))
    drawing.path(f"M{low} {_AXIS + 5} V{_AXIS} H{max(high, low + 2)} V{_AXIS + 5}", "range", width=3)
    edges = [(name(life.span.start), low), (name(life.span.end), max(high, low + 2))]
    taken = _apart(*edges)
    for (text, _), (left, right) in zip(edges, taken, strict=True):
        middle = (left + right) // 2
        drawing.text(middle, _AXIS + 19, text, "range", anchor="middle", weight=700, mono=True)
    for gfn in range(0, frames + 1, frames // 4):
        left, right = _around(name(gfn), x_of_frame(life, gfn))
        if all(right <= other or far <= left for other, far in taken):
            middle = (left + right) // 2
            drawing.text(middle, _AXIS + 19, name(gfn), "muted", anchor="middle", mono=True)


def _around(text: str, x: int) -> tuple[int, int]:
    """Room for a text around `x`, inside the picture."""
    wide = 8 * len(text) + 8
    left = min(max(x - wide // 2, LEFT - 8), RIGHT + 8 - wide)
    return left, left + wide


def _apart(one: tuple[str, int], other: tuple[str, int]) -> list[tuple[int, int]]:
    """Room for two texts side by side, each as near to its place as may be."""
    first, last = _around(*one), _around(*other)
    over = first[1] - last[0]
    if over > 0:
        back = min(over // 2, first[0] - (LEFT - 8))
        on = min(over - back, RIGHT + 8 - last[1])
        back = over - on
        first, last = (first[0] - back, first[1] - back), (last[0] + on, last[1] + on)
    return [first, last]


def draw_glyph(drawing: Drawing, state: str, x: int, y: int) -> None:
    """8 wide, around y: a tick (accepted), three dots (PENDING), a cross (blocked)."""
    if state == "PRESENT":
        drawing.path(f"M{x} {y} L{x + 3} {y + 3} L{x + 7} {y - 4}", "good", width=2)
    elif state == "PENDING":
        for dot in (0, 3, 6):
            drawing.path(f"M{x + dot} {y - 1} H{x + dot + 2} V{y + 1} H{x + dot} Z", fill="pending-mark")
    else:
        drawing.path(f"M{x} {y - 3} L{x + 6} {y + 3} M{x} {y + 3} L{x + 6} {y - 3}", "crossing-mark", width=2)
