"""Entries as kernels of several ages hold them, decoded by hand; and where each layout has which bit.

Read off their digits with S20, S23 to S25 and S260 to S262; the values have the shape of public ones.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st


class Value(NamedTuple):
    """One healthy entry, its layout, what it is, and which other layouts have it as well."""

    spte: int
    level: int
    layout: str
    kind: str
    frame: int | None
    """Host frame; of MMIO the guest's, without guard bits; None where an entry has none."""
    rights: str
    """Of r, w and x; of an access-tracked leaf what it had."""
    others: tuple[str, ...] = ()


_EPT_63 = ("ept-tdx", "npt-7.2", "npt-5.13")
"""Bit 63 alone, or with 0x5a0: what is empty or frozen looks alike on EPT and NPT."""

VALUES = (
    # EPT, up to 5.12: tables end in 107; writable in bits 10 and 11
    Value(0xF_CD21_0107, 4, "ept-5.12", "table", 0xFCD210, "rwx"),
    Value(0x1_2345_6F77, 1, "ept-5.12", "leaf", 0x123456, "rwx"),
    Value(0x1_2340_0FF7, 2, "ept-5.12", "leaf", 0x123400, "rwx"),
    Value(0x1_2345_6D75, 1, "ept-5.12", "leaf", 0x123456, "rx"),
    Value(0x1_2345_6175, 1, "ept-5.12", "leaf", 0x123456, "rx"),
    Value(0x0150_0001_2345_6C70, 1, "ept-5.12", "leaf", 0x123456, "rx"),
    Value(1 << 59, 2, "ept-5.12", "frozen", None, "", ("npt-5.12",)),
    Value(0x1DB0_0000_000B_83B6, 1, "ept-5.12", "mmio", 0xB8, "", ("ept-7.2", "ept-tdx", "ept-5.13")),
    # EPT, from 5.13: bit 11, writable in bits 57 and 58
    Value(0x4_AB10_6907, 4, "ept-5.13", "table", 0x4AB106, "rwx"),
    Value(0x0600_0003_10AA_1B77, 1, "ept-5.13", "leaf", 0x310AA1, "rwx"),
    Value(0x0600_0003_2260_0BF3, 2, "ept-5.13", "leaf", 0x322600, "rw"),
    Value(0x0600_0003_2260_0977, 1, "ept-5.13", "leaf", 0x322600, "rwx"),
    Value(0x0600_0003_2260_0B75, 1, "ept-5.13", "leaf", 0x322600, "rx"),
    Value(0x0750_0003_2260_0870, 1, "ept-5.13", "leaf", 0x322600, "rx"),
    Value(0x5A0, 1, "ept-5.13", "frozen", None, "", ("npt-5.13",)),
    Value(0, 3, "ept-5.13", "non-present", None, "", ("ept-5.12", "npt-5.13", "npt-5.12")),
    # EPT, the TDX era: bit 63 in all but MMIO
    Value(0x8000_0001_0BC9_7907, 2, "ept-tdx", "table", 0x10BC97, "rwx"),
    Value(0x8600_0001_C8A0_0BF7, 2, "ept-tdx", "leaf", 0x1C8A00, "rwx"),
    Value(0x8600_0001_C8A0_3B77, 1, "ept-tdx", "leaf", 0x1C8A03, "rwx"),
    # EPT, 7.2: X comes with bit 10, writable in bits 53 and 55
    Value(0x80A0_0001_C8A0_0FB7, 2, "ept-7.2", "leaf", 0x1C8A00, "rwx"),
    Value(0x80A2_1F9B_3120_0BB3, 2, "ept-7.2", "leaf", 0x21F9B31200, "rw"),
    Value(0x8000_0000_0123_4D07, 2, "ept-7.2", "table", 0x1234, "rwx"),
    Value(0xD0F1_8DA7_E660_0AB0, 2, "ept-7.2", "leaf", 0x18DA7E6600, "rx"),
    Value(1 << 63, 1, "ept-7.2", "non-present", None, "", _EPT_63),
    Value(1 << 63 | 0x5A0, 1, "ept-7.2", "frozen", None, "", _EPT_63),
    Value(0xFEE0_0006, 1, "ept-7.2", "mmio", 0xFEE00, "", ("ept-tdx", "ept-5.13")),
    Value(0x3E00_0000_A056, 1, "ept-7.2", "mmio", 0xA, "", ("ept-tdx", "ept-5.13")),
    # NPT, up to 5.12: tables end in 027
    Value(0x8A_A3A9_D027, 4, "npt-5.12", "table", 0x8AA3A9D, "rwx"),
    Value(0x8A_A111_E025, 1, "npt-5.12", "leaf", 0x8AA111E, "rx", ("ept-5.12",)),
    Value(0x1_2345_6C67, 1, "npt-5.12", "leaf", 0x123456, "rwx", ("ept-5.12", "npt-7.2", "npt-5.13")),
    Value(0x38_001F_FE01_34D7, 1, "npt-5.12", "mmio", 0xFE013, "", ("npt-7.2", "npt-5.13")),
    # NPT, from 5.13: bit 11, writable in bits 9 and 10, NX in bit 63
    Value(0x1_2345_6827, 3, "npt-7.2", "table", 0x123456, "rwx", ("npt-5.13",)),
    Value(0x1_2345_6E67, 1, "npt-7.2", "leaf", 0x123456, "rwx", ("ept-5.12", "npt-5.13")),
    Value(0x8000_0001_2340_0EE7, 2, "npt-7.2", "leaf", 0x123400, "rw", ("ept-7.2", "npt-5.13")),
    # up to 5.12 the same bits are a leaf on frame 0x80000fee00
    Value(0x8_0000_FEE0_0007, 1, "npt-7.2", "mmio", 0xFEE00, "", ("npt-5.13", "ept-5.12", "npt-5.12")),
)


class Bits(NamedTuple):
    """Where a layout has what: numbers of bits, written out. None: it has no such bit."""

    x: tuple[int, ...]
    """Execution is granted if all are set; without any, if bit 63 is clear."""
    a: int
    d: int
    host: int
    mmu: int
    ad: tuple[int, int]
    kept: tuple[int, ...]
    """Where R, X and XU of an access-tracked leaf are kept."""
    in_all: tuple[int, ...]
    """Set in every present entry."""
    empty: tuple[int, ...]
    frozen: tuple[int, ...]


_B63, _5A0 = 1 << 63, 0x5A0
BITS = {
    "ept-5.12": Bits((2,), 8, 9, 10, 11, (53, 52), (54, 56), (), (0,), (1 << 59,)),
    "ept-5.13": Bits((2,), 8, 9, 57, 58, (53, 52), (54, 56), (11,), (0,), (_5A0,)),
    "ept-tdx": Bits((2,), 8, 9, 57, 58, (53, 52), (54, 56), (11, 63), (_B63,), (_B63 | _5A0,)),
    "ept-7.2": Bits((2, 10), 8, 9, 53, 55, (61, 60), (52, 54, 62), (11, 63), (_B63,), (_B63 | _5A0,)),
    "npt-5.12": Bits((), 5, 6, 10, 11, (53, 52), (), (0,), (0,), (1 << 59,)),
    "npt-5.13": Bits((), 5, 6, 9, 10, (53, 52), (), (0, 11), (0, _B63), (_5A0, _B63 | _5A0)),
    "npt-7.2": Bits((), 5, 6, 9, 10, (61, 60), (), (0, 11), (_B63,), (_B63 | _5A0,)),
}
"""S20, S260, S261; A/D types of NPT and 7.2: spte.h."""


def bit(spte: int, number: int) -> bool:
    """One digit of the entry written in binary."""
    return f"{spte:064b}"[63 - number] == "1"


def is_tracked(spte: int, layout: str) -> bool:
    """A/D type 1, and nothing granted; EPT alone."""
    at = BITS[layout]
    granted = any(bit(spte, number) for number in (0, 1, 2, *at.x))
    return layout.startswith("ept") and [bit(spte, n) for n in at.ad] == [False, True] and not granted


def kind_of(spte: int, level: int, layout: str) -> str:
    """The kind, by the digits."""
    is_ept = layout.startswith("ept")
    old = layout.endswith("5.12")
    present = bit(spte, 11) if not old else any(bit(spte, n) for n in ((0, 1, 2) if is_ept else (0,)))
    refused = [bit(spte, n) for n in (2, 1, 0)] == [True, True, False] if is_ept else bit(spte, 0)
    if old:
        is_mmio = refused and bit(spte, 52) and bit(spte, 53)
    else:
        is_mmio = refused and not bit(spte, 11) and (is_ept or bit(spte, 51))
    if is_mmio:
        return "mmio"
    if not present and not (old and is_tracked(spte, layout)):
        return "frozen" if spte in BITS[layout].frozen else "non-present"
    return "leaf" if level == 1 or bit(spte, 7) else "table"


def has_flaw(spte: int, level: int, layout: str) -> bool:
    """Whether no kernel with this layout would hold it, by the digits."""
    kind, at, is_ept = kind_of(spte, level, layout), BITS[layout], layout.startswith("ept")
    if kind in ("frozen", "non-present"):
        return kind == "non-present" and spte not in at.empty
    if kind == "mmio":
        return bit(spte, 63)
    ours = {0, 1, 2, at.a, *at.ad, *at.x, *at.in_all, *range(12, 52)}
    if kind == "leaf":
        ours |= {at.d, at.host, at.mmu, *at.kept, *({7} if level > 1 else ())}
        ours |= {3, 4, 5, 6} if is_ept else {3, 4, 63}
        types = int(f"{spte:064b}"[58:61], 2)
        if level > 3 or (is_ept and types in (2, 3, 7)):
            return True
        if any(bit(spte, number) for number in range(12, 12 + 9 * (level - 1))):
            return True
    partly = {bit(spte, number) for number in at.x} == {True, False}
    return (
        partly
        or any(bit(spte, number) for number in range(64) if number not in ours)
        or not all(bit(spte, number) for number in at.in_all)
        or (bit(spte, 1) and not bit(spte, 0))
        or all(bit(spte, number) for number in at.ad)
    )


def rights_of(spte: int, level: int, layout: str) -> str:
    """What a leaf or table grants of r, w and x; of an access-tracked leaf, what it had."""
    at, kind = BITS[layout], kind_of(spte, level, layout)
    if kind not in ("leaf", "table"):
        return ""
    if kind == "leaf" and is_tracked(spte, layout):
        r, w, x = bit(spte, at.kept[0]), False, all(bit(spte, n) for n in at.kept[1:])  # W is not kept
    else:
        x = all(bit(spte, n) for n in at.x) if at.x else not bit(spte, 63)
        r, w = bit(spte, 0), bit(spte, 1)
    return "r" * r + "w" * w + "x" * x


def near_values() -> st.SearchStrategy[int]:
    """Any 64 bits; healthy values; and those with up to three bits turned over."""
    flips = st.lists(st.integers(0, 63), max_size=3, unique=True).map(lambda bits: sum(1 << n for n in bits))
    healthy = st.sampled_from([row.spte for row in VALUES])
    return st.integers(0, 2**64 - 1) | st.builds(lambda spte, turned: spte ^ turned, healthy, flips)
