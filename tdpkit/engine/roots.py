"""Which roots an operation reaches, and how long a root lives.

A plain VM has a direct root, walked by the hardware. A TD has two: the direct root holds the shared half and
is indexed with the shared bit; the mirror root is KVM's copy of the private half, indexed without, and never
loaded (kernel-facts 1.11, 3.10). A caller names a half by a filter, a filter means root types, and root types
match roots. *Direct* in this sense means "no mirror"; role.direct is set in both kinds (3.3).

Roots are counted: whoever iterates over them holds one reference at a time, and who leaves early puts it.
Left out: roots of nested guests and of the shadow MMU.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from .events import Coroutine, External, Trace
from .kvm import (
    KVM_DIRECT_ROOTS,
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    KVM_INVALID_ROOTS,
    KVM_MIRROR_ROOTS,
    KVM_VALID_ROOTS,
    Kvm,
    kvm_tdp_mmu_alloc_root,
)
from .pool import ROLE_INVALID
from .spte import SHADOW_NONPRESENT_VALUE, make_nonleaf_spte
from .tdp_mmu import KvmBug, tdp_mmu_zap_leafs
from .tree import TdpMmuRoot, table_rows

# ---- which -----------------------------------------------------------------------------------------------


def kvm_gfn_range_filter_to_root_types(kvm: Kvm, attr_filter: int) -> int:
    """Root types that a filter means; a VM without a mirror has one answer whatever the filter.

    0 if a TD's filter names neither half (the kernel WARNs). Source: tdp_mmu.h; kernel-facts 3.6.
    """
    if not kvm.has_mirrored_tdp:
        return KVM_DIRECT_ROOTS
    mirror = KVM_MIRROR_ROOTS if attr_filter & KVM_FILTER_PRIVATE else 0
    direct = KVM_DIRECT_ROOTS if attr_filter & KVM_FILTER_SHARED else 0
    return mirror | direct


def warn_unless_root_types(types: int) -> Iterator[Trace]:
    """The kernel's WARN where root types name neither direct nor mirror roots (kernel-facts 3.5)."""
    if not types & KVM_VALID_ROOTS:
        yield Trace("WARN_ON_ONCE(!(types & KVM_VALID_ROOTS))")


def tdp_mmu_root_match(root: TdpMmuRoot, types: int) -> bool:
    """Does `root` belong to `types`? INVALID lets invalid roots in and matches nothing by itself.

    Source: tdp_mmu_root_match, tdp_mmu.c; kernel-facts 3.5.
    """
    if root.invalid and not types & KVM_INVALID_ROOTS:
        return False
    return bool(types & (KVM_MIRROR_ROOTS if root.is_mirror else KVM_DIRECT_ROOTS))


def tdp_mmu_next_root(kvm: Kvm, prev: TdpMmuRoot | None, as_id: int, types: int) -> TdpMmuRoot | None:
    """The next matching root, with a reference taken; the reference on `prev` is dropped.

    Whoever leaves the loop early puts the root it holds (kernel-facts 3.12).
    """
    after = 0 if prev is None else kvm.tdp_mmu_roots.index(prev) + 1
    following: Iterator[TdpMmuRoot] = (
        root for root in kvm.tdp_mmu_roots[after:] if root.as_id == as_id and tdp_mmu_root_match(root, types)
    )
    root = next(following, None)
    if root is not None:
        root.tdp_mmu_root_count += 1
    if prev is not None:
        kvm_tdp_mmu_put_root(kvm, prev)
    return root


def each_tdp_mmu_root(kvm: Kvm, as_id: int, types: int) -> Generator[TdpMmuRoot]:
    """__for_each_tdp_mmu_root_yield_safe: the matching roots, each with a reference while it is looked at.

    Whoever leaves the loop early closes it (``contextlib.closing``), which puts the root in hand.
    """
    root = None
    try:
        while root := tdp_mmu_next_root(kvm, root, as_id, types):
            yield root
    finally:
        if root is not None:
            kvm_tdp_mmu_put_root(kvm, root)


# ---- how long --------------------------------------------------------------------------------------------


def kvm_tdp_mmu_put_root(kvm: Kvm, root: TdpMmuRoot) -> None:
    """Drop one reference; with the last one the root leaves the list, and its tables go back to the pool.

    Raises KvmBug, with nothing changed, for the last reference on a valid root, where the kernel has a
    KVM_BUG, and for a reference that nobody has. Source: kvm_tdp_mmu_put_root, tdp_mmu.c; kernel-facts 3.13.
    """
    if not root.tdp_mmu_root_count:
        raise KvmBug(f"{root} has no reference left to drop")
    if root.tdp_mmu_root_count == 1:
        if not root.invalid:
            raise KvmBug(f"{root} is valid; its last reference is dropped only after it was invalidated")
        kvm.tdp_mmu_roots.remove(root)
        for rows in table_rows(root):
            for row in rows:
                kvm.pool.free(row)
    root.tdp_mmu_root_count -= 1


def kvm_tdp_mmu_invalidate_roots(kvm: Kvm, types: int) -> None:
    """Mark the matching roots invalid: no vCPU enters with them again, faults on them are retried.

    mmu_lock is held for write. Fast zap-all passes KVM_DIRECT_ROOTS, which spares a TD's private memory;
    teardown KVM_VALID_ROOTS. Source: tdp_mmu.c; kernel-facts 3.14.
    """
    for root in kvm.tdp_mmu_roots:
        if not root.invalid and tdp_mmu_root_match(root, types):
            kvm.pool.role[root.row] |= ROLE_INVALID
            root.tdp_mmu_scheduled_root_to_zap = True


def kvm_tdp_mmu_zap_invalidated_roots(kvm: Kvm) -> Coroutine[None]:
    """Zap each invalidated root whole and drop the TDP MMU's reference on it.

    The pages of a mirror root's tables are asked back from the TDX side first (op "free"), which gives them
    only when the TD is torn down (kernel-facts 8.2). mmu_lock is held for write. Two calls at a time share
    the roots; after one that was given up, or ended in a KvmBug, another begins that root again. Source:
    tdp_mmu.c.
    """
    for root in kvm.tdp_mmu_roots.copy():
        if not root.tdp_mmu_scheduled_root_to_zap:
            continue
        root.tdp_mmu_scheduled_root_to_zap = False
        try:
            yield from _zap_root(kvm, root)
        except BaseException:
            root.tdp_mmu_scheduled_root_to_zap = True
            raise
        kvm_tdp_mmu_put_root(kvm, root)


def _zap_root(kvm: Kvm, root: TdpMmuRoot) -> Coroutine[None]:
    yield from tdp_mmu_zap_leafs(root, 0, root.max_gfn_exclusive)
    if root.is_mirror:
        for rows in reversed(table_rows(root)[1:]):
            for row in rows:
                level = kvm.pool.level(row) + 1
                link = make_nonleaf_spte(row)
                errno = yield External("free", kvm.pool.gfn[row], level, link, SHADOW_NONPRESENT_VALUE)
                if errno:
                    raise KvmBug(f"the TDX side keeps a page of {root} ({errno}); is the TD torn down?")


def kvm_mmu_reload(kvm: Kvm) -> None:
    """What a vCPU does before it enters: let go of roots that were invalidated and take valid ones."""
    if kvm.direct_root.invalid:
        stale, kvm.direct_root = kvm.direct_root, kvm_tdp_mmu_alloc_root(kvm, is_mirror=False)
        kvm_tdp_mmu_put_root(kvm, stale)
    if kvm.mirror_root and kvm.mirror_root.invalid:
        stale, kvm.mirror_root = kvm.mirror_root, kvm_tdp_mmu_alloc_root(kvm, is_mirror=True)
        kvm_tdp_mmu_put_root(kvm, stale)


def kvm_mmu_unload(kvm: Kvm) -> None:
    """The vCPUs go: their references are dropped. Only after :func:`kvm_tdp_mmu_invalidate_roots` may these
    be the last ones; afterwards the VM has roots to be read, and none to be used.
    """
    for root in (kvm.direct_root, kvm.mirror_root):
        if root:
            kvm_tdp_mmu_put_root(kvm, root)
