"""The exercises of notebook 03: the blocks of an edge, and what becomes of a tree if they are wrong.

Submitted calls are run on the engine, and the tree they leave is held against the spec. Nothing is compared
with the kit's own arithmetic, so every way to the right tree is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from html import escape
from numbers import Real
from random import Random
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    X86_4LEVEL,
    Geometry,
    GfnRange,
    align_down,
    format_gfn,
    parse_gfn,
)
from tdpkit.engine.tree import Leaf, LeafRun, leaf_runs
from tdpkit.lab.guest import Guest
from tdpkit.lab.judge import Judgement, Report, forced_in, judge, leaves_at_edges, run_strategy
from tdpkit.lab.layouts import Layout, layout_of
from tdpkit.lab.search import UNIVERSES, Tally, search
from tdpkit.lab.shapes import Shape, leaves_of
from tdpkit.lab.strategies import (
    PlannedCall,
    head_and_tail,
    kai_two_step,
    merged_blocks,
    one_2m_pass,
    walk_v3,
)
from tdpkit.lab.untrusted import Raised, shown
from tdpkit.lab.words import count_of, group_digits
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.case.picture import case_svg
from tdpkit.show.case.state import case_state
from tdpkit.show.case.words import case_words, span_text

from .checking import (
    Counterexample,
    Wrong,
    about,
    answer_of,
    answered,
    check,
    frame,
    items,
    ordered,
    refused,
    whole,
)
from .guess import Guess

# ---- calls, as they are submitted ----------------------------------------------------------------------

_MOST_CALLS = 16
_LARGEST = X86_4LEVEL.max_leaf_level


def _read_call(item: Any, geometry: Geometry) -> PlannedCall:
    """(start, end, target level), or a call that splits all of its range."""
    parts = (
        [*item[:3]] if isinstance(item, PlannedCall) and not item.only_cross_boundary else ordered(item, 3)
    )
    if parts is None:
        raise refused("a call is (start, end, target level)", item)
    span = GfnRange(frame(parts[0], "the start"), frame(parts[1], "the end"))
    target, lowest = whole(parts[2]), geometry.max_leaf_level - 1
    if target is None or not 1 <= target <= lowest:
        raise refused(f"a target level is that of a smaller leaf, 1 to {lowest}", parts[2])
    if span.end > 2 * geometry.root_pages:
        raise Wrong(f"{shown(item)} ends far beyond the machine.")
    return PlannedCall(span.start, span.end, target)


def _read_calls(said: Any, geometry: Geometry) -> list[PlannedCall]:
    found = None if isinstance(said, Mapping) else items(said, _MOST_CALLS + 1)
    if found is None:
        raise refused("a list of (start, end, target level) is wanted", said)
    if len(found) > _MOST_CALLS:
        raise Wrong(f"these are more than {_MOST_CALLS} calls; a few are enough.")
    return [_read_call(item, geometry) for item in found]


_Plans = dict[tuple[int, ...], list[PlannedCall]]


def _plans(
    function: Callable[..., Any], name: str, asked: Iterable[tuple[Any, ...]], geometry: Geometry
) -> _Plans:
    """The calls that a submitted function plans, by the numbers it was given.

    It may be given a dict after them, of which it gets a copy to spoil.
    """
    found: _Plans = {}
    for arguments in asked:
        numbers = tuple(value for value in arguments if not isinstance(value, dict))
        call = f"{name}({', '.join(map(repr, arguments))})"
        given = [dict(value) if isinstance(value, dict) else value for value in arguments]
        said = answer_of(function, *given)
        if isinstance(said, Raised):
            raise Wrong(f"{call} {said!r}.")
        with about(call):
            found[numbers] = _read_calls(said, geometry)
    return found


# ---- calls for one edge, run on x86 --------------------------------------------------------------------


class EdgeRun(NamedTuple):
    """Calls made on a guest for one edge, and the spec's judgement of them."""

    layout: Layout
    edge: int
    report: Report
    judgement: Judgement


def _around(edge: int) -> Layout:
    """A guest with a 1G leaf that holds the edge, and one on either side."""
    pages = X86_4LEVEL.pages(_LARGEST)
    base = align_down(edge, pages)
    first = max(0, base - pages)
    return layout_of(X86_4LEVEL, base + 2 * pages, (first, _LARGEST, (base - first) // pages + 2))


def _run_edge(layout: Layout, edge: int, calls: Sequence[PlannedCall]) -> EdgeRun:
    """Make `calls` for one edge on a fresh guest, and judge the tree they leave."""
    root, span = Guest(layout, "plain").root, GfnRange(edge, edge)
    forced = forced_in(root, span)
    report = run_strategy(root, lambda geometry, span: list(calls), span)
    return EdgeRun(layout, edge, report, judge(report, span, forced))


def _name(leaf: Leaf) -> str:
    return f"the {X86_4LEVEL.level(leaf.level).label} leaf at {format_gfn(leaf.gfn)}"


def _holds_both(report: Report, span: GfnRange) -> str:
    """Name the leaf that still holds frames on both sides of an edge."""
    leaf = leaves_at_edges(report.root, span)[0]
    last = leaf.gfn + X86_4LEVEL.pages(leaf.level)
    x = min(x for x in (span.start, span.end) if leaf.gfn < x < last)
    return f"{_name(leaf)} still holds both {format_gfn(x - 1)} and {format_gfn(x)}"


def _hold_edge(layout: Layout, edge: int, calls: Sequence[PlannedCall]) -> None:
    """Raise Wrong unless `calls` split just the leaves that the edge crosses."""
    ran = _run_edge(layout, edge, calls)
    if ran.judgement.verdict == "exact":
        return
    if ran.judgement.verdict == "wrong":
        fault = _holds_both(ran.report, GfnRange(edge, edge))
    else:
        parts = (calls[:number] for number in range(1, len(calls) + 1))
        culprit = next(part[-1] for part in parts if _run_edge(layout, edge, part).judgement.needless)
        needless = count_of(ran.judgement.needless, "split")
        fault = f"{culprit} is too much: {needless} that nothing forces"
    pages = X86_4LEVEL.pages(_LARGEST)
    one_edge = GfnRange(edge, align_down(edge, pages) + pages)  # its end, a multiple of 1G, crosses nothing
    raise Wrong(f"{fault}.", _left_by(ran.report, one_edge, layout.frames))


def _left_by(report: Report, span: GfnRange, frames: int) -> Counterexample | None:
    """The guest as a run left it, and what crosses there; nothing where a call was priced and not made."""
    if report.priced:
        return None
    layout = Layout(X86_4LEVEL, tuple(LeafRun(*run) for run in leaf_runs(report.root)), frames)
    return _looked_at(Guest(layout, "plain"), span)


def _looked_at(guest: Guest, span: GfnRange) -> Counterexample:
    return Counterexample(boundary_state(guest, span.start, span.end, "look"), boundary_svg)


# ---- the blocks of an edge, by hand --------------------------------------------------------------------

EDGES = ("1G", "1G+2M", "1G+2M+4K", "2T+4K")


def _ask_blocks(edge: str) -> str:
    return (
        f"which blocks have to be split for the edge {edge}? A list of (start, end, target level), "
        'such as [("5G", "6G", 2)]; an empty list for none.'
    )


@check()
def check_blocks(blocks: Any) -> str:
    """Run the blocks submitted for each of EDGES on a guest with a leaf of 1G around the edge.

    blocks: a dict, for each edge a list of (start, end, target level); start and end are frame numbers or
    addresses such as ``"1G+2M"``. Right are blocks that leave the one correct and minimal tree, in whatever
    order and with or without blocks that change nothing.
    """
    for edge, said in answered(blocks, EDGES, "a list for each edge", _ask_blocks):
        with about(edge):
            calls = _read_calls(said, X86_4LEVEL)
            _hold_edge(_around(parse_gfn(edge)), parse_gfn(edge), calls)
    return "a block for each size of leaf that the edge is no multiple of, and for no other size."


# ---- every tree and every range of a toy ---------------------------------------------------------------

_TOY = UNIVERSES["three levels"]


def _one_leaf_trees() -> Iterator[Shape]:
    return (shape for shape in _TOY.shapes() if len(leaves_of(_TOY.geometry, shape)) == 1)


@lru_cache(maxsize=32)
def _searched(plans: tuple[tuple[PlannedCall, ...], ...]) -> Tally:
    """The tally of a plan for each range of the toy, in their order; kept, since checks are run again.

    A plan does not see the tree, and a call treats each leaf by itself. So a plan that goes wrong anywhere
    goes wrong on a tree of one leaf, and the smallest such tree is the counterexample. A plan that passes
    these is run on all trees.
    """
    by_range = dict(zip(_TOY.ranges, plans, strict=True))
    for universe in (_TOY._replace(shapes=_one_leaf_trees), _TOY):
        tally = search(universe, {"submitted": lambda geometry, span: [*by_range[span]]})["submitted"]
        if tally.smallest:
            break
    return tally


def _hold_toy(plan: Callable[[GfnRange], list[PlannedCall]], given: Callable[[GfnRange], str]) -> int:
    """Raise Wrong with the smallest case in which `plan` is not exact, else the number of cases.

    given: in words, what the plan of a range came from.
    """
    tally = _searched(tuple(tuple(plan(span)) for span in _TOY.ranges))
    if tally.smallest is None:
        return tally.cases
    state = case_state(tally.smallest)
    shown = case_words(state)
    why = shown.answer.removeprefix("Wrong: ").rstrip(".")
    marked = "" if state.crossing else f" ({shown.caption})"
    where = span_text(state.start, state.end)
    said = f"range {where}, {given(tally.smallest.span)}: {why[0].lower()}{why[1:]}{marked}."
    raise Wrong(said, Counterexample(state, case_svg))


# ---- edge_blocks(x, pages) -----------------------------------------------------------------------------

_EASY_EDGES = ("0", "4K", "2M", "2M+4K", "1G", "1G+2M", "1G+2M+4K", "2G-4K")
_RANDOM_EDGES = 40


def _sizes(geometry: Geometry) -> dict[int, int]:
    """Frames of a leaf by level, for those above the smallest."""
    return {level: geometry.pages(level) for level in range(PG_LEVEL_2M, geometry.max_leaf_level + 1)}


@check("let edge_blocks return a list of (start, end, target level).")
def check_edge_blocks(edge_blocks: Any) -> str:
    """Attack ``edge_blocks(x, pages)`` with every tree and every range of a toy, then with edges on x86.

    x: a frame number; pages: frames of a leaf by level, for the sizes above the smallest (on x86 ``{2: 512,
    3: 262144}``). It returns the blocks of the edge, a list of (start, end, target level). Of a range the
    start's blocks are made first, then the end's. The smallest case in which the tree is not the one it
    should be is the counterexample.
    """
    if not callable(edge_blocks):
        raise refused("edge_blocks is a function of x and pages", edge_blocks)
    sizes, frames = _sizes(_TOY.geometry), _TOY.geometry.root_pages
    plans = _plans(edge_blocks, "edge_blocks", ((x, sizes) for x in range(frames + 1)), _TOY.geometry)
    cases = _hold_toy(
        lambda span: [*plans[span.start,], *plans[span.end,]],
        lambda span: f"pages {sizes}",
    )
    edges = list(_x86_edges())
    answers = _plans(edge_blocks, "edge_blocks", ((x, _sizes(X86_4LEVEL)) for x in edges), X86_4LEVEL)
    for x in edges:
        with about(f"on x86, edge_blocks({x:#x}), an edge at {format_gfn(x)}"):
            _hold_edge(_around(x), x, answers[x,])
    return (
        f"every tree and every range of a toy ({count_of(cases, 'case')}), then {len(edges)} edges "
        "on x86: the leaves that had to be split were, and no other."
    )


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


@check("how many calls remain, and how many splits do the merged blocks make?")
def check_overlap(remaining: Any, merged_splits: Any) -> str:
    """Compare two predictions with what the engine does, on one 1G leaf at 0.

    remaining: how many calls are made for OVERLAPPING, of the blocks of both edges, if each block is split
    once. merged_splits: how many splits are made for SHORT if blocks that overlap are made one, which goes
    down to the lower of their targets.
    """
    everything, once = head_and_tail(X86_4LEVEL, OVERLAPPING), kai_two_step(X86_4LEVEL, OVERLAPPING)
    if whole(remaining) != len(once):
        raise Wrong(
            f"you said {shown(remaining)}; the edges of {_hex(OVERLAPPING)} have {len(everything)} blocks, "
            f"{len(once)} of them different: {', '.join(map(str, once))}.",
            _looked_at(Guest(ONE_1G, "plain"), OVERLAPPING),
        )
    report = _merged()
    if whole(merged_splits) != report.splits:
        made = ", ".join(map(str, report.calls))
        large = sum(level == X86_4LEVEL.max_leaf_level for _, level in report.made)
        raise Wrong(
            f"you said {shown(merged_splits)}; the blocks of {_hex(SHORT)} become {made}. That splits the 1G "
            f"leaf and then every 2M leaf in it: {large} + {report.splits - large} splits.",
            _left_by(report, SHORT, ONE_1G.frames),
        )
    needed = len(forced_in(Guest(ONE_1G, "plain").root, SHORT))
    return (
        f"equal blocks are split once, and {len(once)} remain; blocks of two sizes are not the same work: "
        f"merged, they make {report.splits} splits where {needed} do."
    )


@cache
def _merged() -> Report:
    """Make the merged blocks of SHORT, once."""
    return run_strategy(Guest(ONE_1G, "plain").root, merged_blocks, SHORT)


def _hex(span: GfnRange) -> str:
    return f"[{span.start:#x}, {span.end:#x})"


# ---- one pass at 2M ------------------------------------------------------------------------------------


@check("give a start and an end, multiples of 2M, on which the pass at 2M goes wrong.")
def check_aligned_2m(start: Any, end: Any) -> str:
    """Whether a pass that splits only 2M blocks goes wrong on [start, end), both ends multiples of 2M.

    The guest is the layout "one-1G": plain, 3G long, one leaf of 1G at 1G. start, end: frame numbers, or
    addresses such as ``"1G+2M"``.
    """
    guest = Guest("one-1G", "plain")
    span = guest.check_span(frame(start, "the start"), frame(end, "the end"))
    case, pages = _looked_at(guest, span), X86_4LEVEL.pages(PG_LEVEL_2M)
    for name, x in (("start", span.start), ("end", span.end)):
        if x % pages:
            raise Wrong(f"{span}: the {name}, {format_gfn(x)}, is no multiple of 2M.", case)
    forced = forced_in(guest.root, span)
    report = run_strategy(guest.root, one_2m_pass, span)
    judgement = judge(report, span, forced)
    if judgement.verdict != "wrong":
        raise Wrong(f"{span}: the 1G leaf crosses neither edge; a pass at 2M is enough here.", case)
    return (
        f"{span}: the pass makes {count_of(len(report.calls), 'call')}, and {_holds_both(report, span)}. "
        f"A zap would take {count_of(judgement.outside_frames, 'frame')} outside the range."
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


@check("guess a number: visits of the split divided by visits of the zap that follows.")
def check_ratio(guess: Any) -> str:
    """Whether `guess` is, within a factor of 2, the visits of the split divided by those of the zap after it.

    For the 12 TiB of the review, HOLE, in a guest of 16 TiB on 2M leaves.
    """
    number = _positive(guess)
    if number is None:
        raise refused("a ratio is a number above 0", guess)
    split, zap = visits_of_split_and_zap()
    numbers = (
        f"the split visits {group_digits(split)} entries, the zap after it {group_digits(zap)}, "
        f"a ratio of {split / zap:.4f}."
    )
    factor = number * zap / split
    if not 1 / _NEAR <= factor <= _NEAR:
        off = max(factor, 1 / factor)
        times = "far"
        if off < 1e9:
            times = f"{off:.1f} times" if off < 10 else f"{group_digits(round(off))} times"
        raise Wrong(f"{number:.4g} is {times} too {'large' if factor > 1 else 'small'}: {numbers}")
    return numbers


def _positive(value: Any) -> float | None:
    """`value` as a number above 0; None for anything else, booleans too."""
    try:
        number = 0.0 if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except Exception:  # too large, or an object that raises when it is asked
        return None
    return number if math.isfinite(number) and number > 0 else None


_SMALLEST, _LARGEST_RATIO, _STEP = -6, 3, 0.25
"""Powers of 10, and how far an arrow key goes: from a millionth to a thousand, in steps of a quarter."""


class RatioGuess(Guess):
    """A slider over powers of ten to guess the ratio with, and below it the guess in words."""

    def __init__(self) -> None:
        self.slider = ipywidgets.FloatLogSlider(
            value=10 ** ((_SMALLEST + _LARGEST_RATIO) / 2),
            min=_SMALLEST,
            max=_LARGEST_RATIO,
            step=_STEP,
            description="split / zap",
            readout=False,
            layout={"width": "auto", "flex": "1 1 320px"},
        )
        self.words = ipywidgets.HTML()
        super().__init__(
            "visits of the split / visits of the zap after it", self.slider, check_ratio, self.words
        )

    def _clear(self) -> None:
        super()._clear()
        self.words.value = f'<span role="status">{escape(in_words(self.slider.value))}</span>'

    def __repr__(self) -> str:
        said = "not guessed yet" if self.value is ... else in_words(self.slider.value)
        return f"{self.question}: {said}"


def in_words(ratio: float) -> str:
    """``the split visits 1/32 of the entries that the zap visits``, for a ratio as the slider has it."""
    if ratio < 0.101:
        return f"the split visits 1/{group_digits(round(1 / ratio))} of the entries that the zap visits"
    times = group_digits(round(ratio)) if ratio >= 10 else f"{ratio:.2g}"
    return f"the split visits {'' if times == '1' else f'{times} times '}as many entries as the zap"


# ---- nothing computed ----------------------------------------------------------------------------------

_ODD = ((10007, 1000003), (65537, 65539), (104729, 104729), (1, 1299709))
"""Ranges whose ends no alignment leaves as they are (but 1 at the start, which is one frame from 0)."""


@check("let calls return a list of (start, end, target level).")
def check_no_arithmetic(calls: Any) -> str:
    """Attack ``calls(start, end)``, which computes nothing, with every tree and every range of a toy.

    It returns the calls to make, a list of (start, end, target level), for both edges of [start, end). The
    only numbers in them may be the two that it was given, and levels.
    """
    if not callable(calls):
        raise refused("calls is a function of start and end", calls)
    plans = _plans(calls, "calls", [(span.start, span.end) for span in _TOY.ranges], _TOY.geometry)
    cases = _hold_toy(
        lambda span: plans[span.start, span.end],
        lambda span: f"calls {_written(plans[span.start, span.end])}",
    )
    exact = f"exact in all {count_of(cases, 'case')},"
    for given, made in _plans(calls, "calls", _ODD, X86_4LEVEL).items():
        computed = [x for call in made for x in (call.start, call.end) if x not in given]
        if computed:
            raise Wrong(
                f"{exact} but calls{given} returns the number {computed[0]}, which it was not given: "
                "something was computed."
            )
    return (
        f"{exact} and nothing computed. On [x, x) the walk visits the entries that hold x and begin before "
        "it; they are not inside the range, and are split."
    )


def _written(calls: list[PlannedCall]) -> str:
    """Calls as they were submitted."""
    made = ", ".join(f"({call.start}, {call.end}, {call.target_level})" for call in calls)
    return f"[{made}]" if made else "none"
