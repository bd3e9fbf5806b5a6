"""A slider to guess a ratio with, before the numbers are seen: visits of the split by visits of the zap."""

from __future__ import annotations

from html import escape
from types import EllipsisType
from typing import Any

import ipywidgets

from tdpkit.lab.words import group_digits

from .head_and_tail import check_ratio

_SMALLEST, _LARGEST, _STEP = -6, 3, 0.25
"""Powers of 10, and how far an arrow key goes: from a millionth to a thousand, in steps of a quarter."""


class RatioGuess:
    """A slider, what it says in words, and a button that compares it with what the engine counts.

    value: the guess, or ... as long as nobody has moved the slider or pressed the button.
    """

    def __init__(self) -> None:
        self.slider = ipywidgets.FloatLogSlider(
            value=10 ** ((_SMALLEST + _LARGEST) / 2),
            min=_SMALLEST,
            max=_LARGEST,
            step=_STEP,
            description="split / zap",
            readout=False,
            layout={"width": "auto", "flex": "1 1 320px"},
        )
        self.button = ipywidgets.Button(description="compare", tooltip="compare the guess with the engine")
        self.words = ipywidgets.HTML()
        self.message = ipywidgets.HTML(layout={"min_height": "28px"})
        self.box = ipywidgets.VBox(
            [
                ipywidgets.HBox(
                    [self.slider, self.button], layout={"flex_flow": "row wrap", "align_items": "center"}
                ),
                self.words,
                self.message,
            ],
            layout={"max_width": "700px", "width": "100%"},
        )
        self._guessed = False
        self._say()
        self.slider.observe(self._on_move, names="value")
        self.button.on_click(lambda _: self.compare())

    @property
    def value(self) -> float | EllipsisType:
        """The guess."""
        return float(self.slider.value) if self._guessed else ...

    def compare(self) -> None:
        """Take the guess as it stands, and say what the engine says."""
        self._guessed = True
        verdict = check_ratio(self.value)
        role = "--jp-success-color0,#14694a" if verdict.right else "--jp-error-color1,#a81e37"
        self.message.value = f'<span role="status" style="color:var({role})">{escape(repr(verdict))}</span>'

    def _on_move(self, change: Any) -> None:
        self._guessed = True
        self._say()

    def _say(self) -> None:
        """The guess in words; what was said of another one goes."""
        self.message.value = '<span role="status"></span>'
        self.words.value = f'<span role="status">{escape(in_words(self.slider.value))}</span>'

    def __repr__(self) -> str:
        said = in_words(self.slider.value) if self._guessed else "not guessed yet"
        return f"visits of the split / visits of the zap after it: {said}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, and for pages without a kernel its text."""
        return {**(self.box._repr_mimebundle_(**kwargs) or {}), "text/plain": repr(self)}


def in_words(ratio: float) -> str:
    """``the split visits 1/32 of the entries that the zap visits``, for a ratio as the slider has it."""
    if ratio < 0.101:
        return f"the split visits 1/{group_digits(round(1 / ratio))} of the entries that the zap visits"
    times = group_digits(round(ratio)) if ratio >= 10 else f"{ratio:.2g}"
    return f"the split visits {'' if times == '1' else f'{times} times '}as many entries as the zap"
