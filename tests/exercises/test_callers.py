"""Who needs a split is found by making every call there is; which frames are lost is arithmetic here.

A leaf has eight frames, and a zap takes whole what it touches: a range loses the rest of the leaves at its
edges. Who needs a split is by C16, C17 and C20 to C22 of kernel-facts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from tdpkit.exercises.callers import (
    CALLERS,
    REASONS,
    Trial,
    check_callers,
    conversion,
    larger_trials,
    memory_failure,
    mismatched_accept,
    punch_hole,
    usual_trials,
)
from tests.oracles.junk_values import EACH_JUNK, answered_in_words

ANSWERS = {
    "conversion": "edge",
    "punch hole": "folio",
    "mismatched accept": "always",
    "memory failure": "folio",
}
LEAF, FRAMES = 8, 16
RANGES = list(combinations(range(FRAMES + 1), 2))


def besides(start: int, end: int) -> tuple[int, ...]:
    """Frames outside [start, end) under a leaf that it touches."""
    touched = {frame // LEAF for frame in range(start, end)}
    return tuple(f for f in range(FRAMES) if f // LEAF in touched and not start <= f < end)


def cut(start: int, end: int) -> int:
    """Leaves with an edge inside."""
    return len({edge // LEAF for edge in (start, end) if edge % LEAF})


# ---- the trials ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_a_conversion_loses_the_rest_of_the_leaves_at_its_edges(start: int, end: int) -> None:
    trial = conversion(start, end)
    assert (trial.lost, trial.splits, trial.mended) == (besides(start, end), cut(start, end), True)
    assert not trial.refused
    assert trial.needs_split is bool(start % LEAF or end % LEAF)


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_a_hole_is_refused_or_loses_nothing_unless_a_mapping_spans_folios(start: int, end: int) -> None:
    trial = punch_hole(start, end)
    assert trial.refused is bool(start % LEAF or end % LEAF)
    assert (trial.lost, trial.splits, trial.needs_split) == ((), 0, False)
    larger = punch_hole(start, end, spans_folios=True)
    assert (larger.refused, larger.lost, larger.mended) == (False, besides(start, end), True)
    assert larger.splits == cut(start, end)


@pytest.mark.parametrize("page", range(FRAMES))
def test_a_bad_page_takes_its_folio_and_more_only_if_the_mapping_is_larger(page: int) -> None:
    trial = memory_failure(page)
    assert (trial.lost, trial.splits, trial.needs_split) == ((), 0, False)
    larger = memory_failure(page, folio_split=True)
    assert (larger.lost, larger.splits, larger.mended) == (besides(page, page + 1), 1, True)


@pytest.mark.parametrize("gfn", range(FRAMES))
def test_an_accept_of_less_than_is_mapped_is_stuck_without_a_split(gfn: int) -> None:
    trial = mismatched_accept(gfn)
    assert (trial.stuck, trial.lost, trial.splits, trial.mended) == (True, (), 1, True)


def test_every_call_is_tried() -> None:
    assert [len(usual_trials(caller)) for caller in CALLERS] == [136, 136, 16, 16]
    assert [len(larger_trials(caller)) for caller in ("punch hole", "memory failure")] == [136, 16]
    words = {trial.words for caller in CALLERS for trial in usual_trials(caller)}
    assert len(words) == 136 + 136 + 16 + 16


# ---- the answers ---------------------------------------------------------------------------------------


def test_the_right_answers_are_right() -> None:
    assert check_callers(ANSWERS).right is True
    assert check_callers({**ANSWERS, "release": "never"}).right is True


FOURTEEN = "without a split the guest loses 14 frames besides, 0 to 6 and 9 to 15, with one none."
NEEDLESS = "without a split nothing else is lost, and with one no leaf is split."
FOR_EVER = (
    "the guest accepts frame 0 alone, and a leaf of 8 is PENDING there: without a split it accepts for ever, "
    "with one it gets the page."
)
NOT_LARGER, LARGER = (
    "no mapping is larger than its folio here, and ",
    "let a mapping be larger than its folio: ",
)
ALL_16 = "all 16 calls on a TD of 16 frames "
WRONG = {
    ("conversion", "always"): f"frames [0, 8) become shared: {NEEDLESS}",
    ("conversion", "folio"): f"{NOT_LARGER}frames [7, 9) become shared: {FOURTEEN}",
    ("conversion", "never"): f"{NOT_LARGER}frames [7, 9) become shared: {FOURTEEN}",
    ("punch hole", "always"): f"a hole [0, 8) is punched: {NEEDLESS}",
    ("punch hole", "edge"): "on a TD of 16 frames 133 calls, those with an edge inside a folio, are refused; "
    "the other 3 lose nothing besides without a split.",
    ("punch hole", "never"): f"{LARGER}a hole [7, 9) is punched: {FOURTEEN}",
    ("mismatched accept", "edge"): f"{ALL_16}need one, at the edge of the leaf and inside it alike. One of "
    f"them: {FOR_EVER}",
    ("mismatched accept", "folio"): f"{NOT_LARGER}{FOR_EVER}",
    ("mismatched accept", "never"): f"{NOT_LARGER}{FOR_EVER}",
    ("memory failure", "always"): f"page 0 fails, of the folio [0, 8): {NEEDLESS}",
    ("memory failure", "edge"): f"{ALL_16}lose nothing besides without a split. One of them: page 0 fails, "
    f"of the folio [0, 8): {NEEDLESS}",
    ("memory failure", "never"): f"{LARGER}page 0 fails, of the folio [0, 1): without a split the guest "
    "loses 7 frames besides, 1 to 7, with one none.",
}  # fmt: skip
"""14 frames: both leaves but the two in the middle; 133 of 136 ranges are no whole leaves."""


@pytest.mark.parametrize(("caller", "said"), WRONG)
def test_a_wrong_reason_meets_the_call_that_refutes_it(caller: str, said: str) -> None:
    verdict = check_callers({**ANSWERS, caller: said})
    assert verdict.right is False
    assert verdict.text == f"{caller}, “{said}”: {WRONG[caller, said]}"
    assert answered_in_words([verdict])


def test_every_wrong_reason_is_among_them() -> None:
    assert {*WRONG} | {*ANSWERS.items()} == {(caller, said) for caller in CALLERS for said in REASONS}


def test_nothing_submitted_is_not_wrong() -> None:
    waiting = [
        *map(check_callers, (..., {}, dict.fromkeys(CALLERS, ...))),
        check_callers({**ANSWERS, "memory failure": ...}),
    ]
    assert {verdict.right for verdict in waiting} == {None}
    assert waiting[0].text == "conversion: does it need a split? One of always, edge, folio, never."
    assert waiting[3].text.startswith("memory failure: ")


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    assert answered_in_words(
        [
            check_callers(make()),
            check_callers({**ANSWERS, "memory failure": make()}),
            check_callers(dict.fromkeys(CALLERS, make())),
        ]
    )


def test_a_trial_needs_a_split_if_frames_are_lost_or_the_guest_is_stuck() -> None:
    nothing = Trial("", False, (), False, True, 0)
    assert not nothing.needs_split
    assert nothing._replace(lost=(3,)).needs_split
    assert nothing._replace(stuck=True).needs_split
