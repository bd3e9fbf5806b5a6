"""How an exercise is checked: what was submitted is read without trust, and the answer is a verdict.

The body of a check holds the problem and nothing else. It returns what to say of a right answer; it raises
`Wrong` with a counterexample, or `Unanswered` where a part is still missing. :func:`check` turns these three
into a :class:`Verdict`, and turns anything else that goes wrong into words: a submission may be of any kind,
may raise whatever it is asked, may print, and may never end.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial, wraps
from html import escape
from inspect import signature
from itertools import islice
from typing import Any, NamedTuple, ParamSpec, TypeVar

from tdpkit.engine.gfn import (
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
    as_integer,
    check_gfn,
    parse_gfn,
)
from tdpkit.lab.untrusted import RAISED, Printed, Raised, one_call, shown, told, within
from tdpkit.lab.words import listed
from tdpkit.show.theme import LIGHT, still

P = ParamSpec("P")
T = TypeVar("T")
Question = TypeVar("Question", bound=Hashable)

# ---- the answer of a check -----------------------------------------------------------------------------


class Counterexample(NamedTuple):
    """The state of an exhibit in which a submission is wrong, and the function that draws such states."""

    state: Any
    draw: Callable[..., str]
    """Called as ``draw(state, palette, verdict=words)``."""

    def svg(self, answer: str = "") -> str:
        """The picture, with `answer`, if there is one, in place of the exhibit's own."""
        return still(self.draw(self.state, LIGHT, verdict=answer))


COLOURS = {
    True: "var(--jp-success-color0,#14694a)",
    False: "var(--jp-error-color1,#a81e37)",
    None: "var(--jp-ui-font-color1,#1f2937)",
}
"""Of a right answer, a wrong one, none yet: JupyterLab's own colours, else ones with contrast on white."""
_WORDS = {True: "Right", False: "Not yet", None: "No answer yet"}
_SIGNS = {True: "✓ ", False: "✗ ", None: ""}


class Verdict:
    """The result of a check.

    right: None while nothing is submitted. case: a counterexample to be drawn. printed: what the submission
    printed in that case. As HTML the verdict is a line, and the case is drawn below it; a page that shows
    nothing but the picture has the verdict inside it.
    """

    def __init__(
        self, right: bool | None, text: str, case: Counterexample | None = None, printed: str = ""
    ) -> None:
        self.right = right
        self.text = text
        self.case = case
        self.printed = printed

    @property
    def sentence(self) -> str:
        """The verdict in a line, without what was printed."""
        return f"{_WORDS[self.right]}: {self.text}"

    def __repr__(self) -> str:
        return self.sentence + (f"\nIt printed:\n{self.printed}" if self.printed else "")

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        picture = {"image/svg+xml": self.case.svg(self.sentence)} if self.case else {}
        return {"text/plain": repr(self), "text/html": self._html(), **picture}

    def _html(self) -> str:
        colour, word = COLOURS[self.right], f"{_SIGNS[self.right]}{_WORDS[self.right]}"
        parts = [f'<b style="color:{colour}">{word}</b>: {escape(self.text)}']
        if self.printed:
            parts.append(f'<div>It printed:<pre style="margin:0">{escape(self.printed)}</pre></div>')
        if self.case:
            # As an image it keeps its ids to itself, and a notebook that is not trusted shows it too.
            data = b64encode(self.case.svg().encode()).decode()
            parts.append(
                f'<img src="data:image/svg+xml;base64,{data}" alt="this case, drawn" '
                'style="display:block;width:100%;margin-top:8px">'
            )
        edge = "var(--jp-border-color1,#bdbdbd)" if self.right is None else colour
        line = f"border-left:3px solid {edge};padding-left:10px;line-height:1.4"
        return f'<div style="{line}">{"".join(parts)}</div>'


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
            try:
                bound = parameters.bind(*submitted, **named)
            except TypeError as error:
                return Verdict(None, f"{problem.__name__}: {error}.")
            bound.apply_defaults()
            printed = Printed()
            with redirect_stdout(printed), redirect_stderr(printed):
                try:
                    if waiting and any(map(unanswered, bound.arguments.values())):
                        raise Unanswered
                    right = within(CHECK_SECONDS, _TOO_SLOW, partial(problem, *submitted, **named))
                    return Verdict(True, right)
                except Unanswered as missing:
                    given = {name: shown(value) for name, value in bound.arguments.items()}
                    return Verdict(None, str(missing) or waiting.format_map(given))
                except Wrong as wrong:
                    return Verdict(False, wrong.text, wrong.case, printed.text)
                except RAISED as error:  # whatever the submission does, the learner is told
                    return Verdict(False, f"{_in_words(error)}.", printed=printed.text)

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
    except RAISED as error:  # as in a check
        raise Wrong(f"{question}: {_in_words(error)}.") from None


CHECK_SECONDS = 60.0
"""For all of a check, on the slowest machine."""
_TOO_SLOW = "took more than {:g} seconds in all, and was stopped"


# ---- words ---------------------------------------------------------------------------------------------


def _in_words(error: BaseException) -> str:
    """The kit's own errors name a rule, so their words will do; any other is named."""
    if type(error) is ValueError and told(error).startswith("Exceeds the limit"):
        return "this answer has a number too large to be written"
    kits_own = isinstance(error, InvalidValueError | InvalidTypeError)
    return (kits_own and told(error)) or f"this answer {Raised(error)!r}"


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

    answers: a dict, or a list of as many answers in the order of the questions. each: what it holds, such as
    "a number for each range".
    """
    asked = [*questions]
    if not isinstance(answers, Mapping):
        row = [...] * len(asked) if answers is ... else ordered(answers, len(asked))
        if row is None:
            raise refused(f"the answers are a dict with {each}", answers)
        answers = dict(zip(asked, row, strict=True))
    for question in asked:
        said = answers.get(question, ...)
        if unanswered(said):
            raise Unanswered(ask(question))
        yield question, said


def whole(value: Any) -> int | None:
    """`value` as an integer; None if it is not a whole number (a boolean is not)."""
    try:
        return as_integer(value, "a number")
    except Exception:  # its __index__ may raise anything
        return None


def frame(value: Any, what: str) -> int:
    """`value` as a frame: a number, or an address as it is typed. Raises as :func:`check_gfn` does."""
    return parse_gfn(value) if isinstance(value, str) else check_gfn(value, what)


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
        return None if isinstance(value, str | bytes) else one_call(list, islice(value, most))
    except Exception:  # its __iter__ may raise anything
        return None


def ordered(value: Any, count: int) -> list[Any] | None:
    """The items of `value` if there are `count` of them, in an order; None otherwise (a set has no order)."""
    if isinstance(value, Mapping | set | frozenset):
        return None
    found = items(value, count + 1)
    return found if found is not None and len(found) == count else None


# ---- asking a function ---------------------------------------------------------------------------------


def answer_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of a submitted function, or what it raised; Unanswered while it is not written.

    What it prints is kept until the next call: a counterexample is shown with what was printed there.
    """
    if isinstance(sys.stdout, Printed):
        sys.stdout.restart()
    try:
        said = one_call(function, *arguments)
    except RAISED as error:  # a submission may raise anything; the learner is told
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
