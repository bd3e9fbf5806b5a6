"""The lost -12, live: choose the request for memory that fails, see what four callers make of the errno."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets

from tdpkit.engine.gfn import InvalidTypeError
from tdpkit.lab.lost_errno import MOST_REQUESTS, CallerRow, Shortage, run_short

from ..exhibit import Exhibit, line
from ..theme import Palette
from .picture import lost_errno_svg
from .words import lost_errno_table, lost_errno_text

_BOX = {"width": "auto", "margin": "2px 2px 2px 14px"}


class LostErrno(Exhibit):
    """The exhibit. Display it; or read `shortage` and `rows`, and change it with :meth:`show`.

    Arguments are the fields of :class:`~tdpkit.lab.lost_errno.Shortage`. Raises InvalidValueError or
    InvalidTypeError for what breaks a rule.
    """

    prefix = "le"
    good = "case"
    least_width = 760

    def __init__(self, **shortage: Any) -> None:
        self.shortage = Shortage()
        super().__init__()
        self._connect()
        self.show(**shortage)

    # ---- the state --------------------------------------------------------------------------------------

    def show(self, **change: Any) -> None:
        """Try another shortage; what is not named stays.

        Raises InvalidValueError or InvalidTypeError for what breaks a rule; the state is then the one before.
        """
        for name in change:
            if name not in Shortage._fields:
                raise InvalidTypeError(f"a shortage has {', '.join(Shortage._fields)}; it has no {name!r}")
        shortage = self.shortage._replace(**change)
        rows = run_short(shortage)
        self.shortage = shortage._replace(refuse=int(shortage.refuse))
        self.rows: tuple[CallerRow, ...] = rows
        self._sync()

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
        self.refuse_slider = ipywidgets.SelectionSlider(
            options=_requests(False),
            description="request refused",
            readout=False,
            layout={"flex": "1 1 240px", "max_width": "420px"},
            style={"description_width": "110px"},
        )
        self.type_buttons = ipywidgets.ToggleButtons(
            options=[("bool ret, as posted", "bool"), ("int ret, mended", "int")],
            tooltips=["v3's wrapper as posted", "the same with one type changed"],
            style={"button_width": "auto"},
        )
        self.request_label = ipywidgets.Label(layout={"width": "170px"})
        label = ipywidgets.Label("the wrapper has", layout={"width": "110px"})
        self.lasting_box = ipywidgets.Checkbox(description="and every later one", indent=False, layout=_BOX)
        self.pamt_box = ipywidgets.Checkbox(description="Dynamic PAMT", indent=False, layout=_BOX)
        self.again_box = ipywidgets.Checkbox(
            description="memory is back: call again", indent=False, layout=_BOX
        )
        return (
            line(self.refuse_slider, self.request_label, self.lasting_box, self.pamt_box),
            line(label, self.type_buttons, self.again_box),
        )

    def _connect(self) -> None:
        self.proposes(
            refuse=self.refuse_slider,
            declared=self.type_buttons,
            lasting=self.lasting_box,
            dynamic_pamt=self.pamt_box,
            again=self.again_box,
        )

    def _follow(self, refused: bool) -> None:
        tried = self.shortage
        self.put(self.refuse_slider, options=_requests(tried.dynamic_pamt))
        self.put(self.refuse_slider, value=tried.refuse)
        self.put(self.request_label, value=_requests(tried.dynamic_pamt)[tried.refuse][0])
        self.put(self.type_buttons, value=tried.declared)
        self.put(self.lasting_box, value=tried.lasting)
        self.put(self.pamt_box, value=tried.dynamic_pamt)
        self.put(self.again_box, value=tried.again)

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return lost_errno_svg(self.shortage, self.rows, palette, ids)

    def _text(self) -> str:
        return lost_errno_text(self.shortage, self.rows)

    def _table(self) -> str:
        return lost_errno_table(self.shortage, self.rows)


def _requests(dynamic_pamt: bool) -> list[tuple[str, int]]:
    """The requests by number, as a conversion makes them when nothing is refused."""
    made = run_short(Shortage(0, dynamic_pamt=dynamic_pamt))[0].first.requests
    names = [*made, *["nobody asks so often"] * (MOST_REQUESTS - len(made))]
    return [("none", 0), *((f"{number}: {name}", number) for number, name in enumerate(names, 1))]
