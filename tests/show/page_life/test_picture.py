"""The conversion stepper's markup: form, room for its words, and that it draws what the view says."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from tdpkit.lab.page_life import PageLife
from tdpkit.lab.page_life.words import ACTORS
from tdpkit.show.drawing import text_width, wrap
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.page_life.picture import PLACES, RAIL, RAIL_LEFT, RAIL_RIGHT, life_svg, tabs
from tdpkit.show.page_life.words import (
    LOG_LINES,
    STATE_LETTERS,
    answer,
    counters,
    life_table,
    life_text,
    log_tail,
    loss,
    pills,
    role,
    title,
)
from tdpkit.show.strips import STRIP_HEIGHT
from tdpkit.show.theme import LIGHT
from tests.oracles.svgs import (
    SVG,
    drawn,
    extent,
    texts,
    tree,
)

STORIES = {
    "v3": {"start": 5, "end": 12},
    "none": {"start": 5, "end": 12, "split": "none"},
    "one frame": {"start": 31, "end": 32, "split": "none"},
    "most": {"start": 1, "end": 31},
    "all": {"start": 0, "end": 32, "split": "head and tail"},
    "refused": {"start": 5, "end": 12, "refuse": 3},
    "as posted": {"start": 5, "end": 12, "refuse": 2, "split": "v3 as posted"},
    "4K": {"start": 3, "end": 6, "folios": "4K"},
    "hole": {"start": 5, "end": 12, "then": "punch hole", "folios": "4K, spanned", "split": "none"},
    "refused hole": {"start": 5, "end": 12, "then": "punch hole", "refuse": 1, "split": "v3 as posted"},
    "x86": {"start": 261, "end": 1280, "machine": "x86"},
    "x86, none": {"start": 1023, "end": 1024, "machine": "x86", "split": "none"},
    "x86, long names": {
        "start": 1541,
        "end": 2047,
        "machine": "x86",
        "then": "punch hole",
        "folios": "4K, spanned",
        "split": "v3 as posted",
        "refuse": 1,
    },
}


@pytest.fixture(scope="module")
def lives():
    return {name: PageLife(**how) for name, how in STORIES.items()}


@pytest.fixture(scope="module")
def cases(lives):
    """(story, step) pairs: all of two stories, some of the others."""
    found = []
    for name, life in lives.items():
        steps = range(len(life.steps))
        if name not in ("v3", "hole"):
            steps = sorted({0, *Random(name).sample(steps, 16), len(life.steps) - 1})
        found += [(name, at) for at in steps]
    return found


@pytest.fixture(scope="module")
def trees(lives, cases):
    return {case: tree(life_svg(lives[case[0]], case[1], LIGHT)) for case in cases}


# ---- form ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_picture_keeps_its_size_whatever_the_story(trees):
    assert len({svg.get("viewBox") for svg in trees.values()}) == 1


def test_a_picture_of_x86_is_runs_and_not_a_box_per_page(lives, cases):
    sizes = [len(life_svg(lives[name], at, LIGHT)) for name, at in cases if name == "x86"]
    assert max(sizes) < 30_000


# ---- what it shows -------------------------------------------------------------------------------------


def test_answer_pills_counters_and_log_are_all_written_out(lives, trees):
    for (name, at), svg in trees.items():
        life, written = lives[name], texts(svg)
        assert title(life) in written
        assert answer(life, at) in " ".join(written)
        for needed in (
            *(text for text, _ in pills(life, at)),
            *(text for counter in counters(life, at) for text in (counter.value, counter.caption)),
            *loss(life, at)[:3],
            *(text for _, text in log_tail(life, at)),
            *ACTORS,
            *life.acts,
        ):
            assert needed in written, (name, at, needed)


def test_the_answer_has_two_lines_at_most(lives, trees):
    for (name, at), svg in trees.items():
        lines = [t for t in svg.iter(f"{SVG}text") if t.get("font-size") == "13" and int(t.get("y")) < 80]
        assert " ".join(line.text or "" for line in lines) == answer(lives[name], at)
        assert len(lines) <= 2
        assert all(extent(line)[1] <= 976 for line in lines)


def test_every_answer_of_every_story_fits_its_two_lines(lives):
    for life in lives.values():
        assert max(len(wrap(answer(life, at))) for at in range(len(life.steps))) <= 2


def boxes(svg: ElementTree.Element, part: str) -> list[tuple[int, int, str]]:
    """(left, right, fill) of what fills a strip."""
    place = str(PLACES[part]), str(STRIP_HEIGHT)
    rects = [r for r in drawn(svg, "rect") if (r.get("y"), r.get("height")) == place]
    return [(int(r.get("x")), int(r.get("x")) + int(r.get("width")), r.get("fill")) for r in rects]


def test_every_strip_is_filled_from_end_to_end_without_a_gap(trees):
    for case, svg in trees.items():
        for part in PLACES:
            found = sorted(boxes(svg, part))
            assert found[0][0] == 24, (case, part)
            assert found[-1][1] == 976
            assert all(one[1] == after[0] for one, after in pairwise(found))


def in_strip(text: ElementTree.Element, part: str) -> bool:
    return PLACES[part] < int(text.get("y")) < PLACES[part] + STRIP_HEIGHT


def at_frame(found: list[tuple[int, int, str]], frame: int) -> str:
    """The fill at the middle of a frame of the toy."""
    x = 24 + (2 * frame + 1) * (976 - 24) // 64
    [fill] = [fill for low, high, fill in found if low <= x < high]
    return fill


def test_each_frame_of_the_toy_is_drawn_in_the_state_it_has(lives, trees):
    hatch = {"PENDING": "pending", "BLOCKED": "blocked", "PENDING_BLOCKED": "pending-blocked"}
    seen = set()
    for (name, at), svg in trees.items():
        life = lives[name]
        if life.machine != "toy":
            continue
        view = life.steps[at].view
        sept, finds = boxes(svg, "sept"), boxes(svg, "finds")
        for frame in range(32):
            run = next((run for run in view.sept if run.gfn <= frame < run.end), None)
            fill = at_frame(sept, frame)
            if run is None:
                assert fill == LIGHT["hole"]
            elif run.state in hatch:
                assert fill.endswith(f"-{hatch[run.state]})")
            else:
                assert fill == LIGHT[f"leaf{run.level}"]
            seen.add(run.state if run else "FREE")
            kind = next(find.kind for find in view.finds if find.gfn <= frame < find.end)
            assert at_frame(finds, frame).endswith("-lost)") == (kind == "lost")
    assert seen == {"FREE", *STATE_LETTERS}


def test_a_state_is_never_told_by_colour_alone(trees):
    """On the toy each leaf of the S-EPT has a letter on it."""
    for (name, _), svg in trees.items():
        if "x86" not in name:
            found = [box for box in boxes(svg, "sept") if box[2] != LIGHT["hole"]]
            letters = [
                int(t.get("x"))
                for t in svg.iter(f"{SVG}text")
                if t.text in STATE_LETTERS.values() and in_strip(t, "sept")
            ]
            for low, high, _ in found:
                assert any(low < x < high for x in letters)


def test_the_bytes_are_written_in_their_frames(lives, trees):
    for (name, at), svg in trees.items():
        view = lives[name].steps[at].view
        row = [
            t.text
            for t in sorted(svg.iter(f"{SVG}text"), key=lambda t: int(t.get("x")))
            if "mono" in t.get("font-family") and in_strip(t, "finds")
        ]
        assert row == list(view.bytes)


def x_of(life: PageLife, frame: int) -> int:
    """The axis is from 24 to 976, whatever the story."""
    return 24 + 952 * min(frame, life.frames) // life.frames


def test_the_entry_that_changes_is_ringed_in_its_strip_and_marked_at_both_ends(lives, trees):
    for (name, at), svg in trees.items():
        life = lives[name]
        said, focus = life.steps[at].said, life.steps[at].focus
        marks = [p.get("d") for p in drawn(svg, "path") if re.match(r"M(8|992) ", p.get("d"))]
        rings = [p for p in drawn(svg, "path") if p.get("stroke-width") == "3" and p.get("d").endswith("Z")]
        assert len(rings) == bool(focus), (name, at)
        if said.part:
            y = PLACES[said.part] + STRIP_HEIGHT // 2
            assert marks == [f"M8 {y - 6} L18 {y} L8 {y + 6} Z", f"M992 {y - 6} L982 {y} L992 {y + 6} Z"]
        else:
            assert marks == []
        for ring in rings:
            low, high = x_of(life, focus[0]), x_of(life, focus[1])
            top = PLACES[said.part or ("finds" if said.actor == "guest" else "sept")]
            assert ring.get("d") == f"M{low} {top} H{max(high, low + 3)} V{top + STRIP_HEIGHT} H{low} Z"
            assert bool(ring.get("stroke-dasharray")) == (not said.part), "dashed: it stays as it is"


def test_the_edges_of_the_range_cross_every_strip_where_their_frames_are(lives, trees):
    for (name, _), svg in trees.items():
        life = lives[name]
        ours = [p for p in drawn(svg, "path") if p.get("stroke") == LIGHT["range"]]
        lines = [p.get("d") for p in ours if p.get("stroke-dasharray") == "3 3"]
        plain = [p.get("d") for p in ours if p.get("stroke-width") == "2" and not p.get("stroke-dasharray")]
        first = [line for line in plain if re.fullmatch(r"M\d+ \d+ V\d+", line)]  # not a tick
        [bracket] = [p.get("d") for p in ours if p.get("stroke-width") == "3"]
        low, high = x_of(life, life.span.start), x_of(life, life.span.end)
        top, *below = PLACES.values()
        axis = top + STRIP_HEIGHT + 6
        for x, line in zip((low, high), lines, strict=True):
            assert re.findall(r"M[^M]+", line) == [f"M{x} {y - 3} V{y + STRIP_HEIGHT + 3}" for y in below]
        assert first == [f"M{x} {top - 3} V{axis}" for x in (low, high)]
        assert re.fullmatch(rf"M{low} \d+ V{axis} H{max(high, low + 2)} V\d+", bracket)


def place(track, value: int) -> int:
    """Where a value lies on a track, as the page's script computes it."""
    [left, right] = next(pair for pair in pairwise(track.knots) if value <= pair[1][0])
    return left[1] + (right[1] - left[1]) * (value - left[0]) // (right[0] - left[0])


def test_the_range_is_dragged_on_the_first_strip_where_its_edges_are_drawn(lives, cases):
    for name, at in cases:
        life = lives[name]
        picture = life_svg(life, at, LIGHT)
        [track] = [track for track in picture.tracks if track.name == "range"]
        assert track.keyed
        assert (track.top, track.knots[0][0], track.knots[-1][0]) == (PLACES["attributes"], 0, life.frames)
        for edge in (life.span.start, life.span.end):
            assert f'd="M{place(track, edge)} {track.top - 3} V{track.bottom + 1}"' in picture
        texts_below = [
            int(text.get("y"))
            for text in tree(picture).iter(f"{SVG}text")
            if int(text.get("y")) > track.bottom and text.text
        ]
        assert min(texts_below) - 9 > track.bottom + 9, "the grips hang above the frames' numbers"


def test_one_goes_to_a_step_where_the_rail_has_its_mark(lives, cases):
    for name, at in cases:
        life = lives[name]
        picture = life_svg(life, at, LIGHT)
        [track] = [track for track in picture.tracks if track.name == "step"]
        count, inside = len(life.steps), rf" {track.top - 3} H(\d+) V{track.bottom - 11} H\d+ Z"
        [mark] = re.findall(rf'd="M(\d+){inside}"', picture)
        assert int(mark[0]) <= place(track, at + 1) < int(mark[1])
        assert [value for value, _ in track.knots] == [1, count]
        # Half a step on either side of a step's place is all of its own, and no other's.
        assert abs(place(track, at + 1) - (RAIL_LEFT + (2 * at + 1) * 484 / (2 * count))) <= 2


def test_the_axis_names_the_frames_below_their_places(lives, trees):
    """Edges that are close make room for each other; the quarters that are left stand at their place."""
    for (name, _), svg in trees.items():
        life, bottom = lives[name], PLACES["attributes"] + STRIP_HEIGHT
        row = [t for t in svg.iter(f"{SVG}text") if bottom < int(t.get("y")) < PLACES["direct"] - 12]
        edges = [t for t in row if t.get("fill") == LIGHT["range"]]
        names = [life.names.frame(edge) for edge in (life.span.start, life.span.end)]
        assert [t.text for t in edges] == names
        for text, edge in zip(edges, (life.span.start, life.span.end), strict=True):
            assert abs(int(text.get("x")) - x_of(life, edge)) <= 44
        quarters = {
            life.names.frame(gfn): x_of(life, gfn) for gfn in range(0, life.frames + 1, life.frames // 4)
        }
        for text in row:
            if text not in edges:
                assert abs(int(text.get("x")) - quarters[text.text]) <= 8


def test_the_leaves_of_a_tree_are_bordered_and_worded_where_the_view_has_them(lives, trees):
    for (name, at), svg in trees.items():
        life = lives[name]
        view = life.steps[at].view
        paths = " ".join(p.get("d") for p in drawn(svg, "path"))
        for part, runs in (("mirror", view.mirror), ("direct", view.direct), ("sept", view.sept)):
            words = {t.text: int(t.get("x")) for t in svg.iter(f"{SVG}text") if in_strip(t, part)}
            frozen = [run for run in runs if run.state == "FROZEN"]
            assert bool({"frozen", "❄"} & set(words)) == bool(frozen), (name, at)
            for run in runs:
                low, high = x_of(life, run.gfn), x_of(life, run.end)
                box = (low, high) in [found[:2] for found in boxes(svg, part)]
                assert box or low == high
                leaf = life.geometry.pages(run.level)
                if high - low >= 3 * (run.pages // leaf) and run.end <= life.frames:
                    for gfn in range(run.gfn + leaf, run.end, leaf):
                        assert f"M{x_of(life, gfn)} {PLACES[part]} V{PLACES[part] + STRIP_HEIGHT}" in paths
                if part != "sept" and run.level == 1 and high - low > 80:
                    count = f"{run.pages} pages"
                    assert abs(words[count] - (low + high) // 2) <= 1 or len(words) < len(runs)


def test_letter_and_glyph_are_those_of_the_leaf_they_stand_on(lives, trees):
    """A tick begins at the middle of the line, the first of three dots one above it, a cross three above."""
    begins, seen = {"A": (0,), "P": (-1,) * 3, "B": (-3,), "PB": (-3,)}, set()
    for (name, at), svg in trees.items():
        runs = lives[name].steps[at].view.sept
        starts = [p.get("d").split(" L")[0].split(" H")[0] for p in drawn(svg, "path")]
        for letter in svg.iter(f"{SVG}text"):
            if letter.text in STATE_LETTERS.values() and in_strip(letter, "sept"):
                x, y = int(letter.get("x")), int(letter.get("y")) - 4
                [run] = [r for r in runs if x_of(lives[name], r.gfn) <= x < x_of(lives[name], r.end)]
                assert letter.text == STATE_LETTERS[run.state]
                for dot, up in enumerate(begins[letter.text]):
                    assert starts.count(f"M{x - 9 + 3 * dot} {y + up}") == 1, (name, at, letter.text)
                seen.add(letter.text)
    assert seen == set(STATE_LETTERS.values())


def test_frames_lost_are_red_and_hatched_and_so_is_the_step_that_loses_them(lives):
    life = lives["none"]
    [at] = [n for n, step in enumerate(life.steps) if step.said.title == "TDH.MEM.PAGE.REMOVE"]
    svg = tree(life_svg(life, at, LIGHT))
    [line, *_] = [t for t in svg.iter(f"{SVG}text") if (t.text or "").startswith(f"Step {at + 1} of")]
    assert line.get("fill") == LIGHT["bad"]
    assert "5 frames of it outside the range: lost" in answer(life, at)
    red = {t.text: t for t in svg.iter(f"{SVG}text") if t.get("fill") == LIGHT["bad"]}
    assert {"5", "frames lost"} <= set(red)
    sizes = [int(t.get("font-size")) for t in svg.iter(f"{SVG}text")]
    assert int(red["5"].get("font-size")) == max(sizes), "the story's one number"
    assert sizes.count(max(sizes)) == 1
    assert sum(fill.endswith("-lost)") for _, _, fill in boxes(svg, "finds")) == 1


def test_the_rail_has_a_mark_for_each_step_in_its_actors_lane_at_its_place(lives, trees):
    for (name, at), svg in trees.items():
        life = lives[name]
        count = len(life.steps)
        wide = max(2, (RAIL_RIGHT - RAIL_LEFT) // count - 2)
        places = [RAIL_LEFT + (RAIL_RIGHT - RAIL_LEFT) * n // count for n in range(count + 1)]
        for lane, actor in enumerate(ACTORS):
            y = RAIL + 34 + 24 * lane + 4
            found = {LIGHT["ink"]: [], LIGHT["grid"]: []}
            for path in drawn(svg, "path"):
                if marks := re.findall(rf"M(\d+) {y} H(\d+) V{y + 14} H\d+ Z", path.get("d")):
                    found[path.get("fill")] = [tuple(map(int, mark)) for mark in marks]
            steps = [n for n, step in enumerate(life.steps) if step.said.actor == actor]
            marks = {n: (places[n] + 1, places[n] + 1 + wide) for n in steps}
            assert found[LIGHT["ink"]] == [mark for n, mark in marks.items() if n <= at], (name, at)
            assert found[LIGHT["grid"]] == [mark for n, mark in marks.items() if n > at]
        for steps, (left, _) in zip(life.acts.values(), tabs(life), strict=True):
            line = f"M{left} {RAIL} V{RAIL + 24} L{places[steps.start]} {RAIL + 34} V{RAIL + 106}"
            assert any(p.get("d") == line for p in drawn(svg, "path"))


def test_an_act_s_name_stands_whole_in_its_tab_and_that_is_what_one_presses(lives, cases):
    for name, at in cases:
        life = lives[name]
        picture = life_svg(life, at, LIGHT)
        svg = tree(picture)
        assert [spot.label for spot in picture.spots] == [f"go to: {act}" for act in life.acts]
        assert [spot.name for spot in picture.spots] == [f"act:{n}" for n in range(1, len(life.acts) + 1)]
        assert [spot.chosen for spot in picture.spots] == [at in steps for steps in life.acts.values()]
        for spot, act in zip(picture.spots, life.acts, strict=True):
            [word] = [
                text
                for text in svg.iter(f"{SVG}text")
                if text.text == act and spot.top < int(text.get("y")) < spot.bottom
            ]
            left, right = extent(word)
            assert spot.left + 3 <= left < right <= spot.right - 3
            assert spot.bottom - spot.top >= 24
        edges = [spot.left for spot in picture.spots] + [picture.spots[-1].right]
        assert (edges[0], edges[-1]) == (RAIL_LEFT, RAIL_RIGHT)
        assert all(one.right == after.left for one, after in pairwise(picture.spots))


def test_an_act_that_is_wide_enough_for_its_name_is_not_widened():
    """Four acts of a quarter each: nobody takes room from another."""
    acts = {"one": range(5), "two": range(5, 10), "three": range(10, 15), "four": range(15, 20)}
    even = SimpleNamespace(acts=acts, steps=[None] * 20)
    assert tabs(even) == [(116, 237), (237, 358), (358, 479), (479, 600)]
    long = "an act with a name that has to be taken room for"
    assert text_width(long, weight=700) + 14 < 484
    narrow = SimpleNamespace(acts={"one": range(19), long: range(19, 20)}, steps=[None] * 20)
    assert tabs(narrow)[1] == (600 - text_width(long, weight=700) - 14, 600)


def test_the_last_answer_says_what_is_lost(lives):
    """By the bytes that the guest wrote and does not read again: 5 + 4 beside [5, 12), 7 beside [31, 32)."""
    for name, lost in (("v3", 0), ("none", 9), ("one frame", 7), ("all", 0), ("hole", 9), ("refused", 0)):
        life = lives[name]
        last = len(life.steps) - 1
        said = answer(life, last)
        where = life.names.span(life.span.start, life.span.end)
        outcome = f"{lost} frames outside {where} are lost" if lost else f"Nothing outside {where} is lost"
        assert said.startswith(f"Step {last + 1} of {last + 1}: {outcome} in the end. ")
        assert role(life, last) == ("bad" if lost else "good")
        assert loss(life, last)[:3] == (str(lost), "frames lost", f"outside {where}")
        assert loss(life, last - 1).note == f"so far; {lost} in the end"
        assert "in the end" not in answer(life, last - 1)
    one = PageLife(0, 7, split="none")
    assert ": 1 frame outside [0, 7) is lost in the end. " in answer(one, len(one.steps) - 1)


HATCH = re.compile(r"-[0-9a-f]{8}-([a-z-]+)\)")


def test_the_legend_names_what_is_drawn_and_nothing_else(lives, trees):
    kinds = {
        "P PENDING": "pending",
        "B BLOCKED": "blocked",
        "PB PENDING_BLOCKED": "pending-blocked",
        "frozen": "zapped",
        "lost": "lost",
    }
    plain = {"A accepted (PRESENT)", "FREE, not mapped"}
    for case, svg in trees.items():
        named = {t.text for t in svg.iter(f"{SVG}text") if int(t.get("y")) > RAIL + 130}
        assert named <= {*kinds, *plain}
        fills = {part: {fill for _, _, fill in boxes(svg, part)} for part in PLACES}
        for words, kind in kinds.items():
            hatched = any(
                re.search(rf"-[0-9a-f]{{8}}-{kind}\)", fill) for fill in set().union(*fills.values())
            )
            assert (words in named) == hatched, (case, words)
        leaves = {LIGHT["leaf1"], LIGHT["leaf2"]}
        assert ("A accepted (PRESENT)" in named) == bool(fills["sept"] & leaves), case
        assert ("FREE, not mapped" in named) == any(LIGHT["hole"] in fill for fill in fills.values()), case


@pytest.mark.slow
def test_no_text_is_smaller_than_twelve_units(lives, cases):
    assert {life_svg(lives[name], at, LIGHT).smallest for name, at in cases} == {12}


def test_the_newest_line_of_the_log_is_marked_where_the_step_made_it(lives, trees):
    for (name, at), svg in trees.items():
        life = lives[name]
        made = life.steps[at].calls > (life.steps[at - 1].calls if at else 0)
        bars = [r for r in drawn(svg, "rect") if r.get("width") == "4" and r.get("fill") == LIGHT["ink"]]
        assert len(bars) == made
        for bar in bars:
            numbers = [t for t in svg.iter(f"{SVG}text") if RAIL < int(t.get("y")) < RAIL + 120]
            [last] = [
                t
                for t in numbers
                if t.text == f"{life.steps[at].calls}"
                and t.get("text-anchor") == "end"
                and int(t.get("x")) > RAIL_RIGHT
            ]
            assert int(bar.get("y")) < int(last.get("y")) < int(bar.get("y")) + int(bar.get("height"))


def test_the_log_shows_its_last_lines_newest_last(lives):
    life = lives["v3"]
    at = next(n for n, step in enumerate(life.steps) if step.said.title == "TDH.MEM.PAGE.DEMOTE")
    assert [text for _, text in log_tail(life, at)][-4:] == [
        "TDH.MEM.RANGE.BLOCK 0, level 2",
        "TDH.MEM.TRACK",
        "TDH.VP.ENTER vCPUs 0 and 1",
        "TDH.MEM.PAGE.DEMOTE 0, level 2",
    ]
    assert log_tail(life, 0) == []
    whole = PageLife(0, 512, machine="x86")  # one leaf of 2M goes: 512 calls, one line (S161)
    at = next(n for n, step in enumerate(whole.steps) if "WBINVD" in step.said.title)
    assert log_tail(whole, at)[-2:] == [
        (f"{whole.steps[at].calls - 512}", "TDH.MEM.PAGE.REMOVE 0, 2M"),
        (f"{whole.steps[at].calls}", "512 × TDH.PHYMEM.PAGE.WBINVD"),
    ]
    for one in lives.values():
        for step in range(len(one.steps)):
            lines = log_tail(one, step)
            assert len(lines) <= LOG_LINES
            numbers = [int(number) for number, _ in lines]
            assert numbers == sorted(numbers)
            assert numbers[-1:] == [one.steps[step].calls][: len(numbers)]


# ---- the twins -----------------------------------------------------------------------------------------


def test_the_table_is_well_formed_and_its_current_row_is_the_step(lives):
    for life in lives.values():
        for at in (0, len(life.steps) // 2, len(life.steps) - 1):
            steps, now = ElementTree.fromstring(life_table(life, at)).findall("table")
            [here] = [row for row in steps.iter("tr") if row.get("aria-current") == "step"]
            said = [cell.text or "" for cell in here]
            step = life.steps[at]
            assert said[:5] == [
                str(at + 1),
                step.act,
                step.said.actor,
                step.said.title,
                step.said.sentence,
            ]
            assert answer(life, at) in steps.find("caption").text
            rows = {row.find("th").text: row.find("td").text for row in now.iter("tr")}
            assert {"S-EPT", "mirror tree", "direct tree", "the guest finds"} <= set(rows)
            if step.view.bytes:
                assert rows["the guest reads"] == " ".join(step.view.bytes)


def test_the_text_says_what_the_picture_says(lives, cases):
    for name, at in cases[::4]:
        life = lives[name]
        said, view = life_text(life, at), life.steps[at].view
        counted = [f"{counter.value} {counter.caption}" for counter in counters(life, at)]
        assert said.startswith(f"{title(life)}. {answer(life, at)}\n")
        for needed in (*(text for text, _ in pills(life, at)), *loss(life, at)[:3], *counted):
            assert needed in said
        for run in view.sept:
            assert f"{life.names.span(run.gfn, run.end)} " in said
            assert run.state in said


def test_picture_and_text_say_where_faults_are_retried(lives):
    """S196: [5, 12), and the blocks of eight at its edges, which no leaf forbids yet."""
    life = lives["v3"]
    at = next(n for n, step in enumerate(life.steps) if step.view.invalidating)
    note = "invalidation: faults on [0, 16) are retried"
    assert note in texts(tree(life_svg(life, at, LIGHT)))
    assert note in life_text(life, at)
    assert "are retried" not in life_text(life, at - 1)


def test_pictures_of_different_steps_differ():
    stepper = PageLifeStepper()
    shown = set()
    for step in range(1, len(stepper.life.steps) + 1):
        stepper.show(step=step)
        shown.add(life_svg(stepper.life, stepper.at, LIGHT, "ids"))
    assert len(shown) == len(stepper.life.steps)
