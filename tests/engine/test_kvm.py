"""One VM: how it is made, its memory slots, and the window in which faults on a range are retried."""

from contextlib import suppress

import numpy as np
import pytest

from tdpkit.engine.gfn import (
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
)
from tdpkit.engine.kvm import (
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Held,
    Kvm,
    KvmGfnRange,
    KvmMemorySlot,
    kvm_mmu_invalidate_begin,
    kvm_mmu_invalidate_end,
    mmu_invalidate_retry_gfn,
)
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import map_run
from tests.oracles import brute
from tests.oracles.vms import TOY

# ---- the shared bit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "bit"), [(X86_4LEVEL, 47), (X86_5LEVEL, 51), (TOY, 12 + 5)])
def test_the_direct_root_of_a_td_is_indexed_with_the_shared_bit_and_the_mirror_without(geometry, bit):
    """S8 and S10; in a toy the shared bit is the topmost the root can tell."""
    vm, shared, gfn = Kvm(KVM_X86_TDX_VM, geometry), 1 << bit - 12, 5
    assert vm.gfn_direct_bits == shared
    for root, at, not_at in ((vm.direct_root, gfn | shared, gfn), (vm.mirror_root, gfn, gfn | shared)):
        map_run(root, gfn, 1, 1, 77)
        path = [root.pool.table(root.row)]
        for level in range(geometry.root_level, 1, -1):
            raw = path[-1][at // brute.pages(geometry, level) % geometry.entries]
            path.append(root.pool.table((raw & brute.FRAME) >> 12))
        assert path[-1][at % geometry.entries] == brute.leaf(77, 1)
        top = not_at // brute.pages(geometry, geometry.root_level)
        assert path[0][top] == brute.HOLE


def test_a_plain_vm_has_one_root_and_no_shared_bit():
    vm = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL)
    assert (vm.gfn_direct_bits, vm.mirror_root, vm.tdp_mmu_roots) == (0, None, [vm.direct_root])
    assert not vm.direct_root.is_mirror


@pytest.mark.parametrize(
    ("start", "end", "kind", "message"),
    [
        (-1, 3, InvalidValueError, "the start is at least 0"),
        (5, 3, InvalidValueError, r"start 0x5 \(20K\) is above end 0x3 \(12K\)"),
        (1.0, 3, InvalidTypeError, "1.0 is a float"),
        (1, True, InvalidTypeError, "True is a bool"),
    ],
)
def test_a_range_of_a_slot_keeps_the_rules_of_ranges(start, end, kind, message):
    with pytest.raises(kind, match=message):
        KvmGfnRange(KvmMemorySlot(0, 64), start, end)


def test_a_range_of_a_slot_given_in_numpy_integers_is_kept_in_python_integers():
    gfn_range = KvmGfnRange(KvmMemorySlot(0, 64), np.uint64(5), np.int8(9))
    assert (gfn_range.start, gfn_range.end) == (5, 9)
    assert type(gfn_range.start) is type(gfn_range.end) is int


@pytest.mark.parametrize("vm_type", [2, 4, -5, "TD", None])
def test_an_unknown_kind_of_vm_is_refused_and_the_known_ones_named(vm_type):
    with pytest.raises(InvalidValueError, match=r"0 \(plain VM\), 1 \(.*\) or 5 \(TD\)") as refusal:
        Kvm(vm_type, TOY)
    assert repr(vm_type) in str(refusal.value)


@pytest.mark.parametrize("bit", [0, 3, 4, 48, 64, 1 << 40])
def test_a_shared_bit_that_is_no_bit_of_the_root_is_refused(bit):
    with pytest.raises(
        InvalidValueError, match=r"one bit of the root's index, 0x10 \(64K\) to 0x20 \(128K\)"
    ):
        Kvm(KVM_X86_TDX_VM, TOY, gfn_direct_bits=bit)


def test_a_plain_vm_takes_no_shared_bit():
    with pytest.raises(InvalidValueError, match="only a TD has a shared bit; 0x20"):
        Kvm(KVM_X86_DEFAULT_VM, TOY, gfn_direct_bits=32)


def test_a_pool_of_another_geometry_is_refused():
    """Its rows have another length; the VM would speak of levels that its roots do not have."""
    with pytest.raises(InvalidValueError, match="geometry"):
        Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, pool=PageTablePool(X86_5LEVEL))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("root_level", range(1, 6))
def test_the_shared_bit_of_a_toy_is_the_topmost_that_its_root_can_tell(bits, root_level):
    vm = Kvm(KVM_X86_TDX_VM, Geometry(bits, root_level, 1))
    assert vm.gfn_direct_bits == vm.max_gfn_exclusive == 1 << bits * root_level - 1
    assert vm.slot == KvmMemorySlot(0, vm.gfn_direct_bits)


@pytest.mark.parametrize("bit", [16, 32])
def test_a_shared_bit_may_be_any_of_the_roots_index(bit):
    vm = Kvm(KVM_X86_TDX_VM, TOY, gfn_direct_bits=bit)
    assert (vm.gfn_direct_bits, vm.max_gfn_exclusive) == (bit, bit)


@pytest.mark.parametrize(("largest", "in_a_td"), [(1, 1), (2, 2), (3, 2)])
def test_a_td_maps_2m_at_most_and_a_plain_vm_what_its_geometry_has(largest, in_a_td):
    """S3."""
    shape = Geometry(2, 4, largest)
    assert Kvm(KVM_X86_DEFAULT_VM, shape).max_leaf_level == largest
    assert Kvm(KVM_X86_TDX_VM, shape).max_leaf_level == in_a_td


@pytest.mark.parametrize(("asked", "largest"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_td_with_larger_leaves_than_2m_is_a_what_if_that_must_be_asked_for(asked, largest):
    assert Kvm(KVM_X86_TDX_VM, X86_4LEVEL, td_leaf_level=asked).max_leaf_level == largest
    assert Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, td_leaf_level=asked).max_leaf_level == 3


def test_the_largest_leaf_of_a_td_is_of_level_1_at_least():
    with pytest.raises(InvalidValueError, match=r"level 1 \(4K\) or above; 0 is not"):
        Kvm(KVM_X86_TDX_VM, X86_4LEVEL, td_leaf_level=0)


# ---- memory slots ----------------------------------------------------------------------------------------


def slots(*bases_and_sizes) -> list[KvmMemorySlot]:
    return [KvmMemorySlot(*slot) for slot in bases_and_sizes]


@pytest.mark.parametrize(
    ("vm_type", "memslots", "culprit"),
    [
        (KVM_X86_DEFAULT_VM, slots((0, 10), (9, 1)), r"1 frames at 0x9 \(36K\)"),
        (KVM_X86_DEFAULT_VM, slots((9, 5), (0, 10)), r"5 frames at 0x9 \(36K\)"),
        (KVM_X86_DEFAULT_VM, slots((0, 9), (5, 2, 1), (6, 1, 1)), r"1 frames at 0x6 \(24K\)"),
        (KVM_X86_DEFAULT_VM, slots((60, 5)), r"5 frames at 0x3c \(240K\)"),
        (KVM_X86_DEFAULT_VM, slots((3, 0)), r"0 frames at 0x3 \(12K\)"),
        (KVM_X86_TDX_VM, slots((30, 3)), r"below 0x20 \(128K\).*3 frames at 0x1e \(120K\)"),
        (KVM_X86_TDX_VM, slots((32, 1)), r"1 frames at 0x20 \(128K\)"),
    ],
)
def test_slots_that_overlap_are_empty_or_reach_beyond_the_vm_are_refused(vm_type, memslots, culprit):
    with pytest.raises(InvalidValueError, match=culprit):
        Kvm(vm_type, TOY, memslots=memslots)


@pytest.mark.parametrize("vm_type", [KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM])
def test_slots_may_touch_each_other_and_the_end_and_be_in_any_order(vm_type):
    end = Kvm(vm_type, TOY).max_gfn_exclusive
    memslots = slots((10, end - 10), (0, 10), (5, 3, 1))
    assert Kvm(vm_type, TOY, memslots=memslots).memslots == memslots


@pytest.mark.parametrize(
    ("numbers", "kind", "message"),
    [
        ({"base_gfn": -1}, InvalidValueError, "base_gfn is at least 0; -1"),
        ({"base_gfn": 1.0}, InvalidTypeError, "1.0 is a float"),
        ({"npages": -2}, InvalidValueError, "npages is at least 0; -2"),
        ({"npages": None}, InvalidTypeError, "None"),
        ({"as_id": "SMM"}, InvalidTypeError, "SMM"),
        ({"host_pfn": -5}, InvalidValueError, "host_pfn is at least 0; -5"),
        ({"host_level": 0}, InvalidValueError, "host_level is at least 1; 0"),
        ({"gmem_pgoff": True}, InvalidTypeError, "True is a bool"),
    ],
)
def test_a_slot_of_numbers_that_are_none_is_refused(numbers, kind, message):
    with pytest.raises(kind, match=message):
        KvmMemorySlot(**({"base_gfn": 0, "npages": 1} | numbers))


def test_a_slot_given_in_numpy_integers_is_kept_in_python_integers():
    slot = KvmMemorySlot(np.uint64(3), np.int16(5), host_pfn=np.uint32(7))
    assert (type(slot.base_gfn), type(slot.npages), type(slot.host_pfn)) == (int, int, int)


def test_a_frame_is_found_in_the_slot_that_holds_it():
    low, high, smm = memslots = slots((3, 4), (9, 1), (5, 30, 1))
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY, memslots=memslots)
    assert vm.slot is low
    for gfn in range(64):
        assert vm.slot_of(gfn) is (low if gfn in {3, 4, 5, 6} else high if gfn == 9 else None)
        assert vm.slot_of(gfn, 1) is (smm if 5 <= gfn <= 34 else None)
        assert vm.slot_of(gfn, 2) is None


# ---- invalidation ----------------------------------------------------------------------------------------


def retried(vm: Kvm, seq: int) -> set[int]:
    return {gfn for gfn in range(64) if mmu_invalidate_retry_gfn(vm, seq, gfn)}


def test_while_a_range_is_invalidated_faults_on_it_are_retried_and_afterwards_those_that_began_before():
    """S212."""
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY)
    before = vm.mmu_invalidate_seq
    assert retried(vm, before) == set()
    kvm_mmu_invalidate_begin(vm, GfnRange(5, 9))
    during = vm.mmu_invalidate_seq
    assert vm.mmu_invalidate_in_progress == 1
    assert retried(vm, before) == retried(vm, during) == {5, 6, 7, 8}
    kvm_mmu_invalidate_end(vm)
    assert vm.mmu_invalidate_in_progress == 0
    assert retried(vm, before) == retried(vm, during) == set(range(64))
    assert retried(vm, vm.mmu_invalidate_seq) == set()


def test_two_invalidations_at_a_time_cover_all_between_them_until_both_are_over():
    """The kernel keeps one range, from the least start to the greatest end."""
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY)
    kvm_mmu_invalidate_begin(vm, GfnRange(20, 22))
    kvm_mmu_invalidate_begin(vm, GfnRange(10, 11))
    assert vm.mmu_invalidate_in_progress == 2
    assert retried(vm, vm.mmu_invalidate_seq) == set(range(10, 22))
    kvm_mmu_invalidate_end(vm)
    assert retried(vm, vm.mmu_invalidate_seq) == set(range(10, 22))
    kvm_mmu_invalidate_end(vm)
    assert retried(vm, vm.mmu_invalidate_seq) == set()
    kvm_mmu_invalidate_begin(vm, GfnRange(1, 2))
    assert retried(vm, vm.mmu_invalidate_seq) == {1}


def test_an_invalidation_that_never_began_does_not_end():
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY)
    with pytest.raises(InvalidValueError, match="none is in progress"):
        kvm_mmu_invalidate_end(vm)
    assert (vm.mmu_invalidate_in_progress, retried(vm, vm.mmu_invalidate_seq)) == (0, set())


def test_a_lock_is_held_until_all_who_hold_it_let_go_also_by_an_exception():
    lock = Held()
    assert not lock
    with lock as same:
        assert same is lock
        with suppress(KeyError), lock:
            raise KeyError
        assert lock
    assert not lock
