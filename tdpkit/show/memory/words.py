"""What the marks of a memory strip are called."""

from __future__ import annotations

from collections.abc import Iterator

from tdpkit.engine.gfn import format_gfn

from .state import MemoryState

_NAMES = {
    "hole": "not mapped",
    "crossing": "at stake",
    "split": "made by the split",
    "zapped": "zapped",
    "lost": "lost",
    "refaulted": "to re-fault",
    "pending": "pending",
    "blocked": "blocked",
    "pending-blocked": "pending, blocked",
}


def legend(state: MemoryState) -> list[tuple[str, str]]:
    """(kind, name) of each kind of cell that occurs; where bytes are shown, a leaf is seen to be one."""
    return [
        (kind, name)
        for kind, name in (*_leaf_names(state), *_NAMES.items())
        if any(cell.kind == kind for cell in state.cells)
    ]


def _leaf_names(state: MemoryState) -> Iterator[tuple[str, str]]:
    for level in range(state.geometry.max_leaf_level, 0, -1) if not state.leaves else ():
        yield f"leaf{level}", f"{format_gfn(state.geometry.pages(level))} leaves"
