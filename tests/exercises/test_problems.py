"""Problems without end: each is solved a second way, and its check lets through the right answer alone.

50 seeds of each kind and level; TDPKIT_SOAK makes that 1 000.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.exercises.problems import KINDS, LEVELS, Problem
from tests.exercises.problems import answered_in_words
from tests.oracles.junk import JUNK, spoiled
from tests.oracles.problems import SOLVERS, frames, history, leaves

SEEDS = range(1000 if os.environ.get("TDPKIT_SOAK") else 50)
EACH_KIND = pytest.mark.parametrize("kind", SOLVERS)
EACH_LEVEL = pytest.mark.parametrize("level", LEVELS)


def problems(kind: str, level: int) -> Iterator[Problem]:
    return (Problem(kind, seed, level) for seed in SEEDS)


def as_numbers(problem: Problem, answer: Any) -> Any:
    """Only entries and names of roots are text that is no address."""
    return answer if problem.kind in ("decode an entry", "root types") else frames(answer)


# ---- the answer --------------------------------------------------------------------------------------------


def test_every_kind_is_solved_here() -> None:
    assert [*SOLVERS] == [*KINDS]


@EACH_LEVEL
@EACH_KIND
def test_the_answer_is_the_one_that_another_way_finds(kind: str, level: int) -> None:
    for problem in problems(kind, level):
        solved = SOLVERS[kind](problem.given)
        right = as_numbers(problem, problem.right)
        assert (sorted(right) if kind == "root types" else right) == solved, problem


@EACH_LEVEL
@EACH_KIND
def test_the_right_answer_passes_and_ends_the_solution(kind: str, level: int) -> None:
    for problem in problems(kind, level):
        verdict = problem.check(problem.right)
        assert verdict.right is True, (problem, verdict)
        assert len(verdict.text) < 500
        assert verdict.text.endswith(".")
        assert problem.solution.endswith(f"**Answer:** `{problem.right!r}`")
        assert problem.question.endswith(f"**Answer:** {problem.form}")


# ---- wrong answers -----------------------------------------------------------------------------------------

Misses = Iterator[tuple[Any, str]]
"""A wrong answer, and a pattern of words that its verdict must have."""


def _near_address(problem: Problem) -> Misses:
    right = problem.right
    yield [*right[:-1], right[-1] ^ 1], "lead to .*, not to"
    yield [right[0] ^ 1, *right[1:]], "lead to|mirror root"
    if right != right[::-1]:
        yield right[::-1], "lead to|mirror root|shared bit"
    half = 256 if problem.given.geometry.root_level == 4 else 8  # S8: bit 47, bit 51
    if problem.given.half == "shared":
        yield [right[0] - half, *right[1:]], "the shared bit is missing"
    elif problem.given.half == "private":
        yield [right[0] + half, *right[1:]], "have the shared bit"


def _near_entry(problem: Problem) -> Misses:
    if problem.given.index is not None:
        value = int(problem.right, 16)
        yield value ^ 1 << 7, "^bit 7 is"
        yield value ^ 1 << 2, "^bit 2 is"
        yield hex(value + (1 << 12)), "^bits 51:12 are"
        return
    kind, frame, rights = problem.right
    yield ["table" if kind != "table" else "leaf", frame, rights], "is no (table|leaf) entry: "
    yield [kind, 7 if frame is None else int(frame, 16) * 512, rights], "^bits 51:12 are 0x"
    yield [kind, frame, rights.replace("W", "") if "W" in rights else rights + "W"], "^bit 1, W, is [01]"


def _near_crossing(problem: Problem) -> Misses:
    right = problem.right
    for left_out in right:
        rest = [gfn for gfn in right if gfn != left_out]
        yield rest, "holds frames .* on both sides of the edge .*, and you left it out"
    others = [first for first, _ in leaves(problem.given.layout) if first not in frames(right)]
    if others:
        yield [*right, others[0]], "has no edge inside"
    if huge := [first + 1 for first, size in leaves(problem.given.layout) if size > 1]:
        yield [*right, huge[0]], "no leaf begins at .*: it lies inside"
    yield [*right, problem.given.layout.frames], "nothing is mapped at"


def _near_visits(problem: Problem) -> Misses:
    right = problem.right
    yield right[:-1], f"visit {len(right)}: your list ends, but the .* comes: "
    yield [*right, right[-1]], f"visit {len(right) + 1}: you said .*, but the call is over: "
    yield [right[-1], *right[1:]] if right[0] != right[-1] else right[1:], "visit [12]: "
    once = [*dict.fromkeys(right)]
    if once != right:
        yield once, "visit .*: "


def _near_blocks(problem: Problem) -> Misses:
    right, geometry = problem.right, problem.given.geometry
    for left_out in right:
        rest = [block for block in right if block != left_out]
        yield rest, "holds .* on both sides of the edge .*, and you left it whole"
    largest = 2 ** (geometry.index_bits * (geometry.max_leaf_level - 1))
    far = max(problem.given.edges) // largest * largest + largest
    yield [*right, (far, far + largest)], "has no edge inside"
    yield [*right, (far, far + 3)], "no leaf has the size"
    yield [*right, (far + 1, far + 1 + largest)], "no leaf lies at"
    yield [*right, (far, far + 1)], "the smallest size"


def _near_roots(problem: Problem) -> Misses:
    known = [root.name for root in problem.given.roots]
    for name in known:
        other = [*{*problem.right} ^ {name}]
        yield other, rf"{name} is (an?|gone).*(left it out|keeps it out|any more)\."


def _near_pages(problem: Problem) -> Misses:
    tables, external, pamt = problem.right
    yield (tables + 1, external, pamt), "page tables: .* is too many: one for each split: "
    if tables:
        yield (tables - 1, external, pamt), "page tables: .* is too few: one for each split: "
    yield (tables, external + 1, pamt), "S-EPT pages: .* is too many: "
    yield (tables, external, pamt + 2), "PAMT pages: .* is too many: "
    if pamt:
        yield (
            (tables, external, pamt - 2),
            "PAMT pages: .* is too few: .* pairs? for .*; a pair is two pages",
        )


def _near_schedule(problem: Problem) -> Misses:
    right, count = problem.right, len(problem.given.schedule.split())
    if right:
        yield 0, f"step {right}: . returned"
    else:
        yield count, f"step {count} breaks nothing: . returns"
    yield 1, "step 1 breaks nothing: . takes mmu_lock for .*, and only a return can break the rule"
    if right < count:
        yield right + 1, rf"step {right}: . returned|step {right + 1} breaks nothing"


NEAR: dict[str, Callable[[Problem], Misses]] = {
    "decode an address": _near_address,
    "decode an entry": _near_entry,
    "which leaves cross": _near_crossing,
    "order of visits": _near_visits,
    "blocks of an edge": _near_blocks,
    "root types": _near_roots,
    "pages for a split": _near_pages,
    "is this schedule safe": _near_schedule,
}


@EACH_LEVEL
@EACH_KIND
def test_a_near_miss_meets_a_counterexample(kind: str, level: int) -> None:
    for problem in problems(kind, level):
        for wrong, words in NEAR[kind](problem):
            verdict = problem.check(wrong)
            assert verdict.right is False, (problem, wrong)
            assert re.search(words, verdict.text), (problem, wrong, verdict)
            assert answered_in_words(verdict, draw=False)


@EACH_KIND
def test_what_is_drawn_says_it_too(kind: str) -> None:
    for level in LEVELS:
        problem = Problem(kind, 3, level)
        for wrong, _ in NEAR[kind](problem):
            assert answered_in_words(problem.check(wrong))


@EACH_KIND
@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_answered_in_words(kind: str, junk: str) -> None:
    """An empty list and 0 are answers, of other problems."""
    problem = next(problem for problem in problems(kind, 3) if problem.right)
    for answer in spoiled(problem.right, JUNK[junk]):
        verdict = problem.check(answer)
        assert answered_in_words(verdict, draw=False)


@EACH_KIND
def test_until_there_is_an_answer_the_form_is_asked_for(kind: str) -> None:
    problem = Problem(kind, 0)
    for verdict in (problem.check(), problem.check(...), problem.check([...])):
        assert verdict.right is None
        assert verdict.text == problem.form


# ---- the same on every machine, and all different ----------------------------------------------------------


def _many(kind: str, level: int, count: int) -> list[Problem]:
    return [Problem(kind, seed, level) for seed in range(count)]


@EACH_LEVEL
@EACH_KIND
def test_other_seeds_are_other_problems(kind: str, level: int) -> None:
    distinct = {problem.question for problem in _many(kind, level, 40)}
    assert len(distinct) >= (24 if kind == "is this schedule safe" else 34)


@EACH_LEVEL
@EACH_KIND
def test_no_answer_can_be_guessed(kind: str, level: int) -> None:
    """The most frequent one of 120; "safe" is right about as often as not."""
    answers = Counter(repr(problem.right) for problem in _many(kind, level, 120))
    most = answers.most_common(1)[0][1]
    assert most <= 48 or kind == "is this schedule safe"
    if kind == "is this schedule safe":
        assert 42 <= answers["0"] <= 78


_ALL = (
    "from tdpkit.exercises.problems import KINDS, LEVELS, Problem\n"
    "from hashlib import sha256\n"
    "all = [Problem(kind, seed, level) for kind in KINDS for level in LEVELS for seed in range(5)]\n"
    "print(sha256(repr([(p.question, p.right, p.solution) for p in all]).encode()).hexdigest())"
)


def test_a_seed_is_the_same_problem_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", _ALL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


# ---- what is asked for and shown ---------------------------------------------------------------------------


def test_a_notebook_shows_the_question() -> None:
    problem = Problem("pages for a split", 7, 2)
    assert problem._repr_markdown_() == repr(problem) == problem.question


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("a riddle", 1),
            InvalidValueError,
            "a kind of problem is one of decode an.*'a riddle' is none",
        ),
        ((7, 1), InvalidValueError, "a kind of problem is one of"),
        (("root types", -1), InvalidValueError, "a seed is at least 0; -1 is negative"),
        (("root types", 1.5), InvalidTypeError, "a seed is counted in whole numbers; 1.5 is a float"),
        (("root types", True), InvalidTypeError, "a seed is counted in whole numbers; True"),
        (("root types", 1, 4), InvalidValueError, "a level is from 1 to 3; 4 is not"),
        (("root types", 1, 0), InvalidValueError, "a level is from 1 to 3; 0 is not"),
        (("root types", 1, "2"), InvalidTypeError, "a level is counted in whole numbers; '2' is a str"),
    ],
)
def test_what_cannot_be_is_refused_with_its_rule(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Problem(*arguments)


def test_a_seed_may_be_as_large_as_one_likes() -> None:
    assert Problem("root types", 10**30).check(Problem("root types", 10**30).right).right is True


# ---- text and data cannot differ ---------------------------------------------------------------------------


@EACH_LEVEL
@pytest.mark.parametrize("kind", ["which leaves cross", "order of visits", "pages for a split"])
def test_leaves_and_ranges_are_those_of_the_text(kind: str, level: int) -> None:
    for problem in problems(kind, level):
        given = problem.given
        rows = re.findall(r"^\| \[(\S+), (\S+)\) \| (.*) \|$", problem.question, re.M)
        found = []
        for first, end, mapped in rows:
            if leaf := re.fullmatch(r"([\d ]+) (?:leaf|leaves) of (\S+)(?: frames?)?", mapped):
                count, size = int(leaf[1].replace(" ", "")), frames(leaf[2])
                assert frames(end) - frames(first) == count * size
                found += [(frames(first) + number * size, size) for number in range(count)]
        assert found == [*leaves(given.layout)]
        below = problem.question.rpartition("|")[2].partition("**Answer:**")[0]
        spans = [(frames(one), frames(other)) for one, other in re.findall(r"\[(\d\S*), (\d\S*)\)", below)]
        assert spans == [(span.start, span.end) for span in getattr(given, "spans", None) or (given.span,)]


@EACH_LEVEL
def test_the_address_and_the_half_are_those_of_the_text(level: int) -> None:
    for problem in problems("decode an address", level):
        given, question = problem.given, problem.question
        [where] = re.findall(r"leads to (?:frame|the address|the byte at) (\S+?)[?,]", question)
        assert (int(where, 16) if "0x" in where else frames(where) * 4096) == given.address
        assert f"the {given.half} half?" in question or not given.half


@EACH_LEVEL
def test_an_entry_its_level_and_its_child_are_those_of_the_text(level: int) -> None:
    for problem in problems("decode an entry", level):
        given, question = problem.given, problem.question
        value, at = re.findall(r"reads `(0x[0-9a-f]{16})`. It lies in a table of level (\d)", question)[0]
        assert (int(value, 16), int(at)) == (given.spte, given.level)
        child = re.search(
            r"mitigation is (on|off), the role (allows|does not allow) .*child (\d+)\?", question
        )
        if child:
            assert child.groups()[:2] == (
                "on" if given.nx else "off",
                "allows" if given.exec_allowed else "does not allow",
            )
        assert (int(child[3]) if child else None) == given.index


@EACH_LEVEL
def test_the_steps_of_the_text_are_those_of_the_scripts(level: int) -> None:
    verbs = {
        "lock": "takes",
        "unlock": "drops",
        "read": "reads the entry",
        "flush": "flushes",
        "return": "returns",
    }
    for problem in problems("is this schedule safe", level):
        lines = re.findall(r"^\d+\. (.) (.*)\.$", problem.question, re.M)
        made = history(problem.given)
        assert [who for who, _ in lines] == [who for who, _, _ in made]
        for (_, did), (_, what, came) in zip(lines, made, strict=True):
            assert did.startswith(verbs.get(what, ""))
            if what == "swap":
                assert ("leaf → table" in did) == (came == "won")


def test_each_edge_of_a_worked_solution_is_explained_by_itself() -> None:
    for seed in range(200):
        for line in Problem("which leaves cross", seed, 1 + seed % 3).solution.splitlines():
            if "on both sides of the edge" in line:
                named = line.split("Edge ")[1].split(":")[0]
                assert f"on both sides of the edge {named}." in line, line
