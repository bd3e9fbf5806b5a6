"""One S-EPT entry: its state and its bits."""

import pytest

from tdpkit.engine.gfn import InvalidValueError
from tdpkit.tdx.module import SeptState, make_sept_leaf, sept_state
from tests.oracles import brute
from tests.oracles.tds import BLOCKED, FREE, PENDING, PENDING_BLOCKED, PRESENT


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("state", [BLOCKED, PENDING, PENDING_BLOCKED, PRESENT])
def test_a_leaf_keeps_its_frame_and_its_state_and_is_rwx_only_where_present(level, state):
    for pfn in (0, 0x1C8A00, (1 << 40) - 1):
        entry = make_sept_leaf(pfn, level, SeptState(state))
        assert sept_state(entry) == state
        assert entry & brute.FRAME == pfn << 12
        assert entry & 7 == (7 if state == PRESENT else 0)
        assert (bool(entry & brute.PRESENT), bool(entry & brute.LARGE)) == (True, level > 1)


def test_what_is_not_present_is_free_and_a_table_is_present():
    assert sept_state(brute.HOLE) == sept_state(brute.FROZEN) == FREE
    assert sept_state(brute.LINK | 77 << 12) == PRESENT


def test_a_leaf_that_is_free_or_has_no_frame_is_refused():
    with pytest.raises(InvalidValueError, match="0x40 in state FREE"):
        make_sept_leaf(64, 1, SeptState.FREE)
    with pytest.raises(InvalidValueError, match="40 bits; 0x10000000000 does not fit"):
        make_sept_leaf(1 << 40, 1, SeptState.PRESENT)
