"""The file behind private memory: which host frame is whose, holes, conversions, broken pages, who splits.

Folios have four pages. What is lost is written out, or said by frames that share a leaf.
"""

from collections.abc import Callable

import pytest

from tdpkit.engine.events import External, Flush, Lock, Unlock
from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.guest_memfd import (
    GuestMemfd,
    kvm_gmem_error_folio,
    kvm_gmem_fallocate,
    kvm_gmem_set_attributes,
)
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import SPLITS
from tests.oracles import brute
from tests.oracles.guests import PRIVATE, TOY, Guest

PAGE = 4096
EINVAL, ENOMEM, EHWPOISON = 22, 12, 133
MF_DELAYED = 2
RETRY, FIXED = 1, 5
MIXED = 1 << 31
EXACT = ("v3", "v3 as posted", "head and tail")


def a_guest(**options) -> Guest:
    guest = Guest(**options).populate()
    guest.check()
    return guest


def punch(guest: Guest, first: int, pages: int, *, split: str = "none", whole_folios: bool = True) -> int:
    return guest.run(
        kvm_gmem_fallocate(
            guest.gmem, 3, first * PAGE, pages * PAGE, whole_folios=whole_folios, split=SPLITS[split]
        )
    )


def convert(guest: Guest, first: int, pages: int, *, private: bool = False, split: str = "v3") -> int:
    """By the file's ioctl."""
    attributes = PRIVATE if private else 0
    return guest.run(
        kvm_gmem_set_attributes(guest.gmem, first * PAGE, pages * PAGE, attributes, split=SPLITS[split])
    )


def private_frames(guest: Guest) -> set[int]:
    ranges = guest.kvm.mem_attributes.ranges()
    return {gfn for span in ranges for gfn in range(span.start, span.end)}


def mixed_blocks(guest: Guest) -> set[int]:
    return {gfn for (_, gfn), flags in guest.kvm.disallow_lpage.items() if flags & MIXED}


def fail(guest: Guest, page: int, split: str = "none") -> int:
    return guest.run(kvm_gmem_error_folio(guest.gmem, page, split=SPLITS[split]))


def splits(guest: Guest) -> list[int]:
    return [event.gfn for event in guest.watch.of(External) if event.op == "split"]


# ---- the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("npages", "first_pfn", "options", "message"),
    [
        (0, 64, {}, "whole folios of 16K; 0 pages"),
        (6, 64, {}, "whole folios of 16K; 6 pages"),
        (8, 66, {}, r"host frame 0x42 \(264K\)"),
        (-4, 64, {}, "a number of pages is at least 0"),
        (8, -64, {}, "a PFN is at least 0"),
        (8, 64, {"folio_level": 0}, "a level is from 1 to 3"),
        (8, 64, {"folio_level": 4}, "a level is from 1 to 3"),
    ],
)
def test_a_file_that_cannot_be_is_refused(npages, first_pfn, options, message):
    with pytest.raises(InvalidValueError, match=message):
        GuestMemfd(TOY, npages, first_pfn, **options)


def test_a_files_numbers_are_whole():
    with pytest.raises(InvalidTypeError, match="a number of pages"):
        GuestMemfd(TOY, 8.0, 64)


def test_a_page_has_its_host_frame_and_the_level_of_its_folio():
    """9.6: a mapping is no larger than its folio; the counter-case may be as large as the geometry has."""
    for options, level in (({}, 2), ({"folio_level": 1}, 1), ({"folio_level": 1, "spans_folios": True}, 2)):
        gmem = GuestMemfd(TOY, 8, 64, **options)
        assert [gmem.get_pfn(page) for page in range(8)] == [(64 + page, level) for page in range(8)]
        assert [gmem.get_pfn(page) for page in (-1, 8, 99)] == [(-EINVAL, 0)] * 3


def test_a_folio_that_was_split_is_single_pages():
    gmem = GuestMemfd(TOY, 12, 64)
    gmem.split_folio(6)
    assert [gmem.get_pfn(page)[1] for page in range(12)] == [2] * 4 + [1] * 4 + [2] * 4
    assert [gmem.folio(page) for page in (3, 4, 7, 8)] == [
        GfnRange(0, 4),
        GfnRange(4, 5),
        GfnRange(7, 8),
        GfnRange(8, 12),
    ]


@pytest.mark.parametrize(
    ("hole", "levels"),
    [((4, 8), (2, 1)), ((3, 9), (2, 1)), ((0, 12), (2, 2)), ((4, 7), (1, 1)), ((7, 9), (1, 1))],
)
def test_where_a_whole_folio_was_taken_out_the_next_one_there_is_whole(hole, levels):
    """Folios of four pages at 4 and 8 were split; the hole leaves the file's other folios alone."""
    gmem = GuestMemfd(TOY, 16, 64)
    gmem.split_folio(4)
    gmem.split_folio(11)
    gmem.truncate(GfnRange(*hole))
    assert [gmem.get_pfn(page)[1] for page in (0, 4, 8, 12)] == [2, *levels, 2]
    assert gmem.folio(7) == (GfnRange(4, 8) if levels[0] == 2 else GfnRange(7, 8))


def a_slot(gmem: GuestMemfd, base: int, npages: int, page: int) -> KvmMemorySlot:
    return KvmMemorySlot(base, npages, gmem=gmem, gmem_pgoff=page)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([(0, 8, 9)], r"below 16; \[9, 17\) is not"),
        ([(0, 20, 0)], r"below 16; \[0, 20\) is not"),
        ([(0, 8, 0), (16, 8, 7)], r"bound once; \[7, 15\) is bound already"),
        ([(0, 8, 4), (16, 8, 0)], r"\[0, 8\) is bound already"),
        ([(0, 4, 4), (16, 4, 4)], r"\[4, 8\) is bound already"),
    ],
)
def test_a_binding_is_inside_the_file_and_no_page_is_bound_twice(slots, message):
    """S190. Whoever is refused has bound nothing."""
    gmem = GuestMemfd(TOY, 16, 64)
    kvm = Kvm(KVM_X86_TDX_VM, TOY, memslots=[a_slot(gmem, *slot) for slot in slots])
    with pytest.raises(InvalidValueError, match=message):
        gmem.bind(kvm)
    assert gmem.bindings == []


def test_parts_of_the_file_side_by_side_are_bound_in_any_order():
    gmem = GuestMemfd(TOY, 16, 64)
    slots = [a_slot(gmem, 0, 4, 8), a_slot(gmem, 8, 4, 12), a_slot(gmem, 16, 8, 0)]
    kvm = Kvm(KVM_X86_TDX_VM, TOY, memslots=slots)
    gmem.bind(kvm)
    assert gmem.bindings == [(kvm, slot) for slot in slots]


def test_a_file_bound_already_is_not_bound_again_and_a_plain_vm_has_none():
    gmem = GuestMemfd(TOY, 16, 64)
    kvm = Kvm(KVM_X86_TDX_VM, TOY, memslots=[a_slot(gmem, 0, 8, 0)])
    gmem.bind(kvm)
    with pytest.raises(InvalidValueError, match="bound already"):
        gmem.bind(kvm)
    assert len(gmem.bindings) == 1
    with pytest.raises(InvalidValueError, match="plain VM"):
        gmem.bind(Kvm(KVM_X86_DEFAULT_VM, TOY, memslots=[a_slot(gmem, 0, 8, 8)]))


def test_only_slots_that_name_the_file_are_bound():
    gmem, other = GuestMemfd(TOY, 16, 64), GuestMemfd(TOY, 16, 128)
    slots = [a_slot(gmem, 0, 4, 0), a_slot(other, 8, 4, 0), KvmMemorySlot(16, 4)]
    kvm = Kvm(KVM_X86_TDX_VM, TOY, memslots=slots)
    gmem.bind(kvm)
    assert gmem.bindings == [(kvm, slots[0])]


@pytest.mark.parametrize(
    ("pages", "found"),
    [  # S193, slots (gfn 1, 11 frames, page 16) and (gfn 16, 14 frames, page 0)
        ((0, 32), [(1, 12), (16, 30)]),
        ((0, 14), [(16, 30)]),
        ((16, 27), [(1, 12)]),
        ((14, 16), []),
        ((27, 32), []),
        ((13, 17), [(1, 2), (29, 30)]),
        ((20, 21), [(5, 6)]),
        ((3, 3), []),
    ],
)
def test_file_pages_are_found_at_their_guest_frames(pages, found):
    gmem = GuestMemfd(TOY, 32, 64)
    slots = [a_slot(gmem, 1, 11, 16), a_slot(gmem, 16, 14, 0)]
    kvm = Kvm(KVM_X86_TDX_VM, TOY, memslots=slots)
    gmem.bind(kvm)
    got = [(span.start, span.end) for of, _, span in gmem.gfns(GfnRange(*pages)) if of is kvm]
    assert sorted(got) == found


# ---- holes -----------------------------------------------------------------------------------------------


def story_of(guest: Guest, standing: Callable[[], tuple]) -> list[tuple]:
    """Filled as `guest` runs: locks, flushes, hooks, with the invalidations in progress and `standing`."""
    story: list[tuple] = []

    def note(event) -> None:
        kind = {Lock: "lock", Unlock: "unlock", Flush: "flush"}.get(type(event))
        line = f"{event.op} {event.gfn} at {event.level}" if isinstance(event, External) else kind
        if line:
            story.append((line, guest.kvm.mmu_invalidate_in_progress, *standing()))

    guest.watch.each = note
    return story


def test_a_hole_in_order_begin_split_zap_flush_truncate_end():
    """S192: of one VM under one lock each, with one flush, however many slots bind the file."""
    guest = a_guest(slots=((0, 8, 0), (16, 8, 8)))
    story = story_of(guest, lambda: (len(guest.gmem.holes),))
    assert punch(guest, 6, 4, split="v3", whole_folios=False) == 0
    assert story == [
        ("lock", 0, 0),
        ("unlock", 1, 0),
        ("lock", 1, 0),
        ("unlock", 1, 0),  # for a page
        ("lock", 1, 0),
        ("split 4 at 2", 1, 0),
        ("unlock", 1, 0),  # for a page
        ("lock", 1, 0),
        ("split 16 at 2", 1, 0),
        ("unlock", 1, 0),
        ("lock", 1, 0),
        ("remove 6 at 1", 1, 0),
        ("remove 7 at 1", 1, 0),
        ("remove 16 at 1", 1, 0),
        ("remove 17 at 1", 1, 0),
        ("flush", 1, 0),
        ("unlock", 1, 0),
        ("lock", 1, 1),
        ("unlock", 0, 1),
    ]
    assert guest.gmem.holes == [GfnRange(6, 10)]
    guest.check()


@pytest.mark.parametrize("split", sorted(SPLITS))
@pytest.mark.parametrize(("first", "pages"), [(0, 4), (4, 8), (0, 32), (28, 4)])
def test_a_hole_of_whole_folios_needs_no_split(first, pages, split):
    """S125 refuted, S127: as long as no mapping is larger than its folio."""
    guest = a_guest()
    was = guest.private_bytes()
    assert punch(guest, first, pages, split=split) == 0
    assert not splits(guest)
    inside = range(first, first + pages)
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in inside}
    assert {gfn in guest.kvm.mem_attributes for gfn in range(32)} == {True}, "the halves are not asked"
    guest.check()


@pytest.mark.parametrize(("first", "pages"), [(0, 1), (1, 3), (3, 2), (0, 5), (2, 30), (31, 1)])
def test_by_the_agreement_a_hole_of_less_is_einval(first, pages):
    """S127. The errno is unverified."""
    guest = a_guest()
    before = brute.memory(guest.kvm.pool), brute.memory(guest.module.sept.pool)
    assert punch(guest, first, pages) == -EINVAL
    assert (brute.memory(guest.kvm.pool), brute.memory(guest.module.sept.pool)) == before
    assert guest.gmem.holes == []
    assert guest.watch.said == []


def test_a_folio_that_was_split_may_be_punched_page_by_page():
    guest = a_guest()
    guest.gmem.split_folio(5)
    assert punch(guest, 5, 1) == 0
    assert punch(guest, 6, 6) == 0
    assert punch(guest, 3, 2) == -EINVAL


@pytest.mark.parametrize(("first", "pages"), [(0, 1), (1, 3), (3, 2), (0, 5), (2, 30), (31, 1)])
def test_linux_6_16_takes_every_hole_of_whole_4k_pages_and_without_a_split_its_huge_pages_whole(first, pages):
    """S127, S191."""
    guest = a_guest()
    assert punch(guest, first, pages, whole_folios=False) == 0
    last = first + pages
    assert guest.present() == set(range(32)) - set(range(first // 4 * 4, -(-last // 4) * 4))
    assert guest.gmem.holes == [GfnRange(first, last)]


@pytest.mark.parametrize("split", EXACT)
def test_without_the_agreement_the_split_saves_what_surrounds_the_hole(split):
    guest = a_guest()
    was = guest.private_bytes()
    assert punch(guest, 5, 6, split=split, whole_folios=False) == 0
    assert splits(guest) == [4, 8]
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in range(5, 11)}
    guest.check()


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_where_a_mapping_spans_folios_a_hole_of_whole_folios_needs_the_split_again(split):
    """S128: the rule rests on "mapping <= folio"."""
    guest = a_guest(folio_level=1, spans_folios=True)
    assert guest.mirror.leaves.keys() == {(gfn, 2) for gfn in range(0, 32, 4)}
    was = guest.private_bytes()
    assert punch(guest, 9, 1, split=split) == 0
    assert splits(guest) == ([] if split == "none" else [8])
    lost = {8, 9, 10, 11} if split == "none" else {9}
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in lost}
    guest.check()


@pytest.mark.parametrize(
    ("split", "errno"), [("v3", -ENOMEM), ("head and tail", -ENOMEM), ("v3 as posted", 1)]
)
def test_a_hole_whose_split_fails_zaps_and_truncates_nothing_and_a_retry_completes(split, errno):
    """6.12 D1: as posted, fallocate() returns 1."""
    calm = a_guest(slots=((0, 8, 0), (16, 8, 8)))
    assert punch(calm, 6, 4, split=split, whole_folios=False) == 0
    for k in (1, 2, 3, 4):
        guest = a_guest(slots=((0, 8, 0), (16, 8, 8)))
        was = guest.private_bytes()
        guest.refuse(k)
        assert punch(guest, 6, 4, split=split, whole_folios=False) == errno
        assert guest.private_bytes() == was
        assert splits(guest) == ([4] if k > 2 else [])
        assert not guest.flushes()
        assert guest.gmem.holes == []
        guest.check()
        assert punch(guest, 6, 4, split=split, whole_folios=False) == 0
        assert guest.mirror.leaves == calm.mirror.leaves
        assert guest.private_bytes() == calm.private_bytes()
        guest.check()


def test_a_hole_over_pages_that_nobody_bound_is_a_hole_all_the_same():
    guest = a_guest(slots=((0, 8, 0), (16, 8, 12)))
    assert punch(guest, 8, 4) == 0
    assert guest.watch.said == []
    assert guest.gmem.holes == [GfnRange(8, 12)]


def test_a_flush_is_made_once_where_something_was_zapped_and_not_otherwise():
    """S210: a zap owes the flush, so a hole or a broken page over nothing mapped owes none."""
    guest = Guest(slots=((0, 8, 0), (16, 8, 8)))
    assert guest.populate(0).mirror.leaves == {}
    assert (punch(guest, 4, 8), guest.flushes()) == (0, 0)
    assert (fail(guest, 0), guest.flushes()) == (MF_DELAYED, 0)
    guest = a_guest(slots=((0, 8, 0), (16, 8, 8)))
    assert (punch(guest, 4, 8), guest.flushes()) == (0, 1)
    assert (punch(guest, 4, 8), guest.flushes()) == (0, 0)
    assert (fail(guest, 0), guest.flushes()) == (MF_DELAYED, 1)
    assert (fail(guest, 0), guest.flushes()) == (MF_DELAYED, 0)


def test_what_was_punched_is_there_again_with_zeros_when_it_is_accepted():
    guest = a_guest()
    assert punch(guest, 4, 4) == 0
    assert guest.touch(5).outcome == "#VE"
    assert guest.accept(4, 2) == 0
    assert [guest.private_bytes()[gfn] for gfn in range(3, 9)] == [0x13, 0, 0, 0, 0, 0x18]


@pytest.mark.parametrize(
    ("offset", "kind"), [(1.0, InvalidTypeError), (True, InvalidTypeError), ("0", InvalidTypeError)]
)
def test_an_offset_that_is_no_number_is_refused(offset, kind):
    guest = a_guest()
    with pytest.raises(kind, match="an offset"):
        kvm_gmem_fallocate(guest.gmem, 3, offset, PAGE)
    with pytest.raises(kind, match="a length"):
        kvm_gmem_fallocate(guest.gmem, 3, 0, offset)


# ---- conversion, by file ---------------------------------------------------------------------------------


def test_a_conversion_by_file_in_order_begin_split_zap_flush_store_end():
    """S197, S198: the order of a hole (S192), with the attributes in the place of the truncation."""
    guest = a_guest(slots=((0, 8, 0), (16, 8, 8)))
    story = story_of(guest, lambda: (6 not in guest.kvm.mem_attributes, mixed_blocks(guest)))
    assert convert(guest, 6, 4) == 0
    nowhere: set[int] = set()
    assert story == [
        ("lock", 0, False, nowhere),
        ("unlock", 1, False, nowhere),
        ("lock", 1, False, nowhere),
        ("unlock", 1, False, nowhere),
        ("lock", 1, False, nowhere),
        ("split 4 at 2", 1, False, nowhere),
        ("unlock", 1, False, nowhere),
        ("lock", 1, False, nowhere),
        ("split 16 at 2", 1, False, nowhere),
        ("unlock", 1, False, nowhere),
        ("lock", 1, False, nowhere),
        ("remove 6 at 1", 1, False, nowhere),
        ("remove 7 at 1", 1, False, nowhere),
        ("remove 16 at 1", 1, False, nowhere),
        ("remove 17 at 1", 1, False, nowhere),
        ("flush", 1, False, nowhere),
        ("unlock", 1, False, nowhere),
        ("lock", 1, True, nowhere),
        ("unlock", 0, True, {4, 16}),
    ]
    assert private_frames(guest) == {*range(6), *range(18, 24)}
    guest.check()


@pytest.mark.parametrize("split", sorted(SPLITS))
@pytest.mark.parametrize(("start", "end"), [(4, 8), (0, 32), (5, 8), (4, 6), (5, 7), (6, 10), (7, 17)])
@pytest.mark.parametrize("by_file", [True, False])
def test_both_ioctls_leave_the_same_frames_private_mapped_and_huge(by_file, start, end, split):
    """S198, frame by frame: what shares a huge page with the range goes too if nothing is split."""
    guest = a_guest()
    was = guest.private_bytes()
    if by_file:
        assert convert(guest, start, end - start, split=split) == 0
    else:
        assert guest.convert(start, end, split=SPLITS[split]) == 0
    edges = {edge // 4 * 4 for edge in (start, end) if edge % 4}
    lost = {gfn for first in edges for gfn in range(first, first + 4)} if split == "none" else set()
    gone = {*range(start, end), *lost}
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in gone}
    assert private_frames(guest) == set(range(32)) - set(range(start, end))
    assert mixed_blocks(guest) == edges
    assert splits(guest) == ([] if split == "none" else sorted(edges))
    assert guest.touch_shared(start) == FIXED
    guest.check()


def test_towards_private_the_file_splits_nothing_and_the_shared_mapping_goes():
    guest = a_guest()
    assert convert(guest, 4, 12) == 0
    assert guest.touch_shared(9) == FIXED
    mirror = guest.mirror
    assert convert(guest, 9, 1, private=True) == 0
    assert not splits(guest)
    assert guest.mirror[1:] == mirror[1:]
    assert not guest.direct.leaves, "the leaf [8, 12) goes whole, for it is only re-faulted"
    assert guest.flushes() == 1
    assert private_frames(guest) == {*range(4), 9, *range(16, 32)}
    guest.check()


@pytest.mark.parametrize(("split", "ret"), [("v3", -ENOMEM), ("head and tail", -ENOMEM), ("v3 as posted", 1)])
def test_whatever_a_split_returns_but_0_comes_out_at_once_with_nothing_stored_and_no_invalidation(split, ret):
    """S107, S197: kvm_gmem_convert() returns it. Splits made before it stay (S108)."""
    calm = a_guest(slots=((0, 8, 0), (16, 8, 8)))
    assert convert(calm, 6, 4, split=split) == 0
    for k in (1, 2, 3, 4):
        guest = a_guest(slots=((0, 8, 0), (16, 8, 8)))
        was = guest.private_bytes()
        guest.refuse(k)
        assert convert(guest, 6, 4, split=split) == ret
        assert guest.private_bytes() == was
        assert private_frames(guest) == {*range(8), *range(16, 24)}
        assert mixed_blocks(guest) == set()
        assert splits(guest) == ([4] if k > 2 else [])
        assert not guest.flushes()
        assert guest.kvm.mmu_invalidate_in_progress == 0
        guest.check()
        assert convert(guest, 6, 4, split=split) == 0
        assert guest.mirror.leaves == calm.mirror.leaves
        assert guest.private_bytes() == calm.private_bytes()
        assert guest.touch_shared(7) == FIXED
        guest.check()


@pytest.mark.parametrize("private", [True, False])
def test_what_is_so_already_is_not_converted_again(private):
    guest = a_guest()
    assert convert(guest, 8, 8) == 0
    assert convert(guest, *((16, 8) if private else (9, 6)), private=private) == 0
    assert guest.watch.said == []


def test_meanwhile_a_fault_beside_the_range_waits_or_it_would_map_a_huge_page_over_it():
    """The model's choice: as for the VM's ioctl, and to the same end."""
    guest = Guest().populate(0)
    assert guest.touch(8).outcome == "#VE"
    met = []

    def fault() -> None:
        met.append(guest.meanwhile(kvm_tdp_mmu_page_fault(guest.kvm, 1, is_private=True)))

    guest.watch.hurry, guest.watch.meddler = 1, fault
    assert convert(guest, 2, 18) == 0
    assert met == [RETRY]
    guest.check()


@pytest.mark.parametrize(
    ("offset", "size", "attributes"),
    [
        *((0, 0, 0), (PAGE, 0, PRIVATE), (-PAGE, PAGE, 0), (0, -PAGE, 0)),
        *((1, PAGE, 0), (0, PAGE + 1, 0), (0, 33 * PAGE, 0), (32 * PAGE, PAGE, 0)),
        *((0, PAGE, 1), (0, PAGE, PRIVATE | 1), (0, PAGE, -1)),
    ],
)
def test_a_range_or_attributes_that_cannot_be_are_einval_by_file(offset, size, attributes):
    guest = a_guest()
    before = brute.memory(guest.kvm.pool), brute.memory(guest.module.sept.pool), private_frames(guest)
    assert guest.run(kvm_gmem_set_attributes(guest.gmem, offset, size, attributes)) == -EINVAL
    now = brute.memory(guest.kvm.pool), brute.memory(guest.module.sept.pool), private_frames(guest)
    assert now == before
    assert guest.watch.said == []


@pytest.mark.parametrize(
    ("numbers", "what"), [((0.0, PAGE, 0), "offset"), ((0, True, 0), "size"), ((0, PAGE, "0"), "attributes")]
)
def test_what_is_no_number_is_refused_by_file(numbers, what):
    guest = a_guest()
    with pytest.raises(InvalidTypeError, match=what):
        kvm_gmem_set_attributes(guest.gmem, *numbers)


def test_pages_that_nobody_bound_have_no_attributes():
    guest = a_guest(slots=((0, 8, 0), (16, 8, 12)))
    assert convert(guest, 8, 4) == 0
    assert guest.watch.said == []
    assert private_frames(guest) == {*range(8), *range(16, 24)}


# ---- memory failure --------------------------------------------------------------------------------------


def test_a_broken_page_takes_its_folio_and_later_faults_there_are_ehwpoison():
    """S194: zapped, not truncated; MF_DELAYED."""
    guest = a_guest()
    was = guest.private_bytes()
    assert fail(guest, 9) == MF_DELAYED
    assert not splits(guest)
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in range(8, 12)}
    assert guest.gmem.holes == []
    for gfn in range(8, 12):
        if 0 not in guest.module.entered:
            guest.module.vp_enter(0)
        assert guest.touch(gfn) == -EHWPOISON
    guest.check()
    assert punch(guest, 8, 4) == 0
    guest.module.vp_enter(0)
    assert guest.touch(9).outcome == "#VE", "another page is there now"


def test_a_broken_page_in_a_folio_of_single_pages_takes_that_page():
    guest = Guest(folio_level=1).populate(1)
    assert fail(guest, 9) == MF_DELAYED
    assert set(range(32)) - guest.present() == {9}
    assert guest.touch(8).outcome == "ok"
    assert guest.touch(9) == -EHWPOISON


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_where_the_folio_was_split_before_the_mapping_its_neighbours_go_unless_it_is_split_too(split):
    """S130 (4), M7: the caller that was left open."""
    guest = a_guest()
    was = guest.private_bytes()
    guest.gmem.split_folio(9)
    guest.oversized = {(8, 2)}
    assert fail(guest, 9, split) == MF_DELAYED
    assert splits(guest) == ([] if split == "none" else [8])
    lost = {8, 9, 10, 11} if split == "none" else {9}
    assert guest.private_bytes() == {gfn: byte for gfn, byte in was.items() if gfn not in lost}
    guest.oversized = set()
    guest.check()
    assert guest.touch(10).outcome == ("#VE" if split == "none" else "ok")
    assert guest.touch(9) == -EHWPOISON


@pytest.mark.parametrize("split", EXACT)
@pytest.mark.parametrize("k", [1, 2])
def test_a_memory_failure_zaps_whatever_its_split_came_to(split, k):
    guest = a_guest()
    guest.gmem.split_folio(9)
    guest.refuse(k)
    assert fail(guest, 9, split) == MF_DELAYED
    assert set(range(32)) - guest.present() == {8, 9, 10, 11}
    guest.check()


def test_a_broken_page_that_nobody_bound_is_remembered():
    guest = a_guest(slots=((0, 8, 0), (16, 8, 12)))
    assert fail(guest, 9) == MF_DELAYED
    assert guest.watch.said == []
    assert guest.gmem.get_pfn(10) == (-EHWPOISON, 0)


@pytest.mark.parametrize(
    ("page", "kind", "message"),
    [
        (32, InvalidValueError, r"pages below 32; 32 \(0x20\) is beyond"),
        (-1, InvalidValueError, "at least 0"),
        (2.0, InvalidTypeError, "2.0 is a float"),
    ],
)
def test_a_page_that_the_file_does_not_have_cannot_break(page, kind, message):
    guest = a_guest()
    with pytest.raises(kind, match=message):
        kvm_gmem_error_folio(guest.gmem, page)
    assert guest.gmem.poisoned == set()


# ---- the four callers ------------------------------------------------------------------------------------


def test_which_of_the_four_callers_makes_a_split_and_when():
    """S125, S127, S128, S130, M7's list: (1) punch hole, (2) conversion by file, (3) the ACCEPT of a smaller
    page, (4) memory failure; and the older conversion per VM. Each with the split that v3 gives it, on huge
    pages of four frames.
    """
    pending = {"accept": False}
    spanning = {"folio_level": 1, "spans_folios": True}
    table = [  # caller, guest, call, pages split
        ("convert [4, 8) to shared", {}, lambda g: g.convert(4, 8), []),
        ("convert [5, 8) to shared", {}, lambda g: g.convert(5, 8), [4]),
        ("convert [5, 10) to shared", {}, lambda g: g.convert(5, 10), [4, 8]),
        ("convert all to shared", {}, lambda g: g.convert(0, 32), []),
        ("convert [4, 8) by file", {}, lambda g: convert(g, 4, 4), []),
        ("convert [5, 10) by file", {}, lambda g: convert(g, 5, 5), [4, 8]),
        ("punch a folio", {}, lambda g: punch(g, 4, 4, split="v3"), []),
        ("punch part of one", {}, lambda g: punch(g, 5, 2, split="v3", whole_folios=False), [4]),
        ("punch a folio, mappings span", spanning, lambda g: punch(g, 5, 1, split="v3"), [4]),
        ("a broken folio", {}, lambda g: fail(g, 5, "v3"), []),
        ("a broken folio, mappings span", spanning, lambda g: fail(g, 5, "v3"), [4]),
        ("ACCEPT 4K of a pending 2M", pending, lambda g: g.accept(5, 1), [4]),
        ("ACCEPT 2M of a pending 2M", pending, lambda g: g.accept(4, 2), []),
        ("ACCEPT 4K of an accepted 2M", {}, lambda g: g.accept(5, 1), []),
    ]
    for what, options, call, expected in table:
        if options is pending:
            guest = Guest().populate(0)
            assert guest.touch(4).outcome == "#VE"
        else:
            guest = a_guest(**options)
        ret = call(guest)
        assert ret in (0, MF_DELAYED, 0xB0A << 32), what  # 0xB0A: accepted already
        assert splits(guest) == expected, what
        guest.check()


def test_towards_private_no_caller_splits():
    guest = a_guest()
    assert guest.convert(3, 13) == 0
    assert guest.convert(5, 10, private=True) == 0
    assert not splits(guest)
    assert convert(guest, 10, 3, private=True) == 0
    assert not splits(guest)


@pytest.mark.parametrize("geometry", [Geometry(1, 4, 2), Geometry(3, 2, 2)])
def test_holes_and_broken_pages_in_other_geometries(geometry):
    size = brute.pages(geometry, 2)
    guest = Guest(geometry, ((0, 4 * size, 0),)).populate()
    assert punch(guest, size, size) == 0
    assert fail(guest, 2 * size) == MF_DELAYED
    assert guest.present() == {*range(size), *range(3 * size, 4 * size)}
    guest.check()
