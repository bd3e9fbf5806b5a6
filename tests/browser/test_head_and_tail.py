"""Notebook 03's strategy race as a learner meets it: opened in JupyterLab, run, and used.

Expected numbers are those of the kernel's own C code and of the review (S230 and S233, S122, S133).
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from tdpkit.engine.gfn import parse_gfn
from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Controls, Notebook, ShownExhibit, nth, wait_for

NUMBER = "03"
"""Of the notebook that the fixture `notebook` opens."""

HUGE = "16 TiB of 2M leaves, the thread's 12 TiB"
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
        self.sliders = dict(zip(("span", "start", "end"), nth(box.get_by_role("slider"), 3), strict=True))
        self.fields = dict(zip(("start", "end"), nth(box.get_by_role("textbox"), 2), strict=True))
        self.first_row = self.picture.locator("text[font-size='13']").first

    def row_button(self, name: str) -> Locator:
        """The row itself, which can be pressed."""
        return self.box.get_by_role("button", name=re.compile(f"^{name}:"))

    def drag_by(self, which: str, units: int) -> None:
        """Pull an edge, or all of the range, by so many of the picture's units, of which it has 1000."""
        width = self.box.locator(".touch").bounding_box()["width"]
        self.drag(self.sliders[which], round(units * width / 1000))

    def edge_near(self, which: str, place: str) -> int:
        """Where an edge is, once it came within two pixels of `place`: 16 TiB are 364 units wide."""
        frame, near = parse_gfn(place), parse_gfn("100G")

        def edge() -> int:
            return parse_gfn(self.fields[which].input_value())

        wait_for(lambda: abs(edge() - frame) < near, f"the {which} near {place}", 20)
        self.notebook.settle()
        return edge()

    def open(self, guest: str, span: str) -> None:
        """Choose a guest, from the toy: each opens with its own range."""
        self.press("as argued")
        self.choose(self.guest, "toy: 64 frames in four leaves")
        expect(self.title).to_have_text(title("[5, 34)"))
        self.choose(self.guest, guest)
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
    race.click(race.row_button("v3 walk"))
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
        ("16 TiB of 1G leaves, the same 12 TiB", "[2T+4K, 14T+4K)", ["12 837", "527", "20", "16", "16"]),
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
        ("start", "ArrowRight", "[2T+1G+4K, 14T+4K)"),  # the 4K are what this is about: they stay
        ("start", "Home", "[0, 14T+4K)"),
        ("start", "End", "[16T, 16T)"),  # it pushes the end, and may meet it
        ("end", "ArrowLeft", "[2T+4K, 13T+1023G+4K)"),
        ("end", "End", "[2T+4K, 16T)"),
        ("span", "PageUp", "[2T+512G+4K, 14T+512G+4K)"),
    ],
)
def test_a_key_on_an_edge_moves_the_range_and_every_row(race, which, key, span):
    race.sliders[which].press(key)
    expect(race.title).to_have_text(title(span))
    for field, text in zip(race.fields.values(), span.strip("[)").split(", "), strict=True):
        expect(field).to_have_value(text)
    expect(race.answer).to_contain_text("exact, at ")


def test_an_edge_is_dragged_over_the_whole_guest_and_keeps_what_a_pixel_does_not_tell_apart(race):
    race.drag_by("end", -91)  # a quarter of 16 TiB
    assert race.edge_near("end", "10T") % parse_gfn("1G") == 1, "the 4K stay"
    expect(race.title).to_have_text(title(f"[2T+4K, {race.fields['end'].input_value()})"))


def test_all_of_the_range_is_dragged_and_an_edge_pushes_the_other(race):
    race.drag_by("span", 23)  # a sixteenth
    start, end = race.edge_near("start", "3T"), race.edge_near("end", "15T")
    assert (end - start, start % parse_gfn("1G")) == (parse_gfn("12T"), 1)
    race.drag_by("end", -296)  # 13 of the sixteen: to 2T
    assert race.edge_near("start", "2T") == race.edge_near("end", "2T")
    expect(race.answer).to_contain_text("The range is empty")


def test_on_the_toy_an_edge_is_dragged_on_the_guest_itself(race):
    """64 frames are 364 units wide."""
    race.choose(race.guest, "toy: 64 frames in four leaves")
    expect(race.title).to_have_text(title("[5, 34)"))
    race.notebook.settle()
    race.drag_by("end", 14 * 364 // 64)
    expect(race.title).to_have_text(title("[5, 48)"))
    race.choose(race.guest, HUGE)  # from which the next test leaves for the toy


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
    expect(race.answer).to_contain_text("The range is empty: both edges are 2T+4K.")
    expect(race.remark).to_have_count(0)


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
    expect(race.remark).to_contain_text(why)
    expect(race.remark).to_be_visible()
    expect(race.fields["start"]).to_have_value(text)  # it stays, to be mended
    race.notebook.settle()
    assert race.markup() == before
    race.type(race.fields["start"], "2T+2M")
    expect(race.title).to_have_text(title("[2T+2M, 14T+4K)"))
    expect(race.remark).to_have_count(0)


# ---- order and rows ------------------------------------------------------------------------------------


def test_rows_are_sorted_by_a_button_and_stay_while_the_range_moves(race):
    assert race.order() == ROWS
    race.press("by visits")
    expect(race.first_row).to_have_text("one block per edge")
    by_visits = [ROWS[at] for at in (3, 4, 2, 6, 1, 0, 5)]
    assert race.order() == by_visits
    race.type(race.fields["end"], "2T+8K")
    expect(race.title).to_have_text(title("[2T+4K, 2T+8K)"))
    assert race.order() == by_visits
    expect(race.answer).to_contain_text("sorted for [2T+4K, 14T+4K)")
    race.press("as argued")
    expect(race.answer).not_to_contain_text("sorted for")
    assert race.order() == ROWS


def test_the_calls_of_the_row_that_is_pressed_are_written_out(race):
    race.click(race.row_button("head and tail"))
    expect(race.row_button("head and tail")).to_have_attribute("aria-pressed", "true")
    expect(race.picture).to_contain_text("head and tail: 4 calls")
    texts = race.texts()
    for line in ("[2T, 2T+1G)", "[2T, 2T+2M)", "[14T, 14T+1G)", "[14T, 14T+2M)"):
        assert line in texts
    for key, name in (("Enter", "one block per edge"), ("Space", "empty range")):
        for press in ("ArrowDown", key):
            race.notebook.page.keyboard.press(press)
        expect(race.picture).to_contain_text(f"{name}: 2 calls")
        expect(race.row_button(name)).to_be_focused()


# ---- by keyboard, in the dark, in words ----------------------------------------------------------------


def test_tab_reaches_every_control_in_reading_order(race):
    reached = race.notebook.tab_from(race.guest, 11)
    ranges = ["INPUT", "INPUT", "SELECT"]
    picture = ["button", "slider", "slider", "slider"]  # the rows are one stop
    table = "INPUT"  # the box that shows it
    assert reached == ["SELECT", "as argued", "by visits", *ranges, *picture, table]


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_an_order_is_chosen_by_key(race, key):
    race.box.get_by_role("button", name="by visits", exact=True).press(key)
    expect(race.first_row).to_have_text("one block per edge")


def test_the_table_says_what_the_picture_says(race):
    race.as_table()
    table = race.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table.locator("thead")).to_contain_text("frames outside")
    expect(table.get_by_role("row", name="plain split")).to_contain_text("25 178 142, by formula")
    race.type(race.fields["end"], "2T+8K")
    expect(table.get_by_role("row", name="plain split")).not_to_contain_text("by formula")  # it follows
    race.as_table(False)
    expect(table).to_have_count(0)


# ---- the guess further down ----------------------------------------------------------------------------


def test_a_ratio_is_guessed_by_key_and_compared(notebook):
    """The walk visits 6 303 777 entries (S230), the zap after it 6 304 283 (S122)."""
    page = notebook.page
    box = page.locator(".jp-OutputArea-output").filter(has=page.get_by_role("button", name="compare"))
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
    Controls(notebook, box).press("compare")
    expect(verdict).to_contain_text("Right: the split visits 6 303 777 entries, the zap after it 6 304 283")


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""

    def test_on_a_laptop_a_control_and_what_it_changes_are_on_one_screen(self, notebook: Notebook) -> None:
        """Up to the last row; the calls of the one that is pressed, and the legend, may be below."""
        with notebook.sized(1366, 768):
            height = notebook.page.locator(EXHIBIT).evaluate(
                """exhibit => [...exhibit.querySelectorAll('.spot')].at(-1).getBoundingClientRect().bottom
                    - exhibit.querySelector('input').getBoundingClientRect().top"""
            )
        assert 0 < height <= 647
