"""A small ledger: claims that say nothing of the review, with verdicts of every kind that are set by hand."""

from __future__ import annotations

from tdpkit.lab.claims.claim import (
    FAILS,
    HOLDS,
    HOLDS_IF,
    UNDECIDED,
    WITHDRAWN,
    Claim,
    Finding,
    Lesson,
    Settled,
)

_LONG = "It goes on for a while, so that it takes some lines of the card, as a real one does. " * 3


def _decided(
    number: int,
    mails: str,
    lesson: Lesson,
    verdict: str,
    shown: str,
    condition: str = "",
    withdrawn: str = "",
) -> Settled:
    finding = Finding(FAILS if withdrawn else verdict, shown, condition)
    says, ended = f"This is claim {number}. {_LONG}", f"Claim {number} ended well."
    who, title = tuple(mails.split()), f"Claim-{number} in short"
    claim = Claim(number, who, title, says, ended, lesson, lambda: finding, withdrawn=withdrawn)
    return Settled(claim, verdict, finding)


def _undecided(number: int, mails: str, lesson: Lesson, reason: str) -> Settled:
    says, ended = f"This is claim {number}.", f"Claim {number} was left open."
    who, title = tuple(mails.split()), f"Claim-{number} in short"
    return Settled(Claim(number, who, title, says, ended, lesson, reason=reason), UNDECIDED, None)


SMALL = (
    _decided(1, "M0", Lesson("00", "Predict"), HOLDS, "8 of 8 flush late."),
    _decided(2, "M0", Lesson("03", "One edge"), HOLDS_IF, "4 of 8 do.", "the other 4 are not asked"),
    _decided(7, "M2 M7", Lesson("03", "The race"), HOLDS, f"12 against 4096. {_LONG}"),
    _undecided(9, "M1", Lesson("02", "The test"), "It is a matter of taste."),
    _decided(13, "M2", Lesson("05", "Four callers"), WITHDRAWN, "1 of 4 calls.", withdrawn="M4"),
    _decided(18, "M7", Lesson("03", "The race"), FAILS, "4096 against 12."),
    _undecided(42, "M14", Lesson("08", "Ahead"), "It lies ahead."),
    _decided(43, "M14", Lesson("06", "Rules"), HOLDS, "All of 70 flush."),
)
"""In the order of time: C1 and C2 of M0, C9 of M1, C7 and C13 of M2, C18 of M7, C42 and C43 of M14.

No word of it has an x, as the texts that no field of an exhibit takes have (tests/show/test_exhibit.py).
"""
