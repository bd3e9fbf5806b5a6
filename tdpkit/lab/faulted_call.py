"""One call on a fresh VM while faults strike: no memory for a request, a reschedule due at a visit.

A :class:`FaultedCall` makes a call of CASES under a :class:`FaultPlan`, as often as it is told to, and sees
each time what the call left behind. `failures` makes all such calls.

Left out: a split of a TD's private half under the read lock, which the TDX side refuses (S109); what other
threads do while the lock is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from tdpkit.engine.events import AllocTable, Coroutine, Event, Lock, SetSpte, Trace, Unlock, Visit, World, run
from tdpkit.engine.gfn import PG_LEVEL_2M, GfnRange, InvalidTypeError, InvalidValueError, as_integer
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.pool import ROLE_IS_MIRROR
from tdpkit.engine.tree import map_run
from tdpkit.tdx.kvm_tdx import PAMT_DESIGNS, HostPages

from .books import Books
from .layouts import DEEP_TOY, LIFE_TOY
from .lost_errno import CALLERS, FRAMES, Splitting
from .page_life.record import is_zap
from .td import Td
from .words import known_name

# ---- the calls -----------------------------------------------------------------------------------------

PAMT: dict[str, dict[str, Any]] = {"off": {}}
PAMT |= {name: {"dynamic_pamt": True, "pamt": name} for name in PAMT_DESIGNS}
"""Dynamic PAMT by name, as options of a Td: not in use, or with the caches of a design."""
EDGES = GfnRange(6, 12)
"""Frames to convert or punch out of a TD: each edge lies inside a leaf of eight."""
PRIVATE_SPLITS = ("v3", "v3 as posted", "head and tail", "mirror roots")
"""Every way to split that reaches a private leaf; each caller has some of them."""


class FailureCase(NamedTuple):
    """A call to be made on a fresh VM."""

    vm: Callable[..., Td | Kvm]
    """Takes the options of a Td; a plain VM takes none."""
    splits: Mapping[str, Splitting]
    """The ways to split that the call can be given, by name."""
    call: Callable[[Any, Splitting], Coroutine[int | None]]
    held: str = ""
    """How mmu_lock is held at entry and on return: "", "read" or "write"."""


def _plain_vm() -> Kvm:
    """Two leaves of 16 frames, which a split takes down two levels."""
    kvm = Kvm(KVM_X86_DEFAULT_VM, DEEP_TOY)
    map_run(kvm.direct_root, 0, DEEP_TOY.max_leaf_level, 2, 0)
    return kvm


def _two_halves(**options: Any) -> Td:
    """Two huge leaves in each tree of a TD, on the same frames."""
    td = Td(frames=FRAMES, **options)
    map_run(td.kvm.direct_root, 0, PG_LEVEL_2M, 2, 2 * FRAMES)
    return td


def _patch(make: Callable[..., Td | Kvm], span: GfnRange, *, shared: bool = False) -> FailureCase:
    """The patch's own function, for both halves of a TD."""

    def call(vm: Td | Kvm, split: Splitting) -> Coroutine[int]:
        kvm = vm.kvm if isinstance(vm, Td) else vm
        with kvm.slots_lock:
            return (yield from split(kvm, KvmGfnRange(kvm.slot, span.start, span.end), shared=shared))

    splits: dict[str, Splitting] = {
        "v3": kvm_split_cross_boundary_leafs,
        "v3 as posted": partial(kvm_split_cross_boundary_leafs, as_posted=True),
    }
    return FailureCase(make, splits, call, "read" if shared else "write")


def _caller(name: str, *, leaves_open: bool = False, **options: Any) -> FailureCase:
    """A caller of `lost_errno`, and more options of its TD."""
    caller = CALLERS[name]
    splits = {of: caller.splits[of] for of in PRIVATE_SPLITS if of in caller.splits}
    span = caller.page or EDGES
    make = partial(caller.prepare, **options)
    return FailureCase(make, splits, lambda td, split: caller.call(td, split, span, leaves_open))


CASES = {
    "split of a plain VM, read lock": _patch(_plain_vm, GfnRange(6, 27), shared=True),
    "split of a plain VM, write lock": _patch(_plain_vm, GfnRange(6, 27)),
    "split of both halves of a TD": _patch(_two_halves, EDGES),
    "conversion per VM": _caller("conversion per VM"),
    "conversion per VM, v3's error path": _caller("conversion per VM", leaves_open=True),
    "conversion by file": _caller("conversion by file"),
    "punch hole": _caller("punch hole"),
    "ACCEPT": _caller("ACCEPT", geometry=LIFE_TOY),
}
"""By name. v3's error path leaves the invalidation open (S196). An ACCEPT of 4K meets a PENDING 2M leaf, in a
tree so deep that a fault wants two tables.
"""


# ---- the faults, and what a call does under them ---------------------------------------------------------


class FaultPlan(NamedTuple):
    """Which requests for memory are refused, and at which visits a reschedule is due.

    Numbers count from 1, and on from a call to its retry. A walk gives way only if its goal has moved (S65).
    """

    refuse: tuple[int, ...] = ()
    resched: tuple[int, ...] = ()


NO_FAULT = FaultPlan()


class SplitLeaf(NamedTuple):
    """A leaf that was split: the frames it held, and whether in a mirror root."""

    span: GfnRange
    is_mirror: bool


class Tried(NamedTuple):
    """One call, while faults struck."""

    returned: int | None
    """0 or more, a negative errno, or a module status; None: the guest faults for ever."""
    requests: tuple[str, ...]
    """What it asked host memory for, in order."""
    refused: tuple[str, ...]
    """Which of these were refused: ``2 S-EPT page``."""
    visits: int
    drops: tuple[str, ...]
    """Why it dropped mmu_lock in a walk, in order: "alloc", "top-up" or "resched"."""
    splits: tuple[SplitLeaf, ...]
    zapped: frozenset[int]
    """Frames that it unmapped."""
    in_hand: int
    """PAMT pages in all caches after it."""
    left: tuple[str, ...]
    """What it should not have left behind, in words."""


# ---- making it -----------------------------------------------------------------------------------------


class _PlainWorld(World):
    """Page tables come from `pages`."""

    def __init__(self, pages: HostPages) -> None:
        super().__init__()
        self.pages = pages

    def alloc_table(self, event: AllocTable) -> int | None:
        return event.pool.alloc() if self.pages.grants("page table") else None


class FaultedCall(World):
    """A fresh VM for a case, with empty caches, and the world in which its calls run under `plan`.

    split: of the case's; pamt: of PAMT; `inner` answers what the plan does not. Raises InvalidTypeError or
    InvalidValueError for an unknown name, a plan whose numbers are no integers from 1 on, and Dynamic PAMT in
    a plain VM.
    """

    def __init__(
        self, case: str, plan: FaultPlan = NO_FAULT, *, split: str = "v3", pamt: str = "off"
    ) -> None:
        super().__init__()
        self.case = CASES[known_name(case, CASES, "a case")]
        self.split = self.case.splits[known_name(split, self.case.splits, f"a split of {case!r}")]
        self.plan = FaultPlan(*map(_numbers, plan, ("refused requests", "visits with a reschedule due")))
        options = PAMT[known_name(pamt, PAMT, "Dynamic PAMT")]
        if options and self.case.vm is _plain_vm:
            raise InvalidValueError(f"a plain VM has no Dynamic PAMT, pamt is 'off' for it; {pamt!r} is not")
        self.vm = vm = self.case.vm(**options)
        self.kvm = vm.kvm if isinstance(vm, Td) else vm
        self.tdx = vm.tdx if isinstance(vm, Td) else None
        self.pages = self.tdx.pages if self.tdx else HostPages(0)
        self.inner: World = vm.world if isinstance(vm, Td) else _PlainWorld(self.pages)
        if self.tdx:
            self.tdx.free_caches()
        self.pages.requests.clear()
        self.pages.refuse = self._refuse
        self.visits = 0
        self.held = self.case.held
        self._refused: list[str] = []
        self._drops: list[str] = []
        self._splits: list[SplitLeaf] = []
        self._zapped: set[int] = set()
        self._row = 0

    def _refuse(self, number: int, what: str) -> bool:
        refused = number in self.plan.refuse
        self._refused += [f"{number} {what}"] * refused
        return refused

    def answer(self, event: Event) -> Any:
        """Answers as `inner` does, but for what the plan says; keeps account of the call."""
        answer, pages = self.inner.answer(event), self.kvm.geometry.pages
        match event:
            case Visit():
                self.visits += 1
                return answer or self.visits in self.plan.resched
            case Lock(shared=shared):
                self.held = "read" if shared else "write"
            case Unlock(reason=reason):
                self.held = ""
                self._drops += [reason] * (reason != "done")
            case SetSpte(row=row):
                self._row = row
                if is_zap(event):
                    self._zapped |= {*range(event.gfn, event.gfn + pages(event.level))}
            case Trace(name="kvm_mmu_split_huge_page", errno=0):
                span = GfnRange(event.gfn, event.gfn + pages(event.level))
                self._splits.append(SplitLeaf(span, bool(self.kvm.pool.role[self._row] & ROLE_IS_MIRROR)))
        return answer

    def call(self) -> Tried:
        """Make the call once."""
        for kept in (self._refused, self._drops, self._splits, self._zapped):
            kept.clear()
        books, asked, visits = Books(self.kvm, self.tdx), len(self.pages.requests), self.visits
        record = self._record()
        returned = run(self.case.call(self.vm, self.split), self)
        left = [*books.left(self._zapped)]
        if self.held != self.case.held:
            left.append(f"mmu_lock held for {self.held or 'nothing'}")
        if returned and self._record() != record:
            left.append("its result on record")
        return Tried(
            returned,
            tuple(self.pages.requests[asked:]),
            tuple(self._refused),
            self.visits - visits,
            tuple(self._drops),
            tuple(self._splits),
            frozenset(self._zapped),
            sum(self.tdx.pamt_caches.values()) if self.tdx else 0,
            tuple(left),
        )

    def state(self) -> dict[str, object]:
        """All that a call can change, by name, caches and numbers of pages aside."""
        return {**Books(self.kvm, self.tdx).state(), "record": self._record()}

    def _record(self) -> tuple[object, ...]:
        """What a conversion or a hole puts on record when it succeeds."""
        return self.kvm.mem_attributes.edges, [*self.vm.gmem.holes] if isinstance(self.vm, Td) else []


def _numbers(given: Iterable[int], what: str) -> tuple[int, ...]:
    if not isinstance(given, Iterable):
        raise InvalidTypeError(f"{what} are a tuple of numbers; {given!r} is none")
    numbers = tuple(as_integer(number, f"each of the {what}") for number in given)
    if min(numbers, default=1) < 1:
        raise InvalidValueError(f"{what} count from 1; {min(numbers)} is below it")
    return numbers
