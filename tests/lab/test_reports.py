"""Reports run on the model: what the facts say of each call, and what is left behind."""

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.reports import (
    accept_of_a_removed_page,
    demote_not_passed_on,
    demote_too_early,
    stale_for_ever,
)


def answers(ran) -> list[tuple[str, str]]:
    """(call, answer) of each line, without operands and entries of vCPUs."""
    pairs = [(line.split("(")[0].removeprefix("TDH.MEM."), line.split(" = ")[1]) for line in ran.calls]
    return [pair for pair in pairs if pair[0] != "TDH.VP.ENTER"]


def test_a_demote_after_a_busy_block_finds_the_entry_not_blocked():
    """S167, S168."""
    ran = demote_too_early()
    assert answers(ran) == [
        ("RANGE.BLOCK", "TDX_OPERAND_BUSY"),
        ("TRACK", "TDX_SUCCESS"),
        ("PAGE.DEMOTE", "TDX_GPA_RANGE_NOT_BLOCKED"),
    ]
    assert (ran.mirror, ran.sept) == ("one leaf of 2M", "one leaf of 2M, PRESENT")
    assert "TDX_TLB_TRACKING_NOT_DONE" in ran.said
    assert "unverified" in ran.said


def test_a_demote_without_track_has_the_status_of_the_report():
    """S166: a vCPU that entered in the epoch of the BLOCK is inside."""
    ran = demote_too_early("TRACK")
    assert answers(ran) == [("RANGE.BLOCK", "TDX_SUCCESS"), ("PAGE.DEMOTE", "TDX_TLB_TRACKING_NOT_DONE")]
    assert ran.sept == "one leaf of 2M, BLOCKED"


def test_a_failed_demote_that_nobody_passes_on_splits_the_mirror_only_and_the_next_zap_at_4k_fails():
    """S266: level 1 is 2M and state 1 is BLOCKED, 0x101; S162: a failing hook is a KVM_BUG."""
    ran = demote_not_passed_on()
    assert answers(ran) == [
        ("RANGE.BLOCK", "TDX_SUCCESS"),
        ("PAGE.DEMOTE", "TDX_TLB_TRACKING_NOT_DONE"),
        ("RANGE.BLOCK", "TDX_EPT_WALK_FAILED"),
    ]
    assert "gfn=0x76, level=1" in ran.calls[-1]
    assert (ran.mirror, ran.sept) == ("a table of smaller leaves", "one leaf of 2M, BLOCKED")
    assert ran.said == "RDX 0x101: level 1 (2M), state 1 (BLOCKED), as in the report; KVM bugs the VM"


def test_an_accept_of_a_removed_page_exits_to_kvm():
    """S169."""
    ran = accept_of_a_removed_page()
    accept = "TDG.MEM.PAGE.ACCEPT"
    assert answers(ran) == [(accept, "EPT violation"), (accept, "TDX_PAGE_SIZE_MISMATCH")]


@pytest.mark.parametrize(
    ("seq", "as_int", "said"),
    [
        (0x8002DC25, True, ("8 faults: RET_PF_RETRY",)),
        (0x8002DC25, False, ("1 fault: RET_PF_FIXED",)),
        (0x7FFFFFFF, True, ("1 fault: RET_PF_FIXED",)),
        (0x1_0000_0000, True, ("8 faults: RET_PF_RETRY",)),
    ],
)
def test_a_count_in_an_int_makes_every_fault_stale_from_bit_31_on(seq, as_int, said):
    """S267."""
    ran = stale_for_ever(seq, as_int=as_int)
    assert ran.calls == said
    assert ran.said == f"the frame is {'mapped' if 'FIXED' in said[0] else 'never mapped'}"


@pytest.mark.parametrize("ran", [demote_too_early(), stale_for_ever()])
def test_it_prints_title_calls_and_comparison(ran):
    first, *lines = repr(ran).splitlines()
    assert (first, lines[-1]) == (ran.title, ran.said)
    assert [line.strip() for line in lines[: len(ran.calls)]] == [*ran.calls]


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: demote_too_early("KICK"), InvalidValueError),
        (lambda: stale_for_ever(-1), InvalidValueError),
        (lambda: stale_for_ever(1 << 64), InvalidValueError),
        (lambda: stale_for_ever(as_int=1), InvalidTypeError),
    ],
)
def test_what_a_report_cannot_run_with_is_refused(call, kind):
    with pytest.raises(kind):
        call()
