"""Notebook 09's trace viewer in JupyterLab: its controls used, by mouse and by key; and the guesses.

Expected by hand. Of a 2M leaf at 0x800 the range 0x84d to 0x86d has 33 frames inside, and 479 are outside.
"""

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.course import AtTheEnd, OnOpening
from tests.browser.lab import EXHIBIT, Notebook, Question, ShownExhibit

NUMBER = "09"
"""Of the notebook that the fixture `notebook` opens."""

ZAPPED = """\
tracing_mark_write: tdpkit: zap gfn 203-205
kvm_tdp_mmu_spte_changed: as id 0 gfn 200 level 2 old_spte 60000031c200bb3 new_spte 0
"""
"""A 2M leaf goes whole for two of its frames: 510 outside."""


class Viewer(ShownExhibit):
    """Its controls."""

    def __init__(self, notebook: Notebook, box: Locator):
        super().__init__(notebook, box)
        self.trace, self.layout = (box.get_by_label(name, exact=True) for name in ("trace", "layout"))
        self.path, self.start, self.end = (
            box.get_by_label(name, exact=True) for name in ("path", "start", "end")
        )

    def read_as(self, layout: str) -> None:
        """Choose a layout, which is folded away as long as none is chosen."""
        if not self.layout.is_visible():
            self.press("another layout")
        expect(self.layout).to_be_visible()
        self.choose(self.layout, layout)

    def says(self, words: str) -> None:
        expect(self.answer).to_contain_text(words)

    def shows(self, words: str) -> None:
        expect(self.picture).to_contain_text(words)


@pytest.fixture
def viewer(notebook):
    """The exhibit, as it opens: at the first loss of the long trace."""
    found = Viewer(notebook, notebook.page.locator(EXHIBIT).first)
    for field in (found.start, found.end):
        found.type(field, "")
    if found.layout.is_visible():
        found.read_as("as guessed")
    for example in ("one split", "lost pages"):  # what is chosen anew opens at its first loss
        found.choose(found.trace, example)
    found.says("479 frames outside the range taken: 0x800 to 0x84c and 0x86e to 0x9ff.")
    notebook.settle()
    return found


class TestOnOpening(OnOpening):
    """First in this file: nothing was used yet."""


@pytest.mark.parametrize(
    ("asks", "wrong", "words", "right"),
    [
        ("a split. How many leaves of 4K", "3", "you said 3; after the split 512 leaves", "512"),
        ("Which layout is it?", "ept-7.2", "you said ept-7.2; 0x860000019e400bf7 is of ept-tdx", "ept-tdx"),
        (
            "frames outside the range go?",
            "all three",
            "in the first and the third",
            "the first and the third",
        ),
    ],
)
def test_a_guess_is_compared(notebook, asks, wrong, words, right):
    question = Question(notebook, asks)
    for answer, said in ((wrong, words), (right, "Right: ")):
        question.guess(answer)
        expect(question.said).to_contain_text(said)


def test_it_opens_at_the_first_loss_and_goes_on_to_the_second(viewer):
    viewer.shows("zapped")
    viewer.press("loss ›")
    viewer.says("Frames 0x104d to 0x106d")
    viewer.says("split at line 290; a leaf put in its table's place at line 329")
    expect(viewer.box.get_by_role("button", name="loss ›", exact=True)).to_be_disabled()


def test_a_range_is_typed_as_a_trace_prints_it(viewer):
    viewer.type(viewer.start, "c4d")
    viewer.type(viewer.end, "c6e")
    viewer.says("33 frames of the range taken, none outside; 1 leaf crossed an edge, 1 split.")
    viewer.type(viewer.end, "c6e, or so")
    expect(viewer.remark).to_contain_text("is no address; write 0x200")
    expect(viewer.end).to_have_value("c6e, or so")
    viewer.type(viewer.end, "c80")
    viewer.says("Frames 0xc4d to 0xc7f: 33 frames of the range taken")


def test_a_file_of_ones_own_is_opened(viewer):
    with viewer.notebook.page.expect_file_chooser() as chooser:
        viewer.click(viewer.box.get_by_role("button", name="open a file"))  # and how many are
    chooser.value.set_files(
        [{"name": "<b>mine</b>.txt", "mimeType": "text/plain", "buffer": ZAPPED.encode()}]
    )
    viewer.says("Frames 0x203 to 0x204 (zap, line 1): 510 frames outside the range taken: 0x200 to 0x202 and")
    expect(viewer.title).to_contain_text("<b>mine</b>.txt")


def test_a_path_that_is_no_file_is_answered_in_words(viewer):
    viewer.type(viewer.path, "no/such/file")
    expect(viewer.remark).to_contain_text("no/such/file")
    viewer.shows("479 frames outside")
    viewer.type(viewer.path, "traces/one-split.txt")
    viewer.says("3 frames of the range taken, none outside; 1 leaf crossed an edge, 1 split.")


def test_another_layout_finds_the_same_frames(viewer):
    viewer.read_as("ept-7.2")
    viewer.shows("Entries read as ept-7.2")
    viewer.says("479 frames outside the range taken")


def test_all_that_was_touched_can_be_seen(viewer):
    viewer.press("all that was touched")
    viewer.shows("0x1a00")
    viewer.press("around this step")
    viewer.notebook.settle()
    viewer.shows("0x800")


def test_the_table_says_what_the_picture_says(viewer):
    viewer.as_table()
    expect(viewer.box.get_by_role("table").first).to_contain_text("139")
    viewer.as_table(False)


class TestAtTheEnd(AtTheEnd):
    """Last in this file, so that it also answers for all that was done above."""
