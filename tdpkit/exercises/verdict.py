"""The answer of a check: right, not yet answered, or wrong with a counterexample."""

from __future__ import annotations

from typing import Any

from tdpkit.lab.guest import Guest, Layout
from tdpkit.show.boundary import boundary_state
from tdpkit.show.boundary_svg import boundary_svg
from tdpkit.show.theme import LIGHT


class Verdict:
    """What a check found. `right` is None while nothing was submitted; `picture` is SVG, or empty."""

    def __init__(self, right: bool | None, text: str, picture: str = "") -> None:
        self.right = right
        self.text = text
        self.picture = picture

    def __repr__(self) -> str:
        return f"{ {True: 'Right', False: 'Not yet', None: 'No answer yet'}[self.right] }: {self.text}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        return bundle | {"image/svg+xml": self.picture} if self.picture else bundle


def waiting(text: str) -> Verdict:
    """Nothing was submitted: says what to write where."""
    return Verdict(None, text)


def drawn(layout: str | Layout, kind: str, start: int, end: int, action: str) -> str:
    """The boundary explorer's picture of one case, for a counterexample."""
    return boundary_svg(boundary_state(Guest(layout, kind), start, end, action), LIGHT)
