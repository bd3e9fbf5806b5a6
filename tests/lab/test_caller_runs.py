"""M7's four callers, each call with a split and without (S127, S128, S130).

Which frames a caller loses is arithmetic: a leaf has eight frames, and a zap takes whole the leaves that it
touches, so a range loses the rest of the leaves at its edges.
"""

from itertools import combinations

import pytest

from tdpkit.lab.caller_runs import (
    CALLERS,
    CallerRun,
    conversion,
    holes_of_pages,
    larger_runs,
    memory_failure,
    mismatched_accept,
    punch_hole,
    usual_runs,
)

LEAF, FRAMES = 8, 16
RANGES = list(combinations(range(FRAMES + 1), 2))


def besides(start: int, end: int) -> tuple[int, ...]:
    """Frames outside [start, end) under a leaf that it touches."""
    touched = {frame // LEAF for frame in range(start, end)}
    return tuple(f for f in range(FRAMES) if f // LEAF in touched and not start <= f < end)


def cut(start: int, end: int) -> int:
    """Leaves with an edge inside."""
    return len({edge // LEAF for edge in (start, end) if edge % LEAF})


# ---- the callers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_a_conversion_loses_the_rest_of_the_leaves_at_its_edges(start: int, end: int) -> None:
    ran = conversion(start, end)
    assert (ran.lost, ran.splits, ran.mended) == (besides(start, end), cut(start, end), True)
    assert not ran.refused
    assert ran.needs_split is bool(start % LEAF or end % LEAF)


@pytest.mark.parametrize(("start", "end"), RANGES)
def test_a_hole_is_refused_or_loses_nothing_unless_a_mapping_spans_folios(start: int, end: int) -> None:
    ran = punch_hole(start, end)
    assert ran.refused is bool(start % LEAF or end % LEAF)
    assert (ran.lost, ran.splits, ran.needs_split) == ((), 0, False)
    larger = punch_hole(start, end, spans_folios=True)
    assert (larger.refused, larger.lost, larger.mended) == (False, besides(start, end), True)
    assert larger.splits == cut(start, end)
    of_pages = punch_hole(start, end, whole_folios=False)
    assert (of_pages.refused, of_pages.lost, of_pages.mended) == (False, besides(start, end), True)


@pytest.mark.parametrize("page", range(FRAMES))
def test_a_bad_page_takes_its_folio_and_more_only_if_the_mapping_is_larger(page: int) -> None:
    ran = memory_failure(page)
    assert (ran.lost, ran.splits, ran.needs_split) == ((), 0, False)
    larger = memory_failure(page, folio_split=True)
    assert (larger.lost, larger.splits, larger.mended) == (besides(page, page + 1), 1, True)


@pytest.mark.parametrize("gfn", range(FRAMES))
def test_an_accept_of_less_than_is_mapped_is_stuck_without_a_split(gfn: int) -> None:
    ran = mismatched_accept(gfn)
    assert (ran.stuck, ran.lost, ran.splits, ran.mended) == (True, (), 1, True)


@pytest.mark.slow
def test_every_call_is_tried() -> None:
    assert [len(usual_runs(caller)) for caller in CALLERS] == [136, 136, 16, 16]
    assert [len(larger_runs(caller)) for caller in ("punch hole", "memory failure")] == [136, 16]
    assert len(holes_of_pages()) == 136
    words = {ran.words for caller in CALLERS for ran in usual_runs(caller)}
    assert len(words) == 136 + 136 + 16 + 16


def test_a_run_needs_a_split_if_frames_are_lost_or_the_guest_is_stuck() -> None:
    nothing = CallerRun("", False, (), False, True, 0)
    assert not nothing.needs_split
    assert nothing._replace(lost=(3,)).needs_split
    assert nothing._replace(stuck=True).needs_split
