"""Public reports of TDX and KVM, run on the model: the same symptom, and where the model answers another way.

Each function makes the calls of one report on a small TD and returns a :class:`Ran`: what was called, what
was answered, KVM's mirror and the S-EPT afterwards. :mod:`.tdx_report` reads the reports' own lines. The
module's answers follow S160-S178 and nothing recorded backs them (S251).
"""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import External, Lock, World, run
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, InvalidValueError, check_gfn
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import RetPf, kvm_tdp_mmu_page_fault
from tdpkit.engine.spte import spte_to_pfn
from tdpkit.engine.tdp_mmu import KvmBug
from tdpkit.engine.tree import Passed, way_down
from tdpkit.tdx.kvm_tdx import KvmTdx, TdxWorld
from tdpkit.tdx.module import is_sept_table, sept_state

from .layouts import TD_4LEVEL, TOY
from .td import Td
from .tdx_report import SeptInfo, kept_in_int
from .words import check_flag, count_of, known_name

_FRAMES = 0x400
"""Two leaves of 2M."""
_GFN = 0x76
"""A frame of the first leaf, at the place that the report's frame has in its block."""
_SPARE_PAGE = 1 << 20
"""A host page that nobody uses, for the table of a DEMOTE made by hand."""
_TRIES = 8
"""Equal retries after which a fault counts as retried for ever, as for the guest (S252)."""


class Ran(NamedTuple):
    """One report as it ran here."""

    title: str
    calls: tuple[str, ...]
    """Each call and its answer, in order."""
    mirror: str
    """KVM's entry, or entries, for the first block at the end; empty if the report is not about it."""
    sept: str
    """The S-EPT's."""
    said: str
    """The model's answer beside the report's."""

    def __repr__(self) -> str:
        trees = [
            f"  {name:<7}{tree}" for name, tree in (("mirror", self.mirror), ("S-EPT", self.sept)) if tree
        ]
        return "\n".join([self.title, *(f"  {call}" for call in self.calls), *trees, self.said])


def demote_too_early(missing: str = "BLOCK") -> Ran:
    """DEMOTE although a step before it did not succeed: "BLOCK" (it was BUSY) or "TRACK" (it was left out).

    In the report BLOCK had returned BUSY, the caller went on, and DEMOTE failed with 0xc0000b0800000001.
    Raises InvalidValueError for another step.
    """
    known_name(missing, ("BLOCK", "TRACK"), "a step")
    td = Td(TD_4LEVEL, _FRAMES)
    module = td.module
    if missing == "BLOCK":
        module.vp_enter(1)
        module.hold_sept_lock(1)  # zero-step mitigation
    module.mem_range_block(0, PG_LEVEL_2M)
    if missing == "BLOCK":
        module.vp_exit(1)
        module.mem_track()
        td.tdx.kick_vcpus()
    module.mem_page_demote(0, PG_LEVEL_2M, _SPARE_PAGE)
    said = (
        "the report's DEMOTE had TDX_TLB_TRACKING_NOT_DONE after a BLOCK that was BUSY; here it finds the "
        "entry not blocked before it asks for tracking. In which order the real module asks is unverified"
        if missing == "BLOCK"
        else "the report's status, 0xc0000b08: the entry is blocked, and a vCPU inside may still use it"
    )
    return _ran(f"DEMOTE without {missing}", td, said)


class _DeafWorld(TdxWorld):
    """KVM splits its own table whatever the TDX side answers; that side leaves TRACK out, so DEMOTE fails."""

    def external(self, event: External) -> int:
        if event.op != "split":
            return super().external(event)
        module, page = self.tdx.module, self.tdx.external_spt[spte_to_pfn(event.new_spte)]
        module.mem_range_block(event.gfn, event.level)
        module.mem_page_demote(event.gfn, event.level, page)
        return 0


def demote_not_passed_on() -> Ran:
    """A DEMOTE fails and KVM is not told: its mirror is split, the S-EPT holds the blocked leaf.

    The next zap of a 4K page makes its BLOCK at 4K. In the report it fails with TDX_EPT_WALK_FAILED, and RDX
    is 0x101.
    """
    td = Td(TD_4LEVEL, _FRAMES)
    try:
        run(kvm_vm_set_mem_attributes(td.kvm, _GFN, _GFN + 1, 0), _DeafWorld(td.tdx))
    except KvmBug:
        ended = "KVM bugs the VM"
    else:
        ended = "KVM goes on"
    at = way_down(td.module.sept, _GFN, PG_LEVEL_4K)[-1]
    info = SeptInfo(at.level - 1 | sept_state(at.spte) << 8)
    said = f"{info!r}, as in the report; {ended}"
    return _ran(f"a failed DEMOTE that nobody passes on, then frame {_GFN:#x} is zapped", td, said)


def accept_of_a_removed_page() -> Ran:
    """The guest accepts a page whose entry was removed, then one of 2M where a table is.

    In the report the ACCEPT has 0xc0000b0b00000001, from an entry in state REMOVED. S165 has no such state.
    """
    td = Td(TD_4LEVEL, _FRAMES)
    td.convert(_GFN, _GFN + 1)
    td.forget()
    td.module.accept(_GFN, PG_LEVEL_4K)
    td.module.accept(0, PG_LEVEL_2M)
    said = (
        "the entry is FREE after REMOVE, and the ACCEPT exits to KVM (S169). The report's status, "
        "0xc0000b0b, is here the answer to an ACCEPT of 2M where KVM mapped smaller pages"
    )
    return _ran("ACCEPT after REMOVE", td, said)


# ---- a count in an int -----------------------------------------------------------------------------------


class _IntWorld(World):
    """The fault's snapshot of the sequence count is kept in an int until mmu_lock is held."""

    def __init__(self, kvm: Kvm) -> None:
        super().__init__()
        self.kvm = kvm
        self.seq = kvm.mmu_invalidate_seq

    def snapshot(self) -> None:
        """Let the fault read what an int would hold."""
        self.kvm.mmu_invalidate_seq = kept_in_int(self.seq)

    def lock(self, event: Lock) -> None:
        """The comparison comes next, with the count itself."""
        self.kvm.mmu_invalidate_seq = self.seq


def stale_for_ever(seq: SupportsIndex = 0x8002DC25, *, as_int: bool = True) -> Ran:
    """A fault whose snapshot of mmu_invalidate_seq is an int, or with `as_int` False an unsigned long.

    seq: the count, of 64 bits; nothing is invalidated meanwhile. The guest faults until the frame is mapped,
    or eight times (S267). Raises InvalidValueError for a count that is negative or has more bits.
    """
    count = check_gfn(seq, "a count")
    if count >> 64:
        raise InvalidValueError(f"the count has 64 bits; {count:#x} has more")
    kvm = Kvm(KVM_X86_DEFAULT_VM, TOY, memslots=[KvmMemorySlot(0, 16, host_pfn=0)])
    kvm.mmu_invalidate_seq = count
    world = _IntWorld(kvm)
    answers: list[RetPf] = []
    while len(answers) < _TRIES and RetPf.RET_PF_FIXED not in answers:
        if check_flag(as_int, "as_int"):
            world.snapshot()
        answers.append(RetPf(run(kvm_tdp_mmu_page_fault(kvm, 3, is_private=False), world)))
    kept = kept_in_int(count) if as_int else count
    fixed = answers[-1] == RetPf.RET_PF_FIXED
    said = f"the frame is {'mapped' if fixed else 'never mapped'}"
    calls = tuple(f"{count_of(answers.count(one), 'fault')}: {one.name}" for one in dict.fromkeys(answers))
    kind = "int" if as_int else "unsigned long"
    return Ran(f"mmu_invalidate_seq {count:#x} in an {kind}: compared as {kept:#x}", calls, "", "", said)


def _ran(title: str, td: Td, said: str) -> Ran:
    return Ran(title, tuple(map(repr, td.calls)), _mirror(td.tdx), _sept(td.tdx), said)


def _mirror(tdx: KvmTdx) -> str:
    assert tdx.kvm.mirror_root is not None
    return _entry(way_down(tdx.kvm.mirror_root, 0, PG_LEVEL_2M)[-1], "")


def _sept(tdx: KvmTdx) -> str:
    at = way_down(tdx.module.sept, 0, PG_LEVEL_2M)[-1]
    return _entry(at, f", {sept_state(at.spte).name}")


def _entry(at: Passed, state: str) -> str:
    size = TD_4LEVEL.level(at.level).label
    return "a table of smaller leaves" if is_sept_table(at) else f"one leaf of {size}{state}"
