"""What is done to a range of a VM: which roots it reaches, what it returns, that references balance.

Truth: `brute`'s nested lists, one tree per root, and for Kai's wrappers what they are to be equal to.
"""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.events import (
    EINVAL,
    ENOMEM,
    EOPNOTSUPP,
    AllocTable,
    External,
    Flush,
    Lock,
    SetSpte,
    Trace,
    Unlock,
    Visit,
)
from tdpkit.engine.gfn import Geometry, GfnRange, InvalidValueError
from tdpkit.engine.kvm import (
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Kvm,
    KvmGfnRange,
    KvmMemorySlot,
    kvm_mmu_invalidate_begin,
)
from tdpkit.engine.mmu import (
    hugepage_allowed,
    hugepage_test_guest_inhibit,
    kvm_arch_post_set_memory_attributes,
    kvm_max_mapping_level,
    kvm_mmu_slot_try_split_huge_pages,
    kvm_mmu_try_split_huge_pages,
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    kvm_tdp_mmu_unmap_gfn_range,
    kvm_unmap_gfn_range,
    set_disallow_lpage,
    weak_kvm_split_cross_boundary_leafs,
)
from tdpkit.engine.splits import (
    __kvm_tdp_mmu_split_huge_pages,
    kvm_tdp_mmu_mirrors_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages_cross_boundary,
    kvm_tdp_mmu_split_huge_pages_log_dirty,
)
from tdpkit.engine.tdp_mmu import KvmBug, tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import leaf_runs, map_run
from tests.oracles import brute
from tests.oracles.vms import (
    BOTH,
    PRIVATE,
    SHARED,
    TOY,
    a_plain_vm,
    a_range,
    a_td,
    assert_settled,
    contents,
    counts,
    given_up_everywhere,
    invalidate,
    planted,
)
from tests.oracles.worlds import Finite, Impatient, Interfering, Lockdep, Refusing, Stubborn, record, run

CALLS = {
    "split": lambda vm, gfn_range: kvm_split_cross_boundary_leafs(vm, gfn_range, shared=False),
    "split as posted": lambda vm, gfn_range: kvm_split_cross_boundary_leafs(
        vm, gfn_range, shared=False, as_posted=True
    ),
    "inner split": lambda vm, gfn_range: kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(
        vm, gfn_range, shared=False
    ),
    "Kai's boundary split": lambda vm, gfn_range: kvm_tdp_mmu_split_huge_pages_cross_boundary(
        vm, gfn_range, 1, shared=False
    ),
    "dirty-log split": lambda vm, gfn_range: kvm_mmu_try_split_huge_pages(
        vm, gfn_range.slot, gfn_range.start, gfn_range.end
    ),
    "unmap": lambda vm, gfn_range: kvm_tdp_mmu_unmap_gfn_range(vm, gfn_range),
    "outer unmap": lambda vm, gfn_range: kvm_unmap_gfn_range(vm, gfn_range),
}
"""Those that reach both roots of a TD; the write lock is held."""
FILTERED = {name: call for name, call in CALLS.items() if name != "dirty-log split"}
LOCKDEP = "WARN: lockdep"


def warnings(recording) -> list[str]:
    return [trace.name for trace in recording.of(Trace) if trace.name.startswith("WARN")]


# ---- which roots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("attr_filter", [0, 1, 2, 3])
@pytest.mark.parametrize("operation", ["split", "unmap"])
def test_an_operation_reaches_the_roots_that_its_filter_means_and_no_other(operation, attr_filter):
    """Direct-root operations never change a mirror tree, and vice versa (S239, item 8)."""
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
    """Unlike unmap, the patch excludes them (S103); a zap there owes no flush (S210)."""
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


@pytest.mark.parametrize("attr_filter", [1, 2, 3])
@pytest.mark.parametrize("call", FILTERED.values(), ids=FILTERED)
def test_a_range_written_with_the_shared_bit_is_refused_at_the_call(call, attr_filter):
    """Ranges carry no shared bit for either half (S9)."""
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


# ---- return codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("as_posted", "ret"), [(False, -ENOMEM), (True, 1)])
def test_the_patch_as_posted_turns_an_errno_into_1(as_posted, ret):
    """Its local bool; callers take 1 for success (S107)."""
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
    """Later roots are not processed (S238)."""
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


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("world", [Finite, Refusing, Impatient], ids=["kind", "no memory", "rescheds"])
def test_references_balance_when_a_call_ends(call, world):
    """RFC v5-44 forgot one on its error path (S47)."""
    vm, held = a_td(), set()

    class Watching(world):
        def visit(self, event: Visit) -> bool:
            held.add(tuple(counts(vm)))
            return super().visit(event)

    run(call(vm, a_range(vm, 1, 9)), Lockdep("write", Watching()))
    assert held <= {(3, 2), (2, 3)}
    assert held
    assert_settled(vm)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_references_balance_wherever_a_call_is_given_up(call):
    tries = 0
    for vm in given_up_everywhere(lambda: (td := a_td(), call(td, a_range(td, 1, 9)))):
        assert_settled(vm)
        tries += 1
    assert tries > 10


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_references_balance_when_a_call_ends_in_a_bug(call):
    vm = a_td()
    with pytest.raises(KvmBug):
        run(call(vm, a_range(vm, 1, 9)), Stubborn(1, -5))
    assert_settled(vm)


NARROW = {
    "mirrors split": lambda vm: kvm_tdp_mmu_mirrors_split_huge_pages(vm, 1, 9, 1),
    "wrong root": lambda vm: kvm_tdp_mmu_split_huge_pages(vm, 1, 9, 1, shared=False),
    "slot split": lambda vm: kvm_mmu_slot_try_split_huge_pages(vm, vm.slot),
    "mirror refused": lambda vm: kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=True),
    "Kai's for dirty logging": lambda vm: kvm_tdp_mmu_split_huge_pages_log_dirty(
        vm, vm.slot, 1, 9, 1, shared=False
    ),
}


@pytest.mark.parametrize("call", NARROW.values(), ids=NARROW)
def test_references_balance_too_where_a_call_reaches_one_root_or_is_refused(call):
    for vm in given_up_everywhere(lambda: (td := a_td(), call(td))):
        assert_settled(vm)
    run(call(vm := a_td()), Refusing())
    assert_settled(vm)


@pytest.mark.parametrize(
    "call",
    [
        lambda vm, level: kvm_tdp_mmu_split_huge_pages_cross_boundary(
            vm, a_range(vm, 1, 9), level, shared=False
        ),
        lambda vm, level: kvm_tdp_mmu_mirrors_split_huge_pages(vm, 1, 9, level),
        lambda vm, level: kvm_tdp_mmu_split_huge_pages(vm, 1, 9, level, shared=False),
        lambda vm, level: kvm_tdp_mmu_try_split_huge_pages(vm, vm.slot, 1, 9, level, shared=False),
    ],
)
@pytest.mark.parametrize("level", [0, 3, 4])
def test_a_target_level_that_the_root_does_not_have_below_it_is_refused_and_nothing_changes(call, level):
    vm = a_td()
    before = brute.memory(vm.pool)
    with pytest.raises(InvalidValueError, match="level"):
        run(call(vm, level))
    assert brute.memory(vm.pool) == before
    assert_settled(vm)


# ---- what must be so before ------------------------------------------------------------------------------


def unprotected(vm_type: int = KVM_X86_TDX_VM) -> Kvm:
    vm = a_td() if vm_type == KVM_X86_TDX_VM else a_plain_vm()
    vm.slots_lock.__exit__(None, None, None)
    return vm


@pytest.mark.parametrize("protection", ["none", "invalidation", "slots_lock", "SRCU"])
@pytest.mark.parametrize(
    ("call", "enough"),
    [("split", {"invalidation", "slots_lock", "SRCU"}), ("outer unmap", {"invalidation", "slots_lock"})],
)
def test_a_range_is_protected_or_lockdep_warns_once_and_the_call_goes_on(call, enough, protection):
    """S100: SRCU is enough for the split, not for the unmap."""
    vm, protected = unprotected(), a_td()
    if protection == "invalidation":
        kvm_mmu_invalidate_begin(vm, GfnRange(1, 9))
    elif protection == "slots_lock":
        vm.slots_lock.__enter__()
    elif protection == "SRCU":
        vm.srcu.__enter__()
    recording = record(CALLS[call](vm, a_range(vm, 1, 9)), Lockdep("write"))
    said = warnings(recording)
    assert len(said) == (protection not in enough)
    assert all(name.startswith(LOCKDEP) for name in said)
    assert recording.result == run(CALLS[call](protected, a_range(protected, 1, 9)))
    assert [contents(root) for root in vm.tdp_mmu_roots] == [
        contents(root) for root in protected.tdp_mmu_roots
    ]


@pytest.mark.parametrize("call", ["inner split", "Kai's boundary split", "dirty-log split", "unmap"])
def test_those_inside_the_mmu_do_not_ask_for_protection(call):
    vm = unprotected()
    assert warnings(record(CALLS[call](vm, a_range(vm, 1, 9)))) == []


def test_lockdep_warns_before_the_question_whether_the_caller_may_sleep():
    vm = unprotected()
    before = brute.memory(vm.pool)
    recording = record(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, may_block=False), shared=False))
    assert (recording.result, len(recording.events), len(warnings(recording))) == (-EOPNOTSUPP, 1, 1)
    assert brute.memory(vm.pool) == before


def test_kais_helper_asks_whether_the_caller_may_sleep():
    """S123."""
    vm = a_td()
    gfn_range = a_range(vm, 1, 9, may_block=False)
    for only in (False, True):
        call = __kvm_tdp_mmu_split_huge_pages(vm, gfn_range, 1, shared=False, cross_boundary_only=only)
        recording = record(call)
        assert (recording.result, recording.events) == (-EOPNOTSUPP, [])
    recording = record(kvm_tdp_mmu_split_huge_pages_cross_boundary(vm, gfn_range, 1, shared=False))
    assert (recording.result, recording.events) == (-EOPNOTSUPP, [])


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("as_posted", [False, True])
def test_without_the_tdp_mmu_nothing_is_done_and_0_returned(as_posted, protected):
    """The shadow MMU is not supported (S100); the protection is asked for before."""
    vm = a_plain_vm(tdp_mmu_enabled=False)
    if not protected:
        vm.slots_lock.__exit__(None, None, None)
    before = brute.memory(vm.pool)
    for call, result in (
        (kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False, as_posted=as_posted), 0),
        (kvm_unmap_gfn_range(vm, a_range(vm, 1, 9)), False),
    ):
        recording = record(call)
        assert recording.result is result
        assert len(recording.events) == len(warnings(recording)) == (not protected)
    for call in (
        kvm_mmu_slot_try_split_huge_pages(vm, vm.slot),
        kvm_mmu_try_split_huge_pages(vm, vm.slot, 1, 9),
    ):
        assert record(call).events == []
    assert brute.memory(vm.pool) == before


@pytest.mark.parametrize("may_block", [False, True])
def test_an_architecture_without_the_function_does_nothing_and_returns_0(may_block):
    """S104: not even the caller's right to sleep is asked for."""
    vm = unprotected()
    before = brute.memory(vm.pool)
    gfn_range = a_range(vm, 1, 9, may_block=may_block)
    recording = record(weak_kvm_split_cross_boundary_leafs(vm, gfn_range, shared=True))
    assert (recording.result, recording.events, brute.memory(vm.pool)) == (0, [], before)


# ---- a mirror root under the read lock -------------------------------------------------------------------


def refusals(recording) -> list[str]:
    """The model's own lines about a refused split."""
    return [
        trace.name for trace in recording.of(Trace) if trace.name.startswith("model: the split is refused")
    ]


def read_lock_refused() -> Stubborn:
    """The TDX side as v3 09/24 has it, for the rest of the test."""
    return Stubborn(10**9, -EOPNOTSUPP)


@pytest.mark.parametrize("attr_filter", [PRIVATE, BOTH])
def test_a_private_leaf_that_crosses_is_not_split_under_the_read_lock(attr_filter):
    """The TDX side refuses it once, and the walk ends there (S105, S109); the shared half came before."""
    vm = a_td()
    direct, mirror = [contents(root) for root in vm.tdp_mmu_roots]
    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, attr_filter), shared=True)
    recording = record(call, Lockdep("read", read_lock_refused()))
    assert recording.result == -EOPNOTSUPP
    assert len(refusals(recording)) == len(recording.of(External)) == 1
    assert contents(vm.mirror_root) == mirror
    reached = attr_filter == BOTH
    assert contents(vm.direct_root) == (brute.split_at_edges(TOY, direct, 33, 41)[0] if reached else direct)
    assert_settled(vm)


@pytest.mark.parametrize("as_posted", [False, True])
def test_where_no_private_leaf_crosses_the_read_lock_is_no_matter_and_0_is_returned(as_posted):
    vm = a_td()
    edges = [
        x
        for x in range(vm.max_gfn_exclusive)
        if not any(
            gfn < x < gfn + brute.pages(TOY, level)
            for gfn, level, _ in brute.leaves(TOY, contents(vm.mirror_root))
        )
    ]
    assert len(edges) > 3
    for start, end in pairwise(edges):
        span = a_range(vm, start, end, PRIVATE)
        call = kvm_split_cross_boundary_leafs(vm, span, shared=True, as_posted=as_posted)
        recording = record(call, Lockdep("read", read_lock_refused()))
        assert (recording.result, recording.of(External), refusals(recording)) == (0, [], [])


def test_as_posted_the_refused_leaf_is_tried_again_for_ever_and_nothing_changes():
    """So many events, the same leaf in all of them (S105)."""
    vm = a_td()
    before = contents(vm.mirror_root)
    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, PRIVATE), shared=True, as_posted=True)
    asked, world, answer = [], read_lock_refused(), None
    event, events = None, 0
    while events < 10_000 or not isinstance(event, Visit):  # at a visit nothing is frozen
        event, events = call.send(answer), events + 1
        answer = world.answer(event)
        if isinstance(event, External):
            asked.append((event.op, event.gfn, event.level, event.shared))
    assert len(asked) > 1_000
    assert len(set(asked)) == 1
    call.close()
    assert contents(vm.mirror_root) == before


def test_the_recorded_walk_tries_again_whatever_the_tdx_side_answers():
    """The function of one root is the kernel's: `retry_refused` is its default."""
    vm = a_td()
    call = tdp_mmu_split_huge_pages_root(vm.mirror_root, 1, 9, 1, shared=True, only_cross_boundary=True)
    recording = record(call, Lockdep("read", Stubborn(3, -EOPNOTSUPP)))
    assert recording.result == 0
    errnos = [trace.errno for trace in recording.of(Trace) if trace.name == "kvm_mmu_split_huge_page"]
    assert errnos[:4] == [-EOPNOTSUPP] * 3 + [0]


@pytest.mark.parametrize("series", ["v3", "RFC v5"])
def test_the_shared_half_is_split_under_the_read_lock(series):
    vm = a_td(series=series)
    direct, mirror = [contents(root) for root in vm.tdp_mmu_roots]
    recording = record(
        kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, SHARED), shared=True), Lockdep("read")
    )
    assert (recording.result, warnings(recording)) == (0, [])
    assert [contents(root) for root in vm.tdp_mmu_roots] == [
        brute.split_at_edges(TOY, direct, 33, 41)[0],
        mirror,
    ]


# ---- Kai's proposal ----------------------------------------------------------------------------------------


def all_of(recording) -> tuple:
    return recording.result, [repr(event) for event in recording.events]


def same(one, other, layout: brute.Layout, vm_type: int, world) -> None:
    """Two calls on equal VMs: equal results, events and bytes."""
    vms = [planted(layout, vm_type) for _ in range(2)]
    said = [all_of(record(call(vm), world())) for call, vm in zip((one, other), vms, strict=True)]
    assert said[0] == said[1]
    assert brute.memory(vms[0].pool) == brute.memory(vms[1].pool)
    for vm in vms:
        assert_settled(vm)


WORLDS = st.sampled_from([Finite, Impatient, Refusing, lambda: Refusing(2)])
CASES = brute.cases(root_levels=(2, 4))


def clipped(vm: Kvm, start: int, end: int) -> tuple[int, int]:
    """The range as one of a TD: it starts below the shared bit."""
    first = start % vm.max_gfn_exclusive
    return first, max(first, end % (vm.max_gfn_exclusive + 1))


@settings(max_examples=120)
@given(CASES, st.sampled_from([KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM]), st.integers(0, 3), st.booleans(), WORLDS)
def test_kais_boundary_split_is_the_patchs(case, vm_type, attr_filter, shared, world):
    """S123: the refactoring changes nothing; on a TD neither."""
    layout, start, end = case
    start, end = clipped(planted(layout, vm_type), start, end)
    same(
        lambda vm: kvm_tdp_mmu_split_huge_pages_cross_boundary(
            vm, a_range(vm, start, end, attr_filter), 1, shared=shared
        ),
        lambda vm: kvm_split_cross_boundary_leafs(vm, a_range(vm, start, end, attr_filter), shared=shared),
        layout,
        vm_type,
        world,
    )


@settings(max_examples=100)
@given(CASES, st.integers(1, 3), st.booleans(), WORLDS)
def test_kais_dirty_log_split_is_the_one_there_is_on_plain_vms(case, target_level, shared, world):
    """But for the errno, which he keeps."""
    layout, start, end = case
    target_level = min(target_level, layout.geometry.root_level - 1)

    def dropping(vm: Kvm):
        yield from kvm_tdp_mmu_split_huge_pages_log_dirty(
            vm, vm.slot, start, end, target_level, shared=shared
        )

    same(
        dropping,
        lambda vm: kvm_tdp_mmu_try_split_huge_pages(vm, vm.slot, start, end, target_level, shared=shared),
        layout,
        KVM_X86_DEFAULT_VM,
        world,
    )


@settings(max_examples=80)
@given(CASES, st.integers(1, 3))
def test_a_dirty_log_split_splits_every_huge_leaf_of_the_range_down_to_the_target(case, target_level):
    layout, start, end = case
    geometry, vm = layout.geometry, planted(layout)
    target = min(target_level, geometry.root_level - 1)
    assert (
        run(
            kvm_tdp_mmu_split_huge_pages_log_dirty(vm, vm.slot, start, end, target, shared=True),
            Lockdep("read"),
        )
        == 0
    )
    expected, _ = brute.split(
        *layout,
        lambda gfn, level: level > target and brute.touches(gfn, brute.pages(geometry, level), start, end),
    )
    assert contents(vm.direct_root) == expected


def test_kais_dirty_log_split_says_enomem_and_the_one_there_is_says_nothing():
    vm = a_plain_vm()
    call = kvm_tdp_mmu_split_huge_pages_log_dirty(vm, vm.slot, 1, 9, 1, shared=True)
    assert run(call, Refusing()) == -ENOMEM
    assert run(kvm_tdp_mmu_try_split_huge_pages(vm, vm.slot, 1, 9, 1, shared=True), Refusing()) is None


@pytest.mark.parametrize("shared", [False, True])
def test_kais_dirty_log_split_is_not_for_tds(shared):
    """It WARNs, returns -EINVAL and touches nothing; so its filter, 0, does not matter (S124)."""
    vm = a_td()
    before = brute.memory(vm.pool)
    recording = record(kvm_tdp_mmu_split_huge_pages_log_dirty(vm, vm.slot, 1, 9, 1, shared=shared))
    assert recording.result == -EINVAL == -22
    assert [trace.name for trace in recording.events] == ["WARN_ON_ONCE(kvm_has_mirrored_tdp(kvm))"]
    assert brute.memory(vm.pool) == before
    assert_settled(vm)


# ---- dirty logging -----------------------------------------------------------------------------------------


def test_a_dirty_log_split_reaches_private_memory_too():
    """VALID contains MIRROR: what Kai found (S124), under the write lock."""
    vm = a_td()
    direct, mirror = [contents(root) for root in vm.tdp_mmu_roots]
    recording = record(kvm_mmu_try_split_huge_pages(vm, vm.slot, 1, 9), Lockdep("write"))
    assert recording.result is None
    assert [(call.op, call.gfn) for call in recording.of(External)] == [("split", gfn) for gfn in (0, 4, 8)]

    def in_range(start: int):
        return lambda gfn, level: brute.touches(gfn, brute.pages(TOY, level), start + 1, start + 9)

    assert contents(vm.direct_root) == brute.split(TOY, direct, in_range(32))[0]
    assert contents(vm.mirror_root) == brute.split(TOY, mirror, in_range(0))[0]
    assert_settled(vm)


def test_a_dirty_log_split_leaves_invalid_roots_alone():
    vm = a_td()
    before = contents(vm.mirror_root)
    invalidate(vm.mirror_root)
    run(kvm_mmu_try_split_huge_pages(vm, vm.slot, 1, 9))
    assert contents(vm.mirror_root) == before


def test_a_dirty_log_split_without_memory_stops_at_the_first_root_and_says_nothing():
    """The errno is dropped (S81)."""
    vm = a_td()
    before = [contents(root) for root in vm.tdp_mmu_roots]
    recording = record(kvm_mmu_try_split_huge_pages(vm, vm.slot, 1, 9), Lockdep("write", Refusing()))
    assert recording.result is None
    assert len(recording.of(AllocTable)) == 1
    assert [contents(root) for root in vm.tdp_mmu_roots] == before
    assert_settled(vm)


def test_a_slot_is_split_under_the_read_lock_which_is_taken_and_let_go():
    slots = [KvmMemorySlot(3, 10), KvmMemorySlot(20, 12)]
    vm = a_plain_vm(memslots=slots)
    table = contents(vm.direct_root)
    recording = record(kvm_mmu_slot_try_split_huge_pages(vm, slots[0]), Lockdep(""))
    assert recording.events[0] == Lock(True)
    assert recording.events[-1] == Unlock(True, "done")
    expected = brute.split(TOY, table, lambda gfn, level: brute.touches(gfn, 4, 3, 13))[0]
    assert contents(vm.direct_root) == expected


def test_the_slot_of_a_td_is_split_in_its_shared_half_and_refused_in_its_private():
    vm = a_td()
    direct, mirror = [contents(root) for root in vm.tdp_mmu_roots]
    recording = record(kvm_mmu_slot_try_split_huge_pages(vm, vm.slot), Lockdep("", read_lock_refused()))
    assert (recording.result, recording.events[-1]) == (None, Unlock(True, "done"))
    assert len(refusals(recording)) == 1
    assert contents(vm.direct_root) == brute.split(TOY, direct, lambda *_: True)[0]
    assert contents(vm.mirror_root) == mirror
    assert_settled(vm)


# ---- after the review --------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(CASES, st.integers(1, 3))
def test_a_split_in_the_mirror_roots_reaches_them_only_and_goes_down_to_the_level(case, target_level):
    layout, start, end = case
    geometry, vm = layout.geometry, planted(layout, KVM_X86_TDX_VM)
    start, end = clipped(vm, start, end)
    target = min(target_level, geometry.root_level - 1)
    direct, mirror = contents(vm.direct_root), contents(vm.mirror_root)
    recording = record(kvm_tdp_mmu_mirrors_split_huge_pages(vm, start, end, target), Lockdep("write"))
    expected, done = brute.split(
        geometry,
        mirror,
        lambda gfn, level: level > target and brute.touches(gfn, brute.pages(geometry, level), start, end),
    )
    assert recording.result == 0
    assert contents(vm.mirror_root) == expected
    assert contents(vm.direct_root) == direct
    assert [(call.op, call.gfn, call.level) for call in recording.of(External)] == [
        ("split", *of) for of in done
    ]
    assert_settled(vm)


def test_a_split_in_the_mirror_roots_has_nothing_to_do_in_a_plain_vm():
    vm = a_plain_vm()
    recording = record(kvm_tdp_mmu_mirrors_split_huge_pages(vm, 1, 9, 1))
    assert (recording.result, recording.events) == (0, [])


def test_a_split_in_the_mirror_roots_without_memory_says_so():
    vm = a_td()
    before = contents(vm.mirror_root)
    assert run(kvm_tdp_mmu_mirrors_split_huge_pages(vm, 1, 9, 1), Refusing()) == -ENOMEM
    assert contents(vm.mirror_root) == before
    assert_settled(vm)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shared_leaf", [False, True])
def test_the_call_that_took_root_hpa_leaves_private_memory_as_it_is_and_returns_0(shared, shared_leaf):
    """S140: the mirror is bit-identical; a shared huge leaf at the same frame is split for nothing."""
    vm = planted(brute.Layout(TOY, [brute.HOLE] * 4), KVM_X86_TDX_VM)
    map_run(vm.mirror_root, 4, 2, 2, 128)
    if shared_leaf:
        map_run(vm.direct_root, 4, 2, 2, 64)
    direct, mirror = contents(vm.direct_root), contents(vm.mirror_root)
    call = kvm_tdp_mmu_split_huge_pages(vm, 4, 8, 1, shared=shared)
    recording = record(call, Lockdep("read" if shared else "write"))
    assert (recording.result, recording.of(External), warnings(recording)) == (0, [], [])
    assert contents(vm.mirror_root) == mirror
    expected, done = brute.split(TOY, direct, lambda gfn, _: gfn == 32 + 4)
    assert (contents(vm.direct_root), len(done)) == (expected, shared_leaf)
    assert run(kvm_tdp_mmu_mirrors_split_huge_pages(vm, 4, 8, 1)) == 0
    assert contents(vm.mirror_root) == brute.split(TOY, mirror, lambda gfn, _: gfn == 4)[0]


def test_in_a_plain_vm_the_call_that_took_root_hpa_splits_what_it_is_asked_to():
    vm = a_plain_vm()
    table = contents(vm.direct_root)
    assert run(kvm_tdp_mmu_split_huge_pages(vm, 5, 6, 1, shared=False)) == 0
    assert contents(vm.direct_root) == brute.split(TOY, table, lambda gfn, _: gfn == 4)[0]


# ---- unmap -------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(CASES, st.sampled_from([KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM]), st.integers(1, 3))
def test_split_then_unmap_takes_the_frames_of_the_range_and_no_other(case, vm_type, attr_filter):
    """S120, over both trees; without the split a straddling leaf goes whole (S238)."""
    layout, start, end = case
    geometry, vm = layout.geometry, planted(layout, vm_type)
    start, end = clipped(vm, start, end)
    end = max(end, start + 1)
    before = {root: brute.frames(geometry, contents(root)) for root in vm.tdp_mmu_roots}
    gfn_range = a_range(vm, start, end, attr_filter)
    assert run(kvm_split_cross_boundary_leafs(vm, gfn_range, shared=False), Lockdep("write")) == 0
    flush = run(kvm_unmap_gfn_range(vm, gfn_range), Lockdep("write"))
    lost = 0
    for root, frames in before.items():
        meant = not vm.has_mirrored_tdp or attr_filter & (PRIVATE if root.is_mirror else SHARED)
        at = root.gfn_bits
        left = {gfn: raw for gfn, raw in frames.items() if not (meant and start <= gfn - at < end)}
        lost += len(frames) - len(left)
        assert brute.frames(geometry, contents(root)) == left
    assert flush is bool(lost)
    assert_settled(vm)


def test_another_thread_that_splits_first_leaves_the_call_nothing_but_the_page_it_holds():
    """S106: under the read lock the loser sees the table and frees its own."""
    vm, rival = a_td(), {}

    def act(store: SetSpte) -> None:
        call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, SHARED), shared=True)
        rival["result"] = run(call)

    world = Interfering(1, act)
    table = contents(vm.direct_root)
    call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9, SHARED), shared=True)
    assert (run(call, world), rival["result"]) == (0, 0)
    assert contents(vm.direct_root) == brute.split_at_edges(TOY, table, 33, 41)[0]
    assert_settled(vm)


def test_a_slot_that_lies_beyond_the_vm_is_refused_before_the_lock_is_taken():
    with pytest.raises(InvalidValueError, match=r"0x40 \(256K\) is beyond it"):
        kvm_mmu_slot_try_split_huge_pages(a_plain_vm(), KvmMemorySlot(64, 1))


# ---- blocks that hold both halves, and where a huge page may be ----------------------------------------

MIXED, INHIBIT, OTHER = 1 << 31, 1 << 30, 1 << 3
"""S173; OTHER stands for whatever else is kept in that word."""
FRAMES = 64
SPANS = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, 20)).map(
    lambda of: GfnRange(of[0], min(FRAMES, of[0] + of[1]))
)
STORES = st.lists(st.tuples(SPANS, st.booleans()), max_size=8)


def frames(span: GfnRange) -> set[int]:
    return set(range(span.start, span.end))


SHAPES = [Geometry(1, 4, 4), Geometry(2, 4, 3), Geometry(2, 4, 2), Geometry(3, 3, 2)]
FLAGS = st.dictionaries(
    st.tuples(st.integers(2, 3), st.integers(0, FRAMES - 1)),
    st.sampled_from([INHIBIT, OTHER, INHIBIT | OTHER]),
)


def blocks(vm: Kvm):
    for level in range(2, vm.max_leaf_level + 1):
        size = brute.pages(vm.geometry, level)
        yield from ((level, first) for first in range(0, FRAMES, size))


@pytest.mark.slow
@settings(max_examples=200)
@given(st.sampled_from(SHAPES), st.sampled_from([KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM]), STORES, FLAGS)
def test_after_each_store_the_mixed_flag_is_on_the_blocks_with_frames_of_both_halves(
    shape, vm_type, stores, flags
):
    """And what other flags a block has stays (S173: the inhibit bit is one-way)."""
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


@pytest.mark.parametrize(
    ("function", "arguments", "missing"),
    [
        (kvm_split_cross_boundary_leafs, {"gfn_range": KvmGfnRange(KvmMemorySlot(0, 8), 0, 8)}, "'kvm'"),
        (kvm_split_cross_boundary_leafs, {"kvm": None, "shared": False}, "'gfn_range'"),
        (kvm_mmu_try_split_huge_pages, {"kvm": None, "slot": None, "start": 0}, "'end'"),
    ],
    ids=["kvm", "gfn_range", "end"],
)
def test_a_missing_argument_is_named(function, arguments, missing):
    with pytest.raises(TypeError, match=missing):
        function(**arguments)
