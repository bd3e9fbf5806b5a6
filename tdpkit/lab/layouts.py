"""Every machine and layout that has a name, once: what notebooks, exhibits and exercises start from.

A geometry says how a tree branches, a :class:`Layout` which leaves lie in it. Titles and opening ranges are
the exhibits' own: a menu refers to a layout by its name here.
"""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, InvalidValueError, check_gfn, name_gfn, parse_gfn
from tdpkit.engine.tree import LeafRun, TdpMmuRoot, map_run

from .words import known_name

TOY = Geometry(index_bits=3, root_level=2, max_leaf_level=2)
"""64 frames under leaves of eight, 32 of them private in a TD: small enough to show every byte."""
DEEP_TOY = Geometry(index_bits=2, root_level=3, max_leaf_level=3)
"""64 frames under leaves of 16, 4 and 1: a split has two levels to go down."""
TALL_TOY = Geometry(index_bits=2, root_level=4, max_leaf_level=3)
"""Leaves as in DEEP_TOY, with a level above them: a TD has 128 frames of its own."""
LIFE_TOY = Geometry(index_bits=3, root_level=3, max_leaf_level=2)
"""Leaves of eight, as in TOY, with a level above them: the root holds tables, as a TD's does."""
TD_4LEVEL = Geometry(index_bits=9, root_level=4, max_leaf_level=2)
"""A TD as the series maps it: 2M at most."""

_STEPWISE_LEAVES = 1 << 13
"""Entry by entry, that many leaves are mapped within some 10 ms."""


class Layout(NamedTuple):
    """A guest to start from: its shape, its leaves in the order of their frames, its size in frames."""

    geometry: Geometry
    leaves: tuple[LeafRun, ...]
    frames: int

    @property
    def is_large(self) -> bool:
        """NumPy maps the leaves; fewer of them the standard library maps."""
        return sum(run.count for run in self.leaves) > _STEPWISE_LEAVES


def map_layout(root: TdpMmuRoot, layout: Layout) -> None:
    """Map the leaves of `layout`; raises InvalidValueError where the root cannot hold them."""
    put = map_run
    if layout.is_large:
        from tdpkit.engine.scan import populate as put
    for gfn, level, count, pfn in layout.leaves:
        put(root, gfn, level, count, pfn)


def layout_of(geometry: Geometry, frames: int, *runs: tuple[int, int, int]) -> Layout:
    """Leaves (gfn, level, count), each on the host frames of the same number."""
    return Layout(geometry, tuple(LeafRun(gfn, level, count, gfn) for gfn, level, count in runs), frames)


def full_of(geometry: Geometry, frames: SupportsIndex, level: SupportsIndex) -> Layout:
    """A guest of `frames` frames, all mapped by leaves of `level`, on host frames of the same numbers.

    Raises InvalidValueError for a level that no leaf has, and for frames that are none, no whole number of
    such leaves, or more than the root holds.
    """
    number, pages, label = geometry.level(level)
    size = check_gfn(frames, "a number of frames")
    if number > geometry.max_leaf_level:
        largest = geometry.level(geometry.max_leaf_level).label
        raise InvalidValueError(f"the largest leaf here is {largest}; no guest is full of leaves of {label}")
    if not size or size % pages or size > geometry.root_pages:
        raise InvalidValueError(
            f"a guest of {label} leaves is a multiple of {label}, up to {name_gfn(geometry.root_pages)}; "
            f"{name_gfn(size)} is none"
        )
    return layout_of(geometry, size, (0, number, size // pages))


_1G, _4G, _16T = map(parse_gfn, ("1G", "4G", "16T"))

LAYOUTS = {
    "eight": layout_of(TOY, 8, (0, 2, 1)),
    "toy": layout_of(TOY, 32, (0, 2, 2), (16, 1, 8), (24, 2, 1)),
    "steps": layout_of(DEEP_TOY, 64, (0, 2, 2), (8, 1, 2), (11, 1, 1), (16, 3, 2)),
    "large": layout_of(DEEP_TOY, 64, (0, 3, 4)),
    "one-1G": layout_of(X86_4LEVEL, 3 * _1G, (_1G, 3, 1)),
    "two-1G": layout_of(X86_4LEVEL, _4G, (_1G, 3, 2)),
    "mixed": layout_of(
        X86_4LEVEL,
        _4G,
        (0, 1, 1024),
        (parse_gfn("4M"), 2, 254),
        (_1G, 3, 1),
        (2 * _1G, 2, 192),
        (parse_gfn("2G+512M"), 1, 512),
        (3 * _1G, 3, 1),
    ),
    "4G-4K": layout_of(X86_4LEVEL, _4G, (0, 1, _4G)),
    "16T": layout_of(X86_4LEVEL, _16T, (0, 2, 1 << 23)),
    "16T-1G": layout_of(X86_4LEVEL, _16T, (0, 3, 1 << 14)),
    "16T-empty": layout_of(X86_4LEVEL, _16T),
}
"""Eight frames under one leaf; toys with leaves of two and of three sizes; one all in its largest leaves. Of
x86: one and two 1G leaves, leaves of all sizes, 4 GiB of 4K leaves, and the thread's guest of 16 TiB with
2M leaves, with 1G leaves, with nothing mapped yet.
"""


def layout_named(layout: str | Layout) -> Layout:
    """The layout of this name, or `layout` itself if it is one (InvalidValueError for another name)."""
    return layout if isinstance(layout, Layout) else LAYOUTS[known_name(layout, LAYOUTS, "a layout")]
