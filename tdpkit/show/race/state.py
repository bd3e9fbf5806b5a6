"""The strategy race's state: every strategy run on one tree for one range, judged, ready to be drawn.

:func:`run_race` runs the strategies one after the other and takes each back, so that all find the same tree
and leave it as it was. What a run is worth is the spec's word (tdpkit.lab.spec), never a strategy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange, InvalidValueError, name_gfn, parse_gfn
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.lab.guest import Layout, map_layout
from tdpkit.lab.judge import Scans, forced_in, judge, leaves_at_edges, run_strategy
from tdpkit.lab.strategies import PlannedCall, Planner, Rule, one_block_per_edge
from tdpkit.lab.worlds import JournalWorld

from ..strips import Cell
from .axis import Axis, axis_for
from .cells import Mark, Painter
from .guests import checked, rule_of

STEPWISE = parse_gfn("16M")
"""Calls over more frames are counted by `scan` and by formula: a slider is to be answered at once."""

MOST_LANES = 4

ORDERS = ("as argued", "by visits")


class Row(NamedTuple):
    """One strategy's run."""

    name: str
    rule: Rule
    calls: tuple[PlannedCall, ...]
    lanes: tuple[int, ...]
    """For each call the line on which it is drawn, from the outermost (0); on one line none overlap, but on
    the last of MOST_LANES."""
    call_visits: tuple[int, ...]
    visits: int
    needed: int
    """Splits that had to be, and were."""
    needless: int
    missing: int
    verdict: str
    """"exact", "needless" or "wrong", as the spec has it."""
    outside: int
    """Frames outside the range that a zap would take now."""
    priced: bool
    cells: tuple[Cell, ...]
    """What the axis shows, afterwards."""
    marks: tuple[Mark, ...]

    @property
    def splits(self) -> int:
        """All of them."""
        return self.needed + self.needless


class Race(NamedTuple):
    """All the runs for one range."""

    geometry: Geometry
    frames: int
    levels: tuple[int, ...]
    """Levels of the guest's leaves, the largest first."""
    span: GfnRange
    axis: Axis
    crossing: tuple[tuple[int, int], ...]
    """(gfn, level) of the leaves that cross an edge."""
    cells: tuple[Cell, ...]
    """What the axis shows, before."""
    rows: tuple[Row, ...]
    zap_visits: int
    """SPTEs that the zap of the range visits once its edges are split, and nothing else is."""

    def by_visits(self) -> tuple[str, ...]:
        """Names of the rows, those that visit least first; equals as they were given."""
        return tuple(row.name for row in sorted(self.rows, key=lambda row: row.visits))


class RaceState(NamedTuple):
    """All that the picture and the text show."""

    race: Race
    order: tuple[str, ...]
    """Names of the rows from top to bottom."""
    sorted_for: GfnRange | None
    """The range for which the rows were sorted by visits; None: they are as given."""
    selected: str
    """The row whose calls are written out."""

    @property
    def rows(self) -> list[Row]:
        """In order."""
        named = {row.name: row for row in self.race.rows}
        return [named[name] for name in self.order]

    @property
    def row(self) -> Row:
        """The one that is selected."""
        return next(row for row in self.race.rows if row.name == self.selected)


class Track:
    """A plain VM's direct root with a layout on it, on which race after race is run."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.geometry = layout.geometry
        self.root = TdpMmuRoot(PageTablePool(layout.geometry))
        map_layout(self.root, layout)

    def check_span(self, start: int, end: int) -> GfnRange:
        """[start, end), if the guest ends no earlier (else InvalidValueError). An empty range is one."""
        span = GfnRange(start, end)
        if span.end > self.layout.frames:
            raise InvalidValueError(
                f"this guest ends at {name_gfn(self.layout.frames)}; "
                f"the end {name_gfn(span.end)} is beyond it"
            )
        if span.start == self.geometry.root_pages:
            raise InvalidValueError(
                f"a range starts inside the root, below {name_gfn(span.start)}; there it ends"
            )
        return span


def run_race(track: Track, rows: Mapping[str, Planner], start: int, end: int) -> Race:
    """Let all of `rows` make the edges of frames [start, end) safe, each on the untouched tree.

    The tree is the same afterwards. Raises InvalidTypeError or InvalidValueError for a range that is not the
    guest's or reversed, and for a strategy whose calls the engine refuses.
    """
    span, layout = track.check_span(start, end), track.layout
    axis = axis_for(layout.geometry, layout.frames, span)
    painter = Painter(layout, axis, span)
    crossing = tuple((leaf.gfn, leaf.level) for leaf in leaves_at_edges(track.root, span))
    forced = forced_in(track.root, span)
    scans: Scans = {}
    return Race(
        geometry=layout.geometry,
        frames=layout.frames,
        levels=tuple(sorted({run.level for run in layout.leaves}, reverse=True)),
        span=span,
        axis=axis,
        crossing=crossing,
        cells=painter.before(crossing),
        rows=tuple(_run(track, span, forced, painter, scans, *item) for item in rows.items()),
        zap_visits=_zap_visits(track.root, span),
    )


def _run(
    track: Track,
    span: GfnRange,
    forced: tuple[tuple[int, int], ...],
    painter: Painter,
    scans: Scans,
    name: str,
    strategy: Planner,
) -> Row:
    world = JournalWorld(track.root.pool)
    try:
        report = run_strategy(
            track.root, checked(name, strategy), span, world=world, stepwise=STEPWISE, scans=scans
        )
        judged = judge(report, span, forced)
        crossing = tuple((leaf.gfn, leaf.level) for leaf in leaves_at_edges(track.root, span))
    finally:
        world.undo()
    return Row(
        name=name,
        rule=rule_of(name, strategy, track.geometry),
        calls=report.calls,
        lanes=lanes_of(report.calls),
        call_visits=report.visits,
        visits=report.all_visits,
        needed=len(forced) - len(judged.missing),
        needless=judged.needless,
        missing=len(judged.missing),
        verdict=judged.verdict,
        outside=judged.outside_frames,
        priced=report.priced,
        cells=painter.after(report, crossing),
        marks=painter.marks(report, judged),
    )


def _zap_visits(root: TdpMmuRoot, span: GfnRange) -> int:
    """What the zap of `span` visits when its edges were made safe by the later code's way, which is exact."""
    from tdpkit.engine.scan import count_visits

    world = JournalWorld(root.pool)
    try:
        run_strategy(root, one_block_per_edge, span, world=world)
        return count_visits(root, span.start, span.end, PG_LEVEL_4K)
    finally:
        world.undo()


def lanes_of(calls: Iterable[PlannedCall]) -> tuple[int, ...]:
    """For each call a lane, 0 and up, on which it overlaps no other; longer calls have the lower numbers.

    Of more than MOST_LANES that overlap, the shortest share the last.
    """
    taken: list[list[PlannedCall]] = []
    lanes: dict[int, int] = {}
    for at, call in sorted(enumerate(calls), key=lambda item: (item[1].start - item[1].end, item[0])):
        free = [all(_apart(call, other) for other in others) for others in taken]
        lanes[at] = free.index(True) if True in free else min(len(taken), MOST_LANES - 1)
        if lanes[at] == len(taken):
            taken.append([])
        taken[lanes[at]].append(call)
    return tuple(lanes[at] for at in range(len(lanes)))


def _apart(one: PlannedCall, other: PlannedCall) -> bool:
    """Two calls do not overlap; an empty one overlaps what it touches."""
    if one.start < one.end and other.start < other.end:
        return one.end <= other.start or other.end <= one.start
    return one.end < other.start or other.end < one.start
