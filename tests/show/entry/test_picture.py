"""Pictures, texts and tables of entries and addresses: words, and marks where the state says."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, InvalidTypeError, InvalidValueError
from tdpkit.lab.entries import read_entry
from tdpkit.lab.spte_layouts import LAYOUTS, guard_bits
from tdpkit.show.entry import EntryDecoder, take_apart
from tdpkit.show.entry.live import EXAMPLES, MACHINES
from tdpkit.show.entry.picture import entry_svg, entry_table, entry_text
from tdpkit.show.entry.state import entry_state
from tdpkit.show.entry.words import entry_words
from tdpkit.show.theme import DARK, LIGHT, LIVE, contrast, still
from tests.oracles.svgs import (
    SVG,
    check_form,
    check_inside,
    check_texts_apart,
    drawn,
    extent,
    ids_of,
    texts,
    tree,
)

WORST = 0xB0DF_FFFF_FFFF_FCDA
"""Present and marked a leaf, askew, A/D type 3, W without R, XU without X, memory type 3: five flaws."""


def states():
    """Every example, at its level and at others, with and without the NX rule; entries picked; the worst."""
    found = {}
    for name, example in EXAMPLES.items():
        for level in {1, example.level, 4}:
            for index, nx, execute in ((0, False, True), (511, True, True), (300, True, False)):
                entry = read_entry(example.spte, level, layout=LAYOUTS[example.layout])
                state = entry_state(entry, index, nx_huge_pages=nx, exec_allowed=execute)
                found[name, level, index, nx, execute] = state
    for name in MACHINES:
        decoder = EntryDecoder()
        for level in range(1, 5):
            decoder.show(machine=name, level=level)
            found[name, level] = decoder.state
    for name, layout in LAYOUTS.items():
        for level in (1, 2, 4):
            found["other", name, level] = entry_state(
                read_entry(0xFFFF_FFFF_FFFF_F7F9 ^ 1 << 63, level, layout=layout)
            )
    for layout in ("ept-5.12", "npt-5.12"):
        guarded = read_entry(
            0x3B_BE00_FEE0_0057 ^ (layout[0] == "e"), 1, layout=LAYOUTS[layout], guard=guard_bits(46)
        )
        found["guarded", layout] = entry_state(guarded, note="Guard bits.\nTwo lines.")
    for level in range(1, 6):
        found["worst", level] = entry_state(read_entry(WORST, level))
        found["ones", level] = entry_state(read_entry(2**64 - 1, level))
    return found


STATES = states()
WORDS = {case: entry_words(state) for case, state in STATES.items()}
TREES = {case: tree(entry_svg(state, LIGHT)) for case, state in STATES.items()}
PATHS = {
    (at, shape, shared): take_apart(at, geometry, shared=shared)
    for at in ("0", "2T+4K", "1G+2M+12K", "128T-4K")
    for shape, geometry in (("4", X86_4LEVEL), ("5", X86_5LEVEL))
    for shared in (False, True)
} | {("toy", shared): take_apart(5, Geometry(2, 3, 3), shared=shared) for shared in (False, True)}


# ---- form ----------------------------------------------------------------------------------------------


def test_pictures_of_different_states_differ_and_share_no_id_though_nobody_named_them():
    unlike = {WORDS[case]: state for case, state in STATES.items()}
    pictures = [entry_svg(state, LIGHT) for state in unlike.values()]
    assert len(unlike) > 40
    assert len(set(pictures)) == len(pictures)
    assert all(one.isdisjoint(other) for one, other in combinations(ids_of(pictures), 2))
    addresses = [picture.svg() for picture in PATHS.values()]
    assert len(set(addresses)) == len(addresses)
    assert all(one.isdisjoint(other) for one, other in combinations(ids_of(addresses), 2))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_digits_and_marks_are_seen_on_what_they_lie_on(palette):
    """Texts 4.5:1, the bar of KVM's bits and the marks of changed bits 3:1."""
    for fill in ("leaf1", "leaf2", "hole", "paper"):
        assert contrast(palette["ink"], palette[fill]) >= 4.5
    for on in ("paper", "hole"):
        assert contrast(palette["muted"], palette[on]) >= 4.5
        assert contrast(palette["range"], palette[on]) >= 3
    for role in ("split-mark", "crossing-mark", "shared", "private"):
        assert contrast(palette[role], palette["paper"]) >= 4.5


# ---- what it shows -------------------------------------------------------------------------------------


def digits_of(svg) -> dict[tuple[int, int], str]:
    """The digits in boxes, by their place."""
    return {
        (int(text.get("x")), int(text.get("y"))): text.text
        for text in svg.iter(f"{SVG}text")
        if text.get("text-anchor") == "middle" and "mono" in text.get("font-family")
    }


def bits_shown(svg) -> list[str]:
    """The rows of digits, 32 boxes each: the entry's high half, its child's, the low half, its child's."""
    rows: dict[int, list] = {}
    for (x, y), digit in digits_of(svg).items():
        rows.setdefault(y, []).append((x, digit))
    return ["".join(digit for _, digit in sorted(row)) for _, row in sorted(rows.items())]


def test_the_boxes_hold_the_digits_of_the_entry_and_of_its_child():
    for case, state in STATES.items():
        digits = f"{state.entry.spte:064b}"
        if state.child:
            child = f"{state.child.spte:064b}"
            expected = [digits[:32], child[:32], digits[32:], child[32:]]
        else:
            expected = [digits[:32], digits[32:]]
        assert bits_shown(TREES[case]) == expected, case


def numbers_of(svg) -> dict[int, tuple[int, int]]:
    """Where the number of each bit stands: the middle of its boxes, and a line above them."""
    pale = (text for text in svg.iter(f"{SVG}text") if text.get("fill") == LIGHT["muted"])
    middle = (text for text in pale if text.get("text-anchor") == "middle" and text.text.isdigit())
    sans = (text for text in middle if "mono" not in text.get("font-family"))
    return {int(text.text): (int(text.get("x")), int(text.get("y"))) for text in sans}


def boxes_of(svg) -> dict[tuple[int, ...], str]:
    """Left, top, right and bottom of the bits' boxes; and their fill."""
    found = {}
    for path in drawn(svg, "path"):
        for numbers in re.findall(r"M(\d+) (\d+) H(\d+) V(\d+) H\1 Z", path.get("d")):
            left, top, right, bottom = map(int, numbers)
            if path.get("fill") != "none" and right - left == 27:
                found[left, top, right, bottom] = path.get("fill")
    return found


FILLS = {"frame": "leaf2", "CPU": "leaf1", "KVM": "hole", "": "paper"}


def test_each_bit_has_its_box_in_its_readers_colour_and_its_digit_below_its_number():
    for case, state in STATES.items():
        boxes, digits, numbers = boxes_of(TREES[case]), digits_of(TREES[case]), numbers_of(TREES[case])
        values = [state.entry.spte, *([state.child.spte] if state.child else [])]
        for field in state.entry.fields:
            for bit in range(field.low, field.high + 1):
                x, y = numbers[bit]
                for value, (top, bottom, base) in zip(values, ((4, 31, 22), (54, 72, 67)), strict=False):
                    box = (x - 13, y + top, x + 14, y + bottom)
                    assert boxes[box] == LIGHT[FILLS[field.reader]], (case, bit)
                    assert digits[x, y + base] == f"{value >> bit & 1}", (case, bit)
        assert len(boxes) == len(digits) == 64 * len(values)
        rows = [[numbers[bit][0] for bit in range(high, high - 32, -1)] for high in (63, 31)]
        assert all(after - before in (27, 31) for row in rows for before, after in pairwise(row))


def test_each_bit_is_pressed_where_its_box_is_and_stays_there():
    """Whatever a press makes of the entry, the next one may be meant for the same bit."""
    places = set()
    for case, state in STATES.items():
        numbers, picture = numbers_of(TREES[case]), entry_svg(state, LIGHT)
        assert [spot.name for spot in picture.spots] == [f"bit:{bit}" for bit in range(63, -1, -1)]
        boxes = boxes_of(TREES[case])
        for bit, spot in zip(range(63, -1, -1), picture.spots, strict=True):
            x, y = numbers[bit]
            assert (spot.left, spot.top) == (x - 13, y + 4)
            assert (spot.left, spot.top, spot.right, spot.bottom) in boxes
            assert spot.chosen is bool(state.entry.spte >> bit & 1)
            assert spot.label.startswith(f"bit {bit}, ")
        _, head, *_ = picture.view
        places.add(tuple((spot.left, spot.top - head) for spot in picture.spots))
    assert len(places) == 1


def test_the_thumb_of_the_childrens_strip_is_where_its_track_has_the_index():
    for case, state in STATES.items():
        picture = entry_svg(state, LIGHT)
        thumbs = [rect for rect in drawn(TREES[case], "rect") if rect.get("fill") == LIGHT["ink"]]
        assert len(thumbs) == len(picture.tracks) == bool(state.child), case
        for thumb, track in zip(thumbs, picture.tracks, strict=True):
            (first, left), (last, right) = track.knots
            assert (track.name, first, last) == ("index", 0, 511)
            middle = int(thumb.get("x")) + int(thumb.get("width")) // 2
            assert abs(middle - (left + (right - left) * state.child.index / 511)) < 1
            assert track.top <= int(thumb.get("y"))
            assert int(thumb.get("y")) + int(thumb.get("height")) <= track.bottom
            assert track.bottom - track.top >= 24, "room for a finger"


def test_words_are_large_and_the_markup_is_small():
    """A key redraws it: above some 35 kB one waits for the browser."""
    for state in STATES.values():
        picture = entry_svg(state, LIVE)
        assert picture.smallest == 12
        assert len(picture) < 35_000
    assert {picture.svg().smallest for picture in PATHS.values()} == {12}


def test_each_field_has_its_label_below_the_middle_of_its_bits():
    for case, state in STATES.items():
        svg, at, expected = TREES[case], numbers_of(TREES[case]), set()
        found = {
            (text.text, int(text.get("x")), int(text.get("y")))
            for text in svg.iter(f"{SVG}text")
            if text.get("text-anchor") == "middle" and "mono" not in text.get("font-family")
        }
        for field in state.entry.fields:
            for half in (range(63, 31, -1), range(31, -1, -1)):
                bits = [bit for bit in half if field.low <= bit <= field.high and field.label]
                if bits:
                    middle = (at[bits[0]][0] - 13 + at[bits[-1]][0] + 14) // 2
                    expected.add((field.label, middle, at[bits[0]][1] + 49))
        assert found - {(f"{bit}", *place) for bit, place in at.items()} == expected, case


def test_each_mark_of_a_changed_bit_is_at_that_bit():
    """Triangles below frame bits of the child, diamonds below others; outlines around their boxes."""
    for case, state in STATES.items():
        if state.child:
            at, changed = numbers_of(TREES[case]), state.child.spte ^ state.entry.spte
            for role, bits in (
                ("split-mark", range(12, 52)),
                ("crossing-mark", [*range(12), *range(52, 64)]),
            ):
                expected = {at[bit] for bit in bits if changed >> bit & 1}
                shapes = [
                    p for p in drawn(TREES[case], "path") if LIGHT[role] in (p.get("fill"), p.get("stroke"))
                ]
                starts = {
                    tuple(map(int, start))
                    for shape in shapes
                    for start in re.findall(r"M(\d+) (\d+)", shape.get("d"))
                }
                assert {(x, y + 74) for x, y in expected} <= starts, case
                assert {(x - 13, y + 54) for x, y in expected} <= starts, case


def test_an_entry_is_called_frozen_exactly_if_it_holds_the_frozen_value():
    """0x5a0 beside bit 63 (arch/x86/kvm/mmu/spte.h: FROZEN_SPTE)."""
    frozen = 1 << 63 | 0x5A0
    raws = [frozen, *(frozen ^ 1 << bit for bit in range(64)), *(one.spte for one in EXAMPLES.values()), 0]
    for raw in raws:
        for level in range(1, 6):
            said = entry_words(entry_state(read_entry(raw, level)))
            assert said.answer.startswith("Frozen: ") is (raw == frozen), hex(raw)
            assert ("frozen" in entry_text(entry_state(read_entry(raw, level))).lower()) is (raw == frozen)


def test_the_title_is_the_value_and_its_level():
    svg = TREES["2M", 2, 0, False, True]
    assert texts(svg)[0] == svg.find(f"{SVG}title").text == "0x80a00001c8a00fb7 at level 2 (2M per entry)"
    assert texts(tree(take_apart("2T+4K").svg()))[0] == (
        "The address 2T+4K, bit by bit, under a root of level 4"
    )


def test_each_index_of_an_address_stands_below_its_digits():
    for case, picture in PATHS.items():
        svg = tree(picture.svg())
        check_form(svg, picture.title, picture.answer)
        large = [text for text in svg.iter(f"{SVG}text") if text.get("font-size") == "20"]
        digits = [
            t for t in svg.iter(f"{SVG}text") if t.text in ("0", "1") and "mono" in t.get("font-family")
        ]
        bits = picture.private.geometry.index_bits
        for row in {int(text.get("y")) for text in large}:
            below = sorted(int(text.get("x")) for text in large if int(text.get("y")) == row)
            above = sorted(int(text.get("x")) for text in digits if int(text.get("y")) == row - 36)
            groups = [above[at : at + bits] for at in range(0, bits * len(below), bits)]
            assert len(above) == bits * len(below) + 12
            pitch = above[-1] - above[-2]
            assert all(two[0] - one[-1] == pitch + 8 for one, two in pairwise(groups)), case
            for middle, group in zip(below, groups, strict=True):
                assert abs(middle - (group[0] + group[-1]) // 2) <= 1, case


def marks(svg, role: str, how: str) -> int:
    """How many shapes are filled, or outlined broadly, in the colour of `role`."""
    paths = [path for path in svg.iter(f"{SVG}path") if path.get(how) == LIGHT[role]]
    return sum(path.get("d").count("M") for path in paths if how == "fill" or path.get("d")[-1] == "Z")


def test_each_changed_bit_has_an_outline_and_a_glyph_and_no_other_has():
    seen = set()
    for case, state in STATES.items():
        svg = TREES[case]
        frame = bin(state.child.frame_bits).count("1") if state.child else 0
        other = bin(state.child.other_bits).count("1") if state.child else 0
        in_list = (
            0
            if state.child is None
            else sum(bool(field.mask & state.child.other_bits) for field in state.entry.fields)
        )
        assert marks(svg, "split-mark", "stroke") == frame
        assert marks(svg, "crossing-mark", "stroke") == other
        assert marks(svg, "split-mark", "fill") == frame + 2 * bool(frame), "in the list, and in the legend"
        assert marks(svg, "crossing-mark", "fill") == other + in_list + bool(other)
        seen.add((bool(frame), other))
    assert {(True, 1), (True, 0), (False, 1), (True, 3)} <= seen, "the cases reach what is tested"


def test_every_word_of_the_state_is_written_out():
    for case, state in STATES.items():
        written, said = texts(TREES[case]), WORDS[case]
        check_form(TREES[case], said.title, said.answer)
        for needed in (
            said.title,
            said.answer,
            said.caption,
            *state.note.splitlines(),
            *[said.rule] * bool(said.rule),
            *(f"✗ {flaw}" for flaw in state.entry.flaws),
        ):
            assert needed in written, (case, needed)


def said_of(state) -> set[str]:
    """The meanings of the fields that are read or set."""
    return {field.meaning for field in state.entry.fields if field.reader or field.value}


def test_the_list_has_the_fields_that_are_read_or_set():
    for case, state in STATES.items():
        written = texts(TREES[case])
        for field in state.entry.fields:
            if field.reader or field.value:
                assert {field.bits, field.name, field.meaning} <= {*written}, (case, field)
            else:
                assert field.meaning not in written or field.meaning in said_of(state), (case, field)


def test_the_legend_names_what_is_drawn():
    names = {"frame": "the frame", "CPU": "read by the CPU", "KVM": "KVM's own", "": "not used"}
    for case, state in STATES.items():
        written, readers = texts(TREES[case]), {field.reader for field in state.entry.fields}
        assert {reader for reader, name in names.items() if name in written} == readers, case
        frame, other = (state.child.frame_bits, state.child.other_bits) if state.child else (0, 0)
        assert ("frame bit of the child's index" in written) is bool(frame)
        assert ("other bit that changed" in written) is bool(other)


def test_every_bit_has_its_number_above_it():
    for svg in TREES.values():
        assert [*numbers_of(svg)] == [*range(64)]


def test_no_line_of_words_is_wider_than_the_picture():
    for case, svg in TREES.items():
        over = [text.text for text in svg.iter(f"{SVG}text") if extent(text)[1] > 976]
        assert over == [], case


def test_kvms_own_bits_have_a_bar_besides_their_colour():
    for case, state in STATES.items():
        own = sum(field.high - field.low + 1 for field in state.entry.fields if field.reader == "KVM")
        rows = 2 if state.child else 1
        bars = [
            path
            for path in TREES[case].iter(f"{SVG}path")
            if path.get("stroke") == LIGHT["range"] and path.get("d")[-1] != "Z"
        ]
        assert sum(bar.get("d").count("M") for bar in bars) == own * rows + bool(own), case


def test_the_worst_entry_has_its_flaws_in_words_of_the_bad_role():
    for level in range(1, 6):
        state, said = STATES["worst", level], WORDS["worst", level]
        assert len(state.entry.flaws) == 5
        assert said.role == "bad"
        assert said.answer.endswith("and no kernel would hold it here.")
        red = [
            text.text for text in TREES["worst", level].iter(f"{SVG}text") if text.get("fill") == LIGHT["bad"]
        ]
        assert red == [said.answer, *(f"✗ {flaw}" for flaw in state.entry.flaws)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("2M", "A leaf of 2M: host frames 0x1c8a00 to 0x1c8bff; the guest may read, write and execute."),
        ("4K", "A leaf of 4K: host frame 0x1c8a03; the guest may read, write and execute."),
        ("nx", "A leaf of 2M: host frames 0x21f9b31200 to 0x21f9b313ff; the guest may read and write."),
        ("access-tracked", "access-tracked, R, W and X are taken away"),
        (
            "table",
            "A table entry: it maps nothing itself; it leads to the table of 4K entries in frame 0x1234.",
        ),
        ("empty", "Not present: the empty entry is bit 63 alone"),
        ("frozen", "Frozen: not present"),
        ("mmio", "MMIO: not present"),
        ("unaligned", "It reads as a leaf of 2M on host frame 0x1c8a03, and no kernel would hold it here."),
    ],
)
def test_the_answer_says_what_the_entry_is(name, says):
    state = entry_state(read_entry(EXAMPLES[name].spte, EXAMPLES[name].level))
    said = entry_words(state)
    assert says in said.answer
    assert entry_text(state).startswith(f"{said.title}. {said.answer}\n")


@pytest.mark.parametrize(
    ("name", "level", "options", "says"),
    [
        ("2M", 2, {}, "a 4K leaf: 2 frame bits and bit 7 (page size) differ from its parent."),
        ("1G", 3, {}, "a 2M leaf: 2 frame bits differ from its parent."),
        ("nx", 2, {"nx_huge_pages": True}, "2 frame bits and bits 10, 7 and 2 differ from its parent."),
        (
            "nx",
            2,
            {"nx_huge_pages": True, "exec_allowed": False},
            "2 frame bits and bit 7 (page size) differ",
        ),
    ],
)
def test_the_caption_says_what_a_child_keeps(name, level, options, says):
    """S26; child 3, whose index has two bits set."""
    state = entry_state(read_entry(EXAMPLES[name].spte, level), 3, **options)
    caption = entry_words(state).caption
    assert caption.startswith(f"Child 3 of 512 is {state.child.spte:#018x}, ")
    assert says in caption


def test_a_first_child_at_2m_is_its_parent_to_the_bit():
    state = entry_state(read_entry(EXAMPLES["1G"].spte, 3), 0)
    assert entry_words(state).caption.endswith("a 2M leaf: no bit differs from its parent.")


@pytest.mark.parametrize(
    ("level", "options", "says"),
    [
        (2, {}, "NX huge pages off: the child executes as its parent does."),
        (3, {"nx_huge_pages": True}, "a child that is still huge stays as it is; the rule waits for 4K."),
        (2, {"nx_huge_pages": True}, "role.access has x, so a 4K child may execute."),
        (
            2,
            {"nx_huge_pages": True, "exec_allowed": False},
            "role.access lacks x, so a 4K child may not execute.",
        ),
    ],
)
def test_the_nx_rule_says_what_it_did(level, options, says):
    assert says in entry_words(entry_state(read_entry(0x80A1_9DA4_C000_0FB7, level), 0, **options)).rule


@pytest.mark.parametrize("name", ["table", "4K", "empty", "frozen", "mmio", "unaligned"])
def test_what_has_no_children_says_why(name):
    state = entry_state(read_entry(EXAMPLES[name].spte, EXAMPLES[name].level), 3)
    assert state.child is None
    assert entry_words(state).caption.startswith("No children: only a present huge leaf is split; ")
    assert "child" not in texts(tree(entry_svg(state, LIGHT)))


@pytest.mark.parametrize(
    ("index", "error"), [(512, InvalidValueError), (-1, InvalidValueError), (1.0, InvalidTypeError)]
)
@pytest.mark.parametrize("name", ["2M", "empty"])
def test_an_index_that_a_table_does_not_have_is_refused_with_or_without_children(name, index, error):
    with pytest.raises(error):
        entry_state(read_entry(EXAMPLES[name].spte, 2), index)


@pytest.mark.slow
@settings(max_examples=200)
@given(st.integers(0, 2**64 - 1), st.integers(1, 5), st.integers(0, 511), st.booleans(), st.booleans())
def test_any_64_bits_make_a_picture_that_keeps_its_place(raw, level, index, nx, execute):
    state = entry_state(read_entry(raw, level), index, nx_huge_pages=nx, exec_allowed=execute)
    svg = tree(entry_svg(state, LIGHT))
    check_inside(svg, (hex(raw), level))
    check_texts_apart(svg, (hex(raw), level))
    assert f"{raw:064b}" in {"".join(bits_shown(svg)), "".join(bits_shown(svg)[::2])}
    assert entry_svg(state, LIGHT) == entry_svg(state, LIGHT)


# ---- the text twins ------------------------------------------------------------------------------------


def test_the_table_says_what_the_picture_says():
    for case, state in STATES.items():
        said = WORDS[case]
        table = ElementTree.fromstring(entry_table(state))
        caption = table.find("caption").text
        assert caption.startswith(f"{said.title}. {said.answer}")
        for words in (*state.entry.flaws, *state.note.splitlines(), said.caption, said.rule):
            assert words.rstrip(".") in caption
        heads = [head.text for head in table.find("thead").iter("th")]
        assert heads == ["bits", "name", "value", "meaning", *(["in the child"] if state.child else [])]
        rows = list(table.find("tbody"))
        assert len(rows) == len(state.entry.fields)
        for row, field in zip(rows, state.entry.fields, strict=True):
            cells = [cell.text for cell in row]
            assert row[0].get("scope") == "row"
            assert (cells[0], cells[1], int(cells[2], 0), cells[3]) == (
                field.bits,
                field.name,
                field.value,
                field.meaning,
            )
            if state.child:
                differs = bool(field.mask & (state.child.spte ^ state.entry.spte))
                assert (cells[4] != "the same") is differs
                if differs:
                    assert int(cells[4], 0) == (state.child.spte & field.mask) >> field.low


def test_the_plain_text_has_every_field_and_what_changed():
    state = entry_state(read_entry(0x80A2_1F9B_3120_0BB3, 2), 500, nx_huge_pages=True)
    lines = entry_text(state).split("\n")
    assert "bits 7  PT_PAGE_SIZE_MASK = 1 → 0: set: a leaf of 2M, no table" in lines
    assert "bits 2  VMX_EPT_EXECUTABLE_MASK = 0 → 1: the guest may not execute" in lines
    frame = "bits 51:12  SPTE_BASE_ADDR_MASK = 0x21f9b31200 → 0x21f9b313f4: host frames 0x21f9b31200"
    assert f"{frame} to 0x21f9b313ff" in lines
    assert "bits 1  VMX_EPT_WRITABLE_MASK = 1: the guest may write" in lines
    assert len(lines) == 3 + len(state.entry.fields)


def test_what_was_typed_is_text_never_markup():
    state = entry_state(read_entry(0, 1), note="<b>\"&'</b>")
    assert "<b>\"&'</b>" in texts(tree(entry_svg(state, LIGHT)))
    assert "<b>\"&'</b>" in ElementTree.fromstring(entry_table(state)).find("caption").text


# ---- addresses -----------------------------------------------------------------------------------------


def test_an_address_shows_its_digits_and_the_index_of_each_level():
    picture = PATHS["1G+2M+12K", "5", True]
    rows: dict[int, list] = {}
    for text in tree(picture.svg()).iter(f"{SVG}text"):
        if text.text in ("0", "1") and "mono" in text.get("font-family"):
            rows.setdefault(int(text.get("y")), []).append((int(text.get("x")), text.text))
    private, shared = ("".join(digit for _, digit in sorted(row)) for _, row in sorted(rows.items()))
    address = (1 << 30) + (2 << 20) + (12 << 10)
    assert private == f"{address:057b}"
    assert shared == f"{address | 1 << 51:057b}"
    large = [text.text for text in tree(picture.svg()).iter(f"{SVG}text") if text.get("font-size") == "20"]
    assert large == ["0", "0", "1", "1", "3", "8", "0", "1", "1", "3"]


def marked(svg, role: str) -> list[int]:
    """Where each outline of `role` begins."""
    return sorted(
        int(path.get("d").split()[0][1:])
        for path in svg.iter(f"{SVG}path")
        if path.get("stroke") == LIGHT[role] and path.get("stroke-width") == "3" and path.get("d")[-1] == "Z"
    )


@pytest.mark.parametrize(("shape", "bit", "index"), [("4", 47, 256), ("5", 51, 8)])
def test_the_shared_bit_is_marked_in_both_halves_and_named(shape, bit, index):
    picture = PATHS["1G+2M+12K", shape, True]
    svg = tree(picture.svg())
    assert [(marked(svg, "private")), marked(svg, "shared")] == [marked(svg, "shared")] * 2
    assert len(marked(svg, "shared")) == 1
    assert texts(svg).count("S") == 2
    assert f"With the shared bit {bit}: {index} for 0 at the root." in picture.answer
    assert marked(tree(PATHS["1G+2M+12K", shape, False].svg()), "shared") == []


def test_the_bundle_of_an_address_is_a_picture_and_its_text():
    picture = take_apart("2T+4K")
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/svg+xml"}
    assert bundle["image/svg+xml"] == still(picture.svg(LIGHT))
    assert bundle["text/plain"].split("\n") == [
        f"{picture.title}. Frame 0x20000001: index 4, 0, 0, 1 from level 4 down.",
        "bits 47:39  000000100  level 4, 512G an entry: index 4",
        "bits 38:30  000000000  level 3, 1G an entry: index 0",
        "bits 29:21  000000000  level 2, 2M an entry: index 0",
        "bits 20:12  000000001  level 1, 4K an entry: index 1",
        "bits 11:0  000000000000  offset in the frame",
    ]


# ---- the whole -----------------------------------------------------------------------------------------


def test_a_picture_has_few_hundred_shapes():
    """Sent whole with each key of the slider."""
    for svg in TREES.values():
        assert len(drawn(svg, "rect")) + len(drawn(svg, "path")) < 400
        assert re.search(r"\S", texts(svg)[0])
