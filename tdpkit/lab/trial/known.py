"""Variants that the kit brings: what was posted, what came of it, every strategy, and planted bugs.

Each planted bug is here to be found out; `PLANTED` says what it does wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tdpkit.engine.events import (
    ENOMEM,
    AllocTable,
    Coroutine,
    Event,
    FreeTable,
    Lock,
    NeedTopup,
    Topup,
    Unlock,
    Visit,
)
from tdpkit.engine.gfn import PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.roots import kvm_gfn_range_filter_to_root_types, tdp_mmu_next_root
from tdpkit.engine.splits import kvm_tdp_mmu_split_huge_pages, no_split, split_head_and_tail
from tdpkit.engine.spte import is_last_spte, is_shadow_present_pte
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import (
    iter_cross_boundary,
    tdp_mmu_split_huge_page,
    tdp_mmu_split_huge_pages_root,
)
from tdpkit.engine.tree import TdpMmuRoot

from ..schedules.bodies import one_topup, passed_on, split_without_restart
from ..strategies import STRATEGIES
from ..words import known_name
from .variant import PLAN, PRIVATE, ROOT, WRAPPER, Variant

# ---- planted bugs --------------------------------------------------------------------------------------


def forgotten_put(kvm: Kvm, gfn_range: KvmGfnRange, *, shared: bool) -> Coroutine[int]:
    """The patch's loop over roots with a bug: on an error it does not put the root in hand (S47)."""
    types = kvm_gfn_range_filter_to_root_types(kvm, gfn_range.attr_filter)
    root = None
    while root := tdp_mmu_next_root(kvm, root, gfn_range.slot.as_id, types):
        ret = yield from tdp_mmu_split_huge_pages_root(
            root, gfn_range.start, gfn_range.end, PG_LEVEL_4K, shared=shared, only_cross_boundary=True
        )
        if ret:
            return ret
    return 0


def wrong_root(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
    """The call of RFC v5 41 before a zap: in the vCPU's root.hpa, the direct root (S140)."""
    return kvm_tdp_mmu_split_huge_pages(kvm, gfn_range.start, gfn_range.end, PG_LEVEL_4K, shared=False)


def no_restart(
    root: TdpMmuRoot, start: int, end: int, target_level: int, *, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    """See :func:`~..schedules.bodies.split_without_restart`."""
    return split_without_restart(root, GfnRange(start, end), shared=shared)


def plain_store(
    root: TdpMmuRoot, start: int, end: int, target_level: int, *, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    """The split with a bug: under the read lock it stores as under the write lock, without a compare."""
    call = tdp_mmu_split_huge_pages_root(
        root, start, end, target_level, shared=False, only_cross_boundary=only_cross_boundary
    )

    def each(event: Event) -> Coroutine[Any]:
        if isinstance(event, Lock | Unlock):
            event.shared = shared
        return (yield event)

    return passed_on(call, each)


def no_recheck(
    root: TdpMmuRoot, start: int, end: int, target_level: int, *, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    """See :func:`~..schedules.bodies.one_topup`."""
    return one_topup(
        tdp_mmu_split_huge_pages_root(
            root, start, end, target_level, shared=shared, only_cross_boundary=only_cross_boundary
        )
    )


def no_progress(
    root: TdpMmuRoot, start: int, end: int, target_level: int, *, shared: bool, only_cross_boundary: bool
) -> Coroutine[int]:
    """The patch's walk with a bug: it gives way whenever a reschedule is due, moved on or not (S65)."""
    it = TdpIter(root, target_level + 1, start)
    visit, page, ret = Visit(it), None, 0
    while it.valid and it.gfn < end:
        huge = is_shadow_present_pte(it.old_spte) and is_last_spte(it.old_spte, it.level)
        if (yield visit):
            it.yielded = yield from dropping(shared, "resched")
        elif huge and iter_cross_boundary(it, start, end):
            if page is None:
                page = yield from dropping(shared, "alloc", AllocTable(root.pool, root.is_mirror))
                it.yielded = page is not None
            elif root.is_mirror and (yield NeedTopup()):
                it.yielded = yield from dropping(shared, "top-up", Topup())
            elif (yield from tdp_mmu_split_huge_page(root, it, page, shared=shared)):
                continue  # another thread changed the entry: look at it again
            else:
                page = None
                it.next()
                continue
            if not it.yielded:
                ret = -ENOMEM
                break
        it.next()
    if page is not None:
        root.pool.free(page)
        yield FreeTable(page)
    return ret


def dropping(shared: bool, reason: str, asked: Event | None = None) -> Coroutine[Any]:
    """Drop mmu_lock, ask for memory if `asked` does, take the lock again: the answer, True if none was."""
    yield Unlock(shared, reason)
    answer = (yield asked) if asked else True
    yield Lock(shared)
    return answer


# ---- by name -------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A variant of the kit; of: whose it is, or what is wrong with it."""

    variant: Variant
    of: str


def _known(name: str, form: str, function: Callable[..., Any], of: str) -> tuple[str, Known]:
    return name, Known(Variant(name, form, function), of)


POSTED = dict(
    [
        _known(
            "v3 as posted",
            WRAPPER,
            partial(kvm_split_cross_boundary_leafs, as_posted=True),
            "Yan Zhao, M0, the patch with its bool ret (S107)",
        ),
        _known("v3", WRAPPER, kvm_split_cross_boundary_leafs, "the patch with int ret"),
        _known(
            "R2", PRIVATE, split_head_and_tail, "Sean Christopherson, R2: head and tail in the mirror roots"
        ),
    ]
)
PLANS = {name: Known(Variant(name, PLAN, plan), plan.source) for name, plan in STRATEGIES.items()}
"""Every strategy of notebook 03, the wrong ones too."""
PLANTED = dict(
    [
        _known("no split", PRIVATE, no_split, "nothing is split before the zap"),
        _known(
            "wrong root",
            PRIVATE,
            wrong_root,
            "the call of RFC v5 41, posted for an ACCEPT: it splits in the direct root (S140)",
        ),
        _known("forgotten put", WRAPPER, forgotten_put, "on an error a reference on the root is kept (S47)"),
        _known("no restart", ROOT, no_restart, "after mmu_lock was dropped it does not look again"),
        _known("plain store", ROOT, plain_store, "no compare-and-exchange under the read lock"),
        _known("no progress", ROOT, no_progress, "it gives way before it moved on (S65)"),
        _known("no re-check", ROOT, no_recheck, "it tops the PAMT cache up once and does not look again"),
    ]
)
"""Bugs, each of which one question should find."""
KNOWN: dict[str, Known] = POSTED | PLANS | PLANTED


def variant_named(name: str) -> Variant:
    """The kit's variant of this name; raises InvalidValueError for another."""
    return KNOWN[known_name(name, KNOWN, "a variant of the kit")].variant
