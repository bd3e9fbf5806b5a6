"""What KVM does in a page's life, in words: locks, pages, trees, attributes, invalidations."""

from __future__ import annotations

from tdpkit.engine.events import AllocTable, External, Trace
from tdpkit.engine.gfn import PG_LEVEL_2M, GfnRange
from tdpkit.engine.mmu import KVM_LPAGE_GUEST_INHIBIT_FLAG, KVM_LPAGE_MIXED_FLAG
from tdpkit.engine.spte import is_shadow_present_pte

from .fold import IN_HAND
from .words import GUEST, KVM, Names, Said


def violation(names: Names, gfn: int, accepting: bool) -> Said:
    """A vCPU left the TD, at a touch or at an ACCEPT."""
    where = f"frame {names.frame(gfn)}"
    sentence = f"EPT violation: the S-EPT has nothing at {where}. vCPU 0 exits to KVM."
    if accepting:
        sentence = (
            f"EPT violation at {where}: vCPU 0 exits to KVM, which is told the size that was to be accepted."
        )
    return Said(GUEST, "EPT violation", sentence, "tdx_handle_ept_violation")


def attributes(names: Names, span: GfnRange, private: bool) -> Said:
    """Attributes were stored."""
    half = "private" if private else "shared"
    where = names.span(span.start, span.end)
    sentence = f"The attributes of {where} say {half} from now on: faults there go to that half’s tree."
    return Said(KVM, "attributes", sentence, "kvm_vm_set_mem_attributes", "attributes")


def flags(names: Names, was: dict[tuple[int, int], int], now: dict[tuple[int, int], int]) -> Said:
    """Where no huge page may be: flags by (level, first frame of the block), before and after."""

    def blocks(flags: dict[tuple[int, int], int], flag: int) -> list[int]:
        return sorted(gfn for (level, gfn), bits in flags.items() if bits & flag and level == PG_LEVEL_2M)

    inhibited = [
        gfn
        for gfn in blocks(now, KVM_LPAGE_GUEST_INHIBIT_FLAG)
        if gfn not in blocks(was, KVM_LPAGE_GUEST_INHIBIT_FLAG)
    ]
    if inhibited:
        where = names.frame(inhibited[0])
        sentence = f"The guest accepted 4K in the block at {where}: no huge page there, ever again."
        return Said(KVM, "accept level", sentence, "tdx_honor_guest_accept_level")
    title, function = "huge-page flags", "kvm_arch_post_set_memory_attributes"
    mixed = blocks(now, KVM_LPAGE_MIXED_FLAG)
    if not mixed:
        return Said(
            KVM, title, "No block holds both halves now: none forbids a huge page for that.", function
        )
    firsts = " and ".join(names.frame(gfn) for gfn in mixed)
    what = f"The block at {firsts} holds" if len(mixed) == 1 else f"The blocks at {firsts} hold"
    return Said(KVM, title, f"{what} both halves: no huge page there until that changes.", function)


def invalidation(*, begins: bool) -> Said:
    """An invalidation began or ended."""
    if begins:
        sentence = "An invalidation begins: who faults on the range from now on must retry, until it ends."
        return Said(KVM, "invalidate begin", sentence, "kvm_mmu_invalidate_begin")
    sentence = "The invalidation is over: faults on the range are served again."
    return Said(KVM, "invalidate end", sentence, "kvm_mmu_invalidate_end")


def lock(shared: bool, function: str) -> Said:
    """mmu_lock was taken."""
    if shared:
        sentence = "mmu_lock is taken for read: faults may run side by side."
        return Said(KVM, "mmu_lock: read", sentence, "kvm_tdp_mmu_page_fault")
    return Said(
        KVM, "mmu_lock: write", "mmu_lock is taken for write: nobody else changes the tables now.", function
    )


def unlock() -> Said:
    """mmu_lock was let go for a page."""
    sentence = "A leaf has to be split, that takes a table: mmu_lock is let go, for allocating may sleep."
    return Said(KVM, "mmu_lock let go", sentence, "tdp_mmu_split_huge_pages_root")


def page(event: AllocTable, granted: bool, *, splitting: bool) -> Said:
    """A page was asked for: by a split, or by a fault before it takes mmu_lock."""
    what = "a page-table page and an S-EPT page" if event.is_mirror else "a page-table page"
    function = "tdp_mmu_alloc_sp_for_split" if splitting else "mmu_topup_memory_caches"
    if not granted:
        return Said(KVM, "page refused", f"KVM asks for {what}: refused.", function)
    if splitting:
        return Said(KVM, "page", f"KVM asks for {what}, and has them.", function)
    return Said(KVM, IN_HAND, f"For the fault KVM takes {what} in hand, before it takes mmu_lock.", function)


def no_page() -> Said:
    """A split gave up."""
    sentence = "Without a page no split: -ENOMEM. What was split before stays split."
    return Said(KVM, "-ENOMEM", sentence, "tdp_mmu_split_huge_pages_root")


def flush() -> Said:
    """All TLBs were flushed."""
    sentence = "All TLBs are flushed: no vCPU can reach what was zapped."
    return Said(KVM, "flush TLBs", sentence, "kvm_flush_remote_tlbs")


def warn(event: Trace) -> Said:
    """A WARN of the kernel."""
    return Said(KVM, "WARN", f"{event.name}.")


def mirror_changed(names: Names, event: External) -> Said:
    """A mirror entry changed under the write lock; the hook that follows is about to be called."""
    leaf = names.leaf(event.gfn, event.level)
    if event.op == "split":
        sentence = f"In the mirror {leaf} becomes a table of small leaves; the S-EPT has to follow."
        return Said(KVM, "mirror: split", sentence, "tdp_mmu_split_huge_page", "mirror")
    sentence = f"In the mirror {leaf} is zapped, whole; the S-EPT has to follow."
    return Said(KVM, "mirror: zap", sentence, "tdp_mmu_zap_leafs", "mirror")


def leaf_changed(names: Names, event: Trace, tree: str, held: str) -> Said | None:
    """A leaf was set or zapped; None where the mirror's step has told of it already."""
    leaf = names.leaf(event.gfn, event.level)
    if not is_shadow_present_pte(event.new_spte):
        if tree == "mirror":
            return None
        return Said(
            KVM, "direct tree: zap", f"In the direct tree {leaf} is zapped.", "tdp_mmu_zap_leafs", "direct"
        )
    if tree == "mirror" and held == "read":
        sentence = f"The mirror has {leaf} too: its entry was frozen while the TDX module was asked."
        return Said(KVM, "mirror: leaf", sentence, "kvm_tdp_mmu_map", "mirror")
    if tree == "mirror":
        return None
    sentence = f"The direct tree maps {leaf} to userspace’s memory; its index has the S-bit."
    return Said(KVM, "direct tree: leaf", sentence, "kvm_tdp_mmu_map", "direct")
