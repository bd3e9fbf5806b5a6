"""Toy TDs on which a variant is tried: every tree of a small machine, in the mirror root.

A :class:`ToyTd` holds one tree below the first entry of its mirror root (the second is the shared half's), so
a tree of three levels, as `shapes` has them, stands in a root of four. Leaves of the largest size stand for
1G: the series maps none in a TD, so trees with such a leaf are a marked what-if (S3).
"""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import way_down

from ..search import UNIVERSES, Effect
from ..shapes import HOLE, LEAF, NotTheTree, Shape, frames_of, leaves_of, plant_in, read, tables_of
from ..words import listed, noun_for
from .rules import TrialWorld, drive
from .variant import Broke, Variant

UNIVERSE = UNIVERSES["three levels"]
MACHINE = UNIVERSE.geometry
"""Two entries per table: leaves of one, two and four frames, eight frames in all."""
TD = Geometry(MACHINE.index_bits, MACHINE.root_level + 1, MACHINE.max_leaf_level)
"""The same below the first entry of a root."""

_1G, _2M, _4K = LEAF, (LEAF, LEAF), ((LEAF, LEAF), (LEAF, LEAF))
FEW: dict[str, Shape] = {
    "1G leaves": (_1G, _1G),
    "2M leaves": (_2M, _2M),
    "4K leaves": (_4K, _4K),
    "mixed": ((LEAF, (LEAF, HOLE)), _1G),
    "empty": (HOLE, (HOLE, (HOLE, HOLE))),
}
"""Trees for what need not be tried on all; sizes as the toy's stand for those of x86."""


class ToyTd:
    """A TD whose mirror holds `shape`. Calls are made on it and taken back.

    missing: bits that its leaves lack, which a shape's leaves have.
    """

    def __init__(self, shape: Shape, missing: int = 0) -> None:
        self.shape = shape
        # The page that a split may have to spare included, so that the pool never grows.
        capacity = 4 + sum(MACHINE.entries**below for below in range(MACHINE.root_level))
        pool = PageTablePool(TD, capacity=capacity)
        self.kvm = Kvm(KVM_X86_TDX_VM, TD, pool=pool, td_leaf_level=TD.max_leaf_level)
        assert self.kvm.mirror_root is not None
        self.root = self.kvm.mirror_root
        plant_in(self.root, (shape, HOLE))
        for gfn, level in leaves_of(MACHINE, shape) if missing else ():
            at = way_down(self.root, gfn, level)[-1]
            pool.table(at.row)[at.index] = at.spte & ~missing
        self.world = TrialWorld(pool)
        self.kvm.slots_lock.__enter__()
        self._frames = frames_of(MACHINE, shape)
        self._memory = self._read_memory()
        self._references = self._read_references()

    def has_references_left(self) -> bool:
        """Whether a call did not put a root that it got."""
        return self._read_references() != self._references

    def _read_references(self) -> list[int]:
        return [root.tdp_mmu_root_count for root in self.kvm.tdp_mmu_roots]

    def range(self, span: GfnRange) -> KvmGfnRange:
        """`span` of the private half."""
        return KvmGfnRange(self.kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE)

    def call(self, variant: Variant, span: GfnRange) -> int:
        """Make a call of `variant` in `world`, which is set up before; what it returned."""
        return drive(variant.call(self.kvm, self.range(span), self.world.shared), self.world)

    def tree(self) -> Shape:
        """The tree that lies in memory now; raises NotTheTree if it is none, or maps other frames."""
        if self._read_memory() == self._memory:
            return self.shape
        after: Shape = read(self.root)
        if isinstance(after, str) or isinstance(below := after[0], str) or after[1] != HOLE:
            raise NotTheTree("an entry of the root is not what it was")
        if frames_of(MACHINE, below) != self._frames:
            raise NotTheTree("other frames are mapped than before")
        return below

    def undo(self) -> None:
        """Take back all that was done. Raises Broke if memory is then not what it was."""
        self.world.undo()
        if self._read_memory() != self._memory:
            raise Broke("it changed tables without an event for each change")
        if self.has_references_left():
            raise Broke("it keeps a reference on a root")

    def tried(self, variant: Variant, span: GfnRange) -> Effect:
        """The effect of a call without faults, then taken back. Raises Broke if it says that it failed."""
        world = self.world
        world.again()
        ret = self.call(variant, span)
        if ret:
            raise Broke(f"it returned {ret}, and nothing failed")
        after = self.tree()
        # Counted in the tree: a split of somebody's own need not trace what it does.
        effect = Effect(after, world.iterations, tables_of(after) - tables_of(self.shape))
        self.undo()
        return effect

    def lost_tables(self) -> int:
        """Page-table pages that are neither in a tree nor free."""
        linked = len(self.kvm.tdp_mmu_roots) + tables_of(self.tree())
        return self.kvm.pool.rows_in_use - linked

    def _read_memory(self) -> bytes:
        return b"".join(chunk for _, chunk in self.kvm.pool.chunks)


class Place(NamedTuple):
    """Where something was seen: a tree and a range."""

    shape: Shape
    span: GfnRange

    def __str__(self) -> str:
        return f"frames [{self.span.start}, {self.span.end}) of a toy, {in_words(self.shape)}"


def in_words(shape: Shape) -> str:
    """The leaves of a tree of MACHINE: ``leaves [0, 4), [4, 6) and 6``."""
    spans = ((gfn, gfn + MACHINE.pages(level)) for gfn, level in leaves_of(MACHINE, shape))
    leaves = [f"[{first}, {last})" if last > first + 1 else str(first) for first, last in spans]
    return f"{noun_for(len(leaves), 'leaf', 'leaves')} {listed(leaves)}" if leaves else "an empty tree"
