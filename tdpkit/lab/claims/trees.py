"""Make the calls of a plan on a layout, and count: several experiments do."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot

from ..judge import run_strategy
from ..layouts import Layout, map_layout
from ..strategies import Planner


class Counted(NamedTuple):
    """Counts of a plan's calls: SPTEs visited, leaves split, times mmu_lock was dropped."""

    visits: int
    splits: int
    lock_drops: int


def rooted(layout: Layout) -> TdpMmuRoot:
    """A fresh root of a plain VM with the leaves of `layout`."""
    root = TdpMmuRoot(PageTablePool(layout.geometry))
    map_layout(root, layout)
    return root


def counted(layout: Layout, plan: Planner, span: GfnRange) -> Counted:
    """The calls of `plan` for `span`, made on a fresh tree of `layout`."""
    report = run_strategy(rooted(layout), plan, span)
    return Counted(report.all_visits, report.splits, report.lock_drops)
