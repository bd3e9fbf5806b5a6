"""Values that answer no question of the exercises on roots and private pages, each made anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tdpkit.exercises.verdict import Verdict
from tests.oracles.junk import Hostile, breaking, endless

JUNK: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "true": lambda: True,
    "two": lambda: 2,
    "minus one": lambda: -1,
    "no whole number": lambda: 2.5,
    "nan": lambda: float("nan"),
    "huge": lambda: 10**5000,
    "text": lambda: "one",
    "empty text": lambda: "",
    "long text": lambda: "ab" * 10_000,
    "markup": lambda: "</text><script>alert(1)</script>",
    "bytes": lambda: b"direct",
    "empty list": list,
    "list": lambda: [1, 2],
    "nested list": lambda: [[], [[1]]],
    "set": lambda: {3, 4},
    "names in a set": lambda: {"BLOCK", "TRACK", "KICK", "DEMOTE"},
    "odd dict": lambda: {(): None, None: ..., "1G": 1, float("nan"): 2},
    "object": object,
    "hostile": Hostile,
    "hostile in a list": lambda: [Hostile(), Hostile()],
    "hostile values": lambda: dict.fromkeys(range(8), Hostile()),
    "function": lambda: len,
    "class": lambda: Verdict,
    "endless": lambda: endless("BLOCK"),
    "endless numbers": lambda: endless(1),
    "breaking": lambda: breaking("BLOCK"),
    "array": lambda: np.array([1, 2]),
    "matrix": lambda: np.ones((4, 4)),
}
EACH_JUNK = pytest.mark.parametrize("make", JUNK.values(), ids=JUNK)


def answered_in_words(verdicts: list[Verdict]) -> bool:
    """No verdict is "right", and each is a sentence that fits a page."""
    for number, verdict in enumerate(verdicts):
        assert verdict.right is not True, (number, verdict)
        assert len(verdict.text) < 500, verdict.text
        assert verdict.text.endswith((".", "?")), verdict
        assert verdict._repr_mimebundle_()["text/plain"] == repr(verdict)
    return True
