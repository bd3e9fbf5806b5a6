"""One VM: which roots an operation reaches, and that their references balance."""

import numpy as np
import pytest

from tdpkit.engine.events import (
    ENOMEM,
    EOPNOTSUPP,
    AllocTable,
    External,
    Flush,
    SetSpte,
    Trace,
    Unlock,
    Visit,
)
from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmGfnRange, KvmMemorySlot
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_unmap_gfn_range,
)
from tdpkit.engine.pool import ROLE_INVALID, PageTablePool
from tdpkit.engine.roots import (
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    kvm_gfn_range_filter_to_root_types,
    tdp_mmu_next_root,
    tdp_mmu_root_match,
)
from tdpkit.engine.tdp_mmu import KvmBug
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_run

from . import brute
from .worlds import Finite, Impatient, Refusing, Stubborn, record, run

TOY = Geometry(2, 3, 2)
BOTH = KVM_FILTER_SHARED | KVM_FILTER_PRIVATE


def a_td(**options) -> Kvm:
    """A TD with 16K leaves on frames [0, 32) in either half: host frames from 64 (shared), 128 (private)."""
    vm = Kvm(KVM_X86_TDX_VM, TOY, pool=PageTablePool(TOY, capacity=1, shuffle=6), **options)
    map_run(vm.direct_root, 0, 2, 8, 64)
    map_run(vm.mirror_root, 0, 2, 8, 128)
    vm.slots_lock.__enter__()  # every range of these tests is protected; test_mmu asks what if not
    return vm


def a_plain_vm() -> Kvm:
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY)
    map_run(vm.direct_root, 0, 2, 8, 64)
    return vm


def a_range(vm: Kvm, start: int, end: int, attr_filter: int = BOTH, may_block: bool = True) -> KvmGfnRange:
    return KvmGfnRange(vm.slot, start, end, attr_filter, may_block)


def invalidate(root: TdpMmuRoot) -> None:
    root.pool.role[root.row] |= ROLE_INVALID


def contents(root: TdpMmuRoot) -> list:
    return brute.read(root)


# ---- which roots ---------------------------------------------------------------------------------------

NEITHER = (False, False, False, False)


@pytest.mark.parametrize(
    ("types", "matches"),
    [  # valid direct, invalid direct, valid mirror, invalid mirror: the table of kernel-facts 3.5
        (2, (True, False, False, False)),
        (4, (False, False, True, False)),
        (6, (True, False, True, False)),
        (3, (True, True, False, False)),
        (5, (False, False, True, True)),
        (7, (True, True, True, True)),
        (1, NEITHER),
        (0, NEITHER),
    ],
)
def test_invalid_is_a_modifier_and_never_matches_alone(types, matches):
    valid, gone = a_td(), a_td()
    invalidate(gone.direct_root)
    invalidate(gone.mirror_root)
    roots = (valid.direct_root, gone.direct_root, valid.mirror_root, gone.mirror_root)
    assert tuple(tdp_mmu_root_match(root, types) for root in roots) == matches


@pytest.mark.parametrize(
    ("attr_filter", "in_a_td", "in_a_plain_vm"), [(0, 0, 2), (1, 2, 2), (2, 4, 2), (3, 6, 2)]
)
def test_a_filter_chooses_root_types_in_a_td_only(attr_filter, in_a_td, in_a_plain_vm):
    """Kernel-facts 3.6: SHARED = 1 means DIRECT = 2, PRIVATE = 2 means MIRROR = 4."""
    assert kvm_gfn_range_filter_to_root_types(a_td(), attr_filter) == in_a_td
    assert kvm_gfn_range_filter_to_root_types(a_plain_vm(), attr_filter) == in_a_plain_vm


@pytest.mark.parametrize("attr_filter", [0, 1, 2, 3])
@pytest.mark.parametrize("operation", ["split", "unmap"])
def test_an_operation_reaches_the_roots_that_its_filter_means_and_no_other(operation, attr_filter):
    """Direct-root operations never change a mirror tree, and vice versa (kernel-facts 12.1, 8)."""
    vm = a_td()
    tables = {root: contents(root) for root in vm.tdp_mmu_roots}
    reached = {0: [], 1: [vm.direct_root], 2: [vm.mirror_root], 3: vm.tdp_mmu_roots}[attr_filter]
    if operation == "split":
        assert run(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, attr_filter), shared=False)) == 0
    else:
        assert run(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 1, 9, attr_filter))) is bool(reached)
    for root, table in tables.items():
        # Seen by its tables, the direct root's half is the one with the shared bit.
        start, end = (1, 9) if root.is_mirror else (33, 41)
        changed = brute.split_at_edges if operation == "split" else brute.zap
        assert contents(root) == (changed(TOY, table, start, end)[0] if root in reached else table)


@pytest.mark.parametrize("attr_filter", [0, 1, 2, 3])
def test_a_plain_vm_ignores_the_filter(attr_filter):
    vm, table = a_plain_vm(), contents(a_plain_vm().direct_root)
    assert run(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, attr_filter), shared=True)) == 0
    assert contents(vm.direct_root) == brute.split_at_edges(TOY, table, 1, 9)[0]
    assert run(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 1, 9, attr_filter))) is True
    assert leaf_runs(vm.direct_root)[0][0] == 0
    assert brute.frames(TOY, contents(vm.direct_root)).keys() == {0, *range(9, 32)}


def test_a_filter_that_means_neither_half_of_a_td_is_warned_about():
    vm = a_td()
    recording = record(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, 0), shared=False))
    assert recording.result == 0
    assert [trace.name for trace in recording.of(Trace)] == [
        "WARN_ON_ONCE(!(filter & (KVM_FILTER_SHARED | KVM_FILTER_PRIVATE)))",
        "WARN_ON_ONCE(!(types & KVM_VALID_ROOTS))",
    ]


def test_a_split_leaves_invalid_roots_alone_and_an_unmap_does_not():
    """Unlike unmap, the patch excludes them (kernel-facts 6.5); a zap there owes no flush (10.1)."""
    vm = a_td()
    tables = {root: contents(root) for root in vm.tdp_mmu_roots}
    invalidate(vm.direct_root)
    invalidate(vm.mirror_root)
    assert run(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False)) == 0
    assert {root: contents(root) for root in vm.tdp_mmu_roots} == tables
    assert run(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 1, 9))) is False
    assert [leaf_runs(root)[0].gfn for root in vm.tdp_mmu_roots] == [32 + 12, 12]


@pytest.mark.parametrize("as_id", [0, 1])
def test_only_roots_of_the_slots_address_space_are_walked(as_id):
    vm = a_td()
    slot = KvmMemorySlot(0, 32, as_id)
    recording = record(kvm_split_cross_boundary_leafs(vm, KvmGfnRange(slot, 1, 9), shared=False))
    assert bool(recording.of(Visit)) == (as_id == 0)


# ---- the shared bit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("geometry", "bit"), [(X86_4LEVEL, 47), (X86_5LEVEL, 51), (TOY, 12 + 5)])
def test_the_direct_root_of_a_td_is_indexed_with_the_shared_bit_and_the_mirror_without(geometry, bit):
    """Kernel-facts 1.8 and 1.11; in a toy the shared bit is the topmost the root can tell."""
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


SPLIT = "split"
UNMAP = "unmap"
INNER = "inner split"
CALLS = {
    SPLIT: lambda vm, gfn_range: kvm_split_cross_boundary_leafs(vm, gfn_range, shared=False),
    INNER: lambda vm, gfn_range: kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
        vm, gfn_range, shared=False
    ),
    UNMAP: lambda vm, gfn_range: kvm_tdp_mmu_unmap_gfn_range(vm, gfn_range),
}


@pytest.mark.parametrize("attr_filter", [1, 2, 3])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_range_written_with_the_shared_bit_is_refused_at_the_call(call, attr_filter):
    """Ranges carry no shared bit for either half (kernel-facts 1.10)."""
    vm = a_td()
    before = brute.memory(vm.pool)
    with pytest.raises(InvalidValueError, match=r"0x20 \(128K\)"):
        call(vm, a_range(vm, 32 + 1, 32 + 9, attr_filter))
    assert brute.memory(vm.pool) == before
    assert [root.tdp_mmu_root_count for root in vm.tdp_mmu_roots] == [2, 2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_range_that_starts_beyond_the_root_is_refused_at_the_call(call):
    vm = a_plain_vm()
    before = brute.memory(vm.pool)
    with pytest.raises(InvalidValueError, match=r"below 0x40 \(256K\); 0x40 \(256K\) is beyond it"):
        call(vm, a_range(vm, 64, 65))
    assert brute.memory(vm.pool) == before


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


@pytest.mark.parametrize("vm_type", [1, 4, -5, "TD", None])
def test_an_unknown_kind_of_vm_is_refused_and_the_known_ones_named(vm_type):
    with pytest.raises(InvalidValueError, match=r"0 \(plain VM\) or 5 \(TD\)") as refusal:
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


# ---- return codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("as_posted", "ret"), [(False, -ENOMEM), (True, 1)])
def test_the_patch_as_posted_turns_an_errno_into_1(as_posted, ret):
    """Its local bool; callers take 1 for success (kernel-facts 6.12 D1)."""
    vm = a_td()
    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=True, as_posted=as_posted)
    got = run(call, Refusing())
    assert got == ret
    assert type(got) is int


@pytest.mark.parametrize("as_posted", [False, True])
def test_who_may_not_block_is_told_so_before_anything_happens(as_posted):
    """The early return is outside the bool's reach."""
    vm = a_td()
    before = brute.memory(vm.pool)
    call = kvm_split_cross_boundary_leafs(
        vm, a_range(vm, 1, 9, may_block=False), shared=True, as_posted=as_posted
    )
    recording = record(call)
    assert recording.result == -EOPNOTSUPP == -95
    assert recording.events == []
    assert brute.memory(vm.pool) == before


@pytest.mark.parametrize("as_posted", [False, True])
def test_success_is_0_either_way(as_posted):
    vm = a_td()
    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False, as_posted=as_posted)
    got = run(call)
    assert got == 0
    assert type(got) is int


def test_the_first_root_without_memory_ends_the_call_and_a_retry_completes_it():
    """Later roots are not processed (findings 6)."""
    vm, tables = a_td(), {root: contents(root) for root in a_td().tdp_mmu_roots}
    direct, mirror = tables.values()

    class OnePage(Finite):
        pages = 1

        def alloc_table(self, event: AllocTable) -> int | None:
            self.pages -= 1
            return super().alloc_table(event) if self.pages >= 0 else None

    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False)
    assert run(call, OnePage()) == -ENOMEM
    assert contents(vm.direct_root) == brute.split(TOY, direct, lambda gfn, _: gfn == 32)[0]
    assert contents(vm.mirror_root) == mirror
    assert run(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False)) == 0
    assert contents(vm.direct_root) == brute.split_at_edges(TOY, direct, 33, 41)[0]
    assert contents(vm.mirror_root) == brute.split_at_edges(TOY, mirror, 1, 9)[0]


def test_the_tdx_side_hears_of_the_mirror_root_only():
    vm = a_td()
    split = record(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False))
    assert [(event.op, event.gfn) for event in split.of(External)] == [("split", 0), ("split", 8)]
    assert [store.gfn for store in split.of(SetSpte)] == [0, 8, 0, 8]  # the direct root first


def test_an_unmap_that_may_not_block_keeps_the_lock():
    vm = a_td()
    stays = record(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 0, 32, may_block=False)), Impatient())
    assert (stays.of(Unlock), stays.of(Flush), stays.result) == ([], [], True)
    lets_go = record(kvm_tdp_mmu_unmap_gfn_range(vm := a_td(), a_range(vm, 0, 32)), Impatient())
    assert lets_go.of(Unlock) != []
    assert [leaf_runs(root) for root in vm.tdp_mmu_roots] == [[], []]


def test_an_unmap_passes_on_a_flush_that_is_owed():
    vm = a_td()
    assert run(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 0, 0))) is False
    assert run(kvm_tdp_mmu_unmap_gfn_range(vm, a_range(vm, 0, 0), flush=True)) is True


# ---- references ----------------------------------------------------------------------------------------


def counts(vm: Kvm) -> list[int]:
    return [root.tdp_mmu_root_count for root in vm.tdp_mmu_roots]


def test_the_loop_over_roots_holds_one_reference_at_a_time():
    """Two to begin with: one for the vCPU, one for the TDP MMU (kernel-facts 3.9)."""
    vm = a_td()
    assert counts(vm) == [2, 2]
    first = tdp_mmu_next_root(vm, None, 0, 6)
    assert (first, counts(vm)) == (vm.direct_root, [3, 2])
    second = tdp_mmu_next_root(vm, first, 0, 6)
    assert (second, counts(vm)) == (vm.mirror_root, [2, 3])
    assert tdp_mmu_next_root(vm, second, 0, 6) is None
    assert counts(vm) == [2, 2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("world", [Finite, Refusing, Impatient], ids=["kind", "no memory", "rescheds"])
def test_references_balance_when_a_call_ends(call, world):
    """RFC v5-44 forgot one on its error path (kernel-facts 3.12)."""
    vm, held = a_td(), set()

    class Watching(world):
        def visit(self, event: Visit) -> bool:
            held.add(tuple(counts(vm)))
            return super().visit(event)

    run(call(vm, a_range(vm, 1, 9)), Watching())
    assert held <= {(3, 2), (2, 3)}
    assert held
    assert counts(vm) == [2, 2]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_references_balance_wherever_a_call_is_given_up(call):
    events = len(record(call(vm := a_td(), a_range(vm, 1, 9))).events)
    assert events > 10
    for at in range(events):
        vm, answer = a_td(), None
        coroutine, world = call(vm, a_range(vm, 1, 9)), Finite()
        for _ in range(at):
            answer = world.answer(coroutine.send(answer))
        coroutine.send(answer)
        coroutine.close()
        assert counts(vm) == [2, 2]
        assert vm.pool.rcu_readers == 0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_references_balance_when_a_call_ends_in_a_bug(call):
    vm = a_td()
    with pytest.raises(KvmBug):
        run(call(vm, a_range(vm, 1, 9)), Stubborn(1, -5))
    assert counts(vm) == [2, 2]
    assert vm.pool.rcu_readers == 0
