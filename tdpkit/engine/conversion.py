"""Conversion, per VM: a range changes between private and shared (KVM_SET_MEMORY_ATTRIBUTES).

A call that fails leaves the attributes as they were. Its splits stay, and in slots before the failing one the
old half is already zapped (S108). Another call completes the conversion. The ioctl on the file,
KVM_SET_MEMORY_ATTRIBUTES2, is in `guest_memfd`.

v3 15/24 jumps past the end of the invalidation on an error. Here the invalidation ends, unless the caller
asks for the code as posted.

Sources: kvm_main.c and mmu.c of 6.16, patches v3 14/24 and 15/24; S196, S198. Left out: the reservation of
the attribute array.
"""

from __future__ import annotations

from .events import EINVAL, Coroutine, Flush, Lock, Unlock
from .gfn import PG_LEVEL_2M, GfnRange, InvalidValueError, align_down, as_integer, name_gfn
from .kvm import (
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    Kvm,
    KvmGfnRange,
    kvm_mmu_invalidate_begin,
    kvm_mmu_invalidate_end,
)
from .mmu import hugepage_allowed, kvm_arch_post_set_memory_attributes, kvm_unmap_gfn_range
from .splits import RangeSplit, split_v3

KVM_MEMORY_ATTRIBUTE_PRIVATE = 1 << 3


def kvm_vm_set_mem_attributes(
    kvm: Kvm,
    start: int,
    end: int,
    attributes: int,
    *,
    split: RangeSplit = split_v3,
    as_posted: bool = False,
) -> Coroutine[int]:
    """KVM_SET_MEMORY_ATTRIBUTES: frames [start, end) become private (KVM_MEMORY_ATTRIBUTE_PRIVATE) or shared.

    Begin the invalidation; on the way to shared, split private leaves at the edges; zap exactly the range in
    the half it leaves; flush; store the attributes; recompute where huge pages are allowed. Zaps cover frames
    in slots, attributes all frames. Returns 0; -EINVAL for an empty range or attributes that the VM does not
    support (without private memory: any); else the split's negative errno, with nothing zapped in that slot.

    as_posted: v3 15/24 to the letter. A negative errno skips the end of the invalidation, so faults on the
    range are retried for ever: a later call that succeeds ends its own invalidation, not this one.

    A *positive* value from the split is taken for "flush": the zap is skipped, the attributes are stored, and
    the call ends its invalidation and returns 0. That is how v3's ``bool ret`` loses an errno (S107). Raises
    InvalidTypeError or InvalidValueError, before anything changes, for a range that is no range of this VM.
    Source: S196, S198.
    """
    span = GfnRange(start, end)
    if span.end > kvm.max_gfn_exclusive:
        raise InvalidValueError(
            f"frames of this VM end at {name_gfn(kvm.max_gfn_exclusive)}; "
            f"the end {name_gfn(span.end)} is beyond"
        )
    return _set_mem_attributes(kvm, span, as_integer(attributes, "attributes"), split, as_posted)


def _set_mem_attributes(
    kvm: Kvm, span: GfnRange, attributes: int, split: RangeSplit, as_posted: bool
) -> Coroutine[int]:
    private = attributes == KVM_MEMORY_ATTRIBUTE_PRIVATE
    supported = KVM_MEMORY_ATTRIBUTE_PRIVATE if kvm.has_private_mem else 0
    if attributes & ~supported or not span.pages:
        return -EINVAL
    with kvm.slots_lock:
        if kvm.mem_attributes.has(span, private):
            return 0
        yield Lock(False)
        kvm_mmu_invalidate_begin(kvm, with_huge_edges(kvm, span))
        ret = yield from _zap_half(kvm, span, KVM_FILTER_SHARED if private else KVM_FILTER_PRIVATE, split)
        yield Unlock(False, "done")
        if ret and as_posted:
            return ret
        if ret == 0:
            kvm.mem_attributes.store(span, private)
        yield Lock(False)
        if ret == 0:
            kvm_arch_post_set_memory_attributes(kvm, span)
        kvm_mmu_invalidate_end(kvm)
        yield Unlock(False, "done")
    return ret


def with_huge_edges(kvm: Kvm, span: GfnRange) -> GfnRange:
    """Extend the range by the huge blocks at its edges still allowed: faults there must retry too."""
    start, end = span.start, span.end
    for level in range(PG_LEVEL_2M, kvm.max_leaf_level + 1):
        pages = kvm.geometry.pages(level)
        for gfn in (span.start, span.end - 1):
            slot, first = kvm.slot_of(gfn), align_down(gfn, pages)
            if slot and hugepage_allowed(kvm, slot, gfn, level):
                start, end = min(start, first), max(end, first + pages)
    return GfnRange(start, end)


def _zap_half(kvm: Kvm, span: GfnRange, attr_filter: int, split: RangeSplit) -> Coroutine[int]:
    """kvm_handle_gfn_range with the "pre" handler of v3 15/24: split (private only) and zap, slot by slot.

    Flushes what was zapped even if a later slot fails (v3 14/24).
    """
    flush, ret = False, 0
    for slot in sorted(kvm.memslots, key=lambda slot: slot.base_gfn):
        start, end = max(span.start, slot.base_gfn), min(span.end, slot.base_gfn + slot.npages)
        if start >= end:
            continue
        gfn_range = KvmGfnRange(slot, start, end, attr_filter)
        ret = (yield from split(kvm, gfn_range)) if attr_filter == KVM_FILTER_PRIVATE else 0
        if ret == 0:
            ret = yield from kvm_unmap_gfn_range(kvm, gfn_range)
        if ret < 0:
            break
        flush = flush or ret > 0
    if flush:
        yield Flush()
    return min(0, ret)
