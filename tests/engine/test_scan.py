"""The shortcuts for large guests against the ways that go entry by entry."""

from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import (
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    parse_gfn,
)
from tdpkit.engine.kvm import KVM_X86_TDX_VM, Kvm
from tdpkit.engine.pool import ROLE_INVALID, PageTablePool
from tdpkit.engine.scan import Scan, count_visits, populate, scan
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import iter_cross_boundary, tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import Leaf, TdpMmuRoot, leaf_runs, map_run, tables_per_level, translate
from tests.oracles import brute
from tests.oracles.worlds import run

# ---- populate ------------------------------------------------------------------------------------------


@st.composite
def runs(draw, geometry: Geometry) -> tuple[int, int, int, int]:
    """(gfn, level, count, pfn), mostly within the rules, now and then beyond the root, or not aligned."""
    level = draw(st.integers(1, geometry.max_leaf_level))
    size = brute.pages(geometry, level)
    there_are = geometry.root_pages // size
    first = draw(st.integers(0, there_are - 1))
    count = draw(st.integers(1, there_are - first + draw(st.sampled_from([0, 0, 0, 1]))))
    return (
        first * size + draw(st.sampled_from([0] * 9 + [1])),
        level,
        count,
        draw(st.integers(0, 9)) * size * 3 + draw(st.sampled_from([0] * 9 + [1])),
    )


def outcome(call, root: TdpMmuRoot, wanted: tuple[int, int, int, int]) -> str:
    """What became of it; a refusal has changed nothing."""
    before = brute.memory(root.pool)
    try:
        call(root, *wanted)
    except InvalidValueError as refusal:
        assert brute.memory(root.pool) == before
        return str(refusal)
    return "mapped"


@pytest.mark.slow
@settings(max_examples=200)
@given(brute.layouts(), st.data())
def test_populate_does_on_any_tree_what_map_run_does(layout, data):
    """To the bit, and in what is refused; leaves, holes and empty tables may be there already."""
    one, other = brute.plant(*layout), brute.plant(*layout)
    if data.draw(st.booleans()):
        for root in (one, other):
            run(tdp_mmu_zap_leafs(root, 0, layout.geometry.root_pages))  # emptied tables stay
    for wanted in data.draw(st.lists(runs(layout.geometry), min_size=1, max_size=4)):
        mapped, populated = outcome(map_run, one, wanted), outcome(populate, other, wanted)
        assert (mapped == "mapped") == (populated == "mapped"), (mapped, populated)
        assert brute.read(other) == brute.read(one)
    assert leaf_runs(other) == leaf_runs(one)
    assert other.pool.rows_in_use == one.pool.rows_in_use == sum(tables_per_level(one))


@settings(max_examples=60)
@given(brute.geometries(), st.data(), st.sampled_from([None, 1, 2]))
def test_populate_does_on_an_empty_tree_what_map_run_does(geometry, data, shuffle):
    one, other = (TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=shuffle)) for _ in range(2))
    for wanted in data.draw(st.lists(runs(geometry), min_size=1, max_size=3)):
        mapped, populated = outcome(map_run, one, wanted), outcome(populate, other, wanted)
        assert (mapped == "mapped") == (populated == "mapped"), (mapped, populated)
    assert brute.read(other) == brute.read(one)
    assert sorted((level, gfn) for _, level, gfn in other.pool.pages()) == sorted(
        (level, gfn) for _, level, gfn in one.pool.pages()
    )


@settings(max_examples=20)
@given(
    st.sampled_from([X86_4LEVEL, X86_5LEVEL]),
    st.integers(1, 3),
    st.integers(0, 2**18),
    st.integers(1, 1500),
    st.sampled_from([0, 7]),
)
def test_populate_maps_x86_runs_at_any_offset_as_map_run_does(geometry, level, first, count, offset):
    """Runs that start and end in the middle of tables, over several tables of each level."""
    size = geometry.pages(level)
    wanted = ((first % (2**30 // size) + offset) * size, level, count, 512 * size)
    one, other = (
        TdpMmuRoot(PageTablePool(geometry)),
        TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=4)),
    )
    map_run(one, *wanted)
    populate(other, *wanted)
    assert leaf_runs(other) == leaf_runs(one) == [(wanted[0], level, count, wanted[3])]
    assert tables_per_level(other) == tables_per_level(one)
    for i in (0, count // 2, count - 1):
        assert translate(other, wanted[0] + i * size) == translate(one, wanted[0] + i * size)
    assert translate(other, wanted[0] + count * size) is None


@pytest.mark.parametrize("gfn_bits", [0, 8, 32])
@pytest.mark.parametrize("is_mirror", [False, True])
def test_populate_respects_what_kind_of_root_it_is(gfn_bits, is_mirror):
    geometry = Geometry(2, 3, 1)
    shared = gfn_bits or geometry.root_pages
    one, other = (
        TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=3), gfn_bits=gfn_bits, is_mirror=is_mirror)
        for _ in range(2)
    )
    map_run(one, 1, 1, shared - 2, 100)
    populate(other, 1, 1, shared - 2, 100)
    assert brute.read(other) == brute.read(one)
    assert {role for role in other.pool.role if role} == {role for role in one.pool.role if role}
    assert sorted(other.pool.pages()) != []
    with pytest.raises(InvalidValueError, match="is beyond it"):
        populate(other, shared - 1, 1, 2, 0)


@pytest.mark.parametrize("place", range(4))
def test_populate_refuses_what_is_no_whole_number(place):
    root, arguments = TdpMmuRoot(PageTablePool(X86_4LEVEL)), [0, 1, 1, 0]
    arguments[place] = 1.0
    with pytest.raises(InvalidTypeError, match="whole numbers"):
        populate(root, *arguments)


def test_rows_made_before_and_after_a_populate_keep_their_contents():
    """The pool then has chunks of two makers, and none may move."""
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL, capacity=1))
    map_run(root, 0, 1, 5, 0)
    view = root.pool.table(root.row)
    populate(root, 2**18, 1, 512 * 3, 2**20)
    map_run(root, 2**27, 2, 600, 2**30)
    assert view[0] == root.pool.table(root.row)[0] != brute.HOLE
    assert view[1] == root.pool.table(root.row)[1] != brute.HOLE
    assert leaf_runs(root) == [(0, 1, 5, 0), (2**18, 1, 1536, 2**20), (2**27, 2, 600, 2**30)]


@pytest.fixture(scope="module")
def guest_of_16_tib() -> TdpMmuRoot:
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    populate(root, 0, 2, 2**23, 2**34)
    return root


@pytest.mark.slow
def test_sixteen_tebibytes_of_2m_leaves_are_all_there(guest_of_16_tib):
    root = guest_of_16_tib
    assert tables_per_level(root) == (0, 2**14, 2**5, 1)
    assert root.pool.rows_in_use == 2**14 + 2**5 + 1
    rows = [row for _, row in sorted((gfn, row) for row, level, gfn in root.pool.pages() if level == 2)]
    leaves = np.concatenate([np.frombuffer(root.pool.table(row), np.uint64) for row in rows])
    frames = np.arange(2**34, 2**34 + 2**32, 512, dtype=np.uint64)
    assert len(leaves) == 8_388_608
    assert np.array_equal(leaves, np.uint64(0x80A0_0000_0000_0FB7) + (frames << np.uint64(12)))
    for gfn in (0, 511, 512, parse_gfn("2T+4K"), 2**32 - 1):
        assert translate(root, gfn).pfn == 2**34 + gfn // 512 * 512
    assert translate(root, 2**32) is None


def test_sixteen_tebibytes_cost_a_tenth_more_than_the_hardwares_tables_at_most(guest_of_16_tib):
    assert guest_of_16_tib.pool.nbytes <= 1.1 * 8 * 512 * (2**14 + 2**5 + 1)


# ---- scan and count_visits -----------------------------------------------------------------------------


def stepwise(root: TdpMmuRoot, start: int, end: int, min_level: int) -> Scan:
    """What the walk itself meets."""
    it, visited, crossing = TdpIter(root, min_level, start), 0, []
    leaves = dict.fromkeys(range(root.geometry.root_level, min_level - 1, -1), 0)
    while it.valid and it.gfn < end:
        visited += 1
        if brute.is_leaf(it.old_spte) and (it.level == 1 or it.old_spte & brute.LARGE):
            leaves[it.level] += 1
            if iter_cross_boundary(it, start, end):
                crossing.append(Leaf(it.gfn, it.level, (it.old_spte & brute.FRAME) >> 12, it.old_spte))
        it.next()
    return Scan(visited, tuple(crossing), leaves)


def listed(geometry: Geometry, table: list, start: int, end: int, min_level: int) -> Scan:
    """The same of entries that were asked one by one whether they hold frames of the range."""
    met = list(brute.entries(geometry, table, start, end, min_level))
    leaves = [(gfn, level, raw) for gfn, level, raw in met if brute.is_leaf(raw)]
    return Scan(
        len(met),
        tuple(
            Leaf(gfn, level, (raw & brute.FRAME) >> 12, raw)
            for gfn, level, raw in leaves
            if gfn < start or gfn + brute.pages(geometry, level) > end
        ),
        {of: sum(level == of for _, level, _ in leaves) for of in range(min_level, geometry.root_level + 1)},
    )


def compare(root: TdpMmuRoot, start: int, end: int, *, block: int | None = None) -> None:
    """Both shortcuts against both slow ways, down to each level.

    block: how many entries scan reads at a time, if not its own number.
    """
    before = brute.memory(root.pool)
    table = brute.read(root)[root.gfn_bits // brute.pages(root.geometry, root.geometry.root_level) :]
    for min_level in range(1, root.geometry.root_level + 1):
        with patch("tdpkit.engine.scan._BLOCK_ENTRIES", block or 1 << 16):
            found = scan(root, start, end, min_level)
        assert found == stepwise(root, start, end, min_level)
        assert found == listed(root.geometry, table, start, end, min_level)
        assert count_visits(root, start, end, min_level) == found.visited
    assert brute.memory(root.pool) == before


BLOCKS = st.sampled_from([1, 4, 20, None])


@pytest.mark.slow
@settings(max_examples=100)
@given(brute.cases(), BLOCKS, st.data())
def test_the_scan_meets_what_the_walk_meets_before_and_after_a_split_and_a_zap(case, block, data):
    """Random layouts in rows of random order; the row beside may be another level's."""
    layout, start, end = case
    root = brute.plant(*layout)
    split, zap = data.draw(brute.ranges(layout)), data.draw(brute.ranges(layout))
    for change in (None, split, zap):
        if change is split and layout.geometry.root_level > 1:
            run(tdp_mmu_split_huge_pages_root(root, *split, 1, shared=True, only_cross_boundary=True))
        elif change is zap:
            run(tdp_mmu_zap_leafs(root, *zap))
        for first, last in ((start, end), (start, start), (start, layout.geometry.root_pages + 5)):
            compare(root, first, last, block=block)


@pytest.mark.slow
@settings(max_examples=100)
@given(brute.geometries(root_levels=(2, 4)), BLOCKS, st.data())
def test_the_scan_meets_what_the_walk_meets_where_populate_put_tables_side_by_side(geometry, block, data):
    """And where splits and zaps have since put some elsewhere, in another chunk."""
    root = TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=data.draw(st.sampled_from([None, 1]))))
    for wanted in data.draw(st.lists(runs(geometry), min_size=1, max_size=3)):
        outcome(populate, root, wanted)
    edges = st.tuples(*[st.integers(0, geometry.root_pages - 1)] * 2).map(sorted)
    start, end = data.draw(edges)
    compare(root, start, end, block=block)
    run(tdp_mmu_split_huge_pages_root(root, *data.draw(edges), 1, shared=False))
    run(tdp_mmu_zap_leafs(root, *data.draw(edges)))
    compare(root, start, end, block=block)
    compare(root, start, start, block=block)
    compare(root, start, geometry.root_pages + 1, block=block)


@settings(max_examples=15)
@given(
    st.sampled_from([X86_4LEVEL, X86_5LEVEL]),
    st.integers(1, 3),
    st.integers(0, 2**18),
    st.integers(1, 2500),
    brute.SEEDS,
)
def test_the_scan_meets_what_the_walk_meets_in_x86_tables(geometry, level, first, count, random):
    """Edges in the mapped run, over several tables of each level, before and after splits."""
    size = geometry.pages(level)
    low = first % (2**30 // size) * size
    root = TdpMmuRoot(PageTablePool(geometry, capacity=1))
    populate(root, low, level, count, 0)
    start, end = sorted(low + random.randrange(count * size) for _ in range(2))
    compare(root, start, end, block=random.choice([512, 1024, None]))
    for _ in range(2):
        edge = low + random.randrange(count * size)
        run(tdp_mmu_split_huge_pages_root(root, edge, edge, 1, shared=False))
    compare(root, start, end, block=random.choice([512, 1024, None]))
    compare(root, max(0, start - 2**20), end + 2**28)


@pytest.mark.slow
@pytest.mark.parametrize("capacity", [1, 1 << 13])
def test_thousands_of_shuffled_tables_with_holes_of_their_own_are_all_read(capacity):
    """More than are read at a time: blocks that overwrite each other, or rows left out, would show.

    Nearly all rows of the small pool are level 1's, side by side; in the large one gaps are everywhere.
    """
    geometry, random = Geometry(6, 3, 2), Random(7)

    def table() -> list:
        holes = max(0, random.random() - 0.3)
        return [
            random.choice((brute.HOLE, brute.FROZEN)) if random.random() < holes else brute.leaf(n, 1)
            for n in range(64)
        ]

    tables = [[table() if random.random() < 0.9 else brute.HOLE for _ in range(64)] for _ in range(64)]
    root = brute.plant(geometry, tables, pool=PageTablePool(geometry, capacity=capacity, shuffle=5))
    assert sum(level == 1 for _, level, _ in root.pool.pages()) > 3 * (1 << 16) // 64
    for start, end in ((0, 64**3), (64**2 + 65, 62 * 64**2 - 63)):
        for block in (8 * 64, None):
            compare(root, start, end, block=block)


@settings(max_examples=60)
@given(brute.geometries(root_levels=(2, 3)), st.data())
def test_each_root_of_a_td_is_scanned_by_itself_though_they_share_a_pool(geometry, data):
    """Ends beyond the shared bit too, where the walk of the direct root stops at its last entry."""
    vm = Kvm(KVM_X86_TDX_VM, geometry, pool=PageTablePool(geometry, capacity=1, shuffle=2))
    limit = vm.gfn_direct_bits
    for root in (vm.direct_root, vm.mirror_root):
        put = data.draw(st.sampled_from([map_run, populate]))
        for wanted in data.draw(st.lists(runs(geometry), max_size=4)):
            outcome(put, root, wanted)
    start = data.draw(st.integers(0, limit - 1))
    end = data.draw(st.integers(start, 2 * limit + 1))
    for root in (vm.direct_root, vm.mirror_root):
        compare(root, start, end)


@pytest.mark.parametrize("start", [32, 33, 63])
def test_a_start_at_the_shared_bit_or_above_visits_nothing(start):
    """The kernel's iterator is invalid from the start there."""
    geometry = Geometry(2, 3, 1)
    root = TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=3), gfn_bits=32)
    map_run(root, 0, 1, 32, 100)
    for min_level in (1, 2, 3):
        nothing = Scan(0, (), dict.fromkeys(range(min_level, 4), 0))
        assert scan(root, start, 64, min_level) == stepwise(root, start, 64, min_level) == nothing
        assert count_visits(root, start, 64, min_level) == 0


def test_a_shared_bit_below_the_roots_index_is_part_of_each_lower_index():
    """No TD has one, but the iterator says what it would mean: each table is entered that far on."""
    geometry = Geometry(2, 3, 2)
    root = TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=3), gfn_bits=8)
    map_run(root, 0, 1, 5, 100)
    inner = TdpMmuRoot(root.pool)  # its tables, linked below, show what the walk meets further on
    map_run(inner, 16, 1, 16, 200)
    map_run(inner, 32, 2, 4, 400)
    root.pool.table(root.row)[1:3] = root.pool.table(inner.row)[1:3]
    for start in range(12):  # from 8 on there is nothing
        for end in range(start, 66):
            for min_level in (1, 2, 3):
                assert scan(root, start, end, min_level) == stepwise(root, start, end, min_level)


def test_an_invalid_root_is_scanned_too():
    """Zaps walk invalid roots as well (S49)."""
    geometry = Geometry(2, 2, 2)
    root = brute.plant(geometry, brute.full(geometry, 1))
    root.pool.role[root.row] |= ROLE_INVALID
    compare(root, 0, 16)
    assert scan(root, 0, 16, 1) == (4 + 16, (), {2: 0, 1: 16})


@pytest.mark.parametrize(
    ("start", "end", "min_level", "visits"),
    [
        ("2T+4K", "14T+4K", 2, 6_303_771),  # 25 + 12 289 + 6 291 457 of S230
        ("2T", "14T", 2, 6_303_768),  # 24 + 12 288 + 6 291 456 of S122
        ("2T", "14T", 3, 12_312),
        ("2T", "14T", 4, 24),
    ],
)
def test_the_range_of_the_thread_costs_what_the_fact_sheet_says(
    guest_of_16_tib, start, end, min_level, visits
):
    span = parse_gfn(start), parse_gfn(end)
    assert count_visits(guest_of_16_tib, *span, min_level) == visits
    assert scan(guest_of_16_tib, *span, min_level).visited == visits


def test_of_the_16_tib_guests_leaves_two_cross_the_edges_of_the_range(guest_of_16_tib):
    start, end = parse_gfn("2T+4K"), parse_gfn("14T+4K")
    crossing = tuple(
        Leaf(gfn, 2, 2**34 + gfn, brute.leaf(2**34 + gfn, 2)) for gfn in (parse_gfn("2T"), parse_gfn("14T"))
    )
    leaves = {4: 0, 3: 0, 2: 6_291_457}
    assert scan(guest_of_16_tib, start, end, 2) == (6_303_771, crossing, leaves)
    assert scan(guest_of_16_tib, start, end, 1) == (6_303_771, crossing, {**leaves, 1: 0})
    assert scan(guest_of_16_tib, start, end, 3) == (12_314, (), {4: 0, 3: 0})


def test_of_1g_leaves_two_cross_as_well():
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    populate(root, 0, 3, 2**14, 2**34)
    crossing = tuple(
        Leaf(gfn, 3, 2**34 + gfn, brute.leaf(2**34 + gfn, 3)) for gfn in (parse_gfn("2T"), parse_gfn("14T"))
    )
    for min_level in (1, 2, 3):
        found = scan(root, parse_gfn("2T+4K"), parse_gfn("14T+4K"), min_level)
        assert found == (25 + 12_289, crossing, {of: 12_289 * (of == 3) for of in range(min_level, 5)})


@pytest.mark.parametrize(("geometry", "visits"), [(X86_4LEVEL, 24), (X86_5LEVEL, 1)])
def test_an_empty_tree_costs_a_visit_per_root_entry(geometry, visits):
    root, start, end = TdpMmuRoot(PageTablePool(geometry)), parse_gfn("2T"), parse_gfn("14T")
    assert count_visits(root, start, end, 2) == visits
    assert scan(root, start, end, 2) == (visits, (), dict.fromkeys(range(2, geometry.root_level + 1), 0))


@pytest.mark.parametrize("end", [2**52, 2**63, 2**64, 2**200])
def test_an_end_far_beyond_the_root_is_the_roots_end(end):
    """Such GFNs do not fit NumPy's integers."""
    geometry = Geometry(2, 2, 2)
    root = brute.plant(geometry, brute.full(geometry, 2))
    assert scan(root, 3, end, 1) == (4, (Leaf(0, 2, 0, brute.leaf(0, 2)),), {2: 4, 1: 0})
    assert count_visits(root, 3, end, 1) == 4


def test_results_are_pythons_integers_and_numpys_are_taken():
    geometry = Geometry(3, 3, 2)
    root = brute.plant(geometry, brute.full(geometry, 2))
    found = scan(root, np.uint64(9), np.int16(500), np.int8(1))
    assert found == stepwise(root, 9, 500, 1)
    assert len(found.crossing) == 2
    numbers = [
        found.visited,
        *found.leaves,
        *found.leaves.values(),
        *(n for at in found.crossing for n in at),
    ]
    assert {type(number) for number in (*numbers, count_visits(root, 0, 9, 1))} == {int}


REFUSED = [
    ((-1, 5, 1), InvalidValueError),
    ((0, -5, 1), InvalidValueError),
    ((9, 3, 1), InvalidValueError),
    ((16, 17, 1), InvalidValueError),
    ((0, 5, 0), InvalidValueError),
    ((0, 5, 3), InvalidValueError),
    ((0.5, 3, 1), InvalidTypeError),
    ((0, 3.5, 1), InvalidTypeError),
    ((0, 3, 1.0), InvalidTypeError),
    ((0, 3, True), InvalidTypeError),
]


@pytest.mark.parametrize("shortcut", [scan, count_visits])
@pytest.mark.parametrize(("arguments", "kind"), REFUSED)
def test_what_the_walks_users_refuse_is_refused(shortcut, arguments, kind):
    geometry = Geometry(2, 2, 2)
    with pytest.raises(kind):
        shortcut(brute.plant(geometry, brute.full(geometry, 1)), *arguments)
