"""Run code that nobody has read yet: what a learner submits, a variant of somebody's own.

It may raise anything, print, answer in any kind, and never end. :func:`within` stops a call,
:class:`Printed` keeps what it prints, :func:`shown` writes any value, and :class:`Raised` stands for an
answer that never came.
"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable
from inspect import currentframe
from io import StringIO
from pathlib import Path
from sysconfig import get_paths
from threading import current_thread, main_thread
from time import monotonic
from traceback import walk_tb
from typing import Any, TypeVar

from .words import group_digits

T = TypeVar("T")

# ---- its time ------------------------------------------------------------------------------------------

CALL_SECONDS = 5.0
"""For one call, which needs milliseconds on the slowest machine."""
ENDLESS = "did not end within {:g} seconds, and was stopped"
_AGAIN = 1e-4
"""Seconds from one alarm to the next: a submission may catch some of them (see :func:`within`)."""


class TimeUp(BaseException):
    """A call did not end in time. No Exception, so a submission that catches those does not catch it."""


RAISED = (Exception, SystemExit, GeneratorExit, TimeUp)
"""Raised by a submission, these are told to the learner; an interrupt is the learner's own."""


def one_call(function: Callable[..., T], *arguments: Any) -> T:
    """The value of one call of a submission; raises what it raises, and TimeUp if it does not end."""
    return within(CALL_SECONDS, ENDLESS, function, *arguments)


def within(seconds: float, words: str, function: Callable[..., T], *arguments: Any) -> T:
    """The value of a call, in which TimeUp is raised if it takes longer than `seconds`, however busy it is.

    It is raised again until the call has ended, for a submission may catch anything; from the second time on
    at the first line that handles it too, since what is raised there leaves the handler. Calls may nest; the
    time of an inner one is the outer one's too. words: say it, with {} for the seconds. Only a main thread
    has alarms, and not on every system: elsewhere there is no limit.
    """
    if current_thread() is not main_thread() or not hasattr(signal, "setitimer"):
        return function(*arguments)
    ended, rung, began, here, tracing = False, False, monotonic(), currentframe(), sys.gettrace()

    def trace(_frame: Any, event: str, _value: Any) -> Any:
        if event == "line":
            raise TimeUp(words.format(seconds))
        return trace

    def ring(number: int, frame: Any) -> None:
        nonlocal rung
        if ended or frame is here:  # here it would keep others' alarm from being put back
            return
        if rung:
            sys.settrace(trace)
            inner = frame
            while inner and inner is not here:
                inner.f_trace, inner = trace, inner.f_back
        rung = True
        raise TimeUp(words.format(seconds))

    left, again = signal.setitimer(signal.ITIMER_REAL, 0)
    others = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        return function(*arguments)
    finally:
        ended, here = True, None
        sys.settrace(tracing)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, others or signal.SIG_DFL)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (monotonic() - began), 1e-6), again)


# ---- what it prints -------------------------------------------------------------------------------------

_MOST_PRINTED = 1000
"""Characters: some ten lines."""


class Printed(StringIO):
    """Takes the place of the page, and keeps the beginning of what is printed in one case."""

    def __init__(self) -> None:
        super().__init__()
        self.restart()

    def restart(self) -> None:
        """Another case begins."""
        self.seek(0)
        self.truncate()
        self.cut = False

    def write(self, text: str) -> int:
        """Keep `text` as far as there is room."""
        room = _MOST_PRINTED - self.tell()
        self.cut |= len(text) > room
        super().write(text[:room])
        return len(text)

    @property
    def text(self) -> str:
        """The printed text, its beginning if it was long."""
        return self.getvalue().rstrip() + ("\n..." if self.cut else "")


# ---- what it answers -----------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """`value` as Python writes it, shortened; its type if it cannot be written."""
    try:
        text = repr(value)
    except Exception:  # its __repr__ may raise anything
        text = f"a {type(value).__name__}"
        if isinstance(value, int):  # Python does not write numbers of more than some thousand digits
            digits = int(value.bit_length() * math.log10(2)) + 1
            text = f"a number of about {group_digits(digits)} digits"
    return cut(text, 60)


def cut(text: str, most: int = 200) -> str:
    """`text`, shortened to `most` characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def told(error: BaseException) -> str:
    """An error's own words, if it has any."""
    try:
        return cut(str(error))
    except Exception:  # its __str__ may raise anything
        return ""


def line_of(error: BaseException) -> str:
    """Where in a file of somebody's own an error was raised: `` (mine.py, line 3)``, or nothing.

    A cell of a notebook is no file. A syntax error says where it is itself, and TimeUp strikes anywhere.
    """
    if isinstance(error, SyntaxError | TimeUp):
        return ""
    places = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    own = [(path, line) for path, line in places if path.is_file() and not _is_of_others(path)]
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""


def _is_of_others(path: Path) -> bool:
    """Whether a file is the kit's, Python's or an installed package's."""
    return any(path.resolve().is_relative_to(folder) for folder in _OTHERS)


_OTHERS = (Path(__file__).resolve().parents[1], *map(Path, {*get_paths().values()} - {get_paths()["data"]}))


class Raised:
    """Stands for the answer of a submitted function that raised or did not end; equal to no answer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        if isinstance(self.error, TimeUp):
            return str(self.error)
        name, words = type(self.error).__name__, told(self.error)
        return f"raised {name}: {words}" if words else f"raised {name}"
