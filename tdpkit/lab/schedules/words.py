"""Steps, entries and results in sentences."""

from __future__ import annotations

from enum import Enum
from typing import Any

from tdpkit.engine.spte import is_last_spte, is_shadow_present_pte

from .threads import Access, Report, returned


def did_words(access: Access) -> str:
    """Say what an access did, after the thread's name."""
    match access.token:
        case "lock":
            return f"takes mmu_lock for {'read' if access.shared else 'write'}"
        case "unlock":
            return "drops mmu_lock"
        case "flush":
            return "flushes all TLBs"
        case "return":
            return f"returns{result_words(access.result)}"
        case "read" if access.level:
            return f"reads the entry of {_place(access)}: {entry_words(access.before, access.level)}"
        case "read":
            return "reads the tables"
        case "swap" if not access.changed:
            return f"compares and exchanges the entry of {_place(access)}: lost"
        case "swap":
            return f"compares and exchanges the entry of {_place(access)}: {_change(access)}"
        case "store":
            return f"stores to the entry of {_place(access)}: {_change(access)}"
        case "external":
            return f"has the TDX side split the leaf at frame {access.gfn}"
        case "need?":
            return f"asks whether the {access.name} lacks pages: it has {access.before}"
        case "top-up":
            return f"tops the {access.name} up: {access.before} → {access.after}"
        case "write":
            return f"writes to frame {access.gfn}"
    if access.token.startswith(("take-", "give-")):
        return f"{'takes' if access.token.startswith('take') else 'gives back'} the {access.name}"
    if access.before == access.after:
        return f"reads {access.name}: {access.before}"
    return f"changes {access.name}: {access.before} → {access.after}"


def _place(access: Access) -> str:
    return f"frame {access.gfn}, level {access.level}"


def _change(access: Access) -> str:
    before, after = (entry_words(spte, access.level) for spte in (access.before, access.after))
    return f"{before} → {after}"


def result_words(result: Any) -> str:
    """Say what a call returned and reported; with a blank in front, "" for a thread without a result."""
    if result is None:
        return ""
    if isinstance(result, Enum):
        return f" {result.name}"
    if not isinstance(result, Report) or result.ret:
        return f" {returned(result)}"
    said = "split" if result.split else "nothing split"
    flush = "flushed" if result.flushed else "no flush needed" if result.says_none else "not flushed"
    return f" 0: {said}, {flush}"


def entry_words(spte: int, level: int) -> str:
    """Say what an entry is: ``leaf``, ``table``, ``nothing``."""
    if not is_shadow_present_pte(spte):
        return "nothing"
    return "leaf" if is_last_spte(spte, level) else "table"


def leaf_words(gfn: int, pages: int) -> str:
    """Name a leaf by its frames."""
    return f"the leaf [{gfn}, {gfn + pages})"
