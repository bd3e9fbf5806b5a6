"""A guest whose calls are read line by line: one slot, nothing mapped, host frames at round numbers."""

from typing import Any

from tdpkit.engine.events import Coroutine, Lock, Unlock
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KvmGfnRange
from tdpkit.engine.mmu import kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.tree import TdpMmuRoot
from tests.oracles import brute, invariants
from tests.oracles.guests import TOY, Guest
from tests.oracles.tds import entries
from tests.oracles.vms import PRIVATE

PRIVATE_PFN, SHARED_PFN, SEPT_PFN = 1 << 12, 1 << 13, 1 << 14
"""First host frames of private memory, shared memory and S-EPT pages, far enough apart for the largest TD."""


class WholeTd(Guest):
    """A TD of `frames` private frames. Its events are kept from one `forget` to the next."""

    def __init__(
        self,
        geometry: Geometry = TOY,
        frames: int = 32,
        *,
        vcpus: int = 1,
        sept_pfn: int = SEPT_PFN,
        **options: Any,
    ) -> None:
        hosts = (PRIVATE_PFN, SHARED_PFN, sept_pfn)
        super().__init__(geometry, ((0, frames, 0),), vcpus=0, hosts=hosts, **options)
        self.watch.keeps = True
        assert self.convert(0, frames, private=True) == 0
        for vcpu in range(vcpus):
            self.module.vp_enter(vcpu)
        self.forget()

    def locked(self, coroutine: Coroutine) -> Any:
        """With the write lock held around it, and SRCU."""

        def under_lock() -> Coroutine:
            yield Lock(False)
            with self.kvm.srcu:
                ret = yield from coroutine
            yield Unlock(False, "done")
            return ret

        return self.run(under_lock())

    def unmap(self, start: int, end: int) -> Any:
        return self.locked(kvm_tdp_mmu_unmap_gfn_range(self.kvm, self.range(start, end)))

    def range(self, start: int, end: int) -> KvmGfnRange:
        return KvmGfnRange(self.kvm.slot, start, end, PRIVATE)

    @property
    def in_hand(self) -> int:
        """PAMT pages in all caches."""
        return sum(self.tdx.pamt_caches.values())

    def put_in_hand(self, pages: int, cache: int | None = None) -> None:
        """Make it so many PAMT pages, all in one cache, in the books as well."""
        self.tdx.pamt_caches = {cache: pages}
        self.ledger.pamt_brought = self.ledger.pamt_taken + pages

    def forget(self) -> None:
        self.module.log.clear()
        self.watch.said.clear()
        self.pages.requests.clear()

    @property
    def calls(self) -> list[str]:
        """The log, in short: MEM.TRACK() = SUCCESS."""
        return [repr(call).removeprefix("TDH.").replace("TDX_", "") for call in self.module.log]

    @property
    def leaves(self) -> dict[tuple[int, int], tuple[int, int]]:
        """(gfn, level) -> (pfn, state) in the S-EPT."""
        return entries(self.module)

    @property
    def mirror_table(self) -> list:
        return brute.read(self.kvm.mirror_root)


def rows(root: TdpMmuRoot) -> dict[tuple[int, int], int]:
    """(gfn, level) of every entry that links to a table -> the table's row."""
    return invariants.look(root).rows


def leaves(root: TdpMmuRoot) -> dict[tuple[int, int], int]:
    """(gfn, level) -> pfn of every leaf, with the shared bit of a direct root."""
    return {
        (gfn, level): (raw & brute.FRAME) >> 12
        for gfn, level, raw in brute.leaves(root.geometry, brute.read(root))
    }


def check_pages(td: Guest) -> None:
    """Between two calls, whatever became of them: both sides agree, references balance, no page is lost."""
    seen = invariants.Seen(td)
    invariants.invariant_7_mirror_and_sept_agree(seen)
    invariants.invariant_11_references_balance(seen)
    invariants.books_1_rows_in_use(seen)
    invariants.books_2_external_pages(seen)
    invariants.books_3_pamt(seen)


def check_pamt(td: Guest) -> None:
    """PAMT counts are those of a recount, also where a call failed and both sides disagree."""
    invariants.books_3_pamt(invariants.Seen(td))
