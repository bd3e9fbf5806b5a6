"""The two-trees exhibit in words: a line and a table that say what the picture says."""

from __future__ import annotations

from html import escape

from tdpkit.engine.gfn import PAGE_SHIFT, format_gfn
from tdpkit.lab.two_roots import FILTERS, RootSeen, RootsOutcome

TITLE = "One frame, two trees: which one does the operation reach?"


def indices(root: RootSeen) -> str:
    """The index path of g, the root's index first."""
    return f"[{', '.join(map(str, root.indices))}]"


def match_words(outcome: RootsOutcome, root: RootSeen) -> str:
    """What a root that does not match would need."""
    if root.matches or outcome.types is None:
        return ""
    return f"needs {' + '.join(root.missing)}"


def returned(outcome: RootsOutcome) -> str:
    """What the call returned, in the kernel's words."""
    value = outcome.returned
    if value is None:
        return "returns nothing"
    if isinstance(value, bool):
        return f"returns {str(value).lower()}: {'a' if value else 'no'} TLB flush is owed"
    return f"returns {value}"


def shared_bit_words(outcome: RootsOutcome) -> str:
    """What the shared bit does to the path."""
    bit = outcome.shared_bit.bit_length() - 1
    if not outcome.shared_bit:
        return "a plain VM has no shared bit: one tree, one path"
    top = len(outcome.roots[0].path)
    own = outcome.roots[0].indices[0] - outcome.roots[-1].indices[0]
    return (
        f"S is GPA bit {bit + PAGE_SHIFT}, GFN bit {bit}. Both halves have the same frame numbers; "
        f"only the index at level {top} differs, by {own}."
    )


def _leaf(level: int) -> str:
    return {0: "nothing", 1: "4K", 2: "2M"}[level]


def two_trees_text(outcome: RootsOutcome) -> str:
    """`outcome` in plain text: the answer, then a line per root."""
    lines = [f"{TITLE} {outcome.answer}", _setting(outcome)]
    for root in outcome.roots:
        match = "matches" if root.matches else match_words(outcome, root) or "is not root.hpa"
        lines.append(f"{root.name} root: path {indices(root)}, {match}, {root.effect}")
    if outcome.seamcalls:
        lines.append(f"SEAMCALLs: {', '.join(outcome.seamcalls)}")
    return "\n".join([*lines, shared_bit_words(outcome), *outcome.warnings])


def _setting(outcome: RootsOutcome) -> str:
    asked = outcome.question
    kind = "TD" if outcome.is_td else "plain VM"
    looked = "" if outcome.filter_read else " (not looked at)"
    return (
        f"{kind}, root level {asked.root_level}, g = {outcome.gfn:#x} ({format_gfn(outcome.gfn)}); "
        f"{outcome.operation.function}, filter {asked.filter} = {FILTERS[asked.filter]}{looked}; "
        f"{returned(outcome)}"
    )


_COLUMNS = ("root", "types needed", "matches", "path of g", "leaf at g before", "leaf at g after", "effect")


def two_trees_table(outcome: RootsOutcome) -> str:
    """`outcome` as an HTML table for those who read rather than look: the picture's text twin."""
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join(_row(outcome, root) for root in outcome.roots)
    said = [outcome.answer, f"{_setting(outcome)}.", shared_bit_words(outcome), *outcome.warnings]
    if outcome.seamcalls:
        said.append(f"SEAMCALLs, in this order: {', '.join(outcome.seamcalls)}.")
    log = "".join(f"<li>{escape(line)}</li>" for line in outcome.log)
    return (
        f"<table><caption>{escape(' '.join(said))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>Events of the call:</p><ol>{log}</ol>"
    )


def _row(outcome: RootsOutcome, root: RootSeen) -> str:
    missing = match_words(outcome, root)
    match = "yes" if root.matches else f"no, {missing}" if missing else "no"
    cells = (
        " + ".join(root.needs) if outcome.types is not None else "none: root.hpa",
        match,
        indices(root),
        _leaf(root.level_before),
        _leaf(root.level_after),
        root.effect,
    )
    data = "".join(f'<td style="padding-right:12px">{escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{root.name}</th>{data}</tr>'
