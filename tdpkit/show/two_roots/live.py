"""Two trees side by side, live: which roots an operation asks for, and which tree it then reaches."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

import ipywidgets

from tdpkit.engine.gfn import X86_5LEVEL, format_gfn, name_gfn, parse_gfn
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, RootsOutcome, ask

from ..drawing import Picture, Track
from ..exhibit import Exhibit, address_field, line
from ..handles import slider
from ..theme import Palette
from .picture import two_trees_svg, two_trees_table, two_trees_text

KIND_LABELS = {"TD": "TD", "plain": "plain VM"}
OPERATION_LABELS = {
    "split": "split what crosses the edges (v3)",
    "zap": "zap (unmap the range)",
    "dirty-log split": "dirty-log split",
    "split in mirror roots": "split in mirror roots",
    "split at root.hpa": "split at root.hpa (RFC v5 41)",
}


class TwoTrees(Exhibit[Question, RootsOutcome]):
    """The exhibit. Display it; or read `choice` and `outcome`, and change it with `show`.

    Arguments, here and for `show`, are the fields of :class:`~tdpkit.lab.two_roots.Question`; a frame may be
    text that :func:`~tdpkit.engine.gfn.parse_gfn` reads. Raises InvalidValueError or InvalidTypeError for
    whatever breaks a rule.
    """

    prefix = "tt"
    good = "question"
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
        self.gfn_text = address_field("frame g", "0x322a84d or 200G+680M")
        self.gfn_text.style = {"description_width": "auto"}
        self.gfn_text.layout.width = "210px"
        self.operation_menu = ipywidgets.Dropdown(
            options=[(OPERATION_LABELS[name], name) for name in OPERATIONS],
            description="operation",
            layout={"width": "auto", "flex": "0 1 290px"},
            style={"description_width": "auto"},
        )
        self.kind_buttons = ipywidgets.ToggleButtons(
            options=[(text, kind) for kind, text in KIND_LABELS.items()],
            tooltips=["a trust domain: a direct and a mirror root", "a plain VM: a direct root"],
            style={"button_width": "84px"},
        )
        self.level_buttons = ipywidgets.ToggleButtons(
            options=[("4", 4), ("5", 5)],
            tooltips=[
                "4 levels, GPAW 0: a TD's shared bit is 47",
                "5 levels, GPAW 1: a TD's shared bit is 51",
            ],
            style={"button_width": "36px"},
        )
        self.bind(format_gfn, gfn=self.gfn_text)
        self.bind(kind=self.kind_buttons, root_level=self.level_buttons, operation=self.operation_menu)
        self.spots = {"filter": self._flip_bit, "vm": self._come_or_go}
        self.moving["gfn"] = lambda: self.outcome.gfn
        for level in range(1, X86_5LEVEL.root_level + 1):
            self.tracks[f"level {level}"] = partial(self._along, level)
        kind, levels = ipywidgets.Label("kind of VM"), ipywidgets.Label("levels")
        return (
            line(self.gfn_text, self.operation_menu, kind, self.kind_buttons, levels, self.level_buttons),
        )

    def _flip_bit(self, half: str) -> None:
        bits = FILTERS[self.choice.filter] ^ FILTERS[half]
        self.propose(filter=next(name for name, value in FILTERS.items() if value == bits))

    def _come_or_go(self, what: str) -> None:
        asked = self.choice
        change: dict[str, dict[str, Any]] = {
            "leaf": {"shared_leaf": not asked.shared_leaf},
            "invalid": {"invalid_root": not asked.invalid_root},
            "mirror": {"kind": "plain" if asked.kind == "TD" else "TD"},
        }
        self.propose(**change[what])

    def _along(self, level: int, track: Track, number: int) -> list[dict[str, Any]]:
        """A slider for g along a strip: it goes from one entry to the next, its other indices stay."""
        (first, _), (end, _) = track.knots
        pages = X86_5LEVEL.pages(level)
        what, text = f"frame g, by {format_gfn(pages)}", name_gfn(self.outcome.gfn)
        by = {"snap": pages, "step": pages, "page": 16 * pages}
        return [slider(track, number, "cursor", what, text, first, end - pages, of="gfn", **by)]

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return two_trees_svg(self.state, palette, ids)

    def _text(self) -> str:
        return two_trees_text(self.state)

    def _table(self) -> str:
        return two_trees_table(self.state)
