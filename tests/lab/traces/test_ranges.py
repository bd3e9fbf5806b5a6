"""Where an unmap belongs among the guest's frames, against every offset tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.traces.changes import Change, Mapped
from tdpkit.lab.traces.events import Where
from tdpkit.lab.traces.ranges import Judged, Slot, Unmap

HERE = Where(1, 1, "")
SIZES = st.sampled_from([1, 1, 4, 16])
LEAVES = st.lists(
    st.builds(lambda at, pages: Mapped(at * pages, pages, 1000 + at * pages), st.integers(0, 9), SIZES)
)
STARTS = st.integers(0, 120)


def zapped(leaf):
    level = 1 if leaf.pages == 1 else 2
    return Change(HERE, "zap", 0, 0, level, leaf.gfn, 1, 0, False, (level, leaf.gfn))


def unmapped(start, end, leaves):
    unmap = Unmap(HERE, start, end)
    for leaf in leaves:
        unmap.see(zapped(leaf), [leaf])
    return unmap


def possible(start, end, leaves):
    """Each offset at which every leaf has a frame of the range, aligned as the largest."""
    largest = max(leaf.pages for leaf in leaves)
    return [
        offset
        for offset in range(-400, 400)
        if offset % largest == 0
        and all(
            any(start + offset <= gfn < end + offset for gfn in range(leaf.gfn, leaf.gfn + leaf.pages))
            for leaf in leaves
        )
    ]


@given(STARTS, st.integers(1, 40), LEAVES, st.lists(st.integers(-120, 120), max_size=3, unique=True))
def test_an_unmap_is_placed_where_only_one_offset_will_do(start, pages, leaves, before):
    judged = unmapped(start, start + pages, leaves).judged([], before)
    places = possible(start, start + pages, leaves) if leaves else []
    if len(places) != 1:
        places = [offset for offset in before if offset in places]
    assert (judged is not None) == (len(places) == 1)
    if judged:
        low, high = max(0, start + places[0]), start + places[0] + pages
        assert (judged.span, bool(judged.how)) == (GfnRange(low, high), True)
        held = {gfn for leaf in leaves for gfn in range(leaf.gfn, leaf.gfn + leaf.pages)}
        inside = {gfn for span in judged.inside.ranges() for gfn in range(span.start, span.end)}
        assert inside == held & set(range(low, high))


@given(
    st.integers(0, 20),
    st.integers(1, 100),
    LEAVES,
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 90),
)
def test_a_slot_of_the_users_places_it(start, pages, leaves, hva, gfn, size):
    judged = unmapped(start, start + pages, leaves).judged([Slot(hva, gfn, size)], [])
    if hva <= start and (not size or start + pages <= hva + size):
        assert judged
        assert judged.span == GfnRange(start - hva + gfn, start + pages - hva + gfn)
        assert "slot" in judged.how


def test_what_went_is_kept_as_runs():
    unmap = unmapped(0, 10, [Mapped(gfn, 1, 50 + gfn) for gfn in (3, 4, 5, 7)])
    assert unmap.taken == [Mapped(3, 3, 53), Mapped(7, 1, 57)]


def test_a_leaf_that_crosses_an_unmap_loses_the_frames_beside_it():
    """One 4K page of a 2M leaf: 511 frames are taken outside, and one of them comes back."""
    leaf = Mapped(512, 512, 4096)
    judged = unmapped(600, 601, [leaf]).judged([Slot(0, 0)], [])
    assert judged.outside.edges == (512, 600, 601, 1024)
    (crossing,) = judged.crossings.values()
    assert [(step.what, step.outside) for step in crossing.steps] == [("zap", 511)]
    judged.came_back(Change(HERE._replace(line=9), "map", 0, 0, 1, 700, 0, 1, True, (1, 700)))
    assert (judged.back.edges, judged.first_back) == ((700, 701), 9)
    judged.see(zapped(leaf), [leaf])
    assert (judged.back.edges, judged.first_back) == ((), 0)


def test_the_zap_of_other_frames_is_anothers_business():
    """An entry that crosses loses frames outside only: nothing of the range went with them."""
    judged = Judged(GfnRange(10, 20))
    change = Change(HERE, "remove", 0, 0, 2, 0, 1, 0, False, (2, 0))
    judged.see(change, [Mapped(30, 1, 7)])
    assert judged.is_safe
    judged.see(change, [Mapped(31, 1, 7), Mapped(15, 1, 8), Mapped(33, 1, 9)])
    assert (judged.outside.edges, judged.inside.edges) == ((31, 32, 33, 34), (15, 16))


def test_steps_beyond_those_kept_are_counted():
    judged = Judged(GfnRange(10, 20))
    for _ in range(300):
        judged.see(Change(HERE, "map", 0, 0, 2, 0, 0, 1, True, (2, 0)), [])
    (crossing,) = judged.crossings.values()
    assert (len(crossing.steps), crossing.left_out) == (200, 100)
