"""What the strategy race says of its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.words import capital, count_of, group_digits, listed

from .state import Race, RaceRow, RaceState

FOOTNOTE = (
    "A plain VM: frames outside are faulted in again. A TD would lose them, and maps at most 2M. "
    "The verdict is the spec's."
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


class Headline(NamedTuple):
    """The number to take along: entries that the cheapest exact way visits, instead of those of the patch."""

    fewest: str
    """A number; or that there is none."""
    instead: str
    """What stands between the two numbers."""
    patch: str
    """The number of the patch's walk; empty where it is not racing, or visits no more."""
    caption: str
    """Whose numbers these are."""
    role: str
    """The colour of the first number."""


class RaceWords(NamedTuple):
    """All that is said of one state, but for what stands in its rows."""

    title: str
    answer: str
    role: str
    """The answer's colour: "good" if all are exact, "bad" if none is."""
    headline: Headline
    guest: tuple[str, str]
    """The guest's leaves, and how many of them cross an edge."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of each kind of cell that may occur."""


def race_words(state: RaceState) -> RaceWords:
    """Put `state` into words."""
    race = state.race
    answer, role = _answer(state)
    ways = f"{_number(len(race.rows))} {'way' if len(race.rows) == 1 else 'ways'}"
    return RaceWords(
        title=capital(f"{ways} to make the edges of {_span(race, race.span)} safe"),
        answer=answer,
        role=role,
        headline=_headline(race),
        guest=_guest(race),
        legend=_legend(race),
    )


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number}"


def _answer(state: RaceState) -> tuple[str, str]:
    """How many of the rows are exact, at how many visits, what the others do, and what else one must know to
    read the picture; and its role.
    """
    race = state.race
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
    said = " ".join([said, *_notes(state)])
    return said, "bad" if not exact else "ink" if others else "good"


_PATCH = "walk_v3"
"""The name of the patch's own way, with which all others are compared."""


def _headline(race: Race) -> Headline:
    exact = {row.name: row for row in race.rows if row.verdict == "exact"}
    if not exact:
        return Headline("no exact way", "", "", "each splits too much, or too little", "bad")
    fewest = min(exact.values(), key=lambda row: row.visits)
    patch = exact.get(_PATCH, fewest)
    entries = f" {'entry' if fewest.visits == 1 else 'entries'}"
    number = group_digits(fewest.visits)
    if patch.visits > fewest.visits:
        caption = f"{fewest.rule.title} instead of {patch.rule.title}"
        return Headline(number, f"{entries} instead of ", group_digits(patch.visits), caption, "good")
    caption = patch.rule.title + "; no exact way here visits fewer" * (len(exact) > 1)
    return Headline(number, f"{entries} visited", "", caption, "good")


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
            f"The range is empty: both edges are {race.names.frame(race.span.start)}. "
            "Each way takes that frame for an edge, and so does the zap."
        )
    if state.sorted_for is not None and state.sorted_for != race.span:
        before = _span(race, state.sorted_for)
        said.append(f"The rows stand as they were sorted for {before}; choose an order to sort anew.")
    return said


def _guest(race: Race) -> tuple[str, str]:
    if not race.levels:
        return "nothing is mapped", "so nothing can cross"
    crossing = len(race.crossing)
    number = _number(crossing) if crossing else "none"
    sizes = (race.names.size(race.geometry.pages(level)) for level in race.levels)
    leaves = f"leaves of {listed(sizes)}"
    return leaves, f"{number} {'cross' if crossing > 1 else 'crosses'} an edge"


def _legend(race: Race) -> tuple[tuple[str, str], ...]:
    names = {f"leaf{level}": race.names.leaves_of(level) for level in race.levels}
    names |= {
        "hole": "not mapped",
        "split": "made by a split",
        "crossing": "crosses an edge",
        "lost": "outside the range, and the zap takes it",
    }
    return tuple(names.items())


# ---- rows and calls ------------------------------------------------------------------------------------


def level_name(race: Race, level: int) -> str:
    """The size of a leaf of this level, in short: ``2M``, or on a toy its number of frames."""
    return race.names.frame(race.geometry.pages(level))


def range_words(race: Race) -> str:
    """The length of the range."""
    return f"the range: {race.names.size(race.span.pages)}"


def call_key(race: Race) -> str:
    """What the legend says of a call to the smallest leaves."""
    return f"a call to {race.names.size(1)}"


def call_words(race: Race, call: PlannedCall) -> tuple[str, str, str]:
    """A call's range for people, in hex (not on a toy, whose frames have numbers), and what it splits."""
    what = "only what crosses" if call.only_cross_boundary else "every leaf"
    in_hex = "" if race.names.toy else f"[{call.start:#x}, {call.end:#x})"
    return _span(race, call), in_hex, f"{what}, down to {_target(race, call)}"


def call_in_short(race: Race, call: PlannedCall) -> str:
    """A call's range and target, and its filter if it has one."""
    crossing = ", only what crosses" if call.only_cross_boundary else ""
    return f"{_span(race, call)} to {_target(race, call)}{crossing}"


def _span(race: Race, of: GfnRange | PlannedCall) -> str:
    return race.names.span(of.start, of.end)


def _target(race: Race, call: PlannedCall) -> str:
    return race.names.size(race.geometry.pages(call.target_level))


def calls_heading(row: RaceRow) -> str:
    """What stands over the calls of the selected row."""
    return f"{row.rule.title}: {count_of(len(row.calls), 'call') if row.calls else 'no call'}"


def row_words(row: RaceRow) -> str:
    """A row for those who hear it: its name, and what its columns say."""
    said = f"{row.rule.title}: {count_of(row.visits, 'visit')}, {count_of(row.splits, 'split')}"
    return f"{said}, {VERDICTS[row.verdict]}"


def priced_words(row: RaceRow) -> str:
    """How its numbers came about, where that is not by running it to the end."""
    return "by formula" if row.priced else ""
