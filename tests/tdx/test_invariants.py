"""Each invariant can fail: a sound guest, one thing broken by hand, and the invariant that says so."""

import re
from collections.abc import Callable

import pytest

from tdpkit.engine import events
from tdpkit.engine.events import Coroutine, External, SetSpte
from tdpkit.engine.gfn import GfnRange
from tdpkit.engine.kvm import KvmGfnRange, kvm_mmu_invalidate_begin
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.pool import ROLE_INVALID
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.engine.tdp_mmu import tdp_mmu_zap_leafs
from tdpkit.engine.tree import map_leaf
from tdpkit.lab.td import Td
from tests.oracles import brute, invariants
from tests.oracles.guests import TOY, Guest
from tests.oracles.invariants import INVARIANTS, assert_only_edges_were_split, assert_untouched, check

PENDING, PRESENT = 2, 4


def a_guest() -> Guest:
    """2M leaves, one of them split; [20, 24) shared and mapped; vCPU 0 has touched frames 0 and 9."""
    guest = Guest(dynamic_pamt=True, vcpus=2).populate()
    assert guest.convert(9, 10, private=False) == guest.convert(9, 10, private=True) == 0
    assert guest.accept(9) == 0
    assert guest.convert(20, 24) == 0
    assert guest.touch_shared(21) > 0
    assert guest.touch(0).outcome == guest.touch(9).outcome == "ok"
    check(guest)
    return guest


def entry(tables: invariants.Tables, gfn: int, level: int) -> tuple[memoryview, int]:
    """The table and the index of an entry."""
    row = tables.root.row
    for above in range(tables.root.geometry.root_level, level, -1):
        row = tables.rows[gfn // brute.pages(TOY, above) * brute.pages(TOY, above), above]
    index = (gfn | tables.root.gfn_bits) // brute.pages(TOY, level) % TOY.entries
    return tables.root.pool.table(row), index


def write(tables: invariants.Tables, gfn: int, level: int, change: Callable[[int], int]) -> None:
    table, index = entry(tables, gfn, level)
    table[index] = change(table[index])


def both(guest: Guest, gfn: int, level: int, change: Callable[[int], int]) -> None:
    """The same bits in mirror and S-EPT, so that they still agree."""
    write(guest.mirror, gfn, level, change)
    write(guest.sept, gfn, level, change)


def with_state(raw: int, state: int) -> int:
    return raw & ~(7 << 56 | 7) | state << 56 | (7 if state == PRESENT else 0)


def set_level(guest: Guest) -> None:
    row = guest.mirror.rows[8, 2]
    guest.kvm.pool.role[row] += 1


def lose_a_reference(guest: Guest) -> None:
    guest.kvm.direct_root.tdp_mmu_root_count += 1


def hand_a_row_out(guest: Guest) -> None:
    guest.kvm.pool.alloc()


def cache_a_linked_row(guest: Guest) -> None:
    guest.kvm.page_caches[True].append(guest.mirror.rows[8, 2])


BREAKS: list[tuple[str, Callable[[Guest], object], str]] = [
    ("1: a leaf on a frame out of step", lambda g: both(g, 0, 2, lambda raw: raw + 0x1000), "1: "),
    ("1: an entry left frozen", lambda g: write(g.direct, 20, 2, lambda raw: brute.FROZEN), "1: "),
    ("1: an entry of a freed table", lambda g: write(g.direct, 20, 2, lambda raw: 0x6B6B6B6B6B6B6B6B), "1: "),
    ("1: a table that says another level", set_level, "1: "),
    (
        "1: a link to itself",
        lambda g: write(g.direct, 20, 2, lambda _: brute.LINK | g.kvm.direct_root.row << 12),
        "1: ",
    ),
    ("1: a blocked leaf at rest", lambda g: write(g.sept, 0, 2, lambda raw: with_state(raw, 1)), "1: "),
    ("7: a leaf in the mirror only", lambda g: write(g.sept, 4, 2, lambda _: brute.HOLE), "7: leaves"),
    ("7: a leaf on another frame", lambda g: write(g.mirror, 9, 1, lambda raw: raw ^ 0x1000), "7: .*host"),
    ("7: a table in the S-EPT only", lambda g: write(g.mirror, 16, 3, lambda _: brute.HOLE), "7: "),
    (
        "7: the page of a table mixed up",
        lambda g: g.module.sept_page.update({g.sept.rows[8, 2]: 999}),
        "7: pages",
    ),
    ("9: PENDING became PRESENT", lambda g: make_pending_present(g), "9: "),
    ("9: a TLB beyond what was accepted", lambda g: g.module.tlb[0].add((20, 2, g.private(20))), "9: vCPU 0"),
    ("10: a leaf without a call", lambda g: unlogged_leaf(g), "10: "),
    ("10: a block left", lambda g: g.ledger.blocked_after.update({(0, 2): 1}), "10: .*blocked at rest"),
    ("10: a page not written back", lambda g: g.ledger.unwritten.add(7), "10: .*unwritten"),
    ("11: a reference too many", lose_a_reference, "11: "),
    ("12: a TLB with another host frame", lambda g: g.module.tlb[0].add((0, 2, g.private(4))), "12: vCPU 0"),
    ("rows: one handed out for nothing", hand_a_row_out, "rows: "),
    ("rows: one twice", cache_a_linked_row, "rows: one is used twice"),
    ("rows: of the S-EPT", lambda g: g.module.sept.pool.alloc(), "rows: of the S-EPT"),
    ("external: a page for nothing", lambda g: g.tdx.external_spt.update({99: 5000}), "external: "),
    ("external: a page twice", lambda g: double_page(g), "external: a page is given twice"),
    ("PAMT: a page of nobody", lambda g: g.module.owned.update({999: 1}), "PAMT: "),
    ("PAMT: a count", lambda g: g.tdx.pamt_refcount.update({g.private(8): 3}), "PAMT: "),
    ("PAMT: a pair", lambda g: g.module.pamt_pairs.add(0), "PAMT: pairs"),
    ("PAMT: pages in hand", lambda g: setattr(g.tdx, "pamt_caches", {None: 40}), "PAMT: 40 pages in hand"),
    ("10, a BEPOCH", lambda g: g.module.bepoch.update({(0, 1): 3}), "10: a BEPOCH"),
    ("mixed: a flag too many", lambda g: g.kvm.disallow_lpage.update({(2, 4): 1 << 31}), "mixed: 0x4"),
    ("mixed: a flag too few", lambda g: g.kvm.mem_attributes.store(GfnRange(5, 6), False), "mixed: 0x4"),
    (
        "halves: a private frame in the direct root",
        lambda g: map_leaf(g.kvm.direct_root, 0, 2, g.shared(0)),
        "halves: ",
    ),
    ("halves: a shared frame in the mirror", lambda g: make_shared(g), "halves: "),
    ("host: a wrong frame", lambda g: write(g.direct, 20, 2, lambda raw: raw + 0x4000), "host: 0x14"),
    ("host: larger than its folio", lambda g: g.gmem.split_folio(0), "host: 0x0"),
    ("held: an invalidation", lambda g: kvm_mmu_invalidate_begin(g.kvm, GfnRange(0, 4)), "held: an inval"),
    ("held: slots_lock", lambda g: g.kvm.slots_lock.__enter__(), "held: slots_lock"),
    ("held: SRCU", lambda g: g.kvm.srcu.__enter__(), "held: SRCU"),
    ("held: RCU", lambda g: g.kvm.pool.rcu_read_lock(), "held: RCU"),
    ("held: the S-EPT lock", lambda g: setattr(g.module, "sept_lock_holder", 5), "held: the S-EPT lock"),
    ("held: the TD", lambda g: g.module.entered.pop(1), "held: the TD"),
    ("dead", lambda g: setattr(g.tdx, "dead", True), "the VM was killed"),
]


def make_pending_present(guest: Guest) -> None:
    assert guest.convert(9, 10) == guest.convert(9, 10, private=True) == 0
    assert guest.touch(9).outcome == "#VE"
    check(guest)
    write(guest.sept, 9, 1, lambda raw: with_state(raw, PRESENT))


def unlogged_leaf(guest: Guest) -> None:
    """A PENDING leaf in both trees that no AUG made."""
    assert guest.convert(20, 24, private=True) == 0
    check(guest)
    write(guest.mirror, 20, 2, lambda _: brute.leaf(guest.private(20), 2))
    write(
        guest.sept,
        20,
        2,
        lambda _: (
            with_state(brute.leaf(guest.private(20), 2) & ~(0xF40 | 0xA0 << 48), PENDING) | brute.PRESENT
        ),
    )


def double_page(guest: Guest) -> None:
    first, second = guest.kvm.page_caches[True][:2]
    guest.tdx.external_spt[first] = guest.tdx.external_spt[second]


def make_shared(guest: Guest) -> None:
    guest.kvm.mem_attributes.store(GfnRange(0, 4), False)


@pytest.mark.parametrize(("broken", "says"), [pytest.param(b, s, id=i) for i, b, s in BREAKS])
def test_a_state_broken_by_hand_is_noticed(broken, says):
    guest = a_guest()
    broken(guest)
    with pytest.raises(AssertionError) as notice:
        check(guest)
    assert re.match(says, str(notice.value)), notice.value


def test_each_invariant_of_a_state_notices_something():
    noticed = {says.split(":")[0] for _, _, says in BREAKS} - {"the VM was killed"}
    assert noticed == {
        "1",
        "7",
        "9",
        "10",
        "11",
        "12",
        *["rows", "external", "PAMT", "mixed", "halves", "host", "held"],
    }
    assert len(INVARIANTS) == len(noticed)


# ---- what is noticed as it happens -----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["mem_page_remove", "mem_page_demote"])
@pytest.mark.parametrize(
    ("calls", "says"),
    [
        ("", "without a BLOCK"),
        ("block", "without a TRACK"),
        ("block track", "inside since before"),
        ("track kick block", "without a TRACK"),
        ("block kick track", "inside since before"),
        ("block track kick", None),
    ],
)
def test_the_ledger_asks_for_block_track_and_a_kick_before_remove_and_demote(call, calls, says, monkeypatch):
    """10: with the module's own rule switched off, the ledger is the one that notices."""
    guest = Guest().populate()
    module = guest.module
    monkeypatch.setattr(module, "_not_yet", lambda at: 0)
    steps = {
        "block": lambda: module.mem_range_block(4, 2),
        "track": module.mem_track,
        "kick": guest.tdx.kick_vcpus,
    }
    for step in calls.split():
        assert not steps[step]()
    if not calls:
        if call == "mem_page_demote":
            write(guest.sept, 4, 2, lambda raw: with_state(raw, 1))
        module.bepoch[guest.private(4), 2] = 0
    args = (4, 2) if call == "mem_page_remove" else (4, 2, 9999)
    if says:
        with pytest.raises(AssertionError, match=f"10: .*{says}"):
            getattr(module, call)(*args)
    else:
        assert getattr(module, call)(*args) == 0


def refuses(guest: Guest, coroutine: Coroutine, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        guest.run(coroutine, held="write")


def test_the_world_notices_a_table_that_is_linked_half_filled():
    """1: what the store that links it would make reachable."""
    guest = Guest().populate()
    leaf = guest.mirror.leaves[0, 2]
    row = guest.kvm.pool.alloc()
    for index, small in enumerate(brute.small_leaves(TOY, leaf, 2)[:3]):
        guest.kvm.pool.table(row)[index] = small

    def link() -> Coroutine[None]:
        yield SetSpte(guest.kvm.mirror_root.row, 0, 0, 2, leaf, brute.LINK | row << 12)

    refuses(guest, link(), "1, 2: ")


def test_the_world_notices_a_split_of_what_is_no_huge_leaf():
    """3."""
    guest = Guest().populate()
    row = guest.kvm.pool.alloc()

    def link() -> Coroutine[None]:
        yield SetSpte(guest.kvm.mirror_root.row, 0, 0, 3, brute.LINK | 1 << 12, brute.LINK | row << 12)

    refuses(guest, link(), "3: ")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda it: setattr(it, "level", 2), "6: a walk goes on below the root"),
        (lambda it: setattr(it, "next_last_level_gfn", 3), "6: a walk comes back with another goal"),
    ],
)
def test_the_world_notices_a_walk_that_does_not_restart_as_it_should(spoil, says):
    guest = Guest().populate()

    def walk() -> Coroutine[None]:
        it = TdpIter(guest.kvm.mirror_root, 1, 0)
        yield events.Visit(it)
        yield events.Unlock(False, "resched")
        yield events.Lock(False)
        spoil(it)
        yield events.Visit(it)

    refuses(guest, walk(), says)


def test_the_world_notices_a_mirror_that_is_ahead_when_the_lock_is_free():
    """7, in the middle of an operation: a zap whose hook was forgotten."""
    guest = Guest().populate()
    zap = tdp_mmu_zap_leafs(guest.kvm.mirror_root, 0, 8)

    def forgetful() -> Coroutine[None]:
        answer = None
        try:
            while True:
                event = zap.send(answer)
                answer = 0 if isinstance(event, External) else (yield event)
        except StopIteration:
            yield events.Unlock(False, "done")

    refuses(guest, forgetful(), "7: ")


# ---- two states ------------------------------------------------------------------------------------------


def test_a_split_is_held_against_the_state_before_it():
    """2, 4 and 5, each broken once."""
    guest = Guest().populate()
    before = guest.mirror
    with guest.kvm.slots_lock:
        gfn_range = KvmGfnRange(guest.slots[0], 5, 8, attr_filter=2)
        guest.run(kvm_split_cross_boundary_leafs(guest.kvm, gfn_range, shared=False), held="write")
    after = guest.mirror
    assert_only_edges_were_split(before, after, (5, 8))
    with pytest.raises(AssertionError, match="4: "):
        assert_only_edges_were_split(before, before, (5, 8))
    with pytest.raises(AssertionError, match="5: "):
        assert_only_edges_were_split(before, after, (4, 8))
    write(after, 6, 1, lambda raw: raw ^ 1 << 12)
    with pytest.raises(AssertionError, match="2: "):
        assert_only_edges_were_split(before, guest.mirror, (5, 8))


def test_a_tree_of_the_other_half_is_held_against_itself():
    """8: tables count too."""
    guest = Guest().populate()
    before = guest.mirror
    assert_untouched(before, guest.mirror)
    assert guest.convert(5, 6) == 0
    with pytest.raises(AssertionError, match="8: "):
        assert_untouched(before, guest.mirror)


# ---- subjects ----------------------------------------------------------------------------------------------


def test_a_td_of_the_lab_and_a_plain_vm_are_checked_too():
    td = Td(dynamic_pamt=True)
    td.convert(3, 9)
    check(td)
    td.module.tlb[0].add((3, 1, 0))
    with pytest.raises(AssertionError, match="12: "):
        check(td)
    plain = Guest(plain=True)
    assert plain.touch_shared(5) > 0
    check(plain.kvm)
    plain.kvm.pool.role[plain.kvm.direct_root.row] |= ROLE_INVALID
    with pytest.raises(AssertionError, match="11: "):
        check(plain.kvm)
