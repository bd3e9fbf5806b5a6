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
from tests.oracles.exhibits import picture_of, seen, words


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
    assert big.range.start_text.value == format_gfn(span(big)[0])
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
    assert [title for title, _ in race.row_menu.options] == [
        *("v3 walk", "two calls", "head and tail", "one block per edge", "mine")
    ]


@pytest.mark.parametrize("rows", [["nope"], [], "walk_v3", {"mine": 1}])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        StrategyRace("toy", rows=rows)


# ---- each control --------------------------------------------------------------------------------------


def test_a_slider_counts_units_and_the_state_is_exact(big):
    big.show(guest="16T-2M")
    assert big.range.end_slider.max == 16 * 1024
    big.range.end_slider.value = 3 * 1024 + 1
    assert span(big) == ((2 << 28) + 1, (3 << 28) + (1 << 18))
    big.range.unit_menu.value = 1
    big.range.start_slider.value = 7
    assert span(big) == (7, (3 << 28) + (1 << 18))
    assert big.range.start_text.value == "28K"


def test_the_slider_unit_changes_the_sliders_only(toy):
    state, picture = toy.state, toy.picture.value
    assert list(toy.range.unit_menu.options) == [("4K", 1), ("16K", 2), ("64K", 3)]
    for _, level in list(toy.range.unit_menu.options):
        toy.range.unit_menu.value = level
        assert toy.range.start_slider.max == 64 >> 2 * (level - 1)
    assert (toy.state, toy.picture.value) == (state, picture)


@pytest.mark.parametrize(("text", "frame"), [("0x10", 16), ("16", 16), ("64K", 16), (" 60 K + 4k ", 16)])
def test_a_typed_address_is_taken_and_written_back_in_human_units(toy, text, frame):
    toy.range.start_text.value = text
    assert span(toy) == (frame, 34)
    assert toy.range.start_text.value == format_gfn(frame)
    toy.show(start=0)
    toy.range.end_text.value = text
    assert span(toy) == (0, frame)


def test_start_may_be_the_end_and_the_picture_says_so(toy):
    toy.range.start_text.value = "136K"
    assert span(toy) == (34, 34)
    assert words(toy) == ""
    assert "The range is empty: both edges are 136K." in toy.picture.value
    toy.range.end_slider.value = 64
    toy.range.start_slider.value = 63
    assert span(toy) == (63, 64)


def test_a_row_s_calls_are_written_out_for_each_row(toy):
    rows = toy.state.race
    for title, name in list(toy.row_menu.options):
        toy.row_menu.value = name
        assert toy.state.selected == name
        assert re.search(rf">{title}: (\d+|no) calls?<", toy.picture.value)
    assert toy.state.race is rows, "nothing was run anew"


def test_rows_are_sorted_when_the_order_is_chosen_and_stay_while_a_slider_moves(toy):
    toy.order_buttons.value = "by visits"
    order = toy.state.order
    assert order == toy.state.race.by_visits()
    assert order[0] == "one_block_per_edge"
    assert order[-1] == "plain_split"
    toy.range.end_slider.value = 6
    assert span(toy) == (5, 6)
    assert toy.state.race.by_visits() != order, "or this test shows nothing"
    assert toy.state.order == order
    assert "sorted for [20K, 136K)" in toy.picture.value
    toy.order_buttons.value = "as argued"
    assert toy.state.order == OPENING_ROWS
    toy.order_buttons.value = "by visits"
    assert toy.state.order == toy.state.race.by_visits()
    assert "sorted for" not in toy.picture.value


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


def test_a_slider_that_is_refused_goes_back(toy):
    before = seen(toy, typed=False)
    toy.range.start_slider.value = 40
    assert "ends at or after its start" in words(toy)
    assert seen(toy, typed=False) == before


def test_a_strategy_that_stumbles_at_another_range_is_answered_in_words():
    def short(geometry, span):
        return [PlannedCall(span.start, span.end, 1, True)] if span.pages < 40 else [None]

    race = StrategyRace("toy", rows={"short": short})
    before = race.state
    race.range.end_slider.value = 60
    assert "short plans PlannedCalls for [20K, 240K); None is none" in words(race)
    assert race.state is before
    assert race.range.end_slider.value == 34


# ---- what it shows -------------------------------------------------------------------------------------


def test_picture_text_and_table_are_of_the_state(toy):
    toy.show(order="by visits", selected="plain_split")
    assert race_svg(toy.state, LIVE, "ids") in picture_of(toy)
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
    assert [value for _, value in toy.row_menu.options] == list(OPENING_ROWS)


def test_all_strategies_of_the_lab_can_race_at_once():
    race = StrategyRace("mixed", rows=STRATEGIES)
    assert len(race.state.rows) == len(STRATEGIES)
    assert race._text().startswith("Thirteen ways")
