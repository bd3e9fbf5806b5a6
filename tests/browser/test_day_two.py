"""The day after: what was run, saved and closed still shows its pictures, and to git nothing has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tdpkit.show.theme import DARK, LIGHT
from tests.notebooks.write_outputs import METADATA

from . import lab

STILLS = ".jp-OutputArea-output[data-mime-type='image/svg+xml'] img"
LIVE = ".jp-OutputArea-output > .tdpkit-live"
BROKEN = "Error displaying widget"

NEVER_LIVE = {"00": 15, "04": 0}
"""Notebooks, and how many of their pictures are never live: guests, and the explorer under the title."""
AS_IMAGES = {"00": 17, "04": 1}
"""How many there are without a kernel. 04 also has a guess, which is words where it cannot be live."""


def git(folder: Path, *arguments: str) -> str:
    """What git says in `folder`, whatever this machine's own settings are."""
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def server(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Server]:
    """JupyterLab on the course as somebody cloned it."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(lab.ROOT / "notebooks", folder / "notebooks")
    shutil.copy(lab.ROOT / ".gitignore", folder)
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "the course")
    with lab.serving(folder) as server:
        yield server


def save(notebook: lab.Notebook, file: Path) -> None:
    before = file.stat().st_mtime_ns
    notebook.command("docmanager:save")
    assert file.stat().st_mtime_ns > before, "nothing was saved"


def shown(page: Page, number: int) -> list[Locator]:
    """The `number` pictures of a page without a kernel, each brought into view."""
    stills = lab.nth(page.locator(STILLS), number)
    for still in stills:
        still.scroll_into_view_if_needed()
        still.evaluate("image => image.decode()")
        expect(still).to_be_visible()
        assert still.evaluate("image => image.clientWidth") > 500
    return stills


def paper(still: Locator) -> str:
    """The colour of a picture's upper left corner, as it is on the screen."""
    still.scroll_into_view_if_needed()
    picture = Image.open(BytesIO(still.screenshot())).convert("RGB")
    return "#{:02x}{:02x}{:02x}".format(*picture.getpixel((4, 4)))


@pytest.mark.parametrize("number", AS_IMAGES)
def test_run_saved_and_reopened_it_shows_its_pictures_and_git_has_no_news(
    browser: Browser, server: lab.Server, number: str
) -> None:
    path = server.find(number)
    file = server.folder / path
    with lab.open_notebook(browser, server, path) as notebook:
        save(notebook, file)
        assert git(server.folder, "status", "--porcelain") == "", "it was merely opened"
        notebook.run_all()
        expect(notebook.page.locator(LIVE).first).to_be_visible()
        expect(notebook.page.locator(STILLS)).to_have_count(AS_IMAGES[number])
        seen = notebook.page.locator(STILLS).filter(visible=True)
        expect(seen).to_have_count(NEVER_LIVE[number])  # where the exhibit lives, its still is hidden
        save(notebook, file)
        assert git(server.folder, "diff") == ""
        assert git(server.folder, "status", "--porcelain") == ""
        assert notebook.complaints == []
    with lab.open_notebook(browser, server, path) as notebook:
        stills = shown(notebook.page, AS_IMAGES[number])
        expect(notebook.page.locator(".jp-Notebook")).not_to_contain_text(BROKEN)
        assert [paper(still) for still in stills] == [LIGHT["paper"]] * len(stills)
        notebook.set_theme("JupyterLab Dark")
        assert [paper(still) for still in stills] == [DARK["paper"]] * len(stills)
        notebook.set_theme("JupyterLab Light")
        assert notebook.complaints == []


def test_saved_by_a_server_that_knows_nothing_of_the_kit_the_picture_is_there_too(
    browser: Browser, tmp_path: Path
) -> None:
    cell = new_code_cell("from tdpkit.show.lost_errno import LostErrno\nLostErrno()")
    nbformat.write(new_notebook(cells=[cell], metadata=METADATA), tmp_path / "own.ipynb")
    with lab.serving(tmp_path, with_extension=False) as stranger:
        with lab.open_notebook(browser, stranger, "own.ipynb") as notebook:
            notebook.run_all()
            expect(notebook.page.locator(LIVE)).to_be_visible()
            save(notebook, tmp_path / "own.ipynb")
        with lab.open_notebook(browser, stranger, "own.ipynb") as notebook:
            expect(notebook.page.locator(".jp-Notebook")).to_contain_text(BROKEN)  # or it knew
            shown(notebook.page, 1)


def test_converted_to_html_it_shows_its_pictures_without_a_network(browser: Browser, tmp_path: Path) -> None:
    [source] = (lab.ROOT / "notebooks").glob("04*.ipynb")
    convert = ["nbconvert", "--execute", "--to", "html", "--output-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "jupyter", *convert], check=True, capture_output=True)
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    try:
        page = context.new_page()
        page.goto((tmp_path / f"{source.stem}.html").as_uri())
        shown(page, AS_IMAGES["04"])
        expect(page.locator("body")).not_to_contain_text(BROKEN)
        live = page.locator(".jp-OutputArea-child:has(script[type*=widget-view])")
        assert live.count() == 2
        assert live.evaluate_all("areas => areas.map(area => area.clientHeight)") == [0, 0], "no blank"
    finally:
        context.close()
