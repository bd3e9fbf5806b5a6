"""The solutions folded below the exercises are right, and typical wrong answers are not: the checks say so.

Of the other cells only those are run that the exercises need; nbval runs them all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from typing import NamedTuple

import nbformat
import pytest

from tdpkit.exercises.checking import Verdict
from tdpkit.exercises.guess import Guess
from tests.notebooks.write_outputs import NOTEBOOKS
from tests.notebooks.wrong_answers import WRONG


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


SOLUTION = re.compile(r"<details><summary>[^<]*solution</summary>(.*?)</details>", re.DOTALL | re.IGNORECASE)


def pieces(fold: str) -> list[str]:
    """The code of a fold: its blocks, or what stands in its lines."""
    return re.findall(r"```python\n(.*?)```", fold, flags=re.DOTALL) or re.findall(r"`([^`]+)`", fold)


def solution(fold: str, wanted: set[str]) -> str:
    """The code of a fold that gives the wanted names their values."""
    usable = []
    for piece in pieces(fold):
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


# ---- the exercises of a notebook -----------------------------------------------------------------------


class Exercise(NamedTuple):
    """What is asked, and how it is answered: in a cell, or on the control of a guess."""

    id: str
    cell: str
    """The code of the exercise; of a guess the code that makes it."""
    asked: str
    """The code of its check; empty for a guess, which has a button."""
    fold: str
    """The text of its solution; empty if there is none."""
    before: list[str]
    """The code of all cells before it, the exercises solved."""

    def solution(self) -> str:
        """Its answer as the notebook gives it: code for the cell, or the value of the control."""
        if self.asked:
            return solution(self.fold, names_of(self.cell))
        return pieces(self.fold)[0]

    def verdicts(self, *answers: str) -> list[tuple[bool, str]]:
        """Whether the check, or the button, takes each answer for right, and its words."""
        return [*map(self._checked if self.asked else self._compared, answers)]

    def _checked(self, answer: str) -> tuple[bool, str]:
        space: dict[str, object] = {}
        for source in needed([*self.before, answer], names_of(self.asked, ast.Load) - names_of(self.asked)):
            exec(compile(source, self.id, "exec"), space)
        verdict = last_value(self.asked, space)
        assert isinstance(verdict, Verdict)
        return verdict.right is True, repr(verdict)

    def _compared(self, answer: str) -> tuple[bool, str]:
        guess = last_value(self.cell, {})
        assert isinstance(guess, Guess)
        guess.control.value = answer if hasattr(guess.control, "options") else float(answer)
        guess.compare()
        words = unescape(re.sub("<[^>]*>", "", guess.message.value))
        return words.startswith("Right: "), words


def exercises(notebook: nbformat.NotebookNode) -> Iterator[Exercise]:
    """The exercises of a notebook, tagged or guessed at, in their order."""
    sources: list[str] = []
    for at, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        tagged = "exercise" in cell.metadata.get("tags", [])
        code = cell.source
        if tagged or re.search(r"^guess\w*\b(?!.*=)", code, flags=re.MULTILINE):
            asked = notebook.cells[at + 1].source if tagged else ""
            below = [
                later.source for later in notebook.cells[at + 1 : at + 4] if later.cell_type == "markdown"
            ]
            found = SOLUTION.search("\n".join(below))
            exercise = Exercise(cell.id, code, asked, found[1] if found else "", [*sources])
            yield exercise
            if tagged:
                code = exercise.solution()
        sources.append(code)


@cache
def exercises_of(number: str) -> dict[str, Exercise]:
    """The exercises of a notebook by the ids of their cells."""
    [path] = (path for path in NOTEBOOKS if path.name.startswith(number))
    return {exercise.id: exercise for exercise in exercises(nbformat.read(path, as_version=4))}


NUMBERS = [path.name[:2] for path in NOTEBOOKS]


# ---- the tests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_every_exercise_has_a_solution_and_typical_wrong_answers(number: str) -> None:
    rows = {cell for notebook, cell in WRONG if notebook == number}
    assert rows == exercises_of(number).keys()
    for exercise in exercises_of(number).values():
        assert exercise.solution(), exercise.id
        assert WRONG[number, exercise.id], exercise.id


def test_every_check_of_the_notebooks_is_an_exercise_of_theirs() -> None:
    """A check that a cell calls is asked by an exercise, and so has a solution."""
    for number, path in zip(NUMBERS, NOTEBOOKS, strict=True):
        calls = [
            name
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code"
            for name in re.findall(r"^((?:check|guess)_\w+)\(", cell.source, flags=re.MULTILINE)
        ]
        texts = "\n".join(f"{exercise.cell}\n{exercise.asked}" for exercise in exercises_of(number).values())
        assert [name for name in calls if f"{name}(" not in texts] == ALSO.get(number, []), number


ALSO = {"03": ["check_ratio"]}
"""Called once more: the button of the guess asks the same."""


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_the_folded_solutions_pass_their_checks(number: str, capsys) -> None:
    for exercise in exercises_of(number).values():
        [(right, text)] = exercise.verdicts(exercise.solution())
        assert right, f"{exercise.id}: {text}"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "cell"), [*WRONG], ids=["-".join(place) for place in WRONG])
def test_a_typical_wrong_answer_fails_with_its_hint(number: str, cell: str) -> None:
    rows = WRONG[number, cell]
    verdicts = exercises_of(number)[cell].verdicts(*(row.answer for row in rows))
    for row, (right, text) in zip(rows, verdicts, strict=True):
        assert not right, f"{row.mistake}: {text}"
        assert [words for words in row.hint if words not in text] == [], f"{row.mistake}: {text}"


def test_the_cells_that_a_name_comes_from_are_found() -> None:
    cells = ["import x.y as z", "a = z.b", "c = a", "def f():\n    return c", "unused = 1", "a = 2"]
    assert needed(cells[:5], {"f"}) == cells[:4]
    assert needed(cells, {"a"}) == ["import x.y as z", "a = z.b", "a = 2"]
    assert needed(cells, {"print"}) == []
