"""Controls of an exhibit that goes step by step: a slider over the steps, and buttons to move along them."""

from __future__ import annotations

from collections.abc import Iterable

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError, as_integer

from .exhibit import LABEL, WIDE, Exhibit


class SteppedExhibit(Exhibit):
    """An exhibit whose state has a step, 1 to some last one, that :meth:`show` takes as `step`."""

    @property
    def _at(self) -> int:
        """The step one is at, from 0."""
        raise NotImplementedError

    @property
    def _last(self) -> int:
        """The last step one may go to, from 0."""
        raise NotImplementedError

    def move(self, by: int) -> None:
        """So many steps forward, or back; not beyond the first and the last."""
        with self._one_at_a_time:
            self.propose(step=min(max(self._at + by, 0), self._last) + 1)

    def _build_steps(self) -> None:
        self.step_slider = ipywidgets.IntSlider(
            min=1, max=2, description="step", readout=False, layout=WIDE, style=LABEL
        )
        # Words, not icons: an icon is no name to a screen reader.
        self.first_button, self.back_button, self.next_button, self.last_button = self.step_buttons = tuple(
            ipywidgets.Button(description=words, layout={"width": "auto"})
            for words in ("« first", "‹ back", "next ›", "last »")
        )

    def _connect_steps(self) -> None:
        self.proposes(step=self.step_slider)
        self.first_button.on_click(lambda _: self.propose(step=1))
        self.back_button.on_click(lambda _: self.move(-1))
        self.next_button.on_click(lambda _: self.move(1))
        self.last_button.on_click(lambda _: self.propose(step=self._last + 1))

    def _follow_steps(
        self, back: Iterable[ipywidgets.Button] = (), forward: Iterable[ipywidgets.Button] = ()
    ) -> None:
        """Slider and buttons follow; `back` and `forward` are other buttons that lead that way."""
        # A slider wants some way to go, even where there is none.
        self.put(self.step_slider, max=max(self._last + 1, 2), value=self._at + 1)
        for button in (self.first_button, self.back_button, *back):
            self.put(button, disabled=self._at == 0)
        for button in (self.next_button, self.last_button, *forward):
            self.put(button, disabled=self._at == self._last)


def from_0(step: int) -> int:
    """`step`, counted from 1, counted from 0. Raises InvalidTypeError or InvalidValueError for no step."""
    number = as_integer(step, "a step")
    if number < 1:
        raise InvalidValueError(f"steps count from 1; {number} is none")
    return number - 1
