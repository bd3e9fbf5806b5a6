"""The exercises of notebook 06: the schedule of a lie, flush rules, the wrapper.

What a schedule does is written by hand after S80 and S211. Which flush rules hold is by the commit log (M0),
what the wrapper returns by S100 and S105, what callers make of a 1 by S107.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tdpkit.engine.events import Flush, Lock, Trace, Unlock
from tdpkit.engine.kvm import KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    weak_kvm_split_cross_boundary_leafs,
)
from tdpkit.exercises.lock_resched_flush import (
    check_flush_rules,
    check_in_hand,
    check_lie,
    check_wrapper,
    guess_in_hand,
)
from tdpkit.lab.schedules import Setting, explored
from tests.exercises.problems import FLUSH_RULES, LIE, answered_in_words, honest_wrapper

# ---- the guess -----------------------------------------------------------------------------------------


def test_the_lie_needs_no_drop_of_the_lock() -> None:
    """By hand: B holds the lock before A stores, and reads after it: 8 steps with A's three."""
    by_hand = "B:lock A:lock A:read A:swap B:read B:read B:unlock B:return"
    assert f"has {len(by_hand.split())} steps" in check_in_hand("in some schedule").text
    verdict = check_in_hand("never")
    assert verdict.right is False
    assert verdict.text.startswith("you said never; ")


def test_the_question_is_asked_before_it_is_answered() -> None:
    guess = guess_in_hand()
    assert guess.value is ...
    assert repr(guess).endswith("(not guessed yet)")


# ---- the schedule --------------------------------------------------------------------------------------

ONE = "lock read unlock lock read store read unlock flush return"
OTHER = "lock read read unlock return"
"""A call that splits, and one that finds the split made."""


def of(thread: str, tokens: str) -> str:
    return " ".join(f"{thread}:{token}" for token in tokens.split())


SWAPPED = LIE.translate(str.maketrans("AB", "BA"))


@pytest.mark.parametrize(
    "schedule",
    [
        LIE,
        LIE.split(),
        tuple(LIE.split()),
        f"  {LIE}\n",
        f"{LIE} B:flush B:return",
        LIE.replace("A:lock A:read A:read", "B:flush A:lock A:read A:read"),
    ],
    ids=range(6),
)
def test_a_schedule_of_the_lie_is_right_however_it_is_written_and_goes_on(schedule: Any) -> None:
    verdict = check_lie(schedule)
    assert verdict.right is True, verdict
    assert "returned and said that nothing was split" in verdict.text


def test_the_schedule_that_the_notebook_shows_is_not_taken() -> None:
    verdict = check_lie(SWAPPED)
    assert verdict.right is False
    assert verdict.text.endswith("B returned and said that nothing was split. That is B; let A be the liar.")


def test_the_search_finds_none_that_is_shorter_than_the_one_by_hand() -> None:
    assert len(LIE.split()) == 16
    assert "the shortest 16" in check_lie(LIE).text


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("", "after no step no call has lied: A would lock next; B would lock next."),
        ("A:lock A:read",
         "after 2 steps no call has lied: A would unlock next; B waits for mmu_lock, which A holds."),
        ("A:lock A:read B:lock", "step 3, 'B:lock', cannot be: B waits for mmu_lock, which A holds."),
        (f"{of('A', ONE)} A:lock", "step 11, 'A:lock', cannot be: A has returned."),
        ("A:lock A:swap", "step 2 does not fit this code: A does 'read' there, not 'swap'."),
        ("A:lock A:read A:store", "step 3 does not fit this code: A does 'unlock' there"),
        ("C:lock", "the threads here are A and B; step 1, 'C:lock', names none"),
        ("lock read", "a step is written thread:token, such as A:lock; step 1 is 'lock'"),
        (f"{of('A', ONE)} {of('B', OTHER)}",
         "after 15 steps no call has lied: A says that it split a leaf, and it did; B says that nothing was "
         "split, and that is true of its call, since A's split was step 6 and B's call began with step 11."),
        (of("B", ONE),
         "after 10 steps no call has lied: A would lock next; B says that it split a leaf, and it did."),
        (3, "a schedule is text, such as \"A:lock A:read\", not 3."),
        (["A:lock", 3], "a schedule is text"),
        ({"A:lock"}, "a schedule is text"),
        (np.array(LIE.split()), "a schedule is text"),
        ("A:lock " * 10_000, "step 2 does not fit this code: A does 'read' there, not 'lock'."),
    ],
)  # fmt: skip
def test_another_schedule_is_told_the_step_or_the_state(schedule: Any, words: str) -> None:
    verdict = check_lie(schedule)
    assert verdict.right is False
    assert answered_in_words(verdict)
    assert words in verdict.text


def test_a_schedule_of_other_code_does_not_fit() -> None:
    """Under the read lock both threads take it at once."""
    _, found = explored(Setting(pages="in hand"))
    assert check_lie(str(found.witness["no misreport"])).right is False


# ---- the flush rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({}, "and no rule flushes less"),
        ({"fault path of a TD": "if I split"}, "Fault path of a TD: “never” survives too, and flushes less"),
        ({"fault path of a TD": "always"}, "Fault path of a TD: “never” survives too, and flushes less"),
        ({"conversion": "always"}, "Conversion: “if I changed” survives too, and flushes less"),
        (
            dict.fromkeys(FLUSH_RULES, "always"),
            "Fault path of a TD: “never” survives too, and flushes less; conversion: “if I changed” survives",
        ),
    ],
)
def test_a_rule_that_survives_is_right_and_a_needless_flush_is_mentioned(
    change: dict[str, str], note: str
) -> None:
    verdict = check_flush_rules({**FLUSH_RULES, **change})
    assert verdict.right is True
    assert note in verdict.text
    assert check_flush_rules([*{**FLUSH_RULES, **change}.values()]).right is True


@pytest.mark.parametrize(
    ("use", "rule", "why"),
    [
        ("conversion", "never", "a TLB may hold that leaf still"),
        ("conversion", "if I split", "V:swap V:read V:unlock A:lock"),
        ("dirty logging", "never", "nothing was logged"),
        ("dirty logging", "if I split", "nothing was logged"),
        ("dirty logging", "if I changed", "nothing was logged"),
        ("conversion", "sometimes", "a rule is never, if I split, if I changed or always, not 'sometimes'."),
    ],
)
def test_a_rule_that_fails_is_answered_by_a_schedule(use: str, rule: str, why: str) -> None:
    verdict = check_flush_rules({**FLUSH_RULES, use: rule})
    assert verdict.right is False
    assert verdict.text.startswith(f"{use}: ")
    assert why in verdict.text
    assert answered_in_words(verdict)


# ---- the wrapper ---------------------------------------------------------------------------------------


def as_posted(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    """S107."""
    ret = yield from honest_wrapper(kvm, gfn_range, shared)
    return int(bool(ret)) if ret == -12 else ret


def other_sign(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    return -(yield from honest_wrapper(kvm, gfn_range, shared))


def other_errno(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    return -1 if (yield from honest_wrapper(kvm, gfn_range, shared)) == -12 else 0


def no_may_block(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    wider = KvmGfnRange(gfn_range.slot, gfn_range.start, gfn_range.end, gfn_range.attr_filter)
    return honest_wrapper(kvm, wider, shared)


def no_lockdep(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    with kvm.slots_lock:
        return (yield from honest_wrapper(kvm, gfn_range, shared))


def only_slots_lock(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    if not kvm.slots_lock:
        yield Trace("WARN: lockdep")
    with kvm.slots_lock:
        return (yield from honest_wrapper(kvm, gfn_range, shared))


def always_exclusive(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    return honest_wrapper(kvm, gfn_range, False)


def shadow_mmu_too(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):
        yield Trace("WARN: lockdep")
    if not gfn_range.may_block:
        return -95
    return (yield from kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared=shared))


def all_leaves(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    ret = yield from honest_wrapper(kvm, gfn_range, shared)
    if ret == 0 and kvm.tdp_mmu_enabled:
        slot, span = gfn_range.slot, (gfn_range.start, gfn_range.end)
        yield from kvm_tdp_mmu_try_split_huge_pages(kvm, slot, *span, 1, shared=shared)
    return ret


def nothing(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    return weak_kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=shared)


def drops_the_lock(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    ret = yield from honest_wrapper(kvm, gfn_range, shared)
    yield Unlock(shared, "done")
    return ret


def takes_the_lock(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    yield Lock(shared)
    return (yield from honest_wrapper(kvm, gfn_range, shared))


def flushes(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    """M0: the patch leaves that to its callers, but a flush does no harm."""
    ret = yield from honest_wrapper(kvm, gfn_range, shared)
    yield Flush()
    return ret


def whole_function(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=shared)


@pytest.mark.parametrize("wrapper", [honest_wrapper, whole_function, flushes])
def test_an_errno_that_comes_back_is_right(wrapper: Callable[..., Any]) -> None:
    verdict = check_wrapper(wrapper)
    assert verdict.right is True, verdict
    assert "conversion per VM, conversion by file, punch hole and ACCEPT" in verdict.text


PLAIN = "a plain VM with leaves of 16 frames"
WRONG_WRAPPERS = {
    "as posted": (as_posted, f"{PLAIN}, [5, 27): page 1 is refused, and it returned 1 instead of -12"),
    "the other sign": (other_sign, f"{PLAIN}, [0, 16): the range may not block, and it returned 95"),
    "another errno": (other_errno, "the range may not block, and it returned 0 instead of -95 (-EOPNOTSUPP)"),
    "no may_block": (no_may_block, "the range may not block, and it returned 0 instead of -95 (-EOPNOTSUPP)"),
    "no lockdep": (no_lockdep, "nothing protects the range, and lockdep does not warn."),
    "too strict": (only_slots_lock, "an invalidation is in progress, and lockdep warns all the same"),
    "always for write": (always_exclusive, "under the read lock, "),
    "shadow MMU": (shadow_mmu_too, f"{PLAIN}, [5, 27): the TDP MMU is off, and nothing should be split"),
    "all leaves": (all_leaves, "[0, 16): an invalidation is in progress, and nothing should be split"),
    "nothing": (nothing, "[0, 16): the range may not block"),
    "drops the lock": (drops_the_lock, "it returned with mmu_lock dropped."),
    "takes the lock": (takes_the_lock, "it takes mmu_lock, which KVM holds already."),
    "no coroutine": (lambda kvm, gfn_range, shared: 0, "wrapper returned 0; it has to return a coroutine"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_WRAPPERS)
def test_a_wrong_wrapper_is_told_where_it_went_wrong(name: str) -> None:
    wrapper, words = WRONG_WRAPPERS[name]
    verdict = check_wrapper(wrapper)
    assert verdict.right is False, verdict
    assert words in verdict.text
    assert answered_in_words(verdict)


def test_the_callers_meaning_of_a_1_is_told() -> None:
    """S107; an ACCEPT goes back to the guest, which faults again and finds memory now."""
    assert check_wrapper(as_posted).text.endswith(
        "Callers make of it: conversion per VM returns 0; conversion by file returns 1; "
        "punch hole returns 1; ACCEPT returns 0."
    )


def test_a_wrapper_that_errs_on_the_last_page_alone_is_found() -> None:
    """[5, 27) needs four pages, so three splits were made before the last one is refused."""

    def errs(kvm: Any, gfn_range: Any, shared: bool) -> Any:
        call, answer, made = honest_wrapper(kvm, gfn_range, shared), None, 0
        while True:
            try:
                event = call.send(answer)
            except StopIteration as stop:
                return 1 if (stop.value, made) == (-12, 3) else stop.value
            made += isinstance(event, Trace) and (event.name, event.errno) == ("kvm_mmu_split_huge_page", 0)
            answer = yield event

    assert f"{PLAIN}, [5, 27): page 4 is refused, and it returned 1" in check_wrapper(errs).text


def test_a_wrapper_that_errs_in_a_td_alone_is_found_there() -> None:
    def only_plain(kvm: Any, gfn_range: Any, shared: bool) -> Any:
        ret = yield from honest_wrapper(kvm, gfn_range, shared)
        return 1 if ret == -12 and kvm.has_mirrored_tdp else ret

    verdict = check_wrapper(only_plain)
    assert verdict.text.startswith("a TD with leaves of 4 frames, [5, 27): page 1 is refused, ")


@pytest.mark.parametrize(("pages", "caller"), [(6, "conversion per VM"), (1, "ACCEPT")])
def test_a_wrapper_that_errs_below_one_caller_is_found_there(pages: int, caller: str) -> None:
    """Their TD has 16 frames. A conversion that is told 1 reports success, a guest faults again."""

    def errs(kvm: Any, gfn_range: Any, shared: bool) -> Any:
        ret = yield from honest_wrapper(kvm, gfn_range, shared)
        here = (gfn_range.slot.npages, gfn_range.end - gfn_range.start) == (16, pages)
        return 1 if here and ret == -12 else ret

    assert check_wrapper(errs).text == f"{caller}: request 1 is refused, and it returns 0, not -12."
