"""A guest under its actions, against frames counted one by one, S142 and S172, S230."""

from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import Geometry, InvalidTypeError, InvalidValueError, format_gfn, parse_gfn
from tdpkit.engine.tree import LeafRun, leaf_runs, map_leaf, translate
from tdpkit.lab import layouts
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest, Touch
from tdpkit.lab.layouts import LAYOUTS, Layout
from tests.oracles import byframe

X86 = Geometry(index_bits=9, root_level=4, max_leaf_level=3)
PRESETS = [(name, kind) for name in byframe.GUESTS for kind in VM_KINDS]
EIGHT = list(range(0x10, 0x18))
"""The bytes of the eight frames: 0x10 and up, so that no frame reads zero before it is accepted anew."""


@contextmanager
def large_from(leaves: int):
    """Guests made here with more than `leaves` leaves go the way of the 16 TiB guest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_STEPWISE_LEAVES", leaves)
        yield


@pytest.fixture(scope="module")
def presets():
    return {preset: Guest(*preset) for preset in PRESETS}


def x86(level: int, count: int) -> Layout:
    """Leaves of one size from frame 0 on, and nothing else."""
    pages = X86.pages(level)
    return Layout(X86, (LeafRun(0, level, count, 0),), count * pages)


PRESET_SPANS = [
    ("eight", 3, 4),
    ("eight", 0, 8),
    ("toy", 5, 12),
    ("toy", 15, 25),
    ("one-1G", 0x40100, 0x80000),
    ("one-1G", 0x3FFFF, 0x40001),
    ("one-1G", 0x7FFFF, 0x80001),
    ("mixed", 0x603, 0xC0000 + 0x20100),
    ("mixed", 0x3FF, 0x401),
    ("mixed", 0x80001, 0xA0001),
    ("mixed", 0, 1 << 20),
]


# ---- what an action did --------------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_every_field_of_an_outcome_is_what_counting_frames_gives(case, kind, action):
    layout, start, end = case
    with Guest(layout, kind).after(start, end, action) as (_, outcome):
        assert byframe.told(outcome) == byframe.expected(byframe.Frames(layout), start, end, action)
    assert (outcome.kind, outcome.action) == (kind, action)
    assert (outcome.span.start, outcome.span.end) == (start, end)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "start", "end"), PRESET_SPANS)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_presets_answer_what_counting_their_frames_gives(presets, name, start, end, action):
    expected = byframe.expected(byframe.named(name), start, end, action)
    for kind in VM_KINDS:
        with presets[name, kind].after(start, end, action) as (_, outcome):
            assert byframe.told(outcome) == expected


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds)
def test_the_crossing_leaves_are_those_that_hold_both_sides_of_an_edge(case, kind):
    layout, start, end = case
    guest = Guest(layout, kind)
    found = [(leaf.gfn, leaf.level) for leaf in guest.crossing(guest.check_span(start, end))]
    assert found == byframe.Frames(layout).crossing(start, end)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds)
def test_after_a_split_a_zap_takes_nothing_outside_the_range_and_everything_in_it(case, kind):
    layout, start, end = case
    guest = Guest(layout, kind)
    hosts = {gfn: guest.host_frame(gfn) for gfn in range(guest.frames)}
    guest.split(start, end)
    assert guest.zap(start, end).outside == ()
    for gfn, pfn in hosts.items():
        leaf = translate(guest.root, gfn)
        assert (leaf and leaf.pfn + gfn - leaf.gfn) == (None if start <= gfn < end else pfn)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_guest_shown_after_an_action_maps_what_the_frames_say(case, kind, action):
    layout, start, end = case
    after, _ = byframe.after_action(byframe.Frames(layout), start, end, action)
    with Guest(layout, kind).after(start, end, action) as (shown, _):
        for gfn in range(layout.frames):
            leaf = translate(shown.root, gfn)
            assert (leaf and leaf[:2]) == ((after.leaf[gfn], after.level[gfn]) if after.level[gfn] else None)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds)
def test_split_then_zap_step_by_step_is_the_one_action_split_then_zap(case, kind):
    layout, start, end = case
    guest = Guest(layout, kind)
    split, zap = guest.split(start, end), guest.zap(start, end)
    with Guest(layout, kind).after(start, end, "split+zap") as (shown, both):
        assert leaf_runs(shown.root) == leaf_runs(guest.root)
    assert (both.split_visits, both.splits) == (split.split_visits, split.splits)
    assert (both.zap_visits, both.zapped_inside) == (zap.zap_visits, zap.zapped_inside)
    assert (split.action, zap.action) == ("split", "zap")


def test_splitting_twice_splits_once():
    guest = Guest("toy", "TD")
    assert guest.split(5, 12).splits == ((0, 2), (8, 2))
    again = guest.split(5, 12)
    assert (again.splits, again.crossing) == ((), ())


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds)
def test_a_look_is_the_action_look_and_changes_nothing(case, kind):
    layout, start, end = case
    guest = Guest(layout, kind)
    before = byframe.memory(guest.kvm.pool)
    looked = guest.look(start, end)
    assert byframe.memory(guest.kvm.pool) == before
    with guest.after(start, end, "look") as (_, outcome):
        assert looked == outcome


# ---- and took back -------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_after_leaves_every_bit_of_the_machine_as_it_was(case, kind, action):
    layout, start, end = case
    guest = Guest(layout, kind)
    before, bytes_before = byframe.memory(guest.kvm.pool), dict(guest.memory)
    counts = [root.tdp_mmu_root_count for root in guest.kvm.tdp_mmu_roots]
    with guest.after(start, end, action):
        pass
    assert byframe.memory(guest.kvm.pool) == before
    assert (guest.memory, guest.pending) == (bytes_before, set())
    assert [root.tdp_mmu_root_count for root in guest.kvm.tdp_mmu_roots] == counts


@pytest.mark.parametrize(("name", "start", "end"), PRESET_SPANS)
def test_after_leaves_the_presets_as_they_were(presets, name, start, end):
    for kind in VM_KINDS:
        guest = presets[name, kind]
        before = byframe.memory(guest.kvm.pool)
        for action in ACTIONS:
            with guest.after(start, end, action):
                pass
            assert byframe.memory(guest.kvm.pool) == before


def test_after_leaves_the_16_tib_guest_as_it_was(presets):
    guest = presets["16T", "TD"]
    rows = range(len(guest.kvm.pool.role))
    before = [hash(guest.kvm.pool.table(row).tobytes()) for row in rows]
    roles, in_use = guest.kvm.pool.role.tobytes(), guest.kvm.pool.rows_in_use
    for action in ACTIONS:
        with guest.after(parse_gfn("2T+4K"), parse_gfn("14T+4K"), action):
            pass
    assert [hash(guest.kvm.pool.table(row).tobytes()) for row in rows] == before
    assert guest.kvm.pool.role.tobytes()[: len(roles)] == roles
    assert not any(guest.kvm.pool.role[len(rows) :])
    assert guest.kvm.pool.rows_in_use == in_use


@pytest.mark.parametrize("name", ["eight", "mixed"])
def test_after_takes_back_what_it_did_when_its_reader_fails(presets, name):
    guest = presets[name, "TD"]
    before = byframe.memory(guest.kvm.pool)
    with pytest.raises(KeyError), guest.after(3, 5, "split+zap"):
        raise KeyError
    assert byframe.memory(guest.kvm.pool) == before


@pytest.mark.parametrize("kind", VM_KINDS)
def test_a_visible_guest_shown_after_a_zap_may_be_touched_without_touching_the_guest(kind):
    guest = Guest("eight", kind)
    before = byframe.memory(guest.kvm.pool)
    with guest.after(3, 4, "zap") as (shown, _):
        for gfn in range(8):
            shown.touch(gfn)
            if kind == "TD":
                assert shown.accept(gfn).byte == 0
    assert byframe.memory(guest.kvm.pool) == before
    assert [guest.touch(gfn).byte for gfn in range(8)] == EIGHT


# ---- the large guest -----------------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.cases(frames=(128, 256)), byframe.kinds, byframe.actions)
def test_the_large_guests_arithmetic_says_what_step_by_step_says(case, kind, action):
    layout, start, end = case
    with large_from(0):
        large = Guest(layout, kind)
    small = Guest(layout, kind)
    assert (large.is_large, small.is_large) == (bool(layout.leaves), False)
    with (
        large.after(start, end, action) as (_, by_arithmetic),
        small.after(start, end, action) as (_, walked),
    ):
        assert by_arithmetic == walked


def test_the_arithmetic_way_is_taken_where_the_range_spans_whole_tables():
    """Else the test above would compare stepwise with stepwise."""
    layout = Layout(Geometry(2, 4, 2), (LeafRun(0, 2, 32, 0),), 128)
    with large_from(0):
        guest = Guest(layout, "TD")
    with guest.after(5, 123, "zap") as (shown, outcome):
        assert translate(shown.root, 64) is not None, "what lies inside is left to arithmetic"
        assert outcome.zapped_inside == 118


@pytest.mark.parametrize("kind", VM_KINDS)
def test_the_12_tib_range_of_the_thread_has_the_numbers_as_measured(presets, kind):
    guest, start, end = presets["16T", kind], parse_gfn("2T+4K"), parse_gfn("14T+4K")
    pages = 12 * 2**40 // 2**12
    seen = {}
    for action in ACTIONS:
        with guest.after(start, end, action) as (_, outcome):
            seen[action] = outcome
    # 25 entries of 512G, 12 289 of 1G, 6 291 457 of 2M; 2 splits cost 3 visits each; then 511 + 1 of 4K.
    assert 25 + 12_289 + 6_291_457 == 6_303_771
    assert seen["zap"].zap_visits == 6_303_771
    assert seen["split"].split_visits == 6_303_777
    assert seen["split+zap"].split_visits == 6_303_777
    assert seen["split+zap"].zap_visits == 6_304_283
    assert seen["zap"].outside_frames == seen["look"].outside_frames == 1 + 511
    assert seen["split+zap"].outside == seen["split"].outside == ()
    assert seen["zap"].zapped_inside == seen["split+zap"].zapped_inside == pages
    assert seen["split"].zapped_inside == seen["look"].zapped_inside == 0
    assert seen["split"].splits == seen["split+zap"].splits == ((start - 1, 2), (end - 1, 2))
    assert seen["look"].splits == seen["zap"].splits == ()


def test_a_look_says_what_the_split_will_visit(presets):
    for preset, start, end, visits in (
        ("16T", "2T+4K", "14T+4K", 6_303_777),
        # [1G+1M, 2G) in one 1G leaf: 1 + 1 + 512 entries of the final tables, and 2 + 3 for the two splits.
        ("one-1G", "1G+1M", "2G", 519),
    ):
        with presets[preset, "plain"].after(parse_gfn(start), parse_gfn(end), "look") as (_, outcome):
            assert outcome.split_visits == visits


@pytest.mark.parametrize(("start", "end"), [("2T", "14T"), ("2T+4K", "2T+8K"), ("0", "16T"), ("3M", "1G+5M")])
def test_the_16_tib_guest_answers_other_ranges_by_the_arithmetic_of_2m_blocks(presets, start, end):
    first, last, block = parse_gfn(start), parse_gfn(end), 512
    with presets["16T", "TD"].after(first, last, "zap") as (_, outcome):
        assert outcome.outside_frames == first % block + -last % block
        assert outcome.zapped_inside == last - first
    with presets["16T", "TD"].after(first, last, "split+zap") as (_, outcome):
        edges = {x // block * block for x in (first, last) if x % block}
        assert outcome.splits == tuple((gfn, 2) for gfn in sorted(edges))
        assert (outcome.outside_frames, outcome.zapped_inside) == (0, last - first)


# ---- the thread's own cases ----------------------------------------------------------------------------

KERNEL_FACTS_7_4 = [
    (x86(3, 1), 0, 0x40000, [], 0),
    (x86(3, 1), 0x200, 0x400, [(0, 3)], 261_632),
    (x86(3, 1), 1, 0x40000, [(0, 3), (0, 2)], 1),
    (x86(3, 1), 0, 0x3FFFF, [(0, 3), (0x3FE00, 2)], 1),
    (x86(3, 1), 0x207, 0x209, [(0, 3), (0x200, 2)], 262_142),
    (x86(3, 1), 0x3FF, 0x401, [(0, 3), (0x200, 2), (0x400, 2)], 262_142),
    (x86(3, 2), 0x3FFFF, 0x40001, [(0, 3), (0x3FE00, 2), (0x40000, 3), (0x40000, 2)], 524_286),
    (x86(3, 4), 0x200, 0xC0200, [(0, 3), (0xC0000, 3)], 262_144),
    (x86(3, 4), 7, 0xC0005, [(0, 3), (0, 2), (0xC0000, 3), (0xC0000, 2)], 262_146),
    (x86(2, 1), 0, 0x200, [], 0),
    (x86(2, 1), 1, 0x1FF, [(0, 2)], 2),
    (x86(2, 2), 0x1FF, 0x201, [(0, 2), (0x200, 2)], 1022),
    (x86(2, 2), 0, 0x201, [(0x200, 2)], 511),
]


@pytest.mark.parametrize(("layout", "start", "end", "splits", "collateral"), KERNEL_FACTS_7_4)
@pytest.mark.parametrize("kind", VM_KINDS)
def test_a_guest_repeats_the_rows_of_kernel_facts_7_4(kind, layout, start, end, splits, collateral):
    guest = Guest(layout, kind)
    tables = guest.kvm.pool.rows_in_use
    with guest.after(start, end, "zap") as (_, outcome):
        assert outcome.outside_frames == collateral
    outcome = guest.split(start, end)
    assert list(outcome.splits) == splits
    assert guest.kvm.pool.rows_in_use - tables == len(splits)
    assert guest.zap(start, end).outside_frames == 0


@pytest.mark.parametrize("kind", VM_KINDS)
def test_kais_range_crosses_the_1g_leaf_at_its_start_only(presets, kind):
    """[1G+1M, 2G) (K2): 1 MiB before the start would go; the leaf goes to 2M, its first 2M leaf to 4K."""
    guest, start, end = presets["one-1G", kind], parse_gfn("1G+1M"), parse_gfn("2G")
    gib = 2**30 // 2**12
    with guest.after(start, end, "zap") as (_, outcome):
        assert [(leaf.gfn, leaf.level) for leaf in outcome.crossing] == [(gib, 3)]
        assert [(part.start, part.end) for part in outcome.outside] == [(gib, gib + 256)]
        assert outcome.zapped_inside == gib - 256
    with guest.after(start, end, "split+zap") as (_, outcome):
        assert outcome.splits == ((gib, 3), (gib, 2))
        assert (outcome.outside, outcome.zapped_inside) == ((), gib - 256)


# ---- the guest reads -----------------------------------------------------------------------------------


def test_a_plain_guest_faults_a_zapped_frame_in_again_and_reads_its_old_byte():
    guest = Guest("eight", "plain")
    assert [guest.touch(gfn) for gfn in range(8)] == [Touch(gfn, "mapped", EIGHT[gfn]) for gfn in range(8)]
    guest.zap(3, 4)
    assert guest.touch(5) == Touch(5, "re-faulted", EIGHT[5])
    assert guest.touch(5) == Touch(5, "mapped", EIGHT[5])
    assert translate(guest.root, 5)[:3] == (5, 1, 5), "one 4K leaf on its own host frame"
    assert translate(guest.root, 4) is None, "a fault brings one frame"


def test_a_td_meets_a_violation_then_a_pending_page_and_reads_zeros_only_after_accept():
    """S171, S172."""
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    assert guest.touch(5) == Touch(5, "violation", None)
    assert guest.touch(5) == Touch(5, "pending", None)
    assert guest.accept(5) == Touch(5, "accepted", 0)
    assert guest.touch(5) == Touch(5, "mapped", 0)
    assert guest.accept(5) == Touch(5, "already accepted", 0)


def test_accept_adds_a_page_that_is_gone():
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    assert guest.accept(2) == Touch(2, "accepted", 0)
    assert guest.touch(2) == Touch(2, "mapped", 0)


def test_accept_of_a_page_that_was_never_gone_keeps_its_byte():
    guest = Guest("eight", "TD")
    assert guest.accept(6) == Touch(6, "already accepted", EIGHT[6])
    assert guest.touch(6) == Touch(6, "mapped", EIGHT[6])


def test_a_pending_page_that_is_zapped_again_is_gone_not_pending():
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    guest.touch(0)
    guest.zap(0, 1)
    assert guest.touch(0) == Touch(0, "violation", None)
    assert guest.accept(0) == Touch(0, "accepted", 0)
    assert guest.touch(0) == Touch(0, "mapped", 0)


def test_a_pending_page_survives_a_zap_elsewhere():
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    guest.touch(0)
    guest.zap(1, 2)
    assert guest.touch(0) == Touch(0, "pending", None)


def test_an_accepted_page_that_is_zapped_and_added_again_reads_zeros_again():
    guest = Guest("eight", "TD")
    guest.split(3, 4)
    guest.zap(3, 4)
    guest.accept(3)
    guest.zap(3, 4)
    assert guest.touch(3) == Touch(3, "violation", None)
    assert guest.accept(3) == Touch(3, "accepted", 0)


@settings(max_examples=150)
@given(byframe.cases(frames=(1, 64)), byframe.kinds, st.sampled_from(["zap", "split+zap"]))
def test_a_frame_that_was_not_zapped_keeps_its_byte_and_one_that_was_has_its_kinds_fate(case, kind, action):
    layout, start, end = case
    before = byframe.Frames(layout)
    after, _ = byframe.after_action(before, start, end, action)
    with Guest(layout, kind).after(start, end, action) as (guest, _):
        for gfn in (before.level > 0).nonzero()[0].tolist():
            touch = guest.touch(gfn)
            if after.level[gfn]:
                assert touch == Touch(gfn, "mapped", 0x10 + gfn)
            elif kind == "plain":
                assert touch == Touch(gfn, "re-faulted", 0x10 + gfn)
            else:
                assert touch == Touch(gfn, "violation", None)
                assert guest.accept(gfn) == Touch(gfn, "accepted", 0)


def test_a_plain_guest_accepts_nothing():
    guest = Guest("eight", "plain")
    with pytest.raises(InvalidValueError, match="only a TD accepts pages"):
        guest.accept(3)
    with pytest.raises(InvalidValueError, match="only a TD accepts pages"):
        guest.accept(99)


@pytest.mark.parametrize("method", ["touch", "accept"])
def test_a_frame_that_nothing_backs_is_refused_and_adds_nothing(method):
    guest = Guest("one-1G", "TD")
    before = byframe.memory(guest.kvm.pool)
    for gfn in (0x3FFFF, 0x80000, 1 << 60):
        with pytest.raises(InvalidValueError) as error:
            getattr(guest, method)(gfn)
        assert f"{gfn:#x}" in str(error.value)
        assert format_gfn(gfn) in str(error.value)
        assert "backs" in str(error.value)
    with pytest.raises(InvalidValueError, match="negative"):
        getattr(guest, method)(-1)
    with pytest.raises(InvalidTypeError, match=r"2\.0"):
        getattr(guest, method)(2.0)
    assert (byframe.memory(guest.kvm.pool), guest.pending) == (before, set())


def test_a_guest_too_large_to_show_reads_no_bytes_but_meets_the_same_events():
    guest = Guest("mixed", "TD")
    guest.zap(0, 1)
    assert guest.memory == {}
    assert guest.touch(0) == Touch(0, "violation", None)
    assert guest.accept(0) == Touch(0, "accepted", None)
    assert guest.touch(0) == Touch(0, "mapped", None)


def test_a_touch_says_itself_with_its_byte_in_hex_and_without_one():
    guest = Guest("eight", "TD")
    assert str(guest.touch(3)) == "frame 3: mapped, reads 13"
    guest.zap(3, 4)
    assert str(guest.touch(3)) == "frame 3: violation"


def test_the_bytes_in_sight_are_those_the_guest_can_read_now():
    guest = Guest("eight", "TD")
    assert guest.bytes_in_sight() == "10 11 12 13 14 15 16 17"
    guest.split(3, 4)
    guest.zap(3, 4)
    assert guest.bytes_in_sight() == "10 11 12 -- 14 15 16 17"
    guest.touch(3)
    assert guest.bytes_in_sight() == "10 11 12 -- 14 15 16 17", "a pending page is not readable yet"
    guest.accept(3)
    assert guest.bytes_in_sight() == "10 11 12 00 14 15 16 17"
    assert Guest(Layout(Geometry(2, 2, 2), (LeafRun(4, 1, 1, 2),), 8), "plain").bytes_in_sight() == (
        "-- -- -- -- 14 -- -- --"
    )


def test_a_guest_says_what_it_maps():
    guest = Guest("toy", "TD")
    assert repr(guest).startswith(
        "TD guest of 32 frames: 2 x 8 frames at 0, 8 x 1 frame at 16, 1 x 8 frames at 24; bytes 10 11 12"
    )
    guest.zap(0, 32)
    assert repr(guest).startswith("TD guest of 32 frames: nothing mapped; bytes --")
    assert repr(Guest("one-1G", "plain")) == "plain guest of 3G: 1 x 1G at 1G"


@pytest.mark.parametrize(
    ("kind", "action", "words"),
    [
        ("TD", "zap", ["TD", "zap", "[20K, 48K)", "7 frames", "9 frames", "lost"]),
        ("plain", "zap", ["plain", "7 frames", "9 frames"]),
        ("TD", "look", ["look", "2 leaves cross", "9 frames", "at stake"]),
        ("TD", "split", ["2 leaves", "split"]),
        ("TD", "split+zap", ["2 leaves", "split", "7 frames", "0 frames"]),
    ],
)
def test_an_outcome_says_itself_in_one_line(kind, action, words):
    """[5, 12) in leaves of 8: 7 frames inside; 5 before and 4 after share their leaves."""
    with Guest("toy", kind).after(5, 12, action) as (_, outcome):
        said = str(outcome)
    assert "\n" not in said
    assert [word for word in words if word not in said] == []


# ---- what is refused -----------------------------------------------------------------------------------


REFUSED_SPANS = [
    (5, 5, InvalidValueError, ["empty", "0x5 (20K)"]),
    (6, 5, InvalidValueError, ["0x6 (24K)", "0x5 (20K)", "start"]),
    (3, 33, InvalidValueError, ["ends at 0x20 (128K)", "0x21 (132K)", "beyond"]),
    (-1, 5, InvalidValueError, ["start", "at least 0", "-1", "negative"]),
    (0, -5, InvalidValueError, ["end", "at least 0", "-5", "negative"]),
    (1.0, 5, InvalidTypeError, ["start", "1.0", "float"]),
    (1, 5.5, InvalidTypeError, ["end", "5.5", "float"]),
    ("1", 5, InvalidTypeError, ["start", "'1'", "str"]),
    (None, 5, InvalidTypeError, ["start", "None"]),
    (True, 5, InvalidTypeError, ["start", "True", "bool"]),
    (33, 34, InvalidValueError, ["0x20 (128K)", "0x22 (136K)"]),
    (1 << 70, (1 << 70) + 1, InvalidValueError, ["0x20 (128K)", f"{(1 << 70) + 1:#x}"]),
]


@pytest.mark.parametrize(("start", "end", "error", "words"), REFUSED_SPANS)
@pytest.mark.parametrize("method", ["check_span", "look", "split", "zap", "after"])
def test_a_refused_range_is_answered_with_rule_and_value_and_changes_nothing(
    method, start, end, error, words
):
    guest = Guest("toy", "TD")
    before = byframe.memory(guest.kvm.pool)
    calls = {
        "check_span": guest.check_span,
        "look": guest.look,
        "split": guest.split,
        "zap": guest.zap,
        "after": lambda *span: guest.after(*span, "zap").__enter__(),
    }
    with pytest.raises(error) as refused:
        calls[method](start, end)
    assert [word for word in words if word not in str(refused.value)] == []
    assert byframe.memory(guest.kvm.pool) == before


def test_numpy_frames_are_frames():
    numpy = pytest.importorskip("numpy")
    span = Guest("toy", "TD").check_span(numpy.uint8(5), numpy.int64(12))
    assert (type(span.start), span.start, span.end) == (int, 5, 12)


@pytest.mark.parametrize("kind", ["td", "", "TDX", None, 5])
def test_an_unknown_kind_of_guest_is_refused_with_those_there_are(kind):
    with pytest.raises(InvalidValueError) as refused:
        Guest("toy", kind)
    assert [word for word in ("TD", "plain", repr(kind)) if word not in str(refused.value)] == []


@pytest.mark.parametrize("layout", ["Toy", "", "16t"])
def test_an_unknown_layout_is_refused_with_those_there_are(layout):
    with pytest.raises(InvalidValueError) as refused:
        Guest(layout, "TD")
    assert [word for word in (*LAYOUTS, repr(layout)) if word not in str(refused.value)] == []


@pytest.mark.parametrize("action", ["Zap", "", "zap+split", None])
def test_an_unknown_action_is_refused_with_those_there_are(action):
    guest = Guest("toy", "TD")
    with pytest.raises(InvalidValueError) as refused, guest.after(5, 12, action):
        pass
    assert [word for word in (*ACTIONS, repr(action)) if word not in str(refused.value)] == []


@pytest.mark.parametrize("kind", VM_KINDS)
def test_a_guest_larger_than_its_root_is_refused_and_a_tds_private_half_is_half(kind):
    geometry = Geometry(2, 2, 2)
    holds = {"plain": 16, "TD": 8}[kind]
    assert Guest(Layout(geometry, (LeafRun(0, 1, 1, 0),), holds), kind).frames == holds
    with pytest.raises(InvalidValueError) as refused:
        Guest(Layout(geometry, (LeafRun(0, 1, 1, 0),), holds + 1), kind)
    assert f"{holds:#x}" in str(refused.value)
    assert f"{holds + 1:#x}" in str(refused.value)


# ---- what a guest is -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "what_if"), [("16T", False), ("one-1G", True), ("mixed", True), ("eight", False)]
)
def test_only_a_td_with_a_leaf_above_2m_is_a_what_if(layout, what_if):
    assert Guest(layout, "TD").what_if is what_if
    assert Guest(layout, "plain").what_if is False


def test_a_tds_memory_is_under_its_mirror_root_and_a_plain_guests_under_its_direct_root():
    td, plain = Guest("eight", "TD"), Guest("eight", "plain")
    assert (td.root, plain.root) == (td.kvm.mirror_root, plain.kvm.direct_root)
    td.zap(0, 8)
    assert leaf_runs(td.root) == leaf_runs(td.kvm.direct_root) == []


def test_what_a_td_shares_is_left_alone():
    guest = Guest("eight", "TD")
    map_leaf(guest.kvm.direct_root, 3, 1, 40)
    guest.zap(3, 4)
    assert translate(guest.kvm.direct_root, 3) is not None


SIZES_AND_LEAVES = {
    "eight": ("32K", "1 x 32K at 0"),
    "toy": ("128K", "2 x 32K at 0, 8 x 4K at 64K, 1 x 32K at 96K"),
    "steps": ("256K", "2 x 16K at 0, 2 x 4K at 32K, 1 x 4K at 44K, 2 x 64K at 64K"),
    "large": ("256K", "4 x 64K at 0"),
    "one-1G": ("3G", "1 x 1G at 1G"),
    "two-1G": ("4G", "2 x 1G at 1G"),
    "mixed": (
        "4G",
        "1024 x 4K at 0, 254 x 2M at 4M, 1 x 1G at 1G, 192 x 2M at 2G, 512 x 4K at 2G+512M, 1 x 1G at 3G",
    ),
    "4G-4K": ("4G", "1048576 x 4K at 0"),
    "16T": ("16T", "8388608 x 2M at 0"),
    "16T-1G": ("16T", "16384 x 1G at 0"),
    "16T-empty": ("16T", ""),
}


def test_the_named_layouts_are_these():
    """By hand: menus, notebooks and expectations elsewhere say in words what they hold."""
    told = {
        name: ", ".join(
            f"{run.count} x {layout.geometry.level(run.level).label} at {format_gfn(run.gfn)}"
            for run in layout.leaves
        )
        for name, layout in LAYOUTS.items()
    }
    sizes = {name: format_gfn(layout.frames) for name, layout in LAYOUTS.items()}
    assert {name: (sizes[name], told[name]) for name in LAYOUTS} == SIZES_AND_LEAVES


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_named_layout_maps_each_frame_it_backs_and_no_other(presets, name):
    guest = presets.get((name, "plain")) or Guest(name, "plain")
    if not LAYOUTS[name].is_large:
        assert leaf_runs(guest.root) == list(LAYOUTS[name].leaves)
    for gfn, level, count, _ in LAYOUTS[name].leaves:
        pages = guest.geometry.pages(level)
        last = gfn + count * pages - 1
        assert last < guest.frames
        for frame in (gfn, (gfn + last) // 2, last):
            assert translate(guest.root, frame)[:3] == (frame // pages * pages, level, frame // pages * pages)
            assert guest.host_frame(frame) == frame


def test_each_frame_of_a_small_guest_shows_a_byte_of_its_own_and_none_shows_zero():
    for layout, frames in (("eight", 8), ("toy", 32)):
        guest = Guest(layout, "TD")
        assert sorted(guest.memory) == list(range(frames))
        assert len(set(guest.memory.values())) == frames
        assert 0 not in guest.memory.values()


@pytest.mark.parametrize("layout", ["eight", "one-1G", "mixed"])
def test_after_starts_from_the_layout_whatever_was_done_before(layout):
    """Else the same question would have two answers, and one for small and one for larger guests."""
    guest = Guest(layout, "TD")
    start = 3 if layout == "eight" else parse_gfn("1G+4K")
    end = start + 1
    with guest.after(start, end, "zap") as (_, fresh):
        pass
    guest.zap(start, end)
    guest.touch(start)
    with guest.after(start, end, "zap") as (twin, again):
        twin.touch(start)
    assert again == fresh
    assert fresh.outside_frames > 0
    assert guest.touch(start).event == "pending", "and this guest stays as it was"


def test_a_touch_of_the_guest_after_an_action_is_not_carried_over():
    guest = Guest("one-1G", "TD")
    with guest.after(0x40100, 0x80000, "zap") as (after, fresh):
        after.touch(0x40000)
    assert guest.pending == set()
    with guest.after(0x40100, 0x80000, "zap") as (_, again):
        pass
    assert again == fresh
    assert guest.root.pool.rows_in_use == Guest("one-1G", "TD").root.pool.rows_in_use


# ---- what was there to see -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VM_KINDS)
def test_sight_tells_what_zaps_took_and_who_asked(kind):
    guest = Guest("eight", kind)
    assert guest.sight().gone == {}
    zapped = guest.zap(3, 4).sight
    assert zapped.gone == {gfn: gfn == 3 for gfn in range(8)}
    assert (zapped.leaves, zapped.memory, zapped.frames) == ((), tuple(EIGHT), 8)
    touched = guest.touch(5).sight
    assert touched.leaves == (LeafRun(5, 1, 1, 5),)
    assert touched.pending == ({5} if kind == "TD" else set())
    assert zapped.leaves == (), "an earlier sight stays as it was"


def test_looking_and_what_after_takes_back_leave_no_trace():
    guest = Guest("toy", "TD")
    before = guest.sight()
    assert guest.look(5, 12).sight == before
    with guest.after(5, 12, "zap") as (_, outcome):
        assert outcome.sight is None
    assert guest.sight() == before


def test_two_touches_are_equal_whatever_there_was_to_see():
    one, other = Guest("eight", "TD"), Guest("toy", "TD")
    assert one.touch(5) == other.touch(5)
    assert one.look(0, 8) != other.look(0, 16)
