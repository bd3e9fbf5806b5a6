"""What is said of one case of a search."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.words import count_of

from .state import CaseState

_MOST_NAMED = 3
"""Leaves that are named one by one; of the others only the number is said."""
_LONGEST_NUMBER = 9999
"""A call that ends beyond it, far outside any toy, is not written out: it would not fit its column."""


class CaseWords(NamedTuple):
    """All that is said of one case."""

    title: str
    answer: str
    role: str
    """The answer's colour: "good" for exact splits, else "bad"."""
    caption: str
    """What is marked in the tree after: leaves that still cross, leaves that were split needlessly."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell that occurs."""


def case_words(state: CaseState) -> CaseWords:
    """Put `state` into words."""
    said = []
    if state.crossing:
        crosses = "crosses" if len(state.crossing) == 1 else "cross"
        said.append(f"still {crosses}: {_leaves(state.crossing)}")
    if state.needless:
        said.append(f"split needlessly: {_leaves(state.needless)}")
    made = f"{count_of(len(state.calls), 'call')}, {count_of(state.splits, 'split')}"
    kinds = {cell.kind for tree in state.trees for strip in tree.strips for cell in strip.cells}
    return CaseWords(
        title=f"Range {span_text(state.start, state.end)} of {count_of(state.frames, 'frame')}: {made}",
        answer=_answer(state),
        role="bad" if said else "good",
        caption="; ".join(said),
        legend=tuple((kind, name) for kind, name in _names(state).items() if kind in kinds),
    )


def span_text(start: int, end: int) -> str:
    """A range in plain frame numbers."""
    return f"[{start}, {end})"


def call_text(call: PlannedCall) -> str:
    """What a call asks for, but for its filter (:func:`filter_text`)."""
    end = f"{call.end}" if call.end <= _LONGEST_NUMBER else "..."
    return f"[{call.start}, {end}) to level {call.target_level}"


def filter_text(call: PlannedCall) -> str:
    """Which leaves a call is restricted to, or nothing."""
    return "only what crosses" if call.only_cross_boundary else ""


def _names(state: CaseState) -> dict[str, str]:
    """What each kind of cell is called in the legend, in its order."""
    sizes = {level: state.geometry.pages(level) for level in range(state.geometry.max_leaf_level, 0, -1)}
    return {
        **{f"leaf{level}": f"leaf of {count_of(size, 'frame')}" for level, size in sizes.items()},
        "table": "table",
        "hole": "not mapped",
        "crossing": "still crosses an edge",
        "split": "made by a needless split",
    }


def _answer(state: CaseState) -> str:
    """Say in one sentence what went wrong, if anything did."""
    if state.crossing:
        (first, last), *others = state.crossing
        x = min(x for x in (state.start, state.end) if first < x < last)
        more = f", and so does {_leaves(others)}" if others else ""
        return f"Wrong: the leaf {span_text(first, last)} still holds both {x - 1} and {x}{more}."
    made, forced = count_of(state.splits, "split"), count_of(state.forced, "split")
    if state.needless:
        do = f"where {forced} {'does' if state.forced == 1 else 'do'}"
        return f"Safe, but not minimal: {made} {do if state.forced else 'where none is needed'}."
    return f"Exact: {made}, and every one was needed." if state.splits else "Exact: no split needed."


def _leaves(spans: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> str:
    named = ", ".join(span_text(*span) for span in spans[:_MOST_NAMED])
    return named + (f" and {len(spans) - _MOST_NAMED} more" if len(spans) > _MOST_NAMED else "")
