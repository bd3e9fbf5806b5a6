"""Notebook 02's walk stepper in JupyterLab: every control used, by mouse and by key.

Expected steps are those of the call worked by hand in tests/show/test_walk.py: 29 steps, 12 visits, 3 splits.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, ShownExhibit, nth

NUMBER = "02"
"""Of the notebook that the fixture `notebook` opens."""

TOY = "toy of 64 frames, leaves of three sizes"


class Stepper(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        # The first is the answer to a prediction, and is not there while nothing is predicted.
        self.said = box.get_by_role("status").first
        self.start, self.end, self.step = nth(box.get_by_role("slider"), 3)
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        self.refuse, self.resched, self.race_number = nth(box.get_by_role("spinbutton"), 3)
        self.layout = box.get_by_label("layout", exact=True)
        self.race = box.get_by_label("another thread", exact=True)
        self.predict = box.get_by_label("predict", exact=True)

    def at(self, step: int, of: int, words: str = "") -> None:
        expect(self.answer).to_contain_text(f"Step {step} of {of}: ")
        expect(self.answer).to_contain_text(words)


@pytest.fixture
def stepper(notebook):
    """The first exhibit, on the toy's call at its first step."""
    box = notebook.page.locator(EXHIBIT).first
    box.scroll_into_view_if_needed()
    found = Stepper(notebook, box)
    if found.predict.is_checked():
        found.predict.uncheck()
    for layout, range_ in (("toy of 32 frames, two levels", "[5, 12)"), (TOY, "[6, 34)")):
        found.layout.select_option(layout)
        expect(found.title).to_contain_text(range_)
    notebook.settle()
    found.at(1, 29)
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_keys_on_the_slider_go_through_the_call(stepper):
    for key, step, words in (
        ("ArrowRight", 2, "Visit 1: the level 3 entry at 0 points to a table"),
        ("ArrowRight", 3, "Visit 2: the level 2 entry at 4 is a leaf that crosses the start"),
        ("ArrowRight", 4, "RCU, then mmu_lock are let go"),
        ("ArrowLeft", 3, "Visit 2"),
        ("End", 29, "The call returns 0 after 12 visits, 3 splits, 3 lock drops."),
        ("Home", 1, "mmu_lock is held for read"),
    ):
        stepper.step.press(key)
        stepper.at(step, 29, words)


def test_buttons_move_and_jump(stepper):
    for name, step in (
        ("next ›", 2),
        ("split or drop ›", 4),
        ("split or drop ›", 10),
        ("‹ split or drop", 4),
        ("‹ back", 3),
        ("last »", 29),
        ("« first", 1),
    ):
        stepper.press(name)
        stepper.at(step, 29)
    expect(stepper.box.get_by_role("button", name="« first", exact=True)).to_be_disabled()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_button_is_pressed_by_key(stepper, key):
    """JupyterLab has single-key commands of its own, which must not get in between."""
    stepper.box.get_by_role("button", name="next ›", exact=True).press(key)
    stepper.at(2, 29)


def test_another_form_another_lock_another_range(stepper):
    stepper.press("every huge leaf")
    expect(stepper.title).to_have_text("Split every huge leaf: [6, 34), mmu_lock shared")
    stepper.box.get_by_label("down to", exact=True).select_option("16K")
    stepper.press("last »")
    expect(stepper.answer).to_contain_text("returns 0")
    stepper.press("exclusive")
    expect(stepper.title).to_have_text("Split every huge leaf: [6, 34), mmu_lock exclusive")
    expect(stepper.answer).to_contain_text("mmu_lock is held for write")
    stepper.type(stepper.start_text, "0x8")
    expect(stepper.title).to_contain_text("[8, 34)")
    stepper.end.press("ArrowRight")
    expect(stepper.title).to_contain_text("[8, 35)")
    expect(stepper.end_text).to_have_value("35")


def test_a_page_is_refused_and_a_reschedule_comes(stepper):
    stepper.type(stepper.refuse, "2")
    stepper.at(1, 19)
    stepper.press("last »")
    expect(stepper.answer).to_contain_text("returns -12 (-ENOMEM) after 8 visits, 1 split")
    stepper.type(stepper.refuse, "0")
    stepper.at(1, 29)
    stepper.type(stepper.resched, "7")
    stepper.at(1, 32)
    stepper.type(stepper.resched, "70")
    expect(stepper.message).to_contain_text("it makes 12 visits, so none is number 70")


def test_another_thread_gets_in_between(stepper):
    stepper.race.select_option("zaps the leaf while the lock is dropped, at page")
    stepper.press("split or drop ›")
    stepper.press("next ›")
    stepper.press("next ›")
    expect(stepper.answer).to_contain_text("Another thread zaps this leaf, while mmu_lock is dropped.")
    stepper.race.select_option("clears Dirty just before exchange")
    stepper.at(1, 29 + 4)  # the other thread, the lost exchange, and the leaf once more
    stepper.press("exclusive")
    expect(stepper.message).to_contain_text("can be lost only under the shared lock")
    expect(stepper.title).to_contain_text("mmu_lock shared")


def test_a_bad_address_is_answered_in_words(stepper):
    stepper.type(stepper.end_text, "banana")
    expect(stepper.message).to_contain_text("'banana' is no frame number")
    expect(stepper.end_text).to_have_value("banana")
    stepper.at(1, 29)
    stepper.type(stepper.end_text, "34")
    expect(stepper.message).to_be_empty()


def test_predicting_hides_asks_and_explains(stepper):
    stepper.predict.check()
    expect(stepper.answer).to_contain_text("Step 1: ")
    expect(stepper.picture).not_to_contain_text("whole call")
    stepper.press("none: the call is over")
    expect(stepper.said).to_contain_text("✗ Not that one")
    expect(stepper.answer).to_contain_text("Step 1: ")
    stepper.box.get_by_role("button", name="level 3 entry at 0", exact=True).press("Enter")
    expect(stepper.said).to_contain_text("✓ Right: level 3 entry at 0")
    expect(stepper.answer).to_contain_text("Step 2: ")
    stepper.press("show me")
    expect(stepper.said).to_contain_text("It is level 2 entry at 4: the entry points to a table: step down")
    expect(stepper.answer).to_contain_text("Step 3: ")
    stepper.predict.uncheck()
    stepper.at(3, 29)
    expect(stepper.box.get_by_role("button", name="show me")).to_be_hidden()


def test_tab_reaches_every_control_in_reading_order(stepper):
    stepper.step.press("ArrowRight")
    stepper.at(2, 29)
    reached = stepper.notebook.tab_from(stepper.layout, 22)
    call = ["only what crosses (v3)", "every huge leaf", "shared", "exclusive"]
    ranges = ["slider", "INPUT", "slider", "INPUT"]
    trouble = ["INPUT", "INPUT", "SELECT"]
    moves = ["slider", "« first", "‹ back", "next ›", "last »", "‹ split or drop", "split or drop ›"]
    boxes = ["INPUT", "INPUT"]  # predict, and the table's
    assert reached == ["SELECT", "SELECT", *call, *ranges, *trouble, *moves, *boxes]


def test_the_table_says_what_the_picture_says(stepper):
    stepper.box.get_by_label("the same as a table").check()
    row = stepper.box.get_by_role("table").locator("tr[aria-current=step]")
    expect(row).to_contain_text("call on [6, 34)")
    stepper.press("next ›")
    expect(row).to_contain_text("visit L3 0: table")
    stepper.box.get_by_label("the same as a table").uncheck()
    expect(stepper.box.get_by_role("table")).to_have_count(0)


def test_the_lens_shows_a_call_of_a_thousand_steps(notebook):
    box = notebook.page.locator(EXHIBIT).last
    box.scroll_into_view_if_needed()
    lens = Stepper(notebook, box)
    lens.at(1299, 1308, "the level 2 entry at 3G+512M is a leaf that crosses the end")
    lens.press("split or drop ›")
    lens.at(1300, 1308, "let go")
    lens.step.press("Home")
    lens.at(1, 1308)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
