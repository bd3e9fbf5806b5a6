"""The exercises of notebook 09: lines of traces read by hand, counted, placed, and judged by a function.

What is right is known here from the ranges alone: a leaf of 2M holds 512 frames from a multiple of 0x200 on.
"""

from __future__ import annotations

from typing import Any

import pytest

from tdpkit.exercises import from_a_real_host as exercises
from tdpkit.exercises.from_a_real_host import (
    KNOWN,
    LAYOUT_GUESSES,
    LOSSES,
    VALUE,
    check_by_hand,
    check_known,
    check_layout,
    check_losses,
    check_removed,
    check_taken,
    check_unmap,
    guess_known,
    guess_losses,
    guess_value,
    lines_by_hand,
    lines_of_a_removal,
    lines_of_an_unmap,
)
from tests.exercises.problems import HAND, UNMAP, answered_in_words, taken_outside

# ---- the guesses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "ask", "answers", "right"),
    [
        (check_known, guess_known, KNOWN, "512"),
        (check_layout, guess_value, LAYOUT_GUESSES, "ept-tdx"),
        (check_losses, guess_losses, LOSSES, "the first and the third"),
    ],
)
def test_of_each_guess_one_answer_is_right(check: Any, ask: Any, answers: Any, right: str) -> None:
    assert repr(ask()).endswith("(not guessed yet)")
    assert [answer for answer in answers if check(answer).right] == [right]
    assert all(answered_in_words(check(answer)) for answer in answers if answer != right)


def test_the_value_is_of_the_tdx_era() -> None:
    """S260: bit 63 in every entry, writable bits 57 and 58, and no XU (bit 10) beside X (bit 2)."""
    has = {bit for bit in range(64) if VALUE >> bit & 1}
    assert {63, 58, 57, 11, 7, 2} <= has
    assert has.isdisjoint({10, 53, 55})


# ---- lines by hand ---------------------------------------------------------------------------------------


def fields(line: str) -> list[str]:
    return line.split(": ", 1)[1].split()


def test_the_lines_by_hand_are_a_split_at_the_start_and_four_zaps() -> None:
    """Two frames from 0x3fe on, then two leaves of 2M."""
    mark, table, change, split, *zaps = lines_by_hand().splitlines()
    assert mark == "tracing_mark_write: tdpkit: zap gfn 3fe-603"
    assert "gfn 200 l1" in table
    assert (fields(change)[4], fields(split)[1]) == ("200", "200")
    assert [fields(zap)[4] for zap in zaps] == ["3fe", "3ff", "400", "600"]
    assert all(zap.endswith("new_spte 0") for zap in zaps)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("crossed", {0x200}, "the leaf at 0x600 is missing: see its line."),
        ("crossed", 0x200, "the leaf at 0x600 is missing: see its line."),
        ("crossed", {0x200, 0x600, 0x3FE}, "the leaf at 0x3fe is too much: no 2M leaf begins there."),
        ("crossed", {0x200, 0x600, 0x800}, "the leaf at 0x800 is too much: it lies beside the range."),
        ("crossed", {0, 0x200, 0x600}, "the leaf at 0x0 is too much: it lies beside the range."),
        ("crossed", {"2M", "6M", "4M"}, "the leaf at 0x400 is too much: all its frames lie inside [0x3fe"),
        ("crossed", "2M", "a set of first frames is wanted, not '2M'."),
        ("split", set(), "the leaf at 0x200 is missing: see its line."),
        ("frames", 1019, "you said 1 019. Of each leaf that went whole, take off the frames inside"),
        ("frames", "509", "a number of frames is wanted, not '509'."),
    ],
)
def test_what_is_misread_is_told(name: str, value: Any, words: str) -> None:
    verdict = check_by_hand({**HAND, name: value})
    assert verdict.right is False
    assert verdict.text.startswith(f"“{name}”: {words}")
    assert answered_in_words(verdict)


def test_frames_may_be_typed_as_addresses() -> None:
    assert check_by_hand({**HAND, "crossed": ["2M", "6M"]}).right is True


# ---- a removal -------------------------------------------------------------------------------------------


def test_a_removal_has_a_line_for_each_entry_of_its_table() -> None:
    """S263: first the parent's, to nothing; then 512 to frozen (0x5a0), of which 512 - 47 held nothing."""
    parent, *entries = lines_of_a_removal()
    assert fields(parent)[4:7] == ["a00", "level", "2"]
    assert [int(fields(entry)[4], 16) for entry in entries] == [*range(0xA00, 0xC00)]
    assert {fields(entry)[-1] for entry in entries} == {"5a0"}
    held = [int(fields(entry)[8], 16) for entry in entries]
    assert held.count(0) == 512 - 47
    assert [value & 7 for value in held if value and value & 7 != 7] == [6, 6], "W and X without R"


@pytest.mark.parametrize("number", [0, 44, 46, 47, 465, 467, 512, 513])
def test_another_number_of_mappings_is_told_what_it_counts(number: int) -> None:
    assert answered_in_words(check_removed(number))


# ---- an unmap --------------------------------------------------------------------------------------------


def test_the_unmaps_are_of_pages_at_one_distance() -> None:
    first, _, second, *zaps = lines_of_an_unmap().splitlines()
    (a, b), (c, d) = ([int(word, 16) >> 12 for word in line.split()[-3::2]] for line in (first, second))
    assert (b - a, c - a, d - c) == (1, UNMAP["start"] - 0x207, UNMAP["end"] - UNMAP["start"])
    assert [fields(zap)[4] for zap in zaps] == ["800", "a00", "c00"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "start",
            0x7FFE,
            "“start”: you said 0x7ffe. The first unmap is of one host page, and frame 0x207 went",
        ),
        ("start", -1, "“start”: "),
        ("end", 0xC03, "“end”: you said 0xc03. The first unmap"),
        ("split", {0x800}, "“split”: the leaf at 0xc00 is missing"),
        ("split", {0x800, 0xC00, 0xE00}, "“split”: the leaf at 0xe00 is too much: it lies beside the range."),
    ],
)
def test_an_unmap_in_the_wrong_place_is_told(name: str, value: Any, words: str) -> None:
    verdict = check_unmap({**UNMAP, name: value})
    assert verdict.right is False
    assert verdict.text.startswith(words)
    assert answered_in_words(verdict)


# ---- a function ------------------------------------------------------------------------------------------


def test_the_truth_is_what_the_tree_lost() -> None:
    """By leaves of 2M and no split: what is left of each leaf that an edge cuts."""
    lost = [case.outside for case in exercises._known_cases()[: 6 * 4 : 4]]
    assert lost == [511, 0, 0x3FE - 0x200 + 0x800 - 0x603, 0x10, 1, 1 + 1]
    both = [case.outside for case in exercises._known_cases()[3 : 12 * 4 : 4]]
    assert both == [0] * 12


def only(edge: str) -> Any:
    """A function that looks at one edge of the range."""

    def taken(changes: Any, start: int, end: int) -> int:
        edges = (start, 1 << 30) if edge == "start" else (0, end)
        return taken_outside(changes, *edges)

    return taken


@pytest.mark.parametrize("edge", ["start", "end"])
def test_a_function_of_one_edge_fails_at_the_other(edge: str) -> None:
    verdict = check_taken(only(edge))
    assert verdict.right is False
    assert verdict.text.startswith("for the range [0x201, 0x202) it said ")
    assert answered_in_words(verdict)


def test_a_function_is_shown_no_more_than_three_lines() -> None:
    """Right with no split; a split at 0x200 of the leaf of frames 0x200 to 0x3ff, one zap, and another's."""
    verdict = check_taken(lambda changes, start, end: 511 if changes[0].what == "zap" else 1)
    assert verdict.text.startswith("for the range [0x201, 0x202) it said 1; 0 frames outside went.")
    assert verdict.text.count("old_spte") == 3
    assert answered_in_words(verdict)


@pytest.mark.parametrize("said", [None, "511", 511.5, [511]])
def test_what_is_no_number_is_told(said: Any) -> None:
    verdict = check_taken(lambda changes, start, end: said)
    assert verdict.text.endswith("a number of frames is wanted.")
