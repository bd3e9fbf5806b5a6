"""The traces of notebook 09 tell the story they are meant to, and are what the engine writes today."""

import re
from pathlib import Path

import pytest

from tdpkit.lab.terminal import exit_status
from tdpkit.lab.traces import shipped
from tests.oracles.ftrace import Reader, is_leaf

FOLDER = Path(__file__).parents[3] / "notebooks" / "traces"
LOST, SPLIT = ((FOLDER / name).read_text(encoding="utf-8") for name in ("lost-pages.txt", "one-split.txt"))
CHANGE = re.compile(r"gfn ([0-9a-f]+) level (\d) old_spte ([0-9a-f]+) new_spte ([0-9a-f]+)$")


def after(text: str, start: str, end: str = "kvm_entry") -> list[tuple[int, int, int, int]]:
    """The changes (gfn, level, old, new) from the line with `start` to the next with `end`."""
    part = text.split(start, 1)[1].split(end, 1)[0]
    found = filter(None, map(CHANGE.search, part.splitlines()))
    return [(int(m[1], 16), int(m[2]), int(m[3], 16), int(m[4], 16)) for m in found]


def test_the_files_are_what_is_written_today(tmp_path):
    shipped.main([str(tmp_path)])
    written = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert written == {file.name: file.read_bytes() for file in FOLDER.iterdir()}


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert exit_status(lambda: shipped.main([str(tmp_path / "none")]), "") == 2
    assert exit_status(lambda: shipped.main([]), "") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_they_are_short_enough_to_read():
    assert len(LOST.splitlines()) <= 1500
    assert len(SPLIT.splitlines()) <= 40


@pytest.mark.parametrize("text", [LOST, SPLIT])
def test_time_ascends_and_every_task_keeps_its_pid_and_cpu(text):
    heads = re.findall(r"^ *(\S.*?)-(\d+) +\[(\d+)\] [d.]{2}\.[.12]\. +(\d+)\.(\d{6}): ", text, re.MULTILINE)
    times = [int(seconds + us) for *_, seconds, us in heads]
    assert times == sorted(set(times))
    assert len(times) == text.count("[0")
    assert {head[:3] for head in heads} <= {
        ("CPU 0/KVM", "2214", "003"), ("CPU 1/KVM", "2215", "005"), ("qemu-system-x86", "2209", "001"),
    }  # fmt: skip


def test_each_line_follows_from_those_before_it():
    """By the slots: frame g of RAM is host frame 31c000 + g, of what became shared 1a4000 + g."""
    assert Reader(LOST.splitlines(), 0, exec_bits=4).leaf_runs() == [
        [0x0, 1, 2, 0x2C7A40],
        [0x6, 1, 4, 0x2C7A46],
        [0x5F, 1, 1, 0x2C7A9F],
        [0xEA, 1, 1, 0x2C91EA],
        [0xF0, 1, 2, 0x2C91F0],
        [0xFF, 1, 1, 0x2C91FF],
        [0x200, 2, 1, 0x31C200],
        [0x400, 1, 512, 0x31C400],  # split by the dirty log
        [0x600, 2, 1, 0x31C600],
        [0x812, 1, 1, 0x31C812],  # what came back of 0x800-0xa00
        [0x84C, 1, 1, 0x31C84C],
        [0x84D, 1, 1, 0x1A484D],
        [0x86E, 1, 1, 0x31C86E],
        [0xC00, 1, 0x4D, 0x31CC00],  # 0xc00-0xe00 lost nothing
        [0xC4D, 1, 1, 0x1A4C4D],
        [0xC6E, 1, 0x192, 0x31CC6E],
        [0x1000, 2, 1, 0x1A5000],  # shared, over private frames
        [0x1A00, 2, 2, 0x31DA00],
    ]
    assert Reader(SPLIT.splitlines(), 0, exec_bits=4).leaf_runs() == [
        [0x800, 1, 0x45, 0x31C800],
        [0x846, 1, 1, 0x31C846],
        [0x848, 1, 0x1B8, 0x31C848],
    ]


def test_a_conversion_without_a_split_takes_the_whole_leaf():
    assert [change[:2] for change in after(LOST, "convert gfn 84d-86e")] == [(0x800, 2)]
    assert after(LOST, "convert gfn 84d-86e")[0][3] == 0


@pytest.mark.parametrize("block", [0xC00, 0x1000])
def test_a_conversion_with_a_split_takes_its_frames_only(block):
    split, *zaps = after(LOST, f"convert gfn {block + 0x4D:x}-{block + 0x6E:x}")
    assert split[:2] == (block, 2)
    assert [(gfn, level) for gfn, level, _, _ in zaps] == [(block + i, 1) for i in range(0x4D, 0x6E)]
    assert all(new == 0 for *_, new in zaps)


def test_the_last_fault_takes_a_table_with_479_private_frames():
    """77 in front of the range and 402 behind it; the 33 inside were empty."""
    leaf, *entries = after(LOST, "kvm_mmu_spte_requested: gfn 104d")
    assert leaf[:2] == (0x1000, 2)
    assert is_leaf(leaf[3], 2)
    assert [gfn for gfn, *_ in entries] == list(range(0x1000, 0x1200))
    assert {new for *_, new in entries} == {0x5A0}
    assert sum(old != 0 for _, _, old, _ in entries) == 77 + 402 == 479


def test_the_unmap_is_of_a_4k_leaf_and_the_dirty_log_clears_d_alone():
    assert [change[:2] for change in after(LOST, "7f3c40007000 -- 0x00007f3c40008000")] == [(0x7, 1)]
    split, *cleared = after(LOST, "kvm_mmu_get_page: sp gen 0 gfn 400 l1", "kvm_exit")
    assert split[:2] == (0x400, 2)
    assert [gfn for gfn, *_ in cleared] == list(range(0x400, 0x420))
    assert {old ^ new for _, _, old, new in cleared} == {1 << 9}


def test_what_a_reader_has_to_skip_is_there():
    mmio = re.search(r"mark_mmio_spte: sptep:\S+ gfn b8 access 6 gen 14\n.*new_spte ([0-9a-f]+)\n", LOST)
    assert int(mmio[1], 16) == 0x1F << 41 | 0xB8 << 12 | 0x14 << 3 | 6  # guard bits 45 to 41 (S262)
    for foreign in (
        "sched_switch: ",
        "kvm_userspace_exit: ",
        "<stack trace>\n => ",
        "kvm_mmu_prepare_zap_page: ",
    ):
        assert foreign in LOST
