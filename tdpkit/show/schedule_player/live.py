"""The schedule player, live: choose what runs at once, and step through a witness or your own schedule."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.schedules import POLICIES, PROPERTIES, SCENARIOS, Setting
from tdpkit.lab.schedules.once import explore_ahead
from tdpkit.lab.schedules.replay import Choice
from tdpkit.lab.schedules.scenarios import LOCKS, OTHERS, PAGES, RANGES
from tdpkit.lab.words import capital

from ..drawing import Picture
from ..exhibit import WIDE, line
from ..stepping import SteppedExhibit
from ..theme import Palette
from .picture import player_svg, player_table, player_text
from .state import (
    EVERY,
    FIRST,
    OWN,
    SAMPLES,
    PlayerState,
    player_state,
    replay_of,
    scenario_of,
    schedules_of,
)
from .words import policy_words, shown_words

_THREADS = 3
"""At most; so many buttons say who moves next."""
_PAIRS = ("split", "zap", "fault")
"""What B does in the menu: with a third thread a search takes seconds, so those come by `show` alone."""
_SPLITS = ("split", "track")
"""Uses in which lock, pages and flush are the reader's choice."""


_LABEL = {"description_width": "60px"}
_MENU = WIDE | {"min_width": "0"}
"""Narrower than its longest line, where the page is."""


class PlayerChoice(NamedTuple):
    """What the controls say: a :class:`~tdpkit.lab.schedules.Setting`, a schedule, and a step of it.

    scenario: the lab's name for the setting, "own" if it has none. shown: where the schedule is from:
    "witness", a property (its witness), a sample's name or "own". schedule: its text.
    """

    scenario: str = OWN
    use: str = "split"
    lock: str = "shared"
    pages: str = "in hand"
    flush: str = "own split"
    other: str = "split"
    ranges: str = "one edge"
    bug: str = "none"
    cache: str = "none"
    pending: bool = True
    tracks: bool = True
    invalidate: bool = True
    resched: bool = False
    shown: str = FIRST
    schedule: str = ""
    step: int = 0

    @property
    def setting(self) -> Setting:
        """The lab's part of the choice."""
        return Setting(*(getattr(self, name) for name in Setting._fields))


class SchedulePlayer(SteppedExhibit[PlayerChoice, PlayerState]):
    """The exhibit. Display it; or read `choice` and `state`, and change it with `show`.

    scenario: a name of tdpkit.lab.schedules.SCENARIOS or THREE. Further arguments, here and for `show`, are
    the fields of PlayerChoice; a schedule may be text, or one that a search found. It opens at its last step.
    Raises InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "sp"
    good = "schedule"
    first_step = 0
    names: ClassVar = {"scenario": (*EVERY, OWN), "shown": (FIRST, *PROPERTIES, *SAMPLES, OWN)}

    def __init__(self, scenario: str = "shared, in hand", **change: Any) -> None:
        self._told = ""
        self._on_page = False
        super().__init__(PlayerChoice(), scenario=scenario, **change)

    # ---- the choice ---------------------------------------------------------------------------------------

    def _opening(self, change: dict[str, Any]) -> PlayerChoice:
        named = EVERY.get(change.get("scenario", OWN))
        return self.choice._replace(**named.setting._asdict()) if named else self.choice

    def _chosen(self, change: dict[str, Any]) -> PlayerChoice:
        choice = super()._chosen(change)
        setting, shown, text, self._told = choice.setting, choice.shown, str(choice.schedule), ""
        schedules = schedules_of(setting)
        if shown in SAMPLES and setting != self.choice.setting and "shown" not in change:
            shown = FIRST  # a sample of what ran before says nothing of what runs now
        if "schedule" in change:
            text = str(replay_of(setting, text))
            shown = shown if schedules.get(shown) == text else OWN
        elif shown == OWN:
            try:
                replay_of(setting, text)
            except InvalidValueError as error:
                shown, self._told = FIRST, f"Your schedule does not fit what runs now: {error}."
        elif shown not in schedules:
            if "shown" in change:
                raise InvalidValueError(f"{shown!r} does not break here, so no schedule shows it")
            shown = FIRST
        if shown != OWN:
            text = schedules[shown]
        same = (setting, text) == (self.choice.setting, self.choice.schedule)
        step = choice.step if "step" in change or same else len(text.split())
        return choice._replace(scenario=scenario_of(setting), shown=shown, schedule=text, step=step)

    def _state_of(self, choice: PlayerChoice) -> PlayerState:
        self._check_step(choice.step, len(choice.schedule.split()))
        return player_state(choice.setting, choice.shown, choice.schedule, choice.step)

    def _note(self) -> str:
        return self._told

    @property
    def _last(self) -> int:
        return self.state.last

    # ---- searched before it is asked for ------------------------------------------------------------------

    def show(self, **change: Any) -> None:
        """See the base. On a page, what one control could bring next is searched meanwhile."""
        before = self.choice.setting
        super().show(**change)
        if self._on_page and self.choice.setting != before:
            explore_ahead(self.one_change_away())

    def _ipython_display_(self) -> None:
        super()._ipython_display_()
        self._on_page = True
        explore_ahead(self.one_change_away())

    def one_change_away(self) -> list[Setting]:
        """The settings to which a single control leads from here; those of the menu of scenarios last."""
        setting = self.choice.setting
        fields: dict[str, Any] = {
            "lock": LOCKS,
            "pages": PAGES,
            "flush": POLICIES,
            "other": _PAIRS,
            "ranges": RANGES,
        }
        offered = fields if setting.use == "split" else [*fields][:3] if setting.use == "track" else []
        fixed = {"plain store": "lock", "no restart": "pages"}.get(setting.bug)
        away = [
            setting._replace(**{name: value}) for name in offered if name != fixed for value in fields[name]
        ]
        return [*away, *(scenario.setting for scenario in SCENARIOS.values())]

    # ---- who moves next -----------------------------------------------------------------------------------

    def go(self, number: int) -> None:
        """Let thread `number` move after the present step: the schedule is cut here, and goes on with it."""
        words = self.choice.schedule.split()[: self.choice.step]
        moves = [f"{one.thread}:{one.token or 'next'}" for one in self.state.choices[number:][:1]]
        self.propose(schedule=" ".join(words + moves))

    def undo(self) -> None:
        """Take the schedule's last step away."""
        self.propose(schedule=" ".join(self.choice.schedule.split()[:-1]))

    def _next(self, number: int) -> Choice | None:
        choices = self.state.choices
        return choices[number] if number < len(choices) else None

    # ---- the controls -------------------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.scenario_menu = ipywidgets.Dropdown(description="scenario", layout=_MENU, style=_LABEL)
        self.shown_menu = ipywidgets.Dropdown(description="schedule", layout=_MENU, style=_LABEL)
        self.schedule_text = ipywidgets.Text(
            description="as text",
            tooltip="the schedule, step by step: thread:token. Copy it, change it, paste another",
            continuous_update=False,
            layout=WIDE,
            style=_LABEL,
        )
        self.spots["rule"] = lambda name: self.propose(shown=name)
        self.bind(scenario=self.scenario_menu, shown=self.shown_menu, schedule=self.schedule_text)
        self.follow(self.scenario_menu, options=self._scenarios)
        self.follow(self.shown_menu, options=self._schedules)
        self._step_controls()
        return (
            line(self.scenario_menu, *self._threads()),
            self._settings(),
            line(self.shown_menu, self.schedule_text, ipywidgets.Label("next"), *self._who_moves()),
            self.step_line,
        )

    def _threads(self) -> tuple[ipywidgets.Widget, ...]:
        """What runs beside A, and on which ranges."""
        self.other_menu = ipywidgets.Dropdown(
            description="beside A",
            layout={"width": "auto", "flex": "1 1 200px", "min_width": "0"},
            style={"description_width": "60px"},
        )
        self.ranges_menu = ipywidgets.Dropdown(
            options=[*RANGES],
            description="ranges",
            layout={"width": "160px"},
            style={"description_width": "48px"},
        )
        self.bind(other=self.other_menu, ranges=self.ranges_menu)
        self.follow(self.other_menu, options=self._others)
        for menu in (self.other_menu, self.ranges_menu):
            self.follow(menu.layout, display=lambda: "" if self.choice.use == "split" else "none")
        return self.other_menu, self.ranges_menu

    def _settings(self) -> ipywidgets.HBox:
        """What of a setting the reader chooses; only where a split is called by itself."""
        self.lock_buttons = ipywidgets.ToggleButtons(
            options=LOCKS,
            tooltips=["mmu_lock held for read: entries change by compare-and-exchange", "held for write"],
            style={"button_width": "96px"},
        )
        self.pages_buttons = ipywidgets.ToggleButtons(
            options=[*PAGES], tooltips=[*PAGES.values()], style={"button_width": "106px"}
        )
        self.flush_menu = ipywidgets.Dropdown(
            description="flush",
            layout={"width": "auto", "flex": "1 1 200px", "min_width": "0", "max_width": "340px"},
            style={"description_width": "40px"},
        )
        self.bind(
            lock=self.lock_buttons,
            pages=self.pages_buttons,
            flush=self.flush_menu,
        )
        self.follow(self.flush_menu, options=self._policies)
        self.follow(self.lock_buttons, disabled=lambda: self.choice.bug == "plain store")
        self.follow(self.pages_buttons, disabled=lambda: self.choice.bug == "no restart")
        settings = line(
            ipywidgets.Label("mmu_lock"),
            self.lock_buttons,
            ipywidgets.Label("pages"),
            self.pages_buttons,
            self.flush_menu,
        )
        self.follow(settings.layout, display=lambda: "" if self.choice.use in _SPLITS else "none")
        return settings

    def _who_moves(self) -> list[ipywidgets.Button]:
        """A button for each thread, and one that takes the last step away."""
        self.move_buttons = [ipywidgets.Button(layout={"width": "auto"}) for _ in range(_THREADS)]
        for number, button in enumerate(self.move_buttons):
            self.press(button, partial(self.go, number))
            self.follow(
                button,
                description=partial(self._named, number),
                tooltip=partial(self._hint, number),
                disabled=partial(self._waits, number),
            )
            self.follow(button.layout, display=partial(self._seat, number))
        self.undo_button = ipywidgets.Button(
            description="undo", tooltip="take the last step away", layout={"width": "auto"}
        )
        self.press(self.undo_button, self.undo)
        self.follow(self.undo_button, disabled=lambda: self.state.last < 2)
        return [*self.move_buttons, self.undo_button]

    def _named(self, number: int) -> str:
        one = self._next(number)
        if one is None:
            return ""
        return f"{one.thread}: {one.token or ('done' if one.why_not == 'has returned' else 'waits')}"

    def _hint(self, number: int) -> str:
        one = self._next(number)
        if one is None:
            return ""
        return (
            f"{one.thread} {one.why_not}"
            if one.why_not
            else f"let {one.thread} move after step {self.choice.step}"
        )

    def _waits(self, number: int) -> bool:
        one = self._next(number)
        return one is None or bool(one.why_not)

    def _seat(self, number: int) -> str:
        return "" if self._next(number) else "none"

    def _scenarios(self) -> list[tuple[str, str]]:
        names = dict.fromkeys((*SCENARIOS, self.choice.scenario))
        return [("Your own setting" if name == OWN else capital(name), name) for name in names]

    def _schedules(self) -> list[tuple[str, str]]:
        breaks = dict(self.state.search.breaks)
        names = [*schedules_of(self.choice.setting), *([OWN] if self.choice.shown == OWN else [])]
        return [(shown_words(name, breaks), name) for name in names]

    def _policies(self) -> list[tuple[str, str]]:
        return [(capital(policy_words(name, self.choice.use)), name) for name in POLICIES]

    def _others(self) -> list[tuple[str, str]]:
        names = dict.fromkeys((*_PAIRS, self.choice.other))
        return [(OTHERS[name], name) for name in names]

    # ---- what it shows ------------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return player_svg(self.state, palette, ids)

    def _text(self) -> str:
        return player_text(self.state)

    def _table(self) -> str:
        return player_table(self.state)
