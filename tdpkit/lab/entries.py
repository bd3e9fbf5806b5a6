"""Take an entry or an address apart: 64 bits by name and meaning, a split's children, the index per level.

An entry has the EPT layout of Linux 7.2 (S20, S23-S25, S27; the MMIO generation: spte.h). The
words describe one value at one level, not the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.gfn import (
    PAGE_SHIFT,
    PG_LEVEL_4K,
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    InvalidTypeError,
    InvalidValueError,
    as_integer,
    check_gfn,
    format_gfn,
    name_gfn,
    parse_gfn,
)
from tdpkit.engine.spte import (
    SHADOW_NONPRESENT_VALUE,
    SPTE_BASE_ADDR_MASK,
    VMX_EPT_RWX_MASK,
    decode,
    is_access_track_spte,
    is_shadow_present_pte,
    make_small_spte,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot, way_down

# ---- the fields of an entry --------------------------------------------------------------------------

MEMORY_TYPES = {
    0: "uncacheable (UC)",
    1: "write-combining (WC)",
    4: "write-through (WT)",
    5: "write-protected (WP)",
    6: "write-back (WB)",
}
"""EPT memory types by number; the others are reserved."""
AD_TYPES = (
    "the CPU keeps A and D",
    "A and D are off",
    "writes are caught by write protection, D is not relied on",
    "no such type",
)
"""SPTE_TDP_AD_MASK by value (S20)."""


class Field(NamedTuple):
    """Bits `high` to `low` of an entry: the label in pictures, the kernel's name, the value and its meaning.

    reader: "frame" (the address field), "CPU", "KVM" (the CPU ignores it) or "" (nobody reads it).
    """

    high: int
    low: int
    label: str
    name: str
    reader: str
    value: int
    meaning: str

    @property
    def bits(self) -> str:
        """``7``, or ``5:3``."""
        return f"{self.low}" if self.high == self.low else f"{self.high}:{self.low}"

    @property
    def mask(self) -> int:
        """The field's bits in an entry."""
        return (1 << self.high + 1) - (1 << self.low)

    def value_in(self, spte: int) -> int:
        """What the same bits hold in `spte`."""
        return (spte & self.mask) >> self.low


def fields_of(kind: str, spte: int, level: int, geometry: Geometry) -> tuple[Field, ...]:
    """The fields of `spte` from bit 63 down; `kind` as tdpkit.engine.spte.decode names it."""
    rows = _BY_KIND[kind](_Bits(spte, level, geometry))
    blank = (Field(*row[:5], 0, row[5]) for row in rows)
    return tuple(field._replace(value=field.value_in(spte)) for field in blank)


def name_frames(pfn: int, pages: int) -> str:
    """``host frame 0x5``, ``host frames 0x200 to 0x3ff``."""
    return f"host frame {pfn:#x}" if pages == 1 else f"host frames {pfn:#x} to {pfn + pages - 1:#x}"


class _Bits:
    """One value at one level: its bits, and what some of them say in words."""

    def __init__(self, spte: int, level: int, geometry: Geometry) -> None:
        self.spte = spte
        self.level = level
        self.label = geometry.level(level).label
        self.pages = geometry.pages(level)
        self.below = geometry.level(level - 1).label if level > PG_LEVEL_4K else ""
        self.is_too_large = level > geometry.max_leaf_level
        self.pfn = spte_to_pfn(spte)
        self.tracked = is_access_track_spte(spte)
        self.ad_type = spte >> 60 & 3

    def __getitem__(self, bit: int) -> int:
        return self.spte >> bit & 1

    def may(self, bit: int, verb: str) -> str:
        return f"the guest may {'' if self[bit] else 'not '}{verb}"

    def since(self, bit: int, done: str) -> str:
        if self.ad_type == 1:
            return "A and D are off: the CPU does not keep it"
        return f"{'' if self[bit] else 'not '}{done} since it was last cleared"

    def page_size(self) -> str:
        if self.level == PG_LEVEL_4K:
            return "set, which means nothing here" if self[7] else f"clear: a {self.label} leaf needs no mark"
        return f"set: a leaf of {self.label}{', which there is not' if self.is_too_large else ', no table'}"


_Row = tuple[int, int, str, str, str, str]
"""high, low, label, name, reader, meaning."""


def _unused(high: int, low: int) -> _Row:
    return high, low, "", "(not used)", "", "ignored"


def _suppress_ve(bits: _Bits) -> _Row:
    said = "is an EPT violation, never a #VE" if bits[63] else "may become a #VE in the guest"
    return 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "CPU", f"an access that faults here {said}"


def _present(bits: _Bits) -> _Row:
    said = "" if is_shadow_present_pte(bits.spte) else "not "
    return 11, 11, "P", "SPTE_MMU_PRESENT_MASK", "KVM", f"{said}present, as KVM sees it"


def _ad_type(bits: _Bits) -> _Row:
    return 61, 60, "AD", "SPTE_TDP_AD_MASK", "KVM", AD_TYPES[bits.ad_type]


def _leaf(bits: _Bits) -> Iterator[_Row]:
    def saved(bit: int, label: str, verb: str) -> _Row:
        if not bits.tracked:
            return bit, bit, f"s{label}", f"saved {label}", "", "in use while accesses are tracked"
        return bit, bit, f"s{label}", f"saved {label}", "KVM", f"saved: {bits.may(bit, verb)}"

    def right(bit: int, label: str, name: str, verb: str) -> _Row:
        taken = "taken away, to notice the next access"
        return bit, bit, label, name, "CPU", taken if bits.tracked else bits.may(bit, verb)

    write = bits.may(1, "write")
    if bits.tracked:
        write = "taken away; a write brings it back"
    elif bits[55] and not bits[1]:
        write = "write-protected: a write faults, and KVM may allow it then"
    host = f"the host maps the page {'writable' if bits[53] else 'read-only'}"
    mmu = f"KVM's MMU {'lets it be writable' if bits[55] else 'keeps it read-only'}"
    pat = f"the guest's own PAT {'is ignored' if bits[6] else 'has a say'}"
    frames = name_frames(bits.pfn, bits.pages)
    memory = MEMORY_TYPES.get(bits.spte >> 3 & 7, "reserved")
    yield _suppress_ve(bits)
    yield saved(62, "XU", "execute in user mode")
    yield _ad_type(bits)
    yield _unused(59, 56)
    yield 55, 55, "MW", "EPT_SPTE_MMU_WRITABLE", "KVM", mmu
    yield saved(54, "X", "execute")
    yield 53, 53, "HW", "EPT_SPTE_HOST_WRITABLE", "KVM", host
    yield saved(52, "R", "read")
    yield 51, 12, "PFN", "SPTE_BASE_ADDR_MASK", "frame", frames
    yield _present(bits)
    yield right(10, "XU", "VMX_EPT_USER_EXECUTABLE_MASK", "execute in user mode")
    yield 9, 9, "D", "VMX_EPT_DIRTY_BIT", "CPU", bits.since(9, "written")
    yield 8, 8, "A", "VMX_EPT_ACCESS_BIT", "CPU", bits.since(8, "accessed")
    yield 7, 7, "PS", "PT_PAGE_SIZE_MASK", "CPU" if bits.below else "", bits.page_size()
    yield 6, 6, "IPAT", "VMX_EPT_IPAT_BIT", "CPU", pat
    yield 5, 3, "MT", "VMX_EPT_MT_MASK", "CPU", memory
    yield right(2, "X", "VMX_EPT_EXECUTABLE_MASK", "execute")
    yield 1, 1, "W", "VMX_EPT_WRITABLE_MASK", "CPU", write
    yield right(0, "R", "VMX_EPT_READABLE_MASK", "read")


def _table(bits: _Bits) -> Iterator[_Row]:
    where = f"the table of {bits.below} entries, in frame {bits.pfn:#x}"
    yield 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "", "ignored: it matters where a walk ends"
    yield _unused(62, 62)
    yield _ad_type(bits)
    yield _unused(59, 52)
    yield 51, 12, "PFN", "SPTE_BASE_ADDR_MASK", "frame", where
    yield _present(bits)
    yield 10, 10, "XU", "VMX_EPT_USER_EXECUTABLE_MASK", "CPU", bits.may(10, "execute below, in user mode")
    yield _unused(9, 9)
    yield 8, 8, "A", "VMX_EPT_ACCESS_BIT", "CPU", bits.since(8, "walked through")
    yield 7, 7, "PS", "PT_PAGE_SIZE_MASK", "CPU", "clear: a table, no leaf"
    yield 6, 3, "0", "(reserved)", "CPU", "reserved, must be 0"
    yield 2, 2, "X", "VMX_EPT_EXECUTABLE_MASK", "CPU", bits.may(2, "execute below")
    yield 1, 1, "W", "VMX_EPT_WRITABLE_MASK", "CPU", bits.may(1, "write below")
    yield 0, 0, "R", "VMX_EPT_READABLE_MASK", "CPU", bits.may(0, "read below")


def _absent(bits: _Bits) -> Iterator[_Row]:
    granted = "".join(label for bit, label in enumerate("RWX") if bits[bit])
    said = f"the CPU grants {granted}" if granted else "the CPU finds no entry"
    yield _suppress_ve(bits)
    yield _unused(62, 12)
    yield _present(bits)
    yield _unused(10, 3)
    yield 2, 0, "RWX", "VMX_EPT_RWX_MASK", "CPU", said


def _frozen(bits: _Bits) -> Iterator[_Row]:
    mark = (10, 3, "mark", "FROZEN_SPTE", "KVM", "0x5a0 in place: hands off")
    yield from (mark if row[0] == 10 else row for row in _absent(bits))


def _mmio(bits: _Bits) -> Iterator[_Row]:
    said = "set, which KVM's own are not" if bits[63] else "clear, as in all MMIO entries"
    generation = "part of the memslots' generation: if it is old, so is this"
    where = f"guest frame {bits.pfn:#x}: a device, no memory"
    yield 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "KVM", said
    yield 62, 52, "gen", "MMIO_SPTE_GEN_HIGH_MASK", "KVM", f"high {generation}"
    yield 51, 12, "GFN", "SPTE_BASE_ADDR_MASK", "frame", where
    yield _present(bits)
    yield 10, 3, "gen", "MMIO_SPTE_GEN_LOW_MASK", "KVM", f"low {generation}"
    yield 2, 0, "RWX", "VMX_EPT_RWX_MASK", "CPU", "W and X without R: a misconfiguration, on purpose"


_BY_KIND: dict[str, Callable[[_Bits], Iterator[_Row]]] = {
    "leaf": _leaf,
    "table": _table,
    "non-present": _absent,
    "frozen": _frozen,
    "mmio": _mmio,
}


def flaws_of(kind: str, spte: int, level: int, geometry: Geometry) -> Iterator[str]:
    """Why no kernel would hold such an entry at `level`, a sentence each."""
    bits = _Bits(spte, level, geometry)
    if kind == "non-present":
        if spte & VMX_EPT_RWX_MASK:
            yield "KVM takes it for missing and the CPU does not: R, W or X is set without bit 11"
        if not bits[63]:
            yield "bit 63 is clear: where a guest may get a #VE, a missing entry would give one"
        if spte & ~(SHADOW_NONPRESENT_VALUE | VMX_EPT_RWX_MASK):
            yield "KVM's empty entry is bit 63 alone; other bits are set in this one"
    elif kind == "mmio" and bits[63]:
        yield "an MMIO entry of KVM's has bit 63 clear"
    elif kind in ("leaf", "table"):
        if bits[1] and not bits[0]:
            yield "W without R is a misconfiguration"
        if bits.ad_type == 3:
            yield "there is no A/D type 3"
        if bits[2] != bits[10]:
            yield "X and XU are set and cleared together"
    if kind == "table" and spte >> 3 & 0xF:
        yield "bits 6:3 of a table entry are reserved: a misconfiguration"
    if kind == "leaf":
        yield from _leaf_flaws(bits, geometry)


def _leaf_flaws(bits: _Bits, geometry: Geometry) -> Iterator[str]:
    if bits.is_too_large:
        largest = geometry.level(geometry.max_leaf_level).label
        yield f"no leaf is larger than {largest}: at level {bits.level} bit 7 is reserved, a misconfiguration"
    elif bits.pfn % bits.pages:
        yield (
            f"a {bits.label} leaf starts at a multiple of {bits.pages:#x} frames; {bits.pfn:#x} "
            f"({format_gfn(bits.pfn)}) is none: a misconfiguration"
        )
    if bits.level == PG_LEVEL_4K and bits[7]:
        yield f"KVM leaves bit 7 of a {bits.label} leaf clear"
    if bits.spte >> 3 & 7 not in MEMORY_TYPES:
        yield f"memory type {bits.spte >> 3 & 7} is reserved: a misconfiguration"


# ---- an entry ----------------------------------------------------------------------------------------


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

    Raises InvalidTypeError unless `spte` is an integer, InvalidValueError if it has more than 64 bits or
    `geometry` has no such level.
    """
    raw, number = as_integer(spte, "an entry"), geometry.level(level).number
    kind = decode(raw, number).kind
    at = (kind, raw, number, geometry)
    return Entry(raw, number, geometry, kind, fields_of(*at), tuple(flaws_of(*at)))


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


def bit_numbers(mask: int) -> list[int]:
    """The numbers of the bits set in `mask`, from the highest down."""
    return [bit for bit in range(mask.bit_length() - 1, -1, -1) if mask >> bit & 1]


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
    return ""


def child_of(
    entry: Entry, index: SupportsIndex, *, exec_allowed: bool = True, nx_huge_pages: bool = False
) -> Child:
    """Child `index` of a split `entry`, as make_small_spte makes it (S26).

    exec_allowed: the new page's role.access has x; nx_huge_pages: the NX-huge-page mitigation is on. Raises
    InvalidValueError if a split skips `entry` or a table has no such index.
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
    """Return `index` if a table of `geometry` has it (else InvalidTypeError or InvalidValueError)."""
    number = as_integer(index, "an index")
    if not 0 <= number < geometry.entries:
        raise InvalidValueError(
            f"an index is from 0 to {geometry.entries - 1}; {number} ({number:#x}) is not"
        )
    return number


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
