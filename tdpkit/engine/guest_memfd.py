"""guest_memfd, the file behind a TD's private memory, and three of M7's four callers: those that zap.

The three are a hole punched into the file, a conversion by the file's own ioctl, and a page with
a memory failure. The fourth is an ACCEPT of less than is mapped (`tdx.kvm_tdx`); the older ioctl, per VM, is
in `conversion`. Each takes, as an argument, the split that it makes before the zap (see `splits`). If that
split fails:

* punch hole and conversion zap and store nothing, end the invalidation, and return what the split returned;
  splits already made stay.
* memory failure goes on and zaps: a choice of this model, since that split was never posted.

Sources: virt/kvm/guest_memfd.c of 6.16, patch v3 16/24; S190-S198. Left out: the file system's side
(inodes, page cache) and with it in-place backing.
"""

from __future__ import annotations

from collections.abc import Iterator

from .conversion import KVM_MEMORY_ATTRIBUTE_PRIVATE, with_huge_edges
from .events import EHWPOISON, EINVAL, EOPNOTSUPP, Coroutine, Flush, Lock, Unlock
from .gfn import (
    PAGE_SHIFT,
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    Geometry,
    GfnRange,
    InvalidValueError,
    align_down,
    as_integer,
    check_gfn,
    name_gfn,
)
from .kvm import (
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    Kvm,
    KvmGfnRange,
    KvmMemorySlot,
    kvm_mmu_invalidate_begin,
    kvm_mmu_invalidate_end,
)
from .mmu import kvm_arch_post_set_memory_attributes, kvm_unmap_gfn_range
from .splits import RangeSplit, no_split, split_v3

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
MF_DELAYED = 2
"""Result of a memory failure: the page will be dropped later (enum mf_result, mm.h; S252)."""

# ---- the file ------------------------------------------------------------------------------------------


class GuestMemfd:
    """A guest_memfd of `npages` pages, on host frames from `first_pfn` on, in folios of `folio_level`.

    spans_folios: let a mapping be larger than its folio, up to the level that the frames' alignment allows.
    That breaks the rule the series relies on (S195, S128). Raises InvalidValueError for a number
    of pages that is no multiple of the folio, an unaligned `first_pfn`, or an unknown level.
    """

    def __init__(
        self,
        geometry: Geometry,
        npages: int,
        first_pfn: int,
        *,
        folio_level: int = PG_LEVEL_2M,
        spans_folios: bool = False,
    ) -> None:
        self.geometry = geometry
        self.npages = check_gfn(npages, "a number of pages")
        self.first_pfn = check_gfn(first_pfn, "a PFN")
        self.folio_level, pages, label = geometry.level(folio_level)
        if not npages or npages % pages or first_pfn % pages:
            raise InvalidValueError(
                f"a file has whole folios of {label}; {npages} pages from host frame "
                f"{name_gfn(first_pfn)} are not"
            )
        self.spans_folios = spans_folios
        self.split_folios: set[int] = set()
        """First pages of the folios that were split into single pages."""
        self.poisoned: set[int] = set()
        """Pages with a memory failure."""
        self.holes: list[GfnRange] = []
        """The holes punched so far, in file pages, in order."""
        self.bindings: list[tuple[Kvm, KvmMemorySlot]] = []

    def __repr__(self) -> str:
        return f"<guest_memfd of {self.npages} pages from host frame {self.first_pfn:#x}>"

    def bind(self, kvm: Kvm) -> None:
        """Bind the file to each slot of `kvm` that names it (S190).

        Raises InvalidValueError for a plain VM, a slot beyond the file, or a page that is already bound.
        """
        if not kvm.has_private_mem:
            raise InvalidValueError("guest_memfd backs private frames here; a plain VM has none")
        taken = [(slot.gmem_pgoff, slot.gmem_pgoff + slot.npages) for _, slot in self.bindings]
        slots = [slot for slot in kvm.memslots if slot.gmem is self]
        for slot in slots:
            first, last = slot.gmem_pgoff, slot.gmem_pgoff + slot.npages
            if last > self.npages:
                raise InvalidValueError(
                    f"a slot takes pages of the file, below {self.npages}; [{first}, {last}) is not"
                )
            if any(first < high and low < last for low, high in taken):
                raise InvalidValueError(
                    f"a page of the file is bound once; [{first}, {last}) is bound already"
                )
            taken.append((first, last))
        self.bindings += [(kvm, slot) for slot in slots]

    def folio(self, index: int) -> GfnRange:
        """The pages of the folio that holds page `index`."""
        pages = self.geometry.pages(self.folio_level)
        first = align_down(index, pages)
        return GfnRange(index, index + 1) if first in self.split_folios else GfnRange(first, first + pages)

    def split_folio(self, index: int) -> None:
        """Split the folio that holds page `index` into single pages; mappings stay as they are."""
        self.split_folios.add(align_down(index, self.geometry.pages(self.folio_level)))

    def truncate(self, pages: GfnRange) -> None:
        """Take `pages` out of the file. Pages allocated there later are sound, and a whole folio that went is
        allocated as one folio again.
        """
        self.holes.append(pages)
        self.poisoned = {page for page in self.poisoned if page not in pages}
        size = self.geometry.pages(self.folio_level)
        self.split_folios = {first for first in self.split_folios if pages.overlap(first, size) < size}

    def get_pfn(self, index: int) -> tuple[int, int]:
        """kvm_gmem_get_pfn: the host frame of page `index` and the largest level of a mapping, or (-errno,
        0).

        The errno is -EINVAL beyond the file, -EHWPOISON for a folio with a memory failure.
        """
        if not 0 <= index < self.npages:
            return -EINVAL, 0
        folio = self.folio(index)
        if any(page in folio for page in self.poisoned):
            return -EHWPOISON, 0
        level = PG_LEVEL_4K if folio.pages == 1 else self.folio_level
        return self.first_pfn + index, self.geometry.max_leaf_level if self.spans_folios else level

    def gfns(self, pages: GfnRange) -> Iterator[tuple[Kvm, KvmMemorySlot, GfnRange]]:
        """Find the guest frames of file pages, binding by binding (S193)."""
        for kvm, slot in self.bindings:
            first = max(slot.gmem_pgoff, pages.start)
            last = min(slot.gmem_pgoff + slot.npages, pages.end)
            if first < last:
                shift = slot.base_gfn - slot.gmem_pgoff
                yield kvm, slot, GfnRange(first + shift, last + shift)


# ---- punch hole ----------------------------------------------------------------------------------------


def kvm_gmem_fallocate(
    gmem: GuestMemfd,
    mode: int,
    offset: int,
    length: int,
    *,
    whole_folios: bool = True,
    split: RangeSplit = no_split,
) -> Coroutine[int]:
    """fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) of `length` bytes from byte `offset` on.

    whole_folios: the rule that upstream agreed on for files of hugetlb or THP: guest_memfd *will* allow holes
    only in units of its huge page (M3; S127). Then no split is needed as long as no mapping is larger than
    its folio. False: the rule of Linux 6.16, multiples of 4K. Returns 0; -EOPNOTSUPP for another mode
    (KEEP_SIZE alone, which allocates ahead, is left out); -EINVAL for a hole that is negative, empty, no
    multiple of 4K, or, with whole_folios, not of whole folios (there the errno is unverified); else the value
    that `split` returned, v3's 1 included (patch v3 16/24). Source: S191, S192.
    """
    start, size = as_integer(offset, "an offset"), as_integer(length, "a length")
    if mode != FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
        return _answer(-EOPNOTSUPP)
    hole = _pages_of(start, size)
    if hole is None:
        return _answer(-EINVAL)
    pages = GfnRange(hole.start, max(hole.start, min(hole.end, gmem.npages)))
    if whole_folios and pages.pages:
        edges = (gmem.folio(pages.start).start, gmem.folio(pages.end - 1).end)
        if edges != (pages.start, pages.end):
            return _answer(-EINVAL)
    return _punch_hole(gmem, pages, split)


def _pages_of(offset: int, size: int) -> GfnRange | None:
    """The file pages of these bytes; None if they are not whole pages, from one on."""
    if offset < 0 or size <= 0 or (offset | size) & (1 << PAGE_SHIFT) - 1:
        return None
    return GfnRange(offset >> PAGE_SHIFT, (offset + size) >> PAGE_SHIFT)


def _answer(errno: int) -> Coroutine[int]:
    yield from ()
    return errno


def _punch_hole(gmem: GuestMemfd, pages: GfnRange, split: RangeSplit) -> Coroutine[int]:
    bound = _ranges_by_vm(gmem, pages, KVM_FILTER_PRIVATE)
    ret = yield from _invalidate_and_zap(bound, split, must_split=True)
    if ret == 0 and pages.pages:
        gmem.truncate(pages)
    yield from _invalidate_end(bound)
    return ret


_Bound = dict[Kvm, list[KvmGfnRange]]
"""The ranges of each VM that a stretch of the file is bound to."""


def _ranges_by_vm(gmem: GuestMemfd, pages: GfnRange, attr_filter: int) -> _Bound:
    bound: _Bound = {}
    for kvm, slot, span in gmem.gfns(pages):
        gfn_range = KvmGfnRange(slot, span.start, span.end, attr_filter)
        bound.setdefault(kvm, []).append(gfn_range)
    return bound


def _invalidate_and_zap(
    bound: _Bound, split: RangeSplit, *, must_split: bool, huge_edges: bool = False
) -> Coroutine[int]:
    """For each VM, under the write lock: begin the invalidation, split at the edges, zap the ranges.

    If `must_split` and a split fails, zap nothing and return its value. huge_edges: faults on the huge blocks
    at the edges retry too (see :func:`~.conversion.with_huge_edges`).
    """
    for kvm, ranges in bound.items():
        yield Lock(False)
        span = GfnRange(min(r.start for r in ranges), max(r.end for r in ranges))
        kvm_mmu_invalidate_begin(kvm, with_huge_edges(kvm, span) if huge_edges else span)
        yield Unlock(False, "done")
    for kvm, ranges in bound.items():
        yield Lock(False)
        ret = 0
        for gfn_range in ranges:
            ret = yield from split(kvm, gfn_range)
            if ret and must_split:
                break
        yield Unlock(False, "done")
        if ret and must_split:
            return ret
    for kvm, ranges in bound.items():
        yield Lock(False)
        flush = False
        for gfn_range in ranges:
            flush = (yield from kvm_unmap_gfn_range(kvm, gfn_range)) or flush
        if flush:
            yield Flush()
        yield Unlock(False, "done")
    return 0


def _invalidate_end(bound: _Bound, *, stored: bool = False) -> Coroutine[None]:
    """End the invalidation of each VM; if attributes were `stored`, recompute where huge pages may be."""
    for kvm, ranges in bound.items():
        yield Lock(False)
        for gfn_range in ranges if stored else ():
            kvm_arch_post_set_memory_attributes(kvm, GfnRange(gfn_range.start, gfn_range.end))
        kvm_mmu_invalidate_end(kvm)
        yield Unlock(False, "done")


# ---- conversion, by file -------------------------------------------------------------------------------


def kvm_gmem_set_attributes(
    gmem: GuestMemfd, offset: int, size: int, attributes: int, *, split: RangeSplit = split_v3
) -> Coroutine[int]:
    """KVM_SET_MEMORY_ATTRIBUTES2 on the file: `size` bytes from byte `offset` on become private or shared.

    attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, or 0 for shared. In every VM that the pages are bound to: begin
    the invalidation; on the way to shared, split private leaves at the edges; zap exactly the range in the
    half it leaves; flush; store the attributes; recompute where huge pages are allowed; end the invalidation.
    (v3 16/24 ends it before it stores, while it holds the file's invalidate lock, which is not modelled.)

    Returns 0; -EINVAL for unknown attributes and for a range that is negative, empty, no multiple of 4K or
    (unverified) beyond the file; else *any* value but 0 that `split` returned, at once, with the invalidation
    ended and nothing zapped or stored. So v3's lost errno comes back as 1 (S107). Source: kvm_gmem_convert()
    of v3 16/24; S197, S130.

    The model's choices: each bound VM keeps the attributes, so pages that nobody bound have none; the shared
    half still comes from userspace's memory, not from the file; faults on the huge blocks at the edges retry
    too, as for the ioctl of the VM. Left out: -EAGAIN for pages that somebody else still holds, and
    the ioctl's struct, whose layout is unverified.
    """
    pages = _pages_of(as_integer(offset, "an offset"), as_integer(size, "a size"))
    unknown = as_integer(attributes, "attributes") & ~KVM_MEMORY_ATTRIBUTE_PRIVATE
    if unknown or pages is None or pages.end > gmem.npages:
        return _answer(-EINVAL)
    return _convert(gmem, pages, attributes == KVM_MEMORY_ATTRIBUTE_PRIVATE, split)


def _convert(gmem: GuestMemfd, pages: GfnRange, private: bool, split: RangeSplit) -> Coroutine[int]:
    spans = [(kvm, span) for kvm, _, span in gmem.gfns(pages)]
    if all(kvm.mem_attributes.has(span, private) for kvm, span in spans):
        return 0
    bound = _ranges_by_vm(gmem, pages, KVM_FILTER_SHARED if private else KVM_FILTER_PRIVATE)
    how = no_split if private else split
    ret = yield from _invalidate_and_zap(bound, how, must_split=True, huge_edges=True)
    if ret == 0:
        for kvm, span in spans:
            kvm.mem_attributes.store(span, private)
    yield from _invalidate_end(bound, stored=ret == 0)
    return ret


# ---- memory failure --------------------------------------------------------------------------------------


def kvm_gmem_error_folio(gmem: GuestMemfd, index: int, *, split: RangeSplit = no_split) -> Coroutine[int]:
    """A memory failure at page `index`: its folio is zapped in every VM, not truncated; later faults get
    -EHWPOISON.

    If no mapping is larger than its folio this needs no split. M7 names this caller for a future version, in
    which a folio may be split before the S-EPT is (S130, S194). How that version would treat a
    failed split is unverified; here the zap goes on, because the page is bad anyway. Returns MF_DELAYED.
    Raises InvalidValueError for a page beyond the file.
    """
    page = check_gfn(index, "a page of the file")
    if page >= gmem.npages:
        raise InvalidValueError(f"the file has pages below {gmem.npages}; {page} ({page:#x}) is beyond it")
    return _error_folio(gmem, page, split)


def _error_folio(gmem: GuestMemfd, page: int, split: RangeSplit) -> Coroutine[int]:
    gmem.poisoned.add(page)
    bound = _ranges_by_vm(gmem, gmem.folio(page), KVM_FILTER_PRIVATE)
    yield from _invalidate_and_zap(bound, split, must_split=False)
    yield from _invalidate_end(bound)
    return MF_DELAYED
