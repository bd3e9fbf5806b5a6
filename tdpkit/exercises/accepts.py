"""The exercise of notebook 05 on ACCEPT: what has to be split, and which status the guest gets.

Each situation is laid out on a TD, and the guest accepts. A submission may be anything at all: what is of the
wrong kind is answered in words, and never raises. Source of the situations: kernel-facts 8.10, 8.14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine, External, record
from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K
from tdpkit.engine.kvm import Kvm
from tdpkit.engine.splits import AcceptSplit, accept_split_mirrors
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.td import Td
from tdpkit.lab.words import count_of
from tdpkit.tdx.abi import STATUS_NAMES, status_name
from tdpkit.tdx.guest import td_accept

from .submission import answer_to, items, shown, whole
from .verdict import Verdict, waiting


class _Situation(NamedTuple):
    """What the guest accepts, and what it finds."""

    level: int
    mapped: int
    """Level of the leaf there, 0 for none."""
    accepted: bool = False
    """Before; else it is PENDING."""


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
"""A question: the level that the guest accepts, and what is mapped there."""
SPLIT = ("nothing", "2M", "4K")
"""What may have to be split."""
_FRAME = 0x205


class _Came(NamedTuple):
    """What an ACCEPT came to."""

    split: str
    """The size of the leaf that was split, of SPLIT."""
    status: int | None
    """What the guest gets; None if it accepts for ever."""
    exits: int
    """Exits to KVM."""


def _no_accept_split(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    yield from ()
    return 0


def _accepted(case: _Situation, split: AcceptSplit = accept_split_mirrors) -> _Came:
    block = TD_4LEVEL.pages(PG_LEVEL_2M)
    td = Td(TD_4LEVEL, 2 * block, accepted=False, folio_level=case.mapped or PG_LEVEL_2M)
    if case.mapped:
        td.touch(_FRAME)
    gfn = 0 if case.level == PG_LEVEL_1G else TD_4LEVEL.gfn_round_for_level(_FRAME, case.level)
    if case.accepted:
        td.accept(TD_4LEVEL.gfn_round_for_level(_FRAME, case.mapped), case.mapped)
    td.forget()
    did = record(td_accept(td.tdx, td.vcpu, gfn, case.level, split=split), td.world)
    levels = [event.level for event in did.events if isinstance(event, External) and event.op == "split"]
    name = TD_4LEVEL.level(levels[0]).label if levels else "nothing"
    exits = sum(call.name.startswith("TDG.") and call.status is None for call in td.calls)
    return _Came(name, did.result, exits)


def check_accept(answers: Any) -> Verdict:
    """Let a guest accept in each situation of ACCEPTS, and compare with what was said.

    answers: a dict, for each of ACCEPTS a pair: what has to be split, of SPLIT, and the status that the guest
    gets in the end, by name ("TDX_SUCCESS", ...) or by number.
    """
    if answers is not ... and not isinstance(answers, Mapping):
        return Verdict(False, f"the answers are a dict, a pair for each question; {shown(answers)} is none.")
    for question, case in ACCEPTS.items():
        said = answer_to(answers, question)
        pair = said if said is ... else items(said, 3)
        if pair is ... or (pair and any(part is ... for part in pair)):
            return waiting(
                f"ACCEPT of {question}: what has to be split ({', '.join(SPLIT)}), and which status does the "
                "guest get in the end?"
            )
        if pair is None or isinstance(said, Mapping | set | frozenset) or len(pair) != 2:
            return Verdict(
                False, f"{question}: a pair is wanted, (what is split, status); {shown(said)} is none."
            )
        split, status = pair
        if not isinstance(split, str) or split not in SPLIT:
            return Verdict(
                False, f"{question}: what is split is one of {', '.join(SPLIT)}; {shown(split)} is none."
            )
        name = _status(status)
        if name is None:
            return Verdict(
                False, f'{question}: a status is a name such as "TDX_SUCCESS"; {shown(status)} is none.'
            )
        came = _accepted(case)
        if split != came.split:
            return Verdict(False, f"{question}: you said that {_is_split(split)}; {_why(case, came)}.")
        if came.status is None or name != status_name(came.status):
            got = status_name(came.status) if came.status is not None else "nothing, for ever"
            return Verdict(False, f"{question}: you said {name}; the guest gets {got}, {_after(came)}.")
    return Verdict(
        True,
        f"{len(ACCEPTS)} times. Only a page that is larger than what is accepted, and PENDING, has to be "
        "split; one that is smaller cannot be mended, and the guest is told so.",
    )


def _status(status: Any) -> str | None:
    """The name of a status, as a learner may write it."""
    if isinstance(status, str):
        name = status.strip().upper()
        name = name if name.startswith("TDX_") else f"TDX_{name}"
        return name if name in STATUS_NAMES.values() else None
    number = whole(status)
    return None if number is None else STATUS_NAMES.get(number)


def _is_split(what: str) -> str:
    return "nothing is split" if what == "nothing" else f"a leaf of {what} is split"


def _after(came: _Came) -> str:
    return f"after {count_of(came.exits, 'exit')} to KVM" if came.exits else "and KVM is not asked at all"


def _why(case: _Situation, came: _Came) -> str:
    """What happened, and, where a split was made, what happens without it."""
    if came.split == "nothing":
        return f"no leaf is, {_after(came)}"
    without = _accepted(case, _no_accept_split)
    gets = (
        "the guest accepts for ever" if without.status is None else f"it gets {status_name(without.status)}"
    )
    return f"KVM splits a leaf of {came.split}, and without that {gets}"
