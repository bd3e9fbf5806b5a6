"""Threads: what they are before they run, at work, and when they return; and events of their own.

A :class:`Run` is a coroutine and the event that it waits at. :meth:`Run.key` names its own state as a value:
where it stands in each function that it is in, and what is in their local variables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from types import FunctionType, GeneratorType, NoneType
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine, Event, Visit, World
from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.kvm import Kvm
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import KvmBug
from tdpkit.engine.tree import TdpMmuRoot

# ---- what threads do besides the engine's events -------------------------------------------------------


@dataclass(slots=True)
class Word(Event):
    """One access to a shared word outside the tables, by one instruction. Answer: the word before it.

    do: "read", "write", "add", "max" (raise it to `value`) or "exchange". token: its name in a schedule.
    """

    name: str
    do: str
    token: str
    value: int = 0

    def __str__(self) -> str:
        return f"{self.do} {self.name}" + (f" {self.value}" if self.do != "read" else "")


@dataclass(slots=True)
class Take(Event):
    """Take the named lock, which one thread holds at a time."""

    name: str

    def __str__(self) -> str:
        return f"take {self.name}"


@dataclass(slots=True)
class Give(Event):
    """Give the named lock back."""

    name: str

    def __str__(self) -> str:
        return f"give {self.name} back"


@dataclass(slots=True)
class GuestWrite(Event):
    """The guest writes to a frame, through any translation that its TLB may hold."""

    gfn: int

    def __str__(self) -> str:
        return f"the guest writes to frame {self.gfn}"


# ---- one thread ----------------------------------------------------------------------------------------


class Access(NamedTuple):
    """The shared access of one step.

    token: its name in a schedule. name: of the lock or word. level, gfn: of the entry, 0 for others. before,
    after: the SPTE or the word, equal if it was only read or a compare-and-exchange was lost. shared: of a
    lock, taken for read. result: of a return.
    """

    token: str
    name: str = ""
    level: int = 0
    gfn: int = 0
    before: int = 0
    after: int = 0
    shared: bool = False
    result: Any = None

    @property
    def changed(self) -> bool:
        """It changed an entry: a store that differs, or a compare-and-exchange that was won."""
        return self.token in ("swap", "store") and self.before != self.after


class Report(NamedTuple):
    """A thread's result: its call's return value, whether it split a leaf, whether it ended with a flush."""

    ret: Any
    split: bool = False
    flushed: bool = False

    @property
    def says_none(self) -> bool:
        """The call says that nothing was split and no flush is needed."""
        return self.ret == 0 and not self.split and not self.flushed


def returned(result: Any) -> Any:
    """The value that a call returned, whether it comes in a report or by itself."""
    return result.ret if isinstance(result, Report) else result


class Thread(NamedTuple):
    """A thread before it runs; span: the frames it is about.

    role: "split", "track" (split for dirty tracking), "zap", "convert" (split and zap), "fault" or "guest".
    """

    name: str
    role: str
    span: GfnRange
    body: Callable[[], Coroutine[Any]]

    @property
    def is_call(self) -> bool:
        """It makes a call that is to be rid of leaves, and is judged at its return."""
        return self.role in ("split", "track", "zap", "convert")


class Run:
    """A thread at work: its coroutine, and the event that it waits at."""

    def __init__(self, thread: Thread) -> None:
        self.thread = thread
        self.coroutine = thread.body()
        self.event: Event | None = None
        self.answered = True
        """The event is answered; the coroutine has not gone on yet."""
        self.answer: Any = None
        self.done = False
        self.result: Any = None

    def resume(self) -> None:
        """Let the coroutine go on to its next event, or its end."""
        answer, self.answer, self.answered = self.answer, None, False
        try:
            self.event = self.coroutine.send(answer)
        except StopIteration as stop:
            self.done, self.result, self.event = True, stop.value, None
        except KvmBug as bug:
            self.done, self.result, self.event = True, Report(f"KVM_BUG: {bug}"), None

    def key(self) -> Any:
        """The thread's own state as a value."""
        if self.done:
            return ("done", _frozen(self.result))
        return (_frozen(self.event), self.answered, self.answer, _frozen(self.coroutine))


_SLOTS = tuple(
    name for name in TdpIter.__slots__ if name not in ("pool", "table", "shifts", "root_level", "last_index")
)
"""Of an iterator: all but what follows from the others, or never changes."""
_SHARED = (Kvm, TdpMmuRoot, PageTablePool, World, Geometry, Thread)
"""One object for all schedules: what is in them is saved by the machine, not by the thread."""


def _frozen_coroutine(coroutine: Any) -> Any:
    frame = coroutine.gi_frame
    if frame is None:
        return "ended"
    code, known = coroutine.gi_code, frame.f_locals
    names = (
        code.co_varnames + code.co_cellvars + code.co_freevars
    )  # the order of f_locals is not always the same
    own = [_frozen(known[name]) if name in known else NoneType for name in names]
    return (id(code), frame.f_lasti, *own, _frozen(coroutine.gi_yieldfrom))


def _frozen_iter(it: Any) -> Any:
    return tuple(_frozen(getattr(it, name, None)) for name in _SLOTS)


def _frozen_items(items: Any) -> Any:
    return (*map(_frozen, items),)


def _itself(value: Any) -> Any:
    return value


_FREEZERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((int, bool, str, NoneType, GfnRange), _itself),
    **dict.fromkeys((list, tuple), _frozen_items),
    GeneratorType: _frozen_coroutine,
    FunctionType: lambda function: id(function.__code__),  # what it closes over is a coroutine's own value
    TdpIter: _frozen_iter,
    Visit: lambda visit: "visit",  # its iterator is among the coroutine's own values
}


def _frozen(value: Any) -> Any:
    """A value for `value`: equal for equal states of a thread."""
    kind = type(value)
    if kind not in _FREEZERS:
        _FREEZERS[kind] = _freezer(kind)
    return _FREEZERS[kind](value)


def _freezer(kind: type) -> Callable[[Any], Any]:
    """How values of a type that was not met yet are named."""
    if issubclass(kind, _SHARED):
        return id
    if issubclass(kind, tuple):
        return _frozen_items
    if issubclass(kind, Event):
        names = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]
        return lambda event: (kind, *[_frozen(getattr(event, name)) for name in names])
    return _itself if kind.__hash__ not in (None, object.__hash__) else lambda value: kind
