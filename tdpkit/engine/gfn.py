"""Numbers: frames, levels, ranges, and how people write them.

The engine counts guest frames (GFNs of 4 KiB, S1) in Python integers. Only :func:`parse_gfn` and
:func:`format_gfn` deal in bytes and human units. Ranges are half-open.

A :class:`Geometry` holds the number of entries per table, the root's level and the level of the largest leaf,
so the same engine runs x86 (9 index bits) and toy machines small enough to enumerate.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, SupportsIndex

PAGE_SHIFT = 12
MAXPHYADDR = 52
"""Physical address bits of the modelled host (the reference vectors were recorded with 52)."""

PG_LEVEL_NONE, PG_LEVEL_4K, PG_LEVEL_2M, PG_LEVEL_1G, PG_LEVEL_512G, PG_LEVEL_256T = range(6)
PT64_ROOT_4LEVEL = 4
PT64_ROOT_MAX_LEVEL = 5
KVM_MAX_HUGEPAGE_LEVEL = PG_LEVEL_1G
SPTE_LEVEL_BITS = 9

TDX_SHARED_BIT_PWL_4 = 1 << (47 - PAGE_SHIFT)
TDX_SHARED_BIT_PWL_5 = 1 << (51 - PAGE_SHIFT)
"""The shared bit of a TD as a GFN mask, by the level of its direct root (tdx.c)."""

_GPA_GFN_BITS = 64 - PAGE_SHIFT
_UNIT_SHIFT = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


class InvalidValueError(ValueError):
    """A value breaks a rule. The text names the rule and the value, in hex and in human units."""


class InvalidTypeError(TypeError):
    """The engine takes no value of this type, for example no float where it counts frames."""


def align_down(x: int, n: int) -> int:
    """The greatest multiple of `n` not above `x` (both in frames; `n` a power of two).

    Raises InvalidValueError for an `n` that is no power of two. Source: S5.
    """
    return x & -_power_of_two(n)


def align_up(x: int, n: int) -> int:
    """The least multiple of `n` not below `x` (both in frames; `n` a power of two).

    Raises InvalidValueError for an `n` that is no power of two. Source: S5.
    """
    return (x + n - 1) & -_power_of_two(n)


def _power_of_two(n: int) -> int:
    if n < 1 or n & (n - 1):
        raise InvalidValueError(f"an alignment is a power of two frames; {n} is not")
    return n


def as_integer(value: SupportsIndex, what: str) -> int:
    """Convert `value` to a Python integer; refuse booleans, floats and text with InvalidTypeError.

    NumPy integers are converted too, so that they never wrap inside the engine.
    """
    if type(value) is int:  # what the engine's own functions pass on
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InvalidTypeError(f"{what} is counted in whole numbers; {value!r} is a {type(value).__name__}")


def check_gfn(value: SupportsIndex, what: str = "a GFN") -> int:
    """Convert `value` to a frame number of at least 0, or raise InvalidTypeError or InvalidValueError."""
    gfn = as_integer(value, what)
    if gfn < 0:
        raise InvalidValueError(f"{what} is at least 0; {gfn} (-{hex(-gfn)}) is negative")
    return gfn


def parse_gfn(text: str) -> int:
    """Read the frame that `text` names.

    `0x200` and `512` are frame numbers; `2M`, `2T+4K`, `1G-4K` are byte addresses and must be multiples of
    4K. Terms mix (`2M+0x3`). Raises InvalidValueError for anything else and for a frame beyond a 64-bit
    guest-physical address.

    >>> hex(parse_gfn("2T+4K"))
    '0x20000001'
    """
    if not isinstance(text, str):
        raise InvalidTypeError(f"an address is typed as text; {text!r} is a {type(text).__name__}")
    compact = re.sub(r"\s+", "", text).replace("_", "")
    if not compact:
        raise InvalidValueError("the address is empty; write 0x200 (a frame number) or 2M+4K (an address)")
    shown = compact if len(compact) <= 40 else compact[:37] + "..."
    if not re.fullmatch(r"[+-]?[0-9A-Za-z]+([+-][0-9A-Za-z]+)*", compact):
        raise InvalidValueError(f"'{shown}' is no address; write 0x200 (a frame number) or 2M+4K")
    size = sum(_term_bytes(sign, term, shown) for sign, term in re.findall(r"([+-]?)([0-9A-Za-z]+)", compact))
    if size < 0:
        raise InvalidValueError(f"'{shown}' is below 0; an address starts at 0")
    if size % (1 << PAGE_SHIFT):
        raise InvalidValueError(f"'{shown}' is {size:#x} bytes, no multiple of 4K; a frame is 4K")
    gfn = size >> PAGE_SHIFT
    if gfn >> _GPA_GFN_BITS:
        raise InvalidValueError(f"'{shown}' is beyond a 64-bit address; the last frame is {(1 << 52) - 1:#x}")
    return gfn


def _term_bytes(sign: str, term: str, shown: str) -> int:
    factor = -1 if sign == "-" else 1
    if len(term) > 24:
        raise InvalidValueError(f"'{shown}' has a number too long for a 64-bit address")
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", term):
        return factor * (int(term, 16) << PAGE_SHIFT)
    sized = re.fullmatch(r"([0-9]+)(?:([KMGTPkmgtp])(?:i?[Bb])?)?", term)
    if not sized:
        raise InvalidValueError(
            f"'{term}' in '{shown}' is no frame number (0x200) and no size (4K, 2M, 1G, 2T)"
        )
    digits, unit = sized.groups()
    return factor * (int(digits) << (_UNIT_SHIFT[unit.upper()] if unit else PAGE_SHIFT))


def format_gfn(gfn: int) -> str:
    """Write frame `gfn` as an address in human units; the inverse of :func:`parse_gfn`.

    >>> format_gfn(0x20000001)
    '2T+4K'
    """
    left, terms = gfn << PAGE_SHIFT, []
    for unit, shift in reversed(_UNIT_SHIFT.items()):
        if left >> shift:
            terms.append(f"{left >> shift}{unit}")
            left &= (1 << shift) - 1
    return "+".join(terms) or "0"


def name_gfn(gfn: int) -> str:
    """Write frame `gfn` as messages do, in hex and in human units: ``0x20000001 (2T+4K)``."""
    return f"{gfn:#x} ({format_gfn(gfn)})"


class Level(NamedTuple):
    """One level of a geometry. `number` 1 is the 4K level (S2)."""

    number: int
    pages: int
    """Frames that one entry of this level covers (KVM_PAGES_PER_HPAGE)."""
    label: str
    """The size of one entry: 4K, 2M, 1G on x86; a toy's levels by their own size."""


@dataclass(frozen=True)
class Geometry:
    """The shape of a page table: entries per table, level of the root, level of the largest leaf.

    index_bits: 1 to 9 address bits per level (a table has ``1 << index_bits`` entries);
    root_level: 1 to 5; max_leaf_level: 1 to root_level (x86: 3 = 1G; a TD of this series: 2 = 2M).
    Raises InvalidValueError or InvalidTypeError. Source: S2-S6.
    """

    index_bits: int
    root_level: int
    max_leaf_level: int

    def __post_init__(self) -> None:
        for name, low, high in (
            ("index_bits", 1, SPTE_LEVEL_BITS),
            ("root_level", 1, PT64_ROOT_MAX_LEVEL),
            ("max_leaf_level", 1, self.root_level),
        ):
            value = as_integer(getattr(self, name), name)
            object.__setattr__(self, name, value)
            if not low <= value <= high:
                raise InvalidValueError(f"{name} is from {low} to {high}; {value} ({value:#x}) is not")

    @cached_property
    def entries(self) -> int:
        """Entries per table (SPTE_ENT_PER_PAGE)."""
        return 1 << self.index_bits

    @cached_property
    def shifts(self) -> tuple[int, ...]:
        """GFN bits below the index of each level; item 0 is unused, item ``root_level + 1`` is the root's."""
        return (0, *(self.index_bits * n for n in range(self.root_level + 1)))

    def pages(self, level: int) -> int:
        """Frames under one entry of `level` (KVM_PAGES_PER_HPAGE). Unchecked, since the walk calls it."""
        return 1 << self.shifts[level]

    @cached_property
    def root_pages(self) -> int:
        """Frames under the whole root."""
        return 1 << self.shifts[self.root_level + 1]

    def index(self, gfn: int, level: int) -> int:
        """Index of `gfn` in a table of `level`; aliases beyond the root as the kernel's SPTE_INDEX does."""
        return (gfn >> self.shifts[level]) & (self.entries - 1)

    def gfn_round_for_level(self, gfn: int, level: int) -> int:
        """The first frame of the `level` entry that holds `gfn`: rounds down."""
        return gfn >> self.shifts[level] << self.shifts[level]

    def level(self, number: SupportsIndex) -> Level:
        """Level `number`, from 1 to root_level; raises InvalidValueError for any other."""
        level = as_integer(number, "a level")
        if not 1 <= level <= self.root_level:
            raise InvalidValueError(
                f"a level is from 1 to {self.root_level} under this root; {level} ({level:#x}) is not"
            )
        return self._levels[level - 1]

    @cached_property
    def _levels(self) -> tuple[Level, ...]:
        """From level 1 up: every call that is told a level asks for one of these."""
        sizes = [(number, self.pages(number)) for number in range(1, self.root_level + 1)]
        return tuple(Level(number, pages, format_gfn(pages)) for number, pages in sizes)

    def check_start(self, gfn: SupportsIndex) -> int:
        """Check `gfn` as the start of a range: raises InvalidValueError if negative or beyond the root."""
        start = check_gfn(gfn, "the start")
        if start >= self.root_pages:
            raise InvalidValueError(
                f"a range starts inside the root, below {name_gfn(self.root_pages)}; "
                f"{name_gfn(start)} is beyond it"
            )
        return start

    def shared_bit(self, bit: SupportsIndex | None = None) -> int:
        """The shared bit of a TD of this shape, as a frame mask: `bit` if given, else the one TDX uses.

        The default is bit 47 of the address under a 4-level root, bit 51 under a 5-level one, and the
        topmost index bit of a toy's root. Raises InvalidTypeError or InvalidValueError for a `bit` that is
        not a single bit of the root's index.
        """
        if bit is None:
            return min(TDX_SHARED_BIT_PWL_5, self.root_pages >> 1)
        mask = check_gfn(bit, "a shared bit")
        low, high = self.pages(self.root_level), self.root_pages
        if mask.bit_count() != 1 or not low <= mask < high:
            raise InvalidValueError(
                f"the shared bit is one bit of the root's index, {name_gfn(low)} to {name_gfn(high >> 1)}; "
                f"{name_gfn(mask)} is not"
            )
        return mask


X86_4LEVEL = Geometry(SPTE_LEVEL_BITS, PT64_ROOT_4LEVEL, KVM_MAX_HUGEPAGE_LEVEL)
X86_5LEVEL = Geometry(SPTE_LEVEL_BITS, PT64_ROOT_MAX_LEVEL, KVM_MAX_HUGEPAGE_LEVEL)


def tdp_mmu_max_gfn_exclusive() -> int:
    """The first frame beyond the host's address width, where zaps end (S7)."""
    return 1 << (MAXPHYADDR - PAGE_SHIFT)


@dataclass(frozen=True, repr=False)
class GfnRange:
    """The frames start, start + 1, ... end - 1; start == end is the empty range.

    Raises InvalidTypeError for an end that is no integer, InvalidValueError for negative or reversed ends.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", check_gfn(self.start, "the start"))
        object.__setattr__(self, "end", check_gfn(self.end, "the end"))
        if self.start > self.end:
            raise InvalidValueError(
                f"a range ends at or after its start; start {name_gfn(self.start)} is above "
                f"end {name_gfn(self.end)}"
            )

    @classmethod
    def parse(cls, start: str, end: str) -> GfnRange:
        """The range between two typed addresses (see :func:`parse_gfn`)."""
        return cls(parse_gfn(start), parse_gfn(end))

    @property
    def pages(self) -> int:
        """Frames in the range."""
        return self.end - self.start

    def overlap(self, gfn: int, pages: int) -> int:
        """Count the frames of [gfn, gfn + pages) inside the range."""
        return max(0, min(self.end, gfn + pages) - max(self.start, gfn))

    def outside(self, gfn: int, pages: int) -> list[GfnRange]:
        """The parts of [gfn, gfn + pages) before the start and after the end, none of them empty."""
        last = gfn + pages
        before, after = (gfn, min(last, self.start)), (max(gfn, self.end), last)
        return [GfnRange(low, high) for low, high in (before, after) if low < high]

    def __contains__(self, gfn: int) -> bool:
        return self.start <= gfn < self.end

    def __repr__(self) -> str:
        return f"[{self.start:#x}, {self.end:#x}) = {self}"

    def __str__(self) -> str:
        return f"[{format_gfn(self.start)}, {format_gfn(self.end)})"


class FrameSet:
    """A set of frames, stored as the frames where membership changes: its cost is that of its runs."""

    def __init__(self) -> None:
        self._edges: list[int] = []

    def __contains__(self, gfn: int) -> bool:
        return bool(bisect_right(self._edges, gfn) % 2)

    def uniform(self, span: GfnRange) -> bool:
        """Whether the set holds all frames of `span` or none of them; `span` is not empty."""
        return bisect_right(self._edges, span.start) == bisect_left(self._edges, span.end)

    def has(self, span: GfnRange, member: bool) -> bool:
        """Whether the set holds all frames of `span` (`member` True) or none (False); `span` is not empty."""
        return self.uniform(span) and (span.start in self) == member

    def store(self, span: GfnRange, member: bool) -> None:
        """Add the frames of `span` (`member` True) or remove them (False); `span` is not empty."""
        before, after = (span.start - 1) in self, span.end in self
        edges = [span.start] * (before != member) + [span.end] * (after != member)
        self._edges[bisect_left(self._edges, span.start) : bisect_right(self._edges, span.end)] = edges

    @property
    def edges(self) -> tuple[int, ...]:
        """The frames at which membership changes, in order: start and end of each run in turn."""
        return tuple(self._edges)

    def ranges(self) -> list[GfnRange]:
        """The frames of the set, as ranges in order; no two of them touch."""
        return [GfnRange(*pair) for pair in zip(self._edges[::2], self._edges[1::2], strict=True)]
