"""KVM: a compact engine. Standard library only, but for `scan`.

Read it in this order. The first seven files are the core and take twenty minutes:

1. `gfn`: frames, levels, ranges, and the shape of a page table.  `spte`: one 64-bit entry.
2. `pool`: rows of entries.  `tree`: a root at rest.
3. `events`: the twelve events that a kernel function hands out, and the world that answers them.
4. `tdp_iter`: the walk.  `tdp_mmu`: split and zap in one root.
5. `kvm`: one VM.  `roots`: which roots an operation reaches, and how long a root lives.
6. `mmu`: a range in all its roots, and where huge pages may be.  `page_fault`: how a frame gets mapped.
7. `splits`: every way to split before a zap that the thread proposed.
8. `conversion` and `guest_memfd`: callers of a split.  `scan`: NumPy shortcuts for large guests.

Import names from here or from their module: ``from tdpkit.engine import GfnRange, Kvm``. `scan` has no names
here, because it imports NumPy.
"""

from tdpkit.door import lazy

DOOR = {
    "gfn": (
        "X86_4LEVEL", "X86_5LEVEL", "FrameSet", "Geometry", "GfnRange", "InvalidTypeError",
        "InvalidValueError", "Level", "align_down", "align_up", "format_gfn", "name_gfn", "parse_gfn",
    ),
    "spte": (
        "FROZEN_SPTE", "SHADOW_NONPRESENT_VALUE", "decode", "make_leaf_spte", "make_nonleaf_spte",
        "make_small_spte",
    ),
    "pool": ("PageTablePool",),
    "tree": (
        "Leaf", "LeafRun", "TdpMmuRoot", "leaf_runs", "leaves", "map_leaf", "map_run", "tables_per_level",
        "translate", "way_down",
    ),
    "events": ("AllocTable", "External", "Flush", "Lock", "Trace", "Unlock", "World", "record", "run"),
    "tdp_iter": ("TdpIter",),
    "tdp_mmu": ("KvmBug", "iter_cross_boundary", "tdp_mmu_split_huge_pages_root", "tdp_mmu_zap_leafs"),
    "kvm": (
        "KVM_ALL_ROOTS", "KVM_DIRECT_ROOTS", "KVM_FILTER_PRIVATE", "KVM_FILTER_SHARED", "KVM_INVALID_ROOTS",
        "KVM_MIRROR_ROOTS", "KVM_VALID_ROOTS", "KVM_X86_DEFAULT_VM", "KVM_X86_SW_PROTECTED_VM",
        "KVM_X86_TDX_VM", "VM_TYPE_NAMES", "Kvm", "KvmGfnRange", "KvmMemorySlot",
    ),
    "roots": (
        "each_tdp_mmu_root", "kvm_gfn_range_filter_to_root_types", "kvm_mmu_reload",
        "kvm_tdp_mmu_invalidate_roots", "tdp_mmu_root_match",
    ),
    "mmu": (
        "kvm_mmu_slot_try_split_huge_pages", "kvm_mmu_try_split_huge_pages", "kvm_split_cross_boundary_leafs",
        "kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs", "kvm_tdp_mmu_try_split_huge_pages",
        "kvm_tdp_mmu_unmap_gfn_range", "kvm_unmap_gfn_range", "weak_kvm_split_cross_boundary_leafs",
    ),
    "page_fault": ("RetPf", "kvm_tdp_mmu_page_fault"),
    "splits": (
        "ACCEPT_SPLITS", "SPLITS", "kvm_tdp_mmu_mirrors_split_huge_pages", "kvm_tdp_mmu_split_huge_pages",
        "kvm_tdp_mmu_split_huge_pages_cross_boundary", "kvm_tdp_mmu_split_huge_pages_log_dirty",
        "no_split", "split_head_and_tail", "split_v3", "split_v3_as_posted",
    ),
    "conversion": ("KVM_MEMORY_ATTRIBUTE_PRIVATE", "kvm_vm_set_mem_attributes"),
    "guest_memfd": ("GuestMemfd", "kvm_gmem_error_folio", "kvm_gmem_fallocate", "kvm_gmem_set_attributes"),
}  # fmt: skip
"""The names that notebooks use, by module, in reading order."""

__all__, __getattr__, __dir__ = lazy(__name__, DOOR)
