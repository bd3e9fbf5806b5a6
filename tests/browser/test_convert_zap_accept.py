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

LAPTOP = 1366, 768
"""A window in which JupyterLab leaves 647 pixels for the notebook."""
CONTENT = 647


class Stepper(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.start, self.end = self.slider("start of the range"), self.slider("end of the range")
        self.step = box.locator(".widget-slider").get_by_role("slider")
        self.rail = box.locator(".touch .cursor")
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        self.fail = box.get_by_role("button", name="make it fail", exact=True)
        self.refuse = box.get_by_role("spinbutton")
        self.machine = box.get_by_label("machine", exact=True)
        self.split = box.get_by_label("split", exact=True)
        self.then = box.get_by_label("the range is", exact=True)
        self.folios = box.get_by_label("guest_memfd", exact=True)

    def at(self, step: int, words: str = "") -> None:
        expect(self.answer).to_contain_text(f"Step {step} of ")
        expect(self.answer).to_contain_text(words)

    def unfold(self) -> None:
        """Show what makes it fail."""
        if self.fail.get_attribute("aria-pressed") != "true":
            self.click(self.fail)
        expect(self.refuse).to_be_visible()


@pytest.fixture
def stepper(notebook):
    """The first one, on [5, 12) of the toy, split by v3, at its first step."""
    box = notebook.page.locator(EXHIBIT).filter(has_text="guest_memfd").first
    box.scroll_into_view_if_needed()
    found = Stepper(notebook, box)
    found.choose(found.machine, "x86, four leaves of 2M")
    found.choose(found.machine, "toy of 32 frames, leaves of eight")
    found.choose(found.folios, "2M folios: no mapping is larger")
    found.choose(found.then, "converted to shared, and back")
    found.choose(found.split, "v3: split what crosses the edges")
    expect(found.title).to_contain_text("The life of [5, 12), split by v3")
    found.unfold()
    found.type(found.refuse, "0")
    expect(found.title).to_have_text("The life of [5, 12), split by v3")
    found.click(found.fail)
    expect(found.refuse).to_be_hidden()
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
        ("go to: convert", "The guest asks for [5, 12) to be shared"),
        ("go to: use", "The guest goes on"),
        ("go to: convert back", "to be private again"),
        ("go to: touch and accept", "Step 1 of 85"),
    ):
        stepper.press(name)
        expect(stepper.answer).to_contain_text(words)
    expect(stepper.box.get_by_role("button", name="« first", exact=True)).to_be_disabled()


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_a_button_is_pressed_by_key(stepper, key):
    stepper.box.get_by_role("button", name="next ›", exact=True).press(key)
    stepper.at(2)


def test_the_acts_are_one_stop_of_the_tab_key_and_arrows_go_along_them(stepper):
    stepper.box.get_by_role("button", name="go to: touch and accept", exact=True).focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        stepper.notebook.page.keyboard.press(key)
    expect(stepper.answer).to_contain_text("The guest goes on")
    expect(stepper.box.get_by_role("button", name="go to: use", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_the_pointer_scrubs_on_the_rail_and_keys_go_on_from_there(stepper):
    """85 steps on 484 of 1000 units: the middle lies in step 43, a quarter on in step 64."""
    stepper.drag(stepper.rail, round(stepper.picture.bounding_box()["width"] * 0.121))
    stepper.at(64)
    expect(stepper.step).to_have_attribute("aria-valuenow", "64.0")
    stepper.notebook.page.keyboard.press("ArrowRight")
    stepper.at(65)
    stepper.drag(stepper.rail, 0)
    stepper.at(43)


def test_without_the_split_frames_are_lost_and_the_last_headline_says_so(stepper):
    stepper.press("last »")
    stepper.at(85, "Nothing outside [5, 12) is lost in the end.")
    # Wait for it, or the kernel may take the other story first, and the step for its last one.
    stepper.choose(stepper.split, "none: zap whole what crosses")
    expect(stepper.title).to_have_text("The life of [5, 12), no split")
    expect(stepper.picture).to_contain_text("so far; 9 in the end")
    stepper.press("last »")
    expect(stepper.answer).to_contain_text("9 frames outside [5, 12) are lost in the end.")
    stepper.choose(stepper.split, "head and tail, what followed")
    expect(stepper.picture).to_contain_text("so far; 0 in the end")


def test_the_range_is_dragged_on_the_first_strip_moved_by_key_and_typed(stepper):
    """Four frames of 32 are an eighth of the strip."""
    eighth = round(stepper.picture.bounding_box()["width"] * 0.952 / 8)
    stepper.drag(stepper.start, eighth)
    expect(stepper.title).to_contain_text("[9, 12)")
    stepper.drag(stepper.slider("the whole range"), -eighth)
    expect(stepper.title).to_contain_text("[5, 8)")
    stepper.end.press("Shift+ArrowRight")
    expect(stepper.title).to_contain_text("[5, 16)")
    expect(stepper.end_text).to_have_value("16")
    stepper.end.press("ArrowLeft")
    expect(stepper.title).to_contain_text("[5, 15)")
    stepper.type(stepper.start_text, "0x8")
    expect(stepper.title).to_contain_text("[8, 15)")
    stepper.type(stepper.end_text, "banana")
    expect(stepper.remark).to_contain_text("'banana' is no frame number")
    expect(stepper.title).to_contain_text("[8, 15)")
    stepper.type(stepper.end_text, "9")
    expect(stepper.title).to_contain_text("[8, 9)")
    expect(stepper.remark).to_have_count(0)


def height_from(notebook: Notebook, control: Locator, picture: Locator) -> float:
    """Pixels from the top of a control to the bottom of the picture."""
    notebook.settle()
    top, end = control.bounding_box(), picture.bounding_box()
    return end["y"] + end["height"] - top["y"]


def test_on_a_laptop_the_step_row_and_the_whole_picture_are_in_one_view(stepper):
    with stepper.notebook.sized(*LAPTOP):
        row = stepper.box.locator(".widget-play")
        assert height_from(stepper.notebook, row, stepper.picture) <= CONTENT


def test_a_hole_of_one_folio_under_a_mapping_that_spans_it(stepper):
    stepper.choose(stepper.then, "punched out of the file")
    stepper.press("go to: punch a hole")
    expect(stepper.answer).to_contain_text("Userspace punches pages")
    stepper.press("next ›")
    expect(stepper.answer).to_contain_text("returns -22 (-EINVAL)")
    stepper.choose(stepper.folios, "4K folios that a mapping spans")
    stepper.choose(stepper.split, "none: zap whole what crosses")
    expect(stepper.picture).to_contain_text("so far; 9 in the end")


def test_a_page_is_refused(stepper):
    stepper.unfold()
    stepper.type(stepper.refuse, "3")
    stepper.press("go to: use")
    expect(stepper.answer).to_contain_text("The guest goes on")
    stepper.press("‹ back")
    expect(stepper.answer).to_contain_text("returns -12 (-ENOMEM)")
    stepper.type(stepper.refuse, "9")
    expect(stepper.remark).to_contain_text("the call asks for 4 pages")


def test_another_machine(stepper):
    stepper.choose(stepper.machine, "x86, four leaves of 2M")
    expect(stepper.title).to_contain_text("[1M+20K, 5M)")
    stepper.press("last »")
    expect(stepper.picture).to_contain_text("517")
    expect(stepper.picture).to_contain_text("frames kept by a split")


def test_tab_reaches_every_control_in_reading_order(stepper):
    stepper.step.press("ArrowRight")
    stepper.at(2)
    moves = ["« first", "‹ back", "next ›", "last »", "slider"]
    reached = stepper.notebook.tab_from(stepper.machine, 21)
    assert reached == [
        *("SELECT", "SELECT", "SELECT", "SELECT"),
        *("INPUT", "INPUT", "SELECT", "make it fail"),
        *("BUTTON", "BUTTON"),  # to play and to stop
        *moves,
        "button",  # the acts
        *["slider"] * 4,  # the range, both edges, the rail
        "INPUT",
    ]


def test_the_table_says_what_the_picture_says(stepper):
    stepper.as_table()
    row = stepper.box.get_by_role("table").locator("tr[aria-current=step]")
    expect(row).to_contain_text("EPT violation")
    stepper.press("next ›")
    expect(row).to_contain_text("pages in hand")
    stepper.as_table(False)
    expect(stepper.box.get_by_role("table")).to_have_count(0)


# ---- the lost -12 ---------------------------------------------------------------------------------------

TITLE = "The lost -12: what each caller makes of it"
RANGED = "conversion per VM, conversion by file, punch hole"
AS_POSTED = (
    f"bool ret: -12 comes back as 1. Failed, said nothing: {RANGED}. "
    "Frames lost: memory failure. All done: ACCEPT."
)
REPAIRED = (
    f"int ret: -12 comes back as -12. Frames lost: memory failure. Failed, and said so: {RANGED}, ACCEPT."
)


class LostErrno(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box):
        super().__init__(notebook, box)
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        self.lasting = box.get_by_label("and every later one", exact=True)
        self.pamt = box.get_by_label("Dynamic PAMT", exact=True)
        self.again = box.get_by_label("memory is back: call again", exact=True)
        self.error_path = box.get_by_label("error path of v3 15/24 as posted", exact=True)

    def refuse(self, request: str) -> None:
        """Press a request on the picture."""
        self.press(f"refuse request {request}")


@pytest.fixture
def lost(notebook):
    """The exhibit as it opens."""
    page = notebook.page
    found = LostErrno(notebook, page.locator(EXHIBIT).filter(has_text=TITLE).first)
    for box in (found.lasting, found.pamt, found.again, found.error_path):
        found.tick(box, False)
    found.press("bool ret, as posted")
    found.press("refuse no request")
    expect(found.answer).to_contain_text("No request for memory is refused")
    found.type(found.start_text, "6")
    found.type(found.end_text, "12")
    expect(found.picture).to_contain_text("[6, 12) to shared")
    found.refuse("1: page table")
    expect(found.answer).to_have_text(AS_POSTED)
    notebook.settle()
    return found


def test_it_opens_as_posted_with_the_first_page_refused(lost):
    expect(lost.title).to_have_text(TITLE)
    expect(lost.answer).to_have_text(AS_POSTED)
    expect(lost.remark).to_have_count(0)
    texts = lost.picture.locator("text").all_text_contents()
    assert texts.count("1: page table refused") == 5
    assert texts.count("✗ errno lost") == 5
    assert "frame 6: 0x16 as private, 0xa6 as shared" in texts


def test_one_type_is_changed_and_the_errno_arrives(lost):
    lost.press("int ret, repaired")
    expect(lost.answer).to_have_text(REPAIRED)
    texts = lost.picture.locator("text").all_text_contents()
    assert texts.count("✓ errno kept") == 4
    assert texts.count("✗ lost in the caller") == 1, "memory failure goes on"
    lost.press("bool ret, as posted")
    expect(lost.answer).to_have_text(AS_POSTED)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_type_is_changed_by_key(lost, key):
    lost.box.get_by_role("button", name="int ret, repaired", exact=True).press(key)
    expect(lost.answer).to_have_text(REPAIRED)


def test_a_request_is_refused_by_pressing_it(lost):
    for name in ("2: S-EPT page", "3: page table", "4: S-EPT page"):
        lost.refuse(name)
        expect(lost.picture).to_contain_text(f"{name} refused")
    lost.refuse("6: nobody asks")
    expect(lost.answer).to_contain_text("Nobody asks for memory so often")
    lost.press("refuse no request")
    expect(lost.answer).to_contain_text(f"All done: {RANGED}, ACCEPT, memory failure.")


def test_arrows_go_along_the_requests_and_enter_refuses_one(lost):
    lost.box.get_by_role("button", name="refuse request 1: page table", exact=True).focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        lost.notebook.page.keyboard.press(key)
    expect(lost.picture).to_contain_text("3: page table refused")


def test_a_range_of_whole_leaves_needs_no_split_and_loses_no_errno(lost):
    """Six frames of 16 to the left the start is at 0; the end goes from 12 to 8 by key."""
    lost.drag(
        lost.slider("start of the range"), round(-lost.picture.bounding_box()["width"] * 0.952 * 6 / 16)
    )
    expect(lost.start_text).to_have_value("0")
    for _ in range(4):
        lost.slider("end of the range").press("ArrowLeft")
    expect(lost.end_text).to_have_value("8")
    expect(lost.answer).to_contain_text(f"All done: {RANGED}, ACCEPT.")
    expect(lost.answer).to_contain_text("Frames lost: memory failure.")
    expect(lost.picture).to_contain_text("whole: no split")


def test_on_a_laptop_all_of_the_lost_but_the_fields_is_in_one_view(lost):
    with lost.notebook.sized(*LAPTOP):
        kind = lost.box.get_by_role("button", name="bool ret, as posted", exact=True)
        assert height_from(lost.notebook, kind, lost.picture) <= CONTENT


def test_the_guest_faults_for_ever_as_long_as_there_is_no_memory(lost):
    lost.tick(lost.lasting)
    expect(lost.answer).to_contain_text(f"Failed, said nothing: {RANGED}, ACCEPT.")
    expect(lost.picture).to_contain_text("1 ×8")
    lost.tick(lost.again)
    expect(lost.answer).to_contain_text("All done: conversion by file, punch hole, ACCEPT.")
    expect(lost.answer).to_contain_text("Failed, said nothing: conversion per VM.")
    expect(lost.picture).to_contain_text("the attributes say shared already: nothing to do")
    lost.press("int ret, repaired")
    expect(lost.answer).to_contain_text(f"All done: {RANGED}, ACCEPT.")


def test_one_type_does_not_mend_the_conversion_per_vm(lost):
    """S196: the invalidation stays open, and a second call that succeeds does not end it."""
    lost.tick(lost.error_path)
    lost.press("int ret, repaired")
    expect(lost.answer).to_contain_text("Invalidation open: conversion per VM.")
    expect(lost.picture).to_contain_text("in progress: 1")
    lost.tick(lost.again)
    expect(lost.answer).to_contain_text("Invalidation open: conversion per VM. All done")
    expect(lost.picture).to_contain_text("in progress: 1")
    expect(lost.picture).to_contain_text("frame 6: shared faults retry, for ever")
    lost.tick(lost.error_path, False)
    expect(lost.answer).to_contain_text(f"All done: {RANGED}, ACCEPT.")


def test_dynamic_pamt_adds_a_request_that_fails_likewise(lost):
    lost.tick(lost.pamt)
    lost.refuse("3: PAMT pages")
    expect(lost.picture).to_contain_text("3: PAMT pages refused")
    expect(lost.answer).to_have_text(AS_POSTED)
    lost.refuse("4: page table")
    expect(lost.answer).to_contain_text("Failed, and said so: ACCEPT.")  # its handler's own request


def test_the_lost_table_says_what_the_picture_says(lost):
    lost.as_table()
    table = lost.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.locator("caption")).to_have_text(AS_POSTED)
    expect(table.get_by_role("row", name="punch hole").last).to_contain_text("fallocate: 1, 1 is no errno")
    lost.press("int ret, repaired")
    expect(table.locator("caption")).to_have_text(REPAIRED)
    lost.as_table(False)
    expect(table).to_have_count(0)


def test_tab_reaches_every_control_of_the_lost_in_reading_order(lost):
    reached = lost.notebook.tab_from(lost.start_text, 14)
    kinds = ["bool ret, as posted", "int ret, repaired"]
    on_the_picture = ["button", "slider", "slider", "slider"]  # the requests; the range, and its edges
    fields = ["INPUT", "INPUT", "SELECT", "INPUT"]
    assert reached == [*fields, *kinds, *["INPUT"] * 3, *on_the_picture, "INPUT"]


def test_the_picture_keeps_its_height(lost):
    before = lost.picture.bounding_box()["height"]
    lost.tick(lost.again)
    expect(lost.picture).to_contain_text("again: wrapper")
    assert lost.picture.bounding_box()["height"] == before


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
