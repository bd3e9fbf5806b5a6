"""The conversion stepper, live: the life of a range of private pages, step by step.

Its state is the story (range, split, machine, what goes wrong) and the step it stands at.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from html import escape
from typing import Any, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, as_integer
from tdpkit.engine.splits import SPLITS
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.story import FOLIOS, MACHINES, THEN

from ..exhibit import RangeControls, as_frame, check_unit, line
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
MOST_ACTS = 4


class Story(NamedTuple):
    """What a story is made of; :class:`~tdpkit.lab.page_life.PageLife` has the rules. unit_level: of what the
    range's sliders count.
    """

    start: int
    end: int
    split: str = "v3"
    machine: str = "toy"
    then: str = "convert"
    refuse: int = 0
    folios: str = "2M"
    unit_level: int = 1


OPENINGS = {"toy": (5, 12, 1), "x86": (0x105, 0x500, 1)}
"""The range that a machine opens with: start, end, and the level of the sliders' unit."""


@lru_cache(maxsize=16)
def _life(start: int, end: int, split: str, machine: str, then: str, refuse: int, folios: str) -> PageLife:
    return PageLife(start, end, split=split, machine=machine, then=then, refuse=refuse, folios=folios)


class PageLifeStepper(SteppedExhibit):
    """The exhibit. Display it; or read `life` and `at`, and change it with :meth:`show`.

    start, end: frames, as an integer or as text that :func:`~tdpkit.engine.gfn.parse_gfn` reads; further
    arguments as :meth:`show` takes them. Raises as :meth:`show` does.
    """

    prefix = "pl"
    good = "story"
    least_width = 760

    def __init__(self, start: str | int | None = None, end: str | int | None = None, **change: Any) -> None:
        self.at = 0
        self.story = Story(*OPENINGS["toy"][:2])
        super().__init__()
        self._connect()
        self.show(start=start, end=end, **change)

    # ---- the state --------------------------------------------------------------------------------------

    def show(
        self,
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        step: int | None = None,
        act: int | None = None,
        **change: Any,
    ) -> None:
        """Go to another state; what is not named stays. Another story opens at the act one was in.

        step: from 1; act: from 1, goes to its first step. Of the story: start, end, split, machine (which
        opens on a range of its own), then, refuse, folios, unit_level. Raises InvalidValueError or
        InvalidTypeError for what breaks a rule; the state is then the one before.
        """
        story = self._changed(start, end, change)
        life = _life(*(story[:2]), *story[2:7])
        check_unit(life.geometry, story.unit_level)
        acts = list(life.acts.values())
        known = hasattr(self, "life")
        if act is None and step is None and known and life is not self.life:
            act = min(self._act_number(), len(acts))
        if step is not None:
            at = as_integer(step, "a step") - 1
        elif act is not None:
            number = as_integer(act, "an act")
            if not 1 <= number <= len(acts):
                raise InvalidValueError(f"this story has acts 1 to {len(acts)}; {number} is none")
            at = acts[number - 1].start
        else:
            at = self.at
        if not 0 <= at < len(life.steps):
            raise InvalidValueError(f"this story has steps 1 to {len(life.steps)}; {at + 1} is none")
        self.story = story
        self.life: PageLife = life
        self.at = at
        self._sync()

    def _changed(self, start: str | int | None, end: str | int | None, change: dict[str, Any]) -> Story:
        for name in change:
            if name not in Story._fields:
                raise InvalidTypeError(f"a story has {', '.join(Story._fields)}; it has no {name!r}")
        machine = change.get("machine", self.story.machine)
        if machine != self.story.machine and isinstance(machine, str) and machine in OPENINGS:
            opening = OPENINGS[machine]
            change = {"start": opening[0], "end": opening[1], "unit_level": opening[2], **change}
        story = self.story._replace(**change)
        if start is not None:
            story = story._replace(start=as_frame(start))
        if end is not None:
            story = story._replace(end=as_frame(end))
        refuse, unit = (
            as_integer(story.refuse, "the number of a page"),
            as_integer(story.unit_level, "a level"),
        )
        for name in (story.split, story.machine, story.then, story.folios):
            if not isinstance(name, str):
                raise InvalidTypeError(f"a choice is named by a text; {name!r} is none")
        span = as_integer(story.start, "the start"), as_integer(story.end, "the end")
        return story._replace(start=span[0], end=span[1], refuse=refuse, unit_level=unit)

    def _act_number(self) -> int:
        return next(n for n, steps in enumerate(self.life.acts.values(), 1) if self.at in steps)

    @property
    def _at(self) -> int:
        return self.at

    @property
    def _last(self) -> int:
        return len(self.life.steps) - 1

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
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
        self.range = RangeControls()
        self._build_steps()
        self.act_buttons = [ipywidgets.Button(layout={"width": "auto"}) for _ in range(MOST_ACTS)]
        label = ipywidgets.Label
        narrow = {"width": "48px", "display": "flex", "justify_content": "flex-end"}
        return (
            line(self.machine_menu, self.split_menu),
            line(self.then_menu, self.folios_menu),
            line(self.refuse_number, self.range.unit_menu),
            *self.range.lines,
            line(self.step_slider),
            line(
                label("", layout=narrow),
                *self.step_buttons,
                label("go to"),
                *self.act_buttons,
            ),
        )

    def _connect(self) -> None:
        self.range.connect(self)
        self.proposes(
            machine=self.machine_menu,
            split=self.split_menu,
            then=self.then_menu,
            folios=self.folios_menu,
            refuse=self.refuse_number,
        )
        self._connect_steps()
        for number, button in enumerate(self.act_buttons, 1):
            button.on_click(partial(self._go_to, number))

    def _go_to(self, number: int, _: Any) -> None:
        self.propose(act=number)

    def _follow(self, refused: bool) -> None:
        life, story = self.life, self.story
        self._follow_steps()
        for number, (button, act) in enumerate(zip(self.act_buttons, life.acts, strict=True), 1):
            self.put(button, description=f"{number} {act}")
            self.put(button, button_style="info" if self.at in life.acts[act] else "")
        self.range.follow(
            life.geometry, life.frames, life.span, story.unit_level, refused=refused, write=life.names.frame
        )
        for menu, name in (
            (self.machine_menu, story.machine),
            (self.split_menu, story.split),
            (self.then_menu, story.then),
            (self.folios_menu, story.folios),
        ):
            self.put(menu, value=name)
        self.put(self.refuse_number, value=story.refuse)

    def _message(self, refused: str) -> str:
        asked = self.life.requests
        if not refused and self.story.refuse > asked:
            pages = "no page" if not asked else f"{asked} pages" if asked > 1 else "1 page"
            note = f"Note: the call asks for {pages}, so page {self.story.refuse} is never refused."
            return f'<span role="status">{escape(note)}</span>'
        return super()._message(refused)

    # ---- what it shows ----------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return life_svg(self.life, self.at, palette, ids)

    def _text(self) -> str:
        return life_text(self.life, self.at)

    def _table(self) -> str:
        return life_table(self.life, self.at)
