"""How kernels of several ages lay out an entry, as data: which bits say present, leaf, writable, frozen.

The engine's own entries have the layout `ept-7.2` (S20). The others are what public traces and bug reports
hold; where one ends and the next begins is a reading of their values and unverified (S260).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, InvalidTypeError, InvalidValueError
from tdpkit.engine.spte import (
    FROZEN_SPTE,
    PT64_NX_MASK,
    PT_PAGE_SIZE_MASK,
    SHADOW_NONPRESENT_VALUE,
    SPTE_BASE_ADDR_MASK,
    SPTE_MMU_PRESENT_MASK,
    SPTE_TDP_AD_MASK,
    VMX_EPT_EXECUTABLE_MASK,
    VMX_EPT_IPAT_BIT,
    VMX_EPT_MISCONFIG_WX_VALUE,
    VMX_EPT_MT_EPTE_SHIFT,
    VMX_EPT_MT_MASK,
    VMX_EPT_READABLE_MASK,
    VMX_EPT_RWX_MASK,
    VMX_EPT_SUPPRESS_VE_BIT,
    VMX_EPT_USER_EXECUTABLE_MASK,
    VMX_EPT_WRITABLE_MASK,
)

_MMIO_TYPE = 3 << 52
"""Up to 5.12: A/D type 3 marks an MMIO entry (SPTE_MMIO_MASK)."""
_RESERVED = 1 << 51
"""The highest address bit: reserved on a host with fewer, so that an NPT access to it fails (S262)."""
MEMORY_TYPES = {
    0: "uncacheable (UC)",
    1: "write-combining (WC)",
    4: "write-through (WT)",
    5: "write-protected (WP)",
    6: "write-back (WB)",
}
"""EPT memory types by number; the others are reserved."""
PT_CACHING = 3 << 3
"""PWT and PCD of an NPT leaf: how memory is cached."""
_GUARDED = 5
"""SHADOW_NONPRESENT_OR_RSVD_MASK_LEN: guard bits against L1TF (S262)."""


class SpteLayout(NamedTuple):
    """One layout of a 64-bit entry. Masks are over the entry; a bit that a layout lacks is an empty mask."""

    name: str
    """As the commands take it: ``ept-5.13``."""
    kernels: str
    """Which Linux kernels lay entries out so, in words."""
    is_ept: bool
    """Intel's EPT; else AMD's NPT, which has the format of ordinary page tables."""
    present: int
    """SPTE_MMU_PRESENT_MASK; up to 5.12, which has none, what makes the CPU find an entry."""
    readable: int
    """R of an EPT entry, P of an NPT entry."""
    writable: int
    executable: int
    """Bits that grant execution, all set or all clear; none for NPT."""
    no_execute: int
    """The bit that denies execution: NX of NPT."""
    user: int
    """U of an NPT entry."""
    accessed: int
    dirty: int
    host_writable: int
    mmu_writable: int
    ad_type: int
    """Two bits: who keeps A and D. Of its four values 1 says that the CPU does not."""
    saved_shift: int
    """By how many bits an access-tracked entry's rights are shifted to be saved."""
    empty: tuple[int, ...]
    """Values of KVM's own empty entry."""
    frozen: tuple[int, ...]
    """FROZEN_SPTE, or REMOVED_SPTE as it was called: another thread is at work here."""
    mmio_mask: int
    mmio_value: int
    """An entry with `mmio_value` in these bits stands for a device."""
    suppress_ve: int
    """Set in all entries but MMIO ones from the TDX era on."""

    @property
    def title(self) -> str:
        """``EPT, Linux 7.2``."""
        return f"{'EPT' if self.is_ept else 'NPT'}, {self.kernels}"

    @property
    def saved(self) -> int:
        """Where an access-tracked leaf keeps R and the execute bits; nowhere under NPT, which has A and D."""
        return (self.readable | self.executable) << self.saved_shift if self.is_ept else 0

    @property
    def is_of_7_2(self) -> bool:
        """Whether it is a layout of Linux 7.2: there a split also revokes execution (S26)."""
        return self.ad_type == SPTE_TDP_AD_MASK

    @property
    def has_present_bit(self) -> bool:
        """Whether KVM keeps a present bit of its own, bit 11 (since 5.13)."""
        return self.present == SPTE_MMU_PRESENT_MASK

    def is_access_tracked(self, spte: int) -> bool:
        """Whether KVM took a leaf's rights away to notice the next access, as EPT without A and D needs."""
        low = self.ad_type & -self.ad_type
        return self.is_ept and spte & self.ad_type == low and not spte & (VMX_EPT_RWX_MASK | self.executable)

    def rights_of(self, spte: int) -> str:
        """What a leaf or table grants, of ``rwx``; of an access-tracked leaf, what it had."""
        if self.is_access_tracked(spte):
            spte = (spte & self.saved) >> self.saved_shift
        executes = spte & self.executable == self.executable and not spte & self.no_execute
        granted = (spte & self.readable, spte & self.writable, executes)
        return "".join(right for right, is_granted in zip("rwx", granted, strict=True) if is_granted)

    def kind_of(self, spte: int, level: int) -> str:
        """How KVM of this layout takes `spte` at `level`: leaf, table, mmio, frozen or non-present."""
        if spte & self.mmio_mask == self.mmio_value:
            return "mmio"
        if not spte & self.present and (self.has_present_bit or not self.is_access_tracked(spte)):
            return "frozen" if spte in self.frozen else "non-present"
        return "leaf" if level == PG_LEVEL_4K or spte & PT_PAGE_SIZE_MASK else "table"


_EPT_5_13 = SpteLayout(
    name="ept-5.13",
    kernels="Linux 5.13 to the TDX era",
    is_ept=True,
    present=SPTE_MMU_PRESENT_MASK,
    readable=VMX_EPT_READABLE_MASK,
    writable=VMX_EPT_WRITABLE_MASK,
    executable=VMX_EPT_EXECUTABLE_MASK,
    no_execute=0,
    user=0,
    accessed=1 << 8,
    dirty=1 << 9,
    host_writable=1 << 57,
    mmu_writable=1 << 58,
    ad_type=3 << 52,
    saved_shift=54,
    empty=(0,),
    frozen=(0x5A0,),
    mmio_mask=SPTE_MMU_PRESENT_MASK | VMX_EPT_RWX_MASK,
    mmio_value=VMX_EPT_MISCONFIG_WX_VALUE,
    suppress_ve=0,
)
_EPT_5_12 = _EPT_5_13._replace(
    name="ept-5.12",
    kernels="Linux up to 5.12",
    present=VMX_EPT_RWX_MASK,
    host_writable=1 << 10,
    mmu_writable=1 << 11,
    frozen=(1 << 59,),
    mmio_mask=_MMIO_TYPE | VMX_EPT_RWX_MASK,
    mmio_value=_MMIO_TYPE | VMX_EPT_MISCONFIG_WX_VALUE,
)
_EPT_TDX = _EPT_5_13._replace(
    name="ept-tdx",
    kernels="Linux of the TDX era, before 7.2",
    empty=(SHADOW_NONPRESENT_VALUE,),
    frozen=(FROZEN_SPTE,),
    suppress_ve=VMX_EPT_SUPPRESS_VE_BIT,
)
EPT_7_2 = _EPT_TDX._replace(
    name="ept-7.2",
    kernels="Linux 7.2",
    executable=VMX_EPT_EXECUTABLE_MASK | VMX_EPT_USER_EXECUTABLE_MASK,
    host_writable=1 << 53,
    mmu_writable=1 << 55,
    ad_type=3 << 60,
    saved_shift=52,
)
"""The engine's own."""
_NPT_5_13 = _EPT_5_13._replace(
    name="npt-5.13",
    kernels="Linux 5.13 and later, before 7.2",
    is_ept=False,
    executable=0,
    no_execute=PT64_NX_MASK,
    user=1 << 2,
    accessed=1 << 5,
    dirty=1 << 6,
    host_writable=1 << 9,
    mmu_writable=1 << 10,
    empty=(0, SHADOW_NONPRESENT_VALUE),
    frozen=(0x5A0, FROZEN_SPTE),
    mmio_mask=SPTE_MMU_PRESENT_MASK | VMX_EPT_READABLE_MASK | _RESERVED,
    mmio_value=VMX_EPT_READABLE_MASK | _RESERVED,
)
_NPT_5_12 = _NPT_5_13._replace(
    name="npt-5.12",
    kernels="Linux up to 5.12",
    present=VMX_EPT_READABLE_MASK,
    host_writable=1 << 10,
    mmu_writable=1 << 11,
    empty=(0,),
    frozen=(1 << 59,),
    mmio_mask=_MMIO_TYPE | VMX_EPT_READABLE_MASK,
    mmio_value=_MMIO_TYPE | VMX_EPT_READABLE_MASK,
)
_NPT_7_2 = _NPT_5_13._replace(
    name="npt-7.2",
    kernels="Linux 7.2",
    ad_type=3 << 60,
    empty=(SHADOW_NONPRESENT_VALUE,),
    frozen=(FROZEN_SPTE,),
)

LAYOUTS = {
    layout.name: layout
    for layout in (EPT_7_2, _EPT_TDX, _EPT_5_13, _EPT_5_12, _NPT_7_2, _NPT_5_13, _NPT_5_12)
}
"""Every layout by name, newest first in each family (S260, S261)."""


def layouts_named(name: str) -> tuple[SpteLayout, ...]:
    """The layout `name`, or those of a family: ``ept``, ``npt``, or all for the empty name.

    Raises InvalidTypeError unless it is text, InvalidValueError for another name.
    """
    if not isinstance(name, str):
        raise InvalidTypeError(f"a layout is named by text; {name!r} is a {type(name).__name__}")
    found = tuple(layout for layout in LAYOUTS.values() if name in ("", layout.name, layout.name[:3]))
    if not found:
        raise InvalidValueError(f"'{name}' is no layout of entries; take ept, npt or {', '.join(LAYOUTS)}")
    return found


class UsedBits(NamedTuple):
    """Masks of the bits that a present entry may have set, and of those that it has set."""

    leaf: int
    table: int
    needed: int


@cache
def used_bits(layout: SpteLayout) -> UsedBits:
    """The bits of present entries of `layout`; every other bit of a leaf or table is clear."""
    needed = layout.suppress_ve | (layout.present if layout.has_present_bit else 0)
    everywhere = layout.readable | layout.writable | layout.executable | layout.user | layout.accessed
    everywhere |= needed | layout.ad_type | SPTE_BASE_ADDR_MASK
    leaf = everywhere | layout.dirty | layout.host_writable | layout.mmu_writable | layout.saved
    leaf |= PT_PAGE_SIZE_MASK | layout.no_execute
    leaf |= VMX_EPT_MT_MASK | VMX_EPT_IPAT_BIT if layout.is_ept else PT_CACHING
    return UsedBits(leaf, everywhere, needed if layout.is_ept else needed | layout.readable)


def memory_type(spte: int) -> int:
    """The memory type of an EPT leaf, by number."""
    return (spte & VMX_EPT_MT_MASK) >> VMX_EPT_MT_EPTE_SHIFT


def guard_bits(phys_bits: int) -> int:
    """The mask of the guard bits that an MMIO entry carries on a host of `phys_bits` physical address bits.

    KVM sets the five highest address bits of an entry that the CPU finds non-present, where the host has the
    L1TF flaw (S262). Raises InvalidValueError for a width that no host of the kind has (32 to 46: KVM uses
    none from 47 bits on).
    """
    if not 32 <= phys_bits <= 52 - _GUARDED - 1:
        raise InvalidValueError(f"a host with guard bits has 32 to 46 physical bits; {phys_bits} is not")
    return (1 << phys_bits) - (1 << phys_bits - _GUARDED)


def guard_widths(spte: int, layout: SpteLayout) -> tuple[int, ...]:
    """The widths of hosts, in physical address bits, on which `spte` may be an MMIO entry with guard bits.

    The five highest bits are set and nothing is set above the five bits that they displaced. Widths from 36
    on are tried: no 64-bit host of the kind has fewer. Empty if `spte` has no guard bits.
    """
    address = spte & (1 << (52 if layout.is_ept else 51)) - 1
    return tuple(
        bits
        for bits in range(36, 52 - _GUARDED)
        if not guard_bits(bits) & ~address and not address >> bits + _GUARDED
    )


def mmio_gfn(spte: int, layout: SpteLayout, guard: int = 0) -> int:
    """The guest frame that an MMIO entry stands for.

    guard: the mask of guard bits. What the address had there is five bits higher, and is put back (S262).
    Without them the reserved bits of NPT, which are set from bit 51 down, are taken off.
    """
    if guard:
        return (spte & (guard & -guard) - 1 | spte >> _GUARDED & guard) >> 12
    top = 52
    while not layout.is_ept and top > 36 and spte >> top - 1 & 1:
        top -= 1
    return (spte & (1 << top) - 1) >> 12
