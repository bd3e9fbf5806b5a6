"""Designs of the cache of PAMT pages: what the facts say of each (S134, S179, and the mails' own words)."""

from tdpkit.lab.cache_designs import cache_designs
from tdpkit.lab.schedules import CACHES, Replay, Setting, explored


def test_only_the_design_without_a_re_check_fails():
    assert {row.name: row.survives for row in cache_designs()} == {
        "spinlock, no re-check": False,
        "spinlock, re-check": True,
        "mutex": True,
        "per vCPU": True,
    }


def test_a_re_check_costs_one_more_top_up_where_the_cache_was_drained():
    """Two calls, a top-up each; a drain between top-up and split makes one of them top up again."""
    assert {row.name: row.topups for row in cache_designs()} == {
        "spinlock, no re-check": (2, 2),
        "spinlock, re-check": (2, 3),
        "mutex": (2, 2),
        "per vCPU": (2, 2),
    }


def test_a_witness_replays_to_the_failure():
    for row in cache_designs():
        if row.witness:
            replay = Replay(explored(Setting("cache", cache=row.name))[0], row.witness)
            assert "no failure" in replay.looks[-1].broken
            assert row.why == replay.why[-1].text
        else:
            assert row.why == ""


def test_every_design_is_attacked():
    assert [row.name for row in cache_designs()] == [*CACHES]
    assert all(row.interleavings > 1 and row.states > 1 and row.rule for row in cache_designs())
