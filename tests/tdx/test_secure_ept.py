"""ACCEPT and access, by the tables of kernel-facts 8.10 and 8.12."""

import pytest

from tdpkit.engine.gfn import Geometry
from tdpkit.tdx.abi import Access, EptViolation
from tdpkit.tdx.module import TdxModule
from tests.oracles.tds import (
    ACCEPTED,
    BLOCKED,
    EXIT,
    FREE,
    INVALID,
    OK,
    PENDING,
    PENDING_BLOCKED,
    PRESENT,
    TOY,
    X86_TD,
    entries,
    huge,
    put,
    state_of,
    status,
    td,
)

HIGHER, SAME, TABLE, MISSING = "a leaf at a higher level", "a leaf at the level", "a table", "no table"


@pytest.mark.parametrize("geometry", [TOY, X86_TD], ids=["toy", "x86"])
@pytest.mark.parametrize(
    ("level", "there", "state", "expected"),
    [  # every row of kernel-facts 8.10
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
    """The mismatched flow (kernel-facts 8.14): KVM splits, the guest tries again."""
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
