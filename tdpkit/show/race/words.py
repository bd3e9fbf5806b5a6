"""What the strategy race says: title, answer, notes and calls; and all of it as text and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tdpkit.engine.gfn import GfnRange, format_gfn
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.words import count_of, group_digits

from .state import Race, RaceState, Row

FOOTNOTE = (
    "A plain VM: frames outside are faulted in again. A TD would lose them, and maps at most 2M. "
    "Bars are logarithmic. The verdict is the spec's."
)

VERDICTS = {"exact": "exact", "needless": "safe, not minimal", "wrong": "wrong"}
"""What each verdict of the spec is called."""

_NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen"),
)


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def title(race: Race) -> str:
    """How many ways, and for which range."""
    ways = "way" if len(race.rows) == 1 else "ways"
    return f"{_capital(_number(len(race.rows)))} {ways} to make the edges of {race.span} safe"


def answer(race: Race) -> tuple[str, str]:
    """How many of the rows are exact, at how many visits, and what the others do; and its role."""
    exact, needless, wrong = (
        [row for row in race.rows if row.verdict == verdict] for verdict in ("exact", "needless", "wrong")
    )
    first = "" if race.crossing else "No leaf crosses an edge. "
    first += _exact(exact, len(race.rows))
    others = []
    if needless:
        many = _spread([row.needless for row in needless], lambda n: count_of(n, "split"))
        others.append(f"{_number(len(needless))} make{_s(needless)} {many} too many")
    if wrong:
        frames = _spread([row.outside for row in wrong], lambda n: count_of(n, "frame"))
        others.append(f"{_number(len(wrong))} cost{_s(wrong)} {frames} outside the range")
    said = f"{first} {_capital(', '.join(others))}." if others else first
    return said, "bad" if not exact else "ink" if others else "good"


def _s(rows: Sequence[Row]) -> str:
    return "s" if len(rows) == 1 else ""


def _exact(exact: Sequence[Row], of: int) -> str:
    if not exact:
        return "It is not exact." if of == 1 else "None is exact."
    visits = _spread([row.visits for row in exact], lambda n: count_of(n, "visit"))
    each = " each" if len(exact) > 1 and len({row.visits for row in exact}) == 1 else ""
    if of == 1:
        who = "It is"
    elif len(exact) == of:
        who = "Both are" if of == 2 else f"All {_number(of)} are"
    else:
        who = f"{_capital(_number(len(exact)))} {'is' if len(exact) == 1 else 'are'}"
    return f"{who} exact, at {visits}{each}."


def _spread(numbers: Sequence[int], counted: Callable[[int], str]) -> str:
    low, high = min(numbers), max(numbers)
    return counted(high) if low == high else f"{group_digits(low)} to {counted(high)}"


def notes(state: RaceState) -> list[str]:
    """What else must be known to read the picture."""
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


def guest_words(race: Race) -> tuple[str, str]:
    """The guest's leaves, and how many of them cross an edge."""
    sizes = [race.geometry.level(level).label for level in race.levels]
    leaves = f"leaves of {_and(sizes)}" if sizes else "nothing is mapped"
    crossing = len(race.crossing)
    if not sizes:
        return leaves, "so nothing can cross"
    return (
        leaves,
        f"{_number(crossing) if crossing else 'none'} {'cross' if crossing > 1 else 'crosses'} an edge",
    )


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def level_name(race: Race, level: int) -> str:
    """The size of a leaf of this level."""
    return race.geometry.level(level).label


ZAP = ("and then the zap", "of the same range, after an exact split")
"""What is beneath the rows: the zap walks the same entries again."""


def call_words(race: Race, call: PlannedCall) -> tuple[str, str, str]:
    """Its range for people, in hex, and what it splits."""
    what = "only what crosses" if call.only_cross_boundary else "every leaf"
    target, span = level_name(race, call.target_level), GfnRange(call.start, call.end)
    return f"{span}", f"[{call.start:#x}, {call.end:#x})", f"{what}, down to {target}"


def calls_heading(row: Row) -> str:
    """What stands over the calls of the selected row."""
    return f"{row.rule.title}: {count_of(len(row.calls), 'call') if row.calls else 'no call'}"


def priced_words(row: Row) -> str:
    """How its numbers came about, where that is not by running it to the end."""
    return "by formula" if row.priced else ""


def legend(state: RaceState) -> list[tuple[str, str]]:
    """(kind, name) of each kind of cell in the picture."""
    race = state.race
    names = {f"leaf{level}": f"{level_name(race, level)} leaf" for level in race.levels}
    names |= {
        "hole": "not mapped",
        "split": "made by a split",
        "crossing": "crosses an edge",
        "lost": "outside the range, and the zap takes it",
    }
    kinds = {cell.kind for cells in (race.cells, *(row.cells for row in race.rows)) for cell in cells}
    return [(kind, name) for kind, name in names.items() if kind in kinds]


def race_text(state: RaceState) -> str:
    """`state` in plain text: the answer, then a line per row."""
    race = state.race
    lines = [f"{title(race)}. {answer(race)[0]}", *notes(state)]
    for row in state.rows:
        said = [
            count_of(len(row.calls), "call"),
            count_of(row.visits, "visit"),
            count_of(row.splits, "split"),
        ]
        if row.needless:
            said.append(f"{group_digits(row.needless)} of them needless")
        if row.missing:
            said.append(f"{group_digits(row.missing)} missing")
        said.append(VERDICTS[row.verdict])
        if row.outside:
            said.append(f"{count_of(row.outside, 'frame')} outside")
        priced = f" ({priced_words(row)})" if row.priced else ""
        lines.append(f"{row.rule.title}: {', '.join(said)}{priced}")
    return "\n".join([*lines, f"{' '.join(ZAP)}: {count_of(race.zap_visits, 'visit')}"])


_COLUMNS = ("strategy", "calls", "visits", "splits", "needless", "missing", "verdict", "frames outside")


def race_table(state: RaceState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    race = state.race
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(_table_row(race, row) for row in state.rows)
    zap = (
        f'<tr><th scope="row">{" ".join(ZAP)}</th><td></td><td>{group_digits(race.zap_visits)}</td>'
        f"<td></td><td></td><td></td><td></td><td></td></tr>"
    )
    said = " ".join([f"{title(race)}. {answer(race)[0]}", *notes(state), FOOTNOTE])
    head, body = f"<thead><tr>{head}</tr></thead>", f"<tbody>{body}{zap}</tbody>"
    return f"<table><caption>{escape(said)}</caption>{head}{body}</table>"


def _call_in_short(race: Race, call: PlannedCall) -> str:
    crossing = ", only what crosses" if call.only_cross_boundary else ""
    return f"{GfnRange(call.start, call.end)} to {level_name(race, call.target_level)}{crossing}"


def _table_row(race: Race, row: Row) -> str:
    calls = "<br/>".join(
        escape(f"{_call_in_short(race, call)}: {count_of(visits, 'visit')}")
        for call, visits in zip(row.calls, row.call_visits, strict=True)
    )
    priced = f", {priced_words(row)}" if row.priced else ""
    cells = (
        group_digits(row.visits) + priced,
        *map(group_digits, (row.splits, row.needless, row.missing)),
        VERDICTS[row.verdict],
        group_digits(row.outside),
    )
    name = escape(f"{row.rule.title}: {row.rule.rule}")
    data = "".join(f'<td style="white-space:nowrap;padding-right:12px">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row">{name}</th><td>{calls or "none"}</td>{data}</tr>'


def range_words(span: GfnRange) -> str:
    """How long it is."""
    return f"the range: {format_gfn(span.pages)}"
