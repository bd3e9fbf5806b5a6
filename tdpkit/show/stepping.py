"""Controls of an exhibit that goes step by step: a slider over the steps, and buttons to move along them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError

from .drawing import Track
from .exhibit import LABEL, WIDE, C, Exhibit, S, line
from .handles import slider

_PACE = 700
"""Milliseconds from step to step while it plays: time to see what changed."""


class SteppedExhibit(Exhibit[C, S]):
    """An exhibit whose choice has a field `step`, from `first_step` on."""

    first_step: ClassVar[int] = 1
    """0 where the state before all steps is one to look at."""

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
        self.propose(step=min(max(self._step + by, self.first_step), self._last))

    def _step_controls(
        self, back: Sequence[ipywidgets.Button] = (), forward: Sequence[ipywidgets.Button] = ()
    ) -> None:
        """Make and bind `step_line`: a player, buttons and a slider, to stand directly above the picture.

        back, forward: other ways to move.
        """
        ends = {"min": self.first_step, "max": self.first_step + 1}
        self.step_slider = ipywidgets.IntSlider(
            **ends, description="step", readout=False, layout=WIDE, style=LABEL
        )
        # Words, not icons: an icon is no name to a screen reader.
        self.first_button, self.back_button, self.next_button, self.last_button = self.step_buttons = tuple(
            ipywidgets.Button(description=words, layout={"width": "auto"})
            for words in ("« first", "‹ back", "next ›", "last »")
        )
        self.play = ipywidgets.Play(**ends, interval=_PACE, show_repeat=False, tooltip="play")
        self.step_line = line(
            self.play, *self.step_buttons[:2], *back, *forward, *self.step_buttons[2:], self.step_slider
        )
        # The browser's slider needs some way to go, even where there is none.
        for control in (self.step_slider, self.play):
            self.follow(control, max=lambda: max(self._last, self.first_step + 1))
            self.bind(step=control)
        self.moving["step"] = lambda: self._step
        self.tracks["step"] = self._cursor
        self.press(self.first_button, lambda: self.propose(step=self.first_step))
        self.press(self.back_button, lambda: self.move(-1))
        self.press(self.next_button, lambda: self.move(1))
        self.press(self.last_button, lambda: self.propose(step=self._last))
        for button in (self.first_button, self.back_button, *back):
            self.follow(button, disabled=lambda: self._step == self.first_step)
        for button in (self.next_button, self.last_button, *forward):
            self.follow(button, disabled=lambda: self._step == self._last)

    def _cursor(self, track: Track, number: int) -> list[dict[str, Any]]:
        text, low = f"step {self._step} of {self._last}", self.first_step
        return [
            slider(track, number, "cursor", "step, on the picture", text, low, self._last, of="step", page=10)
        ]

    def _check_step(self, step: int, steps: int) -> None:
        """Raises InvalidValueError unless `step` is one of the first to `steps`."""
        if not self.first_step <= step <= steps:
            raise InvalidValueError(
                f"this {self.good} has steps {self.first_step} to {steps}; {step} is none"
            )
