"""The strategy race, live: every way to make the edges of a range safe, side by side on one guest.

Its choice is a guest, a range, the order of the rows, and the row whose calls are written out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import Geometry, parse_gfn
from tdpkit.lab.words import known_name

from ..drawing import Picture
from ..exhibit import LABEL, WIDE, Exhibit, RangeControls, check_unit, label, line
from ..theme import Palette
from .guests import GUESTS, OPENING_ROWS, Rows, guest_of, rows_of
from .picture import race_svg, race_table, race_text
from .state import ORDERS, Race, RaceState, Track, run_race
from .words import RaceWords, race_words


class RaceChoice(NamedTuple):
    """What the controls say. selected: the row whose calls are written out; unit_level: an edge moves by
    leaves of this level.
    """

    guest: str
    start: int
    end: int
    order: str
    selected: str
    unit_level: int


class StrategyRace(Exhibit[RaceChoice, RaceState]):
    """The exhibit. Display it; or read `choice`, `state` and `words`, and change it with `show`.

    rows: who races, names of tdpkit.lab.strategies.STRATEGIES, or a dict of strategies (a function of a
    geometry and a range that returns PlannedCalls) by name. Further arguments, here and for `show`, are the
    fields of RaceChoice, a frame also as text that :func:`~tdpkit.engine.gfn.parse_gfn` reads. Another guest
    opens with its own range; start and end may be the same. Another guest or another order sorts the rows;
    another range leaves them where they are. Raises InvalidValueError or InvalidTypeError for whatever breaks
    a rule.
    """

    prefix = "sr"
    good = "range"
    least_frames = 0
    names: ClassVar = {"guest": GUESTS, "order": ORDERS}

    def __init__(self, guest: str = "16T-2M", *, rows: Rows = OPENING_ROWS, **change: Any) -> None:
        self.strategies = rows_of(rows)
        self._track = cache(lambda name: Track(guest_of(name).layout))
        self._race = lru_cache(maxsize=1)(self._run)
        opening = RaceChoice(guest, 0, 0, ORDERS[0], next(iter(self.strategies)), 1)
        super().__init__(opening, guest=guest, **change)

    @property
    def words(self) -> RaceWords:
        """Title, answer, notes and legend of the state, as the picture says them."""
        return race_words(self.state)

    def _opening(self, change: dict[str, Any]) -> RaceChoice:
        if "guest" not in change:
            return self.choice
        _, _, start, end, unit_level = guest_of(change["guest"])
        return self.choice._replace(start=parse_gfn(start), end=parse_gfn(end), unit_level=unit_level)

    def _state_of(self, choice: RaceChoice) -> RaceState:
        known_name(choice.selected, self.strategies, "a row")
        check_unit(guest_of(choice.guest).layout.geometry, choice.unit_level)
        race = self._race(choice.guest, choice.start, choice.end)
        rows, sorted_for = tuple(self.strategies), None
        if choice.order == "by visits":
            as_before = (choice.guest, choice.order) == (self.choice.guest, self.choice.order)
            rows, sorted_for = (
                (self.state.order, self.state.sorted_for) if as_before else (race.by_visits(), race.span)
            )
        return RaceState(race, rows, sorted_for, choice.selected)

    def _run(self, guest: str, start: int, end: int) -> Race:
        return run_race(self._track(guest), self.strategies, start, end)

    def _machine(self) -> tuple[Geometry, int]:
        return self.state.race.geometry, self.state.race.frames

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.guest_menu = ipywidgets.Dropdown(
            options=[(guest.title, name) for name, guest in GUESTS.items()],
            description="guest",
            layout=WIDE,
            style=LABEL,
        )
        self.range = RangeControls(self, self._machine, lambda frame: self.state.race.names.frame(frame))
        self.order_buttons = ipywidgets.ToggleButtons(
            options=list(ORDERS),
            tooltips=["rows in the order of the argument", "rows that visit fewest entries first"],
            style={"button_width": "auto"},
        )
        self.bind(guest=self.guest_menu, order=self.order_buttons)
        self.spots["row"] = lambda name: self.propose(selected=name)
        return (
            line(self.guest_menu, label("order"), self.order_buttons),
            line(*self.range.controls, ipywidgets.Label("press a row to read its calls")),
        )

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return race_svg(self.state, palette, ids)

    def _text(self) -> str:
        return race_text(self.state)

    def _table(self) -> str:
        return race_table(self.state)
