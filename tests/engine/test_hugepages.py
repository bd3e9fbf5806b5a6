"""Which half each frame belongs to, against a plain set of frames; which blocks hold both, frame by frame."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import FrameSet as FrameSet
from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.mmu import (
    hugepage_allowed,
    hugepage_test_guest_inhibit,
    kvm_arch_post_set_memory_attributes,
    kvm_max_mapping_level,
    set_disallow_lpage,
)
from tests.oracles import brute

MIXED, INHIBIT, OTHER = 1 << 31, 1 << 30, 1 << 3
"""Kernel-facts 8.14; OTHER stands for whatever else is kept in that word."""
FRAMES = 64
SPANS = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, 20)).map(
    lambda of: GfnRange(of[0], min(FRAMES, of[0] + of[1]))
)
STORES = st.lists(st.tuples(SPANS, st.booleans()), max_size=8)


def frames(span: GfnRange) -> set[int]:
    return set(range(span.start, span.end))


def stored(attributes: FrameSet, stores) -> set[int]:
    """Make the stores; the private frames, as a set."""
    private: set[int] = set()
    for span, to_private in stores:
        attributes.store(span, to_private)
        private = private | frames(span) if to_private else private - frames(span)
    return private


@settings(max_examples=300)
@given(STORES, SPANS)
def test_stores_in_any_order_leave_what_a_set_of_frames_has(stores, span):
    attributes = FrameSet()
    private = stored(attributes, stores)
    assert {gfn for gfn in range(FRAMES + 5) if gfn in attributes} == private
    inside = private & frames(span)
    assert attributes.has(span, True) is (inside == frames(span))
    assert attributes.has(span, False) is (not inside)
    assert attributes.uniform(span) is (not inside or inside == frames(span))


@settings(max_examples=200)
@given(STORES)
def test_ranges_are_in_order_apart_and_hold_the_private_frames(stores):
    attributes = FrameSet()
    private = stored(attributes, stores)
    spans = attributes.ranges()
    assert [gfn for span in spans for gfn in range(span.start, span.end)] == sorted(private)
    assert all(span.pages for span in spans)
    assert all(one.end < other.start for one, other in pairwise(spans))


def test_at_first_every_frame_is_shared():
    attributes = FrameSet()
    assert attributes.has(GfnRange(0, 1 << 40), False)
    assert attributes.ranges() == []


# ---- blocks that hold both halves ------------------------------------------------------------------------

SHAPES = [Geometry(1, 4, 4), Geometry(2, 4, 3), Geometry(2, 4, 2), Geometry(3, 3, 2)]
FLAGS = st.dictionaries(
    st.tuples(st.integers(2, 3), st.integers(0, FRAMES - 1)),
    st.sampled_from([INHIBIT, OTHER, INHIBIT | OTHER]),
)


def blocks(vm: Kvm):
    for level in range(2, vm.max_leaf_level + 1):
        size = brute.pages(vm.geometry, level)
        yield from ((level, first) for first in range(0, FRAMES, size))


@settings(max_examples=200)
@given(st.sampled_from(SHAPES), st.sampled_from([KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM]), STORES, FLAGS)
def test_after_each_store_the_mixed_flag_is_on_the_blocks_with_frames_of_both_halves(
    shape, vm_type, stores, flags
):
    """And what other flags a block has stays (kernel-facts 8.14: the inhibit bit is one-way)."""
    vm, private = Kvm(vm_type, shape), set()
    kept: dict[tuple[int, int], int] = {}
    for (level, gfn), flag in flags.items():
        if level <= vm.max_leaf_level:
            key = (level, gfn - gfn % brute.pages(shape, level))
            kept[key] = kept.get(key, 0) | flag
            set_disallow_lpage(vm, gfn, level, flag, True)
    for span, to_private in stores:
        vm.mem_attributes.store(span, to_private)
        kvm_arch_post_set_memory_attributes(vm, span)
        private = private | frames(span) if to_private else private - frames(span)
        expected = dict(kept)
        for level, first in blocks(vm):
            block = set(range(first, first + brute.pages(shape, level)))
            if block & private and block - private:
                expected[level, first] = expected.get((level, first), 0) | MIXED
        assert vm.disallow_lpage == expected


# ---- where a huge page may be ----------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.sampled_from(SHAPES),
    st.integers(0, 15),
    st.integers(1, 64),
    st.dictionaries(st.tuples(st.integers(2, 4), st.integers(0, FRAMES - 1)), st.just(INHIBIT), max_size=4),
    st.data(),
)
def test_a_huge_page_may_be_where_its_block_is_in_the_slot_and_has_no_flag(shape, base, pages, flags, data):
    slot = KvmMemorySlot(base, min(pages, shape.root_pages - base, FRAMES - base))
    vm = Kvm(KVM_X86_DEFAULT_VM, shape, memslots=[slot])
    flagged = set()
    for level, gfn in flags:
        if level <= vm.max_leaf_level:
            set_disallow_lpage(vm, gfn, level, INHIBIT, True)
            flagged.add((level, gfn - gfn % brute.pages(shape, level)))
    gfn = data.draw(st.integers(base, base + slot.npages - 1))
    allowed = {1}
    for level, first in blocks(vm):
        block = range(first, first + brute.pages(shape, level))
        if gfn in block:
            inside = all(base <= frame < base + slot.npages for frame in block)
            assert hugepage_allowed(vm, slot, gfn, level) is (inside and (level, first) not in flagged)
            assert hugepage_test_guest_inhibit(vm, gfn, level) is ((level, first) in flagged)
            if inside and (level, first) not in flagged:
                allowed.add(level)
    for most in range(1, vm.max_leaf_level + 1):
        assert kvm_max_mapping_level(vm, slot, gfn, most) == max(level for level in allowed if level <= most)


@pytest.mark.parametrize("gfn", [4, 5, 7])
def test_flags_are_set_and_cleared_one_by_one(gfn):
    """On the block, whichever of its frames is named."""
    vm = Kvm(KVM_X86_TDX_VM, Geometry(2, 3, 2))
    set_disallow_lpage(vm, gfn, 2, MIXED, True)
    set_disallow_lpage(vm, gfn, 2, INHIBIT, True)
    assert vm.disallow_lpage == {(2, 4): MIXED | INHIBIT}
    assert [hugepage_test_guest_inhibit(vm, at, 2) for at in (3, 4, 7, 8)] == [False, True, True, False]
    set_disallow_lpage(vm, gfn, 2, MIXED, False)
    assert vm.disallow_lpage == {(2, 4): INHIBIT}
    set_disallow_lpage(vm, gfn, 2, INHIBIT, False)
    set_disallow_lpage(vm, gfn, 2, MIXED, False)
    assert not vm.disallow_lpage
    assert not hugepage_test_guest_inhibit(vm, gfn, 2)
