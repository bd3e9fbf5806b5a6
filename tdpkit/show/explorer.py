"""The boundary explorer, live: drag a range over a guest, see which leaf crosses an edge and what it costs.

Its state is a preset, a kind of VM, a range and an action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError, format_gfn
from tdpkit.lab.guest import VM_KINDS, Guest

from .boundary import BoundaryState, boundary_state
from .boundary_svg import boundary_svg, boundary_table, boundary_text
from .exhibit import Exhibit, address_field, as_frame, line
from .theme import Palette


class Preset(NamedTuple):
    """A guest to explore: its name in the menu, its layout (tdpkit.lab.guest.LAYOUTS), its opening state."""

    title: str
    layout: str
    kind: str
    start: str
    end: str
    unit_level: int


PRESETS = {
    "toy": Preset("toy: 32 frames, every byte visible", "toy", "TD", "20K", "48K", 1),
    "one-1G": Preset("one 1G leaf, Kai's [1G+1M, 2G)", "one-1G", "plain", "1G+1M", "2G", 2),
    "mixed": Preset("4 GiB of mixed leaves", "mixed", "plain", "6M+12K", "3G+513M", 2),
    "16T": Preset("16 TiB of 2M leaves, the thread's 12 TiB hole", "16T", "TD", "2T+4K", "14T+4K", 3),
}
"""Presets by name; sources: the review thread, M2 (16 TiB) and M10 (1G+1M)."""


class Choice(NamedTuple):
    """What the controls say: all that the state follows from."""

    preset: str
    kind: str
    start: str | int
    end: str | int
    action: str
    unit_level: int


def _opening(preset: str) -> Choice:
    if preset not in PRESETS:
        raise InvalidValueError(f"a preset is one of {', '.join(PRESETS)}; {preset!r} is none")
    _, _, kind, start, end, unit_level = PRESETS[preset]
    return Choice(preset, kind, start, end, "look", unit_level)


ACTION_LABELS = {"look": "look", "zap": "zap without split", "split": "split", "split+zap": "split, then zap"}
KIND_LABELS = {"TD": "TD", "plain": "plain VM"}


class BoundaryExplorer(Exhibit):
    """The exhibit. Display it; or read `state`, and change it with :meth:`show`.

    preset: a name in PRESETS. Raises InvalidValueError for what breaks a rule, as :meth:`show` does.
    """

    prefix = "be"
    good = "range"

    def __init__(self, preset: str = "toy") -> None:
        self._guests: dict[tuple[str, str], Guest] = {}
        super().__init__()
        self._connect()
        self.show(preset=preset)

    # ---- the state --------------------------------------------------------------------------------------

    def show(  # type: ignore[override]  # the base class leaves the names open
        self,
        *,
        preset: str | None = None,
        kind: str | None = None,
        start: str | int | None = None,
        end: str | int | None = None,
        action: str | None = None,
        unit_level: int | None = None,
    ) -> None:
        """Go to another state; what is not named stays (a new preset opens in its own state).

        start, end: frames as an integer, or text as :func:`~tdpkit.engine.gfn.parse_gfn` reads it. Raises
        InvalidValueError or InvalidTypeError for what breaks a rule; the state is then the one before.
        """
        changes: dict[str, Any] = {
            "kind": kind,
            "start": start,
            "end": end,
            "action": action,
            "unit_level": unit_level,
        }
        before = self.choice if preset is None else _opening(preset)
        choice = before._replace(**{name: value for name, value in changes.items() if value is not None})
        guest = self._guest(PRESETS[choice.preset].layout, choice.kind)
        unit = guest.geometry.level(choice.unit_level)
        if unit.number > guest.geometry.max_leaf_level:
            raise InvalidValueError(f"a slider moves by leaves of this guest; none has {unit.label}")
        state = boundary_state(guest, as_frame(choice.start), as_frame(choice.end), choice.action)
        self.choice: Choice = choice._replace(start=state.outcome.span.start, end=state.outcome.span.end)
        self.guest: Guest = guest
        self.state: BoundaryState = state
        self._sync()

    @property
    def preset(self) -> str:
        """The name of the preset on show."""
        return self.choice.preset

    @property
    def unit_level(self) -> int:
        """The level whose leaf is the sliders' unit."""
        return self.choice.unit_level

    def _guest(self, layout: str, kind: str) -> Guest:
        if (layout, kind) not in self._guests:
            self._guests[layout, kind] = Guest(layout, kind)
        return self._guests[layout, kind]

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
        wide = ipywidgets.Layout(width="auto", flex="1 1 260px")
        label = {"description_width": "48px"}
        self.preset_menu = ipywidgets.Dropdown(
            options=[(preset.title, name) for name, preset in PRESETS.items()],
            description="guest",
            layout=wide,
            style=label,
        )
        self.kind_buttons = ipywidgets.ToggleButtons(
            options=[(KIND_LABELS[kind], kind) for kind in VM_KINDS],
            tooltips=["a trust domain: frames outside are lost", "a plain VM: frames outside are re-faulted"],
            style={"button_width": "84px"},
        )
        self.unit_menu = ipywidgets.Dropdown(
            options=[("4K", 1)], description="slider unit", layout=ipywidgets.Layout(width="160px")
        )
        slider = {"readout": False, "layout": wide, "style": label}
        self.start_slider = ipywidgets.IntSlider(description="start", **slider)
        self.end_slider = ipywidgets.IntSlider(description="end", **slider)
        self.start_text = address_field("start address", "0x200 or 2M+4K")
        self.end_text = address_field("end address", "0x400 or 4M")
        self.action_buttons = ipywidgets.ToggleButtons(
            options=[(text, action) for action, text in ACTION_LABELS.items()],
            tooltips=[f"action: {text}" for text in ACTION_LABELS.values()],
            style={"button_width": "auto"},
        )
        self.back_button = ipywidgets.Button(
            description="back", tooltip="back to the guest before the action", layout={"width": "72px"}
        )
        narrow = ipywidgets.Layout(width="48px", display="flex", justify_content="flex-end")
        return (
            line(self.preset_menu, ipywidgets.Label("VM"), self.kind_buttons, self.unit_menu),
            line(self.start_slider, self.start_text),
            line(self.end_slider, self.end_text),
            line(ipywidgets.Label("action", layout=narrow), self.action_buttons, self.back_button),
        )

    def _connect(self) -> None:
        handlers: tuple[tuple[Any, Callable[[Any], None]], ...] = (
            (self.preset_menu, lambda new: self.propose(preset=new)),
            (self.kind_buttons, lambda new: self.propose(kind=new)),
            (self.unit_menu, lambda new: self.propose(unit_level=new)),
            (self.start_slider, lambda new: self.propose(start=new * self._unit)),
            (self.end_slider, lambda new: self.propose(end=min(new * self._unit, self.guest.frames))),
            (self.start_text, lambda new: self.propose(start=new)),
            (self.end_text, lambda new: self.propose(end=new)),
            (self.action_buttons, lambda new: self.propose(action=new)),
        )
        for control, handler in handlers:
            self._observe(control, handler)
        self.back_button.on_click(lambda _: self.propose(action="look"))

    @property
    def _unit(self) -> int:
        return self.guest.geometry.pages(self.unit_level)

    def _follow(self, refused: bool) -> None:
        state, span = self.state, self.state.outcome.span
        levels = range(1, self.guest.geometry.max_leaf_level + 1)
        self._set(self.unit_menu, options=[(self.guest.geometry.level(n).label, n) for n in levels])
        self._set(self.preset_menu, value=self.preset)
        self._set(self.kind_buttons, value=state.kind)
        self._set(self.unit_menu, value=self.unit_level)
        units = -(-self.guest.frames // self._unit)
        for slider, text, frame in (
            (self.start_slider, self.start_text, span.start),
            (self.end_slider, self.end_text, span.end),
        ):
            self._set(slider, max=units, value=frame // self._unit)
            if not refused:
                self._set(text, value=format_gfn(frame))
        self._set(self.action_buttons, value=state.outcome.action)
        self._set(self.back_button, disabled=state.outcome.action == "look")

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return boundary_svg(self.state, palette, ids)

    def _text(self) -> str:
        return boundary_text(self.state)

    def _table(self) -> str:
        return boundary_table(self.state)
