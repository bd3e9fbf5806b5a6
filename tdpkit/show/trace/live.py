"""The trace viewer, live: a trace that is shipped, named by its path or opened, step by step.

Its choice is the trace, the range to judge, the layout of its entries, the step and the part of the axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import GfnRange, InvalidValueError, as_integer
from tdpkit.lab.spte_layouts import LAYOUTS

from ..drawing import Picture
from ..exhibit import LABEL, WIDE, address_field, fold, line
from ..stepping import SteppedExhibit
from ..theme import Palette
from .picture import trace_svg
from .state import (
    EXAMPLES,
    NO_EDGE,
    VIEWS,
    Reading,
    TraceState,
    TraceText,
    as_trace,
    read_edge,
    reading_of,
    text_of,
    trace_state,
)
from .words import trace_table, trace_text


class TraceChoice(NamedTuple):
    """What the controls say."""

    trace: str | TraceText
    """A path, a name in EXAMPLES, or a text."""
    start: int = NO_EDGE
    end: int = NO_EDGE
    """The range to judge; if either is NO_EDGE (-1), those that the trace announces are judged."""
    layout: str = ""
    """A name in LAYOUTS, or nothing: guessed."""
    step: int = 0
    view: str = "step"

    @property
    def of_the_reading(self) -> TraceChoice:
        """The same but for what is only looked at."""
        return self._replace(step=0, view="step")


VIEW_LABELS = {"step": "around this step", "whole": "all that was touched"}
_JUMPS = {"split": "split ›", "zap": "zap ›", "loss": "loss ›"}
_JUMP_TOOLTIPS = {
    "split": "on to the next leaf that is split",
    "zap": "on to the next leaves or tables that go",
    "loss": "on to the next frames that are taken outside a range",
}


class TraceViewer(SteppedExhibit[TraceChoice, TraceState]):
    """The exhibit. Display it; or read `choice` and `state`, and change it with `show`.

    trace: a name in EXAMPLES, the path of a file, or the text itself (of several lines, or bytes). Further
    arguments, here and for `show`, are the fields of TraceChoice, a frame also as text: as a trace prints it
    (84d) or as an address (2M+4K). A trace opens at its first loss. Raises InvalidValueError or
    InvalidTypeError for whatever breaks a rule, and for a text that is no trace.
    """

    prefix = "tv"
    good = "trace"
    first_step = 0
    reads: ClassVar = {"start": read_edge, "end": read_edge}
    names: ClassVar = {"view": VIEWS, "layout": ("", *LAYOUTS)}

    def __init__(self, trace: str | bytes | Path | TraceText = "lost-pages", **change: Any) -> None:
        super().__init__(TraceChoice(""), trace=trace, **change)

    # ---- the state --------------------------------------------------------------------------------------

    def _checked(self, name: str, value: Any) -> Any:
        return as_trace(value) if name == "trace" else super()._checked(name, value)

    def _chosen(self, change: dict[str, Any]) -> TraceChoice:
        choice = self._edged(super()._chosen(change), change)
        is_shown = hasattr(self, "state")
        if "step" in change or (is_shown and choice.of_the_reading == self.choice.of_the_reading):
            return choice
        reading = self._read(choice)
        if is_shown and choice.trace == self.choice.trace:
            return choice._replace(step=min(choice.step, len(reading.moments)))
        return choice._replace(step=reading.opening_step())

    @staticmethod
    def _edged(choice: TraceChoice, change: dict[str, Any]) -> TraceChoice:
        """An edge on the wrong side of the other begins another range, whose other edge is not typed yet."""
        if ("start" in change and "end" in change) or NO_EDGE in (choice.start, choice.end):
            return choice
        if choice.start <= choice.end:
            return choice
        return choice._replace(end=NO_EDGE) if "start" in change else choice._replace(start=NO_EDGE)

    def _state_of(self, choice: TraceChoice) -> TraceState:
        reading = self._read(choice)
        self._check_step(choice.step, len(reading.moments))
        return trace_state(reading, choice.step, choice.view)

    def _read(self, choice: TraceChoice) -> Reading:
        """The trace as the choice has it read: what is on show is not read again."""
        same = hasattr(self, "state") and choice.trace == self.choice.trace
        if same and choice.of_the_reading == self.choice.of_the_reading:
            return self.state.reading
        edges = [as_integer(edge, "an edge") for edge in (choice.start, choice.end)]
        for edge in edges:
            if edge < NO_EDGE:
                raise InvalidValueError(f"a frame is at least 0, and {NO_EDGE} is none; {edge} is neither")
        span = None if NO_EDGE in edges else GfnRange(*edges)
        text = self.state.reading.text if same else text_of(choice.trace)
        return reading_of(text, span, choice.layout)

    @property
    def _last(self) -> int:
        return len(self.state.reading.moments)

    def jump(self, name: str) -> None:
        """Go on to the next "split", "zap" or "loss"; stay where there is none."""
        steps = self.state.reading.steps[name]
        self.propose(step=next((step for step in steps if step > self.choice.step), self.choice.step))

    # ---- the controls -----------------------------------------------------------------------------------

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        self.example_menu = ipywidgets.Dropdown(
            description="trace", layout=WIDE | {"flex": "1 1 160px", "min_width": "0"}, style=LABEL
        )
        self.path_text = ipywidgets.Text(
            description="path",
            placeholder="~/trace.txt",
            tooltip="path of a file, where the kernel runs, with the text of a trace",
            continuous_update=False,
            layout=WIDE | {"flex": "2 1 260px", "min_width": "0"},
            style=LABEL,
        )
        self.upload = ipywidgets.FileUpload(
            description="open a file",
            tooltip="read a trace's text from your own machine",
            layout={"width": "auto"},
        )
        self.start_text = address_field("start", "0x84d or 2M+4K")
        self.end_text = address_field("end", "0x86e or 4M")
        self.layout_menu = ipywidgets.Dropdown(
            options=[("as guessed", ""), *((name, name) for name in LAYOUTS)],
            description="layout",
            layout={"width": "180px"},
            style=LABEL,
        )
        self.view_buttons = ipywidgets.ToggleButtons(
            options=[(words, name) for name, words in VIEW_LABELS.items()],
            tooltips=[
                "the frames that the step is about, and the edges of the range",
                "all stretches in use",
            ],
            style={"button_width": "auto"},
        )
        self.jump_buttons = {
            name: ipywidgets.Button(description=words, tooltip=_JUMP_TOOLTIPS[name], layout={"width": "auto"})
            for name, words in _JUMPS.items()
        }
        self._step_controls(forward=[*self.jump_buttons.values()])
        self.step_slider.layout.flex = "1 1 180px"
        self._bind()
        self.layout_button, layouts = fold(
            self, "another layout", lambda: bool(self.choice.layout), self.layout_menu
        )
        return (
            line(self.example_menu, self.path_text, self.upload),
            line(self.start_text, self.end_text, self.view_buttons, self.layout_button),
            layouts,
            self.step_line,
        )

    def _bind(self) -> None:
        self.follow(self.example_menu, options=self._traces)
        self.bind(trace=self.example_menu)
        self.bind(lambda trace: trace if self._is_path(trace) else "", trace=self.path_text)
        self.observe(self.upload, self._opened)
        self.follow(self.upload, value=tuple)  # not kept: the choice has it
        self.bind(_written, start=self.start_text, end=self.end_text)
        self.bind(layout=self.layout_menu, view=self.view_buttons)
        for name, button in self.jump_buttons.items():
            self.press(button, partial(self.jump, name))
            self.follow(button, disabled=partial(self._is_past, name))
        self.spots["step"] = lambda step: self.propose(step=int(step))

    @staticmethod
    def _is_path(trace: str | TraceText) -> bool:
        return isinstance(trace, str) and trace not in EXAMPLES

    def _traces(self) -> list[tuple[str, str | TraceText]]:
        own = [] if self.choice.trace in EXAMPLES else [(self.state.reading.name, self.choice.trace)]
        return [*((name.replace("-", " "), name) for name in EXAMPLES), *own]

    def _opened(self, files: Iterable[dict[str, Any]]) -> None:
        """Show the file that was opened in the browser."""
        for file in files:
            self.propose(trace=TraceText(file["name"], bytes(file["content"])))

    def _is_past(self, name: str) -> bool:
        return self.choice.step >= max(self.state.reading.steps[name], default=0)

    def _note(self) -> str:
        choice = self.choice
        if (choice.start == NO_EDGE) == (choice.end == NO_EDGE):
            return ""
        missing = "start" if choice.start == NO_EDGE else "end"
        return f"Note: a range has a start and an end; type the {missing}, too, to have it judged."

    # ---- what it shows ----------------------------------------------------------------------------------

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return trace_svg(self.state, palette, ids)

    def _text(self) -> str:
        return trace_text(self.state)

    def _table(self) -> str:
        return trace_table(self.state)


def _written(edge: int) -> str:
    return "" if edge == NO_EDGE else f"{edge:#x}"
