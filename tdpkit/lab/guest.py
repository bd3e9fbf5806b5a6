"""A guest with memory in it: convert a range, and see what becomes of the frames around it.

A :class:`Guest` is one VM, plain or TD, with a layout of leaves and, if it is small, one visible byte in each
frame. `split`, `zap`, `touch` and `accept` change it step by step; `after` shows one action on the untouched
guest and takes it back, as the boundary explorer does at each move of a slider.

A TD's page has the three states that decide what becomes of its byte: mapped, gone, and pending, which is
added by KVM and not yet accepted by the guest (S171, S172). The TDX module is left out; it is in
:mod:`.td`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, SupportsIndex

from tdpkit.engine.events import run
from tdpkit.engine.gfn import (
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
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KVM_X86_DEFAULT_VM, KVM_X86_TDX_VM, Kvm, KvmGfnRange
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs, kvm_tdp_mmu_unmap_gfn_range
from tdpkit.engine.tree import Leaf, LeafRun, leaf_runs, map_leaf, translate

from .cost import visits_again
from .layouts import Layout, layout_named, map_layout
from .words import Names, count_of, known_name
from .worlds import CountingWorld, JournalWorld

VM_KINDS = {"TD": KVM_X86_TDX_VM, "plain": KVM_X86_DEFAULT_VM}
ACTIONS = ("look", "zap", "split", "split+zap")

_SHOWN_FRAMES = 64
_FIRST_BYTE = 0x10


class Sight(NamedTuple):
    """What there is to see of a guest at one moment, to be drawn: leaves, bytes, and what zaps took."""

    kind: str
    """"TD" or "plain"."""
    geometry: Geometry
    frames: int
    leaves: tuple[LeafRun, ...]
    memory: tuple[int | None, ...]
    """The byte behind each frame, mapped or not (None: nothing backs it); empty if the guest shows none."""
    pending: frozenset[int]
    gone: Mapping[int, bool]
    """Each frame that a zap took, and whether the range named it, of a guest that shows its bytes."""


@dataclass(frozen=True, repr=False)
class Touch:
    """What happened when the guest touched one frame, and the byte it read (None: it read none)."""

    gfn: int
    event: str
    """"mapped"; "re-faulted" (plain VM); "violation" (TD: the page was gone, KVM adds one, PENDING);
    "pending" (TD: added, not accepted); "accepted" or "already accepted" (TD, by ACCEPT)."""
    byte: int | None
    sight: Sight | None = field(default=None, compare=False)
    """The guest afterwards (see :meth:`Guest.sight`)."""

    def __repr__(self) -> str:
        return f"frame {self.gfn}: {self.event}" + ("" if self.byte is None else f", reads {self.byte:02x}")


@dataclass(frozen=True, repr=False)
class GuestOutcome:
    """What one action on a range did; visits are counted in SPTEs."""

    kind: str
    action: str
    span: GfnRange
    crossing: tuple[Leaf, ...]
    """The leaves that held frames on both sides of an edge before the action."""
    split_visits: int
    """SPTEs that the split's walk visited (action "look": would visit)."""
    zap_visits: int
    splits: tuple[tuple[int, int], ...]
    """(gfn, level) of each split leaf, in order."""
    zapped_inside: int
    outside: tuple[GfnRange, ...]
    """Frames zapped outside the range (action "look": that a zap without a split would take)."""
    sight: Sight | None = field(default=None, compare=False)
    """The guest after a step; None after :meth:`Guest.after`, which takes its action back."""

    @property
    def outside_frames(self) -> int:
        """Frames in `outside`."""
        return sum(part.pages for part in self.outside)

    def __repr__(self) -> str:
        outside = count_of(self.outside_frames, "frame")
        said = []
        if self.action == "look":
            said.append(f"{count_of(len(self.crossing), 'leaf crosses', 'leaves cross')} an edge")
            said.append(f"{outside} outside the range at stake")
        if "split" in self.action:
            said.append(f"{count_of(len(self.splits), 'leaf', 'leaves')} split")
            said.append(f"{count_of(len(self.splits), 'page table')} added")
        if "zap" in self.action:
            said.append(f"{count_of(self.zapped_inside, 'frame')} zapped in the range")
            said.append(f"{outside} {'lost' if self.kind == 'TD' else 'zapped'} outside it")
        toy = self.sight is not None and bool(self.sight.memory)
        span = f"[{self.span.start}, {self.span.end})" if toy else repr(self.span)
        return f"{self.kind}, {self.action} {span}: {', '.join(said)}"


class Guest:
    """One VM on a layout: a name in LAYOUTS or a Layout.

    kind: "TD" (its private half, under the mirror root) or "plain". `frames` is its size; `memory` has the
    visible byte of each host frame if the guest is small (`shows_bytes`). The modelled series maps a TD by 2M
    at most: a larger leaf in one is a `what_if`. Raises InvalidValueError for an unknown kind or layout and
    for a layout larger than the root (a TD's: than its private half).
    """

    def __init__(self, layout: str | Layout, kind: str) -> None:
        self.kind = known_name(kind, VM_KINDS, "a guest")
        self.layout = layout_named(layout)
        self.geometry = self.layout.geometry
        self.frames = self.layout.frames
        self.is_large = self.layout.is_large
        self.shows_bytes = self.frames <= _SHOWN_FRAMES
        self._keeps_sights = self.shows_bytes
        self.reset()

    def reset(self) -> None:
        """Start again from the layout, with every byte as it was at first."""
        self.kvm = Kvm(VM_KINDS[self.kind], self.geometry)
        self.root = self.kvm.mirror_root or self.kvm.direct_root
        if self.frames > self.kvm.slot.npages:
            raise InvalidValueError(
                f"a {self.kind} guest of this shape ends at {name_gfn(self.kvm.slot.npages)} at most; "
                f"{name_gfn(self.frames)} is beyond it"
            )
        map_layout(self.root, self.layout)
        self._pfns = [self.host_frame(gfn) for gfn in range(self.frames)] if self.shows_bytes else []
        self.memory = {pfn: _FIRST_BYTE + gfn for gfn, pfn in enumerate(self._pfns) if pfn is not None}
        self._changed = False
        self.pending: set[int] = set()
        """Frames of a TD that KVM added and the guest has not accepted."""
        self.gone: dict[int, bool] = {}
        """Each frame that a zap took, and whether its range named it, if the guest shows its bytes."""

    def __repr__(self) -> str:
        names = self.names
        leaves = ", ".join(
            f"{count} x {names.size(self.geometry.pages(level))} at {names.frame(gfn & ~self.root.gfn_bits)}"
            for gfn, level, count, _ in leaf_runs(self.root)
        )
        text = f"{self.kind} guest of {names.size(self.frames)}: {leaves or 'nothing mapped'}"
        return f"{text}; bytes {self.bytes_in_sight()}" if self.shows_bytes else text

    @property
    def names(self) -> Names:
        """How frames and leaves are called: by number where every byte is seen, else in human units."""
        return Names(self.geometry, self.shows_bytes)

    def bytes_in_sight(self) -> str:
        """The byte of each frame that is mapped and accepted, in hex; ``--`` for the others."""
        sight = []
        for gfn in range(self.frames):
            leaf = None if gfn in self.pending else translate(self.root, gfn)
            sight.append(f"{self.memory[leaf.pfn + gfn - leaf.gfn]:02x}" if leaf else "--")
        return " ".join(sight)

    def sight(self) -> Sight | None:
        """The guest as it is now; None for one with so many leaves that nobody reads them all again."""
        if self.is_large and self._changed:
            return None
        return Sight(
            self.kind,
            self.geometry,
            self.frames,
            self.layout.leaves if self.is_large else tuple(leaf_runs(self.root)),
            tuple(None if pfn is None else self.memory.get(pfn) for pfn in self._pfns),
            frozenset(self.pending),
            dict(self.gone),
        )

    @property
    def what_if(self) -> bool:
        """It is a TD with a leaf above 2M, which the modelled series never maps."""
        return self.kind == "TD" and any(leaf_run.level > PG_LEVEL_2M for leaf_run in self.layout.leaves)

    def host_frame(self, gfn: int) -> int | None:
        """The host frame behind guest frame `gfn`, mapped now or not; None if nothing backs it."""
        for first, level, count, pfn in self.layout.leaves:
            if first <= gfn < first + count * self.geometry.pages(level):
                return pfn + gfn - first
        return None

    def check_span(self, start: SupportsIndex, end: SupportsIndex) -> GfnRange:
        """Return [start, end), if it is a range of this guest and not empty (else InvalidValueError)."""
        span = GfnRange(as_integer(start, "the start"), as_integer(end, "the end"))
        if span.start == span.end:
            raise InvalidValueError(
                f"the range is empty: it starts and ends at {name_gfn(span.start)}; take one frame or more"
            )
        if span.end > self.frames:
            raise InvalidValueError(
                f"this guest ends at {name_gfn(self.frames)}; the end {name_gfn(span.end)} is beyond it"
            )
        return span

    # ---- step by step -----------------------------------------------------------------------------------

    def look(self, start: SupportsIndex, end: SupportsIndex) -> GuestOutcome:
        """What a zap of [start, end) would take, and what a split would visit; the guest stays as it was.

        Raises InvalidTypeError or InvalidValueError if the range is empty, reversed or beyond the guest.
        """
        return replace(self._look(self.check_span(start, end)), sight=self.sight())

    def _look(self, span: GfnRange) -> GuestOutcome:
        journal = JournalWorld(self.kvm.pool)
        would = self._perform(span, "split", self._edge_pieces(span), journal, CountingWorld())
        journal.undo()
        at_stake = self._outside(span, would.crossing)
        return replace(would, action="look", splits=(), outside=at_stake)

    def split(self, start: SupportsIndex, end: SupportsIndex) -> GuestOutcome:
        """Split the leaves that cross an edge of [start, end), as patch v3 does.

        Raises InvalidTypeError or InvalidValueError if the range is empty, reversed or beyond the guest.
        """
        return self._stepwise(self.check_span(start, end), "split")

    def zap(self, start: SupportsIndex, end: SupportsIndex) -> GuestOutcome:
        """Zap [start, end); a leaf that straddles an edge goes whole. Raises as :meth:`split`."""
        return self._stepwise(self.check_span(start, end), "zap")

    def touch(self, gfn: SupportsIndex) -> Touch:
        """The guest reads its frame `gfn`.

        A plain guest faults a zapped frame in again and finds its byte. In a TD it is an EPT violation: KVM
        adds a page, PENDING, which the guest must accept before it can read it. Raises InvalidValueError if
        nothing backs the frame.
        """
        frame, pfn = self._backed(gfn)
        event = "mapped"
        if translate(self.root, frame) is None:
            self._changed = True
            map_leaf(self.root, frame, PG_LEVEL_4K, pfn)
            event = "re-faulted"
            if self.kind == "TD":
                self.pending.add(frame)
                return self._met(frame, "violation", None)
        elif frame in self.pending:
            return self._met(frame, "pending", None)
        return self._met(frame, event, self.memory.get(pfn))

    def accept(self, gfn: SupportsIndex) -> Touch:
        """A TD accepts frame `gfn`: a pending page becomes usable, filled with zeros (TDG.MEM.PAGE.ACCEPT).

        A frame that is gone is added first. Raises InvalidValueError in a plain VM.
        """
        if self.kind != "TD":
            raise InvalidValueError("only a TD accepts pages; this is a plain VM")
        frame, pfn = self._backed(gfn)
        self.touch(frame)
        if frame not in self.pending:
            return self._met(frame, "already accepted", self.memory.get(pfn))
        self.pending.remove(frame)
        if self.shows_bytes:
            self.memory[pfn] = 0
        return self._met(frame, "accepted", self.memory.get(pfn))

    def _met(self, frame: int, event: str, byte: int | None) -> Touch:
        return Touch(frame, event, byte, self.sight() if self._keeps_sights else None)

    def _backed(self, gfn: SupportsIndex) -> tuple[int, int]:
        frame = check_gfn(gfn)
        pfn = self.host_frame(frame)
        if pfn is None:
            raise InvalidValueError(f"a guest has only frames that something backs; {name_gfn(frame)} is not")
        return frame, pfn

    # ---- one action, whole ------------------------------------------------------------------------------

    @contextmanager
    def after(
        self, start: SupportsIndex, end: SupportsIndex, action: str
    ) -> Iterator[tuple[Guest, GuestOutcome]]:
        """The guest of this layout as it is after `action` ("look", "zap", "split", "split+zap").

        It starts from the layout whatever was done to this guest before, and leaves this guest as it is. In a
        large guest only the tables around the edges change; what lies between them is counted by arithmetic.
        Raises as :meth:`split` does, and InvalidValueError for an unknown action.
        """
        known_name(action, ACTIONS, "an action")
        span = self.check_span(start, end)
        # A guest that shows its bytes will be touched, which no journal takes back.
        guest = Guest(self.layout, self.kind) if self.shows_bytes or self._changed else self
        guest._keeps_sights = False  # it is read and thrown away, at each move of a slider
        if action == "look":
            yield guest, guest._look(span)
            return
        split, zap = JournalWorld(guest.kvm.pool), JournalWorld(guest.kvm.pool)
        try:
            yield guest, guest._perform(span, action, guest._edge_pieces(span), split, zap)
        finally:
            if guest._changed:
                guest.reset()
            else:
                zap.undo()
                split.undo()

    def crossing(self, span: GfnRange) -> tuple[Leaf, ...]:
        """The leaves that hold frames on both sides of an edge, looked up at the two edges."""
        edges = [edge for edge in (span.start, span.end) if edge < self.frames]
        found = ((edge, translate(self.root, edge)) for edge in edges)
        return tuple(sorted({leaf for edge, leaf in found if leaf and leaf.gfn < edge}))

    def _stepwise(self, span: GfnRange, action: str) -> GuestOutcome:
        self._changed = True
        outcome = self._perform(span, action, [span], CountingWorld(), CountingWorld())
        return replace(outcome, sight=self.sight())

    def _edge_pieces(self, span: GfnRange) -> list[GfnRange]:
        """The range; in a large guest its first and its last part, each within one table of largest leaves.

        No leaf straddles the inner end of a part, so split and zap do there what they do to the whole.
        """
        if not self.is_large:
            return [span]
        largest = max(leaf_run.level for leaf_run in self.layout.leaves)
        table = self.geometry.pages(largest + 1)
        head, tail = align_down(span.start, table) + table, align_down(span.end - 1, table)
        if head >= tail:
            return [span]
        return [GfnRange(span.start, head), GfnRange(tail, span.end)]

    def _perform(
        self,
        span: GfnRange,
        action: str,
        pieces: list[GfnRange],
        split: CountingWorld,
        zap: CountingWorld,
    ) -> GuestOutcome:
        crossing = self.crossing(span)
        with self.kvm.slots_lock:
            for piece in pieces if "split" in action else ():
                run(kvm_split_cross_boundary_leafs(self.kvm, self._private(piece), shared=False), split)
            for piece in pieces if "zap" in action else ():
                run(kvm_tdp_mmu_unmap_gfn_range(self.kvm, self._private(piece)), zap)
        if self.shows_bytes:
            taken = ((gfn, n * self.geometry.pages(level)) for gfn, level, n, _ in zap.zapped)
            self.gone |= {gfn: gfn in span for first, n in taken for gfn in range(first, first + n)}
        whole = pieces == [span]
        split_visits, zap_visits, inside = split.iterations, zap.iterations, 0
        if "split" in action and not whole:
            again = visits_again(self.geometry, (level for _, _, level in split.splits))
            split_visits = self._visits(span, PG_LEVEL_2M) + again
        if "zap" in action:
            zap_visits = zap_visits if whole else self._visits(span, PG_LEVEL_4K)
            gone = zap.zapped if whole else self.layout.leaves
            inside = sum(span.overlap(gfn, n * self.geometry.pages(level)) for gfn, level, n, _ in gone)
        return GuestOutcome(
            kind=self.kind,
            action=action,
            span=span,
            crossing=crossing,
            split_visits=split_visits,
            zap_visits=zap_visits,
            splits=tuple((gfn, level) for _, gfn, level in split.splits),
            zapped_inside=inside,
            outside=self._outside(span, zap.zapped),
        )

    def _outside(self, span: GfnRange, leaves: Iterable[Leaf | LeafRun]) -> tuple[GfnRange, ...]:
        """What `leaves` hold outside the range."""
        pages = [self.geometry.pages(level) for level in range(self.geometry.root_level + 1)]
        straddling = (
            (leaf.gfn, pages[leaf.level])
            for leaf in leaves
            if leaf.gfn < span.start or leaf.gfn + pages[leaf.level] > span.end
        )
        return tuple(part for gfn, frames in straddling for part in span.outside(gfn, frames))

    def _private(self, span: GfnRange) -> KvmGfnRange:
        return KvmGfnRange(self.kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE)

    def _visits(self, span: GfnRange, min_level: int) -> int:
        """SPTEs a walk of `span` down to `min_level` visits, in the tree as it is (a large guest's)."""
        from tdpkit.engine.scan import count_visits

        return count_visits(self.root, span.start, span.end, min_level)
