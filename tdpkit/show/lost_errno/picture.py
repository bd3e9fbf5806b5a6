"""The lost -12's markup: a picture, a text and a table of the rows, all pure functions of them.

A row per caller: on the left the value on its way from the walk to what comes out, on the right what is true
in the end, frame by frame: what is on record, and what the S-EPT holds.
"""

from __future__ import annotations

from itertools import groupby

from tdpkit.lab.lost_errno import FRAMES, Attempt, CallerRow, Shortage
from tdpkit.lab.words import html_table
from tdpkit.tdx.module import SeptState

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, box, cross, wrap
from ..strips import draw_legend
from ..theme import Palette
from .words import (
    CALLS,
    TITLE,
    again_words,
    answer,
    came_out,
    guest_words,
    made_of_it,
    mapped_words,
    record_words,
    requests_words,
    values,
)

_HEIGHT = 712
_HEAD, _TOP, _ROW = 108, 118, 140
"""Names of the columns, below an answer of three lines; top of the first row; a row, with a second call."""
_WALK, _WRAPPER, _CALLER, _OUT = (200, 262), (290, 352), (380, 558), (584, 684)
"""Left and right end of each box of the chain: "-12 ×8" in a size of 14, and for the caller four lines."""
_BOX, _BOX_HEIGHT = 22, 34
"""Where a box with a value begins in its row, and its height."""
_CALLER_WORDS = _CALLER[1] - _CALLER[0] - 12
_CHIP = 16
"""From one request for host memory to the next: ten of them, the most there are, end left of the chain."""
_AGAIN_WORDS = 704 - _WALK[0] - 24
"""The second call has two lines below the chain, up to the lanes."""
_STATE, _CELL, _LANE = 704, 17, 18
"""The lanes: 16 frames of 17 units end at the right margin."""
_MARKS = {
    "all done": ("good", "✓"),
    "failed, and said so": ("crossing-mark", "!"),
    "failed, said nothing": ("bad", "✗"),
    "frames lost": ("bad", "✗"),
}
"""(role, glyph) of each verdict."""
_ON_RECORD = {"conversion": "shared", "punch hole": "hole", "ACCEPT": "4K only", "memory failure": "✗"}
_LEGEND = (
    ("leaf2", "8-frame leaf"),
    ("leaf1", "4K leaves"),
    ("refaulted", "PENDING"),
    ("hole", "not mapped, as asked"),
    ("crossing", "still mapped, and no errno said so"),
    ("lost", "lost: outside, and gone"),
)


def lost_errno_svg(shortage: Shortage, rows: tuple[CallerRow, ...], palette: Palette, ids: str = "") -> str:
    """The rows as an SVG string in the colours of `palette`, always of one size; `ids` prefixes its ids."""
    drawing = Drawing(WIDTH, _HEIGHT, palette, ids, "le")
    said = answer(shortage, rows)
    drawing.headed(TITLE, said)
    for x, text in (
        (LEFT, "who calls"),
        (_WALK[0], "the walk"),
        (_WRAPPER[0], f"{shortage.declared} ret"),
        (_CALLER[0], "the caller"),
        (_OUT[0], "what comes out"),
        (_STATE, "what is true now, frames 0 to 15"),
    ):
        drawing.text(x, _HEAD, text, "muted", weight=600)
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        drawing.path(f"M{LEFT} {top} H{RIGHT}", "grid")
        _name(drawing, shortage, row, top)
        _chain(drawing, row, row.first, top)
        if row.again:
            _again(drawing, row, top)
        _state(drawing, row, top)
    draw_legend(drawing, _LEGEND, LEFT, _HEIGHT - 14)
    return drawing.svg(TITLE, said)


def lost_errno_text(shortage: Shortage, rows: tuple[CallerRow, ...]) -> str:
    """The picture in plain text: the answer, then a line per caller."""

    def line(row: CallerRow) -> str:
        value, what, means = came_out(row, row.first)
        walk, wrapper = values(row.first.walks), values(row.first.wrapper)
        again = f"; called again: {again_words(row)}" if row.again else ""
        return (
            f"{row.name} ({requests_words(row.first, shortage.refuse)}): walk {walk}, wrapper {wrapper}; "
            f"{made_of_it(row, row.first)}; {what}: {value}, {means}{again}. "
            f"Now {record_words(row)}; {mapped_words(row)}; {guest_words(row)}. {row.verdict}"
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
            (row.name, f"{' '.join(CALLS[row.name])}; {asked}"),
            values(row.first.walks),
            f"{values(row.first.wrapper)}{in_wrapper}",
            f"{made_of_it(row, row.first)}{in_caller}",
            f"{what}: {value}, {means}",
            *[again_words(row)] * shortage.again,
            f"{record_words(row)}; {mapped_words(row)}; {guest_words(row)}; private bytes {bytes_seen}",
            row.verdict,
        ]

    return html_table(answer(shortage, rows), heads, map(cells, rows))


# ---- who calls -----------------------------------------------------------------------------------------


def _name(drawing: Drawing, shortage: Shortage, row: CallerRow, top: int) -> None:
    call, what = CALLS[row.name]
    drawing.text(LEFT, top + 24, row.name, size=14, weight=700)
    drawing.text(LEFT, top + 43, call, mono=True, size=11)
    drawing.text(LEFT, top + 60, what, "muted", size=11)
    drawing.text(LEFT, top + 82, "asks the host for pages:", "muted", size=11)
    for number in range(1, len(row.first.requests) + 1):
        _chip(drawing, number, number in row.first.refused, LEFT + _CHIP * (number - 1), top + 90)
    role = "bad" if row.first.refused else "muted"
    drawing.text(LEFT, top + 122, requests_words(row.first, shortage.refuse), role, size=11, weight=600)


def _chip(drawing: Drawing, number: int, refused: bool, x: int, y: int) -> None:
    """One request for host memory: its number, or a cross where it was refused."""
    drawing.path(box(x, y, x + 13, y + 16), "bad" if refused else "line", fill="paper")
    if refused:
        drawing.path(cross(x + 6, y + 8), "bad", width=2)
    else:
        drawing.text(x + 7, y + 12, str(number), "muted", size=10, anchor="middle", mono=True)


# ---- the value on its way ------------------------------------------------------------------------------


def _chain(drawing: Drawing, row: CallerRow, attempt: Attempt, top: int) -> None:
    value, what, means = came_out(row, attempt)
    is_lost = attempt.lost_at == "wrapper"
    _value(drawing, _WALK, top, values(attempt.walks), _role(attempt.walks))
    role = "bad" if is_lost else _role(attempt.wrapper)
    _value(drawing, _WRAPPER, top, values(attempt.wrapper), role, is_lost)
    _arrows(drawing, attempt, top + _BOX + _BOX_HEIGHT // 2)
    left, right = _CALLER
    drawing.rect(left, top + 10, right - left, 78, drawing.palette["paper"], "line")
    lines = wrap(made_of_it(row, attempt), _CALLER_WORDS, 11, weight=400)
    first = top + 53 - 8 * (len(lines) - 1)
    for number, text in enumerate(lines):
        drawing.text(left + 8, first + 16 * number, text, size=11)
    role = "bad" if attempt.is_silent else _role((attempt.returned or 0,))
    _value(drawing, _OUT, top, value, role, attempt.is_silent)
    middle = (_OUT[0] + _OUT[1]) // 2
    drawing.text(middle, top + 74, what, "muted", size=11, anchor="middle")
    drawing.text(middle, top + 90, means, size=11, anchor="middle", weight=600)


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
    drawing.text(middle, top + _BOX + 23, text, role, size=size, anchor="middle", weight=700, mono=True)


def _arrows(drawing: Drawing, attempt: Attempt, y: int) -> None:
    """From box to box; a cross on the one at which the errno is lost."""
    links = ((_WALK[1], _WRAPPER[0]), (_WRAPPER[1], _CALLER[0]), (_CALLER[1], _OUT[0]))
    for left, right in links:
        tip = right - 2
        drawing.path(f"M{left + 2} {y} H{tip} M{tip - 6} {y - 5} L{tip} {y} L{tip - 6} {y + 5}", "ink")
    x = (links[0][0] + links[0][1]) // 2 - 2
    if not attempt.lost_at:
        if attempt.walks and min(attempt.walks) < 0:
            drawing.text(x, y + 37, "✓ errno kept", "good", size=11, weight=600, anchor="middle")
        return
    at, text = x, "✗ errno lost"
    if attempt.lost_at == "caller":
        x, at = (links[2][0] + links[2][1]) // 2 - 2, _WRAPPER[0] + 22
        text = "✗ lost in the caller"
    drawing.circle(x, y, 9, "bad")
    drawing.path(cross(x, y), "paper", width=2)
    drawing.text(at, y + 37, text, "bad", size=11, weight=600, anchor="middle")


def _again(drawing: Drawing, row: CallerRow, top: int) -> None:
    """The second call, below the first."""
    x, y = _WALK[0], top + 111
    drawing.path(f"M{x} {y - 9} V{y} H{x + 9} M{x + 4} {y - 4} L{x + 9} {y} L{x + 4} {y + 4}", "ink")
    for number, text in enumerate(wrap(f"again: {again_words(row)}", _AGAIN_WORDS, 11, weight=400)):
        drawing.text(x + 16, y + 4 + 15 * number, text, size=11)


# ---- what is true in the end ---------------------------------------------------------------------------


def _state(drawing: Drawing, row: CallerRow, top: int) -> None:
    """Two lanes of frames, what the guest reads, and the verdict; `top` is the row's."""
    drawing.text(_STATE, top + 20, record_words(row), size=11)
    _record(drawing, row, top + 26)
    drawing.text(_STATE, top + 60, mapped_words(row), size=11)
    _mapped(drawing, row, top + 66)
    wrong = bool(row.lost or row.stale)
    drawing.text(_STATE, top + 100, guest_words(row), "bad" if wrong else "muted", size=11)
    role, glyph = _MARKS[row.verdict]
    drawing.circle(_STATE + 8, top + 120, 8, role)
    drawing.text(_STATE + 8, top + 124, glyph, "paper", size=12, weight=700, anchor="middle")
    drawing.text(_STATE + 22, top + 125, row.verdict, role, size=14, weight=700)


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
    middle = (_x(on.start) + _x(on.end)) // 2
    drawing.text(middle, top + 13, _ON_RECORD[row.name], "paper", size=11, weight=700, anchor="middle")


def _mapped(drawing: Drawing, row: CallerRow, top: int) -> None:
    """What the S-EPT holds, with the borders of its leaves."""
    for kind, run in groupby(range(FRAMES), lambda gfn: kind_of(row, gfn)):
        gfns = list(run)
        drawing.rect(_x(gfns[0]), top, _CELL * len(gfns), _LANE, drawing.fill(kind), "line")
    level = {gfn: one.level for one in row.runs for gfn in range(one.gfn, one.gfn + one.pages)}
    small = [gfn for gfn in range(1, FRAMES) if level[gfn] == 1 or level[gfn - 1] == 1]
    borders = "".join(f"M{_x(gfn)} {top} V{top + _LANE}" for gfn in small)
    both = _frames(FRAMES // 2, FRAMES, top) + _frames(0, FRAMES // 2, top)
    drawing.path(borders + both, "line")


def kind_of(row: CallerRow, gfn: int) -> str:
    """How frame `gfn` of the S-EPT's lane is drawn."""
    run = next(one for one in row.runs if one.gfn <= gfn < one.gfn + one.pages)
    if gfn in row.lost:
        return "lost"
    if gfn in row.stale:
        return "crossing"
    if run.state == SeptState.PENDING:
        return "refaulted"
    return f"leaf{run.level}" if run.level else "hole"
