"""Words for the split budget: the answer, the numbers, the arithmetic of each size of leaf."""

from __future__ import annotations

from typing import NamedTuple

from tdpkit.lab.budget import DYNAMIC, PLAIN, TD
from tdpkit.lab.cache_designs import DesignRow
from tdpkit.lab.words import capital, count_of, group_digits, noun_for

from ..drawing import Counter
from .state import MOST_SPLITS, BudgetState, EdgeBlock

_MIB = 256
"""Pages of 4K in a MiB."""
TITLE = "Split budget: the pages that a split takes"
KIND_LABELS = {PLAIN: "plain VM", TD: "TD", DYNAMIC: "TD, Dynamic PAMT"}
SPLIT_LABELS = {"edges": "the two edges", "everything": "everything to 4K"}


class PageRow(NamedTuple):
    """One kind of page: its name, what it is for, and the numbers; `used` is None where nothing was run."""

    name: str
    why: str
    need: int
    used: int | None
    bound: int
    whole: int

    @property
    def idle(self) -> int:
        """Pages of a cache for the whole range that stay in it."""
        return self.whole - self.need


def size_labels(state: BudgetState) -> dict[str, str]:
    """The sizes of leaves in the menu, as this guest writes them."""
    names, geometry = state.names, state.layout.geometry
    small, large = (names.size(geometry.pages(level)) for level in (2, 3))
    return {
        "small": f"of {small}",
        "large": f"of {large}",
        "few": f"two of {small}, the rest of {names.size(1)}",
    }


def guest_words(state: BudgetState) -> str:
    """The guest's size and leaves."""
    how = "leaves:" if state.size == "few" else "all leaves"
    return f"the guest: {state.names.size(state.layout.frames)}, {how} {size_labels(state)[state.size]}"


def page_rows(state: BudgetState) -> list[PageRow]:
    """The kinds of page that this kind of VM takes, in the order in which a split gets them."""
    budget, used = state.budget, state.used
    region = state.names.size(state.layout.geometry.pages(2))
    names = (
        ("page tables", "sp->spt, one per split"),
        ("S-EPT pages", "sp->external_spt, likewise"),
        ("PAMT, guest", f"2 per {region} demoted"),
        ("PAMT, S-EPT", f"2 per {region} of the host"),
    )
    taken = used.pages if used else (None,) * 4
    numbers = zip(names, budget.need, taken, budget.bound, budget.whole, strict=True)
    rows = [PageRow(name, why, need, got, bound, whole) for (name, why), need, got, bound, whole in numbers]
    return rows[: {PLAIN: 1, TD: 2, DYNAMIC: 4}[state.kind]]


# ---- the answer ----------------------------------------------------------------------------------------


def answer(state: BudgetState) -> str:
    """Say what the split takes, and what a cache filled ahead would hold."""
    budget = state.budget
    need, whole, idle = budget.need.total, budget.whole.total, budget.idle
    if state.split == "edges":
        if not need:
            says = "No leaf crosses an edge: the split takes no page."
        else:
            both = "The two edges take" if _edges_inside(state) == 2 else "One edge takes"
            says = f"{both} {_size(need)}; {group_digits(budget.bound.total)} would do for any range."
        held = f" A cache filled for the whole range would hold {_size(whole)}"
        moral = ": predictable is not the same as worth it" * (idle > need > 0)
        return f"{says}{held}, {_idle(idle, whole)}{moral}." if whole else says
    says = f"Splitting the range to 4K takes {_size(need)}"
    if not whole:
        return f"{says}: it has no frame."
    if not idle:
        return f"{says}, which is the maximum: known before the call, and all of it is used."
    return f"{says}. A cache filled with the maximum would hold {_size(whole)}, {_idle(idle, whole)}."


def _edges_inside(state: BudgetState) -> int:
    """How many edges lie inside a leaf; those of an empty range are one."""
    edges = (state.span.start, state.span.end)
    blocks = state.edge_blocks(max(state.budget.splits))
    return len({x for x, block in zip(edges, blocks, strict=True) if block.fate in ("split", "shared")})


def _size(pages: int) -> str:
    """A number of pages, and from 1 MiB on their size."""
    mib = f"{pages / _MIB:.1f}".removesuffix(".0")
    return f"{count_of(pages, 'page')}{f' ({mib} MiB)' * (pages >= _MIB)}"


def _idle(idle: int, whole: int) -> str:
    if idle in (0, whole):
        return f"all of {'it' if whole == 1 else 'them'} {'idle' if idle else 'used'}"
    return f"{group_digits(idle)} of them idle"


def counters(state: BudgetState) -> list[Counter]:
    """The five numbers of the story, for all kinds of page together."""
    budget, used = state.budget, state.used
    agree = used is not None and used.pages == budget.need
    run = (
        Counter("–", "used: not run here", "muted")
        if used is None
        else Counter(
            f"{group_digits(used.pages.total)} {'✓' if agree else '✗'}",
            "used by the engine",
            "good" if agree else "bad",
        )
    )
    idle = "crossing-mark" if budget.idle else "ink"
    return [
        Counter(group_digits(budget.need.total), f"{noun_for(budget.need.total, 'page')} predicted"),
        run,
        Counter(group_digits(budget.bound.total), "bound, whatever the tree"),
        Counter(group_digits(budget.whole.total), "held for the whole range"),
        Counter(group_digits(budget.idle), "of these idle", idle),
    ]


# ---- the arithmetic ------------------------------------------------------------------------------------


class Sum(NamedTuple):
    """The arithmetic of one size of leaf: what is at the start, what at the end, and the tables it makes."""

    level: int
    size: str
    start: str
    end: str
    tables: str
    role: str


def sums(state: BudgetState) -> list[Sum]:
    """The arithmetic, the largest leaf first; a size that no leaf has is said to be none."""
    return [_sum(state, level) for level in (3, 2)]


def _sum(state: BudgetState, level: int) -> Sum:
    names, count = state.names, state.budget.splits.get(level)
    size = names.size(state.layout.geometry.pages(level))
    if count is None:
        return Sum(level, size, "no leaf is so large", "", "0", "muted")
    if state.split == "edges":
        start, end = (_fate(state, block) for block in state.edge_blocks(level))
    else:
        start, end = (_block_of_range(state, level, number) for number in (0, 1))
    return Sum(level, size, start, end, group_digits(count), "ink" if count else "muted")


def _fate(state: BudgetState, block: EdgeBlock) -> str:
    where = state.names.span(block.first, block.last)
    match block.fate:
        case "multiple":
            return f"{state.names.frame(block.first)} is a multiple: none"
        case "split":
            return f"inside {where}: 1"
        case "shared":
            return "in the same block: once"
        case _:
            return f"{where} has smaller leaves"


def _block_of_range(state: BudgetState, level: int, number: int) -> str:
    """Count the blocks of `level` from the start's (number 0) to the end's (1)."""
    pages, span = state.layout.geometry.pages(level), state.span
    first, last = span.start // pages, -(-span.end // pages)
    size = state.names.frame(pages)
    if not number:
        return f"⌊start / {size}⌋ = {group_digits(first)}"
    huge = state.budget.splits[level]
    few = f", {group_digits(huge)} of them {noun_for(huge, 'leaf', 'leaves')}" if state.size == "few" else ""
    return f"⌈end / {size}⌉ = {group_digits(last)}: {count_of(last - first, 'block')}{few}"


# ---- below the numbers ---------------------------------------------------------------------------------


def notes(state: BudgetState) -> list[tuple[str, str]]:
    """What else there is to know: a line each, and its role."""
    tables = state.budget.need.tables
    lines = [
        f"Each table also takes a header, a struct kvm_mmu_page, from a slab: {group_digits(tables)} here."
    ]
    if state.kind == DYNAMIC:
        lines.append(
            f"v3 makes sure of {state.budget.ahead} PAMT pages before each split, since none can be "
            f"allocated under mmu_lock; {state.budget.left} stay in its cache."
        )
        region = state.layout.geometry.pages(2)
        lines.append(
            f"The host hands out S-EPT pages side by side here, so {region} share a pair; the bound gives "
            "each its own."
        )
    else:
        what = "tables" if state.kind == PLAIN else "tables and S-EPT pages"
        lines.append(f"The {what} can be allocated in a drop of mmu_lock: nothing must be held ahead.")
    run = (
        f"The engine is run here for {MOST_SPLITS} splits at most; these numbers are arithmetic."
        if state.used is None
        else "The engine made this split on a tree of its own, and its memory was counted."
    )
    said = [(text, "muted") for text in (*lines, run)]
    what_if = "This is a what-if: the series maps no leaf of this size in a TD."
    return [*said, *[(what_if, "crossing-mark")] * state.budget.what_if]


def verdict_words(design: DesignRow) -> str:
    """A design's verdict."""
    return f"{'survives' if design.survives else 'fails'}: {count_of(design.states, 'state')}"


def topup_words(design: DesignRow) -> str:
    """How often it is topped up."""
    fewest, most = design.topups
    return count_of(most, "top-up") if fewest == most else f"{fewest} to {most} top-ups"


def design_words(design: DesignRow) -> str:
    """A design in a line: its rule, verdict and top-ups, and how it fails."""
    fails = "" if design.survives else f" {capital(design.why)}. {design.witness.strip()}"
    return f"{design.rule}; {verdict_words(design)}, {topup_words(design)}.{fails}"
