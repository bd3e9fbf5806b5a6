"""Random operations over the trees of one VM: after each, the invariants, and what the guest reads.

The reference keeps, per frame, its half, whether the guest accepted it, and its bytes: no tables. What a zap
without a split loses is said by frames that shared a leaf before, read from the raw entries.

Some 20 000 steps in all, a share in each variant; TDPKIT_SOAK=10 makes ten times as many, drawn anew.
"""

import os
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tdpkit.engine import mmu, splits
from tdpkit.engine.conversion import kvm_vm_set_mem_attributes
from tdpkit.engine.events import External
from tdpkit.engine.gfn import PAGE_SHIFT, Geometry
from tdpkit.engine.guest_memfd import kvm_gmem_error_folio, kvm_gmem_fallocate, kvm_gmem_set_attributes
from tdpkit.engine.kvm import KvmGfnRange
from tdpkit.engine.page_fault import kvm_tdp_mmu_page_fault
from tdpkit.engine.roots import (
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    kvm_tdp_mmu_zap_invalidated_roots,
)
from tdpkit.engine.splits import (
    SPLITS,
    accept_split_mirrors,
    accept_split_root_hpa,
    accept_split_v3,
    accept_split_v3_as_posted,
)
from tdpkit.tdx.guest import td_accept, td_access
from tests.oracles import invariants
from tests.oracles.guests import PRIVATE, Guest
from tests.oracles.invariants import PENDING, PRESENT, assert_only_edges_were_split, assert_untouched, state

pytestmark = pytest.mark.slow

SOAK = int(os.environ.get("TDPKIT_SOAK") or 1)
STEPS = 12
"""Steps of one run."""

EFAULT, ENOMEM, EHWPOISON, EINVAL = 14, 12, 133, 22
RETRY, FIXED, SPURIOUS = 1, 5, 6
DIRECT_ROOTS = 2  # S42
MF_DELAYED = 2
OK = 0
OPERAND_INVALID, ALREADY, SIZE_MISMATCH = (  # S178
    0xC0000100 << 32,
    0x00000B0A << 32,
    0xC0000B0B << 32,
)
ACCEPT_SPLITS = {
    "v3": accept_split_v3,
    "v3 as posted": accept_split_v3_as_posted,
    "root.hpa": accept_split_root_hpa,
    "mirrors": accept_split_mirrors,
}
EXACT = ("v3", "v3 as posted", "head and tail")
"""Splits after which the zap takes nothing outside its range."""

SEEDS = st.integers(0, 2**32 - 1)
"""What a rule does in detail is drawn from here, see `Machine.random`."""


class Machine(RuleBasedStateMachine):
    """What plain VMs and TDs have in common."""

    geometry: ClassVar[Geometry] = Geometry(2, 3, 2)
    slots: ClassVar[tuple] = ((8, 16, 0),)
    """Four huge blocks, under two tables."""
    options: ClassVar[dict] = {}
    steps: ClassVar[int] = 0
    """Run so far, by this class."""

    def __init__(self) -> None:
        super().__init__()
        self.guest = Guest(self.geometry, self.slots, **self.options)
        self.kvm = self.guest.kvm
        self.in_slots = [
            gfn for slot in self.guest.slots for gfn in range(slot.base_gfn, slot.base_gfn + slot.npages)
        ]
        self.end = self.kvm.max_gfn_exclusive
        self.turn = 0
        self.met: Any = None
        """What the meddler's fault came to."""

    # ---- helpers

    def random(self, seed: int) -> Random:
        """Even choices, other ones at each turn: hypothesis likes to repeat a call that it made before."""
        self.turn += 1
        return Random(seed + (self.turn << 32))

    def gfn(self, random: Random) -> int:
        return random.choice(self.in_slots)

    def span(self, random: Random) -> tuple[int, int]:
        """A range that is not empty: most of them short, many with a block's edge, some beyond the slots."""
        size = invariants.pages(self.kvm.direct_root, 2)
        last = min(self.end, self.in_slots[-1] + 4)
        start = random.randrange(last)
        end = min(last, start + 1 + random.randrange(random.choice((3, 6, 12, 40))))
        if random.random() < 0.3:
            start = start // size * size
        if random.random() < 0.3:
            end = min(last, -(-end // size) * size)
        return start, end

    def gfn_range(self, start: int, end: int, attr_filter: int = 3) -> KvmGfnRange:
        slot = self.kvm.slot_of(start) or self.guest.slots[0]
        return KvmGfnRange(slot, start, end, attr_filter)

    def run(self, coroutine: Any, held: str = "") -> tuple[Any, bool]:
        """What the call returned, and whether it was refused memory."""
        self.met = None
        before = self.guest.refused
        result = self.guest.run(coroutine, held)
        return result, self.guest.refused > before

    def done(self) -> None:
        """The end of each rule. Nobody flushes where nothing was zapped since the last flush; but of several
        ranges one may owe a flush that a reschedule in the next has made, as in the kernel.
        """
        type(self).steps += 1
        assert not self.guest.watch.needless or len(self.guest.slots) > 1
        self.guest.watch.meddler = None
        self.guest.refuse(-1)

    def sharing(self, tables: invariants.Tables, frames: set[int]) -> set[int]:
        """`frames` and all that are under one leaf with one of them."""
        found = set(frames)
        for gfn, level in tables.leaves:
            under = set(range(gfn, gfn + invariants.pages(tables.root, level)))
            if under & frames:
                found |= under
        return found

    # ---- rules of both kinds

    def disturb(self, random: Random, span: range, is_private: bool) -> None:
        """The k-th request for memory is refused, each n-th visit a reschedule is due; once, when a walk lets
        go of mmu_lock, another vCPU faults in or near the `span`; any of these or none.
        """
        self.guest.refuse(random.choice((-1, -1, -1, 1, 2, 3)))
        self.guest.watch.hurry = random.choice((0, 0, 1, 2, 3))
        if random.random() < 0.3:
            near = range(span.start - 3, span.stop + 3)
            near = [gfn for gfn in near if gfn in self.in_slots] or self.in_slots
            gfn = random.choice(near)
            self.guest.watch.patience = random.randrange(5)

            def fault() -> None:
                fault = kvm_tdp_mmu_page_fault(self.kvm, gfn, is_private=is_private)
                if is_private and not self.guest.tdx.topup_pamt_cache(2 * self.geometry.root_level):
                    return  # as tdx_handle_ept_violation does first
                self.met = gfn, is_private, self.guest.meanwhile(fault)

            self.guest.watch.meddler = fault

    def zap_all(self) -> None:
        """Fast zap-all: direct roots are invalidated, the vCPUs take new ones, the old ones are zapped."""
        kvm_tdp_mmu_invalidate_roots(self.kvm, DIRECT_ROOTS)
        shared = [gfn for gfn in self.in_slots if gfn not in self.kvm.mem_attributes]
        for gfn in shared[:1]:
            ret, _ = self.run(kvm_tdp_mmu_page_fault(self.kvm, gfn, is_private=False))
            assert ret in (RETRY, -ENOMEM)
        kvm_mmu_reload(self.kvm)
        ret, refused = self.run(kvm_tdp_mmu_zap_invalidated_roots(self.kvm), held="write")
        assert (ret, refused) == (None, False)
        assert not self.guest.direct.leaves


class Td(Machine):
    """A TD. vCPUs enter and leave, touch and accept; its VMM converts, punches, zaps and splits."""

    vcpus: ClassVar[int] = 1

    def __init__(self) -> None:
        self.options = {**self.options, "vcpus": self.vcpus}
        super().__init__()
        self.module, self.tdx, self.gmem = self.guest.module, self.guest.tdx, self.guest.gmem
        self.private: set[int] = set()
        self.accepted: set[int] = set()
        self.bytes: dict[int, int] = {}
        """Of accepted frames."""
        self.shared_bytes = {gfn: 0xA0 + gfn & 0xFF for gfn in self.in_slots}
        self.poisoned: set[int] = set()
        """File pages."""
        self.split_pages: set[int] = set()
        """File pages in folios that were split."""

    @initialize(seed=SEEDS)
    def start(self, seed: int) -> None:
        self.renew(seed)

    @rule(seed=SEEDS)
    def renew(self, seed: int) -> None:
        """The file is punched out whole; all frames of the slots are private, and accepted at 4K, or at 2M
        where that works, or not.
        """
        random = self.random(seed)
        level = random.choice((0, 1, 2, 2, 2))
        size = self.gmem.npages << PAGE_SHIFT
        assert self.run(kvm_gmem_fallocate(self.gmem, 3, 0, size)) == (0, False)
        self.lose(self.accepted)
        self.poisoned, self.split_pages = set(), set()
        for slot in self.guest.slots:
            end = slot.base_gfn + slot.npages
            assert self.run(kvm_vm_set_mem_attributes(self.kvm, slot.base_gfn, end, PRIVATE)) == (0, False)
            self.private |= set(range(slot.base_gfn, end))
        self.tdx.kick_vcpus()
        vcpu = self.inside(random)
        done: set[int] = set()
        for gfn in self.in_slots if level else ():
            if gfn in done:
                continue
            at = 2 if level == 2 and self.huge(gfn) and (gfn, 2) not in self.guest.sept.rows else 1
            ret, _ = self.run(td_accept(self.tdx, vcpu, gfn, at))
            assert ret == OK
            done |= set(range(gfn, gfn + invariants.pages(self.kvm.mirror_root, at)))
        if level:
            self.accepted = set(self.in_slots)
            for gfn in self.in_slots:
                self.bytes[gfn] = random.randrange(256)
                self.guest.memory[self.guest.private(gfn)] = self.bytes[gfn]
        self.agree()

    # ---- the reference

    def agree(self, mirror_was: invariants.Tables | None = None, direct_was: Any = None) -> None:
        """The invariants hold, and the reference says what is there; the end of each rule.

        mirror_was, direct_was: trees that the operation has no business with (8).
        """
        guest = self.guest
        seen = invariants.Seen(guest)
        guest.stale &= {gfn for gfn in invariants.frames(seen.mirror) if gfn not in self.private}
        guest.oversized &= seen.mirror.leaves.keys()
        invariants.check(seen)
        assert invariants.frames_in(seen.sept, PRESENT) == self.accepted
        assert set(self.bytes) == self.accepted
        for gfn, byte in self.bytes.items():
            assert guest.memory[guest.private(gfn)] == byte, f"the private byte of {gfn:#x}"
        for gfn, byte in self.shared_bytes.items():
            assert guest.memory[guest.shared(gfn)] == byte, f"the shared byte of {gfn:#x}"
        ranges = self.kvm.mem_attributes.ranges()
        assert {gfn for span in ranges for gfn in range(span.start, span.end)} == self.private
        if mirror_was:
            assert_untouched(mirror_was, seen.mirror)
            assert True not in guest.watch.halves_stored, "8"
        if direct_was:
            assert_untouched(direct_was, guest.direct)
            assert False not in guest.watch.halves_stored, "8"
        if self.met:
            gfn, _, ret = self.met
            fine = (RETRY, FIXED, SPURIOUS, -ENOMEM, -EFAULT, -EHWPOISON)
            assert ret in fine, f"a fault on {gfn:#x} in between came to {ret}"
        self.done()

    def lose(self, frames: set[int]) -> None:
        self.accepted -= frames
        self.bytes = {gfn: byte for gfn, byte in self.bytes.items() if gfn in self.accepted}

    def page(self, gfn: int) -> int:
        """The page of the file behind a frame."""
        return self.guest.private(gfn) - self.guest.private_pfn

    def frames_of(self, pages: set[int]) -> set[int]:
        return {gfn for gfn in self.in_slots if self.page(gfn) in pages}

    def folio(self, page: int) -> set[int]:
        size = invariants.pages(self.kvm.mirror_root, self.gmem.folio_level)
        first = page // size * size
        return {page} if page in self.split_pages else set(range(first, first + size))

    def unbacked(self, gfn: int) -> int:
        """What a fault on private frame `gfn` comes to if nothing can be mapped there; else 0."""
        if gfn not in self.private:
            return -EFAULT
        return -EHWPOISON if self.folio(self.page(gfn)) & self.poisoned else 0

    def huge(self, gfn: int) -> bool:
        """A fault may map the block of `gfn` whole: by its slot, halves, folio, host frames and history."""
        size = invariants.pages(self.kvm.mirror_root, 2)
        first = gfn // size * size
        block = set(range(first, first + size))
        slot = next(slot for slot in self.guest.slots if gfn in slot)
        return (
            gfn == first
            and slot.base_gfn <= first
            and first + size <= slot.base_gfn + slot.npages
            and len(block & self.private) in (0, size)
            and not self.inhibited(gfn)
            and (self.gmem.spans_folios or len(self.folio(self.page(gfn))) == size)
            and self.guest.private(gfn) % size == 0
        )

    def inhibited(self, gfn: int) -> bool:
        size = invariants.pages(self.kvm.mirror_root, 2)
        return bool(self.kvm.disallow_lpage.get((2, gfn // size * size), 0) & 1 << 30)

    def leaf(self, gfn: int) -> tuple[int, int] | None:
        """(level, state) of the S-EPT leaf that holds `gfn`."""
        sept = self.guest.sept
        size = invariants.pages(sept.root, 2)
        for at in ((gfn, 1), (gfn // size * size, 2)):
            if at in sept.leaves:
                return at[1], state(sept.leaves[at])
        return None

    def inside(self, random: Random) -> int:
        """A vCPU that is inside, if need be from now on."""
        vcpu = random.randrange(self.vcpus)
        if vcpu not in self.module.entered:
            self.module.vp_enter(vcpu)
        return vcpu

    def grip(self, random: Random) -> None:
        """Now and then a vCPU, at one instruction for too long, holds the S-EPT lock."""
        if random.random() < 0.2 and self.module.sept_lock_holder is None:
            self.module.hold_sept_lock(self.inside(random))

    def warm(self, random: Random) -> None:
        """Before what takes away, mostly something that is mapped; a step of its own."""
        if random.random() < 0.6:
            steps = (self.accept_huge, self.accept_huge, self.touch, self.touch_shared, self.touch_shared)
            random.choice(steps)(random.getrandbits(32))

    def locked_out(self, vcpu: int) -> bool:
        return self.module.sept_lock_holder not in (None, vcpu)

    def only_the_edges_were_split(self, was: invariants.Tables, split: str, parts: list[set[int]]) -> None:
        """4 and 5, of a caller that zaps the `parts`, each without a gap."""
        edges = {x for part in parts for x in (min(part), max(part) + 1)}
        crossing = [
            gfn
            for gfn, level in was.leaves
            for x in edges
            if gfn < x < gfn + invariants.pages(was.root, level)
        ]
        done = [event.gfn for event in self.guest.watch.of(External) if event.op == "split"]
        if not self.met:
            assert sorted(done) == (sorted(set(crossing)) if split in EXACT else [])

    # ---- the guest

    @rule(seed=SEEDS)
    def touch(self, seed: int) -> None:
        """The guest reads or writes private memory."""
        random = self.random(seed)
        self.grip(random)
        vcpu, gfn = self.inside(random), self.gfn(random)
        self.disturb(random, range(gfn, gfn + 1), True)
        leaf, busy, direct = self.leaf(gfn), self.locked_out(vcpu), self.guest.direct
        got, refused = self.run(td_access(self.tdx, vcpu, gfn))
        if gfn in self.accepted:
            assert got == ("ok", self.guest.private(gfn), None)
            if random.random() < 0.5:
                self.guest.memory[got.pfn] = self.bytes[gfn] = random.randrange(256)
        elif leaf:
            assert got == ("#VE", None, None)
        elif refused and got == -ENOMEM:
            pass
        elif self.unbacked(gfn):
            assert got == self.unbacked(gfn)
        elif busy:
            assert got.outcome == "violation"
        else:
            assert got == ("#VE", None, None)
        assert (vcpu in self.module.entered) == (not isinstance(got, int))
        self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def accept(self, seed: int) -> None:
        """ACCEPT of 4K, oftener than not of a frame that was touched before: splits a larger PENDING page in
        the mirror, unless the wrong root is asked.
        """
        random = self.random(seed)
        split = random.choice(sorted(ACCEPT_SPLITS))
        vcpu = self.inside(random)
        todo = [gfn for gfn in self.in_slots if gfn not in self.accepted and not self.unbacked(gfn)]
        gfn = random.choice(todo) if todo and random.random() < 0.8 else self.gfn(random)
        fresh = gfn not in self.accepted and not self.unbacked(gfn) and not self.locked_out(vcpu)
        if fresh and random.random() < 0.7:
            assert self.run(td_access(self.tdx, vcpu, gfn)) == (("#VE", None, None), False)
        self.grip(random)
        vcpu = self.inside(random)
        leaf, busy, inhibited = self.leaf(gfn), self.locked_out(vcpu), self.inhibited(gfn)
        direct = self.guest.direct if split != "root.hpa" else None
        self.disturb(random, range(gfn, gfn + 1), True)
        got, refused = self.run(td_accept(self.tdx, vcpu, gfn, 1, split=ACCEPT_SPLITS[split]))
        if gfn in self.accepted:
            assert got == ALREADY
        elif refused and got == -ENOMEM:
            pass
        elif leaf == (1, PENDING):
            assert got == OK
        elif self.unbacked(gfn):
            assert got == self.unbacked(gfn)
        elif leaf:
            assert leaf == (2, PENDING)
            assert got == (None if inhibited or split == "root.hpa" else OK)
        else:
            assert got == (None if busy else OK)
        if got == OK:
            self.accepted.add(gfn)
            self.bytes[gfn] = 0
        self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def accept_huge(self, seed: int) -> None:
        """ACCEPT of 2M."""
        random = self.random(seed)
        self.grip(random)
        vcpu, gfn = self.inside(random), self.gfn(random)
        size = invariants.pages(self.kvm.mirror_root, 2)
        if random.random() < 0.9:
            gfn = gfn // size * size
        leaf, busy, huge = self.leaf(gfn), self.locked_out(vcpu), gfn in self.in_slots and self.huge(gfn)
        table, direct = (gfn, 2) in self.guest.sept.rows, self.guest.direct
        self.disturb(random, range(gfn, gfn + 1), True)
        got, refused = self.run(td_accept(self.tdx, vcpu, gfn, 2))
        if gfn % size:
            assert got == OPERAND_INVALID
        elif table:
            assert got == SIZE_MISMATCH
        elif leaf:
            assert got == (ALREADY if leaf[1] == PRESENT else OK)
        elif refused and got == -ENOMEM:
            pass
        elif gfn not in self.in_slots or self.unbacked(gfn):
            assert got == (-EFAULT if gfn not in self.in_slots else self.unbacked(gfn))
        elif busy:
            assert got is None
        else:
            assert got == (OK if huge else SIZE_MISMATCH)
        if got == OK:
            self.accepted |= set(range(gfn, gfn + size))
            self.bytes |= dict.fromkeys(range(gfn, gfn + size), 0)
        self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def touch_shared(self, seed: int) -> None:
        """The guest reads or writes shared memory, oftener than not where there is some."""
        random = self.random(seed)
        shared = sorted(set(self.in_slots) - self.private)
        gfn, mirror = self.gfn(random), self.guest.mirror
        if shared and random.random() < 0.8:
            gfn = random.choice(shared)
        self.disturb(random, range(gfn, gfn + 1), False)
        ret, refused = self.run(kvm_tdp_mmu_page_fault(self.kvm, gfn, is_private=False))
        if gfn in self.private:
            assert ret == -EFAULT or (refused and ret == -ENOMEM)
        else:
            assert ret in (FIXED, SPURIOUS) or (refused and ret == -ENOMEM)
        if ret > 0:
            pfn = invariants.frames(self.guest.direct)[gfn]
            assert self.guest.memory[pfn] == self.shared_bytes[gfn]
            if random.random() < 0.5:
                self.guest.memory[pfn] = self.shared_bytes[gfn] = random.randrange(256)
        self.agree(mirror_was=mirror)

    @rule(seed=SEEDS)
    def come_or_go(self, seed: int) -> None:
        vcpu = self.random(seed).randrange(self.vcpus)
        (self.module.vp_exit if vcpu in self.module.entered else self.module.vp_enter)(vcpu)
        self.guest.watch.begin()
        self.agree(self.guest.mirror, self.guest.direct)

    # ---- the VMM

    @rule(seed=SEEDS)
    def convert(self, seed: int) -> None:
        random = self.random(seed)
        split = random.choice(sorted(SPLITS))
        to_private = random.random() < 0.4
        self.warm(random)
        start, end = self.span(random)
        span = set(range(start, end))
        mirror, direct = self.guest.mirror, self.guest.direct
        noop = span <= self.private if to_private else not span & self.private
        self.grip(random)
        self.disturb(random, range(start, end), not to_private)
        attributes = PRIVATE if to_private else 0
        call = kvm_vm_set_mem_attributes(self.kvm, start, end, attributes, split=SPLITS[split])
        ret, refused = self.run(call)
        if noop:
            assert ret == 0
            assert not self.guest.watch.said, "nothing is to be done"
            return self.agree(mirror, direct)
        if self.met and self.met[0] in span:
            assert self.met[2] not in (FIXED, SPURIOUS), "the range is being invalidated"
        if to_private:
            assert ret == 0
            gone = self.sharing(direct, span & set(self.in_slots))
            assert not invariants.frames(self.guest.direct).keys() & gone
            assert not self.guest.watch.owed
            self.private |= span
            return self.agree(mirror_was=mirror)
        parts = self.parts(span)
        if refused and split != "none":
            self._refused_conversion(ret, parts, split == "v3 as posted")
        else:
            assert ret == 0
            self.only_the_edges_were_split(mirror, split, parts)
            self.lose(self.sharing(mirror, set().union(*parts)) if split == "none" else span)
            assert not invariants.frames(self.guest.mirror).keys() & span
        assert not self.guest.watch.owed
        if ret == 0:
            self.private -= span
        return self.agree(direct_was=direct)

    def _refused_conversion(self, ret: int, parts: list[set[int]], as_posted: bool) -> None:
        """One slot's split got no memory: that slot was not zapped; those before were; those after only as
        posted, where the errno was lost.
        """
        now = self.guest.present()
        ways = []
        for failed, part in enumerate(parts):
            others = parts[:failed] + (parts[failed + 1 :] if as_posted else [])
            if self.accepted - set().union(*others) == now:
                ways.append(part)
        assert ret == (0 if as_posted else -ENOMEM)
        assert ways, "a slot is zapped to its edges or not at all"
        if as_posted:
            self.guest.stale |= set().union(*ways)
            self.guest.watch.needless = 0  # 1 is taken for "flush", whatever was zapped
        return self.lose(self.accepted - now)

    def some_pages(self, random: Random) -> tuple[int, int]:
        """Pages of the file: the first, and how many."""
        first = random.randrange(self.gmem.npages)
        return first, 1 + random.randrange(min(self.gmem.npages - first, random.choice((6, 40))))

    def parts(self, frames: set[int]) -> list[set[int]]:
        """`frames` slot by slot."""
        parts = [frames & set(range(s.base_gfn, s.base_gfn + s.npages)) for s in self.guest.slots]
        return [part for part in parts if part]

    @rule(seed=SEEDS)
    def convert_by_file(self, seed: int) -> None:
        random = self.random(seed)
        split = random.choice(sorted(SPLITS))
        to_private = random.random() < 0.4
        self.warm(random)
        first, count = self.some_pages(random)
        frames = self.frames_of(set(range(first, first + count)))
        mirror, direct = self.guest.mirror, self.guest.direct
        noop = frames <= self.private if to_private else not frames & self.private
        self.grip(random)
        self.disturb(random, range(min(frames, default=0), max(frames, default=8)), not to_private)
        call = kvm_gmem_set_attributes(
            self.gmem,
            first << PAGE_SHIFT,
            count << PAGE_SHIFT,
            PRIVATE if to_private else 0,
            split=SPLITS[split],
        )
        ret, refused = self.run(call)
        if noop:
            assert ret == 0
            assert not self.guest.watch.said, "nothing is to be done"
            return self.agree(mirror, direct)
        if self.met and self.met[0] in frames:
            assert self.met[2] not in (FIXED, SPURIOUS), "the range is being invalidated"
        assert not self.guest.watch.owed
        if ret:
            assert refused
            assert not to_private
            assert ret == (1 if split == "v3 as posted" else -ENOMEM)
            return self.agree(direct_was=direct)
        if to_private:
            assert not invariants.frames(self.guest.direct).keys() & self.sharing(direct, frames)
            self.private |= frames
            return self.agree(mirror_was=mirror)
        self.only_the_edges_were_split(mirror, split, self.parts(frames))
        self.lose(self.sharing(mirror, frames) if split == "none" else frames)
        self.private -= frames
        assert not invariants.frames(self.guest.mirror).keys() & frames
        return self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def punch_hole(self, seed: int) -> None:
        random = self.random(seed)
        split = random.choice(sorted(SPLITS))
        whole = random.random() < 0.5
        self.warm(random)
        first, count = self.some_pages(random)
        if whole and random.random() < 0.7:
            size = invariants.pages(self.kvm.mirror_root, self.gmem.folio_level)
            first, count = first // size * size, size
        pages = set(range(first, first + count))
        fits = self.folio(first) | self.folio(first + count - 1) <= pages
        mirror, direct = self.guest.mirror, self.guest.direct
        self.grip(random)
        frames = self.frames_of(pages)
        self.disturb(random, range(min(frames, default=0), max(frames, default=8)), True)
        call = kvm_gmem_fallocate(
            self.gmem, 3, first << PAGE_SHIFT, count << PAGE_SHIFT, whole_folios=whole, split=SPLITS[split]
        )
        ret, refused = self.run(call)
        if whole and not fits:
            assert ret == -EINVAL
            return self.agree(mirror, direct)
        frames = self.frames_of(pages)
        if self.met and self.met[0] in frames:
            assert self.met[2] not in (FIXED, SPURIOUS), "the range is being invalidated"
        if ret:
            assert refused
            assert ret == (1 if split == "v3 as posted" else -ENOMEM)
        else:
            self.only_the_edges_were_split(mirror, split, self.parts(frames))
            self.lose(self.sharing(mirror, frames) if split == "none" else frames)
            self.poisoned -= pages
            size = invariants.pages(self.kvm.mirror_root, self.gmem.folio_level)
            blocks = [set(range(at, at + size)) for at in range(0, self.gmem.npages, size)]
            self.split_pages -= set().union(*(block for block in blocks if block <= pages))
            mapped = invariants.frames(self.guest.mirror).keys() & frames
            # A fault beside a hole that cuts a folio may map the whole folio once the zap has passed.
            assert not mapped or (not fits and self.met and self.met[2] == FIXED)
        assert not self.guest.watch.owed
        return self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def memory_failure(self, seed: int) -> None:
        random = self.random(seed)
        split = random.choice(sorted(SPLITS))
        self.warm(random)
        page = random.randrange(self.gmem.npages)
        if random.random() < 0.3:
            self.split_folio(random.getrandbits(32), page)
        self.disturb(random, range(8), True)
        mirror, direct = self.guest.mirror, self.guest.direct
        ret, refused = self.run(kvm_gmem_error_folio(self.gmem, page, split=SPLITS[split]))
        assert ret == MF_DELAYED
        frames = self.frames_of(self.folio(page))
        crossing = self.sharing(mirror, frames)
        if refused and split != "none":
            now = self.guest.present()
            assert self.accepted - crossing <= now <= self.accepted - frames
            self.lose(self.accepted - now)
        else:
            self.lose(crossing if split == "none" else frames)
        self.poisoned.add(page)
        assert not invariants.frames(self.guest.mirror).keys() & frames
        self.agree(direct_was=direct)

    @rule(seed=SEEDS)
    def split_folio(self, seed: int, page: int | None = None) -> None:
        """The host splits a folio; what is mapped stays."""
        if page is None:
            page = self.random(seed).randrange(self.gmem.npages)
        self.guest.watch.begin()
        self.split_pages |= self.folio(page)
        self.gmem.split_folio(page)
        self.guest.oversized |= {at for at in self.guest.mirror.leaves if at[1] > 1}
        self.done()

    @rule(seed=SEEDS)
    def log_dirty(self, seed: int) -> None:
        """Dirty logging is switched on: the shared half is split, and in the mirror, whose turn is after it,
        the TDX side refuses the first huge leaf (read lock): it is frozen and put back.
        """
        random = self.random(seed)
        self.warm(random)
        slot = random.choice(self.guest.slots)
        mirror, direct = self.guest.mirror, self.guest.direct
        self.disturb(random, range(slot.base_gfn, slot.base_gfn + slot.npages), False)
        _, refused = self.run(mmu.kvm_mmu_slot_try_split_huge_pages(self.kvm, slot))
        end = slot.base_gfn + slot.npages
        if not refused and not self.met:
            huge = [at for at in self.guest.direct.leaves if at[1] > 1 and slot.base_gfn <= at[0] < end]
            assert not huge
            assert invariants.frames(direct) == invariants.frames(self.guest.direct)
        assert_untouched(mirror, self.guest.mirror)
        self.agree()

    @rule(seed=SEEDS)
    def clear_dirty_log(self, seed: int) -> None:
        """Under the write lock the dirty-log split reaches the mirror too; no byte is lost by it."""
        random = self.random(seed)
        self.warm(random)
        start, end = self.span(random)
        mirror, direct = self.guest.mirror, self.guest.direct
        self.disturb(random, range(start, end), random.random() < 0.5)
        slot = self.guest.slots[0]
        _, refused = self.run(mmu.kvm_mmu_try_split_huge_pages(self.kvm, slot, start, end), held="write")
        if not refused and not self.met:
            for was, now in ((mirror, self.guest.mirror), (direct, self.guest.direct)):
                size = invariants.pages(was.root, 2)
                huge = {at for at in was.leaves if at[1] > 1 and at[0] < end and at[0] + size > start}
                assert was.leaves.keys() - now.leaves.keys() == huge
                assert invariants.frames(was) == invariants.frames(now)
        self.agree()

    @rule(seed=SEEDS)
    def unmap(self, seed: int) -> None:
        random = self.random(seed)
        attr_filter = random.randrange(4)
        self.warm(random)
        start, end = self.span(random)
        self.guest.watch.hurry = random.choice((0, 1, 2))
        mirror, direct = self.guest.mirror, self.guest.direct
        with self.kvm.slots_lock:
            flush, _ = self.run(
                mmu.kvm_unmap_gfn_range(self.kvm, self.gfn_range(start, end, attr_filter)), held="write"
            )
        span = set(range(start, end))
        hit = False
        for was, bit, now in ((direct, 1, self.guest.direct), (mirror, 2, self.guest.mirror)):
            gone = self.sharing(was, span) if attr_filter & bit else set()
            left = {gfn: pfn for gfn, pfn in invariants.frames(was).items() if gfn not in gone}
            assert invariants.frames(now) == left
            assert now.rows == was.rows
            hit = hit or len(left) < len(invariants.frames(was))
        assert flush == self.guest.watch.owed, "what was zapped before the lock was let go was flushed then"
        assert hit == bool(flush or self.guest.flushes())
        self.lose(self.sharing(mirror, span) if attr_filter & 2 else set())
        self.agree(None if attr_filter & 2 else mirror, None if attr_filter & 1 else direct)

    @rule(seed=SEEDS)
    def split(self, seed: int) -> None:
        """Every way to split a range without a zap; none changes what the guest reads."""
        random = self.random(seed)
        attr_filter = random.randrange(4)
        how = random.choice((0, 0, 0, 1, 1, 2, 3, 4))
        self.warm(random)
        start, end = self.span(random)
        mirror, direct = self.guest.mirror, self.guest.direct
        gfn_range = self.gfn_range(start, end, attr_filter)
        self.disturb(random, range(start, end), random.random() < 0.5)
        kvm = self.kvm
        calls: list[tuple[Callable, int]] = [  # with the halves it may reach: 1 shared, 2 private
            (lambda: mmu.kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=False), attr_filter),
            (
                lambda: splits.kvm_tdp_mmu_split_huge_pages_cross_boundary(kvm, gfn_range, 1, shared=False),
                attr_filter,
            ),
            (
                lambda: splits.kvm_tdp_mmu_split_huge_pages_log_dirty(
                    kvm, gfn_range.slot, start, end, 1, shared=False
                ),
                0,
            ),
            (lambda: splits.kvm_tdp_mmu_mirrors_split_huge_pages(kvm, start, end, 1), 2),
            (lambda: splits.kvm_tdp_mmu_split_huge_pages(kvm, start, end, 1, shared=False), 1),
        ]
        call, reached = calls[how]
        with kvm.srcu:
            ret, refused = self.run(call(), held="write")
        assert ret == (-EINVAL if how == 2 else 0) or (refused and ret == -ENOMEM)
        if ret == 0 and how < 2 and not self.met:
            for was, now, bit in ((direct, self.guest.direct, 1), (mirror, self.guest.mirror, 2)):
                if reached & bit:
                    assert_only_edges_were_split(was, now, (start, end))
        meddled = {self.met[1]} if self.met else set()
        self.agree(
            None if reached & 2 or True in meddled else mirror,
            None if reached & 1 or False in meddled else direct,
        )

    @rule(seed=SEEDS)
    def fast_zap_all(self, seed: int) -> None:
        self.warm(self.random(seed))
        mirror = self.guest.mirror
        self.zap_all()
        self.agree(mirror_was=mirror)

    def teardown(self) -> None:
        """Everything comes back."""
        guest = self.guest
        for vcpu in sorted(self.module.entered):
            self.module.vp_exit(vcpu)
        guest.run(self.tdx.destroy())
        assert self.kvm.tdp_mmu_roots == []
        cached = self.kvm.page_caches
        assert self.kvm.pool.rows_in_use == len(cached[False]) + len(cached[True])
        assert sorted(self.tdx.external_spt) == sorted(cached[True])
        assert (self.module.owned, self.module.pamt_pairs, self.tdx.pamt_refcount) == ({}, set(), {})
        assert guest.ledger.mapped == {}
        assert self.module.sept.pool.rows_in_use == 1


class Plain(Machine):
    """A plain VM of one direct root, with leaves of two sizes above 4K."""

    geometry = Geometry(2, 3, 3)
    slots = ((0, 56, 0),)
    options: ClassVar[dict] = {"plain": True, "host_level": 3}

    def __init__(self) -> None:
        super().__init__()
        self.bytes = {gfn: 0xA0 + gfn & 0xFF for gfn in self.in_slots}
        self.mapped: set[int] = set()

    def agree(self) -> None:
        seen = self.guest.check()
        assert invariants.frames(seen.trees[0]).keys() == self.mapped
        for gfn, byte in self.bytes.items():
            assert self.guest.memory[self.guest.shared(gfn)] == byte
        self.done()

    def faulted(self) -> None:
        """What the meddler mapped."""
        if self.met and self.met[2] == FIXED:
            self.mapped = set(invariants.frames(self.guest.direct))
            assert self.met[0] in self.mapped

    @rule(seed=SEEDS)
    def touch(self, seed: int) -> None:
        random = self.random(seed)
        gfn, was, level = self.gfn(random), self.guest.direct, random.randint(1, 3)
        self.disturb(random, range(gfn, gfn + 1), False)
        ret, refused = self.run(kvm_tdp_mmu_page_fault(self.kvm, gfn, is_private=False, max_level=level))
        if refused and ret == -ENOMEM:
            assert_untouched(was, self.guest.direct)
            return self.agree()
        holds = [at for at in was.leaves if at[0] <= gfn < at[0] + invariants.pages(was.root, at[1])]
        if not holds:
            assert ret == FIXED
            size = invariants.pages(was.root, level)
            mapped = set(invariants.frames(self.guest.direct)) - self.mapped
            assert gfn in mapped <= set(range(gfn // size * size, gfn // size * size + size))
            self.mapped |= mapped
        else:
            assert ret == (FIXED if holds[0][1] > 3 else SPURIOUS) or holds[0][1] > level
        pfn = invariants.frames(self.guest.direct)[gfn]
        assert self.guest.memory[pfn] == self.bytes[gfn]
        if random.random() < 0.5:
            self.guest.memory[pfn] = self.bytes[gfn] = random.randrange(256)
        return self.agree()

    def warm(self, random: Random) -> None:
        """Before what takes away, something that is mapped."""
        for _ in range(random.randrange(4)):
            self.touch(random.getrandbits(32))

    @rule(seed=SEEDS)
    def touch_as_private(self, seed: int) -> None:
        ret, _ = self.run(kvm_tdp_mmu_page_fault(self.kvm, self.gfn(self.random(seed)), is_private=True))
        assert ret == -EFAULT
        self.agree()

    @rule(seed=SEEDS)
    def unmap(self, seed: int) -> None:
        """Whatever the filter: a plain VM has one answer."""
        random = self.random(seed)
        attr_filter = random.randrange(4)
        self.warm(random)
        start, end = self.span(random)
        self.guest.watch.hurry = random.choice((0, 1, 2))
        was = self.guest.direct
        with self.kvm.slots_lock:
            gfn_range = self.gfn_range(start, end, attr_filter)
            flush, _ = self.run(mmu.kvm_unmap_gfn_range(self.kvm, gfn_range), held="write")
        gone = self.sharing(was, set(range(start, end)))
        assert flush == self.guest.watch.owed
        assert bool(gone & self.mapped) == bool(flush or self.guest.flushes())
        self.mapped -= gone
        self.agree()

    @rule(seed=SEEDS)
    def split(self, seed: int) -> None:
        random = self.random(seed)
        attr_filter = random.randrange(4)
        how = random.choice((0, 0, 1, 2, 3, 4, 5))
        self.warm(random)
        start, end = self.span(random)
        was, kvm = self.guest.direct, self.kvm
        gfn_range = self.gfn_range(start, end, attr_filter)
        shared, target = random.random() < 0.5, random.randint(1, 2)
        calls: list[Callable] = [
            lambda: mmu.kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=shared),
            lambda: mmu.kvm_split_cross_boundary_leafs(kvm, gfn_range, shared=shared, as_posted=True),
            lambda: splits.kvm_tdp_mmu_split_huge_pages_cross_boundary(kvm, gfn_range, 1, shared=shared),
            lambda: splits.kvm_tdp_mmu_split_huge_pages_log_dirty(
                kvm, gfn_range.slot, start, end, 1, shared=shared
            ),
            lambda: splits.kvm_tdp_mmu_split_huge_pages(kvm, start, end, target, shared=shared),
            lambda: splits.kvm_tdp_mmu_mirrors_split_huge_pages(kvm, start, end, 1),
        ]
        self.disturb(random, range(start, end), False)
        with kvm.srcu:
            ret, refused = self.run(calls[how](), held="read" if shared and how != 5 else "write")
        assert ret == 0 or (refused and ret == (1 if how == 1 else -ENOMEM))
        now = self.guest.direct
        if ret == 0 and how < 3 and not self.met:
            assert_only_edges_were_split(was, now, (start, end))
        if how == 5:
            assert_untouched(was, now)
        if ret == 0 and how in (3, 4):
            target = 1 if how == 3 else target
            inside = {
                at for at in now.leaves if start < at[0] + invariants.pages(now.root, at[1]) and at[0] < end
            }
            assert self.met or all(level <= target for _, level in inside)
        self.faulted()
        self.agree()

    @rule(seed=SEEDS)
    def log_dirty(self, seed: int) -> None:
        random = self.random(seed)
        self.warm(random)
        self.disturb(random, range(8), False)
        _, refused = self.run(mmu.kvm_mmu_slot_try_split_huge_pages(self.kvm, self.guest.slots[0]))
        assert refused or self.met or all(level == 1 for _, level in self.guest.direct.leaves)
        self.faulted()
        self.agree()

    @rule(seed=SEEDS)
    def fast_zap_all(self, seed: int) -> None:
        self.warm(self.random(seed))
        self.zap_all()
        self.mapped = set()
        self.agree()

    @rule(seed=SEEDS)
    def convert(self, seed: int) -> None:
        random = self.random(seed)
        attributes = random.choice((0, PRIVATE))
        self.warm(random)
        was = self.guest.direct
        ret, _ = self.run(kvm_vm_set_mem_attributes(self.kvm, *self.span(random), attributes))
        assert ret == (-EINVAL if attributes else 0)
        assert_untouched(was, self.guest.direct)
        self.agree()


class Binary(Td):
    """The smallest tree: two entries to a table, four levels, eight private frames."""

    geometry = Geometry(1, 4, 2)
    slots = ((0, 8, 0),)


class Wide(Td):
    """Three bits, two levels; two vCPUs."""

    geometry = Geometry(3, 2, 2)
    slots = ((0, 32, 0),)
    vcpus = 2


class DynamicPamt(Td):
    options: ClassVar[dict] = {"dynamic_pamt": True}
    vcpus = 2


class DynamicPamtR2(DynamicPamt):
    """PAMT pages for a split come in the drop of its table, from the running vCPU's cache if one runs it."""

    options: ClassVar[dict] = {"dynamic_pamt": True, "pamt": "R2"}


class SmallFolios(Td):
    options: ClassVar[dict] = {"folio_level": 1}
    vcpus = 2


class TwoSlots(Td):
    """Two bindings of one file: the first one out of step with its host frames, the second not a whole
    number of blocks; frames between them that nothing backs.
    """

    slots = ((1, 11, 16), (16, 14, 0))
    vcpus = 2


class Spanning(Td):
    """The counter-case: mappings of 2M over folios of 4K."""

    options: ClassVar[dict] = {"folio_level": 1, "spans_folios": True}


class Crowd(Td):
    """Three vCPUs."""

    geometry = Geometry(2, 2, 2)
    slots = ((0, 8, 0),)
    vcpus = 3


VARIANTS = {
    Td: (200, 2000),
    Binary: (240, 2500),
    Wide: (150, 1400),
    DynamicPamt: (215, 2200),
    DynamicPamtR2: (215, 2200),
    SmallFolios: (170, 1600),
    TwoSlots: (215, 2000),
    Spanning: (170, 1600),
    Crowd: (200, 2000),
    Plain: (300, 4700),
}
"""Runs, and the steps that these come to at least: a rule may begin with a step of another."""


def test_the_test_command_takes_20_000_steps():
    assert sum(promised for _, promised in VARIANTS.values()) >= 20_000


@pytest.mark.parametrize("machine", VARIANTS, ids=lambda machine: machine.__name__)
def test_whatever_is_done_the_invariants_hold_and_the_guest_reads_what_the_reference_says(machine):
    machine.steps = 0
    runs, promised = VARIANTS[machine]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs * SOAK,
            stateful_step_count=STEPS,
            derandomize=SOAK == 1,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert machine.steps >= promised * SOAK
