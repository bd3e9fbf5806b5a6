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
    """Frames [first, last); drawn `width` wide, `before` from the left end, in relation to the others."""

    first: int
    last: int
    before: int
    width: int
    is_gap: bool


class Axis(NamedTuple):
    """Stretches side by side, in order."""

    stretches: tuple[Stretch, ...]
    windows: tuple[GfnRange, ...]
    """The frames in sight, in one part or two."""
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
    def points(self) -> list[int]:
        """Where stretches begin and end."""
        return [self.first, *(stretch.last for stretch in self.stretches)]

    def x(self, frame: int, left: int, right: int) -> int:
        """Where `frame` is on the axis drawn from `left` to `right`; what lies beyond is at its ends."""
        end = self.stretches[-1]
        for first, last, before, width, _ in self.stretches:
            if frame < last:
                frames, at = last - first, max(0, frame - first)
                place = (right - left) * (before * frames + width * at)
                return left + place // ((end.before + end.width) * frames)
        return right

    def in_sight(self, frame: int) -> bool:
        """`frame`, as a border, is a place on the axis: neither beyond it nor in the gap."""
        return any(window.start <= frame <= window.end for window in self.windows)


def axis_for(geometry: Geometry, frames: int, span: GfnRange) -> Axis:
    """The axis on which all of a race for `span` is drawn, in a machine of `frames` frames."""
    if frames <= _WHOLE_FRAMES:
        return Axis((Stretch(0, frames, 0, 1, False),), (GfnRange(0, frames),), True)
    starts, ends = (_around(edge, geometry, frames) for edge in (span.start, span.end))
    is_cut = ends[0] - starts[-1] > geometry.pages(geometry.max_leaf_level)
    stretches: list[Stretch] = []
    before = 0
    for first, last in pairwise(sorted({*starts, *ends})):
        is_gap = is_cut and first == starts[-1]
        width = _GAP if is_gap else _LEAST + (last - first).bit_length()
        stretches.append(Stretch(first, last, before, width, is_gap))
        before += width
    seen = [(starts[0], starts[-1]), (ends[0], ends[-1])] if is_cut else [(starts[0], stretches[-1].last)]
    return Axis(tuple(stretches), tuple(GfnRange(*window) for window in seen), False)


def _around(edge: int, geometry: Geometry, frames: int) -> list[int]:
    """The borders of the blocks before and after `edge`, of every size; of the smallest the next one too."""
    points = {edge}
    for level in range(PG_LEVEL_4K + 1, geometry.max_leaf_level + 1):
        pages = geometry.pages(level)
        points |= {edge - 1 & -pages, (edge & -pages) + pages}
    pages = geometry.pages(PG_LEVEL_4K + 1)
    points |= {(edge & -pages) + 2 * pages, min(points) - pages, max(points) + pages}
    return sorted({min(max(point, 0), frames) for point in points})
