"""The trace viewer in words: title, answer, what each step is, the trace's own lines, and the text twins."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.changes import Change
from tdpkit.lab.traces.events import Lost, SplitHugePage, Where
from tdpkit.lab.traces.reader import Story
from tdpkit.lab.traces.tree import pages_of
from tdpkit.lab.traces.words import answer as summary
from tdpkit.lab.traces.words import (
    bits_that_changed,
    event_in_words,
    frames,
    frames_of,
    judged_in_words,
    size_of,
)
from tdpkit.lab.words import capital, count_of, group_digits, html_table, noun_for

from .moments import Moment
from .state import Row, TraceState, shortened

LINES = 5
"""Lines of the trace that are shown of a step."""
_SAID = 400
"""Letters of the answer, which the table has whole."""
_RUNS = 3
_TABLE_STEPS = 12
"""The table shows so many steps on either side."""
LEGEND = (
    ("leaf1", "4K leaves"),
    ("leaf2", "2M leaves"),
    ("leaf3", "1G leaves"),
    ("hole", "empty"),
    ("unknown", "unknown: no line told yet"),
    ("table", "MMIO"),
    ("split", "split in this step"),
    ("zapped", "zapped in this step"),
    ("lost", "taken outside a range"),
    ("refaulted", "taken so, and mapped again"),
)
_KINDS = {"hole": "empty", "unknown": "unknown", "mmio": "MMIO", "split": "split now", "zapped": "zapped now"}
_KINDS |= {"lost": "taken outside the range", "refaulted": "taken, and mapped again"}


def title(state: TraceState) -> str:
    """Name the trace: how long it is, and how many ranges it announces."""
    reading = state.reading
    steps, lines = count_of(len(reading.moments), "step"), count_of(len(reading.lines), "line")
    said = f"{reading.name}: {steps} in {lines}"
    ranges, losses = reading.story.counts["ranges"], reading.story.losses
    if ranges < 2:
        return said
    return f"{said}; {group_digits(ranges)} ranges, of which {group_digits(losses)} lost frames outside"


def answer(state: TraceState) -> str:
    """Judge the range: what crossed its edges, split or not, and which frames outside were taken.

    Before the first range that the trace announces: all of them.
    """
    story = state.reading.story
    if not story.judged:
        return "No range to judge: the trace announces none; type one into start and end."
    if state.judged is None:
        return summary(story)
    first, *others = judged_in_words(state.judged)
    said = first
    for number, sentence in enumerate(others):
        if len(said) + len(sentence) > _SAID:
            return f"{said} {capital(count_of(len(others) - number, 'more sentence'))}: see the table."
        said = f"{said} {sentence}"
    return said


def role(state: TraceState) -> str:
    """How the answer is to be taken."""
    story = state.reading.story
    if not story.judged:
        return "ink"
    return "good" if (state.judged or story).is_safe else "bad"


def guess_words(story: Story) -> str:
    """The layout that the entries were read by, the doubt about it, and what decided."""
    guess = story.guess
    doubt = f"; in doubt: {guess.doubt}" if guess.doubt else ""
    return f"Entries read as {guess.layout.name} ({guess.layout.title}){doubt}; {guess.reason}."


def guess_in_short(story: Story) -> str:
    """The same in one line: which of the values fit, and not why."""
    guess = story.guess
    doubt = f"in doubt: {guess.doubt}" if guess.doubt else guess.reason.partition(":")[0]
    return f"Entries read as {guess.layout.name} ({guess.layout.title}); {doubt}"


# ---- a step ---------------------------------------------------------------------------------------------


def short(moment: Moment | None, story: Story) -> str:
    """A step in a few words; nothing for the one before the first."""
    if moment is None:
        return "before the first line"
    if isinstance(moment.event, Lost):
        return f"{count_of(moment.event.events, 'event')} lost by the tracer"
    if isinstance(moment.event, SplitHugePage):
        event = moment.event
        return f"split refused ({event.errno}): {size_of(event.level)} at {event.gfn:#x}"
    last = moment.changes[-1]
    size, many = size_of(last.level), len(moment.changes)
    leaf = f"{size} at {last.gfn:#x}"
    match moment.kind:
        case "fault" if last.what == "link":
            return f"table for {leaf}"
        case "fault":
            return f"{'MMIO' if last.what == 'mmio' else 'map'} {leaf}"
        case "split":
            return f"split {leaf}"
        case "remove":
            return f"table of {leaf} removed"
        case "replace":
            return f"table → {leaf}"
    where = frames_of(moment.spans, 1)
    what = {"zap": "zap", "remap": "remap", "mmio gone": "MMIO gone:", "none": "still empty:"}
    if moment.kind == "bits":
        return (
            f"{_bits(moment, story)}: {many} × {size}, {where}"
            if many > 1
            else f"{_bits(moment, story)}: {leaf}"
        )
    return f"{what[moment.kind]} {many} × {size}, {where}" if many > 1 else f"{what[moment.kind]} {leaf}"


def _bits(moment: Moment, story: Story) -> str:
    first, *others = moment.changes
    said = bits_that_changed(first.old, first.new, story.layout)
    same = all(change.old ^ change.new == first.old ^ first.new for change in others)
    return said if same else f"{said} and others"


def sentence(state: TraceState) -> str:
    """The step in a sentence or two: who did what, and what it means for the range."""
    moment, last = state.moment, len(state.reading.moments)
    if moment is None:
        return f"Step 0 of {last}: nothing is told yet, so every frame is unknown."
    said = [f"Step {state.step} of {last}, {_where(state, moment)}: {_what(state, moment)}."]
    if moment.judged:
        taken = moment.taken
        count = count_of(sum(span.pages for span in taken), "frame")
        said.append(f"{capital(count)} outside the range went with it: {frames_of(taken, _RUNS)}.")
    return " ".join(said)


def _where(state: TraceState, moment: Moment) -> str:
    numbers = [where.line for where in moment.lines]
    first, last = min(numbers), max(numbers)
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    return f"{lines}{_by(state, moment.where)}"


def _by(state: TraceState, where: Where) -> str:
    task = task_of(state, where)
    return f", {task}" if task else ""


def task_of(state: TraceState, where: Where) -> str:
    """The name of the task that an event belongs to; nothing if the text has none."""
    return shortened(state.reading.story.tasks.get(where.pid, ""), 20) if where.pid else ""


def _what(state: TraceState, moment: Moment) -> str:
    if isinstance(moment.event, Lost):
        return event_in_words(moment.event, None)
    if isinstance(moment.event, SplitHugePage):
        event = moment.event
        return f"the {size_of(event.level)} leaf at {event.gfn:#x} was not split ({event.errno})"
    last = moment.changes[-1]
    leaf = f"the {size_of(last.level)} leaf at {last.gfn:#x}"
    match moment.kind:
        case "fault":
            return _fault(moment)
        case "split":
            return f"{leaf} is split into leaves of {size_of(last.level - 1)}{_crosses(state, last)}"
        case "remove":
            listed = _listed(state, moment)
            return f"the table of {_frames(last)} is removed ({listed}){_crosses(state, last)}"
        case "replace" if last.is_leaf:
            listed = _listed(state, moment)
            return f"{leaf} takes the place of a table ({listed}){_crosses(state, last)}"
        case "replace":
            return f"another table takes the place of that of {_frames(last)}"
        case "zap" if len(moment.changes) == 1:
            return f"{leaf} is zapped{_crosses(state, last)}"
    return _run(moment, state.reading.story)


def _frames(change: Change) -> str:
    """``frame 0x7``, ``frames 0x800 to 0x9ff``: what a changed entry covers."""
    pages = pages_of(change.level)
    return f"{noun_for(pages, 'frame')} {frames(change.gfn, change.gfn + pages)}"


def _fault(moment: Moment) -> str:
    *links, last = moment.changes
    tables = f", with {count_of(len(links), 'new table')}" if links else ""
    if last.what == "link":
        return f"a table for {_frames(last)} is linked{tables}"
    if last.what == "mmio":
        return f"frame {last.gfn:#x} is a device's (MMIO){tables}"
    return f"a {size_of(last.level)} leaf is mapped at {last.gfn:#x}{tables}"


def _listed(state: TraceState, moment: Moment) -> str:
    kind_of = state.reading.story.layout.kind_of
    leaves = sum(kind_of(change.old, change.level) == "leaf" for change in moment.listed)
    if not moment.listed:
        return "none of its entries is listed"
    entries = count_of(len(moment.listed), "entry", "entries")
    return f"{entries} listed, {count_of(leaves, 'leaf', 'leaves')}"


def _crosses(state: TraceState, change: Change) -> str:
    """Whether a changed entry crosses an edge of the range, and whether it was split before."""
    judged = state.judged
    if judged is None or change.level == 1 or not judged.crosses(change.level, change.gfn):
        return ""
    unsplit = ", and was not split before" if change.what == "zap" else ""
    return f"; it crosses {_range(judged.span)}{unsplit}"


def _range(span: GfnRange) -> str:
    return (
        f"the range {frames(span.start, span.end)}" if span.pages else f"the empty range at {span.start:#x}"
    )


def _run(moment: Moment, story: Story) -> str:
    last, many = moment.changes[-1], len(moment.changes)
    size, pages = size_of(last.level), sum(span.pages for span in moment.spans)
    where = f"{noun_for(pages, 'frame')} {frames_of(moment.spans, _RUNS)}"
    leaves = count_of(many, f"{size} leaf", f"leaves of {size}")
    entries = count_of(many, f"entry of level {last.level}", f"entries of level {last.level}")
    match moment.kind:
        case "zap":
            return f"{leaves} zapped, {where}"
        case "remap":
            return f"{leaves} put on other host frames, {where}"
        case "bits":
            return f"{_bits(moment, story)} in {entries}, {where}"
        case "mmio gone":
            return f"{count_of(many, 'MMIO entry', 'MMIO entries')} gone, {where}"
    return f"{entries} stay empty, {where}"


class ShownLine(NamedTuple):
    """A line of the trace as it is shown."""

    number: str
    time: str
    task: str
    text: str


def lines_of(state: TraceState) -> tuple[list[ShownLine], int]:
    """The trace's own lines of the step, and how many more there are."""
    if state.moment is None:
        return [], 0
    wheres = sorted(state.moment.lines, key=lambda where: where.line)
    shown = wheres if len(wheres) <= LINES else wheres[: LINES - 1]
    return [_line(state, where) for where in shown], len(wheres) - len(shown)


def _line(state: TraceState, where: Where) -> ShownLine:
    line = state.reading.lines[where.line - 1]
    text = line.partition(f"{where.time}: ")[2] if where.time else ""
    return ShownLine(f"{where.line}", where.time, task_of(state, where), shortened((text or line).strip()))


def known(state: TraceState) -> str:
    """The leaves that are known, in words."""
    found = [f"{group_digits(count)} × {size_of(level)}" for level, count in state.leaves]
    tree = ""
    if (trees := sum(map(len, state.reading.story.trees.values()))) > 1 and state.moment:
        as_id, root = state.moment.root
        tree = f" in tree {root}{', SMM' if as_id else ''} of {trees}"
    return f"leaves known{tree}: {', '.join(found) or 'none'}"


# ---- the text twins -------------------------------------------------------------------------------------


def cells_in_words(row: Row) -> list[str]:
    """The frames of a row: each run and what it is."""
    return [f"{frames(first, last)} {_kind(kind, last - first)}" for first, last, kind, _ in row.cells]


def _kind(kind: str, pages: int) -> str:
    if not kind.startswith("leaf"):
        return _KINDS[kind]
    level = int(kind[4:])
    return count_of(max(1, pages // pages_of(level)), f"{size_of(level)} leaf", f"leaves of {size_of(level)}")


def trace_text(state: TraceState) -> str:
    """The picture in plain text."""
    shown, more = lines_of(state)
    told = [
        f"{title(state)}. {answer(state)}",
        sentence(state),
        known(state),
        f"frames: {'; '.join(cells_in_words(state.now))}",
        *(" ".join(filter(None, line)) for line in shown),
        *([f"and {count_of(more, 'more line')}"] if more else []),
        guess_words(state.reading.story),
    ]
    return "\n".join(told)


def trace_table(state: TraceState) -> str:
    """The steps around this one, and how the frames stand, as HTML tables: the picture's text twin."""
    moments, story = state.reading.moments, state.reading.story
    first, last = max(0, state.step - 1 - _TABLE_STEPS), min(len(moments), state.step + _TABLE_STEPS)
    steps = [
        (
            f"{first + number}",
            f"{moment.where.line}",
            moment.where.time,
            task_of(state, moment.where),
            short(moment, story),
            count_of(taken, "frame") if (taken := sum(span.pages for span in moment.taken)) else "",
        )
        for number, moment in enumerate(moments[first:last], 1)
    ]
    stand = [("leaves", known(state)), ("frames", cells_in_words(state.now))]
    if state.judged:
        stand.insert(0, ("the range", judged_in_words(state.judged)))
    stand.append(("entries", guess_words(story)))
    heads = ("step", "line", "time", "task", "what", "taken outside")
    current = state.step - 1 - first if state.step else None
    said = html_table(f"{title(state)}. {sentence(state)}", heads, steps, current=current)
    shown, more = lines_of(state)
    rows: list[tuple[str, ...]] = [*shown]
    if more:
        rows.append(("…", "", "", f"and {count_of(more, 'more line')}"))
    lines = html_table("Its lines", ("line", "time", "task", "text"), rows) if rows else ""
    return f"<div>{said}{lines}{html_table(f'After step {state.step}', (), stand)}</div>"
