"""The base of every live exhibit: a choice, the state that follows from it, controls, one picture.

The choice is a NamedTuple of all that the controls say; the state is computed from it. A control proposes
another choice. If that breaks a rule, the exhibit answers in words and stays as it was; otherwise picture,
table and every control follow. The picture is markup set into one HTML widget, so it changes without flicker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from html import escape
from threading import RLock
from typing import Any, ClassVar, Generic, TypeVar

import ipywidgets

from tdpkit.engine.gfn import (
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    as_integer,
    format_gfn,
    parse_gfn,
)
from tdpkit.lab.words import check_flag, known_name, listed

from .theme import LIGHT, LIVE, LIVE_STYLE, Palette

C = TypeVar("C", bound=tuple[Any, ...])
"""The exhibit's choice, a NamedTuple."""
S = TypeVar("S")
"""The state that follows from it."""


class Exhibit(Generic[C, S]):
    """One exhibit. Read `choice` and `state`; change them with :meth:`show`.

    A subclass makes and binds its controls in `_controls`, computes its state in `_state_of`, and names its
    picture, text and table in `_svg`, `_text` and `_table`. `_opening`, `_chosen` and `_note` are there to be
    overridden where an exhibit needs more.
    """

    prefix: ClassVar[str] = "x"
    """Begins every id of the exhibit's pictures."""
    good: ClassVar[str] = "state"
    """A message calls what is shown the last good one of these."""
    least_width: ClassVar[int] = 640
    """Narrower pages scroll the picture sideways, pixels."""
    reads: ClassVar[Mapping[str, Callable[[str], int]]] = {"start": parse_gfn, "end": parse_gfn}
    """Fields of the choice that hold a number and take text as well, and what reads the text."""
    names: ClassVar[Mapping[str, Iterable[str]]] = {}
    """The names that a field of the choice takes, where it takes no others."""

    def __init__(self, opening: C, /, **change: Any) -> None:
        self._syncing = False
        # JupyterLab moves widgets' messages to a kernel's second thread at some moment after the first cell:
        # two controls that are used around then are answered in two threads.
        self._one_at_a_time = RLock()
        self._followed: dict[Any, dict[str, Callable[[], Any]]] = {}
        self.choice = opening
        self.state: S
        self.message = ipywidgets.HTML(layout={"min_height": "28px"})
        self.picture = ipywidgets.HTML(layout={"width": "100%"})
        self.table_box = ipywidgets.Checkbox(description="the same as a table", indent=False)
        self.table = ipywidgets.HTML()
        self._ids = f"{self.prefix}-{self.picture.model_id[:8]}"
        self.box = self._framed(self._controls())
        self.table_box.observe(lambda _: self._show_table(), names="value")
        self.show(**change)

    # ---- for each exhibit to say --------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        """Make and bind the controls; they stand above the message and the picture, in this order."""
        raise NotImplementedError

    def _state_of(self, choice: C) -> S:
        """The state that follows from `choice`; raises InvalidValueError or InvalidTypeError if none does.

        `choice` and `state` are still the old ones. An exhibit that keeps more than these two sets it last,
        when nothing can raise any more.
        """
        raise NotImplementedError

    def _svg(self, palette: Palette, ids: str = "") -> str:
        raise NotImplementedError

    def _text(self) -> str:
        raise NotImplementedError

    def _table(self) -> str:
        raise NotImplementedError

    def _opening(self, change: dict[str, Any]) -> C:
        """The choice in which `change` replaces what it names: the present one.

        An exhibit whose guests open with a range of their own gives that opening when `change` names one.
        """
        return self.choice

    def _note(self) -> str:
        """A remark on a good state that the message shows."""
        return ""

    def _framed(self, controls: Iterable[ipywidgets.Widget]) -> ipywidgets.VBox:
        style = ipywidgets.HTML(LIVE_STYLE, layout={"display": "none"})
        return ipywidgets.VBox(
            [style, *controls, self.message, self.picture, self.table_box, self.table],
            layout={"max_width": "1100px", "width": "100%"},
        )

    # ---- from a change to the state ---------------------------------------------------------------------

    def show(self, **change: Any) -> None:
        """Change the fields of the choice that are named; the others stay.

        Raises InvalidValueError or InvalidTypeError for whatever breaks a rule; nothing has changed then.
        """
        with self._one_at_a_time:
            choice = self._chosen(change)
            self.state = self._state_of(choice)
            self.choice = choice
            self._sync()

    def _chosen(self, change: dict[str, Any]) -> C:
        """The choice with `change` in it, each value checked for itself."""
        for name in change:
            if name not in self._fields:
                raise InvalidTypeError(f"this exhibit has {listed(self._fields)}; it has no {name!r}")
        change = {name: self._checked(name, value) for name, value in change.items()}
        opening: Any = self._opening(change)
        chosen = opening._replace(**change)
        texts = {name: text for name in self.reads if isinstance(text := getattr(chosen, name, None), str)}
        choice: C = chosen._replace(**{name: self.reads[name](text) for name, text in texts.items()})
        return choice

    @property
    def _fields(self) -> tuple[str, ...]:
        choice: Any = self.choice
        return tuple(choice._fields)

    def _checked(self, name: str, value: Any) -> Any:
        """`value` as field `name` holds it: a known name, or a flag or a number where it is one now."""
        if name in self.names:
            return known_name(value, self.names[name], f"{'an' if name[0] in 'aeio' else 'a'} {name}")
        now = getattr(self.choice, name)
        if not isinstance(now, int) or (name in self.reads and isinstance(value, str)):
            return value
        return check_flag(value, name) if isinstance(now, bool) else as_integer(value, name)

    # ---- from controls to the choice and back -----------------------------------------------------------

    def bind(self, write: Callable[[Any], Any] | None = None, /, **controls: ipywidgets.Widget) -> None:
        """Let each control propose its value as the field it is named after, and follow that field.

        write: makes the control's value of the field's, if the two differ (a frame is typed as text).
        """
        for name, control in controls.items():
            self.observe(control, partial(self._propose_as, name))
            self.follow(control, value=partial(self._written, name, write))

    def follow(self, control: Any, /, **traits: Callable[[], Any]) -> None:
        """Let traits of `control` follow the state: each function says what its trait is now."""
        self._followed.setdefault(control, {}).update(traits)

    def observe(self, control: ipywidgets.Widget, handler: Callable[[Any], None]) -> None:
        """Call `handler` with each new value; a control that follows the state does not propose it again."""

        def on_change(change: Any) -> None:
            with self._one_at_a_time:
                if not self._syncing:
                    handler(change["new"])

        control.observe(on_change, names="value")

    def press(self, button: ipywidgets.Button, handler: Callable[[], None]) -> None:
        """Call `handler` when `button` is pressed."""

        def on_click(_: Any) -> None:
            with self._one_at_a_time:
                handler()

        button.on_click(on_click)

    def propose(self, **change: Any) -> None:
        """What every control does: :meth:`show`, or say in words why not and stay as it was."""
        with self._one_at_a_time:
            try:
                self.show(**change)
            except (InvalidValueError, InvalidTypeError) as error:
                self._sync(refused=str(error))

    def _propose_as(self, name: str, value: Any) -> None:
        self.propose(**{name: value})

    def _written(self, name: str, write: Callable[[Any], Any] | None) -> Any:
        value = getattr(self.choice, name)
        return write(value) if write else value

    def _sync(self, refused: str = "") -> None:
        """Let the picture, every control and the table follow the state.

        What was typed and refused stays in its field, to be mended. A control's value comes last: the options
        of a menu and the greatest value of a slider must allow it.
        """
        self._syncing = True
        try:
            if not refused:  # the picture first: it is what one waits for
                self._show_picture()
            for control, traits in self._followed.items():
                for name in sorted(traits, key="value".__eq__):
                    if not (refused and name == "value" and isinstance(control, ipywidgets.Text)):
                        self._put(control, name, traits[name]())
            self._put(self.message, "value", self._message(refused))
            self._show_table()
        finally:
            self._syncing = False

    @staticmethod
    def _put(control: Any, name: str, value: Any) -> None:
        """Set a trait if it differs: one that stays as it is costs no message."""
        current = getattr(control, name)
        if (list(current) if name == "options" else current) != value:
            setattr(control, name, value)

    def _show_picture(self) -> None:
        box = f'<div style="min-width:{self.least_width}px">{self._svg(LIVE, self._ids)}</div>'
        page = f'<div class="tdpkit" style="overflow-x:auto;line-height:normal">{box}</div>'
        self._put(self.picture, "value", page)

    def _show_table(self) -> None:
        self._put(self.table, "value", self._table() if self.table_box.value else "")

    def _message(self, refused: str) -> str:
        if not refused:
            return status(self._note())
        return status(
            f"✗ {refused}. The picture shows the last good {self.good}.",
            ' style="color:var(--jp-error-color1,#a81e37)"',
        )

    # ---- the bundle -------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live view, and for pages without a kernel the opening picture and its text."""
        bundle: dict[str, Any] = dict(self.box._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": self._text(), "image/svg+xml": self._svg(LIGHT)}


# ---- controls and their places -----------------------------------------------------------------------------

LINE = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
"""Layout of a line of controls: what does not fit goes on below."""
LABEL = {"description_width": "48px"}
"""Style of controls in a column: labels of one width."""
WIDE = {"width": "auto", "flex": "1 1 260px"}
"""Layout of a control that takes the room there is."""


def line(*controls: ipywidgets.Widget) -> ipywidgets.HBox:
    """Controls side by side."""
    return ipywidgets.HBox(controls, layout=LINE)


def label(text: str, width: str = "48px") -> ipywidgets.Label:
    """A label in a column with those of the controls (see LABEL)."""
    return ipywidgets.Label(text, layout={"width": width, "display": "flex", "justify_content": "flex-end"})


def status(text: str, attributes: str = "") -> str:
    """`text` as a screen reader announces it when it changes."""
    return f'<span role="status"{attributes}>{escape(text)}</span>'


class RangeControls:
    """Start and end of a range: for each a slider, which counts units, and a field, which is exact.

    They are bound to the fields `start`, `end` and `unit_level` of the exhibit's choice. machine: says the
    geometry of the guest on show and how many frames it has; write: how a field writes a frame. `lines` are
    the two lines of controls; `unit_menu` stands where the exhibit puts it.
    """

    def __init__(
        self,
        exhibit: Exhibit[Any, Any],
        machine: Callable[[], tuple[Geometry, int]],
        write: Callable[[int], str] = format_gfn,
    ) -> None:
        self._exhibit, self._machine = exhibit, machine
        self.unit_menu = ipywidgets.Dropdown(
            options=[("4K", 1)], description="slider unit", layout={"width": "160px"}
        )
        slider = {"readout": False, "layout": WIDE, "style": LABEL}
        self.start_slider = ipywidgets.IntSlider(description="start", **slider)
        self.end_slider = ipywidgets.IntSlider(description="end", **slider)
        self.start_text = address_field("start address", "0x200 or 2M+4K")
        self.end_text = address_field("end address", "0x400 or 4M")
        self.lines = (line(self.start_slider, self.start_text), line(self.end_slider, self.end_text))
        exhibit.follow(self.unit_menu, options=self._units)
        exhibit.bind(unit_level=self.unit_menu)
        exhibit.bind(write, start=self.start_text, end=self.end_text)
        for name, slider in (("start", self.start_slider), ("end", self.end_slider)):
            exhibit.observe(slider, partial(self._slid, name))
            exhibit.follow(slider, max=self._most, value=partial(self._place, name))

    def _units(self) -> list[tuple[str, int]]:
        geometry, _ = self._machine()
        return [(geometry.level(n).label, n) for n in range(1, geometry.max_leaf_level + 1)]

    def _unit(self) -> int:
        unit_level: int = self._exhibit.choice.unit_level
        return self._machine()[0].pages(unit_level)

    def _most(self) -> int:
        return -(-self._machine()[1] // self._unit())

    def _place(self, name: str) -> int:
        frame: int = getattr(self._exhibit.choice, name)
        return min(frame // self._unit(), self._most())

    def _slid(self, name: str, units: int) -> None:
        """A slider's last place is the guest's end, wherever in a unit that lies."""
        self._exhibit.propose(**{name: min(units * self._unit(), self._machine()[1])})


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
