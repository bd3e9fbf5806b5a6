"""A trace read: the tree rebuilt as its lines go by, each line held against what those before it said.

Lines of different roots look alike (S220), so several trees may be at work; a line goes to the tree it
agrees with. What a trace does not tell stays unknown.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, count
from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.spte import SPTE_BASE_ADDR_MASK

from ..spte_guess import Guess, guess_layout
from ..spte_layouts import SpteLayout, layouts_named
from .changes import ABSENT, WHAT, Change, Mapped
from .events import (
    Announced,
    Border,
    Changed,
    Damaged,
    Event,
    Foreign,
    Lost,
    MarkMmio,
    PageFault,
    PageTable,
    Requested,
    SetSpte,
    SplitHugePage,
    UnmapHva,
    Where,
    events_of,
)
from .ranges import Judged, Slot, Unmap
from .tree import TOP, TracedTable, TracedTree, pages_of

_GUESSED_FROM = 4096
"""Entries that are looked at before the layout is guessed."""
_WAITING = 1 << 16
"""Events of any kind that wait for that at most."""
_FIRST = 40
"""Events that are kept from the beginning, so that those of a short text can be told one by one."""
_LISTED = 1000
"""Splits, runs of zaps, mismatches, damaged lines and announced ranges that are kept; the rest is counted."""
_TREES = 8
"""Roots of one address space that are told apart at most."""
_WATCHED = 64
"""Ranges that the trace announced and that are still watched after their task went on."""
_OF_A_CALL = ("split", "zap", "remove")
"""Changes that a call for a range makes."""
_OF_A_FAULT = ("link", "map", "mmio", "replace")
"""Changes that no zap makes: a task that makes one is done with the range it announced."""
_ALL_BITS = (1 << 64) - 1
_BELOW = {level: pages_of(level) - 1 for level in range(1, TOP + 1)}
"""The bits of a frame number that are clear where an entry of that level begins."""
_ROUTINE = ("bits", "link", "map", "none", "mmio", "mmio gone")
"""Changes that only count, unless somebody asked about a range."""
_PENDING = 8
"""Splits of other tasks that may come between a split and its own line."""
_POINTS = 256
"""Points of the curve of leaves over time, between this many and half as many."""


class Split(NamedTuple):
    """A leaf that became a table, or was to: `errno` as the trace has it."""

    where: Where
    gfn: int
    level: int
    spte: int
    errno: int
    is_seen: bool
    """The line of the entry's own change was there too."""


class ZapRun(NamedTuple):
    """Leaves of one level that went one after the other, `count` of them in a row from frame `gfn` on."""

    first: Where
    last_line: int
    level: int
    gfn: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses


class Mismatch(NamedTuple):
    """A line's old value is not what the lines before it said."""

    where: Where
    level: int
    gfn: int
    said: int
    found: int
    why: str


class Point(NamedTuple):
    """How many leaves were known after `line`, by level (index 0 is not used)."""

    line: int
    time: str
    leaves: tuple[int, ...]


class _Removed:
    """A subtree that a task just removed; the lines of its entries follow, each before what was below it."""

    def __init__(self, change: Change, tree: TracedTree, gone: list[TracedTable]) -> None:
        self.change = change
        self.level = change.level
        self._end = change.gfn + pages_of(change.level)
        self._next = change.gfn
        """Entries of lower frames were listed."""
        self.tree = tree
        self._tables = {(table.level, table.base): table for table in gone}

    def lists(self, as_id: int, level: int, gfn: int) -> bool:
        """Whether the line of an entry that became nothing belongs here: not if a new table is there."""
        inside = level < self.level and self._next <= gfn < self._end and as_id == self.change.as_id
        return inside and self.tree.find(level, gfn) is None

    def passed(self, level: int, gfn: int, *, is_table: bool) -> None:
        """That entry was listed; those below it come next, if it was a table."""
        self._next = gfn if is_table else gfn + 1 + _BELOW[level]

    def known(self, level: int, gfn: int) -> int | None:
        table = self._tables.get((level, gfn & ~_BELOW[level + 1]))
        return None if table is None else table.known(gfn)


@dataclass
class Story:
    """What a trace told. Lists hold the first thousand; `counts` has the numbers of all."""

    guess: Guess
    lines: int = 0
    tasks: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Events by name, and changes by what they were ("split", "zap", ...)."""
    foreign: Counter[str] = field(default_factory=Counter)
    splits: list[Split] = field(default_factory=list)
    zaps: list[ZapRun] = field(default_factory=list)
    damaged: list[Damaged] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    unplaced: list[Unmap] = field(default_factory=list)
    """Unmaps that took something, but whose place among the frames cannot be told."""
    trees: dict[int, list[TracedTree]] = field(default_factory=dict)
    """By address space: 0, or 1 for SMM."""
    first_events: list[Event] = field(default_factory=list)
    """The first events, up to 40."""
    changes: list[Change] = field(default_factory=list)
    """Every change, if they were to be kept."""
    events: list[Event] = field(default_factory=list)
    """Every event, if they were to be kept."""

    @property
    def layout(self) -> SpteLayout:
        """The layout that its entries were read by."""
        return self.guess.layout

    @property
    def has_entries(self) -> bool:
        """Whether any line had an entry in it, from which the layout was guessed."""
        return bool(self.counts["entries"])

    @property
    def is_trace(self) -> bool:
        """Whether any line was an event that is read."""
        return any(name not in ("damaged", "foreign", "lost", "entries", "ranges") for name in self.counts)

    @property
    def losses(self) -> int:
        """The number of ranges that lost frames outside, also of those that `judged` has no room for."""
        return sum(not judged.is_safe for judged in self.judged) + self.counts["losses not listed"]

    @property
    def is_safe(self) -> bool:
        """No range that was judged lost frames outside."""
        return not self.losses

    def leaf_runs(self, as_id: int = 0) -> list[tuple[int, int, int, int]]:
        """The known leaves of the newest tree of an address space: (gfn, level, count, pfn)."""
        trees = self.trees.get(as_id)
        return [tuple(run) for run in trees[-1].leaf_runs()] if trees else []  # type: ignore[misc]


def read_trace(
    lines: Iterable[str],
    *,
    layout: str = "",
    ranges: Iterable[GfnRange] = (),
    slots: Iterable[Slot] = (),
    keep: bool = False,
) -> Story:
    """Read the lines of a trace to their end.

    layout: a name of LAYOUTS, a family, or nothing to guess; ranges: of frames, to be judged over the whole
    trace, in place of those that the trace announces; slots: where unmapped host addresses belong; keep: keep
    every change and event. Raises InvalidValueError or InvalidTypeError for an unknown layout.
    """
    reader = TraceReader(layout=layout, ranges=ranges, slots=slots, keep=keep)
    return reader.read(lines)


class TraceReader:
    """Reads one trace; see :func:`read_trace`. `story` can be looked at while it goes on."""

    def __init__(
        self,
        *,
        layout: str = "",
        ranges: Iterable[GfnRange] = (),
        slots: Iterable[Slot] = (),
        keep: bool = False,
    ) -> None:
        self._among = layouts_named(layout)
        self._keep = keep
        self._slots = [*slots]
        self._asked = [Judged(span) for span in ranges]
        self.story = Story(guess_layout((), self._among))
        self.story.judged.extend(self._asked)
        self.story.counts["ranges"] = len(self._asked)
        self._current: dict[tuple[int, int], int] = {}
        self._removed: dict[int, _Removed] = {}
        self._open: dict[int, Unmap] = {}
        """By the task that unmaps."""
        self._marked: list[Judged] = []
        """Ranges that a marker announced and that are still held against every task."""
        self._active = [*self._asked]
        """The user's ranges, and those."""
        self._closed: deque[Judged] = deque(maxlen=_WATCHED)
        self._hurt: list[Judged] = []
        """Those of the closed ranges that lost frames outside."""
        self._offsets: deque[int] = deque(maxlen=_WATCHED)
        self._run: ZapRun | None = None
        self._unsaid: deque[tuple[Change, int]] = deque(maxlen=_PENDING)
        """Splits whose own line is still to come, and where they stand in the story, or -1."""
        self._numbers = count(1)
        """Of the lines; one more is taken where the text ends."""
        self._has_changes = False
        """Of the first events one is a kvm_tdp_mmu_spte_changed."""
        self._stride = 1
        self._next_point = 0
        self._handlers = {
            SplitHugePage: self._split,
            SetSpte: self._set_spte,
            Requested: self._border,
            PageFault: self._border,
            MarkMmio: self._border,
            PageTable: self._note,
            UnmapHva: self._unmap,
            Border: self._border,
            Announced: self._announced,
            Foreign: self._foreign,
            Damaged: self._damaged,
            Lost: self._lost,
        }

    def read(self, lines: Iterable[str]) -> Story:
        """Read to the end of `lines`; returns the story."""
        story = self.story
        events = events_of(lines, story.tasks, self._numbers)
        waiting = self._begin(events)
        self._has_changes = any(type(event) is Changed for event in waiting)
        changed, handlers, keep = self._changed, self._handlers, self._keep
        for event in chain(_drained(waiting), events):
            if keep:
                story.events.append(event)
            if type(event) is Changed:
                changed(event)
            else:
                handlers[type(event)](event)  # type: ignore[operator]
        self.end()
        return story

    def _begin(self, events: Iterator[Event]) -> deque[Event]:
        """Guess the layout from the first entries; gives the events from the first of them on."""
        story = self.story
        waiting: deque[Event] = deque()
        entries: list[tuple[int, int]] = []
        for event in events:
            if len(story.first_events) < _FIRST:
                story.first_events.append(event)
            entries += _entries_in(event)
            if entries:
                waiting.append(event)
            else:  # it has nothing to do with a layout
                if self._keep:
                    story.events.append(event)
                self._handlers[type(event)](event)  # type: ignore[operator]
            if len(entries) >= _GUESSED_FROM or len(waiting) >= _WAITING:
                break
        story.guess = guess_layout(entries, self._among)
        story.counts["entries"] = len(entries)
        self._read_by(story.guess.layout)
        return waiting

    def end(self) -> None:
        """Close what is open: the text is over."""
        for pid in [*self._open]:
            self._close(pid)
        for judged in self._marked:
            self._done(judged)
        self._marked = []
        self._removed.clear()
        if not self.story.lines:
            self.story.lines = next(self._numbers) - 2
        self._point(Where(self.story.lines, 0, ""), force=True)

    def _read_by(self, layout: SpteLayout) -> None:
        self._layout = layout
        self._kind = layout.kind_of
        self._absent = {spte: layout.kind_of(spte, 1) for spte in (*layout.empty, *layout.frozen)}
        """At any level; half of all values are one of these."""
        quiet = layout.accessed | layout.dirty | layout.writable | layout.executable | layout.no_execute
        self._loud = _ALL_BITS ^ quiet
        self._loud_if_tracked = self._loud & ~(layout.saved | layout.readable)

    # ---- a change of an entry ----------------------------------------------------------------------------

    def _changed(self, event: Changed) -> None:
        where, as_id, gfn, level, old, new = event
        story, pid = self.story, where[1]
        if level not in _BELOW or gfn & _BELOW[level]:
            self._damaged(Damaged(where, f"gfn {gfn:x} level {level}", "no entry of that level begins there"))
            return
        was = self._absent.get(old) or self._kind(old, level)
        will = self._absent.get(new) or self._kind(new, level)
        if pid in self._removed:
            removed = self._removed[pid]
            if will in ABSENT and self._is_listed(event, removed, was):
                self._listed(event, removed, was)
                return
            del self._removed[pid]
        what = WHAT[was, will]
        if what == "bits" and (old ^ new) & SPTE_BASE_ADDR_MASK:
            what = "remap" if will == "leaf" else "replace"
        root, tree, table = self._place_of(event, was)
        gone = tree.set(table, gfn, old, new, was, will)
        story.counts[what] += 1
        is_watched = what != "bits" and (pid in self._open or self._is_watched(what, level, gfn, will))
        if is_watched or self._keep or what not in _ROUTINE:
            change = Change(where, what, as_id, root, level, gfn, old, new, will == "leaf", (level, gfn))
            self._note_change(change)
            if what in ("remove", "replace"):
                self._removed[pid] = _Removed(change, tree, gone)
            if what in _OF_A_FAULT and is_watched:
                self._close(pid)
            if is_watched:
                self._judge(change, [*self._leaves_that_went(change, tree, gone)])
        if where[0] >= self._next_point:
            self._point(where)

    def _is_listed(self, event: Changed, removed: _Removed, was: str) -> bool:
        """Whether a line is of the removed subtree; not if it agrees with another tree, and not with that."""
        _, as_id, gfn, level, old, _ = event
        if not removed.lists(as_id, level, gfn):
            return False
        trees = self.story.trees[as_id]
        if len(trees) == 1 or was in ABSENT:
            return True
        known = removed.known(level, gfn)
        if known is not None and self._agree(known, old, level, was):
            return True
        others = (tree.known(level, gfn) for tree in trees if tree is not removed.tree)
        return not any(said is not None and self._agree(said, old, level, was) for said in others)

    def _is_watched(self, what: str, level: int, gfn: int, will: str) -> bool:
        """Whether a range that is not the task's own has to do with it.

        It may be the user's, or a marker's; its task may be done, and frames come back or a table makes way.
        """
        is_leaf, end = will == "leaf", gfn + pages_of(level)
        for judged in self._active:
            if judged.concerns(gfn, end, is_leaf=is_leaf):
                return True
        if not is_leaf:
            return False
        if self._hurt or (what == "replace" and self._closed):
            return True
        return any(unmap.misses(level, gfn) for unmap in self._open.values())

    def _note_change(self, change: Change) -> None:
        story, what = self.story, change.what
        if what == "zap":
            self._note_zap(change)
        elif what == "split":
            self._unsaid.append((change, self._note_split(change, change.old, 0)))
        if what in _OF_A_CALL:
            for marked in self._marked:
                marked.is_made |= marked.pid == change.where.pid
        if self._keep:
            story.changes.append(change)

    def _note_split(self, of: Change | SplitHugePage, spte: int, errno: int) -> int:
        """Where the split stands in the story, or -1."""
        splits = self.story.splits
        if len(splits) == _LISTED:
            return -1
        splits.append(Split(of.where, of.gfn, of.level, spte, errno, False))
        return len(splits) - 1

    def _note_zap(self, change: Change) -> None:
        story, run = self.story, self._run
        line, level, gfn = change.where.line, change.level, change.gfn
        goes_on = run and (run.level, run.gfn + run.count * pages_of(level), run.first.pid) == (
            level,
            gfn,
            change.where.pid,
        )
        if run and goes_on:
            self._run = run._replace(last_line=line, count=run.count + 1)
            if story.zaps[-1] is run:
                story.zaps[-1] = self._run
            return
        self._run = ZapRun(change.where, line, level, gfn, 1)
        story.counts["runs of zaps"] += 1
        if len(story.zaps) < _LISTED:
            story.zaps.append(self._run)

    def _listed(self, event: Changed, removed: _Removed, was: str) -> None:
        """An entry of a table that is gone: its line tells what it held, and is no zap of its own."""
        where, as_id, gfn, level, old, new = event
        counts = self.story.counts
        removed.passed(level, gfn, is_table=was == "table")
        known = removed.known(level, gfn)
        counts["listed"] += 1
        counts["leaves of removed tables"] += was == "leaf"
        is_news = False
        if known != old:
            if known is not None and not self._agree(known, old, level, was):
                self._mismatch(event, known, "the entry of a table that was removed")
            if was == "leaf" and (known is None or self._kind(known, level) != "leaf"):
                asked = self._active or where.pid in self._open
                is_news = bool(asked or removed.change.is_leaf)
        if not is_news and not self._keep:
            return
        parent = removed.change
        via = parent.level, parent.gfn
        change = Change(where, "listed", as_id, parent.root, level, gfn, old, new, False, via)
        if self._keep:
            self.story.changes.append(change)
        if is_news:
            leaf = Mapped(gfn, pages_of(level), (old & SPTE_BASE_ADDR_MASK) >> 12)
            self._judge(change, [] if _is_kept(leaf, parent) else [leaf], made_way=parent.is_leaf)

    def _leaves_that_went(
        self, change: Change, tree: TracedTree, gone: list[TracedTable]
    ) -> Iterator[Mapped]:
        if change.what in ("zap", "remap"):
            yield Mapped(change.gfn, pages_of(change.level), (change.old & SPTE_BASE_ADDR_MASK) >> 12)
        elif change.what in ("remove", "replace"):
            for table in gone:
                for gfn, spte in tree.leaves_in(table):
                    leaf = Mapped(gfn, pages_of(table.level), (spte & SPTE_BASE_ADDR_MASK) >> 12)
                    if not _is_kept(leaf, change):
                        yield leaf

    # ---- which tree, and does it agree -------------------------------------------------------------------

    def _place_of(self, event: Changed, was: str) -> tuple[int, TracedTree, TracedTable]:
        """The tree and the table that a line is about: where its task was, if that agrees."""
        where, as_id, gfn, level, old, _ = event
        trees = self.story.trees.get(as_id)
        if trees is None:
            trees = self.story.trees[as_id] = [TracedTree(self._layout)]
        at = self._current.get((as_id, where.pid), len(trees) - 1) if len(trees) > 1 else 0
        tree = trees[at]
        table = tree.find(level, gfn)
        known = table.known(gfn) if table else None
        if table is None or known is None or (known != old and not self._agree(known, old, level, was)):
            at = self._tree_for(event, at, was)
            tree = trees[at]
            table = tree.table(level, gfn)
            if table.known(gfn) is None:
                tree.learn(table, gfn, old, was)
        return at, tree, table

    def _tree_for(self, event: Changed, at: int, was: str) -> int:
        """Which tree the line agrees with, or a new one where it begins a root; else a mismatch, in `at`."""
        where, as_id, gfn, level, _, _ = event
        trees = self.story.trees[as_id]
        others = [number for number in reversed(range(len(trees))) if number != at]
        fitting = [number for number in (at, *others) if self._fits(trees[number], event, was)]
        knowing = [number for number in fitting if trees[number].known(level, gfn) is not None]
        if fitting:
            chosen = (knowing or fitting)[0]
        elif self._begins_root(event, was) and len(trees) < _TREES:
            trees.append(TracedTree(self._layout))
            chosen = len(trees) - 1
        else:
            known = trees[at].known(level, gfn)
            room = trees[at].has_room(level, gfn)
            why = "lines before name entries below it" if room else "lines before name no table that has it"
            self._mismatch(event, known, "" if known is not None else why)
            trees[at].doubt(level, gfn)
            return at
        if chosen != at:
            self._current[as_id, where.pid] = chosen
        return chosen

    def _begins_root(self, event: Changed, was: str) -> bool:
        return event.level >= TOP - 1 and was in ABSENT and self._kind(event.new, event.level) == "table"

    def _fits(self, tree: TracedTree, event: Changed, was: str) -> bool:
        _, _, gfn, level, old, _ = event
        known = tree.known(level, gfn)
        if known is not None:
            return self._agree(known, old, level, was)
        if level > 1 and tree.has_below(level, gfn) and was != "table":
            return False
        return tree.has_room(level, gfn)

    def _agree(self, known: int, old: int, level: int, was: str) -> bool:
        """Whether an entry can have become `old`, of kind `was`, without a line (S263).

        CPUs set A and D; a fault gives W back, and the rights of an entry whose accesses KVM tracks.
        """
        kind = self._kind(known, level)
        if kind != was or kind in ABSENT:
            return kind in ABSENT and was in ABSENT
        if kind == "mmio" or not (known ^ old) & self._loud:
            return True
        return self._layout.is_access_tracked(known) and not (known ^ old) & self._loud_if_tracked

    def _mismatch(self, event: Changed | SplitHugePage, known: int | None, why: str) -> None:
        story = self.story
        story.counts["mismatches"] += 1
        if len(story.mismatches) < _LISTED:
            found = event.old if isinstance(event, Changed) else event.spte
            story.mismatches.append(
                Mismatch(event.where, event.level, event.gfn, -1 if known is None else known, found, why)
            )

    # ---- other events ------------------------------------------------------------------------------------

    def _split(self, event: SplitHugePage) -> None:
        story = self.story
        self._note(event)
        if event.errno:
            story.counts[f"split refused ({event.errno})"] += 1
            self._note_split(event, event.spte, event.errno)
            return
        for pending in reversed(self._unsaid):
            change, at = pending
            if (change.gfn, change.level) == (event.gfn, event.level):
                self._unsaid.remove(pending)
                if at >= 0:
                    story.splits[at] = story.splits[at]._replace(is_seen=True)
                if not self._agree(change.old, event.spte, event.level, self._kind(event.spte, event.level)):
                    self._mismatch(event, change.old, "the split's own line names another leaf")
                return
        story.counts["splits without a change"] += 1

    def _set_spte(self, event: SetSpte) -> None:
        self._note(event)
        if event.sptep >= 0 and event.level in _BELOW:
            index = (event.gfn >> 9 * (event.level - 1)) & 511
            if (event.sptep & 0xFFF) // 8 != index:
                text = f"gfn {event.gfn:x} level {event.level} at {event.sptep:x}"
                self._damaged(Damaged(event.where, text, f"frame {event.gfn:x} has index {index} there"))
        if event.level in _BELOW and not self._has_changes:
            self._learn_mapping(event)

    def _learn_mapping(self, event: SetSpte) -> None:
        """Take a mapping from the only line there is of it: the trace has no kvm_tdp_mmu_spte_changed."""
        gfn, level = event.gfn & ~_BELOW[event.level], event.level
        trees = self.story.trees.setdefault(0, [TracedTree(self._layout)])
        table = trees[0].table(level, gfn)
        known = table.known(gfn)
        kind = self._kind(event.spte, level)
        if known is None:
            trees[0].learn(table, gfn, event.spte, kind)
        else:
            trees[0].set(table, gfn, known, event.spte, self._kind(known, level), kind)
        self.story.counts["mappings told by kvm_mmu_set_spte alone"] += 1

    def _unmap(self, event: UnmapHva) -> None:
        self._border(event)
        if not self._asked:
            self._open[event.where.pid] = Unmap(event.where, event.start >> 12, -(-event.end >> 12))

    def _announced(self, event: Announced) -> None:
        """Open the range of a marker for the changes of every task."""
        self._border(event)
        self._end_marks(event.where.pid, announces=True)
        if not self._asked:
            self._marked.append(Judged(GfnRange(event.start, event.end), event.verb, event.where))
            self._active = [*self._marked]

    def _border(self, event: UnmapHva | Announced | Border | PageFault | Requested | MarkMmio) -> None:
        self._note(event)
        pid = event.where.pid
        if self._open or self._marked:
            self._close(pid)
        self._removed.pop(pid, None)

    def _close(self, pid: int) -> None:
        """The task goes on to something else: place its unmap, and from now on only watch."""
        self._end_marks(pid)
        unmap = self._open.pop(pid, None)
        if unmap is None:
            return
        judged = unmap.judged(self._slots, self._offsets)
        if judged is not None:
            offset = judged.span.end - unmap.end
            if offset not in self._offsets:
                self._offsets.append(offset)
            self._done(judged)
        elif unmap.taken:
            self.story.counts["unmaps without a place"] += 1
            if len(self.story.unplaced) < _LISTED:
                self.story.unplaced.append(unmap)

    def _end_marks(self, pid: int, *, announces: bool = False) -> None:
        """The calls are over that task `pid` announced and made; announces: it begins another.

        Then what was announced before is over as well: by this task, or in the same shell by another.
        """
        name = self.story.tasks.get(pid)
        over = [
            judged
            for judged in self._marked
            if (judged.pid == pid and (judged.is_made or announces))
            or (announces and not judged.is_made and self.story.tasks.get(judged.pid) == name)
        ]
        self._marked = [judged for judged in self._marked if judged not in over]
        self._active = [*self._asked, *self._marked]
        for judged in over:
            self._done(judged)

    def _done(self, judged: Judged) -> None:
        self.story.counts["ranges"] += 1
        if len(self.story.judged) < _LISTED:
            self._tell(judged)
        self._closed.append(judged)
        self._find_hurt()

    def _find_hurt(self) -> None:
        self._hurt = [judged for judged in self._closed if not judged.is_safe]
        for judged in self._hurt:
            if not judged.is_told:
                self._tell(judged)

    def _tell(self, judged: Judged) -> None:
        """List a range: for those that lost frames outside there is room for as many again."""
        judged.is_told = True
        if len(self.story.judged) < 2 * _LISTED:
            self.story.judged.append(judged)
        else:
            self.story.counts["losses not listed"] += 1

    def _judge(self, change: Change, taken: list[Mapped], *, made_way: bool = False) -> None:
        """Show a change to the ranges that it concerns. made_way: a fault put a leaf in the table's place."""
        for judged in self._active:
            judged.see(change, taken)
        pid = change.where.pid
        for task, unmap in self._open.items():
            if task == pid:
                unmap.see(change, taken)
            elif change.is_leaf:
                unmap.came_back(change)
        if made_way or (change.is_leaf and change.what == "replace"):
            for judged in self._closed:
                if judged.crosses(*change.via):
                    judged.see(change, taken)
            self._find_hurt()
        elif change.is_leaf:
            for judged in self._hurt:
                judged.came_back(change)

    def _foreign(self, event: Foreign) -> None:
        self.story.counts["foreign"] += 1
        self.story.foreign[event.name] += 1

    def _damaged(self, event: Damaged) -> None:
        self.story.counts["damaged"] += 1
        if len(self.story.damaged) < _LISTED:
            self.story.damaged.append(event._replace(text=event.text[:200]))

    def _lost(self, event: Lost) -> None:
        """Forget what was known: it may have changed unseen."""
        self.story.counts["lost"] += event.events
        self._removed.clear()
        self._current.clear()
        self.story.trees.clear()

    def _note(self, event: Event) -> None:
        self.story.counts[type(event).__name__] += 1

    # ---- leaves over time --------------------------------------------------------------------------------

    def _point(self, where: Where, *, force: bool = False) -> None:
        points = self.story.points
        leaves = [0] * (TOP + 1)
        for tree in chain.from_iterable(self.story.trees.values()):
            leaves = [sum(pair) for pair in zip(leaves, tree.leaves, strict=True)]
        if force and points and points[-1].leaves == tuple(leaves):
            return
        points.append(Point(where.line, where.time, tuple(leaves)))
        if len(points) > _POINTS:
            del points[1::2]
            self._stride *= 2
        self._next_point = where.line + self._stride


def _is_kept(leaf: Mapped, change: Change) -> bool:
    """Whether a huge leaf in a table's place maps the frames of `leaf` to the same host frames."""
    if not change.is_leaf:
        return False
    return (change.new & SPTE_BASE_ADDR_MASK) >> 12 == leaf.pfn - (leaf.gfn - change.gfn)


def _entries_in(event: Event) -> tuple[tuple[int, int], ...]:
    """Each entry that the event names, with its level."""
    if isinstance(event, Changed):
        return (event.old, event.level), (event.new, event.level)
    if isinstance(event, SetSpte | SplitHugePage):
        return ((event.spte, event.level),)
    return ()


def _drained(events: deque[Event]) -> Iterator[Event]:
    while events:
        yield events.popleft()
