"""The mend of notebook 04: a split that lets the guest's ACCEPT succeed, written by the learner.

It is called as KVM calls it, under the write lock, for a frame and the level that the guest accepts, on one
TD after another. What counts is what the guest gets, and what else was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from tdpkit.engine.events import EIO, ENOMEM, Coroutine, Event, Lock, Unlock, run
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, Geometry
from tdpkit.engine.kvm import Kvm
from tdpkit.engine.tree import leaf_runs, map_leaf
from tdpkit.lab.layouts import TD_4LEVEL, TOY
from tdpkit.lab.td import Td
from tdpkit.lab.words import count_of
from tdpkit.tdx.abi import TDX_SUCCESS, status_name
from tdpkit.tdx.guest import td_accept
from tdpkit.tdx.module import SeptState

from .submission import shown, told, whole
from .verdict import Verdict, waiting

_MOST_EVENTS = 20_000
_WRITE = 'a coroutine, such as what kvm_tdp_mmu_mirrors_split_huge_pages returns, or one with "yield from"'


class Case(NamedTuple):
    """A TD, and the page of 4K that its guest accepts."""

    words: str
    geometry: Geometry
    gfn: int
    touched: tuple[int, ...]
    """Private frames that the guest touched before: KVM mapped a huge PENDING leaf around each."""
    shared_leaf: bool = False
    """A shared huge leaf lies at the same frame in the direct tree."""
    refused: str = ""
    """Requests for host memory of this kind are refused."""


CASES = (
    Case("in the middle of a leaf", TOY, 5, (5,)),
    Case("the first frame of a leaf, beside another one", TOY, 8, (0, 8)),
    Case("the last frame of a leaf, beside another one", TOY, 15, (15, 16)),
    Case("a shared leaf lies at the same frame", TOY, 5, (5,), shared_leaf=True),
    Case("nothing is mapped there yet", TOY, 5, (16,)),
    Case("nothing is mapped there, but a shared leaf is", TOY, 5, (), shared_leaf=True),
    Case("leaves of 512 frames", TD_4LEVEL, 0x205, (0x3, 0x205, 0x400), shared_leaf=True),
    Case("no page for the table", TOY, 5, (5,), refused="page table"),
    Case("no page for the S-EPT", TOY, 5, (5,), refused="S-EPT page"),
)
"""The easiest first."""


class _FaultError(Exception):
    """What is wrong with the submission, in words for a learner."""


def check_mend(split: Any) -> Verdict:
    """Attack ``split(kvm, gfn, level)``, KVM's split for an ACCEPT that finds a larger page.

    It returns a coroutine of the engine, whose value is 0 or a negative errno. mmu_lock is held for write.
    The first TD of CASES on which the guest does not get its page, or something else is changed, or an errno
    is lost, is the counterexample.
    """
    if split is ...:
        return waiting(f"write split(kvm, gfn, level), which returns {_WRITE}.")
    if not callable(split):
        return Verdict(False, f"split is a function of kvm, gfn and level; {shown(split)} is none.")
    for case in CASES:
        try:
            fault = _tried(case, split)
        except _FaultError as error:
            fault = str(error)
        except Exception as error:  # a submission may raise anything; the learner is told
            fault = f"it raised {type(error).__name__}: {told(error)}."
        if fault is None:
            return waiting(f"let split return {_WRITE}.")
        if fault:
            td = f"a TD with leaves of {count_of(case.geometry.pages(PG_LEVEL_2M), 'frame')}"
            return Verdict(False, f"{td}, {case.words}; the guest accepts frame {case.gfn:#x}: {fault}")
    refusals = sum(bool(case.refused) for case in CASES)
    return Verdict(
        True,
        f"{len(CASES)} TDs: the guest gets its page, no other leaf is split, in neither tree, and an errno "
        f"comes back as it is ({count_of(refusals, 'refusal')}).",
    )


# ---- one TD --------------------------------------------------------------------------------------------


def _tried(case: Case, split: Callable[..., Any]) -> str | None:
    """What is wrong, empty if nothing is; None if the submission is not written yet."""
    td = _made(case)
    kvm = td.kvm
    assert kvm.mirror_root is not None
    direct, mapped = leaf_runs(kvm.direct_root), _mapped(td)
    others = {gfn: level for gfn, level in mapped.items() if not _same_block(case, gfn)}
    if case.refused:
        td.tdx.pages.refuse = lambda number, what: what == case.refused
    unwritten: list[bool] = []
    said: list[int] = []

    def asked(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
        coroutine = split(kvm, gfn, level)
        if coroutine is ...:
            unwritten.append(True)
            return -EIO
        said.append((yield from _watched(coroutine)))
        return said[-1]

    def accept() -> int | None:
        if td.vcpu not in td.module.vcpus_inside:
            td.module.vp_enter(td.vcpu)
        got: int | None = run(td_accept(td.tdx, td.vcpu, case.gfn, PG_LEVEL_4K, split=asked), td.world)
        return got

    got = accept()
    if unwritten:
        return None
    if leaf_runs(kvm.direct_root) != direct:
        return f"the direct tree, which has the shared half, was {_now(direct)} and is {_now_of(td)}."
    now = _mapped(td)
    if case.refused:
        if now != mapped:
            return "it is refused, and the private tree is not what it was."
        td.tdx.pages.refuse = lambda number, what: False
        then, first = got, said[0]
        got, now = accept(), _mapped(td)
        if first != -ENOMEM:
            return (
                f"it is refused, and split returned {first} where {-ENOMEM} (-ENOMEM) is due. Then "
                f"{_guest(then)}; with memory there again, {_guest(got)}."
            )
    if got != TDX_SUCCESS:
        whole_leaf = " The leaf is whole still." if now.get(case.gfn) == PG_LEVEL_2M else ""
        return f"{_guest(got)}.{whole_leaf}"
    if td.state(case.gfn) != (SeptState.PRESENT, PG_LEVEL_4K):
        return f"the S-EPT has a page of level {td.state(case.gfn)[1]} there, not one of level 1."
    changed = [gfn for gfn, level in others.items() if now.get(gfn) != level]
    if changed:
        how = "split" if changed[0] in now else "gone"
        return f"the leaf that maps frame {changed[0]:#x} is {how} too; nobody asked for that."
    lost = sorted(gfn for gfn in mapped if gfn not in now)
    if lost:
        return (
            f"the guest gets its page, but {count_of(len(lost), 'frame')} of the leaf, the first of them "
            f"{lost[0]:#x}, are not mapped any more. A split keeps them."
        )
    return ""


def _made(case: Case) -> Td:
    block = case.geometry.pages(PG_LEVEL_2M)
    td = Td(case.geometry, 4 * block, accepted=False)
    for gfn in case.touched:
        td.touch(gfn)
    if case.shared_leaf:
        first = case.geometry.gfn_round_for_level(case.gfn, PG_LEVEL_2M)
        map_leaf(td.kvm.direct_root, first, PG_LEVEL_2M, 2 * td.frames + first)
    return td


def _mapped(td: Td) -> dict[int, int]:
    """Private frames that KVM maps -> the level of the leaf."""
    assert td.kvm.mirror_root is not None
    found: dict[int, int] = {}
    for run_ in leaf_runs(td.kvm.mirror_root):
        pages = run_.count * td.geometry.pages(run_.level)
        found |= dict.fromkeys(range(run_.gfn, run_.gfn + pages), run_.level)
    return found


def _same_block(case: Case, gfn: int) -> bool:
    block = case.geometry.pages(PG_LEVEL_2M)
    return gfn // block == case.gfn // block


def _now(runs: list[Any]) -> str:
    leaves = sum(run_.count for run_ in runs)
    return count_of(leaves, "leaf", "leaves")


def _now_of(td: Td) -> str:
    return _now(leaf_runs(td.kvm.direct_root))


def _guest(got: int | None) -> str:
    """What became of the ACCEPT."""
    if got is None:
        return "the guest accepts it for ever"
    if got < 0:
        return f"KVM gives up with {got}"
    return f"the guest gets {status_name(got)}"


# ---- a submission at work ------------------------------------------------------------------------------


def _watched(coroutine: Any) -> Coroutine[int]:
    """The submission's coroutine; raises _FaultError for what no split under the write lock does."""
    if not isinstance(coroutine, Generator):
        raise _FaultError(f"split returned {shown(coroutine)}; it has to return {_WRITE}.")
    held, answer = True, None
    for _ in range(_MOST_EVENTS):
        try:
            event = coroutine.send(answer)
        except StopIteration as stop:
            value = whole(stop.value)
            if value is None:
                raise _FaultError(
                    f"the coroutine returned {shown(stop.value)}; KVM wants 0 or a negative errno."
                ) from None
            if not held:
                raise _FaultError("it returned with mmu_lock dropped.") from None
            return value
        if not isinstance(event, Event):
            raise _FaultError(f"it handed out {shown(event)}, which is no event of the engine.")
        if isinstance(event, Lock | Unlock):
            if event.shared:
                raise _FaultError("it works under the read lock, and KVM holds mmu_lock for write here.")
            if held is isinstance(event, Lock):
                raise _FaultError("it takes mmu_lock, which KVM holds already.")
            held = isinstance(event, Lock)
        answer = yield event
    raise _FaultError(f"it goes on and on: {count_of(_MOST_EVENTS, 'event')} and no end.")
