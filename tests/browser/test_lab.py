"""The JupyterLab of these tests is the learner's."""

import re

from tests.browser import lab

# What differs on purpose: the port, the folder and the page are the tests' own, and they ask the page's own
# objects when all cells are done.
OWN = {"--port", "--ServerApp.root_dir", "--LabApp.default_url", "--LabApp.expose_app_in_browser"}


def options(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--") and word.split("=")[0] not in OWN}


def test_it_is_started_with_the_options_of_make_lab():
    """Or an option that slows or breaks the lab for everyone would pass here."""
    makefile = (lab.ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    command = recipe[recipe.index(".venv/bin/jupyter lab") :]
    started = options([*lab.COMMAND, "--allow-root"])  # which only root needs
    assert options(re.findall(r"--[\w.-]+(?:=[\w.:$()]+)?", command)) == started
