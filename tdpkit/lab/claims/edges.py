"""Claims about what must be split before a zap, and about the arithmetic that finds it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from tdpkit.engine.events import ENOMEM, run
from tdpkit.engine.gfn import (
    PG_LEVEL_2M,
    PG_LEVEL_4K,
    X86_4LEVEL,
    GfnRange,
    format_gfn,
    parse_gfn,
)
from tdpkit.engine.kvm import KVM_FILTER_PRIVATE, KvmGfnRange
from tdpkit.engine.splits import SPLITS
from tdpkit.engine.tree import leaf_runs

from ..failures import every_failure
from ..guest import Guest
from ..judge import leaves_at_edges, run_strategy
from ..layouts import DEEP_TOY, LAYOUTS, full_of, layout_of
from ..search import UNIVERSES, Tally, search
from ..shapes import plant, shapes
from ..strategies import STRATEGIES, edge_blocks
from ..td import Td
from ..words import count_of, group_digits, listed
from .claim import FAILS, HOLDS, Claim, Finding, Lesson
from .trees import counted, rooted

_TOY_UNIVERSE = UNIVERSES["three levels"]


def _ranges(frames: int) -> list[GfnRange]:
    """Every range of so many frames that is not empty."""
    return [GfnRange(*edges) for edges in combinations(range(frames + 1), 2)]


def _tried(*names: str) -> dict[str, Tally]:
    """Strategies on every tree of a toy machine with every range."""
    return search(_TOY_UNIVERSE, {name: STRATEGIES[name] for name in names})


# ---- why anything is split, and what -----------------------------------------------------------------------


def _zap_without_a_split() -> Finding:
    """Zap without a split and after one, in a TD and in a plain VM.

    One frame out of an unsplit leaf costs 511 others at 2M and 262 143 at 1G, after a split none (S120). Then
    every range of 32 frames: which bytes outside it a guest can read afterwards, touching every frame (S172).
    """
    alone = {}
    for level in (PG_LEVEL_2M, X86_4LEVEL.max_leaf_level):
        guest = Guest(full_of(X86_4LEVEL, X86_4LEVEL.pages(level), level), "TD")
        for action in ("zap", "split+zap"):
            with guest.after(0, 1, action) as (_, outcome):
                alone[level, action] = outcome.outside_frames
    spans = _ranges(LAYOUTS["toy"].frames)
    unread = {
        (kind, action): [_unread_outside(kind, action, span) for span in spans]
        for kind, action in (("TD", "zap"), ("TD", "split+zap"), ("plain", "zap"))
    }
    without, after, plain = unread.values()
    crossed = sum(bool(Guest("toy", "TD").crossing(span)) for span in spans)
    small, large = (group_digits(alone[level, "zap"]) for level in (PG_LEVEL_2M, X86_4LEVEL.max_leaf_level))
    behind = sum(alone[level, "split+zap"] for level in (PG_LEVEL_2M, X86_4LEVEL.max_leaf_level))
    hurt = sum(map(bool, without))
    shown = (
        f"To zap one frame of a 2M leaf takes {small} others with it, of a 1G leaf {large}; after a split it "
        f"takes {behind}. Of {count_of(len(spans), 'range')} of a toy TD, {crossed} have a leaf across an "
        f"edge; {hurt} of the zaps lose frames outside the range, {sum(map(bool, after))} after a split. A "
        f"plain VM faults all of them in again: it loses {sum(plain)}."
    )
    holds = hurt == crossed > 0 and not behind and not any(after) and not any(plain)
    return Finding(HOLDS if holds else FAILS, shown)


def _unread_outside(kind: str, action: str, span: GfnRange) -> int:
    """Frames outside `span` whose byte the guest can no longer read, after an action on the toy guest."""
    whole = Guest("toy", kind)
    with whole.after(span.start, span.end, action) as (guest, outcome):
        outside = [gfn for part in outcome.outside for gfn in range(part.start, part.end)]
        return sum(guest.touch(gfn).byte != whole.touch(gfn).byte for gfn in outside)


def _only_what_crosses() -> Finding:
    """Run the patch's call on every toy tree with every range, then refuse it each page in turn.

    The splits are those that the spec demands; a refused call returns -ENOMEM, keeps what it split, and a
    second one completes the work (S121, S238).
    """
    tally = _tried("walk_v3")["walk_v3"]
    failures = every_failure("split of a plain VM, write lock", "refusals")
    first = [one.calls[0] for one in failures.runs]
    returned = {call.returned for call in first}
    kept = [len(call.splits) for call in first]
    shown = (
        f"The patch's call is {tally!r} of a toy machine. Refused its first, second, … page, {len(first)} in "
        f"all, it returns {listed(map(str, sorted(returned, key=str)))} and keeps {listed(map(str, kept))} "
        f"splits; {len(failures.unsound)} of the retries end badly."
    )
    holds = tally.exact == tally.cases and returned == {-ENOMEM} and not failures.unsound
    return Finding(HOLDS if holds and kept == [*range(len(kept))] else FAILS, shown)


def _crossing_is_at_the_ends() -> Finding:
    """Split fully mapped toy trees with the patch's call, and look where the split leaves lie.

    Each must have an edge strictly inside (S136; proved for every frame by z3). Then the two examples of K2.
    """
    from ..proofs import STATEMENTS, prove

    geometry = _TOY_UNIVERSE.geometry
    made = beside = cases = 0
    for shape in shapes(geometry, holes=False):
        for span in _ranges(geometry.root_pages):
            cases += 1
            for gfn, level in run_strategy(plant(geometry, shape), STRATEGIES["walk_v3"], span).made:
                last = gfn + geometry.pages(level)
                made += 1
                beside += not any(gfn < x < last for x in (span.start, span.end))
    proof = prove(STATEMENTS["only_edges"])
    whole, part = GfnRange.parse("1G", "2G"), GfnRange.parse("1G+1M", "2G")
    by_2m = full_of(X86_4LEVEL, parse_gfn("4G"), PG_LEVEL_2M)
    first = run_strategy(rooted(by_2m), STRATEGIES["walk_v3"], part).made
    none = counted(by_2m, STRATEGIES["walk_v3"], whole).splits
    shown = (
        f"In {group_digits(cases)} calls on toy trees the patch splits {group_digits(made)} leaves; {beside} "
        f"of them have no edge inside. For all frames of a 64-bit address: {proof.answer}. K2's examples, "
        f"under 2M leaves: [1G, 2G) splits {none}, [1G+1M, 2G) the "
        f"{listed(f'leaf at {format_gfn(gfn)}' for gfn, _ in first)}."
    )
    holds = not beside and proof.proved and not none and [*first] == [(whole.start, PG_LEVEL_2M)]
    return Finding(HOLDS if holds else FAILS, shown)


# ---- the arithmetic ----------------------------------------------------------------------------------------


def _accepted_level() -> Finding:
    """Let a guest accept each frame at 4K and at 2M where KVM mapped more, split in two ways.

    At the edges of the accepted block as v3 13/24 does, or to the accepted level: both trees are the same
    (S131, S140). Leaves are of 2M, and in a what-if of 1G.
    """
    tried = alike = splits = 0
    for leaf_level in (PG_LEVEL_2M, DEEP_TOY.max_leaf_level):
        for level in range(PG_LEVEL_4K, leaf_level):
            size = DEEP_TOY.pages(level)
            for gfn in range(0, DEEP_TOY.pages(leaf_level), size):
                (edges, _), (to_level, by_level) = (
                    _accepted(leaf_level, gfn, level, how) for how in ("v3", "mirror roots")
                )
                tried += 1
                alike += edges == to_level
                splits += by_level
    shown = (
        f"{tried} ACCEPTs of a smaller size than KVM had mapped: split at the edges of the accepted block or "
        f"to the accepted level, the tree is the same in {alike}, after {splits} DEMOTEs."
    )
    return Finding(HOLDS if alike == tried and splits else FAILS, shown)


def _accepted(leaf_level: int, gfn: int, level: int, split: str) -> tuple[object, int]:
    """The ACCEPT's answer with the private tree after it, and the number of its DEMOTEs."""
    td = Td(
        DEEP_TOY,
        DEEP_TOY.pages(DEEP_TOY.max_leaf_level),
        accepted=False,
        leaf_level=leaf_level,
        folio_level=leaf_level,
    )
    td.touch(gfn)
    td.forget()
    answer = td.accept(gfn, level, split)
    root = td.kvm.mirror_root
    assert root is not None, "a TD has a mirror root"
    return (answer, leaf_runs(root)), Counter(call.name for call in td.calls)["TDH.MEM.PAGE.DEMOTE"]


def _head_and_tail() -> Finding:
    """Plan head and tail by arithmetic alone, and make plain calls, on toys and in TDs.

    The plain calls leave the trees that the patch's walk leaves (S126, S141); in a TD two are enough.
    """
    tallies = _tried("one_block_per_edge", "kai_two_step", "last_frame_as_edge")
    wrong = tallies.pop("last_frame_as_edge")
    spans = _ranges(LAYOUTS["toy"].frames)
    same, most = 0, 0
    for span in spans:
        (by_walk, _), (by_ends, calls) = (_split_td(name, span) for name in ("v3", "head and tail"))
        same += by_walk == by_ends
        most = max(most, calls)
    shown = (
        f"One block per edge is {tallies['one_block_per_edge']!r} of a toy machine, both blocks are "
        f"{tallies['kai_two_step']!r}. In a TD of 2M leaves head and tail leave the tree of the patch's walk "
        f"for {same} of {count_of(len(spans), 'range')}, with {most} splits at most. An arithmetic that "
        f"takes the last frame for the edge is wrong in {group_digits(wrong.wrong)} cases."
    )
    holds = all(one.exact == one.cases for one in tallies.values()) and same == len(spans) and most <= 2
    return Finding(HOLDS if holds else FAILS, shown)


def _split_td(name: str, span: GfnRange) -> tuple[object, int]:
    """The private tree of the toy TD after a way of SPLITS, and the splits it took."""
    guest = Guest("toy", "TD")
    before = guest.kvm.pool.rows_in_use
    with guest.kvm.slots_lock:
        run(SPLITS[name](guest.kvm, KvmGfnRange(guest.kvm.slot, span.start, span.end, KVM_FILTER_PRIVATE)))
    return leaf_runs(guest.root), guest.kvm.pool.rows_in_use - before


def _what_a_caller_can_tell() -> Finding:
    """Ask of four guests which edges are crossed, and make the calls that the arithmetic plans.

    An edge at a multiple of 1G is crossed in none, any other in one guest and not in another: the caller
    cannot tell (M12). Where nothing crosses, a call over a block makes 1 to 3 visits, no split (M13; S137).
    """
    size = parse_gfn("4G")
    guests = {
        "nothing": layout_of(X86_4LEVEL, size),
        "4K": LAYOUTS["4G-4K"],
        "2M": full_of(X86_4LEVEL, size, PG_LEVEL_2M),
        "1G": full_of(X86_4LEVEL, size, X86_4LEVEL.max_leaf_level),
    }
    crossed: dict[str, list[str]] = {}
    idle_visits, idle_splits = set[int](), 0
    for edge in ("2G", "2G+2M", "2G+4K"):
        x = parse_gfn(edge)
        crossed[edge] = []
        for name, layout in guests.items():
            root = rooted(layout)
            if leaves_at_edges(root, GfnRange(x, size)):
                crossed[edge].append(name)
                continue
            for block in edge_blocks(x):
                report = run_strategy(root, lambda *_, block=block: [block], GfnRange(x, size))
                idle_visits.add(report.all_visits)
                idle_splits += report.splits
    said = listed(f"{edge} in {len(found)} of {len(guests)}" for edge, found in crossed.items())
    shown = (
        f"Crossed, of guests mapped by {listed(guests, 'or')}: {said}. Where nothing crosses, a call over a "
        f"block makes {min(idle_visits)} to {max(idle_visits)} visits and {idle_splits} splits."
    )
    aligned, *others = (len(found) for found in crossed.values())
    unknowable = not aligned and all(0 < number < len(guests) for number in others)
    return Finding(HOLDS if unknowable and not idle_splits and max(idle_visits) <= 3 else FAILS, shown)


def _two_steps() -> Finding:
    """Run M13's steps on every toy tree with every range, and prove them for every frame.

    Exact (S138, S237); without the 1G step they are not; the blocks that coincide need one call (S233).
    """
    from ..proofs import STATEMENTS, prove

    tallies = _tried("kai_two_step", "head_and_tail", "one_2m_pass")
    kai, repeated, small_only = tallies.values()
    proof = prove(STATEMENTS["two_steps"])
    first = parse_gfn("1G") + 0x207
    once, twice = (
        counted(LAYOUTS["one-1G"], STRATEGIES[name], GfnRange(first, first + 2))
        for name in ("kai_two_step", "head_and_tail")
    )
    shown = (
        f"The two steps are {kai!r} of a toy machine, and for all frames of a 64-bit address: "
        f"{proof.answer}. The 2M step alone is wrong in {group_digits(small_only.wrong)}. Where both edges "
        f"share their blocks, one split of each makes {once.visits} visits, repeating them {twice.visits}, "
        f"for {once.splits} and {twice.splits} splits."
    )
    holds = kai.exact == kai.cases and repeated.exact == repeated.cases and proof.proved
    return Finding(HOLDS if holds and once.splits == twice.splits else FAILS, shown)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        1,
        ("M0",),
        "Before a zap, split the leaves that cross",
        "Leaves that cross an edge of a range must be split before the range is zapped. In a mirror root "
        "the zap would take frames outside the range, and the guest would have to accept them again after "
        "they are faulted back.",
        "Nobody disputes the need; the thread is about the way to meet it.",
        Lesson("00", "Save them: split first"),
        _zap_without_a_split,
    ),
    Claim(
        2,
        ("M0",),
        "Only crossing leaves are split",
        "Only leaves that cross an edge are split, and the call may return -ENOMEM. It reuses the main "
        "logic of the split loop, which may release mmu_lock to allocate memory.",
        "Nobody disputes it. The function itself was not adopted: M2 proposes arithmetic instead. As posted "
        "a bool makes 1 of -ENOMEM, which no mail of the thread mentions; the experiment has int ret.",
        Lesson("02", "No page"),
        _only_what_crosses,
    ),
    Claim(
        14,
        ("M2",),
        "An ACCEPT: just split to its level",
        "For the EPT violation the boundary logic is superfluous. The guest is accepting a page, so it is "
        "enough to split to the level that it accepts.",
        "M8 proposes to expose the function that splits one root, and M9 answers “Ok.” The later code "
        "splits to the accepted level (R1).",
        Lesson("05", "Larger than asked, smaller than asked"),
        _accepted_level,
    ),
    Claim(
        15,
        ("M2",),
        "Do the math for head and tail",
        "Arithmetic finds the head and tail pages that need a split, if any. The existing code can split "
        "them.",
        "Adopted for conversions, in RFC v5 44 and R2; M3 and M4 set the hole aside, of which M2 speaks.",
        Lesson("03", "The contenders"),
        _head_and_tail,
    ),
    Claim(
        36,
        ("M10",),
        "Leaves cross at the two ends only",
        "A leaf can cross a boundary only at the beginning and end of a range. So the caller can work out "
        "what to split; the mail asks why kvm_split_cross_boundary_leafs() is needed at all. It refers to "
        "one of November 2025 (K2), which has the examples.",
        "M15: “It's a good idea if introducing only_cross_boundary is undesirable.” The later code does so.",
        Lesson("03", "One edge"),
        _crossing_is_at_the_ends,
    ),
    Claim(
        38,
        ("M12",),
        "Callers know only when no split is due",
        "A caller can only tell when no split is needed. Where the start is no multiple of 1 GB or 2 MB it "
        "has no idea whether a mapping covers start - 1 and start; a start at a multiple of 2 MB may lie "
        "inside a 1 GB mapping of a VM without TDX. For a huge range calculating ahead still saves "
        "iterations.",
        "M13 asks “Why does the caller need to know?” and splits the blocks whether or not anything "
        "crosses. M14 answers “It can work.”",
        Lesson("03", "What the caller does not know"),
        _what_a_caller_can_tell,
    ),
    Claim(
        39,
        ("M13",),
        "For one edge: its 1G block, its 2M block",
        "Two steps free an edge. At a multiple of 1 GB nothing is split; at a multiple of 2 MB the aligned "
        "1 GB block around it is split to 2 MB; at any other frame the 2 MB block around it is then split "
        "to 4 KB. The same for the end, and a range that both edges ask for is split once.",
        "M14 answers “It can work”, M15 calls it “a good idea if introducing only_cross_boundary is "
        "undesirable”. The later code has the form for 2 MB (R2).",
        Lesson("03", "One edge"),
        _two_steps,
    ),
)
