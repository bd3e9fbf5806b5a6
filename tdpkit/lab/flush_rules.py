"""When to flush after a split: each rule, attacked by every schedule of each of M0's three uses.

The patch reports no "split" and no "flush", so each caller needs a rule of its own (S106). A use is two or
three threads in a toy of the schedules. Those that split flush as the rule says: a conversion after its zap,
with mmu_lock still held (S210), the others after they dropped it. A rule fails where a TLB may hold, at the
return, a leaf that the call was to be rid of, or where a write that should be logged is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from tdpkit.engine.events import Coroutine, Event, Flush, Trace
from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.tdx.kvm_tdx import tdx_honor_guest_accept_level

from .schedules import Explorer, Replay, Schedule, search
from .schedules.bodies import (
    guest_write,
    passed_on,
    split_and_track,
    split_and_zap,
    under_invalidation,
    under_lock,
)
from .schedules.machine import Machine
from .schedules.scenarios import plain_vm, private_td
from .schedules.threads import Thread
from .words import known_name

T = TypeVar("T")


class Rule(NamedTuple):
    """A rule: in words, and whether it flushes, by the numbers of entries that a call split and changed."""

    words: str
    flushes: Callable[[int, int], bool]


RULES = {
    "never": Rule("no flush", lambda split, changed: False),
    "if I split": Rule("a flush if this call split a leaf itself", lambda split, changed: split > 0),
    "if I changed": Rule(
        "a flush if this call changed an entry itself: by a split, a zap, or a dirty bit cleared",
        lambda split, changed: changed > 0,
    ),
    "always": Rule("a flush, whatever this call did", lambda split, changed: True),
}
"""By name, the one with the fewest flushes first: a call that split has also changed."""


# ---- what a call did, and the flush ----------------------------------------------------------------------


def _counted(call: Coroutine[T], did: list[int]) -> Coroutine[T]:
    """Make `call`; count in `did` the entries that it split, and those that it changed."""

    def each(event: Event) -> Coroutine[Any]:
        answer = yield event
        if isinstance(event, Trace):
            did[0] += event.name == "kvm_mmu_split_huge_page" and event.errno == 0
            did[1] += event.name == "kvm_tdp_mmu_spte_changed"
        return answer

    return passed_on(call, each)


def _flush(rule: str, did: list[int]) -> Coroutine[None]:
    if RULES[rule].flushes(*did):
        yield Flush()


def _then_flush(call: Callable[[], Coroutine[int]], rule: str) -> Coroutine[int]:
    """Make a call that takes mmu_lock and gives it back, and flush as `rule` says."""
    did = [0, 0]
    ret = yield from _counted(call(), did)
    yield from _flush(rule, did)
    return ret


# ---- the uses --------------------------------------------------------------------------------------------

Threads = tuple[Machine, tuple[Thread, ...]]


def _accepts(rule: str) -> Threads:
    """Two vCPUs accept a page each of one PENDING leaf, and the first to come splits it."""
    kvm = private_td()
    machine = Machine(kvm, mirror=True, cacheable=False, tracks=True)

    def vcpu(name: str, gfn: int) -> Thread:
        call = partial(tdx_honor_guest_accept_level, kvm, gfn, PG_LEVEL_4K)
        return Thread(name, "split", GfnRange(gfn, gfn + 1), partial(_then_flush, call, rule))

    return machine, (vcpu("V", 0), vcpu("W", 1))


def _conversion(rule: str) -> Threads:
    """A converts one frame of a leaf of two; a vCPU faults on the other, at 4K, which splits the leaf too.

    The tree is a plain VM's: the TDX side is left out.
    """
    kvm, span = plain_vm(PG_LEVEL_2M, 2), GfnRange(2, 3)

    def flushing() -> Coroutine[int]:
        did = [0, 0]
        ret, _ = yield from _counted(split_and_zap(kvm, span), did)
        yield from _flush(rule, did)
        return ret

    def convert() -> Coroutine[int]:
        return under_invalidation(kvm, span, flushing())

    def fault() -> Coroutine[int]:
        return kvm_tdp_mmu_page_fault(kvm, 3, is_private=False, max_level=PG_LEVEL_4K)

    return Machine(kvm), (
        Thread("A", "convert", span, convert),
        Thread("V", "fault", GfnRange(3, 4), fault),
    )


def _dirty_logging(rule: str) -> Threads:
    """A and B split the same leaf and clear the dirty bits of one part of it; the guest writes there."""
    machine, span = Machine(plain_vm(PG_LEVEL_1G, 0)), GfnRange(2, 4)

    def track() -> Coroutine[int]:
        split = tdp_mmu_split_huge_pages_root(
            machine.root, span.start, span.end, PG_LEVEL_4K, shared=False, only_cross_boundary=True
        )
        return under_lock(split_and_track(machine.root, split, span))

    body = partial(_then_flush, track, rule)
    return machine, (
        Thread("A", "track", span, body),
        Thread("B", "track", span, body),
        Thread("G", "guest", GfnRange(2, 3), partial(guest_write, 2)),
    )


_USES: dict[str, Callable[[str], Threads]] = {
    "fault path of a TD": _accepts,
    "conversion": _conversion,
    "dirty logging": _dirty_logging,
}
USES = tuple(_USES)
"""M0's three; the last, a pure split as for PML, is "just hypothetical" there."""


# ---- the attack ------------------------------------------------------------------------------------------

_HARMS = ("no lost dirty bit", "no stale TLB", "translations", "no failure")
"""Properties whose loss harms somebody, the one that is felt first."""


class Attack(NamedTuple):
    """A rule under every schedule: the shortest that harms, or None; and why, in a sentence."""

    use: str
    rule: str
    states: int
    interleavings: int
    witness: Schedule | None
    why: str


@cache
def attack(use: str, rule: str) -> Attack:
    """Let every schedule of `use` (of USES) attack `rule` (of RULES).

    Raises InvalidValueError for other names.
    """
    known_name(use, USES, "a use")
    known_name(rule, RULES, "a rule")
    explorer = Explorer(partial(_USES[use], rule))
    found = search(explorer)
    assert found.interleavings is not None, "explored whole"
    for harm in _HARMS:
        if witness := found.witness.get(harm):
            [why] = [why.text for why in Replay(explorer, witness).why if why.property == harm]
            return Attack(use, rule, found.states, found.interleavings, witness, why)
    return Attack(use, rule, found.states, found.interleavings, None, "")
