"""Ways to make the edges of a range safe before a zap: plans, over numbers or over formulas.

A plan turns a geometry and the range's edges s and e into calls of `tdp_mmu_split_huge_pages_root`, by
arithmetic on the two edges alone. It never sees the tree, so its worth does not depend on who runs it. It
emits *guarded* calls: each says `when` it is made. Its arithmetic, ``x & -pages``, works on integers and on
z3's bit-vectors alike, so `judge` runs, `search` tries and `statements` proves one and the same plan.

A :class:`Strategy` is a plan with all that is said of it, and is defined in one place: :func:`strategy` puts
it among STRATEGIES, and with a `curve` among CONTENDERS. The race, the search and the cost curves read these.

"2M" and "1G" are the sizes of leaves above 4K; a toy's are its own. In a range that starts and ends at one
frame, that frame is an edge like any other, for every strategy here. Left out: the zap that follows (`cost`),
and which roots are meant (notebook 04).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, Geometry, GfnRange, format_gfn

from .words import Names


class PlannedCall(NamedTuple):
    """One call of the split function: frames [start, end), split down to `target_level`, made `when` so.

    In a plan over formulas `start`, `end` and `when` are z3's.
    """

    start: int
    end: int
    target_level: int
    only_cross_boundary: bool = False
    """Split only what is not fully inside the call's own range (patch v3)."""
    when: bool = True

    def __repr__(self) -> str:
        crossing = ", only what crosses" if self.only_cross_boundary else ""
        return f"[{format_gfn(self.start)}, {format_gfn(self.end)}) to level {self.target_level}{crossing}"


Plan = Callable[[Geometry, int, int], list[PlannedCall]]
"""Guarded calls for a geometry and the edges s and e, to be made in order."""

Planner = Callable[[Geometry, GfnRange], list[PlannedCall]]
"""The calls to make for a range, in order: a :class:`Strategy`, or a function of one's own."""


class Rule(NamedTuple):
    """A strategy in words; ``{large}`` and ``{small}`` stand for its machine's largest and smallest leaf
    above a frame, ``{frame}`` for a frame.
    """

    title: str
    rule: str
    idea: str

    def on(self, names: Names) -> Rule:
        """The same for one machine, sizes as it writes them: ``2M``, or on a toy the number of frames."""
        geometry = names.geometry
        levels = {"large": geometry.max_leaf_level, "small": PG_LEVEL_2M, "frame": PG_LEVEL_4K}
        sizes = {name: names.frame(geometry.pages(level)) for name, level in levels.items()}
        return Rule(*(text.format(**sizes) for text in self))


class Curve(NamedTuple):
    """A contender's line among the cost curves."""

    label: str
    """Its name in the legend."""
    role: str
    """Its colour, by role."""
    dash: str = "-"
    """As matplotlib writes it."""
    width: float = 1.5


class Strategy:
    """A plan, and all that is said of it. Called with a geometry and a range it returns the calls to make.

    `rule`: in words. `source`: who proposed it and where, or where it is written down. `curve`: how its cost
    is drawn; None for one that is no contender.
    """

    def __init__(self, plan: Plan, rule: Rule, source: str, curve: Curve | None = None) -> None:
        self.plan = plan
        self.rule = rule
        self.source = source
        self.curve = curve
        self.__name__ = plan.__name__
        self.__doc__ = plan.__doc__

    def __call__(self, geometry: Geometry, span: GfnRange) -> list[PlannedCall]:
        """The calls to make for `span`, in order."""
        return made(self.plan(geometry, span.start, span.end))

    def __repr__(self) -> str:
        return f"<strategy {self.__name__}>"


STRATEGIES: dict[str, Strategy] = {}
"""All strategies, by name."""

CONTENDERS: dict[str, Strategy] = {}
"""Three ways of the thread and the form that the later code took, by name: those with a curve."""


def strategy(
    title: str, rule: str, idea: str, *, source: str, curve: Curve | None = None
) -> Callable[[Plan], Strategy]:
    """Make a plan a strategy, and put it among STRATEGIES; its function's name is its name.

    title, rule, idea: as :class:`Rule` has them; source, curve: as :class:`Strategy` has them.
    """

    def defined(plan: Plan) -> Strategy:
        found = Strategy(plan, Rule(title, rule, idea), source, curve)
        for names in (STRATEGIES, CONTENDERS) if curve else (STRATEGIES,):
            names[found.__name__] = found
        return found

    return defined


# ---- guarded calls -------------------------------------------------------------------------------------


def made(calls: Iterable[PlannedCall]) -> list[PlannedCall]:
    """Those of `calls`, over numbers, that are made."""
    return [call for call in calls if call.when]


def blocks(geometry: Geometry, x: int) -> list[PlannedCall]:
    """The aligned block around an edge `x` of every size of leaf above 4K, down to the next smaller leaf; the
    largest first.

    Made unless x is a multiple of its size: only a leaf that is one of these blocks can hold x - 1 and x.
    """
    found = []
    for level in range(geometry.max_leaf_level, PG_LEVEL_4K, -1):
        pages = 1 << geometry.shifts[level]
        start = x & -pages
        found.append(PlannedCall(start, start + pages, level - 1, False, start != x))
    return found


def smallest_block(geometry: Geometry, x: int) -> list[PlannedCall]:
    """The smallest block that is made around `x`: the one of a size that x is no multiple of, being one of
    the size below.
    """
    return [
        call._replace(when=call.when & (x & -(1 << geometry.shifts[call.target_level]) == x))
        for call in blocks(geometry, x)
    ]


def once(calls: Iterable[PlannedCall]) -> list[PlannedCall]:
    """`calls`, each made only if no equal one before it was."""
    kept: list[PlannedCall] = []
    for call in calls:
        when = call.when
        for other in kept:
            if other[2:4] == call[2:4]:
                differs = (other.start != call.start) | (other.end != call.end) | (other.when != call.when)
                when = differs & when  # in this order: z3's `&` takes a bool, a bool's takes no formula
        kept.append(call._replace(when=when))
    return kept


def edge_blocks(x: int, geometry: Geometry = X86_4LEVEL) -> list[PlannedCall]:
    """The blocks to split for one edge: the frames x - 1 and x then share no leaf, and nothing else changes.

    x: the edge, a frame number. For each size of leaf above 4K that x is no multiple of, the aligned block of
    that size around x, down to the next smaller leaf; the largest first. Only a leaf that is one of these
    blocks can hold both frames. The cost does not depend on any range. Kai Huang, M13
    (d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com; S138).
    """
    return made(blocks(geometry, x))


# ---- four contenders -----------------------------------------------------------------------------------


@strategy(
    "v3 walk",
    "[s, e), only what crosses",
    "one call that looks at all of the range",
    source="Yan Zhao, M0, the patch (20260106102136.25108-1-yan.y.zhao@intel.com; S102)",
    curve=Curve("v3 walk", "bad", width=2),
)
def walk_v3(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """One call over [s, e) that splits only what crosses an edge."""
    return [PlannedCall(s, e, PG_LEVEL_4K, only_cross_boundary=True)]


def calls_to_multiples(geometry: Geometry, s: int, e: int, level: int) -> list[PlannedCall]:
    """Plain calls over [s, next multiple of a `level` leaf's size) and [last multiple, e), to 4K."""
    pages = geometry.pages(level)
    return [
        PlannedCall(s, (s + pages - 1) & -pages, PG_LEVEL_4K),
        PlannedCall(e & -pages, e, PG_LEVEL_4K),
    ]


@strategy(
    "two calls",
    "[s, up {large}) [down {large}, e)",
    "the patch's own call, on the range's part of the first and of the last {large}",
    source="Yan Zhao, M7, for large ranges (aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com; S129)",
    curve=Curve("two calls to the 1G ends", "shared", "-."),
)
def two_calls(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """The patch's call twice: over [s, next 1G) and over [last 1G, e)."""
    return [call._replace(only_cross_boundary=True) for call in two_calls_unfiltered.plan(geometry, s, e)]


@strategy(
    "head and tail",
    "block of {large}, then of {small}",
    "around each edge the block of {large} to {small}, then that of {small} to {frame}; a shared one once",
    source="Kai Huang, M13 (d9b677b4f4cbbf8a8c3dadb056077aa55feb5c30.camel@intel.com; S138)",
    curve=Curve("head and tail, both blocks", "private", "--"),
)
def kai_two_step(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """For each edge the 1G block to 2M, then the 2M block to 4K; a shared block once."""
    return once(head_and_tail.plan(geometry, s, e))


@strategy(
    "one block per edge",
    "its smallest block, to {frame}",
    "a call to {frame} splits larger leaves on its way down; so the smallest block around an edge is enough",
    source=(
        "leaves of 2M: Sean Christopherson's later code, which leaves 1G as a TODO (reply to RFC v5 44, "
        "aXt_L6QKB9CSTZcW@google.com; S141); leaves of 1G: ours (S233)"
    ),
    curve=Curve("one block per edge", "good", width=2),
)
def one_block_per_edge(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """For each edge its smallest block only: the call splits larger leaves on its way.

    For 2M leaves it is the later code's (R2); that a call to 4K may be left to split a 1G leaf is ours.
    """
    return once([*smallest_block(geometry, s), *smallest_block(geometry, e)])


# ---- beside them ---------------------------------------------------------------------------------------


@strategy(
    "empty range",
    "[x, x), every leaf, to {frame}",
    "the walk looks at the entries that begin before an edge and hold it, and at no other",
    source="ours (S233)",
)
def empty_range(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """A plain call over the empty range [x, x) for each edge: it computes nothing.

    Rests on a quirk of the loop: the walk starts with the entries that hold x and goes on while gfn < end, so
    it visits just those that begin before x.
    """
    return once(PlannedCall(x, x, PG_LEVEL_4K) for x in (s, e))


@strategy(
    "blocks, repeated",
    "as head and tail",
    "all the blocks of both edges; where they coincide the second call finds nothing to do",
    source="Kai Huang, M13, without its last remark",
)
def head_and_tail(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """All the blocks of both edges, also those that coincide."""
    return [*blocks(geometry, s), *blocks(geometry, e)]


@strategy(
    "plain split",
    "[s, e), every leaf, to {frame}",
    "one call that splits all of the range, as dirty logging",
    source="dirty logging, upstream (S81)",
)
def plain_split(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """Every huge leaf of [s, e) down to 4K, as dirty logging does."""
    return [PlannedCall(s, e, PG_LEVEL_4K)]


@strategy(
    "two calls, unfiltered",
    "the same, every leaf",
    "without the patch's filter the two calls split all that they meet",
    source="S233",
)
def two_calls_unfiltered(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """Two calls to the 1G ends, without the patch's filter: safe, and needlessly thorough."""
    return calls_to_multiples(geometry, s, e, geometry.max_leaf_level)


@strategy(
    "merged blocks",
    "those that overlap, as one",
    "a block of {large} merged with that of {small} inside it goes down to {frame} from end to end",
    source='a reading of "the split is only needed once" (Kai Huang, M13; S233)',
)
def merged_blocks(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """Blocks that overlap are made one, which goes down to the lower of their targets.

    Merging across levels is safe, with many splits too many. It sorts the blocks, so it plans numbers only.
    """
    merged: list[PlannedCall] = []
    for one in sorted(made(head_and_tail.plan(geometry, s, e)), key=lambda one: (one.start, -one.end)):
        if merged and one.start < merged[-1].end:
            target = min(merged[-1].target_level, one.target_level)
            merged[-1] = merged[-1]._replace(target_level=target)
        else:
            merged.append(one)
    return merged


# ---- wrong, or nearly right ----------------------------------------------------------------------------


@strategy(
    "head rounded up",
    "head block from up(s)",
    "the first block begins at the next multiple of its size, where no leaf crosses the start",
    source="S233",
)
def head_rounded_up(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """The blocks of s begin at the next multiple of their size, not at the one before."""
    head = (one._replace(start=one.end, end=one.end + (one.end - one.start)) for one in blocks(geometry, s))
    return once([*head, *blocks(geometry, e)])


@strategy(
    "one frame each",
    "[x, x+{frame}), to {frame}",
    "it splits down to {frame} at an edge, aligned or not",
    source="S233",
)
def one_frame_each(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """[x, x + 1) down to 4K for each edge, aligned or not: safe, not minimal."""
    return once(PlannedCall(x, x + 1, PG_LEVEL_4K) for x in (s, e))


@strategy(
    "last frame as edge",
    "tail blocks of e - {frame}",
    "the tail's blocks are those around the last frame of the range, not around its end",
    source="S237",
)
def last_frame_as_edge(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """The tail's blocks are those of e - 1, as if the range's end were part of it; of 0 there are none."""
    tail = (one._replace(when=(e != 0) & one.when) for one in blocks(geometry, e - 1))
    return once([*blocks(geometry, s), *tail])


@strategy(
    "one pass at {small}",
    "blocks of {small} only, to {frame}",
    "enough where no leaf is larger; a leaf of {large} at a multiple of {small} goes unnoticed",
    source="S233",
)
def one_2m_pass(geometry: Geometry, s: int, e: int) -> list[PlannedCall]:
    """Only the 2M blocks, down to 4K: enough where no leaf is larger, as in a TD of the modelled series.

    With 1G leaves an edge that is a multiple of 2M goes unnoticed.
    """
    return [one for one in kai_two_step.plan(geometry, s, e) if one.target_level == PG_LEVEL_4K]


def plan_of(planner: Planner, geometry: Geometry, span: GfnRange, limit: int) -> list[PlannedCall]:
    """The calls of `planner` for `span` on a root that holds the frames below `limit`.

    A call that starts there or beyond is left out: nothing lies there, and the kernel's iterator would alias
    to a low entry.
    """
    return [call for call in made(planner(geometry, span)) if call.start < limit]
