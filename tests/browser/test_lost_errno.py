"""Notebook 05's lost -12 in JupyterLab: every control used, by mouse and by key.

What each caller makes of the value is that of kernel-facts 6.12 D1 and 9.7.
"""

import pytest
from playwright.sync_api import expect

from tdpkit.show.theme import DARK, LIGHT
from tests.browser.lab import EXHIBIT, LOOPBACK, Notebook, ShownExhibit, open_notebook, rgb

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


@pytest.fixture(scope="module")
def notebook(browser, server):
    with open_notebook(browser, server, server.find("05")) as notebook:
        notebook.run_all()
        yield notebook


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


def test_the_table_says_what_the_picture_says(lost):
    lost.box.get_by_text("the same as a table").click()
    table = lost.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.locator("caption")).to_have_text(AS_POSTED)
    expect(table.get_by_role("row", name="punch hole").last).to_contain_text("fallocate: 1, 1 is no errno")
    lost.press("int ret, mended")
    expect(table.locator("caption")).to_have_text(MENDED)
    lost.box.get_by_text("the same as a table").click()
    expect(table).to_have_count(0)


def test_tab_reaches_every_control_in_reading_order(lost):
    reached = lost.notebook.tab_from(lost.request, 7)
    buttons = ["bool ret, as posted", "int ret, mended"]
    assert reached == ["slider", "INPUT", "INPUT", *buttons, "INPUT", "INPUT"]


def test_the_picture_follows_the_theme_and_keeps_its_height(notebook, lost):
    assert notebook.papers(lost.picture) == (rgb(LIGHT["paper"]), rgb(DARK["paper"]))
    before = lost.picture.bounding_box()["height"]
    lost.again.check()
    expect(lost.picture).to_contain_text("again: wrapper")
    assert lost.picture.bounding_box()["height"] == before


def test_the_console_is_quiet_and_nothing_leaves_the_machine(notebook, lost):
    """Last in this file, so that it also answers for all that was done above."""
    lost.press("int ret, mended")
    expect(lost.answer).to_have_text(MENDED)
    assert notebook.complaints == []
    assert notebook.hosts <= LOOPBACK
    assert notebook.hosts  # or nothing was recorded
