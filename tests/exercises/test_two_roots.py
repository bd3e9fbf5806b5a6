"""The exercises of notebook 04: the table of root types, the hunt, the mend.

What is right stands here as S43 has it, written out by hand. The hunt shows what S140 says of the wrong root,
with the TDX side that was posted and with another, and a line of its log tells each suspect apart. A mend is
right if the guest gets its page and nothing else is changed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tdpkit.engine import mmu, splits
from tdpkit.engine.events import Flush, Lock, Unlock, record
from tdpkit.engine.gfn import InvalidValueError
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
from tdpkit.exercises.two_roots import (
    ACCEPT_SPLITS,
    MEND_CASES,
    PAGE,
    REACHED,
    ROOT_TYPES,
    ROOTS,
    SUSPECTS,
    TRIES,
    check_hunt,
    check_mend,
    check_plain_zap,
    check_root_types,
    four_roots,
    hunt,
    zapped_by,
)
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.td import Td
from tdpkit.tdx.guest import td_accept
from tests.exercises.problems import CULPRIT, TABLE, answered_in_words, mirrors
from tests.oracles.junk import breaking, endless

NAMES = {
    0: "none",
    1: "INVALID",
    2: "DIRECT",
    3: "DIRECT + INVALID",
    4: "MIRROR",
    5: "MIRROR + INVALID",
    6: "MIRROR + DIRECT",
    7: "MIRROR + DIRECT + INVALID",
}


# ---- the table -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        {types: [bool(yes) for yes in row] for types, row in TABLE.items()},
        {types: np.array(row) for types, row in TABLE.items()},
        {types: tuple(np.array(row, dtype=bool)) for types, row in TABLE.items()},
        {**TABLE, 8: "beyond the question"},
    ],
    ids=range(4),
)
def test_the_right_table_is_right_however_it_is_written(table: Any) -> None:
    assert check_root_types(table).right is True


def flipped(types: int, at: int) -> dict[int, Any]:
    row = list(TABLE[types])
    row[at] = not row[at]
    return {**TABLE, types: row}


@pytest.mark.parametrize("types", TABLE)
@pytest.mark.parametrize("at", range(4))
def test_each_wrong_answer_is_told_its_types_its_root_and_what_a_zap_did(types: int, at: int) -> None:
    verdict = check_root_types(flipped(types, at))
    assert verdict.right is False
    assert verdict.text.startswith(f"types {types} ({NAMES[types]}), {ROOTS[at]} root: you said that it ")
    gone = [name for name, yes in zip(ROOTS, TABLE[types], strict=True) if yes]
    if TABLE[types][at]:
        assert "does not match; a zap of frame 0 took its 8 frames." in verdict.text
    elif gone:
        assert verdict.text.endswith(f"matches; a zap of frame 0 took the leaves of: {', '.join(gone)}.")
    else:
        assert verdict.text.endswith("a zap of frame 0 took no leaf at all, and the kernel WARNs.")


def test_the_first_wrong_row_is_told() -> None:
    assert "types 3 " in check_root_types({**TABLE, 3: (0, 1, 0, 0), 7: (0, 0, 0, 0)}).text


def test_the_td_has_the_four_kinds_each_with_references_of_its_own() -> None:
    kvm, roots = four_roots()
    assert list(roots) == list(ROOTS)
    assert {(root.is_mirror, bool(root.invalid)) for root in roots.values()} == {
        (mirror, invalid) for mirror in (False, True) for invalid in (False, True)
    }
    assert [root.tdp_mmu_root_count for root in roots.values()] == [2, 1, 2, 1]
    assert len(kvm.tdp_mmu_roots) == 4


@pytest.mark.parametrize("types", ROOT_TYPES)
def test_a_zap_takes_what_the_table_says_and_warns_where_no_half_is_named(types: int) -> None:
    lost, warned = zapped_by(types)
    assert tuple(map(int, lost.values())) == TABLE[types]
    assert warned is (types < 2)


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ((1, 0, 0), "four answers are wanted, in order, not (1, 0, 0)."),
        ((1, 0, 0, 0, 0), "four answers are wanted"),
        ({0, 1, 2, 3}, "four answers are wanted"),
        (dict.fromkeys(ROOTS, 1), "four answers are wanted"),
        ("1000", "four answers are wanted"),
        (True, "four answers are wanted"),
        ((1, 0, 0, "no"), "invalid mirror root: True or False is wanted, not 'no'"),
        ((1, 0, 2, 0), "valid mirror root: True or False is wanted, not 2"),
        ((1, 0, None, 0), "valid mirror root: True or False is wanted, not None"),
    ],
)
def test_a_row_that_is_none_is_refused_in_words(row: Any, rule: str) -> None:
    verdict = check_root_types({**TABLE, 2: row})
    assert verdict.right is False
    assert verdict.text.startswith("types 2 (DIRECT)")
    assert rule in verdict.text


# ---- the guess -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", REACHED)
def test_a_plain_vm_has_a_direct_tree_whatever_the_filter(guess: str) -> None:
    """S44: without a mirror the root types are DIRECT; an unmap adds INVALID (S49)."""
    verdict = check_plain_zap(guess)
    assert verdict.right is (guess == "the direct tree")
    assert "this VM has 1 root, direct." in verdict.text
    assert "root types 3 (DIRECT + INVALID), and took 512 frames there." in verdict.text


# ---- the hunt: what is to be read ----------------------------------------------------------------------


def test_the_private_leaf_stays_whole_and_the_block_is_marked_all_the_same() -> None:
    case = hunt()
    marked = "2M blocks that the guest accepts in smaller pages: "
    assert case.before[:3] == case.after[:3]
    assert case.before[0].split() == ["mirror", "root:", "a", "2M", "leaf", "at", "0x200"]
    assert case.before[2].split() == ["S-EPT:", "a", "2M", "leaf", "at", "0x200"]
    assert (case.before[3], case.after[3]) == (f"{marked}none", f"{marked}0x200")
    assert not case.accepted


def test_the_walk_begins_at_the_index_of_the_shared_bit() -> None:
    """Bit 47 of an address is bit 8 of the index at level 4, which bits 39 to 47 make."""
    visits = [line for line in hunt().log if line.startswith("visit")]
    assert visits[0] == f"visit level 4, index {1 << (47 - 39)}, at 0: table"
    assert visits[-1] == "visit level 2, index 1, at 2M: non-present"


def test_with_the_tdx_side_that_was_posted_the_vm_dies_in_the_first_round() -> None:
    """S140: after the split that walks the wrong root, in the fault of the same exit, under the read lock."""
    case = hunt()
    log = list(case.log)
    died = log.index("KVM_BUG_ON(is_shadow_present_pte(iter->old_spte)): the VM is dead")
    # RFC v5 06 checks before it writes or calls, and answers -EBUSY.
    assert log[died + 1].endswith("errno -16")
    assert not any("froze" in line or "TDX side" in line for line in log[died - 2 : died + 2])
    assert case.tries == 1
    assert sum(line.startswith("TDG.MEM.PAGE.ACCEPT") for line in log) == 1
    assert log.count("take mmu_lock for write") == log.count("take mmu_lock for read") == 1
    assert log.index("take mmu_lock for write") < log.index("take mmu_lock for read") < died
    assert not any("VP.ENTER" in line for line in log)
    assert "the VM is dead, and userspace gets -5 (-EIO)." in repr(case)
    assert "no series" not in repr(case)


def test_on_v3_s_tdx_side_the_first_round_walks_and_the_others_only_fail_in_the_fault_path() -> None:
    """S140: v3 refuses a split under the read lock with -EOPNOTSUPP; the inhibit flag stops further walks."""
    case = hunt(tdx_side="v3")
    assert repr(case).startswith("RFC v5's call on v3's TDX side: no series posted the two together.")
    assert (case.accepted, case.tries) == (False, TRIES)
    starts = [at for at, line in enumerate(case.log) if line.startswith("TDG.MEM.PAGE.ACCEPT")]
    assert len(starts) == 2
    first, second = case.log[: starts[1]], case.log[starts[1] :]
    assert first.count("take mmu_lock for write") == 1
    assert "take mmu_lock for write" not in second
    for part in (first, second):
        assert part.count("take mmu_lock for read") == 1
        assert sum(line.endswith("errno -95") for line in part) == 1
        assert part[-1] == "TDH.VP.ENTER(vcpu=0) = TDX_SUCCESS"
    assert not any("KVM_BUG" in line for line in case.log)


def test_a_tdx_side_that_no_series_posted_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="TDX side"):
        hunt(tdx_side="v4")


def touched(series: str) -> Td:
    """The hunt's TD, made by hand."""
    td = Td(TD_4LEVEL, 4 * 512, accepted=False, series=series)
    td.convert(2 * 512, 4 * 512)
    td.touch(PAGE)
    return td


def test_the_rounds_that_are_not_shown_are_as_the_second() -> None:
    """On a TD of the engine, round by round."""
    td = touched("v3")
    did = record(td_accept(td.tdx, 0, PAGE, 1, split=accept_split_root_hpa), td.world)
    kinds = [type(event).__name__ for event in did.events if type(event).__name__ != "Visit"]
    once = ["AllocTable", "Lock", "SetSpte", "External", "SetSpte", "Trace", "FreeTable", "Unlock"]
    assert did.result is None
    assert kinds[-(TRIES - 1) * len(once) :] == once * (TRIES - 1)
    again = f"rounds 3 to {TRIES} are as the second: the guest accepts it for ever."
    assert repr(hunt(tdx_side="v3")).count(again) == 1


def test_the_vm_that_dies_gives_its_userspace_eio() -> None:
    td = touched("RFC v5")
    assert record(td_accept(td.tdx, 0, PAGE, 1, split=accept_split_root_hpa), td.world).result == -5
    assert td.tdx.dead


def test_a_shared_leaf_at_the_same_frame_is_split_for_nothing() -> None:
    case = hunt(shared_leaf=True)
    assert "a 2M leaf at 0x800000200" in case.before[1]
    assert "513 4K leaves from 0x800000200" in case.after[1]  # 512, and the one behind them
    assert case.before[0] == case.after[0]


def test_reading_it_names_no_suspect_and_is_the_same_each_time() -> None:
    for text in (repr(hunt()), repr(hunt(shared_leaf=True)), repr(hunt(tdx_side="v3"))):
        assert not any(name in text for name in SUSPECTS)
        assert "root.hpa" not in text
    assert repr(hunt()) == repr(hunt())
    assert all(f"{number:4} {line}" in repr(hunt()) for number, line in enumerate(hunt().log, 1))


def test_every_split_function_of_the_module_is_a_suspect() -> None:
    there = {
        name: function
        for module in (mmu, splits)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and name.startswith(("kvm_", "weak_kvm_"))
        and "split" in name
    }
    assert there == SUSPECTS
    assert {*SUSPECTS} == {*ACCEPT_SPLITS}


# ---- the hunt: the answer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [CULPRIT, f" {CULPRIT}()", f"splits.{CULPRIT}", f"tdpkit.engine.splits.{CULPRIT}", SUSPECTS[CULPRIT]],
)
@pytest.mark.parametrize("root", ["direct", "direct root", "root.hpa"])
def test_the_call_and_the_root_are_right_by_any_of_their_names(call: Any, root: str) -> None:
    assert check_hunt(call, root).right is True


@pytest.mark.parametrize("root", ["mirror", "mirror root", "mirror_root_hpa"])
def test_the_right_call_at_the_wrong_root_is_shown_the_index(root: str) -> None:
    verdict = check_hunt(CULPRIT, root)
    assert verdict.right is False
    assert "“visit level 4, index 256, at 0: table”" in verdict.text
    assert verdict.text.endswith(
        "frame 0x205 has index 0 in the table of the mirror root, and 256 in that of the direct root."
    )


MIRROR, DIRECT = "visit level 4, index 0, at 0: table", "visit level 4, index 256, at 0: table"
FIRST_DIFFERENCE = {
    "kvm_split_cross_boundary_leafs": (3, MIRROR, DIRECT, True),
    "kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs": (3, MIRROR, DIRECT, True),
    "weak_kvm_split_cross_boundary_leafs": (3, "drop mmu_lock, held for write (done)", DIRECT, False),
    "kvm_tdp_mmu_split_huge_pages_log_dirty": (3, "WARN_ON_ONCE(kvm_has_mirrored_tdp(kvm))", DIRECT, False),
    "kvm_tdp_mmu_split_huge_pages_cross_boundary": (3, MIRROR, DIRECT, True),
    "kvm_tdp_mmu_try_split_huge_pages": (6, MIRROR, "drop mmu_lock, held for write (done)", True),
    "kvm_mmu_slot_try_split_huge_pages": (3, "take mmu_lock for read", DIRECT, False),
    "kvm_mmu_try_split_huge_pages": (6, MIRROR, "drop mmu_lock, held for write (done)", True),
    "kvm_tdp_mmu_mirrors_split_huge_pages": (3, MIRROR, DIRECT, True),
}
"""By S81, S103, S104, S124, S140: the mirror root; both, the direct one first; none; a WARN."""


@pytest.mark.parametrize("name", FIRST_DIFFERENCE)
@pytest.mark.parametrize("root", ["direct", "mirror"])
def test_another_suspect_is_run_and_told_the_line_that_differs(name: str, root: str) -> None:
    line, here, there, gets_page = FIRST_DIFFERENCE[name]
    for call in (name, SUSPECTS[name]):
        verdict = check_hunt(call, root)
        assert verdict.right is False
        assert verdict.text.startswith(f"{name} was run on the same TD. Line {line} of its log is “{here}”, ")
        assert f"where the hunt has “{there}”" in verdict.text
        assert ("and the guest gets its page." in verdict.text) is gets_page
    assert hunt().log[line - 1] == there


def test_every_suspect_but_one_is_told_apart() -> None:
    assert {*FIRST_DIFFERENCE} | {CULPRIT} == {*SUSPECTS}


def test_who_has_the_page_then_has_it_on_the_engine_too() -> None:
    td = Td(TD_4LEVEL, 4 * 512, accepted=False)
    td.touch(PAGE)
    assert record(td_accept(td.tdx, 0, PAGE, 1, split=accept_split_mirrors), td.world).result == 0


@pytest.mark.parametrize(
    ("call", "root", "rule"),
    [
        ("kvm_zap_everything", "direct", "that SUSPECTS lists, not 'kvm_zap_everything'."),
        ("__kvm_tdp_mmu_split_huge_pages", "direct", "that SUSPECTS lists, not "),
        (accept_split_root_hpa, "direct", "that SUSPECTS lists, not "),
        (CULPRIT, "both", 'the root is "direct" or "mirror", not \'both\'.'),
        (CULPRIT, "Direct", "not 'Direct'."),
    ],
)
def test_what_is_no_suspect_and_no_root_is_refused_in_words(call: Any, root: Any, rule: str) -> None:
    verdict = check_hunt(call, root)
    assert verdict.right is False
    assert rule in verdict.text
    assert re.search(r"[.?]$", verdict.text)


# ---- the mend ------------------------------------------------------------------------------------------


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
        as_coroutine,
        boundary(KVM_FILTER_PRIVATE),
        leaf_as_whole,
        accept_split_mirrors,
        accept_split_v3,
    ],
    ids=range(5),
)
def test_every_way_to_split_that_leaf_alone_is_right(split: Callable[..., Any]) -> None:
    verdict = check_mend(split)
    assert verdict.right is True, verdict
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


def zap_if_refused(kvm: Any, gfn: int, level: int) -> Any:
    ret = yield from mirrors(kvm, gfn, level)
    if ret:
        yield from zap(kvm, gfn, level)
    return ret


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


def drops_twice(kvm: Any, gfn: int, level: int) -> Any:
    yield Unlock(False, "done")
    yield Unlock(False, "done")
    return 0


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


DIES = "the VM is dead, and userspace gets -5 (-EIO)."
STAYS = f"frame 0x5: {DIES} The leaf is still whole."
DIRECT = "a shared leaf lies at the same frame; the guest accepts frame 0x5: the direct tree, "
REFUSED = "no page for the table; the guest accepts frame 0x5: it is refused, and "
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "the wrong root": (accept_split_root_hpa, STAYS),
    "nothing": (nothing, STAYS),
    "the shared half": (boundary(KVM_FILTER_SHARED), STAYS),
    "under the read lock": (boundary(KVM_FILTER_PRIVATE, True), "frame 0x5: it works under the read lock"),
    "both halves": (boundary(KVM_FILTER_SHARED | KVM_FILTER_PRIVATE), DIRECT),
    "all valid roots": (all_valid_roots, f"{DIRECT}which has the shared half, was 1 leaf and is 8 leaves."),
    "both calls": (both_calls, DIRECT),
    "errno lost": (errno_lost, f"{REFUSED}split returned 0 instead of -12 (-ENOMEM). Then {DIES}"),
    "errno turned": (errno_turned, f"{REFUSED}split returned 12 instead of "),
    "v3 as posted": (accept_split_v3_as_posted, f"{REFUSED}split returned 1 instead of -12 (-ENOMEM). "),
    "the whole slot": (whole_slot, "frame 0x8: the leaf that maps frame 0x0 is split too"),
    "too far": (one_leaf_too_far, "frame 0xf: the leaf that maps frame 0x10 is split too"),
    "too early": (from_the_frame_before, "frame 0x8: the leaf that maps frame 0x0 is split too"),
    "a zap": (zap, "gets its page, but 7 frames of the leaf, the first of them 0x0, are not mapped any more"),
    "a zap if it is refused": (zap_if_refused, f"{REFUSED}the private tree has changed."),
    "too high": (to_level_2, "raised InvalidValueError: a target level lies below the root's 2; 2 does not."),
    "always frame 0": (fixed_page, f"beside another one; the guest accepts frame 0x8: {DIES}"),
    "locks again": (locks_again, "it takes mmu_lock, which KVM holds already."),
    "lets go": (lets_go, "it returned with mmu_lock dropped."),
    "for ever": (for_ever, "it goes on and on: 20 000 events and no end."),
    "a number handed out": (hands_out(3), "it handed out 3, which is no event of the engine."),
    "the read lock": (hands_out(Lock(True)), "it works under the read lock"),
    "no value": (returns(None), "the coroutine returned None; KVM wants 0 or a negative errno."),
    "true": (returns(True), "the coroutine returned True; KVM wants"),
    "minus five": (returns(-5), "KVM gives up with -5."),
    "drops it twice": (drops_twice, "it drops mmu_lock, which it has dropped already."),
    "a list with junk": (hands_out([3]), "it handed out [3], which is no event of the engine."),
    "no coroutine": (lambda kvm, gfn, level: 0, "split returned 0; it has to return a coroutine"),
    "void": (lambda kvm, gfn, level: None, "split returned None; it has to return a coroutine"),
    "a list": (lambda kvm, gfn, level: [1], "split returned [1]; it has to return a coroutine"),
    "two arguments": (lambda kvm, gfn: mirrors(kvm, gfn, 1), "it raised TypeError: "),
    "endless": (lambda kvm, gfn, level: endless(3), "it handed out 3, which is no event"),
    "breaking": (lambda kvm, gfn, level: breaking(Flush()), "it raised HostileError."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_split_meets_a_td_that_shows_it(name: str) -> None:
    split, words = WRONG[name]
    verdict = check_mend(split)
    assert verdict.right is False
    assert verdict.text.startswith("a TD with leaves of ")
    assert words in verdict.text
    assert answered_in_words(verdict)


def test_a_split_that_knows_the_toy_only_fails_on_leaves_of_512_frames() -> None:
    def toy(kvm: Any, gfn: int, level: int) -> Any:
        if kvm.geometry.entries == 8:
            return mirrors(kvm, gfn, level)
        return nothing(kvm, gfn, level)

    assert "a TD with leaves of 512 frames" in check_mend(toy).text


def test_each_kind_of_refusal_is_tried() -> None:
    assert [case.refused for case in MEND_CASES if case.refused] == ["page table", "S-EPT page"]

    def second_is_lost(kvm: Any, gfn: int, level: int) -> Any:
        ret = yield from mirrors(kvm, gfn, level)
        refusals.extend([ret] * (ret != 0))
        return 0 if len(refusals) == 2 else ret

    refusals: list[int] = []
    assert "no page for the S-EPT; " in check_mend(second_is_lost).text


def test_a_split_that_breaks_the_vm_is_answered_all_the_same() -> None:
    def vandal(kvm: Any, gfn: int, level: int) -> Any:
        kvm.direct_root = kvm.mirror_root = None
        return nothing(kvm, gfn, level)

    assert answered_in_words(check_mend(vandal))
    assert check_mend(mirrors).right is True, "each check has TDs of its own"
