"""What a kernel function can say, and who answers.

A kernel function of this engine is a coroutine. Where the real one touches shared state or depends on its
surroundings it hands out an event, and a world answers:

* asks: `Visit` (is a reschedule due?), `AllocTable` (a row, or None), `External` (an errno of the TDX side);
* scheduling points: `Unlock`, `Lock`, `SetSpte`: others may run before the coroutine goes on;
* tells: `FreeTable`, `Flush`, `Trace`.

The world never answers for memory. `SetSpte` is handed out before the store; others may write in
between; then the coroutine itself reads the entry again, compares and stores. One shared write per event,
so two coroutines in one world show every interleaving there is. The word *yield* is Python's here; the
kernel's yielding of mmu_lock is called resched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .gfn import format_gfn
from .spte import decode

if TYPE_CHECKING:
    from .pool import PageTablePool
    from .tdp_iter import TdpIter

EIO = 5
ENOMEM = 12
EFAULT = 14
EBUSY = 16
EINVAL = 22
EOPNOTSUPP = 95
EHWPOISON = 133


class Event:
    """One of the closed set below; its str is a line of a log, a trace's is the kernel's own text."""

    __slots__ = ()


class Visit(Event):
    """Asks, at the top of a loop body: is a reschedule due? Answer: bool. One object serves a whole walk."""

    __slots__ = ("iter",)

    def __init__(self, it: TdpIter) -> None:
        self.iter = it

    def __repr__(self) -> str:
        return f"Visit(gfn={self.iter.gfn:#x}, level={self.iter.level})"

    def __str__(self) -> str:
        it = self.iter
        return f"visit {_place(it.level, it.index, it.gfn)}: {decode(it.old_spte, it.level).kind}"

    def __copy__(self) -> Visit:
        return Visit(self.iter.copy())


@dataclass(slots=True)
class AllocTable(Event):
    """Asks for a page-table page. Answer: a row of `pool`, or None (no memory).

    A split of a range has dropped mmu_lock for it; a page fault asks before it takes the lock. is_mirror:
    for a mirror root, whose pages have a page for the S-EPT beside them (sp->external_spt).
    """

    pool: PageTablePool
    is_mirror: bool = False

    def __str__(self) -> str:
        return f"allocate a page table{' and a page for the S-EPT' if self.is_mirror else ''}"


@dataclass(slots=True)
class External(Event):
    """Asks the TDX side to follow a change of a mirror entry. Answer: 0 or a negative errno.

    op: "link", "set", "split", "remove" or "free" (kernel-facts 8.2); shared: mmu_lock is held for read.
    """

    op: str
    gfn: int
    level: int
    old_spte: int
    new_spte: int
    shared: bool = False

    def __str__(self) -> str:
        return f"call the TDX side: {self.op}, level {self.level}, at {format_gfn(self.gfn)}"


@dataclass(slots=True)
class Unlock(Event):
    """mmu_lock is about to be dropped; `reason` is "alloc", "resched", or "done" when its taker returns."""

    shared: bool
    reason: str

    def __str__(self) -> str:
        return f"drop mmu_lock, held for {_mode(self.shared)} ({self.reason})"


@dataclass(slots=True)
class Lock(Event):
    """mmu_lock is taken again before the coroutine goes on."""

    shared: bool

    def __str__(self) -> str:
        return f"take mmu_lock for {_mode(self.shared)}"


@dataclass(slots=True)
class SetSpte(Event):
    """The entry at (`row`, `index`) is about to be written; in shared mode by compare-and-exchange."""

    row: int
    index: int
    gfn: int
    level: int
    old_spte: int
    new_spte: int

    def __str__(self) -> str:
        old, new = (decode(spte, self.level).kind for spte in (self.old_spte, self.new_spte))
        return f"write {_place(self.level, self.index, self.gfn)}: {old} -> {new}"


@dataclass(slots=True)
class FreeTable(Event):
    """`row` was never linked, or is no longer, and was freed."""

    row: int

    def __str__(self) -> str:
        return "free a page table"


@dataclass(slots=True)
class Flush(Event):
    """All TLBs of the VM are flushed (kvm_flush_remote_tlbs)."""

    def __str__(self) -> str:
        return "flush all TLBs"


@dataclass(slots=True)
class Trace(Event):
    """A trace event of the kernel, or a WARN; its text is the kernel's own format (kernel-facts 11)."""

    name: str
    gfn: int = 0
    level: int = 0
    spte: int = 0
    new_spte: int = 0
    errno: int = 0
    as_id: int = 0

    def __str__(self) -> str:
        text = _TRACE_FORMAT.get(self.name)
        return f"{self.name}: {text.format(self)}" if text else self.name


def _place(level: int, index: int, gfn: int) -> str:
    return f"level {level}, index {index}, at {format_gfn(gfn)}"


def _mode(shared: bool) -> str:
    return "read" if shared else "write"


_TRACE_FORMAT = {
    "kvm_mmu_split_huge_page": "gfn {0.gfn:x} spte {0.spte:x} level {0.level} errno {0.errno}",
    "kvm_tdp_mmu_spte_changed": "as id {0.as_id} gfn {0.gfn:x} level {0.level} "
    "old_spte {0.spte:x} new_spte {0.new_spte:x}",
}

T = TypeVar("T")
Coroutine = Generator[Event, Any, T]
"""A kernel function at work: hands out events, is sent answers, returns what the function returns."""


class World:
    """The kind world: memory is there, nobody else runs, no reschedule is due, the TDX side succeeds.

    A world with other ideas overrides the method of an event; what it returns is the answer.
    """

    def __init__(self) -> None:
        self._answer: dict[type[Event], Callable[[Any], Any]] = {
            Visit: self.visit,
            AllocTable: self.alloc_table,
            External: self.external,
            Unlock: self.unlock,
            Lock: self.lock,
            SetSpte: self.set_spte,
            FreeTable: self.free_table,
            Flush: self.flush,
            Trace: self.trace,
        }

    def answer(self, event: Event) -> Any:
        """The answer to `event` (None for scheduling points and tells)."""
        return self._answer[type(event)](event)

    def visit(self, event: Visit) -> bool:
        """Whether a reschedule is due."""
        return False

    def alloc_table(self, event: AllocTable) -> int | None:
        """A row, or None for no memory."""
        return event.pool.alloc()

    def external(self, event: External) -> int:
        """0 or a negative errno."""
        return 0

    def unlock(self, event: Unlock) -> None:
        """Others may take the lock now."""

    def lock(self, event: Lock) -> None:
        """Returns when the lock may be taken."""

    def set_spte(self, event: SetSpte) -> None:
        """Others may touch the entry before the store."""

    def free_table(self, event: FreeTable) -> None:
        """A page went back."""

    def flush(self, event: Flush) -> None:
        """TLBs are empty now."""

    def trace(self, event: Trace) -> None:
        """A line of the trace buffer."""


def run(coroutine: Coroutine[T], world: World | None = None) -> T:
    """Drive `coroutine` to its end in `world` (a kind one if None) and return its result."""
    answer_of = (world or World()).answer
    answer: Any = None
    try:
        while True:
            answer = answer_of(coroutine.send(answer))
    except StopIteration as stop:
        result: T = stop.value
        return result


@dataclass(frozen=True)
class Recording:
    """What a call said, in order, and what it returned."""

    result: Any
    events: list[Event]

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]


def record(coroutine: Coroutine[Any], world: World | None = None) -> Recording:
    """Like :func:`run`, and keep a copy of every event."""
    world = world or World()
    events: list[Event] = []

    def keep() -> Coroutine[Any]:
        answer: Any = None
        try:
            while True:
                event = coroutine.send(answer)
                events.append(copy.copy(event) if isinstance(event, Visit) else event)
                answer = yield event
        except StopIteration as stop:
            return stop.value

    return Recording(run(keep(), world), events)
