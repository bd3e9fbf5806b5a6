"""The strategy race's markup and words: well formed, inside its frame, room for each word, true each time."""

import re
from itertools import combinations, product
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange, parse_gfn
from tdpkit.lab.strategies import STRATEGIES
from tdpkit.lab.strategies import PlannedCall as Call
from tdpkit.lab.words import group_digits
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.guests import GUESTS, OPENING_ROWS, rows_of
from tdpkit.show.race.picture import race_svg
from tdpkit.show.race.state import RaceState, Track, run_race
from tdpkit.show.race.words import FOOTNOTE, VERDICTS, ZAP, answer, notes, race_table, race_text, title
from tdpkit.show.theme import DARK, LIGHT, LIVE, contrast
from tests.oracles.svgs import (
    check_alone,
    check_form,
    check_ids,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    check_themes,
    check_whole_numbers,
    drawn,
    ids_of,
    printed_whatever_the_hash_seed,
    texts,
    tree,
)
from tests.show.test_theme import TEXT_ROLES

OPENING = rows_of(OPENING_ROWS)
OWN = {
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW": lambda geometry, span: [],
    "many_calls": lambda geometry, span: [
        Call(span.start + n, span.start + n + 9, 1, True) for n in range(20)
    ],
    "far_away": lambda geometry, span: [Call(0, 1, 1), Call(span.end // 2, span.end // 2 + 1, 2)],
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


# ---- house rules ---------------------------------------------------------------------------------------


def check_all(svg, state, case):
    picture = tree(svg)
    check_form(picture, title(state.race), answer(state.race)[0])
    check_whole_numbers(picture)
    check_inside(picture, case)
    check_alone(svg)
    check_texts_apart(picture, case)
    check_lines_apart(picture, case)


def test_every_picture_keeps_the_house_rules(states):
    for case, state in states.items():
        check_all(race_svg(state, LIGHT), state, case)


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
    check_all(svg, state, case)
    assert svg == race_svg(state, LIGHT)


def test_ids_carry_their_prefix_and_two_instances_share_none(states):
    for state in states.values():
        check_ids(race_svg(state, LIGHT, "sr-17"), "sr-17")
        one, other = ids_of(race_svg(state, LIGHT, ids) for ids in ("a", "b"))
        assert one.isdisjoint(other)


def test_two_pictures_on_one_page_share_no_id_though_nobody_named_them(states):
    ids = ids_of(race_svg(state, LIGHT) for (_, _, _, who), state in states.items() if who == "opening")
    assert [pair for pair in combinations(ids, 2) if not pair[0].isdisjoint(pair[1])] == []


def test_the_themes_differ_in_colours_alone(states):
    for state in states.values():
        check_themes(*(race_svg(state, palette) for palette in (LIGHT, DARK, LIVE)))


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


def test_words_are_in_roles_whose_contrast_is_computed(states):
    for state in states.values():
        fills = set(re.findall(r'<text [^>]*fill="([^"]*)"', race_svg(state, LIGHT)))
        assert fills <= {LIGHT[role] for role in TEXT_ROLES}


# ---- what it shows -------------------------------------------------------------------------------------


def test_what_is_said_of_every_row_is_written_out(states, trees):
    for case, state in states.items():
        written = texts(trees[case])
        joined = " ".join(written)
        for needed in (answer(state.race)[0], *notes(state)):
            assert needed in joined
        for row in state.race.rows:
            assert row.rule.title in written
            assert row.rule.rule in written
            assert group_digits(row.visits) in written
            assert VERDICTS[row.verdict] in joined
            assert group_digits(row.outside) in written
        assert group_digits(state.race.zap_visits) in written
        assert FOOTNOTE in written
        assert state.row.rule.idea in written
        assert joined.count("by formula") == sum(row.priced for row in state.race.rows)


def test_rows_stand_in_their_order(states):
    for state in states.values():
        for order in (state.order, state.race.by_visits()):
            svg = tree(race_svg(state._replace(order=order), LIGHT))
            titles = [row.rule.title for row in state.race.rows]
            seen = [text for text in texts(svg) if text in titles]
            named = {row.name: row.rule.title for row in state.race.rows}
            assert seen == [named[name] for name in order]


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


def test_a_bar_grows_with_the_digits_of_its_number(tracks):
    svg = tree(race_svg(state_of(tracks["16T-2M"], OPENING, *map(parse_gfn, HUGE[0])), LIGHT))
    bars = [
        int(r.get("width")) for r in drawn(svg, "rect") if r.get("x") == "574" and r.get("height") == "13"
    ]
    # twelve units for each power of ten: log10 of 6303777, 523, 16, 12, 12, 25178142, 16, 6304283
    assert bars == [81, 32, 14, 12, 12, 88, 14, 81]


def test_pictures_of_different_states_differ(states):
    pictures = [race_svg(state, LIGHT, "sr") for state in states.values()]
    assert len(set(pictures)) == len(pictures)


PRINT_ALL = """
import json
from tdpkit.lab.strategies import STRATEGIES
from tdpkit.show.race import StrategyRace
said = []
for guest in ("toy", "mixed", "one-1G", "4G-4K"):
    for order in ("as argued", "by visits"):
        race = StrategyRace(guest, rows=STRATEGIES, order=order)
        bundle = race._repr_mimebundle_()
        said += [[kind, content] for kind, content in bundle.items() if "widget-view" not in kind]
        said += [race._table()]
print(json.dumps(said))
"""


def test_markup_and_bundle_are_the_same_whatever_the_hash_seed():
    assert len(printed_whatever_the_hash_seed(PRINT_ALL)) == 24


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
    return race._replace(rows=tuple(rows))


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
    assert answer(judged(tracks, *verdicts)) == (said, role)


def test_the_answer_is_a_sentence_in_every_combination(tracks):
    for exact, needless, wrong in product(range(4), repeat=3):
        rows = [E1] * exact + [N2] * needless + [W1] * wrong
        if not rows:
            continue
        said, _ = answer(judged(tracks, *rows))
        assert all(re.fullmatch(r"[A-Z][^.]*\.", part) for part in re.findall(r"[^ .][^.]*\.", said))
        assert ("too many" in said) is bool(needless)
        assert ("outside" in said) is bool(wrong)
        assert not re.search(r"\b(0|no) (split|frame)", said)


def test_aligned_edges_and_empty_ranges_are_said(states):
    for state in states.values():
        said, race = answer(state.race)[0], state.race
        assert said.startswith("No leaf crosses an edge.") is (not race.crossing)
        assert any("empty" in note for note in notes(state)) is (race.span.start == race.span.end)


def test_rows_that_were_sorted_for_another_range_say_so(tracks):
    state = state_of(tracks["toy"], OPENING, 5, 34, order="by visits")
    assert notes(state) == []
    [note] = notes(state._replace(sorted_for=GfnRange(1, 2)))
    assert "[4K, 8K)" in note


# ---- the text twins ------------------------------------------------------------------------------------


def test_the_table_says_what_the_rows_are(states):
    for state in states.values():
        table = ElementTree.fromstring(race_table(state))
        caption = table.find("caption").text
        assert answer(state.race)[0] in caption
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
        assert first == f"{title(state.race)}. {answer(state.race)[0]}"
        rows = lines[len(notes(state)) :]
        for row, said in zip(state.rows, rows, strict=True):
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
    assert bundle["image/svg+xml"] == race_svg(race.state, LIGHT)
    assert bundle["text/plain"] == race_text(race.state)
