"""The machine as formulas: entries, edges, and what a row of split calls does, for all frames at once.

Levels are Python integers. Frames are z3 vectors of 64 bits, as gfn_t, and stand for each of the 2^52 frames
that a 64-bit guest-physical address can name (KVM's own GFNs have at most 40 bits). Sums of a frame and the
size of an entry stay below 2^53, and nothing is subtracted from a frame but what it is large enough for: so
nothing wraps, and it is all one whether a comparison is signed.

Memory is described from the point of view of one entry, of `level` and with the first frame `gfn`: a leaf of
level `mapped` was there at first. What holds for every entry and every `mapped` holds for every mixture of
leaves; a hole is never split. An edge `x` lies strictly inside an entry, or crosses it, if the entry holds
the frames x - 1 and x.

Left out: the root, whose end is nowhere near (`strategies` says what a call beyond it meets); refused pages;
other threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from z3 import And, BitVecRef, BitVecVal, BoolRef, BoolVal, If, Not, Or

from tdpkit.engine.gfn import PG_LEVEL_2M, X86_4LEVEL

GEOMETRY = X86_4LEVEL
GFN_BITS = 52
"""Bits of a frame number in a 64-bit guest-physical address."""
WORD_BITS = 64

HUGE = tuple(range(PG_LEVEL_2M, GEOMETRY.max_leaf_level + 1))
"""Levels of huge leaves: 2M and 1G."""

Gfn: TypeAlias = BitVecRef
Formula: TypeAlias = BoolRef

YES, NO = BoolVal(True), BoolVal(False)


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

    It begins with the entries that hold `start` and goes on while gfn < end (kernel-facts 4.2, 4.8). With
    start == end these are the entries that the edge lies strictly inside.
    """
    return And(gfn < end, gfn + pages(level) > start)


def forced(edges: Iterable[Gfn], mapped: int, level: int, gfn: Gfn) -> Formula:
    """The entry must be split if no leaf is to cross one of `edges` (findings 3, P3).

    It crosses one itself, and is the leaf that was mapped, or one that it would leave behind.
    """
    return And(level <= mapped, Or(*[crosses(gfn, level, x) for x in edges]))


# ---- calls ---------------------------------------------------------------------------------------------


class SymbolicCall(NamedTuple):
    """A call of tdp_mmu_split_huge_pages_root on [start, end), made only `when` that holds.

    only_cross_boundary: with the patch's filter, for the call's own range.
    """

    start: Gfn
    end: Gfn
    target_level: int
    only_cross_boundary: bool = False
    when: Formula = YES


def splits_by_call(calls: Sequence[SymbolicCall], mapped: int, level: int, gfn: Gfn) -> list[Formula]:
    """For each of `calls`, made in this order: it splits the entry.

    A call splits the leaves above its target that it visits and, with the filter, that are not inside its
    range. Below the leaf that was mapped there is one once the entry above has been split: by an earlier call
    or by this one, which steps down into the table that it made (kernel-facts 5.1).
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


def splits(calls: Sequence[SymbolicCall], mapped: int, level: int, gfn: Gfn) -> Formula:
    """One of `calls`, made in this order, splits the entry."""
    return Or(*splits_by_call(calls, mapped, level, gfn))


def page_tables(s: Gfn, e: Gfn, largest: int) -> Gfn:
    """Page-table pages that both edges need where all leaves are of level `largest`: a number.

    One for each entry that `s` or `e` lies strictly inside, counted once if it is the same. TDX needs others
    beside each (kernel-facts C27).
    """
    none, one = BitVecVal(0, WORD_BITS), BitVecVal(1, WORD_BITS)
    total = none
    for level in range(PG_LEVEL_2M, largest + 1):
        at_s, at_e = (crosses(down(x, level), level, x) for x in (s, e))
        same = And(at_s, down(s, level) == down(e, level))
        total = total + If(at_s, one, none) + If(And(at_e, Not(same)), one, none)
    return total
