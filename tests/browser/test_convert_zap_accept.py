"""Notebook 05's conversion stepper and lost -12 in JupyterLab: every control used, by mouse and by key.

Expected numbers: on the toy [5, 12) shares leaves with nine other frames; each of its two crossing leaves
needs two pages. What each caller makes of the lost value is that of S107 and S196.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, ShownExhibit, nth

NUMBER = "05"
"""Of the notebook that the fixture `notebook` opens."""

BOX = ".jp-OutputArea-output:has(select):has([role=slider]):has-text('guest_memfd')"


class Stepper(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.start, self.end, self.step = nth(box.get_by_role("slider"), 3)
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        [self.refuse] = nth(box.get_by_role("spinbutton"), 1)
        self.machine = box.get_by_label("machine", exact=True)
        self.split = box.get_by_label("split", exact=True)
        self.then = box.get_by_label("the range is", exact=True)
        self.folios = box.get_by_label("guest_memfd", exact=True)

    def at(self, step: int, words: str = "") -> None:
        expect(self.answer).to_contain_text(f"Step {step} of ")
        expect(self.answer).to_contain_text(words)


@pytest.fixture
def stepper(notebook):
    """The first one, on [5, 12) of the toy, split by v3, at its first step."""
    box = notebook.page.locator(BOX).first
    box.scroll_into_view_if_needed()
    found = Stepper(notebook, box)
    found.machine.select_option("x86, four leaves of 2M")
    found.machine.select_option("toy of 32 frames, leaves of eight")
    found.folios.select_option("2M folios: no mapping is larger")
    found.then.select_option("converted to shared, and back")
    found.split.select_option("v3: split what crosses the edges")
    expect(found.title).to_contain_text("The life of [5, 12), split by v3")
    found.type(found.refuse, "0")
    expect(found.title).to_have_text("The life of [5, 12), split by v3")
    notebook.settle()
    found.step.press("Home")
    found.at(1)
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_keys_on_the_slider_go_through_the_story(stepper):
    for key, words in (
        ("ArrowRight", "Step 2 of 85: For the fault KVM takes"),
        ("ArrowRight", "Step 3 of 85: mmu_lock is taken for read"),
        ("ArrowLeft", "Step 2 of 85: "),
        ("End", "Step 85 of 85: "),
        ("Home", "Step 1 of 85: EPT violation: the S-EPT has nothing at frame 0."),
    ):
        stepper.step.press(key)
        expect(stepper.answer).to_contain_text(words)


def test_buttons_move_and_go_to_acts(stepper):
    for name, words in (
        ("next ›", "Step 2 of 85"),
        ("last »", "Step 85 of 85"),
        ("‹ back", "Step 84 of 85"),
        ("2 convert", "The guest asks for [5, 12) to be shared"),
        ("3 use", "The guest goes on"),
        ("4 convert back", "to be private again"),
        ("1 touch and accept", "Step 1 of 85"),
    ):
        stepper.press(name)
        expect(stepper.answer).to_contain_text(words)
    expect(stepper.box.get_by_role("button", name="« first", exact=True)).to_be_disabled()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_button_is_pressed_by_key(stepper, key):
    stepper.box.get_by_role("button", name="next ›", exact=True).press(key)
    stepper.at(2)


def test_without_the_split_frames_are_lost(stepper):
    stepper.press("last »")
    stepper.at(85)  # or the kernel may take the other story first, and the step for its last one
    expect(stepper.picture).to_contain_text("0 frames lost")
    stepper.split.select_option("none: zap whole what crosses")
    expect(stepper.title).to_have_text("The life of [5, 12), no split")
    stepper.press("last »")
    expect(stepper.picture).to_contain_text("9 frames lost")
    stepper.split.select_option("head and tail, what followed")
    expect(stepper.picture).to_contain_text("0 frames lost")


def test_the_range_by_slider_and_by_text(stepper):
    stepper.end.press("ArrowRight")
    expect(stepper.title).to_contain_text("[5, 13)")
    expect(stepper.end_text).to_have_value("13")
    stepper.type(stepper.start_text, "0x8")
    expect(stepper.title).to_contain_text("[8, 13)")
    stepper.type(stepper.end_text, "banana")
    expect(stepper.message).to_contain_text("'banana' is no frame number")
    expect(stepper.title).to_contain_text("[8, 13)")
    stepper.type(stepper.end_text, "9")
    expect(stepper.message).to_be_empty()
    expect(stepper.title).to_contain_text("[8, 9)")


def test_a_hole_of_one_folio_under_a_mapping_that_spans_it(stepper):
    stepper.then.select_option("punched out of the file")
    stepper.press("2 punch a hole")
    expect(stepper.answer).to_contain_text("Userspace punches pages")
    stepper.press("next ›")
    expect(stepper.answer).to_contain_text("returns -22 (-EINVAL)")
    stepper.folios.select_option("4K folios that a mapping spans")
    stepper.split.select_option("none: zap whole what crosses")
    expect(stepper.picture).to_contain_text("9 frames lost")


def test_a_page_is_refused(stepper):
    stepper.type(stepper.refuse, "3")
    stepper.press("3 use")
    expect(stepper.answer).to_contain_text("The guest goes on")
    stepper.press("‹ back")
    expect(stepper.answer).to_contain_text("returns -12 (-ENOMEM)")
    stepper.type(stepper.refuse, "9")
    expect(stepper.message).to_contain_text("the call asks for 4 pages")


def test_another_machine(stepper):
    stepper.machine.select_option("x86, four leaves of 2M")
    expect(stepper.title).to_contain_text("[1M+20K, 5M)")
    stepper.press("last »")
    expect(stepper.picture).to_contain_text("517")
    expect(stepper.picture).to_contain_text("frames kept by a split")


def test_tab_reaches_every_control_in_reading_order(stepper):
    stepper.step.press("ArrowRight")
    stepper.at(2)
    moves = ["slider", "« first", "‹ back", "next ›", "last »"]
    acts = ["1 touch and accept", "2 convert", "3 use", "4 convert back"]
    reached = stepper.notebook.tab_from(stepper.machine, 20)
    assert reached == [
        *("SELECT", "SELECT", "SELECT", "SELECT", "INPUT", "SELECT"),
        *("slider", "INPUT", "slider", "INPUT"),
        *moves,
        *acts,
        "INPUT",
    ]


def test_the_table_says_what_the_picture_says(stepper):
    stepper.box.get_by_label("the same as a table").check()
    row = stepper.box.get_by_role("table").locator("tr[aria-current=step]")
    expect(row).to_contain_text("EPT violation")
    stepper.press("next ›")
    expect(row).to_contain_text("pages in hand")
    stepper.box.get_by_label("the same as a table").uncheck()
    expect(stepper.box.get_by_role("table")).to_have_count(0)


# ---- the lost -12 ---------------------------------------------------------------------------------------

TITLE = "The lost -12: what four callers make of it"
AS_POSTED = (
    "bool ret: -12 comes back as 1. Failed, said nothing: conversion, punch hole. "
    "Frames lost: memory failure. All done: ACCEPT."
)
MENDED = (
    "int ret: -12 comes back as -12. Frames lost: memory failure. "
    "Failed, and said so: conversion, punch hole, ACCEPT."
)


class LostErrno(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box):
        super().__init__(notebook, box)
        self.request = box.get_by_role("slider")
        self.lasting = box.get_by_label("and every later one", exact=True)
        self.pamt = box.get_by_label("Dynamic PAMT", exact=True)
        self.again = box.get_by_label("memory is back: call again", exact=True)


@pytest.fixture
def lost(notebook):
    """The exhibit as it opens."""
    page = notebook.page
    found = LostErrno(notebook, page.locator(EXHIBIT).filter(has_text=TITLE).first)
    for box in (found.lasting, found.pamt, found.again):
        box.uncheck()
    found.press("bool ret, as posted")
    found.request.press("Home")
    expect(found.answer).to_contain_text("No request for memory is refused")
    found.request.press("ArrowRight")
    expect(found.answer).to_have_text(AS_POSTED)
    notebook.settle()
    return found


def test_it_opens_as_posted_with_the_first_page_refused(lost):
    expect(lost.title).to_have_text(TITLE)
    expect(lost.answer).to_have_text(AS_POSTED)
    expect(lost.message).to_be_empty()
    texts = lost.picture.locator("text").all_text_contents()
    assert texts.count("1: page table refused") == 4
    assert texts.count("✗ errno lost") == 4
    assert "frame 6 reads 0x16 as private, 0xa6 as shared" in texts


def test_one_type_is_changed_and_the_errno_arrives(lost):
    lost.press("int ret, mended")
    expect(lost.answer).to_have_text(MENDED)
    texts = lost.picture.locator("text").all_text_contents()
    assert texts.count("✓ errno kept") == 3
    assert texts.count("✗ lost in the caller") == 1, "memory failure cannot fail"
    lost.press("bool ret, as posted")
    expect(lost.answer).to_have_text(AS_POSTED)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_type_is_changed_by_key(lost, key):
    lost.box.get_by_role("button", name="int ret, mended", exact=True).press(key)
    expect(lost.answer).to_have_text(MENDED)


def test_arrows_on_the_slider_choose_the_request(lost):
    for name in ("2: S-EPT page", "3: page table", "4: S-EPT page"):
        lost.request.press("ArrowRight")
        expect(lost.picture).to_contain_text(f"{name} refused")
        expect(lost.box.get_by_text(name, exact=True).last).to_be_visible()
    lost.request.press("End")
    expect(lost.answer).to_contain_text("Nobody asks for memory so often")
    lost.request.press("Home")
    expect(lost.answer).to_contain_text("All done: conversion, punch hole, ACCEPT, memory failure.")


def test_the_guest_faults_for_ever_as_long_as_there_is_no_memory(lost):
    lost.lasting.check()
    expect(lost.answer).to_contain_text("Failed, said nothing: conversion, punch hole, ACCEPT.")
    expect(lost.picture).to_contain_text("1 ×8")
    lost.again.check()
    expect(lost.answer).to_contain_text("All done: punch hole, ACCEPT.")
    expect(lost.answer).to_contain_text("Failed, said nothing: conversion.")
    expect(lost.picture).to_contain_text("the attributes say shared already: nothing to do")
    lost.press("int ret, mended")
    expect(lost.answer).to_contain_text("All done: conversion, punch hole, ACCEPT.")


def test_dynamic_pamt_adds_a_request_that_fails_likewise(lost):
    lost.pamt.check()
    lost.notebook.settle()
    for _ in range(2):
        lost.request.press("ArrowRight")
    expect(lost.picture).to_contain_text("3: PAMT pages refused")
    expect(lost.answer).to_have_text(AS_POSTED)
    lost.request.press("ArrowRight")
    expect(lost.answer).to_contain_text("Failed, and said so: ACCEPT.")  # its handler's own request


def test_the_lost_table_says_what_the_picture_says(lost):
    lost.box.get_by_text("the same as a table").click()
    table = lost.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.locator("caption")).to_have_text(AS_POSTED)
    expect(table.get_by_role("row", name="punch hole").last).to_contain_text("fallocate: 1, 1 is no errno")
    lost.press("int ret, mended")
    expect(table.locator("caption")).to_have_text(MENDED)
    lost.box.get_by_text("the same as a table").click()
    expect(table).to_have_count(0)


def test_tab_reaches_every_control_of_the_lost_in_reading_order(lost):
    reached = lost.notebook.tab_from(lost.request, 7)
    buttons = ["bool ret, as posted", "int ret, mended"]
    assert reached == ["slider", "INPUT", "INPUT", *buttons, "INPUT", "INPUT"]


def test_the_picture_keeps_its_height(lost):
    before = lost.picture.bounding_box()["height"]
    lost.again.check()
    expect(lost.picture).to_contain_text("again: wrapper")
    assert lost.picture.bounding_box()["height"] == before


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
