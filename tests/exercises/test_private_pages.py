"""An order of calls is judged by the statuses that it gets; the rules stand here again, without a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from tdpkit.exercises.private_pages import (
    CALLS,
    KICKED,
    NO_ANSWER,
    check_demote_order,
    check_lost,
    frame_list,
    run_demote,
)
from tests.oracles.junk import Hostile, breaking, endless
from tests.oracles.junk_values import EACH_JUNK, answered_in_words

RIGHT = ["BLOCK", "TRACK", "KICK", "DEMOTE"]
OK = "TDX_SUCCESS"


# ---- the rules, by a model of one leaf and one vCPU ----------------------------------------------------


def statuses(calls: Sequence[str]) -> list[str]:
    """Kernel-facts 8.6, 8.7: epochs are counted from 1, and the vCPU is inside from the beginning."""
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
    """Kernel-facts 8.7; by the rules no shorter one is good, and a longer one has a call to spare."""
    assert [calls for calls in orders(4) if good(calls)] == [tuple(RIGHT)]
    longer = [calls for calls in orders(7) if good(calls) and len(calls) > 4]
    assert len(longer) > 20
    assert {check_demote_order(calls).right for calls in longer} == {False}
    assert all("is one too many" in check_demote_order(calls).text for calls in longer)


def test_the_order_may_be_a_list_a_tuple_or_an_array() -> None:
    assert all(check_demote_order(said).right for said in (RIGHT, tuple(RIGHT), iter(RIGHT), np.array(RIGHT)))


# ---- wrong orders --------------------------------------------------------------------------------------


def said_of(verdict_text: str) -> tuple[int, str, str]:
    """Number of the call, its name and its status, as the verdict has them."""
    head, rest = verdict_text.removeprefix("call ").split(": ", 1)
    number, name = head.split(", ")
    return int(number), name, rest.split(";")[0]


@pytest.mark.parametrize("calls", [calls for calls in permutations(CALLS) if calls != tuple(RIGHT)])
def test_swapped_calls_are_told_the_first_status_that_is_no_success(calls: tuple[str, ...]) -> None:
    verdict = check_demote_order(list(calls))
    found = statuses(calls)
    at = next(at for at, status in enumerate(found) if status not in (OK, KICKED))
    assert verdict.right is False
    assert said_of(verdict.text) == (at + 1, calls[at], found[at])


@pytest.mark.parametrize("calls", [calls for calls in permutations(CALLS) if calls != tuple(RIGHT)])
def test_what_is_said_to_be_missing_would_help_and_nothing_less(calls: tuple[str, ...]) -> None:
    text = check_demote_order(calls).text
    number, name, _ = said_of(text)
    words = text.split("; ")[1].removesuffix(" would still have to come before it.")
    missing = words.replace(" and ", ", ").split(", ")

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
        ([], "after no call the leaf is a huge leaf still: nothing was demoted."),
        (["BLOCK", "TRACK", "KICK"], "after BLOCK, TRACK, KICK the leaf is a huge leaf still"),
        (["KICK", *RIGHT], "call 1, KICK, is one too many: without it DEMOTE succeeds as well."),
        (["BLOCK", "TRACK", "KICK", "TRACK", "DEMOTE"], "call 4, TRACK, is one too many"),
        (["TRACK", "KICK", *RIGHT], "call 1, TRACK, is one too many"),
        ([*RIGHT, "KICK"], "call 5, KICK, is one too many"),
        ([*RIGHT, "DEMOTE"],
         "call 5, DEMOTE: TDX_EPT_ENTRY_STATE_INCORRECT; nothing that comes before it would help."),
        ([*RIGHT, "BLOCK"], "call 5, BLOCK: no answer, a table is there; nothing that comes before it"),
        (["BLOCK", *RIGHT], "call 2, BLOCK: TDX_GPA_RANGE_ALREADY_BLOCKED; nothing that"),
        (["BLOCK", "TRACK", "TRACK", "KICK", "DEMOTE"],
         "call 3, TRACK: TDX_PREVIOUS_TLB_EPOCH_BUSY; KICK would still have to come before it."),
        (["DEMOTE"], "call 1, DEMOTE: TDX_GPA_RANGE_NOT_BLOCKED; "
         "BLOCK, TRACK and KICK would still have to come before it."),
        (["BLOCK", "TRACK", "DEMOTE"], "call 3, DEMOTE: TDX_TLB_TRACKING_NOT_DONE; "
         "KICK would still have to come before it."),
        ("BLOCK", "an order is a list of names; 'BLOCK' is none."),
        ({*RIGHT}, "an order is a list of names; {"),
        (dict.fromkeys(RIGHT), "an order is a list of names; {"),
        (["BLOCK", "UNBLOCK"], "a call is one of BLOCK, DEMOTE, KICK, TRACK; 'UNBLOCK' is none."),
        (["block"], "a call is one of BLOCK, DEMOTE, KICK, TRACK; 'block' is none."),
        (RIGHT * 5, "these are more than 16 calls; a few are enough."),
        (endless("BLOCK"), "these are more than 16 calls"),
        ([7], "7 is none."),
    ],
)  # fmt: skip
def test_other_orders_are_told_what_is_wrong_with_them(calls: Any, words: str) -> None:
    verdict = check_demote_order(calls)
    assert verdict.right is False
    assert words in verdict.text
    assert answered_in_words([verdict])


def test_a_run_goes_on_after_a_call_that_failed() -> None:
    """So that the notebook can swap two and read on: what failed has changed nothing."""
    assert run_demote(["DEMOTE", *RIGHT]) == [
        ("DEMOTE", "TDX_GPA_RANGE_NOT_BLOCKED"),
        ("BLOCK", OK),
        ("TRACK", OK),
        ("KICK", KICKED),
        ("DEMOTE", OK),
    ]


@pytest.mark.parametrize("junk", [None, 7, "BLOCK", {"BLOCK"}, ["UNBLOCK"], [Hostile()], RIGHT * 5, ...])
def test_a_run_of_no_calls_raises_an_error_that_names_the_rule(junk: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"an order is|a call is|more than 16"):
        run_demote(junk)


def test_nothing_submitted_is_not_wrong() -> None:
    waiting = [*map(check_demote_order, (..., [...], ["BLOCK", "TRACK", ..., ...])), check_lost(...)]
    assert {verdict.right for verdict in waiting} == {None}


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    assert answered_in_words(
        [
            check_demote_order(make()),
            check_demote_order(["BLOCK", make()]),
            check_demote_order([*RIGHT[:3], make()]),
            check_lost(make()),
        ]
    )


def test_a_list_that_breaks_is_no_list() -> None:
    assert "an order is a list of names" in check_demote_order(breaking("BLOCK")).text


# ---- the guess -----------------------------------------------------------------------------------------


def test_the_frames_lost_are_those_of_both_leaves_outside_the_range() -> None:
    outside = [frame for frame in range(16) if not 5 <= frame < 13]
    assert len(outside) == 8
    verdict = check_lost(8)
    assert verdict.right is True
    assert verdict.text.startswith("the guest loses 8 frames outside the range: 0 to 4 and 13 to 15. ")
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
