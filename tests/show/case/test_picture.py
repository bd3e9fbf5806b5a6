"""The picture of one case: true to its trees, and held to what every picture of the kit is held to."""

from __future__ import annotations

from random import Random

import pytest

from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.exercises.verdict import Verdict
from tdpkit.lab.search import SAMPLED, UNIVERSES, ToyTree, sample, search
from tdpkit.lab.search import ToyCase as Case
from tdpkit.lab.shapes import HOLE, LEAF, Shape, random_shape, tables_of
from tdpkit.lab.spec import edges_of, split_as_forced
from tdpkit.lab.strategies import STRATEGIES, plan_of
from tdpkit.lab.strategies import PlannedCall as Call
from tdpkit.show.case import CasePicture
from tdpkit.show.case.picture import case_svg, case_text
from tdpkit.show.case.state import CaseState, case_state
from tdpkit.show.theme import DARK, LIGHT, LIVE
from tests.oracles.svgs import (
    check_alone,
    check_form,
    check_ids,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    check_themes,
    check_whole_numbers,
    drawn,
    ids_of,
    printed_whatever_the_hash_seed,
    texts,
    tree,
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


def case_of(geometry: Geometry, shape: Shape, span: GfnRange, calls: list[Call]) -> Case:
    """`calls` made on the engine."""
    made, visits, splits = shape, 0, 0
    for call in calls:
        made, visited, split = ToyTree(geometry, made).tried(call)
        visits, splits = visits + visited, splits + split
    expected = split_as_forced(geometry, shape, edges_of(span))
    forced = tables_of(expected) - tables_of(shape)
    return Case(geometry, shape, span, tuple(calls), "", splits, forced, visits, made, expected)


def any_calls(random: Random, frames: int, root_level: int) -> list[Call]:
    """Up to ten calls, empty ones too, and some that reach beyond the machine."""
    calls = []
    for _ in range(random.choice((0, 1, 2, 4, 5, 10))):
        start, end = sorted(random.choices(range(frames + 1), k=2))
        start = min(start, frames - 1)
        end = max(start, end) * random.choice((1, 1, 1, 3))
        calls.append(Call(start, end, random.randrange(1, root_level), random.random() < 0.3))
    return calls


@pytest.fixture(scope="module")
def cases() -> list[Case]:
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
    for calls in ([], [Call(0, 100, 1)], [Call(0, 0, 1), Call(7, 7, 1)], [Call(5, 10**12, 1, True)] * 4):
        found.append(case_of(TOY, (LEAF, LEAF), GfnRange(3, 3), calls))
        found.append(case_of(TOY, (LEAF, HOLE), GfnRange(8, 8), calls))
    return found


@pytest.fixture(scope="module")
def states(cases: list[Case]) -> list[CaseState]:
    return [case_state(case) for case in cases]


# ---- what every picture is held to ---------------------------------------------------------------------


def test_every_picture_keeps_the_house_rules(states: list[CaseState]) -> None:
    for state in states:
        svg = case_svg(state, LIGHT, "ca-7")
        picture = tree(svg)
        check_form(picture, state.title, state.answer)
        check_whole_numbers(picture)
        check_inside(picture, state)
        check_texts_apart(picture, state)
        check_lines_apart(picture, state)
        check_ids(svg, "ca-7")
        check_alone(svg)


def test_so_does_one_with_a_verdicts_words_in_place_of_its_own(states: list[CaseState]) -> None:
    for words in ("No.", "a word " * 120, "[0x20000001 (2T+4K), 0xe0000001 (14T+4K)), " * 12):
        for state in states[::7]:
            verdict = Verdict(False, words.strip(), state)
            svg = verdict._repr_mimebundle_()["image/svg+xml"]
            picture = tree(svg)
            check_form(picture, state.title, repr(verdict))
            check_inside(picture, state)
            check_texts_apart(picture, state)
            check_lines_apart(picture, state)
            assert repr(verdict) in " ".join(texts(picture))
            assert state.answer not in texts(picture)


def test_the_themes_differ_in_colours_alone(states: list[CaseState]) -> None:
    for state in states:
        check_themes(*(case_svg(state, palette) for palette in (LIGHT, DARK, LIVE)))


def test_two_pictures_on_one_page_share_no_id_though_nobody_named_them(states: list[CaseState]) -> None:
    different = list({case_text(state): case_svg(state, LIGHT) for state in states}.values())
    ids = ids_of(different)
    assert sum(map(len, ids)) == len(set().union(*ids))


PRINT_SOME = """
import json
from tdpkit.lab.search import UNIVERSES, sample
from tdpkit.lab.strategies import STRATEGIES
from tdpkit.show.case import CasePicture
found = sample(UNIVERSES["three levels"].geometry, STRATEGIES, 100).values()
print(json.dumps([CasePicture(tally.smallest)._repr_mimebundle_() for tally in found if tally.smallest]))
"""


def test_it_is_the_same_whatever_the_hash_seed() -> None:
    assert len(printed_whatever_the_hash_seed(PRINT_SOME)) >= 5


# ---- what it says --------------------------------------------------------------------------------------


def test_every_word_of_the_state_is_in_the_picture_and_in_the_text(states: list[CaseState]) -> None:
    for state in states:
        written, said = texts(tree(case_svg(state, LIGHT))), case_text(state)
        assert said.startswith(f"{state.title}. {state.answer}\n")
        for needed in (state.title, state.range_text, *(name for _, name in state.legend)):
            assert needed in written
        assert state.answer in " ".join(written)
        assert state.caption in (*written, "")
        assert state.caption in said
        for call in state.calls:
            assert call.text in said
        for call in state.calls[:5]:
            assert call.text in written
            assert call.note in (*written, "")
        if len(state.calls) > 6:
            assert f"and {len(state.calls) - 5} more calls" in written
        if not state.calls:
            assert "no call" in written
            assert "calls: none" in said


def test_every_leaf_is_a_box_of_its_frames_at_its_level(cases: list[Case], states: list[CaseState]) -> None:
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


def test_what_is_wrong_is_marked_and_nothing_else(cases: list[Case], states: list[CaseState]) -> None:
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
        assert bool(state.caption) == bool(crossing or too_small) == (case.after != case.expected)
        assert len(state.trees) == 2 + bool(state.caption)
        verdict = "Wrong: " if crossing else "Safe, but " if too_small else "Exact: "
        assert state.answer.startswith(verdict)
        assert state.role == ("bad" if crossing or too_small else "good")


def test_what_should_have_been_is_drawn_where_it_is_another(
    cases: list[Case], states: list[CaseState]
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


def test_a_marked_leaf_is_hatched_and_named(states: list[CaseState]) -> None:
    for state in states:
        picture = tree(case_svg(state, LIGHT, "ca"))
        for kind, word in (("crossing", "still crosses: "), ("split", "split needlessly: ")):
            cells = [cell for strip in state.trees[1].strips for cell in strip.cells if cell.kind == kind]
            boxes = [r for r in drawn(picture, "rect") if r.get("fill") == f"url(#ca-{kind})"]
            assert len(boxes) == (len(cells) + 1 if cells else 0), "one each, and the legend's"
            assert (word in state.caption) == bool(cells)


def test_one_frame_at_each_end_said_in_full() -> None:
    """By hand: 1 and 2 lie inside a leaf of 4, of which only the first half has to be split further."""
    calls = [Call(1, 2, 1), Call(2, 3, 1)]
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
        "image/svg+xml": case_svg(picture.state, LIGHT),
    }


def test_a_range_of_none_and_no_call() -> None:
    state = case_state(case_of(TOY, (LEAF, HOLE), GfnRange(1, 1), []))
    assert state.answer == "Wrong: the leaf [0, 4) still holds both 0 and 1."
    assert state.title == "Range [1, 1) of 8 frames: 0 calls, 0 splits"
    exact = case_state(case_of(TOY, (LEAF, HOLE), GfnRange(0, 4), []))
    assert (exact.answer, exact.role, exact.caption) == ("Exact: no split needed.", "good", "")


def test_two_leaves_that_cross_are_both_named() -> None:
    state = case_state(case_of(TOY, (LEAF, LEAF), GfnRange(1, 6), []))
    assert state.answer == "Wrong: the leaf [0, 4) still holds both 0 and 1, and so does [4, 8)."
    assert state.caption == "still crosses: [0, 4), [4, 8)"


def test_a_range_is_not_torn_apart_by_the_end_of_a_line() -> None:
    state = case_state(case_of(TOY, (LEAF, HOLE), GfnRange(1, 1), []))
    for length in range(60, 118):
        answer = "x" * length + " [0, 4) and [4, 8) and [0x3ff, 0x401)."
        lines = texts(tree(case_svg(state._replace(answer=answer), LIGHT)))
        assert answer in " ".join(lines)
        assert not [line for line in lines if line.count("[") != line.count(")")]
