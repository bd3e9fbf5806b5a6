"""The search against schedules that are run one by one: by hand-written threads, and on fresh machines."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random

import pytest

from tdpkit.engine.events import Lock, Unlock
from tdpkit.engine.gfn import GfnRange, InvalidValueError
from tdpkit.lab.schedules import SCENARIOS, Explorer, Setting, explored, search
from tdpkit.lab.schedules.machine import Machine
from tdpkit.lab.schedules.scenarios import build_of
from tdpkit.lab.schedules.search import Move, State
from tdpkit.lab.schedules.threads import Access, Run, Thread, Word
from tests.oracles import schedules as oracle

FLUSHES = tuple(oracle.POLICIES)
BY_HAND = [
    *(("shared", "in hand", flush) for flush in ("none", "own split", "own split, locked", "always")),
    *(("exclusive", pages, flush) for pages in ("in hand", "on demand") for flush in FLUSHES[:7]),
]
"""Those with at most some 3 000 schedules."""


def ways(explorer: Explorer) -> Counter:
    """Properties that broke by the end -> how many schedules end so, by counting the ways to each end."""

    @cache
    def below(state: State) -> tuple:
        moves = explorer.moves(state)
        if not moves:
            return ((explorer.broken(state), 1),)
        total: Counter = Counter()
        for move in moves:
            total.update(dict(below(move.state)))
        return tuple(total.items())

    return Counter(dict(below(explorer.first)))


@pytest.mark.parametrize(("lock", "pages", "flush"), BY_HAND)
def test_every_schedule_of_two_splits_ends_as_threads_written_by_hand_end(lock, pages, flush):
    rules = oracle.Rules(lock, pages == "in hand", flush)
    histories = [*oracle.schedules(rules)]
    explorer, found = explored(Setting(lock=lock, pages=pages, flush=flush))
    assert found.complete
    assert found.interleavings == len(histories)
    assert ways(explorer) == Counter(frozenset(oracle.breaks(history)) for history in histories)


@pytest.mark.parametrize(("lock", "pages", "flush"), BY_HAND)
def test_a_witness_is_shortest_and_of_those_switches_least(lock, pages, flush):
    best: dict[str, tuple[int, int]] = {}
    for history in oracle.schedules(oracle.Rules(lock, pages == "in hand", flush)):
        for name, at in oracle.breaks(history).items():
            cost = (at, oracle.switches([step[0] for step in history[:at]]))
            best[name] = min(best.get(name, cost), cost)
    _, found = explored(Setting(lock=lock, pages=pages, flush=flush))
    assert {name: (len(w.moves), w.switches) for name, w in found.witness.items()} == best


SMALL = [
    "split meets zap", "split meets fault", "conversion meets fault", "conversion, no invalidation",
    "ACCEPT, PENDING alone", "ACCEPT, tracked alone", "ACCEPT, neither", "no restart", "cache: mutex",
    "exclusive, in hand, resched", "exclusive, flush before each drop",
]  # fmt: skip


def one_by_one(setting: Setting, order: tuple[int, ...] = ()) -> Iterator[frozenset[str]]:
    """Every whole schedule on a machine of its own: what broke by its end."""
    build = build_of(setting)

    def after(steps: tuple[int, ...]) -> tuple[Machine, bool]:
        machine, threads = build()
        machine.start(threads)
        runs = [Run(thread) for thread in threads]
        kept.extend(runs)
        moved = True
        for number in steps:
            moved = number not in machine.finished and machine.step(runs[number], number) is not None
        return machine, moved

    kept: list[Run] = []
    machine, _ = after(order)
    free = [n for n in range(len(machine.threads)) if after((*order, n))[1]]
    machine.retire(kept)
    if not free:
        yield machine.broken
    for number in free:
        yield from one_by_one(setting, (*order, number))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_meeting_a_state_twice_loses_no_schedule(name):
    """A thread's own state, and what is shared, are all that matters: nothing is hidden from the search."""
    setting = SCENARIOS[name].setting
    explorer, found = explored(setting)
    ends = Counter(one_by_one(setting))
    assert found.interleavings == ends.total()
    assert ways(explorer) == ends


@pytest.mark.parametrize("name", ["shared, on demand", "cache: spinlock, no re-check", "plain store"])
def test_a_random_schedule_ends_as_the_search_says(name):
    random = Random(7)
    setting = SCENARIOS[name].setting
    explorer, _ = explored(setting)
    for _ in range(40):
        machine, threads = build_of(setting)()
        machine.start(threads)
        runs, state = [Run(thread) for thread in threads], explorer.first
        while moves := explorer.moves(state):
            move = random.choice(moves)
            access = machine.step(runs[move.thread], move.thread)
            assert access is not None
            assert access.token == move.access.token
            state = move.state
        assert machine.broken == explorer.broken(state)
        assert len(machine.finished) == len(threads)


def test_a_search_that_is_cut_short_says_so_and_counts_nothing():
    setting = SCENARIOS["shared, generation counters"].setting
    found = search(Explorer(build_of(setting)), bound=500)
    assert not found.complete
    assert 500 <= found.states < 520
    assert found.extent == "bounded at 500 states"
    assert found.interleavings is None
    assert found.samples == ()


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_is_at_least_one_state(bound):
    with pytest.raises(InvalidValueError, match=f"a bound is 1 state or more; {bound} is not"):
        search(Explorer(build_of(Setting())), bound=bound)


@pytest.mark.slow
def test_progress_is_told_every_hundred_states():
    told: list[int] = []
    search(Explorer(build_of(SCENARIOS["shared, generation counters"].setting)), told=told.append)
    assert told == [*range(100, 3900 + 1, 100)]


def test_samples_are_whole_schedules_one_by_one_in_turn_and_drawn():
    explorer, found = explored(Setting(lock="shared", flush="always"))
    stay, turn, drawn = found.samples
    assert all(not explorer.moves(schedule.moves[-1].state) for schedule in found.samples)
    assert stay.switches == 1
    threads = [move.thread for move in turn.moves]
    both = threads[: 2 * min(threads.count(0), threads.count(1)) - 2]
    assert both == [0, 1] * (len(both) // 2)
    assert str(drawn) not in (str(stay), str(turn))


# ---- what the machine itself insists on ----------------------------------------------------------------


def machine_with(*bodies) -> tuple[Machine, tuple[Thread, ...]]:
    machine, _ = build_of(Setting())()
    machine.words["word"] = 0
    threads = tuple(Thread("AB"[n], "guest", GfnRange(0, 1), body) for n, body in enumerate(bodies))
    return machine, threads


def test_a_thread_that_never_ends_has_no_number_of_interleavings():
    def spin():
        while True:
            yield Lock(True)
            yield Unlock(True, "done")

    def build():
        return machine_with(spin)

    found = search(Explorer(build))
    assert found.complete
    assert found.interleavings is None


def test_a_coroutine_that_keeps_something_hidden_is_found_out():
    hidden: list[int] = []

    def body():
        hidden.append(0)
        yield Word("word", "add", "add", len(hidden))
        yield Word("word", "read", "read")

    explorer = Explorer(lambda: machine_with(body, body))
    with pytest.raises(RuntimeError, match="does not do the same twice; it keeps something hidden"):
        search(explorer)


class Drawn:
    """An explorer of a graph that is drawn by hand: state -> (thread, state) of each move."""

    names, threads = ("A", "B"), (None, None)

    def __init__(self, graph: dict[int, list[tuple[int, int]]], bad: set[int]) -> None:
        self.graph = graph
        self.bad = bad
        self.first = State(0, ())

    def moves(self, state: State) -> list[Move]:
        return [Move(thread, Access("step"), State(to, ())) for thread, to in self.graph[state.shared]]

    def broken(self, state: State) -> frozenset[str]:
        return frozenset({"no leak"}) if state.shared in self.bad else frozenset()


def test_a_longer_way_with_fewer_switches_is_no_witness():
    graph = {0: [(0, 1), (0, 3)], 1: [(1, 2)], 3: [(0, 4)], 4: [(0, 2)], 2: []}
    found = search(Drawn(graph, {2}))
    assert str(found.witness["no leak"]) == "A:step B:step"
    assert found.interleavings == 2


def test_of_two_shortest_ways_the_one_that_stays_with_its_thread_is_the_witness():
    graph = {0: [(0, 1), (1, 2)], 1: [(1, 3)], 2: [(1, 3)], 3: [(1, 4)], 4: []}
    assert str(search(Drawn(graph, {4})).witness["no leak"]) == "B:step B:step B:step"


def test_of_two_states_at_one_depth_that_break_the_one_with_fewer_switches_is_taken():
    graph = {0: [(0, 1)], 1: [(1, 2), (0, 3)], 2: [], 3: []}
    assert str(search(Drawn(graph, {2, 3})).witness["no leak"]) == "A:step A:step"
