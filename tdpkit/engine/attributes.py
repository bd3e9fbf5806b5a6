"""Which half each frame of a TD belongs to, and where a huge page is not allowed.

KVM keeps the attribute PRIVATE per frame, and per level and block a word that forbids a huge page: because
the block holds both halves, or because the guest accepted it in smaller pieces. A slot's own edges forbid it
too. Left out: the count of write-tracked pages, which shares that word, and dirty logging.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from .gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange

if TYPE_CHECKING:
    from .kvm import Kvm, KvmMemorySlot

KVM_MEMORY_ATTRIBUTE_PRIVATE = 1 << 3
KVM_LPAGE_GUEST_INHIBIT_FLAG = 1 << 30
KVM_LPAGE_MIXED_FLAG = 1 << 31
"""Bits of lpage_info.disallow_lpage (kernel-facts 8.14)."""


class MemAttributes:
    """kvm->mem_attr_array: the private frames, kept as the frames at which the answer changes."""

    def __init__(self) -> None:
        self._edges: list[int] = []

    def __contains__(self, gfn: int) -> bool:
        return bool(bisect_right(self._edges, gfn) % 2)

    def uniform(self, span: GfnRange) -> bool:
        """All frames of a range that is not empty are of one half."""
        return bisect_right(self._edges, span.start) == bisect_left(self._edges, span.end)

    def has(self, span: GfnRange, private: bool) -> bool:
        """All frames of a range that is not empty are private, or all are shared.

        Source: kvm_range_has_memory_attributes, kvm_main.c.
        """
        return self.uniform(span) and (span.start in self) == private

    def store(self, span: GfnRange, private: bool) -> None:
        """Make the frames of a range that is not empty private, or shared."""
        before, after = (span.start - 1) in self, span.end in self
        edges = [span.start] * (before != private) + [span.end] * (after != private)
        self._edges[bisect_left(self._edges, span.start) : bisect_right(self._edges, span.end)] = edges

    @property
    def edges(self) -> tuple[int, ...]:
        """The frames at which the answer changes, in order: a private range, its end, and so on."""
        return tuple(self._edges)

    def private_ranges(self) -> list[GfnRange]:
        """The private frames, as ranges in order."""
        return [GfnRange(*pair) for pair in zip(self._edges[::2], self._edges[1::2], strict=True)]


# ---- where huge pages may be -------------------------------------------------------------------------------


def hugepage_allowed(kvm: Kvm, slot: KvmMemorySlot, gfn: int, level: int) -> bool:
    """Neither an edge of the slot nor a flag forbids a `level` leaf that holds `gfn` (kernel-facts 9.4)."""
    first, pages = kvm.geometry.gfn_round_for_level(gfn, level), kvm.geometry.pages(level)
    if not slot.base_gfn <= first <= first + pages <= slot.base_gfn + slot.npages:
        return False
    return not kvm.disallow_lpage.get((level, first))


def kvm_max_mapping_level(kvm: Kvm, slot: KvmMemorySlot, gfn: int, max_level: int) -> int:
    """The largest level, `max_level` at most, at which the slot may map `gfn` (source: mmu.c)."""
    levels = range(max_level, PG_LEVEL_4K, -1)
    return next((level for level in levels if hugepage_allowed(kvm, slot, gfn, level)), PG_LEVEL_4K)


def set_disallow_lpage(kvm: Kvm, gfn: int, level: int, flag: int, on: bool) -> None:
    """Set or clear one flag of the `level` block that holds `gfn`."""
    key = (level, kvm.geometry.gfn_round_for_level(gfn, level))
    flags = kvm.disallow_lpage.pop(key, 0)
    flags = flags | flag if on else flags & ~flag
    if flags:
        kvm.disallow_lpage[key] = flags


def hugepage_test_guest_inhibit(kvm: Kvm, gfn: int, level: int) -> bool:
    """The guest accepted this `level` block in smaller pieces (kernel-facts 8.14)."""
    key = (level, kvm.geometry.gfn_round_for_level(gfn, level))
    return bool(kvm.disallow_lpage.get(key, 0) & KVM_LPAGE_GUEST_INHIBIT_FLAG)


def kvm_arch_post_set_memory_attributes(kvm: Kvm, span: GfnRange) -> None:
    """Compute anew which blocks hold both halves, now that the attributes of `span` were stored.

    Only the first and the last block of a level can: what lies between has one half. Source: mmu.c;
    kernel-facts 9.7.
    """
    for level in range(PG_LEVEL_2M, kvm.max_leaf_level + 1):
        pages = kvm.geometry.pages(level)
        inside = [gfn for of, gfn in kvm.disallow_lpage if of == level and span.start <= gfn < span.end]
        ends = (kvm.geometry.gfn_round_for_level(gfn, level) for gfn in (span.start, span.end - 1))
        for gfn in {*inside, *ends}:
            mixed = not kvm.mem_attributes.uniform(GfnRange(gfn, gfn + pages))
            set_disallow_lpage(kvm, gfn, level, KVM_LPAGE_MIXED_FLAG, mixed)
