"""The command: a table, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdpkit.lab.trial import QUESTIONS
from tdpkit.lab.trial import __main__ as command


def test_a_function_of_a_file_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from tdpkit.lab.strategies import PlannedCall\n\n"
        "def mine(geometry, s, e):\n    return [PlannedCall(s, e, 1, True)]\n\n"
        "def short(geometry, s, e):\n    return [PlannedCall(s, e, 2, True)]\n",
        encoding="utf-8",
    )
    assert command.main([f"{file}:mine", "--ask", "rules", "--ask", "pages"]) == 0
    out = capsys.readouterr()
    assert out.out.startswith("mine, a plan: 2 questions; 2 hold\n")
    assert out.err == ""
    assert command.main([f"{file}:short", "--ask", "4 and 5 levels"]) == 1
    assert "fails" in capsys.readouterr().out


def test_what_cannot_be_tried_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in {
        (): "name a variant",
        ("none.py:plan",): "there is no file 'none.py'",
        ("v4",): "a variant of the kit is one of",
        ("v5",): "and no FILE.py:NAME",
        ("mine:plan",): "there is no file 'mine'",
        ("v3", "--ask", "colour"): "a question is one of",
    }.items():
        assert command.main(arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert words in said.err


def test_the_list_names_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    out = capsys.readouterr().out
    for word in ("v3 as posted", "forgotten put", "one_block_per_edge", "plan(geometry, s, e)", *QUESTIONS):
        assert word in out
