"""The explorer's picture: what is drawn stands where counting frames says, and it says what the words say."""

import re
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given, settings

from tdpkit.engine.gfn import GfnRange, format_gfn, parse_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.picture import boundary_svg, boundary_table, boundary_text
from tdpkit.show.boundary.state import boundary_state
from tdpkit.show.boundary.words import boundary_words
from tdpkit.show.drawing import Drawing
from tdpkit.show.theme import LIGHT, still
from tests.oracles import byframe
from tests.oracles.svgs import SVG, beside, drawn, texts, tree, written
from tests.show.boundary.test_state import KINDS, Model

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
    return {case: tree(boundary_svg(state, LIGHT, "be")) for case, state in states.items()}


@pytest.fixture(scope="module")
def words(states):
    return {case: boundary_words(state) for case, state in states.items()}


# ---- places --------------------------------------------------------------------------------------------


def runs(kinds, left, right, leaf):
    """[(kind, x, width)] of equal frames side by side; a crossing leaf of `leaf` frames stands by itself."""
    frames, found = len(kinds), []

    def looks(frame):
        return KINDS[kinds[frame]], KINDS[kinds[frame]] == "crossing" and frame // leaf

    for (kind, _), run in groupby(range(frames), looks):
        first, *others = run
        low, high = (left + (right - left) * at // frames for at in (first, [first, *others][-1] + 1))
        found.append((kind, low, high - low))
    return found


def joined(boxes):
    """The same, boxes of one kind that touch as one: the guest's strip has one for each run of leaves."""
    found = []
    for kind, x, width in boxes:
        if found and found[-1][0] == kind and found[-1][1] + found[-1][2] == x:
            _, x, before = found.pop()
            width += before
        found.append((kind, x, width))
    return found


def boxes(svg, top, left, right):
    """[(kind, x, width)] of the boxes of a strip, from left to right; plates, on paper, are no boxes."""
    kinds = {LIGHT[kind]: kind for kind in ("leaf3", "leaf2", "leaf1", "hole", "table")}
    found = []
    for rect in drawn(svg, "rect"):
        x, fill = int(rect.get("x", 0)), rect.get("fill")
        if rect.get("y") == f"{top}" and left <= x < right and rect.get("height") == "24":
            found.append((kinds.get(fill) or fill[len("url(#be-") : -1], x, int(rect.get("width"))))
    return sorted(found, key=lambda box: box[1])


def strip_top(svg, label, left=24):
    """The top of the strip with this label, which stands 7 above it."""
    [text] = [text for text in written(svg, label) if int(text.get("x")) == left]
    return int(text.get("y")) + 7


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize(("start", "end"), SPANS["toy"])
def test_every_box_byte_and_bracket_of_the_toy_stands_at_its_frames(states, trees, start, end, kind, action):
    svg, before = trees["toy", start, end, kind, action], byframe.named("toy")
    first, last = parse_gfn(start), parse_gfn(end)
    model = Model(before, kind, first, last, action)
    assert joined(boxes(svg, strip_top(svg, "the guest, 0 to 32"), 24, 976)) == runs(
        model.guest(), 24, 976, 32
    )
    for level, label, pages in (
        (2, "level 2 · 8 frames per entry", 8),
        (1, "level 1 · 1 frame per entry", 1),
    ):
        top = strip_top(svg, label)
        expected = runs(model.strip(level, 0, 32), 24, 976, pages if level == 2 else 32)
        assert boxes(svg, top, 24, 976) == expected
    brackets = [p.get("d") for p in drawn(svg, "path") if p.get("stroke") == LIGHT["range"]]
    low, high = 24 + 952 * first // 32, 24 + 952 * last // 32
    assert len(brackets) == 3, "below the guest and below each level"
    assert {tuple(re.findall(r"M(\d+) .* H(\d+)", d)[0]) for d in brackets} == {(f"{low}", f"{high}")}
    fates = model.strip(1, 0, 32)
    for frame, byte in enumerate(states["toy", start, end, kind, action].memory):
        middle = (24 + 952 * frame // 32 + 24 + 952 * (frame + 1) // 32) // 2
        [box] = [text for text in written(svg, byte) if int(text.get("x")) == middle]
        role = {"lost": "bad", "refaulted": "refaulted-mark"}.get(KINDS[fates[frame]], "ink")
        assert box.get("fill") == LIGHT[role]


@pytest.mark.parametrize("name", ["one-1G", "mixed", "16T"])
def test_each_lens_frames_the_entry_that_it_enlarges_and_brackets_its_part_of_the_range(trees, name):
    """The start's lens goes from 24 to 480, the end's from 520 to 976; a table of x86 has 512 entries."""
    frames = Guest(name, "TD").frames
    for start, end in SPANS[name]:
        svg = trees[name, start, end, "TD", "look"]
        span = parse_gfn(start), parse_gfn(end)
        for left, at in ((24, span[0]), (520, span[1] - 1)):
            for level, size in ((3, "1G"), (2, "2M"), (1, "4K")):
                pages = 512 ** (level - 1)
                top = strip_top(svg, f"level {level} · {size} per entry", left)
                table = at // (512 * pages) * 512 * pages
                shown = min(512 * pages, frames - table)

                def x(frame, left=left, table=table, shown=shown):
                    return left + 456 * min(max(frame - table, 0), shown) // shown

                low, high = x(at // pages * pages), x(at // pages * pages + pages)
                d = f"M{low} {top} H{max(high, low + 3)} V{top + 24} H{low} Z"
                assert [p.get("stroke") for p in drawn(svg, "path") if p.get("d") == d] == [LIGHT["ink"]]
                low, high = x(span[0]), x(span[1])
                d = f"M{low} {top + 33} V{top + 28} H{max(high, low + 2)} V{top + 33}"
                assert [p.get("stroke") for p in drawn(svg, "path") if p.get("d") == d] == [LIGHT["range"]]


LEGEND = {
    "crosses an edge": "crossing",
    "made by the split": "split",
    "zapped, in the range": "zapped",
    "lost: zapped outside the range": "lost",
    "zapped outside the range, to re-fault": "refaulted",
    "8-frame leaf": "leaf2",
    "1-frame leaf": "leaf1",
    "4K leaf": "leaf1",
    "2M leaf": "leaf2",
    "1G leaf": "leaf3",
    "not mapped": "hole",
    "table": "table",
}


def test_the_swatch_beside_each_name_of_the_legend_is_what_boxes_of_that_kind_are_filled_with(trees):
    for case, svg in trees.items():
        bottom = max(int(text.get("y")) for text in svg.iter(f"{SVG}text"))
        names = [text for text in svg.iter(f"{SVG}text") if int(text.get("y")) == bottom]
        for name in names:
            kind = LEGEND[name.text]
            assert beside(svg, name).get("fill") in (LIGHT[kind], f"url(#be-{kind})"), (case, name.text)


# ---- what it shows -------------------------------------------------------------------------------------


def size_of(guest, pages):
    if guest not in ("eight", "toy"):
        return format_gfn(pages)
    return f"{pages} frame{'s' * (pages > 1)}"


def test_the_legend_names_what_is_drawn_and_nothing_else(trees, words):
    """A cell that is thinner than a unit is not drawn, unless it must be seen."""
    for case, svg in trees.items():
        bottom = max(int(text.get("y")) for text in svg.iter(f"{SVG}text"))
        named = [text.text for text in svg.iter(f"{SVG}text") if int(text.get("y")) == bottom]
        fills = {
            rect.get("fill")
            for rect in drawn(svg, "rect")
            if rect.get("height") == "24" and int(rect.get("width")) < 1000
        }
        kinds = {kind for kind, _ in words[case].legend}
        seen = {kind for kind in kinds if fills & {LIGHT[kind], f"url(#be-{kind})"}}
        assert named == [name for kind, name in words[case].legend if kind in seen], case


def test_title_answer_note_captions_counters_and_legend_are_all_written_out(states, trees, words):
    for case, state in states.items():
        written, said = texts(trees[case]), words[case]
        assert said.title == written[0]
        assert said.answer in " ".join(written)
        for needed in (
            *[said.note] * bool(said.note),
            *(caption for caption, _ in said.captions if caption),
            *(text for counter in said.counters for text in (counter.value, counter.caption)),
            *(text for lens in state.lenses for strip in lens.strips for text in (strip.label,)),
            f"the range: {size_of(case[0], state.outcome.span.pages)}",
            *state.memory,
        ):
            assert needed in written, (case, needed)


def test_a_counter_s_caption_is_below_its_value(trees, words):
    for case, svg in trees.items():
        for counter in words[case].counters:
            [caption] = written(svg, counter.caption)
            above = [t for t in written(svg, counter.value) if t.get("x") == caption.get("x")]
            assert [int(t.get("y")) for t in above] == [int(caption.get("y")) - 18]


def test_a_verdict_stands_in_place_of_the_answer_whatever_its_length(states):
    state = states["toy", "20K", "48K", "TD", "zap"]
    for verdict in ("Not yet: 1.", "Not yet: " + "a word " * 150):
        svg = tree(boundary_svg(state, LIGHT, verdict=verdict.strip()))
        guest = strip_top(svg, "the guest, 0 to 32")
        above = [t for t in svg.iter(f"{SVG}text") if t.get("font-size") == "13" and int(t.get("y")) < guest]
        assert " ".join(line.text for line in above) == verdict.strip()
        assert {line.get("fill") for line in above} == {LIGHT["bad"]}
        assert int(above[-1].get("y")) < guest - 20
        assert svg.find(f"{SVG}desc").text == verdict.strip()


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


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a \"b\" & 'c' > d", "]]>", "&amp;", "a  b"])
def test_special_characters_are_text(text):
    drawing = Drawing(100, 50, LIGHT, "x")
    drawing.text(1, 2, text)
    svg = tree(drawing.svg(text, text))
    assert [svg.find(f"{SVG}{tag}").text for tag in ("title", "desc", "text")] == [text] * 3


def test_no_answer_of_its_own_moves_what_is_below_it(trees):
    """A slider's longer answer has a second line, for which room is kept; a third would move the strips."""
    size = {"eight": "8", "toy": "32", "one-1G": "3G", "mixed": "4G", "16T": "16T"}
    tops = {strip_top(svg, f"the guest, 0 to {size[name]}") for (name, *_), svg in trees.items()}
    assert tops == {108}


# ---- the same in every run -----------------------------------------------------------------------------


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
    assert len({boundary_svg(state, LIGHT, "be") for state in states.values()}) == len(states)


def test_the_readme_shows_the_explorers_own_picture():
    explorer = BoundaryExplorer("16T")
    explorer.show(action="zap")
    assert (ROOT / "README.svg").read_text().rstrip("\n") == still(boundary_svg(explorer.state, LIGHT))


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
        said = boundary_words(state)
        assert caption == f"{said.title}. {said.answer}"
        for counter in said.counters:
            assert found[counter.caption] == counter.value
        for lens, (caption, _) in zip(state.lenses, said.captions, strict=True):
            if caption:
                assert caption in found[lens.name]
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
    assert boundary_words(state).note
    assert boundary_words(state).note in boundary_table(state)


def test_the_plain_text_starts_with_the_answer_and_has_every_number(states, words):
    for case, state in states.items():
        said = words[case]
        first, *others = boundary_text(state).split("\n")
        assert first == f"{said.title}. {said.answer}"
        assert [c for c in said.counters if f"{c.caption}: {c.value}" not in others] == []
        assert (said.note in others) is bool(said.note)
        captions = [caption for caption, _ in said.captions if caption]
        assert [caption for caption in captions if not any(caption in line for line in others)] == []
        if state.memory:
            assert "the guest reads: " + " ".join(state.memory) in others
