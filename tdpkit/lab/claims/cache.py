"""Memory for a split that cannot be allocated under mmu_lock, and the lock of the cache that holds it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from tdpkit.engine.events import AllocTable, Coroutine, Event, External
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.guest_memfd import kvm_gmem_set_attributes
from tdpkit.engine.tdp_mmu import KvmBug, tdp_mmu_split_huge_pages_root
from tdpkit.tdx import kvm_tdx

from .. import cache_designs as designs
from ..budget import DYNAMIC, measure
from ..failures import every_failure
from ..faulted_call import FaultedCall
from ..layouts import TD_4LEVEL, TOY, full_of
from ..schedules import Explorer, Found, search
from ..schedules.bodies import one_topup, under_lock, under_mutex
from ..schedules.machine import Machine
from ..schedules.scenarios import private_td
from ..schedules.threads import Thread
from ..td import Td, bytes_of
from ..words import count_of, group_digits
from .claim import FAILS, HOLDS, HOLDS_IF, Claim, Finding, Lesson

# ---- how much ------------------------------------------------------------------------------------------


def _taken(layout: Any, start: int, end: int, room: int) -> int | None:
    """PAMT pages that a split takes; None if the VM dies of it."""
    try:
        pages = measure(layout, start, end, kind=DYNAMIC, room=room).pages
    except KvmBug:
        return None
    return pages.pamt_guest + pages.pamt_sept


def _two_pairs_suffice() -> Finding:
    """Split one 2M leaf of a TD with Dynamic PAMT, wherever the page of its new S-EPT table lies.

    Every edge inside a leaf of the toy, each with every place for that page in a region of the host; and x86.
    The cache is empty before, so the split has what one top-up brings. Sources: M9, S134, S176.
    """
    reserve = kvm_tdx.TDX_MIN_SPLIT_CACHE_SZ
    block = TOY.pages(PG_LEVEL_2M)
    toy, x86 = full_of(TOY, 2 * block, PG_LEVEL_2M), full_of(TD_4LEVEL, 1024, PG_LEVEL_2M)
    splits = [(toy, start, block, room) for start in range(1, block) for room in range(block)]
    splits += [(toy, block, end, room) for end in range(block + 1, 2 * block) for room in range(block)]
    splits += [(x86, 7, 512, room) for room in (0, 1, 511)]
    taken = [_taken(*split) for split in splits]
    used = sorted({pages for pages in taken if pages is not None})
    shown = (
        f"{count_of(len(taken), 'split')} with {reserve} PAMT pages in hand: they take "
        f"{' or '.join(map(str, used)) or 'none'}; {taken.count(max(used, default=0))} take the most; "
        f"{taken.count(None)} fail for want of a page."
    )
    return Finding(FAILS if None in taken else HOLDS, shown)


# ---- what must be there before -------------------------------------------------------------------------


def _without_topup(dynamic_pamt: bool) -> tuple[int | None, bool]:
    """Convert with empty caches that nobody tops up.

    Returns the errno, or None for a KVM_BUG, and whether the VM is dead.
    """
    td = Td(TOY, 16, dynamic_pamt=dynamic_pamt)
    td.tdx.free_caches()
    td.tdx.need_topup = lambda: False  # type: ignore[method-assign]
    try:
        return td.convert_by_file(6, 12), td.tdx.dead
    except KvmBug:
        return None, td.tdx.dead


def _only_pamt_must_be_ahead() -> Finding:
    """Refuse each request of a conversion that allocates on demand; then convert with no PAMT page in hand.

    A page table or an S-EPT page is missing while mmu_lock can be dropped, so a refusal is an errno. The hook
    takes PAMT pages under mmu_lock, halfway through the change of an entry. Sources: M8, S80, S135, S179.
    """
    failures = every_failure("conversion by file", "refusals", pamt="v3")
    first = [run.calls[0] for run in failures.runs]
    kinds = {what.split(" ", 1)[1] for call in first for what in call.refused}
    codes = {call.returned for call in first}
    bare, dead = _without_topup(True)
    plain, plain_dead = _without_topup(False)
    shown = (
        f"{count_of(len(first), 'request')} on demand, of {count_of(len(kinds), 'kind')}: each refused once, "
        f"the conversion returns {', '.join(map(str, sorted(map(str, codes))))}, and "
        f"{len(failures.unsound)} of {len(first)} end badly. With no PAMT page in hand under mmu_lock the VM "
        f"{'is dead' if dead else 'lives'}; without Dynamic PAMT, and with nothing in hand at all, it "
        f"{'is dead' if plain_dead else 'lives'} and the conversion returns {plain}."
    )
    holds = bool(first) and not failures.unsound and dead and bare != 0 and plain == 0 and not plain_dead
    return Finding(HOLDS if holds else FAILS, shown)


# ---- the lock of the cache -----------------------------------------------------------------------------


def _design(name: str) -> designs.DesignRow:
    return next(row for row in designs.cache_designs() if row.name == name)


def _under(row: designs.DesignRow) -> str:
    """How a design fared, in words."""
    if row.survives:
        return f"survives {count_of(row.interleavings, 'schedule')}"
    return f"fails after {count_of(len(row.witness.split()), 'step')}"


def _mutex_protects() -> Finding:
    """Let every schedule of two splits attack a cache under a mutex, one per vCPU, and one without either.

    The cache without either has a spinlock for each access, as each access here is one step. Sources: M8,
    S143, S179.
    """
    bare, mutex, own = map(_design, ("spinlock, no re-check", "mutex", "per vCPU"))
    shown = (
        f"One cache, each access protected, no more: {_under(bare)}. With a mutex for the whole call it "
        f"{_under(mutex)}; with a cache for each vCPU it {_under(own)}. Both splits take the "
        "mutex here; C33 has a conversion that does not."
    )
    return Finding(HOLDS if mutex.survives and own.survives and not bare.survives else FAILS, shown)


def _threads_of(td: Td) -> set[int | None]:
    """In which vCPU's thread the last calls asked for a table; None: in none."""
    return {event.vcpu for event in td.events if isinstance(event, AllocTable)}


def _ready(**options: Any) -> Td:
    td = Td(TOY, 16, dynamic_pamt=True, pamt="R2", **options)
    td.tdx.free_caches()
    td.forget()
    return td


def _hole_alone() -> Found:
    """A hole under the mutex and a conversion without it share the VM's cache: every schedule of the two."""

    def build() -> tuple[Machine, tuple[Thread, ...]]:
        kvm = private_td()
        machine = Machine(kvm, mirror=True, tracks=True, cacheable=False, caches={"A": "cache", "B": "cache"})

        def split(span: GfnRange) -> Coroutine[int]:
            return tdp_mmu_split_huge_pages_root(
                machine.root, span.start, span.end, PG_LEVEL_4K, shared=False, only_cross_boundary=True
            )

        hole, converted = GfnRange(1, 2), GfnRange(3, 4)
        return machine, (
            Thread("A", "split", hole, lambda: under_mutex(under_lock(split(hole)))),
            Thread("B", "split", converted, lambda: under_lock(one_topup(split(converted)))),
        )

    return search(Explorer(build))


def _conversions_need_it_too() -> Finding:
    """Convert outside any vCPU and inside one, punch a hole and ACCEPT; see whose cache each takes from.

    In the design of R2, where the thread decides. Then let a hole, under the mutex, meet a conversion that
    neither takes it nor asks again. How a VMM calls the ioctl is its own choice; the engine takes either.
    Sources: M9, S143, S179.
    """
    outside, inside, hole = _ready(), _ready(), _ready()
    accepting = Td(TOY, 16, accepted=False, dynamic_pamt=True, pamt="R2")
    outside.convert_by_file(3, 8)
    call = kvm_gmem_set_attributes(inside.gmem, *bytes_of(GfnRange(3, 8)), 0)
    inside.run(kvm_tdx.on_vcpu(inside.vcpu, call))
    hole.punch_hole(3, 5, whole_folios=False, split="v3")
    accepting.touch(3)
    accepting.tdx.free_caches()
    accepting.forget()
    accepting.accept(3)
    caches = {
        words: "the VM's" if None in td.tdx.pamt_caches else "the vCPU's"
        for words, td in (
            ("a conversion outside any vCPU", outside),
            ("a conversion in a vCPU's thread", inside),
            ("a hole", hole),
            ("an ACCEPT", accepting),
        )
    }
    found = _hole_alone()
    stolen = found.witness.get("no failure")
    takes = "; ".join(f"{words} takes {cache}" for words, cache in caches.items())
    shown = f"Whose cache a split takes from: {takes}. With the mutex for holes alone, " + (
        f"a split fails after {count_of(len(stolen.moves), 'step')}."
        if stolen
        else f"{group_digits(found.interleavings or 0)} schedules end well."
    )
    needs = _threads_of(outside) == {None} and None in outside.tdx.pamt_caches
    return Finding(HOLDS if needs and stolen else FAILS, shown)


class _AtHooks(FaultedCall):
    """Notes how mmu_lock is held when the hook of a split runs."""

    def __init__(self) -> None:
        super().__init__("conversion by file", pamt="v3")
        self.hooks: list[str] = []

    def answer(self, event: Event) -> Any:
        if isinstance(event, External) and event.op == "split":
            self.hooks.append(self.held)
        return super().answer(event)


def _a_spinlock_will_do() -> Finding:
    """See whether the hook runs under mmu_lock; let every schedule attack v3's design, and its kin.

    v3 asks again under mmu_lock after each drop whether it has to top up. Taken away: that re-check. In its
    place: the mutex. Sources: M9, S134, S143, S179.
    """
    hooked = _AtHooks()
    with suppress(KvmBug):  # hooks that ran are noted, and the search says what fails
        hooked.call()
    locked = sum(held == "write" for held in hooked.hooks)
    checked, bare, mutex = map(_design, ("spinlock, re-check", "spinlock, no re-check", "mutex"))

    def topups(row: designs.DesignRow) -> str:
        fewest, most = row.topups
        return count_of(most, "top-up") if fewest == most else f"{fewest} to {most} top-ups"

    shown = (
        f"{locked} of {len(hooked.hooks)} hooks run with mmu_lock held for write. The spinlock with a "
        f"re-check {_under(checked)}, with {topups(checked)} for two splits; without the re-check it "
        f"{_under(bare)}. The mutex {_under(mutex)}, with {topups(mutex)}."
    )
    if not hooked.hooks or locked < len(hooked.hooks) or not checked.survives:
        return Finding(FAILS, shown)
    if bare.survives:
        return Finding(HOLDS, shown)
    return Finding(
        HOLDS_IF, shown, "a split asks again under mmu_lock, after each drop, whether to top up, as v3 does"
    )


CLAIMS: tuple[Claim, ...] = (
    Claim(
        30,
        ("M9",),
        "Two pairs of PAMT pages for a 2M split",
        "For a split v3 20/24 pre-allocates PAMT pages and no others. They are two pairs: "
        "tdx_min_split_cache_sz() is twice tdx_dpamt_entry_pages().",
        "Nobody disputed it.",
        Lesson("07", "Three kinds of page"),
        _two_pairs_suffice,
    ),
    Claim(
        31,
        ("M8",),
        "Only Dynamic PAMT must allocate before",
        "The only necessary pre-allocation is the one for Dynamic PAMT. That allocation is done outside of "
        "KVM's control.",
        "M9: “Yes, patch 20 in this series just pre-allocates DPAMT pages for splitting.” R2 keeps a cache "
        "for them alone.",
        Lesson("07", "Sixteen gibibytes"),
        _only_pamt_must_be_ahead,
    ),
    Claim(
        32,
        ("M8",),
        "A mutex in PUNCH_HOLE protects the cache",
        "A mutex per VM, taken by kvm_gmem_punch_hole(), can protect the PAMT cache. That handles "
        "PUNCH_HOLE; a split for a mismatched ACCEPT uses the cache of its vCPU.",
        "The mutex came with RFC v5 44; R2 takes it outside mmu_lock, and uses the cache of the vCPU that "
        "runs, or else the VM's.",
        Lesson("07", "Which lock protects the cache?"),
        _mutex_protects,
    ),
    Claim(
        33,
        ("M9",),
        "Not only holes need the cache protected",
        "Not only PUNCH_HOLE needs the cache protected. KVM_SET_MEMORY_ATTRIBUTES2 is not guaranteed to run"
        " in the context of a vCPU either, so the mail asks why only the hole should.",
        "No mail answers it. R2 takes the mutex in the hook of the conversion, which covers it.",
        Lesson("07", "Which lock protects the cache?"),
        _conversions_need_it_too,
    ),
    Claim(
        34,
        ("M9",),
        "A spinlock protects the cache",
        "The cache is protected by a spinlock, prealloc_split_cache_lock. The split_external_spte() hook "
        "runs under mmu_lock, and the spinlock protects enqueuing and dequeuing.",
        "RFC v5 44 has a mutex in its place.",
        Lesson("07", "Which lock protects the cache?"),
        _a_spinlock_will_do,
    ),
    Claim(
        35,
        ("M9",),
        "An ACCEPT's split: the cache of its vCPU",
        "A split for an ACCEPT is to use the cache of its vCPU, in the future. The plan names a split under"
        " the shared mmu_lock.",
        "R2 uses the vCPU's cache; the split for an ACCEPT still runs under the write lock.",
        Lesson("07", "Which lock protects the cache?"),
        reason="It is a plan for the future: no series splits under the shared lock.",
    ),
)
