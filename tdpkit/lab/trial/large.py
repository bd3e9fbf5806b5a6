"""Questions at the sizes of x86: four and five levels, and the cost from 8 KiB to 12 TiB."""

from __future__ import annotations

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    GfnRange,
    format_gfn,
    parse_gfn,
)
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.tree import TdpMmuRoot, map_run, tables_per_level

from ..cost_curves import START
from ..judge import forced_in, leaves_at_edges, run_strategy
from ..layouts import LAYOUTS, TD_4LEVEL, map_layout
from ..strategies import CONTENDERS
from ..untrusted import RAISED
from ..words import count_of, group_digits, listed
from ..worlds import JournalWorld
from .answers import HOLDS, NOTE, Answer, Bench, Failed, said
from .rules import TrialWorld, drive

# ---- levels --------------------------------------------------------------------------------------------

_MIDDLES = {
    "4 levels": (X86_4LEVEL, ("3G", "2T")),
    "5 levels": (X86_5LEVEL, ("3G", "256T", "1P")),
}
"""By name a geometry, and where leaves of 2M lie on both sides of an address: of a 1G leaf's, a table's and a
root entry's edge.
"""
_LEAVES = 4
"""Leaves of 2M on each side."""


def levels(bench: Bench) -> Answer:
    """Ranges around the edges of large tables, with four and with five levels: just what must be is split."""
    tried = 0
    for name, (geometry, middles) in _MIDDLES.items():
        for middle in map(parse_gfn, middles):
            kvm, root = _td_around(geometry, middle)
            world = TrialWorld(kvm.pool)
            for span in _spans_around(geometry, middle):
                place = f"{name}, {span}"
                forced, before = len(forced_in(root, span)), sum(tables_per_level(root))
                world.again()
                try:
                    ret = _made(bench, kvm, span, world)
                except RAISED as error:
                    raise Failed(said(error), place) from None
                # All that is forced is done if no leaf crosses an edge: only their number is left to compare.
                splits = sum(tables_per_level(root)) - before
                if ret or leaves_at_edges(root, span):
                    raise Failed(f"it returned {ret}, and a leaf crosses an edge", place)
                if splits != forced:
                    raise Failed(f"{count_of(splits, 'split')} where {forced} would do", place)
                world.undo()
                tried += 1
    return Answer(HOLDS, count_of(tried, "range"), "just what must be is split, at every level's edge")


def _td_around(geometry: Geometry, middle: int) -> tuple[Kvm, TdpMmuRoot]:
    kvm = Kvm(KVM_X86_TDX_VM, geometry)
    assert kvm.mirror_root is not None
    reach = _LEAVES * geometry.pages(PG_LEVEL_2M)
    map_run(kvm.mirror_root, middle - reach, PG_LEVEL_2M, 2 * _LEAVES, middle - reach)
    return kvm, kvm.mirror_root


def _spans_around(geometry: Geometry, middle: int) -> list[GfnRange]:
    leaf = geometry.pages(PG_LEVEL_2M)
    edges = [
        middle - leaf - 1,
        middle - leaf,
        middle - 1,
        middle,
        middle + 1,
        middle + leaf,
        middle + leaf + 7,
    ]
    return [GfnRange(start, end) for at, start in enumerate(edges) for end in edges[at + 1 :]]


def _made(bench: Bench, kvm: Kvm, span: GfnRange, world: TrialWorld, most: int = 20_000) -> int:
    with kvm.slots_lock:
        gfn_range = KvmGfnRange(kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE)
        return drive(bench.variant.call(kvm, gfn_range), world, most)


# ---- cost ----------------------------------------------------------------------------------------------

SIZES = ("8K", "4M", "1G", "64G", "12T")
"""Lengths of a range that starts at START in a TD of 16 TiB, all mapped by leaves of 2M."""
_BOUNDED = 2 * (TD_4LEVEL.entries + TD_4LEVEL.root_level)
"""Visits of two calls over a table each, whatever the range: more at 12 TiB means that they grow with it."""
_MOST_PAGES = 100
"""Far more than two edges need at any level: the next is refused, for a split of all takes minutes."""
_MOST_EVENTS = 9_000_000
"""Some more than the patch's walk of 12 TiB."""


def contenders() -> dict[str, tuple[int, ...]]:
    """Visits of each contender, by size."""
    root = _td_16t().mirror_root
    assert root is not None
    found = {}
    for name, plan in CONTENDERS.items():
        visits = []
        for span in _spans():
            world = JournalWorld(root.pool)
            visits.append(run_strategy(root, plan, span, world=world).all_visits)
            world.undo()
        found[name] = tuple(visits)
    return found


def _td_16t() -> Kvm:
    kvm = Kvm(KVM_X86_TDX_VM, TD_4LEVEL)
    assert kvm.mirror_root is not None
    map_layout(kvm.mirror_root, LAYOUTS["16T"])
    return kvm


def _spans() -> list[GfnRange]:
    return [GfnRange(START, START + parse_gfn(size)) for size in SIZES]


def visits(bench: Bench) -> Answer:
    """SPTEs that it visits from 8 KiB to 12 TiB, against the contenders."""
    kvm, seen = _td_16t(), []
    world = TrialWorld(kvm.pool)
    for size, span in zip(SIZES, _spans(), strict=True):
        place = f"{size} from {format_gfn(START)}"
        world.again(refuse=_MOST_PAGES + 1)
        try:
            _made(bench, kvm, span, world, _MOST_EVENTS)
        except RAISED as error:
            raise Failed(said(error), place) from None
        if world.allocations > _MOST_PAGES:
            raise Failed(f"it asks for more than {_MOST_PAGES} pages", place)
        seen.append(world.iterations)
        world.undo()
    others = contenders()
    least = [min(found[at] for found in others.values()) for at in range(len(SIZES))]
    told = listed(f"{group_digits(number)} ({size})" for number, size in zip(seen, SIZES, strict=True))
    best = listed(f"{group_digits(number)}" for number in least)
    found = f"{told}; the least of the contenders: {best}"
    if seen[-1] > _BOUNDED:
        return Answer(NOTE, count_of(len(SIZES), "range"), f"visits grow with the range: {found}")
    return Answer(HOLDS, count_of(len(SIZES), "range"), f"visits: {found}")
