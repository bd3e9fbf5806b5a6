"""A public report, run: private pages lost to a shared leaf that was too large.

Frames 0x800 to 0xa00 are private, 0x84d to 0x86e are converted to shared, and the next fault is at 0x84d. The
private frames on both sides must stay. In the report a shared leaf of 2M over 0x800 took them.

The VM is a software-protected one (S265): it has private and shared frames in one tree, and only in one tree
can a shared leaf take a private page. Its guest_memfd has folios of 2M, so that one leaf maps the block at
first. Both are our choice. In a TD each half has a tree of its own: the same wrong level takes nothing from
the mirror, and maps 479 frames as shared that are private. A frame that a software-protected VM lost by a zap
comes back with the next fault; a TD's is gone (S172).

A call's :class:`~tdpkit.engine.events.Recording` holds its trace. The TDX side succeeds at everything.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.conversion import KVM_MEMORY_ATTRIBUTE_PRIVATE, kvm_vm_set_mem_attributes
from tdpkit.engine.events import Coroutine, Recording, Trace, record
from tdpkit.engine.gfn import PG_LEVEL_2M, X86_4LEVEL, FrameSet, GfnRange, InvalidTypeError
from tdpkit.engine.guest_memfd import GuestMemfd
from tdpkit.engine.kvm import (
    KVM_X86_SW_PROTECTED_VM,
    KVM_X86_TDX_VM,
    VM_TYPE_NAMES,
    Kvm,
    KvmMemorySlot,
)
from tdpkit.engine.mmu import kvm_max_mapping_level
from tdpkit.engine.page_fault import LevelRule, kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import SPLITS
from tdpkit.engine.tree import Leaf, TdpMmuRoot, translate

from .words import count_of, known_name

PRIVATE = GfnRange(0x800, 0xA00)
"""One block of 2M, private at first."""
CONVERTED = GfnRange(0x84D, 0x86E)
"""Frames that become shared; the next fault is at their start."""

_FRAMES, _GMEM_PFN, _HOST_PFN = 0x1000, 0x40000, 0x80000
"""Size of the guest; first host frames of its guest_memfd and of userspace's memory."""


def host_page_level(kvm: Kvm, slot: KvmMemorySlot, gfn: int, max_level: int) -> int:
    """The level of the host's page, whatever the attributes say: by this rule pages are lost."""
    return max_level


LEVEL_RULES: dict[str, LevelRule] = {"kvm": kvm_max_mapping_level, "host page": host_page_level}
"""Rules for the level of a mapping, by name. KVM's own maps no block of both kinds by one leaf (S265)."""
VMS = {VM_TYPE_NAMES[kind]: kind for kind in (KVM_X86_SW_PROTECTED_VM, KVM_X86_TDX_VM)}
"""Kinds of VM by name: one tree for both halves, or one each."""


class FrameRun(NamedTuple):
    """Frames side by side that fared alike."""

    span: GfnRange
    fate: str
    """"kept", "lost" or "shared", and how."""
    level: int
    """Of the leaf that maps them in the tree of their half; 0: none does."""


class MadeCall(NamedTuple):
    """One call of the report, and how many private frames were lost after it."""

    recording: Recording
    lost: int

    @property
    def trace(self) -> list[str]:
        """Its trace events, as the kernel prints them."""
        return [str(event) for event in self.recording.of(Trace)]


class LostPages(NamedTuple):
    """What became of each frame of the block."""

    title: str
    calls: dict[str, MadeCall]
    """By name, in order: "make private", "map", "convert", "fault"."""
    runs: tuple[FrameRun, ...]

    @property
    def lost(self) -> FrameSet:
        """Private frames whose own page is not mapped any more."""
        return self._frames("lost")

    @property
    def kept(self) -> FrameSet:
        """Private frames that are mapped to their own page."""
        return self._frames("kept")

    @property
    def shared(self) -> FrameSet:
        """Frames that were converted."""
        return self._frames("shared")

    def _frames(self, fate: str) -> FrameSet:
        found = FrameSet()
        for run in self.runs:
            if run.fate.startswith(fate):
                found.store(run.span, True)
        return found

    def __repr__(self) -> str:
        said = [self.title]
        for fate, runs in groupby(self.runs, lambda run: run.fate):
            spans = [run.span for run in runs]
            span = GfnRange(spans[0].start, spans[-1].end)
            said.append(f"  {span.start:#x}-{span.end - 1:#x} {span.pages:>4} {fate}")
        lost = [*self.calls.values()][-1].lost
        taker = next((f", by the call “{name}”" for name, call in self.calls.items() if call.lost), "")
        return "\n".join([*said, f"{count_of(lost, 'private frame')} lost{taker}"])


def lost_pages(
    level_rule: str | LevelRule = "kvm", *, vm: str = "software-protected VM", split: str = "v3"
) -> LostPages:
    """Run the report: map the block, convert, fault at the first converted frame.

    level_rule: a name in LEVEL_RULES, or a rule of one's own; it chooses the level of the last fault. vm: a
    name in VMS; split: a name in SPLITS, for the conversion. Raises InvalidValueError for another name,
    InvalidTypeError for a rule that cannot be called.
    """
    if isinstance(level_rule, str):
        rule = LEVEL_RULES[known_name(level_rule, LEVEL_RULES, "a rule")]
    elif callable(level_rule):
        rule, level_rule = level_rule, getattr(level_rule, "__name__", "a rule of one's own")
    else:
        raise InvalidTypeError(f"a rule is a name or a function; {level_rule!r} is neither")
    how = SPLITS[known_name(split, SPLITS, "a split")]
    gmem = GuestMemfd(X86_4LEVEL, _FRAMES, _GMEM_PFN)
    slot = KvmMemorySlot(0, _FRAMES, host_pfn=_HOST_PFN, host_level=PG_LEVEL_2M, gmem=gmem)
    kvm = Kvm(VMS[known_name(vm, VMS, "a VM")], X86_4LEVEL, memslots=[slot])
    made: dict[str, Coroutine[int]] = {
        "make private": kvm_vm_set_mem_attributes(
            kvm, PRIVATE.start, PRIVATE.end, KVM_MEMORY_ATTRIBUTE_PRIVATE
        ),
        "map": kvm_tdp_mmu_page_fault(kvm, PRIVATE.start, is_private=True),
        "convert": kvm_vm_set_mem_attributes(kvm, CONVERTED.start, CONVERTED.end, 0, split=how),
        "fault": kvm_tdp_mmu_page_fault(
            kvm, CONVERTED.start, is_private=False, replace_tables=True, level_rule=rule
        ),
    }
    calls = {}
    for name, call in made.items():
        recording = record(call)
        lost = sum(run.span.pages for run in _runs(kvm) if run.fate.startswith("lost"))
        calls[name] = MadeCall(recording, 0 if name == "make private" else lost)
    title = f"{vm}; level by the rule “{level_rule}”; split before the zap: {split}"
    return LostPages(title, calls, tuple(_runs(kvm)))


def _runs(kvm: Kvm) -> list[FrameRun]:
    runs = []
    fates = groupby(range(PRIVATE.start, PRIVATE.end), lambda gfn: _fate(kvm, gfn))
    for (fate, level), gfns in fates:
        first, *others = gfns
        runs.append(FrameRun(GfnRange(first, [first, *others][-1] + 1), fate, level))
    return runs


def _fate(kvm: Kvm, gfn: int) -> tuple[str, int]:
    """How a frame fares, and the level of its leaf; what was never mapped counts as lost."""
    if gfn not in kvm.mem_attributes:
        leaf = _own(kvm.direct_root, gfn, _HOST_PFN)
        return "shared", leaf.level if leaf else 0
    leaf = _own(kvm.private_root, gfn, _GMEM_PFN)
    as_shared = _own(kvm.direct_root, gfn, _HOST_PFN)
    if leaf:
        return "kept" + (", and mapped as shared as well" if as_shared else ""), leaf.level
    return ("lost: mapped as shared", as_shared.level) if as_shared else ("lost: not mapped", 0)


def _own(root: TdpMmuRoot | None, gfn: int, first_pfn: int) -> Leaf | None:
    """The leaf that maps `gfn` to its frame of the memory from `first_pfn` on; None if none does."""
    leaf = translate(root, gfn) if root else None
    return leaf if leaf and leaf.pfn + gfn - leaf.gfn == first_pfn + gfn else None
