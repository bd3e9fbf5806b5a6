"""A tree as far as a trace tells it: each entry is known, or unknown; nothing is made up.

A table is known whole if the trace showed how it came to be: linked where there was nothing, it was empty;
put in the place of a leaf, it held that leaf's children. Of every other table only those entries are known
that a line named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, X86_5LEVEL
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK, SPTE_BASE_ADDR_MASK

from ..spte_layouts import SpteLayout

_BITS = X86_5LEVEL.index_bits
_ENTRIES = X86_5LEVEL.entries
TOP = X86_5LEVEL.root_level
"""The root's level is not told; a tree of four levels has one table of level 5 in which nothing is known."""


def pages_of(level: int) -> int:
    """Frames that an entry of `level` covers."""
    return 1 << _BITS * (level - 1)


class KnownLeaves(NamedTuple):
    """`count` leaves of `level` in a row, from frame `gfn` on, on host frames from `pfn` on, all in a row."""

    gfn: int
    level: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    pfn: int


class TracedTable:
    """A table of `level` whose first entry is for frame `base`."""

    __slots__ = ("base", "below", "entries", "is_empty", "leaf", "level")

    def __init__(self, level: int, base: int) -> None:
        self.level = level
        self.base = base
        self.entries: dict[int, int | None] = {}
        """Entries by first frame, as lines told them; None where they contradict each other."""
        self.is_empty = False
        """An entry that no line named is empty."""
        self.leaf: int | None = None
        """An entry that no line named is a child of this leaf."""
        self.below: dict[int, TracedTable] = {}

    def known(self, gfn: int) -> int | None:
        """The entry that covers frames from `gfn` on, or None."""
        if gfn in self.entries:
            return self.entries[gfn]
        if self.leaf is not None:
            return self.child(gfn)
        return 0 if self.is_empty else None

    def child(self, gfn: int) -> int:
        """The child of the leaf in whose place this table is (S26), the rule for X aside."""
        assert self.leaf is not None
        child = self.leaf + (gfn - self.base << 12)
        return child & ~PT_PAGE_SIZE_MASK if self.level == PG_LEVEL_4K else child


class TracedTree:
    """The tables under one root. Entries that nobody set since the root was new are unknown.

    leaves: how many leaves are known, by level; index 0 is not used.
    """

    def __init__(self, layout: SpteLayout) -> None:
        self.layout = layout
        self.leaves = [0] * (TOP + 1)
        self._tables: dict[int, TracedTable] = {}

    def known(self, level: int, gfn: int) -> int | None:
        """The entry of `level` for frames from `gfn` on, 0 if it is known to be empty, None if unknown."""
        table = self.find(level, gfn)
        return None if table is None else table.known(gfn)

    def has_below(self, level: int, gfn: int) -> bool:
        """Whether a table is known below that entry."""
        return (gfn >> _BITS * (level - 1) << 3 | level - 1) in self._tables

    def has_room(self, level: int, gfn: int) -> bool:
        """Whether a table of `level` can be there: the nearest entry above that is known is a table."""
        return self._above(level, gfn) is None

    def _above(self, level: int, gfn: int) -> TracedTable | None:
        """The table above `level` whose entry for `gfn`, the nearest that is known, is no table."""
        for upper in range(level + 1, TOP + 1):
            table = self.find(upper, gfn)
            if table and (known := table.known(gfn & -pages_of(upper))) is not None:
                return None if self.layout.kind_of(known, upper) == "table" else table
        return None

    def table(self, level: int, gfn: int) -> TracedTable:
        """The table of `level` that has the entry for frame `gfn`; where none was known, one all unknown."""
        key = gfn >> _BITS * level << 3 | level
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = TracedTable(level, gfn >> _BITS * level << _BITS * level)
            if level < TOP:
                self.table(level + 1, gfn).below[table.base] = table
        return table

    def find(self, level: int, gfn: int) -> TracedTable | None:
        """The table of `level` that has the entry for frame `gfn`, if anything is known of it."""
        return self._tables.get(gfn >> _BITS * level << 3 | level)

    def set(self, table: TracedTable, gfn: int, old: int, new: int, was: str, will: str) -> list[TracedTable]:
        """Put `new`, of kind `will`, in the place of `old`, of kind `was`.

        Returns the tables that go with `old`, top first.
        """
        if was == will != "non-present" and not (old ^ new) & SPTE_BASE_ADDR_MASK:
            table.entries[gfn] = new
            return []
        level = table.level
        if was == "leaf":
            self.leaves[level] -= 1
        gone = self._unlink(table, gfn) if gfn in table.below else []
        if will == "leaf":
            self.leaves[level] += 1
        elif will == "table" and was != "table":
            below = self.table(level - 1, gfn)
            if was == "leaf":
                below.leaf = old
                self.leaves[level - 1] += _ENTRIES
            else:
                below.is_empty = True
        if table.is_empty and will == "non-present":
            table.entries.pop(gfn, None)
        else:
            table.entries[gfn] = new
        return gone

    def learn(self, table: TracedTable, gfn: int, spte: int, kind: str) -> None:
        """Note that an entry which was unknown holds `spte`, of that kind."""
        table.entries[gfn] = spte
        if kind == "leaf":
            self.leaves[table.level] += 1

    def doubt(self, level: int, gfn: int) -> None:
        """Make an entry unknown, all below it and what is in its way: lines contradict each other."""
        while above := self._above(level, gfn):
            self._doubt(above, gfn & -pages_of(above.level))
        self._doubt(self.table(level, gfn), gfn)

    def _doubt(self, table: TracedTable, gfn: int) -> None:
        known = table.known(gfn)
        if known is not None and self.layout.kind_of(known, table.level) == "leaf":
            self.leaves[table.level] -= 1
        if gfn in table.below:
            self._unlink(table, gfn)
        table.entries[gfn] = None

    def _unlink(self, parent: TracedTable, gfn: int) -> list[TracedTable]:
        gone = [parent.below.pop(gfn)]
        for table in gone:  # grows as it is walked
            del self._tables[table.base >> _BITS * table.level << 3 | table.level]
            gone.extend(table.below.values())
            self.leaves[table.level] -= sum(1 for _ in self.leaves_in(table))
        return gone

    def leaves_in(self, table: TracedTable) -> Iterator[tuple[int, int]]:
        """The leaves of one table: (first frame, entry)."""
        kind, level = self.layout.kind_of, table.level
        if table.leaf is not None:
            step = pages_of(level)
            for gfn in range(table.base, table.base + _ENTRIES * step, step):
                if gfn not in table.entries:
                    yield gfn, table.child(gfn)
        for gfn, spte in table.entries.items():
            if spte is not None and kind(spte, level) == "leaf":
                yield gfn, spte

    def leaf_runs(self) -> list[KnownLeaves]:
        """The known leaves in the order of their frames, those in a row together."""
        found = sorted(
            (gfn, table.level, spte) for table in self._tables.values() for gfn, spte in self.leaves_in(table)
        )
        runs: list[KnownLeaves] = []
        for gfn, level, spte in found:
            pfn, pages = (spte & SPTE_BASE_ADDR_MASK) >> 12, pages_of(level)
            last = runs[-1] if runs else None
            if last and last.level == level and (gfn - last.gfn, pfn - last.pfn) == (last.count * pages,) * 2:
                runs[-1] = last._replace(count=last.count + 1)
            else:
                runs.append(KnownLeaves(gfn, level, 1, pfn))
        return runs
