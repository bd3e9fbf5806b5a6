"""Each setting is searched once: when somebody asks for it, or ahead of that, in a thread of its own.

A control of a page answers at once if what its next value comes to is known already. One thread works
through the settings that were wanted last. It stands back while somebody waits for another search.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from time import sleep

from .scenarios import Setting, build_of
from .search import MOST_STATES, Explorer, Found, search

MOST_KEPT = 128
"""So many searches are kept; each takes a megabyte or two."""
_PAUSE = 0.005
"""Seconds in which others may have the interpreter."""

_lock = Lock()
_made: dict[tuple[Setting, int], Future[tuple[Explorer, Found]]] = {}
_wanted: list[Setting] = []
_urgent = 0
"""Searches that somebody makes and waits for."""
_worker: Thread | None = None


def explored(setting: Setting, bound: int = MOST_STATES) -> tuple[Explorer, Found]:
    """The explorer of a setting and what its search found; who asks for one that is being made waits for it.

    Raises InvalidValueError as :func:`~.scenarios.build_of` does.
    """
    return _explored(setting, bound, ahead=False)


def forget_searches() -> None:
    """Search each setting anew when it is next asked for: the engine's code may have been changed."""
    with _lock:
        _made.clear()


def explore_ahead(settings: Iterable[Setting]) -> Thread:
    """Explore these settings, in their order, in place of what was wanted before; the thread that does it.

    Raises InvalidValueError as :func:`~.scenarios.build_of` does, for any of them.
    """
    global _worker
    wanted = [*settings]
    for setting in wanted:
        build_of(setting)
    with _lock:
        _wanted[:] = wanted
        if _worker is None:
            _worker = Thread(target=_work, name="schedules ahead", daemon=True)
            _worker.start()
        return _worker


def _work() -> None:
    global _worker
    while True:
        with _lock:
            if not _wanted:
                _worker = None
                return
            setting = _wanted.pop(0)
        with suppress(Exception):  # whoever asks for that one is told
            _explored(setting, MOST_STATES, ahead=True)
        sleep(_PAUSE)


def _explored(setting: Setting, bound: int, ahead: bool) -> tuple[Explorer, Found]:
    global _urgent
    build = build_of(setting)
    with _lock:
        known = _made.get((setting, bound))
        if known is None:
            mine = _made[setting, bound] = Future()
            while len(_made) > MOST_KEPT:
                del _made[next(iter(_made))]
            _urgent += not ahead
    if known:
        return known.result()
    try:
        explorer = Explorer(build)
        mine.set_result((explorer, search(explorer, bound=bound, told=_stand_back if ahead else _go_on)))
    except BaseException as error:
        with _lock:
            _made.pop((setting, bound), None)
        mine.set_exception(error)
    finally:
        with _lock:
            _urgent -= not ahead
    return mine.result()


def _go_on(states: int) -> None:
    """Nobody waits for anything else."""


def _stand_back(states: int) -> None:
    while _urgent:
        sleep(_PAUSE)
