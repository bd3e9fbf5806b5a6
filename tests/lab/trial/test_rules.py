"""What no kernel function does is noticed, and said in a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tdpkit.engine.events import AllocTable, External, Flush, Lock, SetSpte, Unlock, Visit
from tdpkit.engine.gfn import PG_LEVEL_4K
from tdpkit.engine.kvm import Kvm, KvmGfnRange
from tdpkit.engine.spte import make_nonleaf_spte
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.lab.trial import table as trial_table
from tdpkit.lab.trial import trial

Split = Callable[[Kvm, KvmGfnRange], Any]
BAD: dict[Split, str] = {}


def bad(words: str) -> Callable[[Split], Split]:
    def named(split: Split) -> Split:
        BAD[split] = words
        return split

    return named


@bad("it raised ZeroDivisionError: division by zero")
def raises(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    1 / 0  # noqa: B018


@bad("it goes on and on: 20 000 events and no end")
def endless(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    while True:
        yield Flush()


@bad("did not end within 0.3 seconds, and was stopped")
def silent_and_endless(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    time.sleep(100)


@bad("it returned 7; it has to return a coroutine, made with yield")
def no_coroutine(kvm: Kvm, gfn_range: KvmGfnRange) -> int:
    return 7


@bad("it raised GeneratorExit")
def leaves_by_an_error_of_another_kind(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    raise GeneratorExit


@bad("it returned <coroutine object")
async def not_awaited(kvm: Kvm, gfn_range: KvmGfnRange) -> int:
    """Python's own coroutine, which hands out no event."""
    return 0


@bad("it returned 'fine'; KVM wants 0 or a negative errno")
def nonsense(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    return "fine"


@bad("it returned None; KVM wants 0 or a negative errno")
def nothing(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()


@bad("it returned 3, and nothing failed")
def positive(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    return 3


@bad("it handed out 'flush', which is no event of the engine")
def no_event(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield "flush"


@bad("it allocates while it holds mmu_lock, which must not sleep")
def sleeps(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield AllocTable(kvm.pool, True)


@bad("it allocates inside an RCU section, which must not sleep")
def sleeps_in_rcu(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Unlock(False, "alloc")
    kvm.pool.rcu_read_lock()
    yield AllocTable(kvm.pool, True)


@bad("it drops mmu_lock inside an RCU section")
def drops_in_rcu(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    kvm.pool.rcu_read_lock()
    yield Unlock(False, "alloc")


@bad("it drops mmu_lock, which it has dropped already")
def drops_twice(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Unlock(False, "alloc")
    yield Unlock(False, "alloc")


@bad("it takes mmu_lock, which it holds already")
def takes_twice(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Lock(False)


@bad("it works under the read lock, and its caller holds mmu_lock for write")
def other_lock(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Unlock(True, "alloc")


@bad("it returned with mmu_lock dropped")
def keeps_dropped(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Unlock(False, "alloc")
    return 0


@bad("it returned inside an RCU section")
def keeps_rcu(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    kvm.pool.rcu_read_lock()
    yield Flush()
    return 0


@bad("it calls the TDX side without mmu_lock")
def external_unlocked(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Unlock(False, "alloc")
    yield External("split", 0, 2, 0, 0)


@bad("it wrote entry 0 of a table of level 4 without a SetSpte before it")
def silent_store(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    yield Flush()
    assert kvm.mirror_root
    kvm.pool.table(kvm.mirror_root.row)[0] ^= 1 << 9
    return 0


@bad("it wrote entry 0 of a table of level 4 without a SetSpte before it")
def store_then_announce(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    assert kvm.mirror_root
    row, table = kvm.mirror_root.row, kvm.pool.table(kvm.mirror_root.row)
    old = table[0]
    table[0] = old ^ 1 << 9
    yield SetSpte(row, 0, 0, 4, old, old ^ 1 << 9)
    return 0


@bad("it announced 0x")
def stores_another(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    assert kvm.mirror_root
    row, table = kvm.mirror_root.row, kvm.pool.table(kvm.mirror_root.row)
    yield SetSpte(row, 0, 0, 4, table[0], make_nonleaf_spte(1))
    table[0] ^= 1 << 9
    return 0


@bad("it keeps a reference on a root")
def keeps_a_reference(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
    kvm.direct_root.tdp_mmu_root_count += 1
    yield Flush()
    return 0


@pytest.mark.parametrize("split", BAD, ids=lambda split: split.__name__)
def test_what_no_kernel_function_does_is_the_first_row_and_the_last(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    if split is silent_and_endless:
        monkeypatch.setattr(trial_table, "RULES_SECONDS", 0.3)
    tried = trial(split)
    answer = tried["rules"]
    assert answer.verdict == "fails"
    assert BAD[split] in answer.found
    assert tried.fails == ("rules",)
    assert {row.answer.verdict for row in tried.rows[1:]} == {"not asked"}


def test_a_case_is_named_with_its_range_and_its_tree() -> None:
    assert trial(raises)["rules"].found == (
        "frames [0, 1) of a toy, leaves [0, 4) and [4, 8): it raised ZeroDivisionError: division by zero "
        f"(test_rules.py, line {raises.__code__.co_firstlineno + 3}) (mmu_lock held for write)"
    )


def test_what_only_reads_and_asks_keeps_the_rules() -> None:
    def looks(kvm: Kvm, gfn_range: KvmGfnRange) -> Iterator[Any]:
        assert kvm.mirror_root
        it = TdpIter(kvm.mirror_root, PG_LEVEL_4K, gfn_range.start)
        while it.valid and it.gfn < gfn_range.end:
            yield Visit(it)
            it.next()
        return 0

    assert trial(looks, ["rules"])["rules"].verdict == "holds"


def test_the_kernels_own_split_keeps_the_rules_under_both_locks() -> None:
    answer = trial(tdp_mmu_split_huge_pages_root, ["rules"])["rules"]
    assert answer.verdict == "holds"
    assert answer.tried == f"{2 * 5 * 36} cases"  # locks, trees, ranges of eight frames


def test_what_is_printed_is_kept_for_the_end(capsys: Any) -> None:
    def talks(geometry: Any, s: int, e: int) -> list[Any]:
        print("split", s, e)
        return []

    tried = trial(talks, ["rules"])
    assert tried.printed.startswith("split 0 1\nsplit 1 2\n")
    for told in tried._repr_mimebundle_().values():
        assert told.count("It printed:") == 1
    assert capsys.readouterr() == ("", "")
