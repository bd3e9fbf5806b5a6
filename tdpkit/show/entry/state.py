"""The entry decoder's state: an entry, the child of its split that is in view, and the words for both."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.lab.entries import Child, Entry, check_index, child_of, why_childless

from .words import answer, child_caption, nx_note, title


class EntryState(NamedTuple):
    """All that the picture and the text show."""

    entry: Entry
    child: Child | None
    title: str
    answer: str
    role: str
    """How the answer is to be taken: "ink", or "bad" for an entry that no kernel would hold."""
    note: str
    """Where the entry came from, or nothing."""
    caption: str
    """Which child this is and what changed, or why there is none."""
    rule: str
    """What the NX-huge-page rule had to say about the child, or nothing."""


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
    child, rule, why = None, "", why_childless(entry)
    caption = f"No children: {why}."
    if not why:
        child = child_of(entry, number, exec_allowed=exec_allowed, nx_huge_pages=nx_huge_pages)
        caption = child_caption(entry, child)
        rule = nx_note(entry, child, exec_allowed=exec_allowed, nx_huge_pages=nx_huge_pages)
    return EntryState(
        entry=entry,
        child=child,
        title=title(entry),
        answer=answer(entry),
        role="bad" if entry.flaws else "ink",
        note=note,
        caption=caption,
        rule=rule,
    )
