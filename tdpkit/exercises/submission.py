"""What is submitted, which may be anything at all, read without raising; and what it is attacked with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tdpkit.engine.gfn import GfnRange, as_integer


def whole(value: Any) -> int | None:
    """`value` as an integer, or None for what is none (booleans too)."""
    try:
        return as_integer(value, "a number")
    except Exception:  # its __index__ may raise anything
        return None


def shown(value: Any) -> str:
    """What was submitted, as far as it can be written."""
    try:
        text = repr(value)
    except Exception:  # its __repr__ may raise anything
        text = f"a {type(value).__name__}"
    return cut(text, 60)


def told(error: Exception) -> str:
    """An error in its own words."""
    try:
        return cut(str(error))
    except Exception:  # its __str__ may raise anything
        return f"a {type(error).__name__}"


def cut(text: str, most: int = 200) -> str:
    """`text`, or as much of it as `most` characters hold."""
    return text if len(text) <= most else text[: most - 3] + "..."


def items(value: Any, most: int = 65) -> list[Any] | None:
    """The first `most` items of a list, tuple, set or the like; None for text and what has no items."""
    try:
        return None if isinstance(value, str | bytes) else list(islice(value, most))
    except Exception:  # its __iter__ may raise anything
        return None


def answer_to(submitted: Any, question: Any) -> Any:
    """What a dict says to `question`; ... where it says nothing."""
    try:
        return submitted.get(question, ...)
    except Exception:  # no dict
        return ...


def ranges(frames: int) -> Iterator[GfnRange]:
    """Every range of a machine of `frames` frames but the empty ones, shortest first."""
    for length in range(1, frames + 1):
        for start in range(frames - length + 1):
            yield GfnRange(start, start + length)
