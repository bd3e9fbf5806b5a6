"""Pages for a split: page tables, S-EPT pages and PAMT pages, by the kind of VM (S80, S83, S176)."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, X86_4LEVEL, Geometry, GfnRange
from tdpkit.lab.budget import DYNAMIC, PLAIN, TD, Budget, predict, splits_at_edges
from tdpkit.lab.layouts import TD_4LEVEL, Layout, full_of
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import count_of, group_digits, listed

from ..checking import Counterexample, Wrong, ordered, refused, whole
from .guests import leaves_table, looked_at, some_leaves, some_range
from .kind import Kind, names_of, steps, varied

_PLAIN_TOYS = (Geometry(2, 3, 3), Geometry(1, 5, 5))
_TD_TOYS = (Geometry(3, 3, 2), Geometry(2, 3, 2))
_PAGES = ("page tables", "S-EPT pages", "PAMT pages")


class Split(NamedTuple):
    """A split, as `tdpkit.lab.budget.predict` takes it."""

    layout: Layout
    span: GfnRange
    kind: str
    split: str = "edges"
    room: int = 0

    @property
    def budget(self) -> Budget:
        """Its pages, by arithmetic."""
        span = self.span
        return predict(self.layout, span.start, span.end, kind=self.kind, split=self.split, room=self.room)


def draw(chance: Random, level: int) -> Split:
    """A toy; x86, plain or TD; Dynamic PAMT, a split of all that the range touches, holes, odd ranges."""
    return varied(chance, lambda: _some_split(chance, level), lambda given: right(given)[0] < 2)


def _some_split(chance: Random, level: int) -> Split:
    if level == 1:
        kind = chance.choice((PLAIN, PLAIN, TD))
        geometry = chance.choice(_PLAIN_TOYS if kind == PLAIN else _TD_TOYS)
        top = geometry.max_leaf_level
        layout = some_leaves(chance, geometry, top, 0, 32 // geometry.pages(top), holes=False)
        return Split(layout, some_range(chance, layout), kind)
    if level == 2:
        kind = chance.choice((PLAIN, TD))
        layout = some_leaves(chance, X86_4LEVEL if kind == PLAIN else TD_4LEVEL, 3, 0, 4, holes=False)
        return Split(layout, some_range(chance, layout), kind)
    if chance.random() < 0.3:
        layout = full_of(X86_4LEVEL, chance.randint(2, 6) << 18, chance.choice((2, 3)))
        return Split(layout, some_range(chance, layout), PLAIN, "everything")
    layout = some_leaves(chance, TD_4LEVEL, 3, chance.randrange(4) << 18, 3, holes=True)
    return Split(layout, some_range(chance, layout, traps=True), DYNAMIC, room=chance.choice((0, 1, 2)))


_KIND_WORDS = {PLAIN: "A plain VM", TD: "A TD", DYNAMIC: "A TD with Dynamic PAMT"}
_RULES = {
    PLAIN: "A split of a leaf takes a page table, which holds the leaves of the next smaller size.",
    TD: "A split of a leaf takes a page table for the mirror tree, which holds the leaves of the next "
    "smaller size, and a page for the S-EPT beside it. PAMT pages are there from the start.",
    DYNAMIC: "A split of a leaf takes a page table for the mirror tree, which holds the leaves of the next "
    "smaller size, and a page for the S-EPT beside it. PAMT pages come in pairs: a pair for each 2M of the "
    "guest that goes from a 2M leaf to 4K leaves, and a pair for each 2M region of host memory in which "
    "S-EPT pages lie, unless that has its pair.",
}


_ROOM = (
    "The first of them begins a new region",
    "The first of them is the last page of a region that has its pair",
    "The first two of them are the last pages of a region that has its pair",
)
"""By the number of pages that still fit into a region with its pair."""


def ask(given: Split) -> str:
    """Give the leaves, the rules and the split."""
    said = [f"{_KIND_WORDS[given.kind]} is mapped so:\n\n{leaves_table(given.layout)}", _RULES[given.kind]]
    if given.kind == DYNAMIC:
        said.append(f"The host hands S-EPT pages out side by side. {_ROOM[given.room]}.")
    span = names_of(given.layout.geometry).span(given.span.start, given.span.end)
    if given.split == "edges":
        said.append(
            f"Every leaf that crosses an edge of the range {span} is split, and again what crosses of the "
            "leaves that this makes, until none does. An empty range has its one edge. How many pages does "
            "this take?"
        )
    else:
        said.append(
            f"Every huge leaf that holds frames of the range {span} is split, and again each huge leaf that "
            "this makes if it holds frames of the range, until all of the range is mapped by the smallest "
            "leaves. How many pages does this take?"
        )
    return "\n\n".join(said)


def form(given: Split) -> str:
    """Three numbers."""
    return f"three numbers, `({', '.join(_PAGES)})`, in this order."


def right(given: Split) -> tuple[int, int, int]:
    """Page tables, S-EPT pages, PAMT pages."""
    need = given.budget.need
    return need.tables, need.external, need.pamt_guest + need.pamt_sept


def hold(given: Split, answer: Any) -> str:
    """The counterexample is the first number that is wrong, and the leaves that make it."""
    three = ordered(answer, len(_PAGES))
    if three is None or any(whole(number) is None for number in three):
        raise refused(f"three numbers are wanted, ({', '.join(_PAGES)})", answer)
    reasons = [*_reasons(given)]
    for what, number, wanted, why in zip(_PAGES, three, right(given), reasons, strict=True):
        if whole(number) != wanted:
            fault = "too few" if (whole(number) or 0) < wanted else "too many"
            raise Wrong(f"{what}: {shown(number)} is {fault}: {why}.", _drawn(given))
    return f"{reasons[0]}."


def _drawn(given: Split) -> Counterexample | None:
    """The leaves that cross; nothing where the edges do not matter."""
    kind = "plain" if given.kind == PLAIN else "TD"
    return looked_at(given.layout, given.span, kind) if given.split == "edges" else None


def _reasons(given: Split) -> Iterator[str]:
    """Say of each kind of pages why there are so many."""
    budget = given.budget
    yield f"one for each split: {_splits_in_words(given)}"
    if given.kind == PLAIN:
        yield "a plain VM has no S-EPT"
        yield "a plain VM has no PAMT"
        return
    yield "one beside each page table"
    if given.kind == TD:
        yield "without Dynamic PAMT all of them are there from the start"
        return
    demoted, regions = budget.need.pamt_guest // 2, budget.need.pamt_sept // 2
    yield (
        f"{count_of(demoted, 'pair')} for what goes from 2M to 4K, {count_of(regions, 'pair')} for new "
        "regions of S-EPT pages; a pair is two pages"
    )


def _splits_in_words(given: Split) -> str:
    name = names_of(given.layout.geometry)
    if given.split == "edges":
        blocks = sorted(splits_at_edges(given.layout, given.span), key=lambda block: (block[0], -block[1]))
        return listed(name.leaf(*block) for block in blocks) if blocks else "nothing crosses"
    size = given.layout.geometry.pages
    made = [(count, name.size(size(level))) for level, count in given.budget.splits.items()]
    return listed(f"{group_digits(count)} of {leaves}" for count, leaves in made if count)


def work(given: Split) -> str:
    """Find the splits, then count by kind."""
    return steps(_counted(given))


def _counted(given: Split) -> Iterator[str]:
    yield from _at_edges(given) if given.split == "edges" else _in_range(given)
    for what, number, why in zip(_PAGES, right(given), _reasons(given), strict=True):
        yield f"{what[0].upper()}{what[1:]}: {group_digits(number)}, {why}."


def _at_edges(given: Split) -> Iterator[str]:
    geometry, blocks = given.layout.geometry, splits_at_edges(given.layout, given.span)
    name = names_of(geometry)
    before: set[tuple[int, int]] = set()
    for edge in dict.fromkeys((given.span.start, given.span.end)):
        inside = {(gfn, level) for gfn, level in blocks if gfn < edge < gfn + geometry.pages(level)}
        mine = sorted(inside, key=lambda block: -block[1])
        split = listed(name.leaf(*block) for block in mine) if mine else "nothing"
        again = f"; the first edge split {len(inside & before)} of them already" if inside & before else ""
        yield f"The edge {name.frame(edge)} splits {split}{again}."
        before |= inside


def _in_range(given: Split) -> Iterator[str]:
    geometry, span = given.layout.geometry, given.span
    for level in range(max(given.budget.splits), PG_LEVEL_4K, -1):
        size = geometry.pages(level)
        first, after = span.start // size, -(-span.end // size)
        yield (
            f"{count_of(after - first, 'block')} of {names_of(geometry).size(size)} with frames of the "
            f"range, from number {group_digits(first)} to number {group_digits(after - 1)}."
        )


KIND = Kind("pages for a split", draw, ask, form, right, hold, work)
