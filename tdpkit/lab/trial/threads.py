"""Questions about two threads: every schedule under each lock, and under each rule for the flush.

The threads stand in the toys of `schedules`: a TD's mirror, and a plain VM's tree with one leaf of three
sizes. A split flushes at its end whatever it did (M0's rule for a pure split), unless the flush is in
question.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tdpkit.engine.events import Coroutine, Flush
from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_FILTER_SHARED, Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.tdx.kvm_tdx import tdx_honor_guest_accept_level

from ..schedules import POLICIES, PROPERTIES, Explorer, Found, Replay, search
from ..schedules.bodies import under_invalidation, under_lock, under_policy, zap
from ..schedules.machine import Machine
from ..schedules.scenarios import TWO_EDGES, plain_vm, private_td
from ..schedules.search import Build
from ..schedules.threads import Thread
from ..words import count_of, group_digits
from .answers import FAILS, HOLDS, NOTE, UNASKED, Answer, Bench
from .variant import PRIVATE, Variant

_MOST = 200_000
"""States at which a search stops; the engine's own split needs a hundredth."""
_MOST_FLUSH = 40_000
"""States of all policies together; the engine's own split needs a third."""
_BOTH = KVM_FILTER_PRIVATE | KVM_FILTER_SHARED
_ALWAYS = POLICIES["always"]
_LEAF = 4
"""Frames of the plain VM's one leaf; a TD's two leaves have half as many each."""


class Meeting(NamedTuple):
    """Two threads that meet: in words, and how they are made."""

    title: str
    build: Build


def _range(kvm: Kvm, span: GfnRange) -> KvmGfnRange:
    return KvmGfnRange(kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE if kvm.has_mirrored_tdp else _BOTH)


def _call(variant: Variant, kvm: Kvm, span: GfnRange, shared: bool) -> Coroutine[int]:
    """The variant's call, with the range protected as its callers protect it."""
    with kvm.slots_lock:
        return (yield from variant.call(kvm, _range(kvm, span), shared))


def _splitter(name: str, variant: Variant, kvm: Kvm, span: GfnRange, policy: str, shared: bool) -> Thread:
    def body() -> Coroutine[object]:
        return under_policy(_call(variant, kvm, span, shared), POLICIES[policy], shared=shared)

    return Thread(name, "split", span, body)


def _converting(variant: Variant, kvm: Kvm, span: GfnRange) -> Thread:
    """Split, zap, and flush before mmu_lock is dropped, while faults on the range retry."""

    def convert() -> Coroutine[int]:
        ret = yield from _call(variant, kvm, span, False)
        if ret == 0 and (yield from kvm_tdp_mmu_unmap_gfn_range(kvm, _range(kvm, span))):
            yield Flush()
        return ret

    return Thread("A", "convert", span, lambda: under_invalidation(kvm, span, convert()))


# ---- under the write lock ------------------------------------------------------------------------------


def _td_splits(variant: Variant, first: GfnRange, second: GfnRange) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = private_td()
    spans = {"A": first, "B": second}
    threads = (_splitter(name, variant, kvm, span, "always", False) for name, span in spans.items())
    return Machine(kvm, mirror=True, tracks=True), tuple(threads)


def _td_caches(variant: Variant) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = private_td()
    machine = Machine(kvm, mirror=True, tracks=True, cacheable=False, caches=dict.fromkeys("AB", "cache"))

    def thread(name: str, span: GfnRange) -> Thread:
        return Thread(name, "split", span, lambda: under_lock(_call(variant, kvm, span, False)))

    return machine, (thread("A", GfnRange(1, 2)), thread("B", GfnRange(3, 4)))


def _td_accept(variant: Variant) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = private_td()
    accept = Thread("V", "split", GfnRange(0, 1), partial(tdx_honor_guest_accept_level, kvm, 0, PG_LEVEL_4K))
    return Machine(kvm, mirror=True, tracks=True), (_converting(variant, kvm, GfnRange(1, 3)), accept)


def _plain_splits(
    variant: Variant, spans: tuple[GfnRange, GfnRange], policy: str, shared: bool
) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = plain_vm(3, 0, _LEAF)
    threads = tuple(
        _splitter(name, variant, kvm, span, policy, shared) for name, span in zip("AB", spans, strict=True)
    )
    return Machine(kvm, pages=3, words=POLICIES[policy].words), threads


def _plain_conversion(variant: Variant) -> tuple[Machine, tuple[Thread, ...]]:
    """As in the schedules: the first leaf is not mapped yet, the second is; the range takes half of each."""
    kvm = plain_vm(2, 2)

    def fault() -> Coroutine[int]:
        return kvm_tdp_mmu_page_fault(kvm, 0, is_private=False)

    return Machine(kvm), (
        _converting(variant, kvm, GfnRange(1, 3)),
        Thread("V", "fault", GfnRange(0, 1), fault),
    )


def _plain_zap(variant: Variant, shared: bool) -> tuple[Machine, tuple[Thread, ...]]:
    kvm, whole = plain_vm(3, 0), GfnRange(0, _LEAF)
    machine = Machine(kvm)
    split = _splitter("A", variant, kvm, GfnRange(2, 4), "always", shared)
    return machine, (split, Thread("B", "zap", whole, lambda: zap(machine.root, whole)))


_ONE_LEAF = GfnRange(1, 4)
"""Its start lies inside a leaf of four frames, and inside one of two when that is split."""


def write_lock(bench: Bench) -> Answer:
    """Two splits, two that share a cache of PAMT pages, a conversion beside an ACCEPT and beside a fault."""
    variant, td = bench.variant, partial(_td_splits, bench.variant)
    meetings = [
        Meeting("two splits of one range", partial(td, GfnRange(1, 3), GfnRange(1, 3))),
        Meeting("two splits of ranges that overlap", partial(td, GfnRange(1, 4), GfnRange(0, 3))),
        Meeting("two splits, one cache of PAMT pages", partial(_td_caches, variant)),
        Meeting("a conversion beside an ACCEPT", partial(_td_accept, variant)),
    ]
    if variant.form != PRIVATE:
        meetings += [
            Meeting(
                "two splits in a plain VM", partial(_plain_splits, variant, (_ONE_LEAF,) * 2, "always", False)
            ),
            Meeting("a conversion beside a fault", partial(_plain_conversion, variant)),
            Meeting("a split beside a zap", partial(_plain_zap, variant, False)),
        ]
    return _judged(meetings)


def read_lock(bench: Bench) -> Answer:
    """Two splits, and a split beside a zap, with mmu_lock held for read; the API allows it (S105)."""
    variant = bench.variant
    if not variant.takes_lock:
        return Answer(UNASKED, "", "it is not told how mmu_lock is held: its callers hold it for write")
    return _judged(
        [
            Meeting(
                "two splits of one range",
                partial(_plain_splits, variant, (GfnRange(2, 4),) * 2, "always", True),
            ),
            Meeting(
                "two splits, one of a wider range",
                partial(_plain_splits, variant, (GfnRange(2, 4), TWO_EDGES), "always", True),
            ),
            Meeting("a split beside a zap", partial(_plain_zap, variant, True)),
        ]
    )


def _judged(meetings: list[Meeting]) -> Answer:
    states = schedules = 0
    for meeting in meetings:
        explorer, found = _searched(meeting.build)
        states, schedules = states + found.states, schedules + (found.interleavings or 0)
        if found.witness:
            return Answer(FAILS, _extent(states, schedules), f"{meeting.title}: {_witness(explorer, found)}")
        if not found.complete:
            endless = f"{meeting.title}: more than {group_digits(_MOST)} states, no end"
            return Answer(FAILS, _extent(states, schedules), endless)
    titles = "; ".join(meeting.title for meeting in meetings)
    return Answer(HOLDS, _extent(states, schedules), f"nothing breaks: {titles}")


def _searched(build: Build, most: int = _MOST) -> tuple[Explorer, Found]:
    explorer = Explorer(build)
    return explorer, search(explorer, bound=most)


def _extent(states: int, schedules: int) -> str:
    return f"{count_of(states, 'state')}, {count_of(schedules, 'schedule')}"


def _witness(explorer: Explorer, found: Found) -> str:
    """The shortest schedule that breaks something, and what."""
    name, schedule = min(found.witness.items(), key=lambda item: len(item[1].moves))
    why = next((why.text for why in Replay(explorer, schedule).why if why.property == name), "")
    steps = count_of(len(schedule.moves), "step")
    return f"broken in {steps}: “{PROPERTIES[name]}”; {schedule}{f' ({why})' if why else ''}"


# ---- the flush -----------------------------------------------------------------------------------------


def flush_policies(bench: Bench) -> Answer:
    """Two splits under each flush policy and lock: where no TLB holds a split leaf at the return."""
    variant, states, schedules = bench.variant, 0, 0
    if not variant.takes_lock:
        return Answer(UNASKED, "", "BLOCK, TRACK and the kick before each DEMOTE flush for it")
    safe: list[str] = []
    unknown: list[str] = []
    stale: dict[str, list[int]] = {}
    for name, policy in POLICIES.items():
        complete = True
        for shared in (False, True):
            spans = (GfnRange(2, 4), TWO_EDGES)
            most = max(1, _MOST_FLUSH - states)
            _, result = _searched(partial(_plain_splits, variant, spans, name, shared), most)
            complete &= result.complete
            states, schedules = states + result.states, schedules + (result.interleavings or 0)
            if "no stale TLB" in result.witness:
                stale.setdefault(policy.title, []).append(len(result.witness["no stale TLB"].moves))
        if policy.title not in stale:
            (safe if complete else unknown).append(policy.title)
    told = f"safe under both locks: {'; '.join(safe) or 'none'}"
    if stale:
        steps = (f"{title} ({min(found)} steps)" for title, found in stale.items())
        told += f". A TLB is stale with: {'; '.join(steps)}"
    if unknown:
        told += f". Too many states to tell: {'; '.join(unknown)}"
    if _ALWAYS.title in unknown:
        return Answer(NOTE, _extent(states, schedules), told)
    return Answer(HOLDS if _ALWAYS.title in safe else FAILS, _extent(states, schedules), told)
