"""The exercises of notebook 01: indices, tables, the bits a split child keeps, a TD's shared frame."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, format_gfn, name_gfn, parse_gfn
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm
from tdpkit.engine.spte import is_shadow_present_pte
from tdpkit.engine.tree import map_leaf, map_run, tables_per_level
from tdpkit.lab.entries import address_path, bit_numbers, child_of, join_indices, read_entry
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import count_of

from .checking import Unanswered, Wrong, answer_of, answered, check, did, items, ordered, refused, whole

# ---- a TD's shared frame -------------------------------------------------------------------------------

SHARED_FRAME = "1G+2M+12K"
_LAST = X86_4LEVEL.entries - 1


@check(f"give an index for each of the two roots, from 0 to {_LAST}.")
def check_shared(mirror: Any, direct: Any) -> str:
    """Whether the two root indices lead to SHARED_FRAME, which a TD of 4 levels holds in both of its trees.

    mirror, direct: the index in the table of the mirror root (private) and of the direct root (shared).
    """
    kvm, gfn = Kvm(KVM_X86_TDX_VM, X86_4LEVEL), parse_gfn(SHARED_FRAME)
    for root in kvm.tdp_mmu_roots:
        name, said = ("mirror", mirror) if root.is_mirror else ("direct", direct)
        map_leaf(root, gfn, 1, gfn)
        index = whole(said)
        if index is None or not 0 <= index < X86_4LEVEL.entries:
            raise refused(f"an index is a number from 0 to {_LAST}", said)
        spte = kvm.pool.table(root.row)[index]
        if not is_shadow_present_pte(spte):
            first = join_indices([index, 0, 0, 0])
            bit = "set" if first & kvm.gfn_direct_bits else "clear"
            raise Wrong(
                f"{name} root, index {index}: the entry is {spte:#018x}, nothing is there. It is the way to "
                f"the addresses from {format_gfn(first)} on, in which bit 47 is {bit}."
            )
    return "one frame number, two places: only the direct root is indexed with the shared bit."


# ---- by hand -------------------------------------------------------------------------------------------

ADDRESS = "3T+5G+6M+28K"
INDICES = (1, 2, 3, 4)


@check(f"give the four indices of {ADDRESS}, and the address with the indices {INDICES}.")
def check_by_hand(indices: Any, address: Any) -> str:
    """Whether `indices`, the root's first, are those of ADDRESS, and `address` has the indices INDICES.

    indices: four numbers; address: text such as ``2T+4K``, or a frame number. Four levels.
    """
    said = [whole(item) for item in ordered(indices, X86_4LEVEL.root_level) or []]
    numbers = [number for number in said if number is not None]
    if len(numbers) != X86_4LEVEL.root_level:
        raise refused("the indices are four numbers, the root's first", indices)
    arrived, path = join_indices(numbers), address_path(address)
    if arrived != parse_gfn(ADDRESS):
        raise Wrong(
            f"a walk with the indices {shown(indices)} arrives at {format_gfn(arrived)}, not at {ADDRESS}."
        )
    if path.indices != INDICES:
        raise Wrong(f"{format_gfn(path.gfn)} has the indices {path.indices}, not {INDICES}.")
    return f"{ADDRESS} has the indices {tuple(numbers)}, and {format_gfn(path.gfn)} has {INDICES}."


# ---- a function ----------------------------------------------------------------------------------------

_TOY = Geometry(index_bits=2, root_level=3, max_leaf_level=1)
_RANDOM_FRAMES = 500


@check("let index return a number.")
def check_index(index: Any) -> str:
    """Attack ``index(gfn, level, bits)``: every frame of a toy of 64, then x86 addresses, at every level.

    bits: address bits per level. The first difference, at the smallest frame of the toy, is the
    counterexample.
    """
    if not callable(index):
        raise refused("index is a function of gfn, level and bits", index)
    tried = 0
    for gfn, level, geometry in _index_cases():
        tried += 1
        said = answer_of(index, gfn, level, geometry.index_bits)
        if said is None:
            raise Unanswered
        right = _digits(gfn, geometry)[level - 1]
        if whole(said) != right:
            call = f"index({gfn:#x}, {level}, {geometry.index_bits})"
            where = f"index {right} of a table of {geometry.entries} entries at level {level}"
            raise Wrong(f"{call} {did(said, 'is')}; frame {name_gfn(gfn)} lies at {where}.")
    return f"{tried} indices: every frame of a toy, and addresses of x86, at each level."


def _digits(gfn: int, geometry: Geometry) -> list[int]:
    """The digits of `gfn` in base 2 ** bits, level 1's first: its indices, found without a shift."""
    digits = []
    for _ in range(geometry.root_level):
        gfn, digit = divmod(gfn, geometry.entries)
        digits.append(digit)
    return digits


def _index_cases() -> Iterator[tuple[int, int, Geometry]]:
    chance = random.Random(1)
    frames = (chance.randrange(X86_4LEVEL.root_pages) for _ in range(_RANDOM_FRAMES))
    for geometry, gfns in ((_TOY, range(_TOY.root_pages)), (X86_4LEVEL, frames)):
        for gfn in gfns:
            for level in range(1, geometry.root_level + 1):
                yield gfn, level, geometry


# ---- how many tables -----------------------------------------------------------------------------------

MAPPINGS = {
    "one 4K leaf at 1G": ("1G", 1, 1),
    "2M of 4K leaves from 1G": ("1G", 1, X86_4LEVEL.entries),
    "2M of 4K leaves from 1G-1M": ("1G-1M", 1, X86_4LEVEL.entries),
    "4M of 2M leaves from 512G-2M": ("512G-2M", 2, 2),
}
"""A question, and the mapping it is about: address, level, number of leaves."""


def _ask_tables(mapping: str) -> str:
    return f"how many tables, the root included, hold {mapping}? (Four levels.)"


@check()
def check_tables(tables: Any) -> str:
    """Compare predicted numbers of tables, the root included, with those of each mapping of MAPPINGS."""
    for question, said in answered(tables, MAPPINGS, "a number for each mapping", _ask_tables):
        at, level, count = MAPPINGS[question]
        root = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL).direct_root
        map_run(root, parse_gfn(at), level, count, 0)
        found, number = tables_per_level(root), whole(said)
        if number is None:
            raise refused(f"{question}: a number of tables is a whole number", said)
        if number != sum(found):
            few = "too few" if number < sum(found) else "too many"
            there = f"there {'is' if found[level - 1] == 1 else 'are'} {count_of(found[level - 1], 'table')}"
            raise Wrong(
                f"{question}: {shown(number)} is {few}; at level {level}, where the leaves are, {there}. "
                "Go on from there, up to the root."
            )
    return "a table for each stretch that holds something, at each level, and one root."


# ---- the bits of a child -------------------------------------------------------------------------------

PARENTS = {
    "2M leaf": (0x80A0_0001_C8A0_0FB7, 2, False),
    "1G leaf, NX on": (0x80A1_9DA4_C000_0BB3, 3, True),
    "2M leaf without X, NX on": (0x80A2_1F9B_3120_0BB3, 2, True),
}
"""A question, and the split it is about: the parent, its level, whether the NX-huge-page rule is on."""


def _ask_bits(parent: str) -> str:
    return f"which bits, besides the frame's, differ in a child of the {parent}?"


@check()
def check_child_bits(differ: Any) -> str:
    """Compare predicted sets of bits, those of the frame left out, with a child's and its parent's."""
    for question, said in answered(differ, PARENTS, "a set for each parent", _ask_bits):
        spte, level, nx = PARENTS[question]
        bits = items(said)
        numbers = {whole(bit) for bit in bits or []}
        if bits is None or any(number is None or not 0 <= number < 64 for number in numbers):
            raise refused(f"{question}: a set of bit numbers, 0 to 63, is wanted", said)
        child = child_of(read_entry(spte, level), 3, nx_huge_pages=nx)
        wrong = {number for number in numbers if number is not None} ^ set(bit_numbers(child.other_bits))
        if wrong:
            bit = min(wrong)
            have = "your set has it" if bit in numbers else "your set lacks it"
            was, now = spte >> bit & 1, child.spte >> bit & 1
            where = "a bit of the frame" if 12 <= bit < 52 else f"{was} in the parent, {now} in the child"
            raise Wrong(f"{question}: bit {bit} is {where}; {have}.")
    return "bit 7 goes at 4K alone; the NX rule gives X and XU back, at 4K alone; all else stays."
