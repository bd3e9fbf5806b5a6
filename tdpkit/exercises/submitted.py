"""A submitted coroutine of the engine, in the place of the kernel's own: nothing that it does is trusted."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from tdpkit.engine.events import Coroutine, Event, Lock, Unlock
from tdpkit.lab.untrusted import RAISED, Raised, one_call, shown
from tdpkit.lab.words import count_of

from .checking import Wrong, answer_of, whole

_MOST_EVENTS = 20_000
"""Far more than any split of an exercise needs."""
WRITE = 'a coroutine: what a split function of the engine returns, or one of your own with "yield from"'


def submitted(
    name: str, function: Callable[..., Any], *arguments: Any, shared: bool = False
) -> Coroutine[int]:
    """Run the coroutine that `function` makes of the arguments; mmu_lock is held, for read if `shared`.

    Returns its value, a whole number. Raises Wrong for anything that no split under that lock does.
    """
    coroutine = answer_of(function, *arguments)
    if isinstance(coroutine, Raised):
        raise Wrong(f"it {coroutine!r}.")
    if not isinstance(coroutine, Generator):
        raise Wrong(f"{name} returned {shown(coroutine)}; it has to return {WRITE}.")
    held, answer = True, None
    for _ in range(_MOST_EVENTS):
        try:
            event = one_call(coroutine.send, answer)
        except StopIteration as stop:
            value = whole(stop.value)
            if value is None:
                returned = shown(stop.value)
                raise Wrong(f"the coroutine returned {returned}; KVM wants 0 or a negative errno.") from None
            if not held:
                raise Wrong("it returned with mmu_lock dropped.") from None
            return value
        except RAISED as error:  # a submission may raise anything; the learner is told
            raise Wrong(f"it {Raised(error)!r}.") from None
        if not isinstance(event, Event):
            raise Wrong(f"it handed out {shown(event)}, which is no event of the engine.")
        if isinstance(event, Lock | Unlock):
            held = _lock_after(event, held, shared)
        answer = yield event
    raise Wrong(f"it goes on and on: {count_of(_MOST_EVENTS, 'event')} and no end.")


def _lock_after(event: Lock | Unlock, held: bool, shared: bool) -> bool:
    """Whether mmu_lock is held after `event`."""
    if event.shared != shared:
        works, holds = ("write", "read") if shared else ("read", "write")
        raise Wrong(f"it works under the {works} lock, and KVM holds mmu_lock for {holds} here.")
    takes = isinstance(event, Lock)
    if takes and held:
        raise Wrong("it takes mmu_lock, which KVM holds already.")
    if not takes and not held:
        raise Wrong("it drops mmu_lock, which it has dropped already.")
    return takes
