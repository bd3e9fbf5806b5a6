"""One frame, one operation: which roots of a VM it asks for, which it reaches, and what it does there.

A small VM is laid out for each question, and the operation is run on it. The GiB around the frame g is
mapped by 2M leaves. In a TD the half of it that holds g is private, in the mirror tree, and the other half
shared, in the direct tree; a plain VM has all of it in its direct tree. On request a shared 2M leaf lies at
g too, and a direct root that a fast zap-all made invalid still holds one.

Left out: the TDX side, which agrees to everything here; its calls are named by the order they go in
(kernel-facts 8.3, 8.4). That a private and a shared leaf lie at one frame is laid out, not argued: the
attributes of a frame allow one of them.
"""

from __future__ import annotations

from itertools import groupby

from tdpkit.engine.events import (
    AllocTable,
    Event,
    External,
    Flush,
    FreeTable,
    Lock,
    Recording,
    SetSpte,
    Trace,
    Unlock,
    Visit,
    record,
)
from tdpkit.engine.gfn import (
    PG_LEVEL_1G,
    PG_LEVEL_2M,
    X86_4LEVEL,
    X86_5LEVEL,
    InvalidTypeError,
    InvalidValueError,
    format_gfn,
    name_gfn,
    parse_gfn,
    tdp_mmu_max_gfn_exclusive,
)
from tdpkit.engine.kvm import KVM_DIRECT_ROOTS, Kvm, KvmGfnRange
from tdpkit.engine.roots import kvm_mmu_reload, kvm_tdp_mmu_invalidate_roots, tdp_mmu_root_match
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tree import TdpMmuRoot, map_run, way_down

from .two_roots_outcome import (
    FILTERS,
    OPERATIONS,
    SEAMCALLS,
    TYPE_BITS,
    VM_TYPES,
    Outcome,
    Question,
    RootSeen,
    Step,
)

__all__ = ["FILTERS", "OPERATIONS", "VM_TYPES", "Outcome", "Question", "RootSeen", "Step", "ask"]

# ---- asking ------------------------------------------------------------------------------------------------


def ask(question: Question) -> Outcome:
    """Lay the VM out, run the operation on it under the write lock, and look.

    Raises InvalidValueError or InvalidTypeError for a name that is none, and for a frame that the VM or its
    host does not have.
    """
    _check_names(question)
    kvm = Kvm(VM_TYPES[question.kind], X86_4LEVEL if question.root_level == 4 else X86_5LEVEL)
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
    return Outcome(
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
    for name, known in (("kind", VM_TYPES), ("filter", FILTERS), ("operation", OPERATIONS)):
        value = getattr(question, name)
        if value not in [*known]:
            raise InvalidValueError(f"the {name} is one of {', '.join(known)}; {value!r} is none")
    if question.root_level not in (4, 5) or isinstance(question.root_level, float):
        raise InvalidValueError(f"a root is of level 4 or 5; {question.root_level!r} is neither")
    for name in ("shared_leaf", "invalid_root"):
        if not isinstance(getattr(question, name), bool):
            raise InvalidTypeError(f"{name} is True or False; {getattr(question, name)!r} is neither")


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
    """First frames of the half GiB that holds g, and of the other half of that GiB."""
    half = kvm.geometry.pages(PG_LEVEL_1G) // 2
    return gfn // half * half, (gfn // half ^ 1) * half


def _map_2m(root: TdpMmuRoot, gfn: int, count: int) -> None:
    """Guest frames lie on host frames of the same number here."""
    map_run(root, gfn, PG_LEVEL_2M, count, gfn)


# ---- looking -------------------------------------------------------------------------------------------


def _name(root: TdpMmuRoot) -> str:
    return "mirror" if root.is_mirror else "invalid direct" if root.invalid else "direct"


def _entries(root: TdpMmuRoot, gfn: int) -> dict[int, str]:
    """What is at each level of the way down to g."""
    return {level: _entry(spte, level) for level, _, _, spte in way_down(root, gfn)}


def _entry(spte: int, level: int) -> str:
    return "none" if not is_shadow_present_pte(spte) else "leaf" if is_last_spte(spte, level) else "table"


def _seen(
    kvm: Kvm, root: TdpMmuRoot, types: int | None, gfn: int, before: dict[int, str], happened: _Happened
) -> RootSeen:
    geometry, after = kvm.geometry, _entries(root, gfn)
    needs = ["MIRROR" if root.is_mirror else "DIRECT", *["INVALID"] * root.invalid]
    path = tuple(
        Step(level, geometry.index(gfn | root.gfn_bits, level), before.get(level, ""), after.get(level, ""))
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
    """What the events say of one root."""

    def __init__(self) -> None:
        self.visits = self.splits = self.zapped = 0
        self.external: list[str] = []


def _read(recording: Recording, names: dict[int, str]) -> tuple[list[str], dict[str, _Happened]]:
    """The events as lines, and what they say of each root; an event belongs to the walk it came from."""
    happened = {name: _Happened() for name in names.values()}
    lines, name, root_level = [], "", 0
    for event in recording.events:
        if type(event) is Visit:
            root_level = event.iter.root_level
            name = names[event.iter.pt_path[root_level]]
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
    match event:
        case Visit(iter=it):
            found = _entry(it.old_spte, it.level)
            return (
                f"{name}: visit the level {it.level} entry at {format_gfn(it.gfn)}, index {it.index}: {found}"
            )
        case AllocTable():
            return f"{name}: a page for a table"
        case Unlock():
            return "mmu_lock is let go"
        case Lock():
            return "mmu_lock is taken again"
        case SetSpte():
            to = _entry(event.new_spte, event.level)
            return f"{name}: level {event.level} entry at {format_gfn(event.gfn)} becomes {to}"
        case External():
            return f"{name}: the TDX side follows ({event.op}): {', '.join(SEAMCALLS[event.op])}"
        case FreeTable():
            return f"{name}: a spare page is freed"
        case Flush():
            return "all TLBs are flushed"
        case _:
            return f"trace {event}"
