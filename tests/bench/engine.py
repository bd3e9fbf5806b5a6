"""The machine without a browser: imports, populating, replaying, walking."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from ctypes import CDLL
from pathlib import Path
from statistics import median

import numpy as np

from tdpkit.engine.events import run
from tdpkit.engine.gfn import PAGE_SHIFT, X86_4LEVEL, parse_gfn
from tdpkit.engine.kvm import KVM_X86_TDX_VM, Kvm
from tdpkit.engine.scan import count_visits, populate, scan
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, SPTE_BASE_ADDR_MASK
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, tables_per_level
from tdpkit.show.walk import WalkStepper
from tests.browser.lab import Unfit

from .c_walkers import CWalker, compiled
from .figures import Figure

VECTORS = Path(__file__).parents[1] / "vectors"
LEAVES = parse_gfn("16T") // parse_gfn("2M")
PAGE_BYTES = 4096


def engine_figures() -> Iterator[Figure]:
    """All of this module's, in the order of the table."""
    yield from import_figures()
    yield from populate_figures()
    yield from conformance_figures()
    yield from visit_figures()
    yield from scan_figures()
    yield from stepper_figures()


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long `work` takes, without the garbage of what came before."""
    gc.collect()
    begin = clock()
    work()
    return clock() - begin


def _fresh(*arguments: str) -> float:
    command = [sys.executable, *arguments]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def import_figures(runs: int = 15) -> Iterator[Figure]:
    """Fresh processes, taken in turn, so that a slow moment of the machine slows them all."""
    nothing, package, machine = [], [], []
    for _ in range(runs):
        nothing.append(_fresh("-c", "pass"))
        package.append(_fresh("-c", "import tdpkit"))
        machine.append(_fresh("-c", "import tdpkit.lab.guest"))
    yield Figure(
        "import tdpkit, beyond python -c pass", 1e3 * _median_excess(package, nothing), "ms", limit=50
    )
    yield Figure("  the whole process", 1e3 * median(package), "ms")
    yield Figure("  python -c pass", 1e3 * median(nothing), "ms")
    yield Figure("  import tdpkit.lab.guest likewise", 1e3 * _median_excess(machine, nothing), "ms")


def _median_excess(times: list[float], bare: list[float]) -> float:
    return median(one - other for one, other in zip(times, bare, strict=True))


def _populated() -> TdpMmuRoot:
    root = Kvm(KVM_X86_TDX_VM, X86_4LEVEL).mirror_root
    assert root is not None
    populate(root, 0, 2, LEAVES, 0)
    return root


def populate_figures(runs: int = 9) -> Iterator[Figure]:
    """Beside a bare fill of as many bytes: what first touching them costs differs by machine and moment."""
    root = _populated()
    tables = sum(tables_per_level(root))
    del root
    populated, filled = [], []
    for _ in range(runs):
        populated.append(seconds(_populated))
        filled.append(seconds(lambda: np.empty(tables * PAGE_BYTES // 8, dtype=np.uint64).fill(1)))
    gc.collect()
    tracemalloc.start()
    root = _populated()  # alive while it is weighed
    held, _ = tracemalloc.get_traced_memory()
    del root
    tracemalloc.stop()
    yield Figure("populate 16 TiB with 2M leaves", 1e3 * median(populated), "ms", limit=50)
    yield Figure("  a bare NumPy fill of the same bytes", 1e3 * median(filled), "ms")
    yield Figure("  populate / bare fill", median(populated) / median(filled), "×")
    yield Figure("  memory held / the hardware's tables", held / (tables * PAGE_BYTES), "×", limit=1.1)


def conformance_figures() -> Iterator[Figure]:
    """The command that a reader would type, from its start to its exit status."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "tdpkit.lab.conformance", str(VECTORS)]
    replay = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    counts = re.findall(r"(\d+)/(\d+)$", replay.stdout, re.MULTILINE)
    different = sum(int(cases) - int(equal) for equal, cases in counts)
    fault = "" if replay.returncode == 0 and counts else f"exit status {replay.returncode}"
    cases = sum(int(cases) for _, cases in counts)
    yield Figure(f"recorded cases that replay differently, of {cases}", different, "cases", 0, fault)
    yield Figure("  the replay command", took, "s")


def visit_figures(runs: int = 5) -> Iterator[Figure]:
    """A walk of 1 TiB of 2M leaves, none of which crosses an edge: visits and nothing else.

    CPU time of the best run: nothing but other processes makes one slower than another.
    """
    root, end = _populated(), parse_gfn("1T")

    def split() -> None:
        run(tdp_mmu_split_huge_pages_root(root, 0, end, 1, shared=False, only_cross_boundary=True))

    def walk() -> int:
        it, visits = TdpIter(root, 2, 0), 0
        while it.valid and it.gfn < end:
            visits += 1
            it.next()
        return visits

    visits = walk()
    split_time = min(seconds(split, time.process_time) for _ in range(runs))
    walk_time = min(seconds(walk, time.process_time) for _ in range(runs))
    yield Figure("split coroutine, per visit (the prototype: about 400)", 1e9 * split_time / visits, "ns")
    yield Figure("  TdpIter alone, per visit", 1e9 * walk_time / visits, "ns")


SPAN = parse_gfn("2T+4K"), parse_gfn("14T+4K")
Answer = tuple[int, list[tuple[int, int]]]
"""Visits, and (gfn, level) of the crossing leaves."""
VISITS = 6_303_771
"""25 + 12 289 + 6 291 457 (S230); holes are visited too."""


def scan_figures(runs: int = 15) -> Iterator[Figure]:
    """A walk of SPAN over 2M leaves, by `scan` and by two C walkers on the same memory.

    CPU time of each one's best run, taken in turn. `scan` counts leaves as well, the C walkers do not.
    """
    library, lacking = None, ""
    try:
        library = compiled()
    except Unfit as missing:
        lacking = str(missing)
    for rows, build, limit in (
        ("contiguous rows", _populated, 0.25),
        ("shuffled rows", _shuffled, 0.5),
        ("every third leaf a hole", _holed, 0.5),
    ):
        root = build()
        walks = {"scan": lambda root=root: _scan(root)}
        if library:
            walks |= {name: _c_walk(library, name, root) for name in ("tdp_iter_scan", "tight_scan")}
        fault = _difference(root, {name: walk() for name, walk in walks.items()})
        yield Figure(
            f"SPTEs that scan visits in 12 TiB of 2M leaves, {rows}", _scan(root)[0], "", fault=fault
        )
        times = [
            {name: seconds(walk, time.process_time) for name, walk in walks.items()} for _ in range(runs)
        ]
        best = {name: min(took[name] for took in times) for name in walks}
        yield Figure("  scan, per SPTE", 1e9 * best["scan"] / VISITS, "ns", note=lacking)
        if library:
            yield Figure("  C walker of tdp_iter's shape", 1e9 * best["tdp_iter_scan"] / VISITS, "ns")
            yield Figure("  tight recursive C walker", 1e9 * best["tight_scan"] / VISITS, "ns")
            ratio = best["scan"] / best["tdp_iter_scan"]
            yield Figure("  scan / C walker of tdp_iter's shape", ratio, "×", limit)


def _scan(root: TdpMmuRoot) -> Answer:
    found = scan(root, *SPAN, 2)
    return found.visited, [(leaf.gfn, leaf.level) for leaf in found.crossing]


def _c_walk(library: CDLL, name: str, root: TdpMmuRoot) -> Callable[[], Answer]:
    walker = CWalker(library, name, root)
    return lambda: walker(*SPAN, 2)


def _difference(root: TdpMmuRoot, answers: dict[str, Answer]) -> str:
    """Who is wrong; empty if nobody."""
    right = (VISITS, [(parse_gfn("2T"), 2), (parse_gfn("14T"), 2)])
    wrong = [f"{name} says {answer}" for name, answer in answers.items() if answer != right]
    if count_visits(root, *SPAN, 2) != VISITS:
        wrong.append("the pool's record of the tables is not as the tree")
    return "; ".join(wrong)


def _leaf_tables(root: TdpMmuRoot) -> tuple[int, np.ndarray]:
    """First row and entries of the populated tables of 2M leaves, which lie side by side."""
    rows = [row for row, level, _ in root.pool.pages() if level == 2]
    first, chunk = next(chunk for chunk in root.pool.chunks if chunk[0] == rows[0])
    tables = np.frombuffer(chunk, dtype=np.uint64).reshape(-1, root.geometry.entries)
    assert rows == list(range(first, first + len(tables)))
    return first, tables


def _shuffled() -> TdpMmuRoot:
    """The tables of 2M leaves in rows of random order: one by one, a pool takes seconds to get there."""
    root = _populated()
    first, tables = _leaf_tables(root)
    place = np.random.default_rng(1).permutation(len(tables)).astype(np.uint64)
    tables[place] = tables.copy()
    gfns = np.frombuffer(root.pool.gfn, dtype=np.uint64)[first : first + len(tables)]
    gfns[place] = gfns.copy()
    for row in [row for row, level, _ in root.pool.pages() if level == 3]:
        links = np.frombuffer(root.pool.table(row), dtype=np.uint64)
        before = ((links & SPTE_BASE_ADDR_MASK) >> PAGE_SHIFT) - first
        links[:] = links & ~np.uint64(SPTE_BASE_ADDR_MASK) | (place[before] + first) << PAGE_SHIFT
    return root


def _holed() -> TdpMmuRoot:
    """Regular holes, which are what a branch predictor likes best: random ones slow C down, not `scan`."""
    root = _populated()
    _leaf_tables(root)[1].reshape(-1)[::3] = SHADOW_NONPRESENT_VALUE
    return root


def stepper_figures(runs: int = 5) -> Iterator[Figure]:
    """Recording calls of about two thousand steps: mostly visits, and mostly splits."""
    calls = {
        "mostly visits": lambda: WalkStepper("mixed", end="3G+1022M+4K", start="4K"),
        "mostly splits": lambda: WalkStepper(
            "mixed", start="0", end="696M", only_cross_boundary=False, target_level=1
        ),
    }
    for what, build in calls.items():
        steps = len(build().call.steps)
        took = median(seconds(build) for _ in range(runs))
        yield Figure(f"a walk stepper of {steps} steps, {what}", 1e3 * took, "ms", limit=500)
