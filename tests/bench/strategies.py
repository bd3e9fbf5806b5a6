"""The arithmetic of the edges, the plain split of 16 GiB, and the search of the toy universes."""

from __future__ import annotations

import time
import timeit
from collections.abc import Iterator

from tdpkit.engine.gfn import X86_4LEVEL, GfnRange
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.scan import populate
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.lab.judge import run_strategy
from tdpkit.lab.search import SAMPLED, UNIVERSES, sample, search
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES, edge_blocks, plain_split

from .figures import Figure

SAMPLES = 20_000
RANGES = {"8 KiB": ("2T+4K", "2T+12K"), "12 TiB": ("2T+4K", "14T+4K")}
SIXTEEN_GIB = {
    "1G leaves": (3, 17, "0", "16G", 8208),
    "2M leaves": (2, 17 * 512, "0", "16G", 8192),
    "1G leaves, shifted by a frame": (3, 17, "4K", "16G+4K", 8210),
}
"""Level and number of leaves, range, and the tables that splitting it to 4K makes (S133)."""


def strategy_figures() -> Iterator[Figure]:
    """All of this module's, in the order of the table."""
    yield from edge_figures()
    yield from plain_figures()
    yield from universe_figures()


def edge_figures(runs: int = 7, loops: int = 20_000) -> Iterator[Figure]:
    """Best of some runs each: nothing but other processes makes one slower than another."""
    best = {}
    for size, ends in RANGES.items():
        span = GfnRange.parse(*ends)
        timer = timeit.Timer(lambda span=span: (edge_blocks(span.start), edge_blocks(span.end)))
        best[size] = min(timer.repeat(runs, loops)) / loops
        yield Figure(f"edge_blocks, both edges of {size}", 1e6 * best[size], "µs", limit=5)
    yield Figure("  the long range / the short one", best["12 TiB"] / best["8 KiB"], "×")


def plain_figures() -> Iterator[Figure]:
    """Page tables that a plain split of 16 GiB makes, entry by entry."""
    for what, (level, leaves, start, end, expected) in SIXTEEN_GIB.items():
        root, span = TdpMmuRoot(PageTablePool(X86_4LEVEL)), GfnRange.parse(start, end)
        populate(root, 0, level, leaves, 0)
        began = time.perf_counter()
        tables = run_strategy(root, plain_split, span).tables
        took = time.perf_counter() - began
        fault = "" if tables == expected else f"not {expected}"
        yield Figure(f"tables to split 16 GiB to 4K, {what}", tables, "tables", expected, fault)
        yield Figure("  step by step", 1e3 * took, "ms")


def universe_figures() -> Iterator[Figure]:
    """What the test command searches: three universes whole, two larger toys by samples. CPU seconds."""
    total = wrong = 0.0
    for name, universe in UNIVERSES.items():
        tried = CONTENDERS if name == "four levels, one root entry" else STRATEGIES
        began = time.process_time()
        tallies = search(universe, tried)
        took = time.process_time() - began
        total += took
        wrong += sum(tallies[contender].cases - tallies[contender].exact for contender in CONTENDERS)
        cases = tallies["walk_v3"].cases
        yield Figure(f"{cases} cases, {len(tried)} strategies: {universe.title}", took, "s of CPU")
    for name, geometry in SAMPLED.items():
        began = time.process_time()
        sample(geometry, STRATEGIES, SAMPLES)
        took = time.process_time() - began
        total += took
        yield Figure(f"{SAMPLES} samples, {len(STRATEGIES)} strategies: {name}", took, "s of CPU")
    yield Figure("all of them", total, "s of CPU", limit=30)
    yield Figure("cases in which a contender is not exact", wrong, "cases", limit=0)
