"""Hypothesis draws the same examples in every run: a failure here is a failure in CI and on every machine."""

from hypothesis import settings

settings.register_profile("tdpkit", derandomize=True, deadline=None)
settings.load_profile("tdpkit")
