"""The four who split a private range before they change it, each as a call on a small TD (kernel-facts C20).

A :class:`Caller` knows how its TD comes about, what its call is, and where to see that it is done. All split
with v3's function; `splits` has it with its variable as posted and mended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.guest_memfd import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    kvm_gmem_error_folio,
    kvm_gmem_fallocate,
)
from tdpkit.engine.mmu import hugepage_test_guest_inhibit
from tdpkit.engine.splits import SPLITS, accept_split_v3, accept_split_v3_as_posted
from tdpkit.tdx.guest import td_accept
from tdpkit.tdx.module import SeptState

from .td import Td

FRAMES = 16
"""Two 2M leaves, of eight frames each here."""
TYPES = {"bool": "v3 as posted", "int": "v3"}
"""Type of the wrapper's variable -> the name of that split in SPLITS."""

Splitting = Callable[..., Coroutine[int]]
"""A RangeSplit or an AcceptSplit."""


class Caller(NamedTuple):
    """One of the four: how its TD comes about, its call, and how to see that it is done."""

    span: GfnRange
    prepare: Callable[[bool], Td]
    """The TD before the call, with Dynamic PAMT or without."""
    splits: dict[str, Splitting]
    call: Callable[[Td, Splitting], Coroutine[int | None]]
    record: Callable[[Td], GfnRange | None]
    state: SeptState = SeptState.FREE
    """Of each frame of `span`, once it is done."""


_EDGES = GfnRange(6, 12)
_FRAME = GfnRange(3, 4)


def _convert(td: Td, split: Splitting) -> Coroutine[int]:
    return kvm_vm_set_mem_attributes(td.kvm, _EDGES.start, _EDGES.end, 0, split=split)


def _punch(td: Td, split: Splitting) -> Coroutine[int]:
    offset, length = _EDGES.start << PAGE_SHIFT, _EDGES.pages << PAGE_SHIFT
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    return kvm_gmem_fallocate(td.gmem, mode, offset, length, whole_folios=False, split=split)


def _accept(td: Td, split: Splitting) -> Coroutine[int | None]:
    if td.vcpu not in td.module.vcpus_inside:
        td.module.vp_enter(td.vcpu)  # userspace calls KVM_RUN again
    return td_accept(td.tdx, td.vcpu, _FRAME.start, PG_LEVEL_4K, split=split)


def _fail(td: Td, split: Splitting) -> Coroutine[int]:
    return kvm_gmem_error_folio(td.gmem, _FRAME.start, split=split)


def _ready(dynamic_pamt: bool) -> Td:
    return Td(frames=FRAMES, dynamic_pamt=dynamic_pamt)


def _touched(dynamic_pamt: bool) -> Td:
    """The first leaf is mapped and not accepted yet, the second is."""
    td = Td(frames=FRAMES, accepted=False, dynamic_pamt=dynamic_pamt)
    td.accept(FRAMES // 2, PG_LEVEL_2M)
    td.touch(_FRAME.start)
    return td


def _folio_split(dynamic_pamt: bool) -> Td:
    """guest_memfd has split the first folio; its mapping is still 2M."""
    td = _ready(dynamic_pamt)
    td.gmem.split_folio(_FRAME.start)
    return td


def _shared(td: Td) -> GfnRange | None:
    gfns = [gfn for gfn in range(FRAMES) if gfn not in td.kvm.mem_attributes]
    return GfnRange(gfns[0], gfns[-1] + 1) if gfns else None


def _inhibited(td: Td) -> GfnRange | None:
    pages = td.geometry.pages(PG_LEVEL_2M)
    return GfnRange(0, pages) if hugepage_test_guest_inhibit(td.kvm, _FRAME.start, PG_LEVEL_2M) else None


_ACCEPT_TYPES: dict[str, Splitting] = {"bool": accept_split_v3_as_posted, "int": accept_split_v3}
_RANGE_TYPES: dict[str, Splitting] = {declared: SPLITS[name] for declared, name in TYPES.items()}

CALLERS: dict[str, Caller] = {
    "conversion": Caller(_EDGES, _ready, _RANGE_TYPES, _convert, _shared),
    "punch hole": Caller(
        _EDGES, _ready, _RANGE_TYPES, _punch, lambda td: td.gmem.holes[-1] if td.gmem.holes else None
    ),
    "ACCEPT": Caller(_FRAME, _touched, _ACCEPT_TYPES, _accept, _inhibited, SeptState.PRESENT),
    "memory failure": Caller(
        _FRAME, _folio_split, _RANGE_TYPES, _fail, lambda td: _FRAME if td.gmem.poisoned else None
    ),
}
"""The four of kernel-facts C20, by name."""
