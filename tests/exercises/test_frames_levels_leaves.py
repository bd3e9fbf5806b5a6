"""The checks of notebook 01 let right answers through and answer anything else in words, with a true case."""

from __future__ import annotations

import numpy as np
import pytest

from tdpkit.exercises.frames_levels_leaves import (
    ADDRESS,
    INDICES,
    MAPPINGS,
    PARENTS,
    check_by_hand,
    check_child_bits,
    check_index,
    check_shared,
    check_tables,
)
from tests.exercises.problems import BITS, BY_HAND, HAS_INDICES, TABLES, index

# ---- a TD's shared frame -------------------------------------------------------------------------------


def test_only_0_and_256_lead_to_the_frame() -> None:
    """1G+2M+12K lies in the first 512G; bit 47 is worth 256 in the root's index (S8)."""
    assert [index for index in range(512) if check_shared(index, 256).right] == [0]
    assert [index for index in range(512) if check_shared(0, index).right] == [256]
    assert check_shared(np.int64(0), np.uint16(256)).right


def test_a_wrong_index_meets_an_empty_entry() -> None:
    empty = "the entry is 0x8000000000000000, nothing is there. It is the way to the addresses from"
    assert check_shared(0, 0).text == f"direct root, index 0: {empty} 0 on, in which bit 47 is clear."
    assert check_shared(0, 255).text.endswith("from 127T+512G on, in which bit 47 is clear.")
    assert check_shared(256, 256).text == f"mirror root, index 256: {empty} 128T on, in which bit 47 is set."


# ---- by hand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [BY_HAND, tuple(BY_HAND), np.array(BY_HAND)])
@pytest.mark.parametrize("address", [HAS_INDICES, "514G+6M+16K", 1 << 27 | 2 << 18 | 3 << 9 | 4])
def test_right_answers_pass_however_they_are_written(indices: object, address: object) -> None:
    assert check_by_hand(indices, address).right is True


@pytest.mark.parametrize(
    ("indices", "arrives"),
    [
        ([7, 3, 5, 6], "3T+515G+10M+24K"),  # the other way round: 7 x 512G, 3G, 5 x 2M, 6 x 4K
        ([0, 5, 3, 7], "5G+6M+28K"),
        ([6, 5, 3, 0], "3T+5G+6M"),
    ],
)
def test_wrong_indices_are_shown_where_they_arrive(indices: list[int], arrives: str) -> None:
    verdict = check_by_hand(indices, HAS_INDICES)
    assert verdict.right is False
    assert f"arrives at {arrives}, not at {ADDRESS}" in verdict.text
    assert str(tuple(BY_HAND)) not in verdict.text


def test_a_wrong_address_is_shown_with_its_own_indices() -> None:
    verdict = check_by_hand(BY_HAND, "1G+2M+12K")
    assert verdict.right is False
    assert verdict.text == f"1G+2M+12K has the indices (0, 1, 1, 3), not {INDICES}."


@pytest.mark.parametrize(
    ("indices", "says"),
    [([6, 5, 3], "four numbers"), ([6, 5, 3, 512], "512"), ([6, 5, 3, True], "True"), ("6537", "'6537'")],
)
def test_what_are_no_indices_is_told_so(indices: object, says: str) -> None:
    verdict = check_by_hand(indices, HAS_INDICES)
    assert verdict.right is False
    assert says in verdict.text


# ---- a function ----------------------------------------------------------------------------------------


def test_a_right_function_passes_whatever_its_formulation() -> None:
    def sliced(gfn: int, level: int, bits: int) -> int:
        digits = f"{gfn:0{bits * 5}b}"[::-1]
        return int(digits[bits * (level - 1) : bits * level][::-1], 2)

    for right in (
        sliced,
        index,
        lambda gfn, level, bits: np.int64((gfn >> bits * (level - 1)) & ((1 << bits) - 1)),
    ):
        assert check_index(right).right is True


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            lambda gfn, level, bits: gfn >> bits * level,
            "index(0x1, 1, 2) is 0; frame 0x1 (4K) lies at index 1",
        ),
        (lambda gfn, level, bits: gfn >> bits * (level - 1), "index(0x4, 1, 2) is 4;"),  # no mask
        (lambda gfn, level, bits: gfn >> 2 * (level - 1) & 3, ", 9) is "),  # the toy's bits only
        (lambda gfn, level, bits: gfn >> 9 * (level - 1) & 511, "index(0x4, 1, 2) is 4;"),  # x86's only
        (lambda gfn, level, bits: gfn % 2**bits, "index(0x1, 2, 2) is 1;"),
        (lambda gfn, level, bits: bool(gfn & 1), "index(0x0, 1, 2) is False;"),
        (lambda gfn, level, bits: float(gfn % 2**bits), "index(0x0, 1, 2) is 0.0;"),
        (lambda gfn, level: 0, "index(0x0, 1, 2) raised TypeError"),
        (lambda gfn, level, bits: [][1], "index(0x0, 1, 2) raised IndexError"),
    ],
)
def test_a_wrong_function_meets_its_smallest_counterexample(wrong: object, says: str) -> None:
    verdict = check_index(wrong)
    assert verdict.right is False
    assert says in verdict.text


def test_a_function_that_returns_nothing_is_not_written_yet() -> None:
    assert repr(check_index(lambda gfn, level, bits: None)) == "No answer yet: let index return a number."


# ---- how many tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("question", MAPPINGS)
@pytest.mark.parametrize("off", [-1, 1, 511])
def test_a_wrong_number_of_tables_is_told_which_way_it_is_wrong(question: str, off: int) -> None:
    verdict = check_tables({**TABLES, question: TABLES[question] + off})
    assert verdict.right is False
    assert verdict.text.startswith(
        f"{question}: {TABLES[question] + off} is too {'few' if off < 0 else 'many'}"
    )
    assert f" {TABLES[question]} " not in verdict.text.replace("4 KiB", ""), (
        "the number itself stays to be found"
    )


# ---- the bits of a child -------------------------------------------------------------------------------


def test_the_bits_of_kernel_facts_2_6_pass_as_any_collection() -> None:
    for kind in (set, frozenset, list, tuple, sorted, np.array):
        assert check_child_bits({question: kind(list(bits)) for question, bits in BITS.items()}).right is True


@pytest.mark.parametrize("question", PARENTS)
def test_one_bit_too_many_or_too_few_is_named(question: str) -> None:
    for bit in range(64):
        verdict = check_child_bits({**BITS, question: BITS[question] ^ {bit}})
        assert verdict.right is False
        assert f"{question}: bit {bit} is " in verdict.text
        has = bit not in BITS[question]
        assert verdict.text.endswith("your set has it." if has else "your set lacks it.")


def test_a_bit_is_named_with_its_two_values() -> None:
    verdict = check_child_bits({question: set() for question in PARENTS})
    assert verdict.text == "2M leaf: bit 7 is 1 in the parent, 0 in the child; your set lacks it."
    verdict = check_child_bits({**BITS, "2M leaf without X, NX on": set()})
    assert "bit 2 is " in verdict.text, "the lowest of 2, 7 and 10"
    verdict = check_child_bits({**BITS, "2M leaf": {7, 13}})
    assert "bit 13 is a bit of the frame" in verdict.text
