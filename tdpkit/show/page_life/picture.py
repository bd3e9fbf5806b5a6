"""The conversion stepper's picture of one step: a pure function of a story and a number.

From top to bottom: what happens; the frames lost, the other numbers and what holds now; five strips on one
axis of frames; who acts, over the whole story, beside the TDX module's log; the legend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, pairwise

from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.fold import LifeStep, LifeView, MappedRun
from tdpkit.lab.page_life.words import ACTORS, GUEST
from tdpkit.lab.words import group_digits

from ..drawing import (
    LEFT,
    RIGHT,
    WIDTH,
    Drawing,
    Key,
    Picture,
    Spot,
    Track,
    box,
    cross,
    pointer,
    text_width,
    tick,
)
from ..strips import STRIP_HEIGHT, draw_names, draw_range, name_edges, name_where_room
from ..theme import Palette
from .words import (
    LOG_LINES,
    STATE_LETTERS,
    answer,
    counters,
    invalidation,
    log_tail,
    loss,
    pills,
    role,
    title,
)

_HEADLINE, _PILLS = 116, 132
"""The base of the story's one number, and the top of the pills, below an answer of two lines: the longest
there are, so that nothing moves from step to step."""
PLACES = {"attributes": 184, "direct": 259, "mirror": 305, "sept": 351, "finds": 397}
"""Top of each strip; its name stands above it, clear of the edges of the range."""
_EDGE, _NAME = 3, 8
_AXIS = PLACES["attributes"] + STRIP_HEIGHT + 6
"""The range is dragged on the first strip, so the axis is below that one: the handles' grips hang there."""
RAIL, RAIL_LEFT, RAIL_RIGHT = 449, 116, 600
"""Who acts: top of the acts' names, and from where to where the steps are; the log has the room beside it."""
_TAB, _ACTS, _LANE = 24, 34, 24
"""Height of an act's name, from there on to the first lane, and a lane's height."""
LANES = RAIL + _ACTS, RAIL + _ACTS + _LANE * len(ACTORS)
_LOG_LEFT, _COUNTERS_LEFT = 636, 340
_LEGEND = 590
_BIG = 34


def life_svg(life: PageLife, at: int, palette: Palette, ids: str = "") -> Picture:
    """Step `at` (from 0) as an SVG string in the colours of `palette`; `ids` as for every picture."""
    said, name = answer(life, at), title(life)
    drawing = Drawing(WIDTH, _LEGEND + 10, palette, ids, "pl")
    drawing.headed(name, said, role(life, at), lines=2)
    _draw_numbers(drawing, life, at)
    drawing.pills(LEFT, _PILLS, pills(life, at))
    _Strips(drawing, life, life.steps[at]).draw()
    _draw_axis(drawing, life)
    _draw_rail(drawing, life, at)
    new = life.steps[at].calls > (life.steps[at - 1].calls if at else 0)
    lines = log_tail(life, at)
    now = len(lines) - 1 if new else None
    drawing.log("SEAMCALLs (TDH) and TDCALLs (TDG)", lines, now, _LOG_LEFT, RIGHT, RAIL, LOG_LINES)
    _draw_legend(drawing, life.steps[at].view)
    return drawing.svg(name, said)


def _draw_numbers(drawing: Drawing, life: PageLife, at: int) -> None:
    """The frames lost, large, and the other numbers beside them."""
    value, caption, note, colour = loss(life, at)
    drawing.text(LEFT, _HEADLINE, value, colour, size=_BIG, weight=700)
    left = LEFT + text_width(group_digits(life.lost), _BIG, weight=700) + 12
    drawing.text(left, _HEADLINE - 14, caption, colour, size=14, weight=700)
    drawing.text(left, _HEADLINE + 4, note, "muted")
    drawing.counters(_HEADLINE - 14, counters(life, at), _COUNTERS_LEFT)


def x_of_frame(life: PageLife, gfn: int) -> int:
    """Where a frame begins; frames beyond the TD are at its end."""
    return LEFT + (RIGHT - LEFT) * min(gfn, life.frames) // life.frames


# ---- the strips ------------------------------------------------------------------------------------------

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
_FINDS = {
    "own": ("leaf1", "its bytes", "ink"),
    "zeros": ("table", "zeros", "ink"),
    "lost": ("lost", "lost", "bad"),
    "pending": ("pending", "to ACCEPT", "ink"),
    "shared": ("table", "userspace’s", "shared"),
    "none": ("hole", "nothing", "muted"),
}
"""What the guest finds: how it is filled, in a word, and in which colour."""


class _Strips:
    """How things stand after one step: boxes, then the range's edges, words, and what the step changes."""

    def __init__(self, drawing: Drawing, life: PageLife, step: LifeStep) -> None:
        self.drawing, self.life, self.step = drawing, life, step
        self.view: LifeView = step.view
        self.trees = {"direct": self.view.direct, "mirror": self.view.mirror, "sept": self.view.sept}
        edges = [0, *(edge for part in self.view.private for edge in part), life.frames]
        self.halves = [
            (gfn, end, ("shared", "private")[number % 2])
            for number, (gfn, end) in enumerate(pairwise(edges))
            if gfn < end
        ]

    def draw(self) -> None:
        """All of it."""
        self._names()
        self._boxes()
        for edge in (self.life.span.start, self.life.span.end):
            x = self._x(edge)
            first, *below = PLACES.values()
            self.drawing.path(f"M{x} {first - _EDGE} V{_AXIS}", "range", width=2)
            d = "".join(f"M{x} {top - _EDGE} V{top + STRIP_HEIGHT + _EDGE}" for top in below)
            self.drawing.path(d, "range", width=2, dash="3 3")
        self._words()
        self._focus()

    def _x(self, gfn: int) -> int:
        return x_of_frame(self.life, gfn)

    def _names(self) -> None:
        for part, (name, note) in _NAMES.items():
            y, colour, weight = PLACES[part] - _NAME, "muted", 400
            self.drawing.text(LEFT, y, name, weight=700 if part == self.step.said.part else 600)
            if part == "attributes" and self.view.invalidating:
                note = invalidation(self.life, self.view.invalidating)
                colour, weight = "crossing-mark", 600
            self.drawing.text(RIGHT, y, note, colour, anchor="end", weight=weight)

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
            self._box("finds", find.gfn, find.end, _FINDS[find.kind][0])
        if self.view.bytes:
            self._borders("finds", list(range(self.life.frames + 1)))

    def _box(self, part: str, gfn: int, end: int, kind: str) -> None:
        low, high = self._x(gfn), self._x(end)
        if low < high:
            self.drawing.rect(low, PLACES[part], high - low, STRIP_HEIGHT, self.drawing.fill(kind), "line")

    def _borders(self, part: str, edges: list[int]) -> None:
        """Lines between leaves, where they can be told apart."""
        top = PLACES[part]
        if len(edges) > 2 and self._wide(edges) >= 3:
            d = "".join(f"M{self._x(gfn)} {top} V{top + STRIP_HEIGHT}" for gfn in edges[1:-1])
            self.drawing.path(d, "line")

    def _leaves(self, run: MappedRun) -> list[int]:
        """Where the leaves of a run begin, and its end."""
        return [*range(run.gfn, run.end, self.life.geometry.pages(run.level)), run.end]

    def _wide(self, edges: list[int]) -> int:
        """Units of the picture from one edge to the next."""
        return (self._x(edges[-1]) - self._x(edges[0])) // (len(edges) - 1)

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
            _, word, colour = _FINDS[find.kind]
            self._word("finds", find.gfn, find.end, (word,), colour)

    def _word(self, part: str, gfn: int, end: int, texts: Iterable[str], colour: str = "ink") -> None:
        """The first of `texts` for which there is room."""
        low, high, y = self._x(gfn), self._x(end), PLACES[part] + STRIP_HEIGHT // 2
        any(
            self.drawing.plate((low + high) // 2, y, text, high - low - 4, colour, weight=600)
            for text in texts
        )

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
        letter, y = STATE_LETTERS[run.state], PLACES["sept"] + STRIP_HEIGHT // 2
        width = 10 + text_width(letter, weight=700)
        for gfn, end in pairwise(edges):
            low, high = self._x(gfn), self._x(end)
            if width <= high - low - 2:
                left = (low + high - width) // 2
                self.drawing.rect(left, y - 8, width, 16, self.drawing.palette["paper"])
                draw_glyph(self.drawing, run.state, left + 1, y)
                self.drawing.text(left + 10, y + 4, letter, weight=700)

    def _bytes(self) -> None:
        """The byte in each frame, on paper where it would lie on a hatch."""
        top = PLACES["finds"]
        kinds = {gfn: find.kind for find in self.view.finds for gfn in range(find.gfn, find.end)}
        for gfn, byte in enumerate(self.view.bytes):
            middle = (self._x(gfn) + self._x(gfn + 1)) // 2
            if kinds[gfn] in ("lost", "pending"):
                self.drawing.rect(middle - 9, top + 4, 18, 16, self.drawing.palette["paper"])
            colour = _FINDS[kinds[gfn]][2]
            self.drawing.text(middle, top + 16, byte, colour, weight=700, anchor="middle", mono=True)

    def _focus(self) -> None:
        """A ring around the entry that the step changes and a mark at either end of its strip; a dashed ring
        around what it is about and leaves as it is.
        """
        said, focus = self.step.said, self.step.focus
        if said.part:
            y = PLACES[said.part] + STRIP_HEIGHT // 2
            self.drawing.path(f"M8 {y - 6} L18 {y} L8 {y + 6} Z", fill="ink")
            self.drawing.path(f"M992 {y - 6} L982 {y} L992 {y + 6} Z", fill="ink")
        if focus:
            top = PLACES[said.part or ("finds" if said.actor == GUEST else "sept")]
            low = self._x(focus[0])
            ring = box(low, top, max(self._x(focus[1]), low + 3), top + STRIP_HEIGHT)
            self.drawing.path(ring, "ink", width=3, dash="" if said.part else "6 4")


def draw_glyph(drawing: Drawing, state: str, x: int, y: int) -> None:
    """8 wide, around y: a tick (accepted), three dots (PENDING), a cross (blocked)."""
    if state == "PRESENT":
        drawing.path(tick(x + 4, y), "good", width=2)
    elif state == "PENDING":
        for dot in (0, 3, 6):
            drawing.path(box(x + dot, y - 1, x + dot + 2, y + 1), fill="pending-mark")
    else:
        drawing.path(cross(x + 3, y, 3), "crossing-mark", width=2)


def _draw_axis(drawing: Drawing, life: PageLife) -> None:
    """The frames, and the range with its edges' names, which keep apart; here it is dragged."""
    name, frames = life.names.frame, range(0, life.frames + 1, life.frames // 32)
    ticks = "".join(f"M{x_of_frame(life, gfn)} {_AXIS} V{_AXIS + 4}" for gfn in frames)
    drawing.path(f"M{LEFT} {_AXIS} H{RIGHT}{ticks}", "line")
    low, high = (x_of_frame(life, edge) for edge in (life.span.start, life.span.end))
    draw_range(drawing, low, high, _AXIS, 5, 3)
    knots = (0, LEFT), (life.frames, RIGHT)
    drawing.track(Track("range", knots, PLACES["attributes"], _AXIS - 1))
    edges = name_edges([(low, name(life.span.start)), (high, name(life.span.end))], LEFT, RIGHT)
    quarters = [(x_of_frame(life, gfn), name(gfn)) for gfn in frames[::8]]
    draw_names(drawing, edges, _AXIS + 20, "range")
    draw_names(drawing, name_where_room(quarters, edges, LEFT, RIGHT), _AXIS + 20)


# ---- who acts --------------------------------------------------------------------------------------------


def x_of_step(life: PageLife, number: int) -> int:
    """Where a step (from 0) begins on the rail."""
    return RAIL_LEFT + (RAIL_RIGHT - RAIL_LEFT) * number // len(life.steps)


def y_of_lane(actor: str) -> int:
    """The top of an actor's lane on the rail."""
    return LANES[0] + _LANE * ACTORS.index(actor)


def _draw_rail(drawing: Drawing, life: PageLife, at: int) -> None:
    """Who acts, over the whole story; what is to come is pale. Along the lanes one goes to any step."""
    said, count, (top, bottom) = life.steps[at].said, len(life.steps), LANES
    low, high = x_of_step(life, at), x_of_step(life, at + 1)
    drawing.text(LEFT, RAIL - 8, "who acts", weight=700)
    doing = f"{said.actor} · {said.function}" if said.function else said.actor
    drawing.text(RAIL_RIGHT, RAIL - 8, doing, anchor="end", mono=True, weight=700)
    _draw_acts(drawing, life, at)
    wide = max(2, (RAIL_RIGHT - RAIL_LEFT) // count - 2)
    for actor in ACTORS:
        y = y_of_lane(actor)
        drawing.text(LEFT, y + 15, actor, weight=700 if actor == said.actor else 400)
        drawing.path(f"M{RAIL_LEFT} {y + 11} H{RAIL_RIGHT}", "grid")
        for past, colour in ((True, "ink"), (False, "grid")):
            marks = [n for n, step in enumerate(life.steps) if step.said.actor == actor and (n <= at) == past]
            lefts = [x_of_step(life, number) + 1 for number in marks]
            if d := "".join(box(x, y + 4, x + wide, y + 18) for x in lefts):
                drawing.path(d, fill=colour)
    drawing.path(box(low, top - 3, high + 1, bottom), "ink", width=2)
    drawing.path(pointer(_middle(life, at), bottom + 2), fill="ink")
    knots = (1, _middle(life, 0)), (count, _middle(life, count - 1))
    drawing.track(Track("step", knots, top, bottom + 11))


def _middle(life: PageLife, number: int) -> int:
    return (x_of_step(life, number) + x_of_step(life, number + 1)) // 2


def _draw_acts(drawing: Drawing, life: PageLife, at: int) -> None:
    """The acts of the story: a tab with the name of each, to press, and below it where its steps are."""
    top, bottom = LANES
    acts, under = life.acts, RAIL + _TAB
    for number, ((act, steps), (left, right)) in enumerate(zip(acts.items(), tabs(life), strict=True), 1):
        low, high, now = x_of_step(life, steps.start), x_of_step(life, steps.stop), at in steps
        down = f"M{left} {RAIL} V{under} L{low} {top} V{bottom}"
        if now:
            up = f"H{high} V{top} L{right} {under} V{RAIL} Z"
            drawing.path(f"{down} {up}", fill="hole")
        drawing.path(down, "line")
        drawing.path(f"M{left} {RAIL} H{right} V{under} H{left}", "line")
        colour, weight = ("ink", 700) if now else ("muted", 400)
        drawing.text((left + right) // 2, RAIL + 16, act, colour, anchor="middle", weight=weight)
        drawing.spot(Spot(f"act:{number}", f"go to: {act}", left, RAIL, right, under, now))
    drawing.path(f"M{RAIL_RIGHT} {under} V{bottom}", "line")


def tabs(life: PageLife) -> list[tuple[int, int]]:
    """Left and right of each act's name: as wide as the act, but that each name has room."""
    shares = [x_of_step(life, steps.stop) - x_of_step(life, steps.start) for steps in life.acts.values()]
    needs = [text_width(act, weight=700) + 14 for act in life.acts]
    widths = [max(pair) for pair in zip(shares, needs, strict=True)]
    over, spare = sum(widths) - sum(shares), max(sum(widths) - sum(needs), 1)
    ends = accumulate(widths, initial=0)
    given = accumulate((width - need for width, need in zip(widths, needs, strict=True)), initial=0)
    edges = [RAIL_LEFT + end - over * room // spare for end, room in zip(ends, given, strict=True)]
    return [*pairwise(edges)]


def _draw_legend(drawing: Drawing, view: LifeView) -> None:
    """What the fills of the trees mean that are drawn."""

    def mark(kind: str, state: str) -> Callable[[int, int], None]:
        def draw(x: int, y: int) -> None:
            drawing.rect(x, y - 11, 16, 14, drawing.fill(kind), "line")
            if state:
                draw_glyph(drawing, state, x + 22, y - 4)

        return draw

    marks = (
        ("leaf2", "PRESENT", "A accepted (PRESENT)"),
        ("pending", "PENDING", "P PENDING"),
        ("blocked", "BLOCKED", "B BLOCKED"),
        ("pending-blocked", "PENDING_BLOCKED", "PB PENDING_BLOCKED"),
        ("hole", "", "FREE, not mapped"),
        ("zapped", "", "frozen"),
        ("lost", "", "lost"),
    )
    drawn = drawing.filled - {"leaf2"}  # the other trees have leaves too, and no letters
    if any(run.state == "PRESENT" for run in view.sept):
        drawn.add("leaf2")
    keys = (Key(mark(kind, state), 31 if state else 16, name) for kind, state, name in marks if kind in drawn)
    drawing.keys(_LEGEND, keys)
