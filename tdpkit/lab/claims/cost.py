"""Claims about visits: what a call over a large or a short range costs."""

from __future__ import annotations

from tdpkit.engine.gfn import GfnRange, format_gfn, parse_gfn

from ..cost_curves import KERNEL_NS_PER_VISIT, MAPS, SIZES, convert, convert_4k, cost_curves, mapped_guest
from ..layouts import LAYOUTS
from ..search import UNIVERSES, search
from ..strategies import STRATEGIES, Planner
from ..words import count_of, group_digits, listed
from .claim import FAILS, HOLDS, HOLDS_IF, Claim, Finding, Lesson
from .trees import Counted, counted

_ALIGNED = GfnRange.parse("2T", "14T")
_UNALIGNED = GfnRange.parse("2T+4K", "14T+4K")
"""12 TiB of a guest of 16 TiB (M2); the addresses are ours."""
_WASTEFUL = 1000
"""A walk that visits so many times what the two edges need is called wasteful here."""
_FEW = 2 * 512
"""Visits that nobody would notice: two tables of x86."""
_GIB = parse_gfn("1G")
_SHORT = tuple(size for size in SIZES if size <= _GIB)


def _visits(mapped_by: str, name: str, span: GfnRange) -> int:
    """SPTEs that a strategy's calls visit in a guest of 16 TiB mapped as a name of MAPS says."""
    if mapped_by == "4K leaves":
        return convert_4k(STRATEGIES[name], span).split_visits
    return convert(mapped_guest(mapped_by), STRATEGIES[name], span).split_visits


def _large_hole() -> Finding:
    """Split 12 TiB with the patch's call and with one block per edge, in guests mapped in four ways.

    Under 2M and 4K leaves an aligned range takes 6 303 768 visits, under 1G leaves 12 312, where nothing is
    mapped 24; the zap that follows walks as far (S122, S230).
    """
    walk = {name: _visits(name, "walk_v3", _ALIGNED) for name in MAPS}
    times = {
        name: _visits(name, "walk_v3", _UNALIGNED) // _visits(name, "one_block_per_edge", _UNALIGNED)
        for name in MAPS
    }
    zap = convert(mapped_guest("2M leaves"), STRATEGIES["walk_v3"], _UNALIGNED).zap_visits
    least, most = (walk["2M leaves"] * ns / 1e6 for ns in KERNEL_NS_PER_VISIT)
    by_leaves = listed(f"{count_of(visits, 'visit')} ({name})" for name, visits in walk.items())
    shown = (
        f"An aligned 12 TiB costs the patch's call {by_leaves}. With both edges inside a 2M leaf it visits "
        f"{group_digits(times['2M leaves'])} times as many entries as one block per edge. Under 2M leaves "
        f"that is {least:.0f} to {most:.0f} ms of the kernel's C code, and the zap that follows makes "
        f"{count_of(zap, 'visit')}."
    )
    wasteful = [name for name in MAPS if times[name] >= _WASTEFUL]
    if not wasteful:
        return Finding(FAILS, shown)
    if len(wasteful) == len(MAPS):
        return Finding(HOLDS, shown)
    return Finding(HOLDS_IF, shown, f"the range is mapped by {listed(wasteful, 'or')}")


def _ranges_in_practice() -> Finding:
    """Walk 12 TiB where nothing is mapped and where all is, and ranges up to 1 GiB.

    M7's two halves apart: 24 visits for an empty range, 6 303 777 for a mapped one (S122).
    """
    empty = _visits("nothing", "walk_v3", _UNALIGNED)
    mapped = _visits("2M leaves", "walk_v3", _UNALIGNED)
    curves = cost_curves("2M leaves", _SHORT)
    short = max(curves.split["walk_v3"])
    shown = (
        f"12 TiB of which nothing is mapped cost {count_of(empty, 'visit')}, mapped by 2M leaves "
        f"{group_digits(mapped)}. No range up to {format_gfn(_SHORT[-1])} costs more than "
        f"{group_digits(short)}."
    )
    if max(empty, short) > _FEW:
        return Finding(FAILS, shown)
    if mapped <= _FEW:
        return Finding(HOLDS, shown)
    return Finding(
        HOLDS_IF,
        shown,
        "nothing is mapped yet where the range is large; that runtime conversions are short is an assumption",
    )


def _two_calls() -> Finding:
    """Try M7's two calls on every toy tree with every range, then on 12 TiB, at their longest and at 8 KiB.

    They split what the patch's one call splits, in 1038 visits at most under a 4-level root; on 8 KiB of a 1G
    leaf they cost 522 where one call costs 8 (S129, S233).
    """
    tally = search(UNIVERSES["three levels"], {"two_calls": STRATEGIES["two_calls"]})["two_calls"]
    long = {name: _visits("2M leaves", name, _UNALIGNED) for name in ("two_calls", "walk_v3")}
    both: list[Planner] = [STRATEGIES["two_calls"], STRATEGIES["walk_v3"]]
    longest, _ = (counted(LAYOUTS["16T-1G"], plan, GfnRange.parse("1G+4K", "4G-4K")).visits for plan in both)
    short, one_call = (counted(LAYOUTS["16T-1G"], plan, GfnRange(0x207, 0x209)).visits for plan in both)
    shown = (
        f"The two calls are {tally!r} of a toy machine. On 12 TiB of 2M leaves they make "
        f"{count_of(long['two_calls'], 'visit')} where one call makes {group_digits(long['walk_v3'])}; at "
        f"their longest {group_digits(longest)}. On 8 KiB of a 1G leaf they make {short}, one call "
        f"{one_call}."
    )
    holds = tally.exact == tally.cases and long["two_calls"] * _WASTEFUL < long["walk_v3"]
    return Finding(HOLDS if holds else FAILS, shown)


def _short_ranges() -> Finding:
    """Price M14's one call and M13's two steps over ranges of every size up to 1 GiB, and on M14's 8 KiB.

    8 visits against 10 in one 2M block of a 1G leaf, 12 and 16 across a 2M edge, 15 and 20 across a 1G edge,
    with as many splits; but 522 against 16 at [1G+4K, 2G-4K) (S139).
    """
    said, fewer, alike = [], True, True
    for place, first in (("inside a 2M block", 0x207), ("across a 2M edge", 0x3FF), ("across a 1G edge", -1)):
        one, two = _one_and_two(GfnRange(2 * _GIB + first, 2 * _GIB + first + 2))
        said.append(f"{one.visits} visits against {two.visits} {place}")
        fewer &= one.visits < two.visits
        alike &= one.splits == two.splits
    nearly = GfnRange.parse("1G+4K", "2G-4K")
    long_one, long_two = _one_and_two(nearly)
    plain = counted(LAYOUTS["two-1G"], STRATEGIES["plain_split"], GfnRange.parse("1G+4K", "2G"))
    behind = [cost_curves(name, _SHORT).crossover("kai_two_step") for name in ("1G leaves", "2M leaves")]
    turns = min(size for size in (*behind, 2 * _GIB) if size is not None)
    shown = (
        f"8 KiB of 1G leaves, in one call and in two steps: {listed(said)}, with "
        f"{'the same' if alike else 'other'} numbers of splits. [1G+4K, 2G-4K), also shorter than 1 GiB, "
        f"takes {long_one.visits} against {long_two.visits}. Without the patch's filter one call to 4K makes "
        f"{plain.splits} tables of [1G+4K, 2G)."
    )
    if not fewer:
        return Finding(FAILS, shown)
    if turns > _GIB and long_one.visits <= long_two.visits:
        return Finding(HOLDS, shown)
    longest = format_gfn(turns // 2)
    return Finding(
        HOLDS_IF, shown, f"the range is no longer than some {longest}; up to 1 GiB it does not hold"
    )


def _one_and_two(span: GfnRange) -> list[Counted]:
    """M14's one call and M13's two steps on `span` of 1G leaves."""
    return [counted(LAYOUTS["16T-1G"], STRATEGIES[name], span) for name in ("walk_v3", "kai_two_step")]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        7,
        ("M2",),
        "12 TiB are walked for two edges",
        "It is inefficient to punch a large hole with the patch's call. For a hole of 12 TiB in a "
        "guest_memfd of 16 TiB (“no idea if that's even possible”) it walks all of that “just to _maybe_ "
        "split the head and tail pages”.",
        "M7 calls it “a reasonable concern”. A hole needs no split, says M3, and M4 agrees: the conversion "
        "is the path that matters. The later code splits at most two blocks, found by arithmetic.",
        Lesson("03", "What it is worth"),
        _large_hole,
    ),
    Claim(
        18,
        ("M7",),
        "Large ranges cost little in practice",
        "Large ranges cost little in practice. Conversions are usually shorter than 1 GB. The one that "
        "converts all memory from private to shared at first may be wide, but usually nothing is mapped at "
        "that stage, so the walk stays at the upper levels.",
        "M8 answers the first half: “Nothing guarantees that behavior.” Nobody disputes the second.",
        Lesson("03", "What it is worth"),
        _ranges_in_practice,
    ),
    Claim(
        19,
        ("M7",),
        "For a huge range, call twice",
        "For a very large range two calls are enough. One covers the range up to the next multiple of 1 GB "
        "after its start, one covers it from the last multiple before its end. The caller can make them, or "
        "the function can.",
        "Overtaken by head and tail (M2, M13): the same thought, and fewer visits.",
        Lesson("03", "The contenders"),
        _two_calls,
    ),
    Claim(
        40,
        ("M14",),
        "Below 1G the loop is simpler and cheaper",
        "Below 1 GB one call without arithmetic is simpler and more efficient. For 8 KB, aligned to 4 KB, a "
        "single call splits a 1 GB mapping to 4 KB directly; why split twice?",
        "M15, the next mail by Yan Zhao, drops the argument: “I think I get your point now. It's a good "
        "idea if introducing only_cross_boundary is undesirable.” No mail takes back what is said of short "
        "ranges.",
        Lesson("03", "What it is worth"),
        _short_ranges,
    ),
)
