"""The lost -12: memory runs short during a split, and each caller interprets what comes back.

v3's wrapper keeps the walk's errno in a ``bool``, so -12 comes back as 1 (S107). M7 lists four callers that
split a private range. Its conversion is the ioctl on the file; the older ioctl, per VM, is run beside it.
Each of the five runs on a fresh :class:`~.td.Td` of two 2M leaves. One of its requests for host memory is
refused, and that variable is a ``bool`` as posted or an ``int``. With memory back, we look up in that TD what
the call returned, zapped and stored, whether its invalidation ended, and what the guest can still read.

A conversion and a hole take a range of frames, and split a leaf where an edge of it lies inside. An ACCEPT
and a memory failure are of one page: what matters there is the level, or the folio, and no range.

Memory failure with a split is a plan of the thread (M7); how it would handle a failed split is unverified
(see `engine.guest_memfd`). No PAMT page is in hand at first, as in v3's own cache for splits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import Coroutine, Event, External, Flush, Trace
from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    GfnRange,
    InvalidValueError,
    as_integer,
    check_gfn,
    name_gfn,
)
from tdpkit.engine.guest_memfd import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    kvm_gmem_error_folio,
    kvm_gmem_fallocate,
    kvm_gmem_set_attributes,
)
from tdpkit.engine.mmu import hugepage_test_guest_inhibit
from tdpkit.engine.page_fault import RetPf, kvm_tdp_mmu_page_fault
from tdpkit.engine.splits import ACCEPT_SPLITS, SPLITS
from tdpkit.tdx.guest import TRIES, td_accept
from tdpkit.tdx.module import SeptState

from .td import PageRun, Td, bytes_of
from .words import check_flag, known_name

# ---- the callers -------------------------------------------------------------------------------------

FRAMES = 16
"""Two 2M leaves, of eight frames each on this toy."""
TYPES = {"bool": "v3 as posted", "int": "v3"}
"""Type of the wrapper's variable -> the name of that split in SPLITS."""

Splitting = Callable[..., Coroutine[int]]
"""A RangeSplit or an AcceptSplit."""


class Caller(NamedTuple):
    """How to set its TD up, its call on a span, and how to see that it is done."""

    standing: str
    """What the thread made of this path, in a sentence."""
    page: GfnRange | None
    """The one page that it is of; None: it takes a range."""
    prepare: Callable[..., Td]
    """The TD before the call; takes the options of Td."""
    splits: Mapping[str, Splitting]
    """Its ways to split, by name; TYPES names two of them."""
    call: Callable[[Td, Splitting, GfnRange, bool], Coroutine[int | None]]
    """The last argument is Shortage.leaves_open."""
    record: Callable[[Td], GfnRange | None]
    """Frames for which the call is on record (see CallerRow.record)."""
    state: SeptState = SeptState.FREE
    """The S-EPT's, of each frame of the span once the call is done."""


PAGE = GfnRange(3, 4)
"""Of the callers that take one page: inside the first leaf."""


def _convert_per_vm(td: Td, split: Splitting, span: GfnRange, leaves_open: bool) -> Coroutine[int]:
    return kvm_vm_set_mem_attributes(td.kvm, span.start, span.end, 0, split=split, as_posted=leaves_open)


def _convert_by_file(td: Td, split: Splitting, span: GfnRange, _: bool) -> Coroutine[int]:
    return kvm_gmem_set_attributes(td.gmem, *bytes_of(span), 0, split=split)


def _punch(td: Td, split: Splitting, span: GfnRange, _: bool) -> Coroutine[int]:
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    return kvm_gmem_fallocate(td.gmem, mode, *bytes_of(span), whole_folios=False, split=split)


def _accept(td: Td, split: Splitting, page: GfnRange, _: bool) -> Coroutine[int | None]:
    if td.vcpu not in td.module.vcpus_inside:
        td.module.vp_enter(td.vcpu)  # userspace calls KVM_RUN again
    return td_accept(td.tdx, td.vcpu, page.start, PG_LEVEL_4K, split=split)


def _fail(td: Td, split: Splitting, page: GfnRange, _: bool) -> Coroutine[int]:
    return kvm_gmem_error_folio(td.gmem, page.start, split=split)


def _ready(**options: Any) -> Td:
    return Td(frames=FRAMES, **options)


def _touched(**options: Any) -> Td:
    """The first leaf is mapped and not accepted yet, the second is."""
    td = Td(frames=FRAMES, accepted=False, **options)
    td.accept(FRAMES // 2, PG_LEVEL_2M)
    td.touch(PAGE.start)
    return td


def _folio_split(**options: Any) -> Td:
    """guest_memfd has split the first folio; its mapping is still 2M."""
    td = _ready(**options)
    td.gmem.split_folio(PAGE.start)
    return td


def _shared(td: Td) -> GfnRange | None:
    gfns = [gfn for gfn in range(FRAMES) if gfn not in td.kvm.mem_attributes]
    return GfnRange(gfns[0], gfns[-1] + 1) if gfns else None


def _inhibited(td: Td) -> GfnRange | None:
    pages = td.geometry.pages(PG_LEVEL_2M)
    return GfnRange(0, pages) if hugepage_test_guest_inhibit(td.kvm, PAGE.start, PG_LEVEL_2M) else None


CALLERS: dict[str, Caller] = {
    "conversion per VM": Caller(
        "Refused for huge pages by Sean Christopherson on 15 January 2026; Yan Zhao agreed on the 16th.",
        None,
        _ready,
        SPLITS,
        _convert_per_vm,
        _shared,
    ),
    "conversion by file": Caller(
        "Second of Yan Zhao's four callers (19 January), "
        "and the path to sort out (Sean Christopherson, 20th).",
        None,
        _ready,
        SPLITS,
        _convert_by_file,
        _shared,
    ),
    "punch hole": Caller(
        "Fell away on 20 January: holes will come in whole huge pages of the file (Vishal Annapurve).",
        None,
        _ready,
        SPLITS,
        _punch,
        lambda td: td.gmem.holes[-1] if td.gmem.holes else None,
    ),
    "ACCEPT": Caller(
        "RFC v5 gave it a call of its own, in the wrong root; "
        "Sean Christopherson corrected that on 29 January.",
        PAGE,
        _touched,
        ACCEPT_SPLITS,
        _accept,
        _inhibited,
        SeptState.PRESENT,
    ),
    "memory failure": Caller(
        "Announced by Yan Zhao on 19 January for a next version; no mail of the thread answers that.",
        PAGE,
        _folio_split,
        SPLITS,
        _fail,
        lambda td: PAGE if td.gmem.poisoned else None,
    ),
}
"""By name: the ioctl of the VM (S196), and the four of S130. Their standing: S199, S127, S130, S140."""


# ---- what is tried, and what becomes of it -----------------------------------------------------------

MOST_REQUESTS = 6
"""No call asks for host memory more often, if nothing is refused: two splits of three requests."""
VERDICTS = ("failed, said nothing", "frames lost", "invalidation open", "failed, and said so", "all done")
"""From worst to best."""


class Shortage(NamedTuple):
    """How memory runs short, the same for all callers, and the range of those that take one."""

    refuse: int = 1
    """The number of the refused request for host memory, counted by each caller; 0: none is refused."""
    declared: str = "bool"
    """Type of the variable in which v3's wrapper keeps the walk's errno: of TYPES."""
    dynamic_pamt: bool = False
    lasting: bool = False
    """Every later request is refused too, until memory is back."""
    again: bool = False
    """Memory is back, and each call is made again."""
    start: int = 6
    end: int = 12
    """Frames [start, end) are converted, or punched out of the file: here both edges lie inside a leaf."""
    leaves_open: bool = False
    """An errno leaves the invalidation of the conversion per VM open, as v3 15/24 was posted (S196)."""


class Attempt(NamedTuple):
    """One call of one caller."""

    requests: tuple[str, ...]
    """What it asked host memory for, in order."""
    refused: tuple[int, ...]
    """Numbers of the refused ones, from 1."""
    walks: tuple[int, ...]
    """The result of each walk: the errno of its trace event, or 0."""
    wrapper: tuple[int, ...]
    """What the wrapper returned to the caller each time."""
    returned: int | None
    """The call's result: 0 or more, a negative errno, or a module status; None: the guest faults for ever."""
    zapped: int
    """Frames whose private mapping was removed."""
    flushed: bool
    stored: bool
    """The call put its result on record (see CallerRow.record)."""
    in_progress: int
    """Invalidations in progress after the call."""

    @property
    def lost_at(self) -> str:
        """Where an errno of the walk stopped being one: "wrapper", "caller", or "" if nowhere."""
        if any(walk < 0 <= ret for walk, ret in zip(self.walks, self.wrapper, strict=True)):
            return "wrapper"
        return "caller" if self.is_silent else ""

    @property
    def is_silent(self) -> bool:
        """The last walk failed, and the call returned no errno."""
        failed = bool(self.walks) and self.walks[-1] < 0
        return failed and (self.returned is None or self.returned >= 0)


class CallerRow(NamedTuple):
    """One caller: its calls, and what is true after them."""

    name: str
    span: GfnRange
    first: Attempt
    again: Attempt | None
    runs: tuple[PageRun, ...]
    """All frames: their half by the attributes, and what the S-EPT holds."""
    record: GfnRange | None
    """Frames for which the call is on record: attributes shared, hole, inhibit bit, page broken."""
    private_bytes: tuple[int | None, ...]
    """Of each frame the byte that the guest reads as private memory; None if the access faults."""
    shared_byte: int | None
    """The byte of the first frame as shared memory, where the attributes say shared and a fault is served."""
    retries: bool
    """The attributes say that the first frame is shared, and each fault on it is to be retried (S252)."""
    lost: tuple[int, ...]
    """Frames outside `span` that the guest could use before and cannot now."""
    is_done: bool

    @property
    def last(self) -> Attempt:
        """The call that led to what is true now."""
        return self.again or self.first

    @property
    def stale(self) -> tuple[int, ...]:
        """Frames that the call should have unmapped and left mapped, though it returned no error."""
        if self.name == "ACCEPT" or (self.last.returned or 0) < 0:
            return ()
        return tuple(gfn for gfn in range(self.span.start, self.span.end) if self.is_mapped(gfn))

    def is_mapped(self, gfn: int) -> bool:
        """Whether the S-EPT holds a leaf for the frame."""
        return any(run.gfn <= gfn < run.gfn + run.pages and run.level for run in self.runs)

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if self.lost:
            return "frames lost"
        if self.last.in_progress:
            return "invalidation open"
        if self.is_done:
            return "all done"
        return "failed, and said so" if (self.last.returned or 0) < 0 else "failed, said nothing"


# ---- running them ------------------------------------------------------------------------------------------


def run_short(shortage: Shortage) -> tuple[CallerRow, ...]:
    """Run each of CALLERS on a fresh TD under this shortage, and look.

    Raises InvalidTypeError or InvalidValueError for a request beyond MOST_REQUESTS, a type not in TYPES, a
    switch that is neither True nor False, and a range that is empty or ends beyond the FRAMES.
    """
    refuse = as_integer(shortage.refuse, "a request for host memory")
    if not 0 <= refuse <= MOST_REQUESTS:
        raise InvalidValueError(
            f"no call here asks for host memory more than {MOST_REQUESTS} times (0: nothing is refused); "
            f"{refuse} ({refuse:#x}) is no such request"
        )
    known_name(shortage.declared, TYPES, "the type of the wrapper's variable")
    for name in ("dynamic_pamt", "lasting", "again", "leaves_open"):
        check_flag(getattr(shortage, name), name)
    span = GfnRange(check_gfn(shortage.start, "the start"), check_gfn(shortage.end, "the end"))
    if not span.pages or span.end > FRAMES:
        raise InvalidValueError(
            f"a range is of one frame at least and ends at {name_gfn(FRAMES)} at most; {span!r} does not"
        )
    # What does not depend on the range runs once for all ranges.
    shortage = shortage._replace(refuse=refuse, start=0, end=FRAMES)
    return tuple(_run_one(name, caller.page or span, shortage) for name, caller in CALLERS.items())


@cache
def _run_one(name: str, span: GfnRange, shortage: Shortage) -> CallerRow:
    caller = CALLERS[name]
    td = caller.prepare(dynamic_pamt=shortage.dynamic_pamt)
    td.tdx.pamt_caches.clear()
    before = td.accepted()
    first = _attempt(td, caller, span, shortage, shortage.refuse)
    again = _attempt(td, caller, span, shortage, 0) if shortage.again else None
    td.refuse(0)  # to look needs memory too
    state = [td.state(gfn)[0] for gfn in range(FRAMES)]
    record = caller.record(td)
    is_shared = span.start not in td.kvm.mem_attributes
    return CallerRow(
        name,
        span,
        first,
        again,
        tuple(td.page_runs()),
        record,
        tuple(None if byte == "--" else int(byte, 16) for byte in td.bytes_in_sight().split()),
        td.read(span.start) if is_shared else None,
        is_shared and _retries(td, span.start),
        tuple(td.lost(before, range(span.start, span.end))),
        record is not None and {state[gfn] for gfn in range(span.start, span.end)} == {caller.state},
    )


def _retries(td: Td, gfn: int) -> bool:
    """Whether a shared fault on the frame is to be retried as often as this model lets a guest fault."""
    faults = (kvm_tdp_mmu_page_fault(td.kvm, gfn, is_private=False) for _ in range(TRIES))
    return all(td.run(fault) == RetPf.RET_PF_RETRY for fault in faults)


def _attempt(td: Td, caller: Caller, span: GfnRange, shortage: Shortage, refuse: int) -> Attempt:
    pages = td.tdx.pages
    made = len(pages.requests)
    refused: list[int] = []

    def refuses(number: int, what: str) -> bool:
        mine = number - made
        if refuse and (mine == refuse or (shortage.lasting and mine > refuse)):
            refused.append(mine)
            return True
        return False

    pages.refuse = refuses
    td.forget()
    split, walks, wrapper = _watched(td, caller.splits[TYPES[shortage.declared]])
    record = caller.record(td)
    returned = td.run(caller.call(td, split, span, shortage.leaves_open))
    events = td.events
    return Attempt(
        tuple(pages.requests[made:]),
        tuple(refused),
        tuple(walks),
        tuple(wrapper),
        returned,
        sum(td.geometry.pages(event.level) for event in _of(events, External) if event.op == "remove"),
        bool(_of(events, Flush)),
        caller.record(td) != record,
        td.kvm.mmu_invalidate_in_progress,
    )


def _of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if type(event) is kind]


def _watched(td: Td, split: Splitting) -> tuple[Splitting, list[int], list[int]]:
    """`split`, and two lists that it fills: results of its walks, and what it returned."""
    walks: list[int] = []
    wrapper: list[int] = []

    def watch(*arguments: Any) -> Coroutine[int]:
        at = len(td.events)
        ret = yield from split(*arguments)
        traces = [event for event in _of(td.events[at:], Trace) if event.name == "kvm_mmu_split_huge_page"]
        walks.append(traces[-1].errno if traces else 0)
        wrapper.append(ret)
        return ret

    return watch, walks, wrapper
