"""The exercises of notebook 09: lines of a trace, read by hand, placed, counted, and judged by a function.

The engine writes each text, and each answer comes from its trees before and after: no check reads a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from tdpkit.engine.events import Event, Trace, record
from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, GfnRange
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.spte import FROZEN_SPTE, SHADOW_NONPRESENT_VALUE, VMX_EPT_MISCONFIG_WX_VALUE, spte_to_pfn
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root, tdp_mmu_zap_leafs
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, map_leaf, map_run, translate, way_down
from tdpkit.lab.spte_guess import guess_layout
from tdpkit.lab.traces.reader import read_trace
from tdpkit.lab.traces.shipped import lost_pages
from tdpkit.lab.traces.write import MAIN, TraceWriter
from tdpkit.lab.untrusted import Raised, cut, shown
from tdpkit.lab.words import count_of, group_digits, listed

from .checking import Wrong, about, answer_of, answered, check, did, frame, items, one_of, refused, whole
from .guess import Guess, choice

_BLOCK = X86_4LEVEL.pages(PG_LEVEL_2M)
_CHANGED = "kvm_tdp_mmu_spte_changed"
_PFN = 0x31C000
"""The host frame of frame 0."""

# ---- the guesses -----------------------------------------------------------------------------------------

KNOWN = ("0", "1", "3", "512")


@check("choose a number of leaves.")
def check_known(guess: Any) -> str:
    """How many leaves of 4K the split of the short trace leaves: what is mapped below its block."""
    split = _Host().map(0x800).split(0x845, 0x848)
    leaves = sum(run.count for run in leaf_runs(split.root))
    what = (
        f"after the split {count_of(leaves, 'leaf of 4K', 'leaves of 4K')} map what the 2M leaf mapped; they "
        "are written before the table is linked, and none has a line"
    )
    if one_of(guess, KNOWN, "a guess") != str(leaves):
        raise Wrong(f"you said {guess}; {what}.")
    return f"{what}. Their values follow from the leaf's."


def guess_known() -> Guess:
    """Ask how many leaves of 4K a reader knows after the split of the short trace."""
    return choice(
        "Lines 25 to 27 of the short trace are a split. How many leaves of 4K do you know after line 27?",
        "leaves",
        KNOWN,
        check_known,
    )


LAYOUT_GUESSES = ("ept-7.2", "ept-tdx", "ept-5.13", "npt-5.13")
VALUE = 0x860000019E400BF7
"""A 2M leaf of the TDX era: bit 63, and both writable bits where 5.13 put them."""


@check("choose a layout.")
def check_layout(guess: Any) -> str:
    """Which layout VALUE has at level 2."""
    found = guess_layout([(VALUE, PG_LEVEL_2M)])
    what = f"{VALUE:#x} is of {found.layout.name}: {found.reason}"
    if one_of(guess, LAYOUT_GUESSES, "a layout") != found.layout.name:
        raise Wrong(f"you said {guess}; {what}.")
    return f"{what}."


def guess_value() -> Guess:
    """Ask for the layout of one value."""
    return choice(
        f"An entry of level 2 in a bug report: {VALUE:#x}. Which layout is it?",
        "layout",
        LAYOUT_GUESSES,
        check_layout,
    )


LOSSES = ("none", "the first", "the second", "the third", "the first and the third", "all three")
_TO_SHARED = 0x86E - 0x84D
"""Frames of each of the three."""


@check("choose which of them lost frames.")
def check_losses(guess: Any) -> str:
    """Which conversions to shared of the long trace took frames outside."""
    to_shared = [
        judged for judged in read_trace(lost_pages().splitlines()).judged if judged.span.pages == _TO_SHARED
    ]
    lost = [
        name
        for name, judged in zip(("first", "second", "third"), to_shared, strict=True)
        if not judged.is_safe
    ]
    what = f"frames outside went in {listed(f'the {name}' for name in lost)}"
    if one_of(guess, LOSSES, "a guess") != listed(f"the {name}" for name in lost):
        raise Wrong(f"you said {guess}; {what}.")
    return f"{what}. One was not split before its zap; of the other a later fault took what the split saved."


def guess_losses() -> Guess:
    """Ask which conversions of the long trace lost frames."""
    return choice(
        "Three conversions make 33 frames shared. In which of them did frames outside the range go?",
        "conversions",
        LOSSES,
        check_losses,
    )


# ---- a host ----------------------------------------------------------------------------------------------


class _Host:
    """A tree, and the lines that a trace has of what is done to it."""

    def __init__(self) -> None:
        self.root = TdpMmuRoot(PageTablePool(X86_4LEVEL))
        self.trace = TraceWriter(MAIN, style="bare", layout="ept-5.13")

    @property
    def lines(self) -> list[str]:
        return self.trace.lines

    def map(self, *gfns: int, level: int = PG_LEVEL_2M) -> _Host:
        """Map leaves, in silence: the trace began later."""
        for gfn in gfns:
            map_leaf(self.root, gfn, level, _PFN + gfn if level <= PG_LEVEL_2M else gfn)
        return self

    def split(self, start: int, end: int) -> _Host:
        """Split the leaves that cross an edge of [start, end)."""
        self.trace.call(
            record(
                tdp_mmu_split_huge_pages_root(
                    self.root, start, end, PG_LEVEL_4K, shared=False, only_cross_boundary=True
                )
            )
        )
        return self

    def zap(self, start: int, end: int) -> int:
        """Zap [start, end); returns how many frames outside were mapped before and are not after."""
        before = _outside(self.root, start, end)
        self.trace.call(record(tdp_mmu_zap_leafs(self.root, start, end)))
        return before - _outside(self.root, start, end)

    def crossing(self, start: int, end: int) -> dict[int, int]:
        """The leaves with an edge of [start, end) inside: first frame and level."""
        leaves = (translate(self.root, edge) for edge in (start, end))
        return {
            leaf.gfn: leaf.level
            for edge, leaf in zip((start, end), leaves, strict=True)
            if leaf and leaf.gfn < edge
        }


def _outside(root: TdpMmuRoot, start: int, end: int) -> int:
    """How many frames outside [start, end) are mapped."""
    mapped = 0
    for run in leaf_runs(root):
        first, last = run.gfn, run.gfn + run.count * X86_4LEVEL.pages(run.level)
        mapped += last - first - max(0, min(last, end) - max(first, start))
    return mapped


# ---- lines read by hand ----------------------------------------------------------------------------------

_HAND = GfnRange(0x3FE, 0x603)


class _ByHand(NamedTuple):
    lines: list[str]
    crossed: list[int]
    split: list[int]
    outside: int


@cache
def _by_hand() -> _ByHand:
    """A zap whose first edge was made safe, and its second not."""
    start, end = _HAND.start, _HAND.end
    host = _Host().map(0x200, 0x400, 0x600)
    crossed = host.crossing(start, end)
    host.trace.mark("zap", start, end)
    host.split(start, start + 2)
    left = host.crossing(start, end)
    outside = host.zap(start, end)
    return _ByHand(host.lines, [*crossed], [*{*crossed} - {*left}], outside)


def _asking(asked: dict[str, str]) -> Callable[[str], str]:
    """How to ask for what is missing of an answer with these parts."""
    return lambda name: f"“{name}”: {asked[name]}?"


def lines_by_hand() -> str:
    """The lines of the first exercise."""
    return "\n".join(_by_hand().lines)


_ASKED_BY_HAND = {
    "crossed": "the first frames of the leaves that crossed an edge of the range",
    "split": "of these, the first frames of those that were split before the zap",
    "frames": "how many frames outside the range went",
}


@check()
def check_by_hand(said: Any) -> str:
    """Compare with the tree: said is a dict with "crossed" and "split", sets of frames, and "frames"."""
    truth = _by_hand()
    for name, value in answered(said, _ASKED_BY_HAND, "crossed, split and frames", _asking(_ASKED_BY_HAND)):
        with about(f"“{name}”"):
            if name == "frames":
                _count_of_frames(value, truth.outside, _HAND)
            else:
                _same_leaves(value, truth.crossed if name == "crossed" else truth.split, _HAND)
    return (
        f"the leaf at {truth.split[0]:#x} was split, the other that crossed went whole, and "
        f"{count_of(truth.outside, 'frame')} outside with it."
    )


def _count_of_frames(said: Any, truth: int, span: GfnRange) -> None:
    number = whole(said)
    if number is None:
        raise refused("a number of frames is wanted", said)
    if number != truth:
        raise Wrong(
            f"you said {cut(group_digits(number), 40)}. Of each leaf that went whole, take off the frames "
            f"inside [{span.start:#x}, {span.end:#x}); a leaf that lies inside has none outside."
        )


def _same_leaves(said: Any, truth: list[int], span: GfnRange) -> None:
    found = items([said] if whole(said) is not None else said)
    if found is None:
        raise refused("a set of first frames is wanted", said)
    frames = {frame(value, "a first frame") for value in found}
    for gfn in sorted(frames - {*truth}):
        raise Wrong(f"the leaf at {_in_hex(gfn)} is too much{_why_not(gfn, span)}.")
    for gfn in sorted({*truth} - frames):
        raise Wrong(f"the leaf at {gfn:#x} is missing: see its line.")


def _in_hex(gfn: int) -> str:
    return cut(f"{gfn:#x}", 40)


def _why_not(gfn: int, span: GfnRange) -> str:
    if gfn % _BLOCK:
        return ": no 2M leaf begins there"
    if span.start <= gfn and gfn + _BLOCK <= span.end:
        return f": all its frames lie inside [{span.start:#x}, {span.end:#x})"
    beside = gfn >= span.end or gfn + _BLOCK <= span.start
    return ": it lies beside the range" if beside else ": its line says that it went whole"


# ---- a subtree that goes ---------------------------------------------------------------------------------

_GONE = 0xA00
_LEAVES = ((0xA10, 31), (0xA80, 14))
_DEVICES = (0xAB8, 0xAB9)


class _Removal(NamedTuple):
    lines: list[str]
    mappings: int
    devices: int


@cache
def _removal() -> _Removal:
    """A table of 4K goes under the read lock: its parent's line, then each of its entries' (S263)."""
    host = _Host()
    for gfn, count in _LEAVES:
        map_run(host.root, gfn, PG_LEVEL_4K, count, _PFN + gfn)
    parent = way_down(host.root, _GONE, PG_LEVEL_2M)[-1]
    table = host.root.pool.table(spte_to_pfn(parent.spte))
    for gfn in _DEVICES:
        table[gfn - _GONE] = SHADOW_NONPRESENT_VALUE | VMX_EPT_MISCONFIG_WX_VALUE | gfn << PAGE_SHIFT
    events: list[Event] = [Trace(_CHANGED, _GONE, PG_LEVEL_2M, parent.spte, SHADOW_NONPRESENT_VALUE)]
    events += [Trace(_CHANGED, _GONE + at, PG_LEVEL_4K, spte, FROZEN_SPTE) for at, spte in enumerate(table)]
    host.trace.call(events)
    mappings = sum(run.count for run in leaf_runs(host.root))
    return _Removal([line for line in host.lines if line.startswith(_CHANGED)], mappings, len(_DEVICES))


def lines_of_a_removal() -> list[str]:
    """The lines of the second exercise."""
    return [*_removal().lines]


@check("set lost_mappings to the number of mappings that ended.")
def check_removed(lost_mappings: Any) -> str:
    """Compare with the leaves that the table held."""
    lines, truth, devices = _removal()
    number = whole(lost_mappings)
    if number is None:
        raise refused("a number of mappings is wanted", lost_mappings)
    if number == truth:
        return (
            f"{count_of(truth, 'mapping')} ended; {_BLOCK - truth - devices} entries were empty, and "
            f"{devices} stood for a device."
        )
    wrong = {
        len(lines): f"there are {len(lines)} lines, and the first is of the table itself",
        _BLOCK: "each entry of the table has a line, also one that held nothing",
        truth + devices: "an entry that held W and X without R stands for a device, and maps no memory",
        truth + 1: "the first line is of the table, which maps nothing itself",
    }
    raise Wrong(
        f"you said {cut(group_digits(number), 40)}: {wrong.get(number, 'look at old_spte of each line')}."
    )


# ---- an unmap's place ------------------------------------------------------------------------------------

_HVA = 0x7F3C3F600000
"""Where frame 0 is in the VMM's memory."""
_UNMAPPED = GfnRange(0x9FE, 0xC02)


class _Unmap(NamedTuple):
    lines: list[str]
    crossed: list[int]


@cache
def _unmap() -> _Unmap:
    """Two unmaps: one of a single frame, which tells where memory lies, and one across leaves."""
    start, end = _UNMAPPED.start, _UNMAPPED.end
    host = _Host().map(0x207, level=PG_LEVEL_4K).map(0x800, 0xA00, 0xC00)
    host.trace.unmap(0x207, 0x208, record(tdp_mmu_zap_leafs(host.root, 0x207, 0x208)), hva=_HVA)
    crossed = [*host.crossing(start, end)]
    host.trace.unmap(start, end, record(tdp_mmu_zap_leafs(host.root, start, end)), hva=_HVA)
    return _Unmap(host.lines, crossed)


def lines_of_an_unmap() -> str:
    """The lines of the third exercise."""
    return "\n".join(_unmap().lines)


_ASKED_OF_UNMAP = {
    "start": "the first frame of the second unmap",
    "end": "the frame after its last",
    "split": "the first frames of the leaves that had to be split before it",
}


@check()
def check_unmap(said: Any) -> str:
    """Compare with where the frames are: said is a dict with "start", "end", and "split", a set of frames."""
    for name, value in answered(said, _ASKED_OF_UNMAP, "start, end and split", _asking(_ASKED_OF_UNMAP)):
        with about(f"“{name}”"):
            if name == "split":
                _same_leaves(value, _unmap().crossed, _UNMAPPED)
            else:
                _placed(value, name)
    leaves = listed(f"{gfn:#x}" for gfn in _unmap().crossed)
    return f"frames {_UNMAPPED.start:#x} to {_UNMAPPED.end - 1:#x}; the leaves at {leaves} crossed an edge."


def _placed(said: Any, name: str) -> None:
    gfn, truth = frame(said, "a frame"), getattr(_UNMAPPED, name)
    if gfn == truth:
        return
    if gfn == truth - 1 and name == "end":
        raise Wrong(
            f"you said {_in_hex(gfn)}, the last frame. An unmap ends where it says, that frame left out."
        )
    if gfn == (_HVA >> PAGE_SHIFT) + truth:
        raise Wrong(f"you said {_in_hex(gfn)}, which is a frame of the VMM's memory, not one of the guest.")
    raise Wrong(
        f"you said {_in_hex(gfn)}. The first unmap is of one host page, and frame 0x207 went: that is the "
        "page's place in the guest. Go on from there by as many pages as in the VMM's memory."
    )


# ---- a function that judges ------------------------------------------------------------------------------


class _Case(NamedTuple):
    """What a trace has of some calls, and how many frames outside went with leaves that crossed an edge."""

    host: _Host
    span: GfnRange
    outside: int


_SPANS = ((0x201, 0x202), (0x200, 0x400), (0x3FE, 0x603), (0x210, 0x600), (0x200, 0x5FF), (0x1, 0x7FF))
_WAYS = ("no split", "the start only", "the end only", "both edges")


def _cases() -> Iterator[_Case]:
    """Leaves of 2M, 1G and 4K; split at an edge or not; and another range that goes afterwards."""
    for level in (PG_LEVEL_2M, PG_LEVEL_2M + 1):
        for span in _SPANS:
            for way in _WAYS:
                yield _case(level, *span, way)
    yield _case(PG_LEVEL_4K, 0x201, 0x204, "no split")


def _case(level: int, start: int, end: int, way: str) -> _Case:
    host = _Host()
    if level == PG_LEVEL_2M:
        host.map(0x0, 0x200, 0x400, 0x600, 0x800)
    elif level == PG_LEVEL_4K:
        for gfn in range(0x200, 0x208):
            host.map(gfn, level=level)
    else:
        host.map(0x0, level=level)
    if way in ("the start only", "both edges"):
        host.split(start, start)
    if way in ("the end only", "both edges"):
        host.split(end, end)
    outside = host.zap(start, end)
    if level == PG_LEVEL_2M:  # the same task zaps what is no part of the range
        host.zap(0x800, 0xA00)
    return _Case(host, GfnRange(start, end), outside)


@cache
def _known_cases() -> list[_Case]:
    return [*_cases()]


@check("let taken_outside return a number of frames.")
def check_taken(taken_outside: Any) -> str:
    """Attack ``taken_outside(changes, start, end)`` with small traces; the truth is the tree's.

    changes: a list of :class:`~tdpkit.lab.traces.changes.Change`, of one task.
    """
    if not callable(taken_outside):
        raise refused("taken_outside is a function of changes, start and end", taken_outside)
    cases = _known_cases()
    for case in cases:
        _try(taken_outside, case)
    hurt = sum(case.outside > 0 for case in cases)
    return f"right in {len(cases)} traces, of which {hurt} lost frames outside."


def _try(taken_outside: Callable[..., Any], case: _Case) -> None:
    span = case.span
    story = read_trace(case.host.lines, layout="ept-5.13", keep=True)
    said = answer_of(taken_outside, story.changes, span.start, span.end)
    if not isinstance(said, Raised) and whole(said) == case.outside:
        return
    if not isinstance(said, Raised) and whole(said) is None:
        raise Wrong(f"it returned {shown(said)}; a number of frames is wanted.")
    lines = [line.removeprefix(f"{_CHANGED}: as id 0 ") for line in case.host.lines if _CHANGED in line]
    more = f" and {count_of(len(lines) - 3, 'more line')}" if len(lines) > 3 else ""
    raise Wrong(
        f"for the range [{span.start:#x}, {span.end:#x}) it {did(said)}; "
        f"{count_of(case.outside, 'frame')} outside went. The changes: {'; '.join(lines[:3])}{more}."
    )
