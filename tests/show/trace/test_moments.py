"""The moments of a trace, and what each frame is after them, against a guest that counts frame by frame."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.reader import read_trace
from tdpkit.lab.traces.tree import pages_of
from tdpkit.show.trace.moments import Canvas, level_of, moments_of, paint_all
from tests.oracles.told import FROZEN, HUGE, LEAF, TABLE, line, told_guest
from tests.oracles.traced import traced

SEEDS = range(6)
FRAMES = 2048


def frames_of(canvas, frames=FRAMES):
    """What each frame is, in the guest's words."""
    said = one_by_one(canvas.cells(0, frames))
    assert len(said) == frames
    return ["empty" if kind == "hole" else kind for kind in said]


def one_by_one(cells):
    return [kind for first, last, kind, _ in cells for _ in range(first, last)]


def moments(lines):
    story = read_trace(lines, keep=True)
    found = moments_of(story)
    return found, [{root: canvas.copy() for root, canvas in now.items()} for now in paint_all(found, story)]


# ---- the canvas ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_canvas_is_what_a_list_of_frames_would_be(seed):
    rng, canvas, frames = Random(seed), Canvas(), ["unknown"] * 40
    for _ in range(200):
        first = rng.randrange(40)
        last, kind = rng.randrange(first + 1, 41), rng.choice("abc")
        canvas.paint(first, last, kind)
        frames[first:last] = [kind] * (last - first)
        cells = [*canvas.cells(0, 40)]
        assert one_by_one(cells) == frames
        assert all(one.kind != other.kind for one, other in pairwise(cells))
        low, high = sorted(rng.sample(range(41), 2))
        assert one_by_one(canvas.cells(low, high)) == frames[low:high]
        assert canvas.runs_in(low, high) == len([*canvas.cells(low, high)])
        assert canvas.kind_at(low) == frames[low]
        part = Canvas()
        for stretch in ((2, 9), (9, 14), (20, 31)):
            part.put(canvas, *stretch)
        rest = [frames[gfn] if 2 <= gfn < 14 or 20 <= gfn < 31 else "unknown" for gfn in range(40)]
        assert one_by_one(part.cells(0, 40)) == rest


# ---- moments and frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_each_thing_that_happened_is_one_moment_and_the_frames_are_as_it_left_them(seed):
    guest = told_guest(seed)
    found, after = moments(guest.lines)
    assert [moment.kind for moment in found] == [kind for kind, _ in guest.steps]
    for (_, told), canvases in zip(guest.steps, after, strict=True):
        assert frames_of(canvases[0, 0]) == told
    for moment, (_, told) in zip(found, guest.steps, strict=True):
        counts = {2: told.count("leaf2") // 512, 1: told.count("leaf1")}
        assert dict(moment.leaves) == {level: count for level, count in counts.items() if count}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_line_of_a_change_is_in_one_moment(seed):
    guest = told_guest(seed)
    found, _ = moments(guest.lines)
    held = [where.line for moment in found for where in moment.lines]
    changes = [number for number, text in enumerate(guest.lines, 1) if "spte_changed" in text]
    assert len(held) == len({*held})
    assert {*changes} <= {*held}
    rest = [text for number, text in enumerate(guest.lines, 1) if number not in held]
    assert all("kvm_entry" in text or "kvm_exit" in text for text in rest)


@pytest.mark.slow
def test_what_is_mapped_at_the_end_is_what_the_rebuilt_tree_has():
    """The tree keeps entries, the canvas frames; on every recorded case they tell the same."""
    for case in traced(every=37):
        story = read_trace(case.text.splitlines(), layout=case.layout, keep=True)
        if not story.changes:
            continue
        [*_, last] = paint_all(moments_of(story), story)
        expected = []
        for gfn, level, count, _ in story.leaf_runs():
            end = gfn + count * pages_of(level)
            if expected and expected[-1][1:] == [gfn, level]:
                expected[-1][1] = end
            else:
                expected.append([gfn, end, level])
        cells = [[cell.first, cell.last, level_of(cell.kind)] for cell in last[0, 0].cells(0, 1 << 40)]
        assert [cell for cell in cells if cell[2]] == expected, case.id


# ---- what belongs together -------------------------------------------------------------------------------


def changed(level, gfn, old, new, task="CPU 0/KVM-1001"):
    text = f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"
    return line(text, task)


def zap(gfn, task="CPU 0/KVM-1001"):
    return changed(1, gfn, LEAF + (gfn << 12), 0, task)


def kinds(*lines):
    return [(moment.kind, len(moment.changes)) for moment in moments_of(read_trace(lines, keep=True))]


def test_a_run_is_of_one_task_one_kind_and_one_occasion():
    other, marker = "qemu-42", line("tracing_mark_write: convert gfns 0x1 - 0x2")
    assert kinds(*map(zap, (1, 2, 9))) == [("zap", 3)]
    assert kinds(zap(1), zap(2), zap(3, other), zap(4)) == [("zap", 2), ("zap", 1), ("zap", 1)]
    assert kinds(zap(1), marker, zap(2)) == [("zap", 1), ("zap", 1)]
    assert kinds(zap(1), line("kvm_entry: vcpu 0, rip 0x0"), zap(2)) == [("zap", 1), ("zap", 1)]
    assert kinds(zap(1), changed(2, 512, HUGE + (512 << 12), 0)) == [("zap", 1), ("zap", 1)]
    dirty = [changed(1, gfn, LEAF + (gfn << 12), LEAF - 0x200 + (gfn << 12)) for gfn in (4, 5)]
    assert kinds(*dirty, zap(6)) == [("bits", 2), ("zap", 1)]


def test_a_fault_ends_with_its_leaf():
    links = [changed(level, 0, 0, TABLE + (level << 12)) for level in (3, 2)]
    maps = [changed(1, gfn, 0, LEAF + (gfn << 12)) for gfn in (1, 2)]
    assert kinds(*links, *maps) == [("fault", 3), ("fault", 1)]


def test_a_listing_belongs_to_its_removal_even_if_another_task_comes_between():
    listed = [changed(1, gfn, LEAF + (gfn << 12), FROZEN) for gfn in (0, 1)]
    found = moments_of(
        read_trace([changed(2, 0, TABLE, 0), listed[0], zap(900, "qemu-42"), listed[1]], keep=True)
    )
    assert [(moment.kind, len(moment.listed)) for moment in found] == [("remove", 2), ("zap", 0)]
    assert [where.line for where in found[0].lines] == [1, 2, 4]


def test_of_a_table_that_was_unknown_the_listing_says_which_leaves_went():
    listed = [changed(1, gfn, LEAF + (gfn << 12) if gfn in (3, 4, 9) else 0, FROZEN) for gfn in range(12)]
    [moment], _ = moments([changed(2, 0, TABLE, 0), *listed])
    assert [(mark.first, mark.last, mark.kind) for mark in moment.marks] == [
        (3, 5, "zapped"),
        (9, 10, "zapped"),
    ]


def test_a_split_that_was_refused_and_events_that_were_lost_are_moments():
    refused = line(f"kvm_mmu_split_huge_page: gfn 200 spte {HUGE + (512 << 12):x} level 2 errno -12")
    found, after = moments([zap(1), refused, "CPU:3 [LOST 17 EVENTS]", zap(2)])
    assert [moment.kind for moment in found] == ["zap", "refused", "lost", "zap"]
    assert [frames_of(now[0, 0], 4) for now in after] == [
        ["unknown", "empty", "unknown", "unknown"],
        ["unknown", "empty", "unknown", "unknown"],
        ["unknown"] * 4,
        ["unknown", "unknown", "empty", "unknown"],
    ]


def test_lost_events_leave_no_leaf_known():
    found, _ = moments([changed(1, 1, 0, LEAF + (1 << 12)), "CPU:3 [LOST 17 EVENTS]", zap(2)])
    assert [moment.leaves for moment in found] == [((1, 1),), (), ()]


def test_a_bit_of_a_table_says_nothing_of_what_is_below():
    _, after = moments([changed(1, 1, 0, LEAF + (1 << 12)), changed(2, 0, TABLE, TABLE | 0x100)])
    assert frames_of(after[1][0, 0], 4) == ["unknown", "leaf1", "unknown", "unknown"]


# ---- what went outside a range ---------------------------------------------------------------------------


def test_frames_taken_outside_stay_lost_until_they_are_mapped_again():
    guest = told_guest(0, 0)
    guest.fault(600, 2)
    guest.zap(1)
    guest.fault(513, 1)  # its table shows that block to be empty: no reason to call 514 anything but lost
    guest.fault(700, 1)
    story = read_trace(guest.lines, ranges=[GfnRange(600, 610)], keep=True)
    found = moments_of(story)
    after = [frames_of(now[0, 0]) for now in paint_all(found, story)]
    lost = {*range(512, 1024)} - {*range(600, 610)}
    assert {gfn for gfn, kind in enumerate(after[1]) if kind == "lost"} == lost
    assert {gfn for gfn, kind in enumerate(after[3]) if kind == "lost"} == lost - {513, 700}
    assert (after[3][513], after[3][700]) == ("back1", "back1")
    assert [sum(span.pages for span in moment.taken) for moment in found] == [0, 502, 0, 0]
    assert found[1].judged is story.judged[0]
