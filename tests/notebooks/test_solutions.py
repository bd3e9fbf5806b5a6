"""The solutions folded below the exercises are right: the notebook's own checks say so.

Of the other cells only those are run that the exercises need; nbval runs them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import nbformat
import pytest

from tests.notebooks.write_outputs import NOTEBOOKS


def names_of(source: str, kind: type[ast.expr_context] = ast.Store) -> set[str]:
    """The names that a cell assigns, defines or imports; with ast.Load those that it reads."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ctx) if isinstance(ctx, kind):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if kind is ast.Store:
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names) if kind is ast.Store:
                found |= {(alias.asname or alias.name).split(".")[0] for alias in names}
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


def needed(sources: list[str], wanted: set[str]) -> list[str]:
    """Those of the cells, in their order, that the wanted names come from, directly or not."""
    found: list[str] = []
    for source in reversed(sources):
        if names_of(source) & wanted:
            wanted = wanted | names_of(source, ast.Load)
            found.insert(0, source)
    return found


def solved(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, object]]:
    """(cell id, verdict) of each exercise whose fold is a solution: it has to be there as code to paste."""
    sources: list[str] = []
    cells = notebook.cells
    for at, cell in enumerate(cells):
        if "exercise" in cell.metadata.get("tags", []):
            code, asked = cell.source, cells[at + 1].source
            if "solution</summary>" in cells[at + 2].source.lower():
                code = solution(cells[at + 2].source, names_of(cell.source))
                space: dict[str, object] = {}
                for source in needed([*sources, code], names_of(asked, ast.Load) - names_of(asked)):
                    exec(compile(source, cell.id, "exec"), space)
                yield cell.id, last_value(asked, space)
            sources.append(code)
        elif cell.cell_type == "code":
            sources.append(cell.source)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_folded_solutions_pass_their_checks(path, capsys) -> None:
    verdicts = dict(solved(nbformat.read(path, as_version=4)))
    assert len(verdicts) >= 3
    assert {name: repr(verdict) for name, verdict in verdicts.items() if not verdict.right} == {}


def test_the_cells_that_a_name_comes_from_are_found() -> None:
    cells = ["import x.y as z", "a = z.b", "c = a", "def f():\n    return c", "unused = 1", "a = 2"]
    assert needed(cells[:5], {"f"}) == cells[:4]
    assert needed(cells, {"a"}) == ["import x.y as z", "a = z.b", "a = 2"]
    assert needed(cells, {"print"}) == []
