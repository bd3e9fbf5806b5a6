"""Host memory that KVM's TDX side brings: a page for each S-EPT table, and pages for Dynamic PAMT.

Asked for before a lock is taken and counted here. Source: kernel-facts 8.18, C30.
"""

from __future__ import annotations

from collections.abc import Callable

from tdpkit.engine.gfn import PG_LEVEL_2M

from .abi import PAMT_ENTRY_PAGES
from .module import TdxModule

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


class TdxPages:
    """What KVM has in hand or gave to `module`, from `pages`."""

    def __init__(self, module: TdxModule, pages: HostPages) -> None:
        self.module = module
        self.pages = pages
        self.external_spt: dict[int, int] = {}
        """sp->external_spt: row of a mirror table -> host frame of the page for the S-EPT."""
        self.pamt_refcount: dict[int, int] = {}
        """4K pages of the TD in each 2M region of host memory, by the region's first frame."""
        self.pamt_cache = 0
        """PAMT pages in hand, for faults and splits alike."""

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
        return self.module.geometry.gfn_round_for_level(pfn, PG_LEVEL_2M)

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
