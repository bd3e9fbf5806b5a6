"""Ways to make the edges of a range safe before a zap, behind one signature, run on the engine.

A strategy is a plan: it turns a geometry and a range into calls of `tdp_mmu_split_huge_pages_root`, by
arithmetic on the two edges alone. It never sees the tree, so what a strategy is worth does not depend on who
runs it. :func:`run_strategy` makes the calls and reports what they did.

Below, s and e are the range's edges, "2M" and "1G" the sizes of its leaves above 4K; a toy's are its own. In
a range that starts and ends at one frame, that frame is an edge like any other, for every strategy here.

Left out: the zap that follows (`cost`), and which roots are meant (notebook 04).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from tdpkit.engine.events import Coroutine, run
from tdpkit.engine.gfn import (
    PG_LEVEL_4K,
    X86_4LEVEL,
    Geometry,
    GfnRange,
    align_down,
    align_up,
    format_gfn,
    parse_gfn,
)
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, check_inside

from .cost import price_plain_split, visits_again, visits_in_new_tables
from .words import count_of
from .worlds import CountingWorld

if TYPE_CHECKING:
    from tdpkit.engine.scan import Scan


class Call(NamedTuple):
    """One call of the split function: frames [start, end), split down to `target_level`."""

    start: int
    end: int
    target_level: int
    only_cross_boundary: bool = False
    """Split only what is not fully inside the call's own range (patch v3)."""

    def __repr__(self) -> str:
        crossing = ", only what crosses" if self.only_cross_boundary else ""
        return f"[{format_gfn(self.start)}, {format_gfn(self.end)}) to level {self.target_level}{crossing}"


Strategy = Callable[[Geometry, GfnRange], list[Call]]
"""A plan for a range. Its calls are made in order."""


# ---- the arithmetic ------------------------------------------------------------------------------------


def edge_blocks(x: int, geometry: Geometry = X86_4LEVEL) -> list[Call]:
    """The blocks to split for one edge: the frames x - 1 and x then share no leaf, and nothing else changes.

    x: the edge, a frame number. For each size of leaf above 4K that x is no multiple of, the aligned block of
    that size around x, down to the next smaller leaf; the largest first. Only a leaf that is one of these
    blocks can hold both frames. The cost does not depend on any range. Kai Huang, M13
    (d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com; kernel-facts C39).
    """
    blocks = []
    for level in range(geometry.max_leaf_level, PG_LEVEL_4K, -1):
        pages = 1 << geometry.shifts[level]
        start = x & -pages
        if start != x:
            blocks.append(Call(start, start + pages, level - 1))
    return blocks


def _once(calls: Iterable[Call]) -> list[Call]:
    """`calls` without those that were made already."""
    return list(dict.fromkeys(calls))


def _largest(geometry: Geometry) -> int:
    """Frames of the largest leaf that there may be (1G on x86)."""
    return geometry.pages(geometry.max_leaf_level)


# ---- four contenders -----------------------------------------------------------------------------------


def walk_v3(geometry: Geometry, span: GfnRange) -> list[Call]:
    """One call over [s, e) that splits only what crosses an edge.

    Yan Zhao, M0, the patch (20260106102136.25108-1-yan.y.zhao@intel.com; kernel-facts 6.4).
    """
    return [Call(span.start, span.end, PG_LEVEL_4K, True)]


def two_calls(geometry: Geometry, span: GfnRange) -> list[Call]:
    """The patch's call twice: over [s, next 1G) and over [last 1G, e).

    Yan Zhao, M7, for very large ranges (aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com; kernel-facts C19).
    """
    return [call._replace(only_cross_boundary=True) for call in two_calls_unfiltered(geometry, span)]


def kai_two_step(geometry: Geometry, span: GfnRange) -> list[Call]:
    """For each edge the 1G block to 2M, then the 2M block to 4K; a shared block once.

    Kai Huang, M13 (d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com; kernel-facts C39).
    """
    return _once(head_and_tail(geometry, span))


def one_block_per_edge(geometry: Geometry, span: GfnRange) -> list[Call]:
    """For each edge its smallest block only: the call splits larger leaves on its way.

    Sean Christopherson's later code does this with leaves of 2M at most (reply to RFC v5 44,
    aXt_L6QKB9CSTZcW@google.com; kernel-facts 7.3); with larger ones, findings 3.
    """
    return _once(call for x in (span.start, span.end) for call in edge_blocks(x, geometry)[-1:])


# ---- beside them ---------------------------------------------------------------------------------------


def empty_range(geometry: Geometry, span: GfnRange) -> list[Call]:
    """A plain call over the empty range [x, x) for each edge: it computes nothing.

    Rests on a quirk of the loop: the walk starts with the entries that hold x and goes on while gfn < end, so
    it visits just those that begin before x. Ours (findings 3).
    """
    return _once(Call(x, x, PG_LEVEL_4K) for x in (span.start, span.end))


def head_and_tail(geometry: Geometry, span: GfnRange) -> list[Call]:
    """All the blocks of both edges, also those that coincide. Kai Huang, M13, without his last remark."""
    return [*edge_blocks(span.start, geometry), *edge_blocks(span.end, geometry)]


def plain_split(geometry: Geometry, span: GfnRange) -> list[Call]:
    """Every huge leaf of [s, e) down to 4K, as dirty logging does (kernel-facts 5.6)."""
    return [Call(span.start, span.end, PG_LEVEL_4K)]


def two_calls_unfiltered(geometry: Geometry, span: GfnRange) -> list[Call]:
    """Two calls to the 1G ends, without the patch's filter: safe, and needlessly thorough (findings 3)."""
    size = _largest(geometry)
    return [
        Call(span.start, align_up(span.start, size), PG_LEVEL_4K),
        Call(align_down(span.end, size), span.end, PG_LEVEL_4K),
    ]


def merged_blocks(geometry: Geometry, span: GfnRange) -> list[Call]:
    """Blocks that overlap are made one, which goes down to the lower of their targets.

    A reading of "the split is only needed once" (Kai Huang, M13) that merges across levels: safe, with many
    splits too many (findings 3).
    """
    merged: list[Call] = []
    for block in sorted(head_and_tail(geometry, span), key=lambda block: (block.start, -block.end)):
        if merged and block.start < merged[-1].end:
            target = min(merged[-1].target_level, block.target_level)
            merged[-1] = merged[-1]._replace(target_level=target)
        else:
            merged.append(block)
    return merged


# ---- wrong, or nearly right ----------------------------------------------------------------------------


def head_rounded_up(geometry: Geometry, span: GfnRange) -> list[Call]:
    """W1: the blocks of s begin at the next multiple of their size, not at the one before (findings 3)."""
    head = (
        Call(block.end, 2 * block.end - block.start, block.target_level)
        for block in edge_blocks(span.start, geometry)
    )
    return _once([*head, *edge_blocks(span.end, geometry)])


def one_frame_each(geometry: Geometry, span: GfnRange) -> list[Call]:
    """W2: [x, x + 1) down to 4K for each edge, aligned or not: safe, not minimal (findings 3)."""
    return _once(Call(x, x + 1, PG_LEVEL_4K) for x in (span.start, span.end))


def last_frame_as_edge(geometry: Geometry, span: GfnRange) -> list[Call]:
    """The tail's blocks are those of e - 1, as if the range's end were part of it (findings 4)."""
    last = max(span.end - 1, 0)
    return _once([*edge_blocks(span.start, geometry), *edge_blocks(last, geometry)])


def one_2m_pass(geometry: Geometry, span: GfnRange) -> list[Call]:
    """Only the 2M blocks, down to 4K: enough where no leaf is larger, as in a TD of the modelled series.

    With 1G leaves an edge that is a multiple of 2M goes unnoticed (findings 3).
    """
    return [block for block in kai_two_step(geometry, span) if block.target_level == PG_LEVEL_4K]


CONTENDERS: dict[str, Strategy] = {
    strategy.__name__: strategy for strategy in (walk_v3, two_calls, kai_two_step, one_block_per_edge)
}
"""The ways that were argued for in the thread, by name."""

STRATEGIES: dict[str, Strategy] = CONTENDERS | {
    strategy.__name__: strategy
    for strategy in (
        empty_range,
        head_and_tail,
        plain_split,
        two_calls_unfiltered,
        merged_blocks,
        head_rounded_up,
        one_frame_each,
        last_frame_as_edge,
        one_2m_pass,
    )
}
"""All of this module's, by name."""


# ---- running one ---------------------------------------------------------------------------------------

STEPWISE = parse_gfn("16G")
"""Frames up to which a call is walked entry by entry."""

Scans = dict[tuple[int, int, int, tuple[tuple[int, int, int], ...]], "Scan"]
"""By start, end, target level and the splits made before: what `scan` found."""


def coroutine_of(call: Call, root: TdpMmuRoot) -> Coroutine[int]:
    """`call` on `root`, with mmu_lock held for write; raises as the engine's function does."""
    start, end, target_level, crossing = call
    return tdp_mmu_split_huge_pages_root(
        root, start, end, target_level, shared=False, only_cross_boundary=crossing
    )


def plan_of(strategy: Strategy, geometry: Geometry, span: GfnRange, limit: int) -> list[Call]:
    """The calls of `strategy` for `span` on a root that holds the frames below `limit`.

    A call that starts there or beyond is left out: nothing lies there, and the kernel's iterator would alias
    to a low entry.
    """
    return [call for call in strategy(geometry, span) if call.start < limit]


class Report(NamedTuple):
    """What the calls of a strategy did to a tree."""

    calls: tuple[Call, ...]
    """The calls that were made, in order."""
    visits: tuple[int, ...]
    """SPTEs that each of them visited."""
    splits: int
    made: tuple[tuple[int, int], ...]
    """(gfn, level) of the leaves that were split in the tree, in order: all of them unless `priced`."""
    restarts: int
    """Times that a walk began again at the root."""
    lock_drops: int
    tables: int
    """Page-table pages that were asked for."""
    priced: bool
    """A plain call was too long to be made: its splits between the edges are counted by formula."""
    errno: int
    """0, or what the first call that failed returned; no call was made after it."""
    root: TdpMmuRoot
    """The tree, as the calls left it; a priced call is made around its own ends and the range's edges."""

    @property
    def all_visits(self) -> int:
        """SPTEs visited by all the calls."""
        return sum(self.visits)

    def __repr__(self) -> str:
        said = [
            count_of(len(self.calls), "call"),
            count_of(self.all_visits, "visit"),
            count_of(self.splits, "split"),
            count_of(self.lock_drops, "lock drop"),
            count_of(self.restarts, "restart"),
            count_of(self.tables, "page table"),
        ]
        priced = " (by formula between the edges)" if self.priced else ""
        failed = f", returned {self.errno}" if self.errno else ""
        return f"{', '.join(said)}{priced}{failed}"


def run_strategy(
    root: TdpMmuRoot,
    strategy: Strategy,
    span: GfnRange,
    *,
    world: CountingWorld | None = None,
    stepwise: int = STEPWISE,
    scans: Scans | None = None,
) -> Report:
    """Make the calls of `strategy` for `span` (frames) on `root`, with mmu_lock held for write.

    The calls are those of :func:`plan_of`. world: watches, and may refuse pages; a fresh one, a kind one if
    None. stepwise: calls over more frames than this are not walked from end to end. One with the patch's
    filter then changes the tree all the same, and is counted exactly (`scan` finds what crosses); a plain
    one, if no other call meets its frames, is `priced`. scans: what long calls found, to be shared by runs
    that start from the same tree. Raises InvalidTypeError or InvalidValueError, with nothing changed, for a
    span that starts beyond the root and for a call that the engine refuses.
    """
    check_inside(root, span.start)
    world = world or CountingWorld()
    scans = {} if scans is None else scans
    calls = plan_of(strategy, root.geometry, span, root.max_gfn_exclusive)
    for call in calls:
        coroutine_of(call, root)  # what the engine refuses, it refuses before anything is changed
    made, visits, priced, errno = 0, [], 0, 0
    for made, call in enumerate(calls, start=1):  # noqa: B007 - how many were made is wanted below
        before, splits = world.iterations, len(world.splits)
        if call.end - call.start <= stepwise or not (call.only_cross_boundary or _is_alone(call, calls)):
            errno = _make(root, call, world)
            visits.append(world.iterations - before)
        elif call.only_cross_boundary:
            errno, visited = _make_at_crossing_leaves(root, call, world, _scan(root, call, world, scans))
            visits.append(visited)
        else:
            found = _scan(root, call, world, scans)
            price = price_plain_split(root.geometry, found, GfnRange(call.start, call.end), call.target_level)
            errno = _make_around_edges(root, call, span, world)
            visits.append(price.visits)
            priced += price.splits - (len(world.splits) - splits)
        if errno:
            break
    return Report(
        calls=tuple(calls[:made]),
        visits=tuple(visits),
        splits=len(world.splits) + priced,
        made=tuple((gfn, level) for _, gfn, level in world.splits),
        restarts=world.lock_drops - world.refused + priced,
        lock_drops=world.lock_drops + priced,
        tables=world.allocations + priced,
        priced=priced > 0,
        errno=errno,
        root=root,
    )


def _is_alone(call: Call, calls: list[Call]) -> bool:
    """No other of `calls` meets the frames of this one."""
    return not any(other is not call and other.start < call.end and call.start < other.end for other in calls)


def _make(root: TdpMmuRoot, call: Call, world: CountingWorld) -> int:
    return run(coroutine_of(call, root), world)


def _scan(root: TdpMmuRoot, call: Call, world: CountingWorld, scans: Scans) -> Scan:
    """What a long call would meet. The splits made so far say in which state the tree is."""
    from tdpkit.engine.scan import scan

    key = (call.start, call.end, call.target_level, tuple(world.splits))
    if key not in scans:
        scans[key] = scan(root, call.start, call.end, call.target_level + 1)
    return scans[key]


def _make_at_crossing_leaves(
    root: TdpMmuRoot, call: Call, world: CountingWorld, found: Scan
) -> tuple[int, int]:
    """A long call with the patch's filter, made where something crosses; its errno and all its visits."""
    geometry, min_level, before, errno = root.geometry, call.target_level + 1, len(world.splits), 0
    for leaf in found.crossing:
        # Nothing crosses the inner end of this part: it is the leaf's own.
        last = leaf.gfn + geometry.pages(leaf.level)
        part = call._replace(start=max(call.start, leaf.gfn), end=min(call.end, last))
        errno = errno or _make(root, part, world)
    splits = [(gfn, level) for _, gfn, level in world.splits[before:]]
    more = visits_in_new_tables(geometry, splits, GfnRange(call.start, call.end), min_level)
    return errno, found.visited + more + visits_again(geometry, (level for _, level in splits))


def _make_around_edges(root: TdpMmuRoot, call: Call, span: GfnRange, world: CountingWorld) -> int:
    """A long plain call, made on the frames beside its own ends and the edges of `span`; its errno.

    What it splits there it would have split on its way through.
    """
    errno = 0
    for x in sorted({call.start, call.end, span.start, span.end}):
        if call.start <= x <= call.end:
            beside = call._replace(start=max(call.start, x - 1), end=min(call.end, x + 1))
            errno = errno or _make(root, beside, world)
    return errno
