"""The recorder of a page's life: one step for each thing that happens to a TD, from what really happens.

It listens in two places: to the events of KVM's functions, on their way to the world, and to the TDX
module's log, line by line. What changes without a word (attributes, huge-page flags, an invalidation, a vCPU
that leaves) is noticed at the next event. Steps that are the same as before, page after page, are folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from tdpkit.engine.events import (
    AllocTable,
    Coroutine,
    Event,
    External,
    Flush,
    Lock,
    SetSpte,
    Trace,
    Unlock,
    Visit,
)
from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange
from tdpkit.engine.pool import ROLE_IS_MIRROR
from tdpkit.engine.sept import sept_state
from tdpkit.engine.spte import FROZEN_SPTE, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tdx_abi import TDX_SUCCESS, Call
from tdpkit.engine.tree import way_down

from .page_life_view import View, Watch
from .page_life_words import GUEST, KVM, MODULE, Names, Said, call_said
from .td import Td
from .words import count_of

T = TypeVar("T")

_SINGLE = 3
"""On the toy so many pages in a row that go as the one before have a step each; more are folded."""


class Step(NamedTuple):
    """One step, and how things stood after it."""

    act: str
    said: Said
    focus: tuple[int, int] | None
    """The frames of the entry that changes."""
    view: View
    calls: int
    """Length of the module's log."""
    pages: int = 1
    """Pages (or pieces of work) that this step stands for."""


class ToldTd(Td):
    """A TD whose events a recorder hears before the world answers them, and after."""

    recorder: Recorder | None = None

    def run(self, coroutine: Coroutine[Any]) -> Any:
        """As every TD's."""
        return super().run(self._told(coroutine) if self.recorder else coroutine)

    def _told(self, coroutine: Coroutine[T]) -> Coroutine[T]:
        recorder, answer = self.recorder, None
        assert recorder is not None
        try:
            while True:
                event = coroutine.send(answer)
                if type(event) is Visit:
                    answer = yield event
                    continue
                recorder.before(event)
                answer = yield event
                recorder.after(event, answer)
        except StopIteration as stop:
            result: T = stop.value
            return result


class _Log(list[Call]):
    """The module's log, heard line by line."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def append(self, call: Call) -> None:
        super().append(call)
        self.recorder.called(call)


class _Run(NamedTuple):
    """Work that is not told any more, since it goes as before."""

    key: tuple[object, ...]
    start: int
    end: int
    pages: int


class Recorder:
    """Makes the steps of one story on `td`."""

    def __init__(self, td: ToldTd, watch: Watch, names: Names) -> None:
        self.td, self.watch, self.names = td, watch, names
        self.steps: list[Step] = []
        self.act = ""
        self.at = 0
        """The frame that the guest is busy with."""
        self._single = _SINGLE if names.toy else 0
        self._hook = ""
        self._level = PG_LEVEL_4K
        self._exits = ""
        self._zapping = False
        self._splitting = False
        self._unit: tuple[int, tuple[object, ...], int, int] | None = None
        self._seen: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
        self._run: _Run | None = None
        self._known = self._silent()
        self._calls_before = 0
        td.recorder = self
        td.module.log = _Log(self)

    # ---- steps -----------------------------------------------------------------------------------------

    def say(self, said: Said, focus: tuple[int, int] | None = None, **view: Any) -> None:
        """A step, unless it is among those that are not told. view: what to show otherwise than it is now."""
        if self._run is None:
            self._known = self._silent()
            shown = self.watch.view()
            self.steps.append(Step(self.act, said, focus, shown._replace(**view), len(self.td.module.log)))

    def _again(self, said: Said) -> None:
        """The last step went on: one step for both."""
        if self._run is None:
            last = self.steps.pop()
            self.say(said, last.focus)

    def _silent(self) -> tuple[object, ...]:
        """What changes without an event."""
        kvm = self.td.kvm
        return (
            tuple((part.start, part.end) for part in kvm.mem_attributes.private_ranges()),
            tuple(sorted(kvm.disallow_lpage.items())),
            kvm.mmu_invalidate_in_progress,
            self.td.module.vcpus_inside,
        )

    def notice(self) -> None:
        """Steps for what changed without an event since the last one."""
        if self._run:
            return
        now, was = self._silent(), self._known
        if now == was:
            return
        span = self.watch.span
        where = self.names.span(span.start, span.end)
        before = self.steps[-1].view.invalidating if self.steps else None
        if now[3] != was[3]:
            self._left()
        if now[0] != was[0]:
            half = "private" if span.start in self.td.kvm.mem_attributes else "shared"
            sentence = f"The attributes of {where} say {half} from now on: faults go to that half’s tree."
            self.say(
                Said(KVM, "attributes", sentence, "kvm_vm_set_mem_attributes", "attributes"),
                (span.start, span.end),
            )
        if now[1] != was[1]:
            self.say(self._flags_said(), **({"invalidating": before} if now[2] != was[2] else {}))
        if now[2] != was[2]:
            begins = bool(now[2])
            title = "invalidate begin" if begins else "invalidate end"
            sentence = (
                "An invalidation begins: whoever faults on the range now will have to retry."
                if begins
                else "The invalidation is over: faults on the range are served again."
            )
            function = "kvm_mmu_invalidate_begin" if begins else "kvm_mmu_invalidate_end"
            self.say(Said(KVM, title, sentence, function), (span.start, span.end) if begins else None)

    def _left(self) -> None:
        name = self.names.frame(self.at)
        self._exits = "fault"
        sentence = (
            f"EPT violation: at frame {name} the S-EPT has nothing that serves. vCPU 0 leaves the TD, to KVM."
        )
        self.say(Said(GUEST, "EPT violation", sentence, "tdx_handle_ept_violation"), (self.at, self.at + 1))

    def _flags_said(self) -> Said:
        mixed = self.td.kvm.disallow_lpage
        title, function = "huge-page flags", "kvm_arch_post_set_memory_attributes"
        if not mixed:
            return Said(
                KVM, title, "No block holds both halves any more: huge pages may be anywhere.", function
            )
        blocks = [self.names.frame(gfn) for _, gfn in sorted(mixed)]
        what = (
            f"The block at {blocks[0]} holds"
            if len(blocks) == 1
            else f"The blocks at {' and '.join(blocks)} hold"
        )
        return Said(KVM, title, f"{what} both halves: no huge page there until that changes.", function)

    # ---- folding ---------------------------------------------------------------------------------------

    @contextmanager
    def unit(self, key: tuple[object, ...], start: int, end: int) -> Iterator[None]:
        """What happens inside is one piece of work on frames [start, end); `key` says of which kind."""
        self.begin(key, start, end)
        yield
        if self._unit:
            self._end_unit()

    def begin(self, key: tuple[object, ...], start: int, end: int) -> None:
        """A piece of work begins. Where pages are many and the kind is known, it is not told."""
        full = (self.act, *key)
        if self._run and self._run.key == full and self._run.end == start:
            self._run = self._run._replace(end=end, pages=self._run.pages + 1)
            return
        self.close()
        if full in self._seen and not self._single:
            self._run = _Run(full, start, end, 1)
        else:
            self._unit = (len(self.steps), full, start, end)

    def close(self) -> None:
        """The piece of work, or the run of pieces that are not told, is over."""
        self._zapping = False
        if self._unit:
            self._end_unit()
        if self._run:
            run, self._run = self._run, None
            self._fold(run)

    def _end_unit(self) -> None:
        assert self._unit is not None
        (first, key, start, end), self._unit = self._unit, None
        titles = tuple(step.said.title for step in self.steps[first:] if step.said.title != _IN_HAND)
        known = self._seen.setdefault(key, set())
        if self._single and any(_is_part(titles, told) for told in known):
            del self.steps[first:]
            run = _Run((*key, titles), start, end, 1)
            if self._joins(run):
                last = self.steps.pop()
                assert last.focus is not None
                run = run._replace(start=last.focus[0], pages=last.pages + 1)
            self._fold(run)
        known.add(titles)

    def _joins(self, run: _Run) -> bool:
        """So many single steps came before it that this one joins the last."""
        before = self.steps[-self._single :]
        return (
            len(before) == self._single
            and all(
                step.act == self.act and step.said.title.startswith(_AGAIN) and step.focus and step.pages >= 1
                for step in before
            )
            and before[-1].focus is not None
            and before[-1].focus[1] == run.start
        )

    def _fold(self, run: _Run) -> None:
        what = str(run.key[1])
        actor, function, how, part = _KINDS[what]
        names = self.names
        if run.pages == 1:
            size = run.end - run.start
            which = names.leaf(run.start, PG_LEVEL_4K if size == 1 else PG_LEVEL_4K + 1)
            sentence = f"{which[0].upper()}{which[1:]}: the same again: {how}."
        else:
            where = names.span(run.start, run.end)
            sentence = f"{count_of(run.pages, 'more page')} in {where}: the same for each: {how}."
        self.say(Said(actor, f"{_AGAIN}: {what}", sentence, function, part), (run.start, run.end))
        self.steps[-1] = self.steps[-1]._replace(pages=run.pages)

    # ---- what the module says --------------------------------------------------------------------------

    def called(self, call: Call) -> None:
        """A line of the module's log; its effect is there already."""
        watch, lost = self.watch, 0
        watch.stale.add("sept")
        watch.seamcalls += call.name.startswith("TDH.")
        pages = self.names.geometry.pages(call.level) if call.level else 0
        if call.status == TDX_SUCCESS and call.gfn is not None:
            if call.name == "TDH.MEM.PAGE.REMOVE":
                lost = watch.gone(call.gfn, pages)
            elif call.name == "TDG.MEM.PAGE.ACCEPT":
                watch.written.store(GfnRange(call.gfn, call.gfn + pages), False)
            elif call.name == "TDH.MEM.PAGE.DEMOTE":
                watch.saved += sum(part.pages for part in watch.span.outside(call.gfn, pages))
        if self._run:
            return
        said = call_said(
            call,
            self.names,
            hook=self._hook,
            state=self._state(call),
            epoch=self.td.module.td_epoch,
            pages=pages,
            lost=lost,
            exits=self._exits,
        )
        focus = (call.gfn, call.gfn + pages) if call.gfn is not None else self._focus()
        log = self.td.module.log
        if call.name == "TDH.VP.ENTER" and len(log) > 1 and log[-2].name == call.name:
            self._again(said)
        else:
            self.say(said, focus)
        if call.name == "TDH.MEM.TRACK":
            self._exits = "kick"

    def _focus(self) -> tuple[int, int] | None:
        return self.steps[-1].focus if self.steps else None

    def _state(self, call: Call) -> str:
        """Of the S-EPT's leaf at the call's frame."""
        if call.gfn is None:
            return ""
        return sept_state(way_down(self.td.module.sept, call.gfn)[-1].spte).name

    # ---- what KVM says ---------------------------------------------------------------------------------

    def before(self, event: Event) -> None:
        """An event on its way to the world."""
        if isinstance(event, SetSpte):
            self.watch.stale.add("mirror" if self._is_mirror(event.row) else "direct")
            if self._zaps(event):
                self._begin_zap(event)
            return
        if self._zapping and isinstance(event, Flush | Unlock | Lock):
            self.close()
        if self._run:
            return
        self.notice()
        if isinstance(event, External):
            self._hook, self._level = event.op, event.level
            if not event.shared:
                self._mirror_changed(event)

    def after(self, event: Event, answer: Any) -> None:
        """An event and its answer."""
        if isinstance(event, Lock):
            self._splitting = False
            self.watch.lock = "read" if event.shared else "write"
            function = "kvm_tdp_mmu_map" if event.shared else ""
            sentence = f"mmu_lock is taken for {self.watch.lock}" + (
                ": nobody else changes the tables meanwhile."
                if not event.shared
                else ": faults may run side by side."
            )
            self.say(Said(KVM, f"mmu_lock ({self.watch.lock})", sentence, function), None)
        elif isinstance(event, Unlock):
            self.watch.lock = ""
            self._splitting = event.reason == "alloc"
            if event.reason == "alloc":
                sentence = (
                    "A leaf crosses an edge and needs a table: mmu_lock is let go, for allocating may sleep."
                )
                self.say(Said(KVM, "mmu_lock let go", sentence, "tdp_mmu_split_huge_pages_root"))
        elif self._run:
            return
        elif isinstance(event, AllocTable):
            self._allocated(event, answer)
        elif isinstance(event, Flush):
            sentence = "All TLBs are flushed once more: what was zapped cannot be reached by any vCPU."
            self.say(Said(KVM, "flush TLBs", sentence, "kvm_flush_remote_tlbs"))
        elif isinstance(event, Trace):
            self._traced(event)

    def _zaps(self, event: SetSpte) -> bool:
        gone = not is_shadow_present_pte(event.new_spte) and event.new_spte != FROZEN_SPTE
        return gone and is_shadow_present_pte(event.old_spte) and is_last_spte(event.old_spte, event.level)

    def _begin_zap(self, event: SetSpte) -> None:
        mirror = self._is_mirror(event.row)
        what = "zap" if mirror else "zap shared"
        pages = self.names.geometry.pages(event.level)
        if not self._run:
            self.notice()
        self.begin((what, event.level), event.gfn, event.gfn + pages)
        self._zapping = True

    def _is_mirror(self, row: int) -> bool:
        return bool(self.td.kvm.pool.role[row] & ROLE_IS_MIRROR)

    def _mirror_changed(self, event: External) -> None:
        leaf = self.names.leaf(event.gfn, event.level)
        pages = self.names.geometry.pages(event.level)
        if event.op == "split":
            sentence = f"In the mirror {leaf} becomes a table of small leaves. The S-EPT must follow."
            said = Said(KVM, "mirror: split", sentence, "tdp_mmu_split_huge_page", "mirror")
        else:
            sentence = f"In the mirror {leaf} is zapped, whole. The S-EPT must follow."
            said = Said(KVM, "mirror: zap", sentence, "tdp_mmu_zap_leafs", "mirror")
        self.say(said, (event.gfn, event.gfn + pages))

    def _allocated(self, event: AllocTable, row: int | None) -> None:
        what = "a page-table page and an S-EPT page" if event.is_mirror else "a page-table page"
        if row is None:
            sentence = f"KVM asks for {what}: refused."
            self.say(Said(KVM, "page refused", sentence, "tdp_mmu_alloc_sp_for_split"))
            return
        said = Said(
            KVM,
            "page",
            f"KVM asks for {what}, and gets them before it takes mmu_lock.",
            "tdp_mmu_alloc_sp_for_split",
        )
        if not self._splitting:
            said = said._replace(function="mmu_topup_memory_caches", title=_IN_HAND)
        if self.steps and self.steps[-1].said.title == said.title == _IN_HAND:
            self._again(said)
        else:
            self.say(said)

    def _traced(self, event: Trace) -> None:
        pages = self.names.geometry.pages(event.level) if event.level else 0
        focus = (event.gfn, event.gfn + pages)
        if event.name.startswith("WARN"):
            self.say(Said(KVM, "WARN", f"{event.name}."))
        elif event.errno:
            self.say(
                Said(
                    KVM,
                    "-ENOMEM",
                    "No page, no split: -ENOMEM. What was split before stays split.",
                    "tdp_mmu_split_huge_pages_root",
                ),
                focus,
            )
        elif event.name == "kvm_tdp_mmu_spte_changed":
            self._changed(event, focus)

    def _changed(self, event: Trace, focus: tuple[int, int]) -> None:
        leaf = self.names.leaf(event.gfn, event.level)
        present = is_shadow_present_pte(event.new_spte)
        if present and not is_last_spte(event.new_spte, event.level):
            return
        if self.watch.lock == "read" and self.fault_is_private:
            sentence = f"The mirror has {leaf} now, as the S-EPT has; its entry was frozen meanwhile."
            self.say(Said(KVM, "mirror: leaf", sentence, "kvm_tdp_mmu_map", "mirror"), focus)
        elif self.watch.lock == "read":
            sentence = f"The direct tree maps {leaf} to userspace’s memory; the index has the S-bit."
            self.say(Said(KVM, "direct tree: leaf", sentence, "kvm_tdp_mmu_map", "direct"), focus)
        elif not present and not self._hook_is_mirror():
            sentence = f"In the direct tree {leaf} is zapped."
            self.say(Said(KVM, "direct tree: zap", sentence, "tdp_mmu_zap_leafs", "direct"), focus)

    fault_is_private = True

    def _hook_is_mirror(self) -> bool:
        return bool(self._unit and self._unit[1][1] == "zap") or bool(self._run and self._run.key[1] == "zap")


def _is_part(titles: tuple[str, ...], told: tuple[str, ...]) -> bool:
    """The same steps in the same order, but for some that are not needed again, such as a table."""
    rest = iter(told)
    return all(title in rest for title in titles)


_AGAIN = "again"
_IN_HAND = "pages in hand"
"""A vCPU has some left from the fault before, or has not: no difference worth another telling."""
_KINDS = {
    "zap": (KVM, "tdp_mmu_zap_leafs", "mirror, BLOCK, TRACK, kick, REMOVE, WBINVD", "sept"),
    "zap shared": (KVM, "tdp_mmu_zap_leafs", "zapped in the direct tree", "direct"),
    "accept": (GUEST, "", "touch, AUG, ACCEPT", "sept"),
    "read": (GUEST, "", "the guest reads it, as it was left", "finds"),
    "read shared": (GUEST, "", "the guest reads userspace’s byte", "finds"),
}
"""Of each kind of work: who does it, the kernel's function, what it is, what part of the picture changes."""
