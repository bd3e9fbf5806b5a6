"""What a learner may hand in by accident or on purpose: no check may raise, hang or swallow it whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest


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


def endless(item: Any) -> Iterator[Any]:
    """It would never end; a check that asks for all of it fails instead of eating the machine's memory."""
    yield from repeat(item, 10_000)
    pytest.fail("the check wants all items of what never ends")


def breaking(item: Any) -> Iterator[Any]:
    """One item, and then it raises."""
    yield item
    raise HostileError
