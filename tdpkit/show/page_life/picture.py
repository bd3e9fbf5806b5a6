"""The conversion stepper's picture of one step: a pure function of a story and a number."""

from __future__ import annotations

import textwrap
from zlib import crc32

from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.words import ACTORS

from ..drawing import Drawing
from ..theme import Palette
from .marks import LEFT, RIGHT, draw_glyph
from .strips import draw_strips
from .words import LOG_LINES, answer, counters, log_tail, pills, role, title, totals

_WIDTH, _HEIGHT = 1000, 690
_ANSWER_CHARACTERS = 118
_LONG_TITLE = 76
_PILLS = 88
_RAIL = 464
_RAIL_LEFT, _RAIL_RIGHT, _SIDE = 116, 640, 680
_LANE, _LOG_LINE = 24, 18


def life_svg(life: PageLife, at: int, palette: Palette, ids: str = "") -> str:
    """Step `at` (from 0) as an SVG string in the colours of `palette`; `ids` as for every picture."""
    said, name = answer(life, at), title(life)
    ids = ids or f"pl-{crc32(f'{name} {said}'.encode()):08x}"
    drawing = Drawing(_WIDTH, _HEIGHT, palette, ids)
    drawing.text(LEFT, 32, name, size=18 if len(name) <= _LONG_TITLE else 14, weight=700)
    for number, text in enumerate(textwrap.wrap(said, _ANSWER_CHARACTERS, break_on_hyphens=False)):
        drawing.text(LEFT, 54 + 18 * number, text, role(life, at), size=13, weight=600)
    _pills(drawing, life, at)
    draw_strips(drawing, life, at)
    _rail(drawing, life, at)
    _log(drawing, life, at)
    _counters(drawing, life, at, 624)
    _legend(drawing, 668)
    return drawing.svg(name, said)


def _pills(drawing: Drawing, life: PageLife, at: int) -> None:
    x = LEFT
    for text, kind in pills(life, at):
        width = 7 * len(text) + 20
        dash = "" if kind == "ink" else "4 3"
        drawing.path(f"M{x} {_PILLS} H{x + width} V{_PILLS + 24} H{x} Z", kind, dash=dash)
        drawing.text(x + width // 2, _PILLS + 16, text, kind, anchor="middle", weight=600)
        x += width + 10


def _rail(drawing: Drawing, life: PageLife, at: int) -> None:
    """Who acts, over the whole story; what is to come is pale."""
    top, count = _RAIL, len(life.steps)
    step = life.steps[at]
    drawing.text(LEFT, top - 8, "who acts", weight=700)
    doing = step.said.actor + (f" · {step.said.function}" if step.said.function else "")
    drawing.text(_RAIL_RIGHT, top - 8, doing, "ink", size=11, anchor="end", mono=True, weight=700)

    def x(number: int) -> int:
        return _RAIL_LEFT + (_RAIL_RIGHT - _RAIL_LEFT) * number // count

    bottom = top + 20 + _LANE * len(ACTORS)
    for number, (act, steps) in enumerate(life.acts.items(), 1):
        low, high = x(steps.start), x(steps.stop)
        now = at in steps
        if now:
            drawing.rect(low, top, high - low, bottom - top, drawing.palette["hole"])
        drawing.path(f"M{low} {top} V{bottom}", "line")
        text = act if 6 * len(act) + 8 <= high - low else f"{number}"
        if 6 * len(text) + 8 <= high - low:
            drawing.text(
                (low + high) // 2,
                top + 13,
                text,
                "ink" if now else "muted",
                anchor="middle",
                size=11,
                weight=700 if now else 400,
            )
    drawing.path(f"M{x(count)} {top} V{bottom}", "line")
    for lane, actor in enumerate(ACTORS):
        y = top + 20 + _LANE * lane
        drawing.text(LEFT, y + 15, actor, weight=700 if actor == step.said.actor else 400)
        drawing.path(f"M{_RAIL_LEFT} {y + 11} H{_RAIL_RIGHT}", "grid")
        for past in (True, False):
            ticks = [n for n, one in enumerate(life.steps) if one.said.actor == actor and (n <= at) == past]
            wide = max(2, (_RAIL_RIGHT - _RAIL_LEFT) // count - 2)
            d = "".join(f"M{x(n) + 1} {y + 4} H{x(n) + 1 + wide} V{y + 18} H{x(n) + 1} Z" for n in ticks)
            if d:
                drawing.path(d, fill="ink" if past else "grid")
    drawing.path(f"M{x(at)} {top + 17} H{x(at + 1) + 1} V{bottom} H{x(at)} Z", "ink", width=2)
    now_x = x(at) + max(1, (x(at + 1) - x(at)) // 2)
    drawing.path(f"M{now_x} {bottom + 2} L{now_x - 6} {bottom + 11} H{now_x + 6} Z", fill="ink")
    text = f"{at + 1} of {count}"
    half = 4 * len(text)
    middle = min(max(now_x, _RAIL_LEFT + half), _RAIL_RIGHT - half)
    drawing.text(middle, bottom + 25, text, anchor="middle", mono=True, weight=700)


def _log(drawing: Drawing, life: PageLife, at: int) -> None:
    drawing.text(_SIDE, _RAIL - 8, "SEAMCALLs and TDCALLs", weight=700)
    drawing.text(RIGHT, _RAIL - 8, "newest last", "muted", size=11, anchor="end")
    drawing.rect(_SIDE, _RAIL, RIGHT - _SIDE, LOG_LINES * _LOG_LINE + 10, drawing.palette["paper"], "grid")
    new = life.steps[at].calls > (life.steps[at - 1].calls if at else 0)
    lines = log_tail(life, at)
    for number, (count, text) in enumerate(lines):
        y = _RAIL + 17 + number * _LOG_LINE
        now = new and number == len(lines) - 1
        if now:
            drawing.rect(_SIDE + 1, y - 13, RIGHT - _SIDE - 2, _LOG_LINE, drawing.palette["leaf1"])
            drawing.rect(_SIDE + 1, y - 13, 4, _LOG_LINE, drawing.palette["ink"])
        drawing.text(_SIDE + 38, y, count, "ink" if now else "muted", anchor="end", mono=True, size=11)
        drawing.text(_SIDE + 46, y, text, size=11, weight=700 if now else 400)


def _counters(drawing: Drawing, life: PageLife, at: int, y: int) -> None:
    x = LEFT
    for value, caption, kind in counters(life, at):
        if kind == "bad":
            drawing.rect(x, y - 16, 18, 18, drawing.fill("lost"), "line")
            x += 24
        drawing.text(x, y, value, kind, size=20, weight=700)
        x += 13 * len(value) + 6
        drawing.text(x, y, caption, kind if kind != "ink" else "muted", weight=600 if kind != "ink" else 400)
        x += 7 * len(caption) + 20
    drawing.text(RIGHT, y - 22, totals(life), "muted", size=11, anchor="end")


def _legend(drawing: Drawing, y: int) -> None:
    states = (
        ("leaf2", "PRESENT", "A accepted (PRESENT)"),
        ("pending", "PENDING", "P PENDING"),
        ("blocked", "BLOCKED", "B BLOCKED"),
        ("pending-blocked", "PENDING_BLOCKED", "PB PENDING_BLOCKED"),
        ("hole", "", "FREE, not mapped"),
        ("zapped", "", "frozen"),
        ("lost", "", "lost"),
    )
    x = LEFT
    for kind, state, name in states:
        drawing.rect(x, y - 11, 16, 14, drawing.fill(kind), "line")
        x += 22
        if state:
            draw_glyph(drawing, state, x, y - 4)
            x += 11
        drawing.text(x, y, name, "muted", size=11)
        x += 6 * len(name) + 26
