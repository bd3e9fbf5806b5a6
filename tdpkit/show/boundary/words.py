"""What the boundary explorer says: title, answer, captions, counters and legend, from an outcome."""

from __future__ import annotations

from tdpkit.engine.gfn import GfnRange, format_gfn
from tdpkit.engine.tree import Leaf
from tdpkit.lab.guest import Guest, GuestOutcome
from tdpkit.lab.words import count_of, group_digits

WHAT_IF = "what-if: a TD of the modelled series maps at most 2M"

_TITLES = {"look": "Look at", "zap": "Zap", "split": "Split the edges of", "split+zap": "Split, then zap"}


def title(outcome: GuestOutcome, guest: Guest) -> str:
    """What is done to what."""
    vm = "TD" if outcome.kind == "TD" else "plain VM"
    return f"{_TITLES[outcome.action]} {outcome.span} of a {format_gfn(guest.frames)} {vm}"


def kind_names(guest: Guest) -> dict[str, str]:
    """What each kind of cell is called in the legend, in its order."""
    levels = range(guest.geometry.max_leaf_level, 0, -1)
    return {
        **{f"leaf{level}": f"{guest.geometry.level(level).label} leaf" for level in levels},
        "table": "table",
        "hole": "not mapped",
        "crossing": "crosses an edge",
        "split": "made by the split",
        "zapped": "zapped, in the range",
        "lost": "lost: zapped outside the range",
        "refaulted": "zapped outside the range, to re-fault",
    }


def name_leaf(leaf: Leaf, guest: Guest) -> str:
    """``the 2M leaf at 2T``."""
    return f"the {guest.geometry.level(leaf.level).label} leaf at {format_gfn(leaf.gfn)}"


def _edge_names(leaf: Leaf, span: GfnRange, pages: int) -> str:
    edges = (("start", span.start), ("end", span.end))
    return " and the ".join(name for name, edge in edges if leaf.gfn < edge < leaf.gfn + pages)


def _outside(outcome: GuestOutcome) -> str:
    """How many frames outside the range, and on which side."""
    before = sum(part.pages for part in outcome.outside if part.end <= outcome.span.start)
    after = outcome.outside_frames - before
    if before and after:
        where = f"{group_digits(before)} before the start, {group_digits(after)} after the end"
        return f"{count_of(before + after, 'frame')} outside the range ({where})"
    return f"{count_of(before or after, 'frame')} {'before the start' if before else 'after the end'}"


def answer(outcome: GuestOutcome, guest: Guest) -> tuple[str, str]:
    """The one sentence that says what happened, and its role."""
    span, td = outcome.span, outcome.kind == "TD"
    outside = _outside(outcome)
    gone = count_of(outcome.zapped_inside, "frame")
    are = "is" if outcome.zapped_inside == 1 else "are"
    vm = "TD" if td else "Plain VM"
    if outcome.action == "look":
        if not outcome.crossing:
            return f"{vm}: no leaf crosses an edge; a zap takes exactly the range.", "good"
        named = ", ".join(
            f"{name_leaf(leaf, guest)} crosses the "
            f"{_edge_names(leaf, span, guest.geometry.pages(leaf.level))}"
            for leaf in outcome.crossing
        )
        return f"{vm}: {named}; without a split, a zap takes {outside} too.", "bad" if td else "ink"
    if outcome.action == "zap" and outcome.outside:
        it, are = ("it", "is") if outcome.outside_frames == 1 else ("them", "are")
        if td:
            return (
                f"TD: {outside} {are} lost. There the guest meets an EPT violation, must ACCEPT again, "
                "and reads zeros.",
                "bad",
            )
        return f"Plain VM: {outside} went too. The guest faults {it} in again; the contents are kept.", "ink"
    if outcome.action == "zap":
        return f"{vm}: no leaf crossed an edge; exactly {gone} in the range {are} gone, none outside.", "good"
    splits = count_of(len(outcome.splits), "split")
    if outcome.action == "split":
        if not outcome.splits:
            return f"{vm}: nothing to split, no leaf crosses an edge.", "good"
        return f"{vm}: {splits}; no leaf crosses an edge any more, every translation is as it was.", "good"
    return f"{vm}: {splits}, then the zap; exactly {gone} in the range {are} gone, none outside.", "good"


def counters(outcome: GuestOutcome) -> tuple[tuple[str, str, str], ...]:
    """(value, caption, role) of each number on show."""
    td, look = outcome.kind == "TD", outcome.action == "look"
    captions = {
        "look": "SPTEs a split would visit",
        "zap": "SPTEs the zap visited",
        "split": "SPTEs the split visited",
        "split+zap": "SPTEs visited, split and zap",
    }
    fate = "frames lost outside" if td else "frames to re-fault outside"
    if look:
        fate = "frames at stake outside"
    return (
        (group_digits(outcome.split_visits + outcome.zap_visits), captions[outcome.action], "ink"),
        (group_digits(len(outcome.crossing)), "crossing leaves", "ink"),
        (group_digits(len(outcome.splits)), "splits", "ink"),
        (group_digits(len(outcome.splits)), "page tables added", "ink"),
        (group_digits(outcome.outside_frames), fate, "bad" if td and outcome.outside else "ink"),
    )


def edge_caption(outcome: GuestOutcome, guest: Guest, name: str) -> tuple[str, str]:
    """What becomes of the frames outside one edge ("start" or "end"), and the role of the words."""
    edge, span = getattr(outcome.span, name), outcome.span
    pages = [(leaf, guest.geometry.pages(leaf.level)) for leaf in outcome.crossing]
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
