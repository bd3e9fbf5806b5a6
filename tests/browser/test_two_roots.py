"""Notebook 04's two trees in JupyterLab: every control used, by mouse and by key.

Expected root types are those of S43 and S44, paths those of plain arithmetic.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import Notebook, ShownExhibit, nth

NUMBER = "04"
"""Of the notebook that the fixture `notebook` opens."""

TITLE = "One frame, two trees: which one does the operation reach?"
BOX = f".jp-OutputArea-output:has(svg title:text-is('{TITLE}'))"
FILTERS = ("shared (1)", "private (2)", "both (3)", "neither (0)")


class Trees(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.gfn = box.get_by_label("frame g", exact=True)
        self.operation = box.get_by_label("operation", exact=True)
        self.radios = dict(zip(FILTERS, nth(box.get_by_role("radio"), 4), strict=True))
        self.shared = box.get_by_label("a shared 2M leaf at g too")
        self.invalid = box.get_by_label("an invalid direct root, after a fast zap-all")

    def says(self, words: str) -> None:
        expect(self.answer).to_contain_text(words)

    def shows(self, *words: str) -> None:
        for text in words:
            expect(self.picture.locator("text", has_text=text).first).to_be_visible()


@pytest.fixture
def trees(notebook):
    """The first exhibit, on the private split of the opening."""
    found = Trees(notebook, notebook.page.locator(BOX).first)
    for box in (found.shared, found.invalid):
        if box.is_checked():
            box.uncheck()
    found.press("4 levels")
    found.press("TD")
    found.type(found.gfn, "200G+680M+308K")
    found.operation.select_option(label="split what crosses the edges (v3)")
    found.radios["private (2)"].check()
    found.says("Filter private → root types 4 (MIRROR): the split reaches the mirror tree; the direct")
    found.shows("path(g | S) = [256, 200, 340, 77]", "path(g) = [0, 200, 340, 77]", "0x322a84d")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


def test_each_filter_lights_its_tree(trees):
    for filter_, words in (
        ("shared (1)", "root types 2 (DIRECT): the split reaches the direct tree, which maps nothing at g"),
        ("both (3)", "root types 6 (MIRROR + DIRECT)"),
        ("neither (0)", "WARN, root types 0 (none): no root matches"),
        ("private (2)", "root types 4 (MIRROR): the split reaches the mirror tree"),
    ):
        trees.radios[filter_].check()
        trees.says(words)


def test_a_filter_is_chosen_by_key(trees):
    """Radio buttons of ipywidgets are no group: Tab goes from one to the next, Space takes it."""
    trees.radios["private (2)"].focus()
    for words in ("Filter both", "Filter neither"):
        trees.notebook.page.keyboard.press("Tab")
        trees.notebook.page.keyboard.press("Space")
        trees.says(words)


def test_each_operation_asks_for_its_own_root_types(trees):
    for operation, words, function in (
        ("zap (unmap the range)", "root types 5 (MIRROR + INVALID)", "kvm_tdp_mmu_unmap_gfn_range"),
        ("dirty-log split", "root types 6 (MIRROR + DIRECT)", "kvm_tdp_mmu_try_split_huge_pages"),
        ("split in mirror roots", "root types 4 (MIRROR)", "kvm_tdp_mmu_mirrors_split_huge_pages"),
        (
            "split at root.hpa (RFC v5 41, as posted)",
            "the 2M leaf that was meant stays whole",
            "kvm_tdp_mmu_split_huge_pages",
        ),
    ):
        trees.operation.select_option(label=operation)
        trees.says(words)
        trees.shows(function)


def test_the_wrong_root_splits_a_shared_leaf_for_nothing(trees):
    trees.operation.select_option(label="split at root.hpa (RFC v5 41, as posted)")
    trees.says("which maps nothing at g")
    trees.shared.check()
    trees.says("splits a shared leaf for nothing; the mirror tree is not touched")
    trees.operation.select_option(label="split in mirror roots")
    trees.says("the split reaches the mirror tree; the direct tree is not touched")


def test_an_invalid_root_is_reached_by_a_zap_only(trees):
    trees.invalid.check()
    trees.radios["shared (1)"].check()
    trees.says("the invalid direct tree and the mirror tree are not touched")
    trees.shows("needs INVALID")
    trees.operation.select_option(label="zap (unmap the range)")
    trees.says("the zap reaches the invalid direct tree, and the direct tree, which maps nothing at g")


def test_kind_and_levels(trees):
    trees.press("5 levels")
    trees.shows("path(g | S) = [8, 0, 200, 340, 77]", "S is GPA bit 51")
    trees.press("plain VM")
    trees.says("A VM without a mirror gets root types 2 (DIRECT) whatever the filter")
    trees.shows("A plain VM has no mirror root:")
    expect(trees.shared).to_be_disabled()


def test_a_frame_is_typed_and_a_bad_one_answered_in_words(trees):
    trees.type(trees.gfn, "0x322a84e")
    trees.shows("path(g) = [0, 200, 340, 78]")
    trees.type(trees.gfn, "128T")
    expect(trees.message).to_contain_text("the shared bit")
    expect(trees.gfn).to_have_value("128T")
    trees.shows("path(g) = [0, 200, 340, 78]")
    trees.type(trees.gfn, "4K")
    expect(trees.message).to_be_empty()
    trees.shows("path(g | S) = [256, 0, 0, 1]")


def test_the_picture_keeps_its_height_whatever_is_asked(trees):
    """What stands below does not jump."""
    height = trees.picture.bounding_box()["height"]
    for change in (
        lambda: trees.invalid.check(),
        lambda: trees.press("5 levels"),
        lambda: trees.radios["neither (0)"].check(),
        lambda: trees.press("plain VM"),
    ):
        before = trees.picture.inner_html()
        change()
        expect(trees.picture).not_to_have_js_property("innerHTML", before)
        assert trees.picture.bounding_box()["height"] == height


def test_tab_reaches_every_control_in_reading_order(trees):
    reached = trees.notebook.tab_from(trees.gfn, 13)
    buttons = ["TD", "plain VM", "4 levels", "5 levels"]
    boxes, filters, table = ["INPUT"] * 2, ["INPUT"] * 4, ["INPUT"]
    assert reached == ["INPUT", *buttons, *boxes, "SELECT", *filters, *table]


def test_the_table_says_what_the_picture_says(trees):
    trees.box.get_by_label("the same as a table").check()
    rows = trees.box.get_by_role("table").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("[0, 200, 340, 77]")
    expect(rows.last).to_contain_text("reached: its 2M leaf is split")
    trees.invalid.check()
    expect(rows).to_have_count(3)
    trees.box.get_by_label("the same as a table").uncheck()
    expect(trees.box.get_by_role("table")).to_have_count(0)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
