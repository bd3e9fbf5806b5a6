"""Each setting is searched once, ahead or when somebody asks."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.schedules import Setting, once
from tdpkit.lab.schedules.once import explore_ahead, explored
from tdpkit.lab.schedules.search import Explorer, search

QUICK = Setting(lock="exclusive", pages="in hand")


@pytest.fixture
def made(monkeypatch):
    """The settings that are searched, in order; nothing is known at first."""
    searched = []

    def explorer(build):
        searched.append(build)
        return Explorer(build)

    monkeypatch.setattr(once, "_made", {})
    monkeypatch.setattr(once, "Explorer", explorer)
    yield searched
    if once._worker:
        once._worker.join(20)


def test_a_setting_is_searched_once(made):
    first, second = explored(QUICK), explored(QUICK)
    assert first is second
    assert len(made) == 1
    assert explored(QUICK, bound=20) is not first, "another bound is another search"


def test_what_is_wanted_is_explored_and_the_thread_ends(made):
    wanted = [QUICK._replace(flush=flush) for flush in ("none", "always")]
    worker = explore_ahead(wanted)
    worker.join(20)
    assert not worker.is_alive()
    assert len(made) == 2
    for setting in wanted:
        explored(setting)
    assert len(made) == 2


def test_who_wants_later_is_served_first_and_what_was_wanted_before_is_not(made, monkeypatch):
    begun, go_on = Event(), Event()

    def held(*of, **more):
        begun.set()
        assert go_on.wait(20)
        return search(*of, **more)

    monkeypatch.setattr(once, "search", held)
    first = explore_ahead([QUICK, QUICK._replace(flush="none"), QUICK._replace(flush="always")])
    assert begun.wait(20)
    last = QUICK._replace(flush="own split, locked")
    assert explore_ahead([last]) is first, "one thread does it all"
    go_on.set()
    first.join(20)
    assert [setting for setting, _ in once._made] == [QUICK, last]


def test_who_asks_for_a_search_that_is_being_made_waits_for_it(made, monkeypatch):
    begun, go_on = Event(), Event()

    def held(*of, **more):
        begun.set()
        assert go_on.wait(20)
        return search(*of, **more)

    monkeypatch.setattr(once, "search", held)
    explore_ahead([QUICK])
    assert begun.wait(20)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(explored, QUICK) for _ in range(2)]
        go_on.set()
        one, other = (one.result(20) for one in asked)
    assert one is other
    assert len(made) == 1


def test_a_search_ahead_stands_back_while_somebody_waits_for_another(monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        monkeypatch.setattr(once, "_urgent", 0)

    monkeypatch.setattr(once, "sleep", sleep)
    monkeypatch.setattr(once, "_urgent", 1)
    once._stand_back(1000)
    once._stand_back(2000)
    assert len(slept) == 1


def test_a_search_that_fails_is_told_to_all_who_wait_and_made_again(made, monkeypatch):
    def broken(*of, **more):
        raise RuntimeError("no")

    monkeypatch.setattr(once, "search", broken)
    with pytest.raises(RuntimeError, match="no"):
        explored(QUICK)
    monkeypatch.setattr(once, "search", search)
    assert explored(QUICK)[1].complete
    assert once._urgent == 0


def test_a_search_ahead_that_fails_keeps_nobody_from_the_next(made, monkeypatch):
    def broken(explorer, **more):
        if len(made) == 1:
            raise RuntimeError("no")
        return search(explorer, **more)

    monkeypatch.setattr(once, "search", broken)
    other = QUICK._replace(flush="none")
    explore_ahead([QUICK, other]).join(20)
    assert [setting for setting, _ in once._made] == [other]
    assert explored(QUICK)[1].complete


def test_only_so_many_are_kept(made, monkeypatch):
    monkeypatch.setattr(once, "MOST_KEPT", 2)
    for flush in ("none", "always", "own split"):
        explored(QUICK._replace(flush=flush))
    assert [setting.flush for setting, _ in once._made] == ["always", "own split"]


def test_what_cannot_be_is_refused_before_anything_is_searched(made):
    for ask in (explored, lambda setting: explore_ahead([QUICK, setting])):
        with pytest.raises(InvalidValueError, match="a lock is one of shared, exclusive"):
            ask(Setting(lock="none"))
    assert made == []
