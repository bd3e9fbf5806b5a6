"""What the controls of a page's life are for; what holds for all exhibits: tests/show/test_exhibit.py."""

from __future__ import annotations

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.engine.splits import SPLITS
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.story import FOLIOS, MACHINES, THEN
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.page_life.live import FOLIO_LABELS, SPLIT_LABELS, THEN_LABELS
from tdpkit.show.page_life.picture import life_svg
from tdpkit.show.page_life.words import SPLIT_TITLES, life_text
from tdpkit.show.theme import LIVE
from tests.oracles.exhibits import picture_of, use, words


@pytest.fixture
def stepper():
    return PageLifeStepper()


# ---- opening -------------------------------------------------------------------------------------------


def test_it_opens_on_the_toy_at_the_first_step(stepper):
    menus = (stepper.machine_menu, stepper.split_menu, stepper.then_menu, stepper.folios_menu)
    assert [menu.value for menu in menus] == ["toy", "v3", "convert", "2M"]
    assert (stepper.life.span.start, stepper.life.span.end, stepper.refuse_number.value) == (5, 12, 0)
    assert stepper.at == 0
    assert words(stepper) == ""
    assert stepper.step_slider.max == len(stepper.life.steps)


def test_it_can_open_on_any_story_at_any_step():
    stepper = PageLifeStepper("0x3", 6, step=30, split="none", refuse=2)
    assert (stepper.life.span.start, stepper.life.span.end, stepper.life.split, stepper.at) == (
        3,
        6,
        "none",
        29,
    )
    assert len(stepper.life.steps) == len(PageLife(3, 6, split="none", refuse=2).steps)


def test_the_menus_offer_what_the_laboratory_knows(stepper):
    assert [value for _, value in stepper.split_menu.options] == list(SPLITS)
    assert set(SPLIT_LABELS) == set(SPLIT_TITLES) == set(SPLITS)
    assert [value for _, value in stepper.then_menu.options] == list(THEN) == list(THEN_LABELS)
    assert [value for _, value in stepper.folios_menu.options] == list(FOLIOS) == list(FOLIO_LABELS)
    assert [value for _, value in stepper.machine_menu.options] == list(MACHINES)


# ---- moving --------------------------------------------------------------------------------------------


def test_slider_and_buttons_move_and_stop_at_the_ends(stepper):
    last = len(stepper.life.steps)
    stepper.back_button.click()
    assert stepper.at == 0
    stepper.next_button.click()
    stepper.next_button.click()
    assert (stepper.at, stepper.step_slider.value) == (2, 3)
    stepper.back_button.click()
    assert stepper.at == 1
    stepper.last_button.click()
    assert stepper.at == last - 1
    assert (stepper.next_button.disabled, stepper.last_button.disabled) == (True, True)
    stepper.next_button.click()
    assert stepper.at == last - 1
    stepper.first_button.click()
    assert stepper.at == 0
    assert (stepper.first_button.disabled, stepper.back_button.disabled) == (True, True)
    stepper.step_slider.value = 32
    assert stepper.at == 31
    assert f"Step 32 of {last}: " in stepper.head.value


def test_an_act_is_pressed_by_its_name_and_one_is_at_its_first_step(stepper):
    for number, (act, steps) in enumerate(stepper.life.acts.items(), 1):
        use(stepper, "press.act", number)
        assert stepper.at == steps[0]
        chosen = [spot["label"] for spot in stepper.handles.state["spots"] if spot["chosen"]]
        assert chosen == [f"go to: {act}"]
    stepper.go_to(2)
    assert stepper.at == stepper.life.acts["convert"][0]
    for act, error in ((0, InvalidValueError), (5, InvalidValueError), (1.5, InvalidTypeError)):
        with pytest.raises(error):
            stepper.go_to(act)


def test_one_scrubs_on_the_rail(stepper):
    use(stepper, "drag.step", 31)
    assert (stepper.at, stepper.step_slider.value) == (30, 31)
    [cursor] = [one for one in stepper.handles.state["sliders"] if one["kind"] == "cursor"]
    assert (cursor["low"], cursor["high"], cursor["text"]) == ("1", "85", "step 31 of 85")


def test_another_story_opens_at_the_act_one_was_in(stepper):
    use(stepper, "press.act", 3)
    stepper.split_menu.value = "none"
    assert stepper.at == stepper.life.acts["use"][0]
    stepper.then_menu.value = "punch hole"
    assert list(stepper.life.acts) == ["touch and accept", "punch a hole", "use", "touch the hole"]
    assert stepper.at == stepper.life.acts["use"][0]


def test_what_is_the_same_story_keeps_its_step(stepper):
    stepper.show(step=40)
    stepper.show(unit_level=2)
    stepper.show(start=5, split="v3")
    assert stepper.at == 39


# ---- choosing a story ----------------------------------------------------------------------------------


def test_every_menu_changes_the_story(stepper):
    stepper.split_menu.value = "none"
    assert stepper.life.lost == 9
    stepper.split_menu.value = "head and tail"
    assert (stepper.life.lost, stepper.life.saved) == (0, 9)
    stepper.folios_menu.value = "4K"
    assert stepper.life.saved == 0
    stepper.folios_menu.value = "4K, spanned"
    stepper.then_menu.value = "punch hole"
    stepper.split_menu.value = "none"
    assert stepper.life.lost == 9
    assert stepper.life.result == 0
    stepper.folios_menu.value = "2M"
    assert stepper.life.result == -22
    assert (
        "a hole will have to be of whole folios"
        in stepper.life.steps[stepper.life.acts["punch a hole"][-1]].said.sentence
    )


def test_the_range_is_dragged_and_typed(stepper):
    use(stepper, "drag.start", 3)
    stepper.range.end_text.value = "0x9"
    assert (stepper.life.span.start, stepper.life.span.end) == (3, 9)
    assert [field.value for field in (stepper.range.start_text, stepper.range.end_text)] == ["3", "9"]
    use(stepper, "drag.end", 24)
    assert (stepper.life.span.start, stepper.life.span.end) == (3, 24)
    assert stepper.range.end_text.value == "24"
    stepper.range.unit_menu.value = 2
    steps = {one["kind"]: one["step"] for one in stepper.handles.state["sliders"]}
    assert steps == {"span": "8", "start": "8", "end": "8", "cursor": "1"}


def test_a_start_beyond_the_end_waits_for_an_end_beyond_it(stepper):
    stepper.range.start_text.value = "20"
    assert "start 0x14 (80K) is above end 0xc (48K)" in words(stepper)
    assert stepper.life.span.start == 5
    stepper.range.end_text.value = "26"
    assert (stepper.life.span.start, stepper.life.span.end) == (20, 26)
    assert words(stepper) == ""


def test_another_machine_opens_on_a_range_of_its_own(stepper):
    stepper.range.start_text.value = "6"
    stepper.machine_menu.value = "x86"
    assert (stepper.life.span.start, stepper.life.span.end) == (0x105, 0x500)
    assert stepper.range.start_text.value == "1M+20K"
    stepper.range.end_text.value = "6M"
    assert stepper.life.span.end == 0x600
    stepper.machine_menu.value = "toy"
    assert (stepper.life.span.start, stepper.life.span.end) == (5, 12)
    stepper.show(machine="x86", start="2M", end="4M")
    assert (stepper.life.span.start, stepper.life.span.end) == (512, 1024)


def test_what_makes_it_fail_is_folded_while_nothing_fails():
    stepper = PageLifeStepper()
    assert not stepper.fail_button.value
    stepper.show(refuse=2)
    assert stepper.fail_button.value, "what is refused is never hidden"
    assert PageLifeStepper(refuse=2).fail_button.value


def test_a_page_that_is_refused_and_one_that_is_never_asked_for(stepper):
    stepper.refuse_number.value = 3
    assert stepper.life.result == -12
    assert words(stepper) == ""
    assert list(stepper.life.acts)[-1] == "call again"
    stepper.refuse_number.value = 7
    assert stepper.life.result == 0
    assert words(stepper) == "Note: the call asks for 4 pages, so page 7 is never refused."
    stepper.split_menu.value = "none"
    assert words(stepper) == "Note: the call asks for no page, so page 7 is never refused."
    stepper.refuse_number.value = 0
    assert words(stepper) == ""


# ---- what breaks a rule --------------------------------------------------------------------------------


def test_a_story_of_no_frame_is_refused_in_words(stepper):
    stepper.range.start_text.value = "12"
    assert "at least" in words(stepper)
    assert (stepper.life.span.start, stepper.range.start_text.value) == (5, "12"), "there to be mended"


# ---- what it shows -------------------------------------------------------------------------------------


def test_picture_and_text_are_of_the_step(stepper):
    stepper.show(step=30)
    assert life_svg(stepper.life, 29, LIVE, "ids").body in picture_of(stepper)
    assert stepper._text() == life_text(stepper.life, 29)


def test_the_table_follows_the_step(stepper):
    assert stepper.table.value == ""
    stepper.table_box.value = True
    for step in (1, 50, 85):
        stepper.show(step=step)
        assert f"Step {step} of 85: " in stepper.table.value
        assert stepper.table.value.count('aria-current="step"') == 1
    stepper.table_box.value = False
    assert stepper.table.value == ""
