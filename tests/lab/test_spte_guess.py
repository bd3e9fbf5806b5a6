"""The layout of values is guessed as one reads it off their digits (S20, S260, S261).

Stale ones turn nothing.
"""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.lab.spte_guess import fits, guess_layout
from tdpkit.lab.spte_layouts import LAYOUTS, layouts_named
from tests.oracles.entries import VALUES, has_flaw, near_values

PRESENT_7_2 = (0x80A0_0001_C8A0_0FB7, 2)
TABLES_5_12 = [(0x4_CD21_0107, 4), (0x2_04C4_0107, 3), (0x2_04C4_1107, 2)]


@pytest.mark.parametrize("row", VALUES, ids=lambda row: f"{row.spte:x}-{row.level}")
def test_each_value_has_the_layout_and_the_others_it_might_have(row):
    guess = guess_layout([(row.spte, row.level)])
    assert guess.layout.name == row.layout
    named = {name for name in LAYOUTS if name in guess.doubt.replace(",", "").split()}
    assert named == set(row.others)
    assert bool(guess.doubt) is bool(row.others)
    assert guess.reason.startswith("the value fits: ")


@pytest.mark.parametrize(
    ("entries", "layout", "count"),
    [
        ([*TABLES_5_12, (0xB_80A0, 5)], "ept-5.12", "3 of 4 values fit"),
        ([(0x8000_0B0E, 3), (0x59C_0027, 2), (0x38_001F_FE01_34D7, 1)], "npt-5.12", "2 of 3 values fit"),
        ([(0, 1), (0x5A0, 1), (0x0600_0003_10AA_1B77, 1)], "ept-5.13", "all 3 values fit"),
        ([PRESENT_7_2, (1 << 63, 1), (0xDEAD_BEEF, 1), (0x1234_5678, 2)], "ept-7.2", "2 of 4 values fit"),
    ],
)
def test_values_that_fit_nothing_turn_nothing_in_any_order(entries, layout, count):
    for order in permutations(entries):
        guess = guess_layout(order)
        assert (guess.layout.name, guess.doubt) == (layout, "")
        assert guess.reason.startswith(count)


def test_a_value_counts_once_however_often_it_comes():
    stale = [(0x1234_5678, 1)] * 100
    assert guess_layout([*stale, PRESENT_7_2]).reason.startswith("1 of 2 values fits")


def test_the_reason_names_what_was_seen():
    def said(*entries):
        return guess_layout(entries).reason

    assert "bits 57 and 58" in said((0x0600_0003_10AA_1B77, 1))
    assert "X comes with bit 10" in said(PRESENT_7_2)
    assert "bits 53 and 55" in said(PRESENT_7_2)
    assert "tables lack bit 11" in said(*TABLES_5_12)
    assert "0x5a0 means frozen" in said((0x5A0, 1))
    assert "3 in bits 53:52" in said((0x1DB0_0000_000B_83B6, 1))
    assert "where page tables have them" in said((0x59C_0027, 2))


def test_a_rarer_reading_is_a_doubt_and_no_rival():
    """R and X, write-through: that is EPT's reading of what NPT has as P, U and A."""
    guess = guess_layout([(0x8B_E217_1025, 1)])
    assert guess.layout.name == "npt-5.12"
    assert guess.doubt == "the value fits ept-5.12 as well, with rarer bits"


def test_only_the_layouts_asked_for_are_taken():
    guess = guess_layout([(0x5A0, 1)], layouts_named("npt"))
    assert (guess.layout.name, guess.doubt) == ("npt-5.13", "")
    assert guess_layout([PRESENT_7_2], [LAYOUTS["ept-5.13"]]).layout.name == "ept-5.13"


def test_without_a_value_or_a_fitting_one_it_says_so():
    assert guess_layout([]).reason == "there is no value to go by"
    guess = guess_layout([(0xDEAD_BEE0, 3)])
    assert (guess.layout.name, guess.reason) == ("ept-7.2", "no value fits any layout")
    assert guess.doubt


@settings(max_examples=400)
@given(near_values(), st.integers(1, 5), st.sampled_from([*LAYOUTS]))
def test_a_value_fits_if_its_digits_have_no_flaw(spte, level, name):
    assert fits(spte, level, LAYOUTS[name]) is not has_flaw(spte, level, name)
