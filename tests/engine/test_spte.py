"""The bits of an entry. Expected values: kernel-facts 2.1b-2.6, and huge SPTEs recorded from the kernel."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tdpkit.engine import spte as spte_module
from tdpkit.engine.gfn import X86_4LEVEL, Geometry, InvalidValueError
from tdpkit.engine.spte import (
    EPT,
    FROZEN_SPTE,
    NPT,
    SHADOW_NONPRESENT_VALUE,
    decode,
    is_access_track_spte,
    is_large_pte,
    is_last_spte,
    is_shadow_present_pte,
    make_leaf_spte,
    make_nonleaf_spte,
    make_small_spte,
    spte_to_pfn,
)
from tests.oracles.vectors import cases_of

RAW = st.integers(0, 2**64 - 1)


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


# ---- constants and single entries ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VMX_EPT_READABLE_MASK", bits(0)),
        ("VMX_EPT_WRITABLE_MASK", bits(1)),
        ("VMX_EPT_EXECUTABLE_MASK", bits(2)),
        ("VMX_EPT_RWX_MASK", 7),
        ("VMX_EPT_MT_MASK", bits(3, 4, 5)),
        ("VMX_EPT_MT_WB", 6),
        ("VMX_EPT_IPAT_BIT", 0x40),
        ("PT_PAGE_SIZE_MASK", 0x80),
        ("VMX_EPT_ACCESS_BIT", bits(8)),
        ("VMX_EPT_DIRTY_BIT", bits(9)),
        ("VMX_EPT_USER_EXECUTABLE_MASK", bits(10)),
        ("SPTE_MMU_PRESENT_MASK", bits(11)),
        ("SPTE_BASE_ADDR_MASK", bits(*range(12, 52))),
        ("EPT_SPTE_HOST_WRITABLE", bits(53)),
        ("EPT_SPTE_MMU_WRITABLE", bits(55)),
        ("SPTE_TDP_AD_MASK", bits(60, 61)),
        ("SPTE_TDP_AD_DISABLED", bits(60)),
        ("SPTE_TDP_AD_WRPROT_ONLY", bits(61)),
        ("VMX_EPT_SUPPRESS_VE_BIT", bits(63)),
        ("SHADOW_NONPRESENT_VALUE", 0x8000_0000_0000_0000),
        ("FROZEN_SPTE", 0x8000_0000_0000_05A0),
        ("SHADOW_ACC_TRACK_MASK", 7 | bits(10)),
    ],
)
def test_a_bit_is_where_linux_7_2_has_it(name, value):
    assert getattr(spte_module, name) == value


@pytest.mark.parametrize(
    ("pfn", "level", "value"),
    [
        (0x1C8A00, 1, 0x80A0_0001_C8A0_0F37),
        (0x1C8A00, 2, 0x80A0_0001_C8A0_0FB7),
        (0x40000, 3, 0x80A0_0000_4000_0FB7),
        (2**40 - 1, 1, 0x80AF_FFFF_FFFF_FF37),
    ],
)
def test_a_leaf_is_the_typical_one_of_the_vectors(pfn, level, value):
    assert make_leaf_spte(pfn, level) == value
    assert spte_to_pfn(value) == pfn


def test_a_leaf_has_every_bit_of_the_kernels_own():
    """The recorded entries "as mapped" are the output of the kernel's make_spte."""
    mapped = [
        (int(case["huge_spte"], 16), case["huge_level"])
        for case in cases_of("spte_bits")
        if case["variant"] == "as-mapped" and case["masks"] == "EPT A/D on" and not case["nx_huge_pages"]
    ]
    assert len(mapped) >= 2
    for huge_spte, level in mapped:
        assert make_leaf_spte((huge_spte >> 12) % 2**40, level) == huge_spte


def test_a_table_entry_is_the_rows_number_with_rwx_and_accessed():
    """0x907 of kernel-facts 2.5, with XU, which 7.2 sets together with X (2.1b)."""
    assert make_nonleaf_spte(0) == 0x8000_0000_0000_0D07
    assert make_nonleaf_spte(0x1234) == 0x8000_0000_0123_4D07


@pytest.mark.parametrize("pfn", [-1, 2**40, 2**60])
def test_a_pfn_that_the_frame_field_cannot_hold_is_refused(pfn):
    with pytest.raises(InvalidValueError, match="a PFN has 40 bits"):
        make_leaf_spte(pfn, 1)


@given(RAW, st.integers(1, 5))
def test_the_predicates_look_at_one_bit_each(raw, level):
    digits = f"{raw:064b}"[::-1]
    assert is_shadow_present_pte(raw) == (digits[11] == "1")
    assert is_large_pte(raw) == (digits[7] == "1")
    assert is_last_spte(raw, level) == (level == 1 or digits[7] == "1")
    assert spte_to_pfn(raw) == int(digits[12:52][::-1], 2)


def test_an_empty_and_a_frozen_entry_are_not_present_and_map_nothing():
    for raw in (SHADOW_NONPRESENT_VALUE, FROZEN_SPTE):
        assert not is_shadow_present_pte(raw)
        assert not raw & 7
        assert spte_to_pfn(raw) == 0


# ---- decode --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "level", "kind", "pfn"),
    [
        (0x8000_0000_0000_0000, 1, "non-present", None),
        (0x8000_0000_0000_0000, 3, "non-present", None),
        (0, 1, "non-present", None),
        (0x8000_0000_0000_05A0, 2, "frozen", None),
        (0x8000_0000_0000_0006, 1, "mmio", None),
        (0x0000_0012_3450_0006, 1, "mmio", None),
        (0x8000_0000_0123_4D07, 2, "table", 0x1234),
        (0x8000_0000_0123_4D07, 4, "table", 0x1234),
        (0x80A0_0000_0123_4F37, 1, "leaf", 0x1234),
        (0x80A0_0001_C8A0_0FB7, 2, "leaf", 0x1C8A00),
        (0x80A0_0000_4000_0FB7, 3, "leaf", 0x40000),
    ],
)
def test_an_entry_is_told_by_its_bits_and_its_level(raw, level, kind, pfn):
    assert decode(raw, level)[:2] == (kind, pfn)


@pytest.mark.parametrize(
    ("bit", "name"),
    [
        (0, "R"),
        (1, "W"),
        (2, "X"),
        (6, "IPAT"),
        (7, "PS"),
        (8, "A"),
        (9, "D"),
        (10, "XU"),
        (11, "MMU_PRESENT"),
        (53, "HOST_WRITABLE"),
        (55, "MMU_WRITABLE"),
        (60, "AD_DISABLED"),
        (61, "AD_WRPROT_ONLY"),
        (63, "SUPPRESS_VE"),
    ],
)
def test_each_flag_has_its_name(bit, name):
    assert decode(1 << bit, 1).bits == (name,)


def test_flags_are_listed_from_bit_0_upwards():
    assert decode(0x80A0_0001_C8A0_0FB7, 2).bits == (
        *("R", "W", "X", "PS", "A", "D", "XU", "MMU_PRESENT", "HOST_WRITABLE", "MMU_WRITABLE", "SUPPRESS_VE"),
    )


@pytest.mark.parametrize("raw", [-1, 2**64])
def test_what_is_no_64_bit_value_is_not_decoded(raw):
    with pytest.raises(InvalidValueError, match="64-bit"):
        decode(raw, 1)


# ---- the children of a split ---------------------------------------------------------------------------


@st.composite
def huge_leaves(draw):
    """Any bits at all around a present huge leaf whose frame is aligned: (raw, its level, geometry)."""
    geometry = Geometry(draw(st.integers(1, 9)), 5, 5)
    level = draw(st.integers(2, 4))
    raw = draw(RAW) | bits(7, 11)
    return raw & ~bits(*range(12, 12 + geometry.index_bits * (level - 1))), level, geometry


@given(huge_leaves())
def test_the_children_of_a_split_tile_the_parent_and_keep_every_other_bit(drawn):
    huge_spte, level, geometry = drawn
    children = [make_small_spte(huge_spte, level - 1, i, geometry) for i in range(2**geometry.index_bits)]
    size = 2 ** (geometry.index_bits * (level - 2))
    frame = bits(*range(12, 52))
    first = (huge_spte & frame) >> 12
    assert [(child & frame) >> 12 for child in children] == [first + i * size for i in range(len(children))]
    kept = huge_spte & ~frame & ~(bits(7) if level == 2 else 0)
    assert {child & ~frame for child in children} == {kept}


@pytest.mark.parametrize(
    "raw",
    [0x8000_0000_0000_0000, 0x8000_0000_0000_05A0, 0x8000_0000_0123_4D07, 0x80A0_0000_0123_4F37, bits(7)],
    ids=["hole", "frozen", "table", "4K leaf", "large but not present"],
)
def test_only_a_present_huge_leaf_is_split(raw):
    with pytest.raises(InvalidValueError, match=f"{raw:#018x} is none"):
        make_small_spte(raw, 1, 0, X86_4LEVEL)


def small(raw: int, level: int = 2, **options) -> int:
    return make_small_spte(raw, level - 1, 3, X86_4LEVEL, **options)


ALIGNED = RAW.map(lambda raw: (raw | bits(7, 11)) & ~bits(*range(12, 30)))


@given(ALIGNED, st.booleans())
def test_the_nx_mitigation_decides_execution_at_4k_and_nothing_else(raw, exec_allowed):
    """Linux 7.2 clears execute where role.access lacks it; 6.12 only ever added it (kernel-facts 2.6)."""
    tracked = raw & bits(60) and not raw & bits(0, 1, 2, 10)
    execute = bits(54, 62) if tracked else bits(2, 10)
    inherited = small(raw) & ~execute
    got = small(raw, nx_huge_pages=True, exec_allowed=exec_allowed)
    assert got == inherited | (execute if exec_allowed else 0)
    assert small(raw, nx_huge_pages=True) == inherited | execute, "a TDP MMU's table has all of role.access"


@given(RAW.map(lambda raw: (raw | bits(7, 11, 60)) & ~bits(0, 1, 2, 10, *range(12, 30))), st.booleans())
def test_an_access_tracked_entry_stays_tracked_and_its_saved_execute_bits_change(raw, exec_allowed):
    """Restoring the bits for good would hide the guest's next access from the host."""
    assert is_access_track_spte(raw)
    got = small(raw, nx_huge_pages=True, exec_allowed=exec_allowed)
    assert is_access_track_spte(got)
    assert got & bits(54, 62) == (bits(54, 62) if exec_allowed else 0)
    assert got & ~bits(54, 62) == small(raw) & ~bits(54, 62)


@given(ALIGNED, st.booleans())
def test_on_npt_execution_is_the_absence_of_bit_63(raw, exec_allowed):
    assume(not (raw & bits(60) and not raw & bits(0, 1, 2, 10)))  # access tracking belongs to EPT
    got = small(raw, nx_huge_pages=True, exec_allowed=exec_allowed, masks=NPT)
    assert got == small(raw) & ~bits(63) | (0 if exec_allowed else bits(63))


@given(ALIGNED, st.booleans(), st.sampled_from([EPT, NPT]))
def test_the_nx_mitigation_leaves_a_child_alone_that_is_still_huge(raw, exec_allowed, masks):
    got = small(raw, level=3, nx_huge_pages=True, exec_allowed=exec_allowed, masks=masks)
    assert got == small(raw, level=3)


@given(RAW)
def test_an_entry_is_access_tracked_when_a_and_d_are_off_and_its_access_bits_are_gone(raw):
    digits = f"{raw:064b}"[::-1]
    gone = not any(digits[bit] == "1" for bit in (0, 1, 2, 10))
    assert is_access_track_spte(raw) == (digits[60] == "1" and gone)
