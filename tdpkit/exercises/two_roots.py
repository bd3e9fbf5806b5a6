"""The exercises of notebook 04 on root types: which roots they match, and which tree a filter reaches.

A table of answers is held against a TD that has all four kinds of roots, and a zap of each number of root
types is run on it. A submission may be anything at all: what is of the wrong kind is answered in words, and
never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from tdpkit.engine.events import Coroutine, record
from tdpkit.engine.gfn import PG_LEVEL_2M
from tdpkit.engine.kvm import KVM_ALL_ROOTS, KVM_VALID_ROOTS, KVM_X86_TDX_VM, Kvm
from tdpkit.engine.roots import (
    each_tdp_mmu_root,
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    warn_unless_root_types,
)
from tdpkit.engine.tdp_mmu import tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_leaf
from tdpkit.lab.layouts import TOY
from tdpkit.lab.two_roots import Question, ask, name_types
from tdpkit.lab.words import count_of

from .submission import answer_to, items, shown
from .verdict import Verdict, waiting

# ---- the table of root types ---------------------------------------------------------------------------

ROOTS = ("valid direct", "invalid direct", "valid mirror", "invalid mirror")
"""The kinds of roots, in the order of a row of the table."""
ROOT_TYPES = range(KVM_ALL_ROOTS + 1)
"""Every number that the three bits of the root types make (kernel-facts 3.4)."""


def four_roots() -> tuple[Kvm, dict[str, TdpMmuRoot]]:
    """A TD with a root of each kind, by its name in ROOTS; each has one huge leaf at frame 0.

    The invalid ones are left by an invalidation of all roots, after which the vCPU took new ones.
    """
    kvm = Kvm(KVM_X86_TDX_VM, TOY)
    old = (kvm.direct_root, kvm.mirror_root)
    _map_at_0(kvm)
    kvm_tdp_mmu_invalidate_roots(kvm, KVM_VALID_ROOTS)
    kvm_mmu_reload(kvm)
    _map_at_0(kvm)
    roots = (kvm.direct_root, old[0], kvm.mirror_root, old[1])
    return kvm, {name: root for name, root in zip(ROOTS, roots, strict=True) if root is not None}


def _map_at_0(kvm: Kvm) -> None:
    for root in (kvm.direct_root, kvm.mirror_root):
        if root is not None:
            map_leaf(root, 0, PG_LEVEL_2M, 0)


def zap_of_types(kvm: Kvm, types: int) -> Coroutine[None]:
    """Zap frame 0 in the roots that match `types`: the loop of every caller, around one zap."""
    yield from warn_unless_root_types(types)
    with closing(each_tdp_mmu_root(kvm, 0, types)) as roots:
        for root in roots:
            yield from tdp_mmu_zap_leafs(root, 0, 1)


def zapped_by(types: int) -> tuple[dict[str, bool], bool]:
    """Which of the four roots have lost their leaf after a zap of `types`; and whether the kernel WARNs."""
    kvm, roots = four_roots()
    recording = record(zap_of_types(kvm, types))
    lost = {name: not leaf_runs(root) for name, root in roots.items()}
    return lost, any("WARN" in str(event) for event in recording.events)


def check_root_types(table: Any) -> Verdict:
    """Run a zap of each number of root types on a TD with four roots, and compare with the table.

    table: a dict, for each of ROOT_TYPES four answers in the order of ROOTS: True or False (1 or 0), does
    such a root match? The first answer that is wrong is the counterexample.
    """
    if table is ...:
        return _write_row(0)
    if not isinstance(table, Mapping):
        return Verdict(False, f"the table is a dict, four answers for each number; {shown(table)} is none.")
    for types in ROOT_TYPES:
        said = answer_to(table, types)
        row = said if said is ... else items(said, len(ROOTS) + 1)
        if row is ... or (row and any(answer is ... for answer in row)):
            return _write_row(types)
        asked = f"types {types} ({name_types(types)})"
        if row is None or isinstance(said, Mapping | set | frozenset) or len(row) != len(ROOTS):
            return Verdict(False, f"{asked}: four answers are wanted, in order; {shown(said)} is not that.")
        lost, warned = zapped_by(types)
        for answer, (name, reached) in zip(row, lost.items(), strict=True):
            yes = truth(answer)
            if yes is None:
                return Verdict(False, f"{asked}, {name} root: True or False is wanted; not {shown(answer)}.")
            if yes != reached:
                return Verdict(False, _not_so(asked, name, lost, warned))
    return Verdict(
        True,
        "eight zaps, and each took the leaves of the roots that you named. DIRECT and MIRROR say which roots "
        "are meant, INVALID lets the invalid ones of them in and means none by itself.",
    )


def _write_row(types: int) -> Verdict:
    return waiting(
        f"types {types} ({name_types(types)}): which roots match? Four answers, True or False, for: "
        f"{', '.join(ROOTS)}."
    )


def _not_so(asked: str, name: str, lost: Mapping[str, bool], warned: bool) -> str:
    pages = count_of(TOY.pages(PG_LEVEL_2M), "frame")
    if lost[name]:
        return f"{asked}, {name} root: you said that it does not match; a zap of frame 0 took its {pages}."
    others = [other for other, gone in lost.items() if gone]
    took = f"the leaves of: {', '.join(others)}" if others else "no leaf at all"
    warn = ", and the kernel WARNs" if warned else ""
    return f"{asked}, {name} root: you said that it matches; a zap of frame 0 took {took}{warn}."


def truth(answer: Any) -> bool | None:
    """An answer as a truth value: a boolean, 1 or 0; None for anything else."""
    try:
        return bool(answer) if answer in (0, 1) else None
    except Exception:  # its __eq__ may raise anything
        return None


# ---- a guess before the exhibit --------------------------------------------------------------------------

REACHED = ("the direct tree", "the mirror tree", "both trees", "no tree")


def check_plain_zap(guess: Any) -> Verdict:
    """Which tree a zap with the filter "private" reaches in a VM that is no TD: one of REACHED."""
    if guess is ...:
        return waiting(f"choose one of: {', '.join(REACHED)}.")
    if not isinstance(guess, str) or guess not in REACHED:
        return Verdict(False, f"the answers are {', '.join(REACHED)}; {shown(guess)} is none of them.")
    outcome = ask(Question(kind="plain", filter="private", operation="zap"))
    names = [root.name for root in outcome.roots if root.reached]
    there = [root.name for root in outcome.roots]
    found = {(): "no tree", ("direct",): "the direct tree", ("mirror",): "the mirror tree"}
    right = found.get(tuple(names), "both trees")
    lost = count_of(sum(root.zapped for root in outcome.roots), "frame")
    told = (
        f"this VM has {count_of(len(there), 'root')}, {' and '.join(there)}. Whatever the filter, the zap "
        f"asks for root types {outcome.types} ({outcome.type_names}), and took {lost} there."
    )
    return Verdict(guess == right, told if guess == right else f"you said {guess}; {told}")
