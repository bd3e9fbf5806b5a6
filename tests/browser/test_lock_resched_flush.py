"""Notebook 06's schedule player in JupyterLab: every control used, by mouse and by key.

The schedules are written by hand after S80 and S211. Under the read lock, with pages in hand, B's call begins
before A's swap and B reads after it. Under the write lock the other thread comes in before a flush that waits
for the lock to be given up, or while the lock is dropped for a page.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, Question, ShownExhibit

NUMBER = "06"
"""Of the notebook that the fixture `notebook` opens."""

LIE = "B:lock A:lock A:read A:swap B:read B:read B:unlock B:return"
LOST = "A:lock A:read B:lock B:read A:swap B:swap B:read B:unlock B:return"
ALONE = "A:lock A:read A:swap A:read A:unlock A:flush A:return"


class Player(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.scenario = box.get_by_label("scenario", exact=True)
        self.other = box.get_by_label("beside A", exact=True)
        self.ranges = box.get_by_label("ranges", exact=True)
        self.flush = box.get_by_label("flush", exact=True)
        self.shown = box.get_by_label("schedule", exact=True)
        self.text = box.get_by_role("textbox")
        self.step = box.locator(".widget-slider").get_by_role("slider")
        self.undo = box.get_by_role("button", name="undo", exact=True)

    def mover(self, words: str) -> Locator:
        """The button of a thread, by what it would do next."""
        return self.box.get_by_role("button", name=words, exact=True)

    def says(self, *words: str) -> None:
        for part in words:
            expect(self.answer).to_contain_text(part)

    def paste(self, schedule: str) -> None:
        self.type(self.text, schedule)


@pytest.fixture
def player(notebook):
    """The first one, as it opens: at the end of the shortest lie."""
    found = Player(notebook, notebook.page.locator(EXHIBIT).filter(has_text="what is judged").first)
    found.choose(found.scenario, "Exclusive, in hand")
    expect(found.title).to_contain_text("mmu_lock exclusive, pages in hand, flush if I split")
    found.choose(found.scenario, "Shared, in hand")
    expect(found.title).to_contain_text("mmu_lock shared")
    found.choose(found.shown, "what breaks first")
    expect(found.text).to_have_value(LIE)
    found.says("Step 8 of 8: B returns 0: nothing split, no flush needed.")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


# ---- the steps -----------------------------------------------------------------------------------------


def test_it_opens_on_the_shortest_lie_and_says_why_it_is_one(player):
    player.says("✗ no misreport: step 4: A split the leaf [0, 4) during B's call; step 8: B returned")
    expect(player.picture).to_contain_text("The API allows it, no caller in the series does it")
    expect(player.picture).to_contain_text("explored whole")


def test_keys_on_the_slider_go_through_the_schedule(player):
    player.step.focus()
    for key, words in (
        ("ArrowLeft", "Step 7 of 8: B drops mmu_lock"),
        ("Home", "Before the first step"),
        ("ArrowRight", "Step 1 of 8: B takes mmu_lock for read"),
        ("End", "Step 8 of 8"),
    ):
        player.step.press(key)
        player.says(words)


def test_buttons_step(player):
    for name, words in (
        ("‹ back", "Step 7 of 8"),
        ("« first", "Before the first step"),
        ("next ›", "Step 1 of 8"),
        ("last »", "Step 8 of 8"),
    ):
        player.press(name)
        player.says(words)


# ---- the setting ---------------------------------------------------------------------------------------


def test_under_the_exclusive_lock_with_pages_in_hand_only_the_flush_comes_late(player):
    player.press("exclusive")
    expect(player.title).to_contain_text("mmu_lock exclusive, pages in hand")
    player.says("✗ no stale TLB: step 3: A took the leaf [0, 4) out of the tree")
    expect(player.picture).not_to_contain_text("The API allows it")
    player.choose(player.flush, "Flush if I split, under the lock")
    player.says("✓ Nothing breaks")


def test_on_demand_the_lock_is_dropped_and_the_report_is_false_again(player):
    player.press("exclusive")
    player.says("no stale TLB")
    player.press("on demand")
    expect(player.title).to_contain_text("mmu_lock exclusive, pages on demand")
    player.press("show how “no misreport” breaks soonest")
    player.says("Step 16 of 16: B returns 0: nothing split", "✗ no misreport: step 9")


def test_what_breaks_is_chosen_by_key(player):
    breaks = player.box.get_by_role("button", name="show how “no stale TLB” breaks soonest", exact=True)
    breaks.focus()
    player.notebook.page.keyboard.press("Enter")
    expect(breaks).to_have_attribute("aria-pressed", "true")
    player.says("✗ no stale TLB: step 3")


def test_flush_always_survives_and_shows_samples(player):
    player.choose(player.flush, "Flush always")
    player.says("✓ Nothing breaks")
    expect(player.picture).not_to_contain_text("breaks in")
    player.choose(player.shown, 1)
    player.says("✓ Nothing breaks")


def test_a_scenario_sets_all_at_once(player):
    player.choose(player.scenario, "Dirty tracking, flush if I changed")
    expect(player.title).to_contain_text("dirty tracking")
    player.press("show how “no lost dirty bit” breaks soonest")
    player.says("G writes to frame 2", "nothing was logged")
    player.choose(player.scenario, "ACCEPT, neither")
    player.says("✗ no stale TLB")
    expect(player.flush).to_be_hidden()


def test_a_zap_and_other_ranges_run_beside_a(player):
    player.press("exclusive")
    player.choose(player.other, "B zaps the whole leaf")
    player.says("✓ Nothing breaks")
    player.choose(player.other, "B splits the same range")
    player.choose(player.ranges, "two edges")
    expect(player.picture).to_contain_text("splits [2, 6)")


# ---- a schedule of one's own ---------------------------------------------------------------------------


def test_a_schedule_is_pasted(player):
    player.paste(LOST)
    player.says("Step 9 of 9: B returns 0: nothing split", "step 5: A ", "no misreport")
    expect(player.picture).to_contain_text("lost")
    player.paste(ALONE)
    player.says("Step 7 of 7: A returns 0: split, flushed", "✓ Every rule holds so far")  # B has not begun


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A:lock A:store", "step 2 does not fit this code: A does 'read' there, not 'store'"),
        ("C:lock", "the threads here are A and B"),
        (f"{ALONE} A:lock", "step 8, 'A:lock', cannot be: A has returned"),
        ("lock", "a step is written thread:token"),
    ],
)
def test_a_text_that_does_not_fit_is_told_the_step_and_the_picture_stays(player, text, words):
    player.paste(text)
    player.says(words, "The picture shows the last good schedule")
    expect(player.picture).to_contain_text("none split")
    expect(player.text).to_have_value(text)
    player.paste(LIE)
    player.says("Step 8 of 8: B returns 0")


def test_threads_are_moved_one_after_the_other_and_a_step_is_taken_back(player):
    player.press("exclusive")
    player.says("no stale TLB")
    player.press("« first")
    player.says("Before the first step")
    for at, words in enumerate(("A: lock", "A: read", "A: store"), 1):
        player.press(words)
        player.says(f"Step {at} of {at}: A ")
    player.says("Step 3 of 3: A stores")
    expect(player.mover("B: waits")).to_be_disabled()
    player.press("undo")
    expect(player.text).to_have_value("A:lock A:read")


def test_tab_reaches_every_control_in_reading_order(player):
    player.press("‹ back")
    player.says("Step 7 of 8")
    reached = player.notebook.tab_from(player.scenario, 23)
    assert reached == [
        *("SELECT", "SELECT", "SELECT"),
        *("shared", "exclusive", "on demand", "in hand", "SELECT"),
        *("SELECT", "INPUT", "A: read", "B: return", "undo"),
        *("BUTTON", "BUTTON"),  # to play and to stop
        *("« first", "‹ back", "next ›", "last »", "slider"),
        "button",  # what breaks
        "slider",  # the cursor
        "INPUT",
    ]


def test_the_table_says_what_the_picture_says(player):
    player.as_table()
    table = player.box.get_by_role("table").first
    expect(table).to_contain_text("leaf → table")
    player.as_table(False)
    expect(player.box.get_by_role("table")).to_have_count(0)


# ---- the guess -----------------------------------------------------------------------------------------


def test_the_guess_is_compared(notebook):
    question = Question(notebook, "Was a leaf split during its")
    question.guess("in some schedule")
    expect(question.said).to_contain_text("Right: the search went through all 1 512 schedules")
    question.guess("never")
    expect(question.said).to_contain_text("Not yet: you said never")


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
