"""The rows of one call: right variants pass, and each planted bug is found in the row where it should be."""

from __future__ import annotations
import __future__

import inspect

import pytest

from tdpkit.engine.events import Trace, Visit
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.lab.schedules.bodies import passed_on
from tdpkit.lab.shapes import HOLE, LEAF, Shape
from tdpkit.lab.strategies import PlannedCall
from tdpkit.lab.trial import PLANTED, Variant, known, trial
from tdpkit.lab.trial.known import PLANS, variant_named
from tdpkit.lab.trial.questions import SPANS
from tdpkit.lab.trial.toys import UNIVERSE, Place, ToyTd, in_words
from tdpkit.lab.trial.variant import PLAN

ONE_CALL = (
    "rules", "exact, 2M leaves", "exact, 1G leaves too", "translations", "empty range", "end beyond the root",
    "4 and 5 levels", "no memory", "reschedules", "roots", "pages",
)  # fmt: skip
EXACT = ("exact, 2M leaves", "exact, 1G leaves too")
RIGHT = ("v3", "walk_v3", "two_calls", "kai_two_step", "one_block_per_edge", "empty_range", "head_and_tail")
"""Exact by the spec, by search and by proof (S233); head_and_tail repeats calls and splits nothing twice."""
FOUND = {
    "v3 as posted": {"no memory"},
    "no split": {"exact, 2M leaves", "4 and 5 levels", "end beyond the root", "roots"},
    "wrong root": {"exact, 2M leaves", "4 and 5 levels", "end beyond the root", "roots"},
    "forgotten put": {"no memory", "roots"},
    "no progress": {"reschedules"},
    "plain_split": {*EXACT, "4 and 5 levels", "pages"},
    "two_calls_unfiltered": {*EXACT, "4 and 5 levels", "pages"},
    "merged_blocks": {"exact, 1G leaves too", "pages"},
    "head_rounded_up": {*EXACT, "4 and 5 levels"},
    "one_frame_each": {*EXACT, "4 and 5 levels", "pages"},
    "last_frame_as_edge": {*EXACT, "4 and 5 levels"},
    "one_2m_pass": {"exact, 1G leaves too"},
}
"""Each wrong or wasteful variant, and the rows that must find it: by what it does wrong, not by a run."""


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_variant_fails_no_row(name: str) -> None:
    assert trial(name, ONE_CALL).fails == ()


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("name", FOUND)
def test_a_bug_is_found_in_the_rows_where_it_should_be(name: str) -> None:
    assert {*trial(name, ONE_CALL).fails} >= FOUND[name]


def test_every_planted_bug_and_every_strategy_is_expected_somewhere() -> None:
    from tests.lab.trial.test_threads import FOUND as FOUND_BY_THREADS

    assert {*FOUND, *FOUND_BY_THREADS} >= {*PLANTED}
    assert {*FOUND, *RIGHT} >= {*PLANS}


@pytest.mark.usefixtures("few_trees")
def test_the_later_code_is_right_where_leaves_are_2m_and_1g_is_a_what_if() -> None:
    """S141: for 2M leaves; 1G is a TODO there, and no TD of the series maps one (S3)."""
    tried = trial("R2", ONE_CALL)
    assert tried.fails == ()
    assert tried["exact, 2M leaves"].verdict == "holds"
    assert tried["exact, 1G leaves too"].verdict == "note"
    assert "what-if" in tried["exact, 1G leaves too"].found
    assert tried["end beyond the root"].verdict == "note"


@pytest.mark.usefixtures("few_trees")
def test_the_planted_walk_with_its_one_line_mended_passes() -> None:
    """CONTRIBUTING.md's recipe: copy it, and mend it."""
    source = inspect.getsource(known.no_progress)
    bug = "if (yield visit):"
    assert source.count(bug) == 1
    mended = source.replace(bug, "if (yield visit) and it.next_last_level_gfn != it.yielded_gfn:")
    space = dict(vars(known))
    exec(compile(mended, "mended", "exec", flags=__future__.annotations.compiler_flag), space)
    assert trial(space["no_progress"], (*ONE_CALL, "write lock", "read lock")).fails == ()


@pytest.mark.slow
def test_all_cases_are_tried() -> None:
    """A leaf of four frames, or a table of two entries of six kinds (a hole, a leaf of two, and a table of
    two entries, each a hole or a leaf), or a hole: 38 entries, 37 without the large leaf.
    """
    tried = trial("v3", (*EXACT, "translations", "empty range"))
    assert tried.fails == ()
    trees, without_large, ranges, empty = 38**2, 37**2, 36, 8
    counted = {
        "exact, 2M leaves": without_large * ranges,
        "exact, 1G leaves too": (trees - without_large) * ranges,
        "empty range": trees * empty,
    }
    for question, number in counted.items():
        assert tried[question].tried.replace(" ", "") == f"{number}cases"


@pytest.mark.slow
def test_the_smallest_counterexample_is_the_one_found_by_hand() -> None:
    """The edge e - 1 = 0 is a multiple of everything, so the leaf [0, 2) stays across the end of [0, 1)."""
    tried = trial("last_frame_as_edge", ("exact, 2M leaves",))
    case = tried.case
    assert case is not None
    assert (case.shape, case.span) == (((LEAF, HOLE), HOLE), GfnRange(0, 1))
    assert case.verdict == "wrong"
    assert case.after == case.shape
    assert (
        "frames [0, 1) of a toy, leaf [0, 2): a leaf still crosses an edge" in tried["exact, 2M leaves"].found
    )


@pytest.mark.usefixtures("few_trees")
def test_a_needless_split_is_told_with_its_number() -> None:
    def down_to_4k(geometry: object, s: int, e: int) -> list[PlannedCall]:
        return [PlannedCall(0, 8, 1)]

    tried = trial(down_to_4k, EXACT)
    assert tried.fails == EXACT
    assert "0 wrong" in tried["exact, 2M leaves"].found
    assert "1 split where 0 would do" in tried["exact, 2M leaves"].found


@pytest.mark.usefixtures("few_trees")
def test_a_needless_split_that_no_trace_tells_of_is_counted_too() -> None:
    """A leaf inside the range is split for nothing: [0, 2) of the toy; on x86 the second of two leaves."""

    def untraced(root, start, end, target_level, *, shared, only_cross_boundary):
        def each(event):
            return None if isinstance(event, Trace | Visit) else (yield event)

        return passed_on(tdp_mmu_split_huge_pages_root(root, start, end, target_level, shared=shared), each)

    tried = trial(untraced, (*EXACT, "4 and 5 levels"))
    assert tried.fails == (*EXACT, "4 and 5 levels")
    for question, words in {
        "exact, 2M leaves": "1 split where 0 would do",
        "4 and 5 levels": "4 levels, [2G+1021M+1020K, 3G): 2 splits where 1 would do",
    }.items():
        assert words in tried[question].found


def forced(entry: Shape, first: int, pages: int, edges: tuple[int, int]) -> Shape:
    """The leaf is cut in two as long as an edge lies strictly inside: by intervals, without the spec."""
    if isinstance(entry, str):
        if entry == HOLE or not any(first < x < first + pages for x in edges):
            return entry
        entry = (LEAF, LEAF)
    half = pages // 2
    return tuple(forced(part, first + at * half, half, edges) for at, part in enumerate(entry))


def test_a_tree_of_the_toy_is_what_brute_force_makes_of_it() -> None:
    """The toys against trees that were never planted: v3 leaves the forced closure, frame by frame."""
    variant = variant_named("v3")
    for number, shape in enumerate(UNIVERSE.shapes()):
        if number % 97 == 0:
            toy = ToyTd(shape)
            for span in SPANS[::5]:
                assert toy.tried(variant, span).after == forced(shape, 0, 8, (span.start, span.end))


def test_a_toy_is_as_it_was_after_each_call() -> None:
    toy, span = ToyTd((LEAF, LEAF)), GfnRange(1, 7)
    before = toy.tree()
    first = toy.tried(variant_named("v3"), span)
    assert toy.tree() == before == (LEAF, LEAF)
    assert toy.tried(variant_named("v3"), span) == first
    assert toy.lost_tables() == 0


def test_places_are_written_for_a_reader() -> None:
    place = Place((LEAF, ((LEAF, HOLE), LEAF)), GfnRange(2, 5))
    assert str(place) == "frames [2, 5) of a toy, leaves [0, 4), 4 and [6, 8)"
    assert in_words((HOLE, HOLE)) == "an empty tree"


def test_bits_that_a_child_loses_are_found() -> None:
    """A split that makes every child dirty again, as one that builds entries anew would."""

    def dirty_again(root, start, end, target_level, *, shared, only_cross_boundary):
        ret = yield from tdp_mmu_split_huge_pages_root(
            root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
        )
        for row, level, _ in root.pool.pages():
            table = root.pool.table(row)
            for index, spte in enumerate(table):
                if spte >> 11 & 1 and (level == 1 or spte >> 7 & 1):
                    table[index] = spte | 1 << 9
        return ret

    from tdpkit.lab.trial.answers import Bench, Failed
    from tdpkit.lab.trial.questions import translations
    from tdpkit.lab.trial.variant import ROOT

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Bench, "all_trees", trial_of_nothing())
        with pytest.raises(Failed, match=r"not dirty: the entry of frame 0 is 0x\w+; it should be 0x\w+"):
            translations(Bench(Variant("dirty again", ROOT, dirty_again)))


def trial_of_nothing():
    from tdpkit.lab.search import Tally
    from tdpkit.lab.trial.answers import AllTrees

    nothing = Tally(0, 0, 0, 0, 0, None)
    return AllTrees(nothing, nothing, ())


@pytest.mark.usefixtures("few_trees")
def test_a_frame_that_goes_elsewhere_is_found() -> None:
    """A split whose second child is mapped where the first one is."""

    def swapped(root, start, end, target_level, *, shared, only_cross_boundary):
        ret = yield from tdp_mmu_split_huge_pages_root(
            root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
        )
        for row, level, _ in root.pool.pages():
            if level == 1:
                root.pool.table(row)[1] = root.pool.table(row)[0]
        return ret

    answer = trial(swapped, ("translations",))["translations"]
    assert answer.verdict == "fails"
    assert "other frames are mapped than before" in answer.found or "no entry of a toy" in answer.found


def test_a_page_that_is_lost_and_one_that_is_asked_for_in_vain_are_found() -> None:
    def lossy(root, start, end, target_level, *, shared, only_cross_boundary):
        from tdpkit.engine.events import AllocTable, Lock, Unlock

        yield Unlock(shared, "alloc")
        page = yield AllocTable(root.pool, root.is_mirror)
        yield Lock(shared)
        if page is None:
            return -12
        return (
            yield from tdp_mmu_split_huge_pages_root(
                root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
            )
        )

    tried = trial(lossy, ("no memory", "pages"))
    assert "1 page table in no tree and not freed" in tried["no memory"].found
    assert "3 pages, and the edges need 2" in tried["pages"].found


def test_a_refusal_that_is_swallowed_is_found() -> None:
    def void(root, start, end, target_level, *, shared, only_cross_boundary):
        yield from tdp_mmu_split_huge_pages_root(
            root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
        )
        return 0

    assert "it returned 0 and did not split all" in trial(void, ("no memory",))["no memory"].found


@pytest.mark.parametrize("plan", ["3", None, [1], [(0, 8, 1)]], ids=range(4))
def test_what_is_no_plan_breaks_the_rules(plan: object) -> None:
    tried = trial(Variant("odd", PLAN, lambda geometry, s, e: plan))
    assert tried.fails == ("rules",)
    assert "which is no list of PlannedCall" in tried["rules"].found
