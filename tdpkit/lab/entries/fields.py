"""The fields of an entry, bit by bit with name and meaning, and its flaws, each as its layout has them.

The layouts are those of S20 and S260 to S262; S23 to S25 and S27 for 7.2; the MMIO generation: spte.h. The
words describe one value at one level, not the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, format_gfn
from tdpkit.engine.spte import (
    SHADOW_NONPRESENT_VALUE,
    spte_to_pfn,
)

from ..spte_layouts import MEMORY_TYPES, SpteLayout, memory_type, mmio_gfn, used_bits
from ..words import listed

AD_TYPES = (
    "the CPU keeps A and D",
    "A and D are off",
    "writes are caught by write protection, D is not relied on",
    "no such type",
)
"""SPTE_TDP_AD_MASK by value (S20)."""


def bit_numbers(mask: int) -> list[int]:
    """The numbers of the bits set in `mask`, from the highest down."""
    return [bit for bit in range(mask.bit_length() - 1, -1, -1) if mask >> bit & 1]


def name_frames(pfn: int, pages: int) -> str:
    """``host frame 0x5``, ``host frames 0x200 to 0x3ff``."""
    return f"host frame {pfn:#x}" if pages == 1 else f"host frames {pfn:#x} to {pfn + pages - 1:#x}"


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


class Bits:
    """One value at one level: its bits, and what some of them say in words."""

    def __init__(self, spte: int, level: int, geometry: Geometry, layout: SpteLayout, guard: int) -> None:
        self.spte = spte
        self.level = level
        self.layout = layout
        self.guard = guard
        self.kind = layout.kind_of(spte, level)
        self.label = geometry.level(level).label
        self.pages = geometry.pages(level)
        self.below = geometry.level(level - 1).label if level > PG_LEVEL_4K else ""
        self.largest = geometry.level(geometry.max_leaf_level).label
        self.is_too_large = level > geometry.max_leaf_level
        self.pfn = spte_to_pfn(spte)
        self.tracked = layout.is_access_tracked(spte)
        self.ad_type = (spte & layout.ad_type) // (layout.ad_type & -layout.ad_type)

    def __getitem__(self, bit: int) -> int:
        return self.spte >> bit & 1

    def may(self, bit: int, verb: str) -> str:
        """``the guest may not write``, if `bit` is clear."""
        return f"the guest may {'' if self[bit] else 'not '}{verb}"

    def since(self, bit: int, done: str) -> str:
        """Whether A or D, which is `bit`, is set."""
        if self.ad_type == 1:
            return "A and D are off: the CPU does not keep it"
        return f"{'' if self[bit] else 'not '}{done} since it was last cleared"

    def page_size(self) -> str:
        """Bit 7 of a leaf."""
        if self.level == PG_LEVEL_4K:
            return "set, which means nothing here" if self[7] else f"clear: a {self.label} leaf needs no mark"
        return f"set: a leaf of {self.label}{', which there is not' if self.is_too_large else ', no table'}"


def fields_of(bits: Bits) -> tuple[Field, ...]:
    """The fields of an entry from bit 63 down; what none of them has is a field that nobody reads."""
    fields: list[Field] = []
    free = 63
    for high, low, label, name, reader, meaning in sorted(_BY_KIND[bits.kind](bits), reverse=True):
        if free > high:
            fields.append(Field(free, high + 1, "", "(not used)", "", 0, "ignored"))
        fields.append(Field(high, low, label, name, reader, 0, meaning))
        free = low - 1
    if free >= 0:
        fields.append(Field(free, 0, "", "(not used)", "", 0, "ignored"))
    return tuple(field._replace(value=field.value_in(bits.spte)) for field in fields)


_Row = tuple[int, int, str, str, str, str]
"""high, low, label, name, reader, meaning."""


def _number(mask: int) -> int:
    return mask.bit_length() - 1


# ---- the rows of each kind ---------------------------------------------------------------------------


def _suppress_ve(bits: Bits) -> Iterator[_Row]:
    if bits.layout.suppress_ve:
        said = "is an EPT violation, never a #VE" if bits[63] else "may become a #VE in the guest"
        yield 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "CPU", f"an access that faults here {said}"


def _present(bits: Bits) -> Iterator[_Row]:
    if bits.layout.has_present_bit:
        label = "P" if bits.layout.is_ept else "MP"
        said = "" if bits[11] else "not "
        yield 11, 11, label, "SPTE_MMU_PRESENT_MASK", "KVM", f"{said}present, as KVM sees it"


def _shared(bits: Bits, frame: str) -> Iterator[_Row]:
    """The rows that leaves and tables have in common."""
    high = _number(bits.layout.ad_type)
    name = "SPTE_TDP_AD_MASK" if bits.layout.has_present_bit else "SPTE_SPECIAL_MASK"
    yield high, high - 1, "AD", name, "KVM", AD_TYPES[bits.ad_type]
    yield 51, 12, "PFN", "SPTE_BASE_ADDR_MASK", "frame", frame
    yield from _present(bits)


def _writables(bits: Bits) -> Iterator[_Row]:
    """Who lets a leaf be writable: the bits, whose names depend on format and age."""
    layout = bits.layout
    host, mmu = "EPT_SPTE_HOST_WRITABLE", "EPT_SPTE_MMU_WRITABLE"
    if not layout.has_present_bit:
        host, mmu = "SPTE_HOST_WRITEABLE", "SPTE_MMU_WRITEABLE"
    elif not layout.is_ept:
        host, mmu = "DEFAULT_SPTE_HOST_WRITABLE", "DEFAULT_SPTE_MMU_WRITABLE"
    mapped = "writable" if bits.spte & layout.host_writable else "read-only"
    let = "lets it be writable" if bits.spte & layout.mmu_writable else "keeps it read-only"
    for mask, label, name, said in (
        (layout.host_writable, "HW", host, f"the host maps the page {mapped}"),
        (layout.mmu_writable, "MW", mmu, f"KVM's MMU {let}"),
    ):
        yield _number(mask), _number(mask), label, name, "KVM", said


def _write(bits: Bits) -> str:
    if bits.tracked:
        return "taken away; a write brings it back"
    if bits.spte & bits.layout.mmu_writable and not bits[1]:
        return "write-protected: a write faults, and KVM may allow it then"
    return bits.may(1, "write")


def _executes(layout: SpteLayout) -> Iterator[tuple[int, str, str, str]]:
    """The bits that grant execution under EPT: number, label, name, what they allow."""
    yield 2, "X", "VMX_EPT_EXECUTABLE_MASK", "execute"
    if layout.executable >> 10 & 1:
        yield 10, "XU", "VMX_EPT_USER_EXECUTABLE_MASK", "execute in user mode"


def _leaf(bits: Bits) -> Iterator[_Row]:
    yield from _shared(bits, name_frames(bits.pfn, bits.pages))
    yield from _writables(bits)
    yield 7, 7, "PS", "PT_PAGE_SIZE_MASK", "CPU" if bits.below else "", bits.page_size()
    yield from _ept_leaf(bits) if bits.layout.is_ept else _npt_leaf(bits)


def _ept_leaf(bits: Bits) -> Iterator[_Row]:
    layout = bits.layout
    yield from _suppress_ve(bits)
    for bit, label, name, verb in ((0, "R", "VMX_EPT_READABLE_MASK", "read"), *_executes(layout)):
        taken = "taken away, to notice the next access"
        yield bit, bit, label, name, "CPU", taken if bits.tracked else bits.may(bit, verb)
        kept = bit + layout.saved_shift
        said = f"saved: {bits.may(kept, verb)}" if bits.tracked else "in use while accesses are tracked"
        yield kept, kept, f"s{label}", f"saved {label}", "KVM" if bits.tracked else "", said
    yield 9, 9, "D", "VMX_EPT_DIRTY_BIT", "CPU", bits.since(9, "written")
    yield 8, 8, "A", "VMX_EPT_ACCESS_BIT", "CPU", bits.since(8, "accessed")
    pat = f"the guest's own PAT {'is ignored' if bits[6] else 'has a say'}"
    yield 6, 6, "IPAT", "VMX_EPT_IPAT_BIT", "CPU", pat
    yield 5, 3, "MT", "VMX_EPT_MT_MASK", "CPU", MEMORY_TYPES.get(memory_type(bits.spte), "reserved")
    yield 1, 1, "W", "VMX_EPT_WRITABLE_MASK", "CPU", _write(bits)


def _npt_leaf(bits: Bits) -> Iterator[_Row]:
    yield 63, 63, "NX", "PT64_NX_MASK", "CPU", f"the guest may {'not ' if bits[63] else ''}execute"
    yield 6, 6, "D", "PT_DIRTY_MASK", "CPU", bits.since(6, "written")
    cached = "set: not cached as ordinary memory" if bits[3] or bits[4] else "clear: ordinary memory"
    yield 4, 3, "CD", "PT_PCD_MASK, PT_PWT_MASK", "CPU", cached
    yield from _npt_low(bits, "accessed", "")
    yield 1, 1, "W", "PT_WRITABLE_MASK", "CPU", _write(bits)


def _npt_low(bits: Bits, done: str, below: str) -> Iterator[_Row]:
    yield 5, 5, "A", "PT_ACCESSED_MASK", "CPU", bits.since(5, done)
    user = "every access of a guest counts as a user's: allowed" if bits[2] else "clear: no guest gets in"
    yield 2, 2, "U", "PT_USER_MASK", "CPU", user
    yield 0, 0, "P", "PT_PRESENT_MASK", "CPU", bits.may(0, f"read{below}")


def _table(bits: Bits) -> Iterator[_Row]:
    layout = bits.layout
    yield from _shared(bits, f"the table of {bits.below} entries, in frame {bits.pfn:#x}")
    yield 7, 7, "PS", "PT_PAGE_SIZE_MASK", "CPU", "clear: a table, no leaf"
    write = bits.may(1, "write below")
    if not layout.is_ept:
        yield from _npt_low(bits, "walked through", " below")
        yield 1, 1, "W", "PT_WRITABLE_MASK", "CPU", write
        return
    if layout.suppress_ve:
        yield 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "", "ignored: it matters where a walk ends"
    yield 8, 8, "A", "VMX_EPT_ACCESS_BIT", "CPU", bits.since(8, "walked through")
    yield 6, 3, "0", "(reserved)", "CPU", "reserved, must be 0"
    for bit, label, name, verb in _executes(layout):
        said = verb.replace("execute", "execute below,") if " " in verb else f"{verb} below"
        yield bit, bit, label, name, "CPU", bits.may(bit, said)
    yield 1, 1, "W", "VMX_EPT_WRITABLE_MASK", "CPU", write
    yield 0, 0, "R", "VMX_EPT_READABLE_MASK", "CPU", bits.may(0, "read below")


def _absent(bits: Bits) -> Iterator[_Row]:
    yield from _suppress_ve(bits)
    yield from _present(bits)
    if bits.layout.is_ept:
        granted = "".join(label for bit, label in enumerate("RWX") if bits[bit])
        said = f"the CPU grants {granted}" if granted else "the CPU finds no entry"
        yield 2, 0, "RWX", "VMX_EPT_RWX_MASK", "CPU", said
        return
    if SHADOW_NONPRESENT_VALUE in bits.layout.empty:
        said = f"{'set' if bits[63] else 'clear'}, which means something on EPT alone"
        yield 63, 63, "SVE", "SHADOW_NONPRESENT_VALUE", "KVM", said
    yield 0, 0, "P", "PT_PRESENT_MASK", "CPU", f"the CPU finds {'an' if bits[0] else 'no'} entry"


def _frozen(bits: Bits) -> Iterator[_Row]:
    yield from _absent(bits)
    name = "FROZEN_SPTE" if bits[63] else "REMOVED_SPTE"
    if bits[59]:
        yield 59, 59, "mark", name, "KVM", "set alone: hands off"
    else:
        yield 10, 3, "mark", name, "KVM", "0x5a0 in place: hands off"


def _mmio(bits: Bits) -> Iterator[_Row]:
    layout = bits.layout
    generation = "part of the memslots' generation: if it is old, so is this"
    if layout.suppress_ve:
        said = "set, which KVM's own are not" if bits[63] else "clear, as in all MMIO entries"
        yield 63, 63, "SVE", "VMX_EPT_SUPPRESS_VE_BIT", "KVM", said
    if layout.has_present_bit:
        yield 62, 52, "gen", "MMIO_SPTE_GEN_HIGH_MASK", "KVM", f"high {generation}"
        yield 10, 3, "gen", "MMIO_SPTE_GEN_LOW_MASK", "KVM", f"low {generation}"
    else:
        yield 62, 54, "gen", "MMIO_SPTE_GEN_HIGH_MASK", "KVM", f"high {generation}"
        yield 53, 52, "mark", "SPTE_MMIO_MASK", "KVM", "3: this stands for a device"
        yield 11, 3, "gen", "MMIO_SPTE_GEN_LOW_MASK", "KVM", f"low {generation}"
    yield from _mmio_address(bits)
    yield from _present(bits)
    if layout.is_ept:
        yield 2, 0, "RWX", "VMX_EPT_RWX_MASK", "CPU", "W and X without R: a misconfiguration, on purpose"
        return
    for bit, label, name in ((2, "U", "PT_USER_MASK"), (1, "W", "PT_WRITABLE_MASK")):
        yield bit, bit, label, name, "KVM", "a right of the access that faulted, kept for the next"
    yield 0, 0, "P", "PT_PRESENT_MASK", "CPU", "set, so that the reserved bit makes the access fail"


def _mmio_address(bits: Bits) -> Iterator[_Row]:
    """The address bits: those of the frame, guard bits, what they displaced, and reserved ones of NPT."""
    where = f"guest frame {mmio_gfn(bits.spte, bits.layout, bits.guard):#x}: a device, no memory"
    top = 51
    if not bits.layout.is_ept:
        yield 51, 51, "rsv", "(reserved)", "CPU", "set: an access to so high an address fails"
        top = 50
    if not bits.guard:
        yield top, 12, "GFN", "SPTE_BASE_ADDR_MASK", "frame", where
        return
    high, low = _number(bits.guard), _number(bits.guard & -bits.guard)
    if high + 5 < top:
        yield top, high + 6, "", "(no address bit)", "", "clear: the address ends below"
    moved = f"the frame's bits {high - 12}:{low - 12}, five places up"
    yield high + 5, high + 1, "kept", "(displaced by the guard)", "frame", moved
    yield (
        high,
        low,
        "guard",
        "(guard against L1TF)",
        "CPU",
        "set, no part of the frame",
    )
    yield low - 1, 12, "GFN", "SPTE_BASE_ADDR_MASK", "frame", where


_BY_KIND: dict[str, Callable[[Bits], Iterator[_Row]]] = {
    "leaf": _leaf,
    "table": _table,
    "non-present": _absent,
    "frozen": _frozen,
    "mmio": _mmio,
}


# ---- flaws -------------------------------------------------------------------------------------------


def flaws_of(bits: Bits) -> Iterator[str]:
    """Why no kernel of this layout would hold such an entry, a sentence each."""
    if bits.kind == "non-present":
        yield from _absent_flaws(bits)
    elif bits.kind == "mmio" and bits[63]:
        yield "an MMIO entry of KVM's has bit 63 clear"
    elif bits.kind in ("leaf", "table"):
        yield from _present_flaws(bits)
    if bits.kind == "leaf":
        yield from _leaf_flaws(bits)


def _absent_flaws(bits: Bits) -> Iterator[str]:
    spte, layout = bits.spte, bits.layout
    if spte in layout.empty:
        return
    granted = spte & (7 if layout.is_ept else 1)
    if not layout.has_present_bit:
        yield "the CPU finds no entry, and KVM's empty entry is 0; this is neither MMIO nor frozen"
        return
    if granted:
        which = "R, W or X" if layout.is_ept else "P"
        yield f"KVM takes it for missing and the CPU does not: {which} is set without bit 11"
    if layout.empty != (SHADOW_NONPRESENT_VALUE,):
        if spte & ~granted:
            empty = listed(map(_empty, layout.empty), "or")
            yield f"KVM's empty entry is {empty}; other bits are set in this one"
        return
    if not bits[63] and layout.is_ept:
        yield "bit 63 is clear: where a guest may get a #VE, a missing entry would give one"
    elif not bits[63]:
        yield "bit 63 is clear, and KVM's empty entry has it"
    if spte & ~(SHADOW_NONPRESENT_VALUE | granted):
        yield "KVM's empty entry is bit 63 alone; other bits are set in this one"


def _empty(spte: int) -> str:
    return "bit 63 alone" if spte else "0"


def _present_flaws(bits: Bits) -> Iterator[str]:
    layout, spte = bits.layout, bits.spte
    if layout.is_ept and bits[1] and not bits[0]:
        yield "W without R is a misconfiguration"
    if not layout.is_ept and not bits[0]:
        yield "KVM takes it for present and the CPU does not: P is clear"
    if layout.suppress_ve and not bits[63]:
        yield "bit 63 is clear: KVM of this age sets it in every entry but MMIO"
    if bits.ad_type == 3:
        yield "there is no A/D type 3"
    if spte & layout.executable not in (0, layout.executable):
        yield "X and XU are set and cleared together"
    used = used_bits(layout)
    stray = spte & ~(used.table if bits.kind == "table" else used.leaf)
    if bits.kind == "table" and layout.is_ept:
        if spte >> 3 & 0xF:
            yield "bits 6:3 of a table entry are reserved: a misconfiguration"
        stray &= ~0x78
    if stray:
        numbers = bit_numbers(stray)
        one = len(numbers) == 1
        are, clear = ("bit {} is", "it") if one else ("bits {} are", "them")
        yield f"{are.format(_runs(numbers))} set; KVM of this age leaves {clear} clear in a {bits.kind}"


def _runs(numbers: Iterable[int]) -> str:
    """The numbers, which go down, with runs of three or more as ``58:52``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return listed(
        word for run in runs for word in ([f"{run[0]}:{run[-1]}"] if len(run) > 2 else map(str, run))
    )


def _leaf_flaws(bits: Bits) -> Iterator[str]:
    wrong = "a misconfiguration" if bits.layout.is_ept else "and an access fails"
    if bits.is_too_large:
        yield f"no leaf is larger than {bits.largest}: at level {bits.level} bit 7 is reserved, {wrong}"
    elif bits.pfn % bits.pages:
        yield (
            f"a {bits.label} leaf starts at a multiple of {bits.pages:#x} frames; {bits.pfn:#x} "
            f"({format_gfn(bits.pfn)}) is none: {wrong.removeprefix('and ')}"
        )
    if bits.level == PG_LEVEL_4K and bits[7]:
        yield f"KVM leaves bit 7 of a {bits.label} leaf clear"
    if bits.layout.is_ept and memory_type(bits.spte) not in MEMORY_TYPES:
        yield f"memory type {memory_type(bits.spte)} is reserved: a misconfiguration"
