"""The walk stepper, live: forward and back through one split call, event by event.

Its state is the call (layout, range, form, lock, what goes wrong), the step it stands at, and whether what is
to come is hidden and asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import ipywidgets

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.layouts import Layout
from tdpkit.lab.split_call import SplitCall

from ..exhibit import LABEL, WIDE, RangeControls, check_unit, line
from ..stepping import SteppedExhibit, from_0
from ..theme import Palette
from .picture import walk_svg, walk_text
from .predict import MOST_ENTRIES, Quiz, options_at
from .setup import OPENINGS, Setup, changed, opening_of, record_call
from .state import WalkState, walk_state
from .words import name_frame, walk_table

_LAYOUT_OPTIONS = [(opening.title, name) for name, opening in OPENINGS.items()]

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


class WalkStepper(SteppedExhibit):
    """The exhibit. Display it; or read `state` and `call`, and change it with :meth:`show`.

    layout: a name in OPENINGS, or a Layout of your own (lab.layouts.layout_of makes one), which opens on
    all of its frames; further arguments as :meth:`show` takes them. Raises as :meth:`show` does.
    """

    prefix = "ws"
    good = "call"
    least_width = 760

    def __init__(
        self, layout: str | Layout = "steps", *, step: int = 1, predict: bool = False, **change: Any
    ) -> None:
        super().__init__()
        self._connect()
        self._own: Layout | None = None
        setup = changed(opening_of(layout), change)
        call, at = record_call(setup), from_0(step)
        self._stand(setup, call, at, Quiz(call, at) if predict else None)

    # ---- the state --------------------------------------------------------------------------------------

    def show(
        self,
        *,
        layout: str | Layout | None = None,
        step: int | None = None,
        predict: bool | None = None,
        **change: Any,
    ) -> None:
        """Go to another state; what is not named stays (a new layout opens in its own state).

        layout: as for the class. step: from 1; another call opens at its first. predict: hide what is to
        come, and ask. Of the call: start, end (frames as an integer, or text as
        :func:`~tdpkit.engine.gfn.parse_gfn` reads it), unit_level, only_cross_boundary, target_level, shared,
        refuse_page, resched_at, race (of tdpkit.lab.worlds.RACES), race_at (counted from 1, 0: never).
        Raises InvalidValueError or InvalidTypeError for what breaks a rule; the state is then the one before.
        """
        setup = changed(self.setup if layout is None else opening_of(layout), change)
        same = setup._replace(unit_level=0) == self.setup._replace(unit_level=0)
        call = self.call if same else record_call(setup)
        at = from_0(step) if step is not None else self.state.at if same else 0
        hidden = self.quiz is not None if predict is None else predict
        quiz = None
        if hidden:
            quiz = self.quiz if same and self.quiz else Quiz(call, at)
        if quiz and at > quiz.seen:
            raise InvalidValueError(f"what comes after step {quiz.seen + 1} is hidden: predict it first")
        self._stand(setup, call, at, quiz)

    def _stand(self, setup: Setup, call: SplitCall, at: int, quiz: Quiz | None) -> None:
        check_unit(call.geometry, setup.unit_level)
        if at >= len(call.steps):
            raise InvalidValueError(f"this call has steps 1 to {len(call.steps)}; {at + 1} is none")
        self.state: WalkState = walk_state(call, at, hidden=quiz is not None)
        self.setup, self.call, self.quiz = setup, call, quiz
        if isinstance(setup.layout, Layout):
            self._own = setup.layout
        self._sync()

    # ---- moving -----------------------------------------------------------------------------------------

    def jump(self, forward: bool) -> None:
        """To the next step, or the one before, at which a leaf is split or mmu_lock let go."""
        with self._one_at_a_time:
            ahead = range(self.state.at + 1, self._last + 1)
            steps = ahead if forward else range(self.state.at - 1, -1, -1)
            marked = (at for at in steps if self.call.steps[at].kind in ("split", "drop", "resched"))
            self.propose(step=next(marked, self._last if forward else 0) + 1)

    @property
    def _at(self) -> int:
        return self.state.at

    @property
    def _last(self) -> int:
        return self.quiz.seen if self.quiz else len(self.call.steps) - 1

    def answer(self, number: int) -> None:
        """Answer the question with option `number` (from 0): right ones lead on, wrong ones are explained.

        Raises InvalidValueError where nothing is asked, or for an option that is not offered.
        """
        self.show(step=self._asking().answer(self.state.at, number) + 1)

    def reveal(self) -> None:
        """Say which entry is the next and why, and go there. Raises InvalidValueError if nothing is asked."""
        self.show(step=self._asking().reveal(self.state.at) + 1)

    def _asking(self) -> Quiz:
        if self.quiz is None:
            raise InvalidValueError("nothing is asked here: predict is off")
        return self.quiz

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
        self.layout_menu = ipywidgets.Dropdown(
            options=_LAYOUT_OPTIONS,
            description="layout",
            layout=WIDE,
            style=LABEL,
        )
        self.form_buttons = ipywidgets.ToggleButtons(
            options=[("only what crosses (v3)", True), ("every huge leaf", False)],
            tooltips=["the patch: leaves that cross an edge", "the plain form: every leaf above the target"],
            style={"button_width": "auto"},
        )
        self.target_menu = ipywidgets.Dropdown(
            options=[("4K", 1)],
            description="down to",
            style={"description_width": "60px"},
            layout={"width": "140px"},
        )
        self.lock_buttons = ipywidgets.ToggleButtons(
            options=[("shared", True), ("exclusive", False)],
            tooltips=["mmu_lock held for read: entries change by compare-and-exchange", "held for write"],
            style={"button_width": "84px"},
        )
        self.range = RangeControls()
        number = {"min": 0, "max": 1 << 20, "layout": {"width": "64px"}}
        self.refuse_number = ipywidgets.BoundedIntText(tooltip="refuse page k (0: none)", **number)
        self.resched_number = ipywidgets.BoundedIntText(tooltip="reschedule at visit k (0: none)", **number)
        self.race_menu = ipywidgets.Dropdown(
            options=[(text, race) for race, text in RACE_LABELS.items()],
            description="another thread",
            style={"description_width": "100px"},
            layout={"width": "auto", "flex": "1 1 260px", "min_width": "0", "max_width": "480px"},
        )
        self.race_number = ipywidgets.BoundedIntText(tooltip="at page or exchange number k", **number)
        self._build_steps()
        button = {"layout": {"width": "auto"}}
        self.jump_back_button = ipywidgets.Button(
            description="‹ split or drop", tooltip="back to a split or a lock drop", **button
        )
        self.jump_button = ipywidgets.Button(
            description="split or drop ›", tooltip="on to a split or a lock drop", **button
        )
        self.predict_box = ipywidgets.Checkbox(description="predict", indent=False, layout={"width": "90px"})
        self.option_buttons = [ipywidgets.Button(layout={"width": "auto"}) for _ in range(_OPTIONS)]
        self.reveal_button = ipywidgets.Button(description="show me", layout={"width": "auto"})
        self.said = ipywidgets.HTML()
        self.ask = ipywidgets.VBox(
            [
                line(ipywidgets.Label("Which entry does the walk visit next?"), self.reveal_button),
                line(*self.option_buttons),
                self.said,
            ],
            layout={"display": "none"},
        )
        label = ipywidgets.Label
        narrow = {"width": "48px", "display": "flex", "justify_content": "flex-end"}
        return (
            line(self.layout_menu, self.range.unit_menu),
            line(
                label("split", layout=narrow),
                self.form_buttons,
                self.target_menu,
                label("mmu_lock"),
                self.lock_buttons,
            ),
            *self.range.lines,
            line(
                label("refuse page"),
                self.refuse_number,
                label("reschedule at visit"),
                self.resched_number,
                self.race_menu,
                self.race_number,
            ),
            line(self.step_slider),
            line(
                label("", layout=narrow),
                *self.step_buttons,
                self.jump_back_button,
                self.jump_button,
                self.predict_box,
            ),
            self.ask,
        )

    def _connect(self) -> None:
        self.range.connect(self)
        self.proposes(
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
        self._connect_steps()
        self.jump_back_button.on_click(lambda _: self.jump(forward=False))
        self.jump_button.on_click(lambda _: self.jump(forward=True))
        self.reveal_button.on_click(lambda _: self.reveal())
        for number, button in enumerate(self.option_buttons):
            button.on_click(lambda _, number=number: self.answer(number))

    def propose(self, **change: Any) -> None:
        """As every exhibit's; another form also takes the level that it splits down to."""
        if change.get("only_cross_boundary"):
            change["target_level"] = 1  # the patch always passes PG_LEVEL_4K
        super().propose(**change)

    def _follow(self, refused: bool) -> None:
        call, setup = self.call, self.setup
        self._follow_steps([self.jump_back_button], [self.jump_button])
        self._follow_question()
        self.range.follow(
            call.geometry,
            call.layout.frames,
            call.span,
            setup.unit_level,
            refused=refused,
            write=lambda frame: name_frame(call, frame),
        )
        targets = range(1, call.geometry.root_level)  # all that the call takes
        self.put(self.target_menu, options=[(call.geometry.level(n).label, n) for n in targets])
        self.put(self.target_menu, value=setup.target_level, disabled=setup.only_cross_boundary)
        own = [("your own layout", self._own)] if self._own else []
        self.put(self.layout_menu, options=[*_LAYOUT_OPTIONS, *own])
        self.put(self.layout_menu, value=setup.layout)
        self.put(self.form_buttons, value=setup.only_cross_boundary)
        self.put(self.lock_buttons, value=setup.shared)
        self.put(self.refuse_number, value=setup.refuse_page)
        self.put(self.resched_number, value=setup.resched_at)
        self.put(self.race_menu, value=setup.race)
        self.put(self.race_number, value=setup.race_at, disabled=setup.race == "none")
        self.put(self.predict_box, value=self.quiz is not None)

    def _follow_question(self) -> None:
        quiz = self.quiz
        options = options_at(self.call, self.state.at) if quiz else ()
        self.put(self.ask.layout, display="" if quiz else "none")
        for number, button in enumerate(self.option_buttons):
            self.put(button.layout, display="" if number < len(options) else "none")
            self.put(button, description=options[number].text if number < len(options) else "")
        self.put(self.reveal_button, disabled=not options)
        said = ""
        if quiz:
            over = "" if options else "The call is over."
            score = f"{quiz.right} of {quiz.asked} right at once." if quiz.asked else ""
            said = " ".join(part for part in (quiz.said, over, score) if part)
        self.put(self.said, value=f'<span role="status">{escape(said)}</span>')

    def _message(self, refused: str) -> str:
        if not refused and (missed := self._missed()):
            return f'<span role="status">{escape(missed)}</span>'
        return super()._message(refused)

    def _missed(self) -> str:
        """What was asked for and did not come about, since the call is too short for it."""
        if self.quiz:
            return ""
        last, setup, pages = self.call.steps[-1], self.setup, self.call.allocations
        missed = []
        if setup.refuse_page > pages:
            missed.append(f"the call asks for {pages} pages, so page {setup.refuse_page} is never refused")
        if setup.resched_at > last.visits:
            missed.append(f"it makes {last.visits} visits, so none is number {setup.resched_at}")
        if setup.race != "none" and not self.call.fired:
            missed.append("the other thread never gets its chance")
        return f"Note: {'; '.join(missed)}." if missed else ""

    # ---- what it shows ----------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return walk_svg(self.state, palette, ids)

    def _text(self) -> str:
        return walk_text(self.state)

    def _table(self) -> str:
        return walk_table(self.call, self.state.at, hidden=self.quiz is not None)
