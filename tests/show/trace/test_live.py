"""What the trace viewer's controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.show.trace import TraceViewer
from tdpkit.show.trace.live import TraceChoice
from tdpkit.show.trace.state import TraceText
from tests.oracles.exhibits import head_of, seen, use, words
from tests.oracles.told import told_guest
from tests.show.trace.test_moments import zap


@pytest.fixture
def viewer():
    return TraceViewer()


def dropped(name, content):
    """As the browser hands a file over, and ipywidgets to the handler."""
    when = datetime(2026, 11, 28, tzinfo=UTC)
    kind = {"type": "text/plain", "size": len(content), "last_modified": when}
    return ({"name": name, "content": memoryview(content), **kind},)


def told(seed, count):
    return "\n".join(told_guest(seed, count).lines)


# ---- what it opens with ----------------------------------------------------------------------------------


def test_it_opens_on_the_shipped_trace_at_its_first_loss(viewer):
    assert viewer.choice == TraceChoice("lost-pages", -1, -1, "", 20, "step")
    assert (
        head_of(viewer).heading
        == "lost-pages.txt: 35 steps in 844 lines; 7 ranges, of which 2 lost frames outside"
    )
    assert head_of(viewer).answer.startswith("Frames 0x84d to 0x86d (convert, line 139): 479 frames outside")
    assert words(viewer) == ""


def test_without_a_loss_it_opens_at_the_first_split_and_without_that_at_the_first_step():
    assert TraceViewer("one-split").choice.step == 2
    assert TraceViewer(f"{zap(1)}\n{zap(9)}").choice.step == 1


def test_it_opens_on_a_path_a_text_or_bytes_and_at_any_step(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(told(1, 9), encoding="utf-8")
    on_path, of_text = TraceViewer(file, step=4), TraceViewer(told(1, 9), step=4)
    assert (on_path.path_text.value, of_text.path_text.value) == (str(file), "")
    assert TraceViewer(told(1, 9).encode(), step=4).choice == of_text.choice
    assert on_path.state.rows == of_text.state.rows
    assert on_path.example_menu.label == "mine.txt"
    with pytest.raises(InvalidValueError, match="cannot be read"):
        TraceViewer(tmp_path / "none")


# ---- a trace of one's own --------------------------------------------------------------------------------


def test_a_file_that_is_opened_is_shown_and_not_kept_in_the_widget(viewer):
    viewer.upload.value = dropped("mine.txt", told(3, 12).encode())
    assert viewer.choice.trace == TraceText("mine.txt", told(3, 12).encode())
    assert head_of(viewer).heading.startswith("mine.txt: 12 steps in ")
    assert viewer.upload.value == ()
    viewer.upload.value = dropped("mine.txt", told(3, 13).encode())
    assert head_of(viewer).heading.startswith("mine.txt: 13 steps in "), "the same file again, written anew"


def test_a_file_that_is_no_trace_leaves_what_is_shown_and_says_why(viewer):
    before = seen(viewer, typed=False)
    for name, content, why in (
        ("core", b"\x7fELF" + bytes(range(256)), "'core' is no trace: of "),
        ("t.gz", b"\x1f\x8b\x08", "'t.gz' is no text but compressed with gzip"),
        ("<img src=x onerror=alert(1)>", b"hello", "'<img src=x onerror=alert(1)>' is no trace"),
        ("long", b"\n" * 200_000, "'long' is too long to step through: 100 000 lines at most"),
    ):
        viewer.upload.value = dropped(name, content)
        assert words(viewer).startswith(f"✗ {why}")
        assert words(viewer).endswith("The picture shows the last good trace.")
        assert "<img" not in viewer.head.value
        assert seen(viewer, typed=False) == before
        assert viewer.upload.value == ()


def test_a_name_like_markup_is_text_wherever_it_is_shown(viewer):
    name = "<b>x</b><script>alert(1)</script>.txt"
    viewer.upload.value = dropped(name, told(3, 12).replace("CPU 0/KVM", "<i>task</i>").encode())
    viewer.table_box.value = True
    assert head_of(viewer).heading.startswith(name)
    for shown in (viewer.head.value, viewer.picture.value, viewer.table.value):
        assert "<script" not in shown
        assert "<b>" not in shown
        assert "<i>" not in shown
    assert "&lt;i&gt;task&lt;/i&gt;" in viewer.picture.value
    assert viewer.example_menu.label == name, "a menu shows text"


def test_a_path_that_vanished_is_of_no_concern_as_long_as_its_trace_is_on_show(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text(told(1, 9), encoding="utf-8")
    viewer = TraceViewer(file)
    file.unlink()
    viewer.move(1)
    viewer.start_text.value, viewer.end_text.value = "10", "20"
    assert (words(viewer), viewer.choice.start) == ("", 0x10)
    viewer.path_text.value = "~/no such file"
    assert words(viewer).startswith("✗ '~/no such file' cannot be read")
    assert viewer.path_text.value == "~/no such file", "to be mended"


# ---- the range, the layout, the axis ----------------------------------------------------------------------


def test_a_range_is_judged_once_it_has_both_edges(viewer):
    viewer.start_text.value = "84d"
    assert words(viewer) == "Note: a range has a start and an end; type the end, too, to have it judged."
    assert viewer.state.judged.verb == "convert", "what the trace announces is judged till then"
    viewer.end_text.value = "0x86e"
    assert words(viewer) == ""
    assert viewer.choice.step == 20, "and one stays at the step"
    assert viewer.state.judged.verb == ""
    assert (viewer.start_text.value, viewer.end_text.value) == ("0x84d", "0x86e")
    viewer.start_text.value = ""
    assert "type the start, too" in words(viewer)
    viewer.end_text.value = ""
    assert viewer.choice == TraceChoice("lost-pages", step=20)


def test_an_edge_beyond_the_other_begins_another_range(viewer):
    viewer.show(start=0x84D, end=0x86E)
    viewer.start_text.value = "c4d"
    assert (viewer.choice.start, viewer.end_text.value) == (0xC4D, "")
    assert "type the end, too" in words(viewer)
    viewer.end_text.value = "c6e"
    assert (viewer.choice.start, viewer.choice.end, words(viewer)) == (0xC4D, 0xC6E, "")
    viewer.end_text.value = "86e"
    assert (viewer.start_text.value, viewer.choice.end) == ("", 0x86E)
    with pytest.raises(InvalidValueError, match="ends at or after its start"):
        viewer.show(start=9, end=8)


def test_another_layout_reads_the_same_lines(viewer):
    assert viewer.state.reading.story.layout.name == "ept-5.13"
    viewer.layout_menu.value = "ept-7.2"
    assert viewer.state.reading.story.layout.name == "ept-7.2"
    assert viewer.choice.step == 20


def test_the_axis_follows_the_step_or_shows_all(viewer):
    assert viewer.state.stretches == ((0x800, 0xA00),)
    viewer.view_buttons.value = "whole"
    whole = viewer.state.stretches
    viewer.show(step=3)
    assert viewer.state.stretches == whole == ((0, 0xA00), (0xC00, 0xE00), (0x1000, 0x1200), (0x1A00, 0x1E00))


# ---- moving ----------------------------------------------------------------------------------------------


def test_the_buttons_go_to_the_next_split_zap_and_loss(viewer):
    viewer.show(step=0)
    reached = {}
    for name, button in viewer.jump_buttons.items():
        viewer.show(step=0)
        reached[name] = []
        while not button.disabled:
            button.click()
            reached[name].append(viewer.choice.step)
    assert reached == {"split": [26, 29, 33], "zap": [17, 20, 27, 34, 35], "loss": [20, 35]}


def test_a_row_is_pressed_to_go_there(viewer):
    use(viewer, "press.step", "22")
    assert viewer.choice.step == 22
    use(viewer, "drag.step", 0)
    assert head_of(viewer).answer == "Frames outside were taken: 958 (by 2 of 7 ranges)."
    viewer.move(-1)
    assert viewer.choice.step == 0
