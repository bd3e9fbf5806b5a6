"""The exercises of notebook 07: the pages of a split, a race for a cache, what to set aside before the lock.

Splits are counted here by a model of leaves as intervals, halved by hand; it knows neither the engine nor the
kit's arithmetic. A schedule of two threads is judged by a model of the cache alone: a top-up fills it to four
pages, a split takes four (S134, S179).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import pytest

from tdpkit.exercises.memory_for_a_split import (
    CASES,
    TABLES,
    check_pages,
    check_race,
    check_set_aside,
    check_tables,
    guess_tables,
    symptom,
)
from tdpkit.lab.cache_designs import cache_designs
from tests.exercises.problems import RACE, RIGHT_PAGES, answered_in_words, set_aside
from tests.oracles.junk import breaking, endless

# ---- the pages of a split ------------------------------------------------------------------------------

KINDS = ("page tables", "S-EPT pages", "PAMT pages")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("more", [-1, 1, 512])
def test_a_wrong_number_is_told_the_right_one_and_its_kind(name: str, at: int, more: int) -> None:
    right = RIGHT_PAGES[name]
    wrong = [number + more * (place == at) for place, number in enumerate(right)]
    verdict = check_pages({**RIGHT_PAGES, name: wrong})
    took = f"{right[at]:,}".replace(",", " ")
    assert verdict.text.startswith(f"{name}: {KINDS[at]}: you said {wrong[at]}, the engine took {took}: ")
    assert answered_in_words(verdict)
    assert (verdict.case is None) is ("all to 4K" in name)


@pytest.mark.parametrize(
    ("name", "at", "why"),
    [
        ("plain VM, 2M leaves, [1G+4K, 2G)", 0, "the 2M at 1G"),
        ("plain VM, 2M leaves, [1G+4K, 2G)", 1, "a plain VM has no S-EPT"),
        ("plain VM, 2M leaves, [1G+4K, 2G)", 2, "a plain VM has no PAMT"),
        ("plain VM, 1G leaves, [1G+4K, 2G-4K)", 0, "the 1G at 1G, the 2M at 1G and the 2M at 1G+1022M"),
        ("plain VM, 1G leaves, [1G-4K, 1G+2M)", 0, "the 1G at 0, the 1G at 1G and the 2M at 1022M"),
        ("plain VM, 1G leaves, [0, 2G), all to 4K", 0, "2 of 1G and 1 024 of 2M"),
        ("TD, [4K, 2M-4K)", 0, "the 2M at 0"),
        ("TD, [4K, 2M-4K)", 1, "one beside each page table"),
        ("TD, [4K, 2M-4K)", 2, "the module had all of them from the start"),
        ("Dynamic PAMT, [2M+4K, 6M+4K), a new region", 2,
         "a pair for each 2M demoted, 4 pages, and a pair for the new region of the S-EPT pages"),
        ("Dynamic PAMT, [2M+4K, 6M+4K), a region in use", 2,
         "a pair for each 2M demoted, 4 pages, and no new region"),
    ],
)  # fmt: skip
def test_and_the_reason(name: str, at: int, why: str) -> None:
    wrong = [*RIGHT_PAGES[name]]
    wrong[at] += 1
    assert check_pages({**RIGHT_PAGES, name: wrong}).text.endswith(f"{why}.")


@pytest.mark.parametrize("said", [7, "1, 0, 0", (1, 0), (1, 0, 0, 0), {1, 2, 3}, (1, None, 0), (1, 0.5, 0)])
def test_what_is_no_three_numbers_is_refused_in_words(said: Any) -> None:
    verdict = check_pages({**RIGHT_PAGES, "TD, [4K, 2M-4K)": said})
    assert "three numbers are wanted, (page tables, S-EPT pages, PAMT pages), not " in verdict.text
    assert answered_in_words(verdict)


def test_lists_and_the_order_of_the_questions_will_do() -> None:
    assert check_pages([[*pages] for pages in RIGHT_PAGES.values()]).right is True


# ---- the guess -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", TABLES)
def test_only_the_two_leaves_at_the_edges_are_split(guess: Any) -> None:
    verdict = check_tables(guess)
    assert verdict.right is (guess == "2")
    assert "the split takes 2 page tables" in verdict.text


@pytest.mark.parametrize("guess", [2, None, "two"])
def test_a_guess_is_one_of_the_answers(guess: Any) -> None:
    assert check_tables(guess).text == f"a guess is 0, 2, 4, 8 192 or 8 208, not {guess!r}."


def test_the_guess_asks_before_it_answers() -> None:
    guess = guess_tables()
    assert "2 page" not in repr(guess)
    guess.control.value = "8 192"
    guess.compare()
    assert "you said &#x27;8 192&#x27;; the split takes 2 page tables" in guess.message.value


# ---- the race ------------------------------------------------------------------------------------------

ALONE = "lock read read unlock lock read read need? unlock top-up lock read read store external unlock return"
"""A conversion that finds the cache empty: a drop for the page table, one for the top-up, and the split."""


def outcome(turns: Sequence[tuple[str, int]]) -> tuple[str, str]:
    """By a model of the cache: who fails, "" if nobody does, and what A's top-up found."""
    cache, done, asked, found = 0, {"A": 0, "B": 0}, {"A": True, "B": True}, ""
    words = {name: ALONE.split() for name in "AB"}
    for name, steps in turns:
        for _ in range(steps):
            word = words[name][done[name]]
            done[name] += 1
            if word == "need?" and cache == 4:
                asked[name] = False
                del words[name][done[name] : done[name] + 4]  # no drop, no top-up, no restart
            if word == "top-up":
                found = str(cache) if name == "A" else found
                cache = 4
            if word == "external":
                if cache < 4:
                    return name, found
                cache = 0
    return "", found


def words_of(turns: Sequence[tuple[str, int]]) -> str:
    """A schedule as text: each thread does as it does alone."""
    rest = {name: iter(ALONE.split()) for name in "AB"}
    return " ".join(f"{name}:{next(rest[name])}" for name, steps in turns for _ in range(steps))


def test_the_symptom_is_a_conversion_whose_topup_found_the_cache_full() -> None:
    lines = symptom().lines
    assert len(lines) == 15 == ALONE.split().index("external") + 1
    assert lines[7].endswith("it has 0")
    assert lines[9].endswith("4 → 4")
    assert "KVM_BUG" in repr(symptom())


def test_the_text_of_the_schedule_is_as_good_as_its_turns() -> None:
    assert check_race(words_of(RACE)).right is True
    assert check_race(tuple(RACE)).right is True


def schedules() -> list[list[tuple[str, int]]]:
    """Both threads up to the drop for a top-up; then their top-ups and splits, in every order."""
    begun = [[("A", 9), ("B", 9)], [("B", 9), ("A", 9)]]
    orders = sorted(set(permutations("AABB")))
    return [
        [*first, *((name, 6 if name in order[:at] else 1) for at, name in enumerate(order))]
        for first in begun
        for order in orders
    ]


@pytest.mark.parametrize("turns", schedules())
def test_a_schedule_is_right_if_the_model_says_that_a_fails_so(turns: list[tuple[str, int]]) -> None:
    fails, found = outcome(turns)
    verdict = check_race(turns)
    assert verdict.right is (fails == "A" and found == "4"), verdict
    if not fails:
        assert "no split has failed" in verdict.text
    elif fails == "B":
        assert verdict.text.startswith("B fails, not A: step ")
    elif found == "0":
        assert verdict.text == (
            "a split fails, after other steps: line 10 of A is here “A tops the cache up: 0 → 4”."
        )


def test_the_race_of_the_text_is_another() -> None:
    """There B tops nothing up: it finds A's pages."""
    witness = next(design.witness for design in cache_designs() if not design.survives)
    assert "B:top-up" not in witness
    verdict = check_race(witness)
    assert verdict.right is False
    assert "after other steps: line 10 of A" in verdict.text


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "after 0 steps no split has failed; the cache has 0 pages, A goes on with 'lock' and B goes on"),
        ([("A", 9), ("B", 16), ("A", 6)],
         "after 31 steps no split has failed; line 10 of A is here “A tops the cache up: 0 → 4”; the cache"),
        ([("A", 16)], "the cache has 0 pages, A goes on with 'return' and B goes on with 'lock'."),
        ("A:lock B:lock", "step 2, 'B:lock', cannot be: B waits for mmu_lock, which A holds."),
        ([("A", 1), ("B", 1)], "step 2: B cannot move: it waits for mmu_lock, which A holds."),
        ([("A", 18)], "step 18: A cannot move: it has returned."),
        ("A:lock A:unlock", "step 2 does not fit this code: A does 'read' there, not 'unlock'."),
        ("A:lock C:read", "the threads here are A and B; step 2, 'C:read', names none."),
        ([("C", 1)], "step 1: the threads here are A and B; 'C' is none."),
        ("now A", "a step is written thread:token, such as A:lock; step 1 is 'now'."),
        ("A:lock " * 99, "these are more than 60 steps"),
        ([("A", 99)], "these are more than 60 steps"),
        (endless(("A", 1)), "step 18: A cannot move"),
        ([("A", 0)], "a turn is a thread and how many steps it makes, such as (\"A\", 3), not ('A', 0)."),
        ([("A", "x")], "a turn is a thread and how many steps it makes"),
        ([(1, 1)], "a turn is a thread and how many steps it makes"),
        (["A:lock"], "a turn is a thread and how many steps it makes"),
        ({"A": 3}, "a schedule is a text, or a list of (thread, steps), not {'A': 3}."),
        (7, "a schedule is a text, or a list of (thread, steps), not 7."),
        (breaking(("A", 1)), "a schedule is a text"),
    ],
)  # fmt: skip
def test_other_schedules_are_told_what_is_wrong_with_them(schedule: Any, words: str) -> None:
    verdict = check_race(schedule)
    assert words in verdict.text
    assert answered_in_words(verdict)


# ---- what to set aside ---------------------------------------------------------------------------------

SIZES = [4, 2]
FRAMES = 8
Tree = tuple[tuple[int, int], ...]


def trees(first: int, pages: int) -> list[Tree]:
    """Everything that `pages` frames can be: nothing, a leaf, or two halves."""
    leaf: list[Tree] = [((first, pages),)]
    if pages == 1:
        return [(), *leaf]
    half = pages // 2
    halves = [low + high for low in trees(first, half) for high in trees(first + half, half)]
    return [(), *leaf, *halves]


def splits(first: int, pages: int, edges: tuple[int, int]) -> int:
    """Halvings until no leaf of what [first, first + pages) was holds both sides of an edge."""
    if not any(first < x < first + pages for x in edges):
        return 0
    half = pages // 2
    return 1 + splits(first, half, edges) + splits(first + half, half, edges)


@pytest.fixture(scope="module")
def most() -> dict[tuple[int, int], int]:
    """By range, the most splits of all trees: two entries of a root that is no leaf itself."""
    halves = [trees(0, 4), trees(4, 4)]
    return {
        edges: sum(max(sum(splits(*leaf, edges) for leaf in tree) for tree in half) for half in halves)
        for edges in combinations(range(FRAMES + 1), 2)
    }


def test_there_are_as_many_cases_as_the_verdict_says() -> None:
    assert len(trees(0, 4)) == 38
    assert 38**2 * 36 == 51984


def toy_answer(most: dict[tuple[int, int], int], span: tuple[int, int], more: int) -> Any:
    """Right but on one range of the toy; on x86 as it should be."""

    def said(start: int, end: int, sizes: list[int]) -> int:
        if sizes != SIZES:
            return set_aside(start, end, sizes)
        return most[start, end] + more * ((start, end) == span)

    return said


def test_the_most_of_all_trees_is_right(most: dict[tuple[int, int], int]) -> None:
    assert check_set_aside(toy_answer(most, (0, 0), 0)).right is True


@pytest.mark.parametrize("span", [*combinations(range(FRAMES + 1), 2)])
def test_a_page_more_or_less_is_found_on_every_range(
    most: dict[tuple[int, int], int], span: tuple[int, int]
) -> None:
    call = f"set_aside({span[0]}, {span[1]}, [4, 2])"
    verdict = check_set_aside(toy_answer(most, span, 1))
    assert verdict.text == (
        f"{call} is {most[span] + 1}, and no tree takes more than {most[span]}: the others stay idle."
    )
    assert answered_in_words(verdict)
    if most[span]:
        verdict = check_set_aside(toy_answer(most, span, -1))
        assert verdict.text == (
            f"{call} is {most[span] - 1}, and this tree takes {most[span]}: "
            "under mmu_lock the call lacks 1 page table."
        )
        assert answered_in_words(verdict)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda start, end, sizes: 4, "set_aside(0, 1, [4, 2]) is 4, and no tree takes more than 2"),
        (lambda start, end, sizes: 0,
         "set_aside(0, 1, [4, 2]) is 0, and this tree takes 2: under mmu_lock the call lacks 2 page tables."),
        # Counts the leaf that both edges share twice.
        (lambda start, end, sizes: sum(x % n > 0 for x in (start, end) for n in sizes),
         "set_aside(1, 2, [4, 2]) is 3, and no tree takes more than 2"),
        # Forgets the smaller leaves below the largest.
        (lambda start, end, sizes: len({x // sizes[0] for x in (start, end) if x % sizes[0]}),
         "set_aside(0, 1, [4, 2]) is 1, and this tree takes 2: under mmu_lock the call lacks 1 page table."),
        # Rounds the end down by one frame, as if it were the last of the range.
        (lambda start, end, sizes: set_aside(start, end - 1, sizes),
         "set_aside(0, 1, [4, 2]) is 0, and this tree takes 2"),
        (lambda start, end, sizes: set_aside(start, end, sizes) if sizes == SIZES else 4,
         "on x86, [0, 4K): you set 4 page tables aside, too many: in a guest of 1G leaves the split takes 2"),
        (lambda start, end, sizes: set_aside(start, end, sizes) if sizes == SIZES else 1,
         "on x86, [0, 4K): you set 1 page table aside, too few: in a guest of 1G leaves the split takes 2"),
        (lambda start, end, sizes: "4", "a number of page tables is wanted, 0 or more, not '4'."),
        (lambda start, end, sizes: -1, "a number of page tables is wanted, 0 or more, not -1."),
        (lambda start, end, sizes: True, "a number of page tables is wanted"),
        (lambda start, end, sizes: sizes.clear() or sizes[0], "raised IndexError: "),
    ],
)  # fmt: skip
def test_other_rules_meet_the_range_that_refutes_them(rule: Any, words: str) -> None:
    verdict = check_set_aside(rule)
    assert words in verdict.text
    assert answered_in_words(verdict)


def test_what_is_no_function_is_refused_in_words() -> None:
    assert "set_aside is a function of start, end and sizes, not 4." in check_set_aside(4).text
