"""What the schedule player computes, against schedules that were worked through by hand."""

from __future__ import annotations

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.schedules import SCENARIOS, THREE, Setting, explored
from tdpkit.show.schedule_player.state import (
    FIRST,
    OWN,
    SAMPLES,
    player_state,
    replay_of,
    scenario_of,
    schedules_of,
)

IN_HAND = Setting(pages="in hand")
WITNESS = "B:lock A:lock A:read A:swap B:read B:read B:unlock B:return"
"""By hand: B takes the lock and does not look yet; A splits the leaf; B finds a table, reports nothing."""
LAST = 8


def at(step: int, text: str = WITNESS, setting: Setting = IN_HAND, shown: str = OWN):
    return player_state(setting, shown, text, step)


# ---- a schedule, step by step ------------------------------------------------------------------------------


def test_the_tree_changes_at_the_exchange_and_at_no_other_step():
    state = at(LAST)
    leaves = [[(gfn, level) for gfn, level, _ in look.leaves] for look in state.looks]
    assert leaves == [[(0, 3)]] * 4 + [[(0, 2), (2, 2)]] * 5
    assert state.changes == ((4, "A", 0, 4, "table"),)
    assert state.frames == 4


def test_a_tlb_holds_the_old_leaf_from_the_exchange_on_and_a_return_makes_that_a_fault():
    """Four states before it; A owes a flush at steps 4 to 7; at 8 B has promised that the leaf is gone."""
    state = at(LAST)
    assert [tlb.kind for tlb in state.tlb] == ["true"] * 4 + ["owed"] * 4 + ["stale"]
    assert [[leaf[:2] for leaf in tlb.leaves] for tlb in state.tlb] == [[]] * 4 + [[(0, 3)]] * 5


def test_a_flush_ends_what_is_owed():
    state = at(7, "A:lock A:read A:swap A:read A:unlock A:flush A:return")
    assert [tlb.kind for tlb in state.tlb] == ["true"] * 3 + ["owed"] * 3 + ["true"] * 2


def test_a_return_without_a_flush_is_a_fault():
    """Under "no flush" A returns, and its own leaf is stale."""
    state = at(6, "A:lock A:read A:swap A:read A:unlock A:return", IN_HAND._replace(flush="none"))
    assert [tlb.kind for tlb in state.tlb] == ["true"] * 3 + ["owed"] * 3 + ["stale"]


def test_a_fault_promises_nothing():
    """V splits the leaf and returns: what a TLB still holds of it breaks no promise, for V made none."""
    setting = SCENARIOS["split meets fault"].setting
    text = "V:lock V:read V:swap V:read V:swap V:read V:unlock V:return"
    assert [tlb.kind for tlb in at(8, text, setting).tlb] == ["true"] * 3 + ["owed"] * 6


def test_a_guest_that_wrote_promises_nothing_either():
    setting = SCENARIOS["dirty tracking, flush always"].setting
    text = "A:lock A:read A:unlock A:lock A:read A:store G:write G:return"
    assert [tlb.kind for tlb in at(8, text, setting).tlb] == ["true"] * 6 + ["owed"] * 3


def test_a_promise_is_about_the_call_s_own_range():
    """A is about [2, 4), flushes and returns; then B, about [2, 6), splits [4, 8): no concern of A."""
    setting = IN_HAND._replace(ranges="B wider")
    text = "A:lock A:read A:swap A:read A:unlock A:flush A:return B:lock B:read B:read B:read B:swap"
    assert [tlb.kind for tlb in at(12, text, setting).tlb] == ["true"] * 3 + ["owed"] * 3 + ["true"] * 6 + [
        "owed"
    ]


def test_no_tlb_holds_a_leaf_that_is_pending():
    for name, kinds in (("ACCEPT, PENDING alone", {"none"}), ("ACCEPT, tracked alone", {"true", "owed"})):
        setting = SCENARIOS[name].setting
        text = schedules_of(setting)[SAMPLES[0]]
        assert {tlb.kind for tlb in at(1, text, setting).tlb} == kinds


def test_a_leaf_that_lost_its_dirty_bit_is_no_other_leaf():
    """A splits [0, 4), then makes [2, 4) clean."""
    setting = SCENARIOS["dirty tracking, flush always"].setting
    text = "A:lock A:read A:unlock A:lock A:read A:store A:read A:read A:read A:store"
    assert at(10, text, setting).changes == ((6, "A", 0, 4, "table"), (10, "A", 2, 4, "clean"))


def test_both_rules_that_break_name_the_exchange_and_the_return():
    state = at(LAST)
    assert [why[:3] for why in state.why] == [("no misreport", 8, 4), ("no stale TLB", 8, 4)]
    assert at(7).reason is None
    assert at(LAST).reason.property == "no stale TLB", "of two, the last to break, if neither was asked for"
    assert at(LAST, shown="no misreport").reason.property == "no misreport"


def test_who_can_move_and_who_cannot():
    assert at(0).choices == (("A", "lock", ""), ("B", "lock", ""))
    assert at(LAST).choices == (("A", "read", ""), ("B", "", "has returned"))
    locked = at(1, "A:lock", IN_HAND._replace(lock="exclusive"))
    assert locked.choices[1] == ("B", "", "waits for mmu_lock, which A holds")


# ---- settings and their schedules --------------------------------------------------------------------------


def test_every_scenario_is_known_by_its_setting():
    for name, scenario in {**SCENARIOS, **THREE}.items():
        assert scenario_of(scenario.setting) == name
    assert scenario_of(Setting(pages="in hand", flush="always")) == OWN


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_setting_opens_on_what_breaks_soonest_or_on_a_sample(name):
    setting = SCENARIOS[name].setting
    schedules, found = schedules_of(setting), explored(setting)[1]
    assert list(schedules) == [FIRST, *found.witness, *SAMPLES]
    steps = len(schedules[FIRST].split())
    if found.witness:
        assert steps == min(len(schedule.moves) for schedule in found.witness.values())
        assert player_state(setting, FIRST, schedules[FIRST], steps).reason is not None
    else:
        assert schedules[FIRST] == schedules[SAMPLES[0]]
        assert player_state(setting, FIRST, schedules[FIRST], steps).why == ()


def test_what_is_shown_first_goes_by_the_name_of_what_it_breaks():
    assert at(LAST, shown=FIRST).shown == "no misreport"
    assert at(1, "A:lock", IN_HAND._replace(lock="exclusive", flush="always"), FIRST).shown == FIRST


def test_the_searched_states_are_the_lab_s():
    found = explored(IN_HAND)[1]
    assert at(0).search == (
        found.states,
        found.interleavings,
        "explored whole",
        (("no misreport", 8), ("no stale TLB", 8)),
    )


@pytest.mark.parametrize(
    ("setting", "is_api_only"),
    [
        (IN_HAND, True),
        (IN_HAND._replace(lock="exclusive"), False),
        (Setting("track"), True),
        (Setting("accept"), False),
        (Setting("cache", cache="mutex"), False),
    ],
)
def test_a_split_under_the_shared_lock_is_marked(setting, is_api_only):
    text = schedules_of(setting)[FIRST]
    assert player_state(setting, FIRST, text, 0).is_api_only == is_api_only


# ---- what does not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "at least one step"),
        (" \n ", "at least one step"),
        ("A:lock banana", "step 2 is 'banana'"),
        ("A:", "thread:token"),
        ("C:lock", "the threads here are A and B; step 1, 'C:lock', names none"),
        ("A:lock A:flush", "step 2 does not fit this code: A does 'read' there, not 'flush'"),
        (f"{WITNESS} B:lock", "step 9, 'B:lock', cannot be: B has returned"),
        ("A:lock " + "x" * 400, "no step is as long as step 2, 'xxxx"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_with_its_step(text, rule):
    with pytest.raises(InvalidValueError, match="^.*" + rule.replace("(", r"\(")) as refused:
        replay_of(IN_HAND, text)
    assert len(str(refused.value)) < 200


def test_a_thread_that_waits_is_refused():
    with pytest.raises(InvalidValueError, match="step 2, 'B:lock', cannot be: B waits for mmu_lock"):
        replay_of(IN_HAND._replace(lock="exclusive"), "A:lock B:lock")


@pytest.mark.parametrize("field", ["use", "lock", "pages", "flush", "other", "ranges", "bug", "cache"])
@pytest.mark.parametrize("value", ["banana", ["shared"], None, 3])
def test_a_setting_that_cannot_be_is_refused_whatever_its_type(field, value):
    with pytest.raises(InvalidValueError, match="none"):
        explored(IN_HAND._replace(**{field: value}))
