"""Does the engine do what the kernel's own code did? Replays recorded vectors and compares every field.

    python -m tdpkit.lab.conformance FOLDER

prints a line per file (``split_cross 400/400``) and each file's first mismatch. Exit status: 0 if every case
passes, 1 on a mismatch, 2 if the folder or a file cannot be replayed.

Each case runs on the engine's own coroutines in a world that counts and, where the case says so, refuses
pages, asks for reschedules, or plays the other thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tdpkit.engine.events import World, run
from tdpkit.engine.gfn import X86_4LEVEL, X86_5LEVEL, Geometry, GfnRange, InvalidValueError
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs, kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.roots import kvm_gfn_range_filter_to_root_types
from tdpkit.engine.spte import (
    EPT,
    NPT,
    SPTE_BASE_ADDR_MASK,
    is_last_spte,
    is_shadow_present_pte,
    make_small_spte,
)
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, join_runs, leaf_runs, map_run, tables_per_level

from .vectors import Case, VectorError, load_folder, shorten
from .worlds import CountingWorld, Faults, FaultWorld

GEOMETRY = {4: X86_4LEVEL, 5: X86_5LEVEL}


def faults_of(inject: Case) -> Faults:
    """The lab's Faults for a case's `inject`."""
    return Faults(
        refuse_page=inject["enomem_at"],
        resched_every=inject["yield_every"],
        sticky=inject["yield_mode"] == "sticky",
        race=inject["race"],
        race_at=inject["race_at"],
    )


def join_splits(splits: Iterable[tuple[int, int]], geometry: Geometry) -> list[list[int]]:
    """Splits side by side as runs [gfn, level, count]."""
    runs: list[list[int]] = []
    for gfn, level in splits:
        if runs and runs[-1][1] == level and runs[-1][0] + runs[-1][2] * geometry.pages(level) == gfn:
            runs[-1][2] += 1
        else:
            runs.append([gfn, level, 1])
    return runs


def _vm(case: Case, vm_type: int = KVM_X86_DEFAULT_VM) -> Kvm:
    return Kvm(vm_type, GEOMETRY[case["root_level"]])


def _populated(case: Case) -> TdpMmuRoot:
    root = _vm(case).direct_root
    _map(root, case["leaves"])
    return root


def _map(root: TdpMmuRoot, runs: list[list[int]]) -> None:
    for gfn, level, number, pfn in runs:
        map_run(root, gfn, level, number, pfn)


def _runs(root: TdpMmuRoot) -> list[list[int]]:
    return [list(leaf_run) for leaf_run in leaf_runs(root)]


# ---- one replay per kind: from a case's inputs to every field that the engine can answer ----------------


def replay_walk(case: Case) -> Case:
    """Replay for_each_tdp_pte_min_level: the visits of a walk."""
    root = _populated(case)
    it = TdpIter(root, case["min_level"], case["start"])
    visits: list[list[int]] = []
    while it.valid and it.gfn < case["end"]:
        kind = 0
        if is_shadow_present_pte(it.old_spte):
            kind = 1 if is_last_spte(it.old_spte, it.level) else 2
        last = visits[-1] if visits else [0, 0, 0, 0]
        if last[1:3] == [it.level, kind] and last[0] + last[3] * root.geometry.pages(it.level) == it.gfn:
            last[3] += 1
        else:
            visits.append([it.gfn, it.level, kind, 1])
        it.next()
    return {"n_visits": sum(visit[3] for visit in visits), "visits": visits}


def replay_split(case: Case) -> Case:
    """Replay tdp_mmu_split_huge_pages_root, or the patch's whole API if only crossing leaves are split."""
    vm = _vm(case)
    root = vm.direct_root
    _map(root, case["leaves"])
    before = list(tables_per_level(root))
    world = CountingWorld()
    return {"tables_before": before, **_split_outcome(_split(vm, case, world), root, world)}


def _split(vm: Kvm, case: Case, world: World, *, as_posted: bool = False) -> int:
    start, end, shared = case["start"], case["end"], case["shared"]
    if case["only_cross_boundary"]:
        gfn_range = KvmGfnRange(vm.slot, start, end)
        with vm.slots_lock:
            split = kvm_split_cross_boundary_leafs(vm, gfn_range, shared=shared, as_posted=as_posted)
            return run(split, world)
    call = tdp_mmu_split_huge_pages_root(vm.direct_root, start, end, case["target_level"], shared=shared)
    return run(call, world)


def _split_outcome(ret: int, root: TdpMmuRoot, world: CountingWorld) -> Case:
    return {
        "ret": ret,
        "n_splits": len(world.splits),
        "iterations": world.iterations,
        "allocations": world.allocations,
        "lock_drops": world.lock_drops,
        "yields": world.yields,
        "splits": join_splits(((gfn, level) for _, gfn, level in world.splits), root.geometry),
        "final": _runs(root),
        "tables_after": list(tables_per_level(root)),
    }


def replay_faults(case: Case) -> Case:
    """Replay a split with refused pages, reschedules or another thread, and without a race a retry."""
    vm, world = _faulty(case)
    root = vm.direct_root
    ret = _split(vm, case, world)
    got = _split_outcome(ret, root, world)
    fired, gfn, level = world.fired
    got |= {
        "inject": {**case["inject"], "race_fired": fired, "race_gfn": gfn, "race_level": level},
        "failed_cmpxchg": world.failed_cmpxchg,
        "unused_sp_freed": world.unused_sp_freed,
        "pages_leaked": root.pool.rows_in_use - sum(tables_per_level(root)),
    }
    posted, posted_world = _faulty(case)
    got["api_ret_v3_bool"] = _split(posted, case, posted_world, as_posted=True)
    if case["inject"]["race"] == "none":
        clean_vm, clean, again = _vm(case), CountingWorld(), CountingWorld()
        _map(clean_vm.direct_root, case["leaves"])
        _split(clean_vm, case, clean)
        retry = _split(vm, case, again)
        got |= {
            "clean_iterations": clean.iterations,
            "clean_allocations": clean.allocations,
            "retry": {
                "ret": retry,
                "n_splits": len(again.splits),
                "iterations": again.iterations,
                "allocations": again.allocations,
                "equals_clean_run": _runs(root) == _runs(clean_vm.direct_root),
            },
        }
    return got


def _faulty(case: Case) -> tuple[Kvm, FaultWorld]:
    vm = _vm(case)
    _map(vm.direct_root, case["leaves"])
    return vm, FaultWorld(vm.direct_root, faults_of(case["inject"]))


def replay_zap(case: Case) -> Case:
    """Replay tdp_mmu_zap_leafs, after a boundary split or not."""
    root, pre, world = _populated(case), CountingWorld(), CountingWorld()
    span = GfnRange(case["start"], case["end"])
    if case["pre_split"] == "cross":
        run(
            tdp_mmu_split_huge_pages_root(
                root, span.start, span.end, 1, shared=False, only_cross_boundary=True
            ),
            pre,
        )
    before = _runs(root)
    flush = run(tdp_mmu_zap_leafs(root, span.start, span.end), world)
    frames = sum(root.geometry.pages(level) for _, level, _, _ in world.zapped)
    inside = sum(span.overlap(gfn, root.geometry.pages(level)) for gfn, level, _, _ in world.zapped)
    return {
        "pre_n_splits": len(pre.splits),
        "before_zap": before,
        "zapped": [list(leaf_run) for leaf_run in join_runs(world.zapped, root.geometry)],
        "frames_zapped_in_range": inside,
        "frames_zapped_outside_range": frames - inside,
        "flush": flush,
        "iterations": world.iterations,
        "final": _runs(root),
        "tables_after": list(tables_per_level(root)),
    }


def replay_roots(case: Case) -> Case:
    """Replay the patch's per-range function on a VM with one root or two, and an unmap if there was one."""
    vm = _vm(case, KVM_X86_TDX_VM if case["vm"] == "tdx" else KVM_X86_DEFAULT_VM)
    named = {"direct": vm.direct_root, **({"mirror": vm.mirror_root} if vm.mirror_root else {})}
    for name in case["mapped_in"]:
        if name not in named:
            raise InvalidValueError("a VM without a mirror root maps nothing in it")
        _map(named[name], case["leaves"])
    gfn_range = KvmGfnRange(vm.slot, case["start"], case["end"], case["attr_filter"])
    world = CountingWorld()
    with vm.slots_lock:
        run(kvm_split_cross_boundary_leafs(vm, gfn_range, shared=False), world)
        flush = run(kvm_tdp_mmu_unmap_gfn_range(vm, gfn_range)) if case["then_unmap"] else False
    row_name = {root.row: name for name, root in named.items()}

    def splits(name: str) -> list[list[int]]:
        return join_splits(((g, lv) for row, g, lv in world.splits if row_name[row] == name), vm.geometry)

    return {
        "gfn_direct_bits": vm.gfn_direct_bits,
        "root_types": kvm_gfn_range_filter_to_root_types(vm, case["attr_filter"]),
        "iterations": world.iterations,
        "allocations": world.allocations,
        "external_set_calls_split": world.external_set_calls,
        "flush": flush,
        "splits_direct": splits("direct"),
        "splits_mirror": splits("mirror"),
        "first_root": row_name[world.splits[0][0]] if world.splits else None,
        "final_direct_table_gfn": _runs(vm.direct_root),
        "final_mirror": _runs(vm.mirror_root) if vm.mirror_root else None,
    }


def replay_spte_bits(case: Case) -> Case:
    """Replay make_small_spte: children of a huge leaf."""
    huge_spte = int(case["huge_spte"], 16)

    def child(index: int) -> int:
        if index >= X86_4LEVEL.entries:
            raise InvalidValueError(f"a table has {X86_4LEVEL.entries} entries; {index} is no index")
        return make_small_spte(
            huge_spte,
            case["huge_level"] - 1,
            index,
            X86_4LEVEL,
            exec_allowed=case["role_access"] == "rwx",
            nx_huge_pages=case["nx_huge_pages"],
            masks=NPT if case["masks"].startswith("non-EPT") else EPT,
        )

    changed = (child(0) ^ huge_spte) & ~SPTE_BASE_ADDR_MASK
    return {
        "children": [[index, f"{child(index):#018x}"] for index, _ in case["children"]],
        "changed_bits_besides_pfn": f"{changed:#018x}",
    }


REPLAY: dict[str, Callable[[Case], Case]] = {
    "walk": replay_walk,
    "split_all": replay_split,
    "split_cross": replay_split,
    "faults": replay_faults,
    "zap": replay_zap,
    "roots": replay_roots,
    "spte_bits": replay_spte_bits,
}


def mismatches(case: Case, got: Case) -> Iterator[tuple[str, Any, Any]]:
    """(field, expected, got) for each answer that differs; a field inside a field is ``retry.ret``."""
    for field, value in got.items():
        expected = case.get(field)
        if isinstance(value, dict) and isinstance(expected, dict):
            yield from ((f"{field}.{name}", want, has) for name, want, has in mismatches(expected, value))
        elif field not in case or value != expected:
            yield field, expected, value


def main(arguments: list[str]) -> int:
    """Run the command that the module's text describes; return its exit status."""
    if len(arguments) != 1:
        print("usage: python -m tdpkit.lab.conformance FOLDER", file=sys.stderr)
        return 2
    try:
        cases_by_kind = load_folder(Path(arguments[0]))
        reports = [_replay_file(kind, cases, Path(arguments[0])) for kind, cases in cases_by_kind.items()]
    except VectorError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print("\n".join(report for report, _ in reports))
    return 0 if all(passed for _, passed in reports) else 1


def _replay_file(kind: str, cases: list[Case], folder: Path) -> tuple[str, bool]:
    failed, first = 0, ""
    for number, case in enumerate(cases, 1):
        try:
            differences = list(mismatches(case, REPLAY[kind](case)))
        except (ValueError, TypeError) as error:
            where = f"{folder / f'{kind}.jsonl'}, line {number}"
            raise VectorError(f"{where}: the engine refuses the case: {error}") from None
        if differences:
            failed += 1
            first = first or _readable(case["id"], differences)
    return f"{kind} {len(cases) - failed}/{len(cases)}{first}", not failed


def _readable(identity: str, differences: list[tuple[str, Any, Any]]) -> str:
    field, expected, got = differences[0]
    more = f" (and {len(differences) - 1} more fields)" if len(differences) > 1 else ""
    return (
        f"\n  first mismatch: {shorten(identity)[1:-1]}, field {field}{more}"
        f"\n    expected {shorten(expected)}\n    got      {shorten(got)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
