"""The cache of PAMT pages for splits: designs of the thread, attacked by every schedule of two conversions.

Pages for Dynamic PAMT cannot be allocated under mmu_lock, so they wait in a cache (S179). Two threads split
leaves of their own and share nothing but the cache. A split that finds too few pages there is a KVM_BUG.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from .schedules import CACHES, Replay, Setting, explored


class DesignRow(NamedTuple):
    """One design and what all schedules found.

    survives: no schedule makes a split fail. topups: the fewest and the most top-ups of a schedule in which
    none fails. witness: the shortest schedule that makes one fail, "" if none does; why: in a sentence.
    """

    name: str
    rule: str
    survives: bool
    states: int
    interleavings: int
    topups: tuple[int, int]
    witness: str
    why: str


@cache
def cache_designs() -> tuple[DesignRow, ...]:
    """All designs, each attacked by every schedule."""
    return tuple(map(_attacked, CACHES))


def _attacked(name: str) -> DesignRow:
    explorer, found = explored(Setting("cache", cache=name))
    assert found.interleavings is not None
    ends = [state for state in found.ends if not explorer.broken(state)]
    topups = [explorer.look(state).words["top-ups"] for state in ends]
    schedule = found.witness.get("no failure")
    why = Replay(explorer, schedule).why[-1].text if schedule else ""
    return DesignRow(
        name,
        CACHES[name],
        schedule is None,
        found.states,
        found.interleavings,
        (min(topups), max(topups)),
        str(schedule or ""),
        why,
    )
