"""One axis for all rows of the race: both edges large enough to see, however far they lie apart.

Small machines are drawn whole and to scale. Elsewhere the axis is stretched: its points are the borders of
the blocks around each edge, and what lies between two points is the wider the more frames it has, but only as
their logarithm. What lies between the two neighbourhoods is cut out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, GfnRange

_WHOLE_FRAMES = 64
_LEAST = 8
"""Width of a stretch beyond the logarithm of its frames, so that a single frame can be seen."""
_GAP = 18


class Stretch(NamedTuple):
    """Frames [first, last) and how wide they are drawn, in relation to the others."""

    first: int
    last: int
    width: int
    is_gap: bool


class Axis(NamedTuple):
    """Stretches side by side, in order."""

    stretches: tuple[Stretch, ...]
    is_whole: bool
    """The machine from end to end, to scale."""

    @property
    def first(self) -> int:
        """The first frame."""
        return self.stretches[0].first

    @property
    def last(self) -> int:
        """The first frame beyond."""
        return self.stretches[-1].last

    @property
    def windows(self) -> list[GfnRange]:
        """The frames in sight, in one part or two."""
        windows: list[GfnRange] = []
        for first, last, _, is_gap in self.stretches:
            if not is_gap:
                joined = windows and windows[-1].end == first
                first = windows.pop().start if joined else first
                windows.append(GfnRange(first, last))
        return windows

    @property
    def points(self) -> list[int]:
        """Where stretches begin and end."""
        return [self.first, *(stretch.last for stretch in self.stretches)]

    def x(self, frame: int, left: int, right: int) -> int:
        """Where `frame` is on the axis drawn from `left` to `right`; what lies beyond is at its ends."""
        whole = sum(stretch.width for stretch in self.stretches)
        before = 0
        for first, last, width, _ in self.stretches:
            if frame < last:
                part = width * max(0, frame - first)
                return left + (right - left) * (before * (last - first) + part) // (whole * (last - first))
            before += width
        return right

    def in_sight(self, frame: int) -> bool:
        """`frame`, as a border, is a place on the axis: neither beyond it nor in the gap."""
        return any(window.start <= frame <= window.end for window in self.windows)


def axis_for(geometry: Geometry, frames: int, span: GfnRange) -> Axis:
    """The axis on which all of a race for `span` is drawn, in a machine of `frames` frames."""
    if frames <= _WHOLE_FRAMES:
        return Axis((Stretch(0, frames, 1, False),), True)
    sets = [_around(edge, geometry, frames) for edge in (span.start, span.end)]
    (_, *_, last), (first, *_) = sets
    cut = first - last > geometry.pages(geometry.max_leaf_level)
    points = sorted({*sets[0], *sets[1]})
    return Axis(
        tuple(
            Stretch(low, high, _GAP, True)
            if cut and low == last
            else Stretch(low, high, _LEAST + (high - low).bit_length(), False)
            for low, high in pairwise(points)
        ),
        False,
    )


def _around(edge: int, geometry: Geometry, frames: int) -> list[int]:
    """The borders of the blocks before and after `edge`, of every size; of the smallest the next one too."""
    points = {edge}
    for level in range(PG_LEVEL_4K + 1, geometry.max_leaf_level + 1):
        pages = geometry.pages(level)
        points |= {edge - 1 & -pages, (edge & -pages) + pages}
    pages = geometry.pages(PG_LEVEL_4K + 1)
    points |= {(edge & -pages) + 2 * pages, min(points) - pages, max(points) + pages}
    return sorted({min(max(point, 0), frames) for point in points})
