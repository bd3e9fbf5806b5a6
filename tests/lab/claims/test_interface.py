"""Claims on the interface: verdicts of S101, S123, S131 and S233, numbers by hand."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import pytest

from tdpkit.engine import splits
from tdpkit.engine.events import Coroutine
from tdpkit.lab.claims.claim import FAILS, HOLDS
from tdpkit.lab.claims.interface import CLAIMS
from tests.oracles.claims import experiment, holds_against
from tests.oracles.planted import blind_predicate, blocks_rounded_up, strict_predicate

FACTS = {
    8: (HOLDS, "0 flags", "exact in all 64 980 cases"),
    9: (HOLDS, "the same in 405 of 405 pairs", "it makes 1 event"),
    21: (HOLDS, "in 900 of 900 cases", "in 400 of 400"),
    22: (HOLDS, "in 400 of 400 cases", "in 400. ", "1 table at the edges, 1 to 2M, 2 to 4K"),
}
"""Calls: 15 ranges with edges at multiples of three up to 16, three filters, three numbers of pages, three
pairs. Cases: 25 trees without holes, 36 ranges each; eight frames and two levels each.
"""

found = partial(experiment, CLAIMS)
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


def test_every_experiment_has_its_facts() -> None:
    assert {claim.number for claim in CLAIMS if claim.experiment} == {*FACTS}


def test_the_predicate_is_true_of_every_leaf_beside_the_range() -> None:
    """S101. Leaves as (first, end): two of four frames, three pages, two of 16."""
    leaves = [(0, 4), (4, 8), (8, 9), (9, 10), (11, 12), (16, 32), (32, 48)]
    asked = [(leaf, span) for span in combinations(range(0, 65, 3), 2) for leaf in leaves]
    beside = sum(first >= e or end <= s for (first, end), (s, e) in asked)
    crossing = sum(first < x < end for (first, end), span in asked for x in span)
    both = sum(first < s and e < end for (first, end), (s, e) in asked)
    assert f"in {beside} of them the leaf lies beside" in found(8).shown
    assert f"of {beside + crossing - both:,} leaves".replace(",", " ") in found(8).shown


def flag_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """M1's helper forgets cross_boundary_only."""
    real = splits.split_by_filter

    def forgetful(*given: Any, **named: Any) -> Coroutine[int]:
        return real(*given, **named | {"only_cross_boundary": False})

    monkeypatch.setattr(splits, "split_by_filter", forgetful)


PLANTED: list[tuple[int, Plant]] = [
    (8, blocks_rounded_up),
    (9, flag_lost),
    (21, blind_predicate),
    (22, strict_predicate),
]


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(("number", "plant"), PLANTED)
def test_another_engine_gives_another_verdict(
    number: int, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    finding = found(number)
    assert finding.verdict == FAILS
    assert FACTS[number][1:] != tuple(said for said in FACTS[number][1:] if said in finding.shown)


def test_every_experiment_can_come_to_another_verdict() -> None:
    assert {number for number, *_ in PLANTED} == {*FACTS}
