"""Plan, split and zap of one range side by side, from 8 KiB to 12 TiB, on guests mapped in four ways.

A split makes the edges safe; the zap that follows walks the same range again, down to 4K, and visits the same
entries. What a strategy saves is therefore seen only beside the zap.

The guests are plain VMs of 16 TiB. One of 4K leaves would need 32 GiB of page tables: nothing crosses an edge
there, so its visits follow from :func:`.cost.visits_when_mapped` alone. SEAMCALLs are counted for the zap
alone, and for no curve. Left out: time, but for the nanoseconds per visit, which were measured elsewhere;
locks, TLB flushes, and what a SEAMCALL costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, X86_4LEVEL, GfnRange, InvalidValueError, parse_gfn
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot

from .cost import visits_when_mapped
from .judge import run_strategy
from .layouts import LAYOUTS, map_layout
from .strategies import CONTENDERS, Planner
from .words import count_of, known_name
from .worlds import JournalWorld

KERNEL_NS_PER_VISIT = (3.1, 3.4)
"""CPU time per SPTE, least and most, on the 12 TiB, in nanoseconds (S231): of the kernel's C code, compiled
for userspace with shims for its locks (S250).
"""

SEAMCALLS_PER_LEAF = ("TDH.MEM.RANGE.BLOCK", "TDH.MEM.TRACK", "TDH.MEM.PAGE.REMOVE")
SEAMCALLS_PER_FRAME = ("TDH.PHYMEM.PAGE.WBINVD",)
"""What the zap in a running TD asks of the TDX module for each leaf, whatever its size, and for each 4K page
in it (S161, S167).
"""

MAPS = {"nothing": "16T-empty", "1G leaves": "16T-1G", "2M leaves": "16T", "4K leaves": ""}
"""How a guest's memory is mapped, and the layout that is mapped so; the last one is priced without a tree."""

GUEST_FRAMES = LAYOUTS["16T"].frames
START = parse_gfn("2T+4K")
SIZES = (*(1 << bits for bits in range(1, 32)), parse_gfn("12T"))
"""Sizes of ranges in frames: 8 KiB and its doubles, and the 12 TiB of the review (M2). Where the ranges begin
is ours, and so are the leaves.
"""


class Conversion(NamedTuple):
    """What it costs to convert one range: to plan, to split, to zap."""

    calls: int
    """Calls that the plan consists of; to plan costs no visit."""
    split_visits: int
    splits: int
    zap_visits: int
    """SPTEs that the zap of the range visits after the split."""
    zapped: int
    """Leaves that it removes."""

    def __repr__(self) -> str:
        return (
            f"{count_of(self.calls, 'call')}, {count_of(self.split_visits, 'visit')}, "
            f"{count_of(self.splits, 'split')}; then the zap: {count_of(self.zap_visits, 'visit')}, "
            f"{count_of(self.zapped, 'leaf', 'leaves')}"
        )


def mapped_guest(mapped_by: str) -> TdpMmuRoot:
    """The tree of a plain VM of 16 TiB, mapped as a name of MAPS says.

    Raises InvalidValueError for an unknown name, and for 4K leaves.
    """
    built = [name for name, layout in MAPS.items() if layout]
    layout = LAYOUTS[MAPS[known_name(mapped_by, built, "a mapping of 16 TiB")]]
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    map_layout(root, layout)
    return root


def convert(root: TdpMmuRoot, strategy: Planner, span: GfnRange) -> Conversion:
    """What splitting with `strategy` and zapping `span` costs; the tree stays as it was.

    Raises as :func:`.judge.run_strategy`.
    """
    from tdpkit.engine.scan import scan

    world = JournalWorld(root.pool)
    try:
        report = run_strategy(root, strategy, span, world=world)
        zap = scan(root, span.start, span.end, PG_LEVEL_4K)
    finally:
        world.undo()
    return Conversion(
        len(report.calls), report.all_visits, report.splits, zap.visited, sum(zap.leaves.values())
    )


def convert_4k(strategy: Planner, span: GfnRange) -> Conversion:
    """:func:`convert` where all is mapped by 4K leaves, by arithmetic: nothing crosses, nothing is split.

    Each call walks what its range holds, down to the level above its target. A call over an empty range is
    not priced: raises InvalidValueError.
    """
    calls = strategy(X86_4LEVEL, span)
    for call in calls:
        if call.start == call.end:
            raise InvalidValueError(f"this formula does not price calls over empty ranges; {call} is one")
    visits = sum(
        sum(visits_when_mapped(X86_4LEVEL, GfnRange(call.start, call.end), call.target_level + 1).values())
        for call in calls
    )
    zap = sum(visits_when_mapped(X86_4LEVEL, span, PG_LEVEL_4K).values())
    return Conversion(len(calls), visits, 0, zap, span.pages)


def zap_seamcalls(leaves: int, frames: int) -> dict[str, int]:
    """How often a zap makes each SEAMCALL that takes away `leaves` leaves, which map `frames` frames in all.

    The zap's own calls, none of which finds the module busy: no split's, no vCPU's entry (S161, S167, S168).
    """
    return dict.fromkeys(SEAMCALLS_PER_LEAF, leaves) | dict.fromkeys(SEAMCALLS_PER_FRAME, frames)


class Curves(NamedTuple):
    """Visits by size of the range, on one guest. All lists go with `sizes`."""

    mapped_by: str
    sizes: tuple[int, ...]
    """In frames; each range starts at START."""
    split: dict[str, tuple[int, ...]]
    """By contender: SPTEs that its calls visit."""
    zap: tuple[int, ...]
    """SPTEs that the zap visits after a split at the edges."""

    def crossover(self, contender: str) -> int | None:
        """The least of `sizes` from which on one v3 call visits more than `contender`; None if none is.

        How far the short-range argument holds: Yan Zhao, M14, for lengths below 1 GB
        (aW4QGYQ+qMytZ4Jq@yzhao56-desk.sh.intel.com; S139).
        """
        ahead = [one > other for one, other in zip(self.split["walk_v3"], self.split[contender], strict=True)]
        last_behind = max((at for at, more in enumerate(ahead) if not more), default=-1)
        return self.sizes[last_behind + 1] if last_behind + 1 < len(self.sizes) else None


def cost_curves(mapped_by: str, sizes: Sequence[int] = SIZES) -> Curves:
    """The curves of all contenders on a guest mapped as a name of MAPS says; `sizes` in frames.

    Raises InvalidValueError for an unknown name.
    """
    spans = [GfnRange(START, START + size) for size in sizes]
    if mapped_by == "4K leaves":
        priced = {name: [convert_4k(plan, span) for span in spans] for name, plan in CONTENDERS.items()}
    else:
        root = mapped_guest(mapped_by)
        priced = {name: [convert(root, plan, span) for span in spans] for name, plan in CONTENDERS.items()}
    return Curves(
        mapped_by,
        tuple(sizes),
        {name: tuple(one.split_visits for one in found) for name, found in priced.items()},
        tuple(one.zap_visits for one in priced["kai_two_step"]),
    )
