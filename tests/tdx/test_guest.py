"""The guest of a TD: what it meets, where its vCPU is afterwards, and how often it tries."""

import numpy as np
import pytest

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import EFAULT, EIO, ENOMEM
from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.engine.splits import accept_split_root_hpa
from tdpkit.tdx.abi import Access, EptViolation
from tdpkit.tdx.guest import td_accept, td_access
from tests.oracles import brute
from tests.oracles.tds import ACCEPTED, INVALID, PENDING, PRESENT, TOY, state_of, status
from tests.oracles.whole_td import PRIVATE_PFN, WholeTd, check_pages


def exits(td: WholeTd) -> int:
    """Each exit of a guest that goes on ends in an entry."""
    return len([line for line in td.calls if line.startswith("VP.ENTER")])


@pytest.mark.parametrize("memory", ["untouched", "pending", "accepted"])
def test_a_touch_ends_in_a_ve_until_the_page_is_accepted(memory):
    td = WholeTd(TOY)
    if memory != "untouched":
        td.touch(4)
    if memory == "accepted":
        td.accept(4, 2)
    td.forget()
    got = td.touch(6)
    assert got == (Access("ok", PRIVATE_PFN + 6) if memory == "accepted" else Access("#VE"))
    assert exits(td) == (memory == "untouched")
    assert td.leaves == {(4, 2): (PRIVATE_PFN + 4, PRESENT if memory == "accepted" else PENDING)}
    assert td.module.vcpus_inside == {0}


def test_an_accepted_page_is_zero():
    td = WholeTd(TOY)
    td.module.memory.update(dict.fromkeys(range(PRIVATE_PFN, PRIVATE_PFN + 12), 0xAA))
    td.touch(4)
    td.accept(5, 1)
    td.accept(8, 2)
    zero = {PRIVATE_PFN + gfn for gfn in (5, 8, 9, 10, 11)}
    assert {pfn for pfn, byte in td.module.memory.items() if byte == 0} == zero


@pytest.mark.parametrize(
    ("gfn", "level", "answer"),
    [(0, 2, ACCEPTED), (1, 1, ACCEPTED), (1, 2, INVALID), (0, 3, INVALID)],
)
def test_an_accept_that_the_module_answers_is_no_business_of_kvm(gfn, level, answer):
    td = WholeTd(TOY)
    td.accept(0, 2)
    td.forget()
    assert td.accept(gfn, level) == status(answer)
    assert (len(td.calls), td.world.events) == (1, [])


def test_each_vcpu_has_its_own_exits():
    td = WholeTd(TOY, vcpus=3)
    assert td.touch(1, 2).outcome == "#VE"
    assert td.accept(1, 1, 1) == 0
    assert td.touch(1, 0) == Access("ok", PRIVATE_PFN + 1)
    entered = [call.vcpu for call in td.module.log if call.name == "TDH.VP.ENTER"]
    # vCPU 2 is back; the others, not 1, are kicked for the split; 1 is back.
    assert entered == [2, 0, 2, 1]
    assert td.module.vcpus_inside == {0, 1, 2}


@pytest.mark.parametrize("what", [td_accept, td_access])
def test_an_errno_leaves_the_vcpu_outside(what):
    td = WholeTd(TOY, vcpus=2)
    assert td.run(kvm_vm_set_mem_attributes(td.kvm, 8, 12, 0)) == 0
    td.refuse(1)
    assert (td.accept(1, 1, 1) if what is td_accept else td.touch(1, 1)) == -ENOMEM
    assert td.module.vcpus_inside == {0}
    assert (td.accept(9, 1) if what is td_accept else td.touch(9)) == -EFAULT
    assert td.module.vcpus_inside == frozenset()
    check_pages(td)


def test_a_dead_vm_runs_no_vcpu():
    td = WholeTd(TOY, vcpus=2, sept_ve_disable=True)
    assert td.touch(1) == -EIO  # added, touched again while PENDING
    assert td.leaves == {(0, 2): (PRIVATE_PFN, PENDING)}
    assert td.module.vcpus_inside == frozenset()


@pytest.mark.parametrize(("how", "tries"), [({"tries": 1}, 1), ({"tries": 3}, 3), ({}, 8)])
def test_a_guest_that_gets_nowhere_is_given_up_after_so_many_tries(how, tries):
    td = WholeTd(TOY, vcpus=2)
    td.touch(4)
    td.forget()
    assert td.accept(5, 1, split=accept_split_root_hpa, **how) is None
    assert exits(td) == tries
    td.module.hold_sept_lock(1)
    td.forget()
    got = td.run(td_access(td.tdx, 0, 17, **how))
    assert got == Access("violation", None, EptViolation(17, "access"))
    assert exits(td) == tries
    assert td.module.vcpus_inside == {0, 1}
    check_pages(td)


def test_numpy_integers_are_integers():
    td = WholeTd(TOY)
    assert td.accept(np.uint64(5), np.int8(1)) == 0
    assert td.touch(np.uint32(5)).pfn == PRIVATE_PFN + 5
    assert {type(value) for call in td.module.log for value in call[1:5] if value is not None} == {int}


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda td: td_access(td.tdx, 1, 0), InvalidValueError, "vCPU 1 is outside"),
        (lambda td: td_access(td.tdx, None, 0), InvalidValueError, "vCPU None is outside"),
        (lambda td: td_access(td.tdx, 0, 32), InvalidValueError, r"0x20 \(128K\) is beyond"),
        (lambda td: td_access(td.tdx, 0, -1), InvalidValueError, r"at least 0; -1"),
        (lambda td: td_access(td.tdx, 0, "5"), InvalidTypeError, "'5' is a str"),
        (lambda td: td_accept(td.tdx, 1, 0, 1), InvalidValueError, "vCPU 1 is outside"),
        (lambda td: td_accept(td.tdx, 0, 32, 1), InvalidValueError, r"0x20 \(128K\) is beyond"),
        (lambda td: td_accept(td.tdx, 0, 0, 0), InvalidValueError, r"a level is 1 \(4K\) or above; 0 is not"),
        (lambda td: td_accept(td.tdx, 0, 0.5, 1), InvalidTypeError, "0.5 is a float"),
        (lambda td: td_accept(td.tdx, 0, 0, None), InvalidTypeError, "None is a NoneType"),
    ],
)
def test_a_bad_call_is_named_with_its_rule_and_nothing_changes(call, kind, message):
    td = WholeTd(TOY)
    td.touch(4)
    before = state_of(td.module), brute.memory(td.kvm.pool), list(td.calls)
    with pytest.raises(kind, match=message):
        td.run(call(td))
    assert (state_of(td.module), brute.memory(td.kvm.pool), td.calls) == before


def test_a_call_that_is_never_run_does_nothing():
    td = WholeTd(TOY)
    before = state_of(td.module)
    td_access(td.tdx, 0, 1)
    td_accept(td.tdx, 0, 1, 1)
    assert (state_of(td.module), td.calls) == (before, [])
