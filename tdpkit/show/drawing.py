"""SVG by string: integer coordinates, runs instead of single entries, ids unique per picture.

A :class:`Drawing` collects shapes in the colours of one palette. Every text keeps its spaces; the picture
scales with its container (viewBox, width 100 %) and carries its own paper.
"""

from __future__ import annotations

from html import escape

from .theme import Palette

_SANS = "system-ui,Segoe UI,Helvetica,Arial,sans-serif"
_MONO = "ui-monospace,Menlo,Consolas,monospace"

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


class Drawing:
    """One picture: `width` by `height` units; `ids` prefixes every id in it (unique per instance)."""

    def __init__(self, width: int, height: int, palette: Palette, ids: str) -> None:
        self.width = width
        self.height = height
        self.palette = palette
        self.ids = ids
        self.parts: list[str] = []

    def fill(self, kind: str) -> str:
        """The fill of a kind of frame: its hatch where it has one, else its colour."""
        if kind in HATCHED:
            return f"url(#{self.ids}-{kind})"
        return self.palette.get(kind, self.palette["leaf3"])  # a toy's leaves may be larger than any on x86

    def rect(self, x: int, y: int, width: int, height: int, fill: str, stroke: str = "") -> None:
        """A box; `fill` is a CSS value (see :meth:`fill`), `stroke` a role."""
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
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{self.palette[role]}" text-anchor="{anchor}" '
            f'font-weight="{weight}" font-family="{_MONO if mono else _SANS}" style="white-space:pre">'
            f"{escape(content)}</text>"
        )

    def svg(self, title: str, description: str) -> str:
        """The whole picture; title and description are read to those who do not see it."""
        used = [kind for kind in HATCHED if any(f"url(#{self.ids}-{kind})" in part for part in self.parts)]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="100%" '
            f'role="img" aria-labelledby="{self.ids}-title {self.ids}-desc">'
            f'<title id="{self.ids}-title">{escape(title)}</title>'
            f'<desc id="{self.ids}-desc">{escape(description)}</desc>'
            f"<defs>{''.join(map(self._hatch, used))}</defs>"
            f'<rect width="{self.width}" height="{self.height}" fill="{self.palette["paper"]}"/>'
            f"{''.join(self.parts)}</svg>"
        )

    def _hatch(self, kind: str) -> str:
        marks, angle = HATCHED[kind]
        return (
            f'<pattern id="{self.ids}-{kind}" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({angle})"><rect width="6" height="6" fill="{self.palette[kind]}"/>'
            f'<path d="{marks}" fill="{self.palette[f"{kind}-mark"]}"/></pattern>'
        )
