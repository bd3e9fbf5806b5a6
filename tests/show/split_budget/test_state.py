"""The split budget's state: its guests, and what becomes of the blocks around the edges, by hand."""

from __future__ import annotations

import pytest

from tdpkit.engine.gfn import InvalidValueError, parse_gfn
from tdpkit.lab.budget import KINDS, PLAIN, SPLITTING, TD, Pages
from tdpkit.show.split_budget.state import GUESTS, MOST_SPLITS, SIZES, budget_state, layout_for


def blocks(level: int, start: int, end: int, size: str = "large") -> list[tuple[int, int, str]]:
    """On the toy."""
    state = budget_state("toy", size, start, end, PLAIN, "edges")
    return [tuple(block) for block in state.edge_blocks(level)]


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("size", SIZES)
def test_every_frame_of_a_guest_is_mapped_once(guest, size):
    layout = layout_for(guest, size)
    at = 0
    for gfn, level, count, pfn in layout.leaves:
        assert (gfn, pfn) == (at, at)
        at += count * layout.geometry.pages(level)
    assert at == layout.frames == GUESTS[guest].frames
    levels = {"small": [2], "large": [3], "few": [1, 2, 1, 2, 1]}[size]
    assert [run.level for run in layout.leaves] == levels


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", SPLITTING)
@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_opens_on_a_range_whose_edges_both_cross_and_the_engine_agrees(guest, size, split, kind):
    _, _, _, start, end, *_ = GUESTS[guest]
    state = budget_state(guest, size, start, end, kind, split)
    if state.used:
        assert state.used.pages == state.budget.need
    assert (state.used is None) == (guest == "x86" and split == "everything" and size != "few")
    if split == "edges":
        assert state.budget.need.tables == (4 if size == "large" else 2)


def test_blocks_around_edges_on_the_toy():
    """Leaves of 16 and their fours: by hand."""
    assert blocks(3, 5, 58) == [(0, 16, "split"), (48, 64, "split")]
    assert blocks(2, 5, 58) == [(4, 8, "split"), (56, 60, "split")]
    assert blocks(3, 16, 40) == [(16, 32, "multiple"), (32, 48, "split")]
    assert blocks(2, 16, 40) == [(16, 20, "multiple"), (40, 44, "multiple")]
    assert blocks(3, 5, 7) == [(0, 16, "split"), (0, 16, "shared")]
    assert blocks(2, 5, 7) == [(4, 8, "split"), (4, 8, "shared")]
    assert blocks(2, 5, 9) == [(4, 8, "split"), (8, 12, "split")]
    assert blocks(2, 5, 9, "few") == [(4, 8, "split"), (8, 12, "small")]
    assert blocks(2, 21, 22, "few") == [(20, 24, "small"), (20, 24, "small")]


def test_the_16_gib():
    """S133's numbers, and the two edges beside them."""
    _, _, _, start, end, *_ = GUESTS["x86"]
    assert (start, end) == (parse_gfn("4G") + 256, parse_gfn("20G") - 256)
    for size, edges, everything in (("small", 2, 8192), ("large", 4, 8208)):
        two = budget_state("x86", size, start, end, PLAIN, "edges")
        assert (two.budget.need.total, two.budget.whole.total) == (edges, everything)
        assert two.used.pages == Pages(edges, 0, 0, 0)
        assert budget_state("x86", size, start, end, PLAIN, "everything").budget.need.total == everything


def test_the_engine_is_run_up_to_a_bound():
    """By hand: n blocks of 2M from 0 on are n splits."""
    two_m = 512
    at = budget_state("x86", "small", 0, MOST_SPLITS * two_m, TD, "everything")
    assert at.used.pages == Pages(MOST_SPLITS, MOST_SPLITS, 0, 0)
    above = budget_state("x86", "small", 0, MOST_SPLITS * two_m + 1, TD, "everything")
    assert above.used is None
    assert above.budget.need.tables == MOST_SPLITS + 1


def test_a_range_beyond_the_guest_is_refused():
    with pytest.raises(InvalidValueError, match="this guest ends at"):
        budget_state("toy", "small", 0, 65, PLAIN, "edges")
