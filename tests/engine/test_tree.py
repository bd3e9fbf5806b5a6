"""A tree at rest: mapping, translating and listing against dictionaries and nested lists."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import (
    LeafRun,
    TdpMmuRoot,
    join_runs,
    leaf_runs,
    leaves,
    map_leaf,
    map_run,
    tables_per_level,
    translate,
)
from tests.oracles import brute

TOY = Geometry(2, 3, 3)  # entries of 4K, 16K and 64K
TD = Geometry(2, 3, 2)


def toy_root(geometry: Geometry = TOY, **of_root) -> TdpMmuRoot:
    return TdpMmuRoot(PageTablePool(geometry, capacity=1, shuffle=3), **of_root)


# ---- reading -------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(brute.layouts())
def test_translate_finds_for_every_frame_what_a_dictionary_of_frames_holds(layout):
    geometry, root = layout.geometry, brute.plant(*layout)
    frames = brute.frames(*layout)
    for gfn in range(0, geometry.root_pages, max(1, geometry.root_pages // 512)):
        found = translate(root, gfn)
        if gfn not in frames:
            assert found is None
            continue
        assert found.gfn <= gfn < found.gfn + brute.pages(geometry, found.level)
        assert found.pfn + gfn - found.gfn == (frames[gfn] & brute.FRAME) >> 12
        assert (found.spte & ~brute.LARGE) + (gfn - found.gfn << 12) == frames[gfn]


@given(brute.layouts())
def test_leaves_lists_every_leaf_with_its_own_entry_in_order(layout):
    root = brute.plant(*layout)
    assert [tuple(leaf) for leaf in leaves(root)] == [
        (gfn, level, (raw & brute.FRAME) >> 12, raw) for gfn, level, raw in brute.leaves(*layout)
    ]


@given(brute.layouts())
def test_leaf_runs_say_the_same_leaves_in_as_few_runs_as_there_are(layout):
    geometry, runs = layout.geometry, leaf_runs(brute.plant(*layout))
    spelt_out = [
        (run.gfn + i * size, run.level, run.pfn + i * size)
        for run in runs
        for size in [brute.pages(geometry, run.level)]
        for i in range(run.count)
    ]
    assert spelt_out == [(gfn, level, (raw & brute.FRAME) >> 12) for gfn, level, raw in brute.leaves(*layout)]
    for one, other in pairwise(runs):
        covered = one.count * brute.pages(geometry, one.level)
        assert other != LeafRun(one.gfn + covered, one.level, other.count, one.pfn + covered)


@given(brute.layouts())
def test_tables_are_counted_per_level_empty_ones_too(layout):
    root = brute.plant(*layout)
    found = tables_per_level(root)
    assert found == brute.tables_per_level(*layout)
    assert sum(found) == root.pool.rows_in_use


@pytest.mark.parametrize("gfn", [-1, 64, 10**9])
def test_a_frame_that_the_tree_cannot_hold_is_not_translated(gfn):
    with pytest.raises(InvalidValueError, match=r"is negative|is beyond it"):
        translate(toy_root(), gfn)


def test_runs_join_where_guest_and_host_frames_go_on_and_only_there():
    runs = [LeafRun(0, 2, 1, 0), LeafRun(4, 2, 2, 4), LeafRun(12, 2, 1, 100), LeafRun(16, 1, 1, 104)]
    assert join_runs(runs, TOY) == [LeafRun(0, 2, 3, 0), LeafRun(12, 2, 1, 100), LeafRun(16, 1, 1, 104)]


# ---- mapping -------------------------------------------------------------------------------------------


@st.composite
def runs(draw, geometry: Geometry = TOY) -> tuple[int, int, int, int]:
    """(gfn, level, count, pfn) that a root without mappings would take."""
    level = draw(st.integers(1, geometry.max_leaf_level))
    size = brute.pages(geometry, level)
    first = draw(st.integers(0, geometry.root_pages // size - 1))
    count = draw(st.integers(1, geometry.root_pages // size - first))
    return first * size, level, count, draw(st.integers(0, 99)) * size


@given(st.lists(runs(), min_size=1, max_size=6))
def test_runs_that_were_mapped_translate_and_those_that_overlap_change_nothing(drawn):
    root, held, made = toy_root(), {}, {}
    for gfn, level, count, pfn in drawn:
        size = brute.pages(TOY, level)
        wanted = {gfn + i: pfn + i for i in range(count * size)}
        before = brute.memory(root.pool)
        if wanted.keys() & held.keys():
            with pytest.raises(InvalidValueError, match="mappings do not overlap"):
                map_run(root, gfn, level, count, pfn)
            assert brute.memory(root.pool) == before
        else:
            map_run(root, gfn, level, count, pfn)
            held |= wanted
            made |= {gfn + i * size: level for i in range(count)}
    frames = brute.frames(TOY, brute.read(root))
    assert frames == {gfn: brute.leaf(pfn, 1) for gfn, pfn in held.items()}
    assert {gfn: level for gfn, level, _ in brute.leaves(TOY, brute.read(root))} == made
    assert sum(tables_per_level(root)) == root.pool.rows_in_use  # no table too many


def test_a_mapped_leaf_has_the_bits_and_tables_of_the_kernels():
    root = toy_root()
    map_leaf(root, 20, 2, 400)
    row = (root.pool.table(root.row)[1] & brute.FRAME) >> 12
    assert root.pool.table(root.row).tolist() == [brute.HOLE, brute.LINK | row << 12, brute.HOLE, brute.HOLE]
    assert root.pool.table(row).tolist() == [brute.HOLE, brute.leaf(400, 2), brute.HOLE, brute.HOLE]
    assert (root.pool.role[row], root.pool.gfn[row]) == (1 << 7 | 7 << 8 | 2, 16)


def test_the_pages_of_a_mirror_tree_inherit_is_mirror():
    """Bit 19 of the role word (S40)."""
    mirror = toy_root(is_mirror=True)
    map_leaf(mirror, 0, 1, 0)
    assert {role >> 19 & 1 for role in mirror.pool.role if role} == {1}
    direct = toy_root()
    map_leaf(direct, 0, 1, 0)
    assert {role >> 19 & 1 for role in direct.pool.role if role} == {0}


def test_a_direct_root_of_a_td_maps_below_the_shared_bit_and_shows_leaves_above_it():
    root = toy_root(TD, gfn_bits=32)
    map_run(root, 4, 2, 2, 100 * 4)
    assert root.pool.table(root.row)[0] == brute.HOLE
    assert [(leaf.gfn, leaf.level, leaf.pfn) for leaf in leaves(root)] == [(36, 2, 400), (40, 2, 404)]
    assert translate(root, 9).pfn == 404
    assert translate(root, 3) is None
    with pytest.raises(InvalidValueError, match=r"do not overlap; a 16K leaf at 0x8 \(32K\)"):
        map_leaf(root, 9, 1, 0)
    with pytest.raises(InvalidValueError, match=r"below 0x20 \(128K\); 0x20 \(128K\) is beyond it"):
        translate(root, 32)
    with pytest.raises(InvalidValueError, match=r"below 0x20 \(128K\); 0x23 \(140K\) is beyond it"):
        map_leaf(root, 32, 2, 0)


OVERLAPS = {
    "leaf over the same leaf": ((0, 2, 1), (0, 2, 1)),
    "leaf under a leaf": ((0, 3, 1), (5, 1, 1)),
    "leaf over a table": ((5, 1, 1), (0, 3, 1)),
    "leaf over a table two levels down": ((5, 1, 1), (4, 2, 1)),
    "run that meets a leaf in its middle": ((20, 2, 1), (16, 2, 3)),
    "run that meets a table in its middle": ((21, 1, 1), (16, 2, 3)),
    "run whose last leaf is taken, in another table": ((16, 1, 1), (0, 1, 17)),
    "run whose first leaf is taken": ((15, 1, 1), (15, 1, 20)),
    "run of the root over a table": ((33, 1, 1), (0, 3, 4)),
}


@pytest.mark.parametrize(("there", "wanted"), OVERLAPS.values(), ids=OVERLAPS)
def test_an_overlapping_mapping_is_refused_and_the_machine_is_as_it_was(there, wanted):
    root = toy_root()
    map_run(root, *there, 64)
    before = brute.memory(root.pool)
    with pytest.raises(InvalidValueError, match=r"mappings do not overlap; a \d+K (leaf|table) at 0x"):
        map_run(root, *wanted, 0)
    assert brute.memory(root.pool) == before


REFUSED = {
    "unaligned gfn": ((2, 2, 1, 0), r"a GFN of a 16K leaf is a multiple of 16K; 0x2 \(8K\) is not"),
    "unaligned pfn": ((4, 2, 1, 6), r"a PFN of a 16K leaf is a multiple of 16K; 0x6 \(24K\) is not"),
    "level 0": ((0, 0, 1, 0), r"a level is from 1 to 3 under this root; 0 "),
    "level above the root": ((0, 4, 1, 0), r"a level is from 1 to 3 under this root; 4 "),
    "leaf too large": ((0, 3, 1, 0), r"the largest leaf here is 16K; a leaf of 64K is not mapped"),
    "start beyond the root": ((64, 1, 1, 0), r"below 0x40 \(256K\); 0x40 \(256K\) is beyond it"),
    "end beyond the root": ((60, 2, 2, 0), r"below 0x40 \(256K\); 0x43 \(268K\) is beyond it"),
    "negative gfn": ((-4, 2, 1, 0), r"a GFN is at least 0; -4 \(-0x4\)"),
    "negative pfn": ((4, 2, 1, -4), r"a PFN is at least 0; -4 \(-0x4\)"),
    "pfn of 41 bits": ((0, 1, 1, 2**40), r"a PFN has 40 bits; 0x10000000000"),
    "last pfn of 41 bits": ((0, 1, 2, 2**40 - 1), r"a PFN has 40 bits; 0x10000000000"),
    "no leaf": ((0, 1, 0, 0), r"at least 1 leaf is mapped; 0 is too few"),
    "fewer than no leaf": ((0, 1, -1, 0), r"at least 1 leaf is mapped; -1 is too few"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_a_run_against_the_rules_is_refused_with_value_and_rule_and_changes_nothing(arguments, message):
    root = toy_root(TD)
    map_leaf(root, 8, 2, 8)
    before = brute.memory(root.pool)
    with pytest.raises(InvalidValueError, match=message):
        map_run(root, *arguments)
    assert brute.memory(root.pool) == before


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [1.0, "1", None, True])
def test_a_run_in_anything_but_whole_numbers_is_refused(place, value):
    root, arguments = toy_root(), [0, 1, 1, 0]
    arguments[place] = value
    before = brute.memory(root.pool)
    with pytest.raises(InvalidTypeError, match="whole numbers"):
        map_run(root, *arguments)
    assert brute.memory(root.pool) == before


def test_a_run_may_reach_from_table_to_table_up_to_the_roots_last_frame():
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    map_run(root, 2**36 - 1536, 1, 1536, 2**40 - 1536)
    assert leaf_runs(root) == [LeafRun(2**36 - 1536, 1, 1536, 2**40 - 1536)]
    assert tables_per_level(root) == (3, 1, 1, 1)
