"""Lines of reports about TDX: calls by S163, statuses by S178, operands and RDX by S266, all by hand."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError
from tdpkit.lab.tdx_report import kept_in_int, main, read_report

DEMOTED = "SEAMCALL 0xf failed: 0xc0000b0800000001, RDX 0x400"
ZAPPED = (
    "BLOCK/REMOVE gfn=0x1b276 level=1 tdx_level=0 out_rdx=0x101 TDX_EPT_WALK_FAILED; "
    "2M pfn 0x31c600, children 0x31c676 0x31c677"
)


def read(line: str):
    report = read_report(line)
    assert report is not None
    return report


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        (DEMOTED, ("TDH.MEM.PAGE.DEMOTE",)),
        ("seamcall 29 returned 0xC0000B0600000001", ("TDH.MEM.PAGE.REMOVE",)),
        ("SEAMCALL (23) failed", ("TDH.MEM.PAGE.PROMOTE",)),
        ("SEAMCALL TDH_MEM_RANGE_BLOCK (7) failed: 0x8000020000000092", ("TDH.MEM.RANGE.BLOCK",)),
        ("tdh_mem_page_aug failed 0xc0000b0200000001", ("TDH.MEM.PAGE.AUG",)),
        ("TDG.MEM.PAGE.ACCEPT 0xC0000B0B00000001", ("TDG.MEM.PAGE.ACCEPT",)),
        (ZAPPED, ("TDH.MEM.RANGE.BLOCK", "TDH.MEM.PAGE.REMOVE")),
        ("SEAMCALL 99 failed", ("SEAMCALL 99",)),
    ],
)
def test_a_call_is_known_by_its_number_and_by_its_names(line, calls):
    assert read(line).calls == calls


@pytest.mark.parametrize(
    ("number", "name", "operand"),
    [
        ("0xc0000b0800000001", "TDX_TLB_TRACKING_NOT_DONE, an error", "operand 0x1 (RCX)"),
        ("0xC0000B0B00000001", "TDX_PAGE_SIZE_MISMATCH, an error", "operand 0x1 (RCX)"),
        ("8000020000000092", "TDX_OPERAND_BUSY, an error", "operand 0x92 (SEPT)"),
        ("0x80000201000000a9", "TDX_PREVIOUS_TLB_EPOCH_BUSY, an error", "operand 0xa9 (TD_EPOCH)"),
        ("0xc000010000000080", "TDX_OPERAND_INVALID, an error", "operand 0x80 (TDR)"),
        ("0x00000b0a00000000", "TDX_PAGE_ALREADY_ACCEPTED, no error", ""),
        ("0xc0000b0d00000007", "TDX_EPT_ENTRY_STATE_INCORRECT, an error", "operand 0x7 (not known here)"),
        ("0xc000ffff00000001", "not known here, an error", "operand 0x1 (RCX)"),
    ],
)
def test_a_status_is_named_by_its_upper_half_and_its_operand_by_the_lower(number, name, operand):
    report = read(f"SEAMCALL 29 failed {number}")
    assert report.status == int(number, 16)
    assert f"{int(number, 16):#018x}: {name}" in repr(report)
    assert operand in repr(report)
    assert ("operand" in repr(report)) == bool(operand)


def test_a_registers_value_is_no_status():
    assert read("SEAMCALL 29 failed TDX_EPT_WALK_FAILED RCX 0x8000000021bae00f").status is None
    assert read("SEAMCALL 29 failed, rcx=0x8000000021bae00f, r8=0xffffffff81000000").name is None


@pytest.mark.parametrize(
    ("rdx", "said"),
    [
        (0x101, "level 1 (2M), state 1 (BLOCKED)"),
        (0x400, "level 0 (4K), state 4 (PRESENT)"),
        (0x302, "level 2 (1G), state 3 (PENDING_BLOCKED)"),
        (0x0, "level 0 (4K), state 0 (FREE)"),
        (0x905, "level 5 (not known here), state 9 (not known here)"),
    ],
)
def test_rdx_holds_level_and_state_of_the_entry(rdx, said):
    assert f"RDX {rdx:#x}: {said}" in repr(read(f"out_rdx={rdx:#x}"))


def test_with_a_status_that_no_fact_speaks_of_the_meaning_of_rdx_is_unverified():
    assert "unverified (S266)" in repr(read(DEMOTED))
    assert "unverified" not in repr(read(ZAPPED))


def test_a_call_at_4k_that_met_a_blocked_2m_leaf_tells_of_a_split_that_only_kvm_made():
    report = read(ZAPPED)
    assert (report.gfn, report.level, report.name) == (0x1B276, 1, "TDX_EPT_WALK_FAILED")
    assert "KVM's tables are split there, the S-EPT is not" in report.cause
    lines = repr(report).splitlines()
    assert "gfn 0x1b276, level 1 (4K): frame 0x76 of the 2M block at 0x1b200" in lines
    assert "pfn 0x31c676 = 0x31c600 + 0x76: a frame of it, the gfn’s own" in lines
    assert "pfn 0x31c677 = 0x31c600 + 0x77: a frame of it" in lines


def test_a_demote_of_an_entry_that_is_not_blocked_asks_for_the_block_before_it():
    assert "nobody heeded" in read(DEMOTED).cause
    assert read(DEMOTED.replace("0x400", "0x101")).cause == ""
    assert read(DEMOTED.replace("0xf ", "0x6 ")).cause == ""


def test_frames_of_a_split_leaf_are_told_without_a_call():
    lines = repr(read("changed-live-split gfn=0x3400 level=2, pfn 0x2f4a00 / child 0x2f4a7d")).splitlines()
    assert lines == [
        "gfn 0x3400, level 2 (2M): frame 0x0 of the 2M block at 0x3400",
        "pfn 0x2f4a00: the first frame of a 2M page",
        "pfn 0x2f4a7d = 0x2f4a00 + 0x7d: a frame of it",
    ]


def test_a_frame_outside_the_page_and_a_gfn_off_its_level_are_said():
    said = repr(read("gfn=0x3401 level=2 pfn 0x2f4a00 child 0x2f4c00"))
    assert "no entry of 2M begins there" in said
    assert "pfn 0x2f4c00: no frame of the 2M page at 0x2f4a00" in said


@pytest.mark.parametrize(
    ("seq", "kept"),
    [
        (0, 0),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x8002DC25, 0xFFFFFFFF8002DC25),
        (1 << 32, 0),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_an_int_keeps_32_bits_and_extends_them_by_their_sign(seq, kept):
    assert kept_in_int(seq) == kept
    assert ("stale for ever" in repr(read(f"mmu_invalidate_seq {seq:#x} read as int"))) == (seq != kept)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "BUG: unable to handle page fault for address: ffffffff81000000",
        "tdh_mem_page_remove+0x12/0x20 [kvm_intel]",
        "kvm_mmu_spte_requested: gfn 0 pfn 1980dc3 level 1",
        "block device sda",
    ],
)
def test_a_line_about_something_else_says_nothing(line):
    assert read_report(line) is None


@given(st.one_of(st.text(), st.from_regex(r"(SEAMCALL|gfn|pfn|level|RDX|TDX_|0x| |[0-9a-f]|=){0,20}")))
def test_no_text_makes_it_fail(line):
    assert isinstance(repr(read_report(line)), str)


def test_what_is_no_text_is_refused():
    with pytest.raises(InvalidTypeError, match="7 is a int"):
        read_report(7)


# ---- the command ---------------------------------------------------------------------------------------


def test_the_command_reads_each_of_its_lines(capsys):
    assert main([DEMOTED, "hello"]) == 0
    printed = capsys.readouterr().out
    assert "TDH.MEM.PAGE.DEMOTE (SEAMCALL 15)" in printed
    assert printed.endswith("nothing about TDX in this line\n\n")


def test_from_a_pipe_it_prints_what_is_about_tdx_only(capsys, monkeypatch):
    text = io.TextIOWrapper(io.BytesIO(f"boot\n\xff\n{ZAPPED}\nbye\n".encode("latin-1")))
    monkeypatch.setattr(sys, "stdin", text)
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("TDH.MEM.RANGE.BLOCK")
    assert "nothing" not in printed


@pytest.mark.parametrize("arguments", [["hello"], []])
def test_without_a_line_about_tdx_its_exit_status_is_2(arguments, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello\n" * 3)))
    assert main(arguments) == 2
    assert "no line with a SEAMCALL" in capsys.readouterr().err
