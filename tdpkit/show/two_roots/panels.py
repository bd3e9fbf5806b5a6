"""The trees of the two-trees exhibit: strips by level with a needle where g's path goes.

Two panels above (direct, mirror), two below (the invalid direct root, the S-EPT); each has its place
whether or not the VM has such a thing, so that nothing jumps.
"""

from __future__ import annotations

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_5LEVEL, format_gfn
from tdpkit.lab.two_roots import PathStep, RootSeen, RootsOutcome

from ..drawing import Drawing
from .strips import (
    STRIP,
    THIN,
    draw_chip,
    draw_page,
    draw_table_strips,
    draw_unused_words,
    x_of_index,
    zapped_kind,
)

TOP, MIDDLE, BOTTOM = 224, 516, 714
"""The upper panels end 12 above the middle."""
LEFTS = (24, 516)
PANEL_WIDTH = 460
_UPPER_STRIPS = {4: (292, 56), 5: (290, 45)}
_LOWER_STRIPS = {4: (588, 25), 5: (586, 21)}
"""Top of the first strip and step to the next, by the root's level."""


def draw_panels(drawing: Drawing, outcome: RootsOutcome) -> None:
    """All four."""
    roots = {root.name: root for root in outcome.roots}
    _tree(drawing, outcome, roots["direct"], LEFTS[0])
    if outcome.is_td:
        _tree(drawing, outcome, roots["mirror"], LEFTS[1])
        _signs(drawing, outcome, roots["direct"], roots["mirror"])
        _sept(drawing, outcome, roots["mirror"])
    else:
        _nothing(
            drawing, LEFTS[1], TOP, MIDDLE - 12, "A plain VM has no mirror root:", "one tree for any filter."
        )
        _nothing(drawing, LEFTS[1], MIDDLE, BOTTOM, "And no S-EPT.", "")
    if "invalid direct" in roots:
        _invalid(drawing, outcome, roots["invalid direct"])
    else:
        _nothing(drawing, LEFTS[0], MIDDLE, BOTTOM, "No direct root of this VM is invalid.", "")


def _frame(drawing: Drawing, left: int, top: int, bottom: int, role: str) -> None:
    """Around what is reached: a frame, and a ground."""
    d = f"M{left} {top} H{left + PANEL_WIDTH} V{bottom} H{left} Z"
    if role == "good":
        drawing.path(d, fill="split", opacity=".35")
    drawing.path(d, role, width=2 if role != "grid" else 1)


def _role(outcome: RootsOutcome, root: RootSeen) -> str:
    return "grid" if not root.reached else "bad" if outcome.wrong_root else "good"


def _nothing(drawing: Drawing, left: int, top: int, bottom: int, *lines: str) -> None:
    drawing.path(f"M{left} {top} H{left + PANEL_WIDTH} V{bottom} H{left} Z", "grid", dash="4 4")
    for number, text in enumerate(lines):
        y = (top + bottom) // 2 + 20 * number
        drawing.text(left + PANEL_WIDTH // 2, y, text, "muted", anchor="middle", size=13)


# ---- the two trees ------------------------------------------------------------------------------------


def _tree(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, left: int) -> None:
    role = _role(outcome, root)
    _frame(drawing, left, TOP, MIDDLE - 12, role)
    inner, right = left + 12, left + PANEL_WIDTH - 12
    drawing.text(inner, TOP + 22, f"{root.name} root", size=15, weight=700)
    if root.is_mirror:
        draw_page(drawing, inner + 102, TOP + 8)
        drawing.text(inner + 124, TOP + 22, "no hardware walks it: KVM’s copy", "muted", weight=600)
    else:
        draw_chip(drawing, inner + 102, TOP + 9)
        which = "a GPA with the S-bit" if outcome.is_td else "every GPA"
        drawing.text(inner + 124, TOP + 22, f"hardware walks it for {which}", weight=600)
    _status(drawing, root, role, inner, TOP + 42)
    index = "g | S" if outcome.is_td and not root.is_mirror else "g"
    drawing.text(right, TOP + 42, f"index by {index}", mono=True, weight=700, anchor="end")
    first, step = _UPPER_STRIPS[len(root.path)]
    draw_table_strips(drawing, outcome, root, inner, right, first, step, STRIP)
    if outcome.shared_bit:
        draw_unused_words(drawing, outcome, root, inner, right, first)
    for number, at in enumerate(root.path):
        y = first + number * step - 5
        drawing.text(inner, y, f"level {at.level}", weight=600)
        drawing.text(inner + 50, y, f"{format_gfn(X86_5LEVEL.pages(at.level))} each", "muted", size=11)
        note, note_role = _note(root, at)
        drawing.text(right, y, note, note_role, size=11, anchor="end", weight=600)
        x = x_of_index(at.index, inner, right)
        wide = 8 * len(f"{at.index}") + 6
        low = x + 8 if x + 8 + wide <= right else x - 8 - wide
        drawing.rect(low, first + number * step + 3, wide, 16, drawing.palette["paper"])
        drawing.text(
            low + 3, first + number * step + 16, f"{at.index}", size=13, mono=True, weight=700,
            role="ink" if root.reached else "muted",
        )  # fmt: skip


def _note(root: RootSeen, at: PathStep) -> tuple[str, str]:
    """What there is to say of a level, and the role it is said in."""
    if at.level == PG_LEVEL_2M:
        if at.before == "leaf" and at.after == "table":
            return "the 2M leaf that held g: a table now", "crossing-mark"
        if at.before == "leaf" and at.after == "none":
            fate = "are lost" if root.is_mirror else "are re-faulted"
            return f"zapped whole: {root.zapped - 1} frames besides g {fate}", f"{zapped_kind(root)}-mark"
        if at.after == "leaf":
            return "the 2M leaf that holds g", "ink"
    if at.level == PG_LEVEL_4K and at.after == "leaf":
        return "its new table, all 4K leaves", "good"
    if at.after == "none":
        return "nothing is mapped at g", "muted"
    return ("", "muted") if at.after else ("no table here", "muted")


def _signs(drawing: Drawing, outcome: RootsOutcome, direct: RootSeen, mirror: RootSeen) -> None:
    """Between the trees: at which levels the two paths have one index."""
    first, step = _UPPER_STRIPS[len(direct.path)]
    for number, (one, other) in enumerate(zip(direct.indices, mirror.indices, strict=True)):
        y, same = first + number * step + STRIP // 2, one == other
        drawing.circle(500, y, 11, "paper" if same else "ink", "line")
        role = "muted" if same else "paper"
        drawing.text(500, y + 5, "=" if same else "≠", role, anchor="middle", size=14, weight=700)


# ---- below: the invalid root, the S-EPT ---------------------------------------------------------------


def _invalid(drawing: Drawing, outcome: RootsOutcome, root: RootSeen) -> None:
    role, inner = _role(outcome, root), LEFTS[0] + 12
    _frame(drawing, LEFTS[0], MIDDLE, BOTTOM, role)
    drawing.text(inner, MIDDLE + 22, "invalid direct root", size=15, weight=700)
    draw_page(drawing, inner + 158, MIDDLE + 8)
    drawing.text(inner + 180, MIDDLE + 22, "no vCPU enters with it any more", "muted", weight=600)
    _status(drawing, root, role, inner, MIDDLE + 46)
    _thin_tree(drawing, outcome, root, inner)
    left = "its leaf is still there to be zapped" if root.level_after else "it maps nothing at g now"
    drawing.text(inner, BOTTOM - 9, f"a fast zap-all left it; {left}", "muted", size=11)


def _sept(drawing: Drawing, outcome: RootsOutcome, mirror: RootSeen) -> None:
    calls, inner = outcome.seamcalls, LEFTS[1] + 12
    _frame(drawing, LEFTS[1], MIDDLE, BOTTOM, "good" if calls else "grid")
    if calls:
        x, y = LEFTS[1] + PANEL_WIDTH // 2, MIDDLE - 2
        drawing.path(f"M{x} {y - 9} V{y} M{x - 5} {y - 5} L{x} {y} L{x + 5} {y - 5}", "ink", width=2)
    drawing.text(inner, MIDDLE + 22, "S-EPT", size=15, weight=700)
    draw_chip(drawing, inner + 58, MIDDLE + 9)
    drawing.text(inner + 80, MIDDLE + 22, "hardware walks it for a GPA without the S-bit", weight=600)
    if not calls:
        drawing.path(f"M{inner + 2} {MIDDLE + 42} H{inner + 14}", "muted", width=2)
        drawing.text(
            inner + 22, MIDDLE + 46, "the mirror tree did not change: no SEAMCALL", "muted", weight=600
        )
    x = inner
    for number, call in enumerate(calls):
        if number:
            y = MIDDLE + 44
            drawing.path(f"M{x + 4} {y} H{x + 14} M{x + 10} {y - 4} L{x + 14} {y} L{x + 10} {y + 4}", "ink")
            x += 18
        wide = 7 * len(call) + 18
        drawing.rect(x, MIDDLE + 33, wide, 22, drawing.palette["paper"], "ink")
        drawing.text(x + wide // 2, MIDDLE + 48, call, anchor="middle", size=11, mono=True, weight=700)
        x += wide
    if calls:
        drawing.text(
            LEFTS[1] + PANEL_WIDTH - 12, MIDDLE + 48, "in this order", "muted", size=11, anchor="end"
        )
    _thin_tree(drawing, outcome, mirror, inner)
    text = "only the TDX module writes it; its pages are encrypted, KVM cannot read them"
    drawing.text(inner, BOTTOM - 9, text, "muted", size=11)


def _thin_tree(drawing: Drawing, outcome: RootsOutcome, root: RootSeen, inner: int) -> None:
    left, right = inner + 52, inner + PANEL_WIDTH - 24 - 34
    first, step = _LOWER_STRIPS[len(root.path)]
    draw_table_strips(drawing, outcome, root, left, right, first, step, THIN)
    for number, at in enumerate(root.path):
        y = first + number * step + 11
        drawing.text(inner, y, f"level {at.level}", "muted", size=11)
        role = "ink" if root.reached else "muted"
        drawing.text(right + 34, y, f"{at.index}", role, size=12, mono=True, weight=700, anchor="end")


def _status(drawing: Drawing, root: RootSeen, role: str, x: int, y: int) -> None:
    """Reached or not, by a sign and in words."""
    if root.reached:
        drawing.circle(x + 8, y - 4, 8, role)
        drawing.path(f"M{x + 4} {y - 4} L{x + 7} {y - 1} L{x + 12} {y - 7}", "paper", width=2)
    else:
        drawing.path(f"M{x + 2} {y - 4} H{x + 14}", "muted", width=2)
    drawing.text(x + 22, y, root.effect, role if root.reached else "muted", weight=600)
