"""A TD with both its sides, KVM's and the module's, and what must hold of them together.

Host frames: private memory from PRIVATE_PFN on, shared from SHARED_PFN, S-EPT pages from SEPT_PFN.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from tdpkit.engine.conversion import KVM_MEMORY_ATTRIBUTE_PRIVATE, kvm_vm_set_mem_attributes
from tdpkit.engine.events import Coroutine, Event, Lock, Unlock, Visit
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KVM_X86_TDX_VM, Kvm, KvmGfnRange, KvmMemorySlot
from tdpkit.engine.mmu import kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.tdx.guest import td_accept, td_access
from tdpkit.tdx.kvm_tdx import HostPages, KvmTdx, TdxWorld
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute
from tests.oracles.tds import TOY, entries
from tests.oracles.vms import PRIVATE, Gmem
from tests.oracles.worlds import Lockdep, run

PRIVATE_PFN, SHARED_PFN, SEPT_PFN = 1 << 12, 1 << 13, 1 << 14


class Checked(TdxWorld):
    """Whenever mmu_lock is let go, both sides agree (kernel-facts 12.1, 7). Keeps events, but no visits;
    `watch` sees each before it is answered.
    """

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__(tdx)
        self.events: list[Event] = []
        self.left = 20_000
        self.watch: Callable[[Event], None] = lambda event: None

    def answer(self, event: Event) -> Any:
        self.left -= 1
        assert self.left, "the call does not end"
        self.watch(event)
        if not isinstance(event, Visit):
            self.events.append(event)
        if isinstance(event, Unlock) and not self.tdx.module.torn_down:
            check_in_step(self.tdx)
        return super().answer(event)


class WholeTd:
    """A TD of `frames` private frames in one slot, vCPUs inside, nothing mapped.

    folio_level: of its private memory; host_level: of the shared memory behind it; make: the module.
    """

    def __init__(
        self,
        geometry: Geometry = TOY,
        frames: int = 32,
        *,
        vcpus: int = 1,
        folio_level: int = 2,
        host_level: int = 2,
        sept_pfn: int = SEPT_PFN,
        make: Callable[..., TdxModule] = TdxModule,
        **options: bool,
    ) -> None:
        gmem = Gmem({index: (PRIVATE_PFN + index, folio_level) for index in range(frames)})
        slot = KvmMemorySlot(0, frames, host_pfn=SHARED_PFN, host_level=host_level, gmem=gmem)
        pool = PageTablePool(geometry, capacity=1, shuffle=3)
        self.gmem = gmem
        self.kvm = Kvm(KVM_X86_TDX_VM, geometry, pool=pool, memslots=[slot])
        self.module = make(geometry, capacity=1, shuffle=4, **options)
        self.pages = HostPages(sept_pfn)
        self.tdx = KvmTdx(self.kvm, self.module, pages=self.pages)
        self.world = Checked(self.tdx)
        self.run(kvm_vm_set_mem_attributes(self.kvm, 0, frames, KVM_MEMORY_ATTRIBUTE_PRIVATE))
        for vcpu in range(vcpus):
            self.module.vp_enter(vcpu)
        self.forget()

    def run(self, coroutine: Coroutine) -> Any:
        """Lockdep looks on."""
        return run(coroutine, Lockdep(inner=self.world))

    def locked(self, coroutine: Coroutine) -> Any:
        """With the write lock held around it, and SRCU."""

        def under_lock() -> Coroutine:
            yield Lock(False)
            with self.kvm.srcu:
                ret = yield from coroutine
            yield Unlock(False, "done")
            return ret

        return self.run(under_lock())

    def touch(self, gfn: int, vcpu: int = 0) -> Any:
        return self.run(td_access(self.tdx, vcpu, gfn))

    def accept(self, gfn: int, level: int, vcpu: int = 0, **how: Any) -> Any:
        return self.run(td_accept(self.tdx, vcpu, gfn, level, **how))

    def unmap(self, start: int, end: int) -> Any:
        return self.locked(kvm_tdp_mmu_unmap_gfn_range(self.kvm, self.range(start, end)))

    def range(self, start: int, end: int) -> KvmGfnRange:
        return KvmGfnRange(self.kvm.slot, start, end, PRIVATE)

    def forget(self) -> None:
        self.module.log.clear()
        self.world.events.clear()
        self.pages.requests.clear()

    def refuse(self, k: int) -> None:
        """The k-th request for host memory from now on; none for 0."""
        at = len(self.pages.requests) + k if k else 0
        self.pages.refuse = lambda number, what: number == at

    @property
    def calls(self) -> list[str]:
        """The log, in short: MEM.TRACK() = SUCCESS."""
        return [repr(call).removeprefix("TDH.").replace("TDX_", "") for call in self.module.log]

    @property
    def leaves(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(gfn, level) -> (pfn, state) in the S-EPT."""
        return entries(self.module)

    @property
    def mirror(self) -> list:
        return brute.read(self.kvm.mirror_root)


def rows(root: TdpMmuRoot) -> dict[tuple[int, int], int]:
    """(gfn, level) of every entry that links to a table -> the table's row."""
    found = {}

    def below(row: int, level: int, base: int) -> None:
        for index, raw in enumerate(root.pool.table(row)):
            if raw & brute.PRESENT and not raw & brute.LARGE and level > 1:
                at = base + index * brute.pages(root.geometry, level)
                found[at, level] = (raw & brute.FRAME) >> 12
                below(found[at, level], level - 1, at)

    below(root.row, root.geometry.root_level, 0)
    return found


def leaves(root: TdpMmuRoot) -> dict[tuple[int, int], int]:
    """(gfn, level) -> pfn of every leaf."""
    return {
        (gfn, level): (raw & brute.FRAME) >> 12
        for gfn, level, raw in brute.leaves(root.geometry, brute.read(root))
    }


def check_in_step(tdx: KvmTdx) -> None:
    """Same leaves, same tables, each in the page that KVM gave for it; PAMT counts are those of a recount."""
    kvm, module = tdx.kvm, tdx.module
    assert leaves(kvm.mirror_root) == {at: pfn for at, (pfn, _) in entries(module).items()}
    mirror, sept = rows(kvm.mirror_root), rows(module.sept)
    assert mirror.keys() == sept.keys()
    assert {at: tdx.external_spt[row] for at, row in mirror.items()} == {
        at: module.sept_page[row] for at, row in sept.items()
    }
    assert len(module.sept_page) == len(sept)
    check_pamt(tdx)


def check_pages(td: WholeTd) -> None:
    """Between two calls: each row and each S-EPT page is in a tree or kept for the next fault."""
    kvm = td.kvm
    kept = kvm.page_caches[True]
    assert sorted(td.tdx.external_spt) == sorted([*rows(kvm.mirror_root).values(), *kept])
    assert len(set(td.tdx.external_spt.values())) == len(td.tdx.external_spt)
    in_trees = sum(1 + len(rows(root)) for root in kvm.tdp_mmu_roots)
    assert kvm.pool.rows_in_use == in_trees + len(kept) + len(kvm.page_caches[False])
    assert td.module.sept.pool.rows_in_use == 1 + len(rows(td.module.sept))
    assert [root.tdp_mmu_root_count for root in kvm.tdp_mmu_roots] == [2, 2]
    check_pamt(td.tdx)


def check_pamt(tdx: KvmTdx) -> None:
    """Each 4K page that the module holds counts in its region, and regions that count have their pair."""
    module = tdx.module
    size = brute.pages(module.geometry, 2)
    small = [pfn for (_, level), (pfn, _) in entries(module).items() if level == 1]
    found = Counter(pfn - pfn % size for pfn in (*small, *module.sept_page.values()))
    if not module.dynamic_pamt:
        found.clear()
    assert tdx.pamt_refcount == found
    assert module.pamt_pairs == found.keys()
    assert tdx.pamt_cache >= 0
