"""Every schedule of every scenario: how long the command and a changed rule take."""

from __future__ import annotations

from collections.abc import Iterator

from tdpkit.lab.schedules import SCENARIOS, THREE, Explorer, search
from tdpkit.lab.schedules.scenarios import Scenario, build_of

from .engine import seconds
from .figures import Figure


def schedule_figures(runs: int = 3) -> Iterator[Figure]:
    """The slowest scenario of two threads, all of them, and those of three."""
    best = {name: min(_explore(one) for _ in range(runs)) for name, one in SCENARIOS.items()}
    slowest = max(best, key=best.__getitem__)
    yield Figure(f"the slowest of {len(best)} scenarios of two threads", best[slowest], "s", 5, note=slowest)
    yield Figure("  all of them", sum(best.values()), "s")
    three = {name: _explore(one) for name, one in THREE.items()}
    yield Figure(f"{len(three)} scenarios of three threads", sum(three.values()), "s")


def _explore(scenario: Scenario) -> float:
    """Seconds for a search of its own, to its end."""
    return seconds(lambda: search(Explorer(build_of(scenario.setting))))
