"""The decoder's handlers, called directly and through the traits a browser would set."""

from __future__ import annotations

import re

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.lab.entries import read_entry
from tdpkit.lab.layouts import LAYOUTS
from tdpkit.show.entry import EntryDecoder
from tdpkit.show.entry.live import EXAMPLES, MACHINES
from tdpkit.show.entry.picture import entry_svg, entry_table, entry_text
from tdpkit.show.entry.state import entry_state
from tdpkit.show.theme import LIGHT, LIVE, LIVE_STYLE
from tests.oracles.exhibits import picture_of, words

VIEW = "application/vnd.jupyter.widget-view+json"
LEAF_2M, LEAF_1G = 0x80A0_0001_C8A0_0FB7, 0x80A1_9DA4_C000_0FB7
NX_2M = 0x80A2_1F9B_3120_0BB3

BAD_ENTRIES = [
    ("", "hexadecimal"),
    ("   ", "hexadecimal"),
    ("banana", "'banana'"),
    ("-1", "'-1'"),
    ("0x", "'0x'"),
    ("1.5", "'1.5'"),
    ("2M", "'2M'"),
    ("0x1" + "0" * 16, "has 17"),
    ("f" * 400, "has 400"),
    ("g" * 400, "g..."),
    ("💥", "💥"),
    ("<script>alert(1)</script>", "<script>"),
    ("</span><img src=x onerror=alert(1)>", "</span>"),
    ('" onclick="alert(1)', "onclick"),
]
BAD_ADDRESSES = [
    ("", "empty"),
    ("banana", "no frame number"),
    ("1K", "multiple of 4K"),
    ("-4K", "below 0"),
    ("256T", "(256T) is beyond it"),
    ("<b>", "no address"),
]


@pytest.fixture
def decoder():
    return EntryDecoder()


@pytest.fixture(scope="module")
def picker():
    """One decoder for all picks: its guests are built once."""
    return EntryDecoder()


def shown(decoder, *, texts: bool = True) -> dict[str, object]:
    """All that a learner sees of a decoder."""
    seen = {
        "state": decoder.state,
        "level": decoder.level_menu.value,
        "example": decoder.example_menu.value,
        "machine": decoder.machine_menu.value,
        "index": decoder.index_slider.value,
        "nx": decoder.nx_box.value,
        "exec": decoder.exec_box.value,
        "picture": picture_of(decoder),
        "table": decoder.table.value,
    }
    if texts:
        seen["texts"] = (decoder.entry_text.value, decoder.at_text.value)
        seen["message"] = decoder.message.value
    return seen


# ---- what it opens with --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_opens_on_any_example(name):
    decoder = EntryDecoder(name)
    assert decoder.state == entry_state(read_entry(EXAMPLES[name].spte, EXAMPLES[name].level))
    assert decoder.entry_text.value == f"{EXAMPLES[name].spte:#018x}"
    assert (decoder.level_menu.value, decoder.example_menu.value) == (EXAMPLES[name].level, name)
    assert (decoder.machine_menu.value, decoder.at_text.value, words(decoder)) == ("", "", "")


def test_it_opens_on_a_typed_entry_at_a_level():
    for entry in (LEAF_1G, f"{LEAF_1G:#x}", "80a1_9da4_c000_0fb7"):
        decoder = EntryDecoder(entry, level=3)
        assert decoder.state == entry_state(read_entry(LEAF_1G, 3))
        assert decoder.example_menu.value == ""
    assert EntryDecoder("2M", level=3).state.entry.level == 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("banana",), InvalidValueError),
        ((-1,), InvalidValueError),
        ((2**64,), InvalidValueError),
        ((1.5,), InvalidTypeError),
        ((True,), InvalidTypeError),
        (("2M", 6), InvalidValueError),
        ((LEAF_2M, 0), InvalidValueError),
        ((LEAF_2M, 2.0), InvalidTypeError),
    ],
)
def test_it_does_not_open_on_what_breaks_a_rule(arguments, error):
    with pytest.raises(error):
        EntryDecoder(*arguments)


def test_examples_are_what_their_names_say():
    """Kinds by hand; the recorded ones are in tests/vectors/spte_bits.jsonl."""
    kinds = {name: read_entry(spte, level).kind for name, (_, spte, level) in EXAMPLES.items()}
    assert {name: kind for name, kind in kinds.items() if kind != "leaf"} == {
        "table": "table",
        "empty": "non-present",
        "frozen": "frozen",
        "mmio": "mmio",
    }
    flawed = [name for name, (_, spte, level) in EXAMPLES.items() if read_entry(spte, level).flaws]
    assert flawed == ["unaligned"]
    assert {level for _, _, level in EXAMPLES.values()} == {1, 2, 3}


# ---- each control --------------------------------------------------------------------------------------


def test_an_entry_is_typed(decoder):
    decoder.entry_text.value = "80a1_9da4 c000_0fb7"
    assert decoder.state == entry_state(read_entry(LEAF_1G, 2))
    assert decoder.entry_text.value == "0x80a19da4c0000fb7", "written back in one form"
    assert decoder.example_menu.value == ""


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=60)
def test_every_64_bit_value_goes_in_and_comes_out_whole(raw):
    """A browser's numbers have 53 bits: no trait but a text may hold an entry."""
    decoder = EntryDecoder(raw, level=2)
    decoder.entry_text.value = f"{raw ^ 1:x}"
    assert decoder.state.entry.spte == raw ^ 1
    assert int(decoder.entry_text.value, 16) == raw ^ 1
    numbers = [
        value
        for widget in vars(decoder).values()
        if isinstance(widget, ipywidgets.DOMWidget)
        for value in widget.get_state().values()
        if isinstance(value, int)
    ]
    assert max(numbers) < 2**53


@pytest.mark.parametrize("level", range(1, 6))
def test_the_level_menu_reads_the_same_bits_at_another_level(decoder, level):
    decoder.level_menu.value = level
    assert decoder.state == entry_state(read_entry(LEAF_2M, level))
    assert decoder.example_menu.value == ("2M" if level == 2 else "")


def test_the_example_menu_brings_value_and_level(decoder):
    for name, (_, spte, level) in EXAMPLES.items():
        decoder.example_menu.value = name
        assert decoder.state == entry_state(read_entry(spte, level))
        assert (decoder.entry_text.value, decoder.level_menu.value) == (f"{spte:#018x}", level)


def test_no_example_keeps_the_entry(decoder):
    decoder.example_menu.value = ""
    assert decoder.state == entry_state(read_entry(LEAF_2M, 2))


def test_the_slider_chooses_the_child(decoder):
    for index in (1, 300, 511, 0):
        decoder.index_slider.value = index
        assert decoder.state == entry_state(read_entry(LEAF_2M, 2), index)
    assert (decoder.index_slider.min, decoder.index_slider.max) == (0, 511)


def test_the_child_and_the_rule_stay_when_the_entry_changes(decoder):
    decoder.index_slider.value = 7
    decoder.nx_box.value = True
    decoder.entry_text.value = f"{NX_2M:x}"
    assert decoder.state == entry_state(read_entry(NX_2M, 2), 7, nx_huge_pages=True)


def test_the_nx_rule_is_switched_and_asks_role_access(decoder):
    decoder.example_menu.value = "nx"
    assert decoder.state.child.spte & 0x404 == 0
    decoder.nx_box.value = True
    assert decoder.state.child.spte & 0x404 == 0x404
    decoder.exec_box.value = False
    assert decoder.state.child.spte & 0x404 == 0
    decoder.nx_box.value = False
    decoder.exec_box.value = True
    assert decoder.state == entry_state(read_entry(NX_2M, 2))


# ---- picked from a machine -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "at", "level", "found", "kind"),
    [
        ("mixed", "2M+12K", 1, 1, "leaf"),
        ("mixed", "2G+512M", 2, 2, "table"),
        ("mixed", "1G", 3, 3, "leaf"),
        ("mixed", "1G+2M", 1, 3, "leaf"),  # one 1G leaf: the way ends above
        ("mixed", "2G+400M", 1, 2, "non-present"),
        ("one-1G", "1G", 4, 4, "table"),
        ("one-1G", "0", 2, 3, "non-present"),
        ("16T", "2T+4K", 1, 2, "leaf"),
    ],
)
def test_an_entry_is_picked_or_the_way_ends_above_which_is_said(picker, machine, at, level, found, kind):
    picker.show(machine=machine, at=at, level=level)
    assert (picker.state.entry.kind, picker.state.entry.level) == (kind, found)
    assert picker.level_menu.value == found, "the menu follows"
    if found == level:
        assert picker.state.note.startswith(f"Picked from real tables: level {found}, index ")
    else:
        assert picker.state.note.startswith(f"There is no level {level} entry (")
        assert f"it ends here, at level {found}" in picker.state.note
    assert picker.entry_text.value == f"{picker.state.entry.spte:#018x}"


def test_machine_address_and_level_are_controls_too(picker):
    picker.show(example="empty")
    picker.machine_menu.value = "mixed"
    picker.at_text.value = "2M+12K"
    assert picker.state.entry[:2] == (0x80A0_0000_0020_3F37, 1)
    picker.level_menu.value = 2
    assert (picker.state.entry.kind, picker.state.entry.level) == ("table", 2)
    assert "level 2, index 1 on the way to 0x203 (2M+12K)" in picker.state.note


def test_a_picked_leaf_is_the_layouts_own(picker):
    """Leaves of the layouts lie on host frames of the same number."""
    picker.show(machine="16T", at="14T+4K", level=2)
    assert picker.state.entry.spte == 0x80A0_0000_0000_0FB7 | 14 << 40
    picker.show(machine="mixed", at="2M+12K", level=1)
    assert picker.state.entry.spte == 0x80A0_0000_0020_3F37


def test_each_machine_opens_at_an_address_where_there_is_something(picker):
    for name in MACHINES:
        picker.show(example="2M")
        picker.machine_menu.value = name
        assert picker.state.entry.kind in ("leaf", "table")
        assert picker.at_text.value == MACHINES[name].at
        assert set(MACHINES) <= set(LAYOUTS)


def test_what_is_typed_or_chosen_after_a_pick_is_no_longer_of_the_machine(picker):
    for leave in (
        lambda: setattr(picker.entry_text, "value", "0x7"),
        lambda: setattr(picker.example_menu, "value", "frozen"),
        lambda: setattr(picker.machine_menu, "value", ""),
    ):
        picker.show(machine="mixed")
        assert picker.state.note
        leave()
        assert (picker.state.note, picker.machine_menu.value, picker.at_text.value) == ("", "", "")


def test_no_machine_keeps_the_entry(picker):
    picker.show(machine="mixed", at="2G", level=2)
    entry = picker.state.entry
    picker.machine_menu.value = ""
    assert picker.state.entry[:2] == entry[:2]


def test_the_child_stays_chosen_through_picks(picker):
    picker.show(machine="mixed", at="4M", level=2, index=9)
    assert picker.state.child.index == 9
    assert picker.state.child.spte == 0x80A0_0000_0040_0F37 | 9 << 12
    picker.show(index=0)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "says"), BAD_ENTRIES)
def test_a_bad_entry_is_answered_in_words_and_stays_in_its_field(decoder, text, says):
    before = shown(decoder, texts=False)
    decoder.entry_text.value = text
    said = words(decoder)
    assert says in said
    assert "last good entry" in said
    assert len(said) < 300
    assert shown(decoder, texts=False) == before
    assert decoder.entry_text.value == text


@pytest.mark.parametrize(("text", "says"), BAD_ADDRESSES)
def test_a_bad_address_is_answered_in_words_and_stays_in_its_field(picker, text, says):
    picker.show(machine="mixed")
    before = shown(picker, texts=False)
    picker.at_text.value = text
    assert says in words(picker)
    assert shown(picker, texts=False) == before
    assert picker.at_text.value == text


def test_an_address_without_a_machine_is_answered_in_words(decoder):
    before = shown(decoder, texts=False)
    decoder.at_text.value = "1G"
    assert "choose a machine first" in words(decoder)
    assert shown(decoder, texts=False) == before


def test_a_level_that_the_machine_does_not_have_is_refused_and_the_menu_goes_back(picker):
    picker.show(machine="mixed", level=2)
    before = shown(picker, texts=False)
    picker.level_menu.value = 5
    assert "1 to 4 under this root; 5" in words(picker)
    assert shown(picker, texts=False) == before


@pytest.mark.parametrize(
    "good",
    [
        lambda decoder: setattr(decoder.entry_text, "value", "0x7"),
        lambda decoder: setattr(decoder.level_menu, "value", 3),
        lambda decoder: setattr(decoder.example_menu, "value", "1G"),
        lambda decoder: setattr(decoder.machine_menu, "value", "one-1G"),
        lambda decoder: setattr(decoder.index_slider, "value", 9),
        lambda decoder: setattr(decoder.nx_box, "value", True),
        lambda decoder: setattr(decoder.exec_box, "value", False),
    ],
    ids=["entry", "level", "example", "machine", "child", "nx", "exec"],
)
def test_the_next_good_change_clears_the_message_and_the_bad_text(decoder, good):
    decoder.entry_text.value = "banana"
    assert words(decoder) != ""
    good(decoder)
    assert words(decoder) == ""
    assert int(decoder.entry_text.value, 16) == decoder.state.entry.spte


@pytest.mark.parametrize(
    ("refused", "error", "says"),
    [
        ({"entry": "banana"}, InvalidValueError, "banana"),
        ({"entry": -1}, InvalidValueError, "-0x1"),
        ({"entry": 2**64}, InvalidValueError, "0x10000000000000000"),
        ({"entry": 1.5}, InvalidTypeError, "1.5"),
        ({"entry": True}, InvalidTypeError, "True"),
        ({"entry": [3]}, InvalidTypeError, "[3]"),
        ({"level": 0}, InvalidValueError, "0"),
        ({"level": 6}, InvalidValueError, "6"),
        ({"level": 1.0}, InvalidTypeError, "1.0"),
        ({"level": True}, InvalidTypeError, "True"),
        ({"example": "nope"}, InvalidValueError, "nope"),
        ({"machine": "nope"}, InvalidValueError, "nope"),
        ({"machine": "toy"}, InvalidValueError, "toy"),
        ({"machine": "mixed", "at": "256T"}, InvalidValueError, "256T"),
        ({"machine": "mixed", "at": -1}, InvalidValueError, "-1"),
        ({"machine": "mixed", "at": 1.5}, InvalidTypeError, "1.5"),
        ({"machine": "mixed", "level": 5}, InvalidValueError, "5"),
        ({"at": 3}, InvalidValueError, "choose a machine first"),
        ({"index": -1}, InvalidValueError, "-1"),
        ({"index": 512}, InvalidValueError, "512"),
        ({"index": 1.0}, InvalidTypeError, "1.0"),
        ({"index": True}, InvalidTypeError, "True"),
        ({"nx_huge_pages": 1}, InvalidTypeError, "nx_huge_pages"),
        ({"exec_allowed": "no"}, InvalidTypeError, "'no'"),
        ({"entry": 7, "example": "2M"}, InvalidValueError, "take one of them"),
        ({"entry": 7, "machine": "mixed"}, InvalidValueError, "take one of them"),
        ({"entry": 7, "level": 9}, InvalidValueError, "9"),
        ({"example": "1G", "index": 512}, InvalidValueError, "512"),
        ({"nx_huge_pages": True, "index": 512}, InvalidValueError, "512"),
    ],
)
def test_show_refuses_what_breaks_a_rule_and_nothing_half_happens(decoder, refused, error, says):
    before, choice = shown(decoder), decoder.choice
    with pytest.raises(error, match=re.escape(says)):
        decoder.show(**refused)
    assert shown(decoder) == before
    assert decoder.choice == choice
    decoder.propose(**refused)
    assert says in words(decoder)
    assert shown(decoder, texts=False) == {key: before[key] for key in shown(decoder, texts=False)}


@pytest.mark.parametrize("error", [KeyError, RuntimeError, AssertionError, AttributeError, IndexError])
def test_an_error_that_no_rule_explains_is_not_swallowed(decoder, monkeypatch, error):
    def show(**_change):
        raise error("a bug")

    monkeypatch.setattr(decoder, "show", show)
    with pytest.raises(error):
        decoder.propose(index=3)
    for control, value in (
        (decoder.entry_text, "7"),
        (decoder.level_menu, 1),
        (decoder.example_menu, "1G"),
        (decoder.machine_menu, "mixed"),
        (decoder.at_text, "1G"),
        (decoder.index_slider, 7),
        (decoder.nx_box, True),
        (decoder.exec_box, False),
    ):
        with pytest.raises(error):
            control.value = value
    assert words(decoder) == ""


# ---- a change at a time --------------------------------------------------------------------------------

changes = st.one_of(
    st.tuples(st.just("entry_text"), st.integers(0, 2**64 - 1).map(hex)),
    st.tuples(st.just("level_menu"), st.integers(1, 5)),
    st.tuples(st.just("example_menu"), st.sampled_from(sorted(EXAMPLES))),
    st.tuples(st.just("index_slider"), st.integers(0, 511)),
    st.tuples(st.just("nx_box"), st.booleans()),
    st.tuples(st.just("exec_box"), st.booleans()),
    st.tuples(st.just("entry_text"), st.sampled_from([text for text, _ in BAD_ENTRIES])),
)


@settings(max_examples=60)
@given(st.lists(changes, min_size=1, max_size=8))
def test_after_any_changes_the_state_is_what_the_last_good_ones_say(done):
    decoder = EntryDecoder()
    spte, level, index, nx, execute = LEAF_2M, 2, 0, False, True
    for what, value in done:
        getattr(decoder, what).value = value
        if what == "entry_text":
            spte = int(value, 16) if value.startswith("0x") and 2 < len(value) < 19 else spte
        elif what == "example_menu":
            spte, level = EXAMPLES[value][1:] if decoder.example_menu.value == value else (spte, level)
        elif what == "level_menu":
            level = value
        elif what == "index_slider":
            index = value
        elif what == "nx_box":
            nx = value
        else:
            execute = value
    assert decoder.state == entry_state(
        read_entry(spte, level), index, nx_huge_pages=nx, exec_allowed=execute
    )
    assert entry_svg(decoder.state, LIVE, "ids") in picture_of(decoder)


# ---- the picture and the bundle ------------------------------------------------------------------------


def test_one_change_makes_one_picture_and_what_changes_nothing_makes_none(decoder):
    pictures = []
    decoder.picture.observe(lambda change: pictures.append(change["new"]), names="value")
    for quiet in (
        lambda: setattr(decoder.entry_text, "value", "80a00001c8a00fb7"),
        lambda: setattr(decoder.entry_text, "value", "banana"),
        lambda: setattr(decoder.at_text, "value", "1G"),
        lambda: decoder.show(),
        lambda: decoder.show(index=0, nx_huge_pages=False),
    ):
        quiet()
        assert pictures == []
    for number, do in enumerate(
        [
            lambda: setattr(decoder.index_slider, "value", 6),
            lambda: setattr(decoder.nx_box, "value", True),
            lambda: setattr(decoder.level_menu, "value", 3),
            lambda: setattr(decoder.entry_text, "value", "0"),
            lambda: setattr(decoder.example_menu, "value", "nx"),
            lambda: setattr(decoder.machine_menu, "value", "one-1G"),
            lambda: setattr(decoder.at_text, "value", "2G"),
        ],
        start=1,
    ):
        do()
        assert len(pictures) == number, "one change, one picture"


def test_the_table_is_there_while_its_box_is_ticked(decoder):
    assert decoder.table.value == ""
    decoder.table_box.value = True
    assert decoder.table.value == entry_table(decoder.state)
    decoder.index_slider.value = 5
    assert decoder.table.value == entry_table(decoder.state)
    decoder.table_box.value = False
    assert decoder.table.value == ""


def test_the_picture_follows_the_pages_theme(decoder):
    assert decoder.picture.value.startswith('<div class="tdpkit"')
    assert [getattr(child, "value", None) for child in decoder.box.children].count(LIVE_STYLE) == 1


def test_two_decoders_share_no_id_and_do_not_move_each_other():
    one, other = EntryDecoder(), EntryDecoder()
    ids = [set(re.findall(r'\bid="([^"]*)"', decoder.picture.value)) for decoder in (one, other)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    before = shown(other)
    one.index_slider.value = 7
    one.example_menu.value = "frozen"
    assert shown(other) == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bundle_has_the_live_view_a_picture_and_the_answer(name):
    decoder = EntryDecoder(name)
    bundle = decoder._repr_mimebundle_()
    assert set(bundle) == {VIEW, "image/svg+xml", "text/plain"}
    assert bundle[VIEW]["model_id"] == decoder.box.model_id
    assert bundle["image/svg+xml"] == entry_svg(decoder.state, LIGHT)
    assert bundle["text/plain"] == entry_text(decoder.state)
    assert bundle["text/plain"].startswith(f"{decoder.state.title}. {decoder.state.answer}\n")


# ---- the controls --------------------------------------------------------------------------------------


def controls(widget) -> list:
    kinds = (ipywidgets.Dropdown, ipywidgets.IntSlider, ipywidgets.Text, ipywidgets.Checkbox)
    inside = [found for child in getattr(widget, "children", ()) for found in controls(child)]
    return [*inside, *([widget] if isinstance(widget, kinds) else [])]


def test_every_control_is_on_the_page_is_named_and_can_be_reached(decoder):
    on_page = controls(decoder.box)
    own = [value for value in vars(decoder).values() if controls(value) == [value]]
    assert len(on_page) == len(own) == 9
    assert {id(control) for control in on_page} == {id(control) for control in own}
    for control in on_page:
        assert control.description or control.tooltip
        assert not control.disabled
        assert control.tabbable is not False


def test_menus_offer_what_there_is(decoder):
    assert [value for _, value in decoder.example_menu.options] == ["", *EXAMPLES]
    assert [value for _, value in decoder.machine_menu.options] == ["", *MACHINES]
    assert list(decoder.level_menu.options) == [
        ("1: 4K per entry", 1),
        ("2: 2M per entry", 2),
        ("3: 1G per entry", 3),
        ("4: 512G per entry", 4),
        ("5: 256T per entry", 5),
    ]


def test_a_text_speaks_when_it_is_done_and_the_slider_while_it_moves(decoder):
    assert not decoder.entry_text.continuous_update
    assert not decoder.at_text.continuous_update
    assert decoder.index_slider.continuous_update
