"""What a walk and a split call cost in visits, by arithmetic alone (findings 1).

A visit is one execution of the walk's loop body, that is, one entry looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from tdpkit.engine.gfn import Geometry, GfnRange


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
