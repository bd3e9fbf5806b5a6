"""Every check lets the right answer through, waits for ..., and answers anything else in words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest

from tdpkit import exercises
from tdpkit.engine.gfn import InvalidValueError
from tdpkit.exercises.checking import (
    Counterexample,
    Raised,
    Unanswered,
    Verdict,
    Wrong,
    about,
    answer_of,
    answered,
    check,
    did,
    items,
    one_of,
    ordered,
    ranges,
    refused,
    shown,
    truth,
    unanswered,
    whole,
)
from tests.exercises.problems import PROBLEMS, Problem, answered_in_words
from tests.oracles.junk import (
    ERRORS,
    JUNK,
    Hostile,
    HostileDict,
    HostileError,
    breaking,
    deep,
    endless,
    spoiled,
)

EACH_PROBLEM = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.check.__name__)
LAST_RESORT = "this answer raised "
SEEN = ("none", "markup", "long text", "array", "breaking")
"""Junk whose verdicts are drawn too: a picture depends on no more than their words."""


def spoiled_submissions(problem: Problem, junk: Callable[[], Any]) -> Iterator[tuple[Any, ...]]:
    for at, part in enumerate(problem.right):
        for bad in spoiled(part, junk):
            yield (*problem.right[:at], bad, *problem.right[at + 1 :])


# ---- over every check ----------------------------------------------------------------------------------


def test_every_check_there_is_is_tested_here() -> None:
    modules = [
        import_module(f"{exercises.__name__}.{found.name}") for found in iter_modules(exercises.__path__)
    ]
    there = {
        function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("check_") and function.__module__ == module.__name__
    }
    assert there == {problem.check for problem in PROBLEMS}
    assert len(there) > 20


@pytest.mark.slow
@EACH_PROBLEM
def test_the_right_answer_is_right_and_needs_no_picture(problem: Problem) -> None:
    before = repr(problem.right)
    verdict = problem.verdict(*problem.right)
    assert verdict.right is True, verdict
    assert problem.says in verdict.text
    assert repr(problem.right) == before, "it is not changed"
    assert verdict._repr_mimebundle_() == {"text/plain": f"Right: {verdict.text}"}


@EACH_PROBLEM
def test_dots_anywhere_are_no_answer_yet(problem: Problem) -> None:
    submissions = [*spoiled_submissions(problem, lambda: ...)]
    assert submissions[0][0] is ...
    if isinstance(problem.right[0], dict):
        submissions.append(({}, *problem.right[1:]))
    for submitted in submissions:
        verdict = problem.verdict(*submitted)
        assert verdict.right is None, (submitted, verdict)
        assert verdict._repr_mimebundle_() == {"text/plain": f"No answer yet: {verdict.text}"}
        assert verdict.text.endswith((".", "?", ")"))


@pytest.mark.slow
@EACH_PROBLEM
def test_junk_is_answered_in_words(problem: Problem) -> None:
    """Its own words; the last resort is for objects that raise even inside an error."""
    for name, junk in JUNK.items():
        for submitted in spoiled_submissions(problem, junk):
            verdict = problem.verdict(*submitted)
            assert answered_in_words(verdict, draw=name in SEEN), (name, verdict)
            hopeless = name.startswith(("hostile", "huge", "deep"))
            assert hopeless or LAST_RESORT not in verdict.text, (name, verdict)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "problem", [one for one in PROBLEMS if one.functions], ids=lambda problem: problem.check.__name__
)
def test_a_function_that_raises_is_told_what_it_raised(problem: Problem, error: Exception) -> None:
    def raising(*_: Any) -> Any:
        raise error

    verdict = problem.verdict(raising)
    assert verdict.right is False
    assert answered_in_words(verdict)
    words = {"LookupError": ": no idea"}.get(type(error).__name__, "")
    assert f"raised {type(error).__name__}{words}" in verdict.text
    assert LAST_RESORT not in verdict.text
    verdict = problem.verdict(lambda: None)
    assert "raised TypeError: " in verdict.text, "it takes no argument"


# ---- a check of its own --------------------------------------------------------------------------------


@check("give {most} at most.")
def check_small(number: Any, most: int = 3) -> str:
    """Hold a number against a limit."""
    if number == 7:
        raise Unanswered("7 is for later.")
    if number > most:
        raise Wrong(
            f"{number} is too large.",
            Counterexample(
                "state", lambda state, palette, verdict: f"<{state} in {palette['paper']}: {verdict}>"
            ),
        )
    return f"{number} is small."


def test_a_check_answers_with_a_verdict() -> None:
    assert repr(check_small(2)) == "Right: 2 is small."
    assert repr(check_small(...)) == "No answer yet: give 3 at most."
    assert repr(check_small(..., most=9)) == "No answer yet: give 9 at most."
    assert repr(check_small([2, (..., 1)])) == "No answer yet: give 3 at most."
    assert repr(check_small(7)) == "No answer yet: 7 is for later."
    assert repr(check_small(8)) == "Not yet: 8 is too large."
    assert check_small.__doc__ == "Hold a number against a limit."


def test_a_counterexample_is_drawn_with_the_verdict_in_place_of_its_own_answer() -> None:
    bundle = check_small(8)._repr_mimebundle_()
    assert bundle == {
        "text/plain": "Not yet: 8 is too large.",
        "image/svg+xml": "<state in #ffffff: Not yet: 8 is too large.>",
    }


def test_any_other_error_of_a_problem_is_told() -> None:
    assert check_small("x").right is False
    assert check_small("x").text.startswith("this answer raised TypeError: '>' not supported")
    assert repr(check_small(Hostile())) == "Not yet: this answer raised LookupError: no idea."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidValueError("a rule"), "a rule."),
        (InvalidValueError(), "this answer raised InvalidValueError."),
        (HostileError(), "this answer raised HostileError."),
        (Wrong("so it is."), "so it is."),
    ],
)
def test_an_error_is_told_about_its_question(error: Exception, text: str) -> None:
    @check()
    def check_error() -> str:
        with about("2M"):
            raise error

    assert check_error().text == f"2M: {text}"


def test_a_question_without_an_answer_stays_one_inside_of_another() -> None:
    with pytest.raises(Unanswered), about("2M"):
        raise Unanswered


# ---- reading -------------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_questions_and_the_first_missing_one_is_asked() -> None:
    def read(answers: Any) -> list[tuple[str, Any]]:
        return [*answered(answers, "abc", "a letter for each", lambda question: f"what is {question}?")]

    assert read({"c": 3, "a": 1, "b": None, "d": ...}) == [("a", 1), ("b", None), ("c", 3)]
    for missing in ({"a": 1}, {"a": 1, "b": ..., "c": 3}, {"a": 1, "b": [(2, ...)]}):
        with pytest.raises(Unanswered, match=r"^what is b\?$"):
            read(missing)
    for nothing in (..., {}):
        with pytest.raises(Unanswered, match="what is a"):
            read(nothing)
    for other in (None, 3, [1], "abc"):
        with pytest.raises(Wrong, match="the answers are a dict with a letter for each, not "):
            read(other)
    with pytest.raises(LookupError):
        read(HostileDict())


@pytest.mark.parametrize(
    "junk", [True, 2.0, "2", None, Hostile(), [2], float("nan")], ids=lambda junk: type(junk)
)
def test_what_is_no_whole_number_is_none(junk: Any) -> None:
    assert whole(junk) is None


def test_whole_numbers_and_truth_of_other_kinds_are_taken() -> None:
    assert (whole(-3), whole(np.int8(5))) == (-3, 5)
    assert type(whole(np.int8(5))) is int
    for yes in (True, 1, 1.0, np.bool_(True), np.array([1])):
        assert truth(yes) is True
    for no in (False, 0, np.array(0)):
        assert truth(no) is False
    for neither in (2, None, "1", [1], float("nan"), Hostile(), np.array([0, 1])):
        assert truth(neither) is None


def test_items_are_read_up_to_a_number_and_those_of_a_row_counted() -> None:
    assert items(endless(1), 3) == [1, 1, 1]
    for none in ("ab", b"ab", 3, None, Hostile(), breaking(1)):
        assert items(none) is None
    assert ordered((1, 2), 2) == ordered(iter([1, 2]), 2) == ordered(np.array([1, 2]), 2) == [1, 2]
    for other in ({1, 2}, frozenset((1, 2)), {1: 1, 2: 2}, (1,), (1, 2, 3), endless(1), "12", breaking(1)):
        assert ordered(other, 2) is None


def test_one_of_a_few_names_is_named_exactly() -> None:
    assert one_of("b", ("a", "b"), "a letter") == "b"
    for other in ("c", "B", "", None, 1, ["b"], Hostile()):
        with pytest.raises(Wrong, match=r"^a letter is a, b or x, not .+\.$"):
            one_of(other, "abx", "a letter")


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), ("a", "'a'"), (Hostile(), "a Hostile"), (deep(), "a list"), ("a" * 99, f"'{'a' * 56}...")],
    ids=range(5),
)  # fmt: skip
def test_a_value_is_shown_as_far_as_it_can_be(value: Any, text: str) -> None:
    assert shown(value) == text
    assert refused("it is a word", value).text == f"it is a word, not {text}."


def test_an_answer_of_a_function_is_read_or_told() -> None:
    assert answer_of(max, 1, 2) == 2
    assert did(3) == "said 3"
    assert did(3, "is") == "is 3"
    raised = answer_of(lambda: {}["x"])
    assert isinstance(raised, Raised)
    assert did(raised, "is") == "raised KeyError: 'x'"
    assert truth(raised) is whole(raised) is items(raised) is None
    for dots in (lambda: ..., lambda: [..., 1]):
        with pytest.raises(Unanswered):
            answer_of(dots)


def test_dots_are_found_in_lists_and_not_looked_for_in_what_never_ends() -> None:
    assert all(map(unanswered, (..., [...], (1, [2, ...]), {...})))
    assert not any(map(unanswered, (None, [], [1, (2,)], {1: ...}, endless(...), [[[...]]])))


def test_every_range_of_a_machine_comes_once_the_shortest_first() -> None:
    spans = [(span.start, span.end) for span in ranges(4)]
    assert sorted(spans) == sorted({(start, end) for start in range(4) for end in range(start + 1, 5)})
    assert [end - start for start, end in spans] == sorted(end - start for start, end in spans)


def test_a_verdict_says_which_it_is() -> None:
    assert [repr(Verdict(right, "so.")) for right in (True, False, None)] == [
        "Right: so.", "Not yet: so.", "No answer yet: so."
    ]  # fmt: skip
