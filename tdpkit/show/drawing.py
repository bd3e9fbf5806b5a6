"""SVG by string: integer coordinates, runs instead of single entries, ids unique per picture.

A :class:`Drawing` collects shapes in the colours of one palette. Every text keeps its spaces; the picture
scales with its container (viewBox, width 100 %) and carries its own paper. All pictures are of one width and
begin alike: a title, and below it the answer in as many lines as it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import ceil
from zlib import crc32

from .theme import Palette

WIDTH, LEFT, RIGHT = 1000, 24, 976
"""Units of every picture: JupyterLab's cell is about 1000 px wide beside the file browser at 1400 px."""
LINE = 18
"""From one line of text to the next: 13 units of text and a little air."""

_SANS = "system-ui,Segoe UI,Helvetica,Arial,sans-serif"
_MONO_FONT = "ui-monospace,Menlo,Consolas,monospace"

HATCHED = {
    "crossing": ("M0 0 H3 V6 H0 Z", 45),
    "split": ("M0 0 H1 V6 H0 Z", 0),
    "zapped": ("M0 0 H6 V1 H0 Z M0 0 H1 V6 H0 Z", 45),
    "lost": ("M0 0 H2 V6 H0 Z", -45),
    "refaulted": ("M1 1 H4 V4 H1 Z", 0),
    "pending": ("M2 2 H4 V4 H2 Z", 45),
    "blocked": ("M0 0 H6 V2 H0 Z", 0),
    "pending-blocked": ("M0 0 H6 V2 H0 Z M2 3 H4 V5 H2 Z", 0),
}
"""Kinds with a hatch: its marks in a cell of 6 by 6, and the angle the cell is turned by."""


_EMS = {
    letter: ems
    for letters, ems in (
        ("ijlI|'` .,:;·’", (0.32, 0.38)),
        ('ftr()[]{}-/\\"!‹›_', (0.41, 0.50)),
        ("+=<>~≠≤≥→←×✓✗❄#", (0.85, 0.85)),
        ("wmMW%@…", (0.94, 1.06)),
    )
    for letter in letters
}
_CAPITAL, _DIGIT, _LETTER = (0.72, 0.80), (0.64, 0.70), (0.61, 0.70)
_MONO = 0.602
"""Widths of letters by their size, regular and bold: those of DejaVu Sans, which Chromium takes on Debian, in
classes; other fonts are narrower."""


def text_width(content: str, size: int = 12, *, weight: int = 400, mono: bool = False) -> int:
    """Units that `content` takes, rounded up: within a tenth of what Chromium measures (tests/browser)."""
    if mono:
        return ceil(_MONO * len(content) * size)
    bold = weight >= 600
    return ceil(sum(_ems(letter)[bold] for letter in content) * size)


def _ems(letter: str) -> tuple[float, float]:
    if letter in _EMS:
        return _EMS[letter]
    return _CAPITAL if letter.isupper() else _DIGIT if letter.isdigit() else _LETTER


def wrap(
    content: str, width: int = RIGHT - LEFT, size: int = 13, *, weight: int = 600, mono: bool = False
) -> list[str]:
    """`content` in lines of at most `width` units, broken at spaces; a longer word has a line of its own."""

    def lines() -> Iterator[str]:
        line = ""
        for word in content.split():
            longer = f"{line} {word}" if line else word
            if line and text_width(longer, size, weight=weight, mono=mono) > width:
                yield line
                line = word
            else:
                line = longer
        if line:
            yield line

    return [*lines()]


_OWN_IDS = "\0"
"""Stands for the prefix of a picture's ids until all of it is drawn; no text can hold it."""


class Drawing:
    """One picture: `width` by `height` units; `ids` prefixes every id in it (unique per instance).

    Without `ids` they follow from what is drawn, after `prefix`: different pictures on one page share none,
    and the two themes of one picture have the same.
    """

    def __init__(self, width: int, height: int, palette: Palette, ids: str = "", prefix: str = "x") -> None:
        self.width = width
        self.height = height
        self.palette = palette
        self.ids = ids or _OWN_IDS
        self.prefix = prefix
        self.parts: list[str] = []
        self._drawn = crc32(f"{width} {height}".encode())

    def headed(self, title: str, answer: str, role: str = "ink") -> int:
        """Draw the title and, in the colour of `role`, the answer; the y of the last line of it."""
        self.text(LEFT, 32, title, size=18, weight=700)
        y = 56
        for number, text in enumerate(wrap(answer)):
            y = 56 + LINE * number
            self.text(LEFT, y, text, role, size=13, weight=600)
        return y

    def _saw(self, *what: object) -> None:
        self._drawn = crc32(repr(what).encode(), self._drawn)

    def fill(self, kind: str) -> str:
        """The fill of a kind of frame: its hatch where it has one, else its colour."""
        if kind in HATCHED:
            return f"url(#{self.ids}-{kind})"
        return self.palette.get(kind, self.palette["leaf3"])  # a toy's leaves may be larger than any on x86

    def rect(self, x: int, y: int, width: int, height: int, fill: str, stroke: str = "") -> None:
        """A box; `fill` is a CSS value (see :meth:`fill`), `stroke` a role."""
        self._saw(x, y, width, height, stroke, fill if fill.startswith("url") else "")
        line = f' stroke="{self.palette[stroke]}"' if stroke else ""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"{line}/>')

    def path(
        self,
        d: str,
        stroke: str = "",
        *,
        fill: str = "none",
        width: int = 1,
        opacity: str = "",
        dash: str = "",
    ) -> None:
        """A path; `stroke` and `fill` are roles (or "none"), `dash` lengths drawn and left out in turn."""
        self._saw(d, stroke, fill)
        attributes = f' fill="{self.palette.get(fill, fill)}"'
        if stroke:
            attributes += f' stroke="{self.palette[stroke]}" stroke-width="{width}"'
        if opacity:
            attributes += f' fill-opacity="{opacity}"'
        if dash:
            attributes += f' stroke-dasharray="{dash}"'
        self.parts.append(f'<path d="{d}"{attributes}/>')

    def circle(self, x: int, y: int, radius: int, fill: str, stroke: str = "") -> None:
        """A disc around (x, y); `fill` and `stroke` are roles."""
        self._saw(x, y, radius, fill, stroke)
        line = f' stroke="{self.palette[stroke]}"' if stroke else ""
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{self.palette[fill]}"{line}/>')

    def text(
        self,
        x: int,
        y: int,
        content: str,
        role: str = "ink",
        *,
        size: int = 12,
        anchor: str = "start",
        weight: int = 400,
        mono: bool = False,
    ) -> None:
        """A line of text in the colour of `role`."""
        self._saw(x, y, content, role)
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{self.palette[role]}" text-anchor="{anchor}" '
            f'font-weight="{weight}" font-family="{_MONO_FONT if mono else _SANS}" style="white-space:pre">'
            f"{escape(content)}</text>"
        )

    def svg(self, title: str, description: str) -> str:
        """The whole picture; title and description are read to those who do not see it."""
        self._saw(title, description)
        used = [kind for kind in HATCHED if any(f"url(#{self.ids}-{kind})" in part for part in self.parts)]
        markup = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="100%" '
            f'role="img" aria-labelledby="{self.ids}-title {self.ids}-desc">'
            f'<title id="{self.ids}-title">{escape(title)}</title>'
            f'<desc id="{self.ids}-desc">{escape(description)}</desc>'
            f"<defs>{''.join(map(self._hatch, used))}</defs>"
            f'<rect width="{self.width}" height="{self.height}" fill="{self.palette["paper"]}"/>'
            f"{''.join(self.parts)}</svg>"
        )
        return markup.replace(_OWN_IDS, f"{self.prefix}-{self._drawn:08x}")

    def _hatch(self, kind: str) -> str:
        marks, angle = HATCHED[kind]
        return (
            f'<pattern id="{self.ids}-{kind}" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({angle})"><rect width="6" height="6" fill="{self.palette[kind]}"/>'
            f'<path d="{marks}" fill="{self.palette[f"{kind}-mark"]}"/></pattern>'
        )
