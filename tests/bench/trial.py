"""A trial of a variant, of each form that one may have."""

from __future__ import annotations

from collections.abc import Iterator

from tdpkit.lab.trial import KNOWN, trial
from tdpkit.lab.trial.variant import PLAN

from .engine import seconds
from .figures import Figure

TRIED = ("one_block_per_edge", "walk_v3", "v3", "R2", "no progress")
"""Two plans, two coroutines of the engine and one written out, with a bug."""


def trial_figures() -> Iterator[Figure]:
    """The whole table of each."""
    for name in TRIED:
        variant = KNOWN[name].variant
        limit = 20 if variant.form == PLAN else 60
        yield Figure(
            f"trial of {name}, a {variant.form}", seconds(lambda one=variant: trial(one)), "s", limit
        )
