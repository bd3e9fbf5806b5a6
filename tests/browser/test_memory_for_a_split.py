"""Notebook 07's split budget in JupyterLab: every control used, by mouse and by key; and the guess before it.

Expected numbers by hand. Of the toy's 64 frames [5, 58) has its edges inside the leaves [4, 8) and [56, 60),
and inside [0, 16) and [48, 64) where leaves have 16 frames; it meets 14 blocks of four and 4 of sixteen.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, Question, ShownExhibit, nth

NUMBER = "07"
"""Of the notebook that the fixture `notebook` opens."""


class Budget(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.start, self.end = self.slider("start of the range"), self.slider("end of the range")
        self.start_text, self.end_text = nth(box.get_by_role("textbox"), 2)
        self.guest = box.get_by_label("guest", exact=True)
        self.leaves = box.get_by_label("leaves", exact=True)

    def says(self, words: str) -> None:
        expect(self.answer).to_contain_text(words)

    def shows(self, *words: str) -> None:
        for text in words:
            expect(self.picture.locator("text", has_text=text).first).to_be_visible()


@pytest.fixture
def budget(notebook):
    """The exhibit, as it opens."""
    found = Budget(notebook, notebook.page.locator(EXHIBIT).first)
    found.choose(found.guest, "toy: 64 frames")
    found.press("plain VM")
    found.press("the two edges")
    found.choose(found.leaves, "of 4 frames")
    found.type(found.start_text, "5")
    found.type(found.end_text, "58")
    found.says("The two edges take 2 pages; 2 would do for any range.")
    found.says("would hold 14 pages, 12 of them idle")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_a_guess_is_compared_with_the_engine(notebook):
    question = Question(notebook, "A TD is mapped by 2M leaves")
    question.guess("8 192")
    expect(question.said).to_contain_text("the split takes 2 page tables")
    question.guess("2")
    expect(question.said).to_contain_text("Right: the split takes 2 page tables, one at each edge.")


def test_larger_leaves_take_two_tables_at_each_edge(budget):
    budget.choose(budget.leaves, "of 16 frames")
    budget.says("The two edges take 4 pages; 4 would do for any range.")
    budget.says("would hold 18 pages, 14 of them idle")
    budget.shows("inside [0, 16): 1", "inside [48, 64): 1", "inside [4, 8): 1", "inside [56, 60): 1")


def test_each_kind_of_vm_takes_pages_of_its_own(budget):
    budget.press("TD")
    budget.says("The two edges take 4 pages")
    budget.shows("S-EPT pages")
    expect(budget.picture).not_to_contain_text("designs of the PAMT cache")
    budget.press("TD, Dynamic PAMT")
    budget.says("The two edges take 10 pages; 12 would do for any range.")
    budget.shows("PAMT, guest", "PAMT, S-EPT", "v3 makes sure of 4 PAMT pages before each split")
    budget.shows("designs of the PAMT cache", "fails: 244 states", "2 to 3 top-ups")


def test_everything_to_4k_uses_the_maximum(budget):
    budget.press("everything to 4K")
    budget.says("Splitting the range to 4K takes 14 pages, which is the maximum")


def test_an_edge_is_dragged_into_the_leaf_of_the_other(budget):
    """51 of 64 frames to the left: from 58 to 7, in the leaf of the start."""
    budget.drag(budget.end, round(-budget.picture.bounding_box()["width"] * 0.952 * 51 / 64))
    expect(budget.end_text).to_have_value("7")
    budget.says("The two edges take 1 page")
    budget.shows("in the same block: once")


def test_an_edge_goes_by_key_to_a_multiple_and_takes_nothing(budget):
    budget.start.press("ArrowLeft")
    expect(budget.start_text).to_have_value("4")
    budget.says("One edge takes 1 page")
    for _ in range(2):
        budget.end.press("ArrowRight")
    budget.says("No leaf crosses an edge: the split takes no page.")


def test_sixteen_gibibytes(budget):
    """S133: 8192 tables from 2M leaves, 16 more from leaves of 1G, for whole leaves."""
    budget.choose(budget.guest, 1)
    budget.says("The two edges take 2 pages; 2 would do for any range.")
    budget.says("8 190 of them idle: predictable is not the same as worth it.")
    budget.type(budget.start_text, "4G")
    budget.type(budget.end_text, "20G")
    budget.press("everything to 4K")
    budget.says("takes 8 192 pages (32 MiB)")
    budget.choose(budget.leaves, "of 1G")
    budget.says("takes 8 208 pages (32.1 MiB)")


def test_tab_reaches_every_control_in_reading_order(budget):
    assert budget.notebook.tab_from(budget.guest, 14) == [
        *("SELECT", "SELECT", "INPUT", "INPUT", "SELECT"),
        *("plain VM", "TD", "TD, Dynamic PAMT", "the two edges", "everything to 4K"),
        *("slider", "slider", "slider"),  # the range and its edges
        "INPUT",
    ]


def test_what_is_no_range_is_answered_in_words(budget):
    budget.type(budget.end_text, "65")
    expect(budget.remark).to_contain_text("this guest ends at")
    expect(budget.end_text).to_have_value("65")
    budget.shows("the range: 53 frames")
    budget.type(budget.end_text, "58")
    expect(budget.remark).to_have_count(0)


def test_the_table_says_what_the_picture_says(budget):
    budget.as_table()
    row = budget.box.get_by_role("table").locator("tr", has_text="page tables")
    expect(row.first).to_contain_text("14")
    budget.as_table(False)
    expect(budget.box.get_by_role("table")).to_have_count(0)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
