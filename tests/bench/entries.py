"""Entries of a report: how long two hundred take to be found, guessed, read and put into words."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tdpkit.lab.entries import read_report
from tests.oracles.entries import VALUES

from .figures import Figure, percentile


def entry_figures(count: int = 200, runs: int = 30) -> Iterator[Figure]:
    """One row: a text of `count` lines, values of every layout."""
    rows = [VALUES[number % len(VALUES)] for number in range(count)]
    text = "\n".join(f"0x{row.spte ^ number << 21:x} level {row.level}" for number, row in enumerate(rows))
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        report = read_report(text)
        lines = list(report.lines())
        times.append(1e3 * (time.perf_counter() - begin))
    fault = "" if len(report.values) == count and len(lines) > count else f"{len(report.values)} were read"
    yield Figure(f"{count} entries of a report, p95", percentile(times, 95), "ms", 50, fault)
