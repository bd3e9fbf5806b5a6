"""The two-trees markup: a picture, a text and a table of one outcome, all pure functions of it.

Above is what is asked: filter, root types, roots. Below are the trees: strips by level, with a needle where
g's path goes. A TD has panels for its live roots (direct, mirror) and below them for an invalid direct root
and the S-EPT; a plain VM's one tree takes the room of all that it does not have.

The filter's bits, and what the VM has, can be pressed; along the strips of the live roots g can be dragged.
"""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_5LEVEL, format_gfn, tdp_mmu_max_gfn_exclusive
from tdpkit.lab.two_roots import FILTERS, TYPE_BITS, PathStep, RootSeen, RootsOutcome
from tdpkit.lab.words import count_of, html_table

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture, Spot, Track, box, text_width, tick
from ..strips import draw_legend
from ..theme import Palette
from .words import TITLE, indices, leaf_words, match_words, returned, setting, shared_bit_words, tdx_side

_HEIGHT = 660
_ANSWER_LINES = 2
_CHAIN, _CHAIN_BOTTOM = 84, 198
"""The frame around what is asked, with room for two warnings in its last line."""
_ASKED, _FILTER, _TYPES, _ROOTS = 36, 312, 458, 666
"""The links of the chain begin here: the longest function name, two bits, three bits, the roots."""
_BIT, _BIT_STEP, _BIT_HEIGHT = 56, 62, 30
"""Boxes of bits: as wide as the name INVALID below them."""
_ROW = 24
"""From one root of the VM to the next: what is pressed there has room for a finger."""
_TOP, _MIDDLE, _BOTTOM = 208, 460, 612
_APART = 10
"""The upper panels end so far above the middle."""
_HALF = 456
"""The left panels end here, and the right ones as far from the middle: between them the levels are named."""
_GUTTER = 96
"""Room for the names of levels inside a panel."""
_ENTRIES_TOP, _THIN_TOP = 64, 58
"""From the top of a panel to its first strip, above and below."""
_STRIP, _TALL, _THIN = 20, 32, 11
"""Heights of a strip: above, alone, and below."""
_THIN_STEP = {4: 20, 5: 15}
_INSET = 5
"""Beside the name of a TDX side's step, in its box: the five of a removal fit a panel."""
_LEAF = 11
"""Width of g's own entry, which at scale would be less than one unit."""
_PALE = ".5"
"""Strips of a tree that is not reached are paler; words never are."""
_WEDGE = ".25"
"""Words that stand on a wedge are read as well as those beside it."""
_ENTRIES = X86_5LEVEL.entries
_LEGEND = (
    ("leaf2", "2M leaves"),
    ("crossing", "was split"),
    ("split", "its new 4K leaves"),
    ("lost", "zapped: lost"),
    ("refaulted", "zapped: re-faulted"),
    ("hole", "nothing mapped"),
)
_COLUMNS = ("root", "types needed", "matches", "path of g", "leaf at g before", "leaf at g after", "effect")


def two_trees_svg(outcome: RootsOutcome, palette: Palette, ids: str = "") -> Picture:
    """`outcome` as an SVG string in the colours of `palette`, always of one size; `ids` prefixes its ids."""
    drawing = Drawing(WIDTH, _HEIGHT, palette, ids, "tt")
    wrong = outcome.warnings or outcome.wrong_root or outcome.lost
    drawing.headed(TITLE, outcome.answer, "bad" if wrong else "ink", _ANSWER_LINES)
    _chain(drawing, outcome)
    _panels(drawing, outcome)
    drawing.text(LEFT, _BOTTOM + 18, shared_bit_words(outcome), "muted")
    draw_legend(drawing, _LEGEND, LEFT, _HEIGHT - 8)
    return drawing.svg(TITLE, outcome.answer)


def two_trees_text(outcome: RootsOutcome) -> str:
    """`outcome` in plain text: the answer, then a line per root."""
    lines = [f"{TITLE} {outcome.answer}", setting(outcome)]
    for root in outcome.roots:
        match = "matches" if root.matches else match_words(outcome, root) or "is not root.hpa"
        lines.append(f"{root.name} root: path {indices(root)}, {match}, {root.effect}")
    if outcome.tdx_steps:
        lines.append(f"TDX side: {tdx_side(outcome)}")
    return "\n".join([*lines, shared_bit_words(outcome), *outcome.warnings])


def two_trees_table(outcome: RootsOutcome) -> str:
    """`outcome` as an HTML table for those who read rather than look: the picture's text twin."""

    def cells(root: RootSeen) -> tuple[str, ...]:
        missing = match_words(outcome, root)
        return (
            root.name,
            " + ".join(root.needs) if outcome.types is not None else "none: root.hpa",
            "yes" if root.matches else f"no, {missing}" if missing else "no",
            indices(root),
            leaf_words(root.level_before),
            leaf_words(root.level_after),
            root.effect,
        )

    said = [outcome.answer, f"{setting(outcome)}.", shared_bit_words(outcome), *outcome.warnings]
    if outcome.tdx_steps:
        said.append(f"The TDX side, in this order: {tdx_side(outcome)}.")
    log = "".join(f"<li>{escape(line)}</li>" for line in outcome.log)
    table = html_table(" ".join(said), _COLUMNS, map(cells, outcome.roots))
    return f"{table}<p>Events of the call:</p><ol>{log}</ol>"


# ---- what is asked ------------------------------------------------------------------------------------


def _chain(drawing: Drawing, outcome: RootsOutcome) -> None:
    drawing.rect(LEFT, _CHAIN, RIGHT - LEFT, _CHAIN_BOTTOM - _CHAIN, drawing.palette["paper"], "grid")
    drawing.text(_ASKED, _CHAIN + 18, "operation on [g, g+1)", weight=600)
    drawing.text(_ASKED, _CHAIN + 36, outcome.operation.function, mono=True, weight=700)
    drawing.text(_ASKED, _CHAIN + 53, f"g = {outcome.gfn:#x}", mono=True)
    drawing.text(_ASKED, _CHAIN + 69, f"  = {format_gfn(outcome.gfn)}", mono=True)
    drawing.text(_ASKED, _CHAIN + 87, returned(outcome), weight=600)
    _filter(drawing, outcome)
    _arrow(drawing, _TYPES - 24)
    said = f"= {outcome.types}" if outcome.types is not None else "none: root.hpa"
    _bits(drawing, _TYPES, "root types", said, TYPE_BITS, outcome.types or 0, read=outcome.types is not None)
    _arrow(drawing, _ROOTS - 24)
    _roots(drawing, outcome)
    x = _ASKED
    for warning in outcome.warnings:
        drawing.text(x, _CHAIN_BOTTOM - 9, warning, "bad", mono=True, weight=700)
        x += text_width(warning, mono=True) + 20


def _filter(drawing: Drawing, outcome: RootsOutcome) -> None:
    """The filter's two bits, which are the keys that set it."""
    value, read = FILTERS[outcome.question.filter], outcome.filter_read
    bits = {name.upper(): FILTERS[name] for name in ("private", "shared")}
    for number, (name, bit) in enumerate(bits.items()):
        left, top = _FILTER + _BIT_STEP * number, _CHAIN + 26
        drawing.rect(left, top + 3, _BIT, _BIT_HEIGHT, drawing.palette["grid"], "line")
        label = f"filter bit {name}{'' if read else ', which is not looked at'}"
        bottom = top + _BIT_HEIGHT + 3
        drawing.spot(Spot(f"filter:{name.lower()}", label, left, top, left + _BIT, bottom, bool(value & bit)))
    _bits(drawing, _FILTER, "filter", f"= {value}" if read else "not looked at", bits, value, read=read)


def _bits(
    drawing: Drawing, left: int, name: str, said: str, bits: dict[str, int], value: int, *, read: bool
) -> None:
    """A word of bits: those that are set are dark; pale and dashed where nobody looks at it."""
    drawing.text(left, _CHAIN + 18, name, weight=600)
    x = left + text_width(name, weight=600) + 6
    drawing.text(x, _CHAIN + 18, said, "ink" if read else "muted", weight=700)
    for number, (bit_name, bit) in enumerate(bits.items()):
        x, top, on = left + _BIT_STEP * number, _CHAIN + 26, bool(value & bit)
        fill, dash = ("ink" if on and read else "paper"), ("" if read else "3 3")
        drawing.path(box(x, top, x + _BIT, top + _BIT_HEIGHT), "line", fill=fill, dash=dash)
        text = f"{bit}" if on else "–"
        role = "paper" if on and read else "muted"
        drawing.text(x + _BIT // 2, top + 20, text, role, anchor="middle", size=14, weight=700, mono=True)
        role, weight = ("ink", 600) if on and read else ("muted", 400)
        drawing.text(x + _BIT // 2, top + 48, bit_name, role, anchor="middle", weight=weight)


def _arrow(drawing: Drawing, x: int) -> None:
    y = _CHAIN + 41
    drawing.path(f"M{x} {y} H{x + 18} M{x + 12} {y - 5} L{x + 18} {y} L{x + 12} {y + 5}", "ink")


def _roots(drawing: Drawing, outcome: RootsOutcome) -> None:
    """The VM's roots, those it could have too, and which of them match or what they would need."""
    drawing.text(_ROOTS, _CHAIN + 18, "roots of this VM", weight=600)
    question = "match?" if outcome.types is not None else "root.hpa?"
    drawing.text(RIGHT - 12, _CHAIN + 18, question, "muted", anchor="end")
    roots = {root.name: root for root in outcome.roots}
    y, x = _CHAIN + 40, _ROOTS + 20
    _root(drawing, outcome, roots["direct"], "direct", y)
    if outcome.is_td:
        label = "a shared 2M leaf at g, in the direct tree"
        _box(drawing, "leaf", label, "shared leaf at g", x + 46, y, there=outcome.question.shared_leaf)
    labels = {
        "invalid direct": "an invalid direct root, which a fast zap-all left",
        "mirror": "a mirror root: the VM is a TD",
    }
    for name, label in labels.items():
        y += _ROW
        said = name if name in roots else f"no {name} root"
        _box(drawing, name.split()[0], label, said, _ROOTS, y, there=name in roots)
        if name in roots:
            _root(drawing, outcome, roots[name], "", y)


def _box(drawing: Drawing, name: str, label: str, said: str, x: int, y: int, *, there: bool) -> None:
    """Something that the VM has or has not: pressed, it comes or goes."""
    drawing.path(box(x, y - 11, x + 14, y + 3), "line", fill="ink" if there else "paper")
    if there:
        drawing.path(tick(x + 7, y - 4), "paper", width=2)
    drawing.text(x + 20, y, said, "ink" if there else "muted")
    right = x + 26 + text_width(said)
    drawing.spot(Spot(f"vm:{name}", label, x - 4, y - 14, right, y + 6, there))


def _root(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, name: str, y: int) -> None:
    drawing.text(_ROOTS + 20, y, name)
    drawing.text(RIGHT - 36, y, match_words(outcome, root), "muted", anchor="end")
    _sign(drawing, RIGHT - 21, y - 4, root.matches, "bad" if outcome.wrong_root else "good")


def _sign(drawing: Drawing, x: int, y: int, yes: bool, role: str) -> None:
    """A dash; or on a disc a tick, or an exclamation mark for what is bad."""
    if not yes:
        drawing.path(f"M{x - 6} {y} H{x + 6}", "muted", width=2)
        return
    drawing.circle(x, y, 8, role)
    mark = f"M{x} {y - 5} V{y + 1} M{x} {y + 3} V{y + 5}" if role == "bad" else tick(x, y)
    drawing.path(mark, "paper", width=2)


# ---- the panels ---------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a panel is."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def inner(self) -> int:
        """Its words begin here."""
        return self.left + 12

    @property
    def end(self) -> int:
        """Its words and strips end here."""
        return self.right - 12


def _panels(drawing: Drawing, outcome: RootsOutcome) -> None:
    roots = {root.name: root for root in outcome.roots}
    invalid = roots.get("invalid direct")
    right = _HALF if outcome.is_td else RIGHT
    above, below = _Place(LEFT, _TOP, right, _MIDDLE - _APART), _Place(LEFT, _MIDDLE, right, _BOTTOM)
    if invalid:
        _invalid(drawing, outcome, invalid, below)
    elif outcome.is_td:
        _nothing(drawing, below, "No direct root of this VM is invalid.")
    else:
        above = above._replace(bottom=_BOTTOM)
    _live_root(drawing, outcome, roots["direct"], above)
    if outcome.is_td:
        _live_root(drawing, outcome, roots["mirror"], above._replace(left=WIDTH - _HALF, right=RIGHT))
        _between(drawing, roots["direct"], roots["mirror"], above)
        _sept(drawing, outcome, roots["mirror"], below._replace(left=WIDTH - _HALF, right=RIGHT))


def _frame(drawing: Drawing, place: _Place, role: str) -> None:
    """Around what is reached: a frame, and a ground where it was meant."""
    d = box(*place)
    if role == "good":
        drawing.path(d, fill="split", opacity=".35")
    drawing.path(d, role, width=2 if role != "grid" else 1)


def _role(outcome: RootsOutcome, root: RootSeen) -> str:
    return "grid" if not root.reached else "bad" if outcome.wrong_root or root.lost else "good"


def _nothing(drawing: Drawing, place: _Place, said: str) -> None:
    drawing.path(box(*place), "grid", dash="4 4")
    x, y = (place.left + place.right) // 2, (place.top + place.bottom) // 2 + 4
    drawing.text(x, y, said, "muted", anchor="middle")


def _strips_of(root: RootSeen, place: _Place) -> tuple[int, int, int]:
    """The first strip's top, the step to the next, and the height of each: they fill the panel."""
    height = _STRIP if place.bottom < _BOTTOM else _TALL
    room = place.bottom - 10 - place.top - _ENTRIES_TOP - height
    return place.top + _ENTRIES_TOP, room // (len(root.path) - 1), height


def _level_words(at: PathStep) -> str:
    return f"level {at.level}: {format_gfn(X86_5LEVEL.pages(at.level))}"


def _live_root(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, place: _Place) -> None:
    role, inner, top = _role(outcome, root), place.inner, place.top
    _frame(drawing, place, role)
    drawing.text(inner, top + 20, f"{root.name} root", size=15, weight=700)
    if root.is_mirror:
        _page(drawing, inner + 99, top + 6)
        drawing.text(inner + 121, top + 20, "no hardware walks it: KVM’s copy", "muted", weight=600)
    else:
        _chip(drawing, inner + 99, top + 7)
        which = "a GPA with the S-bit" if outcome.is_td else "every GPA"
        drawing.text(inner + 121, top + 20, f"hardware walks it for {which}", weight=600)
    _status(drawing, root, role, inner, top + 40)
    first, step, height = _strips_of(root, place)
    left = inner if outcome.is_td else inner + _GUTTER
    path = f"path({'g | S' if outcome.is_td and not root.is_mirror else 'g'}) = {indices(root)}"
    drawing.text(left, first - 6, path, mono=True, weight=700)
    strips = _TableStrips(drawing, outcome, root, (left, place.end), (first, step), height)
    strips.draw()
    strips.say_unused()
    for number, at in enumerate(root.path):
        y = first + number * step
        note, note_role = _note(root, at)
        drawing.text(place.end, y - 5, note, note_role, anchor="end", weight=600)
        strips.write_index(at, y)
        strips.track(number, at, y, keyed=not root.is_mirror)
        if not outcome.is_td:
            drawing.text(inner, y + height // 2 + 4, _level_words(at), weight=600)


def _note(root: RootSeen, at: PathStep) -> tuple[str, str]:
    """What there is to say of a level, and the role it is said in."""
    if at.level == PG_LEVEL_2M:
        if at.before == "leaf" and at.after == "table":
            return "the 2M leaf that held g: a table now", "crossing-mark"
        if at.before == "leaf" and at.after == "none":
            fate = "are lost" if root.lost else "are re-faulted"
            return f"zapped whole: {root.zapped - 1} frames besides g {fate}", f"{_zapped_kind(root)}-mark"
        if at.after == "leaf":
            return "the 2M leaf that holds g", "ink"
    if at.level == PG_LEVEL_4K and at.after == "leaf":
        return "its new table, all 4K leaves", "good"
    if at.after == "none":
        return "nothing is mapped at g", "muted"
    return ("", "muted") if at.after else ("no table here", "muted")


def _between(drawing: Drawing, direct: RootSeen, mirror: RootSeen, place: _Place) -> None:
    """Between the trees: the levels, and at which of them the two paths have one index."""
    first, step, height = _strips_of(direct, place)
    for number, (at, other) in enumerate(zip(direct.path, mirror.path, strict=True)):
        top, same = first + number * step, at.index == other.index
        y = top + height // 2
        drawing.text(WIDTH // 2, top - 5, _level_words(at), anchor="middle")
        drawing.circle(WIDTH // 2, y, 10, "paper" if same else "ink", "line")
        sign, role = ("=", "muted") if same else ("≠", "paper")
        drawing.text(WIDTH // 2, y + 5, sign, role, anchor="middle", size=14, weight=700)


def _invalid(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, place: _Place) -> None:
    role, inner = _role(outcome, root), place.inner
    _frame(drawing, place, role)
    drawing.text(inner, place.top + 20, "invalid direct root", size=15, weight=700)
    _page(drawing, inner + 160, place.top + 6)
    drawing.text(inner + 182, place.top + 20, "no vCPU enters with it any more", "muted", weight=600)
    _status(drawing, root, role, inner, place.top + 42)
    _thin_tree(drawing, outcome, root, place)
    left = "its leaf is still there to be zapped" if root.level_after else "it maps nothing at g now"
    drawing.text(inner, place.bottom - 5, f"a fast zap-all left it; {left}", "muted")


def _sept(drawing: Drawing, outcome: RootsOutcome, mirror: RootSeen, place: _Place) -> None:
    steps, inner, top = outcome.tdx_steps, place.inner, place.top
    _frame(drawing, place, _role(outcome, mirror) if steps else "grid")
    if steps:
        x, y = (place.left + place.right) // 2, top - 2
        drawing.path(f"M{x} {y - 7} V{y} M{x - 5} {y - 5} L{x} {y} L{x + 5} {y - 5}", "ink", width=2)
    drawing.text(inner, top + 20, "S-EPT", size=15, weight=700)
    _chip(drawing, inner + 58, top + 7)
    drawing.text(inner + 80, top + 20, "hardware walks it for a GPA without the S-bit", weight=600)
    if steps:
        _tdx_steps(drawing, steps, inner, top + 38)
    else:
        _sign(drawing, inner + 8, top + 38, False, "muted")
        said = "the mirror tree did not change: no SEAMCALL"
        drawing.text(inner + 22, top + 42, said, "muted", weight=600)
    _thin_tree(drawing, outcome, mirror, place)
    said = f"{count_of(outcome.seamcalls, 'SEAMCALL')}; " if steps else ""
    said += "only the TDX module writes it; KVM does not read it"
    drawing.text(inner, place.bottom - 5, said, "muted")


def _tdx_steps(drawing: Drawing, steps: tuple[str, ...], x: int, y: int) -> None:
    """What the TDX side does, in order."""
    for number, step in enumerate(steps):
        if number:
            drawing.path(f"M{x + 4} {y} H{x + 14} M{x + 10} {y - 4} L{x + 14} {y} L{x + 10} {y + 4}", "ink")
            x += 18
        wide = text_width(step, mono=True) + 2 * _INSET
        drawing.rect(x, y - 10, wide, 20, drawing.palette["paper"], "ink")
        drawing.text(x + wide // 2, y + 4, step, anchor="middle", mono=True, weight=700)
        x += wide


def _thin_tree(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, place: _Place) -> None:
    gutter = 54 if outcome.is_td else _GUTTER
    left, right = place.inner + gutter, place.end - 34
    first, step = place.top + _THIN_TOP, _THIN_STEP[len(root.path)]
    _TableStrips(drawing, outcome, root, (left, right), (first, step), _THIN).draw()
    for number, at in enumerate(root.path):
        y = first + number * step + 10
        drawing.text(place.inner, y, f"level {at.level}", "muted")
        role = "ink" if root.reached else "muted"
        drawing.text(place.end, y, f"{at.index}", role, mono=True, weight=700, anchor="end")


def _status(drawing: Drawing, root: RootSeen, role: str, x: int, y: int) -> None:
    """Reached or not, by a sign and in words."""
    _sign(drawing, x + 8, y - 4, root.reached, role)
    drawing.text(x + 22, y, root.effect, role if root.reached else "muted", weight=600)


def _chip(drawing: Drawing, x: int, y: int) -> None:
    """Draw the sign for hardware: it walks this tree."""
    drawing.path("".join(f"M{at} {y - 3} V{y + 19}" for at in (x + 4, x + 8, x + 12)), "ink")
    drawing.rect(x, y, 16, 16, drawing.palette["ink"])


def _page(drawing: Drawing, x: int, y: int) -> None:
    """Something written down, that no hardware reads."""
    drawing.path(f"M{x} {y} H{x + 10} L{x + 15} {y + 5} V{y + 17} H{x} Z", "muted")
    drawing.path(f"M{x + 3} {y + 8} H{x + 12} M{x + 3} {y + 12} H{x + 12}", "muted")


# ---- the strips of a tree -----------------------------------------------------------------------------


def _zapped_kind(root: RootSeen) -> str:
    """How frames zapped besides g are drawn: a TD's private ones are lost with their contents."""
    return "lost" if root.is_mirror else "refaulted"


class _TableStrips:
    """One strip per level, the table on the way to g.

    sides: left and right ends; tops: the first strip's top, and the step to the next.
    """

    def __init__(
        self,
        drawing: Drawing,
        outcome: RootsOutcome,
        root: RootSeen,
        sides: tuple[int, int],
        tops: tuple[int, int],
        height: int,
    ) -> None:
        self.drawing, self.root, self.height = drawing, root, height
        self.left, self.right = sides
        self.first, self.step = tops
        half = outcome.shared_bit // X86_5LEVEL.pages(len(root.path))
        self.gfn = outcome.gfn
        self.own = (0, half) if root.is_mirror else (half, 2 * half)
        """The root's indices that this tree can have, [first, last), as the shared bit says; none of a plain
        VM's is told apart."""

    def x(self, index: int) -> int:
        """Where the entry of this index begins."""
        return self.left + (self.right - self.left) * index // _ENTRIES

    def draw(self) -> None:
        """The strips, pale where the operation did not come, and the needles on them."""
        if not self.root.reached:
            self.drawing.parts.append(f'<g opacity="{_PALE}">')
        for number, at in enumerate(self.root.path):
            self._strip(number, at, self.first + number * self.step)
        if not self.root.reached:
            self.drawing.parts.append("</g>")
        for number, at in enumerate(self.root.path):
            self._needle(at, self.first + number * self.step)

    def _strip(self, number: int, at: PathStep, top: int) -> None:
        drawing, left, right, bottom = self.drawing, self.left, self.right, top + self.height
        if not at.after:
            drawing.path(box(left, top, right, bottom), "line", dash="3 4")
            return
        if at.after == "table":
            x = self.x(at.index)
            wedge = f"M{x} {bottom} L{left} {top + self.step} H{right} L{x + 2} {bottom} Z"
            drawing.path(wedge, fill="grid", opacity=_WEDGE)
        kind = "split" if at.level == PG_LEVEL_4K else "hole"
        drawing.rect(left, top, right - left, self.height, drawing.fill(kind))
        if at.level == PG_LEVEL_2M:
            self._leaves(at, top)
        if number == 0 and self.own[1]:
            self._unused(top)
        drawing.path(box(left, top, right, bottom), "line")

    def _needle(self, at: PathStep, top: int) -> None:
        """Where g's path goes; around g's own leaf or what became of it, so that both are seen."""
        drawing, bottom = self.drawing, top + self.height
        role = "ink" if self.root.reached and at.after else "muted"
        if at.level == PG_LEVEL_2M and at.before == "leaf":
            low = self._leaf_left(at)
            drawing.path(box(low, top, low + _LEAF, bottom), role, width=2)
            for y in (top - 4, bottom):
                drawing.rect(low + _LEAF // 2 - 1, y, 3, 4, drawing.palette[role])
        else:
            x = min(self.x(at.index), self.right - 3)
            drawing.rect(x, top - 3, 3, self.height + 6, drawing.palette[role])

    def _leaf_left(self, at: PathStep) -> int:
        return max(self.left, min(self.x(at.index) - _LEAF // 2 + 1, self.right - _LEAF))

    def _leaves(self, at: PathStep, top: int) -> None:
        """The 2M leaves in runs, and g's own entry, not to be overlooked."""
        drawing = self.drawing
        for first, last in self.root.leaves:
            low, high = self.x(first), self.x(last)
            if low < high:
                drawing.rect(low, top, high - low, self.height, drawing.fill("leaf2"))
        if at.before == "leaf":
            kind = {"leaf": "leaf2", "table": "crossing"}.get(at.after) or _zapped_kind(self.root)
            drawing.rect(self._leaf_left(at), top, _LEAF, self.height, drawing.fill(kind))

    def _unused(self, top: int) -> None:
        """The root's other indices, hatched."""
        first, last = self.own
        for low, high in ((0, first), (last, _ENTRIES)):
            start, end = self.x(low), self.x(high)
            lines = range(start, end - self.height, self.height // 2)
            if lines:
                self.drawing.rect(start, top, end - start, self.height, self.drawing.palette["paper"])
                hatch = "".join(f"M{x} {top + self.height} L{x + self.height} {top}" for x in lines)
                self.drawing.path(hatch, "grid")

    def say_unused(self) -> None:
        """Say on the root's strip what its hatch means; a plain VM uses every index."""
        first, last = self.own
        if last:
            low, high = (0, first) if first > _ENTRIES - last else (last, _ENTRIES)
            start, end = self.x(low), self.x(high)
            said = "never used here"
            self.drawing.plate((start + end) // 2, self.first + self.height // 2, said, end - start, "muted")

    def write_index(self, at: PathStep, top: int) -> None:
        """The index beside its needle, on whichever side there is room."""
        x, wide = self.x(at.index), text_width(f"{at.index}", 13, mono=True) + 6
        low = x + 8 if x + 8 + wide <= self.right else x - 8 - wide
        middle = top + self.height // 2
        self.drawing.rect(low, middle - 8, wide, 16, self.drawing.palette["paper"])
        role = "ink" if self.root.reached else "muted"
        self.drawing.text(low + 3, middle + 5, f"{at.index}", role, size=13, mono=True, weight=700)

    def track(self, number: int, at: PathStep, top: int, *, keyed: bool) -> None:
        """Let g go along a strip, index by index, while its other indices stay."""
        pages = X86_5LEVEL.pages(at.level)
        there = min(
            tdp_mmu_max_gfn_exclusive() // pages, _ENTRIES
        )  # a root may reach beyond the host's memory
        first, last = self.own if number == 0 and self.own[1] else (0, there)
        knots = ((self.gfn + (index - at.index) * pages, self.x(index)) for index in (first, last))
        self.drawing.track(Track(f"level {at.level}", tuple(knots), top, top + self.height, keyed))
