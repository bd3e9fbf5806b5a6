"""The command: its exit status and what it prints, for files, pipes and whatever else is given to it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tdpkit.lab.traces.__main__ import main

SHIPPED = Path(__file__).parents[3] / "notebooks" / "traces"
CHANGED = "kvm_tdp_mmu_spte_changed: as id 0 gfn 800 level 2 old_spte 6000001c8a00bf3 new_spte 0"


@pytest.fixture
def text(tmp_path):
    def write(content):
        path = tmp_path / "trace.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_status_says_whether_frames_outside_were_taken(text, capsys):
    file = text(CHANGED)
    assert main([file, "--range", "0x800", "0xa00"]) == 0
    assert main([file, "--range", "84d", "86e"]) == 1
    assert "479 frames outside the range taken: 0x800 to 0x84c and 0x86e to 0x9ff" in capsys.readouterr().out
    assert main([file, "--range", "8M+308K", "8M+440K"]) == 1
    assert main([file]) == 0


def test_a_short_text_is_told_event_by_event(text, capsys):
    main([text(CHANGED)])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "line 1: level 2, frame 0x800: a 2M leaf on host frame 0x1c8a00 (R W, no X) is gone"


def test_shipped_traces():
    assert main([str(SHIPPED / "one-split.txt")]) == 0
    assert main([str(SHIPPED / "lost-pages.txt")]) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no trace: of 0 lines none is an event of KVM's MMU"),
        (bytes(range(256)) * 64, "is no trace"),
        (b"\0" * 4096, "is no trace"),
        (b"hello\nworld\n", "is no trace: of 2 lines none"),
        (b"\x17\x08\x44tracing6\0", "trace-cmd report"),
        (b"PERFILE2" + bytes(64), "perf script"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"<idle>-0 [001] d..1. 1.000001: sched_switch: prev_comm=a", "none of KVM's MMU (sched_switch)"),
    ],
)
def test_what_is_no_trace_gets_a_sentence(content, said, text, capsys):
    assert main([text(content)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["."], "'.' cannot be read"),
        (["FILE", "--layout", "ept-9"], "'ept-9' is no layout"),
        (["FILE", "--range", "a00", "800"], "0x800"),
        (["FILE", "--range", "zz", "800"], "'zz'"),
        (["FILE", "--slot", "7f0000000123", "0"], "multiple of 0x1000"),
    ],
)
def test_bad_values_name_the_rule(arguments, said, text, capsys):
    file = text(CHANGED)
    assert main([file if argument == "FILE" else argument for argument in arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert not told.out


def test_a_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "tdpkit.lab.traces", "-", "--range", "84d", "86e"],
        input=CHANGED,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.endswith("Frames outside were taken: 479 (by 1 of 1 range).\n")


def test_markup_stays_text(text, capsys):
    """A task may be called anything; a terminal gets it as it is, without control characters."""
    line = f"   <b>x\x1b[31m</b>-17  [003] ...1. 5.000001: {CHANGED}"
    assert main([text(line)]) == 0
    told = capsys.readouterr().out
    assert "<b>x" in told
    assert "\x1b" not in told


def test_a_file_that_grows_has_an_end(tmp_path, monkeypatch):
    """What is written while it is read is left for the next time."""
    path = tmp_path / "growing.txt"
    path.write_text(f"{CHANGED}\n" * 1000)
    real = io.BufferedReader.read1

    with open(path, "ab") as more:

        class Growing(io.FileIO):
            def readinto(self, buffer):
                more.write(f"{CHANGED}\n".encode() * 1000)
                more.flush()
                return super().readinto(buffer)

        monkeypatch.setattr("builtins.open", lambda name, mode: io.BufferedReader(Growing(name, "rb")))
        assert real
        assert main([str(path)]) == 0
    assert os.path.getsize(path) > 2000 * len(CHANGED)
