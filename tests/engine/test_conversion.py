"""Conversions, step by step: what happens in which order, what a failure leaves, what waits meanwhile.

The guests have huge pages of four frames, so that every frame can be written down.
"""

import pytest

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import AllocTable, Event, External, Flush, Lock, Trace, Unlock
from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import kvm_mmu_invalidate_begin
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import SPLITS
from tests.oracles import brute
from tests.oracles.guests import PRIVATE, Guest
from tests.oracles.invariants import frames

EINVAL, ENOMEM, EFAULT = 22, 12, 14
RETRY, FIXED = 1, 5
MIXED = 1 << 31
EXACT = ("v3", "head and tail")


def a_guest(**options) -> Guest:
    """Frames [0, 32) private and accepted, eight huge pages."""
    guest = Guest(**options).populate()
    guest.check()
    return guest


def everything(guest: Guest) -> tuple:
    kvm = guest.kvm
    return (
        brute.memory(kvm.pool),
        brute.memory(guest.module.sept.pool) if guest.module else None,
        kvm.mem_attributes.ranges(),
        dict(kvm.disallow_lpage),
        (kvm.mmu_invalidate_in_progress, kvm.mmu_invalidate_seq),
        dict(guest.memory),
        len(guest.pages.requests),
    )


def private_frames(guest: Guest) -> set[int]:
    ranges = guest.kvm.mem_attributes.ranges()
    return {gfn for span in ranges for gfn in range(span.start, span.end)}


def splits(guest: Guest) -> list[int]:
    return [event.gfn for event in guest.watch.of(External) if event.op == "split"]


# ---- the story -------------------------------------------------------------------------------------------


def shown(event: Event) -> str:
    match event:
        case Lock():
            return "lock"
        case Unlock(reason=reason):
            return f"unlock ({reason})"
        case AllocTable():
            return "a page"
        case External(op=op, gfn=gfn, level=level):
            return f"{op} {gfn} at {level}"
        case Flush():
            return "flush"
    return ""


def test_the_story_of_a_conversion_in_order():
    """Invalidate, split both ends, zap exactly the range, flush, store, then where huge pages may be."""
    guest = a_guest()
    kvm, story = guest.kvm, []

    def note(event: Event) -> None:
        if line := shown(event):
            stored = 5 not in kvm.mem_attributes
            mixed = bool(kvm.disallow_lpage.get((2, 4), 0) & MIXED)
            story.append((line, kvm.mmu_invalidate_in_progress, stored, mixed, bool(kvm.slots_lock)))

    guest.watch.each = note
    assert guest.convert(6, 10) == 0
    assert story == [
        ("lock", 0, False, False, True),
        ("unlock (alloc)", 1, False, False, True),
        ("a page", 1, False, False, True),
        ("lock", 1, False, False, True),
        ("split 4 at 2", 1, False, False, True),
        ("unlock (alloc)", 1, False, False, True),
        ("a page", 1, False, False, True),
        ("lock", 1, False, False, True),
        ("split 8 at 2", 1, False, False, True),
        ("remove 6 at 1", 1, False, False, True),
        ("remove 7 at 1", 1, False, False, True),
        ("remove 8 at 1", 1, False, False, True),
        ("remove 9 at 1", 1, False, False, True),
        ("flush", 1, False, False, True),
        ("unlock (done)", 1, False, False, True),
        ("lock", 1, False, False, True),
        ("unlock (done)", 0, False, True, True),
    ]
    assert private_frames(guest) == set(range(32)) - set(range(6, 10))


def test_attributes_are_stored_while_the_invalidation_still_lasts():
    """A fault in between would find the old half mapped away and the new one not yet there: it waits."""
    guest = a_guest()
    seen = []
    guest.watch.each = lambda event: seen.append(
        (type(event), guest.kvm.mmu_invalidate_in_progress, 6 in guest.kvm.mem_attributes)
    )
    assert guest.convert(4, 8) == 0
    assert seen[-2:] == [(Lock, 1, False), (Unlock, 0, False)]
    assert (Unlock, 1, True) in seen
    assert (guest.kvm.mmu_invalidate_in_progress, guest.kvm.mmu_invalidate_seq) == (0, 2)


@pytest.mark.parametrize("split", EXACT)
@pytest.mark.parametrize(
    ("start", "end", "split_at"),
    [(4, 8, []), (0, 32, []), (5, 8, [4]), (4, 6, [4]), (5, 7, [4]), (6, 10, [4, 8]), (7, 17, [4, 16])],
)
def test_exactly_the_range_is_zapped_after_the_crossing_pages_were_split(start, end, split_at, split):
    guest = a_guest()
    was = guest.private_bytes()
    assert guest.convert(start, end, split=SPLITS[split]) == 0
    assert splits(guest) == split_at
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if not start <= gfn < end}
    guest.check()


@pytest.mark.parametrize(
    ("start", "end", "lost"),
    [
        (4, 8, []),
        (5, 8, [4]),
        (4, 6, [6, 7]),
        (5, 6, [4, 6, 7]),
        (5, 10, [4, 10, 11]),
        (7, 17, [4, 5, 6, 17, 18, 19]),
    ],
)
def test_without_a_split_what_shares_a_page_with_the_range_is_lost(start, end, lost):
    guest = a_guest()
    assert guest.convert(start, end, split=SPLITS["none"]) == 0
    assert sorted(set(range(32)) - guest.present()) == sorted([*range(start, end), *lost])
    assert private_frames(guest) == set(range(32)) - set(range(start, end))
    for gfn in lost:
        assert guest.touch(gfn).outcome == "#VE"
        assert guest.accept(gfn) == 0
        assert guest.private_bytes()[gfn] == 0
    guest.check()


def test_one_flush_for_all_slots_and_none_where_nothing_was_mapped():
    guest = Guest(slots=((0, 8, 0), (12, 8, 8))).populate()
    assert guest.convert(2, 18) == 0
    assert guest.flushes() == 1
    assert guest.convert(2, 18, private=True) == 0
    assert guest.flushes() == 0
    assert guest.convert(2, 18) == 0
    assert guest.flushes() == 0
    for mapped in (1, 13):
        guest = Guest(slots=((0, 8, 0), (12, 8, 8))).populate(0)
        assert guest.touch(mapped).outcome == "#VE"
        assert guest.convert(0, 20) == 0
        assert guest.flushes() == 1, "whichever slot it was"


def test_towards_private_nothing_is_split_and_the_shared_mapping_goes():
    """S198; S125. What userspace wrote stays in userspace's memory."""
    guest = a_guest()
    assert guest.convert(4, 16) == 0
    for gfn in (4, 9, 14):
        assert guest.touch_shared(gfn) > 0
    mirror = guest.mirror
    assert guest.convert(9, 10, private=True) == 0
    assert not splits(guest)
    assert not guest.watch.of(AllocTable)
    assert frames(guest.direct).keys() == {4, 5, 6, 7, 12, 13, 14, 15}, "the leaf [8, 12) goes whole"
    assert guest.mirror[1:] == mirror[1:]
    assert guest.flushes() == 1
    assert guest.memory[guest.shared(9)] == 0xA9
    assert guest.touch_shared(8) > 0
    assert guest.run(kvm_tdp_mmu_page_fault(guest.kvm, 9, is_private=False)) == -EFAULT
    guest.check()


@pytest.mark.parametrize("private", [True, False])
def test_what_is_so_already_is_not_done_again(private):
    guest = a_guest()
    assert guest.convert(8, 16) == 0
    before = everything(guest)
    start, end = (16, 24) if private else (9, 15)
    assert guest.convert(start, end, private=private) == 0
    assert guest.watch.said == []
    assert everything(guest) == before


# ---- where huge pages may be afterwards ------------------------------------------------------------------


def test_a_huge_page_is_forbidden_where_a_block_holds_both_halves_and_only_there():
    guest = a_guest()
    steps = [  # conversion, then the mixed blocks
        ((6, 10, False), {4, 8}),
        ((7, 9, True), {4, 8}),
        ((6, 7, True), {8}),
        ((8, 12, False), set()),
        ((1, 2, False), {0}),
        ((3, 4, False), {0}),
        ((0, 16, False), set()),
        ((14, 15, True), {12}),
        ((13, 30, True), {12}),
        ((0, 32, True), set()),
    ]
    for (start, end, private), mixed in steps:
        assert guest.convert(start, end, private=private) == 0
        flagged = {gfn for (_, gfn), flags in guest.kvm.disallow_lpage.items() if flags & MIXED}
        assert flagged == mixed, (start, end)
        guest.check()


def test_a_block_of_both_halves_is_mapped_at_4k_and_a_whole_one_at_2m_again():
    guest = Guest().populate(0)
    assert guest.convert(5, 6) == 0
    assert guest.touch(4).outcome == guest.touch(8).outcome == "#VE"
    assert guest.mirror.leaves.keys() == {(4, 1), (8, 2)}
    assert guest.convert(12, 13) == guest.convert(12, 13, private=True) == 0
    assert guest.touch(13).outcome == "#VE"
    assert (12, 2) in guest.mirror.leaves


# ---- failure at each allocation --------------------------------------------------------------------------


def empty_the_pamt_cache(guest: Guest) -> None:
    guest.tdx.pamt_caches.clear()
    guest.ledger.pamt_brought = guest.ledger.pamt_taken


@pytest.mark.parametrize(("dynamic_pamt", "pages"), [(False, 4), (True, 6)])
@pytest.mark.parametrize("split", EXACT)
def test_a_failed_allocation_changes_no_attribute_and_no_byte_and_a_retry_completes(
    split, dynamic_pamt, pages
):
    """Two splits; for each a table, its S-EPT page and, with Dynamic PAMT, pages for that (S132)."""
    calm = a_guest(dynamic_pamt=dynamic_pamt)
    empty_the_pamt_cache(calm)
    assert calm.convert(6, 10, split=SPLITS[split]) == 0
    assert len(calm.pages.requests) - len(a_guest(dynamic_pamt=dynamic_pamt).pages.requests) == pages
    for k in range(1, pages + 1):
        guest = a_guest(dynamic_pamt=dynamic_pamt)
        empty_the_pamt_cache(guest)
        was = guest.private_bytes()
        guest.refuse(k)
        assert guest.convert(6, 10, split=SPLITS[split]) == -ENOMEM
        assert private_frames(guest) == set(range(32))
        assert guest.private_bytes() == was
        assert splits(guest) == ([4] if k > pages // 2 else []), "the first split stays"
        assert not guest.flushes()
        guest.check()
        assert guest.convert(6, 10, split=SPLITS[split]) == 0
        assert guest.mirror.leaves == calm.mirror.leaves
        assert guest.private_bytes() == calm.private_bytes()
        assert guest.kvm.pool.rows_in_use == calm.kvm.pool.rows_in_use
        guest.check()


@pytest.mark.parametrize("split", EXACT)
def test_slots_before_the_failing_one_are_zapped_and_their_attributes_unchanged(split):
    """S108; what was zapped is flushed all the same."""
    guest = Guest(slots=((0, 8, 0), (12, 8, 8))).populate()
    guest.refuse(3)  # a table and its S-EPT page for [4, 8), then one for [16, 20)
    assert guest.convert(5, 18, split=SPLITS[split]) == -ENOMEM
    assert guest.flushes() == 1
    assert guest.present() == {0, 1, 2, 3, 4, *range(12, 20)}, "[5, 8) of the first slot is gone"
    assert private_frames(guest) == {*range(8), *range(12, 20)}
    assert guest.touch(6).outcome == "#VE", "still private, to be accepted anew"
    guest.check()
    assert guest.convert(5, 18, split=SPLITS[split]) == 0
    assert guest.present() == {0, 1, 2, 3, 4, 18, 19}
    assert private_frames(guest) == {*range(5), 18, 19}
    guest.check()


def test_v3_as_posted_loses_the_errno_and_with_it_the_zap():
    """S107: 1 is no error, so a flush, no zap, attributes stored, 0 returned."""
    guest = a_guest()
    was = guest.private_bytes()
    guest.refuse(1)
    assert guest.convert(6, 10, split=SPLITS["v3 as posted"]) == 0
    assert private_frames(guest) == set(range(32)) - set(range(6, 10))
    assert guest.private_bytes() == was, "the private mapping stays"
    assert not guest.watch.of(External)
    assert guest.flushes() == 1
    assert guest.touch(7) == ("ok", guest.private(7), None), "the guest still reads its private page"
    assert guest.touch_shared(7) > 0, "while the host's page is mapped for the same frame"
    with pytest.raises(AssertionError, match="halves"):
        guest.check()
    assert guest.convert(6, 10, split=SPLITS["v3 as posted"]) == 0
    assert guest.watch.said == [], "asked again, it is so already"


def test_v3_as_posted_and_mended_differ_only_in_what_becomes_of_an_errno():
    for split in ("v3", "v3 as posted"):
        guest = a_guest()
        guest.refuse(3)
        assert guest.convert(6, 10, split=SPLITS[split]) == (-ENOMEM if split == "v3" else 0)
        assert splits(guest) == [4]
        assert guest.present() == set(range(32))
        assert (6 in private_frames(guest)) == (split == "v3")
    for start, end in ((4, 8), (5, 9), (0, 32)):
        one, other = a_guest(), a_guest()
        assert one.convert(start, end, split=SPLITS["v3"]) == 0
        assert other.convert(start, end, split=SPLITS["v3 as posted"]) == 0
        assert one.mirror.leaves == other.mirror.leaves
        assert one.private_bytes() == other.private_bytes()


# ---- the error path of v3 15/24 --------------------------------------------------------------------------


def convert_as_posted(guest: Guest, start: int, end: int, split: str = "v3") -> int:
    call = kvm_vm_set_mem_attributes(guest.kvm, start, end, 0, split=SPLITS[split], as_posted=True)
    return guest.run(call)


def test_as_posted_a_failed_conversion_leaves_its_invalidation_open_and_shared_faults_retry_for_ever():
    """S196. The second call begins and ends one of its own. Frames [24, 32) were shared before."""
    guest = a_guest()
    kvm = guest.kvm
    assert guest.convert(24, 32) == 0
    was = guest.private_bytes()
    guest.refuse(1)
    assert convert_as_posted(guest, 6, 10) == -ENOMEM
    assert kvm.mmu_invalidate_in_progress == 1
    assert private_frames(guest) == set(range(24))
    assert guest.private_bytes() == was
    assert [type(event) for event in guest.watch.said if type(event) in (Lock, Unlock)][-1] is Unlock
    assert convert_as_posted(guest, 6, 10) == 0
    assert kvm.mmu_invalidate_in_progress == 1
    assert private_frames(guest) == set(range(24)) - set(range(6, 10))
    assert guest.present() == set(range(24)) - set(range(6, 10))
    assert [guest.touch_shared(gfn) for gfn in (6, 7, 8, 9) for _ in range(20)] == [RETRY] * 80
    assert [guest.touch_shared(gfn) for gfn in (24, 31)] == [FIXED] * 2, "outside a fault is served"
    with pytest.raises(AssertionError, match="held: an invalidation"):
        guest.check()


def test_an_open_invalidation_takes_in_whatever_is_converted_later():
    """S212: ranges accumulate until no invalidation is in progress."""
    guest = a_guest()
    guest.refuse(1)
    assert convert_as_posted(guest, 6, 8) == -ENOMEM
    assert guest.touch(20) == ("ok", guest.private(20), None)
    assert convert_as_posted(guest, 20, 24) == 0
    assert guest.kvm.mmu_invalidate_in_progress == 1
    assert guest.touch_shared(20) == RETRY


def test_repaired_a_failed_conversion_ends_its_invalidation():
    guest = a_guest()
    guest.refuse(1)
    assert guest.convert(6, 10) == -ENOMEM
    assert guest.kvm.mmu_invalidate_in_progress == 0
    assert guest.convert(6, 10) == 0
    assert [guest.touch_shared(gfn) for gfn in (6, 8)] == [FIXED] * 2


def test_a_1_is_no_error_so_that_call_ends_its_invalidation_and_only_an_honest_errno_leaves_it_open():
    guest = a_guest()
    guest.refuse(1)
    assert convert_as_posted(guest, 6, 10, "v3 as posted") == 0
    assert guest.kvm.mmu_invalidate_in_progress == 0
    assert guest.touch_shared(6) == FIXED
    calm, other = a_guest(), a_guest()
    assert calm.convert(6, 10) == convert_as_posted(other, 6, 10) == 0
    assert [*map(shown, calm.watch.said)] == [*map(shown, other.watch.said)]
    assert everything(calm) == everything(other), "where nothing fails the two are one"


# ---- what waits ------------------------------------------------------------------------------------------


def invalidated(guest: Guest, start: int, end: int, *, private: bool = False) -> GfnRange:
    """The range on which faults wait, as it is when the zap comes to its end."""
    seen = []

    def note(event: Event) -> None:
        if guest.kvm.mmu_invalidate_range:
            seen.append(guest.kvm.mmu_invalidate_range)

    guest.watch.each = note
    assert guest.convert(start, end, private=private) == 0
    guest.watch.each = lambda event: None
    assert len(set(seen)) == 1
    return seen[0]


@pytest.mark.parametrize(
    ("start", "end", "waits"),
    [
        (4, 8, (4, 8)),
        (5, 8, (4, 8)),
        (5, 6, (4, 8)),
        (6, 10, (4, 12)),
        (13, 14, (13, 14)),  # a block of both halves already
        (13, 18, (13, 20)),
        (9, 14, (8, 14)),
        (29, 30, (29, 30)),  # the slot ends inside the block
        (26, 30, (24, 30)),
        (30, 34, (30, 34)),
    ],
)
def test_faults_wait_on_the_range_and_on_blocks_at_its_edges_that_may_be_huge_now(start, end, waits):
    """S196. The slot is [0, 31); frame 12 is shared."""
    guest = Guest(Geometry(2, 4, 2), slots=((0, 31, 0),)).populate(0)
    assert guest.convert(12, 13) == 0
    assert invalidated(guest, start, end) == GfnRange(*waits)
    assert guest.kvm.mmu_invalidate_range is None


def test_a_fault_on_a_frame_beside_the_range_waits_too_or_it_would_map_a_huge_page_over_it():
    """The zap has passed the block, lets go of the lock, and another vCPU touches frame 1 of it."""
    for private_to_shared, patience in ((side, n) for side in (True, False) for n in range(12)):
        guest = Guest().populate(0)
        if private_to_shared:
            assert guest.touch(8).outcome == "#VE"
        else:
            assert guest.convert(0, 32) == 0
            assert guest.touch_shared(8) > 0
        met = []

        def fault(guest: Guest = guest, private: bool = private_to_shared, met: list = met) -> None:
            coroutine = kvm_tdp_mmu_page_fault(guest.kvm, 1, is_private=private)
            met.append((guest.kvm.mmu_invalidate_in_progress, guest.meanwhile(coroutine)))

        guest.watch.hurry, guest.watch.patience, guest.watch.meddler = 1, patience, fault
        assert guest.convert(2, 20, private=not private_to_shared) == 0
        assert all(ret == RETRY for going_on, ret in met if going_on)
        guest.check()
        if patience == 0:
            assert met == [(1, RETRY)]


@pytest.mark.parametrize("gfn", [4, 5, 6, 9, 10, 11])
def test_a_fault_that_began_before_the_conversion_and_ends_after_it_is_retried(gfn):
    """The sequence count: it has looked at the attributes already, and gets the lock when all is over."""
    guest = Guest().populate(0)
    fault = kvm_tdp_mmu_page_fault(guest.kvm, gfn, is_private=True)
    answer, ret = None, None
    try:
        event = fault.send(None)
        while not isinstance(event, Lock):
            answer = guest.lockdep.answer(event)
            event = fault.send(answer)
        assert guest.convert(5, 11) == 0
        while True:
            event = fault.send(guest.lockdep.answer(event))
    except StopIteration as stop:
        ret = stop.value
    assert ret == RETRY
    assert not guest.mirror.leaves
    guest.check()


# ---- slots and bad input ---------------------------------------------------------------------------------


def test_frames_that_no_slot_holds_get_the_attribute_and_nothing_else():
    guest = Guest(slots=((4, 4, 0), (16, 4, 4))).populate()
    assert guest.convert(6, 18) == 0
    assert guest.present() == {4, 5, 18, 19}
    assert private_frames(guest) == {4, 5, 18, 19}
    assert guest.convert(8, 16, private=True) == 0
    assert not [event for event in guest.watch.said if not isinstance(event, Lock | Unlock)]
    assert private_frames(guest) == {4, 5, *range(8, 16), 18, 19}
    assert guest.run(kvm_tdp_mmu_page_fault(guest.kvm, 9, is_private=True)) == -EFAULT
    guest.check()


def test_a_conversion_reaches_to_the_end_of_the_private_half_and_not_beyond():
    guest = Guest(slots=((0, 8, 0),)).populate()
    assert guest.kvm.max_gfn_exclusive == 32
    assert guest.convert(4, 32) == 0
    assert guest.present() == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("start", "end", "kind", "message"),
    [
        (4, 33, InvalidValueError, r"end at 0x20 \(128K\); the end 0x21 \(132K\) is beyond"),
        (32, 40, InvalidValueError, r"the end 0x28 \(160K\) is beyond"),
        (-1, 4, InvalidValueError, "at least 0"),
        (8, 4, InvalidValueError, r"0x8 \(32K\) is above end 0x4 \(16K\)"),
        (0.5, 4, InvalidTypeError, "whole numbers"),
        (0, True, InvalidTypeError, "True is a bool"),
        ("0", 4, InvalidTypeError, "whole numbers"),
    ],
)
def test_a_range_that_no_vm_has_is_refused_before_anything_changes(start, end, kind, message):
    guest = a_guest()
    before = everything(guest)
    with pytest.raises(kind, match=message):
        kvm_vm_set_mem_attributes(guest.kvm, start, end, PRIVATE)
    assert everything(guest) == before


@pytest.mark.parametrize("attributes", [1, 2, 4, PRIVATE | 1, 16, 1 << 63, -1])
def test_unknown_attributes_are_einval(attributes):
    guest = a_guest()
    before = everything(guest)
    assert guest.run(kvm_vm_set_mem_attributes(guest.kvm, 4, 8, attributes)) == -EINVAL
    assert everything(guest) == before


@pytest.mark.parametrize("attributes", [0, PRIVATE])
@pytest.mark.parametrize("plain", [False, True])
def test_an_empty_range_is_einval(attributes, plain):
    guest = Guest(plain=True) if plain else a_guest()
    before = everything(guest)
    assert guest.run(kvm_vm_set_mem_attributes(guest.kvm, 5, 5, attributes)) == -EINVAL
    assert everything(guest) == before


@pytest.mark.parametrize(("attributes", "ret"), [(0, 0), (PRIVATE, -EINVAL), (1, -EINVAL), (-1, -EINVAL)])
def test_a_vm_without_private_memory_supports_no_attribute_so_none_is_a_successful_no_op(attributes, ret):
    """S196."""
    plain = Guest(plain=True)
    assert plain.touch_shared(5) > 0
    before = everything(plain)
    assert plain.run(kvm_vm_set_mem_attributes(plain.kvm, 4, 8, attributes)) == ret
    assert everything(plain) == before
    assert plain.watch.said == []


def test_attributes_are_a_whole_number():
    guest = a_guest()
    with pytest.raises(InvalidTypeError, match="attributes"):
        kvm_vm_set_mem_attributes(guest.kvm, 4, 8, 8.0)


def test_two_invalidations_at_a_time_end_each_for_itself():
    guest = a_guest()
    kvm_mmu_invalidate_begin(guest.kvm, GfnRange(20, 24))
    assert guest.convert(6, 10) == 0
    assert guest.kvm.mmu_invalidate_in_progress == 1
    assert guest.kvm.mmu_invalidate_range == GfnRange(4, 24)


# ---- the split that is made ------------------------------------------------------------------------------


def test_a_split_is_made_of_each_slots_part_and_only_towards_shared():
    guest = Guest(slots=((0, 8, 0), (12, 8, 8))).populate()
    asked: list[tuple[int, int, int]] = []

    def spy(kvm, gfn_range):
        asked.append((gfn_range.start, gfn_range.end, gfn_range.attr_filter))
        assert kvm.mmu_invalidate_in_progress == 1
        assert guest.lockdep.held == "write"
        return (yield from SPLITS["v3"](kvm, gfn_range))

    assert guest.convert(6, 18, split=spy) == 0
    assert asked == [(6, 8, 2), (12, 18, 2)]
    assert guest.convert(0, 20, private=True, split=spy) == 0
    assert len(asked) == 2


def test_traces_of_a_conversion_hold_no_warning():
    """Its range is protected, as the patch's API and the zap want it (S100)."""
    guest = a_guest()
    for step in ((6, 10, False), (7, 9, True), (0, 32, False)):
        assert guest.convert(step[0], step[1], private=step[2]) == 0
        assert not [event for event in guest.watch.of(Trace) if "WARN" in event.name]
