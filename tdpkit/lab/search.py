"""Every tree of a toy machine, every range: what a strategy does there, on the engine, against the spec.

A universe is a geometry and all its trees. A case is one tree and one range: the calls that a strategy plans
are made on the tree, one after the other, and its end is compared with the one tree that :mod:`.spec`
expects. Every call of every strategy runs on the engine, and what lies in memory afterwards is read back: bit
for bit a tree again, with the frames of before (else NotTheTree).

Cases share what is the same. A call reaches the entries that hold frames of its range, and no other; so it
runs once for each content of these entries that a plan meets, whichever strategy and range that is for, and
whichever calls came before. It runs on one of the trees with that content, and must leave all other entries
of it as they are; trees are taken in a shuffled order, so that now this, now that lies there. A journal takes
each call back, and memory must then be what it was: the next call finds the tree untouched, without its being
planted again.

Larger toys have too many cases; :func:`sample` takes some of them, by a seed, and says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from itertools import count, product
from random import Random
from typing import NamedTuple

from tdpkit.engine.events import run
from tdpkit.engine.gfn import Geometry, GfnRange

from .judge import coroutine_of
from .shapes import (
    HOLE,
    LEAF,
    NotTheTree,
    Shape,
    entries_of,
    frames_of,
    leaves_of,
    plant,
    random_shape,
    read,
    shapes,
    tables_of,
)
from .spec import crossed_edges, edges_of, split_as_forced
from .strategies import PlannedCall, Planner, plan_of
from .words import count_of, group_digits
from .worlds import JournalWorld

Calls = tuple[PlannedCall, ...]


class Universe(NamedTuple):
    """All trees of a geometry (or as many as `shapes` yields), with all ranges, empty ones too."""

    title: str
    geometry: Geometry
    shapes: Callable[[], Iterable[Shape]]

    @property
    def ranges(self) -> list[GfnRange]:
        """Every range of the machine, the shortest first."""
        frames = self.geometry.root_pages
        return [
            GfnRange(start, start + length)
            for length in range(frames + 1)
            for start in range(frames - length + 1)
        ]


def _one_root_entry(geometry: Geometry) -> Iterator[Shape]:
    """Trees with every frame below one entry of the root, first or last; that entry may be empty too."""
    tables = [*product(entries_of(geometry, geometry.root_level - 1, True), repeat=geometry.entries)]
    entries: list[Shape] = [HOLE, *tables]
    empty: tuple[Shape, ...] = (HOLE,) * (geometry.entries - 1)
    for entry in entries:
        yield (entry, *empty)
        yield (*empty, entry)


_F2_3LEVEL = Geometry(index_bits=1, root_level=3, max_leaf_level=3)
_F2_4LEVEL = Geometry(index_bits=1, root_level=4, max_leaf_level=3)

UNIVERSES = {
    "three levels": Universe(
        "2 entries per table, 3 levels, with holes", _F2_3LEVEL, partial(shapes, _F2_3LEVEL)
    ),
    "four levels, full": Universe(
        "2 entries per table, 4 levels, without holes", _F2_4LEVEL, partial(shapes, _F2_4LEVEL, holes=False)
    ),
    "four levels, one root entry": Universe(
        "2 entries per table, 4 levels, with holes, one root entry filled",
        _F2_4LEVEL,
        partial(_one_root_entry, _F2_4LEVEL),
    ),
}
"""The universes that are searched whole (S236)."""

SAMPLED = {
    "four entries, two levels": Geometry(index_bits=2, root_level=2, max_leaf_level=2),
    "four entries, three levels": Geometry(index_bits=2, root_level=3, max_leaf_level=3),
}
"""Geometries that are sampled."""


# ---- on the engine -------------------------------------------------------------------------------------


class Effect(NamedTuple):
    """What one or more calls did to a tree."""

    after: Shape
    visits: int
    splits: int


class ToyTree:
    """One tree in an engine's memory, on which calls are tried."""

    def __init__(self, geometry: Geometry, shape: Shape) -> None:
        self.geometry = geometry
        self.shape = shape
        tables = sum(geometry.entries**below for below in range(geometry.root_level))
        self.root = plant(geometry, shape, capacity=tables + 1)  # and the page that a split may have to spare
        self._frames = frames_of(geometry, shape)
        self._world = JournalWorld(self.root.pool)
        self._memory = self._read_memory()

    def tried(self, call: PlannedCall) -> Effect:
        """What `call` does to the tree; it is taken back.

        Raises NotTheTree if it does not leave the same frames, or if memory is not what it was afterwards.
        """
        world, after = self._world, self.shape
        visits, splits = world.iterations, len(world.splits)
        run(coroutine_of(call, self.root), world)
        changed = self._read_memory() != self._memory
        if changed:
            after = read(self.root)
            if frames_of(self.geometry, after) != self._frames:
                raise NotTheTree(f"{call}: other frames are mapped than before")
        world.undo()
        if changed and self._read_memory() != self._memory:
            raise NotTheTree(f"{call}: taken back, it leaves other memory than before")
        return Effect(after, world.iterations - visits, len(world.splits) - splits)

    def _read_memory(self) -> bytes:
        """Every row of the pool, in use or not."""
        return b"".join(chunk for _, chunk in self.root.pool.chunks)


def reached(geometry: Geometry, table: Shape, level: int, start: int, end: int) -> Shape:
    """The table with a hole in place of all that a call does not reach: what the call depends on.

    level: of its entries. start, end: the call's range, counted from the table's first frame.
    """
    pages, found = geometry.pages(level), []
    for first, entry in zip(count(0, pages), table):
        if first >= end or first + pages <= start:
            entry = HOLE
        elif not isinstance(entry, str) and not (start <= first and first + pages <= end):
            entry = _reached(geometry, entry, level - 1, max(start - first, 0), min(end - first, pages))
        found.append(entry)
    return tuple(found)


def put_back(geometry: Geometry, after: Shape, table: Shape, level: int, start: int, end: int) -> Shape:
    """The table `after` a call was made on what it reaches, with all else as it was in `table`."""
    pages, found = geometry.pages(level), []
    for first, entry, was in zip(count(0, pages), after, table):
        if first >= end or first + pages <= start:
            entry = was
        elif not isinstance(entry, str) and not (start <= first and first + pages <= end):
            below = (LEAF,) * geometry.entries if was == LEAF else was
            entry = _put_back(
                geometry, entry, below, level - 1, max(start - first, 0), min(end - first, pages)
            )
        found.append(entry)
    return tuple(found)


_reached, _put_back = (lru_cache(maxsize=1 << 16)(function) for function in (reached, put_back))


_Known = dict[Shape, tuple[Shape, int, int]]
"""By what a call meets, its effect; plain tuples, which Python's collector of garbage need not look at."""


class _Engine:
    """What calls do to trees of one geometry: each runs once for each content of the entries it reaches.

    planted: trees that are kept in memory.
    """

    def __init__(self, geometry: Geometry, planted: int) -> None:
        self.geometry = geometry
        self._known: dict[PlannedCall, _Known] = defaultdict(dict)
        self._ran: dict[PlannedCall, _Known] = defaultdict(dict)
        self._planted = lru_cache(maxsize=planted)(partial(ToyTree, geometry))

    def effect(self, shape: Shape, call: PlannedCall) -> Effect:
        """What `call` does to the tree. Raises NotTheTree if it reaches further than it should.

        Trees that agree in the root's entries that it reaches are told apart no further.
        """
        shift = self.geometry.shifts[self.geometry.root_level]
        first, last = call.start >> shift, (max(call.end, call.start + 1) - 1 >> shift) + 1
        known, part = self._known[call], shape[first:last]
        if part not in known:
            after, visits, splits = self._run(shape, call)
            known[part] = after[first:last], visits, splits
        after, visits, splits = known[part]
        return Effect((*shape[:first], *after, *shape[last:]), visits, splits)

    def _run(self, shape: Shape, call: PlannedCall) -> Effect:
        geometry, range_of_call = self.geometry, (self.geometry.root_level, call.start, call.end)
        ran, met = self._ran[call], reached(geometry, shape, *range_of_call)
        if met not in ran:
            effect = self._planted(shape).tried(call)
            if put_back(geometry, effect.after, shape, *range_of_call) != effect.after:
                raise NotTheTree(f"{call}: it has split what lies beyond its range")
            ran[met] = effect.after, effect.visits, effect.splits
        after, visits, splits = ran[met]
        return Effect(put_back(geometry, after, shape, *range_of_call), visits, splits)

    def made(self, shape: Shape, calls: Calls) -> Effect:
        """What `calls`, one after the other, do to the tree."""
        visits = splits = 0
        for call in calls:
            shape, visited, split = self.effect(shape, call)
            visits, splits = visits + visited, splits + split
        return Effect(shape, visits, splits)


class _Forest:
    """The trees that a search has met, by number, and where calls lead from one to the other."""

    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.shapes: list[Shape] = []
        self._numbers: dict[Shape, int] = {}
        self._leads: dict[PlannedCall, _Leads] = {}

    def number_of(self, shape: Shape) -> int:
        """The number of `shape`: 0 for the tree met first."""
        if shape not in self._numbers:
            self._numbers[shape] = len(self.shapes)
            self.shapes.append(shape)
        return self._numbers[shape]

    def after(self, numbers: list[int], calls: Calls) -> list[int]:
        """The trees that `calls`, one after the other, make of these."""
        for call in calls:
            leads = self._leads.setdefault(call, _Leads(self, call))
            numbers = [leads[number] for number in numbers]
        return numbers


class _Leads(dict[int, int]):
    """For one call, the number of the tree that it makes of each; asked of the engine when it is needed."""

    def __init__(self, forest: _Forest, call: PlannedCall) -> None:
        super().__init__()
        self.forest = forest
        self.call = call

    def __missing__(self, number: int) -> int:
        forest = self.forest
        self[number] = forest.number_of(forest.engine.effect(forest.shapes[number], self.call).after)
        return self[number]


# ---- what is found -------------------------------------------------------------------------------------


class ToyCase(NamedTuple):
    """One tree and one range, and what became of it."""

    geometry: Geometry
    shape: Shape
    span: GfnRange
    calls: Calls
    verdict: str
    """"exact", "needless" or "wrong", as :class:`.judge.Judgement` has it."""
    splits: int
    forced: int
    """Splits that the spec demands."""
    visits: int
    after: Shape
    expected: Shape


class Tally(NamedTuple):
    """What one strategy did in a universe."""

    cases: int
    exact: int
    needless: int
    """Cases in which it was safe and split more than it had to."""
    wrong: int
    """Cases in which a leaf still crosses an edge."""
    most_needless: int
    """The most splits too many in one of the safe cases."""
    smallest: ToyCase | None
    """The smallest case that is not exact: a wrong one if there is any, with a range that is not empty if
    there is any; then fewest leaves and tables, the shortest range, the lowest."""

    def __repr__(self) -> str:
        if self.exact == self.cases:
            return f"exact in all {count_of(self.cases, 'case')}"
        return (
            f"{group_digits(self.exact)} of {count_of(self.cases, 'case')} exact, "
            f"{group_digits(self.needless)} safe but not minimal, {group_digits(self.wrong)} wrong"
        )


class CaseCounter:
    """Counts the cases of one strategy, and keeps the smallest that is not exact."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.cases = self.needless = self.wrong = self.most_needless = 0
        self.smallest: ToyCase | None = None
        self._least: tuple[bool, bool, int, int, int, int] | None = None
        self._crossed = cache(partial(crossed_edges, geometry))
        self._parts = cache(lambda shape: len(leaves_of(geometry, shape)) + tables_of(shape))

    def not_exact(
        self, number: int, shape: Shape, span: GfnRange, calls: Calls, effect: Effect, expected: Shape
    ) -> None:
        """One of the cases ended in another tree than the expected one."""
        wrong = not self._crossed(effect.after).isdisjoint((span.start, span.end))
        forced = tables_of(expected) - tables_of(shape)
        if wrong:
            self.wrong += 1
        else:
            self.needless += 1
            self.most_needless = max(self.most_needless, effect.splits - forced)
        size = (not wrong, not span.pages, self._parts(shape), span.pages, span.start, number)
        if self._least is None or size < self._least:
            self._least = size
            verdict = "wrong" if wrong else "needless"
            after, visits, splits = effect
            self.smallest = ToyCase(
                self.geometry, shape, span, calls, verdict, splits, forced, visits, after, expected
            )

    def tally(self) -> Tally:
        """What was counted."""
        exact = self.cases - self.needless - self.wrong
        return Tally(self.cases, exact, self.needless, self.wrong, self.most_needless, self.smallest)


# ---- searching -----------------------------------------------------------------------------------------


def search(universe: Universe, strategies: Mapping[str, Planner]) -> dict[str, Tally]:
    """Every case of `universe` for each of `strategies`, by name.

    Raises NotTheTree if a call leaves a tree whose frames are not those of before.
    """
    geometry, engine = universe.geometry, _Engine(universe.geometry, 1 << 12)
    forest = _Forest(engine)
    found = [forest.number_of(shape) for shape in universe.shapes()]
    Random(0).shuffle(found)
    counters = {name: CaseCounter(geometry) for name in strategies}
    for span in universe.ranges:
        edges = edges_of(span)
        trees = [forest.shapes[number] for number in found]
        expected = [forest.number_of(split_as_forced(geometry, tree, edges)) for tree in trees]
        for name, planner in strategies.items():
            calls = tuple(plan_of(planner, geometry, span, geometry.root_pages))
            left = forest.after(found, calls)
            counters[name].cases += len(found)
            if left == expected:
                continue
            for number, one, other in zip(found, left, expected, strict=True):
                if one != other:
                    tree, right = forest.shapes[number], forest.shapes[other]
                    counters[name].not_exact(number, tree, span, calls, engine.made(tree, calls), right)
    return {name: counter.tally() for name, counter in counters.items()}


def sample(
    geometry: Geometry, strategies: Mapping[str, Planner], cases: int, seed: int = 0
) -> dict[str, Tally]:
    """Some cases, the same for the same seed: `cases` random trees with a random range each.

    A sample proves nothing; it may find something. Raises as :func:`search`.
    """
    random, frames, engine = Random(seed), geometry.root_pages, _Engine(geometry, 1 << 4)
    counters = {name: CaseCounter(geometry) for name in strategies}
    plans = cache(
        lambda span: [(name, tuple(plan_of(one, geometry, span, frames))) for name, one in strategies.items()]
    )
    for number in range(cases):
        shape = random_shape(geometry, random)
        span = GfnRange(*sorted(random.choices(range(frames + 1), k=2)))
        expected = split_as_forced(geometry, shape, edges_of(span))
        for name, calls in plans(span):
            effect = engine.made(shape, calls)
            counters[name].cases += 1
            if effect.after != expected:
                counters[name].not_exact(number, shape, span, calls, effect, expected)
    return {name: counter.tally() for name, counter in counters.items()}
