"""Calls of the TDX module in any order, compared with a model that has no tree.

That is a dictionary of leaves, one of links, and the entries of vCPUs counted one by one.
"""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings

from tdpkit.engine.gfn import Geometry, InvalidValueError
from tdpkit.engine.tree import tables_per_level
from tdpkit.tdx.abi import Access, EptViolation, status_name
from tdpkit.tdx.module import TdxModule
from tests.oracles import brute
from tests.oracles.tds import (
    ACCEPTED,
    ALREADY,
    BLOCKED,
    BUSY,
    EXIT,
    FREE,
    INVALID,
    IS_FREE,
    METADATA,
    NO_WALK,
    NOT_BLOCKED,
    NOT_FREE,
    OK,
    PENDING,
    PENDING_BLOCKED,
    PRESENT,
    STATE,
    UNTRACKED,
    Visits,
    entries,
    state_of,
)


class Reference:
    """What the calls should do, without a tree: leaves and links in dictionaries, visits one by one."""

    def __init__(self, geometry: Geometry, dynamic_pamt: bool) -> None:
        self.geometry = geometry
        self.dynamic_pamt = dynamic_pamt
        self.max_level = min(2, geometry.max_leaf_level)
        self.leaves: dict[tuple[int, int], tuple[int, int]] = {}
        self.links: dict[tuple[int, int], int] = {}
        self.waits: dict[tuple[int, int], set[int] | None] = {}
        """Blocked leaf -> the visits that its next TRACK found inside (None: no TRACK yet)."""
        self.visits = Visits()
        self.tracks = 0
        self.flushed: dict[int, int] = {}
        """vCPU -> how many TRACKs there had been when it last entered: it flushes if there was one since."""
        self.lock: int | None = None
        self.pairs: set[int] = set()

    def size(self, level: int) -> int:
        return brute.pages(self.geometry, level)

    def trouble(self, gfn: int, level: int, low: int = 1, high: int = 9) -> str | None:
        if not low <= level <= high:
            return INVALID
        if self.lock is not None:
            return BUSY
        above = (gfn - gfn % self.size(level + 1), level + 1)
        return None if level == self.geometry.root_level or above in self.links else NO_WALK

    def taken(self, pfn: int, level: int) -> str | None:
        used = set(self.links.values())
        for (_, of), (first, _) in self.leaves.items():
            used.update(range(first, first + self.size(of)))
        bare = self.dynamic_pamt and level == 1 and pfn // self.size(2) not in self.pairs
        return METADATA if bare or used & set(range(pfn, pfn + self.size(level))) else None

    def not_free(self, at: tuple[int, int]) -> str | None:
        return NOT_FREE if at in self.leaves or at in self.links else None

    def not_yet(self, at: tuple[int, int]) -> str | None:
        if at in self.links:
            return STATE
        if at not in self.leaves:
            return IS_FREE
        if self.leaves[at][1] not in (BLOCKED, PENDING_BLOCKED):
            return NOT_BLOCKED
        waits = self.waits[at]
        inside = set(self.visits.inside.values())
        return UNTRACKED if waits is None or waits & inside else None

    def add(self, gfn: int, level: int, page: int) -> str:
        at = (gfn, level)
        if trouble := self.trouble(*at, low=2) or self.not_free(at) or self.taken(page, 1):
            return trouble
        self.links[at] = page
        return OK

    def aug(self, gfn: int, level: int, pfn: int) -> str:
        at = (gfn, level)
        if trouble := self.trouble(*at, high=self.max_level) or self.not_free(at) or self.taken(pfn, level):
            return trouble
        self.leaves[at] = (pfn, PENDING)
        return OK

    def block(self, gfn: int, level: int) -> str:
        at = (gfn, level)
        if trouble := self.trouble(*at):
            return trouble
        if at in self.links:
            return "raises"
        if at not in self.leaves:
            return IS_FREE
        pfn, state = self.leaves[at]
        if state not in (PENDING, PRESENT):
            return ALREADY
        self.leaves[at] = (pfn, BLOCKED if state == PRESENT else PENDING_BLOCKED)
        self.waits[at] = None
        return OK

    def track(self) -> str:
        if not self.visits.may_track:
            return "PREVIOUS_TLB_EPOCH_BUSY"
        self.tracks += 1
        inside = self.visits.track()
        self.waits.update({at: set(inside) for at, waits in self.waits.items() if waits is None})
        return OK

    def remove(self, gfn: int, level: int) -> str:
        at = (gfn, level)
        if trouble := self.trouble(*at) or self.not_yet(at):
            return trouble
        del self.leaves[at], self.waits[at]
        return OK

    def demote(self, gfn: int, level: int, page: int, brought: int) -> str:
        at = (gfn, level)
        if trouble := self.trouble(*at, low=2) or self.not_yet(at) or self.taken(page, 1):
            return trouble
        pfn, state = self.leaves[at]
        if self.dynamic_pamt and level == 2:
            if brought < 2:
                return INVALID
            if pfn // self.size(2) in self.pairs:
                return METADATA
            self.pairs.add(pfn // self.size(2))
        del self.leaves[at], self.waits[at]
        self.links[at] = page
        for ahead in range(0, self.size(level), self.size(level - 1)):
            unblocked = PRESENT if state == BLOCKED else PENDING
            self.leaves[gfn + ahead, level - 1] = (pfn + ahead, unblocked)
        return OK

    def leaf_of(self, gfn: int) -> tuple[int, int] | None:
        return next((at for at in self.leaves if at[0] <= gfn < at[0] + self.size(at[1])), None)

    def accept(self, gfn: int, level: int) -> str:
        if level > min(2, self.geometry.root_level):
            return INVALID
        if (gfn, level) in self.links:
            return "PAGE_SIZE_MISMATCH"
        if not (at := self.leaf_of(gfn)):
            return EXIT
        pfn, state = self.leaves[at]
        if state == PRESENT:
            return ACCEPTED
        if state != PENDING or at[1] != level:
            return EXIT
        self.leaves[at] = (pfn, PRESENT)
        return OK


class Pair:
    """A module and its reference, told the same."""

    def __init__(self, geometry: Geometry, random: Random) -> None:
        self.random = random
        self.geometry = geometry
        dynamic_pamt = random.random() < 0.4
        self.module = TdxModule(geometry, dynamic_pamt=dynamic_pamt, capacity=1, shuffle=random.randrange(99))
        self.reference = Reference(geometry, dynamic_pamt)
        self.statuses: Counter[str] = Counter()

        for _ in range(geometry.root_level):  # most calls need tables
            self.pamt()
            self.add()

    def step(self) -> None:
        calls = (
            "add aug aug aug block block track remove demote accept accept access access move kick pamt lock"
        )
        what = self.random.choice(calls.split())
        before = state_of(self.module)
        got, expected = getattr(self, what)()
        assert got == expected, (what, self.module.log[-1:])
        self.statuses[f"{what} {got}"] += 1
        if got not in (OK, "ok"):
            assert state_of(self.module) == before
        self.check()

    def entry(self, *states: int) -> tuple[int, int]:
        """An entry of the private half; mostly a leaf in one of `states`, or a FREE one if none is named."""
        reference, top = self.reference, self.geometry.root_level
        known = [at for at, (_, state) in reference.leaves.items() if state in states]
        if not states:
            gfn, level = self.random.choice([*reference.links, (0, top + 1)])
            below = reference.size(level - 1)
            known = [(gfn + i * below, level - 1) for i in range(self.geometry.entries)]
            known = [at for at in known if at[0] < self.module.gfn_direct_bits and not reference.not_free(at)]
        if known and self.random.random() < 0.7:
            return self.random.choice(known)
        level = self.random.choice(range(1, self.geometry.root_level + 1))
        gfn = self.random.randrange(self.module.gfn_direct_bits)
        return gfn - gfn % reference.size(level), level

    def host(self, level: int) -> int:
        return self.random.randrange(6 if level < 3 else 2) * self.reference.size(level)

    def page(self) -> int:
        """A frame for a table, as a rule out of the way of data, and with a pair if that matters."""
        size = self.reference.size(2)
        region = self.random.choice([*self.reference.pairs, *range(12)])
        return region * size + self.random.randrange(size)

    def named(self, status: int) -> str:
        return status_name(status).removeprefix("TDX_")

    def add(self) -> tuple[str, str]:
        args = (*self.entry(), self.page())
        return self.named(self.module.mem_sept_add(*args)), self.reference.add(*args)

    def aug(self) -> tuple[str, str]:
        gfn, level = self.entry()
        pfn = self.host(level)
        return self.named(self.module.mem_page_aug(gfn, level, pfn)), self.reference.aug(gfn, level, pfn)

    def block(self) -> tuple[str, str]:
        at = self.entry(PRESENT, PENDING)
        try:
            return self.named(self.module.mem_range_block(*at)), self.reference.block(*at)
        except InvalidValueError:
            return "raises", self.reference.block(*at)

    def track(self) -> tuple[str, str]:
        return self.named(self.module.mem_track()), self.reference.track()

    def remove(self) -> tuple[str, str]:
        at = self.entry(BLOCKED, PENDING_BLOCKED)
        return self.named(self.module.mem_page_remove(*at)), self.reference.remove(*at)

    def demote(self) -> tuple[str, str]:
        at = self.entry(BLOCKED, PENDING_BLOCKED)
        args = (*at, self.page(), self.random.choice((0, 1, 2, 2, 2)))
        return self.named(self.module.mem_page_demote(*args)), self.reference.demote(*args)

    def accept(self) -> tuple[str, str]:
        at = self.entry(PENDING, PRESENT)
        if at[1] == 2 and self.random.random() < 0.2:
            at = (at[0], 1)
        got, expected = self.module.accept(*at), self.reference.accept(*at)
        if got.status is None:
            assert got.exit == EptViolation(at[0], "accept", at[1])
            return EXIT, expected
        return self.named(got.status), expected

    def access(self) -> tuple[str, str]:
        """An access of a page that nobody has accepted never succeeds (S239, item 9)."""
        inside = sorted(self.module.vcpus_inside)
        if not inside:
            return OK, OK
        gfn = self.entry(PRESENT, PENDING, BLOCKED)[0]
        got = self.module.access(self.random.choice(inside), gfn)
        at = self.reference.leaf_of(gfn)
        pfn, state = self.reference.leaves[at] if at else (None, FREE)
        if state == BLOCKED:  # either way: it depends on what the TLB holds
            assert got in (Access("ok", pfn + gfn - at[0]), Access("violation", None, got.exit))
            return got.outcome, got.outcome
        if got.pfn is not None:
            assert got.pfn == pfn + gfn - at[0]
        return got.outcome, {PRESENT: "ok", PENDING: "#VE"}.get(state, "violation")

    def move(self, vcpu: int | None = None) -> tuple[str, str]:
        vcpu = self.random.randrange(3) if vcpu is None else vcpu
        if vcpu in self.reference.visits.inside:
            self.reference.visits.leave(vcpu)
            if self.reference.lock == vcpu:
                self.reference.lock = None
            self.module.vp_exit(vcpu)
        else:
            self.reference.visits.enter(vcpu)
            held = set(self.module.tlb.get(vcpu, ()))
            assert self.module.vp_enter(vcpu) == 0
            same_epoch = self.reference.flushed.get(vcpu) == self.reference.tracks
            self.reference.flushed[vcpu] = self.reference.tracks
            assert self.module.tlb[vcpu] == (held if same_epoch else set())
        return OK, OK

    def kick(self) -> tuple[str, str]:
        for vcpu in list(self.reference.visits.inside):
            self.move(vcpu)
        return OK, OK

    def lock(self) -> tuple[str, str]:
        inside = sorted(self.reference.visits.inside)
        if inside and self.reference.lock is None and self.random.random() < 0.3:
            self.reference.lock = self.random.choice(inside)
            self.module.hold_sept_lock(self.reference.lock)
        return OK, OK

    def pamt(self) -> tuple[str, str]:
        pfn = self.page()
        region = pfn // self.reference.size(2)
        if not self.reference.dynamic_pamt:
            return self.named(self.module.phymem_pamt_add(pfn)), INVALID
        has = region in self.reference.pairs
        if self.random.random() < 0.6:
            self.reference.pairs.add(region)
            got = self.module.phymem_pamt_add(pfn)
            return self.named(got), METADATA if has else OK
        small = [pfn for (_, level), (pfn, _) in self.reference.leaves.items() if level == 1]
        small += self.reference.links.values()
        wrong = not has or any(page // self.reference.size(2) == region for page in small)
        if not wrong:
            self.reference.pairs.remove(region)
        return self.named(self.module.phymem_pamt_remove(pfn)), METADATA if wrong else OK

    def check(self) -> None:
        module, reference = self.module, self.reference
        assert entries(module) == reference.leaves
        tables = [1] + [0] * (self.geometry.root_level - 1)
        for _, level in reference.links:
            tables[self.geometry.root_level - level + 1] += 1
        assert tables_per_level(module.sept) == tuple(reversed(tables))
        assert sorted(module.sept_page.values()) == sorted(reference.links.values())
        assert module.sept.pool.rows_in_use == 1 + len(reference.links)
        assert module.pamt_pages == 2 * len(reference.pairs)
        assert module.bepoch.keys() == {(reference.leaves[at][0], at[1]) for at in reference.waits}
        for vcpu in module.vcpus_inside:
            # What a running vCPU may hold is still there, at worst blocked: nothing goes before it has left.
            for gfn, level, pfn in module.tlb[vcpu]:
                assert reference.leaves[gfn, level] in ((pfn, PRESENT), (pfn, BLOCKED))


@pytest.mark.slow
@given(brute.geometries(), brute.SEEDS)
@settings(max_examples=250)
def test_any_sequence_of_calls_does_what_the_model_without_a_tree_does(geometry, random):
    pair = Pair(geometry, random)
    for _ in range(60):
        pair.step()


@pytest.mark.slow
def test_the_random_sequences_meet_every_answer_often():
    """Else the test above would prove less than it says."""
    met: Counter[str] = Counter()
    for seed in range(120):
        pair = Pair(Geometry(1, 3, 2), Random(seed))
        for _ in range(100):
            pair.step()
        met += pair.statuses
    answers = {
        "add": (OK, BUSY, NO_WALK, NOT_FREE, INVALID, METADATA),
        "aug": (OK, BUSY, NO_WALK, NOT_FREE, INVALID, METADATA),
        "block": (OK, BUSY, NO_WALK, IS_FREE, ALREADY, "raises"),
        "track": (OK, "PREVIOUS_TLB_EPOCH_BUSY"),
        "remove": (OK, BUSY, NO_WALK, IS_FREE, NOT_BLOCKED, UNTRACKED, STATE),
        "demote": (OK, BUSY, NO_WALK, IS_FREE, NOT_BLOCKED, UNTRACKED, STATE, INVALID, METADATA),
        "accept": (OK, EXIT, ACCEPTED, "PAGE_SIZE_MISMATCH", INVALID),
        "access": ("ok", "#VE", "violation"),
        "pamt": (OK, INVALID, METADATA),
    }
    wanted = {f"{call} {answer}" for call, of_call in answers.items() for answer in of_call}
    assert {answer: met[answer] for answer in wanted if met[answer] < 10} == {}
