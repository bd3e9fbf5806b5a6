"""What is asked of every notebook's page, once: before it is run, after it, and at the end."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tdpkit.show.drawing import text_width
from tdpkit.show.theme import DARK, LIGHT

from .lab import EXHIBIT, LIVE, LOOPBACK, PICTURES, Notebook, rgb

_HEIGHTS = """exhibits => exhibits.map(exhibit => {
    const stage = exhibit.querySelector('.tdpkit-stage');
    const controls = [...exhibit.children].filter(
        child => child.compareDocumentPosition(stage) & Node.DOCUMENT_POSITION_FOLLOWING
            && child.querySelector('button, input, select'));
    return Math.round(stage.getBoundingClientRect().bottom
        - controls.at(-1).getBoundingClientRect().top);
})"""
"""Of each exhibit: from the controls just above its picture to the picture's end, in pixels."""


class OnOpening:
    """Someone who only reads must see the exhibits, and whoever runs the cells must see no complaint."""

    def test_it_shows_its_pictures_unrun(self, notebook: Notebook) -> None:
        assert notebook.unrun.width > 500
        assert "Error displaying widget" not in notebook.unrun.text

    def test_it_runs_in_silence(self, notebook: Notebook) -> None:
        assert notebook.outputs("error") == []
        assert [output for output in notebook.outputs("stream") if output["name"] == "stderr"] == []


class AtTheEnd:
    """Of all that was done on the page: a module's last class."""

    def test_every_picture_follows_the_theme(self, notebook: Notebook) -> None:
        pictures = notebook.page.locator(PICTURES)
        expect(pictures.first).to_be_visible()
        light, dark = notebook.papers(pictures)
        assert light == [rgb(LIGHT["paper"])] * pictures.count()
        assert dark == [rgb(DARK["paper"])] * pictures.count()

    def test_axe_finds_nothing_that_a_screen_reader_or_a_keyboard_would_miss(
        self, notebook: Notebook
    ) -> None:
        """In every exhibit and every question to guess at."""
        expect(notebook.page.locator(LIVE).first).to_be_visible()
        found = Axe().run(notebook.page, context=LIVE).response["violations"]
        missed = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
        assert not missed, missed

    @pytest.mark.parametrize("width", [1400, 1000, 700])
    def test_in_a_narrow_window_words_stay_whole_and_letters_large(
        self, notebook: Notebook, width: int
    ) -> None:
        """No text is drawn below 11 px; title and answer wrap; the picture alone is scrolled sideways."""
        with notebook.sized(width, 900):
            for number in range(notebook.page.locator(EXHIBIT).count()):
                seen = (
                    notebook.page.locator(EXHIBIT)
                    .nth(number)
                    .evaluate(
                        """exhibit => {
                        const drawn = [...exhibit.querySelectorAll('.tdpkit-stage svg[role=img] text')];
                        const scale = text => text.getScreenCTM().a;
                        const heads = [...exhibit.querySelectorAll('.tdpkit-title, .tdpkit-answer')];
                        const stage = exhibit.querySelector('.tdpkit-stage');
                        return {
                            smallest: Math.min(
                                ...drawn.map(text => text.getAttribute('font-size') * scale(text)),
                                ...heads.map(head => parseFloat(getComputedStyle(head).fontSize))),
                            cut: heads.filter(head => head.scrollWidth > head.clientWidth + 1).length,
                            beyond: exhibit.scrollWidth - exhibit.clientWidth,
                            hidden: stage.scrollWidth - stage.clientWidth,
                            scrolls: getComputedStyle(stage).overflowX,
                            handles: Math.abs(stage.querySelector('svg.touch').getBoundingClientRect().width
                                - stage.querySelector('svg[role=img]').getBoundingClientRect().width),
                        };
                    }"""
                    )
                )
                assert seen["smallest"] >= 10.95, (number, seen)
                assert (seen["cut"], seen["beyond"] <= 1) == (0, True), (number, seen)
                assert seen["hidden"] <= 1 or seen["scrolls"] == "auto", (number, seen)
                assert seen["handles"] < 1, "the handles lie on the picture, whatever its size"

    def test_on_a_laptop_a_control_and_what_it_changes_are_on_one_screen(self, notebook: Notebook) -> None:
        """1366 by 768 pixels leave 647 to a notebook: for the controls above the answer, and all below."""
        with notebook.sized(1366, 768):
            for _ in range(20):  # a page that is busy takes its new size late
                heights = notebook.page.locator(EXHIBIT).evaluate_all(_HEIGHTS)
                if heights and max(heights) <= 647:
                    break
                notebook.page.wait_for_timeout(250)
        assert heights
        assert max(heights) <= 647, heights

    def test_no_word_is_wider_than_the_pictures_take_it_for(self, notebook: Notebook) -> None:
        """Boxes, captions and legends are placed by `text_width`: here the browser measures the words."""
        measured = notebook.page.locator(f"{PICTURES} text").evaluate_all(
            """texts => texts.map(text => [
                text.textContent, +text.getAttribute('font-size'), +text.getAttribute('font-weight'),
                text.getAttribute('font-family').includes('mono'), text.getComputedTextLength()])"""
        )
        assert len(measured) > 20
        wider = [
            (words, round(length), text_width(words, size, weight=weight, mono=mono))
            for words, size, weight, mono, length in measured
            if length > text_width(words, size, weight=weight, mono=mono) + 3
        ]
        assert wider == []

    def test_the_console_is_quiet_and_nothing_leaves_the_machine(self, notebook: Notebook) -> None:
        assert notebook.complaints == []
        assert notebook.hosts <= LOOPBACK
        assert notebook.hosts  # or nothing was recorded
