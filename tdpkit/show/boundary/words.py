"""What the boundary explorer says of its state."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.tree import Leaf
from tdpkit.lab.guest import GuestOutcome
from tdpkit.lab.words import count_of, group_digits, noun_for

from ..drawing import Counter
from .state import BoundaryState

WHAT_IF = "what-if: a TD of the modelled series maps at most 2M"

_TITLES = {
    "look": "Look at",
    "zap": "Zap",
    "split": "Split the edges of",
    "split+zap": "Split, then zap",
    "convert": "After a conversion of",
}
_VM = {"TD": "TD", "plain": "plain VM"}


class BoundaryWords(NamedTuple):
    """All that is said of one state."""

    title: str
    answer: str
    role: str
    """The answer's colour: "bad" where a TD loses frames, "good" where none outside the range is touched."""
    note: str
    captions: tuple[tuple[str, str], ...]
    """(text, role) for each lens: what becomes of the frames outside its edge; nothing if it has none."""
    counters: tuple[Counter, ...]
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell that occurs."""


def boundary_words(state: BoundaryState) -> BoundaryWords:
    """Put `state` into words."""
    outcome = state.outcome
    kinds = {cell.kind for strip in state.strips for cell in strip.cells}
    answer, role = _answer(state)
    counters = _left_counters(state) if outcome.action == "convert" else _counters(outcome)
    return BoundaryWords(
        title=_title(state),
        answer=f"{'TD' if outcome.kind == 'TD' else 'Plain VM'}: {answer}",
        role=role,
        note=WHAT_IF if state.what_if else "",
        captions=tuple(_edge_caption(state, lens.name) for lens in state.lenses),
        counters=counters,
        legend=tuple((kind, name) for kind, name in _kind_names(state).items() if kind in kinds),
    )


def _title(state: BoundaryState) -> str:
    names, outcome = state.names, state.outcome
    span, vm = names.span(outcome.span.start, outcome.span.end), _VM[outcome.kind]
    of = f"a {vm} of {names.size(state.frames)}" if names.toy else f"a {names.size(state.frames)} {vm}"
    return f"{_TITLES[outcome.action]} {span} of {of}"


def _kind_names(state: BoundaryState) -> dict[str, str]:
    """What each kind of cell is called in the legend, in its order."""
    levels = range(state.geometry.max_leaf_level, 0, -1)
    return {
        **{f"leaf{level}": state.names.leaves_of(level) for level in levels},
        "table": "table",
        "hole": "not mapped",
        "crossing": "crosses an edge",
        "split": "made by the split",
        "zapped": "zapped, in the range",
        "lost": "lost: zapped outside the range",
        "refaulted": "zapped outside the range, to re-fault",
    }


def _edge_names(leaf: Leaf, state: BoundaryState) -> str:
    span, last = state.outcome.span, leaf.gfn + state.geometry.pages(leaf.level)
    edges = (("start", span.start), ("end", span.end))
    return " and the ".join(name for name, edge in edges if leaf.gfn < edge < last)


def _outside(outcome: GuestOutcome) -> str:
    """How many frames outside the range, and on which side."""
    before = sum(part.pages for part in outcome.outside if part.end <= outcome.span.start)
    after = outcome.outside_frames - before
    if before and after:
        where = f"{group_digits(before)} before the start, {group_digits(after)} after the end"
        return f"{count_of(before + after, 'frame')} outside the range ({where})"
    return f"{count_of(before or after, 'frame')} {'before the start' if before else 'after the end'}"


def _answer(state: BoundaryState) -> tuple[str, str]:
    """The one sentence that says what happened, and its role."""
    outcome = state.outcome
    if outcome.action == "look":
        return _at_stake(state)
    if outcome.action == "convert":
        return _left(state)
    gone = f"exactly {count_of(outcome.zapped_inside, 'frame')} in the range"
    gone += f" {'is' if outcome.zapped_inside == 1 else 'are'} gone, none outside"
    splits = count_of(len(outcome.splits), "split")
    if outcome.action == "split+zap":
        return f"{splits}, then the zap; {gone}.", "good"
    if outcome.action == "split" and outcome.splits:
        return f"{splits}; no leaf crosses an edge any more, every translation is as it was.", "good"
    if outcome.action == "split":
        return "nothing to split, no leaf crosses an edge.", "good"
    if not outcome.outside:
        return f"no leaf crossed an edge; {gone}.", "good"
    it, are = ("it", "is") if outcome.outside_frames == 1 else ("them", "are")
    if outcome.kind == "TD":
        fate = f"{are} lost. There the guest meets an EPT violation, must ACCEPT again, and reads zeros."
        return f"{_outside(outcome)} {fate}", "bad"
    fate = f"went too. The guest faults {it} in again; the contents are kept."
    return f"{_outside(outcome)} {fate}", "ink"


def _still_mapped(state: BoundaryState) -> int:
    """Frames of the range that the guest still has."""
    span = state.outcome.span
    leaves = (cell for cell in state.guest.cells if cell.kind.startswith("leaf"))
    return sum(span.overlap(cell.first, cell.last - cell.first) for cell in leaves)


def _left(state: BoundaryState) -> tuple[str, str]:
    """What a conversion that somebody wrote has left, and the role of the words."""
    outcome, mapped = state.outcome, _still_mapped(state)
    range_part = "the range is gone" if outcome.zapped_inside else "nothing was mapped in the range"
    if mapped:
        range_part = f"{count_of(mapped, 'frame')} of the range {'is' if mapped == 1 else 'are'} still mapped"
    if not outcome.outside:
        return f"{range_part}; nothing outside it was taken.", "bad" if mapped else "ink"
    are = "is" if outcome.outside_frames == 1 else "are"
    fate = "lost" if outcome.kind == "TD" else "zapped"
    return f"{range_part}; {_outside(outcome)} {are} {fate}.", "bad"


def _at_stake(state: BoundaryState) -> tuple[str, str]:
    """What a zap without a split would take, and the role of the words."""
    outcome = state.outcome
    if not outcome.crossing:
        return "no leaf crosses an edge; a zap takes exactly the range.", "good"
    crossing = ", ".join(
        f"{state.names.leaf(leaf.gfn, leaf.level)} crosses the {_edge_names(leaf, state)}"
        for leaf in outcome.crossing
    )
    said = f"{crossing}; without a split, a zap takes {_outside(outcome)} too."
    return said, "bad" if outcome.kind == "TD" else "ink"


def _counters(outcome: GuestOutcome) -> tuple[Counter, ...]:
    visits = {
        "look": "SPTEs a split would visit",
        "zap": "SPTEs the zap visited",
        "split": "SPTEs the split visited",
        "split+zap": "SPTEs visited, split and zap",
    }
    td = outcome.kind == "TD"
    fate = "at stake" if outcome.action == "look" else "lost" if td else "to re-fault"
    crossing, splits, outside = len(outcome.crossing), len(outcome.splits), outcome.outside_frames
    return (
        Counter(group_digits(outcome.split_visits + outcome.zap_visits), visits[outcome.action]),
        Counter(group_digits(crossing), noun_for(crossing, "crossing leaf", "crossing leaves")),
        Counter(group_digits(splits), noun_for(splits, "split")),
        Counter(group_digits(splits), f"{noun_for(splits, 'page table')} added"),
        Counter(
            group_digits(outside),
            f"{noun_for(outside, 'frame')} {fate} outside",
            "bad" if td and outcome.outside else "ink",
        ),
    )


def _left_counters(state: BoundaryState) -> tuple[Counter, ...]:
    """Of a conversion that somebody wrote only what it left is known, not how it went about it."""
    outcome, mapped, outside = state.outcome, _still_mapped(state), state.outcome.outside_frames
    fate = "lost" if outcome.kind == "TD" else "to re-fault"
    return (
        Counter(group_digits(outcome.zapped_inside), "frames zapped in the range"),
        Counter(group_digits(mapped), "frames of it still mapped", "bad" if mapped else "ink"),
        Counter(group_digits(len(outcome.splits)), "splits"),
        Counter(group_digits(outside), f"frames {fate} outside", "bad" if outside else "ink"),
    )


def _edge_caption(state: BoundaryState, name: str) -> tuple[str, str]:
    """What becomes of the frames outside one edge, and the role of the words; no words for "frames"."""
    if name == "frames":
        return "", "ink"
    outcome = state.outcome
    edge, span = getattr(outcome.span, name), outcome.span
    pages = [(leaf, state.geometry.pages(leaf.level)) for leaf in outcome.crossing]
    crossing = [span.outside(leaf.gfn, n) for leaf, n in pages if leaf.gfn < edge < leaf.gfn + n]
    if not crossing:
        return f"no leaf crosses the {name}", "good"
    side = sum(part.pages for part in crossing[0] if (part.end <= edge) == (name == "start"))
    place = f"{count_of(side, 'frame')} {'before the start' if name == 'start' else 'after the end'}"
    if "split" in outcome.action:
        return f"safe: {place} in leaves of their own", "good"
    if outcome.action == "look":
        return f"at stake: {place}", "ink"
    if outcome.kind == "TD":
        return f"lost: {place}", "bad"
    return f"to be faulted in again: {place}", "ink"
