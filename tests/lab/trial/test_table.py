"""The table: a row per question, what it says in a line, and what can be drawn."""

from __future__ import annotations

import re

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.trial import QUESTIONS, trial
from tdpkit.show.case import CasePicture

FEW = ("rules", "roots", "pages")


def test_rows_come_in_the_order_they_were_asked_in() -> None:
    heard: list[str] = []
    tried = trial("v3", FEW, told=heard.append)
    assert tuple(row.question for row in tried.rows) == tuple(heard) == FEW
    assert repr(tried).splitlines()[0] == "v3, a wrapper: 3 questions; 3 hold"
    assert [line.split("  ")[0] for line in repr(tried).splitlines()[3:]] == [*FEW]


def test_a_question_is_asked_once_and_none_after_a_broken_rule() -> None:
    tried = trial(lambda kvm, gfn_range: 0, ("roots", "rules", "roots", "pages", "visits"))
    assert [(row.question, row.answer.verdict) for row in tried.rows] == [
        ("roots", "fails"),
        ("rules", "fails"),
        ("pages", "not asked"),
        ("visits", "not asked"),
    ]
    assert tried.sentence.endswith("4 questions; 2 not asked, 2 fail: roots; rules")


def test_notes_are_counted_in_the_plural() -> None:
    def silent(kvm, gfn_range):
        yield from ()
        return 0

    assert trial(silent, ("no memory", "reschedules")).sentence.endswith("2 questions; 2 notes")


def test_every_question_says_what_it_asks() -> None:
    assert len(QUESTIONS) == 15
    for question in QUESTIONS.values():
        assert (question.__doc__ or "").splitlines()[0].endswith((".", "?"))


def test_a_question_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a question is one of"):
        trial("v3", ["nothing"])
    with pytest.raises(InvalidValueError, match="a question of this trial is one of rules"):
        trial("v3", FEW)["visits"]


@pytest.mark.usefixtures("few_trees")
def test_as_html_it_is_a_table_whose_signs_are_not_only_colours() -> None:
    def off_by_one(geometry, s, e):
        return [PlannedCall(s + 1, e, 1, only_cross_boundary=True)]

    tried = trial(off_by_one, ("rules", "exact, 2M leaves"))
    shown = tried._repr_mimebundle_()
    assert shown["text/plain"] == repr(tried)
    assert "✗\N{NO-BREAK SPACE}fails" in shown["text/html"]
    assert "✓\N{NO-BREAK SPACE}holds" in shown["text/html"]
    assert "off_by_one, a plan: 2 questions; 1 holds, 1 fails: exact, 2M leaves" in shown["text/html"]
    assert "<script" not in shown["text/html"]
    assert re.search(r"frames \[\d,\xa0\d\) of a toy", shown["text/html"])  # a range stays on one line


@pytest.mark.usefixtures("few_trees")
def test_an_off_by_one_is_caught_with_a_case_that_can_be_drawn() -> None:
    def one_early(geometry, s, e):
        """Ends a frame early, and so misses the block of an end that begins there."""
        return [PlannedCall(s, e - 1, 1, only_cross_boundary=True)]

    tried = trial(one_early, ("exact, 2M leaves",))
    assert tried.fails == ("exact, 2M leaves",)
    assert tried.case is not None
    assert "<svg" in CasePicture(tried.case)._repr_mimebundle_()["image/svg+xml"]
