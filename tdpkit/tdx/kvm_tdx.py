"""KVM's TDX side: the external table follows the mirror.

KVM keeps a TD's private half in the mirror root and passes each change on by hooks, which call the TDX
module: link (SEPT.ADD), set (PAGE.AUG), split (BLOCK, TRACK, kick, DEMOTE), remove (BLOCK, TRACK, kick,
REMOVE, WBINVD) and free (RECLAIM, when the HKID is gone). A hook answers the engine's `External` event:
:class:`TdxWorld` is a world in which it does. Sources: tdx.c of 6.16 and of the v3 series; kernel-facts 8.

Left out: building the TD (PAGE.ADD), the shared half's TLB, interrupted SEAMCALLs, device passthrough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tdpkit.engine.events import (
    EBUSY,
    EINVAL,
    EIO,
    EOPNOTSUPP,
    AllocTable,
    Coroutine,
    External,
    FreeTable,
    Lock,
    Unlock,
    World,
)
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, InvalidValueError, name_gfn
from tdpkit.engine.kvm import Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.roots import (
    KVM_FILTER_PRIVATE,
    KVM_VALID_ROOTS,
    kvm_mmu_unload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.engine.spte import spte_to_pfn

from .abi import PAMT_ENTRY_PAGES, TDX_OPERAND_BUSY, TDX_PREVIOUS_TLB_EPOCH_BUSY, TDX_SUCCESS
from .module import TdxModule
from .tdx_pages import HostPages, TdxPages


class KvmTdx(TdxPages):
    """struct kvm_tdx: a TD's `kvm` and the `module` behind it, in step.

    pages: where S-EPT and PAMT pages come from; by default frames above all that guest memory may use.
    Raises InvalidValueError for a plain VM, or a module of another shape.
    """

    def __init__(self, kvm: Kvm, module: TdxModule, *, pages: HostPages | None = None) -> None:
        if not kvm.has_mirrored_tdp:
            raise InvalidValueError("the TDX side serves a TD; this is a plain VM")
        if (module.geometry, module.gfn_direct_bits) != (kvm.geometry, kvm.gfn_direct_bits):
            raise InvalidValueError(
                f"a TD's module has its geometry and shared bit, {kvm.geometry} and "
                f"{name_gfn(kvm.gfn_direct_bits)}; this one has {module.geometry} and "
                f"{name_gfn(module.gfn_direct_bits)}"
            )
        super().__init__(module, pages or HostPages(1 << 36))
        self.kvm = kvm
        self.dead = False
        """kvm_vm_dead: the VM was killed."""

    # ---- the hooks -------------------------------------------------------------------------------------

    def external(self, event: External) -> int:
        """Let the external table follow the change of a mirror entry: 0 or a negative errno.

        -EBUSY: the module was busy with a link or a new leaf, the fault is retried; -EOPNOTSUPP: a split
        under the read lock; -EIO: PAMT pages were lacking, a split above 2M, or an answer that the module
        should never give (a second BUSY too, where all vCPUs were out), -EINVAL: a leaf removed without HKID,
        a table freed with it. With these answers the VM is dead; PAMT counts are as before, and of the S-EPT
        at most a leaf is blocked. Source: kernel-facts 8.2, 8.8, 8.17; tdx.c of 6.16.
        """
        hooks = {"link": self._link, "set": self._set, "split": self._split, "remove": self._remove}
        return hooks.get(event.op, self._free)(event)

    def _link(self, event: External) -> int:
        page = self.external_spt[spte_to_pfn(event.new_spte)]
        if not self._pamt_get(page):
            return self._kvm_bug(-EIO)
        status = self.module.mem_sept_add(event.gfn, event.level, page)
        if status != TDX_SUCCESS:
            self._pamt_put(page)
        return -EBUSY if status == TDX_OPERAND_BUSY else self._errno(status)

    def _set(self, event: External) -> int:
        pfn, small = spte_to_pfn(event.new_spte), event.level == PG_LEVEL_4K
        if small and not self._pamt_get(pfn):
            return self._kvm_bug(-EIO)
        status = self.module.mem_page_aug(event.gfn, event.level, pfn)
        if status != TDX_SUCCESS and small:
            self._pamt_put(pfn)
        return -EBUSY if status == TDX_OPERAND_BUSY else self._errno(status)

    def _split(self, event: External) -> int:
        """BLOCK, TRACK and DEMOTE; only 2M, only under the write lock (kernel-facts 8.8, 8.17)."""
        if event.shared:
            return -EOPNOTSUPP
        if event.level != PG_LEVEL_2M:
            return self._kvm_bug(-EIO)
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        page = self.external_spt[spte_to_pfn(event.new_spte)]
        pair = PAMT_ENTRY_PAGES if module.dynamic_pamt else 0
        if self.pamt_cache < 2 * pair or not self._pamt_get(page):
            return self._kvm_bug(-EIO)
        demote = partial(module.mem_page_demote, event.gfn, event.level, page, pair)
        status = self._once_blocked(event, demote)
        if status != TDX_SUCCESS:
            self._pamt_put(page)
        elif pair:
            self.pamt_cache -= pair
            self.pamt_refcount[self._region(pfn)] = self.kvm.geometry.entries
        return self._errno(status)

    def _remove(self, event: External) -> int:
        """BLOCK, TRACK, REMOVE and WBINVD, as long as the TD has its HKID."""
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        if module.torn_down:
            return self._kvm_bug(-EINVAL)
        status = self._once_blocked(event, partial(module.mem_page_remove, event.gfn, event.level))
        if status == TDX_SUCCESS:
            module.phymem_page_wbinvd(pfn, event.level)
            if event.level == PG_LEVEL_4K:
                self._pamt_put(pfn)
        return self._errno(status)

    def _free(self, event: External) -> int:
        """The page of an S-EPT table comes back, once the HKID is gone."""
        page = self.external_spt.get(spte_to_pfn(event.old_spte))
        if page is None:
            return 0
        if not self.module.torn_down:
            return self._kvm_bug(-EINVAL)
        status = self.module.phymem_page_reclaim(page)
        if status == TDX_SUCCESS:
            del self.external_spt[spte_to_pfn(event.old_spte)]
            self._pamt_put(page)
        return self._errno(status)

    def _errno(self, status: int) -> int:
        return 0 if status == TDX_SUCCESS else self._kvm_bug(-EIO)

    def _kvm_bug(self, errno: int) -> int:
        self.kvm_vm_dead()
        return errno

    def kvm_vm_dead(self) -> None:
        """The VM is killed: its vCPUs leave and run no more."""
        self.dead = True
        self._vcpus_out()

    # ---- tracking --------------------------------------------------------------------------------------

    def _once_blocked(self, event: External, seamcall: Callable[[], int]) -> int:
        """`seamcall`, after the leaf of `event` was blocked and no TLB can hold it (kernel-facts 8.7)."""
        block = partial(self.module.mem_range_block, event.gfn, event.level)
        status = self._do_no_vcpus(block)
        if status != TDX_SUCCESS:
            return status
        self.tdx_track()
        return self._do_no_vcpus(seamcall)

    def tdx_track(self) -> None:
        """A new TLB epoch, then every vCPU out of the TD and in again (source: tdx_track, tdx.c)."""
        self._do_no_vcpus(self.module.mem_track)
        self.kick_vcpus()

    def kick_vcpus(self) -> None:
        """Force the vCPUs out of the TD; they enter again, with empty TLBs."""
        self._vcpus_in(self._vcpus_out())

    def _vcpus_out(self) -> list[int]:
        """Every vCPU leaves; those that were inside."""
        inside = sorted(self.module.vcpus_inside)
        for vcpu in inside:
            self.module.vp_exit(vcpu)
        return inside

    def _vcpus_in(self, vcpus: list[int]) -> None:
        for vcpu in vcpus:
            self.module.vp_enter(vcpu)

    def _do_no_vcpus(self, seamcall: Callable[[], int]) -> int:
        """A SEAMCALL that finds the module busy is made again with all vCPUs kept out (tdh_do_no_vcpus)."""
        status = seamcall()
        if status in (TDX_OPERAND_BUSY, TDX_PREVIOUS_TLB_EPOCH_BUSY):
            inside = self._vcpus_out()
            status = seamcall()
            self._vcpus_in(inside)
        return status

    # ---- the end ---------------------------------------------------------------------------------------

    def destroy(self) -> Coroutine[None]:
        """The TD ends: its pages are removed, the HKID is freed, then tables and roots go.

        In this order, since REMOVE needs the HKID, and an S-EPT page comes back only without it. In 6.16 the
        pages go when guest_memfd is closed, which the VM waits for. Takes the write lock. Raises
        InvalidValueError, with nothing changed, while a vCPU is inside and for a TD that has ended; KvmBug
        where the S-EPT is out of step (the VM is dead).
        """
        inside = sorted(self.module.vcpus_inside)
        if inside or self.module.torn_down:
            why = f"vCPU {inside[0]} is inside" if inside else "this one has ended"
            raise InvalidValueError(f"a TD ends once, when all vCPUs have left; {why}")
        return self._destroy()

    def _destroy(self) -> Coroutine[None]:
        kvm = self.kvm
        everything = KvmGfnRange(kvm.slot, 0, kvm.max_gfn_exclusive, KVM_FILTER_PRIVATE)
        yield Lock(False)
        yield from kvm_tdp_mmu_unmap_gfn_range(kvm, everything)
        self.module.teardown()
        kvm_tdp_mmu_invalidate_roots(kvm, KVM_VALID_ROOTS)
        kvm_mmu_unload(kvm)
        yield from kvm_tdp_mmu_zap_invalidated_roots(kvm)
        yield Unlock(False, "done")
        for rows in kvm.page_caches.values():
            for row in rows:
                kvm.pool.free(row)
                self.external_spt.pop(row, None)
            rows.clear()
        self.pamt_cache = 0


class TdxWorld(World):
    """A kind world with a TDX side: hooks call the module, mirror tables have their S-EPT pages."""

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__()
        self.tdx = tdx

    def alloc_table(self, event: AllocTable) -> int | None:
        """A row, and for a mirror table all that goes with it; or None."""
        if not self.tdx.pages.grants("page table"):
            return None
        row = event.pool.alloc()
        if event.is_mirror and not self.tdx.alloc_external(row):
            event.pool.free(row)
            self.tdx.external_spt.pop(row, None)
            return None
        return row

    def free_table(self, event: FreeTable) -> None:
        """The S-EPT page of a table that was never linked goes with it."""
        self.tdx.external_spt.pop(event.row, None)

    def external(self, event: External) -> int:
        """The hook's errno."""
        return self.tdx.external(event)
