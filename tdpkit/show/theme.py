"""Colours by role, for light and dark, and the one way a shape says the same without colour.

Each role of a frame has a fill, and each that matters has a hatch or a glyph besides (`markup.hatches`).
Contrast is computed by a test: text on paper 4.5:1 and more, each shape or its outline 3:1 and more.
"""

from __future__ import annotations

from collections.abc import Mapping

Palette = Mapping[str, str]
"""Role name to CSS colour."""

LIGHT: Palette = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#56606b",
    "line": "#6b7682",
    "grid": "#c9d1d9",
    "leaf3": "#2b6cb0",
    "leaf2": "#7fb3e0",
    "leaf1": "#cfe6f7",
    "table": "#ffffff",
    "hole": "#eef1f4",
    "range": "#14694a",
    "crossing": "#f0b429",
    "crossing-mark": "#6b4300",
    "split": "#d8efe4",
    "split-mark": "#14694a",
    "zapped": "#e3e6ea",
    "zapped-mark": "#56606b",
    "lost": "#f6c9d0",
    "lost-mark": "#a81e37",
    "refaulted": "#e3dbf6",
    "refaulted-mark": "#5b3fa8",
    "pending": "#cdebee",
    "pending-mark": "#0b6470",
    "blocked": "#f6dfb8",
    "blocked-mark": "#7a4a00",
    "pending-blocked": "#f6dfb8",
    "pending-blocked-mark": "#0b6470",
    "shared": "#8a5a00",
    "private": "#1f4f8a",
    "bad": "#a81e37",
    "good": "#14694a",
}

DARK: Palette = {
    "paper": "#14171a",
    "ink": "#e8ecf0",
    "muted": "#a9b3be",
    "line": "#8793a0",
    "grid": "#3a424b",
    "leaf3": "#5b9bd8",
    "leaf2": "#35638f",
    "leaf1": "#223b52",
    "table": "#14171a",
    "hole": "#23282e",
    "range": "#4cc79a",
    "crossing": "#8a5d00",
    "crossing-mark": "#ffcf5c",
    "split": "#173d2f",
    "split-mark": "#4cc79a",
    "zapped": "#2a3037",
    "zapped-mark": "#a9b3be",
    "lost": "#54202b",
    "lost-mark": "#ff8b9d",
    "refaulted": "#382c59",
    "refaulted-mark": "#c3aefa",
    "pending": "#123a40",
    "pending-mark": "#5fd0da",
    "blocked": "#4a3510",
    "blocked-mark": "#ffc766",
    "pending-blocked": "#4a3510",
    "pending-blocked-mark": "#5fd0da",
    "shared": "#e0b55f",
    "private": "#7db4f0",
    "bad": "#ff8b9d",
    "good": "#4cc79a",
}

LIVE: Palette = {role: f"var(--tdp-{role}, {colour})" for role, colour in LIGHT.items()}
"""For markup inside a page: follows the page's theme through LIVE_STYLE, light where there is none."""

_dark = "".join(f"--tdp-{role}:{colour};" for role, colour in DARK.items())
LIVE_STYLE = f'<style>[data-jp-theme-light="false"] .tdpkit,.vscode-dark .tdpkit{{{_dark}}}</style>'
"""One per exhibit: JupyterLab marks its dark themes on the page's body, VS Code too."""


def contrast(one: str, other: str) -> float:
    """The WCAG contrast ratio of two colours ``#rrggbb``, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
