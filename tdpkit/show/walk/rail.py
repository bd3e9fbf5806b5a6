"""The walk stepper's rail: mmu_lock, RCU and the events over the whole call.

What is to come is pale, or not there at all where it is hidden.
"""

from __future__ import annotations

from collections.abc import Callable

from ..drawing import Drawing
from .state import WalkState

_NAMES = 88
"""Room for the names of the tracks, left of them."""
_GLYPH_ROOM = 12
"""Steps at least so far apart have a glyph each; closer ones are ticks."""
_TICK_ROWS = (("visits", ("visit",)), ("drops", ("drop", "resched")), ("splits", ("split",)))
_HIDDEN_ROOM = 24
"""Where what is to come is hidden, there is room for so many steps from the start."""


def draw_rail(drawing: Drawing, state: WalkState, top: int, left: int, right: int) -> None:
    """The rail of `state` between `left` and `right`; it needs 144 units of height."""
    drawing.text(left, top - 8, "locks, events", weight=700)
    _legend(drawing, state, top, right)
    _Tracks(drawing, state, top, left, right).draw()
    x = left
    for text, role in state.pills:
        width = 7 * len(text) + 24
        drawing.path(
            f"M{x} {top + 120} H{x + width} V{top + 144} H{x} Z",
            role,
            dash="" if role in ("ink", "split-mark") else "4 3",
        )
        drawing.text(x + width // 2, top + 136, text, role, anchor="middle", weight=600)
        x += width + 10


class _Tracks:
    """The tracks of one rail, and where each step is on them."""

    def __init__(self, drawing: Drawing, state: WalkState, top: int, left: int, right: int) -> None:
        self.drawing, self.state, self.top, self.left, self.right = drawing, state, top, left, right
        shown = len(state.rail.kinds)
        self.steps = max(shown, _HIDDEN_ROOM if state.hidden else 2)
        self.room = right - 14 - left - _NAMES
        self.last = self.x(shown if state.hidden else self.steps)

    def x(self, step: int) -> int:
        """Where `step` begins."""
        return self.left + _NAMES + 8 + self.room * step // self.steps

    def draw(self) -> None:
        """Locks, events, the veil over what is to come, and where the call is now."""
        rail = self.state.rail
        self._lock("mmu_lock", rail.dropped, self.top + 8)
        self._lock("RCU", rail.no_rcu, self.top + 28)
        if self.room // self.steps >= _GLYPH_ROOM:
            self.drawing.text(self.left, self.top + 57, "events")
            for step, kind in enumerate(rail.kinds):
                _GLYPHS[kind](self.drawing, (self.x(step) + self.x(step + 1)) // 2, self.top + 53)
        else:
            self._ticks()
        self._now()

    def _lock(self, name: str, gaps: tuple[tuple[int, int], ...], y: int) -> None:
        self.drawing.text(self.left, y + 9, name)
        self.drawing.rect(self.x(0), y, self.last - self.x(0), 11, self.drawing.palette["muted"])
        for first, end in gaps:
            low, high = self.x(first), min(max(self.x(end), self.x(first) + 2), self.last)
            if low < high:
                self.drawing.rect(low, y, high - low, 11, self.drawing.fill("crossing"), "line")

    def _ticks(self) -> None:
        for number, (name, kinds) in enumerate(_TICK_ROWS):
            y = self.top + 46 + 11 * number
            self.drawing.text(self.left, y + 9, name, size=11)
            columns = sorted({self.x(n) for n, kind in enumerate(self.state.rail.kinds) if kind in kinds})
            if columns:
                self.drawing.path("".join(f"M{at} {y} V{y + 9}" for at in columns), "ink")

    def _now(self) -> None:
        begin, end = self.x(self.state.at), self.x(self.state.at + 1)
        at, half = (begin + end) // 2, max((end - begin) // 2, 3)
        top, bottom = self.top + 4, self.top + 80
        if not self.state.hidden and end < self.last:
            veil = f"M{end + 1} {top} H{self.last + 1} V{bottom} H{end + 1} Z"
            self.drawing.path(veil, fill="paper", opacity=".62")
        self.drawing.path(f"M{at - half} {top} H{at + half} V{bottom} H{at - half} Z", "ink", width=2)
        self.drawing.path(f"M{at} {bottom + 3} L{at - 6} {bottom + 12} H{at + 6} Z", fill="ink")
        number = f"{self.state.at + 1}"
        text = number if self.state.hidden else f"{number} of {len(self.state.rail.kinds)}"
        middle = min(max(at, self.left + _NAMES + 4 * len(text)), self.right - 4 * len(text))
        self.drawing.text(middle, bottom + 25, text, anchor="middle", mono=True)


# ---- glyphs --------------------------------------------------------------------------------------------


def _dot(drawing: Drawing, x: int, y: int) -> None:
    drawing.circle(x, y, 4, "muted")


def _dash(drawing: Drawing, x: int, y: int) -> None:
    drawing.rect(x - 5, y - 1, 10, 3, drawing.palette["crossing-mark"])


def _sheet(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x - 3} {y - 5} H{x + 4} V{y + 5} H{x - 3} Z", "crossing-mark", width=2)


def _arrow(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(
        f"M{x - 2} {y - 6} L{x - 6} {y - 2} L{x - 2} {y + 2} M{x - 6} {y - 2} H{x + 4} V{y + 5} H{x - 3}",
        "ink",
        width=2,
    )


def _diamond(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x} {y - 6} L{x + 6} {y} L{x} {y + 6} L{x - 6} {y} Z", fill="split-mark")


def _open_diamond(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x} {y - 5} L{x + 5} {y} L{x} {y + 5} L{x - 5} {y} Z", "split-mark", width=2)


def _cross(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x - 4} {y - 4} L{x + 4} {y + 4} M{x + 4} {y - 4} L{x - 4} {y + 4}", "bad", width=3)


def _bar(drawing: Drawing, x: int, y: int) -> None:
    drawing.rect(x - 1, y - 6, 3, 12, drawing.palette["ink"])


def _person(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x - 6} {y + 5} L{x} {y - 6} L{x + 6} {y + 5} Z", fill="bad")


_GLYPHS: dict[str, Callable[[Drawing, int, int], None]] = {
    "start": _bar,
    "visit": _dot,
    "drop": _dash,
    "resched": _dash,
    "page": _sheet,
    "refused": _cross,
    "retake": _arrow,
    "store": _open_diamond,
    "split": _diamond,
    "lost": _cross,
    "fail": _cross,
    "other": _person,
    "free": _sheet,
    "return": _bar,
}
_GLYPH_NAMES = (
    ("visit", ("visit",)),
    ("drop", ("drop", "resched")),
    ("page", ("page", "free")),
    ("retake", ("retake",)),
    ("store", ("store",)),
    ("split", ("split",)),
    ("other thread", ("other",)),
    ("failed", ("lost", "refused", "fail")),
)
"""What the legend calls the glyph of these kinds."""


def _legend(drawing: Drawing, state: WalkState, top: int, right: int) -> None:
    """The glyphs that occur, up to `right`."""
    for name, kinds in reversed(_GLYPH_NAMES):
        if set(kinds) & set(state.rail.kinds):
            right -= 6 * len(name) + 4
            drawing.text(right, top - 8, name, "muted", size=11)
            _GLYPHS[kinds[0]](drawing, right - 12, top - 12)
            right -= 24
