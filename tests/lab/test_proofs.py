"""Statements over every frame: what z3 says against every frame of a toy, the formulas against the engine."""

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from inspect import Parameter, signature
from itertools import combinations_with_replacement, product
from random import Random
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import z3

from tdpkit.engine.events import ENOMEM, run
from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, align_down, align_up
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tdp_mmu import iter_cross_boundary, tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, map_leaf, translate
from tdpkit.lab import proofs, statements, strategies
from tdpkit.lab.judge import forced_in, judge, run_strategy
from tdpkit.lab.proofs import STATEMENTS, Proof, ProofTable, Statement, prove, prove_all
from tdpkit.lab.search import UNIVERSES, search
from tdpkit.lab.shapes import leaves_of, plant, random_shape
from tdpkit.lab.spec import edges_of, forced_splits
from tdpkit.lab.statements import LEVELS, later_code, two_plain_calls
from tdpkit.lab.strategies import STRATEGIES, PlannedCall, blocks, edge_blocks, made
from tdpkit.lab.worlds import CountingWorld, Faults, FaultWorld
from tests.lab.test_search import EXACT
from tests.test_imports import FILES, imports

pytestmark = pytest.mark.slow

TOY = Geometry(index_bits=1, root_level=4, max_leaf_level=3)
"""16 frames; its "2M" is 2 frames and its "1G" is 4."""
LAST = (1 << 52) - 1

NAMES = pytest.mark.parametrize("name", STATEMENTS)


@cache
def table():
    return {row.statement.name: row for row in prove_all()}


@pytest.fixture
def toy(monkeypatch):
    """The same statements about a machine of 16 frames."""
    monkeypatch.setattr(statements, "GEOMETRY", TOY)
    monkeypatch.setattr(statements, "GFN_BITS", 4)
    return TOY


# ---- formulas without z3 -------------------------------------------------------------------------------


def fit(number: int) -> int:
    """`number`, which a 64-bit word holds whether it is read as signed or not: nothing has wrapped."""
    assert 0 <= number < 1 << 63
    return number


INFIX = {
    z3.Z3_OP_AND: "and",
    z3.Z3_OP_OR: "or",
    z3.Z3_OP_EQ: "==",
    z3.Z3_OP_DISTINCT: "!=",
    z3.Z3_OP_BAND: "&",
    z3.Z3_OP_SLEQ: "<=",
    z3.Z3_OP_SLT: "<",
    z3.Z3_OP_SGEQ: ">=",
    z3.Z3_OP_SGT: ">",
}


Known = dict[int, tuple[str, str]]
"""By the id of a formula's part: its name, and what it is."""


def in_python(term: z3.ExprRef, known: Known | None = None) -> str:
    """The formula as Python writes it, over integers that have no end; with `known`, as a part's name."""
    if known is not None and term.get_id() in known:
        return known[term.get_id()][0]
    kind, parts = term.decl().kind(), [in_python(part, known) for part in term.children()]
    if kind in INFIX:
        text = f"({f' {INFIX[kind]} '.join(parts)})"
    elif kind == z3.Z3_OP_BNUM:
        text = str(term.as_long())
    else:
        text = {
            z3.Z3_OP_TRUE: "True",
            z3.Z3_OP_FALSE: "False",
            z3.Z3_OP_UNINTERPRETED: str(term),
            z3.Z3_OP_NOT: "(not {})",
            z3.Z3_OP_IMPLIES: "(not {} or {})",
            z3.Z3_OP_ITE: "({1} if {0} else {2})",
            z3.Z3_OP_BADD: "fit({} + {})",
            z3.Z3_OP_BSUB: "fit({} - {})",
        }[kind].format(*parts)
    if known is None:
        return text
    known[term.get_id()] = f"part_{len(known)}", text
    return known[term.get_id()][0]


def function(term: z3.ExprRef, names: Iterable[str] = (), given: str = "True") -> Callable[..., Any]:
    """The formula as a function of its variables; None where what is `given` does not hold."""
    known: Known = {}
    answer = in_python(term, known)
    lines = [f"if not {given}: return None", *(f"{name} = {text}" for name, text in known.values())]
    made = {"fit": fit}
    exec("\n    ".join([f"def formula({', '.join(names)}):", *lines, f"return {answer}"]), made)
    return made["formula"]


def value_of(term: z3.ExprRef) -> int | bool:
    """What a formula without variables says."""
    return function(term)()


def vector(number: int) -> z3.BitVecRef:
    return z3.BitVecVal(number, 64)


def frames_of(statement: Statement) -> list[str]:
    return [name for name in statement.variables if name not in LEVELS]


def levels_of(statement: Statement) -> list[dict[str, int]]:
    names = [name for name in statement.variables if name in LEVELS]
    return [dict(zip(names, values, strict=True)) for values in product(*map(LEVELS.get, names))]


def claim_of(statement: Statement, levels: dict[str, int]) -> statements.Claim:
    return statement.claim(**levels, **{name: z3.BitVec(name, 64) for name in frames_of(statement)})


def smallest_by_trying(statement: Statement, numbers: list[int]) -> dict[str, int] | None:
    """The first of all combinations of `numbers` that contradicts the statement, by Python alone."""
    frames = frames_of(statement)
    for levels in levels_of(statement):
        claim = claim_of(statement, levels)
        holds = function(claim.then, frames, in_python(claim.given))
        size = statements.pages(levels["level"]) if "gfn" in frames else 1
        aligned = [number for number in numbers if number % size == 0]
        for values in product(*(aligned if name == "gfn" else numbers for name in frames)):
            if holds(*values) is False:
                return {**levels, **dict(zip(frames, values, strict=True))}
    return None


# ---- verdicts ------------------------------------------------------------------------------------------


@NAMES
def test_the_statement_is_proved(name):
    assert table()[name].proof == Proof(STATEMENTS[name], None)
    assert table()[name].proof.proved


SMALLEST = {
    # by hand: the 2M leaf after the one frame that the range has
    "only_edges": {"level": 2, "s": 0, "e": 1, "gfn": 0x200},
    # the range is just one leaf, and < says that it sticks out
    "patch_predicate": {"level": 2, "s": 0, "e": 0x200, "gfn": 0},
    # frame 1 rounded up to 0x200: the leaf at 0 is not looked at
    "one_block": {"level": 2, "x": 1, "gfn": 0},
    # [0, 1): e - 1 is 0, a multiple of anything
    "aligned_edge": {"level": 2, "e": 1, "gfn": 0},
    "unaligned_edge": {"level": 2, "x": 0},
    # both leaves lie in the first 1G, which the walk visits; it visits one of them
    "entry_above": {"level": 2, "s": 0, "e": 1, "gfn": 0x200},
    # the second 2M leaf of the 1G block goes with the first
    "block_2m": {"mapped": 2, "level": 2, "x": 1, "gfn": 0x200},
    "block_1g": {"mapped": 3, "level": 3, "x": 0, "gfn": 0},
    # the first edge inside a 1G leaf that no 2M block shows
    "two_steps": {"mapped": 3, "level": 3, "x": 0x200, "gfn": 0},
    "one_call": {"mapped": 2, "level": 2, "x": 0, "gfn": 0},
    # [0, 1) visits the leaf that begins at 0
    "empty_range": {"mapped": 2, "level": 2, "x": 0, "gfn": 0},
    "walk_v3": {"mapped": 2, "level": 2, "s": 0, "e": 0x200, "gfn": 0},
    # [1, 1G + 1) ends inside the first leaf of the second 1G
    "two_calls": {"mapped": 2, "level": 2, "s": 1, "e": 1, "gfn": 0x40000},
    # [last 1G, e) is all of the leaf
    "two_plain_calls": {"mapped": 2, "level": 2, "s": 0, "e": 0x200, "gfn": 0},
    # two edges in one leaf: whoever comes first splits it
    "any_order": {"mapped": 2, "level": 2, "s": 1, "e": 2, "gfn": 0},
    # head and tail share a block, and s being its first frame the head is not split
    "later_code": {"mapped": 2, "level": 2, "s": 0, "e": 1, "gfn": 0},
    "pages_for_edge": {"x": 1},
    # two for each edge if they are in different 1G blocks: one frame each way
    "pages_for_range": {"s": 1, "e": 0x40001},
    # the 1G block once, and a 2M block for each
    "pages_in_1g": {"s": 1, "e": 0x201},
    # both blocks of one edge; the other is a multiple of them
    "pages_in_2m": {"s": 0, "e": 1},
    "pages_without_1g": {"s": 1, "e": 0x201},
}


@NAMES
def test_its_broken_twin_is_refuted_by_the_smallest_case(name):
    assert table()[name].twin.counterexample == SMALLEST[name]
    assert not table()[name].twin.proved


def edge_cases() -> list[int]:
    """Frames at which something changes: around multiples of both sizes, and the last ones."""
    around = [0, 0x200, 0x400, 0x40000, 0x80000]
    near = {number + by for number in around for by in (0, 1)} | {2, 0x1FF, 0x3FFFF}
    return sorted(near | {LAST - 0x3FFFF, LAST - 0x1FF, LAST})


@NAMES
def test_no_edge_case_contradicts_a_statement_or_undercuts_its_twins_counterexample(name):
    """Plain integers: they would also show a sum that wraps."""
    assert smallest_by_trying(STATEMENTS[name], edge_cases()) is None
    assert smallest_by_trying(STATEMENTS[name].twin, edge_cases()) == SMALLEST[name]


@NAMES
def test_in_a_toy_z3_finds_what_trying_everything_finds(toy, name):
    for statement in (STATEMENTS[name], STATEMENTS[name].twin):
        assert prove(statement).counterexample == smallest_by_trying(statement, list(range(16)))
    assert prove(STATEMENTS[name]).proved
    assert not prove(STATEMENTS[name].twin).proved


def test_a_counterexample_has_python_integers_in_the_order_of_the_variables():
    for row in table().values():
        found = row.twin.counterexample
        assert tuple(found) == row.statement.variables
        assert {type(value) for value in found.values()} == {int}


@pytest.mark.parametrize("least", [0, 1, 0x1FF, 0x200, 0x40001, LAST - 1, LAST])
def test_the_smallest_counterexample_is_found_wherever_it_is(least):
    """From one bit to all of them, and in the second variable only after the first."""

    def claim(s, e):
        return statements.Claim(z3.BoolVal(True), z3.Not(z3.And(s >= least, e >= LAST - s)))

    found = prove(Statement("a", "b.", "c", claim)).counterexample
    assert found == {"s": least, "e": LAST - least}


def test_nothing_is_proved_by_an_answer_that_z3_did_not_give():
    solver = SimpleNamespace(check=lambda: z3.unknown, reason_unknown=lambda: "canceled")
    with pytest.raises(RuntimeError, match="z3 gave up: canceled"):
        proofs._satisfiable(solver)


# ---- nothing is said of nothing ------------------------------------------------------------------------


def can_be(levels: dict[str, int], term: z3.BoolRef) -> bool:
    solver = z3.Solver()
    names = {str(part): part for part in z3.z3util.get_vars(term)}
    solver.add(*proofs._domain(names, levels), term)
    return solver.check() == z3.sat


def speaks_of(statement: Statement, levels: dict[str, int]) -> bool:
    """There can be an entry to split at this level, where memory is mapped with `mapped`."""
    largest = 2 if statement.name == "later_code" else 3
    return levels.get("level", 2) <= levels.get("mapped", 3) <= largest


@NAMES
def test_what_is_given_can_be_and_what_follows_is_not_always_so(name):
    """A hypothesis that nothing meets proves anything; a conclusion that always holds needs no hypothesis."""
    statement = STATEMENTS[name]
    for levels in filter(partial(speaks_of, statement), levels_of(statement)):
        claim = claim_of(statement, levels)
        assert can_be(levels, claim.given)
        assert can_be(levels, z3.And(claim.given, claim.then))
        if statement.claim in (statements._only_block, statements._aligned_edge, statements._unaligned_edge):
            assert can_be(levels, z3.Not(claim.then))


SIDES = [name for name in STATEMENTS if {"mapped", "gfn"} <= {*STATEMENTS[name].variables}]


@pytest.mark.parametrize("name", SIDES)
def test_an_equality_is_met_both_by_splits_and_by_no_splits(name):
    """Calls that never split, compared with a spec that forces nothing, would be equal too."""
    statement = STATEMENTS[name]
    for levels in filter(partial(speaks_of, statement), levels_of(statement)):
        claim = claim_of(statement, levels)
        assert claim.then.decl().kind() == z3.Z3_OP_EQ
        for side in claim.then.children():
            assert can_be(levels, z3.And(claim.given, z3.Not(side)))
            # to 2M, no 2M leaf is split
            expected = name != "block_1g" or levels["level"] == 3
            assert can_be(levels, z3.And(claim.given, side)) is expected


@NAMES
def test_a_twin_differs_only_in_the_arguments_that_break_it(name):
    statement = STATEMENTS[name]
    bare, bound = statement.claim, {}
    if isinstance(bare, partial):
        bare, bound = bare.func, bare.keywords
    parameters = signature(bare).parameters.values()
    breakable = {one.name: one.default for one in parameters if one.kind is Parameter.KEYWORD_ONLY}
    assert statement.broken
    assert set(statement.broken) <= set(breakable)
    assert {key: {**breakable, **bound}[key] for key in statement.broken} != statement.broken
    twin = statement.twin
    assert (twin.claim.func, twin.claim.keywords) == (bare, {**bound, **statement.broken})
    assert twin.variables == statement.variables


def test_statements_are_told_apart_and_sourced():
    assert [statement.name for statement in STATEMENTS.values()] == [*STATEMENTS]
    for field in ("text", "twin_text"):
        assert len({(one.text, getattr(one, field)) for one in STATEMENTS.values()}) == len(STATEMENTS)
    for statement in STATEMENTS.values():
        assert statement.text.endswith(".")
        assert statement.source
        assert {*statement.variables} <= {*LEVELS, "x", "s", "e", "gfn"}


def with_other_blocks(monkeypatch, change):
    """Every plan that is made of blocks, changed where it is written."""

    def changed(geometry, x):
        return [change(call, x) for call in blocks(geometry, x)]

    for module in (strategies, statements):
        monkeypatch.setattr(module, "blocks", changed)


def with_blocks_of_double_size(monkeypatch):
    with_other_blocks(monkeypatch, lambda call, x: call._replace(end=call.end + (call.end - call.start)))


def with_blocks_that_begin_at_half_a_block(monkeypatch):
    def half(call, x):
        pages = X86_4LEVEL.pages(call.target_level + 1)
        start = x & -(pages // 2)
        return call._replace(start=start, end=start + pages)

    with_other_blocks(monkeypatch, half)


def with_a_walk_to_the_end_inclusive(monkeypatch):
    def visited(gfn, level, start, end):
        return z3.And(gfn <= end, gfn + statements.pages(level) > start)

    monkeypatch.setattr(statements, "visited", visited)


def with_edges_that_touch(monkeypatch):
    def crosses(gfn, level, x):
        return z3.And(gfn <= x, x < gfn + statements.pages(level))

    monkeypatch.setattr(statements, "crosses", crosses)


def with_a_filter_that_is_upside_down(monkeypatch):
    inside = statements.inside
    monkeypatch.setattr(statements, "inside", lambda *entry: z3.Not(inside(*entry)))


BLOCKS = {"block_2m", "block_1g", "two_steps", "one_call", "later_code"}
FILTERED = {"walk_v3", "two_calls"}
OTHERS = {*FILTERED, "empty_range", "two_plain_calls"}


@pytest.mark.parametrize(
    ("mutation", "refuted"),
    [
        (with_blocks_of_double_size, BLOCKS),
        (with_blocks_that_begin_at_half_a_block, BLOCKS),
        (with_a_walk_to_the_end_inclusive, {*BLOCKS, *OTHERS, "only_edges", "patch_predicate"}),
        # where x may be a multiple: every plan that does not look, and every count for a range in one block
        (
            with_edges_that_touch,
            {*OTHERS, "two_steps", "later_code", "aligned_edge", "patch_predicate"}
            | {"pages_in_1g", "pages_in_2m"},
        ),
        (with_a_filter_that_is_upside_down, {*FILTERED, "only_edges"}),
    ],
)
def test_a_change_in_a_formula_is_noticed_by_what_rests_on_it(monkeypatch, mutation, refuted):
    mutation(monkeypatch)
    assert {name for name, statement in STATEMENTS.items() if not prove(statement).proved} == refuted


# ---- the formulas against the machine ------------------------------------------------------------------


def concrete(calls: list[PlannedCall]) -> list[PlannedCall]:
    """The calls that are made, of calls about bit-vectors that stand for numbers."""
    return [
        PlannedCall(value_of(call.start), value_of(call.end), *call[2:4])
        for call in calls
        if call.when is True or z3.is_true(z3.simplify(call.when))
    ]


def an_edge(random: Random) -> int:
    """A frame, more often than not at or beside a multiple of 2M or 1G."""
    size = random.choice((1, 0x200, 0x40000))
    return max(0, random.randrange(1 << random.choice((4, 20, 40))) // size * size + random.randint(-1, 1))


def make(root: TdpMmuRoot, calls: list[PlannedCall]) -> list[set[tuple[int, int]]]:
    """(gfn, level) of what each call split."""
    found = []
    for call in calls:
        world = CountingWorld()
        start, end, target, filtered, _ = call
        coroutine = tdp_mmu_split_huge_pages_root(
            root, start, end, target, shared=False, only_cross_boundary=filtered
        )
        assert run(coroutine, world) == 0
        found.append({(gfn, level) for _, gfn, level in world.splits})
        assert len(found[-1]) == len(world.splits) == world.allocations
    return found


FORMULAS = sorted({*STRATEGIES} - {"merged_blocks"})
"""merged_blocks sorts its blocks, so it plans numbers only."""


@pytest.mark.parametrize("name", FORMULAS)
def test_a_plan_over_formulas_is_the_plan_over_numbers(name):
    """The arithmetic is one; that of 64-bit words and that of Python's integers might differ."""
    random, none = Random(1), 0
    for _ in range(200):
        s = random.choice((0, an_edge(random)))
        e = s + random.choice((0, 1, 0x1FF, 0x200, an_edge(random)))
        calls = STRATEGIES[name](X86_4LEVEL, GfnRange(s, e))
        assert concrete(STRATEGIES[name].plan(X86_4LEVEL, vector(s), vector(e))) == calls
        assert {call.when for call in calls} <= {True}
        none += not edge_blocks(s)
    assert 50 < none < 150


def test_the_later_code_s_conditions_are_one_block_per_edge_where_2m_is_the_largest():
    random, shared = Random(2), 0
    largest_2m = Geometry(index_bits=9, root_level=4, max_leaf_level=2)
    for _ in range(300):
        s = an_edge(random)
        e = s + random.choice((0, 1, 0x1FF, 0x200, an_edge(random)))
        later = made(later_code(X86_4LEVEL, s, e))
        assert later == STRATEGIES["one_block_per_edge"](largest_2m, GfnRange(s, e))
        shared += len(later) == 1
    assert shared > 50


@pytest.mark.parametrize("name", FORMULAS)
def test_for_every_range_the_plan_that_runs_is_exact_or_refuted_as_the_search_found(name):
    """The statements speak of one edge or of some plans; here each plan, shared blocks too, on all frames."""
    claim = partial(statements._range_exact, plan=STRATEGIES[name].plan)
    assert prove(Statement(name, "exact.", "test", claim)).proved == (name in EXACT)


def test_what_a_walk_visits_and_the_patch_picks_is_what_the_engine_visits_and_picks(toy):
    """Every range of the toy, the empty ones too, over memory that has every table."""
    root = TdpMmuRoot(PageTablePool(toy))
    for gfn in range(toy.root_pages):
        map_leaf(root, gfn, 1, gfn)
    entries = [(gfn, level) for level in (2, 3, 4) for gfn in range(0, 16, toy.pages(level))]
    for start in range(16):
        for end in range(start, 17):
            seen = {}

            class Watching(CountingWorld):
                def visit(self, event, seen=seen, span=(start, end)):
                    seen[event.iter.gfn, event.iter.level] = iter_cross_boundary(event.iter, *span)
                    return super().visit(event)

            run(tdp_mmu_split_huge_pages_root(root, start, end, 1, shared=False), Watching())
            span = vector(start), vector(end)
            expected = {
                (gfn, level): not value_of(statements.inside(vector(gfn), level, *span))
                for gfn, level in entries
                if value_of(statements.visited(vector(gfn), level, *span))
            }
            assert seen == expected


def test_rows_of_calls_split_what_the_engine_splits_call_by_call(toy):
    """Any calls in any order, on any mixture of leaves: more than the statements speak of."""
    random = Random(3)
    outcomes = {False: 0, True: 0}
    for _ in range(70):
        shape = random_shape(toy, random)
        calls = []
        for _ in range(random.randint(1, 3)):
            start = random.randrange(toy.root_pages)
            end = random.randint(start, random.choice((start, toy.root_pages)))
            calls.append(PlannedCall(start, end, random.choice((1, 1, 2)), random.random() < 0.3))
        splits = make(plant(toy, shape), calls)
        formulas = [PlannedCall(vector(call.start), vector(call.end), *call[2:]) for call in calls]
        for first, mapped in leaves_of(toy, shape):
            for level in range(2, mapped + 1):
                for gfn in range(first, first + toy.pages(mapped), toy.pages(level)):
                    said = statements.splits_by_call(formulas, mapped, level, vector(gfn))
                    for by_formula, by_engine in zip(said, splits, strict=True):
                        assert value_of(by_formula) == ((gfn, level) in by_engine)
                        outcomes[(gfn, level) in by_engine] += 1
    assert min(outcomes.values()) > 60


def test_what_is_forced_is_what_the_spec_forces(toy):
    for mapped in (2, 3):
        for s, e in combinations_with_replacement(range(17), 2):
            edges = edges_of(GfnRange(s, e))
            for leaf in range(0, 16, toy.pages(mapped)):
                forced = set(forced_splits(toy, leaf, mapped, edges))
                for level in range(2, mapped + 1):
                    for gfn in range(leaf, leaf + toy.pages(mapped), toy.pages(level)):
                        said = statements.forced([vector(s), vector(e)], mapped, level, vector(gfn))
                        assert value_of(said) == ((gfn, level) in forced)


def test_what_lies_below_the_leaf_that_was_mapped_is_all_there_is_to_split(toy):
    """The claims also ask about entries above it, which are tables."""
    call = PlannedCall(vector(0), vector(16), 1)
    assert not value_of(statements.splits([call], 2, 3, vector(0)))
    assert not value_of(statements.splits([call], 1, 2, vector(0)))
    assert not value_of(statements.forced([vector(1)], 1, 2, vector(0)))


def x86(*leaves: tuple[int, int]) -> TdpMmuRoot:
    """A plain VM with leaves (gfn, level)."""
    root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
    for gfn, level in leaves:
        map_leaf(root, gfn, level, gfn)
    return root


@pytest.mark.parametrize("largest", [2, 3])
def test_the_pages_counted_are_those_that_the_engine_asks_for(largest):
    """Ranges within a few GiB, mapped by leaves of one size around both edges."""
    random = Random(4)
    met = set()
    for _ in range(60):
        s = min(an_edge(random), 0xC0000)
        e = s + random.choice((0, 1, 0x200, 0x40000, random.randrange(0x40000)))
        pages = X86_4LEVEL.pages(largest)
        root = x86(*{(x // pages * pages, largest) for x in (s, e)})
        report = run_strategy(root, STRATEGIES["kai_two_step"], GfnRange(s, e))
        assert report.tables == value_of(statements.page_tables(vector(s), vector(e), largest))
        met.add(report.tables)
    assert met == set(range(2 * largest - 1))


# ---- the twins' counterexamples on the machine ---------------------------------------------------------


def plans_of(statement: Statement, s: int, e: int) -> tuple[list[PlannedCall], list[PlannedCall]]:
    """The calls that the statement speaks of, right and broken, for its counterexample's edges."""
    if statement.name == "block_1g":  # given that x is no multiple, which here it is
        return [], statements._one_block(3, 2)(X86_4LEVEL, s, e)
    plans = statement.claim.keywords["plan"], statement.broken["plan"]
    right, broken = (made(plan(X86_4LEVEL, s, e)) for plan in plans)
    return right, broken


@pytest.mark.parametrize("name", [name for name in SIDES if name != "any_order"])
def test_the_broken_calls_go_wrong_on_the_engine_too_and_the_right_ones_do_not(name):
    """The one leaf of the counterexample is mapped: it is split needlessly, or not split and crosses."""
    found = SMALLEST[name]
    edges = [found[x] for x in ("x", "s", "e") if x in found]
    leaf = X86_4LEVEL.gfn_round_for_level(found["gfn"], found["mapped"]), found["mapped"]
    span = GfnRange(edges[0], edges[-1])
    forced = set(forced_in(x86(leaf), span))
    right, broken = plans_of(STATEMENTS[name], edges[0], edges[-1])
    assert set().union(*make(x86(leaf), right)) == forced
    split = set().union(*make(x86(leaf), broken))
    assert (found["gfn"], found["level"]) in split ^ forced
    needless = {"two_steps": False, "later_code": False}.get(name, True)
    assert bool(split - forced) is needless


FAR = 0x40000

BY_NAME = {
    # statement about leaves: strategy that makes the same mistake, range
    "one_block": ("head_rounded_up", (1, FAR)),
    "aligned_edge": ("last_frame_as_edge", (0, 1)),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_strategy_that_makes_the_twins_mistake_is_judged_so(name):
    """Where the counterexample's leaf alone is mapped; x is the start of a range that ends at 1G."""
    strategy, ends = BY_NAME[name]
    found = SMALLEST[name]
    root, span = x86((found["gfn"], found["level"])), GfnRange(*ends)
    assert {found[x] for x in ("x", "s", "e") if x in found} <= edges_of(span)
    forced = forced_in(root, span)
    judgement = judge(run_strategy(root, STRATEGIES[strategy], span), span, forced)
    assert (judgement.verdict, judgement.needless) == ("wrong", 0)
    assert translate(root, found["gfn"]).level == found["level"], "whole, and the zap takes it"
    assert judgement.outside_frames > 0


def test_blocks_merged_across_levels_split_every_2m_leaf_of_the_1g_block():
    """S233: one 1G leaf, [0, 5 frames), 513 splits instead of 2. 512 of 2M: one instead of all."""
    root, span = x86((0, 3)), GfnRange(0, 5)
    report = run_strategy(root, STRATEGIES["merged_blocks"], span)
    assert report.splits == 513
    assert (SMALLEST["block_2m"]["gfn"], 2) in report.made
    assert make(x86((0, 3)), edge_blocks(5)) == [{(0, 3)}, {(0, 2)}]


def test_the_head_that_comes_first_splits_the_leaf_that_both_edges_share():
    found = SMALLEST["any_order"]
    head, tail = (edge_blocks(found[x]) for x in ("s", "e"))
    leaf = found["gfn"], found["mapped"]
    assert make(x86(leaf), [*head, *tail]) == [set(), {leaf}, set(), set()]
    assert make(x86(leaf), [*tail, *head]) == [set(), {leaf}, set(), set()]
    assert len(head) == len(tail) == 2


def plain_calls_to_2m(geometry: Geometry, span: GfnRange) -> list[PlannedCall]:
    size = geometry.pages(2)
    return [
        PlannedCall(span.start, align_up(span.start, size), 1),
        PlannedCall(align_down(span.end, size), span.end, 1),
    ]


def test_plain_calls_to_the_2m_ends_are_exact_in_a_whole_universe():
    """Ours, and in no thread: the proof is not the only witness. A 1G leaf that sticks out at the far end of
    such a call has the edge inside as well, so it is no needless split.
    """
    tally = search(UNIVERSES["three levels"], {"plain": plain_calls_to_2m})["plain"]
    assert (tally.cases, tally.exact) == (64_980, 64_980)
    random = Random(5)
    for _ in range(50):
        s, far = min(an_edge(random), 0xC0000), random.choice((0, 1, 0x200, 0x3FFFF))
        calls = two_plain_calls(X86_4LEVEL, s, s + far)
        assert calls == plain_calls_to_2m(X86_4LEVEL, GfnRange(s, s + far))
        for filtered in (False, True):
            root = x86(*{(x >> 18 << 18, 3) for x in (s, s + far)})
            forced = set(forced_in(root, GfnRange(s, s + far)))
            split = make(root, [call._replace(only_cross_boundary=filtered) for call in calls])
            assert set().union(*split) == forced


PAGES = {
    # statement: level that the memory is mapped with, pages that the counterexample takes
    "pages_for_edge": (3, 2),
    "pages_for_range": (3, 4),
    "pages_in_1g": (3, 3),
    "pages_in_2m": (3, 2),
    "pages_without_1g": (2, 2),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_that_suffice_are_all_used_and_one_less_is_too_few(name):
    level, pages = PAGES[name]
    found = SMALLEST[name]
    ends = [found[x] for x in ("x", "s", "e") if x in found]
    span, size = GfnRange(ends[0], ends[-1]), X86_4LEVEL.pages(level)
    leaves = {(x // size * size, level) for x in ends}
    assert run_strategy(x86(*leaves), STRATEGIES["walk_v3"], span).tables == pages
    root = x86(*leaves)
    scarce = FaultWorld(root, Faults(refuse_page=pages))
    report = run_strategy(root, STRATEGIES["walk_v3"], span, world=scarce)
    assert (report.errno, report.splits) == (-ENOMEM, pages - 1)
    assert judge(report, span, forced_in(x86(*leaves), span)).verdict == "wrong"
    assert STATEMENTS[name].broken == {"enough": pages - 1}


# ---- what is shown -------------------------------------------------------------------------------------


def test_the_table_names_statement_verdict_twin_and_its_smallest_counterexample():
    lines = repr(ProofTable(table().values())).splitlines()
    assert re.split(r"  +", lines[0]) == [
        "statement", "verdict", "its broken twin", "the twin's smallest counterexample",
    ]  # fmt: skip
    cells = [re.split(r"  +", line) for line in lines[2:]]
    assert [row[:3] for row in cells] == [
        [statement.name, "proved", statement.twin_text] for statement in STATEMENTS.values()
    ]
    by_name = {row[0]: row[3] for row in cells}
    assert by_name["only_edges"] == "2M at 0x200 (2M), s 0x0 (0), e 0x1 (4K)"
    assert by_name["two_steps"] == "1G at 0x0 (0), x 0x200 (2M)"
    assert by_name["unaligned_edge"] == "2M, x 0x0 (0)"
    assert by_name["pages_for_range"] == "s 0x1 (4K), e 0x40001 (1G+4K)"
    assert max(map(len, lines)) <= 110
    assert "".join(lines).isascii()


def test_the_table_is_the_same_every_time():
    assert repr(prove_all()) == repr(ProofTable(table().values()))


def test_a_proof_says_its_statement_and_its_verdict():
    row = table()["two_steps"]
    assert repr(row.proof) == f"two_steps: {STATEMENTS['two_steps'].text} Proved."
    assert repr(row.twin) == (
        f"two_steps, broken: {STATEMENTS['two_steps'].text} Broken: the 2M step alone. "
        "Refuted by 1G at 0x0 (0), x 0x200 (2M)."
    )
    entry = row.twin._replace(counterexample={"mapped": 3, "level": 2, "x": 1, "gfn": 0x200})
    assert entry.answer == "2M at 0x200 (2M) of a 1G leaf, x 0x1 (4K)"


def test_z3_is_imported_by_the_proofs_alone():
    """A browser's Python has none, and everything else runs there.

    Two experiments of the claims ask for a proof when they run; tests/test_imports.py loads all of them
    without z3.
    """
    those = {file.stem for file in FILES if "z3" in {name.split(".")[0] for name in imports(file)}}
    assert those == {"statements", "proofs"}
    ours = {f"tdpkit.lab.{stem}" for stem in those}
    others = [file for file in FILES if file.stem not in those and file.parent.name != "claims"]
    assert not any(name.startswith(tuple(ours)) for file in others for name in imports(file))


def test_a_page_shows_each_statement_in_full():
    """Well formed, a row each, and what is proved stands in its own words."""
    shown = ElementTree.fromstring(ProofTable(table().values())._repr_html_())
    head, *rows = [[cell.text for cell in row] for row in shown.iter("tr")]
    assert head == ["statement", "verdict", "its broken twin", "the twin's smallest counterexample"]
    assert len(rows) == len(STATEMENTS)
    for (statement, verdict, twin, counterexample), row in zip(rows, table().values(), strict=True):
        assert statement == f"{row.statement.name}: {row.statement.text}"
        assert (verdict, twin) == ("proved", row.statement.twin_text)
        assert counterexample == row.twin.answer != "proved"
