"""Worlds that watch: what a call did, and how to take it back."""

from __future__ import annotations

from tdpkit.engine.events import (
    EBUSY,
    AllocTable,
    External,
    FreeTable,
    SetSpte,
    Trace,
    Unlock,
    Visit,
    World,
)
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, spte_to_pfn
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tree import LeafRun


class CountingWorld(World):
    """A kind world that counts: visits, allocations, lock drops, splits, zapped leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.iterations = self.allocations = self.lock_drops = self.yields = 0
        self.failed_cmpxchg = self.external_set_calls = 0
        self.unused_sp_freed = False
        self.splits: list[tuple[int, int, int]] = []
        """(row of the root, gfn, level) of each split, in order."""
        self.zapped: list[LeafRun] = []
        """Each zapped leaf, in order."""
        self.iter: TdpIter | None = None

    def visit(self, event: Visit) -> bool:
        """Counts; no reschedule is due."""
        self.iterations += 1
        self.iter = event.iter
        return False

    def alloc_table(self, event: AllocTable) -> int | None:
        """Counts."""
        self.allocations += 1
        return super().alloc_table(event)

    def external(self, event: External) -> int:
        """Counts; the TDX side succeeds."""
        self.external_set_calls += 1
        return 0

    def unlock(self, event: Unlock) -> None:
        """Counts."""
        self.lock_drops += 1
        self.yields += event.reason == "resched"

    def set_spte(self, event: SetSpte) -> None:
        """Keeps zapped leaves."""
        if event.new_spte == SHADOW_NONPRESENT_VALUE:
            self.zapped.append(LeafRun(event.gfn, event.level, 1, spte_to_pfn(event.old_spte)))

    def free_table(self, event: FreeTable) -> None:
        """Notes it."""
        self.unused_sp_freed = True

    def trace(self, event: Trace) -> None:
        """Keeps splits."""
        if event.name == "kvm_mmu_split_huge_page":
            self.failed_cmpxchg += event.errno == -EBUSY
            if event.errno == 0 and self.iter:
                self.splits.append((self.iter.pt_path[self.iter.root_level], event.gfn, event.level))


class JournalWorld(CountingWorld):
    """A counting world that can take back everything that was done in it.

    For one thread under the exclusive lock: it remembers each entry's old value and each page handed out.
    """

    def __init__(self, pool: PageTablePool) -> None:
        super().__init__()
        self.pool = pool
        self.written: list[tuple[int, int, int]] = []
        """(row, index, old value) of each store, in order."""
        self.rows: list[int] = []

    def set_spte(self, event: SetSpte) -> None:
        """Remembers the old value."""
        super().set_spte(event)
        self.written.append((event.row, event.index, event.old_spte))

    def alloc_table(self, event: AllocTable) -> int | None:
        """Remembers the row."""
        row = super().alloc_table(event)
        if row is not None:
            self.rows.append(row)
        return row

    def free_table(self, event: FreeTable) -> None:
        """Forgets the row."""
        super().free_table(event)
        self.rows.remove(event.row)

    def undo(self) -> None:
        """Put every entry back and free the pages that were handed out."""
        for row, index, old_spte in reversed(self.written):
            self.pool.table(row)[index] = old_spte
        for row in self.rows:
            self.pool.free(row)
        self.written.clear()
        self.rows.clear()
