"""A page fault, against the level computed frame by frame and the tree changed as a list.

The level is the largest whose block lies in the slot, is of one half, has no flag, and whose frames are
backed by one page of the host, as far into it as into the block; a table or hole on the way makes it smaller.
"""

from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.events import (
    AllocTable,
    Event,
    External,
    FreeTable,
    Lock,
    SetSpte,
    Trace,
    Unlock,
)
from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import (
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Kvm,
    KvmMemorySlot,
    kvm_mmu_invalidate_begin,
    kvm_mmu_invalidate_end,
)
from tdpkit.engine.mmu import kvm_arch_post_set_memory_attributes, set_disallow_lpage
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import (
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.engine.tree import map_run
from tests.oracles import brute
from tests.oracles.vms import Gmem, assert_settled, contents, counts, given_up_everywhere, replant
from tests.oracles.worlds import Finite, Interfering, Lockdep, Refusing, Stubborn, record, run

RETRY, FIXED, SPURIOUS = 1, 5, 6
EIO, ENOMEM, EFAULT, EBUSY, EOPNOTSUPP, EHWPOISON = 5, 12, 14, 16, 95, 133
INHIBIT = 1 << 30
VALID = 6
TOY = Geometry(2, 3, 2)
SHAPES = [Geometry(1, 4, 3), Geometry(2, 3, 2), Geometry(2, 3, 3), Geometry(2, 4, 3), Geometry(3, 3, 2)]


# ---- which level, and what becomes of the tree -------------------------------------------------------------


class Machine(NamedTuple):
    """A VM, and what the tests know of it by other means than its own."""

    vm: Kvm
    private: set[int]
    inhibited: set[tuple[int, int]]


def folios(geometry: Geometry, pages: int, random: Random) -> dict[int, tuple[int, int]]:
    """A file of folios of many sizes, each anywhere in host memory; some of their pages are poisoned."""
    made, index = {}, 0
    while index < pages:
        level = random.choice(
            [n for n in range(1, geometry.root_level) if index % brute.pages(geometry, n) == 0]
        )
        size = brute.pages(geometry, level)
        first = random.randrange(1000, 9000) * size
        made |= {index + ahead: (first + ahead, level) for ahead in range(size)}
        index += size
    for poisoned in random.sample(sorted(made), random.choice((0, 0, 2))):
        del made[poisoned]
    return made


def a_machine(geometry: Geometry, vm_type: int, random: Random) -> Machine:
    """Slots anywhere, host memory of any page size in or out of step, attributes, inhibit flags, trees."""
    last = brute.pages(geometry, geometry.root_level + 1) // (2 if vm_type == KVM_X86_TDX_VM else 1)
    slots, base = [], random.choice((0, 0, random.randrange(last // 2)))
    while base < last:
        pages = random.randint(1, last - base) if random.random() < 0.7 else last - base
        gmem = Gmem(folios(geometry, pages + last, random)) if random.random() < 0.9 else None
        step = brute.pages(geometry, random.randint(1, geometry.root_level))
        slots.append(
            KvmMemorySlot(
                base,
                pages,
                host_pfn=None if random.random() < 0.1 else random.randrange(99) * step + base % step,
                host_level=random.randint(1, geometry.root_level),
                gmem=gmem,
                gmem_pgoff=random.choice((base, 0, random.randrange(last))) if gmem else 0,
            )
        )
        base += pages + random.choice((0, 0, 3))
    vm = Kvm(vm_type, geometry, memslots=slots)
    private, inhibited = set(), set()
    if vm.has_mirrored_tdp:
        for _ in range(random.randint(0, 3)):
            start, end = sorted(random.sample(range(last + 1), 2))
            to_private = random.random() < 0.7
            vm.mem_attributes.store(GfnRange(start, end), to_private)
            kvm_arch_post_set_memory_attributes(vm, GfnRange(start, end))
            private = private | {*range(start, end)} if to_private else private - {*range(start, end)}
    for _ in range(random.randint(0, 2)):
        level, gfn = random.randint(2, geometry.root_level), random.randrange(last)
        set_disallow_lpage(vm, gfn, level, INHIBIT, True)
        inhibited.add((level, gfn - gfn % brute.pages(geometry, level)))
    if random.random() < 0.7:
        half = geometry.entries // 2
        for is_mirror in (False, True)[: len(vm.tdp_mmu_roots)]:
            largest = min(geometry.max_leaf_level, 2 if vm.has_mirrored_tdp else 9)
            shape = Geometry(geometry.index_bits, geometry.root_level, largest)
            table = brute.random_layout(shape, random).table
            if vm.has_mirrored_tdp:
                holes = [brute.HOLE] * half
                table = table[:half] + holes if is_mirror else holes + table[half:]
            replant(vm, table, is_mirror=is_mirror)
    return Machine(vm, private, inhibited)


def backing(slot: KvmMemorySlot, gfn: int, is_private: bool) -> tuple[int, int] | None:
    """(host frame, level of the host's page) behind a frame, or None."""
    ahead = gfn - slot.base_gfn
    if is_private:
        return slot.gmem.pages.get(slot.gmem_pgoff + ahead)
    return slot.host_pfn + ahead, slot.host_level


def fits(machine: Machine, slot: KvmMemorySlot, gfn: int, is_private: bool, level: int) -> bool:
    """May the block of `level` around `gfn` be mapped by one leaf? Asked of each of its frames."""
    geometry = machine.vm.geometry
    size = brute.pages(geometry, level)
    block = range(gfn - gfn % size, gfn - gfn % size + size)
    if (level, block[0]) in machine.inhibited:
        return False
    if not all(slot.base_gfn <= frame < slot.base_gfn + slot.npages for frame in block):
        return False
    if any((frame in machine.private) != is_private for frame in block):
        return False
    pfn, host_level = backing(slot, gfn, is_private)
    page = brute.pages(geometry, host_level)
    first = pfn - (gfn - block[0])
    return first % size == 0 and all((first + i) // page == pfn // page for i in range(size))


def table_down_to(geometry: Geometry, level: int, target: int, base: int, gfn: int, pfn: int):
    """The entry of `level` at `base`: tables down to a leaf of `target` for `gfn`, holes beside them."""
    size = brute.pages(geometry, level)
    if not base <= gfn < base + size:
        return brute.HOLE
    if level == target:
        return brute.leaf(pfn - (gfn - base), level)
    below = brute.pages(geometry, level - 1)
    return [
        table_down_to(geometry, level - 1, target, at, gfn, pfn) for at in range(base, base + size, below)
    ]


def expect(machine: Machine, gfn: int, is_private: bool, largest: int) -> tuple[int, list | None]:
    """What a fault returns and the tree of its half afterwards (None: as before)."""
    vm = machine.vm
    slot = next((s for s in vm.memslots if s.base_gfn <= gfn < s.base_gfn + s.npages), None)
    missing = slot is None or (slot.gmem if is_private else slot.host_pfn) is None
    if missing or is_private != (gfn in machine.private):
        return -EFAULT, None
    if backing(slot, gfn, is_private) is None:
        return -EHWPOISON, None
    pfn, _ = backing(slot, gfn, is_private)
    goal = max(n for n in range(1, largest + 1) if n == 1 or fits(machine, slot, gfn, is_private, n))
    root = vm.mirror_root if is_private else vm.direct_root
    at, table = gfn + root.gfn_bits, contents(root)
    *_, (base, level, entry) = (e for e in brute.entries(vm.geometry, table, at, at + 1))
    if entry == brute.FROZEN:
        return RETRY, None
    if brute.is_leaf(entry):
        around = lambda g, n: n > goal and g <= at < g + brute.pages(vm.geometry, n)  # noqa: E731
        return SPURIOUS, brute.split(vm.geometry, table, around)[0]
    goal = min(goal, level)

    def change(g: int, n: int, raw: int):
        return table_down_to(vm.geometry, level, goal, base, at, pfn) if (g, n) == (base, level) else raw

    return FIXED, brute.rebuild(vm.geometry, table, change)


@pytest.mark.slow
@settings(max_examples=400)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from([KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM]),
    brute.SEEDS,
)
def test_a_fault_maps_the_largest_page_that_all_frames_of_its_block_allow_and_changes_nothing_else(
    geometry, vm_type, random
):
    machine = a_machine(geometry, vm_type, random)
    vm = machine.vm
    for _ in range(4):
        gfn = random.randrange(vm.max_gfn_exclusive)
        is_private = (gfn in machine.private) != (random.random() < 0.1)
        max_level = random.choice((None, None, *range(1, geometry.root_level + 1)))
        largest = min(2 if vm.has_mirrored_tdp else 9, geometry.max_leaf_level, max_level or 9)
        trees = {root: contents(root) for root in vm.tdp_mmu_roots}
        result, table = expect(machine, gfn, is_private, largest)
        recording = record(
            kvm_tdp_mmu_page_fault(vm, gfn, is_private=is_private, max_level=max_level), Lockdep("")
        )
        assert recording.result == result
        if table is not None:
            trees[vm.mirror_root if is_private else vm.direct_root] = table
        assert {root: contents(root) for root in vm.tdp_mmu_roots} == trees
        locks = [event for event in recording.events if type(event) in (Lock, Unlock)]
        assert locks == ([Lock(True), Unlock(True, "done")] if result > 0 else [])
        assert_settled(vm)


# ---- in particular -----------------------------------------------------------------------------------------


def backed(vm_type: int = KVM_X86_DEFAULT_VM, geometry: Geometry = TOY, private: bool = False) -> Kvm:
    """A VM on host frames from 64 on, in pages as large as can be, in step; all shared or all private."""
    frames = range(brute.pages(geometry, geometry.root_level + 1))
    gmem = Gmem({index: (64 + index, geometry.root_level) for index in frames})
    size = frames.stop // (2 if vm_type == KVM_X86_TDX_VM else 1)
    slot = KvmMemorySlot(0, size, host_pfn=64, host_level=geometry.root_level, gmem=gmem)
    vm = Kvm(vm_type, geometry, memslots=[slot])
    if private:
        vm.mem_attributes.store(GfnRange(0, size), True)
    return vm


def a_private_td(geometry: Geometry = TOY) -> Kvm:
    return backed(KVM_X86_TDX_VM, geometry, private=True)


@pytest.mark.parametrize(("vm_type", "private", "level"), [(0, False, 3), (5, False, 2), (5, True, 2)])
def test_a_td_maps_2m_at_most_where_a_plain_vm_maps_1g(vm_type, private, level):
    vm = backed(vm_type, Geometry(2, 4, 3), private)
    assert run(kvm_tdp_mmu_page_fault(vm, 17, is_private=private)) == FIXED
    root = vm.mirror_root if private else vm.direct_root
    first = 16 + root.gfn_bits
    assert brute.leaves(vm.geometry, contents(root)) == [(first, level, brute.leaf(64 + 16, level))]


def test_private_memory_is_mapped_in_the_mirror_and_the_tdx_side_follows_from_the_top_down():
    """Frozen while it works (S162); a page for the S-EPT goes with each table (S83)."""
    vm = a_private_td()
    recording = record(kvm_tdp_mmu_page_fault(vm, 6, is_private=True, max_level=1), Lockdep(""))
    assert recording.result == FIXED
    calls = [(call.op, call.gfn, call.level, call.shared) for call in recording.of(External)]
    assert calls == [("link", 0, 3, True), ("link", 4, 2, True), ("set", 6, 1, True)]
    assert [call.old_spte for call in recording.of(External)] == [brute.HOLE] * 3
    assert recording.of(External)[-1].new_spte == brute.leaf(64 + 6, 1)
    stores = [
        (store.old_spte == brute.FROZEN, store.new_spte == brute.FROZEN) for store in recording.of(SetSpte)
    ]
    assert stores == [(False, True), (True, False)] * 3
    assert [event.is_mirror for event in recording.of(AllocTable)] == [True, True]
    assert contents(vm.direct_root) == [brute.HOLE] * 4


def test_shared_memory_of_a_td_is_mapped_in_the_direct_root_without_the_tdx_side():
    vm = backed(KVM_X86_TDX_VM)
    recording = record(kvm_tdp_mmu_page_fault(vm, 6, is_private=False))
    assert (recording.result, recording.of(External)) == (FIXED, [])
    assert [event.is_mirror for event in recording.of(AllocTable)] == [False, False]
    assert contents(vm.mirror_root) == [brute.HOLE] * 4
    assert brute.leaves(TOY, contents(vm.direct_root)) == [(32 + 4, 2, brute.leaf(64 + 4, 2))]


def test_pages_for_tables_are_kept_for_the_next_fault_and_only_what_is_missing_is_asked_for():
    vm = backed()
    asked = [
        len(record(kvm_tdp_mmu_page_fault(vm, gfn, is_private=False)).of(AllocTable)) for gfn in (0, 4, 5, 16)
    ]
    # A cache of two; a huge page in an empty root takes one, beside it none, in another table one.
    assert asked == [2, 1, 0, 0]
    assert_settled(vm)


@pytest.mark.parametrize("is_private", [False, True])
def test_a_plain_vm_knows_no_private_frames(is_private):
    vm = backed()
    vm.mem_attributes.store(GfnRange(0, 4), True)
    assert run(kvm_tdp_mmu_page_fault(vm, 1, is_private=is_private)) == -EFAULT
    assert contents(vm.direct_root) == [brute.HOLE] * 4


@pytest.mark.parametrize("is_private", [False, True])
def test_a_fault_needs_a_reference_on_the_root_of_its_own_half_only(is_private):
    """What became of the other half's root does not matter to it (S46)."""
    vm = backed(KVM_X86_TDX_VM, private=is_private)
    own, other = (vm.mirror_root, vm.direct_root)[:: 1 if is_private else -1]
    other.tdp_mmu_root_count = 0
    assert run(kvm_tdp_mmu_page_fault(vm, 1, is_private=is_private)) == FIXED
    own.tdp_mmu_root_count = 0
    with pytest.raises(InvalidValueError, match="has none left"):
        kvm_tdp_mmu_page_fault(vm, 1, is_private=is_private)


@pytest.mark.parametrize(
    ("gfn", "max_level", "kind", "message"),
    [
        (32, None, InvalidValueError, r"below 0x20 \(128K\); 0x20 \(128K\)"),
        (-1, None, InvalidValueError, "at least 0; -1"),
        (1.0, None, InvalidTypeError, "1.0"),
        (1, 0, InvalidValueError, "from 1 to 3"),
        (1, 4, InvalidValueError, "from 1 to 3"),
    ],
)
def test_a_fault_beyond_the_vm_or_its_levels_is_refused_at_the_call(gfn, max_level, kind, message):
    vm = a_private_td()
    before = brute.memory(vm.pool)
    with pytest.raises(kind, match=message):
        kvm_tdp_mmu_page_fault(vm, gfn, is_private=True, max_level=max_level)
    assert brute.memory(vm.pool) == before


@pytest.mark.parametrize("k", [1, 2])
def test_without_memory_for_tables_nothing_is_mapped_and_the_lock_not_taken(k):
    """What there was stays in the cache, and the next fault asks for the rest."""
    vm = backed()
    recording = record(kvm_tdp_mmu_page_fault(vm, 1, is_private=False), Refusing(k))
    assert recording.result == -ENOMEM
    assert [type(event) for event in recording.events] == [AllocTable] * k
    assert contents(vm.direct_root) == [brute.HOLE] * 4
    assert len(vm.page_caches[False]) == k - 1
    assert_settled(vm)
    again = record(kvm_tdp_mmu_page_fault(vm, 1, is_private=False))
    assert (again.result, len(again.of(AllocTable))) == (FIXED, 3 - k)


# ---- what may happen meanwhile -----------------------------------------------------------------------------


class Meanwhile(Finite):
    """`act` happens at the first event of a kind: when a page is asked for, or while waiting for the lock."""

    def __init__(self, kind: type[Event], act) -> None:
        super().__init__()
        self.kind, self.act = kind, act

    def answer(self, event: Event):
        if type(event) is self.kind:
            self.kind = type(None)
            self.act()
        return super().answer(event)


def begin(vm: Kvm, span: GfnRange) -> None:
    kvm_mmu_invalidate_begin(vm, span)


def begin_and_end(vm: Kvm, span: GfnRange) -> None:
    kvm_mmu_invalidate_begin(vm, span)
    kvm_mmu_invalidate_end(vm)


@pytest.mark.parametrize(
    ("kind", "act", "span", "result"),
    [
        (Lock, begin, GfnRange(0, 4), RETRY),
        (Lock, begin, GfnRange(3, 4), RETRY),
        (Lock, begin, GfnRange(0, 3), FIXED),
        (Lock, begin, GfnRange(4, 9), FIXED),
        (Lock, begin_and_end, GfnRange(0, 4), RETRY),
        (Lock, begin_and_end, GfnRange(20, 21), RETRY),  # the count tells no ranges apart
        (AllocTable, begin, GfnRange(3, 4), RETRY),
        (AllocTable, begin_and_end, GfnRange(3, 4), FIXED),  # over before anything of it was read
    ],
)
def test_a_fault_on_a_range_that_is_or_was_invalidated_meanwhile_maps_nothing(kind, act, span, result):
    """S212."""
    vm = backed()
    world = Lockdep("", Meanwhile(kind, lambda: act(vm, span)))
    assert run(kvm_tdp_mmu_page_fault(vm, 3, is_private=False), world) == result
    assert bool(brute.leaves(TOY, contents(vm.direct_root))) == (result == FIXED)
    assert_settled(vm)
    if vm.mmu_invalidate_in_progress:
        kvm_mmu_invalidate_end(vm)
    after = run(kvm_tdp_mmu_page_fault(vm, 3, is_private=False))
    assert after == (SPURIOUS if result == FIXED else FIXED)


@pytest.mark.parametrize(("kind", "result"), [(AllocTable, -EFAULT), (Lock, RETRY)])
def test_a_frame_converted_meanwhile_is_not_mapped_in_the_half_it_left(kind, result):
    """Whenever the conversion falls: else host memory stays mapped where the guest has given it up."""
    vm = backed(KVM_X86_TDX_VM)

    def convert() -> None:
        kvm_mmu_invalidate_begin(vm, GfnRange(0, 8))
        vm.mem_attributes.store(GfnRange(0, 8), True)
        kvm_mmu_invalidate_end(vm)

    world = Lockdep("", Meanwhile(kind, convert))
    assert run(kvm_tdp_mmu_page_fault(vm, 3, is_private=False), world) == result
    assert all(brute.leaves(TOY, contents(root)) == [] for root in vm.tdp_mmu_roots)
    assert run(kvm_tdp_mmu_page_fault(vm, 3, is_private=False)) == -EFAULT
    assert_settled(vm)


@pytest.mark.parametrize("kind", [AllocTable, Lock])
def test_an_inhibit_flag_set_meanwhile_is_heeded(kind):
    """The level is chosen under the lock: a 4K accept that went first is not undone (S173)."""
    vm = a_private_td()
    world = Meanwhile(kind, lambda: set_disallow_lpage(vm, 3, 2, INHIBIT, True))
    assert run(kvm_tdp_mmu_page_fault(vm, 3, is_private=True), world) == FIXED
    assert brute.leaves(TOY, contents(vm.mirror_root)) == [(3, 1, brute.leaf(64 + 3, 1))]


@pytest.mark.parametrize("is_private", [False, True])
def test_a_fault_on_an_invalid_root_is_retried(is_private):
    vm = a_private_td() if is_private else backed()
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    recording = record(kvm_tdp_mmu_page_fault(vm, 3, is_private=is_private), Lockdep(""))
    assert (recording.result, recording.of(SetSpte)) == (RETRY, [])
    assert_settled(vm)
    kvm_mmu_reload(vm)
    run(kvm_tdp_mmu_zap_invalidated_roots(vm))
    assert run(kvm_tdp_mmu_page_fault(vm, 3, is_private=is_private)) == FIXED
    assert_settled(vm)


@pytest.mark.parametrize("kind", [AllocTable, Lock])
@pytest.mark.parametrize("freed", [False, True])
def test_a_fault_whose_root_is_invalidated_or_freed_meanwhile_is_retried(kind, freed):
    vm = backed()

    def act() -> None:
        kvm_tdp_mmu_invalidate_roots(vm, VALID)
        if freed:
            kvm_mmu_reload(vm)
            run(kvm_tdp_mmu_zap_invalidated_roots(vm))

    old = vm.direct_root
    recording = record(kvm_tdp_mmu_page_fault(vm, 3, is_private=False), Meanwhile(kind, act))
    assert (recording.result, recording.of(SetSpte)) == (RETRY, [])
    assert (old in vm.tdp_mmu_roots) is not freed
    assert contents(vm.direct_root) == [brute.HOLE] * 4
    assert_settled(vm)


# ---- races at an entry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("raw", [brute.FROZEN, brute.leaf(4000, 1)], ids=["frozen", "mapped"])
def test_a_lost_race_for_an_entry_is_a_retry_and_its_page_goes_back(k, raw):
    """The rival's entry stays. Of three stores on the way to a 4K page, the k-th is lost."""
    vm = backed()
    rival = raw if k == 3 or raw == brute.FROZEN else raw | brute.LARGE

    def act(store: SetSpte) -> None:
        vm.pool.table(store.row)[store.index] = rival

    world = Interfering(k, act)
    recording = record(kvm_tdp_mmu_page_fault(vm, 6, is_private=False, max_level=1), Lockdep("", world))
    assert recording.result == RETRY
    *_, (base, level, entry) = brute.entries(TOY, contents(vm.direct_root), 6, 7)
    assert (base, level, entry) == (*world.victim, rival)
    assert len(recording.of(FreeTable)) == (k < 3)  # the last store links no page
    assert recording.events[-1] == Unlock(True, "done")
    assert_settled(vm)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_frozen_entry_on_the_way_is_a_retry(level):
    vm = backed()
    there = table_down_to(TOY, 4, level, 0, 6, 64 + 6)
    table = brute.rebuild(TOY, there, lambda _, __, raw: brute.FROZEN if brute.is_leaf(raw) else raw)
    replant(vm, table)
    recording = record(kvm_tdp_mmu_page_fault(vm, 6, is_private=False))
    assert (recording.result, recording.of(SetSpte), recording.of(FreeTable)) == (RETRY, [], [])
    assert contents(vm.direct_root) == table
    assert_settled(vm)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    ("first", "second"), [((6, 1), (6, 1)), ((6, 1), (6, 2)), ((6, 2), (5, 1)), ((6, 1), (16, 1))]
)
def test_two_faults_at_a_time_end_as_one_after_the_other_once_the_losers_are_retried(first, second, private):
    """The second runs whole at each event of the first; each has a page cache of its own."""

    def fault(vm: Kvm, of: tuple[int, int]):
        return kvm_tdp_mmu_page_fault(vm, of[0], is_private=private, max_level=of[1])

    def settle(vm: Kvm) -> list[list]:
        for of in (first, second, first):
            for _ in range(3):
                if run(fault(vm, of)) != RETRY:
                    break
        return [brute.frames(TOY, contents(root)) for root in vm.tdp_mmu_roots]

    at, happened, results = 0, True, set()
    while happened:
        at, happened = at + 1, False
        vm = a_private_td() if private else backed()

        class Rival(Finite):
            left = at

            def answer(self, event: Event):
                nonlocal happened
                self.left -= 1
                if self.left == 0:
                    happened = True
                    results.add(run(fault(vm, second)))  # noqa: B023 - the world lives for this turn
                return super().answer(event)

        results.add(run(fault(vm, first), Rival()))
        assert_settled(vm)
        frames = settle(vm)
        tree = vm.mirror_root if private else vm.direct_root
        mapped = frames[vm.tdp_mmu_roots.index(tree)]
        for gfn, _ in (first, second):
            assert mapped[gfn + tree.gfn_bits] == brute.leaf(64 + gfn, 1)
        assert_settled(vm)
    assert at > 8
    assert results <= {RETRY, FIXED, SPURIOUS}
    assert FIXED in results


# ---- a refusal of the TDX side -----------------------------------------------------------------------------


@pytest.mark.parametrize("errno", [-EBUSY, -EIO])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_what_the_tdx_side_refuses_leaves_the_entry_as_it_was_and_is_retried(k, errno):
    """S162; what was linked on the way before stays, the page in hand goes back."""

    class Refuses(Stubborn):
        def external(self, event: External) -> int:
            self.left -= 1
            return self.errno if self.left == 0 else 0

    vm = a_private_td()
    recording = record(
        kvm_tdp_mmu_page_fault(vm, 6, is_private=True, max_level=1), Lockdep("", Refuses(k, errno))
    )
    assert recording.result == RETRY
    assert len(recording.of(External)) == k
    refused = recording.of(External)[-1]
    *_, last = brute.entries(TOY, contents(vm.mirror_root), 6, 7)
    assert last == (refused.gfn, refused.level, brute.HOLE)
    assert [free.row for free in recording.of(FreeTable)] == (
        [(refused.new_spte & brute.FRAME) >> 12] if k < 3 else []
    )
    assert_settled(vm)
    assert run(kvm_tdp_mmu_page_fault(vm, 6, is_private=True, max_level=1)) == FIXED
    assert brute.leaves(TOY, contents(vm.mirror_root)) == [(6, 1, brute.leaf(64 + 6, 1))]


def test_a_private_huge_page_above_the_accept_level_is_not_split_by_the_fault_if_the_tdx_side_refuses():
    """What makes the wrong root of S140 a loop for ever: the fault holds the read lock."""
    vm = a_private_td()
    map_run(vm.mirror_root, 4, 2, 1, 64 + 4)
    table = contents(vm.mirror_root)
    for _ in range(3):
        recording = record(
            kvm_tdp_mmu_page_fault(vm, 6, is_private=True, max_level=1), Stubborn(1, -EOPNOTSUPP)
        )
        assert recording.result == RETRY
        assert [(call.op, call.shared) for call in recording.of(External)] == [("split", True)]
        assert contents(vm.mirror_root) == table
        assert_settled(vm)


def test_a_huge_page_above_the_level_is_split_one_page_at_a_time():
    """S82: only what holds the frame, down to the level; the frame was mapped already."""
    vm = backed(geometry=Geometry(2, 4, 3))
    assert run(kvm_tdp_mmu_page_fault(vm, 22, is_private=False)) == FIXED
    table = contents(vm.direct_root)
    recording = record(kvm_tdp_mmu_page_fault(vm, 22, is_private=False, max_level=1), Lockdep(""))
    assert recording.result == SPURIOUS
    splits = [trace for trace in recording.of(Trace) if trace.name == "kvm_mmu_split_huge_page"]
    assert [(trace.gfn, trace.level, trace.errno) for trace in splits] == [(16, 3, 0), (20, 2, 0)]
    expected = brute.split(vm.geometry, table, lambda gfn, level: (gfn, level) in {(16, 3), (20, 2)})[0]
    assert contents(vm.direct_root) == expected
    assert_settled(vm)


# ---- given up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_fault_that_is_given_up_leaks_no_page_and_frees_no_linked_one(private, mapped):
    """Given up in the middle of the TDX side's work, an entry stays frozen, as elsewhere."""

    def fault():
        vm = a_private_td() if private else backed()
        if mapped:
            map_run(vm.mirror_root if private else vm.direct_root, 4, 2, 1, 64 + 4)
        return vm, kvm_tdp_mmu_page_fault(vm, 6, is_private=private, max_level=1)

    tries = 0
    for vm in given_up_everywhere(fault):
        assert_settled(vm)
        root = vm.mirror_root if private else vm.direct_root
        frozen = [e for *_, e in brute.entries(TOY, contents(root)) if e == brute.FROZEN]
        assert len(frozen) <= private
        again = run(kvm_tdp_mmu_page_fault(vm, 6, is_private=private, max_level=1))
        assert again in ({RETRY} if frozen else {FIXED, SPURIOUS})
        assert_settled(vm)
        assert set(counts(vm)) == {2}
        tries += 1
    assert tries > 6
