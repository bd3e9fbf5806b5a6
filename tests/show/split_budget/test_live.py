"""What the controls of the split budget are for; what holds for all exhibits is in show/test_exhibit.py."""

from __future__ import annotations

import pytest

from tdpkit.lab.budget import DYNAMIC, PLAIN, TD
from tdpkit.show.split_budget import SplitBudget
from tests.oracles.exhibits import head_of, use, words


def test_it_opens_on_the_toy_with_an_edge_in_a_leaf_at_each_end():
    exhibit = SplitBudget()
    assert exhibit.choice == ("toy", 5, 58, "small", PLAIN, "edges", 1)
    assert words(exhibit) == ""
    assert head_of(exhibit).answer.startswith("The two edges take 2 pages; 2 would do for any range.")


def test_the_thread_s_16_gib_take_two_pages_or_8192():
    exhibit = SplitBudget("x86")
    assert (exhibit.range.start_text.value, exhibit.range.end_text.value) == ("4G+1M", "19G+1023M")
    assert "8 192 pages (32 MiB), 8 190 of them idle" in head_of(exhibit).answer
    exhibit.size_menu.value = "large"
    assert "The two edges take 4 pages" in head_of(exhibit).answer
    assert "8 208 pages (32.1 MiB), 8 204 of them idle" in head_of(exhibit).answer
    exhibit.split_buttons.value = "everything"
    assert exhibit.state.used is None
    assert "takes 8 208 pages" in head_of(exhibit).answer


def test_a_td_takes_a_second_page_and_dynamic_pamt_pairs():
    """By hand: 2 tables and 2 S-EPT pages; 2 pairs for the guest, and one for both S-EPT pages' region."""
    exhibit = SplitBudget()
    for kind, total in ((PLAIN, 2), (TD, 4), (DYNAMIC, 10)):
        exhibit.kind_buttons.value = kind
        assert exhibit.state.budget.need.total == exhibit.state.used.pages.total == total
    exhibit.size_menu.value = "large"
    assert exhibit.state.budget.what_if


def test_designs_of_the_pamt_cache_are_shown_where_there_is_one():
    exhibit = SplitBudget()
    for kind, shown in ((PLAIN, False), (TD, False), (DYNAMIC, True)):
        exhibit.kind_buttons.value = kind
        assert ("designs of the PAMT cache" in exhibit.drawn.body) is shown
        assert ("spinlock, re-check" in exhibit._table()) is shown


def test_the_sizes_are_written_as_the_guest_writes_them():
    exhibit = SplitBudget()
    assert [text for text, _ in exhibit.size_menu.options] == [
        "of 4 frames",
        "of 16 frames",
        "two of 4 frames, the rest of 1 frame",
    ]
    exhibit.guest_menu.value = "x86"
    assert [text for text, _ in exhibit.size_menu.options] == ["of 2M", "of 1G", "two of 2M, the rest of 4K"]


def test_a_dragged_edge_that_meets_a_leaf_s_border_needs_no_page():
    exhibit = SplitBudget()
    use(exhibit, "drag.start", 4)
    assert exhibit.state.budget.need.total == 1
    use(exhibit, "drag.end", 60)
    assert exhibit.state.budget.need.total == 0
    assert "No leaf crosses an edge" in head_of(exhibit).answer


def test_a_guest_keeps_vm_and_split_and_opens_with_its_own_range():
    exhibit = SplitBudget("x86", kind=TD, split="everything", start="4G", end="4G+2M")
    assert exhibit.state.budget.need.total == 2
    exhibit.guest_menu.value = "toy"
    assert exhibit.choice == ("toy", 5, 58, "small", TD, "everything", 1)


@pytest.mark.parametrize("text", ["2G", "1G-4K-1K", "33G", "64E", "banana"])
def test_a_bad_range_leaves_the_last_good_picture(text):
    exhibit = SplitBudget("x86")
    before = exhibit.picture.value
    exhibit.range.end_text.value = text
    assert words(exhibit).startswith("✗ ")
    assert exhibit.picture.value == before
