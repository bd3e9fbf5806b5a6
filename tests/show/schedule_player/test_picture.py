"""The schedule player's markup: marks stand where a schedule that was worked through by hand says."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from itertools import pairwise

import pytest

from tdpkit.lab.schedules import PROPERTIES, SCENARIOS, Setting, explored
from tdpkit.show.drawing import Picture
from tdpkit.show.schedule_player.picture import columns, player_svg, player_table, player_text
from tdpkit.show.schedule_player.state import (
    EVERY,
    FIRST,
    OWN,
    SAMPLES,
    PlayerState,
    player_state,
    schedules_of,
)
from tdpkit.show.theme import LIGHT
from tests.oracles.svgs import SVG, check_all, drawn, extent, texts, tree, written
from tests.show.schedule_player.test_state import IN_HAND, LAST, WITNESS, at

BEGIN, WIDE = 136, 92
"""Of the witness's nine columns: left end, and width of each."""
A, B, TREE, TLB = 146, 204, 266, 324
"""Tops of its lanes."""
NAMES = [*SCENARIOS, "two split, one zaps"]


@cache
def states() -> list[PlayerState]:
    """Each scenario, each of its schedules, at its ends and in between."""
    found = []
    for name in NAMES:
        setting = EVERY[name].setting
        for shown, text in schedules_of(setting).items():
            steps = len(text.split())
            found += [
                player_state(setting, shown, text, step)
                for step in sorted({0, 1, steps // 2, steps - 1, steps})
            ]
    return found


def picture(state: PlayerState) -> Picture:
    return player_svg(state, LIGHT)


def steps_of(low: int, high: int) -> list[int]:
    """The columns of the witness from x to x."""
    assert (low - BEGIN) % WIDE == (high - BEGIN) % WIDE == 0
    return [*range((low - BEGIN) // WIDE, (high - BEGIN) // WIDE)]


def boxes(svg: str, top: int, height: int) -> list[tuple[list[int], str]]:
    """(columns, fill) of the boxes that lie there."""
    found = [rect for rect in drawn(tree(svg), "rect") if rect.get("y") == f"{top}"]
    sized = [rect for rect in found if rect.get("height") == f"{height}"]
    spans = [(int(rect.get("x")), int(rect.get("width")), rect.get("fill")) for rect in sized]
    return [(steps_of(x, x + width), fill) for x, width, fill in spans]


# ---- form --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_word_has_its_place(name):
    """At every other step of what breaks first, at every seventh of the other schedules, and at the last."""
    setting = EVERY[name].setting
    for shown, text in schedules_of(setting).items():
        last = len(text.split())
        for step in {*range(0, last, 2 if shown == FIRST else 7), last}:
            check_all(picture(player_state(setting, shown, text, step)), (name, shown, step))


@pytest.mark.slow
def test_the_picture_does_not_jump_from_step_to_step():
    for name in NAMES:
        setting = EVERY[name].setting
        text = schedules_of(setting)[FIRST]
        heights = {
            picture(player_state(setting, FIRST, text, n)).view[3] for n in range(len(text.split()) + 1)
        }
        assert max(heights) - min(heights) <= 22, "one more line of the legend"


# ---- lanes -------------------------------------------------------------------------------------------------


def test_a_lane_is_shaded_while_its_thread_holds_the_lock():
    """By hand: A from step 2 on, B from 1 to 6; the step that gives the lock up is not shaded."""
    svg = picture(at(LAST))
    shade = LIGHT["hole"]
    assert [span for span, fill in boxes(svg, A, 46) if fill == shade] == [[2, 3, 4, 5, 6, 7, 8]]
    assert [span for span, fill in boxes(svg, B, 46) if fill == shade] == [[1, 2, 3, 4, 5, 6]]


def test_the_write_lock_is_shaded_darker_and_named():
    state = at(4, "A:lock A:read A:store A:read", IN_HAND._replace(lock="exclusive"))
    svg = picture(state)
    fills = [rect.get("fill") for rect in drawn(tree(svg), "rect") if rect.get("height") == "46"]
    assert fills == [LIGHT["paper"], LIGHT["grid"]]
    assert "holds mmu_lock for write" in texts(tree(svg))


def test_each_step_stands_in_its_thread_s_lane_and_its_column():
    svg = tree(picture(at(LAST)))
    for number, word in enumerate(WITNESS.split(), 1):
        thread, token = word.split(":")
        top = {"A": A, "B": B}[thread]
        at_place = [
            text.text
            for text in svg.iter(f"{SVG}text")
            if top < int(text.get("y")) < top + 46 and extent(text)[0] > BEGIN + WIDE * number
            if extent(text)[1] < BEGIN + WIDE * (number + 1)
        ]
        came = ["read", "read", "leaf", "won", "table", "leaf", None, "none split"][number - 1]
        assert at_place == [token, *([came] if came else [])]


def test_a_lost_exchange_is_crossed_out_before_the_tree():
    """Both read the leaf, A is first: B's exchange fails."""
    svg = picture(at(6, "A:lock B:lock A:read B:read A:swap B:swap"))
    assert "lost" in texts(tree(svg))
    bad = re.findall(rf'<path d="([^"]*)" fill="none" stroke="{LIGHT["bad"]}"[^>]*dasharray', svg)
    [line] = bad
    x = BEGIN + min(840 // 7, WIDE) * 6 + min(840 // 7, WIDE) // 2
    assert line.startswith(f"M{x} {B + 46} V")


def test_an_exchange_that_is_won_points_at_the_tree():
    svg = picture(at(LAST))
    x = BEGIN + WIDE * 4 + WIDE // 2
    assert f'd="M{x} {A + 46} V{TREE - 2} ' in svg


def test_the_tree_has_one_leaf_and_after_the_exchange_two():
    svg = picture(at(LAST))
    before, after = [0, 1, 2, 3], [4, 5, 6, 7, 8]
    assert (before, LIGHT["leaf3"]) in boxes(svg, TREE, 44)
    assert boxes(svg, TREE, 22) == [(after, LIGHT["leaf2"])]
    assert boxes(svg, TREE + 22, 22) == [(after, LIGHT["leaf2"])]
    assert {"leaf [0, 4)", "A's table of smaller leaves"} <= {*texts(tree(svg))}


def test_what_a_tlb_may_hold_is_plain_then_owed_then_stale():
    svg = picture(at(LAST))
    kinds = [(span, re.sub(r".*-(\w+)\)", r"\1", fill)) for span, fill in boxes(svg, TLB, 24)]
    assert kinds == [([0, 1, 2, 3], LIGHT["paper"]), ([4, 5, 6, 7], "crossing"), ([8], "lost")]
    assert {"gone, not flushed yet", "stale after a return"} <= {*texts(tree(svg))}


def test_shared_words_have_lanes_with_their_values():
    """By hand: the flag is set before the exchange, at step 4, and at step 8 tested and cleared at once."""
    setting = IN_HAND._replace(flush="flag, atomic")
    text = "A:lock A:read A:set A:swap A:read A:unlock A:test-and-clear A:flush A:return"
    state = at(9, text, setting)
    values = [look.words["dirty"] for look in state.looks]
    assert values == [0] * 3 + [1] * 4 + [0] * 3
    svg = tree(picture(state))
    [name] = written(svg, "dirty")
    y = int(name.get("y"))
    lane = sorted((t for t in svg.iter(f"{SVG}text") if t.get("y") == f"{y}" and t is not name), key=extent)
    assert [text.text for text in lane] == ["0", "1", "0"]


def test_a_mutex_has_a_lane_that_says_whose_it_is():
    setting = SCENARIOS["cache: mutex"].setting
    state = player_state(setting, FIRST, schedules_of(setting)[FIRST], 3)
    svg = tree(picture(state))
    [name] = written(svg, "mutex")
    lane = [text.text for text in svg.iter(f"{SVG}text") if text.get("y") == name.get("y")]
    assert lane == ["mutex", "A", "B"]


# ---- the clash, and where it stands ------------------------------------------------------------------------


def rings(svg: str) -> list[tuple[int, int]]:
    """Left end and top of each ring."""
    found = re.findall(rf'd="M(\d+) (\d+) H[^"]*Z" fill="none" stroke="{LIGHT["bad"]}" stroke-width="3"', svg)
    return [(int(x), int(y)) for x, y in found]


def test_the_two_steps_that_clash_are_ringed_once_they_did():
    assert rings(picture(at(LAST))) == [(BEGIN + 4 * WIDE, A), (BEGIN + 8 * WIDE, B)]
    for step in range(LAST):
        assert rings(picture(at(step))) == []


def test_they_are_joined_in_the_gap_between_the_lanes():
    one, other = (BEGIN + WIDE * step + WIDE // 2 for step in (4, 8))
    assert f'd="M{one} {A + 46} V{B - 6} H{other} V{B}" fill="none" stroke="{LIGHT["bad"]}"' in picture(
        at(LAST)
    )


@pytest.mark.parametrize("step", range(LAST + 1))
def test_the_frame_and_the_track_stand_at_the_present_step(step):
    svg = picture(at(step))
    left, right = BEGIN + WIDE * step, BEGIN + WIDE * (step + 1)
    framed = re.findall(rf'd="M(\d+) \d+ H(\d+) V\d+ H\d+ Z" fill="none" stroke="{LIGHT["ink"]}"', svg)
    assert (f"{left}", f"{right}") in framed
    [track] = svg.tracks
    assert dict(track.knots)[step] == (left + right) // 2
    assert [value for value, _ in track.knots] == [*range(-1, LAST + 2)]
    assert all(one[1] < other[1] for one, other in pairwise(track.knots))
    veils = re.findall(rf'd="M(\d+) [^"]*" fill="{LIGHT["paper"]}" fill-opacity', svg)
    assert veils == ([f"{right + 1}"] if step < LAST else [])


def test_what_is_to_come_is_said_in_grey():
    """Of the TLB: what it holds at 4 to 7 is black from step 4 on."""
    for step in range(LAST + 1):
        svg = tree(picture(at(step)))
        [said] = [
            text for text in svg.iter(f"{SVG}text") if "a flush is owed" in text.text and "gone" in text.text
        ]
        assert said.get("fill") == LIGHT["ink" if step >= 4 else "muted"]


def test_a_long_schedule_is_seen_through_a_window_with_the_present_step_in_it():
    setting = SCENARIOS["shared, generation counters"].setting
    text = schedules_of(setting)[SAMPLES[1]]
    steps = len(text.split())
    assert steps > 32
    for step in range(steps + 1):
        state = player_state(setting, SAMPLES[1], text, step)
        shown = columns(state)
        assert (shown.width, shown.end - shown.first) == (26, 32)
        assert 0 <= shown.first <= step < shown.end <= steps + 1
        assert shown.end == steps + 1 or step <= shown.end - 2, "the next step is in sight"
        assert shown.first == 0 or step > shown.first, "and the one before"
        svg = tree(picture(state))
        assert f"steps {shown.first} to {shown.end - 1} of {steps}" in texts(svg)


# ---- rules, answers, twins ---------------------------------------------------------------------------------


def test_each_rule_says_whether_it_holds_now_and_ever():
    svg = tree(picture(at(LAST)))
    for name, rule in PROPERTIES.items():
        [said] = written(svg, name)
        row = [text.text for text in svg.iter(f"{SVG}text") if text.get("y") == said.get("y")]
        broken = name in ("no misreport", "no stale TLB")
        assert row == [
            name,
            rule,
            *(("broken at step 8", "breaks in 8 steps") if broken else ("holds", "never breaks")),
        ]
    for step, wrong in ((0, []), (LAST, [4, 5])):
        roles = f"{LIGHT['good']}|{LIGHT['bad']}"
        glyph = rf'<path d="M2[45] [^"]*" fill="none" stroke="({roles})" stroke-width="2"/>'
        glyphs = re.findall(glyph, picture(at(step)))
        assert len(glyphs) == len(PROPERTIES)
        assert [number for number, role in enumerate(glyphs) if role == LIGHT["bad"]] == wrong


def test_a_rule_that_breaks_can_be_pressed_where_it_says_so():
    svg = picture(at(LAST, shown="no misreport"))
    assert [(spot.name, spot.chosen) for spot in svg.spots] == [
        ("rule:no misreport", True),
        ("rule:no stale TLB", False),
    ]
    said = written(tree(svg), "breaks in 8 steps")
    for spot, text in zip(svg.spots, said, strict=True):
        left, right = extent(text)
        assert spot.left < left < right < spot.right
        assert spot.top < int(text.get("y")) < spot.bottom


def test_the_answer_says_what_the_step_did_and_what_it_broke():
    assert (
        picture(at(3)).answer
        == "Step 3 of 8: A reads the entry of frame 0, level 3: leaf. ✓ Every rule holds so far."
    )
    assert (picture(at(0)).answer, picture(at(0)).role) == (
        "Before the first step. ✓ Every rule holds so far.",
        "ink",
    )
    broken = picture(at(LAST, shown="no misreport"))
    assert broken.role == "bad"
    assert (
        "✗ no misreport: step 4: A split the leaf [0, 4) during B's call; step 8: B returned" in broken.answer
    )
    assert broken.answer.endswith("Broken too: no stale TLB.")


def test_where_nothing_ever_breaks_the_answer_says_how_much_was_searched():
    setting = IN_HAND._replace(lock="exclusive", flush="own split, locked")
    found = explored(setting)[1]
    state = player_state(setting, FIRST, schedules_of(setting)[FIRST], 1)
    said = f"✓ Nothing breaks: {found.states} states, {found.interleavings} interleavings, explored whole."
    assert picture(state).answer.endswith(said)
    assert picture(state).spots == ()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_shared_lock_is_marked_as_the_api_s_alone(name):
    setting = SCENARIOS[name].setting
    svg = picture(player_state(setting, FIRST, schedules_of(setting)[FIRST], 0))
    marked = any("no caller in the series does it" in text for text in texts(tree(svg)))
    assert marked == (setting.lock == "shared" and setting.use in ("split", "track"))
    planted = any("lanted bug: " in text for text in texts(tree(svg)))
    assert planted == (setting.bug != "none")


def test_the_text_has_a_line_for_each_step_with_tree_and_tlb():
    first, *lines = player_text(at(LAST)).splitlines()
    assert first.startswith(
        "Schedule player: mmu_lock shared, pages in hand, flush if I split. Step 8 of 8: "
    )
    assert lines[0] == "0 the start | tree [0, 4) | TLB what the tree holds"
    assert lines[4] == (
        "4 A compares and exchanges the entry of frame 0, level 3: leaf → table | tree [0, 2) [2, 4) | "
        "TLB [0, 4), gone: a flush is owed"
    )
    assert lines[8].endswith("| TLB [0, 4), stale after a return | ✗ no misreport, no stale TLB")
    assert lines[10] == "The API allows it, no caller in the series does it"


def test_the_table_has_a_row_for_each_step_and_marks_the_present_one():
    table = unescape(player_table(at(5)))
    rows = re.findall(r"<tr.*?</tr>", table)[1:]
    assert len(rows) == LAST + 1
    assert [number for number, row in enumerate(rows) if 'aria-current="step"' in row] == [5]
    assert "A and B for read" in rows[5]
    assert ">A for read<" in rows[7]
    assert ">nobody<" in rows[0]
    assert 'scope="col">words<' not in table, "no policy with words"
    flagged = at(1, "A:lock", Setting(flush="flag, atomic"))
    assert ">dirty 0<" in player_table(flagged)


def test_picture_text_and_table_give_the_same_answer():
    for state in states()[::7]:
        said = picture(state).answer
        assert player_text(state).splitlines()[0].endswith(said)
        assert f"<caption>{said}</caption>" in unescape(player_table(state))


def test_an_own_schedule_is_drawn_as_any_other():
    assert (
        picture(at(LAST, shown=OWN)).answer.split(". ")[0]
        == picture(at(LAST, shown=FIRST)).answer.split(". ")[0]
    )
