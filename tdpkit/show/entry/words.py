"""What the entry decoder says of its state, and of the place where an entry was picked."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_4K, Geometry, format_gfn, name_gfn
from tdpkit.engine.spte import PT_PAGE_SIZE_MASK
from tdpkit.lab.entries import Child, Entry, Found, bit_numbers, name_frames, why_childless
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
        title=f"{entry.spte:#018x} at level {entry.level} ({entry.label} per entry)",
        answer=_answer(entry),
        role="bad" if entry.flaws else "ink",
        below=(*flaws, *([(state.note, "muted")] if state.note else [])),
        caption=_child_caption(entry, child) if child else f"No children: {why_childless(entry)}.",
        rule=_nx_note(state, child) if child else "",
    )


def _answer(entry: Entry) -> str:
    """Say in one sentence what the entry is."""
    if entry.kind == "frozen":
        return "Frozen: not present, and in the middle of another thread's change; hands off."
    if entry.kind == "mmio":
        return (
            "MMIO: not present; an access is an EPT misconfiguration by design, and KVM emulates the device."
        )
    if entry.kind == "non-present":
        if entry.flaws:
            return "Not present, as KVM sees it, and no entry of KVM's making."
        return "Not present: the empty entry is bit 63 alone, and an access here is an EPT violation."
    if entry.flaws:
        what = "table entry" if entry.kind == "table" else f"leaf of {entry.label}"
        return f"It reads as a {what} on host frame {entry.pfn:#x}, and no kernel would hold it here."
    if entry.kind == "table":
        below = entry.geometry.level(entry.level - 1).label
        where = f"the table of {below} entries in frame {entry.pfn:#x}"
        return f"A table entry: it maps nothing itself; it leads to {where}."
    frames = name_frames(entry.pfn, entry.pages)
    return f"A leaf of {entry.label}: {frames}; {_rights(entry)}."


def _rights(entry: Entry) -> str:
    if entry.is_access_tracked:
        return "access-tracked, R, W and X are taken away"
    allowed = [verb for bit, verb in enumerate(("read", "write", "execute")) if entry.spte >> bit & 1]
    return f"the guest may {listed(allowed)}" if allowed else "the guest may do nothing with it"


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
