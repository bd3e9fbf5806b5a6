"""What is said about the edges of a range, as formulas over all frames, and how each statement breaks.

A claim is a function that builds a :class:`Claim` out of what it speaks about, its positional arguments:
levels, and frames that stand for all of them (`symbolic`). Its keyword arguments are the places where it can
be broken. The broken twin of a statement is the same function with another argument there: nothing else is
different. `proofs` proves the statements and refutes the twins.

To split "what x lies strictly inside and nothing else" is the whole spec of one edge: the leaf that holds
x - 1 and x, and of the leaves it leaves the one that still does (`spec` says the same without formulas).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any, NamedTuple

from z3 import And, Implies, Not, Or

from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K

from .symbolic import (
    GEOMETRY,
    HUGE,
    YES,
    Formula,
    Gfn,
    SymbolicCall,
    crosses,
    down,
    forced,
    inside,
    is_multiple,
    page_tables,
    pages,
    splits,
    splits_by_call,
    up,
    visited,
)
from .symbolic_strategies import (
    block,
    empty_range,
    later_code,
    one_call,
    two_calls,
    two_plain_calls,
    two_steps,
    walk_v3,
)

LEVELS: dict[str, tuple[int, ...]] = {
    "mapped": tuple(range(PG_LEVEL_4K, GEOMETRY.max_leaf_level + 1)),
    "level": HUGE,
}
"""The arguments of claims that are levels, with their values. All others are frames."""


class Claim(NamedTuple):
    """Wherever `given` holds, `then` holds."""

    given: Formula
    then: Formula


class Statement(NamedTuple):
    """A claim in words and as a formula, and what its broken twin does otherwise.

    name: short, unique. text: a sentence; s and e are the edges of a range and x is either, in frames; "2M"
    and "1G" are the huge leaves. source: who said it, or where it is written down. broken: the keyword
    arguments of `claim` that make the twin.
    """

    name: str
    text: str
    source: str
    claim: Callable[..., Claim]
    twin_text: str = ""
    broken: Mapping[str, Any] = MappingProxyType({})

    @property
    def variables(self) -> tuple[str, ...]:
        """What the claim speaks about; a counterexample is the smallest in this order."""
        arguments = signature(self.claim).parameters.values()
        return tuple(one.name for one in arguments if one.kind is Parameter.POSITIONAL_OR_KEYWORD)

    @property
    def twin(self) -> Statement:
        """The claim, broken."""
        return Statement(
            f"{self.name}, broken",
            f"{self.text} Broken: {self.twin_text}.",
            self.source,
            partial(self.claim, **self.broken),
        )

    def __repr__(self) -> str:
        return f"{self.name}: {self.text}"


# ---- leaves and edges ----------------------------------------------------------------------------------


def _only_edges(level: int, s: Gfn, e: Gfn, gfn: Gfn, *, overlapping: bool = True) -> Claim:
    overlaps = visited(gfn, level, s, e) if overlapping else YES
    outside_too = Not(inside(gfn, level, s, e))
    return Claim(And(s < e, overlaps, outside_too), Or(crosses(gfn, level, s), crosses(gfn, level, e)))


def _patch_predicate(
    level: int, s: Gfn, e: Gfn, gfn: Gfn, *, ends_by: Callable[[Gfn, Gfn], Formula] = operator.le
) -> Claim:
    predicate = Not(And(gfn >= s, ends_by(gfn + pages(level), e)))
    return Claim(
        And(s <= e, visited(gfn, level, s, e)),
        predicate == Or(crosses(gfn, level, s), crosses(gfn, level, e)),
    )


def _one_block(level: int, x: Gfn, gfn: Gfn, *, rounded: Callable[[Gfn, int], Gfn] = down) -> Claim:
    return Claim(crosses(gfn, level, x), gfn == rounded(x, level))


def _aligned_edge(level: int, e: Gfn, gfn: Gfn, *, back: int = 0) -> Claim:
    return Claim(And(e >= 1, is_multiple(e - back, level)), Not(crosses(gfn, level, e)))


def _unaligned_edge(level: int, x: Gfn, *, any_edge: bool = False) -> Claim:
    return Claim(Or(any_edge, Not(is_multiple(x, level))), crosses(down(x, level), level, x))


def _entry_above(level: int, s: Gfn, e: Gfn, gfn: Gfn, *, the_other_way: bool = False) -> Claim:
    here = visited(gfn, level, s, e)
    above = visited(down(gfn, level + 1), level + 1, s, e)
    return Claim(s <= e, Implies(above, here) if the_other_way else Implies(here, above))


# ---- calls for one edge --------------------------------------------------------------------------------


def _edge_exact(
    mapped: int,
    level: int,
    x: Gfn,
    gfn: Gfn,
    *,
    calls: Callable[[Gfn], list[SymbolicCall]],
    unless_multiple: int | None = None,
) -> Claim:
    """unless_multiple: of edges that are no multiple of this level's size."""
    given = YES if unless_multiple is None else Not(is_multiple(x, unless_multiple))
    return Claim(given, splits(calls(x), mapped, level, gfn) == forced([x], mapped, level, gfn))


def _block_1g(mapped: int, level: int, x: Gfn, gfn: Gfn, *, any_edge: bool = False) -> Claim:
    made = splits([block(x, PG_LEVEL_1G, PG_LEVEL_2M)], mapped, level, gfn)
    crossing = And(level == PG_LEVEL_1G, forced([x], mapped, level, gfn))
    return Claim(Or(any_edge, Not(is_multiple(x, PG_LEVEL_1G))), made == crossing)


def _one_call(mapped: int, level: int, x: Gfn, gfn: Gfn, *, always_2m: bool = False) -> Claim:
    one = splits(one_call(x, always_2m), mapped, level, gfn)
    return Claim(YES, one == splits(two_steps(x), mapped, level, gfn))


# ---- calls for a range ---------------------------------------------------------------------------------


def _range_exact(
    mapped: int,
    level: int,
    s: Gfn,
    e: Gfn,
    gfn: Gfn,
    *,
    calls: Callable[[Gfn, Gfn], list[SymbolicCall]],
    largest: int = PG_LEVEL_1G,
) -> Claim:
    """largest: the level of the largest leaf that memory is mapped with."""
    made = splits(calls(s, e), mapped, level, gfn)
    return Claim(And(mapped <= largest, s <= e), made == forced([s, e], mapped, level, gfn))


def _any_order(mapped: int, level: int, s: Gfn, e: Gfn, gfn: Gfn, *, each: bool = False) -> Claim:
    """each: the calls of s alone are compared, not those of both edges."""
    head, tail = two_steps(s), two_steps(e)
    first = splits_by_call([*head, *tail], mapped, level, gfn)
    second = splits_by_call([*tail, *head], mapped, level, gfn)
    if each:
        first, second = first[: len(head)], second[len(tail) :]
    return Claim(s < e, Or(*first) == Or(*second))


# ---- pages to preallocate ------------------------------------------------------------------------------


def _pages_for_edge(x: Gfn, *, enough: int) -> Claim:
    return Claim(YES, page_tables(x, x, PG_LEVEL_1G) <= enough)


def _pages_for_range(
    s: Gfn, e: Gfn, *, enough: int, largest: int = PG_LEVEL_1G, in_one: int | None = None
) -> Claim:
    """in_one: the range is not empty and lies in one block of this level's size."""
    given = s <= e if in_one is None else And(s < e, down(s, in_one) == down(e - 1, in_one))
    return Claim(given, page_tables(s, e, largest) <= enough)


# ---- the statements ------------------------------------------------------------------------------------

_M0 = "Yan Zhao, M0, 20260106102136.25108-1-yan.y.zhao@intel.com"
_M7 = "Yan Zhao, M7, aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com"
_M10 = "Kai Huang, M10, 3ef110f63cbbc65d6d4cbf737b26c09cb7b44e7c.camel@intel.com"
_M12 = "Yan Zhao, M12, aW4DXajAzC9nn3aJ@yzhao56-desk.sh.intel.com"
_M13 = "Kai Huang, M13, d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com"
_R2 = "Sean Christopherson on RFC v5 44, aXt_L6QKB9CSTZcW@google.com"

_ALL = (
    Statement(
        "only_edges",
        "A leaf with frames of [s, e) and frames outside it has s or e strictly inside.",
        f"{_M10} (kernel-facts C36)",
        _only_edges,
        "leaves that have no frame of [s, e)",
        {"overlapping": False},
    ),
    Statement(
        "patch_predicate",
        "Of the entries that the walk of [s, e) visits, iter_cross_boundary picks those with s or e strictly "
        "inside.",
        f"{_M0} (kernel-facts 6.3)",
        _patch_predicate,
        "< for <= at the leaf's end",
        {"ends_by": operator.lt},
    ),
    Statement(
        "one_block",
        "Of each size, only one leaf can have x strictly inside: the aligned block that x lies in.",
        f"{_M13} (kernel-facts C39)",
        _one_block,
        "the block's start rounded up",
        {"rounded": up},
    ),
    Statement(
        "aligned_edge",
        "No leaf has an edge strictly inside that is a multiple of the leaf's size.",
        f"{_M12} (kernel-facts C38)",
        _aligned_edge,
        "e - 1 looked at in place of e",
        {"back": 1},
    ),
    Statement(
        "unaligned_edge",
        "An edge that is no multiple of a size lies strictly inside the aligned block of that size.",
        f"{_M13} (kernel-facts C39)",
        _unaligned_edge,
        "edges that are a multiple too",
        {"any_edge": True},
    ),
    Statement(
        "entry_above",
        "A walk that visits an entry visits the one above it: a call to 4K splits the 1G leaf on its way.",
        "kernel-facts 4.8, 5.1; findings 3",
        _entry_above,
        "every entry below it for the one above",
        {"the_other_way": True},
    ),
    Statement(
        "block_2m",
        "Where x is no multiple of 2M, a plain call on its 2M block to 4K splits what x lies strictly inside "
        "and nothing else.",
        f"{_M13} (kernel-facts C39)",
        partial(
            _edge_exact,
            calls=lambda x: [block(x, PG_LEVEL_2M, PG_LEVEL_4K)],
            unless_multiple=PG_LEVEL_2M,
        ),
        "the 1G block to 4K, a cross-level merge",
        {"calls": lambda x: [block(x, PG_LEVEL_1G, PG_LEVEL_4K)]},
    ),
    Statement(
        "block_1g",
        "Where x is no multiple of 1G, a plain call on its 1G block to 2M splits the 1G leaf that x lies "
        "strictly inside and nothing else.",
        f"{_M13} (kernel-facts C39)",
        _block_1g,
        "edges that are a multiple of 1G too",
        {"any_edge": True},
    ),
    Statement(
        "two_steps",
        "The 1G block to 2M, then the 2M block to 4K, each unless x is a multiple of its size, split what x "
        "lies strictly inside and nothing else.",
        f"{_M13} (kernel-facts C39)",
        partial(_edge_exact, calls=two_steps),
        "the 2M step alone",
        {"calls": partial(two_steps, sizes=(PG_LEVEL_2M,))},
    ),
    Statement(
        "one_call",
        "The smaller of the two blocks alone splits the same as both steps.",
        f"{_R2} (kernel-facts 7.3); with 1G leaves, findings 3",
        _one_call,
        "the 2M block for every x",
        {"always_2m": True},
    ),
    Statement(
        "empty_range",
        "A plain call over the empty range [x, x) to 4K splits what x lies strictly inside and nothing else.",
        "findings 3",
        partial(_edge_exact, calls=empty_range),
        "[x, x + 1)",
        {"calls": partial(empty_range, frames=1)},
    ),
    Statement(
        "walk_v3",
        "The patch's walk over [s, e) splits what s or e lies strictly inside and nothing else.",
        f"{_M0} (kernel-facts C2)",
        partial(_range_exact, calls=walk_v3),
        "no filter",
        {"calls": partial(walk_v3, only_cross_boundary=False)},
    ),
    Statement(
        "two_calls",
        "The patch's walk over [s, next 1G) and [last 1G, e) splits what s or e lies strictly inside and "
        "nothing else.",
        f"{_M7} (kernel-facts C19)",
        partial(_range_exact, calls=two_calls),
        "the head's call 1G long",
        {"calls": partial(two_calls, at_multiples=False)},
    ),
    Statement(
        "two_plain_calls",
        "Plain calls over [s, next 2M) and [last 2M, e) to 4K split what s or e lies strictly inside and "
        "nothing else.",
        "ours; empty_range of findings 3, drawn out to 2M",
        partial(_range_exact, calls=two_plain_calls),
        "the next and last 1G",
        {"calls": partial(two_plain_calls, size=PG_LEVEL_1G)},
    ),
    Statement(
        "any_order",
        "Both steps for s and both for e split the same whichever edge comes first.",
        "findings 4",
        _any_order,
        "only the splits made for s compared",
        {"each": True},
    ),
    Statement(
        "later_code",
        "With leaves of 2M at most, the later code's two conditions split what s or e lies strictly inside "
        "and nothing else.",
        f"{_R2} (kernel-facts 7.3)",
        partial(_range_exact, calls=later_code, largest=PG_LEVEL_2M),
        "the tail left out if it is the head",
        {"calls": partial(later_code, looks_at_start=False)},
    ),
    Statement(
        "pages_for_edge",
        "2 page-table pages suffice for one edge.",
        f"{_M7} (kernel-facts C27)",
        partial(_pages_for_edge, enough=2),
        "1 page",
        {"enough": 1},
    ),
    Statement(
        "pages_for_range",
        "4 page-table pages suffice for a range.",
        f"{_M7} (kernel-facts C27); findings 4",
        partial(_pages_for_range, enough=4),
        "3 pages",
        {"enough": 3},
    ),
    Statement(
        "pages_in_1g",
        "3 page-table pages suffice for a range in one 1G block.",
        "findings 4",
        partial(_pages_for_range, enough=3, in_one=PG_LEVEL_1G),
        "2 pages",
        {"enough": 2},
    ),
    Statement(
        "pages_in_2m",
        "2 page-table pages suffice for a range in one 2M block.",
        "findings 4",
        partial(_pages_for_range, enough=2, in_one=PG_LEVEL_2M),
        "1 page",
        {"enough": 1},
    ),
    Statement(
        "pages_without_1g",
        "2 page-table pages suffice for a range where no leaf is larger than 2M.",
        f"{_M7} (kernel-facts C27); findings 4",
        partial(_pages_for_range, enough=2, largest=PG_LEVEL_2M),
        "1 page",
        {"enough": 1},
    ),
)

STATEMENTS: dict[str, Statement] = {statement.name: statement for statement in _ALL}
"""All of them, by name."""
