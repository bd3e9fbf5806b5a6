"""Strips of the two-trees picture: one table each, with a needle where g's path goes; and small signs."""

from __future__ import annotations

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_5LEVEL
from tdpkit.lab.two_roots import PathStep, RootSeen, RootsOutcome

from ..drawing import Drawing

ENTRIES = X86_5LEVEL.entries
STRIP, THIN = 22, 14
"""Heights of a strip, above and below."""
_LEAF = 11
"""Width of g's own entry."""
_PALE = ".5"


def zapped_kind(root: RootSeen) -> str:
    """What frames zapped besides g come to: a TD's private ones are lost with their contents."""
    return "lost" if root.is_mirror else "refaulted"


def x_of_index(index: int, left: int, right: int) -> int:
    """Where the entry of this index begins on a strip from `left` to `right`."""
    return left + (right - left) * index // ENTRIES


def draw_table_strips(
    drawing: Drawing,
    outcome: RootsOutcome,
    root: RootSeen,
    left: int,
    right: int,
    first: int,
    step: int,
    height: int,
) -> None:
    """One strip per level, the table on the way to g; pale where the operation did not come."""
    if not root.reached:
        drawing.parts.append(f'<g opacity="{_PALE}">')
    for number, at in enumerate(root.path):
        top, x = first + number * step, x_of_index(at.index, left, right)
        outline = f"M{left} {top} H{right} V{top + height} H{left} Z"
        if not at.after:
            drawing.path(outline, "line", dash="3 4")
            continue
        if at.after == "table":
            wedge = f"M{x} {top + height} L{left} {top + step} H{right} L{x + 2} {top + height} Z"
            drawing.path(wedge, fill="grid", opacity=".4")
        whole = at.level == PG_LEVEL_4K
        drawing.rect(left, top, right - left, height, drawing.fill("split" if whole else "hole"))
        if at.level == PG_LEVEL_2M:
            _leaves(drawing, root, at, left, right, top, height)
        if number == 0 and outcome.shared_bit:
            _unused(drawing, outcome, root, left, right, top, height)
        drawing.path(outline, "line")
    if not root.reached:
        drawing.parts.append("</g>")
    for number, at in enumerate(root.path):
        _needle(drawing, root, at, left, right, first + number * step, height)


def _needle(
    drawing: Drawing, root: RootSeen, at: PathStep, left: int, right: int, top: int, height: int
) -> None:
    """Where g's path goes; around g's own leaf or what became of it, so that both are seen."""
    role = "ink" if root.reached and at.after else "muted"
    x = min(x_of_index(at.index, left, right), right - 3)
    if at.level == PG_LEVEL_2M and at.before == "leaf":
        low = _leaf_left(at, left, right)
        drawing.path(f"M{low} {top} H{low + _LEAF} V{top + height} H{low} Z", role, width=2)
        x = low + _LEAF // 2 - 1
        for y in (top - 4, top + height):
            drawing.rect(x, y, 3, 4, drawing.palette[role])
    else:
        drawing.rect(x, top - 3, 3, height + 6, drawing.palette[role])


def _leaf_left(at: PathStep, left: int, right: int) -> int:
    return max(left, min(x_of_index(at.index, left, right) - _LEAF // 2 + 1, right - _LEAF))


def _leaves(
    drawing: Drawing, root: RootSeen, at: PathStep, left: int, right: int, top: int, height: int
) -> None:
    """The 2M leaves in runs, and g's own entry, not to be overlooked."""
    for first, last in root.leaves:
        low, high = x_of_index(first, left, right), x_of_index(last, left, right)
        if low < high:
            drawing.rect(low, top, high - low, height, drawing.fill("leaf2"))
    if at.before == "leaf":
        kind = {"leaf": "leaf2", "table": "crossing"}.get(at.after) or zapped_kind(root)
        drawing.rect(_leaf_left(at, left, right), top, _LEAF, height, drawing.fill(kind))


def _own_indices(outcome: RootsOutcome, root: RootSeen) -> tuple[int, int]:
    """The root's indices that this tree can have, [first, last), as the shared bit says."""
    own = outcome.shared_bit // X86_5LEVEL.pages(len(root.path))
    return (0, own) if root.is_mirror else (own, 2 * own)


def _unused(
    drawing: Drawing, outcome: RootsOutcome, root: RootSeen, left: int, right: int, top: int, height: int
) -> None:
    """The root's other indices, hatched."""
    first, last = _own_indices(outcome, root)
    for low, high in ((0, first), (last, ENTRIES)):
        start, end = x_of_index(low, left, right), x_of_index(high, left, right)
        lines = range(start, end - height, height // 2)
        if lines:
            drawing.rect(start, top, end - start, height, drawing.palette["paper"])
            drawing.path("".join(f"M{x} {top + height} L{x + height} {top}" for x in lines), "grid")


def draw_unused_words(
    drawing: Drawing, outcome: RootsOutcome, root: RootSeen, left: int, right: int, top: int
) -> None:
    """Says on the root's strip what the hatch means."""
    first, last = _own_indices(outcome, root)
    low, high = (0, first) if first > ENTRIES - last else (last, ENTRIES)
    middle = (x_of_index(low, left, right) + x_of_index(high, left, right)) // 2
    drawing.rect(middle - 54, top + 4, 108, 15, drawing.palette["paper"])
    drawing.text(middle, top + 15, "never used here", "muted", size=11, anchor="middle")


def draw_chip(drawing: Drawing, x: int, y: int) -> None:
    """Hardware."""
    pins = "".join(f"M{at} {y - 3} V{y + 19}" for at in (x + 4, x + 8, x + 12))
    drawing.path(pins, "ink")
    drawing.rect(x, y, 16, 16, drawing.palette["ink"])


def draw_page(drawing: Drawing, x: int, y: int) -> None:
    """Something written down, that no hardware reads."""
    drawing.path(f"M{x} {y} H{x + 10} L{x + 15} {y + 5} V{y + 17} H{x} Z", "muted")
    drawing.path(f"M{x + 3} {y + 8} H{x + 12} M{x + 3} {y + 12} H{x + 12}", "muted")
