"""What the entry decoder says of its state, and of the place where an entry was picked."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, format_gfn, name_gfn
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK
from tdpkit.lab.entries import Child, Entry, Found, bit_numbers, say_entry, why_childless
from tdpkit.lab.spte_layouts import EPT_7_2
from tdpkit.lab.words import listed

from .state import EntryState

READERS = {"frame": "the frame", "CPU": "read by the CPU", "KVM": "KVM's own", "": "not used"}
"""Who reads a field, in the legend's words and order."""


class EntryWords(NamedTuple):
    """All that is said of one state."""

    title: str
    answer: str
    role: str
    """The answer's colour: "ink", or "bad" for an entry that no kernel would hold."""
    below: tuple[tuple[str, str], ...]
    """(text, role) of the lines under the answer: each flaw of the entry, then where it came from."""
    caption: str
    """Which child is in view and what changed, or why there is none."""
    rule: str
    """What the NX-huge-page rule had to say about the child, or nothing."""


def entry_words(state: EntryState) -> EntryWords:
    """Put `state` into words."""
    entry, child = state.entry, state.child
    flaws = [(f"✗ {flaw}", "bad") for flaw in entry.flaws]
    return EntryWords(
        title=f"{entry.spte:#018x} at level {entry.level} ({entry.label} per entry){_layout(entry)}",
        answer=say_entry(entry),
        role="bad" if entry.flaws else "ink",
        below=(*flaws, *((line, "muted") for line in state.note.splitlines())),
        caption=_child_caption(entry, child) if child else f"No children: {why_childless(entry)}.",
        rule=_nx_note(state, child) if child else "",
    )


def _layout(entry: Entry) -> str:
    return "" if entry.layout == EPT_7_2 else f", {entry.layout.title}"


def _child_caption(entry: Entry, child: Child) -> str:
    """Say which child this is, and where it differs from its parent."""
    label = entry.geometry.level(child.level).label
    which = f"Child {child.index} of {entry.geometry.entries} is {child.spte:#018x}, a {label} leaf"
    frame, other = bit_numbers(child.frame_bits), bit_numbers(child.other_bits)
    said = []
    if frame:
        said.append(f"{len(frame)} frame {'bit' if len(frame) == 1 else 'bits'}")
    if other:
        page_size = " (page size)" if child.other_bits == PT_PAGE_SIZE_MASK else ""
        said.append(f"{'bit' if len(other) == 1 else 'bits'} {listed(map(str, other))}{page_size}")
    if not said:
        return f"{which}: no bit differs from its parent."
    differ = "differs" if len(frame) + len(other) == 1 else "differ"
    return f"{which}: {listed(said)} {differ} from its parent."


def _nx_note(state: EntryState, child: Child) -> str:
    """Say what the NX-huge-page rule did to the child."""
    if not state.nx_huge_pages:
        return "NX huge pages off: the child executes as its parent does."
    smallest = state.entry.geometry.level(PG_LEVEL_4K).label
    if child.level > PG_LEVEL_4K:
        return f"NX huge pages on: a child that is still huge stays as it is; the rule waits for {smallest}."
    if state.exec_allowed:
        return f"NX huge pages on: role.access has x, so a {smallest} child may execute."
    if not state.entry.layout.is_of_7_2:
        return "NX huge pages on: role.access lacks x; before 7.2 the child then executes as its parent does."
    return f"NX huge pages on: role.access lacks x, so a {smallest} child may not execute."


def way_note(found: Found, wanted: int, at: int, geometry: Geometry) -> str:
    """Say which entry was picked from a machine, and whether the way ended above the level asked for."""
    where = f"index {found.index} on the way to {name_gfn(at)}"
    if found.level == wanted:
        return f"Picked from real tables: level {found.level}, {where}."
    label = geometry.level(wanted).label
    return (
        f"There is no level {wanted} entry ({label}) on the way to {format_gfn(at)}: it ends here, "
        f"at level {found.level}, index {found.index}."
    )
