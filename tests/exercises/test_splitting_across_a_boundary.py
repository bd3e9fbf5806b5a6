"""The checks of notebook 02 let right answers through and answer anything else in words, with a true case."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.exercises.splitting_across_a_boundary import (
    EMPTY_AT,
    REASONS,
    SPLIT_COUNTS,
    SomeLeaf,
    check_crosses,
    check_empty,
    check_order,
    check_split_counts,
)
from tdpkit.lab.split_call import SplitCall
from tests.exercises.problems import EMPTY, FOUND, ORDER, crosses, says_it_in_the_picture, the_call
from tests.oracles.junk import endless


def test_what_is_missing_is_asked_for() -> None:
    assert "makes 3 splits" in check_split_counts({n: FOUND[n] for n in (0, 1, 2, 4)}).text
    assert "[20, 20)" in check_empty({**EMPTY, 20: ...}, ...).text
    why = check_empty(EMPTY, ...).text
    assert all(f"({key}) {text}" in why for key, text in REASONS.items()), "the reasons to choose from"


# ---- crosses(leaf, span) -------------------------------------------------------------------------------


def by_bits(leaf: SomeLeaf, span: GfnRange) -> bool:
    """An edge is inside unless it is a multiple of the leaf's size."""
    return any(
        edge % leaf.pages and edge // leaf.pages * leaf.pages == leaf.gfn for edge in (span.start, span.end)
    )


def by_parts(leaf: SomeLeaf, span: GfnRange) -> bool:
    """Some of its frames are in the range, and some are not."""
    inside = {frame in span for frame in range(leaf.gfn, leaf.gfn + leaf.pages)}
    return len(inside) == 2


def by_overlap(leaf: SomeLeaf, span: GfnRange) -> bool:
    overlap = span.overlap(leaf.gfn, leaf.pages)
    return 0 < overlap < leaf.pages


@pytest.mark.parametrize("solution", [by_bits, by_parts, by_overlap])
def test_every_right_formulation_passes(solution: Callable[..., bool]) -> None:
    assert check_crosses(solution).right is True


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [np.bool_, int, float, lambda it: np.array(it), lambda it: np.array([it])], ids=range(5)
)
def test_numpys_truth_and_numbers_that_are_0_and_1_are_taken(answer: Callable[[bool], Any]) -> None:
    assert check_crosses(lambda leaf, span: answer(crosses(leaf, span))).right is True


def patch(leaf: SomeLeaf, span: GfnRange) -> bool:
    """iter_cross_boundary: not fully inside."""
    return not (leaf.gfn >= span.start and leaf.gfn + leaf.pages <= span.end)


WRONG: dict[str, Callable[[SomeLeaf, GfnRange], Any]] = {
    "the patch's test": patch,
    "its opposite": lambda leaf, span: not crosses(leaf, span),
    "always": lambda leaf, span: True,
    "never": lambda leaf, span: False,
    "start only": lambda leaf, span: leaf.gfn < span.start < leaf.gfn + leaf.pages,
    "end only": lambda leaf, span: leaf.gfn < span.end < leaf.gfn + leaf.pages,
    "both edges": lambda leaf, span: all(
        leaf.gfn < x < leaf.gfn + leaf.pages for x in (span.start, span.end)
    ),
    "first frame counts": lambda leaf, span: any(
        leaf.gfn <= x < leaf.gfn + leaf.pages for x in (span.start, span.end)
    ),
    "end of the leaf counts": lambda leaf, span: any(
        leaf.gfn < x <= leaf.gfn + leaf.pages for x in (span.start, span.end)
    ),
    "off by one": lambda leaf, span: any(
        leaf.gfn < x < leaf.gfn + leaf.pages - 1 for x in (span.start, span.end)
    ),
    "end inclusive": lambda leaf, span: any(
        leaf.gfn < x < leaf.gfn + leaf.pages for x in (span.start, span.end - 1)
    ),
    "overlaps": lambda leaf, span: span.overlap(leaf.gfn, leaf.pages) > 0,
    "is not aligned": lambda leaf, span: bool(span.start % leaf.pages or span.end % leaf.pages),
    "large leaves only": lambda leaf, span: leaf.pages > 2 and crosses(leaf, span),
    "wrong once": lambda leaf, span: crosses(leaf, span) != (leaf == (8, 8) and span == GfnRange(0, 15)),
    "none": lambda leaf, span: None,
    "two": lambda leaf, span: 2 * crosses(leaf, span),
    "words": lambda leaf, span: str(crosses(leaf, span)),
    "truthy": lambda leaf, span: [1] * crosses(leaf, span),
    "nan": lambda leaf, span: float("nan"),
    "none for no": lambda leaf, span: True if crosses(leaf, span) else None,
    "takes one": lambda leaf: True,  # type: ignore[dict-item,misc]
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_each_wrong_formulation_meets_a_true_counterexample(wrong: Callable[..., Any]) -> None:
    verdict = check_crosses(wrong)
    assert verdict.right is False
    numbers = r"SomeLeaf\(gfn=(\d+), pages=(\d+)\) and range \[(\d+), (\d+)\): "
    gfn, pages, start, end = map(int, re.match(numbers, verdict.text).groups())
    frames, inside = set(range(gfn, gfn + pages)), set(range(start, end))
    assert gfn % pages == 0
    assert 0 <= start < end <= 16 >= gfn + pages
    truth = bool(frames & inside and frames - inside)
    try:
        said = wrong(SomeLeaf(gfn, pages), GfnRange(start, end))
    except TypeError:
        assert "crosses raised TypeError: " in verdict.text
    else:
        does = "and it does" if truth else "and it does not"
        fault = does if said in (True, False) else f"where {truth} is wanted"
        assert verdict.text.endswith(f"crosses said {said!r}, {fault}.")
        assert not (type(said) is bool and said == truth)
    assert says_it_in_the_picture(verdict)


def test_the_patchs_test_fails_on_the_smallest_case_there_is() -> None:
    """One frame beside a range of one: disjoint is not fully inside either (S101)."""
    assert check_crosses(patch).text == (
        "SomeLeaf(gfn=1, pages=1) and range [0, 1): crosses said True, and it does not."
    )


@pytest.mark.slow
def test_every_single_mistake_is_found() -> None:
    """Wrong on one leaf, by size and place, for one range: no case is left out, each is its own example."""
    places = [(gfn, pages) for pages in (1, 2, 4, 8) for gfn in range(0, 16, pages)]
    tried = 0
    for (gfn, pages), (start, end) in product(places, [(0, 1), (5, 16), (15, 16)]):

        def wrong(leaf: SomeLeaf, span: GfnRange, *, at: tuple[int, ...] = (gfn, pages, start, end)) -> bool:
            return crosses(leaf, span) != ((*leaf, span.start, span.end) == at)

        verdict = check_crosses(wrong)
        assert verdict.text.startswith(f"SomeLeaf(gfn={gfn}, pages={pages}) and range [{start}, {end}): ")
        tried += 1
    assert tried == 90


# ---- the visiting order --------------------------------------------------------------------------------


def test_the_order_worked_out_by_hand_is_the_only_right_one() -> None:
    for right in (tuple(ORDER), (pair for pair in ORDER), np.array(ORDER), list(map(list, ORDER))):
        assert check_order(right, the_call()).right is True
    for at in range(9):
        level, gfn = ORDER[at]
        for other in ((level, gfn + 1), (level - 1, gfn), (gfn, level), (level, -gfn), (level + 0.5, gfn)):
            assert check_order([*ORDER[:at], other, *ORDER[at + 1 :]], the_call()).right is False


WHY = (
    "the walk begins at the root, with the entry that holds its goal, frame 20.",
    "mmu_lock was dropped",
    "the leaf is split, and the walk steps down",
    "step sideways.",
    "step sideways.",
    "this was the last entry of its table",
    "mmu_lock was dropped",
    "the leaf is split, and the walk steps down",
    "step sideways.",
)


@pytest.mark.parametrize("at", range(9))
def test_a_wrong_visit_is_named_by_its_number_with_the_right_one_and_why(at: int) -> None:
    level, gfn = ORDER[at]
    for rest in (ORDER[at + 1 :], []):
        verdict = check_order([*ORDER[:at], (9, 77), *rest], the_call())
        told = f"visit {at + 1}: you said level 9, frame 77, but the level {level} entry at {gfn} comes: "
        assert verdict.text.startswith(told)
        assert WHY[at] in verdict.text
        assert says_it_in_the_picture(verdict)
        assert verdict.case.state.hidden, "what comes after it is not given away"
    assert len(re.findall(r"entry at", verdict.text)) == 1


@pytest.mark.parametrize("at", range(9))
def test_an_order_that_stops_early_is_told_what_comes(at: int) -> None:
    level, gfn = ORDER[at]
    verdict = check_order(ORDER[:at], the_call())
    assert verdict.right is False
    assert f"visit {at + 1}: your list ends, but the level {level} entry at {gfn} comes: " in verdict.text
    assert WHY[at] in verdict.text
    assert says_it_in_the_picture(verdict)


def test_restarts_left_out_are_the_first_mistake() -> None:
    once = [ORDER[0], *ORDER[2:]]
    assert check_order(once, the_call()).text.startswith(
        "visit 2: you said level 2, frame 20, but the level 3"
    )


@pytest.mark.parametrize("more", [[(2, 40)], [(3, 48)] * 5, endless((3, 16))])
def test_an_order_that_goes_on_is_told_that_the_call_is_over(more: Any) -> None:
    def longer() -> Any:
        yield from ORDER
        yield from more

    verdict = check_order(longer(), the_call())
    assert verdict.right is False
    assert re.match(r"visit 10: you said level \d, frame \d+, but the call is over: ", verdict.text)
    assert "begins at the end of the range" in verdict.text, "40 does"
    assert says_it_in_the_picture(verdict)


def test_the_order_of_a_call_without_a_visit_is_empty() -> None:
    call = SplitCall("large", 16, 16)
    assert check_order([], call).right is True
    assert check_order([(3, 16)], call).text.startswith(
        "visit 1: you said level 3, frame 16, but the call is"
    )
    assert says_it_in_the_picture(check_order([(3, 16)], call))


def test_text_and_halves_are_no_levels() -> None:
    for order in ([("3", "16")], ["30"], [(3.0, 16.0)], [(True, 16)], [(3, 16, 1)], [(3,)]):
        verdict = check_order(order, the_call())
        assert "an order is a list of pairs (level, first frame)" in verdict.text


# ---- ranges for a number of splits ---------------------------------------------------------------------


def splits_by_hand(start: int, end: int) -> int:
    """Leaves of 16 frames, then of 4, then of 1: how many hold frames on both sides of an edge."""
    sixteens = {edge // 16 for edge in (start, end) if edge % 16}
    fours = {edge // 4 for edge in (start, end) if edge % 4}
    return len(sixteens) + len(fours)


@pytest.mark.slow
def test_every_range_is_judged_by_the_leaves_that_hold_an_edge() -> None:
    """Each range is right for its own number once, and another one's in turn is wrong."""
    ranges: dict[int, list[tuple[int, int]]] = {number: [] for number in SPLIT_COUNTS}
    for span in combinations(range(65), 2):
        ranges[splits_by_hand(*span)].append(span)
    for at in range(max(map(len, ranges.values()))):
        found = {number: spans[at % len(spans)] for number, spans in ranges.items()}
        assert check_split_counts(found).right is True, found
        one, other = at % 5, (at + 1 + at % 4) % 5
        assert check_split_counts({**FOUND, one: found[other]}).right is False, (one, found[other])


@pytest.mark.parametrize("wanted", SPLIT_COUNTS)
def test_a_range_with_another_number_of_splits_is_told_which_it_makes(wanted: int) -> None:
    made = {
        0: "nothing",
        1: "the level 3 entry at 16",
        2: "the level 3 entry at 16, the level 2 entry at 20",
        3: "the level 3 entry at 0, the level 2 entry at 4, the level 3 entry at 16",
        4: "the level 3 entry at 0, the level 2 entry at 4, the level 3 entry at 16, the level 2 entry at 20",
    }
    for number, (start, end) in FOUND.items():
        if number != wanted:
            verdict = check_split_counts({**FOUND, wanted: (start, end)})
            want = f"wanted {wanted} split{'' if wanted == 1 else 's'}"
            assert verdict.text == f"[{start}, {end}): {want}, the call splits {made[number]}."
            assert says_it_in_the_picture(verdict)


@pytest.mark.parametrize(
    ("pair", "rule"),
    [
        ((5, 5), "the range is empty"),
        ((20, 20), "the range is empty"),
        ((9, 3), "ends at or after its start"),
        ((-1, 3), "at least 0"),
        ((64, 65), "starts inside the root"),
        ((5, 65), "the machine has the frames 0 to 63"),
        ((5, 10**30), "the machine has the frames 0 to 63"),
        ((1.5, 3), "whole numbers"),
        ((True, 3), "whole numbers"),
        ("16", "a range is a pair"),
        ((1, 2, 3), "a range is a pair"),
        ((1,), "a range is a pair"),
        (7, "a range is a pair"),
    ],
)
def test_a_range_that_is_none_is_refused_in_words(pair: object, rule: str) -> None:
    verdict = check_split_counts({**FOUND, 2: pair})
    assert verdict.right is False
    assert rule in verdict.text
    assert verdict.text.startswith(f"{pair!r}, for 2 splits: ")


def test_numpys_ranges_and_lists_are_taken() -> None:
    assert check_split_counts({n: np.array(pair) for n, pair in FOUND.items()}).right is True
    assert check_split_counts({n: list(pair) for n, pair in FOUND.items()}).right is True


# ---- the empty range -----------------------------------------------------------------------------------


def test_numpys_numbers_are_taken() -> None:
    assert check_empty({x: np.int64(n) for x, n in EMPTY.items()}, "b").right is True


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (0, "none"),
        (16, "none"),
        (20, "level 3 entry at 16, level 3 entry at 16"),
        (21, "level 3 entry at 16, level 3 entry at 16, level 2 entry at 20, level 3 entry at 16, "
             "level 2 entry at 20"),
    ],
)  # fmt: skip
def test_each_wrong_number_is_told_what_the_call_makes(frame: int, seen: str) -> None:
    """By hand: a split drops the lock, and the way from the root comes again."""
    for wrong in {0, 1, 2, 3, -1, 10**30} - {EMPTY[frame]}:
        verdict = check_empty({**EMPTY, frame: wrong}, "b")
        made = f"{EMPTY[frame]} split{'' if EMPTY[frame] == 1 else 's'}"
        told = f"[{frame}, {frame}): you said {wrong}, the call makes {made}. Entries visited: {seen}."
        assert (verdict.right, verdict.text) == (False, told)
        assert says_it_in_the_picture(verdict)


@pytest.mark.parametrize("said", [True, "1", 1.0, None, [1], (1,), float("nan")])
def test_what_is_no_whole_number_is_no_number_of_splits(said: object) -> None:
    verdict = check_empty({**EMPTY, 20: said}, "b")
    assert verdict.right is False
    assert f"you said {said!r}, the call makes 1 split." in verdict.text


def test_a_wrong_number_gives_no_other_frames_number_away() -> None:
    for at, frame in enumerate(EMPTY_AT):
        verdict = check_empty({**EMPTY, frame: 7}, ...)
        assert not any(f"[{other}, {other})" in verdict.text for other in EMPTY_AT[at + 1 :])


def test_each_wrong_reason_meets_what_speaks_against_it() -> None:
    """By hand: [16, 17) has 17 inside a leaf of 16 and inside one of 4."""
    one_frame, rounded = check_empty(EMPTY, "a"), check_empty(EMPTY, "c")
    assert one_frame.text == "then [16, 16) would split what [16, 17) splits, 2 leaves; it splits 0."
    assert rounded.text == (
        "then the leaf around 21 would lie inside the range and stay whole; the call splits 2 leaves."
    )
    for verdict in (one_frame, rounded):
        assert verdict.right is False
        assert says_it_in_the_picture(verdict)


@pytest.mark.parametrize("why", ["", "d", "B", "ab", "(b)", "bc", 1, b"b", ["b"], {"b": 1}])
def test_a_reason_that_is_none_is_told_which_there_are(why: object) -> None:
    verdict = check_empty(EMPTY, why)
    assert verdict.right is False
    assert verdict.text == f"a reason is a, b or c, not {why!r}."


def test_the_reason_is_not_judged_before_the_numbers() -> None:
    for why in ("a", "b", "c", ..., None):
        assert check_empty({**EMPTY, 21: 0}, why).text.startswith("[21, 21): ")
