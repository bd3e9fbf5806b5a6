"""A tree at rest: a root, its tables, and what they map.

Functions to read a tree (translate, leaves, tables) and to set one up (map). None is a step of a kernel
function: those are in `tdp_mmu` and change a tree entry by entry.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple, SupportsIndex

from .gfn import PAGE_SHIFT, PG_LEVEL_4K, Geometry, InvalidValueError, as_integer, check_gfn, name_gfn
from .pool import ROLE_ACCESS_ALL, ROLE_DIRECT, ROLE_INVALID, ROLE_IS_MIRROR, PageTablePool
from .spte import (
    PT_PAGE_SIZE_MASK,
    SPTE_MMU_PRESENT_MASK,
    is_last_spte,
    is_shadow_present_pte,
    make_leaf_spte,
    make_nonleaf_spte,
    spte_to_pfn,
)

_PRESENT_LARGE = SPTE_MMU_PRESENT_MASK | PT_PAGE_SIZE_MASK


class TdpMmuRoot:
    """A root page (kvm_mmu_page) and its tree.

    pool: holds its tables; gfn_bits: a frame mask ORed into every index (the shared bit, for a TD's direct
    root); is_mirror: KVM's copy of a TD's private tree; bug_on_present: an entry that is present changes
    under the write lock only, else it is a KVM_BUG_ON, as in RFC v5 06 (S140). The reference count starts at
    2: one for the vCPU, one for the TDP MMU (S45).
    """

    def __init__(
        self,
        pool: PageTablePool,
        *,
        gfn_bits: int = 0,
        is_mirror: bool = False,
        as_id: int = 0,
        bug_on_present: bool = False,
    ) -> None:
        self.pool = pool
        self.geometry: Geometry = pool.geometry
        self.gfn_bits = gfn_bits
        self.is_mirror = is_mirror
        self.as_id = as_id
        self.bug_on_present = bug_on_present
        self.vm_bugged = False
        """That KVM_BUG_ON struck (kvm->vm_bugged)."""
        self.tdp_mmu_root_count = 2
        self.tdp_mmu_scheduled_root_to_zap = False
        """The root was invalidated, and the TDP MMU still holds its own reference."""
        self.row = pool.alloc()
        pool.init_page(self.row, self.child_role(self.geometry.root_level), 0)

    def __repr__(self) -> str:
        return f"<{'mirror' if self.is_mirror else 'direct'} root in row {self.row}>"

    def child_role(self, level: int) -> int:
        """The role word of this tree's tables of `level`, which inherit is_mirror (S40)."""
        return ROLE_DIRECT | ROLE_ACCESS_ALL | (ROLE_IS_MIRROR if self.is_mirror else 0) | level

    @property
    def invalid(self) -> bool:
        """role.invalid: no vCPU may enter with this root any more."""
        return bool(self.pool.role[self.row] & ROLE_INVALID)

    @property
    def max_gfn_exclusive(self) -> int:
        """The first frame this tree cannot hold: the root's end, or the shared bit of a TD."""
        return self.gfn_bits or self.geometry.root_pages

    @property
    def nonleaf_levels(self) -> range:
        """Levels at which this tree has tables, from the root down to 1."""
        return range(self.geometry.root_level, 0, -1)


class Leaf(NamedTuple):
    """One leaf: `gfn` and `pfn` are its first guest and host frame."""

    gfn: int
    level: int
    pfn: int
    spte: int


class LeafRun(NamedTuple):
    """`count` leaves of one level side by side, in guest and in host frames."""

    gfn: int
    level: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    pfn: int


# ---- reading -------------------------------------------------------------------------------------------


class Passed(NamedTuple):
    """An entry on the way down to a frame, at `index` of the `level` table in `row`."""

    level: int
    row: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    spte: int


def way_down(root: TdpMmuRoot, gfn: SupportsIndex, level: int = PG_LEVEL_4K) -> list[Passed]:
    """Walk as a CPU does: the entries on the way to `gfn`, from the root's to the one of `level` or the last.

    Raises InvalidValueError for a negative `gfn` or one this tree cannot hold.
    """
    frame = check_inside(root, check_gfn(gfn))
    pool, geometry, index_gfn = root.pool, root.geometry, frame | root.gfn_bits
    passed, row = [], root.row
    for at in range(geometry.root_level, level - 1, -1):
        index = geometry.index(index_gfn, at)
        spte = pool.table(row)[index]
        passed.append(Passed(at, row, index, spte))
        if spte & _PRESENT_LARGE != SPTE_MMU_PRESENT_MASK:  # no link to a table
            break
        row = spte_to_pfn(spte)
    return passed


def translate(root: TdpMmuRoot, gfn: SupportsIndex) -> Leaf | None:
    """The leaf that holds `gfn`, or None. Raises as :func:`way_down`."""
    last = way_down(root, gfn)[-1]
    if not is_shadow_present_pte(last.spte):
        return None
    first = root.geometry.gfn_round_for_level(as_integer(gfn, "a GFN"), last.level)
    return Leaf(first, last.level, spte_to_pfn(last.spte), last.spte)


def table_at(root: TdpMmuRoot, gfn: SupportsIndex, level: int) -> tuple[int | None, Leaf | None]:
    """The row of the `level` table on the way to `gfn`; or None and the larger leaf that holds it, if any.

    Raises as :func:`way_down`.
    """
    last = way_down(root, gfn, level)[-1]
    return (last.row, None) if last.level == level else (None, translate(root, gfn))


def leaves(root: TdpMmuRoot) -> Iterator[Leaf]:
    """Every leaf, in order of its place in the tables, so a TD's direct root shows the shared bit."""
    for (gfn, level, count, pfn), spte in _runs_below(root, root.row, root.geometry.root_level, 0):
        pages = root.geometry.pages(level)
        for ahead in range(0, count * pages, pages):
            yield Leaf(gfn + ahead, level, pfn + ahead, spte + (ahead << PAGE_SHIFT))


def table_rows(root: TdpMmuRoot) -> list[list[int]]:
    """Rows of the tables that the root reaches, by level: item 0 is the root's, the last those of 4K."""
    found = [[root.row]]
    for _ in root.nonleaf_levels[:-1]:
        sptes = (spte for row in found[-1] for spte in root.pool.table(row))
        found.append([spte_to_pfn(spte) for spte in sptes if spte & _PRESENT_LARGE == SPTE_MMU_PRESENT_MASK])
    return found


def tables_per_level(root: TdpMmuRoot) -> tuple[int, ...]:
    """Count the tables that the root reaches, by level: item 0 those of 4K entries, the last the root."""
    return tuple(len(rows) for rows in reversed(table_rows(root)))


def leaf_runs(root: TdpMmuRoot) -> list[LeafRun]:
    """The leaves in order, neighbours joined into runs."""
    found = _runs_below(root, root.row, root.geometry.root_level, 0)
    return join_runs((leaf_run for leaf_run, _ in found), root.geometry)


def _runs_below(root: TdpMmuRoot, row: int, level: int, base: int) -> Iterator[tuple[LeafRun, int]]:
    """Runs of leaves whose entries differ in the frame only, in order, each with its first entry."""
    pages = root.geometry.pages(level)
    step = pages << PAGE_SHIFT
    first = count = low = 0
    for index, spte in enumerate(root.pool.table(row)):
        if count and spte == low + count * step:
            count += 1
            continue
        if count:
            yield LeafRun(base + first * pages, level, count, spte_to_pfn(low)), low
            count = 0
        if is_shadow_present_pte(spte):
            if is_last_spte(spte, level):
                first, count, low = index, 1, spte
            else:
                yield from _runs_below(root, spte_to_pfn(spte), level - 1, base + index * pages)
    if count:
        yield LeafRun(base + first * pages, level, count, spte_to_pfn(low)), low


def join_runs(runs: Iterable[LeafRun], geometry: Geometry) -> list[LeafRun]:
    """Join each of `runs` to the one before it where level, guest frames and host frames continue."""
    joined: list[LeafRun] = []
    for run in runs:
        if joined:
            gfn, level, count, pfn = joined[-1]
            covered = count * geometry.pages(level)
            if run.level == level and run.gfn == gfn + covered and run.pfn == pfn + covered:
                joined[-1] = LeafRun(gfn, level, count + run.count, pfn)
                continue
        joined.append(run)
    return joined


# ---- setting up ----------------------------------------------------------------------------------------


def map_leaf(root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex, pfn: SupportsIndex) -> None:
    """Map one leaf; see :func:`map_run`."""
    map_run(root, gfn, level, 1, pfn)


def map_run(
    root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex, count: SupportsIndex, pfn: SupportsIndex
) -> None:
    """Map `count` leaves of `level`, guest frames from `gfn` to host frames from `pfn`.

    Raises InvalidValueError, with nothing changed, for a level that is unknown or above the geometry's
    largest leaf, an unaligned `gfn` or `pfn`, frames that the root or the PFN field cannot hold, and frames
    that are mapped already.
    """
    entries = check_run(root, gfn, level, count, pfn)
    check_unmapped(root, entries)
    write_entries(root, entries)


class EntryRun(NamedTuple):
    """`count` entries of one level side by side: entry i has the value ``low + i * step``."""

    gfn: int
    level: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    low: int
    step: int


def check_run(
    root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex, count: SupportsIndex, pfn: SupportsIndex
) -> EntryRun:
    """Check the arguments of :func:`map_run` and compute the entries it would write."""
    geometry = root.geometry
    number, pages, label = geometry.level(level)
    if number > geometry.max_leaf_level:
        largest = geometry.level(geometry.max_leaf_level).label
        raise InvalidValueError(f"the largest leaf here is {largest}; a leaf of {label} is not mapped")
    first, host, leaves_wanted = (
        check_gfn(gfn),
        check_gfn(pfn, "a PFN"),
        as_integer(count, "a number of leaves"),
    )
    if leaves_wanted < 1:
        raise InvalidValueError(f"at least 1 leaf is mapped; {leaves_wanted} is too few")
    for what, frame in (("a GFN", first), ("a PFN", host)):
        if frame % pages:
            raise InvalidValueError(
                f"{what} of a {label} leaf is a multiple of {label}; {name_gfn(frame)} is not"
            )
    check_inside(root, first + leaves_wanted * pages - 1)
    make_leaf_spte(host + leaves_wanted * pages - 1, PG_LEVEL_4K)
    step = make_leaf_spte(pages, number) - make_leaf_spte(0, number)
    return EntryRun(first, number, leaves_wanted, make_leaf_spte(host, number), step)


def check_inside(root: TdpMmuRoot, gfn: int) -> int:
    """Return `gfn` if this tree can hold it, else raise InvalidValueError."""
    if gfn >= root.max_gfn_exclusive:
        raise InvalidValueError(
            f"this root holds frames below {name_gfn(root.max_gfn_exclusive)}; {name_gfn(gfn)} is beyond it"
        )
    return gfn


def check_unmapped(root: TdpMmuRoot, entries: EntryRun) -> None:
    """Raise InvalidValueError if a leaf or a table holds frames of `entries` already."""
    for piece in _by_table(root.geometry, entries):
        _check_piece(root, piece)


def _check_piece(root: TdpMmuRoot, piece: EntryRun) -> None:
    geometry, row = root.geometry, root.row
    for level in range(geometry.root_level, piece.level - 1, -1):
        index = geometry.index(piece.gfn | root.gfn_bits, level)
        spread = piece.count if level == piece.level else 1
        for at, spte in enumerate(root.pool.table(row)[index : index + spread]):
            if is_shadow_present_pte(spte) and (level == piece.level or is_last_spte(spte, level)):
                gfn = geometry.gfn_round_for_level(piece.gfn, level) + at * geometry.pages(level)
                what = "leaf" if is_last_spte(spte, level) else "table"
                raise InvalidValueError(
                    f"mappings do not overlap; a {geometry.level(level).label} {what} at {name_gfn(gfn)} "
                    "holds frames of the leaf asked for"
                )
        if not is_shadow_present_pte(spte):
            return
        row = spte_to_pfn(spte)


def write_entries(root: TdpMmuRoot, entries: EntryRun) -> None:
    """Write the checked `entries`, and make the tables that are missing on the way."""
    for gfn, level, count, low, step in _by_table(root.geometry, entries):
        index = root.geometry.index(gfn | root.gfn_bits, level)
        table = root.pool.table(_table_for(root, gfn, level))
        table[index : index + count] = array("Q", range(low, low + count * step, step))


def _by_table(geometry: Geometry, entries: EntryRun) -> Iterable[EntryRun]:
    """Cut `entries` into one part per table."""
    gfn, level, left, low, step = entries
    while left:
        count = min(left, geometry.entries - geometry.index(gfn, level))
        yield EntryRun(gfn, level, count, low, step)
        gfn, left, low = gfn + count * geometry.pages(level), left - count, low + count * step


def _table_for(root: TdpMmuRoot, gfn: int, level: int) -> int:
    """The row of the `level` table that holds `gfn`; tables that are missing on the way are made."""
    row = root.row
    for above in range(root.geometry.root_level, level, -1):
        table, index = root.pool.table(row), root.geometry.index(gfn | root.gfn_bits, above)
        if not is_shadow_present_pte(table[index]):
            child = root.pool.alloc()
            root.pool.init_page(child, root.child_role(above - 1), gfn)
            table[index] = make_nonleaf_spte(child)
        row = spte_to_pfn(table[index])
    return row
