"""A trial: every question asked of one variant, and the table of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from html import escape
from itertools import zip_longest
from typing import Any, NamedTuple

from ..search import ToyCase
from ..untrusted import ENDLESS, RAISED, Printed, within
from ..words import count_of, html_table, kept_together, known_name, lines_of, noun_for, text_table
from .answers import FAILS, HOLDS, NOTE, UNASKED, VERDICTS, Answer, Bench, Failed, said
from .known import variant_named
from .large import levels, visits
from .questions import (
    empty_range,
    end_beyond,
    exact,
    exact_1g,
    kernel_rules,
    no_memory,
    pages,
    reschedules,
    roots,
    translations,
)
from .threads import flush_policies, read_lock, write_lock
from .variant import Variant, variant_of

QUESTIONS: dict[str, Callable[[Bench], Answer]] = {
    "rules": kernel_rules,
    "exact, 2M leaves": exact,
    "exact, 1G leaves too": exact_1g,
    "translations": translations,
    "empty range": empty_range,
    "end beyond the root": end_beyond,
    "4 and 5 levels": levels,
    "no memory": no_memory,
    "reschedules": reschedules,
    "write lock": write_lock,
    "read lock": read_lock,
    "flush": flush_policies,
    "roots": roots,
    "pages": pages,
    "visits": visits,
}
"""Every question, in the order in which they are asked."""

RULES_SECONDS, SECONDS = 20.0, 240.0
"""For the first question, which takes a fraction of one and finds what never ends; and for each other, which
takes a few: a machine that is busy with much else is no fault of the variant.
"""


class Row(NamedTuple):
    """A question and its answer."""

    question: str
    answer: Answer


class Trial:
    """The outcome of a trial. Shown, it is a table: a row per question.

    rows: in the order in which they were asked; printed: what the variant printed, its beginning.
    """

    def __init__(self, variant: Variant, rows: tuple[Row, ...], printed: str) -> None:
        self.variant = variant
        self.rows = rows
        self.printed = printed

    def __getitem__(self, question: str) -> Answer:
        """The answer to a question that was asked; raises InvalidValueError for another."""
        answers = {row.question: row.answer for row in self.rows}
        return answers[known_name(question, answers, "a question of this trial")]

    @property
    def fails(self) -> tuple[str, ...]:
        """The questions that the variant fails."""
        return tuple(row.question for row in self.rows if row.answer.verdict == FAILS)

    @property
    def case(self) -> ToyCase | None:
        """The smallest counterexample that can be drawn, if there is one."""
        cases = (row.answer.case for row in self.rows if row.answer.verdict == FAILS)
        return next((case for case in cases if case), None)

    @property
    def sentence(self) -> str:
        """The table in a line."""
        counts = Counter(row.answer.verdict for row in self.rows)
        told = [
            f"{counts[verdict]} {noun_for(counts[verdict], *words)}"
            for verdict, words in _COUNTED.items()
            if counts[verdict]
        ]
        which = f": {'; '.join(self.fails)}" if self.fails else ""
        asked = count_of(len(self.rows), "question")
        return f"{self.variant.name}, a {self.variant.form}: {asked}; {', '.join(told)}{which}"

    def __repr__(self) -> str:
        lines = [
            line
            for row in self.rows
            for line in zip_longest(
                [row.question],
                [row.answer.verdict],
                lines_of(row.answer.tried, _NARROW),
                lines_of(row.answer.found, _WIDE),
                fillvalue="",
            )
        ]
        table = text_table(_HEAD, lines)
        printed = f"\nIt printed:\n{self.printed}" if self.printed else ""
        return f"{self.sentence}\n{table}{printed}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        rows = [
            (question, _SIGNS[answer.verdict] + answer.verdict, *map(kept_together, answer[1:3]))
            for question, answer in self.rows
        ]
        printed = f"<p>It printed:</p><pre>{escape(self.printed)}</pre>" if self.printed else ""
        return {"text/plain": repr(self), "text/html": html_table(self.sentence, _HEAD, rows) + printed}


_NARROW, _WIDE = 18, 72
"""Columns of text in a terminal for what was tried and what was found."""
_HEAD = ("question", "verdict", "tried", "found")
_COUNTED = {
    HOLDS: ("holds", "hold"),
    NOTE: ("note", "notes"),
    UNASKED: ("not asked", "not asked"),
    FAILS: ("fails", "fail"),
}
_SIGNS = {verdict: f"{sign}\N{NO-BREAK SPACE}" for verdict, sign in zip(VERDICTS, "✗•✓–", strict=True)}


def trial(
    variant: Variant | Callable[..., Any] | str,
    questions: Iterable[str] = tuple(QUESTIONS),
    *,
    told: Callable[[str], object] = lambda question: None,
) -> Trial:
    """Try `variant`: a function of one of the FORMS, or a name of KNOWN; `told` hears each question first.

    questions: of QUESTIONS. If the variant breaks the rules of a kernel function, no other question is asked.
    Raises InvalidTypeError or InvalidValueError for what is no variant, and for an unknown question.
    """
    if isinstance(variant, str):
        variant = variant_named(variant)
    elif not isinstance(variant, Variant):
        variant = variant_of(variant)
    asked = [*dict.fromkeys(known_name(question, QUESTIONS, "a question") for question in questions)]
    bench, rows, printed = Bench(variant), [], Printed()
    for question in asked:
        told(question)
        with redirect_stdout(printed), redirect_stderr(printed):
            rows.append(Row(question, _ask(question, bench)))
        if question == "rules" and rows[-1].answer.verdict == FAILS:
            rows += [Row(other, Answer(UNASKED, "", "it breaks the rules")) for other in asked[len(rows) :]]
            break
    return Trial(variant, tuple(rows), printed.text)


def _ask(question: str, bench: Bench) -> Answer:
    try:
        seconds = RULES_SECONDS if question == "rules" else SECONDS
        return within(seconds, ENDLESS, QUESTIONS[question], bench)
    except Failed as failed:
        return Answer(FAILS, "", str(failed))
    except RAISED as error:  # whatever the variant does, its row says so
        return Answer(FAILS, "", said(error))
