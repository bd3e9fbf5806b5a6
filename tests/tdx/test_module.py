"""The TDX module: its calls on the S-EPT, ACCEPT and access, epochs, PAMT; a refusal changes nothing.

Truth is the tables of S163 to S167, S169 and S171, written out, and vCPUs counted one by one.
"""

from itertools import product
from random import Random

import numpy as np
import pytest

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.tree import leaf_runs, tables_per_level
from tdpkit.tdx.abi import Access, EptViolation, status_name
from tdpkit.tdx.module import SeptState, TdxModule, make_sept_leaf, sept_state
from tests.oracles import brute
from tests.oracles.tds import (
    ACCEPTED,
    ALREADY,
    BLOCKED,
    BUSY,
    EXIT,
    FREE,
    INVALID,
    IS_FREE,
    METADATA,
    NO_WALK,
    NOT_BLOCKED,
    NOT_FREE,
    OK,
    PENDING,
    PENDING_BLOCKED,
    PRESENT,
    STATE,
    TABLE_PAGE,
    TOY,
    UNTRACKED,
    X86_TD,
    Visits,
    entries,
    huge,
    put,
    state_of,
    status,
    td,
)

# ---- order rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [TOY, X86_TD], ids=["toy", "x86"])
@pytest.mark.parametrize(
    ("state", "tracked", "aug", "block", "remove", "demote"),
    [  # S163-S164, S167
        (FREE, False, OK, IS_FREE, IS_FREE, IS_FREE),
        (PENDING, False, NOT_FREE, OK, NOT_BLOCKED, NOT_BLOCKED),
        (PRESENT, False, NOT_FREE, OK, NOT_BLOCKED, NOT_BLOCKED),
        (PENDING, True, NOT_FREE, OK, NOT_BLOCKED, NOT_BLOCKED),
        (PRESENT, True, NOT_FREE, OK, NOT_BLOCKED, NOT_BLOCKED),
        (BLOCKED, False, NOT_FREE, ALREADY, UNTRACKED, UNTRACKED),
        (PENDING_BLOCKED, False, NOT_FREE, ALREADY, UNTRACKED, UNTRACKED),
        (BLOCKED, True, NOT_FREE, ALREADY, OK, OK),
        (PENDING_BLOCKED, True, NOT_FREE, ALREADY, OK, OK),
    ],
)
def test_each_call_has_its_place_in_the_order(geometry, state, tracked, aug, block, remove, demote):
    size = geometry.pages(2)
    for expected, call in (
        (aug, lambda module: module.mem_page_aug(0, 2, 8 * size)),
        (block, lambda module: module.mem_range_block(0, 2)),
        (remove, lambda module: module.mem_page_remove(0, 2)),
        (demote, lambda module: module.mem_page_demote(0, 2, 9)),
    ):
        module = huge(geometry, state)
        if tracked:
            assert module.mem_track() == 0
        before = state_of(module)
        assert status_name(call(module)) == "TDX_" + expected
        assert (state_of(module) == before) == (expected != OK)


@pytest.mark.parametrize(("state", "blocked"), [(PRESENT, BLOCKED), (PENDING, PENDING_BLOCKED)])
def test_block_keeps_whether_the_page_was_accepted_and_notes_the_epoch(state, blocked):
    module = huge(state=state)
    module.mem_track()
    assert module.mem_range_block(0, 2) == 0
    assert entries(module) == {(0, 2): (16, blocked)}
    assert module.bepoch == {(16, 2): module.td_epoch}


def test_remove_frees_the_entry_and_the_page_can_be_mapped_again_as_pending():
    module = huge(state=BLOCKED)
    module.mem_track()
    assert module.mem_page_remove(0, 2) == 0
    assert (entries(module), module.bepoch) == ({}, {})
    assert module.phymem_page_wbinvd(17) == 0
    assert module.wbinvd == {17}
    assert module.mem_page_aug(4, 2, 16) == 0
    assert entries(module) == {(4, 2): (16, PENDING)}
    assert module.wbinvd == set()


def test_a_walk_that_ends_early_has_a_status_of_its_own():
    for module, gfn, level in (
        (TdxModule(TOY), 0, 2),  # no table
        (huge(), 1, 1),  # a larger leaf
    ):
        before = state_of(module)
        for got in (
            module.mem_page_aug(gfn, level, 80),
            module.mem_range_block(gfn, level),
            module.mem_page_remove(gfn, level),
        ):
            assert got == status(NO_WALK)
        assert state_of(module) == before
    assert TdxModule(TOY).mem_sept_add(0, 2, 1) == status(NO_WALK)
    assert TdxModule(TOY).mem_page_demote(0, 2, 1) == status(NO_WALK)


def test_a_table_is_added_to_a_free_entry_of_2m_and_above_only():
    module = huge()
    before = state_of(module)
    assert module.mem_sept_add(0, 3, 5) == status(NOT_FREE)  # a table
    assert module.mem_sept_add(0, 2, 5) == status(NOT_FREE)  # a leaf
    assert module.mem_sept_add(4, 1, 5) == status(INVALID)
    assert module.mem_page_demote(4, 1, 5) == status(INVALID)
    assert state_of(module) == before
    assert module.mem_sept_add(4, 2, 5) == 0
    assert tables_per_level(module.sept) == (1, 1, 1)
    assert set(module.sept_page.values()) == {TABLE_PAGE + 3, 5}


def test_a_table_is_neither_removed_nor_demoted_and_to_block_it_is_refused():
    module = huge()
    module.mem_sept_add(4, 2, 5)
    before = state_of(module), len(module.log)
    with pytest.raises(InvalidValueError, match=r"at 0x4 \(16K\) of 16K is a table"):
        module.mem_range_block(4, 2)
    assert (state_of(module), len(module.log)) == before
    assert module.mem_page_remove(4, 2) == status(STATE)
    assert module.mem_page_demote(4, 2, 6) == status(STATE)
    assert state_of(module) == before[0]


@pytest.mark.parametrize(
    ("geometry", "max_level", "level", "expected"),
    [
        (TOY, 2, 3, INVALID),
        (TOY, 1, 2, INVALID),
        (Geometry(2, 3, 1), 2, 2, INVALID),
        (Geometry(2, 3, 3), 2, 3, INVALID),
        (Geometry(2, 3, 3), 3, 3, OK),
        (Geometry(2, 1, 1), 2, 1, OK),
    ],
)
def test_a_leaf_is_at_most_of_the_level_that_td_and_geometry_allow(geometry, max_level, level, expected):
    module = TdxModule(geometry, max_level=max_level)
    assert module.mem_page_aug(0, level, 64) == status(expected)


def test_a_host_page_has_one_use_at_a_time():
    """Else two leaves would share one BEPOCH."""
    module = huge(state=PENDING)  # host frames 16 to 19
    module.mem_sept_add(4, 2, 5)
    before = state_of(module)
    for call in (
        lambda: module.mem_page_aug(8, 2, 16),
        lambda: module.mem_page_aug(8, 2, 4),  # holds the S-EPT page 5
        lambda: module.mem_page_aug(4, 1, 18),
        lambda: module.mem_page_aug(4, 1, 5),
        lambda: module.mem_sept_add(8, 2, 5),
        lambda: module.mem_sept_add(8, 2, 19),
    ):
        assert call() == status(METADATA)
    assert state_of(module) == before


# ---- demote --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [TOY, X86_TD, Geometry(1, 2, 2), Geometry(3, 4, 4)])
@pytest.mark.parametrize(("state", "child_state"), [(BLOCKED, PRESENT), (PENDING_BLOCKED, PENDING)])
def test_demote_leaves_children_in_the_parents_state_unblocked_on_its_frames(geometry, state, child_state):
    module = huge(geometry, state)
    size, pfn = geometry.pages(2), 4 * geometry.pages(2)
    assert module.mem_track() == 0
    assert module.mem_page_demote(0, 2, 3) == 0
    assert entries(module) == {(gfn, 1): (pfn + gfn, child_state) for gfn in range(size)}
    assert leaf_runs(module.sept) == [(0, 1, size, pfn)]
    assert module.bepoch == {}
    assert 3 in module.sept_page.values()
    assert module.mem_range_block(1, 1) == 0  # each child is a page of its own
    module.mem_track()
    assert module.mem_page_remove(1, 1) == 0
    assert module.mem_page_aug(1, 1, pfn + 1) == 0


def test_a_demoted_leaf_above_2m_becomes_huge_leaves_without_a_pair():
    module = TdxModule(Geometry(2, 3, 3), max_level=3, dynamic_pamt=True)
    put(module, 0, 3, 64, PENDING_BLOCKED)  # the guest accepts up to 2M
    module.mem_track()
    assert module.phymem_pamt_add(8) == 0
    assert module.mem_page_demote(0, 3, 9) == 0
    assert leaf_runs(module.sept) == [(0, 2, 4, 64)]
    assert module.pamt_pages == 2


def test_no_access_through_a_demoted_leaf_before_the_guest_accepts():
    module = huge(state=PENDING_BLOCKED)
    module.mem_track()
    module.mem_page_demote(0, 2, 3)
    module.vp_enter(0)
    assert module.access(0, 1) == Access("#VE")
    assert module.accept(1, 1).status == 0
    assert module.access(0, 1) == Access("ok", 17)
    assert module.access(0, 2) == Access("#VE")


# ---- teardown ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, -1])
def test_sept_pages_come_back_after_teardown_in_any_order(order):
    module = td(X86_TD)
    module.mem_sept_add(0, 2, 5)
    pages = list(module.sept_page.values())[::order]
    before = state_of(module)
    assert [module.phymem_page_reclaim(page) for page in pages] == [status(METADATA)] * 3
    assert state_of(module) == before
    module.teardown()
    for page in pages:
        assert module.phymem_page_reclaim(page) == 0
        # A table that went takes those below it out of reach; no link leads to a row that is free.
        assert sum(tables_per_level(module.sept)) == 1 + (0 if order == 1 else len(module.sept_page))
    assert (module.sept_page, module.owned, module.sept.pool.rows_in_use) == ({}, {}, 1)


def test_every_page_of_a_torn_down_td_is_reclaimed_once_by_its_first_frame_in_any_order():
    for seed in range(20):
        module = huge(state=BLOCKED)
        put(module, 4, 2, 32, PENDING)
        module.mem_sept_add(8, 2, 5)
        put(module, 9, 1, 6, PRESENT)
        pages = [TABLE_PAGE + 3, 5, 16, 32, 6]
        before = state_of(module)
        assert [module.phymem_page_reclaim(page) for page in pages] == [status(METADATA)] * 5
        assert state_of(module) == before
        module.teardown()
        Random(seed).shuffle(pages)
        for page in pages:
            mapped = {pfn for pfn, _ in entries(module).values()}
            assert mapped <= module.owned.keys()
            assert module.phymem_page_reclaim(page) == 0
            before = state_of(module)
            assert module.phymem_page_reclaim(page) == status(METADATA)  # not twice
            assert module.phymem_page_reclaim(17) == status(METADATA)  # inside the page of 16
            assert state_of(module) == before
            assert entries(module).keys() <= {(0, 2), (4, 2), (9, 1)}
        assert (module.sept_page, module.owned, module.bepoch, entries(module)) == ({}, {}, {}, {})
        assert module.sept.pool.rows_in_use == 1


def test_a_td_is_torn_down_when_empty_and_then_no_call_can_use_it():
    module = huge()
    module.vp_enter(4)
    with pytest.raises(InvalidValueError, match="vCPU 4 is inside"):
        module.teardown()
    assert not module.torn_down
    module.vp_exit(4)
    module.teardown()
    before = state_of(module), len(module.log)
    for call in (
        lambda: module.teardown(),
        lambda: module.vp_enter(0),
        lambda: module.mem_sept_add(4, 2, 5),
        lambda: module.mem_page_aug(4, 2, 32),
        lambda: module.mem_range_block(0, 2),
        lambda: module.mem_track(),
        lambda: module.mem_page_remove(0, 2),
        lambda: module.mem_page_demote(0, 2, 5),
        lambda: module.accept(0, 2),
    ):
        with pytest.raises(InvalidValueError, match="torn down"):
            call()
    assert (state_of(module), len(module.log)) == before


# ---- the log -------------------------------------------------------------------------------------------


def test_the_log_has_a_line_for_each_call_in_order():
    module = TdxModule(TOY)
    module.mem_page_aug(4, 2, 64)
    module.mem_sept_add(0, 3, 10)
    module.mem_page_aug(4, 2, 64)
    module.vp_enter(1)
    module.accept(4, 1)
    module.mem_range_block(4, 2)
    module.mem_track()
    module.phymem_page_wbinvd(65)
    assert [repr(call) for call in module.log] == [
        "TDH.MEM.PAGE.AUG(gfn=0x4, level=2, pfn=0x40) = TDX_EPT_WALK_FAILED",
        "TDH.MEM.SEPT.ADD(gfn=0x0, level=3, pfn=0xa) = TDX_SUCCESS",
        "TDH.MEM.PAGE.AUG(gfn=0x4, level=2, pfn=0x40) = TDX_SUCCESS",
        "TDH.VP.ENTER(vcpu=1) = TDX_SUCCESS",
        "TDG.MEM.PAGE.ACCEPT(gfn=0x4, level=1) = EPT violation",
        "TDH.MEM.RANGE.BLOCK(gfn=0x4, level=2) = TDX_SUCCESS",
        "TDH.MEM.TRACK() = TDX_SUCCESS",
        "TDH.PHYMEM.PAGE.WBINVD(pfn=0x41) = TDX_SUCCESS",
    ]
    assert [str(call) for call in module.log] == [repr(call) for call in module.log]
    assert repr(module) == "<TDX module: epoch 2, vCPUs inside: [1]>"
    module.vp_exit(1)
    assert repr(module) == "<TDX module: epoch 2, vCPUs inside: none>"


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: m.mem_range_block(32, 2), InvalidValueError, r"below 0x20 \(128K\); 0x20 \(128K\) is"),
        (lambda m: m.mem_page_aug(64, 2, 16), InvalidValueError, r"0x40 \(256K\) is beyond"),
        (lambda m: m.accept(32, 1), InvalidValueError, r"0x20 \(128K\) is beyond"),
        (lambda m: m.access(0, 1 << 60), InvalidValueError, r"0x1000000000000000 \(.*\) is beyond"),
        (lambda m: m.mem_page_remove(-4, 2), InvalidValueError, r"at least 0; -4 \(-0x4\)"),
        (lambda m: m.mem_page_remove(1, 2), InvalidValueError, r"multiple of 16K; 0x1 \(4K\) is not"),
        (lambda m: m.mem_page_aug(4, 2, 17), InvalidValueError, r"a PFN of 16K .* 0x11 \(68K\) is not"),
        (lambda m: m.mem_page_aug(4, 2, 1 << 40), InvalidValueError, "40 bits; 0x10000000003 does not fit"),
        (lambda m: m.mem_sept_add(0, 3, 1 << 40), InvalidValueError, "40 bits; 0x10000000000 does not fit"),
        (lambda m: m.mem_page_demote(0, 2, 5, -1), InvalidValueError, r"PAMT pages is at least 0; -1"),
        (lambda m: m.mem_range_block(0, 0), InvalidValueError, r"from 1 to 3 under this root; 0 \(0x0\)"),
        (lambda m: m.mem_sept_add(0, 4, 5), InvalidValueError, r"from 1 to 3 under this root; 4 \(0x4\)"),
        (lambda m: m.accept(0, 0), InvalidValueError, r"a level is 1 \(4K\) or above; 0 is not"),
        (lambda m: m.accept(0, "2M"), InvalidTypeError, "'2M' is a str"),
        (lambda m: m.mem_range_block(0.0, 2), InvalidTypeError, "0.0 is a float"),
        (lambda m: m.mem_range_block(True, 2), InvalidTypeError, "True is a bool"),
        (lambda m: m.mem_page_aug(4, 2, None), InvalidTypeError, "None is a NoneType"),
        (lambda m: m.phymem_page_wbinvd(-1), InvalidValueError, "a PFN is at least 0"),
        (lambda m: m.phymem_pamt_add(1 << 40), InvalidValueError, "40 bits"),
        (lambda m: m.vp_enter(0), InvalidValueError, r"vCPU 0 \(0x0\) is inside"),
        (lambda m: m.vp_enter(-1), InvalidValueError, "a vCPU's number is at least 0"),
        (lambda m: m.vp_exit(1), InvalidValueError, r"1 \(0x1\) is outside"),
        (lambda m: m.access(1, 0), InvalidValueError, r"1 \(0x1\) is outside"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_nothing_changes(call, kind, message):
    module = huge()
    module.vp_enter(0)
    before = state_of(module), list(module.log)
    with pytest.raises(kind, match=message):
        call(module)
    assert (state_of(module), module.log) == before


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"max_level": 0}, InvalidValueError, "0 is not"),
        ({"max_level": 2.0}, InvalidTypeError, "2.0 is a float"),
        ({"gfn_direct_bits": 48}, InvalidValueError, r"0x10 \(64K\) to 0x20 \(128K\); 0x30 \(192K\) is"),
        ({"gfn_direct_bits": 64}, InvalidValueError, r"0x40 \(256K\) is not"),
        ({"gfn_direct_bits": 0}, InvalidValueError, r"0x0 \(0\) is not"),
        ({"capacity": 0}, InvalidValueError, "at least 1 row"),
    ],
)
def test_a_module_of_wrong_make_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        TdxModule(TOY, **options)


@pytest.mark.parametrize(("geometry", "bit"), [(X86_4LEVEL, 47), (X86_5LEVEL, 51), (TOY, 12 + 5)])
def test_the_private_half_ends_at_the_shared_bit(geometry, bit):
    module = TdxModule(geometry)
    assert module.gfn_direct_bits == 1 << bit - 12
    assert module.accept(module.gfn_direct_bits - 1, 1).status is None
    with pytest.raises(InvalidValueError, match="is beyond"):
        module.accept(module.gfn_direct_bits, 1)


def test_numpy_integers_become_python_integers():
    module = td()
    assert module.mem_page_aug(np.uint64(4), np.int8(2), np.uint32(64)) == 0
    assert module.accept(np.uint64(4), np.uint8(2)).status == 0
    assert {type(value) for call in module.log for value in call[1:5] if value is not None} == {int}
    assert {type(value) for item in module.owned.items() for value in item} == {int}


# ---- one entry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("state", [BLOCKED, PENDING, PENDING_BLOCKED, PRESENT])
def test_a_leaf_keeps_its_frame_and_its_state_and_is_rwx_only_where_present(level, state):
    for pfn in (0, 0x1C8A00, (1 << 40) - 1):
        entry = make_sept_leaf(pfn, level, SeptState(state))
        assert sept_state(entry) == state
        assert entry & brute.FRAME == pfn << 12
        assert entry & 7 == (7 if state == PRESENT else 0)
        assert (bool(entry & brute.PRESENT), bool(entry & brute.LARGE)) == (True, level > 1)


def test_what_is_not_present_is_free_and_a_table_is_present():
    assert sept_state(brute.HOLE) == sept_state(brute.FROZEN) == FREE
    assert sept_state(brute.LINK | 77 << 12) == PRESENT


def test_a_leaf_that_is_free_or_has_no_frame_is_refused():
    with pytest.raises(InvalidValueError, match="0x40 in state FREE"):
        make_sept_leaf(64, 1, SeptState.FREE)
    with pytest.raises(InvalidValueError, match="40 bits; 0x10000000000 does not fit"):
        make_sept_leaf(1 << 40, 1, SeptState.PRESENT)


# ---- ACCEPT and access ---------------------------------------------------------------------------------

HIGHER, SAME, TABLE, MISSING = "a leaf at a higher level", "a leaf at the level", "a table", "no table"


@pytest.mark.parametrize("geometry", [TOY, X86_TD], ids=["toy", "x86"])
@pytest.mark.parametrize(
    ("level", "there", "state", "expected"),
    [  # every row of S169
        (1, HIGHER, PRESENT, ACCEPTED),
        (1, HIGHER, PENDING, EXIT),
        (1, HIGHER, BLOCKED, EXIT),
        (1, HIGHER, PENDING_BLOCKED, EXIT),
        (1, MISSING, FREE, EXIT),
        (2, MISSING, FREE, EXIT),
        (2, TABLE, PRESENT, "PAGE_SIZE_MISMATCH"),
        (2, TABLE, PENDING, "PAGE_SIZE_MISMATCH"),
        (2, TABLE, FREE, "PAGE_SIZE_MISMATCH"),
        *(
            (level, SAME, state, expected)
            for level in (1, 2)
            for state, expected in (
                (PRESENT, ACCEPTED),
                (PENDING, OK),
                (FREE, EXIT),
                (BLOCKED, EXIT),
                (PENDING_BLOCKED, EXIT),
            )
        ),
        (3, SAME, FREE, INVALID),
        (3, TABLE, FREE, INVALID),
        (4, MISSING, FREE, INVALID),
    ],
)
def test_accept_answers_by_the_table(geometry, level, there, state, expected):
    size = geometry.pages(2)
    module = TdxModule(geometry, capacity=1, shuffle=7) if there == MISSING else td(geometry)
    if there == TABLE or (there == SAME and level == 1):
        assert module.mem_sept_add(0, 2, 5) == 0
    where = {HIGHER: 2, TABLE: 1, SAME: level}.get(there)
    if where and level < 3:
        put(module, 0, where, 4 * size, state)
    module.memory.update(dict.fromkeys(range(3 * size, 6 * size), 0xAA))
    before, logged = state_of(module), len(module.log)
    got = module.accept(0, level)
    if expected == EXIT:
        assert got == (None, EptViolation(0, "accept", level))
    else:
        assert got == (status(expected), None)
    assert module.log[logged:] == [("TDG.MEM.PAGE.ACCEPT", 0, level, got.status, None, None)]
    if expected == OK:
        accepted = range(4 * size, 4 * size + geometry.pages(level))
        assert entries(module) == {(0, level): (4 * size, PRESENT)}
        assert module.memory == {pfn: 0 if pfn in accepted else 0xAA for pfn in range(3 * size, 6 * size)}
    else:
        assert state_of(module) == before


def test_accept_zeroes_frames_that_are_seen_and_shows_no_others():
    seen = {17: 0xAA, 40: 0xBB}
    module = huge(state=PENDING, memory=seen)
    assert module.accept(0, 2).status == 0
    assert module.memory is seen
    assert seen == {17: 0, 40: 0xBB}


def test_an_accept_of_half_a_page_or_of_a_level_without_table_is_invalid():
    module = huge(state=PENDING)
    before = state_of(module)
    assert module.accept(1, 2).status == status(INVALID)
    assert state_of(module) == before
    assert TdxModule(Geometry(2, 1, 1)).accept(0, 2).status == status(INVALID)


def test_an_accept_of_4k_in_a_pending_huge_leaf_tells_kvm_the_level():
    """The mismatched flow (S173): KVM splits, the guest tries again."""
    module = huge(state=PENDING)
    assert module.accept(2, 1) == (None, EptViolation(2, "accept", 1))
    module.mem_range_block(0, 2)
    module.mem_track()
    module.mem_page_demote(0, 2, 3)
    assert module.accept(2, 1).status == 0
    assert {gfn: state for (gfn, _), (_, state) in entries(module).items()} == {
        0: PENDING,
        1: PENDING,
        2: PRESENT,
        3: PENDING,
    }


@pytest.mark.parametrize(
    ("state", "sept_ve_disable", "expected"),
    [
        (PRESENT, False, Access("ok", 17)),
        (PENDING, False, Access("#VE")),
        (PENDING, True, Access("violation", None, EptViolation(1, "pending"))),
        *(
            (state, disabled, Access("violation", None, EptViolation(1, "access")))
            for state in (FREE, BLOCKED, PENDING_BLOCKED)
            for disabled in (False, True)
        ),
    ],
)
def test_an_access_succeeds_on_accepted_pages_only(state, sept_ve_disable, expected):
    module = huge(state=state, sept_ve_disable=sept_ve_disable)
    module.vp_enter(3)
    assert module.access(3, 1) == expected
    assert module.tlb == {3: {(0, 2, 16)} if state == PRESENT else set()}


# ---- epochs --------------------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.parametrize(("new_epoch", "hits"), [(False, True), (True, False)])
def test_an_entry_empties_the_tlb_only_if_the_epoch_is_new(new_epoch, hits):
    """Touch, exit, BLOCK, enter again, access (S166)."""
    module = huge()
    module.vp_enter(0)
    assert module.access(0, 2) == Access("ok", 18)
    module.vp_exit(0)
    assert module.mem_range_block(0, 2) == 0
    if new_epoch:
        assert module.mem_track() == 0
    module.vp_enter(0)
    exits = Access("violation", None, EptViolation(2, "access"))
    assert module.access(0, 2) == (Access("ok", 18) if hits else exits)
    assert module.tlb == {0: {(0, 2, 16)} if hits else set()}


def test_a_kick_before_the_track_tracks_nothing_because_the_tlb_may_still_hold_the_leaf():
    module = huge()
    module.vp_enter(0)
    module.access(0, 2)
    module.mem_range_block(0, 2)
    module.vp_exit(0)
    module.vp_enter(0)
    assert module.mem_track() == 0
    assert module.access(0, 2) == Access("ok", 18)
    assert module.mem_page_remove(0, 2) == status(UNTRACKED)


def test_a_kicked_vcpu_may_be_inside_again_when_the_page_goes():
    """BLOCK, TRACK, kick (S166)."""
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


# ---- Dynamic PAMT: who brings the pages, and when they come back ---------------------------------------


def test_with_dynamic_pamt_4k_pages_need_the_pair_of_their_region_and_huge_ones_none():
    module = TdxModule(TOY, dynamic_pamt=True)
    assert module.mem_sept_add(0, 3, 9) == status(METADATA)
    assert module.phymem_pamt_add(11) == 0  # region [8, 12)
    assert module.mem_sept_add(0, 3, 9) == module.mem_sept_add(0, 2, 10) == 0
    assert module.mem_page_aug(0, 1, 12) == status(METADATA)
    assert module.mem_page_aug(0, 1, 11) == 0
    assert module.mem_page_aug(4, 2, 16) == 0
    assert (module.pamt_pairs, module.pamt_pages) == ({8}, 2)


def with_pair_for_tables(**options) -> TdxModule:
    """A TD with Dynamic PAMT, its 4K pages in the region [8, 12), and a blocked, tracked leaf on [16, 20)."""
    module = TdxModule(TOY, dynamic_pamt=True, **options)
    assert module.phymem_pamt_add(8) == module.mem_sept_add(0, 3, 8) == 0
    put(module, 0, 2, 16, BLOCKED)
    assert module.mem_track() == 0
    return module


@pytest.mark.parametrize(("brought", "expected"), [(0, INVALID), (1, INVALID), (2, OK)])
def test_a_demote_to_4k_takes_a_pair_of_pamt_pages(brought, expected):
    """Two more if the S-EPT page's own region is not covered (S134, S135)."""
    module = with_pair_for_tables()
    before = state_of(module)
    assert module.mem_page_demote(0, 2, 9, brought) == status(expected)
    assert module.pamt_pages == (4 if expected == OK else 2)
    assert (state_of(module) == before) == (expected != OK)


def test_a_demote_refuses_an_sept_page_without_its_pair_and_a_region_that_has_one():
    module = with_pair_for_tables()
    before = state_of(module)
    assert module.mem_page_demote(0, 2, 21, 2) == status(METADATA)
    assert state_of(module) == before
    assert module.phymem_pamt_add(20) == module.phymem_pamt_add(16) == 0
    assert module.mem_page_demote(0, 2, 21, 2) == status(METADATA)
    assert module.phymem_pamt_remove(16) == 0
    assert module.mem_page_demote(0, 2, 21, 2) == 0
    assert module.pamt_pages == 6


def test_a_pair_is_added_once_and_removed_when_no_4k_page_needs_it():
    module = with_pair_for_tables()
    module.mem_page_demote(0, 2, 9, 2)
    before = state_of(module)
    assert module.phymem_pamt_add(19) == status(METADATA)  # there already
    assert module.phymem_pamt_remove(18) == status(METADATA)  # in use
    assert module.phymem_pamt_remove(40) == status(METADATA)  # never added
    assert state_of(module) == before
    for gfn in range(4):
        module.mem_range_block(gfn, 1)
    module.mem_track()
    for gfn in range(4):
        assert module.phymem_pamt_remove(16) == status(METADATA)
        assert module.mem_page_remove(gfn, 1) == 0
    assert module.phymem_pamt_remove(16) == 0
    assert module.pamt_pages == 2


def test_without_dynamic_pamt_there_are_no_pairs_to_give():
    module = huge()
    assert module.phymem_pamt_add(0) == module.phymem_pamt_remove(0) == status(INVALID)
    assert module.pamt_pages == 0
