"""The hunt shows what kernel-facts C43 says of the wrong root; a line of the log tells each suspect apart."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from tdpkit.engine import mmu, splits
from tdpkit.engine.events import record
from tdpkit.engine.splits import accept_split_mirrors, accept_split_root_hpa
from tdpkit.exercises.hunt import PAGE, TRIES, check_hunt, hunt
from tdpkit.exercises.suspects import ACCEPT_SPLITS, SUSPECTS
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.td import Td
from tdpkit.tdx.guest import td_accept
from tests.oracles.junk_values import EACH_JUNK, answered_in_words

ANSWER = "kvm_tdp_mmu_split_huge_pages"


# ---- what is to be read --------------------------------------------------------------------------------


def test_the_private_leaf_stays_whole_and_the_block_is_marked_all_the_same() -> None:
    case = hunt()
    marked = "2M blocks that the guest accepts in smaller pages: "
    assert case.before[:3] == case.after[:3]
    assert case.before[0].split() == ["mirror", "root:", "a", "2M", "leaf", "at", "0x200"]
    assert case.before[2].split() == ["S-EPT:", "a", "2M", "leaf", "at", "0x200"]
    assert (case.before[3], case.after[3]) == (f"{marked}none", f"{marked}0x200")
    assert (case.accepted, case.tries) == (False, TRIES)


def test_the_walk_begins_at_the_index_of_the_shared_bit() -> None:
    """Bit 47 of an address is bit 8 of the index at level 4, which bits 39 to 47 make."""
    visits = [line for line in hunt().log if line.startswith("visit")]
    assert visits[0] == f"visit: level 4, index {1 << (47 - 39)}: table"
    assert visits[-1] == "visit: level 2, index 1: none"


def test_the_first_round_walks_and_the_others_only_fail_in_the_fault_path() -> None:
    log = hunt().log
    starts = [at for at, line in enumerate(log) if line.startswith("TDG.MEM.PAGE.ACCEPT")]
    assert len(starts) == 2
    first, second = log[: starts[1]], log[starts[1] :]
    assert first.count("mmu_lock taken for write") == 1
    assert "mmu_lock taken for write" not in second
    for part in (first, second):
        assert part.count("mmu_lock taken for read") == 1
        assert sum(line.endswith("errno -95") for line in part) == 1
        assert part[-1] == "TDH.VP.ENTER(vcpu=0) = TDX_SUCCESS"


def test_the_rounds_that_are_not_shown_are_as_the_second() -> None:
    """On a TD of the engine, round by round."""
    td = Td(TD_4LEVEL, 4 * 512, accepted=False)
    td.convert(2 * 512, 4 * 512)
    td.touch(PAGE)
    did = record(td_accept(td.tdx, 0, PAGE, 1, split=accept_split_root_hpa), td.world)
    kinds = [type(event).__name__ for event in did.events if type(event).__name__ != "Visit"]
    once = ["AllocTable", "Lock", "SetSpte", "External", "SetSpte", "Trace", "FreeTable", "Unlock"]
    assert did.result is None
    assert kinds[-(TRIES - 1) * len(once) :] == once * (TRIES - 1)
    assert repr(hunt()).count(f"rounds 3 to {TRIES} are as the second") == 1


def test_a_shared_leaf_at_the_same_frame_is_split_for_nothing() -> None:
    case = hunt(shared_leaf=True)
    assert "a 2M leaf at 0x800000200" in case.before[1]
    assert "513 4K leaves from 0x800000200" in case.after[1]  # 512, and the one behind them
    assert case.before[0] == case.after[0]


def test_reading_it_names_no_suspect_and_is_the_same_each_time() -> None:
    for text in (repr(hunt()), repr(hunt(shared_leaf=True))):
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


# ---- the answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [ANSWER, f" {ANSWER}()", f"splits.{ANSWER}", f"tdpkit.engine.splits.{ANSWER}", SUSPECTS[ANSWER]],
)
@pytest.mark.parametrize("root", ["direct", "direct root", "root.hpa"])
def test_the_call_and_the_root_are_right_by_any_of_their_names(call: Any, root: str) -> None:
    assert check_hunt(call, root).right is True


@pytest.mark.parametrize("root", ["mirror", "mirror root", "mirror_root_hpa"])
def test_the_right_call_at_the_wrong_root_is_shown_the_index(root: str) -> None:
    verdict = check_hunt(ANSWER, root)
    assert verdict.right is False
    assert "“visit: level 4, index 256: table”" in verdict.text
    assert verdict.text.endswith(
        "frame 0x205 has index 0 in the table of the mirror root, and 256 in that of the direct root."
    )


MIRROR, DIRECT = "visit: level 4, index 0: table", "visit: level 4, index 256: table"
FIRST_DIFFERENCE = {
    "kvm_split_cross_boundary_leafs": (3, MIRROR, DIRECT, True),
    "kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs": (3, MIRROR, DIRECT, True),
    "weak_kvm_split_cross_boundary_leafs": (3, "mmu_lock dropped (done)", DIRECT, False),
    "kvm_tdp_mmu_split_huge_pages_log_dirty": (3, "WARN_ON_ONCE(kvm_has_mirrored_tdp(kvm))", DIRECT, False),
    "kvm_tdp_mmu_split_huge_pages_cross_boundary": (3, MIRROR, DIRECT, True),
    "kvm_tdp_mmu_try_split_huge_pages": (6, MIRROR, "mmu_lock dropped (done)", True),
    "kvm_mmu_slot_try_split_huge_pages": (3, "mmu_lock taken for read", DIRECT, False),
    "kvm_mmu_try_split_huge_pages": (6, MIRROR, "mmu_lock dropped (done)", True),
    "kvm_tdp_mmu_mirrors_split_huge_pages": (3, MIRROR, DIRECT, True),
}
"""By kernel-facts 5.6, 6.5, 6.6, C10, C43: the mirror root; both, the direct one first; none; a WARN."""


@pytest.mark.parametrize("name", FIRST_DIFFERENCE)
@pytest.mark.parametrize("root", ["direct", "mirror"])
def test_another_suspect_is_run_and_told_the_line_that_differs(name: str, root: str) -> None:
    line, here, there, gets_page = FIRST_DIFFERENCE[name]
    for call in (name, SUSPECTS[name]):
        verdict = check_hunt(call, root)
        assert verdict.right is False
        assert verdict.text.startswith(f"{name} was run on the same TD. Line {line} of its log is “{here}”, ")
        assert f"that of the hunt “{there}”" in verdict.text
        assert ("The guest has its page then." in verdict.text) is gets_page
    assert hunt().log[line - 1] == there


def test_every_suspect_but_one_is_told_apart() -> None:
    assert {*FIRST_DIFFERENCE} | {ANSWER} == {*SUSPECTS}


def test_who_has_the_page_then_has_it_on_the_engine_too() -> None:
    td = Td(TD_4LEVEL, 4 * 512, accepted=False)
    td.touch(PAGE)
    assert record(td_accept(td.tdx, 0, PAGE, 1, split=accept_split_mirrors), td.world).result == 0


def test_nothing_submitted_is_not_wrong() -> None:
    assert {check_hunt(*said).right for said in ((..., ...), (ANSWER, ...), (..., "direct"))} == {None}


@pytest.mark.parametrize(
    ("call", "root", "rule"),
    [
        ("kvm_zap_everything", "direct", "'kvm_zap_everything' is none of them"),
        ("__kvm_tdp_mmu_split_huge_pages", "direct", "is none of them"),
        (accept_split_root_hpa, "direct", "is none of them"),
        (ANSWER, "both", "'both' is neither"),
        (ANSWER, "Direct", "'Direct' is neither"),
    ],
)
def test_what_is_no_suspect_and_no_root_is_refused_in_words(call: Any, root: Any, rule: str) -> None:
    verdict = check_hunt(call, root)
    assert verdict.right is False
    assert rule in verdict.text
    assert re.search(r"[.?]$", verdict.text)


@EACH_JUNK
def test_junk_is_answered_in_words(make: Callable[[], Any]) -> None:
    assert answered_in_words(
        [check_hunt(make(), "direct"), check_hunt(ANSWER, make()), check_hunt(make(), make())]
    )
