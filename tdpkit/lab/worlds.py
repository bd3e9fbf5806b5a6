"""Worlds for a call: one that counts what it did, one that can undo it, one that makes it difficult."""

from __future__ import annotations

from dataclasses import dataclass

from tdpkit.engine.events import (
    EBUSY,
    ENOMEM,
    AllocTable,
    External,
    FreeTable,
    SetSpte,
    Trace,
    Unlock,
    Visit,
    World,
    run,
)
from tdpkit.engine.gfn import InvalidValueError, as_integer
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, VMX_EPT_DIRTY_BIT, spte_to_pfn
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import LeafRun, TdpMmuRoot

from .words import known_name


class CountingWorld(World):
    """A kind world that counts: visits, allocations and refusals, lock drops, splits, zapped leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.iterations = self.allocations = self.lock_drops = self.yields = 0
        self.failed_cmpxchg = self.external_set_calls = self.refused = 0
        self.unused_sp_freed = False
        self.splits: list[tuple[int, int, int]] = []
        """(row of the root, gfn, level) of each split, in order."""
        self.zapped: list[LeafRun] = []
        """Each zapped leaf, in order."""
        self.iter: TdpIter | None = None

    def visit(self, event: Visit) -> bool:
        """Counts it; no reschedule is due."""
        self.iterations += 1
        self.iter = event.iter
        return False

    def alloc_table(self, event: AllocTable) -> int | None:
        """Counts it and grants the page."""
        self.allocations += 1
        return super().alloc_table(event)

    def external(self, event: External) -> int:
        """Counts it; the TDX side succeeds."""
        self.external_set_calls += 1
        return 0

    def unlock(self, event: Unlock) -> None:
        """Counts it, a reschedule twice: as a drop and as a yield."""
        self.lock_drops += 1
        self.yields += event.reason == "resched"

    def set_spte(self, event: SetSpte) -> None:
        """Keeps the leaf if it is zapped."""
        if event.new_spte == SHADOW_NONPRESENT_VALUE:
            self.zapped.append(LeafRun(event.gfn, event.level, 1, spte_to_pfn(event.old_spte)))

    def free_table(self, event: FreeTable) -> None:
        """Notes that a page was allocated for nothing."""
        self.unused_sp_freed = True

    def trace(self, event: Trace) -> None:
        """Keeps a split, and counts one that failed."""
        if event.name == "kvm_mmu_split_huge_page":
            self.failed_cmpxchg += event.errno == -EBUSY
            self.refused += event.errno == -ENOMEM
            if event.errno == 0 and self.iter:
                self.splits.append((self.iter.pt_path[self.iter.root_level], event.gfn, event.level))


class JournalWorld(CountingWorld):
    """A counting world that can take back everything that was done in it.

    It serves one thread under the exclusive lock, and remembers each entry's old value and each page it hands
    out.
    """

    def __init__(self, pool: PageTablePool) -> None:
        super().__init__()
        self.pool = pool
        self.written: list[tuple[int, int, int]] = []
        """(row, index, old value) of each store, in order."""
        self.rows: list[int] = []

    def set_spte(self, event: SetSpte) -> None:
        """Remembers the entry's old value."""
        super().set_spte(event)
        self.written.append((event.row, event.index, event.old_spte))

    def alloc_table(self, event: AllocTable) -> int | None:
        """Remembers the row it hands out."""
        row = super().alloc_table(event)
        if row is not None:
            self.rows.append(row)
        return row

    def free_table(self, event: FreeTable) -> None:
        """Forgets the row, which is free again."""
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


RACES = ("none", "drop_zap", "drop_split", "cas_dirty_clear", "cas_zap", "cas_split")
"""What another thread does to the leaf in hand, and when: while the call has dropped mmu_lock to allocate
(drop), or between its read and its compare-and-exchange (cas)."""


@dataclass(frozen=True)
class Faults:
    """The difficulties of one split call, by default none. Numbers count from 1; 0 means never.

    refuse_page: this request for a page is refused; resched_at: a reschedule is due at this visit;
    resched_every: and at every n-th; sticky: it stays due until the call yields; race: one of RACES, at page
    request (drop) or split attempt (cas) number race_at. Raises InvalidTypeError or InvalidValueError.
    """

    refuse_page: int = 0
    resched_at: int = 0
    resched_every: int = 0
    sticky: bool = False
    race: str = "none"
    race_at: int = 0

    def __post_init__(self) -> None:
        for name in ("refuse_page", "resched_at", "resched_every", "race_at"):
            number = as_integer(getattr(self, name), name)
            object.__setattr__(self, name, number)
            if number < 0:
                raise InvalidValueError(f"{name} counts from 1, and 0 is never; {number} is negative")
        known_name(self.race, RACES, "a race")


class FaultWorld(CountingWorld):
    """A counting world for a split of one `root`, with `faults`.

    `fired`: whether the other thread acted, and on which leaf (gfn, level).
    """

    def __init__(self, root: TdpMmuRoot, faults: Faults) -> None:
        super().__init__()
        self.root = root
        self.faults = faults
        self.armed = False
        self.attempts = 0
        self.fired: tuple[bool, int, int] = (False, 0, 0)
        self.page: int | None = None
        """Row of the page that the call last asked for and has not used yet."""
        self.other: World | None = None
        """Where the other thread runs; a kind world if None."""

    def visit(self, event: Visit) -> bool:
        """A reschedule is due where the faults say so."""
        super().visit(event)
        faults, every = self.faults, self.faults.resched_every
        due = self.iterations == faults.resched_at or (every > 0 and self.iterations % every == 0)
        self.armed |= due
        return self.armed if faults.sticky else due

    def unlock(self, event: Unlock) -> None:
        """A reschedule that happened is no longer due."""
        super().unlock(event)
        if event.reason == "resched":
            self.armed = False

    def alloc_table(self, event: AllocTable) -> int | None:
        """The k-th page is refused; another thread may act while the lock is dropped."""
        self.page = None if self.allocations + 1 == self.faults.refuse_page else event.pool.alloc()
        self.allocations += 1
        self.others("drop", self.allocations)
        return self.page

    def set_spte(self, event: SetSpte) -> None:
        """Another thread may act between the read and the compare-and-exchange."""
        super().set_spte(event)
        self.attempts += 1
        self.others("cas", self.attempts)

    def trace(self, event: Trace) -> None:
        """A split that is done has used its page."""
        super().trace(event)
        if event.name == "kvm_mmu_split_huge_page" and event.errno == 0:
            self.page = None

    def free_table(self, event: FreeTable) -> None:
        """The spare page is gone."""
        super().free_table(event)
        self.page = None

    def others(self, moment: str, number: int) -> None:
        """Others may run now: at page request (`moment` "drop") or split attempt ("cas") `number`."""
        if self.faults.race.startswith(moment) and number == self.faults.race_at:
            self.race()

    def race(self) -> None:
        """The other thread changes the leaf that this one is handling."""
        it = self.iter
        assert it is not None, "a race follows a visit"
        self.fired = (True, it.gfn, it.level)
        if self.faults.race == "cas_dirty_clear":
            it.table[it.index] &= ~VMX_EPT_DIRTY_BIT
        elif self.faults.race.endswith("zap"):
            run(tdp_mmu_zap_leafs(self.root, it.gfn, it.gfn + 1), self.other)
        else:
            last = it.gfn + self.root.geometry.pages(it.level)
            split = tdp_mmu_split_huge_pages_root(self.root, it.gfn, last, it.level - 1, shared=True)
            run(split, self.other)
