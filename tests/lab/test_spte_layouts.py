"""Layouts as data: kinds against values decoded by hand and against digits; frames of MMIO entries (S262)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.spte_layouts import LAYOUTS, guard_bits, guard_widths, layouts_named, mmio_gfn
from tests.oracles import entries as oracle

EPT, NPT, NPT_OLD = LAYOUTS["ept-5.13"], LAYOUTS["npt-7.2"], LAYOUTS["npt-5.12"]


@pytest.mark.parametrize("row", oracle.VALUES, ids=lambda row: f"{row.spte:x}-{row.level}")
def test_each_value_is_of_its_kind(row):
    assert LAYOUTS[row.layout].kind_of(row.spte, row.level) == row.kind


@given(oracle.near_values(), st.integers(1, 5), st.sampled_from([*LAYOUTS]))
def test_kinds_are_those_of_the_digits(spte, level, name):
    assert LAYOUTS[name].kind_of(spte, level) == oracle.kind_of(spte, level, name)
    assert LAYOUTS[name].is_access_tracked(spte) is oracle.is_tracked(spte, name)


def test_layouts_are_found_by_name_and_family():
    assert [one.name for one in layouts_named("npt")] == ["npt-7.2", "npt-5.13", "npt-5.12"]
    assert [one.name for one in layouts_named("ept-tdx")] == ["ept-tdx"]
    assert len(layouts_named("")) == 7
    with pytest.raises(InvalidValueError, match="'ept-6' is no layout"):
        layouts_named("ept-6")
    with pytest.raises(InvalidTypeError, match="named by text"):
        layouts_named(7)


# ---- guard bits ----------------------------------------------------------------------------------------


def test_guard_bits_are_the_five_highest_of_the_address():
    assert guard_bits(46) == 0x3E00_0000_0000
    assert guard_bits(39) == 0x7C_0000_0000
    for width in (31, 47):
        with pytest.raises(InvalidValueError, match=f"{width} is not"):
            guard_bits(width)


def guarded(gfn: int, width: int, low: int) -> int:
    """An MMIO entry as make_mmio_spte writes it, by cutting the digits of the address into pieces."""
    digits = f"{gfn << 12:0{width}b}"
    assert len(digits) == width
    return int(digits[:5] + "11111" + digits[5:], 2) | low


@given(st.integers(36, 46), st.data())
def test_the_frame_comes_back_from_behind_its_guard_bits(width, data):
    gfn = data.draw(st.integers(0, 2 ** (width - 12) - 1))
    spte = guarded(gfn, width, 0b110)
    assert mmio_gfn(spte, EPT, guard_bits(width)) == gfn
    assert width in guard_widths(spte, EPT)
    assert mmio_gfn(spte | 1 << 51 | 1, NPT, guard_bits(width)) == gfn


@pytest.mark.parametrize(
    ("spte", "layout", "width", "gfn"),
    [
        (0x3E00_0000_A056, EPT, 46, 0xA),
        (0x38_001F_FE01_34D7, NPT_OLD, 36, 0xFE013),
        (0x38_001F_FE01_34D7, NPT_OLD, 37, 0xFE013),
        (0x1DB0_0000_000B_83B6, LAYOUTS["ept-5.12"], None, 0xB8),
        (0xFEE0_0006, EPT, None, 0xFEE00),
        (0x8_0000_FEE0_0007, NPT, None, 0xFEE00),
        (0xF_0000_FEE0_0007, NPT, None, 0xFEE00),  # 48 physical bits: 51:48 are reserved
    ],
)
def test_frames_of_mmio_read_off_by_hand(spte, layout, width, gfn):
    assert mmio_gfn(spte, layout, guard_bits(width) if width else 0) == gfn


@pytest.mark.parametrize(
    ("spte", "layout", "widths"),
    [
        (0x3E00_0000_A056, EPT, (46,)),
        (0x38_001F_FE01_34D7, NPT_OLD, (36, 37)),
        (0xFEE0_0006, EPT, ()),
        (0x2_3E00_0000_A056, EPT, (46,)),  # bit 49: a displaced one
        (0x8_3E00_0000_A056, EPT, ()),  # bit 51: above what they displace
        (0x3C00_0000_A056, EPT, ()),
    ],
)
def test_a_width_may_be_if_its_guard_bits_are_set_and_nothing_above_what_they_displaced(spte, layout, widths):
    assert guard_widths(spte, layout) == widths
