"""A host that changes page tables at random and prints it as a trace (S220, S221, S263), and a flat truth.

It shares no code with lab/traces: tables are lists of 512 numbers of the layout ept-5.13, and what is mapped,
what the text told and what a range lost are arrays with one place for each frame of a guest of 1 GiB.
"""

from __future__ import annotations

import numpy as np

FRAMES = 1 << 18
FROZEN = 0x5A0
_LEAF, _HUGE, _TABLE, _MMIO = 0x0600_0000_0000_0B77, 0x0600_0000_0000_0BF3, 0x907, 0x3E00_0000_0056
_ADDRESS = (1 << 52) - (1 << 12)
_A, _D, _W, _X = 1 << 8, 1 << 9, 2, 4


def pages(level: int) -> int:
    return 512 ** (level - 1)


def is_table(spte: int, level: int) -> bool:
    return level > 1 and bool(spte & 0x800) and not spte & 0x80


def is_leaf(spte: int, level: int) -> bool:
    return bool(spte & 0x800) and (level == 1 or bool(spte & 0x80))


class AmbiguousError(Exception):
    """A line that could as well be about another root."""


class Root:
    """The page tables under one root: every entry, told or not."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tables: dict[tuple[int, int], list[int]] = {(4, 0): [0] * 512}
        self.mapped = np.full(FRAMES, -1)
        """The host frame of each frame, or -1."""
        self.told = np.zeros(FRAMES, bool)
        """A line named the leaf that holds the frame, or the one that it came of."""

    def entry(self, level: int, gfn: int) -> int | None:
        """The entry of `level` that holds `gfn`; None if there is no table for it."""
        table = self.tables.get((level, gfn // pages(level + 1)))
        return None if table is None else table[gfn // pages(level) % 512]

    def put(self, level: int, gfn: int, spte: int) -> None:
        self.tables[level, gfn // pages(level + 1)][gfn // pages(level) % 512] = spte

    def walk(self, gfn: int) -> tuple[int, int]:
        """The lowest level with an entry for `gfn`, and that entry."""
        level = min(level for level in range(1, 5) if self.entry(level, gfn) is not None)
        return level, self.entry(level, gfn)


class PrintingHost:
    """`lines` is its trace, from what it printed first."""

    def __init__(
        self, roots: int = 1, ranges: tuple[tuple[int, int], ...] = (), *, one_task: bool = False
    ) -> None:
        self.roots = [Root(number) for number in range(roots)]
        self._one_task = one_task
        """All is done by one task; else there is one to a root."""
        self.lines: list[str] = []
        self.is_silent = False
        """What happens is not in the trace."""
        self.judged = [FlatJudged(*span) for span in ranges]
        self._page = 0x10_0000
        self._clock = 0

    # ---- what it prints --------------------------------------------------------------------------------

    def _print(self, root: Root, text: str) -> None:
        self._clock += 1
        if not self.is_silent:
            task = 0 if self._one_task else root.number
            self.lines.append(f"        CPU {task}/KVM-{1001 + task} [000] ...1. 5.{self._clock:06}: {text}")

    def _change(self, root: Root, level: int, gfn: int, new: int, printed: int | None = None) -> int:
        """Print a line for the entry, then put `new` there; gives what was there."""
        old = root.entry(level, gfn)
        for other in self.roots:
            there = None if other is root else other.entry(level, gfn)
            if there is not None and (_is_absent(old) and _is_absent(there)):
                raise AmbiguousError
        self._line(root, level, gfn, old, new if printed is None else printed)
        root.put(level, gfn, new)
        return old

    def _line(self, root: Root, level: int, gfn: int, old: int, new: int) -> None:
        self._print(
            root,
            f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}",
        )

    def _new_page(self, count: int = 1) -> int:
        self._page = -(-self._page // count) * count + count
        return self._page - count

    # ---- what it does ----------------------------------------------------------------------------------

    def fault(self, root: Root, gfn: int, goal: int, *, replaces: bool = False) -> None:
        """Map `gfn` by a leaf of `goal`: link what is missing, or put the leaf in a table's place."""
        level, spte = root.walk(gfn)
        if replaces and (under := root.entry(goal, gfn)) is not None and is_table(under, goal):
            self._replace(root, goal, gfn // pages(goal) * pages(goal), under)
            return
        if is_leaf(spte, level) or not _is_absent(spte) or level < goal:
            return
        while level > goal:
            base = gfn // pages(level) * pages(level)
            self._change(root, level, base, self._new_page() << 12 | _TABLE)
            level -= 1
            root.tables[level, base // pages(level + 1)] = [0] * 512
        base = gfn // pages(goal) * pages(goal)
        pfn = self._new_page(pages(goal))
        self._change(root, goal, base, pfn << 12 | (_LEAF if goal == 1 else _HUGE))
        self._map(root, goal, base, pfn)
        for judged in self.judged:
            judged.see_mapped(slice(base, base + pages(goal)))

    def mmio(self, root: Root, gfn: int) -> None:
        if root.entry(1, gfn) is not None and _is_absent(root.entry(1, gfn)):
            self._change(root, 1, gfn, _MMIO | (gfn & 0xFF) << 12)

    def zap(self, root: Root, start: int, end: int, *, is_atomic: bool) -> None:
        """Zap each leaf that has a frame of [start, end)."""
        gfn = start
        while gfn < end:
            level, spte = root.walk(gfn)
            base = gfn // pages(level) * pages(level)
            if not _is_absent(spte) and not is_table(spte, level):
                self._change(root, level, base, 0, FROZEN if is_atomic else 0)
                if is_leaf(spte, level):
                    self._take(root, level, base)
            gfn = base + pages(level)

    def remove(self, root: Root, level: int, gfn: int, *, is_atomic: bool) -> None:
        """Remove the table that the entry leads to, and all below it."""
        spte = root.entry(level, gfn)
        if spte is None or not is_table(spte, level):
            return
        base = gfn // pages(level) * pages(level)
        self._change(root, level, base, 0, FROZEN if is_atomic else 0)
        self._take(root, level, base)
        self._list(root, level - 1, base)

    def _replace(self, root: Root, level: int, base: int, old: int) -> None:
        first = root.mapped[base]
        same = first >= 0 and first % pages(level) == 0 and root.entry(1, base) is not None
        pfn = int(first) if same else self._new_page(pages(level))
        self._change(root, level, base, pfn << 12 | _HUGE)
        self._take(root, level, base, pfn)
        self._map(root, level, base, pfn)
        self._list(root, level - 1, base)

    def _list(self, root: Root, level: int, base: int) -> None:
        """Print each entry of a table that is gone, and of those below it."""
        for index, spte in enumerate(root.tables.pop((level, base // pages(level + 1)))):
            gfn = base + index * pages(level)
            if spte != FROZEN:
                self._line(root, level, gfn, spte, FROZEN)
            if is_table(spte, level):
                self._list(root, level - 1, gfn)

    def split(self, root: Root, gfn: int) -> None:
        level, old = root.walk(gfn)
        if level == 1 or not is_leaf(old, level):
            return
        base = gfn // pages(level) * pages(level)
        self._change(root, level, base, self._new_page() << 12 | _TABLE)
        self._print(root, f"kvm_mmu_split_huge_page: gfn {base:x} spte {old:x} level {level} errno 0")
        small = (old & ~0x80 | _X) if level == 2 else old
        step = pages(level - 1)
        children = [small + (index * step << 12) for index in range(512)]
        root.tables[level - 1, base // pages(level)] = children
        if not self.is_silent:
            root.told[base : base + pages(level)] = True

    def clear_dirty(self, root: Root, gfn: int) -> None:
        level, spte = root.walk(gfn)
        if is_leaf(spte, level) and spte & _D:
            base = gfn // pages(level) * pages(level)
            self._change(root, level, base, spte & ~(_D | _W))
            self._tell(root, level, base)

    def touch(self, root: Root, gfn: int) -> None:
        """Write through a leaf: A, D and W are set again without a line."""
        level, spte = root.walk(gfn)
        if is_leaf(spte, level):
            root.put(level, gfn // pages(level) * pages(level), spte | _A | _D | _W)

    # ---- the flat truth --------------------------------------------------------------------------------

    def _tell(self, root: Root, level: int, base: int) -> None:
        root.told[base : base + pages(level)] = not self.is_silent

    def _map(self, root: Root, level: int, base: int, pfn: int) -> None:
        size = pages(level)
        root.mapped[base : base + size] = pfn + np.arange(size)
        self._tell(root, level, base)

    def _take(self, root: Root, level: int, base: int, pfn: int | None = None) -> None:
        """All that the entry mapped ends, except what the new leaf on `pfn` maps to the same host frame."""
        span = slice(base, base + pages(level))
        before = root.mapped[span]
        taken = before >= 0
        if pfn is not None:
            taken &= before != pfn + np.arange(len(before))
        root.mapped[span] = -1
        for judged in self.judged:
            if not self.is_silent:
                judged.see_taken(span, taken, maps=pfn is not None)

    def lose(self) -> None:
        """The tracer lost events here."""
        self.lines.append("CPU:0 [LOST 7 EVENTS]")
        for root in self.roots:
            root.told[:] = False

    def begin(self) -> None:
        """The trace begins here."""
        self.lines.clear()
        for root in self.roots:
            root.told[:] = False
        self.judged = [FlatJudged(judged.start, judged.end) for judged in self.judged]


def _is_absent(spte: int) -> bool:
    return not spte & 0x800 and spte & 7 != 6


class FlatJudged:
    """What a range lost, as arrays with one place for each frame."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self.is_inside = np.zeros(FRAMES, bool)
        self.is_inside[start:end] = True
        self.inside = np.zeros(FRAMES, bool)
        self.outside = np.zeros(FRAMES, bool)
        self.back = np.zeros(FRAMES, bool)

    def see_taken(self, span: slice, taken: np.ndarray, *, maps: bool) -> None:
        """An entry of `span` lost the frames `taken`; maps: for a leaf that maps them all."""
        is_inside = self.is_inside[span]
        self.inside[span] |= taken & is_inside
        if maps:
            self.back[span] |= self.outside[span]
        if is_inside.any() and not is_inside.all() and (maps or (taken & is_inside).any()):
            self.outside[span] |= taken & ~is_inside
            self.back[span] &= ~(taken & ~is_inside)

    def see_mapped(self, span: slice) -> None:
        """A leaf maps `span` where nothing was."""
        self.back[span] |= self.outside[span]
