"""An entry in one sentence."""

from __future__ import annotations

from ..spte_layouts import EPT_7_2
from ..words import listed
from .entry import Entry
from .fields import name_frames

_VERBS = {"r": "read", "w": "write", "x": "execute"}


def say_entry(entry: Entry, *, at_any_level: bool = False) -> str:
    """What the entry is, as kernels of its layout take it; `at_any_level`: without naming the table below."""
    if entry.kind == "frozen":
        return "Frozen: not present, and in the middle of another thread's change; hands off."
    if entry.kind == "mmio":
        return _say_mmio(entry)
    if entry.kind == "non-present":
        return _say_absent(entry)
    if entry.flaws:
        what = "table entry" if entry.kind == "table" else f"leaf of {entry.label}"
        kernel = "kernel" if entry.layout == EPT_7_2 else f"kernel with layout {entry.layout.name}"
        return f"It reads as a {what} on host frame {entry.pfn:#x}, and no {kernel} would hold it here."
    if entry.kind == "table":
        below = "below" if at_any_level else f"of {entry.geometry.level(entry.level - 1).label} entries"
        where = f"the table {below} in frame {entry.pfn:#x}"
        return f"A table entry: it maps nothing itself; it leads to {where}."
    frames = name_frames(entry.pfn, entry.pages)
    return f"A leaf of {entry.label}: {frames}; {rights_of(entry)}."


def rights_of(entry: Entry) -> str:
    """``the guest may read and write``."""
    if entry.is_access_tracked:
        return "access-tracked, R, W and X are taken away"
    allowed = [_VERBS[right] for right in entry.rights]
    return f"the guest may {listed(allowed)}" if allowed else "the guest may do nothing with it"


def _say_mmio(entry: Entry) -> str:
    fails = "an EPT misconfiguration" if entry.layout.is_ept else "a fault on a reserved bit"
    frame = f"guest frame {entry.mmio_gfn:#x} is a device's"
    return f"MMIO: not present; {frame}. An access is {fails} by design: KVM emulates it."


def _say_absent(entry: Entry) -> str:
    if entry.flaws:
        return "Not present, as KVM sees it, and no entry of KVM's making."
    held = "bit 63 alone" if entry.spte else "0"
    fails = "an EPT violation" if entry.layout.is_ept else "a nested page fault"
    return f"Not present: the empty entry is {held}, and an access here is {fails}."
