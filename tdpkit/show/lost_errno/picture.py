"""The picture of the lost -12: a row per caller, the value on its way from the walk to what comes out."""

from __future__ import annotations

import textwrap
from zlib import crc32

from tdpkit.lab.lost_errno import Attempt, CallerRow, Shortage

from ..drawing import Drawing
from ..theme import Palette
from .frames import STATE_LEFT, draw_state, draw_state_legend
from .words import CALLS, TITLE, again_words, answer, came_out, made_of_it, requests_words, values

_WIDTH, _HEIGHT, _LEFT, _RIGHT = 1000, 712, 24, 976
_HEAD, _TOP, _ROW = 108, 118, 140
_ANSWER_CHARACTERS = 96
_WALK, _WRAPPER, _CALLER, _OUT = (200, 262), (290, 352), (380, 558), (584, 684)
_CALLER_CHARACTERS = 28
_BOX, _BOX_HEIGHT = 22, 34
_CHIPS = 10
_AGAIN_CHARACTERS = 86


def lost_errno_svg(shortage: Shortage, rows: tuple[CallerRow, ...], palette: Palette, ids: str = "") -> str:
    """The rows as an SVG string in the colours of `palette`; always of one size.

    `ids` prefixes every id in it; by default it follows from the shortage.
    """
    drawing = Drawing(_WIDTH, _HEIGHT, palette, ids or f"le-{crc32(repr(shortage).encode()):08x}")
    said = answer(shortage, rows)
    drawing.text(_LEFT, 32, TITLE, size=18, weight=700)
    for number, text in enumerate(textwrap.wrap(said, _ANSWER_CHARACTERS, break_on_hyphens=False)):
        drawing.text(_LEFT, 56 + 18 * number, text, size=13, weight=600)
    _heads(drawing, shortage)
    for number, row in enumerate(rows):
        top = _TOP + _ROW * number
        drawing.path(f"M{_LEFT} {top} H{_RIGHT}", "grid")
        _name(drawing, shortage, row, top)
        _chain(drawing, row, row.first, top)
        if row.again:
            _again(drawing, row, top)
        draw_state(drawing, row, top)
    draw_state_legend(drawing, _HEIGHT - 14)
    return drawing.svg(TITLE, said)


def _heads(drawing: Drawing, shortage: Shortage) -> None:
    heads = (
        (_LEFT, "who calls"),
        (_WALK[0], "the walk"),
        (_WRAPPER[0], f"{shortage.declared} ret"),
        (_CALLER[0], "the caller"),
        (_OUT[0], "what comes out"),
        (STATE_LEFT, "what is true now, frames 0 to 15"),
    )
    for x, text in heads:
        drawing.text(x, _HEAD, text, "muted", weight=600)


# ---- who calls -----------------------------------------------------------------------------------------


def _name(drawing: Drawing, shortage: Shortage, row: CallerRow, top: int) -> None:
    call, what = CALLS[row.name]
    drawing.text(_LEFT, top + 24, row.name, size=14, weight=700)
    drawing.text(_LEFT, top + 43, call, mono=True, size=11)
    drawing.text(_LEFT, top + 60, what, "muted", size=11)
    drawing.text(_LEFT, top + 82, "asks the host for pages:", "muted", size=11)
    for number in range(1, min(len(row.first.requests), _CHIPS) + 1):
        _chip(drawing, number, number in row.first.refused, _LEFT + 16 * (number - 1), top + 90)
    role = "bad" if row.first.refused else "muted"
    drawing.text(_LEFT, top + 122, requests_words(row.first, shortage.refuse), role, size=11, weight=600)


def _chip(drawing: Drawing, number: int, refused: bool, x: int, y: int) -> None:
    """One request for host memory: its number, or a cross where it was refused."""
    drawing.path(f"M{x} {y} H{x + 13} V{y + 16} H{x} Z", "bad" if refused else "line", fill="paper")
    if refused:
        drawing.path(
            f"M{x + 3} {y + 4} L{x + 10} {y + 12} M{x + 10} {y + 4} L{x + 3} {y + 12}", "bad", width=2
        )
    else:
        drawing.text(x + 7, y + 12, str(number), "muted", size=10, anchor="middle", mono=True)


# ---- the value on its way ------------------------------------------------------------------------------


def _chain(drawing: Drawing, row: CallerRow, attempt: Attempt, top: int) -> None:
    value, what, means = came_out(row, attempt)
    _value(drawing, _WALK, top, values(attempt.walks), _role(attempt.walks))
    is_lost = attempt.lost_at == "wrapper"
    _value(
        drawing, _WRAPPER, top, values(attempt.wrapper), "bad" if is_lost else _role(attempt.wrapper), is_lost
    )
    _arrows(drawing, attempt, top + _BOX + _BOX_HEIGHT // 2)
    left, right = _CALLER
    drawing.rect(left, top + 10, right - left, 78, drawing.palette["paper"], "line")
    lines = textwrap.wrap(made_of_it(row, attempt), _CALLER_CHARACTERS, break_on_hyphens=False)
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
    box = f"M{left} {top + _BOX} H{right} V{top + _BOX + _BOX_HEIGHT} H{left} Z"
    drawing.path(box, role, fill="paper", width=2, dash="4 3" if dashed else "")
    size = 17 if len(text) < 5 else 14
    drawing.text(
        (left + right) // 2, top + _BOX + 23, text, role, size=size, anchor="middle", weight=700, mono=True
    )


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
    _cross(drawing, x, y, "paper")
    drawing.text(at, y + 37, text, "bad", size=11, weight=600, anchor="middle")


def _cross(drawing: Drawing, x: int, y: int, role: str) -> None:
    drawing.path(f"M{x - 4} {y - 4} L{x + 4} {y + 4} M{x + 4} {y - 4} L{x - 4} {y + 4}", role, width=2)


def _again(drawing: Drawing, row: CallerRow, top: int) -> None:
    """The second call, below the first."""
    x, y = _WALK[0], top + 111
    drawing.path(f"M{x} {y - 9} V{y} H{x + 9} M{x + 4} {y - 4} L{x + 9} {y} L{x + 4} {y + 4}", "ink")
    lines = textwrap.wrap(f"again: {again_words(row)}", _AGAIN_CHARACTERS, break_on_hyphens=False)
    for number, text in enumerate(lines):
        drawing.text(x + 16, y + 4 + 15 * number, text, size=11)
