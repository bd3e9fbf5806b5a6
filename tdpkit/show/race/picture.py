"""The strategy race's markup: a picture, lines and a table of one state, all pure functions of it.

The picture is a table whose rows share one axis: the guest before, then for each strategy its calls as
brackets, the leaves they leave, and a diamond for each split; beside them visits, splits and the verdict.
Where the axis is not to scale, the whole guest lies above it, for the range to be dragged on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange
from tdpkit.lab.words import count_of, group_digits, html_table

from ..drawing import (
    LEFT,
    LINE,
    RIGHT,
    WIDTH,
    Drawing,
    Key,
    Picture,
    Spot,
    Track,
    box,
    cross,
    diamond,
    shorten,
    text_width,
    tick,
    wrap,
)
from ..strips import (
    STRIP_HEIGHT,
    draw_legend,
    draw_names,
    draw_range,
    draw_wedge,
    name_edges,
    name_where_room,
)
from ..theme import Palette
from .state import Mark, Race, RaceRow, RaceState, Segment
from .words import (
    FOOTNOTE,
    VERDICTS,
    ZAP,
    Headline,
    RaceWords,
    call_in_short,
    call_key,
    call_words,
    calls_heading,
    level_name,
    priced_words,
    race_words,
    range_words,
    row_words,
)

_ANSWER_LINES = 2
"""Lines that have room in any case, so that a longer answer does not move what is below it."""
_STRIP_LEFT, _STRIP_RIGHT = 188, 552
"""The axis: right of the longest rule, and wide enough for the names of two edges of 16 TiB side by side."""
_VISITS, _BLOCKS = 654, 662
"""Where the numbers of visits end, so that their digits stand below each other; and where their blocks
begin."""
_BLOCK, _APART, _DECADES = 7, 2, 10
"""A block is a factor of ten; ten of them are enough for a plan of 256 calls over 16 TiB."""
_SPLITS, _VERDICT = 756, 844
"""Columns: four diamonds or a number of seven digits; a sign and "not minimal"."""
_WHOLE_HEIGHT = 12
"""The strip of the whole guest is thin: it says where the range lies, and no more."""
_HEADLINE, _HEADLINES = 574, (28, 22)
"""Left end of the headline, and sizes of its numbers: the second for two of eight digits."""
_FEW = 4
"""Splits shown as diamonds; more are a number."""
_CALL_STEP = 7
"""From one line of brackets to the next."""
_MARK_STEP = 10
"""From the diamonds of one level to those of the next."""
_ROW_PAD, _LEAST_ROW = 3, 54
"""Air above and below what a row shows; and its height at least: three lines of splits."""
_MOST_CALLS = 5
"""Calls of the selected row that are written out if there are more than one more."""
_SPAN, _HEX, _FRAMES, _WHAT = LEFT + 16, LEFT + 28, 398, 590
"""Columns of the calls: number, range, range in hex, what is split; the longest of 16 TiB have room."""
_ROW_LEFT, _ROW_RIGHT = LEFT - 8, RIGHT + 8
"""A row, where it is chosen and can be pressed: a little wider than what stands in it."""
_LEAF = 5
"""Leaves at least this wide have borders of their own; of smaller ones a comb says that they are many."""

_BAR_ROLES = {"exact": "line", "needless": "crossing-mark", "wrong": "bad"}
"""Bars are told apart by their verdict, which stands beside them in words: only what is amiss is coloured."""
_VERDICT_ROLES = {"exact": "good", "needless": "crossing-mark", "wrong": "bad"}
_MARK_ROLES = {"needed": "good", "needless": "crossing-mark", "missing": "bad"}
"""The colour of a split is that of the verdict it leads to."""


def race_svg(state: RaceState, palette: Palette, ids: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    race, said = state.race, race_words(state)
    drawing = Drawing(WIDTH, 0, palette, ids, "sr")
    y = drawing.headed(said.title, said.answer, said.role, _ANSWER_LINES) + 12
    top = y
    if not race.axis.is_whole:
        _whole(drawing, race, y)
        y += 34
    y = _guest(drawing, race, said, y + 16)
    _headline(drawing, said.headline, (top + y) // 2)
    y += 28
    _columns(drawing, race, y)
    y += 10
    for row in state.rows:
        below, is_chosen = y + _row_height(race, row), row.name == state.selected
        if is_chosen:
            drawing.rect(_ROW_LEFT, y, _ROW_RIGHT - _ROW_LEFT, below - y, palette["hole"])
        _row(drawing, race, row, y, "hole" if is_chosen else "paper")
        drawing.spot(Spot(f"row:{row.name}", row_words(row), _ROW_LEFT, y, _ROW_RIGHT, below, is_chosen))
        y = below
    _zap(drawing, race, y)
    [chosen] = (spot for spot in drawing.spots if spot.chosen)
    drawing.path(box(chosen.left, chosen.top, chosen.right, chosen.bottom), "ink", width=2)
    y += 60
    _calls(drawing, state, y)
    lines = min(max(len(row.calls) for row in race.rows), _MOST_CALLS + 1)  # of every row: nothing jumps
    drawing.height = _keys(drawing, race, said, y + 18 * max(lines, 1) + 30) + 20
    return drawing.svg(said.title, said.answer)


def race_text(state: RaceState) -> str:
    """`state` in plain text: the answer, then a line per row."""
    said = race_words(state)
    lines = [f"{said.title}. {said.answer}"]
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
    caption = f"{said.title}. {said.answer} {FOOTNOTE}"
    return html_table(caption, _COLUMNS, [*map(cells, state.rows), zap])


# ---- the guest before, the headline, heads -------------------------------------------------------------


def _x(race: Race, frame: int) -> int:
    return race.axis.x(frame, _STRIP_LEFT, _STRIP_RIGHT)


def _whole(drawing: Drawing, race: Race, top: int) -> None:
    """The whole guest to scale, on which the range is dragged; below it, what the rows' axis shows of it."""

    def x(frame: int) -> int:
        return _STRIP_LEFT + (_STRIP_RIGHT - _STRIP_LEFT) * frame // race.frames

    bottom = top + _WHOLE_HEIGHT
    for window in race.axis.windows:
        edges = [(at(window.start), at(window.end)) for at in (x, partial(_x, race))]
        draw_wedge(drawing, *edges[0], bottom, *edges[1], bottom + 16)
    drawing.text(LEFT, bottom - 1, f"the whole guest: {race.names.size(race.frames)}", weight=600)
    low, high = x(race.span.start), x(race.span.end)
    high = min(max(high, low + 2), _STRIP_RIGHT)
    drawing.rect(_STRIP_LEFT, top, _STRIP_RIGHT - _STRIP_LEFT, _WHOLE_HEIGHT, drawing.palette["hole"])
    drawing.rect(min(low, high - 2), top, max(high - low, 2), _WHOLE_HEIGHT, drawing.palette["range"])
    drawing.path(box(_STRIP_LEFT, top, _STRIP_RIGHT, bottom), "line")
    drawing.track(Track("range", ((0, _STRIP_LEFT), (race.frames, _STRIP_RIGHT)), top, bottom))


def _guest(drawing: Drawing, race: Race, said: RaceWords, top: int) -> int:
    """The strip of the guest as it was, the places of its blocks above it, the range below; where it ends."""
    drawing.text(LEFT, top + 10, "the guest before", weight=600)
    for number, text in enumerate(said.guest):
        drawing.text(LEFT, top + 27 + 16 * number, text, "muted")
    _places(drawing, race, top - 4)
    _strip(drawing, race, race.segments, top, "paper")
    if race.axis.is_whole:
        knots = ((race.axis.first, _STRIP_LEFT), (race.axis.last, _STRIP_RIGHT))
        drawing.track(Track("range", knots, top, top + STRIP_HEIGHT))
    low, high = _x(race, race.span.start), _x(race, race.span.end)
    y = top + STRIP_HEIGHT + 9
    draw_range(drawing, low, high, y, -6)
    named = [(x, race.names.frame(edge)) for x, edge in ((low, race.span.start), (high, race.span.end))]
    edges = name_edges(named, _STRIP_LEFT, _STRIP_RIGHT)
    draw_names(drawing, edges, y + 17, "range")
    words, between = range_words(race), (edges[0].high, edges[-1].low)
    if text_width(words) + 12 <= between[1] - between[0]:
        drawing.text(sum(between) // 2, y + 17, words, "range", anchor="middle")
    return y + 17


def _headline(drawing: Drawing, said: Headline, y: int) -> None:
    """One number instead of another, large, right of the guest."""
    wide = partial(text_width, weight=700)
    between, room = text_width(said.instead, 14), RIGHT - _HEADLINE
    fits = (s for s in _HEADLINES if wide(said.fewest, s) + between + wide(said.patch, s) <= room)
    size = next(fits, _HEADLINES[-1])
    x = _HEADLINE
    drawing.text(x, y, said.fewest, said.role, size=size, weight=700)
    x += wide(said.fewest, size)
    drawing.text(x, y, said.instead, size=14)
    drawing.text(x + between, y, said.patch, size=size, weight=700)
    drawing.text(_HEADLINE, y + 22, shorten(said.caption, room), "muted")


def _columns(drawing: Drawing, race: Race, y: int) -> None:
    """The heads of the columns."""
    heads = {
        LEFT: "strategy",
        _STRIP_LEFT: "calls, and the leaves at both edges",
        _SPLITS: "splits",
        _VERDICT: "verdict",
    }
    for x, text in heads.items():
        drawing.text(x, y, text, weight=700)
    drawing.text(_HEADLINE, y - 16, "entries visited", weight=700)
    drawing.text(_HEADLINE, y, "each block: ten times more", "muted")
    drawing.text(RIGHT, y - 16, "frames", anchor="end", weight=700)
    drawing.text(RIGHT, y, "outside", anchor="end", weight=700)
    if not race.axis.is_whole:
        drawing.text(_STRIP_RIGHT, y, "not to scale", "muted", anchor="end")


def _places(drawing: Drawing, race: Race, y: int) -> None:
    """Addresses over the strip, where there is room: of the largest blocks first."""
    axis, geometry = race.axis, race.geometry
    if axis.is_whole:
        points = [*range(0, axis.last + 1, geometry.pages(geometry.max_leaf_level))]
    else:
        points = [point for point in axis.points if point not in (race.span.start, race.span.end)]
    blocks = [point for point in points if point % geometry.pages(2) == 0 and axis.in_sight(point)]
    blocks.sort(key=lambda point: (-(point & -point) if point else -race.frames, point))
    named = [(_x(race, point), race.names.frame(point)) for point in blocks]
    names = name_where_room(named, (), _STRIP_LEFT, _STRIP_RIGHT)
    draw_names(drawing, names, y - 4)
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
    bottom = top + STRIP_HEIGHT
    for segment, _, _ in boxes:
        for span, many in _leaves(race, segment):
            begin, end = _x(race, span.start), _x(race, span.end)
            if many:
                drawing.path(_comb(begin, end, bottom), "line")
            else:
                pages = race.geometry.pages(segment.level)
                borders = range(-(-span.start // pages) * pages, span.end, pages)
                drawing.path("".join(f"M{_x(race, border)} {top} V{bottom}" for border in borders), "line")
    _cuts(drawing, race, top, ground)
    for segment, low, high in boxes:
        if segment.level:
            middle, size = (low + high) // 2, level_name(race, segment.level)
            drawing.plate(middle, top + STRIP_HEIGHT // 2, size, high - low - 6)


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


def _leaves(race: Race, segment: Segment) -> Iterator[tuple[GfnRange, bool]]:
    """The stretches in which the leaves of `segment` are told apart, and whether they are too many to draw.

    Those that a split made have a hatch that says it.
    """
    if not segment.level:
        return
    pages = race.geometry.pages(segment.level)
    for first, last, _, _, is_gap in race.axis.stretches:
        low, high = max(first, segment.first), min(last, segment.last)
        if is_gap or low >= high:
            continue
        many = (high - low) // pages * _LEAF > _x(race, high) - _x(race, low)
        if not (many and segment.kind == "split"):
            yield GfnRange(low, high), many


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
    drawing.text(LEFT, top + 21, shorten(row.rule.title, room, 13, weight=600), size=13, weight=600)
    drawing.text(LEFT, top + 38, row.rule.rule, "muted")
    strip = top + _ROW_PAD + _lanes(row) * _CALL_STEP
    _brackets(drawing, race, row, strip)
    _strip(drawing, race, row.segments, strip, ground)
    _marks(drawing, race, row.marks, strip + STRIP_HEIGHT)
    _bar(drawing, row.visits, _BAR_ROLES[row.verdict], top + 10)
    drawing.text(_VISITS, top + 38, priced_words(row), "muted", anchor="end")
    _splits(drawing, row, top + 21)
    _verdict(drawing, row, top + 21)


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
    """Visits as a number and as blocks: one for each digit, the last as full as the logarithm says."""
    drawing.text(_VISITS, top + 11, group_digits(visits), anchor="end", weight=600, mono=True)
    if not visits:
        return
    # In whole numbers, by the digits of a power.
    parts = max(len(str(visits**_BLOCK)) - 1, 1)
    for at in range(min(len(str(visits)), _DECADES)):
        x, full = _BLOCKS + at * (_BLOCK + _APART), min(parts - at * _BLOCK, _BLOCK)
        if full:
            drawing.rect(x, top, full, 13, drawing.palette[role])
        drawing.path(box(x, top, x + _BLOCK, top + 13), role)


def _splits(drawing: Drawing, row: RaceRow, y: int) -> None:
    """Glyphs for few, a number for many; a line for each sort."""
    for kind, number in (("needed", row.needed), ("needless", row.needless), ("missing", row.missing)):
        if not number:
            continue
        shown = number if number <= _FEW else 1
        _diamonds(drawing, kind, [(_SPLITS + 6 + 14 * at, y - 4) for at in range(shown)])
        if shown < number:
            drawing.text(_SPLITS + 16, y, group_digits(number))
        y += 15
    if not (row.needed or row.needless or row.missing):
        drawing.text(_SPLITS, y, "none", "muted")


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
    drawing.text(LEFT, top + 21, ZAP[0], size=13, weight=600)
    drawing.text(_STRIP_LEFT, top + 21, ZAP[1], "muted")
    _bar(drawing, race.zap_visits, "leaf3", top + 10)


def _calls(drawing: Drawing, state: RaceState, y: int) -> None:
    """The calls of the selected row."""
    row, heading = state.row, calls_heading(state.row)
    right = LEFT + text_width(heading, 13, weight=700) + 14
    drawing.text(LEFT, y, heading, size=13, weight=700)
    drawing.text(right, y, shorten(row.rule.idea, RIGHT - right), "muted")
    shown = row.calls if len(row.calls) <= _MOST_CALLS + 1 else row.calls[:_MOST_CALLS]
    for number, (call, visits) in enumerate(zip(shown, row.call_visits, strict=False), start=1):
        y += LINE
        write = partial(drawing.text, mono=True)
        span, frames, what = call_words(state.race, call)
        write(_SPAN, y, f"{number}", anchor="end")
        for x, text in ((_HEX, span), (_FRAMES, frames), (_WHAT, what)):
            write(x, y, text)
        write(RIGHT, y, count_of(visits, "visit"), anchor="end")
    if len(shown) < len(row.calls):
        drawing.text(_HEX, y + LINE, f"and {len(row.calls) - len(shown)} more", "muted")
    if not row.calls:
        drawing.text(_HEX, y + LINE, "nothing to do at either edge", "muted")


def _keys(drawing: Drawing, race: Race, said: RaceWords, top: int) -> int:
    """How those things are drawn that occur, and the footnote; the y of its last line."""
    drawing.path(f"M{LEFT} {top - 20} H{RIGHT}", "grid")

    def split(kind: str) -> Callable[[int, int], None]:
        return lambda x, y: _diamonds(drawing, kind, [(x + 5, y - 4)])

    def call(*, to_4k: bool) -> Callable[[int, int], None]:
        return lambda x, y: _bracket(drawing, x, x + 16, y - 6, [x, x + 16], to_4k=to_4k)

    rows = race.rows
    calls = [call for row in rows for call in row.calls]
    bracketed = {call.target_level == PG_LEVEL_4K for call in calls if call.start < call.end}
    strips = (race.segments, *(row.segments for row in rows))
    combed = any(many for strip in strips for one in strip for _, many in _leaves(race, one))
    keys = (
        (True in bracketed, Key(call(to_4k=True), 17, call_key(race))),
        (False in bracketed, Key(call(to_4k=False), 17, "a call to a larger leaf")),
        (
            any(call.start == call.end for call in calls),
            Key(lambda x, y: drawing.path(_arrow(x + 4, y - 3), "ink", width=2), 9, "a call over no frame"),
        ),
        (combed, Key(lambda x, y: drawing.path(_comb(x - 4, x + 18, y), "line"), 17, "many leaves")),
        (any(row.needed for row in rows), Key(split("needed"), 11, "a needed split")),
        (any(row.needless for row in rows), Key(split("needless"), 11, "a needless one")),
        (any(row.missing for row in rows), Key(split("missing"), 11, "a missing one")),
    )
    y = drawing.keys(
        draw_legend(drawing, said.legend, LEFT, top + 4) + 25, (key for drawn, key in keys if drawn)
    )
    for line in wrap(FOOTNOTE, size=12, weight=400):
        y += 22
        drawing.text(LEFT, y, line, "muted")
    return y
