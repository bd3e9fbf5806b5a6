"""One shared access at a time, and a judge that sees what is wrong."""

from itertools import pairwise

import pytest

from tdpkit.engine.events import AllocTable, External, Flush, FreeTable, Lock, SetSpte, Unlock, Visit
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.pool import POISON
from tdpkit.engine.spte import VMX_EPT_DIRTY_BIT, make_leaf_spte, make_nonleaf_spte, spte_to_pfn
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.lab.schedules import SCENARIOS, THREE, explored
from tdpkit.lab.schedules.machine import Machine
from tdpkit.lab.schedules.scenarios import SPAN, Setting, build_of
from tdpkit.lab.schedules.threads import Give, GuestWrite, Report, Run, Take, Thread, Word

X, BELOW = (0, 3), (2, 2)
"""The leaf of four frames, and its right half once it is split: (gfn, level)."""


def machine_of(*threads: Thread, **words: int) -> tuple[Machine, list[Run]]:
    """The machine of a split, with other threads in it."""
    machine, _ = build_of(Setting())()
    machine.words |= words
    machine.start(threads)
    return machine, [Run(thread) for thread in threads]


def split_thread(body, name: str = "A", role: str = "split", span: GfnRange = SPAN) -> Thread:
    return Thread(name, role, span, body)


def go(machine: Machine, runs: list[Run], order: list[int]) -> list[str]:
    """The tokens of the steps, "-" for one that had to wait."""
    made = (machine.step(runs[number], number) for number in order)
    return [access.token if access else "-" for access in made]


# ---- one access a step ---------------------------------------------------------------------------------


def test_a_store_that_is_not_announced_is_found_out():
    def body():
        it = TdpIter(machine.root, 1, 0)
        yield Visit(it)
        it.table[it.index] = 0
        yield Visit(it)

    machine, runs = machine_of(split_thread(body))
    machine.step(runs[0], 0)
    with pytest.raises(RuntimeError, match="which does not announce it"):
        machine.step(runs[0], 0)


def test_a_store_to_another_entry_than_the_announced_is_found_out():
    def body():
        it = TdpIter(machine.root, 1, 0)
        yield SetSpte(machine.root.row, 0, 0, 3, 0, 0)
        it.table[1] = 0
        yield Flush()

    machine, runs = machine_of(split_thread(body))
    machine.step(runs[0], 0)
    with pytest.raises(RuntimeError, match="came with accesses to"):
        machine.step(runs[0], 0)


QUICK = [name for name in SCENARIOS if not name.startswith(("shared, dirty flag", "shared, generation"))]


@pytest.mark.parametrize("name", QUICK)
def test_one_step_changes_at_most_one_linked_entry_one_word_one_lock_or_the_tlbs(name):
    """Held against what was saved before and after, not against what the machine notes."""
    explorer, _ = explored(SCENARIOS[name].setting)
    seen = set()
    todo = [explorer.first]
    while todo:
        state = todo.pop()
        for move in explorer.moves(state):
            before, after = explorer.saved(state.shared), explorer.saved(move.state.shared)
            linked = before[4]
            entries = sum(
                one != other
                for row in linked
                for one, other in zip(before[0][row], after[0][row], strict=True)
            )
            words = sum(one != other for one, other in zip(before[14], after[14], strict=True))
            locks = (before[11] != after[11]) + (before[12] != after[12]) + (before[13] != after[13])
            if move.access.token == "top-up":
                words -= 1  # the machine counts them
            assert entries + words + locks <= 1, (explorer.names[move.thread], move.access)
            if move.state not in seen:
                seen.add(move.state)
                todo.append(move.state)


def test_a_lock_and_the_first_look_are_two_steps():
    machine, threads = build_of(Setting(pages="in hand"))()
    machine.start(threads)
    runs = [*map(Run, threads)]
    assert go(machine, runs, [0, 0, 1, 1]) == ["lock", "read", "lock", "read"]


# ---- locks ---------------------------------------------------------------------------------------------


def locker(shared: bool):
    def body():
        yield Lock(shared)
        yield Unlock(shared, "done")

    return body


@pytest.mark.parametrize(("one", "other", "waits"), [(1, 1, False), (1, 0, True), (0, 1, True), (0, 0, True)])
def test_readers_share_mmu_lock_and_a_writer_has_it_alone(one, other, waits):
    a, b = split_thread(locker(bool(one)), role="guest"), split_thread(locker(bool(other)), "B", "guest")
    machine, runs = machine_of(a, b)
    assert go(machine, runs, [0, 1]) == ["lock", "-" if waits else "lock"]
    if waits:
        assert machine.waits_for(runs[1]) == "waits for mmu_lock, which A holds"
        assert go(machine, runs, [0, 1]) == ["unlock", "lock"]


def test_a_mutex_is_held_by_one():
    def body():
        yield Take("mutex")
        yield Give("mutex")

    machine, runs = machine_of(split_thread(body, role="guest"), split_thread(body, "B", "guest"))
    assert go(machine, runs, [0, 1]) == ["take-mutex", "-"]
    assert machine.waits_for(runs[1]) == "waits for mutex, which A holds"
    assert go(machine, runs, [0, 1]) == ["give-mutex", "take-mutex"]


@pytest.mark.parametrize(
    ("do", "value", "after"),
    [("read", 9, 5), ("write", 9, 9), ("add", 9, 14), ("max", 4, 5), ("max", 9, 9), ("exchange", 9, 9)],
)
def test_a_word_is_accessed_by_one_instruction_that_answers_what_it_was(do, value, after):
    answers = []

    def body():
        answers.append((yield Word("word", do, "w", value)))

    machine, runs = machine_of(split_thread(body, role="guest"), word=5)
    access = machine.step(runs[0], 0)
    assert (access.token, access.before, access.after) == ("w", 5, after)
    machine.step(runs[0], 0)
    assert answers == [5]


# ---- states as values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_a_restored_state_is_the_saved_one(name):
    explorer, _ = explored(SCENARIOS[name].setting)
    state, states = explorer.first, [explorer.first]
    while moves := explorer.moves(state):
        state = moves[-1].state
        states.append(state)
    for one, other in pairwise([*states, *reversed(states)]):
        explorer.look(one)
        machine = explorer.look(other)
        assert machine.save() == explorer.saved(other.shared)


# ---- the TLB -------------------------------------------------------------------------------------------


def whole_split(machine: Machine, runs: list[Run]) -> None:
    """Let the first thread go on until it has replaced the leaf."""
    for _ in range(20):
        access = machine.step(runs[0], 0)
        if access and access.token in ("swap", "store"):
            return
    pytest.fail("no split in 20 steps")


def test_a_tlb_may_hold_a_leaf_that_was_replaced_until_the_next_flush():
    machine, threads = build_of(Setting(pages="in hand"))()
    machine.start(threads)
    runs = [*map(Run, threads)]
    assert machine.stale == frozenset()
    whole_split(machine, runs)
    assert {leaf[:2] for leaf in machine.stale} == {X}
    assert {leaf[:2] for leaf in machine.leaves} == {(0, 2), (2, 2)}
    assert go(machine, runs, [0, 0]) == ["read", "unlock"]
    assert machine.stale
    assert go(machine, runs, [0]) == ["flush"]
    assert machine.stale == frozenset()


def test_a_leaf_that_comes_back_as_it_was_is_not_stale():
    def there_and_back():
        yield from put(machine, 1 << 63)
        yield from put(machine, make_leaf_spte(0, 3))
        yield Flush()

    machine, runs = machine_of(split_thread(there_and_back, role="zap", span=GfnRange(0, 4)))
    machine.step(runs[0], 0)
    assert {leaf[:2] for leaf in machine.stale} == {X}
    machine.step(runs[0], 0)
    assert machine.stale == frozenset()


def test_a_pending_leaf_is_in_no_tlb():
    machine, threads = build_of(Setting("accept", tracks=False))()
    machine.start(threads)
    runs = [*map(Run, threads)]
    whole_split(machine, runs)
    assert machine.stale == frozenset()


# ---- the guest -----------------------------------------------------------------------------------------


def writer(*gfns: int):
    def body():
        for gfn in gfns:
            yield GuestWrite(gfn)

    return body


def leaf_of(machine: Machine, gfn: int) -> int:
    pages = machine.root.geometry.pages
    return next(spte for first, level, spte in machine.leaves if first <= gfn < first + pages(level))


def test_a_write_makes_the_entry_dirty_and_is_logged():
    machine, runs = machine_of(Thread("G", "guest", GfnRange(2, 3), writer(2)))
    table = machine.pool.tables[machine.root.row]
    table.entries[0] &= ~VMX_EPT_DIRTY_BIT
    machine.start(machine.threads)
    machine.step(runs[0], 0)
    assert leaf_of(machine, 2) & VMX_EPT_DIRTY_BIT


@pytest.mark.parametrize("dirty", [False, True])
def test_a_write_through_a_stale_leaf_is_not_logged_if_that_leaf_is_dirty_already(dirty):
    """The CPU sets a dirty bit in memory, and logs it, only when its TLB entry is clean."""
    machine, runs = machine_of(
        Thread("A", "track", SPAN, locker(False)), Thread("G", "guest", GfnRange(2, 3), writer(2))
    )
    stale = make_leaf_spte(0, 3)
    machine.stale = frozenset({(0, 3, stale if dirty else stale & ~VMX_EPT_DIRTY_BIT)})
    machine.finished = frozenset({0})
    machine.step(runs[1], 1)
    assert ("no lost dirty bit" in machine.broken) == dirty


# ---- the judge -----------------------------------------------------------------------------------------


def judged(body, role: str = "split", **more) -> frozenset[str]:
    """What is broken after a thread has run alone."""

    def lazily():
        return (yield from body(machine))

    machine, runs = machine_of(split_thread(lazily, role=role, **more))
    while 0 not in machine.finished:
        assert machine.step(runs[0], 0), "the thread waits for itself"
    return machine.broken


def put(machine: Machine, value: int, at: int = 0):
    """Store `value` into an entry of the root."""
    row, table = machine.root.row, machine.pool.table(machine.root.row)
    yield SetSpte(row, at, at * 4, 3, table.entries[at], value)
    table[at] = value


def new_table(machine: Machine, *entries: int):
    row = yield AllocTable(machine.pool)
    machine.pool.init_page(row, machine.root.child_role(2), 0)
    machine.pool.table(row)[:] = list(entries)
    return row


HALVES = (make_leaf_spte(0, 2), make_leaf_spte(2, 2))


def good(machine):
    row = yield from new_table(machine, *HALVES)
    yield from put(machine, make_nonleaf_spte(row))
    yield Flush()
    return Report(0, True, True)


def lets_it_cross(machine):
    yield Flush()
    return Report(0, False, True)


def other_frames(machine):
    row = yield from new_table(machine, make_leaf_spte(2, 2), make_leaf_spte(0, 2))
    yield from put(machine, make_nonleaf_spte(row))
    yield Flush()
    return Report(0, True, True)


def loses_a_page(machine):
    yield AllocTable(machine.pool)
    yield from good(machine)
    return Report(0, True, True)


def frees_a_linked_page(machine):
    row = yield from new_table(machine, *HALVES)
    yield from put(machine, make_nonleaf_spte(row))
    machine.pool.free(row)
    yield FreeTable(row)
    yield Flush()
    return Report(-12)


def twice(machine):
    yield from good(machine)
    row = yield from new_table(machine, *HALVES)
    yield from put(machine, make_nonleaf_spte(row))
    yield Flush()
    return Report(0, True, True)


def does_not_flush(machine):
    row = yield from new_table(machine, *HALVES)
    yield from put(machine, make_nonleaf_spte(row))
    return Report(0, True)


def hides_its_own_split(machine):
    yield from good(machine)
    return Report(0)


def sleeps(machine):
    yield Lock(True)
    yield from good(machine)
    yield Unlock(True, "done")
    return Report(0, True, True)


def spins_and_sleeps(machine):
    yield Take("spinlock")
    yield from good(machine)
    yield Give("spinlock")
    return Report(0, True, True)


def holds_a_mutex(machine):
    yield Take("mutex")
    yield from good(machine)
    yield Give("mutex")
    return Report(0, True, True)


def fails(machine):
    yield from good(machine)
    return Report(-5)


@pytest.mark.parametrize(
    ("body", "broken"),
    [
        (good, set()),
        (lets_it_cross, {"postcondition"}),
        (other_frames, {"translations"}),
        (loses_a_page, {"no leak"}),
        (frees_a_linked_page, {"no leak", "translations", "no failure"}),
        (twice, {"no double split", "no leak"}),
        (does_not_flush, {"no stale TLB"}),
        (hides_its_own_split, set()),
        (sleeps, {"no sleep"}),
        (spins_and_sleeps, {"no sleep"}),
        (holds_a_mutex, set()),
        (fails, {"no failure"}),
    ],
)
def test_the_judge_sees_what_is_wrong_and_only_that(body, broken):
    assert judged(body) == broken


def test_a_zap_may_take_its_own_frames_and_no_others():
    def zap(machine):
        yield from put(machine, 1 << 63)
        yield Flush()
        return 0

    assert judged(zap, role="zap", span=GfnRange(0, 4)) == set()
    assert judged(zap, role="zap", span=GfnRange(0, 3)) == {"translations"}


def test_a_zap_leaves_nothing_of_its_range_in_tree_or_tlb():
    def nothing(machine):
        yield Flush()
        return 0

    def no_flush(machine):
        yield from put(machine, 1 << 63)
        return 0

    assert judged(nothing, role="zap", span=GfnRange(0, 4)) == {"postcondition"}
    assert judged(no_flush, role="zap", span=GfnRange(0, 4)) == {"no stale TLB"}


@pytest.mark.parametrize(
    ("report", "is_lie"),
    [
        (Report(0), True),
        (Report(0, True), False),
        (Report(0, False, True), False),
        (Report(-12), False),
        (0, False),
    ],
)
def test_a_call_lies_if_it_says_none_and_another_split_on_its_edge_meanwhile(report, is_lie):
    def late():
        yield Word("word", "read", "look")
        yield Word("word", "read", "look")
        return report

    def other():
        return (yield from good(machine))

    machine, runs = machine_of(split_thread(late), split_thread(other, "B"), word=0)
    go(machine, runs, [0, 1, 1, 1, 0, 0])
    assert 0 in machine.finished
    assert ("no misreport" in machine.broken) == is_lie


@pytest.mark.parametrize(("span", "is_lie"), [(GfnRange(2, 4), True), (GfnRange(0, 4), False)])
def test_a_split_that_is_not_on_the_calls_edge_makes_no_lie(span, is_lie):
    def late():
        yield Word("word", "read", "look")
        yield Word("word", "read", "look")
        return Report(0)

    def other():
        return (yield from good(machine))

    machine, runs = machine_of(split_thread(late, span=span), split_thread(other, "B"), word=0)
    go(machine, runs, [0, 1, 1, 1, 0, 0])
    assert ("no misreport" in machine.broken) == is_lie


@pytest.mark.parametrize(("pages", "fails"), [(0, True), (3, True), (4, False), (5, False)])
def test_a_split_takes_four_pages_of_the_cache_or_fails(pages, fails):
    """A pair for the guest's 2M, a pair for the S-EPT page's: the most that a split can need (S134)."""
    machine, threads = build_of(Setting("cache", cache="mutex"))()
    machine.start(threads)
    machine.words["cache"] = pages
    errno = machine.external(External("split", 0, 2, 0, 0))
    assert (errno != 0, "no failure" in machine.broken) == (fails, fails)
    assert machine.words["cache"] == (pages if fails else pages - 4)


def test_a_freed_page_is_poisoned_and_not_handed_out_again():
    machine, _ = build_of(Setting())()
    row = machine.pool.alloc()
    machine.pool.table(row)
    machine.pool.free(row)
    assert list(machine.pool.table(row)) == [POISON] * 2
    assert machine.pool.alloc() != row


def test_every_scenario_of_three_threads_can_be_built():
    for scenario in THREE.values():
        machine, threads = build_of(scenario.setting)()
        machine.start(threads)
        assert len(threads) == 3
        assert all(spte_to_pfn(leaf[2]) == leaf[0] for leaf in machine.leaves)
