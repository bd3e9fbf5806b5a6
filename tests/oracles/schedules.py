"""Two threads that split one leaf, written by hand, and every schedule of them, one by one.

The threads are scripts of the protocol (S80: look, drop the lock for a page, look again, compare and
exchange), with no engine, no table and no state that is met twice: each schedule is run from its beginning.
What breaks is read off the history of a whole schedule.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

Step = tuple[str, str, str]
"""Who, what, and what came of it ("won", "leaf", ...)."""


class Rules(NamedTuple):
    """lock: "shared" or "exclusive"; in_hand: pages are; flush: a policy of this file."""

    lock: str
    in_hand: bool
    flush: str


class World:
    """One leaf, one lock, one flag; who won the leaf."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.winner = ""
        self.holders: list[str] = []
        self.flag = 0
        self.counts = {"begun": 0, "ended": 0, "flushed": 0}

    def can(self, what: str) -> bool:
        if what != "lock":
            return True
        return not self.holders or (self.rules.lock == "shared")

    def do(self, who: str, what: str) -> str:
        match what:
            case "lock":
                self.holders.append(who)
            case "unlock":
                self.holders.remove(who)
            case "read":
                return "table" if self.winner else "leaf"
            case "swap":
                if self.winner:
                    return "lost"
                self.winner = who
                return "won"
            case "set":
                self.flag = 1
            case "clear":
                self.flag = 0
            case "test":
                return str(self.flag)
            case "test-and-clear":
                was, self.flag = self.flag, 0
                return str(was)
            case "begin":
                self.counts["begun"] += 1
            case "end":
                self.counts["ended"] += 1
            case "begun?" | "ended?" | "flushed?":
                return str(self.counts[what[:-1]])
        if what.startswith("flushed="):
            self.counts["flushed"] = max(self.counts["flushed"], int(what[8:]))
        return ""


Script = Iterator[str]


def splitter(rules: Rules) -> Iterator[str]:
    """What one thread does; it is sent what came of each step."""
    before, after, at_drop, at_end = POLICIES[rules.flush]
    page, mine = rules.in_hand, False
    yield "lock"
    while (yield "read") == "leaf":
        if not page:
            yield from at_drop(False)
            yield "unlock"
            yield "lock"
            page = True
            continue
        yield from before()
        mine = (yield "swap") == "won"
        yield from after()
        break
    yield "read"  # the child, which lies inside the range
    yield from at_drop(mine)
    yield "unlock"
    yield from at_end(mine)
    yield "return"


def _none(mine: bool = False) -> Script:
    yield from ()


def _if_mine(mine: bool) -> Script:
    if mine:
        yield "flush"


def _always(mine: bool) -> Script:
    yield "flush"


def _set() -> Script:
    yield "set"


def _clear_first(mine: bool) -> Script:
    if (yield "test") == "1":
        yield "clear"
        yield "flush"


def _flush_first(mine: bool) -> Script:
    if (yield "test") == "1":
        yield "flush"
        yield "clear"


def _atomic(mine: bool) -> Script:
    if (yield "test-and-clear") == "1":
        yield "flush"


def _begin() -> Script:
    yield "begin"


def _end() -> Script:
    yield "end"


def _generations(mine: bool) -> Script:
    begun = yield "begun?"
    if (yield "flushed?") < begun:
        ended = yield "ended?"
        yield "flush"
        yield f"flushed={ended}"


POLICIES: dict[str, tuple[Callable, Callable, Callable, Callable]] = {
    "none": (_none, _none, _none, _none),
    "own split": (_none, _none, _none, _if_mine),
    "own split, locked": (_none, _none, _if_mine, _none),
    "always": (_none, _none, _none, _always),
    "flag, clear first": (_set, _none, _none, _clear_first),
    "flag, flush first": (_set, _none, _none, _flush_first),
    "flag, atomic": (_set, _none, _none, _atomic),
    "generations": (_begin, _end, _none, _generations),
}
"""Before a swap, after it, before the lock is dropped, at the end."""


def run(rules: Rules, order: tuple[str, ...]) -> tuple[list[Step], list[str]]:
    """Run one schedule: its history, and who can go on after it."""
    world = World(rules)
    scripts = {who: splitter(rules) for who in "AB"}
    wants: dict[str, str | None] = {who: next(script) for who, script in scripts.items()}
    history: list[Step] = []
    for who in order:
        what = wants[who]
        assert what is not None
        assert world.can(what)
        came = world.do(who, what)
        history.append((who, what, came))
        try:
            wants[who] = scripts[who].send(came)
        except StopIteration:
            wants[who] = None
    return history, [who for who, what in wants.items() if what is not None and world.can(what)]


def schedules(rules: Rules, order: tuple[str, ...] = ()) -> Iterator[list[Step]]:
    """Every whole schedule's history."""
    history, free = run(rules, order)
    if not free:
        yield history
    for who in free:
        yield from schedules(rules, (*order, who))


def breaks(history: list[Step]) -> dict[str, int]:
    """Property -> the step (from 1) at which it breaks first in this schedule."""
    found: dict[str, int] = {}
    for at, (who, what, _) in enumerate(history):
        if what != "return":
            continue
        before = history[:at]
        mine = [n for n, step in enumerate(before) if step[0] == who]
        won = [n for n, step in enumerate(before) if step[2] == "won"]
        last_drop = max(n for n in mine if before[n][1] == "unlock")
        flushes = [n for n, step in enumerate(before) if step[1] == "flush"]
        own_flush = [n for n in flushes if n in mine and n >= last_drop - 1]
        others = [n for n in won if n not in mine and n > mine[0]]
        if others and not own_flush and not any(n in mine for n in won):
            found.setdefault("no misreport", at + 1)
        if won and not any(n > won[0] for n in flushes):
            found.setdefault("no stale TLB", at + 1)
    return found


def switches(order: list[str]) -> int:
    return sum(one != other for one, other in pairwise(order))
