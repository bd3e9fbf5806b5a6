"""Take an entry apart: 64 bits by name and meaning, and the children of its split.

An entry has the EPT layout of Linux 7.2 unless another is named (:mod:`tdpkit.lab.spte_layouts`).
"""

from __future__ import annotations

import re
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    PG_LEVEL_4K,
    X86_5LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    as_integer,
)
from tdpkit.engine.spte import (
    PT_PAGE_SIZE_MASK,
    SPTE_BASE_ADDR_MASK,
    ExecMasks,
    make_small_spte,
    spte_to_pfn,
)

from ..spte_layouts import EPT_7_2, SpteLayout, mmio_gfn
from .fields import Bits, Field, fields_of, flaws_of

# ---- an entry ----------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An SPTE found at `level`, taken apart.

    kind: as :func:`tdpkit.engine.spte.decode` says; fields: from bit 63 down, each bit in one; flaws: why no
    kernel of `layout` would hold such an entry there, a sentence each; guard: the mask of the guard bits that
    an MMIO entry has on this host, 0 for none.
    """

    spte: int
    level: int
    geometry: Geometry
    kind: str
    fields: tuple[Field, ...]
    flaws: tuple[str, ...]
    layout: SpteLayout = EPT_7_2
    guard: int = 0

    @property
    def label(self) -> str:
        """The size of one entry of this level."""
        return self.geometry.level(self.level).label

    @property
    def pages(self) -> int:
        """Frames that one entry of this level covers."""
        return self.geometry.pages(self.level)

    @property
    def pfn(self) -> int:
        """The frame field."""
        return spte_to_pfn(self.spte)

    @property
    def mmio_gfn(self) -> int | None:
        """The guest frame that an MMIO entry stands for, without guard bits; None of another kind."""
        return mmio_gfn(self.spte, self.layout, self.guard) if self.kind == "mmio" else None

    @property
    def is_access_tracked(self) -> bool:
        """A present leaf whose R, W and X were taken away to notice the next access."""
        return self.kind == "leaf" and self.layout.is_access_tracked(self.spte)

    @property
    def rights(self) -> str:
        """What a leaf or table grants, of ``rwx``; of an access-tracked leaf, what it had."""
        return self.layout.rights_of(self.spte) if self.kind in ("leaf", "table") else ""

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name} {field.value:#x}" for field in self.fields if field.value)
        return (
            f"{self.spte:#018x} at level {self.level} ({self.label}): {self.kind}; {fields or 'no bit set'}"
        )


def read_entry(
    spte: SupportsIndex,
    level: SupportsIndex,
    geometry: Geometry = X86_5LEVEL,
    layout: SpteLayout = EPT_7_2,
    guard: int = 0,
) -> Entry:
    """Take apart the entry `spte` of a `level` table, as kernels of `layout` have it.

    guard: the mask of guard bits of an MMIO entry, as guard_bits of tdpkit.lab.spte_layouts makes it. Raises
    InvalidTypeError unless `spte` is an integer, InvalidValueError if it has more than 64 bits or `geometry`
    has no such level.
    """
    raw, number = as_integer(spte, "an entry"), geometry.level(level).number
    if not 0 <= raw < 1 << 64:
        raise InvalidValueError(f"an entry is a 64-bit value; {raw:#x} is not")
    bits = Bits(raw, number, geometry, layout, guard)
    return Entry(raw, number, geometry, bits.kind, fields_of(bits), tuple(flaws_of(bits)), layout, guard)


def parse_entry(text: str) -> int:
    """The 64-bit value typed as `text`: hexadecimal, 0x or not; spaces and underscores may group it.

    Raises InvalidTypeError unless `text` is a string, InvalidValueError for other text or more than 64 bits.
    """
    if not isinstance(text, str):
        raise InvalidTypeError(f"an entry is typed as text; {text!r} is a {type(text).__name__}")
    digits = re.sub(r"[\s_]+", "", text)
    shown = digits if len(digits) <= 40 else digits[:37] + "..."
    if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]+", digits):
        raise InvalidValueError(f"an entry is hexadecimal, such as 0x80a00001c8a00fb7; '{shown}' is not")
    bare = re.sub(r"^0[xX]", "", digits).lstrip("0")
    if len(bare) > 16:
        raise InvalidValueError(f"an entry has 64 bits, 16 hexadecimal digits; '{shown}' has {len(bare)}")
    return int(bare or "0", 16)


# ---- children ------------------------------------------------------------------------------------------


class Child(NamedTuple):
    """One child of a split huge leaf, and where it differs from its parent.

    frame_bits, other_bits: masks of the bits that differ, in the frame field and elsewhere.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    level: int
    spte: int
    frame_bits: int
    other_bits: int


def why_childless(entry: Entry) -> str:
    """Why a split skips `entry`; empty for a present huge leaf, which it splits."""
    rule = "only a present huge leaf is split"
    if entry.kind == "table":
        return f"{rule}; this entry points to a table already"
    if entry.kind != "leaf":
        return f"{rule}; this entry is not present"
    if entry.level == PG_LEVEL_4K:
        return f"{rule}; a {entry.label} leaf is the smallest there is"
    if entry.level > entry.geometry.max_leaf_level:
        return f"{rule}; level {entry.level} has no leaves"
    if entry.pfn % entry.pages:
        return f"{rule}; no {entry.label} leaf starts at such a frame"
    if not entry.layout.has_present_bit:
        return f"{rule}, and {entry.layout.kernels} splits none: a leaf is zapped, and faults map anew"
    return ""


def child_of(
    entry: Entry, index: SupportsIndex, *, exec_allowed: bool = True, nx_huge_pages: bool = False
) -> Child:
    """Child `index` of a split `entry`, as make_small_spte makes it (S26).

    exec_allowed: the new page's role.access has x; nx_huge_pages: the NX-huge-page mitigation is on. Before
    7.2 the rule only grants execution: without x in role.access the child executes as its parent does.
    Raises InvalidValueError if a split skips `entry` or a table has no such index.
    """
    number = check_index(index, entry.geometry)
    if why := why_childless(entry):
        raise InvalidValueError(f"{why} ({entry.spte:#018x})")
    spte = _small_spte(entry, number, exec_allowed, nx_huge_pages)
    changed = spte ^ entry.spte
    frame_bits = changed & SPTE_BASE_ADDR_MASK
    return Child(number, entry.level - 1, spte, frame_bits, changed ^ frame_bits)


def _small_spte(entry: Entry, index: int, exec_allowed: bool, nx_huge_pages: bool) -> int:
    spte, layout, level = entry.spte, entry.layout, entry.level - 1
    if layout.is_of_7_2:
        return make_small_spte(
            spte,
            level,
            index,
            entry.geometry,
            exec_allowed=exec_allowed,
            nx_huge_pages=nx_huge_pages,
            masks=ExecMasks(layout.executable, layout.no_execute),
        )
    child = spte | index * entry.geometry.pages(level) << PAGE_SHIFT
    if level > PG_LEVEL_4K:
        return child
    child &= ~PT_PAGE_SIZE_MASK
    if nx_huge_pages and exec_allowed:
        saved = layout.saved_shift if entry.is_access_tracked else 0
        child = child & ~layout.no_execute | layout.executable << saved
    return child


def check_index(index: SupportsIndex, geometry: Geometry) -> int:
    """Return `index` if a table of `geometry` has it (else InvalidTypeError or InvalidValueError)."""
    number = as_integer(index, "an index")
    if not 0 <= number < geometry.entries:
        raise InvalidValueError(
            f"an index is from 0 to {geometry.entries - 1}; {number} ({number:#x}) is not"
        )
    return number
