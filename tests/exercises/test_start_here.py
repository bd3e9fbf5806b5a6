"""The checks of notebook 00 let right answers through and answer wrong ones with a true counterexample."""

from __future__ import annotations

import re
from itertools import product

import pytest

from tdpkit.exercises.start_here import check_convert, check_loses, check_same_zap, check_splits
from tdpkit.lab.guest import Guest
from tests.exercises.problems import KEPT, SPLITS, ZEROS, says_it_in_the_picture


def test_waiting_does_not_give_the_answer_away() -> None:
    assert KEPT not in repr(check_same_zap(..., ...))
    assert ZEROS not in repr(check_same_zap(..., ...))


def test_bytes_may_be_written_with_any_space() -> None:
    assert check_same_zap(KEPT.replace(" ", "  "), ZEROS + "\n").right is True


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


@pytest.mark.parametrize("said", ["", "10", KEPT + " 18", 7, None, KEPT.split()])
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
        (put_back, "bytes of the guest changed"),
        (raising, "convert raised LookupError: no idea"),
    ],
)
def test_each_wrong_conversion_meets_its_counterexample(convert: object, found: str) -> None:
    verdict = check_convert(convert)  # type: ignore[arg-type]
    assert verdict.right is False
    assert found in verdict.text
    assert re.search(r"range \[0x\d+, 0x\w+\) = ", verdict.text), "range named"
    assert "guest of 48K" in verdict.text, "layout named"
    assert says_it_in_the_picture(verdict)


def test_the_counterexample_is_the_smallest_there_is() -> None:
    """One leaf at 0 is the simplest layout, and one frame of it the shortest range."""
    text = check_convert(Guest.zap).text
    assert "1 x 16K at 0;" in text
    assert "range [0x0, 0x1)" in text
