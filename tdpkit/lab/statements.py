"""What is said about the edges of a range, as formulas over all frames, and how each statement breaks.

Levels are Python integers. Frames are z3 vectors of 64 bits, as gfn_t, and stand for each of the 2^52 frames
that a 64-bit guest-physical address can name (KVM's own GFNs have at most 40 bits). Sums of a frame and the
size of an entry stay below 2^53, and we never subtract more than a frame holds, but where the difference is
not used: so nothing wraps, and signedness does not matter.

Memory is described from the point of view of one entry, of `level` and with the first frame `gfn`: a leaf of
level `mapped` was there at first. What holds for every entry and every `mapped` holds for every mixture of
leaves; a hole is never split. An edge `x` lies strictly inside an entry, or crosses it, if the entry holds
the frames x - 1 and x. To split "what x lies strictly inside and nothing else" is the whole spec of one edge:
the leaf that holds x - 1 and x, and of the leaves it leaves the one that still does (`spec` says the same
without formulas).

A claim is a function that builds a :class:`Claim` out of what it speaks about, its positional arguments:
levels, and frames. Its keyword arguments are the places where it can be broken; plans are among them, those
that run (`strategies`). The broken twin of a statement is the same function with another argument there:
nothing else is different. `proofs` proves the statements and refutes the twins.

Left out: the root, whose end is nowhere near (`strategies.plan_of` leaves out a call beyond it); refused
pages; other threads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from z3 import And, BitVecRef, BitVecVal, BoolRef, BoolVal, If, Implies, Not, Or

from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, Geometry

from .strategies import (
    Plan,
    PlannedCall,
    blocks,
    calls_to_multiples,
    empty_range,
    kai_two_step,
    one_2m_pass,
    one_block_per_edge,
    one_frame_each,
    plain_split,
    two_calls,
    two_calls_unfiltered,
    walk_v3,
)

GEOMETRY = X86_4LEVEL
GFN_BITS = 52
"""Bits of a frame number in a 64-bit guest-physical address."""
WORD_BITS = 64

HUGE = tuple(range(PG_LEVEL_2M, GEOMETRY.max_leaf_level + 1))
"""Levels of huge leaves: 2M and 1G."""

Gfn: TypeAlias = BitVecRef
Formula: TypeAlias = BoolRef

YES, NO = BoolVal(True), BoolVal(False)

LEVELS: dict[str, tuple[int, ...]] = {
    "mapped": tuple(range(PG_LEVEL_4K, GEOMETRY.max_leaf_level + 1)),
    "level": HUGE,
}
"""The arguments of claims that are levels, with their values. All others are frames."""


# ---- frames and entries --------------------------------------------------------------------------------


def pages(level: int) -> int:
    """Frames under one entry of `level`."""
    return GEOMETRY.pages(level)


def down(x: Gfn, level: int) -> Gfn:
    """The first frame of the `level` entry that holds `x`: rounded down."""
    return x & -pages(level)


def up(x: Gfn, level: int) -> Gfn:
    """The least multiple of a `level` entry's size not below `x`: rounded up."""
    return (x + (pages(level) - 1)) & -pages(level)


def is_multiple(x: Gfn, level: int) -> Formula:
    """`x` is the first frame of a `level` entry."""
    return down(x, level) == x


def crosses(gfn: Gfn, level: int, x: Gfn) -> Formula:
    """The edge `x` lies strictly inside the entry."""
    return And(gfn < x, x < gfn + pages(level))


def inside(gfn: Gfn, level: int, start: Gfn, end: Gfn) -> Formula:
    """All frames of the entry are in [start, end)."""
    return And(gfn >= start, gfn + pages(level) <= end)


def visited(gfn: Gfn, level: int, start: Gfn, end: Gfn) -> Formula:
    """A walk of [start, end) that comes down to `level` visits the entry.

    It begins with the entries that hold `start` and goes on while gfn < end (S60, S63). With
    start == end these are the entries that the edge lies strictly inside.
    """
    return And(gfn < end, gfn + pages(level) > start)


def forced(edges: Iterable[Gfn], mapped: int, level: int, gfn: Gfn) -> Formula:
    """The entry must be split if no leaf is to cross one of `edges` (S232).

    It crosses one itself, and is the leaf that was mapped, or one that it would leave behind.
    """
    return And(level <= mapped, Or(*[crosses(gfn, level, x) for x in edges]))


# ---- what calls do -------------------------------------------------------------------------------------


def splits_by_call(calls: Sequence[PlannedCall], mapped: int, level: int, gfn: Gfn) -> list[Formula]:
    """For each of `calls`, made in this order: it splits the entry.

    A call splits the leaves above its target that it visits and, with the filter, that are not inside its
    range. Below the leaf that was mapped there is one once the entry above has been split: by an earlier call
    or by this one, which steps down into the table that it made (S80).
    """
    levels = range(mapped, level - 1, -1)
    done = dict.fromkeys(levels, NO)
    found = []
    for call in calls:
        here, is_leaf = NO, YES
        for at in levels:
            first = down(gfn, at)
            chosen = not call.only_cross_boundary or Not(inside(first, at, call.start, call.end))
            meets = And(call.when, at > call.target_level, visited(first, at, call.start, call.end), chosen)
            here = And(is_leaf, Not(done[at]), meets)
            is_leaf = done[at] = Or(done[at], here)
        found.append(here)
    return found


def splits(calls: Sequence[PlannedCall], mapped: int, level: int, gfn: Gfn) -> Formula:
    """One of `calls`, made in this order, splits the entry."""
    return Or(*splits_by_call(calls, mapped, level, gfn))


def page_tables(s: Gfn, e: Gfn, largest: int) -> Gfn:
    """Page-table pages that both edges need where all leaves are of level `largest`: a number.

    One for each entry that `s` or `e` lies strictly inside, counted once if it is the same. TDX needs others
    beside each (S132).
    """
    none, one = BitVecVal(0, WORD_BITS), BitVecVal(1, WORD_BITS)
    total = none
    for level in range(PG_LEVEL_2M, largest + 1):
        at_s, at_e = (crosses(down(x, level), level, x) for x in (s, e))
        same = And(at_s, down(s, level) == down(e, level))
        total = total + If(at_s, one, none) + If(And(at_e, Not(same)), one, none)
    return total


# ---- statements ----------------------------------------------------------------------------------------


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


def _only_block(level: int, x: Gfn, gfn: Gfn, *, rounded: Callable[[Gfn, int], Gfn] = down) -> Claim:
    return Claim(crosses(gfn, level, x), gfn == rounded(x, level))


def _aligned_edge(level: int, e: Gfn, gfn: Gfn, *, back: int = 0) -> Claim:
    return Claim(And(e >= 1, is_multiple(e - back, level)), Not(crosses(gfn, level, e)))


def _unaligned_edge(level: int, x: Gfn, *, any_edge: bool = False) -> Claim:
    return Claim(Or(any_edge, Not(is_multiple(x, level))), crosses(down(x, level), level, x))


def _entry_above(level: int, s: Gfn, e: Gfn, gfn: Gfn, *, the_other_way: bool = False) -> Claim:
    here = visited(gfn, level, s, e)
    above = visited(down(gfn, level + 1), level + 1, s, e)
    return Claim(s <= e, Implies(above, here) if the_other_way else Implies(here, above))


# ---- plans ---------------------------------------------------------------------------------------------


def _one_block(level: int, target_level: int) -> Plan:
    """Of the blocks around s the one of a `level` leaf's size, made in any case, down to `target_level`."""

    def plan(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
        at = [call for call in blocks(geometry, s) if call.target_level == level - 1]
        return [call._replace(target_level=target_level, when=True) for call in at]

    return plan


def _one_call(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """One block per edge, and the 2M block in any case."""
    return [
        call._replace(when=True) if call.target_level == PG_LEVEL_4K else call
        for call in one_block_per_edge.plan(geometry, s, e)
    ]


def _two_calls_1g_long(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """The patch's walk twice, the first time over the first 1G from s on."""
    head, tail = two_calls.plan(geometry, s, e)
    return [head._replace(end=s + geometry.pages(geometry.max_leaf_level)), tail]


def two_plain_calls(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """Plain calls to the 2M ends. A 1G leaf that sticks out there has the edge strictly inside as well."""
    return calls_to_multiples(geometry, s, e, PG_LEVEL_2M)


def later_code(geometry: Geometry, s: int, e: int, *, looks_at_start: bool = True) -> list[PlannedCall]:
    """The later code's conditions, for leaves of 2M at most (S141).

    The tail's block is left out if it is the head's and that was split; or, without a look at whether it
    was, if it is the head's.
    """
    head, tail = (_one_block(PG_LEVEL_2M, PG_LEVEL_4K)(geometry, x, x)[0] for x in (s, e))
    pending = head.start != tail.start
    if looks_at_start:
        pending |= head.start == s
    return [head._replace(when=head.start != s), tail._replace(when=pending & (tail.start != e))]


# ---- calls for one edge, and for a range ---------------------------------------------------------------


def _range_exact(
    mapped: int, level: int, s: Gfn, e: Gfn, gfn: Gfn, *, plan: Plan, largest: int = PG_LEVEL_1G
) -> Claim:
    """largest: the level of the largest leaf that memory is mapped with."""
    made = splits(plan(GEOMETRY, s, e), mapped, level, gfn)
    return Claim(And(mapped <= largest, s <= e), made == forced([s, e], mapped, level, gfn))


def _edge_exact(mapped: int, level: int, x: Gfn, gfn: Gfn, *, plan: Plan, unless_multiple: int = 0) -> Claim:
    """The plan's calls for [x, x). unless_multiple: of edges that are no multiple of this level's size."""
    given = Not(is_multiple(x, unless_multiple)) if unless_multiple else YES
    return Claim(given, splits(plan(GEOMETRY, x, x), mapped, level, gfn) == forced([x], mapped, level, gfn))


def _block_1g(mapped: int, level: int, x: Gfn, gfn: Gfn, *, any_edge: bool = False) -> Claim:
    made = splits(_one_block(PG_LEVEL_1G, PG_LEVEL_2M)(GEOMETRY, x, x), mapped, level, gfn)
    crossing = And(level == PG_LEVEL_1G, forced([x], mapped, level, gfn))
    return Claim(Or(any_edge, Not(is_multiple(x, PG_LEVEL_1G))), made == crossing)


def _as_two_steps(mapped: int, level: int, x: Gfn, gfn: Gfn, *, plan: Plan) -> Claim:
    one, two = (splits(calls(GEOMETRY, x, x), mapped, level, gfn) for calls in (plan, kai_two_step.plan))
    return Claim(YES, one == two)


def _any_order(mapped: int, level: int, s: Gfn, e: Gfn, gfn: Gfn, *, each: bool = False) -> Claim:
    """each: the calls of s alone are compared, not those of both edges."""
    head, tail = blocks(GEOMETRY, s), blocks(GEOMETRY, e)
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
        f"{_M10} (S136)",
        _only_edges,
        "leaves that have no frame of [s, e)",
        {"overlapping": False},
    ),
    Statement(
        "patch_predicate",
        "Of the entries that the walk of [s, e) visits, iter_cross_boundary picks those with s or e strictly "
        "inside.",
        f"{_M0} (S101)",
        _patch_predicate,
        "< for <= at the leaf's end",
        {"ends_by": operator.lt},
    ),
    Statement(
        "one_block",
        "Of each size, only one leaf can have x strictly inside: the aligned block that x lies in.",
        f"{_M13} (S138)",
        _only_block,
        "the block's start rounded up",
        {"rounded": up},
    ),
    Statement(
        "aligned_edge",
        "No leaf has an edge strictly inside that is a multiple of the leaf's size.",
        f"{_M12} (S137)",
        _aligned_edge,
        "e - 1 looked at in place of e",
        {"back": 1},
    ),
    Statement(
        "unaligned_edge",
        "An edge that is no multiple of a size lies strictly inside the aligned block of that size.",
        f"{_M13} (S138)",
        _unaligned_edge,
        "edges that are a multiple too",
        {"any_edge": True},
    ),
    Statement(
        "entry_above",
        "A walk that visits an entry visits the one above it: a call to 4K splits the 1G leaf on its way.",
        "S63, S80; S233",
        _entry_above,
        "every entry below it for the one above",
        {"the_other_way": True},
    ),
    Statement(
        "block_2m",
        "Where x is no multiple of 2M, a plain call on its 2M block to 4K splits what x lies strictly inside "
        "and nothing else.",
        f"{_M13} (S138)",
        partial(_edge_exact, plan=_one_block(PG_LEVEL_2M, PG_LEVEL_4K), unless_multiple=PG_LEVEL_2M),
        "the 1G block to 4K, a cross-level merge",
        {"plan": _one_block(PG_LEVEL_1G, PG_LEVEL_4K)},
    ),
    Statement(
        "block_1g",
        "Where x is no multiple of 1G, a plain call on its 1G block to 2M splits the 1G leaf that x lies "
        "strictly inside and nothing else.",
        f"{_M13} (S138)",
        _block_1g,
        "edges that are a multiple of 1G too",
        {"any_edge": True},
    ),
    Statement(
        "two_steps",
        "The 1G block to 2M, then the 2M block to 4K, each unless x is a multiple of its size, split what x "
        "lies strictly inside and nothing else.",
        f"{_M13} (S138)",
        partial(_edge_exact, plan=kai_two_step.plan),
        "the 2M step alone",
        {"plan": one_2m_pass.plan},
    ),
    Statement(
        "one_call",
        "The smaller of the two blocks alone splits the same as both steps.",
        f"{_R2} (S141); with 1G leaves, ours (S233)",
        partial(_as_two_steps, plan=one_block_per_edge.plan),
        "the 2M block for every x",
        {"plan": _one_call},
    ),
    Statement(
        "empty_range",
        "A plain call over the empty range [x, x) to 4K splits what x lies strictly inside and nothing else.",
        "S234",
        partial(_edge_exact, plan=empty_range.plan),
        "[x, x + 1)",
        {"plan": one_frame_each.plan},
    ),
    Statement(
        "walk_v3",
        "The patch's walk over [s, e) splits what s or e lies strictly inside and nothing else.",
        f"{_M0} (S121)",
        partial(_range_exact, plan=walk_v3.plan),
        "no filter",
        {"plan": plain_split.plan},
    ),
    Statement(
        "two_calls",
        "The patch's walk over [s, next 1G) and [last 1G, e) splits what s or e lies strictly inside and "
        "nothing else.",
        f"{_M7} (S129)",
        partial(_range_exact, plan=two_calls.plan),
        "the head's call 1G long",
        {"plan": _two_calls_1g_long},
    ),
    Statement(
        "two_plain_calls",
        "Plain calls over [s, next 2M) and [last 2M, e) to 4K split what s or e lies strictly inside and "
        "nothing else.",
        "ours; empty_range of S233, drawn out to 2M",
        partial(_range_exact, plan=two_plain_calls),
        "the next and last 1G",
        {"plan": two_calls_unfiltered.plan},
    ),
    Statement(
        "any_order",
        "Both steps for s and both for e split the same whichever edge comes first.",
        "S237",
        _any_order,
        "only the splits made for s compared",
        {"each": True},
    ),
    Statement(
        "later_code",
        "With leaves of 2M at most, the later code's two conditions split what s or e lies strictly inside "
        "and nothing else.",
        f"{_R2} (S141)",
        partial(_range_exact, plan=later_code, largest=PG_LEVEL_2M),
        "the tail left out if it is the head",
        {"plan": partial(later_code, looks_at_start=False)},
    ),
    Statement(
        "pages_for_edge",
        "2 page-table pages suffice for one edge.",
        f"{_M7}, without a number (S132)",
        partial(_pages_for_edge, enough=2),
        "1 page",
        {"enough": 1},
    ),
    Statement(
        "pages_for_range",
        "4 page-table pages suffice for a range.",
        f"{_M7}, without a number (S132); S237",
        partial(_pages_for_range, enough=4),
        "3 pages",
        {"enough": 3},
    ),
    Statement(
        "pages_in_1g",
        "3 page-table pages suffice for a range in one 1G block.",
        "S237",
        partial(_pages_for_range, enough=3, in_one=PG_LEVEL_1G),
        "2 pages",
        {"enough": 2},
    ),
    Statement(
        "pages_in_2m",
        "2 page-table pages suffice for a range in one 2M block.",
        "S237",
        partial(_pages_for_range, enough=2, in_one=PG_LEVEL_2M),
        "1 page",
        {"enough": 1},
    ),
    Statement(
        "pages_without_1g",
        "2 page-table pages suffice for a range where no leaf is larger than 2M.",
        f"{_M7}, without a number (S132); S237",
        partial(_pages_for_range, enough=2, largest=PG_LEVEL_2M),
        "1 page",
        {"enough": 1},
    ),
)

STATEMENTS: dict[str, Statement] = {statement.name: statement for statement in _ALL}
"""All of them, by name."""
