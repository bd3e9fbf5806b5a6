"""An address taken apart, and the entries on the way to a frame: the index per level."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    PG_LEVEL_4K,
    X86_4LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    check_gfn,
    name_gfn,
    parse_gfn,
)
from tdpkit.engine.spte import decode
from tdpkit.engine.tree import TdpMmuRoot, way_down

from .entry import check_index

# ---- addresses ---------------------------------------------------------------------------------------


class IndexStep(NamedTuple):
    """Address bits `high` to `low`: the index into a table of `level`."""

    level: int
    label: str
    """The size of one entry of that table."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    high: int
    low: int


class AddressPath(NamedTuple):
    """The way of an address through the tables of a geometry, from the root down.

    gfn: the frame that is indexed, with the shared bit if asked for; steps: one for each level; shared_bit:
    number of the address bit that
    means shared, None in a private path.
    """

    gfn: int
    geometry: Geometry
    steps: tuple[IndexStep, ...]
    shared_bit: int | None = None

    @property
    def indices(self) -> tuple[int, ...]:
        """The index at each level, the root's first."""
        return tuple(step.index for step in self.steps)

    @property
    def address_bits(self) -> int:
        """Bits of the largest address under this root."""
        return self.steps[0].high + 1

    def __repr__(self) -> str:
        ways = ", ".join(f"level {step.level} index {step.index}" for step in self.steps)
        return f"frame {name_gfn(self.gfn)}: {ways}"


def address_path(
    gfn: str | SupportsIndex, geometry: Geometry = X86_4LEVEL, *, shared: bool = False
) -> AddressPath:
    """The indices of frame `gfn` (a number, or text as parse_gfn reads it) under a root of `geometry`.

    shared: with the shared bit of a TD of this shape, as its direct root is indexed (S8-S10).
    Raises InvalidTypeError or InvalidValueError unless the root holds the frame; with the shared bit, unless
    half the root does.
    """
    frame = parse_gfn(gfn) if isinstance(gfn, str) else check_gfn(gfn)
    bits = geometry.shared_bit() if shared else 0
    end = bits or geometry.root_pages
    if frame >= end:
        what = "each half of a TD of this shape" if shared else "this root"
        raise InvalidValueError(f"{what} holds frames below {name_gfn(end)}; {name_gfn(frame)} is beyond it")
    steps = tuple(
        IndexStep(
            level,
            geometry.level(level).label,
            geometry.index(frame | bits, level),
            PAGE_SHIFT + geometry.shifts[level + 1] - 1,
            PAGE_SHIFT + geometry.shifts[level],
        )
        for level in range(geometry.root_level, 0, -1)
    )
    return AddressPath(frame | bits, geometry, steps, bits.bit_length() - 1 + PAGE_SHIFT if shared else None)


def join_indices(indices: tuple[int, ...] | list[int], geometry: Geometry = X86_4LEVEL) -> int:
    """The frame at which `indices`, the root's first, arrive: the inverse of :func:`address_path`.

    Raises InvalidTypeError unless it is a list of integers, InvalidValueError unless there is one for each
    level and a table has it.
    """
    if not isinstance(indices, tuple | list):
        raise InvalidTypeError(f"indices are a list, the root's first; {indices!r} is none")
    if len(indices) != geometry.root_level:
        raise InvalidValueError(
            f"under this root an address has {geometry.root_level} indices; here are {len(indices)}"
        )
    gfn = 0
    for index in indices:
        gfn = gfn << geometry.index_bits | check_index(index, geometry)
    return gfn


# ---- the way to a frame ------------------------------------------------------------------------------


class Found(NamedTuple):
    """An entry met on the way to a frame: its value, its level, its index in its table."""

    spte: int
    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses

    def __repr__(self) -> str:
        kind = decode(self.spte, self.level).kind
        return f"level {self.level}, index {self.index}: {self.spte:#018x}, {kind}"


def entry_on_the_way(root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex) -> Found:
    """The `level` entry on the way to `gfn`, or the one above it where the way ends; raises as way_to."""
    return way_to(root, gfn, level)[-1]


def way_to(root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex = PG_LEVEL_4K) -> list[Found]:
    """The entries on the way to `gfn`, from the root's down to the one of `level` or where the way ends.

    Raises InvalidValueError if `root` has no such level or cannot hold the frame.
    """
    wanted = root.geometry.level(level).number
    return [Found(passed.spte, passed.level, passed.index) for passed in way_down(root, gfn, wanted)]
