"""The two-trees picture: above what is asked (filter, root types, roots), below the trees it reaches."""

from __future__ import annotations

import textwrap
from zlib import crc32

from tdpkit.engine.gfn import format_gfn
from tdpkit.lab.two_roots import FILTERS, TYPE_BITS, RootSeen, RootsOutcome

from ..drawing import Drawing
from ..strips import draw_legend
from ..theme import Palette
from .panels import LEFTS, draw_panels
from .words import TITLE, indices, match_words, returned, shared_bit_words

_WIDTH, _HEIGHT, _LEFT, _RIGHT = 1000, 800, 24, 976
_ANSWER_CHARACTERS = 118
_CHAIN, _CHAIN_BOTTOM = 88, 212
_ASKED, _FILTER, _TYPES, _ROOTS = 36, 300, 448, 654
"""Where the links of the chain begin."""
_LEGEND = (
    ("leaf2", "2M leaves"),
    ("crossing", "was split"),
    ("split", "its new 4K leaves"),
    ("lost", "zapped, private"),
    ("refaulted", "zapped, shared"),
    ("hole", "nothing mapped"),
)


def two_trees_svg(outcome: RootsOutcome, palette: Palette, ids: str = "") -> str:
    """`outcome` as an SVG string in the colours of `palette`; always of one size.

    `ids` prefixes every id in it; by default it follows from what is asked.
    """
    ids = ids or f"tt-{crc32(repr(outcome.question).encode()):08x}"
    drawing = Drawing(_WIDTH, _HEIGHT, palette, ids)
    drawing.text(_LEFT, 32, TITLE, size=18, weight=700)
    role = "bad" if outcome.warnings or outcome.wrong_root else "muted"
    for number, text in enumerate(textwrap.wrap(outcome.answer, _ANSWER_CHARACTERS, break_on_hyphens=False)):
        drawing.text(_LEFT, 56 + 18 * number, text, role, size=13, weight=600)
    _chain(drawing, outcome)
    draw_panels(drawing, outcome)
    _paths(drawing, outcome)
    draw_legend(drawing, _LEGEND, _LEFT, 786)
    return drawing.svg(TITLE, outcome.answer)


# ---- what is asked ------------------------------------------------------------------------------------


def _chain(drawing: Drawing, outcome: RootsOutcome) -> None:
    drawing.rect(_LEFT, _CHAIN, _RIGHT - _LEFT, _CHAIN_BOTTOM - _CHAIN, drawing.palette["paper"], "grid")
    drawing.text(_ASKED, _CHAIN + 20, "operation on [g, g+1)", weight=600)
    drawing.text(_ASKED, _CHAIN + 40, outcome.operation.function, mono=True, size=11, weight=700)
    drawing.text(_ASKED, _CHAIN + 60, f"g = {outcome.gfn:#x}", mono=True, size=11)
    drawing.text(_ASKED, _CHAIN + 76, f"  = {format_gfn(outcome.gfn)}", mono=True, size=11)
    value = FILTERS[outcome.question.filter]
    said = f"= {value}" if outcome.filter_read else "not looked at"
    bits = {"PRIVATE": FILTERS["private"], "SHARED": FILTERS["shared"]}
    _bits(drawing, _FILTER, "filter", said, bits, value if outcome.filter_read else None)
    _arrow(drawing, 416)
    said = f"= {outcome.types}" if outcome.types is not None else "none: root.hpa"
    _bits(drawing, _TYPES, "root types", said, TYPE_BITS, outcome.types)
    _arrow(drawing, 620)
    _roots(drawing, outcome)
    drawing.text(_ASKED, _CHAIN + 108, returned(outcome), weight=600)
    for number, warning in enumerate(outcome.warnings):
        y = _CHAIN + 101 + 16 * number
        drawing.text(_RIGHT - 12, y, warning, "bad", mono=True, size=11, anchor="end", weight=700)


def _bits(drawing: Drawing, left: int, name: str, said: str, bits: dict[str, int], value: int | None) -> None:
    """A word of bits: those that are set are dark; dashed where nobody looks at it."""
    drawing.text(left, _CHAIN + 20, name, weight=600)
    x = left + 7 * len(name) + 6
    drawing.text(x, _CHAIN + 20, said, "ink" if value is not None else "muted", weight=700, size=11)
    for number, (bit_name, bit) in enumerate(bits.items()):
        x, top, on = left + 56 * number, _CHAIN + 30, bool((value or 0) & bit)
        box = f"M{x} {top} H{x + 52} V{top + 32} H{x} Z"
        fill, dash = ("ink" if on else "paper"), ("" if value is not None else "3 3")
        drawing.path(box, "line", fill=fill, dash=dash)
        text = f"{bit}" if on else "–"
        role = "paper" if on else "muted"
        drawing.text(x + 26, top + 21, text, role, anchor="middle", size=14, weight=700, mono=True)
        role = "ink" if on else "muted"
        drawing.text(x + 26, top + 48, bit_name, role, anchor="middle", size=11, weight=600 if on else 400)


def _arrow(drawing: Drawing, x: int) -> None:
    y = _CHAIN + 46
    drawing.path(f"M{x} {y} H{x + 22} M{x + 16} {y - 5} L{x + 22} {y} L{x + 16} {y + 5}", "ink")


def _roots(drawing: Drawing, outcome: RootsOutcome) -> None:
    """Which of the VM's roots match, and what those that do not would need."""
    drawing.text(_ROOTS, _CHAIN + 20, "roots of this VM", weight=600)
    question = "match?" if outcome.types is not None else "root.hpa?"
    drawing.text(_RIGHT - 12, _CHAIN + 20, question, "muted", anchor="end")
    roots = {root.name: root for root in outcome.roots}
    for number, name in enumerate(("direct", "invalid direct", "mirror")):
        y = _CHAIN + 42 + 21 * number
        if name in roots:
            _root(drawing, outcome, roots[name], y)
        else:
            drawing.path(f"M{_ROOTS} {y - 11} H{_ROOTS + 14} V{y + 3} H{_ROOTS} Z", "grid", dash="2 2")
            drawing.text(_ROOTS + 24, y, f"no {name} root", "muted")


def _root(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, y: int) -> None:
    fill = "paper" if root.is_mirror else "leaf3" if root.valid else "leaf1"
    drawing.rect(_ROOTS, y - 11, 14, 14, drawing.palette[fill], "ink")
    weight = 700 if root.matches else 400
    drawing.text(_ROOTS + 24, y, root.name, "ink" if root.matches else "muted", weight=weight)
    drawing.text(_RIGHT - 40, y, match_words(outcome, root), "muted", size=11, anchor="end")
    x = _RIGHT - 21
    if root.matches:
        role = "bad" if outcome.wrong_root else "good"
        drawing.circle(x, y - 4, 8, role)
        drawing.path(f"M{x - 4} {y - 4} L{x - 1} {y - 1} L{x + 4} {y - 7}", "paper", width=2)
    else:
        drawing.path(f"M{x - 6} {y - 4} H{x + 6}", "muted", width=2)


# ---- the paths ----------------------------------------------------------------------------------------


def _paths(drawing: Drawing, outcome: RootsOutcome) -> None:
    for root in outcome.roots:
        if root.valid:
            of = "g | S" if outcome.is_td and not root.is_mirror else "g"
            text = f"path({of}) = {indices(root)}"
            drawing.text(LEFTS[root.is_mirror] + 12, 736, text, mono=True, weight=700)
    drawing.text(LEFTS[0] + 12, 756, shared_bit_words(outcome), "muted")
