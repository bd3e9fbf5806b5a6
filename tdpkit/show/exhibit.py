"""What every live exhibit is made of: a good state, controls that propose another, one picture.

An exhibit holds one good state in exact Python integers. Every control proposes another; a proposal that
breaks a rule is answered in words and changes nothing. The picture is markup set into one HTML widget, so a
slider is answered at once and nothing flickers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from html import escape
from threading import RLock
from typing import Any

import ipywidgets

from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError, format_gfn, parse_gfn

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
        # JupyterLab moves widgets' messages to a kernel's second thread at some moment after the first cell:
        # two controls that are used around then are answered in two threads.
        self._one_at_a_time = RLock()
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
        with self._one_at_a_time:
            try:
                self.show(**change)
            except (ValueError, TypeError) as error:
                self._sync(refused=str(error))

    def proposes(self, **controls: ipywidgets.Widget) -> None:
        """Let each control propose its value under its name."""
        for name, control in controls.items():
            self.observe(control, partial(self._propose_as, name))

    def _propose_as(self, name: str, value: Any) -> None:
        self.propose(**{name: value})

    def observe(self, control: ipywidgets.Widget, handler: Callable[[Any], None]) -> None:
        """Call `handler` with each new value; controls that follow the state do not propose it again."""

        def on_change(change: Any) -> None:
            with self._one_at_a_time:
                if not self._syncing:
                    handler(change["new"])

        control.observe(on_change, names="value")

    def _sync(self, refused: str = "") -> None:
        """Let the picture, every control and the table follow the state."""
        with self._one_at_a_time:
            self._syncing = True
            try:
                if not refused:  # the picture first: it is what one waits for
                    self._show_picture()
                self._follow(bool(refused))
                self.put(self.message, value=self._message(refused))
                self._show_table()
            finally:
                self._syncing = False

    def _show_picture(self) -> None:
        box = f'<div style="min-width:{self.least_width}px">{self._svg(LIVE, self._ids)}</div>'
        self.put(
            self.picture,
            value=f'<div class="tdpkit" style="overflow-x:auto;line-height:normal">{box}</div>',
        )

    def _show_table(self) -> None:
        self.put(self.table, value=self._table() if self.table_box.value else "")

    def _message(self, refused: str) -> str:
        if not refused:
            return '<span role="status"></span>'
        return (
            f'<span role="status" style="color:var(--jp-error-color1,#a81e37)">✗ {escape(refused)}. '
            f"The picture shows the last good {self.good}.</span>"
        )

    @staticmethod
    def put(control: Any, **values: Any) -> None:
        """Set traits that differ: what stays as it is costs no message."""
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


LABEL = {"description_width": "48px"}
"""Style of controls in a column: labels of one width."""
WIDE = {"width": "auto", "flex": "1 1 260px"}
"""Layout of a control that takes the room there is."""


class RangeControls:
    """Start and end of a range: for each a slider, which counts units, and a field, which is exact.

    `lines` are the two lines of controls; `unit_menu` stands where the exhibit puts it. A change calls
    `propose` with `start`, `end` (frames, or what was typed) or `unit_level`.
    """

    def __init__(self) -> None:
        self.unit_menu = ipywidgets.Dropdown(
            options=[("4K", 1)], description="slider unit", layout={"width": "160px"}
        )
        slider = {"readout": False, "layout": WIDE, "style": LABEL}
        self.start_slider = ipywidgets.IntSlider(description="start", **slider)
        self.end_slider = ipywidgets.IntSlider(description="end", **slider)
        self.start_text = address_field("start address", "0x200 or 2M+4K")
        self.end_text = address_field("end address", "0x400 or 4M")
        self.lines = (line(self.start_slider, self.start_text), line(self.end_slider, self.end_text))
        self._unit = self._frames = 1

    def connect(self, exhibit: Exhibit) -> None:
        """Let the controls propose to `exhibit`."""
        propose, observe = exhibit.propose, exhibit.observe
        observe(self.start_slider, lambda new: propose(start=new * self._unit))
        observe(self.end_slider, lambda new: propose(end=min(new * self._unit, self._frames)))
        exhibit.proposes(unit_level=self.unit_menu, start=self.start_text, end=self.end_text)

    def follow(
        self,
        geometry: Geometry,
        frames: int,
        span: GfnRange,
        unit_level: int,
        *,
        refused: bool,
        write: Callable[[int], str] = format_gfn,
    ) -> None:
        """Show `span` of a machine of `frames` frames; `write` says how a field writes a frame."""
        put = Exhibit.put
        levels = range(1, geometry.max_leaf_level + 1)
        put(self.unit_menu, options=[(geometry.level(n).label, n) for n in levels])
        put(self.unit_menu, value=unit_level)
        self._unit, self._frames = geometry.pages(unit_level), frames
        units = -(-frames // self._unit)
        for slider, text, frame in (
            (self.start_slider, self.start_text, span.start),
            (self.end_slider, self.end_text, span.end),
        ):
            put(slider, max=units, value=min(frame // self._unit, units))
            if not refused:
                put(text, value=write(frame))


def check_unit(geometry: Geometry, unit_level: int) -> None:
    """Raises InvalidValueError unless the machine may have leaves of `unit_level`."""
    unit = geometry.level(unit_level)
    if unit.number > geometry.max_leaf_level:
        raise InvalidValueError(f"a slider moves by leaves of this guest; none has {unit.label}")


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


def check_flag(value: bool, name: str) -> bool:
    """`value`, if it is True or False (else InvalidTypeError): a switch has no third position."""
    if isinstance(value, bool):
        return value
    raise InvalidTypeError(f"{name} is True or False; {value!r} is neither")
