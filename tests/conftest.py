"""Hypothesis draws the same examples in every run of the same code: a failure here is one in CI too.

Other code draws others: it picks constants out of the modules that are loaded.
"""

import gc

from hypothesis import settings

settings.register_profile("tdpkit", derandomize=True, deadline=None)
settings.load_profile("tdpkit")


def pytest_collection() -> None:
    """Collecting makes a million objects, of which none is garbage: nobody need look for it there, ever."""
    gc.disable()


def pytest_collection_finish() -> None:
    """With so much frozen, the usual threshold would have all else looked through too often."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()
