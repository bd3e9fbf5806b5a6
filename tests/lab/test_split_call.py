"""The recorded call: its steps against the kernel's counters, its trees against a second run's, its locks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from tdpkit.engine.events import Event, Trace, run
from tdpkit.engine.gfn import Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tdp_mmu import iter_cross_boundary, tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import LeafRun, TdpMmuRoot, leaf_runs, map_run, tables_per_level
from tdpkit.lab import split_call
from tdpkit.lab.conformance import GEOMETRY, faults_of
from tdpkit.lab.layouts import LAYOUTS, Layout
from tdpkit.lab.split_call import CallStep, SplitCall
from tdpkit.lab.worlds import RACES, Faults, FaultWorld
from tdpkit.show.walk.state import walk_state
from tests.oracles import brute
from tests.oracles.vectors import Case, cases_of

LET_GO = ("drop", "resched")

# ---- random calls on toys ------------------------------------------------------------------------------

SHAPES = [
    Geometry(bits, root, largest)
    for bits, root in ((1, 3), (1, 4), (1, 5), (2, 2), (2, 3), (3, 2))
    for largest in range(1, root + 1)
    for _ in range(largest)  # those with large leaves oftener
]


class Setup(NamedTuple):
    """What a call is made of."""

    layout: Layout
    start: int
    end: int
    named: dict[str, Any]

    def record(self) -> SplitCall:
        return SplitCall(self.layout, self.start, self.end, **self.named)


def random_layout(random: Random) -> Layout:
    """Leaves of every allowed level, up to the root's own entries, and holes; host frames anywhere."""
    geometry, table = brute.random_layout(random.choice(SHAPES), random)
    there = brute.leaves(geometry, table)
    leaves = tuple(LeafRun(gfn, level, 1, (raw & brute.FRAME) >> 12) for gfn, level, raw in there)
    return Layout(geometry, leaves, brute.pages(geometry, geometry.root_level + 1))


def random_setup(random: Random, *, kind: bool = False) -> Setup:
    """A call of either form under either lock, on any range, and (unless `kind`) with any faults."""
    layout = random_layout(random)
    frames, shared = layout.frames, random.random() < 0.75
    start, end = sorted(random.choices(range(frames), k=2))
    turn = random.randrange(8)
    end = start if turn == 0 else frames + random.randrange(9) if turn == 1 else end
    races = [race for race in RACES if shared or not race.startswith("cas")]
    some = random.choice
    faults = Faults(
        refuse_page=some((0, 0, 0, 0, 0, 1, 2, 4)),
        resched_at=some((0, 0, 0, 1, 2, 3, 5)),
        resched_every=some((0, 0, 0, 0, 1, 2, 3)),
        sticky=some((False, True)),
        race=some(races),
        race_at=some((0, 1, 1, 1, 2, 3)),
    )
    named = {
        "target_level": random.randrange(1, layout.geometry.root_level),
        "only_cross_boundary": random.random() < 0.5,
        "shared": shared,
        "faults": None if kind else faults,
    }
    return Setup(layout, start, end, named)


@cache
def setups() -> tuple[Setup, ...]:
    """The 600 calls of this file."""
    return tuple(random_setup(Random(seed)) for seed in range(600))


def calls() -> Iterator[SplitCall]:
    return (setup.record() for setup in setups())


def test_the_random_calls_meet_everything_that_can_happen_to_a_call():
    """A property is worth what its examples are."""
    met, races, results = Counter(), set(), set()
    for setup, call in zip(setups(), calls(), strict=True):
        met.update(step.kind for step in call.steps)
        races |= {call.faults.race} if call.fired else set()
        results.add(call.result)
        met["empty"] += setup.start == setup.end
        met["beyond"] += setup.end > setup.layout.frames
        met["root leaf"] += any(level == call.geometry.root_level for level, _ in call.splits)
    assert all(met[kind] > 9 for kind in ("refused", "resched", "lost", "free", "other", "empty", "beyond"))
    assert met["root leaf"] > 9
    assert races == set(RACES) - {"none"}
    assert results == {0, -12}


# ---- the recordings ------------------------------------------------------------------------------------


def call_of(case: Case) -> SplitCall:
    geometry = GEOMETRY[case["root_level"]]
    return SplitCall(
        Layout(geometry, tuple(LeafRun(*run) for run in case["leaves"]), geometry.root_pages),
        case["start"],
        case["end"],
        target_level=case["target_level"],
        only_cross_boundary=case["only_cross_boundary"],
        shared=case["shared"],
        faults=faults_of(case["inject"]) if "inject" in case else None,
    )


def expanded(case: Case) -> list[tuple[int, int]]:
    """The recorded split runs, split by split: (level, gfn)."""
    runs = case["splits"]
    return [(level, gfn + n * 512 ** (level - 1)) for gfn, level, count in runs for n in range(count)]


def joined(runs: list[list[int]]) -> list[list[int]]:
    """An input may have two runs side by side that are one."""
    out: list[list[int]] = []
    for gfn, level, count, pfn in runs:
        size = 512 ** (level - 1)
        if out and out[-1][1] == level:
            ahead = out[-1][2] * size
            if (out[-1][0] + ahead, out[-1][3] + ahead) == (gfn, pfn):
                out[-1][2] += count
                continue
        out.append([gfn, level, count, pfn])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["split_all", "split_cross", "faults"])
def test_the_steps_of_a_recorded_case_add_up_to_what_the_kernel_did(kind):
    """The longer cases, which `conformance` replays too, repeat these steps more often."""
    cases = [case for case in cases_of(kind) if case["iterations"] <= 600]
    assert len(cases) > 100
    for case in cases:
        call, name = call_of(case), case["id"]
        kinds, last = Counter(step.kind for step in call.steps), call.steps[-1]
        assert call.result == case["ret"], name
        assert call.splits == expanded(case), name
        assert kinds["split"] == last.splits == case["n_splits"], name
        assert kinds["visit"] == last.visits == case["iterations"], name
        assert kinds["drop"] + kinds["resched"] == kinds["retake"] == last.drops == case["lock_drops"], name
        assert kinds["drop"] == kinds["page"] + kinds["refused"] == case["allocations"], name
        assert kinds["resched"] == case["yields"], name
        assert [list(run) for run in leaf_runs(call.root)] == joined(case["leaves"]), name
        if "tables_before" in case:
            assert list(tables_per_level(call.root)) == case["tables_before"], name
        call.go(len(call.steps) - 1)
        assert [list(run) for run in leaf_runs(call.root)] == case["final"], name
        assert list(tables_per_level(call.root)) == case["tables_after"], name
        inject = case.get("inject", {"race_fired": False})
        assert kinds["lost"] == case.get("failed_cmpxchg", 0), name
        assert kinds["free"] == case.get("unused_sp_freed", False), name
        assert kinds["other"] == call.fired == inject["race_fired"], name
        for step in call.steps:
            if step.kind == "other":
                assert (step.gfn, step.level) == (inject["race_gfn"], inject["race_level"]), name


# ---- forward and back ----------------------------------------------------------------------------------


class Watching(FaultWorld):
    """Keeps the tree at each event, and once more after the other thread acted."""

    def __init__(self, root: TdpMmuRoot, faults: Faults) -> None:
        super().__init__(root, faults)
        self.seen = [brute.read(root)]

    def answer(self, event: Event) -> Any:
        if not (isinstance(event, Trace) and event.name == "kvm_tdp_mmu_spte_changed"):
            self.seen.append(brute.read(self.root))
        return super().answer(event)

    def race(self) -> None:
        super().race()
        self.seen.append(brute.read(self.root))


def trees_of(setup: Setup) -> list[list]:
    """The tree at each step, by a run of its own."""
    root = TdpMmuRoot(PageTablePool(setup.layout.geometry, shuffle=3))
    for leaf_run in setup.layout.leaves:
        map_run(root, *leaf_run)
    named = dict(setup.named)
    world = Watching(root, named.pop("faults"))
    run(tdp_mmu_split_huge_pages_root(root, setup.start, setup.end, **named), world)
    return [*world.seen, brute.read(root)]


def planted(layout: Layout) -> list:
    """The layout as lists, entry by entry."""
    geometry = layout.geometry

    def entry(level: int, gfn: int):
        inside = [run for run in layout.leaves if gfn <= run.gfn < gfn + brute.pages(geometry, level)]
        if not inside:
            return brute.HOLE
        if inside[0].level == level:
            return brute.leaf(inside[0].pfn, level)
        return table(level - 1, gfn)

    def table(level: int, base: int) -> list:
        size = brute.pages(geometry, level)
        return [entry(level, gfn) for gfn in range(base, base + size * 2**geometry.index_bits, size)]

    return table(geometry.root_level, 0)


def test_a_call_opens_at_its_first_step_on_the_layout_as_it_is_written():
    for setup, call in zip(setups(), calls(), strict=True):
        assert call.at == 0
        assert brute.read(call.root) == planted(setup.layout)


@pytest.mark.slow
def test_each_step_has_the_tree_that_another_run_has_there_forward_back_and_at_random():
    changing = 0
    for number, setup in enumerate(setups()):
        call, trees, random = setup.record(), trees_of(setup), Random(number)
        there = range(len(call.steps))
        assert len(trees) == len(call.steps)
        changing += any(one != other for one, other in pairwise(trees))
        for at in [*there, *reversed(there), *random.choices(there, k=12)]:
            assert call.go(at) is call.steps[at]
            assert call.at == at
            assert brute.read(call.root) == trees[at], (number, at)
    assert changing > 100


def test_each_step_looks_the_same_whichever_way_one_comes():
    for setup in setups()[::12]:
        call, other, random = setup.record(), setup.record(), Random(1)
        there = range(len(call.steps))
        forward = [walk_state(call, at) for at in there]
        back = [walk_state(call, at) for at in reversed(there)]
        assert back[::-1] == forward
        for at in random.choices(there, k=20):
            assert walk_state(other, at)._replace(call=call) == forward[at]


def test_a_step_has_the_writes_that_tell_its_tree_from_the_one_before():
    """Only a split and another thread change the tree, and only the entry in hand."""
    for setup, call in zip(setups(), calls(), strict=True):
        for step in call.steps:
            if step.kind == "split":
                [write] = step.writes
                assert write.old & (brute.PRESENT | brute.LARGE) == brute.PRESENT | brute.LARGE
                assert write.new & ~brute.FRAME == brute.LINK
            elif step.kind == "other":
                assert len(step.writes) == 1, "a leaf that was just mapped has its Dirty bit to lose"
                assert step.writes[0].old & brute.PRESENT
            else:
                assert step.writes == (), (setup, step)


# ---- what holds of every call --------------------------------------------------------------------------


def test_mmu_lock_is_let_go_from_drop_or_resched_until_it_is_taken_again_and_rcu_with_it():
    for call in calls():
        held = rcu = True
        refused = False
        for step in call.steps:
            if step.kind in LET_GO:
                assert held
                held = rcu = False
            elif step.kind == "refused":
                refused = True
            elif step.kind == "retake":
                assert not held
                held, rcu = True, not refused
            elif step.kind in ("free", "return"):
                rcu = False
            assert (step.held, step.rcu) == (held, rcu), step
        assert held, "the caller's lock is held at the end, as it was at the start"


def test_a_page_is_in_hand_from_the_allocator_until_it_is_used_or_freed():
    for call in calls():
        page = None
        for step in call.steps:
            if step.kind == "page":
                assert page is None
                page = step.page
                assert page is not None
            elif step.kind == "split":
                assert step.writes[0].new == brute.LINK | page << 12, "it is this page that is linked"
                page = None
            elif step.kind == "free":
                assert page is not None
                page = None
            assert step.page == page, step
        assert page is None, "no page is left over"


def test_counters_count_the_steps_so_far():
    for call in calls():
        so_far = Counter()
        for step in call.steps:
            so_far[step.kind] += 1
            assert step.visits == so_far["visit"]
            assert step.splits == so_far["split"]
            assert step.drops == so_far["drop"] + so_far["resched"]
            came_back = so_far["retake"] - so_far["refused"]
            assert step.restarts == (came_back if step.held else step.drops - 1), step


def test_the_goal_never_goes_down_and_every_restart_begins_at_the_root_entry_that_holds_it():
    restarts = 0
    for call in calls():
        size = brute.pages(call.geometry, call.geometry.root_level)
        for one, other in pairwise(call.steps):
            assert one.goal <= other.goal
        visits = [step for step in call.steps if step.kind in ("retake", "visit", "refused")]
        for one, other in pairwise(visits):
            if one.kind == "retake" and other.kind == "visit":
                restarts += 1
                assert (other.level, other.gfn) == (call.geometry.root_level, one.goal // size * size)
                assert other.goal == one.goal
        first = next((step for step in call.steps if step.kind == "visit"), None)
        if first:
            at_root = (call.geometry.root_level, call.span.start // size * size, call.span.start)
            assert (first.level, first.gfn, first.goal) == at_root
    assert restarts > 500


def test_after_enomem_the_lock_is_taken_and_the_call_returns():
    refusals = 0
    for setup, call in zip(setups(), calls(), strict=True):
        kinds = [step.kind for step in call.steps]
        assert ("refused" in kinds) == (call.result == -12)
        if call.result:
            refusals += 1
            after = [kind for kind in kinds[kinds.index("refused") + 1 :] if kind != "other"]
            assert after == ["retake", "fail", "return"]
            pages = kinds.count("page") + kinds.count("refused")
            assert pages == setup.named["faults"].refuse_page
            assert call.steps[-2].trace[-1].endswith("errno -12")
    assert refusals > 9


def test_steps_follow_each_other_as_the_calls_source_has_it():
    """S80: what may come after what."""
    may = {
        "start": {"visit", "return"},
        "visit": {"visit", "drop", "resched", "store", "free", "return"},
        "drop": {"page", "refused"},
        "page": {"other", "retake"},
        "refused": {"other", "retake"},
        "resched": {"retake"},
        "retake": {"visit", "fail"},
        "store": {"other", "split", "lost"},
        "other": {"retake", "lost", "split"},
        "split": {"visit", "return"},
        "lost": {"visit"},
        "fail": {"return"},
        "free": {"return"},
    }
    for call in calls():
        assert (call.steps[0].kind, call.steps[-1].kind) == ("start", "return")
        for one, other in pairwise(call.steps):
            assert other.kind in may[one.kind], (one, other)
            if one.kind == "lost":
                assert (other.level, other.gfn, other.page) == (one.level, one.gfn, one.page)


def test_a_reschedule_that_is_due_is_honoured_if_the_walk_moved_on_since_it_last_came_back():
    """S65: none before the first side step."""
    honoured = put_off = 0
    for setup, call in zip(setups(), calls(), strict=True):
        faults, came_back, waiting = call.faults, setup.start, False
        for one, other in pairwise(call.steps):
            if one.kind == "retake":
                came_back = one.goal
            if one.kind != "visit":
                continue
            hits = one.visits == faults.resched_at
            hits |= bool(faults.resched_every) and one.visits % faults.resched_every == 0
            waiting = faults.sticky and (waiting or hits)
            assert one.due == (hits or waiting)
            must = one.due and one.goal != came_back
            assert (other.kind == "resched") == must, one
            honoured, put_off = honoured + must, put_off + (one.due and not must)
            waiting = waiting and not must
    assert min(honoured, put_off) > 50


def test_the_leaves_that_would_be_split_are_those_for_which_a_page_is_asked_or_a_store_made():
    asked = 0
    for call in calls():
        for one, other in pairwise(call.steps):
            if one.kind == "visit" and other.kind != "resched":
                would = call.would_split(one.gfn, one.level, one.old_spte)
                assert would == (other.kind in ("drop", "store")), one
                assert not (would and (other.kind == "store") != (one.page is not None))
                asked += would
    assert asked > 200


def test_an_entry_that_maps_nothing_or_a_table_is_never_to_be_split():
    for whole in (True, False):
        call = SplitCall("large", 1, 35, only_cross_boundary=not whole)
        huge, inside = brute.leaf(0, 3), brute.leaf(16, 3)
        assert call.would_split(0, 3, huge)
        assert call.would_split(16, 3, inside) is whole
        for spte in (brute.HOLE, brute.FROZEN, brute.LINK | 5 << 12, brute.HOLE | brute.LARGE):
            assert not call.would_split(0, 3, spte)
        assert not call.would_split(1, 1, brute.leaf(1, 1) | brute.LARGE), "4K leaves stay, bit 7 or not"
    to_2m = SplitCall("large", 1, 35, only_cross_boundary=False, target_level=2)
    assert (to_2m.would_split(0, 3, huge), to_2m.would_split(0, 2, brute.leaf(0, 2))) == (True, False)


def test_crosses_is_the_patches_predicate_and_not_fully_inside_frame_by_frame():
    for call in calls():
        geometry, span = call.geometry, call.span
        for level, gfn in set(call.visited()):
            it = SimpleNamespace(gfn=gfn, level=level, shifts=geometry.shifts)
            theirs = iter_cross_boundary(it, span.start, span.end)
            frames = range(gfn, gfn + brute.pages(geometry, level))
            assert call.crosses(gfn, level) is theirs
            assert theirs is any(not span.start <= frame < span.end for frame in frames)


def test_visited_stops_where_it_is_told_to():
    call = SplitCall("large", 1, 35)
    all_of_them = list(call.visited())
    for at in range(len(call.steps)):
        assert list(call.visited(at)) == all_of_them[: call.steps[at].visits]
    assert len(all_of_them) == 14


def test_an_exchange_that_is_lost_is_no_visit():
    call = SplitCall("large", 16, 20, faults=Faults(race="cas_dirty_clear", race_at=1))
    top, below = (3, 16), (2, 16)
    assert list(call.visited()) == [top, top, top, below], "read; read anew with a page; once more; the child"


def must_split(setup: Setup) -> Callable[[int, int], bool]:
    """Whether a leaf (gfn, level) is to be split, by its frames alone."""
    geometry, start, end, named = setup.layout.geometry, setup.start, setup.end, setup.named

    def must(gfn: int, level: int) -> bool:
        if named["only_cross_boundary"]:
            asked = brute.holds_inside(geometry, gfn, level, (start, end))
        else:
            asked = brute.touches(gfn, brute.pages(geometry, level), start, end)
        return asked and level > named["target_level"]

    return must


def test_an_unhindered_call_makes_the_one_correct_and_minimal_tree():
    """S232: the forced closure; the plain form splits all that is larger than the target."""
    for seed in range(150):
        setup = random_setup(Random(seed + 1000), kind=True)
        call, geometry, table = setup.record(), setup.layout.geometry, planted(setup.layout)
        tree, splits = brute.split(geometry, table, must_split(setup))
        call.go(len(call.steps) - 1)
        assert brute.read(call.root) == tree
        assert call.splits == [(level, gfn) for gfn, level in splits]
        assert call.result == 0
        assert not call.fired


# ---- what comes with a step ----------------------------------------------------------------------------


def test_the_trace_lines_of_a_split_are_the_kernels_own():
    """S220-S221; the values are those of a toy on host frames of the same number."""
    call = SplitCall("large", 16, 20)
    steps = [step for step in call.steps if step.trace]
    [split] = steps
    assert (split.kind, split.gfn, split.level) == ("split", 16, 3)
    huge = brute.leaf(16, 3)
    link = brute.LINK | split.writes[0].new & brute.FRAME
    assert split.trace == (
        f"kvm_tdp_mmu_spte_changed: as id 0 gfn 10 level 3 old_spte {huge:x} new_spte {link:x}",
        f"kvm_mmu_split_huge_page: gfn 10 spte {huge:x} level 3 errno 0",
    )


def test_a_lost_exchange_leaves_its_line_and_a_fresh_entry():
    call = SplitCall("large", 16, 20, faults=Faults(race="cas_dirty_clear", race_at=1))
    [lost] = [step for step in call.steps if step.kind == "lost"]
    assert lost.trace == (f"kvm_mmu_split_huge_page: gfn 10 spte {brute.leaf(16, 3):x} level 3 errno -16",)
    assert lost.old_spte == brute.leaf(16, 3, brute.DIRTY_CLEARED), "read anew"
    assert sum(bool(step.trace) for step in call.steps) == 2, "the lost one and the split"


def test_a_step_has_its_own_lines_and_no_one_elses():
    for call in calls():
        for step in call.steps:
            names = {"split": ["spte_changed", "split_huge_page"], "lost": ["split_huge_page"]}
            names["fail"] = names["lost"]
            own = f": gfn {step.gfn:x} ", f" gfn {step.gfn:x} level {step.level} "
            assert [line.split(":")[0].split("mmu_")[-1] for line in step.trace] == names.get(step.kind, [])
            assert all(any(words in line for words in own) for line in step.trace)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (9, 3, "ends at or after its start"),
        (-1, 3, "the start is at least 0"),
        (0, -1, "the end is at least 0"),
        (64, 65, "starts inside the root"),
        (64, 64, "starts inside the root"),
        (1 << 80, 1 << 81, "starts inside the root"),
    ],
)
def test_a_range_that_is_none_is_refused_with_the_rule(start, end, rule):
    with pytest.raises(InvalidValueError, match=rule):
        SplitCall("large", start, end)


@pytest.mark.parametrize("junk", [1.0, True, None, "3", float("nan"), [1], 3 + 0j, ...])
def test_a_range_that_is_not_in_whole_numbers_is_refused_by_its_kind(junk):
    for start, end in ((junk, 9), (0, junk)):
        with pytest.raises(InvalidTypeError, match="whole numbers"):
            SplitCall("large", start, end)
    with pytest.raises(InvalidTypeError, match="whole numbers"):
        SplitCall("large", 0, 9, target_level=junk)


def test_numpys_numbers_are_taken_and_become_pythons():
    call = SplitCall("large", np.uint8(1), np.int64(35), target_level=np.int32(1))
    assert [(step.kind, step.gfn, step.level) for step in call.steps] == [
        (step.kind, step.gfn, step.level) for step in SplitCall("large", 1, 35).steps
    ]
    assert {type(call.span.start), type(call.span.end)} == {int}


@pytest.mark.parametrize("target", [0, -1, 3, 4, 99])
def test_a_target_that_is_no_level_below_the_root_is_refused(target):
    with pytest.raises(InvalidValueError, match="level"):
        SplitCall("large", 1, 35, target_level=target)


@pytest.mark.parametrize("layout", ["nope", "", "Large", "16t", 7, None, ["large"], ("large",), Layout])
def test_an_unknown_layout_is_refused_with_those_there_are(layout):
    with pytest.raises(InvalidValueError) as refused:
        SplitCall(layout, 0, 1)
    assert [name for name in (*LAYOUTS, repr(layout)) if name not in str(refused.value)] == []


@pytest.mark.parametrize("race", [race for race in RACES if race.startswith("cas")])
def test_no_exchange_is_lost_under_the_exclusive_lock(race):
    with pytest.raises(InvalidValueError, match="only under the shared lock; here mmu_lock is exclusive"):
        SplitCall("large", 1, 35, shared=False, faults=Faults(race=race, race_at=1))


def test_a_call_with_too_many_steps_is_refused_with_the_rule_and_one_that_just_fits_is_not(monkeypatch):
    steps = len(SplitCall("large", 1, 35).steps)
    monkeypatch.setattr(split_call, "MAX_STEPS", steps)
    assert len(SplitCall("large", 1, 35).steps) == steps
    for fewer in (steps - 1, 20, 1):
        monkeypatch.setattr(split_call, "MAX_STEPS", fewer)
        with pytest.raises(InvalidValueError) as refused:
            SplitCall("large", 1, 35)
        assert f"up to {fewer} step" in str(refused.value)
        assert "[4K, 140K)" in str(refused.value)
        assert "shorter range" in str(refused.value)


def test_a_call_that_is_far_too_long_is_refused_soon():
    """16 GiB of 1G leaves, all to 4K: some ten million steps."""
    huge = Layout(LAYOUTS["one-1G"].geometry, (LeafRun(0, 3, 16, 0),), 1 << 22)
    with pytest.raises(InvalidValueError, match="20 000 steps"):
        SplitCall(huge, 0, 1 << 22, only_cross_boundary=False)


@pytest.mark.parametrize(
    ("bad", "kind"), [(-1, InvalidValueError), (36, InvalidValueError), (10**9, InvalidValueError)]
)
def test_a_step_that_the_call_has_not_is_refused_and_nothing_moves(bad, kind):
    call = SplitCall("large", 1, 35)
    assert len(call.steps) == 36, "worked out in the test of its words"
    for at in (0, 17, 35):
        call.go(at)
        tree = brute.read(call.root)
        with pytest.raises(kind, match="steps 0 to 35"):
            call.go(bad)
        assert (call.at, brute.read(call.root)) == (at, tree)


@pytest.mark.parametrize("junk", [1.5, 35.0, None, "1", float("nan")])
def test_a_step_that_is_no_whole_number_is_refused_and_nothing_moves(junk):
    call = SplitCall("large", 1, 35)
    for at in (0, 35):
        call.go(at)
        tree = brute.read(call.root)
        with pytest.raises(InvalidTypeError, match="whole numbers"):
            call.go(junk)
        assert (call.at, brute.read(call.root)) == (at, tree)


@pytest.mark.parametrize("name", ["refuse_page", "resched_at", "resched_every", "race_at"])
def test_faults_count_in_whole_numbers_from_0(name):
    assert getattr(Faults(**{name: np.int8(3)}), name) == 3
    assert type(getattr(Faults(**{name: np.int8(3)}), name)) is int
    with pytest.raises(InvalidValueError, match=f"{name} counts from 1, and 0 is never; -1"):
        Faults(**{name: -1})
    for junk in (True, False, 1.0, "1", None, float("nan"), [1]):
        with pytest.raises(InvalidTypeError, match=name):
            Faults(**{name: junk})


@pytest.mark.parametrize("race", ["", "drop", "cas", "zap", "None", None, 0, ["none"]])
def test_an_unknown_race_is_refused_with_those_there_are(race):
    with pytest.raises(InvalidValueError) as refused:
        Faults(race=race)
    assert [name for name in (*RACES, repr(race)) if name not in str(refused.value)] == []


def test_faults_that_stay_away_are_no_faults():
    kind = [repr(step) for step in SplitCall("steps", 6, 34).steps]
    late = Faults(refuse_page=99, resched_at=999, resched_every=999, race="cas_zap", race_at=99)
    for faults in (Faults(), late, Faults(race="drop_zap"), Faults(sticky=True)):
        call = SplitCall("steps", 6, 34, faults=faults)
        assert [repr(step) for step in call.steps] == kind
        assert not call.fired


# ---- in words ------------------------------------------------------------------------------------------


def test_a_call_reads_as_one_line_with_its_figures():
    """By hand. Leaves of 16 frames; 1 and 35 lie inside a leaf of 16 and then inside one of 4: 4 splits, 4
    drops. The final tree has 3 + 4 + 1 entries in the range above 4K; of the way down 1 + 2 + 1 + 2 come
    twice: 14 visits. Each split takes 5 steps besides; the start and the return are 2.
    """
    assert repr(SplitCall("large", 1, 35)) == (
        "split call on [0x1, 0x23) = [4K, 140K): 36 steps, 14 visits, 4 splits, 4 lock drops, returned 0"
    )
    assert repr(SplitCall("large", 16, 20, faults=Faults(refuse_page=1))) == (
        "split call on [0x10, 0x14) = [64K, 80K): 7 steps, 1 visit, 0 splits, 1 lock drop, returned -12"
    )


def test_the_steps_of_a_call_read_as_a_log():
    call = SplitCall("large", 16, 20, faults=Faults(refuse_page=1))
    away = ", RCU and mmu_lock let go"
    assert [repr(step) for step in call.steps] == [
        "start, goal 0x10",
        "visit level 3 gfn 0x10, goal 0x10",
        f"drop level 3 gfn 0x10, goal 0x10{away}",
        f"refused level 3 gfn 0x10, goal 0x10{away}",
        "retake level 3 gfn 0x10, goal 0x10, RCU let go",
        "fail level 3 gfn 0x10, goal 0x10, RCU let go",
        "return level 3 gfn 0x10, goal 0x10, RCU let go",
    ]


def test_every_step_and_call_is_one_line_without_an_objects_address():
    for call in calls():
        for thing in (call, *call.steps):
            assert re.fullmatch(r"[ -~]{8,160}", repr(thing))
            assert not re.search(r"object|<|>", repr(thing))
            assert not isinstance(thing, CallStep) or repr(thing).startswith(thing.kind)
