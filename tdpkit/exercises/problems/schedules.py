"""Is this schedule safe: the steps of two or three threads that split one leaf, in some order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache
from random import Random
from typing import Any, NamedTuple

from tdpkit.lab.schedules import Explorer, Replay, Schedule, Setting
from tdpkit.lab.schedules.bodies import POLICIES
from tdpkit.lab.schedules.replay import Look
from tdpkit.lab.schedules.scenarios import GEOMETRY, SPAN, build_of
from tdpkit.lab.schedules.search import Move
from tdpkit.lab.schedules.threads import Report
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import capital, count_of, listed

from ..checking import Wrong, refused, whole
from .kind import Kind, steps

_STALE, _LIE = "no stale TLB", "no misreport"


class Steps(NamedTuple):
    """A setting of the schedules' toy, the property that is asked about, and a schedule as text."""

    setting: Setting
    asks: str
    schedule: str

    @property
    def threads(self) -> list[str]:
        """The threads' names."""
        return sorted({step[0] for step in self.schedule.split()})


def _stale(*settings: Setting) -> list[tuple[Setting, str]]:
    return [(setting, _STALE) for setting in settings]


_BREAKS = {
    1: _stale(
        Setting(pages="in hand"),
        Setting(pages="in hand"),
        Setting(lock="exclusive", pages="in hand"),
        Setting(lock="exclusive"),
    ),
    2: [
        (Setting(), _STALE),
        (Setting(), _LIE),
        (Setting(flush="own split, locked"), _STALE),
        (Setting(lock="exclusive"), _LIE),
        (Setting(other="two", lock="exclusive", pages="in hand"), _STALE),
    ],
    3: [
        *_stale(
            Setting(pages="in hand", flush="flag, clear first"),
            Setting(flush="flag, clear first"),
            Setting(flush="flag, atomic"),
            Setting(other="two"),
        ),
        (Setting(other="two"), _LIE),
        (Setting(other="two", lock="exclusive"), _LIE),
    ],
}
"""By level: some schedules of these break the property, and some do not."""
_HOLDS = {
    1: _stale(Setting(pages="in hand", flush="always")),
    2: _stale(Setting(flush="always"), Setting(lock="exclusive", flush="own split, locked")),
    3: _stale(
        Setting(flush="generations"),
        Setting(flush="flag, flush first"),
        Setting(other="two", flush="always"),
    ),
}
"""By level: no schedule of these does."""
_MOST_WALKS = 12


@cache
def _explorer(setting: Setting) -> Explorer:
    """Its code, with the states that were met so far; nothing is searched."""
    return Explorer(build_of(setting))


@lru_cache(maxsize=256)
def _breaks_at(setting: Setting, asks: str, schedule: str) -> int:
    """The first step that breaks the property, 0 if none does."""
    return next((why.step for why in Replay(_explorer(setting), schedule).why if why.property == asks), 0)


def draw(chance: Random, level: int) -> Steps:
    """One lock and pages in hand; drops of the lock; shared flags, counters, a third thread."""
    safe = chance.random() < 0.5
    setting, asks = chance.choice(_HOLDS[level] if safe and chance.random() < 0.3 else _BREAKS[level])
    for _ in range(_MOST_WALKS):
        given = Steps(setting, asks, _some_schedule(chance, _explorer(setting), late=not safe))
        if (right(given) == 0) is safe:
            break
    return given


def _some_schedule(chance: Random, explorer: Explorer, *, late: bool) -> str:
    """The threads in turn, each for some steps; with `late` others go on before a thread that is to flush."""
    state, last = explorer.first, 0
    stays = chance.choice((0.3, 0.6) if late else (0.6, 0.8, 0.9))
    moves: list[Move] = []
    while True:
        order = chance.sample(range(len(explorer.names)), len(explorer.names))
        if chance.random() < stays:
            order.sort(key=lambda thread: thread != last)
        waiting = None
        for thread in order:
            move = explorer.next(state, thread)
            if move and late and move.access.token == "flush" and chance.random() < 0.9:
                waiting = move
            elif move:
                break
        move = move or waiting
        if move is None:
            return str(Schedule(explorer.names, tuple(moves)))
        moves.append(move)
        state, last = move.state, move.thread


# ---- asked -------------------------------------------------------------------------------------------------

_LEAF = f"[0, {GEOMETRY.pages(3)})"
_RULES = {
    _STALE: "The rule: when a call returns, no TLB may still hold the leaf if it is gone from the tree. A "
    "TLB may hold it from the beginning, until somebody flushes after the split.",
    _LIE: "The rule: a call may report “nothing split, no flush needed” only if no other thread split the "
    "leaf between the first step of the call and its return.",
}


def ask(given: Steps) -> str:
    """Give the setting, the rule and the steps."""
    setting, replay, policy = given.setting, _replay(given), POLICIES[given.setting.flush]
    shared, in_hand = setting.lock == "shared", setting.pages == "in hand"
    lock = "read, so others may hold it too" if shared else "write, so one at a time holds it"
    said = [
        f"One leaf maps frames {_LEAF}. Threads {listed(given.threads)} each make a call that splits it, for "
        f"the range [{SPAN.start}, {SPAN.end}). A call holds mmu_lock for {lock}, and "
        f"{'has its page in hand' if in_hand else 'drops the lock to allocate its page'}. The policy of "
        f"flushes: {policy.title} ({policy.rule}).",
        _RULES[given.asks],
        steps(f"{replay.did(at)}." for at in range(1, len(replay) + 1)),
        "Is this schedule safe?",
    ]
    return "\n\n".join(said)


def _replay(given: Steps) -> Replay:
    return Replay(_explorer(given.setting), given.schedule)


def form(given: Steps) -> str:
    """A step's number."""
    return "the number of the first step that breaks the rule, or 0 if none does and the schedule is safe."


def right(given: Steps) -> int:
    """The first step that breaks the rule; 0 for none."""
    return _breaks_at(given.setting, given.asks, given.schedule)


# ---- answered ----------------------------------------------------------------------------------------------


def hold(given: Steps, answer: Any) -> str:
    """The counterexample is the step that breaks the rule, or why the one that was named does not."""
    said, wanted, replay = whole(answer), right(given), _replay(given)
    if said is None or not 0 <= said <= len(replay):
        raise refused(f"the answer is the number of a step, 1 to {len(replay)}, or 0", answer)
    if said != wanted:
        if wanted and (not said or said > wanted):
            raise Wrong(f"{_why(given, wanted)}.")
        raise Wrong(f"step {shown(said)} breaks nothing: {_judged(given, replay.looks, said)}.")
    if wanted:
        return f"{_why(given, wanted)}."
    returns = [look.number for look in replay.looks if _returns(look)]
    return f"{count_of(len(returns), 'return')}, and none breaks the rule."


def _why(given: Steps, step: int) -> str:
    return next(why.text for why in _replay(given).why if why.property == given.asks and why.step == step)


def _returns(look: Look) -> bool:
    return look.access is not None and look.access.token == "return"


def _judged(given: Steps, looks: tuple[Look, ...], step: int) -> str:
    """Why a step breaks the rule, or does not."""
    look, before = looks[step], looks[1:step]
    if step == right(given):
        return f"{_why(given, step)}"
    if not _returns(look):
        return f"{look.did}, and only a return can break the rule"
    split = next((one for one in before if one.access and one.access.changed), None)
    report = look.access.result if look.access else None
    mine = f"{look.thread} returns"
    if given.asks == _LIE and not (isinstance(report, Report) and report.says_none):
        return f"{mine}, and does not report that nothing was split"
    if split is None:
        return f"{mine}, and the leaf is still there"
    made = f"{split.thread} split the leaf in step {split.number}"
    if given.asks == _LIE:
        first = next(one.number for one in looks[1:] if one.thread == look.thread)
        return f"{mine}; {made}, before {look.thread}'s call began with step {first}"
    flush = next((one for one in before[split.number :] if one.access and one.access.token == "flush"), None)
    assert flush is not None, "or the rule is broken"
    return f"{mine}; {made}, and {flush.thread} flushed in step {flush.number}"


def work(given: Steps) -> str:
    """Find the split, the flushes, and judge each return."""
    return steps(_found(given))


def _found(given: Steps) -> Iterator[str]:
    looks = _replay(given).looks
    for look in looks[1:]:
        access = look.access
        assert access is not None
        if access.changed and access.level:
            yield f"Step {look.number}: {look.thread} splits the leaf."
        elif access.token == "flush" and given.asks == _STALE:
            yield f"Step {look.number}: {look.thread} flushes."
        elif _returns(look):
            said = _judged(given, looks, look.number)
            if look.number == right(given):
                yield f"Step {look.number} breaks the rule. {capital(said)}."
                return
            yield f"Step {look.number}: {said}: allowed."


KIND = Kind("is this schedule safe", draw, ask, form, right, hold, work)
