"""The answer to one question of a trial, and what is kept between questions."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange

from ..search import CaseCounter, Tally, ToyCase
from ..shapes import NotTheTree, leaves_of
from ..spec import edges_of, split_as_forced
from ..strategies import made
from ..untrusted import RAISED, Raised, line_of
from .toys import MACHINE, UNIVERSE, Place, ToyTd
from .variant import Broke, Variant

HOLDS, FAILS, NOTE, UNASKED = "holds", "fails", "note", "not asked"
VERDICTS = (FAILS, NOTE, HOLDS, UNASKED)
"""A note is told and does not count against the variant."""


class Answer(NamedTuple):
    """The answer to one question.

    verdict: of VERDICTS. tried: how many cases, in words. found: what was found in a sentence or two, in a
    failure the smallest counterexample. case: that one as a case that `show.case` draws, if it is one.
    """

    verdict: str
    tried: str
    found: str
    case: ToyCase | None = None


class Failed(Exception):  # noqa: N818 - an answer, not an error of the program
    """A question is answered: the variant fails; found, and at which place."""

    def __init__(self, found: str, place: object = "") -> None:
        super().__init__(f"{place}: {found}" if place else found)


def said(error: BaseException) -> str:
    """The fault of a variant, in words."""
    return str(error) if isinstance(error, Broke | NotTheTree) else f"it {Raised(error)!r}{line_of(error)}"


class AllTrees(NamedTuple):
    """Calls of a variant on every tree of the universe, with every range of some kind.

    small, large: the cases without and with a leaf of the largest size. broken: the first cases in which
    other frames, or other entries, were found than should be.
    """

    small: Tally
    large: Tally
    broken: tuple[str, ...]

    @property
    def cases(self) -> int:
        """All of them."""
        return self.small.cases + self.large.cases


class Bench:
    """One variant, and what several questions ask of it."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant

    @cached_property
    def all_trees(self) -> AllTrees:
        """A call for every range that is not empty, on every tree, under the write lock. Raises Failed."""
        return self._on_every_tree([span for span in UNIVERSE.ranges if span.pages])

    @cached_property
    def empty_ranges(self) -> AllTrees:
        """The same for every empty range. Raises Failed."""
        return self._on_every_tree([GfnRange(x, x) for x in range(MACHINE.root_pages)])

    def _on_every_tree(self, spans: list[GfnRange]) -> AllTrees:
        small, large = CaseCounter(MACHINE), CaseCounter(MACHINE)
        broken: list[str] = []
        for number, shape in enumerate(UNIVERSE.shapes()):
            toy = ToyTd(shape)
            has_large = any(level == MACHINE.max_leaf_level for _, level in leaves_of(MACHINE, shape))
            counter = large if has_large else small
            for span in spans:
                counter.cases += 1
                try:
                    effect = toy.tried(self.variant, span)
                except NotTheTree as error:
                    broken.append(f"{Place(shape, span)}: {error}")
                    toy = ToyTd(shape)
                    continue
                except RAISED as error:
                    raise Failed(said(error), Place(shape, span)) from None
                expected = split_as_forced(MACHINE, shape, edges_of(span))
                if effect.after != expected:
                    calls = tuple(made(self.variant.planned(MACHINE, span)))
                    counter.not_exact(number, shape, span, calls, effect, expected)
        return AllTrees(small.tally(), large.tally(), tuple(broken))
