"""The schedule player's markup: a picture, a text and a table of a schedule, all pure functions of its state.

Time runs from left to right, a column for each step. A lane per thread says what it did and is shaded while
it holds mmu_lock; below, on the same columns, the tree's leaves frame by frame, what a TLB may hold besides,
and the shared words. Column n shows what holds after step n. At the foot are the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

from tdpkit.engine.spte import VMX_EPT_DIRTY_BIT
from tdpkit.lab.schedules import PROPERTIES
from tdpkit.lab.words import html_table

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
    shorten,
    text_width,
    tick,
)
from ..theme import Palette
from .state import Change, PlayerState
from .words import (
    answer,
    extent_words,
    lane_words,
    leaves_words,
    lock_words,
    now_words,
    remark,
    shared_words,
    step_words,
    title,
    tlb_names,
    tlb_words,
    verdict_words,
)

_NAMES = 112
"""Room for a lane's name and what its thread does, "splits, tracks [2, 4)" in two lines."""
_BEGIN = LEFT + _NAMES
_NARROWEST, _WIDEST = 26, 92
"""Of a column: two digits, and "none split" in a box with air around."""
_BOXED = 68
"""So wide a column holds a box with "none split" in it; in narrower ones words alternate in height."""
_LANE, _GAP = 46, 12
"""Height of a thread's lane: two lines of text; between lanes, where the clash is joined."""
_FRAME = 11
"""Height of a frame of the tree: a leaf of two holds a word on its plate."""
_TLB, _WORD = 24, 20
_RULE, _NOW = 20, 690
"""From rule to rule; where it says whether it holds now, right of the longest rule."""
_PRESS = 834
"""From here to the right margin a verdict is pressed: "breaks in 30 steps" and some air."""
_HOLDS = {"read": "hole", "write": "grid"}
_TLBS = {"none": "paper", "true": "paper", "owed": "crossing", "left": "crossing", "stale": "lost"}


V = TypeVar("V")


class _Columns(NamedTuple):
    """The steps on show, `first` to before `end`, and how wide a column is."""

    first: int
    end: int
    width: int

    def left(self, step: int) -> int:
        return _BEGIN + self.width * (min(max(step, self.first), self.end) - self.first)

    def centre(self, step: int) -> int:
        return _BEGIN + self.width * (step - self.first) + self.width // 2

    @property
    def steps(self) -> range:
        return range(self.first, self.end)

    @property
    def is_boxed(self) -> bool:
        return self.width >= _BOXED


def columns(state: PlayerState) -> _Columns:
    """All steps if they fit; else a window with the present one in it, which moves on by half of itself."""
    every, most = state.last + 1, (RIGHT - _BEGIN) // _NARROWEST
    if every <= most:
        return _Columns(0, every, min((RIGHT - _BEGIN) // every, _WIDEST))
    half = most // 2
    first = min(max(0, -(-(state.at - most + 2) // half)) * half, every - most)
    return _Columns(first, first + most, _NARROWEST)


def player_svg(state: PlayerState, palette: Palette, ids: str = "") -> Picture:
    """The state as an SVG string in the colours of `palette`; `ids` prefixes its ids."""
    drawing = Drawing(WIDTH, 0, palette, ids, "sp")
    y = drawing.headed(title(state), answer(state), "bad" if state.reason else "ink", lines=3)
    drawing.height = _Stage(drawing, state, y + 22).draw() + 8
    return drawing.svg(title(state), answer(state))


class _Stage:
    """All of the picture below its head, from `top` on."""

    def __init__(self, drawing: Drawing, state: PlayerState, top: int) -> None:
        self.drawing, self.state, self.top = drawing, state, top
        self.columns = columns(state)
        self.numbers = top + 20
        """Base of the steps' numbers."""
        self.lanes = {
            lane.name: self.numbers + 12 + (_LANE + _GAP) * number for number, lane in enumerate(state.lanes)
        }
        self.tree = self.numbers + 12 + (_LANE + _GAP) * len(state.lanes) + 4
        self.tlb = self.tree + _FRAME * state.frames + 14
        self.words = self.tlb + _TLB + 10
        self.said: list[tuple[int, int, int, int, tuple[str, ...]]] = []

    def draw(self) -> int:
        """Draw it; the y of its foot."""
        drawing, state = self.drawing, self.state
        at = self.columns
        if len(at.steps) <= state.last:
            drawing.text(LEFT, self.top, f"steps {at.first} to {at.end - 1} of {state.last}", "muted")
        drawing.text(RIGHT, self.top, remark(state), "crossing-mark", anchor="end", weight=600)
        for name in self.lanes:
            self._shade(name)
        self._tree()
        self._reach()
        for name in self.lanes:
            self._lane(name)
        self._tlb()
        bottom = self._words()
        self._clash()
        self._now(bottom)
        self._plates()
        y = self._legend(bottom + 34)
        return self._rules(y + 30)

    def _runs(self, value: Callable[[int], V]) -> Iterator[tuple[int, int, V]]:
        """Columns [first, last) of one value, and that value."""
        for key, run in groupby(self.columns.steps, value):
            steps = [*run]
            yield steps[0], steps[-1] + 1, key

    # ---- threads ----------------------------------------------------------------------------------------

    def _holds(self, name: str, step: int) -> str:
        """How a thread holds mmu_lock after a step: for "read", for "write", or ""."""
        look = self.state.looks[step]
        return "write" if look.writer == name else "read" if name in look.readers else ""

    def _shade(self, name: str) -> None:
        """The lane's ground: dots before it starts and after it returned, shaded while it holds mmu_lock."""
        drawing, top, at = self.drawing, self.lanes[name], self.columns
        own = [look.number for look in self.state.looks if look.thread == name]
        first = own[0] if own else self.state.last + 1
        done = next((look.number for look in self.state.looks if name in look.finished), self.state.last)
        drawing.path(f"M{at.left(at.first)} {top + _LANE // 2} H{at.left(at.end)}", "grid", dash="2 4")
        low, high = at.left(first), at.left(done + 1)
        if low < high:
            drawing.rect(low, top, high - low, _LANE, drawing.palette["paper"])
        for begin, end, how in self._runs(lambda step: self._holds(name, step)):
            if how:
                low_, high_ = at.left(begin), at.left(end)
                drawing.rect(low_, top, high_ - low_, _LANE, drawing.fill(_HOLDS[how]))
        if low < high:
            drawing.path(box(low, top, high, top + _LANE), "line")

    def _lane(self, name: str) -> None:
        drawing, top, at = self.drawing, self.lanes[name], self.columns
        [lane] = [lane for lane in self.state.lanes if lane.name == name]
        drawing.text(LEFT, top + 19, name, size=14, weight=700)
        drawing.text(LEFT, top + 36, lane_words(self.state, lane), "muted")
        steps = [step for step in at.steps if self.state.looks[step].thread == name]
        for step in steps:
            access = self.state.looks[step].access
            assert access
            token, came = step_words(access)
            lost = access.token == "swap" and not access.changed
            role, weight = "bad" if lost else "ink", 700 if lost or access.changed else 400
            if at.is_boxed:
                self._box(step, top, token, came, role, access.changed)
            else:
                y, said = (
                    top + (18 if step % 2 else 36),
                    shorten(token, self._room(step, steps), weight=weight),
                )
                drawing.label(at.centre(step), y, said + " ✗" * lost, role, left=_BEGIN - 8, weight=weight)

    def _room(self, step: int, steps: Sequence[int]) -> int:
        """Of a step's word: the others of its height are two columns away, and have half of the way each."""
        both = 2 * self.columns.width
        beside = [self.state.looks[n].access for n in (step - 2, step + 2) if n in steps]
        taken = [min(text_width(access.token, weight=700), both - 4) for access in beside if access]
        return 2 * both - 4 - max(taken, default=self.columns.width)

    def _box(self, step: int, top: int, token: str, came: str, role: str, filled: bool) -> None:
        drawing, x = self.drawing, self.columns.centre(step)
        low, high = self.columns.left(step) + 3, self.columns.left(step + 1) - 3
        ground, ink = ("ink", "paper") if filled else ("paper", role)
        lost = role == "bad"
        outline = box(low, top + 4, high, top + _LANE - 4)
        drawing.path(outline, "bad" if lost else "line", fill=ground, width=1 + lost)
        y = top + (21 if came else 28)
        drawing.text(x, y, token, ink, anchor="middle", weight=700)
        drawing.text(x, y + 15, came, ink, anchor="middle")

    def _reach(self) -> None:
        """From each access that changes an entry, or fails to, down to the tree."""
        for step in self.columns.steps:
            look, x = self.state.looks[step], self.columns.centre(step)
            if look.access is None or look.access.token not in ("swap", "store"):
                continue
            top, bottom = self.lanes[look.thread] + _LANE, self.tree - 2
            if look.access.changed:
                self.drawing.path(
                    f"M{x} {top} V{bottom} M{x - 4} {bottom - 6} L{x} {bottom} L{x + 4} {bottom - 6}",
                    "ink",
                    width=2,
                )
            else:
                self.drawing.path(f"M{x} {top} V{bottom - 10}", "bad", dash="3 3")
                self.drawing.path(cross(x, bottom - 5), "bad", width=2)

    # ---- what they share ----------------------------------------------------------------------------------

    def _name(self, y: int, name: str, note: str = "") -> None:
        self.drawing.text(LEFT, y, name, weight=700)
        self.drawing.text(LEFT, y + 16, note, "muted")

    def _tree(self) -> None:
        """The leaves, frame by frame from the top: a box for each while it is there."""
        drawing, state, at = self.drawing, self.state, self.columns
        top, height = self.tree, _FRAME * state.frames
        self._name(top + height // 2 - 4, "the tree", f"frames 0 to {state.frames - 1}")
        left, right = at.left(at.first), at.left(at.end)
        drawing.rect(left, top, right - left, height, drawing.fill("hole"), "line")
        every = sorted({leaf[:2] for look in state.looks for leaf in look.leaves}, key=lambda leaf: -leaf[1])
        for gfn, level in every:
            here = self._leaf_at(gfn, level)
            for first, last, key in self._runs(here):
                if key is not None:
                    y, high = top + _FRAME * gfn, _FRAME * state.geometry.pages(level)
                    fill = drawing.fill(f"leaf{level}")
                    drawing.rect(at.left(first), y, at.left(last) - at.left(first), high, fill, "line")
        self._labels(top)

    def _leaf_at(self, gfn: int, level: int) -> Callable[[int], int | None]:
        """Of a step: the leaf's dirty bit while it is there, None while it is not."""

        def key(step: int) -> int | None:
            found = [spte for one, at, spte in self.state.looks[step].leaves if (one, at) == (gfn, level)]
            return found[0] & VMX_EPT_DIRTY_BIT if found else None

        return key

    def _labels(self, top: int) -> None:
        """Whose doing each part of the tree is, from the step that did it to the next that touches it."""
        at = self.columns
        begun = [
            Change(0, "", gfn, gfn + self.state.geometry.pages(level), "leaf")
            for gfn, level, _ in self.state.looks[0].leaves
        ]
        every = [*begun, *self.state.changes]
        for change in every:
            later = [
                other.step
                for other in every
                if other.step > change.step and other.first < change.last and change.first < other.last
            ]
            low, high = at.left(change.step), at.left(min(later, default=at.end))
            if change.last - change.first > 1:
                y = top + _FRAME * (change.first + change.last) // 2
                self._say(low, high, y, change.step, _label_texts(change))

    def _tlb(self) -> None:
        """What a TLB may hold besides the tree's leaves."""
        drawing, state, at, top = self.drawing, self.state, self.columns, self.tlb
        self._name(top + 10, "a TLB", "may hold")
        for first, last, _ in self._runs(lambda step: state.tlb[step]):
            kind = state.tlb[first].kind
            low, high = at.left(first), at.left(last)
            drawing.rect(low, top, high - low, _TLB, drawing.fill(_TLBS[kind]), "line")
            self._say(low, high, top + 12, first, tlb_names(state, first))

    def _words(self) -> int:
        """A lane for each shared word and each lock besides mmu_lock; the y below the last."""
        drawing, state, at, y = self.drawing, self.state, self.columns, self.words
        locks = dict.fromkeys(name for look in state.looks for name in look.locks)
        values: list[tuple[str, Callable[[int], int | str]]] = [
            *((name, lambda step, name=name: state.looks[step].words[name]) for name in state.look.words),
            *((name, lambda step, name=name: state.looks[step].locks.get(name, "")) for name in locks),
        ]
        for name, value in values:
            drawing.text(LEFT, y + 14, name, weight=700)
            for first, last, now in self._runs(value):
                low, high = at.left(first), at.left(last)
                drawing.rect(low, y, high - low, _WORD, drawing.palette["leaf1" if now else "paper"], "line")
                self._say(low, high, y + 10, first, (f"{now}",))
            y += _WORD + 6
        return y - 4 if values else self.tlb + _TLB + 2

    def _say(self, low: int, high: int, y: int, step: int, texts: tuple[str, ...]) -> None:
        """Have it said in the middle of a run from `step` on: the longest of `texts` that has room."""
        self.said.append((low, high, y, step, texts))

    def _plates(self) -> None:
        """What runs are, over the frame of the present step; pale where they are to come."""
        for low, high, y, step, texts in self.said:
            role = "muted" if step > self.state.at else "ink"
            any(self.drawing.plate((low + high) // 2, y, text, high - low - 4, role) for text in texts)

    # ---- over the lanes -----------------------------------------------------------------------------------

    def _clash(self) -> None:
        """The two steps that clash, ringed and joined in the gaps between lanes."""
        why, at, drawing = self.state.reason, self.columns, self.drawing
        if why is None:
            return
        tops = {step: self.lanes[self.state.looks[step].thread] for step in (why.other, why.step) if step}
        for step, top in tops.items():
            if step in at.steps:
                access = self.state.looks[step].access
                room = text_width(access.token, weight=700) + 8 if access and not at.is_boxed else 0
                half = max(at.width, room) // 2
                drawing.path(
                    box(at.centre(step) - half, top, at.centre(step) + half, top + _LANE), "bad", width=3
                )
        if not why.other or why.other not in at.steps:
            return
        one, other = at.centre(why.other), at.centre(why.step)
        above, below = sorted(tops.values())
        if above == below:
            y = above + _LANE
            drawing.path(f"M{one} {y + 1} V{y + 6} H{other} V{y + 1}", "bad", width=2)
            return
        down = tops[why.step] == below
        start, end = (
            (tops[why.other] + _LANE, tops[why.step]) if down else (tops[why.other], tops[why.step] + _LANE)
        )
        y = end - 6 if down else end + 6
        drawing.path(f"M{one} {start} V{y} H{other} V{end}", "bad", width=2)

    def _now(self, bottom: int) -> None:
        """The steps' numbers, a veil over what is to come, and where the schedule is now."""
        drawing, at, step = self.drawing, self.columns, self.state.at
        drawing.text(LEFT, self.numbers, "step", "muted")
        numbers = [(at.centre(n), self.numbers, f"{n}" if n else "start") for n in at.steps]
        if not at.is_boxed and at.first == 0:
            numbers[0] = (*numbers[0][:2], "0")
        drawing.texts([n for n in numbers if n[0] != at.centre(step)], "muted", anchor="middle", mono=True)
        drawing.texts([n for n in numbers if n[0] == at.centre(step)], anchor="middle", mono=True, weight=700)
        top = self.numbers + 6
        low, high, end = at.left(step), at.left(step + 1), at.left(at.end)
        if high < end:
            drawing.path(box(high + 1, top, end + 1, bottom), fill="paper", opacity=".62")
        drawing.path(box(low, top - 20, high, bottom), "ink", width=2)
        drawing.path(pointer((low + high) // 2, bottom + 3), fill="ink")
        beyond = min(at.left(at.end) + at.width // 2, RIGHT + 12)
        knots = [(n, at.centre(n)) for n in range(at.first - 1, at.end)]
        drawing.track(Track("step", (*knots, (at.end, beyond)), top - 20, bottom + 12))

    # ---- the foot -----------------------------------------------------------------------------------------

    def _legend(self, y: int) -> int:
        drawing, state = self.drawing, self.state
        drawn = set(drawing.filled)
        held = {self._holds(name, step) for name in self.lanes for step in self.columns.steps}

        def swatch(fill: str) -> Callable[[int, int], None]:
            return lambda x, y: drawing.rect(x, y - 11, 16, 14, drawing.fill(fill), "line")

        def leaf(level: int) -> str:
            pages = state.geometry.pages(level)
            return f"leaf of {pages} frames" if pages > 1 else "leaf of one"

        keys = [Key(swatch(_HOLDS[how]), 16, f"holds mmu_lock for {how}") for how in _HOLDS if how in held]
        keys += [Key(swatch(f"leaf{n}"), 16, leaf(n)) for n in (3, 2, 1) if f"leaf{n}" in drawn]
        keys += [Key(swatch("crossing"), 16, "gone, not flushed yet")] if "crossing" in drawn else []
        keys += [Key(swatch("lost"), 16, "stale after a return")] if "lost" in drawn else []
        return drawing.keys(y, keys)

    def _rules(self, y: int) -> int:
        """Each judged property: whether it holds now, and what the search says of it."""
        drawing, state = self.drawing, self.state
        drawing.text(LEFT, y, "what is judged", weight=700)
        now = f"after step {state.at}" if state.at else "at the start"
        drawing.text(_NOW, y, now, weight=700)
        drawing.text(RIGHT, y, "in every schedule", anchor="end", weight=700)
        for name, rule in PROPERTIES.items():
            y += _RULE
            broken = name in state.look.broken
            role = "bad" if broken else "good"
            drawing.path(cross(LEFT + 5, y - 4) if broken else tick(LEFT + 5, y - 4), role, width=2)
            drawing.text(LEFT + 18, y, name, weight=700 if broken else 600)
            drawing.text(160, y, rule, "muted")
            drawing.text(
                _NOW, y, now_words(state, name), "bad" if broken else "ink", weight=600 if broken else 400
            )
            verdict = verdict_words(state, name)
            if verdict.startswith("breaks"):
                self._witness(name, verdict, y)
            else:
                drawing.text(RIGHT - 8, y, verdict, anchor="end")
        y += _RULE + 4
        drawing.text(RIGHT, y, extent_words(state), anchor="end", weight=600)
        return y

    def _witness(self, name: str, verdict: str, y: int) -> None:
        """Press it, and the schedule that breaks a property soonest is on show."""
        left, top, bottom, chosen = _PRESS, y - 13, y + 4, name == self.state.shown
        outline = box(left, top, RIGHT, bottom)
        self.drawing.path(outline, "ink" if chosen else "line", width=1 + chosen)
        self.drawing.text(RIGHT - 8, y, verdict, "bad", anchor="end", weight=600)
        label = f"show how “{name}” breaks soonest"
        self.drawing.spot(Spot(f"rule:{name}", label, left, top, RIGHT, bottom, chosen))


def _label_texts(change: Change) -> tuple[str, ...]:
    """What a change is called, in as many words as there is room for."""
    frames = f"[{change.first}, {change.last})"
    if change.entry == "leaf":
        whose = f"{change.thread}'s leaf" if change.thread else f"leaf {frames}"
        return (whose, frames)
    if change.entry == "clean":
        return (f"{change.thread} cleared its dirty bit", "clean")
    if change.entry == "table":
        return (f"{change.thread}'s table of smaller leaves", f"{change.thread}'s table", change.thread)
    return (f"{change.thread} zapped it", "zapped")


# ---- in words ------------------------------------------------------------------------------------------


def _row(state: PlayerState, at: int) -> tuple[str, ...]:
    look = state.looks[at]
    did = look.did or "the start"
    broke = ", ".join(why.property for why in state.why if why.step == at)
    tree = leaves_words(state, look.leaves)
    return (did, lock_words(state, at), tree, tlb_words(state, at), shared_words(state, at), broke)


def player_text(state: PlayerState) -> str:
    """The picture in plain text: the answer, a line per step up to the present one, the rules that break."""

    def line(at: int) -> str:
        did, _, tree, tlb, shared, broke = _row(state, at)
        parts = [f"{at} {did}", f"tree {tree}", f"TLB {tlb}", shared, f"✗ {broke}" * bool(broke)]
        return " | ".join(part for part in parts if part)

    verdicts = [f"{name}: {verdict_words(state, name)}" for name, _ in state.search.breaks]
    foot = f"Every schedule: {extent_words(state)}. {'; '.join(verdicts) or 'Nothing breaks'}."
    lines = [f"{title(state)}. {answer(state)}", *map(line, range(state.last + 1)), foot]
    return "\n".join([*lines, *([remark(state)] if remark(state) else [])])


def player_table(state: PlayerState) -> str:
    """The schedule as an HTML table, a row per step, for those who read rather than look: its text twin."""
    heads = ["step", "what it does", "mmu_lock", "leaves", "a TLB may hold", "words", "breaks"]
    rows = [(str(at), *_row(state, at)) for at in range(state.last + 1)]
    keep = [n for n, _ in enumerate(heads) if n != 5 or state.look.words]
    return html_table(
        answer(state), [heads[n] for n in keep], [[row[n] for n in keep] for row in rows], current=state.at
    )
