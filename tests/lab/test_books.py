"""Each way in which the books of a VM can fail to balance, made by hand, is named; and nothing else is."""

import pytest

from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE
from tdpkit.engine.tree import map_run
from tdpkit.lab.books import Books
from tdpkit.lab.layouts import LIFE_TOY, TOY
from tdpkit.lab.td import Td


def a_td() -> Td:
    """With a table in each tree, one in the cache, and PAMT pages in hand."""
    td = Td(LIFE_TOY, frames=16, dynamic_pamt=True)
    assert td.kvm.page_caches[True]
    assert sum(td.tdx.pamt_caches.values())
    return td


def drop_a_cached_row(td: Td) -> None:
    """Page table and S-EPT page are gone from every book."""
    del td.tdx.external_spt[td.kvm.page_caches[True].pop()]


def unmap_in_the_mirror(td: Td) -> None:
    """Behind the back of the TDX side."""
    row = next(row for row, level, _ in td.kvm.pool.pages() if level == 2)
    td.kvm.pool.table(row)[0] = SHADOW_NONPRESENT_VALUE


WRONG = {
    "slots_lock, SRCU or RCU held": lambda td: td.kvm.pool.rcu_read_lock(),
    "an invalidation in progress": lambda td: setattr(td.kvm, "mmu_invalidate_in_progress", 1),
    "a reference on a root": lambda td: setattr(td.kvm.mirror_root, "tdp_mmu_root_count", 3),
    "1 page table that nobody has": lambda td: td.kvm.pool.alloc(),
    "1 S-EPT page without a mirror table, or the other way round": lambda td: td.tdx.external_spt.popitem(),
    "2 PAMT pages that nobody has": lambda td: td.tdx.pamt_caches.update({0: td.tdx.pamt_caches[0] - 2}),
    "a dead VM": lambda td: td.tdx.kvm_vm_dead(),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said_and_nothing_else(said):
    td = a_td()
    books = Books(td.kvm, td.tdx)
    assert [*books.left()] == []
    WRONG[said](td)
    assert [*books.left()] == [said]


@pytest.mark.parametrize("lock", ["slots_lock", "srcu"])
def test_a_lock_that_is_still_held_is_said(lock):
    td = a_td()
    books = Books(td.kvm, td.tdx)
    with getattr(td.kvm, lock):
        assert [*books.left()] == ["slots_lock, SRCU or RCU held"]
    assert [*books.left()] == []


def test_a_frame_that_moved_is_said_unless_the_call_unmapped_it():
    td = a_td()
    books = Books(td.kvm, td.tdx)
    unmap_in_the_mirror(td)
    assert [*books.left()] == [
        "a frame mapped elsewhere, or no longer",
        "an S-EPT that differs from the mirror",
    ]
    assert [*books.left(range(8))] == ["an S-EPT that differs from the mirror"]
    assert next(books.left(range(7))) == "a frame mapped elsewhere, or no longer"


def test_a_page_lost_with_its_twin_is_lost_once():
    td = a_td()
    books = Books(td.kvm, td.tdx)
    drop_a_cached_row(td)
    assert [*books.left()] == ["1 page table that nobody has"]


def test_pages_that_are_granted_split_with_and_returned_balance():
    """The conversion splits two leaves and zaps them frame by frame, which gives a region's pair back."""
    td = a_td()
    books = Books(td.kvm, td.tdx)
    assert td.convert(0, 8) == 0
    assert td.convert(9, 16) == 0
    assert td.convert(8, 9) == 0
    assert "TDH.PHYMEM.PAMT.REMOVE" in {call.name for call in td.calls}
    assert [*books.left(range(16))] == []


def test_a_plain_vm_has_books_too():
    kvm = Kvm(KVM_X86_DEFAULT_VM, TOY)
    map_run(kvm.direct_root, 0, 2, 2, 64)
    books = Books(kvm)
    assert [*books.left()] == []
    assert "S-EPT" not in books.state()
    kvm.pool.alloc()
    assert [*books.left()] == ["1 page table that nobody has"]


def test_the_state_says_which_part_of_it_changed():
    td, other = a_td(), a_td()
    assert td.read(3) == other.read(3)
    assert Books(td.kvm, td.tdx).state() == Books(other.kvm, other.tdx).state()
    assert td.convert(0, 8) == 0
    one, two = (Books(of.kvm, of.tdx).state() for of in (td, other))
    assert {name for name in one if one[name] != two[name]} == {"trees", "attributes", "S-EPT", "TLBs"}
