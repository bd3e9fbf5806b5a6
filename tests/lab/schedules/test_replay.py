"""A schedule as text: read, replayed, and explained; expectations by hand."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.schedules import PROPERTIES, SCENARIOS, Replay, Setting, explored
from tdpkit.lab.schedules.words import did_words

LATE = "A:lock B:lock B:read B:swap A:read A:read A:unlock A:return"
"""Under the shared lock, pages in hand: B splits the leaf, A looks late and finds a table."""
LOSER = "A:lock A:read B:lock B:read A:swap B:swap B:read B:unlock B:return"
"""Both have read the leaf; B's compare-and-exchange is lost."""
IN_HAND = Setting(pages="in hand")


def replay(text: str, setting: Setting = IN_HAND) -> Replay:
    return Replay(explored(setting)[0], text)


def test_a_text_comes_back_as_it_was_read():
    assert str(replay(f"  {LATE}\n")) == LATE
    assert len(replay(LATE)) == 8
    assert str(replay("")) == ""


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_witness_and_sample_replays_to_what_it_was_found_for(name):
    explorer, found = explored(SCENARIOS[name].setting)
    for broken, schedule in found.witness.items():
        looks = Replay(explorer, str(schedule)).looks
        assert broken in looks[-1].broken
        assert broken not in looks[-2].broken
        why = Replay(explorer, str(schedule)).why[-1]
        assert why.step == len(schedule.moves)
        assert 0 <= why.other < why.step
        assert why.text.endswith(".") is False
    for schedule in found.samples:
        assert str(Replay(explorer, str(schedule))) == str(schedule)


def test_what_holds_and_who_is_where_is_known_after_every_step():
    looks = replay(LATE).looks
    assert [look.did for look in looks] == [
        "",
        "A takes mmu_lock for read",
        "B takes mmu_lock for read",
        "B reads the entry of frame 0, level 3: leaf",
        "B compares and exchanges the entry of frame 0, level 3: leaf → table",
        "A reads the entry of frame 0, level 3: table",
        "A reads the entry of frame 2, level 2: leaf",
        "A drops mmu_lock",
        "A returns 0: nothing split, no flush needed",
    ]
    assert [look.readers for look in looks] == [
        (), ("A",), ("A", "B"), ("A", "B"), ("A", "B"), ("A", "B"), ("A", "B"), ("B",), ("B",),
    ]  # fmt: skip
    assert all(look.writer == "" for look in looks)
    assert [len(look.stale) for look in looks] == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert [[leaf[:2] for leaf in look.leaves] for look in looks] == [[(0, 3)]] * 4 + [[(0, 2), (2, 2)]] * 5
    assert [look.active for look in looks][-2:] == [("A", "B"), ("B",)]
    assert [look.finished for look in looks][-2:] == [(), ("A",)]
    assert [look.broken for look in looks] == [frozenset()] * 8 + [
        frozenset({"no misreport", "no stale TLB"})
    ]
    assert looks[0].holds == tuple(PROPERTIES)
    assert "no misreport" not in looks[-1].holds


def test_the_two_accesses_that_clash_are_named():
    lie, stale = replay(LATE).why
    assert (lie.property, lie.step, lie.other) == ("no misreport", 8, 4)
    assert lie.text == (
        "step 4: B split the leaf [0, 4) during A's call; step 8: A returned and said that nothing was split"
    )
    assert (stale.property, stale.step, stale.other) == ("no stale TLB", 8, 4)


def test_the_loser_of_a_race_says_none_too():
    replayed = replay(LOSER)
    assert replayed.did(6) == "B compares and exchanges the entry of frame 0, level 3: lost"
    assert [(why.property, why.other, why.step) for why in replayed.why] == [
        ("no misreport", 5, 9),
        ("no stale TLB", 5, 9),
    ]


@pytest.mark.parametrize(
    ("text", "setting", "step", "other", "says"),
    [
        (
            "B:lock B:read A:lock A:read A:store A:read A:unlock A:flush A:return B:store",
            Setting(pages="in hand", bug="plain store", flush="always"), 10, 5,
            "step 5: A put a table in the place of the leaf [0, 4); step 10: B wrote another over it",
        ),
        (
            "A:lock A:read A:read A:read A:unlock V:lock V:read V:swap V:unlock A:lock A:read A:read A:store "
            "A:read A:read A:store",
            Setting("convert", invalidate=False), 16, 8,
            "step 8: V mapped it after A had passed its place; step 16: A took the leaf [0, 2) whole, and "
            "with it 1 frame outside its range: 0",
        ),
    ],
)  # fmt: skip
def test_why_names_the_last_access_before(text, setting, step, other, says):
    [why] = replay(text, setting).why
    assert (why.step, why.other, why.text) == (step, other, says)


def test_a_lost_dirty_bit_is_told_by_the_return_and_the_leaf_that_was_gone():
    explorer, found = explored(SCENARIOS["dirty tracking, flush if I changed"].setting)
    witness = found.witness["no lost dirty bit"]
    why = Replay(explorer, witness).why[-1]
    tokens = str(witness).split()
    assert tokens[why.step - 1] == "G:write"
    assert tokens[why.other - 1].endswith(":return")
    [store] = [
        n for n, token in enumerate(tokens, 1) if f"the leaf [0, 4), gone since step {n} and" in why.text
    ]
    assert tokens[store - 1].endswith(":store")


def test_a_pages_race_is_told_by_the_top_up_and_who_took_them():
    explorer, found = explored(Setting("cache", cache="spinlock, no re-check"))
    witness = found.witness["no failure"]
    [why] = Replay(explorer, witness).why
    tokens = str(witness).split()
    topup, taken, needed = tokens.index("A:top-up") + 1, tokens.index("B:external") + 1, len(tokens)
    assert (why.step, why.other) == (needed, taken)
    assert topup < taken < needed
    assert why.text.startswith(f"step {topup}: A topped the cache up; step {taken}: B took those pages")


# ---- who moves next ------------------------------------------------------------------------------------


def test_what_each_thread_could_do_is_known():
    replayed = replay("A:lock", Setting(lock="exclusive"))
    first, second = replayed.choices(1)
    assert (first.thread, first.token, first.why_not) == ("A", "read", "")
    assert (second.thread, second.token, second.why_not) == ("B", "", "waits for mmu_lock, which A holds")
    done = replay(LATE).choices(8)
    assert (done[0].thread, done[0].why_not) == ("A", "has returned")


def test_a_schedule_grows_by_a_step_at_any_place():
    replayed = replay(LATE)
    assert replayed.with_step(0, "B") == "B:lock"
    assert replayed.with_step(2, "A") == "A:lock B:lock A:read"
    with pytest.raises(InvalidValueError, match="A cannot move: it has returned"):
        replayed.with_step(8, "A")
    with pytest.raises(InvalidValueError, match="the threads here are A and B; 'C' is none"):
        replayed.with_step(0, "C")


# ---- texts that do not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A:lock C:lock", "the threads here are A and B; step 2, 'C:lock', names none"),
        ("A:lock read", "a step is written thread:token, such as A:lock; step 2 is 'read'"),
        ("A:", "a step is written thread:token, such as A:lock; step 1 is 'A:'"),
        ("A:lock A:jump", "step 2 does not fit this code: A does 'read' there, not 'jump'"),
        ("A:lock A:swap", "step 2 does not fit this code: A does 'read' there, not 'swap'"),
        ("A:lock B:lock", "step 2, 'B:lock', cannot be: B waits for mmu_lock, which A holds"),
        (
            "A:lock A:read A:unlock A:lock A:read A:store A:read A:unlock A:flush A:return A:lock",
            "step 11, 'A:lock', cannot be: A has returned",
        ),
    ],
)
def test_a_step_that_cannot_be_is_named_with_its_number(text, message):
    with pytest.raises(InvalidValueError) as caught:
        replay(text, Setting(lock="exclusive"))
    assert str(caught.value) == message


def test_a_text_made_for_other_code_is_refused_where_it_stops_fitting():
    with pytest.raises(
        InvalidValueError, match="step 4 does not fit this code: B does 'unlock' there, not 'swap'"
    ):
        replay(LATE, Setting(pages="on demand"))


def test_what_a_step_did_is_said_of_every_token():
    """No scenario has an access that has no sentence of its own."""
    tokens = set()
    for scenario in SCENARIOS.values():
        explorer, _ = explored(scenario.setting)
        tokens |= {known[0] for known in explorer._known.values() if known}
    assert {access.token for access in tokens} > {
        "lock",
        "swap",
        "store",
        "need?",
        "top-up",
        "external",
        "write",
    }
    assert all(did_words(access) for access in tokens)


def test_two_replays_of_one_explorer_do_not_disturb_each_other_in_two_threads():
    explorer, found = explored(Setting(lock="exclusive"))
    texts = [str(found.witness["no misreport"]), str(found.witness["no stale TLB"])]
    alone = [Replay(explorer, text).looks for text in texts]

    def again(text: str) -> list:
        return [Replay(explorer, text).looks for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for looks, many in zip(alone * 2, pool.map(again, texts * 2), strict=True):
            assert all(one == looks for one in many)


def test_of_several_steps_that_clash_the_last_is_named():
    """B splits both leaves on A's edges; A, which began before, finds two tables."""
    text = (
        "A:lock B:lock B:read B:swap B:read B:read B:swap B:read B:unlock B:flush B:return "
        "A:read A:read A:read A:read A:unlock A:return"
    )
    [why] = replay(text, Setting(pages="in hand", ranges="two edges")).why
    assert (why.property, why.step, why.other) == ("no misreport", 17, 7)
    assert "B split the leaf [4, 8) during A's call" in why.text
