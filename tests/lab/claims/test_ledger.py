"""The ledger: 45 claims, each with an experiment or a reason, its mails, and a lesson that is there."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tdpkit.lab.claims import ledger
from tdpkit.lab.claims.claim import (
    FAILS,
    HOLDS,
    HOLDS_IF,
    MAILS,
    UNDECIDED,
    VERDICTS,
    WITHDRAWN,
    Claim,
    Finding,
    Lesson,
    settle,
)
from tdpkit.lab.claims.ledger import CLAIMS, settle_all
from tdpkit.lab.schedules import scenarios
from tdpkit.lab.schedules.bodies import one_topup

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"

FIRST_MAIL = {
    "M0": [1, 2, 3, 4, 5, 6],
    "M1": [9, 10, 11, 12],
    "M2": [7, 8, 13, 14, 15],
    "M3": [16],
    "M5": [17],
    "M7": [18, 19, 20, 21, 22, 23, 25, 26, 27],
    "M8": [24, 28, 31, 32],
    "M9": [29, 30, 33, 34, 35],
    "M10": [36],
    "M11": [37],
    "M12": [38],
    "M13": [39],
    "M14": [40],
    "M15": [41, 42],
    "M16": [43, 44, 45],
}
BY_VERDICT = {
    HOLDS: [1, 2, 3, 4, 5, 6, 8, 9, 10, 14, 15, 19, 21, 22, 23, 27, 28, 30, 31, 32, 33, 36, 38, 39, 43],
    HOLDS_IF: [7, 16, 17, 18, 20, 24, 29, 34, 40],
    FAILS: [26],
    WITHDRAWN: [13],
    UNDECIDED: [11, 12, 25, 35, 37, 41, 42, 44, 45],
}
"""S120 to S143, claim by claim. Withdrawn: M4 takes back what M2 says of PUNCH_HOLE."""


def test_there_are_45_claims_in_order() -> None:
    assert [*CLAIMS] == [f"C{number}" for number in range(1, 46)]
    assert [claim.name for claim in CLAIMS.values()] == [*CLAIMS]


def test_each_is_made_by_the_mail_that_makes_it_first() -> None:
    assert {claim.number: claim.mails[0] for claim in CLAIMS.values()} == {
        number: mail for mail, numbers in FIRST_MAIL.items() for number in numbers
    }
    when = {mail: place for place, mail in enumerate(MAILS)}
    for claim in CLAIMS.values():
        assert [*claim.mails] == sorted({*claim.mails}, key=when.__getitem__), claim.name


def test_each_has_an_experiment_or_a_reason_why_none_decides_it() -> None:
    for claim in CLAIMS.values():
        assert bool(claim.experiment) != bool(claim.reason), claim.name
    assert [claim.number for claim in CLAIMS.values() if claim.reason] == BY_VERDICT[UNDECIDED]
    assert {claim.number: claim.withdrawn for claim in CLAIMS.values() if claim.withdrawn} == {13: "M4"}


def test_every_experiment_says_what_it_does_and_where_its_facts_come_from() -> None:
    for claim in CLAIMS.values():
        if claim.experiment:
            assert re.search(r"\b[SMKR]\d+\b", claim.experiment.__doc__ or ""), claim.name


def headings(number: str) -> set[str]:
    [path] = NOTEBOOKS.glob(f"{number}-*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    pages = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {found for page in pages for found in re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)}


@pytest.mark.parametrize("number", sorted({claim.lesson.notebook for claim in CLAIMS.values()}))
def test_every_lesson_leads_to_a_heading(number: str) -> None:
    if number == "08" and not [*NOTEBOOKS.glob("08-*")]:
        pytest.skip("notebook 08 is not there yet")
    sections = {claim.lesson.section for claim in CLAIMS.values() if claim.lesson.notebook == number}
    assert sections - headings(number) == set()


def test_each_is_told_in_a_few_sentences_and_its_first_fits_a_row() -> None:
    for claim in CLAIMS.values():
        assert len(claim.in_short) < 80, claim.name
        for text in (claim.says, claim.ended, claim.reason or "."):
            assert text.endswith((".", "?", "”")), (claim.name, text)


def test_nobody_is_given_a_pronoun() -> None:
    for claim in CLAIMS.values():
        told = f"{claim.says} {claim.ended} {claim.reason}"
        assert re.findall(r"\b(?:he|she|his|her|hers|him|himself|herself)\b", told, re.IGNORECASE) == []


# ---- settling ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_claim_comes_to_the_verdict_of_the_facts() -> None:
    settled = settle_all()
    assert {one.claim.number: one.verdict for one in settled} == {
        number: verdict for verdict, numbers in BY_VERDICT.items() for number in numbers
    }
    assert settled.totals == {verdict: len(BY_VERDICT[verdict]) for verdict in VERDICTS}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Three claims in place of all; counts how often each experiment runs."""
    ran: Counter[str] = Counter()

    def experiment(name: str, finding: Finding) -> Finding:
        ran[name] += 1
        return finding

    lesson = Lesson("00", "Summary")
    found = {1: Finding(HOLDS_IF, "It does.", "it is so"), 2: Finding(FAILS, "It does not.")}
    claims = [
        Claim(
            n,
            ("M0",),
            "The first",
            "One. Two.",
            "Open.",
            lesson,
            lambda n=n: experiment(f"C{n}", found[n]),  # type: ignore[misc]
        )
        for n in found
    ]
    claims.append(Claim(3, ("M16",), "The third", "Three.", "Open.", lesson, reason="Taste."))
    monkeypatch.setattr(ledger, "CLAIMS", {claim.name: claim for claim in claims})
    ledger.settled.cache_clear()
    yield ran
    ledger.settled.cache_clear()


def test_a_ledger_is_a_table_with_its_totals_last(small: Counter[str]) -> None:
    assert repr(settle_all()).splitlines() == [
        "claim  mail  date        verdict                     in short",
        "-----  ----  ----------  --------------------------  --------",
        "C1     M0    2026-01-06  holds if …                  One",
        "C2     M0    2026-01-06  does not hold in the model  One",
        "C3     M16   2026-01-29  not decidable here          Three",
        "3 claims: holds if … 1, does not hold in the model 1, not decidable here 1",
    ]


def test_an_experiment_runs_once_and_each_claim_is_told_before_it(small: Counter[str]) -> None:
    told: list[tuple[str, int]] = []
    first = settle_all(told=lambda claim: told.append((claim.name, small.total())))
    assert told == [("C1", 0), ("C2", 1), ("C3", 2)]
    assert settle_all() == first
    assert small == {"C1": 1, "C2": 1}


def test_a_claim_settled_afresh_meets_the_engine_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """C32 rests on designs that the lab keeps (`cache_designs`): without the mutex it falls."""
    claim = ledger.CLAIMS["C32"]
    assert settle(claim).verdict == HOLDS
    monkeypatch.setattr(scenarios, "under_mutex", one_topup)
    assert settle(claim).verdict == HOLDS, "as kept"
    assert ledger.settle_afresh(claim).verdict == FAILS
    monkeypatch.undo()
    assert settle(claim).verdict == HOLDS, "nothing of the change was kept"
