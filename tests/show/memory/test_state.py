"""What a strip of memory shows, against frames counted one by one, and the story of one byte by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.lost_pages import lost_pages
from tdpkit.lab.td import Td
from tdpkit.show.memory import MemoryState, memory_state
from tests.oracles import byframe

ROOM = 40
AWAY = {"TD": "lost", "plain": "refaulted"}


def seen(shown) -> MemoryState:
    state = memory_state(shown)
    assert state is not None
    return state


def kinds(state: MemoryState) -> list[str]:
    """Of each frame; the cells leave none out, and none twice."""
    found = []
    for cell in state.cells:
        assert cell.first == len(found) < cell.last
        found += [cell.kind] * (cell.last - cell.first)
    assert len(found) == state.frames
    return found


def looks(state: MemoryState) -> str:
    """A word for the frames, a letter each: t(here), k(ept), g(one), z(ero), or a dot."""
    return "".join(byte.look[0] if byte else "." for byte in state.bytes)


# ---- by the frame --------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(byframe.cases(frames=(1, ROOM)), byframe.kinds, st.sampled_from(["look", "zap", "split"]))
def test_each_frame_is_of_the_kind_that_counting_says(case, vm, action):
    layout, start, end = case
    before = byframe.Frames(layout)
    after, splits = byframe.after_action(before, start, end, action)
    gone = before.zap(start, end).level if action == "look" else after.level
    made = {at for gfn, level in splits for at in range(gfn, gfn + before.pages(level))}
    expected = []
    for frame in range(layout.frames):
        at_stake = before.level[frame] and not gone[frame] and not start <= frame < end
        if action == "look" and at_stake:
            expected.append("crossing")
        elif frame in made:
            expected.append("split")
        elif after.level[frame]:
            expected.append(f"leaf{after.level[frame]}")
        elif not before.level[frame]:
            expected.append("hole")
        else:
            expected.append("zapped" if start <= frame < end else AWAY[vm])
    guest = Guest(layout, vm)
    outcome = getattr(guest, action)(start, end)
    state = seen(outcome)
    assert kinds(state) == expected
    assert (state.said, state.span) == (repr(outcome), GfnRange(start, end))
    assert state.bad == ("lost" in expected)
    leaves = {(int(gfn), int(gfn) + after.pages(after.level[gfn])) for gfn in after.leaf if gfn >= 0}
    assert set(state.leaves) == leaves
    has_byte = [kind not in ("hole", "zapped") for kind in expected]
    assert [byte is not None for byte in state.bytes] == has_byte
    assert [byte.text for byte in state.bytes if byte] == [
        f"{0x10 + frame:02x}" for frame in range(layout.frames) if has_byte[frame]
    ]


# ---- the story of 15 -----------------------------------------------------------------------------------


def test_in_a_plain_guest_15_stays():
    guest = Guest("eight", "plain")
    assert (kinds(seen(guest)), looks(seen(guest))) == (["leaf2"] * 8, "tttttttt")
    zapped = guest.zap(3, 4)
    assert kinds(seen(zapped)) == ["refaulted"] * 3 + ["zapped"] + ["refaulted"] * 4
    assert (looks(seen(zapped)), seen(zapped).bad) == ("kkk.kkkk", False)
    touched = seen(guest.touch(5))
    assert (kinds(touched)[5], touched.bytes[5], touched.touched, touched.bad) == (
        "leaf1",
        ("15", "there"),
        5,
        False,
    )
    for frame in range(8):
        guest.touch(frame)
    assert (kinds(seen(guest)), looks(seen(guest))) == (["leaf1"] * 8, "tttttttt")


def test_in_a_td_15_is_lost():
    guest = Guest("eight", "TD")
    zapped = guest.zap(3, 4)
    assert kinds(seen(zapped)) == ["lost"] * 3 + ["zapped"] + ["lost"] * 4
    assert (seen(zapped).bytes[5], looks(seen(zapped)), seen(zapped).bad) == (
        ("15", "gone"),
        "ggg.gggg",
        True,
    )
    for touch in (guest.touch(5), guest.touch(5)):
        assert (kinds(seen(touch))[5], seen(touch).bytes[5], seen(touch).bad) == ("pending", None, False)
    accepted = seen(guest.accept(5))
    assert (kinds(accepted)[5], accepted.bytes[5], accepted.bad) == ("leaf1", ("00", "zero"), True)
    assert looks(accepted) == "ggg.gzgg"


def test_what_was_returned_shows_that_moment_whatever_is_done_later():
    guest = Guest("eight", "TD")
    zapped = guest.zap(3, 4)
    before = seen(zapped)
    guest.accept(5)
    guest.reset()
    assert seen(zapped) == before


def test_a_frame_that_was_lost_and_is_taken_on_request_later_is_zapped():
    guest = Guest("eight", "TD")
    guest.zap(3, 4)
    guest.zap(0, 1)  # nothing is there to be zapped: it stays lost
    assert kinds(seen(guest))[0] == "lost"
    guest.accept(0)
    guest.zap(0, 1)
    assert kinds(seen(guest))[0] == "zapped"
    guest.reset()
    assert kinds(seen(guest)) == ["leaf2"] * 8


# ---- guests without bytes ------------------------------------------------------------------------------


def test_a_large_guest_is_a_few_stretches_and_what_is_at_stake_stands_at_the_edges():
    tib, two_mib = 1 << 28, 512
    state = seen(Guest("16T", "TD").look(2 * tib + 1, 14 * tib + 1))
    assert [cell[:3] for cell in state.cells] == [
        (0, 2 * tib, "leaf2"),
        (2 * tib, 2 * tib + 1, "crossing"),
        (2 * tib + 1, 14 * tib + 1, "leaf2"),
        (14 * tib + 1, 14 * tib + two_mib, "crossing"),
        (14 * tib + two_mib, 16 * tib, "leaf2"),
    ]
    assert (state.bytes, state.leaves) == ((), ())


@pytest.mark.parametrize("action", ["look", "zap", "split"])
def test_the_stretches_of_a_guest_without_bytes_are_what_counting_says(action):
    """Two leaves of 1G, the second from 2G on: a range from within the one into the other."""
    gib, start, end = 1 << 18, (1 << 18) + 0x100, 2 * (1 << 18) + 1
    state = seen(getattr(Guest("two-1G", "plain"), action)(start, end))
    marks = {"look": "crossing", "zap": "refaulted"}
    if action == "split":
        assert [cell[:2] for cell in state.cells if cell.kind == "split"] == [
            (gib, 2 * gib),
            (2 * gib, 3 * gib),
        ]
    else:
        assert [cell[:2] for cell in state.cells if cell.kind == marks[action]] == [
            (gib, start),
            (end, 3 * gib),
        ]
    assert state.cells[0][:3] == (0, gib, "hole")


@pytest.mark.slow
def test_a_guest_of_millions_of_leaves_that_was_changed_has_no_picture():
    guest = Guest("16T", "TD")
    assert memory_state(guest) is not None
    assert memory_state(guest.zap(1, 2)) is None
    assert memory_state(guest) is None


# ---- a TD ----------------------------------------------------------------------------------------------


def test_a_td_shows_the_states_of_its_pages():
    td = Td(frames=32, accepted=False)
    assert (kinds(seen(td)), looks(seen(td))) == (["hole"] * 32, "." * 32)
    assert seen(td).caption == "TD of 128K: nothing mapped"
    td.touch(3)
    td.accept(11)
    state = seen(td)
    assert kinds(state) == ["pending"] * 8 + ["hole"] * 3 + ["leaf1"] + ["hole"] * 20
    assert looks(state) == "." * 11 + "t" + "." * 20
    assert state.caption == "TD of 128K: 1 frame accepted, 8 pending"
    assert state.leaves == ((0, 8), (11, 12))
    td.module.mem_range_block(0, 2)
    assert kinds(seen(td))[:8] == ["pending-blocked"] * 8


def test_a_conversion_without_a_split_loses_what_shared_a_leaf_with_it_and_one_with_a_split_nothing():
    td = Td(frames=32)
    td.convert(5, 13, split="none")
    state = seen(td)
    assert kinds(state) == ["lost"] * 5 + ["hole"] * 8 + ["lost"] * 3 + ["leaf2"] * 16
    assert looks(state) == "ggggg" + "." * 8 + "ggg" + "t" * 16
    assert (state.shared, state.bad) == ((GfnRange(5, 13),), True)
    assert state.caption == "TD of 128K: 16 frames accepted, 8 lost, 8 shared"
    td = Td(frames=32)
    td.convert(5, 13, split="v3")
    assert kinds(seen(td)) == ["leaf1"] * 5 + ["hole"] * 8 + ["leaf1"] * 3 + ["leaf2"] * 16
    assert seen(td).said == f"TD of 128K: 24 frames accepted, 8 shared; bytes {td.bytes_in_sight()}"


def test_a_page_that_its_owner_gave_away_is_not_lost():
    td = Td(frames=32, folio_level=1, spans_folios=True)
    td.punch_hole(3, 1)
    assert kinds(seen(td))[:9] == ["lost"] * 3 + ["hole"] + ["lost"] * 4 + ["leaf2"]
    td = Td(frames=32)
    td.gmem.split_folio(3)
    td.memory_failure(3)
    assert kinds(seen(td))[:9] == ["lost"] * 3 + ["hole"] + ["lost"] * 4 + ["leaf2"]
    assert memory_state(Td(TD_4LEVEL, frames=512)) is None, "no room for its bytes"


# ---- a public report -----------------------------------------------------------------------------------


def test_the_lost_pages_lie_on_both_sides_of_what_was_converted():
    state = seen(lost_pages("host page"))
    assert [(cell.first, cell.last, cell.kind) for cell in state.cells] == [
        (0x800, 0x84D, "lost"),
        (0x84D, 0x86E, "leaf2"),
        (0x86E, 0xA00, "lost"),
    ]
    assert (state.first, state.frames, state.span, state.bad) == (0x800, 512, GfnRange(0x84D, 0x86E), True)
    kept = seen(lost_pages())
    assert [cell.kind for cell in kept.cells] == ["leaf1", "leaf1", "hole", "leaf1"]
    assert not kept.bad
