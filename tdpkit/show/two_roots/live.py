"""Two trees side by side, live: which roots an operation asks for, and which tree it then reaches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import ipywidgets

from tdpkit.engine.gfn import format_gfn, parse_gfn
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, RootsOutcome, ask

from ..exhibit import Exhibit, address_field, label, line
from ..theme import Palette
from .picture import two_trees_svg, two_trees_table, two_trees_text

KIND_LABELS = {"TD": "TD", "plain": "plain VM"}
OPERATION_LABELS = {
    "split": "split what crosses the edges (v3)",
    "zap": "zap (unmap the range)",
    "dirty-log split": "dirty-log split",
    "split in mirror roots": "split in mirror roots",
    "split at root.hpa": "split at root.hpa (RFC v5 41, as posted)",
}


class TwoTrees(Exhibit[Question, RootsOutcome]):
    """The exhibit. Display it; or read `choice` and `outcome`, and change it with `show`.

    Arguments, here and for `show`, are the fields of :class:`~tdpkit.lab.two_roots.Question`; a frame may be
    text that :func:`~tdpkit.engine.gfn.parse_gfn` reads. Raises InvalidValueError or InvalidTypeError for
    whatever breaks a rule.
    """

    prefix = "tt"
    good = "question"
    least_width = 560
    reads: ClassVar = {"gfn": parse_gfn}

    def __init__(self, **question: Any) -> None:
        super().__init__(Question(), **question)

    def _state_of(self, choice: Question) -> RootsOutcome:
        return ask(choice)

    @property
    def outcome(self) -> RootsOutcome:
        """The answer: what the operation does in each tree."""
        return self.state

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.gfn_text = address_field("the frame g", "0x322a84d or 200G+680M")
        self.gfn_text.description = "frame g"
        self.gfn_text.style = {"description_width": "64px"}
        self.gfn_text.layout.width = "290px"
        self.kind_buttons = ipywidgets.ToggleButtons(
            options=[(text, kind) for kind, text in KIND_LABELS.items()],
            tooltips=["a trust domain: a direct and a mirror root", "a plain VM: a direct root"],
            style={"button_width": "84px"},
        )
        self.level_buttons = ipywidgets.ToggleButtons(
            options=[("4 levels", 4), ("5 levels", 5)],
            tooltips=["GPAW 0: a TD's shared bit is 47", "GPAW 1: a TD's shared bit is 51"],
            style={"button_width": "76px"},
        )
        self.operation_menu = ipywidgets.Dropdown(
            options=[(OPERATION_LABELS[name], name) for name in OPERATIONS],
            description="operation",
            layout={"width": "auto", "flex": "0 1 420px"},
            style={"description_width": "64px"},
        )
        self.filter_radio = ipywidgets.RadioButtons(
            options=[(f"{name} ({value})", name) for name, value in FILTERS.items()],
            tooltip="filter: the half of the memory that is meant",
            orientation="horizontal",
            layout={"width": "auto", "height": "30px", "overflow": "hidden"},
        )
        box = {"width": "auto", "margin": "2px 18px 2px 2px"}
        self.shared_box = ipywidgets.Checkbox(
            description="a shared 2M leaf at g too", indent=False, layout=box
        )
        self.invalid_box = ipywidgets.Checkbox(
            description="an invalid direct root, after a fast zap-all", indent=False, layout=box
        )
        self.bind(format_gfn, gfn=self.gfn_text)
        self.bind(
            kind=self.kind_buttons,
            root_level=self.level_buttons,
            operation=self.operation_menu,
            filter=self.filter_radio,
            shared_leaf=self.shared_box,
            invalid_root=self.invalid_box,
        )
        self.follow(self.shared_box, disabled=lambda: self.choice.kind != "TD")
        return (
            line(self.gfn_text, ipywidgets.Label("VM"), self.kind_buttons, self.level_buttons),
            line(label("and", "64px"), self.shared_box, self.invalid_box),
            line(self.operation_menu),
            line(label("filter", "64px"), self.filter_radio),
        )

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return two_trees_svg(self.state, palette, ids)

    def _text(self) -> str:
        return two_trees_text(self.state)

    def _table(self) -> str:
        return two_trees_table(self.state)
