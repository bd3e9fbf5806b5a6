"""The conversion stepper's handlers, called directly and through the traits a browser would set."""

from __future__ import annotations

from threading import Event, Thread
from time import sleep

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.engine.splits import SPLITS
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.story import FOLIOS, MACHINES, THEN
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.page_life import live as page_life
from tdpkit.show.page_life.live import FOLIO_LABELS, SPLIT_LABELS, THEN_LABELS
from tdpkit.show.page_life.picture import life_svg
from tdpkit.show.page_life.words import SPLIT_TITLES, life_text
from tdpkit.show.theme import LIGHT
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def stepper():
    return PageLifeStepper()


def controls(stepper: PageLifeStepper) -> list[object]:
    return [
        control.value
        for control in (
            stepper.machine_menu, stepper.split_menu, stepper.then_menu, stepper.folios_menu,
            stepper.refuse_number, stepper.range.start_slider, stepper.range.end_slider,
            stepper.range.unit_menu, stepper.step_slider,
        )
    ]  # fmt: skip


def shown(stepper: PageLifeStepper) -> dict[str, object]:
    """All that a learner sees, but for a refusal and what is typed."""
    buttons = (stepper.first_button, stepper.back_button, stepper.next_button, stepper.last_button)
    return {
        "story": stepper.story,
        "at": stepper.at,
        "picture": picture_of(stepper),
        "table": stepper.table.value,
        "controls": controls(stepper),
        "acts": [(button.description, button.button_style) for button in stepper.act_buttons],
        "off": [button.disabled for button in buttons],
    }


# ---- opening -------------------------------------------------------------------------------------------


def test_it_opens_on_the_toy_at_the_first_step(stepper):
    assert controls(stepper) == ["toy", "v3", "convert", "2M", 0, 5, 12, 1, 1]
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


def test_the_bundle_has_the_live_view_the_picture_and_the_text(stepper):
    bundle = stepper._repr_mimebundle_()
    assert VIEW in bundle
    assert bundle["image/svg+xml"] == life_svg(stepper.life, 0, LIGHT)
    assert bundle["text/plain"] == life_text(stepper.life, 0)


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
    assert f"Step 32 of {last}: " in stepper.picture.value


def test_a_button_for_each_act_goes_to_its_first_step_and_is_marked_there(stepper):
    for number, (button, (act, steps)) in enumerate(
        zip(stepper.act_buttons, stepper.life.acts.items(), strict=True), 1
    ):
        assert button.description == f"{number} {act}"
        button.click()
        assert stepper.at == steps[0]
        assert [one.button_style for one in stepper.act_buttons].count("info") == 1
        assert button.button_style == "info"
    stepper.show(act=2)
    assert stepper.at == stepper.life.acts["convert"][0]


def test_another_story_opens_at_the_act_one_was_in(stepper):
    stepper.act_buttons[2].click()
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
        "a hole has to be of whole folios"
        in stepper.life.steps[stepper.life.acts["punch a hole"][-1]].said.sentence
    )


def test_the_range_is_set_by_slider_and_by_text(stepper):
    stepper.range.start_slider.value = 3
    stepper.range.end_text.value = "0x9"
    assert (stepper.life.span.start, stepper.life.span.end) == (3, 9)
    stepper.range.unit_menu.value = 2
    assert (stepper.range.start_slider.max, stepper.range.end_slider.value) == (4, 1)
    stepper.range.start_slider.value = 1  # the field and the picture follow, once the end allows it
    assert (stepper.life.span.start, stepper.life.span.end) == (8, 9)
    stepper.range.end_slider.value = 3
    assert (stepper.life.span.start, stepper.life.span.end) == (8, 24)
    assert stepper.range.end_text.value == "24"


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


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"step": 0}, InvalidValueError, "this story has steps 1 to 85; 0 is none"),
        ({"step": 86}, InvalidValueError, "86 is none"),
        ({"step": 1.5}, InvalidTypeError, "whole numbers"),
        ({"act": 5}, InvalidValueError, "acts 1 to 4"),
        ({"start": "banana"}, InvalidValueError, "no frame number"),
        ({"end": 5}, InvalidValueError, "at least"),
        ({"end": 33}, InvalidValueError, "at most"),
        ({"start": True}, InvalidTypeError, "whole numbers"),
        ({"split": "v4"}, InvalidValueError, "is none"),
        ({"split": ["v3"]}, InvalidTypeError, "named by a text"),
        ({"machine": "arm"}, InvalidValueError, "is none"),
        ({"machine": {}}, InvalidTypeError, "named by a text"),
        ({"folios": None}, InvalidTypeError, "named by a text"),
        ({"machine": "x86", "folios": "4K"}, InvalidValueError, "page by page"),
        ({"refuse": -1}, InvalidValueError, "at least 0"),
        ({"unit_level": 3}, InvalidValueError, "leaves of this guest"),
        ({"unit_level": 9}, InvalidValueError, "level"),
        ({"colour": "red"}, InvalidTypeError, "no 'colour'"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_the_state_stays(stepper, change, error, rule):
    stepper.show(step=30)
    stepper.table_box.value = True
    before = shown(stepper)
    with pytest.raises(error) as refused:
        stepper.show(**change)
    assert rule in str(refused.value)
    stepper.propose(**change)
    assert rule in words(stepper)
    assert "The picture shows the last good story." in words(stepper)
    assert shown(stepper) == before
    stepper.show(step=31)
    assert words(stepper) == ""
    with pytest.raises(error):
        PageLifeStepper(**{"start": 5, "end": 12, **change})


def test_what_is_typed_and_refused_stays_in_its_field(stepper):
    stepper.range.end_text.value = "<b>4</b>"
    assert stepper.range.end_text.value == "<b>4</b>"
    assert "&lt;b&gt;" in stepper.message.value
    assert stepper.life.span.end == 12
    stepper.range.end_text.value = "13"
    assert stepper.life.span.end == 13


def test_a_slider_that_would_empty_the_range_springs_back(stepper):
    stepper.range.start_slider.value = 12
    assert "at least" in words(stepper)
    assert stepper.range.start_slider.value == 5


# ---- the table -----------------------------------------------------------------------------------------


def test_the_table_follows_the_step(stepper):
    assert stepper.table.value == ""
    stepper.table_box.value = True
    for step in (1, 50, 85):
        stepper.show(step=step)
        assert f"Step {step} of 85: " in stepper.table.value
        assert stepper.table.value.count('aria-current="step"') == 1
    stepper.table_box.value = False
    assert stepper.table.value == ""


def test_two_steppers_on_a_page_share_no_id_and_no_state():
    one, other = PageLifeStepper(), PageLifeStepper()
    one.show(step=9)
    assert other.at == 0
    assert one._ids != other._ids
    assert picture_of(one) != picture_of(other)
    other.show(step=9)
    assert picture_of(one) == picture_of(other)


def test_two_controls_used_at_once_in_two_threads_are_both_heard(stepper, monkeypatch):
    """JupyterLab answers the first messages in the kernel's main thread and later ones in another."""
    begun, life_of = Event(), page_life._life

    def slow(*story):
        begun.set()
        sleep(0.05)
        return life_of(*story)

    monkeypatch.setattr(page_life, "_life", slow)
    one = Thread(target=lambda: setattr(stepper.folios_menu, "value", "4K, spanned"))
    one.start()
    assert begun.wait(10)
    stepper.split_menu.value = "none"
    one.join()
    assert (stepper.story.folios, stepper.story.split) == ("4K, spanned", "none")
    assert controls(stepper)[1:4] == ["none", "convert", "4K, spanned"]
