"""An ACCEPT that finds a larger page: split, then inhibit, then try again (kernel-facts 8.14).

And the call that took the wrong root (C43).
"""

import pytest

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import (
    EFAULT,
    EHWPOISON,
    EIO,
    ENOMEM,
    EOPNOTSUPP,
    External,
    Lock,
    SetSpte,
    Trace,
    Unlock,
)
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.mmu import KVM_LPAGE_GUEST_INHIBIT_FLAG, hugepage_test_guest_inhibit
from tdpkit.engine.splits import (
    accept_split_mirrors,
    accept_split_root_hpa,
    accept_split_v3,
    accept_split_v3_as_posted,
)
from tdpkit.engine.tree import map_leaf
from tdpkit.tdx.abi import EptViolation
from tdpkit.tdx.guest import TRIES
from tdpkit.tdx.kvm_tdx import tdx_handle_ept_violation, tdx_honor_guest_accept_level
from tests.oracles import brute
from tests.oracles.tds import PENDING, PRESENT, TOY, X86_TD, status
from tests.oracles.whole_td import PRIVATE_PFN, SHARED_PFN, WholeTd, check_pages, leaves

RIGHT = [accept_split_v3, accept_split_v3_as_posted, accept_split_mirrors]
INHIBIT = 1 << 30
EXIT = " = EPT violation"


def touched(geometry: Geometry = TOY, **options) -> WholeTd:
    """2M leaves, PENDING, on the first three blocks."""
    td = WholeTd(geometry, 4 * geometry.pages(2), **options)
    for gfn in range(0, 3 * geometry.pages(2), geometry.pages(2)):
        assert td.touch(gfn).outcome == "#VE"
    td.forget()
    return td


def of(td: WholeTd, kind: type) -> list:
    return [event for event in td.world.events if type(event) is kind]


def accepts(td: WholeTd) -> list[str]:
    return [line.split(" = ")[1] for line in td.calls if "ACCEPT" in line]


# ---- the mismatched accept -----------------------------------------------------------------------------


@pytest.mark.parametrize("split", RIGHT)
@pytest.mark.parametrize("geometry", [TOY, X86_TD, Geometry(3, 2, 2)], ids=["toy", "x86", "two levels"])
def test_less_is_accepted_than_was_mapped(geometry, split):
    td, size = touched(geometry), geometry.pages(2)
    gfn = size + 1
    assert td.accept(gfn, 1, split=split) == 0
    page = next(call.pfn for call in td.module.log if "DEMOTE" in call.name)
    assert td.calls == [
        f"TDG.MEM.PAGE.ACCEPT(gfn={gfn:#x}, level=1){EXIT}",
        f"MEM.RANGE.BLOCK(gfn={size:#x}, level=2) = SUCCESS",
        "MEM.TRACK() = SUCCESS",
        f"MEM.PAGE.DEMOTE(gfn={size:#x}, level=2, pfn={page:#x}) = SUCCESS",
        "VP.ENTER(vcpu=0) = SUCCESS",
        f"TDG.MEM.PAGE.ACCEPT(gfn={gfn:#x}, level=1) = SUCCESS",
    ]
    assert td.leaves == {
        (0, 2): (PRIVATE_PFN, PENDING),
        (2 * size, 2): (PRIVATE_PFN + 2 * size, PENDING),
        **{
            (size + i, 1): (PRIVATE_PFN + size + i, PRESENT if size + i == gfn else PENDING)
            for i in range(size)
        },
    }
    above = {(3, 0): INHIBIT} if geometry.root_level > 2 else {}
    assert td.kvm.disallow_lpage == {(2, size): INHIBIT, **above}
    assert not [trace for trace in of(td, Trace) if trace.name.startswith("WARN")]
    check_pages(td)


@pytest.mark.parametrize("split", RIGHT)
def test_a_shared_huge_page_at_the_same_frame_stays_whole(split):
    td = touched()
    map_leaf(td.kvm.direct_root, 4, 2, SHARED_PFN + 4)
    assert td.accept(5, 1, split=split) == 0
    assert leaves(td.kvm.direct_root) == {(32 + 4, 2): SHARED_PFN + 4}


@pytest.mark.parametrize("split", RIGHT)
def test_the_inhibit_bit_is_set_after_the_split_and_before_the_lock_is_let_go(split):
    """Who sees the bit may rely on the split: it is asked for without the lock."""
    td, seen = touched(), []
    td.world.watch = lambda event: seen.append((event, hugepage_test_guest_inhibit(td.kvm, 5, 2)))
    td.accept(5, 1, split=split)
    last = [type(event) is External and event.op == "split" for event, _ in seen].index(True)
    done = [(type(event), getattr(event, "reason", "")) for event, _ in seen].index((Unlock, "done"))
    assert last < done
    assert [bit for _, bit in seen] == [False] * done + [True] * (len(seen) - done)


@pytest.mark.parametrize("split", RIGHT)
def test_a_guest_that_accepts_before_it_touches_gets_4k_at_once(split):
    td = WholeTd(TOY)
    assert td.accept(5, 1, split=split) == 0
    assert [line.split("(")[0] for line in td.calls] == [
        "TDG.MEM.PAGE.ACCEPT",
        "MEM.SEPT.ADD",
        "MEM.SEPT.ADD",
        "MEM.PAGE.AUG",
        "VP.ENTER",
        "TDG.MEM.PAGE.ACCEPT",
    ]
    assert td.leaves == {(5, 1): (PRIVATE_PFN + 5, PRESENT)}
    assert td.kvm.disallow_lpage == {(2, 4): INHIBIT, (3, 0): INHIBIT}


def test_what_was_accepted_small_is_not_mapped_large_again_and_its_neighbours_are():
    td = touched()
    td.accept(5, 1)
    td.unmap(0, 12)
    td.forget()
    assert [td.touch(gfn).outcome for gfn in (6, 0, 8)] == ["#VE"] * 3
    assert td.leaves.keys() == {(6, 1), (0, 2), (8, 2)}


def test_once_the_bit_is_set_an_accept_does_not_take_the_write_lock_again():
    td = touched()
    td.accept(5, 1)
    td.unmap(4, 8)
    td.forget()
    assert td.accept(6, 1) == 0
    assert accepts(td) == ["EPT violation", "SUCCESS"]
    assert [lock.shared for lock in of(td, Lock)] == [True]


def test_an_accept_of_2m_neither_splits_nor_inhibits():
    td = WholeTd(TOY)
    assert td.accept(4, 2) == 0
    assert [lock.shared for lock in of(td, Lock)] == [True]
    assert td.kvm.disallow_lpage == {}
    assert td.leaves == {(4, 2): (PRIVATE_PFN + 4, PRESENT)}


@pytest.mark.parametrize("state", [PENDING, PRESENT])
def test_kvm_cannot_repair_a_mapping_smaller_than_the_accept(state):
    """The guest is told, and KVM hears nothing of it (kernel-facts 8.15)."""
    td = WholeTd(TOY, folio_level=1)
    for gfn in range(4, 8):
        assert td.touch(gfn).outcome == "#VE"
        if state == PRESENT:
            assert td.accept(gfn, 1) == 0
    td.forget()
    assert td.accept(4, 2) == status("PAGE_SIZE_MISMATCH")
    assert td.calls == ["TDG.MEM.PAGE.ACCEPT(gfn=0x4, level=2) = PAGE_SIZE_MISMATCH"]
    assert td.world.events == []
    assert [td.accept(gfn, 1) for gfn in range(4, 8)] == [
        status("SUCCESS") if state == PENDING else status("PAGE_ALREADY_ACCEPTED")
    ] * 4


def test_a_linux_guest_tries_1g_then_2m_then_4k():
    td = WholeTd(X86_TD, 1 << 10, folio_level=1)
    assert [td.accept(0, level) for level in (3, 2, 1)] == [
        status("OPERAND_INVALID"),
        status("PAGE_SIZE_MISMATCH"),
        0,
    ]


@pytest.mark.parametrize("order", [(5, 6, 4, 7), (7, 4, 5, 6)])
def test_ways_to_split_that_take_the_right_root_end_in_the_same_tables(order):
    ends = []
    for split in RIGHT:
        td = touched()
        for gfn in order:
            assert td.accept(gfn, 1, split=split) == 0
        ends.append((td.leaves, leaves(td.kvm.mirror_root), td.kvm.disallow_lpage, accepts(td)))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][3] == ["EPT violation", *["SUCCESS"] * 4]


# ---- no memory -----------------------------------------------------------------------------------------


def honor(td: WholeTd, split, gfn: int = 5) -> int:
    return td.run(tdx_honor_guest_accept_level(td.kvm, gfn, 1, split))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("split", "returned"),
    [(accept_split_v3, -ENOMEM), (accept_split_v3_as_posted, 1), (accept_split_mirrors, -ENOMEM)],
)
def test_a_split_without_memory_sets_no_bit_and_its_errno_is_what_the_type_makes_of_it(split, returned, k):
    """K = 1: the table, 2: its S-EPT page."""
    td = touched()
    before = td.mirror
    td.refuse(k)
    assert honor(td, split) == returned
    assert (td.mirror, td.kvm.disallow_lpage, td.calls) == (before, {}, [])
    check_pages(td)
    assert honor(td, split) == 0
    assert td.kvm.disallow_lpage == {(2, 4): INHIBIT, (3, 0): INHIBIT}


@pytest.mark.parametrize("split", [accept_split_v3, accept_split_mirrors])
def test_an_errno_goes_to_userspace_which_may_enter_again(split):
    td = touched()
    td.refuse(1)
    assert td.accept(5, 1, split=split) == -ENOMEM
    assert td.module.vcpus_inside == frozenset()
    assert accepts(td) == ["EPT violation"]
    td.module.vp_enter(0)
    assert td.accept(5, 1, split=split) == 0


def test_an_errno_that_became_1_resumes_the_guest_which_faults_again():
    td = touched()
    td.refuse(1)
    assert td.accept(5, 1, split=accept_split_v3_as_posted) == 0
    assert accepts(td) == ["EPT violation", "EPT violation", "SUCCESS"]
    assert td.module.vcpus_inside == {0}


def test_an_errno_that_became_1_is_never_heard_of_if_memory_does_not_come_back():
    td = touched()
    td.pages.refuse = lambda number, what: True
    before = td.mirror
    assert td.accept(5, 1, split=accept_split_v3_as_posted, tries=20) is None
    assert accepts(td) == ["EPT violation"] * 20
    assert not any(lock.shared for lock in of(td, Lock))  # the guest is resumed before a fault is tried
    assert (td.mirror, td.kvm.disallow_lpage) == (before, {})
    assert td.module.vcpus_inside == {0}
    check_pages(td)


# ---- the wrong root ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_leaf", [False, True])
def test_a_split_of_root_hpa_leaves_the_private_page_whole_and_the_guest_in_a_loop(shared_leaf):
    """RFC v5 41, kernel-facts C43: each sentence of it is looked at."""
    td = touched()
    if shared_leaf:
        map_leaf(td.kvm.direct_root, 4, 2, SHARED_PFN + 4)
    before, sept = td.mirror, td.leaves
    assert honor(td, accept_split_root_hpa) == 0  # success, it says
    assert (td.mirror, td.leaves, td.calls) == (before, sept, [])
    assert not of(td, External)
    assert td.kvm.disallow_lpage[2, 4] == INHIBIT  # and later faults skip the split
    split = {(32 + gfn, 1): SHARED_PFN + gfn for gfn in range(4, 8)}  # the shared half of the direct root
    assert leaves(td.kvm.direct_root) == (split if shared_leaf else {})

    td.forget()
    assert td.accept(5, 1, split=accept_split_root_hpa) is None
    assert accepts(td) == ["EPT violation"] * TRIES
    assert {line.split("(")[0] for line in td.calls} == {"TDG.MEM.PAGE.ACCEPT", "VP.ENTER"}
    assert (td.mirror, td.leaves) == (before, sept)
    # The fault, which may map 4K only now, tries to split under the read lock, and the TDX side refuses.
    assert [lock.shared for lock in of(td, Lock)] == [True] * TRIES
    assert [(event.op, event.gfn, event.shared) for event in of(td, External)] == [("split", 4, True)] * TRIES
    errnos = [trace.errno for trace in of(td, Trace) if trace.name == "kvm_mmu_split_huge_page"]
    assert errnos == [-EOPNOTSUPP] * TRIES
    stores = [(store.old_spte, store.new_spte) for store in of(td, SetSpte)]
    leaf = brute.leaf(PRIVATE_PFN + 4, 2)
    assert stores == [(leaf, brute.FROZEN), (brute.FROZEN, leaf)] * TRIES
    assert not td.tdx.dead
    check_pages(td)


def test_once_the_bit_is_set_wrongly_the_right_split_is_skipped_too():
    td = touched()
    honor(td, accept_split_root_hpa)
    assert td.accept(5, 1, split=accept_split_mirrors) is None
    assert td.accept(1, 1, split=accept_split_mirrors) == 0  # another block has a bit of its own


# ---- other exits ---------------------------------------------------------------------------------------


def handle(td: WholeTd, gfn: int, kind: str = "access", level: int | None = None) -> int:
    return td.run(tdx_handle_ept_violation(td.tdx, EptViolation(gfn, kind, level)))


def test_an_access_to_a_page_that_is_not_accepted_kills_the_vm_if_the_td_wants_no_ve():
    """Kernel-facts 8.12."""
    td = WholeTd(TOY, vcpus=3, sept_ve_disable=True)
    assert td.accept(0, 2) == 0
    td.module.mem_page_aug(4, 2, PRIVATE_PFN + 4)
    before = td.leaves
    td.forget()
    got = td.module.access(1, 5)
    assert handle(td, *got.exit) == -EIO
    assert td.tdx.dead
    assert td.module.vcpus_inside == frozenset()
    assert (td.leaves, td.calls, td.world.events) == (before, [], [])


def test_without_that_attribute_the_guest_gets_a_ve_and_kvm_hears_nothing():
    td = touched()
    assert td.touch(5).outcome == "#VE"
    assert (td.calls, td.world.events, td.tdx.dead) == ([], [], False)


def test_a_fault_that_kvm_mends_resumes_the_guest():
    td = WholeTd(TOY)
    assert handle(td, 5) == 1
    assert handle(td, 6) == 1  # mapped already
    assert td.leaves == {(4, 2): (PRIVATE_PFN + 4, PENDING)}


@pytest.mark.parametrize("kind", [("access", None), ("accept", 1), ("accept", 2)])
def test_what_kvm_cannot_map_goes_to_userspace(kind):
    td = WholeTd(TOY, frames=24)
    assert td.run(kvm_vm_set_mem_attributes(td.kvm, 8, 12, 0)) == 0
    del td.gmem.pages[16]
    assert handle(td, 8, *kind) == -EFAULT  # shared, says the attribute
    assert handle(td, 16, *kind) == -EHWPOISON
    inhibited = dict(td.kvm.disallow_lpage)
    assert handle(td, 28, *kind) == -EFAULT  # in no slot: nothing to note a bit in
    assert td.kvm.disallow_lpage == inhibited
    assert td.leaves == {}
    assert not td.tdx.dead


def test_flags_have_the_bits_of_the_patch():
    assert KVM_LPAGE_GUEST_INHIBIT_FLAG == INHIBIT
