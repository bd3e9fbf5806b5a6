"""What is said of events and findings, against sentences worked out by hand from the formats and layouts."""

from __future__ import annotations

import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.spte_layouts import LAYOUTS
from tdpkit.lab.traces.events import events_of
from tdpkit.lab.traces.reader import read_trace
from tdpkit.lab.traces.words import (
    answer,
    bits_that_changed,
    entry_in_words,
    event_in_words,
    judged_in_words,
    report,
)

OLD, TDX_ERA, NPT = LAYOUTS["ept-5.13"], LAYOUTS["ept-tdx"], LAYOUTS["npt-5.12"]

LEAF, CHILD, TABLE = 0x6000001C8A00BF3, 0x6000001C8A00B77, 0x1234567907
"""RW without X in 2M, its first child with X, a table: Linux 5.13."""
TRACKED = CHILD & ~7 | 1 << 52 | 5 << 54
"""The child, with A/D type 1 and R and X saved from bit 54 on."""


@pytest.mark.parametrize(
    ("spte", "level", "layout", "said"),
    [
        (LEAF, 2, OLD, "a 2M leaf on host frame 0x1c8a00 (R W, no X)"),
        (CHILD, 1, OLD, "a 4K leaf on host frame 0x1c8a00 (R W X)"),
        (TABLE, 3, OLD, "a table in host frame 0x1234567"),
        (0, 1, OLD, "nothing"),
        (0x5A0, 1, OLD, "a frozen entry"),
        (0x3E000000C056, 1, OLD, "a device (MMIO, frame 0xc)"),
        (1 << 63, 1, TDX_ERA, "nothing"),
        (1 << 63 | 0x5A0, 2, TDX_ERA, "a frozen entry"),
        (0x8BE2171025, 1, NPT, "a 4K leaf on host frame 0x8be2171 (R X, no W)"),
        (TRACKED, 1, OLD, "a 4K leaf on host frame 0x1c8a00 (access-tracked: R, W and X are taken away)"),
    ],
)
def test_entry(spte, level, layout, said):
    assert entry_in_words(spte, level, layout) == said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (CHILD, CHILD & ~(1 << 9), "D cleared"),
        (CHILD & ~(1 << 1), CHILD, "W set"),
        (CHILD, CHILD & ~(1 << 8 | 1 << 1), "W and A cleared"),
        (CHILD, CHILD + 0x1000 & ~(1 << 9), "D cleared and another host frame"),
        (CHILD, CHILD, "nothing changed"),
        (CHILD, TRACKED, "A/D type and saved rights set and R, W and X cleared"),
        (CHILD, CHILD | 1 << 60, "other bits changed (0x1000000000000000)"),
    ],
)
def test_bits(old, new, said):
    assert bits_that_changed(old, new, OLD) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "kvm_mmu_spte_requested: gfn 3 pfn 1c0de level 1",
            "KVM wants a 4K leaf for frame 0x3, on host frame 0x1c0de",
        ),
        (
            f"kvm_tdp_mmu_spte_changed: as id 0 gfn 400 level 2 old_spte {LEAF:x} new_spte {TABLE:x}",
            "level 2, frame 0x400: a 2M leaf on host frame 0x1c8a00 (R W, no X) becomes a table in host "
            "frame 0x1234567: a split",
        ),
        (
            f"kvm_tdp_mmu_spte_changed: as id 1 gfn 400 level 2 old_spte {TABLE:x} new_spte {LEAF:x}",
            "SMM, level 2, frame 0x400: a 2M leaf on host frame 0x1c8a00 (R W, no X) takes the place of a "
            "table in host frame 0x1234567: all below it is gone",
        ),
        (
            f"kvm_tdp_mmu_spte_changed: as id 0 gfn 7 level 1 old_spte {CHILD:x} new_spte 5a0",
            "level 1, frame 0x7: a 4K leaf on host frame 0x1c8a00 (R W X) is gone; the entry is frozen: an "
            "atomic zap, or the entry of a table that goes",
        ),
        (
            f"kvm_mmu_split_huge_page: gfn 400 spte {LEAF:x} level 2 errno -16",
            "the 2M leaf at 0x400 was not split: -16 (-EBUSY): another task changed it first; it is tried "
            "again",
        ),
        (
            f"kvm_mmu_set_spte: gfn 201 spte {CHILD:x} (rwxu) level 1 at 1234567008",
            "a fault set the entry of level 1 for 0x201: a 4K leaf on host frame 0x1c8a00 (R W X), in table "
            "page 0x1234567, index 1; printed as rwxu",
        ),
        (
            "kvm_page_fault: address 84d000 error_code 2",
            "a vCPU (the oldest format does not say which) faults at 0x84d000, frame 0x84d, error code 0x2 "
            "(EPT: a write)",
        ),
        ("kvm_exit: vcpu 3 reason EPT_VIOLATION rip 0x0", "vCPU 3 leaves the guest"),
        ("tracing_mark_write: tdpkit: convert gfn 84d-86e to shared", "a marker: convert 0x84d to 0x86d"),
        ("CPU:3 [LOST 12 EVENTS]", "the tracer lost 12 events: from here on all is unknown again"),
    ],
)
def test_event(text, said):
    (event,) = events_of([text])
    assert event_in_words(event, OLD) == said


def test_fault_where_no_entry_tells_the_layout():
    (event,) = events_of(["kvm_page_fault: address 84d000 error_code 4"])
    assert event_in_words(event, None).endswith("error code 0x4 (EPT: a fetch; NPT: a read, no entry)")


def _changed(gfn, level, old, new):
    return f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"


MAPPED = [_changed(0, 4, 0, TABLE), _changed(0, 3, 0, TABLE), _changed(0x800, 2, 0, LEAF)]


def test_a_leaf_zapped_whole():
    """A 2M leaf over [0x84d, 0x86e): 77 frames before the range and 402 after it go with it."""
    story = read_trace([*MAPPED, _changed(0x800, 2, LEAF, 0)], ranges=[GfnRange(0x84D, 0x86E)])
    verdict, leaf, back = judged_in_words(story.judged[0])
    assert verdict == (
        "Frames 0x84d to 0x86d: 479 frames outside the range taken: 0x800 to 0x84c and 0x86e to 0x9ff."
    )
    assert leaf == (
        "The 2M leaf of frames 0x800 to 0x9ff: mapped at line 3; zapped whole at line 4, not split before, "
        "and 479 frames outside with it."
    )
    assert back == "None of them was mapped again."
    assert answer(story) == "Frames outside were taken: 479 (by 1 of 1 range)."


def _announced(gfn, *, level):
    """A marker for one frame, and what goes after it: the entry over it, of which nothing was known."""
    marker = f"tracing_mark_write: tdpkit: zap gfn {gfn:x}-{gfn + 1:x}"
    return [marker, _changed(gfn, level, {1: CHILD, 2: LEAF}[level] + (gfn << 12), 0)]


@pytest.mark.parametrize(
    ("safe", "hurt", "said"),
    [
        (1500, 0, "Nothing outside was taken (1 500 ranges judged)."),
        (1500, 3, "Frames outside were taken: 1 533 (by 3 of 1 503 ranges)."),  # 511 each
        (0, 2300, "Frames outside were taken: at least 1 022 000 (by 2 300 of 2 300 ranges)."),
    ],
)
def test_ranges_are_counted_beyond_those_that_are_kept(safe, hurt, said):
    lines = [line for n in range(safe) for line in _announced(n, level=1)]
    lines += [line for n in range(8, 8 + hurt) for line in _announced(512 * n, level=2)]
    story = read_trace(lines)
    assert answer(story) == said
    assert len(story.judged) == min(safe, 1000) + min(hurt, 2000)
    told = report(story, most=2)
    assert ("and 1 498 more ranges with nothing taken outside" in told) == bool(safe)
    assert (f"and {'1' if hurt == 3 else '2 298'} more range" in told) == bool(hurt)


def test_a_leaf_split_first():
    """The same range, with the split before the zap of its 33 frames."""
    zaps = [_changed(gfn, 1, CHILD + (gfn - 0x800 << 12), 0) for gfn in range(0x84D, 0x86E)]
    lines = [*MAPPED, _changed(0x800, 2, LEAF, TABLE), *zaps]
    story = read_trace(lines, ranges=[GfnRange(0x84D, 0x86E)])
    verdict, leaf = judged_in_words(story.judged[0])
    assert verdict == (
        "Frames 0x84d to 0x86d: 33 frames of the range taken, none outside; 1 leaf crossed an edge, 1 split."
    )
    assert leaf == "The 2M leaf of frames 0x800 to 0x9ff: mapped at line 3; split at line 4."
    assert answer(story) == "Nothing outside was taken (1 range judged)."
    assert "lines 5 to 37: 33 leaves of 4K zapped, frames 0x84d to 0x86d" in report(story)


def test_a_report_without_a_range():
    said = report(read_trace(MAPPED))
    assert said.endswith("No range to judge: the trace announces none; give one with --range START END.")
    assert "changes: 2 tables linked, 1 leaf mapped" in said


def test_a_mismatch_names_both_sides():
    other = LEAF + (0x200 << 12)
    said = report(read_trace([*MAPPED, _changed(0x800, 2, other, 0)], layout="ept-5.13"))
    assert "1 old value is not what the lines before said" in said
    assert (
        "line 4: level 2, frame 0x800, held a 2M leaf on host frame 0x1c8c00 (R W, no X); the lines before "
        "said a 2M leaf on host frame 0x1c8a00 (R W, no X)"
    ) in said
