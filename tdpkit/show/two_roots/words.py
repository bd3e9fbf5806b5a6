"""What the two-trees exhibit says beside the outcome's own answer."""

from __future__ import annotations

from tdpkit.engine.gfn import PAGE_SHIFT, format_gfn
from tdpkit.lab.two_roots import FILTERS, RootSeen, RootsOutcome
from tdpkit.lab.words import count_of

TITLE = "One frame, two trees: which one does the operation reach?"


def indices(root: RootSeen) -> str:
    """The index path of g, the root's index first."""
    return f"[{', '.join(map(str, root.indices))}]"


def match_words(outcome: RootsOutcome, root: RootSeen) -> str:
    """Name what a root that does not match would need."""
    if root.matches or outcome.types is None:
        return ""
    return f"needs {' + '.join(root.missing)}"


def returned(outcome: RootsOutcome) -> str:
    """Say what the call returned."""
    value = outcome.returned
    if value is None:
        return "returns nothing"
    if isinstance(value, bool):
        return f"returns {str(value).lower()}: {'a' if value else 'no'} TLB flush is owed"
    return f"returns {value}"


def shared_bit_words(outcome: RootsOutcome) -> str:
    """Say what the shared bit does to the path."""
    bit = outcome.shared_bit.bit_length() - 1
    if not outcome.shared_bit:
        return "a plain VM has no shared bit: one tree, one path"
    top = len(outcome.roots[0].path)
    own = outcome.roots[0].indices[0] - outcome.roots[-1].indices[0]
    return (
        f"S is GPA bit {bit + PAGE_SHIFT}, GFN bit {bit}. Both halves have the same frame numbers; "
        f"only the index at level {top} differs, by {own}."
    )


def tdx_side(outcome: RootsOutcome) -> str:
    """The TDX side's steps in order, and how many of the calls among them go to the module."""
    return f"{', '.join(outcome.tdx_steps)}: {count_of(outcome.seamcalls, 'SEAMCALL')}"


def leaf_words(level: int) -> str:
    """The size of a leaf of `level`; 0: there is none."""
    return {0: "nothing", 1: "4K", 2: "2M"}[level]


def setting(outcome: RootsOutcome) -> str:
    """The VM, the frame, the operation and what it returned."""
    asked = outcome.question
    kind = "TD" if outcome.is_td else "plain VM"
    looked = "" if outcome.filter_read else " (not looked at)"
    return (
        f"{kind}, root level {asked.root_level}, g = {outcome.gfn:#x} ({format_gfn(outcome.gfn)}); "
        f"{outcome.operation.function}, filter {asked.filter} = {FILTERS[asked.filter]}{looked}; "
        f"{returned(outcome)}"
    )
