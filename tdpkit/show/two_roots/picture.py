"""The two-trees markup: a picture, a text and a table of one outcome, all pure functions of it.

Above is what is asked: filter, root types, roots. Below are the trees: strips by level, with a needle where
g's path goes. Two panels for the live roots (direct, mirror), two for the invalid direct root and the S-EPT;
each has its place whether or not the VM has such a thing, so that nothing jumps.
"""

from __future__ import annotations

from html import escape

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_5LEVEL, format_gfn
from tdpkit.lab.two_roots import FILTERS, TYPE_BITS, PathStep, RootSeen, RootsOutcome
from tdpkit.lab.words import html_table

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, box, text_width, tick
from ..strips import draw_legend
from ..theme import Palette
from .words import TITLE, indices, leaf_words, match_words, returned, setting, shared_bit_words

_HEIGHT = 800
_CHAIN, _CHAIN_BOTTOM = 88, 212
"""The frame around what is asked: below an answer of two lines, with room for two warnings."""
_ASKED, _FILTER, _TYPES, _ROOTS = 36, 300, 448, 654
"""The links of the chain begin here: the longest function name, two bits, three bits, the roots."""
_BIT, _BIT_STEP, _BIT_HEIGHT = 52, 56, 32
"""Boxes of bits: as wide as the name INVALID below them."""
_TOP, _MIDDLE, _BOTTOM = 224, 516, 714
"""The upper panels end 12 above the middle."""
_PANELS = (24, 516)
_PANEL = 460
"""Two panels side by side leave 32 for the signs between them."""
_UPPER, _LOWER = {4: (292, 56), 5: (290, 45)}, {4: (588, 25), 5: (586, 21)}
"""Top of the first strip and step to the next by the root's level: as many levels in the same panel."""
_STRIP, _THIN = 22, 14
"""Heights of a strip, above and below."""
_LEAF = 11
"""Width of g's own entry, which at scale would be less than one unit."""
_PALE = ".5"
"""Strips of a tree that is not reached are paler; words never are."""
_ENTRIES = X86_5LEVEL.entries
_LEGEND = (
    ("leaf2", "2M leaves"),
    ("crossing", "was split"),
    ("split", "its new 4K leaves"),
    ("lost", "zapped, private"),
    ("refaulted", "zapped, shared"),
    ("hole", "nothing mapped"),
)
_COLUMNS = ("root", "types needed", "matches", "path of g", "leaf at g before", "leaf at g after", "effect")


def two_trees_svg(outcome: RootsOutcome, palette: Palette, ids: str = "") -> str:
    """`outcome` as an SVG string in the colours of `palette`, always of one size; `ids` prefixes its ids."""
    drawing = Drawing(WIDTH, _HEIGHT, palette, ids, "tt")
    drawing.headed(TITLE, outcome.answer, "bad" if outcome.warnings or outcome.wrong_root else "ink")
    _chain(drawing, outcome)
    _panels(drawing, outcome)
    for root in outcome.roots:
        if root.valid:
            text = f"path({_indexed_by(outcome, root)}) = {indices(root)}"
            drawing.text(_PANELS[root.is_mirror] + 12, 736, text, mono=True, weight=700)
    drawing.text(_PANELS[0] + 12, 756, shared_bit_words(outcome), "muted")
    draw_legend(drawing, _LEGEND, LEFT, 786)
    return drawing.svg(TITLE, outcome.answer)


def two_trees_text(outcome: RootsOutcome) -> str:
    """`outcome` in plain text: the answer, then a line per root."""
    lines = [f"{TITLE} {outcome.answer}", setting(outcome)]
    for root in outcome.roots:
        match = "matches" if root.matches else match_words(outcome, root) or "is not root.hpa"
        lines.append(f"{root.name} root: path {indices(root)}, {match}, {root.effect}")
    if outcome.seamcalls:
        lines.append(f"SEAMCALLs: {', '.join(outcome.seamcalls)}")
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
    if outcome.seamcalls:
        said.append(f"SEAMCALLs, in this order: {', '.join(outcome.seamcalls)}.")
    log = "".join(f"<li>{escape(line)}</li>" for line in outcome.log)
    table = html_table(" ".join(said), _COLUMNS, map(cells, outcome.roots))
    return f"{table}<p>Events of the call:</p><ol>{log}</ol>"


def _indexed_by(outcome: RootsOutcome, root: RootSeen) -> str:
    return "g | S" if outcome.is_td and not root.is_mirror else "g"


# ---- what is asked ------------------------------------------------------------------------------------


def _chain(drawing: Drawing, outcome: RootsOutcome) -> None:
    drawing.rect(LEFT, _CHAIN, RIGHT - LEFT, _CHAIN_BOTTOM - _CHAIN, drawing.palette["paper"], "grid")
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
        drawing.text(RIGHT - 12, y, warning, "bad", mono=True, size=11, anchor="end", weight=700)


def _bits(drawing: Drawing, left: int, name: str, said: str, bits: dict[str, int], value: int | None) -> None:
    """A word of bits: those that are set are dark; dashed where nobody looks at it."""
    drawing.text(left, _CHAIN + 20, name, weight=600)
    x = left + text_width(name, weight=600) + 6
    drawing.text(x, _CHAIN + 20, said, "ink" if value is not None else "muted", weight=700, size=11)
    for number, (bit_name, bit) in enumerate(bits.items()):
        x, top, on = left + _BIT_STEP * number, _CHAIN + 30, bool((value or 0) & bit)
        fill, dash = ("ink" if on else "paper"), ("" if value is not None else "3 3")
        drawing.path(box(x, top, x + _BIT, top + _BIT_HEIGHT), "line", fill=fill, dash=dash)
        text = f"{bit}" if on else "–"
        role = "paper" if on else "muted"
        drawing.text(x + _BIT // 2, top + 21, text, role, anchor="middle", size=14, weight=700, mono=True)
        role, weight = ("ink", 600) if on else ("muted", 400)
        drawing.text(x + _BIT // 2, top + 48, bit_name, role, anchor="middle", size=11, weight=weight)


def _arrow(drawing: Drawing, x: int) -> None:
    y = _CHAIN + 46
    drawing.path(f"M{x} {y} H{x + 22} M{x + 16} {y - 5} L{x + 22} {y} L{x + 16} {y + 5}", "ink")


def _roots(drawing: Drawing, outcome: RootsOutcome) -> None:
    """Which of the VM's roots match, and what those that do not would need."""
    drawing.text(_ROOTS, _CHAIN + 20, "roots of this VM", weight=600)
    question = "match?" if outcome.types is not None else "root.hpa?"
    drawing.text(RIGHT - 12, _CHAIN + 20, question, "muted", anchor="end")
    roots = {root.name: root for root in outcome.roots}
    for number, name in enumerate(("direct", "invalid direct", "mirror")):
        y = _CHAIN + 42 + 21 * number
        if name in roots:
            _root(drawing, outcome, roots[name], y)
        else:
            drawing.path(box(_ROOTS, y - 11, _ROOTS + 14, y + 3), "grid", dash="2 2")
            drawing.text(_ROOTS + 24, y, f"no {name} root", "muted")


def _root(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, y: int) -> None:
    fill = "paper" if root.is_mirror else "leaf3" if root.valid else "leaf1"
    drawing.rect(_ROOTS, y - 11, 14, 14, drawing.palette[fill], "ink")
    role, weight = ("ink", 700) if root.matches else ("muted", 400)
    drawing.text(_ROOTS + 24, y, root.name, role, weight=weight)
    drawing.text(RIGHT - 40, y, match_words(outcome, root), "muted", size=11, anchor="end")
    _sign(drawing, RIGHT - 21, y - 4, root.matches, "bad" if outcome.wrong_root else "good")


def _sign(drawing: Drawing, x: int, y: int, yes: bool, role: str) -> None:
    """A tick on a disc of `role`, or a dash."""
    if yes:
        drawing.circle(x, y, 8, role)
        drawing.path(tick(x, y), "paper", width=2)
    else:
        drawing.path(f"M{x - 6} {y} H{x + 6}", "muted", width=2)


# ---- the panels ---------------------------------------------------------------------------------------


def _panels(drawing: Drawing, outcome: RootsOutcome) -> None:
    roots = {root.name: root for root in outcome.roots}
    _live_root(drawing, outcome, roots["direct"], _PANELS[0])
    if outcome.is_td:
        _live_root(drawing, outcome, roots["mirror"], _PANELS[1])
        _signs(drawing, roots["direct"], roots["mirror"])
        _sept(drawing, outcome, roots["mirror"])
    else:
        said = ("A plain VM has no mirror root:", "one tree for any filter.")
        _nothing(drawing, _PANELS[1], _TOP, _MIDDLE - 12, *said)
        _nothing(drawing, _PANELS[1], _MIDDLE, _BOTTOM, "And no S-EPT.")
    if "invalid direct" in roots:
        _invalid(drawing, outcome, roots["invalid direct"])
    else:
        _nothing(drawing, _PANELS[0], _MIDDLE, _BOTTOM, "No direct root of this VM is invalid.")


def _frame(drawing: Drawing, left: int, top: int, bottom: int, role: str) -> None:
    """Around what is reached: a frame, and a ground where it was meant."""
    d = box(left, top, left + _PANEL, bottom)
    if role == "good":
        drawing.path(d, fill="split", opacity=".35")
    drawing.path(d, role, width=2 if role != "grid" else 1)


def _role(outcome: RootsOutcome, root: RootSeen) -> str:
    return "grid" if not root.reached else "bad" if outcome.wrong_root else "good"


def _nothing(drawing: Drawing, left: int, top: int, bottom: int, *lines: str) -> None:
    drawing.path(box(left, top, left + _PANEL, bottom), "grid", dash="4 4")
    for number, text in enumerate(lines):
        y = (top + bottom) // 2 + 20 * number
        drawing.text(left + _PANEL // 2, y, text, "muted", anchor="middle", size=13)


def _live_root(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, left: int) -> None:
    role = _role(outcome, root)
    _frame(drawing, left, _TOP, _MIDDLE - 12, role)
    inner, right = left + 12, left + _PANEL - 12
    drawing.text(inner, _TOP + 22, f"{root.name} root", size=15, weight=700)
    if root.is_mirror:
        _page(drawing, inner + 102, _TOP + 8)
        drawing.text(inner + 124, _TOP + 22, "no hardware walks it: KVM’s copy", "muted", weight=600)
    else:
        _chip(drawing, inner + 102, _TOP + 9)
        which = "a GPA with the S-bit" if outcome.is_td else "every GPA"
        drawing.text(inner + 124, _TOP + 22, f"hardware walks it for {which}", weight=600)
    _status(drawing, root, role, inner, _TOP + 42)
    by = f"index by {_indexed_by(outcome, root)}"
    drawing.text(right, _TOP + 42, by, mono=True, weight=700, anchor="end")
    first, step = _UPPER[len(root.path)]
    strips = _TableStrips(drawing, outcome, root, (inner, right), (first, step), _STRIP)
    strips.draw()
    strips.say_unused()
    for number, at in enumerate(root.path):
        top = first + number * step
        drawing.text(inner, top - 5, f"level {at.level}", weight=600)
        drawing.text(inner + 50, top - 5, f"{format_gfn(X86_5LEVEL.pages(at.level))} each", "muted", size=11)
        note, note_role = _note(root, at)
        drawing.text(right, top - 5, note, note_role, size=11, anchor="end", weight=600)
        strips.write_index(at, top)


def _note(root: RootSeen, at: PathStep) -> tuple[str, str]:
    """What there is to say of a level, and the role it is said in."""
    if at.level == PG_LEVEL_2M:
        if at.before == "leaf" and at.after == "table":
            return "the 2M leaf that held g: a table now", "crossing-mark"
        if at.before == "leaf" and at.after == "none":
            fate = "are lost" if root.is_mirror else "are re-faulted"
            return f"zapped whole: {root.zapped - 1} frames besides g {fate}", f"{_zapped_kind(root)}-mark"
        if at.after == "leaf":
            return "the 2M leaf that holds g", "ink"
    if at.level == PG_LEVEL_4K and at.after == "leaf":
        return "its new table, all 4K leaves", "good"
    if at.after == "none":
        return "nothing is mapped at g", "muted"
    return ("", "muted") if at.after else ("no table here", "muted")


def _signs(drawing: Drawing, direct: RootSeen, mirror: RootSeen) -> None:
    """Between the trees: at which levels the two paths have one index."""
    first, step = _UPPER[len(direct.path)]
    for number, (one, other) in enumerate(zip(direct.indices, mirror.indices, strict=True)):
        y, same = first + number * step + _STRIP // 2, one == other
        drawing.circle(WIDTH // 2, y, 11, "paper" if same else "ink", "line")
        sign, role = ("=", "muted") if same else ("≠", "paper")
        drawing.text(WIDTH // 2, y + 5, sign, role, anchor="middle", size=14, weight=700)


def _invalid(drawing: Drawing, outcome: RootsOutcome, root: RootSeen) -> None:
    role, inner = _role(outcome, root), _PANELS[0] + 12
    _frame(drawing, _PANELS[0], _MIDDLE, _BOTTOM, role)
    drawing.text(inner, _MIDDLE + 22, "invalid direct root", size=15, weight=700)
    _page(drawing, inner + 158, _MIDDLE + 8)
    drawing.text(inner + 180, _MIDDLE + 22, "no vCPU enters with it any more", "muted", weight=600)
    _status(drawing, root, role, inner, _MIDDLE + 46)
    _thin_tree(drawing, outcome, root, inner)
    left = "its leaf is still there to be zapped" if root.level_after else "it maps nothing at g now"
    drawing.text(inner, _BOTTOM - 9, f"a fast zap-all left it; {left}", "muted", size=11)


def _sept(drawing: Drawing, outcome: RootsOutcome, mirror: RootSeen) -> None:
    calls, inner = outcome.seamcalls, _PANELS[1] + 12
    _frame(drawing, _PANELS[1], _MIDDLE, _BOTTOM, "good" if calls else "grid")
    if calls:
        x, y = _PANELS[1] + _PANEL // 2, _MIDDLE - 2
        drawing.path(f"M{x} {y - 9} V{y} M{x - 5} {y - 5} L{x} {y} L{x + 5} {y - 5}", "ink", width=2)
    drawing.text(inner, _MIDDLE + 22, "S-EPT", size=15, weight=700)
    _chip(drawing, inner + 58, _MIDDLE + 9)
    drawing.text(inner + 80, _MIDDLE + 22, "hardware walks it for a GPA without the S-bit", weight=600)
    if calls:
        _seamcalls(drawing, calls, inner)
    else:
        _sign(drawing, inner + 8, _MIDDLE + 42, False, "muted")
        said = "the mirror tree did not change: no SEAMCALL"
        drawing.text(inner + 22, _MIDDLE + 46, said, "muted", weight=600)
    _thin_tree(drawing, outcome, mirror, inner)
    text = "only the TDX module writes it; its pages are encrypted, KVM cannot read them"
    drawing.text(inner, _BOTTOM - 9, text, "muted", size=11)


def _seamcalls(drawing: Drawing, calls: tuple[str, ...], x: int) -> None:
    """What goes down to the TDX module, in order."""
    y = _MIDDLE + 44
    for number, call in enumerate(calls):
        if number:
            drawing.path(f"M{x + 4} {y} H{x + 14} M{x + 10} {y - 4} L{x + 14} {y} L{x + 10} {y + 4}", "ink")
            x += 18
        wide = text_width(call, 11, mono=True) + 16
        drawing.rect(x, y - 11, wide, 22, drawing.palette["paper"], "ink")
        drawing.text(x + wide // 2, y + 4, call, anchor="middle", size=11, mono=True, weight=700)
        x += wide
    drawing.text(_PANELS[1] + _PANEL - 12, y + 4, "in this order", "muted", size=11, anchor="end")


def _thin_tree(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, inner: int) -> None:
    left, right = inner + 52, inner + _PANEL - 24 - 34
    first, step = _LOWER[len(root.path)]
    _TableStrips(drawing, outcome, root, (left, right), (first, step), _THIN).draw()
    for number, at in enumerate(root.path):
        y = first + number * step + 11
        drawing.text(inner, y, f"level {at.level}", "muted", size=11)
        role = "ink" if root.reached else "muted"
        drawing.text(right + 34, y, f"{at.index}", role, mono=True, weight=700, anchor="end")


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
            drawing.path(wedge, fill="grid", opacity=".4")
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
        self.drawing.rect(low, top + 3, wide, 16, self.drawing.palette["paper"])
        role = "ink" if self.root.reached else "muted"
        self.drawing.text(low + 3, top + 16, f"{at.index}", role, size=13, mono=True, weight=700)
