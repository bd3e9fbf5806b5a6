"""Notebook 02's walk stepper in JupyterLab: every control used, by mouse and by key.

Expected steps are those of the call worked by hand in tests/show/walk/test_state.py: 29 steps, 12 visits, 3
splits. A frame of the toy is 10 units of a picture of 1000, and so is a step of the rail 538 : 29.
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
        self.start, self.end = (self.slider(f"{which} of the range") for which in ("start", "end"))
        self.whole = self.slider("the whole range")
        self.step, self.rail = self.slider("step"), self.slider("step, on the picture")
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        self.refuse = box.get_by_label("refuse page", exact=True)
        self.resched = box.get_by_label("reschedule at visit", exact=True)
        self.layout = box.get_by_label("layout", exact=True)
        self.race = box.get_by_label("another thread", exact=True)
        self.predict = box.get_by_label("predict", exact=True)

    def units(self, number: float) -> int:
        """So many units of the picture in pixels."""
        return round(number * self.picture.bounding_box()["width"] / 1000)

    def scrub(self, step: int, of: int) -> None:
        """Press the rail in the middle of a step, as the picture draws it."""
        self.picture.scroll_into_view_if_needed()
        rail, box = self.rail.locator(".hit").bounding_box(), self.picture.bounding_box()
        x = box["x"] + self.units(24 + 96 + 538 * (step - 0.5) / of)
        self.notebook.page.mouse.click(x, rail["y"] + rail["height"] / 2)

    def make_it_fail(self) -> None:
        """Unfold what goes wrong."""
        self.press("make it fail")
        expect(self.refuse).to_be_visible()

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
        found.tick(found.predict, False)
    if found.refuse.is_visible():
        found.press("make it fail")
    for layout, range_ in (("toy of 32 frames, two levels", "[5, 12)"), (TOY, "[6, 34)")):
        found.choose(found.layout, layout)
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
    stepper.choose(stepper.box.get_by_label("down to", exact=True), "4 frames")
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


def test_the_range_is_dragged_on_the_axis(stepper):
    stepper.drag(stepper.start, stepper.units(40))
    expect(stepper.title).to_contain_text("[10, 34)")
    expect(stepper.start).to_have_attribute("aria-valuenow", "10")
    stepper.drag(stepper.end, stepper.units(-60))
    expect(stepper.title).to_contain_text("[10, 28)")
    stepper.drag(stepper.whole, stepper.units(-100))
    expect(stepper.title).to_contain_text("[0, 18)")
    stepper.drag(stepper.end, stepper.units(900))
    expect(stepper.title).to_contain_text("[0, 64)")
    expect(stepper.remark).to_have_count(0)


def test_keys_on_the_handles_move_by_the_unit(stepper):
    stepper.choose(stepper.box.get_by_label("moves by", exact=True), "4 frames")
    expect(stepper.start).to_have_attribute("data-step", "4")
    stepper.start.press("ArrowRight")
    expect(stepper.title).to_contain_text("[10, 34)")
    stepper.end.press("End")
    expect(stepper.title).to_contain_text("[10, 64)")


def test_an_end_beyond_the_guest_is_refused(stepper):
    stepper.type(stepper.end_text, "65")
    expect(stepper.remark).to_contain_text("this guest ends at 64; the end 65 is beyond it")
    expect(stepper.title).to_contain_text("[6, 34)")


def test_the_rail_goes_to_the_step_that_is_pressed(stepper):
    for step in (23, 2, 29, 1, 12):
        stepper.scrub(step, 29)
        stepper.at(step, 29)
    stepper.rail.press("ArrowRight")
    stepper.at(13, 29)
    stepper.rail.press("PageUp")
    stepper.at(23, 29)
    page = stepper.notebook.page
    box = stepper.rail.locator(".hit").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    stepper.at(1, 29)
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 20)
    page.mouse.up()
    stepper.at(29, 29)


def test_a_page_is_refused_and_a_reschedule_comes(stepper):
    stepper.make_it_fail()
    stepper.type(stepper.refuse, "2")
    stepper.at(1, 19)
    stepper.press("last »")
    expect(stepper.answer).to_contain_text("returns -12 (-ENOMEM) after 8 visits, 1 split")
    stepper.type(stepper.refuse, "0")
    stepper.at(1, 29)
    stepper.type(stepper.resched, "7")
    stepper.at(1, 32)
    stepper.type(stepper.resched, "70")
    expect(stepper.remark).to_contain_text("it makes 12 visits, so none is number 70")


def test_another_thread_gets_in_between(stepper):
    stepper.make_it_fail()
    stepper.choose(stepper.race, "zaps the leaf while the lock is dropped, at page")
    stepper.at(1, 24)  # one thing after the other: the kernel may take two messages in either order
    stepper.press("split or drop ›")
    stepper.at(4, 24)
    stepper.press("next ›")
    stepper.at(5, 24)
    stepper.press("next ›")
    expect(stepper.answer).to_contain_text("Another thread zaps this leaf, while mmu_lock is dropped.")
    stepper.choose(stepper.race, "clears Dirty just before exchange")
    stepper.at(1, 29 + 4)  # the other thread, the lost exchange, and the leaf once more
    stepper.press("exclusive")
    expect(stepper.remark).to_contain_text("can be lost only under the shared lock")
    expect(stepper.title).to_contain_text("mmu_lock shared")


def test_a_bad_address_is_answered_in_words(stepper):
    stepper.type(stepper.end_text, "banana")
    expect(stepper.remark).to_contain_text("'banana' is no frame number")
    expect(stepper.end_text).to_have_value("banana")
    stepper.type(stepper.end_text, "34")
    expect(stepper.remark).to_have_count(0)
    stepper.at(1, 29)


def test_predicting_hides_asks_and_explains(stepper):
    stepper.tick(stepper.predict)
    expect(stepper.answer).to_contain_text("Step 1: ")
    expect(stepper.picture).not_to_contain_text("whole call")
    stepper.press("none: the call is over")
    expect(stepper.remark).to_contain_text("✗ Not that one")
    expect(stepper.answer).to_contain_text("Step 1: ")
    root = stepper.box.get_by_role("button", name="level 3 entry at 0", exact=True)
    # The entry at 0 is 16 frames wide, and begins where the tree does.
    spot, box = root.bounding_box(), stepper.picture.bounding_box()
    assert abs(spot["x"] - box["x"] - stepper.units(24)) < 2
    assert abs(spot["width"] - stepper.units(160)) < 3
    stepper.click(root)
    expect(stepper.remark).to_contain_text("✓ Right: level 3 entry at 0")
    expect(stepper.answer).to_contain_text("Step 2: ")
    stepper.press("show me")
    expect(stepper.remark).to_contain_text("It is level 2 entry at 4: the entry points to a table: step down")
    expect(stepper.answer).to_contain_text("Step 3: ")
    stepper.rail.press("Home")
    expect(stepper.answer).to_contain_text("Step 1: ")
    stepper.rail.press("End")
    expect(stepper.answer).to_contain_text("Step 3: ")  # what was seen, and no more
    stepper.tick(stepper.predict, False)
    stepper.at(3, 29)
    expect(stepper.box.get_by_role("button", name="show me")).to_be_hidden()


def test_answers_are_given_by_key(stepper):
    """One stop of Tab, arrows among the answers, Enter."""
    page = stepper.notebook.page
    stepper.tick(stepper.predict)
    expect(stepper.answer).to_contain_text("Step 1: ")
    page.keyboard.press("Tab")
    expect(stepper.box.get_by_role("button", name="level 3 entry at 0", exact=True)).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(stepper.remark).to_contain_text("✗ Not that one: level 2 entry at 4: a walk begins at the root.")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    expect(stepper.answer).to_contain_text("Step 2: ")
    expect(stepper.remark).to_contain_text("✓ Right: level 3 entry at 0")


def test_tab_reaches_every_control_in_reading_order(stepper):
    stepper.step.press("ArrowRight")
    stepper.at(2, 29)
    reached = stepper.notebook.tab_from(stepper.layout, 24)
    call = ["only what crosses (v3)", "every huge leaf", "make it fail"]
    ranges = ["INPUT", "INPUT", "SELECT", "shared", "exclusive"]
    moves = ["« first", "‹ back", "‹ split or drop", "split or drop ›", "next ›", "last »", "slider", "INPUT"]
    picture = ["slider"] * 4  # the range, its edges, and the rail
    assert [one for one in reached if one != "BUTTON"] == [
        "SELECT",
        *call,
        *ranges,
        *moves,
        *picture,
        "INPUT",
    ]


@pytest.mark.parametrize("predict", [False, True])
def test_what_steps_and_what_they_change_are_on_one_screen_of_a_laptop(stepper, predict):
    """Of 768 px JupyterLab leaves 647: from the row of the steps to the end of the rail."""
    if predict:
        stepper.tick(stepper.predict)
        stepper.press("none: the call is over")
        expect(stepper.remark).to_be_visible()
    with stepper.notebook.sized(1366, 768):
        above = stepper.box.get_by_role("button", name="« first", exact=True).bounding_box()
        rail = stepper.rail.locator(".hit").bounding_box()
        assert rail["y"] + rail["height"] - above["y"] < 647


def test_the_table_says_what_the_picture_says(stepper):
    stepper.as_table()
    row = stepper.box.get_by_role("table").locator("tr[aria-current=step]")
    expect(row).to_contain_text("call on [6, 34)")
    stepper.press("next ›")
    expect(row).to_contain_text("visit L3 0: table")
    stepper.as_table(False)
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
