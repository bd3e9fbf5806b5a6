"""The ledger's markup: a picture, a text and a table of one state, all pure functions of it.

At the top a bar of the verdicts. Below it on the left a row per claim; on the right, beside the chosen row, a
card that tells its claim whole. The card moves and the rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from tdpkit.lab.claims.claim import MAILS, Settled
from tdpkit.lab.words import capital, html_table

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture, Spot, box, shorten, text_width, wrap
from ..theme import Palette
from .state import BY_MAIL, Group, LedgerState
from .words import (
    MARKS,
    TITLE,
    answer,
    lesson_words,
    mail_words,
    row_words,
    whole,
)

_BAR, _LEAST = 26, 44
"""Height of the bar, and the least width of a verdict in it: room for a sign and two digits."""
_ROW, _GROUP = 20, 28
"""Heights of a row and of a group's name."""
_NAME, _SIGN, _TITLE, _BESIDE, _ROWS_END = LEFT, 64, 80, 370, 586
"""Columns of a row: C45, its sign, a title, its verdict or its mail; and where the card begins."""
_CARD, _TEXT = _ROWS_END, 602
"""Left ends of the card and of its texts."""
_ROOM = RIGHT - _TEXT - 8
"""For a line of the card."""
_LINE, _BUTTON = 16, 26
"""Heights of a line of the card, and of the button."""
_ID_LETTERS = 100 * _ROOM // (61 * 12)
"""Letters of a message-id on a line."""


def ledger_svg(state: LedgerState, palette: Palette, ids: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    said = answer(state)
    drawing = Drawing(WIDTH, 0, palette, ids, "cl")
    y = drawing.headed(TITLE, said, lines=2) + 14
    _bar(drawing, state, y)
    top = y + _BAR + 14
    tops = _tops(state, top)
    card = [*_card(state)]
    height = sum(line.height for line in card) + 16
    bottom = max(*tops.values(), top) + _ROW
    chosen = tops[state.told.claim.name]
    beside = min(max(chosen - 40, top), max(bottom - height, top))
    drawing.rect(_CARD, beside, RIGHT + 8 - _CARD, height, palette["hole"])
    drawing.rect(LEFT - 8, chosen, _CARD - LEFT + 8, _ROW, palette["hole"])
    drawing.path(_outline(chosen, beside, beside + height), "ink", width=2)
    _rows(drawing, state, tops)
    _write(drawing, state, card, beside + 8)
    drawing.height = max(bottom, beside + height) + 16
    return drawing.svg(TITLE, said)


def ledger_text(state: LedgerState) -> str:
    """`state` in plain text: the answer, then all there is to tell of each claim shown."""

    def line(one: Settled) -> str:
        told = " ".join(f"{capital(name)}: {_ended(text)}" for name, text in whole(one))
        return f"{_ended(row_words(one))} {_by(one)}. {told} Taught in {lesson_words(one)}."

    return "\n".join([f"{TITLE}. {answer(state)}", *map(line, state.rows)])


def _ended(text: str) -> str:
    """`text` with a full stop, unless it ends as a sentence does."""
    return text if text.endswith((".", ".”", "?", "…")) else f"{text}."


_COLUMNS = (
    "claim",
    "verdict",
    "by",
    "what it says",
    "how the thread left it",
    "what decides it",
    "taught in",
)


def ledger_table(state: LedgerState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""

    def cells(one: Settled) -> list[str | list[str]]:
        decides = [f"{name}: {text}" for name, text in [*whole(one)][2:]]
        return [
            f"{one.claim.name} {one.claim.title}",
            one.verdict,
            [f"{mail_words(mail, year=True)}, {MAILS[mail].message_id}" for mail in one.claim.mails],
            one.claim.says,
            one.claim.ended,
            decides,
            lesson_words(one),
        ]

    return html_table(
        f"{TITLE}. {answer(state)}",
        _COLUMNS,
        map(cells, state.rows),
        current=state.rows.index(state.told),
    )


def _by(one: Settled) -> str:
    return "; ".join(f"{mail_words(mail, year=True)} <{MAILS[mail].message_id}>" for mail in one.claim.mails)


# ---- the bar -------------------------------------------------------------------------------------------


def _bar(drawing: Drawing, state: LedgerState, top: int) -> None:
    """Each verdict with its number of claims, to press: only these are shown then."""
    numbers = [number for _, number in state.verdicts]
    room = RIGHT - LEFT - _LEAST * len(numbers)
    sums = enumerate(accumulate(numbers), 1)
    ends = [LEFT, *(LEFT + _LEAST * at + room * before // sum(numbers) for at, before in sums)]
    for (verdict, number), (left, right) in zip(state.verdicts, pairwise(ends), strict=True):
        role, sign = MARKS[verdict]
        drawing.rect(left, top, right - left - 2, _BAR, drawing.palette[role])
        words = f"{sign} {number} {verdict}"
        if text_width(words, weight=700) > right - left - 10:
            words = f"{sign} {number}"
        drawing.text((left + right) // 2 - 1, top + 17, words, "paper", anchor="middle", weight=700)
        chosen = verdict == state.verdict
        if chosen:
            drawing.path(box(left, top + _BAR + 3, right - 2, top + _BAR + 5), fill="ink")
        label = f"only those of the verdict “{verdict}”: {number}"
        drawing.spot(Spot(f"verdict:{verdict}", label, left, top, right - 2, top + _BAR, chosen))


# ---- the rows ------------------------------------------------------------------------------------------


def _tops(state: LedgerState, top: int) -> dict[str, int]:
    """Where the row of each claim begins, by its name."""
    tops = {}
    for group in state.groups:
        top += _GROUP
        for one in group.claims:
            tops[one.claim.name] = top
            top += _ROW
    return tops


def _rows(drawing: Drawing, state: LedgerState, tops: dict[str, int]) -> None:
    """The groups' names and the rows; texts of one look are one run."""
    for group in state.groups:
        _group_name(drawing, state.order, group, tops[group.claims[0].claim.name] - 6)
    rows = [(one, tops[one.claim.name] + 14) for one in state.rows]
    for one, y in rows:
        drawing.circle(_SIGN, y - 4, 8, MARKS[one.verdict][0])
    signs = ((_SIGN, y, MARKS[one.verdict][1]) for one, y in rows)
    drawing.texts(signs, "paper", anchor="middle", weight=700)
    drawing.texts(((_NAME, y, one.claim.name) for one, y in rows), weight=700, mono=True)
    titles = ((_TITLE, y, shorten(one.claim.title, _BESIDE - _TITLE - 8)) for one, y in rows)
    drawing.texts(titles)
    if state.order == BY_MAIL:
        for verdict, (role, _) in MARKS.items():
            same = ((_BESIDE, y, verdict) for one, y in rows if one.verdict == verdict)
            drawing.texts(same, role, weight=600)
    else:
        drawing.texts(((_BESIDE, y, mail_words(one.claim.mails[0])) for one, y in rows), "muted")
    for one, y in rows:
        chosen = one is state.told
        top = y - 14
        drawing.spot(Spot(f"row:{one.claim.name}", row_words(one), LEFT - 8, top, _CARD, top + _ROW, chosen))


def _group_name(drawing: Drawing, order: str, group: Group, y: int) -> None:
    """The mail, or the verdict, whose claims follow."""
    drawing.path(f"M{LEFT} {y + 5} H{_CARD - 8}", "grid")
    if order == BY_MAIL:
        drawing.text(LEFT, y, mail_words(group.name, year=True), weight=700)
    else:
        role, _ = MARKS[group.name]
        drawing.text(LEFT, y, f"{group.name}: {len(group.claims)}", role, weight=700)


# ---- the card ------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A line of the card: `look` names its look; `gap` is the room above it."""

    text: str
    look: str
    gap: int = 0

    @property
    def height(self) -> int:
        return self.gap + (_BUTTON if self.look == "button" else _LINE)


def _card(state: LedgerState) -> Iterator[_Line]:
    """All there is to tell of the chosen claim, line by line."""
    one = state.told
    for text in wrap(f"{one.claim.name}  {one.claim.title}", _ROOM, 14, weight=700):
        yield _Line(text, "title", 2)
    yield _Line(one.verdict, "verdict", 4)
    for mail in one.claim.mails:
        yield _Line(mail_words(mail, year=True), "strong", 6)
        written = MAILS[mail].message_id
        for at in range(0, len(written), _ID_LETTERS):
            yield _Line(written[at : at + _ID_LETTERS], "id")
    for name, told in (*whole(one), ("taught in", lesson_words(one))):
        yield _Line(name, "head", 8)
        for text in wrap(told, _ROOM, 12, weight=400):
            yield _Line(text, "text")
    if one.claim.experiment:
        yield _Line("run its experiment again", "button", 10)
    for text in wrap(state.ran, _ROOM, 12, weight=600):
        yield _Line(text, "strong", 2)


_LOOKS: dict[str, dict[str, Any]] = {
    "title": {"size": 14, "weight": 700},
    "strong": {"weight": 600},
    "id": {"role": "muted", "mono": True},
    "head": {"role": "muted", "weight": 600},
    "text": {},
}


def _write(drawing: Drawing, state: LedgerState, card: list[_Line], y: int) -> None:
    """The card's lines, from `y` on; lines of one look are one run."""
    runs: dict[str, list[tuple[int, int, str]]] = {look: [] for look in _LOOKS}
    for line in card:
        top = y + line.gap
        y += line.height
        if line.look == "verdict":
            role, sign = MARKS[line.text]
            drawing.circle(_TEXT + 8, top + 8, 8, role)
            drawing.text(_TEXT + 8, top + 12, sign, "paper", anchor="middle", weight=700)
            drawing.text(_TEXT + 24, top + 13, line.text, role, size=14, weight=700)
        elif line.look == "button":
            _button(drawing, state.told.claim.name, line.text, top)
        else:
            runs[line.look].append((_TEXT, top + 12, line.text))
    for look, places in runs.items():
        drawing.texts(places, **_LOOKS[look])


def _button(drawing: Drawing, name: str, text: str, top: int) -> None:
    """The button that runs the experiment of the chosen claim."""
    right, bottom = _TEXT + text_width(text, weight=600) + 20, top + _BUTTON
    drawing.path(box(_TEXT, top, right, bottom), "line", fill="paper")
    drawing.text((_TEXT + right) // 2, top + 17, text, anchor="middle", weight=600)
    drawing.spot(Spot(f"run:{name}", f"run the experiment of {name} again", _TEXT, top, right, bottom))


def _outline(chosen: int, top: int, bottom: int) -> str:
    """Around the chosen row and the card, as one."""
    right = RIGHT + 8
    below = chosen + _ROW
    return f"M{LEFT - 8} {chosen} H{_CARD} V{top} H{right} V{bottom} H{_CARD} V{below} H{LEFT - 8} Z"
