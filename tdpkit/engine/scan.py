"""The machine at scale, on NumPy: bulk populate, and the visits of a walk counted by arithmetic.

Checked shortcuts for what the other modules do entry by entry; they never change a result.
"""

from __future__ import annotations

from array import array
from typing import SupportsIndex

import numpy as np

from .gfn import PAGE_SHIFT, GfnRange, InvalidValueError, align_down, align_up
from .pool import ROLE_INVALID
from .spte import make_nonleaf_spte
from .tree import EntryRun, TdpMmuRoot, check_run, check_unmapped, map_run, write_entries


def populate(
    root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex, count: SupportsIndex, pfn: SupportsIndex
) -> None:
    """:func:`~.tree.map_run` for millions of leaves; same arguments, same errors, same translations.

    Tables that the run fills whole become rows side by side, written as one uint64 array; the entries that
    point to them are a run of the next level, and so on up. Where tables are there already it goes entry by
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
    """(first gfn, number) of the tables that `entries` fill whole, or None."""
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


def count_visits(root: TdpMmuRoot, start: SupportsIndex, end: SupportsIndex, min_level: int) -> int:
    """Entries that a :class:`~.tdp_iter.TdpIter` from `start` to `end` (frames) visits, without walking.

    The walk visits, in each table of `min_level` and above, the entries that hold frames of the range (for
    start == end those strictly around it), and a table says where it stands: no entry is read. Exact as
    long as nothing changes the tree and its pages are all linked. Raises InvalidValueError or
    InvalidTypeError as the walk's users do.
    """
    span = GfnRange(root.geometry.check_start(start), end)  # type: ignore[arg-type]
    roles = np.frombuffer(root.pool.role, dtype=np.uint32) & ~np.uint32(ROLE_INVALID)
    bases = np.frombuffer(root.pool.gfn, dtype=np.uint64).astype(np.int64)
    visits = 0
    for level in range(min_level, root.geometry.root_level + 1):
        base = bases[roles == root.child_role(level)]
        shift = root.geometry.shifts[level]
        low = np.maximum(base, span.start) - base >> shift
        # The shared bit is part of the root's index: the walk starts that far on and stops at the last one.
        last = (
            base
            + root.geometry.pages(level + 1)
            - (root.gfn_bits if level == root.geometry.root_level else 0)
        )
        high = -(-(np.minimum(last, span.end) - base) >> shift)
        visits += int(np.maximum(high - low, 0).sum())
    return visits
