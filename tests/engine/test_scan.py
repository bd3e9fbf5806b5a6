"""The shortcuts for large guests against the ways that go entry by entry."""

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
from tdpkit.engine.scan import count_visits, populate
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_run, tables_per_level, translate

from . import brute
from .worlds import run

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


# ---- count_visits --------------------------------------------------------------------------------------


def stepwise(root: TdpMmuRoot, start: int, end: int, min_level: int) -> int:
    it, visits = TdpIter(root, min_level, start), 0
    while it.valid and it.gfn < end:
        visits += 1
        it.next()
    return visits


@settings(max_examples=80)
@given(brute.cases(), st.data())
def test_the_count_is_the_number_of_steps_before_and_after_a_split_and_a_zap(case, data):
    layout, start, end = case
    root = brute.plant(*layout)
    split = data.draw(brute.ranges(layout))
    zap = data.draw(brute.ranges(layout))
    for change in (None, split, zap):
        if change is split and layout.geometry.root_level > 1:
            run(tdp_mmu_split_huge_pages_root(root, *split, 1, shared=True, only_cross_boundary=True))
        elif change is zap:
            run(tdp_mmu_zap_leafs(root, *zap))
        for min_level in range(1, layout.geometry.root_level + 1):
            for first, last in ((start, end), (start, start), (start, layout.geometry.root_pages + 5)):
                assert count_visits(root, first, last, min_level) == stepwise(root, first, last, min_level)


@settings(max_examples=60)
@given(brute.geometries(root_levels=(2, 3)), st.data())
def test_each_root_of_a_td_is_counted_by_itself_though_they_share_a_pool(geometry, data):
    """Ends beyond the shared bit too, where the walk of the direct root stops at its last entry."""
    vm = Kvm(KVM_X86_TDX_VM, geometry, pool=PageTablePool(geometry, capacity=1, shuffle=2))
    limit = vm.gfn_direct_bits
    for root in (vm.direct_root, vm.mirror_root):
        for wanted in data.draw(st.lists(runs(geometry), max_size=4)):
            outcome(map_run, root, wanted)
    start = data.draw(st.integers(0, limit - 1))
    end = data.draw(st.integers(start, 2 * limit + 1))
    for root in (vm.direct_root, vm.mirror_root):
        for min_level in range(1, geometry.root_level + 1):
            assert count_visits(root, start, end, min_level) == stepwise(root, start, end, min_level)


def test_an_invalid_root_is_counted_too():
    """Zaps walk invalid roots as well (kernel-facts 3.14)."""
    geometry = Geometry(2, 2, 2)
    root = brute.plant(geometry, brute.full(geometry, 1))
    root.pool.role[root.row] |= ROLE_INVALID
    assert count_visits(root, 0, 16, 1) == stepwise(root, 0, 16, 1) == 4 + 16


@pytest.mark.parametrize(
    ("start", "end", "min_level", "visits"),
    [
        ("2T+4K", "14T+4K", 2, 6_303_771),  # 25 + 12 289 + 6 291 457 of findings 1
        ("2T", "14T", 2, 6_303_768),  # 24 + 12 288 + 6 291 456 of kernel-facts 7.2
        ("2T", "14T", 3, 12_312),
        ("2T", "14T", 4, 24),
    ],
)
def test_the_range_of_the_thread_costs_what_the_fact_sheet_says(
    guest_of_16_tib, start, end, min_level, visits
):
    assert count_visits(guest_of_16_tib, parse_gfn(start), parse_gfn(end), min_level) == visits


def test_an_empty_tree_costs_a_visit_per_root_entry():
    assert count_visits(TdpMmuRoot(PageTablePool(X86_4LEVEL)), parse_gfn("2T"), parse_gfn("14T"), 2) == 24
    assert count_visits(TdpMmuRoot(PageTablePool(X86_5LEVEL)), parse_gfn("2T"), parse_gfn("14T"), 2) == 1


@pytest.mark.parametrize(
    ("start", "end", "kind"),
    [
        (-1, 5, InvalidValueError),
        (0, -5, InvalidValueError),
        (9, 3, InvalidValueError),
        (16, 17, InvalidValueError),
        (0.5, 3, InvalidTypeError),
        (0, 3.5, InvalidTypeError),
    ],
)
def test_a_range_that_the_walks_users_refuse_is_not_counted(start, end, kind):
    geometry = Geometry(2, 2, 2)
    with pytest.raises(kind):
        count_visits(brute.plant(geometry, brute.full(geometry, 1)), start, end, 1)
