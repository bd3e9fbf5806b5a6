"""KVM's TDX side: it keeps the external table in step with the mirror, and answers the guest's exits.

KVM keeps a TD's private half in the mirror root and passes each change on by a hook, which calls the TDX
module: link (SEPT.ADD), set (PAGE.AUG), split (BLOCK, TRACK, kick, DEMOTE), remove (BLOCK, TRACK, kick,
REMOVE, WBINVD) and free (RECLAIM, after the HKID is freed). In a :class:`TdxWorld` these hooks answer the
engine's `External` events.

The TDX side allocates host memory (a page for each S-EPT table, pages for Dynamic PAMT) with mmu_lock
dropped, and counts it. It keeps Dynamic PAMT pages in caches, since it cannot allocate under mmu_lock:
:data:`PAMT_DESIGNS` says whose and when. At an exit for a private address KVM first honours the level that
the guest accepts: if it mapped 2M and the guest accepts 4K, KVM splits the leaf and never maps that block so
large again.

Left out: building the TD (PAGE.ADD), the shared half's TLB, interrupted SEAMCALLs, device passthrough.
Nothing recorded backs this side (S251). Sources: tdx.c of 6.16 and of the v3 series; S160-S178.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple, TypeVar

from tdpkit.engine.events import (
    EBUSY,
    EINVAL,
    EIO,
    ENOMEM,
    EOPNOTSUPP,
    AllocTable,
    Coroutine,
    External,
    FreeTable,
    KvmBugOn,
    Lock,
    NeedTopup,
    Topup,
    Unlock,
    World,
)
from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, InvalidValueError, name_gfn
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_VALID_ROOTS, Kvm, KvmGfnRange
from tdpkit.engine.mmu import (
    KVM_LPAGE_GUEST_INHIBIT_FLAG,
    hugepage_test_guest_inhibit,
    kvm_tdp_mmu_unmap_gfn_range,
    set_disallow_lpage,
)
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import (
    kvm_mmu_unload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.engine.splits import AcceptSplit, accept_split_mirrors
from tdpkit.engine.spte import spte_to_pfn

from .abi import PAMT_ENTRY_PAGES, TDX_OPERAND_BUSY, TDX_SUCCESS, EptViolation
from .module import TdxModule

T = TypeVar("T")

TDX_MIN_SPLIT_CACHE_SZ = 2 * PAMT_ENTRY_PAGES
"""PAMT pages needed in hand before a split: a pair for the region of the new S-EPT page, a pair for the
guest's (tdx_min_split_cache_sz; S134)."""


class PamtDesign(NamedTuple):
    """Where Dynamic PAMT pages for a split are kept, and when they are topped up (S179)."""

    splits_by_vm: bool
    """A split takes them from the VM's cache; else from the cache of the vCPU that runs it, if one does."""
    own_drop: bool
    """A split tops its cache up in a lock drop of its own, after that of its page table; else in the latter.

    R2 brings its two pairs apart, one with the S-EPT page and one for the cache; here they are one request.
    """


PAMT_DESIGNS = {"v3": PamtDesign(True, True), "R2": PamtDesign(False, False)}
"""By name. In both, faults take them from the cache of their vCPU."""


class HostPages:
    """The host's page allocator for the TDX side: 4K pages from frame `first_pfn` on.

    refuse: called at each request with its number (from 1) and its purpose; True refuses the request.
    """

    def __init__(
        self, first_pfn: int, refuse: Callable[[int, str], bool] = lambda number, what: False
    ) -> None:
        self.next_pfn = first_pfn
        self.refuse = refuse
        self.requests: list[str] = []
        """The purpose of each request, in order: "page table", "S-EPT page" or "PAMT pages"."""
        self.granted = Counter[str]()
        """Pages granted so far, by purpose."""

    def grants(self, what: str, pages: int = 1) -> bool:
        """Request memory that the model counts but does not place; False if refused."""
        self.requests.append(what)
        if self.refuse(len(self.requests), what):
            return False
        self.granted[what] += pages
        return True

    def alloc(self, what: str) -> int | None:
        """Request a page: its host frame, or None if refused."""
        if not self.grants(what):
            return None
        self.next_pfn += 1
        return self.next_pfn - 1


class KvmTdx:
    """struct kvm_tdx: keeps a TD's `kvm` and the `module` behind it in step.

    pages: allocates S-EPT and PAMT pages, by default frames above any guest memory; pamt: of PAMT_DESIGNS.
    Raises InvalidValueError for another VM than a TD, a module of another shape, or an unknown design.
    """

    def __init__(
        self,
        kvm: Kvm,
        module: TdxModule,
        *,
        pages: HostPages | None = None,
        pamt: str = "v3",
    ) -> None:
        if not kvm.has_mirrored_tdp:
            raise InvalidValueError(f"the TDX side serves a TD; this is a {kvm.kind}")
        if (module.geometry, module.gfn_direct_bits) != (kvm.geometry, kvm.gfn_direct_bits):
            raise InvalidValueError(
                f"a TD's module has its geometry and shared bit, {kvm.geometry} and "
                f"{name_gfn(kvm.gfn_direct_bits)}; this one has {module.geometry} and "
                f"{name_gfn(module.gfn_direct_bits)}"
            )
        if pamt not in PAMT_DESIGNS:
            raise InvalidValueError(f"a PAMT design is {' or '.join(PAMT_DESIGNS)}; {pamt!r} is neither")
        self.kvm = kvm
        self.module = module
        self.pamt_design = PAMT_DESIGNS[pamt]
        self.pages = pages or HostPages(1 << 36)
        self.external_spt: dict[int, int] = {}
        """sp->external_spt: row of a mirror table -> host frame of its S-EPT page."""
        self.pamt_refcount: dict[int, int] = {}
        """4K pages of the TD in each 2M region of host memory, by the region's first frame."""
        self.pamt_caches: dict[int | None, int] = {}
        """PAMT pages in hand: vCPU -> those of its own cache; None -> those of the VM's."""
        self.dead = False
        """Whether kvm_vm_dead() killed the VM."""

    # ---- the hooks -------------------------------------------------------------------------------------

    def external(self, event: External) -> int:
        """Let the external table follow the change of a mirror entry: return 0 or a negative errno.

        -EBUSY: the module was busy during a link or set, and the fault retries. -EOPNOTSUPP: a split under
        the read lock (v3 09/24). The others kill the VM, leave PAMT counts as they were and at most one leaf
        of the S-EPT blocked: -EIO for missing PAMT pages, a split above the VM's largest leaf, or a status
        that the module should never return (a second BUSY with all vCPUs out included); -EINVAL for a leaf
        removed without an HKID, or a table freed with one. Source: S161, S168, S175; tdx.c of 6.16.
        """
        hooks = {"link": self._link, "set": self._set, "split": self._split, "remove": self._remove}
        return hooks.get(event.op, self._free)(event)

    def _link(self, event: External) -> int:
        page = self.external_spt[spte_to_pfn(event.new_spte)]
        if not self._pamt_get(page, event.vcpu):
            return self._kvm_bug(-EIO)
        status = self.module.mem_sept_add(event.gfn, event.level, page)
        if status != TDX_SUCCESS:
            self._pamt_put(page)
        return -EBUSY if status == TDX_OPERAND_BUSY else self._errno(status)

    def _set(self, event: External) -> int:
        pfn, small = spte_to_pfn(event.new_spte), event.level == PG_LEVEL_4K
        if small and not self._pamt_get(pfn, event.vcpu):
            return self._kvm_bug(-EIO)
        status = self.module.mem_page_aug(event.gfn, event.level, pfn)
        if status != TDX_SUCCESS and small:
            self._pamt_put(pfn)
        return -EBUSY if status == TDX_OPERAND_BUSY else self._errno(status)

    def _split(self, event: External) -> int:
        """BLOCK, TRACK and DEMOTE a 2M leaf, under the write lock only (S168, S175)."""
        if event.shared:
            return -EOPNOTSUPP
        if event.level > self.kvm.max_leaf_level:
            return self._kvm_bug(-EIO)
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        page, cache = self.external_spt[spte_to_pfn(event.new_spte)], self._split_cache(event.vcpu)
        # DEMOTE takes a pair where the children are of 4K, and the page of their table may need one too.
        pair = PAMT_ENTRY_PAGES if module.dynamic_pamt and event.level == PG_LEVEL_2M else 0
        if self.pamt_caches.get(cache, 0) < self._pair_for(page) + pair or not self._pamt_get(page, cache):
            return self._kvm_bug(-EIO)
        demote = partial(module.mem_page_demote, event.gfn, event.level, page, pair)
        status = self._once_blocked(event, demote)
        if status != TDX_SUCCESS:
            self._pamt_put(page)
        elif pair:
            self.pamt_caches[cache] -= pair
            self.pamt_refcount[self._region(pfn)] = self.kvm.geometry.entries
        return self._errno(status)

    def _remove(self, event: External) -> int:
        """BLOCK, TRACK and REMOVE a leaf, then WBINVD each 4K page, while the TD has its HKID (S161)."""
        module, pfn = self.module, spte_to_pfn(event.old_spte)
        if module.torn_down:
            return self._kvm_bug(-EINVAL)
        status = self._once_blocked(event, partial(module.mem_page_remove, event.gfn, event.level))
        if status == TDX_SUCCESS:
            pages = range(pfn, pfn + module.geometry.pages(event.level))
            status = next(filter(None, map(module.phymem_page_wbinvd, pages)), TDX_SUCCESS)
            if event.level == PG_LEVEL_4K:
                self._pamt_put(pfn)
        return self._errno(status)

    def _free(self, event: External) -> int:
        """Reclaim the page of an S-EPT table, after the HKID was freed."""
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
        """Kill the VM: its vCPUs leave and never run again."""
        self.dead = True
        self._vcpus_out()

    # ---- tracking --------------------------------------------------------------------------------------

    def _once_blocked(self, event: External, seamcall: Callable[[], int]) -> int:
        """Block the leaf of `event`, track it out of all TLBs, then make `seamcall` (S167)."""
        block = partial(self.module.mem_range_block, event.gfn, event.level)
        status = self._do_no_vcpus(block)
        if status != TDX_SUCCESS:
            return status
        status = self.tdx_track()
        return status or self._do_no_vcpus(seamcall)

    def tdx_track(self) -> int:
        """Begin a TLB epoch, then kick every vCPU out of the TD and in again; return TRACK's status.

        A TRACK that fails is a KVM_BUG, PREVIOUS_TLB_EPOCH_BUSY included (S168): the vCPUs leave for good.
        The kernel's function returns nothing and goes on; here the status stops the caller. Source:
        tdx_track, tdx.c.
        """
        status = self._do_no_vcpus(self.module.mem_track)
        if status != TDX_SUCCESS:
            self.kvm_vm_dead()
        else:
            self.kick_vcpus()
        return status

    def kick_vcpus(self) -> None:
        """Force the vCPUs out of the TD and let them enter again; after a TRACK with empty TLBs."""
        self._vcpus_in(self._vcpus_out())

    def _vcpus_out(self) -> list[int]:
        """Make every vCPU leave; return those that were inside."""
        inside = sorted(self.module.vcpus_inside)
        for vcpu in inside:
            self.module.vp_exit(vcpu)
        return inside

    def _vcpus_in(self, vcpus: list[int]) -> None:
        for vcpu in vcpus:
            self.module.vp_enter(vcpu)

    def _do_no_vcpus(self, seamcall: Callable[[], int]) -> int:
        """Make a SEAMCALL, and again with all vCPUs kept out if an operand was busy (tdh_do_no_vcpus)."""
        status = seamcall()
        if status == TDX_OPERAND_BUSY:
            inside = self._vcpus_out()
            status = seamcall()
            self._vcpus_in(inside)
        return status

    # ---- host memory ---------------------------------------------------------------------------------------

    def alloc_external(self, row: int, vcpu: int | None = None) -> bool:
        """Allocate the S-EPT page for the mirror table in `row`; False if a request is refused.

        In the design of R2 the cache that a split takes from is topped up in the same breath.
        """
        page = self.pages.alloc("S-EPT page")
        if page is None:
            return False
        self.external_spt[row] = page
        if self.pamt_design.own_drop:
            return True
        return self.topup_pamt_cache(TDX_MIN_SPLIT_CACHE_SZ, self._split_cache(vcpu))

    def need_topup(self) -> bool:
        """Whether the VM's cache lacks pages for a split; never in a design without a drop for it (S179)."""
        return (
            self.module.dynamic_pamt
            and self.pamt_design.own_drop
            and self.pamt_caches.get(None, 0) < TDX_MIN_SPLIT_CACHE_SZ
        )

    def topup_pamt_cache(self, pages: int, cache: int | None = None) -> bool:
        """With Dynamic PAMT, fill a cache (a vCPU's, or None: the VM's) to `pages`; False if refused."""
        missing = pages - self.pamt_caches.get(cache, 0)
        if self.module.dynamic_pamt and missing > 0:
            if not self.pages.grants("PAMT pages", missing):
                return False
            self.pamt_caches[cache] = pages
        return True

    def _split_cache(self, vcpu: int | None) -> int | None:
        return None if self.pamt_design.splits_by_vm else vcpu

    def _region(self, pfn: int) -> int:
        return self.module.geometry.gfn_round_for_level(pfn, PG_LEVEL_2M)

    def _pair_for(self, pfn: int) -> int:
        """PAMT pages that the module needs before it can use the 4K page at `pfn`."""
        covered = not self.module.dynamic_pamt or self.pamt_refcount.get(self._region(pfn))
        return 0 if covered else PAMT_ENTRY_PAGES

    def _pamt_get(self, pfn: int, cache: int | None) -> bool:
        """Count a 4K page in its region; the first one adds the pair, from `cache`. False if that fails."""
        if not self.module.dynamic_pamt:
            return True
        region, pages = self._region(pfn), self._pair_for(pfn)
        if pages:
            if self.pamt_caches.get(cache, 0) < pages or self.module.phymem_pamt_add(pfn) != TDX_SUCCESS:
                return False
            self.pamt_caches[cache] -= pages
        self.pamt_refcount[region] = self.pamt_refcount.get(region, 0) + 1
        return True

    def _pamt_put(self, pfn: int) -> None:
        """Stop counting a 4K page; the last one of a region returns the pair to the host, else a KVM_BUG."""
        if self.module.dynamic_pamt:
            region = self._region(pfn)
            self.pamt_refcount[region] -= 1
            if not self.pamt_refcount[region]:
                del self.pamt_refcount[region]
                if self.module.phymem_pamt_remove(pfn) != TDX_SUCCESS:
                    self.kvm_vm_dead()

    # ---- the end ---------------------------------------------------------------------------------------

    def destroy(self) -> Coroutine[None]:
        """End the TD: remove its pages, free the HKID, then free tables and roots.

        The order matters: REMOVE needs the HKID, and an S-EPT page can be reclaimed only without it. In 6.16
        the pages go when guest_memfd is closed, and the VM waits for that. Takes the write lock. Raises
        InvalidValueError, with nothing changed, while a vCPU is inside and for a TD that has ended; KvmBug if
        the S-EPT is out of step (the VM is dead).
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
        self.free_caches()

    def free_caches(self) -> None:
        """Give back the pages that were kept for later: tables, with their S-EPT pages, and PAMT pages."""
        for rows in self.kvm.page_caches.values():
            for row in rows:
                self.kvm.pool.free(row)
                self.external_spt.pop(row, None)
            rows.clear()
        self.pamt_caches.clear()


class TdxWorld(World):
    """A kind world with a TDX side: hooks call the module, and mirror tables get their S-EPT pages."""

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__()
        self.tdx = tdx

    def alloc_table(self, event: AllocTable) -> int | None:
        """Allocate a row, and for a mirror table what the TDX side needs with it; None if any is refused."""
        if not self.tdx.pages.grants("page table"):
            return None
        row = event.pool.alloc()
        if event.is_mirror and not self.tdx.alloc_external(row, event.vcpu):
            event.pool.free(row)
            self.tdx.external_spt.pop(row, None)
            return None
        return row

    def free_table(self, event: FreeTable) -> None:
        """Free the S-EPT page of a table that was never linked."""
        self.tdx.external_spt.pop(event.row, None)

    def need_topup(self, event: NeedTopup) -> bool:
        """Whether the VM's cache lacks pages for a split."""
        return self.tdx.need_topup()

    def topup(self, event: Topup) -> bool:
        """Fill the VM's cache."""
        return self.tdx.topup_pamt_cache(TDX_MIN_SPLIT_CACHE_SZ)

    def external(self, event: External) -> int:
        """Call the hook for the change and return its errno."""
        return self.tdx.external(event)

    def kvm_bug_on(self, event: KvmBugOn) -> None:
        """Kill the VM."""
        self.tdx.kvm_vm_dead()


# ---- exits of the guest ----------------------------------------------------------------------------------


def tdx_honor_guest_accept_level(
    kvm: Kvm, gfn: int, level: int, split: AcceptSplit = accept_split_mirrors
) -> Coroutine[int]:
    """Split any leaf above `level` at `gfn`, then set the inhibit bit, so that none is mapped there again.

    It acts on an ACCEPT of 4K and, though the series maps no 1G leaf in a TD, of 2M. The bit, at each level
    above up to 1G, is read without the lock and never cleared. It is set after the split, so seeing it means
    the split is done. Takes the write lock; the caller's vCPU holds SRCU. Returns 0 or the value of `split`.
    Source: v3 13/24, v5 41; S173.
    """
    levels = range(level + 1, min(PG_LEVEL_1G, kvm.geometry.root_level) + 1)
    if not levels or not kvm.slot_of(gfn) or hugepage_test_guest_inhibit(kvm, gfn, levels[0]):
        return 0
    yield Lock(False)
    with kvm.srcu:
        ret = yield from split(kvm, gfn, level)
    if ret == 0:
        for above in levels:
            set_disallow_lpage(kvm, gfn, above, KVM_LPAGE_GUEST_INHIBIT_FLAG, True)
    yield Unlock(False, "done")
    return ret


def tdx_handle_ept_violation(
    tdx: KvmTdx, violation: EptViolation, split: AcceptSplit = accept_split_mirrors, *, vcpu: int = 0
) -> Coroutine[int]:
    """Handle an exit of a TD at a private address: 1 resumes the guest, a negative errno goes to userspace.

    Runs in the thread of `vcpu`. Honours the accept level, then maps the page. A touch of a PENDING page
    kills the VM with -EIO (S171). The kernel retries a private fault by itself; here the guest faults again,
    so that a reader sees it. Source: tdx_handle_ept_violation, tdx.c.
    """
    return on_vcpu(vcpu, _handle_ept_violation(tdx, violation, split, vcpu))


def _handle_ept_violation(
    tdx: KvmTdx, violation: EptViolation, split: AcceptSplit, vcpu: int
) -> Coroutine[int]:
    if violation.kind == "pending":
        tdx.kvm_vm_dead()
        return -EIO
    if violation.kind == "accept" and violation.level is not None:
        ret = yield from tdx_honor_guest_accept_level(tdx.kvm, violation.gfn, violation.level, split)
        if ret:
            return ret  # v3's 1 comes out here as "resume the guest"
    # At most a pair for each table on the way and one for the page.
    if not tdx.topup_pamt_cache(PAMT_ENTRY_PAGES * tdx.kvm.geometry.root_level, vcpu):
        return -ENOMEM
    ret = yield from kvm_tdp_mmu_page_fault(tdx.kvm, violation.gfn, is_private=True)
    return -EIO if tdx.dead else min(ret, 1)


def on_vcpu(vcpu: int, coroutine: Coroutine[T]) -> Coroutine[T]:
    """Run `coroutine` in the thread of `vcpu`: what it asks of the TDX side carries the vCPU's number."""
    answer = None
    with closing(coroutine):
        while True:
            try:
                event = coroutine.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if isinstance(event, AllocTable | External):
                event.vcpu = vcpu
            answer = yield event
