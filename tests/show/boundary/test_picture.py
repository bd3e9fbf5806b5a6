"""The explorer's markup: well formed, in whole numbers, inside its frame, and the same in every run."""

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings

from tdpkit.engine.gfn import GfnRange, format_gfn, parse_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.drawing import Drawing
from tdpkit.show.theme import DARK, LIGHT, LIVE
from tests.oracles import byframe
from tests.oracles.svgs import (
    SVG,
    check_alone,
    check_form,
    check_ids,
    check_inside,
    check_texts_apart,
    check_themes,
    check_whole_numbers,
    drawn,
    extent,
    printed_whatever_the_hash_seed,
    texts,
    tree,
)

ROOT = Path(__file__).parents[3]
SPANS = {
    "eight": [("12K", "16K"), ("0", "32K"), ("28K", "32K")],
    "toy": [("20K", "48K"), ("0", "128K"), ("68K", "76K"), ("124K", "128K")],
    "one-1G": [("1G+1M", "2G"), ("4K", "3G"), ("1G+4K", "1G+8K"), ("2G-4K", "2G+4K")],
    "mixed": [
        *[("6M+12K", "3G+513M"), ("0", "4K"), ("4G-4K", "4G"), ("1023M+1020K", "3G+1023M+1020K")],
        *[("2G+1023M+1020K", "3G+1023M+1020K"), ("3G+4K", "3G+1023M+1020K"), ("600M", "700M")],
    ],
    "16T": [
        *[("2T+4K", "14T+4K"), ("0", "16T"), ("0", "4K"), ("16T-4K", "16T"), ("4K", "1T"), ("15T", "16T-4K")],
        *[("10T+1023G+1022M+4K", "13T+1023G+1022M+4K"), ("15T+1023G+1022M+4K", "15T+1023G+1022M+8K")],
    ],
}
CASES = [(name, *span) for name, spans in SPANS.items() for span in spans]


@pytest.fixture(scope="module")
def states():
    """Every kind of VM, span and action: some 180 pictures."""
    found = {}
    for name, spans in SPANS.items():
        for kind in VM_KINDS:
            guest = Guest(name, kind)
            for start, end in spans:
                for action in ACTIONS:
                    state = boundary_state(guest, parse_gfn(start), parse_gfn(end), action)
                    found[name, start, end, kind, action] = state
    return found


@pytest.fixture(scope="module")
def trees(states):
    return {case: tree(boundary_svg(state, LIGHT)) for case, state in states.items()}


# ---- form ----------------------------------------------------------------------------------------------


def test_a_picture_scales_with_its_container_and_is_read_out_as_an_image(states, trees):
    for case, svg in trees.items():
        check_form(svg, states[case].title, states[case].answer)


def test_coordinates_are_whole_numbers(trees):
    for svg in trees.values():
        check_whole_numbers(svg)


def test_nothing_is_drawn_outside_the_picture(trees):
    for case, svg in trees.items():
        check_inside(svg, case)


def test_boxes_stay_in_their_strip_even_those_made_wider_to_be_seen(states, trees):
    """The whole guest's strip goes from 24 to 976; two lenses below it share that with a gap of 40."""
    for case, svg in trees.items():
        for rect in drawn(svg, "rect")[1:]:
            left, right = int(rect.get("x")), int(rect.get("x")) + int(rect.get("width"))
            assert 24 <= left < right <= 976, case
            if rect.get("height") == "30" and rect.get("y") != "106" and not states[case].memory:
                assert right <= 480 or left >= 520, case


def test_the_paper_covers_the_picture_and_lies_below_everything(trees):
    for svg in trees.values():
        paper = drawn(svg, "rect")[0]
        assert ["0", "0", paper.get("width"), paper.get("height")] == svg.get("viewBox").split()
        assert paper.get("fill") == LIGHT["paper"]
        assert [part.tag for part in svg].index(f"{SVG}rect") < [part.tag for part in svg].index(f"{SVG}text")


def test_a_picture_loads_nothing_and_styles_nothing_around_it(states):
    for state in states.values():
        check_alone(boundary_svg(state, LIGHT))


# ---- ids -----------------------------------------------------------------------------------------------


def test_ids_carry_their_prefix_are_unique_and_every_reference_resolves(states):
    for state in states.values():
        check_ids(boundary_svg(state, LIGHT, "be-17"), "be-17")


def test_two_instances_share_no_id(states):
    for state in states.values():
        one, other = (re.findall(r'\bid="([^"]*)"', boundary_svg(state, LIGHT, ids)) for ids in ("a", "b"))
        assert set(one).isdisjoint(other)


# ---- what it shows -------------------------------------------------------------------------------------


def test_title_answer_note_captions_counters_and_legend_are_all_written_out(states, trees):
    for case, state in states.items():
        written = texts(trees[case])
        assert state.title in written
        assert state.answer in " ".join(written)
        for needed in (
            *[state.note] * bool(state.note),
            *(lens.caption for lens in state.lenses if lens.caption),
            *(text for value, caption, _ in state.counters for text in (value, caption)),
            *(name for _, name in state.legend),
            *(text for lens in state.lenses for strip in lens.strips for text in (strip.label,)),
            f"the range: {format_gfn(state.outcome.span.pages)}",
            *state.memory,
        ):
            assert needed in written, (case, needed)


def test_two_pictures_on_one_page_share_no_id_though_nobody_named_them(states):
    """A page that inlines static pictures would fill one with the other's hatches, or read out its title."""
    one, other = (states["one-1G", "1G+1M", "2G", "plain", action] for action in ("look", "zap"))
    ids = [set(re.findall(r' id="([^"]+)"', boundary_svg(state, LIGHT))) for state in (one, other)]
    assert all(ids)
    assert ids[0].isdisjoint(ids[1])


def test_the_crossing_leaf_is_hatched_and_named(states):
    state = states["one-1G", "1G+1M", "2G", "plain", "look"]
    svg = boundary_svg(state, LIGHT, "be")
    assert 'fill="url(#be-crossing)"' in svg
    assert "the 1G leaf at 1G crosses the start" in state.answer
    assert "crosses" in texts(tree(svg))


@pytest.mark.parametrize(
    ("action", "kind", "hatch"),
    [
        ("look", "TD", "crossing"),
        ("zap", "TD", "lost"),
        ("zap", "plain", "refaulted"),
        ("split", "TD", "split"),
        ("split+zap", "plain", "zapped"),
    ],
)
@pytest.mark.parametrize("name", SPANS)
def test_what_must_not_be_overlooked_is_drawn_however_thin_it_is(states, name, action, kind, hatch):
    """One frame of 16 TiB is a two-hundred-thousandth of a unit of the picture."""
    start, end = SPANS[name][0]
    svg = tree(boundary_svg(states[name, start, end, kind, action], LIGHT, "be"))
    boxes = [rect for rect in drawn(svg, "rect") if rect.get("fill") == f"url(#be-{hatch})"]
    strips = [box for box in boxes if int(box.get("height")) >= 20]
    assert strips, "more than the legend's swatch"
    assert all(int(box.get("width")) >= 5 for box in strips) or hatch in ("split", "zapped")


def test_runs_are_merged_so_that_a_picture_of_4_billion_frames_is_a_few_dozen_boxes(trees):
    for (name, *_), svg in trees.items():
        if name in ("16T", "one-1G", "mixed"):
            assert len(drawn(svg, "rect")) < 60


def test_the_two_themes_differ_in_colours_alone(states):
    for state in states.values():
        check_themes(*(boundary_svg(state, palette) for palette in (LIGHT, DARK, LIVE)))


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a \"b\" & 'c' > d", "]]>", "&amp;", "a  b"])
def test_special_characters_are_text(text):
    drawing = Drawing(100, 50, LIGHT, "x")
    drawing.text(1, 2, text)
    svg = tree(drawing.svg(text, text))
    assert [svg.find(f"{SVG}{tag}").text for tag in ("title", "desc", "text")] == [text] * 3


# ---- room for the words --------------------------------------------------------------------------------


def test_no_line_of_the_answer_is_longer_than_the_picture(states, trees):
    for case, state in states.items():
        lines = [text for text in trees[case].iter(f"{SVG}text") if text.text and text.text in state.answer]
        lines = [line for line in lines if line.get("font-size") == "13" and int(line.get("y")) < 99]
        assert " ".join(line.text for line in lines) == state.answer
        assert len(lines) <= 2, "a third line would run into the strip below"
        assert [line.text for line in lines if extent(line)[1] > 976] == []


def test_no_two_texts_of_a_line_run_into_each_other(trees):
    for case, svg in trees.items():
        check_texts_apart(svg, case)


# ---- the same in every run -----------------------------------------------------------------------------

PRINT_ALL = """
import json
from tdpkit.lab.guest import ACTIONS, Guest, VM_KINDS
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.theme import DARK, LIVE
said = []
for name, start, end in (("toy", 5, 12), ("mixed", 1539, 917760)):
    for kind in VM_KINDS:
        for action in ACTIONS:
            state = boundary_state(Guest(name, kind), start, end, action)
            said += [boundary_svg(state, DARK), boundary_svg(state, LIVE), boundary_table(state)]
            said += [boundary_text(state)]
bundle = BoundaryExplorer("toy")._repr_mimebundle_()
said += [[kind, content] for kind, content in bundle.items() if "widget-view" not in kind]
print(json.dumps(said))
"""


def test_markup_and_bundle_are_the_same_whatever_the_hash_seed():
    assert len(printed_whatever_the_hash_seed(PRINT_ALL)) > 64


@settings(max_examples=80)
@given(byframe.cases(), byframe.kinds, byframe.actions)
def test_the_picture_is_a_pure_function_of_the_state_for_any_layout(case, kind, action):
    layout, start, end = case
    assume(layout.geometry.max_leaf_level <= 3)  # there are colours for three sizes of leaves
    one, other = (boundary_state(Guest(layout, kind), start, end, action) for _ in range(2))
    svg = boundary_svg(one, LIGHT)
    assert svg == boundary_svg(other, LIGHT) == boundary_svg(one, LIGHT)
    width, height = map(int, tree(svg).get("viewBox").split()[2:])
    for rect in drawn(tree(svg), "rect"):
        assert int(rect.get("x", 0)) + int(rect.get("width")) <= width
        assert int(rect.get("y", 0)) + int(rect.get("height")) <= height


def test_pictures_of_different_states_differ(states):
    pictures = {case: boundary_svg(state, LIGHT) for case, state in states.items()}
    assert all(pictures[one] != pictures[other] for one, other in combinations(pictures, 2))


def test_the_readme_shows_the_explorers_own_picture():
    explorer = BoundaryExplorer("16T")
    explorer.show(action="zap")
    assert (ROOT / "README.svg").read_text().rstrip("\n") == boundary_svg(explorer.state, LIGHT)


# ---- the text twins ------------------------------------------------------------------------------------


def rows(state) -> tuple[str, dict[str, str]]:
    table = ElementTree.fromstring(boundary_table(state))
    assert table.tag == "table"
    found = {}
    for row in table.iter("tr"):
        head, data = row
        assert (head.tag, head.get("scope"), data.tag) == ("th", "row", "td")
        assert head.text not in found, "each row has a name of its own"
        found[head.text] = data.text
    return table.find("caption").text, found


def test_the_table_is_well_formed_and_says_what_the_picture_says(states):
    for state in states.values():
        caption, found = rows(state)
        assert caption == f"{state.title}. {state.answer}"
        for value, name, _ in state.counters:
            assert found[name] == value
        for lens in state.lenses:
            if lens.caption:
                assert lens.caption in found[lens.name]
            for strip in lens.strips:
                cells = next(
                    data for head, data in found.items() if head.startswith(f"{lens.name}, {strip.label}")
                )
                spans = [str(GfnRange(cell.first, cell.last)) for cell in strip.cells]
                assert [span for span in spans if span not in cells] == []
                assert [cell.text for cell in strip.cells if cell.text not in cells] == []
        if state.memory:
            assert found["the guest reads"] == " ".join(state.memory)


def test_the_table_says_the_what_if_note_too(states):
    state = states["one-1G", "1G+1M", "2G", "TD", "look"]
    assert state.note
    assert state.note in boundary_table(state)


def test_the_plain_text_starts_with_the_answer_and_has_every_number(states):
    for state in states.values():
        first, *others = boundary_text(state).split("\n")
        assert first == f"{state.title}. {state.answer}"
        assert [
            f"{caption}: {value}"
            for value, caption, _ in state.counters
            if f"{caption}: {value}" not in others
        ] == []
        assert (state.note in others) is bool(state.note)
        captions = [lens.caption for lens in state.lenses if lens.caption]
        assert [caption for caption in captions if not any(caption in line for line in others)] == []
        if state.memory:
            assert "the guest reads: " + " ".join(state.memory) in others
