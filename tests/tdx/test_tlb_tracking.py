"""Epochs and the tree lock, compared with entries of vCPUs counted one by one."""

from itertools import product

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.tdx.abi import Access, EptViolation
from tests.oracles.tds import BLOCKED, BUSY, PENDING, UNTRACKED, Visits, huge, put, state_of, status


def test_tracked_means_that_who_was_inside_at_the_next_track_has_left_since():
    """All histories of two vCPUs up to eight steps, the BLOCK anywhere in the first four."""
    histories = 0
    for before, after in product(range(4), range(6)):
        for steps in product((0, 1, "track"), repeat=before + after):
            histories += 1
            check_history(steps[:before], steps[before:])
    assert histories > 10_000


def check_history(before: tuple, after: tuple) -> None:
    module, visits = huge(), Visits()
    at_block = at_track = None
    for number, step in enumerate((*before, "block", *after)):
        if step == "block":
            assert module.mem_range_block(0, 2) == 0
            at_block = set(visits.inside.values())
        elif step == "track":
            may = visits.may_track
            assert module.mem_track() == (0 if may else status("PREVIOUS_TLB_EPOCH_BUSY"))
            if may:
                then = visits.track()
                at_track = then if at_block is not None and at_track is None else at_track
        elif step in visits.inside:
            visits.leave(step)
            module.vp_exit(step)
        else:
            visits.enter(step)
            module.vp_enter(step)
        assert module.vcpus_inside == frozenset(visits.inside)
        assert sum(module.refcount) == len(visits.inside)
        if at_block is None:
            continue
        inside = set(visits.inside.values())
        tracked = at_track is not None and not at_track & inside
        assert module.is_tlb_tracked(16, 2) == tracked, (before, after, number)
        if tracked:
            assert not at_block & inside


def test_a_vcpu_that_entered_after_the_block_delays_tracking_too():
    """It flushed on entry and holds nothing; the refcount cannot tell it from those before."""
    module = huge()
    module.mem_range_block(0, 2)
    module.vp_enter(0)
    module.mem_track()
    assert module.mem_page_remove(0, 2) == status(UNTRACKED)
    module.vp_exit(0)
    module.vp_enter(0)
    assert module.mem_page_remove(0, 2) == 0


def test_a_kicked_vcpu_may_be_inside_again_when_the_page_goes():
    """BLOCK, TRACK, kick (kernel-facts 8.6)."""
    module = huge()
    for vcpu in (0, 1):
        module.vp_enter(vcpu)
        assert module.access(vcpu, 2) == Access("ok", 18)
    module.mem_range_block(0, 2)
    assert module.access(0, 3) == Access("ok", 19)  # stale, and used: that is the point
    assert module.mem_track() == 0
    assert module.mem_track() == status("PREVIOUS_TLB_EPOCH_BUSY")
    for vcpu in (0, 1):
        assert module.mem_page_remove(0, 2) == status(UNTRACKED)
        module.vp_exit(vcpu)
        module.vp_enter(vcpu)
    assert module.access(0, 3) == Access("violation", None, EptViolation(3, "access"))
    assert module.mem_page_remove(0, 2) == 0
    assert module.tlb == {0: set(), 1: set()}


# ---- the tree lock -------------------------------------------------------------------------------------


def test_calls_that_need_the_tree_lock_are_busy_until_its_holder_leaves():
    module = huge(state=BLOCKED)
    put(module, 4, 2, 32, PENDING)
    module.mem_track()
    for vcpu in (0, 1):
        module.vp_enter(vcpu)
    module.hold_sept_lock(1)
    before = state_of(module)
    calls = (
        lambda: module.mem_sept_add(8, 2, 5),
        lambda: module.mem_page_aug(12, 2, 48),
        lambda: module.mem_range_block(4, 2),
        lambda: module.mem_page_demote(0, 2, 6),
    )
    for call in (*calls, lambda: module.mem_page_remove(0, 2)):
        assert call() == status(BUSY)
    assert state_of(module) == before
    module.vp_exit(0)
    assert module.sept_lock_holder == 1
    assert calls[0]() == status(BUSY)
    assert module.mem_track() == module.phymem_page_wbinvd(9) == 0  # these do not need it
    assert module.accept(4, 2).status == 0
    module.vp_exit(1)
    assert module.sept_lock_holder is None
    assert [call() for call in calls] == [0, 0, 0, 0]


def test_the_tree_lock_is_held_by_one_vcpu_and_one_inside():
    module = huge()
    with pytest.raises(InvalidValueError, match=r"5 \(0x5\) is outside"):
        module.hold_sept_lock(5)
    module.vp_enter(0)
    module.vp_enter(1)
    module.hold_sept_lock(0)
    module.hold_sept_lock(0)
    with pytest.raises(InvalidValueError, match=r"1 \(0x1\) cannot, vCPU 0 does"):
        module.hold_sept_lock(1)
    assert module.sept_lock_holder == 0
