"""The pre-order walk over one root: every entry that holds frames of the range, parents first.

The loop of every user is ``while it.valid and it.gfn < end: body; it.next()``. A walk that let go of
mmu_lock sets `yielded`: the tables on its path may be gone, so `next` starts again at the root and jumps
straight to the goal, `next_last_level_gfn`, the first frame it has not passed (kernel-facts 4).

The iterator takes raw numbers: a start beyond the root aliases to a low entry, as in the kernel. Who wants
a checked range goes through `tdp_mmu`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .gfn import PG_LEVEL_4K, PT64_ROOT_MAX_LEVEL
from .spte import PT_PAGE_SIZE_MASK, SPTE_MMU_PRESENT_MASK, spte_to_pfn

if TYPE_CHECKING:
    from .tree import TdpMmuRoot

_LEAF = SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK


class TdpIter:
    """struct tdp_iter. `old_spte` is the entry as last read; `gfn` the first frame of the entry.

    root: the tree; min_level: the walk does not descend below it; next_last_level_gfn: where it starts,
    in frames. Invalid from the start (as the kernel, which also WARNs) for a start at or above the root's
    gfn_bits, if it has any. Source: tdp_iter.c, tdp_iter.h.
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
        """Back to the root, at the entry that holds the goal (tdp_iter_restart)."""
        self.yielded = False
        self.yielded_gfn = self.next_last_level_gfn
        self.level = self.root_level
        self._enter(self.pt_path[self.root_level], self.next_last_level_gfn)

    def _enter(self, row: int, gfn: int) -> None:
        """Stand on the entry of table `row`, of the current level, that holds `gfn`, and read it."""
        shift = self.shifts[self.level]
        self.gfn = gfn >> shift << shift
        self.index = (gfn | self.gfn_bits) >> shift & self.last_index
        self.table = self.pool.table(row)
        self.old_spte = self.table[self.index]

    def next(self) -> None:
        """The next entry in pre-order, or the goal again from the root if the walk let go of the lock."""
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
        """Into the table below, towards the goal; the entry is read again first, it may have changed."""
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
        """To the next entry of this table, which moves the goal; not past the table's last."""
        index = self.index
        if index == self.last_index:
            return False
        self.index = index = index + 1
        self.gfn += 1 << self.shifts[self.level]
        self.next_last_level_gfn = self.gfn
        self.old_spte = self.table[index]
        return True

    def try_step_up(self) -> bool:
        """To the parent entry, which is not visited again: the caller steps on sideways."""
        if self.level == self.root_level:
            return False
        self.level += 1
        self._enter(self.pt_path[self.level], self.gfn)
        return True

    def rcu_read_lock(self) -> None:
        """The walk reads tables from here on: none that it can reach is reused."""
        self.pool.rcu_read_lock()
        self.rcu = True

    def rcu_read_unlock(self) -> None:
        """The walk has let go of its tables; harmless when it holds none (an abandoned walk calls it too)."""
        if self.rcu:
            self.rcu = False
            self.pool.rcu_read_unlock()

    def copy(self) -> TdpIter:
        """This state, held apart from the walk's further steps (recorders keep it)."""
        twin = object.__new__(TdpIter)
        for name in self.__slots__:
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        twin.pt_path = self.pt_path.copy()
        return twin
