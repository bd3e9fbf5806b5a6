"""What is asked of two trees, and what an answer says: the names, the frozen values, the words.

The running of it is in `two_roots`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.kvm import (
    KVM_DIRECT_ROOTS,
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    KVM_INVALID_ROOTS,
    KVM_MIRROR_ROOTS,
    KVM_VALID_ROOTS,
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Kvm,
    KvmGfnRange,
)
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    kvm_tdp_mmu_unmap_gfn_range,
)
from tdpkit.engine.roots import kvm_gfn_range_filter_to_root_types
from tdpkit.engine.splits import kvm_tdp_mmu_mirrors_split_huge_pages, kvm_tdp_mmu_split_huge_pages

VM_TYPES = {"TD": KVM_X86_TDX_VM, "plain": KVM_X86_DEFAULT_VM}
FILTERS = {
    "shared": KVM_FILTER_SHARED,
    "private": KVM_FILTER_PRIVATE,
    "both": KVM_FILTER_SHARED | KVM_FILTER_PRIVATE,
    "neither": 0,
}
"""Filters by name (kernel-facts 3.6)."""
TYPE_BITS = {"MIRROR": KVM_MIRROR_ROOTS, "DIRECT": KVM_DIRECT_ROOTS, "INVALID": KVM_INVALID_ROOTS}
SEAMCALLS = {
    "split": ("BLOCK", "TRACK", "kick vCPUs", "DEMOTE"),
    "remove": ("BLOCK", "TRACK", "kick vCPUs", "REMOVE"),
}
"""What a change of a mirror entry means for the S-EPT, in order, by the op of its External event."""


class Operation(NamedTuple):
    """Something done to [g, g+1): its name in sentences, and the kernel function."""

    verb: str
    function: str
    uses_filter: bool
    """The filter decides the root types; else they are fixed."""
    types: Callable[[Kvm, int], int | None]
    """Root types by VM and filter; None where no root is looked for."""
    call: Callable[[Kvm, KvmGfnRange], Coroutine[Any]]


OPERATIONS = {
    "split": Operation(
        "split",
        "kvm_split_cross_boundary_leafs",
        True,
        kvm_gfn_range_filter_to_root_types,
        lambda kvm, span: kvm_split_cross_boundary_leafs(kvm, span, shared=False),
    ),
    "zap": Operation(
        "zap",
        "kvm_tdp_mmu_unmap_gfn_range",
        True,
        lambda kvm, attr_filter: kvm_gfn_range_filter_to_root_types(kvm, attr_filter) | KVM_INVALID_ROOTS,
        kvm_tdp_mmu_unmap_gfn_range,
    ),
    "dirty-log split": Operation(
        "split",
        "kvm_tdp_mmu_try_split_huge_pages",
        False,
        lambda kvm, attr_filter: KVM_VALID_ROOTS,
        lambda kvm, span: kvm_tdp_mmu_try_split_huge_pages(
            kvm, span.slot, span.start, span.end, PG_LEVEL_4K, shared=False
        ),
    ),
    "split in mirror roots": Operation(
        "split",
        "kvm_tdp_mmu_mirrors_split_huge_pages",
        False,
        lambda kvm, attr_filter: KVM_MIRROR_ROOTS,
        lambda kvm, span: kvm_tdp_mmu_mirrors_split_huge_pages(kvm, span.start, span.end, PG_LEVEL_4K),
    ),
    "split at root.hpa": Operation(
        "split",
        "kvm_tdp_mmu_split_huge_pages",
        False,
        lambda kvm, attr_filter: None,
        lambda kvm, span: kvm_tdp_mmu_split_huge_pages(kvm, span.start, span.end, PG_LEVEL_4K, shared=False),
    ),
}
"""By name. Sources: patch v3 11/24; kernel-facts 3.14, 5.6; R1; the last one RFC v5 41 as posted (C43)."""


class Question(NamedTuple):
    """What is asked: the frame, the VM and what is mapped there, the filter and the operation.

    gfn: a frame without the shared bit, or text as parse_gfn reads it; kind: of VM_TYPES; root_level: 4 or
    5; filter: of FILTERS; operation: of OPERATIONS.
    """

    gfn: int | str = "200G+680M+308K"
    kind: str = "TD"
    root_level: int = 4
    filter: str = "private"
    operation: str = "split"
    shared_leaf: bool = False
    """A TD's direct tree has a 2M leaf at g."""
    invalid_root: bool = False
    """A fast zap-all left a direct root that is invalid, and has a 2M leaf at g still."""


class Step(NamedTuple):
    """One level of g's path in one tree: the index, and what is there before and after.

    "table", "leaf", "none" (an empty entry), or "" where the way ended above.
    """

    level: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    before: str
    after: str


class RootSeen(NamedTuple):
    """One root of the VM and what the operation did in its tree."""

    name: str
    """"direct", "invalid direct" or "mirror"."""
    is_mirror: bool
    valid: bool
    matches: bool
    """It matches the root types asked for (root.hpa: it is that root)."""
    needs: tuple[str, ...]
    """The type bits that it takes to match it."""
    missing: tuple[str, ...]
    """Those of them that were not asked for (none is missing where no root was looked for)."""
    path: tuple[Step, ...]
    """From the root's level down to 1."""
    visits: int
    splits: int
    zapped: int
    """Frames, those outside [g, g+1) too."""
    external: tuple[str, ...]
    """Ops of the External events, in order."""
    leaves: tuple[tuple[int, int], ...]
    """Afterwards: runs of 2M leaves, [first, last) by index, in the table on the way to g."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The index path of g, as the hardware would walk it."""
        return tuple(step.index for step in self.path)

    @property
    def reached(self) -> bool:
        """The operation walked it."""
        return self.visits > 0

    @property
    def level_before(self) -> int:
        """Level of the leaf that held g, or 0."""
        return next((step.level for step in self.path if step.before == "leaf"), 0)

    @property
    def level_after(self) -> int:
        """Level of the leaf that holds g now, or 0."""
        return next((step.level for step in self.path if step.after == "leaf"), 0)

    @property
    def effect(self) -> str:
        """What happened in this tree, in words."""
        if not self.reached:
            return "not touched"
        if self.splits:
            return "reached: its 2M leaf is split"
        if self.zapped:
            return f"reached: its 2M leaf is zapped, {self.zapped} frames"
        return "reached: nothing is mapped at g"


@dataclass(frozen=True)
class Outcome:
    """A question answered: what was asked of the roots, what each of them saw, what was said on the way.

    types: the root types asked for, None if no root was looked for; shared_bit: the TD's, in frames, or 0.
    """

    question: Question
    gfn: int
    shared_bit: int
    types: int | None
    roots: tuple[RootSeen, ...]
    returned: int | bool | None
    warnings: tuple[str, ...]
    log: tuple[str, ...]
    """The events, a line each."""

    @property
    def operation(self) -> Operation:
        """The operation that was run."""
        return OPERATIONS[self.question.operation]

    @property
    def is_td(self) -> bool:
        """The VM has a mirror root."""
        return self.question.kind == "TD"

    @property
    def filter_read(self) -> bool:
        """The filter had a say: the operation looks at it, and the VM has a mirror."""
        return self.is_td and self.operation.uses_filter

    @property
    def type_names(self) -> str:
        """The root types in words: "MIRROR + INVALID", or "none"."""
        return name_types(self.types or 0)

    @property
    def seamcalls(self) -> tuple[str, ...]:
        """What goes down to the TDX module, in order."""
        return tuple(call for root in self.roots for op in root.external for call in SEAMCALLS[op])

    @property
    def wrong_root(self) -> bool:
        """The private leaf was meant, and another root was walked (kernel-facts C43)."""
        return self.is_td and self.types is None

    @property
    def answer(self) -> str:
        """One sentence: what was asked, what it reached, what it left alone."""
        return f"{self._asked()}: {self._reached()}."

    def _asked(self) -> str:
        asked, operation = self.question, self.operation
        if self.types is None:
            return "No root type is asked for, root.hpa is the direct root"
        types = f"root types {self.types} ({self.type_names})"
        if not operation.uses_filter:
            return f"The {asked.operation} asks for {types} whatever the filter"
        if not self.is_td:
            return f"A VM without a mirror gets {types} whatever the filter"
        return f"Filter {asked.filter} → {'WARN, ' if self.warnings else ''}{types}"

    def _reached(self) -> str:
        found = [f"the {root.name} tree" for root in self.roots if root.reached and root.level_before]
        empty = [f"the {root.name} tree" for root in self.roots if root.reached and not root.level_before]
        missed = [f"the {root.name} tree" for root in self.roots if not root.reached]
        if not found + empty:
            return f"no root matches, the {self.operation.verb} reaches nothing"
        reached = [_joined(found)] * bool(found)
        reached += [f"{_joined(empty)}, which maps nothing at g"] * bool(empty)
        said = f"the {self.operation.verb} reaches {', and '.join(reached)}"
        if self.wrong_root and found:
            said += " and splits a shared leaf for nothing"
        if missed:
            said += f"; {_joined(missed)} {'is' if len(missed) == 1 else 'are'} not touched"
        if self.wrong_root:
            said += ", the 2M leaf that was meant stays whole"
        return said


def name_types(types: int) -> str:
    """Root types, or the lack of any, in the kernel's words, the highest bit first."""
    return " + ".join(name for name, bit in TYPE_BITS.items() if types & bit) or "none"


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
