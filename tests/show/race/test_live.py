"""The strategy race's handlers, called directly and through the traits a browser would set."""

import re

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, format_gfn, parse_gfn
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES
from tdpkit.lab.strategies import PlannedCall as Call
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.guests import GUESTS, OPENING_ROWS
from tdpkit.show.race.picture import race_svg
from tdpkit.show.race.state import ORDERS, run_race
from tdpkit.show.theme import LIVE, LIVE_STYLE
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"
SMALL = ["toy", "one-1G", "mixed"]


@pytest.fixture
def toy():
    return StrategyRace("toy")


@pytest.fixture(scope="module")
def big():
    """One of 16 TiB for all: each test brings it to its opening state."""
    return StrategyRace()


def span(race) -> tuple[int, int]:
    return race.state.race.span.start, race.state.race.span.end


def shown(race, *, texts: bool = True) -> dict[str, object]:
    """All that a learner sees of a race."""
    seen = {
        "state": race.state,
        "choice": race.choice,
        "guest": race.guest_menu.value,
        "order": race.order_buttons.value,
        "rows": list(race.row_menu.options),
        "row": race.row_menu.value,
        "units": list(race.range.unit_menu.options),
        "unit": race.range.unit_menu.value,
        "start": (race.range.start_slider.value, race.range.start_slider.max),
        "end": (race.range.end_slider.value, race.range.end_slider.max),
        "picture": picture_of(race),
        "table": race.table.value,
    }
    if texts:
        seen["texts"] = (race.range.start_text.value, race.range.end_text.value)
        seen["message"] = race.message.value
    return seen


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_the_thread_s_range_in_16_tib(big):
    assert big.guest == "16T-2M"
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
        return [Call(span.start, span.start, 1)]

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


@pytest.mark.parametrize("guest", ["nope", "", "Toy", ["toy"]])
def test_an_unknown_guest_is_refused_with_those_there_are(guest):
    with pytest.raises(InvalidValueError) as refused:
        StrategyRace(guest)
    assert [word for word in (*GUESTS, repr(guest)) if word not in str(refused.value)] == []


# ---- each control --------------------------------------------------------------------------------------


def test_the_guest_menu_opens_another_guest_and_back(toy):
    before = shown(toy)
    toy.guest_menu.value = "one-1G"
    assert shown(toy) == shown(StrategyRace("one-1G"))
    toy.guest_menu.value = "toy"
    assert shown(toy) == before


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


# ---- a change at a time, against a fresh one -----------------------------------------------------------

changes = st.one_of(
    st.tuples(st.just("guest"), st.sampled_from(SMALL)),
    st.tuples(st.just("unit"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["start slider", "end slider", "start text", "end text"]), st.floats(0, 1.1)),
    st.tuples(st.just("row"), st.sampled_from(OPENING_ROWS)),
)


def change(race, what: str, value) -> None:
    """Do it through its control; whether it is accepted is asked of the rules, worked without it."""
    start, end = span(race)
    geometry, most = race.state.race.geometry, race.state.race.frames
    unit = geometry.pages(race.choice.unit_level)
    if what == "guest":
        race.guest_menu.value = value
    elif what == "unit":
        race.range.unit_menu.value = value
    elif what == "row":
        race.row_menu.value = value
    else:
        control, edge = getattr(race.range, what.replace(" ", "_")), what.split()[0]
        new: int | str = min(int(value * most / unit), control.max) if "slider" in what else int(value * most)
        asked = new * unit if "slider" in what else new
        new = new if "slider" in what else f"{new:#x}"
        if new == control.value:
            return  # a control that stays says nothing
        control.value = new
        low, high = (asked, end) if edge == "start" else (start, asked)
        good = low <= high <= most and low < geometry.root_pages
        assert span(race) == ((low, high) if good else (start, end))
        assert (words(race) == "") is good


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SMALL), st.lists(changes, min_size=1, max_size=5))
def test_after_any_changes_it_is_what_a_fresh_race_brought_there_by_show_is(guest, done):
    race = StrategyRace(guest)
    for what, value in done:
        change(race, what, value)
    start, end = span(race)
    fresh = StrategyRace(
        race.guest, start=start, end=end, selected=race.choice.selected, unit_level=race.choice.unit_level
    )
    assert shown(race, texts=False) == shown(fresh, texts=False)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("banana", "no frame number"),
        ("", "write 0x200"),
        ("-4K", "below 0"),
        ("1K", "multiple of 4K"),
        ("4", "ends at or after its start"),
        ("0x41", "this guest ends at 0x40 (256K)"),
        ("16T", "this guest ends at 0x40 (256K)"),
        ("9" * 400, "too long"),
        ("<script>alert(1)</script>", "no address"),
        ("</span><img src=x onerror=alert(1)>", "no address"),
    ],
)
def test_a_bad_text_is_answered_in_words_and_stays_in_its_field(toy, text, rule):
    before = shown(toy, texts=False)
    toy.range.end_text.value = text
    assert rule in words(toy)
    assert "last good range" in words(toy)
    assert len(words(toy)) < 300
    assert shown(toy, texts=False) == before
    assert (toy.range.start_text.value, toy.range.end_text.value) == ("20K", text)
    toy.range.end_text.value = "64K"
    assert words(toy) == ""
    assert span(toy) == (5, 16)


def test_a_slider_that_is_refused_goes_back(toy):
    before = shown(toy, texts=False)
    toy.range.start_slider.value = 40
    assert "ends at or after its start" in words(toy)
    assert shown(toy, texts=False) == before


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        ({"start": 35}, InvalidValueError),
        ({"end": 65}, InvalidValueError),
        ({"start": -1}, InvalidValueError),
        ({"start": 64, "end": 64}, InvalidValueError),
        ({"start": 1.5}, InvalidTypeError),
        ({"start": True}, InvalidTypeError),
        ({"end": [3]}, InvalidTypeError),
        ({"start": "banana"}, InvalidValueError),
        ({"guest": "nope"}, InvalidValueError),
        ({"guest": "one-1G", "start": "3G"}, InvalidValueError),
        ({"guest": "one-1G", "selected": "nope"}, InvalidValueError),
        ({"order": "nope"}, InvalidValueError),
        ({"order": ""}, InvalidValueError),
        ({"order": ["by visits"]}, InvalidValueError),
        ({"selected": "two_calls_unfiltered"}, InvalidValueError),
        ({"selected": ["walk_v3"]}, InvalidValueError),
        ({"unit_level": 4}, InvalidValueError),
        ({"unit_level": 0}, InvalidValueError),
        ({"unit_level": 1.0}, InvalidTypeError),
        ({"order": "by visits", "start": 35}, InvalidValueError),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_half_happens(toy, refused, error):
    before = shown(toy)
    with pytest.raises(error):
        toy.show(**refused)
    assert shown(toy) == before
    toy.propose(**refused)
    assert words(toy) != ""
    assert shown(toy, texts=False) == {name: before[name] for name in shown(toy, texts=False)}


def test_a_strategy_that_stumbles_at_another_range_is_answered_in_words():
    def short(geometry, span):
        return [Call(span.start, span.end, 1, True)] if span.pages < 40 else [None]

    race = StrategyRace("toy", rows={"short": short})
    before = race.state
    race.range.end_slider.value = 60
    assert "short plans PlannedCalls for [20K, 240K); None is none" in words(race)
    assert race.state is before
    assert race.range.end_slider.value == 34


@pytest.mark.parametrize("error", [KeyError, RuntimeError, AssertionError])
def test_an_error_that_no_rule_explains_is_not_swallowed(toy, monkeypatch, error):
    def show(**_change):
        raise error("a bug")

    monkeypatch.setattr(toy, "show", show)
    with pytest.raises(error):
        toy.range.start_slider.value = 7


# ---- the picture ---------------------------------------------------------------------------------------


def test_the_picture_is_a_new_string_exactly_when_the_state_is_another(toy):
    pictures = []
    toy.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    for quiet in (
        lambda: setattr(toy.range.unit_menu, "value", 2),
        lambda: setattr(toy.range.end_text, "value", "banana"),
        lambda: setattr(toy.range.end_text, "value", "136K"),
        lambda: setattr(toy.range.start_slider, "value", 16),
        lambda: toy.show(start=5, end=34, selected="walk_v3"),
    ):
        quiet()
        assert pictures == []
    toy.range.unit_menu.value = 1
    for loud in (
        lambda: setattr(toy.range.start_slider, "value", 6),
        lambda: setattr(toy.range.end_text, "value", "64K"),
        lambda: setattr(toy.row_menu, "value", "plain_split"),
        lambda: setattr(toy.order_buttons, "value", "by visits"),
        lambda: setattr(toy.guest_menu, "value", "one-1G"),
    ):
        loud()
        assert len(pictures) == 1
        pictures.clear()


def test_the_picture_is_live_and_its_ids_are_the_exhibit_s_own(toy):
    other = StrategyRace("toy")
    assert picture_of(toy) == picture_of(other)
    assert toy._ids != other._ids
    assert race_svg(toy.state, LIVE, toy._ids) in toy.picture.value
    assert toy.box.children[0].value == LIVE_STYLE
    assert "min-width:760px" in toy.picture.value


def test_the_table_follows_while_it_is_open(toy):
    assert toy.table.value == ""
    toy.table_box.value = True
    assert ">10</td>" in toy.table.value
    toy.range.end_text.value = "24K"
    assert "[20K, 24K)" in toy.table.value
    toy.table_box.value = False
    assert toy.table.value == ""


def test_the_bundle_has_the_view_the_text_and_the_opening_picture(toy):
    bundle = toy._repr_mimebundle_()
    assert {VIEW, "text/plain", "image/svg+xml"} <= set(bundle)
    assert bundle[VIEW]["model_id"] == toy.box.model_id


def test_two_exhibits_do_not_disturb_each_other(toy):
    other = StrategyRace("toy")
    before = shown(other)
    toy.guest_menu.value = "mixed"
    toy.order_buttons.value = "by visits"
    assert shown(other) == before


def test_every_state_is_run_on_the_same_tree_which_stays_as_it_was(big):
    big.show(guest="16T-2M")
    first = big.state.race
    track = big._tracks["16T-2M"]
    for start in range(0, 1 << 32, (1 << 32) // 7 + 3):
        big.show(start=start, end=1 << 32)
    big.show(guest="16T-2M")
    assert big._tracks["16T-2M"] is track
    assert big.state.race == first == run_race(track, big.strategies, *span(big))


# ---- labels --------------------------------------------------------------------------------------------


def controls(widget) -> list:
    found = [control for child in getattr(widget, "children", ()) for control in controls(child)]
    kinds = (ipywidgets.Dropdown, ipywidgets.IntSlider, ipywidgets.Text, ipywidgets.ToggleButtons)
    return [*found, widget] if isinstance(widget, kinds) else found


def test_every_control_is_on_the_page_and_has_a_label_or_a_tooltip(toy):
    on_page = controls(toy.box)
    assert len(on_page) == 8
    for control in on_page:
        if isinstance(control, ipywidgets.ToggleButtons):
            assert len(control.tooltips) == len(control.options)
        else:
            assert control.description or control.tooltip


def test_menus_and_buttons_offer_what_there_is(toy):
    assert [value for _, value in toy.guest_menu.options] == list(GUESTS)
    assert list(toy.order_buttons.options) == list(ORDERS)
    assert [value for _, value in toy.row_menu.options] == list(OPENING_ROWS)


def test_all_strategies_of_the_lab_can_race_at_once():
    race = StrategyRace("mixed", rows=STRATEGIES)
    assert len(race.state.rows) == len(STRATEGIES)
    assert race._text().startswith("Thirteen ways")
