"""The command that reads a report's entries: what it finds in a text, what it prints, and its exit status."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.entries import read_report
from tdpkit.lab.entries.__main__ import main
from tdpkit.lab.entries.pasted import read_pasted
from tdpkit.lab.spte_guess import guess_guard
from tdpkit.lab.spte_layouts import LAYOUTS
from tests.oracles.entries import VALUES


def found(text):
    return [(one.spte, one.level) for one in read_pasted(text).entries]


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("600001980dc3b77 level 1", [(0x600001980DC3B77, 1)]),
        ("0x600001980DC3B77, LEVEL=1", [(0x600001980DC3B77, 1)]),
        ("600001980dc3b77", [(0x600001980DC3B77, None)]),
        ("5a0, 0\n0x80", [(0x5A0, None), (0, None), (0x80, None)]),
        ("level 3: 0x1104c40107\nlevel 2: 0x12340ff7", [(0x1104C40107, 3), (0x12340FF7, 2)]),
        (
            "kvm_mmu_set_spte: gfn 200 spte 60000198b200bf3 (rw-u) level 2 at 18af601008",
            [(0x60000198B200BF3, 2)],
        ),
        ("as id 0 gfn 200 level 1 old_spte 0 new_spte 5a0", [(0, 1), (0x5A0, 1)]),
        ("kvm_mmu_spte_requested: gfn 0 pfn 1980dc3 level 1", []),
        ("BLOCK/REMOVE gfn=0x7d276 level=1 tdx_level=0", []),
        ("add a bad face, feed a cafe", []),
        ("nothing here", []),
        ("", []),
        ("1234567890abcdef0 level 1", []),
    ],
)
def test_entries_are_found_where_they_stand(text, entries):
    assert found(text) == entries


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("gpa 0xfffff000: 5a0 level 1", 0xFFFFF000),
        ("addr 0xb80a0, hierarchy:\n5a0 level 1", 0xB80A0),
        ("gfn 200 spte 5a0 level 1", 0x200000),
        ("gfn 200 spte 5a0 level 1\ngfn 201 spte 5a0 level 1", None),
        ("5a0 level 1", None),
    ],
)
def test_an_address_is_in_bytes_and_a_gfn_in_frames(text, address):
    assert read_pasted(text).address == address


@pytest.mark.parametrize("row", VALUES, ids=lambda row: f"{row.spte:x}-{row.level}")
def test_a_single_entry_fits_and_says_its_layout(row, capsys):
    assert main([f"{row.spte:x} level {row.level}"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Layout {row.layout} (")
    assert ("Doubt: " in out) is bool(row.others)
    if row.frame is not None:
        assert f"{row.frame:#x}" in out


def test_without_a_level_every_level_that_makes_sense_is_said(capsys):
    assert main(["80a19da4c0000fb7"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(":")[0] for line in lines] == [
        "0x80a19da4c0000fb7 level 2",
        "0x80a19da4c0000fb7 level 3",
    ]
    assert main(["18af606907"]) == 0
    [line] = capsys.readouterr().out.splitlines()[1:]
    assert "levels 2 to 5: A table entry" in line
    assert main(["18af606907", "--level", "3"]) == 0
    assert "level 3: A table entry" in capsys.readouterr().out


def test_a_flaw_is_exit_status_1_and_no_entry_2(capsys):
    assert main(["600001980dc3b77 level 1", "--layout", "ept-7.2"]) == 1
    out = capsys.readouterr().out
    assert "as asked for" in out
    assert "✗ X and XU are set and cleared together" in out
    assert main(["no entry"]) == 2
    assert "there is no entry in the text" in capsys.readouterr().err
    assert main(["5a0 level 9"]) == 2
    assert main(["5a0 level 1", "--layout", "arm"]) == 2


def test_a_family_is_guessed_within(capsys):
    assert main(["5a0", "--layout", "npt"]) == 0
    assert capsys.readouterr().out.startswith("Layout npt-5.13 (")


def test_it_reads_a_pipe(monkeypatch, capsys):
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\0\n5a0 level 1\n")))
        assert main(arguments) == 0
        assert "Frozen" in capsys.readouterr().out


def test_the_fields_are_printed_on_demand(capsys):
    main(["600001980dc3b77 level 1"])
    assert "SPTE_BASE_ADDR_MASK" not in capsys.readouterr().out
    main(["600001980dc3b77 level 1", "--bits"])
    assert "51:12  SPTE_BASE_ADDR_MASK = 0x1980dc3: host frame 0x1980dc3" in capsys.readouterr().out


def test_the_place_of_an_entry_is_its_index_in_its_table():
    """Eight bytes an entry: 0x18af601008 is the second."""
    said = repr(read_report("gfn 200 spte 60000198b200bf3 (rw-u) level 2 at 18af601008"))
    assert "It stands at index 1 of the table in frame 0x18af601." in said


# ---- guard bits ----------------------------------------------------------------------------------------


def test_guard_bits_are_taken_out_and_the_other_reading_said(capsys):
    main(["3e000000a056 level 1"])
    out = capsys.readouterr().out
    assert "guest frame 0xa is a device's." in out
    assert "Bits 45:41 are guard bits, no part of the frame, on a host with 46 physical" in out
    assert "address bits; without guard bits it would be frame 0x3e000000a" in out


@pytest.mark.parametrize(
    ("said", "frame"),
    [
        ({"address": 0x3E00_0000_A000}, 0x3E000000A),
        ({"address": 0xA000}, 0xA),
        ({"phys_bits": 46}, 0xA),
        ({"phys_bits": 39}, 0x3E000000A),
    ],
)
def test_an_address_or_a_width_decides(said, frame):
    [read] = read_report("3e000000a056 level 1", **said).values
    assert read.entries[0].mmio_gfn == frame


def test_several_widths_may_fit():
    old, ept = LAYOUTS["npt-5.12"], LAYOUTS["ept-5.13"]
    several = guess_guard(0x38_001F_FE01_34D7, old)
    assert "on a host with 36 or 37 physical address bits; the frame is the same" in several.said
    # bits 40:35: of 40, guards are 39:35 and bit 40 was bit 35; of 41, they are 40:36 and bit 35 counts
    several = guess_guard(0x1F8_0000_A006, ept)
    assert "40 or 41 physical address bits" in several.said
    assert "the frame is the same" in several.said
    # bits 42:41 and 40:36: with 41, 40:36 are guards and 42:41 displaced (37:36); with 42 or 43 others
    assert guess_guard(0x5F0_0000_A006, ept).said.startswith("bits 40:36 are guard bits")
    with pytest.raises(InvalidValueError, match="60 is not"):
        guess_guard(0x5F0_0000_A006, ept, 60)


# ---- whatever comes ------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(st.text(alphabet="0123456789abcdefx level=:,\n()gpaspte.", max_size=120) | st.text(max_size=60))
def test_any_text_is_read_or_refused_in_words(text):
    if not read_pasted(text).entries:
        with pytest.raises(InvalidValueError, match="no entry"):
            read_report(text)
    elif all(one.level in (None, 1, 2, 3, 4, 5) for one in read_pasted(text).entries):
        report = read_report(text)
        assert len(report.values) == len(read_pasted(text).entries)
        assert "Layout " in repr(report)
    else:
        with pytest.raises(InvalidValueError, match="level"):
            read_report(text)


def test_what_is_no_text_or_too_long_is_refused():
    with pytest.raises(InvalidTypeError, match="read from text"):
        read_report(7)
    with pytest.raises(InvalidValueError, match="longer than 1M"):
        read_report("0" * (1 << 21))
