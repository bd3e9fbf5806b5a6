"""The entry decoder's state: an entry, and the child of its split that is in view."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.lab.entries import Child, Entry, check_index, child_of, why_childless


class EntryState(NamedTuple):
    """All that the picture, the text and the table are made from."""

    entry: Entry
    child: Child | None
    """None where a split passes the entry by."""
    exec_allowed: bool
    nx_huge_pages: bool
    note: str
    """Where the entry came from, or how its layout was guessed: a sentence a line; or nothing."""


def entry_state(
    entry: Entry,
    index: int = 0,
    *,
    exec_allowed: bool = True,
    nx_huge_pages: bool = False,
    note: str = "",
) -> EntryState:
    """`entry`, and child `index` of its split where it has children.

    Raises InvalidTypeError or InvalidValueError for an index that a table does not have.
    """
    number = check_index(index, entry.geometry)
    child = None
    if not why_childless(entry):
        child = child_of(entry, number, exec_allowed=exec_allowed, nx_huge_pages=nx_huge_pages)
    return EntryState(entry, child, exec_allowed, nx_huge_pages, note)
