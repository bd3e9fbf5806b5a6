"""The lost -12's markup: a picture, a text and a table of the rows, all pure functions of them.

At the top the range, and the requests for host memory, one of which is refused. Below, a row per caller: who
calls, and what the thread made of it; under that the value on its way from the walk to what comes out; on the
right what is true in the end, frame by frame: what is on record, and what the S-EPT holds.
"""

from __future__ import annotations

from itertools import groupby, pairwise

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.lost_errno import CALLERS, FRAMES, MOST_REQUESTS, PAGE, Attempt, CallerRow, Shortage
from tdpkit.lab.words import html_table
from tdpkit.tdx.module import SeptState

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture, Spot, box, cross, text_width, wrap
from ..strips import (
    STRIP_HEIGHT,
    Cell,
    Strip,
    draw_boxes,
    draw_legend,
    draw_names,
    draw_range,
    name_edges,
    name_where_room,
    track_of,
)
from ..theme import Palette
from .words import (
    LEAF,
    TITLE,
    again_words,
    answer,
    call_words,
    came_out,
    guest_words,
    leaf_words,
    made_of_it,
    mapped_words,
    open_words,
    record_words,
    request_names,
    requests_words,
    values,
)

_STRIP, _REQUESTS, _HEAD, _TOP, _ROW = 116, 171, 206, 211, 91
"""Tops of the strip, below an answer of three lines, and of the requests; base of the columns' names; top of
the first row; a row, with a second call. A laptop shows 590 units below the answer."""
_LEGEND = _TOP + len(CALLERS) * _ROW + 14
_WALK, _WRAPPER, _CALLER, _OUT = (24, 92), (120, 188), (216, 590), (618, 690)
"""Left and right end of each box of the chain: "-12 ×8" in a size of 14, and for the caller two lines."""
_CALL = 184
"""Where the call begins, right of the longest name."""
_BOX, _BOX_HEIGHT = 35, 26
"""Where a box with a value begins in its row, and its height."""
_BELOW, _AGAIN = 75, 88
"""Bases in a row: of what is said of the boxes, and of the second call."""
_CALLER_WORDS = _CALLER[1] - _CALLER[0] - 12
_CHIPS, _CHIP_STEP, _CHIP_GAP, _CHIP_HEIGHT = 126, 122, 4, 22
"""Left end of the requests, from one to the next, room between, and their height: seven end at the margin."""
_STATE, _CELL, _LANE = 704, 17, 12
"""The lanes: 16 frames of 17 units end at the right margin; a word's letters are 9 high."""
_MARKS = {
    "all done": ("good", "✓"),
    "failed, and said so": ("crossing-mark", "!"),
    "failed, said nothing": ("bad", "✗"),
    "frames lost": ("bad", "✗"),
    "invalidation open": ("bad", "✗"),
}
"""(role, glyph) of each verdict."""
_ON_RECORD = {
    "conversion per VM": "shared",
    "conversion by file": "shared",
    "punch hole": "hole",
    "ACCEPT": "4K only",
    "memory failure": "✗",
}
_FILLS = (
    ("leaf2", "8-frame leaf"),
    ("leaf1", "4K leaves"),
    ("pending", "PENDING"),
    ("hole", "not mapped, as asked"),
    ("crossing", "still mapped, and no errno said so"),
    ("lost", "lost: outside, and gone"),
)


def lost_errno_svg(
    shortage: Shortage, rows: tuple[CallerRow, ...], palette: Palette, ids: str = ""
) -> Picture:
    """The rows as an SVG string in the colours of `palette`, always of one size; `ids` prefixes its ids."""
    drawing = Drawing(WIDTH, _LEGEND + 8, palette, ids, "le")
    said = answer(shortage, rows)
    drawing.headed(TITLE, said, lines=3)
    _range(drawing, shortage)
    _requests(drawing, shortage)
    for x, anchor, text in (
        (_WALK[0], "start", "the walk"),
        (_WRAPPER[0], "start", f"{shortage.declared} ret"),
        (_CALLER[0], "start", "the caller"),
        (_OUT[1], "end", "what comes out"),
        (_STATE, "start", "what is true now, frame by frame"),
    ):
        drawing.text(x, _HEAD, text, "muted", anchor=anchor, weight=600)
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        drawing.path(f"M{LEFT} {top} H{RIGHT}", "grid")
        _name(drawing, shortage, row, top)
        _chain(drawing, row, row.first, top)
        if row.again:
            _again(drawing, row, top)
        _state(drawing, row, top)
    draw_legend(drawing, _FILLS, LEFT, _LEGEND)
    return drawing.svg(TITLE, said)


def lost_errno_text(shortage: Shortage, rows: tuple[CallerRow, ...]) -> str:
    """The picture in plain text: the answer, then a line per caller."""

    def line(row: CallerRow) -> str:
        value, what, means = came_out(row, row.first)
        walk, wrapper = values(row.first.walks), values(row.first.wrapper)
        again = f"; called again: {again_words(row)}" if row.again else ""
        still = f" ({open_words(row)})" if open_words(row) else ""
        return (
            f"{row.name} ({requests_words(row.first, shortage.refuse)}): walk {walk}, wrapper {wrapper}; "
            f"{made_of_it(row, row.first)}; {what}: {value}, {means}{again}. "
            f"Now {record_words(row)}; {mapped_words(row)}; {guest_words(row)}. {row.verdict}{still}. "
            f"{CALLERS[row.name].standing}"
        )

    return "\n".join([f"{TITLE}. {answer(shortage, rows)}", *map(line, rows)])


def lost_errno_table(shortage: Shortage, rows: tuple[CallerRow, ...]) -> str:
    """The picture as an HTML table for those who read rather than look: its text twin."""
    heads = ["caller", "walk", "wrapper", "caller makes of it", "userspace or guest sees"]
    heads += ["called again"] * shortage.again + ["true state", "verdict"]

    def cells(row: CallerRow) -> list[str | tuple[str, str]]:
        value, what, means = came_out(row, row.first)
        asked = f"asks for {', '.join(row.first.requests)}; {requests_words(row.first, shortage.refuse)}"
        bytes_seen = " ".join("--" if byte is None else f"{byte:02x}" for byte in row.private_bytes)
        in_wrapper, in_caller = (": errno lost" * (row.first.lost_at == at) for at in ("wrapper", "caller"))
        return [
            (row.name, f"{' '.join(call_words(row))}; {asked}. {CALLERS[row.name].standing}"),
            values(row.first.walks),
            f"{values(row.first.wrapper)}{in_wrapper}",
            f"{made_of_it(row, row.first)}{in_caller}",
            f"{what}: {value}, {means}",
            *[again_words(row)] * shortage.again,
            f"{record_words(row)}; {mapped_words(row)}; {guest_words(row)}; private bytes {bytes_seen}",
            (row.verdict, open_words(row)),
        ]

    return html_table(answer(shortage, rows), heads, map(cells, rows))


# ---- what is asked for, and what is refused --------------------------------------------------------------


def _range(drawing: Drawing, shortage: Shortage) -> None:
    """The two leaves, and the range that is dragged over them."""
    span = GfnRange(shortage.start, shortage.end)
    strip = Strip("", "", 0, FRAMES, (Cell(0, LEAF, "leaf2"), Cell(LEAF, FRAMES, "leaf2")), (0, LEAF))
    drawing.text(LEFT, _STRIP - 6, "the range of a conversion and of a hole", weight=600)
    drawing.text(RIGHT, _STRIP - 6, "an ACCEPT and a memory failure are of one page", "muted", anchor="end")
    draw_boxes(drawing, strip, LEFT, RIGHT, _STRIP)
    bottom, middle, axis = _STRIP + STRIP_HEIGHT, _STRIP + STRIP_HEIGHT // 2, _STRIP + STRIP_HEIGHT + 6
    drawing.path("".join(f"M{_at(gfn)} {bottom} V{bottom + 4}" for gfn in range(FRAMES + 1)), "line")
    for first in (0, LEAF):
        low, high = _free(span, first)
        drawing.plate((low + high) // 2, middle, leaf_words(span, first), high - low)
    low, high = _at(PAGE.start), _at(PAGE.end)
    drawing.path(box(low, _STRIP, high, bottom), "ink", width=2)
    drawing.plate((low + high) // 2, middle, f"page {PAGE.start}", high - low)
    edges = [(_at(edge), f"{edge}") for edge in (span.start, span.end)]
    for x, _ in edges:
        drawing.path(f"M{x} {_STRIP - 3} V{axis}", "range", width=2)
    draw_range(drawing, edges[0][0], edges[1][0], axis, 5, 3)
    drawing.track(track_of("range", strip, LEFT, RIGHT, _STRIP)._replace(bottom=axis - 1))
    places = name_edges(edges, LEFT, RIGHT)
    draw_names(drawing, places, axis + 20, "range")
    others = [(_at(gfn), f"{gfn}") for gfn in range(0, FRAMES + 1, LEAF // 2)]
    draw_names(drawing, name_where_room(others, places, LEFT, RIGHT), axis + 20)


def _free(span: GfnRange, first: int) -> tuple[int, int]:
    """The widest stretch of the leaf from frame `first` on in which neither an edge nor the page is."""
    cuts = {first, first + LEAF, PAGE.start, PAGE.end, span.start, span.end}
    edges = sorted(cut for cut in cuts if first <= cut <= first + LEAF)
    parts = [(low, high) for low, high in pairwise(edges) if low != PAGE.start]
    low, high = max(parts, key=lambda part: part[1] - part[0])
    return _at(low), _at(high)


def _at(gfn: int) -> int:
    """Where a frame begins on the strip."""
    return LEFT + (RIGHT - LEFT) * gfn // FRAMES


def _requests(drawing: Drawing, shortage: Shortage) -> None:
    """The requests for host memory, to press; what is refused is crossed."""
    drawing.text(LEFT, _REQUESTS + 15, "refuse request", weight=600)
    bottom, made = _REQUESTS + _CHIP_HEIGHT, request_names(shortage)
    for number in range(MOST_REQUESTS + 1):
        left, chosen = _CHIPS + _CHIP_STEP * number, number == shortage.refuse
        right = left + _CHIP_STEP - _CHIP_GAP
        refused = chosen or (shortage.lasting and 0 < shortage.refuse < number)
        name = f"{number}: {made[number - 1] if number <= len(made) else 'nobody asks'}" if number else "none"
        role = "bad" if refused and 0 < number <= len(made) else "ink" if chosen else "muted"
        outline = box(left, _REQUESTS, right, bottom)
        drawing.path(outline, "line" if role == "muted" else role, fill="paper", width=1 + chosen)
        text, weight = "✗ " * (role == "bad") + name, 700 if chosen else 400
        drawing.text((left + right) // 2, _REQUESTS + 15, text, role, anchor="middle", weight=weight)
        what = f"refuse request {name}" if number else "refuse no request"
        drawing.spot(Spot(f"request:{number}", what, left, _REQUESTS, right, bottom, chosen))


# ---- who calls -----------------------------------------------------------------------------------------


def _name(drawing: Drawing, shortage: Shortage, row: CallerRow, top: int) -> None:
    call, what = call_words(row)
    drawing.text(LEFT, top + 15, row.name, size=14, weight=700)
    drawing.text(_CALL, top + 15, call, mono=True)
    drawing.text(_CALL + text_width(call, mono=True) + 10, top + 15, what)
    role = "bad" if row.first.refused else "muted"
    asked = requests_words(row.first, shortage.refuse)
    drawing.text(_OUT[1], top + 15, asked, role, anchor="end", weight=600)
    drawing.text(LEFT, top + 29, CALLERS[row.name].standing, "muted")


# ---- the value on its way ------------------------------------------------------------------------------


def _chain(drawing: Drawing, row: CallerRow, attempt: Attempt, top: int) -> None:
    value, what, means = came_out(row, attempt)
    is_lost = attempt.lost_at == "wrapper"
    _value(drawing, _WALK, top, values(attempt.walks), _role(attempt.walks))
    role = "bad" if is_lost else _role(attempt.wrapper)
    _value(drawing, _WRAPPER, top, values(attempt.wrapper), role, is_lost)
    _arrows(drawing, attempt, top + _BOX + _BOX_HEIGHT // 2)
    left, right = _CALLER
    drawing.rect(left, top + _BOX - 2, right - left, _BOX_HEIGHT + 4, drawing.palette["paper"], "line")
    lines = wrap(made_of_it(row, attempt), _CALLER_WORDS, 12, weight=400)
    first = top + 59 - 7 * len(lines)
    for number, text in enumerate(lines):
        drawing.text(left + 8, first + 13 * number, text)
    role = "bad" if attempt.is_silent else _role((attempt.returned or 0,))
    _value(drawing, _OUT, top, value, role, attempt.is_silent)
    drawing.text(_OUT[1], top + _BELOW, means, anchor="end", weight=600)
    beside = _OUT[1] - text_width(means, weight=600) - 6
    drawing.text(beside, top + _BELOW, f"{what}:", "muted", anchor="end")


def _role(numbers: tuple[int, ...]) -> str:
    """The colour of a value: an errno, none, or nothing that was called."""
    return "muted" if not numbers else "crossing-mark" if min(numbers) < 0 else "good"


def _value(
    drawing: Drawing, sides: tuple[int, int], top: int, text: str, role: str, dashed: bool = False
) -> None:
    """A box with a value; dashed where it hides an errno."""
    left, right = sides
    outline = box(left, top + _BOX, right, top + _BOX + _BOX_HEIGHT)
    drawing.path(outline, role, fill="paper", width=2, dash="4 3" if dashed else "")
    size, middle = (17 if len(text) < 5 else 14), (left + right) // 2
    drawing.text(middle, top + _BOX + 19, text, role, size=size, anchor="middle", weight=700, mono=True)


def _arrows(drawing: Drawing, attempt: Attempt, y: int) -> None:
    """From box to box; a cross on the one at which the errno is lost."""
    links = ((_WALK[1], _WRAPPER[0]), (_WRAPPER[1], _CALLER[0]), (_CALLER[1], _OUT[0]))
    for left, right in links:
        tip = right - 2
        drawing.path(f"M{left + 2} {y} H{tip} M{tip - 6} {y - 5} L{tip} {y} L{tip - 6} {y + 5}", "ink")
    x, below = (links[0][0] + links[0][1]) // 2 - 2, y + _BELOW - _BOX - _BOX_HEIGHT // 2
    if not attempt.lost_at:
        if attempt.walks and min(attempt.walks) < 0:
            drawing.text(x, below, "✓ errno kept", "good", weight=600, anchor="middle")
        return
    at, text = x, "✗ errno lost"
    if attempt.lost_at == "caller":
        x, at = (links[2][0] + links[2][1]) // 2 - 2, (_CALLER[0] + _CALLER[1]) // 2
        text = "✗ lost in the caller"
    drawing.circle(x, y, 9, "bad")
    drawing.path(cross(x, y), "paper", width=2)
    drawing.text(at, below, text, "bad", weight=600, anchor="middle")


def _again(drawing: Drawing, row: CallerRow, top: int) -> None:
    """The second call, below the first."""
    x, y = LEFT, top + _AGAIN - 4
    drawing.path(f"M{x} {y - 7} V{y} H{x + 9} M{x + 5} {y - 4} L{x + 9} {y} L{x + 5} {y + 4}", "ink")
    drawing.text(x + 16, top + _AGAIN, f"again: {again_words(row)}")


# ---- what is true in the end ---------------------------------------------------------------------------


def _state(drawing: Drawing, row: CallerRow, top: int) -> None:
    """The verdict, two lanes of frames, and what the guest reads; `top` is the row's."""
    role, glyph = _MARKS[row.verdict]
    drawing.circle(_STATE + 8, top + 11, 8, role)
    drawing.text(_STATE + 8, top + 15, glyph, "paper", weight=700, anchor="middle")
    drawing.text(_STATE + 22, top + 16, row.verdict, role, size=14, weight=700)
    drawing.text(RIGHT, top + 16, open_words(row), role, anchor="end", weight=600)
    drawing.text(_STATE, top + 31, record_words(row))
    _record(drawing, row, top + 35)
    drawing.text(_STATE, top + 59, mapped_words(row))
    _mapped(drawing, row, top + 63)
    wrong = bool(row.lost or row.stale or row.retries)
    drawing.text(_STATE, top + 86, guest_words(row), "bad" if wrong else "muted")


def _x(gfn: int) -> int:
    return _STATE + _CELL * gfn


def _frames(first: int, last: int, top: int) -> str:
    return box(_x(first), top, _x(last), top + _LANE)


def _record(drawing: Drawing, row: CallerRow, top: int) -> None:
    """What is on record: filled where it is."""
    on = row.record
    drawing.path(_frames(0, FRAMES, top), "line", fill="paper")
    if on is None:
        return
    drawing.path(_frames(on.start, on.end, top), "ink", fill="ink")
    middle, word = (_x(on.start) + _x(on.end)) // 2, _ON_RECORD[row.name]
    if text_width(word, weight=700) <= _CELL * on.pages:
        drawing.text(middle, top + 10, word, "paper", weight=700, anchor="middle")


def _mapped(drawing: Drawing, row: CallerRow, top: int) -> None:
    """What the S-EPT holds, with the borders of its leaves."""
    for kind, run in groupby(range(FRAMES), lambda gfn: kind_of(row, gfn)):
        gfns = list(run)
        drawing.rect(_x(gfns[0]), top, _CELL * len(gfns), _LANE, drawing.fill(kind), "line")
    level = {gfn: one.level for one in row.runs for gfn in range(one.gfn, one.gfn + one.pages)}
    small = [gfn for gfn in range(1, FRAMES) if level[gfn] == 1 or level[gfn - 1] == 1]
    borders = "".join(f"M{_x(gfn)} {top} V{top + _LANE}" for gfn in small)
    both = _frames(LEAF, FRAMES, top) + _frames(0, LEAF, top)
    drawing.path(borders + both, "line")


def kind_of(row: CallerRow, gfn: int) -> str:
    """How frame `gfn` of the S-EPT's lane is drawn."""
    run = next(one for one in row.runs if one.gfn <= gfn < one.gfn + one.pages)
    if gfn in row.lost:
        return "lost"
    if gfn in row.stale:
        return "crossing"
    if run.state == SeptState.PENDING:
        return "pending"
    return f"leaf{run.level}" if run.level else "hole"
