"""The strategy race's markup: a picture, lines and a table of one state, all pure functions of it.

The picture is a table whose rows share one axis: the guest before, then for each strategy its calls as
brackets, the leaves they leave, and a diamond for each split; beside them visits, splits and the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from tdpkit.engine.gfn import PG_LEVEL_4K, format_gfn
from tdpkit.lab.words import count_of, group_digits, html_table

from ..drawing import LEFT, LINE, RIGHT, WIDTH, Drawing, Key, cross, diamond, shorten, text_width, tick, wrap
from ..strips import STRIP_HEIGHT, draw_legend, draw_names, draw_range, name_edges, name_where_room
from ..theme import Palette
from .state import Mark, Race, RaceRow, RaceState, Segment
from .words import (
    FOOTNOTE,
    VERDICTS,
    ZAP,
    RaceWords,
    call_in_short,
    call_words,
    calls_heading,
    level_name,
    priced_words,
    race_words,
    range_words,
)

_STRIP_LEFT, _STRIP_RIGHT = 188, 560
"""The axis: right of the longest rule, and wide enough for the names of two edges of 16 TiB side by side."""
_BAR, _DECADE, _DECADES = 574, 12, 8
"""Bars of visits: a decade is wide enough to compare by eye, and eight end left of the largest number."""
_SPLITS, _VERDICT = 756, 842
"""Columns: four diamonds or a number of seven digits; a sign and "not minimal"."""
_FEW = 4
"""Splits shown as diamonds; more are a number."""
_CALL_STEP = 8
"""From one line of brackets to the next."""
_MARK_STEP = 11
"""From the diamonds of one level to those of the next."""
_ROW_PAD, _LEAST_ROW = 7, 50
"""Air above and below what a row shows; and its height at least: two lines of splits with their words."""
_MOST_CALLS = 5
"""Calls of the selected row that are written out if there are more than one more."""
_SPAN, _HEX, _FRAMES, _WHAT = LEFT + 16, LEFT + 28, 360, 590
"""Columns of the calls: number, range, range in hex, what is split; the longest of 16 TiB have room."""
_LEAF = 5
"""Leaves at least this wide have borders of their own; of smaller ones a comb says that they are many."""

_BAR_ROLES = {"exact": "line", "needless": "crossing-mark", "wrong": "bad"}
"""Bars are told apart by their verdict, which stands beside them in words: only what is amiss is coloured."""
_VERDICT_ROLES = {"exact": "good", "needless": "crossing-mark", "wrong": "bad"}
_MARK_ROLES = {"needed": "good", "needless": "crossing-mark", "missing": "bad"}
"""The colour of a split is that of the verdict it leads to."""


def race_svg(state: RaceState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    race, said = state.race, race_words(state)
    drawing = Drawing(WIDTH, 0, palette, ids, "sr")
    y = drawing.headed(said.title, said.answer, said.role)
    for line in (line for note in said.notes for line in wrap(note, size=12, weight=400)):
        y += LINE
        drawing.text(LEFT, y, line)
    y += 34
    _columns(drawing, race, said, y)
    _guest(drawing, race, y + 30)
    y += 100
    for row in state.rows:
        below = y + _row_height(race, row)
        if row.name == state.selected:
            drawing.rect(14, y + 1, 972, below - y - 1, palette["hole"])
            drawing.rect(14, y + 1, 4, below - y - 1, palette["ink"])
        _row(drawing, race, row, y, "hole" if row.name == state.selected else "paper")
        y = below
    _zap(drawing, race, y)
    y += 74
    _calls(drawing, state, y)
    lines = min(max(len(row.calls) for row in race.rows), _MOST_CALLS + 1)  # of every row: nothing jumps
    drawing.height = _keys(drawing, said, y + 18 * max(lines, 1) + 30) + 20
    return drawing.svg(said.title, said.answer)


def race_text(state: RaceState) -> str:
    """`state` in plain text: the answer, then a line per row."""
    said = race_words(state)
    lines = [f"{said.title}. {said.answer}", *said.notes]
    for row in state.rows:
        counts = [(len(row.calls), "call"), (row.visits, "visit"), (row.splits, "split")]
        told = [count_of(number, noun) for number, noun in counts]
        told += [f"{group_digits(row.needless)} of them needless"] * bool(row.needless)
        told += [f"{group_digits(row.missing)} missing"] * bool(row.missing)
        told.append(VERDICTS[row.verdict])
        told += [f"{count_of(row.outside, 'frame')} outside"] * bool(row.outside)
        priced = f" ({priced_words(row)})" if row.priced else ""
        lines.append(f"{row.rule.title}: {', '.join(told)}{priced}")
    return "\n".join([*lines, f"{' '.join(ZAP)}: {count_of(state.race.zap_visits, 'visit')}"])


_COLUMNS = ("strategy", "calls", "visits", "splits", "needless", "missing", "verdict", "frames outside")


def race_table(state: RaceState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    race, said = state.race, race_words(state)

    def cells(row: RaceRow) -> list[str | list[str]]:
        calls = zip(row.calls, row.call_visits, strict=True)
        return [
            f"{row.rule.title}: {row.rule.rule}",
            [f"{call_in_short(race, call)}: {count_of(visits, 'visit')}" for call, visits in calls] or "none",
            group_digits(row.visits) + (f", {priced_words(row)}" if row.priced else ""),
            *map(group_digits, (row.splits, row.needless, row.missing)),
            VERDICTS[row.verdict],
            group_digits(row.outside),
        ]

    zap = [" ".join(ZAP), "", group_digits(race.zap_visits), *[""] * 5]
    caption = " ".join([f"{said.title}. {said.answer}", *said.notes, FOOTNOTE])
    return html_table(caption, _COLUMNS, [*map(cells, state.rows), zap])


# ---- heads, and the guest before -----------------------------------------------------------------------


def _columns(drawing: Drawing, race: Race, said: RaceWords, y: int) -> None:
    """The heads of the columns, what the guest is, and the axis of the bars."""
    heads = {
        LEFT: "strategy",
        _STRIP_LEFT: "calls, and the leaves at both edges",
        _BAR: "entries visited",
        _SPLITS: "splits",
        _VERDICT: "verdict",
    }
    for x, text in heads.items():
        drawing.text(x, y, text, weight=700)
    drawing.text(RIGHT, y - 15, "frames", anchor="end", weight=700)
    drawing.text(RIGHT, y, "outside", anchor="end", weight=700)
    drawing.text(LEFT, y + 44, "the guest before", weight=600)
    for number, text in enumerate(said.guest):
        drawing.text(LEFT, y + 60 + 14 * number, text, "muted", size=11)
    for decade, text in ((0, "1"), (2, "100"), (4, "10⁴"), (6, "10⁶"), (8, "10⁸")):
        drawing.label(_BAR + decade * _DECADE, y + 88, text, "muted", left=_BAR, size=10)
    if not race.axis.is_whole:
        drawing.text(_STRIP_RIGHT, y, "not to scale", "muted", size=10, anchor="end")


def _x(race: Race, frame: int) -> int:
    return race.axis.x(frame, _STRIP_LEFT, _STRIP_RIGHT)


def _guest(drawing: Drawing, race: Race, top: int) -> None:
    """The strip of the guest as it was, the places of its blocks above it, the range below."""
    _places(drawing, race, top - 4)
    _strip(drawing, race, race.segments, top, "paper")
    low, high = _x(race, race.span.start), _x(race, race.span.end)
    y = top + STRIP_HEIGHT + 9
    draw_range(drawing, low, high, y, -6)
    named = [(x, format_gfn(edge)) for x, edge in ((low, race.span.start), (high, race.span.end))]
    edges = name_edges(named, _STRIP_LEFT, _STRIP_RIGHT)
    draw_names(drawing, edges, y + 16, "range")
    words, between = range_words(race.span), (edges[0].high, edges[-1].low)
    if text_width(words, 11) + 12 <= between[1] - between[0]:
        drawing.text(sum(between) // 2, y + 16, words, "range", anchor="middle", size=11)


def _places(drawing: Drawing, race: Race, y: int) -> None:
    """Addresses over the strip, where there is room: of the largest blocks first."""
    axis, geometry = race.axis, race.geometry
    if axis.is_whole:
        points = [*range(0, axis.last + 1, geometry.pages(geometry.max_leaf_level))]
    else:
        points = [point for point in axis.points if point not in (race.span.start, race.span.end)]
    blocks = [point for point in points if point % geometry.pages(2) == 0 and axis.in_sight(point)]
    blocks.sort(key=lambda point: (-(point & -point) if point else -race.frames, point))
    named = [(_x(race, point), format_gfn(point)) for point in blocks]
    names = name_where_room(named, (), _STRIP_LEFT, _STRIP_RIGHT, 10)
    draw_names(drawing, names, y - 4, size=10)
    drawing.path("".join(f"M{name.x} {y - 1} V{y + 3}" for name in names), "line")


# ---- strips --------------------------------------------------------------------------------------------


def _strip(drawing: Drawing, race: Race, segments: Iterable[Segment], top: int, ground: str) -> None:
    """Leaves on the axis: a box per segment, borders or a comb for its leaves, its size where there is room.

    ground: the role of what lies around it.
    """
    boxes = [(segment, _x(race, segment.first), _x(race, segment.last)) for segment in segments]
    for segment, low, high in boxes:
        if low < high:
            drawing.rect(low, top, high - low, STRIP_HEIGHT, drawing.fill(segment.kind), "line")
    drawing.path("".join(_leaf_borders(race, segment, top) for segment, _, _ in boxes), "line")
    _cuts(drawing, race, top, ground)
    for segment, low, high in boxes:
        if segment.level:
            middle = (low + high) // 2
            drawing.plate(middle, top + STRIP_HEIGHT // 2, level_name(race, segment.level), high - low - 6)


def _cuts(drawing: Drawing, race: Race, top: int, ground: str) -> None:
    """Torn ends where the guest goes on unseen, and a dashed line for what was cut out between the edges."""
    bottom = top + STRIP_HEIGHT
    ends = [(_x(race, window.start), 1) for window in race.axis.windows if window.start > 0]
    ends += [(_x(race, window.end), -1) for window in race.axis.windows if window.end < race.frames]
    for x, inwards in ends:
        deep = x + 6 * inwards
        torn = f"M{x} {top - 3} L{deep} {top + 9} L{x} {top + 15} L{deep} {bottom + 3}"
        drawing.path(f"{torn} H{x - inwards} V{top - 3} Z", fill=ground)
        drawing.path(torn, "line")
    for first, last, _, _, is_gap in race.axis.stretches:
        if is_gap:
            low, high = _x(race, first), _x(race, last)
            drawing.path(f"M{low + 5} {top + STRIP_HEIGHT // 2} H{high - 4}", "line", dash="2 3")


def _leaf_borders(race: Race, segment: Segment, top: int) -> str:
    if not segment.level:
        return ""
    pages, lines = race.geometry.pages(segment.level), ""
    for first, last, _, _, is_gap in race.axis.stretches:
        low, high = max(first, segment.first), min(last, segment.last)
        if is_gap or low >= high:
            continue
        begin, end = _x(race, low), _x(race, high)
        if (high - low) // pages * _LEAF <= end - begin:
            borders = range(-(-low // pages) * pages, high, pages)
            lines += "".join(f"M{_x(race, border)} {top} V{top + STRIP_HEIGHT}" for border in borders)
        elif segment.kind != "split":
            lines += _comb(begin, end, top + STRIP_HEIGHT)
    return lines


def _comb(begin: int, end: int, bottom: int) -> str:
    """Says that there are many leaves."""
    return "".join(f"M{at} {bottom - 5} V{bottom}" for at in range(begin + _LEAF, end, _LEAF))


# ---- rows ----------------------------------------------------------------------------------------------


def _lanes(row: RaceRow) -> int:
    """Lines of brackets; room for two in any case, so that most rows are of one height."""
    return max(2, 1 + max(row.lanes, default=0))


def _row_height(race: Race, row: RaceRow) -> int:
    marks = max(race.levels, default=1) - 1
    return max(_LEAST_ROW, _lanes(row) * _CALL_STEP + STRIP_HEIGHT + marks * _MARK_STEP + 2 * _ROW_PAD)


def _row(drawing: Drawing, race: Race, row: RaceRow, top: int, ground: str) -> None:
    room = _STRIP_LEFT - LEFT - 4
    drawing.path(f"M{LEFT} {top} H{RIGHT}", "grid")
    drawing.text(LEFT, top + 23, shorten(row.rule.title, room, 13, weight=600), size=13, weight=600)
    drawing.text(LEFT, top + 39, row.rule.rule, "muted", size=10, mono=True)
    strip = top + _ROW_PAD + _lanes(row) * _CALL_STEP
    _brackets(drawing, race, row, strip)
    _strip(drawing, race, row.segments, strip, ground)
    _marks(drawing, race, row.marks, strip + STRIP_HEIGHT)
    _bar(drawing, row.visits, _BAR_ROLES[row.verdict], top + 12)
    drawing.text(_BAR, top + 44, priced_words(row), "muted", size=10)
    _splits(drawing, row, top + 23)
    _verdict(drawing, row, top + 23)


def _brackets(drawing: Drawing, race: Race, row: RaceRow, bottom: int) -> None:
    """A bracket for each call, over the strip: dashed if it stops above 4K, open where it goes on unseen."""
    lanes = 1 + max(row.lanes, default=0)
    for call, lane in zip(row.calls, row.lanes, strict=True):
        y = bottom - 5 - _CALL_STEP * (lanes - 1 - lane)
        low, high = _x(race, call.start), _x(race, call.end)
        if call.start == call.end:
            drawing.path(_arrow(low, y), "ink", width=2)
            continue
        low, high = min(low, _STRIP_RIGHT - 8) + 1, max(high - 1, min(low, _STRIP_RIGHT - 8) + 5)
        seen = [at for at, frame in ((low, call.start), (high, call.end)) if race.axis.in_sight(frame)]
        _bracket(drawing, low, high, y, seen, to_4k=call.target_level == PG_LEVEL_4K)


def _bracket(drawing: Drawing, low: int, high: int, y: int, seen: list[int], *, to_4k: bool) -> None:
    role = "ink" if to_4k else "private"
    drawing.path(f"M{low} {y} H{high}", role, width=2, dash="" if to_4k else "4 3")
    drawing.path("".join(f"M{at} {y - 1} V{y + 4}" for at in seen), role, width=2)


def _arrow(x: int, y: int) -> str:
    """A call over no frame at all, at `x`."""
    return f"M{x} {y - 8} V{y + 2} M{x - 4} {y - 2} L{x} {y + 3} L{x + 4} {y - 2}"


def _marks(drawing: Drawing, race: Race, marks: Iterable[Mark], top: int) -> None:
    """A diamond below each leaf that was split, or had to be and was not; a line under all of the leaf."""
    levels = range(max(race.levels, default=1), 1, -1)
    lines: dict[str, list[str]] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    for mark in marks:
        y = top + 7 + _MARK_STEP * levels.index(mark.level)
        for window in race.axis.windows:
            first, last = max(mark.first, window.start), min(mark.last, window.end)
            if first < last:
                low, high = _x(race, first), _x(race, last)
                lines.setdefault(mark.kind, []).append(f"M{low + 1} {y} H{max(high - 1, low + 2)}")
                middle = min(max((low + high) // 2, _STRIP_LEFT + 5), _STRIP_RIGHT - 5)
                places.setdefault(mark.kind, []).append((middle, y))
    for kind, drawn in lines.items():
        drawing.path("".join(drawn), _MARK_ROLES[kind], dash="2 3" if kind == "missing" else "")
        _diamonds(drawing, kind, places[kind])


def _diamonds(drawing: Drawing, kind: str, places: Iterable[tuple[int, int]]) -> None:
    """A split around each of `places`: full if it had to be, hollow if not, dashed if it is missing."""
    shapes, role = "".join(diamond(x, y) for x, y in places), _MARK_ROLES[kind]
    if kind == "needed":
        drawing.path(shapes, role, fill=role)
    else:
        drawing.path(shapes, role, fill="paper", width=2, dash="2 2" if kind == "missing" else "")


def _bar(drawing: Drawing, visits: int, role: str, top: int) -> None:
    """Visits as a bar: a logarithm in whole numbers, by the digits of a power."""
    tenths = len(str(visits**_DECADE)) - 1
    end = _BAR + min(max(tenths, 2), _DECADE * _DECADES) if visits else _BAR
    if end > _BAR:
        drawing.rect(_BAR, top, end - _BAR, 13, drawing.palette[role])
    notches = range(_BAR + 2 * _DECADE, end, 2 * _DECADE)
    drawing.path("".join(f"M{x} {top} V{top + 13}" for x in notches), "paper")
    ticks = "".join(f"M{_BAR + at * _DECADE} {top + 16} V{top + 19}" for at in range(0, _DECADES + 1, 2))
    drawing.path(f"M{_BAR} {top + 16} H{_BAR + _DECADES * _DECADE}{ticks}", "grid")
    drawing.text(end + 6, top + 11, group_digits(visits), weight=600, mono=True)


def _splits(drawing: Drawing, row: RaceRow, y: int) -> None:
    """Glyphs for few, a number for many; a line for each sort."""
    for kind, number in (("needed", row.needed), ("needless", row.needless), ("missing", row.missing)):
        if not number:
            continue
        shown = number if number <= _FEW else 1
        _diamonds(drawing, kind, [(_SPLITS + 6 + 14 * at, y - 4) for at in range(shown)])
        if shown < number:
            drawing.text(_SPLITS + 18, y, group_digits(number), size=11)
        y += 15
    if not (row.needed or row.needless or row.missing):
        drawing.text(_SPLITS, y, "none", "muted", size=11)


def _verdict(drawing: Drawing, row: RaceRow, y: int) -> None:
    """A sign of its own shape for each verdict, its words, and the frames outside that a zap would take."""
    role, x = _VERDICT_ROLES[row.verdict], _VERDICT + 9
    if row.verdict == "exact":
        drawing.circle(x, y - 4, 9, role)
        drawing.path(tick(x, y - 4), "paper", width=2)
    elif row.verdict == "needless":
        drawing.path(f"M{x} {y - 14} L{x + 10} {y + 4} H{x - 10} Z", role, width=2)
        drawing.path(f"M{x} {y - 8} V{y - 2} M{x} {y} V{y + 2}", role, width=2)
    else:
        drawing.rect(x - 9, y - 13, 18, 18, drawing.palette[role])
        drawing.path(cross(x, y - 4), "paper", width=2)
    first, _, second = VERDICTS[row.verdict].partition(", ")
    drawing.text(x + 15, y, f"{first}," if second else first, role, weight=700)
    drawing.text(x + 15, y + 15, second, role, weight=700)
    outside = role if row.outside else "muted"
    drawing.text(RIGHT, y, group_digits(row.outside), outside, anchor="end", weight=600)


# ---- below the rows ------------------------------------------------------------------------------------


def _zap(drawing: Drawing, race: Race, top: int) -> None:
    drawing.path(f"M{LEFT} {top} H{RIGHT}", "line")
    drawing.text(LEFT, top + 24, ZAP[0], size=13, weight=600)
    drawing.text(_STRIP_LEFT, top + 24, ZAP[1], "muted", size=11)
    _bar(drawing, race.zap_visits, "leaf3", top + 13)


def _calls(drawing: Drawing, state: RaceState, y: int) -> None:
    """The calls of the selected row."""
    row, heading = state.row, calls_heading(state.row)
    right = LEFT + text_width(heading, 13, weight=700) + 14
    drawing.text(LEFT, y, heading, size=13, weight=700)
    drawing.text(right, y, shorten(row.rule.idea, RIGHT - right), "muted")
    shown = row.calls if len(row.calls) <= _MOST_CALLS + 1 else row.calls[:_MOST_CALLS]
    for number, (call, visits) in enumerate(zip(shown, row.call_visits, strict=False), start=1):
        y += LINE
        write = partial(drawing.text, mono=True, size=11)
        span, frames, what = call_words(state.race, call)
        write(_SPAN, y, f"{number}", anchor="end")
        for x, text in ((_HEX, span), (_FRAMES, frames), (_WHAT, what)):
            write(x, y, text)
        write(RIGHT, y, count_of(visits, "visit"), anchor="end")
    if len(shown) < len(row.calls):
        drawing.text(_HEX, y + LINE, f"and {len(row.calls) - len(shown)} more", "muted")
    if not row.calls:
        drawing.text(_HEX, y + LINE, "nothing to do at either edge", "muted")


def _keys(drawing: Drawing, said: RaceWords, top: int) -> int:
    """What is drawn how, and the footnote; the y of its last line."""
    drawing.path(f"M{LEFT} {top - 20} H{RIGHT}", "grid")

    def split(kind: str) -> Callable[[int, int], None]:
        return lambda x, y: _diamonds(drawing, kind, [(x + 5, y - 4)])

    def call(*, to_4k: bool) -> Callable[[int, int], None]:
        return lambda x, y: _bracket(drawing, x, x + 16, y - 6, [x, x + 16], to_4k=to_4k)

    keys = (
        Key(call(to_4k=True), 17, "a call to 4K"),
        Key(call(to_4k=False), 17, "to a larger leaf"),
        Key(lambda x, y: drawing.path(_arrow(x + 4, y - 3), "ink", width=2), 9, "over no frame"),
        Key(lambda x, y: drawing.path(_comb(x - 4, x + 18, y), "line"), 17, "many leaves"),
        Key(split("needed"), 11, "a split that had to be"),
        Key(split("needless"), 11, "one too many"),
        Key(split("missing"), 11, "one that is missing"),
    )
    y = drawing.keys(draw_legend(drawing, said.legend, LEFT, top + 4) + 25, keys)
    for line in wrap(FOOTNOTE, size=11, weight=400):
        y += 22
        drawing.text(LEFT, y, line, "muted", size=11)
    return y
