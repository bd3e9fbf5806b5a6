"""Which roots an operation reaches, and how long a root lives.

A plain VM has a direct root, which the hardware walks. A TD has two roots. The direct root holds the shared
half and is indexed with the shared bit. The mirror root is KVM's copy of the private half, is indexed without
the bit, and is never loaded (S10, S46). A caller selects a half by a filter, a filter maps to
root types, and root types match roots. *Direct* here means "no mirror"; role.direct is set in both kinds
(S41).

An iterator over roots holds one reference at a time; leave early and you must put it. Left out: roots of
nested guests and of the shadow MMU.
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

# ---- which roots -----------------------------------------------------------------------------------------


def kvm_gfn_range_filter_to_root_types(kvm: Kvm, attr_filter: int) -> int:
    """Map a filter to root types; without a mirror the answer is KVM_DIRECT_ROOTS for any filter.

    Returns 0 if a TD's filter selects neither half (the kernel WARNs). Source: tdp_mmu.h; S44.
    """
    if not kvm.has_mirrored_tdp:
        return KVM_DIRECT_ROOTS
    mirror = KVM_MIRROR_ROOTS if attr_filter & KVM_FILTER_PRIVATE else 0
    direct = KVM_DIRECT_ROOTS if attr_filter & KVM_FILTER_SHARED else 0
    return mirror | direct


def warn_unless_root_types(types: int) -> Iterator[Trace]:
    """WARN, as the kernel does, if root types name neither direct nor mirror roots (S43)."""
    if not types & KVM_VALID_ROOTS:
        yield Trace("WARN_ON_ONCE(!(types & KVM_VALID_ROOTS))")


def tdp_mmu_root_match(root: TdpMmuRoot, types: int) -> bool:
    """Whether `root` matches `types`. INVALID admits invalid roots and matches nothing by itself.

    Source: tdp_mmu_root_match, tdp_mmu.c; S43.
    """
    if root.invalid and not types & KVM_INVALID_ROOTS:
        return False
    return bool(types & (KVM_MIRROR_ROOTS if root.is_mirror else KVM_DIRECT_ROOTS))


def tdp_mmu_next_root(kvm: Kvm, prev: TdpMmuRoot | None, as_id: int, types: int) -> TdpMmuRoot | None:
    """Take a reference on the next matching root and drop the one on `prev`.

    A loop that ends early must put the root it holds (S47).
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
    """__for_each_tdp_mmu_root_yield_safe: yield the matching roots, with a reference on the current one.

    To leave the loop early, close it (``contextlib.closing``): that puts the root in hand.
    """
    root = None
    try:
        while root := tdp_mmu_next_root(kvm, root, as_id, types):
            yield root
    finally:
        if root is not None:
            kvm_tdp_mmu_put_root(kvm, root)


# ---- a root's life ---------------------------------------------------------------------------------------


def kvm_tdp_mmu_put_root(kvm: Kvm, root: TdpMmuRoot) -> None:
    """Drop one reference; after the last, the root leaves the list and its tables return to the pool.

    Raises KvmBug, with nothing changed, for the last reference on a valid root (a KVM_BUG in the kernel) and
    for a root without references. Source: kvm_tdp_mmu_put_root, tdp_mmu.c; S48.
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
    """Mark the matching roots invalid: no vCPU enters with them again, and faults on them retry.

    The caller holds mmu_lock for write. Fast zap-all passes KVM_DIRECT_ROOTS, which spares a TD's private
    memory; teardown passes KVM_VALID_ROOTS. Source: tdp_mmu.c; S49.
    """
    for root in kvm.tdp_mmu_roots:
        if not root.invalid and tdp_mmu_root_match(root, types):
            kvm.pool.role[root.row] |= ROLE_INVALID
            root.tdp_mmu_scheduled_root_to_zap = True


def kvm_tdp_mmu_zap_invalidated_roots(kvm: Kvm) -> Coroutine[None]:
    """Zap each invalidated root whole and drop the TDP MMU's reference on it.

    For a mirror root it first reclaims the tables' pages from the TDX side (op "free"), which returns them
    only after the TD is torn down (S161). The caller holds mmu_lock for write. Two concurrent
    calls share the roots; if one is abandoned or ends in a KvmBug, another starts that root again. Source:
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
    """Replace invalidated roots by valid ones, the mirror root first, as a vCPU does before it enters.

    Source: mmu.c, mmu_alloc_direct_roots; S45.
    """
    if kvm.mirror_root and kvm.mirror_root.invalid:
        stale, kvm.mirror_root = kvm.mirror_root, kvm_tdp_mmu_alloc_root(kvm, is_mirror=True)
        kvm_tdp_mmu_put_root(kvm, stale)
    if kvm.direct_root.invalid:
        stale, kvm.direct_root = kvm.direct_root, kvm_tdp_mmu_alloc_root(kvm, is_mirror=False)
        kvm_tdp_mmu_put_root(kvm, stale)


def kvm_mmu_unload(kvm: Kvm) -> None:
    """Drop the vCPUs' references as they go. They may be the last ones only after
    :func:`kvm_tdp_mmu_invalidate_roots`; the roots can then be read, but no longer used.
    """
    for root in (kvm.direct_root, kvm.mirror_root):
        if root:
            kvm_tdp_mmu_put_root(kvm, root)
