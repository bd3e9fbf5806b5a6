"""What a learner may hand in by accident or on purpose: no check may raise, hang or swallow it whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import repeat
from typing import Any

import numpy as np
import pytest

from tdpkit.lab.strategies import Call


class Hostile:
    """It raises whatever is asked of it."""

    def _raise(self, *_: object) -> Any:
        raise LookupError("no idea")

    __index__ = __iter__ = __repr__ = __str__ = __eq__ = __bool__ = __len__ = __getitem__ = __float__ = _raise
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class HostileError(Exception):
    """An error that raises when it is read."""

    def __str__(self) -> str:
        raise LookupError("no words")

    __repr__ = __str__


class HostileDict(dict[Any, Any]):
    """A dict that does not say what it holds."""

    def get(self, *_: object) -> Any:
        raise LookupError("no idea")


def endless(item: Any) -> Iterator[Any]:
    """It would never end; a check that asks for all of it fails instead of eating the machine's memory."""
    yield from repeat(item, 10_000)
    pytest.fail("the check wants all items of what never ends")


def breaking(item: Any) -> Iterator[Any]:
    """One item, and then it raises."""
    yield item
    raise HostileError


@cache
def deep() -> list[Any]:
    """So deeply nested that it cannot be written."""
    nest: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 100):
        nest = [nest]
    return nest


ERRORS = (LookupError("no idea"), ZeroDivisionError(), HostileError(), RecursionError())
"""What a submitted function may raise."""

JUNK: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "two": lambda: 2,
    "minus one": lambda: -1,
    "no whole number": lambda: 2.5,
    "nan": lambda: float("nan"),
    "numpy's nan": lambda: np.float64("nan"),
    "infinity": lambda: float("inf"),
    "infinities": lambda: (float("inf"), float("inf")),
    "huge": lambda: 10**5000,
    "huge pair": lambda: (1, 10**5000),
    "negative pair": lambda: (-1, -2),
    "text": lambda: "one",
    "empty text": lambda: "",
    "long text": lambda: "ab" * 10_000,
    "markup": lambda: "</text><script>alert(1)</script>",
    "bytes": lambda: b"direct",
    "empty list": list,
    "list": lambda: [1, 2],
    "nested list": lambda: [[], [[1]]],
    "deep list": deep,
    "set": lambda: {3, 4},
    "names in a set": lambda: {"BLOCK", "TRACK", "KICK", "DEMOTE"},
    "dict": lambda: {1: 2},
    "odd dict": lambda: {(): None, None: ..., "1G": 1, float("nan"): 2},
    "object": object,
    "hostile": Hostile,
    "hostile in a list": lambda: [Hostile(), Hostile()],
    "hostile values": lambda: dict.fromkeys(range(8), Hostile()),
    "hostile dict": HostileDict,
    "hostile in a call": lambda: [(Hostile(), 4, 1)],
    "hostile level": lambda: [(0, 4, Hostile())],
    "nan in a call": lambda: [(float("nan"), 4, 1)],
    "huge call": lambda: [(0, 10**5000, 1)],
    "calls far beyond": lambda: [(0, 1 << 60, 1)],
    "negative call": lambda: [(-4, 0, 1)],
    "reversed call": lambda: [(4, 0, 1)],
    "true level": lambda: [(0, 4, True)],
    "the patch's call": lambda: [Call(0, 4, 1, True)],
    "thousands of calls": lambda: [(0, 0, 1)] * 5000,
    "function": lambda: len,
    "class": lambda: Call,
    "type": lambda: int,
    "endless": lambda: endless("BLOCK"),
    "endless numbers": lambda: endless(3),
    "endless pairs": lambda: endless((3, 16)),
    "endless calls": lambda: endless((0, 0, 1)),
    "an endless call": lambda: [endless(3)],
    "breaking": lambda: breaking("BLOCK"),
    "breaking pairs": lambda: breaking((3, 16)),
    "array": lambda: np.array([1, 2]),
    "empty array": lambda: np.array([]),
    "matrix": lambda: np.ones((4, 4)),
}
"""Values that answer no question of the exercises, each made anew."""


def spoiled(right: Any, junk: Callable[[], Any]) -> Iterator[Any]:
    """`right` with junk in the place of it, of all its values, or of one of its parts."""
    made = junk()
    if not (isinstance(made, int | str) and made == right):
        yield made
    if isinstance(right, dict):
        *_, last = right
        yield dict.fromkeys(right, junk())
        yield from ({**right, last: part} for part in spoiled(right[last], junk))
    elif isinstance(right, list | tuple):
        for at, part in enumerate(right):
            yield from (type(right)([*right[:at], bad, *right[at + 1 :]]) for bad in spoiled(part, junk))
    elif callable(right):
        yield lambda *_: junk()
