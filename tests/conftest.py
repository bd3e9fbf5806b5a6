"""Hypothesis draws the same examples in every run of the same code: a failure here is one in CI too.

Other code draws others: it picks constants out of the modules that are loaded.
"""

from hypothesis import settings

settings.register_profile("tdpkit", derandomize=True, deadline=None)
settings.load_profile("tdpkit")
