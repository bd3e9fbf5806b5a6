"""The scenarios: which threads meet, under which lock, with which pages and which flush policy.

:class:`Setting` is one experiment; :data:`SCENARIOS` names those that the notebooks and the command show. All
are of a toy: two entries to a table, one leaf of four frames (in place of 1G) with two frames on each side of
an edge, so that one split does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange, InvalidValueError
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import map_leaf
from tdpkit.tdx.kvm_tdx import tdx_honor_guest_accept_level

from ..words import check_flag, known_name
from .bodies import (
    POLICIES,
    convert,
    guest_write,
    one_topup,
    split_and_track,
    split_with_pages_in_hand,
    split_without_restart,
    under_invalidation,
    under_lock,
    under_mutex,
    under_policy,
    zap,
)
from .machine import Machine, WatchedPool
from .search import Build
from .threads import Report, Thread

GEOMETRY = Geometry(index_bits=1, root_level=3, max_leaf_level=3)
"""Eight frames: two entries of four frames in the root, of two and of one below."""
SPAN = GfnRange(2, 4)
"""A range whose start lies inside the first leaf, so that one split does."""
TWO_EDGES = GfnRange(2, 6)
"""A range whose end lies inside a second leaf."""
RANGES = {
    "one edge": (SPAN, SPAN),
    "B wider": (SPAN, TWO_EDGES),
    "two edges": (TWO_EDGES, TWO_EDGES),
}
"""The ranges of A and B; C has A's."""
_ROWS = 24

LOCKS = ("shared", "exclusive")
PAGES = {"on demand": "drop mmu_lock to allocate", "in hand": "allocated before mmu_lock is taken"}
BUGS = {
    "none": "",
    "plain store": "a plain store in place of the compare-and-exchange",
    "no restart": "no restart after mmu_lock was dropped",
}
OTHERS = {
    "split": "B splits the same range",
    "zap": "B zaps the whole leaf",
    "fault": "a vCPU faults at 4K, which splits the leaf",
    "two": "B and C split the same range",
    "split, zap": "B splits the same range, C zaps the whole leaf",
}
CACHES = {
    "spinlock, no re-check": "planted: after its top-up a thread does not ask again",
    "spinlock, re-check": "v3 19/24: it asks again under mmu_lock after each drop",
    "mutex": "M8, R2: a mutex, taken outside mmu_lock and held for the whole call",
    "per vCPU": "M8, for an ACCEPT: each vCPU has a cache of its own, and does not ask again",
}


class Setting(NamedTuple):
    """One experiment. use: what thread A and its like are for, of USES."""

    use: str = "split"
    lock: str = "shared"
    pages: str = "on demand"
    flush: str = "own split"
    other: str = "split"
    ranges: str = "one edge"
    bug: str = "none"
    cache: str = "none"
    pending: bool = True
    """The guest has not accepted the leaf (use "accept"): no TLB can hold it."""
    tracks: bool = True
    """DEMOTE comes after BLOCK, TRACK and a kick (use "accept"): they take the leaf out of every TLB."""
    invalidate: bool = True
    """A conversion makes faults on its range retry (use "convert")."""
    resched: bool = False
    """A reschedule is due at every visit."""


USES = {
    "split": "a pure split: tdp_mmu_split_huge_pages_root, with the patch's flag",
    "track": "a split for dirty tracking, and the guest writes",
    "convert": "split, zap and flush, and a vCPU faults",
    "accept": "two vCPUs ACCEPT 4K of one leaf",
    "cache": "two conversions split leaves of a TD, with Dynamic PAMT pages from a cache",
}


_SPLIT_FIELDS = ("lock", "pages", "flush", "ranges", "bug", "resched")
_FIELDS_OF = {
    "split": (*_SPLIT_FIELDS, "other"),
    "track": _SPLIT_FIELDS,
    "convert": ("invalidate", "resched"),
    "accept": ("pending", "tracks"),
    "cache": ("cache",),
}
"""What can be set for a use."""


def build_of(setting: Setting) -> Build:
    """How the machine of `setting` is made.

    Raises InvalidValueError for an unknown name, for a field that the use has not, and for a bug or a cache
    that cannot be.
    """
    known_name(setting.use, USES, "a use")
    known_name(setting.lock, LOCKS, "a lock")
    known_name(setting.pages, PAGES, "a way to get pages")
    known_name(setting.flush, POLICIES, "a flush policy")
    known_name(setting.other, OTHERS, "what others do")
    known_name(setting.ranges, RANGES, "a pair of ranges")
    known_name(setting.bug, BUGS, "a bug")
    known_name(setting.cache, ("none", *CACHES), "a cache design")
    for name in ("pending", "tracks", "invalidate", "resched"):
        check_flag(getattr(setting, name), name)
    for name in Setting._fields[1:]:
        value, usual = getattr(setting, name), Setting._field_defaults[name]
        if name not in _FIELDS_OF[setting.use] and value != usual:
            raise InvalidValueError(
                f"use {setting.use} has no {name}: it stays {usual!r}; {value!r} is given"
            )
    if setting.bug == "plain store" and setting.lock != "shared":
        raise InvalidValueError("a plain store is a bug under the shared lock; this one is exclusive")
    if setting.bug == "no restart" and setting.pages != "on demand":
        raise InvalidValueError("a restart follows a drop of mmu_lock for a page; pages in hand need none")
    if setting.use == "cache" and setting.cache == "none":
        raise InvalidValueError(f"use cache needs a cache design: {', '.join(CACHES)}")
    return partial(_BUILDERS[setting.use], setting)


def plain_vm(level: int, *firsts: int) -> Kvm:
    """A plain VM with leaves of `level` at these frames, and host memory behind all of them."""
    slot = KvmMemorySlot(0, GEOMETRY.root_pages, host_pfn=0, host_level=level)
    kvm = Kvm(KVM_X86_DEFAULT_VM, GEOMETRY, pool=WatchedPool(GEOMETRY, _ROWS), memslots=[slot])
    for gfn in firsts:
        map_leaf(kvm.direct_root, gfn, level, gfn)
    return kvm


def private_td() -> Kvm:
    """A TD with two private leaves of two frames, the largest that the series maps."""
    kvm = Kvm(KVM_X86_TDX_VM, GEOMETRY, pool=WatchedPool(GEOMETRY, _ROWS))
    assert kvm.mirror_root is not None
    for gfn in (0, 2):
        map_leaf(kvm.mirror_root, gfn, 2, gfn)
    return kvm


def _split_call(setting: Setting, machine: Machine, number: int) -> Coroutine[int]:
    """The split by thread `number`."""
    root, span = machine.root, _span(setting, number)
    shared = setting.lock == "shared" and setting.bug != "plain store"
    if setting.bug == "no restart":
        return split_without_restart(root, span, shared=shared)
    if setting.pages == "in hand":
        return split_with_pages_in_hand(root, span, machine.hands[number], shared=shared)
    return tdp_mmu_split_huge_pages_root(
        root, span.start, span.end, PG_LEVEL_4K, shared=shared, only_cross_boundary=True
    )


def _span(setting: Setting, number: int) -> GfnRange:
    return RANGES[setting.ranges][number % 2]


def _split_thread(setting: Setting, machine: Machine, number: int) -> Thread:
    shared, plain_store = setting.lock == "shared", setting.bug == "plain store"
    policy, span = POLICIES[setting.flush], _span(setting, number)

    def body() -> Coroutine[Report]:
        call = _split_call(setting, machine, number)
        if setting.use == "track":
            call = split_and_track(machine.root, call, span)
        return under_policy(call, policy, shared=shared and not plain_store, plain_store=plain_store)

    return Thread("ABC"[number], "track" if setting.use == "track" else "split", span, body)


def _splitters(setting: Setting) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = plain_vm(3, 0) if setting.ranges == "one edge" else plain_vm(3, 0, 4)
    machine = Machine(
        kvm,
        in_hand=setting.pages == "in hand",
        always_due=setting.resched,
        plain_store=setting.bug == "plain store",
        words=POLICIES[setting.flush].words,
    )
    threads = [_split_thread(setting, machine, 0)]
    if setting.use == "track":
        threads += [
            _split_thread(setting, machine, 1),
            Thread("G", "guest", GfnRange(2, 3), lambda: guest_write(2)),
        ]
        return machine, tuple(threads)
    if setting.other in ("split", "two", "split, zap"):
        threads.append(_split_thread(setting, machine, 1))
    if setting.other == "two":
        threads.append(_split_thread(setting, machine, 2))
    if setting.other in ("zap", "split, zap"):
        whole = GfnRange(0, GEOMETRY.pages(3))
        threads.append(Thread("ABC"[len(threads)], "zap", whole, lambda: zap(machine.root, whole)))
    if setting.other == "fault":

        def fault() -> Coroutine[int]:
            return kvm_tdp_mmu_page_fault(kvm, 2, is_private=False, max_level=PG_LEVEL_4K)

        threads.append(Thread("V", "fault", GfnRange(2, 3), fault))
    return machine, tuple(threads)


def _conversion(setting: Setting) -> tuple[Machine, tuple[Thread, ...]]:
    """The first leaf is not mapped yet, the second is; the range takes half of each. A plain VM's tree."""
    kvm, span = plain_vm(2, 2), GfnRange(1, 3)

    def body() -> Coroutine[int]:
        call = convert(kvm, span)
        return under_invalidation(kvm, span, call) if setting.invalidate else under_lock(call)

    def fault() -> Coroutine[int]:
        return kvm_tdp_mmu_page_fault(kvm, 0, is_private=False)

    return Machine(kvm, always_due=setting.resched), (
        Thread("A", "convert", span, body),
        Thread("V", "fault", GfnRange(0, 1), fault),
    )


def _accepts(setting: Setting) -> tuple[Machine, tuple[Thread, ...]]:
    kvm = private_td()
    machine = Machine(kvm, mirror=True, cacheable=not setting.pending, tracks=setting.tracks)

    def accept(gfn: int) -> Callable[[], Coroutine[int]]:
        return lambda: tdx_honor_guest_accept_level(kvm, gfn, PG_LEVEL_4K)

    return machine, tuple(
        Thread(name, "split", GfnRange(gfn, gfn + 1), accept(gfn)) for gfn, name in enumerate("VW")
    )


def _cached(setting: Setting) -> tuple[Machine, tuple[Thread, ...]]:
    """Each thread splits a leaf of its own; only the cache is common."""
    kvm, own = private_td(), setting.cache == "per vCPU"
    caches = {name: f"cache of {name}" if own else "cache" for name in "AB"}
    machine = Machine(kvm, mirror=True, tracks=True, cacheable=False, caches=caches)

    def body(span: GfnRange) -> Callable[[], Coroutine[int]]:
        def call() -> Coroutine[int]:
            split = tdp_mmu_split_huge_pages_root(
                machine.root, span.start, span.end, PG_LEVEL_4K, shared=False, only_cross_boundary=True
            )
            if setting.cache in ("spinlock, no re-check", "per vCPU"):
                split = one_topup(split)
            locked = under_lock(split)
            return under_mutex(locked) if setting.cache == "mutex" else locked

        return call

    spans = {"A": GfnRange(1, 2), "B": GfnRange(3, 4)}
    return machine, tuple(Thread(name, "split", span, body(span)) for name, span in spans.items())


_CACHE_SOURCES = {
    "spinlock, no re-check": "planted",
    "spinlock, re-check": "v3 19/24 and 20/24",
    "mutex": "M8, R2",
    "per vCPU": "M8, R2, for an ACCEPT",
}
_BUILDERS: dict[str, Callable[[Setting], tuple[Machine, tuple[Thread, ...]]]] = {
    "split": _splitters,
    "track": _splitters,
    "convert": _conversion,
    "accept": _accepts,
    "cache": _cached,
}


# ---- by name -------------------------------------------------------------------------------------------


class Scenario(NamedTuple):
    """A setting with a name, and what is to be known of it."""

    setting: Setting
    of: str
    """Whose it is, in a few words."""

    @property
    def api_only(self) -> bool:
        """The API allows it, no caller in the series does it: a split under the shared lock (S105)."""
        return self.setting.use in ("split", "track") and self.setting.lock == "shared"


_FLUSHES = {
    "shared, dirty flag cleared first": "flag, clear first",
    "shared, dirty flag cleared last": "flag, flush first",
    "shared, dirty flag tested and cleared": "flag, atomic",
    "shared, generation counters": "generations",
}

SCENARIOS: dict[str, Scenario] = {
    "shared, on demand": Scenario(Setting(), "M0's reason, under the other lock"),
    "exclusive, on demand": Scenario(Setting(lock="exclusive"), "M0's reason"),
    "shared, in hand": Scenario(Setting(pages="in hand"), "M7's proposal under the read lock"),
    "exclusive, in hand": Scenario(Setting(lock="exclusive", pages="in hand"), "M7's proposal"),
    "exclusive, in hand, flush inside": Scenario(
        Setting(lock="exclusive", pages="in hand", flush="own split, locked"), "ours"
    ),
    "exclusive, flush before each drop": Scenario(
        Setting(lock="exclusive", flush="own split, locked"), "ours"
    ),
    "exclusive, in hand, resched": Scenario(
        Setting(
            lock="exclusive", pages="in hand", flush="own split, locked", ranges="two edges", resched=True
        ),
        "ours: a resched drops the lock as well",
    ),
    "shared, no flush": Scenario(Setting(flush="none"), "M0's rule for the fault path, elsewhere"),
    "shared, flush always": Scenario(Setting(flush="always", ranges="B wider"), "M0's rule for PML"),
    **{name: Scenario(Setting(flush=flush, ranges="B wider"), "ours") for name, flush in _FLUSHES.items()},
    "split meets zap": Scenario(Setting(lock="exclusive", other="zap"), "ours"),
    "split meets fault": Scenario(Setting(lock="exclusive", other="fault"), "S82"),
    "dirty tracking, flush if I changed": Scenario(Setting("track", "exclusive"), "after K2"),
    "dirty tracking, flush always": Scenario(
        Setting("track", "exclusive", flush="always"), "M0's rule for PML"
    ),
    "conversion meets fault": Scenario(Setting("convert"), "S212"),
    "conversion, no invalidation": Scenario(Setting("convert", invalidate=False), "planted"),
    "ACCEPT, PENDING and tracked": Scenario(Setting("accept"), "v3 13/24"),
    "ACCEPT, PENDING alone": Scenario(Setting("accept", tracks=False), "M0's reason for the fault path"),
    "ACCEPT, tracked alone": Scenario(Setting("accept", pending=False), "v3 13/24"),
    "ACCEPT, neither": Scenario(Setting("accept", pending=False, tracks=False), "planted"),
    "plain store": Scenario(Setting(bug="plain store", flush="always"), "planted"),
    "no restart": Scenario(Setting(lock="exclusive", bug="no restart", flush="always"), "planted"),
    **{
        f"cache: {name}": Scenario(Setting("cache", cache=name), source)
        for name, source in _CACHE_SOURCES.items()
    },
}
"""By name, those in which two threads meet; in dirty tracking a guest writes besides."""

THREE = {
    "three split": Scenario(Setting(other="two"), "ours"),
    "three split, exclusive": Scenario(Setting(lock="exclusive", other="two"), "ours"),
    "three split, flush always": Scenario(Setting(other="two", flush="always", ranges="B wider"), "ours"),
    "three split, generation counters": Scenario(
        Setting(other="two", pages="in hand", flush="generations"), "ours"
    ),
    "two split, one zaps": Scenario(Setting(other="split, zap"), "ours"),
}
"""By name, those of three threads; they take longer."""
