"""Flush policies around a scripted call: every event by hand."""

import pytest

from tdpkit.engine.events import Flush, Lock, NeedTopup, SetSpte, Topup, Trace, Unlock
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, make_leaf_spte, make_nonleaf_spte
from tdpkit.lab.schedules.bodies import POLICIES, is_split, one_topup, under_mutex, under_policy
from tdpkit.lab.schedules.threads import Report, Word

LEAF, TABLE, NOTHING = make_leaf_spte(0, 3), make_nonleaf_spte(5), SHADOW_NONPRESENT_VALUE


def splits_once_in_two_holds(errno: int = 0):
    """Split a leaf, drop the lock, take it again, find nothing more to do."""
    yield SetSpte(0, 0, 0, 3, LEAF, TABLE)
    if not errno:
        yield Trace("kvm_tdp_mmu_spte_changed")
    yield Trace("kvm_mmu_split_huge_page", errno=errno)
    yield Unlock(False, "alloc")
    yield Lock(False)
    return 0


def told(policy: str, call, answers=None, **more) -> tuple[list[str], Report]:
    """What happens under a policy: "swap", "drop", "flush" and the tokens of words; and the report."""
    coroutine = under_policy(call, POLICIES[policy], **{"shared": False} | more)
    answers, lines = dict(answers or {}), []
    answer = None
    while True:
        try:
            event = coroutine.send(answer)
        except StopIteration as stop:
            return lines, stop.value
        answer = None
        match event:
            case Word(token=token):
                lines.append(token)
                answer = answers.get(token, 0)
            case SetSpte():
                lines.append("swap")
            case Lock(shared=shared) | Unlock(shared=shared):
                lines.append(("lock" if isinstance(event, Lock) else "drop") + "!" * shared)
            case Flush():
                lines.append("flush")


@pytest.mark.parametrize(
    ("policy", "answers", "lines", "flushed"),
    [
        ("none", {}, "lock swap drop lock drop", False),
        ("own split", {}, "lock swap drop lock drop flush", True),
        # The second drop owes nothing: the flush before the first one covered the split.
        ("own split, locked", {}, "lock swap flush drop lock drop", False),
        ("always", {}, "lock swap drop lock drop flush", True),
        ("flag, clear first", {"test": 1}, "lock set swap drop lock drop test clear flush", True),
        ("flag, clear first", {"test": 0}, "lock set swap drop lock drop test", False),
        ("flag, flush first", {"test": 1}, "lock set swap drop lock drop test flush clear", True),
        ("flag, flush first", {"test": 0}, "lock set swap drop lock drop test", False),
        ("flag, atomic", {"test-and-clear": 1}, "lock set swap drop lock drop test-and-clear flush", True),
        ("flag, atomic", {"test-and-clear": 0}, "lock set swap drop lock drop test-and-clear", False),
        (
            "generations",
            {"begun?": 1, "flushed?": 0, "ended?": 1},
            "lock begin swap end drop lock drop begun? flushed? ended? flush flushed",
            True,
        ),
        (
            "generations",
            {"begun?": 1, "flushed?": 1},
            "lock begin swap end drop lock drop begun? flushed?",
            False,
        ),
    ],
)
def test_a_policy_flushes_where_its_rule_says(policy, answers, lines, flushed):
    done, report = told(policy, splits_once_in_two_holds(), answers)
    assert done == lines.split()
    assert report == Report(0, True, flushed)


def test_a_lost_split_is_none_of_ones_own_and_has_ended_all_the_same():
    done, report = told("generations", splits_once_in_two_holds(errno=-16), {"begun?": 1, "flushed?": 1})
    assert done[:4] == ["lock", "begin", "swap", "end"]
    assert report == Report(0, False, False)
    assert report.says_none
    assert "flush" not in told("own split", splits_once_in_two_holds(errno=-16))[0]


def test_a_plain_store_runs_under_the_read_lock():
    done, _ = told("none", splits_once_in_two_holds(), plain_store=True)
    assert done == ["lock!", "swap", "drop!", "lock!", "drop!"]


@pytest.mark.parametrize(
    ("old", "new", "level", "splits"),
    [
        (LEAF, TABLE, 3, True),
        (LEAF, LEAF, 3, False),
        (LEAF, NOTHING, 3, False),
        (NOTHING, TABLE, 3, False),
        (TABLE, TABLE, 3, False),
    ],
)
def test_a_split_puts_a_table_in_the_place_of_a_leaf(old, new, level, splits):
    assert is_split(SetSpte(0, 0, 0, level, old, new)) == splits
    assert not is_split(Flush())


def needs(times: int):
    """Ask so often whether the cache lacks pages, and top it up where it does."""
    for _ in range(times):
        if (yield NeedTopup()):
            yield Topup()
    return 0


def kinds(coroutine, need: bool) -> list[str]:
    lines, answer = [], None
    while True:
        try:
            event = coroutine.send(answer)
        except StopIteration:
            return lines
        lines.append(type(event).__name__)
        answer = need if isinstance(event, NeedTopup) else None


def test_the_planted_cache_bug_asks_until_its_first_top_up_and_never_again():
    assert kinds(one_topup(needs(3)), need=True) == ["NeedTopup", "Topup"]
    assert kinds(one_topup(needs(3)), need=False) == ["NeedTopup"] * 3
    assert kinds(needs(2), need=True) == ["NeedTopup", "Topup"] * 2


def test_under_the_mutex_the_cache_is_topped_up_once_and_before_all_else():
    assert kinds(under_mutex(needs(3)), need=True) == ["Take", "Topup", "Give"]
