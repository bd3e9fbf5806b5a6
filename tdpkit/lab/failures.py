"""Every failure of a call: no memory at each request, a reschedule at each visit, and both.

:func:`run_failing` makes a :class:`~.faulted_call.FaultedCall`, and again if it says that it failed; in the
end the VM is compared with one on which no fault struck. :func:`every_failure` does that for each number of a
request or a visit until no fault strikes.

A failure may leave splits and pages in caches, and nothing else; another call completes the work (S80, S103,
S108, S179). Where v3 as posted breaks that (S107, S196), the table says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from itertools import count, groupby
from typing import NamedTuple

from .faulted_call import NO_FAULT, FaultedCall, FaultPlan, SplitLeaf, Tried
from .words import Names, count_of, known_name, listed, text_table


class FailureRun(NamedTuple):
    """A call under a plan, and its retries: it is made again as long as it says that it failed."""

    plan: FaultPlan
    calls: tuple[Tried, ...]
    differs: tuple[str, ...]
    """What is in the end not as after a call without faults, caches and numbers of pages aside."""

    @property
    def struck(self) -> bool:
        """Each fault of the plan came to pass."""
        asked, visits = sum(len(one.requests) for one in self.calls), sum(one.visits for one in self.calls)
        return max(self.plan.refuse, default=0) <= asked and max(self.plan.resched, default=0) <= visits

    @property
    def is_sound(self) -> bool:
        """No call left anything behind but splits and pages in caches, and the last completed the work."""
        left = any(one.left for one in self.calls)
        return self.calls[-1].returned == 0 and not self.differs and not left


def run_failing(case: str, plan: FaultPlan = NO_FAULT, *, split: str = "v3", pamt: str = "off") -> FailureRun:
    """Make the call of `case` under `plan`, and again as long as it was refused memory and says so.

    Arguments and errors are those of :class:`~.faulted_call.FaultedCall`.
    """
    faulted = FaultedCall(case, plan, split=split, pamt=pamt)
    calls = [faulted.call()]
    while calls[-1].refused and calls[-1].returned != 0:
        calls.append(faulted.call())
    ends = {**faulted.state(), "splits": [leaf for one in calls for leaf in one.splits]}
    without = unfailed(case, split, pamt)
    return FailureRun(faulted.plan, tuple(calls), tuple(name for name in ends if ends[name] != without[name]))


@cache
def unfailed(case: str, split: str, pamt: str) -> dict[str, object]:
    """What a case leaves if no fault strikes, by name."""
    faulted = FaultedCall(case, split=split, pamt=pamt)
    splits = [*faulted.call().splits]
    return {**faulted.state(), "splits": splits}


# ---- all of them ---------------------------------------------------------------------------------------

KINDS = {
    "refusals": (("refuse",),),
    "reschedules": (("resched",),),
    "both": (("refuse", "resched"),),
    "pairs": (("refuse", "refuse"), ("refuse", "resched"), ("resched", "resched")),
}
"""By name, the faults that strike in one run: fields of a FaultPlan."""


def every_failure(case: str, kind: str, *, split: str = "v3", pamt: str = "off") -> Failures:
    """Run `case` with each fault of `kind`, for each number until it does not strike: in the retry too.

    kind: of KINDS; the other arguments and the errors are those of :class:`~.faulted_call.FaultedCall`.
    """
    known_name(kind, KINDS, "a kind of failure")
    go = partial(run_failing, case, split=split, pamt=pamt)
    runs = [one for fields in KINDS[kind] for one in _each(go, NO_FAULT, fields)]
    names = Names(FaultedCall(case, split=split, pamt=pamt).kvm.geometry, True)
    return Failures(f"{case}, split {split}, Dynamic PAMT {pamt}, {kind}", names, tuple(runs))


def _each(
    go: Callable[[FaultPlan], FailureRun], plan: FaultPlan, fields: tuple[str, ...]
) -> Iterator[FailureRun]:
    """Add a fault of the first field to `plan`, later than those it has; then of the others."""
    field, *others = fields
    had = getattr(plan, field)
    for number in count(max(had, default=0) + 1):
        one = go(plan._replace(**{field: (*had, number)}))
        if not one.struck:
            return
        yield from _each(go, one.plan, tuple(others)) if others else (one,)


_HEAD = ("refused", "reschedule due", "gave way", "returns", "first call split", "left behind", "in the end")
_BLANK = ("none", "never", "0", "", "", "nothing", "")
"""What a cell says where there is nothing to say; a column of such cells is left out."""


class Failures(NamedTuple):
    """The runs of a kind, shown as a table: one line for all reschedules that come to the same."""

    title: str
    names: Names
    runs: tuple[FailureRun, ...]

    @property
    def unsound(self) -> tuple[FailureRun, ...]:
        """The runs in which a failure left something behind, or a retry did not complete the work."""
        return tuple(one for one in self.runs if not one.is_sound)

    def __repr__(self) -> str:
        lines: dict[tuple[str, ...], list[FaultPlan]] = {}
        for one in self.runs:
            lines.setdefault(self._line(one), []).append(one.plan)
        end = f"{len(self.unsound)} of them end badly" if self.unsound else "each ends well"
        shown = [(line[0], _due(plans), *line[1:]) for line, plans in lines.items()]
        kept = [at for at, blank in enumerate(_BLANK) if any(line[at] != blank for line in shown)]
        head, *cells = ([line[at] for at in kept] for line in (_HEAD, *shown))
        return f"{self.title}: {count_of(len(self.runs), 'run')}, {end}\n{text_table(head, cells)}"

    def _line(self, one: FailureRun) -> tuple[str, ...]:
        halves = groupby(one.calls[0].splits, lambda leaf: leaf.is_mirror)
        split = ["private " * mirror + " ".join(map(self._leaf, of)) for mirror, of in halves]
        return (
            ", ".join(what for call in one.calls for what in call.refused) or "none",
            str(sum(call.drops.count("resched") for call in one.calls)),
            ", then ".join(str(call.returned) for call in one.calls),
            ", ".join(split) or "nothing",
            listed(dict.fromkeys(what for call in one.calls for what in call.left)) or "nothing",
            f"differs: {', '.join(one.differs)}" if one.differs else "as without faults",
        )

    def _leaf(self, leaf: SplitLeaf) -> str:
        return self.names.span(leaf.span.start, leaf.span.end)


def _due(plans: Iterable[FaultPlan]) -> str:
    """The visits of plans that differ in them: ``1, 3-5``; where plans have two, their number."""
    due = [plan.resched for plan in plans]
    if max(map(len, due)) > 1:
        return count_of(len(due), "pair")
    runs = groupby(enumerate(sorted(visit for visits in due for visit in visits)), lambda at: at[1] - at[0])
    spans = ([visit for _, visit in span] for _, span in runs)
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans) or "never"
