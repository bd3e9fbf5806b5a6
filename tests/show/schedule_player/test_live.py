"""What the schedule player's controls are for; what holds for all exhibits: tests/show/test_exhibit.py."""

from __future__ import annotations

import pytest

from tdpkit.lab.schedules import PROPERTIES, SCENARIOS, Setting, explored
from tdpkit.show.schedule_player import SchedulePlayer
from tests.oracles.exhibits import head_of, seen, use, words
from tests.show.schedule_player.test_state import WITNESS

LOSES = "A:lock B:lock A:read B:read A:swap B:swap"
"""Both read the leaf, and B's exchange is lost."""


@pytest.fixture
def player():
    return SchedulePlayer()


def moves(player) -> list[tuple[str, bool]]:
    """What the buttons of those who may move next say, and whether they can be pressed."""
    shown = [button for button in player.move_buttons if button.layout.display == ""]
    return [(button.description, not button.disabled) for button in shown]


# ---- what it opens with ------------------------------------------------------------------------------------


def test_it_opens_on_the_shortest_lie_at_the_step_that_tells_it(player):
    assert player.choice.setting == Setting("split", "shared", "in hand", "own split", "split", "one edge")
    assert (player.choice.scenario, player.choice.shown) == ("shared, in hand", "witness")
    assert (player.schedule_text.value, player.choice.step) == (WITNESS, 8)
    assert "B returned and said that nothing was split" in head_of(player).answer
    assert words(player) == ""


def test_it_opens_on_any_scenario_setting_and_step():
    player = SchedulePlayer("dirty tracking, flush if I changed", step=3, shown="no lost dirty bit")
    assert (player.choice.use, player.choice.lock, player.choice.step) == ("track", "exclusive", 3)
    assert player.schedule_text.value.endswith(" G:write")
    player = SchedulePlayer(lock="exclusive", flush="always", step=0)
    assert (player.choice.scenario, player.choice.pages, player.choice.step) == ("own", "in hand", 0)
    assert player.scenario_menu.label == "Your own setting"


def test_a_schedule_that_a_search_found_can_be_handed_over_as_it_is():
    setting = SCENARIOS["plain store"].setting
    schedule = explored(setting)[1].witness["no double split"]
    assert SchedulePlayer("plain store", schedule=schedule).choice.schedule == str(schedule)


# ---- settings ----------------------------------------------------------------------------------------------


def test_a_setting_is_known_by_its_name_and_a_name_sets_all_at_once(player):
    player.lock_buttons.value = "exclusive"
    assert player.scenario_menu.value == "exclusive, in hand"
    player.flush_menu.value = "own split, locked"
    assert player.scenario_menu.value == "exclusive, in hand, flush inside"
    assert "✓ Nothing breaks: " in head_of(player).answer
    player.scenario_menu.value = "shared, flush always"
    shown = (player.lock_buttons, player.pages_buttons, player.flush_menu, player.ranges_menu)
    assert [control.value for control in shown] == ["shared", "on demand", "always", "B wider"]


def test_another_setting_shows_its_own_witness_at_its_last_step(player):
    player.show(step=2)
    player.lock_buttons.value = "exclusive"
    assert player.choice.step == player.state.last == 10
    assert [why.property for why in player.state.why] == ["no stale TLB"]


def test_what_a_scenario_leaves_no_choice_of_is_not_offered(player):
    menus = (player.other_menu, player.ranges_menu)
    settings = next(
        line for line in player.box.children if player.lock_buttons in getattr(line, "children", ())
    )
    for name, pair, free in (("shared, in hand", "", ""), ("dirty tracking, flush always", "none", "")):
        player.show(scenario=name)
        assert ([menu.layout.display for menu in menus], settings.layout.display) == ([pair] * 2, free)
    for name in ("conversion meets fault", "ACCEPT, neither", "cache: mutex"):
        player.show(scenario=name)
        assert ([menu.layout.display for menu in menus], settings.layout.display) == (["none"] * 2, "none")


def test_a_planted_bug_fixes_what_it_needs(player):
    for name, locked in (
        ("plain store", (True, False)),
        ("no restart", (False, True)),
        ("shared, in hand", (False, False)),
    ):
        player.show(scenario=name)
        assert (player.lock_buttons.disabled, player.pages_buttons.disabled) == locked


def test_three_threads_come_by_name_and_stand_in_the_menus_then(player):
    assert "two" not in [name for _, name in player.other_menu.options]
    player.show(scenario="two split, one zaps")
    assert (player.scenario_menu.value, player.other_menu.value) == ("two split, one zaps", "split, zap")
    assert [name.split(":")[0] for name, _ in moves(player)] == ["A", "B", "C"]
    player.show(scenario="shared, in hand")
    assert "two split, one zaps" not in [name for _, name in player.scenario_menu.options]


# ---- schedules ---------------------------------------------------------------------------------------------


def test_the_menu_offers_each_witness_and_the_samples(player):
    assert [name for _, name in player.shown_menu.options] == [
        "witness",
        "no misreport",
        "no stale TLB",
        "one after the other",
        "in turn",
        "drawn",
    ]
    assert player.shown_menu.options[2][0] == "no stale TLB breaks, in 8 steps"
    player.show(lock="exclusive", flush="own split, locked")
    assert player.shown_menu.options[0][0] == "nothing breaks: a sample"
    assert len(player.shown_menu.options) == 4


def test_a_witness_is_pressed_in_the_table_of_rules(player):
    use(player, "press.rule", "no stale TLB")
    assert player.choice.schedule == "A:lock A:read A:swap B:lock B:read B:read B:unlock B:return"
    assert head_of(player).answer.count("✗ no stale TLB: step 3: A took the leaf [0, 4) out of the tree") == 1
    assert [spot["chosen"] for spot in player.handles.state["spots"]] == [False, True]


def test_a_property_that_breaks_no_more_gives_way_to_what_does(player):
    player.show(shown="no misreport")
    player.lock_buttons.value = "exclusive"
    assert (player.choice.shown, [why.property for why in player.state.why]) == ("witness", ["no stale TLB"])


def test_a_text_is_pasted_edited_and_written_in_its_form(player):
    player.schedule_text.value = f"  {LOSES.replace(' ', '   ')} "
    assert (player.schedule_text.value, player.choice.shown, player.choice.step) == (LOSES, "own", 6)
    assert player.shown_menu.label == "your own"
    player.schedule_text.value = f"{LOSES} B:flush"
    assert "step 7 does not fit this code: B does 'read' there, not 'flush'" in words(player)
    assert player.schedule_text.value == f"{LOSES} B:flush", "to be mended"
    assert player.choice.schedule == LOSES


def test_the_text_of_a_witness_is_that_witness(player):
    player.show(schedule=WITNESS)
    assert player.choice.shown == "witness"


def test_an_own_schedule_stays_while_it_fits_and_gives_way_with_a_word_if_it_does_not(player):
    player.show(schedule="A:lock A:read", step=1)
    player.flush_menu.value = "always"
    assert (player.choice.schedule, player.choice.shown, player.choice.step) == ("A:lock A:read", "own", 2)
    assert words(player) == ""
    player.show(schedule=LOSES)
    player.lock_buttons.value = "exclusive"
    assert (player.choice.lock, player.choice.shown) == ("exclusive", "witness")
    assert words(player) == (
        "Your schedule does not fit what runs now: step 2, 'B:lock', cannot be: "
        "B waits for mmu_lock, which A holds."
    )
    player.back_button.click()
    assert words(player) == "", "said once"


# ---- who moves next ----------------------------------------------------------------------------------------


def test_buttons_say_what_each_thread_would_do_and_why_one_cannot(player):
    assert moves(player) == [("A: read", True), ("B: done", False)]
    assert player.move_buttons[1].tooltip == "B has returned"
    player.show(step=0)
    assert moves(player) == [("A: lock", True), ("B: lock", True)]
    assert player.move_buttons[0].tooltip == "let A move after step 0"
    player.show(lock="exclusive", schedule="A:lock")
    assert moves(player) == [("A: read", True), ("B: waits", False)]
    assert player.move_buttons[1].tooltip == "B waits for mmu_lock, which A holds"


def test_a_move_cuts_the_schedule_at_the_present_step_and_goes_on(player):
    player.show(step=3)
    player.move_buttons[1].click()
    assert (player.choice.schedule, player.choice.step) == ("B:lock A:lock A:read B:read", 4)
    assert player.choice.shown == "own"
    player.show(step=0)
    player.move_buttons[0].click()
    assert (player.choice.schedule, player.choice.step) == ("A:lock", 1)


def test_undo_takes_the_last_step_away_and_stops_at_one(player):
    player.undo_button.click()
    assert player.choice.schedule == WITNESS.removesuffix(" B:return")
    assert (player.choice.shown, player.choice.step) == ("own", 7)
    player.show(schedule="A:lock")
    assert player.undo_button.disabled


def test_a_whole_schedule_can_be_pressed_together(player):
    """The lie, by hand: B locks, A locks, reads and swaps, B finds a table and returns."""
    player.show(step=0)
    for number in (1, 0, 0, 0, 1, 1, 1, 1):
        player.move_buttons[number].click()
    assert player.choice.schedule == WITNESS
    assert "✗ no" in head_of(player).answer


def test_the_button_of_a_thread_that_cannot_move_is_answered_all_the_same(player):
    before = player.choice
    player.go(1)
    assert "step 9, 'B:next', cannot be: B has returned" in words(player)
    assert player.choice == before


# ---- steps -------------------------------------------------------------------------------------------------


def test_steps_begin_before_the_first(player):
    assert (player.step_slider.min, player.step_slider.max, player.play.min) == (0, 8, 0)
    player.first_button.click()
    assert player.choice.step == 0
    assert head_of(player).answer.startswith("Before the first step. ")
    assert (player.first_button.disabled, player.back_button.disabled) == (True, True)
    player.next_button.click()
    assert head_of(player).answer.startswith("Step 1 of 8: B takes mmu_lock for read.")
    player.last_button.click()
    assert (player.choice.step, player.next_button.disabled) == (8, True)


def test_the_picture_is_scrubbed_along_its_steps(player):
    use(player, "drag.step", 4)
    assert player.choice.step == 4
    [cursor] = player.handles.state["sliders"]
    assert (cursor["low"], cursor["high"], cursor["text"]) == ("0", "8", "step 4 of 8")


def test_two_players_of_one_setting_do_not_move_each_other(player):
    other = SchedulePlayer()
    before = seen(other)
    player.show(step=2)
    player.move_buttons[1].click()
    assert seen(other) == before


# ---- searched before it is asked for ---------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["shared, in hand", "plain store", "no restart", "cache: mutex"])
def test_whatever_setting_a_control_brings_was_one_change_away(scenario):
    player = SchedulePlayer(scenario)
    away, opening = player.one_change_away(), player.choice
    settings = ("lock_buttons", "pages_buttons", "flush_menu", "other_menu", "ranges_menu")
    reached = set()
    for name in ("scenario_menu", *(settings if player.choice.use == "split" else ())):
        for option in getattr(player, name)._options_values if not getattr(player, name).disabled else ():
            getattr(player, name).value = option
            reached.add(player.choice.setting)
            player.show(**opening._asdict())
    assert reached <= {*away}
    assert len(reached) > len(SCENARIOS) - 3


def test_only_on_a_page_and_after_each_change_there_it_searches_ahead(monkeypatch):
    asked = []
    monkeypatch.setattr("tdpkit.show.schedule_player.live.explore_ahead", asked.append)
    monkeypatch.setattr("tdpkit.show.exhibit.display_live", lambda *of: None)
    player = SchedulePlayer()
    player.show(lock="exclusive")
    assert asked == []
    player._ipython_display_()
    player.show(flush="always")
    player.show(step=1)  # the same setting: nothing new to search
    assert asked == [player.one_change_away() for player in (SchedulePlayer(lock="exclusive"), player)]


def test_a_sample_of_what_ran_before_gives_way_to_what_breaks_now(player):
    player.show(flush="always")
    sample = next(name for _, name in player._schedules() if name not in ("witness", "own", *PROPERTIES))
    player.show(shown=sample)
    player.show(flush="own split")
    assert player.choice.shown == "witness"
    assert "✗" in head_of(player).answer


def test_where_dirty_bits_are_cleared_too_the_rule_is_about_any_change(player):
    assert "Flush if I split" in dict(player.flush_menu.options)
    player.show(scenario="dirty tracking, flush if I changed")
    assert "Flush if I changed an entry" in dict(player.flush_menu.options)
    assert "Flush if I split" not in dict(player.flush_menu.options)
