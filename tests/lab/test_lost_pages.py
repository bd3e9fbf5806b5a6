"""The report of the lost pages, run: numbers counted by hand from its ranges.

0x84d - 0x800 is 0x4d, 77 frames; 0xa00 - 0x86e is 0x192, 402; 0x86e - 0x84d is 0x21, 33.
"""

import pytest

from tdpkit.engine.events import Flush
from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.lost_pages import lost_pages

BEFORE, AMID, AFTER = GfnRange(0x800, 0x84D), GfnRange(0x84D, 0x86E), GfnRange(0x86E, 0xA00)
TREES = ["software-protected VM", "TD"]
EMPTY = 1 << 63
FROZEN = EMPTY | 0x5A0


def counted(report) -> list[int]:
    """Private frames lost after each call."""
    return [call.lost for call in report.calls.values()]


@pytest.mark.parametrize("vm", TREES)
def test_by_kvms_own_rule_no_private_frame_is_lost(vm):
    report = lost_pages(vm=vm)
    assert report.kept.ranges() == [BEFORE, AFTER]
    assert report.shared.ranges() == [AMID]
    assert (report.lost.ranges(), counted(report)) == ([], [0, 0, 0, 0])
    assert [(run.span.pages, run.level) for run in report.runs] == [(77, 1), (1, 1), (32, 0), (402, 1)]


def test_by_the_hosts_page_alone_one_fault_takes_479_private_frames():
    report = lost_pages("host page")
    assert report.lost.ranges() == [BEFORE, AFTER]
    assert report.kept.ranges() == []
    assert counted(report) == [0, 0, 0, 77 + 402]
    assert {run.level for run in report.runs} == {2}, "one leaf holds all frames"
    assert repr(report).splitlines()[1:] == [
        "  0x800-0x84c   77 lost: mapped as shared",
        "  0x84d-0x86d   33 shared",
        "  0x86e-0x9ff  402 lost: mapped as shared",
        "479 private frames lost, by the call “fault”",
    ]


def test_the_trace_of_that_fault_has_a_line_for_every_entry_of_the_table_empty_ones_too():
    """S263: whoever counts the lines takes 512 frames for lost, not 479."""
    fault = lost_pages("host page").calls["fault"]
    parent, *below = fault.trace
    assert " gfn 800 level 2 " in parent
    assert [int(line.split(" gfn ")[1].split()[0], 16) for line in below] == [*range(0x800, 0xA00)]
    assert all(line.endswith(f" new_spte {FROZEN:x}") for line in below)
    empty = [line for line in below if f"old_spte {EMPTY:x} " in line]
    assert len(empty) == 33
    assert len(fault.recording.of(Flush)) == 1


@pytest.mark.parametrize("vm", TREES)
def test_without_the_split_it_is_the_conversion_that_takes_them(vm):
    report = lost_pages(vm=vm, split="none")
    assert report.lost.ranges() == [BEFORE, AFTER]
    assert counted(report) == [0, 0, 479, 479]
    assert len(report.calls["convert"].trace) == 1, "the leaf of 2M goes whole"


@pytest.mark.parametrize("vm", TREES)
def test_the_split_that_was_needed_is_one_and_the_zap_is_of_the_range(vm):
    """S221: the changed entry, then the split's own line; then 33 entries of 4K."""
    change, split, *zaps = lost_pages(vm=vm).calls["convert"].trace
    assert change.startswith("kvm_tdp_mmu_spte_changed: as id 0 gfn 800 level 2 ")
    assert split.startswith("kvm_mmu_split_huge_page: gfn 800 ")
    assert len(zaps) == 33


def test_in_a_td_the_wrong_level_takes_nothing_and_maps_private_frames_as_shared():
    report = lost_pages("host page", vm="TD")
    assert report.lost.ranges() == []
    assert [(run.span, run.fate) for run in report.runs] == [
        (BEFORE, "kept, and mapped as shared as well"),
        (AMID, "shared"),
        (AFTER, "kept, and mapped as shared as well"),
    ]


def test_a_rule_of_ones_own_is_asked_for_the_level_of_the_last_fault():
    asked = []

    def never_huge(kvm, slot, gfn, max_level):
        asked.append((gfn, max_level))
        return 1

    assert counted(lost_pages(never_huge)) == [0, 0, 0, 0]
    assert asked == [(0x84D, 2)]
    assert "never_huge" in repr(lost_pages(never_huge))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"level_rule": "2M"}, InvalidValueError),
        ({"level_rule": 2}, InvalidTypeError),
        ({"vm": "plain VM"}, InvalidValueError),
        ({"split": "v9"}, InvalidValueError),
    ],
)
def test_what_is_no_rule_vm_or_split_is_refused(wrong, kind):
    with pytest.raises(kind, match=repr(next(iter(wrong.values())))):
        lost_pages(**wrong)
