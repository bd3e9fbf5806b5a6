"""Problems without end: how long one takes to be drawn, written down and solved."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

from tdpkit.exercises.problems import KINDS, LEVELS, Problem

from .figures import Figure, percentile


def problem_figures(seeds: int = 300) -> Iterator[Figure]:
    """A row for each kind: its slowest level."""
    for kind in KINDS:
        times = {level: _p95(kind, level, seeds) for level in LEVELS}
        slowest = max(times, key=times.__getitem__)
        yield Figure(f"a problem, {kind}, p95", times[slowest], "ms", 50, note=f"level {slowest}")


def _p95(kind: str, level: int, seeds: int) -> float:
    """In milliseconds; one collection of garbage for all, for it takes longer than a problem."""
    gc.collect()
    times = []
    for seed in range(seeds):
        begin = time.perf_counter()
        _made(kind, seed, level)
        times.append(1e3 * (time.perf_counter() - begin))
    return percentile(times, 95)


def _made(kind: str, seed: int, level: int) -> None:
    problem = Problem(kind, seed, level)
    assert problem.question
    assert problem.solution
