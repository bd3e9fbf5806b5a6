"""Who races and where: the rows, their plans checked, and the guests in the menu.

A strategy of the lab brings its title and rule along (`tdpkit.lab.strategies`); one of a learner's own is
told by its name and its docstring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.layouts import LAYOUTS, Layout
from tdpkit.lab.strategies import STRATEGIES, PlannedCall, Planner, Rule, Strategy
from tdpkit.lab.words import Names, count_of, known_name

from ..drawing import shorten

MOST_ROWS = 40
"""Each row is a run at every move of an edge, and one more strip of a picture that scrolls already."""
MOST_CALLS = 256
_TITLE, _IDEA = 160, 560
"""Room for what learners write: the column of names beside the strips, and the line above the calls."""

Rows = Iterable[str] | Mapping[str, Planner]
"""Names of tdpkit.lab.strategies.STRATEGIES, or strategies by a name of one's own."""

OPENING_ROWS = (
    *("walk_v3", "two_calls", "kai_two_step", "one_block_per_edge"),
    *("empty_range", "plain_split", "head_rounded_up"),
)
"""The contenders, and one each that computes nothing, that splits too much, and that is wrong."""


def rows_of(rows: Rows) -> dict[str, Planner]:
    """Strategies by name, in the order given. Raises InvalidValueError or InvalidTypeError for others."""
    if isinstance(rows, str):
        raise InvalidTypeError(f"rows are a list of names; {rows!r} is one name")
    if isinstance(rows, Mapping):
        found = dict(rows)
    else:
        names = [known_name(name, STRATEGIES, "a row") for name in rows]
        found = {name: STRATEGIES[name] for name in names}
        if len(found) < len(names):
            raise InvalidValueError("a strategy races once; these names are not all different")
    for name, strategy in found.items():
        if not isinstance(name, str) or not name.strip():
            raise InvalidTypeError(f"a row has a name; {name!r} is none")
        if not callable(strategy):
            raise InvalidTypeError(f"a strategy is a function of a geometry and a range; {name} is not")
    if not 1 <= len(found) <= MOST_ROWS:
        raise InvalidValueError(f"from 1 to {MOST_ROWS} strategies race; here are {len(found)}")
    return found


def rule_of(name: str, planner: Planner, names: Names) -> Rule:
    """What is said of a row: of one's own strategy its name, and the first line of its docstring."""
    if isinstance(planner, Strategy) and planner.__name__ == name:
        return planner.rule.on(names)
    idea = ((getattr(planner, "__doc__", "") or "").strip() or "a plan of your own").splitlines()[0]
    title = shorten(name.replace("_", " "), _TITLE, 13, weight=600)
    return Rule(title, "your own", shorten(" ".join(idea.split()), _IDEA))


def checked(name: str, planner: Planner) -> Planner:
    """`planner`, whose mistakes are answered in words: what it raises, and plans that are none."""

    def plan(geometry: Geometry, span: GfnRange) -> list[PlannedCall]:
        try:
            calls = list(planner(geometry, span))
        except Exception as error:
            raise InvalidValueError(
                f"{name} has no plan for {span}: {type(error).__name__}: {error}"
            ) from error
        for call in calls:
            if not isinstance(call, PlannedCall):
                raise InvalidTypeError(f"{name} plans PlannedCalls for {span}; {call!r} is none")
        if len(calls) > MOST_CALLS:
            raise InvalidValueError(
                f"a plan has {MOST_CALLS} calls at most; "
                f"for {span} {name} makes {count_of(len(calls), 'call')}"
            )
        return calls

    return plan


# ---- guests --------------------------------------------------------------------------------------------


class RaceGuest(NamedTuple):
    """A guest to race on: its title in the menu, its layout, the range and the edges' unit it opens with."""

    title: str
    layout: Layout
    start: str
    end: str
    unit_level: int


GUESTS = {
    "16T-2M": RaceGuest("16 TiB of 2M leaves, the thread's 12 TiB", LAYOUTS["16T"], "2T+4K", "14T+4K", 3),
    "16T-1G": RaceGuest("16 TiB of 1G leaves, the same 12 TiB", LAYOUTS["16T-1G"], "2T+4K", "14T+4K", 3),
    "16T-empty": RaceGuest("16 TiB, nothing mapped yet", LAYOUTS["16T-empty"], "2T+4K", "14T+4K", 3),
    "4G-4K": RaceGuest("4 GiB of 4K leaves", LAYOUTS["4G-4K"], "1G+4K", "3G+4K", 2),
    "mixed": RaceGuest("4 GiB of mixed leaves", LAYOUTS["mixed"], "6M+12K", "3G+513M", 2),
    "one-1G": RaceGuest("one 1G leaf, a range of 8 KiB", LAYOUTS["one-1G"], "0x40207", "0x40209", 1),
    "toy": RaceGuest("toy: 64 frames in four leaves", LAYOUTS["large"], "5", "34", 1),
}
"""Guests by name. Of the 12 TiB in 16 TiB the two sizes are the thread's (M2), addresses and leaves ours
(S122); the 8 KiB are Yan's case against arithmetic (M14; S139).
"""


def guest_of(name: str) -> RaceGuest:
    """The guest of this name (else InvalidValueError)."""
    return GUESTS[known_name(name, GUESTS, "a guest")]
