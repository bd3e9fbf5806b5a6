"""The steps of a trace, and the frames that are mapped after each.

A step is a moment: a fault with the tables it links, a run of zaps or of changed bits by one task, a split, a
subtree that goes with all the lines of its entries. A canvas says of each frame what the trace told so far; a
moment is kept as what it paints there, so any step is reached from the nearest one kept, without the text.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tdpkit.engine.gfn import FrameSet, GfnRange
from tdpkit.lab.spte_layouts import SpteLayout
from tdpkit.lab.traces.changes import ABSENT, Change
from tdpkit.lab.traces.events import (
    Announced,
    Border,
    Changed,
    Event,
    Lost,
    MarkMmio,
    PageFault,
    PageTable,
    Requested,
    SetSpte,
    SplitHugePage,
    UnmapHva,
    Where,
)
from tdpkit.lab.traces.ranges import Judged
from tdpkit.lab.traces.reader import Story
from tdpkit.lab.traces.tree import pages_of

from ..strips import Cell

UNKNOWN, HOLE, MMIO, LOST, BACK = "unknown", "hole", "mmio", "lost", "back"
"""Kinds of frames besides "leaf1" and up. `LOST`: taken outside a range, and not mapped since; `BACK` and a
level ("back1"): taken so, and mapped again by a leaf of that level."""
_FAULT = ("link", "map", "mmio")
_RUNS = ("zap", "bits", "remap", "none", "mmio gone")
"""Changes that are one moment where they follow each other."""
_BEGINS = (PageFault, Requested, MarkMmio, UnmapHva, Announced)
"""Events that say why the changes after them are made."""
_LAST_SPLITS = 64
"""A split's own line is looked for among so many."""

Root = tuple[int, int]
"""Address space and number of a tree."""


class Paint(NamedTuple):
    """Frames [first, last) become of one kind."""

    first: int
    last: int
    kind: str


class Canvas:
    """What each frame is, in runs of one kind; at first all are unknown."""

    __slots__ = ("_firsts", "_kinds")

    def __init__(self) -> None:
        self._firsts = [0]
        self._kinds = [UNKNOWN]

    def copy(self) -> Canvas:
        """Another one like this."""
        other = Canvas()
        other._firsts, other._kinds = self._firsts[:], self._kinds[:]
        return other

    def paint(self, first: int, last: int, kind: str) -> None:
        """Let frames [first, last) be of `kind`; there is at least one."""
        firsts, kinds = self._firsts, self._kinds
        low, high = bisect_left(firsts, first), bisect_left(firsts, last)
        begins: list[int] = []
        put: list[str] = []
        if not low or kinds[low - 1] != kind:
            begins, put = [first], [kind]
        if high < len(firsts) and firsts[high] == last:
            high += kinds[high] == kind
        elif kinds[high - 1] != kind:
            begins, put = [*begins, last], [*put, kinds[high - 1]]
        firsts[low:high], kinds[low:high] = begins, put

    def put(self, other: Canvas, first: int, last: int) -> None:
        """Let frames [first, last), of which all is unknown here and behind them, be as `other` has them."""
        low, high = bisect_right(other._firsts, first) - 1, bisect_left(other._firsts, last)
        begins, kinds = [first, *other._firsts[low + 1 : high]], other._kinds[low:high]
        if kinds[0] == self._kinds[-1]:
            del begins[0], kinds[0]
        self._firsts += begins
        self._kinds += kinds
        if self._kinds[-1] != UNKNOWN:
            self._firsts.append(last)
            self._kinds.append(UNKNOWN)

    def cells(self, first: int, last: int) -> Iterator[Cell]:
        """The runs of frames [first, last), cut at both ends."""
        firsts, kinds = self._firsts, self._kinds
        for at in range(bisect_right(firsts, first) - 1, bisect_left(firsts, last)):
            end = firsts[at + 1] if at + 1 < len(firsts) else last
            yield Cell(max(firsts[at], first), min(end, last), kinds[at])

    def runs_in(self, first: int, last: int) -> int:
        """How many runs frames [first, last) have."""
        return bisect_left(self._firsts, last) - bisect_right(self._firsts, first) + 1

    def kind_at(self, gfn: int) -> str:
        """What frame `gfn` is."""
        return self._kinds[bisect_right(self._firsts, gfn) - 1]


def level_of(kind: str) -> int:
    """The level of the leaves of that kind; 0 where there is none."""
    return int(kind[4:]) if kind.startswith(("leaf", BACK)) else 0


@dataclass
class Moment:
    """One step of a trace.

    kind: "fault" (tables linked, a leaf or an MMIO entry put in), "refused" (a split that was not done),
    "lost" (events that the tracer lost), or as Change.what.
    """

    kind: str
    root: Root
    where: Where
    """Its first change, or its own line."""
    lines: list[Where]
    changes: list[Change] = field(default_factory=list)
    spans: list[GfnRange] = field(default_factory=list)
    """The frames of its changed entries in the order of the lines, those in a row together: of a fault what
    it put in, not the tables on the way."""
    listed: list[Change] = field(default_factory=list)
    """Entries of removed tables."""
    event: SplitHugePage | Lost | None = None
    """The one event of "refused" and "lost"."""
    judged: Judged | None = None
    """The range outside which it took frames."""
    marks: list[Cell] = field(default_factory=list)
    """What it did to frames: kind "split", "zapped" or "lost"; in no order."""
    paints: list[Paint] = field(default_factory=list)
    leaves: tuple[tuple[int, int], ...] = ()
    """(level, how many) of the leaves of its tree that are known after it, the largest first."""

    @property
    def taken(self) -> list[GfnRange]:
        """Frames that it took outside a range."""
        return [GfnRange(mark.first, mark.last) for mark in self.marks if mark.kind == LOST]

    @property
    def last_line(self) -> int:
        """The last of its lines."""
        return max(where.line for where in self.lines)

    def add(self, change: Change, lines: Iterable[Where]) -> None:
        """Let one more change belong to it."""
        self.lines += [*lines, change.where]
        first, last = change.gfn, change.gfn + pages_of(change.level)
        if self.kind == "fault" or not self.spans or self.spans[-1].end != first:
            if self.kind == "fault":
                self.spans.clear()
            self.spans.append(GfnRange(first, last))
        else:
            self.spans[-1] = GfnRange(self.spans[-1].start, last)
        self.changes.append(change)

    def takes(self, change: Change) -> bool:
        """Whether a change that its task makes next belongs to it."""
        if not self.changes or (change.as_id, change.root) != self.root:
            return False
        last = self.changes[-1]
        if self.kind == "fault":
            inside = last.gfn <= change.gfn < last.gfn + pages_of(last.level)
            return last.what == "link" and change.what in _FAULT and change.level < last.level and inside
        return self.kind in _RUNS and (change.what, change.level) == (self.kind, last.level)


# ---- from events to moments ------------------------------------------------------------------------------


def moments_of(story: Story) -> list[Moment]:
    """The moments of a story whose events and changes were kept, in order; nothing is painted yet."""
    gathered = _Gathered(iter(story.changes))
    for event in story.events:
        gathered.see(event)
    return gathered.moments


class _Gathered:
    """The moments so far, and what may still belong to the next."""

    def __init__(self, changes: Iterator[Change]) -> None:
        self.moments: list[Moment] = []
        self._changes = changes
        self._next = next(changes, None)
        self._open: Moment | None = None
        """The last moment, as long as its task goes on with it."""
        self._ahead: dict[int, list[Where]] = {}
        """Lines of each task that belong to its next moment."""
        self._removed: dict[int, Moment] = {}
        """By task: the moment whose tables' entries are listed."""
        self._splits: dict[tuple[int, int], Moment] = {}
        """By frame and level: splits whose own line may come."""

    def see(self, event: Event) -> None:
        pid = event.where.pid
        if isinstance(event, Changed):
            if self._next is not None and self._next.where is event.where:
                self._change(self._next)
                self._next = next(self._changes, None)
        elif isinstance(event, SplitHugePage):
            self._split(event)
        elif isinstance(event, SetSpte):
            if self.moments and (last := self.moments[-1]).where.pid == pid and last.kind == "fault":
                last.lines.append(event.where)
        elif isinstance(event, Lost):
            self._alone("lost", event)
        elif isinstance(event, (*_BEGINS, PageTable)):
            self._ahead.setdefault(pid, []).append(event.where)
            if not isinstance(event, PageTable):
                self._close(pid)
        elif isinstance(event, Border):
            self._ahead.pop(pid, None)
            self._close(pid)

    def _change(self, change: Change) -> None:
        pid = change.where.pid
        if change.what == "listed":
            if pid in self._removed:
                self._removed[pid].listed.append(change)
                self._removed[pid].lines.append(change.where)
            return
        ahead = self._ahead.pop(pid, [])
        moment = self._open
        if moment is None or moment.where.pid != pid or not moment.takes(change):
            kind = "fault" if change.what in _FAULT else change.what
            moment = self._open = Moment(kind, (change.as_id, change.root), change.where, [])
            self.moments.append(moment)
        moment.add(change, ahead)
        if change.what in ("remove", "replace"):
            self._removed[pid] = moment
        elif change.what == "split":
            self._splits[change.gfn, change.level] = moment
            if len(self._splits) > _LAST_SPLITS:
                self._splits.pop(next(iter(self._splits)))

    def _split(self, event: SplitHugePage) -> None:
        if event.errno:
            self._alone("refused", event)
            self.moments[-1].spans.append(GfnRange(event.gfn, event.gfn + pages_of(event.level)))
        elif moment := self._splits.pop((event.gfn, event.level), None):
            moment.lines.append(event.where)

    def _alone(self, kind: str, event: SplitHugePage | Lost) -> None:
        root = self.moments[-1].root if self.moments else (0, 0)
        lines = [*self._ahead.pop(event.where.pid, []), event.where]
        self.moments.append(Moment(kind, root, event.where, lines, event=event))
        self._open = None

    def _close(self, pid: int) -> None:
        if self._open and self._open.where.pid == pid:
            self._open = None


# ---- from moments to frames ------------------------------------------------------------------------------


def paint_all(moments: Iterable[Moment], story: Story) -> Iterator[dict[Root, Canvas]]:
    """Paint each moment; the canvases of all trees after each of them, which go on to change."""
    painter = _Painter(story)
    for moment in moments:
        painter.paint(moment)
        yield painter.canvases


class _Painter:
    def __init__(self, story: Story) -> None:
        self.canvases: dict[Root, Canvas] = {}
        self._mapped: dict[Root, Counter[int]] = {}
        """Frames of each tree that leaves of a level map."""
        self._layout = story.layout
        self._losses: dict[int, list[tuple[Judged, list[GfnRange]]]] = {}
        """By line: the range outside which its change took frames, and where those may be."""
        for judged in story.judged:
            outside = judged.outside.ranges()
            for crossing in judged.crossings.values():
                span = crossing.span
                there = [*_within(outside, span.start, span.end)]
                for step in crossing.steps:
                    if step.outside:
                        self._losses.setdefault(step.line, []).append((judged, there))

    def paint(self, moment: Moment) -> None:
        """Find out what a moment paints, and paint it."""
        if moment.kind == "lost":
            for canvas in self.canvases.values():
                canvas.paint(0, _END, UNKNOWN)
            self._mapped.clear()
            return
        canvas, gone = self.canvases.setdefault(moment.root, Canvas()), FrameSet()
        for change in moment.changes:
            for judged, there in self._losses.get(change.where.line, ()):
                self._take(moment, canvas, judged, there)
            if kind := _kind_after(change, self._layout):
                self._change(moment, canvas, change, kind, gone)
        if moment.kind == "remove":
            for change in moment.listed:
                if self._is_leaf(change) and canvas.kind_at(change.gfn) == HOLE:
                    gone.store(GfnRange(change.gfn, change.gfn + pages_of(change.level)), True)
        moment.marks += [Cell(span.start, span.end, "zapped") for span in gone.ranges()]
        mapped = self._mapped.setdefault(moment.root, Counter())
        found = ((level, pages // pages_of(level)) for level, pages in mapped.items() if level and pages)
        moment.leaves = tuple(sorted(found, reverse=True))

    def _is_leaf(self, change: Change) -> bool:
        return self._layout.kind_of(change.old, change.level) == "leaf"

    def _take(self, moment: Moment, canvas: Canvas, judged: Judged, there: Iterable[GfnRange]) -> None:
        for span in there:
            for first, last, kind, _ in [*canvas.cells(span.start, span.end)]:
                if kind == UNKNOWN or level_of(kind):
                    moment.judged = judged
                    moment.marks.append(Cell(first, last, LOST))
                    self._put(moment, canvas, Cell(first, last, kind), LOST)

    def _change(self, moment: Moment, canvas: Canvas, change: Change, kind: str, gone: FrameSet) -> None:
        start, end = change.gfn, change.gfn + pages_of(change.level)
        is_gone = kind == HOLE and change.what in ("zap", "remove")
        if change.what == "split":
            moment.marks.append(Cell(start, end, "split"))
        for first, last, was, _ in [*canvas.cells(start, end)]:
            if is_gone and (level_of(was) or (was == UNKNOWN and change.what == "zap")):
                gone.store(GfnRange(first, last), True)
            after = _turned(was, kind)
            if after != was:
                self._put(moment, canvas, Cell(first, last, was), after)

    def _put(self, moment: Moment, canvas: Canvas, cell: Cell, kind: str) -> None:
        first, last, was, _ = cell
        canvas.paint(first, last, kind)
        mapped = self._mapped.setdefault(moment.root, Counter())
        mapped[level_of(was)] -= last - first
        mapped[level_of(kind)] += last - first
        paints = moment.paints
        if paints and (paints[-1].last, paints[-1].kind) == (first, kind):
            paints[-1] = Paint(paints[-1].first, last, kind)
        else:
            paints.append(Paint(first, last, kind))


_END = 1 << 64
"""Beyond every frame."""


def _kind_after(change: Change, layout: SpteLayout) -> str:
    """What the frames of a changed entry are; nothing where its line does not tell."""
    will = layout.kind_of(change.new, change.level)
    if will == "leaf":
        return f"leaf{change.level}"
    if will == "mmio":
        return MMIO
    if will in ABSENT:
        return HOLE
    if change.what == "split":
        return f"leaf{change.level - 1}"
    return "" if change.what == "bits" else HOLE  # a table that takes the place of anything else is empty


def _turned(was: str, kind: str) -> str:
    """What a frame of kind `was` is once it is put to `kind`; what was taken is so until it is mapped."""
    if was == LOST and kind == HOLE:
        return LOST
    if was.startswith((LOST, BACK)) and (level := level_of(kind)):
        return f"{BACK}{level}"
    return kind


def _within(ranges: Iterable[GfnRange], first: int, last: int) -> Iterator[GfnRange]:
    for span in ranges:
        low, high = max(span.start, first), min(span.end, last)
        if low < high:
            yield GfnRange(low, high)
