"""Who calls the split, and which of the callers needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tdpkit.engine import mmu, splits
from tdpkit.engine.events import ENOMEM, Coroutine
from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.kvm import Kvm
from tdpkit.engine.splits import AcceptSplit
from tdpkit.tdx.abi import TDX_SUCCESS
from tdpkit.tdx.guest import td_accept

from ..caller_runs import CallerRun, holes_of_pages, larger_runs, usual_runs
from ..layouts import TOY
from ..td import Td
from ..words import count_of
from .claim import FAILS, HOLDS, HOLDS_IF, Claim, Finding, Lesson


def _need(runs: Sequence[CallerRun]) -> int:
    """Calls after which the guest misses something, unless there was a split."""
    return sum(run.needs_split for run in runs)


def _of(runs: Sequence[CallerRun]) -> str:
    """``133 of 136``: the calls that need the split."""
    return f"{_need(runs)} of {len(runs)}"


def _mended(*sets: Sequence[CallerRun]) -> bool:
    """With the split nothing is amiss in any of these calls."""
    return all(run.mended for runs in sets for run in runs)


def _only_holes() -> Finding:
    """Make every conversion by the file and every hole there is on two leaves, with a split and without.

    Holes by the rule of 6.16, of whole 4K pages, and by the agreed one, of whole folios. The ACCEPT is left
    out: M2 argues apart that it needs no such call. Sources: M2, M4, S125, S127, S130.
    """
    converted, holes, whole = usual_runs("conversion"), holes_of_pages(), usual_runs("punch hole")
    shown = (
        f"{_of(converted)} conversions by the file lose frames outside their range without the split. So do "
        f"{_of(holes)} holes by the rule of Linux 6.16; of holes of whole folios, {_need(whole)}."
    )
    return Finding(HOLDS if _need(holes) and not _need(converted) else FAILS, shown)


def _holes_need_no_split() -> Finding:
    """Punch every hole on two leaves without a split: under the agreed rule, and with each half of it gone.

    The two what-ifs: holes of single pages, as Linux 6.16 allows, through large leaves; and a mapping larger
    than its folio. Which errno a refusal gives is unverified. Sources: M3, M4, S127, S128, S195.
    """
    whole, of_pages, spanning = usual_runs("punch hole"), holes_of_pages(), larger_runs("punch hole")
    refused = sum(run.refused for run in whole)
    shown = (
        f"Of {len(whole)} holes the agreed rule refuses {refused}; of the other {len(whole) - refused}, "
        f"{_need(whole)} lose frames outside. By the rule of Linux 6.16 {_need(of_pages)} do; with a mapping "
        f"larger than its folio, {_need(spanning)}."
    )
    if _need(whole):
        return Finding(FAILS, shown)
    if not _need(of_pages) + _need(spanning):
        return Finding(HOLDS, shown)
    return Finding(
        HOLDS_IF, shown, "holes are of whole folios, as agreed, and no mapping is larger than its folio"
    )


def _holes_may_need_one_later() -> Finding:
    """Punch every hole on two leaves whose folios are single pages, with the split and without.

    And the same where a mapping is as large as its folio, where the split is idle. Sources: M5, M6, S128.
    """
    usual, spanning = usual_runs("punch hole"), larger_runs("punch hole")
    made = sum(run.splits for run in usual)
    shown = (
        f"A mapping of eight folios: {_of(spanning)} holes lose frames outside without the split, "
        f"{sum(not run.mended for run in spanning)} with it. A mapping no larger than its folio: "
        f"{_need(usual)} lose any, and the split would split {count_of(made, 'leaf', 'leaves')}."
    )
    if not _need(spanning) or not _mended(spanning):
        return Finding(FAILS, shown)
    if _need(usual):
        return Finding(HOLDS, shown)
    return Finding(HOLDS_IF, shown, "a mapping may span several folios")


def _four_users() -> Finding:
    """Make every call of the four on two leaves, with the split and without.

    A hole by the agreed rule, and by that of 6.16, which lets it cut a folio; a memory failure as it is, and
    as M7 expects it, where guest_memfd has split the folio and nobody the S-EPT. Sources: M7, S127, S130,
    S194, S195.
    """
    converted, accepts = usual_runs("conversion"), usual_runs("mismatched accept")
    holes, cutting = usual_runs("punch hole"), holes_of_pages()
    failures, folio_split = usual_runs("memory failure"), larger_runs("memory failure")
    shown = (
        f"Calls that go wrong without the split: {_of(converted)} conversions, {_of(accepts)} ACCEPTs of "
        f"less than is mapped; {_of(holes)} holes of whole folios and {_of(cutting)} of pages; "
        f"{_of(failures)} memory failures, and {_of(folio_split)} where the folio was split before its "
        f"mapping."
    )
    expected = (converted, accepts, cutting, folio_split)
    if not all(map(_need, expected)) or not _mended(*expected):
        return Finding(FAILS, shown)
    if _need(holes) and _need(failures):
        return Finding(HOLDS, shown)
    return Finding(
        HOLDS_IF, shown, "a hole may cut a folio, and a folio may be split before its mapping is split"
    )


# ---- a return value ------------------------------------------------------------------------------------


def _void(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """kvm_mmu_try_split_huge_pages() in the place of v3's call: there is nothing to return but 0."""
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    last = first + kvm.geometry.pages(level)
    call: Coroutine[Any] = mmu.kvm_mmu_try_split_huge_pages(kvm, kvm.slot, first, last)
    return (yield from call) or 0


def _accept_twice(split: AcceptSplit, refuse: int) -> tuple[int | None, int | None, int]:
    """ACCEPT a page of a PENDING leaf while a request is refused, and again with memory back.

    Returns both results, and how many requests the first call made.
    """
    td = Td(TOY, 16, accepted=False)
    td.touch(3)
    td.refuse(refuse)
    asked = len(td.tdx.pages.requests)
    first = td.run(td_accept(td.tdx, td.vcpu, 3, PG_LEVEL_4K, split=split))
    made = len(td.tdx.pages.requests) - asked
    td.refuse(0)
    if td.tdx.dead:
        return first, first, made
    if td.vcpu not in td.module.vcpus_inside:
        td.module.vp_enter(td.vcpu)
    return first, td.run(td_accept(td.tdx, td.vcpu, 3, PG_LEVEL_4K, split=split)), made


def _a_return_value_is_needed() -> Finding:
    """Let a guest ACCEPT with upstream's void split, and with one that returns an errno; refuse each request.

    The TDX side is v3's, of the time of the mail. After the refusal memory is back and the guest accepts
    again. Sources: M7, S81, S173; S105 for the fault that follows.
    """
    returning = splits.ACCEPT_SPLITS["mirror roots"]
    plenty, _, requests = _accept_twice(_void, 0)
    hidden = reported = mended = again = 0
    for number in range(1, requests + 1):
        first, second, _ = _accept_twice(_void, number)
        hidden += first != -ENOMEM
        again += second == TDX_SUCCESS
        first, second, _ = _accept_twice(returning, number)
        reported += first == -ENOMEM
        mended += second == TDX_SUCCESS
    shown = (
        f"With memory the guest {'gets' if plenty == TDX_SUCCESS else 'does not get'} its page with "
        f"kvm_mmu_try_split_huge_pages(). Refuse one of its {count_of(requests, 'request')}: {hidden} of "
        f"{requests} refusals are hidden, and with memory back the guest gets its page after {again}. A "
        f"split that returns an errno reports {reported} of {requests}, and the guest gets its page after "
        f"{mended}."
    )
    works = plenty == TDX_SUCCESS and requests > 0 and reported == mended == requests
    return Finding(HOLDS if works and hidden else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        13,
        ("M2",),
        "PUNCH_HOLE is the only user",
        "The only user of the call will be PUNCH_HOLE of guest_memfd. The mail is “pretty sure” of it, once "
        "kvm_arch_pre_set_memory_attributes() is dropped; unless it misreads the code, the use for an ACCEPT "
        "is superfluous.",
        "Taken back in M4, after M3: “It's the conversion path that we need to sort out, not PUNCH_HOLE.” M7 "
        "had listed four users.",
        Lesson("05", "Four callers"),
        _only_holes,
        withdrawn="M4",
    ),
    Claim(
        16,
        ("M3",),
        "Holes are aligned and need no split",
        "PUNCH_HOLE need not split any EPT mapping for the foreseeable future. As the upstream syncs agreed, "
        "guest_memfd will allow holes only in ranges aligned to the huge page size, for hugetlb and THP "
        "backing.",
        "Accepted (M4). M5 asks whether the split should stay all the same, and M6 declines.",
        Lesson("05", "Why a hole needs no split"),
        _holes_need_no_split,
    ),
    Claim(
        17,
        ("M5",),
        "Perhaps keep the split in PUNCH_HOLE",
        "Perhaps PUNCH_HOLE had better keep the split. The mail asks, since guest_memfd may want to map "
        "several folios in one mapping in the future.",
        'M6: “No, not at this time. That is a _very_ big "if".” To track memory beyond the HugeTLB page size '
        "would take significant complexity.",
        Lesson("05", "Why a hole needs no split"),
        _holes_may_need_one_later,
    ),
    Claim(
        20,
        ("M7",),
        "The call has four users",
        "The call has four users. They are PUNCH_HOLE; KVM_SET_MEMORY_ATTRIBUTES2, for conversions to "
        "shared; the ACCEPT of less than is mapped; and memory failure, in the next version, because "
        "guest_memfd may split folios without first splitting the S-EPT.",
        "The first fell away (M3, M4), the third got a call of its own (R1), the second stayed. No mail "
        "answers the fourth.",
        Lesson("05", "Four callers"),
        _four_users,
    ),
    Claim(
        23,
        ("M7",),
        "An ACCEPT's split needs a return value",
        "The split for an ACCEPT needs a return value. Otherwise it could be kvm_mmu_try_split_huge_pages().",
        "M8 proposes to expose the function below it, which returns an errno. R1 returns one.",
        Lesson("04", "Exercises"),
        _a_return_value_is_needed,
    ),
    Claim(
        25,
        ("M7", "M8"),
        "Can existing code be reused, or changed?",
        "PUNCH_HOLE cannot reuse kvm_mmu_try_split_huge_pages() unmodified (M7). Modifying existing code is"
        " a non-issue, and no reason to choose one design over another (M8).",
        "M9 answers “Ok.” and asks whether a flag or a helper for the ranges is welcome.",
        Lesson("08", "Two categories"),
        reason="Both are true; how much a change of existing code should weigh is a matter of taste.",
    ),
)
