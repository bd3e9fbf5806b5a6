"""An address taken apart, against its binary digits as text and against the walk of real tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm
from tdpkit.engine.spte import is_shadow_present_pte, spte_to_pfn
from tdpkit.engine.tree import map_leaf
from tdpkit.lab.entries import address_path, join_indices

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
    """Kernel-facts 1.4 and 1.6: nine bits to a level above the twelve of a frame."""
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
    """Kernel-facts 1.8."""
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
