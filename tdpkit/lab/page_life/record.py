"""The recorder of a page's life: what really happens, and a step for it.

It listens in two places: to the events of KVM's functions, on their way to the world, and to the TDX
module's log, line by line. What changes without a word (attributes, huge-page flags, an invalidation, a vCPU
that leaves) is noticed at the next event.
"""

from __future__ import annotations

from typing import Any, TypeVar

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
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.pool import ROLE_IS_MIRROR
from tdpkit.engine.spte import FROZEN_SPTE, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tree import way_down
from tdpkit.tdx.abi import TDX_SUCCESS, Call
from tdpkit.tdx.module import sept_state

from ..td import Td
from . import events
from .fold import IN_HAND, Teller
from .view import Watch
from .words import Names, Said, call_said

T = TypeVar("T")


class ToldTd(Td):
    """A TD whose events a recorder hears before the world answers them, and after."""

    recorder: Recorder | None = None

    def run(self, coroutine: Coroutine[Any]) -> Any:
        """As every TD's."""
        return super().run(_told(coroutine, self.recorder) if self.recorder else coroutine)


def _told(coroutine: Coroutine[T], recorder: Recorder) -> Coroutine[T]:
    answer = None
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


class Recorder(Teller):
    """Makes the steps of one story on `td`."""

    def __init__(self, td: ToldTd, watch: Watch, names: Names) -> None:
        super().__init__(watch, names)
        self.td = td
        self.at = 0
        """The frame that the guest is busy with."""
        self.lock_function = ""
        """The kernel's function that takes mmu_lock for write."""
        self._hook = ""
        self._tree = ""
        """The tree of the last store."""
        self._kicked = False
        """vCPUs that enter were kicked out; else they had an EPT violation."""
        self._accepting = False
        """The last call was an ACCEPT that ended in an exit."""
        self._zapping = False
        self._splitting = False
        self._known = self._quiet_facts()
        td.recorder = self
        td.module.log = _Log(self)

    def say(self, said: Said, focus: tuple[int, int] | None = None, **view: Any) -> None:
        """As every teller's; what is told is known."""
        if not self.silent:
            self._known = self._quiet_facts()
        super().say(said, focus, **view)

    # ---- what nobody says ------------------------------------------------------------------------------

    def _quiet_facts(self) -> tuple[Any, ...]:
        """What changes without an event: attributes, huge-page flags, invalidations, vCPUs inside."""
        kvm = self.td.kvm
        return (
            kvm.mem_attributes.edges,
            tuple(sorted(kvm.disallow_lpage.items())),
            kvm.mmu_invalidate_in_progress,
            self.td.module.vcpus_inside,
        )

    def notice(self) -> None:
        """Steps for what changed without an event since the last one."""
        if self.silent:
            return
        now, was, span = self._quiet_facts(), self._known, self.watch.span
        if now == was:
            return
        if now[3] != was[3]:
            accepting = self._accepting
            self.say(events.violation(self.names, self.at, accepting), (self.at, self.at + 1))
        if now[0] != was[0]:
            private = span.start in self.td.kvm.mem_attributes
            self.say(events.attributes(self.names, span, private), (span.start, span.end))
        if now[1] != was[1]:
            # The flags come before the end of the invalidation, in the same breath.
            still = {"invalidating": self.steps[-1].view.invalidating} if now[2] < was[2] else {}
            self.say(events.flags(self.names, dict(was[1]), dict(now[1])), **still)
        if now[2] != was[2]:
            self.say(events.invalidation(begins=now[2] > was[2]))

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
                watch.kept(call.gfn, pages)
        if self.silent:
            return
        said = call_said(
            call,
            self.names,
            hook=self._hook,
            state=self._state(call),
            epoch=self.td.module.td_epoch,
            pages=pages,
            lost=lost,
            kicked=self._kicked,
        )
        if call.name == "TDH.VP.ENTER" and self.steps and self.steps[-1].said.title == said.title:
            self.amend(said)
        elif call.gfn is not None:
            self.say(said, (call.gfn, call.gfn + pages))
        else:
            self.say(said, self.steps[-1].focus if self.steps else None)
        self._kicked = call.name == "TDH.MEM.TRACK" or (self._kicked and call.name == "TDH.VP.ENTER")
        self._accepting = call.name.startswith("TDG.") and call.status is None

    def _state(self, call: Call) -> str:
        """Of the S-EPT's leaf at the call's frame."""
        if call.gfn is None:
            return ""
        return sept_state(way_down(self.td.module.sept, call.gfn)[-1].spte).name

    # ---- what KVM says ---------------------------------------------------------------------------------

    def before(self, event: Event) -> None:
        """An event on its way to the world."""
        if isinstance(event, SetSpte):
            self._stores(event)
            return
        if self._zapping and isinstance(event, Flush | Unlock | Lock):
            self._zapping = False
            self.close()
        self.notice()
        if isinstance(event, External):
            self._hook = event.op
            if not event.shared and not self.silent:
                pages = self.names.geometry.pages(event.level)
                said = events.mirror_changed(self.names, event)
                self.say(said, (event.gfn, event.gfn + pages))

    def _stores(self, event: SetSpte) -> None:
        """An entry is about to be written; a leaf that goes begins a piece of work."""
        mirror = bool(self.td.kvm.pool.role[event.row] & ROLE_IS_MIRROR)
        self._tree = "mirror" if mirror else "direct"
        gone = not is_shadow_present_pte(event.new_spte) and event.new_spte != FROZEN_SPTE
        if gone and is_shadow_present_pte(event.old_spte) and is_last_spte(event.old_spte, event.level):
            self.notice()
            pages = self.names.geometry.pages(event.level)
            kind = "zap" if mirror else "zap shared"
            self.begin((kind, event.level), event.gfn, event.gfn + pages)
            self._zapping = True

    def after(self, event: Event, answer: Any) -> None:
        """An event and its answer."""
        if isinstance(event, SetSpte):
            self.watch.stale.add(self._tree)  # now, for the store follows; a view before it saw the old entry
        elif isinstance(event, Lock):
            self.watch.lock = "read" if event.shared else "write"
            function = "tdp_mmu_split_huge_pages_root" if self._splitting else self.lock_function
            self.say(events.lock(event.shared, function))
            self._splitting = False
        elif isinstance(event, Unlock):
            self.watch.lock = ""
            self._splitting = event.reason == "alloc"
            if self._splitting:
                self.say(events.unlock())
        elif self.silent:
            return
        elif isinstance(event, AllocTable):
            said = events.page(event, answer is not None, splitting=self._splitting)
            if said.title == IN_HAND and self.steps and self.steps[-1].said.title == IN_HAND:
                self.amend(said)
            else:
                self.say(said)
        elif isinstance(event, Flush):
            self.say(events.flush())
        elif isinstance(event, Trace):
            self._traced(event)

    def _traced(self, event: Trace) -> None:
        pages = self.names.geometry.pages(event.level) if event.level else 0
        focus = (event.gfn, event.gfn + pages)
        if event.name.startswith("WARN"):
            self.say(events.warn(event))
        elif event.errno:
            self.say(events.no_page(), focus)
        elif event.name == "kvm_tdp_mmu_spte_changed":
            gone = not is_shadow_present_pte(event.new_spte)
            if gone or is_last_spte(event.new_spte, event.level):
                said = events.leaf_changed(self.names, event, self._tree, self.watch.lock)
                if said:
                    self.say(said, focus)
