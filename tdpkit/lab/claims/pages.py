"""Claims about the memory of a split, by number: what can be predicted, and what it is worth."""

from __future__ import annotations

from itertools import combinations

from tdpkit.engine.events import AllocTable, Trace, Unlock, record
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, X86_4LEVEL, GfnRange, parse_gfn
from tdpkit.engine.kvm import KVM_X86_DEFAULT_VM, Kvm, KvmMemorySlot
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.engine.tree import map_run

from ..budget import DYNAMIC, Used, measure, predict
from ..layouts import DEEP_TOY, LAYOUTS, TD_4LEVEL, Layout, full_of
from ..strategies import STRATEGIES
from ..words import count_of, group_digits, listed
from .claim import FAILS, HOLDS, HOLDS_IF, Claim, Finding, Lesson
from .trees import counted, rooted

_SIXTEEN = parse_gfn("16G")
_1G = X86_4LEVEL.max_leaf_level


def _by(level: int) -> Layout:
    """16 GiB of a plain VM, mapped by leaves of `level`."""
    return full_of(X86_4LEVEL, _SIXTEEN, level)


def _all_to_4k(level: int) -> Used:
    """The pages that the engine takes to split 16 GiB to 4K from leaves of `level`."""
    return measure(_by(level), 0, _SIXTEEN, split="everything")


def _toy_ranges() -> list[tuple[int, int]]:
    """Every range of 32 frames that is not empty."""
    return [*combinations(range(2 * DEEP_TOY.pages(DEEP_TOY.max_leaf_level) + 1), 2)]


_TOYS = [full_of(DEEP_TOY, 2 * DEEP_TOY.pages(3), level) for level in (PG_LEVEL_4K, PG_LEVEL_2M, 3)]
"""32 frames mapped by leaves of each size."""


# ---- the whole range ---------------------------------------------------------------------------------------


def _no_prediction() -> Finding:
    """Split whole ranges of toys mapped in three ways, and hold the bound by the two edges against it.

    The maximum is predicted by arithmetic, is never exceeded, and is reached where the leaves are large. What
    one call takes depends on the tree (S132, S133).
    """
    largest = _TOYS[-1]
    ranges = [(s, e) for s, e in _toy_ranges() if s % 3 == 0]
    over = reached = calls = 0
    for s, e in ranges:
        bound = predict(largest, s, e, split="everything").bound.tables
        used = [measure(toy, s, e, split="everything").pages.tables for toy in _TOYS]
        calls += len(used)
        over += sum(tables > bound for tables in used)
        reached += max(used) == bound
    most = predict(_by(_1G), 0, _SIXTEEN, split="everything").bound.tables
    sizes = {level: _all_to_4k(level).pages.tables for level in (_1G, PG_LEVEL_2M)}
    none = counted(LAYOUTS["4G-4K"], STRATEGIES["plain_split"], GfnRange(0, parse_gfn("4G"))).splits
    shown = (
        f"The two edges alone bound the tables of a whole range: of {count_of(calls, 'call')} on toys, "
        f"{over} took more, and for {group_digits(reached)} of {count_of(len(ranges), 'range')} the bound is "
        f"reached. For 16 GiB it is {group_digits(most)}; from 1G leaves the engine takes "
        f"{group_digits(sizes[_1G])}, from 2M leaves {group_digits(sizes[PG_LEVEL_2M])}, from 4K leaves "
        f"{none}. So the maximum is known, the number itself is not."
    )
    predicted = not over and reached == len(ranges) and max(sizes.values()) <= most
    return Finding(FAILS if predicted else HOLDS, shown)


def _eight_thousand_pages() -> Finding:
    """Split 16 GiB to 4K on the engine, from leaves of 1G and from leaves of 2M.

    16 * (1 + 512) = 8208 tables and 16 * 512 = 8192 (S133).
    """
    from_1g, from_2m = (_all_to_4k(level).pages.tables for level in (_1G, PG_LEVEL_2M))
    mib = from_1g / 256
    said = 16 * 512
    shown = (
        f"16 GiB to 4K take {group_digits(from_1g)} tables from leaves of 1G ({mib:.2f} MiB), "
        f"{group_digits(from_2m)} from leaves of 2M; M9 has {group_digits(said)}."
    )
    if from_2m != said:
        return Finding(FAILS, shown)
    if from_1g == said:
        return Finding(HOLDS, shown)
    return Finding(HOLDS_IF, shown, "the memory is mapped by 2M leaves already")


def _not_worth_a_cache() -> Finding:
    """Predict a dirty-log split of 16 GiB, make it, and count lock drops there and in a page fault.

    8208 pages at most, where the two edges of a conversion need 2 (S132, S133). The loop drops mmu_lock for
    each page; a page fault takes its pages from the vCPU's cache and never does (S80, S82).
    """
    most = predict(_by(_1G), 0, _SIXTEEN, split="everything").bound.tables
    loop = counted(_by(_1G), STRATEGIES["plain_split"], GfnRange(0, _SIXTEEN))
    ends = GfnRange.parse("1G+4K", "15G+4K")
    needed = counted(_by(PG_LEVEL_2M), STRATEGIES["walk_v3"], ends).splits
    splits, drops = _fault_on_a_huge_leaf()
    shown = (
        f"At most {count_of(most, 'page')} for 16 GiB, by arithmetic; from 1G leaves all "
        f"{group_digits(loop.splits)} are used, and mmu_lock is dropped {count_of(loop.lock_drops, 'time')}. "
        f"The two edges of a conversion of 14 GiB under 2M leaves need {needed}. A page fault that splits "
        f"{count_of(splits, 'leaf', 'leaves')} drops the lock {count_of(drops, 'time')}."
    )
    holds = loop.splits <= most and loop.lock_drops == loop.splits > 1000 * needed and splits and not drops
    return Finding(HOLDS if holds else FAILS, shown)


def _fault_on_a_huge_leaf() -> tuple[int, int]:
    """Leaves that a fault with a 4K goal splits, on a 1G leaf, and how often it drops mmu_lock on the way."""
    slot = KvmMemorySlot(0, X86_4LEVEL.pages(_1G), host_pfn=0)
    kvm = Kvm(KVM_X86_DEFAULT_VM, X86_4LEVEL, memslots=[slot])
    map_run(kvm.direct_root, 0, _1G, 1, 0)
    fault = record(kvm_tdp_mmu_page_fault(kvm, 7, is_private=False, max_level=PG_LEVEL_4K))
    traces = [event.name for event in fault.events if isinstance(event, Trace)]
    drops = [event for event in fault.events if isinstance(event, Unlock) and event.reason != "done"]
    return traces.count("kvm_mmu_split_huge_page"), len(drops)


# ---- two edges ---------------------------------------------------------------------------------------------


def _allocated_beforehand() -> Finding:
    """Give the patch's walk its pages in hand, on every range of the toys, and see whether it drops the lock.

    At most two tables per edge with leaves of three sizes, one with two: 4 and 2 in all; z3 proves it for
    every frame (S132, S237). A TD of 2M leaves takes 2 tables, 2 S-EPT pages and 8 PAMT pages at most.
    """
    from ..proofs import STATEMENTS, prove

    drops, most = 0, {}
    for toy, pages in zip(_TOYS[1:], (2, 4), strict=True):
        used = []
        for s, e in _toy_ranges():
            root = rooted(toy)
            hand = [root.pool.alloc() for _ in range(pages)]
            call = tdp_mmu_split_huge_pages_root(
                root, s, e, PG_LEVEL_4K, shared=False, only_cross_boundary=True, in_hand=hand
            )
            events = record(call)
            drops += len(events.of(Unlock)) + len(events.of(AllocTable))
            used.append(pages - len(hand))
        most[pages] = max(used)
    td = full_of(TD_4LEVEL, parse_gfn("4G"), PG_LEVEL_2M)
    span = (7, parse_gfn("2G") + 5)
    bound, took = predict(td, *span, kind=DYNAMIC).bound, measure(td, *span, kind=DYNAMIC).pages
    proofs = [prove(STATEMENTS[name]) for name in ("pages_without_1g", "pages_for_range")]
    proved = listed(dict.fromkeys(one.answer for one in proofs))
    shown = (
        "With 2 pages in hand under leaves of two sizes and 4 under leaves of three, "
        f"{count_of(2 * len(_toy_ranges()), 'call')} on toys drop mmu_lock {drops} times; they use {most[2]} "
        f"and {most[4]} at most. For all frames of a 64-bit address: {proved}. In a TD of 2M leaves with "
        f"Dynamic PAMT the bound is {bound.tables} tables, {bound.external} S-EPT pages and "
        f"{bound.pamt_guest + bound.pamt_sept} PAMT pages; one call over 2 GiB took {took.tables}, "
        f"{took.external} and {took.pamt_guest + took.pamt_sept}."
    )
    within = all(one <= other for one, other in zip(took, bound, strict=True))
    holds = not drops and within and most == {2: 2, 4: 4} and all(one.proved for one in proofs)
    return Finding(HOLDS if holds else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        26,
        ("M7",),
        "How many tables cannot be predicted",
        "The split loop cannot predict how many pages to allocate ahead. So tdp_mmu_split_huge_pages_root() "
        "temporarily releases mmu_lock to allocate them.",
        "M8 answers that kvm_tdp_mmu_try_split_huge_pages() “can also predict the _max_ number”. M9: "
        "“Right, it's technically feasible, but practically not.”",
        Lesson("07", "Why the lock is dropped"),
        _no_prediction,
    ),
    Claim(
        27,
        ("M7",),
        "For two edges the pages are predictable",
        "For a split at the edges the largest number of pages can be predicted. So a function other than "
        "tdp_mmu_split_huge_pages_root() could take sp, sp->spt, sp->external_spt and the Dynamic PAMT pages "
        "from KVM's MMU cache, and not release mmu_lock.",
        "M8 calls it “completely orthogonal” to the head and tail pages. The later designs still drop "
        "mmu_lock to allocate, and keep only PAMT pages in a cache.",
        Lesson("07", "Two edges, predicted"),
        _allocated_beforehand,
    ),
    Claim(
        28,
        ("M8",),
        "Predictable, but not worth a cache",
        "The split for dirty logging can predict a maximum too, but need not. It is not worth a cache: that "
        "path can drop mmu_lock at will, unlike the full page fault path, and the number is so large.",
        "M9 agrees: “technically feasible, but practically not”.",
        Lesson("07", "Sixteen gibibytes"),
        _not_worth_a_cache,
    ),
    Claim(
        29,
        ("M9",),
        "16 GiB to 4K take at most 8192 tables",
        "To split 16 GB down to 4 KB takes at most 16 * 512 = 8192 pages. That is without TDX, and too many "
        "to allocate ahead.",
        "Nobody comments on the number.",
        Lesson("07", "Sixteen gibibytes"),
        _eight_thousand_pages,
    ),
)
