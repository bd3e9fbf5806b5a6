"""The strategy race's state: every strategy run on one tree for one range, judged, and what there is to see.

:func:`run_race` runs the strategies one after the other and takes each back, so that all find the same tree
and leave it as it was. The spec (tdpkit.lab.spec) says what a run is worth, never a strategy.

All rows are drawn on one axis, on which both edges are large enough to see however far they lie apart. Small
machines are drawn whole and to scale. Elsewhere the axis is stretched: its points are the borders of the
blocks around each edge, and what lies between two points is the wider the more frames it has, but only as
their logarithm. What lies between the two neighbourhoods is cut out.

What a row shows follows from the guest's layout and the list of splits; no table is read. That the same
stands in the tables of a tree that is really split is for the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange, InvalidValueError, name_gfn, parse_gfn
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.lab.judge import (
    Judgement,
    Report,
    Scans,
    forced_in,
    judge,
    keep_whole,
    leaves_at_edges,
    run_strategy,
)
from tdpkit.lab.layouts import Layout, map_layout
from tdpkit.lab.strategies import PlannedCall, Planner, Rule, one_block_per_edge
from tdpkit.lab.words import Names
from tdpkit.lab.worlds import JournalWorld

from .guests import checked, rule_of

STEPWISE = parse_gfn("16M")
"""Calls over more frames are counted by `scan` and by formula: a slider is to be answered at once."""
MOST_LANES = 4
"""Lines on which the brackets of a row's calls lie; more would leave no room for what they are about."""
ORDERS = ("as argued", "by visits")

_WHOLE_FRAMES = 64
"""Machines of at most so many frames are drawn to scale: six units for each."""
_LEAST = 8
"""Width of a stretch beyond the logarithm of its frames, so that a single frame can be seen."""
_GAP = 18
"""Width of what is cut out: enough for a dashed line between two torn ends."""


# ---- the axis ------------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """Frames [first, last); drawn `width` wide, `before` from the left end, in relation to the others."""

    first: int
    last: int
    before: int
    width: int
    is_gap: bool


class Axis(NamedTuple):
    """Stretches side by side, in order."""

    stretches: tuple[Stretch, ...]
    windows: tuple[GfnRange, ...]
    """The frames in sight, in one part or two."""
    is_whole: bool
    """The machine from end to end, to scale."""

    @property
    def first(self) -> int:
        """The first frame."""
        return self.stretches[0].first

    @property
    def last(self) -> int:
        """The first frame beyond."""
        return self.stretches[-1].last

    @property
    def points(self) -> list[int]:
        """Where stretches begin and end."""
        return [self.first, *(stretch.last for stretch in self.stretches)]

    def x(self, frame: int, left: int, right: int) -> int:
        """Where `frame` is on the axis drawn from `left` to `right`; what lies beyond is at its ends."""
        end = self.stretches[-1]
        for first, last, before, width, _ in self.stretches:
            if frame < last:
                frames, at = last - first, max(0, frame - first)
                place = (right - left) * (before * frames + width * at)
                return left + place // ((end.before + end.width) * frames)
        return right

    def in_sight(self, frame: int) -> bool:
        """`frame`, as a border, is a place on the axis: neither beyond it nor in the gap."""
        return any(window.start <= frame <= window.end for window in self.windows)


def _names_of(geometry: Geometry, frames: int) -> Names:
    """By number where all frames are seen."""
    return Names(geometry, toy=frames <= _WHOLE_FRAMES)


def axis_for(geometry: Geometry, frames: int, span: GfnRange) -> Axis:
    """The axis on which all of a race for `span` is drawn, in a machine of `frames` frames."""
    if frames <= _WHOLE_FRAMES:
        return Axis((Stretch(0, frames, 0, 1, False),), (GfnRange(0, frames),), True)
    starts, ends = (_around(edge, geometry, frames) for edge in (span.start, span.end))
    is_cut = ends[0] - starts[-1] > geometry.pages(geometry.max_leaf_level)
    stretches: list[Stretch] = []
    before = 0
    for first, last in pairwise(sorted({*starts, *ends})):
        is_gap = is_cut and first == starts[-1]
        width = _GAP if is_gap else _LEAST + (last - first).bit_length()
        stretches.append(Stretch(first, last, before, width, is_gap))
        before += width
    seen = [(starts[0], starts[-1]), (ends[0], ends[-1])] if is_cut else [(starts[0], stretches[-1].last)]
    return Axis(tuple(stretches), tuple(GfnRange(*window) for window in seen), False)


def _around(edge: int, geometry: Geometry, frames: int) -> list[int]:
    """The borders of the blocks before and after `edge`, of every size; of the smallest the next one too."""
    points = {edge}
    for level in range(PG_LEVEL_4K + 1, geometry.max_leaf_level + 1):
        pages = geometry.pages(level)
        points |= {edge - 1 & -pages, (edge & -pages) + pages}
    pages = geometry.pages(PG_LEVEL_4K + 1)
    points |= {(edge & -pages) + 2 * pages, min(points) - pages, max(points) + pages}
    return sorted({min(max(point, 0), frames) for point in points})


# ---- what stands on it ---------------------------------------------------------------------------------


class Segment(NamedTuple):
    """Leaves of `level` in [first, last) that look alike, or frames that nothing maps (level 0).

    kind: a kind of cell as in tdpkit.show.strips: "leaf1" and up, "hole", "crossing", "split" (made by a
    split), "lost" (in a leaf that crosses, outside the range).
    """

    first: int
    last: int
    kind: str
    level: int


class Mark(NamedTuple):
    """Leaves of `level` in [first, last) of which all were split, or all should have been.

    kind: "needed", "needless" or "missing".
    """

    first: int
    last: int
    level: int
    kind: str


class Painter:
    """Runs and marks, from the layout and what was split in it."""

    def __init__(self, layout: Layout, axis: Axis, span: GfnRange) -> None:
        self.geometry = layout.geometry
        self.layout = layout
        self.windows = axis.windows
        self.span = span
        self.untouched = [Segment(0, layout.frames, "hole", 0)]
        for gfn, level, count, _ in layout.leaves:
            run = Segment(gfn, gfn + count * self.geometry.pages(level), f"leaf{level}", level)
            self.untouched = _put(self.untouched, run)

    def before(self, crossing: Iterable[tuple[int, int]]) -> tuple[Segment, ...]:
        """The guest as it is, the leaves that cross an edge marked as a whole."""
        runs = self.untouched
        for gfn, level in crossing:
            runs = _put(runs, Segment(gfn, gfn + self.geometry.pages(level), "crossing", level))
        return self._in_sight(runs)

    def after(self, report: Report, crossing: Iterable[tuple[int, int]]) -> tuple[Segment, ...]:
        """The guest after the calls; of a leaf that still crosses an edge also what a zap takes outside."""
        runs = self.untouched
        for first, last, level in sorted(self._splits(report), key=lambda split: (-split[2], split)):
            if self._seen(first, last):
                runs = _put(runs, Segment(first, last, "split", level - 1))
        for gfn, level in crossing:
            pages = self.geometry.pages(level)
            runs = _put(runs, Segment(gfn, gfn + pages, "crossing", level))
            for outside in self.span.outside(gfn, pages):
                runs = _put(runs, Segment(outside.start, outside.end, "lost", level))
        return self._in_sight(runs)

    def marks(self, report: Report, judged: Judgement) -> tuple[Mark, ...]:
        """Splits in sight: each that is forced by itself, the others joined where they lie side by side."""
        pages = self.geometry.pages
        missing, forced = set(judged.missing), judged.forced
        marks = [
            Mark(gfn, gfn + pages(level), level, "missing" if (gfn, level) in missing else "needed")
            for gfn, level in judged.forced
        ]
        free = [
            (level, *part)
            for first, last, level in self._splits(report)
            for part in _without(first, last, [(gfn, gfn + pages(n)) for gfn, n in forced if n == level])
        ]
        joined: list[Mark] = []
        for level, first, last in sorted(free):
            if joined and joined[-1].level == level and first <= joined[-1].last:
                last = max(last, joined[-1].last)
                first = joined.pop().first
            joined.append(Mark(first, last, level, "needless"))
        return tuple(mark for mark in (*marks, *joined) if self._seen(mark.first, mark.last))

    def _splits(self, report: Report) -> set[tuple[int, int, int]]:
        """(first, last, level): all leaves of that level in [first, last) were split.

        Those that were made one by one; and where a plain call was counted by formula, what it splits: each
        leaf that holds frames of its range, of every size above its target.
        """
        splits = {(gfn, gfn + self.geometry.pages(level), level) for gfn, level in report.made}
        plain = [call for call in report.calls if report.priced and not call.only_cross_boundary]
        for call, (gfn, of, count, _) in ((call, run) for call in plain for run in self.layout.leaves):
            low = max(gfn, call.start)
            high = min(gfn + count * self.geometry.pages(of), call.end)
            for level in range(of, call.target_level, -1) if low < high else ():
                pages = self.geometry.pages(level)
                splits.add((low & -pages, (high + pages - 1) & -pages, level))
        return splits

    def _seen(self, first: int, last: int) -> bool:
        return any(first < window.end and window.start < last for window in self.windows)

    def _in_sight(self, runs: Iterable[Segment]) -> tuple[Segment, ...]:
        """What the windows show of `runs`: those of one kind side by side as one, but for crossing leaves."""
        shown: list[Segment] = []
        for window in self.windows:
            begin = len(shown)
            for run in runs:
                low, high = max(run.first, window.start), min(run.last, window.end)
                if low < high:
                    same = len(shown) > begin and shown[-1][2:] == run[2:] and run.kind != "crossing"
                    low = shown.pop().first if same else low
                    shown.append(run._replace(first=low, last=high))
        return tuple(shown)


def _put(runs: list[Segment], new: Segment) -> list[Segment]:
    """`runs`, in order, with `new` over what was there."""
    before = [run._replace(last=min(run.last, new.first)) for run in runs if run.first < new.first]
    after = [run._replace(first=max(run.first, new.last)) for run in runs if run.last > new.last]
    return [*before, new, *after]


def _without(first: int, last: int, holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What `holes` leave of [first, last)."""
    left = []
    for low, high in sorted(holes):
        if first < low < last:
            left.append((first, low))
        if low < last:
            first = max(first, high)
    return [*left, (first, last)] if first < last else left


# ---- the race ------------------------------------------------------------------------------------------


class RaceRow(NamedTuple):
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
    segments: tuple[Segment, ...]
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
    segments: tuple[Segment, ...]
    """What the axis shows, before."""
    rows: tuple[RaceRow, ...]
    zap_visits: int
    """SPTEs that the zap of the range visits once its edges are split, and nothing else is."""

    @property
    def names(self) -> Names:
        """How frames and leaves are called."""
        return _names_of(self.geometry, self.frames)

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
    def rows(self) -> list[RaceRow]:
        """The rows in the order in which they are shown."""
        named = {row.name: row for row in self.race.rows}
        return [named[name] for name in self.order]

    @property
    def row(self) -> RaceRow:
        """The one that is selected."""
        return next(row for row in self.race.rows if row.name == self.selected)


class Track:
    """A plain VM's direct root with a layout on it, on which race after race is run."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.geometry = layout.geometry
        self.root = TdpMmuRoot(PageTablePool(layout.geometry))
        map_layout(self.root, layout)
        self.scans: Scans = {}
        """What long calls meet on the tree, from race to race: most of a range stays when an edge moves."""

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
    race = Race(
        geometry=layout.geometry,
        frames=layout.frames,
        levels=tuple(sorted({run.level for run in layout.leaves}, reverse=True)),
        span=span,
        axis=axis,
        crossing=crossing,
        segments=painter.before(crossing),
        rows=tuple(_run(track, span, forced, painter, *item) for item in rows.items()),
        zap_visits=_zap_visits(track.root, span),
    )
    track.scans = keep_whole(layout.geometry, track.scans)
    return race


def _run(
    track: Track,
    span: GfnRange,
    forced: tuple[tuple[int, int], ...],
    painter: Painter,
    name: str,
    strategy: Planner,
) -> RaceRow:
    world = JournalWorld(track.root.pool)
    try:
        report = run_strategy(
            track.root, checked(name, strategy), span, world=world, stepwise=STEPWISE, scans=track.scans
        )
        judged = judge(report, span, forced)
        crossing = tuple((leaf.gfn, leaf.level) for leaf in leaves_at_edges(track.root, span))
    finally:
        world.undo()
    return RaceRow(
        name=name,
        rule=rule_of(name, strategy, _names_of(track.geometry, track.layout.frames)),
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
        segments=painter.after(report, crossing),
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
