"""Cost curves: visits of plan, split and zap over the size of the range, drawn by matplotlib.

The picture is static and drawn through matplotlib's object interface, the same bytes in every run. It is SVG
with its own paper, drawn in the colours of the light theme; a page shows it as an image (see `theme.still`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from tdpkit.engine.gfn import format_gfn, parse_gfn
from tdpkit.lab.cost_curves import MAPS, Curves, cost_curves
from tdpkit.lab.strategies import CONTENDERS, Curve
from tdpkit.lab.words import group_digits

from .theme import LIGHT, still

_SIZES = ("8K", "1M", "32M", "1G", "32G", "1T")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tdpkit",
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
}


class CostCurves:
    """Four panels, one for each way in which a guest is mapped, with a line for each contender and the zap.

    mapped_by: names of MAPS. Raises InvalidValueError for an unknown one. `curves` holds the
    numbers, by name.
    """

    def __init__(self, mapped_by: Iterable[str] = tuple(MAPS)) -> None:
        self.curves = {name: cost_curves(name) for name in mapped_by}

    def __repr__(self) -> str:
        return "\n".join(map(_told, self.curves.values()))

    def figure(self) -> Figure:
        """The picture, as a matplotlib figure of its own."""
        with mpl.rc_context(_SETTINGS):
            panels = len(self.curves)
            rows, columns = -(-panels // 2), min(panels, 2)
            figure = Figure(figsize=(10, 1 + 3 * rows), facecolor=LIGHT["paper"], layout="constrained")
            first = None
            for at, curves in enumerate(self.curves.values(), start=1):
                first = axes = figure.add_subplot(rows, columns, at, sharex=first, sharey=first)
                _draw(axes, curves)
                axes.label_outer()
            figure.supxlabel("size of the range, from 2T+4K on")
            figure.supylabel("entries visited")
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
        return figure

    def svg(self) -> str:
        """The figure as SVG that scales with its container, and is read out as an image."""
        written = StringIO()
        with mpl.rc_context(_SETTINGS):
            self.figure().savefig(
                written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
            )
        body = written.getvalue()
        body = body[body.index("<svg") :]
        head, _, rest = body.partition(">")
        box = re.search(r'viewBox="[^"]*"', head)
        assert box, "matplotlib writes a viewBox"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {box[0]} '
            'width="100%" role="img" aria-labelledby="cc-title cc-desc">'
            '<title id="cc-title">Entries visited, by size of the range</title>'
            f'<desc id="cc-desc">{escape(repr(self))}</desc>{rest}'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "image/svg+xml": still(self.svg())}


def curve_of(contender: str) -> Curve:
    """How the line of a contender is drawn, and what the legend calls it."""
    curve = CONTENDERS[contender].curve
    assert curve, "a contender has a curve"
    return curve


def _draw(axes: Axes, curves: Curves) -> None:
    sizes = curves.sizes
    axes.plot(sizes, curves.zap, color=LIGHT["line"], linewidth=6, alpha=0.5, label="the zap that follows")
    for name, visits in curves.split.items():
        curve = curve_of(name)
        look: dict[str, Any] = {"color": LIGHT[curve.role], "linestyle": curve.dash, "linewidth": curve.width}
        axes.plot(sizes, visits, label=f"split: {curve.label}", **look)
    axes.set_title(_named(curves), loc="left", fontsize=11, fontweight="bold")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(0.1, 3e10)
    axes.xaxis.set_major_locator(FixedLocator([parse_gfn(tick) for tick in _SIZES]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(FixedLocator([10**power for power in range(0, 11, 2)]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(_SIZES)
    axes.grid(True, color=LIGHT["grid"], linewidth=0.6)
    at = curves.crossover("one_block_per_edge")
    if at is not None:
        height = curves.split["walk_v3"][sizes.index(at)]
        axes.plot(
            [at], [height], marker="o", color=LIGHT["bad"], markerfacecolor=LIGHT["paper"], markersize=7
        )
        left = at > parse_gfn("32G")  # no room to the right of it
        axes.annotate(
            f"v3 visits more from {format_gfn(at)} on",
            (at, height),
            xytext=(-4, 12) if left else (8, -18),
            ha="right" if left else "left",
            textcoords="offset points",
            fontsize=9,
            color=LIGHT["bad"],
        )


def _named(curves: Curves) -> str:
    return f"mapped by {curves.mapped_by}" if curves.mapped_by != "nothing" else "nothing mapped"


def _told(curves: Curves) -> str:
    """The last point of each line, and where v3 is overtaken, in words."""
    lines = ((curve_of(name).label, visits[-1]) for name, visits in curves.split.items())
    last = ", ".join(f"{label} {group_digits(visits)}" for label, visits in lines)
    at = curves.crossover("one_block_per_edge")
    from_on = (
        f"v3 visits more than one block per edge from {format_gfn(at)} on" if at else "v3 never visits more"
    )
    size, zap = format_gfn(curves.sizes[-1]), group_digits(curves.zap[-1])
    return f"{_named(curves)}, {size}: {last}; the zap visits {zap}; {from_on}"
