"""What every scenario comes to, from the facts; and what no scenario can be."""

import os

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.schedules import SCENARIOS, THREE, Setting, explored
from tdpkit.lab.schedules.scenarios import build_of

LIE, STALE = "no misreport", "no stale TLB"

VERDICTS = {
    # The table of schedules that was measured before this code existed: lie, stale TLB at return.
    "shared, on demand": {LIE, STALE},
    "exclusive, on demand": {LIE, STALE},
    "shared, in hand": {LIE, STALE},
    "exclusive, in hand": {STALE},
    "exclusive, in hand, flush inside": set(),
    "shared, flush always": set(),
    "shared, dirty flag cleared first": {LIE, STALE},
    "shared, dirty flag cleared last": {LIE, STALE},
    "shared, generation counters": {LIE},
    # A test and clear in one instruction still clears before the flush.
    "shared, dirty flag tested and cleared": {LIE, STALE},
    # Any drop of the lock lets another split; a flush before the drop makes the lie harmless.
    "exclusive, flush before each drop": {LIE},
    "exclusive, in hand, resched": {LIE},
    # M0's three rules: none where a TLB can hold the leaf is wrong.
    "shared, no flush": {LIE, STALE},
    "split meets zap": set(),
    "split meets fault": {LIE, STALE},
    "dirty tracking, flush if I changed": {STALE, "no lost dirty bit"},
    "dirty tracking, flush always": set(),
    # S212: the invalidation is what keeps a fault from mapping a leaf behind the walk.
    "conversion meets fault": set(),
    "conversion, no invalidation": {"translations"},
    # A PENDING leaf is in no TLB; BLOCK, TRACK and a kick empty the TLBs: one is enough.
    "ACCEPT, PENDING and tracked": set(),
    "ACCEPT, PENDING alone": set(),
    "ACCEPT, tracked alone": set(),
    "ACCEPT, neither": {STALE},
    # Planted bugs.
    "plain store": {"no double split", "no leak"},
    "no restart": {"no double split", "no leak"},
    # S134, S135 and the table of claims: only the design without a re-check fails.
    "cache: spinlock, no re-check": {"no failure"},
    "cache: spinlock, re-check": set(),
    "cache: mutex": set(),
    "cache: per vCPU": set(),
}


def test_every_scenario_has_a_verdict_here():
    assert [*VERDICTS.keys() - SCENARIOS.keys()] == [*SCENARIOS.keys() - VERDICTS.keys()] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_schedule_is_explored_and_breaks_what_the_facts_say(name):
    _, found = explored(SCENARIOS[name].setting)
    assert found.complete
    assert set(found.witness) == VERDICTS[name]


THREES = {
    "three split": {LIE, STALE},
    "three split, exclusive": {LIE, STALE},
    "three split, flush always": set(),
    "three split, generation counters": {LIE},
    "two split, one zaps": {LIE, STALE},
}
IN_THE_TEST = ("three split, exclusive", "two split, one zaps")
"""The others under `make soak`."""


@pytest.mark.parametrize("name", THREE if os.environ.get("TDPKIT_SOAK") else IN_THE_TEST)
def test_a_third_thread_changes_no_verdict(name):
    _, found = explored(THREE[name].setting, bound=2_000_000)
    assert found.complete
    assert set(found.witness) == THREES[name]


def test_the_shared_lock_is_marked_as_what_the_api_allows_and_no_caller_does():
    marked = {name for name, scenario in (SCENARIOS | THREE).items() if scenario.api_only}
    assert {name for name in marked if name.startswith("shared")} == {
        n for n in SCENARIOS if n.startswith("shared")
    }
    assert not any(
        "exclusive" in name or name.startswith(("cache", "ACCEPT", "conversion")) for name in marked
    )


@pytest.mark.parametrize("pages", ["on demand", "in hand"])
@pytest.mark.parametrize("lock", ["shared", "exclusive"])
@pytest.mark.parametrize(
    ("flush", "survives_shared", "survives_exclusive"),
    [
        ("none", False, False),
        ("own split", False, False),
        ("own split, locked", False, True),
        ("always", True, True),
        ("flag, clear first", False, False),
        ("flag, flush first", False, False),
        ("flag, atomic", False, False),
        ("generations", True, True),
    ],
)
def test_a_policy_survives_if_no_schedule_leaves_a_stale_tlb(
    flush, survives_shared, survives_exclusive, lock, pages
):
    """Where the two ranges differ, so that a flag can be cleared for a split that is still to come."""
    _, found = explored(Setting(lock=lock, pages=pages, flush=flush, ranges="B wider"))
    survives = survives_shared if lock == "shared" else survives_exclusive
    assert (STALE not in found.witness) == survives


@pytest.mark.parametrize("pages", ["on demand", "in hand"])
def test_for_a_call_that_is_about_to_return_none_the_zap_of_the_leaf_is_no_split(pages):
    """B zaps the leaf: A finds nothing to split, and says so truly; the zap itself flushes."""
    _, found = explored(Setting(lock="exclusive", pages=pages, other="zap"))
    assert set(found.witness) == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lock": "none"}, "a lock is one of shared, exclusive; 'none' is none"),
        ({"pages": "many"}, "a way to get pages is one of on demand, in hand; 'many' is none"),
        ({"flush": "sometimes"}, "a flush policy is one of 'none', 'own split', "),
        ({"use": "play"}, "a use is one of split, track, convert, accept, cache; 'play' is none"),
        (
            {"other": "sleep"},
            "what others do is one of 'split', 'zap', 'fault', 'two', 'split, zap'; 'sleep' is none",
        ),
        ({"bug": "typo"}, "a bug is one of none, plain store, no restart; 'typo' is none"),
        ({"ranges": "wide"}, "a pair of ranges is one of one edge, B wider, two edges; 'wide' is none"),
        ({"cache": "big"}, "a cache design is one of 'none', 'spinlock, no re-check', "),
        ({"use": "cache"}, "use cache needs a cache design: spinlock, no re-check, "),
        (
            {"use": "accept", "flush": "always"},
            "use accept has no flush: it stays 'own split'; 'always' is given",
        ),
        ({"use": "track", "other": "zap"}, "use track has no other: it stays 'split'; 'zap' is given"),
        ({"invalidate": False}, "use split has no invalidate: it stays True; False is given"),
        ({"bug": "plain store", "lock": "exclusive"}, "a plain store is a bug under the shared lock"),
        ({"bug": "no restart", "pages": "in hand"}, "a restart follows a drop of mmu_lock for a page"),
    ],
)
def test_what_cannot_be_is_refused_with_its_rule(change, message):
    with pytest.raises(InvalidValueError) as caught:
        build_of(Setting(**change))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["pending", "tracks", "invalidate", "resched"])
def test_a_switch_is_true_or_false(name):
    with pytest.raises(InvalidTypeError, match=f"{name} is True or False; 1 is neither"):
        build_of(Setting(**{name: 1}))
