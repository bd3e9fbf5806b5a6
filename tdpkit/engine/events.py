"""The twelve events that kernel functions hand out, and the world that answers them.

A kernel function of this engine is a coroutine. Where the real function touches shared state or depends on
its surroundings, the coroutine hands out an event, and a world answers:

* questions: `Visit` (is a reschedule due?), `AllocTable` (a row, or None), `NeedTopup` and `Topup` (has the
  TDX side memory for a split? did it get some?), `External` (an errno of the TDX side);
* scheduling points, where others may run first: `Unlock`, `Lock`, `SetSpte`;
* notices: `FreeTable`, `Flush`, `Trace`, `KvmBugOn`.

The world never answers for memory. The coroutine hands out `SetSpte` before it stores, others may write in
between, and then the coroutine itself reads the entry again, compares and stores. There is one shared write
per event, so two coroutines in one world can produce every interleaving. The word *yield* is Python's here;
giving up mmu_lock is called resched.
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
    """The base of the twelve events below; its str is a line of a log, a trace's is the kernel's own text."""

    __slots__ = ()


class Visit(Event):
    """Asks at the top of a loop body whether a reschedule is due. Answer: bool. A walk reuses one object."""

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
    """Asks for a page-table page. Answer: a row of `pool`, or None for no memory.

    A split of a range drops mmu_lock first; a page fault asks before it takes the lock. is_mirror: the page
    is for a mirror root and needs a second page, for the S-EPT (sp->external_spt). vcpu: as in `External`.
    """

    pool: PageTablePool
    is_mirror: bool = False
    vcpu: int | None = None

    def __str__(self) -> str:
        return f"allocate a page table{' and a page for the S-EPT' if self.is_mirror else ''}"


@dataclass(slots=True)
class NeedTopup(Event):
    """Asks, under mmu_lock, whether the TDX side must get memory before it can split. Answer: bool (S179)."""

    def __str__(self) -> str:
        return "ask the TDX side whether it has memory for a split"


@dataclass(slots=True)
class Topup(Event):
    """Asks the TDX side to get the memory of `NeedTopup`, with mmu_lock dropped. Answer: False if refused."""

    def __str__(self) -> str:
        return "top up the TDX side's memory for splits"


@dataclass(slots=True)
class External(Event):
    """Asks the TDX side to follow a change of a mirror entry. Answer: 0 or a negative errno.

    op: "link", "set", "split", "remove" or "free" (S161); shared: mmu_lock is held for read; vcpu: the vCPU
    in whose thread this runs, or None outside one (kvm_get_running_vcpu).
    """

    op: str
    gfn: int
    level: int
    old_spte: int
    new_spte: int
    shared: bool = False
    vcpu: int | None = None

    def __str__(self) -> str:
        return f"call the TDX side: {self.op}, level {self.level}, at {format_gfn(self.gfn)}"


@dataclass(slots=True)
class Unlock(Event):
    """The coroutine is about to drop mmu_lock; `reason` is "alloc", "top-up", "resched", or "done".

    "done": it gives up a lock that it took itself.
    """

    shared: bool
    reason: str

    def __str__(self) -> str:
        return f"drop mmu_lock, held for {_mode(self.shared)} ({self.reason})"


@dataclass(slots=True)
class Lock(Event):
    """The coroutine takes mmu_lock before it goes on."""

    shared: bool

    def __str__(self) -> str:
        return f"take mmu_lock for {_mode(self.shared)}"


@dataclass(slots=True)
class SetSpte(Event):
    """The coroutine is about to write the entry at (`row`, `index`), by cmpxchg in shared mode."""

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
    """The coroutine freed `row`, which was never linked or is linked no longer."""

    row: int

    def __str__(self) -> str:
        return "free a page table"


@dataclass(slots=True)
class Flush(Event):
    """The coroutine flushes all TLBs of the VM (kvm_flush_remote_tlbs)."""

    def __str__(self) -> str:
        return "flush all TLBs"


@dataclass(slots=True)
class Trace(Event):
    """A trace event of the kernel, or a WARN. It prints in the kernel's own format (S220-S221)."""

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


@dataclass(slots=True)
class KvmBugOn(Event):
    """A KVM_BUG_ON struck: the VM is dead, and the coroutine goes on to its end as the kernel does."""

    condition: str

    def __str__(self) -> str:
        return f"KVM_BUG_ON({self.condition}): the VM is dead"


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
"""A kernel function at work: it hands out events, receives answers, and returns the function's result."""


class World:
    """The kind world: allocations and the TDX side succeed, nobody else runs, no reschedule is due.

    Other worlds override the method of an event; its return value is the answer.
    """

    def __init__(self) -> None:
        self._answer: dict[type[Event], Callable[[Any], Any]] = {
            Visit: self.visit,
            AllocTable: self.alloc_table,
            NeedTopup: self.need_topup,
            Topup: self.topup,
            External: self.external,
            Unlock: self.unlock,
            Lock: self.lock,
            SetSpte: self.set_spte,
            FreeTable: self.free_table,
            Flush: self.flush,
            Trace: self.trace,
            KvmBugOn: self.kvm_bug_on,
        }

    def answer(self, event: Event) -> Any:
        """The answer to `event` (None for scheduling points and tells)."""
        return self._answer[type(event)](event)

    def visit(self, event: Visit) -> bool:
        """Whether a reschedule is due."""
        return False

    def alloc_table(self, event: AllocTable) -> int | None:
        """Allocate a row; None stands for no memory."""
        return event.pool.alloc()

    def need_topup(self, event: NeedTopup) -> bool:
        """Whether the TDX side lacks memory for a split."""
        return False

    def topup(self, event: Topup) -> bool:
        """Get that memory; False stands for no memory."""
        return True

    def external(self, event: External) -> int:
        """Follow the change in the external table: 0 or a negative errno."""
        return 0

    def unlock(self, event: Unlock) -> None:
        """Let others take the lock."""

    def lock(self, event: Lock) -> None:
        """Return when the coroutine may take the lock."""

    def set_spte(self, event: SetSpte) -> None:
        """Let others touch the entry before the store."""

    def free_table(self, event: FreeTable) -> None:
        """Take note that a page was freed."""

    def flush(self, event: Flush) -> None:
        """Empty the TLBs."""

    def trace(self, event: Trace) -> None:
        """Add a line to the trace buffer."""

    def kvm_bug_on(self, event: KvmBugOn) -> None:
        """Kill the VM."""


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
    """The events of a call, in order, and its result."""

    result: Any
    events: list[Event]

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if type(event) is kind]


def record(coroutine: Coroutine[Any], world: World | None = None) -> Recording:
    """Run `coroutine` as :func:`run` does and keep a copy of every event."""
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
