"""Every tree of a toy machine, every range: what a strategy does there, on the engine, against the spec.

A universe is a geometry and all its trees. Each call that some strategy makes on some tree is run on the
engine once, with the tree in its memory, and what lies in memory afterwards is read back: bit for bit a tree
again (a frame that moved, or a bit that changed, raises NotTheTree). A case, one tree and one range, is then
a chain of such steps, and its end is compared with the one tree that :mod:`.spec` expects.

Larger toys have too many cases; :func:`sample` takes some of them, by a seed, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from random import Random
from typing import NamedTuple

from tdpkit.engine.events import run
from tdpkit.engine.gfn import Geometry, GfnRange

from .shapes import (
    HOLE,
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
from .spec import edges_of, holds_both_sides, split_as_forced
from .strategies import Call, Strategy, coroutine_of, plan_of
from .words import count_of, group_digits
from .worlds import JournalWorld


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
"""The universes that are searched whole (findings 3)."""

SAMPLED = {
    "four entries, two levels": Geometry(index_bits=2, root_level=2, max_leaf_level=2),
    "four entries, three levels": Geometry(index_bits=2, root_level=3, max_leaf_level=3),
}
"""Geometries that are sampled."""


# ---- on the engine -------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What one call did to one tree."""

    after: Shape
    visits: int
    splits: int


class Machine:
    """One tree in an engine's memory, on which calls are tried and taken back."""

    def __init__(self, geometry: Geometry, shape: Shape) -> None:
        self.geometry = geometry
        self.shape = shape
        self.root = plant(geometry, shape)
        self.frames = frames_of(geometry, shape)
        self._rows = [self.root.pool.table(row) for row, _, _ in self.root.pool.pages()]
        self._memory = self._read_rows()
        self._tried: dict[Call, Step] = {}

    def step(self, call: Call) -> Step:
        """`call`, made on the tree and taken back. Raises NotTheTree if it does not leave the same frames."""
        if call not in self._tried:
            self._tried[call] = self._try(call)
        return self._tried[call]

    def _try(self, call: Call) -> Step:
        world = JournalWorld(self.root.pool)
        run(coroutine_of(call, self.root), world)
        after = self.shape
        if self._read_rows() != self._memory:
            after = read(self.root)
            if frames_of(self.geometry, after) != self.frames:
                raise NotTheTree(f"{call}: other frames are mapped than before")
        world.undo()
        return Step(after, world.iterations, len(world.splits))

    def _read_rows(self) -> bytes:
        """All that the tree was at first: whatever changes it changes one of these rows."""
        return b"".join(self._rows)


class _Machines(dict[Shape, Machine]):
    """A machine for each tree that was met; strategies meet the same ones again and again."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def __missing__(self, shape: Shape) -> Machine:
        machine = self[shape] = Machine(self.geometry, shape)
        return machine

    def make(self, shape: Shape, calls: Iterable[Call]) -> Step:
        """`calls`, one after the other."""
        visits = splits = 0
        for call in calls:
            shape, visited, made = self[shape].step(call)
            visits += visited
            splits += made
        return Step(shape, visits, splits)


# ---- what is found -------------------------------------------------------------------------------------


class Case(NamedTuple):
    """One tree and one range, and what became of it."""

    geometry: Geometry
    shape: Shape
    span: GfnRange
    calls: tuple[Call, ...]
    verdict: str
    """"exact", "needless" or "wrong", as :class:`.spec.Judgement` has it."""
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
    smallest: Case | None
    """The smallest case that is not exact: a wrong one if there is any, with a range that is not empty if
    there is any; then fewest leaves and tables, the shortest range, the lowest."""

    def __repr__(self) -> str:
        if self.exact == self.cases:
            return f"exact in all {count_of(self.cases, 'case')}"
        return (
            f"{group_digits(self.exact)} of {count_of(self.cases, 'case')} exact, "
            f"{group_digits(self.needless)} safe but not minimal, {group_digits(self.wrong)} wrong"
        )


class _Counter:
    """Counts the cases of one strategy, and keeps the smallest that is not exact."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.cases = self.exact = self.needless = self.wrong = self.most_needless = 0
        self.smallest: Case | None = None
        self._least: tuple[bool, bool, int, int, int] | None = None

    def count(self, shape: Shape, span: GfnRange, calls: list[Call], step: Step, expected: Shape) -> None:
        self.cases += 1
        if step.after == expected:
            self.exact += 1
            return
        geometry, edges = self.geometry, edges_of(span)
        wrong = any(
            holds_both_sides(gfn, geometry.pages(level), edges)
            for gfn, level in leaves_of(geometry, step.after)
        )
        forced = tables_of(expected) - tables_of(shape)
        if wrong:
            self.wrong += 1
        else:
            self.needless += 1
            self.most_needless = max(self.most_needless, step.splits - forced)
        parts = len(leaves_of(geometry, shape)) + tables_of(shape)
        size = (not wrong, not span.pages, parts, span.pages, span.start)
        if self._least is None or size < self._least:
            self._least = size
            self.smallest = Case(
                geometry,
                shape,
                span,
                tuple(calls),
                "wrong" if wrong else "needless",
                step.splits,
                forced,
                step.visits,
                step.after,
                expected,
            )

    def tally(self) -> Tally:
        return Tally(self.cases, self.exact, self.needless, self.wrong, self.most_needless, self.smallest)


# ---- searching -----------------------------------------------------------------------------------------


def search(universe: Universe, strategies: Mapping[str, Strategy]) -> dict[str, Tally]:
    """Every case of `universe` for each of `strategies`, by name.

    Raises NotTheTree if a call leaves a tree whose frames are not those of before.
    """
    geometry, ranges = universe.geometry, universe.ranges
    limit = geometry.root_pages
    plans = {
        name: [plan_of(strategy, geometry, span, limit) for span in ranges]
        for name, strategy in strategies.items()
    }
    counters = {name: _Counter(geometry) for name in strategies}
    machines = _Machines(geometry)
    for shape in universe.shapes():
        by_edges = {}
        for at, span in enumerate(ranges):
            edges = edges_of(span)
            if edges not in by_edges:
                by_edges[edges] = split_as_forced(geometry, shape, edges)
            for name, counter in counters.items():
                calls = plans[name][at]
                counter.count(shape, span, calls, machines.make(shape, calls), by_edges[edges])
    return {name: counter.tally() for name, counter in counters.items()}


def sample(
    geometry: Geometry, strategies: Mapping[str, Strategy], cases: int, seed: int = 0
) -> dict[str, Tally]:
    """Some cases, the same for the same seed: `cases` random trees with a random range each.

    A sample proves nothing; it may find something. Raises as :func:`search`.
    """
    random, frames = Random(seed), geometry.root_pages
    counters = {name: _Counter(geometry) for name in strategies}
    for _ in range(cases):
        shape = random_shape(geometry, random)
        span = GfnRange(*sorted(random.choices(range(frames + 1), k=2)))
        expected = split_as_forced(geometry, shape, edges_of(span))
        machines = _Machines(geometry)
        for name, strategy in strategies.items():
            calls = plan_of(strategy, geometry, span, frames)
            counters[name].count(shape, span, calls, machines.make(shape, calls), expected)
    return {name: counter.tally() for name, counter in counters.items()}
