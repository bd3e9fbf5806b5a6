"""One call under a plan of faults: what is in hand after it, what a wrong call leaves, and what is no plan.

All cases under the oracles are in `test_failures`.
"""

import pytest

from tdpkit.engine.events import Lock, Unlock
from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.faulted_call import CASES, FaultedCall, FaultPlan

ENOMEM = -12
BY_FILE, ACCEPT, PLAIN = "conversion by file", "ACCEPT", "split of a plain VM, read lock"
MIRROR = True


# ---- what is in hand -----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["v3", "head and tail"])
@pytest.mark.parametrize(("pamt", "drops"), [("v3", ["alloc", "top-up"]), ("R2", ["alloc"])])
def test_each_split_has_its_pamt_pages_topped_up_and_what_it_leaves_stays_in_hand(split, pamt, drops):
    """S179. Brought to four in v3's own drop, or in that of the table. The first split takes two pairs, as
    its S-EPT page is the first of its region, and leaves none; the second takes one and leaves two.
    """
    whole = FaultedCall(BY_FILE, split=split, pamt=pamt).call()
    assert ([*whole.drops], whole.in_hand) == (2 * drops, 2)
    for k in range(1, 7):
        faulted = FaultedCall(BY_FILE, FaultPlan((k,)), split=split, pamt=pamt)
        assert (faulted.call().in_hand, faulted.call().in_hand) == (0, 2)


@pytest.mark.parametrize(
    ("k", "v3", "r2"),
    [
        (3, {}, {}),  # the split's own
        (4, {None: 2}, {0: 2}),  # the exit's
        (5, {None: 2, 0: 6}, {0: 6}),  # the fault's tables: a pair for each of three levels is in hand
        (8, {None: 2, 0: 6}, {0: 6}),
    ],
)
def test_the_split_of_an_accept_takes_pages_from_the_vms_cache_in_v3_and_from_the_vcpus_in_r2(k, v3, r2):
    """S179. It takes a pair of its four, as its S-EPT page has neighbours; the exit fills the vCPU's own."""
    for pamt, caches in (("v3", v3), ("R2", r2)):
        faulted = FaultedCall(ACCEPT, FaultPlan((k,)), pamt=pamt)
        assert faulted.call().returned == ENOMEM
        assert faulted.tdx.pamt_caches == caches


def test_a_table_that_a_refused_fault_had_already_is_in_the_page_cache():
    """Requests of an ACCEPT without Dynamic PAMT: the split's two, then two for each table of the fault."""
    for k, kept in ((3, 0), (4, 0), (5, 1), (6, 1)):
        faulted = FaultedCall(ACCEPT, FaultPlan((k,)))
        assert faulted.call().returned == ENOMEM
        assert len(faulted.kvm.page_caches[MIRROR]) == kept


# ---- what a call may not leave --------------------------------------------------------------------------


def wrong(what: str):
    """A call that does one thing which no call may."""

    def call(td, split):
        yield Lock(False)
        if what == "its result on record":
            td.kvm.mem_attributes.store(GfnRange(6, 12), False)
        if what != "mmu_lock held for write":
            yield Unlock(False, "done")
        return ENOMEM

    return call


@pytest.mark.parametrize("what", ["its result on record", "mmu_lock held for write"])
def test_what_only_a_wrong_call_leaves_is_said_too(monkeypatch, what):
    monkeypatch.setitem(CASES, "wrong", CASES[BY_FILE]._replace(call=wrong(what)))
    assert FaultedCall("wrong").call().left == (what,)


def test_a_call_that_returns_without_its_callers_lock_is_found_out(monkeypatch):
    def call(kvm, split):
        yield Unlock(True, "alloc")
        return 0

    monkeypatch.setitem(CASES, "wrong", CASES[PLAIN]._replace(call=call))
    assert FaultedCall("wrong").call().left == ("mmu_lock held for nothing",)


# ---- cases and plans -------------------------------------------------------------------------------------


def test_every_case_can_be_given_the_splits_of_its_caller():
    splits = {name: [*case.splits] for name, case in CASES.items()}
    before_a_zap = ["v3", "v3 as posted", "head and tail"]
    assert splits == {
        PLAIN: ["v3", "v3 as posted"],
        "split of a plain VM, write lock": ["v3", "v3 as posted"],
        "split of both halves of a TD": ["v3", "v3 as posted"],
        "conversion per VM": before_a_zap,
        "conversion per VM, v3's error path": before_a_zap,
        BY_FILE: before_a_zap,
        "punch hole": before_a_zap,
        ACCEPT: ["v3", "v3 as posted", "mirror roots"],
    }


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("a split",), InvalidValueError, "a case is one of 'split of a plain VM, read lock', "),
        ((BY_FILE, FaultPlan((0,))), InvalidValueError, "refused requests count from 1; 0 is below it"),
        (
            (BY_FILE, FaultPlan((), (2, -1))),
            InvalidValueError,
            "visits with a reschedule due count from 1; -1",
        ),
        ((BY_FILE, FaultPlan((1.5,))), InvalidTypeError, "each of the refused requests is counted in whole"),
        ((BY_FILE, FaultPlan((True,))), InvalidTypeError, "whole numbers; True is a bool"),
        ((BY_FILE, FaultPlan(3)), InvalidTypeError, "refused requests are a tuple of numbers; 3 is none"),
    ],
)
def test_a_plan_or_a_case_that_is_none_is_refused(arguments, kind, message):
    with pytest.raises(kind, match=message):
        FaultedCall(*arguments)


def test_an_unknown_split_or_design_is_refused_and_dynamic_pamt_in_a_plain_vm():
    with pytest.raises(
        InvalidValueError, match="a split of 'ACCEPT' is one of v3, v3 as posted, mirror roots"
    ):
        FaultedCall(ACCEPT, split="head and tail")
    with pytest.raises(InvalidValueError, match="Dynamic PAMT is one of off, v3, R2; 'on' is none"):
        FaultedCall(BY_FILE, pamt="on")
    with pytest.raises(InvalidValueError, match="a plain VM has no Dynamic PAMT"):
        FaultedCall(PLAIN, pamt="R2")
