"""The exercises of notebook 00. A check runs the submission and answers a wrong one with a counterexample."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from itertools import product
from typing import Any

from tdpkit.engine.gfn import Geometry, GfnRange, format_gfn
from tdpkit.engine.spte import SHADOW_NONPRESENT_VALUE, is_last_spte, is_shadow_present_pte
from tdpkit.engine.tree import LeafRun, TdpMmuRoot, table_rows, translate, way_down
from tdpkit.lab.guest import VM_KINDS, Guest
from tdpkit.lab.layouts import Layout
from tdpkit.lab.untrusted import Raised, cut, shown
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state, left_state

from .checking import Counterexample, Wrong, answer_of, answered, check, ordered, ranges, refused, whole


def _seen(guest: Guest, start: int, end: int, action: str) -> Counterexample:
    return Counterexample(boundary_state(guest, start, end, action), boundary_svg)


# ---- same zap, two guests ------------------------------------------------------------------------------

ZAPPED = GfnRange(3, 4)
_EXAMPLE = "such as 'a0 b1 c2 d3 e4 f5 06 17'"


@check(f"write the eight bytes you expect each guest to read, {_EXAMPLE}.")
def check_same_zap(plain: Any, td: Any) -> str:
    """Compare two predictions with what the guests read after the zap of frame 3.

    plain, td: eight bytes in hex, ``"10 11 12 13 14 15 16 17"``, one per frame: what the guest reads once it
    has done all it must to read them. Commas between them, ``0x`` before them and a list of texts or numbers
    will do too.
    """
    for kind, predicted in (("plain", plain), ("TD", td)):
        guest = Guest("eight", kind)
        before = guest.bytes_in_sight().split()
        readings = _bytes_said(predicted, guest.frames)
        if not readings:
            wanted = f"write {guest.frames} bytes, {_EXAMPLE}"
            raise refused(f"the {kind} guest has {guest.frames} frames; {wanted}", predicted)
        guest.zap(ZAPPED.start, ZAPPED.end)
        reads, ways = [], []
        for frame in range(guest.frames):
            met = guest.touch(frame)
            after = guest.accept(frame) if met.event == "violation" else met
            reads.append(f"{after.byte:02x}")
            ways.append(met.event if after is met else f"{met.event}, {after.event}")
        said = max(readings, key=lambda said: _agreeing(said, reads))
        if (frame := _agreeing(said, reads)) < guest.frames:
            raise Wrong(
                f"{kind} guest, frame {frame}, which held {before[frame]}: you said {cut(said[frame], 20)}, "
                f"it reads {reads[frame]} (zap of {ZAPPED}, one leaf over all eight; frame {frame}: "
                f"{ways[frame]}).",
                _seen(Guest("eight", kind), ZAPPED.start, ZAPPED.end, "zap"),
            )
    return "the plain guest reads every byte again; the TD has lost all eight, seven of them unasked."


def _bytes_said(predicted: Any, count: int) -> list[list[str]]:
    """The ways to read `predicted` as `count` bytes, each of two digits in hex; empty if there is none.

    A number in a list is a byte, as 0x10 is; or its digits are those on the page, as in 10.
    """
    if isinstance(predicted, bytes | bytearray):
        predicted = predicted.hex()
    if isinstance(predicted, str):
        predicted = re.findall(r"[^\s,;()\[\]'\"]+", predicted)
        if len(predicted) == 1 and len(predicted[0]) == 2 * count:
            predicted = re.findall("..", predicted[0])
    said = ordered(predicted, count)
    if said is None:
        return []
    numbers = [whole(byte) for byte in said]
    as_written = [_digits(byte) if isinstance(byte, str) else shown(byte).zfill(2) for byte in said]
    as_bytes = [
        text if number is None else f"{number:02x}" for text, number in zip(as_written, numbers, strict=True)
    ]
    return [as_written, as_bytes]


def _digits(byte: str) -> str:
    """``0X1`` as ``01``."""
    return byte.strip().lower().removeprefix("0x").zfill(2)


def _agreeing(said: list[str], reads: list[str]) -> int:
    """How many bytes agree before the first that does not."""
    return next((frame for frame, byte in enumerate(reads) if said[frame] != byte), len(reads))


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
    """Every layout of three blocks of four frames, each a hole, a leaf or four 4K leaves; simplest first.

    The empty one comes last: there is nothing in it to lose.
    """
    block = _SMALL.pages(2)
    for kinds in sorted(
        product(range(3), repeat=_BLOCKS),
        key=lambda kinds: (not any(kinds), sum(map(bool, kinds)), kinds[::-1]),
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

    Afterwards no frame of the range may be mapped, and no frame outside may have been taken away, not even
    for a moment. The first failure, on the simplest layout and shortest range, is the counterexample, drawn
    as the function left it.
    """
    if not callable(convert):
        raise refused("convert is a function of a guest, a start and an end", convert)
    tried = 0
    for layout, span, kind in product(layouts(), ranges(_BLOCKS * _SMALL.pages(2)), VM_KINDS):
        tried += 1
        guest = Guest(layout, kind)
        _mark_leaves(guest.root)
        said = answer_of(convert, _handed_out(guest), span.start, span.end)
        fault = f"convert {said!r}" if isinstance(said, Raised) else _convert_fault(guest, span)
        if fault:
            _drop_new_pages(guest, span)
            case = Counterexample(left_state(guest, span.start, span.end), boundary_svg)
            guest = Guest(layout, kind)
            raise Wrong(f"{guest!r}, range {guest.names.span(span.start, span.end)}: {fault}.", case)
    return f"{tried} conversions (every range, every layout, both kinds of VM), nothing lost."


_MARK = 1 << 59
"""A bit that neither KVM nor the hardware looks at. A split hands it on to the children, and a new mapping
does not have it: a leaf that has it has been there all the time, whoever says so."""


def _mark_leaves(root: TdpMmuRoot) -> None:
    for level, rows in zip(root.nonleaf_levels, table_rows(root), strict=True):
        for table in map(root.pool.table, rows):
            for index, spte in enumerate(table):
                if is_shadow_present_pte(spte) and is_last_spte(spte, level):
                    table[index] = spte | _MARK


def _handed_out(guest: Guest) -> Guest:
    """The same VM for a submission, which may write to its memory and replace what it likes."""
    handed = copy(guest)
    handed.memory, handed.pending = dict(guest.memory), set()
    return handed


def _convert_fault(guest: Guest, span: GfnRange) -> str:
    """Say how the conversion went wrong; empty if it did not."""
    taken = "lost" if guest.kind == "TD" else "zapped"
    for gfn in range(guest.frames):
        leaf, backed = translate(guest.root, gfn), guest.host_frame(gfn) is not None
        if gfn in span and leaf:
            return f"frame {gfn} is in the range and still mapped"
        if gfn not in span and leaf and not backed:
            return f"frame {gfn} is outside the range, where nothing was mapped, and now a page is"
        if gfn not in span and backed and not (leaf and leaf.spte & _MARK):
            again = "; what is mapped there now is a new page" if leaf else ""
            return f"frame {gfn} is outside the range and was {taken}{again}"
    return ""


def _drop_new_pages(guest: Guest, span: GfnRange) -> None:
    """Take away what was mapped anew outside the range: the picture shows what became of the old pages."""
    for gfn in range(guest.frames):
        level, row, index, spte = way_down(guest.root, gfn)[-1]
        first = guest.geometry.gfn_round_for_level(gfn, level)
        new = is_shadow_present_pte(spte) and not spte & _MARK
        if new and not span.overlap(first, guest.geometry.pages(level)):
            guest.root.pool.table(row)[index] = SHADOW_NONPRESENT_VALUE
