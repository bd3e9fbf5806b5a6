"""What an ACCEPT comes to is held against a guest that accepts; kernel-facts 8.10 is written out here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tdpkit.exercises.accepts import ACCEPTS, SPLIT, check_accept
from tdpkit.tdx.abi import TDX_PAGE_ALREADY_ACCEPTED, TDX_PAGE_SIZE_MISMATCH, TDX_SUCCESS
from tests.oracles.junk_values import EACH_JUNK, answered_in_words

ANSWERS: dict[str, tuple[str, Any]] = {
    "4K, nothing mapped": ("nothing", "TDX_SUCCESS"),
    "4K, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),
    "4K, a 2M page PENDING": ("2M", "TDX_SUCCESS"),
    "4K, a 2M page accepted": ("nothing", "TDX_PAGE_ALREADY_ACCEPTED"),
    "2M, nothing mapped": ("nothing", "TDX_SUCCESS"),
    "2M, a 2M page PENDING": ("nothing", "TDX_SUCCESS"),
    "2M, a 4K page PENDING": ("nothing", "TDX_PAGE_SIZE_MISMATCH"),
    "1G, nothing mapped": ("nothing", "TDX_OPERAND_INVALID"),
}
"""Kernel-facts 8.10 and 8.14."""
STATUSES = ("TDX_SUCCESS", "TDX_PAGE_ALREADY_ACCEPTED", "TDX_PAGE_SIZE_MISMATCH", "TDX_OPERAND_INVALID")
ASKS_KVM = {"4K, nothing mapped", "4K, a 2M page PENDING", "2M, nothing mapped"}
"""Where the TDCALL ends in an exit (kernel-facts 8.10)."""


@pytest.mark.parametrize(
    "answers",
    [
        ANSWERS,
        {question: list(pair) for question, pair in ANSWERS.items()},
        {
            question: (split, status.removeprefix("TDX_").lower())
            for question, (split, status) in ANSWERS.items()
        },
        {
            **ANSWERS,
            "4K, nothing mapped": ("nothing", TDX_SUCCESS),
            "4K, a 2M page accepted": ("nothing", TDX_PAGE_ALREADY_ACCEPTED),
            "2M, a 4K page PENDING": ("nothing", TDX_PAGE_SIZE_MISMATCH),
        },
    ],
    ids=range(4),
)
def test_the_right_answers_are_right_however_they_are_written(answers: Any) -> None:
    verdict = check_accept(answers)
    assert verdict.right is True, verdict
    assert verdict.text.startswith("8 times. ")


@pytest.mark.parametrize("question", ACCEPTS)
@pytest.mark.parametrize("split", SPLIT)
def test_a_wrong_split_is_told_what_kvm_did(question: str, split: str) -> None:
    right, status = ANSWERS[question]
    verdict = check_accept({**ANSWERS, question: (split, status)})
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
    split, right = ANSWERS[question]
    verdict = check_accept({**ANSWERS, question: (split, status)})
    if status == right:
        assert verdict.right is True
        return
    asked = "after 1 exit to KVM" if question in ASKS_KVM else "and KVM is not asked at all"
    assert verdict.right is False
    assert verdict.text == f"{question}: you said {status}; the guest gets {right}, {asked}."


def test_nothing_submitted_is_not_wrong_and_the_first_open_question_is_asked() -> None:
    last = "1G, nothing mapped"
    waiting = [
        *map(check_accept, (..., {}, dict.fromkeys(ACCEPTS, ...), dict.fromkeys(ACCEPTS, (..., ...)))),
        check_accept({**ANSWERS, last: ...}),
        check_accept({**ANSWERS, last: ("nothing", ...)}),
    ]
    assert {verdict.right for verdict in waiting} == {None}
    assert [verdict.text.split(":")[0] for verdict in waiting] == ["ACCEPT of 4K, nothing mapped"] * 4 + [
        f"ACCEPT of {last}"
    ] * 2


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        ("nothing", "a pair is wanted, (what is split, status); 'nothing' is none."),
        (("nothing",), "a pair is wanted"),
        (("nothing", "TDX_SUCCESS", 1), "a pair is wanted"),
        ({"nothing": "TDX_SUCCESS", 1: 2}, "a pair is wanted"),
        (None, "a pair is wanted"),
        (("1G", "TDX_SUCCESS"), "what is split is one of nothing, 2M, 4K; '1G' is none."),
        ((None, "TDX_SUCCESS"), "what is split is one of nothing, 2M, 4K; None is none."),
        (("nothing", "fine"), "a status is a name such as \"TDX_SUCCESS\"; 'fine' is none."),
        (("nothing", None), "a status is a name such as"),
        (("nothing", False), "a status is a name such as"),
        (("nothing", 1), "a status is a name such as"),
    ],
)
def test_a_pair_that_is_none_is_refused_in_words(pair: Any, rule: str) -> None:
    verdict = check_accept({**ANSWERS, "4K, nothing mapped": pair})
    assert verdict.right is False
    assert verdict.text.startswith("4K, nothing mapped: ")
    assert rule in verdict.text


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    assert answered_in_words(
        [
            check_accept(make()),
            check_accept({**ANSWERS, "1G, nothing mapped": make()}),
            check_accept({**ANSWERS, "1G, nothing mapped": (make(), "TDX_SUCCESS")}),
            check_accept({**ANSWERS, "1G, nothing mapped": ("nothing", make())}),
        ]
    )
