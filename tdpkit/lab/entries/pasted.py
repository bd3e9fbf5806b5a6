"""Find the entries in the text of a report: values with their levels, an address, the kernel's own dump."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PAGE_SHIFT, InvalidTypeError, InvalidValueError

from .entry import parse_entry

_HEX = r"(?:0x)?[0-9a-f]{1,16}\b"
_ADDRESS = re.compile(
    rf"\b(gpa|addr(?:ess)?|gfn)\s*[:=]?\s*({_HEX})(?!\s*,?\s*(?:at\s+)?level\b)\s*[:,]?", re.I
)
"""``gpa 0xfffff000:``, ``addr 0xfe013000, hierarchy``, ``gfn 200``."""
_CHANGED = re.compile(rf"\blevel\s+(\d+)\s+old_spte\s+({_HEX})\s+new_spte\s+({_HEX})", re.I)
_THEN_LEVEL = re.compile(
    rf"(?:\b(pfn|gfn)\s*[:=]?\s*)?\b({_HEX})\s*(?:\([rwxu-]*\)\s*)?,?\s*(?:at\s+)?level\s*[:=]?\s*(\d+)\b"
    rf"(?:\s+at\s+({_HEX}))?",
    re.I,
)
"""``0x49c0027 level 2``, ``spte = 0x… level = 4``, ``spte 60…bf3 (rw-u) level 2 at 18af601008``."""
_LEVEL_FIRST = re.compile(rf"\blevel\s*[:=]?\s*(\d+)\s*[:,=]?\s*(?:spte\s*[:=]?\s*)?({_HEX})", re.I)
_ALONE = re.compile(rf"(?=0x|.*\d){_HEX}", re.I)
"""A value without a level; letters alone are a word."""
_LONGEST = 1 << 20
"""In characters; what is longer is no report's text."""
_RESERVED = re.compile(rf"\brsvd bits\s*[:=]?\s*{_HEX}", re.I)


class Pasted(NamedTuple):
    """One value of a text; its level, and the address of its place in a table, where they are said."""

    spte: int
    level: int | None
    at: int | None = None
    """Host-physical, in bytes."""


class PastedText(NamedTuple):
    """The entries of a text in their order, and the guest-physical address it is about, if there is one."""

    entries: tuple[Pasted, ...]
    address: int | None
    """In bytes."""


def read_pasted(text: str) -> PastedText:
    """Find the entries in `text`; none if there are none.

    Words that mean nothing here, such as a log's prefix, are passed over. Raises InvalidTypeError unless it
    is text, InvalidValueError if it is longer than a million characters.
    """
    if not isinstance(text, str):
        raise InvalidTypeError(f"entries are read from text; {text!r} is a {type(text).__name__}")
    if len(text) > _LONGEST:
        raise InvalidValueError("the text is longer than 1M; python -m tdpkit.lab.traces reads a trace")
    addresses: list[int] = []
    entries: list[Pasted] = []
    for one in text.splitlines():
        line = _RESERVED.sub("", " ".join(one.split()))
        for word, digits in _ADDRESS.findall(line):
            addresses.append(parse_entry(digits) << (PAGE_SHIFT if word.lower() == "gfn" else 0))
        entries += _entries_in(_ADDRESS.sub(" ", line))
    one_address = addresses[0] if len(set(addresses)) == 1 else None
    return PastedText(tuple(entries), one_address)


def _entries_in(line: str) -> Iterator[Pasted]:
    changed = list(_CHANGED.finditer(line))
    levelled = list(_THEN_LEVEL.finditer(line))
    if changed:
        for match in changed:
            yield from (Pasted(parse_entry(spte), int(match[1])) for spte in match.groups()[1:])
    elif levelled:
        for match in levelled:
            if not match[1]:
                yield Pasted(
                    parse_entry(match[2]), int(match[3]), parse_entry(match[4]) if match[4] else None
                )
    elif first := list(_LEVEL_FIRST.finditer(line)):
        yield from (Pasted(parse_entry(match[2]), int(match[1])) for match in first)
    else:
        words = [word for word in re.split(r"[\s,;]+", line) if word]
        if all(map(_ALONE.fullmatch, words)):
            yield from (Pasted(parse_entry(word), None) for word in words)
