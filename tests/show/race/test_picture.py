"""The strategy race's picture: marks where the state says, numbers and words written out, room for all."""

import math
import re
from itertools import product
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange, parse_gfn
from tdpkit.lab.judge import forced_in
from tdpkit.lab.strategies import STRATEGIES, PlannedCall
from tdpkit.lab.words import group_digits
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.guests import GUESTS, OPENING_ROWS, rows_of
from tdpkit.show.race.picture import race_svg, race_table, race_text
from tdpkit.show.race.state import RaceState, Track, run_race
from tdpkit.show.race.words import FOOTNOTE, VERDICTS, ZAP, race_words
from tdpkit.show.theme import DARK, LIGHT, contrast, still
from tests.oracles.svgs import SVG, beside, check_all, drawn, texts, tree, written

OPENING = rows_of(OPENING_ROWS)
OWN = {
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW": lambda geometry, span: [],
    "many_calls": lambda geometry, span: [
        PlannedCall(span.start + n, span.start + n + 9, 1, True) for n in range(20)
    ],
    "far_away": lambda geometry, span: [
        PlannedCall(0, 1, 1),
        PlannedCall(span.end // 2, span.end // 2 + 1, 2),
    ],
    **OPENING,
}
SETS = {"opening": OPENING, "all": rows_of(STRATEGIES), "own": OWN}
HUGE = [
    *[("2T+4K", "14T+4K"), ("0", "16T"), ("0", "4K"), ("16T-4K", "16T"), ("0", "0"), ("16T", "16T")],
    *[("5G+4K", "5G+4K"), ("2M", "2M"), ("2T", "14T"), ("2T+2M", "14T-2M"), ("1G-4K", "1G+4K")],
    *[("10T+1023G+1022M+1020K", "15T+1023G+1022M+1020K"), ("1T", "1T+1G"), ("2T+1022M", "2T+1G+8K")],
    *[("7T+511G+511M", "7T+513G+513M"), ("4K", "3G+20K")],
]
SPANS = {
    "16T-2M": HUGE,
    "16T-1G": HUGE,
    "16T-empty": HUGE[:5],
    "4G-4K": [("1G+4K", "3G+4K"), ("0", "4G"), ("4G", "4G"), ("2M-4K", "2M+4K")],
    "mixed": [
        ("6M+12K", "3G+513M"),
        ("0", "4G"),
        ("1G+4K", "2G-4K"),
        ("2G+383M", "2G+385M"),
        ("512M", "512M"),
    ],
    "one-1G": [("0x40207", "0x40209"), ("1G+1M", "2G"), ("0", "3G"), ("1G-4K", "1G+4K"), ("2G+4K", "2G+8K")],
    "toy": [("20K", "136K"), ("0", "256K"), ("0", "0"), ("252K", "256K"), ("68K", "68K"), ("4K", "252K")],
}


@pytest.fixture(scope="module")
def tracks():
    return {name: Track(guest.layout) for name, guest in GUESTS.items()}


def state_of(track, rows, start, end, selected=0, order="as argued"):
    race = run_race(track, rows, start, end)
    names = tuple(rows) if order == "as argued" else race.by_visits()
    return RaceState(race, names, None if order == "as argued" else race.span, [*rows][selected % len(rows)])


@pytest.fixture(scope="module")
def states(tracks):
    """Every span on every guest, who races and what is selected in turn."""
    found = {}
    for guest, spans in SPANS.items():
        for at, (start, end) in enumerate(spans):
            for name, rows in SETS.items():
                frames = parse_gfn(start), parse_gfn(end)
                found[guest, start, end, name] = state_of(tracks[guest], rows, *frames, selected=at)
    return found


@pytest.fixture(scope="module")
def trees(states):
    return {case: tree(race_svg(state, LIGHT)) for case, state in states.items()}


# ---- room for everything -------------------------------------------------------------------------------


frames = st.one_of(
    st.floats(0, 1),
    st.tuples(st.sampled_from([0, 9, 18]), st.floats(0, 1), st.integers(-2, 2)),
)


def at_or_near(frame, most: int) -> int:
    """A frame anywhere, or a few frames around a multiple of a power of two."""
    if isinstance(frame, float):
        return int(frame * most)
    bits, where, beside = frame
    return min(max((int(where * most) >> bits << bits) + beside, 0), most)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SPANS)),
    st.sampled_from(sorted(SETS)),
    frames,
    st.one_of(frames, st.integers(0, 1200)),
    st.integers(0, 20),
    st.sampled_from(["as argued", "by visits"]),
)
def test_every_picture_of_any_state_keeps_the_house_rules(tracks, guest, who, one, other, selected, order):
    most = GUESTS[guest].layout.frames
    start = at_or_near(one, most)
    end = min(start + other, most) if isinstance(other, int) else at_or_near(other, most)
    start = min(start, GUESTS[guest].layout.geometry.root_pages - 1)  # where a root ends, no range starts
    case = guest, who, *sorted((start, end))
    state = state_of(tracks[guest], SETS[who], *case[2:], selected, order)
    svg = race_svg(state, LIGHT)
    check_all(svg, case)
    assert svg == race_svg(state, LIGHT)


@pytest.mark.slow
def test_runs_are_merged_so_that_a_picture_of_4_billion_frames_is_a_few_hundred_boxes(trees):
    for (guest, *_, who), svg in trees.items():
        if guest.startswith("16T") and who == "opening":
            assert len(drawn(svg, "rect")) < 260


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("role", ["ink", "muted", "good", "bad", "crossing-mark"])
def test_words_on_the_ground_of_the_selected_row_can_be_read(theme, role):
    assert contrast(theme[role], theme["hole"]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("role", ["line", "private", "range", "crossing-mark", "bad", "leaf3"])
def test_bars_and_brackets_stand_out_from_their_ground(theme, role):
    grounds = ["paper"] if role == "leaf3" else ["paper", "hole"]
    assert [ground for ground in grounds if contrast(theme[role], theme[ground]) < 3] == []


# ---- what it shows -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_said_of_every_row_is_written_out(states, trees):
    for case, state in states.items():
        words, said = texts(trees[case]), race_words(state)
        joined = " ".join(words)
        assert words[0] == said.title
        for needed in (said.answer, *said.headline[:4], FOOTNOTE):
            assert needed in joined
        for row in state.race.rows:
            assert any(row.rule.title.startswith(text.removesuffix("…")) for text in words)
            assert row.rule.rule in words
            assert VERDICTS[row.verdict] in joined
        assert group_digits(state.race.zap_visits) in words
        assert state.row.rule.idea in words
        assert joined.count("by formula") == sum(row.priced for row in state.race.rows)


@pytest.mark.slow
def test_rows_stand_in_their_order(states):
    for state in states.values():
        for order in (state.order, state.race.by_visits()):
            placed = state._replace(order=order)
            places = bands(tree(race_svg(placed, LIGHT)), placed)
            assert sorted(places, key=places.__getitem__) == [*order]


def test_the_calls_of_the_selected_row_are_written_with_their_visits(tracks):
    state = state_of(tracks["16T-2M"], OPENING, *map(parse_gfn, HUGE[0]), selected=2)
    written = texts(tree(race_svg(state, LIGHT)))
    at = written.index("head and tail: 4 calls")
    assert "[14T, 14T+2M)" in written[at:]
    assert "[0xe0000000, 0xe0000200)" in written[at:]
    assert [text for text in written[at:] if text.endswith("visits")] == ["2 visits", "6 visits"] * 2


def test_the_more_calls_the_fewer_are_written_out_each(states):
    case = "16T-2M", "2T+4K", "14T+4K", "own"
    state = states[case]._replace(selected="many_calls")
    written = texts(tree(race_svg(state, LIGHT)))
    assert "many calls: 20 calls" in written
    assert "and 15 more" in written


@pytest.mark.slow
def test_pictures_of_different_states_differ(states):
    pictures = [race_svg(state, LIGHT, "sr") for state in states.values()]
    assert len(set(pictures)) == len(pictures)


# ---- places --------------------------------------------------------------------------------------------


def bands(svg, state) -> dict[str, tuple[int, int]]:
    """Where each row begins and ends, by its title, which stands 21 below the row's beginning."""
    [head], [zap] = written(svg, "strategy"), written(svg, ZAP[0])
    below = [t for t in svg.iter(f"{SVG}text") if int(head.get("y")) < int(t.get("y")) < int(zap.get("y"))]
    titles = [t for t in below if (t.get("x"), t.get("font-size")) == ("24", "13")]
    for row, title in zip(state.rows, titles, strict=True):
        assert row.rule.title.startswith(title.text.removesuffix("…"))
    tops = [int(title.get("y")) - 21 for title in titles]
    ends = [*tops[1:], int(zap.get("y")) - 21]
    return {row.name: band for row, band in zip(state.rows, zip(tops, ends, strict=True), strict=True)}


def moves(svg, top, bottom):
    """(d, stroke, fill) of the paths that begin between `top` and `bottom`."""
    for path in drawn(svg, "path"):
        if top <= int(path.get("d").split()[1]) < bottom:
            yield path.get("d"), path.get("stroke"), path.get("fill")


def x_of(frame) -> int:
    """The toy's 64 frames lie on an axis from 188 to 552, to scale."""
    return 188 + 364 * frame // 64


@pytest.fixture(scope="module")
def toys(tracks):
    """All strategies on the toy, with the tree's own forced splits."""
    found = []
    for start, end in [*SPANS["toy"], ("16K", "20K"), ("4K", "8K"), ("60K", "68K")]:
        span = GfnRange.parse(start, end)
        state = state_of(tracks["toy"], SETS["all"], span.start, span.end)
        found.append((span, state, tree(race_svg(state, LIGHT, "sr")), forced_in(tracks["toy"].root, span)))
    return found


def test_every_call_is_a_bracket_or_an_arrow_at_its_frames(toys):
    """But for an empty one at the end of the machine, which is not made."""
    for span, state, svg, _ in toys:
        for name, (top, bottom) in bands(svg, state).items():
            paths = [(d, stroke) for d, stroke, _ in moves(svg, top, bottom)]
            plan = STRATEGIES[name](GUESTS["toy"].layout.geometry, span)
            for call in (call for call in plan if call.start < 64):
                low, high = x_of(call.start), x_of(min(call.end, 64))
                if call.start == call.end:
                    found = [d for d, _ in paths if re.match(rf"M{low} \d+ V\d+ M{low - 4} \d+ L{low} ", d)]
                else:
                    low = min(low, 544) + 1
                    role = LIGHT["ink" if call.target_level == 1 else "private"]
                    shape = rf"M{low} \d+ H{max(high - 1, low + 4)}"
                    found = [d for d, stroke in paths if re.fullmatch(shape, d) and stroke == role]
                assert found, (name, call)


def test_every_split_that_had_to_be_has_its_diamond_under_its_leaf_full_if_it_was_made(toys):
    """Levels from the largest down, 10 apart; the tree's own forced splits, not the state's marks."""
    for _, state, svg, forced in toys:
        for row in state.rows:
            top, bottom = bands(svg, state)[row.name]
            places = {"good": set(), "bad": set(), "crossing-mark": set()}
            for d, stroke, fill in moves(svg, top, bottom):
                for x, y in re.findall(r"M(\d+) (\d+) L\d+ \d+ L\d+ \d+ L\d+ \d+ Z", d):
                    [role] = [role for role in places if LIGHT[role] == stroke]
                    assert fill == (LIGHT["good"] if role == "good" else LIGHT["paper"])
                    places[role] |= {(int(x), int(y) + 5)} if int(x) < 552 else set()
            assert len(places["good"]) == row.needed
            assert len(places["bad"]) == row.missing
            first = bottom - 3 - 10 * 2 + 7
            for gfn, level in forced:
                pages = 4 ** (level - 1)
                at = (x_of(gfn) + x_of(gfn + pages)) // 2, first + 10 * (3 - level)
                assert at in places["good"] | places["bad"], (row.name, gfn, level)


def test_the_leaves_of_each_row_are_boxes_at_their_frames(toys):
    for _, state, svg, _ in toys:
        strips = [(row.segments, bands(svg, state)[row.name]) for row in state.rows]
        [guest] = written(svg, "the guest before")
        strips.append((state.race.segments, (int(guest.get("y")) - 20, int(guest.get("y")) + 20)))
        for segments, (top, bottom) in strips:
            boxes = {
                (int(rect.get("x")), int(rect.get("width")), rect.get("fill"))
                for rect in drawn(svg, "rect")
                if rect.get("stroke") and rect.get("height") == "24" and top <= int(rect.get("y", 0)) < bottom
            }
            hatched = ("split", "crossing", "lost")
            assert boxes == {
                (
                    x_of(one.first),
                    x_of(one.last) - x_of(one.first),
                    f"url(#sr-{one.kind})" if one.kind in hatched else LIGHT[one.kind],
                )
                for one in segments
            }


def test_visits_verdict_and_frames_outside_stand_in_their_row(states, trees):
    """A block of seven units for each digit, filled up to the logarithm; for each verdict its own shape."""
    for case, state in states.items():
        svg = trees[case]
        for row in state.rows:
            top, _ = bands(svg, state)[row.name]
            full = [r for r in drawn(svg, "rect") if r.get("y") == f"{top + 10}" and r.get("height") == "13"]
            frames = [
                d
                for d, stroke, _ in moves(svg, top + 10, top + 11)
                if re.fullmatch(rf"M(\d+) {top + 10} H\d+ V{top + 23} H\1 Z", d)
            ]
            places = [662 + 9 * at for at in range(len(str(row.visits)) if row.visits else 0)]
            assert frames == [f"M{x} {top + 10} H{x + 7} V{top + 23} H{x} Z" for x in places]
            assert [int(block.get("x")) for block in full] == places[: len(full)]
            filled = max(math.floor(7 * math.log10(row.visits) + 1e-9), 1) if row.visits else 0
            assert sum(int(block.get("width")) for block in full) == filled, (case, row.name)
            assert [block.get("width") for block in full[:-1]] == ["7"] * len(full[:-1])
            roles = {"exact": "line", "needless": "crossing-mark", "wrong": "bad"}
            assert {block.get("fill") for block in full} <= {LIGHT[roles[row.verdict]]}
            line = [t for t in svg.iter(f"{SVG}text") if t.get("y") == f"{top + 21}"]
            [visits] = [t for t in line if (t.get("x"), t.get("text-anchor")) == ("654", "end")]
            assert visits.text == group_digits(row.visits)
            [verdict] = [t for t in line if t.get("x") == "868"]
            assert VERDICTS[row.verdict].startswith(verdict.text)
            [outside] = [t for t in line if t.get("x") == "976"]
            assert outside.text == group_digits(row.outside)
            discs = [(d.get("cx"), d.get("cy")) for d in drawn(svg, "circle")]
            squares = [(r.get("x"), r.get("y")) for r in drawn(svg, "rect") if r.get("width") == "18"]
            assert ((("853", f"{top + 17}") in discs), (("844", f"{top + 8}") in squares)) == (
                row.verdict == "exact",
                row.verdict == "wrong",
            )


def test_on_a_stretched_axis_calls_begin_and_end_where_the_range_does(tracks):
    span = GfnRange.parse("2T+4K", "14T+4K")
    state = state_of(tracks["16T-2M"], OPENING, span.start, span.end, selected=4)
    svg = tree(race_svg(state, LIGHT))
    [(low, high)] = [
        (int(found[1]), int(found[2]))
        for path in drawn(svg, "path")
        if path.get("stroke") == LIGHT["range"]
        and (found := re.fullmatch(r"M(\d+) \d+ V\d+ H(\d+) V\d+", path.get("d")))
    ]
    places = bands(svg, state)
    walk = [d for d, *_ in moves(svg, *places["walk_v3"])]
    assert [d for d in walk if re.fullmatch(rf"M{low + 1} \d+ H{high - 1}", d)]
    arrows = [d for d, *_ in moves(svg, *places["empty_range"]) if re.match(r"M(\d+) \d+ V\d+ M", d)]
    assert [int(re.match(r"M(\d+)", d)[1]) for d in arrows[:2]] == [low, high]
    [ground] = [r for r in drawn(svg, "rect") if r.get("x") == "16"]
    top, bottom = places["empty_range"]
    assert (int(ground.get("y")), int(ground.get("height"))) == (top, bottom - top), "the selected row"
    outlines = [d for d, stroke, _ in moves(svg, 0, 9999) if stroke == LIGHT["ink"] and d.startswith("M16 ")]
    assert outlines == [f"M16 {top} H984 V{bottom} H16 Z"]


@pytest.mark.slow
def test_no_text_is_smaller_than_12_units(states):
    assert {race_svg(state, LIGHT).smallest for state in states.values()} == {12}


def test_the_range_is_dragged_where_the_whole_guest_lies_to_scale(states):
    """On the toy's own strip; elsewhere on a thin one above, where the range is drawn from edge to edge."""
    for (guest, *_), state in states.items():
        picture, race = race_svg(state, LIGHT), state.race
        [track] = picture.tracks
        frames = GUESTS[guest].layout.frames
        assert (track.name, track.knots, track.keyed) == ("range", ((0, 188), (frames, 552)), True)
        svg, place = tree(picture), [188 + 364 * edge // frames for edge in (race.span.start, race.span.end)]
        boxes = [r for r in drawn(svg, "rect") if r.get("y") == f"{track.top}"]
        assert {int(r.get("height")) for r in boxes} == {track.bottom - track.top}
        if guest == "toy":
            assert min(int(r.get("x")) for r in boxes) == 188
            assert max(int(r.get("x")) + int(r.get("width")) for r in boxes) == 552
            y = track.bottom + 9
            shape = f"M{place[0]} {y - 6} V{y} H{max(place[1], place[0] + 2)} V{y - 6}"
            assert shape in [d for d, stroke, _ in moves(svg, y - 6, y) if stroke == LIGHT["range"]]
        else:
            ground, shown = boxes
            assert (int(ground.get("x")), int(ground.get("width"))) == (188, 364)
            low, wide = int(shown.get("x")), int(shown.get("width"))
            assert shown.get("fill") == LIGHT["range"]
            if place[1] - place[0] >= 2:
                assert [low, low + wide] == place
            else:
                assert wide == 2, "so that it is seen"
                assert abs(low - place[0]) <= 2


def test_each_row_is_pressed_where_it_stands(states, trees):
    for case, state in states.items():
        picture = race_svg(state, LIGHT)
        for spot, row, (top, bottom) in zip(
            picture.spots, state.rows, bands(trees[case], state).values(), strict=True
        ):
            assert spot.name == f"row:{row.name}"
            assert spot.label.startswith(f"{row.rule.title}: {group_digits(row.visits)} visit")
            assert spot.label.endswith(f", {VERDICTS[row.verdict]}")
            assert (spot.top, spot.bottom) == (top, bottom)
            assert spot.left < 24 < 976 < spot.right
            assert spot.chosen is (row.name == state.selected)


@pytest.mark.parametrize(
    ("guest", "most"), [("16T-2M", 540), ("16T-1G", 600), ("16T-empty", 540), ("toy", 580)]
)
def test_where_one_drags_and_all_that_follows_are_in_one_view_of_a_laptop(tracks, guest, most):
    """647 px on 1366x768, on which the picture is drawn a little smaller than its 1000 units."""
    start, end = (parse_gfn(text) for text in SPANS[guest][0])
    picture = race_svg(state_of(tracks[guest], OPENING, start, end), LIGHT)
    assert picture.spots[-1].bottom - picture.tracks[0].top <= most


LEGEND = {
    "not mapped": "hole",
    "made by a split": "split",
    "crosses an edge": "crossing",
    "outside the range, and the zap takes it": "lost",
    "1G leaf": "leaf3",
    "2M leaf": "leaf2",
    "4K leaf": "leaf1",
    "16-frame leaf": "leaf3",
}


@pytest.mark.slow
def test_the_legend_s_swatches_and_diamonds_are_those_of_the_rows(states):
    for state in states.values():
        svg = tree(race_svg(state, LIGHT, "sr"))
        for _, name in race_words(state).legend:
            kind = LEGEND[name]
            fills = [r.get("fill") for r in drawn(svg, "rect") if r.get("height") == "24"]
            shown = written(svg, name)
            assert len(shown) == any(fill in (LIGHT[kind], f"url(#sr-{kind})") for fill in fills), name
            if not shown:
                continue
            [text] = shown
            assert beside(svg, text).get("fill") in (LIGHT[kind], f"url(#sr-{kind})")
        found = {"good": "needed", "crossing-mark": "needless", "bad": "missing"}
        for name, role in (
            ("a needed split", "good"),
            ("a needless one", "crossing-mark"),
            ("a missing one", "bad"),
        ):
            shown = written(svg, name)
            assert len(shown) == any(getattr(row, found[role]) for row in state.race.rows), (
                "only what is drawn"
            )
            if not shown:
                continue
            [text] = shown
            x, y = int(text.get("x")) - 12, int(text.get("y")) - 4
            shape = f"M{x} {y - 5} L{x + 5} {y} L{x} {y + 5} L{x - 5} {y} Z"
            assert [p.get("stroke") for p in drawn(svg, "path") if p.get("d") == shape] == [LIGHT[role]]


@pytest.mark.slow
def test_the_legend_lists_only_what_is_drawn(states):
    for case, state in states.items():
        svg = tree(race_svg(state, LIGHT))
        [zap] = written(svg, ZAP[0])
        above = [path.get("d") for path in drawn(svg, "path")]
        above = [d for d in above if int(d.split()[1]) < int(zap.get("y"))]
        calls = [call for row in state.race.rows for call in row.calls]
        empty = any(call.start == call.end for call in calls)
        assert len(written(svg, "a call over no frame")) == empty, case
        smallest = "a call to 1 frame" if case[0] == "toy" else "a call to 4K"
        for name, wanted in ((smallest, {1}), ("a call to a larger leaf", {2, 3})):
            some = any(call.start < call.end and call.target_level in wanted for call in calls)
            named = written(svg, name)
            assert len(named) == some, (case, name)
            for text in named:
                x, y = int(text.get("x")) - 23, int(text.get("y")) - 6
                strokes = [p.get("stroke") for p in drawn(svg, "path") if p.get("d") == f"M{x} {y} H{x + 16}"]
                assert strokes == [LIGHT["ink" if wanted == {1} else "private"]]
        teeth = re.compile(r"(M\d+ (\d+) V(\d+))+")
        combs = [d for d in above if (found := teeth.fullmatch(d)) and int(found[3]) - int(found[2]) == 5]
        assert len(written(svg, "many leaves")) == bool([d for d in combs if not _is_bracket(d, above)]), case


def _is_bracket(d, paths) -> bool:
    """The two ends of a call's bracket look like teeth; its line is one above them."""
    y = int(re.match(r"M\d+ (\d+)", d)[1])
    return any(re.match(rf"M\d+ {y + 1} H\d+$", path) for path in paths)


# ---- words ---------------------------------------------------------------------------------------------


def judged(tracks, *verdicts):
    """A race whose rows have these verdicts: (verdict, visits, needless, outside)."""
    race = run_race(tracks["toy"], rows_of(["walk_v3"]), 5, 34)
    rows = [
        race.rows[0]._replace(
            name=f"s{at}", verdict=verdict, visits=visits, needless=needless, outside=outside
        )
        for at, (verdict, visits, needless, outside) in enumerate(verdicts)
    ]
    return race_words(RaceState(race._replace(rows=tuple(rows)), (), None, "s0"))


E1, E2 = ("exact", 12, 0, 0), ("exact", 6303777, 0, 0)
N1, N2 = ("needless", 7, 1, 0), ("needless", 7, 6291455, 0)
W1, W2 = ("wrong", 5, 0, 1), ("wrong", 5, 0, 1022)


@pytest.mark.parametrize(
    ("verdicts", "said", "role"),
    [
        ([E1], "It is exact, at 12 visits.", "good"),
        ([N1], "It is not exact. One makes 1 split too many.", "bad"),
        ([W1], "It is not exact. One costs 1 frame outside the range.", "bad"),
        ([E1, E2], "Both are exact, at 12 to 6 303 777 visits.", "good"),
        ([E1, E1], "Both are exact, at 12 visits each.", "good"),
        ([E1, E1, E2], "All three are exact, at 12 to 6 303 777 visits.", "good"),
        ([E1, N2], "One is exact, at 12 visits. One makes 6 291 455 splits too many.", "ink"),
        ([E1, W2], "One is exact, at 12 visits. One costs 1 022 frames outside the range.", "ink"),
        ([N1, N1], "None is exact. Two make 1 split too many.", "bad"),
        ([N1, N2, W1, W2], "None is exact. Two make 1 to 6 291 455 splits too many, two cost 1 to 1 022 "
         "frames outside the range.", "bad"),
        (
            [E1, E1, E1, E1, E2, N2, W1],
            "Five are exact, at 12 to 6 303 777 visits. One makes 6 291 455 splits too many, "
            "one costs 1 frame outside the range.",
            "ink",
        ),
    ],
)  # fmt: skip
def test_the_answer_sums_up(tracks, verdicts, said, role):
    words = judged(tracks, *verdicts)
    assert (words.answer, words.role) == (said, role)
    number = ["One way", "Two ways", "Three ways", "Four ways"][len(verdicts) - 1 :]
    if number:
        assert words.title == f"{number[0]} to make the edges of [5, 34) safe"


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([E2, E1], ("12", " entries instead of ", "6 303 777", "first instead of v3 walk", "good")),
        (
            [E2, N1, W1, E1, E1],
            ("12", " entries instead of ", "6 303 777", "third instead of v3 walk", "good"),
        ),
        (
            [E2, ("exact", 1, 0, 0)],
            ("1", " entry instead of ", "6 303 777", "first instead of v3 walk", "good"),
        ),
        (
            [E2, ("exact", 0, 0, 0)],
            ("0", " entries instead of ", "6 303 777", "first instead of v3 walk", "good"),
        ),
        ([E1], ("12", " entries visited", "", "v3 walk", "good")),
        ([E1, E2], ("12", " entries visited", "", "v3 walk; no exact way here visits fewer", "good")),
        ([E1, E1], ("12", " entries visited", "", "v3 walk; no exact way here visits fewer", "good")),
        ([W1, E1], ("12", " entries visited", "", "first", "good")),
        ([W1, E2, E1], ("12", " entries visited", "", "second; no exact way here visits fewer", "good")),
        ([N1, W1], ("no exact way", "", "", "each splits too much, or too little", "bad")),
    ],
)
def test_the_headline_is_the_cheapest_exact_way_against_the_patch(tracks, verdicts, said):
    """The patch's walk is the first row; the others are called by their place."""
    race = run_race(tracks["toy"], rows_of(["walk_v3"]), 5, 34)
    rows = [
        race.rows[0]._replace(
            name=name, rule=race.rows[0].rule._replace(title=name), visits=visits, verdict=is_
        )
        for name, (is_, visits, *_) in zip(
            ["v3 walk", "first", "second", "third", "fourth"], verdicts, strict=False
        )
    ]
    rows[0] = rows[0]._replace(name="walk_v3")
    state = RaceState(race._replace(rows=tuple(rows)), ("walk_v3",), None, "walk_v3")
    assert race_words(state).headline == said


def test_the_headline_of_the_thread_s_range_is_the_thread_s(tracks):
    """The walk visits 6 303 777 entries (S230), a 2M block under a root of four levels six (S133)."""
    span = GfnRange.parse("2T+4K", "14T+4K")
    picture = race_svg(state_of(tracks["16T-2M"], OPENING, span.start, span.end), LIGHT)
    large = [t.text for t in tree(picture).iter(f"{SVG}text") if int(t.get("font-size")) > 18]
    assert large == ["12", "6 303 777"]


def test_the_answer_is_a_sentence_in_every_combination(tracks):
    for exact, needless, wrong in product(range(4), repeat=3):
        rows = [E1] * exact + [N2] * needless + [W1] * wrong
        if not rows:
            continue
        said = judged(tracks, *rows).answer
        assert all(re.fullmatch(r"[A-Z][^.]*\.", part) for part in re.findall(r"[^ .][^.]*\.", said))
        assert ("too many" in said) is bool(needless)
        assert ("outside" in said) is bool(wrong)
        assert not re.search(r"\b(0|no) (split|frame)", said)


def test_aligned_edges_and_empty_ranges_are_said(states):
    for state in states.values():
        words, race = race_words(state), state.race
        assert words.answer.startswith("No leaf crosses an edge.") is (not race.crossing)
        assert ("The range is empty" in words.answer) is (race.span.start == race.span.end)


def test_rows_that_were_sorted_for_another_range_say_so(tracks):
    state = state_of(tracks["toy"], OPENING, 5, 34, order="by visits")
    answer = race_words(state).answer
    later = race_words(state._replace(sorted_for=GfnRange(1, 2))).answer
    assert later.startswith(f"{answer} The rows stand as they were sorted for [1, 2)")


# ---- the text twins ------------------------------------------------------------------------------------


def test_the_table_says_what_the_rows_are(states):
    for state in states.values():
        table = ElementTree.fromstring(race_table(state))
        caption = table.find("caption").text
        assert race_words(state).answer in caption
        assert [cell.text for cell in table.find("thead/tr")] == [
            *("strategy", "calls", "visits", "splits", "needless", "missing", "verdict", "frames outside")
        ]
        *rows, zap = table.findall("tbody/tr")
        for row, said in zip(state.rows, rows, strict=True):
            head, calls, *data = said
            assert head.get("scope") == "row"
            assert head.text == f"{row.rule.title}: {row.rule.rule}"
            assert len(list(calls.itertext())) == max(1, len(row.calls))
            priced = ", by formula" if row.priced else ""
            assert [cell.text for cell in data] == [
                group_digits(row.visits) + priced,
                *(group_digits(number) for number in (row.splits, row.needless, row.missing)),
                VERDICTS[row.verdict],
                group_digits(row.outside),
            ]
        assert [zap[0].text, zap[2].text] == [" ".join(ZAP), group_digits(state.race.zap_visits)]


def test_the_plain_text_starts_with_the_answer_and_has_a_line_per_row(states):
    for state in states.values():
        first, *lines, zap = race_text(state).split("\n")
        words = race_words(state)
        assert first == f"{words.title}. {words.answer}"
        for row, said in zip(state.rows, lines, strict=True):
            assert said.startswith(f"{row.rule.title}: ")
            assert re.search(rf"\b{group_digits(row.visits)} visits?\b", said)
            assert VERDICTS[row.verdict] in said
        assert zap.startswith(" ".join(ZAP))


def test_what_a_learner_writes_is_text_never_markup(tracks):
    def own(geometry, span):
        """<script>alert(1)</script> & more."""
        return []

    rows = rows_of({"<b>mine</b>": own})
    state = state_of(tracks["toy"], rows, 5, 34)
    assert "<b>" not in race_table(state)
    assert "<script" not in race_svg(state, LIGHT)
    assert "<script>alert(1)</script> & more." in texts(tree(race_svg(state, LIGHT)))


def test_the_bundle_is_the_opening_picture_and_its_text():
    race = StrategyRace("toy")
    bundle = race._repr_mimebundle_()
    assert bundle["image/svg+xml"] == still(race_svg(race.state, LIGHT))
    assert bundle["text/plain"] == race_text(race.state)
