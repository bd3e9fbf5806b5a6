"""The memory of a split: its pages by arithmetic, the bounds one can know ahead, and a run to compare with.

A split takes a page table for each leaf it splits. In a TD each table brings a second page, which becomes the
S-EPT page (S83). With Dynamic PAMT the TDX module also wants metadata, a pair of pages for each 2M of host
memory in use at 4K (S176): one pair for the guest's 2M that is demoted to 4K, and one for the 2M in which the
new S-EPT page lies, unless that has its pair already. :func:`predict` counts all of them from the two edges
of the range, without a tree; :func:`measure` runs the engine's split and looks at what is gone.

Each table also takes a struct kvm_mmu_page, its header, from a slab; headers are not counted in pages. Left
out: the caches of page faults, and memory that the kernel's allocators keep for themselves. Sources: S80,
S83, S132-S135, S176, S179.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.events import run
from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    GfnRange,
    InvalidValueError,
    align_down,
    align_up,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.splits import kvm_tdp_mmu_mirrors_split_huge_pages
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, map_run
from tdpkit.tdx.abi import PAMT_ENTRY_PAGES
from tdpkit.tdx.kvm_tdx import TDX_MIN_SPLIT_CACHE_SZ, on_vcpu

from .layouts import Layout, layout_named
from .td import Td
from .words import count_of, group_digits, known_name

KINDS = PLAIN, TD, DYNAMIC = ("plain", "TD", "TD with Dynamic PAMT")
"""Kinds of VM, by what a split of theirs takes."""
SPLITTING = ("edges", "everything")
""""edges": only what crosses an edge of the range; "everything": each huge leaf of the range, to 4K."""
MOST_SPLITS = 1 << 14
"""The most splits that :func:`measure` makes: for a TD some five seconds."""


class Pages(NamedTuple):
    """Pages of 4K, by what they are for."""

    tables: int
    """Page tables (sp->spt), each with its header."""
    external: int
    """Pages for the S-EPT (sp->external_spt), one beside each table of a mirror root."""
    pamt_guest: int
    """Dynamic PAMT pages for the guest's 2M pages that are demoted to 4K."""
    pamt_sept: int
    """Dynamic PAMT pages for the 2M regions in which the S-EPT pages lie."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    def __repr__(self) -> str:
        named = zip(self, ("page tables", "S-EPT", "guest's PAMT", "S-EPT's PAMT"), strict=True)
        parts = ", ".join(f"{what} {group_digits(pages)}" for pages, what in named if pages)
        return f"<{count_of(self.total, 'page')}{f': {parts}' if parts else ''}>"


class Budget(NamedTuple):
    """The pages of a split, each number by arithmetic."""

    splits: dict[int, int]
    """How many leaves are split at each level, the largest first."""
    need: Pages
    """What the split takes, exactly, if the memory is mapped as the layout says."""
    bound: Pages
    """What suffices whatever the tree looks like, if no leaf is larger than the layout's largest."""
    whole: Pages
    """The bound of a split of the whole range to 4K: what a cache filled for the range would hold."""
    ahead: int
    """PAMT pages that v3 makes sure of before each split (tdx_min_split_cache_sz; S134)."""
    left: int
    """PAMT pages in v3's cache after the call, if it was empty before."""
    what_if: bool
    """A TD with leaves above 2M, which the series does not map (S3)."""

    @property
    def idle(self) -> int:
        """Pages of the cache filled for the whole range that the split would leave unused."""
        return self.whole.total - self.need.total


# ---- by arithmetic -------------------------------------------------------------------------------------


def predict(
    layout: str | Layout,
    start: SupportsIndex,
    end: SupportsIndex,
    *,
    kind: str = PLAIN,
    split: str = "edges",
    room: SupportsIndex = 0,
) -> Budget:
    """The pages for a split of frames [start, end) of a guest, by the two edges alone.

    layout: the guest's leaves, a name in LAYOUTS or a Layout; kind: of KINDS; split: of SPLITTING.
    room: the host hands S-EPT pages out side by side; the number of the next ones that lie in a 2M region
    with a PAMT pair. An empty range is split as the kernel does it: in a leaf that it lies strictly inside.
    Raises InvalidTypeError or InvalidValueError for another name, and for a range that is negative, reversed,
    or beyond the guest.
    """
    guest, span = _checked(layout, start, end, kind, split)
    geometry, covered = guest.geometry, _checked_room(guest.geometry, room)
    levels = range(PG_LEVEL_2M, max((run.level for run in guest.leaves), default=PG_LEVEL_4K) + 1)
    every = [_blocks(geometry, span, level) for level in levels]
    if split == "edges":
        blocks = splits_at_edges(guest, span)
        made = [sum(level == of for _, of in blocks) for level in levels]
        # The walk goes up in frames, and from a leaf down into the table that it made.
        _, last = max(blocks, key=lambda block: (block[0], -block[1]), default=(0, 0))
        most = [2] * len(levels)
    else:
        made = [_blocks_of_range(guest, span, level) for level in levels]
        last = next((level for level, splits in zip(levels, made, strict=True) if splits), 0)
        most = every
    region, tables = geometry.pages(PG_LEVEL_2M), sum(made)
    new = max(0, tables - covered)  # S-EPT pages in regions that have no pair yet
    opens_region = new > 0 and (new - 1) % region == 0
    need = _pages(kind, made, -(-new // region))
    ahead = TDX_MIN_SPLIT_CACHE_SZ if kind == DYNAMIC else 0
    taken = PAMT_ENTRY_PAGES * ((last == PG_LEVEL_2M) + opens_region)  # by the last split
    return Budget(
        dict(sorted(zip(levels, made, strict=True), reverse=True)),
        need,
        _pages(kind, most, sum(most)),
        _pages(kind, every, sum(every)),
        ahead,
        ahead - taken if ahead and tables else 0,
        kind != PLAIN and len(levels) > 1,
    )


def splits_at_edges(layout: Layout, span: GfnRange) -> set[tuple[int, int]]:
    """(gfn, level) of each leaf to split so that none crosses an edge: per edge one of each level at most.

    Around an edge inside a leaf it is the leaf, and the aligned block of each smaller size of leaf that the
    edge is no multiple of. A block that both edges share is one.
    """
    return {
        (x - x % pages, level)
        for gfn, largest, count, _ in layout.leaves
        for x in (span.start, span.end)
        if gfn < x < gfn + count * layout.geometry.pages(largest)
        for level in range(PG_LEVEL_2M, largest + 1)
        for pages in [layout.geometry.pages(level)]
        if x % pages
    }


def _blocks(geometry: Geometry, span: GfnRange, level: int) -> int:
    """Blocks of `level` that hold frames of the range; or that an empty one lies strictly inside."""
    pages = geometry.pages(level)
    return -(-span.end // pages) - span.start // pages


def _blocks_of_range(layout: Layout, span: GfnRange, level: int) -> int:
    """Such blocks in those leaves of the layout that are of `level` or larger."""
    total = 0
    for gfn, largest, count, _ in layout.leaves:
        first, last = (
            max(span.start, gfn),
            min(span.end, gfn + count * layout.geometry.pages(largest)),
        )
        if level <= largest and first <= last:
            total += _blocks(layout.geometry, GfnRange(first, last), level)
    return total


def _pages(kind: str, splits: list[int], regions: int) -> Pages:
    """Pages for the `splits` of each level from 2M up, with S-EPT pages in `regions` regions of 2M."""
    tables = sum(splits)
    pair = PAMT_ENTRY_PAGES if kind == DYNAMIC else 0
    return Pages(tables, tables if kind != PLAIN else 0, pair * sum(splits[:1]), pair * regions)


# ---- by the engine -------------------------------------------------------------------------------------


class Used(NamedTuple):
    """What a split took: its pages, and the PAMT pages left in v3's cache."""

    pages: Pages
    left: int


def measure(
    layout: str | Layout,
    start: SupportsIndex,
    end: SupportsIndex,
    *,
    kind: str = PLAIN,
    split: str = "edges",
    room: SupportsIndex = 0,
) -> Used:
    """Run the split on the engine and count what it took out of the pool, the host's pages and the cache.

    Arguments as for :func:`predict`. Of the layout it maps only the leaves that the split can change: those
    with an edge inside, or all that hold frames of the range. After `room` pages the host's next one begins a
    2M region, and v3's cache is empty. Raises as :func:`predict`, and InvalidValueError for more than
    MOST_SPLITS splits.
    """
    guest, span = _checked(layout, start, end, kind, split)
    covered = _checked_room(guest.geometry, room)
    tables = predict(guest, start, end, split=split).need.tables
    if tables > MOST_SPLITS:
        raise InvalidValueError(
            f"the engine is run for {count_of(MOST_SPLITS, 'split')} at most; this call makes "
            f"{group_digits(tables)}"
        )
    if span.start == guest.frames:  # empty, and the kernel's functions take no start at the end
        return Used(Pages(0, 0, 0, 0), 0)
    leaves = [*_concerned(guest, span, split)]
    if kind == PLAIN:
        return _measured_plain(guest.geometry, leaves, span, split)
    return _measured_td(guest, leaves, span, split, kind == DYNAMIC, covered)


def _concerned(layout: Layout, span: GfnRange, split: str) -> Iterator[tuple[int, int]]:
    """(gfn, level) of the huge leaves that the split can change."""
    for gfn, level, count, _ in layout.leaves:
        pages = layout.geometry.pages(level)
        last = gfn + count * pages
        if split == "edges":
            inside = (x for x in (span.start, span.end) if gfn < x < last and x % pages)
            yield from {(x - x % pages, level) for x in inside}
        elif level > PG_LEVEL_4K:
            touched = range(
                max(gfn, align_down(span.start, pages)), min(last, align_up(span.end, pages)), pages
            )
            yield from ((leaf, level) for leaf in touched)


def _measured_plain(geometry: Geometry, leaves: list[tuple[int, int]], span: GfnRange, split: str) -> Used:
    root = TdpMmuRoot(PageTablePool(geometry))
    for gfn, level in leaves:
        map_run(root, gfn, level, 1, gfn)
    before = root.pool.rows_in_use
    call = tdp_mmu_split_huge_pages_root(
        root, span.start, span.end, PG_LEVEL_4K, shared=False, only_cross_boundary=split == "edges"
    )
    run(call)
    return Used(Pages(root.pool.rows_in_use - before, 0, 0, 0), 0)


def _measured_td(
    layout: Layout, leaves: list[tuple[int, int]], span: GfnRange, split: str, dynamic: bool, room: int
) -> Used:
    largest = max((level for _, level in leaves), default=PG_LEVEL_2M)
    block = layout.geometry.pages(max(largest, PG_LEVEL_2M))
    td = Td(
        layout.geometry,
        align_up(layout.frames, block),
        accepted=False,
        folio_level=largest,
        leaf_level=largest,
        dynamic_pamt=dynamic,
    )
    kvm, tdx, module = td.kvm, td.tdx, td.module
    guest_ends = tdx.pages.next_pfn
    for gfn, level in leaves:
        tdx.topup_pamt_cache(PAMT_ENTRY_PAGES * layout.geometry.root_level, td.vcpu)
        td.run(on_vcpu(td.vcpu, kvm_tdp_mmu_page_fault(kvm, gfn, is_private=True, max_level=level)))
    _place_next_page(td, room)
    rows, external, pairs = kvm.pool.rows_in_use, len(tdx.external_spt), set(module.pamt_pairs)
    if split == "edges":
        private = KvmGfnRange(kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE)
        td.run(kvm_split_cross_boundary_leafs(kvm, private, shared=False))
    else:
        td.run(kvm_tdp_mmu_mirrors_split_huge_pages(kvm, span.start, span.end, PG_LEVEL_4K))
    new = module.pamt_pairs - pairs
    for_guest = sum(pfn < guest_ends for pfn in new)
    pages = Pages(
        kvm.pool.rows_in_use - rows,
        len(tdx.external_spt) - external,
        PAMT_ENTRY_PAGES * for_guest,
        PAMT_ENTRY_PAGES * (len(new) - for_guest),
    )
    return Used(pages, tdx.pamt_caches.get(None, 0))


def _place_next_page(td: Td, room: int) -> None:
    """Let the host's next `room` pages lie in a region that has its pair, and all after them in others."""
    region = td.geometry.pages(PG_LEVEL_2M)
    first = align_up(td.tdx.pages.next_pfn, region)
    td.tdx.pages.next_pfn = first + (region - room) % region
    if room and td.module.dynamic_pamt:
        td.module.phymem_pamt_add(first)
        td.tdx.pamt_refcount[first] = 1


# ---- what is asked -------------------------------------------------------------------------------------


def _checked(
    layout: str | Layout, start: SupportsIndex, end: SupportsIndex, kind: str, split: str
) -> tuple[Layout, GfnRange]:
    guest = layout_named(layout)
    known_name(kind, KINDS, "a kind of VM")
    known_name(split, SPLITTING, "a split")
    span = GfnRange(check_gfn(start, "the start"), check_gfn(end, "the end"))
    if span.end > guest.frames:
        raise InvalidValueError(
            f"this guest ends at {name_gfn(guest.frames)}; the end {name_gfn(span.end)} is beyond it"
        )
    if kind != PLAIN and guest.frames > guest.geometry.shared_bit():
        raise InvalidValueError(
            f"a TD's frames end at its shared bit, {name_gfn(guest.geometry.shared_bit())}; "
            f"this guest's end at {name_gfn(guest.frames)}"
        )
    return guest, span


def _checked_room(geometry: Geometry, room: SupportsIndex) -> int:
    """`room`, if a 2M region that is in use can have it."""
    pages, region = check_gfn(room, "the room"), geometry.pages(PG_LEVEL_2M)
    if pages >= region:
        raise InvalidValueError(
            f"a region of {region} pages that is in use has room for {region - 1} at most; {pages} is more"
        )
    return pages
