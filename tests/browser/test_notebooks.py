"""Every notebook as a learner meets it: looked at before it is run, and then run from top to bottom."""

import pytest

from tests.browser.lab import LOOPBACK, ROOT, open_notebook

NUMBERS = sorted(path.name[:2] for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_notebook_shows_its_pictures_unrun_and_then_runs_in_silence(browser, server, number):
    """Someone who only reads must see the exhibits, not "Error displaying widget"."""
    with open_notebook(browser, server, server.find(number)) as notebook:
        picture = notebook.page.locator(".jp-OutputArea-output img").first
        picture.scroll_into_view_if_needed()
        picture.evaluate("image => image.decode()")  # raises if the markup is no image
        assert picture.evaluate("image => image.clientWidth") > 500
        text = notebook.page.locator(".jp-Notebook").evaluate("notebook => notebook.textContent")
        assert "Error displaying widget" not in text
        notebook.run_all()
        assert notebook.outputs("error") == []
        assert [output for output in notebook.outputs("stream") if output["name"] == "stderr"] == []
        assert notebook.complaints == []
        assert notebook.hosts
        assert notebook.hosts <= LOOPBACK
