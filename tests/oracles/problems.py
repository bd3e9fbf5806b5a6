"""Each kind of problem solved from what it gives, by other ways than those of the kit's own answers.

Leaves are listed one by one and asked which frames they hold; bits are read from left to right as text; the
walk keeps a set of leaves and a set of tables; threads are the scripts of tests/oracles/schedules.py. Only
root types are asked of the engine, since there the kit's answer comes from a model of its own.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from tdpkit.engine.events import run
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, kvm_tdp_mmu_alloc_root
from tdpkit.engine.pool import ROLE_INVALID
from tdpkit.engine.roots import (
    each_tdp_mmu_root,
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.lab.layouts import TOY, Layout
from tdpkit.lab.two_roots import FILTERS, OPERATIONS
from tests.oracles.schedules import Rules, Step, World, breaks, splitter

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}


def frames(answer: Any) -> Any:
    """An answer with each address in it as the number of its frame; text without a unit is such a number."""
    if isinstance(answer, list | tuple):
        return type(answer)(map(frames, answer))
    if not isinstance(answer, str):
        return answer
    terms = re.findall(r"(\d+)([KMGTP]?)", answer)
    return sum(int(number) * _UNITS[unit] // 4096 if unit else int(number) for number, unit in terms)


def _size(geometry: Geometry, level: int) -> int:
    return (2**geometry.index_bits) ** (level - 1)


def leaves(layout: Layout) -> Iterator[tuple[int, int]]:
    """(first frame, frames) of every leaf."""
    for gfn, level, count, _ in layout.leaves:
        size = _size(layout.geometry, level)
        yield from ((gfn + number * size, size) for number in range(count))


def _holds_both(first: int, size: int, edge: int) -> bool:
    held = range(first, first + size)
    return edge - 1 in held and edge in held


# ---- bits --------------------------------------------------------------------------------------------------


def indices(given: Any) -> list[int]:
    """S8: bit 47 of the address under four levels, bit 51 under five, is the shared bit."""
    geometry, address = given.geometry, given.address
    if given.half == "shared":
        address += 2**47 if geometry.root_level == 4 else 2**51
    digits = f"{address:b}".zfill(64)[:-12]  # without the offset into the frame
    width = geometry.index_bits
    return [int(digits[-width * level :][:width], 2) for level in range(geometry.root_level, 0, -1)]


def entry(given: Any) -> Any:
    """S20 and S22-S27."""
    bits = f"{given.spte:064b}"[::-1]

    def number(low: int, high: int) -> int:
        return int(bits[low : high + 1][::-1], 2)

    if given.index is not None:
        return f"0x{_child(given, bits):016x}"
    rights = "".join(letter for letter, bit in zip("RWX", bits, strict=False) if bit == "1")
    if bits[11] == "1":
        kind = "leaf" if given.level == 1 or bits[7] == "1" else "table"
        return [kind, f"0x{number(12, 51):x}", rights]
    if given.spte == 0x80000000000005A0:
        return ["frozen", None, rights]
    return ["mmio" if rights == "WX" else "non-present", None, rights]


def _child(given: Any, bits: str) -> int:
    """S26."""
    value = given.spte + given.index * (2**12 if given.level == 2 else 2**21)
    if given.level > 2:
        return value
    value -= 2**7
    if given.nx:
        tracked = bits[60] == "1" and "1" not in bits[0] + bits[1] + bits[2] + bits[10]
        for bit in (54, 62) if tracked else (2, 10):
            value += (given.exec_allowed - int(bits[bit])) * 2**bit
    return value


# ---- leaves and edges --------------------------------------------------------------------------------------


def crossing(given: Any) -> list[int]:
    edges = {edge for span in given.spans for edge in (span.start, span.end)}
    return [
        first for first, size in leaves(given.layout) if any(_holds_both(first, size, edge) for edge in edges)
    ]


def _forced(first: int, size: int, fan: int, edges: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(first frame, frames) of a leaf that holds both sides of an edge, and of its parts that then do."""
    if size > 1 and any(_holds_both(first, size, edge) for edge in edges):
        yield first, size
        for part in range(first, first + size, size // fan):
            yield from _forced(part, size // fan, fan, edges)


def blocks(given: Any) -> list[tuple[int, int]]:
    geometry = given.geometry
    largest = _size(geometry, geometry.max_leaf_level)
    around = {edge // largest * largest for edge in given.edges}
    return sorted(
        (
            (gfn, gfn + size)
            for first in around
            for gfn, size in _forced(first, largest, 2**geometry.index_bits, given.edges)
        ),
        key=lambda block: (block[0], -block[1]),
    )


def pages(given: Any) -> tuple[int, int, int]:
    """S80, S83, S176."""
    span, fan = given.span, 2**given.layout.geometry.index_bits

    def touched(first: int, size: int) -> Iterator[tuple[int, int]]:
        if size > 1 and first < span.end and span.start < first + size:
            yield first, size
            if size > fan:  # or its parts are of the smallest size
                for part in range(first, first + size, size // fan):
                    yield from touched(part, size // fan)

    split = []
    for first, size in leaves(given.layout):
        if given.split == "edges":
            split += _forced(first, size, fan, (span.start, span.end))
        else:
            split += touched(first, size)
    tables = len(split)
    if given.kind == "plain":
        return tables, 0, 0
    if given.kind == "TD":
        return tables, tables, 0
    of_2m = {first for first, size in split if size == 512}
    host = [512 - given.room + number for number in range(tables)]  # region 0 has its pair, if it has room
    new_regions = {page // 512 for page in host} - {0}
    return tables, tables, 2 * len(of_2m) + 2 * len(new_regions)


# ---- the walk ----------------------------------------------------------------------------------------------


class _Again(Exception):  # noqa: N818 - no error
    """The walk drops the lock, and begins again."""


class _Walk:
    """Leaves and tables as sets of (level, first frame), and the visits so far."""

    def __init__(self, given: Any) -> None:
        self.given, self.geometry = given, given.layout.geometry
        self.goal, self.page = given.span.start, False
        self.visits: list[tuple[int, int]] = []
        self.leaves = {
            (level, gfn + number * _size(self.geometry, level))
            for gfn, level, count, _ in given.layout.leaves
            for number in range(count)
        }
        self.tables = {
            (above, gfn // _size(self.geometry, above) * _size(self.geometry, above))
            for level, gfn in self.leaves
            for above in range(level + 1, self.geometry.root_level + 1)
        }

    def walked(self) -> list[tuple[int, int]]:
        while True:
            try:
                self.table(self.geometry.root_level, 0)
            except _Again:
                continue
            return self.visits

    def table(self, level: int, base: int) -> None:
        span, size = self.given.span, _size(self.geometry, level)
        for gfn in range(base, base + size * 2**self.geometry.index_bits, size):
            if gfn >= span.end or gfn + size <= self.goal:
                continue
            self.goal = max(self.goal, gfn)
            self.visits.append((level, gfn))
            if level > 1 and (level, gfn) in self.leaves and self.must_split(gfn, size):
                self.split(level, gfn)
            if (level, gfn) in self.tables and level > self.given.target_level + 1:
                self.table(level - 1, gfn)

    def must_split(self, gfn: int, size: int) -> bool:
        inside = self.given.span.start <= gfn and gfn + size <= self.given.span.end
        return not (self.given.only_cross_boundary and inside)

    def split(self, level: int, gfn: int) -> None:
        if not self.page:
            self.page = True
            raise _Again
        self.page = False
        self.leaves.remove((level, gfn))
        self.tables.add((level, gfn))
        part = _size(self.geometry, level - 1)
        self.leaves |= {(level - 1, gfn + n * part) for n in range(2**self.geometry.index_bits)}


def visits(given: Any) -> list[tuple[int, int]]:
    return _Walk(given).walked()


# ---- roots -------------------------------------------------------------------------------------------------


def roots(given: Any) -> list[str]:
    """On the engine: the VM's roots, what happens to them, and the loop over those that match."""
    kvm = Kvm(KVM_X86_TDX_VM if given.vm == "TD" else KVM_X86_DEFAULT_VM, TOY)
    names = {}
    if given.happens:
        names = {("M1" if root.is_mirror else "D1"): root for root in kvm.tdp_mmu_roots}
    else:
        kvm.tdp_mmu_roots.clear()
        for name, tree, valid in sorted(given.roots, key=lambda root: root.valid):  # a valid one is shared
            names[name] = kvm_tdp_mmu_alloc_root(kvm, is_mirror=tree == "mirror")
            kvm.pool.role[names[name].row] |= 0 if valid else ROLE_INVALID
    for event in given.happens:
        if event == "reload":
            kvm_mmu_reload(kvm)
            for root in kvm.tdp_mmu_roots:
                if root not in names.values():
                    letter = "M" if root.is_mirror else "D"
                    names[f"{letter}{1 + sum(name[0] == letter for name in names)}"] = root
        elif event == "zap invalidated":
            run(kvm_tdp_mmu_zap_invalidated_roots(kvm))
        else:
            kvm_tdp_mmu_invalidate_roots(kvm, int(event.removeprefix("invalidate ")))
    types = given.types
    if types is None:
        types = OPERATIONS[given.call].types(kvm, FILTERS[given.filter])
    reached = [*each_tdp_mmu_root(kvm, 0, types)]
    return sorted(name for name, root in names.items() if root in reached)


# ---- schedules ---------------------------------------------------------------------------------------------


def history(given: Any) -> list[Step]:
    """The scripts, in the order of the schedule's threads."""
    setting = given.setting
    rules = Rules(setting.lock, setting.pages == "in hand", setting.flush)
    order = [step[0] for step in given.schedule.split()]
    world, scripts = World(rules), {who: splitter(rules) for who in sorted({*order})}
    wants: dict[str, str | None] = {who: next(script) for who, script in scripts.items()}
    made: list[Step] = []
    for who in order:
        what = wants[who]
        assert what is not None
        assert world.can(what)
        came = world.do(who, what)
        made.append((who, what, came))
        try:
            wants[who] = scripts[who].send(came)
        except StopIteration:
            wants[who] = None
    assert not any(wants.values()), "the schedule is whole"
    return made


def schedule(given: Any) -> int:
    return breaks(history(given)).get(given.asks, 0)


SOLVERS: dict[str, Callable[[Any], Any]] = {
    "decode an address": indices,
    "decode an entry": entry,
    "which leaves cross": crossing,
    "order of visits": visits,
    "blocks of an edge": blocks,
    "root types": roots,
    "pages for a split": pages,
    "is this schedule safe": schedule,
}
