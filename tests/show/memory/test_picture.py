"""The strip of memory: each mark stands at its frame."""

from __future__ import annotations

import re

import pytest

from tdpkit.lab.guest import VM_KINDS, Guest
from tdpkit.lab.lost_pages import lost_pages
from tdpkit.lab.td import Td
from tdpkit.show.memory import memory_state, memory_svg
from tdpkit.show.theme import DARK, LIGHT, contrast
from tests.oracles.svgs import drawn, texts, tree, written

LEFT, RIGHT = 24, 976


def shown() -> list:
    """Whatever notebooks show, and some more."""
    found = []
    for name, start, end in (("eight", 3, 4), ("toy", 5, 12), ("toy", 0, 32), ("toy", 15, 25)):
        for kind in VM_KINDS:
            guest = Guest(name, kind)
            found += [guest, guest.look(start, end), guest.zap(start, end), guest.touch(start)]
            other = Guest(name, kind)
            found += [other.split(start, end), other.zap(start, end)]
    guest = Guest("eight", "TD")
    found += [guest.zap(3, 4), guest.touch(5), guest.accept(5), guest]
    found += [Guest(name, "plain") for name in ("steps", "large", "one-1G", "mixed", "16T", "16T-empty")]
    found += [
        Guest("16T", "TD").look(0x20000001, 0xE0000001),
        Guest("one-1G", "plain").split(0x40100, 0x80000),
    ]
    for split in ("none", "v3"):
        td = Td(frames=32)
        td.convert(5, 13, split=split)
        found.append(td)
    young = Td(frames=32, accepted=False)
    young.touch(3)
    young.accept(11)
    old = Td(frames=32)
    old.module.mem_range_block(0, 2)
    return [*found, young, old, lost_pages("host page"), lost_pages(vm="TD")]


STRIPS = shown()


def picture(shown):
    return tree(memory_svg(memory_state(shown), LIGHT))


def middle(frame: int, frames: int) -> str:
    low, high = (LEFT + (RIGHT - LEFT) * at // frames for at in (frame, frame + 1))
    return str((low + high) // 2)


def marks(svg, stroke: str, pattern: str) -> list[tuple[str, ...]]:
    """The groups of `pattern` in each path of this stroke that it matches."""
    paths = [path.get("d") for path in drawn(svg, "path") if path.get("stroke") == LIGHT[stroke]]
    return [match.groups() for d in paths if (match := re.fullmatch(pattern, d))]


def places(svg, kind: str) -> list[tuple[int, int]]:
    """Where boxes of this hatch begin and end; the legend's swatch is 16 wide."""
    rects = [rect for rect in drawn(svg, "rect") if rect.get("fill").endswith(f"-{kind})")]
    found = [(int(rect.get("x")), int(rect.get("width"))) for rect in rects]
    return sorted((low, low + width) for low, width in found if width != 16)


def test_the_bytes_that_are_lost_are_struck_out_where_they_were():
    svg = picture(Guest("eight", "TD").zap(3, 4))
    struck = [int(low) + 12 for low, _ in marks(svg, "lost-mark", r"M(\d+) \d+ H(\d+)")]
    assert struck == [int(middle(frame, 8)) for frame in (0, 1, 2, 4, 5, 6, 7)]
    for frame in (0, 1, 2, 4, 5, 6, 7):
        [byte] = written(svg, f"{0x10 + frame:02x}")
        assert byte.get("x") == middle(frame, 8)
    assert written(svg, "13") == []
    hatched = [places(svg, kind) for kind in ("lost", "zapped")]
    edges = [LEFT + (RIGHT - LEFT) * at // 8 for at in (0, 3, 4, 8)]
    assert hatched == [[(edges[0], edges[1]), (edges[2], edges[3])], [(edges[1], edges[2])]]
    assert {"lost", "zapped"} <= set(texts(svg)), "the hatches have names"
    assert "pending" not in texts(svg), "and only those that are drawn"


def test_nothing_is_struck_out_in_a_plain_guest_whose_host_kept_it():
    svg = picture(Guest("eight", "plain").zap(3, 4))
    assert marks(svg, "lost-mark", r".*") == []
    [byte] = written(svg, "15")
    assert (byte.get("x"), byte.get("fill")) == (middle(5, 8), LIGHT["refaulted-mark"])
    assert "to re-fault" in texts(svg)


def test_the_range_is_a_bracket_below_its_frames_and_marks_their_numbers():
    svg = picture(Guest("toy", "TD").look(5, 12))
    ends = [LEFT + (RIGHT - LEFT) * at // 32 for at in (5, 12)]
    [found] = marks(svg, "range", r"M(\d+) \d+ V\d+ H(\d+) V\d+")
    assert [*map(int, found)] == ends
    green = [text.text for text in svg.iter() if text.get("fill") == LIGHT["range"] and text.text]
    assert green == [str(frame) for frame in range(5, 12)]
    assert texts(svg)[0] == repr(Guest("toy", "TD").look(5, 12))


def test_each_leaf_has_a_box_of_its_own():
    """The toy: two leaves of eight, eight of one, one of eight."""
    svg = picture(Guest("toy", "TD"))
    edges = [(0, 8), (8, 16), *((frame, frame + 1) for frame in range(16, 24)), (24, 32)]
    boxes = marks(svg, "ink", r"M(\d+) \d+ H(\d+) V\d+ H\d+ Z")
    expected = [tuple(LEFT + (RIGHT - LEFT) * at // 32 for at in edge) for edge in edges]
    assert [(int(low) - 2, int(high) + 2) for low, high in boxes] == expected


def test_the_touched_frame_is_pointed_at_and_shows_what_it_reads():
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    pending, accepted = picture(guest.touch(5)), picture(guest.accept(5))
    for svg in (pending, accepted):
        pointers = [path.get("d") for path in drawn(svg, "path") if path.get("fill") == LIGHT["ink"]]
        assert [re.match(r"M(\d+) ", d).group(1) for d in pointers] == [middle(5, 8)]
    assert written(pending, "15") == written(accepted, "15") == []
    [zero] = written(accepted, "00")
    assert (zero.get("x"), zero.get("fill")) == (middle(5, 8), LIGHT["bad"])


def test_what_is_shared_is_bracketed_and_named():
    td = Td(frames=32)
    td.convert(5, 13)
    svg = picture(td)
    found = marks(svg, "shared", r"M(\d+) \d+ V\d+ H(\d+) V\d+")
    assert (str(LEFT + 952 * 5 // 32), str(LEFT + 952 * 13 // 32)) in found
    assert "shared" in texts(svg)


def test_a_large_guest_has_its_range_by_address_and_what_is_at_stake_wide_enough_to_be_seen():
    svg = picture(Guest("16T", "TD").look(0x20000001, 0xE0000001))
    assert {"2T+4K", "14T+4K", "at stake", "2M leaves"} <= set(texts(svg))
    for (low, high), at in zip(places(svg, "crossing"), (2, 14), strict=True):
        assert high - low >= 5
        assert low <= LEFT + 952 * at // 16 <= high


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("role", "leaf"), [("ink", "leaf1"), ("ink", "leaf2"), ("bad", "leaf1")])
def test_digits_that_stand_on_a_leaf_are_read(theme, role, leaf):
    assert contrast(theme[role], theme[leaf]) >= 4.5


@pytest.mark.slow
def test_it_is_low_and_its_letters_are_not_small():
    """Eleven units are eleven pixels where a cell is 1000 wide."""
    for svg in map(picture, STRIPS):
        assert int(svg.get("viewBox").split()[3]) <= 120
        assert min(int(text.get("font-size")) for text in svg.iter() if text.get("font-size")) >= 11
    assert int(picture(Guest("toy", "TD")).get("viewBox").split()[3]) < 100
