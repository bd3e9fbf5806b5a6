"""The TDX module's calls on the S-EPT: their order, and that a refusal changes nothing."""

from random import Random

import numpy as np
import pytest

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.tree import leaf_runs, tables_per_level
from tdpkit.tdx.abi import Access, status_name
from tdpkit.tdx.module import TdxModule
from tests.oracles.tds import (
    ALREADY,
    BLOCKED,
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
    [  # kernel-facts 8.4, 8.7
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
    before = len(module.log)
    assert module.phymem_page_wbinvd(16, 2) == 0
    assert module.wbinvd == {16, 17, 18, 19}
    assert [repr(call) for call in module.log[before:]] == [
        "TDH.PHYMEM.PAGE.WBINVD(level=2, pfn=0x10) = TDX_SUCCESS"
    ]
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
        "TDH.PHYMEM.PAGE.WBINVD(level=1, pfn=0x41) = TDX_SUCCESS",
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
        (lambda m: m.phymem_page_wbinvd(17, 2), InvalidValueError, r"a PFN of 16K .* 0x11 \(68K\) is not"),
        (lambda m: m.phymem_page_wbinvd(16, 4), InvalidValueError, "from 1 to 3"),
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
