"""A slider to guess a ratio with, before the numbers are seen: visits of the split by visits of the zap."""

from __future__ import annotations

from html import escape

import ipywidgets

from tdpkit.lab.words import group_digits

from .guess import Guess
from .head_and_tail import check_ratio

_SMALLEST, _LARGEST, _STEP = -6, 3, 0.25
"""Powers of 10, and how far an arrow key goes: from a millionth to a thousand, in steps of a quarter."""


class RatioGuess(Guess):
    """A slider over powers of ten, and what it says in words."""

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
        self.words = ipywidgets.HTML()
        super().__init__(
            "visits of the split / visits of the zap after it", self.slider, check_ratio, self.words
        )

    def _empty(self) -> None:
        super()._empty()
        self.words.value = f'<span role="status">{escape(in_words(self.slider.value))}</span>'

    def __repr__(self) -> str:
        said = "not guessed yet" if self.value is ... else in_words(self.slider.value)
        return f"{self.question}: {said}"


def in_words(ratio: float) -> str:
    """``the split visits 1/32 of the entries that the zap visits``, for a ratio as the slider has it."""
    if ratio < 0.101:
        return f"the split visits 1/{group_digits(round(1 / ratio))} of the entries that the zap visits"
    times = group_digits(round(ratio)) if ratio >= 10 else f"{ratio:.2g}"
    return f"the split visits {'' if times == '1' else f'{times} times '}as many entries as the zap"
