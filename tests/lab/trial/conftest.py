"""Fewer trees than a trial's, where a test does not need them all."""

import pytest

from tdpkit.lab.trial import answers


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 37th of the 1444 trees; the rest is as it is."""
    shapes = [*answers.UNIVERSE.shapes()][::37]
    monkeypatch.setattr(answers, "UNIVERSE", answers.UNIVERSE._replace(shapes=lambda: shapes))
