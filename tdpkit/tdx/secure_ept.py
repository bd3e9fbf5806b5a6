"""The S-EPT of a TD as its guest meets it: ACCEPT and access.

Source: kernel-facts 8.10-8.12.
"""

from __future__ import annotations

from collections.abc import MutableMapping
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
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import spte_to_pfn
from tdpkit.engine.tree import Passed, TdpMmuRoot, way_down

from .abi import (
    TDX_OPERAND_INVALID,
    TDX_PAGE_ALREADY_ACCEPTED,
    TDX_PAGE_SIZE_MISMATCH,
    TDX_SUCCESS,
    Accept,
    Access,
    Call,
    EptViolation,
)
from .sept import SeptState, is_sept_table, make_sept_leaf, sept_state
from .tlb_tracking import TlbTracking


class SecureEpt(TlbTracking):
    """The tree, in a pool of its own; see :class:`~.tdx_module.TdxModule` for the arguments."""

    def __init__(
        self,
        geometry: Geometry,
        *,
        gfn_direct_bits: int | None,
        dynamic_pamt: bool,
        sept_ve_disable: bool,
        memory: MutableMapping[int, int] | None,
        capacity: int,
        shuffle: int | None,
    ) -> None:
        super().__init__(geometry, dynamic_pamt)
        if gfn_direct_bits is None:
            gfn_direct_bits = min(geometry.root_pages >> 1, 1 << (51 - PAGE_SHIFT))
        self.gfn_direct_bits = check_gfn(gfn_direct_bits, "a shared bit")
        low, high = geometry.pages(geometry.root_level), geometry.root_pages
        if self.gfn_direct_bits.bit_count() != 1 or not low <= self.gfn_direct_bits < high:
            raise InvalidValueError(
                f"the shared bit is one bit of the root's index, {name_gfn(low)} to {name_gfn(high >> 1)}; "
                f"{name_gfn(self.gfn_direct_bits)} is not"
            )
        self.sept_ve_disable = sept_ve_disable
        self.memory: MutableMapping[int, int] = {} if memory is None else memory
        self.sept = TdpMmuRoot(PageTablePool(geometry, capacity=capacity, shuffle=shuffle))
        self.sept_page: dict[int, int] = {}
        """Row -> host frame of the page that KVM gave for that table (the root's came with the TD)."""

    def accept(self, gfn: SupportsIndex, level: SupportsIndex) -> Accept:
        """TDG.MEM.PAGE.ACCEPT of the page of `level` at `gfn` (the TDCALL itself has level - 1).

        A PENDING leaf of that level is zeroed and PRESENT. OPERAND_INVALID above 2M, and for a level the root
        does not have and an unaligned `gfn` (both unverified). Source: the table of kernel-facts 8.10.
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
        """`vcpu` touches `gfn`: through its TLB if that may hold a translation, stale or not; else by a walk.

        PRESENT is ok and enters the TLB, PENDING is a #VE (or an exit, see `sept_ve_disable`), all else an
        exit. Raises InvalidValueError for a vCPU outside the TD. Source: kernel-facts 8.12.
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

    def _private(self, gfn: SupportsIndex) -> int:
        frame = check_gfn(gfn)
        if frame >= self.gfn_direct_bits:
            raise InvalidValueError(
                f"the S-EPT holds private frames, below {name_gfn(self.gfn_direct_bits)}; "
                f"{name_gfn(frame)} is beyond them"
            )
        return frame

    def _store(self, at: Passed, entry: int) -> None:
        self.sept.pool.table(at.row)[at.index] = entry
