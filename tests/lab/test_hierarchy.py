"""Hierarchies with the shape of public ones: which entries a walk uses, where it ends, what does not fit.

Expectations are read off the digits by hand (S260 to S262), indices off the address.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from tdpkit.lab.entries import read_report

NPT = "gpa 0xfffff000: 8ab3a9d027 level 4, 8ab3af9027 level 3, 8ab3afa027 level 2, 8ab111e025 level 1"
STALE_3 = "addr 0xfe013000: 0x80000b0e level 3, 0x59c0027 level 2, 0x38001ffe0134d7 level 1"
STALE_5 = (
    "addr 0xb80a0: 0xb80a0 level 5, 0xfdd210107 level 4, 0x1104c40107 level 3, 0x1104c41107 level 2, "
    "0x1db00000000b83b6 level 1"
)
MAPPED = (
    "gpa 0x40a000: 0x4ab106907 level 4, 0x4ab105907 level 3, 0x4ab104907 level 2, 0x600000310aa1b77 level 1"
)


def read(text, **said):
    return read_report(text, **said).hierarchy


def used(hierarchy) -> dict[int, bool]:
    return {step.entry.level: step.is_used for step in hierarchy.steps}


def test_four_levels_under_npt_end_in_a_leaf_and_the_depth_is_doubted():
    way = read(NPT)
    assert used(way) == {4: True, 3: True, 2: True, 1: True}
    assert (way.gfn, way.frame, way.misfits) == (0xFFFFF, 0x8AB111E, ())
    assert (
        "begins at level 4 and ends at level 1, in a leaf of 4K: frame 0xfffff is host frame 0x8ab111e"
        in way.ends
    )
    assert way.doubt.startswith("if the fault repeats")
    assert "LA57" in way.doubt


def test_a_host_of_five_levels_walks_past_four_under_npt_but_not_under_ept():
    way = read(NPT, host_levels=5)
    [misfit] = way.misfits
    assert misfit.startswith(
        "wrong depth: on NPT the CPU walks as many levels as the host's page tables have, 5"
    )
    assert way.doubt == ""
    assert not read_report(NPT, host_levels=5).fits
    assert read(NPT, host_levels=4)[-2:] == ((), "")
    assert read(MAPPED, host_levels=5)[-2:] == ((), "")


@pytest.mark.parametrize(
    ("text", "level", "value", "begins", "frame"),
    [(STALE_3, 3, "0x80000b0e", 2, 0xFE013), (STALE_5, 5, "0xb80a0", 4, 0xB8)],
)
def test_a_slot_that_was_never_filled_is_no_part_of_the_walk(text, level, value, begins, frame):
    way = read(text)
    assert used(way) == {at: at <= begins for at in range(1, level + 1)}
    [misfit] = way.misfits
    assert misfit.startswith(
        f"level {level} holds {value}, which is no entry although there are entries below it"
    )
    assert (
        f"begins at level {begins} and ends at level 1, in an MMIO entry for guest frame {frame:#x}"
        in way.ends
    )
    assert way.steps[-1].entry.flaws == ()


def test_an_empty_slot_on_top_is_not_the_end_of_the_walk_below():
    way = read("0 level 5, " + MAPPED.split(": ")[1])
    assert used(way) == {5: False, 4: True, 3: True, 2: True, 1: True}


def test_order_does_not_matter_with_an_address():
    address, entries = MAPPED.split(": ")
    for order in permutations(entries.split(", ")):
        way = read(f"{address}: {', '.join(order)}")
        assert (way.frame, way.misfits) == (0x310AA1, ())


@pytest.mark.parametrize(
    ("text", "ends", "frame", "misfits"),
    [
        # a 2M leaf: the frame is the leaf's and the address's last 9 bits, 0x0a
        (
            "gpa 0x40a123: 4ab106907 level 4, 4ab105907 level 3, 600000322600bf3 level 2",
            "leaf of 2M",
            0x32260A,
            [],
        ),
        ("gpa 0x40a000: 4ab106907 level 4, 4ab105907 level 3, 0 level 2", "level 2, in a hole", None, []),
        ("gpa 0x40a000: 4ab106907 level 4, 4ab105907 level 3, 5a0 level 2", "that is frozen", None, []),
        (
            "gpa 0x40a000: 4ab106907 level 4, 4ab105907 level 3",
            "in a table: its entry, in frame 0x4ab105",
            None,
            [],
        ),
        (MAPPED.replace("0x4ab105907 level 3, ", ""), "leaf of 4K", 0x310AA1, ["level 3 is missing"]),
        (MAPPED + ", 0x600000310aa2b77 level 1", "leaf of 4K", 0x310AA1, ["level 1 is there twice"]),
        (
            MAPPED.replace("0x4ab105907", "0"),
            "level 3, in a hole",
            None,
            ["the walk ends at level 3; levels 2 to 1"],
        ),
        (MAPPED.replace("0x4ab105907", "123458"), "level 3, at a value", None, ["level 3 holds 0x123458"]),
        (MAPPED.replace("0x4ab105907", "123456"), "level 3, at a value", None, ["level 3 holds 0x123456"]),
        (
            "gpa 0x1000000000000: 4ab106907 level 4, 0 level 3",
            "in a hole",
            None,
            ["frame 0x1000000000 (256T) is bey"],
        ),
        (
            "gpa 0xb000: 4ab106907 level 4, 4ab105907 level 3, 4ab104907 level 2, 3e000000a056 level 1",
            "for guest frame 0xa.",
            None,
            ["the MMIO entry stands for guest frame 0xa, and the address is in frame 0xb"],
        ),
    ],
)
def test_where_a_walk_ends_and_what_does_not_fit(text, ends, frame, misfits):
    way = read(text)
    assert ends in way.ends
    assert way.frame == frame
    assert len(way.misfits) == len(misfits)
    assert all(said.startswith(wanted) for said, wanted in zip(way.misfits, misfits, strict=True))


def test_the_place_of_an_entry_is_held_against_the_address_and_the_table_above():
    """Index 2 of level 2 is at byte 0x10 of its table, index 0xa of level 1 at byte 0x50."""
    address, entries = MAPPED.split(": ")
    four, three, two, one = entries.split(", ")
    placed = f"{address}: {four} at 4ab100000, {three} at 4ab106000, {two} at 4ab105010, {one} at 4ab104050"
    assert read(placed).misfits == ()
    assert read(placed.replace("4ab105010", "4ab105018")).misfits == (
        "level 2 is at index 3, the address's is 2",
    )
    assert read(placed.replace("at 4ab104050", "at 4ab107050")).misfits == (
        "level 1 stands in frame 0x4ab107, the entry above leads to 0x4ab104",
    )


def test_a_leaf_on_a_frame_that_is_askew_is_a_flaw_and_all_is_not_well():
    report = read_report("gpa 0x40a000: 4ab106907 level 4, 4ab105907 level 3, 600000322601bf3 level 2")
    assert any("0x322601" in line and "a 2M leaf starts at a multiple" in line for line in report.lines())
    assert not report.fits


DUMP = """\
[  123.456789] get_mmio_spte: reserved bits set on MMU-present spte, addr 0x40a000, hierarchy:
[  123.456791] ------ spte = 0x4ab106907 level = 4, rsvd bits = 0xfff8000000000
[  123.456792] ------ spte = 0x4ab105907 level = 3, rsvd bits = 0xfff8000000000
kvm: ------ spte 0x4ab104907 level 2.
------ spte 0x600000310aa1b77 level 1.
"""


def test_the_kernels_own_dump_is_read_with_and_without_a_logs_prefix():
    way = read(DUMP)
    assert [hex(step.entry.spte) for step in way.steps] == [
        "0x4ab106907",
        "0x4ab105907",
        "0x4ab104907",
        "0x600000310aa1b77",
    ]
    assert (way.gfn, way.frame, way.misfits) == (0x40A, 0x310AA1, ())
