"""The rows of two threads: what the vectors' split survives, and what planted bugs do not."""

from __future__ import annotations

import pytest

from tdpkit.engine.events import Lock, Unlock
from tdpkit.engine.splits import split_head_and_tail
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.lab.schedules import POLICIES
from tdpkit.lab.schedules.bodies import passed_on
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.trial import threads, trial

TWO = ("write lock", "read lock", "flush")
FOUND = {
    "no restart": ("write lock", "no table is replaced by another"),
    "plain store": ("read lock", "no table is replaced by another"),
    "no re-check": ("write lock", "no call fails"),
}
"""Bug, the row that finds it and the property that breaks (the planted bugs of notebooks 06 and 07)."""


@pytest.mark.parametrize("name", FOUND)
def test_a_planted_bug_is_found_with_its_shortest_schedule(name: str) -> None:
    row, words = FOUND[name]
    tried = trial(name, TWO[:2])
    assert tried.fails == (row,)
    assert words in tried[row].found
    assert ":unlock" in tried[row].found


def test_a_wasteful_split_fails_for_the_pages_that_it_may_have() -> None:
    """The leaf of four frames and its halves: three pages split all of it, and they are split for [2, 4)."""

    def all_twice(geometry, s, e):
        return [PlannedCall(0, 4, 1), PlannedCall(s, e, 1)]

    found = trial(all_twice, ("read lock",))["read lock"].found
    assert "“no call fails”" in found
    assert "it asked for more than the 3 pages that it may have" in found


def test_a_policy_that_is_not_searched_to_its_end_is_not_called_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search of the first policy alone has some hundred states, so the others have none left."""
    monkeypatch.setattr(threads, "_MOST_FLUSH", 200)
    verdict, _, found, _ = trial("v3", ("flush",))["flush"]
    assert verdict == "note"
    assert found.startswith("safe under both locks: none. ")
    assert POLICIES["always"].title in found.partition("Too many states to tell: ")[2]


def test_the_cache_is_found_dry_where_two_conversions_share_it() -> None:
    assert "one cache of PAMT pages" in trial("no re-check", ("write lock",))["write lock"].found


@pytest.mark.parametrize("name", ["v3", "one_block_per_edge", "kai_two_step"])
def test_exact_variants_survive_every_schedule(name: str) -> None:
    tried = trial(name, TWO[:2])
    assert {tried[question].verdict for question in TWO[:2]} == {"holds"}


@pytest.mark.slow
def test_which_flush_is_enough_is_what_notebook_06_found() -> None:
    """Findings of the schedules: a rule that trusts what the call itself did leaves a TLB stale, and each
    dirty flag does; to flush always, or up to the last generation, does not.
    """
    verdict, _, found, _ = trial("v3", ("flush",))["flush"]
    assert verdict == "holds"
    safe, _, stale = found.partition(". A TLB is stale with: ")
    for name, policy in POLICIES.items():
        assert (policy.title in safe) == (name in ("always", "generations")), name
        assert (f"{policy.title} (" in stale) == (name not in ("always", "generations")), name


def test_a_split_for_private_memory_is_not_asked_about_the_read_lock() -> None:
    tried = trial(split_head_and_tail, TWO)
    assert tried.fails == ()
    assert {tried[question].verdict for question in TWO[1:]} == {"not asked"}


def test_a_step_with_two_accesses_is_found() -> None:
    """A split that hides that it drops mmu_lock, and so stores in the step in which it read."""

    def hides(root, start, end, target_level, *, shared, only_cross_boundary):
        def each(event):
            if isinstance(event, Lock | Unlock):
                return None
            return (yield event)

        return passed_on(
            tdp_mmu_split_huge_pages_root(
                root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
            ),
            each,
        )

    answer = trial(hides, ("write lock",))["write lock"]
    assert answer.verdict == "fails"
    assert "no thread allocates while it holds a lock that forbids sleeping" in answer.found


def test_what_a_variant_keeps_hidden_between_calls_is_found() -> None:
    calls = []

    def counts(geometry, s, e):
        from tdpkit.lab.strategies import PlannedCall

        calls.append(s)
        return [PlannedCall(s, e, 1, only_cross_boundary=len(calls) % 2 == 0)]

    assert trial(counts, ("write lock",))["write lock"].verdict == "fails"
