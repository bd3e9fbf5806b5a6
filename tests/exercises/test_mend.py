"""A split for the ACCEPT is right if the guest gets its page and nothing else is changed; else it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tdpkit.engine.events import Flush, Lock, Unlock
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_FILTER_SHARED, KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    kvm_unmap_gfn_range,
)
from tdpkit.engine.splits import (
    accept_split_mirrors,
    accept_split_root_hpa,
    accept_split_v3,
    accept_split_v3_as_posted,
    kvm_tdp_mmu_mirrors_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages,
)
from tdpkit.exercises.mend import CASES, check_mend
from tests.oracles.junk import HostileError, breaking, endless
from tests.oracles.junk_values import EACH_JUNK, answered_in_words


def mirrors(kvm: Any, gfn: int, level: int) -> Any:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level)


def as_coroutine(kvm: Any, gfn: int, level: int) -> Any:
    return (yield from mirrors(kvm, gfn, level))


def boundary(filters: int, shared: bool = False) -> Callable[..., Any]:
    def split(kvm: Any, gfn: int, level: int) -> Any:
        page = KvmGfnRange(kvm.slot, gfn, gfn + 1, filters)
        return kvm_split_cross_boundary_leafs(kvm, page, shared=shared)

    return split


def leaf_as_whole(kvm: Any, gfn: int, level: int) -> Any:
    """The whole 2M block, down to 4K: the same leaf."""
    first = kvm.geometry.gfn_round_for_level(gfn, level + 1)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level + 1), level)


@pytest.mark.parametrize(
    "split",
    [
        mirrors,
        as_coroutine,
        boundary(KVM_FILTER_PRIVATE),
        leaf_as_whole,
        accept_split_mirrors,
        accept_split_v3,
    ],
    ids=range(6),
)
def test_every_way_to_split_that_leaf_alone_is_right(split: Callable[..., Any]) -> None:
    verdict = check_mend(split)
    assert verdict.right is True, verdict
    assert verdict.text.startswith(f"{len(CASES)} TDs: ")
    assert "(2 refusals)" in verdict.text


# ---- wrong ones ----------------------------------------------------------------------------------------


def nothing(kvm: Any, gfn: int, level: int) -> Any:
    yield from ()
    return 0


def errno_lost(kvm: Any, gfn: int, level: int) -> Any:
    yield from mirrors(kvm, gfn, level)
    return 0


def errno_turned(kvm: Any, gfn: int, level: int) -> Any:
    return abs((yield from mirrors(kvm, gfn, level)))


def whole_slot(kvm: Any, gfn: int, level: int) -> Any:
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, 0, kvm.slot.npages, level)


def one_leaf_too_far(kvm: Any, gfn: int, level: int) -> Any:
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, gfn, gfn + 2, level)


def from_the_frame_before(kvm: Any, gfn: int, level: int) -> Any:
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, gfn - 1, gfn + 1, level)


def all_valid_roots(kvm: Any, gfn: int, level: int) -> Any:
    return (
        yield from kvm_tdp_mmu_try_split_huge_pages(kvm, kvm.slot, gfn, gfn + 1, level, shared=False)
    ) or 0


def both_calls(kvm: Any, gfn: int, level: int) -> Any:
    yield from kvm_tdp_mmu_split_huge_pages(kvm, gfn, gfn + 1, level, shared=False)
    return (yield from mirrors(kvm, gfn, level))


def zap(kvm: Any, gfn: int, level: int) -> Any:
    yield from kvm_unmap_gfn_range(kvm, KvmGfnRange(kvm.slot, gfn, gfn + 1, KVM_FILTER_PRIVATE))
    return 0


def to_level_2(kvm: Any, gfn: int, level: int) -> Any:
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, gfn, gfn + 1, level + 1)


def fixed_page(kvm: Any, gfn: int, level: int) -> Any:
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, 0, 1, level)


def locks_again(kvm: Any, gfn: int, level: int) -> Any:
    yield Lock(False)
    ret = yield from mirrors(kvm, gfn, level)
    yield Unlock(False, "done")
    return ret


def lets_go(kvm: Any, gfn: int, level: int) -> Any:
    ret = yield from mirrors(kvm, gfn, level)
    yield Unlock(False, "done")
    return ret


def for_ever(kvm: Any, gfn: int, level: int) -> Any:
    while True:
        yield Flush()


def hands_out(what: Any) -> Callable[..., Any]:
    def split(kvm: Any, gfn: int, level: int) -> Any:
        yield what
        return 0

    return split


def returns(what: Any) -> Callable[..., Any]:
    def split(kvm: Any, gfn: int, level: int) -> Any:
        yield from mirrors(kvm, gfn, level)
        return what

    return split


STAYS = "frame 0x5: the guest accepts it for ever. The leaf is whole still."
DIRECT = "a shared leaf lies at the same frame; the guest accepts frame 0x5: the direct tree, "
REFUSED = "no page for the table; the guest accepts frame 0x5: it is refused, and "
GIVES_UP = "KVM gives up with -12; with memory there again, the guest accepts it for ever."
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "the wrong root": (accept_split_root_hpa, STAYS),
    "nothing": (nothing, STAYS),
    "the shared half": (boundary(KVM_FILTER_SHARED), STAYS),
    "under the read lock": (boundary(KVM_FILTER_PRIVATE, True), "KVM gives up with -95."),
    "both halves": (boundary(KVM_FILTER_SHARED | KVM_FILTER_PRIVATE), DIRECT),
    "all valid roots": (all_valid_roots, f"{DIRECT}which has the shared half, was 1 leaf and is 8 leaves."),
    "both calls": (both_calls, DIRECT),
    "errno lost": (errno_lost, f"{REFUSED}split returned 0 where -12 (-ENOMEM) is due. Then {GIVES_UP}"),
    "errno turned": (errno_turned, f"{REFUSED}split returned 12 where "),
    "v3 as posted": (accept_split_v3_as_posted, f"{REFUSED}split returned 1 where -12 (-ENOMEM) is due. "),
    "the whole slot": (whole_slot, "frame 0x8: the leaf that maps frame 0x0 is split too"),
    "too far": (one_leaf_too_far, "frame 0xf: the leaf that maps frame 0x10 is split too"),
    "too early": (from_the_frame_before, "frame 0x8: the leaf that maps frame 0x0 is split too"),
    "a zap": (zap, "gets its page, but 7 frames of the leaf, the first of them 0x0, are not mapped any more"),
    "too high": (to_level_2, "raised InvalidValueError: a target level lies below the root's 2; 2 does not."),
    "always frame 0": (fixed_page, "beside another one; the guest accepts frame 0x8: the guest accepts it"),
    "locks again": (locks_again, "it takes mmu_lock, which KVM holds already."),
    "lets go": (lets_go, "it returned with mmu_lock dropped."),
    "for ever": (for_ever, "it goes on and on: 20 000 events and no end."),
    "a number handed out": (hands_out(3), "it handed out 3, which is no event of the engine."),
    "the read lock": (hands_out(Lock(True)), "it works under the read lock"),
    "no value": (returns(None), "the coroutine returned None; KVM wants 0 or a negative errno."),
    "true": (returns(True), "the coroutine returned True; KVM wants"),
    "minus five": (returns(-5), "KVM gives up with -5."),
    "no coroutine": (lambda kvm, gfn, level: 0, "split returned 0; it has to return a coroutine"),
    "void": (lambda kvm, gfn, level: None, "split returned None; it has to return a coroutine"),
    "a list": (lambda kvm, gfn, level: [1], "split returned [1]; it has to return a coroutine"),
    "two arguments": (lambda kvm, gfn: mirrors(kvm, gfn, 1), "it raised TypeError: "),
    "endless": (lambda kvm, gfn, level: endless(3), "it handed out 3, which is no event"),
    "breaking": (lambda kvm, gfn, level: breaking(Flush()), "it raised HostileError: a HostileError."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_split_meets_a_td_that_shows_it(name: str) -> None:
    split, words = WRONG[name]
    verdict = check_mend(split)
    assert verdict.right is False
    assert verdict.text.startswith("a TD with leaves of ")
    assert words in verdict.text
    assert answered_in_words([verdict])


def test_a_split_that_knows_the_toy_only_fails_on_leaves_of_512_frames() -> None:
    def toy(kvm: Any, gfn: int, level: int) -> Any:
        if kvm.geometry.entries == 8:
            return mirrors(kvm, gfn, level)
        return nothing(kvm, gfn, level)

    assert "a TD with leaves of 512 frames" in check_mend(toy).text


def test_each_kind_of_refusal_is_tried() -> None:
    assert [case.refused for case in CASES if case.refused] == ["page table", "S-EPT page"]

    def second_is_lost(kvm: Any, gfn: int, level: int) -> Any:
        ret = yield from mirrors(kvm, gfn, level)
        refusals.extend([ret] * (ret != 0))
        return 0 if len(refusals) == 2 else ret

    refusals: list[int] = []
    assert "no page for the S-EPT; " in check_mend(second_is_lost).text


@pytest.mark.parametrize(
    "error", [LookupError("no idea"), ZeroDivisionError(), HostileError(), RecursionError()]
)
def test_what_it_raises_is_told(error: Exception) -> None:
    def raising(kvm: Any, gfn: int, level: int) -> Any:
        raise error

    assert f"it raised {type(error).__name__}: " in check_mend(raising).text


def test_nothing_written_is_not_wrong() -> None:
    assert {check_mend(said).right for said in (..., lambda kvm, gfn, level: ...)} == {None}


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    def in_the_end(kvm: Any, gfn: int, level: int) -> Iterator[Any]:
        yield from ()
        return make()

    assert answered_in_words(
        [
            check_mend(make()),
            check_mend(lambda kvm, gfn, level: make()),
            check_mend(hands_out(make())),
            check_mend(in_the_end),
        ]
    )


def test_a_split_that_breaks_the_vm_is_answered_all_the_same() -> None:
    def vandal(kvm: Any, gfn: int, level: int) -> Any:
        kvm.direct_root = kvm.mirror_root = None
        return nothing(kvm, gfn, level)

    assert answered_in_words([check_mend(vandal)])
    assert check_mend(mirrors).right is True, "each check has TDs of its own"
