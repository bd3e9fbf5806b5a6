"""Claims on memory that must lie ready, and on the lock of its cache: verdicts by S134, S135, S143, S179."""

from functools import partial
from typing import Any

import pytest

from tdpkit.engine import guest_memfd, tdp_mmu
from tdpkit.engine.events import Coroutine, Event, External, NeedTopup, Topup
from tdpkit.lab.claims.cache import CLAIMS
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF
from tdpkit.lab.schedules import scenarios
from tdpkit.lab.schedules.bodies import one_topup, passed_on
from tdpkit.tdx import kvm_tdx
from tdpkit.tdx.kvm_tdx import KvmTdx
from tests.oracles.claims import experiment, holds_against

FACTS = {
    30: (HOLDS, "115 splits with 4 PAMT pages in hand", "they take 2 or 4; 15 take the most; 0 fail"),
    31: (
        HOLDS,
        "6 requests on demand, of 3 kinds",
        "returns -12, and 0 of 6 end badly",
        "under mmu_lock the VM is dead",
        "it lives and the conversion returns 0",
    ),
    32: (HOLDS, "no more: fails after", "whole call it survives", "each vCPU it survives"),
    33: (
        HOLDS,
        "outside any vCPU takes the VM's",
        "in a vCPU's thread takes the vCPU's",
        "a hole takes the VM's; an ACCEPT takes the vCPU's",
        "a split fails after",
    ),
    34: (
        HOLDS_IF,
        "2 of 2 hooks",
        "re-check survives",
        "2 to 3 top-ups",
        "without the re-check it fails",
        "with 2 top-ups.",
    ),
}
"""Splits: 7 edges in each of two leaves, with the new S-EPT page at each of eight places in its region; and
three on x86. Only at the first place is the region new. Two splits ask for three kinds of page each.
"""
found = partial(experiment, CLAIMS)


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


def test_one_is_a_plan() -> None:
    assert [one.number for one in CLAIMS if one.reason] == [35]
    assert [one.number for one in CLAIMS if bool(one.reason) is bool(one.experiment)] == []


@pytest.mark.usefixtures("afresh")
def test_one_pair_is_not_enough_in_a_new_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_tdx, "TDX_MIN_SPLIT_CACHE_SZ", 2)
    holds_against(found(30), FAILS, "with 2 PAMT pages in hand: they take 2; 100 take the most; 15 fail")


@pytest.mark.usefixtures("afresh")
def test_a_hook_that_allocates_needs_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    real = KvmTdx._split

    def allocating(tdx: KvmTdx, event: External) -> int:
        tdx.topup_pamt_cache(4)
        return real(tdx, event)

    monkeypatch.setattr(KvmTdx, "_split", allocating)
    holds_against(found(31), FAILS, "under mmu_lock the VM lives")


@pytest.mark.usefixtures("afresh")
def test_a_mutex_that_nobody_takes_protects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def unprotected(call: Coroutine[int]) -> Coroutine[int]:
        def each(event: Event) -> Coroutine[Any]:
            return False if isinstance(event, NeedTopup) else (yield event)

        yield Topup()
        return (yield from passed_on(call, each))

    monkeypatch.setattr(scenarios, "under_mutex", unprotected)
    holds_against(found(32), FAILS, "whole call it fails")


@pytest.mark.usefixtures("afresh")
def test_a_conversion_that_always_runs_in_a_vcpu_would_have_its_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = guest_memfd._convert
    monkeypatch.setattr(guest_memfd, "_convert", lambda *given: kvm_tdx.on_vcpu(0, real(*given)))
    holds_against(found(33), FAILS, "outside any vCPU takes the vCPU's")


@pytest.mark.usefixtures("afresh")
def test_a_loop_that_asks_once_makes_the_spinlock_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tdp_mmu._split_huge_pages_root

    def asking_once(*given: Any) -> Coroutine[int]:
        return one_topup(real(*given))

    monkeypatch.setattr(tdp_mmu, "_split_huge_pages_root", asking_once)
    holds_against(found(34), FAILS, "with a re-check fails")
