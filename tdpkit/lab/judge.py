"""Run a plan on a tree, and judge what it left: the engine's splits held against the spec.

:func:`run_strategy` makes the calls and reports what they did; :func:`judge` asks the tree, not the strategy,
whether a leaf still crosses an edge. What has to be split is the spec's word (`spec`), what is planned the
strategy's (`strategies`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tdpkit.engine.events import Coroutine, run
from tdpkit.engine.gfn import Geometry, GfnRange, align_down, parse_gfn
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import Leaf, TdpMmuRoot, check_inside, translate

from .cost import price_plain_split, visits_again, visits_in_new_tables
from .spec import edges_of, forced_splits, holds_both_sides
from .strategies import PlannedCall, Planner, plan_of
from .words import count_of
from .worlds import CountingWorld

if TYPE_CHECKING:
    from tdpkit.engine.scan import Scan

# ---- running one ---------------------------------------------------------------------------------------

STEPWISE = parse_gfn("16G")
"""Frames up to which a call is walked entry by entry."""

Scans = dict[tuple[int, int, int, tuple[tuple[int, int, int], ...]], "Scan"]
"""By start, end, target level and the splits made there before: what `scan` found under a root's entry."""


def coroutine_of(call: PlannedCall, root: TdpMmuRoot) -> Coroutine[int]:
    """`call` on `root`, with mmu_lock held for write; raises as the engine's function does."""
    start, end, target_level, crossing, _ = call
    return tdp_mmu_split_huge_pages_root(
        root, start, end, target_level, shared=False, only_cross_boundary=crossing
    )


class Report(NamedTuple):
    """What the calls of a strategy did to a tree."""

    calls: tuple[PlannedCall, ...]
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
    planner: Planner,
    span: GfnRange,
    *,
    world: CountingWorld | None = None,
    stepwise: int = STEPWISE,
    scans: Scans | None = None,
) -> Report:
    """Make the calls of `planner` for `span` (frames) on `root`, with mmu_lock held for write.

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
    calls = plan_of(planner, root.geometry, span, root.max_gfn_exclusive)
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


def _is_alone(call: PlannedCall, calls: list[PlannedCall]) -> bool:
    """No other of `calls` meets the frames of this one."""
    return not any(other is not call and other.start < call.end and call.start < other.end for other in calls)


def _make(root: TdpMmuRoot, call: PlannedCall, world: CountingWorld) -> int:
    return run(coroutine_of(call, root), world)


def _scan(root: TdpMmuRoot, call: PlannedCall, world: CountingWorld, scans: Scans) -> Scan:
    """What a long call would meet: under each entry of the root by itself, since nothing reaches from one
    into the next. The splits made there so far say in which state it is.
    """
    from tdpkit.engine.scan import Scan, scan

    pages = root.geometry.pages(root.geometry.root_level)
    inner = range(align_down(call.start, pages) + pages, min(call.end, root.max_gfn_exclusive), pages)
    found = []
    for start, end in pairwise([call.start, *inner, call.end]):
        entry = GfnRange(align_down(start, pages), align_down(start, pages) + pages)
        key = (start, end, call.target_level, tuple(split for split in world.splits if split[1] in entry))
        if key not in scans:
            scans[key] = scan(root, start, end, call.target_level + 1)
        found.append(scans[key])
    return Scan(
        sum(part.visited for part in found),
        tuple(leaf for part in found for leaf in part.crossing),
        {level: sum(part.leaves[level] for part in found) for level in found[0].leaves},
    )


def keep_whole(geometry: Geometry, scans: Scans) -> Scans:
    """Those of `scans` that hold for every range on the untouched tree: of an entry of the root from end to
    end. There are few, and they are the long ones.
    """
    pages = geometry.pages(geometry.root_level)
    return {key: found for key, found in scans.items() if key[1] - key[0] == pages and not key[3]}


def _make_at_crossing_leaves(
    root: TdpMmuRoot, call: PlannedCall, world: CountingWorld, found: Scan
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


def _make_around_edges(root: TdpMmuRoot, call: PlannedCall, span: GfnRange, world: CountingWorld) -> int:
    """A long plain call, made on the frames beside its own ends and the edges of `span`; its errno.

    What it splits there it would have split on its way through.
    """
    errno = 0
    for x in sorted({call.start, call.end, span.start, span.end}):
        if call.start <= x <= call.end:
            beside = call._replace(start=max(call.start, x - 1), end=min(call.end, x + 1))
            errno = errno or _make(root, beside, world)
    return errno


# ---- judging a run -------------------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What the spec says of a strategy's run."""

    verdict: str
    """"exact"; "needless": safe, but more was split than had to be; "wrong": a leaf still crosses an edge."""
    forced: tuple[tuple[int, int], ...]
    """(gfn, level) of each leaf that must be split, in order."""
    missing: tuple[tuple[int, int], ...]
    """Those of them that were not."""
    needless: int
    """Splits that nothing forced."""
    outside: tuple[GfnRange, ...]
    """Frames outside the range that a zap would take now: lost in a TD."""

    @property
    def outside_frames(self) -> int:
        """Frames in `outside`."""
        return sum(part.pages for part in self.outside)


def leaves_at_edges(root: TdpMmuRoot, span: GfnRange) -> list[Leaf]:
    """The leaves that hold frames on both sides of an edge, in order: each holds the edge's own frame."""
    found = (translate(root, x) for x in sorted(edges_of(span)) if x < root.max_gfn_exclusive)
    crossing = {
        leaf
        for leaf in found
        if leaf and holds_both_sides(leaf.gfn, root.geometry.pages(leaf.level), edges_of(span))
    }
    return sorted(crossing)


def forced_in(root: TdpMmuRoot, span: GfnRange) -> tuple[tuple[int, int], ...]:
    """(gfn, level) of each leaf of the tree that must be split for `span`, those below it after it."""
    return tuple(
        split
        for leaf in leaves_at_edges(root, span)
        for split in forced_splits(root.geometry, leaf.gfn, leaf.level, edges_of(span))
    )


def judge(report: Report, span: GfnRange, forced: tuple[tuple[int, int], ...]) -> Judgement:
    """What a run is worth. forced: :func:`forced_in` of the tree as it was before.

    The tree is asked, not the strategy: what still crosses an edge afterwards is read from its memory.
    """
    root, made = report.root, set(report.made)
    crossing = leaves_at_edges(root, span)
    missing = tuple(split for split in forced if split not in made)
    needless = report.splits - (len(forced) - len(missing))
    parts = (part for leaf in crossing for part in span.outside(leaf.gfn, root.geometry.pages(leaf.level)))
    verdict = "wrong" if crossing else "needless" if needless else "exact"
    return Judgement(verdict, forced, missing, needless, tuple(parts))
