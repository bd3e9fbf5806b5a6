"""Who races, on which guest: the strategies with their rules in short, and the guests in the menu."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.lab.layouts import LAYOUTS, Layout
from tdpkit.lab.strategies import STRATEGIES, Call, Strategy
from tdpkit.lab.words import count_of

MOST_ROWS = 13
MOST_CALLS = 256
_TITLE_WIDTH, _IDEA_WIDTH = 56, 270
"""Room for what learners write; a capital takes 4, another letter 3."""

Rows = Iterable[str] | Mapping[str, Strategy]
"""Names of tdpkit.lab.strategies.STRATEGIES, or strategies by a name of one's own."""


class Rule(NamedTuple):
    """A strategy in words; ``{large}`` and ``{small}`` stand for its machine's largest and smallest leaf
    above a frame.
    """

    title: str
    rule: str
    idea: str

    def on(self, geometry: Geometry) -> Rule:
        """The same for one machine."""
        large, small = (geometry.level(level).label for level in (geometry.max_leaf_level, 2))
        return Rule(*(text.format(large=large, small=small) for text in self))


RULES = {
    "walk_v3": Rule("v3 walk", "[s, e), only what crosses", "one call that looks at all of the range"),
    "two_calls": Rule(
        "two calls",
        "[s, up {large}) [down {large}, e)",
        "the patch's own call, on the range's part of the first and of the last {large}",
    ),
    "kai_two_step": Rule(
        "head and tail",
        "{large} block, then {small} block",
        "around each edge the {large} block to {small}, then the {small} block to 4K; a shared one once",
    ),
    "one_block_per_edge": Rule(
        "one block per edge",
        "its smallest block, to 4K",
        "a call to 4K splits larger leaves on its way down; so the smallest block around an edge is enough",
    ),
    "empty_range": Rule(
        "empty range",
        "[x, x), every leaf, to 4K",
        "the walk looks at the entries that begin before an edge and hold it, and at no other",
    ),
    "plain_split": Rule(
        "plain split", "[s, e), every leaf, to 4K", "one call that splits all of the range, as dirty logging"
    ),
    "head_rounded_up": Rule(
        "head rounded up",
        "head block from up(s)",
        "the first block begins at the next multiple of its size, where no leaf crosses the start",
    ),
    "head_and_tail": Rule(
        "blocks, repeated",
        "as head and tail",
        "all the blocks of both edges; where they coincide the second call finds nothing to do",
    ),
    "two_calls_unfiltered": Rule(
        "two calls, unfiltered",
        "the same, every leaf",
        "without the patch's filter the two calls split all that they meet",
    ),
    "merged_blocks": Rule(
        "merged blocks",
        "those that overlap, as one",
        "a {large} block merged with the {small} block inside it goes down to 4K from end to end",
    ),
    "one_frame_each": Rule(
        "one frame each", "[x, x+4K), to 4K", "it splits down to 4K at an edge, aligned or not"
    ),
    "last_frame_as_edge": Rule(
        "last frame as edge",
        "tail blocks of e - 4K",
        "the tail's blocks are those around the last frame of the range, not around its end",
    ),
    "one_2m_pass": Rule(
        "one {small} pass",
        "{small} blocks only, to 4K",
        "enough where no leaf is larger; a {large} leaf at a multiple of {small} goes unnoticed",
    ),
}
"""What each strategy of the lab is called here, by its name there."""

OPENING_ROWS = (
    *("walk_v3", "two_calls", "kai_two_step", "one_block_per_edge"),
    *("empty_range", "plain_split", "head_rounded_up"),
)


def rows_of(rows: Rows) -> dict[str, Strategy]:
    """Strategies by name, in the order given. Raises InvalidValueError or InvalidTypeError for others."""
    if isinstance(rows, str):
        raise InvalidTypeError(f"rows are a list of names; {rows!r} is one name")
    if isinstance(rows, Mapping):
        found = dict(rows)
    else:
        names = list(rows)
        if unknown := [name for name in names if name not in [*STRATEGIES]]:
            raise InvalidValueError(f"a row is one of {', '.join(STRATEGIES)}; {unknown[0]!r} is none")
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


def rule_of(name: str, strategy: Strategy, geometry: Geometry) -> Rule:
    """What is said of a row: of a strategy that is not the lab's, its name and its docstring's first line."""
    if STRATEGIES.get(name) is strategy:
        return RULES[name].on(geometry)
    idea = ((getattr(strategy, "__doc__", "") or "").strip() or "a plan of your own").splitlines()[0]
    return Rule(_short(name.replace("_", " "), _TITLE_WIDTH), "your own", _short(idea, _IDEA_WIDTH))


def _short(text: str, width: int) -> str:
    text = " ".join(text.split())
    for at, letter in enumerate(text):
        width -= 4 if letter.isupper() or not letter.isascii() else 3
        if width < 0:
            return f"{text[: max(at - 1, 1)]}…"
    return text


def checked(name: str, strategy: Strategy) -> Strategy:
    """`strategy`, whose mistakes are answered in words: what it raises, and plans that are none."""

    def plan(geometry: Geometry, span: GfnRange) -> list[Call]:
        try:
            calls = list(strategy(geometry, span))
        except Exception as error:
            raise InvalidValueError(
                f"{name} has no plan for {span}: {type(error).__name__}: {error}"
            ) from error
        for call in calls:
            if not isinstance(call, Call):
                raise InvalidTypeError(f"{name} plans Calls for {span}; {call!r} is none")
        if len(calls) > MOST_CALLS:
            raise InvalidValueError(
                f"a plan has {MOST_CALLS} calls at most; "
                f"for {span} {name} makes {count_of(len(calls), 'call')}"
            )
        return calls

    return plan


# ---- guests --------------------------------------------------------------------------------------------


class RaceGuest(NamedTuple):
    """A guest to race on: its name in the menu, its layout, and the range and slider unit it opens with."""

    title: str
    layout: Layout
    start: str
    end: str
    unit_level: int


GUESTS = {
    "16T-2M": RaceGuest("16 TiB of 2M leaves, the thread's hole", LAYOUTS["16T"], "2T+4K", "14T+4K", 3),
    "16T-1G": RaceGuest("16 TiB of 1G leaves, the same hole", LAYOUTS["16T-1G"], "2T+4K", "14T+4K", 3),
    "16T-empty": RaceGuest("16 TiB, nothing mapped yet", LAYOUTS["16T-empty"], "2T+4K", "14T+4K", 3),
    "4G-4K": RaceGuest("4 GiB of 4K leaves", LAYOUTS["4G-4K"], "1G+4K", "3G+4K", 2),
    "mixed": RaceGuest("4 GiB of mixed leaves", LAYOUTS["mixed"], "6M+12K", "3G+513M", 2),
    "one-1G": RaceGuest("one 1G leaf, a range of 8 KiB", LAYOUTS["one-1G"], "0x40207", "0x40209", 1),
    "toy": RaceGuest("toy: 64 frames in four leaves", LAYOUTS["large"], "20K", "136K", 1),
}
"""Guests by name. The 12 TiB in 16 TiB are the thread's (M2), the 8 KiB are Yan's case against arithmetic
(M14; kernel-facts C40).
"""


def guest_of(name: str) -> RaceGuest:
    """The guest of this name (else InvalidValueError)."""
    if name not in [*GUESTS]:
        raise InvalidValueError(f"a guest is one of {', '.join(GUESTS)}; {name!r} is none")
    return GUESTS[name]
