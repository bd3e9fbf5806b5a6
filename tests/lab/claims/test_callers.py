"""Claims on callers: verdicts by S125, S127, S128, S130.

Two leaves of eight frames have 136 ranges, 3 of them of whole leaves. Any other loses the rest of a leaf if
it is zapped unsplit.
"""

from functools import partial
from typing import Any

import pytest

from tdpkit.engine import guest_memfd, mmu
from tdpkit.engine.events import EINVAL, Coroutine
from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange, align_down, align_up
from tdpkit.engine.kvm import KVM_VALID_ROOTS, Kvm, KvmMemorySlot
from tdpkit.lab.claims.callers import CLAIMS
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF, WITHDRAWN, settle
from tests.oracles.claims import experiment, holds_against

FACTS = {
    13: (FAILS, "133 of 136 conversions", "133 of 136 holes", "of whole folios, 0."),
    16: (
        HOLDS_IF,
        "Of 136 holes the agreed rule refuses 133; of the other 3, 0 lose",
        "Linux 6.16 133 do",
        "larger than its folio, 133",
    ),
    17: (HOLDS_IF, "133 of 136 holes lose frames outside without the split, 0 with it", "0 lose any"),
    20: (
        HOLDS_IF,
        "133 of 136 conversions, 16 of 16 ACCEPTs",
        "0 of 136 holes of whole folios and 133 of 136 of pages",
        "0 of 16 memory failures, and 16 of 16 where",
    ),
    23: (HOLDS, "gets its page with", "2 of 2 refusals are hidden", "its page after 0.", "reports 2 of 2"),
}
"""An ACCEPT that splits asks for a page table and an S-EPT page."""
found = partial(experiment, CLAIMS)


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


def test_one_was_withdrawn_and_one_is_not_for_an_experiment() -> None:
    assert [(one.number, one.withdrawn) for one in CLAIMS if one.withdrawn] == [(13, "M4")]
    settled = settle(CLAIMS[0])
    assert settled.verdict == WITHDRAWN
    assert settled.finding is not None
    assert [one.number for one in CLAIMS if one.reason] == [25]
    assert [one.number for one in CLAIMS if bool(one.reason) is bool(one.experiment)] == []


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
def test_conversions_of_whole_folios_would_leave_the_hole_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = guest_memfd._convert

    def of_folios(gmem: guest_memfd.GuestMemfd, pages: GfnRange, *others: Any) -> Coroutine[int]:
        if gmem.folio(pages.start).start != pages.start or gmem.folio(pages.end - 1).end != pages.end:
            return guest_memfd._answer(-EINVAL)
        return real(gmem, pages, *others)

    monkeypatch.setattr(guest_memfd, "_convert", of_folios)
    holds_against(found(13), HOLDS, "0 of 136 conversions", "133 of 136 holes")


def zap_aligned(monkeypatch: pytest.MonkeyPatch, start: Any, end: Any) -> None:
    """A zap from the one leaf edge to the other."""
    real = mmu.tdp_mmu_zap_leafs

    def zap(root: Any, first: int, last: int, **named: Any) -> Coroutine[bool]:
        first, last = start(first), end(last)
        return real(root, first, max(first, last), **named)

    monkeypatch.setattr(mmu, "tdp_mmu_zap_leafs", zap)


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
def test_a_zap_that_spares_what_crosses_needs_no_split(monkeypatch: pytest.MonkeyPatch) -> None:
    zap_aligned(monkeypatch, lambda gfn: align_up(gfn, 8), lambda gfn: align_down(gfn, 8))
    assert {number: found(number).verdict for number in (16, 17, 20)} == {16: HOLDS, 17: FAILS, 20: FAILS}


@pytest.mark.slow
@pytest.mark.usefixtures("afresh")
def test_a_zap_that_goes_too_far_spoils_whole_folios_too(monkeypatch: pytest.MonkeyPatch) -> None:
    zap_aligned(monkeypatch, lambda gfn: gfn, lambda gfn: min(align_up(gfn + 1, 8), 16))
    assert found(16).verdict == FAILS


@pytest.mark.usefixtures("afresh")
def test_a_split_that_returns_its_errno_would_do_for_an_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    def returning(kvm: Kvm, slot: KvmMemorySlot, start: int, end: int) -> Coroutine[int]:
        return mmu.split_in_roots(kvm, slot.as_id, KVM_VALID_ROOTS, start, end, PG_LEVEL_4K, shared=False)

    monkeypatch.setattr(mmu, "kvm_mmu_try_split_huge_pages", returning)
    holds_against(found(23), FAILS, "0 of 2 refusals are hidden", "its page after 2. A")
