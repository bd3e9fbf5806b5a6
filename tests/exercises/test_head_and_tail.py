"""The checks of notebook 03 let right answers through and answer anything else in words, with a true case.

What is right is worked out here by a model of its own: a tree is a set of leaves (first frame, frames), and a
call splits every leaf larger than its target that begins before the call's end and ends after its start. It
knows neither the engine nor the spec.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tdpkit.engine.gfn import parse_gfn
from tdpkit.exercises.checking import Verdict
from tdpkit.exercises.head_and_tail import (
    EDGES,
    RatioGuess,
    check_aligned_2m,
    check_blocks,
    check_edge_blocks,
    check_no_arithmetic,
    check_overlap,
    check_ratio,
    in_words,
)
from tdpkit.lab.strategies import PlannedCall
from tdpkit.show.boundary.state import BoundaryState
from tdpkit.show.case.state import CaseState
from tests.exercises.problems import BLOCKS, calls, edge_blocks, says_it_in_the_picture

G, M = 1 << 18, 1 << 9
"""Frames of 1 GiB and of 2 MiB."""


def smallest_only(x: int, pages: dict[int, int]) -> list[tuple[int, int, int]]:
    return edge_blocks(x, pages)[-1:]


def around_nothing(x: int, pages: dict[int, int]) -> Iterator[Any]:
    yield np.int64(x), x, np.uint8(1)


# ---- the model -----------------------------------------------------------------------------------------

Leaves = frozenset[tuple[int, int]]
FRAMES, RADIX = 8, 2
SIZES = {1: 1, 2: 2, 3: 4}


@cache
def trees() -> list[tuple[Leaves, int]]:
    """Every tree of 8 frames, two entries per table and three levels; with its leaves and tables counted."""

    def entries(pages: int, gfn: int) -> list[tuple[Leaves, int]]:
        found = [(frozenset(), 0), (frozenset({(gfn, pages)}), 1)]
        return found if pages == 1 else [*found, *tables(pages, gfn)]

    def tables(pages: int, gfn: int) -> list[tuple[Leaves, int]]:
        half = pages // RADIX
        halves = product(entries(half, gfn), entries(half, gfn + half))
        return [(one | other, 1 + parts + more) for (one, parts), (other, more) in halves]

    return tables(FRAMES, 0)


@cache
def made(leaf: tuple[int, int], start: int, end: int, target: int, radix: int) -> Leaves:
    """What a call leaves of one leaf; target: the frames of a leaf that is small enough."""
    gfn, pages = leaf
    if pages <= target or not (gfn < end and gfn + pages > start):
        return frozenset({leaf})
    part = pages // radix
    return frozenset().union(
        *(made((at, part), start, end, target, radix) for at in range(gfn, gfn + pages, part))
    )


def needed(leaves: Leaves, edges: set[int], radix: int = RADIX) -> Leaves:
    """The leaves that should be there: whoever holds frames on both sides of an edge is split."""
    found = set(leaves)
    while crossing := {leaf for leaf in found if any(leaf[0] < x < sum(leaf) for x in edges)}:
        for gfn, pages in crossing:
            found.remove((gfn, pages))
            found |= {(at, pages // radix) for at in range(gfn, gfn + pages, pages // radix)}
    return frozenset(found)


@cache
def cases() -> list[tuple[tuple[bool, int, int, int], Leaves, Leaves]]:
    """(size, tree, as it should be) of each case, the smallest first; empty ranges come last."""
    found = []
    for length in range(FRAMES + 1):
        for start in range(FRAMES - length + 1):
            for leaves, parts in trees():
                wanted = needed(leaves, {start, start + length})
                found.append(((not length, parts, length, start), leaves, wanted))
    return sorted(found, key=lambda case: case[0])


Plan = Callable[[int, int], list[tuple[int, int, int]]]


def failures(plan: Plan) -> Iterator[tuple[bool, tuple, tuple]]:
    """(wrong, size, case) of every case that is not as it should be, in the order of their sizes."""
    for size, leaves, wanted in cases():
        _, _, length, start = size
        now, end = leaves, start + length
        for low, high, level in plan(start, end):
            if low < FRAMES:
                now = frozenset().union(*(made(leaf, low, high, SIZES[level], RADIX) for leaf in now))
        if now != wanted:
            wrong = any(gfn < x < gfn + pages for gfn, pages in now for x in (start, end))
            yield wrong, size, (start, end, leaves, now)


def smallest(plan: Plan) -> list[tuple]:
    """The smallest cases that go wrong; if none does, the smallest with a needless split."""
    found: dict[bool, list[tuple]] = {}
    least: dict[bool, tuple] = {}
    for wrong, size, case in failures(plan):
        if size == least.setdefault(wrong, size):
            found.setdefault(wrong, []).append(case)
        elif wrong:
            break
    return found.get(True) or found[False]


def shown_leaves(state: CaseState, number: int) -> Leaves:
    cells = (cell for strip in state.trees[number].strips for cell in strip.cells)
    return frozenset((c.first, c.last - c.first) for c in cells if c.kind not in ("table", "hole", "same"))


def is_the_smallest(verdict: Verdict, plan: Plan) -> bool:
    """The case in the verdict is one of those that fail, and none is smaller."""
    assert verdict.case is not None
    state = verdict.case.state
    assert isinstance(state, CaseState)
    shown = (state.start, state.end, shown_leaves(state, 0), shown_leaves(state, 1))
    return shown in smallest(plan) and says_it_in_the_picture(verdict)


@pytest.mark.slow
def test_the_model_has_every_tree_and_knows_the_right_answers() -> None:
    """An entry: a hole, a leaf, or a table of two smaller ones: 2, 2 + 2 * 2 = 6, 2 + 6 * 6 = 38."""
    assert len(trees()) == 38**2
    assert next(failures(calls), None) is None
    both = {level: size for level, size in SIZES.items() if level > 1}
    blocks = failures(lambda start, end: [*edge_blocks(start, both), *edge_blocks(end, both)])
    assert next(blocks, None) is None


# ---- calls, as they are submitted ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "rule"),
    [
        ([(4, 0, 1)], "a range ends at or after its start"),
        ([(-1, 0, 1)], "the start is at least 0"),
        ([(0, 4, 0)], "1 to 2, not 0."),
        ([(0, 4, 3)], "1 to 2, not 3."),
        ([(0, 4)], "a call is (start, end, target level), not (0, 4)."),
        ([(0, 1 << 60, 1)], "far beyond the machine"),
        ([(0, 4, 1)] * 5000, "more than 16 calls"),
        (None, "a list of (start, end, target level) is wanted, not None."),
        ({(0, 4, 1): 1}, "a list of (start, end, target level) is wanted"),
        ([(0, 4, 1.0)], "1 to 2, not 1.0."),
        ([(0.5, 4, 1)], "the start is counted in whole numbers"),
    ],
)
def test_blocks_that_are_none_are_refused_in_words(blocks: Any, rule: str) -> None:
    """With the frame that they were submitted for, and before anything is run."""
    verdict = check_edge_blocks(lambda x, pages: blocks if x == 6 else [])
    assert verdict.right is False
    assert verdict.text.startswith("edge_blocks(6, {2: 2, 3: 4}): ")
    assert rule in verdict.text
    verdict = check_blocks({**BLOCKS, "1G+2M": blocks})
    assert verdict.text.startswith("1G+2M: ")
    assert rule in verdict.text


# ---- the blocks of an edge, by hand --------------------------------------------------------------------


@pytest.mark.parametrize(
    "blocks",
    [
        BLOCKS,
        {edge: [(parse_gfn(a), parse_gfn(b), np.int8(c)) for a, b, c in BLOCKS[edge]] for edge in EDGES},
        {edge: [list(block) for block in reversed(said)] for edge, said in BLOCKS.items()},
        {edge: said[-1:] for edge, said in BLOCKS.items()},
        {edge: said * 3 for edge, said in BLOCKS.items()},
        {edge: {*said} for edge, said in BLOCKS.items()},
        {edge: np.array(edge_blocks(parse_gfn(edge), {2: M, 3: G})).reshape(-1, 3) for edge in EDGES},
        {
            edge: [PlannedCall(parse_gfn(a), parse_gfn(b), c) for a, b, c in said]
            for edge, said in BLOCKS.items()
        },
        {edge: [(edge, edge, 1)] for edge in EDGES},
    ],
    ids=range(9),
)  # fmt: skip
def test_every_way_to_the_right_tree_is_right(blocks: Any) -> None:
    """In any order, more than once, without the 1G block where the 2M block does it, or an empty range."""
    assert repr(check_blocks(blocks)).startswith("Right: ")


WRONG_BLOCKS = [
    ("1G", [("1G", "2G", 2)], "[1G, 2G) to level 2 is too much: 1 split that nothing forces."),
    ("1G", [("0", "1G", 2)], "[0, 1G) to level 2 is too much: 1 split that nothing forces."),
    ("1G+2M", [], "the 1G leaf at 1G still holds both 1G+1M+1020K and 1G+2M."),
    ("1G+2M", [("1G+2M", "1G+4M", 1)], "[1G+2M, 1G+4M) to level 1 is too much: 1 split that nothing forces."),
    ("1G+2M", [("1G", "2G", 1)], "[1G, 2G) to level 1 is too much: 512 splits that nothing forces."),
    ("1G+2M", [("2G", "3G", 2)], "the 1G leaf at 1G still holds both 1G+1M+1020K and 1G+2M."),
    ("1G+2M+4K", [("1G", "2G", 2)], "the 2M leaf at 1G+2M still holds both 1G+2M and 1G+2M+4K."),
    ("1G+2M+4K", [("1G", "2G", 2), ("1G", "1G+4M", 1)],
     "[1G, 1G+4M) to level 1 is too much: 1 split that nothing forces."),
    ("2T+4K", [("2T", "2T+2M", 2)], "the 2M leaf at 2T still holds both 2T and 2T+4K."),
    ("2T+4K", [("2T", "2T+2M", 1), ("2T+2M", "2T+4M", 1)],
     "[2T+2M, 2T+4M) to level 1 is too much: 1 split that nothing forces."),
]  # fmt: skip


@pytest.mark.parametrize(("edge", "blocks", "told"), WRONG_BLOCKS)
def test_wrong_blocks_are_told_what_they_leave(edge: str, blocks: list, told: str) -> None:
    verdict = check_blocks({**BLOCKS, edge: blocks})
    assert (verdict.right, verdict.text) == (False, f"{edge}: {told}")
    assert isinstance(verdict.case.state, BoundaryState)
    assert says_it_in_the_picture(verdict)


def on_1g(edge: str, blocks: list[tuple[str, str, int]]) -> tuple[Leaves, Leaves]:
    """By the model: what blocks leave of 1G leaves around an edge, and what they should leave."""
    x = parse_gfn(edge)
    base = x // G * G
    leaves = frozenset({(at, G) for at in (base - G, base, base + G)})
    wanted, target = needed(leaves, {x}, M), {1: 1, 2: M}
    for start, end, level in blocks:
        low, high = parse_gfn(start), parse_gfn(end)
        leaves = frozenset().union(*(made(leaf, low, high, target[level], M) for leaf in leaves))
    return leaves, wanted


@pytest.mark.slow
def test_the_model_says_so_too() -> None:
    for edge, blocks in BLOCKS.items():
        left, wanted = on_1g(edge, blocks)
        assert left == wanted
    for edge, blocks, told in WRONG_BLOCKS:
        left, wanted = on_1g(edge, blocks)
        x = parse_gfn(edge)
        crossing = [leaf for leaf in left if leaf[0] < x < sum(leaf)]
        assert left != wanted
        assert ("still holds both" in told) is bool(crossing)
        if crossing:
            assert [crossing[0][0]] == [parse_gfn(re.search(r"leaf at (\S+)", told)[1])]
        else:
            needless = (len(left) - len(wanted)) // (M - 1)  # each split makes one leaf 512
            assert f"is too much: {needless} split" in told


def test_a_call_too_large_to_be_made_is_answered_all_the_same() -> None:
    verdict = check_blocks({**BLOCKS, "2T+4K": [("2T", "3T", 1)]})
    assert verdict.right is False
    assert "[2T, 3T) to level 1 is too much" in verdict.text


# ---- edge_blocks(x, pages) -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("solution", [smallest_only, around_nothing])
def test_every_way_to_the_right_trees_is_right(solution: Callable[..., Any]) -> None:
    assert check_edge_blocks(solution).right is True


WRONG_EDGE_BLOCKS: dict[str, Callable[[int, dict[int, int]], Any]] = {
    "nothing": lambda x, pages: [],
    "largest only": lambda x, pages: edge_blocks(x, pages)[:1],
    "the frame before": lambda x, pages: edge_blocks(max(x - 1, 0), pages),
    "rounded up": lambda x, pages: [(b, 2 * b - a, level) for a, b, level in edge_blocks(x, pages)],
    "one frame": lambda x, pages: [(x, x + 1, 1)],
    "all to the smallest": lambda x, pages: [(a, b, 1) for a, b, _ in edge_blocks(x, pages)],
    "aligned too": lambda x, pages: [(x // n * n, x // n * n + n, level - 1) for level, n in pages.items()],
    "2M only": lambda x, pages: edge_blocks(x, {2: pages[2]}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG_EDGE_BLOCKS)
def test_a_wrong_edge_blocks_meets_the_smallest_case(name: str) -> None:
    wrong = WRONG_EDGE_BLOCKS[name]
    verdict = check_edge_blocks(wrong)
    assert verdict.right is False
    pages = {2: 2, 3: 4}
    assert is_the_smallest(verdict, lambda start, end: [*wrong(start, pages), *wrong(end, pages)])
    state = verdict.case.state
    assert verdict.text.startswith(f"range [{state.start}, {state.end}), pages {pages}: ")


ON_X86: dict[str, Callable[[int], list]] = {
    "the toy's sizes": lambda x: edge_blocks(x, {2: 2, 3: 4}),
    "nothing": lambda x: [],
    "too much": lambda x: [(x - x % G, x - x % G + G, 1)],
    "far too much": lambda x: [(0, 1 << 36, 1)],
}


@pytest.mark.parametrize("name", ON_X86)
def test_what_is_right_on_the_toy_alone_fails_on_x86(name: str) -> None:
    verdict = check_edge_blocks(lambda x, pages: edge_blocks(x, pages) if x <= 8 else ON_X86[name](x))
    assert verdict.right is False
    assert verdict.text.startswith("on x86, edge_blocks(0x200), an edge at 2M: ")
    if name == "far too much":
        assert verdict.case is None, "its calls were priced, not made"
    else:
        assert isinstance(verdict.case.state, BoundaryState)
        assert says_it_in_the_picture(verdict)


def test_edges_far_up_are_tried_too() -> None:
    verdict = check_edge_blocks(lambda x, pages: edge_blocks(x, pages) if x <= 2 * G else [])
    x, edge = re.match(r"on x86, edge_blocks\((0x[0-9a-f]+)\), an edge at (\S+): ", verdict.text).groups()
    assert int(x, 16) == parse_gfn(edge) > 2 * G
    assert says_it_in_the_picture(verdict)


def test_junk_on_x86_alone_is_told_too() -> None:
    verdict = check_edge_blocks(lambda x, pages: edge_blocks(x, pages) if x <= 8 else None)
    assert verdict.text.startswith("edge_blocks(512, {2: 512, 3: 262144}): a list of ")


def test_a_function_may_spoil_its_pages() -> None:
    def spoils(x: int, pages: dict[int, int]) -> list[tuple[int, int, int]]:
        blocks = edge_blocks(x, pages)
        pages.clear()
        return blocks

    assert check_edge_blocks(spoils).right is True


# ---- blocks that overlap -------------------------------------------------------------------------------


def test_the_overlap_worked_out_by_hand_is_right() -> None:
    """0x3ff: the 1G, and the 2M at 0x200. 0x401: the same 1G, and the 2M at 0x400. One of four comes twice.
    For 5 the 1G and the 2M at 0: merged, the 1G goes down to 4K, 1 + 512 splits; apart, one each.
    """
    sizes = {2: M, 3: G}
    blocks = [*edge_blocks(0x3FF, sizes), *edge_blocks(0x401, sizes)]
    assert (len(blocks), len(set(blocks))) == (4, 3)
    blocks_of_2m = made((0, G), 0, G, M, M)
    assert len(blocks_of_2m) == len(made((0, M), 0, M, 1, M)) == 512
    assert 1 + len(blocks_of_2m) == 513
    assert check_overlap(np.int64(3), np.uint16(513)).right is True


@pytest.mark.parametrize("said", [0, 1, 2, 4, -3, 10**30, 3.0, True, "3", None])
def test_a_wrong_number_of_calls_is_told_which_remain(said: Any) -> None:
    verdict = check_overlap(said, 513)
    assert verdict.text == (
        f"you said {said!r}; the edges of [0x3ff, 0x401) have 4 blocks, 3 of them different: "
        "[0, 1G) to level 2, [2M, 4M) to level 1, [4M, 6M) to level 1."
    )
    assert verdict.right is False
    assert says_it_in_the_picture(verdict)


@pytest.mark.parametrize("said", [0, 2, 3, 512, 514, "513", None])
def test_a_wrong_number_of_merged_splits_is_told_what_is_split(said: Any) -> None:
    verdict = check_overlap(3, said)
    assert verdict.right is False
    told = "become [0, 1G) to level 1. That splits the 1G leaf and then every 2M leaf in it: 1 + 512 splits."
    assert verdict.text.endswith(told)
    assert says_it_in_the_picture(verdict)


# ---- one pass at 2M ------------------------------------------------------------------------------------


def test_ranges_with_aligned_ends_are_right_if_the_leaf_crosses() -> None:
    """By the definition: an edge strictly inside [1G, 2G)."""
    ends = ["0", "2M", "1G-2M", "1G", "1G+2M", "1G+512M", "2G-2M", "2G", "2G+2M", "3G"]
    tried = 0
    for start, end in product(ends, ends):
        low, high = parse_gfn(start), parse_gfn(end)
        if low < high:
            verdict = check_aligned_2m(start, end)
            crossing = any(G < x < 2 * G for x in (low, high))
            assert verdict.right is crossing, (start, end)
            assert check_aligned_2m(low, np.int64(high)).right is crossing
            if crossing:
                outside = sum(max(0, b - a) for a, b in ((G, min(low, 2 * G)), (max(high, G), 2 * G)))
                assert f"A zap would take {outside:,} frames".replace(",", " ") in verdict.text
                assert "the pass makes 0 calls" in verdict.text
            else:
                assert "the 1G leaf crosses neither edge" in verdict.text
                assert says_it_in_the_picture(verdict)
            tried += 1
    assert tried == 45


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        ("1G+4K", "2G", "the start, 1G+4K, is no multiple of 2M"),
        ("1G+2M", "2G-4K", "the end, 1G+1023M+1020K, is no multiple of 2M"),
        ("1G+2M", "1G+2M", "the range is empty"),
        ("2G", "1G+2M", "ends at or after its start"),
        ("1G+2M", "4G", "this guest ends at 0xc0000 (3G)"),
        (-512, "1G", "at least 0"),
        ("1G+2", "2G", "the start, 1G+8K, is no multiple of 2M"),
        ("", "2G", "empty"),
        (1.5, "2G", "whole numbers"),
    ],
)
def test_a_range_that_does_not_answer_the_question_is_told_why(start: Any, end: Any, rule: str) -> None:
    verdict = check_aligned_2m(start, end)
    assert verdict.right is False
    assert rule in verdict.text


# ---- the split and the zap after it --------------------------------------------------------------------


def visits(min_level: int) -> int:
    """Entries of four levels of 512 that hold frames of [2T+4K, 14T+4K), counted by division."""
    first, last = parse_gfn("2T+4K"), parse_gfn("14T+4K") - 1
    return sum((last >> 9 * (n - 1)) - (first >> 9 * (n - 1)) + 1 for n in range(min_level, 5))


def test_the_two_numbers_are_those_of_arithmetic() -> None:
    """The split walks down to 2M and comes twice to each of two leaves, 3 entries below the root each. The
    zap walks on into the two tables that this made: 511 entries of the first, and 1 of the last.
    """
    split, zap = visits(2) + 2 * 3, visits(2) + 511 + 1
    assert (split, zap) == (6303777, 6304283)
    text = check_ratio(1).text
    assert text == "the split visits 6 303 777 entries, the zap after it 6 304 283, a ratio of 0.9999."


@pytest.mark.parametrize("guess", [1, 1.0, 0.5, 1.99, np.float32(0.8), np.int64(1), Fraction(2, 3)])
def test_a_guess_within_a_factor_of_2_is_right(guess: Any) -> None:
    assert check_ratio(guess).right is True


@pytest.mark.parametrize(
    ("guess", "told"),
    [
        (1e-6, "1e-06 is 999 920 times too small: "),
        (0.49, "0.49 is 2.0 times too small: "),
        (2.5, "2.5 is 2.5 times too large: "),
        (1000, "1000 is 1 000 times too large: "),
        (1e300, "1e+300 is far too large: "),
        (5e-324, "4.941e-324 is far too small: "),
        (0, "a ratio is a number above 0, not 0."),
        (-1, "a ratio is a number above 0, not -1."),
        ("1", "a ratio is a number above 0, not '1'."),
        (True, "a ratio is a number above 0, not True."),
    ],
)
def test_another_guess_is_told_how_far_off_it_is(guess: Any, told: str) -> None:
    verdict = check_ratio(guess)
    assert verdict.right is False
    assert verdict.text.startswith(told)
    assert "6 304 283" in verdict.text or "above 0" in told


def test_the_slider_is_no_answer_before_it_is_moved() -> None:
    guess = RatioGuess()
    assert guess.value is ...
    assert check_ratio(guess.value).right is None
    assert repr(guess) == "visits of the split / visits of the zap after it: not guessed yet"


def test_the_slider_moved_is_a_guess_and_the_button_compares_it() -> None:
    guess = RatioGuess()
    guess.slider.value = 0.001
    assert guess.value == 0.001
    assert "the split visits 1/1 000 of the entries that the zap visits" in guess.words.value
    guess.button.click()
    told = ElementTree.fromstring(guess.message.value)
    assert (told.tag, told.get("role")) == ("span", "status")
    assert told.text == repr(check_ratio(0.001))
    guess.slider.value = 1
    assert ElementTree.fromstring(guess.message.value).text is None, (
        "an old answer does not stand beside a new guess"
    )
    guess.compare()
    assert "Right: " in guess.message.value
    assert check_ratio(guess.value).right is True


def test_the_button_alone_takes_the_guess_as_it_stands() -> None:
    guess = RatioGuess()
    guess.button.click()
    assert guess.value == pytest.approx(10**-1.5)
    assert "Not yet: " in guess.message.value


def test_every_place_of_the_slider_has_its_words() -> None:
    said = [in_words(10 ** (power / 4)) for power in range(-24, 13)]
    assert len(set(said)) == len(said)
    assert said[0] == "the split visits 1/1 000 000 of the entries that the zap visits"
    assert said[24] == "the split visits as many entries as the zap"
    assert said[-1] == "the split visits 1 000 times as many entries as the zap"


# ---- nothing computed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solution",
    [
        lambda start, end: ((start, start, 1), [end, end, 1]),
        lambda start, end: (PlannedCall(x, x, 1) for x in (end, start, end)),
    ],
    ids=["as any rows", "in another order, and twice"],
)
def test_empty_ranges_at_both_edges_pass(solution: Callable[..., Any]) -> None:
    assert check_no_arithmetic(solution).right is True


WRONG_CALLS: dict[str, Callable[[int, int], list]] = {
    "nothing": lambda start, end: [],
    "the range": lambda start, end: [(start, end, 1)],
    "the start alone": lambda start, end: [(start, start, 1)],
    "to level 2": lambda start, end: [(start, start, 2), (end, end, 2)],
    "one frame": lambda start, end: [(start, start + 1, 1), (end, end + 1, 1)],
    "from 0": lambda start, end: [(0, start, 1), (0, end, 1)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls_meet_the_smallest_case(name: str) -> None:
    wrong = WRONG_CALLS[name]
    verdict = check_no_arithmetic(wrong)
    assert verdict.right is False
    assert is_the_smallest(verdict, wrong)
    state = verdict.case.state
    made_calls = wrong(state.start, state.end)
    assert verdict.text.startswith(f"range [{state.start}, {state.end}), calls {made_calls or 'none'}: ")


def test_one_frame_is_answered_with_its_needless_split() -> None:
    """By hand: of a leaf of 4, [1, 2) needs the halves and the two frames of the first; 2 is then an end."""
    text = check_no_arithmetic(WRONG_CALLS["one frame"]).text
    assert text == (
        "range [1, 2), calls [(1, 2, 1), (2, 3, 1)]: safe, but not minimal: 3 splits where 2 splits do "
        "(split needlessly: [2, 4))."
    )


@pytest.mark.parametrize(
    "computes",
    [
        lambda start, end: [*edge_blocks(start, {2: 2, 3: 4}), *edge_blocks(end, {2: 2, 3: 4})],
        lambda start, end: [(x, x + 1, 1) if x % 2 else (x, x, 1) for x in (start, end)],
    ],
    ids=["blocks", "one frame where it does no harm"],
)
def test_what_is_right_and_computed_is_told_the_number(computes: Callable[..., Any]) -> None:
    verdict = check_no_arithmetic(computes)
    assert verdict.right is False
    assert "but calls(10007, 1000003) returns the number " in verdict.text
