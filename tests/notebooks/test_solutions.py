"""The solutions folded below the exercises are right: the notebook's own checks say so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import nbformat
import pytest

from tests.notebooks.write_outputs import NOTEBOOKS


def names_of(source: str) -> set[str]:
    """What a cell assigns or defines."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {
                name.id for part in node.targets for name in ast.walk(part) if isinstance(name, ast.Name)
            }
    return found


def solution(text: str, wanted: set[str]) -> str:
    """The code of the first fold in `text` that gives the wanted names their values."""
    fold = text[: text.index("</details>")]
    pieces = re.findall(r"```python\n(.*?)```", fold, flags=re.DOTALL) or re.findall(r"`([^`]+)`", fold)
    usable = []
    for piece in pieces:
        try:
            if names_of(piece) & wanted:
                usable.append(piece)
        except SyntaxError:  # inline code that is no statement
            continue
    code = "\n".join(usable)
    assert names_of(code) >= wanted, f"no code for {wanted} in {fold!r}"
    return code


def last_value(source: str, space: dict[str, object]) -> object:
    """Run a cell; its last expression's value."""
    *before, last = ast.parse(source).body
    exec(compile(ast.Module(before, []), "cell", "exec"), space)
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), space)


def solved(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, object]]:
    """(cell id, verdict) of each exercise whose fold is a solution: it has to be there as code to paste."""
    space: dict[str, object] = {}
    cells = notebook.cells
    for at, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        if "exercise" not in cell.metadata.get("tags", []):
            exec(compile(cell.source, cell.id, "exec"), space)
            continue
        is_hint = "solution</summary>" not in cells[at + 2].source.lower()
        code = cell.source if is_hint else solution(cells[at + 2].source, names_of(cell.source))
        exec(compile(code, cell.id, "exec"), space)
        if not is_hint:
            yield cell.id, last_value(cells[at + 1].source, space)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_folded_solutions_pass_their_checks(path, capsys) -> None:
    verdicts = dict(solved(nbformat.read(path, as_version=4)))
    assert len(verdicts) >= 3
    assert {name: repr(verdict) for name, verdict in verdicts.items() if not verdict.right} == {}
