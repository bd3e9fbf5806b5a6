"""A step is looked up, and says what the lines up to it tell; what is no trace is refused in a sentence."""

from __future__ import annotations

import re
from random import Random

import pytest

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.traces.shipped import SHIPPED
from tdpkit.show.trace import state as module
from tdpkit.show.trace.state import (
    NO_EDGE,
    ROWS,
    VIEWS,
    Reading,
    TraceText,
    as_trace,
    read_edge,
    shortened,
    stretches_of,
    text_of,
    trace_state,
)
from tests.oracles.told import HUGE, LEAF, line, told_guest
from tests.show.trace.test_moments import changed, one_by_one, zap

WORDS = {"empty": "hole"}


def reading(lines, span=None):
    return Reading(TraceText("text", "\n".join(lines).encode()), span, "")


def lost_pages():
    return Reading(text_of("lost-pages"), None, "")


# ---- any step, in any order ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [2, 3])
def test_a_step_reached_from_anywhere_is_what_the_lines_up_to_it_told(seed):
    guest = told_guest(seed, 200)
    read = reading(guest.lines)
    assert read._stride > 1, "else nothing is applied between what is kept"
    told = [["unknown"] * 2048, *(told for _, told in guest.steps)]
    rng = Random(seed)
    for step in [0, 200, 199, 1, *rng.choices(range(201), k=60)]:
        state = trace_state(read, step, rng.choice(VIEWS))
        assert [row.step for row in state.rows] == [*range(state.rows[0].step, state.rows[0].step + ROWS)]
        assert step in [row.step for row in state.rows]
        for row in state.rows:
            expected = [
                WORDS.get(kind, kind) for low, high in state.stretches for kind in told[row.step][low:high]
            ]
            marked = one_by_one(row.cells)
            moment = read.moments[row.step - 1] if row.step else None
            for mark in moment.marks if moment else ():
                at = 0
                for low, high in state.stretches:
                    for gfn in range(max(low, mark.first), min(high, mark.last)):
                        assert marked[at + gfn - low] == mark.kind
                        marked[at + gfn - low] = expected[at + gfn - low]
                    at += high - low
            assert marked == expected


def test_a_step_reads_no_line_again(monkeypatch):
    read = lost_pages()
    monkeypatch.setattr(module, "read_trace", lambda *_, **__: pytest.fail("the text was read"))
    monkeypatch.setattr(module, "paint_all", lambda *_: pytest.fail("all was painted"))
    assert [trace_state(read, step, "whole").step for step in range(36)] == [*range(36)]


def test_after_lost_events_all_is_unknown_again():
    state = trace_state(reading([zap(1), "CPU:3 [LOST 17 EVENTS]", zap(2)]), 3, "step")
    kinds = [one_by_one(row.cells)[:4] for row in state.rows]
    assert kinds == [
        ["unknown"] * 4,
        ["unknown", "zapped", "unknown", "unknown"],
        ["unknown"] * 4,
        ["unknown", "unknown", "zapped", "unknown"],
    ]


# ---- what went outside a range, counted in the text itself ------------------------------------------------


def changes(text):
    found = re.findall(r"spte_changed: as id 0 gfn (\w+) level (\d) old_spte (\w+) new_spte (\w+)\n", text)
    return [(int(gfn, 16), int(level), int(old, 16), int(new, 16)) for gfn, level, old, new in found]


def test_the_frames_that_the_shipped_trace_loses_are_lost_until_a_line_maps_them():
    """The first loss: a leaf of 2M at 0x800 went, for frames 0x84d to 0x86d."""
    lines = changes(SHIPPED["lost-pages.txt"]())
    [at] = [n for n, (gfn, level, old, new) in enumerate(lines) if (gfn, level, new) == (0x800, 2, 0) and old]
    outside = {*range(0x800, 0xA00)} - {*range(0x84D, 0x86E)}
    mapped = {gfn for gfn, level, old, new in lines[at:] if level == 1 and not old and new} & outside
    assert len(mapped) == 3
    read = lost_pages()
    [first, second] = read.steps["loss"]
    assert sum(span.pages for span in read.moments[first - 1].taken) == len(outside) == 479
    last = dict(zip(range(0x800, 0xA00), one_by_one(cells_of(read, 35)), strict=True))
    assert {gfn for gfn, kind in last.items() if kind == "lost"} == outside - mapped
    assert {gfn for gfn, kind in last.items() if kind == "refaulted"} == mapped
    assert sum(span.pages for span in read.moments[second - 1].taken) == 479


def cells_of(read, step):
    """Cells of the block at 0x800, which a range there brings onto the axis."""
    state = trace_state(read, step, "whole")
    return [
        cell._replace(first=max(cell.first, 0x800), last=min(cell.last, 0xA00))
        for cell in state.rows[-1].cells
        if cell.first < 0xA00 and cell.last > 0x800
    ]


def test_the_range_shown_is_the_one_that_lost_frames_or_the_last_that_was_announced():
    read = lost_pages()
    shown = {step: trace_state(read, step, "step").judged for step in range(36)}
    assert shown[16] is None, "nothing was announced yet"
    assert str(shown[18].span) == "[28K, 32K)"  # frame 7, an unmap
    assert (shown[20].span.start, shown[20].span.end) == (0x84D, 0x86E)
    assert (shown[27].span.start, shown[27].span.end) == (0xC4D, 0xC6E)
    assert (shown[35].span.start, shown[35].span.end) == (0x104D, 0x106E)
    asked = Reading(text_of("lost-pages"), GfnRange(5, 6), "")
    assert {asked.judged_at(step).span for step in range(36)} == {GfnRange(5, 6)}


def test_a_loss_belongs_to_the_range_of_its_own_task():
    lines = [
        line("tracing_mark_write: convert gfns 0x210 - 0x220", "CPU 0/KVM-1"),
        line("tracing_mark_write: convert gfns 0x900 - 0x910", "CPU 1/KVM-2"),
        changed(2, 0x200, HUGE + (0x200 << 12), 0, "CPU 0/KVM-1"),
        changed(1, 0x900, LEAF + (0x900 << 12), 0, "CPU 1/KVM-2"),
    ]
    read = reading(lines)
    assert [read.judged_at(step).span.start for step in (1, 2)] == [0x210, 0x900]
    assert [sum(span.pages for span in moment.taken) for moment in read.moments] == [512 - 16, 0]


# ---- the axis --------------------------------------------------------------------------------------------


def test_stretches_hold_whole_blocks_and_end_at_the_widest_gaps():
    spans = [GfnRange(0x84D, 0x86E), GfnRange(7, 7), GfnRange(0xA00, 0xA01), GfnRange(1 << 30, (1 << 30) + 1)]
    assert stretches_of(spans, 9) == ((0, 0x200), (0x800, 0xC00), (1 << 30, (1 << 30) + 0x200))
    assert stretches_of(spans, 2) == ((0, 0xC00), (1 << 30, (1 << 30) + 0x200))
    assert stretches_of(spans, 1) == ((0, (1 << 30) + 0x200),)
    assert stretches_of([], 3) == ()


def test_what_a_step_is_about_and_both_edges_of_the_range_are_on_the_axis():
    read = Reading(text_of("lost-pages"), GfnRange(0x84D, 0x104D), "")
    assert trace_state(read, 17, "step").stretches == ((0, 0x200), (0x800, 0xA00), (0x1000, 0x1200))
    assert trace_state(read, 20, "step").stretches == ((0x800, 0xA00), (0x1000, 0x1200))


@pytest.mark.slow
def test_however_many_runs_there_are_a_bounded_number_is_drawn_and_losses_with_them():
    huge = changed(2, 0x200, LEAF + 0x80 + (512 << 12), 0)
    lines = [huge, *(changed(1, gfn, 0, LEAF + (gfn << 12)) for gfn in range(1024, 40_000, 2))]
    read = reading(lines, GfnRange(0x200, 0x3F0))
    state = trace_state(read, len(read.moments), "whole")
    assert state.left_out > 30_000
    assert max(len(row.cells) for row in state.rows) < 300
    assert [(cell.first, cell.last) for cell in state.now.cells if cell.kind == "lost"] == [(0x3F0, 0x400)]


# ---- what is taken for a trace ----------------------------------------------------------------------------


def test_a_text_an_example_and_a_file_are_read(tmp_path):
    (tmp_path / "mine.txt").write_text("first\n", encoding="utf-8")
    assert text_of(as_trace(tmp_path / "mine.txt")) == TraceText("mine.txt", b"first\n")
    assert text_of(str(tmp_path / "mine.txt")) == TraceText("mine.txt", b"first\n")
    assert text_of("one-split").name == "one-split.txt"
    assert as_trace("a\nb") == TraceText("text", b"a\nb")
    assert as_trace("\ud800\n") == TraceText("text", b"?\n"), "half a letter is no reason to stop"
    with pytest.raises(InvalidTypeError, match="7 is none"):
        as_trace(7)


def test_a_file_that_grows_is_read_anew_when_it_is_named_again(tmp_path):
    file = tmp_path / "grows"
    file.write_text(zap(1), encoding="utf-8")
    before = module.reading_of(text_of(str(file)), None, "")
    file.write_text(f"{zap(1)}\n{zap(9, 'qemu-42')}", encoding="utf-8")
    assert len(before.moments) == 1
    assert len(module.reading_of(text_of(str(file)), None, "").moments) == 2


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/no/such/file", "'/no/such/file' cannot be read: No such file or directory"),
        ("/dev/zero", "'/dev/zero' is no file"),
        ("/", "'/' is no file"),
        ("  ", "the path is empty"),
        ("a\0b", "cannot be read: it is no path"),
        ("x" * 4000, "cannot be read: File name too long"),
        ("~nobody-of-this-name/x", "cannot be read"),
    ],
)
def test_a_path_that_is_no_file_is_refused_in_a_sentence(path, rule):
    with pytest.raises(InvalidValueError, match=re.escape(rule)) as refused:
        text_of(path)
    assert len(str(refused.value)) < 150
    assert "\0" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "'x' is no trace: of 0 lines none is an event of KVM's MMU"),
        (b"<b>hello</b>\nworld\n", "of 2 lines none"),
        (b"\x17\x08\x44tracing", "trace-cmd's own binary file"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (bytes(range(256)) * 40, "is no trace"),
        (b"a" * 100_000, "of 1 line none"),
        (line("sched_switch: prev_comm=a").encode(), "events, but none of KVM's MMU (sched_switch)"),
        (line("kvm_entry: vcpu 0, rip 0x0").encode(), "no change of an entry to step through"),
        (b"\n" * 100_001, "'x' is too long to step through: 100 000 lines at most"),
    ],
)
def test_a_text_that_is_no_trace_or_too_long_is_refused_in_a_sentence(content, rule):
    with pytest.raises(InvalidValueError, match=re.escape(rule)):
        Reading(TraceText("x", content), None, "")


def test_more_bytes_than_are_read_are_refused_and_the_rest_stays_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1 << 20)
    file = tmp_path / "large"
    file.write_bytes(b"\n".join([zap(1).encode()] * 40_000))
    text = text_of(str(file))
    assert len(text.content) == (1 << 20) + 1
    with pytest.raises(InvalidValueError, match="'large' is too long to step through"):
        Reading(text, None, "")


def test_a_trace_of_the_greatest_length_is_read():
    lines = [b"#"] * (module.MOST_LINES - 1)
    assert len(Reading(TraceText("x", b"\n".join([*lines, zap(1).encode()])), None, "").moments) == 1


@pytest.mark.parametrize(
    ("text", "frame"),
    [("84d", 0x84D), ("0x84d", 0x84D), ("800", 0x800), ("2M+4K", 0x201), (" 84D ", 0x84D), ("", NO_EDGE)],
)
def test_an_edge_is_typed_as_a_trace_prints_it_or_as_an_address(text, frame):
    assert read_edge(text) == frame


@pytest.mark.parametrize("text", ["banana", "-4K", "f" * 17, "2.5M", "84d-86e"])
def test_what_is_no_edge_is_refused(text):
    with pytest.raises(InvalidValueError):
        read_edge(text)


def test_no_control_character_gets_into_a_picture():
    assert shortened("a\tb\x1b[31m\x00\u202e\ud800é") == "a       b\ufffd[31m\ufffd\ufffd\ufffdé"
    assert shortened("x" * 500) == "x" * 400 + "…"
