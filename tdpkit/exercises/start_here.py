"""The exercises of notebook 00. A check runs the submission and answers a wrong one with a counterexample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from tdpkit.engine.gfn import Geometry, GfnRange, format_gfn
from tdpkit.engine.tree import LeafRun, translate
from tdpkit.lab.guest import VM_KINDS, Guest
from tdpkit.lab.layouts import Layout
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state

from .checking import (
    Counterexample,
    Raised,
    Wrong,
    answer_of,
    answered,
    check,
    cut,
    ranges,
    refused,
    shown,
    whole,
)


def _seen(guest: Guest, start: int, end: int, action: str) -> Counterexample:
    return Counterexample(boundary_state(guest, start, end, action), boundary_svg)


# ---- same zap, two guests ------------------------------------------------------------------------------

ZAPPED = GfnRange(3, 4)
_EXAMPLE = "such as 'a0 b1 c2 d3 e4 f5 06 17'"


@check(f"write the eight bytes you expect each guest to read, {_EXAMPLE}.")
def check_same_zap(plain: Any, td: Any) -> str:
    """Compare two predictions with what the guests read after the zap of frame 3.

    plain, td: eight bytes in hex, ``"10 11 12 13 14 15 16 17"``, one per frame: what the guest reads once it
    has done all it must to read them.
    """
    for kind, predicted in (("plain", plain), ("TD", td)):
        guest = Guest("eight", kind)
        before = guest.bytes_in_sight().split()
        said = predicted.split() if isinstance(predicted, str) else []
        if len(said) != guest.frames:
            wanted = f"write {guest.frames} bytes, {_EXAMPLE}"
            raise refused(f"the {kind} guest has {guest.frames} frames; {wanted}", predicted)
        guest.zap(ZAPPED.start, ZAPPED.end)
        for frame, byte in enumerate(said):
            met = guest.touch(frame)
            after = guest.accept(frame) if met.event == "violation" else met
            reads = f"{after.byte:02x}"
            if byte.lower() != reads:
                way = met.event if after is met else f"{met.event}, {after.event}"
                raise Wrong(
                    f"{kind} guest, frame {frame}, which held {before[frame]}: you said {cut(byte, 20)}, "
                    f"it reads {reads} (zap of {ZAPPED}, one leaf over all eight; frame {frame}: {way}).",
                    _seen(Guest("eight", kind), ZAPPED.start, ZAPPED.end, "zap"),
                )
    return "the plain guest reads every byte again; the TD has lost all eight, seven of them unasked."


# ---- a range that loses a number of frames -------------------------------------------------------------


@check("give a start and an end (frames, 0 to 32) whose zap loses {frames} frames outside the range.")
def check_loses(start: Any, end: Any, frames: int) -> str:
    """Whether a zap of [start, end), without a split, loses exactly `frames` frames of the toy TD."""
    outcome = Guest("toy", "TD").zap(start, end)
    lost = outcome.outside_frames
    parts = ", ".join(f"{part} ({part.pages})" for part in outcome.outside) or "none"
    text = f"the zap of {outcome.span} loses {lost} frames outside it: {parts}."
    if lost != frames:
        raise Wrong(f"{text} Wanted: {frames}.", _seen(Guest("toy", "TD"), start, end, "zap"))
    return text


# ---- how many splits -----------------------------------------------------------------------------------

SPLIT_RANGES = ("[1G, 2G)", "[1G+1M, 2G)", "[1G+2M, 2G)", "[1G+4K, 2G-4K)")


def _ask_splits(span: str) -> str:
    return f"how many splits does {span} need, on one 1G leaf at 1G?"


@check()
def check_splits(predicted: Any) -> str:
    """Compare predicted numbers of splits with patch v3's, for one 1G leaf at 1G and SPLIT_RANGES."""
    for text, said in answered(predicted, SPLIT_RANGES, "a number for each range", _ask_splits):
        guest = Guest("one-1G", "plain")
        span = GfnRange.parse(*text.strip("[)").split(", "))
        outcome = guest.split(span.start, span.end)
        if whole(said) != len(outcome.splits):
            made = ", ".join(
                f"the {guest.geometry.level(level).label} leaf at {format_gfn(gfn)}"
                for gfn, level in outcome.splits
            )
            splits = f"the walk made {len(outcome.splits)} splits: {made or 'none'}"
            raise Wrong(
                f"{text}: you said {shown(said)}, {splits}.",
                _seen(Guest("one-1G", "plain"), span.start, span.end, "split"),
            )
    return "one split per leaf that strictly contains an edge, level by level, and not one more."


# ---- convert, and lose nothing -------------------------------------------------------------------------

_SMALL = Geometry(index_bits=2, root_level=3, max_leaf_level=2)
_BLOCKS = 3


def layouts() -> Iterator[Layout]:
    """Every layout of three blocks of four frames, each a hole, a leaf or four 4K leaves; simplest first."""
    block = _SMALL.pages(2)
    for kinds in sorted(
        product(range(3), repeat=_BLOCKS), key=lambda kinds: (sum(map(bool, kinds)), kinds[::-1])
    ):
        runs = tuple(
            LeafRun(at * block, 2, 1, at * block) if kind == 1 else LeafRun(at * block, 1, block, at * block)
            for at, kind in enumerate(kinds)
            if kind
        )
        yield Layout(_SMALL, runs, _BLOCKS * block)


@check("write convert(guest, start, end), which unmaps the range and nothing else.")
def check_convert(convert: Any) -> str:
    """Attack ``convert(guest, start, end)`` with every range of every small layout, in both kinds of VM.

    Afterwards no frame of the range may be mapped, and every frame outside must be as it was: same host
    frame, same byte. The first failure, on the simplest layout and shortest range, is the counterexample.
    """
    if not callable(convert):
        raise refused("convert is a function of a guest, a start and an end", convert)
    tried = 0
    for layout, span, kind in product(layouts(), ranges(_BLOCKS * _SMALL.pages(2)), VM_KINDS):
        tried += 1
        fault = _convert_fault(convert, Guest(layout, kind), span.start, span.end)
        if fault:
            guest = Guest(layout, kind)
            case = _seen(guest, span.start, span.end, "look")
            raise Wrong(f"{guest!r}, range {span!r}: {fault}.", case)
    return f"{tried} conversions (every range, every layout, both kinds of VM), nothing lost."


def _convert_fault(convert: Callable[..., Any], guest: Guest, start: int, end: int) -> str:
    """Say how the conversion goes wrong; empty if it does not."""
    before = [_host_frame(guest, gfn) for gfn in range(guest.frames)]
    memory = dict(guest.memory)
    if isinstance(said := answer_of(convert, guest, start, end), Raised):
        return f"convert {said!r}"
    for gfn, pfn in enumerate(before):
        now = _host_frame(guest, gfn)
        if start <= gfn < end and now is not None:
            return f"frame {gfn} is in the range and still mapped"
        if not start <= gfn < end and now != pfn:
            fate = "lost" if guest.kind == "TD" else "zapped"
            return f"frame {gfn} is outside the range and was {fate}"
    return "" if guest.memory == memory else "bytes of the guest changed"


def _host_frame(guest: Guest, gfn: int) -> int | None:
    leaf = translate(guest.root, gfn)
    return None if leaf is None else leaf.pfn + gfn - leaf.gfn
