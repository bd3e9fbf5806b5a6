"""Handles over a picture: edges to drag, boxes to press; the one piece of JavaScript of the kit.

The picture itself stays an HTML widget and needs no script. The handles lie over it, in its units; while a
pointer moves they follow it in the browser at once, and each wish comes to the kernel as a message, which is
answered by a new `state`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from .drawing import Spot, Track

_HERE = Path(__file__)


class Handles(anywidget.AnyWidget):
    """The widget. Without a picture it only names the sliders and fields of the live box around it.

    state: ``view`` (left, top, width, height in units), ``sliders`` and ``spots`` (see :func:`slider`,
    :func:`spot`), ``values`` (name to a decimal string), ``least`` (frames between start and end, at least)
    and ``answered``, the number of the last wish that is answered. ask: the reader's wish: its number ``n``,
    and ``set`` (name to a decimal string) or ``press`` (a spot's name).
    """

    _esm = _HERE.with_suffix(".js")
    _css = _HERE.with_suffix(".css")
    state = traitlets.Dict({"view": [0, 0, 1, 1], "answered": 0}).tag(sync=True)
    ask = traitlets.Dict().tag(sync=True)


def slider(
    track: Track,
    number: int,
    kind: str,
    label: str,
    text: str,
    low: int,
    high: int,
    *,
    of: str = "",
    snap: int = 1,
    step: int = 1,
    page: int = 1,
) -> dict[str, Any]:
    """What can be dragged along the track with this number, as the widget takes it.

    kind: "start", "end", "span" (the whole range) or "cursor". of: the name of its value; without, that of an
    edge is its kind, and the range's is "start".
    low, high, snap (what a pointer moves by), step and page (what keys move by) are in the values' unit.
    text: the value in words.
    """
    return {
        "name": f"{kind}:{number}",
        "kind": kind,
        "of": of or ("start" if kind == "span" else kind),
        "label": label,
        "text": text,
        "keyed": track.keyed,
        "knots": [[str(value), x] for value, x in track.knots],
        "top": track.top,
        "bottom": track.bottom,
        **{name: str(value) for name, value in zip(_NUMBERS, (low, high, snap, step, page), strict=True)},
    }


_NUMBERS = ("low", "high", "snap", "step", "page")


def spot(one: Spot) -> dict[str, Any]:
    """What can be pressed, as the widget takes it."""
    return {
        "name": one.name,
        "label": one.label,
        "box": [one.left, one.top, one.right, one.bottom],
        "chosen": one.chosen,
    }
