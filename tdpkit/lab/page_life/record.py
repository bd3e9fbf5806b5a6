"""What happens in a page's life, written down as it happens: a list of facts, to be told afterwards.

A :class:`Recorder` is the world in which a TD's calls run. It keeps a :class:`Fact` for each event of KVM's
functions (but the visits of a walk), for each line of the TDX module's log, and for each deed of the guest
and of userspace. One fact stands for all WBINVD calls of a leaf; and where pages are many, one for all leaves
that are zapped as the one beside them. A fact carries what it wrote, frame by frame, and how things stand
that change without an event. Facts are values: folding them into steps (`fold`) needs nothing of the TD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine, Event, External, SetSpte, Trace, Visit, run
from tdpkit.engine.pool import ROLE_IS_MIRROR, PageTablePool
from tdpkit.engine.spte import (
    FROZEN_SPTE,
    SPTE_BASE_ADDR_MASK,
    is_last_spte,
    is_shadow_present_pte,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot, way_down
from tdpkit.tdx.abi import TDX_SUCCESS, Call, Seamcall
from tdpkit.tdx.kvm_tdx import TdxWorld
from tdpkit.tdx.module import SeptState, sept_state

from ..td import Td

STATES = (*(state.name for state in SeptState), "FROZEN")
"""Of a leaf; FROZEN is KVM's, while the TDX side is asked. The leaves of KVM's trees are PRESENT else."""
BY_PAGE = str(Seamcall.PHYMEM_PAGE_WBINVD)
"""The call that is made for one 4K page of a leaf after the other (S161)."""
_STATE_BITS = 3
_NOT_THE_FRAME = ~SPTE_BASE_ADDR_MASK & (1 << 64) - 1


def leaf_code(level: int, state: str) -> int:
    """One number for the leaf over a frame; 0 is for no leaf."""
    return level << _STATE_BITS | STATES.index(state) if state != "FREE" else 0


def level_and_state(code: int) -> tuple[int, str]:
    """What :func:`leaf_code` put into a number."""
    return code >> _STATE_BITS, STATES[code & (1 << _STATE_BITS) - 1]


def is_zap(event: SetSpte) -> bool:
    """A leaf goes: KVM's own, and for good."""
    gone = not is_shadow_present_pte(event.new_spte) and event.new_spte != FROZEN_SPTE
    return gone and is_shadow_present_pte(event.old_spte) and is_last_spte(event.old_spte, event.level)


class FrameWrite(NamedTuple):
    """`place` holds `content` from frame `start` on: a number for each frame.

    place: a tree ("direct", "mirror", "sept") with a leaf_code; or memory with a byte, as the guest reads it
    privately ("bytes") or with the S-bit ("shared bytes"). tables: so many page-table pages were linked.
    """

    place: str
    start: int
    content: bytes
    tables: int = 0


class Standing(NamedTuple):
    """How things stand that change without an event."""

    private: tuple[int, ...]
    """The edges of the private ranges, as the attributes have them."""
    flags: Mapping[tuple[int, int], int]
    """Where no huge page may be: (level, first frame of the block) -> flags."""
    invalidating: tuple[int, int] | None
    """The range on which faults are retried."""
    entered: Mapping[int, int]
    """vCPU inside the TD -> the epoch it entered in."""
    td_epoch: int


class Act(NamedTuple):
    """A new act of the story begins."""

    title: str


class Work(NamedTuple):
    """The guest begins to work on frames [start, end); `what` is a key of WORK (`words`).

    like: what else makes pieces of work alike: the state it finds, and how deep its tables reach.
    """

    what: str
    start: int
    end: int
    like: tuple[object, ...] = ()


class Deed(NamedTuple):
    """Something that the guest or userspace does with frames [start, end), or gets from KVM.

    what: known to deed_said (`words`); ret: what a call returned.
    """

    what: str
    start: int
    end: int
    ret: int = 0


class ZapRun(NamedTuple):
    """Leaves of one `level` in [start, end) of `tree` were zapped one after the other, each as the one before
    them was; calls: the lines of the module's log that this took.
    """

    tree: str
    level: int
    start: int
    end: int
    calls: tuple[Call, ...]


class Fact(NamedTuple):
    """One thing that happened. answer: the world's, to an event; times: lines that a call has in the log."""

    what: Event | Call | Act | Work | Deed | ZapRun
    standing: Standing
    writes: tuple[FrameWrite, ...] = ()
    answer: Any = None
    times: int = 1


class RecordedTd(Td):
    """A TD whose calls run in a recorder's world, once it has one."""

    recorder: Recorder | None = None

    def run(self, coroutine: Coroutine[Any]) -> Any:
        """As every TD's."""
        return run(coroutine, self.recorder or self.world)


class _Log(list[Call]):
    """The module's log, heard line by line."""

    def __init__(self, hear: Callable[[Call], None]) -> None:
        super().__init__()
        self.hear = hear

    def append(self, call: Call) -> None:
        super().append(call)
        self.hear(call)


class Recorder(TdxWorld):
    """The world of `td` from now on, which keeps all that happens in `facts`.

    every: each zapped leaf has its own facts. Else leaves side by side, zapped one after the other, have them
    for the first one only, and a ZapRun for the others.
    """

    def __init__(self, td: RecordedTd, *, every: bool = True) -> None:
        super().__init__(td.tdx)
        self.td = td
        self.every = every
        self.facts: list[Fact] = []
        self._zapped: tuple[str, int, int] | None = None
        """Tree and level of the leaf that was zapped last, and its end, as long as nothing else happens."""
        self._run: ZapRun | None = None
        self._run_calls: list[Call] = []
        self._standing = Standing((), {}, None, {}, 0)
        td.recorder = self
        td.module.log = _Log(self._called)

    def note(self, what: Event | Call | Act | Work | Deed, *writes: FrameWrite, answer: Any = None) -> None:
        """One more fact."""
        if self._run:
            self._end_run(self._run)
        self.facts.append(Fact(what, self._stand(), writes, answer))

    def memory(self, start: int, end: int, *, shared: bool = False) -> list[FrameWrite]:
        """The bytes of frames [start, end) as they are now, where the TD is small enough to keep them."""
        td = self.td
        if not td.memory:
            return []
        first = td.kvm.slot.host_pfn or 0 if shared else td.gmem.first_pfn
        content = bytes(td.memory[first + gfn] for gfn in range(start, end))
        return [FrameWrite("shared bytes" if shared else "bytes", start, content)]

    def answer(self, event: Event) -> Any:
        """As a TD's world, and the event is kept."""
        if type(event) is Visit:
            return False
        if type(event) is External:  # before the lines of the module's log
            if not self._run:
                self.note(event)
            answer = super().answer(event)
            if self._run:
                self._stand()  # as the zap of this leaf leaves it
            return answer
        answer = super().answer(event)
        if type(event) is SetSpte:  # the store follows: nobody else is here to prevent it
            self._stores(event)
        elif type(event) is not Trace or not self._run:
            self._zapped = self._zapped if type(event) is Trace else None
            self.note(event, answer=answer)
        return answer

    def _stores(self, event: SetSpte) -> None:
        """An entry is about to be written: of one more leaf in a row that is zapped, or it is a fact."""
        pool = self.td.kvm.pool
        tree = "mirror" if pool.role[event.row] & ROLE_IS_MIRROR else "direct"
        alike, self._zapped = (tree, event.level, event.gfn) == self._zapped, None
        if is_zap(event) and not self.every:
            end = event.gfn + pool.geometry.pages(event.level)
            self._zapped = tree, event.level, end
            if alike:
                start = self._run.start if self._run else event.gfn
                self._run = ZapRun(tree, event.level, start, end, ())
                return
        self.note(event, self._entry(tree, pool, event.new_spte, event.gfn, event.level))

    def _end_run(self, run: ZapRun) -> None:
        """The leaves zapped in a row become one fact: it writes all of them, and stands as after the last."""
        kvm, trees = self.td.kvm, {run.tree: self.td.kvm.direct_root}
        if run.tree == "mirror":
            assert kvm.mirror_root is not None
            trees = {"mirror": kvm.mirror_root, "sept": self.td.module.sept}
        writes = [write for tree, root in trees.items() for write in self._frames(tree, root, run)]
        done = run._replace(calls=tuple(self._run_calls))
        self.facts.append(Fact(done, self._standing, tuple(writes)))
        self._run = None
        self._run_calls.clear()

    def _called(self, call: Call) -> None:
        """A line of the module's log; its effect is there already."""
        if self._run:
            self._run_calls.append(call)
            return
        last = self.facts[-1]
        if call.name == BY_PAGE and isinstance(last.what, Call) and last.what.name == BY_PAGE:
            self.facts[-1] = last._replace(times=last.times + 1)
            return
        writes: list[FrameWrite] = []
        if call.status == TDX_SUCCESS and call.gfn is not None and call.level is not None:
            sept = self.td.module.sept
            entry = way_down(sept, call.gfn, call.level)[-1].spte
            writes.append(self._entry("sept", sept.pool, entry, call.gfn, call.level))
            if call.name == "TDG.MEM.PAGE.ACCEPT":
                writes += self.memory(call.gfn, call.gfn + sept.geometry.pages(call.level))
        self.note(call, *writes)

    def _frames(self, place: str, root: TdpMmuRoot, run: ZapRun) -> Iterator[FrameWrite]:
        """What a tree holds over the leaves of a run, read table by table."""
        gfn, end = run.start, min(run.end, self.td.frames)
        while gfn < end:
            above = way_down(root, gfn, run.level + 1)[-1]
            first = root.geometry.gfn_round_for_level(gfn, above.level)
            last = min(first + root.geometry.pages(above.level), end)
            content, _ = _frames_under(root.pool, above.spte, above.level, last - first)
            yield FrameWrite(place, gfn, content[gfn - first :])
            gfn = last

    def _entry(self, place: str, pool: PageTablePool, entry: int, gfn: int, level: int) -> FrameWrite:
        room = min(pool.geometry.pages(level), self.td.frames - gfn)
        return FrameWrite(place, gfn, *_frames_under(pool, entry, level, room))

    def _stand(self) -> Standing:
        kvm, module = self.td.kvm, self.td.module
        invalid = kvm.mmu_invalidate_range if kvm.mmu_invalidate_in_progress else None
        private, flags, invalidating = (
            kvm.mem_attributes.edges,
            kvm.disallow_lpage,
            (invalid.start, invalid.end) if invalid else None,
        )
        entered, td_epoch = module.entered, module.td_epoch
        was = self._standing
        if (
            td_epoch != was.td_epoch
            or entered != was.entered
            or private != was.private
            or flags != was.flags
            or invalidating != was.invalidating
        ):
            self._standing = Standing(private, dict(flags), invalidating, dict(entered), td_epoch)
        return self._standing


def _frames_under(pool: PageTablePool, entry: int, level: int, room: int) -> tuple[bytes, int]:
    """The leaf_code of each of the first `room` frames under an entry, and how many tables that takes."""
    if entry == FROZEN_SPTE:
        return bytes([leaf_code(level, "FROZEN")]) * room, 0
    if not is_shadow_present_pte(entry):
        return bytes(room), 0
    if is_last_spte(entry, level):
        return bytes([leaf_code(level, sept_state(entry).name)]) * room, 0
    pages, found, tables = min(pool.geometry.pages(level - 1), room), b"", 1
    children = pool.table(spte_to_pfn(entry))[: -(-room // pages)]
    for _, alike in groupby(children, _NOT_THE_FRAME.__and__):
        first, *others = alike
        if is_shadow_present_pte(first) and not is_last_spte(first, level - 1):
            for child in (first, *others):
                below, more = _frames_under(pool, child, level - 1, pages)
                found, tables = found + below, tables + more
        else:
            found += _frames_under(pool, first, level - 1, pages)[0] * (1 + len(others))
    return found[:room], tables
