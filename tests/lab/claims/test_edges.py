"""Claims on edges: verdicts and numbers of S120, S121, S126, S136 to S139, S142 and S236, others by hand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tdpkit.engine import splits, tdp_mmu
from tdpkit.engine.events import Coroutine
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.lab.claims.claim import FAILS, HOLDS
from tdpkit.lab.claims.edges import CLAIMS
from tests.oracles.claims import experiment, holds_against
from tests.oracles.planted import blind_predicate, blocks_rounded_up, strict_predicate

FACTS = {
    1: (HOLDS, "511", "262 143", "after a split it takes 0", "outside the range, 0 after a split", "loses 0"),
    2: (HOLDS, "exact in all 64 980 cases", "returns -12", "keeps 0, 1, 2 and 3 splits", "0 of the retries"),
    14: (HOLDS, "24 ACCEPTs", "the same in 24", "40 DEMOTEs"),
    15: (HOLDS, "exact in all 64 980 cases", "for 528 of 528 ranges", "with 2 splits at most"),
    36: (
        HOLDS,
        "900 calls",
        "0 of them have no edge inside",
        "proved",
        "[1G, 2G) splits 0",
        "the leaf at 1G",
    ),
    38: (HOLDS, "2G in 0 of 4", "2G+2M in 1 of 4", "2G+4K in 2 of 4", "1 to 3 visits and 0 splits"),
    39: (HOLDS, "exact in all 64 980 cases", "proved", "makes 10 visits", "them 15", "for 2 and 2 splits"),
}
"""Ranges: 33 * 32 / 2 of 32 frames; 36 of eight frames, in each of 25 trees without holes. ACCEPTs: four of a
leaf of four frames, 16 and four of one of 16; DEMOTEs: 4 + 16 * 2 + 4. Pages: [6, 27) in leaves of 16 splits
one of 16 and one of four at each edge. Repeated blocks: two visits more for the 1G block, three for that of
2M, under a 4-level root.
"""

found = partial(experiment, CLAIMS)
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.slow
@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


def test_every_experiment_has_its_facts() -> None:
    assert {claim.number for claim in CLAIMS if claim.experiment} == {*FACTS}


def huge_leaves_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zap takes leaves of 4K only."""
    monkeypatch.setattr(tdp_mmu, "is_last_spte", lambda spte, level: level == 1)


def no_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that got no page says that all is well."""

    def silent(it: TdpIter) -> Coroutine[int]:
        yield from ()
        return 0

    monkeypatch.setattr(tdp_mmu, "_no_memory", silent)


def end_is_the_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and tail round the frame before an edge."""
    real = splits.align_down
    monkeypatch.setattr(splits, "align_down", lambda x, n: real(max(x - 1, 0), n))


def down_to_4k(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk goes down to 4K, wherever it was told to stop."""
    real = TdpIter.__init__

    def deeper(self: TdpIter, root: Any, min_level: int, goal: int) -> None:
        real(self, root, 1, goal)

    monkeypatch.setattr(TdpIter, "__init__", deeper)


PLANTED: list[tuple[int, Plant, str]] = [
    (1, huge_leaves_stay, "0 of the zaps lose"),
    (1, blind_predicate, "after a split"),
    (2, strict_predicate, "safe but not minimal"),
    (2, no_errno, "returns 0"),
    (14, strict_predicate, "the tree is the same in"),
    (15, blocks_rounded_up, "wrong"),
    (15, end_is_the_last_frame, "exact in all 64 980 cases"),
    (36, strict_predicate, "have no edge inside"),
    (38, down_to_4k, "visits and 512 splits"),
    (39, blocks_rounded_up, "wrong"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(("number", "plant", "said"), PLANTED)
def test_another_engine_gives_another_verdict(
    number: int, plant: Plant, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    finding = found(number)
    holds_against(finding, FAILS, said)
    assert {*FACTS[number]} - {one for one in FACTS[number] if one in finding.shown} > {HOLDS}


def test_every_experiment_can_come_to_another_verdict() -> None:
    assert {number for number, *_ in PLANTED} == {*FACTS}
