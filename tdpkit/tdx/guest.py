"""The guest of a TD: it touches and accepts pages, and exits to KVM when it must.

Each function is a coroutine for a :class:`~.kvm_tdx.TdxWorld`: the TDX module executes the guest's
instruction, KVM handles the exits. Source: S169-S173.
"""

from __future__ import annotations

from typing import SupportsIndex

from tdpkit.engine.events import Coroutine
from tdpkit.engine.gfn import InvalidValueError, as_integer
from tdpkit.engine.splits import AcceptSplit, accept_split_mirrors

from .abi import Access, EptViolation
from .kvm_tdx import KvmTdx, tdx_handle_ept_violation

TRIES = 8
"""Equal exits after which this model gives up and calls it "for ever" (S252)."""


def td_accept(
    tdx: KvmTdx,
    vcpu: int,
    gfn: SupportsIndex,
    level: SupportsIndex,
    *,
    split: AcceptSplit = accept_split_mirrors,
    tries: int = TRIES,
) -> Coroutine[int | None]:
    """Execute TDG.MEM.PAGE.ACCEPT for the page of `level` (KVM's count) at `gfn` until it is answered.

    Returns the module's status, a negative errno of KVM, or None if the guest still has no answer after
    `tries` exits. `vcpu` must be inside the TD, and is inside afterwards unless KVM returned an errno. Raises
    InvalidValueError for a vCPU outside, and as the module's calls do.
    """
    _check_inside(tdx, vcpu)
    return _until_answered(tdx, vcpu, as_integer(gfn, "a GFN"), as_integer(level, "a level"), split, tries)


def _until_answered(
    tdx: KvmTdx, vcpu: int, gfn: int, level: int, split: AcceptSplit, tries: int
) -> Coroutine[int | None]:
    for _ in range(tries):
        status, violation = tdx.module.accept(gfn, level)
        if violation is None:
            return status
        errno = yield from _exit(tdx, vcpu, violation, split)
        if errno < 0:
            return errno
    return None


def td_access(tdx: KvmTdx, vcpu: int, gfn: SupportsIndex, *, tries: int = TRIES) -> Coroutine[Access | int]:
    """Touch private frame `gfn`; on a fault KVM adds a page, PENDING, and the guest touches it again.

    Returns the module's Access ("ok" or "#VE"; "violation" after `tries` exits) or a negative errno of KVM.
    Raises InvalidValueError for a vCPU outside the TD.
    """
    _check_inside(tdx, vcpu)
    frame = as_integer(gfn, "a GFN")

    def touch() -> Coroutine[Access | int]:
        for _ in range(tries):
            got = tdx.module.access(vcpu, frame)
            if got.exit is None:
                return got
            errno = yield from _exit(tdx, vcpu, got.exit, accept_split_mirrors)
            if errno < 0:
                return errno
        return got

    return touch()


def _exit(tdx: KvmTdx, vcpu: int, violation: EptViolation, split: AcceptSplit) -> Coroutine[int]:
    """Leave the TD, call KVM's handler, and enter again if it returns a positive value."""
    tdx.module.vp_exit(vcpu)
    ret = yield from tdx_handle_ept_violation(tdx, violation, split, vcpu=vcpu)
    if ret > 0:
        tdx.module.vp_enter(vcpu)
    return ret


def _check_inside(tdx: KvmTdx, vcpu: int) -> None:
    if vcpu not in tdx.module.vcpus_inside:
        raise InvalidValueError(f"only a vCPU inside the TD runs the guest; vCPU {vcpu} is outside")
