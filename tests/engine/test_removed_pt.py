"""A huge leaf in the place of a table: the lines of the trace, the frames, the pages of the tables (S264).

What is expected comes from the tree as a list: the order of the lines by S263, the frames by arithmetic.
"""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.events import Coroutine, Event, Flush, SetSpte, Trace, Unlock
from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_SW_PROTECTED_VM, KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.mmu import kvm_arch_post_set_memory_attributes
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tree import map_run, table_at
from tests.oracles import brute
from tests.oracles.vms import Gmem, assert_settled, contents, given_up_everywhere, replant
from tests.oracles.worlds import Finite, Interfering, Lockdep, record, run

RETRY, FIXED, SPURIOUS = 1, 5, 6
EFAULT = 14
TOY, DEEP = Geometry(2, 3, 2), Geometry(2, 4, 3)
HOST = 64
"""The host frame behind frame 0."""
Line = tuple[int, int, int, int]
"""gfn, level, old value, new value."""


def a_vm(geometry: Geometry, table: list | None = None) -> Kvm:
    """A plain VM on host frames from HOST on, in pages as large as can be; `table` is its tree."""
    size = brute.pages(geometry, geometry.root_level + 1)
    vm = Kvm(KVM_X86_DEFAULT_VM, geometry, memslots=[KvmMemorySlot(0, size, host_pfn=HOST, host_level=4)])
    if table is not None:
        replant(vm, table)
    return vm


def fault(vm: Kvm, gfn: int, max_level: int | None = None, **options):
    return kvm_tdp_mmu_page_fault(
        vm, gfn, is_private=False, max_level=max_level, replace_tables=True, **options
    )


def lines(events: list[Event]) -> list[Line]:
    return [(e.gfn, e.level, e.spte, e.new_spte) for e in events if isinstance(e, Trace)]


def holes(*others: tuple[int, object]) -> list:
    """Four entries, empty but for the others."""
    table: list = [brute.HOLE] * 4
    for index, entry in others:
        table[index] = entry
    return table


def small(gfn: int) -> int:
    """A 4K leaf on the frame that the host has for `gfn`."""
    return brute.leaf(HOST + gfn, 1)


# ---- lines ---------------------------------------------------------------------------------------------


def test_the_parents_line_comes_first_then_every_entry_of_the_table_then_the_flush():
    vm = a_vm(TOY, holes((0, holes((1, holes((1, small(5))))))))
    row, _ = table_at(vm.direct_root, 5, 1)
    link = brute.LINK | row << 12
    recording = record(fault(vm, 6), Lockdep(""))
    assert recording.result == FIXED
    assert lines(recording.events) == [
        (4, 2, link, brute.leaf(HOST + 4, 2)),
        (4, 1, brute.HOLE, brute.FROZEN),
        (5, 1, small(5), brute.FROZEN),
        (6, 1, brute.HOLE, brute.FROZEN),
        (7, 1, brute.HOLE, brute.FROZEN),
    ]
    *_, flush, unlock = recording.events
    assert (type(flush), unlock) == (Flush, Unlock(True, "done"))
    assert contents(vm.direct_root) == holes((0, holes((1, brute.leaf(HOST + 4, 2)))))
    assert_settled(vm)


def test_a_table_below_comes_right_after_the_entry_that_linked_it():
    below = [holes((0, small(0))), brute.leaf(HOST + 4, 2), brute.HOLE, holes((3, small(15)))]
    vm = a_vm(DEEP, holes((0, holes((0, below)))))
    found = [(gfn, level) for gfn, level, _, _ in lines(record(fault(vm, 9)).events)]
    first, last = [(gfn, 1) for gfn in range(4)], [(gfn, 1) for gfn in range(12, 16)]
    assert found == [(0, 3), (0, 2), *first, (4, 2), (8, 2), (12, 2), *last]
    assert_settled(vm)


def test_a_full_table_of_x86_has_512_lines_and_its_parents():
    vm = a_vm(X86_4LEVEL)
    map_run(vm.direct_root, 0x800, 1, 512, 0x800 + HOST)
    vm.memslots[0] = KvmMemorySlot(0, 0x1000, host_pfn=0x4000, host_level=2)
    found = lines(record(fault(vm, 0x84D)).events)
    assert [gfn for gfn, *_ in found] == [0x800, *range(0x800, 0xA00)]
    assert {level for _, level, *_ in found[1:]} == {1}
    assert {new for *_, new in found[1:]} == {brute.FROZEN}


# ---- frames and pages ----------------------------------------------------------------------------------


def removed_lines(geometry: Geometry, table: list, gfn: int, level: int) -> list[tuple[int, int]]:
    """(gfn, level) of every entry of `table`, of `level` and from `gfn` on, what is below one after it."""
    found = []
    for index, entry in enumerate(table):
        first = gfn + index * brute.pages(geometry, level)
        found.append((first, level))
        if isinstance(entry, list):
            found += removed_lines(geometry, entry, first, level - 1)
    return found


def thawed(table: list) -> list:
    """Without frozen entries: nobody else is at work."""
    return [
        thawed(entry) if isinstance(entry, list) else brute.HOLE if entry == brute.FROZEN else entry
        for entry in table
    ]


@settings(max_examples=150)
@given(st.sampled_from([TOY, DEEP, Geometry(1, 4, 3), Geometry(3, 3, 2)]), brute.SEEDS)
def test_the_block_gets_the_frames_of_its_leaf_and_no_other_frame_changes(geometry: Geometry, random: Random):
    vm = a_vm(geometry, thawed(brute.random_layout(geometry, random).table))
    gfn = random.randrange(brute.pages(geometry, geometry.root_level + 1))
    level = random.randint(1, geometry.max_leaf_level)
    before, tree = brute.frames(geometry, contents(vm.direct_root)), contents(vm.direct_root)
    *_, (base, at, entry) = brute.entries(geometry, tree, gfn, gfn + 1, min_level=level)
    recording = record(fault(vm, gfn, level), Lockdep(""))
    after = brute.frames(geometry, contents(vm.direct_root))
    assert_settled(vm)
    if not isinstance(entry, list):  # what a fault does then is test_page_fault's
        assert not recording.of(Flush)
        assert {g: raw for g, raw in before.items() if after.get(g) != raw} == {}
        return
    size = brute.pages(geometry, level)
    assert (at, recording.result) == (level, FIXED)
    assert after == before | {g: brute.LEAF | (HOST + g) << 12 for g in range(base, base + size)}
    found = lines(recording.events)
    assert [line[:2] for line in found] == [
        (base, level),
        *removed_lines(geometry, entry, base, level - 1),
    ]
    assert len(recording.of(Flush)) == 1


def test_without_being_asked_a_fault_steps_down_into_the_table():
    vm = a_vm(TOY, holes((0, holes((1, holes((1, small(5))))))))
    assert run(kvm_tdp_mmu_page_fault(vm, 6, is_private=False)) == FIXED
    assert contents(vm.direct_root) == holes((0, holes((1, holes((1, small(5)), (2, small(6)))))))


def test_a_mirror_root_keeps_its_table():
    """The module merges no pages that are not all in one state and blocked (S264)."""
    gmem = Gmem({index: (HOST + index, 3) for index in range(32)})
    vm = Kvm(KVM_X86_TDX_VM, TOY, memslots=[KvmMemorySlot(0, 32, gmem=gmem)])
    vm.mem_attributes.store(GfnRange(0, 32), True)
    for gfn, max_level in ((5, 1), (6, None)):
        call = kvm_tdp_mmu_page_fault(vm, gfn, is_private=True, max_level=max_level, replace_tables=True)
        assert run(call) == FIXED
    assert contents(vm.mirror_root) == holes((0, holes((1, holes((1, small(5)), (2, small(6)))))))


# ---- other threads -------------------------------------------------------------------------------------


def with_a_table() -> Kvm:
    """A table of 4K leaves at frames 4 to 7."""
    return a_vm(TOY, holes((0, holes((1, [small(gfn) for gfn in range(4, 8)])))))


def test_a_reader_inside_the_table_meets_frozen_entries_and_the_page_is_not_used_again_before_it_leaves():
    vm = with_a_table()
    row, _ = table_at(vm.direct_root, 5, 1)
    reader = TdpIter(vm.direct_root, 1, 5)
    reader.rcu_read_lock()
    reader.next()
    reader.next()
    assert (reader.gfn, reader.level) == (5, 1)
    assert run(fault(vm, 6)) == FIXED
    assert [*reader.table] == [brute.FROZEN] * 4
    assert row not in [vm.pool.alloc() for _ in range(20)]
    reader.rcu_read_unlock()
    assert row in [vm.pool.alloc() for _ in range(20)]
    assert [*vm.pool.table(row)] == [brute.HOLE] * 4


def rest_of(coroutine: Coroutine[int]) -> Coroutine[int]:
    """A call that waits at a scheduling point, from there on."""
    return (yield from coroutine)


def test_a_fault_that_was_about_to_store_into_the_table_stores_nothing_and_retries():
    vm = a_vm(TOY, holes((0, holes((1, holes((0, small(4))))))))
    late, world = kvm_tdp_mmu_page_fault(vm, 5, is_private=False, max_level=1), Finite()
    event = late.send(None)
    while not isinstance(event, SetSpte):
        event = late.send(world.answer(event))
    assert run(fault(vm, 6)) == FIXED
    assert run(rest_of(late)) == RETRY
    assert contents(vm.direct_root) == holes((0, holes((1, brute.leaf(HOST + 4, 2)))))
    assert_settled(vm)


def test_a_leaf_that_another_thread_stores_first_is_taken_with_the_table():
    """The exchange returns what was there, not what was read before it."""
    vm = a_vm(TOY, holes((0, holes((1, holes((0, small(4))))))))

    def store(event: SetSpte) -> None:
        vm.pool.table(event.row)[event.index] = small(5)

    recording = record(fault(vm, 6), Interfering(3, store))  # the parent's store is the first
    assert lines(recording.events)[2] == (5, 1, small(5), brute.FROZEN)


def test_an_entry_that_another_thread_has_frozen_is_waited_for():
    vm = with_a_table()
    row, _ = table_at(vm.direct_root, 5, 1)
    vm.pool.table(row)[2] = brute.FROZEN

    def give_up(event: SetSpte) -> None:
        vm.pool.table(row)[2] = small(6)

    recording = record(fault(vm, 7), Interfering(6, give_up))  # at its third try for that entry
    assert [store.gfn for store in recording.of(SetSpte)] == [4, 4, 5, 6, 6, 6, 7]
    assert lines(recording.events)[3] == (6, 1, small(6), brute.FROZEN)


def test_a_lost_exchange_of_the_parent_keeps_the_table():
    vm = with_a_table()

    def clear_accessed(event: SetSpte) -> None:
        vm.pool.table(event.row)[event.index] &= ~(1 << 8)

    recording = record(fault(vm, 6), Interfering(1, clear_accessed))
    assert (recording.result, lines(recording.events), recording.of(Flush)) == (RETRY, [], [])
    assert run(fault(vm, 6)) == FIXED


def test_wherever_the_call_is_abandoned_its_tables_are_free():
    below = [holes((0, small(0))), brute.leaf(HOST + 4, 2), brute.HOLE, holes((3, small(15)))]

    def make():
        vm = a_vm(DEEP, holes((0, holes((0, below)))))
        return vm, fault(vm, 9)

    for vm in given_up_everywhere(make):
        assert_settled(vm)


# ---- one tree for both halves --------------------------------------------------------------------------


def protected(private: GfnRange) -> Kvm:
    """A software-protected VM: private frames from host frame 128 on, shared ones from HOST on."""
    gmem = Gmem({index: (128 + index, 2) for index in range(64)})
    slot = KvmMemorySlot(0, 64, host_pfn=HOST, host_level=3, gmem=gmem)
    vm = Kvm(KVM_X86_SW_PROTECTED_VM, TOY, memslots=[slot])
    vm.mem_attributes.store(private, True)
    kvm_arch_post_set_memory_attributes(vm, private)
    return vm


def test_a_software_protected_vm_maps_private_and_shared_frames_in_its_one_root():
    vm = protected(GfnRange(0, 6))
    assert (vm.has_private_mem, vm.mirror_root, vm.private_root) == (True, None, vm.direct_root)
    answers = [run(kvm_tdp_mmu_page_fault(vm, gfn, is_private=gfn < 6)) for gfn in (1, 5, 6)]
    assert answers == [FIXED] * 3
    mapped = brute.frames(TOY, contents(vm.direct_root)).items()
    assert {gfn: (raw & brute.FRAME) >> 12 for gfn, raw in mapped} == {
        **{gfn: 128 + gfn for gfn in range(4)},
        5: 128 + 5,
        6: HOST + 6,
    }
    for gfn, is_private in ((1, False), (6, True)):
        assert run(kvm_tdp_mmu_page_fault(vm, gfn, is_private=is_private)) == -EFAULT
    assert_settled(vm)


def test_a_rule_for_the_level_that_ignores_the_attributes_takes_the_private_frames_of_the_block():
    vm = protected(GfnRange(4, 6))
    for gfn in (4, 5):
        run(kvm_tdp_mmu_page_fault(vm, gfn, is_private=True))
    assert run(fault(vm, 6)) == FIXED  # KVM's own rule: the block is mixed
    assert len(brute.frames(TOY, contents(vm.direct_root))) == 3
    assert run(fault(vm, 7, level_rule=lambda kvm, slot, gfn, max_level: max_level)) == FIXED
    assert contents(vm.direct_root) == holes((0, holes((1, brute.leaf(HOST + 4, 2)))))
    assert_settled(vm)
