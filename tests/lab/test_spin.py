"""A call that never returns is stopped between visits, and what it repeats is found.

Truth: the posted call's round is written out from S105, S162 and S179; rounds of made-up lines by hand.
"""

import pytest

from tdpkit.engine.events import World, record
from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.tree import leaf_runs
from tdpkit.lab.spin import Spin, run_visits
from tdpkit.lab.td import Td

ROUND = (
    "visit level 2, index 2, at 64K: leaf",
    "ask the TDX side whether it has memory for a split",
    "write level 2, index 2, at 64K: leaf -> frozen",
    "call the TDX side: split, level 2, at 64K",
    "write level 2, index 2, at 64K: frozen -> leaf",
)
"""A toy's leaf of 8 frames at frame 16, entry 2 of the root; then the tracepoint says -95."""


def private_call(td: Td, *, shared: bool = True):
    """On [17, 19), inside the leaf at 16."""
    span = KvmGfnRange(td.kvm.slot, 17, 19, KVM_FILTER_PRIVATE)
    return kvm_split_cross_boundary_leafs(td.kvm, span, shared=shared, as_posted=True)


def seen(td: Td):
    kvm = td.kvm
    trees = [leaf_runs(root) for root in (*kvm.tdp_mmu_roots, td.module.sept)]
    counts = [root.tdp_mmu_root_count for root in kvm.tdp_mmu_roots]
    return trees, counts, repr(kvm.pool), td.tdx.dead, len(td.calls)


@pytest.mark.parametrize("visits", [3, 100])
def test_the_posted_call_spins_under_the_read_lock_and_changes_nothing(visits):
    td = Td()
    before = seen(td)
    with td.kvm.slots_lock:
        spin = run_visits(visits, private_call(td), td.world)
    assert (spin.stopped, spin.returned) == (True, None)
    assert spin.round[:-1] == ROUND
    assert spin.round[-1].startswith("kvm_mmu_split_huge_page: gfn 10 ")
    assert spin.round[-1].endswith(" level 2 errno -95")
    assert spin.rounds == visits - 1, "the first visit goes for a page, and each other is a round"
    assert seen(td) == before
    assert repr(spin).startswith(f"{visits} visits, ")
    assert f"at the end the same 6 events, {visits - 1} times:" in repr(spin)


def test_under_the_write_lock_it_returns():
    """As it does in a world whose TDX side succeeds whatever the lock."""
    for world, shared in ((None, False), (World(), True)):
        td = Td()
        with td.kvm.slots_lock:
            spin = run_visits(100, private_call(td, shared=shared), world or td.world)
        assert (spin.stopped, spin.returned) == (False, 0)
        assert {leaf.level for leaf in leaf_runs(td.kvm.mirror_root) if 16 <= leaf.gfn < 24} == {1}


def test_a_call_that_returns_has_all_its_events():
    td, other = Td(), Td()
    with td.kvm.slots_lock, other.kvm.slots_lock:
        spin = run_visits(1000, private_call(td, shared=False), td.world)
        events = record(private_call(other, shared=False), other.world).events
    assert spin.lines == tuple(map(str, events))
    assert "then returned 0" in repr(spin)


@pytest.mark.parametrize(
    ("lines", "again", "rounds"),
    [
        ("", "", 0),
        ("abc", "", 0),
        ("abcbc", "bc", 2),
        ("aaa", "a", 3),
        ("xababab", "ab", 3),
        ("ababc", "", 0),
    ],
)
def test_the_shortest_round_at_the_end_is_found_and_counted(lines, again, rounds):
    spin = Spin(tuple(lines), 0, True, None)
    assert (spin.round, spin.rounds) == (tuple(again), rounds)


def test_no_visit_at_all_is_a_number_and_a_negative_one_is_refused():
    td = Td()
    with td.kvm.slots_lock:
        assert run_visits(0, private_call(td), td.world) == Spin((), 0, True, None)
        for wrong, error in ((-1, InvalidValueError), ("3", InvalidTypeError)):
            with pytest.raises(error):
                run_visits(wrong, private_call(td), td.world)
