"""Pictures for what cells return: IPython shows a strip of memory beside the words of a guest.

The lab knows nothing of it. :func:`register` tells a shell which classes have a picture, by their names
alone: what draws them is imported when the first of them is displayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

Draw = Callable[[Any, Mapping[str, str]], tuple[str, str] | None]
"""From an object and a palette to text and SVG."""


def memory(shown: Any, palette: Mapping[str, str]) -> tuple[str, str] | None:
    """The frames of a guest or a TD, or of a guest after what `shown` tells; None where there is no room."""
    from tdpkit.show.memory import memory_state, memory_svg

    state = memory_state(shown)
    return state and (state.said, memory_svg(state, palette))


def explorer(shown: Any, palette: Mapping[str, str]) -> tuple[str, str]:
    """What the boundary explorer shows, without its controls."""
    from tdpkit.show.boundary.picture import boundary_svg

    return repr(shown), boundary_svg(shown.state, palette)


SHOWN: dict[tuple[str, str], Draw] = {
    ("tdpkit.lab.guest", "Guest"): memory,
    ("tdpkit.lab.guest", "GuestOutcome"): memory,
    ("tdpkit.lab.guest", "Touch"): memory,
    ("tdpkit.lab.lost_pages", "LostPages"): memory,
    ("tdpkit.lab.td", "Td"): memory,
    ("tdpkit.show.boundary.picture", "BoundaryPicture"): explorer,
}
"""What draws which class, by its module and name."""


def register(shell: Any) -> None:
    """Let `shell`, an InteractiveShell of IPython, display what is SHOWN as a picture."""
    formatter = shell.display_formatter.mimebundle_formatter
    for (module, name), draw in SHOWN.items():
        formatter.for_type_by_name(module, name, partial(bundle, draw))


def bundle(draw: Draw, shown: Any) -> dict[str, str]:
    """Text and picture as a page takes them; nothing, hence the usual text, where nothing is drawn."""
    from tdpkit.show.theme import LIGHT, still

    text, svg = draw(shown, LIGHT) or ("", "")
    return {"text/plain": text, "image/svg+xml": still(svg)} if svg else {}
