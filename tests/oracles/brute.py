"""Trees without an engine: what the tests compare its memory with.

A table is the list of its entries; an entry is a table, or the 64-bit value of anything else. Every value is
written out from S20, S23 and S24 (none comes from `tdpkit.engine.spte`), and nothing here walks
from entry to entry: what is asked of a range is asked of each entry by arithmetic on its frames.
"""

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

from hypothesis import strategies as st

from tdpkit.engine.gfn import Geometry
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot

Entry = int | list  # a table is a list of entries, which are the same again
Leaf = tuple[int, int]

HOLE = 0x8000_0000_0000_0000
FROZEN = 0x8000_0000_0000_05A0
PRESENT = 1 << 11
LARGE = 1 << 7
FRAME = 0x000F_FFFF_FFFF_F000
LINK = 0x8000_0000_0000_0D07
"""A non-leaf without its frame: 0x907 of S25 and XU, which goes with X (S20)."""
LEAF = 0x80A0_0000_0000_0F37
"""A 4K leaf without its frame; a larger one has bit 7 too: the 0x80a0...fb7 of S20."""
WRITE_PROTECTED = LEAF & ~(1 << 55 | 1 << 1)
DIRTY_CLEARED = LEAF & ~(1 << 9)
ACCESSED_CLEARED = LEAF & ~(1 << 8)


def pages(geometry: Geometry, level: int) -> int:
    """Frames under one entry of `level`."""
    return (2**geometry.index_bits) ** (level - 1)


def leaf(pfn: int, level: int, bits: int = LEAF) -> int:
    return bits | pfn << 12 | (LARGE if level > 1 else 0)


def is_leaf(entry: Entry) -> bool:
    return not isinstance(entry, list) and bool(entry & PRESENT)


def full(geometry: Geometry, level: int, pfn: int = 0) -> list:
    """A root all of whose frames are mapped by leaves of `level`, to host frames from `pfn` on."""

    def table(of: int, base: int) -> list:
        size = pages(geometry, of)
        bases = range(base, base + size * 2**geometry.index_bits, size)
        return [table(of - 1, gfn) if of > level else leaf(pfn + gfn, of) for gfn in bases]

    return table(geometry.root_level, 0)


# ---- between lists and memory --------------------------------------------------------------------------


def plant(geometry: Geometry, table: list, *, pool: PageTablePool | None = None, **of_root) -> TdpMmuRoot:
    """A root whose memory holds `table`; rows in random order, in a pool that must grow from one row."""
    root = TdpMmuRoot(pool or PageTablePool(geometry, capacity=1, shuffle=1), **of_root)

    def fill(row: int, entries: list, level: int, base: int) -> None:
        for index, entry in enumerate(entries):
            if isinstance(entry, list):
                gfn = base + index * pages(geometry, level)
                child = root.pool.alloc()
                root.pool.init_page(child, root.child_role(level - 1), gfn & ~root.gfn_bits)
                fill(child, entry, level - 1, gfn)
                entry = LINK | child << 12
            root.pool.table(row)[index] = entry

    fill(root.row, table, geometry.root_level, 0)
    return root


def read(root: TdpMmuRoot) -> list:
    """The tree as it lies in memory. A link has exactly the bits of a non-leaf; no row is met twice."""
    met = set()

    def table(row: int, level: int) -> list:
        assert row not in met, f"two entries point to row {row}"
        met.add(row)
        assert root.pool.role[row] & 0xF == level, f"row {row} does not say that it is a level {level} table"
        return [entry(raw, level) for raw in root.pool.table(row)]

    def entry(raw: int, level: int) -> Entry:
        if not raw & PRESENT or raw & LARGE or level == 1:
            return raw
        assert raw & ~FRAME == LINK, f"{raw:#x} is no link"
        return table((raw & FRAME) >> 12, level - 1)

    return table(root.row, root.geometry.root_level)


def memory(pool: PageTablePool) -> tuple[object, ...]:
    """Every byte of the machine, to be compared with itself later."""
    rows = [pool.table(row).tobytes() for row in range(len(pool.role))]
    return rows, pool.role.tobytes(), pool.gfn.tobytes(), pool.rows_in_use, pool.rcu_readers


# ---- questions to a tree -------------------------------------------------------------------------------


def touches(gfn: int, size: int, start: int, end: int) -> bool:
    """The entry has frames of [start, end); if that is empty, start lies strictly inside the entry."""
    return gfn < end and gfn + size > start


def entries(
    geometry: Geometry, table: list, start: int = 0, end: int = 1 << 60, min_level: int = 1
) -> Iterator[tuple[int, int, Entry]]:
    """(gfn, level, entry) of all that touch [start, end), at `min_level` and above, parents first."""

    def below(table: list, level: int, base: int) -> Iterator[tuple[int, int, Entry]]:
        for index, entry in enumerate(table):
            gfn = base + index * pages(geometry, level)
            if touches(gfn, pages(geometry, level), start, end):
                yield gfn, level, entry
                if isinstance(entry, list) and level > min_level:
                    yield from below(entry, level - 1, gfn)

    return below(table, geometry.root_level, 0)


def leaves(geometry: Geometry, table: list) -> list[tuple[int, int, int]]:
    """(gfn, level, entry) of every leaf, in order."""
    return [(gfn, level, entry) for gfn, level, entry in entries(geometry, table) if is_leaf(entry)]


def frames(geometry: Geometry, table: list) -> dict[int, int]:
    """What each mapped frame would have as a 4K entry: its host frame and its permissions."""
    return {
        gfn + ahead: (raw & ~LARGE) + (ahead << 12)
        for gfn, level, raw in leaves(geometry, table)
        for ahead in range(pages(geometry, level))
    }


def tables_per_level(geometry: Geometry, table: list) -> tuple[int, ...]:
    """Item 0 counts the tables of 4K entries, the last one the root."""
    found = [0] * geometry.root_level
    found[-1] = 1
    for _, level, entry in entries(geometry, table):
        if isinstance(entry, list):
            found[level - 2] += 1
    return tuple(found)


# ---- what should become of a tree ----------------------------------------------------------------------


def small_leaves(geometry: Geometry, raw: int, level: int) -> list[int]:
    """The table that takes a huge leaf's place (S26, without the NX mitigation)."""
    step = pages(geometry, level - 1) << 12
    if level == 2:
        raw &= ~LARGE
    return [raw + index * step for index in range(2**geometry.index_bits)]


def rebuild(geometry: Geometry, table: list, change: Callable[[int, int, int], Entry]) -> list:
    """`table` with every entry that is no table replaced by what `change(gfn, level, raw)` says."""

    def below(table: list, level: int, base: int) -> list:
        return [place(entry, level, base + i * pages(geometry, level)) for i, entry in enumerate(table)]

    def place(entry: Entry, level: int, gfn: int) -> Entry:
        if not isinstance(entry, list):
            entry = change(gfn, level, entry)
        return below(entry, level - 1, gfn) if isinstance(entry, list) else entry

    return below(table, geometry.root_level, 0)


def split(
    geometry: Geometry, table: list, must: Callable[[int, int], bool]
) -> tuple[list, list[tuple[int, int]]]:
    """`table` with each leaf that `must` be split, and its children as far as they must; and which, sorted.

    Sorted by frame, the larger first: a parent before its children, in order.
    """
    done: list[Leaf] = []

    def change(gfn: int, level: int, raw: int) -> Entry:
        if not (is_leaf(raw) and level > 1 and must(gfn, level)):
            return raw
        done.append((gfn, level))
        return small_leaves(geometry, raw, level)

    changed = rebuild(geometry, table, change)
    return changed, sorted(done, key=lambda leaf: (leaf[0], -leaf[1]))


def holds_inside(geometry: Geometry, gfn: int, level: int, edges: Iterable[int]) -> bool:
    """A leaf here has both x - 1 and x, for one x of the edges: it must be split (S232)."""
    return any(gfn < x < gfn + pages(geometry, level) for x in edges)


def split_at_edges(geometry: Geometry, table: list, start: int, end: int) -> tuple[list, list[Leaf]]:
    """The forced closure (S232): the one correct and minimal result, and its splits."""
    return split(geometry, table, lambda gfn, level: holds_inside(geometry, gfn, level, (start, end)))


def zap(geometry: Geometry, table: list, start: int, end: int) -> tuple[list, list[Leaf]]:
    """`table` without the leaves that touch [start, end), whole; and which those were."""
    gone: list[Leaf] = []

    def change(gfn: int, level: int, raw: int) -> Entry:
        if not (is_leaf(raw) and touches(gfn, pages(geometry, level), start, end)):
            return raw
        gone.append((gfn, level))
        return HOLE

    return rebuild(geometry, table, change), gone


# ---- layouts and ranges to try -------------------------------------------------------------------------

SHAPES = sorted(
    (
        Geometry(bits, root, largest)
        for bits in (1, 2, 3)
        for root in (1, 2, 3, 4)
        for largest in range(1, root + 1)
    ),
    key=lambda shape: (shape.index_bits * shape.root_level, shape.max_leaf_level),
)


class Layout(NamedTuple):
    """A geometry and a root table of it: the first two arguments of the functions above."""

    geometry: Geometry
    table: list


def geometries(root_levels: tuple[int, int] = (1, 4)) -> st.SearchStrategy[Geometry]:
    """Toys, the smallest first; those with huge leaves oftener than those without."""
    fitting = [shape for shape in SHAPES if root_levels[0] <= shape.root_level <= root_levels[1]]
    return st.sampled_from(fitting + [shape for shape in fitting if shape.max_leaf_level > 1] * 3)


def random_layout(geometry: Geometry, random: Random) -> Layout:
    """Leaves of every allowed level, holes, frozen entries, tables (empty ones too); host frames all over the
    place or in step with the guest's.
    """
    in_step, crowded = random.random() < 0.5, random.random() < 0.7
    bits = random.sample([LEAF, WRITE_PROTECTED, DIRTY_CLEARED], random.randint(1, 3))
    span = pages(geometry, geometry.root_level + 1)
    made = {"tables": 1, "leaves": 0}

    def table(level: int, base: int) -> list:
        return [entry(level, base + i * pages(geometry, level)) for i in range(2**geometry.index_bits)]

    def entry(level: int, gfn: int) -> Entry:
        if level > geometry.max_leaf_level:
            kind = random.choices(("hole", "table"), (1, 6))[0]
        else:
            kind = random.choices(
                ("leaf", "hole", "frozen", "table"), (6, 1, 1, 3) if crowded else (2, 4, 1, 3)
            )[0]
        if kind == "table" and level > 1 and made["tables"] < 12:
            made["tables"] += 1
            return table(level - 1, gfn)
        if kind == "leaf":
            made["leaves"] += 1
            pfn = span + gfn if in_step else 2 * made["leaves"] * span
            return leaf(pfn, level, bits[made["leaves"] % len(bits)])
        return FROZEN if kind == "frozen" else HOLE

    return Layout(geometry, table(geometry.root_level, 0))


def random_range(layout: Layout, random: Random) -> tuple[int, int]:
    """(start, end): most edges in or at a leaf, some anywhere; empty or beyond the root now and then."""
    last = pages(layout.geometry, layout.geometry.root_level + 1)
    there = leaves(*layout)

    def edge() -> int:
        if not there or random.random() < 0.2:
            return random.randrange(last)
        # The levels' turn comes equally often, few as the large leaves are.
        level = random.choice(sorted({level for _, level, _ in there}))
        gfn = random.choice([gfn for gfn, of, _ in there if of == level])
        size = pages(layout.geometry, level)
        return min(
            last - 1,
            gfn + random.choice((0, 1, size // 2, size - 1, size, *random.choices(range(size), k=3))),
        )

    start, end = sorted((edge(), edge()))
    turn = random.randrange(10)
    return start, start if turn == 0 else last + random.randrange(4) if turn == 1 else end


SEEDS = st.integers(0, 2**32 - 1).map(Random)


def layouts(root_levels: tuple[int, int] = (1, 4)) -> st.SearchStrategy[Layout]:
    return st.builds(random_layout, geometries(root_levels), SEEDS)


def ranges(layout: Layout) -> st.SearchStrategy[tuple[int, int]]:
    return SEEDS.map(lambda random: random_range(layout, random))


def cases(root_levels: tuple[int, int] = (1, 4)) -> st.SearchStrategy[tuple[Layout, int, int]]:
    """A layout and a range of it."""

    def case(geometry: Geometry, random: Random) -> tuple[Layout, int, int]:
        layout = random_layout(geometry, random)
        return layout, *random_range(layout, random)

    return st.builds(case, geometries(root_levels), SEEDS)
