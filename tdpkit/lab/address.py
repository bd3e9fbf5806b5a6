"""A guest-physical address taken apart: its frame, and the index it has in the table of each level."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    X86_4LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    check_gfn,
    name_gfn,
    parse_gfn,
)

from .entries import check_index


class Step(NamedTuple):
    """The address bits `high` to `low`, which are the index in a table of `level`."""

    level: int
    label: str
    """The size of one entry of that table."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    high: int
    low: int


class AddressPath(NamedTuple):
    """The way of an address through the tables of a geometry, from the root down.

    gfn: the frame, as it is used for the index (with the shared bit, where that is asked for); steps: one for
    each level; shared_bit: the bit of the address that says shared in a TD, or None.
    """

    gfn: int
    geometry: Geometry
    steps: tuple[Step, ...]
    shared_bit: int | None = None

    @property
    def indices(self) -> tuple[int, ...]:
        """The index at each level, the root's first."""
        return tuple(step.index for step in self.steps)

    @property
    def address_bits(self) -> int:
        """Bits of an address that the root can hold."""
        return self.steps[0].high + 1

    def __repr__(self) -> str:
        ways = ", ".join(f"level {step.level} index {step.index}" for step in self.steps)
        return f"frame {name_gfn(self.gfn)}: {ways}"


def address_path(
    gfn: str | SupportsIndex, geometry: Geometry = X86_4LEVEL, *, shared: bool = False
) -> AddressPath:
    """The indices of frame `gfn` (a number, or text as parse_gfn reads it) under a root of `geometry`.

    shared: with the shared bit of a TD of this shape, as its direct root is indexed (kernel-facts 1.8-1.11).
    Raises InvalidTypeError or InvalidValueError for what is no frame or lies beyond the root; with the shared
    bit, beyond the half that the bit leaves.
    """
    frame = parse_gfn(gfn) if isinstance(gfn, str) else check_gfn(gfn)
    bits = geometry.shared_bit() if shared else 0
    end = bits or geometry.root_pages
    if frame >= end:
        what = "each half of a TD of this shape" if shared else "this root"
        raise InvalidValueError(f"{what} holds frames below {name_gfn(end)}; {name_gfn(frame)} is beyond it")
    steps = tuple(
        Step(
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

    Raises InvalidTypeError for what is no list of integers, InvalidValueError for too few or too many of them
    and for one that a table does not have.
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
