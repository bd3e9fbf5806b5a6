"""M7's four callers on a small TD: each call that they can make, with its split and without.

The frames count that the guest loses and should have kept. Sources: M5, M7; S127, S128, S130, S131.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from tdpkit.engine.events import Coroutine, run
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, GfnRange
from tdpkit.engine.kvm import Kvm
from tdpkit.tdx.abi import TDX_SUCCESS, Seamcall
from tdpkit.tdx.guest import td_accept

from .layouts import TOY
from .td import Td

CALLERS = ("conversion", "punch hole", "mismatched accept", "memory failure")

FRAMES = 2 * TOY.pages(PG_LEVEL_2M)
"""A TD of two leaves."""


class CallerRun(NamedTuple):
    """One call, made on two equal TDs: without a split, and with it."""

    words: str
    refused: bool
    """It was answered by an errno, and nothing happened."""
    lost: tuple[int, ...]
    """Frames that the guest cannot use any more without the split, and that nobody asked for."""
    stuck: bool
    """Without the split the guest does not get the page that it accepts."""
    mended: bool
    """With the split no frame is lost, and the guest gets its page."""
    splits: int
    """Leaves that the split makes smaller."""

    @property
    def needs_split(self) -> bool:
        """Something is amiss without it."""
        return bool(self.lost) or self.stuck


def _split_count(td: Td) -> int:
    return sum(call.name == str(Seamcall.MEM_PAGE_DEMOTE) for call in td.calls)


def _zaps(words: str, span: GfnRange, make: Callable[[], Td], call: Callable[[Td, str], int]) -> CallerRun:
    """A caller that zaps `span`."""
    bare, made = make(), make()
    before = bare.accepted()
    errno = call(bare, "none")
    call(made, "v3")
    asked = range(span.start, span.end)
    lost, mended = bare.lost(before, asked), not made.lost(before, asked)
    return CallerRun(words, errno < 0, tuple(lost), False, mended, _split_count(made))


def conversion(start: int, end: int) -> CallerRun:
    """Frames [start, end) become shared, by the file's ioctl: the conversion of M7's list."""
    return _zaps(
        f"frames [{start}, {end}) become shared",
        GfnRange(start, end),
        _folio_sized,
        lambda td, split: td.convert_by_file(start, end, "shared", split),
    )


def punch_hole(start: int, end: int, *, spans_folios: bool = False, whole_folios: bool = True) -> CallerRun:
    """A hole [start, end), of whole folios as upstream agreed, or by the rule of Linux 6.16 (S127);
    `spans_folios`: a folio is a page, a mapping eight of them.
    """
    return _zaps(
        f"a hole [{start}, {end}) is punched",
        GfnRange(start, end),
        _beyond_folio if spans_folios else _folio_sized,
        lambda td, split: td.punch_hole(start, end - start, whole_folios=whole_folios, split=split),
    )


def memory_failure(page: int, *, folio_split: bool = False) -> CallerRun:
    """Page `page` fails; `folio_split`: its folio was split to pages before, the mapping was not."""

    def make() -> Td:
        td = _folio_sized()
        if folio_split:
            td.gmem.split_folio(page)
        return td

    span = make().gmem.folio(page)
    return _zaps(
        f"page {page} fails, of the folio [{span.start}, {span.end})",
        span,
        make,
        lambda td, split: td.memory_failure(page, split=split),
    )


def mismatched_accept(gfn: int) -> CallerRun:
    """KVM mapped a huge page, PENDING, and the guest accepts frame `gfn` as a page of 4K."""
    bare, made = _pending(gfn), _pending(gfn)
    status = run(td_accept(bare.tdx, bare.vcpu, gfn, PG_LEVEL_4K, split=no_accept_split), bare.world)
    mended = made.accept(gfn, PG_LEVEL_4K) == TDX_SUCCESS
    words = f"the guest accepts frame {gfn} alone, and a leaf of {TOY.pages(PG_LEVEL_2M)} is PENDING there"
    return CallerRun(words, False, (), status is None, mended, _split_count(made))


def no_accept_split(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
    """Split nothing for an ACCEPT that finds a larger page."""
    yield from ()
    return 0


def _folio_sized() -> Td:
    return Td(TOY, FRAMES)


def _beyond_folio() -> Td:
    return Td(TOY, FRAMES, folio_level=PG_LEVEL_4K, spans_folios=True)


def _pending(gfn: int) -> Td:
    td = Td(TOY, FRAMES, accepted=False)
    td.touch(gfn)
    td.forget()
    return td


# ---- all calls --------------------------------------------------------------------------------------------

RANGES = [(start, end) for end in range(1, FRAMES + 1) for start in range(end)]
"""Every range of the small TD that is not empty."""


@cache
def usual_runs(caller: str) -> tuple[CallerRun, ...]:
    """Every call that `caller` can make on the small TD, where no mapping is larger than its folio."""
    if caller == "conversion":
        return tuple(conversion(start, end) for start, end in RANGES)
    if caller == "punch hole":
        return tuple(punch_hole(start, end) for start, end in RANGES)
    of_page = mismatched_accept if caller == "mismatched accept" else memory_failure
    return tuple(of_page(page) for page in range(FRAMES))


@cache
def larger_runs(caller: str) -> tuple[CallerRun, ...]:
    """The same where a mapping is larger than its folio, of a caller that needs no split otherwise."""
    if caller == "punch hole":
        return tuple(punch_hole(start, end, spans_folios=True) for start, end in RANGES)
    return tuple(memory_failure(page, folio_split=True) for page in range(FRAMES))


@cache
def holes_of_pages() -> tuple[CallerRun, ...]:
    """Every hole by the rule of Linux 6.16, under which it may cut a folio and its mapping."""
    return tuple(punch_hole(start, end, whole_folios=False) for start, end in RANGES)
