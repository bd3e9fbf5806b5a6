"""A problem: a kind, a seed and a level, and the same three make the same problem on every machine."""

from __future__ import annotations

from functools import cached_property
from random import Random
from typing import Any, SupportsIndex

from tdpkit.engine.gfn import InvalidValueError, as_integer
from tdpkit.lab.words import known_name

from ..checking import Unanswered, Verdict, check, unanswered
from . import addresses, blocks, crossing, entries, pages, roots, schedules, visits
from .kind import Kind

_KINDS: tuple[Kind[Any], ...] = (
    addresses.KIND,
    entries.KIND,
    crossing.KIND,
    visits.KIND,
    blocks.KIND,
    roots.KIND,
    pages.KIND,
    schedules.KIND,
)
KINDS = {kind.name: kind for kind in _KINDS}
"""By name, in the order of the course."""
LEVELS = (1, 2, 3)
"""Toys and small numbers; x86; the cases in which one goes wrong."""


class Problem:
    """Problem `seed` of a kind of KINDS, at one of LEVELS. Any seed from 0 on gives one, well-posed.

    `given` is all that the question rests on, `right` the one answer, `form` its form in words. Shown in a
    notebook, a problem is its question. Raises InvalidTypeError for a seed or level that is no integer,
    InvalidValueError for an unknown kind or level and a negative seed.
    """

    def __init__(self, kind: str, seed: SupportsIndex, level: SupportsIndex = 1) -> None:
        self.kind = known_name(kind, KINDS, "a kind of problem")
        self.seed = as_integer(seed, "a seed")
        if self.seed < 0:
            raise InvalidValueError(f"a seed is at least 0; {self.seed} is negative")
        self.level = as_integer(level, "a level")
        if self.level not in LEVELS:
            raise InvalidValueError(f"a level is from {LEVELS[0]} to {LEVELS[-1]}; {self.level} is not")
        self._of = KINDS[self.kind]
        self.given: Any = self._of.draw(Random(f"{self.kind}/{self.seed}/{self.level}"), self.level)
        self.right: Any = self._of.right(self.given)

    @cached_property
    def form(self) -> str:
        """The form of the answer, in a sentence."""
        return self._of.form(self.given)

    @cached_property
    def question(self) -> str:
        """The question, in Markdown."""
        return f"{self._of.ask(self.given)}\n\n**Answer:** {self.form}"

    @cached_property
    def solution(self) -> str:
        """The solution step by step, in Markdown; its last line is the answer."""
        return f"{self._of.work(self.given)}\n\n**Answer:** `{self.right!r}`"

    def check(self, answer: Any = ...) -> Verdict:
        """Whether `answer` is right; if not, a counterexample."""
        return _checked(self, answer)

    def __repr__(self) -> str:
        return self.question

    def _repr_markdown_(self) -> str:
        return self.question


@check()
def _checked(problem: Problem, answer: Any) -> str:
    if unanswered(answer):
        raise Unanswered(problem.form)
    return problem._of.hold(problem.given, answer)
