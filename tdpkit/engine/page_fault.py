"""A page fault: choose the level of a mapping, then write the entry.

KVM maps the largest page that the memory slot, the attributes, the host's memory, the TDX side and the
guest's own accept level allow. Source: Linux 7.2's mmu.c and tdp_mmu.c (kvm_tdp_mmu_page_fault,
kvm_tdp_mmu_map); S9, S82, S162, S212.

Where a table is, the fault maps below it, unless the caller lets it put a huge leaf in the table's place, as
the kernel does in a direct root. A mirror root keeps its table, as in the series: the module merges 512 pages
only if all are in one state and blocked before, which KVM does not do under the read lock (S264).

Left out: MMIO, permissions and their faults (every access here is a write to memory), NX huge pages,
prefetching.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import SupportsIndex

from .events import EFAULT, ENOMEM, AllocTable, Coroutine, Flush, FreeTable, Lock, Unlock
from .gfn import PG_LEVEL_4K, InvalidValueError, check_gfn
from .kvm import Kvm, KvmMemorySlot, mmu_invalidate_retry_gfn
from .mmu import kvm_max_mapping_level
from .spte import FROZEN_SPTE, is_last_spte, is_shadow_present_pte, make_leaf_spte, make_nonleaf_spte
from .tdp_iter import TdpIter
from .tdp_mmu import tdp_mmu_link_sp, tdp_mmu_set_spte_atomic, tdp_mmu_split_huge_page
from .tree import TdpMmuRoot, check_inside

LevelRule = Callable[[Kvm, KvmMemorySlot, int, int], int]
"""Choose the level of a mapping, up to a maximum: (kvm, slot, gfn, max_level)."""


class RetPf(IntEnum):
    """The result of a fault that is no error. For 7.2 the kernel's numbers are unverified (S252)."""

    RET_PF_RETRY = 1
    """Nothing was mapped; the vCPU will fault again."""
    RET_PF_FIXED = 5
    RET_PF_SPURIOUS = 6
    """The frame was already mapped."""


def kvm_tdp_mmu_page_fault(
    kvm: Kvm,
    gfn: SupportsIndex,
    *,
    is_private: bool,
    max_level: int | None = None,
    replace_tables: bool = False,
    level_rule: LevelRule = kvm_max_mapping_level,
) -> Coroutine[int]:
    """Map frame `gfn` (without the shared bit) in the tree of its half.

    is_private: in a TD, the guest's address has no shared bit; in a software-protected VM, the frame's
    attribute says so. max_level: the largest level allowed (a TD's accept level). replace_tables: where the
    chosen level meets a table of a direct root, a huge leaf takes its place, and the table goes with all
    below it. level_rule: another rule than KVM's own for the level, as a what-if. Takes the read lock.
    Returns a RetPf, -EFAULT to ask userspace (the frame belongs to the other half, or nothing backs it),
    -EHWPOISON or -ENOMEM. Raises InvalidValueError, before anything changes, for
    a frame beyond the VM's, a level it does not have, or a root without references.
    """
    frame = check_inside(kvm.direct_root, check_gfn(gfn))
    root = kvm.private_root if is_private else kvm.direct_root
    if root and not root.tdp_mmu_root_count:
        raise InvalidValueError(f"a root is used while somebody has a reference on it; {root} has none left")
    largest = kvm.max_leaf_level
    if max_level is not None:
        largest = min(largest, kvm.geometry.level(max_level).number)
    return _page_fault(kvm, frame, is_private, largest, replace_tables, level_rule)


def _page_fault(
    kvm: Kvm, gfn: int, is_private: bool, largest: int, replace_tables: bool, level_rule: LevelRule
) -> Coroutine[int]:
    root = kvm.private_root if is_private else kvm.direct_root
    slot = kvm.slot_of(gfn)
    if slot is None or root is None:
        return -EFAULT
    spare = kvm.page_caches[root.is_mirror]
    cache: list[int] = []  # this vCPU's own, since another vCPU's fault may run at the same time
    try:
        while len(cache) < kvm.geometry.root_level - 1:  # before taking the lock: allocating can sleep
            row = spare.pop() if spare else (yield AllocTable(kvm.pool, root.is_mirror))
            if row is None:
                return -ENOMEM
            cache.append(row)
        # Read the count first: a change to anything read below raises it (S212).
        seq = kvm.mmu_invalidate_seq
        if is_private != (gfn in kvm.mem_attributes):
            return -EFAULT
        pfn, host_level = kvm_faultin_pfn(slot, gfn, is_private)
        if pfn < 0:
            return pfn
        yield Lock(True)
        if not root.tdp_mmu_root_count or root.invalid or mmu_invalidate_retry_gfn(kvm, seq, gfn):
            ret = RetPf.RET_PF_RETRY
        else:
            level = level_rule(kvm, slot, gfn, min(largest, host_level))
            while (gfn ^ pfn) & kvm.geometry.pages(level) - 1:  # not at the same offset in the huge page
                level -= 1
            replaces = replace_tables and not root.is_mirror
            ret = yield from _kvm_tdp_mmu_map(root, gfn, pfn, level, cache, replaces)
        yield Unlock(True, "done")
        return ret
    finally:
        spare.extend(cache)


def kvm_faultin_pfn(slot: KvmMemorySlot, gfn: int, is_private: bool) -> tuple[int, int]:
    """Find the host frame behind `gfn` and the level of the host's page there; (-errno, 0) on failure.

    Private frames come from guest_memfd, shared ones from userspace's memory.
    """
    if is_private:
        if slot.gmem is None:
            return -EFAULT, 0
        return slot.gmem.get_pfn(gfn - slot.base_gfn + slot.gmem_pgoff)
    if slot.host_pfn is None:
        return -EFAULT, 0
    return slot.host_pfn + gfn - slot.base_gfn, slot.host_level


def _kvm_tdp_mmu_map(
    root: TdpMmuRoot, gfn: int, pfn: int, goal_level: int, cache: list[int], replaces: bool
) -> Coroutine[RetPf]:
    """kvm_tdp_mmu_map: link tables on the way, split a huge leaf above the goal, then write the leaf.

    After a lost race or a refusal of the TDX side the guest retries.
    """
    row: int | None = None
    it = TdpIter(root, PG_LEVEL_4K, gfn)
    it.rcu_read_lock()
    try:
        while it.valid and it.gfn <= gfn:
            spte = it.old_spte
            if spte == FROZEN_SPTE:
                return RetPf.RET_PF_RETRY
            is_table = is_shadow_present_pte(spte) and not is_last_spte(spte, it.level)
            if is_table and not (replaces and it.level == goal_level):
                pass  # step down into it, even below the goal
            elif it.level <= goal_level:
                return (yield from _map_handle_target_level(root, it, pfn))
            else:
                row = cache.pop()
                if is_shadow_present_pte(spte):
                    errno = yield from tdp_mmu_split_huge_page(root, it, row, shared=True)
                else:
                    errno = yield from tdp_mmu_link_sp(root, it, row)
                if errno:
                    break
                row = None
            it.next()
    finally:
        it.rcu_read_unlock()
        # If the fault was abandoned after the store, the page is already part of the tree.
        if row is not None and it.table[it.index] != make_nonleaf_spte(row):
            root.pool.free(row)
    if row is not None:
        yield FreeTable(row)
    return RetPf.RET_PF_RETRY


def _map_handle_target_level(root: TdpMmuRoot, it: TdpIter, pfn: int) -> Coroutine[RetPf]:
    was_present = is_shadow_present_pte(it.old_spte)
    if was_present and is_last_spte(it.old_spte, it.level):
        return RetPf.RET_PF_SPURIOUS
    first = root.geometry.gfn_round_for_level(pfn, it.level)
    if (yield from tdp_mmu_set_spte_atomic(root, it, make_leaf_spte(first, it.level))):
        return RetPf.RET_PF_RETRY
    if was_present:
        yield Flush()  # a TLB may hold what the table mapped
    return RetPf.RET_PF_FIXED
