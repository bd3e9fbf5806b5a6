"""A sheet and its key are of the same problems; the notebook keeps nbgrader's rules, which are written here
once more, by hand; what is refused leaves no trace.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from ast import literal_eval
from itertools import product
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tdpkit.exercises import sheet as sheet_module
from tdpkit.exercises.problems import KINDS, LEVELS, Problem
from tdpkit.exercises.sheet import (
    COMMAND,
    MOST_PROBLEMS,
    Sheet,
    key_page,
    main,
    make_sheet,
    notebook,
    sheet_page,
)

TWO = make_sheet("3-4", "decode an address")
HEADING = re.compile(r"^## (\d+)\. (.+) \(seed (\d+)\)$", re.MULTILINE)


@pytest.fixture(scope="module", params=LEVELS)
def sheet(request: pytest.FixtureRequest) -> Sheet:
    """Three problems of each kind, at each level."""
    return make_sheet("0-1,7", level=request.param)


def sections(page: str) -> dict[tuple[str, str, str], str]:
    """(number, kind, seed) -> the text below this heading."""
    _, *rest = HEADING.split(page)
    return {
        (number, kind[0].lower() + kind[1:], seed): text.strip()
        for number, kind, seed, text in zip(*[iter(rest)] * 4, strict=True)
    }


# ---- which problems ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "wanted"),
    [
        ("1-3,7", [1, 2, 3, 7]),
        (" 7 , 1-2 ", [7, 1, 2]),
        ("1-3,2,3-4", [1, 2, 3, 4]),
        ("0", [0]),
        ("5-5", [5]),
        ("123456789012345678", [123456789012345678]),
    ],
)
def test_each_kind_has_a_problem_for_each_seed_once(seeds: str, wanted: list[int]) -> None:
    problems = make_sheet(seeds, level=2).problems
    assert [(one.kind, one.seed) for one in problems] == [*product(KINDS, wanted)]
    assert {one.level for one in problems} == {2}


def test_kinds_stand_in_the_order_of_the_command() -> None:
    problems = make_sheet("1", "which leaves cross, decode an address,which leaves cross").problems
    assert [problem.kind for problem in problems] == ["which leaves cross", "decode an address"]


# ---- the pages -----------------------------------------------------------------------------------------


def test_sheet_and_key_are_of_the_same_problems(sheet: Sheet) -> None:
    asked, solved = sections(sheet_page(sheet)), sections(key_page(sheet))
    assert [*asked] == [*solved]
    assert len(asked) == 3 * len(KINDS)
    for (_, kind, seed), question in asked.items():
        problem = Problem(kind, int(seed), sheet.problems[0].level)
        assert problem.question in question
        assert problem.solution not in question


def test_the_answer_of_the_key_is_right(sheet: Sheet) -> None:
    for (_, kind, seed), solved in sections(key_page(sheet)).items():
        *steps, answer = solved.splitlines()
        said = re.fullmatch(r"\*\*Answer:\*\* `(.*)`", answer)
        assert said, answer
        assert Problem(kind, int(seed), sheet.problems[0].level).check(literal_eval(said[1])).right
        assert len(steps) > 1, "worked, step by step"


def test_there_is_room_for_each_answer() -> None:
    for question in sections(sheet_page(TWO)).values():
        assert re.search(r"\n```text\n\n+```$", question)


@pytest.mark.parametrize("options", ["--seeds 1-3,7", '--seeds 2 --kinds "which leaves cross" --level 3'])
def test_the_command_on_a_page_makes_it_again(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(options)) == 0
    page = capsys.readouterr().out
    sheet, key = re.findall(rf"^Made with `{COMMAND} (.*)`", page, flags=re.MULTILINE)
    assert sheet == key
    assert main(shlex.split(sheet)) == 0
    assert capsys.readouterr().out == page
    assert page.index("\n# Answer key\n") > page.rindex("```text")


# ---- the notebook --------------------------------------------------------------------------------------


def read(sheet: Sheet) -> NotebookNode:
    return nbformat.reads(notebook(sheet), as_version=nbformat.NO_CONVERT)


MARKS = re.compile(r"^### BEGIN SOLUTION\n(?:.*\n)*?### END SOLUTION\n?", re.MULTILINE)
"""What nbgrader cuts out of a released notebook; it leaves an error to be replaced."""


def test_the_notebook_is_valid_and_each_problem_has_three_cells(sheet: Sheet) -> None:
    made = read(sheet)
    nbformat.validate(made)
    assert (made.nbformat, made.nbformat_minor) == (4, 5)
    first, *cells = made.cells
    assert first.cell_type == "markdown"
    assert len(cells) == 3 * len(sheet.problems)
    for number, problem in enumerate(sheet.problems, 1):
        question, answer, check = cells[3 * number - 3 : 3 * number]
        assert question.source.endswith(problem.question)
        assert MARKS.sub("", answer.source) == f"answer_{number} = ...\n"
        assert f"answer_{number} = {problem.right!r}" in answer.source.splitlines()
        assert f".check(answer_{number})\nassert verdict.right" in check.source
        assert not answer.outputs + check.outputs


def test_the_cells_keep_nbgraders_rules(sheet: Sheet) -> None:
    """Schema 3: four flags and a name for each cell, of letters, digits, _ and -; points for a graded one."""
    cells = read(sheet).cells
    names = [cell.metadata.nbgrader.grade_id for cell in cells]
    assert len({*names}) == len(names)
    for cell in cells:
        assert {*cell.metadata} == {"nbgrader"}
        rules = cell.metadata.nbgrader
        keys = {"schema_version", "grade_id", "grade", "locked", "solution", "task"}
        assert {*rules} == (keys | {"points"} if rules.grade else keys)
        assert rules.schema_version == 3
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", rules.grade_id)
        assert all(isinstance(rules[flag], bool) for flag in ("grade", "locked", "solution", "task"))
        assert not rules.task
        if cell.cell_type == "markdown":
            assert (rules.locked, rules.grade, rules.solution) == (True, False, False)
        else:
            assert rules.locked is not rules.solution, "an answer is written, all else is locked"
            assert rules.grade is rules.locked, "a check gives points"
            assert rules.get("points") == (1 if rules.grade else None)
            assert ("### BEGIN SOLUTION" in cell.source) is rules.solution


def test_what_is_released_holds_no_answer(sheet: Sheet) -> None:
    """Of a check: the same text for each answer, in which only number, kind, seed and level differ."""
    checks = set()
    for cell in read(sheet).cells:
        if cell.metadata.nbgrader.grade:
            checks.add(re.sub(r'answer_\d+|Problem\("[a-z ]+", \d+, [1-3]\)', "…", cell.source))
    assert len(checks) == 1


def verdict_of(made: NotebookNode, number: int, answer: str) -> str:
    """Run the answer and its check as a kernel does; the words of the check."""
    space: dict[str, Any] = {}
    exec(f"answer_{number} = {answer}", space)
    try:
        exec(made.cells[3 * number].source, space)
    except AssertionError as error:
        return str(error)
    return "passed"


def test_a_right_answer_passes_and_another_fails_with_words(
    sheet: Sheet, capsys: pytest.CaptureFixture[str]
) -> None:
    made = read(sheet)
    for number, problem in enumerate(sheet.problems, 1):
        assert verdict_of(made, number, repr(problem.right)) == "passed"
        assert capsys.readouterr().out.startswith("Right: ")
        assert verdict_of(made, number, "'nonsense'").startswith("Not yet: ")
        assert verdict_of(made, number, "...").startswith("No answer yet: ")


@pytest.mark.slow
def test_a_kernel_runs_the_notebook_with_the_keys_answers_and_stops_at_a_wrong_one() -> None:
    made = read(make_sheet("5"))
    NotebookClient(made, kernel_name="python3", timeout=120).execute()
    checks = [cell for cell in made.cells if cell.metadata.nbgrader.grade]
    for check in checks:
        [output] = check.outputs
        # The value of a last line would be taken for the points, an error or a line on stderr for none.
        assert (output.output_type, output.name) == ("stream", "stdout")
        assert output.text.startswith("Right: ")
    wrong = read(TWO)
    wrong.cells[2].source = wrong.cells[2].source.replace("### END", "answer_1 = [0]\n### END")
    NotebookClient(wrong, kernel_name="python3", timeout=120, allow_errors=True).execute()
    assert [cell.outputs[0].output_type for cell in wrong.cells if cell.metadata.nbgrader.grade] == [
        "error",
        "stream",
    ]


# ---- the files -----------------------------------------------------------------------------------------

ONE = ["--seeds", "1", "--kinds", "decode an address"]
FILES = {
    "markdown": {"sheet.md", "key.md"},
    "notebook": {"sheet.ipynb"},
    "both": {"sheet.md", "key.md", "sheet.ipynb"},
}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("made", [True, False])
def test_the_files_of_each_format_are_written(form: str, made: bool, tmp_path: Path) -> None:
    out = tmp_path / "week 3"
    if made:
        out.mkdir()
    assert main([*ONE, "--format", form, "--out", str(out)]) == 0
    assert names_in(tmp_path) == {"week 3"}
    assert names_in(out) == FILES[form]
    for name, text in {"sheet.md": sheet_page, "key.md": key_page, "sheet.ipynb": notebook}.items():
        if name in FILES[form]:
            assert (out / name).read_text("utf-8") == text(make_sheet("1", "decode an address"))


def test_an_earlier_sheet_is_replaced_if_asked_and_what_else_is_there_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.md").write_text("mine")
    out = ["--out", str(tmp_path)]
    assert main([*ONE, "--format", "both", *out]) == 0
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert main(["--seeds", "2", *out]) == 2
    assert "has sheet.md, key.md and sheet.ipynb; --force replaces" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert main(["--seeds", "2", *out, "--force"]) == 0
    assert names_in(tmp_path) == {"notes.md", "sheet.md", "key.md"}, "no notebook of another sheet"
    assert (tmp_path / "sheet.md").read_text() == sheet_page(make_sheet("2"))
    assert (tmp_path / "notes.md").read_text() == "mine"


@pytest.mark.parametrize("made", [True, False])
def test_nothing_half_written_stays(
    made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if made:
        out.mkdir()
    honest = Path.write_text

    def full(path: Path, *text: Any, **how: Any) -> int:
        if path.name == "key.md":
            raise OSError(28, "No space left on device")
        return honest(path, *text, **how)

    monkeypatch.setattr(Path, "write_text", full)
    assert main([*ONE, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"cannot write to {out}: No space left on device\n"
    assert names_in(tmp_path) == ({"out"} if made else set())
    assert not made or not names_in(out)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", ""], "seeds are numbers and spans such as 1-3,7; '' is neither"),
        (["--seeds", "1,,2"], "'' is neither"),
        (["--seeds", "one"], "'one' is neither"),
        (["--seeds", "1.5"], "'1.5' is neither"),
        (["--seeds", "-1"], "'-1' is neither"),
        (["--seeds", "1-2-3"], "'1-2-3' is neither"),
        (["--seeds", "١"], "is neither"),
        (["--seeds", "9" * 5000], "is neither"),
        (["--seeds", "3-1"], "a span of seeds goes up; 3-1 does not"),
        (
            ["--seeds", f"1-{MOST_PROBLEMS + 1}", "--kinds", "decode an address"],
            "at most 200 problems; these seeds make 201,",
        ),
        (["--seeds", "0-999999999999999999"], "a sheet has at most 200 problems"),
        (["--seeds", "1", "--kinds", "riddle"], "a kind of problem is one of decode an address, "),
        (["--seeds", "1", "--kinds", "decode an address,"], "'' is none"),
        (["--seeds", "1", "--level", "0"], "a level is from 1 to 3; 0 is not"),
        (["--seeds", "1", "--format", "both"], "name a folder with --out"),
        (["--seeds", "1", "--format", "notebook"], "name a folder with --out"),
        (["--seeds", "1", "--force"], "name a folder with --out"),
        (["--seeds", "1", "--out", "file"], "is a file"),
        (["--seeds", "1", "--out", "none/out"], "cannot write to none/out: No such file or directory"),
    ],
)
def test_a_bad_argument_is_answered_in_a_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
    assert len(said.err) < 400
    assert names_in(tmp_path) == {"file"}
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [[], ["--seeds"], ["--seeds", "1", "--level", "x"], ["--seeds", "1", "--format", "pdf"], ["1"]],
)
def test_what_is_no_option_is_answered_by_the_parser(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_ctrl_c_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: Any) -> Sheet:
        raise KeyboardInterrupt

    monkeypatch.setattr(sheet_module, "make_sheet", stopped)
    assert main(ONE) == 130
    assert capsys.readouterr() == ("", "interrupted: nothing was written\n")


def test_it_ends_quietly_if_nobody_reads_on() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tdpkit.exercises.sheet", *ONE], stdout=theirs, stderr=subprocess.PIPE
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (141, b"")
