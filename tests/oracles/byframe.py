"""A guest frame by frame: what the tests of the lab's guest and of its pictures compare with.

Two arrays say, for each frame, the level of the leaf it lies in (0: none) and that leaf's first frame. No
table is read and nothing is walked; what is asked of a range is asked of every frame.
"""

from __future__ import annotations

import sys
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tdpkit.engine.gfn import Geometry
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import LeafRun
from tdpkit.lab.guest import ACTIONS, VM_KINDS
from tdpkit.lab.layouts import LAYOUTS, Layout

Leaf = tuple[int, int]
"""(gfn, level)."""


class Frames:
    """The frames of a guest, as they are; `split` and `zap` give others."""

    def __init__(self, layout: Layout) -> None:
        self.width = 2**layout.geometry.index_bits
        self.root_level = layout.geometry.root_level
        self.level = np.zeros(layout.frames, dtype=np.int8)
        self.leaf = np.full(layout.frames, -1, dtype=np.int64)
        for gfn, level, count, _ in layout.leaves:
            frames = np.arange(gfn, gfn + count * self.pages(level))
            self.level[frames] = level
            self.leaf[frames] = frames // self.pages(level) * self.pages(level)
        self.reached = {level: self._blocks_with_leaves_below(level) for level in self._levels_with_tables()}

    def pages(self, level: int) -> int:
        return int(self.width ** (level - 1))

    def _levels_with_tables(self) -> range:
        return range(2, self.root_level + 1)

    def _blocks_with_leaves_below(self, level: int) -> set[int]:
        """Numbers of the `level` entries under which there is a table, since smaller leaves lie there."""
        small = np.flatnonzero((self.level > 0) & (self.level < level))
        return set(np.flatnonzero(np.bincount(small // self.pages(level))).tolist())

    def copy(self) -> Frames:
        twin = object.__new__(Frames)
        twin.width, twin.root_level = self.width, self.root_level
        twin.level, twin.leaf = self.level.copy(), self.leaf.copy()
        twin.reached = {level: set(blocks) for level, blocks in self.reached.items()}
        return twin

    def holds_both_sides(self, edge: int) -> bool:
        """One leaf holds both frame edge - 1 and frame edge."""
        return 0 < edge < len(self.level) and self.leaf[edge] >= 0 and self.leaf[edge - 1] == self.leaf[edge]

    def crossing(self, start: int, end: int) -> list[Leaf]:
        held = {(int(self.leaf[x]), int(self.level[x])) for x in (start, end) if self.holds_both_sides(x)}
        return sorted(held)

    def split(self, start: int, end: int) -> tuple[Frames, list[Leaf]]:
        """The forced closure (findings 3, P3), and what was split, parents before children, in order."""
        after, done = self.copy(), []
        for edge in (start, end):
            while after.holds_both_sides(edge):
                gfn, level = int(after.leaf[edge]), int(after.level[edge])
                frames = np.arange(gfn, gfn + self.pages(level))
                after.level[frames] = level - 1
                after.leaf[frames] = frames // self.pages(level - 1) * self.pages(level - 1)
                after.reached[level].add(gfn // self.pages(level))
                done.append((gfn, level))
        return after, sorted(done, key=lambda leaf: (leaf[0], -leaf[1]))

    def zap(self, start: int, end: int) -> Frames:
        """Every leaf with a frame of [start, end) is gone, whole; tables stay."""
        after = self.copy()
        beyond = self.leaf + np.array([self.pages(max(level, 1)) for level in range(6)])[self.level]
        gone = (self.level > 0) & (self.leaf < end) & (beyond > start)
        after.level[gone], after.leaf[gone] = 0, -1
        return after

    def visits(self, start: int, end: int, min_level: int) -> int:
        """Entries of tables at `min_level` and above that hold frames of [start, end)."""
        found = 0
        for level in range(min_level, self.root_level + 1):
            entries = range(start // self.pages(level), (end - 1) // self.pages(level) + 1)
            if level == self.root_level:
                found += len(entries)
            else:
                found += sum(entry // self.width in self.reached[level + 1] for entry in entries)
        return found


GUESTS = ("eight", "toy", "one-1G", "mixed", "16T")
"""Layouts that a plain VM holds and a TD's private half too, one of each kind."""


@cache
def named(name: str) -> Frames:
    """The frames of a layout of LAYOUTS (to be read, not changed)."""
    return Frames(LAYOUTS[name])


class Expected(NamedTuple):
    """The fields of a GuestOutcome, by counting frames."""

    crossing: list[Leaf]
    split_visits: int
    zap_visits: int
    splits: list[Leaf]
    zapped_inside: int
    outside: list[tuple[int, int]]
    """[first, last) of each stretch of frames."""


def after_action(before: Frames, start: int, end: int, action: str) -> tuple[Frames, list[Leaf]]:
    """The frames after `action`, and the leaves it split."""
    after, splits = before.split(start, end) if "split" in action else (before, [])
    return (after.zap(start, end) if "zap" in action else after), splits


def expected(before: Frames, start: int, end: int, action: str) -> Expected:
    """What `action` on [start, end) does, by the documented meaning of each field of a GuestOutcome."""
    after, splits = after_action(before, start, end, action)
    split, would = before.split(start, end)
    split_visits = 0
    if action != "zap":
        # findings 1: the visits of the final table, and the way down from the root again for each split.
        again = sum(before.root_level - level + 1 for _, level in would)
        split_visits = split.visits(start, end, 2) + again
    taken = before.zap(start, end) if action == "look" else after
    gone = (before.level > 0) & (taken.level == 0)
    inside = np.zeros(len(gone), dtype=bool)
    inside[start:end] = True
    return Expected(
        crossing=before.crossing(start, end),
        split_visits=split_visits,
        zap_visits=(split if "split" in action else before).visits(start, end, 1) if "zap" in action else 0,
        splits=splits,
        zapped_inside=int((gone & inside).sum()) if "zap" in action else 0,
        outside=_stretches(gone & ~inside),
    )


def _stretches(frames: np.ndarray) -> list[tuple[int, int]]:
    """[first, last) of each run of True."""
    changes = np.flatnonzero(np.diff(frames.astype(np.int8), prepend=0, append=0))
    return [(first, last) for first, last in changes.reshape(-1, 2).tolist()]


def told(outcome) -> Expected:
    """A GuestOutcome in the same form."""
    return Expected(
        crossing=[(leaf.gfn, leaf.level) for leaf in outcome.crossing],
        split_visits=outcome.split_visits,
        zap_visits=outcome.zap_visits,
        splits=list(outcome.splits),
        zapped_inside=outcome.zapped_inside,
        outside=[(part.start, part.end) for part in outcome.outside],
    )


def memory(pool: PageTablePool) -> tuple[object, ...]:
    """All that a machine is: the entries of every row in use, its role and its place; and how many those are.

    Free rows, of which there may be more than before, count only where they are not clean.
    """
    rows, clean = range(len(pool.role)), (1 << 63).to_bytes(8, sys.byteorder) * pool.geometry.entries
    used = {row: (pool.role[row], pool.gfn[row], pool.table(row).tobytes()) for row in rows if pool.role[row]}
    unclean = [row for row in rows if not pool.role[row] and pool.table(row).tobytes() != clean]
    return used, unclean, pool.rows_in_use, pool.rcu_readers


# ---- guests and ranges to try --------------------------------------------------------------------------


def layouts(frames: tuple[int, int] = (1, 256)) -> st.SearchStrategy[Layout]:
    """Leaves of every allowed level and holes, on host frames in step with the guest's or elsewhere."""
    return cases(frames).map(lambda case: case[0])


def cases(frames: tuple[int, int] = (1, 256)) -> st.SearchStrategy[tuple[Layout, int, int]]:
    """A layout of such a size, and a range of it: not empty, its edges aligned to a level or not."""
    shapes = [
        Geometry(bits, root_level, largest)
        for bits in (1, 2, 3)
        for root_level in (2, 3, 4)
        for largest in range(1, root_level + 1)
        if frames[0] <= 2 ** (bits * root_level - 1) <= frames[1]
    ]
    shapes += 3 * [shape for shape in shapes if shape.max_leaf_level > 1]  # where a leaf may cross an edge
    # One seed instead of a draw for each leaf: ten times as many cases in the same time.
    return st.builds(_case, st.sampled_from(shapes), st.integers(0, 1 << 20), st.just(frames[0]))


def _case(geometry: Geometry, seed: int, at_least: int) -> tuple[Layout, int, int]:
    random = Random(seed)
    layout = _layout(geometry, random, at_least)

    def edge(low: int, high: int) -> int:
        size = geometry.pages(random.randint(1, geometry.root_level)) if random.random() < 0.3 else 1
        return max(low, random.randint(low, high) // size * size)

    start = edge(0, layout.frames - 1)
    return layout, start, edge(start + 1, layout.frames)


def _layout(geometry: Geometry, random: Random, at_least: int) -> Layout:
    """As large as the half of its root that a TD has, or ending anywhere after its last leaf."""
    last, offset = geometry.root_pages // 2, random.choice([0, geometry.root_pages])
    hole = random.choice([0, 0, 0.1, 0.4])
    leaves, gfn = [], 0
    while gfn < last:
        fitting = [n for n in range(1, geometry.max_leaf_level + 1) if gfn % geometry.pages(n) == 0]
        fitting = [n for n in fitting if gfn + geometry.pages(n) <= last]
        level = max(random.choice(fitting), random.choice(fitting))
        count = random.randint(1, min((last - gfn) // geometry.pages(level), 2 * geometry.entries))
        if random.random() >= hole:
            leaves.append(LeafRun(gfn, level, count, gfn + offset))
        gfn += count * geometry.pages(level)
    if random.random() < 0.1:
        leaves = leaves[: random.randint(0, len(leaves))]
    end = max([1, at_least, *(leaf.gfn + leaf.count * geometry.pages(leaf.level) for leaf in leaves)])
    return Layout(geometry, tuple(leaves), random.choice([last, random.randint(end, last)]))


kinds = st.sampled_from(sorted(VM_KINDS))
actions = st.sampled_from(ACTIONS)
