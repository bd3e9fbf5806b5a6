"""Statuses and leaf numbers, compared with the tables of S163-S164 and S178."""

import pytest

from tdpkit.tdx import abi as tdx_abi
from tdpkit.tdx.abi import Seamcall, is_error, status_name
from tdpkit.tdx.module import SeptState
from tests.oracles.tds import BLOCKED, FREE, PENDING, PENDING_BLOCKED, PRESENT, STATUS


@pytest.mark.parametrize(("name", "upper"), STATUS.items())
def test_a_status_has_its_number_its_name_and_bit_63_if_it_is_an_error(name, upper):
    assert getattr(tdx_abi, name) == upper << 32
    assert status_name(upper << 32) == status_name(upper << 32 | 0x81) == name
    assert is_error(upper << 32) == (upper >= 0x80000000)


def test_every_status_is_listed_and_an_unknown_one_is_shown_in_hex():
    assert {upper << 32: name for name, upper in STATUS.items()} == tdx_abi.STATUS_NAMES
    assert status_name(0xC000BEEF << 32) == "0xc000beef00000000"


def test_seamcalls_have_the_leaf_numbers_of_the_abi():
    assert {str(call): int(call) for call in Seamcall} == {
        "TDH.VP.ENTER": 0,
        "TDH.MEM.SEPT.ADD": 3,
        "TDH.MEM.PAGE.AUG": 6,
        "TDH.MEM.RANGE.BLOCK": 7,
        "TDH.MEM.PAGE.DEMOTE": 15,
        "TDH.PHYMEM.PAGE.RECLAIM": 28,
        "TDH.MEM.PAGE.REMOVE": 29,
        "TDH.MEM.TRACK": 38,
        "TDH.PHYMEM.PAGE.WBINVD": 41,
        "TDH.PHYMEM.PAMT.ADD": 58,
        "TDH.PHYMEM.PAMT.REMOVE": 59,
    }
    assert [state.value for state in SeptState] == [FREE, BLOCKED, PENDING, PENDING_BLOCKED, PRESENT]
