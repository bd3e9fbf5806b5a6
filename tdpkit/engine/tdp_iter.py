"""The pre-order walk over one root: every entry that holds frames of the range, parents first.

Every user loops ``while it.valid and it.gfn < end: body; it.next()``. A walk that dropped mmu_lock sets
`yielded`: the tables on its path may be gone, so `next` restarts at the root and goes straight to the goal,
`next_last_level_gfn`, the first frame the walk has not passed (kernel-facts 4).

The iterator takes raw numbers: a start beyond the root aliases to a low entry, as in the kernel. For a
checked range, use `tdp_mmu`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gfn import PG_LEVEL_4K, PT64_ROOT_MAX_LEVEL
from .spte import PT_PAGE_SIZE_MASK, SPTE_MMU_PRESENT_MASK, spte_to_pfn

if TYPE_CHECKING:
    from .tree import TdpMmuRoot

_LEAF = SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK


class TdpIter:
    """struct tdp_iter. `old_spte` is the entry as last read, `gfn` its first frame.

    root: the tree; min_level: the lowest level of the walk; next_last_level_gfn: the frame to start at. A
    start at or above the root's gfn_bits, if it has any, makes the iterator invalid at once (the kernel also
    WARNs). Source: tdp_iter.c, tdp_iter.h.
    """

    __slots__ = (
        "gfn", "gfn_bits", "index", "last_index", "level", "min_level", "next_last_level_gfn", "old_spte",
        "pool", "pt_path", "rcu", "root_level", "shifts", "table", "valid", "yielded", "yielded_gfn",
    )  # fmt: skip

    def __init__(self, root: TdpMmuRoot, min_level: int, next_last_level_gfn: int) -> None:
        geometry = root.pool.geometry
        self.pool = root.pool
        self.shifts = geometry.shifts
        self.last_index = geometry.entries - 1
        self.gfn_bits = root.gfn_bits
        self.root_level = geometry.root_level
        self.min_level = min_level
        self.next_last_level_gfn = next_last_level_gfn
        self.pt_path = [root.row] * (PT64_ROOT_MAX_LEVEL + 1)
        """Rows of the tables on the way down, by level (item 0 unused)."""
        self.rcu = False
        self.valid = not self.gfn_bits or next_last_level_gfn < self.gfn_bits
        if self.valid:
            self.restart()

    def restart(self) -> None:
        """Go back to the root, to the entry that holds the goal (tdp_iter_restart)."""
        self.yielded = False
        self.yielded_gfn = self.next_last_level_gfn
        self.level = self.root_level
        self._enter(self.pt_path[self.root_level], self.next_last_level_gfn)

    def _enter(self, row: int, gfn: int) -> None:
        """Move to the entry that holds `gfn` in table `row`, of the current level, and read it."""
        shift = self.shifts[self.level]
        self.gfn = gfn >> shift << shift
        self.index = (gfn | self.gfn_bits) >> shift & self.last_index
        self.table = self.pool.table(row)
        self.old_spte = self.table[self.index]

    def next(self) -> None:
        """Move to the next entry in pre-order, or restart at the root if the walk dropped the lock."""
        if self.yielded:
            self.restart()
            return
        if self.try_step_down():
            return
        while not self.try_step_side():
            if not self.try_step_up():
                self.valid = False
                return

    def try_step_down(self) -> bool:
        """Step into the table below, towards the goal; read the entry again first, it may have changed."""
        level = self.level
        if level == self.min_level:
            return False
        spte = self.old_spte = self.table[self.index]
        if spte & _LEAF != SPTE_MMU_PRESENT_MASK or level == PG_LEVEL_4K:
            return False
        self.level = level = level - 1
        row = self.pt_path[level] = spte_to_pfn(spte)
        self._enter(row, self.next_last_level_gfn)
        return True

    def try_step_side(self) -> bool:
        """Step to the next entry of this table, if there is one, and move the goal there."""
        index = self.index
        if index == self.last_index:
            return False
        self.index = index = index + 1
        self.gfn += 1 << self.shifts[self.level]
        self.next_last_level_gfn = self.gfn
        self.old_spte = self.table[index]
        return True

    def try_step_up(self) -> bool:
        """Step to the parent entry, from which the caller goes on sideways: no parent is visited twice."""
        if self.level == self.root_level:
            return False
        self.level += 1
        self._enter(self.pt_path[self.level], self.gfn)
        return True

    def rcu_read_lock(self) -> None:
        """Enter an RCU read section: no table that the walk can reach is reused before it ends."""
        self.pool.rcu_read_lock()
        self.rcu = True

    def rcu_read_unlock(self) -> None:
        """Leave the RCU read section, if the walk is in one; an abandoned walk calls this too."""
        if self.rcu:
            self.rcu = False
            self.pool.rcu_read_unlock()

    def copy(self) -> TdpIter:
        """Copy the state, for a recorder to keep while the walk goes on."""
        twin = object.__new__(TdpIter)
        for name in self.__slots__:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        twin.pt_path = self.pt_path.copy()
        return twin
