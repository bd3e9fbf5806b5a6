"""The strategy race, live: every way to make the edges of a range safe, side by side on one guest.

Its state is a guest, a range, the order of the rows, and the row whose calls are written out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import GfnRange, InvalidValueError

from ..exhibit import LABEL, WIDE, Exhibit, RangeControls, as_frame, check_unit, line
from ..theme import Palette
from .picture import race_svg, race_table, race_text
from .rows import GUESTS, OPENING_ROWS, Rows, guest_of, rows_of, rule_of
from .state import ORDERS, Race, RaceState, Track, run_race
from .words import RaceWords, race_words


class Choice(NamedTuple):
    """What the controls say: all that the state follows from."""

    guest: str
    start: str | int
    end: str | int
    order: str
    selected: str
    unit_level: int


class StrategyRace(Exhibit):
    """The exhibit. Display it; or read `state` and `words`, and change it with :meth:`show`.

    guest: a name in GUESTS. rows: who races, names of tdpkit.lab.strategies.STRATEGIES, or a dict of
    strategies (a function of a geometry and a range that returns Calls) by name. Further arguments as
    :meth:`show` takes them. Raises InvalidValueError or InvalidTypeError for what breaks a rule.
    """

    prefix = "sr"
    good = "range"
    least_width = 760

    def __init__(self, guest: str = "16T-2M", *, rows: Rows = OPENING_ROWS, **change: Any) -> None:
        self.strategies = rows_of(rows)
        self._tracks: dict[str, Track] = {}
        first = next(iter(self.strategies))
        self.choice = self._opening(guest)._replace(order=ORDERS[0], selected=first)
        super().__init__()
        self._connect()
        self.show(guest=guest, **change)

    # ---- the state --------------------------------------------------------------------------------------

    def show(  # type: ignore[override]  # the base class leaves the names open
        self,
        *,
        guest: str | None = None,
        start: str | int | None = None,
        end: str | int | None = None,
        order: str | None = None,
        selected: str | None = None,
        unit_level: int | None = None,
    ) -> None:
        """Go to another state; what is not named stays (a new guest opens with its own range).

        start, end: frames as an integer, or text as :func:`~tdpkit.engine.gfn.parse_gfn` reads it; they may
        be the same. order: of ORDERS; naming it, or a new guest, sorts the rows, and a new range leaves them
        where they are. selected: the name of a row. Raises InvalidValueError or InvalidTypeError for what
        breaks a rule; the state is then the one before.
        """
        changes: dict[str, Any] = {
            "start": start,
            "end": end,
            "order": order,
            "selected": selected,
            "unit_level": unit_level,
        }
        before = self.choice if guest is None else self._opening(guest)
        choice = before._replace(**{name: value for name, value in changes.items() if value is not None})
        if choice.order not in ORDERS:
            raise InvalidValueError(f"an order is one of {', '.join(ORDERS)}; {choice.order!r} is none")
        if choice.selected not in [*self.strategies]:
            raise InvalidValueError(
                f"a row is one of {', '.join(self.strategies)}; {choice.selected!r} is none"
            )
        check_unit(guest_of(choice.guest).layout.geometry, choice.unit_level)
        race = self._race(choice)
        rows, sorted_for = tuple(self.strategies), None
        if choice.order == "by visits":
            anew = guest is not None or order is not None
            rows, sorted_for = (
                (race.by_visits(), race.span) if anew else (self.state.order, self.state.sorted_for)
            )
        self.choice = choice._replace(start=race.span.start, end=race.span.end)
        self.state: RaceState = RaceState(race, rows, sorted_for, choice.selected)
        self._sync()

    def _opening(self, guest: str) -> Choice:
        """A guest with its own range; order and row stay."""
        _, _, start, end, unit_level = guest_of(guest)
        before = getattr(self, "choice", None)
        order, selected = (before.order, before.selected) if before else (ORDERS[0], "")
        return Choice(guest, start, end, order, selected, unit_level)

    def _race(self, choice: Choice) -> Race:
        """The race that is on show, if it is for this guest and range; else a new one."""
        start, end = as_frame(choice.start), as_frame(choice.end)
        state: RaceState | None = getattr(self, "state", None)
        if state and choice.guest == self.guest and GfnRange(start, end) == state.race.span:
            return state.race
        if choice.guest not in self._tracks:
            self._tracks[choice.guest] = Track(GUESTS[choice.guest].layout)
        return run_race(self._tracks[choice.guest], self.strategies, start, end)

    @property
    def words(self) -> RaceWords:
        """Title, answer, notes and legend of the state, as the picture says them."""
        return race_words(self.state)

    @property
    def guest(self) -> str:
        """The name of the guest on show."""
        return self.choice.guest

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
        self.guest_menu = ipywidgets.Dropdown(
            options=[(guest.title, name) for name, guest in GUESTS.items()],
            description="guest",
            layout=WIDE,
            style=LABEL,
        )
        self.range = RangeControls()
        self.order_buttons = ipywidgets.ToggleButtons(
            options=list(ORDERS),
            tooltips=["rows in the order of the argument", "rows that visit fewest entries first"],
            style={"button_width": "auto"},
        )
        geometry = guest_of(self.guest).layout.geometry
        self.row_menu = ipywidgets.Dropdown(
            options=[(rule_of(*item, geometry).title, item[0]) for item in self.strategies.items()],
            description="calls of",
            style={"description_width": "60px"},
            layout={"width": "auto", "flex": "0 1 280px"},
        )
        narrow = ipywidgets.Layout(width="48px", display="flex", justify_content="flex-end")
        return (
            line(self.guest_menu, self.range.unit_menu),
            *self.range.lines,
            line(ipywidgets.Label("order", layout=narrow), self.order_buttons, self.row_menu),
        )

    def _connect(self) -> None:
        self.proposes(guest=self.guest_menu, order=self.order_buttons, selected=self.row_menu)
        self.range.connect(self)

    def _follow(self, refused: bool) -> None:
        race, choice = self.state.race, self.choice
        self.range.follow(race.geometry, race.frames, race.span, choice.unit_level, refused=refused)
        self.put(self.guest_menu, value=choice.guest)
        self.put(self.order_buttons, value=choice.order)
        self.put(self.row_menu, options=[(row.rule.title, row.name) for row in race.rows])
        self.put(self.row_menu, value=choice.selected)

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return race_svg(self.state, palette, ids)

    def _text(self) -> str:
        return race_text(self.state)

    def _table(self) -> str:
        return race_table(self.state)
