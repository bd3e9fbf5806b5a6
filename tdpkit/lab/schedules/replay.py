"""A schedule as text, replayed step by step: what each step did, what holds after it, and what broke why.

A schedule reads ``A:lock A:read B:lock …``: the thread, and what its step does. It can be copied, changed and
pasted back. A replay follows it on the scenario's own code, so a text that was made for other code does not
fit, and the first step that does not is named.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from tdpkit.engine.gfn import InvalidValueError

from ..words import listed
from .machine import PROPERTIES, LeafAt
from .search import Explorer, Move, Schedule, State
from .threads import Access
from .why import Why, reasons
from .words import did_words


class Look(NamedTuple):
    """All that there is to see after a step (0: before the first)."""

    number: int
    thread: str
    access: Access | None
    did: str
    """A sentence; for number 0 an empty one."""
    leaves: tuple[LeafAt, ...]
    """In the order of their frames."""
    stale: tuple[LeafAt, ...]
    """Leaves that are gone from the tree, and that a TLB may hold."""
    readers: tuple[str, ...]
    writer: str
    """Threads that hold mmu_lock; "" if none holds it for write."""
    locks: dict[str, str]
    """Other locks that are held, and who holds them."""
    words: dict[str, int]
    active: tuple[str, ...]
    finished: tuple[str, ...]
    broken: frozenset[str]
    """Properties that did not hold at some time up to here."""

    @property
    def holds(self) -> tuple[str, ...]:
        """Properties that have held so far."""
        return tuple(name for name in PROPERTIES if name not in self.broken)


class Choice(NamedTuple):
    """A thread that might move next: by which token, or why it cannot ("" if it can)."""

    thread: str
    token: str
    why_not: str


class Replay:
    """A schedule on the code of `explorer`. text: as :class:`Schedule` writes it, or one.

    Raises InvalidValueError, with the number of the step, for a word that is not ``thread:token``, an unknown
    thread, a thread that waits or has returned, and a token that is not what the thread does next.
    """

    def __init__(self, explorer: Explorer, text: str | Schedule) -> None:
        self.explorer = explorer
        self.moves: tuple[Move, ...] = ()
        state = explorer.first
        for number, word in enumerate(str(text).split(), 1):
            move = self._read(number, word, state)
            self.moves = (*self.moves, move)
            state = move.state

    def __str__(self) -> str:
        return str(Schedule(self.explorer.names, self.moves))

    def __len__(self) -> int:
        return len(self.moves)

    def _read(self, number: int, word: str, state: State) -> Move:
        name, colon, token = word.partition(":")
        names = self.explorer.names
        if not colon or not token:
            raise InvalidValueError(
                f"a step is written thread:token, such as {names[0]}:lock; step {number} is {word!r}"
            )
        if name not in names:
            raise InvalidValueError(
                f"the threads here are {listed(names)}; step {number}, {word!r}, names none"
            )
        choice = self._choice(state, names.index(name))
        if choice.why_not:
            raise InvalidValueError(f"step {number}, {word!r}, cannot be: {name} {choice.why_not}")
        if choice.token != token:
            raise InvalidValueError(
                f"step {number} does not fit this code: {name} does {choice.token!r} there, not {token!r}"
            )
        move = self.explorer.next(state, names.index(name))
        assert move is not None
        return move

    # ---- states ----------------------------------------------------------------------------------------

    def state(self, at: int) -> State:
        """The state after `at` steps."""
        return self.moves[at - 1].state if at else self.explorer.first

    def choices(self, at: int) -> tuple[Choice, ...]:
        """What each thread could do after `at` steps."""
        return tuple(self._choice(self.state(at), number) for number in range(len(self.explorer.names)))

    def _choice(self, state: State, number: int) -> Choice:
        name, move = self.explorer.names[number], self.explorer.next(state, number)
        if move:
            return Choice(name, move.access.token, "")
        if self.explorer.has_returned(state, number):
            return Choice(name, "", "has returned")
        return Choice(name, "", self.explorer.waits(state, number))

    def with_step(self, at: int, thread: str) -> str:
        """The text of the first `at` steps and one more, of `thread`; InvalidValueError if it cannot move."""
        choice = next((c for c in self.choices(at) if c.thread == thread), None)
        if choice is None:
            raise InvalidValueError(f"the threads here are {listed(self.explorer.names)}; {thread!r} is none")
        if choice.why_not:
            raise InvalidValueError(f"{thread} cannot move: it {choice.why_not}")
        before = Schedule(self.explorer.names, self.moves[:at])
        return f"{before} {thread}:{choice.token}".strip()

    def look(self, at: int) -> Look:
        """What there is to see after `at` steps."""
        with self.explorer.lock:
            machine, names = self.explorer.look(self.state(at)), self.explorer.names
            move = self.moves[at - 1] if at else None
            return Look(
                at,
                names[move.thread] if move else "",
                move.access if move else None,
                self.did(at) if move else "",
                tuple(sorted(machine.leaves)),
                tuple(sorted(machine.stale)),
                tuple(names[number] for number in machine.readers),
                "" if machine.writer is None else names[machine.writer],
                {name: names[holder] for name, holder in machine.locks.items()},
                dict(machine.words),
                tuple(names[number] for number in sorted(machine.active)),
                tuple(names[number] for number in sorted(machine.finished)),
                machine.broken,
            )

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """:meth:`look` of every step, the state before the first included."""
        return tuple(map(self.look, range(len(self.moves) + 1)))

    # ---- in words --------------------------------------------------------------------------------------

    def did(self, at: int) -> str:
        """Say what step `at` (from 1) did."""
        move = self.moves[at - 1]
        return f"{self.explorer.names[move.thread]} {did_words(move.access)}"

    @cached_property
    def why(self) -> tuple[Why, ...]:
        """Every property that broke, in the order in which they did, and why."""
        with self.explorer.lock:
            return reasons(self.explorer, self.moves)
