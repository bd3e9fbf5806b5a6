"""One entry of the S-EPT: its state and its bits.

The encoding is this kit's, the real one being the module's secret: KVM's bits for "in use", page size and
frame, so that the functions of `tree` read it; the state in bits 58:56, which nobody tests. Source:
kernel-facts 8.4, 8.5.
"""

from __future__ import annotations

from enum import IntEnum

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.engine.spte import (
    PT_PAGE_SIZE_MASK,
    SPTE_BASE_ADDR_MASK,
    SPTE_MMU_PRESENT_MASK,
    VMX_EPT_MT_MASK,
    VMX_EPT_RWX_MASK,
    VMX_EPT_SUPPRESS_VE_BIT,
    is_last_spte,
    is_shadow_present_pte,
    make_leaf_spte,
)
from tdpkit.engine.tree import Passed


class SeptState(IntEnum):
    """State of an S-EPT entry (enum tdx_sept_entry_state, tdx_arch.h; kernel-facts 8.5)."""

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
"""What an S-EPT leaf shares with one of KVM's in every state."""

BLOCKED_FROM = {SeptState.PRESENT: SeptState.BLOCKED, SeptState.PENDING: SeptState.PENDING_BLOCKED}
UNBLOCKED_FROM = {blocked: state for state, blocked in BLOCKED_FROM.items()}
"""What RANGE.BLOCK makes of a leaf's state, and DEMOTE of a blocked one's."""


def make_sept_leaf(pfn: int, level: int, state: SeptState) -> int:
    """A leaf of `level` on host frame `pfn`: in use, writeback, RWX only where PRESENT.

    Raises InvalidValueError for a FREE leaf, and as :func:`~.spte.make_leaf_spte`.
    """
    if state == SeptState.FREE:
        raise InvalidValueError(f"a leaf is in use; one on host frame {pfn:#x} in state FREE (0) is none")
    kept = _LEAF_BITS | (VMX_EPT_RWX_MASK if state == SeptState.PRESENT else 0)
    return make_leaf_spte(pfn, level) & kept | state << _STATE_SHIFT


def sept_state(entry: int) -> SeptState:
    """State of an S-EPT entry: FREE if nothing is there, PRESENT for a table, else what the leaf says."""
    if not is_shadow_present_pte(entry):
        return SeptState.FREE
    return SeptState((entry & _STATE_MASK) >> _STATE_SHIFT or SeptState.PRESENT)


def is_sept_table(at: Passed) -> bool:
    """The entry links to a table."""
    return is_shadow_present_pte(at.spte) and not is_last_spte(at.spte, at.level)
