"""The command: a row per scenario, nothing silent."""

import os
import subprocess
import sys

import pytest

from tdpkit.lab.schedules import THREE, __main__
from tdpkit.lab.schedules.__main__ import main


def test_a_scenario_has_a_row_with_states_interleavings_and_what_breaks(capsys):
    assert main(["exclusive, in hand", "exclusive, in hand, flush inside"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["scenario", "states", "interleavings", "seconds"]
    assert [row.split("  ")[0] for row in rows] == ["exclusive, in hand", "exclusive, in hand, flush inside"]
    assert " 42 " in rows[0]
    assert rows[0].endswith("no stale TLB (10); explored whole")
    assert " 12 " in rows[1]
    assert rows[1].endswith("nothing; explored whole")


def test_a_witness_can_be_pasted_from_its_line_and_what_only_the_api_allows_is_marked(capsys):
    assert main(["shared, in hand", "--witness"]) == 0
    _, row, *witnesses = capsys.readouterr().out.splitlines()
    assert row.endswith("[API only]")
    assert [line.strip().partition(": ")[0] for line in witnesses] == ["no misreport", "no stale TLB"]
    assert witnesses[0].endswith(":return")


def test_a_bound_is_never_silent(capsys):
    assert main(["shared, generation counters", "--bound", "300"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert "bounded at 300 states" in row
    assert "not counted" in row


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing like it"], "no scenario is called 'nothing like it'; there are\n  shared, on demand\n"),
        (["cache: mutex", ""], "no scenario is called ''; there are\n"),
        (["--bound", "0"], "a bound is 1 state or more; 0 is not"),
    ],
)
def test_bad_arguments_are_answered_in_a_sentence_with_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(message)


def test_three_threads_come_after_the_scenarios_that_are_named(capsys):
    assert main(["cache: mutex", "--three", "--bound", "20"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split("  ")[0] for row in rows] == ["cache: mutex", *THREE]


def test_in_a_terminal_a_row_takes_the_place_of_its_progress(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["three split", "--bound", "250"]) == 0
    line = "\r\x1b[K"
    progress = "".join(f"{line}three split: {states} states" for states in (100, 200))
    assert capsys.readouterr().err == f"{progress}{line}"


def test_ctrl_c_ends_it_in_a_sentence_with_status_130(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "Explorer", interrupted)
    assert main(["cache: mutex"]) == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


def test_a_reader_who_stops_early_ends_it_without_complaint():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tdpkit.lab.schedules", "cache: mutex", "--witness"]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")
