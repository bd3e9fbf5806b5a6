"""Calls of the split function as a learner submits them: read without raising, run on x86, and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    X86_4LEVEL,
    Geometry,
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
    align_down,
    check_gfn,
    format_gfn,
    parse_gfn,
)
from tdpkit.engine.tree import Leaf, LeafRun, leaf_runs
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import Layout, layout_of
from tdpkit.lab.spec import Judgement, forced_in, judge, leaves_at_edges
from tdpkit.lab.strategies import Call, Report, run_strategy
from tdpkit.lab.words import count_of
from tdpkit.show.boundary.state import BoundaryState, boundary_state

from .submission import items, shown, told, whole
from .verdict import Verdict, waiting

_MOST_CALLS = 16
_LARGEST = X86_4LEVEL.max_leaf_level

# ---- reading calls -------------------------------------------------------------------------------------


def frame_of(value: Any, what: str) -> int:
    """A frame number, or an address as it is typed. May raise anything."""
    return parse_gfn(value) if isinstance(value, str) else check_gfn(value, what)


def _read_call(item: Any, geometry: Geometry) -> Call:
    """(start, end, target level) as a plain call. May raise anything, with words for a learner."""
    parts = list(item[:3]) if isinstance(item, Call) and not item.only_cross_boundary else items(item, 4)
    if parts is None or len(parts) != 3:
        raise InvalidTypeError(f"a call is (start, end, target level); {shown(item)} is none")
    span = GfnRange(frame_of(parts[0], "the start"), frame_of(parts[1], "the end"))
    target, lowest = whole(parts[2]), geometry.max_leaf_level - 1
    if target is None or not 1 <= target <= lowest:
        raise InvalidValueError(
            f"a target level is that of a smaller leaf, 1 to {lowest}; {shown(parts[2])} is none"
        )
    if span.end > 2 * geometry.root_pages:
        raise InvalidValueError(f"{shown(item)} ends far beyond the machine")
    return Call(span.start, span.end, target)


def read_calls(said: Any, geometry: Geometry) -> list[Call]:
    """A list of calls. May raise anything, with words for a learner."""
    listed = items(said, _MOST_CALLS + 1)
    if listed is None or isinstance(said, Mapping):
        raise InvalidTypeError(f"a list of (start, end, target level) is wanted; {shown(said)} is none")
    if len(listed) > _MOST_CALLS:
        raise InvalidValueError(f"these are more than {_MOST_CALLS} calls; a few are enough")
    return [_read_call(item, geometry) for item in listed]


def answers_of(
    function: Callable[..., Any], name: str, asked: Iterable[tuple[Any, ...]], geometry: Geometry
) -> dict[tuple[Any, ...], list[Call]] | Verdict:
    """What a submitted function plans for each of the arguments asked; or the verdict on the first junk.

    The last of the arguments is left out of the keys if it is a dict; the function gets one of its own.
    """
    found = {}
    for arguments in asked:
        given = [dict(value) if isinstance(value, dict) else value for value in arguments]
        call = f"{name}({', '.join(map(repr, arguments))})"
        try:
            said = function(*given)
        except Exception as error:  # a submission may raise anything; the learner is told
            return Verdict(False, f"{call} raised {type(error).__name__}: {told(error)}.")
        if said is ...:
            return waiting(f"let {name} return a list of (start, end, target level).")
        try:
            found[tuple(value for value in arguments if not isinstance(value, dict))] = read_calls(
                said, geometry
            )
        except Exception as error:  # no list, no calls, or objects that raise when they are asked
            return Verdict(False, f"{call}: {told(error)}.")
    return found


# ---- running calls -------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """Calls made on a guest for one edge, and what the spec says of it."""

    layout: Layout
    edge: int
    report: Report
    judgement: Judgement


def around(edge: int, *, small: bool = False) -> Layout:
    """A guest with 1G leaves around an edge; with `small`, the one that holds it is of 2M leaves instead."""
    pages = X86_4LEVEL.pages(_LARGEST)
    base = align_down(edge, pages)
    level = PG_LEVEL_2M if small else _LARGEST
    runs = [(base, level, pages // X86_4LEVEL.pages(level)), (base + pages, _LARGEST, 1)]
    if base:
        runs.insert(0, (base - pages, _LARGEST, 1))
    return layout_of(X86_4LEVEL, base + 2 * pages, *runs)


def run_edge(layout: Layout, edge: int, calls: Sequence[Call]) -> Ran:
    """Make `calls` for one edge on a fresh guest, and judge what they leave."""
    root, span = Guest(layout, "plain").root, GfnRange(edge, edge)
    forced = forced_in(root, span)
    report = run_strategy(root, lambda geometry, span: list(calls), span)
    return Ran(layout, edge, report, judge(report, span, forced))


def _name(leaf: Leaf) -> str:
    return f"the {X86_4LEVEL.level(leaf.level).label} leaf at {format_gfn(leaf.gfn)}"


def holds_both(report: Report, span: GfnRange) -> str:
    """Which leaf still holds frames on both sides of an edge."""
    leaf = leaves_at_edges(report.root, span)[0]
    last = leaf.gfn + X86_4LEVEL.pages(leaf.level)
    x = min(x for x in (span.start, span.end) if leaf.gfn < x < last)
    return f"{_name(leaf)} still holds both {format_gfn(x - 1)} and {format_gfn(x)}"


def fault_of(ran: Ran, calls: Sequence[Call]) -> str:
    """What is wrong with the calls for an edge; empty if nothing is."""
    if ran.judgement.verdict == "exact":
        return ""
    if ran.judgement.verdict == "wrong":
        return holds_both(ran.report, GfnRange(ran.edge, ran.edge))
    parts = (calls[:number] for number in range(1, len(calls) + 1))
    culprit = next(part[-1] for part in parts if run_edge(ran.layout, ran.edge, part).judgement.needless)
    needless = count_of(ran.judgement.needless, "split")
    return f"{culprit} is too much: {needless} that nothing forces"


def left_by(report: Report, span: GfnRange, frames: int) -> BoundaryState | None:
    """The guest as a run left it, and what crosses there; nothing where a call was counted and not made."""
    if report.priced:
        return None
    layout = Layout(X86_4LEVEL, tuple(LeafRun(*run) for run in leaf_runs(report.root)), frames)
    return boundary_state(Guest(layout, "plain"), span.start, span.end, "look")


def pictured(ran: Ran) -> BoundaryState | None:
    """What a run for one edge left, for a range whose other edge is a multiple of 1G."""
    last = align_down(ran.edge, X86_4LEVEL.pages(_LARGEST))
    last += X86_4LEVEL.pages(_LARGEST)
    return left_by(ran.report, GfnRange(ran.edge, last), ran.layout.frames)
