"""Notebook 00 as a learner meets it: opened in JupyterLab, run, and its boundary explorer used.

Expected numbers are worked out by hand. The toy has 32 frames: leaves of eight frames at 0, 8 and 24, and
eight single frames at 16. Its opening range, [5, 12), holds frames 5 to 11: the leaf at 0 has five frames
before the start, the leaf at 8 four after the end.
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, PICTURES, Notebook, ShownExhibit, nth

NUMBER = "00"
"""Of the notebook that the fixture `notebook` opens."""

TOY = "toy: 32 frames, every byte visible"
OPENING = "Look at [5, 12) of a TD of 32 frames"
AT_STAKE = "9 frames outside the range (5 before the start, 4 after the end)"


class Explorer(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.guest = box.get_by_label("guest", exact=True)
        self.unit = box.get_by_label("moves by", exact=True)
        self.edges = {which: self.slider(f"{which} of the range") for which in ("start", "end")}
        self.whole = self.slider("the whole range")
        self.fields = dict(zip(("start", "end"), nth(box.get_by_role("textbox"), 2), strict=True))

    def open(self, preset: str, title: str) -> None:
        """Choose a guest, from another one: a preset opens in its own state."""
        other = self.guest.locator("option").evaluate_all(
            "(options, preset) => options.find(option => option.value !== preset).value", preset
        )
        self.choose(self.guest, other)
        expect(self.title).not_to_have_text(title)
        self.choose(self.guest, preset)
        expect(self.title).to_have_text(title)
        self.notebook.settle()  # the controls follow the picture

    def counter(self, caption: str) -> str:
        """The number that stands over `caption`."""
        texts = self.picture.locator("text").all_text_contents()
        return texts[texts.index(caption) - 1]

    def bytes_read(self) -> list[str]:
        """What the picture says the guest reads, frame by frame."""
        texts = self.picture.locator("text").all_text_contents()
        first = texts.index("what the guest reads in each frame") + 1
        return texts[first : first + 2 * 32 : 2]  # each byte is followed by its frame's number

    def markup(self) -> str:
        return self.picture.evaluate("svg => svg.outerHTML")

    def paper(self) -> str:
        return self.picture.locator("> rect").first.evaluate("paper => getComputedStyle(paper).fill")


@pytest.fixture
def toy(notebook):
    """The first exhibit, in its opening state."""
    explorer = Explorer(notebook, notebook.page.locator(EXHIBIT).first)
    explorer.open(TOY, OPENING)
    return explorer


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_exhibits_on_one_page_share_no_id(notebook):
    """A hatch is found by its id: with the same id twice, one exhibit would be filled with another's."""
    exhibits = notebook.page.locator(EXHIBIT)
    expect(notebook.page.locator(PICTURES)).to_have_count(2)  # JupyterLab draws them after the cells are done
    ids = exhibits.locator("[id]").evaluate_all("elements => elements.map(element => element.id)")
    assert any(name.endswith("-crossing") for name in ids)
    assert [name for name in ids if notebook.page.locator(f'[id="{name}"]').count() != 1] == []


# ---- moving the range ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "key", "title", "outside"),
    [
        (
            "start",
            "ArrowRight",
            "[6, 12)",
            "10 frames outside the range (6 before the start, 4 after the end)",
        ),
        ("start", "Home", "[0, 12)", "4 frames after the end"),
        ("end", "ArrowLeft", "[5, 11)", "10 frames outside the range (5 before the start, 5 after the end)"),
        ("end", "PageUp", "[5, 20)", "5 frames before the start"),
        ("start", "End", "[31, 32)", "7 frames before the start"),
    ],
)
def test_a_key_on_an_edge_moves_the_range_and_the_answer(toy, which, key, title, outside):
    toy.edges[which].press(key)
    expect(toy.title).to_have_text(f"Look at {title} of a TD of 32 frames")
    expect(toy.answer).to_contain_text(f"a zap takes {outside} too.")
    field = toy.fields[which]
    expect(field).to_have_value(title.strip("[)").split(", ")[which == "end"])


def test_an_edge_moves_in_the_chosen_unit(toy):
    toy.choose(toy.unit, "8 frames")
    expect(toy.edges["start"]).to_have_attribute("data-step", "8")
    toy.edges["start"].press("ArrowRight")
    expect(toy.title).to_have_text("Look at [13, 14) of a TD of 32 frames")  # and takes the end along


def test_an_edge_is_dragged_on_the_picture(toy):
    """Four frames of 32 are an eighth of the strip."""
    width = toy.picture.bounding_box()["width"] * 952 / 1000
    toy.drag(toy.edges["start"], round(width / 8))
    expect(toy.title).to_have_text("Look at [9, 12) of a TD of 32 frames")
    expect(toy.edges["start"]).to_have_attribute("aria-valuenow", "9")
    toy.drag(toy.edges["end"], round(width / 8))
    expect(toy.title).to_have_text("Look at [9, 16) of a TD of 32 frames")
    toy.drag(toy.whole, round(-width / 8))
    expect(toy.title).to_have_text("Look at [5, 12) of a TD of 32 frames")
    expect(toy.remark).to_have_count(0)


def test_dragged_over_the_end_the_start_pushes_it_and_nothing_is_refused(toy):
    width = toy.picture.bounding_box()["width"] * 952 / 1000
    toy.drag(toy.edges["start"], round(width / 2))
    expect(toy.title).to_have_text("Look at [21, 22) of a TD of 32 frames")
    expect(toy.answer).to_contain_text("no leaf crosses an edge")
    expect(toy.remark).to_have_count(0)


def test_in_a_lens_an_edge_is_dragged_frame_by_frame(toy):
    """Of [2T+4K, 14T+4K) the start's lowest lens shows 2M: a half of it are 256 frames, and no more."""
    toy.open("16 TiB of 2M leaves, the thread's 12 TiB", "Look at [2T+4K, 14T+4K) of a 16T TD")
    toy.notebook.settle()
    lens = toy.box.locator(".touch .edge.minor").nth(2)
    width = toy.picture.bounding_box()["width"] * 456 / 1000
    toy.drag(lens, round(width / 2))
    expect(toy.title).to_have_text(re.compile(r"Look at \[2T\+102\dK|Look at \[2T\+1M"))
    expect(toy.title).to_contain_text("14T+4K)")


def test_typed_from_left_to_right_a_range_is_taken(toy):
    """The start alone is above the end: it waits for it."""
    toy.type(toy.fields["start"], "20")
    expect(toy.remark).to_contain_text("start 0x14 (80K) is above end 0xc (48K)")
    expect(toy.fields["start"]).to_have_value("20")
    toy.type(toy.fields["end"], "25", "Tab")  # to leave a field submits it as Enter does
    expect(toy.title).to_have_text("Look at [20, 25) of a TD of 32 frames")
    expect(toy.remark).to_have_count(0)


@pytest.mark.parametrize("text", ["32K", "0x8", " 8 "])
def test_a_typed_address_moves_the_range(toy, text):
    toy.type(toy.fields["start"], text)
    expect(toy.title).to_have_text("Look at [8, 12) of a TD of 32 frames")
    expect(toy.edges["start"]).to_have_attribute("aria-valuenow", "8")
    expect(toy.remark).to_have_count(0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("banana", "'banana' is no frame number"),
        ("48K", "the range is empty"),
        ("52K", "start 0xd (52K) is above end 0xc (48K)"),
        ("-4K", "an address starts at 0"),
        ("<b>0</b>", "'<b>0</b>'"),
    ],
)
def test_a_bad_address_is_answered_in_words_until_a_good_one_comes(toy, text, why):
    before = toy.markup()
    toy.type(toy.fields["start"], text)
    expect(toy.remark).to_contain_text(why)
    expect(toy.remark).to_be_visible()
    expect(toy.fields["start"]).to_have_value(text)  # it stays, to be mended
    toy.notebook.settle()
    assert toy.markup() == before
    toy.type(toy.fields["start"], "6")
    expect(toy.title).to_have_text("Look at [6, 12) of a TD of 32 frames")
    expect(toy.remark).to_have_count(0)


# ---- actions, guests, kinds of VM ----------------------------------------------------------------------


def test_a_zap_in_a_td_loses_the_bytes_around_the_range_and_back_brings_them_back(toy):
    before = toy.markup()
    toy.press("zap without split")
    expect(toy.title).to_have_text("Zap [5, 12) of a TD of 32 frames")
    expect(toy.answer).to_contain_text(f"{AT_STAKE} are lost")
    assert toy.counter("frames lost outside") == "9"
    read = toy.bytes_read()
    assert read[:5] + read[12:16] == ["00"] * 9
    assert read[16:] == [f"{0x10 + frame:02x}" for frame in range(16, 32)]
    toy.press("back")
    expect(toy.title).to_have_text(OPENING)
    assert toy.markup() == before
    expect(toy.box.get_by_role("button", name="back", exact=True)).to_be_disabled()


def test_a_split_changes_no_byte(toy):
    toy.press("split")
    expect(toy.title).to_have_text("Split the edges of [5, 12) of a TD of 32 frames")
    assert toy.counter("splits") == "2"
    assert toy.bytes_read() == [f"{0x10 + frame:02x}" for frame in range(32)]


def test_split_then_zap_takes_the_range_and_nothing_else(toy):
    toy.press("split, then zap")
    expect(toy.title).to_have_text("Split, then zap [5, 12) of a TD of 32 frames")
    assert toy.counter("frames lost outside") == "0"
    kept = [*range(5), *range(12, 32)]
    read = toy.bytes_read()
    assert [read[frame] for frame in kept] == [f"{0x10 + frame:02x}" for frame in kept]
    assert len(set(read[5:12])) == 1
    assert not re.search(r"[0-9a-f]", read[5])


def test_the_kind_of_vm_decides_whether_bytes_are_lost(toy):
    toy.press("zap without split")
    expect(toy.answer).to_contain_text("are lost")
    assert toy.picture.locator("[id$='-lost']").count() == 1
    toy.press("plain VM")
    expect(toy.title).to_have_text("Zap [5, 12) of a plain VM of 32 frames")
    expect(toy.answer).to_contain_text("The guest faults them in again; the contents are kept.")
    assert toy.counter("frames to re-fault outside") == "9"
    assert toy.bytes_read()[:5] == ["10", "11", "12", "13", "14"]
    assert toy.picture.locator("[id$='-lost']").count() == 0


def test_the_thread_s_range_of_12_tib_costs_six_million_visits(toy):
    toy.open("16 TiB of 2M leaves, the thread's 12 TiB", "Look at [2T+4K, 14T+4K) of a 16T TD")
    toy.press("split")
    expect(toy.title).to_have_text("Split the edges of [2T+4K, 14T+4K) of a 16T TD")
    assert toy.counter("SPTEs the split visited") == "6 303 777"
    assert toy.counter("splits") == "2"
    toy.press("zap without split")
    expect(toy.answer).to_contain_text(
        "512 frames outside the range (1 before the start, 511 after the end) are lost"
    )


# ---- by keyboard, in the dark, in words ----------------------------------------------------------------


def test_tab_reaches_every_control_in_reading_order(toy):
    reached = toy.notebook.tab_from(toy.guest, 14)
    actions = ["look", "zap without split", "split", "split, then zap"]  # back is off: nothing to go back to
    table = "INPUT"  # the box that shows it
    typed = ["INPUT", "INPUT", "SELECT"]
    assert reached == ["SELECT", "TD", "plain VM", *typed, *actions, *["slider"] * 3, table]


def test_arrow_keys_of_a_menu_are_the_menu_s(toy):
    """JupyterLab would take them to go to another cell."""
    toy.guest.focus()
    toy.notebook.page.keyboard.press("ArrowDown")
    expect(toy.title).to_have_text("Look at [1G+1M, 2G) of a 3G plain VM")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_an_action_is_taken_by_key(toy, key):
    """JupyterLab has single-key commands of its own, which must not get in between."""
    toy.box.get_by_role("button", name="zap without split", exact=True).press(key)
    expect(toy.title).to_have_text("Zap [5, 12) of a TD of 32 frames")


def test_the_table_says_what_the_picture_says(toy):
    toy.as_table()
    table = toy.box.get_by_role("table")
    expect(table).to_be_visible()
    expect(table).to_contain_text(AT_STAKE)
    toy.press("zap without split")
    expect(table).to_contain_text("are lost")  # it stays open, and follows
    toy.as_table(False)
    expect(table).to_have_count(0)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
