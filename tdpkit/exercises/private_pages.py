"""The exercises of notebook 05 on private pages: the calls of a demote in order, and a guess.

A submitted order is made on a fresh TDX module. A submission may be anything at all: what is of the wrong
kind is answered in words, and never raises. What an ACCEPT comes to is in `accepts`, who needs a split in
`callers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    GfnRange,
    InvalidTypeError,
    InvalidValueError,
)
from tdpkit.lab.layouts import TOY
from tdpkit.lab.td import Td
from tdpkit.lab.words import count_of
from tdpkit.tdx.abi import TDX_SUCCESS, status_name
from tdpkit.tdx.module import TdxModule

from .submission import items, shown, told, whole
from .verdict import Verdict, waiting

# ---- the calls of a demote -----------------------------------------------------------------------------

CALLS = ("BLOCK", "DEMOTE", "KICK", "TRACK")
"""What may be called, in no order: three SEAMCALLs, and KICK: every vCPU out of the TD and in again."""
KICKED = "done"
"""What stands in the place of a status after KICK, which is KVM's own doing."""
NO_ANSWER = "no answer, a table is there"
"""BLOCK of a table: the real module blocks it with all below, this model has no answer."""

_MOST_CALLS = 16
_MOST_MISSING = 5
_SUCCESS = status_name(TDX_SUCCESS)


class _Demote:
    """A TD with one huge leaf, accepted, that a vCPU inside has in its TLB; and who calls the module."""

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
    same. Raises InvalidTypeError or InvalidValueError for what is no list of such names.
    """
    return _made(_read_calls(calls))


def _read_calls(calls: Any) -> list[str]:
    listed = items(calls, _MOST_CALLS + 1)
    if listed is None or isinstance(calls, Mapping | set | frozenset):
        raise InvalidTypeError(f"an order is a list of names; {shown(calls)} is none")
    if len(listed) > _MOST_CALLS:
        raise InvalidValueError(f"these are more than {_MOST_CALLS} calls; a few are enough")
    for item in listed:
        if not isinstance(item, str) or item not in CALLS:
            raise InvalidValueError(f"a call is one of {', '.join(CALLS)}; {shown(item)} is none")
    return listed


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


def check_demote_order(calls: Any) -> Verdict:
    """Make the calls on a fresh module; right if DEMOTE succeeds, no call fails and none is needless.

    calls: a list of names of CALLS. The first call that fails is the counterexample, with its status and with
    what it would have taken.
    """
    if calls is ...:
        return _write_order()
    try:
        order = _read_calls(calls)
    except Exception as error:  # no list, no names, or objects that raise when they are asked
        listed = items(calls, _MOST_CALLS) or []
        return _write_order() if any(item is ... for item in listed) else Verdict(False, f"{told(error)}.")
    for at, (name, status) in enumerate(_made(order)):
        if _fails(status):
            missing = _missing(order, at)
            why = (
                f"{_joined(missing)} would still have to come before it"
                if missing
                else "nothing that comes before it would help"
            )
            return Verdict(False, f"call {at + 1}, {name}: {status}; {why}.")
    if "DEMOTE" not in order:
        made = ", ".join(order) or "no call"
        return Verdict(False, f"after {made} the leaf is a huge leaf still: nothing was demoted.")
    for at, name in enumerate(order):
        if _demotes([*order[:at], *order[at + 1 :]]):
            return Verdict(
                False, f"call {at + 1}, {name}, is one too many: without it DEMOTE succeeds as well."
            )
    return Verdict(
        True,
        "BLOCK stops new translations, TRACK begins an epoch, KICK empties the TLBs of the old one, and only "
        "then is the leaf nobody's, and may become a table.",
    )


def _write_order() -> Verdict:
    return waiting(f"a list, in order, of the calls that it takes; there are {', '.join(CALLS)}.")


# ---- a guess before the exhibit --------------------------------------------------------------------------

CONVERTED = GfnRange(5, 13)


def check_lost(guess: Any) -> Verdict:
    """How many frames outside CONVERTED the guest loses if it becomes shared and nothing is split first."""
    if guess is ...:
        return waiting("guess a number of frames.")
    td = Td()
    before = td.accepted()
    td.convert(CONVERTED.start, CONVERTED.end, "shared", "none")
    lost = td.lost(before, range(CONVERTED.start, CONVERTED.end))
    what = f"the guest loses {count_of(len(lost), 'frame')} outside the range: {frame_list(lost)}"
    if whole(guess) == len(lost):
        return Verdict(True, f"{what}. Both leaves went whole.")
    return Verdict(False, f"you said {shown(guess)}; {what}.")


def frame_list(frames: Sequence[int]) -> str:
    """``0 to 4 and 13 to 15``, for frames in order."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return _joined([str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
