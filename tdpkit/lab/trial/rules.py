"""Rules that every kernel function keeps to, and a world that notices when one does not.

* It hands out events of the engine and ends; it returns 0 or an errno.
* It announces each store (`SetSpte`) before it makes it, and stores what it announced.
* It allocates with mmu_lock dropped, and drops mmu_lock outside of any RCU section.
* It drops and takes mmu_lock in turn, as its caller holds it, and holds it again when it returns (S80).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tdpkit.engine.events import (
    AllocTable,
    Coroutine,
    Event,
    External,
    Lock,
    SetSpte,
    Unlock,
    Visit,
)
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import is_last_spte, is_shadow_present_pte, spte_to_pfn
from tdpkit.engine.tree import TdpMmuRoot

from ..untrusted import shown
from ..words import group_digits
from ..worlds import JournalWorld
from .variant import Broke

MOST_EVENTS = 20_000
"""Far more than any split of a toy needs."""


class TrialWorld(JournalWorld):
    """A world for one call, under mmu_lock held for read if `shared`; it can take the call back.

    refuse: the number of the request for a page that is refused, from 1. resched: a reschedule is due at
    this visit; at every one if it is 0, at none if it is -1.
    """

    def __init__(self, pool: PageTablePool, *, shared: bool = False) -> None:
        super().__init__(pool)
        self.shared = shared
        self.held = True
        self.refuse = 0
        self.resched = -1
        self.chances = 0
        """Visits at which a reschedule was due and the walk's goal had moved, so that it could give way."""

    @property
    def answers(self) -> dict[type[Event], Callable[[Any], Any]]:
        """How each event is answered."""
        return self._answer

    def again(self, *, refuse: int = 0, resched: int = -1) -> None:
        """Get ready for another call; what was done stays to be taken back."""
        self.iterations = self.allocations = self.lock_drops = self.yields = 0
        self.splits.clear()
        self.held, self.refuse, self.resched = True, refuse, resched

    def visit(self, event: Visit) -> bool:
        """A reschedule is due as `resched` says."""
        self.iterations += 1
        self.iter = it = event.iter
        due = self.resched in (0, self.iterations)
        self.chances += due and it.next_last_level_gfn != it.yielded_gfn
        return due

    def alloc_table(self, event: AllocTable) -> int | None:
        """Refuse one page; allocating sleeps."""
        if self.held:
            raise Broke("it allocates while it holds mmu_lock, which must not sleep")
        if self.pool.rcu_readers:
            raise Broke("it allocates inside an RCU section, which must not sleep")
        if self.allocations + 1 == self.refuse:
            self.allocations += 1
            return None
        return super().alloc_table(event)

    def unlock(self, event: Unlock) -> None:
        """Others may run."""
        self._check(event)
        if not self.held:
            raise Broke("it drops mmu_lock, which it has dropped already")
        if self.pool.rcu_readers:
            raise Broke("it drops mmu_lock inside an RCU section")
        self.held = False
        super().unlock(event)

    def lock(self, event: Lock) -> None:
        """It has the lock again."""
        self._check(event)
        if self.held:
            raise Broke("it takes mmu_lock, which it holds already")
        self.held = True

    def _check(self, event: Lock | Unlock) -> None:
        if event.shared != self.shared:
            works, holds = ("write", "read") if self.shared else ("read", "write")
            raise Broke(f"it works under the {works} lock, and its caller holds mmu_lock for {holds}")

    def external(self, event: External) -> int:
        """The TDX side is asked with mmu_lock held."""
        if not self.held:
            raise Broke("it calls the TDX side without mmu_lock")
        return super().external(event)

    def ended(self) -> None:
        """Raise Broke unless locks and RCU sections are as they were."""
        if not self.held:
            raise Broke("it returned with mmu_lock dropped")
        if self.pool.rcu_readers:
            raise Broke("it returned inside an RCU section")


class WatchingWorld(TrialWorld):
    """A trial world that also holds each change of the tables against the announcement before it."""

    def __init__(self, root: TdpMmuRoot, *, shared: bool = False) -> None:
        super().__init__(root.pool, shared=shared)
        self.root = root
        self._tables: dict[int, list[int]] = {}
        self._announced: SetSpte | None = None
        self._learn(root.row, root.geometry.root_level)

    def _learn(self, row: int, level: int) -> None:
        """A table that the walk can reach from now on, with those below it."""
        self._tables[row] = entries = self.pool.table(row).tolist()
        for spte in entries:
            self._learn_below(spte, level)

    def _learn_below(self, spte: int, level: int) -> None:
        if is_shadow_present_pte(spte) and not is_last_spte(spte, level):
            self._learn(spte_to_pfn(spte), level - 1)

    @property
    def answers(self) -> dict[type[Event], Callable[[Any], Any]]:
        """As before, after a look at the tables."""

        def looking(answer: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def look(event: Event) -> Any:
                self.look()
                self._announced = event if isinstance(event, SetSpte) else None
                return answer(event)

            return look

        return {kind: looking(answer) for kind, answer in self._answer.items()}

    def look(self) -> None:
        """Raise Broke if an entry changed that was not announced, or to another value."""
        told = self._announced
        for row, before in [*self._tables.items()]:
            now = self.pool.table(row).tolist()
            if now == before:
                continue
            level = self.pool.level(row)
            for index, (old, new) in enumerate(zip(before, now, strict=True)):
                if old == new:
                    continue
                place = f"entry {index} of a table of level {level}"
                if told is None or (told.row, told.index) != (row, index):
                    raise Broke(f"it wrote {place} without a SetSpte before it")
                if new != told.new_spte:
                    raise Broke(f"it announced {told.new_spte:#x} for {place}, and wrote {new:#x}")
                self._learn_below(new, level)
            self._tables[row] = now

    def ended(self) -> None:
        """As before, after a last look."""
        self.look()
        super().ended()


def drive(coroutine: Coroutine[int], world: TrialWorld, most: int = MOST_EVENTS) -> int:
    """Run a coroutine that nobody trusts in `world`; its errno, or what it returns in place of one.

    most: events after which it counts as one that never ends. Raises Broke, or what the coroutine raises.
    """
    answers, send, answer = world.answers, coroutine.send, None
    for _ in range(most):
        try:
            event = send(answer)
        except StopIteration as stop:
            value = stop.value
            world.ended()
            if type(value) is not int:
                raise Broke(f"it returned {shown(value)}; KVM wants 0 or a negative errno") from None
            return value
        answer_of = answers.get(type(event))
        if answer_of is None:
            raise Broke(f"it handed out {shown(event)}, which is no event of the engine")
        answer = answer_of(event)
    coroutine.close()
    raise Broke(f"it goes on and on: {group_digits(most)} events and no end")
