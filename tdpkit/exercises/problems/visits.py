"""Order of visits: which entries a split's walk visits, the restarts included (S60-S65, S80)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange
from tdpkit.lab.layouts import DEEP_TOY, TALL_TOY, Layout, layout_of
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import count_of
from tdpkit.show.walk.picture import walk_svg
from tdpkit.show.walk.predict import reason
from tdpkit.show.walk.state import walk_state
from tdpkit.show.walk.words import name_entry

from ..checking import Counterexample, Wrong, frame, ordered, refused, whole
from .guests import joined, leaves_table, some_leaves, some_range
from .kind import Kind, as_typed, listed_items, names_of, steps

_TOYS = (Geometry(2, 2, 2), Geometry(3, 2, 2), Geometry(1, 4, 4), Geometry(2, 3, 2))
_FEWEST, _MOST = 3, 14
"""Visits."""


class Walk(NamedTuple):
    """A guest, a range, and how the call splits."""

    layout: Layout
    span: GfnRange
    target_level: int = 1
    only_cross_boundary: bool = True


@lru_cache(maxsize=64)
def _call(given: Walk) -> SplitCall:
    return SplitCall(
        given.layout,
        given.span.start,
        given.span.end,
        target_level=given.target_level,
        only_cross_boundary=given.only_cross_boundary,
    )


def draw(chance: Random, level: int) -> Walk:
    """A toy of two or three sizes; three sizes or x86; holes, odd ranges, splits of all, a higher target."""
    given = _some_walk(chance, level)
    while not _fits(given):
        given = _some_walk(chance, level)
    return given


def _fits(given: Walk) -> bool:
    """The kernel's function takes the start, and the visits are as many as one can write down."""
    inside = given.span.start < given.layout.geometry.root_pages
    return inside and _FEWEST <= len(_visits(given)) <= _MOST


def _some_walk(chance: Random, level: int) -> Walk:
    if level == 1:
        geometry = chance.choice(_TOYS)
        top = geometry.max_leaf_level
        blocks = min(geometry.root_pages, 32) // geometry.pages(top)
        layout = some_leaves(chance, geometry, top, 0, blocks, holes=False)
        return Walk(layout, some_range(chance, layout))
    if level == 2 and chance.random() < 0.5:
        return _on_x86(chance)
    geometry = DEEP_TOY if level == 2 else chance.choice((DEEP_TOY, TALL_TOY))
    layout = some_leaves(chance, geometry, 3, 0, 4, holes=level == 3)
    span = some_range(chance, layout, traps=level == 3)
    if level == 2:
        return Walk(layout, span)
    only_cross = chance.random() < 0.7
    return Walk(layout, span, chance.choice((1, 1, 2)), only_cross)


def _on_x86(chance: Random) -> Walk:
    """A short range near a boundary of 1G: on either side a 1G leaf, leaves of 2M, or nothing."""
    size, at = X86_4LEVEL.pages(3), chance.randint(1, 6)
    runs = [
        (gfn, level, size // X86_4LEVEL.pages(level))
        for gfn in ((at - 1) * size, at * size)
        if (level := chance.choice((3, 3, 2, 0)))
    ]
    start = at * size - chance.choice((0, 1, 512, 513, 1024))
    end = at * size + chance.choice((0, 1, 511, 512, 513, 1025))
    return Walk(layout_of(X86_4LEVEL, (at + 1) * size, *joined(X86_4LEVEL, runs)), GfnRange(start, end))


def _visits(given: Walk) -> list[tuple[int, int]]:
    return [*_call(given).visited()]


def ask(given: Walk) -> str:
    """Give the guest, the rules of the walk and the range."""
    geometry = given.layout.geometry
    name = names_of(geometry)
    lowest, target = given.target_level + 1, name.size(geometry.pages(given.target_level))
    what = (
        "A huge leaf must be split if it is not fully inside the range."
        if given.only_cross_boundary
        else "Each huge leaf that the walk visits must be split."
    )
    sizes = ", ".join(
        f"{name.size(geometry.pages(level))} at level {level}" for level in range(1, geometry.root_level + 1)
    )
    return "\n\n".join(
        [
            f"A guest is mapped so:\n\n{leaves_table(given.layout)}",
            f"An entry covers {sizes}; a table has {geometry.entries} entries, and the root's are those of "
            f"level {geometry.root_level}.",
            f"A call splits to leaves of {target}: its walk goes down to level {lowest} and no further. It "
            "visits the entries that hold the start, from the root's down, then each next one whose first "
            "frame is below the end: empty ones, leaves and tables, a table before its entries.",
            f"{what} The call has no page at first. At a leaf to be split it drops mmu_lock and allocates "
            "one. Then it begins again at the root and goes straight to the first frame that it has not "
            "passed: it visits the entries on the way down to there a second time, splits the leaf with that "
            "page, and goes on: into the new table, or to the next entry if its walk goes down no further.",
            f"The range is {name.span(given.span.start, given.span.end)}. Which entries does the call visit?",
        ]
    )


def form(given: Walk) -> str:
    """Pairs, in order."""
    such = "[(3, 16), (2, 20)]" if names_of(given.layout.geometry).toy else '[(4, "0"), (3, "1G")]'
    first = "first frame" if names_of(given.layout.geometry).toy else "first address (or frame number)"
    return f"a list of (level, {first}) of each visit in order, repeated ones too, such as `{such}`."


def right(given: Walk) -> list[tuple[int, int | str]]:
    """(level, first frame) of each visit."""
    return [(level, as_typed(given.layout.geometry, gfn)) for level, gfn in _visits(given)]


def hold(given: Walk, answer: Any) -> str:
    """The counterexample is the first visit that differs, drawn at the one before it."""
    said = []
    for item in listed_items(answer, "the answer is a list of pairs (level, first frame)"):
        pair = None if isinstance(item, str) else ordered(item, 2)
        level = whole(pair[0]) if pair else None
        if pair is None or level is None:
            raise refused("a visit is a pair (level, first frame)", item)
        said.append((level, frame(pair[1], "a first frame")))
    call, name = _call(given), names_of(given.layout.geometry)
    visits = [at for at, step in enumerate(call.steps) if step.kind == "visit"]
    for number in range(max(len(said), len(visits))):
        then = visits[number] if number < len(visits) else len(call.steps) - 1
        place = (call.steps[then].level, call.steps[then].gfn) if number < len(visits) else None
        mine = said[number] if number < len(said) else None
        if mine == place:
            continue
        before = visits[number - 1] if number else 0
        you = f"you said level {shown(mine[0])}, {name.frame(mine[1])}" if mine else "your list ends"
        comes = f"the {name_entry(call, *place)} comes" if place else "the call is over"
        raise Wrong(
            f"visit {number + 1}: {you}, but {comes}: {reason(call, before, then)}",
            Counterexample(walk_state(call, before, hidden=True), walk_svg),
        )
    return f"all {count_of(len(visits), 'visit')}, in order, {count_of(call.steps[-1].restarts, 'restart')}."


def work(given: Walk) -> str:
    """Each visit and why it comes."""
    return steps(_told(given))


def _told(given: Walk) -> Iterator[str]:
    call, before = _call(given), 0
    for at, step in enumerate(call.steps):
        if step.kind == "visit":
            place = f"(level {step.level}, {names_of(call.geometry).frame(step.gfn)})"
            yield f"{place}: {reason(call, before, at)}"
            before = at
    yield f"The end: {reason(call, before, len(call.steps) - 1)}"


KIND = Kind("order of visits", draw, ask, form, right, hold, work)
