"""The answer of a check: right, not yet answered, or wrong with a counterexample."""

from __future__ import annotations

from typing import Any

from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import BoundaryState
from tdpkit.show.case.picture import case_svg
from tdpkit.show.case.state import CaseState
from tdpkit.show.theme import LIGHT
from tdpkit.show.walk.picture import walk_svg
from tdpkit.show.walk.state import WalkState


class Verdict:
    """What a check found.

    right: None while nothing was submitted. case: the counterexample, drawn with the verdict's words in place
    of its own answer (a page shows the picture or the text, not both).
    """

    def __init__(
        self, right: bool | None, text: str, case: BoundaryState | WalkState | CaseState | None = None
    ) -> None:
        self.right = right
        self.text = text
        self.case = case

    def __repr__(self) -> str:
        word = {True: "Right", False: "Not yet", None: "No answer yet"}[self.right]
        return f"{word}: {self.text}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if isinstance(self.case, WalkState):
            bundle["image/svg+xml"] = walk_svg(self.case, LIGHT, verdict=repr(self))
        elif isinstance(self.case, CaseState):
            bundle["image/svg+xml"] = case_svg(self.case, LIGHT, verdict=repr(self))
        elif self.case:
            bundle["image/svg+xml"] = boundary_svg(self.case, LIGHT, verdict=repr(self))
        return bundle


def waiting(text: str) -> Verdict:
    """Nothing was submitted: says what to write where."""
    return Verdict(None, text)
