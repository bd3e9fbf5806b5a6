"""The table of root types is checked by zaps that were made; any answer that differs is told which.

What is right stands here as kernel-facts 3.5 has it, written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tdpkit.exercises.two_roots import (
    REACHED,
    ROOT_TYPES,
    ROOTS,
    check_plain_zap,
    check_root_types,
    four_roots,
    zapped_by,
)
from tdpkit.exercises.verdict import Verdict
from tests.oracles.junk import Hostile
from tests.oracles.junk_values import EACH_JUNK, answered_in_words

TABLE = {
    0: (0, 0, 0, 0),
    1: (0, 0, 0, 0),
    2: (1, 0, 0, 0),
    3: (1, 1, 0, 0),
    4: (0, 0, 1, 0),
    5: (0, 0, 1, 1),
    6: (1, 0, 1, 0),
    7: (1, 1, 1, 1),
}
"""Of each number of root types: valid direct, invalid direct, valid mirror, invalid mirror."""
NAMES = {
    0: "none",
    1: "INVALID",
    2: "DIRECT",
    3: "DIRECT + INVALID",
    4: "MIRROR",
    5: "MIRROR + INVALID",
    6: "MIRROR + DIRECT",
    7: "MIRROR + DIRECT + INVALID",
}


# ---- the table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        {types: [bool(yes) for yes in row] for types, row in TABLE.items()},
        {types: np.array(row) for types, row in TABLE.items()},
        {types: tuple(np.array(row, dtype=bool)) for types, row in TABLE.items()},
        {**TABLE, 8: "beyond the question"},
    ],
    ids=range(5),
)
def test_the_right_table_is_right_however_it_is_written(table: Any) -> None:
    assert check_root_types(table).right is True


def flipped(types: int, at: int) -> dict[int, Any]:
    row = list(TABLE[types])
    row[at] = not row[at]
    return {**TABLE, types: row}


@pytest.mark.parametrize("types", TABLE)
@pytest.mark.parametrize("at", range(4))
def test_each_wrong_answer_is_told_its_types_its_root_and_what_a_zap_did(types: int, at: int) -> None:
    verdict = check_root_types(flipped(types, at))
    assert verdict.right is False
    assert verdict.text.startswith(f"types {types} ({NAMES[types]}), {ROOTS[at]} root: you said that it ")
    gone = [name for name, yes in zip(ROOTS, TABLE[types], strict=True) if yes]
    if TABLE[types][at]:
        assert "does not match; a zap of frame 0 took its 8 frames." in verdict.text
    elif gone:
        assert verdict.text.endswith(f"matches; a zap of frame 0 took the leaves of: {', '.join(gone)}.")
    else:
        assert verdict.text.endswith("a zap of frame 0 took no leaf at all, and the kernel WARNs.")


def test_the_first_wrong_row_is_told() -> None:
    assert "types 3 " in check_root_types({**TABLE, 3: (0, 1, 0, 0), 7: (0, 0, 0, 0)}).text


def test_the_td_has_the_four_kinds_each_with_references_of_its_own() -> None:
    kvm, roots = four_roots()
    assert list(roots) == list(ROOTS)
    assert {(root.is_mirror, bool(root.invalid)) for root in roots.values()} == {
        (mirror, invalid) for mirror in (False, True) for invalid in (False, True)
    }
    assert [root.tdp_mmu_root_count for root in roots.values()] == [2, 1, 2, 1]
    assert len(kvm.tdp_mmu_roots) == 4


@pytest.mark.parametrize("types", ROOT_TYPES)
def test_a_zap_takes_what_the_table_says_and_warns_where_no_half_is_named(types: int) -> None:
    lost, warned = zapped_by(types)
    assert tuple(map(int, lost.values())) == TABLE[types]
    assert warned is (types < 2)


def test_nothing_submitted_is_not_wrong() -> None:
    row = (True, ..., False, False)
    waiting = [check_root_types(said) for said in (..., {}, dict.fromkeys(range(8), ...), {**TABLE, 7: row})]
    waiting += [check_root_types({types: row for types, row in TABLE.items() if types < 5})]
    waiting += [check_plain_zap(...)]
    assert {verdict.right for verdict in waiting} == {None}
    assert waiting[3].text.startswith("types 7 (MIRROR + DIRECT + INVALID): which roots match?")
    assert waiting[4].text.startswith("types 5 (MIRROR + INVALID): ")


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ((1, 0, 0), "four answers are wanted, in order; (1, 0, 0) is not that"),
        ((1, 0, 0, 0, 0), "four answers are wanted"),
        ({0, 1, 2, 3}, "four answers are wanted"),
        (dict.fromkeys(ROOTS, 1), "four answers are wanted"),
        ("1000", "four answers are wanted"),
        (True, "four answers are wanted"),
        ((1, 0, 0, "no"), "invalid mirror root: True or False is wanted; not 'no'"),
        ((1, 0, 2, 0), "valid mirror root: True or False is wanted; not 2"),
        ((1, 0, None, 0), "valid mirror root: True or False is wanted; not None"),
    ],
)
def test_a_row_that_is_none_is_refused_in_words(row: Any, rule: str) -> None:
    verdict = check_root_types({**TABLE, 2: row})
    assert verdict.right is False
    assert verdict.text.startswith("types 2 (DIRECT)")
    assert rule in verdict.text


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    verdicts = [
        check_root_types(make()),
        check_root_types({**TABLE, 5: make()}),
        check_root_types({**TABLE, 6: (1, 0, 1, make() if make() is not True else 2)}),
        check_root_types(dict.fromkeys(range(8), make())),
        check_plain_zap(make()),
    ]
    assert answered_in_words(verdicts)


def test_a_table_stays_as_it_was_submitted() -> None:
    table = {types: list(row) for types, row in TABLE.items()}
    check_root_types(table)
    assert table == {types: list(row) for types, row in TABLE.items()}


# ---- the guess -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", REACHED)
def test_a_plain_vm_has_a_direct_tree_whatever_the_filter(guess: str) -> None:
    """Kernel-facts 3.6: without a mirror the root types are DIRECT; an unmap adds INVALID (3.14)."""
    verdict: Verdict = check_plain_zap(guess)
    assert verdict.right is (guess == "the direct tree")
    assert "this VM has 1 root, direct." in verdict.text
    assert "root types 3 (DIRECT + INVALID), and took 512 frames there." in verdict.text


def test_a_hostile_guess_is_no_answer() -> None:
    assert check_plain_zap(Hostile()).right is False
