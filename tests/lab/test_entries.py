"""An entry's fields against S20-S27, its bit tables written out by hand; children against vectors. An
address against its binary digits as text, and against the walk of real tables.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm
from tdpkit.engine.spte import is_shadow_present_pte, spte_to_pfn
from tdpkit.engine.tree import map_leaf
from tdpkit.lab.entries import (
    address_path,
    bit_numbers,
    child_of,
    entry_on_the_way,
    join_indices,
    parse_entry,
    read_entry,
    way_to,
    why_childless,
)
from tdpkit.lab.guest import Guest
from tdpkit.lab.spte_layouts import EPT_7_2, LAYOUTS, guard_bits
from tests.oracles import entries as oracle
from tests.oracles.vectors import cases_of

RAW = st.integers(0, 2**64 - 1)
LEVELS = st.integers(1, 5)

LEAF_2M = 0x80A0_0001_C8A0_0FB7
EMPTY, FROZEN, MMIO = 0x8000_0000_0000_0000, 0x8000_0000_0000_05A0, 0x0000_0000_FEE0_0006
TABLE = 0x8000_0000_0123_4D07
TRACKED = 0xD0F1_8DA7_E660_0AB0
"""Recorded (spte-046): A/D off, R, W, X and XU taken away, what they were in bits 52, 54 and 62."""


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


def field(entry, label: str):
    [found] = [field for field in entry.fields if field.label == label]
    return found


# ---- every bit has one field ---------------------------------------------------------------------------


@given(RAW, LEVELS)
def test_every_bit_belongs_to_exactly_one_field_and_the_values_make_up_the_entry(raw, level):
    entry = read_entry(raw, level)
    owned = [bit for field in entry.fields for bit in range(field.high, field.low - 1, -1)]
    assert owned == list(range(63, -1, -1))
    assert sum(field.value << field.low for field in entry.fields) == raw
    assert all(field.name and field.meaning for field in entry.fields)
    assert all(field.mask >> field.low == 2 ** (field.high - field.low + 1) - 1 for field in entry.fields)


@pytest.mark.parametrize(
    ("raw", "level", "kind"),
    [
        (EMPTY, 1, "non-present"),
        (0, 4, "non-present"),
        (FROZEN, 3, "frozen"),
        (MMIO, 1, "mmio"),
        (TABLE, 2, "table"),
        (TABLE, 5, "table"),
        (0x80A0_0001_C8A0_3F37, 1, "leaf"),
        (LEAF_2M, 2, "leaf"),
        (TRACKED, 2, "leaf"),
    ],
)
def test_each_kind_is_recognised(raw, level, kind):
    assert read_entry(raw, level).kind == kind


LEAF_TABLE = {  # S20: label -> (bits, name)
    "R": ("0", "VMX_EPT_READABLE_MASK"),
    "W": ("1", "VMX_EPT_WRITABLE_MASK"),
    "X": ("2", "VMX_EPT_EXECUTABLE_MASK"),
    "MT": ("5:3", "VMX_EPT_MT_MASK"),
    "IPAT": ("6", "VMX_EPT_IPAT_BIT"),
    "PS": ("7", "PT_PAGE_SIZE_MASK"),
    "A": ("8", "VMX_EPT_ACCESS_BIT"),
    "D": ("9", "VMX_EPT_DIRTY_BIT"),
    "XU": ("10", "VMX_EPT_USER_EXECUTABLE_MASK"),
    "P": ("11", "SPTE_MMU_PRESENT_MASK"),
    "PFN": ("51:12", "SPTE_BASE_ADDR_MASK"),
    "sR": ("52", "saved R"),
    "HW": ("53", "EPT_SPTE_HOST_WRITABLE"),
    "sX": ("54", "saved X"),
    "MW": ("55", "EPT_SPTE_MMU_WRITABLE"),
    "AD": ("61:60", "SPTE_TDP_AD_MASK"),
    "sXU": ("62", "saved XU"),
    "SVE": ("63", "VMX_EPT_SUPPRESS_VE_BIT"),
}


def test_a_leaf_has_the_fields_of_linux_7_2():
    entry = read_entry(LEAF_2M, 2)
    named = {field.label: (field.bits, field.name) for field in entry.fields if field.label}
    assert named == LEAF_TABLE
    assert [field.bits for field in entry.fields if not field.label] == ["59:56"]


def test_the_values_of_a_typical_leaf_are_those_read_off_its_digits():
    """0x80a0…fb7 of S20: WB, no IPAT, R W X XU, A, D, present, both writable bits."""
    entry = read_entry(LEAF_2M, 2)
    ones = {field.label for field in entry.fields if field.value == 1}
    assert ones == {"R", "W", "X", "XU", "A", "D", "P", "PS", "HW", "MW", "SVE"}
    assert (field(entry, "MT").value, field(entry, "PFN").value) == (6, 0x1C8A00)
    assert field(entry, "MT").meaning == "write-back (WB)"
    assert field(entry, "PFN").meaning == "host frames 0x1c8a00 to 0x1c8bff"
    assert entry.flaws == ()


@pytest.mark.parametrize("number", range(8))
def test_a_memory_type_has_its_name_or_is_reserved(number):
    names = {0: "UC", 1: "WC", 4: "WT", 5: "WP", 6: "WB"}  # SDM: EPT memory types as in the MTRRs
    entry = read_entry(LEAF_2M & ~(7 << 3) | number << 3, 2)
    assert names.get(number, "reserved") in field(entry, "MT").meaning
    assert any("reserved" in flaw for flaw in entry.flaws) is (number not in names)


@pytest.mark.parametrize(
    ("level", "bit7", "meaning"),
    [
        (1, 0, "clear: a 4K leaf needs no mark"),
        (1, 1, "set, which means nothing here"),
        (2, 1, "set: a leaf of 2M, no table"),
        (3, 1, "set: a leaf of 1G, no table"),
        (4, 1, "set: a leaf of 512G, which there is not"),
        (2, 0, "clear: a table, no leaf"),
        (5, 0, "clear: a table, no leaf"),
    ],
)
def test_what_the_page_size_bit_means_depends_on_the_level(level, bit7, meaning):
    entry = read_entry(0x80A0_0000_0000_0F37 | bit7 << 7, level)
    assert field(entry, "PS").meaning == meaning


def test_levels_of_a_toy_are_named_by_their_own_size():
    toy = Geometry(index_bits=3, root_level=2, max_leaf_level=2)
    entry = read_entry(0x80A0_0000_0000_8FB7, 2, toy)
    assert entry.label == "32K"
    assert field(entry, "PS").meaning == "set: a leaf of 32K, no table"
    assert field(entry, "PFN").meaning == "host frames 0x8 to 0xf"


@pytest.mark.parametrize(
    ("kind", "means"), [(0, "keeps"), (1, "off"), (2, "write protection"), (3, "no such")]
)
def test_the_ad_type_is_bits_61_and_60(kind, means):
    entry = read_entry(LEAF_2M | kind << 60, 2)
    assert field(entry, "AD").value == kind
    assert means in field(entry, "AD").meaning
    assert ("there is no A/D type 3" in entry.flaws) is (kind == 3)
    if kind == 1:
        assert "does not keep" in field(entry, "A").meaning
        assert "does not keep" in field(entry, "D").meaning


def test_accessed_and_dirty_say_which_they_are():
    on, off = read_entry(LEAF_2M, 2), read_entry(LEAF_2M & ~bits(8, 9), 2)
    assert [field(on, label).meaning for label in "AD"] == [
        "accessed since it was last cleared",
        "written since it was last cleared",
    ]
    assert [field(off, label).meaning for label in "AD"] == [
        "not accessed since it was last cleared",
        "not written since it was last cleared",
    ]


@pytest.mark.parametrize(
    ("saved", "verb"), [("sR", "read"), ("sX", "execute"), ("sXU", "execute in user mode")]
)
def test_an_access_tracked_leaf_keeps_its_rights_in_bits_52_54_and_62(saved, verb):
    """S20: bits 0, 2 and 10 shifted by 52."""
    tracked = read_entry(TRACKED, 2)
    assert tracked.is_access_tracked
    assert [field(tracked, label).value for label in ("R", "W", "X", "XU")] == [0, 0, 0, 0]
    assert field(tracked, "R").meaning == "taken away, to notice the next access"
    assert "a write brings it back" in field(tracked, "W").meaning
    assert field(tracked, saved).meaning == f"saved: the guest may {verb}"
    without = read_entry(TRACKED & ~field(tracked, saved).mask, 2)
    assert field(without, saved).meaning == f"saved: the guest may not {verb}"
    untracked = read_entry(LEAF_2M, 2)
    assert not untracked.is_access_tracked
    assert field(untracked, saved).meaning == "in use while accesses are tracked"
    assert tracked.flaws == ()


def test_a_cleared_w_says_whether_kvm_may_set_it_again():
    assert field(read_entry(LEAF_2M & ~bits(1), 2), "W").meaning.startswith("write-protected")
    assert field(read_entry(LEAF_2M & ~bits(1, 55), 2), "W").meaning == "the guest may not write"


@pytest.mark.parametrize(("raw", "said"), [(EMPTY, "never a #VE"), (0, "may become a #VE")])
def test_an_empty_entry_says_what_bit_63_is_for(raw, said):
    assert said in field(read_entry(raw, 1), "SVE").meaning


def test_a_table_names_the_table_below_and_keeps_reserved_bits_apart():
    entry = read_entry(TABLE, 2)
    assert field(entry, "PFN").meaning == "the table of 4K entries, in frame 0x1234"
    assert field(read_entry(TABLE, 4), "PFN").meaning == "the table of 1G entries, in frame 0x1234"
    assert [field.bits for field in entry.fields if "reserved" in field.meaning] == ["6:3"]
    assert entry.flaws == ()


def test_frozen_and_mmio_show_their_marks():
    mark = field(read_entry(FROZEN, 2), "mark")
    assert (mark.bits, mark.value << mark.low) == ("10:3", 0x5A0)
    assert field(read_entry(MMIO, 1), "RWX").value == 0b110
    assert field(read_entry(MMIO, 1), "GFN").value == 0xFEE00


# ---- what an entry cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "level", "says"),
    [
        (0x80A0_0001_C8A0_3FB7, 2, "a 2M leaf starts at a multiple of 0x200 frames; 0x1c8a03"),
        (0x80A0_0001_C8A0_0FB7, 3, "a 1G leaf starts at a multiple of 0x40000 frames; 0x1c8a00"),
        (LEAF_2M, 4, "no leaf is larger than 1G: at level 4 bit 7 is reserved"),
        (LEAF_2M, 5, "no leaf is larger than 1G: at level 5 bit 7 is reserved"),
        (0x80A0_0001_C8A0_3FB7, 1, "KVM leaves bit 7 of a 4K leaf clear"),
        (LEAF_2M & ~bits(0), 2, "W without R"),
        (LEAF_2M & ~bits(2), 2, "X and XU are set and cleared together"),
        (LEAF_2M & ~bits(10), 2, "X and XU are set and cleared together"),
        (TABLE | bits(4), 3, "bits 6:3 of a table entry are reserved"),
        (TABLE & ~bits(0), 3, "W without R"),
        (0, 1, "bit 63 is clear"),
        (EMPTY | bits(0), 1, "KVM takes it for missing and the CPU does not"),
        (EMPTY | bits(20), 1, "KVM's empty entry is bit 63 alone"),
        (MMIO | bits(63), 1, "an MMIO entry of KVM's has bit 63 clear"),
    ],
)
def test_what_no_kernel_would_hold_is_said_in_words(raw, level, says):
    [flaw] = [flaw for flaw in read_entry(raw, level).flaws if flaw.startswith(says)]
    assert re.search(r"[a-z]$", flaw) or flaw[-1].isalnum(), "a sentence that goes on with a full stop"


@pytest.mark.parametrize(
    ("raw", "level"),
    [(EMPTY, 1), (EMPTY, 5), (FROZEN, 2), (MMIO, 1), (TABLE, 2), (LEAF_2M, 2), (TRACKED, 2)],
)
def test_what_the_kernel_holds_has_no_flaw(raw, level):
    assert read_entry(raw, level).flaws == ()


def recorded():
    return [case for case in cases_of("spte_bits") if case["masks"].startswith("EPT")]


def test_no_recorded_ept_leaf_has_a_flaw_nor_has_its_child():
    assert len(recorded()) >= 30
    for case in recorded():
        assert read_entry(int(case["huge_spte"], 16), case["huge_level"]).flaws == (), case["id"]
        for _, child in case["children"]:
            assert read_entry(int(child, 16), case["huge_level"] - 1).flaws == (), case["id"]


# ---- entries of other kernels --------------------------------------------------------------------------

LAYOUT_NAMES = st.sampled_from([*LAYOUTS])
FIELDS = {  # S260, S261: the labels of a leaf, from bit 63 down, with their bits
    "ept-5.12": "sX 56, sR 54, AD 53:52, PFN 51:12, MW 11, HW 10, D 9, A 8, PS 7, IPAT 6, MT 5:3, X 2, "
    "W 1, R 0",
    "ept-5.13": "MW 58, HW 57, sX 56, sR 54, AD 53:52, PFN 51:12, P 11, D 9, A 8, PS 7, IPAT 6, MT 5:3, X 2, "
    "W 1, R 0",
    "ept-tdx": "SVE 63, MW 58, HW 57, sX 56, sR 54, AD 53:52, PFN 51:12, P 11, D 9, A 8, PS 7, IPAT 6, "
    "MT 5:3, X 2, W 1, R 0",
    "npt-5.12": "NX 63, AD 53:52, PFN 51:12, MW 11, HW 10, PS 7, D 6, A 5, CD 4:3, U 2, W 1, P 0",
    "npt-5.13": "NX 63, AD 53:52, PFN 51:12, MP 11, MW 10, HW 9, PS 7, D 6, A 5, CD 4:3, U 2, W 1, P 0",
    "npt-7.2": "NX 63, AD 61:60, PFN 51:12, MP 11, MW 10, HW 9, PS 7, D 6, A 5, CD 4:3, U 2, W 1, P 0",
}


def read(spte, level, name, guard=0):
    return read_entry(spte, level, X86_5LEVEL, LAYOUTS[name], guard)


@pytest.mark.parametrize("name", FIELDS)
def test_a_leaf_of_each_layout_has_its_bits_where_they_are_written(name):
    leaf = next(row for row in oracle.VALUES if name in (row.layout, *row.others) and row.kind == "leaf")
    fields = read(leaf.spte, 1, name).fields
    assert ", ".join(f"{field.label} {field.bits}" for field in fields if field.label) == FIELDS[name]


@pytest.mark.parametrize("row", oracle.VALUES, ids=lambda row: f"{row.spte:x}-{row.level}")
def test_a_healthy_entry_of_any_kernel_is_read_as_by_hand(row):
    guard = {0x3E00_0000_A056: guard_bits(46), 0x38_001F_FE01_34D7: guard_bits(36)}.get(row.spte, 0)
    for name in (row.layout, *row.others):
        entry = read(row.spte, row.level, name, guard)
        assert entry.flaws == (), name
    entry = read(row.spte, row.level, row.layout, guard)
    assert (entry.kind, entry.rights) == (row.kind, row.rights)
    if row.kind == "mmio":
        assert entry.mmio_gfn == row.frame
    else:
        assert entry.mmio_gfn is None
        assert row.frame in (None, entry.pfn)


@given(oracle.near_values(), LEVELS, LAYOUT_NAMES, st.sampled_from([0, guard_bits(46), guard_bits(36)]))
def test_any_64_bits_in_any_layout_are_read_as_their_digits(raw, level, name, guard):
    entry = read(raw, level, name, guard)
    assert entry.kind == oracle.kind_of(raw, level, name)
    assert entry.rights == oracle.rights_of(raw, level, name)
    assert bool(entry.flaws) is oracle.has_flaw(raw, level, name)
    assert sum(field.value << field.low for field in entry.fields) == raw
    owned = [bit for field in entry.fields for bit in range(field.high, field.low - 1, -1)]
    assert owned == list(range(63, -1, -1))
    assert all(field.name and field.meaning for field in entry.fields)


@pytest.mark.parametrize(
    ("raw", "level", "name", "says"),
    [
        (0x0600_0003_10AA_1B77, 1, "ept-7.2", "bit 63 is clear: KVM of this age sets it"),
        (0x0600_0003_10AA_1B77, 1, "ept-7.2", "X and XU are set and cleared together"),
        (
            0x0600_0003_10AA_1B77,
            1,
            "ept-7.2",
            "bits 58 and 57 are set; KVM of this age leaves them clear in a leaf",
        ),
        (0x4_AB10_6907, 4, "ept-5.12", "bit 11 is set; KVM of this age leaves it clear in a table"),
        (0x1_2345_6827, 3, "ept-5.13", "bits 6:3 of a table entry are reserved"),
        (0x5A0, 1, "ept-7.2", "bit 63 is clear: where a guest may get a #VE"),
        (1 << 63, 1, "ept-5.13", "KVM's empty entry is 0; other bits are set"),
        (
            0x1_2345_6027,
            2,
            "npt-5.13",
            "KVM takes it for missing and the CPU does not: P is set without bit 11",
        ),
        (0x1_2345_6826, 2, "npt-7.2", "KVM takes it for present and the CPU does not: P is clear"),
        (0, 2, "npt-7.2", "bit 63 is clear, and KVM's empty entry has it"),
        (0xB_80A0, 5, "ept-5.12", "the CPU finds no entry, and KVM's empty entry is 0"),
        (0x1_2345_6EE7, 2, "npt-7.2", "a 2M leaf starts at a multiple of 0x200 frames"),
        (
            0x0F00_0001_2340_0EE7,
            2,
            "npt-7.2",
            "bits 59:56 are set; KVM of this age leaves them clear in a leaf",
        ),
    ],
)
def test_a_flaw_is_one_of_its_layout(raw, level, name, says):
    assert [flaw for flaw in read(raw, level, name).flaws if flaw.startswith(says)]


def test_npt_has_no_memory_type_and_no_misconfiguration():
    for row in oracle.VALUES:
        for turned in (0, 1 << 7, 1 << 12, 1 << 4, 1):
            entry = read(row.spte ^ turned, 2, "npt-7.2")
            said = " ".join([*entry.flaws, *(field.meaning for field in entry.fields)])
            assert "misconfiguration" not in said
            assert "write-back" not in said


def test_an_mmio_entry_shows_its_frame_its_guard_bits_and_what_they_displaced():
    entry = read(0x2_3E00_0000_A056, 1, "ept-5.13", guard_bits(46))
    assert entry.mmio_gfn == 0x1_0000_000A, "bit 49 is bit 44 of the address, 32 of the frame"
    assert [(field.label, field.bits, field.value) for field in entry.fields][1:6] == [
        ("gen", "62:52", 0),
        ("", "51", 0),
        ("kept", "50:46", 0b01000),
        ("guard", "45:41", 0b11111),
        ("GFN", "40:12", 0xA),
    ]
    assert "guest frame 0x10000000a" in field(entry, "GFN").meaning


def test_children_in_the_layout_of_5_13_keep_all_but_the_frame_and_bit_7():
    """A 2M leaf without X, split under the NX-huge-page rule: X comes back, alone (S26)."""
    leaf = read(0x0600_0003_2260_0BF3, 2, "ept-5.13")
    assert child_of(leaf, 0x16C, nx_huge_pages=True).spte == 0x0600_0003_2276_CB77
    assert child_of(leaf, 0x16C).spte == 0x0600_0003_2276_CB73
    assert child_of(leaf, 0, nx_huge_pages=True, exec_allowed=False).spte == 0x0600_0003_2260_0B73
    large = read(0x0600_0004_0000_0BF3, 3, "ept-5.13")
    assert child_of(large, 3, nx_huge_pages=True).spte == 0x0600_0004_0060_0BF3
    tracked = read(0x0650_0003_2260_08F0, 2, "ept-5.13")  # R alone is kept, in bit 54
    assert child_of(tracked, 1, nx_huge_pages=True).spte == 0x0750_0003_2260_1870


def npt_recorded():
    return [case for case in cases_of("spte_bits") if not case["masks"].startswith("EPT")]


def test_children_of_npt_leaves_are_the_recorded_ones():
    assert npt_recorded()
    for case in npt_recorded():
        entry = read(int(case["huge_spte"], 16), case["huge_level"], "npt-7.2")
        assert entry.flaws == (), case["id"]
        for index, spte in case["children"]:
            allowed, nx = "x" in case["role_access"], case["nx_huge_pages"]
            child = child_of(entry, index, exec_allowed=allowed, nx_huge_pages=nx)
            assert child.spte == int(spte, 16), case["id"]


def test_up_to_5_12_a_leaf_has_no_children():
    leaf = read(0x1_2340_0FF7, 2, "ept-5.12")
    assert "Linux up to 5.12 splits none" in why_childless(leaf)
    with pytest.raises(InvalidValueError, match="faults map anew"):
        child_of(leaf, 0)


def test_the_layout_of_7_2_is_the_one_meant():
    assert read_entry(LEAF_2M, 2).layout == EPT_7_2 == LAYOUTS["ept-7.2"]


# ---- children ------------------------------------------------------------------------------------------


def test_children_and_changed_bits_are_the_recorded_ones():
    """Children of huge leaves as the kernel's make_small_spte made them, and the bits it changed."""
    seen = 0
    for case in recorded():
        entry = read_entry(int(case["huge_spte"], 16), case["huge_level"])
        for index, spte in case["children"]:
            child = child_of(
                entry,
                index,
                exec_allowed="x" in case["role_access"],
                nx_huge_pages=case["nx_huge_pages"],
            )
            assert child.spte == int(spte, 16), case["id"]
            assert child.other_bits == int(case["changed_bits_besides_pfn"], 16), case["id"]
            assert child.frame_bits == index << (12 if case["huge_level"] == 2 else 21), case["id"]
            assert child.level == case["huge_level"] - 1
            seen += 1
    assert seen > 100


@pytest.mark.parametrize(
    ("raw", "level", "why"),
    [
        (EMPTY, 2, "not present"),
        (FROZEN, 2, "not present"),
        (MMIO, 2, "not present"),
        (TABLE, 2, "points to a table already"),
        (0x80A0_0001_C8A0_3F37, 1, "a 4K leaf is the smallest there is"),
        (LEAF_2M, 4, "level 4 has no leaves"),
        (0x80A0_0001_C8A0_3FB7, 2, "no 2M leaf starts at such a frame"),
    ],
)
def test_only_a_present_huge_leaf_is_split(raw, level, why):
    entry = read_entry(raw, level)
    assert why_childless(entry).startswith("only a present huge leaf is split; ")
    assert why in why_childless(entry)
    with pytest.raises(InvalidValueError, match=why) as refused:
        child_of(entry, 0)
    assert f"{raw:#018x}" in str(refused.value)


@pytest.mark.parametrize(
    ("index", "error"), [(-1, ValueError), (512, ValueError), (True, TypeError), (1.0, TypeError)]
)
def test_an_index_that_a_table_does_not_have_is_refused(index, error):
    with pytest.raises(error, match=re.escape(str(index))):
        child_of(read_entry(LEAF_2M, 2), index)


@given(RAW)
def test_bit_numbers_are_those_of_the_binary_digits(mask):
    assert bit_numbers(mask) == [63 - at for at, digit in enumerate(f"{mask:064b}") if digit == "1"]


# ---- typed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x80a00001c8a00fb7", LEAF_2M),
        ("80a00001c8a00fb7", LEAF_2M),
        ("0X80A0_0001 C8A0_0FB7 ", LEAF_2M),
        ("0", 0),
        ("0x0", 0),
        ("10", 16),
        ("1e", 0x1E),
        ("0x" + "0" * 40 + "7", 7),
        ("f" * 16, 2**64 - 1),
    ],
)
def test_an_entry_is_typed_in_hexadecimal(text, value):
    assert parse_entry(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "0x",
        "x1",
        "-1",
        "+1",
        "1.0",
        "0x1g",
        "2M",
        "0x1" + "0" * 16,
        "f" * 17,
        "ü",
        "１",
    ],
)
def test_what_is_no_64_bit_number_is_refused_in_words(text):
    with pytest.raises(InvalidValueError, match="hexadecimal"):
        parse_entry(text)


def test_a_long_text_is_cut_in_the_message():
    with pytest.raises(InvalidValueError) as refused:
        parse_entry("g" * 1000)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [7, None, 1.5, b"7"])
def test_only_text_is_parsed(value):
    with pytest.raises(InvalidTypeError, match="typed as text"):
        parse_entry(value)


@pytest.mark.parametrize(
    ("raw", "level", "error"),
    [
        (-1, 1, ValueError),
        (2**64, 1, ValueError),
        (0, 0, ValueError),
        (0, 6, ValueError),
        (0.0, 1, TypeError),
    ],
)
def test_what_is_no_entry_of_a_level_is_refused(raw, level, error):
    with pytest.raises(error):
        read_entry(raw, level)


def test_an_entry_prints_its_set_fields():
    assert repr(read_entry(FROZEN, 2)) == (
        "0x80000000000005a0 at level 2 (2M): frozen; VMX_EPT_SUPPRESS_VE_BIT 0x1, FROZEN_SPTE 0xb4"
    )
    assert repr(read_entry(0, 1)).endswith("non-present; no bit set")


# ---- on the way ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed():
    return Guest("mixed", "plain")


@pytest.mark.parametrize(
    ("at", "wanted", "level", "index", "kind"),
    [
        ("0", 1, 1, 0, "leaf"),
        ("0", 2, 2, 0, "table"),
        ("2M+12K", 1, 1, 3, "leaf"),
        ("4M", 1, 2, 2, "leaf"),  # 2M leaves from 4M to 512M
        ("1G+2M", 1, 3, 1, "leaf"),
        ("1G+2M", 4, 4, 0, "table"),
        ("2G+512M", 2, 2, 256, "table"),
        ("2G+400M", 1, 2, 200, "non-present"),  # 192 leaves of 2M, then a hole
        ("512G", 1, 4, 1, "non-present"),
    ],
)
def test_an_entry_is_found_where_the_layout_says_or_the_way_ends_above(mixed, at, wanted, level, index, kind):
    found = entry_on_the_way(mixed.root, parse_gfn(at), wanted)
    assert (found.level, found.index) == (level, index)
    assert read_entry(found.spte, found.level, X86_4LEVEL).kind == kind


def test_the_way_is_every_entry_from_the_root_down(mixed):
    way = way_to(mixed.root, parse_gfn("2G+512M+8K"))
    assert [(found.level, found.index) for found in way] == [(4, 0), (3, 2), (2, 256), (1, 2)]
    assert [read_entry(found.spte, found.level).kind for found in way] == ["table", "table", "table", "leaf"]


def test_the_way_in_a_td_is_indexed_with_the_shared_bit_in_the_direct_root_alone():
    """S8 and S10: bit 47 of the address is the topmost of the root's index."""
    td = Guest("one-1G", "TD")
    assert way_to(td.kvm.mirror_root, parse_gfn("1G"))[0].index == 0
    assert way_to(td.kvm.direct_root, parse_gfn("1G"))[0].index == 256


@pytest.mark.parametrize(("gfn", "level"), [(-1, 1), (2**36, 1), (0, 5), (0, 0), ("0", 1)])
def test_a_frame_or_level_that_the_root_does_not_have_is_refused(mixed, gfn, level):
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        entry_on_the_way(mixed.root, gfn, level)


def test_five_levels_are_the_default():
    assert read_entry(EMPTY, 5).geometry == X86_5LEVEL


# ---- addresses ----------------------------------------------------------------------------------------

TOYS = st.builds(lambda bits, root: Geometry(bits, root, root), st.integers(1, 9), st.integers(1, 5))


def sliced(gfn: int, geometry: Geometry) -> list[int]:
    """The indices by cutting the binary digits of the address into pieces, as one does by hand."""
    digits = f"{gfn << 12:0{12 + geometry.index_bits * geometry.root_level}b}"[:-12]
    n = geometry.index_bits
    return [int(digits[at : at + n], 2) for at in range(0, len(digits), n)]


@st.composite
def frames(draw):
    geometry = draw(TOYS)
    return draw(st.integers(0, 2 ** (geometry.index_bits * geometry.root_level) - 1)), geometry


@given(frames())
def test_the_indices_are_the_digits_of_the_address_cut_into_pieces(drawn):
    gfn, geometry = drawn
    path = address_path(gfn, geometry)
    assert list(path.indices) == sliced(gfn, geometry)
    assert join_indices(path.indices, geometry) == gfn
    assert [step.level for step in path.steps] == list(range(geometry.root_level, 0, -1))


@pytest.mark.parametrize(("geometry", "bits"), [(X86_4LEVEL, 48), (X86_5LEVEL, 57)])
def test_the_steps_and_the_offset_share_out_the_bits_of_an_address(geometry, bits):
    """S4 and S6: nine bits to a level above the twelve of a frame."""
    path = address_path(0, geometry)
    assert path.address_bits == bits
    assert [(step.high, step.low) for step in path.steps] == [
        (top, top - 8) for top in range(bits - 1, 12, -9)
    ]
    assert [step.label for step in path.steps][-4:] == ["512G", "1G", "2M", "4K"]


@pytest.mark.parametrize(
    ("text", "geometry", "indices"),
    [
        ("2T+4K", X86_4LEVEL, (4, 0, 0, 1)),
        ("2T+4K", X86_5LEVEL, (0, 4, 0, 0, 1)),
        ("1G+2M+12K", X86_4LEVEL, (0, 1, 1, 3)),
        ("256T-4K", X86_4LEVEL, (511, 511, 511, 511)),
        ("256T", X86_5LEVEL, (1, 0, 0, 0, 0)),
        ("0x40000", X86_4LEVEL, (0, 1, 0, 0)),
    ],
)
def test_addresses_worked_by_hand(text, geometry, indices):
    assert address_path(text, geometry).indices == indices


def placed_at(root) -> list[int]:
    """The index at each level at which the one leaf of `root` lies, found by looking through its tables."""
    found, row = [], root.row
    for _ in range(root.geometry.root_level):
        [(index, spte)] = [
            (index, spte) for index, spte in enumerate(root.pool.table(row)) if is_shadow_present_pte(spte)
        ]
        found.append(index)
        row = spte_to_pfn(spte)
    return found


@given(st.integers(0, 2**35 - 1), st.sampled_from([X86_4LEVEL, X86_5LEVEL]))
def test_a_leaf_lies_in_real_tables_where_the_path_says(gfn, geometry):
    kvm = Kvm(KVM_X86_DEFAULT_VM, geometry)
    map_leaf(kvm.direct_root, gfn, 1, 0)
    assert placed_at(kvm.direct_root) == list(address_path(gfn, geometry).indices)


@given(
    st.integers(0, 2**35 - 1), st.sampled_from([X86_4LEVEL, X86_5LEVEL, Geometry(3, 2, 2), Geometry(2, 3, 3)])
)
def test_a_td_holds_a_shared_frame_where_the_path_with_the_shared_bit_says(drawn, geometry):
    gfn = drawn % geometry.shared_bit()
    kvm = Kvm(KVM_X86_TDX_VM, geometry)
    for root in kvm.tdp_mmu_roots:
        map_leaf(root, gfn, 1, 0)
    assert placed_at(kvm.mirror_root) == list(address_path(gfn, geometry).indices)
    assert placed_at(kvm.direct_root) == list(address_path(gfn, geometry, shared=True).indices)


@pytest.mark.parametrize(("geometry", "bit"), [(X86_4LEVEL, 47), (X86_5LEVEL, 51)])
def test_the_shared_bit_is_bit_47_or_51_and_changes_the_roots_index_alone(geometry, bit):
    """S8."""
    private, shared = address_path(0x40203, geometry), address_path(0x40203, geometry, shared=True)
    assert (private.shared_bit, shared.shared_bit) == (None, bit)
    assert geometry.shared_bit() == 1 << bit - 12
    assert shared.gfn == 0x40203 | 1 << bit - 12
    assert private.indices[1:] == shared.indices[1:]
    assert shared.indices[0] - private.indices[0] == 1 << bit - (39 if geometry is X86_4LEVEL else 48)


@pytest.mark.parametrize(
    ("gfn", "shared", "error", "says"),
    [
        (-1, False, InvalidValueError, "at least 0"),
        (2**36, False, InvalidValueError, r"this root holds frames below 0x1000000000 \(256T\)"),
        (2**35, True, InvalidValueError, r"each half of a TD of this shape holds frames below 0x800000000"),
        ("1K", False, InvalidValueError, "no multiple of 4K"),
        (1.5, False, InvalidTypeError, "1.5"),
        (True, False, InvalidTypeError, "True"),
    ],
)
def test_what_is_no_frame_under_the_root_is_refused(gfn, shared, error, says):
    with pytest.raises(error, match=says):
        address_path(gfn, X86_4LEVEL, shared=shared)


@pytest.mark.parametrize(
    ("indices", "error", "says"),
    [
        ([0, 0, 0], InvalidValueError, "4 indices; here are 3"),
        ([0] * 5, InvalidValueError, "4 indices; here are 5"),
        ([0, 0, 0, 512], InvalidValueError, "0 to 511; 512"),
        ([0, -1, 0, 0], InvalidValueError, "0 to 511; -1"),
        ([0, 0.0, 0, 0], InvalidTypeError, "0.0"),
        ([0, True, 0, 0], InvalidTypeError, "True"),
        ("0000", InvalidTypeError, "a list"),
        (None, InvalidTypeError, "a list"),
    ],
)
def test_what_are_no_indices_of_the_root_is_refused(indices, error, says):
    with pytest.raises(error, match=says):
        join_indices(indices)


def test_a_path_prints_its_frame_and_indices():
    assert repr(address_path("2T+4K")) == (
        "frame 0x20000001 (2T+4K): level 4 index 4, level 3 index 0, level 2 index 0, level 1 index 1"
    )
