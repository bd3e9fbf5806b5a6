"""The lost -12, live: press the request for memory that fails, see what each caller makes of the errno."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.lab.layouts import TOY
from tdpkit.lab.lost_errno import FRAMES, CallerRow, Shortage, run_short

from ..drawing import Picture
from ..exhibit import Exhibit, RangeControls, check_unit, line
from ..theme import Palette
from .picture import lost_errno_svg, lost_errno_table, lost_errno_text

_BOX = {"indent": False, "layout": {"width": "auto", "margin": "2px 2px 2px 14px"}}


class ErrnoChoice(NamedTuple):
    """A :class:`~tdpkit.lab.lost_errno.Shortage`, and the level of the leaves by which an edge moves."""

    start: int = 6
    end: int = 12
    unit_level: int = 1
    refuse: int = 1
    declared: str = "bool"
    dynamic_pamt: bool = False
    lasting: bool = False
    again: bool = False
    leaves_open: bool = False

    @property
    def shortage(self) -> Shortage:
        """Without the unit."""
        return Shortage(**{name: value for name, value in self._asdict().items() if name != "unit_level"})


class LostErrno(Exhibit[ErrnoChoice, tuple[CallerRow, ...]]):
    """The exhibit. Display it; or read `choice` and `state`, a row per caller, and change it with `show`.

    Arguments, here and for `show`, are the fields of ErrnoChoice, a frame also as text that
    :func:`~tdpkit.engine.gfn.parse_gfn` reads. Raises InvalidValueError or InvalidTypeError for whatever
    breaks a rule.
    """

    prefix = "le"
    good = "case"

    def __init__(self, **choice: Any) -> None:
        super().__init__(ErrnoChoice(), **choice)

    def _state_of(self, choice: ErrnoChoice) -> tuple[CallerRow, ...]:
        check_unit(TOY, choice.unit_level)
        return run_short(choice.shortage)

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.range = RangeControls(self, lambda: (TOY, FRAMES), str)
        self.spots["request"] = self._refuse
        self.lasting_box = ipywidgets.Checkbox(description="and every later one", **_BOX)
        self.pamt_box = ipywidgets.Checkbox(description="Dynamic PAMT", **_BOX)
        self.type_buttons = ipywidgets.ToggleButtons(
            options=[("bool ret, as posted", "bool"), ("int ret, repaired", "int")],
            tooltips=["v3's wrapper as posted", "the same with one type changed"],
            style={"button_width": "auto"},
        )
        self.again_box = ipywidgets.Checkbox(description="memory is back: call again", **_BOX)
        self.open_box = ipywidgets.Checkbox(
            description="error path of v3 15/24 as posted",
            tooltip="on an errno the conversion per VM returns past the end of its invalidation",
            **_BOX,
        )
        self.bind(
            declared=self.type_buttons,
            leaves_open=self.open_box,
            lasting=self.lasting_box,
            dynamic_pamt=self.pamt_box,
            again=self.again_box,
        )
        return (
            line(*self.range.controls, self.pamt_box),
            line(self.type_buttons, self.open_box, self.lasting_box, self.again_box),
        )

    def _refuse(self, number: str) -> None:
        self.propose(refuse=int(number))

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return lost_errno_svg(self.choice.shortage, self.state, palette, ids)

    def _text(self) -> str:
        return lost_errno_text(self.choice.shortage, self.state)

    def _table(self) -> str:
        return lost_errno_table(self.choice.shortage, self.state)
