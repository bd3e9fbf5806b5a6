"""Which vCPUs are inside the TD, and when no TLB holds a blocked page any more.

The module cannot see a TLB. It counts epochs, and who entered in which one: a vCPU flushes as it enters.
Source: kernel-facts 8.6.
"""

from __future__ import annotations

from typing import SupportsIndex

from tdpkit.engine.gfn import Geometry, InvalidValueError, check_gfn

from .abi import TDX_PREVIOUS_TLB_EPOCH_BUSY, TDX_SUCCESS, Seamcall
from .pamt import Pamt


class TlbTracking(Pamt):
    """The vCPUs of one TD; a page's BEPOCH is part of its metadata."""

    def __init__(self, geometry: Geometry, dynamic_pamt: bool) -> None:
        super().__init__(geometry, dynamic_pamt)
        self.td_epoch = 1
        """Counts TRACKs. That it starts at 1 is unverified; no rule looks at more than differences."""
        self.refcount = [0, 0]
        """vCPUs inside the TD, by parity of the epoch they entered in (kernel-facts 8.6)."""
        self.entered: dict[int, int] = {}
        """vCPU inside the TD -> the epoch it entered in."""
        self.tlb: dict[int, set[tuple[int, int, int]]] = {}
        """vCPU -> leaves (gfn, level, pfn) that its TLB may hold since its last entry."""
        self.sept_lock_holder: int | None = None
        self.torn_down = False

    @property
    def vcpus_inside(self) -> frozenset[int]:
        """The vCPUs that are in the TD now."""
        return frozenset(self.entered)

    def vp_enter(self, vcpu: SupportsIndex) -> int:
        """TDH.VP.ENTER as far as the TD's first instruction: the TLB is flushed, the epoch noted.

        The real call returns with the next exit, here :meth:`vp_exit`. Raises InvalidValueError if inside.
        """
        self._check_alive()
        number = check_gfn(vcpu, "a vCPU's number")
        if number in self.entered:
            raise InvalidValueError(
                f"a vCPU enters from outside; vCPU {number} ({number:#x}) is inside the TD"
            )
        self.tlb[number] = set()
        self.entered[number] = self.td_epoch
        self.refcount[self.td_epoch & 1] += 1
        return self._log(Seamcall.VP_ENTER, TDX_SUCCESS, vcpu=number)

    def vp_exit(self, vcpu: SupportsIndex) -> None:
        """A TD exit: `vcpu` leaves, and the S-EPT tree lock with it. Raises InvalidValueError if outside."""
        number = self._check_inside_td(vcpu)
        self.refcount[self.entered.pop(number) & 1] -= 1
        if self.sept_lock_holder == number:
            self.sept_lock_holder = None

    def hold_sept_lock(self, vcpu: SupportsIndex) -> None:
        """`vcpu`, at one instruction for too long, took the S-EPT tree lock on entry (kernel-facts 8.19).

        Until it leaves, calls that need the lock are BUSY. Raises InvalidValueError if it is outside or
        another holds the lock.
        """
        number = self._check_inside_td(vcpu)
        if self.sept_lock_holder not in (None, number):
            raise InvalidValueError(
                f"one vCPU holds the S-EPT tree lock; {number} ({number:#x}) cannot, "
                f"vCPU {self.sept_lock_holder} does"
            )
        self.sept_lock_holder = number

    def mem_track(self) -> int:
        """TDH.MEM.TRACK: a new epoch; PREVIOUS_TLB_EPOCH_BUSY while a vCPU is inside since the one before."""
        self._check_alive()
        busy = self.refcount[self.td_epoch - 1 & 1]
        if not busy:
            self.td_epoch += 1
        return self._log(Seamcall.MEM_TRACK, TDX_PREVIOUS_TLB_EPOCH_BUSY if busy else TDX_SUCCESS)

    def is_tlb_tracked(self, pfn: int, level: int) -> bool:
        """No TLB may still hold the blocked leaf on `pfn` (is_tlb_tracked, kernel-facts 8.6)."""
        bepoch = self.bepoch[pfn, level]
        last = self.td_epoch - 1
        return bepoch < last or (bepoch == last and not self.refcount[bepoch & 1])

    def _check_alive(self) -> None:
        if self.torn_down:
            raise InvalidValueError("the TD is torn down, its HKID (key) free; no call can use it")

    def _check_inside_td(self, vcpu: SupportsIndex) -> int:
        number = check_gfn(vcpu, "a vCPU's number")
        if number not in self.entered:
            raise InvalidValueError(f"only a vCPU inside the TD does this; {number} ({number:#x}) is outside")
        return number
