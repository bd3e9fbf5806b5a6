"""The walk stepper's markup: a picture, a text and a table of one state, all pure functions of it.

On the left the tree, below it the axis on which the range is dragged, and the rail: mmu_lock, RCU and the
events over the whole call. What is to come is pale on it, or not there at all where it is hidden. On the
right the call in our own words, and its log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from tdpkit.engine.gfn import format_gfn
from tdpkit.lab.words import group_digits, html_table

from ..drawing import (
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Counter,
    Drawing,
    Key,
    Picture,
    Spot,
    Track,
    box,
    cross,
    diamond,
    pointer,
    text_width,
)
from ..strips import (
    STRIP_HEIGHT,
    Strip,
    draw_borders,
    draw_boxes,
    draw_legend,
    draw_names,
    draw_range,
    draw_wedge,
    name_edges,
    name_where_room,
    x_of,
)
from ..theme import Palette
from .predict import Option
from .state import STANDING, EntrySpan, WalkState
from .words import LOG_LINES, WalkWords, log_line, name_entry, name_frame, walk_words

_TREE_RIGHT, _SIDE = 664, 688
"""The tree and the rail end at the one; code and log begin at the other: 288 units, for the longest line of
either."""
_ANSWER_LINES = 2
"""Lines that have room in any case, so that the picture stays where it is from step to step."""
_ROW_STEP, _ROW_HEIGHT = 70, 44
"""A row of a machine drawn whole: the badges of the visits above, what the entry is below."""
_LENS_STEP = 64
"""A strip of a large machine, under it the marks of visits, range and goal, and the next one's name."""
_BADGE, _PITCH = 10, 19
"""Radius of a visit's badge, for two digits; from one badge to the next, so that a width of 40 holds two."""
_GRAB = 24
"""Height of the stretch along which the range is dragged."""
_AXIS_HEIGHT = 46
"""The axis, the names below it, and the goal below them."""
_CODE_LINE = 17
_RAIL_HEIGHT = 122
"""Two locks, the events, where the call is now, and the pills."""
_TRACKS = 96
"""The rail's tracks begin so far right of their names."""
_GLYPH_ROOM = 12
"""Steps at least so far apart have a glyph each; closer ones are ticks."""
_HIDDEN_ROOM = 24
"""Steps that a rail has room for where what is to come is hidden: its length would give the call's away."""
_TABLE_STEPS = 12
"""The table shows so many steps on either side of the current one."""
_LEAST_ANSWER = 8
"""A narrower entry is no answer to press: one frame of 64 has ten units."""


def walk_svg(
    state: WalkState, palette: Palette, ids: str = "", *, verdict: str = "", options: Sequence[Option] = ()
) -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it.

    verdict: what is wrong with a learner's answer, said in place of the state's own. options: answers to the
    question what comes next; of a machine drawn whole they are spots, unless its entries are too narrow.
    """
    said = walk_words(state)
    if verdict:
        said = said._replace(answer=verdict, role="bad")
    drawing = Drawing(WIDTH, 0, palette, ids, "ws")
    top = drawing.headed(said.title, said.answer, said.role, _ANSWER_LINES) + 32
    axis = _icicle(drawing, state, top) if state.whole else _lens(drawing, state, top)
    _axis(drawing, state, said, axis)
    rail = max(axis + _AXIS_HEIGHT + 28, top + len(said.code) * _CODE_LINE + 36)
    _code(drawing, said, top)
    _Rail(drawing, state, rail).draw()
    pills = rail + _RAIL_HEIGHT - 24
    drawing.pills(LEFT, pills, said.pills)
    _answers(drawing, state, options, top, pills)
    lines = [(f"{number}", text) for number, text in said.log]
    drawing.log("event log", lines, len(lines) - 1, _SIDE, RIGHT, rail, LOG_LINES)
    counters = [Counter(value, caption) for value, caption in said.counters]
    y = rail + _RAIL_HEIGHT + 32
    drawing.counters(y, counters, right=_TREE_RIGHT)
    if said.totals:
        drawing.text(RIGHT, y, said.totals, "muted", anchor="end")
    drawing.height = draw_legend(drawing, said.legend, LEFT, y + 42) + 12
    return drawing.svg(said.title, said.answer)


def walk_text(state: WalkState) -> str:
    """`state` in plain text: the answer, then locks, counters and the kernel's trace lines."""
    said = walk_words(state)
    lines = [f"{said.title}. {said.answer}", "; ".join(text for text, _ in said.pills)]
    lines.append(", ".join(f"{value} {caption}" for value, caption in said.counters))
    if said.totals:
        lines[-1] += f" ({said.totals})"
    return "\n".join([*lines, *(f"trace: {line}" for line in state.step.trace)])


def walk_table(state: WalkState) -> str:
    """The steps around the current one as an HTML table: the picture's text twin."""
    said, call, at = walk_words(state), state.call, state.at
    first = max(0, at - _TABLE_STEPS)
    last = min(len(state.rail.kinds), at + _TABLE_STEPS + 1)

    def cells(number: int) -> tuple[str, ...]:
        step = call.steps[number]
        return (
            f"{number + 1}",
            log_line(call, number),
            name_entry(call, step.level, step.gfn) if step.level and step.kind in STANDING else "",
            "held" if step.held else "dropped",
            "held" if step.rcu else "not held",
            group_digits(step.visits),
            group_digits(step.splits),
        )

    shown = f"steps {first + 1} to {last}{'' if state.hidden else f' of {len(call.steps)}'}"
    return html_table(
        f"{said.title}, {shown}. {said.answer.partition(': ')[2]}",
        ("step", "event", "entry", "mmu_lock", "RCU", "visits", "splits"),
        map(cells, range(first, last)),
        current=at - first,
    )


# ---- the tree ------------------------------------------------------------------------------------------


def _at(frame: int, strip: Strip) -> int:
    return x_of(frame, strip, LEFT, _TREE_RIGHT)


def _tops(state: WalkState, top: int) -> list[int]:
    """Where the row of each level begins, from the root's down, in a machine drawn whole."""
    return [top + number * _ROW_STEP for number in range(len(state.strips))]


def _icicle(drawing: Drawing, state: WalkState, top: int) -> int:
    """Every level on one axis: a box is as wide as its entry has frames, a table hangs below its entry.

    Returns the y of the axis.
    """
    tops = _tops(state, top)
    axis = tops[-1] + _ROW_HEIGHT + _GRAB
    for strip, top in zip(state.strips[:-1], tops, strict=False):
        for cell in strip.cells:
            if cell.kind == "table":
                low, high = _at(cell.first, strip), _at(cell.last, strip)
                draw_wedge(drawing, low, high, top + _ROW_HEIGHT, low, high, top + _ROW_STEP)
    for number, (strip, top) in enumerate(zip(state.strips, tops, strict=True)):
        note = f"{strip.label} · {strip.note}{_never(state, number)}"
        drawing.text(_TREE_RIGHT - 6, top - 6, note, "muted", anchor="end")
        draw_boxes(drawing, strip, LEFT, _TREE_RIGHT, top, _ROW_HEIGHT)
        _entry_borders(drawing, strip, top)
    for edge in (state.span.start, state.span.end):
        drawing.path(f"M{_at(edge, state.strips[0])} {tops[0]} V{axis - 6}", "range", dash="3 3")
    for number, (strip, top) in enumerate(zip(state.strips, tops, strict=True)):
        _cell_words(drawing, strip, top)
        _badges(drawing, state, len(state.strips) - number, strip, top)
    for place in state.path:
        _ring(drawing, place, state.strips[-place.level], tops[-place.level], _ROW_HEIGHT, "muted", 2)
    if state.entry:
        level = state.entry.level
        _ring(drawing, state.entry, state.strips[-level], tops[-level], _ROW_HEIGHT, "ink", 4)
    return axis


def _never(state: WalkState, number: int) -> str:
    """Said of the strips, counted from the root's, that lie below the level down to which the call walks."""
    return ", never visited" if len(state.strips) - number < state.call.min_level else ""


def _entry_borders(drawing: Drawing, strip: Strip, top: int) -> None:
    """A line between entries, where there are tables at all."""
    entry = strip.focus[1] - strip.focus[0]
    if _at(entry, strip) - LEFT < 3:
        return
    lines = [_at(at, strip) for cell in strip.cells for at in range(cell.first + entry, cell.last, entry)]
    if lines:
        drawing.path("".join(f"M{x} {top} V{top + _ROW_HEIGHT}" for x in lines), "line")


def _cell_words(drawing: Drawing, strip: Strip, top: int) -> None:
    """What the entries are, in their lower half: each by itself where there is room, else the run of them."""
    entry = strip.focus[1] - strip.focus[0]
    for cell in strip.cells:
        single = {"table": "table", "hole": "none"}.get(cell.kind, "leaf")
        for text, ends in ((single, range(cell.first, cell.last + 1, entry)), (cell.text, cell[:2])):
            gaps = [*pairwise(_at(at, strip) for at in ends)]
            if all(text_width(text) + 8 <= high - low for low, high in gaps):
                for low, high in gaps:
                    drawing.plate((low + high) // 2, top + 32, text, high - low)
                break


def _badges(drawing: Drawing, state: WalkState, level: int, strip: Strip, top: int) -> None:
    """The numbers of the visits on each visited entry; a tick where there is no room for them."""
    newest = sum(len(visited.numbers) for visited in state.visited)
    for _, first, last, numbers in (v for v in state.visited if v.level == level):
        low, high = _at(first, strip), _at(last, strip)
        room = max(0, (high - low - 2) // _PITCH)
        if not room:
            drawing.rect(low + 1, top + 3, max(2, high - low - 2), 4, drawing.palette["ink"])
            continue
        shown = numbers[-room:]
        x = (low + high) // 2 - _PITCH * (len(shown) - 1) // 2
        for number in shown:
            ground, role = ("ink", "paper") if number == newest else ("paper", "ink")
            drawing.circle(x, top + 12, _BADGE, ground, "line")
            drawing.text(x, top + 16, f"{number}", role, anchor="middle", weight=700)
            x += _PITCH


def _ring(
    drawing: Drawing, place: EntrySpan, strip: Strip, top: int, height: int, role: str, width: int
) -> None:
    low = _at(place.first, strip)
    drawing.path(box(low, top, max(_at(place.last, strip), low + 3), top + height), role, width=width)


def _answers(drawing: Drawing, state: WalkState, options: Sequence[Option], top: int, pills: int) -> None:
    """The answers to choose from, each in a dashed box that can be pressed."""
    root = state.strips[0]
    boxes = []
    for option in options:
        if option.place is None:
            boxes.append((_TREE_RIGHT - 140, pills, _TREE_RIGHT, pills + 24))
            continue
        level, first = option.place
        low, high = _at(first, root), _at(first + state.call.geometry.pages(level), root)
        if not state.whole or high - low < _LEAST_ANSWER:
            return
        y = _tops(state, top)[-level]
        boxes.append((low, y, high, y + _ROW_HEIGHT))
    for number, (option, (left, up, right, down)) in enumerate(zip(options, boxes, strict=True)):
        inset = min(3, (right - left) // 8) if option.place else 0
        inside = box(left + inset, up + inset, right - inset, down - inset)
        drawing.path(inside, "paper", width=4)  # or it could not be seen on a hatch, or a dark leaf
        drawing.path(inside, "ink", width=2, dash="4 3")
        if option.place is None:
            drawing.text((left + right) // 2, up + 16, "the call is over", anchor="middle", weight=600)
        drawing.spot(Spot(f"answer:{number}", option.text, left, up, right, down))


def _axis(drawing: Drawing, state: WalkState, said: WalkWords, y: int) -> None:
    """The axis of frames under the tree, with the range, which is dragged along it, and the goal."""
    call, span = state.call, state.span
    frames = call.geometry.root_pages if state.whole else call.layout.frames
    strip = Strip("", "", 0, frames, (), (0, 1))
    part = 1 << max((frames - 1).bit_length() - 2, 0)
    ticks = "".join(f"M{_at(at, strip)} {y} V{y + 5}" for at in range(0, frames + 1, max(part // 4, 1)))
    guest = _at(call.layout.frames, strip)
    drawing.path(f"M{LEFT} {y} H{guest}{ticks}", "line")
    if guest < _TREE_RIGHT:
        drawing.path(f"M{guest} {y} H{_TREE_RIGHT}", "line", dash="2 3")
    low, high = _at(span.start, strip), _at(span.end, strip)
    draw_range(drawing, low, high, y, -6, width=3)
    knots = ((0, LEFT), (frames, _TREE_RIGHT))
    drawing.track(Track("range", knots, y - _GRAB + 6, y + 6))
    edges = name_edges([*zip((low, high), said.edges, strict=True)], LEFT, _TREE_RIGHT)
    draw_names(drawing, edges, y + 29, "range")
    parts = ((_at(at, strip), name_frame(call, at)) for at in range(0, frames + 1, part))
    draw_names(drawing, name_where_room(parts, edges, LEFT, _TREE_RIGHT), y + 29)
    at, goal = _at(state.goal, strip), f"goal {said.goal}"
    drawing.path(pointer(at, y + 35), fill="ink")
    if at + 10 + text_width(goal, weight=700, mono=True) <= _TREE_RIGHT:
        drawing.text(at + 10, y + 45, goal, mono=True, weight=700)
    else:
        drawing.text(at - 10, y + 45, goal, anchor="end", mono=True, weight=700)


def _lens(drawing: Drawing, state: WalkState, top: int) -> int:
    """One strip per level, each the table on the way to where the walk is; the y of the guest's axis."""
    y = top
    for number, strip in enumerate(state.strips):
        level, y = len(state.strips) - number, top + number * _LENS_STEP
        drawing.text(LEFT, y - 7, f"{strip.label}{_never(state, number)}", weight=600)
        drawing.text(_TREE_RIGHT, y - 7, strip.note, "muted", anchor="end")
        if not strip.cells:
            drawing.path(box(LEFT, y, _TREE_RIGHT, y + STRIP_HEIGHT), "line", dash="3 3")
            continue
        draw_boxes(drawing, strip, LEFT, _TREE_RIGHT, y)
        draw_borders(drawing, strip, LEFT, _TREE_RIGHT, y)
        if number + 1 < len(state.strips) and state.strips[number + 1].cells:
            low, high = _at(strip.focus[0], strip), _at(strip.focus[1], strip)
            wide = max(high, low + 3)
            draw_wedge(drawing, low, wide, y + STRIP_HEIGHT, LEFT, _TREE_RIGHT, y + _LENS_STEP)
        places = [p for p in (*state.path, *([state.entry] if state.entry else [])) if p.level == level]
        _strip_words(drawing, strip, places, y)
        for place in places:
            _ring(drawing, place, strip, y, STRIP_HEIGHT, "ink", 4 if place == state.entry else 2)
        _under(drawing, state, strip, level, y + STRIP_HEIGHT)
    axis = y + STRIP_HEIGHT + 20 + LINE + _GRAB
    drawing.text(LEFT, axis - _GRAB, f"the whole guest: {format_gfn(state.call.layout.frames)}", weight=600)
    return axis


def _strip_words(drawing: Drawing, strip: Strip, places: Sequence[EntrySpan], top: int) -> None:
    """What the cells are, each in its middle, or beside the narrow ring of an entry that lies there."""
    for cell in strip.cells:
        low, high = _at(cell.first, strip), _at(cell.last, strip)
        for place in places:
            first, last = (
                _at(place.first, strip) - 3,
                max(_at(place.last, strip), _at(place.first, strip) + 3) + 3,
            )
            if low < first and last < high:
                low, high = (low, first) if first - low > high - last else (last, high)
        drawing.plate((low + high) // 2, top + STRIP_HEIGHT // 2, cell.text, high - low)


def _under(drawing: Drawing, state: WalkState, strip: Strip, level: int, top: int) -> None:
    """Below a strip: what was visited of it, the range, and the goal."""
    for visited in state.visited:
        if visited.level == level and visited.first < strip.last and visited.last > strip.first:
            low, high = _at(visited.first, strip), _at(visited.last, strip)
            drawing.rect(low, top + 3, max(2, high - low), 4, drawing.palette["ink"])
    if state.span.overlap(strip.first, strip.last - strip.first):
        draw_range(drawing, _at(state.span.start, strip), _at(state.span.end, strip), top + 11, 5)
    if strip.first <= state.goal < strip.last:
        drawing.path(pointer(_at(state.goal, strip), top + 10, 5), fill="ink")


# ---- the code ------------------------------------------------------------------------------------------


def _code(drawing: Drawing, said: WalkWords, top: int) -> None:
    """The call in our own words, the lines at which it is marked."""
    height = len(said.code) * _CODE_LINE + 14
    drawing.text(_SIDE, top - 14, "what the call does", weight=700)
    drawing.rect(_SIDE, top - 4, RIGHT - _SIDE, height, drawing.palette["hole"], "grid")
    for number, (key, indent, text) in enumerate(said.code):
        y = top + 12 + number * _CODE_LINE
        now = key == said.code_key
        if now:
            drawing.rect(_SIDE + 1, y - 12, RIGHT - _SIDE - 2, _CODE_LINE, drawing.palette["leaf1"])
            drawing.rect(_SIDE + 1, y - 12, 4, _CODE_LINE, drawing.palette["ink"])
        drawing.text(_SIDE + 12 + 14 * indent, y, text, mono=True, weight=700 if now else 400)


# ---- the rail ------------------------------------------------------------------------------------------


class _Rail:
    """The tracks of mmu_lock, RCU and the events from `top` on, and where each step is on them."""

    def __init__(self, drawing: Drawing, state: WalkState, top: int) -> None:
        self.drawing, self.state, self.top = drawing, state, top
        shown = len(state.rail.kinds)
        self.steps = max(shown, _HIDDEN_ROOM if state.hidden else 2)
        self.room = _TREE_RIGHT - 6 - LEFT - _TRACKS
        self.last = self.x(shown if state.hidden else self.steps)

    def x(self, step: int) -> int:
        """Where `step` (from 0) begins."""
        return LEFT + _TRACKS + self.room * step // self.steps

    def centre(self, step: int) -> int:
        """The middle of `step` (from 0), where its glyph and the pointer are."""
        return (self.x(step) + self.x(step + 1)) // 2

    def draw(self) -> None:
        """The legend, locks, events, a veil over what is to come, and where the call is now."""
        rail = self.state.rail
        self._lock("mmu_lock", rail.dropped, self.top + 8)
        self._lock("RCU", rail.no_rcu, self.top + 28)
        each = self.room // self.steps >= _GLYPH_ROOM
        if each:
            seen = [entry for entry in _GLYPH_NAMES if {*entry[1]} & {*rail.kinds}]
            self.drawing.keys(self.top - 8, (_key(self.drawing, *entry) for entry in seen))
            self.drawing.text(LEFT, self.top + 57, "events")
            for step, kind in enumerate(rail.kinds):
                _GLYPHS[kind](self.drawing, self.centre(step), self.top + 53)
        else:
            self._ticks()
        self._now()
        # Half a step more at either end, so that all of the first and the last takes the pointer.
        after = len(rail.kinds) + 1
        steps = range(after + 1) if each else (0, after)
        knots = tuple((step, self.centre(step - 1)) for step in steps)
        self.drawing.track(Track("step", knots, self.top + 2, self.top + 94))

    def _lock(self, name: str, gaps: tuple[tuple[int, int], ...], y: int) -> None:
        self.drawing.text(LEFT, y + 9, name)
        self.drawing.rect(self.x(0), y, self.last - self.x(0), 11, self.drawing.palette["muted"])
        for first, end in gaps:
            low, high = self.x(first), min(max(self.x(end), self.x(first) + 2), self.last)
            if low < high:
                self.drawing.rect(low, y, high - low, 11, self.drawing.fill("crossing"), "line")

    def _ticks(self) -> None:
        for number, (name, kinds) in enumerate(_TICK_ROWS):
            y = self.top + 45 + 12 * number
            self.drawing.text(LEFT, y + 9, name)
            columns = sorted({self.x(n) for n, kind in enumerate(self.state.rail.kinds) if kind in kinds})
            if columns:
                self.drawing.path("".join(f"M{at} {y} V{y + 9}" for at in columns), "ink")

    def _now(self) -> None:
        begin, end = self.x(self.state.at), self.x(self.state.at + 1)
        at, half = self.centre(self.state.at), max((end - begin) // 2, 3)
        top, bottom = self.top + 4, self.top + 80
        if end < self.last:
            self.drawing.path(box(end + 1, top, self.last + 1, bottom), fill="paper", opacity=".62")
        self.drawing.path(box(at - half, top, at + half, bottom), "ink", width=2)
        self.drawing.path(pointer(at, bottom + 3), fill="ink")


_Glyph = Callable[[Drawing, int, int], None]


def _dot(drawing: Drawing, x: int, y: int) -> None:
    drawing.circle(x, y, 4, "muted")


def _dash(drawing: Drawing, x: int, y: int) -> None:
    drawing.rect(x - 5, y - 1, 10, 3, drawing.palette["crossing-mark"])


def _sheet(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(box(x - 3, y - 5, x + 4, y + 5), "crossing-mark", width=2)


def _arrow(drawing: Drawing, x: int, y: int) -> None:
    bow = f"M{x - 2} {y - 6} L{x - 6} {y - 2} L{x - 2} {y + 2} M{x - 6} {y - 2} H{x + 4} V{y + 5} H{x - 3}"
    drawing.path(bow, "ink", width=2)


def _full_diamond(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(diamond(x, y, 6), fill="split-mark")


def _open_diamond(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(diamond(x, y), "split-mark", width=2)


def _cross(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(cross(x, y), "bad", width=3)


def _bar(drawing: Drawing, x: int, y: int) -> None:
    drawing.rect(x - 1, y - 6, 3, 12, drawing.palette["ink"])


def _person(drawing: Drawing, x: int, y: int) -> None:
    drawing.path(f"M{x - 6} {y + 5} L{x} {y - 6} L{x + 6} {y + 5} Z", fill="bad")


_GLYPHS: dict[str, _Glyph] = {
    "start": _bar,
    "visit": _dot,
    "drop": _dash,
    "resched": _dash,
    "page": _sheet,
    "refused": _cross,
    "retake": _arrow,
    "store": _open_diamond,
    "split": _full_diamond,
    "lost": _cross,
    "fail": _cross,
    "other": _person,
    "free": _sheet,
    "return": _bar,
}
"""By kind of step: a shape for each thing that happens, so that none depends on its colour."""
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
_TICK_ROWS = (("visits", ("visit",)), ("drops", ("drop", "resched")), ("splits", ("split",)))
"""Where a call is too long for glyphs: a row of ticks for these kinds."""


def _key(drawing: Drawing, name: str, kinds: tuple[str, ...]) -> Key:
    return Key(lambda x, y: _GLYPHS[kinds[0]](drawing, x + 6, y - 4), 12, name)
