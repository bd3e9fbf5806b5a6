"""Entries on the way to one address as a whole: which the walk uses, where it ends, what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_4K, X86_4LEVEL, X86_5LEVEL, name_gfn

from .entry import Entry


class Step(NamedTuple):
    """An entry of the text, whether the walk uses it, and where it stands in its table, if that is known."""

    entry: Entry
    is_used: bool
    at: int | None
    """Host-physical address of the entry, in bytes."""


class Hierarchy(NamedTuple):
    """What was read from the top down, and what came of it."""

    steps: tuple[Step, ...]
    gfn: int | None
    """The frame that was walked to, if the text says which."""
    ends: str
    """Where the walk begins and ends, a sentence."""
    frame: int | None
    """The host frame of `gfn`, or the leaf's first if no frame is known; None if no leaf ends the walk."""
    misfits: tuple[str, ...]
    """What does not fit, a sentence each; the flaws of single entries are their own."""
    doubt: str
    """What else may be wrong that no value shows; or nothing."""


def read_hierarchy(
    entries: Sequence[Entry],
    gfn: int | None = None,
    host_levels: int | None = None,
    places: Sequence[int | None] = (),
) -> Hierarchy:
    """Walk `entries`, one or more, which a report gives for the way to frame `gfn`.

    host_levels: how many levels the host's own page tables have, if known: on NPT the CPU walks as many
    (S261). places: where each entry stands, in bytes of host-physical address; an index of its table
    follows from it.
    """
    known = {id(entry): place for entry, place in zip(entries, places, strict=False)}
    ordered = sorted(entries, key=lambda entry: -entry.level)
    misfits: list[str] = []
    walked = _walked(ordered, misfits)
    steps = [Step(entry, any(entry is one for one in walked), known.get(id(entry))) for entry in ordered]
    last = walked[-1] if walked else None
    frame = None
    if last and last.kind == "leaf":
        frame = last.pfn + ((gfn or 0) & last.pages - 1 if not last.pfn % last.pages else 0)
    if last and gfn is not None and last.kind == "mmio" and not _is_none(last) and last.mmio_gfn != gfn:
        misfits.append(
            f"the MMIO entry stands for guest frame {last.mmio_gfn:#x}, and the address is in frame {gfn:#x}"
        )
    if walked and walked[0].level >= X86_4LEVEL.root_level and gfn is not None and gfn >> 9 * walked[0].level:
        misfits.append(f"frame {name_gfn(gfn)} is beyond what a root of level {walked[0].level} holds")
    misfits += _misplaced([step for step in steps if step.is_used], gfn)
    doubt = _depth(walked, host_levels, misfits)
    return Hierarchy(tuple(steps), gfn, _ends(walked, gfn, frame), frame, tuple(misfits), doubt)


def is_hierarchy(levels: Sequence[int | None], has_address: bool) -> bool:
    """Whether entries of these levels, in a text's order, are one way down (or up) and no mere list."""
    known = [level for level in levels if level is not None]
    if len(known) < len(levels) or len(set(known)) < 2:
        return False
    in_order = known in (sorted(known), sorted(known, reverse=True))
    return len(known) <= X86_5LEVEL.root_level + 1 and (has_address or in_order)


def _walked(ordered: Sequence[Entry], misfits: list[str]) -> list[Entry]:
    """The entries that the walk uses; what it cannot have used goes to `misfits`."""
    slots = _one_per_level(ordered, misfits)
    while len(slots) > 1 and _is_never_filled(slots[0], slots[1:]):
        misfits.append(_say_stale(slots[0]))
        slots = slots[1:]
    walked: list[Entry] = []
    for number, entry in enumerate(slots):
        if walked and walked[-1].level > entry.level + 1:
            misfits.append(f"{_levels(walked[-1].level - 1, entry.level + 1)} missing from the text")
        walked.append(entry)
        if entry.kind != "table":
            if below := slots[number + 1 :]:
                if _is_none(entry):
                    misfits.append(_say_stale(entry))
                else:
                    misfits.append(
                        f"the walk ends at level {entry.level}; {_levels(below[0].level, below[-1].level)} "
                        f"not read: stale, or never filled"
                    )
            break
    return walked


def _one_per_level(ordered: Sequence[Entry], misfits: list[str]) -> list[Entry]:
    slots: dict[int, Entry] = {}
    for entry in ordered:
        if entry.level not in slots:
            slots[entry.level] = entry
            continue
        misfits.append(f"level {entry.level} is there twice; a walk has one entry of each level")
        if slots[entry.level].flaws and not entry.flaws:
            slots[entry.level] = entry
    return list(slots.values())


def _is_none(entry: Entry) -> bool:
    """Whether the value is no entry of KVM's; an MMIO entry is one of level 1 alone."""
    if entry.kind == "mmio":
        return entry.level > PG_LEVEL_4K or bool(entry.flaws)
    return entry.kind == "non-present" and bool(entry.flaws)


def _is_never_filled(entry: Entry, below: Sequence[Entry]) -> bool:
    """Whether the topmost slot holds no entry while a sound walk begins below it."""
    begins = below[0].kind in ("table", "leaf") and not below[0].flaws
    is_none = entry.kind == "non-present" or bool(entry.flaws)
    return is_none and begins and entry.kind != "frozen"


def _say_stale(entry: Entry) -> str:
    return (
        f"level {entry.level} holds {entry.spte:#x}, which is no entry although there are entries below it: "
        "stale, or never filled"
    )


def _levels(high: int, low: int) -> str:
    return f"level {high} is" if high == low else f"levels {high} to {low} are"


def place_of(at: int) -> tuple[int, int]:
    """The host frame of the table and the index in it of an entry at address `at`, in bytes."""
    return at >> PAGE_SHIFT, at % (1 << PAGE_SHIFT) // 8


def _misplaced(steps: Sequence[Step], gfn: int | None) -> list[str]:
    """Entries whose place is not the address's, or not in the table above."""
    found = []
    for number, (entry, _, at) in enumerate(steps):
        if at is None:
            continue
        table, index = place_of(at)
        wanted = None if gfn is None else X86_5LEVEL.index(gfn, entry.level)
        if wanted not in (None, index):
            found.append(f"level {entry.level} is at index {index}, the address's is {wanted}")
        above = steps[number - 1].entry if number else None
        if above and above.level == entry.level + 1 and table != above.pfn:
            found.append(
                f"level {entry.level} stands in frame {table:#x}, the entry above leads to {above.pfn:#x}"
            )
    return found


def _depth(walked: Sequence[Entry], host_levels: int | None, misfits: list[str]) -> str:
    if not walked or walked[0].layout.is_ept or walked[0].level < X86_4LEVEL.root_level:
        return ""
    built = walked[0].level
    if host_levels not in (None, built):
        misfits.append(
            "wrong depth: on NPT the CPU walks as many levels as the host's page tables have, "
            f"{host_levels}; KVM built {built}"
        )
    if host_levels is None and built < X86_5LEVEL.root_level and walked[-1].kind == "leaf":
        return (
            "if the fault repeats although the walk ends well, the depth may be wrong: on a host with five "
            f"levels (LA57) the CPU walks five on NPT, and KVM built {built} here"
        )
    return ""


def _ends(walked: Sequence[Entry], gfn: int | None, frame: int | None) -> str:
    if not walked:
        return "There is no entry to walk."
    last = walked[-1]
    where = f"The walk begins at level {walked[0].level} and ends at level {last.level}"
    if frame is not None:
        what = (
            f"frame {gfn:#x} is host frame {frame:#x}"
            if gfn is not None
            else f"from host frame {frame:#x} on"
        )
        return f"{where}, in a leaf of {last.label}: {what}."
    if _is_none(last):
        return f"{where}, at a value that is no entry."
    if last.kind == "mmio":
        return f"{where}, in an MMIO entry for guest frame {last.mmio_gfn:#x}."
    if last.kind == "table" and last.level > PG_LEVEL_4K:
        return f"{where}, in a table: its entry, in frame {last.pfn:#x}, is not in the text."
    return f"{where}, in {'an entry that is frozen' if last.kind == 'frozen' else 'a hole'}."
