"""The strategies as rows of symbolic calls: their arithmetic on the edges, for all frames at once.

Where `strategies` makes a call or not, here a call is made `when` a formula holds. Each has an argument that
breaks it (a block has none).
"""

from __future__ import annotations

from collections.abc import Sequence

from z3 import And, Not, Or

from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K

from .symbolic import YES, Formula, Gfn, SymbolicCall, down, is_multiple, pages, up

# ---- for one edge --------------------------------------------------------------------------------------


def block(x: Gfn, level: int, target_level: int, when: Formula = YES) -> SymbolicCall:
    """A plain call on the aligned block around `x`, of the size of a `level` entry."""
    start = down(x, level)
    return SymbolicCall(start, start + pages(level), target_level, when=when)


def two_steps(x: Gfn, sizes: Sequence[int] = (PG_LEVEL_1G, PG_LEVEL_2M)) -> list[SymbolicCall]:
    """Of each size that `x` is no multiple of, the block around it, to the next smaller one."""
    return [block(x, level, level - 1, Not(is_multiple(x, level))) for level in sizes]


def one_call(x: Gfn, always_2m: bool = False) -> list[SymbolicCall]:
    """The 2M block around `x` to 4K; the 1G block to 2M where `x` is a multiple of 2M and not of 1G."""
    multiple = is_multiple(x, PG_LEVEL_2M)
    return [
        block(x, PG_LEVEL_1G, PG_LEVEL_2M, And(multiple, Not(is_multiple(x, PG_LEVEL_1G)))),
        block(x, PG_LEVEL_2M, PG_LEVEL_4K, Or(always_2m, Not(multiple))),
    ]


def empty_range(x: Gfn, frames: int = 0) -> list[SymbolicCall]:
    """A plain call over [x, x + frames) to 4K."""
    return [SymbolicCall(x, x + frames, PG_LEVEL_4K)]


# ---- for a range ---------------------------------------------------------------------------------------


def walk_v3(s: Gfn, e: Gfn, only_cross_boundary: bool = True) -> list[SymbolicCall]:
    """The patch's walk over [s, e)."""
    return [SymbolicCall(s, e, PG_LEVEL_4K, only_cross_boundary)]


def two_calls(s: Gfn, e: Gfn, at_multiples: bool = True) -> list[SymbolicCall]:
    """The patch's walk over [s, next 1G) and over [last 1G, e); or over the first 1G from s on."""
    head_end = up(s, PG_LEVEL_1G) if at_multiples else s + pages(PG_LEVEL_1G)
    return [
        SymbolicCall(s, head_end, PG_LEVEL_4K, only_cross_boundary=True),
        SymbolicCall(down(e, PG_LEVEL_1G), e, PG_LEVEL_4K, only_cross_boundary=True),
    ]


def two_plain_calls(s: Gfn, e: Gfn, size: int = PG_LEVEL_2M) -> list[SymbolicCall]:
    """Plain calls over [s, next multiple of `size`) and [last multiple, e), to 4K.

    With `size` 2M a 1G leaf may stick out at the far end as well; it then has the edge strictly inside too.
    """
    return [SymbolicCall(s, up(s, size), PG_LEVEL_4K), SymbolicCall(down(e, size), e, PG_LEVEL_4K)]


def later_code(s: Gfn, e: Gfn, looks_at_start: bool = True) -> list[SymbolicCall]:
    """The later code's conditions, for leaves of 2M at most (kernel-facts 7.3).

    The tail's block is left out if it is the head's and that was split; or, without a look at whether it
    was, if it is the head's.
    """
    head, tail = down(s, PG_LEVEL_2M), down(e, PG_LEVEL_2M)
    pending = Or(head != tail, And(looks_at_start, head == s))
    return [
        block(s, PG_LEVEL_2M, PG_LEVEL_4K, head != s),
        block(e, PG_LEVEL_2M, PG_LEVEL_4K, And(tail != e, pending)),
    ]
