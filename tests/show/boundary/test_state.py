"""The explorer's state, against frames counted one by one; its sentences, against numbers worked by hand."""

import re

import numpy as np
import pytest
from hypothesis import given, settings

from tdpkit.engine.gfn import Geometry, InvalidTypeError, InvalidValueError, format_gfn, name_gfn, parse_gfn
from tdpkit.engine.tree import LeafRun
from tdpkit.lab import layouts
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest
from tdpkit.lab.layouts import Layout
from tdpkit.show.boundary.state import boundary_state, left_state
from tdpkit.show.boundary.words import WHAT_IF, boundary_words
from tdpkit.show.strips import Cell
from tests.oracles import byframe

KINDS = [
    "hole",
    "leaf1",
    "leaf2",
    "leaf3",
    "leaf4",
    "table",
    "crossing",
    "split",
    "zapped",
    "lost",
    "refaulted",
]
CODE = {kind: number for number, kind in enumerate(KINDS)}
MIXED_SPANS = [
    ("6M+12K", "3G+513M"),  # as the preset opens: a 2M leaf and a 1G leaf
    ("4M-4K", "4M+4K"),  # 4K leaves on the one side, a 2M leaf on the other
    ("600M", "1G+1M"),  # starts in a hole
    ("1G+512M", "3G+512M"),  # both edges on 2M blocks of 1G leaves
    ("1G+4K", "1G+12K"),  # both edges in one 2M block of one leaf
    ("2G+200M+4K", "2G+512M+40K"),
    ("0", "4G"),
    ("4G-4K", "4G"),
]
TOY_SPANS = [(5, 12), (0, 32), (3, 4), (17, 19), (15, 25), (24, 31), (31, 32), (8, 16)]


@pytest.fixture(scope="module")
def guests():
    return {(name, kind): Guest(name, kind) for name in byframe.GUESTS for kind in VM_KINDS}


def strips_of(state) -> list:
    return [state.guest, *(strip for lens in state.lenses for strip in lens.strips)]


def told(strip) -> np.ndarray:
    """The kind of each frame, as the cells say."""
    kinds = np.full(strip.last - strip.first, -1, dtype=np.int8)
    for cell in strip.cells:
        kinds[cell.first - strip.first : cell.last - strip.first] = CODE[cell.kind]
    return kinds


class Model:
    """What each frame of each strip must be, from frames alone."""

    def __init__(self, before, kind, start, end, action) -> None:
        self.before = before
        self.after, _ = byframe.after_action(before, start, end, action)
        self.frame = np.arange(len(before.level))
        self.inside = (self.frame >= start) & (self.frame < end)
        self.zap = "zap" in action
        self.away = CODE["lost" if kind == "TD" else "refaulted"]
        crossing = [gfn for gfn, _ in before.crossing(start, end)] if action == "look" else []
        self.crossing = (before.level > 0) & np.isin(before.leaf, crossing)

    def guest(self) -> np.ndarray:
        """By the layout: leaves as they were, but for what is gone."""
        mapped = self.before.level > 0
        kinds = np.where(mapped, self.before.level + CODE["leaf1"] - 1, CODE["hole"])
        if self.zap:
            kinds[mapped & self.inside] = CODE["zapped"]
            kinds[mapped & ~self.inside & (self.after.level == 0)] = self.away
        return kinds

    def strip(self, level: int, first: int, last: int) -> np.ndarray:
        """The entries of `level`; those of a larger leaf say what becomes of its frames."""
        here = slice(first, last)
        was, now, inside = self.before.level[here], self.after.level[here], self.inside[here]
        kinds = np.where(now > 0, now + CODE["leaf1"] - 1, CODE["hole"])
        kinds[(now == level) & (was != level)] = CODE["split"]
        kinds[self.crossing[here] & ((now == level) | ~inside)] = CODE["crossing"]
        kinds[(was > 0) & (now == 0)] = self.away
        kinds[(was > 0) & (now == 0) & inside] = CODE["zapped"]
        tables = sorted(self.after.reached.get(level, ()))
        kinds[np.isin(self.frame[here] // self.after.pages(level), tables)] = CODE["table"]
        return kinds


def check_strips(state, before, kind, start, end, action) -> None:
    model = Model(before, kind, start, end, action)
    assert np.array_equal(told(state.guest), model.guest()), "the guest's own strip"
    for lens in state.lenses:
        for strip in lens.strips:
            level = int(re.match(r"level (\d) ", strip.label)[1])
            expected = model.strip(level, strip.first, strip.last)
            wrong = np.flatnonzero(told(strip) != expected)
            assert wrong.size == 0, (
                f"{lens.name}, level {level}, frame {strip.first + wrong[0]:#x} is "
                f"{KINDS[expected[wrong[0]]]}, shown as {KINDS[told(strip)[wrong[0]]]}"
            )


# ---- every frame of every strip ------------------------------------------------------------------------


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_every_frame_of_every_strip_is_what_counting_frames_says(case, kind, action):
    layout, start, end = case
    state = boundary_state(Guest(layout, kind), start, end, action)
    check_strips(state, byframe.Frames(layout), kind, start, end, action)


@settings(max_examples=150)
@given(byframe.cases(frames=(128, 256)), byframe.kinds, byframe.actions)
def test_a_large_guest_is_drawn_as_a_small_one_with_the_same_leaves(case, kind, action):
    layout, start, end = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_STEPWISE_LEAVES", 0)
        large = Guest(layout, kind)
    drawn = boundary_state(large, start, end, action)
    assert drawn == boundary_state(Guest(layout, kind), start, end, action)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize(("start", "end"), TOY_SPANS)
def test_the_toy_is_drawn_frame_by_frame(guests, kind, action, start, end):
    state = boundary_state(guests["toy", kind], start, end, action)
    check_strips(state, byframe.named("toy"), kind, start, end, action)


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("start", "end"), MIXED_SPANS)
def test_the_mixed_guest_is_drawn_frame_by_frame(guests, action, start, end):
    first, last = parse_gfn(start), parse_gfn(end)
    for kind in VM_KINDS:
        state = boundary_state(guests["mixed", kind], first, last, action)
        check_strips(state, byframe.named("mixed"), kind, first, last, action)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_cells_tile_their_strip_and_equal_neighbours_are_one_run(case, kind, action):
    layout, start, end = case
    state = boundary_state(Guest(layout, kind), start, end, action)
    for strip in strips_of(state):
        assert strip.cells[0].first == strip.first
        assert strip.cells[-1].last == strip.last
        for cell, after in zip(strip.cells, (*strip.cells[1:], Cell(strip.last, 0, "")), strict=True):
            assert cell.first < cell.last == after.first
            if strip is not state.guest and cell.kind == after.kind:
                assert cell.kind == "crossing", "only crossing leaves stand by themselves"


@pytest.mark.parametrize("kind", VM_KINDS)
def test_the_guest_s_own_strip_has_a_border_for_each_leaf_and_none_at_the_edges_of_the_range(guests, kind):
    """The toy's leaves begin at 0, 8, 16 to 23, and 24; a range is no border as long as nothing is zapped."""
    for start, end in TOY_SPANS:
        for action in ("look", "split"):
            state = boundary_state(guests["toy", kind], start, end, action)
            assert [cell.first for cell in state.guest.cells] == [0, 8, *range(16, 24), 24]


def test_leaves_too_many_to_be_told_apart_are_one_run_of_the_guest_s_own_strip(guests):
    state = boundary_state(guests["16T", "TD"], parse_gfn("2T+4K"), parse_gfn("14T+4K"), "look")
    assert state.guest.cells == (Cell(0, 1 << 32, "leaf2"),)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_a_strip_says_where_it_has_no_entries_since_a_larger_leaf_covers_it(case, kind, action):
    layout, start, end = case
    state = boundary_state(Guest(layout, kind), start, end, action)
    after, _ = byframe.after_action(byframe.Frames(layout), start, end, action)
    for lens in state.lenses:
        for strip in lens.strips:
            level = int(re.match(r"level (\d) ", strip.label)[1])
            covered = np.zeros(layout.frames, dtype=bool)
            for first, last in strip.inside:
                covered[first:last] = True
            here = slice(strip.first, min(strip.last, layout.frames))
            assert np.array_equal(covered[here], after.level[here] > level)


@settings(max_examples=150)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_legend_names_each_kind_that_occurs_once_and_no_other(case, kind, action):
    layout, start, end = case
    state = boundary_state(Guest(layout, kind), start, end, action)
    legend = boundary_words(state).legend
    named = [kind for kind, _ in legend]
    assert len(named) == len(set(named)) == len({name for _, name in legend})
    assert set(named) == {cell.kind for strip in strips_of(state) for cell in strip.cells}


@pytest.mark.parametrize(("start", "end"), [("2T", "14T"), ("2T", "14T+4K"), ("2T+4K", "14T"), ("0", "16T")])
def test_in_the_16_tib_guest_a_zapped_edge_looks_zapped_where_no_leaf_crosses_it(guests, start, end):
    first, last = parse_gfn(start), parse_gfn(end)
    state = boundary_state(guests["16T", "TD"], first, last, "zap")
    for lens, edge in zip(state.lenses, (first, last), strict=True):
        if edge % 512 == 0:
            kinds = [{cell.kind for cell in strip.cells} for strip in lens.strips]
            assert kinds == [{"table"}, {"zapped"}, {"zapped"}]


# ---- the lenses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one-1G", "mixed", "16T"])
@pytest.mark.parametrize("action", ACTIONS)
def test_each_lens_leads_from_the_largest_leafs_level_down_to_the_frame_at_its_edge(guests, name, action):
    spans = {
        "one-1G": [("1G+1M", "2G"), ("4K", "3G")],
        "mixed": MIXED_SPANS,
        "16T": [("2T+4K", "14T+4K"), ("0", "16T"), ("8T-4K", "8T+4K")],
    }
    guest = guests[name, "TD"]
    for start, end in spans[name]:
        first, last = parse_gfn(start), parse_gfn(end)
        state = boundary_state(guest, first, last, action)
        assert [(lens.name, lens.edge) for lens in state.lenses] == [("start", first), ("end", last)]
        for lens, at in zip(state.lenses, (first, last - 1), strict=True):
            above = (0, 512**3)  # the level 4 entry that holds the whole of these guests, or of this frame
            above = (at // above[1] * above[1], at // above[1] * above[1] + above[1])
            for level, strip in zip((3, 2, 1), lens.strips, strict=True):
                assert (strip.first, strip.last) == (above[0], min(above[1], guest.frames))
                pages = 512 ** (level - 1)
                assert strip.focus == (at // pages * pages, at // pages * pages + pages)
                assert strip.label == f"level {level} · {['4K', '2M', '1G'][level - 1]} per entry"
                above = strip.focus


@pytest.mark.parametrize("kind", VM_KINDS)
def test_the_toy_shows_all_its_frames_at_both_levels_and_the_byte_of_each(guests, kind):
    state = boundary_state(guests["toy", kind], 5, 12, "look")
    [lens] = state.lenses
    assert [(strip.first, strip.last) for strip in lens.strips] == [(0, 32), (0, 32)]
    assert list(state.memory) == [f"{0x10 + gfn:02x}" for gfn in range(32)]


@settings(max_examples=150)
@given(byframe.cases(frames=(1, 64)), byframe.kinds, byframe.actions)
def test_what_the_guest_reads_afterwards_follows_from_its_kind(case, kind, action):
    layout, start, end = case
    before = byframe.Frames(layout)
    after, _ = byframe.after_action(before, start, end, action)
    expected = []
    for gfn in range(layout.frames):
        if "zap" in action and start <= gfn < end:
            expected.append("··")
        elif not before.level[gfn]:
            expected.append("--")
        elif after.level[gfn] or kind == "plain":
            expected.append(f"{0x10 + gfn:02x}")
        else:
            expected.append("00")
    assert list(boundary_state(Guest(layout, kind), start, end, action).memory) == expected


def test_a_guest_too_large_to_show_has_no_bytes_to_read(guests):
    assert boundary_state(guests["one-1G", "TD"], 0x40100, 0x80000, "zap").memory == ()


# ---- in words ------------------------------------------------------------------------------------------


def spaced(number: int) -> str:
    """6303771 as ``6 303 771``, by cutting threes off the end."""
    digits, parts = str(number), []
    while digits:
        digits, parts = digits[:-3], [digits[-3:], *parts]
    return " ".join(parts)


@settings(max_examples=100)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_answer_names_the_kind_of_vm_the_leaves_and_the_numbers(case, kind, action):
    layout, start, end = case
    counted = byframe.expected(byframe.Frames(layout), start, end, action)
    state = boundary_state(Guest(layout, kind), start, end, action)
    assert boundary_words(state).answer.startswith("TD: " if kind == "TD" else "Plain VM: ")
    assert state.kind == kind
    words = []
    if action == "look":
        for gfn, level in counted.crossing:
            pages = layout.geometry.pages(level)
            if layout.frames <= 64:  # its bytes are shown, and its frames are numbered
                words.append(f"the {pages}-frame leaf at frame {gfn} crosses the")
            else:
                words.append(f"the {format_gfn(pages)} leaf at {format_gfn(gfn)} crosses the")
    if action in ("look", "zap") and counted.outside:
        before = sum(last - first for first, last in counted.outside if last <= start)
        after = sum(last - first for first, last in counted.outside if first >= end)
        words += [f"{spaced(before + after)} frame"]
        words += [f"{spaced(before)} before the start"] * bool(before and after)
        words += [f"{spaced(after)} after the end"] * bool(before and after)
        words += ["before the start"] * bool(before) + ["after the end"] * bool(after)
    elif "zap" in action:
        words += [f"exactly {spaced(counted.zapped_inside)} frame", "none outside"]
    if "split" in action:
        words += (
            [f"{len(counted.splits)} split"]
            if counted.splits or action == "split+zap"
            else ["nothing to split"]
        )
    assert [word for word in words if word not in boundary_words(state).answer] == []


@settings(max_examples=100)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_role_of_the_answer_is_bad_exactly_where_a_td_would_lose_frames(case, kind, action):
    layout, start, end = case
    lost = action in ("look", "zap") and bool(
        byframe.expected(byframe.Frames(layout), start, end, action).outside
    )
    state = boundary_state(Guest(layout, kind), start, end, action)
    words = boundary_words(state)
    assert words.role == ("good" if not lost else "bad" if kind == "TD" else "ink")
    assert any(counter.role == "bad" for counter in words.counters) == (lost and kind == "TD")


ONE_OF_MANY = r"(?<!\d)(?<!\d )1 (frames|splits|leaves|tables|entries)\b"
MANY_OF_ONE = r"(?<!\d)(?:(?!1 )\d+|\d+ \d{3}) (frame|split|leaf|table|entry)\b(?! leaf)"
ONE_ARE = r"(?<!\d)(?<!\d )1 frame\b[^.;]*\b(are|them)\b|(?<!\d )1 frame\b[^.;]*\. The guest faults them"


@settings(max_examples=100)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_one_frame_is_singular_and_all_other_counts_are_plural(case, kind, action):
    layout, start, end = case
    state = boundary_state(Guest(layout, kind), start, end, action)
    words = boundary_words(state)
    texts = [words.answer, *(caption for caption, _ in words.captions)]
    texts += [cell.text for strip in strips_of(state) for cell in strip.cells]
    assert [text for text in texts if re.search(f"{ONE_OF_MANY}|{MANY_OF_ONE}|{ONE_ARE}", text)] == []


@settings(max_examples=100)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_counters_say_the_counted_numbers(case, kind, action):
    layout, start, end = case
    counted = byframe.expected(byframe.Frames(layout), start, end, action)
    state = boundary_state(Guest(layout, kind), start, end, action)
    counters = boundary_words(state).counters
    assert [counter.value for counter in counters] == [
        spaced(counted.split_visits + counted.zap_visits),
        spaced(len(counted.crossing)),
        spaced(len(counted.splits)),
        spaced(len(counted.splits)),
        spaced(sum(last - first for first, last in counted.outside)),
    ]
    captions = [counter.caption for counter in counters]
    one = [counter.value == "1" for counter in counters]
    assert captions[1] == ("crossing leaf" if one[1] else "crossing leaves")
    assert captions[2:4] == (["split", "page table added"] if one[2] else ["splits", "page tables added"])
    assert captions[4].startswith("frame " if one[4] else "frames ")
    fate = "at stake" if action == "look" else "lost" if kind == "TD" else "re-fault"
    assert fate in captions[4]


@settings(max_examples=100)
@given(byframe.cases(frames=(128, 256)), byframe.kinds, byframe.actions)
def test_the_caption_of_a_lens_counts_the_frames_on_its_own_side(case, kind, action):
    layout, start, end = case
    before = byframe.Frames(layout)
    outside = byframe.expected(before, start, end, "look").outside
    captions = boundary_words(boundary_state(Guest(layout, kind), start, end, action)).captions
    for (caption, role), side, edge in (
        (captions[0], sum(last - first for first, last in outside if last <= start), "start"),
        (captions[1], sum(last - first for first, last in outside if first >= end), "end"),
    ):
        if not side:
            assert (caption, role) == (f"no leaf crosses the {edge}", "good")
            continue
        assert f"{spaced(side)} frame" in caption
        word = {"look": "at stake", "zap": "lost" if kind == "TD" else "faulted in again"}.get(action, "safe")
        assert word in caption


def test_each_cell_says_what_it_is(guests):
    """Over [5, 12) of the toy (leaves of 8, then eight of 1, then one of 8): worked by hand."""
    texts = {}
    for action in ACTIONS:
        state = boundary_state(guests["toy", "TD"], 5, 12, action)
        texts[action] = [[cell[:2] + cell[3:] for cell in strip.cells] for strip in state.lenses[0].strips]
    above = [(16, 24, "table"), (24, 32, "1 × 8 frames")]
    rest = [(16, 24, "8 × 1 frame"), (24, 32, "inside the 8-frame leaf")]
    assert texts["look"] == [
        [(0, 8, "crosses"), (8, 16, "crosses"), *above],
        [
            *[(0, 5, "5 frames at stake"), (5, 12, "7 frames in the range"), (12, 16, "4 frames at stake")],
            *rest,
        ],
    ]
    assert texts["zap"] == [
        [(0, 5, "5 frames lost"), (5, 12, "7 frames zapped"), (12, 16, "4 frames lost"), *above],
        [(0, 5, "5 frames lost"), (5, 12, "7 frames zapped"), (12, 16, "4 frames lost"), *rest],
    ]
    assert texts["split"] == [
        [(0, 24, "3 tables"), (24, 32, "1 × 8 frames")],
        [(0, 16, "16 × 1 frame"), *rest],
    ]
    assert texts["split+zap"] == [
        [(0, 24, "3 tables"), (24, 32, "1 × 8 frames")],
        [(0, 5, "5 × 1 frame"), (5, 12, "7 frames zapped"), (12, 16, "4 × 1 frame"), *rest],
    ]


@pytest.mark.parametrize(
    ("name", "note"), [("mixed", WHAT_IF), ("one-1G", WHAT_IF), ("toy", ""), ("16T", "")]
)
def test_a_td_with_a_1g_leaf_is_marked_as_a_what_if_and_nothing_else_is(guests, name, note):
    for action in ACTIONS:
        for kind, said in (("TD", note), ("plain", "")):
            assert boundary_words(boundary_state(guests[name, kind], 0x5, 0xC, action)).note == said
    assert "what-if" in WHAT_IF
    assert "2M" in WHAT_IF


# ---- worked by hand ------------------------------------------------------------------------------------


def said(state) -> tuple[str, str, list[str], list[str]]:
    words = boundary_words(state)
    captions = [caption for caption, _ in words.captions]
    return words.title, words.answer, captions, [counter.value for counter in words.counters]


def test_kais_range_is_answered_in_these_words(guests):
    """[1G+1M, 2G) in one 1G leaf (K2).

    1 MiB before the start is 256 frames. The leaf goes to 2M, its first 2M leaf to 4K: 2 splits, 2 tables. A
    split visits 1 + 1 entry of levels 4 and 3, all 512 of level 2, and 2 + 3 again for its splits: 519. The
    zap after it 1 + 1 + 512 and the 256 upper entries of the 4K table: 770. Without a split it stops at the
    1G entry: 2. 2^18 - 256 frames are in the range.
    """
    guest, start, end = guests["one-1G", "plain"], parse_gfn("1G+1M"), parse_gfn("2G")
    assert said(boundary_state(guest, start, end, "look")) == (
        "Look at [1G+1M, 2G) of a 3G plain VM",
        "Plain VM: the 1G leaf at 1G crosses the start; without a split, a zap takes 256 frames before the "
        "start too.",
        ["at stake: 256 frames before the start", "no leaf crosses the end"],
        ["519", "1", "0", "0", "256"],
    )
    assert said(boundary_state(guest, start, end, "zap")) == (
        "Zap [1G+1M, 2G) of a 3G plain VM",
        "Plain VM: 256 frames before the start went too. The guest faults them in again; the contents are "
        "kept.",
        ["to be faulted in again: 256 frames before the start", "no leaf crosses the end"],
        ["2", "1", "0", "0", "256"],
    )
    assert said(boundary_state(guest, start, end, "split")) == (
        "Split the edges of [1G+1M, 2G) of a 3G plain VM",
        "Plain VM: 2 splits; no leaf crosses an edge any more, every translation is as it was.",
        ["safe: 256 frames before the start in leaves of their own", "no leaf crosses the end"],
        ["519", "1", "2", "2", "0"],
    )
    assert said(boundary_state(guest, start, end, "split+zap")) == (
        "Split, then zap [1G+1M, 2G) of a 3G plain VM",
        "Plain VM: 2 splits, then the zap; exactly 261 888 frames in the range are gone, none outside.",
        ["safe: 256 frames before the start in leaves of their own", "no leaf crosses the end"],
        ["1 289", "1", "2", "2", "0"],
    )


def test_the_12_tib_range_is_answered_in_these_words(guests):
    """[2T+4K, 14T+4K) over 2M leaves (M2): 1 frame before the start, 511 after the end; S230."""
    guest, start, end = guests["16T", "TD"], parse_gfn("2T+4K"), parse_gfn("14T+4K")
    assert said(boundary_state(guest, start, end, "look")) == (
        "Look at [2T+4K, 14T+4K) of a 16T TD",
        "TD: the 2M leaf at 2T crosses the start, the 2M leaf at 14T crosses the end; without a split, a zap "
        "takes 512 frames outside the range (1 before the start, 511 after the end) too.",
        [
            "at stake: 1 frame before the start",
            "at stake: 511 frames after the end",
        ],
        ["6 303 777", "2", "0", "0", "512"],
    )
    assert said(boundary_state(guest, start, end, "zap")) == (
        "Zap [2T+4K, 14T+4K) of a 16T TD",
        "TD: 512 frames outside the range (1 before the start, 511 after the end) are lost. There the guest "
        "meets an EPT violation, must ACCEPT again, and reads zeros.",
        ["lost: 1 frame before the start", "lost: 511 frames after the end"],
        ["6 303 771", "2", "0", "0", "512"],
    )
    assert said(boundary_state(guest, start, end, "split")) == (
        "Split the edges of [2T+4K, 14T+4K) of a 16T TD",
        "TD: 2 splits; no leaf crosses an edge any more, every translation is as it was.",
        [
            "safe: 1 frame before the start in leaves of their own",
            "safe: 511 frames after the end in leaves of their own",
        ],
        ["6 303 777", "2", "2", "2", "0"],
    )
    assert said(boundary_state(guest, start, end, "split+zap")) == (
        "Split, then zap [2T+4K, 14T+4K) of a 16T TD",
        "TD: 2 splits, then the zap; exactly 3 221 225 472 frames in the range are gone, none outside.",
        [
            "safe: 1 frame before the start in leaves of their own",
            "safe: 511 frames after the end in leaves of their own",
        ],
        ["12 608 060", "2", "2", "2", "0"],
    )


def test_the_lenses_of_the_12_tib_range_show_these_cells(guests):
    guest, start, end = guests["16T", "TD"], parse_gfn("2T+4K"), parse_gfn("14T+4K")

    def cells(action: str, lens: int) -> list[list[tuple[str, str, str]]]:
        """(length, kind, text) of each cell of each strip."""
        strips = boundary_state(guest, start, end, action).lenses[lens].strips
        return [[(format_gfn(c.last - c.first), c.kind, c.text) for c in strip.cells] for strip in strips]

    tables, rest = [("512G", "table", "512 tables")], "1022M"
    assert cells("look", 0) == [
        tables,
        [("2M", "crossing", "crosses"), (rest, "leaf2", "511 × 2M")],
        [("4K", "crossing", "1 frame at stake"), ("1M+1020K", "leaf2", "511 frames in the range")],
    ]
    assert cells("look", 1) == [
        tables,
        [("2M", "crossing", "crosses"), (rest, "leaf2", "511 × 2M")],
        [("4K", "leaf2", "1 frame in the range"), ("1M+1020K", "crossing", "511 frames at stake")],
    ]
    assert cells("zap", 0) == [
        tables,
        [("4K", "lost", "1 frame lost"), ("1023M+1020K", "zapped", "262 143 frames zapped")],
        [("4K", "lost", "1 frame lost"), ("1M+1020K", "zapped", "511 frames zapped")],
    ]
    assert cells("zap", 1) == [
        tables,
        [
            ("4K", "zapped", "1 frame zapped"),
            ("1M+1020K", "lost", "511 frames lost"),
            (rest, "leaf2", "511 × 2M"),
        ],
        [("4K", "zapped", "1 frame zapped"), ("1M+1020K", "lost", "511 frames lost")],
    ]
    assert cells("split", 0) == [
        tables,
        [("2M", "table", "table"), (rest, "leaf2", "511 × 2M")],
        [("2M", "split", "512 × 4K")],
    ]
    assert cells("split+zap", 1) == [
        tables,
        [("2M", "table", "table"), (rest, "leaf2", "511 × 2M")],
        [("4K", "zapped", "1 frame zapped"), ("1M+1020K", "split", "511 × 4K")],
    ]


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy", "one-1G"])
@pytest.mark.parametrize(
    ("start", "end", "action", "error"),
    [
        (5, 5, "zap", InvalidValueError),
        (6, 5, "zap", InvalidValueError),
        (5, 1 << 40, "zap", InvalidValueError),
        (-1, 5, "zap", InvalidValueError),
        (1.5, 5, "zap", InvalidTypeError),
        (5, 6, "ZAP", InvalidValueError),
    ],
)
def test_what_breaks_a_rule_is_refused_and_the_guest_stays(guests, name, start, end, action, error):
    guest = guests[name, "TD"]
    before = byframe.memory(guest.kvm.pool)
    with pytest.raises(error):
        boundary_state(guest, start, end, action)
    assert byframe.memory(guest.kvm.pool) == before


@pytest.mark.parametrize("name", ["toy", "mixed"])
def test_asking_for_a_state_leaves_the_guest_as_it_was(guests, name):
    guest = guests[name, "TD"]
    before, bytes_before = byframe.memory(guest.kvm.pool), dict(guest.memory)
    for action in ACTIONS:
        boundary_state(guest, 5, 12, action)
    assert (byframe.memory(guest.kvm.pool), guest.memory, guest.pending) == (before, bytes_before, set())


@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["eight", "mixed"])
def test_asking_for_a_state_leaves_a_guest_alone_that_was_zapped_before(name, kind, action):
    guest = Guest(name, kind)
    guest.zap(3, 4)
    before, bytes_before = byframe.memory(guest.kvm.pool), dict(guest.memory)
    boundary_state(guest, 5, 7, action)
    assert (byframe.memory(guest.kvm.pool), guest.memory, guest.pending) == (before, bytes_before, set())


def test_a_guest_with_nothing_mapped_is_one_hole():
    for frames in (8, 128):
        guest = Guest(Layout(Geometry(3, 4, 2), (), frames), "TD")
        for action in ACTIONS:
            state = boundary_state(guest, 1, frames - 1, action)
            assert {cell.kind for strip in strips_of(state) for cell in strip.cells} <= {"hole"}


def test_the_name_of_an_edge_is_its_number_and_its_address(guests):
    lens = boundary_state(guests["one-1G", "TD"], 0x40100, 0x80000, "look").lenses[0]
    assert name_gfn(lens.edge) == "0x40100 (1G+1M)"


def test_a_leaf_of_the_roots_level_is_a_leaf_like_any_other():
    layout = Layout(Geometry(3, 3, 3), (LeafRun(0, 3, 2, 0),), 256)
    state = boundary_state(Guest(layout, "plain"), 70, 256, "look")
    check_strips(state, byframe.Frames(layout), "plain", 70, 256, "look")
    assert "the 256K leaf at 256K crosses the start" in boundary_words(state).answer


# ---- what somebody's conversion left -------------------------------------------------------------------

CONVERSIONS = {
    "split and zap": [("split", 5, 12), ("zap", 5, 12)],
    "zap": [("zap", 5, 12)],
    "nothing": [],
    "split": [("split", 5, 12)],
    "too little": [("split", 5, 12), ("zap", 5, 11)],
    "one end": [("split", 5, 32), ("zap", 5, 12)],
    "elsewhere": [("zap", 24, 25)],
}


@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize("calls", CONVERSIONS.values(), ids=CONVERSIONS)
def test_what_a_conversion_left_is_drawn_frame_by_frame(kind, calls):
    """The toy by hand: leaves of eight frames but for 16 to 23, [5, 12) to be converted."""
    guest, whole, gone = Guest("toy", kind), {0, 8, 24}, set()
    for name, start, end in calls:
        getattr(guest, name)(start, end)
        for leaf in sorted(whole):
            inside = set(range(leaf, leaf + 8)) & set(range(start, end))
            if name == "split" and 0 < len(inside) < 8:
                whole.remove(leaf)
            if name == "zap" and inside:
                gone |= set(range(leaf, leaf + 8))
        gone |= set(range(start, end)) if name == "zap" else set()
    inside, lost = set(range(5, 12)), "lost" if kind == "TD" else "refaulted"
    state = left_state(guest, 5, 12)
    for frame in range(32):
        leaf = "leaf2" if frame // 8 * 8 in whole else "leaf1"
        expected = leaf if frame not in gone else "zapped" if frame in inside else lost
        assert KINDS[told(state.guest)[frame]] == expected, frame
        byte = "··" if frame in gone & inside else f"{0x10 + frame:02x}"
        assert state.memory[frame] == ("00" if frame in gone - inside and kind == "TD" else byte), frame
    words, kept = boundary_words(state), len(inside - gone)
    assert [int(counter.value) for counter in words.counters] == [
        len(gone & inside), kept, 3 - len(whole), len(gone - inside)
    ]  # fmt: skip
    assert (words.role == "bad") is (gone != inside)
    assert ("the range is gone" in words.answer) is (kept == 0)
    assert (f"{kept} frame" in words.answer) is (kept > 0)
    vm = "TD" if kind == "TD" else "plain VM"
    assert words.title == f"After a conversion of [5, 12) of a {vm} of 32 frames"


def test_a_range_of_another_guest_was_not_converted():
    for start, end in ((5, 5), (9, 3), (0, 33)):
        with pytest.raises(InvalidValueError):
            left_state(Guest("toy", "TD"), start, end)


def test_of_a_range_without_frames_nothing_is_gone():
    state = left_state(Guest(Layout(layouts.TOY, (LeafRun(0, 1, 4, 0),), 8), "TD"), 5, 7)
    assert (
        boundary_words(state).answer == "TD: nothing was mapped in the range; nothing outside it was taken."
    )
