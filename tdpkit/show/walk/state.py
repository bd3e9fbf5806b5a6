"""The walk stepper's state: the tables of a recorded call at one step, read into strips.

:func:`walk_state` brings the call's tables to the step and reads them. A small machine is shown whole, every
level on one axis of frames; of a large one, the tables on the way to where the walk is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange, format_gfn
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_MMU_PRESENT_MASK, is_shadow_present_pte, spte_to_pfn
from tdpkit.engine.tree import table_at
from tdpkit.lab.split_call import CallStep, SplitCall
from tdpkit.lab.words import Names, count_of

from ..strips import Cell, Strip, join_cells, runs_of_entries

WHOLE_FRAMES = 256
"""Machines of at most this many frames are drawn whole, and their frames written as plain numbers."""
STANDING = frozenset(
    ("visit", "drop", "resched", "page", "refused", "retake", "store", "split", "lost", "fail", "other")
)
"""Kinds of step at which the walk stands on an entry: not before its first visit, nor after its last."""
_LEAST_ENTRIES = 16
"""A strip of a large machine shows at least so many entries of its table, and all that matters."""


class EntrySpan(NamedTuple):
    """The frames [first, last) of one entry, or of entries side by side, of `level`."""

    level: int
    first: int
    last: int


class Visited(NamedTuple):
    """Entries of one level side by side that were visited; of a single one, at which visits (from 1)."""

    level: int
    first: int
    last: int
    numbers: tuple[int, ...]


class Rail(NamedTuple):
    """The whole call in time: each step's kind; steps [first, last) without mmu_lock, and without RCU."""

    kinds: tuple[str, ...]
    dropped: tuple[tuple[int, int], ...]
    no_rcu: tuple[tuple[int, int], ...]


class WalkState(NamedTuple):
    """All that the picture, the text and the table are made from. Steps count from 0."""

    call: SplitCall
    at: int
    hidden: bool
    """What is to come is not shown."""
    whole: bool
    """All frames on one axis; otherwise each strip is one table."""
    strips: tuple[Strip, ...]
    """One per level, from the root's down."""
    entry: EntrySpan | None
    """Where the walk stands."""
    path: tuple[EntrySpan, ...]
    """The entries above it, from the root down."""
    visited: tuple[Visited, ...]
    rail: Rail

    @property
    def step(self) -> CallStep:
        """The step of the call at which it stands."""
        return self.call.steps[self.at]

    @property
    def goal(self) -> int:
        """The first frame that the walk has not passed."""
        return self.step.goal

    @property
    def span(self) -> GfnRange:
        """The range of the call."""
        return self.call.span


def walk_state(call: SplitCall, at: int, *, hidden: bool = False, seen: int = 0) -> WalkState:
    """`call` at step `at` (from 0); `hidden`: nothing is shown of steps after it and after step `seen`.

    Raises InvalidValueError for a step that the call does not have.
    """
    step = call.go(at)
    stand = _stand(call, at)
    whole = is_whole(call)
    reader = _TableReader(call, at)
    shown = call.steps[: max(at, seen) + 1] if hidden else call.steps
    place = None
    if stand:
        place = EntrySpan(stand.level, stand.gfn, stand.gfn + call.geometry.pages(stand.level))
    return WalkState(
        call=call,
        at=at,
        hidden=hidden,
        whole=whole,
        strips=tuple(reader.whole_strips() if whole else reader.lens(stand)),
        entry=place if step.kind in STANDING else None,
        path=tuple(_path(call, place)),
        visited=tuple(_visited(call, at, whole)),
        rail=Rail(
            tuple(step.kind for step in shown),
            tuple(_runs(not step.held for step in shown)),
            tuple(_runs(not step.rcu for step in shown)),
        ),
    )


def is_whole(call: SplitCall) -> bool:
    """The machine is small enough to be drawn on one axis of frames."""
    return call.geometry.root_pages <= WHOLE_FRAMES


def names_of(call: SplitCall) -> Names:
    """Frames of a machine drawn whole are numbers, of x86 addresses."""
    return Names(call.geometry, is_whole(call))


def _name_level(call: SplitCall, level: int) -> str:
    """How much an entry of `level` covers: ``4 frames each``, ``2M per entry``."""
    size = names_of(call).size(call.geometry.pages(level))
    return f"{size} {'each' if is_whole(call) else 'per entry'}"


def _stand(call: SplitCall, at: int) -> CallStep | None:
    """The step that says which entry the walk stands on, or stood on last."""
    while at and call.steps[at].kind not in STANDING:
        at -= 1
    return call.steps[at] if at else None


def _path(call: SplitCall, place: EntrySpan | None) -> Iterator[EntrySpan]:
    """The entries above `place`."""
    if place:
        for level in range(call.geometry.root_level, place.level, -1):
            first = call.geometry.gfn_round_for_level(place.first, level)
            yield EntrySpan(level, first, first + call.geometry.pages(level))


def _runs(flags: Iterable[bool]) -> Iterator[tuple[int, int]]:
    """[first, last) of each run of true ones."""
    at = 0
    for flag, run in groupby(flags):
        length = sum(1 for _ in run)
        if flag:
            yield at, at + length
        at += length


def _visited(call: SplitCall, at: int, whole: bool) -> Iterator[Visited]:
    """Every visited entry by itself with its visits' numbers, or in a large machine runs of them."""
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, place in enumerate(call.visited(at), 1):
        numbers.setdefault(place, []).append(number)
    run: Visited | None = None
    for level, gfn in sorted(numbers, key=lambda place: (-place[0], place[1])):
        last = gfn + call.geometry.pages(level)
        if whole:
            yield Visited(level, gfn, last, tuple(numbers[level, gfn]))
        elif run and run.level == level and run.last == gfn:
            run = run._replace(last=last)
        else:
            if run:
                yield run
            run = Visited(level, gfn, last, ())
    if run:
        yield run


class _TableReader:
    """Reads strips out of a call's tables as they are."""

    def __init__(self, call: SplitCall, at: int) -> None:
        self.call = call
        self.root = call.root
        self.geometry = call.geometry
        self.made = {
            spte_to_pfn(write.new)
            for step in call.steps[: at + 1]
            for write in step.writes
            if is_shadow_present_pte(write.new) and not write.new & PT_PAGE_SIZE_MASK
        }
        """Rows of the tables that splits have made so far."""

    def whole_strips(self) -> Iterator[Strip]:
        """One strip per level on one axis; where a level has no table there is no cell."""
        tables = [(self.root.row, 0)]
        for level in range(self.geometry.root_level, 0, -1):
            cells = [cell for row, base in tables for cell in self._cells(row, level, base)]
            named = tuple(cell._replace(text=self._word(cell, level)) for cell in join_cells(cells))
            pages = self.geometry.pages(level)
            yield Strip(
                f"level {level}",
                _name_level(self.call, level),
                0,
                self.geometry.root_pages,
                named,
                (0, pages),
            )
            tables = [table for row, base in tables for table in self._children(row, level, base)]

    def _children(self, row: int, level: int, base: int) -> Iterator[tuple[int, int]]:
        """(row, first frame) of each table that the table in `row` points to."""
        if level > PG_LEVEL_4K:
            for index, spte in enumerate(self.root.pool.table(row)):
                if spte & (SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK) == SPTE_MMU_PRESENT_MASK:
                    yield spte_to_pfn(spte), base + index * self.geometry.pages(level)

    def lens(self, stand: CallStep | None) -> Iterator[Strip]:
        """The tables on the way to where the walk is, one per level, each enlarging an entry of the last."""
        at = self._frame_in_focus(stand)
        for level in range(self.geometry.root_level, 0, -1):
            first = self.geometry.gfn_round_for_level(at, level + 1)
            last, pages = first + self.geometry.pages(level + 1), self.geometry.pages(level)
            row, leaf = table_at(self.root, at, level)
            cells: tuple[Cell, ...] = ()
            if row is not None:
                joined = join_cells(self._cells(row, level, first))
                note = f"table at {format_gfn(first)}"
                low, high = self._stretch(joined, at, level)
                if (low, high) != (first, last):
                    entries, index = (high - low) // pages, (low - first) // pages
                    note += f", entries {index} to {index + entries - 1} of {self.geometry.entries}"
                first, last = low, high
                cells = tuple(self._cut(joined, level, first, last))
            elif leaf:
                label = self.geometry.level(leaf.level).label
                note = f"no table: the {label} leaf at {format_gfn(leaf.gfn)}"
            else:
                note = "no table: nothing mapped"
            focus = self.geometry.gfn_round_for_level(at, level)
            label = f"level {level} · {_name_level(self.call, level)}"
            yield Strip(label, note, first, last, cells, (focus, focus + pages))

    def _stretch(self, cells: Iterable[Cell], at: int, level: int) -> tuple[int, int]:
        """The frames of the table that are shown: all that is mapped, the range, and frame `at`."""
        pages, table = self.geometry.pages(level), self.geometry.pages(level + 1)
        base = self.geometry.gfn_round_for_level(at, level + 1)
        mapped = [(cell.first, cell.last) for cell in cells if cell.kind != "hole"]
        span = (max(base, self.call.span.start), min(base + table, self.call.span.end))
        ends = [*mapped, (at, at + 1), *([span] if span[0] < span[1] else [])]
        low, high = min(first for first, _ in ends), max(last for _, last in ends) - 1
        size = min(_LEAST_ENTRIES * pages, table)
        while low // size != high // size:
            size *= 2
        return low // size * size, low // size * size + size

    def _cut(self, cells: Iterable[Cell], level: int, first: int, last: int) -> Iterator[Cell]:
        """What lies in [first, last) of `cells`, with words; tables one by one where they are few."""
        pages = self.geometry.pages(level)
        for cell in cells:
            low, high = max(cell.first, first), min(cell.last, last)
            each = pages if cell.kind == "table" and last - first <= _LEAST_ENTRIES * pages else high - low
            for at in range(low, high, max(each, 1)):
                part = Cell(at, at + each, cell.kind)
                yield part._replace(text=self._word(part, level))

    def _frame_in_focus(self, stand: CallStep | None) -> int:
        """The goal, if the walk's entry holds it, so that the strips below show where it leads."""
        if stand is None:
            return self.call.span.start
        holds_goal = stand.gfn <= stand.goal < stand.gfn + self.geometry.pages(stand.level)
        return stand.goal if holds_goal else stand.gfn

    def _cells(self, row: int, level: int, base: int) -> Iterator[Cell]:
        """Cells of one table, runs of equal entries; those that the call would split stand by themselves."""
        leaf = "split" if row in self.made else f"leaf{level}"
        for cell in runs_of_entries(self.root.pool.table(row), level, base, self.geometry.pages(level)):
            if cell.kind == "leaf":
                yield from self._leaf_cells(level, cell.first, cell.last, leaf)
            else:
                yield cell

    def _leaf_cells(self, level: int, first: int, last: int, kind: str) -> Iterator[Cell]:
        """Leaves side by side, those that the call would split marked."""
        at = first
        for low, high in self._due(level):
            low, high = max(low, at), min(high, last)
            if low < high:
                if at < low:
                    yield Cell(at, low, kind)
                yield Cell(low, high, "crossing")
                at = high
        if at < last:
            yield Cell(at, last, kind)

    def _due(self, level: int) -> list[tuple[int, int]]:
        """Frames of the entries of `level` that the call would split if they were leaves, in order."""
        start, end, pages = self.call.span.start, self.call.span.end, self.geometry.pages(level)
        if level <= self.call.target_level:
            return []
        low, high = self.geometry.gfn_round_for_level(start, level), -(-end // pages) * pages
        if not self.call.only_cross_boundary:
            return [(low, high)] if low < high else []
        crossed = {edge // pages * pages for edge in (start, end) if edge % pages}
        return [(gfn, gfn + pages) for gfn in sorted(crossed)]

    def _word(self, cell: Cell, level: int) -> str:
        """What a cell is: of a toy how many, of a large machine how many of which size."""
        number = (cell.last - cell.first) // self.geometry.pages(level)
        if cell.kind == "hole":
            return "none" if is_whole(self.call) else "not mapped"
        if cell.kind == "table":
            return "table" if number == 1 else f"{number} tables"
        if is_whole(self.call):
            return "leaf" if number == 1 else count_of(number, "leaf", "leaves")
        return f"{number} × {self.geometry.level(level).label}"
