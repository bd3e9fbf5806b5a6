"""What the explorer's own controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import pytest

from tdpkit.engine.gfn import InvalidValueError, format_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.live import ACTION_LABELS, KIND_LABELS, PRESETS
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.theme import LIVE
from tests.oracles.exhibits import part, picture_of, seen, words

UNITS = {"toy": [("4K", 1), ("32K", 2)], "16T": [("4K", 1), ("2M", 2), ("1G", 3)]}


@pytest.fixture
def toy():
    return BoundaryExplorer("toy")


@pytest.fixture(scope="module")
def big():
    """One 16 TiB explorer for all: each test brings it to its opening state."""
    return BoundaryExplorer("16T")


def span(explorer) -> tuple[int, int]:
    return explorer.state.outcome.span.start, explorer.state.outcome.span.end


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_the_toy():
    assert BoundaryExplorer().choice.preset == "toy"


@pytest.mark.parametrize(
    ("preset", "frames", "start", "end", "kind"),
    [
        ("toy", 32, 5, 12, "TD"),
        ("one-1G", 3 << 18, (1 << 18) + 256, 2 << 18, "plain"),  # Kai's [1G+1M, 2G), K2
        ("mixed", 4 << 18, 6 * 256 + 3, (3 << 18) + 513 * 256, "plain"),
        ("16T", 1 << 32, (2 << 28) + 1, (14 << 28) + 1, "TD"),  # the thread's [2T+4K, 14T+4K), M2
    ],
)
def test_each_preset_opens_in_its_own_state(preset, frames, start, end, kind):
    explorer = BoundaryExplorer(preset)
    assert explorer.guest.frames == frames
    assert (*span(explorer), explorer.state.kind) == (start, end, kind)
    assert explorer.state.outcome.action == "look"
    assert explorer.back_button.disabled
    assert words(explorer) == ""
    assert (explorer.range.start_text.value, explorer.range.end_text.value) == (
        format_gfn(start),
        format_gfn(end),
    )


def test_the_opening_states_are_worth_a_look():
    """Some leaf crosses an edge in each."""
    for preset in PRESETS:
        assert BoundaryExplorer(preset).state.outcome.crossing


def test_an_unknown_preset_is_refused_with_those_there_are():
    for name in ("nope", "", "Toy"):
        with pytest.raises(InvalidValueError) as refused:
            BoundaryExplorer(name)
        assert [word for word in (*PRESETS, repr(name)) if word not in str(refused.value)] == []


# ---- each control --------------------------------------------------------------------------------------


def test_the_kind_switch_flips_word_hatch_and_counter(toy):
    toy.action_buttons.value = "zap"
    td = toy.picture.value
    assert ("lost" in toy.words.answer, "-lost)" in td, "frames lost outside" in td) == (True,) * 3
    toy.kind_buttons.value = "plain"
    plain = toy.picture.value
    assert span(toy) == (5, 12)
    assert ("lost" in toy.words.answer, "-lost)" in plain, "frames lost outside" in plain) == (False,) * 3
    assert "-refaulted)" in plain
    assert "frames to re-fault outside" in plain
    toy.kind_buttons.value = "TD"
    assert toy.picture.value == td


@pytest.mark.parametrize("action", ACTIONS)
def test_the_action_buttons_do_the_action_on_the_untouched_guest(toy, action):
    for first in ACTIONS:
        toy.action_buttons.value = first
        toy.action_buttons.value = action
        assert toy.state == boundary_state(toy.guest, 5, 12, action)
        assert toy.back_button.disabled is (action == "look")


def test_back_goes_back_to_the_guest_before_the_action_and_another_preset_too(toy):
    before = seen(toy)
    toy.action_buttons.value = "split+zap"
    toy.back_button.click()
    assert seen(toy) == before
    toy.action_buttons.value = "zap"
    toy.preset_menu.value = "one-1G"
    assert seen(toy) == seen(BoundaryExplorer("one-1G"))


@pytest.mark.parametrize("preset", UNITS)
def test_the_slider_unit_is_any_leafs_size_and_changes_the_sliders_only(preset):
    explorer = BoundaryExplorer(preset)
    state, picture = explorer.state, explorer.picture.value
    assert list(explorer.range.unit_menu.options) == UNITS[preset]
    for _, level in UNITS[preset]:
        explorer.range.unit_menu.value = level
        unit = explorer.guest.geometry.pages(level)
        assert (
            explorer.range.start_slider.max == explorer.range.end_slider.max == explorer.guest.frames // unit
        )
        assert (explorer.range.start_slider.value, explorer.range.end_slider.value) == tuple(
            x // unit for x in span(explorer)
        )
        assert (explorer.state, explorer.picture.value) == (state, picture)


def test_a_slider_counts_units_and_the_state_is_exact(big):
    big.show(preset="16T")
    big.range.unit_menu.value = 3
    big.range.end_slider.value = big.range.end_slider.max
    assert big.range.end_slider.max == 16 * 1024
    assert span(big) == ((2 << 28) + 1, 1 << 32)
    big.range.end_slider.value = 3 * 1024 + 1
    assert span(big) == ((2 << 28) + 1, (3 << 28) + (1 << 18))
    big.range.unit_menu.value = 1
    assert big.range.end_slider.max == 1 << 32
    big.range.end_slider.value = (1 << 32) - 1
    assert span(big) == ((2 << 28) + 1, (1 << 32) - 1)
    assert big.range.end_text.value == "15T+1023G+1023M+1020K"
    big.range.end_slider.value = 1 << 32
    assert span(big) == ((2 << 28) + 1, 1 << 32)
    big.range.start_slider.value = 7
    assert span(big) == (7, 1 << 32)
    assert big.range.start_text.value == "28K"
    big.range.unit_menu.value = 2
    big.range.start_slider.value = 1
    assert span(big) == (512, 1 << 32)
    assert big.range.start_slider.max == 1 << 23


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("0x200", 0x200),
        ("512", 512),
        ("2M+4K", 513),
        ("2T+4K", (2 << 28) + 1),
        (" 2 M + 4 K ", 513),
        ("2m", 512),
    ],
)
def test_a_typed_address_is_taken_and_written_back_in_human_units(big, text, frame):
    big.show(preset="16T")
    big.show(start=3)
    big.range.start_text.value = text
    assert span(big) == (frame, (14 << 28) + 1)
    assert big.range.start_text.value == format_gfn(frame)
    big.show(start=0)
    big.range.end_text.value = text
    assert span(big) == (0, frame)
    assert big.range.end_text.value == format_gfn(frame)


def test_a_text_that_says_the_same_is_written_back_without_a_new_picture(toy):
    pictures = []
    toy.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    toy.range.start_text.value = "0x5"
    assert (toy.range.start_text.value, span(toy), pictures) == ("20K", (5, 12), [])


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("range.start_slider", 12, "empty"),
        ("range.start_slider", 13, "ends at or after its start"),
        ("range.start_slider", 32, "ends at or after its start"),
        ("range.end_slider", 5, "empty"),
        ("range.end_slider", 4, "ends at or after its start"),
        ("range.end_slider", 0, "ends at or after its start"),
    ],
)
def test_an_empty_or_reversed_range_is_refused_and_the_slider_goes_back(toy, what, value, says):
    before = seen(toy, typed=False)
    part(toy, what).value = value
    assert says in words(toy)
    assert f"{value:#x} ({format_gfn(value)})" in words(toy)
    assert seen(toy, typed=False) == before
    assert (toy.range.start_text.value, toy.range.end_text.value) == ("20K", "48K")


def test_the_next_bad_text_is_answered_for_itself(toy):
    toy.range.start_text.value = "banana"
    toy.range.end_text.value = "cherry"
    assert "cherry" in words(toy)
    assert "banana" not in words(toy)
    assert (toy.range.start_text.value, toy.range.end_text.value) == ("banana", "cherry")


def test_an_action_after_a_refused_text_acts_on_the_last_good_range(toy):
    toy.range.end_text.value = "48"
    toy.action_buttons.value = "zap"
    assert toy.state == boundary_state(toy.guest, 5, 12, "zap")


# ---- what it shows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_picture_text_and_table_are_of_the_state(preset):
    explorer = BoundaryExplorer(preset)
    explorer.show(action="zap")
    assert boundary_svg(explorer.state, LIVE, "ids") in picture_of(explorer)
    assert explorer._table() == boundary_table(explorer.state)
    assert explorer._text() == boundary_text(explorer.state)
    assert explorer._text().startswith(f"{explorer.words.title}. {explorer.words.answer}")


def test_menus_and_buttons_offer_what_there_is(toy):
    assert [value for _, value in toy.preset_menu.options] == list(PRESETS)
    assert [value for _, value in toy.kind_buttons.options] == list(VM_KINDS) == list(KIND_LABELS)
    assert [value for _, value in toy.action_buttons.options] == list(ACTIONS) == list(ACTION_LABELS)
