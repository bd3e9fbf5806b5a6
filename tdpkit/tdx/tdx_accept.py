"""What KVM does when a TD exits at a private address; and the ACCEPT that finds a page larger than it asked.

KVM mapped 2M, the guest accepts 4K: the leaf must be split, and never be mapped so large again (kernel-facts
8.14). Four ways to split are here, among them the call of RFC v5 that took the wrong root.
"""

from __future__ import annotations

from collections.abc import Callable

from tdpkit.engine.attributes import (
    KVM_LPAGE_GUEST_INHIBIT_FLAG,
    hugepage_test_guest_inhibit,
    set_disallow_lpage,
)
from tdpkit.engine.events import EIO, ENOMEM, Coroutine, Lock, Unlock
from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.kvm import Kvm, KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_mirrors_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages,
)
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import KVM_FILTER_PRIVATE

from .abi import PAMT_ENTRY_PAGES, EptViolation
from .kvm_tdx import KvmTdx

AcceptSplit = Callable[[Kvm, int, int], Coroutine[int]]
"""Splits, under the write lock, what maps a frame above the level its guest accepted: (kvm, gfn, level)."""


def accept_split_v3(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """v3 13/24: a boundary split of the block that is accepted."""
    return _boundary_split(kvm, gfn, level, False)


def accept_split_v3_as_posted(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """The same with v3's ``bool ret``: an errno becomes 1."""
    return _boundary_split(kvm, gfn, level, True)


def _boundary_split(kvm: Kvm, gfn: int, level: int, as_posted: bool) -> Coroutine[int]:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    slot = kvm.slot_of(gfn) or kvm.slot
    block = KvmGfnRange(slot, first, first + kvm.geometry.pages(level), KVM_FILTER_PRIVATE)
    return kvm_split_cross_boundary_leafs(kvm, block, shared=False, as_posted=as_posted)


def accept_split_root_hpa(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """RFC v5 41 as posted: the vCPU's root.hpa, which is the wrong root (kernel-facts C43)."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level, shared=False)


def accept_split_mirrors(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Its correction (R1): split to the accepted level in the mirror roots."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level)


def tdx_honor_guest_accept_level(
    kvm: Kvm, gfn: int, level: int, split: AcceptSplit = accept_split_mirrors
) -> Coroutine[int]:
    """No page above `level` is mapped at `gfn` after this, nor ever: split first, then set the inhibit bit.

    The bit, never cleared, is asked for without the lock; it is set only after the split, so who sees it may
    rely on it. Takes the write lock; the caller's vCPU holds SRCU. Returns 0 or what `split` returned.
    Source: v3 13/24, v5 41; kernel-facts 8.14.
    """
    above = level + 1
    if level > PG_LEVEL_4K or not kvm.slot_of(gfn) or hugepage_test_guest_inhibit(kvm, gfn, above):
        return 0  # a TD's leaf is 2M at most: only an ACCEPT of 4K can find a larger one
    yield Lock(False)
    with kvm.srcu:
        ret = yield from split(kvm, gfn, level)
    if ret == 0:
        set_disallow_lpage(kvm, gfn, above, KVM_LPAGE_GUEST_INHIBIT_FLAG, True)
        if above < kvm.geometry.root_level:
            set_disallow_lpage(kvm, gfn, above + 1, KVM_LPAGE_GUEST_INHIBIT_FLAG, True)
    yield Unlock(False, "done")
    return ret


def tdx_handle_ept_violation(
    tdx: KvmTdx, violation: EptViolation, split: AcceptSplit = accept_split_mirrors
) -> Coroutine[int]:
    """KVM's answer to an exit of a TD at a private address: 1 resumes the guest, negative goes to userspace.

    Honours the accept level, then maps the page. A touch of a PENDING page kills the VM (-EIO; kernel-facts
    8.12). The kernel retries a private fault by itself; here the guest runs into it again, which a reader
    sees. Source: tdx_handle_ept_violation, tdx.c.
    """
    if violation.kind == "pending":
        tdx.kvm_vm_dead()
        return -EIO
    if violation.kind == "accept" and violation.level is not None:
        ret = yield from tdx_honor_guest_accept_level(tdx.kvm, violation.gfn, violation.level, split)
        if ret:
            return ret  # v3's 1 comes out here as "resume the guest"
    # A pair for each table on the way and one for the page, at most.
    if not tdx.topup_pamt_cache(PAMT_ENTRY_PAGES * tdx.kvm.geometry.root_level):
        return -ENOMEM
    ret = yield from kvm_tdp_mmu_page_fault(tdx.kvm, violation.gfn, is_private=True)
    return -EIO if tdx.dead else min(ret, 1)
