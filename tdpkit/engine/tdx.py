"""KVM's TDX side: the external table follows the mirror.

KVM keeps a TD's private half in the mirror root and passes each change on by hooks, which call the TDX
module: link (SEPT.ADD), set (PAGE.AUG), split (BLOCK, TRACK, kick, DEMOTE), remove (BLOCK, TRACK, kick,
REMOVE, WBINVD) and free (RECLAIM, at teardown). A hook answers the engine's `External` event:
:class:`TdxWorld` is a world in which it does. Sources: tdx.c of 6.16 and of the v3 series; kernel-facts 8.

Left out: building the TD (PAGE.ADD), the shared half's TLB, interrupted SEAMCALLs, device passthrough.
"""

from __future__ import annotations

from collections.abc import Callable

from .events import (
    EBUSY,
    EIO,
    EOPNOTSUPP,
    AllocTable,
    Coroutine,
    External,
    FreeTable,
    World,
)
from .gfn import PG_LEVEL_2M, PG_LEVEL_4K, InvalidValueError, name_gfn
from .kvm import Kvm
from .roots import (
    KVM_VALID_ROOTS,
    kvm_mmu_unload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from .spte import spte_to_pfn
from .tdx_abi import PAMT_ENTRY_PAGES, TDX_OPERAND_BUSY, TDX_PREVIOUS_TLB_EPOCH_BUSY, TDX_SUCCESS
from .tdx_module import TdxModule

TDX_MIN_SPLIT_CACHE_SZ = 2 * PAMT_ENTRY_PAGES
"""PAMT pages in hand before a split: a pair for the region of the new S-EPT page, one for the guest's
(tdx_min_split_cache_sz; kernel-facts C30)."""


class HostPages:
    """The host's page allocator as the TDX side sees it: 4K pages from frame `first_pfn` on.

    refuse: asked at each request, with its number (from 1) and what the page is for; True refuses it.
    """

    def __init__(
        self, first_pfn: int, refuse: Callable[[int, str], bool] = lambda number, what: False
    ) -> None:
        self.next_pfn = first_pfn
        self.refuse = refuse
        self.requests: list[str] = []
        """What each request was for, in order: "page table", "S-EPT page" or "PAMT pages"."""

    def grants(self, what: str) -> bool:
        """One request, for memory that the model counts and does not place."""
        self.requests.append(what)
        return not self.refuse(len(self.requests), what)

    def alloc(self, what: str) -> int | None:
        """One request for a page: its host frame, or None."""
        if not self.grants(what):
            return None
        self.next_pfn += 1
        return self.next_pfn - 1


class KvmTdx:
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
        self.kvm = kvm
        self.module = module
        self.pages = pages or HostPages(1 << 36)
        self.external_spt: dict[int, int] = {}
        """sp->external_spt: row of a mirror table -> host frame of the page for the S-EPT."""
        self.pamt_refcount: dict[int, int] = {}
        """4K pages of the TD in each 2M region of host memory, by the region's first frame."""
        self.pamt_cache = 0
        """PAMT pages in hand."""
        self.dead = False
        """kvm_vm_dead: the VM was killed."""

    # ---- pages -----------------------------------------------------------------------------------------

    def alloc_external(self, row: int) -> bool:
        """The S-EPT page beside the mirror table in `row`, and with Dynamic PAMT the pages in hand that a
        split may need; False if a request is refused.
        """
        page = self.pages.alloc("S-EPT page")
        if page is None:
            return False
        self.external_spt[row] = page
        return self.topup_pamt_cache(TDX_MIN_SPLIT_CACHE_SZ)

    def topup_pamt_cache(self, pages: int) -> bool:
        """Bring the PAMT pages in hand to `pages` at least, where the module has Dynamic PAMT."""
        if self.module.dynamic_pamt and self.pamt_cache < pages:
            if not self.pages.grants("PAMT pages"):
                return False
            self.pamt_cache = pages
        return True

    def _region(self, pfn: int) -> int:
        return self.kvm.geometry.gfn_round_for_level(pfn, PG_LEVEL_2M)

    def _pamt_get(self, pfn: int) -> bool:
        """One 4K page more in its region; the first one brings the pair. False: no pages in hand."""
        if not self.module.dynamic_pamt:
            return True
        region = self._region(pfn)
        if not self.pamt_refcount.get(region):
            if self.pamt_cache < PAMT_ENTRY_PAGES:
                return False
            self.pamt_cache -= PAMT_ENTRY_PAGES
            self.module.phymem_pamt_add(pfn)
        self.pamt_refcount[region] = self.pamt_refcount.get(region, 0) + 1
        return True

    def _pamt_put(self, pfn: int) -> None:
        """One 4K page less; the last one of a region gives the pair back."""
        if self.module.dynamic_pamt:
            region = self._region(pfn)
            self.pamt_refcount[region] -= 1
            if not self.pamt_refcount[region]:
                del self.pamt_refcount[region]
                self.module.phymem_pamt_remove(pfn)

    # ---- the hooks -------------------------------------------------------------------------------------

    def external(self, event: External) -> int:
        """Let the external table follow the change of a mirror entry: 0 or a negative errno.

        -EBUSY: the module was busy, try again; -EOPNOTSUPP: a split under the read lock; -EIO: what the
        module should never answer. Source: kernel-facts 8.2, 8.17.
        """
        hooks = {"link": self._link, "set": self._set, "split": self._split, "remove": self._remove}
        return hooks.get(event.op, self._free)(event)

    def _link(self, event: External) -> int:
        page = self.external_spt[spte_to_pfn(event.new_spte)]
        if not self._pamt_get(page):
            return -EIO
        errno = _errno(self.module.mem_sept_add(event.gfn, event.level, page))
        if errno:
            self._pamt_put(page)
        return errno

    def _set(self, event: External) -> int:
        pfn, small = spte_to_pfn(event.new_spte), event.level == PG_LEVEL_4K
        if small and not self._pamt_get(pfn):
            return -EIO
        errno = _errno(self.module.mem_page_aug(event.gfn, event.level, pfn))
        if errno and small:
            self._pamt_put(pfn)
        return errno

    def _split(self, event: External) -> int:
        """BLOCK, TRACK and DEMOTE; only 2M, only under the write lock (kernel-facts 8.8, 8.17)."""
        if event.shared:
            return -EOPNOTSUPP
        if event.level != PG_LEVEL_2M:
            return -EIO
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        page = self.external_spt[spte_to_pfn(event.new_spte)]
        pair = PAMT_ENTRY_PAGES if module.dynamic_pamt else 0
        if self.pamt_cache < 2 * pair or not self._pamt_get(page):
            return -EIO
        status = self._do_no_vcpus(lambda: module.mem_range_block(event.gfn, event.level))
        if status == TDX_SUCCESS:
            self.tdx_track()
            status = self._do_no_vcpus(lambda: module.mem_page_demote(event.gfn, event.level, page, pair))
        if status == TDX_SUCCESS and pair:
            self.pamt_cache -= pair
            self.pamt_refcount[self._region(pfn)] = self.kvm.geometry.entries
        return _errno(status)

    def _remove(self, event: External) -> int:
        """BLOCK, TRACK, REMOVE and WBINVD; of a TD that is torn down, RECLAIM alone."""
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        if module.torn_down:
            status = module.phymem_page_reclaim(pfn)
        else:
            status = self._do_no_vcpus(lambda: module.mem_range_block(event.gfn, event.level))
            if status == TDX_SUCCESS:
                self.tdx_track()
                status = self._do_no_vcpus(lambda: module.mem_page_remove(event.gfn, event.level))
        if status == TDX_SUCCESS:
            module.phymem_page_wbinvd(pfn, event.level)
            if event.level == PG_LEVEL_4K:
                self._pamt_put(pfn)
        return _errno(status)

    def _free(self, event: External) -> int:
        """The page of an S-EPT table comes back, once the TD is torn down."""
        page = self.external_spt.get(spte_to_pfn(event.old_spte))
        if page is None:
            return 0
        status = self.module.phymem_page_reclaim(page)
        if status == TDX_SUCCESS:
            del self.external_spt[spte_to_pfn(event.old_spte)]
            self._pamt_put(page)
        return _errno(status)

    # ---- tracking --------------------------------------------------------------------------------------

    def tdx_track(self) -> None:
        """A new TLB epoch, then every vCPU out of the TD and in again (source: tdx_track, tdx.c)."""
        self._do_no_vcpus(self.module.mem_track)
        self.kick_vcpus()

    def kick_vcpus(self) -> None:
        """Force the vCPUs out of the TD; they enter again, with empty TLBs."""
        inside = sorted(self.module.vcpus_inside)
        for vcpu in inside:
            self.module.vp_exit(vcpu)
        for vcpu in inside:
            self.module.vp_enter(vcpu)

    def _do_no_vcpus(self, seamcall: Callable[[], int]) -> int:
        """A SEAMCALL that finds the module busy is made again with all vCPUs kept out (tdh_do_no_vcpus)."""
        status = seamcall()
        if status in (TDX_OPERAND_BUSY, TDX_PREVIOUS_TLB_EPOCH_BUSY):
            inside = sorted(self.module.vcpus_inside)
            for vcpu in inside:
                self.module.vp_exit(vcpu)
            status = seamcall()
            for vcpu in inside:
                self.module.vp_enter(vcpu)
        return status

    # ---- the end ---------------------------------------------------------------------------------------

    def destroy(self) -> Coroutine[None]:
        """The TD is torn down and all its memory comes back: the HKID first, then the roots.

        Raises InvalidValueError while a vCPU is inside.
        """
        self.module.teardown()
        kvm_tdp_mmu_invalidate_roots(self.kvm, KVM_VALID_ROOTS)
        kvm_mmu_unload(self.kvm)
        return kvm_tdp_mmu_zap_invalidated_roots(self.kvm)


def _errno(status: int) -> int:
    if status == TDX_SUCCESS:
        return 0
    return -EBUSY if status == TDX_OPERAND_BUSY else -EIO


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
