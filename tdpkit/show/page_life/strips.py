"""The conversion stepper's strips, on one axis: attributes, both trees, the S-EPT, what the guest finds."""

from __future__ import annotations

from itertools import pairwise

from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.fold import LifeView, MappedRun

from ..drawing import Drawing
from .marks import LEFT, PLACES, RIGHT, draw_axis, draw_edges, draw_focus, draw_glyph, x_of_frame
from .words import STATE_LETTERS

_NAMES = {
    "attributes": ("attributes", "private or shared: which half a frame belongs to"),
    "direct": ("direct tree", "hardware walks it for a GPA with the S-bit; index by frame | S"),
    "mirror": ("mirror tree", "KVM’s copy of the S-EPT; no hardware walks it"),
    "sept": ("S-EPT", "hardware walks it for private memory; only the TDX module writes it"),
    "finds": ("what the guest finds", "in each frame, in the half that it belongs to"),
}
_STATE_KINDS = {
    "PENDING": "pending",
    "BLOCKED": "blocked",
    "PENDING_BLOCKED": "pending-blocked",
    "FROZEN": "zapped",
}
_FIND_KINDS = {
    "own": "leaf1",
    "zeros": "table",
    "lost": "lost",
    "pending": "pending",
    "shared": "table",
    "none": "hole",
}
_FIND_WORDS = {
    "own": "its bytes",
    "zeros": "zeros",
    "lost": "lost",
    "pending": "to ACCEPT",
    "shared": "userspace’s",
    "none": "nothing",
}
_FIND_ROLES = {"lost": "bad", "shared": "shared", "none": "muted"}


def draw_strips(drawing: Drawing, life: PageLife, at: int) -> None:
    """All that there is at step `at`, and what is being changed in it."""
    _Strips(drawing, life, life.steps[at].view).draw(life.steps[at].said.part)
    draw_focus(drawing, life, life.steps[at])
    draw_axis(drawing, life)


class _Strips:
    """Draws one view of a story: first the boxes, then the range's edges, then words on top."""

    def __init__(self, drawing: Drawing, life: PageLife, view: LifeView) -> None:
        self.drawing, self.life, self.view = drawing, life, view
        self.trees = {"direct": view.direct, "mirror": view.mirror, "sept": view.sept}
        edges = [0, *(edge for part in view.private for edge in part), life.frames]
        self.halves = [
            (gfn, end, ("shared", "private")[number % 2])
            for number, (gfn, end) in enumerate(pairwise(edges))
            if gfn < end
        ]

    def draw(self, changed: str) -> None:
        """changed: the strip that this step is about."""
        for part, (name, note) in _NAMES.items():
            top, _ = PLACES[part]
            self.drawing.text(LEFT, top - 7, name, weight=700 if part == changed else 600)
            if part == "attributes" and self.view.invalidating:
                where = self.life.names.span(*self.view.invalidating)
                text = f"invalidation: faults on {where} are retried"
                self.drawing.text(RIGHT, top - 7, text, "crossing-mark", size=11, anchor="end", weight=600)
            else:
                self.drawing.text(RIGHT, top - 7, note, "muted", size=11, anchor="end")
        self._boxes()
        draw_edges(self.drawing, self.life)
        self._words()

    # ---- boxes -----------------------------------------------------------------------------------------

    def _boxes(self) -> None:
        for gfn, end, half in self.halves:
            self._box("attributes", gfn, end, "leaf1" if half == "private" else "table")
        for part, runs in self.trees.items():
            edges = [0, *(edge for run in runs for edge in (run.gfn, run.end)), self.life.frames]
            for gfn, end in zip(edges[::2], edges[1::2], strict=True):
                self._box(part, gfn, end, "hole")
            for run in runs:
                self._box(part, run.gfn, run.end, _STATE_KINDS.get(run.state, f"leaf{run.level}"))
                self._borders(part, self._leaves(run))
        for find in self.view.finds:
            self._box("finds", find.gfn, find.end, _FIND_KINDS[find.kind])
        if self.view.bytes:
            self._borders("finds", list(range(self.life.frames + 1)))

    def _box(self, part: str, gfn: int, end: int, kind: str) -> None:
        (top, height), low, high = PLACES[part], self._x(gfn), self._x(end)
        if low < high:
            self.drawing.rect(low, top, high - low, height, self.drawing.fill(kind), "line")

    def _borders(self, part: str, edges: list[int]) -> None:
        """Lines between leaves, where they can be told apart."""
        top, height = PLACES[part]
        if len(edges) > 2 and self._wide(edges) >= 3:
            d = "".join(f"M{self._x(gfn)} {top} V{top + height}" for gfn in edges[1:-1])
            self.drawing.path(d, "line")

    def _leaves(self, run: MappedRun) -> list[int]:
        """Where the leaves of a run begin, and its end."""
        return [*range(run.gfn, run.end, self.life.geometry.pages(run.level)), run.end]

    def _wide(self, edges: list[int]) -> int:
        """Units of the picture from one edge to the next."""
        return (self._x(edges[-1]) - self._x(edges[0])) // (len(edges) - 1)

    def _x(self, gfn: int) -> int:
        return x_of_frame(self.life, gfn)

    # ---- words -----------------------------------------------------------------------------------------

    def _words(self) -> None:
        for gfn, end, half in self.halves:
            self._word("attributes", gfn, end, (half, half[0]), half)
        for part, runs in self.trees.items():
            for run in runs:
                self._leaf_words(part, run)
        if self.view.bytes:
            self._bytes()
            return
        for find in self.view.finds:
            role = _FIND_ROLES.get(find.kind, "ink")
            self._word("finds", find.gfn, find.end, (_FIND_WORDS[find.kind],), role)

    def _word(self, part: str, gfn: int, end: int, texts: tuple[str, ...], role: str = "ink") -> None:
        """The first of `texts` for which there is room, on paper, in the middle."""
        (top, height), low, high = PLACES[part], self._x(gfn), self._x(end)
        for text in texts:
            width = 7 * len(text) + 8
            if width <= high - low - 4:
                middle, y = (low + high) // 2, top + height // 2
                self.drawing.rect(middle - width // 2, y - 7, width, 14, self.drawing.palette["paper"])
                self.drawing.text(middle, y + 4, text, role, anchor="middle", size=11, weight=600)
                return

    def _leaf_words(self, part: str, run: MappedRun) -> None:
        """What the leaves are: each where there is room for it, else the run together."""
        edges = self._leaves(run)
        if part == "sept":
            self._states(run, edges if self._wide(edges) >= 26 else [run.gfn, run.end])
        elif run.state == "FROZEN":
            self._word(part, run.gfn, run.end, ("frozen", "❄"))
        elif run.level == PG_LEVEL_4K:
            count = len(edges) - 1
            self._word(part, run.gfn, run.end, ("page" if count == 1 else f"{count} pages", f"{count}"))
        else:
            size = self.life.geometry.pages(run.level)
            for gfn, end in pairwise(edges):
                self._word(part, gfn, end, (f"{size}-frame leaf" if self.life.names.toy else "2M leaf",))

    def _states(self, run: MappedRun, edges: list[int]) -> None:
        """Glyph and letter of the state."""
        letter, (top, height) = STATE_LETTERS[run.state], PLACES["sept"]
        width = 10 + 8 * len(letter)
        for gfn, end in pairwise(edges):
            low, high = self._x(gfn), self._x(end)
            if width <= high - low - 2:
                left, y = (low + high - width) // 2, top + height // 2
                self.drawing.rect(left, y - 8, width, 16, self.drawing.palette["paper"])
                draw_glyph(self.drawing, run.state, left + 1, y)
                self.drawing.text(left + 10, y + 4, letter, size=11, weight=700)

    def _bytes(self) -> None:
        """The byte in each frame, on paper where it would lie on a hatch."""
        top, _ = PLACES["finds"]
        kinds = {gfn: find.kind for find in self.view.finds for gfn in range(find.gfn, find.end)}
        for gfn, byte in enumerate(self.view.bytes):
            kind, middle = kinds[gfn], (self._x(gfn) + self._x(gfn + 1)) // 2
            if kind in ("lost", "pending"):
                self.drawing.rect(middle - 9, top + 6, 18, 16, self.drawing.palette["paper"])
            role = _FIND_ROLES.get(kind, "ink")
            self.drawing.text(middle, top + 18, byte, role, size=12, weight=700, anchor="middle", mono=True)
