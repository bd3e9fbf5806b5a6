"""What the walk stepper's controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import re

import ipywidgets
import pytest

from tdpkit.engine.gfn import X86_5LEVEL, Geometry, InvalidValueError
from tdpkit.lab.layouts import LAYOUTS, layout_of
from tdpkit.lab.worlds import RACES
from tdpkit.show.theme import LIVE
from tdpkit.show.walk import WalkStepper
from tdpkit.show.walk.live import OPENINGS, RACE_LABELS
from tdpkit.show.walk.picture import walk_svg, walk_text
from tdpkit.show.walk.predict import options_at
from tdpkit.show.walk.state import walk_state
from tests.oracles.exhibits import head_of, picture_of, seen, use, words


@pytest.fixture
def stepper():
    return WalkStepper("steps")


def sliders(stepper, track: str) -> dict[str, dict]:
    """The handles on the picture's track of this name, by kind."""
    number = [one.name for one in stepper.drawn.tracks].index(track)
    return {
        one["kind"]: one for one in stepper.handles.state["sliders"] if one["name"].endswith(f":{number}")
    }


def lines(stepper) -> list[ipywidgets.HBox]:
    """The lines of controls."""
    return [child for child in stepper.box.children if isinstance(child, ipywidgets.HBox)]


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_the_toy_at_the_first_step():
    stepper = WalkStepper()
    assert (stepper.choice.layout, stepper.state.at) == ("steps", 0)
    assert (stepper.call.span.start, stepper.call.span.end) == (6, 34)
    assert words(stepper) == ""


@pytest.mark.parametrize("layout", OPENINGS)
def test_each_layout_opens_in_its_own_range_and_has_something_to_split(layout):
    stepper = WalkStepper(layout)
    assert layout in LAYOUTS
    assert stepper.call.splits
    assert stepper.choice.unit_level <= stepper.call.geometry.max_leaf_level
    assert (stepper.step_slider.min, stepper.step_slider.value) == (1, 1)
    assert stepper.step_slider.max == len(stepper.call.steps)


def test_it_can_open_at_any_step_and_on_any_call():
    stepper = WalkStepper("toy", step=4, start="0x9", end=12, shared=False, refuse_page=1)
    assert stepper.state == walk_state(stepper.call, 3)
    assert (stepper.call.span.start, stepper.call.span.end, stepper.call.shared) == (9, 12, False)
    assert stepper.call.result == -12


# ---- moving --------------------------------------------------------------------------------------------


def test_the_slider_goes_to_any_step(stepper):
    for step in (29, 1, 17, 18, 2):
        stepper.step_slider.value = step
        assert stepper.state == walk_state(stepper.call, step - 1)
        assert walk_svg(stepper.state, LIVE, "ids").body in picture_of(stepper)
        assert stepper._text() == walk_text(stepper.state)
        assert head_of(stepper).answer.startswith(f"Step {step} of 29: ")


def test_the_buttons_move_by_one_and_to_both_ends(stepper):
    stepper.next_button.click()
    stepper.next_button.click()
    assert stepper.state.at == 2
    stepper.back_button.click()
    assert stepper.state.at == 1
    stepper.last_button.click()
    assert stepper.state.at == 28
    assert (stepper.next_button.disabled, stepper.last_button.disabled, stepper.jump_button.disabled) == (
        True,
    ) * 3
    stepper.first_button.click()
    assert stepper.state.at == 0
    assert (stepper.back_button.disabled, stepper.first_button.disabled) == (True, True)
    assert not stepper.next_button.disabled


def test_moving_beyond_the_ends_stays_there(stepper):
    stepper.move(-1)
    assert stepper.state.at == 0
    stepper.move(1000)
    assert stepper.state.at == 28
    stepper.move(1)
    assert stepper.state.at == 28
    assert words(stepper) == ""


def test_jumps_stop_where_a_leaf_is_split_or_the_lock_let_go(stepper):
    stopped = []
    while stepper.state.at < 28:
        stepper.jump_button.click()
        stopped.append(stepper.state.at)
    kinds = [stepper.call.steps[at].kind for at in stopped]
    assert kinds == ["drop", "split", "drop", "split", "drop", "split", "return"]
    back = []
    while stepper.state.at:
        stepper.jump_back_button.click()
        back.append(stepper.state.at)
    assert back == [*reversed(stopped[:-1]), 0]


def test_a_resched_is_a_lock_drop_too():
    stepper = WalkStepper("steps", resched_at=1 + 12)  # never: the call makes twelve visits
    assert "resched" not in stepper.state.rail.kinds
    stepper.show(resched_at=7)
    at = stepper.state.rail.kinds.index("resched")
    stepper.show(step=at)
    stepper.jump(forward=True)
    assert stepper.state.at == at


# ---- the call ------------------------------------------------------------------------------------------


def test_every_control_of_the_call_makes_another_call_and_starts_it_over(stepper):
    for control, value, name in (
        (stepper.lock_buttons, False, "shared"),
        (stepper.form_buttons, False, "only_cross_boundary"),
        (stepper.target_menu, 2, "target_level"),
        (stepper.refuse_number, 2, "refuse_page"),
        (stepper.refuse_number, 0, "refuse_page"),
        (stepper.resched_number, 5, "resched_at"),
        (stepper.race_menu, "drop_zap", "race"),
        (stepper.race_number, 2, "race_at"),
    ):
        stepper.show(step=3)
        call = stepper.call
        control.value = value
        assert getattr(stepper.choice, name) == value
        assert stepper.call is not call
        assert stepper.state == walk_state(stepper.call, 0), name
        assert not words(stepper).startswith("✗")
    assert (stepper.call.shared, stepper.call.only_cross_boundary, stepper.call.target_level) == (
        False,
        False,
        2,
    )


def test_the_patch_always_splits_down_to_4k(stepper):
    """So the level is a choice of the plain form alone."""
    assert stepper.target_menu.disabled
    stepper.form_buttons.value = False
    assert not stepper.target_menu.disabled
    stepper.target_menu.value = 2
    assert {level for level, _ in stepper.call.splits} == {3}
    stepper.form_buttons.value = True
    assert (stepper.target_menu.value, stepper.target_menu.disabled, stepper.call.target_level) == (
        1,
        True,
        1,
    )


@pytest.mark.slow
@pytest.mark.parametrize("layout", OPENINGS)
def test_every_level_that_the_call_takes_is_in_the_menu(layout):
    """One that is not there would leave the exhibit half changed."""
    stepper = WalkStepper(layout, only_cross_boundary=False)
    levels = [level for _, level in stepper.target_menu.options]
    assert levels == list(range(1, stepper.call.geometry.root_level))
    for level in levels:
        stepper.show(target_level=level)
        assert (stepper.target_menu.value, stepper.call.target_level) == (level, level)


def test_a_layout_of_ones_own_can_be_stepped_through_and_come_back_to():
    """Any toy: here 32 frames in five levels of two entries, one leaf over all of the upper half."""
    own = layout_of(Geometry(1, 5, 5), 32, (16, 5, 1))
    stepper = WalkStepper(own, start=17, end=32)
    # By hand: the leaf of 16 frames crosses the start, then the halves that hold it, 8, 4 and 2 frames.
    assert stepper.call.splits == [(5, 16), (4, 16), (3, 16), (2, 16)]
    assert stepper.state.whole
    assert stepper.layout_menu.label == "your own layout"
    for step in range(1, len(stepper.call.steps) + 1):
        stepper.show(step=step)
        assert f"Step {step} of {len(stepper.call.steps)}" in head_of(stepper).answer
    stepper.layout_menu.value = "toy"
    stepper.layout_menu.value = own
    assert (stepper.call.span.start, stepper.call.span.end, stepper.call.layout) == (0, 32, own)


def test_an_edge_is_dragged_to_the_end_of_the_guest_and_no_further():
    """20 frames, drawn under a root of 32."""
    stepper = WalkStepper(layout_of(Geometry(1, 5, 5), 20, (0, 5, 1)), start=1, end=9, unit_level=4)
    edges = sliders(stepper, "range")
    assert edges["end"]["knots"] == [["0", 24], ["32", 664]]
    assert (edges["end"]["low"], edges["end"]["high"], edges["end"]["step"]) == ("1", "20", "8")
    use(stepper, "drag.end", 20)
    assert (stepper.call.span.end, stepper.range.end_text.value) == (20, "20")
    use(stepper, "drag.end", 21)
    assert "this guest ends at 20; the end 21 is beyond it" in words(stepper)
    assert stepper.call.span.end == 20


def test_a_layout_of_ones_own_may_be_too_large_to_draw_whole():
    own = layout_of(X86_5LEVEL, 1 << 28, (0, 3, 1 << 10))
    stepper = WalkStepper(own, start="1G+4K", end="2G")
    assert not stepper.state.whole
    assert len(stepper.state.strips) == 5
    assert stepper.call.splits == [(3, 1 << 18), (2, 1 << 18)]


@pytest.mark.parametrize("layout", ["nope", 7, [], None.__class__])
def test_what_is_no_layout_is_refused_with_the_names_there_are(layout):
    with pytest.raises(InvalidValueError) as refused:
        WalkStepper(layout)
    assert [name for name in OPENINGS if name not in str(refused.value)] == []


@pytest.mark.parametrize("race", RACES[1:])
def test_the_other_thread_acts_where_the_menu_says(race):
    assert set(RACE_LABELS) == set(RACES)
    stepper = WalkStepper("steps")
    stepper.race_menu.value = race
    assert not stepper.race_number.disabled
    kinds = stepper.state.rail.kinds
    before = kinds[kinds.index("other") - 1]
    assert before == ("page" if race.startswith("drop") else "store")
    assert kinds[: kinds.index("other")].count(before) == 1
    stepper.race_number.value = 2
    kinds = stepper.state.rail.kinds
    assert kinds[: kinds.index("other")].count(before) == 2
    stepper.race_menu.value = "none"
    assert "other" not in stepper.state.rail.kinds
    assert stepper.race_number.disabled


@pytest.mark.parametrize(
    ("how", "note"),
    [
        ({"refuse_page": 4}, "asks for 3 pages, so page 4 is never refused"),
        ({"resched_at": 13}, "makes 12 visits, so none is number 13"),
        ({"race": "drop_zap", "race_at": 4}, "the other thread never gets its chance"),
        ({"refuse_page": 3}, ""),
        ({"resched_at": 12}, ""),
        ({"race": "drop_zap", "race_at": 3}, ""),
    ],
)
def test_a_difficulty_that_the_call_is_too_short_for_is_noted(stepper, how, note):
    stepper.show(**how)
    assert (note in words(stepper)) if note else words(stepper) == ""


def test_the_unit_changes_the_handles_and_not_the_step():
    stepper = WalkStepper("mixed", step=700)
    call = stepper.call
    stepper.range.unit_menu.value = 3
    assert (stepper.call, stepper.state.at) == (call, 699)
    assert sliders(stepper, "range")["start"]["step"] == f"{1 << 18}"
    use(stepper, "drag.end", 4 << 18)
    assert stepper.call.span.end == 4 << 18
    assert stepper.range.end_text.value == "4G"
    assert stepper.state.at == 0


@pytest.mark.parametrize("which", ["start", "end"])
@pytest.mark.parametrize(
    ("text", "frame"), [("12", 12), ("0xc", 12), ("48K", 12), (" 0x C ".replace(" C", "C"), 12)]
)
def test_an_address_is_typed_and_written_back_as_a_frame_of_the_toy(stepper, which, text, frame):
    field = getattr(stepper.range, f"{which}_text")
    field.value = text
    assert getattr(stepper.call.span, which) == frame
    assert field.value == str(frame)


def test_a_range_beyond_the_guest_is_refused_in_the_unit_of_its_fields():
    """The call itself takes such an end, and stops at the root's."""
    for layout, text, rule in (
        ("steps", "65", "this guest ends at 64; the end 65 is beyond it"),
        ("toy", "33", "this guest ends at 32; the end 33 is beyond it"),
        ("mixed", "4G+4K", "this guest ends at 4G; the end 4G+4K is beyond it"),
    ):
        stepper = WalkStepper(layout)
        before = stepper.state
        stepper.range.end_text.value = text
        assert rule in words(stepper)
        assert stepper.state == before
        with pytest.raises(InvalidValueError, match=re.escape(rule)):
            stepper.show(end=text)


def test_a_start_that_waits_for_its_end_is_taken_with_it(stepper):
    stepper.range.start_text.value = "40"
    assert stepper.call.span.start == 6
    stepper.range.end_text.value = "50"
    assert (stepper.call.span.start, stepper.call.span.end) == (40, 50)


@pytest.mark.parametrize(
    ("layout", "units", "spoken"),
    [
        ("steps", ["1 frame", "4 frames", "16 frames"], ("6", "34", "[6, 34)")),
        ("one-1G", ["4K", "2M", "1G"], ("1G+1M", "2G", "[1G+1M, 2G)")),
    ],
)
def test_a_machine_has_one_unit_in_menus_fields_and_handles(layout, units, spoken):
    stepper = WalkStepper(layout, only_cross_boundary=False)
    assert [name for name, _ in stepper.range.unit_menu.options] == units
    targets = [name for name, _ in stepper.target_menu.options]
    assert targets == units[: stepper.call.geometry.root_level - 1]
    assert (stepper.range.start_text.value, stepper.range.end_text.value) == spoken[:2]
    edges = sliders(stepper, "range")
    assert tuple(edges[kind]["text"] for kind in ("start", "end", "span")) == spoken


# ---- what goes wrong -----------------------------------------------------------------------------------


def test_faults_are_folded_until_they_are_asked_for_or_in_use(stepper):
    [faults] = [line for line in lines(stepper) if stepper.refuse_number in line.children]
    assert (stepper.faults_button.value, faults.layout.display) == (False, "none")
    stepper.faults_button.value = True
    assert faults.layout.display == ""
    stepper.faults_button.value = False
    assert faults.layout.display == "none"
    stepper.faults_button.value = True
    stepper.refuse_number.value = 2
    stepper.refuse_number.value = 0
    assert faults.layout.display == "", "opened by hand it stays open"
    stepper.show(layout="toy")
    for change in ({"refuse_page": 1}, {"resched_at": 3}, {"race": "drop_zap"}):
        used = WalkStepper("steps", **change)
        [faults] = [line for line in lines(used) if used.refuse_number in line.children]
        assert (used.faults_button.value, faults.layout.display) == (True, ""), change
        used.show(layout="toy")
        assert (used.faults_button.value, faults.layout.display) == (False, "none"), change


# ---- predict -------------------------------------------------------------------------------------------


def right_of(stepper) -> int:
    options = options_at(stepper.call, stepper.state.at)
    return next(n for n, option in enumerate(options) if option.right)


def test_predicting_goes_through_the_visits_to_the_end_of_the_call(stepper):
    stepper.predict_box.value = True
    stops = [stepper.state.at]
    while stepper.state.at < 28:
        use(stepper, "press.answer", right_of(stepper))
        assert words(stepper).startswith("✓ Right: ")
        stops.append(stepper.state.at)
    kinds = [stepper.call.steps[at].kind for at in stops]
    assert kinds == ["start", *["visit"] * 12, "return"]
    assert "13 of 13 right at once." in words(stepper)
    assert stepper.question.value == "The call is over."
    assert stepper.reveal_button.disabled
    assert stepper.drawn.spots == ()
    assert [button.layout.display for button in stepper.option_buttons] == ["none"] * 8


def test_answers_that_cannot_be_pressed_in_the_picture_are_buttons():
    """Of a large machine only a few of an entry's 512 neighbours are in sight."""
    stepper = WalkStepper("two-1G", predict=True)
    assert stepper.drawn.spots == ()
    shown = [button.description for button in stepper.option_buttons if button.layout.display == ""]
    assert shown == [option.text for option in options_at(stepper.call, 0)]
    assert stepper.question.value == "Which entry does the walk visit next?"
    assert stepper.where.layout.display == "none"
    stepper.option_buttons[right_of(stepper)].click()
    assert (stepper.state.at, words(stepper)[:9]) == (1, "✓ Right: ")
    stepper.show(layout="large", predict=True)
    assert [button.layout.display for button in stepper.option_buttons] == ["none"] * 8
    assert len(stepper.drawn.spots) == 3
    assert stepper.where.layout.display == ""


def test_a_wrong_answer_is_explained_and_stays(stepper):
    stepper.show(predict=True)
    right = right_of(stepper)
    wrong = (right + 1) % len(options_at(stepper.call, 0))
    stepper.answer(wrong)
    assert stepper.state.at == 0
    assert words(stepper).startswith(f"✗ Not that one: {options_at(stepper.call, 0)[wrong].text}: ")
    assert "0 of 1 right at once." in words(stepper)
    stepper.answer(right)
    assert stepper.state.at == 1
    assert "0 of 1 right at once." in words(stepper)
    stepper.answer(right_of(stepper))
    assert "1 of 2 right at once." in words(stepper)


def test_show_me_says_which_and_why_and_counts_as_not_known(stepper):
    stepper.show(predict=True)
    stepper.reveal_button.click()
    assert stepper.state.at == 1
    assert words(stepper).startswith("It is level 3 entry at 0: the walk begins at the root")
    assert "0 of 1 right at once." in words(stepper)


def test_what_is_to_come_cannot_be_reached_before_it_is_predicted(stepper):
    stepper.show(step=3, predict=True)
    before = seen(stepper, typed=False)
    assert (stepper.next_button.disabled, stepper.last_button.disabled, stepper.jump_button.disabled) == (
        True,
    ) * 3
    for go in (lambda: stepper.propose(step=4), lambda: setattr(stepper.step_slider, "value", 29)):
        go()
        assert seen(stepper, typed=False) == before
    stepper.propose(step=4)
    assert "what comes after step 3 is hidden: predict it first" in words(stepper)
    stepper.back_button.click()
    assert stepper.state.at == 1
    stepper.next_button.click()
    assert stepper.state.at == 2
    stepper.answer(right_of(stepper))
    assert stepper.state.at == 6, "the visit after the drop, the page and the restart"
    stepper.show(step=5)
    assert stepper.state.at == 4, "what was passed may be looked at"
    assert len(stepper.state.rail.kinds) == 7, "and is on the rail, up to where one has been"
    assert sliders(stepper, "step")["cursor"]["high"] == "7"
    use(stepper, "drag.step", 7)
    assert stepper.state.at == 6


def test_a_slider_with_one_step_to_go_to_has_two_ends_all_the_same(stepper):
    """The browser's slider fails where its least and its greatest value are one."""
    stepper.show(predict=True)
    assert (stepper.step_slider.min, stepper.step_slider.max) == (1, 2)
    stepper.step_slider.value = 2
    assert (stepper.state.at, stepper.step_slider.value) == (0, 1)
    assert "is hidden" in words(stepper)


def test_nothing_that_is_hidden_is_in_the_markup(stepper):
    stepper.table_box.value = True
    stepper.show(step=4, predict=True)
    everything = stepper.picture.value + stepper.table.value + stepper.head.value
    assert "of 29" not in everything
    assert "whole call" not in everything
    assert "returns" not in everything


def test_predict_off_shows_everything_again_and_forgets_the_score(stepper):
    stepper.show(predict=True)
    stepper.answer(right_of(stepper))
    stepper.predict_box.value = False
    assert (stepper.ask.layout.display, stepper.drawn.spots) == ("none", ())
    assert (words(stepper), stepper.state.hidden, stepper.step_slider.max) == ("", False, 29)
    stepper.predict_box.value = True
    assert (stepper.ask.layout.display, words(stepper)) == ("", "")


def test_another_call_is_predicted_from_its_start(stepper):
    stepper.show(step=10, predict=True)
    stepper.lock_buttons.value = False
    assert (stepper.state.at, stepper.state.hidden, stepper.step_slider.max) == (0, True, 2)


def test_an_answer_that_is_not_offered_or_not_asked_for_is_an_error(stepper):
    with pytest.raises(InvalidValueError, match="predict is off"):
        stepper.answer(0)
    with pytest.raises(InvalidValueError, match="predict is off"):
        stepper.reveal()
    stepper.show(predict=True)
    for number in (-1, 8):
        with pytest.raises(InvalidValueError, match="answers are offered here"):
            stepper.answer(number)
    stepper.show(step=29, predict=False)
    stepper.show(predict=True)
    with pytest.raises(InvalidValueError, match="the call is over"):
        stepper.reveal()


# ---- what it shows -------------------------------------------------------------------------------------


def test_the_table_is_there_on_demand_and_follows(stepper):
    assert stepper.table.value == ""
    stepper.table_box.value = True
    first = stepper.table.value
    assert "steps 1 to 13 of 29" in first
    stepper.next_button.click()
    assert stepper.table.value != first
    stepper.table_box.value = False
    assert stepper.table.value == ""
