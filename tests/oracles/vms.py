"""Virtual machines to try things on, and what the tests of several modules ask of them."""

from collections.abc import Callable, Iterator

from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import Geometry
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.pool import ROLE_INVALID, PageTablePool
from tdpkit.engine.tree import TdpMmuRoot, map_run
from tests.oracles import brute
from tests.oracles.worlds import Finite

TOY = Geometry(2, 3, 2)
"""32 private frames under eight leaves of four, and as many shared ones."""
SHARED, PRIVATE = 1, 2
BOTH = SHARED | PRIVATE
"""S44."""
EHWPOISON = 133


def an_empty_td(geometry: Geometry = TOY, **options) -> Kvm:
    """A TD without a range held; its rows come in random order from a pool that must grow."""
    pool = PageTablePool(geometry, capacity=1, shuffle=6)
    return Kvm(KVM_X86_TDX_VM, geometry, pool=pool, **options)


def a_td(**options) -> Kvm:
    """A TD with 16K leaves on frames [0, 32) in either half: host frames from 64 (shared), 128 (private)."""
    vm = an_empty_td(**options)
    map_run(vm.direct_root, 0, 2, 8, 64)
    map_run(vm.mirror_root, 0, 2, 8, 128)
    vm.slots_lock.__enter__()  # most tests are of protected ranges; test_mmu asks what if not
    return vm


def a_plain_vm(**options) -> Kvm:
    vm = Kvm(KVM_X86_DEFAULT_VM, TOY, **options)
    map_run(vm.direct_root, 0, 2, 8, 64)
    vm.slots_lock.__enter__()
    return vm


def replant(vm: Kvm, table: list, *, is_mirror: bool = False) -> TdpMmuRoot:
    """`vm` with another tree, which holds `table`, in place of its (empty) one of this kind."""
    old = vm.mirror_root if is_mirror else vm.direct_root
    root = brute.plant(vm.geometry, table, pool=vm.pool, is_mirror=is_mirror, gfn_bits=old.gfn_bits)
    vm.tdp_mmu_roots[vm.tdp_mmu_roots.index(old)] = root
    vm.pool.free(old.row)
    if is_mirror:
        vm.mirror_root = root
    else:
        vm.direct_root = root
    return root


def planted(layout: brute.Layout, vm_type: int = KVM_X86_DEFAULT_VM) -> Kvm:
    """A VM with `layout` in its direct root; a TD's holds the shared half of it, the mirror the rest."""
    geometry, table = layout
    vm = Kvm(vm_type, geometry, pool=PageTablePool(geometry, capacity=1, shuffle=2))
    holes = [brute.HOLE] * (len(table) // 2)
    if vm.has_mirrored_tdp:
        replant(vm, table[: len(holes)] + holes, is_mirror=True)
        table = holes + table[len(holes) :]
    replant(vm, table)
    vm.slots_lock.__enter__()
    return vm


def a_range(vm: Kvm, start: int, end: int, attr_filter: int = BOTH, may_block: bool = True) -> KvmGfnRange:
    return KvmGfnRange(vm.slot, start, end, attr_filter, may_block)


def invalidate(root: TdpMmuRoot) -> None:
    root.pool.role[root.row] |= ROLE_INVALID


def contents(root: TdpMmuRoot) -> list:
    return brute.read(root)


def counts(vm: Kvm) -> list[int]:
    return [root.tdp_mmu_root_count for root in vm.tdp_mmu_roots]


def assert_settled(vm: Kvm) -> None:
    """Two references on each root (vCPU, TDP MMU); each row in use is a table that is met, or cached; no
    reader.
    """
    assert set(counts(vm)) == {2}
    tables = sum(sum(brute.tables_per_level(vm.geometry, contents(root))) for root in vm.tdp_mmu_roots)
    assert vm.pool.rows_in_use == tables + sum(map(len, vm.page_caches.values()))
    assert vm.pool.rcu_readers == 0


def given_up_everywhere(make: Callable[[], tuple[Kvm, Coroutine]]) -> Iterator[Kvm]:
    """The VM of a call that was closed at its first event, of one closed at its second, and so on; the last
    one's call came to its end.
    """
    at = 0
    while True:
        vm, coroutine = make()
        world, answer = Finite(), None
        try:
            for _ in range(at):
                answer = world.answer(coroutine.send(answer))
            coroutine.send(answer)
        except StopIteration:
            yield vm
            return
        coroutine.close()
        yield vm
        at += 1


class Gmem:
    """A guest_memfd by a table: (host frame, level of its folio) of a file page; others are poisoned."""

    def __init__(self, pages: dict[int, tuple[int, int]]) -> None:
        self.pages = pages

    def get_pfn(self, index: int) -> tuple[int, int]:
        return self.pages.get(index, (-EHWPOISON, 0))
