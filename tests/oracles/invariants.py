"""What holds of a VM whenever mmu_lock is free: the invariants of S239, and the books.

Read from the raw tables and the module's own records, by code that shares nothing with the engine's walk,
`tree` or `sept`. What one state cannot show is a relation of two (`assert_only_edges_were_split`), or is
watched as it happens (`Ledger` reads the module's log line by line; `guests.Watch` sees each store).
Invariants 3 and 6 are of the second kind only.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tdpkit.engine.kvm import Kvm
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.tree import TdpMmuRoot
from tdpkit.tdx.abi import Call
from tdpkit.tdx.kvm_tdx import KvmTdx
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute

PENDING, PRESENT = 2, 4  # S165
MIXED = 1 << 31  # S173
INVALID, IS_MIRROR = 1 << 11, 1 << 19  # S40
SEPT_LEAF = 1 << 63 | 6 << 3 | brute.PRESENT
"""What an S-EPT leaf has in every state: no #VE, writeback, in use."""

At = tuple[int, int]
"""An entry: its first frame and its level."""


class Tables(NamedTuple):
    """One tree as it lies in memory, frames without the shared bit."""

    root: TdpMmuRoot
    rows: dict[At, int]
    """Of each link: the row of the table under it."""
    leaves: dict[At, int]
    """Of each leaf: the raw entry."""
    wrong: list[str]
    """What no valid table has."""


def look(root: TdpMmuRoot, *, is_sept: bool = False) -> Tables:
    """Read a tree. A row that is no table of this tree at this place is named and not entered."""
    pool, geometry, bits = root.pool, root.geometry, root.geometry.index_bits
    rows: dict[At, int] = {}
    leaves: dict[At, int] = {}
    wrong: list[str] = []
    met = {root.row}
    mirror = pool.role[root.row] & IS_MIRROR

    def table(row: int, level: int, base: int) -> None:
        size = (level - 1) * bits
        for index, raw in enumerate(pool.table(row).tolist()):
            if raw == brute.HOLE:
                continue
            gfn = (base + (index << size)) & ~root.gfn_bits
            pfn = (raw & brute.FRAME) >> 12
            if not raw & brute.PRESENT:
                wrong.append(f"{raw:#x} at {gfn:#x}, level {level}, is neither a hole nor present")
            elif level == 1 or raw & brute.LARGE:
                leaves[gfn, level] = raw
                flags = raw & ~brute.FRAME
                large = brute.LARGE if level > 1 else 0
                if is_sept:
                    fine = flags in (
                        SEPT_LEAF | large | PENDING << 56,
                        SEPT_LEAF | large | PRESENT << 56 | 7,
                    )
                else:
                    fine = flags == brute.LEAF | large
                if not fine or pfn & (1 << size) - 1 or level > geometry.max_leaf_level:
                    wrong.append(f"{raw:#x} at {gfn:#x} is no leaf of level {level} at rest")
            elif raw & ~brute.FRAME != brute.LINK or pfn >= len(pool.role) or pfn in met:
                wrong.append(f"{raw:#x} at {gfn:#x}, level {level}, is no link to a table of its own")
            elif (pool.role[pfn] & 0xF, pool.role[pfn] & IS_MIRROR, pool.gfn[pfn]) != (
                level - 1,
                mirror,
                gfn,
            ):
                wrong.append(f"row {pfn} under {gfn:#x}, level {level}, says it is another table")
            else:
                met.add(pfn)
                rows[gfn, level] = pfn
                table(pfn, level - 1, base + (index << size))

    table(root.row, geometry.root_level, 0)
    return Tables(root, rows, leaves, wrong)


def pages(root: TdpMmuRoot, level: int) -> int:
    return 1 << root.geometry.index_bits * (level - 1)


def frames(tables: Tables) -> dict[int, int]:
    """Guest frame -> host frame, of all that is mapped."""
    return {
        gfn + ahead: ((raw & brute.FRAME) >> 12) + ahead
        for (gfn, level), raw in tables.leaves.items()
        for ahead in range(pages(tables.root, level))
    }


def state(raw: int) -> int:
    """Of an S-EPT leaf."""
    return raw >> 56 & 7


def frames_in(tables: Tables, wanted: int) -> set[int]:
    """Frames under S-EPT leaves of one state."""
    return {
        gfn + ahead
        for (gfn, level), raw in tables.leaves.items()
        if state(raw) == wanted
        for ahead in range(pages(tables.root, level))
    }


# ---- the module's log, line by line ----------------------------------------------------------------------


class Ledger(list):
    """Takes the place of a module's log and keeps books by it: leaves, accepted frames, BLOCKs, epochs.

    Rule 10 is checked as REMOVE and DEMOTE come in: by who is inside and since which TRACK, not by the
    module's parities.
    """

    def __init__(self, module: TdxModule) -> None:
        super().__init__(module.log)
        self.module = module
        sept = look(module.sept, is_sept=True)
        self.mapped = {at: (raw & brute.FRAME) >> 12 for at, raw in sept.leaves.items()}
        self.accepted = frames_in(sept, PRESENT)
        self.tracks = 0
        self.entered_after = dict.fromkeys(module.entered, 0)
        self.blocked_after: dict[At, int] = {}
        self.unwritten: set[int] = set()
        """Host frames that were removed and whose cache lines were not written back yet."""
        self.pamt_brought = 0
        """PAMT pages that the host brought, if somebody counts them."""
        self.pamt_taken = 0
        module.log = self

    def append(self, call: Call) -> None:
        super().append(call)
        if call.status == 0:
            kind = call.name.rpartition("TDH.")[2]
            getattr(self, "_" + kind.rpartition("TDG.")[2].replace(".", "_").lower(), lambda call: None)(call)

    def frames(self, at: At) -> range:
        return range(at[0], at[0] + pages(self.module.sept, at[1]))

    def _vp_enter(self, call: Call) -> None:
        self.entered_after[call.vcpu] = self.tracks

    def _mem_track(self, call: Call) -> None:
        self.tracks += 1

    def _mem_page_aug(self, call: Call) -> None:
        self.mapped[call.gfn, call.level] = call.pfn
        assert not self.accepted & {*self.frames((call.gfn, call.level))}, f"{call}: accepted already"

    def _mem_page_accept(self, call: Call) -> None:
        assert (call.gfn, call.level) in self.mapped, f"{call}: nothing is mapped there"
        self.accepted |= {*self.frames((call.gfn, call.level))}

    def _mem_range_block(self, call: Call) -> None:
        self.blocked_after[call.gfn, call.level] = self.tracks

    def _go(self, call: Call) -> int:
        """10. REMOVE and DEMOTE only after BLOCK, TRACK, and everybody out since."""
        at = (call.gfn, call.level)
        assert at in self.blocked_after, f"10: {call} without a BLOCK"
        since = self.blocked_after.pop(at)
        late = [vcpu for vcpu in self.module.entered if self.entered_after[vcpu] <= since]
        assert self.tracks > since, f"10: {call} without a TRACK"
        assert not late, f"10: {call}, and vCPUs {late} are inside since before the TRACK"
        return self.mapped.pop(at)

    def _mem_page_remove(self, call: Call) -> None:
        pfn, gone = self._go(call), self.frames((call.gfn, call.level))
        self.accepted -= {*gone}
        self.unwritten |= {*range(pfn, pfn + len(gone))}

    def _mem_page_demote(self, call: Call) -> None:
        pfn, small = self._go(call), pages(self.module.sept, call.level - 1)
        self.pamt_taken += 2 * (self.module.dynamic_pamt and call.level == 2)  # S176: a pair for 4K pages
        for gfn in range(call.gfn, call.gfn + small * self.module.geometry.entries, small):
            self.mapped[gfn, call.level - 1] = pfn + gfn - call.gfn

    def _phymem_pamt_add(self, call: Call) -> None:
        self.pamt_taken += 2  # S176: a pair

    def _phymem_page_wbinvd(self, call: Call) -> None:
        self.unwritten.discard(call.pfn)  # S161: one call, one 4K page


# ---- one state -------------------------------------------------------------------------------------------


class Seen:
    """A VM at rest: `subject` is a Kvm, or what has `kvm`, and for a TD `tdx`.

    It may also have a ledger; stale: private frames still mapped though their half is the other
    (S107); oversized: leaves (gfn, level) larger than their folio, which was split under them.
    """

    def __init__(self, subject: Any) -> None:
        self.kvm: Kvm = getattr(subject, "kvm", subject)
        self.tdx = getattr(subject, "tdx", None)
        self.ledger: Ledger | None = getattr(subject, "ledger", None)
        self.stale: set[int] = getattr(subject, "stale", set())  # who made this may change them
        self.oversized: set[At] = getattr(subject, "oversized", set())
        self.trees = [look(root) for root in self.kvm.tdp_mmu_roots]
        self.valid = [tables for tables in self.trees if not self.role(tables.root) & INVALID]
        mirrors = [tables for tables in self.valid if self.role(tables.root) & IS_MIRROR]
        assert len(mirrors) <= 1
        self.mirror = mirrors[0] if mirrors else None
        self.module: TdxModule | None = self.tdx.module if self.tdx else None
        self.sept = look(self.module.sept, is_sept=True) if self.module else None

    def role(self, root: TdpMmuRoot) -> int:
        return self.kvm.pool.role[root.row]


def invariant_1_tables_hold_valid_entries_only(seen: Seen) -> None:
    """1. What can be reached is filled: holes, leaves on aligned frames, links to tables of their own."""
    for tables in (*seen.trees, *([seen.sept] if seen.sept else [])):
        assert not tables.wrong, f"1: {tables.root}: {tables.wrong}"


def invariant_7_mirror_and_sept_agree(seen: Seen) -> None:
    """7. Leaf by leaf, and table by table with the page that KVM gave for it."""
    if seen.mirror and seen.sept:
        _agree(seen.tdx, seen.mirror, seen.sept)


def mirror_and_sept_agree(guest: Any) -> None:
    """7 alone, wherever mmu_lock is let go."""
    root = guest.kvm.mirror_root
    if not guest.kvm.pool.role[root.row] & INVALID:
        _agree(guest.tdx, look(root), look(guest.tdx.module.sept, is_sept=True))


def _agree(tdx: KvmTdx, mirror: Tables, sept: Tables) -> None:
    kvm, module = mirror.leaves, sept.leaves
    assert kvm.keys() == module.keys(), f"7: leaves {sorted(kvm.keys() ^ module.keys())} are in one only"
    for at, raw in kvm.items():
        assert not (raw ^ module[at]) & brute.FRAME, f"7: {at} has two host frames"
    odd = sorted(mirror.rows.keys() ^ sept.rows.keys())
    assert not odd, f"7: tables {odd} are in one only"
    given = {at: tdx.external_spt.get(row) for at, row in mirror.rows.items()}
    assert given == {at: tdx.module.sept_page.get(row) for at, row in sept.rows.items()}, "7: pages of tables"


def invariant_9_only_accepted_frames_can_be_used(seen: Seen) -> None:
    """9. By the ledger: PRESENT and in a TLB is what was accepted and not removed since."""
    if seen.ledger is None or seen.sept is None or seen.module is None:
        return
    usable = frames_in(seen.sept, PRESENT)
    assert usable == seen.ledger.accepted, f"9: {sorted(usable ^ seen.ledger.accepted)}"
    for vcpu in seen.module.entered:
        held = {
            gfn + a for gfn, level, _ in seen.module.tlb[vcpu] for a in range(pages(seen.sept.root, level))
        }
        assert held <= seen.ledger.accepted, f"9: vCPU {vcpu} can use {sorted(held - seen.ledger.accepted)}"


def invariant_10_the_log_accounts_for_the_sept(seen: Seen) -> None:
    """10. (The order of calls is checked as they come.) Leaves are what the calls made; none stays blocked;
    no removed page is left with the TD's cache lines.
    """
    if seen.ledger is None or seen.sept is None:
        return
    there = {at: (raw & brute.FRAME) >> 12 for at, raw in seen.sept.leaves.items()}
    assert there == seen.ledger.mapped, f"10: {there.items() ^ seen.ledger.mapped.items()}"
    assert not seen.ledger.blocked_after, f"10: {seen.ledger.blocked_after} are blocked at rest"
    assert not seen.module.bepoch, "10: a BEPOCH at rest"
    assert not seen.ledger.unwritten, f"10: host frames {seen.ledger.unwritten} went back unwritten"


def invariant_11_references_balance(seen: Seen) -> None:
    """11. One reference for the vCPUs that use the root, one of the TDP MMU's until it was zapped."""
    used = [seen.kvm.direct_root, seen.kvm.mirror_root]
    for tables in seen.trees:
        root = tables.root
        own = not seen.role(root) & INVALID or root.tdp_mmu_scheduled_root_to_zap
        assert root.tdp_mmu_root_count == used.count(root) + own, f"11: {root}: {root.tdp_mmu_root_count}"


def invariant_12_tlbs_hold_what_the_sept_holds(seen: Seen) -> None:
    """12. No vCPU inside can use a translation that was zapped, or a host frame that is another's now."""
    if seen.sept is None or seen.module is None:
        return
    now, present = frames(seen.sept), frames_in(seen.sept, PRESENT)
    for vcpu in seen.module.entered:
        for gfn, level, pfn in seen.module.tlb[vcpu]:
            for ahead in range(pages(seen.sept.root, level)):
                fine = gfn + ahead in present and now[gfn + ahead] == pfn + ahead
                assert fine, f"12: vCPU {vcpu} holds {gfn + ahead:#x} by a stale leaf of level {level}"


def books_1_rows_in_use(seen: Seen) -> None:
    """Each row in use is a table that is met, or in a page cache."""
    pool: PageTablePool = seen.kvm.pool
    met = [tables.root.row for tables in seen.trees] + [row for t in seen.trees for row in t.rows.values()]
    cached = [row for rows in seen.kvm.page_caches.values() for row in rows]
    assert len(set(met + cached)) == len(met + cached), "rows: one is used twice"
    assert pool.rows_in_use == len(met + cached), (
        f"rows: {pool.rows_in_use} in use, {len(met + cached)} known"
    )
    if seen.sept and not seen.module.torn_down:
        assert seen.module.sept.pool.rows_in_use == 1 + len(seen.sept.rows), "rows: of the S-EPT"


def books_2_external_pages(seen: Seen) -> None:
    """sp->external_spt: one page for each mirror table but the root, linked or in the cache."""
    if seen.tdx is None:
        return
    rows = [
        row for tables in seen.trees if seen.role(tables.root) & IS_MIRROR for row in tables.rows.values()
    ]
    external = seen.tdx.external_spt
    assert sorted(external) == sorted(rows + seen.kvm.page_caches[True]), f"external: {external}"
    assert len(set(external.values())) == len(external), "external: a page is given twice"


def books_3_pamt(seen: Seen) -> None:
    """PAMT and its counts, counted anew: 4K pages in each 2M region of host memory."""
    if seen.sept is None or seen.module is None or seen.module.torn_down:
        return
    owned = {(raw & brute.FRAME) >> 12: level for (_, level), raw in seen.sept.leaves.items()}
    owned |= dict.fromkeys(seen.module.sept_page.values(), 1)
    assert len(owned) == len(seen.sept.leaves) + len(seen.sept.rows), "PAMT: a page has two uses"
    assert seen.module.owned == owned, f"PAMT: {seen.module.owned.items() ^ owned.items()}"
    region = pages(seen.sept.root, 2)
    small = Counter(pfn // region * region for pfn, level in owned.items() if level == 1)
    counted = dict(small) if seen.module.dynamic_pamt else {}
    assert seen.tdx.pamt_refcount == counted, f"PAMT: {seen.tdx.pamt_refcount} are {counted}"
    assert seen.module.pamt_pairs == set(counted), f"PAMT: pairs {seen.module.pamt_pairs} for {set(counted)}"
    in_hand = sum(seen.tdx.pamt_caches.values())
    assert min(seen.tdx.pamt_caches.values(), default=0) >= 0
    if seen.ledger and seen.ledger.pamt_brought:
        left = seen.ledger.pamt_brought - seen.ledger.pamt_taken
        assert in_hand == left, f"PAMT: {in_hand} pages in hand, {left} by the books"


def books_4_mixed_flags(seen: Seen) -> None:
    """A huge block inside a slot is flagged as mixed exactly if it holds both halves."""
    kvm = seen.kvm
    for level in range(2, kvm.max_leaf_level + 1):
        size = 1 << kvm.geometry.index_bits * (level - 1)
        for slot in kvm.memslots:
            for gfn in range(-(-slot.base_gfn // size) * size, slot.base_gfn + slot.npages - size + 1, size):
                halves = {frame in kvm.mem_attributes for frame in range(gfn, gfn + size)}
                flag = bool(kvm.disallow_lpage.get((level, gfn), 0) & MIXED)
                assert flag == (len(halves) == 2), f"mixed: {gfn:#x}, level {level}: {flag}"


def books_5_halves(seen: Seen) -> None:
    """No frame is mapped in the half that it is not in."""
    for tables in seen.valid:
        if seen.kvm.mirror_root:
            is_mirror = bool(seen.role(tables.root) & IS_MIRROR)
            wrong = {gfn for gfn in frames(tables) if (gfn in seen.kvm.mem_attributes) != is_mirror}
            allowed = seen.stale if is_mirror else set()
            assert wrong <= allowed, f"halves: {sorted(wrong - allowed)} in {tables.root}"


def books_6_host_frames(seen: Seen) -> None:
    """A frame is on the host frame that its slot says; no mapping is larger than its folio, or its slot."""
    for tables in seen.valid:
        is_mirror = bool(seen.role(tables.root) & IS_MIRROR)
        for (gfn, level), raw in tables.leaves.items():
            size, pfn = pages(tables.root, level), (raw & brute.FRAME) >> 12
            slot = next(s for s in seen.kvm.memslots if s.base_gfn <= gfn < s.base_gfn + s.npages)
            offset = gfn - slot.base_gfn
            assert offset + size <= slot.npages, f"host: {gfn:#x}, level {level}, leaves its slot"
            if not is_mirror:
                assert pfn == slot.host_pfn + offset, f"host: {gfn:#x} is on {pfn:#x}"
                continue
            gmem, page = slot.gmem, offset + slot.gmem_pgoff
            assert pfn == gmem.first_pfn + page, f"host: {gfn:#x} is on {pfn:#x}"
            folio = pages(tables.root, gmem.folio_level)
            whole = 1 if page // folio * folio in gmem.split_folios else folio
            fits = size <= whole or gmem.spans_folios or (gfn, level) in seen.oversized
            assert fits, f"host: {gfn:#x}, level {level}, is larger than its folio"


def books_7_nothing_is_held(seen: Seen) -> None:
    """No lock, no invalidation, no reader, no vCPU counted that is not inside; and the VM lives."""
    kvm = seen.kvm
    assert not (seen.tdx and seen.tdx.dead), "the VM was killed"
    assert not kvm.slots_lock, "held: slots_lock"
    assert not kvm.srcu, "held: SRCU"
    assert (kvm.mmu_invalidate_in_progress, kvm.mmu_invalidate_range) == (0, None), "held: an invalidation"
    assert kvm.pool.rcu_readers == 0, "held: RCU"
    if seen.module:
        assert seen.module.sept.pool.rcu_readers == 0, "held: RCU of the S-EPT"
        by_parity = Counter(epoch & 1 for epoch in seen.module.entered.values())
        assert seen.module.refcount == [by_parity[0], by_parity[1]], "held: the TD, by vCPUs that left"
        assert seen.module.sept_lock_holder in (None, *seen.module.entered), "held: the S-EPT lock"


Invariant = Callable[[Seen], None]
INVARIANTS: list[Invariant] = [
    invariant_1_tables_hold_valid_entries_only,
    invariant_7_mirror_and_sept_agree,
    invariant_9_only_accepted_frames_can_be_used,
    invariant_10_the_log_accounts_for_the_sept,
    invariant_11_references_balance,
    invariant_12_tlbs_hold_what_the_sept_holds,
    books_1_rows_in_use,
    books_2_external_pages,
    books_3_pamt,
    books_4_mixed_flags,
    books_5_halves,
    books_6_host_frames,
    books_7_nothing_is_held,
]


def check(subject: Any) -> Seen:
    """All invariants of `subject` (see :class:`Seen`, which it may be); what was read, to read on."""
    seen = subject if isinstance(subject, Seen) else Seen(subject)
    for holds in INVARIANTS:
        holds(seen)
    return seen


# ---- two states ------------------------------------------------------------------------------------------


def assert_only_edges_were_split(before: Tables, after: Tables, edges: tuple[int, ...]) -> None:
    """2, 4 and 5. Translations and flags are as before, no leaf has an edge strictly inside, and every leaf
    that had none is still there.
    """

    def by_frame(tables: Tables) -> dict[int, int]:
        return {
            gfn + ahead: (raw & ~brute.LARGE) + (ahead << 12)
            for (gfn, level), raw in tables.leaves.items()
            for ahead in range(pages(tables.root, level))
        }

    def crosses(at: At) -> bool:
        return any(at[0] < edge < at[0] + pages(before.root, at[1]) for edge in edges)

    assert by_frame(before) == by_frame(after), "2: a split changed a translation"
    assert not [at for at in after.leaves if crosses(at)], "4: a leaf crosses an edge"
    kept = {at for at in before.leaves if not crosses(at)}
    assert kept <= after.leaves.keys(), f"5: {sorted(kept - after.leaves.keys())} crossed no edge"


def assert_untouched(before: Tables, after: Tables) -> None:
    """8. An operation on the other half left this tree alone, tables included."""
    assert before[1:] == after[1:], f"8: {before.root} changed"
