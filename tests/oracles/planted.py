"""Faults to plant in the engine or in a plan: what several tests of claims need."""

from collections.abc import Callable
from typing import Any

import pytest

from tdpkit.engine import tdp_mmu
from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.lab import strategies
from tdpkit.lab.strategies import STRATEGIES, PlannedCall


def strict_predicate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch's predicate with < for <=: a leaf that ends with the range crosses, it says."""

    def crosses(it: TdpIter, start: int, end: int) -> bool:
        return not (it.gfn >= start and it.gfn + (1 << it.shifts[it.level]) < end)

    monkeypatch.setattr(tdp_mmu, "iter_cross_boundary", crosses)


def blind_predicate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patch's predicate sees the start of a range only."""
    monkeypatch.setattr(tdp_mmu, "iter_cross_boundary", lambda it, start, end: it.gfn < start)


def blocks_rounded_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block around an edge begins at the next multiple of its size."""
    real = strategies.blocks

    def rounded_up(geometry: Geometry, x: int) -> list[PlannedCall]:
        return [call._replace(start=call.end, end=2 * call.end - call.start) for call in real(geometry, x)]

    monkeypatch.setattr(strategies, "blocks", rounded_up)


def page_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each split takes a page more than the table it links."""
    real = tdp_mmu.tdp_mmu_split_huge_page

    def wasteful(root: Any, *given: Any, **named: Any) -> Coroutine[int]:
        root.pool.alloc()
        return real(root, *given, **named)

    monkeypatch.setattr(tdp_mmu, "tdp_mmu_split_huge_page", wasteful)


def plan_of(name: str, other: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The strategy of one name makes the calls of another."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(STRATEGIES[name], "plan", STRATEGIES[other].plan)

    return plant
