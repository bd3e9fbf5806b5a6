"""Claims about the interface: a concept in the core, helpers and their names, two categories of callers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from types import SimpleNamespace
from typing import Any, cast

from tdpkit.engine.events import AllocTable, Coroutine, World, record
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_FILTER_SHARED, Kvm, KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
)
from tdpkit.engine.splits import (
    kvm_tdp_mmu_split_huge_pages_cross_boundary,
    kvm_tdp_mmu_split_huge_pages_log_dirty,
)
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import iter_cross_boundary
from tdpkit.engine.tree import leaves, map_run

from ..guest import VM_KINDS
from ..layouts import DEEP_TOY, LAYOUTS, TOY
from ..search import UNIVERSES, ToyTree, search
from ..shapes import Shape, leaves_of, shapes
from ..spec import crossed_edges, edges_of
from ..strategies import STRATEGIES, PlannedCall
from ..words import count_of, group_digits
from .claim import FAILS, HOLDS, Claim, Finding, Lesson
from .trees import counted, rooted

_UNIVERSE = UNIVERSES["three levels"]
_BESIDE = ("one_block_per_edge", "empty_range")
"""Strategies whose calls do without the patch's filter."""


# ---- a special concept, and a shared helper ----------------------------------------------------------------


def _the_concept() -> Finding:
    """Do without the flag on every toy tree, and ask the patch's predicate about leaves that no walk visits.

    Plain calls leave the trees that the flag leaves (S233), and "not fully inside" is also true of a leaf
    beside the range (S101).
    """
    plain = {name: STRATEGIES[name] for name in _BESIDE}
    tallies = search(_UNIVERSE, plain)
    flags = sum(
        call.only_cross_boundary
        for span in _UNIVERSE.ranges
        for plan in plain.values()
        for call in plan(_UNIVERSE.geometry, span)
    )
    geometry, asked, beside = DEEP_TOY, 0, 0
    found = [*leaves(rooted(LAYOUTS["steps"]))]
    for s, e in combinations(range(0, geometry.root_pages + 1, 3), 2):
        for leaf in found:
            # Of the iterator the predicate reads these three.
            it = cast(TdpIter, SimpleNamespace(gfn=leaf.gfn, level=leaf.level, shifts=geometry.shifts))
            if iter_cross_boundary(it, s, e):
                asked += 1
                beside += leaf.gfn >= e or leaf.gfn + geometry.pages(leaf.level) <= s
    exact = all(one.exact == one.cases for one in tallies.values())
    shown = (
        f"Plain calls, with {flags} flags, need no such concept: one block per edge is "
        f"{tallies['one_block_per_edge']!r} of a toy machine, a call over an empty range too. "
        f"iter_cross_boundary() says yes of {group_digits(asked)} leaves and ranges; in "
        f"{group_digits(beside)} of them the leaf lies beside the range and crosses nothing. What the core "
        "should hold, and whether the term confuses, are matters of taste."
    )
    return Finding(HOLDS if exact and not flags else FAILS, shown)


class _Refusing(World):
    """Grants so many pages, and no more."""

    def __init__(self, pages: int) -> None:
        super().__init__()
        self.pages = pages

    def alloc_table(self, event: AllocTable) -> int | None:
        self.pages -= 1
        return super().alloc_table(event) if self.pages >= 0 else None


Call = Callable[[Kvm, int, int, int], Coroutine[Any]]
"""A call on frames [s, e) of a VM, by filter: (kvm, s, e, filter)."""

_FILTERS = (KVM_FILTER_SHARED, KVM_FILTER_PRIVATE, KVM_FILTER_SHARED | KVM_FILTER_PRIVATE)


def _events_of(call: Call, kind: str, s: int, e: int, attr_filter: int, pages: int) -> list[str]:
    """The events of a call on a fresh VM with two huge leaves in each tree; `pages` are granted."""
    kvm = Kvm(VM_KINDS[kind], TOY)
    for root in kvm.tdp_mmu_roots:
        map_run(root, 0, PG_LEVEL_2M, 2, 0)
    return [*map(str, record(call(kvm, s, e, attr_filter), _Refusing(pages)).events)]


def _one_helper() -> Finding:
    """Make the patch's call and the dirty-log split, each beside M1's wrapper, and compare event by event.

    In plain VMs and TDs, for each filter, with memory and without (S123). On a TD M1's dirty-log
    wrapper WARNs and splits nothing (S124).
    """

    def patch(kvm: Kvm, s: int, e: int, attr_filter: int) -> Coroutine[int]:
        span = KvmGfnRange(kvm.slot, s, e, attr_filter)
        return kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, span, shared=False)

    def crossing_wrapper(kvm: Kvm, s: int, e: int, attr_filter: int) -> Coroutine[int]:
        span = KvmGfnRange(kvm.slot, s, e, attr_filter)
        return kvm_tdp_mmu_split_huge_pages_cross_boundary(kvm, span, PG_LEVEL_4K, shared=False)

    def dirty_log(kvm: Kvm, s: int, e: int, _: int) -> Coroutine[None]:
        return kvm_tdp_mmu_try_split_huge_pages(kvm, kvm.slot, s, e, PG_LEVEL_4K, shared=False)

    def dirty_log_wrapper(kvm: Kvm, s: int, e: int, _: int) -> Coroutine[int]:
        return kvm_tdp_mmu_split_huge_pages_log_dirty(kvm, kvm.slot, s, e, PG_LEVEL_4K, shared=False)

    edges = [*combinations(range(0, 2 * TOY.pages(PG_LEVEL_2M) + 1, 3), 2)]
    made = [(s, e, attr_filter, pages) for s, e in edges for attr_filter in _FILTERS for pages in (0, 1, 4)]
    pairs = [
        (patch, crossing_wrapper, "plain"),
        (patch, crossing_wrapper, "TD"),
        (dirty_log, dirty_log_wrapper, "plain"),
    ]
    alike = sum(
        _events_of(one, kind, *call) == _events_of(other, kind, *call)
        for one, other, kind in pairs
        for call in made
    )
    on_td = {len(_events_of(dirty_log_wrapper, "TD", *call)) for call in made}
    cases = len(pairs) * len(made)
    shown = (
        "The patch's call, the dirty-log split and M1's two wrappers around one helper: event by event the "
        f"same in {group_digits(alike)} of {count_of(cases, 'pair')} of calls, refused pages included. On a "
        f"TD M1's dirty-log wrapper only warns: it makes {count_of(max(on_td), 'event')}."
    )
    return Finding(HOLDS if alike == cases else FAILS, shown)


# ---- two categories ----------------------------------------------------------------------------------------


def _toy_trees() -> list[tuple[Shape, ToyTree]]:
    """Every tree of the toy machine that maps all frames."""
    geometry = _UNIVERSE.geometry
    return [(shape, ToyTree(geometry, shape)) for shape in shapes(geometry, holes=False)]


def _level_of(shape: Shape, gfn: int) -> int:
    """The level of the leaf that holds `gfn`."""
    geometry = _UNIVERSE.geometry
    return next(
        level for first, level in leaves_of(geometry, shape) if first <= gfn < first + geometry.pages(level)
    )


def _block(gfn: int, level: int) -> tuple[int, int]:
    """The edges of the aligned block of `level` that holds `gfn`."""
    geometry = _UNIVERSE.geometry
    first = geometry.gfn_round_for_level(gfn, level)
    return first, first + geometry.pages(level)


_LEVELS = range(PG_LEVEL_4K, _UNIVERSE.geometry.max_leaf_level)
"""Levels that a guest can accept while a larger leaf is mapped."""


def _two_categories() -> Finding:
    """Say both categories as predicates over leaves, and hold the trees that two calls leave against them.

    Category 1: no leaf holds frames on both sides of an edge. Category 2: the frame's leaf is of a level or
    below. The patch's walk is for the first, a plain split to a level for the second (S131).
    """
    first = second = ranges = frames = free = 0
    for _, tree in _toy_trees():
        for span in _UNIVERSE.ranges:
            if not span.pages:
                continue
            after = tree.tried(PlannedCall(span.start, span.end, PG_LEVEL_4K, only_cross_boundary=True)).after
            ranges += 1
            first += crossed_edges(_UNIVERSE.geometry, after).isdisjoint(edges_of(span))
            free += _level_of(after, span.start) > PG_LEVEL_4K
        for gfn in range(_UNIVERSE.geometry.root_pages):
            for level in _LEVELS:
                after = tree.tried(PlannedCall(*_block(gfn, level), level)).after
                frames += 1
                second += _level_of(after, gfn) <= level
    shown = (
        f"The patch's walk meets the first category in {group_digits(first)} of {count_of(ranges, 'case')} "
        f"of a toy machine; in {group_digits(free)} of them the start stays in a huge leaf, which the second "
        f"would forbid. A plain split to a level meets the second in {group_digits(second)} of "
        f"{group_digits(frames)}."
    )
    return Finding(HOLDS if first == ranges and second == frames and free else FAILS, shown)


def _one_from_the_other() -> Finding:
    """Split at the edges of the aligned block around a frame, and the block to the level: compare the trees.

    They are the same (S131). Then a 1G leaf of which 2M are accepted: one table at the edges, one to 2M, two
    to 4K.
    """
    cases = same = met = 0
    larger = set[int]()
    for shape, tree in _toy_trees():
        for gfn in range(_UNIVERSE.geometry.root_pages):
            for level in _LEVELS:
                edges = _block(gfn, level)
                by_edges = tree.tried(PlannedCall(*edges, PG_LEVEL_4K, only_cross_boundary=True))
                to_level = tree.tried(PlannedCall(*edges, level))
                cases += 1
                same += by_edges.after == to_level.after
                met += _level_of(by_edges.after, gfn) <= level
                if by_edges.splits and level == PG_LEVEL_2M:
                    larger.add(_level_of(shape, gfn))
    span = GfnRange.parse("1G+2M", "1G+4M")
    at_edges, to_2m, to_4k = (
        counted(LAYOUTS["one-1G"], lambda *_, call=call: [call], span).splits
        for call in (
            PlannedCall(span.start, span.end, PG_LEVEL_4K, only_cross_boundary=True),
            PlannedCall(span.start, span.end, PG_LEVEL_2M),
            PlannedCall(span.start, span.end, PG_LEVEL_4K),
        )
    )
    shown = (
        f"A split at the edges of the accepted block puts the frame at its level in {group_digits(met)} of "
        f"{count_of(cases, 'case')} of a toy machine, and leaves the tree of a split to that level in "
        f"{group_digits(same)}. Of a 1G leaf, for 2M: {at_edges} table at the edges, {to_2m} to 2M, {to_4k} "
        "to 4K."
    )
    only_1g = larger == {_UNIVERSE.geometry.max_leaf_level}
    return Finding(HOLDS if same == met == cases and only_1g and at_edges == to_2m < to_4k else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        8,
        ("M2",),
        "“cross_boundary” is a confusing concept",
        "The concept “cross_boundary” does not belong in the guts of the TDP MMU. It is weird and specific, "
        "and the term is extremely confusing.",
        "M13 finds the flag “indeed a bit odd”, M9 asks whether another name would do, and M16 wants no "
        "edge-case handling for TDX in the core of the MMU. The later code has no such flag.",
        Lesson("08", "Names and helpers"),
        _the_concept,
    ),
    Claim(
        9,
        ("M1",),
        "One helper, two wrappers",
        "The patch's function and the split for dirty logging are almost identical. A common helper could "
        "do the work of both, kvm_tdp_mmu_try_split_huge_pages() and the new function being wrappers.",
        "Overtaken by the dispute about the flag (M2). R1 has a shared helper, without the flag.",
        Lesson("08", "Names and helpers"),
        _one_helper,
    ),
    Claim(
        11,
        ("M1",),
        "Check may_block in the common helper",
        "The check of may_block can move into the common helper. Then both wrappers have it.",
        "Overtaken: the helper was not adopted in this form.",
        Lesson("08", "Names and helpers"),
        reason="A matter of taste: which of two functions makes the check. Both answer -EOPNOTSUPP, but for "
        "a VM without the TDP MMU, which the helper would not refuse.",
    ),
    Claim(
        12,
        ("M1",),
        "The two names are not ideal",
        "The names of the two functions are not ideal. One should have log_dirty in it; the other should "
        "have huge_pages, as its neighbour does, and no gfn_range, to be shorter.",
        "Overtaken: M2 calls the term cross_boundary confusing, and R1 has other names.",
        Lesson("08", "Names and helpers"),
        reason="A name: no run decides whether it is a good one.",
    ),
    Claim(
        21,
        ("M7",),
        "Two categories: an edge, or a level",
        "The users fall into two categories. For a hole, a conversion and a memory failure, start - 1 and "
        "start must not be mapped in a single mapping, nor end - 1 and end, at whatever level. For the "
        "accept level, a frame must not be mapped above a certain level.",
        "M8 takes the categories up: the second already fits what the TDP MMU supports, the first is "
        "“(somewhat) new and novel”. Nobody objects.",
        Lesson("08", "Two categories"),
        _two_categories,
    ),
    Claim(
        22,
        ("M7",),
        "A level is the edge of an aligned block",
        "The second category can be put as the first. A check of the range [level-aligned GFN, "
        "level-aligned GFN + level size) does it: with an accept level of 2 MB only a 1 GB mapping can "
        "stick out and needs a split.",
        "M8: that overlooks that the second category already fits what the TDP MMU supports. M9 agrees to "
        "expose the existing function.",
        Lesson("05", "Larger than asked, smaller than asked"),
        _one_from_the_other,
    ),
    Claim(
        37,
        ("M11",),
        "Keep the function to compute the ranges",
        "The patch's function may serve as a helper that calculates the ranges to split. That is, if "
        "several places need it.",
        "M12 answers “Yes.” In R2 the arithmetic has a function of its own, in tdx.c.",
        Lesson("08", "Names and helpers"),
        reason="A matter of taste: no split depends on where the arithmetic lives or on its name.",
    ),
    Claim(
        41,
        ("M15",),
        "A function of its own needs no spinlock",
        "A function for this split alone would need no spinlock for its cache. The loop that M0 reuses "
        "allocates pages outside of mmu_lock; the mail asks whether a specific function could take its "
        "place.",
        "M16 answers “Belatedly, yes”, in order to keep edge cases of TDX out of the core. R1 and R2 reuse "
        "the loop all the same, and a mutex replaces the spinlock.",
        Lesson("07", "A function of its own?"),
        reason="The function was never posted: its worth lies in a future that was not chosen.",
    ),
)
