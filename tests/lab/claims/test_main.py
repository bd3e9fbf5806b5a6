"""The command: the ledger, or some claims whole; nothing silent."""

import os
import subprocess
import sys

import pytest

from tdpkit.lab.claims import __main__, ledger
from tdpkit.lab.claims.__main__ import main
from tdpkit.lab.claims.ledger import CLAIMS


@pytest.fixture
def two(monkeypatch):
    """One claim with an experiment of hundredths of a second, one without."""
    kept = {name: CLAIMS[name] for name in ("C11", "C14")}
    for module in (ledger, __main__):
        monkeypatch.setattr(module, "CLAIMS", kept)


@pytest.mark.usefixtures("two")
def test_without_names_it_prints_a_row_for_each_claim_and_the_totals_last(capsys):
    assert main([]) == 0
    streams = capsys.readouterr()
    *_, first, second, totals = streams.out.splitlines()
    assert first.split("  ")[0] == "C11"
    assert second.split("  ")[0] == "C14"
    assert totals == "2 claims: holds 1, not decidable here 1"
    assert streams.err == ""


def test_a_named_claim_is_told_whole(capsys):
    assert main(["c14"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "C14: holds\n  says      For the EPT violation the boundary logic is superfluous. "
    )
    assert "  by        M2, Sean Christopherson, 2026-01-16, aWrMIeCw2eaTbK5Z@google.com\n" in text
    heads = [line[2:12].strip() for line in text.splitlines() if line[2:3].strip()][1:]
    assert heads == ["says", "by", "ended", "shown", "taught in"]
    assert text.endswith("  taught in notebook 05, Larger than asked, smaller than asked\n\n")
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.slow
def test_a_condition_and_a_reason_are_told(capsys):
    assert main(["C29", "C12"]) == 0
    text = capsys.readouterr().out
    assert "  holds if  the memory is mapped by 2M leaves already" in text
    assert "  undecided A name: " in text


@pytest.mark.usefixtures("two")
def test_long_tells_them_all_and_the_totals_last(capsys):
    assert main(["--long"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line[:1] == "C"] == ["C11: not decidable here", "C14: holds"]
    assert lines[-1] == "2 claims: holds 1, not decidable here 1"


@pytest.mark.parametrize("name", ["46", "C1, C2", "", "seven"])
def test_an_unknown_name_is_answered_in_a_sentence_with_status_2(name, capsys):
    assert main(["C11", name]) == 2
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("", f"no claim is called {name!r}; they are C1 to C45\n")


@pytest.mark.usefixtures("two")
def test_in_a_terminal_the_ledger_takes_the_place_of_its_progress(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main([]) == 0
    line = "\r\x1b[K"
    told = "".join(f"{line}{name}: {CLAIMS[name].in_short}" for name in ("C11", "C14"))
    assert capsys.readouterr().err == f"{told}{line}"


def test_ctrl_c_ends_it_in_a_sentence_with_status_130(capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "settle", interrupted)
    ledger.settled.cache_clear()
    assert main([]) == 130
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("", "interrupted: claims that are not printed are not settled\n")


def test_a_reader_who_stops_early_ends_it_without_complaint():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tdpkit.lab.claims", "C11"]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_claim_that_is_named_twice_is_told_once(capsys):
    assert main(["C11", "c12", "C11"]) == 0
    out = capsys.readouterr().out
    assert [line[:4] for line in out.splitlines() if line.startswith("C1")] == ["C11:", "C12:"]
