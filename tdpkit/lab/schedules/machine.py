"""Several kernel functions in one world, one shared access at a time.

A :class:`Machine` holds what threads share: page tables, mmu_lock and other locks, named words, and what a
TLB may still hold. A :class:`Run` is one thread, a coroutine of the engine or built from it.
:meth:`Machine.step` lets one thread go on until it has made exactly one access to what is shared; what is the
thread's own (a page filled before it is linked, a trace line) comes along. Everything shared can be saved as
a value and restored, and a thread's own state can be named, so that a search knows a state when it meets it
again.

The TLB is a *may-hold* set: a vCPU may hold any leaf that was in the tree at some time since the last flush.
Leaves that are in the tree now need no record; `stale` names the others.

A walk reads an entry and, on its way to it, its parents once more: that is one access, since no table that a
walk can reach is freed. So is a page fault's way down to the entry that it changes.

Left out: reschedules unless `always_due`, refused requests for a page, fairness of locks, reordering of one
thread's accesses by the CPU, and reuse of freed pages, which are poisoned and stay so. KVM's records per VM
(attributes, invalidation, references) are read and written along with the access of a step, as they are under
mmu_lock.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from tdpkit.engine.events import (
    AllocTable,
    Event,
    External,
    Flush,
    Lock,
    NeedTopup,
    SetSpte,
    Topup,
    Unlock,
    Visit,
    World,
)
from tdpkit.engine.gfn import Geometry, GfnRange
from tdpkit.engine.kvm import Kvm
from tdpkit.engine.pool import POISON, PageTablePool
from tdpkit.engine.spte import (
    VMX_EPT_DIRTY_BIT,
    is_last_spte,
    is_shadow_present_pte,
    spte_to_pfn,
)
from tdpkit.engine.tree import way_down

from .threads import Access, Give, GuestWrite, Report, Run, Take, Thread, Word, returned

_ALONE = (Lock, Unlock, Flush, External, NeedTopup, Topup, Word, Take, Give, GuestWrite)
"""Events that are a shared access by themselves: the coroutine goes on in the thread's next step."""


# ---- page tables that tell who looks -------------------------------------------------------------------


class WatchedTable:
    """The entries of a row, which note each access to a table that is linked."""

    __slots__ = ("entries", "pool", "row")

    def __init__(self, pool: WatchedPool, row: int) -> None:
        self.pool = pool
        self.row = row
        self.entries = list(PageTablePool.table(pool, row))

    def __getitem__(self, index: Any) -> Any:
        self.pool.note(self.row, index, False)
        return self.entries[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.pool.note(self.row, index, True)
        self.entries[index] = value

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self.entries)


class WatchedPool(PageTablePool):
    """A pool of at most `rows` rows. A freed one is poisoned and not handed out again."""

    def __init__(self, geometry: Geometry, rows: int) -> None:
        super().__init__(geometry, capacity=rows)
        self.tables: list[WatchedTable] = []
        self.freed: set[int] = set()
        self.linked: set[int] = set()
        """Rows that a thread other than the one that filled them can reach."""
        self.accesses: list[tuple[Any, ...]] = []
        """(row, index, written, the entry before) of each access to a linked row since it was emptied."""

    def table(self, row: int) -> Any:
        """The entries of `row`; they note who looks."""
        while len(self.tables) <= row:
            self.tables.append(WatchedTable(self, len(self.tables)))
        return self.tables[row]

    def note(self, row: int, index: Any, written: bool) -> None:
        """Keep an access to a linked row."""
        if row in self.linked:
            self.accesses.append((row, index, written, self.tables[row].entries[index]))

    def free(self, row: int) -> None:
        """Poison `row`; nobody gets it again."""
        self._fill(row, POISON)
        self.role[row] = 0
        self.freed.add(row)

    def rcu_read_lock(self) -> None:
        """Nothing to do: no row is reused."""

    def rcu_read_unlock(self) -> None:
        """Nothing to do: no row is reused."""


# ---- all of them in one world --------------------------------------------------------------------------

PROPERTIES = {
    "postcondition": "no leaf crosses an edge of a range whose call returned 0",
    "translations": "every frame keeps its host frame, but for those of a zap",
    "no leak": "every page is in the tree, in hand or freed, and only one of these",
    "no double split": "no table is replaced by another",
    "no misreport": "no other thread split a leaf across its edges during a call that says “nothing split”",
    "no stale TLB": "at the return no TLB may hold a leaf that the call was to be rid of",
    "no lost dirty bit": "a write after tracking began is logged",
    "no sleep": "no thread allocates while it holds a lock that forbids sleeping",
    "no failure": "no call fails",
}
"""The judged properties: name -> what holds."""

_SPLITTING = ("split", "track", "fault", "convert")
"""Roles that may need pages."""
LeafAt = tuple[int, int, int]
"""A leaf in a tree: (gfn, level, SPTE)."""

SPLIT_PAGES = 4
"""PAMT pages that a split may take: a pair for the new S-EPT page's region, a pair for the guest's (S134)."""


class Machine(World):
    """What the threads share, and the judge of what they do.

    kvm: its pool is a WatchedPool; mirror: the mirror root is split, not the direct one. pages: rows that
    each thread may allocate; in_hand: it has them before it starts, in `hands`. always_due: a reschedule is
    due at every visit. cacheable: a TLB can hold leaves (a PENDING leaf it cannot). tracks: an `External`
    split takes the leaf out of every TLB (BLOCK, TRACK and kick). plain_store: for the token of a store.
    caches: a thread's name -> the word that counts its PAMT pages in hand; words: other shared words.
    """

    def __init__(
        self,
        kvm: Kvm,
        *,
        mirror: bool = False,
        pages: int = 2,
        in_hand: bool = False,
        always_due: bool = False,
        cacheable: bool = True,
        tracks: bool = False,
        plain_store: bool = False,
        caches: dict[str, str] | None = None,
        words: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._answer |= {
            Word: self.word,
            Take: self.take,
            Give: self.give,
            GuestWrite: self.guest_write,
        }
        assert isinstance(kvm.pool, WatchedPool)
        self.kvm, self.pool = kvm, kvm.pool
        root = kvm.mirror_root if mirror else kvm.direct_root
        assert root is not None
        self.root = root
        self.pages, self.in_hand = pages, in_hand
        self.always_due, self.cacheable, self.tracks = always_due, cacheable, tracks
        self.plain_store = plain_store
        self.caches = caches or {}
        self.threads: tuple[Thread, ...] = ()
        self.now = 0
        """Number of the thread that makes the present step."""
        self.readers: tuple[int, ...] = ()
        self.writer: int | None = None
        self.locks: dict[str, int] = {}
        counted = ("top-ups",) if self.caches else ()
        self.words = dict.fromkeys((*words, *self.caches.values(), *counted), 0)
        self.stale: frozenset[LeafAt] = frozenset()
        """Leaves that are gone from the tree, and that a TLB may hold still."""
        self.stash: list[list[int]] = []
        """By thread: the rows that it may allocate."""
        self.hands: list[tuple[int, ...]] = []
        """By thread: the rows that it has at the start."""
        self.active: frozenset[int] = frozenset()
        """Threads that made a step and have not returned."""
        self.finished: frozenset[int] = frozenset()
        self.overtaken: frozenset[int] = frozenset()
        """Threads on whose edges another thread split a leaf during their call."""
        self.broken: frozenset[str] = frozenset()
        """Properties that did not hold at some time."""
        self.leaves: frozenset[LeafAt] = frozenset()
        self.translations: dict[int, int] = {}

    def start(self, threads: Iterable[Thread]) -> None:
        """Give each thread its pages, and note the tree as it is: the state before the first step."""
        self.threads = tuple(threads)
        needs = [self.pages if thread.role in _SPLITTING else 0 for thread in self.threads]
        rows = [[self.pool.alloc() for _ in range(need)] for need in needs]
        self.stash = [[] for _ in rows] if self.in_hand else rows
        self.hands = [*map(tuple, rows)] if self.in_hand else [() for _ in rows]
        self.pool.table(self.pool.rows_in_use - 1)
        self._look()
        self.translations = dict(self._frames())

    # ---- states as values ------------------------------------------------------------------------------

    def save(self) -> Any:
        """All that is shared, as a value that can be compared, hashed and restored."""
        pool, kvm = self.pool, self.kvm
        return (
            tuple([tuple(table.entries) for table in pool.tables]),
            pool.role.tobytes(),
            pool.gfn.tobytes(),
            frozenset(pool.freed),
            frozenset(pool.linked),
            tuple(root.tdp_mmu_root_count for root in kvm.tdp_mmu_roots),
            (kvm.mmu_invalidate_in_progress, kvm.mmu_invalidate_seq, kvm.mmu_invalidate_range),
            tuple(tuple(vars(lock).items()) for lock in (kvm.slots_lock, kvm.srcu)),
            tuple(sorted(kvm.disallow_lpage.items())),
            tuple((kind, tuple(rows)) for kind, rows in kvm.page_caches.items()),
            tuple(map(tuple, self.stash)),
            self.readers,
            self.writer,
            tuple(sorted(self.locks.items())),
            tuple(self.words.items()),
            self.stale,
            self.leaves,
            tuple(sorted(self.translations.items())),
            (self.active, self.finished, self.overtaken, self.broken),
        )

    def restore(self, saved: Any) -> None:
        """Bring all that is shared to a saved state."""
        pool, kvm = self.pool, self.kvm
        tables, roles, gfns, freed, linked, counts, invalidation, held, lpage, caches, stash, *rest = saved
        for table, entries in zip(pool.tables, tables, strict=True):
            table.entries[:] = entries
        pool.role[:] = array("I", roles)
        pool.gfn[:] = array("Q", gfns)
        pool.freed, pool.linked = set(freed), set(linked)
        for root, count in zip(kvm.tdp_mmu_roots, counts, strict=True):
            root.tdp_mmu_root_count = count
        kvm.mmu_invalidate_in_progress, kvm.mmu_invalidate_seq, kvm.mmu_invalidate_range = invalidation
        for lock, values in zip((kvm.slots_lock, kvm.srcu), held, strict=True):
            vars(lock).update(values)
        kvm.disallow_lpage = dict(lpage)
        for kind, rows in caches:
            kvm.page_caches[kind][:] = rows  # in place: a fault keeps hold of the list
        self.stash = [list(rows) for rows in stash]
        self.readers, self.writer, locks, words, self.stale, self.leaves, translations, ghosts = rest
        self.translations = dict(translations)
        self.locks, self.words = dict(locks), dict(words)
        self.active, self.finished, self.overtaken, self.broken = ghosts

    # ---- one step --------------------------------------------------------------------------------------

    def step(self, run: Run, number: int) -> Access | None:
        """Let thread `number` make one shared access, or return; None if it has to wait for a lock.

        A thread that waits has not moved as far as others can see; the run itself may have gone on to its
        lock. Raises RuntimeError if a coroutine makes two accesses at once: then it lacks an event.
        """
        self.now = number
        self.active |= {number}
        while True:
            event = run.event
            if run.done:
                self._returned(run.result)
                return Access("return", result=run.result)
            if event and not run.answered:
                alone = self._is_access(event)
                if alone and not self._free(event):
                    return None
                words = self.words.copy()
                run.answer, run.answered = self.answer(event), True
                if alone:
                    return self._alone(event, words)
            self.pool.accesses.clear()
            run.resume()
            touched = {access[:2] for access in self.pool.accesses}
            if isinstance(event, SetSpte):
                if touched != {(event.row, event.index)}:
                    raise RuntimeError(f"{event} came with accesses to {sorted(touched)}")
                before, after = self._written(event)
                token = "swap" if number in self.readers and not self.plain_store else "store"
                return Access(token, "", event.level, event.gfn, before, after)
            if any(access[2] for access in self.pool.accesses):
                raise RuntimeError(f"an entry was written after {event}, which does not announce it")
            # What a walk reads beyond its range, before it ends, decides nothing.
            at = run.event
            if touched and isinstance(at, Visit):
                it = at.iter
                return Access("read", "", it.level, it.gfn, it.old_spte, it.old_spte)
            if touched and isinstance(at, SetSpte):
                return Access("read", "", at.level, at.gfn, at.old_spte, at.old_spte)
            if touched and self.threads[number].role == "fault":
                return Access("read")

    def _alone(self, event: Event, words: dict[str, int]) -> Access:
        """The access that an event is by itself; `words`: as they were before it."""
        match event:
            case Word(name=name, token=token):
                return Access(token, name, before=words[name], after=self.words[name])
            case Take(name=name) | Give(name=name):
                return Access(f"{'take' if isinstance(event, Take) else 'give'}-{name}", name)
            case Lock(shared=shared):
                return Access("lock", "mmu_lock", shared=shared)
            case Unlock(shared=shared):
                return Access("unlock", "mmu_lock", shared=shared)
            case NeedTopup():
                return Access("need?", self._cache, before=words[self._cache], after=words[self._cache])
            case Topup():
                return Access("top-up", self._cache, before=words[self._cache], after=self.words[self._cache])
            case External(level=level, gfn=gfn):
                return Access("external", "", level, gfn)
            case GuestWrite(gfn=gfn):
                return Access("write", "", 0, gfn)
        return Access("flush")

    def _is_access(self, event: Event) -> bool:
        """Whether the event is a shared access by itself; to ask for PAMT pages is one only with a cache."""
        return isinstance(event, _ALONE) and (bool(self.caches) or not isinstance(event, NeedTopup | Topup))

    def _free(self, event: Event) -> bool:
        """Whether the thread can go on at `event`: the lock that it takes is free."""
        if isinstance(event, Lock):
            return self.writer is None and (event.shared or not self.readers)
        return not isinstance(event, Take) or event.name not in self.locks

    def waits_for(self, run: Run) -> str:
        """Say what a thread that cannot move waits for."""
        event = run.event
        name = event.name if isinstance(event, Take) else "mmu_lock"
        held = [self.locks[name]] if name in self.locks else [*self.readers]
        if name == "mmu_lock" and self.writer is not None:
            held = [self.writer]
        holders = " and ".join(self.threads[number].name for number in held)
        return f"waits for {name}, which {holders} hold{'s' * (len(held) == 1)}"

    # ---- answers ---------------------------------------------------------------------------------------

    def visit(self, event: Visit) -> bool:
        """Whether a reschedule is due."""
        return self.always_due

    def alloc_table(self, event: AllocTable) -> int | None:
        """Take a row of the thread's own; allocating may sleep."""
        self._may_sleep()
        stash = self.stash[self.now]
        return stash.pop() if stash else None

    def _may_sleep(self) -> None:
        holds = self.now == self.writer or self.now in self.readers
        spins = any(name != "mutex" and holder == self.now for name, holder in self.locks.items())
        if holds or spins:
            self._break("no sleep")

    def lock(self, event: Lock) -> None:
        """The thread holds mmu_lock from now on."""
        if event.shared:
            self.readers = tuple(sorted((*self.readers, self.now)))
        else:
            self.writer = self.now

    def unlock(self, event: Unlock) -> None:
        """The thread does not hold mmu_lock any more."""
        self.readers = tuple(number for number in self.readers if number != self.now)
        self.writer = None if self.writer == self.now else self.writer

    def take(self, event: Take) -> None:
        """The thread holds the named lock from now on."""
        self.locks[event.name] = self.now

    def give(self, event: Give) -> None:
        """The named lock is free again."""
        del self.locks[event.name]

    def word(self, event: Word) -> int:
        """Access a shared word, by one instruction; the value before."""
        before = self.words[event.name]
        after = {
            "read": before,
            "write": event.value,
            "exchange": event.value,
            "add": before + event.value,
            "max": max(before, event.value),
        }[event.do]
        self.words[event.name] = after
        return before

    def flush(self, event: Flush) -> None:
        """No TLB holds anything that is not in the tree."""
        self.stale = frozenset()

    def need_topup(self, event: NeedTopup) -> bool:
        """Whether the thread's cache lacks pages for a split."""
        return bool(self.caches) and self.words[self._cache] < SPLIT_PAGES

    def topup(self, event: Topup) -> bool:
        """Fill the thread's cache; allocating may sleep."""
        self._may_sleep()
        self.words["top-ups"] += 1
        self.words[self._cache] = SPLIT_PAGES
        return True

    @property
    def _cache(self) -> str:
        return self.caches[self.threads[self.now].name]

    def external(self, event: External) -> int:
        """A split takes SPLIT_PAGES from the thread's cache; without them -EIO, which is a KVM_BUG."""
        if event.op == "split":
            if self.caches:
                if self.words[self._cache] < SPLIT_PAGES:
                    self._break("no failure")
                    return -5
                self.words[self._cache] -= SPLIT_PAGES
            if self.tracks:
                self.stale = frozenset()
        return 0

    def guest_write(self, event: GuestWrite) -> None:
        """The guest writes through a stale leaf if a TLB may hold one: that leaf is dirty already, and
        nothing is logged. Else the entry in the tree becomes dirty, and the write is logged.
        """
        pages = self.root.geometry.pages
        held = [leaf for leaf in self.stale if leaf[0] <= event.gfn < leaf[0] + pages(leaf[1])]
        if any(spte & VMX_EPT_DIRTY_BIT for _, _, spte in held):
            tracked = (self.threads[n].span for n in self.finished if self.threads[n].role == "track")
            if any(event.gfn in span for span in tracked):
                self._break("no lost dirty bit")
            return
        entry = way_down(self.root, event.gfn)[-1]
        if is_shadow_present_pte(entry.spte):
            self.pool.tables[entry.row].entries[entry.index] = entry.spte | VMX_EPT_DIRTY_BIT
            self._look()

    # ---- the judge -------------------------------------------------------------------------------------

    def _break(self, name: str) -> None:
        self.broken |= {name}

    def _written(self, event: SetSpte) -> tuple[int, int]:
        """Judge the tree after a store, or after a compare-and-exchange that may have been lost.

        The entry before and after it.
        """
        before = self.leaves
        row, index, _, old = self.pool.accesses[-1]
        new = self.pool.tables[row].entries[index]
        if new == old:
            return old, new
        self._look()
        if self.cacheable:
            self.stale = (self.stale | (before - self.leaves)) - self.leaves
        else:
            self.stale -= self.leaves
        if _links(old, event.level):
            self._break("no double split")
        elif _links(new, event.level):
            for number in self.active - {self.now}:
                span = self.threads[number].span
                if self.threads[number].role == "split" and self.crosses(event.gfn, event.level, span):
                    self.overtaken |= {number}
        mapped = dict(self._frames())
        for gfn, pfn in self.translations.items():
            if mapped.get(gfn, pfn) != pfn or (gfn not in mapped and not self.is_zapped(gfn)):
                self._break("translations")
        self.translations |= mapped
        return old, new

    def is_zapped(self, gfn: int) -> bool:
        """Whether some thread was asked to zap the frame."""
        return any(gfn in thread.span for thread in self.threads if thread.role in ("zap", "convert"))

    def _look(self) -> None:
        """Read the tree's leaves, and which rows threads can reach."""
        found, rows = [], [(self.root.row, self.root.geometry.root_level, 0)]
        pool, pages = self.pool, self.root.geometry.pages
        for row, level, base in rows:
            pool.linked.add(row)
            for index, spte in enumerate(pool.table(row).entries):
                gfn = base + index * pages(level) & ~self.root.gfn_bits
                if is_shadow_present_pte(spte) and is_last_spte(spte, level):
                    found.append((gfn, level, spte))
                elif _links(spte, level) and spte_to_pfn(spte) < len(pool.tables):
                    rows.append((spte_to_pfn(spte), level - 1, gfn))
        self.leaves = frozenset(found)
        self.reached = {row for row, _, _ in rows}

    def _frames(self) -> Iterator[tuple[int, int]]:
        """(guest frame, host frame) of every frame that is mapped."""
        for gfn, level, spte in self.leaves:
            first = spte_to_pfn(spte)
            for offset in range(self.root.geometry.pages(level)):
                yield gfn + offset, first + offset

    def crosses(self, gfn: int, level: int, span: GfnRange) -> bool:
        """Whether a leaf lies across an edge of `span`."""
        last = gfn + self.root.geometry.pages(level)
        return any(gfn < edge < last for edge in (span.start, span.end))

    def _returned(self, result: Any) -> None:
        """Judge a thread as it returns."""
        thread = self.threads[self.now]
        self.active -= {self.now}
        self.finished |= {self.now}
        if thread.is_call and returned(result) not in (0, None):
            self._break("no failure")
        elif thread.is_call:
            left = thread.role != "convert" and any(self.is_over(leaf, thread) for leaf in self.leaves)
            if left:
                self._break("postcondition")
            if any(self.is_over(leaf, thread) for leaf in self.stale):
                self._break("no stale TLB")
            if self.now in self.overtaken and isinstance(result, Report) and result.says_none:
                self._break("no misreport")
        if len(self.finished) == len(self.threads):
            self._judge_pages()

    def is_over(self, leaf: LeafAt, thread: Thread) -> bool:
        """Whether the thread's call was to be rid of such a leaf: it crosses an edge, or was to be zapped."""
        gfn, level, _ = leaf
        if thread.role in ("zap", "convert"):
            return gfn < thread.span.end and thread.span.start < gfn + self.root.geometry.pages(level)
        return self.crosses(gfn, level, thread.span)

    def _judge_pages(self) -> None:
        self._look()
        kept = [row for rows in (*self.stash, *self.kvm.page_caches.values()) for row in rows]
        every = [*kept, *self.pool.freed, *self.reached]
        others = {root.row for root in self.kvm.tdp_mmu_roots} - self.reached
        if sorted(every) != sorted(set(range(self.pool.rows_in_use)) - others):
            self._break("no leak")

    # ---- the end ---------------------------------------------------------------------------------------

    def retire(self, runs: Iterable[Run]) -> None:
        """Close coroutines that a search leaves unfinished; what they still put or free is of no account."""
        for run in runs:
            for root in self.kvm.tdp_mmu_roots:
                root.tdp_mmu_root_count = 1 << 20
            run.coroutine.close()


def _links(spte: int, level: int) -> bool:
    """Whether an entry of `level` points to a table."""
    return is_shadow_present_pte(spte) and not is_last_spte(spte, level)
