"""What a learner gets wrong: for each exercise of the notebooks a few typical answers, and the hint they get.

The words of a hint are worked out by hand, as its case is: where the mistake first shows, and in what. For a
guess, which is chosen on a control, the answer is what is chosen there.
"""

from __future__ import annotations

from typing import NamedTuple


class Typical(NamedTuple):
    """A wrong answer."""

    mistake: str
    answer: str
    """Code, as it is written into the cell; of a guess what is chosen."""
    hint: tuple[str, ...]
    """Words that the verdict's text has."""


WRONG: dict[tuple[str, str], tuple[Typical, ...]] = {
    # ---- 00 --------------------------------------------------------------------------------------------
    ("00", "predict-cell"): (
        Typical(
            "a zap takes the frame, not the leaf",
            'plain_reads = "10 11 12 13 14 15 16 17"\ntd_reads = "10 11 12 00 14 15 16 17"',
            ("TD guest, frame 0, which held 10", "it reads 00", "one leaf over all eight"),
        ),
        Typical(
            "what is zapped is lost to a plain guest too",
            'plain_reads = td_reads = "00 00 00 00 00 00 00 00"',
            ("plain guest, frame 0", "you said 00, it reads 10"),
        ),
    ),
    ("00", "ex-lose"): (
        # [5, 10) lies in the leaves of frames 0 to 7 and 8 to 15: 0 to 4 and 10 to 15 are outside.
        Typical("the end is inclusive", "start, end = 5, 10", ("loses 11 frames", "Wanted: 10")),
        Typical("ten frames are zapped", "start, end = 0, 10", ("loses 6 frames", "Wanted: 10")),
    ),
    ("00", "ex-splits"): (
        Typical(
            "a split goes down one level only",
            'splits = {"[1G, 2G)": 0, "[1G+1M, 2G)": 1, "[1G+2M, 2G)": 1, "[1G+4K, 2G-4K)": 2}',
            ("[1G+1M, 2G)", "2 splits", "the 1G leaf at 1G, the 2M leaf at 1G"),
        ),
        Typical(
            "each edge pays for the 1G leaf",
            'splits = {"[1G, 2G)": 0, "[1G+1M, 2G)": 2, "[1G+2M, 2G)": 1, "[1G+4K, 2G-4K)": 4}',
            ("[1G+4K, 2G-4K)", "3 splits", "the 2M leaf at 1G, the 2M leaf at 1G+1022M"),
        ),
    ),
    ("00", "ex-convert"): (
        # The simplest layout has one leaf, of the frames 0 to 3; the shortest range in it is frame 0.
        Typical(
            "split after the zap",
            "def convert(guest, start, end):\n    guest.zap(start, end)\n    guest.split(start, end)",
            ("range [0, 1)", "frame 1 is outside the range and was"),
        ),
        Typical(
            "the end is inclusive",
            "def convert(guest, start, end):\n    guest.split(start, end + 1)\n    guest.zap(start, end + 1)",
            ("range [0, 1)", "frame 1 is outside the range and was"),
        ),
        Typical(
            "only the start is made safe",
            "def convert(guest, start, end):\n    guest.split(start, start + 1)\n    guest.zap(start, end)",
            ("1 x 4 frames at 4", "range [3, 5)", "frame 5 is outside the range and was"),
        ),
    ),
    # ---- 01 --------------------------------------------------------------------------------------------
    ("01", "shared-predict"): (
        Typical(
            "the shared bit is forgotten",
            "mirror_index, direct_index = 0, 0",
            ("direct root, index 0", "nothing is there", "addresses from 0 on, in which bit 47 is clear"),
        ),
        Typical(
            "both trees are indexed alike",
            "mirror_index, direct_index = 256, 256",
            ("mirror root, index 256", "addresses from 128T on, in which bit 47 is set"),
        ),
        Typical("the bit's number", "mirror_index, direct_index = 0, 47", ("direct root, index 47",)),
    ),
    ("01", "ex-hand"): (
        Typical(
            "the lowest level first",
            'indices = [7, 3, 5, 6]\naddress = "512G+2G+6M+16K"',
            ("the indices [7, 3, 5, 6]", "arrives at 3T+515G+10M+24K, not at 3T+5G+6M+28K"),
        ),
        # 1T is twice 512G.
        Typical(
            "an entry of the root maps 1T",
            'indices = [6, 5, 3, 7]\naddress = "1T+2G+6M+16K"',
            ("1T+2G+6M+16K has the indices (2, 2, 3, 4), not (1, 2, 3, 4)",),
        ),
    ),
    ("01", "ex-index"): (
        # Frame 4 is the first beyond a table of four entries; frame 1 the first with an index at level 1.
        Typical(
            "what lies above is not masked off",
            "def index(gfn, level, bits):\n    return gfn >> bits * (level - 1)",
            ("index(0x4, 1, 2) is 4", "index 0 of a table of 4 entries at level 1"),
        ),
        Typical(
            "a level too far",
            "def index(gfn, level, bits):\n    return gfn >> bits * level & (1 << bits) - 1",
            ("index(0x1, 1, 2) is 0", "index 1 of a table of 4 entries at level 1"),
        ),
        Typical(
            "a table has always 512 entries",
            "def index(gfn, level, bits):\n    return gfn >> 9 * (level - 1) & 511",
            ("index(0x4, 1, 2)", "table of 4 entries"),
        ),
    ),
    ("01", "ex-tables"): (
        Typical(
            "the root is not counted",
            "counted = {\n"
            '    "one 4K leaf at 1G": 3,\n'
            '    "2M of 4K leaves from 1G": 3,\n'
            '    "2M of 4K leaves from 1G-1M": 5,\n'
            '    "4M of 2M leaves from 512G-2M": 4,\n'
            "}",
            ("one 4K leaf at 1G: 3 is too few", "at level 1", "there is 1 table", "up to the root"),
        ),
        Typical(
            "what lies across 1G is not seen",
            "counted = {\n"
            '    "one 4K leaf at 1G": 4,\n'
            '    "2M of 4K leaves from 1G": 4,\n'
            '    "2M of 4K leaves from 1G-1M": 5,\n'
            '    "4M of 2M leaves from 512G-2M": 3,\n'
            "}",
            ("2M of 4K leaves from 1G-1M: 5 is too few", "there are 2 tables"),
        ),
    ),
    ("01", "ex-bits"): (
        Typical(
            "every child loses bit 7",
            'differ = {"2M leaf": {7}, "1G leaf, NX on": {7}, "2M leaf without X, NX on": {2, 7, 10}}',
            ("1G leaf, NX on: bit 7 is 1 in the parent, 1 in the child; your set has it",),
        ),
        Typical(
            "the NX rule is forgotten",
            'differ = {"2M leaf": {7}, "1G leaf, NX on": set(), "2M leaf without X, NX on": {7}}',
            ("2M leaf without X, NX on: bit 2 is 0 in the parent, 1 in the child; your set lacks it",),
        ),
    ),
    # ---- 02 --------------------------------------------------------------------------------------------
    ("02", "ex-crosses"): (
        Typical(
            "an aligned edge counts",
            "def crosses(leaf, span):\n"
            "    last = leaf.gfn + leaf.pages\n"
            "    return leaf.gfn <= span.start < last or leaf.gfn <= span.end < last",
            ("gfn=0, pages=1", "range [0, 1)", "said True, and it does not"),
        ),
        Typical(
            "the end is forgotten",
            "def crosses(leaf, span):\n    return leaf.gfn < span.start < leaf.gfn + leaf.pages",
            ("gfn=0, pages=2", "range [0, 1)", "said False, and it does"),
        ),
        Typical(
            "the patch's test, right for the leaves that a walk visits",
            "def crosses(leaf, span):\n    return leaf.gfn < span.start or leaf.gfn + leaf.pages > span.end",
            ("gfn=1, pages=1", "range [0, 1)", "said True, and it does not"),
        ),
    ),
    ("02", "ex-order"): (
        Typical(
            "a restart visits nothing twice",
            "order = [(3, 16), (2, 20), (2, 24), (2, 28), (3, 32), (2, 32), (2, 36)]",
            (
                "visit 2: you said level 2, frame 20, but the level 3 entry at 16 comes",
                "starts again at the root",
            ),
        ),
        Typical(
            "down to the first entry of the table",
            "order = [(3, 16), (3, 16), (2, 16), (2, 20), (2, 24), (2, 28), (3, 32), (3, 32), (2, 32), (2, 36)]",
            ("visit 3: you said level 2, frame 16, but the level 2 entry at 20 comes",),
        ),
        Typical(
            "the end is inclusive",
            "order = [(3, 16), (3, 16), (2, 20), (2, 24), (2, 28), (3, 32), (3, 32), (2, 32), (2, 36), (2, 40)]",
            ("visit 10: you said level 2, frame 40", "the call is over"),
        ),
    ),
    ("02", "ex-counts"): (
        # 20 and 24 are multiples of 4 inside one leaf of 16.
        Typical(
            "a split for each edge, though they share the leaf",
            "found = {0: (16, 32), 1: (20, 32), 2: (20, 24), 3: (5, 20), 4: (5, 21)}",
            ("[20, 24): wanted 2 splits, the call splits the level 3 entry at 16.",),
        ),
        # 5 needs two splits, 13 one more: 4 to 7 and 12 to 15 lie in one leaf of 16.
        Typical(
            "two splits for each edge",
            "found = {0: (16, 32), 1: (20, 32), 2: (21, 32), 3: (5, 20), 4: (5, 13)}",
            (
                "[5, 13): wanted 4 splits",
                "the level 3 entry at 0, the level 2 entry at 4, the level 2 entry at 12.",
            ),
        ),
    ),
    ("02", "ex-empty"): (
        Typical(
            "an empty range is nothing to do",
            'splits = {0: 0, 16: 0, 20: 0, 21: 0}\nwhy = "b"',
            ("[20, 20): you said 0, the call makes 1 split",),
        ),
        Typical(
            "right numbers, for the wrong reason",
            'splits = {0: 0, 16: 0, 20: 1, 21: 2}\nwhy = "a"',
            ("[16, 16) would split what [16, 17) splits, 2 leaves; it splits 0",),
        ),
        Typical(
            "rounded out",
            'splits = {0: 0, 16: 0, 20: 1, 21: 2}\nwhy = "c"',
            ("the leaf around 21 would lie inside the range and stay whole; the call splits 2 leaves",),
        ),
    ),
    # ---- 03 --------------------------------------------------------------------------------------------
    ("03", "price-guess"): (
        Typical("one entry for each leaf", "0.001953125", ("times too small", "6 303 777", "6 304 283")),
        Typical("a walk for nothing costs much more", "100", ("100 times too large",)),
    ),
    ("03", "ex-blocks"): (
        Typical(
            "an aligned edge costs a block",
            'blocks = {"1G": [("1G", "2G", 2)], "1G+2M": [("1G", "2G", 2)],\n'
            '    "1G+2M+4K": [("1G+2M", "1G+4M", 1)], "2T+4K": [("2T", "2T+2M", 1)]}',
            ("1G: ", "is too much: 1 split that nothing forces"),
        ),
        Typical(
            "the 1G leaf is not split",
            'blocks = {"1G": [], "1G+2M": [],\n'
            '    "1G+2M+4K": [("1G+2M", "1G+4M", 1)], "2T+4K": [("2T", "2T+2M", 1)]}',
            ("1G+2M: the 1G leaf at 1G still holds both 1G+1M+1020K and 1G+2M",),
        ),
        Typical(
            "the 2M leaf below is not split",
            'blocks = {"1G": [], "1G+2M": [("1G", "2G", 2)],\n'
            '    "1G+2M+4K": [("1G", "2G", 2)], "2T+4K": [("2T", "2T+2M", 1)]}',
            ("1G+2M+4K: the 2M leaf at 1G+2M still holds both",),
        ),
        Typical(
            "the 1G block goes down to 4K",
            'blocks = {"1G": [], "1G+2M": [("1G", "2G", 1)],\n'
            '    "1G+2M+4K": [("1G+2M", "1G+4M", 1)], "2T+4K": [("2T", "2T+2M", 1)]}',
            ("1G+2M: ", "is too much: 512 splits that nothing forces"),
        ),
    ),
    ("03", "ex-edge-blocks"): (
        Typical(
            "an aligned edge costs a block",
            "def edge_blocks(x, pages):\n"
            "    return [(x - x % size, x - x % size + size, level - 1) for level, size in pages.items()]",
            ("range [1, 2)", "safe, but not minimal: 3 splits where 2 splits do (split needlessly: [2, 4))"),
        ),
        Typical(
            "the smallest block only",
            "def edge_blocks(x, pages):\n"
            "    first = x - x % pages[2]\n"
            "    return [(first, first + pages[2], 1)] if first != x else []",
            ("range [0, 2)", "the leaf [0, 4) still holds both 1 and 2"),
        ),
        Typical(
            "rounded up",
            "def edge_blocks(x, pages):\n"
            "    return [(x + -x % size, x + -x % size + size, level - 1)\n"
            "            for level, size in pages.items() if x % size]",
            ("range [0, 1)", "the leaf [0, 2) still holds both 0 and 1"),
        ),
    ),
    ("03", "ex-overlap"): (
        Typical(
            "equal blocks are split twice",
            "remaining, merged_splits = 4, 513",
            ("you said 4", "have 4 blocks, 3 of them different"),
        ),
        Typical(
            "a merged block keeps its own target",
            "remaining, merged_splits = 3, 2",
            ("you said 2", "1 + 512 splits"),
        ),
        Typical("the 1G leaf is not counted", "remaining, merged_splits = 3, 512", ("1 + 512 splits",)),
    ),
    ("03", "ex-aligned"): (
        Typical(
            "multiples of 1G",
            'start, end = "1G", "2G"',
            ("[1G, 2G)", "the 1G leaf crosses neither edge"),
        ),
        Typical(
            "in frames of 4K, an edge inside a 2M block",
            'start, end = "1G+4K", "2G"',
            ("the start, 1G+4K, is no multiple of 2M",),
        ),
    ),
    ("03", "ex-nothing"): (
        Typical(
            "one frame, not none",
            "def calls(start, end):\n    return [(start, start + 1, 1), (end, end + 1, 1)]",
            ("range [1, 2)", "3 splits where 2 splits do (split needlessly: [2, 4))"),
        ),
        Typical(
            "the whole range",
            "def calls(start, end):\n    return [(start, end, 1)]",
            ("range [0, 2)", "2 splits where 1 split does (split needlessly: [0, 2))"),
        ),
        Typical(
            "the start alone",
            "def calls(start, end):\n    return [(start, start, 1)]",
            ("range [0, 1)", "the leaf [0, 4) still holds both 0 and 1"),
        ),
    ),
    # ---- 04 --------------------------------------------------------------------------------------------
    ("04", "guess-plain"): (
        Typical(
            "private means mirror", "the mirror tree", ("this VM has 1 root, direct", "Whatever the filter")
        ),
        Typical(
            "nothing is private here", "no tree", ("this VM has 1 root, direct", "took 512 frames there")
        ),
    ),
    ("04", "ex-root-types"): (
        Typical(
            "INVALID alone means the invalid ones",
            "table = {\n"
            "    0: (0, 0, 0, 0), 1: (0, 1, 0, 1), 2: (1, 0, 0, 0), 3: (1, 1, 0, 0),\n"
            "    4: (0, 0, 1, 0), 5: (0, 0, 1, 1), 6: (1, 0, 1, 0), 7: (1, 1, 1, 1),\n"
            "}",
            ("types 1 (INVALID), invalid direct root", "took no leaf at all, and the kernel WARNs"),
        ),
        Typical(
            "INVALID shuts out the valid ones",
            "table = {\n"
            "    0: (0, 0, 0, 0), 1: (0, 0, 0, 0), 2: (1, 0, 0, 0), 3: (0, 1, 0, 0),\n"
            "    4: (0, 0, 1, 0), 5: (0, 0, 0, 1), 6: (1, 0, 1, 0), 7: (0, 1, 0, 1),\n"
            "}",
            ("types 3", "valid direct root", "you said that it does not match"),
        ),
        Typical(
            "DIRECT takes the invalid ones too",
            "table = {\n"
            "    0: (0, 0, 0, 0), 1: (0, 0, 0, 0), 2: (1, 1, 0, 0), 3: (1, 1, 0, 0),\n"
            "    4: (0, 0, 1, 1), 5: (0, 0, 1, 1), 6: (1, 1, 1, 1), 7: (1, 1, 1, 1),\n"
            "}",
            ("types 2 (DIRECT), invalid direct root", "took the leaves of: valid direct"),
        ),
    ),
    ("04", "ex-hunt"): (
        Typical(
            "the patch's own call",
            'call, root = "kvm_split_cross_boundary_leafs", "direct"',
            ("kvm_split_cross_boundary_leafs was run on the same TD", "where the hunt has"),
        ),
        Typical(
            "a private frame, so the mirror root",
            'call, root = "kvm_tdp_mmu_split_huge_pages", "mirror"',
            ("has index 0 in the table of the mirror root, and 256 in that of the direct root",),
        ),
    ),
    ("04", "ex-mend"): (
        Typical(
            "the call of RFC v5 again",
            "def split(kvm, gfn, level):\n"
            "    first = kvm.geometry.gfn_round_for_level(gfn, level)\n"
            "    last = first + kvm.geometry.pages(level)\n"
            "    return splits.kvm_tdp_mmu_split_huge_pages(kvm, first, last, level, shared=False)",
            ("in the middle of a leaf", "the VM is dead", "The leaf is still whole"),
        ),
        Typical(
            "the patch as posted, with its bool",
            "from tdpkit.engine import KvmGfnRange\n"
            "def split(kvm, gfn, level):\n"
            "    span = KvmGfnRange(kvm.slot, gfn, gfn + 1, attr_filter=2)\n"
            "    return mmu.kvm_split_cross_boundary_leafs(kvm, span, shared=False, as_posted=True)",
            ("no page for the table", "split returned 1 instead of -12"),
        ),
        Typical(
            "all of the slot",
            "def split(kvm, gfn, level):\n"
            "    return splits.kvm_tdp_mmu_mirrors_split_huge_pages(kvm, 0, kvm.slot.npages, level)",
            ("the first frame of a leaf, beside another one", "the leaf that maps frame 0x0 is split too"),
        ),
    ),
    # ---- 05 --------------------------------------------------------------------------------------------
    ("05", "guess-lost"): (
        Typical(
            "both leaves, the range included",
            "16",
            ("you said 16", "8 frames outside", "0 to 4 and 13 to 15"),
        ),
        Typical("the zap takes what it was asked for", "0", ("you said 0", "8 frames outside")),
    ),
    ("05", "ex-demote"): (
        Typical(
            "the kick is forgotten",
            'calls = ["BLOCK", "TRACK", "DEMOTE"]',
            ("call 3, DEMOTE: TDX_TLB_TRACKING_NOT_DONE; KICK would still have to come before it",),
        ),
        Typical(
            "kicked before the epoch begins",
            'calls = ["BLOCK", "KICK", "TRACK", "DEMOTE"]',
            ("call 4, DEMOTE: TDX_TLB_TRACKING_NOT_DONE; another KICK would still",),
        ),
        Typical(
            "nothing is blocked",
            'calls = ["TRACK", "KICK", "DEMOTE"]',
            ("call 3, DEMOTE: TDX_GPA_RANGE_NOT_BLOCKED; BLOCK, another TRACK and another KICK would",),
        ),
    ),
    ("05", "ex-accept"): (
        Typical(
            "what is accepted is split again",
            'accepts = {\n    "4K, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 2M page PENDING": ("2M", "TDX_SUCCESS"),\n'
            '    "4K, a 2M page accepted": ("2M", "TDX_SUCCESS"),\n'
            '    "2M, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 2M page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 4K page PENDING": ("nothing", "TDX_PAGE_SIZE_MISMATCH"),\n'
            '    "1G, nothing mapped": ("nothing", "TDX_OPERAND_INVALID"),\n}',
            ("4K, a 2M page accepted: you said that a leaf of 2M is split; no leaf is", "KVM is not asked"),
        ),
        Typical(
            "the guest is told of every mismatch",
            'accepts = {\n    "4K, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 2M page PENDING": ("nothing", "TDX_PAGE_SIZE_MISMATCH"),\n'
            '    "4K, a 2M page accepted": ("nothing", "TDX_PAGE_ALREADY_ACCEPTED"),\n'
            '    "2M, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 2M page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 4K page PENDING": ("nothing", "TDX_PAGE_SIZE_MISMATCH"),\n'
            '    "1G, nothing mapped": ("nothing", "TDX_OPERAND_INVALID"),\n}',
            ("4K, a 2M page PENDING", "KVM splits a leaf of 2M, and without that the guest accepts for ever"),
        ),
        Typical(
            "KVM mends a page that is too small",
            'accepts = {\n    "4K, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "4K, a 2M page PENDING": ("2M", "TDX_SUCCESS"),\n'
            '    "4K, a 2M page accepted": ("nothing", "TDX_PAGE_ALREADY_ACCEPTED"),\n'
            '    "2M, nothing mapped": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 2M page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "2M, a 4K page PENDING": ("nothing", "TDX_SUCCESS"),\n'
            '    "1G, nothing mapped": ("nothing", "TDX_OPERAND_INVALID"),\n}',
            ("2M, a 4K page PENDING: you said TDX_SUCCESS; the guest gets TDX_PAGE_SIZE_MISMATCH",),
        ),
    ),
    ("05", "ex-callers"): (
        Typical(
            "a hole needs what a conversion needs",
            'callers = {"conversion": "edge", "punch hole": "edge",\n'
            '    "mismatched accept": "always", "memory failure": "folio"}',
            ("punch hole, “edge”", "those with an edge inside a folio, are refused"),
        ),
        Typical(
            "every conversion needs one",
            'callers = {"conversion": "always", "punch hole": "folio",\n'
            '    "mismatched accept": "always", "memory failure": "folio"}',
            ("conversion, “always”", "nothing else is lost without a split"),
        ),
        Typical(
            "a failed page takes itself alone",
            'callers = {"conversion": "edge", "punch hole": "folio",\n'
            '    "mismatched accept": "always", "memory failure": "never"}',
            ("memory failure, “never”", "let a mapping be larger than its folio"),
        ),
    ),
    # ---- 06 --------------------------------------------------------------------------------------------
    ("06", "guess"): (
        Typical("the lock protects the report", "never", ("you said never", "1 512 schedules", "8 steps")),
    ),
    ("06", "ex-lie"): (
        Typical(
            "B lies, as above",
            'schedule = ("B:lock B:read B:unlock "\n'
            '    "A:lock A:read A:unlock A:lock A:read A:store A:read A:unlock "\n'
            '    "B:lock B:read B:read B:unlock B:return")',
            ("That is B; let A be the liar",),
        ),
        Typical(
            "A begins when the split is made",
            'schedule = ("B:lock B:read B:unlock B:lock B:read B:store B:read B:unlock B:flush B:return "\n'
            '    "A:lock A:read A:read A:unlock A:return")',
            (
                "A says that nothing was split, and that is true of its call",
                "B's split was step 6",
                "A's call began with step 11",
            ),
        ),
        Typical(
            "B enters while A holds the lock",
            'schedule = "A:lock A:read B:lock"',
            ("step 3, 'B:lock', cannot be: B waits for mmu_lock, which A holds",),
        ),
    ),
    ("06", "ex-rules"): (
        Typical(
            "who has split, flushes",
            'rules = {"fault path of a TD": "if I split", "conversion": "if I split", "dirty logging": "if I split"}',
            ("conversion: “if I split” fails",),
        ),
        Typical(
            "dirty logging is like a conversion",
            'rules = {"fault path of a TD": "never", "conversion": "if I changed", "dirty logging": "if I changed"}',
            ("dirty logging: “if I changed” fails",),
        ),
        Typical(
            "nothing was ever stale",
            'rules = {"fault path of a TD": "never", "conversion": "never", "dirty logging": "never"}',
            ("conversion: “never” fails",),
        ),
    ),
    ("06", "ex-wrapper"): (
        Typical(
            "the type is mended, the bool() stays",
            "from tdpkit.engine import Trace, kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs as split_in_tdp_mmu\n"
            "def wrapper(kvm, gfn_range, shared):\n"
            "    ret = 0\n"
            "    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):\n"
            '        yield Trace("WARN: lockdep: nothing protects the range")\n'
            "    if not gfn_range.may_block:\n"
            "        return -95\n"
            "    if kvm.tdp_mmu_enabled:\n"
            "        ret = bool((yield from split_in_tdp_mmu(kvm, gfn_range, shared=shared)))\n"
            "    return -ret",
            ("page 1 is refused, and it returned -1 instead of -12 (-ENOMEM)", "Callers make of it"),
        ),
        Typical(
            "one return for all, so the refusal to block is lost",
            "from tdpkit.engine import Trace, kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs as split_in_tdp_mmu\n"
            "def wrapper(kvm, gfn_range, shared):\n"
            "    ret = 0\n"
            "    if not (kvm.mmu_invalidate_in_progress or kvm.slots_lock or kvm.srcu):\n"
            '        yield Trace("WARN: lockdep: nothing protects the range")\n'
            "    if gfn_range.may_block and kvm.tdp_mmu_enabled:\n"
            "        ret = yield from split_in_tdp_mmu(kvm, gfn_range, shared=shared)\n"
            "    return ret",
            ("the range may not block, and it returned 0 instead of -95 (-EOPNOTSUPP)",),
        ),
        Typical(
            "the warning is dropped on the way",
            "from tdpkit.engine import Trace, kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs as split_in_tdp_mmu\n"
            "def wrapper(kvm, gfn_range, shared):\n"
            "    if not gfn_range.may_block:\n"
            "        return -95\n"
            "    if not kvm.tdp_mmu_enabled:\n"
            "        return 0\n"
            "    return (yield from split_in_tdp_mmu(kvm, gfn_range, shared=shared))",
            ("nothing protects the range, and lockdep does not warn",),
        ),
    ),
    # ---- 07 --------------------------------------------------------------------------------------------
    ("07", "guess-tables"): (
        Typical("everything is split", "8 192", ("you said '8 192'", "2 page tables", "at the two edges")),
        Typical("two tables at each edge", "4", ("you said '4'", "2 page tables")),
    ),
    ("07", "ex-pages"): (
        Typical(
            "each edge takes its own 1G table",
            "pages = {\n"
            '    "plain VM, 2M leaves, [1G+4K, 2G)": (1, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G+4K, 2G-4K)": (4, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G-4K, 1G+2M)": (3, 0, 0),\n'
            '    "plain VM, 1G leaves, [0, 2G), all to 4K": (1026, 0, 0),\n'
            '    "TD, [4K, 2M-4K)": (1, 1, 0),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a new region": (2, 2, 6),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a region in use": (2, 2, 4),\n'
            "}",
            ("[1G+4K, 2G-4K): page tables: you said 4, the engine took 3", "the 1G at 1G"),
        ),
        Typical(
            "M9's 16*512, for the 2M tables are forgotten",
            "pages = {\n"
            '    "plain VM, 2M leaves, [1G+4K, 2G)": (1, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G+4K, 2G-4K)": (3, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G-4K, 1G+2M)": (3, 0, 0),\n'
            '    "plain VM, 1G leaves, [0, 2G), all to 4K": (1024, 0, 0),\n'
            '    "TD, [4K, 2M-4K)": (1, 1, 0),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a new region": (2, 2, 6),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a region in use": (2, 2, 4),\n'
            "}",
            ("you said 1024, the engine took 1 026", "2 of 1G and 1 024 of 2M"),
        ),
        Typical(
            "a page of PAMT where a pair is needed",
            "pages = {\n"
            '    "plain VM, 2M leaves, [1G+4K, 2G)": (1, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G+4K, 2G-4K)": (3, 0, 0),\n'
            '    "plain VM, 1G leaves, [1G-4K, 1G+2M)": (3, 0, 0),\n'
            '    "plain VM, 1G leaves, [0, 2G), all to 4K": (1026, 0, 0),\n'
            '    "TD, [4K, 2M-4K)": (1, 1, 0),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a new region": (2, 2, 3),\n'
            '    "Dynamic PAMT, [2M+4K, 6M+4K), a region in use": (2, 2, 2),\n'
            "}",
            ("PAMT pages: you said 3, the engine took 6", "a pair for each 2M demoted, 4 pages"),
        ),
    ),
    ("07", "ex-race"): (
        # B has split when A tops up: A finds the cache empty, as it said, and fills it with the four pages.
        Typical(
            "B makes its whole call at once",
            'schedule = [("A", 9), ("B", 16), ("A", 6)]',
            ("no split has failed", "line 10 of A is here “A tops the cache up: 0 → 4”"),
        ),
        Typical(
            "the roles are exchanged",
            'schedule = [("B", 9), ("A", 10), ("B", 1), ("A", 6), ("B", 5)]',
            ("B fails, not A",),
        ),
    ),
    ("07", "ex-aside"): (
        # Range [0, 1) of frames: its end lies inside a block of each size.
        Typical(
            "the bound for any range",
            "def set_aside(start, end, sizes):\n    return 2 * len(sizes)",
            ("set_aside(0, 1, [4, 2]) is 4, and no tree takes more than 2",),
        ),
        Typical(
            "each edge alone, though they share blocks",
            "def set_aside(start, end, sizes):\n"
            "    return sum(x % pages > 0 for x in (start, end) for pages in sizes)",
            ("set_aside(1, 2, [4, 2]) is 3, and no tree takes more than 2",),
        ),
        Typical(
            "a table for each edge",
            "def set_aside(start, end, sizes):\n    return (start % sizes[-1] > 0) + (end % sizes[-1] > 0)",
            ("set_aside(0, 1, [4, 2]) is 1, and this tree takes 2", "lacks 1 page table"),
        ),
    ),
    # ---- 08 --------------------------------------------------------------------------------------------
    ("08", "guess"): (
        Typical("whatever is about design", "18", ("you said 18", "no experiment decides 9 of 45", "C45")),
        Typical("all can be run", "0", ("you said 0", "no experiment decides 9 of 45")),
    ),
    ("08", "ex-cases"): (
        # S106 names the drop as the reason; under the shared lock it is none (S211): 8 steps without.
        Typical(
            "pages in hand make the report true under any lock",
            "cases = {\n"
            '    "C4": (("shared", "on demand"), ("shared", "in hand")),\n'
            '    "C29": (2, 3),\n'
            '    "C40": (("2G+4K", "2G+12K"), ("1G+4K", "2G-4K")),\n'
            "}",
            ("('shared', 'in hand') it should not be so", "has 8 steps"),
        ),
        Typical(
            "16 * 512 is for leaves of 1G",
            "cases = {\n"
            '    "C4": (("shared", "in hand"), ("exclusive", "in hand")),\n'
            '    "C29": (3, 2),\n'
            '    "C40": (("2G+4K", "2G+12K"), ("1G+4K", "2G-4K")),\n'
            "}",
            ("in the case 3 it should be so", "from leaves of 1G it takes 8 208 page tables"),
        ),
        # S139: 263 visits against 10.
        Typical(
            "shorter than 1G is short",
            "cases = {\n"
            '    "C4": (("shared", "in hand"), ("exclusive", "in hand")),\n'
            '    "C29": (2, 3),\n'
            '    "C40": (("1G+4K", "1G+512M"), ("1G+4K", "2G-4K")),\n'
            "}",
            ("it should be so", "one call visits 263 SPTEs, the two steps 10"),
        ),
    ),
    ("08", "ex-changed"): (
        Typical(
            "another plan is another claim",
            'verdicts = {"C2": "fails", "C18": "holds", "C19": "fails"}',
            ("C2: you said “fails”", "the experiment finds “holds”", "all 64 980 cases"),
        ),
        Typical(
            "nothing changes but C7",
            'verdicts = {"C2": "holds", "C18": "holds if", "C19": "holds"}',
            ("C18: you said “holds if”", "the experiment finds “holds”"),
        ),
        Typical(
            "two calls still are few",
            'verdicts = {"C2": "holds", "C18": "holds", "C19": "holds"}',
            ("C19: you said “holds”", "the experiment finds “does not hold in the model”"),
        ),
    ),
    ("08", "ex-plan"): (
        Typical(
            "the patch's call",
            "from tdpkit.lab.strategies import PlannedCall\n\n"
            "def my_plan(geometry, s, e):\n    return [PlannedCall(s, e, 1, only_cross_boundary=True)]",
            ("the calls of “v3 walk”", "notebook 03 has already (walk_v3)"),
        ),
        # Range [2G+1021M+1020K, 2G+1022M): its end is a multiple of 2M, where no leaf of 2M crosses.
        Typical(
            "the block around the edge, aligned or not",
            "from tdpkit.lab.strategies import PlannedCall\n\n"
            "def my_plan(geometry, s, e):\n"
            "    small = geometry.pages(2)\n"
            "    return [PlannedCall(x - x % small, x - x % small + small, 1) for x in (s, e)]",
            ("it fails “4 and 5 levels”: 4 levels, [2G+1021M+1020K, 2G+1022M): 2 splits where 1 would do",),
        ),
        Typical(
            "the end is the last frame",
            "from tdpkit.lab.strategies import PlannedCall\n\n"
            "def my_plan(geometry, s, e):\n"
            "    small = geometry.pages(2)\n"
            "    return [PlannedCall(x - x % small, x, 1) for x in (s, max(s, e - 1))]",
            ("it fails “4 and 5 levels”", "2 splits where 1 would do"),
        ),
    ),
    ("08", "ex-planted"): (
        Typical(
            "nothing is wrong with it",
            "from tdpkit.engine import kvm_split_cross_boundary_leafs\n\n"
            "def planted(kvm, gfn_range):\n"
            "    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False)",
            ("it passes “roots” as well: private memory's root and no other",),
        ),
        Typical(
            "the bug of the patch",
            "from tdpkit.engine import kvm_split_cross_boundary_leafs\n\n"
            "def planted(kvm, gfn_range):\n"
            "    return kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False, as_posted=True)",
            ("it fails “no memory”", "it returned 1, not -12 (-ENOMEM)"),
        ),
        Typical(
            "the wrong half, so nothing private is split",
            "from tdpkit.engine import KVM_FILTER_SHARED, KvmGfnRange, kvm_split_cross_boundary_leafs\n\n"
            "def planted(kvm, gfn_range):\n"
            "    half = KvmGfnRange(gfn_range.slot, gfn_range.start, gfn_range.end, KVM_FILTER_SHARED)\n"
            "    return kvm_split_cross_boundary_leafs(kvm, half, shared=False)",
            ("it fails “",),
        ),
    ),
    # ---- 09 --------------------------------------------------------------------------------------------
    ("09", "guess-known"): (
        Typical(
            "the leaves that are zapped later", "3", ("you said 3", "512 leaves of 4K", "none has a line")
        ),
        Typical("no line, no leaf", "0", ("you said 0", "512 leaves of 4K")),
    ),
    ("09", "guess-value"): (
        Typical("bit 63 is of 7.2", "ept-7.2", ("is of ept-tdx", "X comes without bit 10")),
        Typical("57 and 58 are of 5.13", "ept-5.13", ("is of ept-tdx", "bit 63 is set in present entries")),
    ),
    ("09", "guess-losses"): (
        Typical("a split is enough", "the first", ("you said the first", "in the first and the third")),
        Typical("every conversion loses", "all three", ("in the first and the third",)),
    ),
    ("09", "ex-hand"): (
        # [0x400, 0x600) is inside [0x3fe, 0x603).
        Typical(
            "every 2M leaf of the range crosses",
            'said = {"crossed": {0x200, 0x400, 0x600}, "split": {0x200}, "frames": 509}',
            ("“crossed”: the leaf at 0x400 is too much", "lie inside [0x3fe, 0x603)"),
        ),
        Typical(
            "a leaf that crosses was split",
            'said = {"crossed": {0x200, 0x600}, "split": {0x200, 0x600}, "frames": 509}',
            ("“split”: the leaf at 0x600 is too much: its line says that it went whole",),
        ),
        Typical(
            "the whole leaf is outside",
            'said = {"crossed": {0x200, 0x600}, "split": {0x200}, "frames": 512}',
            ("“frames”: you said 512", "take off the frames inside [0x3fe, 0x603)"),
        ),
    ),
    ("09", "ex-removed"): (
        Typical(
            "every line is a lost mapping",
            "lost_mappings = len(removal)",
            ("you said 513", "there are 513 lines, and the first is of the table itself"),
        ),
        Typical(
            "every entry of the table maps",
            "lost_mappings = len(removal) - 1",
            ("you said 512", "also one that held nothing"),
        ),
        # 45 leaves, 2 devices, and the table's own line.
        Typical(
            "what was not zero was a mapping",
            'lost_mappings = sum("old_spte 0 " not in row for row in removal[1:])',
            ("you said 47", "W and X without R stands for a device"),
        ),
    ),
    ("09", "ex-unmap"): (
        Typical(
            "host pages are guest frames",
            'unmapped = {"start": 0x7F3C3FFFE, "end": 0x7F3C40202, "split": {0x800, 0xC00}}',
            ("“start”: you said 0x7f3c3fffe, which is a frame of the VMM's memory",),
        ),
        Typical(
            "the end is its last frame",
            'unmapped = {"start": 0x9FE, "end": 0xC01, "split": {0x800, 0xC00}}',
            ("“end”: you said 0xc01, the last frame",),
        ),
        Typical(
            "each leaf that went had to be split",
            'unmapped = {"start": 0x9FE, "end": 0xC02, "split": {0x800, 0xA00, 0xC00}}',
            ("“split”: the leaf at 0xa00 is too much", "lie inside [0x9fe, 0xc02)"),
        ),
        # 0x7f3c40000000 would be a plausible place of frame 0: 0x7f3c3fffe is two pages before it.
        Typical(
            "the low bits of the address are the frame",
            'unmapped = {"start": 0x7FFE, "end": 0xC02, "split": {0x800, 0xC00}}',
            ("“start”: you said 0x7ffe", "frame 0x207 went"),
        ),
    ),
    ("09", "ex-taken"): (
        Typical(
            "no line is read",
            "def taken_outside(changes, start, end):\n    return 0",
            ("[0x201, 0x202)", "said 0; 511 frames outside went", "gfn 200 level 2"),
        ),
        Typical(
            "another range's zap counts as well",
            "def taken_outside(changes, start, end):\n"
            "    outside = 0\n"
            "    for change in changes:\n"
            '        if change.what == "zap":\n'
            "            frames = range(change.gfn, change.gfn + 512 ** (change.level - 1))\n"
            "            outside += sum(not start <= taken < end for taken in frames)\n"
            "    return outside",
            # The leaf at 0x800, zapped for another range: 511 of the leaf at 0x200, and 512.
            ("[0x201, 0x202)", "said 1023; 511 frames outside went"),
        ),
        Typical(
            "a split takes its leaf",
            "def taken_outside(changes, start, end):\n"
            "    outside = 0\n"
            "    for change in changes:\n"
            "        pages = 512 ** (change.level - 1)\n"
            "        inside = min(change.gfn + pages, end) - max(change.gfn, start)\n"
            '        if change.what in ("zap", "split") and 0 < inside < pages:\n'
            "            outside += pages - inside\n"
            "    return outside",
            ("[0x201, 0x202)", "said 511; 0 frames outside went"),
        ),
        # [0x200, 0x400) in the leaf of 1G: 262 144 - 512 go. By one's count all leaves have 512 frames.
        Typical(
            "a leaf has 512 frames",
            "def taken_outside(changes, start, end):\n"
            "    outside = 0\n"
            "    for change in changes:\n"
            "        pages = 512 if change.level > 1 else 1\n"
            "        inside = min(change.gfn + pages, end) - max(change.gfn, start)\n"
            '        if change.what == "zap" and 0 < inside < pages:\n'
            "            outside += pages - inside\n"
            "    return outside",
            ("[0x201, 0x202)", "said 0; 262 143 frames outside went", "gfn 0 level 3"),
        ),
    ),
}
