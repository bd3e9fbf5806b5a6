"""Numbers, ranges and how people write them. Expected: arithmetic, and the table of S3."""

import doctest
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine import gfn as gfn_module
from tdpkit.engine.gfn import (
    X86_4LEVEL,
    X86_5LEVEL,
    Geometry,
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
    align_down,
    align_up,
    as_integer,
    check_gfn,
    format_gfn,
    name_gfn,
    parse_gfn,
    tdp_mmu_max_gfn_exclusive,
)
from tdpkit.engine.gfn import FrameSet as FrameSet

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
GFNS = st.integers(0, 2**52 - 1)

# ---- alignment -----------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.sampled_from([1, 2, 4, 8, 64, 256]))
def test_align_down_and_up_find_the_nearest_multiples(x, n):
    multiples = [m for m in range(700) if m % n == 0]
    assert align_down(x, n) == max(m for m in multiples if m <= x)
    assert align_up(x, n) == min(m for m in multiples if m >= x)


@given(st.integers(0, 2**64), st.integers(0, 45))
def test_alignment_is_exact_for_large_addresses_too(x, bits):
    n = 2**bits
    assert align_down(x, n) % n == 0
    assert 0 <= x - align_down(x, n) < n
    assert align_up(x, n) % n == 0
    assert 0 <= align_up(x, n) - x < n


@pytest.mark.parametrize("n", [0, 3, 6, 511, -4])
@pytest.mark.parametrize("align", [align_down, align_up])
def test_an_alignment_that_is_no_power_of_two_is_refused(align, n):
    with pytest.raises(InvalidValueError, match=rf"power of two.*{n} is not"):
        align(100, n)


# ---- text to numbers and back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gfn"),
    [
        ("0", 0),
        ("0x200", 0x200),
        ("0X2aF", 0x2AF),
        ("512", 512),
        ("4097", 4097),
        ("010", 10),
        ("4K", 1),
        ("2M", 512),
        ("2M+4K", 513),
        ("1G-4K", 0x3FFFF),
        ("2T+4K", 2**29 + 1),
        ("2M+0x3", 515),
        ("0x3+2M-1", 514),
        ("3K+1K", 1),
        ("  2 T + 4 K ", 2**29 + 1),
        ("262_144", 262144),
        ("0x4_0000", 262144),
        ("2m", 512),
        ("1g+4k", 0x40001),
        ("1GiB", 2**18),
        ("1gib", 2**18),
        ("1GB", 2**18),
        ("1P", 2**38),
        ("+5", 5),
        ("16384P-4K", 2**52 - 1),
    ],
)
def test_an_address_is_a_frame_number_or_a_size_or_a_sum_of_them(text, gfn):
    assert parse_gfn(text) == gfn


@pytest.mark.parametrize(
    ("text", "value", "rule"),
    [
        ("", "empty", "write 0x200"),
        (" \t", "empty", "write 0x200"),
        ("_", "empty", "write 0x200"),
        ("banana", "'banana'", "no frame number"),
        ("1.5G", "'1.5G'", "no address"),
        ("2M+", "'2M+'", "no address"),
        ("--1", "'--1'", "no address"),
        ("1G--4K", "'1G--4K'", "no address"),
        ("2^21", "'2^21'", "no address"),
        ("٣", "'٣'", "no address"),
        ("0x", "'0x'", "no frame number"),
        ("0xfg", "'0xfg'", "no frame number"),
        ("1e3", "'1e3'", "no frame number"),
        ("M", "'M'", "no frame number"),
        ("1E", "'1E'", "no size"),
        ("2M+x", "'2M+x'", "no frame number"),
        ("3K", "'3K' is 0xc00 bytes", "no multiple of 4K"),
        ("2M+1K", "'2M+1K' is 0x200400 bytes", "no multiple of 4K"),
        ("-1", "'-1'", "below 0"),
        ("4K-2M", "'4K-2M'", "below 0"),
        ("16384P", "'16384P'", "beyond a 64-bit address"),
        ("0x10000000000000", "'0x10000000000000'", "beyond a 64-bit address"),
        ("0" * 22 + "512", "0" * 22 + "512", "too long"),
        ("9" * 25, "9" * 25, "too long"),
        ("9" * 5000, "9" * 37 + "...", "too long"),
    ],
)
def test_text_that_names_no_frame_is_refused_with_value_and_rule(text, value, rule):
    with pytest.raises(InvalidValueError) as refusal:
        parse_gfn(text)
    assert value in str(refusal.value)
    assert rule in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_the_examples_of_the_docstrings_run():
    """parse_gfn has one, and format_gfn its inverse."""
    assert doctest.testmod(gfn_module) == (0, 2)


def test_a_number_may_have_24_characters():
    """64 bits are 20 decimal digits: what is longer is zeros or too large."""
    assert parse_gfn("0" * 21 + "512") == parse_gfn("0x" + "0" * 19 + "200") == 512


@pytest.mark.parametrize("text", [512, None, 2.0, b"2M", ["2M"]])
def test_an_address_that_is_no_text_is_refused(text):
    with pytest.raises(InvalidTypeError, match="typed as text"):
        parse_gfn(text)


@given(GFNS)
def test_a_formatted_address_reads_back_as_the_same_frame(gfn):
    assert parse_gfn(format_gfn(gfn)) == gfn
    assert parse_gfn(f"{gfn:#x}") == gfn
    assert parse_gfn(str(gfn)) == gfn


@given(GFNS)
def test_a_formatted_address_has_each_unit_once_and_no_unit_too_full(gfn):
    """Otherwise 2T+4K would come out as 2048G+4K, or as 2T+2K+2K."""
    terms = [(int(term[:-1]), term[-1]) for term in format_gfn(gfn).split("+") if term != "0"]
    assert [unit for _, unit in terms] == sorted((unit for _, unit in terms), key=UNITS.get, reverse=True)
    assert len({unit for _, unit in terms}) == len(terms)
    assert all(0 < number < 1024 or unit == "P" for number, unit in terms)
    assert sum(number * UNITS[unit] for number, unit in terms) == gfn * 4096


TERMS = st.tuples(st.sampled_from("+-"), st.integers(0, 2**20), st.sampled_from(["", *UNITS]))


@given(st.lists(TERMS, min_size=1, max_size=4))
def test_a_sum_is_accepted_exactly_when_it_is_a_frame_of_a_64_bit_address(terms):
    size = sum((1 if sign == "+" else -1) * number * UNITS.get(unit, 4096) for sign, number, unit in terms)
    text = "".join(f"{sign}{number}{unit}" for sign, number, unit in terms)
    if 0 <= size < 2**64 and size % 4096 == 0:
        assert parse_gfn(text) == size // 4096
    else:
        with pytest.raises(InvalidValueError):
            parse_gfn(text)


@pytest.mark.parametrize(
    ("gfn", "text"), [(0, "0"), (1, "4K"), (513, "2M+4K"), (2**29 + 1, "2T+4K"), (2**52 - 1, None)]
)
def test_a_name_is_hex_and_human(gfn, text):
    human = text or "16383P+1023T+1023G+1023M+1020K"
    assert format_gfn(gfn) == human
    assert name_gfn(gfn) == f"0x{gfn:x} ({human})"


# ---- ranges --------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 16))
def test_a_range_is_the_set_of_its_frames(start, length, gfn, size):
    span, members = GfnRange(start, start + length), set(range(start, start + length))
    assert span.pages == len(members)
    assert {frame for frame in range(100) if frame in span} == members
    assert span.overlap(gfn, size) == len(members & set(range(gfn, gfn + size)))


def test_a_range_may_be_empty_and_says_where_it_is():
    assert GfnRange(7, 7).pages == 0
    assert str(GfnRange(512, 2**29 + 1)) == "[2M, 2T+4K)"
    assert GfnRange.parse("1G+1M", "2G") == GfnRange(0x40100, 0x80000)


def test_a_reversed_range_is_refused_with_both_ends_in_hex_and_human_units():
    with pytest.raises(InvalidValueError, match=r"0x400 \(4M\) is above end 0x200 \(2M\)"):
        GfnRange(0x400, 0x200)


@pytest.mark.parametrize(
    ("start", "end", "what"), [(-1, 5, "the start"), (-9, -1, "the start"), (0, -512, "the end")]
)
def test_a_negative_end_of_a_range_is_refused(start, end, what):
    with pytest.raises(InvalidValueError, match=f"{what} is at least 0"):
        GfnRange(start, end)


def test_inside_and_outside_of_a_range_are_counted_frame_by_frame():
    for start, end, gfn, pages in product(range(5), range(5), range(5), range(4)):
        if start <= end:
            span, frames = GfnRange(start, end), set(range(gfn, gfn + pages))
            parts = span.outside(gfn, pages)
            outside = [frame for part in parts for frame in range(part.start, part.end)]
            assert span.overlap(gfn, pages) == len(frames & set(range(start, end)))
            assert outside == sorted(frames - set(range(start, end)))
            assert all(part.pages for part in parts)


NO_INTEGERS = [True, 1.0, "5", None, 1j, np.float64(1), np.bool_(True), np.array([1, 2]), np.array(1.0)]


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
def test_what_is_no_whole_number_is_refused_as_a_frame(value):
    """NumPy's own complaint about an array would name neither the rule nor the argument."""
    for build in (lambda: GfnRange(value, 5), lambda: GfnRange(0, value), lambda: check_gfn(value)):
        with pytest.raises(InvalidTypeError, match="whole numbers"):
            build()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64, np.array])
def test_numpy_integers_become_python_integers(kind):
    """A uint64 that stayed one would wrap below zero, an int8 above 127."""
    span = GfnRange(kind(5), kind(100))
    assert (span.start, span.end) == (5, 100)
    assert type(span.start) is type(span.end) is int
    assert type(as_integer(kind(5), "x")) is type(check_gfn(kind(5))) is int
    assert type(X86_4LEVEL.check_start(kind(5))) is type(X86_4LEVEL.level(kind(2)).number) is int


# ---- geometry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "label", "per_entry", "per_table"),
    [
        (1, "4K", 1, 512),
        (2, "2M", 512, 262_144),
        (3, "1G", 262_144, 134_217_728),
        (4, "512G", 134_217_728, 2**36),
        (5, "256T", 2**36, 2**45),
    ],
)
def test_the_levels_of_x86_are_those_of_the_fact_sheet(level, label, per_entry, per_table):
    assert X86_5LEVEL.level(level) == (level, per_entry, label)
    assert X86_5LEVEL.pages(level) == per_entry
    assert X86_5LEVEL.pages(level) * X86_5LEVEL.entries == per_table


def test_a_4_level_root_spans_48_address_bits_and_a_5_level_root_57():
    assert X86_4LEVEL.root_pages * 4096 == 2**48
    assert X86_5LEVEL.root_pages * 4096 == 2**57
    assert (X86_4LEVEL.max_leaf_level, X86_5LEVEL.max_leaf_level) == (3, 3)
    assert tdp_mmu_max_gfn_exclusive() == 0xFFFFFFFFFF + 1


@pytest.mark.parametrize(
    ("bits", "labels"),
    [(1, ["4K", "8K", "16K", "32K"]), (2, ["4K", "16K", "64K", "256K"]), (3, ["4K", "32K", "256K", "2M"])],
)
def test_the_levels_of_a_toy_carry_their_own_sizes(bits, labels):
    geometry = Geometry(bits, 4, 3)
    assert [geometry.level(number).label for number in range(1, 5)] == labels


@given(st.integers(1, 9), st.integers(1, 5), st.data())
def test_index_and_rounding_are_division_with_remainder(bits, root_level, data):
    geometry, width = Geometry(bits, root_level, 1), 2**bits
    level = data.draw(st.integers(1, root_level))
    gfn = data.draw(st.integers(0, 2 * width**root_level))
    assert geometry.entries == width
    assert geometry.pages(level) == width ** (level - 1)
    assert geometry.root_pages == width**root_level
    assert geometry.index(gfn, level) == gfn // width ** (level - 1) % width
    assert geometry.gfn_round_for_level(gfn, level) == gfn - gfn % width ** (level - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 2), "index_bits is from 1 to 9; 0"),
        ((10, 3, 2), "index_bits is from 1 to 9; 10"),
        ((2, 0, 1), "root_level is from 1 to 5; 0"),
        ((2, 6, 1), "root_level is from 1 to 5; 6"),
        ((2, 3, 0), "max_leaf_level is from 1 to 3; 0"),
        ((2, 3, 4), "max_leaf_level is from 1 to 3; 4"),
        ((-1, 3, 2), "index_bits is from 1 to 9; -1"),
    ],
)
def test_a_shape_that_no_table_can_have_is_refused(arguments, message):
    with pytest.raises(InvalidValueError, match=message):
        Geometry(*arguments)


@pytest.mark.parametrize("arguments", [(2.0, 3, 2), (2, "3", 2), (2, 3, None), (True, 3, 2)])
def test_a_shape_in_anything_but_whole_numbers_is_refused(arguments):
    with pytest.raises(InvalidTypeError, match="whole numbers"):
        Geometry(*arguments)


def test_a_shape_given_in_numpy_integers_is_kept_in_python_integers():
    """64-bit arithmetic overflows at the first split of a leaf whose entry has bit 63."""
    geometry = Geometry(np.int64(9), np.int8(4), np.uint64(3))
    assert geometry == X86_4LEVEL
    numbers = (geometry.index_bits, geometry.root_level, geometry.max_leaf_level, geometry.root_pages)
    assert {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("number", [0, 5, -1, 2**70])
def test_an_unknown_level_is_refused(number):
    with pytest.raises(InvalidValueError, match=rf"a level is from 1 to 4 under this root; {number}"):
        X86_4LEVEL.level(number)


@pytest.mark.parametrize("number", [2.0, "2", True, None])
def test_a_level_that_is_no_whole_number_is_refused(number):
    with pytest.raises(InvalidTypeError, match="a level is counted in whole numbers"):
        X86_4LEVEL.level(number)


def test_a_start_beyond_the_root_is_refused_with_the_limit():
    assert X86_4LEVEL.check_start(2**36 - 1) == 2**36 - 1
    with pytest.raises(InvalidValueError) as refusal:
        X86_4LEVEL.check_start(2**36)
    assert "below 0x1000000000 (256T); 0x1000000000 (256T) is beyond it" in str(refusal.value)


# ---- a set of frames -----------------------------------------------------------------------------------

FRAMES = 64
SPANS = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, 20)).map(
    lambda of: GfnRange(of[0], min(FRAMES, of[0] + of[1]))
)
STORES = st.lists(st.tuples(SPANS, st.booleans()), max_size=8)


def frames(span: GfnRange) -> set[int]:
    return set(range(span.start, span.end))


def stored(attributes: FrameSet, stores) -> set[int]:
    """Make the stores; the private frames, as a set."""
    private: set[int] = set()
    for span, to_private in stores:
        attributes.store(span, to_private)
        private = private | frames(span) if to_private else private - frames(span)
    return private


@pytest.mark.slow
@settings(max_examples=300)
@given(STORES, SPANS)
def test_stores_in_any_order_leave_what_a_set_of_frames_has(stores, span):
    attributes = FrameSet()
    private = stored(attributes, stores)
    assert {gfn for gfn in range(FRAMES + 5) if gfn in attributes} == private
    inside = private & frames(span)
    assert attributes.has(span, True) is (inside == frames(span))
    assert attributes.has(span, False) is (not inside)
    assert attributes.uniform(span) is (not inside or inside == frames(span))


@settings(max_examples=200)
@given(STORES)
def test_ranges_are_in_order_apart_and_hold_the_private_frames(stores):
    attributes = FrameSet()
    private = stored(attributes, stores)
    spans = attributes.ranges()
    assert [gfn for span in spans for gfn in range(span.start, span.end)] == sorted(private)
    assert all(span.pages for span in spans)
    assert all(one.end < other.start for one, other in pairwise(spans))


def test_at_first_every_frame_is_shared():
    attributes = FrameSet()
    assert attributes.has(GfnRange(0, 1 << 40), False)
    assert attributes.ranges() == []
