"""The exercises of notebook 05: the calls of a demote, what an ACCEPT comes to, which callers need a split.

A submitted order is made on a fresh TDX module. An ACCEPT is made by a guest, in each situation that the
table names. Each of the four callers that zap or split private ranges is run on a small TD, with its split
and without, where a mapping is as large as its folio and where it is larger; the frames count that the guest
loses and should have kept.

Sources: the calls of a demote, S166, S167; the situations of an ACCEPT, S169, S173; the callers, M5
(aXHEpfcyHtaMcqPz@yzhao56-desk.sh.intel.com) and M7 (aW2Iwpuwoyod8eQc@yzhao56-desk.sh.intel.com);
S127, S128, S130-S131.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from tdpkit.engine.events import External, record
from tdpkit.engine.gfn import (
    PG_LEVEL_1G,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
)
from tdpkit.engine.splits import AcceptSplit, accept_split_mirrors
from tdpkit.lab.caller_runs import (
    CALLERS,
    FRAMES,
    CallerRun,
    larger_runs,
    no_accept_split,
    usual_runs,
)
from tdpkit.lab.layouts import TD_4LEVEL, TOY
from tdpkit.lab.td import Td
from tdpkit.lab.untrusted import shown
from tdpkit.lab.words import count_of, listed
from tdpkit.tdx.abi import STATUS_NAMES, TDX_SUCCESS, status_name
from tdpkit.tdx.guest import td_accept
from tdpkit.tdx.module import TdxModule

from .checking import Wrong, about, answered, check, items, one_of, ordered, refused, whole
from .guess import Guess, number

# ---- the calls of a demote -----------------------------------------------------------------------------

CALLS = ("BLOCK", "DEMOTE", "KICK", "TRACK")
"""The calls to put in order: three SEAMCALLs, and KICK: every vCPU out of the TD and in again."""
KICKED = "done"
"""Stands in the place of a status after KICK, which is KVM's own doing."""
NO_ANSWER = "no answer, a table is there"
"""BLOCK of a table: the real module blocks it with all below, this model has no answer."""

_MOST_CALLS = 16
_MOST_MISSING = 5
_SUCCESS = status_name(TDX_SUCCESS)


class _Demote:
    """A TD with one huge leaf, accepted, that a vCPU inside has in its TLB; and its caller, KVM."""

    def __init__(self) -> None:
        self.module = TdxModule(TOY)
        self.page = 1 << 20
        """Host frame of the next page for an S-EPT table: a fresh one for each DEMOTE."""
        self.module.vp_enter(0)
        self.module.mem_page_aug(0, PG_LEVEL_2M, 0)
        self.module.accept(0, PG_LEVEL_2M)
        self.module.access(0, 0)

    def call(self, name: str) -> str:
        module = self.module
        if name == "KICK":
            module.vp_exit(0)
            module.vp_enter(0)
            return KICKED
        self.page += 1
        calls: dict[str, Callable[[], int]] = {
            "BLOCK": lambda: module.mem_range_block(0, PG_LEVEL_2M),
            "TRACK": module.mem_track,
            "DEMOTE": lambda: module.mem_page_demote(0, PG_LEVEL_2M, self.page),
        }
        try:
            return status_name(calls[name]())
        except InvalidValueError:
            return NO_ANSWER


def run_demote(calls: Iterable[str]) -> list[tuple[str, str]]:
    """Make the calls in order on a fresh module, a vCPU inside; each with the name of its status.

    calls: names of CALLS, 16 at most. A call that fails changes nothing, and the next one is made all the
    same. Raises InvalidTypeError or InvalidValueError for anything but a list of such names.
    """
    return _made(_read_calls(calls))


def _read_calls(calls: Any) -> list[str]:
    found = None if isinstance(calls, Mapping | set | frozenset) else items(calls, _MOST_CALLS + 1)
    if found is None:
        raise InvalidTypeError(f"an order is a list of names, not {shown(calls)}")
    if len(found) > _MOST_CALLS:
        raise InvalidValueError(f"these are more than {_MOST_CALLS} calls; a few are enough")
    for item in found:
        if not isinstance(item, str) or item not in CALLS:
            raise InvalidValueError(f"a call is {listed(CALLS, 'or')}, not {shown(item)}")
    return found


def _made(calls: Sequence[str]) -> list[tuple[str, str]]:
    demote = _Demote()
    return [(name, demote.call(name)) for name in calls]


def _fails(status: str) -> bool:
    return status not in (_SUCCESS, KICKED)


def _demotes(calls: Sequence[str]) -> bool:
    """The leaf is a table afterwards, and no call failed."""
    statuses = _made(calls)
    return ("DEMOTE", _SUCCESS) in statuses and not any(_fails(status) for _, status in statuses)


def _missing(calls: Sequence[str], at: int) -> list[str] | None:
    """The fewest calls that have to be made before call `at` so that it succeeds, found by trying."""
    for count in range(1, _MOST_MISSING):
        for extra in product(("BLOCK", "TRACK", "KICK"), repeat=count):
            statuses = _made([*calls[:at], *extra, calls[at]])
            if not any(_fails(status) for _, status in statuses[at:]):
                return list(extra)
    return None


def _again(missing: Sequence[str], made: Sequence[str]) -> list[str]:
    """The missing calls by name; one that was made before, too early, is another."""
    return [f"another {name}" if name in made else name for name in missing]


@check(f"a list, in order, of the calls that it takes; there are {', '.join(CALLS)}.")
def check_demote_order(calls: Any) -> str:
    """Make the calls on a fresh module; right if DEMOTE succeeds, no call fails and none is needless.

    calls: a list of names of CALLS. The first call that fails is the counterexample, with its status and the
    calls that would still have to come before it.
    """
    order = _read_calls(calls)
    for at, (name, status) in enumerate(_made(order)):
        if _fails(status):
            missing = _missing(order, at)
            why = (
                f"{listed(_again(missing, order[:at]))} would still have to come before it"
                if missing
                else "nothing that comes before it would help"
            )
            raise Wrong(f"call {at + 1}, {name}: {status}; {why}.")
    if "DEMOTE" not in order:
        made = ", ".join(order) or "no call"
        raise Wrong(f"after {made} the leaf is still huge: nothing was demoted.")
    for at, name in enumerate(order):
        if _demotes([*order[:at], *order[at + 1 :]]):
            raise Wrong(f"call {at + 1}, {name}, is one too many: without it DEMOTE succeeds as well.")
    return (
        "BLOCK stops new translations, TRACK begins an epoch, and KICK, into a new epoch, empties the TLBs. "
        "Only then can no vCPU use the leaf, and it may become a table."
    )


# ---- a guess before the exhibit ------------------------------------------------------------------------

CONVERTED = GfnRange(5, 13)


@check("guess a number of frames.")
def check_lost(guess: Any) -> str:
    """How many frames outside CONVERTED the guest loses if it becomes shared and nothing is split first."""
    td = Td()
    before = td.accepted()
    td.convert(CONVERTED.start, CONVERTED.end, "shared", "none")
    lost = td.lost(before, range(CONVERTED.start, CONVERTED.end))
    what = f"the guest loses {count_of(len(lost), 'frame')} outside the range: {frame_list(lost)}."
    if whole(guess) != len(lost):
        raise Wrong(f"you said {shown(guess)}; {what}")
    return f"{what} Both leaves went whole."


def guess_lost() -> Guess:
    """Ask how many frames outside it a conversion of [5, 13) costs, without a split."""
    return number(
        f"Frames [{CONVERTED.start}, {CONVERTED.end}) become shared, and nothing is split first; every leaf "
        "maps eight frames. How many frames outside the range does the guest lose?",
        "frames lost",
        32,
        check_lost,
    )


def frame_list(frames: Sequence[int]) -> str:
    """``0 to 4 and 13 to 15``, for frames in order."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return listed(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


# ---- what an ACCEPT comes to ---------------------------------------------------------------------------


class _Situation(NamedTuple):
    """The level that the guest accepts, and the leaf that it finds."""

    level: int
    mapped: int
    """Level of the leaf there, 0 for none."""
    accepted: bool = False
    """The leaf was accepted before; else it is PENDING."""


ACCEPTS: dict[str, _Situation] = {
    "4K, nothing mapped": _Situation(PG_LEVEL_4K, 0),
    "4K, a 4K page PENDING": _Situation(PG_LEVEL_4K, PG_LEVEL_4K),
    "4K, a 2M page PENDING": _Situation(PG_LEVEL_4K, PG_LEVEL_2M),
    "4K, a 2M page accepted": _Situation(PG_LEVEL_4K, PG_LEVEL_2M, True),
    "2M, nothing mapped": _Situation(PG_LEVEL_2M, 0),
    "2M, a 2M page PENDING": _Situation(PG_LEVEL_2M, PG_LEVEL_2M),
    "2M, a 4K page PENDING": _Situation(PG_LEVEL_2M, PG_LEVEL_4K),
    "1G, nothing mapped": _Situation(PG_LEVEL_1G, 0),
}
"""A question, and the situation that it is about."""
SPLIT = ("nothing", "2M", "4K")
"""The sizes of leaf that an ACCEPT may have to split."""
_FRAME = 0x205


class _Accepted(NamedTuple):
    """The outcome of an ACCEPT."""

    split: str
    """The size of the leaf that was split, of SPLIT."""
    status: int | None
    """The status that the guest gets; None if it accepts for ever."""
    exits: int
    """Exits to KVM."""


def _accepted(case: _Situation, split: AcceptSplit = accept_split_mirrors) -> _Accepted:
    block = TD_4LEVEL.pages(PG_LEVEL_2M)
    td = Td(TD_4LEVEL, 2 * block, accepted=False, folio_level=case.mapped or PG_LEVEL_2M)
    if case.mapped:
        td.touch(_FRAME)
    gfn = 0 if case.level == PG_LEVEL_1G else TD_4LEVEL.gfn_round_for_level(_FRAME, case.level)
    if case.accepted:
        td.accept(TD_4LEVEL.gfn_round_for_level(_FRAME, case.mapped), case.mapped)
    td.forget()
    status = record(td_accept(td.tdx, td.vcpu, gfn, case.level, split=split), td.world).result
    levels = [event.level for event in td.events if isinstance(event, External) and event.op == "split"]
    name = TD_4LEVEL.level(levels[0]).label if levels else "nothing"
    exits = sum(call.name.startswith("TDG.") and call.status is None for call in td.calls)
    return _Accepted(name, status, exits)


def _ask_accept(situation: str) -> str:
    return (
        f"ACCEPT of {situation}: what has to be split ({', '.join(SPLIT)}), and which status does the guest "
        "get in the end?"
    )


@check()
def check_accept(answers: Any) -> str:
    """Let a guest accept in each situation of ACCEPTS, and compare with the answers.

    answers: a dict, for each of ACCEPTS a pair: what has to be split, of SPLIT, and the status that the guest
    gets in the end, by name ("TDX_SUCCESS", ...) or by number.
    """
    for question, said in answered(answers, ACCEPTS, "a pair for each question", _ask_accept):
        with about(question):
            _hold_accept(ACCEPTS[question], said)
    return (
        f"all {len(ACCEPTS)}. Only a PENDING page larger than the accepted one has to be split; a smaller "
        "one cannot be mended, and the guest is told so."
    )


def _hold_accept(case: _Situation, said: Any) -> None:
    """Raise Wrong unless the pair `said` is what the ACCEPT comes to."""
    pair = ordered(said, 2)
    if pair is None:
        raise refused("a pair is wanted, (what is split, status)", said)
    split, status = one_of(pair[0], SPLIT, "what is split"), _status(pair[1])
    if status is None:
        raise refused('a status is a name such as "TDX_SUCCESS"', pair[1])
    came = _accepted(case)
    if split != came.split:
        claim = "nothing is split" if split == "nothing" else f"a leaf of {split} is split"
        raise Wrong(f"you said that {claim}; {_why(case, came)}.")
    if came.status is None or status != status_name(came.status):
        got = status_name(came.status) if came.status is not None else "nothing, for ever"
        raise Wrong(f"you said {status}; the guest gets {got}, {_after(came)}.")


def _status(status: Any) -> str | None:
    """The name of a status, as a learner may write it."""
    if isinstance(status, str):
        name = status.strip().upper()
        name = name if name.startswith("TDX_") else f"TDX_{name}"
        return name if name in STATUS_NAMES.values() else None
    value = whole(status)
    return None if value is None else STATUS_NAMES.get(value)


def _after(came: _Accepted) -> str:
    return f"after {count_of(came.exits, 'exit')} to KVM" if came.exits else "and KVM is not asked at all"


def _why(case: _Situation, came: _Accepted) -> str:
    """Tell the outcome, and, where a split was made, the outcome without it."""
    if came.split == "nothing":
        return f"no leaf is, {_after(came)}"
    without = _accepted(case, no_accept_split).status
    gets = "the guest accepts for ever" if without is None else f"it gets {status_name(without)}"
    return f"KVM splits a leaf of {came.split}, and without that {gets}"


# ---- the callers ---------------------------------------------------------------------------------------

REASONS = {
    "always": "every call does, whatever range it is made for",
    "edge": "some calls do: those with an edge inside a leaf, even where no mapping is larger than its folio",
    "folio": "no call does, as long as no mapping is larger than its folio",
    "never": "no call does, even where a mapping is larger than its folio",
}
"""The answers to "does this caller need a split?"; one of them holds for each caller."""
# ---- which of them need a split ------------------------------------------------------------------------


def _ask_caller(caller: str) -> str:
    return f"{caller}: does it need a split? One of {', '.join(REASONS)}."


@check()
def check_callers(answers: Any) -> str:
    """Make every call of each caller on a small TD, with a split and without, and compare with the answers.

    answers: a dict, for each of CALLERS a key of REASONS. The counterexample is a call: it loses frames, or
    leaves the guest stuck, though the answer sees no need of a split there; or it needs none and the answer
    sees one.
    """
    for caller, said in answered(answers, CALLERS, "a reason for each caller", _ask_caller):
        with about(caller):
            reason = one_of(said, REASONS, "a reason")
        if fault := _refuted(caller, reason):
            raise Wrong(f"{caller}, “{reason}”: {fault}.")
    return (
        "a conversion may begin and end anywhere, so its edges decide. An ACCEPT of less than is mapped "
        "meets a leaf that is too large by definition. The other two take whole folios, and rely on no "
        "mapping being larger."
    )


def _refuted(caller: str, said: str) -> str:
    """The call, or calls, that speak against the answer; empty if it holds."""
    made = [call for call in usual_runs(caller) if not call.refused]
    needing = [call for call in made if call.needs_split]
    spared = [call for call in made if not call.needs_split]
    if said == "always":
        return _needless(spared[0]) if spared else ""
    if said == "edge":
        return "" if needing and spared else _all_alike(made, len(usual_runs(caller)) - len(made))
    if needing:
        return f"no mapping is larger than its folio here, and {_amiss(_worst(needing))}"
    larger = [call for call in larger_runs(caller) if call.needs_split]
    if said == "never":
        return f"let a mapping be larger than its folio: {_amiss(_worst(larger))}" if larger else ""
    return "" if larger else "a mapping that is larger than its folio makes no difference"


def _worst(calls: Sequence[CallerRun]) -> CallerRun:
    """The call that loses most."""
    return max(calls, key=lambda call: len(call.lost))


def _amiss(call: CallerRun) -> str:
    if call.stuck:
        helped = "; with one it gets the page" if call.mended else ""
        return f"{call.words}: without a split it accepts for ever{helped}"
    lost = f"{count_of(len(call.lost), 'frame')} outside, {frame_list(call.lost)}"
    helped = "; with one, none" if call.mended else ""
    return f"{call.words}: without a split the guest also loses {lost}{helped}"


def _needless(call: CallerRun) -> str:
    made = count_of(call.splits, "leaf", "leaves") if call.splits else "nothing"
    return f"{call.words}: nothing else is lost without a split, which splits {made}"


def _all_alike(made: Sequence[CallerRun], refused: int) -> str:
    """All calls need a split, or none of them does."""
    every = f"all {count_of(len(made), 'call')} on a TD of {FRAMES} frames"
    if made[0].needs_split:
        alike = "need a split, at the edge of the leaf and inside it alike"
        return f"{every} {alike}. One of them: {_amiss(made[0])}"
    if refused:
        return (
            f"on a TD of {FRAMES} frames {refused} calls, those with an edge inside a folio, are refused; "
            f"the other {len(made)} lose nothing else without a split"
        )
    return f"{every} lose nothing else without a split. One of them: {_needless(made[0])}"
