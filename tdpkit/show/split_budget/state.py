"""The split budget's state: the guest on show, the pages predicted, and those that the engine used."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, Geometry, GfnRange, parse_gfn
from tdpkit.lab.budget import Budget, Used, measure, predict, splits_at_edges
from tdpkit.lab.cache_designs import DesignRow
from tdpkit.lab.layouts import TALL_TOY, Layout, full_of, layout_of
from tdpkit.lab.words import Names

MOST_SPLITS = 32
"""The engine is run for so many splits at most: a dragged edge is answered within some 20 ms."""
SIZES = ("small", "large", "few")
"""All leaves of the smaller huge size; all of the larger; two of the smaller, and 4K leaves."""


class BudgetGuest(NamedTuple):
    """A guest: its title in the menu, its shape, its frames, its opening range and the edges' unit.

    few: the first frames of the two huge leaves among 4K leaves.
    """

    title: str
    geometry: Geometry
    frames: int
    start: int
    end: int
    unit_level: int
    few: tuple[int, int]

    @property
    def names(self) -> Names:
        """How its frames are written: by number on the toy."""
        return Names(self.geometry, toy=self.geometry == TALL_TOY)


GUESTS = {
    "toy": BudgetGuest("toy: 64 frames", TALL_TOY, 64, 5, 58, 1, (4, 56)),
    "x86": BudgetGuest(
        "x86: 32 GiB, a range of 16 GiB less 1 MiB at each end",
        X86_4LEVEL,
        parse_gfn("32G"),
        parse_gfn("4G+1M"),
        parse_gfn("20G-1M"),
        2,
        (parse_gfn("4G"), parse_gfn("20G-2M")),
    ),
}
"""Guests by name. The 16 GiB are Yan Zhao's (M9; S133), their place ours."""


@cache
def layout_for(guest: str, size: str) -> Layout:
    """The leaves of `guest` (in GUESTS) for `size` (of SIZES)."""
    _, geometry, frames, *_, few = GUESTS[guest]
    if size != "few":
        return full_of(geometry, frames, PG_LEVEL_2M + (size == "large"))
    first, second = few
    pages = geometry.pages(PG_LEVEL_2M)
    return layout_of(
        geometry,
        frames,
        (0, PG_LEVEL_4K, first),
        (first, PG_LEVEL_2M, 1),
        (first + pages, PG_LEVEL_4K, second - first - pages),
        (second, PG_LEVEL_2M, 1),
        (second + pages, PG_LEVEL_4K, frames - second - pages),
    )


class EdgeBlock(NamedTuple):
    """The aligned block of `level` around an edge, the frames [first, last), and what becomes of it.

    fate: "split"; "shared" (the start's block, which is split once); "multiple" (it begins at the edge: none
    crosses there); "small" (it is mapped by smaller leaves).
    """

    first: int
    last: int
    fate: str


class BudgetState(NamedTuple):
    """All that the picture, the text and the table are made from."""

    guest: BudgetGuest
    layout: Layout
    size: str
    span: GfnRange
    kind: str
    split: str
    budget: Budget
    used: Used | None
    """None where the engine is not run: for more than MOST_SPLITS splits."""
    designs: tuple[DesignRow, ...] = ()

    @property
    def names(self) -> Names:
        """How frames and leaves are written."""
        return self.guest.names

    def edge_blocks(self, level: int) -> tuple[EdgeBlock, EdgeBlock]:
        """The blocks of `level` around start and end, and what a split of the edges makes of them."""
        pages = self.layout.geometry.pages(level)
        crossing = splits_at_edges(self.layout, self.span)

        def block(x: int) -> EdgeBlock:
            first = x - x % pages
            inside = "split" if (first, level) in crossing else "small"
            return EdgeBlock(first, first + pages, inside if x % pages else "multiple")

        start, end = block(self.span.start), block(self.span.end)
        if start == end and end.fate == "split":
            end = end._replace(fate="shared")
        return start, end


def budget_state(
    guest: str,
    size: str,
    start: int,
    end: int,
    kind: str,
    split: str,
    designs: tuple[DesignRow, ...] = (),
) -> BudgetState:
    """Predict the split of frames [start, end) of `guest` (in GUESTS), and run it if it is short.

    Raises as :func:`~tdpkit.lab.budget.predict` does.
    """
    layout = layout_for(guest, size)
    budget = predict(layout, start, end, kind=kind, split=split)
    few = budget.need.tables <= MOST_SPLITS
    used = measure(layout, start, end, kind=kind, split=split) if few else None
    return BudgetState(GUESTS[guest], layout, size, GfnRange(start, end), kind, split, budget, used, designs)
