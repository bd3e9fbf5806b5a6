"""Pages of metadata that 4K pages of a TD need: who brings them, and when they come back."""

import pytest

from tdpkit.tdx.module import TdxModule
from tests.oracles.tds import BLOCKED, INVALID, METADATA, OK, TOY, huge, put, state_of, status


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
    """Two more if the S-EPT page's own region is not covered (kernel-facts 7, C30 and C31)."""
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
