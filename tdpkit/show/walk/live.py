"""The walk stepper, live: forward and back through one split call, event by event.

Its choice is the call (layout, range, form, lock, what goes wrong), the step it stands at, and whether the
steps to come are hidden and asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import Geometry, InvalidValueError, parse_gfn
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.words import known_name
from tdpkit.lab.worlds import RACES, Faults

from ..drawing import Picture
from ..exhibit import LABEL, WIDE, RangeControls, check_unit, fold, line
from ..stepping import SteppedExhibit
from ..theme import Palette
from .picture import walk_svg, walk_table, walk_text
from .predict import MOST_ENTRIES, Option, Quiz, options_at
from .state import WalkState, names_of, walk_state
from .words import WalkWords, name_frame, walk_words


class WalkOpening(NamedTuple):
    """A layout of tdpkit.lab.layouts.LAYOUTS in the menu: its name, its opening range, its unit."""

    title: str
    start: str
    end: str
    unit_level: int


OPENINGS = {
    "steps": WalkOpening("toy of 64 frames, leaves of three sizes", "6", "34", 1),
    "large": WalkOpening("toy of 64 frames, four large leaves", "1", "35", 1),
    "toy": WalkOpening("toy of 32 frames, two levels", "5", "12", 1),
    "one-1G": WalkOpening("x86: one 1G leaf, Kai's [1G+1M, 2G)", "1G+1M", "2G", 2),
    "two-1G": WalkOpening("x86: two 1G leaves, 8 KiB across both", "2G-4K", "2G+4K", 1),
    "mixed": WalkOpening("x86: 4 GiB of mixed leaves", "6M+12K", "3G+513M", 2),
}
"""Openings by layout. The range [1G+1M, 2G) is K2's, to which M10 refers; the 1G leaf under it is ours."""


class WalkChoice(NamedTuple):
    """What the controls say: a call, and where one stands in it."""

    layout: str | Layout
    start: int
    end: int
    unit_level: int
    """An edge moves by leaves of this level."""
    only_cross_boundary: bool = True
    target_level: int = 1
    shared: bool = True
    refuse_page: int = 0
    resched_at: int = 0
    race: str = "none"
    """Of tdpkit.lab.worlds.RACES."""
    race_at: int = 1
    """Counted from 1; 0: never."""
    step: int = 1
    predict: bool = False
    """What is to come is hidden, and asked for."""

    @property
    def of_the_call(self) -> WalkChoice:
        """The same but for what does not change the call."""
        return self._replace(unit_level=1, step=1, predict=False)


def opening_of(layout: str | Layout) -> WalkChoice:
    """How a layout opens: a named one in its own range, another on all of its frames.

    Raises InvalidValueError for an unknown name.
    """
    if isinstance(layout, Layout):
        return WalkChoice(layout, 0, layout.frames, 1)
    _, start, end, unit_level = OPENINGS[known_name(layout, OPENINGS, "a layout")]
    return WalkChoice(layout, parse_gfn(start), parse_gfn(end), unit_level)


def record_call(choice: WalkChoice) -> SplitCall:
    """The call, recorded; raises as :class:`~tdpkit.lab.split_call.SplitCall` does."""
    faults = Faults(
        refuse_page=choice.refuse_page,
        resched_at=choice.resched_at,
        race=choice.race,
        race_at=choice.race_at if choice.race != "none" else 0,
    )
    return SplitCall(
        choice.layout,
        choice.start,
        choice.end,
        target_level=choice.target_level,
        only_cross_boundary=choice.only_cross_boundary,
        shared=choice.shared,
        faults=faults,
    )


def _check_end(call: SplitCall) -> None:
    """Raises InvalidValueError if the range ends beyond the guest, though the walk itself would end there."""
    frames = call.layout.frames
    if call.span.end > frames:
        guest, end = name_frame(call, frames), name_frame(call, call.span.end)
        raise InvalidValueError(f"this guest ends at {guest}; the end {end} is beyond it")


RACE_LABELS = {
    "none": "keeps away",
    "drop_split": "splits the leaf while the lock is dropped, at page",
    "drop_zap": "zaps the leaf while the lock is dropped, at page",
    "cas_dirty_clear": "clears Dirty just before exchange",
    "cas_split": "splits the leaf just before exchange",
    "cas_zap": "zaps the leaf just before exchange",
}
"""The other thread, in the menu; the number follows in a field of its own."""

_OPTIONS = MOST_ENTRIES + 1
"""Buttons to answer with: an entry each, and that the call is over."""


class WalkStepper(SteppedExhibit[WalkChoice, WalkState]):
    """The exhibit. Display it; or read `choice`, `state`, `words` and `call`, and change it with `show`.

    layout: a name in OPENINGS, or a Layout of your own (lab.layouts.layout_of makes one), which opens on
    all of its frames. Further arguments, here and for `show`, are the fields of WalkChoice, a frame also as
    text that :func:`~tdpkit.engine.gfn.parse_gfn` reads. Another layout opens in its own state, another call
    at its first step. Raises InvalidValueError or InvalidTypeError for whatever breaks a rule.
    """

    prefix = "ws"
    good = "call"
    names: ClassVar = {"race": RACES}

    def __init__(self, layout: str | Layout = "steps", **change: Any) -> None:
        self.call: SplitCall
        self.quiz: Quiz | None = None
        self._own: Layout | None = None
        super().__init__(opening_of("steps"), layout=layout, **change)

    # ---- the state --------------------------------------------------------------------------------------

    def _opening(self, change: dict[str, Any]) -> WalkChoice:
        choice = self.choice
        if "layout" in change:
            choice = opening_of(change["layout"])._replace(predict=choice.predict)
        if change.get("only_cross_boundary"):
            choice = choice._replace(target_level=1)  # the patch always passes PG_LEVEL_4K
        return choice

    def _chosen(self, change: dict[str, Any]) -> WalkChoice:
        choice = super()._chosen(change)
        if "step" not in change and choice.of_the_call != self.choice.of_the_call:
            choice = choice._replace(step=1)
        return choice

    def _state_of(self, choice: WalkChoice) -> WalkState:
        same = hasattr(self, "call") and choice.of_the_call == self.choice.of_the_call
        call = self.call if same else record_call(choice)
        check_unit(call.geometry, choice.unit_level)
        _check_end(call)
        quiz = None
        if choice.predict:
            quiz = self.quiz if same and self.quiz else Quiz(call, choice.step - 1)
            if choice.step > quiz.seen + 1:
                raise InvalidValueError(f"what comes after step {quiz.seen + 1} is hidden: predict it first")
        self._check_step(choice.step, len(call.steps))
        state = walk_state(call, choice.step - 1, hidden=choice.predict, seen=quiz.seen if quiz else 0)
        self.call, self.quiz = call, quiz
        if isinstance(choice.layout, Layout):
            self._own = choice.layout
        return state

    @property
    def words(self) -> WalkWords:
        """Title, answer, code and log of the state, as the picture says them."""
        return walk_words(self.state)

    def _machine(self) -> tuple[Geometry, int]:
        return self.call.geometry, self.call.layout.frames

    # ---- moving -----------------------------------------------------------------------------------------

    @property
    def _last(self) -> int:
        return self.quiz.seen + 1 if self.quiz else len(self.call.steps)

    def jump(self, forward: bool) -> None:
        """To the next step, or the one before, at which a leaf is split or mmu_lock let go."""
        now = self.choice.step
        steps = range(now + 1, self._last + 1) if forward else range(now - 1, 0, -1)
        marked = (n for n in steps if self.call.steps[n - 1].kind in ("split", "drop", "resched"))
        self.propose(step=next(marked, self._last if forward else 1))

    def answer(self, number: int) -> None:
        """Answer the question with option `number` (from 0): right ones lead on, wrong ones are explained.

        Raises InvalidValueError where nothing is asked, or for an option that is not offered.
        """
        self.show(step=self._asking().answer(self.choice.step - 1, number) + 1)

    def reveal(self) -> None:
        """Say which entry is the next and why, and go there. Raises InvalidValueError if nothing is asked."""
        self.show(step=self._asking().reveal(self.choice.step - 1) + 1)

    def _asking(self) -> Quiz:
        if self.quiz is None:
            raise InvalidValueError("nothing is asked here: predict is off")
        return self.quiz

    # ---- the controls -----------------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.layout_menu = ipywidgets.Dropdown(
            description="layout",
            layout=WIDE | {"flex": "1 1 220px", "min_width": "0"},
            style=LABEL,
        )
        self.form_buttons = ipywidgets.ToggleButtons(
            options=[("only what crosses (v3)", True), ("every huge leaf", False)],
            tooltips=["the patch: leaves that cross an edge", "the plain form: every leaf above the target"],
            style={"button_width": "auto"},
        )
        self.target_menu = ipywidgets.Dropdown(
            description="down to",
            style={"description_width": "60px"},
            layout={"width": "165px"},
        )
        self.lock_buttons = ipywidgets.ToggleButtons(
            options=[("shared", True), ("exclusive", False)],
            tooltips=["mmu_lock held for read: entries change by compare-and-exchange", "held for write"],
            style={"button_width": "84px"},
        )
        self.range = RangeControls(self, self._machine, lambda frame: name_frame(self.call, frame))
        self.range.unit_menu.layout.width = "170px"  # "16 frames"
        self.predict_box = ipywidgets.Checkbox(description="predict", indent=False, layout={"width": "80px"})
        button = {"layout": {"width": "auto"}}
        self.jump_back_button = ipywidgets.Button(
            description="‹ split or drop", tooltip="back to a split or a lock drop", **button
        )
        self.jump_button = ipywidgets.Button(
            description="split or drop ›", tooltip="on to a split or a lock drop", **button
        )
        self._step_controls([self.jump_back_button], [self.jump_button])
        self.step_slider.layout.flex = "1 1 180px"  # so that all of the line has room on a laptop
        self.step_line.children += (self.predict_box,)
        self.faults_button, faults = self._faults()
        self._bind()
        return (
            line(
                self.layout_menu,
                ipywidgets.Label("split"),
                self.form_buttons,
                self.target_menu,
                self.faults_button,
            ),
            faults,
            line(*self.range.controls, ipywidgets.Label("mmu_lock"), self.lock_buttons),
            self._question(),
            self.step_line,
        )

    def _faults(self) -> tuple[ipywidgets.ToggleButton, ipywidgets.HBox]:
        """What goes wrong, folded behind a button."""
        number = {"min": 0, "max": 1 << 20, "style": {"description_width": "auto"}}
        self.refuse_number = ipywidgets.BoundedIntText(
            description="refuse page", tooltip="0: none", layout={"width": "144px"}, **number
        )
        self.resched_number = ipywidgets.BoundedIntText(
            description="reschedule at visit", tooltip="0: none", layout={"width": "188px"}, **number
        )
        self.race_menu = ipywidgets.Dropdown(
            options=[(text, race) for race, text in RACE_LABELS.items()],
            description="another thread",
            style={"description_width": "100px"},
            layout={"width": "auto", "flex": "1 1 260px", "min_width": "0", "max_width": "480px"},
        )
        self.race_number = ipywidgets.BoundedIntText(
            description="number", tooltip="of the page or the exchange", layout={"width": "120px"}, **number
        )
        return fold(
            self,
            "make it fail",
            lambda: bool(self.choice.refuse_page or self.choice.resched_at or self.choice.race != "none"),
            self.refuse_number,
            self.resched_number,
            self.race_menu,
            self.race_number,
        )

    def _bind(self) -> None:
        self.bind(
            layout=self.layout_menu,
            only_cross_boundary=self.form_buttons,
            target_level=self.target_menu,
            shared=self.lock_buttons,
            refuse_page=self.refuse_number,
            resched_at=self.resched_number,
            race=self.race_menu,
            race_at=self.race_number,
            predict=self.predict_box,
        )
        self.spots["answer"] = lambda which: self.answer(int(which))
        self.press(self.jump_back_button, lambda: self.jump(forward=False))
        self.press(self.jump_button, lambda: self.jump(forward=True))
        self.follow(self.layout_menu, options=self._layouts)
        self.follow(self.target_menu, options=self._targets, disabled=lambda: self.choice.only_cross_boundary)
        self.follow(self.race_number, disabled=lambda: self.choice.race == "none")

    def _layouts(self) -> list[tuple[str, str | Layout]]:
        own = [("your own layout", self._own)] if self._own else []
        return [*((opening.title, name) for name, opening in OPENINGS.items()), *own]

    def _targets(self) -> list[tuple[str, int]]:
        """All levels that the call takes."""
        geometry, names = self.call.geometry, names_of(self.call)
        return [(names.size(geometry.pages(n)), n) for n in range(1, geometry.root_level)]

    # ---- the question -----------------------------------------------------------------------------------

    def _question(self) -> ipywidgets.HBox:
        """What predict mode asks; and buttons to answer with, where entries are too narrow to be pressed."""
        self.question, self.where = ipywidgets.Label(), ipywidgets.Label("Press a dashed box:")
        self.reveal_button = ipywidgets.Button(description="show me", layout={"width": "auto"})
        self.option_buttons = [ipywidgets.Button(layout={"width": "auto"}) for _ in range(_OPTIONS)]
        self.ask = line(self.question, self.where, *self.option_buttons, self.reveal_button)
        self.follow(self.ask.layout, display=lambda: "" if self.quiz else "none")
        self.follow(self.question, value=self._asks)
        self.follow(self.where.layout, display=lambda: "" if self.drawn.spots else "none")
        self.press(self.reveal_button, self.reveal)
        self.follow(self.reveal_button, disabled=lambda: not self._options())
        for number, button in enumerate(self.option_buttons):
            self.press(button, partial(self.answer, number))
            self.follow(button, description=partial(self._option, number))
            self.follow(button.layout, display=partial(self._option_display, number))
        return self.ask

    def _asks(self) -> str:
        over = self.quiz and not self._options()
        return "The call is over." if over else "Which entry does the walk visit next?"

    def _options(self) -> tuple[Option, ...]:
        return options_at(self.call, self.choice.step - 1) if self.quiz else ()

    def _option(self, number: int) -> str:
        return next((option.text for option in self._options()[number : number + 1]), "")

    def _option_display(self, number: int) -> str:
        return "" if number < len(self._options()) and not self.drawn.spots else "none"

    def _note(self) -> str:
        """What the last answer led to, and the score; or what was asked for and did not come about."""
        if not self.quiz:
            return self._missed()
        score = f"{self.quiz.right} of {self.quiz.asked} right at once." if self.quiz.asked else ""
        return " ".join(part for part in (self.quiz.said, score) if part)

    def _missed(self) -> str:
        """What the call is too short for."""
        last, choice, pages = self.call.steps[-1], self.choice, self.call.allocations
        missed = []
        if choice.refuse_page > pages:
            missed.append(f"the call asks for {pages} pages, so page {choice.refuse_page} is never refused")
        if choice.resched_at > last.visits:
            missed.append(f"it makes {last.visits} visits, so none is number {choice.resched_at}")
        if choice.race != "none" and not self.call.fired:
            missed.append("the other thread never gets its chance")
        return f"Note: {'; '.join(missed)}." if missed else ""

    # ---- what it shows ----------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return walk_svg(self.state, palette, ids, options=self._options())

    def _text(self) -> str:
        return walk_text(self.state)

    def _table(self) -> str:
        return walk_table(self.state)
