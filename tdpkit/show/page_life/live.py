"""The conversion stepper, live: the life of a range of private pages, step by step.

Its choice is the story (range, split, machine, what goes wrong) and the step it stands at.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import Geometry, InvalidValueError, as_integer
from tdpkit.engine.splits import SPLITS
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.story import FOLIOS, MACHINES, THEN
from tdpkit.lab.words import count_of

from ..drawing import Picture
from ..exhibit import RangeControls, check_unit, fold, line
from ..stepping import SteppedExhibit
from ..theme import Palette
from .picture import life_svg
from .words import life_table, life_text

SPLIT_LABELS = {
    "v3": "v3: split what crosses the edges",
    "v3 as posted": "v3 as posted: an errno comes back as 1",
    "head and tail": "head and tail, what followed",
    "none": "none: zap whole what crosses",
}
THEN_LABELS = {"convert": "converted to shared, and back", "punch hole": "punched out of the file"}
FOLIO_LABELS = {
    "2M": "2M folios: no mapping is larger",
    "4K": "4K folios: no mapping is larger",
    "4K, spanned": "4K folios that a mapping spans",
}


class LifeChoice(NamedTuple):
    """A story, of which :class:`~tdpkit.lab.page_life.PageLife` has the rules, and where one stands in it."""

    start: int
    end: int
    unit_level: int
    """A slider moves by leaves of this level."""
    split: str = "v3"
    machine: str = "toy"
    then: str = "convert"
    refuse: int = 0
    folios: str = "2M"
    step: int = 1

    @property
    def of_the_story(self) -> LifeChoice:
        """The same but for what does not change the story."""
        return self._replace(unit_level=1, step=1)


OPENINGS = {"toy": (5, 12, 1), "x86": (0x105, 0x500, 1)}
"""The range that a machine opens with: start, end, and the level of the sliders' unit."""


@lru_cache(maxsize=16)
def _life(story: LifeChoice) -> PageLife:
    start, end, _, split, machine, then, refuse, folios, _ = story
    return PageLife(start, end, split=split, machine=machine, then=then, refuse=refuse, folios=folios)


class PageLifeStepper(SteppedExhibit[LifeChoice, PageLife]):
    """The exhibit. Display it; or read `choice`, `life` and `at`, and change it with `show`.

    Arguments, here and for `show`, are the fields of LifeChoice, a frame also as text that
    :func:`~tdpkit.engine.gfn.parse_gfn` reads. Another machine opens on a range of its own, another story at
    the act one was in. Raises InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "pl"
    good = "story"
    names: ClassVar = {"split": SPLITS, "machine": MACHINES, "then": THEN, "folios": FOLIOS}

    def __init__(self, start: str | int | None = None, end: str | int | None = None, **change: Any) -> None:
        span = {name: frame for name, frame in (("start", start), ("end", end)) if frame is not None}
        super().__init__(LifeChoice(*OPENINGS["toy"]), **span, **change)

    # ---- the state --------------------------------------------------------------------------------------

    def _opening(self, change: dict[str, Any]) -> LifeChoice:
        machine = change.get("machine", self.choice.machine)
        if machine == self.choice.machine:
            return self.choice
        start, end, unit_level = OPENINGS[machine]
        return self.choice._replace(start=start, end=end, unit_level=unit_level)

    def _chosen(self, change: dict[str, Any]) -> LifeChoice:
        choice = super()._chosen(change)
        another = hasattr(self, "state") and choice.of_the_story != self.choice.of_the_story
        if "step" in change or not another:
            return choice
        acts = [*_life(choice.of_the_story).acts.values()]
        now = next(number for number, steps in enumerate(self.life.acts.values()) if self.at in steps)
        return choice._replace(step=acts[min(now, len(acts) - 1)].start + 1)

    def _state_of(self, choice: LifeChoice) -> PageLife:
        life = _life(choice.of_the_story)
        check_unit(life.geometry, choice.unit_level)
        self._check_step(choice.step, len(life.steps))
        return life

    @property
    def life(self) -> PageLife:
        """The story on show."""
        return self.state

    @property
    def at(self) -> int:
        """The step one stands at, from 0."""
        return self.choice.step - 1

    @property
    def _last(self) -> int:
        return len(self.life.steps)

    def _machine(self) -> tuple[Geometry, int]:
        return self.life.geometry, self.life.frames

    def go_to(self, act: int) -> None:
        """Go to the first step of an act, counted from 1. Raises InvalidValueError if there is none."""
        acts = [*self.life.acts.values()]
        if not 1 <= as_integer(act, "an act") <= len(acts):
            raise InvalidValueError(f"this story has acts 1 to {len(acts)}; {act} is none")
        self.show(step=acts[act - 1].start + 1)

    # ---- the controls -----------------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        wide = {"width": "auto", "flex": "1 1 300px", "min_width": "0", "max_width": "500px"}
        style = {"description_width": "92px"}

        def menu(description: str, options: list[tuple[str, str]]) -> ipywidgets.Dropdown:
            return ipywidgets.Dropdown(options=options, description=description, layout=wide, style=style)

        self.machine_menu = menu("machine", [(machine.title, name) for name, machine in MACHINES.items()])
        self.split_menu = menu("split", [(SPLIT_LABELS[name], name) for name in SPLITS])
        self.then_menu = menu("the range is", [(THEN_LABELS[name], name) for name in THEN])
        self.folios_menu = menu("guest_memfd", [(FOLIO_LABELS[name], name) for name in FOLIOS])
        self.refuse_number = ipywidgets.BoundedIntText(
            min=0,
            max=1 << 20,
            description="refuse page",
            tooltip="refuse the k-th page that the call asks for (0: none)",
            layout={"width": "170px"},
            style=style,
        )
        self.range = RangeControls(self, self._machine, lambda frame: self.life.names.frame(frame))
        self.fail_button, fail_line = fold(
            self, "make it fail", lambda: self.choice.refuse > 0, self.refuse_number
        )
        self._step_controls()
        self.spots["act"] = lambda number: self.go_to(int(number))
        self.bind(
            machine=self.machine_menu,
            split=self.split_menu,
            then=self.then_menu,
            folios=self.folios_menu,
            refuse=self.refuse_number,
        )
        return (
            line(self.machine_menu, self.split_menu),
            line(self.then_menu, self.folios_menu),
            line(*self.range.controls, self.fail_button),
            fail_line,
            self.step_line,
        )

    def _note(self) -> str:
        asked, refuse = self.life.requests, self.choice.refuse
        if refuse <= asked:
            return ""
        pages = count_of(asked, "page") if asked else "no page"
        return f"Note: the call asks for {pages}, so page {refuse} is never refused."

    # ---- what it shows ----------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return life_svg(self.life, self.at, palette, ids)

    def _text(self) -> str:
        return life_text(self.life, self.at)

    def _table(self) -> str:
        return life_table(self.life, self.at)
