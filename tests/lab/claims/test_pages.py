"""Claims on pages: verdicts and numbers of S80, S82, S132 and S133."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tdpkit.engine import page_fault, tdp_mmu
from tdpkit.engine.events import Coroutine, Lock, Unlock
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF
from tdpkit.lab.claims.pages import CLAIMS
from tests.oracles.claims import experiment, holds_against
from tests.oracles.planted import page_more

FACTS = {
    26: (FAILS, "0 took more", "for 187 of 187 ranges", "it is 8 208", "takes 8 208", "2M leaves 8 192",
         "4K leaves 0"),
    27: (HOLDS, "drop mmu_lock 0 times", "use 2 and 4 at most", "proved",
         "2 tables, 2 S-EPT pages and 8 PAMT pages"),
    28: (HOLDS, "8 208 pages", "dropped 8 208 times", "need 2.", "splits 2 leaves drops the lock 0 times"),
    29: (HOLDS_IF, "8 208 tables from leaves of 1G (32.06 MiB)", "8 192 from leaves of 2M", "M9 has 8 192"),
}  # fmt: skip
"""Ranges that begin at a multiple of three below 33: 32 + 29 + … + 2. A page fault with a 4K goal takes a 1G
leaf down two levels.
"""

found = partial(experiment, CLAIMS)
Plant = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.slow
@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    finding = found(number)
    holds_against(finding, *FACTS[number])
    assert (finding.verdict == HOLDS_IF) == ("mapped by 2M leaves already" in finding.condition)


def test_every_experiment_has_its_facts() -> None:
    assert {claim.number for claim in CLAIMS if claim.experiment} == {*FACTS}


def nothing_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop allocates its pages whatever it was given."""
    real = tdp_mmu._split_huge_pages_root
    monkeypatch.setattr(tdp_mmu, "_split_huge_pages_root", lambda *given: real(*given[:-1], []))


def drop_in_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page fault drops the lock before it splits."""
    real = page_fault.tdp_mmu_split_huge_page

    def dropping(*given: Any, **named: Any) -> Coroutine[int]:
        yield Unlock(True, "alloc")
        yield Lock(True)
        return (yield from real(*given, **named))

    monkeypatch.setattr(page_fault, "tdp_mmu_split_huge_page", dropping)


PLANTED: list[tuple[int, Plant, str]] = [
    (26, page_more, HOLDS),
    (27, nothing_in_hand, FAILS),
    (28, drop_in_a_fault, FAILS),
    (29, page_more, FAILS),
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
    assert FACTS[number][1:] != tuple(said for said in FACTS[number][1:] if said in finding.shown)


def test_every_experiment_can_come_to_another_verdict() -> None:
    assert {number for number, *_ in PLANTED} == {*FACTS}
