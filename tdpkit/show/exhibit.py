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
from tdpkit.lab.words import Names, check_flag, known_name, listed

from .drawing import WIDTH, Picture, Track
from .handles import Handles, slider, spot
from .outputs import display_live
from .theme import LIGHT, LIVE, LIVE_STYLE, Palette, still

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
    reads: ClassVar[Mapping[str, Callable[[str], int]]] = {"start": parse_gfn, "end": parse_gfn}
    """Fields of the choice that hold a number and take text as well, and what reads the text."""
    least_frames: ClassVar[int] = 1
    """Where edges are dragged: the frames that stay between them."""
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
        self.tracks: dict[str, Callable[[Track, int], list[dict[str, Any]]]] = {}
        """By the name of a track in the picture: the sliders on it (tdpkit.show.handles.slider)."""
        self.spots: dict[str, Callable[[str], object]] = {}
        """By what stands before the colon in a spot's name: what pressing it does with what stands after."""
        self.moving: dict[str, Callable[[], int]] = {}
        """By the name of a field: its value, which sliders on the picture show and propose."""
        self.drawn: Picture
        """The picture on show."""
        self.head = ipywidgets.HTML(layout={"width": "100%"})
        self.picture = ipywidgets.HTML()
        self.handles = Handles()
        self.table_box = ipywidgets.Checkbox(description="the same as a table", indent=False)
        self.table = ipywidgets.HTML()
        self._ids = f"{self.prefix}-{self.picture.model_id[:8]}"
        self.box = self._framed(self._controls())
        self.table_box.observe(lambda _: self._show_table(), names="value")
        self.observe(self.handles, self._asked, names="ask")
        self.show(**change)

    # ---- for each exhibit to say --------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        """Make and bind the controls; they stand above the answer and the picture, in this order."""
        raise NotImplementedError

    def _state_of(self, choice: C) -> S:
        """The state that follows from `choice`; raises InvalidValueError or InvalidTypeError if none does.

        `choice` and `state` are still the old ones. An exhibit that keeps more than these two sets it last,
        when nothing can raise any more.
        """
        raise NotImplementedError

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
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
        """A remark on a good state that stands after the answer."""
        return ""

    def _framed(self, controls: Iterable[ipywidgets.Widget]) -> ipywidgets.VBox:
        style = ipywidgets.HTML(LIVE_STYLE, layout={"display": "none"})
        stage = ipywidgets.Box([self.picture, self.handles])
        stage.add_class("tdpkit-stage")
        return ipywidgets.VBox([style, *controls, self.head, stage, self.table_box, self.table])

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

    def observe(
        self, control: ipywidgets.Widget, handler: Callable[[Any], None], names: str = "value"
    ) -> None:
        """Call `handler` with each new value; a control that follows the state does not propose it again."""

        def on_change(change: Any) -> None:
            with self._one_at_a_time:
                if not self._syncing:
                    handler(change["new"])

        control.observe(on_change, names=names)

    def press(self, button: ipywidgets.Button, handler: Callable[[], object]) -> None:
        """Call `handler` when `button` is pressed."""

        def on_click(_: Any) -> None:
            with self._one_at_a_time:
                handler()

        button.on_click(on_click)

    def propose(self, **change: Any) -> bool:
        """What every control does: :meth:`show`, or say in words why not and stay as it was.

        Says whether the change was taken.
        """
        with self._one_at_a_time:
            try:
                self.show(**change)
            except (InvalidValueError, InvalidTypeError) as error:
                self._sync(refused=str(error))
                return False
            return True

    def _asked(self, ask: dict[str, Any]) -> None:
        """What the reader did on the picture: something dragged, or something pressed."""
        if "press" in ask:
            what, _, which = ask["press"].partition(":")
            self.spots[what](which)
        else:
            self.propose(**{name: int(ask["set"][name]) for name in self.moving if name in ask["set"]})

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
            self._put(self.handles, "state", self._touched())
            self._put(self.head, "value", self._headed(refused))
            for control, traits in self._followed.items():
                for name in sorted(traits, key="value".__eq__):
                    if not (refused and name == "value" and isinstance(control, ipywidgets.Text)):
                        self._put(control, name, traits[name]())
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
        self.drawn = self._svg(LIVE, self._ids)
        self._put(self.picture, "value", f'<div class="tdpkit">{self.drawn.body}</div>')
        least = f"{-(-WIDTH * SMALLEST // self.drawn.smallest)}px"
        for widget in (self.picture, self.handles):
            self._put(widget.layout, "min_width", least)

    def _touched(self) -> dict[str, Any]:
        """The handles' state: what of the picture can be dragged and pressed."""
        drawn = self.drawn
        sliders = [
            one for number, track in enumerate(drawn.tracks) for one in self.tracks[track.name](track, number)
        ]
        return {
            "view": list(drawn.view),
            "sliders": sliders,
            "spots": [spot(one) for one in drawn.spots],
            "values": {name: str(value()) for name, value in self.moving.items()},
            "least": self.least_frames,
            "answered": self.handles.ask.get("n", 0),
        }

    def _show_table(self) -> None:
        self._put(self.table, "value", self._table() if self.table_box.value else "")

    def _headed(self, refused: str) -> str:
        """Title and answer, as text that wraps; what was refused and why takes the answer's place."""
        drawn = self.drawn
        said = f'<span style="color:{LIVE[drawn.role]}">{escape(drawn.answer)}</span>'
        if refused:
            said = remark(f"✗ {refused}. The picture shows the last good {self.good}.", "bad")
        elif note := self._note():
            said += f" {remark(note)}"
        return (
            f'<div class="tdpkit"><div class="tdpkit-title">{escape(drawn.heading)}</div>'
            f'<div class="tdpkit-answer" role="status">{said}</div></div>'
        )

    # ---- the bundle -------------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        display_live(self.box, self._repr_mimebundle_())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """For pages without a kernel: the picture as it is now, and its text."""
        return {"text/plain": self._text(), "image/svg+xml": still(self._svg(LIGHT))}


SMALLEST = 11
"""Pixels: no text is drawn smaller; on a narrower page the picture is scrolled sideways."""

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


def fold(
    exhibit: Exhibit[Any, Any], title: str, in_use: Callable[[], bool], *controls: ipywidgets.Widget
) -> tuple[ipywidgets.ToggleButton, ipywidgets.HBox]:
    """A button, and controls that are shown while it is pressed; it is, while what they say is `in_use`."""
    button = ipywidgets.ToggleButton(description=title, layout={"width": "auto"})
    inside = line(*controls)
    pressed = False

    def press(value: bool) -> None:
        nonlocal pressed
        pressed = value
        exhibit.show()

    exhibit.observe(button, press)
    exhibit.follow(button, value=lambda: pressed or in_use())
    exhibit.follow(inside.layout, display=lambda: "" if pressed or in_use() else "none")
    return button, inside


def remark(text: str, role: str = "ink") -> str:
    """`text` as it stands in an exhibit's head, in the colour of `role`."""
    return f'<span class="tdpkit-remark" style="color:{LIVE[role]}">{escape(text)}</span>'


class RangeControls:
    """Start and end of a range: dragged on the picture, and typed in a field for each, which is exact.

    They are bound to the fields `start`, `end` and `unit_level` of the exhibit's choice. machine: says the
    geometry of the guest on show and how many frames it has; write: how a field writes a frame. On tracks
    named "range" both edges and all of it are dragged, on those named "start" or "end" that edge.
    """

    def __init__(
        self,
        exhibit: Exhibit[Any, Any],
        machine: Callable[[], tuple[Geometry, int]],
        write: Callable[[int], str] = format_gfn,
    ) -> None:
        self._exhibit, self._machine, self._write = exhibit, machine, write
        self._refused: dict[str, str] = {}
        self.start_text = address_field("start", "0x200 or 2M+4K")
        self.end_text = address_field("end", "0x400 or 4M")
        self.unit_menu = ipywidgets.Dropdown(
            options=[("4K", 1)],
            description="moves by",
            tooltip="an edge moves by leaves of this size; with Shift by the next larger",
            layout={"width": "180px"},
            style={"description_width": "auto"},
        )
        self.controls = (self.start_text, self.end_text, self.unit_menu)
        exhibit.follow(self.unit_menu, options=self._units)
        exhibit.bind(unit_level=self.unit_menu)
        for name, field in (("start", self.start_text), ("end", self.end_text)):
            exhibit.observe(field, partial(self._typed, name))
            exhibit.follow(field, value=partial(self._written, name))
            exhibit.moving[name] = partial(self._frame, name)
            exhibit.tracks[name] = partial(self._edges, (name,))
        exhibit.tracks["range"] = partial(self._edges, ("span", "start", "end"))

    def _units(self) -> list[tuple[str, int]]:
        geometry, _ = self._machine()
        return [(self._names.size(geometry.pages(n)), n) for n in range(1, geometry.max_leaf_level + 1)]

    @property
    def _names(self) -> Names:
        """As the fields write a frame: by number on a toy."""
        return Names(self._machine()[0], toy=self._write(1) == "1")

    def _frame(self, name: str) -> int:
        frame: int = getattr(self._exhibit.choice, name)
        return frame

    def _written(self, name: str) -> str:
        # Only a state that was taken is written into the fields: what was refused before is gone from them.
        self._refused.clear()
        return self._write(self._frame(name))

    def _typed(self, name: str, text: str) -> None:
        """Propose one edge; and the other with it, if that was refused, perhaps because of this one."""
        other = "end" if name == "start" else "start"
        kept = {other: self._refused[other]} if other in self._refused else {}
        if kept:
            try:
                self._exhibit.show(**{name: text}, **kept)
                return
            except (InvalidValueError, InvalidTypeError):
                pass  # this one alone, then
        if not self._exhibit.propose(**{name: text}):
            self._refused = {name: text, **kept}

    def _edges(self, kinds: Iterable[str], track: Track, number: int) -> list[dict[str, Any]]:
        """Sliders of these kinds along `track`: an edge goes as far as the track and the other's room allow.

        A key moves by the unit, and the pointer by what can be told apart on the track, if that is more.
        """
        geometry, frames = self._machine()
        unit_level: int = self._exhibit.choice.unit_level
        (first, left), (last, right) = track.knots[0], track.knots[-1]
        step = geometry.pages(unit_level)
        sizes = (geometry.pages(level) for level in range(1, geometry.root_level + 1))
        snap = max([1, *(size for size in sizes if size * (right - left) <= last - first)])
        page = min(geometry.pages(unit_level + 1), frames)
        start, end, least = self._frame("start"), self._frame("end"), self._exhibit.least_frames
        names, last = self._names, min(last, frames)
        # Where a root ends no range starts, not even an empty one.
        most = min(last - least, geometry.root_pages - 1)
        both = min(frames, most + end - start)
        reach = {
            "span": (0, both, "the whole range", names.span(start, end)),
            "start": (first, most, "start of the range", names.frame(start)),
            "end": (first + least, last, "end of the range", names.frame(end)),
        }
        if track.keyed:  # a lens is for what is smaller than the unit
            snap = max(snap, step)
        return [
            slider(track, number, kind, label, text, low, high, snap=snap, step=step, page=page)
            for kind in kinds
            for low, high, label, text in [reach[kind]]
        ]


def check_unit(geometry: Geometry, unit_level: int) -> None:
    """Raises InvalidValueError unless the machine may have leaves of `unit_level`."""
    unit = geometry.level(unit_level)
    if unit.number > geometry.max_leaf_level:
        raise InvalidValueError(f"a slider moves by leaves of this guest; none has {unit.label}")


def address_field(what: str, placeholder: str) -> ipywidgets.Text:
    """A field to type an address into, taken when it is left or Enter is pressed."""
    return ipywidgets.Text(
        description=what,
        placeholder=placeholder,
        tooltip=f"{what} address: a frame number (0x200) or a size (2M+4K)",
        continuous_update=False,
        layout={"width": "200px"},
        style=LABEL,
    )
