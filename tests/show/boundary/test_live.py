"""The explorer's handlers, called directly and through the traits a browser would set."""

import re
from xml.etree import ElementTree

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, format_gfn, parse_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS
from tdpkit.lab.layouts import LAYOUTS
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.live import ACTION_LABELS, KIND_LABELS, PRESETS
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.theme import LIGHT, LIVE, LIVE_STYLE
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"
SMALL = ["toy", "one-1G"]
UNITS = {"toy": [("4K", 1), ("32K", 2)], "16T": [("4K", 1), ("2M", 2), ("1G", 3)]}
BAD_TEXTS = [
    ("banana", "banana", "no frame number"),
    ("", "empty", "write 0x200"),
    ("   ", "empty", "write 0x200"),
    ("1e9", "1e9", "no frame number"),
    ("-4K", "-4K", "below 0"),
    ("1K", "1K", "multiple of 4K"),
    ("4", "(16K)", "ends at or after its start"),  # as an end, where the start is 5: reversed
    ("0x5", "(20K)", "empty"),  # as an end: empty
    ("0x21", "(132K)", "ends at 0x20 (128K)"),
    ("16T", "(16T)", "ends at 0x20 (128K)"),
    ("9" * 400, "9" * 30, "too long"),
    ("1+" * 300 + "1", "0x12d (1M+180K)", "ends at 0x20 (128K)"),
    ("💥", "💥", "no address"),
    ("<script>alert(1)</script>", "<script>", "no address"),
    ("</span><img src=x onerror=alert(1)>", "</span>", "no address"),
    ("2M + ", "2M+", "no address"),
    ("0x", "0x", "no frame number"),
    ("2.5M", "2.5M", "no address"),
    ("20000000P", "20000000P", "beyond"),
]


@pytest.fixture
def toy():
    return BoundaryExplorer("toy")


@pytest.fixture(scope="module")
def big():
    """One 16 TiB explorer for all: each test brings it to its opening state."""
    return BoundaryExplorer("16T")


def span(explorer) -> tuple[int, int]:
    return explorer.state.outcome.span.start, explorer.state.outcome.span.end


def shown(explorer, *, texts: bool = True) -> dict[str, object]:
    """All that a learner sees of an explorer."""
    seen = {
        "state": explorer.state,
        "preset": explorer.preset_menu.value,
        "kind": explorer.kind_buttons.value,
        "units": list(explorer.unit_menu.options),
        "unit": explorer.unit_menu.value,
        "start slider": (explorer.start_slider.min, explorer.start_slider.value, explorer.start_slider.max),
        "end slider": (explorer.end_slider.min, explorer.end_slider.value, explorer.end_slider.max),
        "action": explorer.action_buttons.value,
        "back": explorer.back_button.disabled,
        "picture": picture_of(explorer),
        "table": explorer.table.value,
    }
    if texts:
        seen["texts"] = (explorer.start_text.value, explorer.end_text.value)
        seen["message"] = explorer.message.value
    return seen


def brought_to(**state) -> BoundaryExplorer:
    explorer = BoundaryExplorer(state["preset"])
    explorer.show(**state)
    return explorer


# ---- what it opens with --------------------------------------------------------------------------------


def test_it_opens_on_the_toy():
    assert BoundaryExplorer().preset == "toy"


@pytest.mark.parametrize(
    ("preset", "frames", "start", "end", "kind"),
    [
        ("toy", 32, 5, 12, "TD"),
        ("one-1G", 3 << 18, (1 << 18) + 256, 2 << 18, "plain"),  # Kai's [1G+1M, 2G), M10
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
    assert (explorer.start_text.value, explorer.end_text.value) == (format_gfn(start), format_gfn(end))


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


def test_the_preset_menu_opens_another_guest_in_its_own_state(toy):
    toy.action_buttons.value = "zap"
    toy.preset_menu.value = "one-1G"
    assert shown(toy) == shown(BoundaryExplorer("one-1G"))
    toy.preset_menu.value = "toy"
    assert shown(toy) == shown(BoundaryExplorer("toy"))


def test_the_kind_switch_flips_word_hatch_and_counter(toy):
    toy.action_buttons.value = "zap"
    td = toy.picture.value
    assert ("lost" in toy.state.answer, "-lost)" in td, "frames lost outside" in td) == (True,) * 3
    toy.kind_buttons.value = "plain"
    plain = toy.picture.value
    assert span(toy) == (5, 12)
    assert ("lost" in toy.state.answer, "-lost)" in plain, "frames lost outside" in plain) == (False,) * 3
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


def test_back_goes_back_to_the_guest_before_the_action(toy):
    before = shown(toy)
    toy.action_buttons.value = "split+zap"
    assert shown(toy) != before
    toy.back_button.click()
    assert shown(toy) == before


@pytest.mark.parametrize("preset", UNITS)
def test_the_slider_unit_is_any_leafs_size_and_changes_the_sliders_only(preset):
    explorer = BoundaryExplorer(preset)
    state, picture = explorer.state, explorer.picture.value
    assert list(explorer.unit_menu.options) == UNITS[preset]
    for _, level in UNITS[preset]:
        explorer.unit_menu.value = level
        unit = explorer.guest.geometry.pages(level)
        assert explorer.start_slider.max == explorer.end_slider.max == explorer.guest.frames // unit
        assert (explorer.start_slider.value, explorer.end_slider.value) == tuple(
            x // unit for x in span(explorer)
        )
        assert (explorer.state, explorer.picture.value) == (state, picture)


def test_a_slider_counts_units_and_the_state_is_exact(big):
    big.show(preset="16T")
    big.unit_menu.value = 3
    big.end_slider.value = big.end_slider.max
    assert big.end_slider.max == 16 * 1024
    assert span(big) == ((2 << 28) + 1, 1 << 32)
    big.end_slider.value = 3 * 1024 + 1
    assert span(big) == ((2 << 28) + 1, (3 << 28) + (1 << 18))
    big.unit_menu.value = 1
    assert big.end_slider.max == 1 << 32
    big.end_slider.value = (1 << 32) - 1
    assert span(big) == ((2 << 28) + 1, (1 << 32) - 1)
    assert big.end_text.value == "15T+1023G+1023M+1020K"
    big.end_slider.value = 1 << 32
    assert span(big) == ((2 << 28) + 1, 1 << 32)
    big.start_slider.value = 7
    assert span(big) == (7, 1 << 32)
    assert big.start_text.value == "28K"
    big.unit_menu.value = 2
    big.start_slider.value = 1
    assert span(big) == (512, 1 << 32)
    assert big.start_slider.max == 1 << 23


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
    big.start_text.value = text
    assert span(big) == (frame, (14 << 28) + 1)
    assert big.start_text.value == format_gfn(frame)
    big.show(start=0)
    big.end_text.value = text
    assert span(big) == (0, frame)
    assert big.end_text.value == format_gfn(frame)


def test_a_text_that_says_the_same_is_written_back_without_a_new_picture(toy):
    pictures = []
    toy.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    toy.start_text.value = "0x5"
    assert (toy.start_text.value, span(toy), pictures) == ("20K", (5, 12), [])


# ---- a change at a time, against a model ---------------------------------------------------------------


class Model:
    """What the explorer should be at: the rules of its controls, worked without it."""

    def __init__(self, preset: str) -> None:
        self.open(preset)

    def open(self, preset: str) -> None:
        opening = PRESETS[preset]
        self.preset, self.kind, self.action = preset, opening.kind, "look"
        self.start, self.end, self.unit_level = (
            parse_gfn(opening.start),
            parse_gfn(opening.end),
            opening.unit_level,
        )
        self.frames = LAYOUTS[opening.layout].frames
        self.geometry = LAYOUTS[opening.layout].geometry

    @property
    def unit(self) -> int:
        return self.geometry.pages(self.unit_level)

    def move(self, start: int, end: int) -> bool:
        """Whether it is accepted."""
        good = 0 <= start < end <= self.frames
        if good:
            self.start, self.end = start, end
        return good

    def state(self) -> dict[str, object]:
        return {
            name: getattr(self, name) for name in ("preset", "kind", "start", "end", "action", "unit_level")
        }


changes = st.one_of(
    st.tuples(st.just("preset"), st.sampled_from(SMALL)),
    st.tuples(st.just("kind"), st.sampled_from(sorted(VM_KINDS))),
    st.tuples(st.just("unit"), st.integers(0, 10)),
    st.tuples(st.sampled_from(["start slider", "end slider"]), st.floats(0, 1)),
    st.tuples(st.sampled_from(["start text", "end text"]), st.floats(0, 1.1)),
    st.tuples(st.just("action"), st.sampled_from(ACTIONS)),
    st.tuples(st.just("back"), st.none()),
)


def change(explorer, model, what: str, value) -> bool | None:
    """Do it to both; whether it is accepted, or None if the control stays as it is, which says nothing."""
    edge = what.split()[0]
    if what == "back":
        model.action = "look"
        explorer.back_button.click()
        return True
    if what == "unit":
        value = value % model.geometry.max_leaf_level + 1
    elif what.endswith("slider"):
        value = int(value * (model.frames // model.unit))
    elif what.endswith("text"):
        value = f"{int(value * model.frames):#x}"
    names = {"preset": "preset_menu", "kind": "kind_buttons", "unit": "unit_menu", "action": "action_buttons"}
    control = getattr(explorer, names.get(what) or what.replace(" ", "_"))
    if control.value == value:
        return None
    good = True
    if what == "preset":
        model.open(value)
    elif what == "kind":
        model.kind = value
    elif what == "unit":
        model.unit_level = value
    elif what == "action":
        model.action = value
    else:
        asked = value * model.unit if what.endswith("slider") else int(value, 16)
        good = model.move(**{"start": model.start, "end": model.end, edge: asked})
    control.value = value
    return good


@settings(max_examples=40)
@given(st.sampled_from(SMALL), st.lists(changes, min_size=1, max_size=6))
def test_after_any_changes_it_is_what_a_fresh_explorer_brought_there_by_show_is(preset, done):
    explorer, model, good = BoundaryExplorer(preset), Model(preset), True
    for what, value in done:
        said = change(explorer, model, what, value)
        good = good if said is None else said
        assert (words(explorer) == "") is good
    assert shown(explorer, texts=good) == shown(brought_to(**model.state()), texts=good)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("preset", "one-1G"),
        ("kind", "plain"),
        ("unit", 1),
        ("start slider", 0.0),
        ("end slider", 1.0),
        ("start text", 0.25),
        ("end text", 0.75),
        ("action", "split"),
        ("back", None),
    ],
)
def test_after_each_control_it_is_what_a_fresh_explorer_brought_there_by_show_is(what, value):
    explorer, model = BoundaryExplorer("toy"), Model("toy")
    change(explorer, model, "action", "zap")
    assert change(explorer, model, what, value)
    assert shown(explorer) == shown(brought_to(**model.state()))


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "value", "rule"), BAD_TEXTS)
def test_a_bad_text_is_answered_in_words_and_stays_in_its_field(toy, text, value, rule):
    before = shown(toy, texts=False)
    toy.end_text.value = text
    said = words(toy)
    assert rule in said
    assert value in said
    assert "last good range" in said
    assert len(said) < 300
    assert shown(toy, texts=False) == before
    assert (toy.start_text.value, toy.end_text.value) == ("20K", text)


@pytest.mark.parametrize(
    "text", ["<b>", "</span><img src=x onerror=alert(1)>", "&lt;b&gt;", '" onclick="alert(1)', "<!--", "]]>"]
)
def test_what_was_typed_is_text_in_the_message_never_markup(toy, text):
    toy.start_text.value = text
    [opening, closing] = re.findall(r"<[^>]*>", toy.message.value)
    assert re.findall(r' ([a-z]+)="', opening) == ["role", "style"]
    assert closing == "</span>"
    assert text.replace(" ", "") in words(toy).replace(" ", "")


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("start_slider", 12, "empty"),
        ("start_slider", 13, "ends at or after its start"),
        ("start_slider", 32, "ends at or after its start"),
        ("end_slider", 5, "empty"),
        ("end_slider", 4, "ends at or after its start"),
        ("end_slider", 0, "ends at or after its start"),
    ],
)
def test_an_empty_or_reversed_range_is_refused_and_the_slider_goes_back(toy, what, value, says):
    before = shown(toy, texts=False)
    getattr(toy, what).value = value
    assert says in words(toy)
    assert f"{value:#x} ({format_gfn(value)})" in words(toy)
    assert shown(toy, texts=False) == before
    assert (toy.start_text.value, toy.end_text.value) == ("20K", "48K")


@pytest.mark.parametrize(
    "good",
    [
        lambda explorer: setattr(explorer.start_slider, "value", 7),
        lambda explorer: setattr(explorer.end_text, "value", "64K"),
        lambda explorer: setattr(explorer.start_text, "value", "20K"),
        lambda explorer: setattr(explorer.action_buttons, "value", "zap"),
        lambda explorer: setattr(explorer.kind_buttons, "value", "plain"),
        lambda explorer: setattr(explorer.unit_menu, "value", 2),
        lambda explorer: setattr(explorer.preset_menu, "value", "one-1G"),
        lambda explorer: explorer.back_button.click(),
    ],
    ids=["slider", "other text", "same text", "action", "kind", "unit", "preset", "back"],
)
def test_the_next_good_change_clears_the_message_and_the_bad_text(toy, good):
    toy.start_text.value = "banana"
    assert words(toy) != ""
    good(toy)
    assert words(toy) == ""
    assert parse_gfn(toy.start_text.value) == span(toy)[0]


def test_the_next_bad_text_is_answered_for_itself(toy):
    toy.start_text.value = "banana"
    toy.end_text.value = "cherry"
    assert "cherry" in words(toy)
    assert "banana" not in words(toy)
    assert (toy.start_text.value, toy.end_text.value) == ("banana", "cherry")


def test_an_action_after_a_refused_text_acts_on_the_last_good_range(toy):
    toy.end_text.value = "48"
    toy.action_buttons.value = "zap"
    assert toy.state == boundary_state(toy.guest, 5, 12, "zap")


def test_propose_answers_what_show_refuses(toy):
    before = shown(toy, texts=False)
    for refused, said in (
        ({"start": 1.5}, "1.5"),
        ({"start": "banana"}, "banana"),
        ({"end": True}, "True"),
        ({"preset": "nope"}, "nope"),
        ({"kind": "nope"}, "nope"),
        ({"action": "nope"}, "nope"),
        ({"unit_level": 9}, "9"),
    ):
        toy.propose(**refused)
        assert said in words(toy)
        assert shown(toy, texts=False) == before
    toy.propose(action="zap")
    assert (words(toy), toy.state.outcome.action) == ("", "zap")


@pytest.mark.parametrize("error", [KeyError, RuntimeError, AssertionError, AttributeError, IndexError])
def test_an_error_that_no_rule_explains_is_not_swallowed(toy, monkeypatch, error):
    def show(**_change):
        raise error("a bug")

    monkeypatch.setattr(toy, "show", show)
    with pytest.raises(error):
        toy.propose(action="zap")
    with pytest.raises(error):
        toy.start_slider.value = 7
    assert words(toy) == ""


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        ({"start": 12}, InvalidValueError),
        ({"start": 13}, InvalidValueError),
        ({"end": 33}, InvalidValueError),
        ({"start": -1}, InvalidValueError),
        ({"start": 1.5}, InvalidTypeError),
        ({"start": None, "end": [3]}, InvalidTypeError),
        ({"start": "banana"}, InvalidValueError),
        ({"preset": "nope"}, InvalidValueError),
        ({"preset": "one-1G", "start": "2G"}, InvalidValueError),
        ({"preset": "one-1G", "unit_level": 9}, InvalidValueError),
        ({"kind": "nope"}, InvalidValueError),
        ({"kind": ""}, InvalidValueError),
        ({"action": "nope"}, InvalidValueError),
        ({"action": ""}, InvalidValueError),
        ({"unit_level": 3}, InvalidValueError),
        ({"unit_level": 0}, InvalidValueError),
        ({"unit_level": -1}, InvalidValueError),
        ({"unit_level": 1.0}, InvalidTypeError),
        ({"kind": "plain", "start": 12}, InvalidValueError),
        ({"action": "zap", "unit_level": 2, "end": 0}, InvalidValueError),
    ],
)
def test_show_refuses_what_breaks_a_rule_and_nothing_half_happens(toy, refused, error):
    before, guest, preset = shown(toy), toy.guest, toy.preset
    with pytest.raises(error):
        toy.show(**refused)
    assert shown(toy) == before
    assert (toy.guest, toy.preset) == (guest, preset)


def test_a_slider_unit_above_the_largest_leaf_is_refused_and_nothing_half_happens():
    """The root of an x86 guest is at level 4, its largest leaf at 3."""
    explorer = BoundaryExplorer("one-1G")
    before, level = shown(explorer), explorer.unit_level
    with pytest.raises(InvalidValueError):
        explorer.show(unit_level=4)
    assert (shown(explorer), explorer.unit_level) == (before, level)


# ---- the picture ---------------------------------------------------------------------------------------


def test_the_picture_is_a_new_string_exactly_when_the_state_is_another(toy):
    pictures = []
    toy.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    quiet = [
        lambda: setattr(toy.unit_menu, "value", 2),
        lambda: setattr(toy.unit_menu, "value", 1),
        lambda: setattr(toy.end_text, "value", "banana"),
        lambda: setattr(toy.end_text, "value", "48K"),
        lambda: setattr(toy.start_slider, "value", 30),
        lambda: toy.show(start=5, end=12),
        lambda: toy.back_button.click(),
    ]
    for do in quiet:
        do()
        assert pictures == []
    for number, do in enumerate(
        [
            lambda: setattr(toy.start_slider, "value", 6),
            lambda: setattr(toy.end_text, "value", "52K"),
            lambda: setattr(toy.action_buttons, "value", "zap"),
            lambda: setattr(toy.kind_buttons, "value", "plain"),
            lambda: toy.back_button.click(),
            lambda: setattr(toy.preset_menu, "value", "one-1G"),
        ],
        start=1,
    ):
        do()
        assert len(pictures) == number, "one change, one picture"


def test_the_table_is_there_while_its_box_is_ticked(toy):
    """Sent along with every picture it would cost each slider key a message."""
    assert toy.table.value == ""
    toy.table_box.value = True
    assert toy.table.value == boundary_table(toy.state)
    toy.start_text.value = "6"
    assert "[24K, 48K)" in toy.table.value
    toy.table_box.value = False
    assert toy.table.value == ""


def test_the_picture_the_table_and_the_state_say_the_same(toy):
    toy.table_box.value = True
    for action in ACTIONS:
        toy.action_buttons.value = action
        assert boundary_svg(toy.state, LIVE, "ids") in picture_of(toy)
        assert boundary_table(toy.state) in toy.table.value
        ElementTree.fromstring(toy.picture.value)
        ElementTree.fromstring(toy.table.value)


def test_the_picture_follows_the_pages_theme(toy):
    assert toy.picture.value.startswith('<div class="tdpkit"')
    assert [child.value for child in toy.box.children if getattr(child, "value", None) == LIVE_STYLE] == [
        LIVE_STYLE
    ]


def test_two_explorers_share_no_id():
    one, other = (re.findall(r'\bid="([^"]*)"', BoundaryExplorer("toy").picture.value) for _ in range(2))
    assert one
    assert set(one).isdisjoint(other)


def test_two_explorers_do_not_move_each_other():
    one, other = BoundaryExplorer("toy"), BoundaryExplorer("toy")
    before = shown(other)
    one.start_slider.value = 7
    one.action_buttons.value = "zap"
    assert shown(other) == before


# ---- the bundle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_the_bundle_has_the_live_view_a_picture_and_the_answer(preset):
    explorer = BoundaryExplorer(preset)
    explorer.show(action="zap")
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {VIEW, "image/svg+xml", "text/plain"}
    assert bundle[VIEW]["model_id"] == explorer.box.model_id
    assert bundle["image/svg+xml"] == boundary_svg(explorer.state, LIGHT)
    assert bundle["text/plain"] == boundary_text(explorer.state)
    assert bundle["text/plain"].startswith(f"{explorer.state.title}. {explorer.state.answer}")


def test_the_bundle_is_the_same_in_every_explorer_but_for_the_views_model():
    one, other = (BoundaryExplorer("toy")._repr_mimebundle_(include=None, exclude=None) for _ in range(2))
    assert one[VIEW].pop("model_id") != other[VIEW].pop("model_id")
    assert one == other


# ---- the controls --------------------------------------------------------------------------------------


def controls(widget) -> list:
    found = []
    for child in getattr(widget, "children", ()):
        found += controls(child)
    if isinstance(widget, (ipywidgets.Dropdown, ipywidgets.IntSlider, ipywidgets.Text)):
        found.append(widget)
    if isinstance(widget, (ipywidgets.ToggleButtons, ipywidgets.Button)):
        found.append(widget)
    return found


def test_every_control_is_on_the_page_and_has_a_label_or_a_tooltip(toy):
    on_page = controls(toy.box)
    own = [
        value
        for value in vars(toy).values()
        if isinstance(value, ipywidgets.DOMWidget) and controls(value) == [value]
    ]
    assert len(on_page) == len(own) == 9
    assert {id(control) for control in on_page} == {id(control) for control in own}
    for control in on_page:
        if isinstance(control, ipywidgets.ToggleButtons) and not control.description:
            assert len(control.tooltips) == len(control.options)
            assert all(control.tooltips)
        else:
            assert control.description or control.tooltip


def test_menus_and_buttons_offer_what_there_is(toy):
    assert [value for _, value in toy.preset_menu.options] == list(PRESETS)
    assert [value for _, value in toy.kind_buttons.options] == list(VM_KINDS) == list(KIND_LABELS)
    assert [value for _, value in toy.action_buttons.options] == list(ACTIONS) == list(ACTION_LABELS)


def test_a_text_speaks_when_it_is_done_and_a_slider_while_it_moves(toy):
    assert not toy.start_text.continuous_update
    assert not toy.end_text.continuous_update
    assert toy.start_slider.continuous_update
    assert toy.end_slider.continuous_update
