"""One frame, one operation: which roots of a VM it asks for, which it reaches, and what it does there.

Each question gets a VM of its own. 2M leaves map the GiB around the frame g. In a TD the half of it that
holds g is private, in the mirror tree, and the other half shared, in the direct tree; a plain VM has all of
it in its direct tree. On request a shared 2M leaf lies at g too, and a direct root that a fast zap-all made
invalid still holds one.

Left out: the TDX side, which always succeeds here; its calls are only named and counted, in their order
(S161-S164). A private and a shared leaf at one frame are laid out, not argued: the attributes of a frame
allow one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from tdpkit.engine.events import (
    AllocTable,
    Coroutine,
    Event,
    External,
    FreeTable,
    Recording,
    SetSpte,
    Trace,
    Visit,
    record,
)
from tdpkit.engine.gfn import (
    PG_LEVEL_1G,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    X86_4LEVEL,
    X86_5LEVEL,
    InvalidValueError,
    name_gfn,
    parse_gfn,
    tdp_mmu_max_gfn_exclusive,
)
from tdpkit.engine.kvm import (
    KVM_DIRECT_ROOTS,
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    KVM_INVALID_ROOTS,
    KVM_MIRROR_ROOTS,
    KVM_VALID_ROOTS,
    Kvm,
    KvmGfnRange,
)
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    kvm_tdp_mmu_unmap_gfn_range,
)
from tdpkit.engine.roots import (
    kvm_gfn_range_filter_to_root_types,
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    tdp_mmu_root_match,
)
from tdpkit.engine.splits import kvm_tdp_mmu_mirrors_split_huge_pages, kvm_tdp_mmu_split_huge_pages
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, decode
from tdpkit.engine.tree import TdpMmuRoot, map_run, way_down

from .guest import VM_KINDS
from .words import check_flag, known_name, listed

FILTERS = {
    "shared": KVM_FILTER_SHARED,
    "private": KVM_FILTER_PRIVATE,
    "both": KVM_FILTER_SHARED | KVM_FILTER_PRIVATE,
    "neither": 0,
}
"""Filters by name (S44)."""
TYPE_BITS = {"MIRROR": KVM_MIRROR_ROOTS, "DIRECT": KVM_DIRECT_ROOTS, "INVALID": KVM_INVALID_ROOTS}
_BLOCKED = {"BLOCK": 1, "TRACK": 1, "kick vCPUs": 0}
TDX_STEPS = {
    "split": _BLOCKED | {"DEMOTE": 1},
    "remove": _BLOCKED | {"REMOVE": 1, "WBINVD": X86_4LEVEL.pages(PG_LEVEL_2M)},
}
"""What a change of a 2M mirror leaf costs, by the op of its External event: the TDX side's steps in order,
each with its number of SEAMCALLs. A kick is none; WBINVD takes one 4K page (S161, S167)."""


class Operation(NamedTuple):
    """An operation on [g, g+1): its name in sentences, and the kernel function."""

    verb: str
    function: str
    uses_filter: bool
    """The filter decides the root types; otherwise they are fixed."""
    types: Callable[[Kvm, int], int | None]
    """Root types by VM and filter; None if the function looks for no root."""
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
"""By name; sources: patch v3 11/24, S49, S81, R1; the last is RFC v5 41 as posted (S140)."""


class Question(NamedTuple):
    """What is asked: the frame, the VM and what is mapped there, the filter and the operation.

    gfn: a frame without the shared bit, or text as parse_gfn reads it; kind: of VM_KINDS; root_level: 4 or
    5; filter: of FILTERS; operation: of OPERATIONS.
    """

    gfn: int | str = "200G+680M+308K"
    kind: str = "TD"
    root_level: int = 4
    filter: str = "private"
    operation: str = "split"
    shared_leaf: bool = False
    """In a TD the direct tree has a 2M leaf at g as well."""
    invalid_root: bool = False
    """A fast zap-all left an invalid direct root, which still has a 2M leaf at g."""


# ---- what an answer says -----------------------------------------------------------------------------


class PathStep(NamedTuple):
    """One level of g's path in one tree: the index, and the entry there before and after.

    The entry is a "table", a "leaf", "none" (empty), or "" if the way ended above.
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
    """The type bits that match it."""
    missing: tuple[str, ...]
    """Those of them that were not asked for; empty if no root was looked for."""
    path: tuple[PathStep, ...]
    """From the root's level down to 1."""
    visits: int
    splits: int
    zapped: int
    """Frames zapped, also those outside [g, g+1)."""
    external: tuple[str, ...]
    """Ops of the External events, in order."""
    leaves: tuple[tuple[int, int], ...]
    """Afterwards: runs of 2M leaves, [first, last) by index, in the table on the way to g."""

    @property
    def indices(self) -> tuple[int, ...]:
        """The indices of g, as the hardware would walk them."""
        return tuple(step.index for step in self.path)

    @property
    def reached(self) -> bool:
        """The operation walked it."""
        return self.visits > 0

    @property
    def lost(self) -> int:
        """Frames outside [g, g+1) that were zapped with their contents, as private ones are."""
        return max(self.zapped - 1, 0) if self.is_mirror else 0

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
class RootsOutcome:
    """A question answered: the root types it asked for, what each root saw, and the events of the call.

    types: None if no root was looked for; shared_bit: the TD's, in frames, or 0.
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
        """The filter decided: the operation reads it, and the VM has a mirror root."""
        return self.is_td and self.operation.uses_filter

    @property
    def type_names(self) -> str:
        """The root types in words, such as "MIRROR + INVALID" or "none"."""
        return name_types(self.types or 0)

    @property
    def tdx_steps(self) -> tuple[str, ...]:
        """The TDX side's steps, in order."""
        return tuple(step for op in self._external for step in _steps(op))

    @property
    def seamcalls(self) -> int:
        """How many SEAMCALLs these steps make."""
        return sum(sum(TDX_STEPS[op].values()) for op in self._external)

    @property
    def _external(self) -> list[str]:
        return [op for root in self.roots for op in root.external]

    @property
    def wrong_root(self) -> bool:
        """The call was for the private leaf and walked another root (S140)."""
        return self.is_td and self.types is None

    @property
    def lost(self) -> int:
        """Frames besides g whose contents are gone."""
        return sum(root.lost for root in self.roots)

    @property
    def answer(self) -> str:
        """One sentence: what was asked, what it reached, what it left alone, what is lost."""
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
        reached = [listed(found)] * bool(found)
        reached += [f"{listed(empty)}, which maps nothing at g"] * bool(empty)
        said = f"the {self.operation.verb} reaches {', and '.join(reached)}"
        if self.wrong_root and found:
            said += " and splits a shared leaf for nothing"
        if missed:
            said += f"; {listed(missed)} {'is' if len(missed) == 1 else 'are'} not touched"
        if self.wrong_root:
            said += ", the 2M leaf that was meant stays whole"
        if self.lost:
            said += f"; {self.lost} private frames besides g are lost"
        return said


def name_types(types: int) -> str:
    """Root types in the kernel's words, the highest bit first; "none" for 0."""
    return " + ".join(name for name, bit in TYPE_BITS.items() if types & bit) or "none"


# ---- asking ------------------------------------------------------------------------------------------------


def ask(question: Question) -> RootsOutcome:
    """Lay the VM out, run the operation on it under the write lock, and look.

    Raises InvalidValueError or InvalidTypeError for an unknown name, and for a frame that the VM or its host
    does not have.
    """
    _check_names(question)
    kvm = Kvm(VM_KINDS[question.kind], X86_4LEVEL if question.root_level == 4 else X86_5LEVEL)
    gfn = _checked_frame(kvm, question.gfn)
    _lay_out(kvm, gfn, question)
    attr_filter = FILTERS[question.filter]
    operation = OPERATIONS[question.operation]
    types = operation.types(kvm, attr_filter)
    roots = sorted(kvm.tdp_mmu_roots, key=lambda root: (root.is_mirror, root.invalid))
    before = [_entries(root, gfn) for root in roots]
    with kvm.slots_lock:
        recording = record(operation.call(kvm, KvmGfnRange(kvm.slot, gfn, gfn + 1, attr_filter)))
    names = {root.row: _name(root) for root in roots}
    log, happened = _read(recording, names)
    return RootsOutcome(
        question._replace(gfn=gfn),
        gfn,
        kvm.gfn_direct_bits,
        types,
        tuple(
            _seen(kvm, root, types, gfn, entries, happened[_name(root)])
            for root, entries in zip(roots, before, strict=True)
        ),
        recording.result,
        tuple(event.name for event in recording.events if type(event) is Trace and "WARN" in event.name),
        tuple(log),
    )


def _check_names(question: Question) -> None:
    known_name(question.kind, VM_KINDS, "the kind")
    known_name(question.filter, FILTERS, "the filter")
    known_name(question.operation, OPERATIONS, "the operation")
    if question.root_level not in (4, 5) or isinstance(question.root_level, float):
        raise InvalidValueError(f"a root is of level 4 or 5; {question.root_level!r} is neither")
    for name in ("shared_leaf", "invalid_root"):
        check_flag(getattr(question, name), name)


def _checked_frame(kvm: Kvm, gfn: int | str) -> int:
    frame = kvm.geometry.check_start(parse_gfn(gfn) if isinstance(gfn, str) else gfn)
    limit = min(kvm.max_gfn_exclusive, tdp_mmu_max_gfn_exclusive())
    if frame >= limit:
        why = "there the shared bit begins" if kvm.gfn_direct_bits else "there the host's memory ends"
        raise InvalidValueError(
            f"a frame of this VM is below {name_gfn(limit)}, {why}; {name_gfn(frame)} is not"
        )
    return frame


# ---- the VM --------------------------------------------------------------------------------------------


def _lay_out(kvm: Kvm, gfn: int, question: Question) -> None:
    at_g, other = _halves(kvm, gfn)
    here = kvm.geometry.gfn_round_for_level(gfn, PG_LEVEL_2M)
    if question.invalid_root:
        _map_2m(kvm.direct_root, here, 1)
        kvm_tdp_mmu_invalidate_roots(kvm, KVM_DIRECT_ROOTS)
        kvm_mmu_reload(kvm)
    half = kvm.geometry.entries // 2
    if kvm.mirror_root is None:
        _map_2m(kvm.direct_root, min(at_g, other), 2 * half)
        return
    _map_2m(kvm.mirror_root, at_g, half)
    _map_2m(kvm.direct_root, other, half)
    if question.shared_leaf:
        _map_2m(kvm.direct_root, here, 1)


def _halves(kvm: Kvm, gfn: int) -> tuple[int, int]:
    """The first frames of the half GiB that holds g and of the other half of that GiB."""
    half = kvm.geometry.pages(PG_LEVEL_1G) // 2
    return gfn // half * half, (gfn // half ^ 1) * half


def _map_2m(root: TdpMmuRoot, gfn: int, count: int) -> None:
    """Guest frames lie on host frames of the same number here."""
    map_run(root, gfn, PG_LEVEL_2M, count, gfn)


# ---- looking -------------------------------------------------------------------------------------------


def _name(root: TdpMmuRoot) -> str:
    return "mirror" if root.is_mirror else "invalid direct" if root.invalid else "direct"


def _entries(root: TdpMmuRoot, gfn: int) -> dict[int, str]:
    """The kind of the entry at each level on the way down to g."""
    return {level: _entry(spte, level) for level, _, _, spte in way_down(root, gfn)}


def _entry(spte: int, level: int) -> str:
    kind = decode(spte, level).kind
    return kind if kind in ("leaf", "table") else "none"


def _seen(
    kvm: Kvm, root: TdpMmuRoot, types: int | None, gfn: int, before: dict[int, str], happened: _Happened
) -> RootSeen:
    geometry, after = kvm.geometry, _entries(root, gfn)
    needs = ["MIRROR" if root.is_mirror else "DIRECT", *["INVALID"] * root.invalid]
    path = tuple(
        PathStep(
            level, geometry.index(gfn | root.gfn_bits, level), before.get(level, ""), after.get(level, "")
        )
        for level in root.nonleaf_levels
    )
    return RootSeen(
        _name(root),
        root.is_mirror,
        not root.invalid,
        root is kvm.direct_root if types is None else tdp_mmu_root_match(root, types),
        tuple(needs),
        tuple(name for name in needs if types is not None and not types & TYPE_BITS[name]),
        path,
        happened.visits,
        happened.splits,
        happened.zapped,
        tuple(happened.external),
        _leaves(root, gfn),
    )


def _leaves(root: TdpMmuRoot, gfn: int) -> tuple[tuple[int, int], ...]:
    rows = [passed.row for passed in way_down(root, gfn, PG_LEVEL_2M) if passed.level == PG_LEVEL_2M]
    runs, first = [], 0
    for kind, run in groupby(_entry(spte, PG_LEVEL_2M) for row in rows for spte in root.pool.table(row)):
        last = first + sum(1 for _ in run)
        if kind == "leaf":
            runs.append((first, last))
        first = last
    return tuple(runs)


class _Happened:
    """What the events say about one root."""

    def __init__(self) -> None:
        self.visits = self.splits = self.zapped = 0
        self.external: list[str] = []


def _read(recording: Recording, names: dict[int, str]) -> tuple[list[str], dict[str, _Happened]]:
    """The events as lines, and what they say about each root: an event belongs to the walk it came from."""
    happened = {name: _Happened() for name in names.values()}
    lines, name = [], ""
    for event in recording.events:
        if type(event) is Visit:
            name = names[event.iter.pt_path[event.iter.root_level]]
            happened[name].visits += 1
        elif type(event) is SetSpte and event.new_spte == SHADOW_NONPRESENT_VALUE:
            happened[name].zapped += X86_5LEVEL.pages(event.level)
        elif type(event) is External:
            happened[name].external.append(event.op)
        elif type(event) is Trace and event.name == "kvm_mmu_split_huge_page":
            happened[name].splits += event.errno == 0
        lines.append(_line(event, name))
    return lines, happened


def _line(event: Event, name: str) -> str:
    """The event as a line; those of one root with its name, those of the S-EPT with the steps they mean."""
    if isinstance(event, External):
        return f"{name}: {event}; {', '.join(_steps(event.op))}"
    return f"{name}: {event}" if isinstance(event, Visit | AllocTable | SetSpte | FreeTable) else str(event)


def _steps(op: str) -> list[str]:
    return [f"{calls} × {step}" if calls > 1 else step for step, calls in TDX_STEPS[op].items()]
