"""The memory of a split: arithmetic against brute force and against the engine, and the thread's numbers."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.lab.budget import (
    DYNAMIC,
    KINDS,
    MOST_SPLITS,
    PLAIN,
    SPLITTING,
    TD,
    Budget,
    Pages,
    measure,
    predict,
    splits_at_edges,
)
from tdpkit.lab.layouts import LAYOUTS, TALL_TOY, Layout, full_of, layout_of
from tests.oracles import brute

GIB = parse_gfn("1G")


# ---- an oracle: one list of splits, one page after the other ---------------------------------------------


def table_of(layout: Layout) -> list:
    """The layout as lists, by asking each entry what it holds."""
    leaves = {
        (gfn + n * brute.pages(layout.geometry, level), level)
        for gfn, level, count, _ in layout.leaves
        for n in range(count)
    }
    starts = {gfn for gfn, _ in leaves}

    def table(level: int, base: int) -> list:
        size = brute.pages(layout.geometry, level)
        return [entry(level, base + n * size, size) for n in range(2**layout.geometry.index_bits)]

    def entry(level: int, gfn: int, size: int):
        if (gfn, level) in leaves:
            return brute.leaf(gfn, level)
        return table(level - 1, gfn) if starts & {*range(gfn, gfn + size)} else brute.HOLE

    return table(layout.geometry.root_level, 0)


def splits_of(layout: Layout, start: int, end: int, split: str) -> list[tuple[int, int]]:
    """(gfn, level) of each split, in the order of the walk."""
    geometry, table = layout.geometry, table_of(layout)
    if split == "edges":
        return brute.split_at_edges(geometry, table, start, end)[1]

    def must(gfn: int, level: int) -> bool:
        return brute.touches(gfn, brute.pages(geometry, level), start, end)

    return brute.split(geometry, table, must)[1]


def taken(layout: Layout, splits: list[tuple[int, int]], kind: str, room: int) -> tuple[Pages, int]:
    """The pages for these splits, one by one, and what is left in v3's cache, which holds 4 before each."""
    region, cache = brute.pages(layout.geometry, 2), 0
    tables = external = guest = sept = 0
    with_pair = {0}
    for number, (_, level) in enumerate(splits):
        tables += 1
        external += kind != PLAIN
        if kind == DYNAMIC:
            cache = max(cache, 4)
            if level == 2:
                guest, cache = guest + 2, cache - 2
            # Region 0 ends after `room` pages; the next page begins region 1.
            place = 0 if number < room else 1 + (number - room) // region
            if place not in with_pair:
                with_pair.add(place)
                sept, cache = sept + 2, cache - 2
    return Pages(tables, external, guest, sept), cache


def ranges(frames: int) -> list[tuple[int, int]]:
    return [(start, end) for start in range(frames) for end in range(start, frames + 1)]


def toys() -> list[Layout]:
    """Full of each size of leaf; and leaves of all sizes with holes between them."""
    found = [
        full_of(geometry, frames, level)
        for geometry, frames in ((Geometry(1, 4, 3), 8), (Geometry(1, 3, 2), 4), (TALL_TOY, 32))
        for level in range(2, geometry.max_leaf_level + 1)
    ]
    mixed = layout_of(TALL_TOY, 40, (0, 3, 1), (20, 2, 1), (24, 1, 4), (28, 2, 1), (32, 1, 1), (36, 2, 1))
    return [*found, mixed]


TOYS = pytest.mark.parametrize("layout", toys(), ids=lambda layout: f"{layout.geometry}, {layout.leaves}")


# ---- predicted, by brute force, by the engine ------------------------------------------------------------


@pytest.mark.slow
@TOYS
@pytest.mark.parametrize("split", SPLITTING)
def test_every_range_of_a_toy_takes_what_brute_force_counts(layout, split):
    """Aligned or not, in one block or in two, empty or all; each kind of VM; each room for S-EPT pages."""
    for start, end in ranges(layout.frames):
        splits = splits_of(layout, start, end, split)
        if split == "edges":
            assert splits_at_edges(layout, GfnRange(start, end)) == {*splits}
        for kind in KINDS:
            for room in range(brute.pages(layout.geometry, 2) if kind == DYNAMIC else 1):
                budget = predict(layout, start, end, kind=kind, split=split, room=room)
                assert (budget.need, budget.left) == taken(layout, splits, kind, room), (start, end, kind)
                counted = Counter(level for _, level in splits)
                assert budget.splits == {level: counted[level] for level in budget.splits}
                assert set(counted) <= set(budget.splits)


@pytest.mark.slow
@TOYS
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_uses_what_was_predicted(layout, kind):
    for number, (start, end) in enumerate(ranges(layout.frames)):
        room = number % brute.pages(layout.geometry, 2)
        for split in SPLITTING:
            how = {"kind": kind, "split": split, "room": room}
            budget = predict(layout, start, end, **how)
            assert measure(layout, start, end, **how) == (budget.need, budget.left), (start, end, split)


X86 = [
    ("4M", "8M"),
    ("4M+4K", "8M"),
    ("4M", "8M-4K"),
    ("4M+4K", "4M+8K"),
    ("4M+4K", "7M"),
    ("1G", "2G"),
    ("1G-4K", "1G+4K"),
    ("2M", "3G+2M"),
    ("28K", "3G+20K"),
    ("1G+1M", "2G"),
    ("1G+4K", "1G+4K"),
]


@pytest.mark.parametrize("level", [2, 3])
@pytest.mark.parametrize(("kind", "split"), [*product(KINDS, SPLITTING)])
def test_on_x86_too(level, kind, split):
    layout = full_of(X86_4LEVEL, 4 * GIB, level)
    for start, end in (tuple(map(parse_gfn, span)) for span in X86):
        budget = predict(layout, start, end, kind=kind, split=split)
        if budget.need.tables < 200:
            used = measure(layout, start, end, kind=kind, split=split)
            assert used == (budget.need, budget.left), (start, end)


def test_a_mixed_guest_is_counted_leaf_by_leaf():
    """The layout "mixed": 4K below 4M, 2M to 1G, a 1G leaf, 2M, 4K from 2G+512M, a hole, a 1G leaf at 3G."""
    start, end = parse_gfn("6M+12K"), parse_gfn("3G+513M")
    assert splits_at_edges(LAYOUTS["mixed"], GfnRange(start, end)) == {
        (parse_gfn("6M"), 2),
        (parse_gfn("3G"), 3),
        (parse_gfn("3G+512M"), 2),
    }
    # To 4K: of the first 254 2M leaves the one at 4M lies below; 192 more; a 1G leaf and its 512; at 3G one
    # and the 257 blocks that 513M touch.
    everything = 253 + 192 + 513 + 1 + 257
    for split, tables in (("edges", 3), ("everything", everything)):
        assert predict("mixed", start, end, split=split).need == Pages(tables, 0, 0, 0)
        assert measure("mixed", start, end, split=split).pages == Pages(tables, 0, 0, 0)


# ---- the numbers of the thread ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "shift", "tables"), [(3, 0, 8208), (2, 0, 8192), (3, 1, 8210), (2, 1, 8193)]
)
def test_16_gib_to_4k(level, shift, tables):
    """S133: 16 · (1 + 512) from 1G leaves, 16 · 512 from 2M; an edge inside a leaf adds one of each size."""
    layout = full_of(X86_4LEVEL, 32 * GIB, level)
    start, end = 4 * GIB + shift, 20 * GIB + shift
    budget = predict(layout, start, end, split="everything")
    assert budget.need == budget.bound == budget.whole == Pages(tables, 0, 0, 0)
    assert budget.idle == 0
    assert list(budget.splits) == [3, 2][3 - level :]
    in_a_td = predict(layout, start, end, kind=TD, split="everything")
    assert in_a_td.need == Pages(tables, tables, 0, 0)
    assert in_a_td.what_if == (level == 3)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "tables"), [(3, 8208), (2, 8192)])
def test_the_engine_makes_the_16_gib(level, tables):
    layout = full_of(X86_4LEVEL, 16 * GIB, level)
    assert measure(layout, 0, 16 * GIB, split="everything").pages == Pages(tables, 0, 0, 0)


def test_16_gib_with_dynamic_pamt():
    """By hand: 8192 pairs for the guest; 8192 S-EPT pages side by side fill 16 regions, a pair each."""
    budget = predict(full_of(X86_4LEVEL, 16 * GIB, 2), 0, 16 * GIB, kind=DYNAMIC, split="everything")
    assert budget.need == Pages(8192, 8192, 16384, 32)
    # Without a look at where the host's pages lie, a pair for each: tdx_min_split_cache_sz per split (S134).
    assert budget.bound == Pages(8192, 8192, 16384, 16384)
    assert budget.ahead == 4
    assert sum(budget.bound[2:]) == 4 * 8192


def test_two_pages_are_needed_and_8192_preallocated():
    """[4G+4K, 20G-4K) touches 8192 blocks of 2M, and an edge lies inside the first and the last."""
    budget = predict(full_of(X86_4LEVEL, 32 * GIB, 2), 4 * GIB + 1, 20 * GIB - 1)
    assert (budget.need.total, budget.whole.total, budget.idle) == (2, 8192, 8190)
    large = predict(full_of(X86_4LEVEL, 32 * GIB, 3), 4 * GIB + 1, 20 * GIB - 1)
    assert (large.need.total, large.whole.total, large.idle) == (4, 8208, 8204)


def test_memory_that_is_4k_already_needs_none_of_the_maximum():
    """Against S133's maximum: a plain split of 16 GiB, of which two 2M leaves are left."""
    few = layout_of(X86_4LEVEL, 16 * GIB, (0, 2, 1), (512, 1, 16 * GIB - 1024), (16 * GIB - 512, 2, 1))
    budget = predict(few, 0, 16 * GIB, split="everything")
    assert (budget.need.total, budget.bound.total) == (2, 8192)
    assert measure(few, 0, 16 * GIB, split="everything").pages.total == 2


# ---- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "level", "bound"),
    [
        (PLAIN, 2, Pages(2, 0, 0, 0)),
        (PLAIN, 3, Pages(4, 0, 0, 0)),
        (TD, 2, Pages(2, 2, 0, 0)),
        (DYNAMIC, 2, Pages(2, 2, 4, 4)),
        (DYNAMIC, 3, Pages(4, 4, 4, 8)),
    ],
)
def test_the_bound_of_two_edges_is_kept_and_reached(kind, level, bound):
    """S132, S134: a table per edge and size of leaf; in a TD a page beside each; two pairs per 2M split."""
    layout = full_of(TALL_TOY, 32, level)
    reached = [0] * 4
    for start, end in ranges(32):
        budget = predict(layout, start, end, kind=kind)
        assert budget.bound == bound
        assert all(need <= most for need, most in zip(budget.need, bound, strict=True))
        reached = [max(pair) for pair in zip(reached, budget.need, strict=True)]
    assert reached[:3] == [*bound[:3]]
    if kind == DYNAMIC:  # side by side, four S-EPT pages share a region; each split provides for its own
        assert reached[3] == 2


def test_the_bound_of_a_whole_range_is_kept():
    for layout in toys():
        full = full_of(layout.geometry, 32, 3) if layout.geometry == TALL_TOY else layout
        for start, end in ranges(layout.frames)[::3]:
            budget = predict(layout, start, end, kind=DYNAMIC, split="everything")
            assert budget.bound == budget.whole
            assert all(need <= most for need, most in zip(budget.need, budget.bound, strict=True))
            edges = predict(layout, start, end, kind=DYNAMIC)
            assert edges.whole == budget.whole
            assert edges.idle == budget.whole.total - edges.need.total >= 0
            if end <= 32 and max(run.level for run in layout.leaves) == 3 and len(layout.leaves) > 1:
                most = predict(full, start, end, split="everything").need.tables
                assert budget.bound.tables == most, "the bound is what the largest leaves would take"


def test_a_cache_holds_what_was_topped_up_and_not_used():
    """By hand, on leaves of four: a pair for the guest, and one more where the S-EPT page opens a region."""
    layout = full_of(TALL_TOY, 32, 2)
    assert predict(layout, 4, 8, kind=DYNAMIC).left == 0, "nothing was split: nothing was topped up"
    assert predict(layout, 5, 8, kind=DYNAMIC).left == 0
    assert predict(layout, 5, 8, kind=DYNAMIC, room=1).left == 2
    assert predict(layout, 5, 14, kind=DYNAMIC).left == 2
    assert predict(layout, 5, 14, kind=DYNAMIC, room=1).left == 0
    assert predict(layout, 5, 14, kind=TD).left == 0


def test_a_1g_split_takes_no_pair_for_the_guest():
    """S176: memory mapped by 2M needs none. By hand: [16, 20) in 1 of 2 leaves of 16, [4, 8) of another."""
    budget = predict(full_of(TALL_TOY, 32, 3), 4, 20, kind=DYNAMIC)
    assert budget.need == Pages(2, 2, 0, 2)
    assert (budget.what_if, budget.left) == (True, 4)
    assert not predict(full_of(TALL_TOY, 32, 3), 4, 20).what_if
    assert not predict(full_of(TALL_TOY, 32, 2), 4, 20, kind=DYNAMIC).what_if


# ---- words and refusals ----------------------------------------------------------------------------------


def test_pages_in_words():
    assert repr(Pages(0, 0, 0, 0)) == "<0 pages>"
    assert repr(Pages(1, 0, 0, 0)) == "<1 page: page tables 1>"
    assert repr(Pages(8192, 8192, 16384, 32)) == (
        "<32 800 pages: page tables 8 192, S-EPT 8 192, guest's PAMT 16 384, S-EPT's PAMT 32>"
    )


@pytest.mark.parametrize(
    ("change", "error", "rule"),
    [
        ({"start": 9}, InvalidValueError, "a range ends at or after its start; start 0x9 (36K)"),
        ({"start": -1}, InvalidValueError, "the start is at least 0; -1 (-0x1) is negative"),
        ({"end": 33}, InvalidValueError, "this guest ends at 0x20 (128K); the end 0x21 (132K) is beyond it"),
        ({"end": 1 << 70}, InvalidValueError, "this guest ends at 0x20 (128K)"),
        ({"start": 1.5}, InvalidTypeError, "the start is counted in whole numbers; 1.5 is a float"),
        ({"end": "8"}, InvalidTypeError, "the end is counted in whole numbers; '8' is a str"),
        ({"kind": "td"}, InvalidValueError, "a kind of VM is one of plain, TD, TD with Dynamic PAMT; 'td'"),
        ({"split": "all"}, InvalidValueError, "a split is one of edges, everything; 'all' is none"),
        ({"layout": "huge"}, InvalidValueError, "a layout is one of eight"),
        ({"room": 4}, InvalidValueError, "has room for 3 at most; 4 is more"),
        ({"room": -1}, InvalidValueError, "the room is at least 0; -1"),
        (
            {"layout": full_of(TALL_TOY, 256, 2), "kind": TD},
            InvalidValueError,
            "a TD's frames end at its shared bit, 0x80 (512K); this guest's end at 0x100 (1M)",
        ),
    ],
)
@pytest.mark.parametrize("ask", [predict, measure])
def test_what_breaks_a_rule_is_refused_in_words(ask, change, error, rule):
    asked = {"layout": full_of(TALL_TOY, 32, 2), "start": 4, "end": 8} | change
    with pytest.raises(error) as refused:
        ask(**asked)
    assert rule in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_range_at_the_end_of_a_guest_takes_nothing(kind):
    """The kernel's functions take no start there: for a TD it would have the shared bit."""
    assert (
        predict("toy", 32, 32, kind=kind).need == measure("toy", 32, 32, kind=kind).pages == Pages(0, 0, 0, 0)
    )


def test_the_engine_is_not_run_for_hours():
    with pytest.raises(InvalidValueError, match="16 384 splits at most; this call makes 8 388 608"):
        measure("16T", 0, 1 << 32, split="everything")
    assert MOST_SPLITS == 1 << 14
    assert measure("16T", 1, (1 << 32) - 1).pages == Pages(2, 0, 0, 0)


@pytest.mark.parametrize(
    ("frames", "level", "rule"),
    [
        (12, 3, "a guest of 64K leaves is a multiple of 64K, up to 0x100 (1M); 0xc (48K) is none"),
        (0, 2, "0x0 (0) is none"),
        (512, 2, "0x200 (2M) is none"),
        (64, 4, "the largest leaf here is 64K; no guest is full of leaves of 256K"),
        (64, 5, "a level is from 1 to 4 under this root; 5"),
        (-4, 2, "a number of frames is at least 0; -4"),
    ],
)
def test_a_full_guest_is_one_of_whole_leaves(frames, level, rule):
    with pytest.raises(InvalidValueError) as refused:
        full_of(TALL_TOY, frames, level)
    assert rule in str(refused.value)


def test_a_budget_is_a_value():
    assert isinstance(predict("eight", 1, 8), Budget)
    assert predict("eight", 1, 8) == predict("eight", 1, 8)
