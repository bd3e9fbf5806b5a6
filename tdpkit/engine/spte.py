"""One 64-bit entry of a page table, with the EPT bits of Linux 7.2 (kernel-facts 2.1b).

An SPTE is a plain integer. Left out on purpose: a VM's policy for memory types and protection. A new leaf is
writeback, readable, writable and executable.
"""

from __future__ import annotations

from typing import NamedTuple

from .gfn import MAXPHYADDR, PAGE_SHIFT, PG_LEVEL_4K, Geometry, InvalidValueError

VMX_EPT_READABLE_MASK = 1 << 0
VMX_EPT_WRITABLE_MASK = 1 << 1
VMX_EPT_EXECUTABLE_MASK = 1 << 2
VMX_EPT_RWX_MASK = 7
VMX_EPT_MT_EPTE_SHIFT = 3
VMX_EPT_MT_MASK = 7 << VMX_EPT_MT_EPTE_SHIFT
VMX_EPT_MT_WB = 6
VMX_EPT_IPAT_BIT = 1 << 6
PT_PAGE_SIZE_MASK = 1 << 7
VMX_EPT_ACCESS_BIT = 1 << 8
VMX_EPT_DIRTY_BIT = 1 << 9
VMX_EPT_USER_EXECUTABLE_MASK = 1 << 10
SPTE_MMU_PRESENT_MASK = 1 << 11
SPTE_BASE_ADDR_MASK = (1 << MAXPHYADDR) - (1 << PAGE_SHIFT)
EPT_SPTE_HOST_WRITABLE = 1 << 53
EPT_SPTE_MMU_WRITABLE = 1 << 55
SPTE_TDP_AD_DISABLED = 1 << 60
SPTE_TDP_AD_WRPROT_ONLY = 1 << 61
SPTE_TDP_AD_MASK = SPTE_TDP_AD_DISABLED | SPTE_TDP_AD_WRPROT_ONLY
VMX_EPT_SUPPRESS_VE_BIT = 1 << 63
PT64_NX_MASK = 1 << 63

SHADOW_NONPRESENT_VALUE = VMX_EPT_SUPPRESS_VE_BIT
"""An empty entry. Not zero: bit 63 makes a miss an EPT violation instead of a #VE (kernel-facts 2.3)."""
FROZEN_SPTE = SHADOW_NONPRESENT_VALUE | 0x5A0
"""Another thread is changing this entry in several steps; leave it alone (kernel-facts 2.4)."""

SHADOW_ACC_TRACK_MASK = VMX_EPT_RWX_MASK | VMX_EPT_USER_EXECUTABLE_MASK
SHADOW_ACC_TRACK_SAVED_BITS_MASK = (
    VMX_EPT_READABLE_MASK | VMX_EPT_EXECUTABLE_MASK | VMX_EPT_USER_EXECUTABLE_MASK
)
SHADOW_ACC_TRACK_SAVED_BITS_SHIFT = 52
VMX_EPT_MISCONFIG_WX_VALUE = VMX_EPT_WRITABLE_MASK | VMX_EPT_EXECUTABLE_MASK


class ExecMasks(NamedTuple):
    """Execute permission in a paging format: bits that grant it, and a bit that denies it."""

    shadow_x_mask: int
    shadow_nx_mask: int


EPT = ExecMasks(VMX_EPT_EXECUTABLE_MASK | VMX_EPT_USER_EXECUTABLE_MASK, 0)
NPT = ExecMasks(0, PT64_NX_MASK)
"""AMD denies execution with bit 63 (kernel-facts 2.1b). The walk is the same for both formats."""


def is_shadow_present_pte(spte: int) -> bool:
    """Test KVM's own present bit, which is independent of R, W and X (spte.h)."""
    return bool(spte & SPTE_MMU_PRESENT_MASK)


def is_large_pte(spte: int) -> bool:
    """Test the page-size bit, which marks a leaf above 4K (spte.h)."""
    return bool(spte & PT_PAGE_SIZE_MASK)


def is_last_spte(spte: int, level: int) -> bool:
    """Whether a present entry of `level` is a leaf rather than a link to a table (spte.h)."""
    return level == PG_LEVEL_4K or bool(spte & PT_PAGE_SIZE_MASK)


def spte_to_pfn(spte: int) -> int:
    """The host frame of a leaf; for a table, its row in the pool."""
    return (spte & SPTE_BASE_ADDR_MASK) >> PAGE_SHIFT


def make_leaf_spte(pfn: int, level: int) -> int:
    """A present leaf of `level` on host frame `pfn`: writeback, RWX, A and D set (make_spte, spte.c).

    Raises InvalidValueError for a `pfn` that does not fit the 40 bits of the frame field. The caller aligns
    `pfn` to the leaf, because only the geometry knows the leaf's frames.
    """
    if not 0 <= pfn < 1 << (MAXPHYADDR - PAGE_SHIFT):
        raise InvalidValueError(f"a PFN has {MAXPHYADDR - PAGE_SHIFT} bits; {pfn:#x} does not fit")
    spte = (
        SPTE_MMU_PRESENT_MASK
        | VMX_EPT_SUPPRESS_VE_BIT
        | VMX_EPT_RWX_MASK
        | VMX_EPT_USER_EXECUTABLE_MASK
        | VMX_EPT_MT_WB << VMX_EPT_MT_EPTE_SHIFT
        | VMX_EPT_ACCESS_BIT
        | VMX_EPT_DIRTY_BIT
        | EPT_SPTE_HOST_WRITABLE
        | EPT_SPTE_MMU_WRITABLE
        | pfn << PAGE_SHIFT
    )
    return spte | PT_PAGE_SIZE_MASK if level > PG_LEVEL_4K else spte


def make_nonleaf_spte(row: int) -> int:
    """A present entry that points to the table in `row`; Accessed is set (make_nonleaf_spte, spte.c)."""
    return (
        SPTE_MMU_PRESENT_MASK
        | VMX_EPT_SUPPRESS_VE_BIT
        | VMX_EPT_RWX_MASK
        | VMX_EPT_USER_EXECUTABLE_MASK
        | VMX_EPT_ACCESS_BIT
        | row << PAGE_SHIFT
    )


def make_small_spte(
    huge_spte: int,
    child_level: int,
    index: int,
    geometry: Geometry,
    *,
    exec_allowed: bool = True,
    nx_huge_pages: bool = False,
    masks: ExecMasks = EPT,
) -> int:
    """Child `index`, of `child_level`, of a split huge leaf: the parent's bits with the frame advanced.

    The page-size bit is cleared only at 4K. Under the NX-huge-page mitigation a 4K child is executable
    exactly if the new table's role.access allows it (`exec_allowed`). Raises InvalidValueError if `huge_spte`
    is no present huge leaf, where the kernel has a KVM_BUG. Source: make_small_spte, spte.c; kernel-facts
    2.6.
    """
    if not (is_shadow_present_pte(huge_spte) and is_large_pte(huge_spte)):
        raise InvalidValueError(f"only a present huge leaf is split; {huge_spte:#018x} is none")
    child = huge_spte | index * geometry.pages(child_level) << PAGE_SHIFT
    if child_level == PG_LEVEL_4K:
        child &= ~PT_PAGE_SIZE_MASK
        if nx_huge_pages:
            child = _with_exec(child, exec_allowed, masks)
    return child


def _with_exec(spte: int, executable: bool, masks: ExecMasks) -> int:
    tracked = is_access_track_spte(spte)
    if tracked:
        spte = _restore_acc_track_spte(spte)
    if executable:
        spte = spte & ~masks.shadow_nx_mask | masks.shadow_x_mask
    else:
        spte = spte & ~masks.shadow_x_mask | masks.shadow_nx_mask
    return _mark_spte_for_access_track(spte) if tracked else spte


def is_access_track_spte(spte: int) -> bool:
    """Whether KVM, without A/D bits, took the access bits away to notice the next access (spte.h)."""
    return bool(spte & SPTE_TDP_AD_DISABLED) and not spte & SHADOW_ACC_TRACK_MASK


def _restore_acc_track_spte(spte: int) -> int:
    saved = spte >> SHADOW_ACC_TRACK_SAVED_BITS_SHIFT & SHADOW_ACC_TRACK_SAVED_BITS_MASK
    return spte & ~(SHADOW_ACC_TRACK_SAVED_BITS_MASK << SHADOW_ACC_TRACK_SAVED_BITS_SHIFT) | saved


def _mark_spte_for_access_track(spte: int) -> int:
    saved = spte & SHADOW_ACC_TRACK_SAVED_BITS_MASK
    return spte & ~SHADOW_ACC_TRACK_MASK | saved << SHADOW_ACC_TRACK_SAVED_BITS_SHIFT


class DecodedSpte(NamedTuple):
    """The parts of an SPTE. `kind` is "non-present", "frozen", "mmio", "table" or "leaf"."""

    kind: str
    pfn: int | None
    """Host frame of a leaf, pool row of a table, None otherwise."""
    bits: tuple[str, ...]
    """Names of the set flags, from bit 0 upwards."""


_FLAGS = (
    (VMX_EPT_READABLE_MASK, "R"),
    (VMX_EPT_WRITABLE_MASK, "W"),
    (VMX_EPT_EXECUTABLE_MASK, "X"),
    (VMX_EPT_IPAT_BIT, "IPAT"),
    (PT_PAGE_SIZE_MASK, "PS"),
    (VMX_EPT_ACCESS_BIT, "A"),
    (VMX_EPT_DIRTY_BIT, "D"),
    (VMX_EPT_USER_EXECUTABLE_MASK, "XU"),
    (SPTE_MMU_PRESENT_MASK, "MMU_PRESENT"),
    (EPT_SPTE_HOST_WRITABLE, "HOST_WRITABLE"),
    (EPT_SPTE_MMU_WRITABLE, "MMU_WRITABLE"),
    (SPTE_TDP_AD_DISABLED, "AD_DISABLED"),
    (SPTE_TDP_AD_WRPROT_ONLY, "AD_WRPROT_ONLY"),
    (VMX_EPT_SUPPRESS_VE_BIT, "SUPPRESS_VE"),
)


def decode(spte: int, level: int) -> DecodedSpte:
    """Take an EPT `spte` of `level` apart: kind, frame and flags.

    Raises InvalidValueError unless `spte` is a 64-bit value.
    """
    if not 0 <= spte < 1 << 64:
        raise InvalidValueError(f"an SPTE is a 64-bit value; {spte:#x} is not")
    bits = tuple(name for mask, name in _FLAGS if spte & mask)
    if spte == FROZEN_SPTE:
        return DecodedSpte("frozen", None, bits)
    if not is_shadow_present_pte(spte):
        mmio = spte & VMX_EPT_RWX_MASK == VMX_EPT_MISCONFIG_WX_VALUE
        return DecodedSpte("mmio" if mmio else "non-present", None, bits)
    return DecodedSpte("leaf" if is_last_spte(spte, level) else "table", spte_to_pfn(spte), bits)
