"""What the race's own controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import re

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, format_gfn, parse_gfn
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES, PlannedCall
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.guests import GUESTS, OPENING_ROWS
from tdpkit.show.race.picture import race_svg, race_table, race_text
from tdpkit.show.race.state import ORDERS, Track, run_race
from tdpkit.show.theme import LIVE
from tests.oracles.exhibits import picture_of, seen, use, words


@pytest.fixture
def toy():
    return StrategyRace("toy")


@pytest.fixture(scope="module")
def big():
    """One of 16 TiB for all: each test brings it to its opening state."""
    return StrategyRace()


def span(race) -> tuple[int, int]:
    return race.state.race.span.start, race.state.race.span.end


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_the_thread_s_range_in_16_tib(big):
    assert big.choice.guest == "16T-2M"
    assert span(big) == ((2 << 28) + 1, (14 << 28) + 1)
    assert big._text().startswith(
        "Seven ways to make the edges of [2T+4K, 14T+4K) safe. Five are exact, at 12 to 6 303 777 visits. "
        "One makes 6 291 455 splits too many, one costs 1 frame outside the range."
    )


@pytest.mark.parametrize("guest", GUESTS)
def test_each_guest_opens_with_its_own_range_and_unit(big, guest):
    big.show(guest=guest)
    opening = GUESTS[guest]
    assert span(big) == (parse_gfn(opening.start), parse_gfn(opening.end))
    assert big.range.unit_menu.value == opening.unit_level
    start = span(big)[0]
    assert big.range.start_text.value == (str(start) if guest == "toy" else format_gfn(start))
    assert words(big) == ""


def test_order_and_row_can_be_given(toy):
    race = StrategyRace("toy", start="4K", end=9, order="by visits", selected="plain_split", unit_level=2)
    assert (span(race), race.choice.order, race.choice.selected) == ((1, 9), "by visits", "plain_split")
    assert race.state.order == race.state.race.by_visits()


def test_other_strategies_race_by_name_or_as_functions():
    race = StrategyRace("toy", rows=["merged_blocks", "walk_v3"])
    assert [row.name for row in race.state.rows] == ["merged_blocks", "walk_v3"]

    def mine(geometry, span):
        """The start alone."""
        return [PlannedCall(span.start, span.start, 1)]

    race = StrategyRace("toy", rows={**CONTENDERS, "mine": mine}, selected="mine")
    assert race.state.rows[-1].verdict == "wrong"
    assert "One costs" in race._text()
    assert [spot["label"].partition(":")[0] for spot in race.handles.state["spots"]] == [
        *("v3 walk", "two calls", "head and tail", "one block per edge", "mine")
    ]


@pytest.mark.parametrize("rows", [["nope"], [], "walk_v3", {"mine": 1}])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        StrategyRace("toy", rows=rows)


# ---- each control --------------------------------------------------------------------------------------


def sliders(race) -> dict[str, dict]:
    return {one["kind"]: one for one in race.handles.state["sliders"]}


def test_the_range_is_dragged_over_the_whole_guest_and_the_state_is_exact(big):
    """16 TiB on 364 units are 45G to each: 1G is the largest leaf below that."""
    big.show(guest="16T-2M")
    assert {(one["snap"], one["knots"][-1][0]) for one in sliders(big).values()} == {("262144", "4294967296")}
    use(big, "drag.end", (3 << 28) + (1 << 18) + 1)
    assert span(big) == ((2 << 28) + 1, (3 << 28) + (1 << 18) + 1)
    use(big, "drag.start", 7)
    assert span(big) == (7, (3 << 28) + (1 << 18) + 1)
    assert big.range.start_text.value == "28K"


def test_the_unit_changes_what_a_key_does_only(toy):
    state, picture = toy.state, toy.picture.value
    assert list(toy.range.unit_menu.options) == [("1 frame", 1), ("4 frames", 2), ("16 frames", 3)]
    for _, level in list(toy.range.unit_menu.options):
        toy.range.unit_menu.value = level
        assert {one["step"] for one in sliders(toy).values()} == {f"{4 ** (level - 1)}"}
    assert (toy.state, toy.picture.value) == (state, picture)


def test_edges_may_meet_but_no_range_starts_where_the_root_ends(toy, big):
    """The toy's root ends with its guest; on x86 it goes on to 256T."""

    def reach(race):
        return {kind: (int(one["low"]), int(one["high"])) for kind, one in sliders(race).items()}

    assert toy.handles.state["least"] == 0
    assert reach(toy) == {"span": (0, 64), "start": (0, 63), "end": (0, 64)}
    use(toy, "drag.start", 34)
    assert span(toy) == (34, 34)
    assert reach(toy) == {"span": (0, 63), "start": (0, 63), "end": (0, 64)}
    big.show(guest="16T-2M")
    assert reach(big) == dict.fromkeys(("span", "start", "end"), (0, 1 << 32))
    big.show(start="16T", end="16T")
    assert words(big) == ""


@pytest.mark.parametrize(("text", "frame"), [("0x10", 16), ("16", 16), ("64K", 16), (" 60 K + 4k ", 16)])
def test_a_typed_address_is_taken_and_written_back_as_the_toy_s_frame(toy, text, frame):
    toy.range.start_text.value = text
    assert span(toy) == (frame, 34)
    assert toy.range.start_text.value == str(frame)
    toy.show(start=0)
    toy.range.end_text.value = text
    assert span(toy) == (0, frame)


def test_start_may_be_the_end_and_the_picture_says_so(toy):
    toy.range.start_text.value = "136K"
    assert span(toy) == (34, 34)
    assert words(toy) == ""
    assert "The range is empty: both edges are 34." in toy.head.value
    use(toy, "drag.end", 64)
    use(toy, "drag.start", 63)
    assert span(toy) == (63, 64)


def test_a_row_that_is_pressed_has_its_calls_written_out(toy):
    rows, spots = toy.state.race, toy.handles.state["spots"]
    assert [spot["name"] for spot in spots] == [f"row:{name}" for name in OPENING_ROWS]
    for name, spot in zip(OPENING_ROWS, spots, strict=True):
        use(toy, "press.row", name)
        assert toy.state.selected == name
        title = spot["label"].partition(":")[0]
        assert re.search(rf">{title}: (\d+|no) calls?<", toy.picture.value)
        assert [one["name"] for one in toy.handles.state["spots"] if one["chosen"]] == [f"row:{name}"]
    assert toy.state.race is rows, "nothing was run anew"


def test_a_learner_s_row_is_pressed_whatever_its_name():
    race = StrategyRace("toy", rows={**CONTENDERS, "row: <mine>": lambda geometry, span: []})
    use(race, "press.row", "row: <mine>")
    assert race.state.selected == "row: <mine>"


def test_rows_are_sorted_when_the_order_is_chosen_and_stay_while_an_edge_is_dragged(toy):
    toy.order_buttons.value = "by visits"
    order = toy.state.order
    assert order == toy.state.race.by_visits()
    assert order[0] == "one_block_per_edge"
    assert order[-1] == "plain_split"
    use(toy, "drag.end", 6)
    assert span(toy) == (5, 6)
    assert toy.state.race.by_visits() != order, "or this test shows nothing"
    assert toy.state.order == order
    assert "sorted for [5, 34)" in toy.head.value
    toy.order_buttons.value = "as argued"
    assert toy.state.order == OPENING_ROWS
    toy.order_buttons.value = "by visits"
    assert toy.state.order == toy.state.race.by_visits()
    assert "sorted for" not in toy.head.value


def test_another_guest_is_sorted_anew(toy):
    toy.order_buttons.value = "by visits"
    toy.guest_menu.value = "one-1G"
    assert toy.choice.order == "by visits"
    assert toy.state.order == toy.state.race.by_visits()


def test_equals_stay_as_they_are_argued(big):
    big.show(guest="16T-2M", order="by visits")
    assert big.state.order == (
        *("one_block_per_edge", "empty_range", "kai_two_step", "head_rounded_up", "two_calls"),
        *("walk_v3", "plain_split"),
    )
    big.show(order="as argued")


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edge", "frame", "why"),
    [("start", 40, "ends at or after its start"), ("end", 65, "this guest ends at 0x40 (256K)")],
)
def test_an_edge_that_is_refused_goes_back(toy, edge, frame, why):
    """The page's script lets edges push each other, and stops where the guest ends: others are answered."""
    before = seen(toy, typed=False)
    use(toy, f"drag.{edge}", frame)
    assert why in words(toy)
    assert seen(toy, typed=False) == before


def test_a_strategy_that_stumbles_at_another_range_is_answered_in_words():
    def short(geometry, span):
        return [PlannedCall(span.start, span.end, 1, True)] if span.pages < 40 else [None]

    race = StrategyRace("toy", rows={"short": short})
    before = race.state
    use(race, "drag.end", 60)
    assert "short plans PlannedCalls for [20K, 240K); None is none" in words(race)
    assert race.state is before
    assert race.handles.state["values"]["end"] == "34"


# ---- what it shows -------------------------------------------------------------------------------------


def test_picture_text_and_table_are_of_the_state(toy):
    toy.show(order="by visits", selected="plain_split")
    assert race_svg(toy.state, LIVE, "ids").body in picture_of(toy)
    assert toy._table() == race_table(toy.state)
    assert toy._text() == race_text(toy.state)


def test_every_state_is_run_on_the_same_tree_which_stays_as_it_was(big):
    big.show(guest="16T-2M")
    first = big.state.race
    track = Track(GUESTS["16T-2M"].layout)
    for start in range(0, 1 << 32, (1 << 32) // 7 + 3):
        big.show(start=start, end=1 << 32)
    big.show(guest="16T-2M")
    assert big.state.race == first == run_race(track, big.strategies, *span(big))


# ---- labels --------------------------------------------------------------------------------------------


def test_menus_and_buttons_offer_what_there_is(toy):
    assert [value for _, value in toy.guest_menu.options] == list(GUESTS)
    assert list(toy.order_buttons.options) == list(ORDERS)


def test_all_strategies_of_the_lab_can_race_at_once():
    race = StrategyRace("mixed", rows=STRATEGIES)
    assert len(race.state.rows) == len(STRATEGIES)
    assert race._text().startswith("Thirteen ways")
