"""The checks of notebook 00 let right answers through and answer wrong ones with a true counterexample."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from tdpkit.engine.tree import map_leaf, translate
from tdpkit.exercises.start_here import check_convert, check_loses, check_same_zap, check_splits
from tdpkit.lab.guest import Guest
from tests.exercises.problems import KEPT, SPLITS, ZEROS, says_it_in_the_picture, split_then_zap


def test_waiting_does_not_give_the_answer_away() -> None:
    assert KEPT not in repr(check_same_zap(..., ...))
    assert ZEROS not in repr(check_same_zap(..., ...))


def test_bytes_may_be_written_with_any_space() -> None:
    assert check_same_zap(KEPT.replace(" ", "  "), ZEROS + "\n").right is True


@pytest.mark.parametrize(
    "plain",
    [
        KEPT.split(),
        tuple(KEPT.split()),
        KEPT.replace(" ", ","),
        KEPT.replace(" ", ", "),
        KEPT.replace(" ", ""),
        "[0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]",
        ["0x10", "0X11", "12", "13", "14", "15", "16", "17"],
        [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17],
        [10, 11, 12, 13, 14, 15, 16, 17],
        np.arange(0x10, 0x18),
        bytes(range(0x10, 0x18)),
    ],
    ids=repr,
)
def test_bytes_may_be_written_in_each_way_that_means_them(plain: object) -> None:
    for zeros in (ZEROS, [0] * 8, "0 " * 8, "0x0," * 8, ["00"] * 8, bytes(8)):
        assert check_same_zap(plain, zeros).right is True


def test_a_list_is_read_in_the_way_that_agrees_longest() -> None:
    """16 is the byte 0x10, or the digits 16; both are wrong for the second frame, which reads 11."""
    assert "frame 1, which held 11: you said 10, it reads 11" in check_same_zap([16] * 8, ZEROS).text
    assert "frame 2, which held 12: you said 11, it" in check_same_zap([10, 11, 11, *[13] * 5], ZEROS).text
    assert "frame 0, which held 10: you said None, it" in check_same_zap([None] * 8, ZEROS).text


@pytest.mark.parametrize("frame", range(8))
def test_one_wrong_byte_is_found_in_its_frame(frame: int) -> None:
    for plain, td, kind in ((True, False, "plain"), (False, True, "TD")):
        said_plain, said_td = KEPT.split(), ZEROS.split()
        if plain:
            said_plain[frame] = "00"
        if td:
            said_td[frame] = KEPT.split()[frame]
        verdict = check_same_zap(" ".join(said_plain), " ".join(said_td))
        assert verdict.right is False
        assert f"{kind} guest, frame {frame}," in verdict.text
        assert verdict.case is not None
        assert verdict.case.state.kind == kind


@pytest.mark.parametrize("said", ["", "10", KEPT + " 18", 7, None, KEPT.split()[1:], {*KEPT.split()}])
def test_what_is_no_list_of_eight_bytes_is_told_so(said: object) -> None:
    verdict = check_same_zap(said, ZEROS)
    assert verdict.right is False
    assert "8 frames" in verdict.text


def lost_by_hand(start: int, end: int) -> int:
    """The toy: large leaves over 0-7, 8-15 and 24-31, small ones between."""
    gone = set()
    for leaf in (range(8), range(8, 16), range(24, 32), *([frame] for frame in range(16, 24))):
        if any(start <= frame < end for frame in leaf):
            gone.update(leaf)
    return len(gone - set(range(start, end)))


@pytest.mark.slow
def test_every_range_of_the_toy_is_judged_by_the_frames_it_loses() -> None:
    for start, end in product(range(32), range(1, 33)):
        if start < end:
            assert check_loses(start, end, 10).right is (lost_by_hand(start, end) == 10), (start, end)


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (5, 5, "empty"),
        (9, 3, "ends at or after"),
        (0, 33, "ends at"),
        (-1, 3, "at least 0"),
        (1.5, 3, "whole numbers"),
    ],
)
def test_a_range_that_is_none_is_refused_in_words(start: object, end: object, rule: str) -> None:
    verdict = check_loses(start, end, 10)  # type: ignore[arg-type]
    assert verdict.right is False
    assert rule in verdict.text


def test_numbers_of_splits_may_be_listed_in_the_order_of_the_ranges() -> None:
    assert check_splits([0, 2, 1, 3]).right is check_splits((0, 2, 1, 3)).right is True
    assert check_splits([0, 2, 1, 2]).text.startswith("[1G+4K, 2G-4K): you said 2, the walk made 3 ")
    assert check_splits([0, ..., 1, 3]).right is None
    for other in ([], [0, 2, 1], [0, 2, 1, 3, 0], {0, 2, 1, 3}, None, "0213"):
        assert check_splits(other).text.startswith("the answers are a dict with a number for each range, ")


@pytest.mark.parametrize("text", SPLITS)
def test_a_wrong_number_of_splits_is_told_those_that_were_made(text: str) -> None:
    for wrong in {0, 1, 2, 3, 4} - {SPLITS[text]}:
        verdict = check_splits({**SPLITS, text: wrong})
        assert verdict.right is False
        assert verdict.text.startswith(f"{text}: you said {wrong}, the walk made {SPLITS[text]} ")
        assert says_it_in_the_picture(verdict)


def split_start_only(guest: Guest, start: int, end: int) -> None:
    guest.split(start, guest.frames)
    guest.zap(start, end)


def split_end_only(guest: Guest, start: int, end: int) -> None:
    guest.split(0, end)
    guest.zap(start, end)


def zap_by_frames(guest: Guest, start: int, end: int) -> None:
    for frame in range(start, end):
        guest.zap(frame, frame + 1)


def zap_then_split(guest: Guest, start: int, end: int) -> None:
    guest.zap(start, end)
    guest.split(start, end)


def zap_too_little(guest: Guest, start: int, end: int) -> None:
    guest.split(start, end)
    if end - start > 1:
        guest.zap(start, end - 1)


def put_back(guest: Guest, start: int, end: int) -> None:
    """Frames are there again afterwards, but a TD has lost their bytes."""
    mapped = [frame for frame in range(guest.frames) if guest.bytes_in_sight().split()[frame] != "--"]
    guest.zap(start, end)
    for frame in mapped:
        if not start <= frame < end:
            guest.touch(frame)
            if guest.kind == "TD":
                guest.accept(frame)


def mapped_again(guest: Guest, start: int, end: int) -> None:
    """By hand, on the same host frames, with the same bytes, and nothing for the guest to accept."""
    bytes_before = dict(guest.memory)
    guest.zap(start, end)
    for frame in range(guest.frames):
        pfn = guest.host_frame(frame)
        if pfn is not None and not start <= frame < end and translate(guest.root, frame) is None:
            map_leaf(guest.root, frame, 1, pfn)
    guest.memory.update(bytes_before)
    guest.pending.clear()


def mapped_again_in_a_plain_guest(guest: Guest, start: int, end: int) -> None:
    (split_then_zap if guest.kind == "TD" else mapped_again)(guest, start, end)


def one_page_more(guest: Guest, start: int, end: int) -> None:
    split_then_zap(guest, start, end)
    hole = next((x for x in range(guest.frames) if guest.host_frame(x) is None), start)
    if not start <= hole < end:
        map_leaf(guest.root, hole, 1, hole)


def bytes_written(guest: Guest, start: int, end: int) -> None:
    bytes_before = dict(guest.memory)
    guest.zap(start, end)
    guest.memory = bytes_before


def another_guest(guest: Guest, start: int, end: int) -> None:
    """Everything that a check might ask is replaced by what looks right."""
    guest.zap(start, end)
    fresh = Guest(guest.layout, guest.kind)
    split_then_zap(fresh, start, end)
    vars(guest).update(vars(fresh))
    guest.layout = Guest("eight", "plain").layout
    guest.kind, guest.frames = "plain", 0


def reset(guest: Guest, start: int, end: int) -> None:
    guest.reset()
    split_then_zap(guest, start, end)


def raising(guest: Guest, start: int, end: int) -> None:
    raise LookupError("no idea")


@pytest.mark.parametrize(
    ("convert", "found"),
    [
        (Guest.zap, "outside the range and was lost"),
        (split_start_only, "outside the range and was lost"),
        (split_end_only, "outside the range and was lost"),
        (zap_by_frames, "outside the range and was lost"),
        (zap_then_split, "outside the range and was lost"),
        (Guest.split, "in the range and still mapped"),
        (zap_too_little, "in the range and still mapped"),
        (put_back, "outside the range and was lost; what is mapped there now is a new page"),
        (mapped_again, "outside the range and was lost; what is mapped there now is a new page"),
        (mapped_again_in_a_plain_guest, "outside the range and was zapped; what is mapped there now"),
        (one_page_more, "outside the range, where nothing was mapped, and now a page is"),
        (bytes_written, "outside the range and was lost"),
        (another_guest, "outside the range and was lost"),
        (reset, "in the range and still mapped"),
        (lambda guest, start, end: guest.look(start, end), "in the range and still mapped"),
        (raising, "convert raised LookupError: no idea"),
    ],
)
def test_each_wrong_conversion_meets_its_counterexample(convert: object, found: str) -> None:
    verdict = check_convert(convert)  # type: ignore[arg-type]
    assert verdict.right is False
    assert found in verdict.text
    assert re.search(r"range \[\d+, \d+\): ", verdict.text), "range named"
    assert "guest of 12 frames" in verdict.text, "layout named"
    assert says_it_in_the_picture(verdict)


def test_the_counterexample_is_the_smallest_there_is() -> None:
    """One leaf at 0 is the simplest layout, and one frame of it the shortest range."""
    text = check_convert(Guest.zap).text
    assert "1 x 4 frames at 0;" in text
    assert "range [0, 1)" in text


# ---- the picture of a failed conversion ----------------------------------------------------------------


def seen(convert: object) -> tuple[list[str], tuple[str, ...]]:
    """Of the counterexample: its kinds frame by frame, and what the guest reads."""
    case = check_convert(convert).case
    assert case is not None
    kinds = [cell.kind for cell in case.state.guest.cells for _ in range(cell.first, cell.last)]
    return kinds, case.state.memory


HOLES = ["hole"] * 8
UNREAD = ("--",) * 8


@pytest.mark.parametrize("convert", [Guest.zap, put_back, mapped_again, bytes_written, another_guest])
def test_the_picture_shows_the_frames_that_the_function_lost_whatever_it_did_after(convert: object) -> None:
    """One leaf over the frames 0 to 3, and frame 0 is converted."""
    kinds, memory = seen(convert)
    assert kinds == ["zapped", "lost", "lost", "lost", *HOLES]
    assert memory == ("··", "00", "00", "00", *UNREAD)


def zap_all(guest: Guest, start: int, end: int) -> None:
    guest.split(start, end)
    guest.zap(0, 2)
    guest.zap(3, guest.frames)


def test_the_picture_shows_what_a_function_lost_beyond_its_leaf_and_what_it_kept() -> None:
    kinds, memory = seen(zap_all)
    assert kinds == ["zapped", "lost", "leaf1", "lost", *HOLES]
    assert memory == ("··", "00", "12", "00", *UNREAD)


@pytest.mark.parametrize(
    "convert", [raising, zap_too_little, lambda *_: None, lambda guest, start, end: guest.look(start, end)]
)
def test_the_picture_of_a_function_that_takes_nothing_has_nothing_taken(convert: object) -> None:
    kinds, memory = seen(convert)
    if convert is zap_too_little:  # it has split before it took nothing
        assert (kinds, memory) == (["leaf1"] * 4 + HOLES, ("10", "11", "12", "13", *UNREAD))
    else:
        assert (kinds, memory) == (["leaf2"] * 4 + HOLES, ("10", "11", "12", "13", *UNREAD))


def test_in_a_plain_guest_the_frames_come_back_with_their_bytes() -> None:
    def convert(guest: Guest, start: int, end: int) -> None:
        (split_then_zap if guest.kind == "TD" else Guest.zap)(guest, start, end)

    kinds, memory = seen(convert)
    assert kinds == ["zapped", "refaulted", "refaulted", "refaulted", *HOLES]
    assert memory == ("··", "11", "12", "13", *UNREAD)


@pytest.mark.slow
def test_a_conversion_may_go_about_it_in_any_way_that_loses_nothing() -> None:
    """It may write to its own guest's bytes and say what it likes: nothing was removed."""

    def convert(guest: Guest, start: int, end: int) -> int:
        for edge in {start, end}:
            guest.split(edge, guest.frames) if edge < guest.frames else None
            guest.split(0, edge) if edge else None
        for frame in reversed(range(start, end)):
            guest.zap(frame, frame + 1)
        guest.memory.clear()
        guest.frames = 0
        return 7

    assert check_convert(convert).right is True
