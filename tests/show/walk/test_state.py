"""The walk stepper's state, against trees read as lists of entries; its sentences, against a call by hand."""

from dataclasses import replace
from itertools import groupby, pairwise
from random import Random

import pytest

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, InvalidValueError
from tdpkit.engine.tree import LeafRun
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.worlds import RACES, Faults
from tdpkit.show.theme import LIGHT
from tdpkit.show.walk.picture import walk_svg, walk_table, walk_text
from tdpkit.show.walk.state import EntrySpan, walk_state
from tdpkit.show.walk.words import walk_words
from tests.oracles import brute


def some_layout(random: Random) -> Layout:
    """Leaves of random sizes and holes, up to 64 frames."""
    bits, levels = random.choice([(1, 3), (1, 4), (2, 2), (2, 3), (3, 2)])
    geometry = Geometry(bits, levels, random.randint(2, levels))
    runs, gfn = [], 0
    while gfn < geometry.root_pages:
        sizes = [n for n in range(1, geometry.max_leaf_level + 1) if gfn % geometry.pages(n) == 0]
        level = random.choice(sizes)
        if random.random() < 0.8:
            runs.append(LeafRun(gfn, level, 1, gfn))
        gfn += geometry.pages(level)
    return Layout(geometry, tuple(runs), geometry.root_pages)


def some_call(random: Random) -> SplitCall:
    layout = some_layout(random)
    frames = layout.geometry.root_pages
    start = random.randrange(frames)
    shared = random.random() < 0.7
    race = random.choice(RACES if shared else RACES[:3])
    return SplitCall(
        layout,
        start,
        random.randint(start, frames + 3),
        only_cross_boundary=random.random() < 0.6,
        target_level=random.randint(1, layout.geometry.root_level - 1),
        shared=shared,
        faults=Faults(
            refuse_page=random.choice([0, 0, 1, 2, 3]),
            resched_at=random.choice([0, 0, 3, 5]),
            race=race,
            race_at=random.randint(1, 3),
        ),
    )


@pytest.fixture(scope="module")
def calls():
    random = Random(7)
    return [some_call(random) for _ in range(150)]


def entries_by_level(call: SplitCall) -> dict[int, dict[int, brute.Entry]]:
    """Each entry that there is: level to first frame to entry, read from memory as lists."""
    found: dict[int, dict[int, brute.Entry]] = {n: {} for n in range(1, call.geometry.root_level + 1)}
    for gfn, level, entry in brute.entries(call.geometry, brute.read(call.root)):
        found[level][gfn] = entry
    return found


def expected_kind(
    call: SplitCall, entry: brute.Entry, gfn: int, level: int, made: set[tuple[int, int]]
) -> str:
    """By frames alone: what an entry is to be drawn as."""
    size = brute.pages(call.geometry, level)
    if isinstance(entry, list):
        return "table"
    if not brute.is_leaf(entry):
        return "hole"
    start, end = call.span.start, call.span.end
    strictly = any(gfn < edge < gfn + size for edge in (start, end))
    due = strictly if call.only_cross_boundary else brute.touches(gfn, size, start, end)
    if due and level > call.target_level:
        return "crossing"
    parent = size * 2**call.geometry.index_bits
    return "split" if (gfn // parent * parent, level + 1) in made else f"leaf{level}"


def test_every_entry_of_every_table_is_drawn_as_what_it_is(calls):
    random = Random(1)
    for call in calls:
        for at in sorted(random.sample(range(len(call.steps)), min(6, len(call.steps)))):
            state = walk_state(call, at)
            assert state.whole
            made = {
                (step.gfn, step.level)
                for step in call.steps[: at + 1]
                if step.kind == "split" or (step.kind == "other" and call.faults.race.endswith("split"))
            }
            levels = entries_by_level(call)
            for strip, level in zip(state.strips, range(call.geometry.root_level, 0, -1), strict=True):
                size = brute.pages(call.geometry, level)
                told = {gfn: cell.kind for cell in strip.cells for gfn in range(cell.first, cell.last, size)}
                assert all((cell.last - cell.first) % size == 0 for cell in strip.cells)
                expected = {
                    gfn: expected_kind(call, entry, gfn, level, made) for gfn, entry in levels[level].items()
                }
                assert told == expected, (call, at, level)


def test_badges_are_the_visits_so_far_in_order(calls):
    for call in calls:
        at = len(call.steps) * 2 // 3
        told = sorted(
            (number, place.level, place.first)
            for place in walk_state(call, at).visited
            for number in place.numbers
        )
        visits = [step for step in call.steps[: at + 1] if step.kind == "visit"]
        assert told == [(n, step.level, step.gfn) for n, step in enumerate(visits, 1)]


def test_the_entry_and_its_path_are_nested_and_hold_the_goal_or_lie_at_it(calls):
    for call in calls:
        for at, step in enumerate(call.steps):
            state = walk_state(call, at)
            if state.entry is None:
                assert step.kind in ("start", "free", "return")
                continue
            assert state.entry == EntrySpan(step.level, step.gfn, step.gfn + call.geometry.pages(step.level))
            chain = [*state.path, state.entry]
            assert [place.level for place in chain] == list(
                range(call.geometry.root_level, step.level - 1, -1)
            )
            for above, below in pairwise(chain):
                assert above.first <= below.first < below.last <= above.last
            assert state.goal < state.entry.last


def test_the_rail_has_every_step_and_its_gaps_are_the_steps_without_the_lock(calls):
    for call in calls:
        rail = walk_state(call, 0).rail
        assert list(rail.kinds) == [step.kind for step in call.steps]
        for gaps, flag in ((rail.dropped, "held"), (rail.no_rcu, "rcu")):
            inside = {n for low, high in gaps for n in range(low, high)}
            assert inside == {n for n, step in enumerate(call.steps) if not getattr(step, flag)}


@pytest.mark.slow
def test_what_is_hidden_does_not_depend_on_what_is_to_come(calls):
    """Two calls that differ only later look the same before, or the picture would give the answer away."""
    compared = 0
    for call in calls:
        faults = replace(
            call.faults, refuse_page=call.faults.refuse_page + 1, race_at=call.faults.race_at + 2
        )
        other = SplitCall(
            call.layout,
            call.span.start,
            call.span.end,
            only_cross_boundary=call.only_cross_boundary,
            target_level=call.target_level,
            shared=call.shared,
            faults=faults,
        )
        same = 0
        while same < min(len(call.steps), len(other.steps)) and repr(call.steps[same]) == repr(
            other.steps[same]
        ):
            same += 1
        # What the last common visit finds is said with what it leads to; the one before is free of that.
        for at in range(same - 2):
            one, two = walk_state(call, at, hidden=True), walk_state(other, at, hidden=True)
            assert one._replace(call=None) == two._replace(call=None), (call, at)
            assert walk_svg(one, LIGHT) == walk_svg(two, LIGHT), (call, at)
            assert (walk_text(one), walk_table(one)) == (walk_text(two), walk_table(two))
            compared += 1
    assert compared > 500


def test_a_step_that_there_is_not_is_refused_and_changes_nothing():
    call = SplitCall("steps", 6, 34)
    call.go(5)
    for at in (-1, len(call.steps)):
        with pytest.raises(
            InvalidValueError, match=f"this call has steps 0 to {len(call.steps) - 1}; {at} is none"
        ):
            walk_state(call, at)
        assert call.at == 5


# ---- the lens ------------------------------------------------------------------------------------------


def test_a_large_machine_is_shown_by_the_tables_on_the_way_to_where_the_walk_is():
    """Kai's range (K2) under a 1G leaf: the leaf at 1G is split, then the 2M leaf at 1G."""
    call = SplitCall("one-1G", (1 << 18) + 256, 2 << 18)
    at = max(n for n, step in enumerate(call.steps) if step.kind == "split")
    state = walk_state(call, at)
    assert not state.whole
    assert [strip.label.split(" · ")[0] for strip in state.strips] == [f"level {n}" for n in (4, 3, 2, 1)]
    assert [strip.note.split(",")[0] for strip in state.strips[:3]] == [
        "table at 0",
        "table at 0",
        "table at 1G",
    ]
    bottom = state.strips[3]
    assert (bottom.first, bottom.last) == (1 << 18, (1 << 18) + 512)
    assert [(cell.kind, cell.last - cell.first) for cell in bottom.cells] == [("split", 512)]
    two = state.strips[2]
    assert [(cell.kind, cell.text) for cell in two.cells] == [("table", "table"), ("split", "511 × 2M")]
    before = walk_state(call, 0).strips
    assert before[2].cells == before[3].cells == ()
    assert before[2].note == "no table: the 1G leaf at 1G"


def test_a_strip_of_a_large_machine_shows_all_that_is_mapped_and_all_of_the_range():
    """It is cut to the entries that matter, a power of two of them, sixteen at least."""
    call = SplitCall("mixed", 0x603, 0xE0100)
    for at in range(0, len(call.steps), 97):
        for strip in walk_state(call, at).strips:
            if not strip.cells:
                continue
            entry = strip.focus[1] - strip.focus[0]
            entries = (strip.last - strip.first) // entry
            assert entries in (16, 32, 64, 128, 256, 512)
            assert strip.cells[0].first == strip.first
            assert strip.cells[-1].last == strip.last
            assert all(one.last == two.first for one, two in pairwise(strip.cells))
            table = strip.first // (entry * 512) * entry * 512
            for low, high in ((0, 512 << 9), (1 << 18, 3 << 18), (call.span.start, call.span.end)):
                if low < table + 512 * entry and high > table:
                    assert strip.first <= max(low, table) // entry * entry
                    assert strip.last >= min(high, table + 512 * entry)


def test_visited_entries_of_a_large_machine_are_joined_to_runs():
    call = SplitCall("one-1G", (1 << 18) + 256, 2 << 18)
    state = walk_state(call, len(call.steps) - 1)
    told = [(place.level, place.first, place.last, place.numbers) for place in state.visited]
    assert told == [(4, 0, 1 << 27, ()), (3, 1 << 18, 2 << 18, ()), (2, 1 << 18, 2 << 18, ())]


# ---- the words -----------------------------------------------------------------------------------------

BY_HAND = """\
call on [6, 34)
visit L3 0: table
visit L2 4: crosses start
RCU, mmu_lock let go: page
allocate a page
locks taken; goal 6
visit L3 0: table
visit L2 4: crosses start
exchange L2 4: leaf → table
split L2 4, done
visit L2 8: table
visit L2 12: nothing mapped
visit L3 16: leaf inside
visit L3 32: crosses end
RCU, mmu_lock let go: page
allocate a page
locks taken; goal 32
visit L3 32: crosses end
exchange L3 32: leaf → table
split L3 32, done
visit L2 32: crosses end
RCU, mmu_lock let go: page
allocate a page
locks taken; goal 32
visit L3 32: table
visit L2 32: crosses end
exchange L2 32: leaf → table
split L2 32, done
return 0""".splitlines()
"""The call worked by hand from S60-S65 and S80: the toy has a table at 0 (leaves of four frames at 0 and
4, a table at 8, nothing at 12) and leaves of sixteen frames at 16 and 32."""


def test_the_log_is_the_call_worked_by_hand():
    call = SplitCall("steps", 6, 34)
    assert len(call.steps) == len(BY_HAND)
    for at in range(len(BY_HAND)):
        log = walk_words(walk_state(call, at)).log
        assert log == tuple((n + 1, BY_HAND[n]) for n in range(max(0, at - 6), at + 1))


REFUSED = {"faults": Faults(refuse_page=2)}
ZAPPED = {"faults": Faults(race="cas_zap", race_at=1)}


@pytest.mark.parametrize(
    ("how", "at", "words"),
    [
        ({}, "visit 2", "the level 2 entry at 4 is a leaf that crosses the start; no page is in hand."),
        ({}, "visit 4", "the level 2 entry at 4 is a leaf that crosses the start; a page is in hand."),
        ({}, "visit 5", "the level 2 entry at 8 points to a table, and the walk does not go below level 2."),
        ({}, "visit 6", "the level 2 entry at 12 maps nothing."),
        ({}, "visit 7", "the level 3 entry at 16 is a leaf that lies inside the range: it stays whole."),
        ({"end": 6}, "visit 2", "crosses the start, which is the end too"),
        ({"end": 7}, "visit 2", "crosses the start and the end"),
        ({"only_cross_boundary": False}, "visit 2", "is a huge leaf above the target level: to be split"),
        ({"faults": Faults(resched_at=7)}, "visit 7", "is not looked at: a reschedule is due"),
        ({"faults": Faults(resched_at=4)}, "visit 4", "A reschedule is due, but the walk has not moved on"),
        ({"shared": False}, "start", "mmu_lock is held for write"),
        ({}, "start", "held for read, and RCU. The walk goes from the root, level 3, down to level 2."),
        ({}, "page", "It may sleep, so no lock is held"),
        ({}, "retake", "starts again at the root, with its goal, frame 6."),
        ({}, "store", "The page is filled with 4 smaller leaves on the same host frames"),
        ({}, "split", "the level 2 entry at 4 points to the new table of 4 leaves"),
        (REFUSED, "return", "returns -12 (-ENOMEM) after 8 visits, 1 split, 2 lock drops"),
        (REFUSED, "refused", "no page to give"),
        ({"faults": Faults(race="drop_zap", race_at=1)}, "other", "this leaf, while mmu_lock is dropped"),
        (ZAPPED, "other", "zaps this leaf, before the compare-and-exchange."),
        (ZAPPED, "lost", "-EBUSY: the level 2 entry at 4 is not what was read"),
        ({"faults": Faults(race="drop_split", race_at=3)}, "free", "somebody else did the split"),
        ({"faults": Faults(race="drop_zap", race_at=3)}, "free", "its leaf is gone"),
    ],
)  # fmt: skip
def test_a_step_is_told_in_words(how, at, words):
    how = {"end": 34, **how}
    call = SplitCall("steps", 6, how.pop("end"), **how)
    kind, _, number = at.partition(" ")
    steps = [n for n, step in enumerate(call.steps) if step.kind == kind]
    assert words in walk_words(walk_state(call, steps[int(number) - 1 if number else 0])).answer


def test_the_code_has_a_line_for_every_step_and_only_what_this_form_has(calls):
    for call in calls:
        for at in range(len(call.steps)):
            said = walk_words(walk_state(call, at))
            keys = [key for key, _, _ in said.code]
            assert said.code_key in keys
            assert ("inside" in keys) == call.only_cross_boundary
            assert ("lost" in keys) == call.shared
            runs = [key for key, _ in groupby(keys)]
            assert len(runs) == len(set(runs)), "lines of one key stand together"


def test_levels_and_frames_of_x86_are_written_as_sizes():
    call = SplitCall(Layout(X86_4LEVEL, (LeafRun(0, 3, 1, 0),), 1 << 18), 1, 5)
    said = walk_words(walk_state(call, 2))
    assert "the level 3 entry at 0 is a leaf that crosses the start and the end" in said.answer
    assert said.title == "Split only what crosses: [4K, 20K), mmu_lock shared"
    assert ("leaf3", "1G leaf") not in said.legend, "the only one is to be split"
    assert ("crossing", "crosses an edge: to be split") in said.legend
