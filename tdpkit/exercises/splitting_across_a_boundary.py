"""The exercises of notebook 02. A check runs the submission and answers a wrong one with a counterexample."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.tree import LeafRun
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.untrusted import Raised, shown
from tdpkit.lab.words import count_of
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.walk.picture import walk_svg
from tdpkit.show.walk.predict import reason
from tdpkit.show.walk.state import walk_state
from tdpkit.show.walk.words import name_entry

from .checking import (
    Counterexample,
    Unanswered,
    Wrong,
    about,
    answer_of,
    answered,
    check,
    did,
    items,
    one_of,
    ordered,
    ranges,
    refused,
    truth,
    unanswered,
    whole,
)


def _at_its_end(call: SplitCall) -> Counterexample:
    return Counterexample(walk_state(call, len(call.steps) - 1), walk_svg)


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


@check("write crosses(leaf, span), which says whether the leaf crosses an edge.")
def check_crosses(crosses: Any) -> str:
    """Attack ``crosses(leaf, span)`` with every leaf and every range of a machine of 16 frames.

    leaf: `gfn` and `pages`, in frames; span: `start` and `end`, not empty. The first difference from the
    definition, on the shortest range and the smallest leaf, is the counterexample.
    """
    if not callable(crosses):
        raise refused("crosses is a function of a leaf and a range", crosses)
    tried = 0
    for span, (leaf, level) in product(ranges(_SMALL.root_pages), list(_leaves())):
        tried += 1
        said, right = answer_of(crosses, leaf, span), really_crosses(leaf, span)
        if truth(said) is not right:
            layout = Layout(_SMALL, (LeafRun(leaf.gfn, level, 1, leaf.gfn),), _SMALL.root_pages)
            state = boundary_state(Guest(layout, "plain"), span.start, span.end, "look")
            fault = f", and {'it does' if right else 'it does not'}"
            if isinstance(said, Raised):
                fault = ""
            elif truth(said) is None:
                fault = f", where {right} is wanted"
            raise Wrong(
                f"{leaf} and range [{span.start}, {span.end}): crosses {did(said)}{fault}.",
                Counterexample(state, boundary_svg),
            )
    return f"{count_of(tried, 'case')}: every leaf and every range of a machine of 16 frames."


# ---- the visiting order --------------------------------------------------------------------------------


@check("list (level, first frame) of each visit, in order, such as [(3, 16), ...].")
def check_order(predicted: Any, call: SplitCall) -> str:
    """Compare a predicted order of visits with that of `call`.

    predicted: (level, first frame) of each visit, in order, repeated visits included.
    """
    said = _pairs(predicted, len(call.steps) + 1)
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
        walk = f"the {name_entry(call, *place)} comes" if place else "the call is over"
        raise Wrong(
            f"visit {number + 1}: {you}, but {walk}: {reason(call, before, then)}",
            Counterexample(walk_state(call, before, hidden=True), walk_svg),
        )
    return f"all {count_of(len(visits), 'visit')}, in order, the restarts included."


def _pairs(predicted: Any, most: int) -> list[tuple[int, int]]:
    """The first `most` of a list of pairs of whole numbers."""
    pairs = []
    listed = items(predicted, most)
    for pair in [None] if listed is None else listed:
        level, gfn = map(whole, ordered(pair, 2) or (None, None))
        if level is None or gfn is None:
            raise refused("an order is a list of pairs (level, first frame)", predicted)
        pairs.append((level, gfn))
    return pairs


# ---- ranges for a number of splits ---------------------------------------------------------------------

SPLIT_COUNTS = range(5)


def _ask_range(splits: int) -> str:
    return f"give a range, as (start, end), on which the call makes {count_of(splits, 'split')}."


@check()
def check_split_counts(found: Any, layout: str = "large") -> str:
    """For each number of splits from 0 to 4, compare a range (start, end) in frames with patch v3's splits.

    Ranges must not be empty and must lie in the machine.
    """
    for wanted, said in answered(found, SPLIT_COUNTS, "a range for each number of splits", _ask_range):
        with about(f"{shown(said)}, for {count_of(wanted, 'split')}"):
            call = _call_on(said, layout)
        span = call.span
        if len(call.splits) != wanted:
            made = ", ".join(f"the {name_entry(call, *place)}" for place in call.splits) or "nothing"
            raise Wrong(
                f"[{span.start}, {span.end}): wanted {count_of(wanted, 'split')}, the call splits {made}.",
                _at_its_end(call),
            )
    return (
        "at most two splits at each edge, one per size of leaf above the smallest: two for both edges "
        "together if they share a leaf at each level, four if they share none."
    )


def _call_on(said: Any, layout: str) -> SplitCall:
    pair = ordered(said, 2)
    if pair is None:
        raise Wrong("a range is a pair (start, end).")
    call = SplitCall(layout, *pair)
    if call.span.start == call.span.end:
        raise Wrong("the range is empty.")
    if call.span.end > call.layout.frames:
        raise Wrong(f"the machine has the frames 0 to {call.layout.frames - 1}.")
    return call


# ---- the empty range -----------------------------------------------------------------------------------

EMPTY_AT = (0, 16, 20, 21)

REASONS = {
    "a": "an empty range is taken for one frame",
    "b": "the walk begins with the entries that hold the start, and goes on while gfn < end",
    "c": "the call rounds both ends out to whole leaves",
}


def _ask_empty(frame: int) -> str:
    return f"how many splits does the call make on [{frame}, {frame})?"


@check()
def check_empty(splits: Any, why: Any) -> str:
    """Compare predicted splits of the call on [x, x), x in EMPTY_AT, on the layout "large"; then the reason.

    why: a key of REASONS.
    """
    for frame, said in answered(splits, EMPTY_AT, "a number for each frame", _ask_empty):
        call = SplitCall("large", frame, frame)
        if whole(said) != len(call.splits):
            you = f"you said {shown(said)}, the call makes {count_of(len(call.splits), 'split')}"
            seen = ", ".join(name_entry(call, *place) for place in call.visited()) or "none"
            raise Wrong(f"[{frame}, {frame}): {you}. Entries visited: {seen}.", _at_its_end(call))
    if unanswered(why):
        reasons = "; ".join(f"({key}) {text}" for key, text in REASONS.items())
        raise Unanswered(f"the numbers are right. And why? {reasons}.")
    if fault := _WHY_NOT.get(one_of(why, REASONS, "a reason")):
        raise fault()
    return (
        "the first entries visited hold the start, so they may begin before it; then gfn < end holds, "
        "and the leaf is not inside the range. An entry that begins at x is not visited: its gfn is not "
        "below x."
    )


def _not_one_frame() -> Wrong:
    one, none = SplitCall("large", 16, 17), SplitCall("large", 16, 16)
    would = count_of(len(one.splits), "leaf", "leaves")
    return Wrong(
        f"then [16, 16) would split what [16, 17) splits, {would}; it splits {len(none.splits)}.",
        _at_its_end(one),
    )


def _not_rounded() -> Wrong:
    call = SplitCall("large", 21, 21)
    splits = count_of(len(call.splits), "leaf", "leaves")
    return Wrong(
        f"then the leaf around 21 would lie inside the range and stay whole; the call splits {splits}.",
        _at_its_end(call),
    )


_WHY_NOT = {"a": _not_one_frame, "c": _not_rounded}
"""The counterexample to each wrong reason."""
