"""The split budget, live: drag a range, choose leaves, VM and split, and read the pages it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.lab.budget import DYNAMIC, KINDS, SPLITTING
from tdpkit.lab.cache_designs import cache_designs

from ..drawing import Picture
from ..exhibit import LABEL, Exhibit, RangeControls, check_unit, label, line
from ..theme import Palette
from .picture import budget_svg, budget_table, budget_text
from .state import GUESTS, SIZES, BudgetState, budget_state
from .words import KIND_LABELS, SPLIT_LABELS, size_labels


class BudgetChoice(NamedTuple):
    """What the controls say. size: of the leaves; unit_level: an edge moves by leaves of this level."""

    guest: str
    start: int
    end: int
    size: str
    kind: str
    split: str
    unit_level: int


class SplitBudget(Exhibit[BudgetChoice, BudgetState]):
    """The exhibit. Display it; or read `choice` and `state`, and change it with `show`.

    guest: a name in GUESTS. Further arguments, here and for `show`, are the fields of BudgetChoice, a frame
    also as text that :func:`~tdpkit.engine.gfn.parse_gfn` reads. Another guest opens with its own range;
    start and end may be the same. Raises InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "sb"
    good = "range"
    least_frames = 0
    names: ClassVar = {"guest": GUESTS, "size": SIZES, "kind": KINDS, "split": SPLITTING}

    def __init__(self, guest: str = "toy", **change: Any) -> None:
        opening = BudgetChoice(guest, 0, 0, SIZES[0], KINDS[0], SPLITTING[0], 1)
        super().__init__(opening, guest=guest, **change)

    def _opening(self, change: dict[str, Any]) -> BudgetChoice:
        if "guest" not in change:
            return self.choice
        guest = GUESTS[change["guest"]]
        return self.choice._replace(start=guest.start, end=guest.end, unit_level=guest.unit_level)

    def _state_of(self, choice: BudgetChoice) -> BudgetState:
        check_unit(GUESTS[choice.guest].geometry, choice.unit_level)
        designs = cache_designs() if choice.kind == DYNAMIC else ()  # the others have no PAMT cache
        return budget_state(
            choice.guest, choice.size, choice.start, choice.end, choice.kind, choice.split, designs
        )

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.guest_menu = ipywidgets.Dropdown(
            options=[(guest.title, name) for name, guest in GUESTS.items()],
            description="guest",
            layout={"width": "auto", "flex": "1 1 240px"},
            style=LABEL,
        )
        self.size_menu = ipywidgets.Dropdown(
            description="leaves",
            options=[(size, size) for size in SIZES],
            layout={"width": "auto", "flex": "0 1 270px"},
            style={"description_width": "auto"},
        )
        self.range = RangeControls(
            self, lambda: (self.state.layout.geometry, self.state.layout.frames), self._frame
        )
        self.kind_buttons = ipywidgets.ToggleButtons(
            options=[(text, kind) for kind, text in KIND_LABELS.items()],
            tooltips=["page tables only", "an S-EPT page beside each table", "and pairs of PAMT pages"],
            style={"button_width": "auto"},
        )
        self.split_buttons = ipywidgets.ToggleButtons(
            options=[(text, split) for split, text in SPLIT_LABELS.items()],
            tooltips=["only leaves that cross an edge", "each huge leaf of the range, to 4K"],
            style={"button_width": "auto"},
        )
        self.follow(self.size_menu, options=self._sizes)
        self.bind(
            guest=self.guest_menu, size=self.size_menu, kind=self.kind_buttons, split=self.split_buttons
        )
        return (
            line(self.guest_menu, self.size_menu),
            line(*self.range.controls),
            line(
                ipywidgets.HBox([label("VM"), self.kind_buttons]),
                ipywidgets.HBox([label("split"), self.split_buttons]),
            ),
        )

    def _frame(self, frame: int) -> str:
        return self.state.names.frame(frame)

    def _sizes(self) -> list[tuple[str, str]]:
        return [(text, size) for size, text in size_labels(self.state).items()]

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return budget_svg(self.state, palette, ids)

    def _text(self) -> str:
        return budget_text(self.state)

    def _table(self) -> str:
        return budget_table(self.state)
