"""Whole guests to run things on: a TD or a plain VM with slots, files and visible bytes, and a world that
watches every event for what S239 says of steps.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tdpkit.engine import events
from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import AllocTable, Coroutine, Event, Flush, SetSpte, Unlock, Visit, World
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.guest_memfd import GuestMemfd
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.splits import RangeSplit, split_v3
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.tdx.guest import td_accept, td_access
from tdpkit.tdx.kvm_tdx import HostPages, KvmTdx, TdxWorld
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute, invariants
from tests.oracles.invariants import Ledger
from tests.oracles.vms import TOY
from tests.oracles.worlds import Lockdep

PRIVATE = 1 << 3  # KVM_MEMORY_ATTRIBUTE_PRIVATE, S196


class Watch(World):
    """Answers as `inner` does. Asks of each store whether the table it links is filled (1) and only a huge
    leaf is split (3), of each walk that it restarts at the root with its goal and gets on (6), and whenever
    mmu_lock is let go whether mirror and S-EPT agree (7). Keeps account of flushes: one is owed from a zap
    on until it comes.
    """

    def __init__(self, guest: "Guest", inner: World) -> None:
        super().__init__()
        self.guest = guest
        self.inner = inner
        self.hurry = 0
        """A reschedule is due at each visit whose number this divides; 0: never."""
        self.meddler: Callable[[], Any] | None = None
        """What another vCPU does when a walk lets go of the lock, after `patience` other times."""
        self.patience = 0
        self.said: list[Event] = []
        """Since the call began, or with `keeps` since they were last cleared."""
        self.keeps = False
        self.halves_stored: set[bool] = set()
        """is_mirror of each tree that the call stored to."""
        self.meddling = False
        self.each: Callable[[Event], None] = lambda event: None
        """Sees each event but visits, before it is answered."""
        self.quiet = False
        """Nobody looks at the trees when the lock is let go: a large guest is being laid out."""
        self.visits = 0
        self.left = 200_000
        self.owed = False
        """A leaf was zapped and not flushed since."""
        self.needless = 0
        """Flushes in this call when none was owed."""
        self._walk: object = None
        self._goal = -1
        self._restarts = False

    def begin(self) -> None:
        if not self.keeps:
            self.said.clear()
        self.halves_stored.clear()
        self.owed, self.needless = False, 0
        self._walk = None

    def of(self, kind: type[Event]) -> list:
        return [event for event in self.said if type(event) is kind]

    def answer(self, event: Event) -> Any:
        self.left -= 1
        assert self.left, "the call does not end"
        kind = type(event)
        if kind is Visit:
            return self._visit(event)
        self.said.append(event)
        self.each(event)
        if kind is SetSpte:
            self._store(event)
            self.owed |= event.new_spte == brute.HOLE and event.old_spte != brute.FROZEN
        elif kind is Flush:
            self.needless += not self.owed
            self.owed = False
        elif kind is Unlock and self.guest.tdx and not self.quiet:
            invariants.mirror_and_sept_agree(self.guest)
        answer = self.inner.answer(event)
        if kind is Unlock and event.reason != "done":
            self._restarts = True
            self.patience -= bool(self.meddler)
            if self.meddler and self.patience < 0:
                meddler, self.meddler = self.meddler, None
                self.meddling = True
                meddler()
                self.meddling = False
        return answer

    def _visit(self, event: Visit) -> bool:
        it = event.iter
        if it is not self._walk:
            self._walk, self._passed, self._restarts = it, it.next_last_level_gfn, False
        elif self._restarts:
            assert it.level == it.root_level, "6: a walk goes on below the root after it let go of the lock"
            assert it.next_last_level_gfn == self._goal, "6: a walk comes back with another goal"
            self._passed, self._restarts = self._goal, False
        self._goal = it.next_last_level_gfn
        self.visits += 1
        return bool(self.hurry) and self.visits % self.hurry == 0

    def _store(self, event: SetSpte) -> None:
        pool = self.guest.kvm.pool
        self.halves_stored.add(bool(pool.role[event.row] & invariants.IS_MIRROR))
        new, old = event.new_spte, event.old_spte
        if event.level == 1 or not new & brute.PRESENT or new & brute.LARGE:
            return
        child = list(pool.table((new & brute.FRAME) >> 12))
        if old & brute.PRESENT:
            assert old & brute.LARGE, f"3: {event} splits what is no huge leaf"
            assert child == brute.small_leaves(self.guest.geometry, old, event.level), f"1, 2: {event}"
        else:
            assert set(child) == {brute.HOLE}, f"1: {event} links a table that is not empty"


class Guest:
    """A TD (or plain VM) over `slots`: (first frame, frames, first page of the file) each. `vcpus` are inside
    it. memory: host frame -> byte. hosts: first host frames of the file, userspace's memory and S-EPT pages.
    """

    def __init__(
        self,
        geometry: Geometry = TOY,
        slots: Sequence[tuple[int, int, int]] = ((0, 32, 0),),
        *,
        plain: bool = False,
        folio_level: int = 2,
        host_level: int = 2,
        spans_folios: bool = False,
        dynamic_pamt: bool = False,
        sept_ve_disable: bool = False,
        series: str = "v3",
        pamt: str = "v3",
        td_leaf_level: int = 2,
        vcpus: int = 1,
        hosts: tuple[int, int, int] | None = None,
        make: Callable[..., TdxModule] = TdxModule,
    ) -> None:
        self.geometry = geometry
        block = brute.pages(geometry, max(2, folio_level))
        size = max(page + npages for _, npages, page in slots)
        size = -(-size // block) * block
        frames = max(gfn + npages for gfn, npages, _ in slots)
        above = -(-max(size, frames) // block) * block
        self.private_pfn, self.shared_pfn, sept_pfn = hosts or (above, 2 * above, 3 * above)
        self.gmem = None
        if not plain:
            self.gmem = GuestMemfd(
                geometry, size, self.private_pfn, folio_level=folio_level, spans_folios=spans_folios
            )
        self.slots = [
            KvmMemorySlot(
                gfn,
                npages,
                host_pfn=self.shared_pfn + gfn,
                host_level=host_level,
                gmem=self.gmem,
                gmem_pgoff=page,
            )
            for gfn, npages, page in slots
        ]
        self.kvm = Kvm(
            KVM_X86_DEFAULT_VM if plain else KVM_X86_TDX_VM,
            geometry,
            memslots=self.slots,
            pool=PageTablePool(geometry, capacity=1, shuffle=5),
            td_leaf_level=td_leaf_level,
            series=series,
        )
        self.memory: dict[int, int] = {}
        self.module: TdxModule | None = None
        self.tdx: KvmTdx | None = None
        self.ledger: Ledger | None = None
        self.refused = 0
        self.stale: set[int] = set()
        self.oversized: set[tuple[int, int]] = set()
        self.pages = HostPages(sept_pfn)
        inner: World = _PlainWorld(self.pages)
        if self.gmem:
            self.gmem.bind(self.kvm)
            self.module = make(
                geometry,
                max_level=td_leaf_level,
                gfn_direct_bits=self.kvm.gfn_direct_bits,
                memory=self.memory,
                dynamic_pamt=dynamic_pamt,
                sept_ve_disable=sept_ve_disable,
                capacity=1,
                shuffle=4,
            )
            self.tdx = KvmTdx(self.kvm, self.module, pages=self.pages, pamt=pamt)
            self.ledger = Ledger(self.module)
            self.count_pamt_pages(self.tdx)
            inner = TdxWorld(self.tdx)
            for vcpu in range(vcpus):
                self.module.vp_enter(vcpu)
        self.watch = Watch(self, inner)
        self.lockdep = Lockdep(inner=self.watch)
        for slot in self.slots:
            for gfn in range(slot.base_gfn, slot.base_gfn + slot.npages):
                self.memory[slot.host_pfn + gfn - slot.base_gfn] = 0xA0 + gfn & 0xFF
                if self.gmem:
                    self.memory[self.private(gfn)] = 0

    def count_pamt_pages(self, tdx: KvmTdx) -> None:
        """Let the ledger know of each PAMT page that the host brings."""
        topup = tdx.topup_pamt_cache

        def counted(pages: int, cache: int | None = None) -> bool:
            before = sum(tdx.pamt_caches.values())
            done = topup(pages, cache)
            self.ledger.pamt_brought += sum(tdx.pamt_caches.values()) - before
            return done

        tdx.topup_pamt_cache = counted

    def private(self, gfn: int) -> int:
        """The host frame behind private frame `gfn`, by the slots."""
        slot = next(slot for slot in self.slots if gfn in slot)
        return self.private_pfn + slot.gmem_pgoff + gfn - slot.base_gfn

    def shared(self, gfn: int) -> int:
        """The host frame behind shared frame `gfn` (or any frame of a plain VM)."""
        return self.shared_pfn + gfn

    def run(self, coroutine: Coroutine, held: str = "") -> Any:
        """To its end, with mmu_lock `held` as the caller of the real function would."""
        self.watch.begin()
        self.lockdep.at_entry = self.lockdep.held = held
        result = events.run(coroutine, self.lockdep)
        self.lockdep.returned()
        self.lockdep.at_entry = self.lockdep.held = ""
        return result

    def meanwhile(self, coroutine: Coroutine) -> Any:
        """To its end, while another call waits for the lock."""
        return events.run(coroutine, self.lockdep)

    def check(self) -> invariants.Seen:
        return invariants.check(self)

    def refuse(self, k: int) -> None:
        """The k-th request for host memory from now on is refused; refused counts those of the call itself,
        not of who meddles with it.
        """
        at = len(self.pages.requests) + k

        def refuse(number: int, what: str) -> bool:
            self.refused += number == at and not self.watch.meddling
            return number == at

        self.pages.refuse = refuse

    def look(self, root: TdpMmuRoot | None) -> invariants.Tables:
        assert root is not None
        return invariants.look(root)

    # ---- what a guest and its VMM do

    def convert(self, start: int, end: int, *, private: bool = False, split: RangeSplit = split_v3) -> int:
        attributes = PRIVATE if private else 0
        return self.run(kvm_vm_set_mem_attributes(self.kvm, start, end, attributes, split=split))

    def accept(self, gfn: int, level: int = 1, vcpu: int = 0, **how: Any) -> int | None:
        return self.run(td_accept(self.tdx, vcpu, gfn, level, **how))

    def touch(self, gfn: int, vcpu: int = 0) -> Any:
        return self.run(td_access(self.tdx, vcpu, gfn))

    def touch_shared(self, gfn: int) -> int:
        return self.run(kvm_tdp_mmu_page_fault(self.kvm, gfn, is_private=False))

    def populate(self, level: int = 2) -> "Guest":
        """All frames of the slots private, and accepted at `level` (0: not)."""
        self.watch.quiet = True
        for slot in self.slots:
            end = slot.base_gfn + slot.npages
            assert self.convert(slot.base_gfn, end, private=True) == 0
            for gfn in range(slot.base_gfn, end, brute.pages(self.geometry, level)) if level else ():
                assert self.accept(gfn, level) == 0
        for gfn in sorted(self.present()):
            self.memory[self.private(gfn)] = 0x10 + gfn & 0xFF
        self.watch.quiet = False
        return self

    def private_bytes(self) -> dict[int, int]:
        """What the guest can read of its private frames, through the raw S-EPT."""
        pfns = invariants.frames(self.sept)
        return {gfn: self.memory[pfns[gfn]] for gfn in sorted(self.present())}

    # ---- looking

    @property
    def direct(self) -> invariants.Tables:
        return self.look(self.kvm.direct_root)

    @property
    def mirror(self) -> invariants.Tables:
        return self.look(self.kvm.mirror_root)

    @property
    def sept(self) -> invariants.Tables:
        return invariants.look(self.module.sept, is_sept=True)

    def present(self) -> set[int]:
        """Frames that the guest has accepted, by the raw S-EPT."""
        return invariants.frames_in(self.sept, invariants.PRESENT)

    def flushes(self) -> int:
        return len(self.watch.of(Flush))


class _PlainWorld(World):
    """A kind world whose page tables come from `pages`."""

    def __init__(self, pages: HostPages) -> None:
        super().__init__()
        self.pages = pages

    def alloc_table(self, event: AllocTable) -> int | None:
        return event.pool.alloc() if self.pages.grants("page table") else None
