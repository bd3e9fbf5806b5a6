"""Claims on visits: verdicts and numbers of S122, S129, S133, S139 and S230 to S233."""

from collections.abc import Callable
from functools import partial

import pytest

from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF
from tdpkit.lab.claims.cost import CLAIMS
from tests.oracles.claims import experiment, holds_against
from tests.oracles.planted import plan_of, strict_predicate

FACTS = {
    7: (HOLDS_IF, "24 visits (nothing)", "12 312 visits (1G", "6 303 768 visits (2M", "6 303 768 visits (4K",
        "525 314 times", "20 to 21 ms", "6 304 283 visits"),
    18: (HOLDS_IF, "25 visits", "6 303 777", "up to 1G costs more than 522"),
    19: (HOLDS, "exact in all 64 980 cases", "523 visits", "6 303 777", "1 038", "make 522, one call 8"),
    40: (HOLDS_IF, "8 visits against 10", "12 visits against 16", "15 visits against 20", "the same numbers",
         "522 against 16", "513 tables"),
}  # fmt: skip
"""6 303 777 visits over the 12 of one block per edge are 525 314. Entries of the root from 2T to 14T+4K: 25.
1 GiB from 2T+4K: one entry of level 4, two of 3, 513 of 2, and two ways of three down to a split leaf.
"""
CONDITIONS = {
    7: "mapped by 2M leaves or 4K leaves",
    18: "nothing is mapped yet",
    40: "no longer than some 8M",
}

found = partial(experiment, CLAIMS)
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    finding = found(number)
    holds_against(finding, *FACTS[number])
    assert CONDITIONS.get(number, "") in finding.condition


def test_every_experiment_has_its_facts() -> None:
    assert {claim.number for claim in CLAIMS if claim.experiment} == {*FACTS}


PLANTED: list[tuple[int, Plant, str]] = [
    (7, plan_of("walk_v3", "one_block_per_edge"), FAILS),  # the patch does the arithmetic itself
    (7, plan_of("one_block_per_edge", "walk_v3"), FAILS),
    (18, plan_of("walk_v3", "two_calls"), HOLDS),
    (18, plan_of("walk_v3", "plain_split"), FAILS),
    (19, strict_predicate, FAILS),
    (19, plan_of("two_calls", "walk_v3"), FAILS),
    (40, plan_of("walk_v3", "one_block_per_edge"), HOLDS),
    (40, plan_of("walk_v3", "two_calls"), FAILS),
]


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(("number", "plant", "verdict"), PLANTED)
def test_another_engine_gives_another_verdict(
    number: int, plant: Plant, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    finding = found(number)
    assert finding.verdict == verdict
    assert not finding.condition


def test_every_experiment_can_come_to_another_verdict() -> None:
    assert {number for number, *_ in PLANTED} == {*FACTS}
