"""One JupyterLab for all browser tests, one Chromium and one open notebook for each of their files."""

import os
import shutil

import pytest
from playwright.sync_api import expect

from tests.browser import lab

expect.set_options(timeout=lab.PATIENCE)


@pytest.fixture(scope="session")
def browser_path():
    """Skips where no browser is installed; CI installs one, so there it is a fault."""
    try:
        return lab.find_browser()
    except lab.Unfit as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def server(browser_path, tmp_path_factory):
    """JupyterLab on a copy of the notebooks: what the tests do there is nobody's work."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(lab.ROOT / "notebooks", folder / "notebooks")
    with lab.serving(folder) as server:
        yield server


# Not for the whole session: Playwright keeps an event loop running, and the notebook tests, which come after
# these, want one of their own.
@pytest.fixture(scope="module")
def browser(browser_path):
    with lab.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def notebook(browser, server, request):
    """The notebook that the module's NUMBER names: opened, looked at before it is run, and run."""
    with lab.open_notebook(browser, server, server.find(request.module.NUMBER)) as notebook:
        notebook.look_unrun()
        notebook.run_all()
        yield notebook
