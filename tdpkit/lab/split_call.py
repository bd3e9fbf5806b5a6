"""One split call, recorded event by event, to be stepped through forward and back.

A :class:`SplitCall` runs `tdp_mmu_split_huge_pages_root` once, on the engine's own coroutine, and keeps a
:class:`CallStep` for each event, with every write to the tables. :meth:`SplitCall.go` then brings the tables
to where they were at any step, by doing or undoing those writes.

The tree is a plain VM's, under its direct root. Left out: mirror roots (notebook 04), and a step of its own
for the trace event of a changed entry, which comes with the split's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.events import ENOMEM, FreeTable, Lock, SetSpte, Trace, Unlock, Visit, run
from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange, InvalidValueError, as_integer
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import is_large_pte, is_shadow_present_pte
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot

from .layouts import Layout, layout_named, map_layout
from .words import count_of
from .worlds import Faults, FaultWorld

MAX_STEPS = 20_000
"""Recorded and drawn within a second; the 12 TiB of the thread would take millions."""


class Write(NamedTuple):
    """Entry `index` of the table in `row` changed from `old` to `new`."""

    row: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    old: int
    new: int


@dataclass(slots=True, repr=False)
class CallStep:
    """One event of the call, and the state after it.

    kind: "start"; "visit"; "drop" (mmu_lock dropped to allocate), "resched" (dropped because a reschedule is
    due); "page" and "refused" (the allocator's answer); "retake" (mmu_lock taken again); "store" (the new
    table is filled, the entry is about to be written); "split" (done), "lost" (-EBUSY: another thread was
    first); "fail" (-ENOMEM); "other" (the other thread acted); "free" (a spare page goes back); "return".
    """

    kind: str
    level: int
    gfn: int
    """Level and first frame of the entry that the walk stands on; level 0 before the first visit."""
    old_spte: int
    """That entry as the walk last read it."""
    goal: int
    """next_last_level_gfn: the first frame that the walk has not passed yet."""
    held: bool
    """mmu_lock is held, from this step on."""
    rcu: bool
    """The RCU read lock is held, from this step on."""
    page: int | None
    """Row of the spare page in hand, None without one."""
    visits: int
    splits: int
    drops: int
    restarts: int
    writes: tuple[Write, ...] = ()
    """Writes to the tables since the step before."""
    due: bool = False
    """At a visit: a reschedule is due."""
    trace: tuple[str, ...] = ()
    """Lines that the step added to the trace buffer."""

    def __repr__(self) -> str:
        where = f" level {self.level} gfn {self.gfn:#x}" if self.level else ""
        locks = "" if self.held and self.rcu else ", RCU let go" if self.held else ", RCU and mmu_lock let go"
        return f"{self.kind}{where}, goal {self.goal:#x}{locks}"


class SplitCall:
    """One call of `tdp_mmu_split_huge_pages_root` on a layout: a name in LAYOUTS or a Layout.

    start, end: frames (`end` may lie beyond the root); target_level: 1 to root_level - 1;
    only_cross_boundary: split only what crosses an edge, as patch v3 does; shared: mmu_lock is held for read;
    faults: what goes wrong. `steps` are the recorded steps, `result` is what the call returned, `span` its
    range, `root` the tree as it is at step `at`. Raises InvalidTypeError or InvalidValueError as the engine's
    function does, for an unknown layout, for a race that the lock rules out, and for a call of more than
    MAX_STEPS steps.
    """

    def __init__(
        self,
        layout: str | Layout,
        start: SupportsIndex,
        end: SupportsIndex,
        *,
        target_level: int = PG_LEVEL_4K,
        only_cross_boundary: bool = True,
        shared: bool = True,
        faults: Faults | None = None,
    ) -> None:
        faults = faults or Faults()
        if faults.race.startswith("cas") and not shared:
            raise InvalidValueError(
                "a compare-and-exchange can be lost only under the shared lock; here mmu_lock is exclusive"
            )
        self.layout = layout_named(layout)
        self.target_level = target_level
        self.only_cross_boundary = only_cross_boundary
        self.shared = shared
        self.faults = faults
        self.root = TdpMmuRoot(PageTablePool(self.layout.geometry))
        map_layout(self.root, self.layout)
        call = tdp_mmu_split_huge_pages_root(
            self.root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
        )
        self.span = GfnRange(int(start), int(end))
        world = _Recorder(self.root, faults, self.span)
        self.result: int = run(call, world)
        world.note("return", rcu=False)
        self.steps = world.steps
        self.fired = world.fired[0]
        """The other thread acted."""
        self.allocations = world.allocations
        """Pages asked for, one that was refused included."""
        self.at = len(self.steps) - 1
        self.go(0)

    def __repr__(self) -> str:
        last = self.steps[-1]
        return (
            f"split call on {self.span!r}: {count_of(len(self.steps), 'step')}, "
            f"{count_of(last.visits, 'visit')}, {count_of(last.splits, 'split')}, "
            f"{count_of(last.drops, 'lock drop')}, returned {self.result}"
        )

    @property
    def geometry(self) -> Geometry:
        """The geometry of the tree that is split."""
        return self.layout.geometry

    @property
    def min_level(self) -> int:
        """The level below which the walk does not go."""
        return self.target_level + 1

    @property
    def splits(self) -> list[tuple[int, int]]:
        """(level, gfn) of each leaf that this call split, in order."""
        return [(step.level, step.gfn) for step in self.steps if step.kind == "split"]

    def visited(self, upto: int | None = None) -> Iterator[tuple[int, int]]:
        """(level, gfn) of each entry visited, in order, up to and including step `upto` (None: all)."""
        steps = self.steps if upto is None else self.steps[: upto + 1]
        return ((step.level, step.gfn) for step in steps if step.kind == "visit")

    def go(self, at: SupportsIndex) -> CallStep:
        """Bring the tables to step `at` (from 0), and return it.

        Raises InvalidTypeError unless it is an integer, InvalidValueError if the call has no such step;
        nothing moves then.
        """
        at = as_integer(at, "a step")
        if not 0 <= at < len(self.steps):
            raise InvalidValueError(f"this call has steps 0 to {len(self.steps) - 1}; {at} is none")
        table = self.root.pool.table
        while self.at < at:
            self.at += 1
            for write in self.steps[self.at].writes:
                table(write.row)[write.index] = write.new
        while self.at > at:
            for write in reversed(self.steps[self.at].writes):
                table(write.row)[write.index] = write.old
            self.at -= 1
        return self.steps[at]

    def crosses(self, gfn: int, level: int) -> bool:
        """The patch's predicate, `iter_cross_boundary`, for an entry that the walk visits."""
        return not (self.span.start <= gfn and gfn + self.geometry.pages(level) <= self.span.end)

    def would_split(self, gfn: int, level: int, spte: int) -> bool:
        """Whether this call splits such an entry when it visits it."""
        huge = is_shadow_present_pte(spte) and is_large_pte(spte) and level > self.target_level
        return huge and (not self.only_cross_boundary or self.crosses(gfn, level))


class _Recorder(FaultWorld):
    """Makes a step of every event before it is answered."""

    def __init__(self, root: TdpMmuRoot, faults: Faults, span: GfnRange) -> None:
        super().__init__(root, faults)
        self.span = span
        self.steps: list[CallStep] = []
        self.held = True
        self.restarts = 0
        self._watched: tuple[int, int, int] | None = None
        """(row, index, value) of an entry that is about to be written."""
        self._lines: list[str] = []
        self.note("start", rcu=True)

    def note(self, kind: str, *, rcu: bool | None = None) -> None:
        """Add a step of `kind`, with the writes and trace lines since the last one."""
        if len(self.steps) == MAX_STEPS:
            raise InvalidValueError(
                f"a call is recorded up to {count_of(MAX_STEPS, 'step')}; this one, on {self.span}, "
                "has more: take a shorter range"
            )
        it, steps = self.iter, self.steps
        if it is not None and steps[-1].kind == "retake" and it.rcu:
            # The call took RCU up again, so it means to go on: from the root.
            self.restarts += 1
            steps[-1].rcu, steps[-1].restarts = True, self.restarts
        steps.append(
            CallStep(
                kind,
                it.level if it else 0,
                it.gfn if it else 0,
                it.old_spte if it else 0,
                it.next_last_level_gfn if it else self.span.start,
                self.held,
                it.rcu if rcu is None and it else bool(rcu),
                self.page,
                self.iterations,
                len(self.splits),
                self.lock_drops,
                self.restarts,
                self._written(),
            )
        )

    def _written(self) -> tuple[Write, ...]:
        """The write to the watched entry since it was last looked at, if there was one."""
        if self._watched is None:
            return ()
        row, index, known = self._watched
        now = self.root.pool.table(row)[index]
        self._watched = (row, index, now)
        return (Write(row, index, known, now),) if now != known else ()

    def _watch(self, row: int, index: int) -> None:
        self._watched = (row, index, self.root.pool.table(row)[index])

    def visit(self, event: Visit) -> bool:
        """Adds a step, which knows whether a reschedule is due."""
        due = super().visit(event)
        self.note("visit")
        self.steps[-1].due = due
        return due

    def unlock(self, event: Unlock) -> None:
        """Adds a step; mmu_lock is not held after it."""
        super().unlock(event)
        self.held = False
        self.note("resched" if event.reason == "resched" else "drop")

    def lock(self, event: Lock) -> None:
        """Adds a step; mmu_lock is held again."""
        super().lock(event)
        self.held = True
        self.note("retake")

    def set_spte(self, event: SetSpte) -> None:
        """Watches the entry; `others` adds the step, before the other thread may act."""
        self._watch(event.row, event.index)
        super().set_spte(event)

    def others(self, moment: str, number: int) -> None:
        """Adds the step that comes before the other thread may act; `race` adds the one after it."""
        if moment == "cas":
            self.note("store")
        else:
            self.note("refused" if self.page is None else "page")
        super().others(moment, number)

    def race(self) -> None:
        """Adds a step, with what the other thread wrote to the entry in hand."""
        assert self.iter is not None
        self._watch(self.iter.pt_path[self.iter.level], self.iter.index)
        super().race()
        self.note("other")

    def trace(self, event: Trace) -> None:
        """Adds a step for a split's line, with the line before it."""
        super().trace(event)
        self._lines.append(str(event))
        if event.name == "kvm_mmu_split_huge_page":
            self.note({0: "split", -ENOMEM: "fail"}.get(event.errno, "lost"))
            self.steps[-1].trace = tuple(self._lines)
            self._lines.clear()
            self._watched = None

    def free_table(self, event: FreeTable) -> None:
        """Adds a step; the spare page went back."""
        super().free_table(event)
        self.note("free")
