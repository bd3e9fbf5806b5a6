"""The exercises of notebook 08: conditions of claims, verdicts that change, a plan, a planted bug.

What is measured is known here from the facts: S106 and S211 for a false report, S133 for the tables of 16
GiB, S139 for one call against two steps, S233 for plans that are exact.
"""

from __future__ import annotations

from typing import Any

import pytest

from tdpkit.engine.events import AllocTable
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.splits import no_split, split_v3, split_v3_as_posted
from tdpkit.exercises.the_review_run import (
    NUMBERS,
    STRATEGIES,
    check_cases,
    check_changed,
    check_plan,
    check_planted,
    check_undecided,
    guess_undecided,
)
from tdpkit.lab.strategies import PlannedCall, walk_v3
from tests.exercises.problems import CASES, CHANGED, answered_in_words, my_plan

# ---- the guess -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", sorted({*NUMBERS} - {"9"}))
def test_nine_claims_are_named_whatever_is_guessed(guess: str) -> None:
    verdict = check_undecided(guess)
    assert verdict.text == (
        f"you said {guess}; no experiment decides 9 of 45: C11, C12, C25, C35, C37, C41, C42, C44 and C45."
    )
    assert repr(guess_undecided()).endswith("(not guessed yet)")


# ---- under which condition -----------------------------------------------------------------------------

IN_HAND, DROPPED = ("exclusive", "in hand"), ("exclusive", "on demand")
INSIDE, LONG = ("2G+4K", "2G+12K"), ("1G+4K", "2G-4K")


@pytest.mark.parametrize("first", [DROPPED, ("shared", "on demand"), ("shared", "in hand")])
def test_a_report_can_be_false_in_all_but_one_case(first: tuple[str, str]) -> None:
    assert check_cases({**CASES, "C4": (first, IN_HAND)}).right is True
    verdict = check_cases({**CASES, "C4": (IN_HAND, first)})
    assert "in the case ('exclusive', 'in hand') it should be so, but in none of " in verdict.text
    verdict = check_cases({**CASES, "C4": (DROPPED, first)})
    assert f"in the case {first} it should not be so, but of " in verdict.text
    assert answered_in_words(verdict)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((3, 2), "in the case 3 it should be so, but from leaves of 1G it takes 8 208 page tables."),
        ((1, 3), "in the case 1 it should be so, but from leaves of 4K it takes 0 page tables."),
        ((2, 2), "in the case 2 it should not be so, but from leaves of 2M it takes 8 192 page tables."),
        ((2, 4), "the level of a leaf is 1 (4K), 2 (2M) or 3 (1G), not 4."),
        ((2, "1G"), "the level of a leaf is 1 (4K), 2 (2M) or 3 (1G), not '1G'."),
        ((2,), "two cases are wanted: one in which it is so, and one in which it is not, not (2,)."),
    ],
)
def test_sixteen_gibibytes_take_what_their_leaves_say(pair: Any, words: str) -> None:
    verdict = check_cases({**CASES, "C29": pair})
    assert verdict.text == f"C29: {words}"
    assert answered_in_words(verdict)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((INSIDE, INSIDE), "not be so, but over [2G+4K, 2G+12K) one call visits 8 SPTEs, the two steps 10."),
        ((("2G-4K", "2G+4K"), INSIDE), "[2G+4K, 2G+12K) one call visits 8 SPTEs, the two steps 10."),
        ((LONG, INSIDE), "over [1G+4K, 1G+1023M+1020K) one call visits 522 SPTEs, the two steps 16."),
        ((("1G+4K", "1G+512M"), LONG), "one call visits 263 SPTEs, the two steps 10."),
        ((INSIDE, ("1G", "2G")), "a range is wanted that is shorter than 1G, not empty, and ends below 16T"),
        ((INSIDE, ("1G", "1G")), "a range is wanted that is shorter than 1G"),
        ((INSIDE, ("16T", "16T+8K")), "a range is wanted that is shorter than 1G"),
        ((INSIDE, ("2G", "1G")), "a range"),
        ((INSIDE, "1G"), "a case is a range, such as (\"1G\", \"1G+8K\"), not '1G'."),
    ],
)  # fmt: skip
def test_one_call_is_weighed_against_two_steps(pair: Any, words: str) -> None:
    """S139: 8 and 10 inside one 2M block, 263 and 10 up to 512M, 522 and 16 at nearly 1G."""
    verdict = check_cases({**CASES, "C40": pair})
    assert verdict.right is False
    assert words in verdict.text
    assert answered_in_words(verdict)


def test_frames_may_be_numbers() -> None:
    assert check_cases({**CASES, "C40": ((0x207, 0x209), ("1G+4K", "2G-4K"))}).right is True


# ---- verdicts that change ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("word", ["holds", "holds if", "fails"])
def test_each_verdict_is_the_experiment_s_own(name: str, word: str) -> None:
    verdict = check_changed({**CHANGED, name: word})
    assert verdict.right is (CHANGED[name] == word)
    if not verdict.right:
        assert verdict.text.startswith(f"{name}: you said “{word}”; the experiment finds “")
        assert answered_in_words(verdict)


def test_the_patch_s_call_is_put_back() -> None:
    assert STRATEGIES["walk_v3"] is walk_v3


def test_another_word_is_told_the_three() -> None:
    verdict = check_changed({**CHANGED, "C18": "withdrawn"})
    assert verdict.text == "C18: a verdict is holds, holds if or fails, not 'withdrawn'."


# ---- a plan of one's own -------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_plan_is_right_too() -> None:
    """The blocks of the end come first, a shared one twice."""

    def plan(geometry: Any, s: int, e: int) -> list[PlannedCall]:
        sizes = {2: geometry.pages(3), 1: geometry.pages(2)}
        return [
            PlannedCall(x // size * size, x // size * size + size, target)
            for x in (e, s)
            for target, size in sizes.items()
            if x % size
        ]

    assert check_plan(plan).right is True


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_strategies_of_03_are_known_by_what_they_do(name: str) -> None:
    strategy = STRATEGIES[name]
    verdict = check_plan(lambda g, s, e: strategy.plan(g, s, e))
    assert verdict.right is False
    title = strategy.rule.title.replace("{small}", "2M")
    assert "{" not in title
    assert verdict.text == f"these are the calls of “{title}”, which notebook 03 has already ({name})."


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (lambda g, s, e: [], "it returned 0, and a leaf crosses an edge"),
        (lambda g, s, e: [PlannedCall(s, s, 1)], "it fails “4 and 5 levels”"),
        # An inclusive end: the last frame is split off, and the end's own leaf is not.
        (lambda g, s, e: [PlannedCall(s, max(s, e - 1), 1, True)], "it fails “4 and 5 levels”"),
        (lambda g, s, e: [PlannedCall(x, x + 1, 1) for x in (s, e)][:1], "it fails “4 and 5 levels”"),
        (lambda g, s, e: [(s, e, 1)], "a plan is a list of PlannedCall, not [("),
        (lambda g, s, e: PlannedCall(s, e, 1), "a plan is a list of PlannedCall, not "),
        (lambda g, s, e: [s, e], "a plan is a list of PlannedCall, not [0, 1]."),
        (lambda g, s, e: 1 // s, "for [0, 4K) it raised ZeroDivisionError: "),
        (3, "a plan is a function: plan(geometry, s, e) -> a list of PlannedCall, not 3."),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_told_the_question_and_the_case(plan: Any, words: str) -> None:
    verdict = check_plan(plan)
    assert verdict.right is False
    assert words in verdict.text
    assert answered_in_words(verdict)


@pytest.mark.slow
def test_a_plan_whose_visits_grow_is_told_how() -> None:
    """The patch's walk with an empty call behind it, which changes nothing."""
    verdict = check_plan(lambda g, s, e: [PlannedCall(s, e, 1, True), PlannedCall(s, s, 1)])
    assert verdict.text.startswith("visits grow with the range: ")
    assert "6 303 7" in verdict.text


@pytest.mark.slow
def test_what_is_right_on_x86_alone_is_drawn_on_the_toy() -> None:
    """Exact where tables have 512 entries; on the toy it looks at no edge."""
    verdict = check_plan(lambda g, s, e: my_plan(g, s, e) if g.entries == 512 else [])
    assert verdict.text.startswith("it fails “exact, 2M leaves”: ")
    assert verdict.case is not None
    assert answered_in_words(verdict)


# ---- a planted bug -------------------------------------------------------------------------------------


def asks_under_the_lock(kvm: Any, gfn_range: Any) -> Any:
    yield AllocTable(kvm.pool, False)
    return 0


def once(kvm: Any, gfn_range: Any) -> Any:
    """The tail is forgotten."""
    head = KvmGfnRange(gfn_range.slot, gfn_range.start, gfn_range.start, KVM_FILTER_PRIVATE)
    return kvm_split_cross_boundary_leafs(kvm, head, shared=False)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (
            split_v3_as_posted,
            "it fails “no memory”: frames [0, 1) of a toy, leaves [0, 4) and [4, 8), page 1 of 2 refused: ",
        ),
        (no_split, "it fails “"),
        (once, "it fails “"),
        (asks_under_the_lock, "it fails “rules”: "),
        (lambda kvm, gfn_range: 0, "planted returned 0; it has to return a coroutine"),
        (lambda kvm, gfn_range: [], "planted returned []; it has to return a coroutine"),
        (lambda kvm, gfn_range: kvm.nothing, "for the frames [1, 2) it raised AttributeError"),
        ("v3", "planted is a function of a VM and a range, which returns a coroutine, not 'v3'."),
    ],
)
def test_a_bug_that_another_question_sees_is_told_which(split: Any, words: str) -> None:
    verdict = check_planted(split)
    assert verdict.right is False
    assert words in verdict.text
    assert answered_in_words(verdict)


@pytest.mark.slow
def test_what_has_no_bug_is_told_so() -> None:
    verdict = check_planted(split_v3)
    assert verdict.text.startswith("it passes “roots” as well: ")
    assert answered_in_words(verdict)
