"""What the strategy race says of its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange, format_gfn
from tdpkit.lab.strategies import Call
from tdpkit.lab.words import capital, count_of, group_digits, listed

from .state import Race, RaceRow, RaceState

FOOTNOTE = (
    "A plain VM: frames outside are faulted in again. A TD would lose them, and maps at most 2M. "
    "Bars are logarithmic. The verdict is the spec's."
)
VERDICTS = {"exact": "exact", "needless": "safe, not minimal", "wrong": "wrong"}
"""What each verdict of the spec is called."""
ZAP = ("and then the zap", "of the same range, after an exact split")
"""What is beneath the rows: the zap walks the same entries again."""

_NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
]
"""Numbers that are written in words; a sentence may begin with one of these."""


class RaceWords(NamedTuple):
    """All that is said of one state, but for what stands in its rows."""

    title: str
    answer: str
    role: str
    """The answer's colour: "good" if all are exact, "bad" if none is."""
    notes: tuple[str, ...]
    """What else must be known to read the picture."""
    guest: tuple[str, str]
    """The guest's leaves, and how many of them cross an edge."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell that occurs."""


def race_words(state: RaceState) -> RaceWords:
    """Put `state` into words."""
    race = state.race
    answer, role = _answer(race)
    ways = f"{_number(len(race.rows))} {'way' if len(race.rows) == 1 else 'ways'}"
    return RaceWords(
        title=capital(f"{ways} to make the edges of {race.span} safe"),
        answer=answer,
        role=role,
        notes=tuple(_notes(state)),
        guest=_guest(race),
        legend=_legend(race),
    )


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number}"


def _answer(race: Race) -> tuple[str, str]:
    """How many of the rows are exact, at how many visits, and what the others do; and its role."""
    exact, needless, wrong = (
        [row for row in race.rows if row.verdict == verdict] for verdict in ("exact", "needless", "wrong")
    )
    said = "" if race.crossing else "No leaf crosses an edge. "
    said += _exact(exact, len(race.rows))
    others = []
    if needless:
        many = _spread([row.needless for row in needless], lambda n: count_of(n, "split"))
        others.append(f"{_number(len(needless))} make{_s(needless)} {many} too many")
    if wrong:
        frames = _spread([row.outside for row in wrong], lambda n: count_of(n, "frame"))
        others.append(f"{_number(len(wrong))} cost{_s(wrong)} {frames} outside the range")
    if others:
        said += f" {capital(', '.join(others))}."
    return said, "bad" if not exact else "ink" if others else "good"


def _s(rows: Sequence[RaceRow]) -> str:
    return "s" if len(rows) == 1 else ""


def _exact(exact: Sequence[RaceRow], of: int) -> str:
    if not exact:
        return "It is not exact." if of == 1 else "None is exact."
    visits = _spread([row.visits for row in exact], lambda n: count_of(n, "visit"))
    each = " each" if len(exact) > 1 and len({row.visits for row in exact}) == 1 else ""
    if of == 1:
        who = "It is"
    elif len(exact) == of:
        who = "Both are" if of == 2 else f"All {_number(of)} are"
    else:
        who = f"{capital(_number(len(exact)))} {'is' if len(exact) == 1 else 'are'}"
    return f"{who} exact, at {visits}{each}."


def _spread(numbers: Sequence[int], counted: Callable[[int], str]) -> str:
    low, high = min(numbers), max(numbers)
    return counted(high) if low == high else f"{group_digits(low)} to {counted(high)}"


def _notes(state: RaceState) -> list[str]:
    race, said = state.race, []
    if race.span.start == race.span.end:
        said.append(
            f"The range is empty: both edges are {format_gfn(race.span.start)}. "
            "Each way takes that frame for an edge, and so does the zap."
        )
    if state.sorted_for not in (None, race.span):
        said.append(
            f"The rows stand as they were sorted for {state.sorted_for}; choose an order to sort anew."
        )
    return said


def _guest(race: Race) -> tuple[str, str]:
    if not race.levels:
        return "nothing is mapped", "so nothing can cross"
    crossing = len(race.crossing)
    number = _number(crossing) if crossing else "none"
    leaves = f"leaves of {listed(level_name(race, level) for level in race.levels)}"
    return leaves, f"{number} {'cross' if crossing > 1 else 'crosses'} an edge"


def _legend(race: Race) -> tuple[tuple[str, str], ...]:
    names = {f"leaf{level}": f"{level_name(race, level)} leaf" for level in race.levels}
    names |= {
        "hole": "not mapped",
        "split": "made by a split",
        "crossing": "crosses an edge",
        "lost": "outside the range, and the zap takes it",
    }
    shown = (race.segments, *(row.segments for row in race.rows))
    kinds = {segment.kind for segments in shown for segment in segments}
    return tuple((kind, name) for kind, name in names.items() if kind in kinds)


# ---- rows and calls ------------------------------------------------------------------------------------


def level_name(race: Race, level: int) -> str:
    """The size of a leaf of this level."""
    return race.geometry.level(level).label


def range_words(span: GfnRange) -> str:
    """The length of the range."""
    return f"the range: {format_gfn(span.pages)}"


def call_words(race: Race, call: Call) -> tuple[str, str, str]:
    """A call's range for people, in hex, and what it splits."""
    what = "only what crosses" if call.only_cross_boundary else "every leaf"
    span = f"{GfnRange(call.start, call.end)}"
    return span, f"[{call.start:#x}, {call.end:#x})", f"{what}, down to {level_name(race, call.target_level)}"


def call_in_short(race: Race, call: Call) -> str:
    """A call's range and target, and its filter if it has one."""
    crossing = ", only what crosses" if call.only_cross_boundary else ""
    return f"{GfnRange(call.start, call.end)} to {level_name(race, call.target_level)}{crossing}"


def calls_heading(row: RaceRow) -> str:
    """What stands over the calls of the selected row."""
    return f"{row.rule.title}: {count_of(len(row.calls), 'call') if row.calls else 'no call'}"


def priced_words(row: RaceRow) -> str:
    """How its numbers came about, where that is not by running it to the end."""
    return "by formula" if row.priced else ""
