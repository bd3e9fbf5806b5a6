"""The lost -12, live: choose the request for memory that fails, see what four callers make of the errno."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets

from tdpkit.lab.lost_errno import MOST_REQUESTS, CallerRow, Shortage, run_short

from ..exhibit import Exhibit, line
from ..theme import Palette
from .picture import lost_errno_svg, lost_errno_table, lost_errno_text

_BOX = {"indent": False, "layout": {"width": "auto", "margin": "2px 2px 2px 14px"}}


class LostErrno(Exhibit[Shortage, tuple[CallerRow, ...]]):
    """The exhibit. Display it; or read `choice` and `state`, a row per caller, and change it with `show`.

    Arguments, here and for `show`, are the fields of :class:`~tdpkit.lab.lost_errno.Shortage`. Raises
    InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "le"
    good = "case"
    least_width = 760

    def __init__(self, **shortage: Any) -> None:
        super().__init__(Shortage(), **shortage)

    def _state_of(self, choice: Shortage) -> tuple[CallerRow, ...]:
        return run_short(choice)

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.refuse_slider = ipywidgets.SelectionSlider(
            options=[("none", 0)],
            description="request refused",
            readout=False,
            layout={"flex": "1 1 240px", "max_width": "420px"},
            style={"description_width": "110px"},
        )
        self.request_label = ipywidgets.Label(layout={"width": "170px"})
        self.lasting_box = ipywidgets.Checkbox(description="and every later one", **_BOX)
        self.pamt_box = ipywidgets.Checkbox(description="Dynamic PAMT", **_BOX)
        self.type_buttons = ipywidgets.ToggleButtons(
            options=[("bool ret, as posted", "bool"), ("int ret, mended", "int")],
            tooltips=["v3's wrapper as posted", "the same with one type changed"],
            style={"button_width": "auto"},
        )
        self.again_box = ipywidgets.Checkbox(description="memory is back: call again", **_BOX)
        self.bind(
            refuse=self.refuse_slider,
            declared=self.type_buttons,
            lasting=self.lasting_box,
            dynamic_pamt=self.pamt_box,
            again=self.again_box,
        )
        self.follow(self.refuse_slider, options=lambda: _requests(self.choice.dynamic_pamt))
        self.follow(self.request_label, value=lambda: self.refuse_slider.label)
        return (
            line(self.refuse_slider, self.request_label, self.lasting_box, self.pamt_box),
            line(
                ipywidgets.Label("the wrapper has", layout={"width": "110px"}),
                self.type_buttons,
                self.again_box,
            ),
        )

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return lost_errno_svg(self.choice, self.state, palette, ids)

    def _text(self) -> str:
        return lost_errno_text(self.choice, self.state)

    def _table(self) -> str:
        return lost_errno_table(self.choice, self.state)


def _requests(dynamic_pamt: bool) -> list[tuple[str, int]]:
    """The requests by number, as a conversion makes them when nothing is refused."""
    made = run_short(Shortage(0, dynamic_pamt=dynamic_pamt))[0].first.requests
    names = [*made, *["nobody asks so often"] * (MOST_REQUESTS - len(made))]
    return [("none", 0), *((f"{number}: {name}", number) for number, name in enumerate(names, 1))]
