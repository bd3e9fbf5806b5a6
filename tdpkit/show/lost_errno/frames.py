"""What is true in the end: for one caller what is on record, frame by frame, and what the S-EPT holds."""

from __future__ import annotations

from itertools import groupby

from tdpkit.lab.lost_errno import FRAMES, CallerRow
from tdpkit.tdx.module import SeptState

from ..drawing import Drawing
from ..strips import draw_legend
from .words import guest_words, mapped_words, record_words

STATE_LEFT = 704
_CELL = 17
_LANE = 18
_MARKS = {
    "all done": ("good", "✓"),
    "failed, and said so": ("crossing-mark", "!"),
    "failed, said nothing": ("bad", "✗"),
    "frames lost": ("bad", "✗"),
}
_ON_RECORD = {"conversion": "shared", "punch hole": "hole", "ACCEPT": "4K only", "memory failure": "✗"}
_LEGEND = (
    ("leaf2", "8-frame leaf"),
    ("leaf1", "4K leaves"),
    ("refaulted", "PENDING"),
    ("hole", "not mapped, as asked"),
    ("crossing", "still mapped, and no errno said so"),
    ("lost", "lost: outside, and gone"),
)


def draw_state(drawing: Drawing, row: CallerRow, top: int) -> None:
    """Two lanes of frames, what the guest reads, and the verdict; `top` is the row's."""
    drawing.text(STATE_LEFT, top + 20, record_words(row), size=11)
    _record(drawing, row, top + 26)
    drawing.text(STATE_LEFT, top + 60, mapped_words(row), size=11)
    _mapped(drawing, row, top + 66)
    wrong = bool(row.lost or row.stale)
    drawing.text(STATE_LEFT, top + 100, guest_words(row), "bad" if wrong else "muted", size=11)
    role, glyph = _MARKS[row.verdict]
    drawing.circle(STATE_LEFT + 8, top + 120, 8, role)
    drawing.text(STATE_LEFT + 8, top + 124, glyph, "paper", size=12, weight=700, anchor="middle")
    drawing.text(STATE_LEFT + 22, top + 125, row.verdict, role, size=14, weight=700)


def _x(gfn: int) -> int:
    return STATE_LEFT + _CELL * gfn


def _record(drawing: Drawing, row: CallerRow, top: int) -> None:
    """What is on record: filled where it is."""
    on = row.record
    drawing.path(_box(0, FRAMES, top), "line", fill="paper")
    if on is None:
        return
    drawing.path(_box(on.start, on.end, top), "ink", fill="ink")
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
    drawing.path(borders + _box(FRAMES // 2, FRAMES, top) + _box(0, FRAMES // 2, top), "line")


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


def _box(first: int, last: int, top: int) -> str:
    return f"M{_x(first)} {top} H{_x(last)} V{top + _LANE} H{_x(first)} Z"


def draw_state_legend(drawing: Drawing, y: int) -> None:
    """What the kinds of frames are."""
    draw_legend(drawing, _LEGEND, 24, y)
