"""The recorded calls as trace text: the tree and the call of each case, and the leaves that must be left.

A reader of traces passes if it finds `final` at the end of each `text`.
"""

from typing import NamedTuple

from tdpkit.engine import (
    KVM_X86_DEFAULT_VM,
    X86_4LEVEL,
    X86_5LEVEL,
    Kvm,
    KvmGfnRange,
    Trace,
    World,
    kvm_split_cross_boundary_leafs,
    map_run,
    run,
    tdp_mmu_split_huge_pages_root,
    tdp_mmu_zap_leafs,
)
from tdpkit.lab.conformance import faults_of
from tdpkit.lab.spte_layouts import LAYOUTS
from tdpkit.lab.traces.write import STYLES, TraceWriter
from tdpkit.lab.worlds import Faults, FaultWorld
from tests.oracles.vectors import cases_of

CALLS = ("split_all", "split_cross", "zap", "faults")
WITH_PRESENT_BIT = ("ept-7.2", "ept-5.13", "ept-tdx")


class Traced(NamedTuple):
    """One case: its text, the layout it is in, and what the kernel's own code left and took."""

    id: str
    layout: str
    text: str
    final: list  # leaf runs
    zapped: list | None  # leaf runs, None where the case does not say

    @property
    def empty(self):
        return LAYOUTS[self.layout].empty[0]


class Witness(World):
    """A kind world that keeps the trace events in a list."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def trace(self, event):
        self.seen.append(event)


class FaultWitness(FaultWorld):
    """A world of faults that keeps the trace events of both threads, in the order they happened."""

    def __init__(self, root, faults):
        super().__init__(root, faults)
        self.seen = []
        self.other = Witness(self.seen)

    def trace(self, event):
        super().trace(event)
        self.seen.append(event)

    def race(self):
        it, before = self.iter, self.iter.table[self.iter.index]
        super().race()
        if self.faults.race == "cas_dirty_clear":  # the dirty log's clear has a line too (S263 is of CPUs)
            after = it.table[it.index]
            self.seen.append(Trace("kvm_tdp_mmu_spte_changed", it.gfn, it.level, before, after))


def machine_of(case):
    vm = Kvm(KVM_X86_DEFAULT_VM, X86_5LEVEL if case["root_level"] == 5 else X86_4LEVEL)
    for leaves in case["leaves"]:
        map_run(vm.direct_root, *leaves)
    return vm


def call_of(kind, case, vm):
    """The trace events of a case's call, in order."""
    root, start, end = vm.direct_root, case["start"], case["end"]
    world = FaultWitness(root, faults_of(case["inject"]) if kind == "faults" else Faults())
    if kind == "zap":
        if case["pre_split"]:
            run(
                tdp_mmu_split_huge_pages_root(root, start, end, 1, shared=False, only_cross_boundary=True),
                world,
            )
        run(tdp_mmu_zap_leafs(root, start, end), world)
    elif case["only_cross_boundary"]:
        with vm.slots_lock:
            run(
                kvm_split_cross_boundary_leafs(vm, KvmGfnRange(vm.slot, start, end), shared=case["shared"]),
                world,
            )
    else:
        level, shared = case["target_level"], case["shared"]
        run(tdp_mmu_split_huge_pages_root(root, start, end, level, shared=shared), world)
    return world.seen


def traced(kinds=CALLS, every=1):
    """Each case of `kinds`, or every n-th, in turn in each layout and style."""
    cases = [(kind, case) for kind in kinds for case in cases_of(kind)]
    for number, (kind, case) in enumerate(cases[::every]):
        vm = machine_of(case)
        layout = WITH_PRESENT_BIT[number % 3]
        writer = TraceWriter(layout=layout, style=STYLES[number % 4], columns=4 + number % 2)
        writer.tree(vm.direct_root)
        writer.call(call_of(kind, case, vm))
        yield Traced(f"{kind} {case['id']}", layout, writer.text(), case["final"], case.get("zapped"))
