"""What a picture of a TD needs at one moment: both trees and the S-EPT as runs of leaves, locks and epochs.

A :class:`View` is a value: it keeps nothing of the TD it was taken from. Frames are counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import NamedTuple

from tdpkit.engine.gfn import FrameSet as FrameSet
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.spte import (
    FROZEN_SPTE,
    SPTE_BASE_ADDR_MASK,
    is_last_spte,
    is_shadow_present_pte,
    spte_to_pfn,
)
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.tdx.module import sept_state

from ..td import Td

_NOT_THE_FRAME = ~SPTE_BASE_ADDR_MASK & (1 << 64) - 1


class Run(NamedTuple):
    """`pages` frames from `gfn` on, under leaves of one level and state side by side."""

    gfn: int
    pages: int
    level: int
    state: str
    """A SeptState's name; of a tree of KVM's "PRESENT", or "FROZEN" while the TDX side is asked."""

    @property
    def end(self) -> int:
        """The first frame behind it."""
        return self.gfn + self.pages


class Find(NamedTuple):
    """Frames [gfn, end) in which the guest finds one thing, in the half that the attributes name.

    kind: "own" (its bytes), "zeros" (accepted anew), "lost" (its bytes are gone, though it never gave the
    frame away; `state` says how far it has it back), "pending", "shared" (userspace's bytes), "none".
    """

    gfn: int
    end: int
    kind: str
    state: str


class View(NamedTuple):
    """How things stood after one step."""

    private: tuple[tuple[int, int], ...]
    """The private frames, as the attributes have them: ranges [start, end)."""
    direct: tuple[Run, ...]
    mirror: tuple[Run, ...]
    sept: tuple[Run, ...]
    finds: tuple[Find, ...]
    bytes: tuple[str, ...]
    """Of a small TD: what the guest reads in each frame, in hex; ``··`` where it must ACCEPT first, ``--``
    where nothing is mapped."""
    td_epoch: int
    entered: tuple[tuple[int, int | None], ...]
    """vCPU and the epoch it entered in, None if it is outside."""
    lock: str
    """mmu_lock: "write", "read", or "" if it is not held by the one this story follows."""
    invalidating: tuple[int, int] | None
    """The range on which faults are retried."""
    seamcalls: int
    tables: int
    """Page-table pages under the mirror root, and the direct root, without the roots."""
    sept_pages: int
    """Pages that the TDX module was given for the S-EPT."""
    lost: int
    """Frames outside the range whose bytes are gone."""
    saved: int
    """Frames outside the range in leaves that were split."""


def runs_of(root: TdpMmuRoot, frames: int) -> tuple[tuple[Run, ...], int]:
    """The leaves among the first `frames` frames of a tree, or S-EPT, as runs; and how many tables it has."""
    runs: list[Run] = []
    tables = 0
    for run in _below(root, root.row, root.geometry.root_level, 0, frames):
        if run is None:
            tables += 1
        elif runs and runs[-1].end == run.gfn and runs[-1][2:] == run[2:]:
            runs[-1] = runs[-1]._replace(pages=runs[-1].pages + run.pages)
        else:
            runs.append(run)
    return tuple(runs), tables


def _below(root: TdpMmuRoot, row: int, level: int, base: int, frames: int) -> Iterator[Run | None]:
    """Runs of leaves in the table in `row` and below it; None for each table that is linked."""
    pages = root.geometry.pages(level)
    first = root.geometry.index(base | root.gfn_bits, level)
    count = min(-(-(frames - base) // pages), root.geometry.entries - first)
    table, index = root.pool.table(row), first
    for bits, group in groupby(table[first : first + count], _NOT_THE_FRAME.__and__):
        entries = len(list(group))
        gfn = base + (index - first) * pages
        if is_shadow_present_pte(bits):
            if is_last_spte(bits, level):
                yield Run(gfn, entries * pages, level, sept_state(bits).name)
            else:
                for at in range(entries):
                    yield None
                    child = spte_to_pfn(table[index + at])
                    yield from _below(root, child, level - 1, gfn + at * pages, frames)
        elif bits == FROZEN_SPTE & _NOT_THE_FRAME:
            yield Run(gfn, entries * pages, level, "FROZEN")
        index += entries


class Watch:
    """What a TD does not know of itself and a story keeps: which frames hold the guest's bytes, what is lost.

    span: the range that is converted, or punched out; whatever goes outside it is lost.
    """

    def __init__(self, td: Td, span: GfnRange, vcpus: tuple[int, ...]) -> None:
        self.td = td
        self.span = span
        self.vcpus = vcpus
        # Sets of frames; kept as attributes are kept.
        self.written = FrameSet()
        self.lost = FrameSet()
        self.lock = ""
        self.seamcalls = 0
        self.saved = 0
        self.stale = {"mirror", "direct", "sept"}
        """What changed since the last view: "mirror", "direct", "sept", or "bytes" (what the guest wrote)."""
        self._trees: dict[str, tuple[tuple[Run, ...], int]] = {}
        self._found: tuple[tuple[Find, ...], tuple[str, ...]] = (), ()
        self._private: tuple[tuple[int, int], ...] = ()

    def gone(self, gfn: int, pages: int) -> int:
        """A page went: its bytes, if they were the guest's. How many frames that loses outside the range."""
        lost = 0
        for part in self.span.outside(gfn, pages):
            for own in self.written.ranges():
                low, high = max(own.start, part.start), min(own.end, part.end)
                if low < high:
                    self.lost.store(GfnRange(low, high), True)
                    lost += high - low
        self.written.store(GfnRange(gfn, gfn + pages), False)
        return lost

    def kept(self, gfn: int, pages: int) -> None:
        """A leaf was split: the guest's bytes in it, outside the range, will not go with the range."""
        if self.span.overlap(gfn, pages):
            outside = self.span.outside(gfn, pages)
            own = self.written.ranges()
            self.saved += sum(part.overlap(one.start, one.pages) for part in outside for one in own)

    def view(self) -> View:
        """The TD as it is now."""
        kvm, module = self.td.kvm, self.td.module
        self._read()
        (mirror, mirror_tables), (direct, direct_tables) = self._trees["mirror"], self._trees["direct"]
        invalid = kvm.mmu_invalidate_range if kvm.mmu_invalidate_in_progress else None
        return View(
            private=self._private,
            direct=direct,
            mirror=mirror,
            sept=self._trees["sept"][0],
            finds=self._found[0],
            bytes=self._found[1],
            td_epoch=module.td_epoch,
            entered=tuple((vcpu, module.entered.get(vcpu)) for vcpu in self.vcpus),
            lock=self.lock,
            invalidating=(invalid.start, invalid.end) if invalid else None,
            seamcalls=self.seamcalls,
            tables=mirror_tables + direct_tables,
            sept_pages=len(module.sept_page),
            lost=sum(part.pages for part in self.lost.ranges()),
            saved=self.saved,
        )

    def _read(self) -> None:
        """Read anew what changed since the last view."""
        kvm, module = self.td.kvm, self.td.module
        assert kvm.mirror_root is not None
        private = tuple((part.start, part.end) for part in kvm.mem_attributes.ranges())
        if not self.stale and private == self._private:
            return
        for name, root in (("mirror", kvm.mirror_root), ("direct", kvm.direct_root), ("sept", module.sept)):
            if name in self.stale:
                self._trees[name] = runs_of(root, self.td.frames)
        sept, direct = self._trees["sept"][0], self._trees["direct"][0]
        self._found = self._finds(sept, direct), self._bytes(sept, direct) if self.td.memory else ()
        self._private = private
        self.stale.clear()

    def _finds(self, sept: tuple[Run, ...], direct: tuple[Run, ...]) -> tuple[Find, ...]:
        attributes, frames = self.td.kvm.mem_attributes, self.td.frames
        edges = {0, frames}
        edges.update(edge for run in (*sept, *direct) for edge in (run.gfn, run.end))
        for known in (attributes, self.written, self.lost):
            edges.update(known.edges)
        finds: list[Find] = []
        ordered = sorted(edge for edge in edges if edge <= frames)
        for gfn, end in pairwise(ordered):
            state = _state_at(sept, gfn)
            if gfn not in attributes:
                kind = "shared" if _state_at(direct, gfn) != "FREE" else "none"
            elif gfn in self.lost:
                kind = "lost"
            elif state == "PRESENT":
                kind = "own" if gfn in self.written else "zeros"
            else:
                kind = "pending" if state == "PENDING" else "none"
            if finds and finds[-1][2:] == (kind, state):
                finds[-1] = finds[-1]._replace(end=end)
            else:
                finds.append(Find(gfn, end, kind, state))
        return tuple(finds)

    def _bytes(self, sept: tuple[Run, ...], direct: tuple[Run, ...]) -> tuple[str, ...]:
        td = self.td
        told = ["--"] * td.frames
        shared = td.kvm.slot.host_pfn or 0
        for runs, private, first in ((sept, True, td.gmem.first_pfn), (direct, False, shared)):
            for run in runs:
                if run.state not in ("PRESENT", "PENDING"):
                    continue
                for gfn in range(run.gfn, run.end):
                    if (gfn in td.kvm.mem_attributes) == private:
                        told[gfn] = f"{td.memory[first + gfn]:02x}" if run.state == "PRESENT" else "··"
        return tuple(told)


def _state_at(runs: tuple[Run, ...], gfn: int) -> str:
    return next((run.state for run in runs if run.gfn <= gfn < run.end), "FREE")
