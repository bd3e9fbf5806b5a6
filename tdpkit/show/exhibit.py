"""What every live exhibit is made of: a good state, controls that propose another, one picture.

An exhibit holds one good state in exact Python integers. Every control proposes another; a proposal that
breaks a rule is answered in words and changes nothing. The picture is markup set into one HTML widget, so a
slider is answered at once and nothing flickers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import ipywidgets

from tdpkit.engine.gfn import parse_gfn

from .theme import LIGHT, LIVE, LIVE_STYLE, Palette

LINE = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
"""Layout of a line of controls: what does not fit goes on below."""


class Exhibit:
    """One exhibit. A subclass makes its controls in `_build_controls`, keeps its state in `show`, lets the
    controls follow it in `_follow`, and says what it shows in `_svg`, `_text` and `_table`.
    """

    prefix = "x"
    """Begins every id of the exhibit's pictures."""
    good = "state"
    """What the last good one of is called in messages."""
    least_width = 640
    """Narrower pages scroll the picture sideways, pixels."""

    def __init__(self) -> None:
        self._syncing = False
        self.message = ipywidgets.HTML(layout={"min_height": "28px"})
        self.picture = ipywidgets.HTML(layout={"width": "100%"})
        self.table_box = ipywidgets.Checkbox(description="the same as a table", indent=False)
        self.table = ipywidgets.HTML()
        self._ids = f"{self.prefix}-{self.picture.model_id[:8]}"
        self.box = self._framed(self._build_controls())
        self.table_box.observe(lambda _: self._show_table(), names="value")

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
        """Make the controls; what is returned stands above the message and the picture, in this order."""
        raise NotImplementedError

    def show(self, **change: Any) -> None:
        """Go to another state, or raise ValueError or TypeError and stay as it was."""
        raise NotImplementedError

    def _follow(self, refused: bool) -> None:
        """Let every control follow the state; what was refused stays in its field, to be mended."""
        raise NotImplementedError

    def _svg(self, palette: Palette, ids: str = "") -> str:
        raise NotImplementedError

    def _text(self) -> str:
        raise NotImplementedError

    def _table(self) -> str:
        raise NotImplementedError

    def _framed(self, controls: Iterable[ipywidgets.Widget]) -> ipywidgets.VBox:
        style = ipywidgets.HTML(LIVE_STYLE, layout={"display": "none"})
        return ipywidgets.VBox(
            [style, *controls, self.message, self.picture, self.table_box, self.table],
            layout={"max_width": "1100px", "width": "100%"},
        )

    # ---- from controls to the state and back ------------------------------------------------------------

    def propose(self, **change: Any) -> None:
        """What every control does: :meth:`show`, or say in words why not and stay as it was."""
        try:
            self.show(**change)
        except (ValueError, TypeError) as error:
            self._sync(refused=str(error))

    def _observe(self, control: ipywidgets.Widget, handler: Callable[[Any], None]) -> None:
        """Call `handler` with each new value; controls that follow the state do not propose it again."""

        def on_change(change: Any) -> None:
            if not self._syncing:
                handler(change["new"])

        control.observe(on_change, names="value")

    def _sync(self, refused: str = "") -> None:
        """Let the picture, every control and the table follow the state."""
        self._syncing = True
        try:
            if not refused:  # the picture first: it is what one waits for
                self._show_picture()
            self._follow(bool(refused))
            self._set(self.message, value=self._message(refused))
            self._show_table()
        finally:
            self._syncing = False

    def _show_picture(self) -> None:
        box = f'<div style="min-width:{self.least_width}px">{self._svg(LIVE, self._ids)}</div>'
        self._set(
            self.picture,
            value=f'<div class="tdpkit" style="overflow-x:auto;line-height:normal">{box}</div>',
        )

    def _show_table(self) -> None:
        self._set(self.table, value=self._table() if self.table_box.value else "")

    def _message(self, refused: str) -> str:
        if not refused:
            return '<span role="status"></span>'
        return (
            f'<span role="status" style="color:var(--jp-error-color1,#a81e37)">✗ {escape(refused)}. '
            f"The picture shows the last good {self.good}.</span>"
        )

    @staticmethod
    def _set(control: Any, **values: Any) -> None:
        for name, value in values.items():
            current = getattr(control, name)
            if (list(current) if name == "options" else current) != value:
                setattr(control, name, value)

    # ---- the bundle -------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, and for pages without a kernel the opening picture and its text."""
        bundle: dict[str, Any] = dict(self.box._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": self._text(), "image/svg+xml": self._svg(LIGHT)}


def line(*controls: ipywidgets.Widget) -> ipywidgets.HBox:
    """Controls side by side."""
    return ipywidgets.HBox(controls, layout=LINE)


def address_field(what: str, placeholder: str) -> ipywidgets.Text:
    """A field to type an address into, taken when it is left or Enter is pressed."""
    return ipywidgets.Text(
        placeholder=placeholder,
        tooltip=f"{what}: a frame number (0x200) or a size (2M+4K)",
        continuous_update=False,
        layout={"width": "150px"},
    )


def as_frame(value: str | int) -> int:
    """An address as typed, or a frame number as it is."""
    return parse_gfn(value) if isinstance(value, str) else value
