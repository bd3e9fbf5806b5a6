"""Pictures, texts and tables of the walk stepper: words, and marks where the state says."""

import re
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from xml.etree import ElementTree

import pytest

from tdpkit.engine.gfn import Geometry
from tdpkit.lab.layouts import layout_of
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.worlds import RACES, Faults
from tdpkit.show.drawing import Track
from tdpkit.show.theme import LIGHT
from tdpkit.show.walk import WalkStepper
from tdpkit.show.walk.live import OPENINGS
from tdpkit.show.walk.picture import walk_svg, walk_table, walk_text
from tdpkit.show.walk.predict import options_at
from tdpkit.show.walk.state import WalkState, walk_state
from tdpkit.show.walk.words import walk_words
from tests.oracles.svgs import (
    SVG,
    check_form,
    check_inside,
    check_texts_apart,
    drawn,
    extent,
    texts,
    tree,
)


def opening(layout: str, **how: object) -> SplitCall:
    return WalkStepper(layout, **how).call


def calls() -> dict[str, SplitCall]:
    """Every opening in both forms, and the toy under every difficulty."""
    found = {name: opening(name) for name in OPENINGS}
    found |= {
        f"{name}, plain": opening(name, only_cross_boundary=False) for name in ("steps", "toy", "large")
    }
    found |= {f"steps, {race}": opening("steps", race=race, race_at=1) for race in RACES if race != "none"}
    found["steps, a page left over"] = opening("steps", race="drop_split", race_at=3)
    found["steps, refused"] = opening("steps", refuse_page=2)
    found["steps, resched"] = opening("steps", resched_at=7, shared=False)
    found["steps, to 16K"] = opening("steps", only_cross_boundary=False, target_level=2)
    found["empty"] = SplitCall("steps", 6, 6)
    found["nothing"] = SplitCall("steps", 0, 0)
    found["beyond the root"] = SplitCall("steps", 5, 1000)
    found["beyond the guest"] = SplitCall("one-1G", 5 << 18, 1 << 40)
    found["two levels"] = SplitCall("eight", 3, 4)
    return found


@pytest.fixture(scope="module")
def states():
    """Every step of the short calls, some of the long ones, with what is to come shown and hidden."""
    found = {}
    for name, call in calls().items():
        steps = range(len(call.steps))
        if len(steps) > 70:
            steps = sorted({0, 1, *Random(name).sample(steps, 12), len(steps) - 1})
        for at in steps:
            found[name, at, False] = walk_state(call, at)
            if at % 7 == 0:
                found[name, at, True] = walk_state(call, at, hidden=True)
    return found


@pytest.fixture(scope="module")
def trees(states):
    return {case: tree(walk_svg(state, LIGHT)) for case, state in states.items()}


@pytest.fixture(scope="module")
def words(states):
    return {case: walk_words(state) for case, state in states.items()}


# ---- form ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_there_are_pictures_of_every_kind_of_step(states):
    kinds = {state.rail.kinds[at] for (_, at, _), state in states.items()}
    visited = {"start", "visit", "drop", "resched", "page", "refused", "retake", "store", "split", "lost"}
    assert kinds == visited | {"fail", "other", "free", "return"}
    assert {state.whole for state in states.values()} == {True, False}


@pytest.mark.slow
def test_nothing_is_drawn_outside_the_picture(trees):
    for case, svg in trees.items():
        check_inside(svg, case)
        width, height = map(int, svg.get("viewBox").split()[2:])
        for disc in drawn(svg, "circle"):
            x, y, r = (int(disc.get(name)) for name in ("cx", "cy", "r"))
            assert r <= x <= width - r, case
            assert r <= y <= height - r, case


@pytest.mark.slow
def test_the_picture_keeps_its_height_from_step_to_step(trees):
    """A picture that grows and shrinks makes the page jump under the learner's hand."""
    for name in {name for name, _, _ in trees}:
        boxes = {svg.get("viewBox") for (of, _, _), svg in trees.items() if of == name}
        assert len(boxes) == 1, name


# ---- what it shows -------------------------------------------------------------------------------------


def test_answer_code_log_locks_counters_and_legend_are_all_written_out(states, words, trees):
    for case, said in words.items():
        written = texts(trees[case])
        check_form(trees[case], said.title, said.answer)
        assert said.title in written
        assert said.answer in " ".join(written)
        for needed in (
            *(text for _, _, text in said.code),
            *(text for _, text in said.log),
            *(text for text, _ in said.pills),
            *(text for pair in said.counters for text in pair),
            *(name for _, name in said.legend),
            *[said.totals] * bool(said.totals),
            *(said.edges if states[case].whole else ()),
        ):
            assert needed in written, (case, needed)


def badges(svg: ElementTree.Element) -> list[int]:
    """The visits that have a number in the tree."""
    return [number for number, _ in discs(svg).values()]


def discs(svg: ElementTree.Element) -> dict[tuple[int, int], tuple[int, str]]:
    """(x, y) of each disc with a number in it: the number and the disc's fill."""
    numbers = {(t.get("x"), int(t.get("y")) - 4): t.text for t in svg.iter(f"{SVG}text")}
    fills = {
        (int(disc.get("cx")), int(disc.get("cy"))): disc.get("fill")
        for disc in drawn(svg, "circle")
        if disc.get("r") == "10"
    }
    return {(x, y): (int(numbers[f"{x}", y]), fill) for (x, y), fill in fills.items()}


def test_every_visit_so_far_has_its_number_on_the_toy(states, trees):
    """Twelve visits in all (S230), no entry more than twice."""
    for (name, at, hidden), state in states.items():
        if name == "steps":
            visits = state.rail.kinds[: at + 1].count("visit")
            assert sorted(badges(trees[name, at, hidden])) == list(range(1, visits + 1))
    assert max(max(badges(svg), default=0) for (name, _, _), svg in trees.items() if name == "steps") == 12


def test_where_there_is_no_room_the_latest_visits_have_their_numbers(trees):
    """An entry of 40 units has room for two badges; the level 2 entry at 4 is visited at 2, 4 and 5."""
    last = max(at for of, at, _ in trees if of == "steps, cas_dirty_clear")
    assert sorted(badges(trees["steps, cas_dirty_clear", last, False])) == [1, *range(3, 14)]


def test_the_current_line_of_the_code_is_marked(words, trees):
    for case, state in words.items():
        bold = {
            text.text
            for text in trees[case].iter(f"{SVG}text")
            if "mono" in text.get("font-family")
            and int(text.get("x")) > 688
            and text.get("font-weight") == "700"
        }
        marked = {text for key, _, text in state.code if key == state.code_key}
        assert marked
        assert marked <= bold
        assert not bold & {text for key, _, text in state.code if key != state.code_key}


def test_what_is_to_come_is_pale_or_hidden(states, trees):
    """Steps after the current one lie under a sheet of paper; in predict mode they are not there at all."""
    for case, state in states.items():
        covers = [p for p in drawn(trees[case], "path") if p.get("fill-opacity") == ".62"]
        assert len(covers) == (0 if state.hidden or state.at == len(state.rail.kinds) - 1 else 1), case
        if state.hidden:
            assert len(state.rail.kinds) == state.at + 1
            total = len(states[case[0], 0, False].rail.kinds)
            assert f"of {total}" not in " ".join(texts(trees[case]))


def test_a_long_call_is_ticks_and_runs_not_a_box_per_step(states):
    """1 291 visits; and strips of 512 entries."""
    sizes = {case: len(walk_svg(state, LIGHT)) for case, state in states.items() if case[0] == "mixed"}
    assert len(states["mixed", 0, False].rail.kinds) > 1000
    assert max(sizes.values()) < 40_000


# ---- places: where the marks stand ----------------------------------------------------------------------
#
# Trees and rails are drawn from 24 to 664. A toy of 64 frames is whole: 10 units are a frame. The tracks of
# the rail go from 120 to 658.


def row_of(svg: ElementTree.Element, level: int) -> int:
    """The top of a level's boxes: its name stands 6 or 7 above them."""
    [y] = [
        int(text.get("y"))
        for text in svg.iter(f"{SVG}text")
        if re.match(rf"level {level} · \d+\w? (frames? )?(each|per)", text.text or "")
    ]
    return y + (6 if f"level {level} · " in text_at(svg, 658, y) else 7)


def text_at(svg: ElementTree.Element, x: int, y: int) -> str:
    found = (text for text in svg.iter(f"{SVG}text") if (text.get("x"), text.get("y")) == (f"{x}", f"{y}"))
    return next((text.text or "" for text in found), "")


def outlines(svg: ElementTree.Element, role: str, width: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of each box drawn with such a line."""
    shape = re.compile(r"M(\d+) (\d+) H(\d+) V(\d+) H\1 Z")
    return [
        tuple(map(int, found.groups()))
        for path in drawn(svg, "path")
        if (path.get("stroke"), path.get("stroke-width")) == (LIGHT[role], str(width))
        and (found := shape.fullmatch(path.get("d")))
    ]


def boxes(svg: ElementTree.Element, height: int, **like: str) -> list[tuple[int, int, int]]:
    """(left, right, top) of each rect of this height whose fill ends so."""
    return [
        (int(rect.get("x")), int(rect.get("x")) + int(rect.get("width")), int(rect.get("y")))
        for rect in drawn(svg, "rect")
        if rect.get("height") == str(height) and rect.get("fill").endswith(like.get("fill", ""))
    ]


def tips(svg: ElementTree.Element, role: str, shape: str) -> list[tuple[int, int]]:
    """Where each filled mark of `role` and `shape` begins."""
    found = (re.match(shape, path.get("d")) for path in drawn(svg, "path") if path.get("fill") == LIGHT[role])
    return [(int(match[1]), int(match[2])) for match in found if match]


POINTER = r"M(\d+) (\d+) L\d+ \d+ H\d+ Z$"
DIAMOND = r"M(\d+) (\d+) L\d+ \d+ L\d+ \d+ L\d+ \d+ Z$"


def toys(states):
    return {case: state for case, state in states.items() if state.call.geometry.root_pages == 64}


def test_the_ring_is_around_the_entry_at_which_the_walk_stands(states, trees):
    seen = set()
    for case, state in toys(states).items():
        step, svg = state.step, trees[case]
        standing = step.level and step.kind not in ("start", "free", "return")
        expected = []
        if standing:
            top, size = row_of(svg, step.level), state.call.geometry.pages(step.level)
            expected = [(24 + 10 * step.gfn, top, 24 + 10 * (step.gfn + size), top + 44)]
        assert outlines(svg, "ink", 4) == expected, case
        seen.add((standing, step.level))
    assert {(True, 3), (True, 2)} <= seen


def test_the_ring_of_a_large_machine_is_on_the_strip_of_its_level(trees):
    """The visit of the second 2M leaf at 1G, then one far on; a table of 512 entries is 640 units wide."""
    for at, left in ((19, 24 + 640 // 512), (400, 24 + 640 * 382 // 512)):
        svg = tree(walk_svg(walk_state(opening("one-1G"), at), LIGHT))
        top = row_of(svg, 2)
        assert outlines(svg, "ink", 4) == [(left, top, left + 3, top + 24)]
        assert {top for _, top, _, _ in outlines(svg, "ink", 2)} >= {row_of(svg, 4), row_of(svg, 3)}


@pytest.mark.slow
def test_each_badge_is_on_the_entry_of_its_visit(states, trees):
    """The badges of an entry lie about its middle; that of the last visit is dark."""
    for case, state in toys(states).items():
        svg = trees[case]
        visits = [step for step in state.call.steps[: state.at + 1] if step.kind == "visit"]
        drawn_at = discs(svg)
        dark = [number for number, fill in drawn_at.values() if fill == LIGHT["ink"]]
        assert dark == [len(visits)] * bool(visits)
        on: dict[tuple[int, int], list[int]] = {}
        for (x, y), (number, _) in drawn_at.items():
            step = visits[number - 1]
            assert row_of(svg, step.level) < y < row_of(svg, step.level) + 44
            on.setdefault((step.gfn, step.level), []).append(x)
        for (gfn, level), found in on.items():
            middle = 24 + 10 * gfn + 5 * state.call.geometry.pages(level)
            assert abs(sum(found) / len(found) - middle) <= 1, (case, gfn, level)


@pytest.mark.slow
def test_every_entry_is_drawn_where_its_frames_are(states, trees):
    """Of the boxes over the middle of a frame the last one drawn is seen."""
    for case, state in toys(states).items():
        svg, at_end = trees[case], state.call.geometry.root_level
        for strip, level in zip(state.strips, range(at_end, 0, -1), strict=True):
            row = [(low, high) for low, high, top in boxes(svg, 44) if top == row_of(svg, level)]
            kinds = [
                next(cell.kind for cell in strip.cells if cell.first <= gfn < cell.last)
                if any(cell.first <= gfn < cell.last for cell in strip.cells)
                else ""
                for gfn in range(64)
            ]
            for kind in ("crossing", "split"):
                hatched = [box for box in boxes(svg, 44, fill=f"-{kind})") if box[2] == row_of(svg, level)]
                covered = {gfn for gfn in range(64) if any(a <= 29 + 10 * gfn < b for a, b, _ in hatched)}
                assert covered == {gfn for gfn in range(64) if kinds[gfn] == kind}, (case, level)
            assert {gfn for gfn in range(64) if any(a <= 29 + 10 * gfn < b for a, b in row)} == {
                gfn for gfn in range(64) if kinds[gfn]
            }


def test_levels_that_the_walk_does_not_go_down_to_say_so(states, trees):
    for case, state in states.items():
        said = [text for text in texts(trees[case]) if text.endswith(", never visited")]
        below = range(state.call.target_level, 0, -1)
        assert [text.split(" · ")[0] for text in said] == [f"level {level}" for level in below], case


def test_what_was_visited_of_a_large_machine_has_a_bar_below_it():
    """Kai's range: the first entry of the root, of its table the second, and in the end all of that one's."""
    call = opening("one-1G")
    svg = tree(walk_svg(walk_state(call, len(call.steps) - 1), LIGHT))
    bars = [(low, high, top) for low, high, top in boxes(svg, 4, fill=LIGHT["ink"])]
    below = {level: row_of(svg, level) + 27 for level in (4, 3, 2)}
    assert bars == [(24, 64, below[4]), (64, 104, below[3]), (24, 664, below[2])]


def test_edges_goal_and_range_are_at_their_frames(states, trees):
    for case, state in toys(states).items():
        svg, span = trees[case], state.call.span
        ends = [24 + 10 * min(frame, 64) for frame in (span.start, span.end)]
        dashed = [path.get("d") for path in drawn(svg, "path") if path.get("stroke-dasharray") == "3 3"]
        assert [int(re.match(r"M(\d+) ", d)[1]) for d in dashed] == ends, case
        wide = [path for path in drawn(svg, "path") if path.get("stroke-width") == "3"]
        [bracket] = [path.get("d") for path in wide if path.get("stroke") == LIGHT["range"]]
        low, high = re.match(r"M(\d+) \d+ V\d+ H(\d+) V", bracket).groups()
        assert [int(low), int(high)] == [ends[0], max(ends[1], ends[0] + 2)], case
        goal, now = tips(svg, "ink", POINTER)
        assert goal[0] == 24 + 10 * min(state.step.goal, 64), case
        assert goal[1] < now[1], "the goal's stands at the axis, the other at the rail"


def track_of(state: WalkState, name: str) -> Track:
    [track] = [track for track in walk_svg(state, LIGHT).tracks if track.name == name]
    return track


def place(knots: Sequence[tuple[int, int]], value: int) -> int:
    """Where the page's script puts `value`: between two knots values lie evenly."""
    for (low, left), (high, right) in pairwise(knots):
        if low <= value <= high:
            return left + (right - left) * (value - low) // (high - low)
    raise AssertionError(f"{value} is not on the track")


def test_the_range_is_dragged_where_its_edges_are_drawn(states, trees):
    """On the axis under the tree, which is linear in a large machine too."""
    for case, state in states.items():
        frames = state.call.geometry.root_pages if state.whole else state.call.layout.frames
        if state.span.end > frames:
            continue  # no exhibit shows these
        track = track_of(state, "range")
        assert track.keyed
        wide = [path for path in drawn(trees[case], "path") if path.get("stroke-width") == "3"]
        [bracket] = [path.get("d") for path in wide if path.get("stroke") == LIGHT["range"]]
        low, y, high = map(int, re.match(r"M(\d+) \d+ V(\d+) H(\d+) V", bracket).groups())
        assert place(track.knots, state.span.start) == low == 24 + 640 * state.span.start // frames
        assert max(place(track.knots, state.span.end), low + 2) == high
        assert track.bottom - track.top == 24, "a target for a finger"
        assert track.top < y < track.bottom


def test_steps_seen_before_are_on_the_rail_when_one_goes_back():
    """Predicted up to step 7, back at 3: the veil lies over four, and the cursor may go there."""
    state = walk_state(opening("steps"), 2, hidden=True, seen=6)
    assert len(state.rail.kinds) == 7
    svg = tree(walk_svg(state, LIGHT))
    assert len([p for p in drawn(svg, "path") if p.get("fill-opacity") == ".62"]) == 1
    # 24 cells in 538 units; half a cell more on either side takes the pointer.
    knots = track_of(state, "step").knots
    assert [value for value, _ in knots] == [*range(9)]
    assert [x for _, x in knots[1:-1]] == [120 + (538 * n // 24 + 538 * (n + 1) // 24) // 2 for n in range(7)]
    said = [row[0].text for row in ElementTree.fromstring(walk_table(state)).iter("tr")][1:]
    assert said == [*"1234567"]


@pytest.mark.parametrize("layout", ["steps", "large"])
def test_each_answer_can_be_pressed_where_its_entry_is(layout):
    """Also where there is no table yet: a dashed box says where the entry would be."""
    call = opening(layout)
    for at in range(len(call.steps)):
        state, options = walk_state(call, at, hidden=True), options_at(call, at)
        picture = walk_svg(state, LIGHT, options=options)
        svg = tree(picture)
        assert [spot.name for spot in picture.spots] == [f"answer:{n}" for n in range(len(options))]
        dashed = [p.get("d") for p in drawn(svg, "path") if p.get("stroke-dasharray") == "4 3"]
        for spot, option in zip(picture.spots, options, strict=True):
            assert (spot.label, spot.chosen) == (option.text, None)
            if option.place is None:
                [over] = [t for t in svg.iter(f"{SVG}text") if t.text == "the call is over"]
                assert spot.left < extent(over)[0] < extent(over)[1] < spot.right
                assert spot.top < int(over.get("y")) < spot.bottom
                inset = 0
            else:
                level, gfn = option.place
                left, top = 24 + 10 * gfn, row_of(svg, level)
                assert spot[2:6] == (left, top, left + 10 * call.geometry.pages(level), top + 44)
                inset = 3 if level > 1 else 1
            low, up, high, down = (
                spot.left + inset,
                spot.top + inset,
                spot.right - inset,
                spot.bottom - inset,
            )
            assert f"M{low} {up} H{high} V{down} H{low} Z" in dashed


def test_entries_too_narrow_to_press_are_no_spots():
    """Frames of a machine of 256 are two and a half units wide; a large machine's are not all in sight."""
    wide = SplitCall(layout_of(Geometry(2, 4, 4), 256, (0, 1, 4), (4, 2, 63)), 6, 9)
    pressed = {}
    for call in (wide, opening("two-1G")):
        for at in range(len(call.steps) - 1):
            options = options_at(call, at)
            least = min(option.place[0] for option in options if option.place)
            picture = walk_svg(walk_state(call, at, hidden=True), LIGHT, options=options)
            pressed.setdefault((call is wide, least), set()).add(len(picture.spots))
    assert pressed.pop((True, 1)) == {0}, "single frames are among the answers"
    assert {whole for whole, _ in pressed} == {True, False}
    assert all((0 in numbers) is not whole for (whole, _), numbers in pressed.items())


@pytest.mark.slow
def test_no_text_is_small(states):
    """At 12 units it may shrink to 11 pixels."""
    assert {walk_svg(state, LIGHT).smallest for state in states.values()} == {12}


def test_a_legend_lists_only_what_is_drawn(states, trees):
    for case, state in states.items():
        names = {"retake", "store"}
        listed = names & {*texts(trees[case])}
        long = len(state.rail.kinds) > 44  # ticks, in rows with names of their own
        assert listed == (set() if long else names & {*state.rail.kinds}), case


def test_each_mark_of_the_rail_is_at_its_step(states, trees):
    """Dots are visits, diamonds splits, triangles the other thread; the hatch is where a lock is not held."""
    for case, state in states.items():
        steps, svg, call = len(state.rail.kinds), trees[case], state.call
        if steps > 40:
            continue
        room = max(steps, 24 if state.hidden else 2)

        def x(step: int, room: int = room) -> int:
            return 120 + 538 * step // room

        def at(*kinds: str, x=x, call=call, steps=steps) -> list[int]:
            found = [n for n, step in enumerate(call.steps[:steps]) if step.kind in kinds]
            return [(x(n) + x(n + 1)) // 2 for n in found]

        [events] = [int(t.get("y")) - 4 for t in svg.iter(f"{SVG}text") if t.text == "events"]
        dots = [d for d in drawn(svg, "circle") if (d.get("r"), d.get("cy")) == ("4", f"{events}")]
        assert [int(dot.get("cx")) for dot in dots] == at("visit"), case
        assert [x for x, y in tips(svg, "split-mark", DIAMOND) if y == events - 6] == at("split"), case
        others = [x + 6 for x, y in tips(svg, "bad", r"M(\d+) (\d+) L\d+ \d+ L\d+ \d+ Z$") if y == events + 5]
        assert others == at("other"), case
        dashes = [box for box in boxes(svg, 3) if (box[1] - box[0], box[2]) == (10, events - 1)]
        assert [(low + high) // 2 for low, high, _ in dashes] == at("drop", "resched"), case
        for name, flag in (("mmu_lock", "held"), ("RCU", "rcu")):
            [y] = [int(t.get("y")) - 9 for t in svg.iter(f"{SVG}text") if t.text == name]
            gaps = [box for box in boxes(svg, 11, fill="-crossing)") if box[2] == y]
            without = {n for n, step in enumerate(call.steps[:steps]) if not getattr(step, flag)}
            middles = {n: (x(n) + x(n + 1)) // 2 for n in range(steps)}
            assert {n for n, middle in middles.items() if any(a <= middle < b for a, b, _ in gaps)} == without


def test_the_rail_says_where_the_call_is_now(states, trees):
    for case, state in states.items():
        steps = max(len(state.rail.kinds), 24 if state.hidden else 2)
        low, high = (120 + 538 * n // steps for n in (state.at, state.at + 1))
        x, _ = tips(trees[case], "ink", POINTER)[-1]
        assert x == (low + high) // 2, case
        track = track_of(state, "step")
        assert abs(place(track.knots, state.at + 1) - x) <= 1, "a cell of less than 12 units is a tick"
        assert all(value < len(state.rail.kinds) + 1 for value, _ in track.knots[:-1])
        [frame] = [one for one in outlines(trees[case], "ink", 2) if one[3] - one[1] == 76]
        assert frame[0] <= x <= frame[2]
        assert abs(frame[2] - frame[0] - max(high - low, 6)) <= 1


# ---- room for the words --------------------------------------------------------------------------------


def test_no_two_texts_of_a_line_run_into_each_other(trees):
    for case, svg in trees.items():
        check_texts_apart(svg, case)


def test_the_answer_has_two_lines_at_most_and_ends_inside_the_picture(words, trees):
    for case, state in words.items():
        lines = [
            t for t in trees[case].iter(f"{SVG}text") if t.get("font-size") == "13" and int(t.get("y")) < 90
        ]
        assert " ".join(line.text or "" for line in lines) == state.answer
        assert len(lines) <= 2, case
        assert all(extent(line)[1] <= 976 for line in lines), case


def test_code_and_log_stay_in_their_boxes(trees):
    """Both lie between 688 and 976."""
    for case, svg in trees.items():
        for text in svg.iter(f"{SVG}text"):
            if int(text.get("x")) >= 688 and text.get("text-anchor") == "start":
                assert extent(text)[1] <= 976, (case, text.text)


# ---- the whole -----------------------------------------------------------------------------------------


def test_pictures_of_different_steps_differ(states):
    for name in ("steps", "mixed"):
        shown = [
            walk_svg(state, LIGHT) for (of, _, hidden), state in states.items() if of == name and not hidden
        ]
        assert len(set(shown)) == len(shown)


# ---- the text twins ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_is_well_formed_and_its_current_row_is_the_step():
    for name, call in calls().items():
        for at in {0, len(call.steps) // 2, len(call.steps) - 1}:
            table = ElementTree.fromstring(walk_table(walk_state(call, at)))
            rows = [[cell.text or "" for cell in row] for row in table.iter("tr")]
            assert rows[0] == ["step", "event", "entry", "mmu_lock", "RCU", "visits", "splits"]
            [here] = [row for row in table.iter("tr") if row.get("aria-current") == "step"]
            step = call.steps[at]
            said = [cell.text or "" for cell in here]
            assert said[0] == str(at + 1), name
            assert said[3:5] == ["held" if step.held else "dropped", "held" if step.rcu else "not held"]
            assert [int(cell.replace(" ", "")) for cell in said[5:]] == [step.visits, step.splits]
            numbers = [int(row[0]) for row in rows[1:]]
            assert all(after == before + 1 for before, after in pairwise(numbers))
            assert len(numbers) <= 25
            assert walk_words(walk_state(call, at)).answer.split(": ", 1)[1] in table.find("caption").text


def test_the_table_hides_what_the_picture_hides():
    call = opening("steps")
    table = ElementTree.fromstring(walk_table(walk_state(call, 8, hidden=True)))
    numbers = [row[0].text for row in table.iter("tr")][1:]
    assert numbers == [str(n) for n in range(1, 10)]
    assert "29" not in "".join(table.itertext())


def test_the_text_starts_with_the_answer_and_ends_with_the_kernels_trace_lines():
    """Formats of S220-S221; the first leaf split is the level 2 one at frame 4."""
    call = opening("steps")
    at = next(n for n, step in enumerate(call.steps) if step.kind == "split")
    state = walk_state(call, at)
    lines = walk_text(state).split("\n")
    said = walk_words(state)
    assert lines[0] == f"{said.title}. {said.answer}"
    assert lines[1] == "mmu_lock: held for read; RCU: held; page in hand: none"
    assert lines[2].startswith("4 visits, 1 split, 1 lock drop, 1 restart (whole call: 12 visits")
    assert re.fullmatch(
        r"trace: kvm_tdp_mmu_spte_changed: as id 0 gfn 4 level 2 old_spte [0-9a-f]+ new_spte [0-9a-f]+",
        lines[3],
    )
    assert re.fullmatch(r"trace: kvm_mmu_split_huge_page: gfn 4 spte [0-9a-f]+ level 2 errno 0", lines[4])
    failed = SplitCall("steps", 6, 34, faults=Faults(refuse_page=1))
    at = next(n for n, step in enumerate(failed.steps) if step.kind == "fail")
    assert walk_text(walk_state(failed, at)).endswith("level 2 errno -12")
