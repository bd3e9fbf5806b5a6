"""Decode an address: the index into each table on the way to it."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import PAGE_SHIFT, X86_4LEVEL, X86_5LEVEL, Geometry, format_gfn
from tdpkit.lab.entries import address_path, join_indices
from tdpkit.lab.untrusted import shown

from ..checking import Wrong, ordered, refused, whole
from .kind import Kind, names_of, steps


class Address(NamedTuple):
    """An address in bytes, the tables that lead to it, and the half of a TD ("" in a plain VM)."""

    geometry: Geometry
    address: int
    half: str = ""

    @property
    def gfn(self) -> int:
        """Its frame, without a shared bit."""
        return self.address >> PAGE_SHIFT

    @property
    def shared_bit(self) -> int:
        """The shared bit as a frame mask, 0 unless the address is in the shared half."""
        return self.geometry.shared_bit() if self.half == "shared" else 0

    @property
    def is_toy(self) -> bool:
        """Frames are counted, and the address is one of a frame."""
        return names_of(self.geometry).toy


def draw(chance: Random, level: int) -> Address:
    """A frame of a toy; an address of x86; a byte of a TD's half, with four or five levels."""
    if level == 1:
        toy = Geometry(chance.randint(2, 4), chance.randint(2, 4), 1)
        toy = toy if toy.root_pages <= 1 << 12 else Geometry(3, 4, 1)
        return Address(toy, chance.randrange(toy.root_pages) << PAGE_SHIFT)
    if level == 2:
        return Address(X86_4LEVEL, _x86_gfn(chance, X86_4LEVEL.root_pages, 4) << PAGE_SHIFT)
    geometry = chance.choice((X86_4LEVEL, X86_5LEVEL))
    gfn = _x86_gfn(chance, geometry.shared_bit(), geometry.root_level)
    half = chance.choice(("shared", "shared", "private"))
    return Address(geometry, gfn << PAGE_SHIFT | chance.randrange(1 << PAGE_SHIFT), half)


def _x86_gfn(chance: Random, end: int, levels: int) -> int:
    """A frame below `end`: at each level a small index, the last, or any, so that zeros are met too."""
    gfn = 0
    for _ in range(levels):
        gfn = gfn << 9 | chance.choice((0, chance.randint(1, 9), chance.randrange(512), 511))
    return gfn % end


def ask(given: Address) -> str:
    """Give the machine and the address."""
    geometry = given.geometry
    if given.is_toy:
        where = f"frame {given.gfn}"
        machine = (
            f"A toy machine has page tables of {geometry.entries} entries and {geometry.root_level} levels, "
            f"so the root holds frames 0 to {geometry.root_pages - 1}; an entry of level 1 maps one frame."
        )
    elif not given.half:
        where = f"the address {format_gfn(given.gfn)}"
        machine = "An x86 machine has page tables of 512 entries and four levels; a frame has 4K."
    else:
        where = f"the byte at {given.address:#x}, in the {given.half} half"
        machine = (
            f"A TD has page tables of 512 entries and {geometry.root_level} levels; a frame has 4K. Its "
            f"shared bit is bit {geometry.shared_bit().bit_length() - 1 + PAGE_SHIFT} of the address. KVM "
            "indexes the direct root, which holds the shared half, with that bit, and the mirror root, which "
            "holds the private half, without it. The address here is written without it."
        )
    return f"{machine} Which entry of each table leads to {where}?"


def form(given: Address) -> str:
    """So many indices."""
    return f"the {given.geometry.root_level} indices as a list, the root's first; an index counts from 0."


def right(given: Address) -> list[int]:
    """The indices, the root's first."""
    return [*address_path(given.gfn, given.geometry, shared=bool(given.shared_bit)).indices]


def hold(given: Address, answer: Any) -> str:
    """Wrong indices lead elsewhere: the counterexample is where."""
    geometry, levels = given.geometry, given.geometry.root_level
    said = [whole(item) for item in ordered(answer, levels) or []]
    numbers = [number for number in said if number is not None]
    if len(numbers) != levels:
        raise refused(f"the answer is a list of {levels} indices, the root's first", answer)
    arrived, name = join_indices(numbers, geometry), names_of(geometry).frame
    bit = given.shared_bit
    if arrived == given.gfn | bit:
        return f"these indices lead to {name(given.gfn)}."
    if bit and arrived == given.gfn:
        raise Wrong("these indices are those of the mirror root: the shared bit is missing in them.")
    if given.half == "private" and arrived == given.gfn | geometry.shared_bit():
        raise Wrong("these indices have the shared bit, and the mirror root is indexed without it.")
    there = f"{name(arrived & ~bit)}{', without the shared bit' if bit and not arrived & bit else ''}"
    if bit and arrived & bit:
        there += " of the shared half"
    raise Wrong(f"the indices {shown(numbers)} lead to {there}, not to {name(given.gfn)}.")


def work(given: Address) -> str:
    """Divide the frame by the entries of a table, again and again."""
    geometry, left = given.geometry, given.gfn | given.shared_bit
    lines = []
    if not given.is_toy:
        lines.append(f"A frame has 4K = 2^12 bytes: the frame's number is {given.gfn:#x} = {given.gfn}.")
    if given.half:
        bit = geometry.shared_bit()
        lines.append(
            f"The direct root is indexed with the shared bit, {bit:#x} in frames: "
            f"the number is {left:#x} = {left}."
            if given.shared_bit
            else "The mirror root is indexed without the shared bit."
        )
    for level in range(1, geometry.root_level + 1):
        over, index = divmod(left, geometry.entries)
        name = " (the root)" if level == geometry.root_level else ""
        lines.append(
            f"Level {level}{name}: {left} = {over} × {geometry.entries} + {index}, so the index is {index}."
        )
        left = over
    return steps(lines)


KIND = Kind("decode an address", draw, ask, form, right, hold, work)
