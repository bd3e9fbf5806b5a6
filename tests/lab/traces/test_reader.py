"""The tree that is rebuilt from a trace, and the ranges judged, against a host that keeps a flat truth."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.ranges import Slot
from tdpkit.lab.traces.reader import TraceReader, read_trace
from tests.oracles.printing_host import FRAMES, AmbiguousError, PrintingHost, pages

BLOCKS = st.sampled_from([0, 0, 0, 1, 1, 2, 511])
OFFSETS = st.sampled_from([0, 0, 1, 5, 6, 77, 255, 510, 511])
GFNS = st.builds(lambda block, offset: block * 512 + offset, BLOCKS, OFFSETS)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("fault"), GFNS, st.sampled_from([1, 1, 1, 2, 2, 3]), st.booleans()),
        st.tuples(st.just("zap"), GFNS, st.integers(1, 600), st.booleans()),
        st.tuples(st.just("split"), GFNS, st.none(), st.none()),
        st.tuples(st.just("remove"), GFNS, st.sampled_from([2, 2, 2, 3, 4]), st.booleans()),
        st.tuples(st.sampled_from(["clear_dirty", "touch", "mmio"]), GFNS, st.none(), st.none()),
    ),
    min_size=1,
    max_size=25,
)
EDGES = st.sampled_from([0, 1, 5, 6, 100, 255, 256, 511, 512, 513, 700, 1024, 1030, 1536, FRAMES - 1, FRAMES])
RANGES = (
    st.tuples(EDGES, EDGES).map(lambda pair: (min(pair), max(pair))).filter(lambda pair: pair[0] < pair[1])
)


def do(host, root, operation):
    name, gfn, number, flag = operation
    match name:
        case "fault":
            host.fault(root, gfn, number, replaces=flag)
        case "zap":
            host.zap(root, gfn, min(gfn + number, FRAMES), is_atomic=flag)
        case "remove":
            host.remove(root, number, gfn, is_atomic=flag)
        case _:
            getattr(host, name)(root, gfn)


def flat(runs):
    """The host frame of each frame; a frame in two leaves is a bug."""
    mapped = np.full(FRAMES, -1)
    for gfn, level, count, pfn in runs:
        span = slice(gfn, gfn + count * pages(level))
        assert (mapped[span] == -1).all()
        mapped[span] = pfn + np.arange(count * pages(level))
    return mapped


def check_leaf_counts(tree):
    """The counts that are kept as lines go by are those of the tree."""
    counted = Counter()
    for run in tree.leaf_runs():
        counted[run.level] += run.count
    assert tree.leaves == [counted[level] for level in range(6)]


def check_roots(story, host):
    """Each root is one tree, with what was told of it and nothing else."""
    told = [np.where(root.told, root.mapped, -1) for root in host.roots]
    trees = story.trees.get(0, [])
    for tree in trees:
        check_leaf_counts(tree)
    found = [flat(tree.leaf_runs()) for tree in trees]
    found += [np.full(FRAMES, -1)] * (len(told) - len(found))
    assert len(found) == len(told)
    for one, other in zip(found, told, strict=True):
        assert (one == other).all()
    assert not story.mismatches
    assert not story.damaged


def check_judged(story, host):
    for judged, brute in zip(story.judged, host.judged, strict=True):
        for frames, expected in (
            (judged.inside, brute.inside),
            (judged.outside, brute.outside),
            (judged.back, brute.back),
        ):
            found = np.zeros(FRAMES, bool)
            for span in frames.ranges():
                found[span.start : span.end] = True
            assert (found == expected).all()
        assert judged.is_safe != brute.outside.any()
        crossings = judged.crossings.values()
        assert sum(step.outside for one in crossings for step in one.steps) >= brute.outside.sum()
        assert any(one.was_taken for one in crossings) == brute.outside.any()


def read(host, spans=()):
    return read_trace(host.lines, layout="ept-5.13", ranges=[GfnRange(*span) for span in spans])


@given(OPERATIONS, st.lists(RANGES, max_size=3))
def test_a_trace_from_the_start_tells_the_whole_tree(operations, spans):
    host = PrintingHost(ranges=tuple(spans))
    for operation in operations:
        do(host, host.roots[0], operation)
    story = read(host, spans)
    check_roots(story, host)
    assert (host.roots[0].told | (host.roots[0].mapped == -1)).all()
    check_judged(story, host)


@given(OPERATIONS, OPERATIONS, st.lists(RANGES, max_size=3))
def test_a_trace_from_the_middle_tells_what_it_names(before, after, spans):
    host = PrintingHost(ranges=tuple(spans))
    for operation in before:
        do(host, host.roots[0], operation)
    host.begin()
    for operation in after:
        do(host, host.roots[0], operation)
    story = read(host, spans)
    check_roots(story, host)
    check_judged(story, host)


@given(OPERATIONS, OPERATIONS, OPERATIONS, st.lists(RANGES, max_size=3))
def test_what_was_known_is_not_after_lost_events(before, unseen, after, spans):
    host = PrintingHost(ranges=tuple(spans))
    for operation in before:
        do(host, host.roots[0], operation)
    host.is_silent = True
    for operation in unseen:
        do(host, host.roots[0], operation)
    host.is_silent = False
    host.lose()
    for operation in after:
        do(host, host.roots[0], operation)
    check_roots(read(host, spans), host)


@given(OPERATIONS, st.lists(st.tuples(st.integers(0, 1), OPERATIONS), max_size=4), st.booleans())
def test_two_roots_are_two_trees(first, turns, one_task):
    """Lines that could as well be about the other root are not printed."""
    host = PrintingHost(roots=2, one_task=one_task)
    start = ("fault", 0, 1, False)
    for number, operations in [(0, [start, *first, start]), (1, [start]), *turns]:
        for operation in operations:
            with suppress(AmbiguousError):
                do(host, host.roots[number], operation)
    check_roots(read(host), host)


# ---- by hand ---------------------------------------------------------------------------------------------

LEAF, TABLE, CHILD = 0x0600_0003_2260_0BF3, 0x4_AB10_E907, 0x0600_0003_2260_0B77
"""A 2M leaf on host frame 0x322600, a table, and the leaf's first child: without bit 7, with X (S26)."""


def changed(gfn, level, old, new, pid=1):
    text = f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"
    return by_task(text, pid)


def by_task(text, pid=1):
    return f"  CPU 0/KVM-{pid} [000] ...1. 5.000001: {text}"


def story_of(*lines, layout="ept-5.13", **asked):
    return read_trace(lines, layout=layout, **asked)


def frames_of(frames):
    return [(span.start, span.end) for span in frames.ranges()]


def test_a_frame_that_is_mapped_again_after_a_removal_is_no_entry_of_what_was_removed():
    """The task that removed the subtree zaps what another task mapped there since."""
    story = story_of(
        changed(0, 2, 0, TABLE),
        changed(5, 1, 0, CHILD),
        changed(0, 2, TABLE, 0),
        changed(5, 1, CHILD, 0x5A0),
        changed(0, 2, 0, TABLE + 0x1000, pid=2),
        changed(7, 1, 0, CHILD, pid=2),
        changed(7, 1, CHILD, 0),
        ranges=[GfnRange(6, 8)],
    )
    assert (story.counts["listed"], story.counts["zap"]) == (1, 1)
    assert frames_of(story.judged[0].inside) == [(7, 8)]


def test_after_the_last_entry_of_a_removed_subtree_a_zap_in_another_root_is_a_zap():
    lines = [changed(0, 2, TABLE, 0)]
    lines += [changed(gfn, 1, CHILD + (gfn << 12) if gfn < 3 else 0, 0x5A0) for gfn in range(512)]
    story = story_of(*lines, changed(5, 1, CHILD + 0x77000, 0))
    assert (story.counts["listed"], story.counts["zap"]) == (512, 1)


def test_what_another_tree_holds_is_no_entry_of_the_subtree_that_was_removed():
    """One task removes the old root, whose entries are gone already, and goes on in the new one."""
    old = [changed(0, level, 0, TABLE + (level << 12), pid=1) for level in (4, 3, 2)]
    new = [changed(0, level, 0, TABLE + (level + 9 << 12), pid=2) for level in (4, 3, 2)]
    new += [changed(6, 1, 0, CHILD, pid=2)]
    gone = changed(0, 4, TABLE + (4 << 12), 0, pid=3)
    story = story_of(*old, *new, gone, changed(6, 1, CHILD, 0, pid=3))
    assert (story.counts["listed"], story.counts["zap"], story.leaf_runs()) == (0, 1, [])
    # both know an entry there: it is the one's that holds what the line says
    story = story_of(*old, changed(6, 1, 0, CHILD + 0x1000), *new, gone, changed(6, 1, CHILD, 0, pid=3))
    assert (story.counts["zap"], story.leaf_runs(), story.mismatches) == (1, [], [])


def test_an_entry_of_smm_is_none_of_a_subtree_that_was_removed_elsewhere():
    def smm(*fields):
        return changed(*fields).replace("as id 0", "as id 1")

    story = story_of(
        changed(0, 3, 0, TABLE),
        smm(0, 2, 0, TABLE),
        smm(5, 1, 0, CHILD),
        changed(0, 3, TABLE, 0),
        smm(5, 1, CHILD, 0),
    )
    assert (story.counts["listed"], story.counts["zap"], story.leaf_runs(1)) == (0, 1, [])


def test_a_table_whose_bits_change_keeps_what_is_below_it():
    story = story_of(
        changed(0, 2, 0, TABLE),
        changed(5, 1, 0, CHILD),
        changed(0, 2, TABLE, TABLE & ~0x100),
    )
    assert story.leaf_runs() == [(5, 1, 1, 0x32_2600)]
    assert story.counts["bits"] == 1


def test_a_table_for_another_table_holds_nothing_that_is_known():
    story = story_of(changed(0, 2, 0, TABLE), changed(5, 1, 0, CHILD), changed(0, 2, TABLE, TABLE + 0x1000))
    tree = story.trees[0][0]
    assert (story.leaf_runs(), tree.known(1, 5), tree.known(1, 6)) == ([], None, None)


@pytest.mark.parametrize("said", [0, LEAF])
def test_a_table_that_no_line_linked_is_no_empty_one_and_no_split(said):
    """The lines before said there was nothing, or a leaf; now it is a table, of which nothing is known."""
    story = story_of(
        changed(0x200, 2, LEAF if said == 0 else 0, said), changed(0x200, 2, TABLE, TABLE & ~0x100)
    )
    tree = story.trees[0][0]
    assert (tree.known(1, 0x200), story.leaf_runs()) == (None, [])
    assert [(found.said, found.found) for found in story.mismatches] == [(said, TABLE)]


def test_an_entry_below_a_leaf_contradicts_it():
    story = story_of(changed(0x200, 2, 0, LEAF), changed(0x207, 1, CHILD, CHILD & ~0x200))
    assert len(story.mismatches) == 1
    assert story.leaf_runs() == [(0x207, 1, 1, 0x32_2600)]
    check_leaf_counts(story.trees[0][0])


def test_children_of_a_split_have_the_bits_that_the_cpu_set_in_the_leaf():
    story = story_of(changed(0x200, 2, 0, LEAF & ~0x200), changed(0x200, 2, LEAF, TABLE))
    assert story.trees[0][0].known(1, 0x203) == (CHILD & ~4) + 0x3000
    assert story.leaf_runs() == [(0x200, 1, 512, 0x32_2600)]


def test_the_rights_of_a_tracked_leaf_come_back_without_a_line():
    """A/D type 1, R and X saved in bits 54 and 56, none granted; a fault gives back R, X and W."""
    tracked = 0x0600_0003_2260_0830 | 1 << 52 | 1 << 54 | 1 << 56
    restored = 0x0600_0003_2260_0837 | 1 << 52
    story = story_of(changed(5, 1, 0, tracked), changed(5, 1, restored, 0))
    assert not story.mismatches
    story = story_of(changed(5, 1, 0, tracked), changed(5, 1, restored + 0x1000, 0))
    assert len(story.mismatches) == 1


def test_a_new_root_takes_over_while_the_old_one_goes():
    old = [changed(0, level, 0, TABLE + level, pid=1) for level in (4, 3, 2)] + [changed(5, 1, 0, CHILD)]
    new = [changed(0, level, 0, TABLE + 0x9000 + level, pid=2) for level in (4, 3, 2)]
    new += [changed(6, 1, 0, CHILD + 0x1000, pid=2)]
    zap = changed(5, 1, CHILD, 0, pid=3)
    story = story_of(*old, *new, zap)
    first, second = story.trees[0]
    assert (first.leaf_runs(), [run[:3] for run in second.leaf_runs()]) == ([], [(6, 1, 1)])
    assert not story.mismatches
    # its task goes on in the new root
    story = story_of(*old, *new, zap, changed(6, 1, CHILD + 0x1000, 0, pid=3))
    assert (story.leaf_runs(), story.mismatches) == ([], [])


def test_a_line_goes_to_the_tree_that_knows_what_it_says():
    """The task was in the old root, of which little is known; the entry is one of the new root's."""
    story = story_of(
        changed(0, 4, TABLE, TABLE | 1 << 9, pid=3),
        *(changed(0, level, 0, TABLE + 0x9000 + level, pid=2) for level in (4, 3, 2)),
        changed(6, 1, 0, CHILD, pid=2),
        changed(1 << 18, 1, CHILD, 0, pid=3),
        changed(0, 4, TABLE | 1 << 9, TABLE, pid=3),
        changed(6, 1, CHILD, 0, pid=3),
    )
    assert (len(story.trees[0]), story.leaf_runs(), story.mismatches) == (2, [], [])


@pytest.mark.parametrize(("layout", "empty"), [("ept-tdx", 1 << 63), ("npt-5.13", 0), ("npt-5.13", 1 << 63)])
def test_an_empty_entry_is_empty_whatever_it_holds(layout, empty):
    present = 0x8000_0001_0BC9_7907 if layout == "ept-tdx" else 0x1_0BC9_7867 | 1 << 11
    frozen = empty | 0x5A0
    story = story_of(
        changed(0, 2, empty, present),
        changed(5, 1, empty, present + 0x1000),
        changed(5, 1, present + 0x1000, frozen),
        changed(5, 1, empty, present + 0x1000),
        layout=layout,
    )
    assert (story.mismatches, [run[:3] for run in story.leaf_runs()]) == ([], [(5, 1, 1)])


@pytest.mark.parametrize("is_known", [True, False])
def test_a_collapse_takes_nothing_but_what_lies_elsewhere(is_known):
    """A leaf in its children's place again: what is on the same host frames stays; one frame was moved."""
    children = [CHILD + (at << 12) for at in range(512)]
    children[300] = CHILD + 0x7700_0000
    lines = [
        changed(0x200, 2, LEAF, TABLE),
        changed(0x200 + 300, 1, CHILD + (300 << 12), 0),
        changed(0x200 + 300, 1, 0, children[300]),
    ]
    lines = lines if is_known else []
    lines += [changed(0x200, 2, TABLE, LEAF)]
    lines += [changed(0x200 + at, 1, spte, 0x5A0) for at, spte in enumerate(children)]
    story = story_of(*lines, ranges=[GfnRange(0x200, 0x210)])
    assert story.leaf_runs() == [(0x200, 2, 1, 0x32_2600)]
    assert frames_of(story.judged[0].outside) == [(0x200 + 300, 0x200 + 301)]
    assert frames_of(story.judged[0].inside) == []
    assert story.counts["leaves of removed tables"] == 512


def test_each_split_is_matched_with_its_own_line_however_many_there_are():
    lines = []
    for block in range(1200):
        leaf = LEAF + (block << 21)
        lines += [
            changed(block * 512, 2, leaf, TABLE),
            f"kvm_mmu_split_huge_page: gfn {block * 512:x} spte {leaf:x} level 2 errno 0",
        ]
    story = story_of(*lines)
    assert (len(story.splits), story.counts["split"], story.counts["SplitHugePage"]) == (1000, 1200, 1200)
    assert all(split.is_seen for split in story.splits)
    assert not story.counts["splits without a change"]


def test_runs_of_zaps_are_counted_beyond_those_that_are_kept():
    lines = [changed(run * 100 + at, 1, CHILD, 0) for run in range(1100) for at in range(3)]
    story = story_of(*lines)
    assert (len(story.zaps), story.counts["runs of zaps"]) == (1000, 1100)
    assert {run.count for run in story.zaps} == {3}
    assert (story.zaps[-1].first.line, story.zaps[-1].last_line) == (2998, 3000)


def test_a_level_that_no_entry_has_is_said_and_hurts_nothing():
    story = story_of(
        changed(5, 0, 0, CHILD),
        changed(5, 6, 0, CHILD),
        changed(5, 2, 0, LEAF),
        "kvm_mmu_set_spte: gfn 5 spte 60000032260b77 (rwxu) level 0 at 18af604028",
    )
    assert [line.where.line for line in story.damaged] == [1, 2, 3]


def test_the_index_of_a_set_entry_is_that_of_its_frame():
    right = "kvm_mmu_set_spte: gfn 203 spte 600000322603b77 (rwxu) level 1 at 18af604018"
    assert not story_of(right).damaged
    assert len(story_of(right.replace("4018", "4020")).damaged) == 1


def test_a_leaf_over_private_frames_takes_those_outside_and_gives_none_back():
    """The report of the lost pages: 0x84d to 0x86d converted, then a 2M leaf over all of 0x800 to 0x9ff."""
    lines = [changed(0x800, 2, 0, TABLE)]
    lines += [changed(gfn, 1, 0, CHILD + (gfn << 12)) for gfn in range(0x800, 0xA00)]
    lines += [by_task("tracing_mark_write: convert gfn 84d-86e")]
    lines += [changed(gfn, 1, CHILD + (gfn << 12), 0) for gfn in range(0x84D, 0x86E)]
    lines += [by_task("kvm_entry: vcpu 0"), changed(0x800, 2, TABLE, LEAF, pid=2)]
    (judged,) = story_of(*lines).judged
    assert frames_of(judged.outside) == [(0x800, 0x84D), (0x86E, 0xA00)]
    assert frames_of(judged.inside) == [(0x84D, 0x86E)]
    assert (frames_of(judged.back), judged.is_safe) == ([], False)


def test_what_a_removed_table_held_is_told_by_its_lines_only():
    """From the middle: the table is not known, its lines name a leaf on each side of the edge."""
    lines = [
        by_task("kvm_unmap_hva_range: mmu notifier unmap range: 0x7f0000300000 -- 0x7f0000304000"),
        changed(0x200, 2, TABLE, 0),
        changed(0x2FF, 1, CHILD + 0xFF000, 0x5A0),
        changed(0x300, 1, CHILD + 0x10_0000, 0x5A0),
    ]
    story = story_of(*lines, slots=[Slot(0x7_F000_0000, 0)])
    (judged,) = story.judged
    assert (judged.span.start, judged.span.end) == (0x300, 0x304)
    assert (frames_of(judged.inside), frames_of(judged.outside)) == ([(0x300, 0x301)], [(0x2FF, 0x300)])
    # and a leaf in its place, after the range's task went on
    lines = [
        by_task("kvm_unmap_hva_range: mmu notifier unmap range: 0x7f0000300000 -- 0x7f0000304000"),
        changed(0x300, 1, CHILD + 0x10_0000, 0),
        by_task("kvm_entry: vcpu 0"),
        changed(0x200, 2, TABLE, LEAF + (1 << 30), pid=2),
        changed(0x2FF, 1, CHILD + 0xFF000, 0x5A0, pid=2),
    ]
    (judged,) = story_of(*lines, slots=[Slot(0x7_F000_0000, 0)]).judged
    assert frames_of(judged.outside) == [(0x2FF, 0x300)]


def test_the_layout_is_guessed_although_a_trace_begins_with_other_events():
    """More of them than wait for it."""
    lines = ["kvm_entry: vcpu 0"] * 70_000 + [changed(0, 2, 0, 0x8000_0001_0BC9_7907)]
    story = read_trace(lines)
    assert (story.layout.name, story.counts["Border"], story.counts["link"]) == ("ept-tdx", 70_000, 1)
    assert len(story.first_events) == 40


def test_a_trace_that_was_stopped_has_what_was_read():
    lines = iter([changed(5, 1, 0, CHILD)] * 3)
    reader = TraceReader(layout="ept")
    reader.read(lines)
    reader.end()
    assert (reader.story.lines, reader.story.counts["map"]) == (3, 3)


def _marked(pid, verb="convert"):
    return f"           bash-{pid}  [000] ..... 7.000001: tracing_mark_write: {verb} gfn 84d-86e"


def _by(pid, text):
    return f"      CPU 0/KVM-{pid}  [003] ...1. 7.000002: {text}"


ZAP_WHOLE = "kvm_tdp_mmu_spte_changed: as id 0 gfn 800 level 2 old_spte 6000001c8a00bf3 new_spte 0"


def test_a_marker_typed_by_another_task_is_held_against_every_task():
    """Whoever types a marker into a shell is not the task that zaps."""
    story = read_trace([_marked(17), _by(1001, ZAP_WHOLE)])
    (judged,) = story.judged
    assert sum(span.pages for span in judged.outside.ranges()) == 77 + 402


def test_a_marker_ends_with_the_call_of_its_own_task_or_the_next_marker():
    entry = _by(1001, "kvm_entry: vcpu 0, rip 0x0")
    own = [_by(1001, "tracing_mark_write: split gfn 700-701")]
    split = _by(
        1001, "kvm_tdp_mmu_spte_changed: as id 0 gfn 600 level 2 old_spte 6000001c8600bf3 new_spte 1234907"
    )
    story = read_trace([*own, split, entry, _by(1001, ZAP_WHOLE), _marked(17), _by(1001, ZAP_WHOLE)])
    first, second = story.judged
    assert (first.span.start, first.is_safe) == (0x700, True)
    assert (second.span.start, second.is_safe) == (0x84D, False)


def test_a_trace_of_set_spte_alone_tells_what_is_mapped():
    text = "kvm_mmu_set_spte: gfn 200 spte 6000001c8a00bf3 (rw-u) level 2 at 1234567008"
    story = read_trace([_by(1001, text)])
    assert story.leaf_runs() == [(0x200, 2, 1, 0x1C8A00)]


def test_what_other_tasks_map_while_the_unmap_is_the_last_of_its_task_is_back():
    """The task that unmaps has no line after it; a vCPU faults on, and a frame outside is lost twice."""
    story = read_trace(
        [
            _by(9, "kvm_unmap_hva_range: mmu notifier unmap range: 0x7f000084d000 -- 0x7f000086e000"),
            _by(9, ZAP_WHOLE),
            _by(
                1001, "kvm_tdp_mmu_spte_changed: as id 0 gfn 801 level 1 old_spte 0 new_spte 6000001c8a01b77"
            ),
            _by(
                1001, "kvm_tdp_mmu_spte_changed: as id 0 gfn a00 level 1 old_spte 0 new_spte 6000001c8c00b77"
            ),
        ]
    )
    (judged,) = story.judged
    assert (frames_of(judged.back), judged.first_back) == ([(0x801, 0x802)], 3)


def test_an_entry_has_a_life_in_each_tree():
    links = [changed(0, level, 0, TABLE + (level << 12), pid=1) for level in (4, 3)]
    other = [changed(0, level, 0, TABLE + (level + 9 << 12), pid=2) for level in (4, 3)]
    story = story_of(
        *links,
        changed(0x200, 2, 0, LEAF),
        *other,
        changed(0x200, 2, 0, LEAF, pid=2),
        changed(0x200, 2, LEAF, 0, pid=2),
        ranges=[GfnRange(0x210, 0x220)],
    )
    lives = [[step.what for step in one.steps] for one in story.judged[0].crossings.values() if one.was_leaf]
    assert lives == [["map"], ["map", "zap"]]
