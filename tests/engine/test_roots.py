"""Which roots an operation reaches, and that a root lives as long as somebody has a reference on it."""

from contextlib import closing

import pytest

from tdpkit.engine.events import External, Flush, SetSpte
from tdpkit.engine.gfn import InvalidValueError
from tdpkit.engine.kvm import Kvm, kvm_tdp_mmu_alloc_root
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import (
    each_tdp_mmu_root,
    kvm_gfn_range_filter_to_root_types,
    kvm_mmu_reload,
    kvm_mmu_unload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_put_root,
    kvm_tdp_mmu_zap_invalidated_roots,
    tdp_mmu_next_root,
    tdp_mmu_root_match,
    warn_unless_root_types,
)
from tdpkit.engine.splits import kvm_tdp_mmu_split_huge_pages
from tdpkit.engine.tdp_mmu import KvmBug, tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, map_run, translate
from tests.oracles import brute
from tests.oracles.vms import (
    TOY,
    a_plain_vm,
    a_range,
    a_td,
    an_empty_td,
    assert_settled,
    contents,
    counts,
    given_up_everywhere,
    invalidate,
)
from tests.oracles.worlds import Finite, Impatient, Lockdep, Refusing, record, run

DIRECT, MIRROR, VALID, ALL = 2, 4, 6, 7
"""S42."""

# ---- which roots ---------------------------------------------------------------------------------------

NEITHER = (False, False, False, False)


@pytest.mark.parametrize(
    ("types", "matches"),
    [  # valid direct, invalid direct, valid mirror, invalid mirror: the table of S43
        (2, (True, False, False, False)),
        (4, (False, False, True, False)),
        (6, (True, False, True, False)),
        (3, (True, True, False, False)),
        (5, (False, False, True, True)),
        (7, (True, True, True, True)),
        (1, NEITHER),
        (0, NEITHER),
    ],
)
def test_invalid_is_a_modifier_and_never_matches_alone(types, matches):
    valid, gone = a_td(), a_td()
    invalidate(gone.direct_root)
    invalidate(gone.mirror_root)
    roots = (valid.direct_root, gone.direct_root, valid.mirror_root, gone.mirror_root)
    assert tuple(tdp_mmu_root_match(root, types) for root in roots) == matches


@pytest.mark.parametrize(
    ("attr_filter", "in_a_td", "in_a_plain_vm"), [(0, 0, 2), (1, 2, 2), (2, 4, 2), (3, 6, 2)]
)
def test_a_filter_chooses_root_types_in_a_td_only(attr_filter, in_a_td, in_a_plain_vm):
    """S44: SHARED = 1 means DIRECT = 2, PRIVATE = 2 means MIRROR = 4."""
    assert kvm_gfn_range_filter_to_root_types(a_td(), attr_filter) == in_a_td
    assert kvm_gfn_range_filter_to_root_types(a_plain_vm(), attr_filter) == in_a_plain_vm


@pytest.mark.parametrize("types", range(8))
def test_root_types_that_name_neither_kind_are_warned_about(types):
    warnings = [trace.name for trace in warn_unless_root_types(types)]
    assert warnings == (["WARN_ON_ONCE(!(types & KVM_VALID_ROOTS))"] if types in {0, 1} else [])


# ---- the loop over roots -------------------------------------------------------------------------------


def test_the_loop_over_roots_holds_one_reference_at_a_time():
    """Two to begin with: one for the vCPU, one for the TDP MMU (S45)."""
    vm = a_td()
    assert counts(vm) == [2, 2]
    first = tdp_mmu_next_root(vm, None, 0, 6)
    assert (first, counts(vm)) == (vm.direct_root, [3, 2])
    second = tdp_mmu_next_root(vm, first, 0, 6)
    assert (second, counts(vm)) == (vm.mirror_root, [2, 3])
    assert tdp_mmu_next_root(vm, second, 0, 6) is None
    assert counts(vm) == [2, 2]


@pytest.mark.parametrize("types", range(8))
def test_the_loop_meets_the_roots_that_match_in_order_and_leaves_the_counts_as_they_were(types):
    vm = a_td()
    invalidate(vm.direct_root)
    met = list(each_tdp_mmu_root(vm, 0, types))
    direct, mirror = [vm.direct_root] * (types in {3, 7}), [vm.mirror_root] * (types in {4, 5, 6, 7})
    assert met == direct + mirror
    assert list(each_tdp_mmu_root(vm, 1, types)) == []
    assert_settled(vm)


def test_who_leaves_the_loop_early_puts_the_root_in_hand():
    vm = a_td()
    with closing(each_tdp_mmu_root(vm, 0, VALID)) as roots:
        for root in roots:
            assert (root, counts(vm)) == (vm.direct_root, [3, 2])
            break
    assert_settled(vm)


def test_an_error_in_the_loop_puts_the_root_in_hand():
    vm = a_td()

    def fails() -> None:
        with closing(each_tdp_mmu_root(vm, 0, VALID)) as roots:
            for _ in roots:
                raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert_settled(vm)


def gone(vm: Kvm) -> None:
    """What another thread does to a VM: fast zap-all of both kinds, and the vCPUs take new roots."""
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    kvm_mmu_reload(vm)
    run(kvm_tdp_mmu_zap_invalidated_roots(vm))


@pytest.mark.parametrize("at", [0, 1])
def test_a_root_that_others_let_go_of_lives_as_long_as_the_loop_looks_at_it(at):
    """The reference in hand keeps it in the list, so the loop finds its place again; then it is freed."""
    vm = a_td()
    old = vm.tdp_mmu_roots.copy()
    with closing(each_tdp_mmu_root(vm, 0, VALID)) as roots:
        met = [next(roots) for _ in range(at + 1)]
        gone(vm)
        assert met == old[: at + 1]
        assert old[at].invalid
        assert (old[at] in vm.tdp_mmu_roots, old[at].tdp_mmu_root_count) == (True, 1)
        assert old[1 - at] not in vm.tdp_mmu_roots
        assert brute.leaves(TOY, contents(old[at])) == []
        met.extend(roots)
    # What comes after it in the list now is valid and may be met; what was freed is not.
    assert all(root in vm.tdp_mmu_roots for root in met[at + 1 :])
    assert not set(old) & {*vm.tdp_mmu_roots, *met[at + 1 :]}
    assert vm.tdp_mmu_roots == [vm.direct_root, vm.mirror_root]
    assert_settled(vm)


def test_a_root_that_becomes_invalid_before_its_turn_is_passed_over_unless_asked_for():
    for types, expected in ((VALID, 1), (ALL, 2)):
        vm = a_td()
        with closing(each_tdp_mmu_root(vm, 0, types)) as roots:
            met = [next(roots)]
            kvm_tdp_mmu_invalidate_roots(vm, MIRROR)
            met.extend(roots)
        assert met == vm.tdp_mmu_roots[:expected]


@pytest.mark.parametrize("world", [Finite, Impatient], ids=["allocates", "rescheds too"])
def test_a_split_goes_on_whatever_happens_to_its_roots_while_it_has_let_go_of_the_lock(world):
    """Others take the lock between Unlock and Lock, wherever that is."""
    at, happened = 0, True
    while happened:
        at, happened = at + 1, False
        vm = a_td()

        class Others(world):
            left = at

            def lock(self, event):
                nonlocal happened
                self.left -= 1
                if self.left == 0:
                    happened = True
                    gone(vm)  # noqa: B023 - the world lives as long as this turn of the loop

        call = kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 9), shared=False)
        assert run(call, Lockdep("write", Others())) == 0
        assert vm.tdp_mmu_roots == [vm.direct_root, vm.mirror_root]
        assert_settled(vm)
        leaves = [brute.leaves(TOY, contents(root)) for root in vm.tdp_mmu_roots]
        assert (leaves == [[], []]) == happened
    assert at > 4


def test_a_root_that_replaces_an_invalid_one_heads_the_list_and_the_direct_root_precedes_the_mirror():
    """S45: allocated first, the mirror root is met last; a new root goes to the head."""
    vm = a_td()
    old_direct, mirror = vm.direct_root, vm.mirror_root
    assert vm.tdp_mmu_roots == [old_direct, mirror]
    invalidate(old_direct)
    kvm_mmu_reload(vm)
    assert vm.tdp_mmu_roots == [vm.direct_root, old_direct, mirror]
    vm = a_td()
    invalidate(vm.mirror_root)
    stale = vm.mirror_root
    kvm_mmu_reload(vm)
    assert vm.tdp_mmu_roots == [vm.mirror_root, vm.direct_root, stale]


@pytest.mark.parametrize("mirror_is_new", [False, True])
def test_which_root_is_split_before_an_enomem_depends_on_the_lists_order(mirror_is_new):
    """With one table to be had: the first root of the list gets it."""
    vm = an_empty_td()
    if mirror_is_new:
        kvm_tdp_mmu_invalidate_roots(vm, MIRROR)
        kvm_mmu_reload(vm)
    for root in (vm.direct_root, vm.mirror_root):
        map_run(root, 0, 2, 1, 0)
    assert run(kvm_split_cross_boundary_leafs(vm, a_range(vm, 1, 4), shared=False), Refusing(2)) == -12
    split = [translate(root, 0).level == 1 for root in (vm.mirror_root, vm.direct_root)]
    assert split == [mirror_is_new, not mirror_is_new]


# ---- taking and putting ----------------------------------------------------------------------------------


def test_vcpus_share_a_valid_root_of_a_kind():
    """One more reference each, no row more (S45)."""
    vm = a_td()
    rows = vm.pool.rows_in_use
    assert kvm_tdp_mmu_alloc_root(vm, is_mirror=True) is vm.mirror_root
    assert counts(vm) == [2, 3]
    assert kvm_tdp_mmu_alloc_root(vm, is_mirror=False) is vm.direct_root
    assert counts(vm) == [3, 3]
    assert vm.pool.rows_in_use == rows
    kvm_tdp_mmu_put_root(vm, vm.direct_root)
    kvm_tdp_mmu_put_root(vm, vm.mirror_root)
    assert_settled(vm)


@pytest.mark.parametrize("is_mirror", [False, True])
def test_in_the_place_of_an_invalid_root_there_is_a_new_one_empty_and_with_two_references(is_mirror):
    vm = a_td()
    invalidate(old := vm.mirror_root if is_mirror else vm.direct_root)
    new = kvm_tdp_mmu_alloc_root(vm, is_mirror=is_mirror)
    assert new not in (vm.direct_root, vm.mirror_root)
    assert new in vm.tdp_mmu_roots
    assert (new.is_mirror, new.gfn_bits, new.invalid) == (is_mirror, old.gfn_bits, False)
    assert contents(new) == [brute.HOLE] * 4
    assert_settled(vm)


def test_a_plain_vm_has_no_mirror_root():
    vm = a_plain_vm()
    with pytest.raises(InvalidValueError, match="only a TD has a mirror root"):
        kvm_tdp_mmu_alloc_root(vm, is_mirror=True)
    assert_settled(vm)


def test_the_last_reference_on_a_valid_root_is_not_dropped():
    """The kernel's KVM_BUG (S48)."""
    vm = a_td()
    kvm_tdp_mmu_put_root(vm, vm.mirror_root)
    before = brute.memory(vm.pool)
    with pytest.raises(KvmBug, match=r"mirror root.* is valid"):
        kvm_tdp_mmu_put_root(vm, vm.mirror_root)
    assert (counts(vm), brute.memory(vm.pool)) == ([2, 1], before)
    assert vm.mirror_root in vm.tdp_mmu_roots


def rows_of(root: TdpMmuRoot) -> set[int]:
    """The rows of the tables of a root, by their roles: each tree of these tests is the only of its kind."""
    return {row for row, role in enumerate(root.pool.role) if role and bool(role >> 19 & 1) == root.is_mirror}


def test_with_its_last_reference_a_root_leaves_the_list_and_its_tables_go_back():
    vm = a_td()
    map_run(vm.mirror_root, 32, 1, 5, 7)
    other, rows = contents(vm.direct_root), rows_of(vm.mirror_root)
    assert len(rows) == 1 + 3 + 2  # root, three of 16K entries, two of 4K
    in_use = vm.pool.rows_in_use
    invalidate(old := vm.mirror_root)
    kvm_tdp_mmu_put_root(vm, old)
    assert (vm.tdp_mmu_roots, vm.pool.rows_in_use) == ([vm.direct_root, old], in_use)
    kvm_tdp_mmu_put_root(vm, old)
    assert (vm.tdp_mmu_roots, vm.pool.rows_in_use) == ([vm.direct_root], in_use - len(rows))
    assert {vm.pool.role[row] for row in rows} == {0}
    assert contents(vm.direct_root) == other


def test_tables_of_a_root_are_not_used_again_while_somebody_may_read_them():
    """The kernel frees them by RCU (S48)."""
    vm = a_td()
    invalidate(old := vm.mirror_root)
    rows = rows_of(old)
    vm.pool.rcu_read_lock()
    kvm_tdp_mmu_put_root(vm, old)
    kvm_tdp_mmu_put_root(vm, old)
    assert not rows & {vm.pool.alloc() for _ in range(20)}
    vm.pool.rcu_read_unlock()
    assert rows <= {vm.pool.alloc() for _ in range(200)}


def test_a_reference_that_nobody_has_is_not_dropped():
    vm = a_td()
    invalidate(old := vm.mirror_root)
    kvm_tdp_mmu_put_root(vm, old)
    kvm_tdp_mmu_put_root(vm, old)
    before = brute.memory(vm.pool)
    with pytest.raises(KvmBug, match="no reference left"):
        kvm_tdp_mmu_put_root(vm, old)
    assert (old.tdp_mmu_root_count, brute.memory(vm.pool)) == (0, before)


@pytest.mark.parametrize(
    "use",
    [
        lambda vm: tdp_mmu_split_huge_pages_root(vm.direct_root, 1, 9, 1, shared=True),
        lambda vm: tdp_mmu_zap_leafs(vm.direct_root, 1, 9),
        lambda vm: kvm_tdp_mmu_split_huge_pages(vm, 1, 9, 1, shared=True),
        lambda vm: kvm_tdp_mmu_page_fault(vm, 1, is_private=False),
        lambda vm: kvm_tdp_mmu_page_fault(vm, 1, is_private=True),
    ],
)
def test_a_root_without_references_is_not_used(use):
    vm = a_td()
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    kvm_mmu_unload(vm)
    run(kvm_tdp_mmu_zap_invalidated_roots(vm))
    before = brute.memory(vm.pool)
    with pytest.raises(InvalidValueError, match=r"root in row .* has none left"):
        use(vm)
    assert brute.memory(vm.pool) == before


# ---- invalidation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("types", "hit"), [(2, [True, False]), (4, [False, True]), (6, [True, True])])
def test_roots_of_the_types_named_become_invalid_and_nothing_else_happens(types, hit):
    """Fast zap-all names DIRECT, which spares private memory; teardown VALID (S49)."""
    vm = a_td()
    tables = [contents(root) for root in vm.tdp_mmu_roots]
    kvm_tdp_mmu_invalidate_roots(vm, types)
    assert [root.invalid for root in vm.tdp_mmu_roots] == hit
    assert [contents(root) for root in vm.tdp_mmu_roots] == tables
    assert_settled(vm)
    roots = [vm.direct_root, vm.mirror_root]
    kvm_mmu_reload(vm)
    assert [new is not old for new, old in zip((vm.direct_root, vm.mirror_root), roots, strict=True)] == hit


def test_a_reload_of_valid_roots_changes_nothing():
    vm = a_td()
    roots, before = vm.tdp_mmu_roots.copy(), brute.memory(vm.pool)
    kvm_mmu_reload(vm)
    assert (vm.tdp_mmu_roots, brute.memory(vm.pool)) == (roots, before)
    assert_settled(vm)


def a_td_of_many_tables() -> Kvm:
    vm = an_empty_td()
    for root in vm.tdp_mmu_roots:
        for gfn, level in ((0, 2), (5, 1), (15, 1), (16, 1), (20, 2)):
            map_run(root, gfn, level, 1, 64 + gfn)
    return vm


@pytest.mark.parametrize("reload_first", [False, True])
@pytest.mark.parametrize("types", [DIRECT, MIRROR, VALID])
def test_invalidated_roots_are_zapped_and_freed_once_the_vcpus_have_let_go(types, reload_first):
    vm = a_td_of_many_tables()
    old = [root for root in vm.tdp_mmu_roots if types & (MIRROR if root.is_mirror else DIRECT)]
    spared = {root: contents(root) for root in vm.tdp_mmu_roots if root not in old}
    kvm_tdp_mmu_invalidate_roots(vm, types)
    assert record(kvm_tdp_mmu_zap_invalidated_roots(a_td())).events == []
    if reload_first:
        kvm_mmu_reload(vm)
        assert [root.tdp_mmu_root_count for root in old] == [1] * len(old)
    recording = record(kvm_tdp_mmu_zap_invalidated_roots(vm), Lockdep("write"))
    assert len(recording.of(SetSpte)) == 5 * len(old)
    assert recording.of(Flush) == []  # nobody walks an invalid root (S210)
    if not reload_first:
        assert [root.tdp_mmu_root_count for root in old] == [1] * len(old)
        assert all(brute.leaves(TOY, contents(root)) == [] for root in old)
        kvm_mmu_reload(vm)
    assert [root.tdp_mmu_root_count for root in old] == [0] * len(old)
    assert not set(old) & set(vm.tdp_mmu_roots)
    assert set(vm.tdp_mmu_roots) == {vm.direct_root, vm.mirror_root}
    assert_settled(vm)
    assert {root: contents(root) for root in spared} == spared
    assert record(kvm_tdp_mmu_zap_invalidated_roots(vm)).events == []


def test_of_a_mirror_root_the_tdx_side_gives_back_leaves_then_tables_from_the_bottom_up():
    """A table's page comes back after those below it, with the link of the mirror (S161)."""
    vm = a_td_of_many_tables()
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    links = {}

    class Module(Finite):
        def external(self, event: External) -> int:
            if not links:
                table = contents(vm.mirror_root)
                links.update({(g, n): e for g, n, e in brute.entries(TOY, table) if isinstance(e, list)})
            return super().external(event)

    calls = record(kvm_tdp_mmu_zap_invalidated_roots(vm), Module()).of(External)
    removed = [(call.gfn, call.level) for call in calls if call.op == "remove"]
    freed = [call for call in calls if call.op == "free"]
    assert removed == [(0, 2), (5, 1), (15, 1), (16, 1), (20, 2)]
    assert [call.op for call in calls] == ["remove"] * 5 + ["free"] * len(freed)
    assert sorted((call.gfn, call.level) for call in freed) == sorted(links)
    assert set(links) == {(0, 3), (16, 3), (4, 2), (12, 2), (16, 2)}
    for at, call in enumerate(freed):
        size = brute.pages(TOY, call.level)
        below = [late for late in freed[at + 1 :] if late.level < call.level]
        assert not [late for late in below if 0 <= late.gfn - call.gfn < size]
        row = (call.old_spte & brute.FRAME) >> 12
        assert call.old_spte & ~brute.FRAME == brute.LINK
        assert (vm.pool.role[row] & 0xF, vm.pool.gfn[row]) == (call.level - 1, call.gfn)
        assert call.new_spte == brute.HOLE


class KeepsTables(Finite):
    """A TD that is not torn down: its S-EPT pages stay from the k-th on."""

    def __init__(self, k: int = 1) -> None:
        super().__init__()
        self.left = k

    def external(self, event: External) -> int:
        self.left -= event.op == "free"
        return -5 if event.op == "free" and self.left <= 0 else 0


@pytest.mark.parametrize("k", [1, 3])
def test_a_mirror_root_whose_pages_the_tdx_side_keeps_is_a_bug_and_stays_until_another_try(k):
    vm = a_td_of_many_tables()
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    kvm_mmu_reload(vm)
    old = next(root for root in vm.tdp_mmu_roots if root.is_mirror and root.invalid)
    with pytest.raises(KvmBug, match=r"keeps a page of <mirror root in row \d+> \(-5\)"):
        run(kvm_tdp_mmu_zap_invalidated_roots(vm), KeepsTables(k))
    assert (old in vm.tdp_mmu_roots, old.tdp_mmu_root_count) == (True, 1)
    run(kvm_tdp_mmu_zap_invalidated_roots(vm))
    assert vm.tdp_mmu_roots == [vm.direct_root, vm.mirror_root]
    assert_settled(vm)


def test_a_zap_of_invalidated_roots_that_was_given_up_is_completed_by_another():
    def zap():
        vm = a_td_of_many_tables()
        kvm_tdp_mmu_invalidate_roots(vm, VALID)
        kvm_mmu_reload(vm)
        return vm, kvm_tdp_mmu_zap_invalidated_roots(vm)

    tries = 0
    for vm in given_up_everywhere(zap):
        assert vm.pool.rcu_readers == 0
        run(kvm_tdp_mmu_zap_invalidated_roots(vm))
        assert vm.tdp_mmu_roots == [vm.direct_root, vm.mirror_root]
        assert_settled(vm)
        tries += 1
    assert tries > 30


def test_two_who_zap_invalidated_roots_at_a_time_share_them():
    """The TDP MMU's one reference on each is dropped once, wherever the second begins."""
    at, happened = 0, True
    while happened:
        at, happened = at + 1, False
        vm = a_td_of_many_tables()
        kvm_tdp_mmu_invalidate_roots(vm, VALID)  # the vCPUs keep theirs: dropping one too many shows

        class Twice(Finite):
            left = at

            def answer(self, event):
                nonlocal happened
                self.left -= 1
                if self.left == 0:
                    happened = True
                    run(kvm_tdp_mmu_zap_invalidated_roots(vm))  # noqa: B023 - as above
                return super().answer(event)

        run(kvm_tdp_mmu_zap_invalidated_roots(vm), Twice())
        assert counts(vm) == [1, 1]
        assert not any(root.tdp_mmu_scheduled_root_to_zap for root in vm.tdp_mmu_roots)
        kvm_mmu_reload(vm)
        assert_settled(vm)
    assert at > 30


def test_the_vcpus_of_a_vm_that_ends_drop_the_last_references():
    vm = a_td_of_many_tables()
    kvm_tdp_mmu_invalidate_roots(vm, VALID)
    run(kvm_tdp_mmu_zap_invalidated_roots(vm))
    assert counts(vm) == [1, 1]
    kvm_mmu_unload(vm)
    assert (vm.tdp_mmu_roots, vm.pool.rows_in_use) == ([], 0)


def test_vcpus_that_go_without_an_invalidation_leave_the_roots_to_the_tdp_mmu():
    vm = a_plain_vm()
    kvm_mmu_unload(vm)
    assert counts(vm) == [1]
    with pytest.raises(KvmBug, match="is valid"):
        kvm_mmu_unload(vm)
    assert counts(vm) == [1]
