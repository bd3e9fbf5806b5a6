"""The kit's question, put to a trace: which leaves crossed an edge of a range, what was taken outside it.

An entry crosses a range if it holds frames inside and outside. Frames outside count as taken if one change of
such an entry took them, and took frames of the range too or mapped them anew; a zap that takes no frame of
the range belongs to another call. A range comes from the user, from a marker in the trace, or from an unmap,
whose host addresses must first be placed among the guest's frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tdpkit.engine.gfn import FrameSet, GfnRange, check_gfn, name_gfn, parse_gfn

from .changes import Change, Mapped
from .events import Where
from .tree import pages_of

_KEPT = 200
"""Steps of a crossing entry's life that are kept; the others are counted."""


class Step(NamedTuple):
    """What became of an entry that crosses an edge, and where the trace says so."""

    line: int
    what: str
    """As Change.what."""
    outside: int
    """Frames outside the range that went with it."""


class Crossing:
    """An entry of `level` in one tree that holds frames on both sides of an edge, and its life."""

    def __init__(self, as_id: int, root: int, level: int, gfn: int) -> None:
        self.as_id = as_id
        self.root = root
        self.level = level
        self.gfn = gfn
        self.steps: list[Step] = []
        self.left_out = 0
        """Steps beyond those kept."""
        self.was_leaf = False
        self.was_split = False
        self.was_taken = False
        """Frames outside went with it."""
        self._hits = False
        """The change at hand took frames of the range, or mapped them."""
        self._pending: list[GfnRange] = []
        """Frames outside that it took, until it is sure that they count."""

    @property
    def span(self) -> GfnRange:
        """The frames it covers."""
        return GfnRange(self.gfn, self.gfn + pages_of(self.level))

    def add(self, change: Change) -> None:
        """Note a change of this entry."""
        self.was_leaf |= change.is_leaf or change.what in ("zap", "split", "remap")
        self.was_split |= change.what == "split"
        self._hits = change.what in ("replace", "remap")
        self._pending = []
        if len(self.steps) < _KEPT:
            self.steps.append(Step(change.where.line, change.what, 0))
        else:
            self.left_out += 1

    def lost(self, outside: list[GfnRange], *, hits: bool) -> list[GfnRange]:
        """Note what the last change took `outside`, and if it `hits` the range; returns what is sure now."""
        self._hits |= hits
        self._pending += outside
        if not self._hits:
            return []
        sure, self._pending = self._pending, []
        count = sum(span.pages for span in sure)
        self.was_taken |= count > 0
        if self.steps and not self.left_out:
            self.steps[-1] = self.steps[-1]._replace(outside=self.steps[-1].outside + count)
        return sure


class Judged:
    """One range, and what the trace did to the leaves at its edges.

    verb: "" for a range of the user's; inside, outside: frames that were taken; back: those of `outside` that
    were mapped again later.
    """

    def __init__(self, span: GfnRange, verb: str = "", where: Where | None = None) -> None:
        self.span = span
        self.verb = verb
        self.where = where
        self.how = ""
        """How the frames were found, for an unmap."""
        self.pid = where.pid if where else 0
        self.is_made = False
        """The task that wrote the marker split or zapped something itself."""
        self.is_told = False
        """The story has it: in its list, or in its number of losses if the list is full."""
        self.crossings: dict[tuple[int, int, int, int], Crossing] = {}
        """By address space, root, level and frame."""
        self.inside = FrameSet()
        self.outside = FrameSet()
        self.back = FrameSet()
        self.first_back = 0
        """The line that mapped the first of them again."""

    @property
    def is_safe(self) -> bool:
        """Nothing outside the range was taken."""
        return not self.outside.edges

    def concerns(self, start: int, end: int, *, is_leaf: bool) -> bool:
        """Whether a change of the entry of frames [start, end) matters here, or may bring frames back."""
        return (start < self.span.end and self.span.start < end) or (is_leaf and not self.is_safe)

    def crosses(self, level: int, gfn: int) -> bool:
        """Whether that entry holds frames inside and outside the range."""
        end, span = gfn + pages_of(level), self.span
        return gfn < span.start < end or gfn < span.end < end

    def see(self, change: Change, taken: Iterable[Mapped]) -> None:
        """Take note of a change, and of the leaves whose mapping ended with it."""
        if change.is_leaf:  # before what it takes itself: that is not back
            self.came_back(change)
        level, gfn = change.via
        if level > 1 and self.crosses(level, gfn):
            self._see_crossing(change, taken)
        else:
            for leaf in taken:
                self.take_inside(leaf)

    def _see_crossing(self, change: Change, taken: Iterable[Mapped]) -> None:
        key = (change.as_id, change.root, *change.via)
        crossing = self.crossings.get(key)
        if crossing is None:
            crossing = self.crossings[key] = Crossing(*key)
        if change.what != "listed":
            crossing.add(change)
        for leaf in taken:
            hits = self.take_inside(leaf)
            for span in crossing.lost(self.span.outside(leaf.gfn, leaf.pages), hits=hits):
                self.outside.store(span, True)
                self.back.store(span, False)
                if not self.back.edges:
                    self.first_back = 0

    def take_inside(self, leaf: Mapped) -> bool:
        """Note the frames of the range that a leaf held; whether there are any."""
        low, high = max(leaf.gfn, self.span.start), min(leaf.gfn + leaf.pages, self.span.end)
        if low < high:
            self.inside.store(GfnRange(low, high), True)
        return low < high

    def came_back(self, change: Change) -> None:
        """Note the frames that were taken outside and that a leaf maps again."""
        span = GfnRange(change.gfn, change.gfn + pages_of(change.level))
        if self.outside.has(span, False):
            return
        for lost in self.outside.ranges():
            low, high = max(span.start, lost.start), min(span.end, lost.end)
            if low < high:
                self.back.store(GfnRange(low, high), True)
                self.first_back = self.first_back or change.where.line


_AS_PRINTED = re.compile(r"\s*(?:0[xX])?([0-9a-fA-F]{1,16})\s*")


def as_printed(text: str) -> int | None:
    """The number that is typed as a trace prints it, hexadecimal with 0x or without; None for other text."""
    found = _AS_PRINTED.fullmatch(text)
    return int(found[1], 16) if found else None


def read_frame(text: str) -> int:
    """The frame that is typed as a trace prints it (``84d``, 0x or not), or as an address (``2M+4K``).

    Raises InvalidValueError for anything else.
    """
    printed = as_printed(text)
    return parse_gfn(text) if printed is None else check_gfn(printed)


def frames_in(frames: FrameSet) -> int:
    """How many frames the set has."""
    return sum(span.end - span.start for span in frames.ranges())


# ---- an unmap's host addresses -------------------------------------------------------------------------


class Slot(NamedTuple):
    """Host frame address `hva` (in frames) holds guest frame `gfn`, and so on for `pages`; 0: for all."""

    hva: int
    gfn: int
    pages: int = 0


class Unmap:
    """An unmap of the host frames [start, end), and the changes that its task made until it went on."""

    def __init__(self, where: Where, start: int, end: int) -> None:
        self.where = where
        self.start = start
        self.end = end
        self.taken: list[Mapped] = []
        """The leaves whose mapping ended, those in a row together."""
        self._seen: list[tuple[Change, list[Mapped]]] = []
        """The changes of entries that may cross an edge, and those that map what went again."""
        self._gone = FrameSet()
        """What went and was not mapped again."""
        self._largest = 0
        self._low = self._high = 0
        """Between these is what the range's guest frames are above its host frames."""

    def see(self, change: Change, taken: list[Mapped]) -> None:
        """Take note of a change by this task, and of the leaves whose mapping ended with it."""
        if change.via[0] > 1:
            self._seen.append((change, taken))
        for leaf in taken:
            low, high = leaf.gfn - self.end + 1, leaf.gfn + leaf.pages - self.start - 1
            self._low = max(self._low, low) if self.taken else low
            self._high = min(self._high, high) if self.taken else high
            self._largest = max(self._largest, leaf.pages)
            self._gone.store(GfnRange(leaf.gfn, leaf.gfn + leaf.pages), True)
            last = self.taken[-1] if self.taken else None
            if last and (last.gfn + last.pages, last.pfn + last.pages) == (leaf.gfn, leaf.pfn):
                self.taken[-1] = last._replace(pages=last.pages + leaf.pages)
            else:
                self.taken.append(leaf)

    def came_back(self, change: Change) -> None:
        """Take note of a leaf that another task maps before this one goes on, if it maps what went again."""
        if self.misses(change.level, change.gfn):
            self._gone.store(GfnRange(change.gfn, change.gfn + pages_of(change.level)), False)
            self._seen.append((change, []))

    def misses(self, level: int, gfn: int) -> bool:
        """Whether a leaf of `level` from frame `gfn` on would map what went again."""
        if level == 1:
            return gfn in self._gone
        return not self._gone.has(GfnRange(gfn, gfn + pages_of(level)), False)

    def judged(self, slots: Iterable[Slot], offsets: Iterable[int]) -> Judged | None:
        """The range among the guest's frames, judged; None where more than one place would do.

        slots: what the user says of the guest's memory; offsets: gfn less host frame, where an unmap before
        this one settled it.
        """
        offset, how = self._placed(slots, offsets)
        if offset is None:
            return None
        span = GfnRange(max(0, self.start + offset), max(0, self.end + offset))
        judged = Judged(span, "unmap", self.where)
        judged.how = how
        for change, leaves in self._seen:
            judged.see(change, leaves)
        for leaf in self.taken:
            judged.take_inside(leaf)
        return judged

    def _placed(self, slots: Iterable[Slot], offsets: Iterable[int]) -> tuple[int | None, str]:
        for slot in slots:
            if slot.hva <= self.start and (not slot.pages or self.end <= slot.hva + slot.pages):
                return slot.gfn - slot.hva, f"by the slot of {name_gfn(slot.gfn)}"
        if not self.taken:
            return None, ""
        step = self._largest  # KVM maps a huge page only where both are aligned alike
        low, high = -(-self._low // step) * step, self._high // step * step
        if low == high:
            return low, "only there does each leaf that went hold an address of it"
        known = [offset for offset in offsets if low <= offset <= high and offset % step == 0]
        if len(known) == 1:
            return known[0], "as an unmap before it"
        return None, ""
