"""What coroutines say, in which order, and that a recording keeps it."""

import pytest
from hypothesis import given

from tdpkit.engine import events as events_module
from tdpkit.engine.events import (
    AllocTable,
    Event,
    External,
    Flush,
    FreeTable,
    KvmBugOn,
    Lock,
    NeedTopup,
    SetSpte,
    Topup,
    Trace,
    Unlock,
    Visit,
    World,
)
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tests.oracles import brute
from tests.oracles.worlds import Finite, Impatient, Refusing, record, run

TOY = Geometry(1, 3, 3)  # two entries a table: 4K, 8K and 16K


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def a_walk() -> TdpIter:
    return TdpIter(brute.plant(TOY, brute.full(TOY, 1)), 1, 0)


EXAMPLES = {
    Visit: lambda: Visit(a_walk()),
    AllocTable: lambda: AllocTable(a_walk().pool),
    NeedTopup: NeedTopup,
    Topup: Topup,
    External: lambda: External("split", 0, 2, 1, 2),
    Unlock: lambda: Unlock(True, "alloc"),
    Lock: lambda: Lock(True),
    SetSpte: lambda: SetSpte(0, 0, 0, 1, 1, 2),
    FreeTable: lambda: FreeTable(0),
    Flush: Flush,
    Trace: lambda: Trace("kvm_mmu_split_huge_page"),
    KvmBugOn: lambda: KvmBugOn("old_spte"),
}


def test_the_set_of_events_is_closed():
    """By name: a dataclass with slots is made twice, and its first class lives until it is collected. The lab
    has events of its own, for a world of its own.
    """
    engine = {kind for kind in subclasses(Event) - {Event} if kind.__module__.startswith("tdpkit.engine.")}
    names = {kind.__qualname__ for kind in engine}
    assert names == {kind.__qualname__ for kind in EXAMPLES}
    assert {
        kind for kind in vars(events_module).values() if isinstance(kind, type) and issubclass(kind, Event)
    } == {
        Event,
        *EXAMPLES,
    }


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
def test_a_kind_world_answers_every_event_and_a_subclass_can_answer_otherwise(kind):
    """A missing entry would show up only in the one call that needs it."""
    kind_answers = {Visit: False, NeedTopup: False, Topup: True, External: 0}
    answer = World().answer(EXAMPLES[kind]())
    assert isinstance(answer, int) if kind is AllocTable else answer == kind_answers.get(kind)
    method = "".join("_" + c.lower() if c.isupper() else c for c in kind.__name__).lstrip("_")
    other = type("Other", (World,), {method: lambda self, event: "otherwise"})
    assert other().answer(EXAMPLES[kind]()) == "otherwise"


# ---- order ---------------------------------------------------------------------------------------------


def brief(event: Event) -> tuple:
    """An event without rows and raw values."""
    match event:
        case Visit(iter=it):
            return ("visit", it.gfn, it.level)
        case SetSpte() | External():
            return (type(event).__name__, event.gfn, event.level)
        case Trace():
            return ("trace", event.name, event.gfn, event.level, event.errno)
        case Unlock():
            return ("unlock", event.reason, event.shared)
        case Lock():
            return ("lock", event.shared)
    return (type(event).__name__,)


@pytest.mark.parametrize("shared", [True, False])
def test_a_split_says_what_it_does_in_the_order_of_the_kernels_steps(shared):
    """S80 and S220-S221, by hand: one 16K leaf, edge at frame 1, so an 8K leaf is split as well.

    (`kvm_mmu_get_page` is not among the traces of this engine.)
    """
    root = brute.plant(TOY, [brute.leaf(64, 3), brute.HOLE])
    call = tdp_mmu_split_huge_pages_root(root, 1, 4, 1, shared=shared, only_cross_boundary=True)
    assert [brief(event) for event in record(call).events] == [
        ("visit", 0, 3),
        *(("unlock", "alloc", shared), ("AllocTable",), ("lock", shared)),
        ("visit", 0, 3),  # from the root again, the entry is looked at anew
        ("SetSpte", 0, 3),
        ("trace", "kvm_tdp_mmu_spte_changed", 0, 3, 0),
        ("trace", "kvm_mmu_split_huge_page", 0, 3, 0),
        ("visit", 0, 2),  # down into the new table
        *(("unlock", "alloc", shared), ("AllocTable",), ("lock", shared)),
        ("visit", 0, 3),
        ("visit", 0, 2),
        ("SetSpte", 0, 2),
        ("trace", "kvm_tdp_mmu_spte_changed", 0, 2, 0),
        ("trace", "kvm_mmu_split_huge_page", 0, 2, 0),
        ("visit", 2, 2),  # fully inside: not split; target level 4K, so no further down
    ]


def test_a_failed_allocation_says_nothing_but_the_failed_split():
    """-ENOMEM gives only the split event (S220-S221)."""
    root = brute.plant(TOY, [brute.leaf(64, 3), brute.HOLE])
    call = tdp_mmu_split_huge_pages_root(root, 1, 4, 1, shared=True, only_cross_boundary=True)
    assert [brief(event) for event in record(call, Refusing()).events] == [
        ("visit", 0, 3),
        *(("unlock", "alloc", True), ("AllocTable",), ("lock", True)),
        ("trace", "kvm_mmu_split_huge_page", 0, 3, -12),
    ]


def test_a_split_of_a_mirror_root_under_the_shared_lock_stores_twice():
    """Frozen first, then the TDX side, then the new value (S162)."""
    root = brute.plant(TOY, [brute.leaf(64, 3), brute.HOLE], is_mirror=True)
    call = tdp_mmu_split_huge_pages_root(root, 2, 4, 1, shared=True, only_cross_boundary=True)
    events = record(call).events
    assert [brief(event) for event in events[5:11]] == [
        ("NeedTopup",),
        ("SetSpte", 0, 3),
        ("External", 0, 3),
        ("SetSpte", 0, 3),
        ("trace", "kvm_tdp_mmu_spte_changed", 0, 3, 0),
        ("trace", "kvm_mmu_split_huge_page", 0, 3, 0),
    ]
    first, asked, second = events[6:9]
    assert (first.old_spte, first.new_spte) == (brute.leaf(64, 3), brute.FROZEN)
    assert (second.old_spte, second.new_spte) == (brute.FROZEN, asked.new_spte)
    assert (asked.op, asked.old_spte, asked.new_spte & ~brute.FRAME) == (
        "split",
        brute.leaf(64, 3),
        brute.LINK,
    )


def test_a_resched_of_a_zap_flushes_then_lets_go():
    root = brute.plant(TOY, brute.full(TOY, 3))
    assert [brief(event) for event in record(tdp_mmu_zap_leafs(root, 0, 8), Impatient()).events] == [
        ("visit", 0, 3),  # the first entry: no progress to lose yet, so no resched
        ("SetSpte", 0, 3),
        ("trace", "kvm_tdp_mmu_spte_changed", 0, 3, 0),
        ("visit", 4, 3),
        *(("Flush",), ("unlock", "resched", False), ("lock", False)),
        ("visit", 4, 3),
        ("SetSpte", 4, 3),
        ("trace", "kvm_tdp_mmu_spte_changed", 4, 3, 0),
    ]


# ---- recording -----------------------------------------------------------------------------------------


@pytest.mark.slow
@given(brute.cases(root_levels=(2, 4)))
def test_a_recording_keeps_each_visit_as_it_was_and_returns_what_run_returns(case):
    """One Visit object serves a whole walk: uncopied, every recorded visit would be the last one."""
    layout, start, end = case

    class Noting(Finite):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple] = []

        def visit(self, event: Visit) -> bool:
            it = event.iter
            self.seen.append((it.gfn, it.level, it.old_spte, it.next_last_level_gfn, it.pt_path.copy()))
            return False

    for call in (
        lambda root: tdp_mmu_split_huge_pages_root(root, start, end, 1, shared=True),
        lambda root: tdp_mmu_zap_leafs(root, start, end),
    ):
        world = Noting()
        recording = record(call(brute.plant(*layout)), world)
        kept = [visit.iter for visit in recording.of(Visit)]
        assert [
            (it.gfn, it.level, it.old_spte, it.next_last_level_gfn, it.pt_path) for it in kept
        ] == world.seen
        assert recording.result == run(call(brute.plant(*layout)))
        assert type(recording.result) is type(run(call(brute.plant(*layout))))


def test_an_exception_of_the_coroutine_comes_out_of_run_and_of_record():
    def broken():
        yield Flush()
        raise LookupError("here")

    for drive in (events_module.run, events_module.record):
        with pytest.raises(LookupError, match="here"):
            drive(broken())


def test_a_change_is_traced_with_what_was_there_and_what_is_there_now():
    root = brute.plant(TOY, [brute.leaf(64, 3), brute.HOLE], as_id=1)
    call = tdp_mmu_split_huge_pages_root(root, 2, 4, 1, shared=True, only_cross_boundary=True)
    changed, split = record(call).of(Trace)
    now = root.pool.table(root.row)[0]
    assert (changed.as_id, changed.spte, changed.new_spte) == (1, brute.leaf(64, 3), now)
    assert split.spte == brute.leaf(64, 3)
    zapped = record(tdp_mmu_zap_leafs(root, 2, 4)).of(Trace)
    assert [(trace.as_id, trace.gfn, trace.spte, trace.new_spte) for trace in zapped] == [
        (1, 2, brute.leaf(66, 2), brute.HOLE)
    ]


def test_the_errnos_are_those_of_linux():
    """Written out, for Python's own module has those of the machine it runs on."""
    linux = {
        "EIO": 5,
        "ENOMEM": 12,
        "EFAULT": 14,
        "EBUSY": 16,
        "EINVAL": 22,
        "EOPNOTSUPP": 95,
        "EHWPOISON": 133,
    }
    assert {name: getattr(events_module, name) for name in linux} == linux


def test_what_a_trace_event_does_not_have_is_0():
    told = Trace("kvm_tdp_mmu_spte_changed")
    assert str(told) == "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 0 old_spte 0 new_spte 0"
    assert str(Trace("kvm_mmu_split_huge_page")).endswith("spte 0 level 0 errno 0")


def test_traces_read_like_the_kernels():
    """Event and text of S220-S221, numbers in hex without 0x; a WARN has its own text."""
    split = Trace("kvm_mmu_split_huge_page", gfn=0x40000, level=3, spte=0x80A0000000000FB7, errno=-12)
    assert str(split) == "kvm_mmu_split_huge_page: gfn 40000 spte 80a0000000000fb7 level 3 errno -12"
    changed = Trace("kvm_tdp_mmu_spte_changed", gfn=0x200, level=2, spte=0xABC, new_spte=0xDEF, as_id=1)
    assert str(changed) == "kvm_tdp_mmu_spte_changed: as id 1 gfn 200 level 2 old_spte abc new_spte def"
    assert str(Trace("WARN_ON_ONCE(shared)")) == "WARN_ON_ONCE(shared)"


EMPTY, LEAF, TABLE, FROZEN = 1 << 63, 0x80A0_0001_C8A0_0FB7, 0x8000_0000_0123_4D07, 0x8000_0000_0000_05A0


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Visit(a_walk()), "visit level 3, index 0, at 0: table"),
        (AllocTable(a_walk().pool), "allocate a page table"),
        (AllocTable(a_walk().pool, is_mirror=True), "allocate a page table and a page for the S-EPT"),
        (
            External("split", 0x40200, 2, LEAF, TABLE, shared=True),
            "call the TDX side: split, level 2, at 1G+2M",
        ),
        (Unlock(True, "alloc"), "drop mmu_lock, held for read (alloc)"),
        (Unlock(False, "resched"), "drop mmu_lock, held for write (resched)"),
        (Lock(True), "take mmu_lock for read"),
        (Lock(False), "take mmu_lock for write"),
        (SetSpte(9, 1, 0x40200, 2, LEAF, FROZEN), "write level 2, index 1, at 1G+2M: leaf -> frozen"),
        (SetSpte(9, 511, 0, 3, EMPTY, TABLE), "write level 3, index 511, at 0: non-present -> table"),
        (SetSpte(9, 3, 3, 1, LEAF & ~0x80, EMPTY), "write level 1, index 3, at 12K: leaf -> non-present"),
        (FreeTable(7), "free a page table"),
        (Flush(), "flush all TLBs"),
    ],
)
def test_an_event_prints_as_a_line_of_a_log(event, line):
    """Sentences by hand; sizes of addresses are those of x86: 0x40200 is 1G + 2M."""
    assert str(event) == line


def test_a_visit_says_where_the_walk_stands_and_what_it_found_there():
    """A 16K leaf in the first root entry: the lines of a walk whose edge lies in it, without the writes."""
    root = brute.plant(TOY, [brute.leaf(64, 3), brute.HOLE])
    call = tdp_mmu_split_huge_pages_root(root, 2, 4, 1, shared=False, only_cross_boundary=True)
    assert [str(event) for event in record(call).of(Visit)] == [
        "visit level 3, index 0, at 0: leaf",
        "visit level 3, index 0, at 0: leaf",
        "visit level 2, index 1, at 8K: leaf",
    ]
