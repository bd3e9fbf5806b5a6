"""Notebook 01's entry decoder in JupyterLab: every control used, by mouse and by key.

Expected values are worked out from S20-S27: the leaf 0x80a0...fb7 of S20, FROZEN_SPTE (S24);
a child's frame is its parent's plus its index, and bit 7 goes at 4K (S26).
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, ShownExhibit

NUMBER = "01"
"""Of the notebook that the fixture `notebook` opens."""

LEAF = "0x80a00001c8a00fb7"
TITLE = f"{LEAF} at level 2 (2M per entry)"


class Decoder(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.entry = box.get_by_label("entry", exact=True)
        self.level = box.get_by_label("at level", exact=True)
        self.example = box.get_by_label("example", exact=True)
        self.layout = box.get_by_label("layout", exact=True)
        self.machine = box.get_by_label("pick from", exact=True)
        self.at = box.get_by_role("textbox").nth(1)
        self.child = self.slider("child")
        self.number = box.get_by_role("spinbutton")
        self.nx = box.get_by_label("NX huge pages", exact=True)
        self.access = box.get_by_label("role.access has x", exact=True)
        self.picks = box.get_by_role("button", name="pick from a machine", exact=True)

    def bit(self, number: int) -> Locator:
        """A bit of the entry on the picture, to be pressed."""
        return self.box.locator(".touch").get_by_role("button", name=re.compile(rf"^bit {number},"))


@pytest.fixture
def decoder(notebook):
    """The exhibit on the 2M leaf's first child, the NX rule off."""
    found = Decoder(notebook, notebook.page.locator(EXHIBIT).first)
    found.box.scroll_into_view_if_needed()
    found.tick(found.nx, False)
    found.tick(found.access)
    found.choose(found.example, "empty")
    expect(found.title).to_contain_text("0x8000000000000000")
    found.choose(found.example, "2M leaf")
    expect(found.title).to_have_text(TITLE)
    found.child.press("Home")
    expect(found.picture).to_contain_text("Child 0 of 512 is 0x80a00001c8a00f37, a 4K leaf")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_the_exhibit_is_as_the_notebook_left_it(notebook):
    """Later cells use a decoder of their own: the learner's picture stays."""
    expect(notebook.page.locator(EXHIBIT).first.get_by_role("img").locator("> title")).to_have_text(TITLE)


@pytest.mark.parametrize("press", ["click", "Enter", "Space"])
def test_a_bit_is_flipped_and_flipped_back_where_it_stands(decoder, press):
    """Bit 11 says present (S20): without it KVM sees no leaf, and nothing that could be split."""
    present = decoder.bit(11)
    before = present.bounding_box()
    for title, answer, pressed in (
        ("0x80a00001c8a007b7", "Not present, as KVM sees it", "false"),
        (LEAF, "A leaf of 2M", "true"),
    ):
        decoder.click(present) if press == "click" else present.press(press)
        expect(decoder.title).to_have_text(f"{title} at level 2 (2M per entry)")
        expect(decoder.answer).to_contain_text(answer)
        expect(decoder.entry).to_have_value(title)
        expect(present).to_have_attribute("aria-pressed", pressed)
        expect(present).to_be_focused()
        assert present.bounding_box() == pytest.approx(before, abs=1)
    expect(decoder.remark).to_have_count(0)


def test_arrow_keys_go_from_bit_to_bit(decoder):
    """From bit 63 down, as they stand; the highest is not lost on a browser's 53 bits."""
    decoder.bit(63).focus()
    for key, bit in (("ArrowRight", 62), ("End", 0), ("ArrowLeft", 1), ("Home", 63)):
        decoder.notebook.page.keyboard.press(key)
        expect(decoder.bit(bit)).to_be_focused()
    decoder.notebook.page.keyboard.press("Enter")
    expect(decoder.title).to_have_text("0x00a00001c8a00fb7 at level 2 (2M per entry)")


def test_the_child_is_dragged_on_its_strip(decoder):
    """Half of the strip is half of the 512 children; and what is typed moves its thumb."""
    track = decoder.child.locator(".hit")
    track.scroll_into_view_if_needed()
    box = track.bounding_box()
    mouse, y = decoder.notebook.page.mouse, box["y"] + box["height"] / 2
    mouse.move(box["x"] + 1, y)
    mouse.down()
    mouse.move(box["x"] + box["width"] / 2, y, steps=8)
    mouse.up()
    expect(decoder.child).to_have_attribute("aria-valuetext", re.compile(r"child 25[4-7] of 512"))
    expect(decoder.number).to_have_value(re.compile("25[4-7]"))
    decoder.type(decoder.number, "300")
    expect(decoder.child).to_have_attribute("aria-valuetext", "child 300 of 512")
    # 300 is 1 0010 1100: bits 20, 17, 15 and 14 of the entry.
    expect(decoder.picture).to_contain_text("4 frame bits and bit 7 (page size) differ from its parent")


def test_the_entry_its_bits_and_what_they_mean_are_in_one_view_of_a_laptop(decoder):
    """Of 1366 by 768 pixels a browser and JupyterLab leave 647."""
    with decoder.notebook.sized(1366, 768):
        top = decoder.entry.bounding_box()["y"]
        last = decoder.picture.get_by_text("the guest may read", exact=True).bounding_box()
        assert last["y"] + last["height"] - top < 647


def test_keys_on_the_strip_choose_the_child(decoder):
    for key, child in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 511), ("Home", 0)):
        decoder.child.press(key)
        spte = f"{0x80A00001C8A00F37 + (child << 12):#018x}"
        expect(decoder.picture).to_contain_text(f"Child {child} of 512 is {spte}, a 4K leaf")


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ("FROZEN", "0x80000000000005a0"),
        ("MMIO", "MMIO"),
        ("table", "A table entry"),
        ("4K leaf", "A leaf of 4K"),
        ("1G leaf", "A leaf of 1G"),
    ],
)
def test_each_kind_of_entry_is_recognised(decoder, example, words):
    decoder.choose(decoder.example, example)
    expect(decoder.box.locator(".tdpkit-title, .tdpkit-answer").filter(has_text=words)).to_have_count(1)
    expect(decoder.title).not_to_have_text(TITLE)


def test_an_entry_is_typed_in_hexadecimal_and_all_its_64_bits_are_kept(decoder):
    """A number field of a browser would lose the lowest of them."""
    decoder.type(decoder.entry, "80a0_0000_0012_3f37")
    decoder.choose(decoder.level, "1: 4K per entry")
    expect(decoder.title).to_have_text("0x80a0000000123f37 at level 1 (4K per entry)")
    decoder.type(decoder.entry, "0x80a0000000123f36")
    expect(decoder.title).to_have_text("0x80a0000000123f36 at level 1 (4K per entry)")
    expect(decoder.entry).to_have_value("0x80a0000000123f36")


def test_a_bad_entry_is_answered_in_words_until_a_good_one_comes(decoder):
    decoder.type(decoder.entry, "banana")
    expect(decoder.remark).to_contain_text("banana")
    expect(decoder.remark).to_contain_text("The picture shows the last good entry.")
    expect(decoder.entry).to_have_value("banana")
    expect(decoder.title).to_have_text(TITLE)
    decoder.type(decoder.entry, "0")
    expect(decoder.remark).to_have_count(0)


def test_an_entry_is_picked_from_a_machine(decoder):
    """The mixed guest has a 1G leaf at 1G, on the host frames of the same numbers."""
    if not decoder.machine.is_visible():
        decoder.click(decoder.picks)
    decoder.choose(decoder.machine, "4 GiB of mixed leaves")
    expect(decoder.at).to_have_value("2G+512M")  # the kernel's answer, or it would replace what is typed
    decoder.type(decoder.at, "1G+2M")
    decoder.choose(decoder.level, "3: 1G per entry")
    expect(decoder.title).to_have_text("0x80a0000040000fb7 at level 3 (1G per entry)")


def test_the_layout_reads_the_same_bits_as_another_kernel(decoder):
    """Of 5.13 (S260): bit 63 is set, and so are others that it has no use for."""
    decoder.choose(decoder.layout, "EPT, Linux 5.13 to the TDX era")
    expect(decoder.title).to_have_text(f"{TITLE}, EPT, Linux 5.13 to the TDX era")
    decoder.choose(decoder.layout, "guess it from the value")
    expect(decoder.title).to_have_text(TITLE)
    expect(decoder.picture).to_contain_text("Layout guessed")
    decoder.choose(decoder.layout, "EPT, Linux 7.2")


def test_the_nx_rule_gives_execution_back_at_4k(decoder):
    decoder.choose(decoder.example, "2M leaf, not executable (NX)")
    expect(decoder.picture).to_contain_text("NX huge pages off")
    decoder.tick(decoder.nx)
    expect(decoder.picture).to_contain_text("bits 10, 7 and 2 differ from its parent")
    decoder.tick(decoder.access, False)
    expect(decoder.picture).to_contain_text("bit 7 (page size) differs from its parent")


def test_the_table_says_what_the_picture_says(decoder):
    decoder.as_table()
    table = decoder.box.get_by_role("table")
    expect(table).to_contain_text("VMX_EPT_SUPPRESS_VE_BIT")
    expect(table).to_contain_text("SPTE_BASE_ADDR_MASK")
    decoder.as_table(False)
    expect(table).to_have_count(0)


def test_tab_reaches_every_control_in_reading_order(decoder):
    """The bits are one stop, and the machines are folded away."""
    if decoder.machine.is_visible():
        decoder.click(decoder.picks)
    decoder.machine.wait_for(state="hidden")
    reached = decoder.notebook.tab_from(decoder.entry, 11)
    assert reached == [
        *("INPUT", "SELECT", "SELECT", "SELECT", "pick from a machine", "INPUT", "INPUT", "INPUT"),
        *("button", "slider", "INPUT"),
    ]


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
