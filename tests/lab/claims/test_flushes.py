"""Claims on flushes: verdicts by the commit log's own rules (S106, S210 to S215), numbers by hand."""

from functools import partial
from typing import Any

import pytest

from tdpkit.engine import tdp_mmu
from tdpkit.engine.events import Coroutine, Lock, Unlock
from tdpkit.engine.spte import VMX_EPT_WRITABLE_MASK
from tdpkit.lab.claims.claim import FAILS, HOLDS
from tdpkit.lab.claims.flushes import CLAIMS
from tdpkit.lab.schedules import scenarios
from tdpkit.lab.schedules.bodies import passed_on
from tdpkit.tdx.module import TdxModule
from tests.oracles.claims import experiment, holds_against

FACTS = {
    3: (HOLDS, "35 drops", "0 flushes", "0 of 2 304 translations", "break nothing", "a write is lost"),
    4: (HOLDS, "false after 16 steps", "it is never false", "without it false after 8 steps", "a TLB stale"),
    5: (HOLDS, "leaves no translation", "comes after BLOCK, TRACK", "neither: a TLB is stale"),
    6: (HOLDS, "leaves no TLB stale", "own split is not enough", "loses a write", "schedules lose none"),
}
"""Drops: 3 leaves of eight; 2 of four and 2 of sixteen, each with four below; 4 of sixteen. A translation for
each frame (32, 64, 64) at each drop and at the end. Steps: B sees the leaf and drops the lock in three, A
splits in eight, B looks again and returns in five; without a drop B locks, A swaps in three more, B reads
late, down to the edge, unlocks and returns in four.
"""


found = partial(experiment, CLAIMS)


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


@pytest.mark.usefixtures("afresh")
def test_a_split_that_takes_a_right_away_needs_a_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tdp_mmu.make_small_spte

    def read_only(*given: Any, **named: Any) -> int:
        return real(*given, **named) & ~VMX_EPT_WRITABLE_MASK

    monkeypatch.setattr(tdp_mmu, "make_small_spte", read_only)
    finding = found(3)
    assert finding.verdict == FAILS
    assert " 0 of 2 304" not in finding.shown


@pytest.mark.usefixtures("afresh")
def test_callers_that_do_not_flush_are_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    never = scenarios.POLICIES["always"]._replace(at_end=scenarios.POLICIES["none"].at_end)
    monkeypatch.setitem(scenarios.POLICIES, "always", never)
    finding = found(3)
    assert finding.verdict == FAILS
    assert "break something" in finding.shown


@pytest.mark.usefixtures("afresh")
def test_a_loop_that_keeps_the_lock_could_report(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tdp_mmu._split_huge_pages_root

    def keeping(*given: Any) -> Coroutine[int]:
        dropped = False

        def each(event: Any) -> Coroutine[Any]:
            nonlocal dropped
            if isinstance(event, Unlock) or (isinstance(event, Lock) and dropped):
                dropped = isinstance(event, Unlock)
                return None
            return (yield event)

        return passed_on(real(*given), each)

    monkeypatch.setattr(tdp_mmu, "_split_huge_pages_root", keeping)
    finding = found(4)
    assert finding.verdict == FAILS
    assert "with the drop “nothing split” is never false" in finding.shown


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(
    ("touched", "untracked", "verdict"), [(True, False, HOLDS), (False, True, HOLDS), (True, True, FAILS)]
)
def test_either_reason_is_enough_for_the_fault_path(
    monkeypatch: pytest.MonkeyPatch, touched: bool, untracked: bool, verdict: str
) -> None:
    """A module whose TLBs take PENDING leaves, and one that demotes a leaf blocked, not tracked."""
    real = TdxModule.access

    def caching(module: TdxModule, vcpu: int, gfn: int) -> Any:
        got = real(module, vcpu, gfn)
        module.tlb.setdefault(vcpu, set()).add((0, 2, 0))
        return got

    if touched:
        monkeypatch.setattr(TdxModule, "access", caching)
    if untracked:
        monkeypatch.setattr(TdxModule, "is_tlb_tracked", lambda module, pfn, level: True)
    assert found(5).verdict == verdict


@pytest.mark.usefixtures("afresh")
def test_a_zap_that_owes_no_flush_leaves_a_tlb_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tdp_mmu._zap_leafs

    def forgetful(*given: Any) -> Coroutine[bool]:
        yield from real(*given)
        return False

    monkeypatch.setattr(tdp_mmu, "_zap_leafs", forgetful)
    finding = found(6)
    assert finding.verdict == FAILS
    assert "leaves a TLB stale" in finding.shown
