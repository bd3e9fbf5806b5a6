"""What is asked of every notebook's page, once: before it is run, after it, and at the end."""

from __future__ import annotations

from playwright.sync_api import expect

from tdpkit.show.drawing import text_width
from tdpkit.show.theme import DARK, LIGHT

from .lab import LOOPBACK, PICTURES, Notebook, rgb


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

    def test_no_word_is_wider_than_the_pictures_take_it_for(self, notebook: Notebook) -> None:
        """Boxes, captions and legends are placed by `text_width`: here the browser measures the words."""
        measured = notebook.page.locator(f"{PICTURES} > text").evaluate_all(
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
