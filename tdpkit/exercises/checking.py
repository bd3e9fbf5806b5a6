"""How an exercise is checked: what was submitted is read without trust, and the answer is a verdict.

The body of a check holds the problem and nothing else. It returns what to say of a right answer; it raises
`Wrong` with a counterexample, or `Unanswered` where a part is still missing. :func:`check` turns these three
into a :class:`Verdict`, and turns anything else that goes wrong into words: a submission may be of any kind,
may raise whatever it is asked, and may never end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from itertools import islice
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError, as_integer
from tdpkit.lab.words import listed
from tdpkit.show.theme import LIGHT

P = ParamSpec("P")
Question = TypeVar("Question", bound=Hashable)

# ---- the answer of a check -----------------------------------------------------------------------------


class Counterexample(NamedTuple):
    """The state of an exhibit in which a submission is wrong, and the function that draws such states."""

    state: Any
    draw: Callable[..., str]
    """Called as ``draw(state, palette, verdict=words)``."""

    def svg(self, answer: str) -> str:
        """The picture, with `answer` in place of the exhibit's own."""
        return self.draw(self.state, LIGHT, verdict=answer)


class Verdict:
    """The result of a check.

    right: None while nothing is submitted. case: a counterexample to be drawn. Its picture says the verdict,
    because a page shows either the picture or the text.
    """

    def __init__(self, right: bool | None, text: str, case: Counterexample | None = None) -> None:
        self.right = right
        self.text = text
        self.case = case

    def __repr__(self) -> str:
        word = {True: "Right", False: "Not yet", None: "No answer yet"}[self.right]
        return f"{word}: {self.text}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        picture = {"image/svg+xml": self.case.svg(repr(self))} if self.case else {}
        return {"text/plain": repr(self), **picture}


class Wrong(Exception):  # noqa: N818 - a verdict, not an error of the program
    """The submission is wrong: why, in a sentence, and the counterexample if there is one to draw."""

    def __init__(self, text: str, case: Counterexample | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.case = case


class Unanswered(Exception):  # noqa: N818 - likewise
    """Something is still ``...``: asks for it; without words the check asks for the whole answer."""


def check(waiting: str = "") -> Callable[[Callable[P, str]], Callable[P, Verdict]]:
    """Make a check of a problem, see this module's text.

    waiting: asks for the answer while any argument is ``...``; it may name the arguments, as in ``{frames}``.
    Without it the problem sees the ``...`` itself, and asks (see :func:`answered`).
    """

    def checked_by(problem: Callable[P, str]) -> Callable[P, Verdict]:
        parameters = signature(problem)

        @wraps(problem)
        def checked(*submitted: P.args, **named: P.kwargs) -> Verdict:
            bound = parameters.bind(*submitted, **named)
            bound.apply_defaults()
            try:
                if waiting and any(map(unanswered, bound.arguments.values())):
                    raise Unanswered
                return Verdict(True, problem(*submitted, **named))
            except Unanswered as missing:
                return Verdict(None, str(missing) or waiting.format_map(bound.arguments))
            except Wrong as wrong:
                return Verdict(False, wrong.text, wrong.case)
            except Exception as error:  # whatever the submission does, the learner is told
                return Verdict(False, f"{_in_words(error)}.")

        return checked

    return checked_by


@contextmanager
def about(question: str) -> Iterator[None]:
    """Say which question it is that goes wrong inside."""
    try:
        yield
    except Unanswered:
        raise
    except Wrong as wrong:
        raise Wrong(f"{question}: {wrong.text}", wrong.case) from None
    except Exception as error:  # as in a check
        raise Wrong(f"{question}: {_in_words(error)}.") from None


# ---- words ---------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """`value` as Python writes it, shortened; its type if it cannot be written."""
    try:
        text = repr(value)
    except Exception:  # its __repr__ may raise anything
        text = f"a {type(value).__name__}"
    return cut(text, 60)


def cut(text: str, most: int = 200) -> str:
    """`text`, shortened to `most` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _told(error: Exception) -> str:
    """An error's own words, if it has any."""
    try:
        return cut(str(error))
    except Exception:  # its __str__ may raise anything
        return ""


def _in_words(error: Exception) -> str:
    """The kit's own errors name a rule, so their words will do; any other is named."""
    kits_own = isinstance(error, InvalidValueError | InvalidTypeError)
    return (kits_own and _told(error)) or f"this answer {Raised(error)!r}"


def refused(rule: str, value: Any) -> Wrong:
    """The verdict on a `value` that breaks `rule`, a clause such as "an index is a number"."""
    return Wrong(f"{rule}, not {shown(value)}.")


# ---- reading a submission ------------------------------------------------------------------------------


def unanswered(value: Any, depth: int = 2) -> bool:
    """Whether `value` is ``...``, or a list, tuple or set that holds it, as a list of pairs may."""
    if not depth or not isinstance(value, list | tuple | set):
        return value is ...
    return any(unanswered(item, depth - 1) for item in value)


def answered(
    answers: Any, questions: Iterable[Question], each: str, ask: Callable[[Question], str]
) -> Iterator[tuple[Question, Any]]:
    """Each question with its answer; the first question without one is asked, in the words of `ask`.

    each: what the dict of answers holds, such as "a number for each range".
    """
    if answers is not ... and not isinstance(answers, Mapping):
        raise refused(f"the answers are a dict with {each}", answers)
    for question in questions:
        said = ... if answers is ... else answers.get(question, ...)
        if unanswered(said):
            raise Unanswered(ask(question))
        yield question, said


def whole(value: Any) -> int | None:
    """`value` as an integer; None if it is not a whole number (a boolean is not)."""
    try:
        return as_integer(value, "a number")
    except Exception:  # its __index__ may raise anything
        return None


def truth(value: Any) -> bool | None:
    """`value` as a boolean, which may be written 1 or 0; None for anything else."""
    try:
        return bool(value) if value in (0, 1) else None
    except Exception:  # its __eq__ may raise anything
        return None


def one_of(value: Any, names: Iterable[str], what: str) -> str:
    """`value`, if it is one of `names`; refused otherwise. what: "a reason", "the root"."""
    known = [*names]
    if not isinstance(value, str) or value not in known:
        raise refused(f"{what} is {listed(known, 'or')}", value)
    return value


def items(value: Any, most: int = 65) -> list[Any] | None:
    """The first `most` items of a list, set, array, generator; None for text and for what has no items."""
    try:
        return None if isinstance(value, str | bytes) else list(islice(value, most))
    except Exception:  # its __iter__ may raise anything
        return None


def ordered(value: Any, count: int) -> list[Any] | None:
    """The items of `value` if there are `count` of them, in an order; None otherwise (a set has no order)."""
    if isinstance(value, Mapping | set | frozenset):
        return None
    found = items(value, count + 1)
    return found if found is not None and len(found) == count else None


# ---- asking a function ---------------------------------------------------------------------------------


class Raised:
    """Stands for the answer of a submitted function that raised; equal to no answer."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __repr__(self) -> str:
        name, words = type(self.error).__name__, _told(self.error)
        return f"raised {name}: {words}" if words else f"raised {name}"


def answer_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a submitted function, or what it raised; Unanswered while it is not written."""
    try:
        said = function(*arguments)
    except Exception as error:  # a submission may raise anything; the learner is told
        return Raised(error)
    if unanswered(said):
        raise Unanswered
    return said


def did(said: Any, verb: str = "said") -> str:
    """An :func:`answer_of` a function as a predicate: ``said 3``, ``raised KeyError: 3``."""
    return repr(said) if isinstance(said, Raised) else f"{verb} {shown(said)}"


def ranges(frames: int) -> Iterator[GfnRange]:
    """Every range of a machine of `frames` frames to attack a function with; not empty, shortest first."""
    for length in range(1, frames + 1):
        for start in range(frames - length + 1):
            yield GfnRange(start, start + length)
