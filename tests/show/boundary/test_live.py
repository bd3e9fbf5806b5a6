"""What the explorer's own controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

import pytest

from tdpkit.engine.gfn import InvalidValueError, format_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.live import ACTION_LABELS, KIND_LABELS, PRESETS
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.theme import LIVE
from tests.oracles.exhibits import picture_of, seen, use, words

UNITS = {"toy": [("1 frame", 1), ("8 frames", 2)], "16T": [("4K", 1), ("2M", 2), ("1G", 3)]}


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
        ("16T", 1 << 32, (2 << 28) + 1, (14 << 28) + 1, "TD"),  # M2's sizes, our addresses
    ],
)
def test_each_preset_opens_in_its_own_state(preset, frames, start, end, kind):
    explorer = BoundaryExplorer(preset)
    assert explorer.guest.frames == frames
    assert (*span(explorer), explorer.state.kind) == (start, end, kind)
    assert explorer.state.outcome.action == "look"
    assert explorer.back_button.disabled
    assert words(explorer) == ""
    write = str if preset == "toy" else format_gfn
    assert (explorer.range.start_text.value, explorer.range.end_text.value) == (write(start), write(end))


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


def sliders(explorer) -> dict[str, dict]:
    """The keyed sliders on the picture, by the value they show."""
    return {one["kind"]: one for one in explorer.handles.state["sliders"] if one["keyed"]}


@pytest.mark.parametrize("preset", UNITS)
def test_the_unit_is_any_leafs_size_and_changes_what_a_key_does_only(preset):
    explorer = BoundaryExplorer(preset)
    state, picture = explorer.state, explorer.picture.value
    assert list(explorer.range.unit_menu.options) == UNITS[preset]
    for _, level in UNITS[preset]:
        explorer.range.unit_menu.value = level
        for slider in sliders(explorer).values():
            assert slider["step"] == str(explorer.guest.geometry.pages(level))
        assert (explorer.state, explorer.picture.value) == (state, picture)


def test_with_shift_a_key_moves_by_the_next_larger_leaf_or_all_there_is(big):
    big.show(preset="16T", unit_level=2)
    assert {slider["page"] for slider in sliders(big).values()} == {str(1 << 18)}
    assert {slider["page"] for slider in sliders(BoundaryExplorer("toy")).values()} == {"8"}
    toy = BoundaryExplorer("toy")
    toy.show(unit_level=2)
    assert {slider["page"] for slider in sliders(toy).values()} == {"32"}, "64 frames would be beyond it"


def test_edges_are_dragged_by_what_can_be_told_apart_and_never_by_less_than_the_unit(big):
    """16 TiB on 952 units are 4.5 million frames, 17G, to each: 1G is the largest leaf below that."""
    big.show(preset="16T", unit_level=1)
    assert (sliders(big)["start"]["snap"], sliders(big)["start"]["step"]) == (str(1 << 18), "1")
    lens = {(one["kind"], one["name"]): one for one in big.handles.state["sliders"] if not one["keyed"]}
    # A lens is 456 wide: of 512G a unit is 1.1G, of 1G 2.2M, of 2M 1.1 frames.
    assert [one["snap"] for one in lens.values()] == 2 * [str(1 << 18), "512", "1"]
    big.show(unit_level=3)
    lens = [one for one in big.handles.state["sliders"] if not one["keyed"]]
    assert [one["snap"] for one in lens] == 2 * [str(1 << 18), "512", "1"], "whatever the unit"
    toy = BoundaryExplorer("toy")
    assert {slider["snap"] for slider in sliders(toy).values()} == {"1"}
    toy.show(unit_level=2)
    assert {slider["snap"] for slider in sliders(toy).values()} == {"8"}


def test_both_edges_can_go_wherever_a_frame_is_left_between_them(toy):
    reach = {kind: (int(one["low"]), int(one["high"])) for kind, one in sliders(toy).items()}
    assert reach == {"start": (0, 31), "end": (1, 32), "span": (0, 32)}


def test_a_slider_stands_where_the_picture_draws_the_edge(big):
    big.show(preset="16T", start="2T+4K", end="14T+4K")
    whole = sliders(big)["start"]
    assert whole["knots"] == [["0", 24], [str(1 << 32), 976]]
    # 2T of 16T are an eighth of 952 units.
    assert f"M{24 + 119} " in big.picture.value
    texts = {kind: one["text"] for kind, one in sliders(big).items()}
    assert texts == {"start": "2T+4K", "end": "14T+4K", "span": "[2T+4K, 14T+4K)"}


def test_what_is_dragged_is_exact_beyond_what_a_float_holds(big):
    big.show(preset="16T")
    use(big, "drag.start", (1 << 32) - 1)
    assert span(big) == ((2 << 28) + 1, (14 << 28) + 1), "alone it would be above the end: refused, and back"
    assert "above end" in words(big)
    big.handles.ask = {"n": 9, "set": {"start": str((1 << 32) - 1), "end": str(1 << 32)}}
    assert span(big) == ((1 << 32) - 1, 1 << 32)
    assert big.range.start_text.value == "15T+1023G+1023M+1020K"
    assert big.handles.state["answered"] == 9
    assert big.handles.state["values"] == {"start": "4294967295", "end": "4294967296"}


# ---- typed from left to right ---------------------------------------------------------------------------


def test_a_start_refused_because_of_the_end_is_kept_and_tried_again_with_it(toy):
    toy.range.start_text.value = "14"
    assert "above end" in words(toy)
    assert span(toy) == (5, 12)
    toy.range.end_text.value = "20"
    assert span(toy) == (14, 20)
    assert words(toy) == ""
    assert (toy.range.start_text.value, toy.range.end_text.value) == ("14", "20")


def test_so_is_an_end_refused_because_of_the_start(toy):
    toy.range.end_text.value = "3"
    toy.range.start_text.value = "1"
    assert span(toy) == (1, 3)


def test_what_is_wrong_in_itself_does_not_hinder_the_other(toy):
    toy.range.start_text.value = "banana"
    toy.range.end_text.value = "20"
    assert span(toy) == (5, 20)
    assert toy.range.start_text.value == "5", "and is gone from its field"


def test_what_was_refused_is_forgotten_with_the_next_change_of_something_else(toy):
    toy.range.start_text.value = "14"
    toy.action_buttons.value = "zap"
    toy.range.end_text.value = "20"
    assert span(toy) == (5, 20)


def test_two_refused_edges_wait_for_each_other(toy):
    toy.range.start_text.value = "14"
    toy.range.end_text.value = "40"
    assert span(toy) == (5, 12)
    toy.range.end_text.value = "20"
    assert span(toy) == (14, 20)


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
    assert (toy.range.start_text.value, span(toy), pictures) == ("5", (5, 12), [])


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("drag.start", 12, "empty"),
        ("drag.start", 13, "ends at or after its start"),
        ("drag.end", 5, "empty"),
        ("drag.end", 0, "ends at or after its start"),
        ("drag.end", 33, "ends at 0x20 (128K)"),
    ],
)
def test_an_edge_that_did_not_push_the_other_is_refused_and_goes_back(toy, what, value, says):
    """The page's script pushes; a message that does not is answered as any other."""
    before = seen(toy, typed=False)
    use(toy, what, value)
    assert says in words(toy)
    assert f"{value:#x} ({format_gfn(value)})" in words(toy)
    assert seen(toy, typed=False) == before
    assert (toy.range.start_text.value, toy.range.end_text.value) == ("5", "12")


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
    assert boundary_svg(explorer.state, LIVE, "ids").body in picture_of(explorer)
    assert explorer._table() == boundary_table(explorer.state)
    assert explorer._text() == boundary_text(explorer.state)
    assert explorer._text().startswith(f"{explorer.words.title}. {explorer.words.answer}")


def test_menus_and_buttons_offer_what_there_is(toy):
    assert [value for _, value in toy.preset_menu.options] == list(PRESETS)
    assert [value for _, value in toy.kind_buttons.options] == list(VM_KINDS) == list(KIND_LABELS)
    assert [value for _, value in toy.action_buttons.options] == list(ACTIONS) == list(ACTION_LABELS)
