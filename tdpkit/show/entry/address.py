"""A guest-physical address, bit by bit: which of its bits index which table. A picture that stands still."""

from __future__ import annotations

from typing import Any, SupportsIndex

from tdpkit.engine.gfn import PAGE_SHIFT, X86_4LEVEL, Geometry, format_gfn
from tdpkit.lab.entries import AddressPath, IndexStep, address_path

from ..drawing import LEFT, RIGHT, WIDTH, Drawing, Picture
from ..theme import LIGHT, Palette, still

_TOP, _BOX, _GAP = 80, 26, 8
"""Below title and answer; height of a bit's box; between the groups of two levels."""
_WIDEST, _NAME = 26, 52
"""Width of a bit's box at most: it is square then. And of a group of them at least: "512G an entry" fits."""
_ROW, _ROW_OF_HALF = 110, 136
"""Bits, index and level of one address; with the line above that says which half of the memory it is."""


class AddressPicture:
    """One address, and beside it the same frame with the shared bit of a TD, if that is asked for."""

    def __init__(self, private: AddressPath, shared: AddressPath | None = None) -> None:
        self.private = private
        self.shared = shared

    @property
    def title(self) -> str:
        """Which address this is, in bytes."""
        levels = self.private.geometry.root_level
        return f"The address {format_gfn(self.private.gfn)}, bit by bit, under a root of level {levels}"

    @property
    def answer(self) -> str:
        """The indices, in a sentence."""
        indices = ", ".join(map(str, self.private.indices))
        said = f"Frame {self.private.gfn:#x}: index {indices} from level {self.private.steps[0].level} down."
        if self.shared:
            one, other = self.private.steps[0], self.shared.steps[0]
            said += (
                f" With the shared bit {self.shared.shared_bit}: {other.index} for {one.index} at the root."
            )
        return said

    def __repr__(self) -> str:
        lines = [
            f"bits {step.high}:{step.low}  {step.index:0{path.geometry.index_bits}b}  "
            f"level {step.level}, {step.label} an entry: index {step.index}{_half(path, self)}"
            for path in (self.private, self.shared)
            if path
            for step in path.steps
        ]
        return "\n".join([f"{self.title}. {self.answer}", *lines, _offset_line()])

    def svg(self, palette: Palette = LIGHT, ids: str = "") -> Picture:
        """The picture in the colours of `palette`; `ids` prefixes every id in it."""
        row = _ROW_OF_HALF if self.shared else _ROW
        paths = [path for path in (self.private, self.shared) if path]
        drawing = Drawing(WIDTH, _TOP + len(paths) * row, palette, ids, "ga")
        drawing.headed(self.title, self.answer)
        for number, path in enumerate(paths):
            _draw_path(drawing, path, _TOP + number * row, self)
        return drawing.svg(self.title, self.answer)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "image/svg+xml": still(self.svg())}


def take_apart(
    gfn: str | SupportsIndex, geometry: Geometry = X86_4LEVEL, *, shared: bool = False
) -> AddressPicture:
    """The bits of address `gfn` (a frame number, or text such as ``2T+4K``) under a root of `geometry`.

    shared: show the shared bit of a TD too, and the index it changes. Raises as
    :func:`tdpkit.lab.entries.address_path` does.
    """
    other = address_path(gfn, geometry, shared=True) if shared else None
    return AddressPicture(address_path(gfn, geometry), other)


def _half(path: AddressPath, picture: AddressPicture) -> str:
    if not picture.shared:
        return ""
    return " (direct root, shared)" if path.shared_bit else " (mirror root, private)"


def _offset_line() -> str:
    return f"bits {PAGE_SHIFT - 1}:0  {0:0{PAGE_SHIFT}b}  offset in the frame"


def _draw_path(drawing: Drawing, path: AddressPath, top: int, picture: AddressPicture) -> None:
    gaps = len(path.steps) * _GAP
    widest = max(_WIDEST, _NAME // path.geometry.index_bits)
    width = min((RIGHT - LEFT - gaps) // path.address_bits, widest)
    left = LEFT
    if picture.shared:
        role = "shared" if path.shared_bit else "private"
        drawing.text(left, top + 4, _half(path, picture).strip(" ()"), role, weight=600)
        top += 22
    for step in path.steps:
        size = width * path.geometry.index_bits
        _draw_index(drawing, path, step, left, top, width)
        if picture.shared:
            _mark_shared_bit(drawing, picture, path, step, (left, top, width))
        middle = left + size // 2
        drawing.text(middle, top + 66, f"{step.index}", size=20, weight=700, anchor="middle")
        drawing.text(middle, top + 84, f"level {step.level}", anchor="middle")
        drawing.text(middle, top + 98, step.label, "muted", anchor="middle")
        left += size + _GAP
    for at in range(PAGE_SHIFT):
        drawing.rect(left + at * width, top + 12, width, _BOX, drawing.palette["hole"], "line")
        drawing.text(left + at * width + width // 2, top + 30, "0", "muted", anchor="middle", mono=True)
    _number(drawing, left, top, width, PAGE_SHIFT - 1)
    _number(drawing, left + (PAGE_SHIFT - 1) * width, top, width, 0)
    middle = left + PAGE_SHIFT * width // 2
    drawing.text(middle, top + 84, "offset in the frame", anchor="middle")


def _draw_index(
    drawing: Drawing, path: AddressPath, step: IndexStep, left: int, top: int, width: int
) -> None:
    bits = path.geometry.index_bits
    fill = drawing.palette["leaf1" if step.level % 2 else "leaf2"]
    for at, digit in enumerate(f"{step.index:0{bits}b}"):
        x, weight = left + at * width, 700 if digit == "1" else 400
        drawing.rect(x, top + 12, width, _BOX, fill, "line")
        drawing.text(x + width // 2, top + 30, digit, anchor="middle", mono=True, weight=weight, size=13)
    _number(drawing, left, top, width, step.high)
    if bits > 1:
        _number(drawing, left + (bits - 1) * width, top, width, step.low)


def _mark_shared_bit(
    drawing: Drawing, picture: AddressPicture, path: AddressPath, step: IndexStep, box: tuple[int, int, int]
) -> None:
    bit = picture.shared.shared_bit if picture.shared else None
    if bit is None or not step.low <= bit <= step.high:
        return
    left, top, width = box
    x, role = left + (step.high - bit) * width, "shared" if path.shared_bit else "private"
    drawing.path(f"M{x} {top + 12} H{x + width} V{top + 12 + _BOX} H{x} Z", role, width=3)
    drawing.text(x + width // 2, top + 50, "S", role, anchor="middle", weight=700)


def _number(drawing: Drawing, left: int, top: int, width: int, bit: int) -> None:
    drawing.text(left + width // 2, top + 8, f"{bit}", "muted", anchor="middle")
