"""The arithmetic of head and tail, row by row, and what each way to split makes of a range."""

from itertools import product

import pytest

from tdpkit.engine import splits as range_split
from tdpkit.engine.events import AllocTable
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.splits import SPLITS, no_split, split_head_and_tail, split_v3, split_v3_as_posted
from tests.oracles.guests import Guest
from tests.oracles.invariants import assert_only_edges_were_split, assert_untouched

ENOMEM = 12
X86_TD = Geometry(9, 4, 2)
TOY = Geometry(2, 3, 2)


def blocks(geometry: Geometry, start: int, end: int, monkeypatch, ret: tuple[int, ...] = ()) -> list:
    """The ranges that head and tail asks to be split, and what it returns; the k-th returns ret[k]."""
    asked: list[tuple[int, int, int]] = []
    answers = iter((*ret, *[0] * 9))

    def fake(kvm, first, last, level):
        asked.append((first, last, level))
        yield from ()
        return next(answers)

    monkeypatch.setattr(range_split, "kvm_tdp_mmu_mirrors_split_huge_pages", fake)
    kvm = Kvm(KVM_X86_TDX_VM, geometry)
    coroutine = split_head_and_tail(kvm, KvmGfnRange(kvm.slot, start, end, 2))
    try:
        while True:
            coroutine.send(None)
    except StopIteration as stop:
        return [*asked, stop.value]


@pytest.mark.parametrize(
    ("start", "end", "firsts"),
    [  # S141: start aligned, end aligned, same block -> calls
        # y y
        (512, 1024, []),
        (0, 512, []),
        (0, 4096, []),
        # n y: the head
        (513, 1024, [512]),
        (1, 512, [0]),
        (1023, 1024, [512]),
        (1, 4096, [0]),
        # y n: the tail, also where head, tail and start are one
        (512, 513, [512]),
        (512, 1023, [512]),
        (0, 1025, [1024]),
        (0, 1, [0]),
        # n n, same block: one call
        (513, 514, [512]),
        (1, 511, [0]),
        # n n, two blocks: two calls
        (511, 513, [0, 512]),
        (513, 1025, [512, 1024]),
        (7, 786437, [0, 786432]),
    ],
)
def test_head_and_tail_row_by_row(start, end, firsts, monkeypatch):
    expected = [(first, first + 512, 1) for first in firsts]
    assert blocks(X86_TD, start, end, monkeypatch) == [*expected, 0]


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_head_and_tail_asks_for_the_blocks_that_hold_an_edge_inside_and_for_each_once(bits, monkeypatch):
    """By the edges: x lies inside the block of x unless it is aligned. All ranges of 32 frames."""
    geometry, size = Geometry(bits, 5, 2), 2**bits
    last = min(32, Kvm(KVM_X86_TDX_VM, geometry).max_gfn_exclusive)
    for start, end in ((a, b) for a in range(last) for b in range(a + 1, last + 1)):
        expected = sorted({x // size * size for x in (start, end) if x % size})
        got = blocks(geometry, start, end, monkeypatch)
        assert got == [*((first, first + size, 1) for first in expected), 0], (start, end)


def test_the_first_errno_ends_it(monkeypatch):
    assert blocks(X86_TD, 5, 1025, monkeypatch, (-ENOMEM,)) == [(0, 512, 1), -ENOMEM]
    assert blocks(X86_TD, 5, 1025, monkeypatch, (0, -ENOMEM)) == [(0, 512, 1), (1024, 1536, 1), -ENOMEM]


# ---- on trees --------------------------------------------------------------------------------------------


def a_guest(pattern: tuple[int, ...] = (2, 2, 2, 2)) -> Guest:
    """Sixteen private frames: block by block not mapped (0), or by pages of a level."""
    guest = Guest(TOY, ((0, 16, 0),)).populate(0)
    for block, level in enumerate(pattern):
        for gfn in range(4 * block, 4 * block + 4, 4 if level == 2 else 1) if level else ():
            assert guest.accept(gfn, level) == 0
    return guest


def split(guest: Guest, how, start: int, end: int) -> int:
    with guest.kvm.slots_lock:
        return guest.run(how(guest.kvm, KvmGfnRange(guest.slots[0], start, end, 2)), held="write")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", list(product((0, 1, 2), repeat=2)))
def test_head_and_tail_and_the_patch_leave_the_same_tree_with_the_edges_free(pattern):
    """S126, all ranges over all patterns; only what holds an edge inside was split (S239, items 2, 4, 5)."""
    for start, end in ((a, b) for a in range(12) for b in range(a + 1, 13)):
        found = []
        for how in (split_v3, split_head_and_tail):
            twin = a_guest((*pattern, 2, 2))
            before = twin.mirror
            assert split(twin, how, start, end) == 0
            assert_only_edges_were_split(before, twin.mirror, (start, end))
            found.append(twin.mirror.leaves)
            if start % 5 == 0:
                twin.check()
        assert found[0] == found[1]


@pytest.mark.parametrize("how", [split_v3, split_v3_as_posted, split_head_and_tail])
def test_asked_again_there_is_nothing_to_do(how):
    guest = a_guest()
    assert split(guest, how, 5, 10) == 0
    before, visits = guest.mirror, guest.watch.visits
    assert split(guest, how, 5, 10) == 0
    assert_untouched(before, guest.mirror)
    assert not guest.watch.of(AllocTable)
    assert guest.watch.visits > visits


@pytest.mark.parametrize("pattern", [(0, 0, 0, 0), (1, 1, 1, 1)])
def test_on_what_is_empty_or_4k_already_a_block_costs_few_visits_and_no_split(pattern):
    """S137: a caller need not know whether anything crosses."""
    guest = a_guest(pattern)
    before, visits = guest.mirror, guest.watch.visits
    assert split(guest, split_head_and_tail, 5, 8) == 0
    assert 1 <= guest.watch.visits - visits <= 3
    assert_untouched(before, guest.mirror)


def test_none_does_nothing():
    guest = a_guest()
    before = guest.mirror
    assert split(guest, no_split, 5, 10) == 0
    assert guest.watch.said == []
    assert_untouched(before, guest.mirror)


@pytest.mark.parametrize(
    ("name", "errno"), [("v3", -ENOMEM), ("v3 as posted", 1), ("head and tail", -ENOMEM), ("none", 0)]
)
def test_what_comes_back_when_a_page_is_refused(name, errno):
    """S107. Splits before it stay."""
    for k in (1, 2, 3, 4):
        guest = a_guest()
        guest.refuse(k)
        assert split(guest, SPLITS[name], 5, 10) == errno
        small = {at for at in guest.mirror.leaves if at[1] == 1}
        assert small == ({(gfn, 1) for gfn in range(4, 8)} if k > 2 and errno else set())
        guest.check()
        guest.refuse(-1)
        assert split(guest, SPLITS[name], 5, 10) == 0


def test_only_the_mirror_is_split_and_a_shared_page_at_the_same_frames_is_not():
    for how in (split_v3, split_head_and_tail):
        guest = a_guest((0, 2, 2, 2))
        assert guest.convert(0, 4) == 0
        assert guest.touch_shared(1) > 0
        direct = guest.direct
        assert (0, 2) in direct.leaves
        assert split(guest, how, 1, 6) == 0
        assert_untouched(direct, guest.direct)
        assert {gfn for gfn, level in guest.mirror.leaves if level == 1} == {4, 5, 6, 7}


def test_the_ways_are_known_by_name():
    assert list(SPLITS) == ["v3", "v3 as posted", "head and tail", "none"]
    assert list(SPLITS.values()) == [split_v3, split_v3_as_posted, split_head_and_tail, no_split]
