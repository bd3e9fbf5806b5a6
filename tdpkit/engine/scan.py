"""Large guests on NumPy: populate in bulk, and compute a walk's result without its steps.

These are checked shortcuts for work that other modules do entry by entry; they never change a result. GFNs
stay Python integers here too; NumPy sees entries and rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from .gfn import PAGE_SHIFT, PG_LEVEL_4K, GfnRange, InvalidValueError, align_down, align_up
from .pool import ROLE_INVALID
from .spte import (
    PT_PAGE_SIZE_MASK,
    SPTE_BASE_ADDR_MASK,
    SPTE_MMU_PRESENT_MASK,
    is_last_spte,
    is_shadow_present_pte,
    make_nonleaf_spte,
    spte_to_pfn,
)
from .tree import EntryRun, Leaf, TdpMmuRoot, check_run, check_unmapped, map_run, write_entries

_BLOCK_ENTRIES = 1 << 16
"""Entries per block: half a MiB, which is still in the cache when the next NumPy call reads it."""

_NO_ROWS: NDArray[np.int64] = np.empty(0, dtype=np.int64)

# ---- populating ----------------------------------------------------------------------------------------


def populate(
    root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex, count: SupportsIndex, pfn: SupportsIndex
) -> None:
    """Map millions of leaves as :func:`~.tree.map_run` does: same arguments, errors and translations.

    Tables that the run fills completely become adjacent rows, written as one uint64 array. The entries that
    point to them form a run of the next level, and so on up. Where tables exist already it maps entry by
    entry.
    """
    entries = check_run(root, gfn, level, count, pfn)
    try:
        for part in _parts(root, entries):
            check_unmapped(root, part)
    except InvalidValueError:
        map_run(root, gfn, level, count, pfn)
        return
    while whole := _whole_tables(root, entries):
        first, tables = whole
        for edge in _edges(root, entries, first, tables):
            write_entries(root, edge)
        entries = _fill_tables(root, entries, first, tables)
    write_entries(root, entries)


def _whole_tables(root: TdpMmuRoot, entries: EntryRun) -> tuple[int, int] | None:
    """(first gfn, number) of the tables that `entries` fill completely, or None."""
    if entries.level == root.geometry.root_level:
        return None
    span = root.geometry.pages(entries.level + 1)
    first = align_up(entries.gfn, span)
    last = align_down(entries.gfn + entries.count * root.geometry.pages(entries.level), span)
    return (first, (last - first) // span) if first < last else None


def _edges(root: TdpMmuRoot, entries: EntryRun, first: int, tables: int) -> list[EntryRun]:
    """The entries before and after the whole tables."""
    gfn, level, count, low, step = entries
    head = (first - gfn) // root.geometry.pages(level)
    covered = tables * root.geometry.entries
    tail = count - head - covered
    after = first + covered * root.geometry.pages(level)
    edges = (
        EntryRun(gfn, level, head, low, step),
        EntryRun(after, level, tail, low + (count - tail) * step, step),
    )
    return [edge for edge in edges if edge.count]


def _parts(root: TdpMmuRoot, entries: EntryRun) -> list[EntryRun]:
    """What populate writes through existing tables: the edges of each level, then the rest (values unset)."""
    parts: list[EntryRun] = []
    while whole := _whole_tables(root, entries):
        parts += _edges(root, entries, *whole)
        entries = EntryRun(whole[0], entries.level + 1, whole[1], 0, 0)
    return [*parts, entries]


def _fill_tables(root: TdpMmuRoot, entries: EntryRun, first: int, tables: int) -> EntryRun:
    """Make and fill the whole tables; returns the entries of the next level that point to them."""
    gfn, level, _, low, step = entries
    pool, geometry = root.pool, root.geometry
    start = low + (first - gfn) // geometry.pages(level) * step
    stop = start + tables * geometry.entries * step
    values = np.arange(start, stop, step, dtype=np.uint64)
    rows = pool.add_chunk(values.data.cast("B").cast("Q"), tables)
    span = geometry.pages(level + 1)
    pool.gfn[rows.start : rows.stop] = array("Q", range(first, first + tables * span, span))
    pool.role[rows.start : rows.stop] = array("I", [root.child_role(level)]) * tables
    return EntryRun(first, level + 1, tables, make_nonleaf_spte(rows.start), 1 << PAGE_SHIFT)


# ---- the walk ------------------------------------------------------------------------------------------


class Scan(NamedTuple):
    """The entries and leaves that a walk meets."""

    visited: int
    """How many entries the walk visits, present or not."""
    crossing: tuple[Leaf, ...]
    """The leaves not fully inside the range (iter_cross_boundary), in order; there are two at most."""
    leaves: dict[int, int]
    """How many leaves there are at each level, from the root's down to the walk's lowest."""


def scan(root: TdpMmuRoot, start: SupportsIndex, end: SupportsIndex, min_level: SupportsIndex) -> Scan:
    """Compute what a :class:`~.tdp_iter.TdpIter` from `start` to `end` (frames) meets on a tree at rest.

    It reads the entries that the walk reads, but level by level and many tables at once. Only the first and
    last entry of a level can stick out of the range, so the frames and the order of the others do not matter.
    Below about 250 visits the walk itself is quicker. Raises InvalidValueError or InvalidTypeError for an
    unknown level, or a range that users of the walk refuse.
    """
    span, lowest = _check_walk(root, start, end, min_level)
    visited, crossing = 0, []
    leaves = dict.fromkeys(range(root.geometry.root_level, lowest - 1, -1), 0)
    # The level's tables: (row, first frame) of those that may stick out of the range, rows of the others.
    ragged = [(root.row, 0)] if span.start < root.max_gfn_exclusive else []
    whole = _NO_ROWS
    for level in leaves:
        trimmed = [_trim(root, row, level, gfn, span) for row, gfn in ragged]
        ragged, below = [], [_NO_ROWS]
        for gfn, spte in chain.from_iterable(outliers for _, outliers in trimmed):
            visited += 1
            if is_shadow_present_pte(spte) and is_last_spte(spte, level):
                leaves[level] += 1
                crossing.append(Leaf(gfn, level, spte_to_pfn(spte), spte))
            elif is_shadow_present_pte(spte):
                ragged.append((spte_to_pfn(spte), gfn))
        for block in chain((inside for inside, _ in trimmed), _blocks(root, whole, level)):
            visited += block.size
            of_block, rows = _sort_out(block, level, lowest)
            leaves[level] += of_block
            below.append(rows)
        whole = np.sort(np.concatenate(below))
    return Scan(visited, tuple(sorted(crossing)), leaves)


def _check_walk(
    root: TdpMmuRoot, start: SupportsIndex, end: SupportsIndex, min_level: SupportsIndex
) -> tuple[GfnRange, int]:
    span = GfnRange(root.geometry.check_start(start), end)  # type: ignore[arg-type]
    return span, root.geometry.level(min_level).number


def _in_range(root: TdpMmuRoot, base: Any, level: int, span: GfnRange) -> tuple[Any, Any]:
    """First and last index (exclusive) inside `span` of a table with first frame `base`, or of an array of
    them.

    Indices count from where the walk enters a table, since a shared bit is part of the index.
    """
    shift, first = root.geometry.shifts[level], root.geometry.index(root.gfn_bits, level)
    end = min(span.end, root.geometry.root_pages)
    low = np.maximum(span.start - base, 0) >> shift
    return low, np.minimum(-(-(end - base) >> shift), root.geometry.entries - first)


def _trim(
    root: TdpMmuRoot, row: int, level: int, base: int, span: GfnRange
) -> tuple[NDArray[np.uint64], list[tuple[int, int]]]:
    """Separate the entries of a table with first frame `base`: inside `span`, and sticking out of it."""
    table = np.frombuffer(root.pool.table(row), dtype=np.uint64)[root.geometry.index(root.gfn_bits, level) :]
    pages = root.geometry.pages(level)
    low, high = (int(index) for index in _in_range(root, base, level, span))
    out = {i for i in (low, high - 1) if low < high and span.overlap(base + i * pages, pages) < pages}
    outliers = [(base + i * pages, int(table[i])) for i in out]
    return table[low + (low in out) : high - (high - 1 in out)], outliers


def _blocks(root: TdpMmuRoot, rows: NDArray[np.int64], level: int) -> Iterator[NDArray[np.uint64]]:
    """Yield the entries of the tables in `rows` (sorted): adjacent rows in place, others gathered."""
    entries, first = root.geometry.entries, root.geometry.index(root.gfn_bits, level)
    at_a_time = max(1, _BLOCK_ENTRIES // entries)
    for first_row, chunk in root.pool.chunks:
        tables = np.frombuffer(chunk, dtype=np.uint64).reshape(-1, entries)
        low, high = np.searchsorted(rows, (first_row, first_row + len(tables)))
        for at in range(low, high, at_a_time):
            some = rows[at : min(at + at_a_time, high)] - first_row
            side_by_side = some[-1] - some[0] == len(some) - 1
            block = tables[some[0] : some[-1] + 1] if side_by_side else tables.take(some, axis=0)
            yield block[:, first:]


def _sort_out(block: NDArray[np.uint64], level: int, lowest: int) -> tuple[int, NDArray[np.int64]]:
    """Count the leaves among the entries and collect the rows of the tables that the walk enters."""
    leaf = SPTE_MMU_PRESENT_MASK | (PT_PAGE_SIZE_MASK if level > PG_LEVEL_4K else 0)
    # Most of a guest is leaves only; one pass over the entries finds that out.
    if int(np.bitwise_and.reduce(block, axis=None)) & leaf == leaf:
        return block.size, _NO_ROWS
    kind = block & leaf
    leaves = int(np.count_nonzero(kind == leaf))
    if level == lowest:
        return leaves, _NO_ROWS
    links = block[kind == SPTE_MMU_PRESENT_MASK]
    return leaves, ((links & SPTE_BASE_ADDR_MASK) >> PAGE_SHIFT).astype(np.int64)


def count_visits(root: TdpMmuRoot, start: SupportsIndex, end: SupportsIndex, min_level: SupportsIndex) -> int:
    """Compute `visited` of :func:`scan` without reading an entry, from the pool's first frame of each table.

    In each table of `min_level` and above the walk visits the entries that hold frames of the range, or for
    start == end those strictly around it. Exact as long as nothing changes the tree and all its pages are
    linked. Raises as :func:`scan` does.
    """
    span, lowest = _check_walk(root, start, end, min_level)
    roles = np.frombuffer(root.pool.role, dtype=np.uint32) & ~np.uint32(ROLE_INVALID)
    bases = np.frombuffer(root.pool.gfn, dtype=np.uint64).astype(np.int64)
    visits = 0
    for level in range(lowest, root.geometry.root_level + 1):
        low, high = _in_range(root, bases[roles == root.child_role(level)], level, span)
        visits += int(np.maximum(high - low, 0).sum())
    return visits
