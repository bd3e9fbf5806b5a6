"""A slow, simple reader of trace text: one pattern for a change, and a list of 512 entries for each table.

It knows layouts with KVM's present bit (bit 11), tables of 512 entries, and texts that begin before the guest
has anything mapped. It shares no code with the package.
"""

import re

CHANGED = re.compile(
    r"kvm_tdp_mmu_spte_changed:\s+as id (\d+) gfn ([0-9a-f]+) level (\d) "
    r"old_spte ([0-9a-f]+) new_spte ([0-9a-f]+)$"
)
SET = re.compile(r"kvm_mmu_set_spte:\s+gfn ([0-9a-f]+) spte ([0-9a-f]+) \(....\) level (\d) at ([0-9a-f]+)$")
PRESENT, PAGE_SIZE = 1 << 11, 1 << 7
FRAME = (1 << 52) - (1 << 12)


def is_leaf(spte, level):
    return bool(spte & PRESENT) and (level == 1 or bool(spte & PAGE_SIZE))


def is_table(spte, level):
    return bool(spte & PRESENT) and not is_leaf(spte, level)


class Reader:
    """What a text leaves mapped: `tables`, by (as_id, level of the entries, number of the table)."""

    def __init__(self, lines, empty, exec_bits=0):
        self.empty = empty  # of the layout
        self.exec_bits = exec_bits  # what 4K children of a split get under the NX-huge-page mitigation
        self.tables = {}
        self.removed = []  # leaves that went and left nothing, (gfn, level, pfn) in order
        self.changes = 0
        for line in lines:
            if found := CHANGED.search(line):
                self._change(int(found[1]), int(found[3]), *(int(found[n], 16) for n in (2, 4, 5)))
            elif found := SET.search(line):
                self._set(int(found[3]), *(int(found[n], 16) for n in (1, 2, 4)))

    def _change(self, as_id, level, gfn, old, new):
        self.changes += 1
        assert gfn % 512 ** (level - 1) == 0
        table, index = self._place(as_id, level, gfn)
        assert table[index] == old, (hex(gfn), level, hex(table[index]), hex(old))
        table[index] = new
        below = (as_id, level - 1, gfn >> 9 * (level - 1))
        if is_leaf(old, level) and not new & PRESENT:
            self.removed.append((gfn, level, (old & FRAME) >> 12))
        elif is_leaf(old, level) and is_table(new, level):
            step = 512 ** (level - 2) << 12
            first = old & ~PAGE_SIZE | self.exec_bits if level == 2 else old
            self.tables[below] = list(range(first, first + 512 * step, step))
        elif is_table(new, level):
            self.tables[below] = [self.empty] * 512  # a link: KVM links empty tables only

    def _place(self, as_id, level, gfn):
        table = self.tables.setdefault((as_id, level, gfn >> 9 * level), [self.empty] * 512)
        return table, gfn >> 9 * (level - 1) & 511

    def _set(self, level, gfn, spte, at):
        table, index = self._place(0, level, gfn)
        parent, place = self._place(0, level + 1, gfn)
        assert table[index] == spte
        assert at == parent[place] & FRAME | index * 8

    def leaf_runs(self, as_id=0):
        """[gfn, level, count, first pfn] of leaves side by side, as tests/vectors/README.md has them."""
        top = max((level for of, level, _ in self.tables if of == as_id), default=0)
        runs = []
        for gfn, level, count, pfn in self._below(as_id, top, 0) if top else ():
            if runs:
                first, at, before, host = runs[-1]
                covered = before * 512 ** (level - 1)
                if at == level and gfn == first + covered and pfn == host + covered:
                    runs[-1][2] += count
                    continue
            runs.append([gfn, level, count, pfn])
        return runs

    def _below(self, as_id, level, number):
        """The leaves under a table, in order, each as a run of one; 512 at once where no entry is odd."""
        table, pages = self.tables[as_id, level, number], 512 ** (level - 1)
        step = pages << 12
        if is_leaf(table[0], level) and table == list(range(table[0], table[0] + 512 * step, step)):
            yield number * 512 * pages, level, 512, (table[0] & FRAME) >> 12
            return
        for index, spte in enumerate(table):
            gfn = (number * 512 + index) * pages
            if is_leaf(spte, level):
                yield gfn, level, 1, (spte & FRAME) >> 12
            elif is_table(spte, level):
                yield from self._below(as_id, level - 1, gfn // pages)
