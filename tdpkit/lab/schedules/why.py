"""Why a property broke: the two accesses that clash, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tdpkit.engine.events import ENOMEM
from tdpkit.engine.spte import is_last_spte

from ..words import count_of, listed
from .machine import PROPERTIES, LeafAt, Machine
from .search import Explorer, Move, State
from .threads import Access, Thread, returned
from .words import leaf_words


class Why(NamedTuple):
    """Why a property broke: at which step (from 1), clashing with which earlier one (0: none), in words."""

    property: str
    step: int
    other: int
    text: str


def reasons(explorer: Explorer, moves: tuple[Move, ...]) -> tuple[Why, ...]:
    """Every property that breaks on the way, in the order in which they do, and why."""
    story = _Story(explorer, moves)
    return tuple(
        Why(name, at, *_EXPLAINED[name](story, at))
        for at in range(1, len(moves) + 1)
        for name in sorted(story.broken(at) - story.broken(at - 1), key=list(PROPERTIES).index)
    )


class _Story:
    """The steps of a schedule, counted from 1, to be asked."""

    def __init__(self, explorer: Explorer, moves: tuple[Move, ...]) -> None:
        self.explorer = explorer
        self.moves = moves

    def state(self, at: int) -> State:
        return self.moves[at - 1].state if at else self.explorer.first

    def broken(self, at: int) -> frozenset[str]:
        return self.explorer.broken(self.state(at))

    def machine(self, at: int) -> Machine:
        return self.explorer.look(self.state(at))

    def access(self, at: int) -> Access:
        return self.moves[at - 1].access

    def name(self, at: int) -> str:
        return self.explorer.names[self.moves[at - 1].thread]

    def thread(self, at: int) -> Thread:
        return self.explorer.threads[self.moves[at - 1].thread]

    def last(self, before: int, fits: Callable[[int], bool]) -> int:
        """The last step before `before` that fits; 0 if none does."""
        return next(filter(fits, range(before - 1, 0, -1)), 0)

    def changed(self, at: int) -> bool:
        """Whether the step changed an entry."""
        return self.access(at).changed

    def took(self, at: int, leaf: LeafAt) -> bool:
        """Whether the step took `leaf` out of the tree."""
        access = self.access(at)
        return self.changed(at) and (access.gfn, access.level, access.before) == leaf

    def put(self, at: int, leaf: LeafAt) -> bool:
        """Whether the step put `leaf` into the tree."""
        access = self.access(at)
        return self.changed(at) and (access.gfn, access.level, access.after) == leaf

    def leaf(self, gfn: int, level: int) -> str:
        return leaf_words(gfn, self.explorer.machine.root.geometry.pages(level))

    def over(self, at: int, leaves: frozenset[LeafAt]) -> Iterator[LeafAt]:
        """Those of `leaves` that the call which returns in the step was to be rid of."""
        thread = self.thread(at)
        return (leaf for leaf in sorted(leaves) if self.explorer.machine.is_over(leaf, thread))


def _misreport(story: _Story, at: int) -> tuple[int, str]:
    mine, span, crosses = story.name(at), story.thread(at).span, story.explorer.machine.crosses

    def splits(step: int) -> bool:
        access = story.access(step)
        leaf = story.changed(step) and is_last_spte(access.before, access.level)
        return leaf and story.name(step) != mine and crosses(access.gfn, access.level, span)

    other = story.last(at, splits)
    split = story.access(other)
    return other, (
        f"step {other}: {story.name(other)} split {story.leaf(split.gfn, split.level)} during {mine}'s call; "
        f"step {at}: {mine} returned and said that nothing was split"
    )


def _stale(story: _Story, at: int) -> tuple[int, str]:
    leaf = next(story.over(at, story.machine(at).stale))
    other = story.last(at, lambda step: story.took(step, leaf))
    return other, (
        f"step {other}: {story.name(other)} took {story.leaf(*leaf[:2])} out of the tree; step {at}: "
        f"{story.name(at)} returned, and nobody had flushed in between, so a TLB may hold that leaf still"
    )


def _double(story: _Story, at: int) -> tuple[int, str]:
    gfn, level = story.access(at).gfn, story.access(at).level
    other = story.last(at, lambda n: story.changed(n) and story.access(n)[2:4] == (level, gfn))
    return other, (
        f"step {other}: {story.name(other)} put a table in the place of {story.leaf(gfn, level)}; step {at}: "
        f"{story.name(at)} wrote another over it"
    )


def _lost(story: _Story, at: int) -> tuple[int, str]:
    access, machine, mine = story.access(at), story.explorer.machine, story.name(at)
    last = access.gfn + machine.root.geometry.pages(access.level)
    lost = [str(gfn) for gfn in range(access.gfn, last) if not machine.is_zapped(gfn)]
    leaf = (access.gfn, access.level, access.before)
    other = story.last(at, lambda step: story.put(step, leaf))
    mapped = (
        f"step {other}: {story.name(other)} mapped it after {mine} had passed its place; " if other else ""
    )
    return other, (
        f"{mapped}step {at}: {mine} took {story.leaf(*leaf[:2])} whole, and with it "
        f"{count_of(len(lost), 'frame')} outside its range: {listed(lost)}"
    )


def _leak(story: _Story, at: int) -> tuple[int, str]:
    other = story.last(at, lambda n: "no double split" in story.broken(n) - story.broken(n - 1))
    if not other:
        return 0, f"after step {at} all have returned, and a page is neither in the tree, in hand nor freed"
    return other, (
        f"step {other}: {story.name(other)} wrote over the only link to a table; after step {at} all have "
        "returned, and that table is neither in the tree nor freed"
    )


def _crossing(story: _Story, at: int) -> tuple[int, str]:
    leaf = next(story.over(at, story.machine(at).leaves))
    other = story.last(at, lambda step: story.put(step, leaf))
    return other, f"step {at}: {story.name(at)} returned 0, and {story.leaf(*leaf[:2])} is there still"


def _unlogged(story: _Story, at: int) -> tuple[int, str]:
    gfn, machine = story.access(at).gfn, story.machine(at)
    pages = machine.root.geometry.pages
    leaf = next(leaf for leaf in sorted(machine.stale) if leaf[0] <= gfn < leaf[0] + pages(leaf[1]))
    gone = story.last(at, lambda step: story.took(step, leaf))
    other = story.last(at, lambda n: story.access(n).token == "return" and story.thread(n).role == "track")
    return other, (
        f"step {other}: {story.name(other)} returned: writes to frame {gfn} are to be logged; step {at}: "
        f"the guest wrote through {story.leaf(*leaf[:2])}, gone since step {gone} and not flushed: that one "
        "is dirty already, so nothing was logged"
    )


def _sleep(story: _Story, at: int) -> tuple[int, str]:
    mine = story.name(at)
    other = story.last(
        at, lambda n: story.name(n) == mine and story.access(n).token.startswith(("lock", "take"))
    )
    return other, f"step {at}: {mine} allocated under the lock that it took at step {other}"


def _failure(story: _Story, at: int) -> tuple[int, str]:
    mine, access = story.name(at), story.access(at)
    if access.token != "external":
        ret, pages = returned(access.result), count_of(story.machine(at).pages, "page")
        why = f": it asked for more than the {pages} that it may have" if ret == -ENOMEM else ""
        return 0, f"step {at}: {mine} returned {ret}{why}"
    topped = story.last(at, lambda n: story.name(n) == mine and story.access(n).token == "top-up")
    other = story.last(at, lambda n: story.name(n) != mine and story.access(n).token == "external")
    if not topped:
        return other, (
            f"step {at}: {mine} needs pages of the cache under mmu_lock, where it cannot allocate, and never "
            "asked for them"
        )
    return other, (
        f"step {topped}: {mine} topped the cache up; step {other}: {story.name(other)} took those pages "
        f"while {mine} had dropped mmu_lock; step {at}: {mine} needs them under mmu_lock, where it cannot "
        "allocate"
    )


_EXPLAINED: dict[str, Callable[[_Story, int], tuple[int, str]]] = {
    "no misreport": _misreport,
    "no stale TLB": _stale,
    "no double split": _double,
    "translations": _lost,
    "no leak": _leak,
    "postcondition": _crossing,
    "no lost dirty bit": _unlogged,
    "no sleep": _sleep,
    "no failure": _failure,
}
