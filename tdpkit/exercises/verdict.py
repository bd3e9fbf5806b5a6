"""The answer of a check: right, not yet answered, or wrong with a counterexample."""

from __future__ import annotations

from typing import Any

from tdpkit.show.boundary import BoundaryState
from tdpkit.show.boundary_svg import boundary_svg
from tdpkit.show.case import CaseState
from tdpkit.show.case_svg import case_svg
from tdpkit.show.theme import LIGHT
from tdpkit.show.walk import WalkState
from tdpkit.show.walk_svg import walk_svg


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
            bundle["image/svg+xml"] = walk_svg(self.case._replace(answer=repr(self), role="bad"), LIGHT)
        elif isinstance(self.case, CaseState):
            bundle["image/svg+xml"] = case_svg(self.case._replace(answer=repr(self), role="bad"), LIGHT)
        elif self.case:
            bundle["image/svg+xml"] = boundary_svg(self.case._replace(answer=repr(self), role="bad"), LIGHT)
        return bundle


def waiting(text: str) -> Verdict:
    """Nothing was submitted: says what to write where."""
    return Verdict(None, text)
