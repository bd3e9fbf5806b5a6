"""The boundary explorer's state: what an action on a range does, read out of the guest's own tables.

:func:`boundary_state` asks the lab and reads the tables around both edges. Everything in a
:class:`BoundaryState` is a number, in frames where not said otherwise, or the label of a strip or a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.tree import Leaf, table_at, translate
from tdpkit.lab.guest import Guest, GuestOutcome
from tdpkit.lab.words import Names, count_of

from ..strips import Cell, Strip, join_cells, runs_of_entries


class Lens(NamedTuple):
    """The strips around an edge, "start" or "end", or of all "frames"; from the largest leaf's level down."""

    name: str
    edge: int
    strips: tuple[Strip, ...]


class BoundaryState(NamedTuple):
    """All that words and picture are made from."""

    outcome: GuestOutcome
    geometry: Geometry
    frames: int
    what_if: bool
    """No TD of the modelled series would map what this one does."""
    guest: Strip
    lenses: tuple[Lens, ...]
    memory: tuple[str, ...]
    """What the guest reads in each frame afterwards, in hex ("··": zapped as asked, "--": never its own)."""

    @property
    def kind(self) -> str:
        """The kind of VM."""
        return self.outcome.kind

    @property
    def names(self) -> Names:
        """How frames and leaves are called: by number on a toy, whose bytes are seen."""
        return Names(self.geometry, bool(self.memory))

    @property
    def strips(self) -> tuple[Strip, ...]:
        """All of them, the guest's own first."""
        return (self.guest, *(strip for lens in self.lenses for strip in lens.strips))


def boundary_state(guest: Guest, start: int, end: int, action: str) -> BoundaryState:
    """Find out what `action` on frames [start, end) of the untouched `guest` does.

    Raises InvalidTypeError or InvalidValueError for a range that is not the guest's, empty or reversed, and
    for an unknown action; the guest is unchanged in any case.
    """
    with guest.after(start, end, action) as (after, outcome):
        return _seen(after, outcome)


def left_state(guest: Guest, start: int, end: int) -> BoundaryState:
    """The small `guest` as somebody's conversion of frames [start, end) left it (action "convert").

    A frame that the layout maps and the guest does not is zapped, or lost if it lies outside the range. To
    read its bytes the guest is touched. Raises InvalidTypeError or InvalidValueError as
    :func:`boundary_state`.
    """
    span = guest.check_span(start, end)
    laid_out = {
        gfn: level
        for first, level, count, _ in guest.layout.leaves
        for gfn in range(first, first + count * guest.geometry.pages(level))
    }
    now = {gfn: translate(guest.root, gfn) for gfn in laid_out}
    gone = join_cells(
        Cell(gfn, gfn + 1, "inside" if gfn in span else "outside") for gfn, leaf in now.items() if not leaf
    )
    splits = {
        (guest.geometry.gfn_round_for_level(gfn, level), level)
        for gfn, level in laid_out.items()
        if (leaf := now[gfn]) and leaf.level < level
    }
    outcome = GuestOutcome(
        kind=guest.kind,
        action="convert",
        span=span,
        crossing=(),
        split_visits=0,
        zap_visits=0,
        splits=tuple(sorted(splits)),
        zapped_inside=sum(cell.last - cell.first for cell in gone if cell.kind == "inside"),
        outside=tuple(GfnRange(cell.first, cell.last) for cell in gone if cell.kind == "outside"),
    )
    return _seen(guest, outcome)


def _seen(after: Guest, outcome: GuestOutcome) -> BoundaryState:
    """`after` an action, read out of its tables."""
    painter = _Painter(after, outcome)
    small = after.shows_bytes
    return BoundaryState(
        outcome=outcome,
        geometry=after.geometry,
        frames=after.frames,
        what_if=after.what_if,
        guest=painter.guest_strip(),
        lenses=(painter.whole(),) if small else (painter.lens("start"), painter.lens("end")),
        memory=_memory(after, outcome) if small else (),
    )


def _memory(after: Guest, outcome: GuestOutcome) -> tuple[str, ...]:
    """The guest touches every frame that is still its own, and accepts what it must."""
    read = []
    for gfn in range(after.frames):
        zaps = outcome.action in ("zap", "split+zap", "convert")
        if zaps and gfn in outcome.span and translate(after.root, gfn) is None:
            read.append("··")
            continue
        if after.host_frame(gfn) is None:
            read.append("--")
            continue
        touch = after.touch(gfn)
        if touch.event == "violation":
            touch = after.accept(gfn)
        read.append("··" if touch.byte is None else f"{touch.byte:02x}")
    return tuple(read)


_FEW_LEAVES = 64
"""Leaves that are at least this part of the guest have borders of their own on its strip."""


class _Painter:
    """Reads strips out of a guest's tables, as they are after an action."""

    def __init__(self, guest: Guest, outcome: GuestOutcome) -> None:
        self.guest = guest
        self.geometry = guest.geometry
        self.names = Names(guest.geometry, guest.shows_bytes)
        self.outcome = outcome
        self.span = outcome.span
        self.zapped = "zap" in outcome.action
        self._crossing_now = outcome.crossing if outcome.action == "look" else ()
        self.away = "lost" if outcome.kind == "TD" else "refaulted"

    # ---- which strips -----------------------------------------------------------------------------------

    def guest_strip(self) -> Strip:
        """The whole guest: by its layout, without reading a table, unless it is small and a stranger's."""
        cells: list[Cell] = []
        if self.outcome.action == "convert":
            cells = [self._frame(gfn) for gfn in range(self.guest.frames)]
            return self._guest_strip(join_cells(cells))
        for gfn, level, count, _ in self.guest.layout.leaves:
            pages = self.geometry.pages(level)
            last = gfn + count * pages
            each = pages if pages * _FEW_LEAVES >= self.guest.frames else last - gfn
            for first in range(gfn, last, each):
                parts = self._mapped_cells(first, first + each, f"leaf{level}", gone=self.zapped)
                cells += join_cells(parts)
        return self._guest_strip(cells)

    def _guest_strip(self, cells: Iterable[Cell]) -> Strip:
        frames, cells = self.guest.frames, [*cells]
        whole = tuple(sorted([*cells, *self._between(cells, 0, frames)]))
        return Strip(f"the guest, 0 to {self.names.frame(frames)}", "", 0, frames, whole, (0, frames))

    def _frame(self, gfn: int) -> Cell:
        """One frame as its entry is now."""
        if leaf := translate(self.guest.root, gfn):
            return Cell(gfn, gfn + 1, f"leaf{leaf.level}")
        gone = "zapped" if gfn in self.span else self.away
        return Cell(gfn, gfn + 1, "hole" if self.guest.host_frame(gfn) is None else gone)

    def _named(self, cells: Iterable[Cell], level: int) -> tuple[Cell, ...]:
        """The cells of a strip of `level`, equal ones joined, each with its text."""
        return tuple(cell._replace(text=self._text(cell, level)) for cell in join_cells(cells))

    @staticmethod
    def _within(cells: Iterable[Cell], last: int) -> Iterator[Cell]:
        """The cells, ended where the guest ends: its last entry may reach beyond."""
        return (cell._replace(last=min(cell.last, last)) for cell in cells if cell.first < last)

    def _text(self, cell: Cell, level: int) -> str:
        frames = cell.last - cell.first
        entries = frames // self.geometry.pages(level)
        whole = entries * self.geometry.pages(level) == frames
        label = self.names.size(self.geometry.pages(level))
        if cell.kind == "hole":
            return "not mapped"
        if cell.kind == "table" and whole:
            return "table" if entries == 1 else f"{entries} tables"
        if cell.kind == f"leaf{level}" or cell.kind == "split":
            return f"{entries} × {label}"
        if cell.kind == "crossing" and any(leaf[:2] == (cell.first, level) for leaf in self.outcome.crossing):
            return "crosses"
        said = {"crossing": "at stake", "zapped": "zapped", "lost": "lost", "refaulted": "to re-fault"}
        if cell.kind in said:
            return f"{count_of(frames, 'frame')} {said[cell.kind]}"
        if self.span.overlap(cell.first, frames) == frames:
            return f"{count_of(frames, 'frame')} in the range"
        if cell.kind.startswith("leaf"):
            return f"inside the {self.names.leaves_of(int(cell.kind.removeprefix('leaf')))}"
        return count_of(frames, "frame")

    def whole(self) -> Lens:
        """A toy: one strip over all its frames for each level that may hold leaves, tables side by side."""
        strips = []
        for level in range(self.geometry.max_leaf_level, 0, -1):
            table = self.geometry.pages(level + 1)
            parts = [
                self.strip(level, first, first, min(first + table, self.guest.frames))
                for first in range(0, self.guest.frames, table)
            ]
            cells = self._named((cell for part in parts for cell in part.cells), level)
            inside = tuple(stretch for part in parts for stretch in part.inside)
            strips.append(parts[0]._replace(note="", last=self.guest.frames, cells=cells, inside=inside))
        return Lens("frames", 0, tuple(strips))

    def lens(self, name: str) -> Lens:
        """The strips around one edge, at the first or the last frame of the range."""
        edge = getattr(self.span, name)
        at = edge if name == "start" else edge - 1
        strips = []
        for level in range(self.geometry.max_leaf_level, 0, -1):
            first = self.geometry.gfn_round_for_level(at, level + 1)
            last = min(first + self.geometry.pages(level + 1), max(self.guest.frames, first + 1))
            strips.append(self.strip(level, at, first, last))
        return Lens(name, edge, tuple(strips))

    # ---- one strip --------------------------------------------------------------------------------------

    def strip(self, level: int, at: int, first: int, last: int) -> Strip:
        """The `level` entries of frames [first, last), which lie in one table; `at` is the edge's frame."""
        row, above = table_at(self.guest.root, at, level)
        pages = self.geometry.pages(level)
        focus = self.geometry.gfn_round_for_level(at, level)
        label = f"level {level} · {self.names.size(pages)} per entry"
        inside: tuple[tuple[int, int], ...] = ()
        if row is not None:
            note = f"table at {self.names.frame(self.geometry.gfn_round_for_level(at, level + 1))}"
            cells = list(self._entries(row, level, first, last))
        elif above is not None:
            note = f"inside {self.names.leaf(above.gfn, above.level)}"
            cells = self._inside_leaf(above, first, last)
            inside = ((first, last),)
        else:
            note = "no table"
            cells = self._absent_cells(first, last)
        named = self._named(self._within(cells, last), level)
        return Strip(label, note, first, last, named, (focus, focus + pages), inside)

    def _entries(self, row: int, level: int, first: int, last: int) -> Iterator[Cell]:
        """Cells of a table's entries: runs of equal ones, of which at most two leaves cross an edge."""
        pages, split = self.geometry.pages(level), (first, level + 1) in self.outcome.splits
        low = self.geometry.index(first | self.guest.root.gfn_bits, level)
        entries = self.guest.root.pool.table(row)[low : low + -(-(last - first) // pages)]
        for cell in runs_of_entries(entries, level, first, pages):
            if cell.kind == "hole":
                yield from self._absent_cells(cell.first, cell.last)
            elif cell.kind == "table":
                yield cell
            elif split:
                yield cell._replace(kind="split")
            else:
                yield from self._leaf_cells(level, cell.first, cell.last)

    def _leaf_cells(self, level: int, first: int, last: int) -> Iterator[Cell]:
        """Leaves side by side: those that cross an edge stand by themselves."""
        pages = self.geometry.pages(level)
        crossing = [leaf.gfn for leaf in self._crossing_now if leaf.level == level]
        marks = [Cell(gfn, gfn + pages, "crossing") for gfn in crossing if first <= gfn < last]
        yield from sorted([*marks, *self._between(marks, first, last, f"leaf{level}")])

    def _inside_leaf(self, leaf: Leaf, first: int, last: int) -> list[Cell]:
        """Some frames of one large leaf: of a crossing one, those outside the range would go with it."""
        kind = f"leaf{leaf.level}"
        return self._by_range(first, last, kind, "crossing" if leaf in self._crossing_now else kind)

    def _absent_cells(self, first: int, last: int) -> list[Cell]:
        """Non-present frames: never mapped, or zapped, in the range or outside."""
        cells: list[Cell] = []
        for gfn, level, count, _ in self.guest.layout.leaves:
            low, high = max(first, gfn), min(last, gfn + count * self.geometry.pages(level))
            if low < high:
                cells += self._by_range(low, high, "zapped", self.away)
        return sorted([*cells, *self._between(cells, first, last)])

    def _mapped_cells(self, first: int, last: int, kind: str, *, gone: bool) -> list[Cell]:
        """Frames of the layout: as they were, but for the range and what went with it."""
        cells = self._by_range(first, last, "zapped" if gone else kind, kind)
        if self.outcome.action != "zap":
            return cells
        kept: list[Cell] = []
        for cell in cells:
            away = [part for part in self.outcome.outside if cell.first < part.end and part.start < cell.last]
            marks = [Cell(max(cell.first, part.start), min(cell.last, part.end), self.away) for part in away]
            rest = self._between(marks, cell.first, cell.last, cell.kind)
            kept += sorted([*marks, *rest])
        return kept

    def _by_range(self, first: int, last: int, inside: str, outside: str) -> list[Cell]:
        parts = [Cell(part.start, part.end, outside) for part in self.span.outside(first, last - first)]
        low, high = max(first, self.span.start), min(last, self.span.end)
        return sorted([*parts, Cell(low, high, inside)]) if low < high else parts

    @staticmethod
    def _between(cells: Iterable[Cell], first: int, last: int, kind: str = "hole") -> list[Cell]:
        """What `cells` leave free of [first, last)."""
        free, at = [], first
        for cell in sorted(cells):
            if at < cell.first:
                free.append(Cell(at, cell.first, kind))
            at = max(at, cell.last)
        return [*free, Cell(at, last, kind)] if at < last else free
