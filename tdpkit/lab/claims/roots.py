"""Which roots a split should reach: dirty logging, the fault path of a TD, and the wrong root."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tdpkit.engine import mmu, splits
from tdpkit.engine.events import EINVAL, Coroutine, Trace, record
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_leaf, map_run
from tdpkit.tdx.abi import TDX_SUCCESS, Call
from tdpkit.tdx.guest import td_accept

from ..caller_runs import FRAMES, RANGES
from ..layouts import TOY
from ..td import Td
from ..words import count_of
from .claim import FAILS, HOLDS, HOLDS_IF, Claim, Finding, Lesson

_LEAVES = FRAMES // TOY.pages(PG_LEVEL_2M)


def _huge(root: TdpMmuRoot | None) -> int:
    """Huge leaves in a tree."""
    return sum(run.count for run in leaf_runs(root) if run.level > PG_LEVEL_4K) if root else 0


def _split_in(kvm: Kvm) -> tuple[int, int]:
    """Private and shared huge leaves that are gone, of _LEAVES each."""
    return _LEAVES - _huge(kvm.mirror_root), _LEAVES - _huge(kvm.direct_root)


def _two_halves() -> Td:
    """A TD with huge leaves on all frames in both trees: laid out, not argued."""
    td = Td(TOY, FRAMES)
    map_run(td.kvm.direct_root, 0, PG_LEVEL_2M, _LEAVES, 2 * FRAMES)
    return td


# ---- dirty logging -------------------------------------------------------------------------------------


def _dirty_logging_reaches_mirrors() -> Finding:
    """Call upstream's split for dirty logging on a TD by hand, then M1's wrapper; and both on a plain VM.

    KVM refuses dirty logging on guest_memfd slots, which is not modelled. Sources: M1, S42, S44, S124.
    """
    td = _two_halves()
    td.run(mmu.kvm_mmu_try_split_huge_pages(td.kvm, td.kvm.slot, 0, FRAMES))
    private, _ = _split_in(td.kvm)
    fresh = _two_halves()
    fresh.forget()
    call = splits.kvm_tdp_mmu_split_huge_pages_log_dirty(
        fresh.kvm, fresh.kvm.slot, 0, FRAMES, PG_LEVEL_4K, shared=False
    )
    ret = fresh.run(call)
    warned = any(isinstance(event, Trace) and "WARN" in event.name for event in fresh.events)
    refused = (ret, warned, _split_in(fresh.kvm)) == (-EINVAL, True, (0, 0))
    trees = []
    for split in (mmu.kvm_tdp_mmu_try_split_huge_pages, splits.kvm_tdp_mmu_split_huge_pages_log_dirty):
        plain = Kvm(KVM_X86_DEFAULT_VM, TOY)
        map_run(plain.direct_root, 0, PG_LEVEL_2M, _LEAVES, 0)
        record(split(plain, plain.slot, 0, FRAMES, PG_LEVEL_4K, shared=False))
        trees.append((leaf_runs(plain.direct_root), _LEAVES - _huge(plain.direct_root)))
    alike = trees[0] == trees[1] and trees[1][1] > 0
    shown = (
        f"On a TD the split for dirty logging splits {private} of {_LEAVES} private leaves. The wrapper "
        f"{'warns' if warned else 'is silent'} there, returns {ret} and splits "
        f"{count_of(sum(_split_in(fresh.kvm)), 'leaf', 'leaves')}; on a plain VM, with its filter of 0, it "
        f"makes {'the same tree' if alike else 'another tree'}, with {count_of(trees[1][1], 'split')}."
    )
    return Finding(HOLDS if private and refused and alike else FAILS, shown)


# ---- a split for an ACCEPT -----------------------------------------------------------------------------

_Split = Callable[[Kvm, int, int], Coroutine[int]]


class _Accepts(NamedTuple):
    """The guest accepted a page of 4K in a PENDING 2M leaf, once for each frame, each time on a fresh TD."""

    accepted: int
    dead: int
    private: int
    """Private leaves that a split made smaller."""
    shared: int
    """Shared leaves, at the same frames, that were split."""
    rounds: int
    """The most ACCEPTs that one guest made."""


def _accept_each(split: _Split, *, shared_leaves: bool = True) -> _Accepts:
    """A TD of RFC v5, in which a private leaf must not be split under the read lock (S140)."""
    accepted = dead = private = shared = rounds = 0
    for gfn in range(FRAMES):
        td = Td(TOY, FRAMES, accepted=False, series="RFC v5")
        for first in range(0, FRAMES, TOY.pages(PG_LEVEL_2M)):
            td.touch(first)
            if shared_leaves:
                map_leaf(td.kvm.direct_root, first, PG_LEVEL_2M, 2 * FRAMES + first)
        td.forget()
        before = _huge(td.kvm.mirror_root), _huge(td.kvm.direct_root)
        status = td.run(td_accept(td.tdx, td.vcpu, gfn, PG_LEVEL_4K, split=split))
        accepted += status == TDX_SUCCESS
        dead += td.tdx.dead
        private += before[0] - _huge(td.kvm.mirror_root)
        shared += before[1] - _huge(td.kvm.direct_root)
        rounds = max(rounds, sum(map(_is_accept, td.calls)))
    return _Accepts(accepted, dead, private, shared, rounds)


def _is_accept(call: Call) -> bool:
    return call.name.startswith("TDG.")


def _block(kvm: Kvm, gfn: int, level: int) -> tuple[int, int]:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return first, first + kvm.geometry.pages(level)


def _in_mirror_root(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """The split loop itself, on the root that the fault of a private frame walks."""
    assert kvm.mirror_root is not None, "a TD has one"
    return tdp_mmu_split_huge_pages_root(kvm.mirror_root, *_block(kvm, gfn, level), level, shared=False)


def _in_all_roots(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    yield from mmu.kvm_mmu_try_split_huge_pages(kvm, kvm.slot, *_block(kvm, gfn, level))
    return 0


_ROOT_HPA = "root.hpa (RFC v5 41 as posted)"


def _current_root_is_enough() -> Finding:
    """Let a guest ACCEPT each frame of two PENDING leaves, with three splits: one root, the other, all.

    A shared leaf lies at the same frames, to see what else is split. That the VM dies of the wrong root is
    inferred. Sources: M8, M16, S140, S173.
    """
    mirror = _accept_each(_in_mirror_root)
    everywhere = _accept_each(_in_all_roots)
    hpa = _accept_each(splits.ACCEPT_SPLITS[_ROOT_HPA])
    shown = (
        f"A split of the mirror root alone: {mirror.accepted} of {FRAMES} ACCEPTs succeed, "
        f"{mirror.shared} shared leaves are split. All valid roots: {everywhere.accepted}, and "
        f"{everywhere.shared} shared leaves are split for nothing. The vCPU's root.hpa: {hpa.accepted}, "
        f"{hpa.private} private leaves are split, and the VM dies {count_of(hpa.dead, 'time')}."
    )
    if mirror.accepted < FRAMES or mirror.shared:
        return Finding(FAILS, shown)
    if hpa.accepted == FRAMES:
        return Finding(HOLDS, shown)
    return Finding(
        HOLDS_IF, shown, "the current root is the one of the private half; the vCPU's root.hpa is the other"
    )


def _mirror_roots_serve_both() -> Finding:
    """Split for each ACCEPT in root.hpa and in the mirror roots, and convert every range with the latter.

    With a shared leaf at the same frames and without. That the VM dies of the wrong root is inferred.
    Sources: M16, R1, R2, S46, S140, S141.
    """
    bare, hpa = (_accept_each(splits.ACCEPT_SPLITS[_ROOT_HPA], shared_leaves=on) for on in (False, True))
    mirrors = _accept_each(splits.ACCEPT_SPLITS["mirror roots"])
    lost = converted = roots = 0
    for start, end in RANGES:
        td = Td(TOY, FRAMES)
        before = td.accepted()
        converted += td.convert_by_file(start, end, "shared", "head and tail") == 0
        lost += len(td.lost(before, range(start, end)))
        roots = max(roots, sum(root.is_mirror and not root.invalid for root in td.kvm.tdp_mmu_roots))
    wrong = not bare.private + hpa.private and hpa.shared > 0 and hpa.accepted < FRAMES
    serves = mirrors.accepted == FRAMES and not mirrors.shared and converted == len(RANGES) and not lost
    shown = (
        f"{count_of(roots, 'valid mirror root')}. Split in root.hpa for {FRAMES} ACCEPTs: "
        f"{hpa.private} private leaves and {hpa.shared} shared leaves are split, {hpa.accepted} "
        f"succeed, and the VM dies {count_of(hpa.dead, 'time')}, after "
        f"{count_of(hpa.rounds, 'ACCEPT')}. (That it dies is inferred from RFC v5.) In mirror roots: "
        f"{mirrors.private} private and "
        f"{mirrors.shared} shared leaves are split, {mirrors.accepted} succeed; "
        f"{converted} conversions with it lose {count_of(lost, 'frame')} outside."
    )
    return Finding(HOLDS if wrong and serves and roots == 1 else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        10,
        ("M1",),
        "Dirty logging should reach no mirror root",
        "The split for dirty logging takes mirror roots, among all valid ones. It should not be reachable "
        "for a TD. So name it after dirty logging; a WARN for a VM with a mirror is possible, and the "
        "filter of such a wrapper does not matter.",
        "Not taken up. The later code keeps all valid roots (R1); M15 asks to keep mirror roots out.",
        Lesson("04", "Who asks for what"),
        _dirty_logging_reaches_mirrors,
    ),
    Claim(
        24,
        ("M8",),
        "In a fault, split the current root only",
        "The fault path needs to split the current root only. So just expose "
        "tdp_mmu_split_huge_pages_root(). The path should not even try other roots, and no other relevant "
        "ones exist.",
        "M9 answers “Ok.” RFC v5 41 did so, with the vCPU's root.hpa, the wrong root (M16). A call for all "
        "mirror roots took its place (R1).",
        Lesson("04", "Exercises"),
        _current_root_is_enough,
    ),
    Claim(
        42,
        ("M15",),
        "The loop could refuse mirror roots",
        "The split loop for dirty logging could refuse mirror roots. It could once the split before a zap "
        "has a function of its own. The mail asks whether that would be acceptable for TDX migration.",
        "M16: “Honestly, I have no idea. That's so far in the future.”",
        Lesson("04", "Who asks for what"),
        reason="What the migration of a TD will need is the future; no series posted it.",
    ),
    Claim(
        43,
        ("M16",),
        "RFC v5 41 splits in the wrong root",
        "For an ACCEPT, RFC v5 41 splits in the “normal” root, the wrong one. In practice a TD has one "
        "mirror root, so a call that splits in mirror roots serves the conversion and the ACCEPT, and most "
        "of the logic can live in tdx.c.",
        "Corrected on the same day: kvm_tdp_mmu_mirrors_split_huge_pages() takes the mirror roots (R1).",
        Lesson("04", "Exercises"),
        _mirror_roots_serve_both,
    ),
    Claim(
        44,
        ("M16",),
        "The hook's code could live in tdx.c",
        "The x86 code for the conversion hook could live in tdx.c. For all of it the loop over roots would "
        "have to be visible outside tdp_mmu.c. For most of it an API that splits in mirror roots is enough.",
        "The second was done (R1, R2).",
        Lesson("08", "Where the code lives"),
        reason="In which file code lives is a matter of taste; what it does is the same.",
    ),
    Claim(
        45,
        ("M16",),
        "No core change for a TDX edge case",
        "Core MMU functionality should not be changed for an edge case of TDX. TDX will require invasive "
        "changes, but in this case they are unjustified.",
        "Nobody answers it in the thread. R1 and R2 of the same day go that way.",
        Lesson("07", "A function of its own?"),
        reason="How much TDX the core may hold is a judgement of its maintainers, and a matter of taste.",
    ),
)
