"""Predict mode: one answer is right, it is the one that comes, and every reason given is true of the call.

The reasons are taken as claims: each must be known here, and is tried on the recorded steps and on the tree
as it lies in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import NamedTuple

import pytest

from tdpkit.engine.gfn import Geometry, InvalidValueError
from tdpkit.lab.layouts import layout_of
from tdpkit.lab.split_call import CallStep, SplitCall
from tdpkit.lab.worlds import RACES, Faults
from tdpkit.show.walk import live as stepper
from tdpkit.show.walk.predict import Option, Quiz, next_visit, options_at
from tests.lab.test_split_call import random_setup
from tests.oracles import brute

OVER = "none: the call is over"

# ---- a question, and what is true of it ----------------------------------------------------------------


class Question(NamedTuple):
    """Step `at` of a call, with what came and what comes, all read off the recorded steps."""

    call: SplitCall
    at: int

    @property
    def step(self) -> CallStep:
        return self.call.steps[self.at]

    @property
    def then(self) -> int:
        """The next visit, or the last step."""
        at = self.at + 1
        while self.call.steps[at].kind != "visit" and at < len(self.call.steps) - 1:
            at += 1
        return at

    @property
    def next(self) -> CallStep | None:
        """The next visit, if there is one."""
        step = self.call.steps[self.then]
        return step if step.kind == "visit" else None

    @property
    def past(self) -> list[str]:
        """Kinds of the steps from the visit on which the walk stands to this one."""
        at = self.at
        while at and self.call.steps[at].kind != "visit":
            at -= 1
        return [step.kind for step in self.call.steps[at : self.at + 1]]

    @property
    def future(self) -> list[str]:
        """Kinds of the steps after this one, up to the next visit."""
        return [step.kind for step in self.call.steps[self.at + 1 : self.then]]

    @property
    def pages(self) -> int:
        return brute.pages(self.call.geometry, self.step.level)

    @property
    def place(self) -> tuple[int, int]:
        return self.step.gfn, self.step.level

    def tables(self, at: int) -> set[tuple[int, int]]:
        """(gfn, level) of the entries that point to a table at step `at`."""
        return tables(self.call)[at]

    def holds(self, place: tuple[int, int], gfn: int) -> bool:
        return place[0] <= gfn < place[0] + brute.pages(self.call.geometry, place[1])

    def let_go(self, when: str) -> bool:
        """mmu_lock "was dropped" since the visit, or "is dropped first", before the next one."""
        kinds = self.past if when == "was dropped" else self.future
        return bool({"drop", "resched"} & set(kinds))


_tables: dict[int, list[set[tuple[int, int]]]] = {}


def tables(call: SplitCall) -> list[set[tuple[int, int]]]:
    if id(call) not in _tables:
        known = []
        for at in range(len(call.steps)):
            call.go(at)
            found = brute.entries(call.geometry, brute.read(call.root))
            known.append({(gfn, level) for gfn, level, entry in found if isinstance(entry, list)})
        _tables[id(call)] = known
    return _tables[id(call)]


Place = tuple[int, int]
Claim = Callable[..., bool]


def is_over(q: Question) -> bool:
    """No entry after this one, in the walk's order, is in the range and in the tree."""
    call, end = q.call, q.call.span.end
    if not list(call.visited()):
        size = brute.pages(call.geometry, call.geometry.root_level)
        return call.span.start // size * size >= end
    level, gfn = list(call.visited())[-1]
    if (gfn, level) in q.tables(-1) and level > call.target_level + 1:
        size = brute.pages(call.geometry, level - 1)
        return max(gfn, call.span.start) // size * size >= end
    after = gfn + brute.pages(call.geometry, level)
    return after >= end or after == brute.pages(call.geometry, call.geometry.root_level + 1)


WRONG: dict[str, Claim] = {
    r"the walk begins with the entry that holds its goal, frame (\d+)\.": lambda q, it, goal: (
        q.step.kind == "start" and int(goal) == q.call.span.start and not q.holds(it, int(goal))
    ),
    r"a walk begins at the root\.": lambda q, it: (
        q.step.kind == "start" and it[1] < q.call.geometry.root_level
    ),
    r"this entry begins at the end of the range\.": lambda q, it: it[0] == q.call.span.end,
    r"mmu_lock (was dropped|is dropped first), and then the walk starts again at the root\.": (
        lambda q, it, when: (
            q.let_go(when) and q.next.level == q.call.geometry.root_level and it != (q.next.gfn, q.next.level)
        )
    ),
    r"mmu_lock (was dropped|is dropped first), and then the walk cannot trust the tables on its path\.": (
        lambda q, it, when: q.let_go(when) and it[1] < q.step.level
    ),
    r"mmu_lock (was dropped|is dropped first), and the walk has not done with its entry\.": (
        lambda q, it, when: q.let_go(when) and q.next.goal == q.step.goal and it[0] > q.step.goal
    ),
    r"the same entry comes again only after a lost compare-and-exchange, or after a new start\.": (
        lambda q, it: it == q.place and not {"lost", "retake"} & {*q.past, *q.future}
    ),
    r"the walk goes straight to the entry that holds its goal, frame (\d+)\.": lambda q, it, goal: (
        int(goal) == q.step.goal
        and it[1] == q.step.level - 1
        and q.holds(q.place, it[0])
        and not q.holds(it, int(goal))
        and (q.place in q.tables(q.then))
    ),
    r"the walk does not go below level (\d): what lies there needs no split\.": lambda q, it, level: (
        it[1] < int(level)
        and it[1] <= q.call.target_level
        and min(level for level, _ in q.call.visited()) >= int(level)
    ),
    r"the exchange is lost, so the same entry comes once more\.": lambda q, it: (
        "lost" in (*q.past, *q.future) and (q.next.gfn, q.next.level) == q.place != it
    ),
    r"there is no table below this entry\.": lambda q, it: (
        it[1] == q.step.level - 1
        and q.holds(q.place, it[0])
        and q.place not in q.tables(q.at) | q.tables(q.then)
    ),
    r"what lies below this entry comes first: parents before children, children before siblings\.": (
        lambda q, it: (
            q.next.level < q.step.level and q.holds(q.place, q.next.gfn) and not q.holds(q.place, it[0])
        )
    ),
    r"this entry was the last of its table\.": lambda q, it: (
        q.step.level < q.call.geometry.root_level
        and (q.step.gfn + q.pages) % brute.pages(q.call.geometry, q.step.level + 1) == 0
        and it != (q.next.gfn, q.next.level)
    ),
    r"the next entry begins at the end of the range or beyond it\.": lambda q, it: (
        q.next is None and q.step.gfn + q.pages >= q.call.span.end <= it[0]
    ),
    r"the next entry of the same table comes first\.": lambda q, it: (
        (q.next.gfn, q.next.level) == (q.step.gfn + q.pages, q.step.level)
        and q.next.gfn % brute.pages(q.call.geometry, q.step.level + 1) != 0
        and it[0] > q.next.gfn
    ),
    r"a parent is visited before its children; after them only if the walk starts anew\.": lambda q, it: (
        it[1] == q.step.level + 1
        and q.holds(it, q.step.gfn)
        and it in [(gfn, level) for level, gfn in q.call.visited(q.at)]
        and it not in later_visits(q, until="retake")
    ),
    r"the walk starts again at the root only after it has let go of mmu_lock\.": lambda q, it: (
        it[1] == q.call.geometry.root_level and not {"drop", "resched", "retake"} & {*q.past, *q.future}
    ),
    r"the walk is over\.": lambda q, it: q.next is None and q.step.kind == "free",
    r"no page is available, and the call gives up\.": lambda q, it: (
        q.next is None and q.call.result == -12 and "refused" in (*q.past, *q.future)
    ),
}
"""What may be said of a wrong entry (gfn, level), and when it is true."""

RIGHT: dict[str, Claim] = {
    r"the walk begins at the root, with the entry that holds its goal, frame (\d+)\.": lambda q, it, goal: (
        q.step.kind == "start" and int(goal) == q.call.span.start and at_root(q, it, int(goal))
    ),
    r"mmu_lock was dropped, so every table on the path may be gone: the walk starts again at the root, "
    r"with the entry that holds its goal, frame (\d+)\.": lambda q, it, goal: (
        {"drop", "resched"} & {*q.past, *q.future}
        and int(goal) == q.step.goal == q.next.goal
        and at_root(q, it, int(goal))
    ),
    r"the compare-and-exchange was lost, so the same entry is looked at again\.": lambda q, it: (
        it == q.place and "lost" in (*q.past, *q.future)
    ),
    r"the leaf is split, and the walk steps down, straight to the entry that holds frame (\d+)\.": (
        lambda q, it, goal: (
            "split" in q.future and q.place not in q.tables(q.at) and stepped_down(q, it, int(goal))
        )
    ),
    r"the entry points to a table: step down, straight to the entry that holds frame (\d+)\.": (
        lambda q, it, goal: q.place in q.tables(q.at) and stepped_down(q, it, int(goal))
    ),
    r"this was the last entry of its table: step up, and on sideways at once\.": lambda q, it: (
        it[1] > q.step.level
        and it[0] == q.step.gfn + q.pages
        and it[0] % brute.pages(q.call.geometry, it[1]) == 0
    ),
    r"there is nothing to walk below this entry: step sideways\.": lambda q, it: (
        it == (q.step.gfn + q.pages, q.step.level)
        and (q.place not in q.tables(q.then) or q.step.level == q.call.target_level + 1)
    ),
}
"""What may be said of the right entry."""

NONE = {
    r"the walk has not passed the end of the range\.": lambda q: q.next and q.next.gfn < q.call.span.end,
    r"the next entry begins at the end of the range or beyond it, or the root has no further one\.": is_over,
    r"no page was available, and the call gives up\.": lambda q: (
        q.call.result == -12 and q.next is None and "refused" in (*q.past, *q.future)
    ),
}
"""What may be said of "the call is over"."""


def at_root(q: Question, it: Place, goal: int) -> bool:
    return it[1] == q.call.geometry.root_level and q.holds(it, goal)


def stepped_down(q: Question, it: Place, goal: int) -> bool:
    inside = q.holds(q.place, it[0]) and it[1] == q.step.level - 1
    return inside and q.holds(it, goal) and goal == q.step.goal == q.next.goal


def later_visits(q: Question, until: str) -> Iterator[Place]:
    """Entries visited after the question, up to the first step of kind `until`."""
    for step in q.call.steps[q.at + 1 :]:
        if step.kind == until:
            return
        if step.kind == "visit":
            yield step.gfn, step.level


def named(text: str) -> Place | None:
    """(gfn, level) of an answer on a toy; None for "the call is over"."""
    if text == OVER:
        return None
    level, gfn = re.fullmatch(r"level (\d+) entry at (\d+)", text).groups()
    return int(gfn), int(level)


def check_reason(q: Question, option: Option) -> str:
    """The claim that was made, if it is a known one and true."""
    place = named(option.text)
    claims = NONE if place is None else RIGHT if option.right else WRONG
    found = [(pattern, match) for pattern in claims if (match := re.fullmatch(pattern, option.why))]
    assert len(found) == 1, f"unknown reason: {option.why}"
    [(pattern, match)] = found
    subject = () if place is None else (place,)
    assert claims[pattern](q, *subject, *match.groups()), (q.call, q.at, q.step, option)
    return pattern


# ---- the questions of many calls -----------------------------------------------------------------------


@cache
def calls() -> tuple[SplitCall, ...]:
    """Random ones, and those on full toys that go everywhere: each race, each refusal, empty ranges."""
    found = [random_setup(Random(seed)).record() for seed in range(5000, 5250)]
    full = layout_of(Geometry(2, 3, 3), 64, (0, 3, 4))
    for race in RACES:
        for number in (1, 2, 3):
            for refused in (0, 2):
                faults = Faults(race=race, race_at=number, refuse_page=refused, resched_at=4 * number)
                found.append(SplitCall(full, 5, 38, faults=faults))
                found.append(SplitCall(full, 18, 22, faults=faults, only_cross_boundary=False))
    found += [SplitCall(full, x, x, target_level=1 + x % 2) for x in (0, 16, 20, 21, 63)]
    found += [SplitCall("steps", x, x) for x in (0, 4, 8, 11, 16, 40)]
    found += [SplitCall("steps", 40, 70), SplitCall("large", 63, 64), SplitCall("large", 0, 64)]
    return tuple(found)


def questions() -> Iterator[Question]:
    return (Question(call, at) for call in calls() for at in range(len(call.steps) - 1))


def test_at_every_step_one_answer_is_right_and_it_names_the_entry_that_comes():
    for q in questions():
        options = options_at(q.call, q.at)
        [right] = [option for option in options if option.right]
        assert named(right.text) == (None if q.next is None else (q.next.gfn, q.next.level)), (q.call, q.at)
        assert next_visit(q.call, q.at) == q.then


def test_nothing_is_asked_once_the_call_is_over():
    for call in calls():
        assert options_at(call, len(call.steps) - 1) == ()


def test_answers_are_few_and_tell_themselves_apart():
    for q in questions():
        texts = [option.text for option in options_at(q.call, q.at)]
        assert len(set(texts)) == len(texts)
        assert 2 <= len(texts) <= stepper._OPTIONS, (q.call, q.at, texts)
        assert texts[-1] == OVER
        for gfn, level in map(named, texts[:-1]):
            assert 1 <= level <= q.call.geometry.root_level
            assert 0 <= gfn < q.call.geometry.root_pages
            assert gfn % brute.pages(q.call.geometry, level) == 0, "it is the first frame of an entry"


def test_answers_stand_in_the_walks_order_wherever_the_right_one_is():
    """From the root down and by frame: their order must not give the right one away."""
    for q in questions():
        places = [named(option.text) for option in options_at(q.call, q.at)][:-1]
        assert places == sorted(places, key=lambda place: (-place[1], place[0]))


def test_every_reason_is_a_sentence():
    for q in questions():
        for option in options_at(q.call, q.at):
            assert re.fullmatch(r"[a-z][^\n]{10,150}[a-z\d]\.", option.why), option


@pytest.mark.slow
def test_every_reason_is_true():
    said = Counter(check_reason(q, option) for q in questions() for option in options_at(q.call, q.at))
    claims = {*WRONG, *RIGHT, *NONE}
    assert set(said) == claims, f"never said: {claims - set(said)}"


def test_an_entry_is_visited_again_only_as_the_answers_have_it():
    """The general half of their claims: after a lost exchange at once, or else after a new start."""
    for call in calls():
        since: dict[Place, int] = {}
        restarts = lost = 0
        for step in call.steps:
            lost += step.kind == "lost"
            restarts += step.kind == "retake"
            if step.kind == "visit":
                place = step.gfn, step.level
                assert since.get(place) != restarts + lost, step
                since[place] = restarts + lost


# ---- by hand -------------------------------------------------------------------------------------------


def answers(call: SplitCall, at: int) -> dict[str, tuple[bool, str]]:
    return {option.text: (option.right, option.why) for option in options_at(call, at)}


def step_of(call: SplitCall, kind: str, number: int = 1) -> int:
    """The number-th step of a kind."""
    return [at for at, step in enumerate(call.steps) if step.kind == kind][number - 1]


def test_before_an_empty_range_at_the_border_of_two_leaves_the_walk_is_over():
    """[16, 16): the entry that holds 16 begins there, and 16 < 16 is false."""
    said = answers(SplitCall("large", 16, 16), 0)
    assert said["level 3 entry at 16"] == (False, "this entry begins at the end of the range.")
    assert said[OVER][0]


def test_a_table_below_that_begins_at_the_end_of_the_range_is_not_denied():
    """[20, 20): the leaf of 16 is split, and of its table the walk would enter what begins at 20."""
    call = SplitCall("large", 20, 20)
    said = answers(call, step_of(call, "split"))
    assert said["level 2 entry at 20"] == (False, "this entry begins at the end of the range.")
    assert said["level 2 entry at 16"][1] == (
        "the walk goes straight to the entry that holds its goal, frame 20."
    )


def test_a_table_that_another_thread_made_is_not_denied():
    call = SplitCall("large", 18, 20, faults=Faults(race="cas_split", race_at=1))
    for kind in ("other", "lost"):
        said = answers(call, step_of(call, kind))
        assert said["level 2 entry at 16"] == (
            False,
            "the exchange is lost, so the same entry comes once more.",
        )


def test_when_no_page_is_to_be_had_every_answer_says_so():
    call = SplitCall("large", 18, 20, faults=Faults(refuse_page=1))
    for at in range(1, len(call.steps) - 1):
        whys = {option.why for option in options_at(call, at) if not option.right}
        assert whys == {"no page is available, and the call gives up."}


def test_on_x86_an_answer_names_its_entry_by_address():
    said = answers(SplitCall("two-1G", 0x7FFFF, 0x80001), 0)
    assert said["level 4 entry at 0"][0]
    assert said["level 3 entry at 1G"] == (False, "a walk begins at the root.")


# ---- the quiz ------------------------------------------------------------------------------------------


@pytest.fixture
def quiz() -> Quiz:
    """By hand, [1, 35) of the toy: step 0 starts, 1 visits 0, 2-4 fetch a page, 5 visits 0 again."""
    return Quiz(SplitCall("large", 1, 35), 0)


def number_of(quiz: Quiz, at: int, right: bool) -> int:
    return next(n for n, option in enumerate(options_at(quiz.call, at)) if option.right is right)


def score(quiz: Quiz) -> tuple[int, int]:
    return quiz.asked, quiz.right


def test_a_right_answer_goes_on_to_the_next_visit_and_counts(quiz):
    assert quiz.answer(0, number_of(quiz, 0, True)) == 1
    assert (quiz.seen, score(quiz)) == (1, (1, 1))
    assert quiz.said == (
        "✓ Right: level 3 entry at 0: "
        "the walk begins at the root, with the entry that holds its goal, frame 1."
    )
    assert quiz.answer(1, number_of(quiz, 1, True)) == 5
    assert (quiz.seen, score(quiz)) == (5, (2, 2))


def test_a_wrong_answer_stays_and_says_why(quiz):
    assert quiz.answer(0, number_of(quiz, 0, False)) == 0
    assert (quiz.seen, score(quiz)) == (0, (1, 0))
    assert quiz.said == "✗ Not that one: level 2 entry at 0: a walk begins at the root."


def test_only_the_first_answer_to_a_question_counts(quiz):
    for _ in range(3):
        quiz.answer(0, number_of(quiz, 0, False))
    assert score(quiz) == (1, 0)
    assert quiz.answer(0, number_of(quiz, 0, True)) == 1
    assert score(quiz) == (1, 0), "right at last is not right at once"
    quiz.answer(1, number_of(quiz, 1, True))
    assert score(quiz) == (2, 1)


def test_showing_the_answer_counts_as_a_question_not_answered(quiz):
    assert quiz.reveal(0) == 1
    assert (quiz.seen, score(quiz)) == (1, (1, 0))
    assert quiz.said.startswith("It is level 3 entry at 0: the walk begins at the root")
    quiz.answer(1, number_of(quiz, 1, False))
    assert quiz.reveal(1) == 5
    assert score(quiz) == (2, 0), "a wrong answer and then a look are one question"


def test_what_was_seen_already_is_answered_but_not_counted(quiz):
    for at in (0, 1):
        quiz.answer(at, number_of(quiz, at, True))
    for right in (True, False):
        for at in (0, 1, 2, 4):
            assert quiz.answer(at, number_of(quiz, at, right)) == (next_visit(quiz.call, at) if right else at)
            assert (quiz.seen, score(quiz)) == (5, (2, 2))
    assert quiz.reveal(0) == 1
    assert (quiz.seen, score(quiz)) == (5, (2, 2))


@pytest.mark.parametrize("elsewhere", ["right", "wrong", "reveal"])
def test_going_back_in_between_gives_no_second_first_answer(quiz, elsewhere):
    """The score would be bought by answering an old question between two tries."""

    def meanwhile() -> None:
        if elsewhere == "reveal":
            quiz.reveal(0)
        else:
            quiz.answer(0, number_of(quiz, 0, elsewhere == "right"))

    quiz.answer(0, number_of(quiz, 0, True))
    quiz.answer(1, number_of(quiz, 1, False))
    meanwhile()
    quiz.answer(1, number_of(quiz, 1, True))
    assert score(quiz) == (2, 1)
    meanwhile()
    quiz.answer(5, number_of(quiz, 5, True))
    assert score(quiz) == (3, 2), "and an old question answered wrongly costs nothing"


def test_a_question_is_the_same_from_every_step_before_its_answer():
    """Opened on a page in hand, one step back asks for the same entry: that counts too, and once."""
    quiz = Quiz(SplitCall("large", 1, 35), 3)
    quiz.answer(2, number_of(quiz, 2, False))
    assert score(quiz) == (1, 0)
    assert quiz.answer(3, number_of(quiz, 3, True)) == 5
    assert (quiz.seen, score(quiz)) == (5, (1, 0))


def test_a_quiz_opened_in_the_middle_asks_from_there():
    quiz = Quiz(SplitCall("large", 1, 35), 5)
    assert quiz.answer(5, number_of(quiz, 5, True)) > 5
    assert score(quiz) == (1, 1)


@pytest.mark.parametrize("number", [-1, 3, 99])
def test_an_answer_that_is_not_offered_is_refused_and_costs_nothing(quiz, number):
    offered = 3  # the root's entry, the one below it, and that the call is over
    with pytest.raises(InvalidValueError, match=f"{offered} answers are offered here; number {number + 1} "):
        quiz.answer(0, number)
    assert (quiz.seen, score(quiz), quiz.said) == (0, (0, 0), "")


def test_nothing_is_asked_at_the_end_nor_of_what_is_hidden(quiz):
    last = len(quiz.call.steps) - 1
    ended = Quiz(quiz.call, last)
    for act in (lambda: ended.answer(last, 0), lambda: ended.reveal(last)):
        with pytest.raises(InvalidValueError, match="nothing is asked here: the call is over"):
            act()
    for at in (-1, 1, 5, last, last + 1):
        for act in (lambda at=at: quiz.answer(at, 0), lambda at=at: quiz.reveal(at)):
            with pytest.raises(InvalidValueError, match="nothing is asked"):
                act()
    assert (quiz.seen, score(quiz), quiz.said) == (0, (0, 0), "")


def test_a_quiz_answered_right_throughout_ends_with_the_call():
    for call in calls()[::9]:
        quiz, at, visits = Quiz(call, 0), 0, call.steps[-1].visits
        while at < len(call.steps) - 1:
            at = quiz.answer(at, number_of(quiz, at, True))
        assert score(quiz) == (visits + 1, visits + 1), "each visit, and the end"


def test_a_quiz_shown_throughout_ends_with_the_call_and_no_point():
    for call in calls()[::9]:
        quiz, at = Quiz(call, 0), 0
        while at < len(call.steps) - 1:
            at = quiz.reveal(at)
        assert score(quiz) == (call.steps[-1].visits + 1, 0)
