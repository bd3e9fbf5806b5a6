"""The TDX module's side of one trust domain: the S-EPT, TLB epochs, PAMT, and the calls that change them.

KVM makes a SEAMCALL and gets a status; a call that does not return TDX_SUCCESS changes nothing but the log.
The guest makes a TDCALL, or touches a page. Levels are KVM's, 1 = 4K; the module's own count is one lower
(S2). A status answers a well-formed call. An argument that no caller could mean (a frame beyond
the private half, an unaligned frame, an unknown level) raises InvalidValueError or InvalidTypeError, with
nothing changed and nothing logged.

The module cannot see a TLB. It counts epochs and the vCPUs that entered in each, and flushes a vCPU's TLB at
an entry only if the epoch changed since that vCPU's last one (S166). The module keeps metadata (PAMT) for
each page of host memory: a page has one use at a time, and with Dynamic PAMT the host supplies the metadata
pages for memory in use at 4K.

The real encoding of an S-EPT entry is the module's secret; this one is the kit's own. It uses KVM's bits for
"in use", page size and frame, so that the functions of `tree` can read it, and bits 58:56 for the state.

Left out on purpose: build time (PAGE.ADD), promotion and UNBLOCK (KVM uses neither), blocked tables,
interrupted calls, the key itself. Unverified, hence choices of this model: the order in which rules are
checked, and every status whose docstring says so. Source: S160-S178.
"""

from __future__ import annotations

from array import array
from collections.abc import MutableMapping
from enum import IntEnum
from typing import SupportsIndex

from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    InvalidValueError,
    as_integer,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.pool import ROLE_LEVEL_MASK, PageTablePool
from tdpkit.engine.spte import (
    PT_PAGE_SIZE_MASK,
    SHADOW_NONPRESENT_VALUE,
    SPTE_BASE_ADDR_MASK,
    SPTE_MMU_PRESENT_MASK,
    VMX_EPT_MT_MASK,
    VMX_EPT_RWX_MASK,
    VMX_EPT_SUPPRESS_VE_BIT,
    is_last_spte,
    is_shadow_present_pte,
    make_leaf_spte,
    make_nonleaf_spte,
    spte_to_pfn,
)
from tdpkit.engine.tree import Passed, TdpMmuRoot, leaves, way_down

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
    TDX_PAGE_ALREADY_ACCEPTED,
    TDX_PAGE_METADATA_INCORRECT,
    TDX_PAGE_SIZE_MISMATCH,
    TDX_PREVIOUS_TLB_EPOCH_BUSY,
    TDX_SUCCESS,
    TDX_TLB_TRACKING_NOT_DONE,
    Accept,
    Access,
    Call,
    EptViolation,
    Seamcall,
)

# ---- one entry -------------------------------------------------------------------------------------------


class SeptState(IntEnum):
    """The states of an S-EPT entry (enum tdx_sept_entry_state, tdx_arch.h; S165)."""

    FREE = 0
    BLOCKED = 1
    PENDING = 2
    PENDING_BLOCKED = 3
    PRESENT = 4


_STATE_SHIFT = 56
_STATE_MASK = 7 << _STATE_SHIFT
_LEAF_BITS = (
    SPTE_MMU_PRESENT_MASK
    | VMX_EPT_SUPPRESS_VE_BIT
    | VMX_EPT_MT_MASK
    | PT_PAGE_SIZE_MASK
    | SPTE_BASE_ADDR_MASK
)
"""The bits that an S-EPT leaf has in common with KVM's leaf, in every state."""

BLOCKED_FROM = {SeptState.PRESENT: SeptState.BLOCKED, SeptState.PENDING: SeptState.PENDING_BLOCKED}
UNBLOCKED_FROM = {blocked: state for state, blocked in BLOCKED_FROM.items()}
"""A leaf's state after RANGE.BLOCK, and a blocked leaf's children's after DEMOTE."""


def make_sept_leaf(pfn: int, level: int, state: SeptState) -> int:
    """A leaf of `level` on host frame `pfn`: in use, writeback, RWX only if PRESENT.

    Raises InvalidValueError for a FREE leaf, and as :func:`~.spte.make_leaf_spte`.
    """
    if state == SeptState.FREE:
        raise InvalidValueError(f"a leaf is in use; one on host frame {pfn:#x} in state FREE (0) is none")
    kept = _LEAF_BITS | (VMX_EPT_RWX_MASK if state == SeptState.PRESENT else 0)
    return make_leaf_spte(pfn, level) & kept | state << _STATE_SHIFT


def sept_state(entry: int) -> SeptState:
    """The state of an S-EPT entry: FREE if empty, PRESENT for a table, else the leaf's own."""
    if not is_shadow_present_pte(entry):
        return SeptState.FREE
    return SeptState((entry & _STATE_MASK) >> _STATE_SHIFT or SeptState.PRESENT)


def is_sept_table(at: Passed) -> bool:
    """Whether the entry links to a table."""
    return is_shadow_present_pte(at.spte) and not is_last_spte(at.spte, at.level)


# ---- the module ------------------------------------------------------------------------------------------


class TdxModule:
    """The module with one TD, whose S-EPT has a pool of its own.

    max_level: the level of the largest leaf, capped by the geometry's; gfn_direct_bits: the shared bit as a
    frame mask, where the private half ends (default: as for a Kvm); dynamic_pamt: the host must supply
    metadata pages for 4K pages; sept_ve_disable: a touch of a PENDING page exits to KVM instead of raising a
    #VE; memory: PFN -> its visible byte, which ACCEPT zeroes; capacity and shuffle: the pool's. Raises
    InvalidValueError or InvalidTypeError.
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
        self.geometry = geometry
        self.gfn_direct_bits = geometry.shared_bit(gfn_direct_bits)
        if as_integer(max_level, "a level") < PG_LEVEL_4K:
            raise InvalidValueError(f"the largest leaf is of level 1 (4K) or above; {max_level} is not")
        self.max_level = min(as_integer(max_level, "a level"), geometry.max_leaf_level)
        self.dynamic_pamt = dynamic_pamt
        self.sept_ve_disable = sept_ve_disable
        self.memory: MutableMapping[int, int] = {} if memory is None else memory
        self.log: list[Call] = []
        """Every SEAMCALL and ACCEPT, in order."""

        self.sept = TdpMmuRoot(PageTablePool(geometry, capacity=capacity, shuffle=shuffle))
        self.sept_page: dict[int, int] = {}
        """Row -> host frame of the page KVM supplied for that table (the root's came with the TD)."""
        self.sept_lock_holder: int | None = None
        """The vCPU that holds the S-EPT tree lock, or None."""

        self.td_epoch = 1
        """Counts TRACKs from 1. The start is unverified, and only differences matter."""
        self.refcount = [0, 0]
        """vCPUs inside the TD, by parity of the epoch they entered in (S166)."""
        self.entered: dict[int, int] = {}
        """vCPU inside the TD -> the epoch it entered in."""
        self.last_epoch: dict[int, int] = {}
        """vCPU, inside or not -> the epoch of its last entry."""
        self.tlb: dict[int, set[tuple[int, int, int]]] = {}
        """vCPU -> leaves (gfn, level, pfn) that its TLB may hold since its last flush."""

        self.owned: dict[int, int] = {}
        """PAMT: first host frame of each page that the TD owns, leaf or S-EPT page -> its level."""
        self.bepoch: dict[tuple[int, int], int] = {}
        """PAMT.BEPOCH: (pfn, level) of a blocked leaf -> the epoch of its BLOCK."""
        self.pamt_pairs: set[int] = set()
        """First frames of the 2M regions of host memory that have their pair of metadata pages."""
        self.wbinvd: set[int] = set()
        """Host frames written back since they were last mapped."""

        self.torn_down = False
        self._places: dict[int, tuple[int, int, int | None]] = {}
        """Once torn down: first frame of a page -> gfn and level of its entry, and its row if a table."""

    def __repr__(self) -> str:
        return f"<TDX module: epoch {self.td_epoch}, vCPUs inside: {sorted(self.entered) or 'none'}>"

    # ---- vCPUs and epochs --------------------------------------------------------------------------------

    @property
    def vcpus_inside(self) -> frozenset[int]:
        """The vCPUs inside the TD now."""
        return frozenset(self.entered)

    def vp_enter(self, vcpu: SupportsIndex) -> int:
        """TDH.VP.ENTER up to the TD's first instruction: note the epoch, and flush if it is a new one.

        A vCPU that left and enters again in the same epoch keeps its TLB (S166). The real call returns at the
        next exit, here :meth:`vp_exit`. Raises InvalidValueError if already inside.
        """
        self._check_alive()
        number = check_gfn(vcpu, "a vCPU's number")
        if number in self.entered:
            raise InvalidValueError(
                f"a vCPU enters from outside; vCPU {number} ({number:#x}) is inside the TD"
            )
        if self.last_epoch.get(number) != self.td_epoch:
            self.tlb[number] = set()
        self.entered[number] = self.last_epoch[number] = self.td_epoch
        self.refcount[self.td_epoch & 1] += 1
        return self._log(Seamcall.VP_ENTER, TDX_SUCCESS, vcpu=number)

    def vp_exit(self, vcpu: SupportsIndex) -> None:
        """A TD exit: `vcpu` leaves, and the S-EPT tree lock with it. Raises InvalidValueError if outside."""
        number = self._check_inside_td(vcpu)
        self.refcount[self.entered.pop(number) & 1] -= 1
        if self.sept_lock_holder == number:
            self.sept_lock_holder = None

    def hold_sept_lock(self, vcpu: SupportsIndex) -> None:
        """Let `vcpu`, which faulted at one instruction too often, hold the S-EPT tree lock
        (S177).

        Until it leaves, calls that need the lock return BUSY. Raises InvalidValueError if it is outside or
        another vCPU holds the lock.
        """
        number = self._check_inside_td(vcpu)
        if self.sept_lock_holder not in (None, number):
            raise InvalidValueError(
                f"one vCPU holds the S-EPT tree lock; {number} ({number:#x}) cannot, "
                f"vCPU {self.sept_lock_holder} does"
            )
        self.sept_lock_holder = number

    def mem_track(self) -> int:
        """TDH.MEM.TRACK: begin an epoch; PREVIOUS_TLB_EPOCH_BUSY while a vCPU of the one before is inside."""
        self._check_alive()
        busy = self.refcount[self.td_epoch - 1 & 1]
        if not busy:
            self.td_epoch += 1
        return self._log(Seamcall.MEM_TRACK, TDX_PREVIOUS_TLB_EPOCH_BUSY if busy else TDX_SUCCESS)

    def is_tlb_tracked(self, pfn: int, level: int) -> bool:
        """Whether no TLB can still hold the blocked leaf on `pfn` (is_tlb_tracked, S166)."""
        bepoch = self.bepoch[pfn, level]
        last = self.td_epoch - 1
        return bepoch < last or (bepoch == last and not self.refcount[bepoch & 1])

    # ---- the guest -----------------------------------------------------------------------------------------

    def accept(self, gfn: SupportsIndex, level: SupportsIndex) -> Accept:
        """TDG.MEM.PAGE.ACCEPT for the page of `level` at `gfn` (the TDCALL itself takes level - 1).

        Zeroes a PENDING leaf of that level and makes it PRESENT. OPERAND_INVALID above 2M, for a level that
        the root lacks and for an unaligned `gfn` (the last two unverified). Source: S169.
        """
        self._check_alive()
        frame, number = self._private(gfn), as_integer(level, "a level")
        if number < PG_LEVEL_4K:
            raise InvalidValueError(f"a level is 1 (4K) or above; {number} is not")
        got = self._accept(frame, number)
        self.log.append(Call("TDG.MEM.PAGE.ACCEPT", frame, number, got.status))
        return got

    def _accept(self, gfn: int, level: int) -> Accept:
        if level > min(PG_LEVEL_2M, self.geometry.root_level) or gfn % self.geometry.pages(level):
            return Accept(TDX_OPERAND_INVALID)
        at = way_down(self.sept, gfn, level)[-1]
        state = sept_state(at.spte)
        if is_sept_table(at):
            return Accept(TDX_PAGE_SIZE_MISMATCH)
        if state == SeptState.PRESENT:
            return Accept(TDX_PAGE_ALREADY_ACCEPTED)
        if state != SeptState.PENDING or at.level > level:
            return Accept(None, EptViolation(gfn, "accept", level))
        pfn = spte_to_pfn(at.spte)
        for frame in range(pfn, pfn + self.geometry.pages(level)):
            if frame in self.memory:
                self.memory[frame] = 0
        self._store(at, make_sept_leaf(pfn, level, SeptState.PRESENT))
        return Accept(TDX_SUCCESS)

    def access(self, vcpu: SupportsIndex, gfn: SupportsIndex) -> Access:
        """Touch `gfn` from `vcpu`: by a translation its TLB may hold, stale or not, else by a walk.

        A PRESENT leaf is ok and enters the TLB; a PENDING one raises a #VE (or exits, see `sept_ve_disable`);
        anything else exits. Raises InvalidValueError for a vCPU outside the TD. Source: S171.
        """
        number, frame = self._check_inside_td(vcpu), self._private(gfn)
        for first, level, pfn in self.tlb[number]:
            if first <= frame < first + self.geometry.pages(level):
                return Access("ok", pfn + frame - first)
        at = way_down(self.sept, frame)[-1]
        state = sept_state(at.spte)
        if state == SeptState.PRESENT:
            first, pfn = self.geometry.gfn_round_for_level(frame, at.level), spte_to_pfn(at.spte)
            self.tlb[number].add((first, at.level, pfn))
            return Access("ok", pfn + frame - first)
        if state != SeptState.PENDING:
            return Access("violation", None, EptViolation(frame, "access"))
        if self.sept_ve_disable:
            return Access("violation", None, EptViolation(frame, "pending"))
        return Access("#VE")

    # ---- changing the S-EPT ----------------------------------------------------------------------------

    def mem_sept_add(self, gfn: SupportsIndex, level: SupportsIndex, page_pfn: SupportsIndex) -> int:
        """TDH.MEM.SEPT.ADD: link a new table in `page_pfn` into the FREE entry of `level`.

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
        """TDH.MEM.PAGE.AUG: turn the FREE entry into a PENDING leaf on `pfn`.

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
        """TDH.MEM.RANGE.BLOCK: allow no new translation of the leaf, and note the epoch in BEPOCH.

        Statuses: OPERAND_BUSY, EPT_WALK_FAILED, EPT_ENTRY_FREE, GPA_RANGE_ALREADY_BLOCKED (no error). Raises
        InvalidValueError for a table: the real module blocks it with all below, which is not modelled.
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
        """TDH.MEM.PAGE.REMOVE: free the blocked and tracked leaf and return its page to the host.

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
        """TDH.MEM.PAGE.DEMOTE: split the blocked and tracked huge leaf into a table of unblocked leaves.

        The leaves have the parent's state and frames; `page_pfn` holds the table. With Dynamic PAMT a split
        to 4K consumes a pair of the `pamt_pages`. Statuses: OPERAND_INVALID at 4K; those of REMOVE, then
        those of SEPT.ADD for `page_pfn`; with Dynamic PAMT OPERAND_INVALID for fewer pages than a pair and
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
            children = range(pfn, pfn + self.geometry.pages(number), size)
            first = make_sept_leaf(pfn, child_level, UNBLOCKED_FROM[sept_state(at.spte)])
            step = size << PAGE_SHIFT
            # A leaf's frames are aligned, so adding an offset to it equals ORing it in.
            self.sept.pool.table(row)[:] = array("Q", range(first, first + len(children) * step, step))
            self.owned.update(dict.fromkeys(children, child_level))
            if needs_pair:
                self.pamt_pairs.add(pfn)
            self._link(frame, at, page, row)
        return self._log(Seamcall.MEM_PAGE_DEMOTE, status, frame, number, page)

    # ---- host memory ---------------------------------------------------------------------------------------

    @property
    def pamt_pages(self) -> int:
        """Pages that the module holds for Dynamic PAMT, from PAMT.ADD and DEMOTE."""
        return PAMT_ENTRY_PAGES * len(self.pamt_pairs)

    def phymem_page_wbinvd(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAGE.WBINVD: write back one 4K page's cache lines; succeeds whoever owns it (S161)."""
        host = self._host_frame(pfn, PG_LEVEL_4K)
        self.wbinvd.add(host)
        return self._log(Seamcall.PHYMEM_PAGE_WBINVD, TDX_SUCCESS, pfn=host)

    def phymem_pamt_add(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAMT.ADD: take a pair of pages for the 2M region that holds `pfn`.

        Statuses (unverified): OPERAND_INVALID without Dynamic PAMT, PAGE_METADATA_INCORRECT if it has one.
        """
        region = self._region(self._host_frame(pfn, PG_LEVEL_4K))
        wrong = TDX_PAGE_METADATA_INCORRECT if region in self.pamt_pairs else TDX_SUCCESS
        status = wrong if self.dynamic_pamt else TDX_OPERAND_INVALID
        if status == TDX_SUCCESS:
            self.pamt_pairs.add(region)
        return self._log(Seamcall.PHYMEM_PAMT_ADD, status, pfn=region)

    def phymem_pamt_remove(self, pfn: SupportsIndex) -> int:
        """TDH.PHYMEM.PAMT.REMOVE: return the pair of the 2M region that holds `pfn` to the host.

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

    # ---- the end ---------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Free the HKID: nobody runs this TD or changes its S-EPT again. Once, with no vCPU inside."""
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
        """TDH.PHYMEM.PAGE.RECLAIM: after :meth:`teardown`, return a page of the TD, of any size, to the host.

        Leaves and tables may come in any order. The call also clears the entry, so that the tree stays
        readable. PAGE_METADATA_INCORRECT (unverified) before teardown and for a frame that is no page of the
        TD.
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

    def _check_alive(self) -> None:
        if self.torn_down:
            raise InvalidValueError("the TD is torn down, its HKID (key) free; no call can use it")

    def _check_inside_td(self, vcpu: SupportsIndex) -> int:
        number = check_gfn(vcpu, "a vCPU's number")
        if number not in self.entered:
            raise InvalidValueError(f"only a vCPU inside the TD does this; {number} ({number:#x}) is outside")
        return number

    def _private(self, gfn: SupportsIndex) -> int:
        frame = check_gfn(gfn)
        if frame >= self.gfn_direct_bits:
            raise InvalidValueError(
                f"the S-EPT holds private frames, below {name_gfn(self.gfn_direct_bits)}; "
                f"{name_gfn(frame)} is beyond them"
            )
        return frame

    def _operands(self, gfn: SupportsIndex, level: SupportsIndex) -> tuple[int, int]:
        """Check the frame and the level of a call on the S-EPT."""
        self._check_alive()
        frame, (number, pages, label) = self._private(gfn), self.geometry.level(level)
        if frame % pages:
            raise InvalidValueError(f"a GFN of {label} is a multiple of {label}; {name_gfn(frame)} is not")
        return frame, number

    def _entry(
        self, gfn: int, level: int, *, lowest: int = PG_LEVEL_4K, highest: int | None = None
    ) -> tuple[int, Passed]:
        """Walk to the entry with the tree locked; return a status and where the walk ended."""
        at = way_down(self.sept, gfn, level)[-1]
        if level < lowest or level > (highest or level):
            return TDX_OPERAND_INVALID, at
        if self.sept_lock_holder is not None:
            return TDX_OPERAND_BUSY, at
        return (TDX_SUCCESS if at.level == level else TDX_EPT_WALK_FAILED), at

    def _not_yet(self, at: Passed) -> int:
        """Check that a leaf was blocked and tracked: BLOCK, TRACK and all vCPUs out come before this call."""
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

    def _host_frame(self, pfn: SupportsIndex, level: int) -> int:
        frame, (_, pages, label) = check_gfn(pfn, "a PFN"), self.geometry.level(level)
        if frame % pages:
            raise InvalidValueError(f"a PFN of {label} is a multiple of {label}; {name_gfn(frame)} is not")
        make_leaf_spte(frame + pages - 1, PG_LEVEL_4K)
        return frame

    def _unfit(self, pfn: int, level: int) -> int:
        """Check that the host's page of `level` at `pfn` has no use yet and, at 4K, has its PAMT pair."""
        above = range(level, self.geometry.root_level + 1)
        held = any(self.owned.get(self.geometry.gfn_round_for_level(pfn, at), 0) >= at for at in above)
        inside = range(pfn, pfn + self.geometry.pages(level))
        fewer, more = sorted((inside, self.owned), key=len)  # a 1G page has many frames
        held = held or any(frame in more for frame in fewer)
        bare = self.dynamic_pamt and level == PG_LEVEL_4K and self._region(pfn) not in self.pamt_pairs
        return TDX_PAGE_METADATA_INCORRECT if held or bare else TDX_SUCCESS

    def _region(self, pfn: int) -> int:
        return self.geometry.gfn_round_for_level(pfn, PG_LEVEL_2M)

    def _store(self, at: Passed, entry: int) -> None:
        self.sept.pool.table(at.row)[at.index] = entry

    def _log(
        self,
        call: Seamcall,
        status: int,
        gfn: int | None = None,
        level: int | None = None,
        pfn: int | None = None,
        vcpu: int | None = None,
    ) -> int:
        self.log.append(Call(str(call), gfn, level, status, pfn, vcpu))
        return status


def _free(at: Passed) -> int:
    return TDX_SUCCESS if is_shadow_present_pte(at.spte) else TDX_EPT_ENTRY_FREE


def _not_free(at: Passed) -> int:
    return TDX_EPT_ENTRY_NOT_FREE if is_shadow_present_pte(at.spte) else TDX_SUCCESS
