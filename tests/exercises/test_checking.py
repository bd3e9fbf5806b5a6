"""Every check lets the right answer through, waits for ..., and answers anything else in words."""

from __future__ import annotations

import inspect
import re
import signal
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tdpkit import exercises
from tdpkit.engine.gfn import InvalidValueError
from tdpkit.exercises import checking, two_roots
from tdpkit.exercises.checking import (
    COLOURS,
    Counterexample,
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
    truth,
    unanswered,
    whole,
)
from tdpkit.exercises.convert_zap_accept import check_demote_order
from tdpkit.lab import untrusted
from tdpkit.lab.untrusted import Raised
from tdpkit.show.theme import contrast, still
from tests.exercises.problems import PROBLEMS, Problem, answered_in_words
from tests.oracles.junk import (
    ERRORS,
    JUNK,
    Hostile,
    HostileDict,
    HostileError,
    breaking,
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
    bundle = verdict._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html"}
    assert bundle["text/plain"] == f"Right: {verdict.text}"


@EACH_PROBLEM
def test_dots_anywhere_are_no_answer_yet(problem: Problem) -> None:
    submissions = [*spoiled_submissions(problem, lambda: ...)]
    assert submissions[0][0] is ...
    if isinstance(problem.right[0], dict):
        submissions.append(({}, *problem.right[1:]))
    for submitted in submissions:
        verdict = problem.verdict(*submitted)
        assert verdict.right is None, (submitted, verdict)
        bundle = verdict._repr_mimebundle_()
        assert bundle.keys() == {"text/plain", "text/html"}
        assert bundle["text/plain"] == f"No answer yet: {verdict.text}"
        assert verdict.text.endswith((".", "?", ")"))


@pytest.mark.slow
@EACH_PROBLEM
def test_junk_is_answered_in_words(problem: Problem) -> None:
    """Its own words; the last resort is for objects that raise even inside an error."""
    for name, junk in JUNK.items():
        for submitted in spoiled_submissions(problem, junk):
            verdict = problem.verdict(*submitted)
            assert answered_in_words(verdict, draw=name in SEEN), (name, verdict)
            hopeless = name.startswith(("hostile", "deep"))
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
                "state",
                lambda state, palette, verdict: f"<svg>{palette['paper']} {state}: {verdict}</svg>",
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
    """Below a line that says the verdict, the picture has its own words."""
    bundle = check_small(8)._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html", "image/svg+xml"}
    assert bundle["text/plain"] == "Not yet: 8 is too large."
    assert bundle["image/svg+xml"] == still("<svg>#ffffff state: Not yet: 8 is too large.</svg>")
    [image] = re.findall(r'<img src="data:image/svg\+xml;base64,([\w+/=]+)"', bundle["text/html"])
    assert b64decode(image) == still("<svg>#ffffff state: </svg>").encode()


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
    assert read([1, None, 3]) == read((1, None, 3)) == [("a", 1), ("b", None), ("c", 3)]
    with pytest.raises(Unanswered, match="what is b"):
        read([1, ..., 3])
    for other in ([1, 2], [1, 2, 3, 4], {1, 2, 3}):
        with pytest.raises(Wrong, match="the answers are a dict with a letter for each, not "):
            read(other)


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


# ---- a verdict on the page -----------------------------------------------------------------------------


def test_as_html_a_verdict_is_a_line_with_its_sign_and_its_colour() -> None:
    for right, sign in ((True, "✓ Right"), (False, "✗ Not yet"), (None, "No answer yet")):
        page = Verdict(right, "5 < 6 & so.")._repr_mimebundle_()["text/html"]
        line = ElementTree.fromstring(page)
        assert "".join(line.itertext()) == f"{sign}: 5 < 6 & so."
        [bold] = line.iter("b")
        assert (bold.text, bold.get("style")) == (sign, f"color:{COLOURS[right]}")
    assert len(set(COLOURS.values())) == 3


def test_what_a_submission_says_is_no_markup() -> None:
    printed = "</pre><script>alert(1)</script>"
    page = Verdict(False, "</div><script>", printed=printed)._repr_mimebundle_()["text/html"]
    assert "<script" not in page
    assert (
        "".join(ElementTree.fromstring(page).itertext()) == f"✗ Not yet: </div><script>It printed:{printed}"
    )


def lab_colours(theme: str) -> dict[str, str]:
    """The variables of a theme of the installed JupyterLab; what refers to another has its fallback."""
    path = Path(sys.prefix) / f"share/jupyter/lab/themes/@jupyterlab/theme-{theme}-extension/index.css"
    found = re.findall(r"(--jp-[\w-]+):\s*(?:var\(--[\w-]+,\s*)?([^;})]+)", path.read_text(encoding="utf-8"))
    return {**dict(found), "paper": {"light": "#ffffff", "dark": "#111111"}[theme]}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_colours_are_read_on_the_paper_of_jupyterlab(theme: str) -> None:
    colours = lab_colours(theme)
    assert {"white": "#ffffff", "#111": "#111111"}[colours["--jp-layout-color0"]] == colours["paper"]
    for right in (True, False):
        name, fallback = re.fullmatch(r"var\((--[\w-]+),(#\w{6})\)", COLOURS[right]).groups()  # type: ignore[union-attr]
        assert contrast(colours[name], colours["paper"]) >= 4.5
        assert contrast(fallback, "#ffffff") >= 4.5


# ---- what a submission prints --------------------------------------------------------------------------


@check("write double(n).")
def check_double(double: Any) -> str:
    """Ask for the doubles of 0 to 99."""
    for number in range(100):
        said = answer_of(double, number)
        if said != 2 * number:
            raise Wrong(f"double({number}) {did(said, 'is')}.")
    return "doubled."


def printing(number: int) -> int:
    print("asked for", number)
    print("on the side", file=sys.stderr)
    return 2 * number if number < 50 else 0


def test_of_what_is_printed_only_that_of_the_counterexample_is_shown(capsys: Any) -> None:
    verdict = check_double(printing)
    assert repr(verdict) == "Not yet: double(50) is 0.\nIt printed:\nasked for 50\non the side"
    assert verdict.sentence == "Not yet: double(50) is 0."
    assert "asked for 50" in verdict._repr_mimebundle_()["text/html"]
    right = check_double(lambda number: print(number) or 2 * number)
    assert repr(right) == "Right: doubled."
    assert capsys.readouterr() == ("", "")
    print("the page is itself again")
    assert capsys.readouterr().out == "the page is itself again\n"


def test_what_a_coroutine_prints_is_kept_too() -> None:
    def split(kvm: Any, gfn: int, level: int) -> Any:
        print("before")
        yield from ()
        print("after", gfn)
        return 1 / 0

    verdict = two_roots.check_mend(split)
    assert "it raised ZeroDivisionError" in verdict.text
    assert verdict.printed == "before\nafter 5"


# ---- what never ends -----------------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has 0.2 s, a check 1 s; and afterwards no alarm is left."""
    monkeypatch.setattr(untrusted, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(checking, "CHECK_SECONDS", 1.0)


def forever(*_: Any) -> Any:
    while True:
        pass


def forever_whatever_comes(*_: Any) -> Any:
    while True:
        try:
            for _ in range(10**5):
                pass
        except BaseException:
            continue


def asleep(*_: Any) -> Any:
    time.sleep(100)


STOPPED = "did not end within 0.2 seconds, and was stopped"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("loop", [forever, forever_whatever_comes, asleep])
def test_what_never_ends_is_stopped_and_its_case_named(loop: Callable[..., Any]) -> None:
    handler, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    verdict = check_double(lambda number: 2 * number if number < 7 else loop())
    assert repr(verdict) == f"Not yet: double(7) {STOPPED}."
    assert time.monotonic() - began < 5
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    "problem", [one for one in PROBLEMS if one.functions], ids=lambda problem: problem.check.__name__
)
def test_each_check_of_a_function_names_the_case_on_which_it_hung(problem: Problem) -> None:
    verdict = problem.verdict(forever)
    assert verdict.right is False
    assert STOPPED in verdict.text
    assert re.search(r"\d.* did not end", verdict.text), "the numbers it was given"
    assert answered_in_words(verdict)


@pytest.mark.usefixtures("soon")
def test_a_coroutine_and_items_that_never_come_are_stopped() -> None:
    def split(kvm: Any, gfn: int, level: int) -> Any:
        yield from ()
        forever()

    assert STOPPED in two_roots.check_mend(split).text
    lists = (forever() for _ in range(3))
    assert check_demote_order(lists).text == f"this answer {STOPPED}."


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
def test_a_check_as_a_whole_has_its_limit() -> None:
    @check()
    def check_odd(value: Any) -> str:
        """Ask the value itself, outside of any call of :func:`answer_of`."""
        return "odd." if value == 1 else "even."

    class Endless:
        __eq__ = forever  # type: ignore[assignment]
        __hash__ = None  # type: ignore[assignment]

    assert check_odd(Endless()).text == "this answer took more than 1 seconds in all, and was stopped."
    began = time.monotonic()
    slow = check_double(lambda number: time.sleep(0.1) or 2 * number)
    assert time.monotonic() - began < 5, "100 calls would take 10"
    assert slow.text.endswith("took more than 1 seconds in all, and was stopped.")
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_in_another_thread_a_check_works_without_a_limit() -> None:
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(check_double(lambda number: 2 * number)))
    thread.start()
    thread.join()
    assert found[0].right is True


def test_leaving_python_is_an_answer_like_any_other_and_an_interrupt_is_not() -> None:
    assert check_double(lambda number: sys.exit(3)).text == "double(0) raised SystemExit: 3."

    def interrupted(number: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_double(interrupted)


# ---- what is too large, and what is missing ------------------------------------------------------------


@pytest.mark.parametrize("huge", [10**4000, 10**5000, -(10**5000), "x" * 10**6, [10**5000] * 9], ids=range(5))
@EACH_PROBLEM
def test_a_huge_number_or_text_is_cut(problem: Problem, huge: Any) -> None:
    verdict = problem.verdict(*[huge for _ in problem.right])
    assert answered_in_words(verdict)
    assert "Exceeds the limit" not in verdict.text
    assert len(repr(verdict)) < 300


def test_a_missing_argument_is_asked_for() -> None:
    assert repr(check_double()) == "No answer yet: check_double: missing a required argument: 'double'."


def test_nothing_that_asks_for_a_function_gives_the_solution_away() -> None:
    """The solution of each calls functions of the engine by name, or is one line (S140)."""
    waiting = two_roots.check_mend(...).text
    wrong = two_roots.check_mend(lambda *_: None).text
    assert "coroutine" in waiting
    assert "coroutine" in wrong
    for name in ("mirrors", *two_roots.SUSPECTS):
        assert name not in waiting + wrong
