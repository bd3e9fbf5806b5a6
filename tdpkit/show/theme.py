"""Colours by role, for light and dark pages.

A picture names roles, never colours. Each kind of frame has a fill, and each that must not be taken for
another has a hatch besides (tdpkit.show.drawing.HATCHED). A test computes the contrasts: text on paper 4.5:1
and more, each shape or its outline 3:1 and more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Palette = Mapping[str, str]
"""Role name to CSS colour."""

_ROLES = {
    # What pictures are made of: greys, so that colour is left for what frames are.
    "paper": ("#ffffff", "#14171a"),  # the ground, near JupyterLab's own
    "ink": ("#1b1f24", "#e8ecf0"),  # what matters now
    "muted": ("#56606b", "#a9b3be"),  # captions and notes: still read at 4.5:1
    "line": ("#6b7682", "#8793a0"),  # outlines of boxes
    "grid": ("#c9d1d9", "#3a424b"),  # rules between rows, and what is to come: seen only if looked for
    # Leaves in blue, the larger the further from paper: their size is told in light and dark alike.
    "leaf3": ("#2b6cb0", "#5b9bd8"),
    "leaf2": ("#7fb3e0", "#35638f"),
    "leaf1": ("#cfe6f7", "#223b52"),
    "table": ("#ffffff", "#14171a"),  # as paper: what it holds is drawn below it
    "hole": ("#eef1f4", "#23282e"),  # all but paper: nothing is there
    "unknown": ("#ffffff", "#14171a"),  # paper, and grey lines as on a map: nobody has told
    "unknown-mark": ("#6b7682", "#8793a0"),
    # What an operation is asked for, and what becomes of frames: a pale fill, and marks of the same hue.
    "range": ("#14694a", "#4cc79a"),  # green, as what is right: the range is what one asked for
    "crossing": ("#f0b429", "#8a5d00"),  # amber, the strongest fill: nothing is wrong yet, and will be
    "crossing-mark": ("#6b4300", "#ffcf5c"),
    "split": ("#d8efe4", "#173d2f"),  # green: made so that nothing is lost
    "split-mark": ("#14694a", "#4cc79a"),
    "zapped": ("#e3e6ea", "#2a3037"),  # grey: gone, as asked
    "zapped-mark": ("#56606b", "#a9b3be"),
    "lost": ("#f6c9d0", "#54202b"),  # red: gone, and not asked
    "lost-mark": ("#a81e37", "#ff8b9d"),
    "refaulted": ("#e3dbf6", "#382c59"),  # violet: not asked either, and yet no loss
    "refaulted-mark": ("#5b3fa8", "#c3aefa"),
    # States of the S-EPT besides present and free.
    "pending": ("#cdebee", "#123a40"),  # teal, beside the leaves' blue: mapped, but not accepted
    "pending-mark": ("#0b6470", "#5fd0da"),
    "blocked": ("#f6dfb8", "#4a3510"),  # near the amber of crossing: about to be changed
    "blocked-mark": ("#7a4a00", "#ffc766"),
    "pending-blocked": ("#f6dfb8", "#4a3510"),  # the ground of the one, the marks of the other
    "pending-blocked-mark": ("#0b6470", "#5fd0da"),
    # The halves of a TD's memory, in words and lines.
    "shared": ("#8a5a00", "#e0b55f"),
    "private": ("#1f4f8a", "#7db4f0"),
    # Verdicts, in words and signs.
    "bad": ("#a81e37", "#ff8b9d"),
    "good": ("#14694a", "#4cc79a"),
}
LIGHT: Palette = {role: light for role, (light, _) in _ROLES.items()}
DARK: Palette = {role: dark for role, (_, dark) in _ROLES.items()}
LIVE: Palette = {role: f"var(--tdp-{role}, {colour})" for role, colour in LIGHT.items()}
"""For markup inside a page: follows the page's theme through LIVE_STYLE, light where there is none."""

_dark = "".join(f"--tdp-{role}:{colour};" for role, colour in DARK.items())
LIVE_BOX = "tdpkit-live"
"""The class of what is live on a page; the cell's next output is its still."""
_after_live = ",".join(
    f"{output}:has(>{inside}.{LIVE_BOX})+{output}"
    for output, inside in (
        (".jp-OutputArea-child", ".jp-OutputArea-output>"),  # JupyterLab, Notebook, Voilà, nbconvert
        (".output_container", ".output "),  # VS Code
    )
)
TURNS, TURNING = "tdp-turns", "tdp-turning"
"""Classes: of parts of a picture that turn up one by one, and of the page's box in which they do so now."""
LIVE_STYLE = f"""<style>
[data-jp-theme-light="false"] .tdpkit,.vscode-dark .tdpkit{{{_dark}}}
[data-jp-theme-light="false"] .jp-RenderedSVG img{{color-scheme:dark}}
{_after_live}{{display:none}}
.{LIVE_BOX}{{max-width:1100px;width:100%}}
.{LIVE_BOX}.widget-vbox>*{{margin-left:0;margin-right:0}}
.{LIVE_BOX} .widget-html-content{{min-width:0;line-height:normal}}
.tdpkit-title{{font-weight:700;font-size:16px;color:{LIVE["ink"]}}}
.tdpkit-answer{{font-weight:600;font-size:13px;line-height:18px;min-height:36px;color:{LIVE["ink"]}}}
.tdpkit-stage.widget-box{{display:grid;grid-template-columns:1fr;overflow:auto hidden}}
.tdpkit-stage>*{{grid-area:1/1;width:auto;margin:0}}
.{LIVE_BOX} [aria-pressed=true]{{box-shadow:inset 0 -3px {LIVE["range"]};font-weight:700}}
@media (forced-colors:active){{
.{LIVE_BOX} [aria-pressed=true]{{outline:2px solid Highlight;outline-offset:-2px}}}}
.{TURNING} .{TURNS}{{animation:tdp-turn 100ms backwards;transform-box:fill-box;transform-origin:center}}
@keyframes tdp-turn{{from{{transform:scaleY(0)}}}}
@media (prefers-reduced-motion:reduce){{
.{TURNS}{{animation:none!important}}.{LIVE_BOX} .widget-play{{display:none}}}}
</style>"""
"""One per exhibit. JupyterLab marks its dark themes on the page's body, VS Code too. A picture that is wider
than the page is scrolled by itself, and the handles lie over it. Stills are told of a dark theme as well, for
Voilà does not set the page's colour scheme; and where the live view is, its still is not needed."""

_dark_of = dict(zip(LIGHT.values(), DARK.values(), strict=True))
_COLOUR = re.compile(r'(fill|stroke)(="|: )(#[0-9a-f]{6})')
"""A colour of a shape, as an attribute or (matplotlib's way) in its style."""


def still(svg: str) -> str:
    """`svg`, drawn in LIGHT, as a picture that is dark on a dark page, wherever it is an image of its own.

    An image takes the colour scheme of the page that shows it. Its colours stay as they are written, for
    programs that know no style sheets; inside a page's own markup the rules match nothing.
    """
    rules = [
        f'svg:root [{name}="{light}"]{{{name}:{_dark_of[light]}}}'
        if sign == '="'
        else f'svg:root [style*="{name}: {light}"]{{{name}:{_dark_of[light]}!important}}'
        for name, sign, light in sorted(set(_COLOUR.findall(svg)))
        if light in _dark_of
    ]
    style = f"<style>@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    return f"{svg.rstrip().removesuffix('</svg>')}{style}</svg>"


def contrast(one: str, other: str) -> float:
    """The WCAG contrast ratio of two colours ``#rrggbb``, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
