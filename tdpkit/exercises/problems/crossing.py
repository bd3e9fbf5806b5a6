"""Which leaves cross: those that hold frames on both sides of an edge of a range."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, parse_gfn
from tdpkit.lab.layouts import Layout
from tdpkit.lab.words import listed

from ..checking import Counterexample, Wrong
from .guests import crossing, leaf_at, leaves_table, looked_at, some_leaves, some_range
from .kind import Kind, as_typed, frames_in, names_of, steps

_TOYS = (Geometry(3, 2, 2), Geometry(2, 3, 2), Geometry(1, 4, 3))


class Ranges(NamedTuple):
    """A guest and the ranges whose edges are asked about."""

    layout: Layout
    spans: tuple[GfnRange, ...]

    @property
    def edges(self) -> list[int]:
        """The frames that begin beyond an edge, each once, in order."""
        return sorted({edge for span in self.spans for edge in (span.start, span.end)})


def draw(chance: Random, level: int) -> Ranges:
    """A range of a toy; one of x86; two of either, empty, of one frame or aligned, over holes."""
    if level == 1:
        geometry = chance.choice(_TOYS)
        top = geometry.max_leaf_level
        layout = some_leaves(chance, geometry, top, 0, 16 // geometry.pages(top), holes=False)
    elif level == 2 or chance.random() < 0.5:
        first = chance.choice((0, parse_gfn("1G"), parse_gfn("3G"), parse_gfn("2T")))
        layout = some_leaves(chance, X86_4LEVEL, 3, first, 4, holes=level == 3)
    else:
        geometry = chance.choice(_TOYS)
        layout = some_leaves(chance, geometry, geometry.max_leaf_level, 0, 4, holes=True)
    spans = [some_range(chance, layout, traps=level == 3) for _ in range(1 if level < 3 else 2)]
    return Ranges(layout, tuple(spans))


def ask(given: Ranges) -> str:
    """Give the leaves and the ranges."""
    name = names_of(given.layout.geometry)
    spans = [name.span(span.start, span.end) for span in given.spans]
    which = f"the range {spans[0]}" if len(spans) == 1 else f"the ranges {listed(spans)}"
    return (
        f"A guest is mapped so:\n\n{leaves_table(given.layout)}\n\nA leaf crosses an edge x if it holds "
        f"{'frames x - 1 and x' if name.toy else 'the 4K before the address x and the 4K from it on'}. "
        f"A range [s, e) has the edges s and e, an empty one too. Which leaves cross an edge of {which}?"
    )


def form(given: Ranges) -> str:
    """First frames, in any order."""
    such, what = _SUCH[names_of(given.layout.geometry).toy]
    return f"the first {what} of these leaves as a list, such as `{such}`, in any order; `[]` for none."


_SUCH = {True: ("[0, 8]", "frames"), False: ('["0", "1G+2M"]', "addresses (or frame numbers)")}
"""On a toy, on x86."""


def right(given: Ranges) -> list[int | str]:
    """First frames, in order."""
    return [as_typed(given.layout.geometry, gfn) for gfn in _firsts(given)]


def _firsts(given: Ranges) -> list[int]:
    return sorted({leaf[0] for edge in given.edges if (leaf := crossing(given.layout, edge))})


def hold(given: Ranges, answer: Any) -> str:
    """The counterexample is a leaf with the frames it holds."""
    said, wanted = frames_in(answer, "the answer is a list of first frames"), _firsts(given)
    name = names_of(given.layout.geometry)
    for gfn in wanted:
        if gfn not in said:
            raise Wrong(f"{_why_it_crosses(given, gfn)}, and you left it out.", _drawn(given))
    for gfn in sorted(said - {*wanted}):
        leaf = leaf_at(given.layout, gfn)
        if leaf is None:
            raise Wrong(f"nothing is mapped at {name.frame(gfn)}.", _drawn(given))
        first, level = leaf
        span = name.span(first, first + given.layout.geometry.pages(level))
        if first != gfn:
            raise Wrong(
                f"no leaf begins at {name.frame(gfn)}: it lies inside the leaf {span}.", _drawn(given)
            )
        raise Wrong(f"leaf {span} has no edge inside: all it holds is on one side.", _drawn(given))
    return f"{listed(_why_it_crosses(given, gfn) for gfn in wanted) if wanted else 'no leaf crosses'}."


def _why_it_crosses(given: Ranges, gfn: int) -> str:
    """By the first edge inside the leaf that begins at `gfn`."""
    return next(
        _crosses_at(given, edge)
        for edge in given.edges
        if (leaf := crossing(given.layout, edge)) and leaf[0] == gfn
    )


def _crosses_at(given: Ranges, edge: int) -> str:
    name, layout = names_of(given.layout.geometry), given.layout
    leaf = crossing(layout, edge)
    assert leaf is not None
    gfn, level = leaf
    span = name.span(gfn, gfn + layout.geometry.pages(level))
    before, after = name.frame(edge - 1), name.frame(edge)
    return f"leaf {span} holds frames {before} and {after}, on both sides of the edge {after}"


def _drawn(given: Ranges) -> Counterexample | None:
    """The range, if it is the only one."""
    return looked_at(given.layout, given.spans[0]) if len(given.spans) == 1 else None


def work(given: Ranges) -> str:
    """Look at the two frames of each edge."""
    return steps(_looked_at(given))


def _looked_at(given: Ranges) -> Iterator[str]:
    layout, name = given.layout, names_of(given.layout.geometry)
    for edge in given.edges:
        here = f"Edge {name.frame(edge)}"
        if not edge:
            yield f"{here}: there is no frame before it, so no leaf crosses."
        elif crossing(layout, edge):
            yield f"{here}: {_crosses_at(given, edge)}. It crosses."
        else:
            sides = (leaf_at(layout, edge - 1), leaf_at(layout, edge))
            before, after = ("a hole" if side is None else f"{name.leaf(*side)}" for side in sides)
            yield f"{here}: before it is {before}, after it {after}. Nothing crosses."


KIND = Kind("which leaves cross", draw, ask, form, right, hold, work)
