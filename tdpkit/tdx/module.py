"""The TDX module's side of one trust domain: the S-EPT, TLB tracking and the calls that change them.

KVM asks by SEAMCALL and gets a status; a call that does not return TDX_SUCCESS changes nothing but the log.
The guest asks by TDCALL, or touches a page. Levels are KVM's, 1 = 4K; the module's own count is one lower
(kernel-facts 1.2). A status is the module's answer to a call that is well formed; an argument that no caller
could mean (a frame beyond the private half, an unaligned one, an unknown level) raises InvalidValueError or
InvalidTypeError, with nothing changed and nothing logged.

Left out on purpose: build time (PAGE.ADD), promotion and UNBLOCK (KVM uses neither), blocked tables, calls
interrupted half-way, the key itself. Unverified, hence choices of this model: the order in which rules are
checked, and every status whose docstring says so. Source: kernel-facts 8.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import SupportsIndex

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    InvalidValueError,
    as_integer,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.pool import ROLE_LEVEL_MASK
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, is_shadow_present_pte, make_nonleaf_spte, spte_to_pfn
from tdpkit.engine.tree import Passed, leaves, way_down

from .abi import (
    PAMT_ENTRY_PAGES,
    TDX_EPT_ENTRY_FREE,
    TDX_EPT_ENTRY_NOT_FREE,
    TDX_EPT_ENTRY_STATE_INCORRECT,
    TDX_EPT_WALK_FAILED,
    TDX_GPA_RANGE_ALREADY_BLOCKED,
    TDX_GPA_RANGE_NOT_BLOCKED,
    TDX_OPERAND_BUSY,
    TDX_OPERAND_INVALID,
    TDX_PAGE_METADATA_INCORRECT,
    TDX_SUCCESS,
    TDX_TLB_TRACKING_NOT_DONE,
    Seamcall,
)
from .secure_ept import SecureEpt
from .sept import BLOCKED_FROM, UNBLOCKED_FROM, SeptState, is_sept_table, make_sept_leaf, sept_state


class TdxModule(SecureEpt):
    """The module, and in it one TD whose S-EPT has a pool of its own.

    max_level: of the largest leaf, capped by the geometry's; gfn_direct_bits: the shared bit in frames, where
    the private half ends (default: as a Kvm's); dynamic_pamt: 4K pages need metadata that the host brings;
    sept_ve_disable: a touch of a PENDING page is an exit, not a #VE; memory: PFN -> its visible byte, which
    ACCEPT zeroes; capacity and shuffle: the pool's. Raises InvalidValueError or InvalidTypeError.
    """

    def __init__(
        self,
        geometry: Geometry,
        *,
        max_level: int = PG_LEVEL_2M,
        gfn_direct_bits: int | None = None,
        dynamic_pamt: bool = False,
        sept_ve_disable: bool = False,
        memory: MutableMapping[int, int] | None = None,
        capacity: int = 8,
        shuffle: int | None = None,
    ) -> None:
        super().__init__(
            geometry,
            gfn_direct_bits=gfn_direct_bits,
            dynamic_pamt=dynamic_pamt,
            sept_ve_disable=sept_ve_disable,
            memory=memory,
            capacity=capacity,
            shuffle=shuffle,
        )
        if as_integer(max_level, "a level") < PG_LEVEL_4K:
            raise InvalidValueError(f"the largest leaf is of level 1 (4K) or above; {max_level} is not")
        self.max_level = min(as_integer(max_level, "a level"), geometry.max_leaf_level)
        self._places: dict[int, tuple[int, int, int | None]] = {}
        """Once torn down: first frame of a page -> gfn and level of its entry, and its row if a table."""

    def __repr__(self) -> str:
        return f"<TDX module: epoch {self.td_epoch}, vCPUs inside: {sorted(self.entered) or 'none'}>"

    # ---- changing the S-EPT ----------------------------------------------------------------------------

    def mem_sept_add(self, gfn: SupportsIndex, level: SupportsIndex, page_pfn: SupportsIndex) -> int:
        """TDH.MEM.SEPT.ADD: the FREE entry of `level` becomes a link to a new table in `page_pfn`.

        Statuses: OPERAND_INVALID at 4K (unverified), OPERAND_BUSY, EPT_WALK_FAILED, EPT_ENTRY_NOT_FREE;
        PAGE_METADATA_INCORRECT for a page in use or, with Dynamic PAMT, without its pair (unverified).
        """
        frame, number = self._operands(gfn, level)
        page = self._host_frame(page_pfn, PG_LEVEL_4K)
        status, at = self._entry(frame, number, lowest=PG_LEVEL_2M)
        status = status or _not_free(at) or self._unfit(page, PG_LEVEL_4K)
        if status == TDX_SUCCESS:
            self._link(frame, at, page, self.sept.pool.alloc())
        return self._log(Seamcall.MEM_SEPT_ADD, status, frame, number, page)

    def mem_page_aug(self, gfn: SupportsIndex, level: SupportsIndex, pfn: SupportsIndex) -> int:
        """TDH.MEM.PAGE.AUG: the FREE entry becomes a PENDING leaf on `pfn`.

        Statuses: OPERAND_INVALID above `max_level`, OPERAND_BUSY, EPT_WALK_FAILED (no table of that level),
        EPT_ENTRY_NOT_FREE; PAGE_METADATA_INCORRECT as for SEPT.ADD, the pair at 4K only (unverified).
        """
        frame, number = self._operands(gfn, level)
        host = self._host_frame(pfn, number)
        status, at = self._entry(frame, number, highest=self.max_level)
        status = status or _not_free(at) or self._unfit(host, number)
        if status == TDX_SUCCESS:
            self._store(at, make_sept_leaf(host, number, SeptState.PENDING))
            self.owned[host] = number
            self.wbinvd.difference_update(range(host, host + self.geometry.pages(number)))
        return self._log(Seamcall.MEM_PAGE_AUG, status, frame, number, host)

    def mem_range_block(self, gfn: SupportsIndex, level: SupportsIndex) -> int:
        """TDH.MEM.RANGE.BLOCK: no new translation of the leaf from now on; notes the epoch in BEPOCH.

        Statuses: OPERAND_BUSY, EPT_WALK_FAILED, EPT_ENTRY_FREE, GPA_RANGE_ALREADY_BLOCKED (no error). Raises
        InvalidValueError for a table: the real module blocks it with all below, this model has no answer.
        """
        frame, number = self._operands(gfn, level)
        status, at = self._entry(frame, number)
        state = sept_state(at.spte)
        if status == TDX_SUCCESS and is_sept_table(at):
            label = self.geometry.level(number).label
            raise InvalidValueError(f"leaves are blocked here; at {name_gfn(frame)} of {label} is a table")
        status = status or _free(at) or (0 if state in BLOCKED_FROM else TDX_GPA_RANGE_ALREADY_BLOCKED)
        if status == TDX_SUCCESS:
            pfn = spte_to_pfn(at.spte)
            self._store(at, make_sept_leaf(pfn, number, BLOCKED_FROM[state]))
            self.bepoch[pfn, number] = self.td_epoch
        return self._log(Seamcall.MEM_RANGE_BLOCK, status, frame, number)

    def mem_page_remove(self, gfn: SupportsIndex, level: SupportsIndex) -> int:
        """TDH.MEM.PAGE.REMOVE: the leaf, blocked and tracked, becomes FREE; its page is the host's again.

        Statuses: OPERAND_BUSY, EPT_WALK_FAILED, EPT_ENTRY_FREE, GPA_RANGE_NOT_BLOCKED, TLB_TRACKING_NOT_DONE;
        EPT_ENTRY_STATE_INCORRECT for a table (unverified).
        """
        frame, number = self._operands(gfn, level)
        status, at = self._entry(frame, number)
        status = status or self._not_yet(at)
        if status == TDX_SUCCESS:
            self._store(at, SHADOW_NONPRESENT_VALUE)
            self._disown(at)
        return self._log(Seamcall.MEM_PAGE_REMOVE, status, frame, number)

    def mem_page_demote(
        self, gfn: SupportsIndex, level: SupportsIndex, page_pfn: SupportsIndex, pamt_pages: SupportsIndex = 0
    ) -> int:
        """TDH.MEM.PAGE.DEMOTE: the huge leaf, blocked and tracked, becomes a table of leaves, not blocked.

        They have the parent's state and frames; `page_pfn` holds the table. With Dynamic PAMT a split to 4K
        takes a pair of the `pamt_pages`. Statuses: OPERAND_INVALID at 4K; those of REMOVE, then those of
        SEPT.ADD for `page_pfn`; with Dynamic PAMT OPERAND_INVALID for fewer pages than a pair and
        PAGE_METADATA_INCORRECT where the leaf's region has one already (both unverified).
        """
        frame, number = self._operands(gfn, level)
        page = self._host_frame(page_pfn, PG_LEVEL_4K)
        brought = check_gfn(pamt_pages, "a number of PAMT pages")
        status, at = self._entry(frame, number, lowest=PG_LEVEL_2M)
        pfn, child_level = spte_to_pfn(at.spte), number - 1
        status = status or self._not_yet(at) or self._unfit(page, PG_LEVEL_4K)
        needs_pair = self.dynamic_pamt and child_level == PG_LEVEL_4K
        if status == TDX_SUCCESS and needs_pair:
            if brought < PAMT_ENTRY_PAGES:
                status = TDX_OPERAND_INVALID
            elif pfn in self.pamt_pairs:
                status = TDX_PAGE_METADATA_INCORRECT
        if status == TDX_SUCCESS:
            self._disown(at)
            row, size = self.sept.pool.alloc(), self.geometry.pages(child_level)
            for index in range(self.geometry.entries):
                child = pfn + index * size
                leaf = make_sept_leaf(child, child_level, UNBLOCKED_FROM[sept_state(at.spte)])
                self.sept.pool.table(row)[index] = leaf
                self.owned[child] = child_level
            if needs_pair:
                self.pamt_pairs.add(pfn)
            self._link(frame, at, page, row)
        return self._log(Seamcall.MEM_PAGE_DEMOTE, status, frame, number, page)

    # ---- the end ---------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """The HKID is freed: nobody runs this TD or changes its S-EPT again. Once, with no vCPU inside."""
        self._check_alive()
        if self.entered:
            raise InvalidValueError(
                f"a TD is torn down when all vCPUs have left; vCPU {min(self.entered)} is inside"
            )
        pool = self.sept.pool
        self._places = {leaf.pfn: (leaf.gfn, leaf.level, None) for leaf in leaves(self.sept)}
        for row, page in self.sept_page.items():
            self._places[page] = (pool.gfn[row], (pool.role[row] & ROLE_LEVEL_MASK) + 1, row)
        self.torn_down = True

    def phymem_page_reclaim(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAGE.RECLAIM: after :meth:`teardown` a page of the TD, of any size, is the host's again.

        Leaves and tables come in any order. The entry goes too, though nobody walks there any more: the tree
        stays one that can be read. PAGE_METADATA_INCORRECT (unverified) before teardown and for a frame that
        is no page of the TD.
        """
        page = self._host_frame(pfn, PG_LEVEL_4K)
        if page not in self._places:
            return self._log(Seamcall.PHYMEM_PAGE_RECLAIM, TDX_PAGE_METADATA_INCORRECT, pfn=page)
        gfn, level, row = self._places.pop(page)
        at = way_down(self.sept, gfn, level)[-1]
        if at.level == level:
            self._store(at, SHADOW_NONPRESENT_VALUE)
        if row is not None:
            self.sept.pool.free(row)
            del self.sept_page[row]
        self.bepoch.pop((page, level), None)
        del self.owned[page]
        return self._log(Seamcall.PHYMEM_PAGE_RECLAIM, TDX_SUCCESS, pfn=page)

    # ---- rules -----------------------------------------------------------------------------------------

    def _operands(self, gfn: SupportsIndex, level: SupportsIndex) -> tuple[int, int]:
        """The frame and the level of a call on the S-EPT, checked."""
        self._check_alive()
        frame, (number, pages, label) = self._private(gfn), self.geometry.level(level)
        if frame % pages:
            raise InvalidValueError(f"a GFN of {label} is a multiple of {label}; {name_gfn(frame)} is not")
        return frame, number

    def _entry(
        self, gfn: int, level: int, *, lowest: int = PG_LEVEL_4K, highest: int | None = None
    ) -> tuple[int, Passed]:
        """Where the walk to the entry ends, with the tree locked: TDX_SUCCESS if that is the entry itself."""
        at = way_down(self.sept, gfn, level)[-1]
        if level < lowest or level > (highest or level):
            return TDX_OPERAND_INVALID, at
        if self.sept_lock_holder is not None:
            return TDX_OPERAND_BUSY, at
        return (TDX_SUCCESS if at.level == level else TDX_EPT_WALK_FAILED), at

    def _not_yet(self, at: Passed) -> int:
        """Why a leaf may not go: the order is BLOCK, TRACK, all vCPUs out, and only then this call."""
        if is_sept_table(at):
            return TDX_EPT_ENTRY_STATE_INCORRECT
        if sept_state(at.spte) not in UNBLOCKED_FROM:
            return _free(at) or TDX_GPA_RANGE_NOT_BLOCKED
        tracked = self.is_tlb_tracked(spte_to_pfn(at.spte), at.level)
        return TDX_SUCCESS if tracked else TDX_TLB_TRACKING_NOT_DONE

    def _link(self, gfn: int, at: Passed, page: int, row: int) -> None:
        self.sept.pool.init_page(row, self.sept.child_role(at.level - 1), gfn)
        self.sept_page[row] = page
        self.owned[page] = PG_LEVEL_4K
        self._store(at, make_nonleaf_spte(row))

    def _disown(self, at: Passed) -> None:
        pfn = spte_to_pfn(at.spte)
        del self.owned[pfn], self.bepoch[pfn, at.level]


def _free(at: Passed) -> int:
    return TDX_SUCCESS if is_shadow_present_pte(at.spte) else TDX_EPT_ENTRY_FREE


def _not_free(at: Passed) -> int:
    return TDX_EPT_ENTRY_NOT_FREE if is_shadow_present_pte(at.spte) else TDX_SUCCESS
