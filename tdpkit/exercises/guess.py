"""A question to guess at before the exhibit answers it: a few answers to choose from, or a number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from types import EllipsisType
from typing import Any

import ipywidgets

from tdpkit.show.handles import Handles
from tdpkit.show.outputs import display_live
from tdpkit.show.theme import LIVE_STYLE

from .checking import COLOURS, Verdict


class Guess:
    """A control, a button that compares the guess with the engine, and the answer in words.

    value: the guess, or ... until the control was moved or the button pressed. below: widgets between the
    control and the answer.
    """

    def __init__(
        self,
        question: str,
        control: ipywidgets.ValueWidget,
        check: Callable[[Any], Verdict],
        *below: ipywidgets.Widget,
    ) -> None:
        self.question = question
        self.control = control
        self.button = ipywidgets.Button(description="compare", tooltip="compare the guess with the engine")
        self.message = ipywidgets.HTML(layout={"min_height": "28px"})
        self.box = ipywidgets.VBox(
            [
                ipywidgets.HTML(LIVE_STYLE, layout={"display": "none"}),
                ipywidgets.HTML(f'<span style="display:block;line-height:1.4">{escape(question)}</span>'),
                ipywidgets.HBox(
                    [self.control, self.button],
                    layout={"flex_flow": "row wrap", "align_items": "flex-end", "grid_gap": "4px 16px"},
                ),
                *below,
                self.message,
                Handles(layout={"display": "none"}),
            ],
            layout={"max_width": "700px", "width": "100%"},
        )
        self._check = check
        self._guessed = False
        self._clear()
        self.control.observe(self._on_move, names="value")
        self.button.on_click(lambda _: self.compare())

    @property
    def value(self) -> Any | EllipsisType:
        """The guess, or ... before there is one."""
        return self.control.value if self._guessed and self.control.value is not None else ...

    def compare(self) -> None:
        """Take the guess as it stands, and show the engine's answer."""
        self._guessed = True
        verdict = self._check(self.value)
        style = f"display:block;line-height:1.4;color:{COLOURS[verdict.right]}"
        self.message.value = f'<span role="status" style="{style}">{escape(repr(verdict))}</span>'

    def _on_move(self, change: Any) -> None:
        self._guessed = True
        self._clear()

    def _clear(self) -> None:
        """Drop the answer to an earlier guess; called at each move."""
        self.message.value = '<span role="status"></span>'

    def __repr__(self) -> str:
        said = "not guessed yet" if self.value is ... else f"you say {self.value}"
        return f"{self.question} ({said})"

    def _ipython_display_(self) -> None:
        display_live(self.box, {"text/plain": repr(self)})


def choice(question: str, label: str, answers: Sequence[str], check: Callable[[Any], Verdict]) -> Guess:
    """One of a few answers; none is chosen at first."""
    control = ipywidgets.RadioButtons(
        options=list(answers), value=None, description=label, layout={"width": "auto"}
    )
    return Guess(question, control, check)


def number(question: str, label: str, most: int, check: Callable[[Any], Verdict]) -> Guess:
    """A number from 0 to `most`."""
    layout = {"width": "auto", "flex": "1 1 320px"}
    control = ipywidgets.IntSlider(value=0, min=0, max=most, description=label, layout=layout)
    return Guess(question, control, check)
