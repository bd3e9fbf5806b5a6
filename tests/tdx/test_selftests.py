"""The cases of KVM's own selftests on x86's geometry: two private huge pages of 2M, 1024 frames in sight.

The conversions (offset, size) of the huge-page selftest, and the fallocate() cases of guest_memfd_test.c.
Truth is the frame: which are inside the range, by arithmetic on offset and size.
"""

from collections.abc import Iterator

import pytest

from tdpkit.engine.events import External, Trace
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.guest_memfd import kvm_gmem_fallocate
from tdpkit.engine.splits import SPLITS
from tests.oracles import brute
from tests.oracles.guests import Guest
from tests.oracles.invariants import PENDING, PRESENT, frames, state

X86_TD = Geometry(9, 4, 2)
KIB, MIB, PAGE = 1 << 10, 1 << 20, 4096
EINVAL, EOPNOTSUPP = 22, 95
KEEP_SIZE, PUNCH_HOLE = 1, 2
HUGE_PAGES = 2
FRAMES = HUGE_PAGES * 2 * MIB // PAGE
EXACT = ("v3", "v3 as posted", "head and tail")


def a_guest(level: int = 2, **options) -> Guest:
    """1024 frames, each with a byte of its own kind."""
    guest = Guest(X86_TD, ((0, FRAMES, 0),), **options).populate(level)
    for gfn in range(FRAMES):
        guest.memory[guest.private(gfn)] = (7 * gfn + gfn // 256) & 0xFF
    guest.check()
    return guest


def pages_of(guest: Guest) -> dict[int, tuple[int, int, int]]:
    """Of each private frame: host frame, S-EPT state, byte."""
    sept = guest.sept
    states = {
        gfn + ahead: state(raw)
        for (gfn, level), raw in sept.leaves.items()
        for ahead in range(brute.pages(X86_TD, level))
    }
    pfns = frames(sept)
    return {gfn: (pfns[gfn], states[gfn], guest.memory[pfns[gfn]]) for gfn in pfns}


def splits_of(guest: Guest) -> list[int]:
    return [event.gfn for event in guest.watch.of(Trace) if event.name == "kvm_mmu_split_huge_page"]


CONVERSIONS = [  # offset, size (bytes), huge pages that are split
    (0, 4 * KIB, [0]),
    (0, 2 * MIB, []),
    (4 * KIB, 4 * KIB, [0]),
    (4 * KIB, 2 * MIB, [0, 512]),
    (2 * MIB, 4 * KIB, [512]),
]


@pytest.mark.parametrize("split", EXACT)
@pytest.mark.parametrize(("offset", "size", "split_at"), CONVERSIONS)
def test_a_conversion_changes_the_pages_in_its_range_and_no_other(offset, size, split_at, split):
    guest = a_guest()
    before = pages_of(guest)
    start, end = offset // PAGE, (offset + size) // PAGE
    assert guest.convert(start, end, split=SPLITS[split]) == 0
    assert splits_of(guest) == split_at
    demoted = [call.gfn for call in guest.module.log if call.name == "TDH.MEM.PAGE.DEMOTE"]
    assert demoted == split_at
    outside = {gfn: page for gfn, page in before.items() if not start <= gfn < end}
    assert len(outside) == FRAMES - size // PAGE
    assert pages_of(guest) == outside
    guest.check()
    for gfn in (start, end - 1):
        assert guest.touch_shared(gfn) > 0
        assert frames(guest.direct)[gfn] == guest.shared(gfn)
        assert guest.memory[guest.shared(gfn)] == 0xA0 + gfn & 0xFF
    for gfn in {0, start - 1, end, FRAMES - 1} & outside.keys():
        assert guest.touch(gfn) == ("ok", guest.private(gfn), None)


@pytest.mark.parametrize(("offset", "size", "split_at"), CONVERSIONS)
def test_and_back_again_the_range_is_there_with_zeros_once_it_is_accepted(offset, size, split_at):
    guest = a_guest()
    before = pages_of(guest)
    start, end = offset // PAGE, (offset + size) // PAGE
    assert guest.convert(start, end) == guest.convert(start, end, private=True) == 0
    assert not splits_of(guest)
    assert guest.touch(start).outcome == "#VE"
    level = 2 if not split_at else 1
    guest.watch.quiet = True
    for gfn in range(start, end, 512 if level == 2 else 1):
        assert guest.accept(gfn, level) == 0
    for gfn, page in pages_of(guest).items():
        zeroed = (before[gfn][0], PRESENT, 0)
        assert page == (zeroed if start <= gfn < end else before[gfn])
    guest.check()


@pytest.mark.parametrize(("offset", "size", "split_at"), CONVERSIONS)
def test_without_a_split_the_huge_pages_go_whole(offset, size, split_at):
    guest = a_guest()
    start, end = offset // PAGE, (offset + size) // PAGE
    assert guest.convert(start, end, split=SPLITS["none"]) == 0
    assert not splits_of(guest)
    hit = {huge for huge in (0, 512) if start < huge + 512 and huge < end}
    assert {gfn // 512 * 512 for gfn in pages_of(guest)} == {0, 512} - hit
    lost = 512 * len(hit) - (end - start)
    assert FRAMES - len(pages_of(guest)) - (end - start) == lost
    assert bool(lost) == bool(split_at)


@pytest.mark.parametrize("split", EXACT)
@pytest.mark.parametrize(("offset", "size", "split_at"), CONVERSIONS)
def test_pages_that_were_not_accepted_stay_pending_outside_the_range(offset, size, split_at, split):
    guest = a_guest(level=0)
    for gfn in (0, 512):
        assert guest.touch(gfn).outcome == "#VE"
    start, end = offset // PAGE, (offset + size) // PAGE
    assert guest.convert(start, end, split=SPLITS[split]) == 0
    assert splits_of(guest) == split_at
    there = pages_of(guest)
    assert there.keys() == set(range(FRAMES)) - set(range(start, end))
    assert {page[1] for page in there.values()} == {PENDING}


@pytest.mark.slow
@pytest.mark.parametrize("split", EXACT)
@pytest.mark.parametrize(("offset", "size", "split_at"), CONVERSIONS)
def test_pages_of_4k_need_no_split(offset, size, split_at, split):
    guest = a_guest(level=1)
    before = pages_of(guest)
    start, end = offset // PAGE, (offset + size) // PAGE
    assert guest.convert(start, end, split=SPLITS[split]) == 0
    assert not splits_of(guest)
    assert pages_of(guest) == {gfn: page for gfn, page in before.items() if not start <= gfn < end}


# ---- guest_memfd_test.c ----------------------------------------------------------------------------------


def bytes_of(guest: Guest) -> tuple:
    """All that a rejected call must leave alone."""
    kvm, module, gmem = guest.kvm, guest.module, guest.gmem
    return (
        brute.memory(kvm.pool),
        brute.memory(module.sept.pool),
        dict(guest.memory),
        list(gmem.holes),
        len(module.log),
        len(guest.pages.requests),
        kvm.mmu_invalidate_seq,
    )


def fallocate(guest: Guest, mode: int, offset: int, length: int, **how) -> int:
    return guest.run(kvm_gmem_fallocate(guest.gmem, mode, offset, length, **how))


def unaligned() -> Iterator[tuple[int, int]]:
    """Offset and length of 0, 1 and around a page, where one of them is no multiple of it."""
    values = (0, 1, PAGE - 1, PAGE, PAGE + 1)
    return ((a, b) for a in values for b in values if a % PAGE or b % PAGE)


SELFTEST = [  # test_invalid_punch_hole
    *((0, 1), (0, PAGE - 1), (0, PAGE + 1), (1, 1), (1, PAGE - 1), (1, PAGE), (1, PAGE + 1)),
    *((PAGE, 1), (PAGE, PAGE - 1), (PAGE, PAGE + 1)),
]


def test_the_selftests_own_cases_are_among_them():
    assert set(SELFTEST) <= set(unaligned())
    assert len(set(unaligned())) == 21


@pytest.mark.parametrize("whole_folios", [True, False])
@pytest.mark.parametrize("split", sorted(SPLITS))
def test_an_unaligned_hole_is_einval_and_nothing_changes(split, whole_folios):
    guest = a_guest()
    before = bytes_of(guest)
    for offset, length in unaligned():
        ret = fallocate(
            guest, PUNCH_HOLE | KEEP_SIZE, offset, length, whole_folios=whole_folios, split=SPLITS[split]
        )
        assert ret == -EINVAL, (offset, length)
        assert not guest.watch.said
    assert bytes_of(guest) == before


@pytest.mark.parametrize(("offset", "length"), [(-PAGE, PAGE), (0, 0), (0, -PAGE), (PAGE, 0)])
def test_a_hole_of_no_pages_or_before_the_file_is_einval(offset, length):
    guest = a_guest()
    before = bytes_of(guest)
    assert fallocate(guest, PUNCH_HOLE | KEEP_SIZE, offset, length) == -EINVAL
    assert bytes_of(guest) == before


@pytest.mark.parametrize("mode", [0, PUNCH_HOLE, 4, PUNCH_HOLE | KEEP_SIZE | 4, 8 | KEEP_SIZE, -1])
@pytest.mark.parametrize(("offset", "length"), [(0, 2 * MIB), (1, 2 * MIB)])
def test_another_mode_is_eopnotsupp_whatever_the_range(mode, offset, length):
    """S191: KEEP_SIZE is mandatory, PUNCH_HOLE the only other bit known."""
    guest = a_guest()
    before = bytes_of(guest)
    assert fallocate(guest, mode, offset, length) == -EOPNOTSUPP
    assert bytes_of(guest) == before


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, PAGE), (PAGE, 2 * MIB - PAGE), (0, 2 * MIB + PAGE), (PAGE, 2 * MIB), (2 * MIB - PAGE, 2 * PAGE)],
)
def test_a_hole_that_is_not_of_whole_folios_is_einval(offset, length):
    """S127, the upstream agreement."""
    guest = a_guest()
    before = bytes_of(guest)
    assert fallocate(guest, PUNCH_HOLE | KEEP_SIZE, offset, length) == -EINVAL
    assert bytes_of(guest) == before


@pytest.mark.parametrize(("offset", "length"), [(0, 2 * MIB), (2 * MIB, 2 * MIB), (0, 4 * MIB)])
def test_a_hole_of_whole_folios_splits_nothing_and_takes_nothing_else(offset, length):
    guest = a_guest()
    before = pages_of(guest)
    assert fallocate(guest, PUNCH_HOLE | KEEP_SIZE, offset, length) == 0
    assert not [event for event in guest.watch.of(External) if event.op == "split"]
    inside = range(offset // PAGE, (offset + length) // PAGE)
    assert pages_of(guest) == {gfn: page for gfn, page in before.items() if gfn not in inside}
    guest.check()


@pytest.mark.parametrize("offset", [4 * MIB, 4 * MIB + PAGE, 6 * MIB])
def test_a_hole_behind_the_end_of_the_file_succeeds_and_does_nothing(offset):
    guest = a_guest()
    before = bytes_of(guest)
    assert fallocate(guest, PUNCH_HOLE | KEEP_SIZE, offset, PAGE) == 0
    assert bytes_of(guest) == before


def test_a_hole_that_begins_in_the_file_and_ends_behind_it_takes_what_there_is():
    guest = a_guest()
    assert fallocate(guest, PUNCH_HOLE | KEEP_SIZE, 2 * MIB, 8 * MIB) == 0
    assert pages_of(guest).keys() == set(range(512))
