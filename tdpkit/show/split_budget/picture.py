"""The split budget's markup: a picture, lines and a table of one state, all pure functions of it.

At the top the guest, its range, and the leaves to split. Below: five numbers that tell the story; the
arithmetic, a line per size of leaf; and a row per kind of page. In a row each page is a box, outlined as
predicted, filled if the engine used it, dashed up to the bound; on the right, to one scale, a cache filled to
split the whole range, with what the split takes of it.
"""

from __future__ import annotations

from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.lab.words import capital, group_digits, html_table

from ..drawing import LEFT, LINE, RIGHT, WIDTH, Drawing, Key, Picture, box, text_width, wrap
from ..strips import (
    STRIP_HEIGHT,
    Cell,
    Strip,
    draw_borders,
    draw_boxes,
    draw_legend,
    draw_names,
    draw_range,
    name_edges,
    name_where_room,
    track_of,
    x_of,
)
from ..theme import Palette
from .state import BudgetState
from .words import (
    KIND_LABELS,
    SPLIT_LABELS,
    TITLE,
    PageRow,
    Sum,
    answer,
    counters,
    design_words,
    guest_words,
    notes,
    page_rows,
    sums,
    topup_words,
    verdict_words,
)

_STRIP, _COUNTERS, _SUMS, _PAGES = 116, 212, 260, 326
"""Top of the strip, below an answer of two lines; bases of the numbers, and of the heads of both tables."""
_SUM_START, _SUM_END, _SUM_TABLES = 130, 460, 976
"""Columns of the arithmetic: the longest block of the x86 guest has room."""
_ROW = 36
"""A row of pages: a name, and below it what the pages are for."""
_BOXES, _BOX, _BOX_STEP, _MOST_BOXES = 206, 13, 16, 10
"""Left end of the boxes; a page's box, and from one to the next; more pages than these are a bar."""
_BAR = _MOST_BOXES * _BOX_STEP - 3
_NEED, _USED, _BOUND = 436, 502, 568
"""Where the numbers end, so that their digits stand below each other: six digits and a space each."""
_CACHE, _CACHE_WIDTH, _HELD, _IDLE = 596, 234, 900, 976
"""The cache's bar, and where its two numbers end."""
_VERDICT = 690
"""Where a cache design's verdict begins, right of the longest rule."""
_SLIVER = 2
"""What is used of a cache is seen, however little it is."""


def budget_svg(state: BudgetState, palette: Palette, ids: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    drawing = Drawing(WIDTH, 0, palette, ids, "sb")
    said = answer(state)
    drawing.headed(TITLE, said, lines=2)
    _guest(drawing, state)
    leaves = {*drawing.filled}
    drawing.counters(_COUNTERS, counters(state))
    _arithmetic(drawing, state)
    y = _pages(drawing, state)
    for text, role in notes(state):
        drawing.text(LEFT, y, text, role)
        y += LINE
    if state.designs:
        y = _designs(drawing, state, y + 16)
    drawing.height = _legend(drawing, state, leaves, y + 10) + 16
    return drawing.svg(TITLE, said)


def budget_text(state: BudgetState) -> str:
    """`state` in plain text: the answer, then a line per kind of page, and per size of leaf."""
    lines = [f"{TITLE}. {answer(state)}", _asked(state)]
    lines += [f"{row.name}: {', '.join(_row_words(row))}" for row in page_rows(state)]
    lines += [f"tables from {one.size}: {one.tables}; {_edges_words(one)}" for one in sums(state)]
    lines += [f"{design.name}: {design_words(design)}" for design in state.designs]
    return "\n".join([*lines, *_notes(state)])


def budget_table(state: BudgetState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    heads = ("pages", "for", "predicted", "used", "bound", "held for the whole range", "of these idle")
    rows = [
        (row.name, row.why, *(_number(n) for n in (row.need, row.used, row.bound, row.whole, row.idle)))
        for row in page_rows(state)
    ]
    arithmetic = [
        (f"tables from {one.size}", _edges_words(one), one.tables, *[""] * 4) for one in sums(state)
    ]
    designs = [(design.name, design_words(design), *[""] * 5) for design in state.designs]
    caption = " ".join([f"{TITLE}. {answer(state)}", f"{_asked(state)}.", *_notes(state)])
    return html_table(caption, heads, [*rows, *arithmetic, *designs])


def _notes(state: BudgetState) -> list[str]:
    return [text for text, _ in notes(state)]


def _asked(state: BudgetState) -> str:
    """What is split, in which VM."""
    span = state.names.span(state.span.start, state.span.end)
    return f"{KIND_LABELS[state.kind]}, {guest_words(state)}; {SPLIT_LABELS[state.split]} of {span}"


def _row_words(row: PageRow) -> list[str]:
    told = [f"{group_digits(row.need)} predicted"]
    told.append("the engine was not run" if row.used is None else f"{group_digits(row.used)} used")
    held = f"{group_digits(row.whole)} held for the whole range, {group_digits(row.idle)} of these idle"
    return [*told, f"bound {group_digits(row.bound)}", held]


def _edges_words(one: Sum) -> str:
    """What is at the start, and what at the end."""
    return f"{one.start}; {one.end}".strip("; ")


def _number(number: int | None) -> str:
    return "–" if number is None else group_digits(number)


# ---- the guest -----------------------------------------------------------------------------------------


def _guest(drawing: Drawing, state: BudgetState) -> None:
    """The guest with the leaves to split, and below it the range with the names of its edges."""
    names, span, strip = state.names, state.span, _strip(state)
    drawing.text(LEFT, _STRIP - 24, guest_words(state), weight=600)
    draw_boxes(drawing, strip, LEFT, RIGHT, _STRIP)
    draw_borders(drawing, strip, LEFT, RIGHT, _STRIP)
    drawing.track(track_of("range", strip, LEFT, RIGHT, _STRIP))
    low, high = (x_of(edge, strip, LEFT, RIGHT) for edge in (span.start, span.end))
    axis = _STRIP + STRIP_HEIGHT + 6
    draw_range(drawing, low, high, axis, 5, 3)
    places = name_edges([(low, names.frame(span.start)), (high, names.frame(span.end))], LEFT, RIGHT)
    draw_names(drawing, places, axis + 20, "range")
    words, between = f"the range: {names.size(span.pages)}", (places[0].high, places[-1].low)
    if text_width(words) + 16 <= between[1] - between[0]:
        drawing.text(sum(between) // 2, axis + 20, words, "range", anchor="middle")
    if state.size == "few":
        _few(drawing, state, strip)


def _strip(state: BudgetState) -> Strip:
    geometry, span = state.layout.geometry, state.span
    cells = [
        Cell(run.gfn, run.gfn + run.count * geometry.pages(run.level), f"leaf{run.level}")
        for run in state.layout.leaves
    ]
    huge = [run for run in state.layout.leaves if run.level > PG_LEVEL_4K]
    for run in huge:
        pages = geometry.pages(run.level)
        last = run.gfn + run.count * pages
        inside = [x for x in (span.start, span.end) if run.gfn < x < last and x % pages]
        if state.split == "everything":
            low, high = (
                max(run.gfn, span.start - span.start % pages),
                min(last, -(-span.end // pages) * pages),
            )
            cells += [Cell(low, high, "split")] * (low < high)
        else:
            firsts = sorted({x - x % pages for x in inside})
            cells += [Cell(first, first + pages, "crossing") for first in firsts]
    entry = min(geometry.pages(run.level) for run in state.layout.leaves)
    within = tuple((run.gfn, run.gfn + geometry.pages(run.level)) for run in huge) if entry == 1 else ()
    return Strip("", "", 0, state.layout.frames, tuple(cells), (0, entry), within)


def _few(drawing: Drawing, state: BudgetState, strip: Strip) -> None:
    """Names over the two huge leaves, which are thinner than a line on x86."""
    names = state.names
    pages = state.layout.geometry.pages(2)
    leaves = [(x_of(gfn + pages // 2, strip, LEFT, RIGHT), gfn) for gfn in state.guest.few]
    named = [(x, f"{names.leaves_of(2)} at {names.frame(gfn)}") for x, gfn in leaves]
    draw_names(drawing, name_where_room(named, (), LEFT, RIGHT), _STRIP - 7)
    drawing.path("".join(f"M{x} {_STRIP - 5} V{_STRIP}" for x, _ in leaves), "ink", width=2)


# ---- the arithmetic ------------------------------------------------------------------------------------


def _arithmetic(drawing: Drawing, state: BudgetState) -> None:
    """A line per size of leaf: what its blocks are at both edges, and the tables that makes."""
    heads = ((LEFT, "arithmetic"), (_SUM_START, "at the start"), (_SUM_END, "at the end"))
    for x, text in heads:
        drawing.text(x, _SUMS, text, weight=700)
    drawing.text(_SUM_TABLES, _SUMS, "tables", anchor="end", weight=700)
    for number, one in enumerate(sums(state)):
        y = _SUMS + 20 + 20 * number
        drawing.text(LEFT, y, f"of {one.size}", one.role)
        drawing.text(_SUM_START, y, one.start, one.role)
        drawing.text(_SUM_END, y, one.end, one.role)
        drawing.text(_SUM_TABLES, y, one.tables, one.role, anchor="end", weight=600)


# ---- pages ---------------------------------------------------------------------------------------------


def _pages(drawing: Drawing, state: BudgetState) -> int:
    """A row per kind of page; the base of the line below them."""
    drawing.text(LEFT, _PAGES, "pages", weight=700)
    for x, text in (
        (_NEED, "predicted"),
        (_USED, "used"),
        (_BOUND, "bound"),
        (_HELD, "held"),
        (_IDLE, "idle"),
    ):
        drawing.text(x, _PAGES, text, anchor="end", weight=700)
    drawing.text(_CACHE, _PAGES, "a cache for the whole range", weight=700)
    rows = page_rows(state)
    scale = max(row.whole for row in rows)
    for number, row in enumerate(rows):
        top = _PAGES + 8 + _ROW * number
        drawing.path(f"M{LEFT} {top} H{RIGHT}", "grid")
        drawing.text(LEFT, top + 15, row.name, weight=600)
        drawing.text(LEFT, top + 30, row.why, "muted")
        _taken(drawing, row, top + 13)
        _cache(drawing, row, scale, top + 13)
        for x, value in ((_NEED, row.need), (_USED, row.used), (_BOUND, row.bound), (_HELD, row.whole)):
            drawing.text(x, top + 23, _number(value), anchor="end", weight=600)
        drawing.text(
            _IDLE,
            top + 23,
            _number(row.idle),
            "crossing-mark" if row.idle else "ink",
            anchor="end",
            weight=600,
        )
    bottom = _PAGES + 8 + _ROW * len(rows)
    drawing.path(f"M{LEFT} {bottom} H{RIGHT}", "grid")
    return bottom + 20


def _taken(drawing: Drawing, row: PageRow, top: int) -> None:
    """A box per page: predicted, used, and up to the bound; a bar if there are many."""
    if row.bound <= _MOST_BOXES:
        lefts = [_BOXES + _BOX_STEP * number for number in range(row.bound)]
        for left in lefts[: row.used or 0]:
            drawing.rect(left, top, _BOX, _BOX, drawing.fill("split"))
        outlines = [box(left, top, left + _BOX, top + _BOX) for left in lefts]
        drawing.path("".join(outlines[: row.need]), "split-mark", width=2)
        drawing.path("".join(outlines[row.need :]), "line", dash="3 2")
        return
    need, used = (_length(_BAR, pages, row.bound) for pages in (row.need, row.used or 0))
    if used:
        drawing.rect(_BOXES, top, used, _BOX, drawing.fill("split"))
    drawing.path(box(_BOXES, top, _BOXES + _BAR, top + _BOX), "line", dash="3 2")
    if need:
        drawing.path(box(_BOXES, top, _BOXES + need, top + _BOX), "split-mark", width=2)


def _cache(drawing: Drawing, row: PageRow, scale: int, top: int) -> None:
    """The cache to scale, what the split takes of it filled, the rest empty."""
    if row.whole:
        held = max(_length(_CACHE_WIDTH, row.whole, scale), _SLIVER)
        taken = min(_length(_CACHE_WIDTH, row.need, scale), held)
        drawing.rect(_CACHE, top, held, _BOX, drawing.fill("hole"), "line")
        if taken:
            drawing.rect(_CACHE, top, taken, _BOX, drawing.fill("split"), "split-mark")


def _length(width: int, pages: int, scale: int) -> int:
    """So many pages on a bar of `width` for `scale` of them; none are nothing, few a sliver."""
    return max(width * pages // scale, _SLIVER) if pages else 0


# ---- cache designs, legend -----------------------------------------------------------------------------


def _designs(drawing: Drawing, state: BudgetState, y: int) -> int:
    """A design of the PAMT cache in each row; below one that fails why, and the schedule."""
    drawing.text(LEFT, y, "designs of the PAMT cache, in every schedule of two conversions", weight=700)
    for design in state.designs:
        role, sign = ("good", "✓") if design.survives else ("bad", "✗")
        y += LINE + 4
        drawing.text(LEFT, y, sign, role, weight=700)
        drawing.text(LEFT + 18, y, design.name, weight=600)
        drawing.text(_BOXES, y, design.rule, "muted")
        drawing.text(_VERDICT, y, verdict_words(design), role, weight=600)
        drawing.text(RIGHT, y, topup_words(design), anchor="end")
        if not design.survives:
            for text in wrap(capital(design.why), RIGHT - _BOXES, 12, weight=400):
                y += LINE
                drawing.text(_BOXES, y, text, role)
            for text in wrap(design.witness, RIGHT - _BOXES, 12, weight=400, mono=True):
                y += LINE
                drawing.text(_BOXES, y, text, "muted", mono=True)
    return y + LINE


def _legend(drawing: Drawing, state: BudgetState, leaves: set[str], y: int) -> int:
    """The kinds of `leaves` on the strip; then the boxes."""
    kinds = {f"leaf{level}": state.names.leaves_of(level) for level in (3, 2, 1)}
    kinds |= {"crossing": "crosses an edge: to be split", "split": "to be split to 4K"}
    y = draw_legend(drawing, [(kind, name) for kind, name in kinds.items() if kind in leaves], LEFT, y)

    def predicted(x: int, base: int) -> None:
        drawing.path(box(x, base - 10, x + _BOX, base - 10 + _BOX), "split-mark", width=2)

    def used(x: int, base: int) -> None:
        drawing.rect(x, base - 10, _BOX, _BOX, drawing.fill("split"))
        predicted(x, base)

    def bound(x: int, base: int) -> None:
        drawing.path(box(x, base - 10, x + _BOX, base - 10 + _BOX), "line", dash="3 2")

    def idle(x: int, base: int) -> None:
        drawing.rect(x, base - 10, 22, _BOX, drawing.fill("hole"), "line")

    keys = [
        Key(predicted, _BOX, "a page predicted"),
        Key(used, _BOX, "and used by the engine"),
        Key(bound, _BOX, "up to the bound"),
        Key(idle, 22, "held in a cache, idle"),
    ]
    return drawing.keys(y + 22, keys)
