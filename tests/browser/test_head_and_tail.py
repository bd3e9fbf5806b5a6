"""Notebook 03's strategy race as a learner meets it: opened in JupyterLab, run, and used.

Expected numbers are those of the kernel's own C code and of the review (S230 and S233, S122, S133).
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, ShownExhibit, nth

NUMBER = "03"
"""Of the notebook that the fixture `notebook` opens."""

HUGE = "16 TiB of 2M leaves, the thread's hole"
ROWS = [
    *("v3 walk", "two calls", "head and tail", "one block per edge"),
    *("empty range", "plain split", "head rounded up"),
]


def title(span: str) -> str:
    return f"Seven ways to make the edges of {span} safe"


class Race(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.guest = box.get_by_label("guest", exact=True)
        self.unit = box.get_by_label("slider unit", exact=True)
        self.calls_of = box.get_by_label("calls of", exact=True)
        self.sliders = dict(zip(("start", "end"), nth(box.get_by_role("slider"), 2), strict=True))
        self.fields = dict(zip(("start", "end"), nth(box.get_by_role("textbox"), 2), strict=True))
        self.first_row = self.picture.locator("text[font-size='13']").nth(1)  # the answer is before it

    def open(self, guest: str, span: str) -> None:
        """Choose a guest, from the toy: each opens with its own range."""
        self.press("as argued")
        self.guest.select_option("toy: 64 frames in four leaves")
        expect(self.title).to_have_text(title("[20K, 136K)"))
        self.guest.select_option(guest)
        expect(self.title).to_have_text(title(span))
        self.notebook.settle()  # the controls follow the picture

    def texts(self) -> list[str]:
        return self.picture.locator("text").all_text_contents()

    def row(self, name: str) -> list[str]:
        """What stands beside a row's name, up to the next one."""
        texts = self.texts()
        names = [*ROWS, "and then the zap"]
        first = texts.index(name) + 1
        last = next(at for at in range(first, len(texts) + 1) if at == len(texts) or texts[at] in names)
        return texts[first:last]

    def order(self) -> list[str]:
        return [text for text in self.texts() if text in ROWS]

    def markup(self) -> str:
        return self.picture.evaluate("svg => svg.outerHTML")


@pytest.fixture
def race(notebook):
    """The first exhibit, in its opening state."""
    race = Race(notebook, notebook.page.locator(EXHIBIT).first)
    race.open(HUGE, "[2T+4K, 14T+4K)")
    race.calls_of.select_option("v3 walk")
    expect(race.picture).to_contain_text("v3 walk: 1 call")
    return race


# ---- what it shows -------------------------------------------------------------------------------------


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_it_opens_with_the_numbers_of_the_thread_s_range(race):
    expect(race.answer).to_have_text(
        "Five are exact, at 12 to 6 303 777 visits. One makes 6 291 455 splits too many, "
        "one costs 1 frame outside the range."
    )
    visits = dict(zip(ROWS, ["6 303 777", "523", "16", "12", "12", "25 178 142", "16"], strict=True))
    assert [name for name, number in visits.items() if number not in race.row(name)] == []
    assert "6 304 283" in race.row("and then the zap")
    assert [name for name in ROWS if "exact" in race.row(name)] == ROWS[:5]
    assert "not minimal" in race.row("plain split")
    assert "wrong" in race.row("head rounded up")


@pytest.mark.parametrize(
    ("guest", "span", "visits"),
    [
        ("16 TiB of 1G leaves, the same hole", "[2T+4K, 14T+4K)", ["12 837", "527", "20", "16", "16"]),
        ("one 1G leaf, a range of 8 KiB", "[1G+2M+28K, 1G+2M+36K)", ["8", "522", "10", "8", "11"]),
    ],
)
def test_another_guest_opens_with_its_own_range(race, guest, span, visits):
    race.open(guest, span)
    for name, number in zip(ROWS, visits, strict=False):
        assert number in race.row(name)


# ---- moving the range ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "key", "span"),
    [
        ("start", "ArrowRight", "[2T+1G, 14T+4K)"),  # from 2T+4K: the slider counts whole units
        ("start", "Home", "[0, 14T+4K)"),
        ("end", "ArrowLeft", "[2T+4K, 13T+1023G)"),
        ("end", "End", "[2T+4K, 16T)"),
    ],
)
def test_a_key_on_a_slider_moves_the_range_and_every_row(race, which, key, span):
    race.sliders[which].press(key)
    expect(race.title).to_have_text(title(span))
    expect(race.fields[which]).to_have_value(span.strip("[)").split(", ")[which == "end"])
    expect(race.answer).to_contain_text("exact, at ")


def test_edges_that_no_leaf_crosses_cost_the_arithmetic_nothing(race):
    race.type(race.fields["start"], "2T")
    expect(race.title).to_have_text(title("[2T, 14T+4K)"))
    race.type(race.fields["end"], "14T")
    expect(race.title).to_have_text(title("[2T, 14T)"))
    expect(race.answer).to_contain_text("No leaf crosses an edge.")
    assert "0" in race.row("head and tail")
    assert "6 303 768" in race.row("v3 walk")  # S122


def test_start_may_be_the_end_and_it_is_said(race):
    race.type(race.fields["end"], "2T+4K")
    expect(race.title).to_have_text(title("[2T+4K, 2T+4K)"))
    expect(race.picture).to_contain_text("The range is empty: both edges are 2T+4K.")
    expect(race.message).to_be_empty()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("banana", "'banana' is no frame number"),
        ("15T", "start 0xf0000000 (15T) is above end 0xe0000001 (14T+4K)"),
        ("-4K", "an address starts at 0"),
        ("<b>0</b>", "'<b>0</b>'"),
    ],
)
def test_a_bad_address_is_answered_in_words_until_a_good_one_comes(race, text, why):
    before = race.markup()
    race.type(race.fields["start"], text)
    expect(race.message).to_contain_text(why)
    expect(race.message).to_be_visible()
    expect(race.fields["start"]).to_have_value(text)  # it stays, to be mended
    race.notebook.settle()
    assert race.markup() == before
    race.type(race.fields["start"], "2T+2M")
    expect(race.title).to_have_text(title("[2T+2M, 14T+4K)"))
    expect(race.message).to_be_empty()


# ---- order and rows ------------------------------------------------------------------------------------


def test_rows_are_sorted_by_a_button_and_stay_while_a_slider_moves(race):
    assert race.order() == ROWS
    race.press("by visits")
    expect(race.first_row).to_have_text("one block per edge")
    by_visits = [ROWS[at] for at in (3, 4, 2, 6, 1, 0, 5)]
    assert race.order() == by_visits
    race.type(race.fields["end"], "2T+8K")
    expect(race.title).to_have_text(title("[2T+4K, 2T+8K)"))
    assert race.order() == by_visits
    expect(race.picture).to_contain_text("sorted for [2T+4K, 14T+4K)")
    race.press("as argued")
    expect(race.picture).not_to_contain_text("sorted for")
    assert race.order() == ROWS


def test_the_calls_of_the_row_in_the_menu_are_written_out(race):
    race.calls_of.select_option("head and tail")
    expect(race.picture).to_contain_text("head and tail: 4 calls")
    texts = race.texts()
    for line in ("[2T, 2T+1G)", "[2T, 2T+2M)", "[14T, 14T+1G)", "[14T, 14T+2M)"):
        assert line in texts
    race.calls_of.focus()
    for key in ("Space", "ArrowDown", "Enter"):  # an arrow alone is JupyterLab's: it goes to the next cell
        race.notebook.page.keyboard.press(key)
    expect(race.picture).to_contain_text("one block per edge: 2 calls")


# ---- by keyboard, in the dark, in words ----------------------------------------------------------------


def test_tab_reaches_every_control_in_reading_order(race):
    reached = race.notebook.tab_from(race.guest, 10)
    ranges = ["slider", "INPUT", "slider", "INPUT"]
    table = "INPUT"  # the box that shows it
    assert reached == ["SELECT", "SELECT", *ranges, "as argued", "by visits", "SELECT", table]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_an_order_is_chosen_by_key(race, key):
    race.box.get_by_role("button", name="by visits", exact=True).press(key)
    expect(race.first_row).to_have_text("one block per edge")


def test_the_table_says_what_the_picture_says(race):
    race.box.get_by_text("the same as a table").click()
    table = race.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.locator("thead")).to_contain_text("frames outside")
    expect(table.get_by_role("row", name="plain split")).to_contain_text("25 178 142, by formula")
    race.type(race.fields["end"], "2T+8K")
    expect(table.get_by_role("row", name="plain split")).not_to_contain_text("by formula")  # it follows
    race.box.get_by_text("the same as a table").click()
    expect(table).to_have_count(0)


# ---- the guess further down ----------------------------------------------------------------------------


def test_a_ratio_is_guessed_by_key_and_compared(notebook):
    """The walk visits 6 303 777 entries (S230), the zap after it 6 304 283 (S122)."""
    page = notebook.page
    box = page.locator(EXHIBIT).filter(has=page.get_by_role("button", name="compare"))
    box.scroll_into_view_if_needed()
    slider, [guess, verdict] = box.get_by_role("slider"), nth(box.get_by_role("status"), 2)
    slider.press("End")
    expect(guess).to_have_text("the split visits 1 000 times as many entries as the zap")
    box.get_by_role("button", name="compare").press("Enter")
    expect(verdict).to_contain_text("Not yet: 1000 is 1 000 times too large")
    for _ in range(12):  # a quarter of a power of ten each
        slider.press("ArrowLeft")
    expect(guess).to_have_text("the split visits as many entries as the zap")
    expect(verdict).to_be_empty()
    box.get_by_role("button", name="compare").click()
    expect(verdict).to_contain_text("Right: the split visits 6 303 777 entries, the zap after it 6 304 283")


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
