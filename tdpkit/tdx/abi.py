"""The language between TDX module, host and guest: calls, statuses and exits.

Source: S163-S164, S170, S171, S178.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

TDX_SUCCESS = 0
TDX_INTERRUPTED_RESUMABLE = 0x80000003 << 32
TDX_INTERRUPTED_RESTARTABLE = 0x80000004 << 32
TDX_OPERAND_INVALID = 0xC0000100 << 32
TDX_OPERAND_BUSY = 0x80000200 << 32
TDX_PREVIOUS_TLB_EPOCH_BUSY = 0x80000201 << 32
TDX_PAGE_METADATA_INCORRECT = 0xC0000300 << 32
TDX_EPT_WALK_FAILED = 0xC0000B00 << 32
TDX_EPT_ENTRY_FREE = 0xC0000B01 << 32
TDX_EPT_ENTRY_NOT_FREE = 0xC0000B02 << 32
TDX_GPA_RANGE_NOT_BLOCKED = 0xC0000B06 << 32
TDX_GPA_RANGE_ALREADY_BLOCKED = 0x00000B07 << 32
TDX_TLB_TRACKING_NOT_DONE = 0xC0000B08 << 32
TDX_EPT_INVALID_PROMOTE_CONDITIONS = 0xC0000B09 << 32
TDX_PAGE_ALREADY_ACCEPTED = 0x00000B0A << 32
TDX_PAGE_SIZE_MISMATCH = 0xC0000B0B << 32
TDX_GPA_RANGE_BLOCKED = 0xC0000B0C << 32
TDX_EPT_ENTRY_STATE_INCORRECT = 0xC0000B0D << 32
STATUS_NAMES: dict[int, str] = {value: name for name, value in globals().items() if name.startswith("TDX_")}
"""Status codes (S178). The lower half, which names an operand, stays 0."""

PAMT_ENTRY_PAGES = 2
"""4K metadata pages for each 2M of host memory in use at 4K (Dynamic PAMT, S176)."""


def is_error(status: int) -> bool:
    """Test bit 63, which marks a failed call. Some statuses other than TDX_SUCCESS are no errors."""
    return bool(status >> 63)


def status_name(status: int) -> str:
    """Name `status`, ignoring its lower 32 bits; hex if the model has no name for it."""
    return STATUS_NAMES.get(status >> 32 << 32, f"{status:#018x}")


class Seamcall(IntEnum):
    """Leaf numbers of the SEAMCALLs in the model (S163-S164)."""

    VP_ENTER = 0
    MEM_SEPT_ADD = 3
    MEM_PAGE_AUG = 6
    MEM_RANGE_BLOCK = 7
    MEM_PAGE_DEMOTE = 15
    PHYMEM_PAGE_RECLAIM = 28
    MEM_PAGE_REMOVE = 29
    MEM_TRACK = 38
    PHYMEM_PAGE_WBINVD = 41
    PHYMEM_PAMT_ADD = 58
    PHYMEM_PAMT_REMOVE = 59

    def __str__(self) -> str:
        return _SEAMCALL_NAMES[self]


_SEAMCALL_NAMES = {call: "TDH." + call.name.replace("_", ".") for call in Seamcall}


class Call(NamedTuple):
    """One line of the log. `status` is None if a TDCALL ended in an exit to KVM."""

    name: str
    gfn: int | None
    level: int | None
    status: int | None
    pfn: int | None = None
    vcpu: int | None = None

    def __repr__(self) -> str:
        named = {"gfn": self.gfn, "level": self.level, "pfn": self.pfn, "vcpu": self.vcpu}
        shown = (
            f"{key}={value:#x}" if key in ("gfn", "pfn") else f"{key}={value}"
            for key, value in named.items()
            if value is not None
        )
        return f"{self.name}({', '.join(shown)}) = " + (
            "EPT violation" if self.status is None else status_name(self.status)
        )


class EptViolation(NamedTuple):
    """A TD exit to KVM. kind: the extended exit qualification's type: "accept", "access" or "pending".

    level: the level that an ACCEPT asks for, in KVM's count (S170).
    """

    gfn: int
    kind: str
    level: int | None = None


class Accept(NamedTuple):
    """The outcome of TDG.MEM.PAGE.ACCEPT: a status for the guest, or an exit to KVM."""

    status: int | None
    exit: EptViolation | None = None


class Access(NamedTuple):
    """The outcome of an access: "ok" on host frame `pfn`, "#VE" to the guest, or "violation", an exit."""

    outcome: str
    pfn: int | None = None
    exit: EptViolation | None = None
