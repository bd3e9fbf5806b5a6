"""Controls of an exhibit that goes step by step: a slider over the steps, and buttons to move along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError

from .drawing import Track
from .exhibit import LABEL, WIDE, C, Exhibit, S, line
from .handles import slider

_PACE = 700
"""Milliseconds from step to step while it plays: time to see what changed."""


class SteppedExhibit(Exhibit[C, S]):
    """An exhibit whose choice has a field `step`, from 1."""

    @property
    def _step(self) -> int:
        step: int = getattr(self.choice, "step")  # noqa: B009  # the type of the choice is open here
        return step

    @property
    def _last(self) -> int:
        """The last step one may go to."""
        raise NotImplementedError

    def move(self, by: int) -> None:
        """Go `by` steps forward, or back; not beyond the first and the last."""
        self.propose(step=min(max(self._step + by, 1), self._last))

    def _step_controls(
        self, back: Sequence[ipywidgets.Button] = (), forward: Sequence[ipywidgets.Button] = ()
    ) -> None:
        """Make and bind `step_line`: a player, buttons and a slider, to stand directly above the picture.

        back, forward: other ways to move.
        """
        self.step_slider = ipywidgets.IntSlider(
            min=1, max=2, description="step", readout=False, layout=WIDE, style=LABEL
        )
        # Words, not icons: an icon is no name to a screen reader.
        self.first_button, self.back_button, self.next_button, self.last_button = self.step_buttons = tuple(
            ipywidgets.Button(description=words, layout={"width": "auto"})
            for words in ("« first", "‹ back", "next ›", "last »")
        )
        self.play = ipywidgets.Play(min=1, max=2, interval=_PACE, show_repeat=False, tooltip="play")
        self.step_line = line(
            self.play, *self.step_buttons[:2], *back, *forward, *self.step_buttons[2:], self.step_slider
        )
        # The browser's slider needs some way to go, even where there is none.
        for control in (self.step_slider, self.play):
            self.follow(control, max=lambda: max(self._last, 2))
            self.bind(step=control)
        self.moving["step"] = lambda: self._step
        self.tracks["step"] = self._cursor
        self.press(self.first_button, lambda: self.propose(step=1))
        self.press(self.back_button, lambda: self.move(-1))
        self.press(self.next_button, lambda: self.move(1))
        self.press(self.last_button, lambda: self.propose(step=self._last))
        for button in (self.first_button, self.back_button, *back):
            self.follow(button, disabled=lambda: self._step == 1)
        for button in (self.next_button, self.last_button, *forward):
            self.follow(button, disabled=lambda: self._step == self._last)

    def _cursor(self, track: Track, number: int) -> list[dict[str, Any]]:
        text = f"step {self._step} of {self._last}"
        return [
            slider(track, number, "cursor", "step, on the picture", text, 1, self._last, of="step", page=10)
        ]

    def _check_step(self, step: int, steps: int) -> None:
        """Raises InvalidValueError unless `step` is one of 1 to `steps`."""
        if not 1 <= step <= steps:
            raise InvalidValueError(f"this {self.good} has steps 1 to {steps}; {step} is none")
