"""The picture of one case: true to its trees, each mark at its frames, each word written out."""

from __future__ import annotations

from random import Random

import pytest

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.exercises.checking import Counterexample, Verdict
from tdpkit.lab.search import SAMPLED, UNIVERSES, ToyCase, ToyTree, sample, search
from tdpkit.lab.shapes import HOLE, LEAF, Shape, random_shape, tables_of
from tdpkit.lab.spec import edges_of, split_as_forced
from tdpkit.lab.strategies import STRATEGIES, PlannedCall, plan_of
from tdpkit.show.case import CasePicture
from tdpkit.show.case.picture import case_svg, case_text
from tdpkit.show.case.state import CaseState, case_state
from tdpkit.show.case.words import call_text, case_words
from tdpkit.show.theme import LIGHT, still
from tests.oracles.svgs import (
    SVG,
    beside,
    check_form,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    drawn,
    texts,
    tree,
    written,
)

TOY = Geometry(index_bits=1, root_level=3, max_leaf_level=3)


def leaves(geometry: Geometry, shape: Shape) -> set[tuple[int, int]]:
    """Every leaf of a tree as (first frame, frames)."""
    found = set()

    def below(table: Shape, pages: int, gfn: int) -> None:
        for at, entry in enumerate(table):
            if entry == LEAF:
                found.add((gfn + at * pages, pages))
            elif entry != HOLE:
                below(entry, pages >> geometry.index_bits, gfn + at * pages)

    below(shape, geometry.root_pages >> geometry.index_bits, 0)
    return found


def case_of(geometry: Geometry, shape: Shape, span: GfnRange, calls: list[PlannedCall]) -> ToyCase:
    """`calls` made on the engine."""
    made, visits, splits = shape, 0, 0
    for call in calls:
        made, visited, split = ToyTree(geometry, made).tried(call)
        visits, splits = visits + visited, splits + split
    expected = split_as_forced(geometry, shape, edges_of(span))
    forced = tables_of(expected) - tables_of(shape)
    return ToyCase(geometry, shape, span, tuple(calls), "", splits, forced, visits, made, expected)


def any_calls(random: Random, frames: int, root_level: int) -> list[PlannedCall]:
    """Up to ten calls, empty ones too, and some that reach beyond the machine."""
    calls = []
    for _ in range(random.choice((0, 1, 2, 4, 5, 10))):
        start, end = sorted(random.choices(range(frames + 1), k=2))
        start = min(start, frames - 1)
        end = max(start, end) * random.choice((1, 1, 1, 3))
        calls.append(PlannedCall(start, end, random.randrange(1, root_level), random.random() < 0.3))
    return calls


@pytest.fixture(scope="module")
def cases() -> list[ToyCase]:
    """The smallest counterexamples that a search and samples find; then cases of any kind and size."""
    geometries = [*SAMPLED.values(), *(universe.geometry for universe in UNIVERSES.values())]
    tallies = [search(UNIVERSES["three levels"], STRATEGIES)]
    tallies += [sample(geometry, STRATEGIES, 100) for geometry in geometries]
    found = [tally.smallest for part in tallies for tally in part.values() if tally.smallest]
    assert len(found) >= 30
    random = Random(3)
    for number in range(300):
        geometry = geometries[number % len(geometries)]
        frames, shape = geometry.root_pages, random_shape(geometry, random)
        span = GfnRange(*sorted(random.choices(range(frames + 1), k=2)))
        calls = any_calls(random, frames, geometry.root_level)
        if number % 3 == 0:
            strategy = random.choice(list(STRATEGIES.values()))
            calls = plan_of(strategy, geometry, span, frames)
        found.append(case_of(geometry, shape, span, calls))
    for calls in (
        [],
        [PlannedCall(0, 100, 1)],
        [PlannedCall(0, 0, 1), PlannedCall(7, 7, 1)],
        [PlannedCall(5, 10**12, 1, True)] * 4,
    ):
        found.append(case_of(TOY, (LEAF, LEAF), GfnRange(3, 3), calls))
        found.append(case_of(TOY, (LEAF, HOLE), GfnRange(8, 8), calls))
    return found


@pytest.fixture(scope="module")
def states(cases: list[ToyCase]) -> list[CaseState]:
    return [case_state(case) for case in cases]


# ---- a verdict in place of its own answer --------------------------------------------------------------


@pytest.mark.slow
def test_a_picture_with_a_verdicts_words_keeps_the_house_rules_too(states: list[CaseState]) -> None:
    for words in ("No.", "a word " * 120, "[0x20000001 (2T+4K), 0xe0000001 (14T+4K)), " * 12):
        for state in states[::7]:
            verdict = Verdict(False, words.strip(), Counterexample(state, case_svg))
            svg = verdict._repr_mimebundle_()["image/svg+xml"]
            picture = tree(svg)
            check_form(picture, case_words(state).title, repr(verdict))
            check_inside(picture, state)
            check_texts_apart(picture, state)
            check_lines_apart(picture, state)
            assert repr(verdict) in " ".join(texts(picture))
            assert case_words(state).answer not in texts(picture)


# ---- what it says --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_word_of_the_state_is_in_the_picture_and_in_the_text(states: list[CaseState]) -> None:
    for state in states:
        written, said, words = texts(tree(case_svg(state, LIGHT))), case_text(state), case_words(state)
        assert said.startswith(f"{words.title}. {words.answer}\n")
        assert written[0] == words.title
        for needed in (f"[{state.start}, {state.end})", *(name for _, name in words.legend)):
            assert needed in written
        assert words.answer in " ".join(written)
        assert words.caption in (*written, "")
        assert words.caption in said
        for call in state.calls:
            assert call_text(call) in said
        for call in state.calls[:5]:
            assert call_text(call) in written
            assert ("only what crosses" in written) or not call.only_cross_boundary
        if len(state.calls) > 6:
            assert f"and {len(state.calls) - 5} more calls" in written
        if not state.calls:
            assert "no call" in written
            assert "calls: none" in said


@pytest.mark.slow
def test_every_leaf_is_a_box_of_its_frames_at_its_level(
    cases: list[ToyCase], states: list[CaseState]
) -> None:
    """The trees are read here without the module's help."""
    for case, state in zip(cases, states, strict=True):
        for tree_shown, shape in zip(state.trees, (case.shape, case.after), strict=False):
            shown = {
                (cell.first, cell.last - cell.first)
                for strip in tree_shown.strips
                for cell in strip.cells
                if cell.kind not in ("table", "hole")
            }
            assert shown == leaves(case.geometry, shape)
            sizes = [strip.focus[1] for strip in tree_shown.strips]
            assert sizes == [case.geometry.pages(n) for n in range(case.geometry.max_leaf_level, 0, -1)]
            for size, strip in zip(sizes, tree_shown.strips, strict=True):
                assert {cell.last - cell.first for cell in strip.cells if cell.kind != "hole"} <= {size}


def test_what_is_wrong_is_marked_and_nothing_else(cases: list[ToyCase], states: list[CaseState]) -> None:
    for case, state in zip(cases, states, strict=True):
        before, after, wanted = (
            leaves(case.geometry, shape) for shape in (case.shape, case.after, case.expected)
        )
        cells = [cell for strip in state.trees[1].strips for cell in strip.cells]
        marked = {
            kind: {(cell.first, cell.last - cell.first) for cell in cells if cell.kind == kind}
            for kind in ("crossing", "split")
        }
        edges = {case.span.start, case.span.end}
        crossing = {
            (gfn, pages) for gfn, pages in after if any(x - 1 in range(gfn, gfn + pages - 1) for x in edges)
        }
        too_small = {
            (gfn, pages)
            for gfn, pages in after - before
            if any(whole <= gfn and gfn + pages <= whole + size and pages < size for whole, size in wanted)
        }
        assert marked == {"crossing": crossing, "split": too_small}
        words = case_words(state)
        assert bool(words.caption) == bool(crossing or too_small) == (case.after != case.expected)
        assert len(state.trees) == 2 + bool(words.caption)
        verdict = "Wrong: " if crossing else "Safe, but " if too_small else "Exact: "
        assert words.answer.startswith(verdict)
        assert words.role == ("bad" if crossing or too_small else "good")


def test_what_should_have_been_is_drawn_where_it_is_another(
    cases: list[ToyCase], states: list[CaseState]
) -> None:
    for case, state in zip(cases, states, strict=True):
        if len(state.trees) == 3:
            wanted, after = leaves(case.geometry, case.expected), leaves(case.geometry, case.after)
            cells = [cell for strip in state.trees[2].strips for cell in strip.cells]
            shown = {(c.first, c.last - c.first) for c in cells if c.kind.startswith("leaf")}
            same = [c for c in cells if c.kind == "same"]
            assert wanted - after <= shown <= wanted
            for gfn, pages in wanted - shown:
                assert any(c.first <= gfn and gfn + pages <= c.last for c in same)
            assert not any(c.first <= gfn < c.last for c in same for gfn, _ in wanted ^ after)


def test_no_text_is_smaller_than_twelve_units(states: list[CaseState]) -> None:
    assert {case_svg(state, LIGHT).smallest for state in states} == {12}


@pytest.mark.slow
def test_a_marked_leaf_is_hatched_and_named(states: list[CaseState]) -> None:
    for state in states:
        picture = tree(case_svg(state, LIGHT, "ca"))
        for kind, word in (("crossing", "still cross"), ("split", "split needlessly: ")):
            cells = [cell for strip in state.trees[1].strips for cell in strip.cells if cell.kind == kind]
            boxes = [r for r in drawn(picture, "rect") if r.get("fill") == f"url(#ca-{kind})"]
            assert len(boxes) == (len(cells) + 1 if cells else 0), "one each, and the legend's"
            assert (word in case_words(state).caption) == bool(cells)


def test_one_frame_at_each_end_said_in_full() -> None:
    """By hand: 1 and 2 lie inside a leaf of 4, of which only the first half has to be split further."""
    calls = [PlannedCall(1, 2, 1), PlannedCall(2, 3, 1)]
    picture = CasePicture(case_of(TOY, (LEAF, HOLE), GfnRange(1, 2), calls))
    assert repr(picture) == (
        "Range [1, 2) of 8 frames: 2 calls, 3 splits. "
        "Safe, but not minimal: 3 splits where 2 splits do.\n"
        "before: [0, 4) leaf; [4, 8) not mapped\n"
        "calls: [1, 2) to level 1; [2, 3) to level 1\n"
        "after: [0, 2) 2 leaves; [2, 4) 2 leaves, needless; [4, 8) not mapped\n"
        "should be: [0, 2) as above; [2, 4) leaf; [4, 8) as above\n"
        "split needlessly: [2, 4)"
    )
    assert picture._repr_mimebundle_() == {
        "text/plain": repr(picture),
        "image/svg+xml": still(case_svg(picture.state, LIGHT)),
    }


def test_a_range_of_none_and_no_call() -> None:
    words = case_words(case_state(case_of(TOY, (LEAF, HOLE), GfnRange(1, 1), [])))
    assert words.answer == "Wrong: the leaf [0, 4) still holds both 0 and 1."
    assert words.title == "Range [1, 1) of 8 frames: 0 calls, 0 splits"
    exact = case_words(case_state(case_of(TOY, (LEAF, HOLE), GfnRange(0, 4), [])))
    assert (exact.answer, exact.role, exact.caption) == ("Exact: no split needed.", "good", "")


def test_two_leaves_that_cross_are_both_named() -> None:
    words = case_words(case_state(case_of(TOY, (LEAF, LEAF), GfnRange(1, 6), [])))
    assert words.answer == "Wrong: the leaf [0, 4) still holds both 0 and 1, and so does [4, 8)."
    assert words.caption == "still cross: [0, 4), [4, 8)"
    alone = case_words(case_state(case_of(TOY, (LEAF, LEAF), GfnRange(1, 4), [])))
    assert alone.caption == "still crosses: [0, 4)"


def test_a_range_is_not_torn_apart_by_the_end_of_a_line() -> None:
    state = case_state(case_of(TOY, (LEAF, HOLE), GfnRange(1, 1), []))
    for length in range(60, 118):
        answer = "x" * length + " [0, 4) and [4, 8) and [0x3ff, 0x401)."
        lines = texts(tree(case_svg(state, LIGHT, verdict=answer)))
        assert answer in " ".join(lines)
        assert not [line for line in lines if line.count("[") != line.count(")")]


# ---- places --------------------------------------------------------------------------------------------


def x_of(frame: int, frames: int) -> int:
    """The axis goes from 190 to 976."""
    return 190 + 786 * min(frame, frames) // frames


def test_every_entry_is_a_box_at_its_frames_below_the_name_of_its_tree(
    cases: list[ToyCase], states: list[CaseState]
) -> None:
    """Its fill follows from its size; it is hatched if it crosses or is needless."""
    for case, state in zip(cases[::3], states[::3], strict=True):
        picture, pages = tree(case_svg(state, LIGHT, "ca")), case.geometry.pages
        levels, frames = case.geometry.max_leaf_level, case.geometry.root_pages
        for name, shape in (("before", case.shape), ("after", case.after)):
            [label] = written(picture, name)
            expected = {}
            for gfn, size in leaves(case.geometry, shape):
                level = next(n for n in range(1, levels + 1) if pages(n) == size)
                crosses = any(gfn < edge < gfn + size for edge in (case.span.start, case.span.end))
                kind = "crossing" if name == "after" and crosses else f"leaf{level}"
                low, high = x_of(gfn, frames), x_of(gfn + size, frames)
                expected[low, int(label.get("y")) + 9 + 24 * (levels - level), high - low] = kind
            fills = {
                tuple(int(rect.get(name)) for name in ("x", "y", "width")): rect.get("fill")
                for rect in drawn(picture, "rect")
                if rect.get("stroke")
            }
            for place, kind in expected.items():
                needless = {"url(#ca-split)"} if name == "after" else set()
                own = LIGHT.get(kind, LIGHT["leaf3"]) if kind != "crossing" else "url(#ca-crossing)"
                assert fills[place] in {own, *needless}, (case, place, kind)


def bar(low: int, high: int, y: int, *, leaves: bool) -> str:
    """A line between ticks, or to an arrow where it leaves the machine."""
    arrow = f"M{high - 8} {y - 6} L{high} {y} L{high - 8} {y + 6}"
    end = arrow if leaves else f"M{high} {y - 6} V{y + 6}"
    return f"M{low} {y - 6} V{y + 6} M{low} {y} H{high} {end}"


@pytest.mark.slow
def test_the_range_and_the_calls_are_bars_at_their_frames_beside_their_texts(
    cases: list[ToyCase], states: list[CaseState]
) -> None:
    for case, state in zip(cases, states, strict=True):
        picture, frames = tree(case_svg(state, LIGHT)), case.geometry.root_pages
        named = [
            t for t in picture.iter(f"{SVG}text") if (t.get("x"), t.get("text-anchor")) == ("180", "end")
        ]
        [first] = [at for at, text in enumerate(named) if text.get("fill") == LIGHT["range"]]
        calls = case.calls if len(case.calls) <= 6 else case.calls[:5]
        spans = [(case.span.start, case.span.end, "range"), *((c.start, c.end, "ink") for c in calls)]
        for (start, end, role), text in zip(spans, named[first:], strict=False):
            assert text.text.startswith(f"[{start}, ")
            y, low, high = int(text.get("y")) - 4, x_of(start, frames), x_of(end, frames)
            if low == high:
                discs = [disc for disc in drawn(picture, "circle") if disc.get("cy") == f"{y}"]
                assert [(disc.get("cx"), disc.get("fill")) for disc in discs] == [(f"{low}", LIGHT[role])]
                continue
            d = bar(low, high, y, leaves=end > frames)
            assert [p.get("stroke") for p in drawn(picture, "path") if p.get("d") == d] == [LIGHT[role]]


@pytest.mark.slow
def test_the_edges_run_through_every_tree_and_are_named_at_their_places(states: list[CaseState]) -> None:
    """One dashed line goes through the first tree and the calls, one through each other tree."""
    for state in states:
        picture = tree(case_svg(state, LIGHT))
        dashed = [p.get("d") for p in drawn(picture, "path") if p.get("stroke-dasharray") == "4 3"]
        for edge in {state.start, state.end}:
            x = x_of(edge, state.frames)
            assert len([d for d in dashed if d.startswith(f"M{x} ")]) == len(state.trees)
            names = [t for t in written(picture, f"{edge}") if t.get("fill") == LIGHT["range"]]
            assert len(names) == 2, "above the first tree, below the last"
            assert all(abs(int(t.get("x")) - x) <= 20 for t in names)


LEGEND = {
    "still crosses an edge": "crossing",
    "made by a needless split": "split",
    "table": "table",
    "not mapped": "hole",
}


def test_the_swatches_of_the_legend_are_what_boxes_are_filled_with(states: list[CaseState]) -> None:
    for state in states[::5]:
        picture, words = tree(case_svg(state, LIGHT, "ca")), case_words(state)
        kinds = dict(LEGEND)
        for level in range(1, state.geometry.max_leaf_level + 1):
            pages = 1 << state.geometry.index_bits * (level - 1)
            kinds[f"leaf of {pages} frame{'s' * (pages > 1)}"] = f"leaf{min(level, 3)}"
        for _, name in words.legend:
            text = max(written(picture, name), key=lambda text: int(text.get("y")))
            assert beside(picture, text).get("fill") in (LIGHT[kinds[name]], f"url(#ca-{kinds[name]})")
