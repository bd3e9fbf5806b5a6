"""The exercises of notebook 02. A check runs the submission and answers a wrong one with a counterexample.

A submission may be anything at all: what is of the wrong kind is answered in words, and never raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.tree import LeafRun
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.words import count_of
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.walk.predict import reason
from tdpkit.show.walk.state import walk_state
from tdpkit.show.walk.words import name_entry

from .submission import answer_to, items, ranges, shown, told, whole
from .verdict import Verdict, waiting

# ---- crosses(leaf, span) -------------------------------------------------------------------------------

_SMALL = Geometry(index_bits=1, root_level=4, max_leaf_level=4)


class SomeLeaf(NamedTuple):
    """A leaf as the exercise hands it out: its first frame and how many it maps."""

    gfn: int
    pages: int


def _leaves() -> Iterator[tuple[SomeLeaf, int]]:
    """Every leaf that a small machine can have, with its level, the smallest first."""
    for level in range(1, _SMALL.max_leaf_level + 1):
        pages = _SMALL.pages(level)
        yield from ((SomeLeaf(gfn, pages), level) for gfn in range(0, _SMALL.root_pages, pages))


def really_crosses(leaf: SomeLeaf, span: GfnRange) -> bool:
    """By the definition, frame by frame: the leaf maps the frames on both sides of an edge."""
    frames = range(leaf.gfn, leaf.gfn + leaf.pages)
    return any(edge - 1 in frames and edge in frames for edge in (span.start, span.end))


def check_crosses(crosses: Any) -> Verdict:
    """Attack ``crosses(leaf, span)`` with every leaf and every range of a machine of 16 frames.

    leaf: `gfn` and `pages`, in frames; span: `start` and `end`, not empty. The first difference from the
    definition, on the shortest range and the smallest leaf, is the counterexample.
    """
    if crosses is ...:
        return _write_crosses()
    if not callable(crosses):
        return Verdict(False, f"crosses is a function of a leaf and a range; {shown(crosses)} is none.")
    tried = 0
    for span, (leaf, level) in product(ranges(_SMALL.root_pages), list(_leaves())):
        tried += 1
        right = really_crosses(leaf, span)
        try:
            said = crosses(leaf, span)
            if said is ...:
                return _write_crosses()
            agrees = said in (True, False) and bool(said) == right
            did = f"said {shown(said)}"
        except Exception as error:  # a submission may raise anything; the learner is told
            did, agrees = f"raised {type(error).__name__}: {told(error)}", False
        if not agrees:
            layout = Layout(_SMALL, (LeafRun(leaf.gfn, level, 1, leaf.gfn),), _SMALL.root_pages)
            truth = "it does" if right else "it does not"
            return Verdict(
                False,
                f"{leaf} and range [{span.start}, {span.end}): crosses {did}, and {truth}.",
                boundary_state(Guest(layout, "plain"), span.start, span.end, "look"),
            )
    return Verdict(True, f"{count_of(tried, 'case')}: every leaf and every range of a machine of 16 frames.")


def _write_crosses() -> Verdict:
    return waiting("write crosses(leaf, span), which says whether the leaf crosses an edge.")


# ---- the visiting order --------------------------------------------------------------------------------


def check_order(predicted: Any, call: SplitCall) -> Verdict:
    """Compare a predicted order of visits with that of `call`.

    predicted: (level, first frame) of each visit, in order, repeated visits included.
    """
    if predicted is ...:
        return waiting("list (level, first frame) of each visit, in order, such as [(3, 16), ...].")
    said = _pairs(predicted, len(call.steps) + 1)
    if said is None:
        return Verdict(
            False, f"an order is a list of pairs (level, first frame); {shown(predicted)} is none."
        )
    visits = [at for at, step in enumerate(call.steps) if step.kind == "visit"]
    for number in range(max(len(said), len(visits))):
        right = visits[number] if number < len(visits) else None
        place = (call.steps[right].level, call.steps[right].gfn) if right is not None else None
        mine = said[number] if number < len(said) else None
        if mine == place:
            continue
        you = f"you said level {shown(mine[0])}, frame {shown(mine[1])}" if mine else "your list ends"
        before = visits[number - 1] if number else 0
        then = len(call.steps) - 1 if right is None else right
        walk = "the call is over" if right is None else f"the {name_entry(call, *place[::-1])} comes"  # type: ignore[index]
        return Verdict(
            False,
            f"visit {number + 1}: {you}, but {walk}: {reason(call, before, then)}",
            walk_state(call, before, hidden=True),
        )
    return Verdict(True, f"all {count_of(len(visits), 'visit')}, in order, the restarts included.")


def _pairs(predicted: Any, most: int) -> list[tuple[int, int]] | None:
    """The first `most` pairs of whole numbers in `predicted`; None if anything else is among them."""
    listed = items(predicted, most)
    if listed is None:
        return None
    pairs = []
    for pair in listed:
        numbers = [whole(number) for number in items(pair) or []]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return None
        pairs.append((numbers[0], numbers[1]))
    return pairs


# ---- ranges for a number of splits ---------------------------------------------------------------------

SPLIT_COUNTS = range(5)


def check_split_counts(found: Any, layout: str = "large") -> Verdict:
    """For each number of splits from 0 to 4, a range (start, end) in frames on which patch v3 makes so many.

    Ranges must not be empty and must lie in the machine.
    """
    for wanted in SPLIT_COUNTS:
        pair = answer_to(found, wanted)
        if pair is ...:
            return waiting(
                f"give a range, as (start, end), on which the call makes {count_of(wanted, 'split')}."
            )
        asked = f"{shown(pair)}, for {count_of(wanted, 'split')}"
        try:
            start, end = pair
            call = SplitCall(layout, start, end)
        except Exception as error:  # no pair, no range, or an object that raises when it is asked
            return Verdict(False, f"{asked}: {told(error)}.")
        span, frames = call.span, call.layout.frames
        if span.start == span.end:
            return Verdict(False, f"{asked}: the range is empty.")
        if span.end > frames:
            return Verdict(False, f"{asked}: the machine has the frames 0 to {frames - 1}.")
        if len(call.splits) != wanted:
            made = ", ".join(f"the {name_entry(call, *place)}" for place in call.splits) or "nothing"
            return Verdict(
                False,
                f"[{span.start}, {span.end}): wanted {count_of(wanted, 'split')}, the call splits {made}.",
                walk_state(call, len(call.steps) - 1),
            )
    return Verdict(
        True,
        "at most two splits at each edge, one per size of leaf above the smallest: two for both edges "
        "together if they share a leaf at each level, four if they share none.",
    )


# ---- the empty range -----------------------------------------------------------------------------------

EMPTY_AT = (0, 16, 20, 21)

REASONS = {
    "a": "an empty range is taken for one frame",
    "b": "the walk begins with the entries that hold the start, and goes on while gfn < end",
    "c": "the call rounds both ends out to whole leaves",
}


def check_empty(splits: Any, why: Any) -> Verdict:
    """Predicted splits of the call on [x, x) for each x in EMPTY_AT, on the layout "large", and the reason.

    why: a key of REASONS.
    """
    for frame in EMPTY_AT:
        said = answer_to(splits, frame)
        if said is ...:
            return waiting(f"how many splits does the call make on [{frame}, {frame})?")
        call = SplitCall("large", frame, frame)
        if whole(said) != len(call.splits):
            you = f"you said {shown(said)}, the call makes {count_of(len(call.splits), 'split')}"
            seen = ", ".join(name_entry(call, *place) for place in call.visited()) or "none"
            return Verdict(
                False,
                f"[{frame}, {frame}): {you}. Entries visited: {seen}.",
                walk_state(call, len(call.steps) - 1),
            )
    if why is ...:
        listed = "; ".join(f"({key}) {text}" for key, text in REASONS.items())
        return waiting(f"the numbers are right. And why? {listed}.")
    if not isinstance(why, str) or why not in REASONS:
        return Verdict(False, f"a reason is one of {', '.join(REASONS)}; {shown(why)} is none.")
    if why == "b":
        return Verdict(
            True,
            "the first entries visited hold the start, so they may begin before it; then gfn < end holds, "
            "and the leaf is not inside the range. An entry that begins at x is not visited: its gfn is not "
            "below x.",
        )
    if why == "a":
        one, none = SplitCall("large", 16, 17), SplitCall("large", 16, 16)
        return Verdict(
            False,
            f"then [16, 16) would split what [16, 17) splits, {count_of(len(one.splits), 'leaf', 'leaves')}; "
            f"it splits {len(none.splits)}.",
            walk_state(one, len(one.steps) - 1),
        )
    call = SplitCall("large", 21, 21)
    return Verdict(
        False,
        "then the leaf around 21 would lie inside the range and stay whole; the call splits "
        f"{count_of(len(call.splits), 'leaf', 'leaves')}.",
        walk_state(call, len(call.steps) - 1),
    )
