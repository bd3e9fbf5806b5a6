"""Page-table pages: one pool of rows, each a table of 64-bit entries.

A row is `entries` unsigned 64-bit integers in a chunk. A chunk is any writable 64-bit buffer: an array of the
standard library here, a NumPy array when `scan` populates. The pool grows by adding chunks, so a row never
moves and no view of it goes stale. An SPTE takes eight bytes, because a child's PFN is its row.

A freed row is poisoned, and reused only when no reader is inside an RCU section. A walk that kept a freed
table reads poison, never another table's entries.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator

from .gfn import Geometry, InvalidValueError, as_integer
from .spte import SHADOW_NONPRESENT_VALUE

ROLE_LEVEL_MASK = 0xF
ROLE_DIRECT = 1 << 7
ROLE_ACCESS_ALL = 7 << 8
ROLE_INVALID = 1 << 11
ROLE_IS_MIRROR = 1 << 19
"""Bits of kvm_mmu_page_role.word (S40)."""

POISON = 0x6B6B6B6B6B6B6B6B
"""Every entry of a freed row (the slab allocator's byte): present, and a link to no row that exists."""

_CHUNK_ENTRIES = 1 << 18
"""The largest chunk, 2 MiB: large enough that a growing pool has few, small enough that little is unused."""


class PageTablePool:
    """Rows for page-table pages of one geometry.

    capacity: rows of the first chunk (each later one doubles what there is, up to 2 MiB a chunk).
    shuffle: a seed to hand rows out in random order, which exposes code that relies on order.
    Raises InvalidValueError for a capacity below 1, InvalidTypeError for one that is no integer.
    """

    def __init__(self, geometry: Geometry, *, capacity: int = 8, shuffle: int | None = None) -> None:
        if as_integer(capacity, "a capacity") < 1:
            raise InvalidValueError(f"a pool holds at least 1 row; {capacity} is too few")
        self.geometry = geometry
        self.gfn: array[int] = array("Q")
        """First frame of each row's table; gfn[row]."""
        self.role: array[int] = array("I")
        """Role word of each row (0: free, or taken and not yet initialised); role[row]."""
        self.chunks: list[tuple[int, memoryview]] = []
        """(first row, entries from that row on) of each chunk, for code that reads tables by the thousand."""
        self.rcu_readers = 0
        self._capacity = capacity
        self._random = None if shuffle is None else random.Random(shuffle)
        self._views: list[memoryview | None] = []
        self._free: list[int] = []
        self._waiting: list[int] = []

    def __repr__(self) -> str:
        return f"<pool of {len(self._views)} rows, {self.rows_in_use} in use>"

    def table(self, row: int) -> memoryview:
        """The entries of `row`, as a view that stays valid as long as the pool lives."""
        view = self._views[row]
        if view is None:
            first, chunk = next(c for c in reversed(self.chunks) if c[0] <= row)
            at = (row - first) * self.geometry.entries
            view = self._views[row] = chunk[at : at + self.geometry.entries]
        return view

    def alloc(self) -> int:
        """Take a row of empty entries that is not part of a tree yet (see :meth:`init_page`)."""
        if not self._free:
            limit = max(1, _CHUNK_ENTRIES // self.geometry.entries)
            rows = self._capacity if not self._views else min(len(self._views), limit)
            entries = array("Q", [SHADOW_NONPRESENT_VALUE]) * (rows * self.geometry.entries)
            self._free.extend(reversed(self.add_chunk(memoryview(entries), rows)))
            if self._random:
                self._random.shuffle(self._free)
        return self._free.pop()

    def add_chunk(self, chunk: memoryview, rows: int) -> range:
        """Add `rows` rows side by side in `chunk` (writable, format Q) and hand them to the caller."""
        first = len(self._views)
        self.chunks.append((first, chunk))
        self._views.extend([None] * rows)
        self.gfn.extend(array("Q", bytes(8 * rows)))
        self.role.extend(array("I", [0]) * rows)
        return range(first, first + rows)

    def init_page(self, row: int, role: int, gfn: int) -> None:
        """Give `row` its role word and its first frame (tdp_mmu_init_sp)."""
        self.role[row] = role
        self.gfn[row] = self.geometry.gfn_round_for_level(gfn, (role & ROLE_LEVEL_MASK) + 1)

    def level(self, row: int) -> int:
        """Level of the table in `row`; 0 if it is free, or taken and not yet initialised."""
        return self.role[row] & ROLE_LEVEL_MASK

    def free(self, row: int) -> None:
        """Poison `row`; :meth:`alloc` may hand it out again once no RCU reader is left."""
        self._fill(row, POISON)
        self.free_rcu(row)

    def free_rcu(self, row: int) -> None:
        """Free `row` as call_rcu() does: its entries stay as they are until no RCU reader is left."""
        self.role[row] = 0
        self._waiting.append(row)
        if not self.rcu_readers:
            self._reap()

    def rcu_read_lock(self) -> None:
        """Enter a read section: rows freed from now on are not reused before it ends."""
        self.rcu_readers += 1

    def rcu_read_unlock(self) -> None:
        """Leave a read section; the last reader to leave releases the freed rows."""
        self.rcu_readers -= 1
        if not self.rcu_readers and self._waiting:
            self._reap()

    def _reap(self) -> None:
        for row in self._waiting:
            self._fill(row, SHADOW_NONPRESENT_VALUE)
        self._free.extend(self._waiting)
        self._waiting.clear()

    def _fill(self, row: int, value: int) -> None:
        self.table(row)[:] = array("Q", [value]) * self.geometry.entries

    @property
    def rows_in_use(self) -> int:
        """Rows handed out and not freed, initialised or not."""
        return len(self._views) - len(self._free) - len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, first frames and role words."""
        entries = sum(chunk.nbytes for _, chunk in self.chunks)
        return entries + self.gfn.itemsize * len(self.gfn) + self.role.itemsize * len(self.role)

    def pages(self) -> Iterator[tuple[int, int, int]]:
        """(row, level, gfn) of every initialised page."""
        for row, (role, gfn) in enumerate(zip(self.role, self.gfn, strict=True)):
            if role:
                yield row, role & ROLE_LEVEL_MASK, gfn
