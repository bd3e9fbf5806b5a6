"""The ledger, live: choose which claims are shown, read one whole, and run its experiment again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, ClassVar

import ipywidgets

from tdpkit.lab.claims.claim import MAILS, VERDICTS, Settled
from tdpkit.lab.claims.ledger import settle_afresh, settle_all

from ..drawing import Picture
from ..exhibit import Exhibit, line
from ..theme import Palette
from .picture import ledger_svg, ledger_table, ledger_text
from .state import (
    ALL,
    EXPERIMENT,
    FILTERS,
    KINDS,
    ORDERS,
    REASON,
    LedgerChoice,
    LedgerState,
    authors_of,
    kept,
    ledger_state,
    mails_of,
    notebooks_of,
)
from .words import mail_words, notebook_words, ran_words, told_html

_AUTO = {"description_width": "auto"}
_ROOMY = {"width": "auto", "flex": "1 1 200px", "min_width": "0", "max_width": "min(400px, 100%)"}
"""Of what takes the room there is, for titles and names are long."""
_NO_FILTER = {"verdict": ALL, "by": ALL, "notebook": ALL, "kind": ALL, "find": ""}

_KIND_WORDS = {EXPERIMENT: "an experiment", REASON: "a reason"}


def _who(who: str) -> str:
    """An author, or a mail with its author and day."""
    return mail_words(who) if who in MAILS else who


class ClaimLedger(Exhibit[LedgerChoice, LedgerState]):
    """The exhibit. Display it; or read `choice`, `state` and `ledger`, and change it with `show`.

    ledger: settled claims; without, all of the review's, whose experiments take some seconds the first time.
    Further arguments, here and for `show`, are the fields of LedgerChoice. Raises InvalidValueError or
    InvalidTypeError for whatever breaks a rule, and for filters that no claim passes.
    """

    prefix = "cl"
    good = "choice"
    names: ClassVar = {"order": ORDERS, "verdict": (ALL, *VERDICTS), "kind": (ALL, *KINDS)}

    def __init__(self, ledger: Iterable[Settled] | None = None, **choice: Any) -> None:
        self.ledger = tuple(settle_all() if ledger is None else ledger)
        self._ran: dict[str, str] = {}
        first = min(self.ledger, key=lambda one: [*MAILS].index(one.claim.mails[0]))
        super().__init__(LedgerChoice(first.claim.name), **choice)

    def _state_of(self, choice: LedgerChoice) -> LedgerState:
        return ledger_state(self.ledger, choice, self._ran)

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.order_buttons = ipywidgets.ToggleButtons(
            options=ORDERS,
            tooltips=["as the thread went, mail after mail", "claims that hold come first"],
            style={"button_width": "auto"},
        )
        self.verdict_menu = self._filter_menu("verdict", "verdict", lambda: VERDICTS, str)
        self.by_menu = self._filter_menu("by", "by", self._authors_and_mails, _who)
        self.notebook_menu = self._filter_menu(
            "notebook", "taught in", lambda: notebooks_of(self.ledger), notebook_words
        )
        self.kind_menu = self._filter_menu("kind", "decided by", lambda: KINDS, _KIND_WORDS.__getitem__)
        self.find_text = ipywidgets.Text(
            description="find",
            placeholder="flush status",
            tooltip="words, each of which is somewhere in what the ledger tells of a claim",
            continuous_update=False,
            layout=_ROOMY,
            style=_AUTO,
        )
        self.all_button = ipywidgets.Button(
            description="show all", tooltip="no filter", layout={"width": "auto"}
        )
        self.claim_menu = ipywidgets.Dropdown(description="claim", layout=_ROOMY, style=_AUTO)
        self.run_button = ipywidgets.Button(layout={"width": "auto"})
        self.told = ipywidgets.HTML(layout={"margin": "2px 2px 2px 10px", "max_width": "100%"})
        self._bind()
        return (
            line(self.order_buttons, self.verdict_menu, self.by_menu),
            line(self.notebook_menu, self.kind_menu, self.find_text, self.all_button),
            line(self.claim_menu, self.run_button, self.told),
        )

    def _bind(self) -> None:
        self.bind(order=self.order_buttons, find=self.find_text)
        self.observe(self.claim_menu, self._tell)
        self.follow(
            self.claim_menu,
            options=lambda: [
                (f"{one.claim.name} {one.claim.title}", one.claim.name) for one in self.state.rows
            ],
            value=lambda: self.state.told.claim.name,
        )
        self.press(self.all_button, lambda: self.propose(**_NO_FILTER))
        self.follow(self.all_button, disabled=lambda: not self.state.asked)
        self.press(self.run_button, self.run)
        self.follow(
            self.run_button,
            description=lambda: f"run {self.state.told.claim.name} again",
            tooltip=lambda: "run its experiment now, and say what it finds",
            disabled=lambda: not self.state.told.claim.experiment,
        )
        self.follow(self.told, value=lambda: told_html(self.state.told))
        self.spots["row"] = self._tell
        self.spots["verdict"] = self._only
        self.spots["run"] = lambda _: self.run()

    def _filter_menu(
        self, field: str, name: str, values: Callable[[], Iterable[str]], write: Callable[[str], str]
    ) -> ipywidgets.Dropdown:
        """A menu of what a filter can keep: each with its number of claims, and none without any."""

        def options() -> list[tuple[str, str]]:
            others = kept(self.ledger, self.choice, but=field)
            numbers = {value: sum(FILTERS[field](one, value) for one in others) for value in values()}
            found = [(f"{write(value)} ({number})", value) for value, number in numbers.items() if number]
            return [(f"all ({len(others)})", ALL), *found]

        menu = ipywidgets.Dropdown(description=name, layout=_ROOMY, style=_AUTO)
        self.follow(menu, options=options)
        self.bind(**{field: menu})
        return menu

    def _authors_and_mails(self) -> list[str]:
        return [*authors_of(self.ledger), *mails_of(self.ledger)]

    def _tell(self, name: str) -> None:
        self.propose(claim=name)

    def _only(self, verdict: str) -> None:
        """Show the claims of one verdict; pressed again, those of all."""
        self.propose(verdict=ALL if verdict == self.choice.verdict else verdict)

    def run(self) -> None:
        """Run the experiment of the claim that is told, and say what it finds; the ledger keeps that.

        Nothing happens if the claim has none. What an experiment raises is raised.
        """
        was = self.state.told
        name = was.claim.name
        if not was.claim.experiment:
            return
        self.run_button.disabled, self.run_button.description = True, f"{name} runs …"
        change: dict[str, str] = {}
        try:
            begun = perf_counter()
            now = settle_afresh(was.claim)
            self._ran[name] = ran_words(was, now, perf_counter() - begun)
            self.ledger = tuple(now if one is was else one for one in self.ledger)
            change = {"claim": name} | ({} if kept([now], self.choice) else _NO_FILTER)
        finally:
            self.show(**change)

    def _note(self) -> str:
        return self.state.ran

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return ledger_svg(self.state, palette, ids)

    def _text(self) -> str:
        return ledger_text(self.state)

    def _table(self) -> str:
        return ledger_table(self.state)
