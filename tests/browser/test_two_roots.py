"""Notebook 04's two trees in JupyterLab: every control used, by mouse and by key.

Expected root types are those of S43 and S44, paths those of plain arithmetic.
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, ShownExhibit

NUMBER = "04"
"""Of the notebook that the fixture `notebook` opens."""


class Trees(ShownExhibit):
    """Its controls, and what of its picture can be pressed and dragged."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.gfn = box.get_by_label("frame g", exact=True)
        self.operation = box.get_by_label("operation", exact=True)
        self.bits = {half: self.spot(f"filter bit {half}") for half in ("PRIVATE", "SHARED")}
        self.shared = self.spot("a shared 2M leaf at g, in the direct tree")
        self.invalid = self.spot("an invalid direct root, which a fast zap-all left")
        self.mirror = self.spot("a mirror root: the VM is a TD")

    def spot(self, name: str) -> Locator:
        return self.box.get_by_role("button", name=name)

    def set(self, spot: Locator, chosen: bool) -> None:
        """Press what stands the other way."""
        said = str(chosen).lower()
        if spot.get_attribute("aria-pressed") != said:
            self.click(spot)
        expect(spot).to_have_attribute("aria-pressed", said)
        self.notebook.settle()

    def says(self, words: str) -> None:
        expect(self.answer).to_contain_text(words)

    def shows(self, *words: str) -> None:
        for text in words:
            expect(self.picture.locator("text", has_text=text).first).to_be_visible()


@pytest.fixture
def trees(notebook):
    """The first exhibit, on the private split of the opening."""
    found = Trees(notebook, notebook.page.locator(EXHIBIT).first)
    found.press("4")
    found.press("TD")
    notebook.settle()
    for spot, chosen in (
        (found.shared, False),
        (found.invalid, False),
        (found.bits["PRIVATE"], True),
        (found.bits["SHARED"], False),
    ):
        found.set(spot, chosen)
    found.type(found.gfn, "200G+680M+308K")
    found.choose(found.operation, "split what crosses the edges (v3)")
    found.says("Filter private → root types 4 (MIRROR): the split reaches the mirror tree; the direct")
    found.shows("path(g | S) = [256, 200, 340, 77]", "path(g) = [0, 200, 340, 77]", "0x322a84d")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


# ---- pressed on the picture --------------------------------------------------------------------------------


def test_each_bit_of_the_filter_is_pressed_and_lights_its_tree(trees):
    for half, words in (
        ("SHARED", "root types 6 (MIRROR + DIRECT)"),
        ("PRIVATE", "root types 2 (DIRECT): the split reaches the direct tree, which maps nothing at g"),
        ("SHARED", "WARN, root types 0 (none): no root matches"),
        ("PRIVATE", "root types 4 (MIRROR): the split reaches the mirror tree"),
    ):
        trees.click(trees.bits[half])
        trees.says(words)


def test_a_filter_is_set_by_key(trees):
    """One stop of Tab for both bits; arrows go from one to the other."""
    page = trees.notebook.page
    trees.bits["PRIVATE"].focus()
    page.keyboard.press("ArrowRight")
    expect(trees.bits["SHARED"]).to_be_focused()
    page.keyboard.press("Space")
    trees.says("Filter both")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    trees.says("Filter shared")
    expect(trees.bits["PRIVATE"]).to_be_focused()
    expect(trees.bits["PRIVATE"]).to_have_attribute("aria-pressed", "false")


def test_the_mirror_root_is_the_kind_of_vm(trees):
    trees.click(trees.mirror)
    trees.says("A VM without a mirror gets root types 2 (DIRECT) whatever the filter")
    expect(trees.box.get_by_role("button", name="plain VM")).to_have_attribute("aria-pressed", "true")
    trees.mirror.press("Enter")
    trees.says("Filter private")
    expect(trees.box.get_by_role("button", name="TD", exact=True)).to_have_attribute("aria-pressed", "true")


# ---- dragged along a strip ---------------------------------------------------------------------------------


def test_g_is_dragged_along_a_strip_and_the_needles_of_both_trees_follow(trees):
    """A quarter to the right of the middle of 2M entries: index 384, the others stay."""
    strip = trees.slider("frame g, by 2M")
    trees.drag(strip, round(strip.locator(".hit").bounding_box()["width"] / 4))
    path = trees.picture.locator("text", has_text="path(g) = ")
    expect(path).to_have_text(re.compile(r"path\(g\) = \[0, 200, 38[345], 77\]"))
    index = int(re.findall(r"\d+", path.text_content())[2])
    trees.shows(f"path(g | S) = [256, 200, {index}, 77]")
    expect(trees.gfn).to_have_value(f"200G+{2 * index}M+308K")


def test_g_goes_along_a_strip_by_key(trees):
    by_4k = trees.slider("frame g, by 4K")
    by_4k.press("ArrowRight")
    trees.shows("path(g) = [0, 200, 340, 78]")
    expect(by_4k).to_have_attribute("aria-valuetext", "0x322a84e (200G+680M+312K)")
    by_4k.press("Home")
    trees.shows("path(g) = [0, 200, 340, 0]")
    trees.slider("frame g, by 512G").press("End")
    trees.shows("path(g | S) = [511, 200, 340, 0]", "path(g) = [255, 200, 340, 0]")
    expect(trees.remark).to_have_count(0)


# ---- the other controls ------------------------------------------------------------------------------------


def test_each_operation_asks_for_its_own_root_types(trees):
    for operation, words, function in (
        ("zap (unmap the range)", "511 private frames besides g are lost", "kvm_tdp_mmu_unmap_gfn_range"),
        ("dirty-log split", "root types 6 (MIRROR + DIRECT)", "kvm_tdp_mmu_try_split_huge_pages"),
        ("split in mirror roots", "root types 4 (MIRROR)", "kvm_tdp_mmu_mirrors_split_huge_pages"),
        (
            "split at root.hpa (RFC v5 41)",
            "the 2M leaf that was meant stays whole",
            "kvm_tdp_mmu_split_huge_pages",
        ),
    ):
        trees.choose(trees.operation, operation)
        trees.says(words)
        trees.shows(function)


def test_the_wrong_root_splits_a_shared_leaf_for_nothing(trees):
    trees.choose(trees.operation, "split at root.hpa (RFC v5 41)")
    trees.says("which maps nothing at g")
    trees.set(trees.shared, True)
    trees.says("splits a shared leaf for nothing; the mirror tree is not touched")
    trees.choose(trees.operation, "split in mirror roots")
    trees.says("the split reaches the mirror tree; the direct tree is not touched")


def test_an_invalid_root_is_reached_by_a_zap_only(trees):
    trees.set(trees.invalid, True)
    trees.set(trees.bits["SHARED"], True)
    trees.set(trees.bits["PRIVATE"], False)
    trees.says("the invalid direct tree and the mirror tree are not touched")
    trees.shows("needs INVALID")
    trees.choose(trees.operation, "zap (unmap the range)")
    trees.says("the zap reaches the invalid direct tree, and the direct tree, which maps nothing at g")


def test_kind_and_levels(trees):
    trees.press("5")
    trees.shows("path(g | S) = [8, 0, 200, 340, 77]", "S is GPA bit 51")
    trees.press("plain VM")
    trees.says("A VM without a mirror gets root types 2 (DIRECT) whatever the filter")
    trees.shows("no mirror root")
    expect(trees.shared).to_have_count(0)


def test_a_frame_is_typed_and_a_bad_one_answered_in_words(trees):
    trees.type(trees.gfn, "0x322a84e")
    trees.shows("path(g) = [0, 200, 340, 78]")
    trees.type(trees.gfn, "128T")
    expect(trees.remark).to_contain_text("the shared bit")
    expect(trees.gfn).to_have_value("128T")
    trees.shows("path(g) = [0, 200, 340, 78]")
    trees.type(trees.gfn, "4K")
    expect(trees.remark).to_have_count(0)
    trees.shows("path(g | S) = [256, 0, 0, 1]")


def test_the_picture_keeps_its_height_whatever_is_asked(trees):
    """What stands below does not jump."""
    height = trees.picture.bounding_box()["height"]
    for change in (
        lambda: trees.click(trees.invalid),
        lambda: trees.press("5"),
        lambda: trees.click(trees.bits["PRIVATE"]),
        lambda: trees.press("plain VM"),
    ):
        before = trees.picture.inner_html()
        change()
        expect(trees.picture).not_to_have_js_property("innerHTML", before)
        assert trees.picture.bounding_box()["height"] == height


def test_tab_reaches_every_control_in_reading_order(trees):
    """Of the filter's bits one, of what the VM has one; the strips of one tree."""
    reached = trees.notebook.tab_from(trees.gfn, 13)
    buttons = ["TD", "plain VM", "4", "5"]
    picture, table = ["button", "button", *["slider"] * 4], ["INPUT"]
    assert reached == ["INPUT", "SELECT", *buttons, *picture, *table]


def test_all_of_it_is_seen_at_once_on_a_laptop(trees):
    """Of 768 pixels 647 are left for a notebook's cells."""
    with trees.notebook.sized(1366, 768):
        trees.says("Filter private")
        top = trees.operation.bounding_box()["y"]
        picture = trees.picture.bounding_box()
        assert picture["y"] + picture["height"] - top <= 647


def test_the_table_says_what_the_picture_says(trees):
    trees.as_table()
    rows = trees.box.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("[0, 200, 340, 77]")
    expect(rows.last).to_contain_text("reached: its 2M leaf is split")
    trees.click(trees.invalid)
    expect(rows).to_have_count(3)
    trees.as_table(False)
    expect(trees.box.get_by_role("table")).to_have_count(0)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
