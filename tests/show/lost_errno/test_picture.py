"""The lost -12's markup and words: well formed, inside its frame, room for each word, thrice the same."""

import re
from html import unescape
from itertools import product
from xml.etree import ElementTree

import pytest

from tdpkit.lab.lost_errno import CALLERS, Shortage, run_short
from tdpkit.show.drawing import Picture
from tdpkit.show.lost_errno.picture import kind_of, lost_errno_svg, lost_errno_table, lost_errno_text
from tdpkit.show.lost_errno.words import TITLE, answer, came_out, values
from tdpkit.show.theme import LIGHT
from tdpkit.tdx.module import SeptState
from tests.oracles.loops import over
from tests.oracles.svgs import (
    SVG,
    check_form,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    check_whole_numbers,
    extent,
    texts,
    tree,
)

FLAGS = (False, True)
ALL = [Shortage(*fields) for fields in product(range(7), ("bool", "int"), FLAGS, FLAGS, FLAGS)]
SPANS = [(start, end) for start in range(16) for end in range(start + 1, 17)]
RANGED = [
    Shortage(refuse, declared, False, False, again, *span)
    for refuse, declared, again in ((1, "bool", True), (3, "int", False), (0, "bool", False))
    for span in SPANS[::5]
]
OPEN = [
    Shortage(refuse, declared, pamt, lasting, again, leaves_open=True)
    for refuse, declared, pamt, lasting, again in product((0, 1, 3), ("bool", "int"), FLAGS, FLAGS, FLAGS)
]
ALL += OPEN
SOME = [shortage for shortage in ALL if shortage.refuse in (0, 2, 4)] + OPEN + RANGED
TOP, ROW, ROWS = 211, 91, 5
"""Of the first caller's row, from one to the next, and how many there are."""


def drawn(shortage: Shortage, palette=LIGHT, ids: str = "") -> Picture:
    return lost_errno_svg(shortage, run_short(shortage), palette, ids)


# ---- form ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@over(ALL + RANGED)
def test_every_word_has_its_place_in_every_case(shortage):
    svg = tree(drawn(shortage))
    check_form(svg, TITLE, answer(shortage, run_short(shortage)))
    check_whole_numbers(svg)
    check_inside(svg, shortage)
    check_texts_apart(svg, shortage)
    check_lines_apart(svg, shortage)


@pytest.mark.slow
def test_the_height_is_the_same_in_every_case():
    pictures = [drawn(shortage) for shortage in ALL + RANGED]
    assert {tree(picture).get("viewBox") for picture in pictures} == {"0 0 1000 688"}
    assert {picture.view for picture in pictures} == {(0, 100, 1000, 588)}
    assert {picture.smallest for picture in pictures} == {12}


@pytest.mark.slow
def test_texts_over_boxes_stay_inside_them():
    """The caller's words have two lines at most: the box is from 216 to 590, 30 high."""
    for shortage in ALL:
        svg = tree(drawn(shortage))
        inside = [text for text in svg.iter(f"{SVG}text") if text.get("x") == "224"]
        assert inside
        for top in range(TOP, TOP + ROWS * ROW, ROW):
            lines = [text for text in inside if top + 33 <= int(text.get("y")) - 9]
            lines = [text for text in lines if int(text.get("y")) + 3 <= top + 63]
            assert 1 <= len(lines) <= 2
        assert len(inside) <= 2 * ROWS
        assert max(extent(text)[1] for text in inside) <= 587


# ---- the same three times: picture, text, table ----------------------------------------------------------


def rows_of(svg: ElementTree.Element) -> list[list[str]]:
    """The texts of each row."""
    found: list[list[str]] = [[] for _ in range(ROWS)]
    for text in svg.iter(f"{SVG}text"):
        number = (int(text.get("y")) - TOP) // ROW
        if text.text and int(text.get("y")) > TOP and number < ROWS:
            found[number].append(text.text)
    return found


@pytest.mark.slow
@over(ALL)
def test_picture_text_and_table_say_the_same(shortage):
    rows = run_short(shortage)
    lines = lost_errno_text(shortage, rows).splitlines()
    table = unescape(lost_errno_table(shortage, rows))
    cells = re.findall(r"<tr><th scope=\"row\".*?</tr>", table)
    assert len(lines) == 1 + len(rows) == 1 + len(cells)
    assert lines[0] == f"{TITLE}. {answer(shortage, rows)}"
    assert answer(shortage, rows) in table
    seen = rows_of(tree(drawn(shortage)))
    for row, line, cell, written in zip(rows, lines[1:], cells, seen, strict=True):
        assert written[0] == row.name == line.split(" (")[0] == re.search(">([^<>]*)<br/>", cell)[1]
        for twin in (line, cell, " ".join(written)):
            assert row.verdict in twin
            assert CALLERS[row.name].standing in twin
            assert ("in progress: 1" in twin) == (row.last.in_progress == 1)
            assert ("retry, for ever" in twin) == row.retries
            for value in (values(row.first.walks), values(row.first.wrapper), came_out(row, row.first)[0]):
                assert value in twin
        assert ("errno lost" in cell) == bool(row.first.lost_at)
        is_marked = any(text in written for text in ("✗ errno lost", "✗ lost in the caller"))
        assert is_marked == bool(row.first.lost_at)
        is_again = any(text.startswith("again: wrapper") for text in written)
        assert is_again == shortage.again == ("called again" in line)
    assert ("called again" in table) == shortage.again


@over(SOME)
def test_the_answer_names_every_caller_once(shortage):
    said = answer(shortage, run_short(shortage))
    assert [said.count(name) for name in CALLERS] == [1] * ROWS


def test_the_table_is_well_formed_and_has_the_columns_of_the_story():
    shortage = Shortage(2)
    table = ElementTree.fromstring(lost_errno_table(shortage, run_short(shortage)))
    assert [head.text for head in table.find("thead").iter("th")] == [
        *("caller", "walk", "wrapper", "caller makes of it"),
        *("userspace or guest sees", "true state", "verdict"),
    ]
    assert {len(list(row)) for row in table.find("tbody")} == {7}


def test_as_posted_each_row_says_what_the_caller_makes_of_1():
    """S107, in the exhibit's words."""
    lines = lost_errno_text(Shortage(1, lasting=True), run_short(Shortage(1, lasting=True))).splitlines()[1:]
    for line, words in zip(
        lines,
        [
            "takes 1 for “flush”: skips the zap, flushes, stores the attributes, ends the invalidation; the "
            "ioctl: 0",
            "bails out, for it is not 0: skips the zap, stores nothing, returns the 1; the ioctl: 1",
            "bails out, for it is not 0: skips the zap, makes no hole, returns the 1; fallocate: 1",
            "takes 1 for “resume the guest”, which faults again: for ever; the guest faults: ∞",
            "would go on, says this model: zaps 8 frames, the leaf whole, flushes; MF_DELAYED: 2",
        ],
        strict=True,
    ):
        assert words in line


@pytest.mark.parametrize(
    ("shortage", "number", "words"),
    [
        (Shortage(0), 0, "(asks 4 times, all granted): walk 0, wrapper 0; zaps 6 frames, flushes, stores"),
        (Shortage(0), 1, "(asks 4 times, all granted): walk 0, wrapper 0; zaps 6 frames, flushes, stores"),
        (Shortage(0), 2, "walk 0, wrapper 0; zaps 6 frames, flushes, makes the hole; fallocate: 0, “done”"),
        (Shortage(0), 3, "(asks 2 times, all granted): walk 0, wrapper 0; sets the inhibit bit, resumes"),
        (Shortage(0), 4, "walk 0, wrapper 0; zaps 1 frame, flushes; MF_DELAYED: 2, as always"),
        (Shortage(2), 0, "(2: S-EPT page refused): walk -12, wrapper 1;"),
        (Shortage(4), 3, "(asks 2 times only): walk 0, wrapper 0;"),
        (
            Shortage(1),
            3,
            "walk -12, 0, wrapper 1, 0; takes 1 for “resume the guest”, which faults again: fault 2",
        ),
        (
            Shortage(1),
            4,
            "file: page 3 broken; S-EPT: [0, 8) not mapped; 7 frames outside lost: [0, 3), [4, 8)",
        ),
        (
            Shortage(3, dynamic_pamt=True, lasting=True),
            3,
            "(3: PAMT pages, later ones): walk -12 ×8, wrapper 1 ×8",
        ),
        (
            Shortage(1, lasting=True),
            3,
            "inhibit bit: not set; S-EPT: [0, 8) PENDING; frame 3 faults",
        ),
        (
            Shortage(1, "int"),
            0,
            "gives up: skips the zap, stores nothing, ends the invalidation; the ioctl: -12, -ENOMEM",
        ),
        (
            Shortage(1, "int", leaves_open=True),
            0,
            "stores nothing, leaves the invalidation open; the ioctl: -12, -ENOMEM. Now attributes: all "
            "private; S-EPT: all mapped; frame 6 reads 0x16, as private. invalidation open (in progress: 1).",
        ),
        (
            Shortage(1, "int", again=True, leaves_open=True),
            0,
            "the ioctl: 0, “done”. Now attributes: [6, 12) shared; S-EPT: [6, 12) not mapped; frame 6: "
            "shared faults retry, for ever. invalidation open (in progress: 1).",
        ),
        (Shortage(1, "int"), 1, "stores nothing, returns the errno; the ioctl: -12, -ENOMEM"),
        (Shortage(1, "int"), 2, "makes no hole, returns the errno; fallocate: -12, -ENOMEM"),
        (Shortage(1, "int"), 3, "the guest stands still at its ACCEPT; KVM_RUN: -12, -ENOMEM"),
        (
            Shortage(1, again=True),
            0,
            "again: wrapper not called; the attributes say shared already: nothing to do;",
        ),
        (Shortage(1, again=True), 1, "again: wrapper 0; zaps 6 frames, flushes, stores the attributes;"),
        (Shortage(1, again=True), 3, "the page is a 4K page by now; ACCEPT: 0xb0a, accepted already"),
        (Shortage(1, again=True), 4, "again: wrapper 0; finds nothing to zap; MF_DELAYED: 2"),
        (Shortage(1, "int", again=True), 2, "again: wrapper 0; zaps 6 frames, flushes, makes the hole;"),
    ],
)
def test_a_row_in_words(shortage, number, words):
    assert words in lost_errno_text(shortage, run_short(shortage)).splitlines()[1 + number]


def test_the_guest_reads_both_memories_after_a_silent_conversion():
    assert "frame 6: 0x16 as private, 0xa6 as shared" in texts(tree(drawn(Shortage(1))))
    assert "frame 6 reads 0xa6, as shared only" in texts(tree(drawn(Shortage(0))))
    assert "frame 6 reads 0x16, as private" in texts(tree(drawn(Shortage(1, "int"))))


def test_a_handler_s_own_refused_request_is_no_lost_errno():
    """With Dynamic PAMT the ACCEPT's handler asks a fourth time, by itself: that errno arrives."""
    shortage = Shortage(4, dynamic_pamt=True)
    [line] = [
        line for line in lost_errno_text(shortage, run_short(shortage)).splitlines() if "ACCEPT (" in line
    ]
    assert "its own request for PAMT pages is refused; KVM_RUN: -12, -ENOMEM" in line
    assert ". failed, and said so. " in line


# ---- the lanes -----------------------------------------------------------------------------------------


@over(ALL)
def test_each_frame_is_drawn_as_what_it_is(shortage):
    for row in run_short(shortage):
        for run in row.runs:
            for gfn in range(run.gfn, run.gfn + run.pages):
                kind = {SeptState.FREE: "hole", SeptState.PENDING: "pending"}.get(
                    run.state, f"leaf{run.level}"
                )
                kind = "lost" if gfn in row.lost else "crossing" if gfn in row.stale else kind
                assert kind_of(row, gfn) == kind


def test_what_is_wrong_is_hatched_and_what_is_lost_is_marked():
    svg = drawn(Shortage(1))
    spans = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="12" fill="url\(#[^)]*-(\w+)\)"', svg)
    assert [((int(x) - 704) // 17, int(width) // 17, kind) for x, _, width, kind in spans] == [
        *[(6, 6, "crossing")] * 3,
        *((0, 3, "pending"), (4, 4, "pending")),
        *((0, 3, "lost"), (4, 4, "lost")),
    ]


@pytest.mark.parametrize(
    ("shortage", "boxes"),
    [
        (Shortage(1), [(0, 6, 12), (3, 0, 8), (4, 3, 4)]),
        (Shortage(1, "int"), [(4, 3, 4)]),
        (Shortage(0), [(0, 6, 12), (1, 6, 12), (2, 6, 12), (3, 0, 8), (4, 3, 4)]),
    ],
)
def test_what_is_on_record_is_filled(shortage, boxes):
    """(row, first frame, end) of each dark box."""
    ink = LIGHT["ink"]
    found = re.findall(rf'd="M(\d+) (\d+) H(\d+) V\d+ H\d+ Z" fill="{ink}" stroke', drawn(shortage))
    assert [
        ((int(y) - TOP) // ROW, (int(x) - 704) // 17, (int(end) - 704) // 17) for x, y, end in found
    ] == boxes


# ---- the value's path ----------------------------------------------------------------------------------


def value_boxes(svg: str) -> list[list[tuple[str, bool]]]:
    """Of each row the role and whether it is dashed, of the boxes of walk, wrapper and what comes out."""
    roles = {LIGHT[role]: role for role in ("bad", "good", "crossing-mark", "muted")}
    shape = r'<path d="M\d+ \d+ H\d+ V\d+ H\d+ Z" fill="[^"]*" stroke="([^"]*)" stroke-width="2"(.*?)/>'
    found = re.findall(shape, svg[svg.index("what is true now") :])
    boxes = [(roles[stroke], "dasharray" in rest) for stroke, rest in found]
    return [boxes[at : at + 3] for at in range(0, len(boxes), 3)]


def test_an_errno_is_solid_and_what_hides_one_is_dashed():
    errno, hides, fine = ("crossing-mark", False), ("bad", True), ("good", False)
    assert value_boxes(drawn(Shortage(1))) == [
        *[[errno, hides, hides]] * 3,
        *([errno, hides, fine], [errno, hides, hides]),  # the ACCEPT gets there in the end
    ]
    assert value_boxes(drawn(Shortage(1, "int"))) == [[errno] * 3] * 4 + [[errno, errno, hides]]
    assert value_boxes(drawn(Shortage(0))) == [[fine] * 3] * 5


@pytest.mark.parametrize(
    ("shortage", "places"),
    [
        (Shortage(1), [104] * 5),  # between the walk's box and the wrapper's
        (Shortage(1, lasting=True), [104] * 5),
        (Shortage(1, "int"), [602]),  # after the caller's
        (Shortage(3), [104] * 3),
        (Shortage(0), []),
    ],
)
def test_a_cross_stands_where_the_errno_is_lost(shortage, places):
    assert [int(x) for x in re.findall(r'<circle cx="(\d+)" cy="\d+" r="9"', drawn(shortage))] == places


def test_the_title_and_each_value_stand_where_they_belong():
    """The boxes of walk, wrapper and what comes out, row by row, with their values in the middle."""
    columns = ((24, 92), (120, 188), (618, 690))
    for shortage in SOME:
        svg = tree(drawn(shortage))
        assert texts(svg)[0] == "The lost -12: what each caller makes of it"
        shape = re.compile(r"M(\d+) (\d+) H(\d+) V(\d+) H\1 Z")
        found = (shape.fullmatch(p.get("d")) for p in svg.iter(f"{SVG}path") if p.get("stroke-width") == "2")
        boxes = [tuple(map(int, one.groups())) for one in found if one]
        boxes = [box for box in boxes if box[1] > TOP]
        tops = [TOP + ROW * row + 35 for row in range(ROWS)]
        assert boxes == [(left, top, right, top + 26) for top in tops for left, right in columns]
        at = {(int(t.get("x")), int(t.get("y"))): t.text for t in svg.iter(f"{SVG}text")}
        for row, top in zip(run_short(shortage), tops, strict=True):
            said = values(row.first.walks), values(row.first.wrapper), came_out(row, row.first)[0]
            assert [at[(left + right) // 2, top + 19] for left, right in columns] == [*said]
            assert at[24, top - 20] == row.name


def chips(svg: ElementTree.Element) -> list[ElementTree.Element]:
    """The words of the requests, from left to right: they stand at y 186, after what they are."""
    row = [text for text in svg.iter(f"{SVG}text") if text.get("y") == "186"]
    return sorted(row, key=extent)[1:]


def test_the_requests_are_those_of_a_conversion_and_then_those_that_another_makes():
    """Two splits of two pages, or of three with Dynamic PAMT. Whole leaves are not split; an ACCEPT's is."""
    pages = ["page table", "S-EPT page"]
    for shortage, made in (
        (Shortage(0), pages * 2),
        (Shortage(0, dynamic_pamt=True), [*pages, "PAMT pages"] * 2),
        (Shortage(0, start=0, end=9), pages),
        (Shortage(0, start=0, end=8), pages),
        (Shortage(0, start=0, end=8, dynamic_pamt=True), [*pages, "PAMT pages", "PAMT pages"]),
    ):
        names = [*made, *["nobody asks"] * (6 - len(made))]
        said = ["none", *(f"{number}: {name}" for number, name in enumerate(names, 1))]
        assert [text.text.removeprefix("✗ ") for text in chips(tree(drawn(shortage)))] == said
        assert not any(text.text.startswith("✗") for text in chips(tree(drawn(shortage))))


def test_a_request_is_pressed_where_it_is_written_and_crossed_where_it_is_refused():
    for shortage in SOME:
        picture = drawn(shortage)
        words = chips(tree(picture))
        assert [spot.name for spot in picture.spots] == [f"request:{number}" for number in range(7)]
        assert [spot.chosen for spot in picture.spots] == [n == shortage.refuse for n in range(7)]
        for number, (spot, text) in enumerate(zip(picture.spots, words, strict=True)):
            left, right = extent(text)
            assert spot.left + 1 <= left < right <= spot.right - 1, text.text
            assert spot.top < int(text.get("y")) < spot.bottom
            said = text.text.removeprefix("✗ ")
            assert spot.label == ("refuse no request" if said == "none" else f"refuse request {said}")
            later = shortage.lasting and 0 < shortage.refuse < number
            refused = number > 0 and (spot.chosen or later)
            assert text.text.startswith("✗ ") == (refused and "nobody" not in text.text)
        assert picture.spots[-1].right == 976


def test_both_edges_are_drawn_where_they_are_dragged():
    for shortage in SOME:
        picture = drawn(shortage)
        [track] = picture.tracks
        assert (track.name, track.knots, track.keyed) == ("range", ((0, 24), (16, 976)), True)
        low, high = (24 + 952 * edge // 16 for edge in (shortage.start, shortage.end))
        for x in (low, high):
            assert f'd="M{x} {track.top - 3} V{track.bottom + 1}"' in picture
        row = [text for text in tree(picture).iter(f"{SVG}text") if text.get("y") == "166"]
        names = [text for text in row if text.get("fill") == LIGHT["range"]]
        assert [text.text for text in names] == [str(shortage.start), str(shortage.end)]
        assert min(int(text.get("y")) for text in row) - 9 > track.bottom + 9, "grips hang above them"


@over(SPANS)
def test_each_leaf_says_what_the_range_makes_of_it_clear_of_its_edges(span):
    start, end = span
    svg = tree(drawn(Shortage(start=start, end=end)))
    words = [t for t in svg.iter(f"{SVG}text") if 116 < int(t.get("y")) < 140 and t.text != "page 3"]
    said = []
    for first in (0, 8):
        inside = [edge for edge in (start, end) if first < edge < first + 8]
        touched = set(range(first, first + 8)) & set(range(start, end))
        said.append("must be split" if inside else "whole: no split" if touched else "not in the range")
    assert [text.text for text in words] == said
    for text in words:
        left, right = extent(text)
        for x in (*(24 + 952 * edge // 16 for edge in (start, end, 8)), 202, 262):
            assert not left - 4 < x < right + 4


def test_the_legend_names_what_is_drawn():
    names = {
        "leaf2": "8-frame leaf",
        "leaf1": "4K leaves",
        "pending": "PENDING",
        "hole": "not mapped, as asked",
        "crossing": "still mapped, and no errno said so",
        "lost": "lost: outside, and gone",
    }
    for shortage in SOME:
        svg = tree(drawn(shortage))
        lanes = {r.get("fill") for r in svg.iter(f"{SVG}rect") if r.get("height") == "12"}
        kinds = {LIGHT.get(kind): kind for kind in ("leaf1", "hole")} | {LIGHT["leaf2"]: "leaf2"}
        found = {kinds.get(fill) or fill.rpartition("-")[2].rstrip(")") for fill in lanes} | {"leaf2"}
        y = str(TOP + ROWS * ROW + 14)
        assert {t.text for t in svg.iter(f"{SVG}text") if t.get("y") == y} == {names[kind] for kind in found}


def test_each_verdict_has_a_glyph_and_a_colour():
    seen = {}
    for shortage in (Shortage(1), Shortage(1, "int"), Shortage(1, "int", leaves_open=True)):
        at = {(t.get("x"), int(t.get("y"))): t for t in tree(drawn(shortage)).iter(f"{SVG}text")}
        for number, row in enumerate(run_short(shortage)):
            top = TOP + ROW * number
            glyph, said = at["712", top + 15], at["726", top + 16]
            assert said.text == row.verdict
            seen[row.verdict] = (glyph.text, said.get("fill"))
    assert seen == {
        "all done": ("✓", LIGHT["good"]),
        "failed, and said so": ("!", LIGHT["crossing-mark"]),
        "failed, said nothing": ("✗", LIGHT["bad"]),
        "frames lost": ("✗", LIGHT["bad"]),
        "invalidation open": ("✗", LIGHT["bad"]),
    }
