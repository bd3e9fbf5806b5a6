"""A trace at one step: its moments, and what is known of the frames around it.

A text is read once for a range and a layout (:class:`Reading`). A step is then looked up: its cost depends on
what is drawn, not on how long the text is.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.traces.lines import binary_kind, lines_of
from tdpkit.lab.traces.ranges import Judged, read_frame
from tdpkit.lab.traces.reader import read_trace
from tdpkit.lab.traces.shipped import SHIPPED
from tdpkit.lab.traces.tree import pages_of
from tdpkit.lab.traces.words import no_trace
from tdpkit.lab.words import group_digits, printable

from ..strips import Cell
from .moments import BACK, HOLE, LOST, Canvas, Moment, Root, level_of, moments_of, paint_all

MOST_LINES = 100_000
_MOST_BYTES = 64 << 20
EXAMPLES = {name.removesuffix(".txt"): name for name in SHIPPED}
"""The traces of notebooks/traces by the name that the exhibit takes."""
VIEWS = ("step", "whole")
"""What of the axis of frames is shown: around the step and the range's edges, or all that was touched."""
ROWS = 11
"""Moments that are drawn at a time."""
_CHECKPOINTS = 64
_RUNS = 160
"""Runs of frames that are drawn of a stretch; of more, what is at so many places."""
_BLOCK = 512
_LARGEST = pages_of(3)
_STRETCHES = {"step": 4, "whole": 6}
_MARKS = 100
"""Marks and losses that are drawn in a row."""


class TraceText(NamedTuple):
    """A trace that is no file: what it is called, and its bytes."""

    name: str
    content: bytes

    def __repr__(self) -> str:
        return f"TraceText({self.name!r}, {len(self.content)} bytes)"


# ---- where a text comes from ----------------------------------------------------------------------------


def as_trace(trace: object) -> str | TraceText:
    """A path or the name of an example as it is; text of several lines, or bytes, as a TraceText.

    Raises InvalidTypeError for anything else.
    """
    if isinstance(trace, Path):
        return str(trace)
    if isinstance(trace, str) and "\n" in trace:
        return TraceText("text", trace.encode("utf-8", "replace"))
    if isinstance(trace, bytes):
        return TraceText("text", trace)
    if isinstance(trace, str | TraceText):
        return trace
    raise InvalidTypeError(f"a trace is a path, the name of an example, or text; {trace!r} is none")


def text_of(trace: str | TraceText) -> TraceText:
    """The bytes of an example, a file or a text.

    Raises InvalidValueError for a path that is no file, or for a file that is too long or cannot be read.
    """
    if isinstance(trace, TraceText):
        return trace
    if trace in EXAMPLES:
        return _example(EXAMPLES[trace])
    name = shortened(trace, 60)
    if not trace.strip():
        raise InvalidValueError("the path is empty; give that of a file with a trace's text")
    try:
        path = Path(trace).expanduser()
        with path.open("rb") if stat.S_ISREG(path.stat().st_mode) else _no_file(name) as file:
            return TraceText(path.name, file.read(_MOST_BYTES + 1))
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidValueError):
            raise
        why = getattr(error, "strerror", None) or "it is no path"
        raise InvalidValueError(f"'{name}' cannot be read: {why}") from None


@cache
def _example(name: str) -> TraceText:
    return TraceText(name, SHIPPED[name]().encode())


def _no_file(name: str) -> BytesIO:
    raise InvalidValueError(f"'{name}' is no file")


def shortened(text: str, most: int = 400) -> str:
    """`text` as a picture can hold it: no control characters, and not more than `most` letters."""
    shown = printable(text[: most + 1].expandtabs(8))
    return shown if len(text) <= most else f"{shown[:most]}…"


def read_edge(text: str) -> int:
    """The frame that is typed as a trace prints it (84d), or as an address (2M+4K); NO_EDGE for nothing.

    Raises InvalidValueError for anything else.
    """
    return read_frame(text) if text.strip() else NO_EDGE


NO_EDGE = -1
"""In the place of a frame: none was typed."""


# ---- a text that was read -------------------------------------------------------------------------------


class Reading:
    """A trace read to its end, and its moments.

    Raises InvalidValueError if it is no trace, or too long to step through.
    """

    def __init__(self, text: TraceText, span: GfnRange | None, layout: str) -> None:
        self.text = text
        self.name = shortened(text.name, 60)
        self.span = span
        self.lines = _lines(text, self.name)
        """Its lines as they are."""
        ranges = () if span is None else (span,)
        self.story = story = read_trace(self.lines, layout=layout, ranges=ranges, keep=True)
        if not story.is_trace:
            raise InvalidValueError(no_trace(f"'{self.name}'", story))
        self.moments = moments_of(story)
        if not self.moments:
            raise InvalidValueError(f"'{self.name}' has no change of an entry to step through")
        story.events = []  # the moments have what is needed of them
        self._judged = sorted(story.judged, key=lambda judged: judged.where.line if judged.where else 0)
        self._stride = -(-len(self.moments) // _CHECKPOINTS)
        self._kept: list[dict[Root, Canvas]] = [{}]
        for number, canvases in enumerate(paint_all(self.moments, story), 1):
            if number % self._stride == 0:
                self._kept.append({root: canvas.copy() for root, canvas in canvases.items()})
        steps = [*enumerate(self.moments, 1)]
        self.steps = {
            "split": tuple(step for step, moment in steps if moment.kind == "split"),
            "zap": tuple(step for step, moment in steps if moment.kind in ("zap", "remove", "replace")),
            "loss": tuple(step for step, moment in steps if moment.judged),
        }
        """The steps at which a leaf was split, leaves or tables went, and frames outside a range went."""
        self.taken = [(step, span) for step in self.steps["loss"] for span in self.moments[step - 1].taken]
        self.touched = stretches_of(self._touches(), _STRETCHES["whole"])

    def _touches(self) -> Iterator[GfnRange]:
        for moment in self.moments:
            for span in focus_of(moment):
                if span.pages <= _LARGEST:
                    yield span

    def opening_step(self) -> int:
        """Where there is most to see: the first loss, else the first split, else the first moment."""
        return next((steps[0] for name in ("loss", "split") if (steps := self.steps[name])), 1)

    def judged_at(self, step: int) -> Judged | None:
        """The range that a step took frames outside, or else the last that was announced by then."""
        if step and (judged := self.moments[step - 1].judged):
            return judged
        last = self.moments[step - 1].last_line if step else 0
        before = [judged for judged in self._judged if judged.where is None or judged.where.line <= last]
        return before[-1] if before else None

    def canvases(self, root: Root, steps: range, stretches: Sequence[tuple[int, int]]) -> Iterator[Canvas]:
        """What the frames of a tree are on some stretches, after each of `steps`.

        Each is good until the next is asked for.
        """
        at = steps.start // self._stride
        canvas, kept = Canvas(), self._kept[at].get(root, Canvas())
        for stretch in stretches:
            canvas.put(kept, *stretch)
        for step, moment in enumerate(self.moments[at * self._stride : steps.stop - 1], at * self._stride):
            if step >= steps.start:
                yield canvas
            if moment.kind == "lost":
                canvas = Canvas()
            elif moment.root == root:
                for first, last, kind in moment.paints:
                    for low, high in stretches:
                        if first < high and low < last:
                            canvas.paint(max(first, low), min(last, high), kind)
        yield canvas


def _lines(text: TraceText, name: str) -> list[str]:
    if kind := binary_kind(text.content[:16]):
        raise InvalidValueError(f"'{name}' is no text but {kind}")
    lines = [*islice(lines_of(BytesIO(text.content)), MOST_LINES + 1)]
    if len(lines) > MOST_LINES or len(text.content) > _MOST_BYTES:
        raise InvalidValueError(
            f"'{name}' is too long to step through: {group_digits(MOST_LINES)} lines at most, of "
            f"{_MOST_BYTES >> 20}M; `python -m tdpkit.lab.traces` reads longer ones"
        )
    return lines


@lru_cache(maxsize=4)
def reading_of(text: TraceText, span: GfnRange | None, layout: str) -> Reading:
    """The text, read; see :class:`Reading`."""
    return Reading(text, span, layout)


# ---- the axis -------------------------------------------------------------------------------------------


def focus_of(moment: Moment) -> list[GfnRange]:
    """The frames that a moment is about."""
    marked = [GfnRange(mark.first, mark.last) for mark in moment.marks]
    return marked or moment.spans


def stretches_of(spans: Iterable[GfnRange], most: int) -> tuple[tuple[int, int], ...]:
    """Stretches [first, last) of the axis, of whole 2M blocks, that hold `spans`: `most` of them at most.

    They end where the gaps are widest.
    """
    blocks: list[tuple[int, int]] = []
    for first, last in sorted({_around(span) for span in spans}):
        if blocks and first <= blocks[-1][1]:
            blocks[-1] = blocks[-1][0], max(last, blocks[-1][1])
        else:
            blocks.append((first, last))
    gaps = [right[0] - left[1] for left, right in pairwise(blocks)]
    cuts = sorted(sorted(range(len(gaps)), key=lambda at: -gaps[at])[: most - 1])
    edges = [0, *(cut + 1 for cut in cuts), len(blocks)]
    return tuple((blocks[low][0], blocks[high - 1][1]) for low, high in pairwise(edges) if low < high)


def _around(span: GfnRange) -> tuple[int, int]:
    return span.start // _BLOCK * _BLOCK, max(-(-span.end // _BLOCK), span.start // _BLOCK + 1) * _BLOCK


def _edges_of(judged: Judged | None) -> list[GfnRange]:
    """The blocks in which a range begins and ends."""
    if judged is None:
        return []
    start, end = judged.span.start, judged.span.end
    return [GfnRange(start, start), GfnRange(max(end - 1, start), max(end - 1, start))]


# ---- a step ---------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """The frames on the axis after a step; 0: before the first."""

    step: int
    cells: tuple[Cell, ...]
    """In order, in runs of one kind: a leaf's, "hole" (known to be empty), "unknown", "mmio", "lost" (taken
    outside a range), "refaulted" (and mapped again); at its own step "split", "zapped" and "lost" mark what
    it did."""


class TraceState(NamedTuple):
    """A trace at one step, with what is drawn of it."""

    reading: Reading
    step: int
    judged: Judged | None
    stretches: tuple[tuple[int, int], ...]
    rows: tuple[Row, ...]
    """The steps around this one; they lie on the tree that this one changed."""
    left_out: int
    """Runs of frames on the axis at the step that are not drawn, for there are too many."""

    @property
    def moment(self) -> Moment | None:
        """What the step is; None before the first."""
        return self.reading.moments[self.step - 1] if self.step else None

    @property
    def now(self) -> Row:
        """The row of the step."""
        return next(row for row in self.rows if row.step == self.step)

    @property
    def leaves(self) -> tuple[tuple[int, int], ...]:
        """(level, how many) of the leaves that are known after the step."""
        return self.moment.leaves if self.moment else ()


def trace_state(reading: Reading, step: int, view: str) -> TraceState:
    """The state at a step (0: before the first), in one of VIEWS."""
    judged = reading.judged_at(step)
    moment = reading.moments[max(step - 1, 0)]
    spans = reading.touched if view == "whole" else ()
    near = [GfnRange(*span) for span in spans]
    stretches = stretches_of([*near, *focus_of(moment), *_edges_of(judged)], _STRETCHES[view])
    last = len(reading.moments)
    first = max(0, min(step - ROWS // 2, last + 1 - ROWS))
    steps = range(first, min(first + ROWS, last + 1))
    rows, left_out = [], 0
    for number, canvas in zip(steps, reading.canvases(moment.root, steps, stretches), strict=True):
        rows.append(Row(number, tuple(_row(reading, number, moment.root, canvas, stretches))))
        if number == step:
            left_out = sum(max(0, canvas.runs_in(*stretch) - _RUNS) for stretch in stretches)
    return TraceState(reading, step, judged, stretches, tuple(rows), left_out)


def _row(
    reading: Reading, step: int, root: Root, canvas: Canvas, stretches: Sequence[tuple[int, int]]
) -> Iterator[Cell]:
    moment = reading.moments[step - 1] if step else None
    marks = moment.marks[:_MARKS] if moment and moment.root == root else []
    for first, last in stretches:
        drawn = Canvas()
        if canvas.runs_in(first, last) > _RUNS:
            _thinned(drawn, canvas, first, last)
            for _, span in reading.taken[:_MARKS]:
                for cell in islice(canvas.cells(max(span.start, first), min(span.end, last)), _MARKS):
                    if cell.kind.startswith((LOST, BACK)):
                        drawn.paint(*cell[:3])
        else:
            for cell in canvas.cells(first, last):
                drawn.paint(*cell[:3])
        for mark in marks:
            drawn.paint(*mark[:3])
        for cell in drawn.cells(first, last):
            yield cell._replace(kind="refaulted") if cell.kind.startswith(BACK) else cell


def _thinned(drawn: Canvas, canvas: Canvas, first: int, last: int) -> None:
    """Draw what is at the beginning of each of some equal parts; losses are drawn exactly, and not here."""
    edges = sorted({first + (last - first) * part // _RUNS for part in range(_RUNS + 1)})
    for low, high in pairwise(edges):
        kind = canvas.kind_at(low)
        if kind.startswith((LOST, BACK)):
            kind = f"leaf{level}" if (level := level_of(kind)) else HOLE
        drawn.paint(low, high, kind)
