"""Worlds that refuse, hurry and interfere; and `run` and `record` for calls that must come to an end."""

from collections.abc import Callable
from typing import Any

from tdpkit.engine import events
from tdpkit.engine.events import (
    AllocTable,
    Coroutine,
    Event,
    External,
    Lock,
    Recording,
    SetSpte,
    Unlock,
    Visit,
    World,
)


class Finite(World):
    """A kind world with an end: a walk that never stops fails its test instead of hanging the run."""

    events_left = 50_000

    def answer(self, event: Event) -> Any:
        self.events_left -= 1
        assert self.events_left, "the call does not end"
        return super().answer(event)


def run(coroutine: Coroutine, world: World | None = None) -> Any:
    result = events.run(coroutine, world or Finite())
    if isinstance(world, Lockdep):
        world.returned()
    return result


def record(coroutine: Coroutine, world: World | None = None) -> Recording:
    recording = events.record(coroutine, world or Finite())
    if isinstance(world, Lockdep):
        world.returned()
    return recording


class Refusing(Finite):
    """There is no memory for the k-th table; from then on there is."""

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.left = k

    def alloc_table(self, event: AllocTable) -> int | None:
        self.left -= 1
        return super().alloc_table(event) if self.left else None


class Impatient(Finite):
    """A reschedule is due at the visits (counted from 1) that `due` names."""

    def __init__(self, due: Callable[[int], bool] = lambda _: True) -> None:
        super().__init__()
        self.due = due
        self.visits = 0

    def visit(self, event: Visit) -> bool:
        self.visits += 1
        return self.due(self.visits)


class Interfering(Finite):
    """`act` happens between the event that announces the k-th store and the store."""

    def __init__(self, k: int, act: Callable[[SetSpte], None]) -> None:
        super().__init__()
        self.left = k
        self.act = act
        self.victim: tuple[int, int] | None = None

    def set_spte(self, event: SetSpte) -> None:
        self.left -= 1
        if self.left == 0:
            self.victim = (event.gfn, event.level)
            self.act(event)


class Stubborn(Finite):
    """The TDX side fails the first `times` times, by default with -EBUSY."""

    def __init__(self, times: int, errno: int = -16) -> None:
        super().__init__()
        self.left = times
        self.errno = errno

    def external(self, event: External) -> int:
        self.left -= 1
        return self.errno if self.left >= 0 else 0


class Lockdep(Finite):
    """mmu_lock is held as `held` says when the call begins ("", "read" or "write"), and from then on as its
    events say; what is done without the lock, or with the wrong one, fails the test. `inner` answers.

    `run` and `record` of this module ask at the end for the lock as it was at the beginning. A zap needs the
    write lock, an allocation none: it may sleep.
    """

    HOLE, FROZEN = 0x8000_0000_0000_0000, 0x8000_0000_0000_05A0

    def __init__(self, held: str = "", inner: World | None = None) -> None:
        super().__init__()
        assert held in ("", "read", "write"), held
        self.at_entry = self.held = held
        self.inner = inner or Finite()

    def answer(self, event: Event) -> Any:
        match event:
            case Lock(shared=shared):
                assert not self.held, f"mmu_lock is taken, but held for {self.held} already"
                answer = self.inner.answer(event)
                self.held = "read" if shared else "write"
                return answer
            case Unlock(shared=shared):
                mode = "read" if shared else "write"
                assert self.held == mode, f"let go of for {mode}, mmu_lock is held for '{self.held}'"
                self.held = ""
            case AllocTable():
                assert not self.held, f"an allocation may sleep; mmu_lock is held for {self.held}"
            case External(shared=shared):
                assert self.held == ("read" if shared else "write"), f"{event}; held for '{self.held}'"
            case SetSpte(old_spte=old, new_spte=new):
                assert self.held, f"{event} without mmu_lock"
                zap = new == self.HOLE and old != self.FROZEN
                assert not zap or self.held == "write", f"{event} is a zap under the read lock"
            case Visit():
                assert self.held, f"{event} without mmu_lock"
        return self.inner.answer(event)

    def returned(self) -> None:
        """The call came to its end."""
        assert self.held == self.at_entry, f"mmu_lock was held for '{self.at_entry}', now for '{self.held}'"
