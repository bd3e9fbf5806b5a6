"""Claims on roots: verdicts by S44, S46, S124, S140; the TD has 16 frames in two leaves, in either tree."""

from functools import partial

import pytest

from tdpkit.engine import mmu, splits
from tdpkit.engine.events import Coroutine
from tdpkit.engine.kvm import KVM_DIRECT_ROOTS, Kvm
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF
from tdpkit.lab.claims.roots import CLAIMS
from tests.oracles.claims import experiment, holds_against

FACTS = {
    10: (HOLDS, "splits 2 of 2 private leaves", "returns -22", "splits 0 leaves", "same tree, with 2 splits"),
    24: (
        HOLDS_IF,
        "16 of 16 ACCEPTs succeed, 0 shared leaves",
        "16, and 16 shared leaves are split for nothing",
        "0, 0 private leaves are split, and the VM dies 16 times",
    ),
    43: (
        HOLDS,
        "1 valid mirror root",
        "0 private leaves and 16 shared leaves are split, 0 succeed, and the VM dies 16 times",
        "after 1 ACCEPT.",
        "16 private and 0 shared leaves are split, 16 succeed",
        "136 conversions with it lose 0 frames",
    ),
}
found = partial(experiment, CLAIMS)


@pytest.mark.parametrize("number", FACTS)
def test_a_claim_comes_to_the_verdict_of_the_facts(number: int) -> None:
    holds_against(found(number), *FACTS[number])


def test_three_are_not_for_an_experiment() -> None:
    """The migration of TDs, where code lives, and a principle."""
    assert [one.number for one in CLAIMS if one.reason] == [42, 44, 45]
    assert [one.number for one in CLAIMS if bool(one.reason) is bool(one.experiment)] == []


@pytest.mark.usefixtures("afresh")
def test_dirty_logging_without_mirror_roots_refutes_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmu, "KVM_VALID_ROOTS", KVM_DIRECT_ROOTS)
    holds_against(found(10), FAILS, "splits 0 of 2 private leaves")


@pytest.mark.usefixtures("afresh")
def test_a_root_hpa_that_is_the_mirror_root_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_mirror(kvm: Kvm, start: int, end: int, level: int, *, shared: bool) -> Coroutine[int]:
        return tdp_mmu_split_huge_pages_root(kvm.mirror_root, start, end, level, shared=shared)

    monkeypatch.setattr(splits, "kvm_tdp_mmu_split_huge_pages", in_mirror)
    holds_against(found(24), HOLDS, "root.hpa: 16, 16 private leaves are split, and the VM dies 0 times")
    holds_against(found(43), FAILS, "root.hpa for 16 ACCEPTs: 16 private leaves and 0 shared")


@pytest.mark.usefixtures("afresh")
def test_a_split_to_2m_does_not_help_an_accept_of_4k(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*given: object, **named: object) -> Coroutine[int]:
        yield from ()
        return 0

    monkeypatch.setattr(splits, "kvm_tdp_mmu_mirrors_split_huge_pages", too_large)
    assert found(43).verdict == FAILS
