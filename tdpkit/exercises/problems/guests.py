"""Guests and ranges drawn by chance: leaves of several sizes, holes, and edges in or between them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import Layout, layout_of
from tdpkit.lab.words import count_of
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state

from ..checking import Counterexample
from .kind import markdown_table, names_of

Run = tuple[int, int, int]
"""First frame, level, number of leaves."""
_MOST_RUNS = 7
"""Rows of a table that one takes in at a glance."""


def some_leaves(
    chance: Random, geometry: Geometry, level: int, first: int, blocks: int, *, holes: bool
) -> Layout:
    """A guest of so many blocks of `level` from frame `first` on, each whole or in smaller leaves."""
    runs = joined(geometry, [*_stretches(chance, geometry, level, first, blocks, holes)])
    if len(runs) > _MOST_RUNS or not any(of > PG_LEVEL_4K for _, of, _ in runs):
        return some_leaves(chance, geometry, level, first, blocks, holes=holes)
    return layout_of(geometry, first + blocks * geometry.pages(level), *runs)


def _stretches(
    chance: Random, geometry: Geometry, level: int, first: int, blocks: int, holes: bool
) -> Iterator[Run]:
    """Up to three stretches of leaves or holes; one block of a stretch may be made of smaller leaves."""
    pages, at = geometry.pages(level), 0
    while at < blocks:
        count = min(blocks - at, chance.randint(1, max(1, blocks // 2)))
        gfn = first + at * pages
        if holes and chance.random() < 0.25:
            pass
        elif level > PG_LEVEL_4K and (level > geometry.max_leaf_level or chance.random() < 0.4):
            yield from _stretches(chance, geometry, level - 1, gfn, geometry.entries, holes)
            if count > 1 and level <= geometry.max_leaf_level:
                yield gfn + pages, level, count - 1
        else:
            yield gfn, level, count
        at += count


def joined(geometry: Geometry, runs: list[Run]) -> list[Run]:
    """Runs of the same level that touch are one."""
    found: list[Run] = []
    for gfn, level, count in runs:
        if found:
            before, of, many = found[-1]
            if of == level and before + many * geometry.pages(level) == gfn:
                found[-1] = before, level, many + count
                continue
        found.append((gfn, level, count))
    return found


def some_edge(chance: Random, layout: Layout, *, inside: bool) -> int:
    """A frame strictly inside a leaf, often next to a boundary of smaller leaves; or one at a boundary."""
    geometry = layout.geometry
    huge = [run for run in layout.leaves if run.level > PG_LEVEL_4K]
    gfn, level, count, _ = chance.choice(huge)
    pages = geometry.pages(level)
    leaf = gfn + chance.randrange(count) * pages
    if not inside:
        return chance.choice([leaf, leaf + pages, layout.leaves[0].gfn, layout.frames])
    smaller = geometry.pages(level - 1)
    part = chance.randrange(geometry.entries) * smaller
    near = chance.choice((part, part + 1, part - 1, chance.randrange(pages)))
    return leaf + min(max(near, 1), pages - 1)


def some_range(chance: Random, layout: Layout, *, traps: bool = False) -> GfnRange:
    """A range with edges inside leaves or at their boundaries; with `traps` often a degenerate one."""
    start, end = sorted(some_edge(chance, layout, inside=chance.random() < 0.6) for _ in range(2))
    if traps and chance.random() < 0.4:
        end = start + chance.choice((0, 1))
    elif start == end:
        return some_range(chance, layout, traps=traps)
    return GfnRange(start, min(end, layout.frames))


def leaf_at(layout: Layout, gfn: int) -> tuple[int, int] | None:
    """(first frame, level) of the leaf that maps a frame; None in a hole."""
    for first, level, count, _ in layout.leaves:
        pages = layout.geometry.pages(level)
        if first <= gfn < first + count * pages:
            return gfn - (gfn - first) % pages, level
    return None


def crossing(layout: Layout, edge: int) -> tuple[int, int] | None:
    """The leaf that holds both the frame before the edge and the one after it."""
    before = leaf_at(layout, edge - 1) if edge else None
    return before if before is not None and before == leaf_at(layout, edge) else None


def leaves_table(layout: Layout) -> str:
    """The leaves of a guest, a row for each run of one size, and a row for each hole."""
    name, rows, at = names_of(layout.geometry), [], 0
    for gfn, level, count, _ in layout.leaves:
        if gfn > at:
            rows.append((name.span(at, gfn), "nothing is mapped"))
        at = gfn + count * layout.geometry.pages(level)
        leaves = count_of(count, "leaf", "leaves")
        rows.append((name.span(gfn, at), f"{leaves} of {name.size(layout.geometry.pages(level))}"))
    if at < layout.frames:
        rows.append((name.span(at, layout.frames), "nothing is mapped"))
    unit = "frames" if name.toy else "addresses"
    return markdown_table((unit, "mapped by"), rows)


def looked_at(layout: Layout, span: GfnRange, kind: str = "plain") -> Counterexample | None:
    """The guest, a VM of `kind`, and what crosses, drawn; nothing for an empty range: no exhibit takes it."""
    if not span.pages:
        return None
    return Counterexample(boundary_state(Guest(layout, kind), span.start, span.end, "look"), boundary_svg)
