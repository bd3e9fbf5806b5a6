"""A guest of four blocks of 2M that writes its own trace and says, frame by frame, what the text has told.

The lines are of the 5.13 layout, in the formats of S220 and S263. It shares no code with the package.
"""

from random import Random

BLOCKS, BLOCK = 4, 512
LEAF, HUGE, TABLE, FROZEN = 0x600000000000B77, 0x600000000000BF3, 0x4AB100907, 0x5A0
UNKNOWN, EMPTY = "unknown", "empty"


def line(event, task="CPU 0/KVM-1001", time=812.1):
    """A line as ftrace prints it."""
    return f"     {task} [003] ...1.   {time:.6f}: {event}"


class ToldGuest:
    """`lines` so far; `steps`: (kind, what is told of each frame) after each step; `taken` of each step."""

    def __init__(self, *, is_known):
        self.lines = []
        self.told = [UNKNOWN] * (BLOCKS * BLOCK)
        self.blocks = [("none", [])] * BLOCKS  # "leaf", or "table" with its 512 entries, or "none"
        self.steps = []
        self.links = [(4, 0), (3, 0)] if is_known else []

    def say(self, event):
        self.lines.append(line(event, time=812 + len(self.lines) / 1e6))

    def changed(self, level, gfn, old, new):
        self.say(
            f"kvm_tdp_mmu_spte_changed: as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}"
        )

    def tell(self, first, pages, kind):
        self.told[first : first + pages] = [kind] * pages

    def step(self, kind):
        self.steps.append((kind, [*self.told]))

    def link(self, level, gfn):
        self.changed(level, gfn, 0, TABLE + (level << 12) + (gfn << 12))

    def fault(self, gfn, level):
        """Map a leaf where there is none; tables on the way are linked, and known to be empty then."""
        block = gfn // BLOCK
        self.say("kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x0")
        self.say(f"kvm_page_fault: vcpu 0 rip 0x0 address {gfn << 12:#018x} error_code 0x784")
        for link in self.links:
            self.link(*link)
            self.tell(0, BLOCKS * BLOCK, EMPTY)
        self.links = []
        kind, entries = self.blocks[block]
        if level == 2:
            self.changed(2, block * BLOCK, 0, HUGE + (block * BLOCK << 12))
            self.blocks[block] = ("leaf", [])
            self.tell(block * BLOCK, BLOCK, "leaf2")
        else:
            if kind == "none":
                self.link(2, block * BLOCK)
                self.tell(block * BLOCK, BLOCK, EMPTY)
                entries = [0] * BLOCK
            self.changed(1, gfn, 0, LEAF + (gfn << 12))
            entries = [*entries]
            entries[gfn % BLOCK] = LEAF + (gfn << 12)
            self.blocks[block] = ("table", entries)
            self.tell(gfn, 1, "leaf1")
        self.say("kvm_entry: vcpu 0, rip 0x0")
        self.step("fault")

    def split(self, block):
        gfn = block * BLOCK
        self.changed(2, gfn, HUGE + (gfn << 12), TABLE + (2 << 12) + (gfn << 12))
        self.say(f"kvm_mmu_split_huge_page: gfn {gfn:x} spte {HUGE + (gfn << 12):x} level 2 errno 0")
        self.blocks[block] = ("table", [LEAF - 4 + (gfn + n << 12) for n in range(BLOCK)])  # no X
        self.tell(gfn, BLOCK, "leaf1")
        self.step("split")

    def zap(self, block, first=0, last=BLOCK):
        """Zap the leaf of 2M, or the 4K leaves of entries [first, last)."""
        gfn = block * BLOCK
        kind, entries = self.blocks[block]
        self.say("kvm_entry: vcpu 0, rip 0x0")
        if kind == "leaf":
            self.changed(2, gfn, HUGE + (gfn << 12), 0)
            self.blocks[block] = ("none", [])
            self.tell(gfn, BLOCK, EMPTY)
            self.step("zap")
            return
        entries = [*entries]
        gone = [n for n in range(first, last) if entries[n]]
        for n in gone:
            self.changed(1, gfn + n, entries[n], 0)
            entries[n] = 0
            self.tell(gfn + n, 1, EMPTY)
        self.blocks[block] = ("table", entries)
        if gone:
            self.step("zap")

    def remove(self, block, leaf=False):
        """A table goes, and each of its entries is listed; a huge leaf takes its place, or nothing."""
        gfn = block * BLOCK
        _, entries = self.blocks[block]
        self.changed(2, gfn, TABLE + (2 << 12) + (gfn << 12), HUGE + (gfn << 12) if leaf else 0)
        for n, entry in enumerate(entries):
            self.changed(1, gfn + n, entry, FROZEN)
        self.blocks[block] = ("leaf", []) if leaf else ("none", [])
        self.tell(gfn, BLOCK, "leaf2" if leaf else EMPTY)
        self.step("replace" if leaf else "remove")


def told_guest(seed, count=40):
    """A guest to which `count` things or so happened, as the seed draws them."""
    rng = Random(seed)
    guest = ToldGuest(is_known=bool(seed % 2))
    while len(guest.steps) < count:
        block = rng.randrange(BLOCKS)
        kind, entries = guest.blocks[block]
        if kind == "none":
            guest.fault(block * BLOCK + rng.randrange(BLOCK), rng.choice((1, 2)))
        elif kind == "leaf":
            rng.choice((guest.split, guest.zap))(block)
        else:
            what = rng.randrange(4)
            empty = [n for n, entry in enumerate(entries) if not entry]
            if what == 0 and empty:
                guest.fault(block * BLOCK + rng.choice(empty), 1)
            elif what == 1:
                guest.remove(block, leaf=rng.random() < 0.5)
            else:
                first = rng.randrange(BLOCK)
                guest.zap(block, first, min(BLOCK, first + rng.randrange(1, 90)))
    return guest
