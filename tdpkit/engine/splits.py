"""How a caller makes the edges of a private range safe before it zaps it: the proposals of the thread.

A caller makes its split under the write lock, with the range protected by an invalidation. What it makes of
the value that comes back is the caller's business, and part of the story (kernel-facts 6.12 D1).
"""

from __future__ import annotations

from collections.abc import Callable

from .events import Coroutine
from .gfn import PG_LEVEL_4K, align_down
from .kvm import Kvm, KvmGfnRange
from .mmu import kvm_split_cross_boundary_leafs, kvm_tdp_mmu_mirrors_split_huge_pages

RangeSplit = Callable[[Kvm, KvmGfnRange], Coroutine[int]]
"""Makes the edges of a private range safe to zap, under the write lock: 0, or what its caller makes of it."""


def split_v3(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """The patch, with its return value mended."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False)


def split_v3_as_posted(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """The patch as posted: an errno comes back as 1."""
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False, as_posted=True)


def split_head_and_tail(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """What followed: at most two blocks of 2M, found by arithmetic, each split in the mirror roots.

    A TD's leaf is 2M at most, so one level is enough. Source: Sean Christopherson, 2026-01-29
    (aXt_L6QKB9CSTZcW@google.com); kernel-facts 7.3.
    """
    block = kvm.geometry.pages(PG_LEVEL_4K + 1)
    head, tail = align_down(gfn_range.start, block), align_down(gfn_range.end, block)
    blocks = [head] if head != gfn_range.start else []
    if tail != gfn_range.end and tail not in blocks:
        blocks.append(tail)
    for first in blocks:
        ret = yield from kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + block, PG_LEVEL_4K)
        if ret:
            return ret
    return 0


def no_split(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """Nothing: the zap takes whole what crosses an edge."""
    yield from ()
    return 0


SPLITS: dict[str, RangeSplit] = {
    "v3": split_v3,
    "v3 as posted": split_v3_as_posted,
    "head and tail": split_head_and_tail,
    "none": no_split,
}
"""Every way a caller can prepare a range, by name."""
