"""Predict mode of the walk stepper: the question which entry the walk visits next.

Offered are the entries that one may think of, and each choice is answered: why it is the next, or why it is
not. A :class:`Quiz` keeps the score over one call.
"""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, InvalidValueError
from tdpkit.lab.split_call import SplitCall

from .words import name_entry, name_frame


class Option(NamedTuple):
    """One possible answer: what it is called, whether it is the right one, and why or why not.

    place: (level, first frame) of the entry; None for "the call is over".
    """

    text: str
    right: bool
    why: str
    place: tuple[int, int] | None


MOST_ENTRIES = 7
"""So many entries are offered, the likeliest, besides "the call is over"."""


def next_visit(call: SplitCall, at: int) -> int:
    """The first step after `at` (from 0) that is a visit, or the call's last."""
    later = range(at + 1, len(call.steps))
    return next((n for n in later if call.steps[n].kind == "visit"), len(call.steps) - 1)


def options_at(call: SplitCall, at: int) -> tuple[Option, ...]:
    """The answers offered at step `at` (from 0); none once the call is over."""
    if at == len(call.steps) - 1:
        return ()
    then = next_visit(call, at)
    target = call.steps[then]
    right = (target.level, target.gfn) if target.kind == "visit" else None
    why = reason(call, at, then)
    options = []
    for place, why_not in _candidates(call, at).items():
        text = "none: the call is over" if place is None else name_entry(call, *place)
        options.append(Option(text, place == right, why if place == right else why_not, place))
    return tuple(options)


def _candidates(call: SplitCall, at: int) -> dict[tuple[int, int] | None, str]:
    """(level, gfn) of each entry that comes to mind, from the root down, with why it is not the next."""
    geometry, step, target = call.geometry, call.steps[at], call.steps[next_visit(call, at)]
    goal = name_frame(call, step.goal)
    found: dict[tuple[int, int], str] = {}

    def offer(gfn: int, level: int, why_not: str) -> None:
        inside = 0 <= gfn < geometry.root_pages
        if inside and geometry.root_level >= level >= PG_LEVEL_4K and len(found) < MOST_ENTRIES:
            found.setdefault((level, geometry.gfn_round_for_level(gfn, level)), _over(call, at) or why_not)

    if target.kind == "visit":
        offer(target.gfn, target.level, "")
    if not step.level:
        offer(step.goal, geometry.root_level, "this entry begins at the end of the range.")
        offer(0, geometry.root_level, f"the walk begins with the entry that holds its goal, frame {goal}.")
        offer(step.goal, geometry.root_level - 1, "a walk begins at the root.")
    else:
        pages, level = geometry.pages(step.level), step.level
        parent = geometry.gfn_round_for_level(step.gfn, min(level + 1, geometry.root_level))
        lock = _lock(call, at)
        from_root = lock and f"{lock}, and then the walk starts again at the root."
        below = _below(call, at)
        offer(
            step.gfn,
            level,
            from_root
            or "the same entry comes again only after a lost compare-and-exchange, or after a new start.",
        )
        offer(step.goal if step.gfn <= step.goal < step.gfn + pages else step.gfn, level - 1, below)
        if target.level < level:
            below = f"the walk goes straight to the entry that holds its goal, frame {goal}."
        offer(step.gfn, level - 1, below)
        offer(step.gfn + pages, level, _sideways(call, at))
        offer(
            parent,
            level + 1,
            from_root or "a parent is visited before its children; after them only if the walk starts anew.",
        )
        offer(
            parent + geometry.pages(level + 1) if level < geometry.root_level else 0,
            level + 1,
            _sideways(call, at),
        )
        offer(
            step.goal,
            geometry.root_level,
            "the walk starts again at the root only after it has let go of mmu_lock.",
        )
    in_order = sorted(found.items(), key=lambda item: (-item[0][0], item[0][1]))
    return {**dict(in_order), None: "the walk has not passed the end of the range."}


def _over(call: SplitCall, at: int) -> str:
    """Why no entry at all is the next: the walk is over, or the call gives up; empty if neither."""
    if call.steps[at].kind == "free":
        return "the walk is over."
    gives_up = call.result and call.steps[next_visit(call, at)].kind != "visit"
    return "no page is available, and the call gives up." if gives_up else ""


def _lock(call: SplitCall, at: int) -> str:
    """That mmu_lock is let go between the visit of step `at` and the next one; empty if it is not."""
    if call.steps[at].kind == "retake" or not call.steps[at].held:
        return "mmu_lock was dropped"
    later = (call.steps[n].kind for n in range(at + 1, next_visit(call, at)))
    return "mmu_lock is dropped first" if any(kind in ("drop", "resched") for kind in later) else ""


def _below(call: SplitCall, at: int) -> str:
    step, target = call.steps[at], call.steps[next_visit(call, at)]
    if lock := _lock(call, at):
        return f"{lock}, and then the walk cannot trust the tables on its path."
    if step.level <= call.min_level:
        return f"the walk does not go below level {call.min_level}: what lies there needs no split."
    if target.kind == "visit" and (target.gfn, target.level) == (step.gfn, step.level):
        return _LOST
    if target.kind != "visit" and target.level < step.level:
        return "this entry begins at the end of the range."
    return "there is no table below this entry."


_LOST = "the exchange is lost, so the same entry comes once more."


def _sideways(call: SplitCall, at: int) -> str:
    step, target = call.steps[at], call.steps[next_visit(call, at)]
    if lock := _lock(call, at):
        return f"{lock}, and the walk has not done with its entry."
    if target.kind == "visit" and target.level < step.level:
        return "what lies below this entry comes first: parents before children, children before siblings."
    if target.kind == "visit" and (target.gfn, target.level) == (step.gfn, step.level):
        return _LOST
    if step.level > 1 and target.kind == "visit" and target.level > step.level:
        return "this entry was the last of its table."
    if target.kind != "visit":
        return "the next entry begins at the end of the range or beyond it."
    return "the next entry of the same table comes first."


def reason(call: SplitCall, at: int, then: int) -> str:
    """Why the entry of step `then` is the next."""
    step, target = call.steps[at], call.steps[then]
    goal = name_frame(call, target.goal)
    between = {call.steps[n].kind for n in range(at, then)}
    if target.kind != "visit":
        if call.result:
            return "no page was available, and the call gives up."
        return "the next entry begins at the end of the range or beyond it, or the root has no further one."
    if not step.level:
        return f"the walk begins at the root, with the entry that holds its goal, frame {goal}."
    if "retake" in between:
        return (
            "mmu_lock was dropped, so every table on the path may be gone: the walk starts again at the "
            f"root, with the entry that holds its goal, frame {goal}."
        )
    if (target.gfn, target.level) == (step.gfn, step.level):
        return "the compare-and-exchange was lost, so the same entry is looked at again."
    if target.level < step.level and "store" in between:
        return f"the leaf is split, and the walk steps down, straight to the entry that holds frame {goal}."
    if target.level < step.level:
        return f"the entry points to a table: step down, straight to the entry that holds frame {goal}."
    if target.level > step.level:
        return "this was the last entry of its table: step up, and on sideways at once."
    return "there is nothing to walk below this entry: step sideways."


class Quiz:
    """Predicting one call from step `seen` (from 0) on: what comes after it is hidden.

    asked, right: questions answered so far, and those answered right at once. said: the last answer's words.
    """

    def __init__(self, call: SplitCall, seen: int) -> None:
        self.call = call
        self.seen = seen
        self.asked = self.right = 0
        self.said = ""
        self._tried = False

    def answer(self, at: int, number: int) -> int:
        """Answer the question of step `at` with option `number` (both from 0); returns the step to go to.

        That is the next visit if the answer is right, and `at` if it is not. Raises InvalidValueError where
        nothing is asked, or for an option that is not offered.
        """
        options = self._options(at)
        if not 0 <= number < len(options):
            raise InvalidValueError(f"{len(options)} answers are offered here; number {number + 1} is none")
        option = options[number]
        self._count(at, option.right)
        self.said = f"{'✓ Right' if option.right else '✗ Not that one'}: {option.text}: {option.why}"
        return self._then(at) if option.right else at

    def reveal(self, at: int) -> int:
        """Say what comes after step `at` and why; returns the step to go to. Raises as :meth:`answer`."""
        [right] = (option for option in self._options(at) if option.right)
        self._count(at, False)
        self.said = f"It is {right.text}: {right.why}"
        return self._then(at)

    def _options(self, at: int) -> tuple[Option, ...]:
        if not 0 <= at <= self.seen:
            raise InvalidValueError(f"nothing is asked at step {at + 1}: steps 1 to {self.seen + 1} are seen")
        options = options_at(self.call, at)
        if not options:
            raise InvalidValueError("nothing is asked here: the call is over")
        return options

    def _count(self, at: int, right: bool) -> None:
        """The first answer to a new question counts; what was seen already is no question."""
        if next_visit(self.call, at) > self.seen:
            if not self._tried:
                self.asked += 1
                self.right += right
            self._tried = True

    def _then(self, at: int) -> int:
        then = next_visit(self.call, at)
        if then > self.seen:
            self.seen, self._tried = then, False
        return then
