"""What the schedule player shows: a schedule of a setting after one of its steps, and what a search found.

The lab explores and replays; here its looks become lanes: what each thread did, what the tree held, what a
TLB could hold, and who had promised what by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange, InvalidValueError
from tdpkit.lab.schedules import SCENARIOS, THREE, Explorer, Replay, Setting, explored
from tdpkit.lab.schedules.machine import LeafAt
from tdpkit.lab.schedules.replay import Choice, Look
from tdpkit.lab.schedules.scenarios import Scenario
from tdpkit.lab.schedules.threads import Access, Thread, returned
from tdpkit.lab.schedules.why import Why
from tdpkit.lab.schedules.words import entry_words

EVERY = SCENARIOS | THREE
"""The lab's scenarios by name."""
OWN = "own"
"""The scenario of a setting that the lab has no name for; the schedule that the reader wrote."""
FIRST = "witness"
"""The schedule that a setting opens with: the shortest witness; if nothing breaks, a sample."""
SAMPLES = ("one after the other", "in turn", "drawn")
"""The lab's sample schedules, in its order."""

_LONGEST = 40
"""Letters of a step: longer ones are quoted in part."""


class Lane(NamedTuple):
    """A thread: its name, its role as the lab calls it, and the frames that it is about."""

    name: str
    role: str
    span: GfnRange


class Change(NamedTuple):
    """A step that changed an entry: frames [first, last), and what it is now.

    entry: "table", "leaf", "nothing", or "clean" for a leaf that lost its dirty bit.
    """

    step: int
    thread: str
    first: int
    last: int
    entry: str


class Tlb(NamedTuple):
    """What a TLB may hold besides the tree's own leaves.

    kind: "true" for nothing; "owed" for leaves that are gone, while each call that was to be rid of them runs
    still, so that a flush is owed; "left" for leaves that are gone after all have returned, and that no call
    was to be rid of; "stale" for leaves that a call was to be rid of, after it returned; "none" where no TLB
    can hold any leaf.
    """

    kind: str
    leaves: tuple[LeafAt, ...]


class Search(NamedTuple):
    """What the search of a setting found. breaks: by property that breaks, the steps of its witness."""

    states: int
    interleavings: int | None
    extent: str
    breaks: tuple[tuple[str, int], ...]


class PlayerState(NamedTuple):
    """A schedule after step `at` of it. looks, tlb: one for each step, and one before the first."""

    setting: Setting
    scenario: str
    shown: str
    geometry: Geometry
    lanes: tuple[Lane, ...]
    looks: tuple[Look, ...]
    tlb: tuple[Tlb, ...]
    changes: tuple[Change, ...]
    why: tuple[Why, ...]
    choices: tuple[Choice, ...]
    """What each thread could do next."""
    search: Search
    at: int

    @property
    def last(self) -> int:
        """The schedule's last step."""
        return len(self.looks) - 1

    @property
    def look(self) -> Look:
        """What there is to see now."""
        return self.looks[self.at]

    @property
    def frames(self) -> int:
        """Frames up to the end of what is ever mapped."""
        pages = self.geometry.pages
        return max(gfn + pages(level) for look in self.looks for gfn, level, _ in look.leaves)

    @property
    def is_api_only(self) -> bool:
        """The API allows it, no caller in the series does it."""
        return Scenario(self.setting, "").api_only

    @property
    def reason(self) -> Why | None:
        """Why something is broken: of what is shown if that is, else of what broke last."""
        broken = [why for why in self.why if why.step <= self.at]
        return next((why for why in broken if why.property == self.shown), broken[-1] if broken else None)


def scenario_of(setting: Setting) -> str:
    """The lab's name for a setting, or OWN."""
    return next((name for name, one in EVERY.items() if one.setting == setting), OWN)


def schedules_of(setting: Setting) -> dict[str, str]:
    """The schedules to look at, by name: FIRST, a witness for each property that breaks, and the samples.

    Raises InvalidValueError if there is none: the search was cut short, and nothing had broken by then.
    """
    _, found = explored(setting)
    named = {**found.witness, **dict(zip(SAMPLES, found.samples, strict=False))}
    if not named:
        raise InvalidValueError(f"this setting is {found.extent}, and nothing had broken by then")
    first = min(found.witness, key=lambda name: len(found.witness[name].moves), default=SAMPLES[0])
    return {name: str(schedule) for name, schedule in {FIRST: named[first], **named}.items()}


@lru_cache(maxsize=64)
def replay_of(setting: Setting, text: str) -> Replay:
    """The schedule `text`, replayed. Raises InvalidValueError if it does not fit the setting's code."""
    words = text.split()
    if not words:
        raise InvalidValueError("a schedule has at least one step; this one has none")
    for number, word in enumerate(words, 1):
        if len(word) > _LONGEST:
            raise InvalidValueError(f"no step is as long as step {number}, {word[:_LONGEST]!r}…")
    return Replay(explored(setting)[0], text)


def player_state(setting: Setting, shown: str, text: str, at: int) -> PlayerState:
    """The schedule `text` after step `at`."""
    explorer, found = explored(setting)
    replay = replay_of(setting, text)
    breaks = tuple((name, len(schedule.moves)) for name, schedule in found.witness.items())
    shortest = min(breaks, key=lambda one: one[1])[0] if breaks else FIRST
    return PlayerState(
        setting,
        scenario_of(setting),
        shortest if shown == FIRST else shown,
        explorer.machine.root.geometry,
        tuple(Lane(thread.name, thread.role, thread.span) for thread in explorer.threads),
        replay.looks,
        _tlb(explorer, replay.looks),
        _changes(explorer, replay.looks),
        replay.why,
        replay.choices(at),
        Search(found.states, found.interleavings, found.extent, breaks),
        at,
    )


def _changes(explorer: Explorer, looks: Sequence[Look]) -> tuple[Change, ...]:
    pages = explorer.machine.root.geometry.pages

    def entry(access: Access) -> str:
        was, now = (entry_words(spte, access.level) for spte in (access.before, access.after))
        return "clean" if was == now == "leaf" else now

    return tuple(
        Change(look.number, look.thread, a.gfn, a.gfn + pages(a.level), entry(a))
        for look in looks
        if (a := look.access) and a.changed
    )


def _promises(thread: Thread, access: Access) -> bool:
    """Whether a thread that returns has promised that its leaves are gone: a call that did not fail has."""
    return thread.is_call and returned(access.result) in (0, None)


def _tlb(explorer: Explorer, looks: Sequence[Look]) -> tuple[Tlb, ...]:
    threads = {thread.name: thread for thread in explorer.threads}
    promised: list[Thread] = []
    found = []
    for look in looks:
        if look.access and look.access.token == "return" and _promises(threads[look.thread], look.access):
            promised.append(threads[look.thread])
        stale = [leaf for leaf in look.stale if any(explorer.machine.is_over(leaf, one) for one in promised)]
        if stale:
            kind = "stale"
        elif look.stale:
            kind = "owed" if len(look.finished) < len(threads) else "left"
        else:
            kind = "true" if explorer.machine.cacheable else "none"
        found.append(Tlb(kind, look.stale))
    return tuple(found)
