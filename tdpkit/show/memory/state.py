"""What the strip of a guest's memory shows: leaves, what became of each frame, and the byte in it.

:func:`memory_state` reads it out of a guest, of what one of a guest's methods returned, of a TD with all that
stands behind it, or of a report of lost pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.gfn import X86_4LEVEL, Geometry, GfnRange, format_gfn
from tdpkit.engine.tree import leaves
from tdpkit.lab.guest import Guest, GuestOutcome, Sight, Touch
from tdpkit.lab.lost_pages import CONVERTED, PRIVATE, LostPages
from tdpkit.lab.td import Td
from tdpkit.lab.words import count_of
from tdpkit.tdx.module import sept_state

from ..strips import Cell

_MOST_BYTES = 40
"""Frames of a strip that have room for two digits each."""


class FrameByte(NamedTuple):
    """A byte as it is written into its frame.

    look: "there" (the guest reads it), "kept" (it reads it after a fault: the host has it), "gone" (the byte
    that was lost), "zero" (what the guest reads in place of a byte that was lost).
    """

    text: str
    look: str


class MemoryState(NamedTuple):
    """A guest's memory at one moment, and where something was done to it."""

    caption: str
    said: str
    """All of it in words: the text that a page without pictures shows."""
    bad: bool
    """What was done lost frames, or found one lost."""
    geometry: Geometry
    frames: int
    cells: tuple[Cell, ...]
    """All frames from `first` on, in order, in runs of one kind: within one leaf, if bytes are shown.

    kind: one of tdpkit.show.strips.Cell's, or of the S-EPT's in tdpkit.show.drawing.HATCHED.
    """
    leaves: tuple[tuple[int, int], ...] = ()
    """[first, last) of each leaf, if bytes are shown."""
    bytes: tuple[FrameByte | None, ...] = ()
    """One of each frame; empty for a guest that is too large."""
    span: GfnRange | None = None
    touched: int | None = None
    shared: tuple[GfnRange, ...] = ()
    """What the attributes of a TD call shared."""
    first: int = 0


def memory_state(shown: Guest | GuestOutcome | Touch | Td | LostPages) -> MemoryState | None:
    """The memory of a guest, or as it was after what `shown` tells; None if there is nothing to draw."""
    if isinstance(shown, Td):
        return _of_td(shown) if shown.frames <= _MOST_BYTES else None
    if isinstance(shown, LostPages):
        return _of_report(shown)
    sight = shown.sight() if isinstance(shown, Guest) else shown.sight
    if sight is None:
        return None
    marks = _marks(shown, sight.geometry) if isinstance(shown, GuestOutcome) else []
    said = repr(shown)
    state = MemoryState(said.partition("; bytes ")[0], said, False, sight.geometry, sight.frames, ())
    if sight.memory and sight.frames <= _MOST_BYTES:
        state = _by_frame(state, sight, marks)
    else:
        state = state._replace(cells=tuple(_paint(_stretches(sight), marks)))
    if isinstance(shown, GuestOutcome):
        return state._replace(span=shown.span, bad=any(mark.kind == "lost" for mark in marks))
    if isinstance(shown, Touch):
        byte = state.bytes[shown.gfn] if state.bytes else None
        return state._replace(touched=shown.gfn, bad=byte is not None and byte.look == "zero")
    return state


def _marks(outcome: GuestOutcome, geometry: Geometry) -> list[Cell]:
    """Frames that an action sets apart."""
    if outcome.action == "split":
        marks: list[Cell] = []
        for gfn, level in sorted(outcome.splits, key=lambda split: (split[0], -split[1])):
            if not marks or gfn >= marks[-1].last:  # else a leaf that an earlier split made was split again
                marks.append(Cell(gfn, gfn + geometry.pages(level), "split"))
        return marks
    kind = "crossing" if outcome.action == "look" else "lost" if outcome.kind == "TD" else "refaulted"
    return [Cell(part.start, part.end, kind) for part in outcome.outside]


# ---- a guest that shows its bytes, frame by frame ------------------------------------------------------


def _by_frame(state: MemoryState, sight: Sight, marks: Iterable[Cell]) -> MemoryState:
    spans = [
        (first, first + sight.geometry.pages(level), level)
        for gfn, level, count, _ in sight.leaves
        for first in range(gfn, gfn + count * sight.geometry.pages(level), sight.geometry.pages(level))
    ]
    away = {True: "zapped", False: "lost" if sight.kind == "TD" else "refaulted", None: "hole"}
    kinds = [away[sight.gone.get(gfn)] for gfn in range(sight.frames)]
    for first, last, level in spans:
        kinds[first:last] = [f"leaf{level}"] * (last - first)
        if first in sight.pending:
            kinds[first] = "pending"
    state = state._replace(bytes=tuple(_byte(sight, gfn, kind) for gfn, kind in enumerate(kinds)))
    for mark in marks:
        kinds[mark.first : mark.last] = [mark.kind] * (mark.last - mark.first)
    places = tuple((first, last) for first, last, _ in spans)
    return state._replace(cells=tuple(_cells(kinds, places)), leaves=places)


def _byte(sight: Sight, gfn: int, kind: str) -> FrameByte | None:
    """What is written into a frame; nothing where neither guest nor host has a byte worth a look."""
    byte, unasked = sight.memory[gfn], sight.gone.get(gfn) is False
    if byte is None or kind in ("hole", "zapped", "pending"):
        return None
    looks = {"lost": "gone", "refaulted": "kept"}
    zero = unasked and sight.kind == "TD"
    return FrameByte(f"{byte:02x}", looks.get(kind, "zero" if zero else "there"))


def _cells(kinds: Sequence[str], places: Iterable[tuple[int, int]]) -> Iterator[Cell]:
    """Runs of frames of one kind, none of which goes beyond a leaf."""
    leaf = {gfn: first for first, last in places for gfn in range(first, last)}
    for (kind, _), run in groupby(range(len(kinds)), lambda gfn: (kinds[gfn], leaf.get(gfn))):
        first, *others = run
        yield Cell(first, [first, *others][-1] + 1, kind)


# ---- a guest that is too large for that ----------------------------------------------------------------


def _stretches(sight: Sight) -> Iterator[Cell]:
    """Leaves of one size side by side, and what is between them."""
    at = 0
    for gfn, level, count, _ in sight.leaves:
        if at < gfn:
            yield Cell(at, gfn, "hole")
        at = gfn + count * sight.geometry.pages(level)
        yield Cell(gfn, at, f"leaf{level}")
    if at < sight.frames:
        yield Cell(at, sight.frames, "hole")


def _paint(cells: Iterable[Cell], marks: Sequence[Cell]) -> list[Cell]:
    """The cells, with the marks in their places."""
    kept = []
    for cell in cells:
        at = cell.first
        for mark in sorted(marks):
            if mark.first < cell.last and at < mark.last:
                kept.append(Cell(at, max(mark.first, at), cell.kind))
                at = mark.last
        kept.append(Cell(at, max(cell.last, at), cell.kind))
    return sorted([*(cell for cell in kept if cell.first < cell.last), *marks])


# ---- a TD with all that stands behind it ---------------------------------------------------------------


def _of_td(td: Td) -> MemoryState:
    """The leaves of the S-EPT with their states; what none maps is lost if the guest counts on it."""
    kinds = ["lost" if gfn in td.own else "hole" for gfn in range(td.frames)]
    places = []
    for leaf in leaves(td.module.sept):
        pages, name = td.geometry.pages(leaf.level), sept_state(leaf.spte).name
        places.append((leaf.gfn, leaf.gfn + pages))
        kind = f"leaf{leaf.level}" if name == "PRESENT" else name.lower().replace("_", "-")
        kinds[leaf.gfn : leaf.gfn + pages] = [kind] * pages
    looks = {f"leaf{level}": "there" for level in range(1, td.geometry.root_level + 1)} | {"lost": "gone"}
    memory = [f"{td.memory[td.gmem.first_pfn + gfn]:02x}" for gfn in range(td.frames)]
    is_shared = [gfn not in td.kvm.mem_attributes for gfn in range(td.frames)]
    caption = f"TD of {format_gfn(td.frames)}: {_counts(kinds, is_shared)}"
    return MemoryState(
        caption=caption,
        said=f"{caption}; bytes {td.bytes_in_sight()}",
        bad="lost" in kinds,
        geometry=td.geometry,
        frames=td.frames,
        cells=tuple(_cells(kinds, places)),
        leaves=tuple(places),
        bytes=tuple(
            FrameByte(byte, looks[kind]) if kind in looks else None
            for byte, kind in zip(memory, kinds, strict=True)
        ),
        shared=tuple(
            GfnRange(cell.first, cell.last)
            for cell in _cells(["shared" if shared else "" for shared in is_shared], ())
            if cell.kind
        ),
    )


def _counts(kinds: Sequence[str], is_shared: Sequence[bool]) -> str:
    """How many frames are in which state, of the states that occur."""
    names = ["accepted" if kind.startswith("leaf") else kind for kind in kinds]
    names += ["shared" for shared in is_shared if shared]
    known = ("accepted", "pending", "blocked", "pending-blocked", "lost", "shared")
    counted = [(names.count(name), name) for name in known if name in names]
    if not counted:
        return "nothing mapped"
    (number, name), *others = counted
    return ", ".join(
        [f"{count_of(number, 'frame')} {name}", *(f"{number} {name}" for number, name in others)]
    )


# ---- a public report -----------------------------------------------------------------------------------


def _of_report(report: LostPages) -> MemoryState:
    """The block that was private at first; the bracket is the range that was converted."""

    def kind(fate: str, level: int) -> str:
        return "lost" if fate.startswith("lost") else f"leaf{level}" if level else "hole"

    cells = (Cell(run.span.start, run.span.end, kind(run.fate, run.level)) for run in report.runs)
    return MemoryState(
        caption=report.title,
        said=repr(report),
        bad=bool(report.lost.edges),
        geometry=X86_4LEVEL,
        frames=PRIVATE.pages,
        cells=tuple(cells),
        span=CONVERTED,
        first=PRIVATE.start,
    )
