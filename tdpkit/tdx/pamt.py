"""What the TDX module knows of each page of host memory (PAMT), and its calls on host memory.

A page has one use at a time. With Dynamic PAMT the host brings the pages that hold this knowledge, for memory
that is used at 4K. Source: kernel-facts 8.18.
"""

from __future__ import annotations

from typing import SupportsIndex

from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, Geometry, InvalidValueError, check_gfn, name_gfn
from tdpkit.engine.spte import make_leaf_spte

from .abi import (
    PAMT_ENTRY_PAGES,
    TDX_OPERAND_INVALID,
    TDX_PAGE_METADATA_INCORRECT,
    TDX_SUCCESS,
    CallLog,
    Seamcall,
)


class Pamt(CallLog):
    """The metadata; see :class:`~.tdx_module.TdxModule` for the arguments."""

    def __init__(self, geometry: Geometry, dynamic_pamt: bool) -> None:
        super().__init__()
        self.geometry = geometry
        self.dynamic_pamt = dynamic_pamt
        self.owned: dict[int, int] = {}
        """PAMT: first host frame of each page in the TD's hands, leaf or S-EPT page -> its level."""
        self.bepoch: dict[tuple[int, int], int] = {}
        """PAMT.BEPOCH: (pfn, level) of a blocked leaf -> the epoch of its BLOCK."""
        self.pamt_pairs: set[int] = set()
        """First frames of the 2M regions of host memory that have their pair of metadata pages."""
        self.wbinvd: set[int] = set()
        """Host frames written back since they were last mapped."""

    @property
    def pamt_pages(self) -> int:
        """Pages that the module has for Dynamic PAMT, by PAMT.ADD and by DEMOTE."""
        return PAMT_ENTRY_PAGES * len(self.pamt_pairs)

    def phymem_page_wbinvd(self, pfn: SupportsIndex, level: SupportsIndex = PG_LEVEL_4K) -> int:
        """TDH.PHYMEM.PAGE.WBINVD: cache lines of the page are written back; succeeds whoever has it.

        The real call takes 4K at a time; here those of a leaf of `level` are one call, and one line.
        """
        number, pages, _ = self.geometry.level(level)
        host = self._host_frame(pfn, number)
        self.wbinvd.update(range(host, host + pages))
        return self._log(Seamcall.PHYMEM_PAGE_WBINVD, TDX_SUCCESS, None, number, host)

    def phymem_pamt_add(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAMT.ADD: a pair of pages for the 2M region that holds `pfn`.

        Statuses (unverified): OPERAND_INVALID without Dynamic PAMT, PAGE_METADATA_INCORRECT if it has one.
        """
        region = self._region(self._host_frame(pfn, PG_LEVEL_4K))
        wrong = TDX_PAGE_METADATA_INCORRECT if region in self.pamt_pairs else TDX_SUCCESS
        status = wrong if self.dynamic_pamt else TDX_OPERAND_INVALID
        if status == TDX_SUCCESS:
            self.pamt_pairs.add(region)
        return self._log(Seamcall.PHYMEM_PAMT_ADD, status, pfn=region)

    def phymem_pamt_remove(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAMT.REMOVE: the pair of the 2M region that holds `pfn` goes back to the host.

        Statuses (unverified): OPERAND_INVALID without Dynamic PAMT, PAGE_METADATA_INCORRECT if the region has
        no pair or the TD has a 4K page in it.
        """
        region = self._region(self._host_frame(pfn, PG_LEVEL_4K))
        frames = range(region, region + self.geometry.pages(PG_LEVEL_2M))
        wrong = region not in self.pamt_pairs or any(self.owned.get(frame) == PG_LEVEL_4K for frame in frames)
        status = TDX_PAGE_METADATA_INCORRECT if wrong else TDX_SUCCESS
        status = status if self.dynamic_pamt else TDX_OPERAND_INVALID
        if status == TDX_SUCCESS:
            self.pamt_pairs.remove(region)
        return self._log(Seamcall.PHYMEM_PAMT_REMOVE, status, pfn=region)

    def _host_frame(self, pfn: SupportsIndex, level: int) -> int:
        frame, (_, pages, label) = check_gfn(pfn, "a PFN"), self.geometry.level(level)
        if frame % pages:
            raise InvalidValueError(f"a PFN of {label} is a multiple of {label}; {name_gfn(frame)} is not")
        make_leaf_spte(frame + pages - 1, PG_LEVEL_4K)
        return frame

    def _unfit(self, pfn: int, level: int) -> int:
        """Why the host's page of `level` at `pfn` cannot become the TD's (a page has one use at a time)."""
        above = range(level, self.geometry.root_level + 1)
        held = any(self.owned.get(self.geometry.gfn_round_for_level(pfn, at), 0) >= at for at in above)
        held = held or any(frame in self.owned for frame in range(pfn, pfn + self.geometry.pages(level)))
        bare = self.dynamic_pamt and level == PG_LEVEL_4K and self._region(pfn) not in self.pamt_pairs
        return TDX_PAGE_METADATA_INCORRECT if held or bare else TDX_SUCCESS

    def _region(self, pfn: int) -> int:
        return self.geometry.gfn_round_for_level(pfn, PG_LEVEL_2M)
