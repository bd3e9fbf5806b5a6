"""A sheet of problems for a class, and its answer key.

    python -m tdpkit.exercises.sheet --seeds 1-5 [--kinds "decode an address,..."] [--level 1|2|3]
                                     [--format markdown|notebook|both] [--out FOLDER [--force]]

Prints the sheet and then the key, in Markdown; with --out it writes them as sheet.md and key.md. The
notebook, sheet.ipynb, is the source of an assignment for nbgrader. Seeds are numbers and spans such as 1-3,7;
each problem is on the sheet once. Exit status 2 for anything that is refused, with a sentence on stderr and
nothing written; 130 after Ctrl-C; 141 if nobody reads on (as in ``| head``).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tdpkit import __version__
from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.terminal import exit_status
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import capital, count_of, group_digits, known_name, listed

from .problems import KINDS, LEVELS, Problem

MOST_PROBLEMS = 200
"""On one sheet: more than a class solves in a term, and made in seconds."""

# ---- which problems ------------------------------------------------------------------------------------


class Sheet(NamedTuple):
    """The problems of a sheet, in their order, and the options that make it again."""

    problems: tuple[Problem, ...]
    options: str

    @property
    def headings(self) -> list[str]:
        """A heading for each problem, in Markdown; the key has the same."""
        return [
            f"## {number}. {capital(problem.kind)} (seed {problem.seed})"
            for number, problem in enumerate(self.problems, 1)
        ]


def make_sheet(seeds: str, kinds: str = "", level: int = LEVELS[0]) -> Sheet:
    """Make a problem of each kind for each seed, kind after kind.

    seeds: as in ``1-3,7``; kinds: names, with commas between them, all kinds if empty. Raises
    InvalidValueError for what is neither, for a level that is none of LEVELS, and for more than MOST_PROBLEMS
    problems.
    """
    names = kinds.split(",") if kinds else [*KINDS]
    chosen = [*dict.fromkeys(known_name(name.strip(), KINDS, "a kind of problem") for name in names)]
    spans = [_span(part) for part in seeds.split(",")]
    count = sum(last - first + 1 for first, last in spans) * len(chosen)
    if count > MOST_PROBLEMS:
        raise InvalidValueError(
            f"a sheet has at most {MOST_PROBLEMS} problems; these seeds make {group_digits(count)}, with "
            f"{count_of(len(chosen), 'kind')}"
        )
    numbers = dict.fromkeys(seed for first, last in spans for seed in range(first, last + 1))
    problems = tuple(Problem(kind, seed, level) for kind in chosen for seed in numbers)
    written = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return Sheet(problems, f'--seeds {written} --kinds "{",".join(chosen)}" --level {level}')


_MOST_DIGITS = 18


def _span(part: str) -> tuple[int, int]:
    """The first and the last seed of ``3`` or ``1-3``."""
    found = re.fullmatch(rf"([0-9]{{1,{_MOST_DIGITS}}})(?:-([0-9]{{1,{_MOST_DIGITS}}}))?", part.strip())
    if not found:
        raise InvalidValueError(f"seeds are numbers and spans such as 1-3,7; {shown(part)} is neither")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise InvalidValueError(f"a span of seeds goes up; {first}-{last} does not")
    return first, last


# ---- the pages -----------------------------------------------------------------------------------------

COMMAND = "python -m tdpkit.exercises.sheet"
ROOM = "```text\n\n\n\n```"
"""Room for an answer: an empty box on paper, empty lines in the text."""


def sheet_page(sheet: Sheet) -> str:
    """The questions, in Markdown, with room for the answers."""
    return _page("Problems", sheet, [f"{problem.question}\n\n{ROOM}" for problem in sheet.problems])


def key_page(sheet: Sheet) -> str:
    """The solutions, in Markdown, step by step; the last line of each is the answer."""
    return _page("Answer key", sheet, [problem.solution for problem in sheet.problems])


def _page(title: str, sheet: Sheet, texts: Sequence[str]) -> str:
    made = f"Made with `{COMMAND} {sheet.options}`, tdpkit {__version__}."
    parts = (f"{heading}\n\n{text}" for heading, text in zip(sheet.headings, texts, strict=True))
    return "\n\n".join([f"# {title}", made, *parts]) + "\n"


# ---- the notebook --------------------------------------------------------------------------------------

_INTRODUCTION = """# Problems

Below each problem is a cell for your answer. Write `answer_1 = ` and your answer into it, `answer_2 = ` for \
the second problem and so on, in place of all that stands there. The cell after it checks the answer, and \
shows a case in which a wrong one is wrong."""


def notebook(sheet: Sheet) -> str:
    """The source of an assignment for nbgrader, as JSON (notebook format 4.5, nbgrader's schema 3).

    Three cells for each problem: its question; its answer, which nbgrader cuts out of what it releases; its
    check, worth a point. Whoever solves a released notebook has the kit, and could ask it for the answer.
    """
    cells = [_cell("markdown", "introduction", _INTRODUCTION)]
    for number, (heading, problem) in enumerate(zip(sheet.headings, sheet.problems, strict=True), 1):
        name = f"answer_{number}"
        made = f'Problem("{problem.kind}", {problem.seed}, {problem.level})'
        cells += [
            _cell("markdown", f"question-{number}", f"{heading}\n\n{problem.question}"),
            _cell(
                "code",
                f"answer-{number}",
                f"{name} = ...\n### BEGIN SOLUTION\n{name} = {problem.right!r}\n### END SOLUTION",
                locked=False,
                solution=True,
            ),
            _cell(
                "code",
                f"check-{number}",
                "from tdpkit.exercises.problems import Problem\n\n"
                f"verdict = {made}.check({name})\n"
                "assert verdict.right, verdict\n"
                "print(verdict)",  # the value of the last line would be taken for points
                grade=True,
                points=1,
            ),
        ]
    whole = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _cell(
    cell_type: str,
    name: str,
    source: str,
    *,
    grade: bool = False,
    locked: bool = True,
    solution: bool = False,
    **points: int,
) -> dict[str, Any]:
    """A cell of the notebook, and how nbgrader treats it; `name` is its id."""
    roles = {"grade": grade, "locked": locked, "solution": solution, "task": False}
    nbgrader = {"schema_version": 3, "grade_id": name, **roles, **points}
    code: dict[str, Any] = {"execution_count": None, "outputs": []} if cell_type == "code" else {}
    return {
        "cell_type": cell_type,
        "id": name,
        "metadata": {"nbgrader": nbgrader},
        "source": source.splitlines(keepends=True),
        **code,
    }


# ---- the files -----------------------------------------------------------------------------------------

SHEET, KEY, NOTEBOOK = "sheet.md", "key.md", "sheet.ipynb"
FORMATS = ("markdown", "notebook", "both")


def files_of(sheet: Sheet, form: str) -> dict[str, str]:
    """The files of one of FORMATS: name and text."""
    files: dict[str, str] = {}
    if form != "notebook":
        files |= {SHEET: sheet_page(sheet), KEY: key_page(sheet)}
    if form != "markdown":
        files |= {NOTEBOOK: notebook(sheet)}
    return files


def write(files: Mapping[str, str], folder: Path, *, force: bool = False) -> None:
    """Write the files into `folder`, which is made if it is not there: whole, or not at all.

    force: an earlier sheet in the folder is replaced, all of it. Raises InvalidValueError where that is not
    allowed or `folder` is a file, OSError as the system does.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise InvalidValueError(f"--out is a folder; {folder} is a file")
    earlier = [name for name in (SHEET, KEY, NOTEBOOK) if (folder / name).exists()]
    if earlier and not force:
        raise InvalidValueError(f"{folder} has {listed(earlier)}; --force replaces what is there")
    beside = folder if folder.exists() else folder.parent
    with TemporaryDirectory(prefix=".sheet-", dir=beside) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        for name, text in files.items():
            (made / name).write_text(text, encoding="utf-8", newline="\n")
        if not folder.exists():
            made.rename(folder)
            return
        for name in files:
            (made / name).replace(folder / name)
        for name in earlier:
            if name not in files:  # of another sheet
                (folder / name).unlink()


# ---- the command ---------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Print a sheet of problems for a class, and its answer key."
    )
    parser.add_argument("--seeds", required=True, help="numbers and spans, such as 1-3,7: a problem for each")
    parser.add_argument(
        "--kinds",
        default="",
        help=f"names with commas between them; all if none is named: {', '.join(KINDS)}",
    )
    parser.add_argument("--level", type=int, default=LEVELS[0], help="1 (toys) to 3 (traps); 1 if not given")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="of --out; markdown if not given"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write files there, in place of printing")
    parser.add_argument("--force", action="store_true", help="replace an earlier sheet in the folder")
    asked = parser.parse_args(arguments)
    return exit_status(partial(_run, asked), "nothing was written")


def _run(asked: argparse.Namespace) -> None:
    if asked.out is None and (asked.format != "markdown" or asked.force):
        raise InvalidValueError("a notebook is written, and --force replaces: name a folder with --out")
    sheet = make_sheet(asked.seeds, asked.kinds, asked.level)
    if asked.out is None:
        print(sheet_page(sheet), "---\n", key_page(sheet), sep="\n", end="")
        return
    try:
        write(files_of(sheet, asked.format), asked.out, force=asked.force)
    except OSError as error:
        raise InvalidValueError(f"cannot write to {asked.out}: {error.strerror or error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
