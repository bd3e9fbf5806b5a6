"""Every interleaving of the threads of a scenario, once each.

A coroutine cannot be copied, so a state cannot be branched from directly. But what a thread does next depends
only on its own state and on what is shared. So an :class:`Explorer` runs each pair of these once, and keeps
what came of it: (own state, shared state) -> (own state, shared state, token). To bring a coroutine to an own
state again, it is started anew and led there along the shared states that it met the first time.

A state of the whole is the shared state with the own state of each thread. The search goes through all of
them, breadth first, so the first state in which a property does not hold is reached by a shortest schedule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from random import Random
from threading import RLock
from typing import Any, NamedTuple
from weakref import finalize

from tdpkit.engine.gfn import InvalidValueError

from .machine import PROPERTIES, Machine
from .threads import Access, Run, Thread

Build = Callable[[], tuple[Machine, tuple[Thread, ...]]]
"""Makes the machine and its threads, always the same."""


class State(NamedTuple):
    """A state of the whole: the number of the shared state, and of each thread's own."""

    shared: int
    own: tuple[int, ...]


class Move(NamedTuple):
    """One step of a schedule: which thread moved (its number), its access, and where that led."""

    thread: int
    access: Access
    state: State


class Schedule(NamedTuple):
    """Moves one after another, from the first state on."""

    names: tuple[str, ...]
    moves: tuple[Move, ...]

    def __str__(self) -> str:
        return " ".join(f"{self.names[move.thread]}:{move.access.token}" for move in self.moves)

    @property
    def switches(self) -> int:
        """How often the schedule goes over to another thread."""
        threads = [move.thread for move in self.moves]
        return sum(one != other for one, other in itertools.pairwise(threads))


class Explorer:
    """The states of one scenario, found as they are asked for.

    build: makes the machine and the threads. Raises what it raises.
    """

    def __init__(self, build: Build) -> None:
        self.lock = RLock()
        """Hold it to use the machine: two pictures of one scenario may be moved in two threads."""
        self.machine, self.threads = build()
        self.machine.start(self.threads)
        self.names = tuple(thread.name for thread in self.threads)
        self._shared: list[Any] = []
        self._shared_numbers: dict[Any, int] = {}
        self._runs: list[Run] = []
        """Every coroutine ever started: closing one writes to the tables, so it is left to the end."""
        finalize(self, self.machine.retire, self._runs)
        self._own: list[dict[Any, int]] = [{} for _ in self.threads]
        self._way: list[list[tuple[int, int] | None]] = [[] for _ in self.threads]
        """By thread and own state: the own and the shared state before the step that first led to it."""
        self._live: list[dict[int, Run]] = [{} for _ in self.threads]
        """By thread and own state: a coroutine that stands there."""
        self._known: dict[tuple[int, int, int], tuple[Access, int, int] | None] = {}
        self.first = State(self._number(), tuple(self._first_own(n) for n in range(len(self.threads))))

    def _number(self) -> int:
        """The number of the machine's present shared state."""
        saved = self.machine.save()
        number = self._shared_numbers.setdefault(saved, len(self._shared))
        if number == len(self._shared):
            self._shared.append(saved)
        return number

    def _start(self, thread: int) -> Run:
        run = Run(self.threads[thread])
        self._runs.append(run)
        return run

    def _first_own(self, thread: int) -> int:
        return self._arrived(thread, self._start(thread), None)

    def _arrived(self, thread: int, run: Run, way: tuple[int, int] | None) -> int:
        """The number of the own state that `run` stands in; the run is kept there."""
        own = self._own[thread]
        number = own.setdefault(run.key(), len(own))
        if number == len(self._way[thread]):
            self._way[thread].append(way)
        self._live[thread].setdefault(number, run)
        return number

    def _run_at(self, thread: int, own: int) -> Run:
        """A coroutine in own state `own`: one that stands there, or before it on the way, or a new one."""
        live, way, ahead, at = self._live[thread], self._way[thread][own], [], own
        run = live.pop(own, None)
        if run:
            return run
        while way and not run:
            ahead.append(way[1])
            at = way[0]
            run, way = live.pop(at, None), self._way[thread][at]
        run = run or self._start(thread)
        for shared in reversed(ahead):
            self.machine.restore(self._shared[shared])
            self.machine.step(run, thread)
        if self._own[thread].get(run.key()) != own:
            raise RuntimeError(f"{self.names[thread]} does not do the same twice; it keeps something hidden")
        return run

    def next(self, state: State, thread: int) -> Move | None:
        """Let `thread` (its number) make a step in `state`; None if it has returned or waits for a lock."""
        asked = (thread, state.own[thread], state.shared)
        with self.lock:
            if asked not in self._known:
                self._known[asked] = self._step(*asked)
        known = self._known[asked]
        if known is None:
            return None
        access, own, shared = known
        return Move(thread, access, State(shared, (*state.own[:thread], own, *state.own[thread + 1 :])))

    def _step(self, thread: int, own: int, shared: int) -> tuple[Access, int, int] | None:
        if thread in self._shared[shared][-1][1]:
            return None  # it has returned
        run = self._run_at(thread, own)
        self.machine.restore(self._shared[shared])
        access = self.machine.step(run, thread)
        if access is None:
            return None
        after = self._number()
        return access, self._arrived(thread, run, (own, shared)), after

    def saved(self, shared: int) -> Any:
        """The shared state of this number, as the machine saved it."""
        return self._shared[shared]

    def look(self, state: State) -> Machine:
        """The machine, in `state`: to be read with `lock` held until it is asked something else."""
        self.machine.restore(self._shared[state.shared])
        return self.machine

    def has_returned(self, state: State, thread: int) -> bool:
        """Whether `thread` has returned in `state`."""
        return thread in self._shared[state.shared][-1][1]

    def waits(self, state: State, thread: int) -> str:
        """What `thread`, which cannot move in `state`, waits for: ``waits for mmu_lock, which A holds``."""
        with self.lock:
            run = self._run_at(thread, state.own[thread])
            self.look(state).step(run, thread)
            return self.look(state).waits_for(run)

    def broken(self, state: State) -> frozenset[str]:
        """Properties that did not hold at some time on the way to `state`."""
        names: frozenset[str] = self._shared[state.shared][-1][-1]
        return names

    def moves(self, state: State) -> list[Move]:
        """Every step that can be made in `state`, in the order of the threads."""
        return [move for n in range(len(self.threads)) if (move := self.next(state, n))]


# ---- the search ----------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What a search found.

    states: how many were met; complete: all of them, or as many as `bound` allows. interleavings: schedules
    from the first state to an end, None if the search was cut short or a thread may never end. witness: by
    property, the shortest schedule that breaks it, and among those the one that switches least; properties
    that never break are not in it. samples: three whole schedules (one thread after the other, in turn, and
    drawn by a seed), none if interleavings are not counted.
    """

    states: int
    steps: int
    complete: bool
    bound: int
    interleavings: int | None
    witness: dict[str, Schedule]
    samples: tuple[Schedule, ...]
    ends: tuple[State, ...]
    """States in which nobody moves any more."""

    @property
    def extent(self) -> str:
        """How far the search went."""
        return "explored whole" if self.complete else f"bounded at {self.bound} states"


MOST_STATES = 500_000
"""States at which a search stops, and says so; every scenario here has fewer."""


def check_bound(bound: int) -> None:
    """Raise InvalidValueError for a bound below 1."""
    if bound < 1:
        raise InvalidValueError(f"a bound is 1 state or more; {bound} is not")


def search(
    explorer: Explorer, *, bound: int = MOST_STATES, told: Callable[[int], object] = lambda states: None
) -> Found:
    """Go through all states of `explorer`, or `bound` of them; `told` hears of every hundredth.

    Raises InvalidValueError for a bound below 1.
    """
    check_bound(bound)
    edges: dict[State, list[Move]] = {}
    depth = {explorer.first: 0}
    layer, complete = [explorer.first], True
    order = [explorer.first]
    first_broken: dict[str, int] = {}
    for name in explorer.broken(explorer.first):
        first_broken[name] = 0
    while layer:
        following: list[State] = []
        for state in layer:
            edges[state] = explorer.moves(state)
            for move in edges[state]:
                if move.state not in depth:
                    depth[move.state] = depth[state] + 1
                    following.append(move.state)
                    order.append(move.state)
                    if len(order) % 100 == 0:
                        told(len(order))
                    for name in explorer.broken(move.state):
                        first_broken.setdefault(name, depth[move.state])
            if len(order) >= bound:
                complete = False
                break
        layer = following if complete else []
    cheapest = _cheapest(explorer, edges, depth)
    witness = {
        name: _least(explorer, cheapest, [s for s in order if depth[s] == at and name in explorer.broken(s)])
        for name, at in sorted(first_broken.items(), key=lambda item: list(PROPERTIES).index(item[0]))
    }
    count = _count(edges, order) if complete else None
    samples = () if count is None else tuple(_samples(explorer))  # a schedule that never ends is none
    ends = tuple(state for state in order if not edges.get(state, True))
    steps = sum(map(len, edges.values()))
    return Found(len(order), steps, complete, bound, count, witness, samples, ends)


Way = tuple[int, tuple[State, int] | None, Move | None]
"""Switches so far, the node before, and the move from there."""


def _cheapest(
    explorer: Explorer, edges: dict[State, list[Move]], depth: dict[State, int]
) -> dict[tuple[State, int], Way]:
    """By state and last thread: of the shortest ways there, the one with the fewest switches."""
    best: dict[tuple[State, int], Way] = {(explorer.first, -1): (0, None, None)}
    by_depth: dict[int, list[tuple[State, int]]] = {0: [(explorer.first, -1)]}
    at = 0
    while nodes := by_depth.get(at):
        for node in nodes:
            state, last = node
            for move in edges.get(state, ()):
                if depth[move.state] != at + 1:
                    continue
                switches = best[node][0] + (last not in (-1, move.thread))
                after = (move.state, move.thread)
                if after not in best:
                    by_depth.setdefault(at + 1, []).append(after)
                if after not in best or switches < best[after][0]:
                    best[after] = (switches, node, move)
        at += 1
    return best


def _least(explorer: Explorer, cheapest: dict[tuple[State, int], Way], states: list[State]) -> Schedule:
    """The way to one of `states` with the fewest switches."""
    threads = range(-1, len(explorer.threads))
    nodes = [(state, last) for state in states for last in threads if (state, last) in cheapest]
    node: tuple[State, int] | None = min(nodes, key=lambda node: cheapest[node][0])
    moves: list[Move] = []
    while node:
        _, node, move = cheapest[node]
        if move:
            moves.append(move)
    return Schedule(explorer.names, tuple(reversed(moves)))


def _count(edges: dict[State, list[Move]], order: list[State]) -> int | None:
    """How many ways lead from the first state to an end; None if one of them never ends."""
    ways: dict[State, int] = {}
    stack: list[tuple[State, Iterator[Move]]] = [(order[0], iter(edges[order[0]]))]
    under = {order[0]}
    while stack:
        state, left = stack[-1]
        for move in left:
            if move.state in under:
                return None
            if move.state not in ways:
                stack.append((move.state, iter(edges[move.state])))
                under.add(move.state)
                break
        else:
            ways[state] = sum(ways[move.state] for move in edges[state]) or 1
            stack.pop()
            under.discard(state)
    return ways[order[0]]


def _samples(explorer: Explorer) -> Iterator[Schedule]:
    """Three whole schedules: one thread after the other, in turn, and as a seed draws."""
    random = Random(1)

    def stay(moves: list[Move], last: int) -> Move:
        return next((move for move in moves if move.thread == last), moves[0])

    def turn(moves: list[Move], last: int) -> Move:
        return min(moves, key=lambda move: (move.thread - last - 1) % len(explorer.threads))

    def draw(moves: list[Move], last: int) -> Move:
        return random.choice(moves)

    for choose in (stay, turn, draw):
        state, last, made = explorer.first, -1, []
        while moves := explorer.moves(state):
            move = choose(moves, last)
            made.append(move)
            state, last = move.state, move.thread
        yield Schedule(explorer.names, tuple(made))
