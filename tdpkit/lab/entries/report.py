"""The entries of a report: their layout with reason and doubt, each in a sentence, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from tdpkit.engine.gfn import PAGE_SHIFT, X86_5LEVEL, InvalidValueError

from ..spte_guess import Guess, guess_guard, guess_layout, is_likely
from ..spte_layouts import LAYOUTS, SpteLayout, layouts_named
from ..words import capital, lines_of
from .entry import Entry, read_entry
from .hierarchy import Hierarchy, is_hierarchy, place_of, read_hierarchy
from .pasted import Pasted, read_pasted
from .words import say_entry

_WIDTH = 100
"""Of a line in a notebook; the command leaves lines whole."""
_LEVELS = range(1, X86_5LEVEL.root_level + 1)


class Read(NamedTuple):
    """One value of the text, read at each level that it makes sense at."""

    entries: tuple[Entry, ...]
    guard: str
    """What is said of guard bits; or nothing."""
    at: int | None
    """Host-physical address of the entry, in bytes, if it is said."""


class Report(NamedTuple):
    """All that a text's entries say; prints as `lines` does."""

    guess: Guess
    values: tuple[Read, ...]
    hierarchy: Hierarchy | None
    """The entries as one way down, if they are one."""

    @property
    def fits(self) -> bool:
        """Whether no entry has a flaw and nothing in the hierarchy is out of place."""
        flawed = any(entry.flaws for read in self.values for entry in read.entries)
        return not flawed and not (self.hierarchy and self.hierarchy.misfits)

    def lines(self, bits: bool = False) -> Iterator[str]:
        """The report, a line each; with the fields of each entry if `bits`."""
        yield f"Layout {self.guess.layout.name} ({self.guess.layout.title}): {self.guess.reason}."
        if self.guess.doubt:
            yield f"Doubt: {self.guess.doubt}."
        if self.hierarchy:
            yield from _hierarchy_lines(self.hierarchy, self.values, bits)
            return
        for read in self.values:
            yield from _value_lines(read, bits)

    def __repr__(self) -> str:
        return "\n".join(line for long in self.lines() for line in _wrapped(long))


def read_report(
    text: str,
    *,
    level: int | None = None,
    layout: str = "",
    phys_bits: int | None = None,
    address: int | None = None,
    host_levels: int | None = None,
) -> Report:
    """Read the entries in `text` as reports have them.

    level: that of entries without one; layout: its name or family (``ept``, ``npt``), guessed within it;
    phys_bits: of the host; address: guest-physical, in bytes, if the text has none; host_levels: of the
    host's own page tables. Raises InvalidValueError if there is no entry in the text.
    """
    pasted, named = read_pasted(text)
    if not pasted:
        raise InvalidValueError("there is no entry in the text; write 0x80a00001c8a00fb7 level 2, one a line")
    address = named if address is None else address
    gfn = None if address is None else address >> PAGE_SHIFT
    pasted = tuple(one._replace(level=level if one.level is None else one.level) for one in pasted)
    layouts = layouts_named(layout)
    guess = guess_layout([(one.spte, _likely_level(one, layouts)) for one in pasted], layouts)
    if layout in LAYOUTS:
        guess = Guess(LAYOUTS[layout], "as asked for", "")
    values = tuple(_read(one, guess.layout, phys_bits, gfn) for one in pasted)
    hierarchy = None
    if is_hierarchy([one.level for one in pasted], address is not None):
        entries = [read.entries[0] for read in values]
        hierarchy = read_hierarchy(entries, gfn, host_levels, [one.at for one in pasted])
    return Report(guess, values, hierarchy)


def _wrapped(text: str) -> Iterator[str]:
    first = len(text) - len(text.lstrip())
    for number, line in enumerate(lines_of(text, _WIDTH)):
        yield " " * (first + 4 * bool(number)) + line


def _likely_level(one: Pasted, layouts: Sequence[SpteLayout]) -> int:
    """Its own, or the lowest at which some layout has such entries."""
    if one.level is not None:
        return one.level
    return next((at for at in _LEVELS if any(is_likely(one.spte, at, layout) for layout in layouts)), 1)


def _read(one: Pasted, layout: SpteLayout, phys_bits: int | None, gfn: int | None) -> Read:
    levels: Sequence[int] = [one.level] if one.level is not None else _LEVELS
    guard = guess_guard(one.spte, layout, phys_bits, gfn) if layout.kind_of(one.spte, 1) == "mmio" else None
    mask, said = guard or (0, "")
    entries = [read_entry(one.spte, at, X86_5LEVEL, layout, mask) for at in levels]
    sound = [entry for entry in entries if not entry.flaws]
    likely = [entry for entry in sound if is_likely(one.spte, entry.level, layout)]
    return Read(tuple(likely or sound or entries[:1]), said, one.at)


def _value_lines(read: Read, bits: bool) -> Iterator[str]:
    for _, group in groupby(
        read.entries, key=lambda entry: (entry.kind, entry.kind == "leaf" and entry.level)
    ):
        entries = list(group)
        low, high = entries[0].level, entries[-1].level
        at = f"level {low}" if low == high else f"levels {low} to {high}"
        yield f"{entries[0].spte:#018x} {at}: {say_entry(entries[0], at_any_level=low != high)}"
        if read.at is not None:
            table, index = place_of(read.at)
            yield f"  It stands at index {index} of the table in frame {table:#x}."
        yield from _below(entries[0], read.guard, bits)


def _below(entry: Entry, guard: str, bits: bool) -> Iterator[str]:
    if guard:
        yield f"  {capital(guard)}."
    yield from (f"  ✗ {flaw}" for flaw in entry.flaws)
    if bits:
        yield from (
            f"  {field.bits:>5}  {field.name} = {field.value:#x}: {field.meaning}" for field in entry.fields
        )


def _hierarchy_lines(read: Hierarchy, values: Iterable[Read], bits: bool) -> Iterator[str]:
    guards = {id(value.entries[0]): value.guard for value in values}
    if read.gfn is not None:
        yield f"On the way to frame {read.gfn:#x}:"
    for entry, is_used, _ in read.steps:
        index = "" if read.gfn is None else f", index {entry.geometry.index(read.gfn, entry.level)}"
        said = say_entry(entry) if is_used else "Not used by the walk."
        yield f"level {entry.level}{index}: {entry.spte:#018x}: {said}"
        if is_used:
            yield from _below(entry, guards.get(id(entry), ""), bits)
    yield read.ends
    yield from (f"✗ {misfit}" for misfit in read.misfits)
    if read.doubt:
        yield f"Doubt: {read.doubt}."
