"""Code that nobody has read is stopped, heard and written down, whatever it does."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tdpkit.lab.untrusted import Printed, Raised, TimeUp, shown, within
from tests.oracles.junk import Hostile, HostileError, deep


def forever() -> None:
    while True:
        pass


def forever_whatever_comes() -> None:
    while True:
        try:
            forever()
        except BaseException:
            continue


@pytest.mark.parametrize("endless", [forever, forever_whatever_comes])
def test_a_call_that_never_ends_is_stopped_and_leaves_no_alarm(endless: Any) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeUp, match=r"^0\.1 s are over$"):
        within(0.1, "{} s are over", endless)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert within(5, "", max, 1, 2) == 2


def test_an_alarm_that_was_set_before_still_rings() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeUp, match=r"after 0\.1 s"):
            within(0.1, "after {} s", forever)
        assert not rung
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.21
        time.sleep(0.4)
        assert rung == [True]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("a", "'a'"),
        (Hostile(), "a Hostile"),
        (deep(), "a list"),
        ("a" * 99, f"'{'a' * 56}..."),
        (10**99, f"1{'0' * 56}..."),
        (10**5000, "a number of about 5 001 digits"),
        (-(10**5000), "a number of about 5 001 digits"),
    ],
    ids=range(8),
)  # fmt: skip
def test_a_value_is_shown_as_far_as_it_can_be(value: Any, text: str) -> None:
    assert shown(value) == text


def test_what_is_printed_is_cut() -> None:
    page = Printed()
    print("x" * 600, "y" * 600, "z", file=page)
    assert page.text == "x" * 600 + " " + "y" * 399 + "\n..."
    page.restart()
    print("again", file=page)
    assert page.text == "again"


def test_an_error_without_words_is_named() -> None:
    assert repr(Raised(KeyError("x"))) == "raised KeyError: 'x'"
    assert repr(Raised(HostileError())) == "raised HostileError"
