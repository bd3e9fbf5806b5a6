"""How a live thing is displayed: its view, and after it a picture or text for pages without its kernel.

These are two outputs of a cell, not one with two faces. Of the faces of one, a page takes the live view even
when the kernel is gone or there are no widgets, and shows an error or nothing. Here the second output is
always there; where the view lives, LIVE_STYLE hides the second.
"""

from __future__ import annotations

from typing import Any

import ipywidgets
from IPython.display import display

from .theme import LIVE_BOX


def display_live(box: ipywidgets.Box, still: dict[str, Any]) -> None:
    """Display `box`, which must hold LIVE_STYLE, and `still`, its data by MIME type, for where it cannot be.

    The box's own words (`VBox(children=(...`) say nothing to a reader and are left out.
    """
    box.add_class(LIVE_BOX)
    view = {kind: data for kind, data in box._repr_mimebundle_().items() if kind != "text/plain"}
    for data in (view, still):
        display(data, raw=True)  # type: ignore[no-untyped-call]
