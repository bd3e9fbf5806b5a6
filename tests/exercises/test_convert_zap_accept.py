"""The exercises of notebook 05: the calls of a demote, what an ACCEPT comes to, which callers need a split.

An order of calls is judged by the statuses that it gets; the rules stand here again, without a tree. Which
callers need a split is by S127, S128 and S130 to S131.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from tdpkit.exercises.convert_zap_accept import (
    ACCEPTS,
    CALLS,
    KICKED,
    NO_ANSWER,
    REASONS,
    SPLIT,
    check_accept,
    check_callers,
    check_demote_order,
    check_lost,
    frame_list,
    run_demote,
)
from tdpkit.lab.caller_runs import (
    CALLERS,
)
from tdpkit.tdx.abi import TDX_PAGE_ALREADY_ACCEPTED, TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS
from tests.exercises.problems import DEMOTE, RIGHT_ACCEPTS, RIGHT_CALLERS, answered_in_words
from tests.oracles.junk import Hostile, breaking, endless

OK = "TDX_SUCCESS"


# ---- the rules, by a model of one leaf and one vCPU ----------------------------------------------------


def statuses(calls: Sequence[str]) -> list[str]:
    """S166, S167: epochs are counted from 1, and the vCPU is inside from the beginning."""
    epoch, entered, blocked_at, is_table = 1, 1, 0, False
    found = []
    for call in calls:
        status = OK
        if call == "KICK":
            status, entered = KICKED, epoch
        elif call == "TRACK" and entered < epoch:
            status = "TDX_PREVIOUS_TLB_EPOCH_BUSY"
        elif call == "TRACK":
            epoch += 1
        elif call == "BLOCK" and is_table:
            status = NO_ANSWER
        elif call == "BLOCK" and blocked_at:
            status = "TDX_GPA_RANGE_ALREADY_BLOCKED"
        elif call == "BLOCK":
            blocked_at = epoch
        elif is_table:
            status = "TDX_EPT_ENTRY_STATE_INCORRECT"
        elif not blocked_at:
            status = "TDX_GPA_RANGE_NOT_BLOCKED"
        elif blocked_at == epoch or entered <= blocked_at:
            status = "TDX_TLB_TRACKING_NOT_DONE"
        else:
            is_table = True
        found.append(status)
    return found


def orders(most: int) -> Iterator[tuple[str, ...]]:
    for count in range(most + 1):
        yield from product(CALLS, repeat=count)


def good(calls: Sequence[str]) -> bool:
    found = statuses(calls)
    return {*found} <= {OK, KICKED} and any(pair == ("DEMOTE", OK) for pair in zip(calls, found, strict=True))


def test_every_order_of_up_to_five_calls_gets_the_statuses_of_the_rules() -> None:
    for calls in orders(5):
        assert run_demote(calls) == list(zip(calls, statuses(calls), strict=True)), calls


def test_one_order_alone_is_right_and_it_is_the_kernels() -> None:
    """S167; by the rules no shorter one is good, and a longer one has a call to spare."""
    assert [calls for calls in orders(4) if good(calls)] == [tuple(DEMOTE)]
    longer = [calls for calls in orders(7) if good(calls) and len(calls) > 4]
    assert len(longer) > 20
    assert {check_demote_order(calls).right for calls in longer} == {False}
    assert all("is one too many" in check_demote_order(calls).text for calls in longer)


def test_the_order_may_be_a_list_a_tuple_or_an_array() -> None:
    assert all(
        check_demote_order(said).right for said in (DEMOTE, tuple(DEMOTE), iter(DEMOTE), np.array(DEMOTE))
    )


# ---- wrong orders --------------------------------------------------------------------------------------


def said_of(verdict_text: str) -> tuple[int, str, str]:
    """Number of the call, its name and its status, as the verdict has them."""
    head, rest = verdict_text.removeprefix("call ").split(": ", 1)
    number, name = head.split(", ")
    return int(number), name, rest.split(";")[0]


@pytest.mark.parametrize("calls", [calls for calls in permutations(CALLS) if calls != tuple(DEMOTE)])
def test_swapped_calls_are_told_the_first_status_that_is_no_success(calls: tuple[str, ...]) -> None:
    verdict = check_demote_order(list(calls))
    found = statuses(calls)
    at = next(at for at, status in enumerate(found) if status not in (OK, KICKED))
    assert verdict.right is False
    assert said_of(verdict.text) == (at + 1, calls[at], found[at])


@pytest.mark.parametrize("calls", [calls for calls in permutations(CALLS) if calls != tuple(DEMOTE)])
def test_what_is_said_to_be_missing_would_help_and_nothing_less(calls: tuple[str, ...]) -> None:
    text = check_demote_order(calls).text
    number, name, _ = said_of(text)
    words = text.split("; ")[1].removesuffix(" would still have to come before it.")
    missing = words.replace("another ", "").replace(" and ", ", ").split(", ")

    def helps(extra: Sequence[str]) -> bool:
        got = statuses([*calls[: number - 1], *extra, name])
        return {*got[number - 1 :]} <= {OK, KICKED}

    assert helps(missing)
    shorter = (
        extra for count in range(len(missing)) for extra in product(CALLS[:1] + CALLS[2:], repeat=count)
    )
    assert not any(helps(extra) for extra in shorter)


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([], "after no call the leaf is still huge: nothing was demoted."),
        (["BLOCK", "TRACK", "KICK"], "after BLOCK, TRACK, KICK the leaf is still huge"),
        (["KICK", *DEMOTE], "call 1, KICK, is one too many: without it DEMOTE succeeds as well."),
        (["BLOCK", "TRACK", "KICK", "TRACK", "DEMOTE"], "call 4, TRACK, is one too many"),
        (["TRACK", "KICK", *DEMOTE], "call 1, TRACK, is one too many"),
        ([*DEMOTE, "KICK"], "call 5, KICK, is one too many"),
        ([*DEMOTE, "DEMOTE"],
         "call 5, DEMOTE: TDX_EPT_ENTRY_STATE_INCORRECT; nothing that comes before it would help."),
        ([*DEMOTE, "BLOCK"], "call 5, BLOCK: no answer, a table is there; nothing that comes before it"),
        (["BLOCK", *DEMOTE], "call 2, BLOCK: TDX_GPA_RANGE_ALREADY_BLOCKED; nothing that"),
        (["BLOCK", "KICK", "TRACK", "DEMOTE"], "call 4, DEMOTE: TDX_TLB_TRACKING_NOT_DONE; "
         "another KICK would still have to come before it."),
        (["BLOCK", "TRACK", "TRACK", "KICK", "DEMOTE"],
         "call 3, TRACK: TDX_PREVIOUS_TLB_EPOCH_BUSY; KICK would still have to come before it."),
        (["DEMOTE"], "call 1, DEMOTE: TDX_GPA_RANGE_NOT_BLOCKED; "
         "BLOCK, TRACK and KICK would still have to come before it."),
        (["BLOCK", "TRACK", "DEMOTE"], "call 3, DEMOTE: TDX_TLB_TRACKING_NOT_DONE; "
         "KICK would still have to come before it."),
        ("BLOCK", "an order is a list of names, not 'BLOCK'."),
        ({*DEMOTE}, "an order is a list of names, not {"),
        (dict.fromkeys(DEMOTE), "an order is a list of names, not {"),
        (["BLOCK", "UNBLOCK"], "a call is BLOCK, DEMOTE, KICK or TRACK, not 'UNBLOCK'."),
        (["block"], "a call is BLOCK, DEMOTE, KICK or TRACK, not 'block'."),
        (DEMOTE * 5, "these are more than 16 calls; a few are enough."),
        (endless("BLOCK"), "these are more than 16 calls"),
        ([7], "not 7."),
    ],
)  # fmt: skip
def test_other_orders_are_told_what_is_wrong_with_them(calls: Any, words: str) -> None:
    verdict = check_demote_order(calls)
    assert verdict.right is False
    assert words in verdict.text
    assert answered_in_words(verdict)


def test_a_run_goes_on_after_a_call_that_failed() -> None:
    """So that the notebook can swap two and read on: what failed has changed nothing."""
    assert run_demote(["DEMOTE", *DEMOTE]) == [
        ("DEMOTE", "TDX_GPA_RANGE_NOT_BLOCKED"),
        ("BLOCK", OK),
        ("TRACK", OK),
        ("KICK", KICKED),
        ("DEMOTE", OK),
    ]


@pytest.mark.parametrize("junk", [None, 7, "BLOCK", {"BLOCK"}, ["UNBLOCK"], [Hostile()], DEMOTE * 5, ...])
def test_a_run_of_no_calls_raises_an_error_that_names_the_rule(junk: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"an order is|a call is|more than 16"):
        run_demote(junk)


def test_a_list_that_breaks_is_no_list() -> None:
    assert "an order is a list of names" in check_demote_order(breaking("BLOCK")).text


# ---- the guess -----------------------------------------------------------------------------------------


def test_the_frames_lost_are_those_of_both_leaves_outside_the_range() -> None:
    outside = [frame for frame in range(16) if not 5 <= frame < 13]
    assert len(outside) == 8
    assert check_lost(np.int64(8)).right is True


@pytest.mark.parametrize("guess", [0, 3, 5, 7, 9, 16, 32, True, 8.0, "8"])
def test_another_guess_is_told_the_number(guess: Any) -> None:
    verdict = check_lost(guess)
    assert verdict.right is False
    assert verdict.text == (
        f"you said {guess!r}; the guest loses 8 frames outside the range: 0 to 4 and 13 to 15."
    )


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], ""),
        ([3], "3"),
        ([3, 4], "3 to 4"),
        ([0, 2], "0 and 2"),
        ([0, 1, 3, 5, 6], "0 to 1, 3 and 5 to 6"),
    ],
)
def test_frames_side_by_side_are_written_together(frames: list[int], words: str) -> None:
    assert frame_list(frames) == words


# ---- what an ACCEPT comes to ---------------------------------------------------------------------------

STATUSES = ("TDX_SUCCESS", "TDX_PAGE_ALREADY_ACCEPTED", "TDX_PAGE_SIZE_MISMATCH", "TDX_OPERAND_INVALID")
ASKS_KVM = {"4K, nothing mapped", "4K, a 2M page PENDING", "2M, nothing mapped"}
"""Where the TDCALL ends in an exit (S169)."""


@pytest.mark.parametrize(
    "answers",
    [
        {question: list(pair) for question, pair in RIGHT_ACCEPTS.items()},
        {
            question: (split, status.removeprefix("TDX_").lower())
            for question, (split, status) in RIGHT_ACCEPTS.items()
        },
        {
            **RIGHT_ACCEPTS,
            "4K, nothing mapped": ("nothing", TDX_SUCCESS),
            "4K, a 2M page accepted": ("nothing", TDX_PAGE_ALREADY_ACCEPTED),
            "2M, a 4K page PENDING": ("nothing", TDX_PAGE_SIZE_MISMATCH),
        },
    ],
    ids=range(3),
)
def test_the_right_pairs_are_right_however_they_are_written(answers: Any) -> None:
    assert check_accept(answers).right is True


@pytest.mark.parametrize("question", ACCEPTS)
@pytest.mark.parametrize("split", SPLIT)
def test_a_wrong_split_is_told_what_kvm_did(question: str, split: str) -> None:
    right, status = RIGHT_ACCEPTS[question]
    verdict = check_accept({**RIGHT_ACCEPTS, question: (split, status)})
    if split == right:
        assert verdict.right is True
        return
    assert verdict.right is False
    said = "nothing is split" if split == "nothing" else f"a leaf of {split} is split"
    if right == "2M":
        did = "KVM splits a leaf of 2M, and without that the guest accepts for ever"
    else:
        did = (
            f"no leaf is, {'after 1 exit to KVM' if question in ASKS_KVM else 'and KVM is not asked at all'}"
        )
    assert verdict.text == f"{question}: you said that {said}; {did}."


@pytest.mark.parametrize("question", ACCEPTS)
@pytest.mark.parametrize("status", STATUSES)
def test_a_wrong_status_is_told_the_one_that_the_guest_gets(question: str, status: str) -> None:
    split, right = RIGHT_ACCEPTS[question]
    verdict = check_accept({**RIGHT_ACCEPTS, question: (split, status)})
    if status == right:
        assert verdict.right is True
        return
    asked = "after 1 exit to KVM" if question in ASKS_KVM else "and KVM is not asked at all"
    assert verdict.right is False
    assert verdict.text == f"{question}: you said {status}; the guest gets {right}, {asked}."


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        ("nothing", "a pair is wanted, (what is split, status), not 'nothing'."),
        (("nothing",), "a pair is wanted"),
        (("nothing", "TDX_SUCCESS", 1), "a pair is wanted"),
        ({"nothing": "TDX_SUCCESS", 1: 2}, "a pair is wanted"),
        (None, "a pair is wanted"),
        (("1G", "TDX_SUCCESS"), "what is split is nothing, 2M or 4K, not '1G'."),
        ((None, "TDX_SUCCESS"), "what is split is nothing, 2M or 4K, not None."),
        (("nothing", "fine"), "a status is a name such as \"TDX_SUCCESS\", not 'fine'."),
        (("nothing", None), "a status is a name such as"),
        (("nothing", False), "a status is a name such as"),
        (("nothing", 1), "a status is a name such as"),
    ],
)
def test_a_pair_that_is_none_is_refused_in_words(pair: Any, rule: str) -> None:
    verdict = check_accept({**RIGHT_ACCEPTS, "4K, nothing mapped": pair})
    assert verdict.right is False
    assert verdict.text.startswith("4K, nothing mapped: ")
    assert rule in verdict.text


# ---- which of them need a split ------------------------------------------------------------------------


def test_more_callers_do_no_harm() -> None:
    assert check_callers({**RIGHT_CALLERS, "release": "never"}).right is True


FOURTEEN = "without a split the guest also loses 14 frames outside, 0 to 6 and 9 to 15; with one, none."
NEEDLESS = "nothing else is lost without a split, which splits nothing."
FOR_EVER = (
    "the guest accepts frame 0 alone, and a leaf of 8 is PENDING there: without a split it accepts for ever; "
    "with one it gets the page."
)
NOT_LARGER, LARGER = (
    "no mapping is larger than its folio here, and ",
    "let a mapping be larger than its folio: ",
)
ALL_16 = "all 16 calls on a TD of 16 frames "
WRONG_REASONS = {
    ("conversion", "always"): f"frames [0, 8) become shared: {NEEDLESS}",
    ("conversion", "folio"): f"{NOT_LARGER}frames [7, 9) become shared: {FOURTEEN}",
    ("conversion", "never"): f"{NOT_LARGER}frames [7, 9) become shared: {FOURTEEN}",
    ("punch hole", "always"): f"a hole [0, 8) is punched: {NEEDLESS}",
    ("punch hole", "edge"): "on a TD of 16 frames 133 calls, those with an edge inside a folio, are refused; "
    "the other 3 lose nothing else without a split.",
    ("punch hole", "never"): f"{LARGER}a hole [7, 9) is punched: {FOURTEEN}",
    ("mismatched accept", "edge"): f"{ALL_16}need a split, at the edge of the leaf and inside it alike. "
    f"One of them: {FOR_EVER}",
    ("mismatched accept", "folio"): f"{NOT_LARGER}{FOR_EVER}",
    ("mismatched accept", "never"): f"{NOT_LARGER}{FOR_EVER}",
    ("memory failure", "always"): f"page 0 fails, of the folio [0, 8): {NEEDLESS}",
    ("memory failure", "edge"): f"{ALL_16}lose nothing else without a split. One of them: page 0 fails, "
    f"of the folio [0, 8): {NEEDLESS}",
    ("memory failure", "never"): f"{LARGER}page 0 fails, of the folio [0, 1): without a split the guest "
    "also loses 7 frames outside, 1 to 7; with one, none.",
}  # fmt: skip
"""14 frames: both leaves but the two in the middle; 133 of 136 ranges are no whole leaves."""


@pytest.mark.parametrize(("caller", "said"), WRONG_REASONS)
def test_a_wrong_reason_meets_the_call_that_refutes_it(caller: str, said: str) -> None:
    verdict = check_callers({**RIGHT_CALLERS, caller: said})
    assert verdict.right is False
    assert verdict.text == f"{caller}, “{said}”: {WRONG_REASONS[caller, said]}"
    assert answered_in_words(verdict)


def test_every_wrong_reason_is_among_them() -> None:
    assert {*WRONG_REASONS} | {*RIGHT_CALLERS.items()} == {
        (caller, said) for caller in CALLERS for said in REASONS
    }
