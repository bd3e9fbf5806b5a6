"""What the decoder's own controls are for; what holds for all exhibits is in tests/show/test_exhibit.py."""

from __future__ import annotations

import json

import ipywidgets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.lab import layouts
from tdpkit.lab.entries import read_entry
from tdpkit.lab.spte_layouts import LAYOUTS, guard_bits
from tdpkit.show.entry import EntryDecoder
from tdpkit.show.entry.live import EXAMPLES, GUESS, MACHINES
from tdpkit.show.entry.picture import entry_svg, entry_table, entry_text
from tdpkit.show.entry.state import entry_state
from tdpkit.show.theme import LIVE
from tests.oracles.exhibits import picture_of, seen, use, words

LEAF_2M, LEAF_1G = 0x80A0_0001_C8A0_0FB7, 0x80A1_9DA4_C000_0FB7
NX_2M = 0x80A2_1F9B_3120_0BB3

BAD_ENTRIES = [
    ("", "hexadecimal"),
    ("-1", "'-1'"),
    ("2M", "'2M'"),
    ("0x1" + "0" * 16, "has 17"),
    ("f" * 400, "has 400"),
    ("g" * 400, "g..."),
]


def read_example(name):
    _, spte, level, layout = EXAMPLES[name]
    return read_entry(spte, level, layout=LAYOUTS[layout], guard=guard_bits(46) if name == "guarded" else 0)


@pytest.fixture
def decoder():
    return EntryDecoder()


@pytest.fixture(scope="module")
def picker():
    """One decoder for all picks: its guests are built once."""
    return EntryDecoder()


# ---- what it opens with --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_opens_on_any_example(name):
    decoder = EntryDecoder(name)
    assert decoder.state.entry == read_example(name)
    assert decoder.state.child == entry_state(read_example(name)).child
    assert decoder.layout_menu.value == EXAMPLES[name].layout
    assert decoder.entry_text.value == f"{EXAMPLES[name].spte:#018x}"
    assert (decoder.level_menu.value, decoder.example_menu.value) == (EXAMPLES[name].level, name)
    assert (decoder.machine_menu.value, decoder.at_text.value, words(decoder)) == ("", "", "")


def test_it_opens_on_a_typed_entry_at_a_level():
    for entry in (LEAF_1G, f"{LEAF_1G:#x}", "80a1_9da4_c000_0fb7"):
        decoder = EntryDecoder(entry, level=3)
        assert decoder.state == entry_state(read_entry(LEAF_1G, 3))
        assert decoder.example_menu.value == ""
    assert EntryDecoder("2M", level=3).state.entry.level == 3


def test_examples_are_what_their_names_say():
    """Kinds by hand; the recorded ones are in tests/vectors/spte_bits.jsonl."""
    kinds = {name: read_example(name).kind for name in EXAMPLES}
    assert {name: kind for name, kind in kinds.items() if kind != "leaf"} == {
        "table": "table",
        "empty": "non-present",
        "frozen": "frozen",
        "mmio": "mmio",
        "guarded": "mmio",
    }
    assert [name for name in EXAMPLES if read_example(name).flaws] == ["unaligned"]
    assert {example.level for example in EXAMPLES.values()} == {1, 2, 3}
    assert {name: one.layout for name, one in EXAMPLES.items() if one.layout != "ept-7.2"} == {
        "5.13": "ept-5.13",
        "5.12": "ept-5.12",
        "npt": "npt-7.2",
        "guarded": "ept-5.13",
    }
    assert read_example("guarded").mmio_gfn == 0xFEE00, "without bits 45:41"
    assert [read_example(name).rights for name in ("5.13", "5.12", "npt")] == ["rw", "rwx", "rw"]


# ---- each control --------------------------------------------------------------------------------------


def test_an_entry_is_typed(decoder):
    decoder.entry_text.value = "80a1_9da4 c000_0fb7"
    assert decoder.state == entry_state(read_entry(LEAF_1G, 2))
    assert decoder.entry_text.value == "0x80a19da4c0000fb7", "written back in one form"
    assert decoder.example_menu.value == ""


@pytest.mark.slow
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
    for name, (_, spte, level, layout) in EXAMPLES.items():
        decoder.example_menu.value = name
        assert decoder.state.entry == read_example(name)
        assert decoder.layout_menu.value == layout
        assert (decoder.entry_text.value, decoder.level_menu.value) == (f"{spte:#018x}", level)


def test_no_example_keeps_the_entry(decoder):
    decoder.example_menu.value = ""
    assert decoder.state == entry_state(read_entry(LEAF_2M, 2))


def test_the_number_chooses_the_child(decoder):
    for index in (1, 300, 511, 0):
        decoder.index_number.value = index
        assert decoder.state == entry_state(read_entry(LEAF_2M, 2), index)
    assert (decoder.index_number.min, decoder.index_number.max) == (0, 511)


def test_the_child_and_the_rule_stay_when_the_entry_changes(decoder):
    decoder.index_number.value = 7
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


# ---- layouts ---------------------------------------------------------------------------------------------


def test_the_layout_menu_reads_the_same_bits_as_another_kernel_does(decoder):
    decoder.layout_menu.value = "ept-5.13"
    assert decoder.state == entry_state(read_entry(LEAF_2M, 2, layout=LAYOUTS["ept-5.13"]))
    assert "EPT, Linux 5.13 to the TDX era" in decoder.words.title
    assert (decoder.example_menu.value, decoder.entry_text.value) == ("", f"{LEAF_2M:#x}")
    decoder.layout_menu.value = "ept-7.2"
    assert decoder.state == entry_state(read_entry(LEAF_2M, 2))


def test_a_typed_entry_keeps_the_layout_and_an_example_brings_its_own(decoder):
    decoder.show(layout="npt-7.2", entry=0x1_2345_6E67, level=1)
    assert decoder.state.entry.rights == "rwx"
    decoder.entry_text.value = "0x123456827"
    assert decoder.state.entry.layout.name == "npt-7.2"
    decoder.example_menu.value = "2M"
    assert decoder.layout_menu.value == "ept-7.2"


def test_the_layout_is_guessed_anew_with_each_value_and_why_is_said(decoder):
    decoder.show(layout=GUESS, entry=0x0600_0003_2260_0BF3)
    assert decoder.state.entry.layout.name == "ept-5.13"
    assert decoder.state.note.startswith("Layout guessed: the value fits: ")
    decoder.entry_text.value = "5a0"
    assert decoder.state.entry.layout.name == "ept-5.13"
    assert decoder.state.note.splitlines()[1] == "The value fits npt-5.13 as well."
    decoder.entry_text.value = f"{LEAF_2M:x}"
    assert decoder.state.entry.layout.name == "ept-7.2"


def test_guard_bits_are_found_and_said(decoder):
    decoder.show(example="guarded")
    assert "guest frame 0xfee00 is a device's." in decoder.words.answer
    assert decoder.state.note.startswith(
        "Bits 45:41 are guard bits, no part of the frame, on a host with 46 "
    )


def test_another_layout_leaves_the_machine_whose_entries_are_of_7_2(picker):
    picker.show(example="npt")
    picker.show(machine="mixed", at="1G+2M", level=1)
    assert picker.layout_menu.value == "ept-7.2"
    picked = picker.state.entry
    picker.layout_menu.value = "ept-tdx"
    assert picker.state.entry[:2] == picked[:2]
    assert (picker.state.note, picker.machine_menu.value) == ("", "")


# ---- on the picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", range(64))
def test_a_press_flips_its_bit_and_a_second_brings_it_back(decoder, bit):
    use(decoder, "press.bit", f"{bit}")
    assert decoder.state == entry_state(read_entry(LEAF_2M ^ 1 << bit, 2))
    assert (decoder.entry_text.value, decoder.example_menu.value) == (f"{LEAF_2M ^ 1 << bit:#018x}", "")
    use(decoder, "press.bit", f"{bit}")
    assert decoder.state == entry_state(read_entry(LEAF_2M, 2))
    assert words(decoder) == ""


def test_a_flipped_bit_of_a_pick_leaves_the_machine_and_stays_at_the_level_that_was_found(picker):
    picker.show(machine="mixed", at="1G+2M", level=1)
    picked = picker.state.entry
    assert picked.level == 3, "the way ends at a 1G leaf"
    use(picker, "press.bit", "0")
    assert picker.state.entry[:2] == (picked.spte ^ 1, 3)
    assert (picker.state.note, picker.machine_menu.value, picker.at_text.value) == ("", "", "")


def test_the_child_is_dragged_on_its_strip_and_chosen_by_number_where_there_is_one(decoder):
    for index in (511, 300, 0):
        use(decoder, "drag.index", index)
        assert decoder.state == entry_state(read_entry(LEAF_2M, 2), index)
        assert decoder.index_number.value == index
    [cursor] = decoder.handles.state["sliders"]
    assert (cursor["label"], cursor["text"]) == ("child", "child 0 of 512")
    assert (cursor["low"], cursor["high"], cursor["step"]) == ("0", "511", "1")
    assert not decoder.index_number.disabled
    use(decoder, "press.bit", "11")
    assert decoder.handles.state["sliders"] == []
    assert decoder.index_number.disabled


def test_what_the_handles_are_told_is_soon_sent(decoder):
    """64 bits, in one message with each key."""
    assert len(json.dumps(decoder.handles.state)) < 8_000


def test_the_machines_are_out_of_the_way_until_one_is_asked_for_or_picked_from(decoder):
    line = next(one for one in decoder.box.children if decoder.machine_menu in getattr(one, "children", ()))
    assert line.layout.display == "none"
    decoder.pick_button.value = True
    assert line.layout.display == ""
    decoder.pick_button.value = False
    decoder.show(machine="mixed")
    assert line.layout.display == ""


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
        assert set(MACHINES) <= set(layouts.LAYOUTS)


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


def test_a_way_that_ends_above_stays_said_until_another_is_taken(picker):
    picker.show(machine="mixed", at="1G+2M", level=1)
    said = picker.state.note
    assert said.startswith("There is no level 1 entry")
    picker.index_number.value = 3
    assert (picker.state.note, picker.state.child.index) == (said, 3)
    picker.at_text.value = "1G"
    assert picker.state.note.startswith("Picked from real tables: level 3")
    picker.show(index=0)


def test_the_child_stays_chosen_through_picks(picker):
    picker.show(machine="mixed", at="4M", level=2, index=9)
    assert picker.state.child.index == 9
    assert picker.state.child.spte == 0x80A0_0000_0040_0F37 | 9 << 12
    picker.show(index=0)


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "says"), BAD_ENTRIES)
def test_a_bad_entry_is_answered_with_the_rule_it_breaks(decoder, text, says):
    before = decoder.state
    decoder.entry_text.value = "x"  # so that every text is a change
    decoder.entry_text.value = text
    assert says in words(decoder)
    assert len(words(decoder)) < 300
    assert decoder.state is before


def test_a_level_that_the_machine_does_not_have_is_refused_and_the_menu_goes_back(picker):
    picker.show(machine="mixed", level=2)
    before = seen(picker, typed=False)
    picker.level_menu.value = 5
    assert "1 to 4 under this root; 5" in words(picker)
    assert seen(picker, typed=False) == before


# ---- what it shows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_picture_text_and_table_are_of_the_state(name):
    decoder = EntryDecoder(name)
    assert entry_svg(decoder.state, LIVE, "ids").body in picture_of(decoder)
    assert decoder._table() == entry_table(decoder.state)
    assert decoder._text() == entry_text(decoder.state)
    assert decoder._text().startswith(f"{decoder.words.title}. {decoder.words.answer}\n")


def test_menus_offer_what_there_is(decoder):
    assert [value for _, value in decoder.layout_menu.options] == [*LAYOUTS, GUESS]
    assert [value for _, value in decoder.example_menu.options] == ["", *EXAMPLES]
    assert [value for _, value in decoder.machine_menu.options] == ["", *MACHINES]
    assert list(decoder.level_menu.options) == [
        ("1: 4K per entry", 1),
        ("2: 2M per entry", 2),
        ("3: 1G per entry", 3),
        ("4: 512G per entry", 4),
        ("5: 256T per entry", 5),
    ]
