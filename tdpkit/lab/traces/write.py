"""Recorded calls of the engine as the text of a trace: what a host's tracefs would show of them (S220, S221).

    writer = TraceWriter(layout="ept-5.13")
    writer.tree(root)                    # the guest as it stands, as lines that build it
    writer.mark("zap", 0x84d, 0x86e)
    writer.call(record(tdp_mmu_zap_leafs(root, 0x84d, 0x86e)))
    print(writer.text())

An entry that points to a table has a pool row in the engine, and a host address in the text. An entry of
another kernel is the engine's own with its bits moved (`in_layout`). Left out: the events of locks, of the
TDX side, and all that the engine does not model; a trace never tells a mirror root from a direct one (S220).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tdpkit.engine.events import ENOMEM, Event, Recording, SetSpte, Trace
from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_4K, GfnRange, InvalidValueError
from tdpkit.engine.spte import (
    PT_PAGE_SIZE_MASK,
    SHADOW_NONPRESENT_VALUE,
    SPTE_BASE_ADDR_MASK,
    VMX_EPT_IPAT_BIT,
    VMX_EPT_MT_MASK,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.lab.spte_layouts import EPT_7_2, LAYOUTS, SpteLayout
from tdpkit.lab.words import known_name

STYLES = ("ftrace", "trace-cmd", "perf", "bare")
"""Who prints a line: tracefs, ``trace-cmd report``, ``perf script``, or a mail that keeps the event alone."""
VERBS = ("convert", "zap", "split", "punch")

_CHANGED, _SPLIT = "kvm_tdp_mmu_spte_changed", "kvm_mmu_split_huge_page"
_SYSTEM = {"kvm_page_fault": "kvm", "kvm_entry": "kvm", "kvm_exit": "kvm", "kvm_unmap_hva_range": "kvm"} | {
    "kvm_userspace_exit": "kvm", "sched_switch": "sched", "print": "ftrace",
}  # fmt: skip
"""The system of an event, which perf prints; the others are of kvmmmu."""
_FLAGS = {"kvm_entry": "d..1.", "kvm_exit": "d..1.", "sched_switch": "d..2."} | dict.fromkeys(
    ("kvm_page_fault", "kvm_unmap_hva_range", "kvm_userspace_exit", "print"), "....."
)
"""Interrupts off, and how deep preemption is off; the MMU's events come under mmu_lock: ``...1.``."""
_HEADER = """\
# tracer: nop
#
# entries-in-buffer/entries-written: {0}/{0}   #P:8
#
#                                _-----=> irqs-off{1}
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
"""
_COLUMNS = {
    4: """\
#                              ||| /     delay
#           TASK-PID     CPU#  ||||   TIMESTAMP  FUNCTION
#              | |         |   ||||      |         |
""",
    5: """\
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
""",
}
_EPT_VIOLATION = 0x182
"""The exit qualification of a write to a frame that nothing maps: what a fault of the engine is."""
_RIP = 0xFFFFFFFF81E04A2B
"""Where a guest's kernel may be."""


class Task(NamedTuple):
    """The thread in whose context an event happened."""

    comm: str
    pid: int
    cpu: int


VCPU = Task("CPU 0/KVM", 2214, 3)
MAIN = Task("qemu-system-x86", 2209, 1)
"""A vCPU's thread and the main one, named as QEMU names them."""


class TraceWriter:
    """Lines of a trace, in order, a microsecond apart.

    task: whose lines these are, and may be set at any time; start: seconds of the first line. style: one of
    STYLES; columns: of flags, 5, or 4 as on older hosts. layout: the entries' layout, by name. host_frames:
    the host frame of pool row 0, and row n lies n frames behind it. nx_huge_pages: leaves above 4K are
    written without X, as the NX-huge-page mitigation maps them; the children of a split have it again (S26).
    Raises InvalidValueError for a name or a number of columns that is not known.
    """

    def __init__(
        self,
        task: Task = VCPU,
        *,
        start: float = 812.1,
        style: str = "ftrace",
        columns: int = 5,
        layout: str = EPT_7_2.name,
        host_frames: int = 0x13A400,
        nx_huge_pages: bool = False,
    ) -> None:
        self.task = task
        self.clock = round(start * 1_000_000)
        """Microseconds at the next line."""
        self.style = known_name(style, STYLES, "a style")
        if columns not in _COLUMNS:
            raise InvalidValueError(f"ftrace prints 4 or 5 columns of flags; {columns} is neither")
        self.columns = columns
        self.layout = LAYOUTS[known_name(layout, tuple(LAYOUTS), "a layout")]
        self.host_frames = host_frames
        self.nx_huge_pages = nx_huge_pages
        self.lines: list[str] = []

    def text(self) -> str:
        """The lines below the header that their style has."""
        return "".join(f"{line}\n" for line in (*self._header(), *self.lines))

    def _header(self) -> list[str]:
        if self.style == "trace-cmd":
            return ["cpus=8"]
        if self.style != "ftrace":
            return []
        off = "/BH-disabled" if self.columns == 5 else ""
        return (_HEADER.format(len(self.lines), off) + _COLUMNS[self.columns]).splitlines()

    # ---- one line ------------------------------------------------------------------------------------------

    def line(self, name: str, text: str) -> None:
        """Add a line: event `name` with `text`, of the task, now."""
        self.lines.append(f"{self._prefix(name)}{text}")
        self.clock += 1

    def _prefix(self, name: str) -> str:
        comm, pid, cpu = self.task
        seconds, us = divmod(self.clock, 1_000_000)
        system = _SYSTEM.get(name, "kvmmmu")
        shown = "" if name == "print" else f"{name}: "  # its text begins with the function that wrote it
        if self.style == "bare":
            return shown
        if self.style == "perf":
            return f"{comm:>16} {pid:7} [{cpu:03}] {seconds:5}.{us:06}: {f'{system}:{name}':>35}: "
        if self.style == "trace-cmd":
            return f"{comm:>16}-{pid:<5} [{cpu:03}] {seconds:5}.{us:06}: {f'{name}:':<21} "
        flags = _FLAGS.get(name, "...1.")[: self.columns]
        return f"{comm:>16}-{pid:<7} [{cpu:03}] {flags} {seconds:5}.{us:06}: {shown}"

    def mark(self, verb: str, start: int, end: int, after: str = "") -> None:
        """Announce what comes, as anyone may who writes into trace_marker: `verb`, frames [start, end)."""
        span = GfnRange(start, end)
        known_name(verb, VERBS, "a verb")
        self.line("print", f"tracing_mark_write: tdpkit: {verb} gfn {span.start:x}-{span.end:x}{after}")

    def stack(self, *functions: str) -> None:
        """Add the stack that ftrace prints below an event if asked to; the other styles leave it out."""
        if self.style == "ftrace":
            self.line("<stack trace>", "")
            self.lines[-1] = self.lines[-1].removesuffix(": ")
            self.lines.extend(f" => {function}" for function in functions)

    # ---- calls ---------------------------------------------------------------------------------------------

    def tree(self, root: TdpMmuRoot) -> None:
        """Add the lines that would build the tree as it stands: each table's link, then what it holds."""
        self.call(changes_of_tree(root))

    def call(self, events: Recording | Iterable[Event]) -> None:
        """Add the lines of a call, or of any events: changes, splits, and tables that come and go (S221)."""
        for event in events.events if isinstance(events, Recording) else events:
            if not isinstance(event, Trace):
                continue
            if event.name == _CHANGED:
                was, is_now = (_is_table(spte, event.level) for spte in (event.spte, event.new_spte))
                if is_now:
                    self._table("kvm_mmu_get_page", event, " new")
                self.line(
                    _CHANGED,
                    f"as id {event.as_id} gfn {event.gfn:x} level {event.level} "
                    f"old_spte {self.entry(event.spte, event.level):x} "
                    f"new_spte {self.entry(event.new_spte, event.level):x}",
                )
                if was:
                    self._table("kvm_mmu_prepare_zap_page", event)
            elif event.name == _SPLIT:
                if event.errno not in (0, -ENOMEM):  # a lost race: there was a table, and no change
                    self._table("kvm_mmu_get_page", event, " new")
                self.line(
                    _SPLIT,
                    f"gfn {event.gfn:x} spte {self.entry(event.spte, event.level):x} level {event.level} "
                    f"errno {event.errno}",
                )

    def _table(self, name: str, at: Trace, state: str = "") -> None:
        role = f"l{at.level - 1} 8-byte q0 direct wux nxe ad root 0 sync{state}"
        self.line(name, f"sp gen 0 gfn {at.gfn:x} {role}")

    def fault(self, gfn: int, call: Recording, *, vcpu: int = 0, rip: int = _RIP) -> None:
        """Add a page fault at frame `gfn`: the exit, what KVM was asked for and did, and the way back in.

        call: of :func:`~tdpkit.engine.page_fault.kvm_tdp_mmu_page_fault`. Where it mapped nothing, the lines
        of a request and of a mapped entry are missing.
        """
        self.page_fault(gfn, vcpu, rip)
        leaf = self._mapped(call)
        if leaf:
            pfn = spte_to_pfn(leaf.new_spte) + gfn - leaf.gfn
            self.line("kvm_mmu_spte_requested", f"gfn {gfn:x} pfn {pfn:x} level {leaf.level}")
        self.call(call)
        if leaf:
            spte = self.entry(leaf.new_spte, leaf.level)
            at = self.host_frames + leaf.row << PAGE_SHIFT | leaf.index * 8
            self.line(
                "kvm_mmu_set_spte",
                f"gfn {leaf.gfn:x} spte {spte:x} ({self._rights(spte)}) level {leaf.level} at {at:x}",
            )
        self.enter_guest(vcpu, rip)

    def page_fault(self, gfn: int, vcpu: int = 0, rip: int = _RIP) -> None:
        """Add a vCPU's exit because of a write to frame `gfn`, and the fault that KVM makes of it."""
        self.leave_guest("EPT_VIOLATION", _EPT_VIOLATION, vcpu, rip)
        self.line(
            "kvm_page_fault",
            f"vcpu {vcpu} rip {rip:#x} address {gfn << PAGE_SHIFT:#018x} error_code {_EPT_VIOLATION:#x}",
        )

    def leave_guest(self, reason: str, qualification: int = 0, vcpu: int = 0, rip: int = _RIP) -> None:
        """Add an exit; `reason` as VMX names it."""
        self.line(
            "kvm_exit",
            f"vcpu {vcpu} reason {reason} rip {rip:#x} info1 {qualification:#018x} "
            f"info2 {0:#018x} intr_info {0:#010x} error_code {0:#010x}",
        )

    def enter_guest(self, vcpu: int = 0, rip: int = _RIP) -> None:
        """Add the way back in."""
        self.line("kvm_entry", f"vcpu {vcpu}, rip {rip:#x}")

    def _mapped(self, call: Recording) -> SetSpte | None:
        """The store of the leaf that a fault mapped, unless another thread was quicker."""
        done = {(event.gfn, event.level) for event in call.of(Trace) if isinstance(event, Trace)}
        for event in reversed(call.events):
            if isinstance(event, SetSpte) and EPT_7_2.kind_of(event.new_spte, event.level) == "leaf":
                return event if (event.gfn, event.level) in done else None
        return None

    def _rights(self, spte: int) -> str:
        has = (self.layout.readable, self.layout.writable, self.layout.executable, self.layout.readable)
        return "".join(right if spte & mask else "-" for right, mask in zip("rwxu", has, strict=True))

    def unmap(self, start: int, end: int, call: Recording, *, hva: int) -> None:
        """Add an unmap of frames [start, end) by the MMU notifier; `hva`: the host address of frame 0."""
        span = GfnRange(start, end)
        first, last = (hva + (gfn << PAGE_SHIFT) for gfn in (span.start, span.end))
        self.line("kvm_unmap_hva_range", f"mmu notifier unmap range: {first:#018x} -- {last:#018x}")
        self.call(call)

    def mmio(self, gfn: int, events: Iterable[Event], *, generation: int) -> None:
        """Add an entry that stands for a device; `events`: its change."""
        sptep = (self.host_frames * 0x9E3779B1 + gfn) & 0xFFFFFFFF  # the kernel prints pointers hashed
        self.line("mark_mmio_spte", f"sptep:{sptep:016x} gfn {gfn:x} access 6 gen {generation:x}")
        self.call(events)

    def entry(self, spte: int, level: int) -> int:
        """An entry of the engine as this trace prints it.

        Raises InvalidValueError for one that the layout cannot say, or a row beyond the last host frame.
        """
        kind = EPT_7_2.kind_of(spte, level)
        if kind == "table":
            frame = self.host_frames + spte_to_pfn(spte)
            if frame << PAGE_SHIFT & ~SPTE_BASE_ADDR_MASK:
                raise InvalidValueError(f"a host frame has 40 bits; table {frame:#x} has more")
            spte = spte & ~SPTE_BASE_ADDR_MASK | frame << PAGE_SHIFT
        elif kind == "leaf" and level > PG_LEVEL_4K and self.nx_huge_pages:
            spte &= ~EPT_7_2.executable
        return in_layout(spte, level, EPT_7_2, self.layout)


def _is_table(spte: int, level: int) -> bool:
    return EPT_7_2.kind_of(spte, level) == "table"


def changes_of_tree(root: TdpMmuRoot) -> Iterator[Trace]:
    """The changes that would build this tree, each link before its table; no frame has the shared bit."""

    def below(row: int, level: int, base: int) -> Iterator[Trace]:
        for index, spte in enumerate(root.pool.table(row)):
            if spte == SHADOW_NONPRESENT_VALUE:
                continue
            gfn = base + index * root.geometry.pages(level)
            shown = gfn & ~root.gfn_bits
            yield Trace(_CHANGED, shown, level, SHADOW_NONPRESENT_VALUE, spte, as_id=root.as_id)
            if _is_table(spte, level):
                yield from below(spte_to_pfn(spte), level - 1, gfn)

    return below(root.row, root.geometry.root_level, 0)


def wrapped(lines: Iterable[str], width: int = 78) -> list[str]:
    """Break the lines at spaces, none longer than `width`, as a mailer does; a long word stays whole."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]


# ---- the same entry in another layout ----------------------------------------------------------------------


def in_layout(spte: int, level: int, source: SpteLayout, target: SpteLayout) -> int:
    """The entry of `source` as a kernel of `target` would have written it.

    Raises InvalidValueError for what the target cannot say: a bit that it has no place for, an empty entry
    that is none of the source's, EPT in place of NPT (memory types, and who may execute, are told otherwise).
    """
    if source is target:
        return spte
    if source.is_ept != target.is_ept:
        raise InvalidValueError(f"an entry of {source.name} has no counterpart in {target.name}")
    kind = source.kind_of(spte, level)
    if kind == "frozen":
        return target.frozen[0]
    if kind == "non-present":
        if spte not in source.empty:
            raise InvalidValueError(f"{spte:#x} is no empty entry of {source.name}")
        return target.empty[0]
    moved = _moved_mmio(spte, source, target) if kind == "mmio" else _moved(spte, source, target)
    if moved is None or target.kind_of(moved, level) != kind:
        raise InvalidValueError(f"{target.name} has no place for all of {spte:#x}, an entry of {source.name}")
    return moved


def _moved_mmio(spte: int, source: SpteLayout, target: SpteLayout) -> int | None:
    rest = spte & ~source.mmio_mask & ~source.suppress_ve
    if rest & (target.mmio_mask | target.suppress_ve):
        return None
    return rest | target.mmio_value | target.suppress_ve


def _moved(spte: int, source: SpteLayout, target: SpteLayout) -> int | None:
    """A present entry with its bits moved, or None if one has no place."""
    same = (
        source.readable | source.writable | source.no_execute | source.user | source.accessed | source.dirty
    )
    same |= SPTE_BASE_ADDR_MASK | PT_PAGE_SIZE_MASK
    if source.is_ept:
        same |= VMX_EPT_MT_MASK | VMX_EPT_IPAT_BIT
    always = source.suppress_ve | (source.present if source.has_present_bit else 0)
    if spte & always != always:
        return None
    moved, left = spte & same, spte & ~same & ~always
    for here, there in zip(_places(source), _places(target), strict=True):
        found = left & here
        if found not in (0, here):
            return None
        moved |= there if found else 0
        left &= ~here
    if left:
        return None
    return moved | target.suppress_ve | (target.present if target.has_present_bit else 0)


def _places(layout: SpteLayout) -> Iterator[int]:
    """What every layout of a family has, in an order of ours; the bits of a mask move together."""
    yield layout.executable
    yield layout.host_writable
    yield layout.mmu_writable
    low = layout.ad_type & -layout.ad_type
    yield low
    yield layout.ad_type ^ low
    if layout.is_ept:
        yield layout.readable << layout.saved_shift
        yield layout.executable << layout.saved_shift
