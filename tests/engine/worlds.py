"""Worlds that refuse, hurry and interfere; and `run` and `record` for calls that must come to an end."""

from collections.abc import Callable
from typing import Any

from tdpkit.engine import events
from tdpkit.engine.events import (
    EBUSY,
    AllocTable,
    Coroutine,
    Event,
    External,
    Recording,
    SetSpte,
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
    return events.run(coroutine, world or Finite())


def record(coroutine: Coroutine, world: World | None = None) -> Recording:
    return events.record(coroutine, world or Finite())


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
    """The TDX side fails the first `times` times."""

    def __init__(self, times: int, errno: int = -EBUSY) -> None:
        super().__init__()
        self.left = times
        self.errno = errno

    def external(self, event: External) -> int:
        self.left -= 1
        return self.errno if self.left >= 0 else 0
