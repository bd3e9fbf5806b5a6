"""The exercises of notebook 03: the blocks of an edge, and what becomes of a tree if they are wrong.

Submitted calls are run on the engine, and what they leave is held against the spec; nothing is compared with
the kit's own arithmetic, so any way that leaves the right tree is right. A submission may be anything at all:
what is of the wrong kind is answered in words, and never raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from numbers import Real
from random import Random
from typing import Any

from tdpkit.engine.gfn import PG_LEVEL_2M, X86_4LEVEL, Geometry, GfnRange, format_gfn, parse_gfn
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import layout_of
from tdpkit.lab.search import UNIVERSES, Tally, search
from tdpkit.lab.spec import forced_in, judge
from tdpkit.lab.strategies import (
    Call,
    Strategy,
    head_and_tail,
    kai_two_step,
    merged_blocks,
    one_2m_pass,
    run_strategy,
    walk_v3,
)
from tdpkit.lab.words import count_of, group_digits
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.case.state import case_state
from tdpkit.show.case.words import case_words, span_text

from .calls import answers_of, around, fault_of, frame_of, holds_both, left_by, pictured, read_calls, run_edge
from .submission import answer_to, shown, told, whole
from .verdict import Verdict, waiting

_TOY = UNIVERSES["three levels"]


# ---- the blocks of an edge, by hand --------------------------------------------------------------------

EDGES = ("1G", "1G+2M", "1G+2M+4K", "2T+4K")


def check_blocks(blocks: Any) -> Verdict:
    """Run the blocks submitted for each of EDGES on a guest with a leaf of 1G around the edge.

    blocks: a dict, for each edge a list of (start, end, target level); start and end are frame numbers or
    addresses such as ``"1G+2M"``. Right is what leaves the one correct and minimal tree, in whatever order
    and with or without blocks that change nothing.
    """
    if blocks is ...:
        return _write_blocks(EDGES[0])
    if not isinstance(blocks, Mapping):
        return Verdict(False, f"the answers are a dict, a list for each edge; {shown(blocks)} is none.")
    for edge in EDGES:
        said = answer_to(blocks, edge)
        if said is ...:
            return _write_blocks(edge)
        try:
            calls = read_calls(said, X86_4LEVEL)
        except Exception as error:  # no list, no blocks, or objects that raise when they are asked
            return Verdict(False, f"{edge}: {told(error)}.")
        ran = run_edge(around(parse_gfn(edge)), parse_gfn(edge), calls)
        if fault := fault_of(ran, calls):
            return Verdict(False, f"{edge}: {fault}.", pictured(ran))
    return Verdict(
        True, "a block for each size of leaf that the edge is no multiple of, and for no other size."
    )


def _write_blocks(edge: str) -> Verdict:
    return waiting(
        f"which blocks have to be split for the edge {edge}? A list of (start, end, target level), "
        'such as [("5G", "6G", 2)]; an empty list for none.'
    )


# ---- edge_blocks(x, pages) -----------------------------------------------------------------------------

_EASY_EDGES = ("0", "4K", "2M", "2M+4K", "1G", "1G+2M", "1G+2M+4K", "2G-4K")
_RANDOM_EDGES = 40


def _sizes(geometry: Geometry) -> dict[int, int]:
    """Frames of a leaf by level, for those above the smallest."""
    return {level: geometry.pages(level) for level in range(PG_LEVEL_2M, geometry.max_leaf_level + 1)}


def check_edge_blocks(edge_blocks: Any) -> Verdict:
    """Attack ``edge_blocks(x, pages)`` with every tree and every range of a toy, then with edges on x86.

    x: a frame number; pages: frames of a leaf by level, for the sizes above the smallest (on x86 ``{2: 512,
    3: 262144}``). It returns the blocks of the edge, a list of (start, end, target level). Of a range the
    start's blocks are made first, then the end's. The smallest case that is not as it should be is the
    counterexample.
    """
    if edge_blocks is ...:
        return waiting("write edge_blocks(x, pages), which returns a list of (start, end, target level).")
    if not callable(edge_blocks):
        return Verdict(False, f"edge_blocks is a function of x and pages; {shown(edge_blocks)} is none.")
    sizes, frames = _sizes(_TOY.geometry), _TOY.geometry.root_pages
    plans = answers_of(edge_blocks, "edge_blocks", ((x, sizes) for x in range(frames + 1)), _TOY.geometry)
    if isinstance(plans, Verdict):
        return plans
    tally = _search(lambda geometry, span: [*plans[span.start,], *plans[span.end,]])
    if fault := _not_exact(tally, f"pages {sizes}"):
        return fault
    edges = list(_x86_edges())
    answers = answers_of(edge_blocks, "edge_blocks", ((x, _sizes(X86_4LEVEL)) for x in edges), X86_4LEVEL)
    if isinstance(answers, Verdict):
        return answers
    for x in edges:
        for small in (False, True):
            ran = run_edge(around(x, small=small), x, answers[x,])
            if text := fault_of(ran, answers[x,]):
                return Verdict(
                    False, f"on x86, edge_blocks({x:#x}), an edge at {format_gfn(x)}: {text}.", pictured(ran)
                )
    return Verdict(
        True,
        f"every tree and every range of a toy ({count_of(tally.cases, 'case')}), then {len(edges)} edges "
        "on x86: the leaves that had to be split were, and no other.",
    )


def _search(strategy: Strategy) -> Tally:
    return search(_TOY, {"submitted": strategy})["submitted"]


def _not_exact(tally: Tally, given: str) -> Verdict | None:
    """The smallest case that is not as it should be, drawn; None if there is none."""
    if tally.smallest is None:
        return None
    state = case_state(tally.smallest)
    said = case_words(state)
    why = said.answer.removeprefix("Wrong: ").rstrip(".")
    marked = "" if state.crossing else f" ({said.caption})"
    where = span_text(state.start, state.end)
    return Verdict(False, f"range {where}, {given}: {why[0].lower()}{why[1:]}{marked}.", state)


def _x86_edges() -> Iterator[int]:
    """Easy ones first, then multiples of each size of leaf and the frames beside them: always the same."""
    random, geometry = Random(1), X86_4LEVEL
    yield from map(parse_gfn, _EASY_EDGES)
    for number in range(_RANDOM_EDGES):
        shift = geometry.shifts[1 + number % geometry.max_leaf_level]
        beside = random.choice((-1, 0, 0, 1))
        yield (random.randrange(1, parse_gfn("16T") >> shift) << shift) + beside


# ---- blocks that overlap -------------------------------------------------------------------------------

ONE_1G = layout_of(X86_4LEVEL, parse_gfn("1G"), (0, 3, 1))
OVERLAPPING = GfnRange(0x3FF, 0x401)
SHORT = GfnRange(0, 5)


def check_overlap(remaining: Any, merged_splits: Any) -> Verdict:
    """Compare two predictions with what the engine does, on one 1G leaf at 0.

    remaining: how many calls are made for OVERLAPPING, of the blocks of both edges, if each block is split
    once. merged_splits: how many splits are made for SHORT if blocks that overlap are made one, which goes
    down to the lower of their targets.
    """
    if remaining is ... or merged_splits is ...:
        return waiting("how many calls remain, and how many splits do the merged blocks make?")
    everything, once = head_and_tail(X86_4LEVEL, OVERLAPPING), kai_two_step(X86_4LEVEL, OVERLAPPING)
    if whole(remaining) != len(once):
        return Verdict(
            False,
            f"you said {shown(remaining)}; of the {len(everything)} blocks of both edges of "
            f"{_hex(OVERLAPPING)} {len(once)} are different ones: {', '.join(map(str, once))}.",
            boundary_state(Guest(ONE_1G, "plain"), OVERLAPPING.start, OVERLAPPING.end, "look"),
        )
    report = run_strategy(Guest(ONE_1G, "plain").root, merged_blocks, SHORT)
    if whole(merged_splits) != report.splits:
        made = ", ".join(map(str, report.calls))
        large = sum(level == X86_4LEVEL.max_leaf_level for _, level in report.made)
        return Verdict(
            False,
            f"you said {shown(merged_splits)}; for {_hex(SHORT)} {made} remains. It splits the 1G leaf and "
            f"then every 2M leaf of it: {large} + {report.splits - large} splits.",
            left_by(report, SHORT, ONE_1G.frames),
        )
    needed = len(forced_in(Guest(ONE_1G, "plain").root, SHORT))
    return Verdict(
        True,
        f"equal blocks are split once, and {len(once)} remain; blocks of two sizes are not the same work: "
        f"merged, they make {report.splits} splits where {needed} do.",
    )


def _hex(span: GfnRange) -> str:
    return f"[{span.start:#x}, {span.end:#x})"


# ---- one pass at 2M ------------------------------------------------------------------------------------


def check_aligned_2m(start: Any, end: Any) -> Verdict:
    """Whether a pass that splits only 2M blocks goes wrong on [start, end), both ends multiples of 2M.

    The guest is the layout "one-1G": plain, 3G long, one leaf of 1G at 1G. start, end: frame numbers, or
    addresses such as ``"1G+2M"``.
    """
    if start is ... or end is ...:
        return waiting("give a start and an end, multiples of 2M, on which the pass at 2M goes wrong.")
    guest = Guest("one-1G", "plain")
    try:
        span = guest.check_span(frame_of(start, "the start"), frame_of(end, "the end"))
    except Exception as error:  # no range, not the guest's, or an object that raises when it is asked
        return Verdict(False, f"{told(error)}.")
    pages = X86_4LEVEL.pages(PG_LEVEL_2M)
    odd = [
        f"the {name}, {format_gfn(x)}," for name, x in (("start", span.start), ("end", span.end)) if x % pages
    ]
    case = boundary_state(guest, span.start, span.end, "look")
    if odd:
        return Verdict(False, f"{span}: {odd[0]} is no multiple of 2M.", case)
    forced = forced_in(guest.root, span)
    report = run_strategy(guest.root, one_2m_pass, span)
    judgement = judge(report, span, forced)
    if judgement.verdict != "wrong":
        crossing = (
            "the 1G leaf crosses neither edge" if not forced else "the pass splits what has to be split"
        )
        return Verdict(False, f"{span}: {crossing}; a pass at 2M is enough here.", case)
    return Verdict(
        True,
        f"{span}: the pass makes {count_of(len(report.calls), 'call')}, and {holds_both(report, span)}. "
        f"A zap would take {count_of(judgement.outside_frames, 'frame')} outside the range.",
    )


# ---- the split and the zap after it --------------------------------------------------------------------

HOLE = GfnRange.parse("2T+4K", "14T+4K")
_NEAR = 2


@cache
def visits_of_split_and_zap() -> tuple[int, int]:
    """Entries that patch v3 visits for HOLE on 16 TiB of 2M leaves, and that a zap visits after it."""
    from tdpkit.engine.scan import scan

    root = Guest("16T", "plain").root
    report = run_strategy(root, walk_v3, HOLE)
    return report.all_visits, scan(root, HOLE.start, HOLE.end, 1).visited


def check_ratio(guess: Any) -> Verdict:
    """Whether `guess` is, within a factor of 2, the visits of the split divided by those of the zap after it.

    For the 12 TiB of the review, HOLE, in a guest of 16 TiB on 2M leaves.
    """
    if guess is ...:
        return waiting("guess a number: visits of the split divided by visits of the zap that follows.")
    number = _positive(guess)
    if number is None:
        return Verdict(False, f"a ratio is a number above 0; {shown(guess)} is none.")
    split, zap = visits_of_split_and_zap()
    numbers = (
        f"the split visits {group_digits(split)} entries, the zap after it {group_digits(zap)}, "
        f"a ratio of {split / zap:.4f}"
    )
    factor = number * zap / split
    if 1 / _NEAR <= factor <= _NEAR:
        return Verdict(True, f"{numbers}.")
    off = factor if factor > 1 else 1 / factor
    times = f"{off:.1f} times" if off < 10 else f"{group_digits(round(off))} times" if off < 1e9 else "far"
    return Verdict(False, f"{number:.4g} is {times} too {'large' if factor > 1 else 'small'}: {numbers}.")


def _positive(value: Any) -> float | None:
    """`value` as a number above 0, or None for what is none (booleans too)."""
    try:
        number = 0.0 if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except Exception:  # too large, or an object that raises when it is asked
        return None
    return number if math.isfinite(number) and number > 0 else None


# ---- nothing computed ----------------------------------------------------------------------------------

_ODD = ((10007, 1000003), (65537, 65539), (104729, 104729), (1, 1299709))
"""Ranges whose ends no alignment leaves as they are (but 1 at the start, which is one frame from 0)."""


def check_no_arithmetic(calls: Any) -> Verdict:
    """Attack ``calls(start, end)``, which computes nothing, with every tree and every range of a toy.

    It returns the calls to make, a list of (start, end, target level), for both edges of [start, end); in
    them may stand the two numbers that it was given, and levels, and no other number.
    """
    if calls is ...:
        return waiting("write calls(start, end), which returns a list of (start, end, target level).")
    if not callable(calls):
        return Verdict(False, f"calls is a function of start and end; {shown(calls)} is none.")
    asked = [(span.start, span.end) for span in _TOY.ranges]
    plans = answers_of(calls, "calls", asked, _TOY.geometry)
    if isinstance(plans, Verdict):
        return plans
    tally = _search(lambda geometry, span: plans[span.start, span.end])
    if fault := _not_exact(tally, f"calls {_said(plans, tally)}"):
        return fault
    answers = answers_of(calls, "calls", _ODD, X86_4LEVEL)
    if isinstance(answers, Verdict):
        return answers
    for given, made in answers.items():
        computed = [x for call in made for x in (call.start, call.end) if x not in given]
        if computed:
            return Verdict(
                False,
                f"exact in all {count_of(tally.cases, 'case')}, but calls{given} returns the number "
                f"{computed[0]}, which it was not given: something was computed.",
            )
    return Verdict(
        True,
        f"exact in all {count_of(tally.cases, 'case')}, and nothing computed. On [x, x) the walk visits the "
        "entries that hold x and begin before it; they are not inside the range, and are split.",
    )


def _said(plans: dict[tuple[Any, ...], list[Call]], tally: Tally) -> str:
    """The calls of the smallest case, as they were submitted."""
    if tally.smallest is None:
        return ""
    span = tally.smallest.span
    made = ", ".join(
        f"({call.start}, {call.end}, {call.target_level})" for call in plans[span.start, span.end]
    )
    return f"[{made}]" if made else "none"
