"""The laboratory TD: what a guest sees of its bytes, and that each of its methods is one call of the engine.

Truth by frame: 32 frames under four huge pages of eight, each with a byte of its own.
"""

import pytest

from tdpkit.engine.events import External, Flush, Unlock, Visit
from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.splits import ACCEPT_SPLITS
from tdpkit.lab.layouts import TD_4LEVEL, TOY
from tdpkit.lab.td import PageRun, Td
from tests.oracles.invariants import check
from tests.oracles.tds import FREE, PENDING, PRESENT, status

ALREADY, MISMATCH, INVALID = map(status, ("PAGE_ALREADY_ACCEPTED", "PAGE_SIZE_MISMATCH", "OPERAND_INVALID"))
EFAULT, ENOMEM, EINVAL, EHWPOISON, EIO = 14, 12, 22, 133, 5
MF_DELAYED = 2
INHIBIT = 1 << 30
"""S173."""


def in_sight(*unseen: int, zero: tuple[int, ...] = (), frames: int = 32) -> str:
    return " ".join(
        "--" if gfn in unseen else "00" if gfn in zero else f"{0x10 + gfn:02x}" for gfn in range(frames)
    )


# ---- how it begins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accept_level": 1},
        {"folio_level": 1},
        {"folio_level": 1, "spans_folios": True},
        {"dynamic_pamt": True},
        {"sept_ve_disable": True},
        {"frames": 8},
        {"geometry": Geometry(1, 5, 2), "frames": 16},
        {"geometry": Geometry(2, 3, 2), "frames": 30, "folio_level": 1},
        {"frames": 12, "folio_level": 1, "spans_folios": True},
    ],
)
def test_a_td_begins_with_all_frames_private_accepted_and_written(options):
    """A guest whose huge ACCEPT is refused takes small pages, as Linux does."""
    td = Td(**options)
    frames = options.get("frames", 32)
    assert td.accepted() == set(range(frames))
    assert td.bytes_in_sight() == in_sight(frames=frames)
    assert [td.read(gfn) for gfn in range(frames)] == [0x10 + gfn for gfn in range(frames)]
    assert (td.calls, [event for event in td.events if isinstance(event, External)]) == ([], [])
    assert repr(td) == f"<TD of {frames} frames, {frames} accepted>"
    check(td)


@pytest.mark.parametrize(
    ("options", "level"),
    [({}, 2), ({"accept_level": 1}, 1), ({"folio_level": 1}, 1), ({"accept_level": 2}, 2)],
)
def test_its_pages_have_the_level_that_was_asked_for_or_that_the_folio_allows(options, level):
    td = Td(**options)
    assert {td.state(gfn) for gfn in range(32)} == {(PRESENT, level)}


def test_a_td_that_has_accepted_nothing_has_nothing_mapped():
    td = Td(accepted=False)
    assert td.accepted() == set()
    assert td.bytes_in_sight() == in_sight(*range(32))
    assert td.page_runs() == [PageRun(0, 32, "private", FREE, 0)]
    assert td.calls == []
    check(td)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"frames": 0}, InvalidValueError, "whole folios"),
        ({"frames": 12}, InvalidValueError, "whole folios of 32K; 12 pages"),
        ({"frames": 40}, InvalidValueError, "slots hold frames below"),
        ({"frames": -8}, InvalidValueError, "a number of frames is at least 0"),
        ({"frames": 8.0}, InvalidTypeError, "a number of frames"),
        ({"frames": "8"}, InvalidTypeError, "a number of frames"),
        ({"frames": True}, InvalidTypeError, "a number of frames"),
        ({"accept_level": 0}, InvalidValueError, "a level is from 1"),
        ({"accept_level": 9}, InvalidValueError, "a level is from 1"),
        ({"folio_level": 3}, InvalidValueError, "a level is from 1"),
    ],
)
def test_a_td_that_cannot_be_is_refused_in_words(options, kind, message):
    with pytest.raises(kind, match=message):
        Td(**options)


def test_a_large_td_keeps_no_bytes_and_says_so():
    td = Td(TD_4LEVEL, 1024)
    assert len(td.accepted()) == 1024
    assert td.memory == {}
    assert td.read(5) is None
    with pytest.raises(InvalidValueError, match="at most; this one has 1024"):
        td.bytes_in_sight()
    assert td.page_runs() == [PageRun(0, 1024, "private", PRESENT, 2)]
    check(td)


# ---- conversions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["v3", "v3 as posted", "head and tail"])
def test_a_conversion_with_a_split_takes_its_range_alone(split):
    td = Td()
    before = td.accepted()
    assert td.convert(3, 10, split=split) == 0
    assert td.bytes_in_sight() == in_sight(*range(3, 10))
    assert td.lost(before, range(3, 10)) == []
    assert td.page_runs() == [
        PageRun(0, 3, "private", PRESENT, 1),
        PageRun(3, 7, "shared", FREE, 0),
        PageRun(10, 6, "private", PRESENT, 1),
        PageRun(16, 16, "private", PRESENT, 2),
    ]
    check(td)


def test_a_conversion_without_a_split_loses_the_neighbours_and_an_accept_gives_zeros():
    td = Td()
    before = td.accepted()
    assert td.convert(3, 10, split="none") == 0
    assert td.bytes_in_sight() == in_sight(*range(16))
    assert td.lost(before, range(3, 10)) == [0, 1, 2, *range(10, 16)]
    assert td.read(2) is None
    assert td.state(2) == (PENDING, 1)
    assert td.accept(2) == 0
    assert td.read(2) == 0
    check(td)


def test_a_shared_frame_has_userspaces_byte_and_back_as_private_zeros():
    td = Td()
    assert td.convert(3, 10) == 0
    assert [td.read(gfn) for gfn in (2, 3, 9, 10)] == [0x12, 0xA3, 0xA9, 0x1A]
    assert td.convert(3, 10, to="private") == 0
    assert td.read(5) is None
    assert td.accept(5) == 0
    assert (td.read(5), td.read(4)) == (0, None)
    assert td.convert(5, 6) == 0
    assert td.read(5) == 0xA5, "what userspace has there was never touched"
    check(td)


def test_the_log_holds_a_conversions_calls_in_order_and_can_begin_anew():
    td = Td()
    assert td.convert(7, 8) == 0
    names = [call.name.split(".")[-1] for call in td.calls]
    assert names == [
        *("BLOCK", "TRACK", "ENTER", "DEMOTE"),
        *("BLOCK", "TRACK", "ENTER", "REMOVE", "WBINVD"),
    ]
    assert [event.op for event in td.events if isinstance(event, External)] == ["split", "remove"]
    assert sum(isinstance(event, Flush) for event in td.events) == 1
    assert not any(isinstance(event, Visit) for event in td.events)
    td.forget()
    assert (td.calls, td.events) == ([], [])


def test_the_kth_request_for_memory_is_refused_and_0_ends_that():
    for k, ret in ((1, -ENOMEM), (2, -ENOMEM), (3, -ENOMEM), (4, -ENOMEM), (5, 0)):
        td = Td()
        td.refuse(k)
        assert td.convert(3, 10) == ret
        assert td.bytes_in_sight() == (in_sight() if ret else in_sight(*range(3, 10)))
        check(td)
        assert td.convert(3, 10) == 0
    td = Td()
    td.refuse(1)
    td.refuse(0)
    assert td.convert(3, 10) == 0
    with pytest.raises(InvalidValueError, match="number of a request"):
        td.refuse(-1)


def test_the_lost_errno_as_posted():
    """S107: 0 comes back, the frame is shared, and the guest still has its private byte."""
    td = Td()
    td.refuse(1)
    assert td.convert(3, 10, split="v3 as posted") == 0
    assert td.bytes_in_sight() == in_sight()
    assert td.read(5) == 0xA5
    assert td.touch(5).outcome == "ok"
    assert td.page_runs()[1] == PageRun(3, 7, "shared", PRESENT, 2)


# ---- the guest -------------------------------------------------------------------------------------------


def test_a_touch_adds_a_page_that_is_to_be_accepted():
    td = Td(accepted=False)
    assert td.touch(9).outcome == "#VE"
    assert td.page_runs()[1] == PageRun(8, 8, "private", PENDING, 2)
    assert td.accept(8, 2) == 0
    assert td.accepted() == set(range(8, 16))
    assert td.touch(9).outcome == "ok"
    assert (td.accept(9), td.accept(8, 2), td.accept(9, 2)) == (ALREADY, ALREADY, INVALID)
    check(td)


@pytest.mark.parametrize(
    ("split", "ret"),
    [("v3", 0), ("v3 as posted", 0), ("mirror roots", 0), ("root.hpa (RFC v5 41 as posted)", None)],
)
def test_an_accept_of_4k_on_a_pending_2m_page_depends_on_the_root_that_is_split(split, ret):
    """S140. The names are all there are."""
    assert len(ACCEPT_SPLITS) == 4
    td = Td(accepted=False)
    assert td.touch(9).outcome == "#VE"
    assert td.accept(9, 1, split) == ret
    assert td.accepted() == ({9} if ret == 0 else set())
    assert td.state(9) == ((PRESENT, 1) if ret == 0 else (PENDING, 2))
    check(td)


@pytest.mark.parametrize("split", ["v3", "mirror roots"])
def test_an_accept_of_2m_splits_a_1g_leaf_once_and_forbids_1g_alone(split):
    """M7's own case, in a TD with leaves of 1G (a what-if: S3): S131, S173.

    One split makes 512 leaves of 2M. All but the accepted one stay PENDING, and none is split further.
    """
    td = Td(X86_4LEVEL, 1 << 18, accepted=False, leaf_level=3, folio_level=3)
    assert td.touch(0).outcome == "#VE"
    assert td.state(0x3FFFF) == (PENDING, 3)
    td.forget()
    assert td.accept(0x200, 2, split) == 0
    made = [(call.gfn, call.level) for call in td.calls if call.name == "TDH.MEM.PAGE.DEMOTE"]
    assert made == [(0, 3)]
    states = {block: td.state(block * 512) for block in range(512)}
    assert states == {block: (PRESENT if block == 1 else PENDING, 2) for block in range(512)}
    assert td.kvm.disallow_lpage == {(3, 0): INHIBIT}


def test_an_accept_of_2m_in_a_td_of_the_series_leaves_the_flag_at_1g_too():
    """S173; an ACCEPT that finds its 2M leaf PENDING does not exit, and KVM does not hear of it."""
    td = Td(TD_4LEVEL, 1024, accepted=False)
    assert td.touch(7).outcome == "#VE"
    assert (td.accept(0, 2), td.kvm.disallow_lpage) == (0, {})
    assert (td.accept(512, 2), td.kvm.disallow_lpage) == (0, {(3, 0): INHIBIT})


def test_smaller_pages_than_accepted_are_a_mismatch():
    td = Td(accepted=False, folio_level=1)
    assert td.accept(8, 2) == MISMATCH
    assert td.accept(8) == 0


def test_after_an_errno_userspace_runs_the_vcpu_again():
    td = Td()
    assert td.convert(3, 10) == 0
    assert td.touch(5) == -EFAULT
    assert td.touch(2).outcome == "ok"
    assert td.accept(5) == -EFAULT
    assert td.accept(2) == ALREADY
    assert td.read(12) == 0x1C
    check(td)


def test_a_touch_of_a_pending_page_kills_a_td_without_ve_and_it_does_not_run_again():
    """S171."""
    td = Td(accepted=False, sept_ve_disable=True)
    assert td.touch(9) == -EIO
    assert td.tdx.dead
    with pytest.raises(InvalidValueError, match="outside"):
        td.touch(9)
    with pytest.raises(InvalidValueError, match="outside"):
        td.accept(9)


def test_a_guest_that_accepts_before_it_touches_lives_without_ve():
    """S171, S173: as Linux does."""
    td = Td(accepted=False, sept_ve_disable=True)
    assert td.accept(9) == 0
    assert td.touch(9).outcome == "ok"
    assert not td.tdx.dead


def test_a_vcpu_uses_a_blocked_leaf_until_it_enters_a_new_epoch():
    """S166: an entry empties the TLB only if the epoch is new to the vCPU."""
    td = Td()
    assert td.touch(5).outcome == "ok"
    assert td.module.mem_range_block(0, 2) == 0
    td.tdx.kick_vcpus()
    assert td.touch(5).outcome == "ok"
    assert td.module.mem_track() == 0
    assert td.touch(5).outcome == "ok"
    td.tdx.kick_vcpus()
    assert td.module.access(td.vcpu, 5).outcome == "violation"


@pytest.mark.parametrize(
    ("pamt", "drops", "by_conversion", "by_accept"),
    [("v3", ["alloc", "top-up"], {None}, {0, None}), ("R2", ["alloc"], {None}, {0})],
)
def test_pamt_pages_for_a_split_have_a_drop_of_their_own_in_v3_and_none_in_r2(
    pamt, drops, by_conversion, by_accept
):
    """S179: v3 splits from the VM's cache, R2 from that of the vCPU whose thread it is, else the VM's."""
    td = Td(TD_4LEVEL, 1024, dynamic_pamt=True, pamt=pamt)
    td.tdx.pamt_caches.clear()
    assert td.convert(7, 512) == 0
    reasons = [event.reason for event in td.events if isinstance(event, Unlock)]
    assert reasons == [*drops, "done", "done"]
    assert td.tdx.pages.requests[-3:] == ["page table", "S-EPT page", "PAMT pages"]
    assert set(td.tdx.pamt_caches) == by_conversion
    td = Td(TD_4LEVEL, 1024, accepted=False, dynamic_pamt=True, pamt=pamt)
    assert td.touch(7).outcome == "#VE"
    td.forget()
    assert td.accept(7) == 0
    reasons = [event.reason for event in td.events if isinstance(event, Unlock)]
    assert [reason for reason in reasons if reason != "done"] == drops
    assert set(td.tdx.pamt_caches) == by_accept


# ---- the file --------------------------------------------------------------------------------------------


def test_a_conversion_by_file_and_what_a_1_comes_to_there():
    td = Td()
    td.refuse(1)
    assert td.convert_by_file(3, 10, split="v3 as posted") == 1
    assert td.kvm.mem_attributes.ranges() == [GfnRange(0, 32)]
    td.refuse(0)
    assert td.convert_by_file(3, 10) == 0
    assert td.bytes_in_sight() == in_sight(*range(3, 10))
    assert td.own == {*range(3), *range(10, 32)}
    assert td.read(5) == 0xA5
    assert td.convert_by_file(5, 6, to="private") == 0
    assert td.touch(5).outcome == "#VE"
    assert td.convert_by_file(30, 33) == -EINVAL
    check(td)


def test_an_error_path_as_posted_leaves_the_invalidation_open():
    td = Td()
    td.refuse(1)
    assert td.convert(3, 10, as_posted=True) == -ENOMEM
    td.refuse(0)
    assert (td.convert(3, 10, as_posted=True), td.kvm.mmu_invalidate_in_progress) == (0, 1)
    assert td.read(5) is None


def test_holes_of_whole_folios_and_others():
    td = Td()
    assert td.punch_hole(3, 4) == -EINVAL
    assert td.bytes_in_sight() == in_sight()
    assert td.punch_hole(8, 8) == 0
    assert td.bytes_in_sight() == in_sight(*range(8, 16))
    assert td.punch_hole(3, 2, whole_folios=False, split="head and tail") == 0
    assert td.bytes_in_sight() == in_sight(3, 4, *range(8, 16))
    assert td.punch_hole(17, 2, whole_folios=False) == 0
    assert td.bytes_in_sight() == in_sight(3, 4, *range(8, 24))
    td.refuse(1)
    assert td.punch_hole(27, 2, whole_folios=False, split="v3 as posted") == 1
    assert td.bytes_in_sight() == in_sight(3, 4, *range(8, 24))
    check(td)


def test_a_broken_page():
    td = Td()
    assert td.memory_failure(9) == MF_DELAYED
    assert td.bytes_in_sight() == in_sight(*range(8, 16))
    assert td.touch(12) == -EHWPOISON
    assert td.touch(7).outcome == "ok"
    td = Td(folio_level=1, spans_folios=True)
    assert td.memory_failure(9, split="v3") == MF_DELAYED
    assert td.bytes_in_sight() == in_sight(9)
    check(td)


# ---- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda td: td.convert(0, 8, to="secret"),
            "is one of shared, private; 'secret'",
        ),
        (lambda td: td.convert(0, 8, split="v4"), "one of v3, v3 as posted, head and tail, none"),
        (lambda td: td.convert(8, 4), "above end"),
        (lambda td: td.convert(0, 33), "beyond"),
        (lambda td: td.accept(9, 1, "v4"), "'v4' is none"),
        (lambda td: td.accept(32), r"ends at 0x20 \(128K\); frame 0x20"),
        (lambda td: td.accept(9, 0), "a level is 1"),
        (lambda td: td.touch(32), "is beyond it"),
        (lambda td: td.touch(-1), "at least 0"),
        (lambda td: td.read(99), "is beyond it"),
        (lambda td: td.state(32), "is beyond it"),
        (lambda td: td.punch_hole(0, 8, split="v4"), "'v4'"),
        (lambda td: td.memory_failure(32), "is beyond it"),
        (lambda td: td.memory_failure(3, split=""), "'' is none"),
    ],
)
def test_what_means_nothing_is_refused_in_words_and_changes_nothing(call, message):
    td = Td()
    with pytest.raises(InvalidValueError, match=message):
        call(td)
    assert td.bytes_in_sight() == in_sight()
    assert td.calls == td.events == []
    check(td)


@pytest.mark.parametrize(
    "call",
    [
        lambda td: td.convert(0.0, 8),
        lambda td: td.touch("9"),
        lambda td: td.accept(1.5),
        lambda td: td.punch_hole(0.0, 8),
        lambda td: td.punch_hole(0, "8"),
        lambda td: td.memory_failure(None),
        lambda td: td.refuse(1.0),
    ],
)
def test_what_is_no_whole_number_is_refused(call):
    td = Td()
    with pytest.raises(InvalidTypeError):
        call(td)
    assert td.bytes_in_sight() == in_sight()
    check(td)


def test_a_hole_before_the_file_or_of_nothing_is_einval():
    td = Td()
    assert (td.punch_hole(-8, 8), td.punch_hole(0, 0), td.punch_hole(0, -8)) == (-EINVAL,) * 3
    assert td.punch_hole(40, 8) == 0
    assert td.bytes_in_sight() == in_sight()


def test_the_toy_is_as_small_as_it_says():
    assert (TOY.pages(2), TOY.root_pages // 2 // TOY.pages(2)) == (8, 4)


def test_a_guest_counts_on_what_it_accepted_until_its_vmm_asks_it_back():
    td = Td(accepted=False)
    td.touch(3)
    assert td.own == set()
    td.accept(0, level=2)
    td.accept(11)
    assert td.own == {*range(8), 11}
    td.convert(2, 4, split="none")  # takes the whole leaf: the guest still counts on the rest of it
    assert td.own == {0, 1, 4, 5, 6, 7, 11}
    td.refuse(1)
    td.accept(20)
    assert td.own == {0, 1, 4, 5, 6, 7, 11}, "refused"
    td = Td(folio_level=1, spans_folios=True)
    td.punch_hole(3, 1)
    assert td.own == {*range(32)} - {3}
    assert td.punch_hole(40, 1) or td.own == {*range(32)} - {3}
    td.memory_failure(9)
    assert td.own == {*range(32)} - {3, 9}
