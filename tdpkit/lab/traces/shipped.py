"""The traces of notebook 09: written by the engine, for no capture of anybody's host is in this repository.

    python -m tdpkit.lab.traces.shipped notebooks/traces

writes them anew; a test compares them byte for byte. Exit status 2 if the folder cannot be written.

They read as those of a host of the 5.13 layout with the NX-huge-page mitigation on. Where the engine has no
function for what happened (MMIO, the dirty log, a table that goes), entries are changed here, and the lines
are what the kernel would print.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tdpkit.engine.events import Coroutine, Event, Recording, SetSpte, Trace, record
from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, InvalidValueError
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm, KvmMemorySlot
from tdpkit.engine.mmu import kvm_mmu_try_split_huge_pages
from tdpkit.engine.page_fault import kvm_faultin_pfn, kvm_tdp_mmu_page_fault
from tdpkit.engine.spte import (
    FROZEN_SPTE,
    SHADOW_NONPRESENT_VALUE,
    VMX_EPT_DIRTY_BIT,
    VMX_EPT_MISCONFIG_WX_VALUE,
    make_leaf_spte,
    spte_to_pfn,
)
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import way_down
from tdpkit.lab.spte_layouts import guard_bits
from tdpkit.lab.terminal import exit_status

from .write import MAIN, VCPU, Task, TraceWriter

_NOTE = "# Written by tdpkit's engine; no host printed this.\n"
_CHANGED = "kvm_tdp_mmu_spte_changed"
_HVA = 0x7F3C40000000
"""Where QEMU has frame 0."""
_MMIO_GENERATION = 0x14
_SECOND_VCPU = Task("CPU 1/KVM", 2215, 5)

_LOW = KvmMemorySlot(0, 0xA0, host_pfn=0x2C7A40)
_BIOS = KvmMemorySlot(0xC0, 0x140, host_pfn=0x2C91C0)
_RAM = KvmMemorySlot(0x200, 0x1E00, host_pfn=0x31C200, host_level=PG_LEVEL_2M)
_SHARED = KvmMemorySlot(0x200, 0x1E00, host_pfn=0x1A4200, host_level=PG_LEVEL_2M)
"""RAM, and other host pages for frames of it that were converted to shared."""


class _Host:
    """A guest, and what its host's trace shows."""

    def __init__(self, *, seed: int, start: float) -> None:
        self.vm = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, memslots=[_LOW, _BIOS, _RAM])
        self.root = self.vm.direct_root
        self.trace = TraceWriter(start=start, layout="ept-5.13", host_frames=seed, nx_huge_pages=True)

    def text(self) -> str:
        return _NOTE + self.trace.text()

    def pause(self, microseconds: int) -> None:
        self.trace.clock += microseconds

    def call(self, coroutine: Coroutine[object]) -> None:
        self.trace.call(record(coroutine))

    def fault(self, gfn: int, slot: KvmMemorySlot = _RAM, largest: int = PG_LEVEL_2M, vcpu: int = 0) -> None:
        """The guest writes to `gfn`, whose host pages `slot` has if it is of the RAM."""
        self.trace.task = (VCPU, _SECOND_VCPU)[vcpu]
        self.vm.memslots[-1] = slot
        call = record(kvm_tdp_mmu_page_fault(self.vm, gfn, is_private=False, max_level=largest))
        self.trace.fault(gfn, call, vcpu=vcpu)
        self.pause(37)

    def change(self, gfn: int, new_spte: int) -> list[Event]:
        """Change the 4K entry of `gfn`."""
        _, row, index, old_spte = way_down(self.root, gfn)[-1]
        self.vm.pool.table(row)[index] = new_spte
        return [Trace(_CHANGED, gfn, PG_LEVEL_4K, old_spte, new_spte)]

    def mmio(self, gfn: int) -> None:
        """The guest touches a device's frame, below a table that is there."""
        self.trace.task = VCPU
        value = SHADOW_NONPRESENT_VALUE | guard_bits(46) | VMX_EPT_MISCONFIG_WX_VALUE
        value |= gfn << PAGE_SHIFT | _MMIO_GENERATION << 3
        self.trace.page_fault(gfn)
        self.trace.mmio(gfn, self.change(gfn, value), generation=_MMIO_GENERATION)
        self.trace.line("kvm_userspace_exit", "reason KVM_EXIT_MMIO (6)")
        self.pause(61)
        self.trace.enter_guest()

    def halt(self) -> None:
        """The vCPU has nothing to do, and sleeps."""
        self.trace.task = VCPU
        self.trace.leave_guest("HLT")
        self.trace.line(
            "sched_switch",
            f"prev_comm={VCPU.comm} prev_pid={VCPU.pid} prev_prio=120 prev_state=S ==> "
            f"next_comm=swapper/{VCPU.cpu} next_pid=0 next_prio=120",
        )
        self.pause(640)

    def wake(self) -> None:
        """An interrupt for the guest ends the sleep."""
        self.trace.task = VCPU
        self.trace.enter_guest()
        self.pause(15)

    def convert(self, start: int, end: int, to: str, *, split: bool = False) -> None:
        """The guest asks QEMU to convert a range: zap what is mapped of it, after a split or without."""
        self.trace.task = VCPU
        self.trace.leave_guest("VMCALL")
        self.trace.line("kvm_userspace_exit", "reason KVM_EXIT_HYPERCALL (3)")
        self.pause(48)
        self.trace.mark("convert", start, end, f" to {to}")
        if split:
            self.call(
                tdp_mmu_split_huge_pages_root(
                    self.root, start, end, PG_LEVEL_4K, shared=False, only_cross_boundary=True
                )
            )
        self.call(tdp_mmu_zap_leafs(self.root, start, end))
        self.trace.enter_guest()
        self.pause(420)

    def unmap(self, start: int, end: int) -> None:
        """QEMU gives host pages back."""
        self.trace.task = MAIN
        self.trace.unmap(start, end, record(tdp_mmu_zap_leafs(self.root, start, end)), hva=_HVA)
        self.pause(900)

    def clear_dirty_log(self, start: int, end: int) -> None:
        """QEMU has copied the frames of [start, end) and asks which will be written from now on."""
        self.trace.task = MAIN
        self.call(kvm_mmu_try_split_huge_pages(self.vm, _RAM, start, end))
        self.trace.stack(
            "tdp_mmu_split_huge_page",
            "tdp_mmu_split_huge_pages_root",
            "kvm_tdp_mmu_try_split_huge_pages",
            "kvm_mmu_try_split_huge_pages",
            "kvm_arch_mmu_enable_log_dirty_pt_masked",
            "kvm_clear_dirty_log_protect",
            "kvm_vm_ioctl",
        )
        for gfn in range(start, end):
            old_spte = way_down(self.root, gfn)[-1].spte
            self.trace.call(self.change(gfn, old_spte & ~VMX_EPT_DIRTY_BIT))
        self.pause(1300)

    def replace_table(self, gfn: int) -> None:
        """A fault at a level that the frames next to `gfn` forbid: a huge leaf takes the place of a table.

        A fault holds the read lock, so every entry of the table has a line, empty ones too (S263).
        """
        _, row, index, old_spte = way_down(self.root, gfn, PG_LEVEL_2M)[-1]
        first = gfn & -X86_4LEVEL.pages(PG_LEVEL_2M)
        leaf = make_leaf_spte(kvm_faultin_pfn(_SHARED, first, is_private=False)[0], PG_LEVEL_2M)
        child = spte_to_pfn(old_spte)
        events: list[Event] = [
            SetSpte(row, index, first, PG_LEVEL_2M, old_spte, leaf),
            Trace(_CHANGED, first, PG_LEVEL_2M, old_spte, leaf),
        ]
        for at, spte in enumerate(self.vm.pool.table(child)):
            events.append(Trace(_CHANGED, first + at, PG_LEVEL_4K, spte, FROZEN_SPTE))
        self.vm.pool.table(row)[index] = leaf
        self.vm.pool.free(child)
        self.trace.task = VCPU
        self.trace.fault(gfn, Recording(None, events))


def lost_pages() -> str:
    """A guest boots; ranges of it are converted with and without a split, and one fault maps too much."""
    host = _Host(seed=0x13A400, start=5170.3)
    for gfn in (0xFF, 0xF0, 0xF1, 0xEA, 0x0, 0x1, 0x6, 0x7, 0x8, 0x9, 0x5F):
        host.fault(gfn)
    host.mmio(0xB8)
    for gfn in (0x345, 0x401, 0x7D0):
        host.fault(gfn)
    host.fault(0x1A2B, vcpu=1)
    host.halt()
    host.unmap(0x7, 0x8)  # a 4K leaf: harmless
    host.wake()
    host.fault(0x7)

    host.convert(0x800, 0xA00, "private")
    host.fault(0x812)
    host.convert(0x84D, 0x86E, "shared")  # takes the whole 2M leaf
    host.fault(0x84D, _SHARED, PG_LEVEL_4K)
    for gfn in (0x84C, 0x812, 0x86E):  # the private frames next to it have to come back, one by one
        host.fault(gfn, largest=PG_LEVEL_4K)

    host.convert(0xC00, 0xE00, "private")
    host.fault(0xC12)
    host.convert(0xC4D, 0xC6E, "shared", split=True)
    host.fault(0xC4D, _SHARED, PG_LEVEL_4K)

    host.halt()
    host.clear_dirty_log(0x400, 0x420)
    host.fault(0x1C00, vcpu=1)
    host.wake()

    host.convert(0x1000, 0x1200, "private")
    host.fault(0x1012)
    host.convert(0x104D, 0x106E, "shared", split=True)
    host.replace_table(0x104D)  # takes what the split had saved
    return host.text()


def one_split() -> str:
    """One leaf of 2M is mapped, split for a zap of three frames, and one of them mapped again."""
    host = _Host(seed=0x2B7C10, start=88.25)
    host.fault(0x812)
    host.trace.task = MAIN
    host.trace.mark("zap", 0x845, 0x848)
    host.call(
        tdp_mmu_split_huge_pages_root(
            host.root, 0x845, 0x848, PG_LEVEL_4K, shared=False, only_cross_boundary=True
        )
    )
    host.call(tdp_mmu_zap_leafs(host.root, 0x845, 0x848))
    host.pause(210)
    host.fault(0x846)
    return host.text()


SHIPPED: dict[str, Callable[[], str]] = {"lost-pages.txt": lost_pages, "one-split.txt": one_split}
"""Each file of ``notebooks/traces``, and what writes it."""


def main(arguments: list[str]) -> None:
    """Write the files into the folder that is named."""
    if len(arguments) != 1:
        raise InvalidValueError("usage: python -m tdpkit.lab.traces.shipped FOLDER")
    for name, text_of in SHIPPED.items():
        try:
            (Path(arguments[0]) / name).write_text(text_of(), encoding="utf-8", newline="\n")
        except OSError as error:
            raise InvalidValueError(f"{error.filename} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:]), "the files written so far are whole"))
