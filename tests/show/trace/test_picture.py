"""The trace viewer's markup: marks where the frames are, unknown beside empty, what a file says as text."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from xml.etree import ElementTree

import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.show.theme import LIGHT
from tdpkit.show.trace.picture import AXIS_RIGHT, MAP, RAIL, ROW, STRIP, Axis, trace_svg, x_of_step
from tdpkit.show.trace.state import Reading, TraceText, text_of, trace_state
from tdpkit.show.trace.words import answer, lines_of, sentence, short, title, trace_table, trace_text
from tests.oracles.svgs import SVG, drawn, texts, tree
from tests.oracles.told import FROZEN, HUGE, LEAF, TABLE, line, told_guest
from tests.show.trace.test_moments import changed, zap

SCRIPT = "<script>alert(1)</script>"
EVIL = f"<b>{SCRIPT}&amp;\x1b[31m"
ODD = [
    changed(2, 0, TABLE, 0, "<b>x</b>-7"),
    *(changed(1, gfn, LEAF + (gfn << 12) if gfn % 3 else 0, FROZEN, "<b>x</b>-7") for gfn in range(512)),
    "CPU:3 [LOST 17 EVENTS]",
    line(f"kvm_mmu_split_huge_page: gfn 200 spte {HUGE + (512 << 12):x} level 2 errno -12"),
    line("mark_mmio_spte: sptep:000000004af45efe gfn a access 6 gen a"),
    changed(1, 0xA, 0, 0x3E000000A056),
    changed(1, 0xA, 0x3E000000A056, 0),
    changed(1, 0xB, 0, FROZEN),
    changed(1, 0xB, FROZEN, 0),
    changed(3, 1 << 18, 0x600000000000BF3 + (1 << 30), 0),
    changed(2, 0x300000, 0, HUGE + (0x300000 << 12)),
    changed(2, 0x300000, HUGE + (0x300000 << 12), HUGE + (0x300200 << 12)),
    changed(1, 0xFFFFFFFF, LEAF + (7 << 12), 0),
]
"""One of each kind of moment, frames far apart, and a task that is named like markup."""


@cache
def readings():
    def read(text, span=None):
        return Reading(text, span, "")

    told = TraceText("told", "\n".join(told_guest(5, 90).lines).encode())
    return {
        "lost": read(text_of("lost-pages")),
        "asked": read(text_of("lost-pages"), GfnRange(0x84D, 0xC4F)),
        "one": read(text_of("one-split")),
        "told": read(told, GfnRange(0x1F0, 0x610)),
        "nothing": read(told, GfnRange(0x40000, 0x40000)),
        "odd": read(TraceText(EVIL, "\n".join(ODD).encode()), GfnRange(3, 1 << 19)),
    }


def states():
    """Steps of each trace, some around the step and some on the whole axis."""
    for name, read in readings().items():
        last = len(read.moments)
        for step in sorted({*range(0, last + 1, max(1, last // 12)), last}):
            yield trace_state(read, step, ("step", "whole")[(step + len(name)) % 2])


def boxes_of(svg, kind, top=0, bottom=10_000):
    """(left, right, top, bottom) of all that is filled as `kind` in a part of the picture."""
    fill = f"-{kind})" if kind not in LIGHT or f"{kind}-mark" in LIGHT else LIGHT[kind]
    return [
        (left, right, y, to)
        for path in drawn(svg, "path")
        if path.get("fill").endswith(fill)
        for left, y, right, to in (
            map(int, found) for found in re.findall(r"M(\d+) (\d+) H(\d+) V(\d+) H\1 Z", path.get("d"))
        )
        if top <= y < to <= bottom
    ]


def picture(name, step, view="step"):
    state = trace_state(readings()[name], step, view)
    return state, tree(trace_svg(state, LIGHT))


# ---- marks where the state says --------------------------------------------------------------------------


def test_the_frames_that_went_outside_are_marked_where_they_are():
    """The axis has the 512 frames from 0x800 on, 616 units wide from 24 on; the range is 0x84d to 0x86d."""
    state, svg = picture("lost", 20)
    assert state.stretches == ((0x800, 0xA00),)

    def x(gfn):
        return 24 + 616 * (gfn - 0x800) // 512

    strip = STRIP, STRIP + 24
    sides = [(x(0x800), x(0x84D)), (x(0x86E), x(0xA00))]
    assert sorted(box[:2] for box in boxes_of(svg, "lost", *strip)) == sides
    assert [box[:2] for box in boxes_of(svg, "zapped", *strip)] == [(x(0x84D), x(0x86E))]
    y = MAP + ROW * 5  # five steps before it are drawn
    begun = {box[:3] for box in boxes_of(svg, "lost", MAP)}
    assert {(*side, y) for side in sides} <= begun, "and from its row on"
    edges = [path.get("d") for path in drawn(svg, "path") if path.get("stroke") == LIGHT["range"]]
    for edge in (0x84D, 0x86E):
        assert any(f"M{x(edge)} " in d and f"V{STRIP + 24}" in d for d in edges)


def test_a_leaf_is_a_bar_from_the_row_that_maps_it_to_the_row_in_which_it_goes():
    _, svg = picture("lost", 20)
    bars = boxes_of(svg, "leaf2", MAP)
    assert bars == [(24, 640, MAP + ROW * 4, MAP + ROW * 5)], "step 19 maps it, step 20 takes it"


def test_what_was_taken_and_is_back_is_dotted_where_it_is():
    state, svg = picture("lost", 24)
    gfns = (0x812, 0x84C, 0x86E)
    wanted = [24 + 616 * (gfn - 0x800) // 512 for gfn in gfns]
    assert [left for left, _, _, _ in sorted(boxes_of(svg, "refaulted", STRIP, STRIP + 24))] == wanted
    assert state.moment.kind == "fault"


def test_unknown_is_hatched_and_empty_is_not():
    """Before the first line nothing is known; the first fault links a table of 512G, which is empty."""
    _, svg = picture("lost", 0)
    assert [box[:2] for box in boxes_of(svg, "unknown", STRIP, STRIP + 24)] == [(24, AXIS_RIGHT)]
    assert boxes_of(svg, "hole", STRIP, STRIP + 24) == []
    assert boxes_of(svg, "unknown", MAP) == [(24, AXIS_RIGHT, MAP, MAP + ROW)]
    _, svg = picture("lost", 1)
    assert boxes_of(svg, "unknown", STRIP, STRIP + 24) == []
    assert boxes_of(svg, "hole", STRIP, STRIP + 24) != []
    _, svg = picture("odd", 2)
    assert boxes_of(svg, "hole", STRIP, STRIP + 24) == [], "after lost events nothing is known to be empty"


def test_a_split_has_its_diamond_in_its_own_row_and_upright_lines_in_its_leaf():
    _, svg = picture("one", 2)
    [diamond] = [path.get("d") for path in drawn(svg, "path") if path.get("fill") == LIGHT["split"]][1:]
    assert diamond.startswith(f"M{24 + 616 // 2} {MAP + 2 * ROW + ROW // 2 - 5} ")
    assert [box[:2] for box in boxes_of(svg, "split", STRIP, STRIP + 24)] == [(24, 640)]


def test_stretches_stand_apart_and_the_longer_is_the_wider():
    axis = Axis([(0, 0x200), (0x800, 0xE00), (1 << 30, (1 << 30) + 0x200)])
    assert axis.places[0][0] == 24
    assert axis.places[-1][1] == AXIS_RIGHT
    assert [b[0] - a[1] for a, b in zip(axis.places, axis.places[1:], strict=False)] == [16, 16]
    wide = [right - left for left, right in axis.places]
    assert min(wide) >= 70
    assert wide[1] > wide[0]
    assert [*axis.spans(0x100, 0x900)] == [
        ((sum(axis.places[0])) // 2, axis.places[0][1], 0x100),
        (axis.places[1][0], axis.places[1][0] + wide[1] // 6, 0x100),
    ]
    assert axis.x_of(0x200) == axis.places[0][1]
    assert axis.x_of(0x201) is None


# ---- what is dragged and pressed --------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 17, 35])
def test_the_line_of_the_whole_trace_is_dragged_where_the_cursor_is_drawn(step):
    state = trace_state(readings()["lost"], step, "step")
    svg = trace_svg(state, LIGHT)
    [track] = svg.tracks
    (low, left), (high, right) = track.knots
    assert (track.name, low, high) == ("step", 0, 35)
    x = x_of_step(state, step)
    assert x == left + (right - left) * (step - low) // (high - low)
    assert f"M{x} {RAIL - 3} V" in svg
    assert track.top <= RAIL < track.bottom


def test_each_row_is_pressed_for_its_step_and_the_present_one_is_chosen():
    state = trace_state(readings()["lost"], 20, "step")
    svg = trace_svg(state, LIGHT)
    assert [spot.name for spot in svg.spots] == [f"step:{step}" for step in range(15, 26)]
    assert [spot.name for spot in svg.spots if spot.chosen] == ["step:20"]
    for row, spot in enumerate(svg.spots):
        assert (spot.top, spot.bottom) == (MAP + ROW * row, MAP + ROW * (row + 1))
    named = {spot.name: spot.label for spot in svg.spots}
    assert named["step:20"] == "step 20: zap 2M at 0x800 · 479 outside"


# ---- words ----------------------------------------------------------------------------------------------


def test_the_answer_tells_leaf_split_and_frames():
    state = trace_state(readings()["lost"], 20, "step")
    assert answer(state).startswith(
        "Frames 0x84d to 0x86d (convert, line 139): 479 frames outside the range taken: 0x800 to 0x84c and "
        "0x86e to 0x9ff. The 2M leaf of frames 0x800 to 0x9ff: zapped whole at line 140, not split before"
    )
    assert sentence(state) == (
        "Step 20 of 35, lines 139 to 140, CPU 0/KVM: the 2M leaf at 0x800 is zapped; it crosses the "
        "range 0x84d to 0x86d, and was not split before. 479 frames outside the range went with it: 0x800 to "
        "0x84c and 0x86e to 0x9ff."
    )
    before = trace_state(readings()["lost"], 3, "step")
    assert answer(before) == "Frames outside were taken: 958 (by 2 of 7 ranges)."
    none = Reading(TraceText("x", zap(1).encode()), None, "")
    assert "type one into start and end" in answer(trace_state(none, 1, "step"))


SAID = {
    1: "the table of frames 0x0 to 0x1ff is removed (512 entries listed, 341 leaves); it crosses",
    2: "the tracer lost 17 events: from here on all is unknown again",
    3: "the 2M leaf at 0x200 was not split (-12)",
    4: "frame 0xa is a device's (MMIO)",
    5: "1 MMIO entry gone, frame 0xa",
    6: "2 entries of level 1 stay empty, frames 0xb and 0xb",
    7: "the 1G leaf at 0x40000 is zapped",
    8: "a 2M leaf is mapped at 0x300000",
    9: "1 2M leaf put on other host frames",
    10: "the 4K leaf at 0xffffffff is zapped",
}


@pytest.mark.parametrize("step", SAID)
def test_each_kind_of_moment_has_its_sentence(step):
    read = readings()["odd"]
    assert len(read.moments) == len(SAID)
    assert SAID[step] in sentence(trace_state(read, step, "step"))


def test_of_many_lines_the_first_are_shown_and_the_others_counted():
    shown, more = lines_of(trace_state(readings()["odd"], 1, "step"))
    assert ([one.number for one in shown], more) == ([*map(str, range(1, 5))], 509)
    assert shown[0].task == "<b>x</b>"
    assert shown[0].text.startswith("kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 2 old_spte ")
    shown, more = lines_of(trace_state(readings()["lost"], 20, "step"))
    assert ([one.number for one in shown], more) == (["139", "140"], 0)
    assert shown[1].time == "5170.302887"


def test_what_a_file_says_of_itself_is_text_everywhere():
    for step in range(11):
        state = trace_state(readings()["odd"], step, "step")
        svg = trace_svg(state, LIGHT)
        ElementTree.fromstring(svg)
        assert "<b>" not in svg + svg.body
        assert "<script" not in svg + svg.body
        assert svg.heading.startswith(f"<b>{SCRIPT}&amp;\ufffd[31m: "), "the name, for the page to escape"
        table = trace_table(state)
        assert "<b>" not in table
        assert "<script" not in table
        ElementTree.fromstring(table)
        if step == 1:
            assert "<b>x</b>" in texts(tree(svg)), "shown as it is"
            assert "<b>x</b>" in unescape(table)


@pytest.mark.slow
def test_a_task_s_name_and_a_foreign_text_cannot_break_the_picture():
    odd = [
        line(f"tracing_mark_write: convert gfns 5 - 6 {EVIL}", "<script>-1"),
        zap(5, "<script>-1"),
        "\x00\x01",
    ]
    read = Reading(TraceText("\x00\x1b", "\n".join(odd).encode()), None, "")
    svg = trace_svg(trace_state(read, 1, "step"), LIGHT)
    assert "<script" not in svg
    [marker] = [text for text in texts(tree(svg)) if text.startswith("tracing_mark_write")]
    assert marker == f"tracing_mark_write: convert gfns 5 - 6 <b>{SCRIPT}&amp;\ufffd[31m"


@pytest.mark.slow
def test_text_and_table_say_what_the_picture_shows():
    for state in states():
        text, table = trace_text(state), unescape(trace_table(state))
        assert text.startswith(f"{title(state)}. {answer(state)}\n{sentence(state)}\n")
        ElementTree.fromstring(trace_table(state))
        if state.step:
            assert short(state.moment, state.reading.story) in table
            assert table.count('aria-current="step"') == 1
        svg = tree(trace_svg(state, LIGHT))
        assert svg.find(f"{SVG}desc").text == answer(state)
