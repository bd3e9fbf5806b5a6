"""One change of an entry, as a trace tells it, and what kind of change it was."""

from __future__ import annotations

from typing import NamedTuple

from .events import Where

ABSENT = ("non-present", "frozen")
"""Kinds of an entry that holds nothing."""
_AFTER = {
    "table": {"none": "remove", "table": "bits", "leaf": "replace", "mmio": "remove"},
    "leaf": {"none": "zap", "table": "split", "leaf": "bits", "mmio": "zap"},
    "mmio": {"none": "mmio gone", "table": "link", "leaf": "map", "mmio": "mmio"},
    "none": {"none": "none", "table": "link", "leaf": "map", "mmio": "mmio"},
}


def _kinds(name: str) -> tuple[str, ...]:
    return ABSENT if name == "none" else (name,)


WHAT = {
    (kind, other): what
    for before, names in _AFTER.items()
    for after, what in names.items()
    for kind in _kinds(before)
    for other in _kinds(after)
}
"""What a change is called, by the kinds of entry before and after."""


class Mapped(NamedTuple):
    """A leaf: `pages` frames from `gfn` on, on host frames from `pfn` on."""

    gfn: int
    pages: int
    pfn: int


class Change(NamedTuple):
    """An entry of `level`, for frames from `gfn` on, went from `old` to `new`.

    what: "link" (nothing to a table), "map" (to a leaf), "mmio", "split" (leaf to table), "zap" (leaf to
    nothing), "remove" (table to nothing), "replace" (table to leaf), "bits" (same place, other bits), "remap"
    (a leaf on another frame), "mmio gone", "none", or "listed": the entry was in a table that is gone, and
    its line names what it held. via: level and gfn of the entry that was changed: for "listed" the table's.
    root: which of the trees of this address space, from 0.
    """

    where: Where
    what: str
    as_id: int
    root: int
    level: int
    gfn: int
    old: int
    new: int
    is_leaf: bool
    """`new` is a leaf."""
    via: tuple[int, int]
