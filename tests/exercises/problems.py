"""Every check with a right answer, worked out by hand; and how a verdict is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tdpkit.engine.events import Trace
from tdpkit.engine.kvm import KvmGfnRange
from tdpkit.engine.mmu import (
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
)
from tdpkit.engine.splits import kvm_tdp_mmu_mirrors_split_huge_pages
from tdpkit.exercises import (
    convert_zap_accept,
    frames_levels_leaves,
    from_a_real_host,
    head_and_tail,
    lock_resched_flush,
    memory_for_a_split,
    splitting_across_a_boundary,
    start_here,
    the_review_run,
    two_roots,
)
from tdpkit.exercises.checking import Verdict
from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.strategies import PlannedCall

# ---- notebook 00 ---------------------------------------------------------------------------------------

KEPT = "10 11 12 13 14 15 16 17"
ZEROS = "00 00 00 00 00 00 00 00"
"""S172: re-faulted memory keeps its bytes, accepted memory is zero-filled."""
SPLITS = {"[1G, 2G)": 0, "[1G+1M, 2G)": 2, "[1G+2M, 2G)": 1, "[1G+4K, 2G-4K)": 3}
"""S142: one split for each leaf that strictly contains an edge, from 1G down."""


def split_then_zap(guest: Any, start: int, end: int) -> None:
    guest.split(start, end)
    guest.zap(start, end)


# ---- notebook 01 ---------------------------------------------------------------------------------------

BY_HAND = [6, 5, 3, 7]
"""3T is 6 x 512G, 5G is 5 x 1G, 6M is 3 x 2M, 28K is 7 x 4K."""
HAS_INDICES = "512G+2G+6M+16K"
"""1 x 512G, 2 x 1G, 3 x 2M, 4 x 4K."""
TABLES = {
    "one 4K leaf at 1G": 4,
    "2M of 4K leaves from 1G": 4,
    "2M of 4K leaves from 1G-1M": 6,
    "4M of 2M leaves from 512G-2M": 5,
}
"""Counted by hand. A chain of root, 1G, 2M and 4K entries: 4 tables. Across 1G 4K and 2M entries lie in
two tables each: 1 + 1 + 2 + 2. Across 512G, 2M leaves: 1 + 2 + 2."""
BITS = {"2M leaf": {7}, "1G leaf, NX on": set(), "2M leaf without X, NX on": {2, 7, 10}}
"""S26 and S20: bit 7 goes at 4K; with the NX rule X and XU come back there."""


def index(gfn: int, level: int, bits: int) -> int:
    return gfn // 2 ** (bits * (level - 1)) % 2**bits


# ---- notebook 02 ---------------------------------------------------------------------------------------

ORDER = [(3, 16), (3, 16), (2, 20), (2, 24), (2, 28), (3, 32), (3, 32), (2, 32), (2, 36)]
"""By hand, the call on [20, 40): four leaves of 16 frames. 20 lies in the second; its split drops the lock,
so it is visited again; then its parts that the range holds. 40 lies in the third, likewise, up to 36."""
FOUND = {0: (16, 32), 2: (21, 32), 3: (5, 20), 4: (5, 21), 1: (20, 32)}
"""No number of junk, in the place of one of the last two, makes one split."""
EMPTY = {0: 0, 16: 0, 20: 1, 21: 2}
"""0 and 16 begin a leaf of 16; 20 lies inside one and begins a part of 4; 21 lies inside both."""


def the_call() -> SplitCall:
    return SplitCall("large", 20, 40)


def crosses(leaf: Any, span: Any) -> bool:
    return any(leaf.gfn < edge < leaf.gfn + leaf.pages for edge in (span.start, span.end))


# ---- notebook 03 ---------------------------------------------------------------------------------------

BLOCKS = {
    "1G": [],
    "1G+2M": [("1G", "2G", 2)],
    "1G+2M+4K": [("1G", "2G", 2), ("1G+2M", "1G+4M", 1)],
    "2T+4K": [("2T", "2T+1G", 2), ("2T", "2T+2M", 1)],
}
"""By hand: the 1G around the edge unless it is a multiple of 1G, the 2M around it unless one of 2M."""


def edge_blocks(x: int, pages: dict[int, int]) -> list[tuple[int, int, int]]:
    blocks = []
    for level in sorted(pages, reverse=True):
        first = x // pages[level] * pages[level]
        if first != x:
            blocks.append((first, first + pages[level], level - 1))
    return blocks


def calls(start: int, end: int) -> list[tuple[int, int, int]]:
    return [(start, start, 1), (end, end, 1)]


# ---- notebook 04 ---------------------------------------------------------------------------------------

TABLE = {
    0: (0, 0, 0, 0),
    1: (0, 0, 0, 0),
    2: (1, 0, 0, 0),
    3: (1, 1, 0, 0),
    4: (0, 0, 1, 0),
    5: (0, 0, 1, 1),
    6: (1, 0, 1, 0),
    7: (1, 1, 1, 1),
}
"""S43. Of each number of root types: valid direct, invalid direct, valid mirror, invalid
mirror."""
CULPRIT = "kvm_tdp_mmu_split_huge_pages"


def mirrors(kvm: Any, gfn: int, level: int) -> Any:
    first = kvm.geometry.gfn_round_for_level(gfn, level)
    return kvm_tdp_mmu_mirrors_split_huge_pages(kvm, first, first + kvm.geometry.pages(level), level)


# ---- notebook 05 ---------------------------------------------------------------------------------------

DEMOTE = ["BLOCK", "TRACK", "KICK", "DEMOTE"]
RIGHT_ACCEPTS: dict[str, tuple[str, Any]] = {
    "4K, nothing mapped": ("nothing", "TDX_SUCCESS"),
    "4K, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),
    "4K, a 2M page PENDING": ("2M", "TDX_SUCCESS"),
    "4K, a 2M page accepted": ("nothing", "TDX_PAGE_ALREADY_ACCEPTED"),
    "2M, nothing mapped": ("nothing", "TDX_SUCCESS"),
    "2M, a 2M page PENDING": ("nothing", "TDX_SUCCESS"),
    "2M, a 4K page PENDING": ("nothing", "TDX_PAGE_SIZE_MISMATCH"),
    "1G, nothing mapped": ("nothing", "TDX_OPERAND_INVALID"),
}
"""S169 and S173."""
RIGHT_CALLERS = {
    "conversion": "edge",
    "punch hole": "folio",
    "mismatched accept": "always",
    "memory failure": "folio",
}

# ---- notebook 06 ---------------------------------------------------------------------------------------

LIE = (
    "A:lock A:read A:unlock "
    "B:lock B:read B:unlock B:lock B:read B:store B:read B:unlock "
    "A:lock A:read A:read A:unlock A:return"
)
"""By hand, after S80 and S211: A sees the leaf and drops the lock for a page. B does the same, and splits. A
starts anew, finds a table and no leaf that crosses, and returns."""
FLUSH_RULES = {"fault path of a TD": "never", "conversion": "if I changed", "dirty logging": "always"}
"""M0's three."""


def honest_wrapper(kvm: Any, gfn_range: Any, shared: bool) -> Any:
    """S100."""
    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):
        yield Trace("WARN: lockdep")
    if not gfn_range.may_block:
        return -95
    if not kvm.tdp_mmu_enabled:
        return 0
    return (yield from kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared=shared))


# ---- notebook 07 ---------------------------------------------------------------------------------------

RIGHT_PAGES = {
    "plain VM, 2M leaves, [1G+4K, 2G)": (1, 0, 0),
    "plain VM, 1G leaves, [1G+4K, 2G-4K)": (3, 0, 0),
    "plain VM, 1G leaves, [1G-4K, 1G+2M)": (3, 0, 0),
    "plain VM, 1G leaves, [0, 2G), all to 4K": (1026, 0, 0),
    "TD, [4K, 2M-4K)": (1, 1, 0),
    "Dynamic PAMT, [2M+4K, 6M+4K), a new region": (2, 2, 6),
    "Dynamic PAMT, [2M+4K, 6M+4K), a region in use": (2, 2, 4),
}
"""By hand. 1G+4K lies inside a 1G and a 2M leaf, 2G-4K inside another 2M leaf; 1G+2M is a multiple of 2M.
Each 1G takes 1 + 512. Two leaves demoted take two pairs, their S-EPT pages one if their region is new (S176).
"""
RACE = [("A", 9), ("B", 10), ("A", 1), ("B", 6), ("A", 5)]
"""A asks and drops the lock, B asks and tops up, A finds the cache full, B splits, A splits."""


def set_aside(start: int, end: int, sizes: list[int]) -> int:
    return sum(len({x // pages for x in (start, end) if x % pages}) for pages in sizes)


# ---- notebook 08 ---------------------------------------------------------------------------------------

CASES = {
    "C29": (2, 3),
    "C40": (("2G+4K", "2G+12K"), ("1G+4K", "2G-4K")),
    "C4": (("exclusive", "on demand"), ("exclusive", "in hand")),
}
"""S106: the drop makes it false, and under the exclusive lock nothing else does. S133. S139: 8 KiB in one 2M
block, 8 visits against 10; [1G+4K, 2G-4K), 522 against 16."""
CHANGED = {"C2": "holds", "C18": "holds", "C19": "fails"}
"""S233: one block per edge is exact, and costs at most 16 visits, whatever is mapped and however long."""


def my_plan(geometry: Any, s: int, e: int) -> list[PlannedCall]:
    """From the beginning of an edge's smallest block up to the edge."""
    return [PlannedCall(x // geometry.pages(2) * geometry.pages(2), x, 1) for x in (s, e)]


def planted(kvm: Any, gfn_range: Any) -> Any:
    """The filter is forgotten: both halves (S44)."""
    both = KvmGfnRange(gfn_range.slot, gfn_range.start, gfn_range.end)
    return kvm_split_cross_boundary_leafs(kvm, both, shared=False)


# ---- notebook 09 ---------------------------------------------------------------------------------------

HAND = {"crossed": {0x200, 0x600}, "split": {0x200}, "frames": 509}
"""[0x3fe, 0x603) begins in the leaf [0x200, 0x400) and ends in [0x600, 0x800), three frames in; 512 - 3."""
UNMAP = {"start": 0x9FE, "end": 0xC02, "split": {0x800, 0xC00}}
"""Page 0x7f3c3f807 is frame 0x207: 0x7f3c3fffe - 0x7f3c3f807 is 0x7f7, and 0x207 + 0x7f7 is 0x9fe."""


def taken_outside(changes: Any, start: int, end: int) -> int:
    """Leaf by leaf, whole sets of frames: those of the range taken off, if there are any."""
    outside = 0
    for change in changes:
        if change.what == "zap":
            frames = range(change.gfn, change.gfn + 512 ** (change.level - 1))
            within = len(range(max(frames.start, start), min(frames.stop, end)))
            outside += len(frames) - within if within else 0
    return outside


# ---- all of them ---------------------------------------------------------------------------------------


class Problem(NamedTuple):
    check: Callable[..., Verdict]
    right: tuple[Any, ...]
    """A right submission, argument by argument."""
    given: tuple[Any, ...] = ()
    """Arguments after it, which the notebook gives."""
    says: str = ""
    """Words of the verdict: the number of cases, counted by hand."""

    def verdict(self, *submitted: Any) -> Verdict:
        return self.check(*submitted, *self.given)

    @property
    def functions(self) -> list[int]:
        """The arguments that are functions."""
        return [at for at, part in enumerate(self.right) if callable(part)]


PROBLEMS = [
    # 27 layouts, 12 * 13 / 2 ranges, 2 kinds of VM; 16 + 8 + 4 + 2 leaves, 16 * 17 / 2 ranges; 38 ** 2 trees
    # (an entry is a hole, a leaf, or a table of two smaller ones: 2, 6, 38), 9 * 10 / 2 ranges.
    Problem(start_here.check_same_zap, (KEPT, ZEROS)),
    Problem(start_here.check_loses, (5, 11), (10,)),
    Problem(start_here.check_splits, (SPLITS,)),
    Problem(start_here.check_convert, (split_then_zap,), says="4212 conversions"),
    Problem(frames_levels_leaves.check_shared, (0, 256)),
    Problem(frames_levels_leaves.check_by_hand, (BY_HAND, HAS_INDICES)),
    Problem(frames_levels_leaves.check_index, (index,), says="2192 indices"),
    Problem(frames_levels_leaves.check_tables, (TABLES,)),
    Problem(frames_levels_leaves.check_child_bits, (BITS,)),
    Problem(splitting_across_a_boundary.check_crosses, (crosses,), says="4 080 cases"),
    Problem(splitting_across_a_boundary.check_order, (ORDER,), (the_call(),), "all 9 visits"),
    Problem(splitting_across_a_boundary.check_split_counts, (FOUND,)),
    Problem(splitting_across_a_boundary.check_empty, (EMPTY, "b")),
    Problem(head_and_tail.check_blocks, (BLOCKS,)),
    Problem(head_and_tail.check_edge_blocks, (edge_blocks,), says="(64 980 cases)"),
    Problem(head_and_tail.check_overlap, (3, 513), says="they make 513 splits where 2 do"),
    Problem(head_and_tail.check_aligned_2m, ("1G+2M", "2G")),
    Problem(head_and_tail.check_ratio, (1,)),
    Problem(head_and_tail.check_no_arithmetic, (calls,), says="all 64 980 cases"),
    Problem(two_roots.check_root_types, (TABLE,)),
    Problem(two_roots.check_plain_zap, ("the direct tree",)),
    Problem(two_roots.check_hunt, (CULPRIT, "direct")),
    Problem(two_roots.check_mend, (mirrors,), says="9 TDs: "),
    Problem(convert_zap_accept.check_demote_order, (DEMOTE,)),
    Problem(
        convert_zap_accept.check_lost, (8,), says="loses 8 frames outside the range: 0 to 4 and 13 to 15."
    ),
    Problem(convert_zap_accept.check_accept, (RIGHT_ACCEPTS,), says="all 8. "),
    Problem(convert_zap_accept.check_callers, (RIGHT_CALLERS,)),
    # 4 pages under leaves of 16 (of 4 and of 16 around each edge), for write and for read; 2 in the TD, which
    # has leaves of 4; below three callers two splits of two requests each, below an ACCEPT one.
    Problem(lock_resched_flush.check_in_hand, ("in some schedule",)),
    Problem(lock_resched_flush.check_lie, (LIE,), says="16 steps, the shortest 16"),
    Problem(lock_resched_flush.check_flush_rules, (FLUSH_RULES,), says="no rule flushes less"),
    Problem(lock_resched_flush.check_wrapper, (honest_wrapper,), says="(24 refusals, "),
    # 38 ** 2 trees and 9 * 8 / 2 ranges that are not empty; 10 * 9 / 2 pairs of edges.
    Problem(memory_for_a_split.check_pages, (RIGHT_PAGES,), says="all 7. "),
    Problem(memory_for_a_split.check_tables, ("2",), says="2 page tables, one at each edge"),
    Problem(memory_for_a_split.check_race, (RACE,), says="step 20: A topped the cache up; step 25: B took"),
    Problem(memory_for_a_split.check_set_aside, (set_aside,), says="(51 984 cases), then 45 ranges on x86"),
    # 37 ** 2 trees without a leaf of the largest size, 38 ** 2 in all, and 36 ranges. Of 15 questions two are
    # not for a split before a zap, one is left out, and one is to be failed.
    Problem(the_review_run.check_undecided, ("9",), says="decides 9 of 45: "),
    Problem(the_review_run.check_cases, (CASES,), says="all 3. "),
    Problem(the_review_run.check_changed, (CHANGED,), says="C2 holds, C18 holds and C19 does not hold"),
    Problem(
        the_review_run.check_plan, (my_plan,), says="exact in 49 284 cases and 2 700 cases with 1G leaves. "
    ),
    Problem(
        the_review_run.check_planted, (planted,), says="11 questions passed, and “roots” failed: TD, private"
    ),
    # 31 and 14 leaves; 512 - 45 - 2 entries are empty. Of six ranges, by leaves of 2M: [0x201, 0x202) loses
    # with no split; [0x200, 0x400) never; [0x3fe, 0x603) and [0x1, 0x7ff) unless both edges are split; the
    # two with one edge aligned unless the other is split: 1 + 0 + 3 + 2 + 2 + 3. By one leaf of 1G each loses
    # with no split, and after a split at one edge as above: 1 + 1 + 3 + 2 + 2 + 3.
    Problem(from_a_real_host.check_known, ("512",), says="512 leaves of 4K map what the 2M leaf mapped"),
    Problem(from_a_real_host.check_layout, ("ept-tdx",), says="bit 63 is set in present entries"),
    Problem(from_a_real_host.check_losses, ("the first and the third",)),
    Problem(from_a_real_host.check_by_hand, (HAND,), says="509 frames outside with it"),
    Problem(from_a_real_host.check_removed, (45,), says="45 mappings ended; 465 entries were empty, and 2"),
    Problem(from_a_real_host.check_unmap, (UNMAP,), says="frames 0x9fe to 0xc01; the leaves at 0x800"),
    Problem(from_a_real_host.check_taken, (taken_outside,), says="49 traces, of which 23 lost frames"),
]

# ---- reading a verdict ---------------------------------------------------------------------------------


def says_it_in_the_picture(verdict: Verdict) -> bool:
    """A page shows the picture or the text, not both; the lines of a picture may break the words."""
    bundle = verdict._repr_mimebundle_()
    assert bundle["text/plain"] == repr(verdict)
    texts = ElementTree.fromstring(bundle["image/svg+xml"]).iter("{http://www.w3.org/2000/svg}text")
    drawn = " ".join(" ".join(text.itertext()) for text in texts)
    return " ".join(verdict.sentence.split()) in " ".join(drawn.split())


def answered_in_words(verdict: Verdict, *, draw: bool = True) -> bool:
    """It is not "right", and it is a sentence that fits a page; also in the picture, if there is one."""
    assert verdict.right is not True, verdict
    assert len(verdict.text) < 500, verdict.text
    assert verdict.text.endswith((".", ")", "?")), verdict
    return not draw or verdict.case is None or says_it_in_the_picture(verdict)
