"""KVM's TDX side: which SEAMCALLs each hook makes, what a failure leaves, what is counted; and exits of the
guest.

Truth is the sequences of S161, S162, S168, S173 and S175, written out. Whenever mmu_lock is dropped
the world checks that both sides agree (`whole_td`).
"""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import (
    EFAULT,
    EHWPOISON,
    EINVAL,
    EIO,
    ENOMEM,
    EOPNOTSUPP,
    AllocTable,
    External,
    KvmBugOn,
    Lock,
    SetSpte,
    Topup,
    Trace,
    Unlock,
)
from tdpkit.engine.gfn import Geometry, InvalidValueError
from tdpkit.engine.kvm import KVM_VALID_ROOTS, KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm
from tdpkit.engine.mmu import (
    KVM_LPAGE_GUEST_INHIBIT_FLAG,
    hugepage_test_guest_inhibit,
    kvm_split_cross_boundary_leafs,
)
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import (
    kvm_mmu_unload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.engine.splits import (
    accept_split_mirrors,
    accept_split_root_hpa,
    accept_split_v3,
    accept_split_v3_as_posted,
    kvm_tdp_mmu_mirrors_split_huge_pages,
)
from tdpkit.engine.tdp_mmu import KvmBug
from tdpkit.engine.tree import map_leaf
from tdpkit.tdx.abi import EptViolation, Seamcall, status_name
from tdpkit.tdx.guest import TRIES
from tdpkit.tdx.kvm_tdx import (
    HostPages,
    KvmTdx,
    on_vcpu,
    tdx_handle_ept_violation,
    tdx_honor_guest_accept_level,
)
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute
from tests.oracles.tds import (
    ACCEPTED,
    BLOCKED,
    BUSY,
    FREE,
    INVALID,
    METADATA,
    NO_WALK,
    OK,
    PENDING,
    PRESENT,
    TOY,
    X86_TD,
    state_of,
    status,
)
from tests.oracles.whole_td import (
    PRIVATE_PFN,
    SEPT_PFN,
    SHARED_PFN,
    WholeTd,
    check_pages,
    check_pamt,
    leaves,
    rows,
)
from tests.oracles.worlds import run

RETRY, FIXED = 1, 5


def a_split(td: WholeTd, gfn: int = 0):
    """The 2M block at `gfn` is split to 4K."""
    size = td.kvm.geometry.pages(2)
    return td.locked(kvm_tdp_mmu_mirrors_split_huge_pages(td.kvm, gfn, gfn + size, 1))


def a_boundary_split(td: WholeTd, start: int, end: int, **how):
    return td.locked(kvm_split_cross_boundary_leafs(td.kvm, td.range(start, end), shared=False, **how))


def enters(*vcpus: int) -> list[str]:
    return [f"VP.ENTER(vcpu={vcpu}) = SUCCESS" for vcpu in vcpus]


def two_huge(**options) -> WholeTd:
    """16K leaves, accepted, on [0, 4) and [4, 8)."""
    td = WholeTd(TOY, **options)
    for gfn in (0, 4):
        assert td.accept(gfn, 2) == 0
    td.forget()
    return td


# ---- the calls of each hook ----------------------------------------------------------------------------


@pytest.mark.parametrize("vcpus", [1, 2, 3])
def test_a_page_is_linked_and_added_while_the_vcpu_that_asks_is_outside(vcpus):
    td = WholeTd(X86_TD, 1 << 10, vcpus=vcpus)
    assert td.touch(0x234).outcome == "#VE"
    top, below = (td.module.sept_page[rows(td.module.sept)[0, level]] for level in (4, 3))
    assert td.calls == [
        f"MEM.SEPT.ADD(gfn=0x0, level=4, pfn={top:#x}) = SUCCESS",
        f"MEM.SEPT.ADD(gfn=0x0, level=3, pfn={below:#x}) = SUCCESS",
        f"MEM.PAGE.AUG(gfn=0x200, level=2, pfn={PRIVATE_PFN + 0x200:#x}) = SUCCESS",
        *enters(0),  # back from the exit; nobody was kicked: nothing was taken away
    ]
    assert td.leaves == {(0x200, 2): (PRIVATE_PFN + 0x200, PENDING)}
    check_pages(td)


@pytest.mark.parametrize("vcpus", [0, 1, 3])
@pytest.mark.parametrize("geometry", [TOY, X86_TD], ids=["toy", "x86"])
def test_a_split_blocks_tracks_kicks_and_demotes(geometry, vcpus):
    td = WholeTd(geometry, 2 * geometry.pages(2), vcpus=1)
    size = geometry.pages(2)
    assert td.accept(size, 2) == 0
    td.module.vp_exit(0)
    for vcpu in range(vcpus):
        td.module.vp_enter(vcpu)
    td.forget()
    assert a_split(td, size) == 0
    page = td.module.sept_page[rows(td.module.sept)[size, 2]]
    assert td.calls == [
        f"MEM.RANGE.BLOCK(gfn={size:#x}, level=2) = SUCCESS",
        "MEM.TRACK() = SUCCESS",
        *enters(*range(vcpus)),
        f"MEM.PAGE.DEMOTE(gfn={size:#x}, level=2, pfn={page:#x}) = SUCCESS",
    ]
    pfn = PRIVATE_PFN + size
    assert td.leaves == {(size + i, 1): (pfn + i, PRESENT) for i in range(size)}
    check_pages(td)


def written_back(gfn, pages):
    """One call for each 4K page (S161)."""
    return [f"PHYMEM.PAGE.WBINVD(pfn={PRIVATE_PFN + at:#x}) = SUCCESS" for at in range(gfn, gfn + pages)]


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("level", [1, 2])
def test_a_removal_blocks_tracks_kicks_removes_and_writes_back(level, vcpus):
    td = two_huge(vcpus=vcpus)
    size = 4 ** (level - 1)
    if level == 1:
        a_split(td, 4)
        td.forget()
    assert td.unmap(4, 4 + size) is True
    assert td.calls == [
        f"MEM.RANGE.BLOCK(gfn=0x4, level={level}) = SUCCESS",
        "MEM.TRACK() = SUCCESS",
        *enters(*range(vcpus)),
        f"MEM.PAGE.REMOVE(gfn=0x4, level={level}) = SUCCESS",
        *written_back(4, size),
    ]
    assert td.module.wbinvd == set(range(PRIVATE_PFN + 4, PRIVATE_PFN + 4 + size))
    check_pages(td)


def test_each_leaf_of_a_range_is_removed_by_itself():
    td = two_huge()
    td.unmap(0, 8)
    assert [line.split("(")[0] for line in td.calls] == 2 * [
        "MEM.RANGE.BLOCK",
        "MEM.TRACK",
        "VP.ENTER",
        "MEM.PAGE.REMOVE",
        *["PHYMEM.PAGE.WBINVD"] * 4,
    ]


def test_no_vcpu_uses_a_translation_of_before_once_a_split_or_a_removal_is_done():
    td = two_huge(vcpus=2)
    for vcpu in (0, 1):
        assert td.touch(1, vcpu).outcome == "ok"
        assert td.module.tlb[vcpu] == {(0, 2, PRIVATE_PFN)}
    a_split(td)
    assert td.module.tlb == {0: set(), 1: set()}
    for vcpu in (0, 1):
        assert td.touch(1, vcpu).pfn == PRIVATE_PFN + 1
    td.unmap(1, 2)
    assert td.module.tlb == {0: set(), 1: set()}


def test_with_dynamic_pamt_a_pair_comes_before_the_first_4k_page_of_a_region_and_goes_after_the_last():
    td = WholeTd(TOY, folio_level=1, dynamic_pamt=True)
    assert [td.accept(gfn, 1) for gfn in (0, 1)] == [0, 0]
    td.unmap(0, 2)
    top, below = (td.module.sept_page[rows(td.module.sept)[0, level]] for level in (3, 2))
    assert {top, below} <= set(range(SEPT_PFN, SEPT_PFN + 4))
    of_host = [line for line in td.calls if not line.startswith(("TDG", "VP.ENTER"))]
    assert [line.removesuffix(" = SUCCESS") for line in of_host] == [
        f"PHYMEM.PAMT.ADD(pfn={SEPT_PFN:#x})",
        f"MEM.SEPT.ADD(gfn=0x0, level=3, pfn={top:#x})",
        f"MEM.SEPT.ADD(gfn=0x0, level=2, pfn={below:#x})",
        f"PHYMEM.PAMT.ADD(pfn={PRIVATE_PFN:#x})",
        f"MEM.PAGE.AUG(gfn=0x0, level=1, pfn={PRIVATE_PFN:#x})",
        f"MEM.PAGE.AUG(gfn=0x1, level=1, pfn={PRIVATE_PFN + 1:#x})",
        "MEM.RANGE.BLOCK(gfn=0x0, level=1)",
        "MEM.TRACK()",
        "MEM.PAGE.REMOVE(gfn=0x0, level=1)",
        f"PHYMEM.PAGE.WBINVD(pfn={PRIVATE_PFN:#x})",
        "MEM.RANGE.BLOCK(gfn=0x1, level=1)",
        "MEM.TRACK()",
        "MEM.PAGE.REMOVE(gfn=0x1, level=1)",
        f"PHYMEM.PAGE.WBINVD(pfn={PRIVATE_PFN + 1:#x})",
        f"PHYMEM.PAMT.REMOVE(pfn={PRIVATE_PFN:#x})",
    ]


# ---- BUSY and other failures ---------------------------------------------------------------------------


class ZeroStep(TdxModule):
    """vCPU `slow` is at one instruction for too long: it takes the tree lock whenever it enters (S177)."""

    slow: int | None = None

    def vp_enter(self, vcpu):
        entered = super().vp_enter(vcpu)
        if vcpu == self.slow:
            self.hold_sept_lock(vcpu)
        return entered


class Scripted(TdxModule):
    """Answers to the next calls of a name, instead of what they would do."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.script: dict[str, list[str]] = {}


def scripted(name):
    def call(self, *args):
        if answers := self.script.get(name):
            return self._log(Seamcall[name.upper()], status(answers.pop(0)))
        return getattr(TdxModule, name)(self, *args)

    return call


for each in (
    *("mem_sept_add", "mem_page_aug", "mem_range_block", "mem_track", "mem_page_demote", "mem_page_remove"),
    *("phymem_page_wbinvd", "phymem_pamt_add", "phymem_pamt_remove"),
):
    setattr(Scripted, each, scripted(each))


@pytest.mark.parametrize("what", ["DEMOTE", "REMOVE"])
def test_a_busy_call_is_made_once_more_while_all_vcpus_are_kept_out(what):
    td = two_huge(vcpus=3, make=ZeroStep)
    td.module.slow = 1
    td.module.hold_sept_lock(1)
    act = a_split if what == "DEMOTE" else lambda td: td.unmap(0, 4)
    act(td)
    page = f", pfn={td.module.sept_page[rows(td.module.sept)[0, 2]]:#x}" if what == "DEMOTE" else ""
    last = [] if page else written_back(0, 4)
    assert td.calls == [
        "MEM.RANGE.BLOCK(gfn=0x0, level=2) = OPERAND_BUSY",
        "MEM.RANGE.BLOCK(gfn=0x0, level=2) = SUCCESS",
        *enters(0, 1, 2),
        "MEM.TRACK() = SUCCESS",
        *enters(0, 1, 2),
        f"MEM.PAGE.{what}(gfn=0x0, level=2{page}) = OPERAND_BUSY",
        f"MEM.PAGE.{what}(gfn=0x0, level=2{page}) = SUCCESS",
        *enters(0, 1, 2),
        *last,
    ]
    assert not td.tdx.dead
    check_pages(td)


@pytest.mark.parametrize(
    ("call", "act"),
    [
        ("phymem_page_wbinvd", lambda td: td.unmap(4, 8)),  # the second of four pages
        ("phymem_pamt_add", lambda td: td.accept(8, 1)),
        ("phymem_pamt_remove", lambda td: td.unmap(0, 1)),  # the only 4K page of its region
    ],
)
def test_no_status_of_a_call_about_host_memory_is_dropped(call, act):
    td = WholeTd(TOY, folio_level=2, dynamic_pamt=True, make=Scripted)
    assert (td.accept(0, 1), td.accept(4, 2)) == (0, 0)
    answers = ["SUCCESS", "OPERAND_BUSY"] if call.endswith("wbinvd") else ["OPERAND_BUSY"]
    td.module.script[call] = answers
    with suppress(KvmBug):
        act(td)
    assert td.tdx.dead
    assert td.calls[-1].endswith("= OPERAND_BUSY")


def test_a_track_that_finds_a_vcpu_of_the_previous_epoch_is_a_kvm_bug_and_not_made_again():
    """Only OPERAND_BUSY is tried again; the status is not dropped, so nothing is removed (S168)."""
    td = two_huge(vcpus=2)
    assert td.module.mem_track() == 0  # by hand, without a kick
    td.forget()
    with pytest.raises(KvmBug, match=r"-5"):
        td.unmap(0, 4)
    assert td.tdx.dead
    assert td.calls == [
        "MEM.RANGE.BLOCK(gfn=0x0, level=2) = SUCCESS",
        "MEM.TRACK() = PREVIOUS_TLB_EPOCH_BUSY",
    ]


def test_a_track_that_finds_an_operand_busy_is_made_once_more_with_all_vcpus_out():
    td = two_huge(vcpus=2, make=Scripted)
    td.module.script["mem_track"] = ["OPERAND_BUSY"]
    td.unmap(0, 4)
    assert [line for line in td.calls if "TRACK" in line or "ENTER" in line] == [
        "MEM.TRACK() = OPERAND_BUSY",
        "MEM.TRACK() = SUCCESS",
        *enters(0, 1),
        *enters(0, 1),
    ]
    assert not td.tdx.dead


@pytest.mark.parametrize("dynamic_pamt", [False, True])
@pytest.mark.parametrize(
    ("name", "answers", "what", "left"),
    [
        ("mem_range_block", [BUSY, BUSY], "split", PRESENT),
        ("mem_range_block", [INVALID], "split", PRESENT),
        ("mem_page_demote", [BUSY, BUSY], "split", BLOCKED),
        ("mem_page_demote", [METADATA], "split", BLOCKED),
        ("mem_track", [BUSY, BUSY], "split", BLOCKED),  # then DEMOTE is not tracked
        ("mem_range_block", [BUSY, BUSY], "remove", PRESENT),
        ("mem_page_remove", [BUSY, BUSY], "remove", BLOCKED),
        ("mem_page_remove", [NO_WALK], "remove", BLOCKED),
        ("mem_track", [BUSY, BUSY], "remove", BLOCKED),
    ],
)
def test_under_the_write_lock_a_call_that_fails_is_a_kvm_bug_with_the_mirror_changed_already(
    name, answers, what, left, dynamic_pamt
):
    """Of the S-EPT a leaf is blocked at most; the metadata is as before; the VM is dead (S238)."""
    td = two_huge(vcpus=2, make=Scripted, dynamic_pamt=dynamic_pamt)
    before, counts = leaves(td.kvm.mirror_root), dict(td.tdx.pamt_refcount)
    td.module.script = {name: [*answers]}
    with pytest.raises(KvmBug, match=r"\(-5\) after the mirror entry at 0x4 \(16K\) changed"):
        a_split(td, 4) if what == "split" else td.unmap(4, 8)
    assert td.module.script == {name: []}
    assert len([line for line in td.calls if name.upper().replace("_", ".") in line]) == len(answers)
    small = {(4 + i, 1): PRIVATE_PFN + 4 + i for i in range(4)} if what == "split" else {}
    assert leaves(td.kvm.mirror_root) == {(0, 2): before[0, 2], **small}
    assert td.leaves == {(0, 2): (PRIVATE_PFN, PRESENT), (4, 2): (PRIVATE_PFN + 4, left)}
    assert rows(td.module.sept).keys() == {(0, 3)}
    assert td.tdx.pamt_refcount == counts
    check_pamt(td)
    assert td.tdx.dead
    assert td.module.vcpus_inside == frozenset()
    with pytest.raises(InvalidValueError, match="vCPU 0 is outside"):
        td.touch(0)


@pytest.mark.parametrize("dynamic_pamt", [False, True])
@pytest.mark.parametrize(("name", "frozen"), [("mem_sept_add", 0), ("mem_page_aug", 1)])
@pytest.mark.parametrize(("answer", "result"), [(BUSY, RETRY), (METADATA, -EIO)])
def test_under_the_read_lock_the_entry_is_put_back_and_only_busy_is_tried_again(
    name, frozen, answer, result, dynamic_pamt
):
    td = WholeTd(TOY, folio_level=1, vcpus=2, make=Scripted, dynamic_pamt=dynamic_pamt)
    td.touch(4)  # tables for [4, 8)
    gfn = 5 if name == "mem_page_aug" else 20
    before, tree = td.leaves, td.mirror_table
    td.forget()
    td.module.script = {name: [answer]}
    td.tdx.topup_pamt_cache(6)
    errno = td.run(kvm_tdp_mmu_page_fault(td.kvm, gfn, is_private=True))
    assert errno == RETRY
    assert (td.leaves, td.mirror_table) == (before, tree)
    assert [line.split(" = ")[1] for line in td.calls if "PAMT" not in line] == [answer]
    stores = [event for event in td.watch.said if type(event) is SetSpte]
    assert [store.new_spte for store in stores] == [brute.FROZEN, brute.HOLE]
    assert td.tdx.dead == (answer != BUSY)
    assert td.module.vcpus_inside == (frozenset() if td.tdx.dead else {0, 1})
    check_pages(td)


@pytest.mark.parametrize("dynamic_pamt", [False, True])
def test_a_guest_whose_fault_finds_the_module_broken_is_stopped(dynamic_pamt):
    td = WholeTd(TOY, make=Scripted, dynamic_pamt=dynamic_pamt)
    td.module.script = {"mem_page_aug": [METADATA]}
    assert td.touch(1) == -EIO
    assert td.tdx.dead
    check_pages(td)


def test_a_fault_waits_while_another_vcpu_keeps_the_tree_lock():
    td = WholeTd(TOY, vcpus=2)
    td.module.hold_sept_lock(1)
    assert td.touch(1).outcome == "violation"
    assert {line.split(" = ")[1] for line in td.calls if "SEPT.ADD" in line} == {BUSY}
    assert td.leaves == {}
    check_pages(td)
    td.module.vp_exit(1)
    assert td.touch(1).outcome == "#VE"


# ---- what a hook refuses by itself ---------------------------------------------------------------------


def test_a_split_under_the_read_lock_is_refused_without_a_call():
    td = two_huge()
    before = state_of(td.module)
    event = External("split", 0, 2, brute.leaf(PRIVATE_PFN, 2), brute.LINK | 5 << 12, shared=True)
    assert td.tdx.external(event) == -EOPNOTSUPP
    assert (td.calls, state_of(td.module), td.tdx.dead) == ([], before, False)


def test_in_rfc_v5_a_split_under_the_read_lock_is_a_kvm_bug_before_any_hook_and_store():
    """RFC v5 06; v3 09/24's -EOPNOTSUPP is not in that series (S140). The walk's end is this model's."""
    td = two_huge(series="RFC v5")
    before = td.mirror_table, td.leaves

    def under_the_read_lock():
        yield Lock(True)
        with td.kvm.srcu:
            ret = yield from kvm_split_cross_boundary_leafs(td.kvm, td.range(1, 7), shared=True)
        yield Unlock(True, "done")
        return ret

    assert td.run(under_the_read_lock()) == -EIO
    assert (td.calls, of(td, External), of(td, SetSpte), td.tdx.dead) == ([], [], [], True)
    assert [trace.errno for trace in of(td, Trace) if trace.name == "kvm_mmu_split_huge_page"] == [-16]
    assert (td.mirror_table, td.leaves) == before


@pytest.mark.parametrize("series", ["v3", "RFC v5"])
def test_both_series_split_under_the_write_lock(series):
    td = two_huge(series=series)
    assert a_split(td, 4) == 0
    assert not td.tdx.dead


def test_an_unknown_series_or_design_is_refused():
    td = two_huge()
    with pytest.raises(InvalidValueError, match="a PAMT design is v3 or R2; 'v4' is neither"):
        KvmTdx(td.kvm, td.module, pamt="v4")
    with pytest.raises(InvalidValueError, match="a series is v3 or RFC v5; 'v4' is neither"):
        Kvm(KVM_X86_TDX_VM, TOY, series="v4")


def test_a_split_of_a_leaf_above_2m_is_refused_without_a_call():
    td = WholeTd(Geometry(2, 3, 3))
    before = state_of(td.module)[:4]
    event = External("split", 0, 3, brute.leaf(PRIVATE_PFN, 3), brute.LINK | 5 << 12)
    assert td.tdx.external(event) == -EIO
    assert (td.calls, state_of(td.module)[:4], td.tdx.dead) == ([], before, True)


@pytest.mark.parametrize("in_hand", [0, 1, 2, 3])
@pytest.mark.parametrize("op", ["link", "set", "split"])
def test_a_hook_that_lacks_pamt_pages_is_a_kvm_bug_without_a_call(op, in_hand):
    td = WholeTd(TOY, dynamic_pamt=True, sept_pfn=SEPT_PFN + 2)
    assert td.accept(0, 2) == 0
    td.tdx.external_spt[77] = SEPT_PFN + 100  # in a region without a pair
    td.put_in_hand(in_hand, None if op == "split" else VCPU)
    td.forget()
    enough = in_hand >= (4 if op == "split" else 2)
    leaf, link = brute.leaf(PRIVATE_PFN, 2), brute.LINK | 77 << 12
    errno = td.tdx.external(
        {
            "link": External("link", 4, 2, brute.HOLE, link, True, VCPU),
            "set": External("set", 16, 1, brute.HOLE, brute.leaf(PRIVATE_PFN + 16, 1), True, VCPU),
            "split": External("split", 0, 2, leaf, link, False, VCPU),
        }[op]
    )
    if enough and op == "link":
        assert errno == 0
    elif not enough:
        assert (errno, td.calls, td.tdx.dead, td.in_hand) == (-EIO, [], True, in_hand)
    check_pamt(td)


def test_a_split_needs_no_more_pamt_pages_than_it_takes():
    """A pair, where the region of the new table's page has one already."""
    td = WholeTd(TOY, dynamic_pamt=True, sept_pfn=SEPT_PFN)
    assert td.accept(0, 2) == 0
    td.tdx.external_spt[77] = SEPT_PFN + 3  # beside the two tables of the fault
    td.put_in_hand(2)
    event = External("split", 0, 2, brute.leaf(PRIVATE_PFN, 2), brute.LINK | 77 << 12)
    assert (td.tdx.external(event), td.in_hand) == (0, 0)


@pytest.mark.parametrize("pamt", ["v3", "R2"])
@pytest.mark.parametrize("leaf_of_its_own", [False, True])
def test_a_1g_leaf_of_the_what_if_is_split_with_a_pair_for_its_tables_page_alone(pamt, leaf_of_its_own):
    """The children are of 2M and need no pair (S176)."""
    # The fault takes three pages for tables; the split's is the fourth of a region, or the first of the next.
    sept = SEPT_PFN + leaf_of_its_own
    options = {"folio_level": 3, "td_leaf_level": 3, "dynamic_pamt": True, "pamt": pamt, "sept_pfn": sept}
    td = WholeTd(Geometry(2, 4, 3), 32, **options)
    td.touch(0)
    assert td.module.pamt_pages == 2  # for the S-EPT's table
    assert td.accept(4, 2) == 0
    assert td.module.pamt_pages == 2 + 2 * leaf_of_its_own
    check_pages(td)


@pytest.mark.parametrize(
    "event",
    [
        External("remove", 4, 2, brute.leaf(PRIVATE_PFN + 4, 2), brute.HOLE),
        External("free", 0, 3, 0, brute.HOLE),
    ],
    ids=["remove after it", "free before it"],
)
def test_pages_are_removed_before_teardown_and_tables_freed_after_it(event):
    td = two_huge()
    if event.op == "remove":
        td.module.vp_exit(0)
        td.module.teardown()
    else:
        event.old_spte = brute.LINK | rows(td.kvm.mirror_root)[0, 3] << 12
    before, spt = state_of(td.module)[:4], dict(td.tdx.external_spt)
    assert td.tdx.external(event) == -EINVAL
    assert (td.calls, state_of(td.module)[:4], td.tdx.external_spt, td.tdx.dead) == ([], before, spt, True)


# ---- Dynamic PAMT --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("geometry", "sept_pfn", "takes"),
    [
        (TOY, SEPT_PFN + 1, 2),  # two tables' pages for the fault, then the split's: all in [0, 4)
        (TOY, SEPT_PFN + 2, 4),  # the split's is the first one of [4, 8)
        (X86_TD, SEPT_PFN + 508, 2),
        (X86_TD, SEPT_PFN + 509, 4),
    ],
)
def test_a_split_takes_two_pamt_pages_or_four_if_its_own_table_is_in_a_new_region(geometry, sept_pfn, takes):
    """S134."""
    td = WholeTd(geometry, geometry.pages(2), dynamic_pamt=True, sept_pfn=sept_pfn)
    assert td.accept(0, 2) == 0
    had = td.module.pamt_pages
    assert had == 2
    td.put_in_hand(6)
    td.forget()
    assert a_split(td) == 0
    assert td.module.pamt_pages == had + takes
    assert td.in_hand == 6 - takes
    assert td.pages.requests == ["page table", "S-EPT page"]
    assert td.tdx.pamt_refcount[PRIVATE_PFN] == geometry.entries
    check_pages(td)


VCPU = 0
A_DROP = ["drop: alloc", "page table", "S-EPT page"]


@pytest.mark.parametrize(
    ("pamt", "each_split"),
    [
        ("v3", [*A_DROP, "drop: top-up", "PAMT pages"]),  # a lock drop of its own, then a restart
        ("R2", [*A_DROP, "PAMT pages"]),  # in the drop of the table
    ],
)
def test_pamt_pages_are_brought_to_four_before_a_split_in_a_drop_of_their_own_or_the_tables(pamt, each_split):
    """S179."""
    td = WholeTd(TOY, dynamic_pamt=True, pamt=pamt)
    for gfn in (0, 4):
        td.accept(gfn, 2)
    for gfn in (0, 4):
        td.put_in_hand(3)
        td.forget()
        a_split(td, gfn)
        asked = iter(td.pages.requests)
        story = []
        for event in td.watch.said:
            if isinstance(event, Unlock) and event.reason != "done":
                story.append(f"drop: {event.reason}")
            if isinstance(event, AllocTable):
                story += [next(asked), next(asked)]
                story += [next(asked)] if pamt == "R2" else []
            if isinstance(event, Topup):
                story.append(next(asked))
        assert story == each_split
        check_pages(td)


@pytest.mark.parametrize("pamt", ["v3", "R2"])
def test_a_fault_takes_pamt_pages_from_its_vcpus_cache_and_brings_it_to_all_it_may_need(pamt):
    td = WholeTd(TOY, dynamic_pamt=True, pamt=pamt, vcpus=2)
    td.put_in_hand(5, 1)
    td.forget()
    td.touch(16, 1)
    assert "PAMT pages" in td.pages.requests
    # A pair per level, two tables and the page, less the pair for the region of the tables' pages.
    assert td.tdx.pamt_caches == {1: 3 * 2 - 2}


@pytest.mark.parametrize(("pamt", "left"), [("v3", {None: 2, VCPU: 9}), ("R2", {None: 4, VCPU: 7})])
def test_a_split_takes_pamt_pages_from_the_vms_cache_in_v3_and_from_the_running_vcpus_in_r2(pamt, left):
    """S179; the split of a mismatched accept runs in a vCPU's thread."""
    td = WholeTd(TOY, dynamic_pamt=True, pamt=pamt)
    assert td.touch(4).outcome == "#VE"
    td.put_in_hand(4)
    td.tdx.pamt_caches[VCPU] = 9
    td.ledger.pamt_brought += 9
    assert td.accept(5, 1) == 0
    assert td.tdx.pamt_caches == left
    check_pages(td)


def test_in_r2_a_split_in_a_vcpus_thread_never_fills_the_vms_cache():
    td = WholeTd(TOY, dynamic_pamt=True, pamt="R2")
    td.touch(4)
    td.put_in_hand(0)
    td.forget()
    assert td.accept(5, 1) == 0
    assert of(td, Topup) == []
    assert td.tdx.pamt_caches[None] == 0
    assert td.tdx.pamt_caches[VCPU] > 0


def test_in_a_vcpus_thread_requests_carry_its_number_and_an_abandoned_call_is_closed():
    td = WholeTd(TOY)
    closed = []

    def call():
        try:
            answer = yield External("set", 0, 1, 0, 0)
            yield AllocTable(td.kvm.pool)
            yield Lock(True)
            return answer
        finally:
            closed.append(True)

    events = on_vcpu(3, call())
    assert next(events).vcpu == 3
    assert events.send("an answer").vcpu == 3
    assert events.send(None) == Lock(True)
    with pytest.raises(StopIteration) as stop:
        events.send(None)
    assert stop.value.value == "an answer"
    events = on_vcpu(3, call())
    next(events)
    closed.clear()
    events.close()
    assert closed == [True]


def test_outside_a_vcpus_thread_a_split_takes_the_vms_cache_in_r2_too():
    td = WholeTd(TOY, dynamic_pamt=True, pamt="R2")
    td.accept(4, 2)
    td.put_in_hand(4)
    a_split(td, 4)
    assert td.tdx.pamt_caches == {None: 2}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_split_that_is_refused_memory_keeps_nothing_and_a_retry_completes_it(k):
    """The third request is v3's top-up, which comes with the table's page already in hand."""
    td = WholeTd(TOY, dynamic_pamt=True)
    td.accept(4, 2)
    td.put_in_hand(0)
    td.forget()
    td.refuse(k)
    assert a_split(td, 4) == -ENOMEM
    assert (td.leaves, td.calls) == ({(4, 2): (PRIVATE_PFN + 4, PRESENT)}, [])
    check_pages(td)
    assert a_split(td, 4) == 0
    check_pages(td)


def test_a_cache_that_others_drained_during_a_drop_is_topped_up_again():
    """v3 19/24 asks need_topup again after each restart (S179)."""
    td = WholeTd(TOY, dynamic_pamt=True)
    td.accept(4, 2)
    td.put_in_hand(0)
    td.forget()
    topups = 0

    def beside_others(split):
        nonlocal topups
        answer = None
        while True:
            try:
                event = split.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = yield event
            if isinstance(event, Topup):
                topups += 1
                if topups < 3:
                    td.put_in_hand(0)

    split = kvm_tdp_mmu_mirrors_split_huge_pages(td.kvm, 4, 8, 1)
    assert td.locked(beside_others(split)) == 0
    assert (topups, td.in_hand) == (3, 2)
    check_pages(td)


def test_without_dynamic_pamt_nothing_is_counted_or_asked_for():
    td = two_huge()
    a_boundary_split(td, 1, 7)
    td.unmap(1, 7)
    assert "PAMT pages" not in td.pages.requests
    assert (td.in_hand, td.tdx.pamt_refcount, td.module.pamt_pages) == (0, {}, 0)
    assert not any("PAMT" in line for line in td.calls)


# ---- refused pages -------------------------------------------------------------------------------------


def touched(td: WholeTd) -> None:
    td.touch(1)
    td.touch(5)
    if td.module.dynamic_pamt:
        td.put_in_hand(0)


def small(td: WholeTd) -> None:
    td.accept(17, 1)
    if td.module.dynamic_pamt:
        td.put_in_hand(0)


CALLS = {
    "touch": (lambda td: None, lambda td: td.touch(1)),
    "touch at 4K": (small, lambda td: td.touch(18)),
    "accept before access": (lambda td: None, lambda td: td.accept(1, 1)),
    "accept less than is mapped": (touched, lambda td: td.accept(1, 1)),
    "boundary split": (touched, lambda td: a_boundary_split(td, 1, 7)),
    "split": (touched, lambda td: a_split(td, 4)),
}


def by_frame(td: WholeTd) -> dict[int, tuple[int, int]]:
    return {
        gfn + i: (pfn + i, state)
        for (gfn, level), (pfn, state) in td.leaves.items()
        for i in range(4 ** (level - 1))
    }


@pytest.mark.parametrize("dynamic_pamt", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_whichever_page_is_refused_nothing_is_lost_and_another_try_completes(call, dynamic_pamt):
    prepare, act = CALLS[call]
    td = WholeTd(TOY, dynamic_pamt=dynamic_pamt)
    prepare(td)
    td.forget()
    expected = act(td)
    after, requests = by_frame(td), list(td.pages.requests)
    assert set(requests) >= {"page table", "S-EPT page"}
    assert ("PAMT pages" in requests) == dynamic_pamt
    for k in range(1, len(requests) + 1):
        td = WholeTd(TOY, dynamic_pamt=dynamic_pamt)
        prepare(td)
        td.forget()
        before = by_frame(td)
        td.refuse(k)
        assert act(td) == -ENOMEM
        assert td.pages.requests == requests[:k]
        assert by_frame(td) == before
        check_pages(td)
        assert not td.tdx.dead
        if "split" not in call:
            assert td.module.vcpus_inside == frozenset()  # the errno went to userspace
            td.module.vp_enter(0)
        assert act(td) == expected
        assert by_frame(td) == after
        check_pages(td)


@pytest.mark.parametrize("what", ["page table", "S-EPT page", "PAMT pages"])
def test_as_long_as_a_kind_of_page_is_refused_a_split_fails_and_leaks_none(what):
    td = WholeTd(TOY, dynamic_pamt=True)
    touched(td)
    td.pages.refuse = lambda number, asked: asked == what
    before = td.mirror_table
    for _ in range(5):
        assert a_boundary_split(td, 1, 7) == -ENOMEM
        check_pages(td)
    assert td.mirror_table == before


# ---- the end -------------------------------------------------------------------------------------------


def lived_in(dynamic_pamt: bool) -> WholeTd:
    """Leaves of both sizes, accepted and not, in both halves; pages are kept for the next fault."""
    td = WholeTd(TOY, vcpus=2, dynamic_pamt=dynamic_pamt)
    for gfn, level in ((0, 2), (4, 2), (9, 1), (12, 2)):
        assert td.accept(gfn, level) == 0
    td.touch(20)
    assert td.run(kvm_vm_set_mem_attributes(td.kvm, 2, 6, 0)) == 0
    for gfn in (2, 5):
        assert td.run(kvm_tdp_mmu_page_fault(td.kvm, gfn, is_private=False)) == FIXED
    assert leaves(td.kvm.direct_root).keys() == {(32 + 2, 1), (32 + 5, 1)}
    assert Counter(level for _, level in td.leaves) == {1: 5, 2: 2}
    assert all(td.kvm.page_caches.values())
    check_pages(td)
    td.forget()
    return td


@pytest.mark.parametrize("dynamic_pamt", [False, True])
def test_at_the_end_of_a_td_every_page_has_come_back(dynamic_pamt):
    td = lived_in(dynamic_pamt)
    mapped, tables = td.leaves, set(td.module.sept_page.values())
    for vcpu in (0, 1):
        td.module.vp_exit(vcpu)
    td.run(td.tdx.destroy())
    assert (td.kvm.tdp_mmu_roots, td.kvm.pool.rows_in_use) == ([], 0)
    assert td.kvm.page_caches == {False: [], True: []}
    assert td.module.sept.pool.rows_in_use == 1  # the root's came with the TD
    assert (td.tdx.external_spt, td.module.sept_page, td.module.owned, td.leaves) == ({}, {}, {}, {})
    assert (td.tdx.pamt_refcount, td.module.pamt_pairs, td.in_hand) == ({}, set(), 0)
    assert not td.tdx.dead
    called = [call for call in td.module.log if "PAMT" not in call.name]
    written = {frame for pfn, level in of_pages(mapped) for frame in range(pfn, pfn + 4 ** (level - 1))}
    assert td.module.wbinvd >= written
    assert all(call.status == 0 for call in called)
    assert {call.name for call in called[-len(tables) :]} == {"TDH.PHYMEM.PAGE.RECLAIM"}
    assert not any("RECLAIM" in call.name for call in called[: -len(tables)])
    assert {call.pfn for call in called[-len(tables) :]} == tables
    assert {(call.gfn, call.level) for call in called if "REMOVE" in call.name} == mapped.keys()


def of_pages(mapped: dict[tuple[int, int], tuple[int, int]]) -> list[tuple[int, int]]:
    return [(pfn, level) for (_, level), (pfn, _) in mapped.items()]


def test_a_td_ends_once_and_not_while_a_vcpu_is_inside():
    td = lived_in(True)
    td.module.vp_exit(0)
    before = state_of(td.module), td.mirror_table, brute.memory(td.kvm.pool)
    with pytest.raises(InvalidValueError, match="vCPU 1 is inside"):
        td.tdx.destroy()
    assert (state_of(td.module), td.mirror_table, brute.memory(td.kvm.pool)) == before
    check_pages(td)
    td.module.vp_exit(1)
    td.run(td.tdx.destroy())
    before = state_of(td.module), brute.memory(td.kvm.pool)
    with pytest.raises(InvalidValueError, match="this one has ended"):
        td.tdx.destroy()
    assert (state_of(td.module), brute.memory(td.kvm.pool)) == before


def test_a_td_that_was_killed_can_end_unless_its_trees_are_out_of_step():
    td = two_huge(sept_ve_disable=True)
    assert (td.touch(8), td.tdx.dead) == (-EIO, True)
    td.run(td.tdx.destroy())
    assert td.kvm.pool.rows_in_use == 0

    td = two_huge(make=Scripted)
    td.module.script = {"mem_page_demote": [METADATA]}
    with pytest.raises(KvmBug):
        a_split(td)
    with pytest.raises(KvmBug):
        td.run(td.tdx.destroy())


def test_tables_are_not_freed_while_the_td_has_its_hkid():
    """Roots that go without `destroy`: the TDX side keeps the pages, and the kernel has a KVM_BUG."""
    td = two_huge()
    tables = dict(td.tdx.external_spt)

    def drop():
        yield Lock(False)
        kvm_tdp_mmu_invalidate_roots(td.kvm, KVM_VALID_ROOTS)
        kvm_mmu_unload(td.kvm)
        yield from kvm_tdp_mmu_zap_invalidated_roots(td.kvm)

    with pytest.raises(KvmBug, match="is the TD torn down"):
        run(drop(), td.watch)
    assert td.tdx.external_spt == tables
    assert rows(td.module.sept).keys() == {(0, 3)}
    assert not any("RECLAIM" in line for line in td.calls)


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kvm", "module", "message"),
    [
        (Kvm(KVM_X86_DEFAULT_VM, TOY), TdxModule(TOY), "this is a plain VM"),
        (Kvm(KVM_X86_TDX_VM, TOY), TdxModule(Geometry(2, 4, 2)), "its geometry and shared bit"),
        (
            Kvm(KVM_X86_TDX_VM, TOY),
            TdxModule(TOY, gfn_direct_bits=16),
            r"0x20 \(128K\); this one has .* 0x10 \(64K\)",
        ),
    ],
)
def test_a_td_and_its_module_are_of_one_shape(kvm, module, message):
    with pytest.raises(InvalidValueError, match=message):
        KvmTdx(kvm, module)


def test_pages_come_from_above_all_guest_memory_unless_said_otherwise():
    kvm = Kvm(KVM_X86_TDX_VM, TOY)
    assert KvmTdx(kvm, TdxModule(TOY)).pages.next_pfn >= X86_TD.root_pages
    assert HostPages(7).alloc("S-EPT page") == 7


# ---- anything, in any order ----------------------------------------------------------------------------


class Frames:
    """What calls should do to private frames, by frame and by block; there is no tree.

    A block is mapped whole until a table was made for it; a table stays, and no huge page takes its place.
    """

    def __init__(self, geometry: Geometry, frames: int, folio_level: int) -> None:
        self.size = brute.pages(geometry, 2)
        self.state = [FREE] * frames
        self.tables: set[int] = set()
        self.inhibited: set[int] = set()
        self.huge_folios = folio_level > 1 and geometry.max_leaf_level > 1

    def block(self, gfn: int) -> range:
        return range(gfn - gfn % self.size, gfn - gfn % self.size + self.size)

    def is_huge(self, gfn: int) -> bool:
        return self.block(gfn)[0] not in self.tables and self.state[gfn] != FREE

    def fault(self, gfn: int) -> None:
        block = self.block(gfn)
        if self.huge_folios and not {block[0]} & (self.tables | self.inhibited):
            for frame in block:
                self.state[frame] = PENDING
        else:
            self.tables.add(block[0])
            self.state[gfn] = PENDING

    def touch(self, gfn: int) -> str:
        if self.state[gfn] == FREE:
            self.fault(gfn)
        return "ok" if self.state[gfn] == PRESENT else "#VE"

    def accept(self, gfn: int, level: int) -> str:
        block = self.block(gfn)
        if level == 2 and gfn != block[0]:
            return INVALID
        if level == 1 and self.state[gfn] != PRESENT and (self.state[gfn] == FREE or self.is_huge(gfn)):
            self.inhibited.add(block[0])
            self.split(gfn)
        if self.state[gfn] == FREE and not (level == 2 and block[0] in self.tables):
            self.fault(gfn)
        if level == 2 and block[0] in self.tables:
            return "PAGE_SIZE_MISMATCH"
        if self.state[gfn] == PRESENT:
            return ACCEPTED
        for frame in block if level == 2 else (gfn,):
            self.state[frame] = PRESENT
        return OK

    def split(self, gfn: int) -> None:
        if self.is_huge(gfn):
            self.tables.add(self.block(gfn)[0])

    def unmap(self, start: int, end: int) -> None:
        for gfn in range(start, end):
            for frame in self.block(gfn) if self.is_huge(gfn) else (gfn,):
                self.state[frame] = FREE

    def edges(self, start: int, end: int) -> None:
        for edge in (start, end):
            if edge % self.size:
                self.split(edge)


class Story:
    """A TD and its frames, told the same."""

    DOES = ("touch", "touch", "accept", "accept", "accept", "split", "edges", "unmap", "zap")

    def __init__(self, geometry: Geometry, random: Random) -> None:
        self.random = random
        self.frames = min(6 * brute.pages(geometry, 2), geometry.root_pages // 2)
        self.frames -= self.frames % brute.pages(geometry, 2)
        folio_level = random.choice((1, 2, 2, 2)) if geometry.max_leaf_level > 1 else 1
        self.td = WholeTd(
            geometry,
            self.frames,
            vcpus=2,
            folio_level=folio_level,
            sept_pfn=SEPT_PFN + random.randrange(8),
            dynamic_pamt=random.random() < 0.5,
        )
        self.model = Frames(geometry, self.frames, folio_level)
        self.met: Counter[str] = Counter()

    def step(self) -> None:
        td, model, random = self.td, self.model, self.random
        gfn, vcpu = random.randrange(self.frames), random.randrange(2)
        start = random.randrange(self.frames)
        end = random.randint(start, self.frames)
        what = random.choice(self.DOES)
        if what == "touch":
            got, expected = td.touch(gfn, vcpu).outcome, model.touch(gfn)
        elif what == "accept":
            level = random.choice((1, 2, 2))
            gfn = model.block(gfn)[0] if level == 2 and random.random() < 0.9 else gfn
            got = status_name(td.accept(gfn, level, vcpu)).removeprefix("TDX_")
            expected = model.accept(gfn, level)
        else:
            expected = None
            if what == "split":
                got = a_split(td, model.block(gfn)[0])
                model.split(gfn)
            if what in ("edges", "unmap"):
                got = a_boundary_split(td, start, end)
                model.edges(start, end)
            if what in ("unmap", "zap") and start < end:
                got = td.unmap(start, end) and 0
                model.unmap(start, end)
            got = got if what != "zap" else None
            expected = 0 if what != "zap" else None
        assert got == expected, what
        self.met[f"{what} {got}"] += 1
        self.check()

    def check(self) -> None:
        td, model = self.td, self.model
        state, huge = [FREE] * self.frames, set()
        for (gfn, level), (pfn, of) in td.leaves.items():
            assert pfn == PRIVATE_PFN + gfn
            for frame in range(gfn, gfn + brute.pages(td.kvm.geometry, level)):
                state[frame] = of
                huge |= {frame} if level > 1 else set()
        assert state == model.state
        assert huge == {gfn for gfn in range(self.frames) if model.is_huge(gfn)}
        check_pages(td)
        for vcpu in (0, 1):
            for gfn, level, pfn in td.module.tlb[vcpu]:  # S239, item 12
                assert td.leaves[gfn, level] == (pfn, PRESENT)


@pytest.mark.slow
@given(brute.geometries((2, 4)), brute.SEEDS)
@settings(max_examples=120)
def test_whatever_happens_both_sides_agree_and_are_as_the_frames_say(geometry, random):
    story = Story(geometry, random)
    for _ in range(25):
        story.step()
    for vcpu in (0, 1):
        story.td.module.vp_exit(vcpu)
    story.td.run(story.td.tdx.destroy())
    assert (story.td.kvm.pool.rows_in_use, story.td.module.sept.pool.rows_in_use) == (0, 1)
    assert (story.td.tdx.external_spt, story.td.tdx.pamt_refcount) == ({}, {})


@pytest.mark.slow
def test_the_stories_meet_every_answer_often():
    met: Counter[str] = Counter()
    for seed in range(60):
        story = Story(TOY, Random(seed))
        for _ in range(30):
            story.step()
        met += story.met
    wanted = {"touch ok", "touch #VE", "split 0", "edges 0", "unmap 0", "zap None", f"accept {OK}"}
    wanted |= {f"accept {answer}" for answer in (ACCEPTED, "PAGE_SIZE_MISMATCH", INVALID)}
    assert {answer: met[answer] for answer in wanted if met[answer] < 10} == {}


RIGHT = [accept_split_v3, accept_split_v3_as_posted, accept_split_mirrors]
INHIBIT = 1 << 30
EXIT = " = EPT violation"


def three_pending(geometry: Geometry = TOY, **options) -> WholeTd:
    """2M leaves, PENDING, on the first three blocks."""
    td = WholeTd(geometry, 4 * geometry.pages(2), **options)
    for gfn in range(0, 3 * geometry.pages(2), geometry.pages(2)):
        assert td.touch(gfn).outcome == "#VE"
    td.forget()
    return td


def of(td: WholeTd, kind: type) -> list:
    return [event for event in td.watch.said if type(event) is kind]


def accepts(td: WholeTd) -> list[str]:
    return [line.split(" = ")[1] for line in td.calls if "ACCEPT" in line]


# ---- the mismatched accept -----------------------------------------------------------------------------


@pytest.mark.parametrize("split", RIGHT)
@pytest.mark.parametrize("geometry", [TOY, X86_TD, Geometry(3, 2, 2)], ids=["toy", "x86", "two levels"])
def test_less_is_accepted_than_was_mapped(geometry, split):
    td, size = three_pending(geometry), geometry.pages(2)
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
    td = three_pending()
    map_leaf(td.kvm.direct_root, 4, 2, SHARED_PFN + 4)
    assert td.accept(5, 1, split=split) == 0
    assert leaves(td.kvm.direct_root) == {(32 + 4, 2): SHARED_PFN + 4}


@pytest.mark.parametrize("split", RIGHT)
def test_the_inhibit_bit_is_set_after_the_split_and_before_the_lock_is_let_go(split):
    """Who sees the bit may rely on the split: it is asked for without the lock."""
    td, seen = three_pending(), []
    td.watch.each = lambda event: seen.append((event, hugepage_test_guest_inhibit(td.kvm, 5, 2)))
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
    td = three_pending()
    td.accept(5, 1)
    td.unmap(0, 12)
    td.forget()
    assert [td.touch(gfn).outcome for gfn in (6, 0, 8)] == ["#VE"] * 3
    assert td.leaves.keys() == {(6, 1), (0, 2), (8, 2)}


def test_once_the_bit_is_set_an_accept_does_not_take_the_write_lock_again():
    td = three_pending()
    td.accept(5, 1)
    td.unmap(4, 8)
    td.forget()
    assert td.accept(6, 1) == 0
    assert accepts(td) == ["EPT violation", "SUCCESS"]
    assert [lock.shared for lock in of(td, Lock)] == [True]


def test_an_accept_of_2m_takes_the_write_lock_splits_nothing_and_inhibits_1g():
    """v3 13/24 and RFC v5 41 act on it too (S173), though nothing in a TD of the series is larger."""
    td = WholeTd(TOY)
    assert td.accept(4, 2) == 0
    assert [lock.shared for lock in of(td, Lock)] == [False, True]
    assert td.kvm.disallow_lpage == {(3, 0): INHIBIT}
    assert td.leaves == {(4, 2): (PRIVATE_PFN + 4, PRESENT)}
    td.forget()
    assert td.accept(8, 2) == 0  # the bit is set: no write lock
    assert [lock.shared for lock in of(td, Lock)] == [True]


def test_where_the_root_has_no_entry_of_1g_an_accept_of_2m_inhibits_nothing():
    td = WholeTd(Geometry(2, 2, 2), 8)
    assert td.accept(4, 2) == 0
    assert [lock.shared for lock in of(td, Lock)] == [True]
    assert td.kvm.disallow_lpage == {}


@pytest.mark.parametrize("split", RIGHT)
def test_m7s_case_an_accept_of_2m_in_a_1g_mapping_splits_that_alone(split):
    """A what-if, since no series maps 1G in a TD: the 1G mapping sticks out; its pieces stay 2M (S131)."""
    td = WholeTd(Geometry(2, 3, 3), 32, folio_level=3, td_leaf_level=3)
    assert td.touch(0).outcome == "#VE"
    assert td.leaves == {(0, 3): (PRIVATE_PFN, PENDING)}
    assert td.accept(4, 2, split=split) == 0
    assert td.leaves == {
        (gfn, 2): (PRIVATE_PFN + gfn, PRESENT if gfn == 4 else PENDING) for gfn in (0, 4, 8, 12)
    }
    assert td.kvm.disallow_lpage == {(3, 0): INHIBIT}
    check_pages(td)


@pytest.mark.parametrize("state", [PENDING, PRESENT])
def test_kvm_cannot_repair_a_mapping_smaller_than_the_accept(state):
    """The guest is told, and KVM hears nothing of it (S174)."""
    td = WholeTd(TOY, folio_level=1)
    for gfn in range(4, 8):
        assert td.touch(gfn).outcome == "#VE"
        if state == PRESENT:
            assert td.accept(gfn, 1) == 0
    td.forget()
    assert td.accept(4, 2) == status("PAGE_SIZE_MISMATCH")
    assert td.calls == ["TDG.MEM.PAGE.ACCEPT(gfn=0x4, level=2) = PAGE_SIZE_MISMATCH"]
    assert td.watch.said == []
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
        td = three_pending()
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
    td = three_pending()
    before = td.mirror_table
    td.refuse(k)
    assert honor(td, split) == returned
    assert (td.mirror_table, td.kvm.disallow_lpage, td.calls) == (before, {}, [])
    check_pages(td)
    assert honor(td, split) == 0
    assert td.kvm.disallow_lpage == {(2, 4): INHIBIT, (3, 0): INHIBIT}


@pytest.mark.parametrize("split", [accept_split_v3, accept_split_mirrors])
def test_an_errno_goes_to_userspace_which_may_enter_again(split):
    td = three_pending()
    td.refuse(1)
    assert td.accept(5, 1, split=split) == -ENOMEM
    assert td.module.vcpus_inside == frozenset()
    assert accepts(td) == ["EPT violation"]
    td.module.vp_enter(0)
    assert td.accept(5, 1, split=split) == 0


def test_an_errno_that_became_1_resumes_the_guest_which_faults_again():
    td = three_pending()
    td.refuse(1)
    assert td.accept(5, 1, split=accept_split_v3_as_posted) == 0
    assert accepts(td) == ["EPT violation", "EPT violation", "SUCCESS"]
    assert td.module.vcpus_inside == {0}


def test_an_errno_that_became_1_is_never_heard_of_if_memory_does_not_come_back():
    td = three_pending()
    td.pages.refuse = lambda number, what: True
    before = td.mirror_table
    assert td.accept(5, 1, split=accept_split_v3_as_posted, tries=20) is None
    assert accepts(td) == ["EPT violation"] * 20
    assert not any(lock.shared for lock in of(td, Lock))  # the guest is resumed before a fault is tried
    assert (td.mirror_table, td.kvm.disallow_lpage) == (before, {})
    assert td.module.vcpus_inside == {0}
    check_pages(td)


# ---- the wrong root ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_leaf", [False, True])
def test_a_split_of_root_hpa_leaves_the_private_page_whole_and_the_guest_in_a_loop(shared_leaf):
    """RFC v5 41's call on the TDX side of v3, which no series posted (S140)."""
    td = three_pending()
    if shared_leaf:
        map_leaf(td.kvm.direct_root, 4, 2, SHARED_PFN + 4)
    before, sept = td.mirror_table, td.leaves
    assert honor(td, accept_split_root_hpa) == 0  # success, it says
    assert (td.mirror_table, td.leaves, td.calls) == (before, sept, [])
    assert not of(td, External)
    assert td.kvm.disallow_lpage[2, 4] == INHIBIT  # and later faults skip the split
    split = {(32 + gfn, 1): SHARED_PFN + gfn for gfn in range(4, 8)}  # the shared half of the direct root
    assert leaves(td.kvm.direct_root) == (split if shared_leaf else {})

    td.forget()
    assert td.accept(5, 1, split=accept_split_root_hpa) is None
    assert accepts(td) == ["EPT violation"] * TRIES
    assert {line.split("(")[0] for line in td.calls} == {"TDG.MEM.PAGE.ACCEPT", "VP.ENTER"}
    assert (td.mirror_table, td.leaves) == (before, sept)
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
    td = three_pending()
    honor(td, accept_split_root_hpa)
    assert td.accept(5, 1, split=accept_split_mirrors) is None
    assert td.accept(1, 1, split=accept_split_mirrors) == 0  # another block has a bit of its own


def test_rfc_v5_as_posted_splits_the_wrong_root_and_dies_in_the_first_round():
    """RFC v5 41 and 06, S140: each sentence of it is looked at."""
    td = three_pending(series="RFC v5")
    assert td.accept(5, 1, split=accept_split_root_hpa) == -EIO
    assert td.tdx.dead
    assert accepts(td) == ["EPT violation"]
    assert td.kvm.disallow_lpage[2, 4] == INHIBIT  # the wrong split said 0
    assert [lock.shared for lock in of(td, Lock)] == [False, True]
    # The fault of the same exit meets the mirror leaf with a 4K goal under the read lock.
    assert [str(event) for event in of(td, KvmBugOn)] == [
        "KVM_BUG_ON(is_shadow_present_pte(iter->old_spte)): the VM is dead"
    ]
    assert of(td, External) == of(td, SetSpte) == []
    assert (4, 2) in td.leaves
    assert not td.module.vcpus_inside


def test_rfc_v5_with_the_mirror_roots_split_lets_the_guest_have_its_page():
    """R1."""
    td = three_pending(series="RFC v5")
    assert td.accept(5, 1, split=accept_split_mirrors) == 0
    assert not td.tdx.dead


# ---- other exits ---------------------------------------------------------------------------------------


def handle(td: WholeTd, gfn: int, kind: str = "access", level: int | None = None) -> int:
    return td.run(tdx_handle_ept_violation(td.tdx, EptViolation(gfn, kind, level)))


def test_an_access_to_a_page_that_is_not_accepted_kills_the_vm_if_the_td_wants_no_ve():
    """S171."""
    td = WholeTd(TOY, vcpus=3, sept_ve_disable=True)
    assert td.accept(0, 2) == 0
    td.module.mem_page_aug(4, 2, PRIVATE_PFN + 4)
    before = td.leaves
    td.forget()
    got = td.module.access(1, 5)
    assert handle(td, *got.exit) == -EIO
    assert td.tdx.dead
    assert td.module.vcpus_inside == frozenset()
    assert (td.leaves, td.calls, td.watch.said) == (before, [], [])


def test_without_that_attribute_the_guest_gets_a_ve_and_kvm_hears_nothing():
    td = three_pending()
    assert td.touch(5).outcome == "#VE"
    assert (td.calls, td.watch.said, td.tdx.dead) == ([], [], False)


def test_a_fault_that_kvm_mends_resumes_the_guest():
    td = WholeTd(TOY)
    assert handle(td, 5) == 1
    assert handle(td, 6) == 1  # mapped already
    assert td.leaves == {(4, 2): (PRIVATE_PFN + 4, PENDING)}


@pytest.mark.parametrize("kind", [("access", None), ("accept", 1), ("accept", 2)])
def test_what_kvm_cannot_map_goes_to_userspace(kind):
    td = WholeTd(TOY, frames=24)
    assert td.run(kvm_vm_set_mem_attributes(td.kvm, 8, 12, 0)) == 0
    td.gmem.poisoned.add(16)
    assert handle(td, 8, *kind) == -EFAULT  # shared, says the attribute
    assert handle(td, 16, *kind) == -EHWPOISON
    inhibited = dict(td.kvm.disallow_lpage)
    assert handle(td, 28, *kind) == -EFAULT  # in no slot: nothing to note a bit in
    assert td.kvm.disallow_lpage == inhibited
    assert td.leaves == {}
    assert not td.tdx.dead


def test_flags_have_the_bits_of_the_patch():
    assert KVM_LPAGE_GUEST_INHIBIT_FLAG == INHIBIT
