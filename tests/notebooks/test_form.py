"""What every notebook keeps to, so that a learner knows the way through each of them."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from tdpkit.server import LIVE_VIEW
from tests.notebooks.write_outputs import METADATA, NOTEBOOKS

LONGEST, USUAL = 12, 6
"""Lines of a code cell: never more than the first, seldom more than the second."""


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    path: Path = request.param
    return nbformat.read(path, as_version=4)


def prose(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def headings(notebook: nbformat.NotebookNode) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", "\n\n".join(prose(notebook)), flags=re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells show, as text."""
    shown = []
    for cell in code(notebook):
        for output in cell.outputs:
            shown.append(output.get("text", ""))
            shown += [
                str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")
            ]
    return "\n".join(shown)


def test_there_is_a_first_notebook() -> None:
    assert [path.name[:2] for path in NOTEBOOKS][:1] == ["00"]


def test_the_file_is_plain(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert {**notebook.metadata, "title": ""} == {**METADATA, "title": ""}, (
        "widget state or an editor's notes"
    )


def test_it_begins_with_title_time_and_objectives(notebook: nbformat.NotebookNode) -> None:
    first, second = prose(notebook)[:2]
    assert first.startswith(f"# {notebook.metadata.title}\n")
    assert "**Time:**" in first
    assert "**You need:**" in first
    assert second.startswith("By the end you can\n\n* ")
    assert "understand" not in second, "an objective names something one can be seen to do"


def test_it_ends_with_exercises_and_a_summary(notebook: nbformat.NotebookNode) -> None:
    titles = [text for _, text in headings(notebook)]
    assert titles[-2:] == ["Exercises", "Summary"]
    assert "**Where the model ends.**" in prose(notebook)[-1]
    assert "**Next:**" in prose(notebook)[-1]


@pytest.mark.parametrize("number", ["00", "05"])
def test_the_first_cell_shows_a_picture(number: str) -> None:
    """One that comes after four screens of text is not seen by those who leave after two."""
    [path] = (path for path in NOTEBOOKS if path.name.startswith(number))
    first = code(nbformat.read(path, as_version=4))[0]
    assert any("image/svg+xml" in output.get("data", {}) for output in first.outputs)


def test_headings_form_a_tree(notebook: nbformat.NotebookNode) -> None:
    levels = [level for level, _ in headings(notebook)]
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_exercises_are_tagged_and_have_a_check_and_a_hint(notebook: nbformat.NotebookNode) -> None:
    cells = notebook.cells
    exercises = [at for at, cell in enumerate(cells) if "exercise" in cell.metadata.get("tags", [])]
    assert 2 <= len(exercises) <= 5
    for at in exercises:
        assert re.search(r"^check_\w+\(", cells[at + 1].source, flags=re.MULTILINE)
        assert "<details><summary>" in cells[at + 2].source


def test_prose_comes_before_code(notebook: nbformat.NotebookNode) -> None:
    for before, cell in pairwise(notebook.cells):
        if cell.cell_type == "code" and before.cell_type == "code":
            assert "exercise" in before.metadata.get("tags", []), f"no prose before {cell.id}"


def test_code_cells_are_short(notebook: nbformat.NotebookNode) -> None:
    lengths = [len(cell.source.splitlines()) for cell in code(notebook)]
    assert max(lengths) <= LONGEST
    assert sum(length > USUAL for length in lengths) <= len(lengths) // 10


def test_half_of_the_code_calls_something_with_arguments_to_edit(notebook: nbformat.NotebookNode) -> None:
    def has_editable_call(source: str) -> bool:
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        return any(call.args or call.keywords for call in calls)

    cells = code(notebook)
    assert 2 * sum(has_editable_call(cell.source) for cell in cells) >= len(cells)


def test_the_outputs_are_those_of_one_run_from_the_top(notebook: nbformat.NotebookNode) -> None:
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        assert "execution" not in cell.metadata, "times"
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", cell.id
            assert LIVE_VIEW not in output.get("data", {}), "a live view shows as an error without its kernel"
            if "image/svg+xml" in output.get("data", {}):
                assert output.data["text/plain"].strip(), "a picture has a text twin"
    assert not re.search(r"0x7f[0-9a-f]{10}|object at 0x", printed(notebook)), "an address of an object"


def test_numbers_in_prose_are_printed_by_a_cell(notebook: nbformat.NotebookNode) -> None:
    text = re.sub(r"`[^`]*`|\b(19|20)\d\d\b", "", "\n".join(prose(notebook)))
    digits = re.sub(r"(?<=\d) (?=\d{3}\b)", "", printed(notebook))
    for number in re.findall(r"(?<![\w.])\d{3,}(?![\w.]*\w)", re.sub(r"(?<=\d)[ ,](?=\d{3}\b)", "", text)):
        assert number in digits, f"no cell prints {number}"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["simply", "just", "obviously", "of course", "trivial"])
def test_prose_does_not_belittle(notebook: nbformat.NotebookNode, word: str) -> None:
    found = re.findall(rf"[^.]*\b{word}\b[^.]*", "\n".join(prose(notebook)), flags=re.IGNORECASE)
    assert not found
