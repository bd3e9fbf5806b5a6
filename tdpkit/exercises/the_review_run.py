"""The exercises of notebook 08: conditions of claims, verdicts that change, a plan, a planted bug.

Nothing is compared with a verdict that is written down here. Conditions are measured, the experiments of the
ledger run with the change in place, and a submitted function is tried as `tdpkit.lab.trial` tries any.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from tdpkit.engine.gfn import X86_4LEVEL, GfnRange, parse_gfn
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.lab.budget import measure
from tdpkit.lab.claims.claim import FAILS, HOLDS, HOLDS_IF, Finding
from tdpkit.lab.claims.ledger import CLAIMS
from tdpkit.lab.claims.trees import counted
from tdpkit.lab.layouts import LAYOUTS, TD_4LEVEL, full_of
from tdpkit.lab.schedules import Setting, explored
from tdpkit.lab.strategies import STRATEGIES, PlannedCall, made
from tdpkit.lab.trial import FORMS, QUESTIONS, Variant, trial
from tdpkit.lab.trial.answers import FAILS as FAILED
from tdpkit.lab.trial.answers import HOLDS as PASSED
from tdpkit.lab.trial.answers import UNASKED, Answer
from tdpkit.lab.trial.variant import PLAN, PRIVATE
from tdpkit.lab.untrusted import Raised, cut, shown
from tdpkit.lab.words import Names, count_of, group_digits, listed
from tdpkit.show.case.picture import case_svg
from tdpkit.show.case.state import case_state

from .checking import (
    Counterexample,
    Wrong,
    about,
    answer_of,
    answered,
    check,
    frame,
    one_of,
    ordered,
    refused,
    whole,
)
from .guess import Guess, choice
from .submitted import WRITE

# ---- a guess before the ledger ---------------------------------------------------------------------------

NUMBERS = ("0", "2", "9", "18", "27")


@check("choose a number of claims.")
def check_undecided(guess: Any) -> str:
    """How many claims of the ledger have no experiment."""
    reasons = [claim.name for claim in CLAIMS.values() if not claim.experiment]
    what = f"no experiment decides {len(reasons)} of {len(CLAIMS)}: {listed(reasons)}"
    if one_of(guess, NUMBERS, "a guess") != str(len(reasons)):
        raise Wrong(f"you said {guess}; {what}.")
    return f"{what}. Each is a matter of taste, a name, or the future."


def guess_undecided() -> Guess:
    """Ask how many claims no experiment can decide."""
    return choice(
        f"The thread makes {len(CLAIMS)} claims, as they are counted here. How many of them can no "
        "experiment decide?",
        "claims",
        NUMBERS,
        check_undecided,
    )


# ---- under which condition -------------------------------------------------------------------------------

SIXTEEN = parse_gfn("16G")
MOST = 16 * 512
"""M9's number of pages for 16 GiB."""
_GIB = parse_gfn("1G")
_LOCKS, _PAGES = ("exclusive", "shared"), ("on demand", "in hand")
CASES = {
    "C4": "(lock, pages): “nothing was split” can be false",
    "C29": "the level of the leaves that map 16 GiB: splitting them to 4K takes 8192 page tables, no more "
    "and no less",
    "C40": "(start, end), a range shorter than 1G under 1G leaves: one call of the patch visits fewer SPTEs "
    "than the two steps",
}
"""Claims, and what is so in the first of the two cases that are wanted, and not so in the second."""


def _ask_cases(claim: str) -> str:
    return f"{claim}: two cases, {CASES[claim]}; in the first it is so, in the second not."


@check()
def check_cases(cases: Any) -> str:
    """Run what each of CASES says in a case in which it should be so, and in one in which it should not.

    cases: a dict, for each claim the two cases.
    """
    measures: dict[str, Callable[[Any], tuple[bool, str]]] = {
        "C4": _can_be_false,
        "C29": _takes_the_maximum,
        "C40": _is_cheaper,
    }
    for claim, said in answered(cases, CASES, "two cases for each claim", _ask_cases):
        with about(claim):
            pair = ordered(said, 2)
            if pair is None:
                raise refused("two cases are wanted: one in which it is so, and one in which it is not", said)
            for case, wanted in zip(pair, (True, False), strict=True):
                so, why = measures[claim](case)
                if so != wanted:
                    where = "it should be so" if wanted else "it should not be so"
                    raise Wrong(f"in the case {shown(case)} {where}, but {why}.")
    return f"all {len(CASES)}. In each pair it is so in the first case only: the condition lies between."


def _can_be_false(case: Any) -> tuple[bool, str]:
    """Whether a schedule exists in which a report of no split is false."""
    pair = ordered(case, 2)
    if pair is None:
        raise refused('a case is a lock and how a thread has its pages, such as ("shared", "in hand")', case)
    lock, pages = one_of(pair[0], _LOCKS, "a lock"), one_of(pair[1], _PAGES, "how a thread has its pages")
    _, found = explored(Setting(lock=lock, pages=pages))
    schedules = count_of(found.interleavings or 0, "schedule")
    if "no misreport" not in found.witness:
        return False, f"in none of {schedules} is “nothing was split” false"
    steps = len(found.witness["no misreport"].moves)
    return True, f"of {schedules} the shortest with a false “nothing was split” has {steps} steps"


@cache
def _tables_for_sixteen(level: int) -> int:
    return measure(full_of(X86_4LEVEL, SIXTEEN, level), 0, SIXTEEN, split="everything").pages.tables


def _takes_the_maximum(case: Any) -> tuple[bool, str]:
    """Whether a split of 16 GiB of such leaves takes as many tables as M9 says."""
    level = whole(case)
    if level is None or not 1 <= level <= X86_4LEVEL.max_leaf_level:
        raise refused("the level of a leaf is 1 (4K), 2 (2M) or 3 (1G)", case)
    took = _tables_for_sixteen(level)
    leaves = X86_4LEVEL.level(level).label
    return took == MOST, f"from leaves of {leaves} it takes {count_of(took, 'page table')}"


def _is_cheaper(case: Any) -> tuple[bool, str]:
    """Whether the patch's one call visits fewer SPTEs of 1G leaves than M13's two steps."""
    pair = ordered(case, 2)
    if pair is None:
        raise refused('a case is a range, such as ("1G", "1G+8K")', case)
    span = GfnRange(frame(pair[0], "the start"), frame(pair[1], "the end"))
    if not 0 < span.pages < _GIB or span.end > LAYOUTS["16T-1G"].frames:
        raise Wrong(
            f"a range is wanted that is shorter than 1G, not empty, and ends below 16T; {span} is not."
        )
    one, two = (
        counted(LAYOUTS["16T-1G"], STRATEGIES[name], span).visits for name in ("walk_v3", "kai_two_step")
    )
    where = f"over {span}"
    return one < two, f"{where} one call visits {count_of(one, 'SPTE')}, the two steps {group_digits(two)}"


# ---- verdicts that change --------------------------------------------------------------------------------

WORDS = {"holds": HOLDS, "holds if": HOLDS_IF, "fails": FAILS}
"""Words that a learner writes for each verdict of an experiment."""
CHANGED = ("C2", "C18", "C19")


@contextmanager
def _arithmetic_inside() -> Iterator[None]:
    """The patch's function, as strategies know it, makes one plain call per edge."""
    posted = STRATEGIES["walk_v3"]
    STRATEGIES["walk_v3"] = STRATEGIES["one_block_per_edge"]
    try:
        yield
    finally:
        STRATEGIES["walk_v3"] = posted


@cache
def _finding(name: str) -> Finding:
    """Run the experiment of a claim with the arithmetic inside; kept, since a check is run again."""
    experiment = CLAIMS[name].experiment
    assert experiment is not None
    with _arithmetic_inside():
        return experiment()


@check()
def check_changed(verdicts: Any) -> str:
    """Compare the verdicts with what the experiments of CHANGED find if the patch's function does arithmetic.

    verdicts: a dict, for each claim one of WORDS.
    """
    for name, said in answered(verdicts, CHANGED, "a verdict for each claim", _ask_changed):
        with about(name):
            word, finding = one_of(said, WORDS, "a verdict"), _finding(name)
            if WORDS[word] != finding.verdict:
                raise Wrong(f"you said “{word}”; the experiment finds “{finding.verdict}”. {finding.shown}")
    return (
        f"{listed(f'{name} {_finding(name).verdict}' for name in CHANGED)}. Large ranges then cost little "
        "whatever is mapped, and two calls gain nothing."
    )


def _ask_changed(name: str) -> str:
    return (
        f"{name}, “{CLAIMS[name].in_short}”: which verdict does its experiment find? "
        f"One of {listed(WORDS, 'or')}."
    )


# ---- a plan of one's own ---------------------------------------------------------------------------------

_EDGES = ("0", "4K", "2M", "2M+4K", "1G", "1G+2M", "1G+2M+4K", "3G-4K")
_PLAN_QUESTIONS = (("rules", "4 and 5 levels"), ("exact, 2M leaves", "exact, 1G leaves too", "visits"))
"""Questions to a plan: first those that take no time."""


def _x86_ranges() -> list[GfnRange]:
    edges = [*map(parse_gfn, _EDGES)]
    return [GfnRange(start, end) for start in edges for end in edges if start < end]


def _planned(plan: Callable[..., Any], span: GfnRange) -> list[PlannedCall]:
    """The calls that a submitted plan makes of a range on x86."""
    said = answer_of(plan, X86_4LEVEL, span.start, span.end)
    if isinstance(said, Raised):
        raise Wrong(f"for {span} it {said!r}.")
    if not isinstance(said, list | tuple) or not all(isinstance(one, PlannedCall) for one in said):
        raise refused("a plan is a list of PlannedCall", said)
    return made(said)


def _passed(variant: Variant, questions: Iterable[str]) -> list[Answer]:
    """The answers to these questions; raises Wrong for the first that is failed, and draws its case."""
    tried = trial(variant, questions)
    for question in tried.fails:
        answer = tried[question]
        case = answer.case and Counterexample(case_state(answer.case), case_svg)
        raise Wrong(f"it fails “{question}”: {cut(answer.found, 400)}.", case)
    return [row.answer for row in tried.rows]


@check("let my_plan return a list of PlannedCall.")
def check_plan(my_plan: Any) -> str:
    """Try ``my_plan(geometry, s, e)``: exact on every toy tree, visits that do not grow, and no plan of 03.

    It returns the calls to make for the frames [s, e).
    """
    if not callable(my_plan):
        raise refused(f"a plan is a function: {FORMS[PLAN]}", my_plan)
    calls = [_planned(my_plan, span) for span in _x86_ranges()]
    for name, known in STRATEGIES.items():
        if calls == [known(X86_4LEVEL, span) for span in _x86_ranges()]:
            title = known.rule.on(Names(X86_4LEVEL, toy=False)).title
            raise Wrong(f"these are the calls of “{title}”, which notebook 03 has already ({name}).")
    variant = Variant("my_plan", PLAN, lambda geometry, s, e: my_plan(geometry, s, e))
    *_, (exact, with_1g, visits) = (_passed(variant, questions) for questions in _PLAN_QUESTIONS)
    if visits.verdict != PASSED:
        raise Wrong(f"{visits.found}.")
    cases = listed([exact.tried, f"{with_1g.tried} with 1G leaves"])
    return f"exact in {cases}. {visits.found[0].upper()}{visits.found[1:]}."


# ---- a planted bug ---------------------------------------------------------------------------------------

TO_FAIL = "roots"
_LONG = ("exact, 2M leaves", "exact, 1G leaves too", "translations", "empty range")
"""One search answers them all, and takes some seconds."""
LEFT_OUT = ("visits",)
"""Not asked, since a walk of 12 TiB takes longest."""


def _coroutine(planted: Callable[..., Any]) -> None:
    """Raise Wrong or Unanswered unless `planted` makes a coroutine."""
    kvm = Kvm(KVM_X86_TDX_VM, TD_4LEVEL)
    said = answer_of(planted, kvm, KvmGfnRange(kvm.slot, 1, 2, KVM_FILTER_PRIVATE))
    if isinstance(said, Raised):
        raise Wrong(f"for the frames [1, 2) it {said!r}.")
    if not isinstance(said, Generator):
        raise Wrong(f"planted returned {shown(said)}; it has to return {WRITE}.")
    said.close()


@check("let planted return a coroutine, as kvm_split_cross_boundary_leafs() does.")
def check_planted(planted: Any) -> str:
    """Try ``planted(kvm, gfn_range)``: of all questions but LEFT_OUT it has to fail TO_FAIL and no other."""
    if not callable(planted):
        raise refused("planted is a function of a VM and a range, which returns a coroutine", planted)
    _coroutine(planted)
    variant = Variant("planted", PRIVATE, lambda kvm, gfn_range: planted(kvm, gfn_range))
    quick = [name for name in QUESTIONS if name not in (TO_FAIL, *_LONG, *LEFT_OUT)]
    passed = [*_passed(variant, quick), *_passed(variant, _LONG)]
    answer = trial(variant, [TO_FAIL])[TO_FAIL]
    if answer.verdict != FAILED:
        raise Wrong(f"it passes “{TO_FAIL}” as well: {answer.found}.")
    asked = sum(one.verdict != UNASKED for one in passed)
    return f"{count_of(asked, 'question')} passed, and “{TO_FAIL}” failed: {answer.found}."
