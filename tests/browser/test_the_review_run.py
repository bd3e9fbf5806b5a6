"""Notebook 08's claim ledger in JupyterLab: every control used, by mouse and by key; and the guess before it.

What is expected is the thread's: M14 makes C40, which M13's answer precedes; M4 takes C13 back; nine claims
are names, taste or the future.
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, Question, ShownExhibit

NUMBER = "08"
"""Of the notebook that the fixture `notebook` opens."""


class Ledger(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.menus = {
            name: box.get_by_label(name, exact=True)
            for name in ("verdict", "by", "taught in", "decided by", "claim")
        }
        self.find = box.get_by_label("find", exact=True)

    def row(self, claim: str) -> Locator:
        """The row of a claim, which can be pressed."""
        return self.box.get_by_role("button", name=re.compile(f"^{claim},"))

    def keep(self, menu: str, value: str) -> None:
        """Choose what begins with `value`; its number of claims follows."""
        begins = re.compile(
            "^" + re.escape(value).replace(r"\ ", r"\s") + r"(\s|$)"
        )  # its blanks do not break
        self.notebook.settle()  # or the option is looked for among those that the kernel replaces
        self.choose(self.menus[menu], self.menus[menu].locator("option", has_text=begins).first.inner_text())

    def says(self, words: str) -> None:
        expect(self.answer).to_contain_text(words)


@pytest.fixture
def ledger(notebook):
    """The exhibit with no filter, as the thread went, on the first claim."""
    found = Ledger(notebook, notebook.page.locator(EXHIBIT).first)
    everything = found.box.get_by_role("button", name="show all", exact=True)
    if everything.is_enabled():
        found.click(everything)
    found.press("by mail")
    found.keep("claim", "C1")
    found.says("45 claims: ")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_a_guess_is_compared_with_the_ledger(notebook):
    question = Question(notebook, "How many of them can no experiment decide?")
    question.guess("18")
    expect(question.said).to_contain_text("you said 18; no experiment decides 9 of 45: C11, C12")
    question.guess("9")
    expect(question.said).to_contain_text("Right: no experiment decides 9 of 45")


def test_a_row_is_pressed_and_its_claim_is_told_whole(ledger):
    ledger.click(ledger.row("C7"))
    expect(ledger.picture).to_contain_text("aWrMIeCw2eaTbK5Z@google.com")
    expect(ledger.menus["claim"].locator("option:checked")).to_contain_text("C7")
    ledger.notebook.page.keyboard.press("ArrowDown")
    ledger.notebook.page.keyboard.press("Enter")
    expect(ledger.row("C8")).to_be_focused()
    expect(ledger.menus["claim"].locator("option:checked")).to_contain_text("C8")


def test_the_withdrawn_claim_is_found_by_its_verdict(ledger):
    ledger.keep("verdict", "withdrawn by its author")
    ledger.says("1 of 45 claims")
    expect(ledger.row("C13")).to_have_count(1)
    expect(ledger.row("C1")).to_have_count(0)


def test_a_mail_a_notebook_and_a_kind_narrow_the_rows(ledger):
    ledger.keep("by", "M14")
    expect(ledger.row("C40")).to_have_count(1)
    expect(ledger.row("C7")).to_have_count(0)
    ledger.press("show all")
    ledger.keep("taught in", "08")
    expect(ledger.row("C12")).to_have_count(1)
    ledger.keep("decided by", "an experiment")
    expect(ledger.row("C12")).to_have_count(0)
    expect(ledger.row("C21")).to_have_count(1)


def test_words_are_looked_for_and_words_that_no_claim_has_are_refused(ledger):
    ledger.type(ledger.find, "spinlock")
    expect(ledger.row("C34")).to_have_count(1)
    expect(ledger.row("C1")).to_have_count(0)
    ledger.type(ledger.find, "spinlock of nobody")
    expect(ledger.remark).to_contain_text("none of 45 claims passes")
    ledger.type(ledger.find, "")
    expect(ledger.row("C1")).to_have_count(1)


def test_an_experiment_runs_again(ledger):
    ledger.keep("claim", "C29")
    ledger.press("run C29 again")
    expect(ledger.remark).to_contain_text(re.compile(r"C29, run again in \d+\.\d\d s: holds if …, as before"))


def test_the_rows_go_as_the_thread_went_or_by_verdict(ledger):
    """M1, with C11, is a day older than M2, with C7; a claim under a condition comes before one undecided."""

    def top(claim: str) -> float:
        return ledger.row(claim).bounding_box()["y"]

    assert top("C11") < top("C7")
    ledger.press("by verdict")
    ledger.notebook.settle()
    assert top("C1") < top("C7") < top("C11")


def test_the_table_says_what_the_picture_says(ledger):
    ledger.as_table()
    expect(ledger.box.get_by_role("table").first).to_contain_text("C45")
    ledger.as_table(False)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""

    def test_on_a_laptop_a_control_and_what_it_changes_are_on_one_screen(self, notebook: Notebook) -> None:
        """The ledger is longer than a screen. What a menu changes first is: the answer, and the claim that is
        told, down to its button.
        """
        with notebook.sized(1366, 768):
            box = notebook.page.locator(EXHIBIT).first
            card = box.get_by_role("button", name=re.compile("^run the experiment of C1 again"))
            menu = box.get_by_label("claim", exact=True)
            top, end = menu.bounding_box()["y"], card.bounding_box()
            assert end["y"] + end["height"] - top <= 647
