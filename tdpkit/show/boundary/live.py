"""The boundary explorer, live: drag a range over a guest, see which leaf crosses an edge and what it costs.

Its state is a preset, a kind of VM, a range and an action.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.guest import VM_KINDS, Guest

from ..exhibit import LABEL, WIDE, Exhibit, RangeControls, as_frame, check_unit, line
from ..theme import Palette
from .picture import boundary_svg, boundary_table, boundary_text
from .state import BoundaryState, boundary_state


class Preset(NamedTuple):
    """A guest to explore: its name in the menu, its layout (tdpkit.lab.layouts) and its opening state."""

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
        check_unit(guest.geometry, choice.unit_level)
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
        self.preset_menu = ipywidgets.Dropdown(
            options=[(preset.title, name) for name, preset in PRESETS.items()],
            description="guest",
            layout=WIDE,
            style=LABEL,
        )
        self.kind_buttons = ipywidgets.ToggleButtons(
            options=[(KIND_LABELS[kind], kind) for kind in VM_KINDS],
            tooltips=["a trust domain: frames outside are lost", "a plain VM: frames outside are re-faulted"],
            style={"button_width": "84px"},
        )
        self.range = RangeControls()
        self.unit_menu = self.range.unit_menu
        self.start_slider, self.end_slider = self.range.start_slider, self.range.end_slider
        self.start_text, self.end_text = self.range.start_text, self.range.end_text
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
            *self.range.lines,
            line(ipywidgets.Label("action", layout=narrow), self.action_buttons, self.back_button),
        )

    def _connect(self) -> None:
        self.proposes(preset=self.preset_menu, kind=self.kind_buttons, action=self.action_buttons)
        self.range.connect(self)
        self.back_button.on_click(lambda _: self.propose(action="look"))

    def _follow(self, refused: bool) -> None:
        action, span = self.state.outcome.action, self.state.outcome.span
        self.range.follow(self.guest.geometry, self.guest.frames, span, self.unit_level, refused=refused)
        self.put(self.preset_menu, value=self.preset)
        self.put(self.kind_buttons, value=self.state.kind)
        self.put(self.action_buttons, value=action)
        self.put(self.back_button, disabled=action == "look")

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return boundary_svg(self.state, palette, ids)

    def _text(self) -> str:
        return boundary_text(self.state)

    def _table(self) -> str:
        return boundary_table(self.state)
