"""Blocks of an edge: the leaves that must be split, one below the other, until none crosses the edge."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.words import listed

from ..checking import Wrong, frame, ordered, refused
from .kind import Kind, as_typed, listed_items, names_of, steps

_TOYS = (Geometry(2, 3, 3), Geometry(3, 3, 3), Geometry(4, 3, 3), Geometry(2, 4, 4))
_TD_5LEVEL = Geometry(9, 5, 2)


class Edges(NamedTuple):
    """A machine all of whose memory is mapped by leaves of the largest size, and edges."""

    geometry: Geometry
    edges: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """Frames of a leaf, the largest first, without the smallest."""
        return [self.geometry.pages(level) for level in range(self.geometry.max_leaf_level, 1, -1)]

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(start, end) of each leaf to be split, in the order of their starts, the larger first."""
        found = {block for edge in self.edges for block in self.of_edge(edge)}
        return sorted(found, key=lambda block: (block[0], -block[1]))

    def of_edge(self, edge: int) -> list[tuple[int, int]]:
        """Those that one edge wants: of each size that it is no multiple of, the block around it."""
        return [(edge - edge % size, edge - edge % size + size) for size in self.sizes if edge % size]


def draw(chance: Random, level: int) -> Edges:
    """An edge on a toy; one on x86; both edges of a range, near each other or far, of a TD or five levels."""
    if level == 1:
        geometry = chance.choice(_TOYS)
        return Edges(geometry, (_edge(chance, geometry, geometry.root_pages),))
    if level == 2:
        end = chance.choice((1 << 20, 1 << 24, 1 << 31))
        return Edges(X86_4LEVEL, (_edge(chance, X86_4LEVEL, end),))
    geometry = chance.choice((X86_4LEVEL, X86_4LEVEL, X86_5LEVEL, TD_4LEVEL, _TD_5LEVEL))
    one = _edge(chance, geometry, chance.choice((1 << 20, geometry.shared_bit())))
    size = geometry.pages(chance.randint(1, geometry.max_leaf_level))
    other = one + chance.choice((0, 1, size, _edge(chance, geometry, 2 * size)))
    return Edges(geometry, (one, other))


def _edge(chance: Random, geometry: Geometry, end: int) -> int:
    """A frame below `end`, a multiple of some leaf's size more often than by chance."""
    size = geometry.pages(chance.choice((1, 1, 2, chance.randint(2, geometry.max_leaf_level))))
    return chance.randrange(end) // size * size


def ask(given: Edges) -> str:
    """Give the sizes of leaves and the edges."""
    geometry, name = given.geometry, names_of(given.geometry)
    sizes = [name.size(size) for size in (*given.sizes, 1)]
    edges = [name.frame(edge) for edge in given.edges]
    where = f"the edge {edges[0]}" if len(edges) == 1 else f"both edges of the range [{', '.join(edges)})"
    return (
        f"Leaves have {listed(sizes, 'or')}, and leaves of {sizes[0]} map all of a guest with "
        f"{geometry.root_level} levels of tables. A split of a leaf puts {geometry.entries} leaves of the "
        "next smaller size in its place. No leaf may hold what lies before an edge and what lies after it. "
        f"Which leaves must be split for {where}, those that a split makes included?"
    )


def form(given: Edges) -> str:
    """Pairs, in any order."""
    such = "[(0, 16), (4, 8)]" if names_of(given.geometry).toy else '[("1G", "2G"), ("1G+2M", "1G+4M")]'
    return f"a list of (start, end) of each of these leaves, such as `{such}`, in any order; `[]` for none."


def right(given: Edges) -> list[tuple[int | str, int | str]]:
    """Each leaf as a pair."""
    geometry = given.geometry
    return [(as_typed(geometry, start), as_typed(geometry, end)) for start, end in given.blocks]


def hold(given: Edges, answer: Any) -> str:
    """The counterexample is a leaf left whole, or one that nothing forces apart."""
    said = set()
    for item in listed_items(answer, "the answer is a list of (start, end)"):
        pair = ordered(item, 2)
        if pair is None or isinstance(item, str):
            raise refused("a leaf is a pair (start, end)", item)
        said.add((frame(pair[0], "the start"), frame(pair[1], "the end")))
    name = names_of(given.geometry)
    for start, end in given.blocks:
        if (start, end) not in said:
            x = next(edge for edge in given.edges if start < edge < end)
            sides = f"{name.frame(x - 1)} and {name.frame(x)}"
            raise Wrong(
                f"leaf {name.span(start, end)} holds {sides}, on both sides of the edge {name.frame(x)}, and "
                "you left it whole."
            )
    for start, end in sorted(said - {*given.blocks}):
        raise Wrong(f"{_why_not(given, start, end)}.")
    return "a block for each size of leaf that an edge is no multiple of, and no other."


def _why_not(given: Edges, start: int, end: int) -> str:
    name = names_of(given.geometry)
    here = f"[{name.frame(start)}, {name.frame(end)})"
    if end - start == 1:
        return f"{here} is a leaf of the smallest size, which nothing splits"
    if end - start not in given.sizes:
        return f"no leaf has the size of {here}"
    if start % (end - start):
        return f"no leaf lies at {here}: one of {name.size(end - start)} starts at a multiple of its size"
    return f"{here} has no edge inside: nothing forces it apart"


def work(given: Edges) -> str:
    """Divide each edge by each size."""
    return steps(_divided(given))


def _divided(given: Edges) -> Iterator[str]:
    name, known = names_of(given.geometry), set()
    for edge in dict.fromkeys(given.edges):
        blocks = {end - start: (start, end) for start, end in given.of_edge(edge)}
        for size in given.sizes:
            here = f"{name.frame(edge)} and leaves of {name.size(size)}"
            if size not in blocks:
                yield f"{here}: a multiple, so the edge lies between two of them."
                continue
            again = " It is split already." if blocks[size] in known else ""
            known.add(blocks[size])
            yield f"{here}: no multiple, so {name.span(*blocks[size])} must be split.{again}"


KIND = Kind("blocks of an edge", draw, ask, form, right, hold, work)
