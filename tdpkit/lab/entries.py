"""One entry taken apart, and what a split child keeps of it; the fields themselves are in `entry_fields`."""

from __future__ import annotations

import re
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PG_LEVEL_4K,
    X86_5LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    as_integer,
)
from tdpkit.engine.spte import (
    SPTE_BASE_ADDR_MASK,
    decode,
    is_access_track_spte,
    make_small_spte,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot, way_down

from .entry_fields import Field, fields_of, flaws_of


class Entry(NamedTuple):
    """An SPTE found at `level`, taken apart.

    kind: as :func:`tdpkit.engine.spte.decode` says; fields: from bit 63 down, each bit in one; flaws: why no
    kernel would hold such an entry there, a sentence each.
    """

    spte: int
    level: int
    geometry: Geometry
    kind: str
    fields: tuple[Field, ...]
    flaws: tuple[str, ...]

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
    def is_access_tracked(self) -> bool:
        """A present leaf whose R, W and X were taken away to notice the next access."""
        return self.kind == "leaf" and is_access_track_spte(self.spte)

    def __repr__(self) -> str:
        fields = ", ".join(f"{field.name} {field.value:#x}" for field in self.fields if field.value)
        return (
            f"{self.spte:#018x} at level {self.level} ({self.label}): {self.kind}; {fields or 'no bit set'}"
        )


def read_entry(spte: SupportsIndex, level: SupportsIndex, geometry: Geometry = X86_5LEVEL) -> Entry:
    """Take apart the entry `spte` of a `level` table.

    Raises InvalidTypeError for what is no integer, InvalidValueError for what has more than 64 bits and for a
    level that `geometry` does not have.
    """
    raw, number = as_integer(spte, "an entry"), geometry.level(level).number
    kind = decode(raw, number).kind
    at = (kind, raw, number, geometry)
    return Entry(raw, number, geometry, kind, fields_of(*at), tuple(flaws_of(*at)))


def parse_entry(text: str) -> int:
    """The 64-bit value typed as `text`: hexadecimal, 0x or not; spaces and underscores may group it.

    Raises InvalidValueError for anything else and for more than 64 bits, InvalidTypeError for no text.
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


class Found(NamedTuple):
    """An entry met on the way to a frame: its value, its level, its index in its table."""

    spte: int
    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses

    def __repr__(self) -> str:
        kind = decode(self.spte, self.level).kind
        return f"level {self.level}, index {self.index}: {self.spte:#018x}, {kind}"


def entry_on_the_way(root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex) -> Found:
    """The `level` entry on the way to `gfn`, or the one above it at which the way ends.

    Raises InvalidValueError for a level that `root` does not have and for a frame that it cannot hold.
    """
    return way_to(root, gfn, level)[-1]


def way_to(root: TdpMmuRoot, gfn: SupportsIndex, level: SupportsIndex = PG_LEVEL_4K) -> list[Found]:
    """The entries on the way to `gfn`, from the root's down to the one of `level` or where the way ends.

    Raises InvalidValueError for a level that `root` does not have and for a frame that it cannot hold.
    """
    wanted = root.geometry.level(level).number
    return [Found(passed.spte, passed.level, passed.index) for passed in way_down(root, gfn, wanted)]


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
    """Why a split passes `entry` by, or nothing for a present huge leaf."""
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
    return ""


def child_of(
    entry: Entry, index: SupportsIndex, *, exec_allowed: bool = True, nx_huge_pages: bool = False
) -> Child:
    """Child `index` of a split `entry`, as make_small_spte makes it (kernel-facts 2.6).

    exec_allowed: the new page's role.access has x; nx_huge_pages: the NX-huge-page mitigation is on. Raises
    InvalidValueError for what has no children and for an index that a table does not have.
    """
    number = check_index(index, entry.geometry)
    if why := why_childless(entry):
        raise InvalidValueError(f"{why} ({entry.spte:#018x})")
    spte = make_small_spte(
        entry.spte,
        entry.level - 1,
        number,
        entry.geometry,
        exec_allowed=exec_allowed,
        nx_huge_pages=nx_huge_pages,
    )
    changed = spte ^ entry.spte
    frame_bits = changed & SPTE_BASE_ADDR_MASK
    return Child(number, entry.level - 1, spte, frame_bits, changed ^ frame_bits)


def check_index(index: SupportsIndex, geometry: Geometry) -> int:
    """`index`, if a table of `geometry` has it (else InvalidTypeError or InvalidValueError)."""
    number = as_integer(index, "an index")
    if not 0 <= number < geometry.entries:
        raise InvalidValueError(
            f"an index is from 0 to {geometry.entries - 1}; {number} ({number:#x}) is not"
        )
    return number


def bit_numbers(mask: int) -> list[int]:
    """The numbers of the bits set in `mask`, from the highest down."""
    return [bit for bit in range(mask.bit_length() - 1, -1, -1) if mask >> bit & 1]
