"""The strategy race's markup: a picture of one state, a pure function of it. Strips are in `race_strip`."""

from __future__ import annotations

import textwrap
from zlib import crc32

from tdpkit.lab.words import group_digits

from ..drawing import Drawing
from ..strips import draw_legend
from ..theme import Palette
from .state import RaceState, Row
from .strip import MARK_STEP, arrow, comb, draw_calls, draw_diamonds, draw_guest, draw_marks, draw_strip
from .words import (
    FOOTNOTE,
    VERDICTS,
    ZAP,
    answer,
    call_words,
    calls_heading,
    guest_words,
    legend,
    notes,
    priced_words,
    race_text,
    title,
)

_WIDTH, _LEFT, _RIGHT = 1000, 24, 976
_STRIP_LEFT, _STRIP_RIGHT = 188, 560
_BAR, _DECADE, _DECADES = 574, 12, 8
_SPLITS, _VERDICT = 756, 842
_ANSWER_CHARACTERS = 116
_CALL_STEP, _STRIP_HEIGHT, _ROW_PAD = 8, 18, 7
_MOST_CALLS = 5
_FEW = 4

_BAR_ROLES = {"exact": "line", "needless": "crossing-mark", "wrong": "bad"}
_VERDICT_ROLES = {"exact": "good", "needless": "crossing-mark", "wrong": "bad"}


def race_svg(state: RaceState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`.

    `ids` prefixes every id in it; by default it follows from what the picture says, so that two different
    pictures on one page do not share ids.
    """
    race = state.race
    said, role = answer(race)
    if not ids:
        known = (race_text(state), *guest_words(race), state.selected, str(state.order))
        ids = f"sr-{crc32(' '.join(known).encode()):08x}"
    heading = textwrap.wrap(said, _ANSWER_CHARACTERS)
    remarks = [line for note in notes(state) for line in textwrap.wrap(note, 130)]
    top = 68 + 18 * len(heading) + 18 * len(remarks)
    tops = _row_tops(state, top + 98)
    zap = tops[-1]
    lines = min(max(len(row.calls) for row in race.rows), _MOST_CALLS + 1)
    calls = zap + 74
    keys = calls + 18 * max(lines, 1) + 30
    drawing = Drawing(_WIDTH, keys + 72, palette, ids)
    drawing.text(_LEFT, 30, title(race), size=18, weight=700)
    for number, line in enumerate(heading):
        drawing.text(_LEFT, 54 + 18 * number, line, role, size=13, weight=600)
    for number, line in enumerate(remarks):
        drawing.text(_LEFT, 54 + 18 * (len(heading) + number), line)
    _columns(drawing, state, top)
    draw_guest(drawing, race, _STRIP_LEFT, _STRIP_RIGHT, top + 30)
    for row, begin, end in zip(state.rows, tops, tops[1:], strict=False):
        if row.name == state.selected:
            drawing.rect(14, begin + 1, 972, end - begin - 1, drawing.palette["hole"])
            drawing.rect(14, begin + 1, 4, end - begin - 1, drawing.palette["ink"])
        _row(drawing, state, row, begin)
    _zap(drawing, state, zap)
    _calls(drawing, state, calls)
    _keys(drawing, state, keys)
    return drawing.svg(title(race), said)


def _row_tops(state: RaceState, top: int) -> list[int]:
    """Where each row begins, and where the last one ends."""
    marks = sum(level > 1 for level in range(2, max(state.race.levels, default=1) + 1))
    tops = [top]
    for row in state.rows:
        lanes = max(2, 1 + max(row.lanes, default=0))
        tops.append(tops[-1] + max(50, lanes * _CALL_STEP + _STRIP_HEIGHT + marks * MARK_STEP + 2 * _ROW_PAD))
    return tops


def _columns(drawing: Drawing, state: RaceState, top: int) -> None:
    """The head of the table, the guest before, and the axis of the bars."""
    for x, text in (
        (_LEFT, "strategy"),
        (_STRIP_LEFT, "calls, and the leaves at both edges"),
        (_BAR, "entries visited"),
        (_SPLITS, "splits"),
        (_VERDICT, "verdict"),
    ):
        drawing.text(x, top, text, weight=700)
    drawing.text(_RIGHT, top, "outside", anchor="end", weight=700)
    drawing.text(_RIGHT, top - 15, "frames", anchor="end", weight=700)
    drawing.text(_LEFT, top + 44, "the guest before", weight=600)
    for number, text in enumerate(guest_words(state.race)):
        drawing.text(_LEFT, top + 60 + 14 * number, text, "muted", size=11)
    for decade, text in ((0, "1"), (2, "100"), (4, "10⁴"), (6, "10⁶"), (8, "10⁸")):
        x = _BAR + decade * _DECADE
        anchor = "start" if decade == 0 else "middle"
        drawing.text(x, top + 86, text, "muted", size=10, anchor=anchor)
    if not state.race.axis.is_whole:
        drawing.text(_STRIP_RIGHT, top, "not to scale", "muted", size=10, anchor="end")


def _bar_end(visits: int) -> int:
    """Where a bar of so many visits ends: a logarithm in whole numbers, by the digits of a tenth power."""
    if visits < 1:
        return _BAR
    tenths = len(str(visits**_DECADE)) - 1
    return _BAR + min(max(tenths, 2), _DECADE * _DECADES)


def _row(drawing: Drawing, state: RaceState, row: Row, top: int) -> None:
    drawing.path(f"M{_LEFT} {top} H{_RIGHT}", "grid")
    drawing.text(_LEFT, top + 23, row.rule.title, size=13, weight=600)
    drawing.text(_LEFT, top + 39, row.rule.rule, "muted", size=10, mono=True)
    lanes = max(2, 1 + max(row.lanes, default=0))
    strip = top + _ROW_PAD + lanes * _CALL_STEP
    draw_calls(drawing, state.race, row, _STRIP_LEFT, _STRIP_RIGHT, strip, _CALL_STEP)
    ground = "hole" if row.name == state.selected else "paper"
    draw_strip(drawing, state.race, row.cells, _STRIP_LEFT, _STRIP_RIGHT, strip, ground)
    draw_marks(drawing, state.race, row.marks, _STRIP_LEFT, _STRIP_RIGHT, strip + _STRIP_HEIGHT)
    _bar(drawing, row.visits, _BAR_ROLES[row.verdict], top + 12)
    if row.priced:
        drawing.text(_BAR, top + 44, priced_words(row), "muted", size=10)
    _splits(drawing, row, top + 23)
    _verdict(drawing, row, top + 23)


def _bar(drawing: Drawing, visits: int, role: str, top: int) -> None:
    end = _bar_end(visits)
    if end > _BAR:
        drawing.rect(_BAR, top, end - _BAR, 13, drawing.palette[role])
    notches = "".join(f"M{x} {top} V{top + 13}" for x in range(_BAR + 2 * _DECADE, end, 2 * _DECADE))
    if notches:
        drawing.path(notches, "paper")
    ticks = "".join(f"M{_BAR + at * _DECADE} {top + 16} V{top + 19}" for at in range(0, _DECADES + 1, 2))
    drawing.path(f"M{_BAR} {top + 16} H{_BAR + _DECADES * _DECADE}{ticks}", "grid")
    drawing.text(end + 6, top + 11, group_digits(visits), weight=600, mono=True)


def _splits(drawing: Drawing, row: Row, y: int) -> None:
    """Glyphs for few, a number for many; a line for each sort."""
    for kind, number in (("needed", row.needed), ("needless", row.needless), ("missing", row.missing)):
        if not number:
            continue
        shown = number if number <= _FEW else 1
        draw_diamonds(drawing, kind, [(_SPLITS + 6 + 14 * at, y - 4) for at in range(shown)])
        if shown < number:
            drawing.text(_SPLITS + 18, y, group_digits(number), size=11)
        y += 15
    if not (row.needed or row.needless or row.missing):
        drawing.text(_SPLITS, y, "none", "muted", size=11)


def _verdict(drawing: Drawing, row: Row, y: int) -> None:
    role, x = _VERDICT_ROLES[row.verdict], _VERDICT + 9
    if row.verdict == "exact":
        drawing.circle(x, y - 4, 9, "good")
        drawing.path(f"M{x - 4} {y - 4} L{x - 1} {y - 1} L{x + 4} {y - 8}", "paper", width=2)
    elif row.verdict == "needless":
        drawing.path(f"M{x} {y - 14} L{x + 10} {y + 4} H{x - 10} Z", role, width=2)
        drawing.path(f"M{x} {y - 8} V{y - 2} M{x} {y} V{y + 2}", role, width=2)
    else:
        drawing.rect(x - 9, y - 13, 18, 18, drawing.palette["bad"])
        drawing.path(f"M{x - 4} {y - 8} L{x + 4} {y} M{x + 4} {y - 8} L{x - 4} {y}", "paper", width=2)
    for number, word in enumerate(VERDICTS[row.verdict].split(", ")):
        comma = "," if row.verdict == "needless" and number == 0 else ""
        drawing.text(x + 15, y + 15 * number, word + comma, role, weight=700)
    drawing.text(
        _RIGHT, y, group_digits(row.outside), role if row.outside else "muted", anchor="end", weight=600
    )


def _zap(drawing: Drawing, state: RaceState, top: int) -> None:
    drawing.path(f"M{_LEFT} {top} H{_RIGHT}", "line")
    drawing.text(_LEFT, top + 24, ZAP[0], size=13, weight=600)
    drawing.text(_STRIP_LEFT, top + 24, ZAP[1], "muted", size=11)
    _bar(drawing, state.race.zap_visits, "leaf3", top + 13)


def _calls(drawing: Drawing, state: RaceState, top: int) -> None:
    """The calls of the selected row."""
    row = state.row
    drawing.text(_LEFT, top, calls_heading(row), size=13, weight=700)
    drawing.text(_LEFT + 9 * len(calls_heading(row)) + 8, top, row.rule.idea, "muted")
    shown = row.calls if len(row.calls) <= _MOST_CALLS + 1 else row.calls[:_MOST_CALLS]
    y = top + 20
    for number, (call, visits) in enumerate(zip(shown, row.call_visits, strict=False), start=1):
        span, frames, what = call_words(state.race, call)
        for x, text, anchor in (
            (_LEFT + 16, f"{number}", "end"),
            (_LEFT + 28, span, "start"),
            (360, frames, "start"),
            (590, what, "start"),
        ):
            drawing.text(x, y, text, anchor=anchor, mono=True, size=11)
        drawing.text(
            _RIGHT,
            y,
            group_digits(visits) + (" visit" if visits == 1 else " visits"),
            anchor="end",
            mono=True,
            size=11,
        )
        y += 18
    if len(shown) < len(row.calls):
        drawing.text(_LEFT + 28, y, f"and {len(row.calls) - len(shown)} more", "muted")
    if not row.calls:
        drawing.text(_LEFT + 28, y, "nothing to do at either edge", "muted")


def _keys(drawing: Drawing, state: RaceState, top: int) -> None:
    """What is drawn how."""
    drawing.path(f"M{_LEFT} {top - 20} H{_RIGHT}", "grid")
    draw_legend(drawing, legend(state), _LEFT, top + 4)
    y = top + 29
    drawing.path(f"M25 {y} V{y - 6} H41 V{y}", "ink", width=2)
    drawing.path(f"M135 {y - 5} H151", "private", width=2, dash="4 3")
    drawing.path(f"M135 {y} V{y - 6} M151 {y} V{y - 6}", "private", width=2)
    drawing.path(arrow(271, y - 4), "ink", width=2)
    drawing.path("".join(comb(374, 395, y)), "line")
    for x, kind in ((500, "needed"), (652, "needless"), (764, "missing")):
        draw_diamonds(drawing, kind, [(x, y - 4)])
    for x, text in (
        (48, "a call to 4K"),
        (158, "to a larger leaf"),
        (282, "over no frame"),
        (400, "many leaves"),
        (511, "a split that had to be"),
        (663, "one too many"),
        (775, "one that is missing"),
    ):
        drawing.text(x, y, text, "muted")
    drawing.text(_LEFT, top + 53, FOOTNOTE, "muted", size=11)
