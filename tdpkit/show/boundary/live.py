"""The boundary explorer, live: drag a range over a guest, see which leaf crosses an edge and what it costs.

It opens on one of four presets; kind of VM, range and action can then be changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import parse_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest

from ..drawing import Picture
from ..exhibit import LABEL, WIDE, Exhibit, RangeControls, check_unit, label, line
from ..theme import TURNING, Palette
from .picture import boundary_svg, boundary_table, boundary_text
from .state import BoundaryState, boundary_state
from .words import BoundaryWords, boundary_words


class ExplorerPreset(NamedTuple):
    """A guest to explore: its name in the menu, its layout (tdpkit.lab.layouts) and its opening state."""

    title: str
    layout: str
    kind: str
    start: str
    end: str
    unit_level: int


PRESETS = {
    "toy": ExplorerPreset("toy: 32 frames, every byte visible", "toy", "TD", "5", "12", 1),
    "one-1G": ExplorerPreset("one 1G leaf, Kai's [1G+1M, 2G)", "one-1G", "plain", "1G+1M", "2G", 2),
    "mixed": ExplorerPreset("4 GiB of mixed leaves", "mixed", "plain", "6M+12K", "3G+513M", 2),
    "16T": ExplorerPreset("16 TiB of 2M leaves, the thread's 12 TiB", "16T", "TD", "2T+4K", "14T+4K", 3),
}
"""Presets by name. The sizes of the last are M2's, its addresses and leaves ours (S122). The range
[1G+1M, 2G) is K2's, to which M10 refers, and the 1G leaf under it ours.
"""


class ExplorerChoice(NamedTuple):
    """The preset, and what the learner made of it. unit_level: a slider moves by leaves of this level."""

    preset: str
    kind: str
    start: int
    end: int
    action: str
    unit_level: int


def opening_of(preset: str) -> ExplorerChoice:
    """The choice that a preset opens with."""
    _, _, kind, start, end, unit_level = PRESETS[preset]
    return ExplorerChoice(preset, kind, parse_gfn(start), parse_gfn(end), "look", unit_level)


ACTION_LABELS = {"look": "look", "zap": "zap without split", "split": "split", "split+zap": "split, then zap"}
KIND_LABELS = {"TD": "TD", "plain": "plain VM"}


class BoundaryExplorer(Exhibit[ExplorerChoice, BoundaryState]):
    """The exhibit. Display it; or read `choice`, `state`, `words` and `guest`, and change it with `show`.

    preset: a name in PRESETS; `show` takes the fields of ExplorerChoice, a frame also as text that
    :func:`~tdpkit.engine.gfn.parse_gfn` reads. Another preset opens in its own state. Raises
    InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "be"
    good = "range"
    names: ClassVar = {"preset": PRESETS, "kind": VM_KINDS, "action": ACTIONS}

    def __init__(self, preset: str = "toy") -> None:
        self._guest = cache(Guest)
        self._acted = "look"
        super().__init__(opening_of("toy"), preset=preset)

    def _opening(self, change: dict[str, Any]) -> ExplorerChoice:
        return opening_of(change["preset"]) if "preset" in change else self.choice

    def _state_of(self, choice: ExplorerChoice) -> BoundaryState:
        guest = self._guest(PRESETS[choice.preset].layout, choice.kind)
        check_unit(guest.geometry, choice.unit_level)
        return boundary_state(guest, choice.start, choice.end, choice.action)

    @property
    def words(self) -> BoundaryWords:
        """Title, answer, captions and counters of the state, as the picture says them."""
        return boundary_words(self.state)

    @property
    def guest(self) -> Guest:
        """The guest on show, before the action."""
        return self._guest(PRESETS[self.choice.preset].layout, self.choice.kind)

    def _controls(self) -> Iterable[ipywidgets.Widget]:
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
        self.range = RangeControls(
            self,
            lambda: (self.guest.geometry, self.guest.frames),
            lambda frame: self.state.names.frame(frame),
        )
        self.action_buttons = ipywidgets.ToggleButtons(
            options=[(text, action) for action, text in ACTION_LABELS.items()],
            tooltips=[f"action: {text}" for text in ACTION_LABELS.values()],
            style={"button_width": "auto"},
        )
        self.back_button = ipywidgets.Button(
            description="back", tooltip="back to the guest before the action", layout={"width": "72px"}
        )
        self.bind(preset=self.preset_menu, kind=self.kind_buttons, action=self.action_buttons)
        self.press(self.back_button, lambda: self.propose(action="look"))
        self.follow(self.back_button, disabled=lambda: self.choice.action == "look")
        return (
            line(self.preset_menu, ipywidgets.Label("VM"), self.kind_buttons),
            line(*self.range.controls),
            line(label("action"), self.action_buttons, self.back_button),
        )

    def _show_picture(self) -> None:
        """Let the bytes turn if it was the action that changed them."""
        turn = self.picture.add_class if self.choice.action != self._acted else self.picture.remove_class
        turn(TURNING)
        self._acted = self.choice.action
        super()._show_picture()

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return boundary_svg(self.state, palette, ids)

    def _text(self) -> str:
        return boundary_text(self.state)

    def _table(self) -> str:
        return boundary_table(self.state)
