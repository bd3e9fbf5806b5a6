"""What a walk, a split and the zap after it cost in visits, by arithmetic and by `scan` (S230).

A visit is one execution of the walk's loop body, that is, one entry looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange

if TYPE_CHECKING:
    from tdpkit.engine.scan import Scan


def visits_when_mapped(geometry: Geometry, span: GfnRange, min_level: int) -> dict[int, int]:
    """Entries of each level, from the root's down to `min_level`, that hold frames of `span`.

    What a walk of `span` down to `min_level` visits if all of it is mapped by leaves of `min_level` or
    smaller. `span` lies inside the root and is not empty; an empty one is visited where it lies strictly
    inside an entry, which this formula does not say.
    """
    return {
        level: ((span.end - 1) >> geometry.shifts[level]) - (span.start >> geometry.shifts[level]) + 1
        for level in range(geometry.root_level, min_level - 1, -1)
    }


def visits_again(geometry: Geometry, split_levels: Iterable[int]) -> int:
    """Visits that a split call makes twice: one split drops mmu_lock once, for its page, and the way from the
    root down to the leaf, both included, is walked again.

    split_levels: the level of each leaf that was split. Added to a walk of the final tree, down to the level
    above the target, it gives the visits of the whole call, if nobody interferes.
    """
    return sum(geometry.root_level - level + 1 for level in split_levels)


def visits_in_new_tables(
    geometry: Geometry, splits: Iterable[tuple[int, int]], span: GfnRange, min_level: int
) -> int:
    """Entries of `span` in the tables that `splits`, (gfn, level) each, have made at `min_level` or above.

    Added to a walk of the tree before the call it gives a walk of the final tree.
    """
    visits = 0
    for gfn, level in splits:
        if level > min_level:
            low, high = max(span.start, gfn), min(span.end, gfn + geometry.pages(level))
            visits += visits_when_mapped(geometry, GfnRange(low, high), level - 1)[level - 1]
    return visits


class PlainPrice(NamedTuple):
    """What a plain split call would do: SPTEs visited, leaves split."""

    visits: int
    splits: int


def price_plain_split(geometry: Geometry, found: Scan, span: GfnRange, target_level: int) -> PlainPrice:
    """What a call without the patch's filter over `span` (frames, not empty) would cost; it is not made.

    found: what `scan` meets there down to the level above the target. A leaf is split, and so are those of
    its descendants that hold frames of the range, down to that level (S133).
    """
    min_level = target_level + 1
    whole = dict(found.leaves)
    splits, visits = dict.fromkeys(range(min_level, geometry.root_level + 1), 0), found.visited
    for leaf in found.crossing:
        whole[leaf.level] -= 1
        last = leaf.gfn + geometry.pages(leaf.level)
        part = GfnRange(max(span.start, leaf.gfn), min(span.end, last))
        below = visits_when_mapped(geometry, part, min_level)
        for level in range(min_level, leaf.level + 1):
            splits[level] += below[level]
            visits += below[level] if level < leaf.level else 0
    for of, leaves in whole.items():
        for level in range(min_level, of + 1):
            descendants = leaves * geometry.pages(of) // geometry.pages(level)
            splits[level] += descendants
            visits += descendants if level < of else 0
    again = (count * (geometry.root_level - level + 1) for level, count in splits.items())
    return PlainPrice(visits + sum(again), sum(splits.values()))
