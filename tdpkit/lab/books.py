"""The books of a VM: what must be as it was, or add up, when a call has returned.

Each page is in a table or a cache, each frame on its host frame, each reference put, and mirror and S-EPT are
one tree (S239). :class:`Books` are opened before a call; `left` says afterwards what the call left behind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tdpkit.engine.kvm import Kvm
from tdpkit.engine.tree import TdpMmuRoot, leaves, table_rows
from tdpkit.tdx.abi import PAMT_ENTRY_PAGES, TDX_SUCCESS, Seamcall
from tdpkit.tdx.kvm_tdx import KvmTdx

from .words import count_of

_REMOVE = str(Seamcall.PHYMEM_PAMT_REMOVE)


class Books:
    """The books of `kvm`, and of a TD's side `tdx`, as they are now."""

    def __init__(self, kvm: Kvm, tdx: KvmTdx | None = None) -> None:
        self.kvm = kvm
        self.tdx = tdx
        self.frames = self._frames()
        self.references = self._references()
        self.pamt_pages = self._pamt_pages()

    def left(self, zapped: Collection[int] = ()) -> Iterator[str]:
        """Say in words what is not as it should be; zapped: the frames that the call unmapped."""
        kvm, pool = self.kvm, self.kvm.pool
        if kvm.slots_lock or kvm.srcu or pool.rcu_readers:
            yield "slots_lock, SRCU or RCU held"
        if kvm.mmu_invalidate_in_progress:
            yield "an invalidation in progress"
        if self._references() != self.references:
            yield "a reference on a root"
        tables = sum(len(rows) for root in kvm.tdp_mmu_roots for rows in table_rows(root))
        if lost := pool.rows_in_use - tables - sum(map(len, kvm.page_caches.values())):
            yield f"{count_of(lost, 'page table')} that nobody has"
        if {gfn for _, gfn, _ in self._frames() ^ self.frames} - {*zapped}:
            yield "a frame mapped elsewhere, or no longer"
        if self.tdx and kvm.mirror_root:
            yield from self._left_of_tdx(self.tdx, kvm.mirror_root)

    def _left_of_tdx(self, tdx: KvmTdx, mirror: TdpMmuRoot) -> Iterator[str]:
        rows = {row for level in table_rows(mirror)[1:] for row in level}
        if lost := len(tdx.external_spt.keys() ^ (rows | {*self.kvm.page_caches[True]})):
            yield f"{count_of(lost, 'S-EPT page')} without a mirror table, or the other way round"
        kvms, modules = ({leaf[:3] for leaf in leaves(root)} for root in (mirror, tdx.module.sept))
        if kvms != modules:
            yield "an S-EPT that differs from the mirror"
        if lost := self._pamt_pages() - self.pamt_pages:
            yield f"{count_of(lost, 'PAMT page')} that nobody has"
        if tdx.dead:
            yield "a dead VM"

    def state(self) -> dict[str, object]:
        """All that a call can change in KVM and the module, by name, caches and numbers of pages aside."""
        kvm, tdx = self.kvm, self.tdx
        known: dict[str, object] = {
            "trees": [(_tree(root), root.is_mirror, root.invalid) for root in kvm.tdp_mmu_roots],
            "references": self._references(),
            "attributes": kvm.mem_attributes.edges,
            "lpage_info": kvm.disallow_lpage.copy(),
            "invalidation": kvm.mmu_invalidate_in_progress,
        }
        if tdx:
            known["S-EPT"] = _tree(tdx.module.sept)
            known["TLBs"] = {vcpu: frozenset(tlb) for vcpu, tlb in tdx.module.tlb.items()}
            known["memory"] = dict(tdx.module.memory)
        return known

    def _frames(self) -> set[tuple[bool, int, int]]:
        """(is_mirror, frame, host frame) of all that is mapped."""
        return {
            (root.is_mirror, (leaf.gfn & ~root.gfn_bits) + ahead, leaf.pfn + ahead)
            for root in self.kvm.tdp_mmu_roots
            for leaf in leaves(root)
            for ahead in range(root.geometry.pages(leaf.level))
        }

    def _references(self) -> list[int]:
        return [root.tdp_mmu_root_count for root in self.kvm.tdp_mmu_roots]

    def _pamt_pages(self) -> int:
        """PAMT pages granted, less those in the module, in caches and returned to the host."""
        if self.tdx is None:
            return 0
        module = self.tdx.module
        back = sum(call.name == _REMOVE and call.status == TDX_SUCCESS for call in module.log)
        known = module.pamt_pages + PAMT_ENTRY_PAGES * back + sum(self.tdx.pamt_caches.values())
        return self.tdx.pages.granted["PAMT pages"] - known


def _tree(root: TdpMmuRoot) -> tuple[object, ...]:
    """The leaves with all their bits, and where the tables are."""
    pool = root.pool
    rows = [row for level in table_rows(root) for row in level]
    return tuple(leaves(root)), {(pool.level(row), pool.gfn[row]) for row in rows}
