"""Every failure of a call, against what the facts say of it and against the oracles of `tests/oracles`.

Leaves, requests and returned values are written out from S80, S103, S107, S108, S134, S173, S179, S196 and
S197. Each call runs under Lockdep and Watch, keeps a Ledger of the module, and is followed by all invariants.
"""

from functools import cache
from itertools import count, product

import pytest

from tdpkit.engine.events import Unlock
from tdpkit.engine.gfn import InvalidValueError
from tdpkit.lab.failures import KINDS, every_failure, run_failing
from tdpkit.lab.faulted_call import CASES, PAMT, FaultedCall, FaultPlan
from tests.oracles import brute, invariants
from tests.oracles.guests import Guest, Watch
from tests.oracles.invariants import Ledger, Seen
from tests.oracles.worlds import Lockdep

ENOMEM, EIO = -12, -5
PLAIN = ("split of a plain VM, read lock", "split of a plain VM, write lock")
BOTH, PER_VM, OPEN = "split of both halves of a TD", "conversion per VM", "conversion per VM, v3's error path"
BY_FILE, HOLE, ACCEPT = "conversion by file", "punch hole", "ACCEPT"
POSTED = "v3 as posted"
ALL = [
    (case, split, pamt)
    for case, pamt in product(CASES, PAMT)
    for split in CASES[case].splits
    if pamt == "off" or not (case in (*PLAIN, OPEN) or (split, pamt) == (POSTED, "R2"))
]
"""What becomes of an errno does not depend on the PAMT design, nor does the invalidation that stays open."""
DIRECT, MIRROR = False, True


def needed(case: str) -> list[tuple[bool, int, int]]:
    """The leaves to split, in the order of the walk; the direct root heads the list of roots (S45)."""
    if case in PLAIN:  # leaves of 16, 4 and 1 frames; the range is [6, 27)
        return [(DIRECT, 0, 16), (DIRECT, 4, 8), (DIRECT, 16, 32), (DIRECT, 24, 28)]
    if case == ACCEPT:  # of frame 3; leaves of eight frames, as in the others, whose range is [6, 12)
        return [(MIRROR, 0, 8)]
    private = [(MIRROR, 0, 8), (MIRROR, 8, 16)]
    return [(DIRECT, 0, 8), (DIRECT, 8, 16), *private] if case == BOTH else private


def asked(case: str, pamt: str) -> list[str]:
    """With nothing in hand: a page for each split; in a mirror its twin, and what brings PAMT pages to four,
    of which a split takes two or four. The exit of an ACCEPT then fills the vCPU's cache, and its fault wants
    a table for each of the two levels below the root.
    """
    topup = ["PAMT pages"] * (pamt != "off")
    table = ["page table", "S-EPT page"]
    requests = []
    for is_mirror, *_ in needed(case):
        requests += [*table, *topup] if is_mirror else ["page table"]
    return requests + [*topup, *table, *table] * (case == ACCEPT)


def last_of_splits(case: str, pamt: str) -> list[int]:
    """Of each needed split the number of its last request."""
    ends, at = [], 0
    for is_mirror, *_ in needed(case):
        at += (2 + (pamt != "off")) if is_mirror else 1
        ends.append(at)
    return ends


def says(case: str, split: str, pamt: str, k: int) -> int:
    """What the first call returns if request k is refused."""
    if k > last_of_splits(case, pamt)[-1] or split != POSTED:  # the exit of an ACCEPT knows its own errno
        return ENOMEM
    return {PER_VM: 0, OPEN: 0, ACCEPT: 0}.get(case, 1)  # "flush"; resume the guest, which succeeds


# ---- a call under the oracles --------------------------------------------------------------------------


class Watched(FaultedCall):
    """A faulted that the oracles look at: the lock and each step as it runs, everything else after a call."""

    def __init__(self, case: str, plan: FaultPlan, split: str, pamt: str) -> None:
        super().__init__(case, plan, split=split, pamt=pamt)
        self.name, self.posted = case, split == POSTED
        self.geometry = self.kvm.geometry
        self.stale: set[int] = set()
        self.left_open = 0
        self.watch = Watch(self, self.inner)
        self.watch.each = self.flushed
        self.inner = self.lockdep = Lockdep(CASES[case].held, self.watch)
        if self.tdx:
            self.ledger = Ledger(self.tdx.module)
            Guest.count_pamt_pages(self, self.tdx)

    def call(self):
        before, record = self.mapped(), self.on_record()
        self.watch.begin()
        tried = super().call()
        self.lockdep.returned()
        done = tried.returned == 0
        self.left_open += self.name == OPEN and tried.returned == ENOMEM  # each for ever (S196)
        assert self.kvm.mmu_invalidate_in_progress == self.left_open
        if self.name in (PER_VM, OPEN) and self.posted and tried.refused:
            self.stale = {*range(6, 12)}  # reported as done, and still mapped (S107)
        takes = done and self.name in (PER_VM, OPEN, BY_FILE, HOLE)
        gone = {(MIRROR, gfn) for gfn in range(6, 12) if takes} - {(MIRROR, gfn) for gfn in self.stale}
        assert self.mapped() == {at: pfn for at, pfn in before.items() if at not in gone}
        assert done or self.on_record() == record, "a failed call stored its result"
        seen = Seen(self)
        for holds in invariants.INVARIANTS:
            if holds is invariants.books_5_halves and self.name == BOTH:
                continue  # frames are mapped in both halves there
            if holds is invariants.books_6_host_frames and not self.tdx:
                continue  # a VM without memory behind it
            if holds is invariants.books_7_nothing_is_held and self.left_open:
                continue
            holds(seen)
        return tried

    def flushed(self, event) -> None:
        assert not (isinstance(event, Unlock) and self.watch.owed), "a zapped leaf is not flushed (S210)"

    def mapped(self) -> dict[tuple[bool, int], int]:
        return {
            (root.is_mirror, gfn): pfn
            for root in self.kvm.tdp_mmu_roots
            for gfn, pfn in invariants.frames(invariants.look(root)).items()
        }

    def on_record(self) -> tuple:
        holes = self.vm.gmem.holes if self.tdx else []
        return [gfn in self.kvm.mem_attributes for gfn in range(32)], [(h.start, h.end) for h in holes]

    def whole(self) -> tuple:
        """All there is, by numbers of no row and no S-EPT page."""
        trees = [brute.read(root) for root in self.kvm.tdp_mmu_roots]
        sept = brute.read(self.tdx.module.sept) if self.tdx else None
        invalidations = self.kvm.mmu_invalidate_in_progress
        return trees, sept, self.on_record(), self.kvm.disallow_lpage, invalidations, self.bytes()

    def bytes(self) -> list[int]:
        return [*self.vm.memory.items()] if self.tdx else []


@cache
def free(case: str, split: str, pamt: str) -> tuple:
    """All there is after a call without faults."""
    faulted = Watched(case, FaultPlan(), split, pamt)
    call = faulted.call()
    assert (call.returned, [*call.requests], split_by([call])) == (0, asked(case, pamt), needed(case))
    return faulted.whole()


def watched(case: str, split: str, pamt: str, plan: FaultPlan):
    """The calls under a plan, and whether the end is that of a call without faults."""
    faulted = Watched(case, plan, split, pamt)
    calls = [faulted.call()]
    while calls[-1].refused and calls[-1].returned != 0:
        calls.append(faulted.call())
    return calls, faulted.whole() == free(case, split, pamt)


def split_by(calls) -> list[tuple[bool, int, int]]:
    return [(of.is_mirror, of.span.start, of.span.end) for call in calls for of in call.splits]


def later(of: tuple[str, str, str], plan: FaultPlan, field: str):
    """A plan with one fault more, its calls and their end; for each number until it does not strike."""
    had = getattr(plan, field)
    for number in count(max(had, default=0) + 1):
        more = plan._replace(**{field: (*had, number)})
        calls, same = watched(*of, more)
        there = sum(len(call.requests) if field == "refuse" else call.visits for call in calls)
        if there < number:
            return
        yield more, calls, same


# ---- one fault -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "split", "pamt"), ALL)
def test_whichever_request_is_refused_earlier_splits_stay_nothing_leaks_and_a_retry_completes(
    case, split, pamt
):
    whole, tried = asked(case, pamt), 0
    for plan, calls, same in later((case, split, pamt), FaultPlan(), "refuse"):
        (k,), first, tried = plan.refuse, calls[0], tried + 1
        returned = says(case, split, pamt, k)
        assert [call.returned for call in calls] == ([returned, 0] if returned else [0])
        assert first.refused == (f"{k} {whole[k - 1]}",)
        resumed, lost = (returned == 0 and (case == ACCEPT) == is_accept for is_accept in (True, False))
        assert [*first.requests] == (whole[:k] + whole if resumed else whole[:k]), "nobody asks on"
        kept = [leaf for leaf, last in zip(needed(case), last_of_splits(case, pamt), strict=True) if last < k]
        assert split_by(calls[:1]) == (needed(case) if resumed else kept)
        assert split_by(calls) == (kept if lost else needed(case))
        stays_open = case == OPEN and returned == ENOMEM
        assert same == (not lost and not stays_open)
        for call in calls:
            assert call.left == ("an invalidation in progress",) * stays_open
        told = run_failing(case, plan, split=split, pamt=pamt)
        assert (told.calls, told.is_sound) == (tuple(calls), same)
    assert tried == len(whole)


@pytest.mark.parametrize(
    ("case", "split", "pamt"), [of for of in ALL if of[1] != POSTED and of[2] != "R2"]
)  # without an errno the wrapper's type does not matter, and R2 has no drop of its own
def test_wherever_a_reschedule_is_due_the_call_does_the_same_work(case, split, pamt):
    """A visit for each leaf to split and one for each restart with its page, at the least."""
    tried = 0
    for plan, calls, same in later((case, split, pamt), FaultPlan(), "resched"):
        done_the_same(case, pamt, plan, calls, same)
        assert [*calls[0].requests] == asked(case, pamt)
        tried += 1
    assert tried >= 2 * len(needed(case))


def done_the_same(case: str, pamt: str, plan: FaultPlan, calls, same: bool) -> None:
    """Each refusal is an errno and no more; the last call completes what the others began, once each."""
    assert [call.returned for call in calls] == [ENOMEM] * len(plan.refuse) + [0]
    assert [len(call.refused) for call in calls] == [1] * len(plan.refuse) + [0]
    assert split_by(calls) == needed(case)
    assert same
    assert not any(call.left for call in calls)


def test_a_walk_gives_way_where_its_goal_has_moved_and_nowhere_else():
    """[6, 12) under leaves of eight (S61, S65). The split: frame 0 is visited for a page (1) and with it (2),
    with the goal at 6; then frame 8 (3), the goal at 8; the walk restarts there with a page (4). The zap: the
    table at 0 (5) and frame 6 (6) with the goal at 6, then frame 7, the table at 8 and frames 8 to 11 (12).
    """
    gave_way = [
        run_failing(BY_FILE, FaultPlan((), (n,))).calls[0].drops.count("resched") for n in range(1, 14)
    ]
    assert [n for n, times in enumerate(gave_way, 1) if times] == [3, *range(7, 13)]
    assert max(gave_way) == 1


# ---- two faults ----------------------------------------------------------------------------------------

HONEST = [
    (PLAIN[0], "v3", "off"),
    (BOTH, "v3", "v3"),
    (BY_FILE, "v3", "R2"),
    (PER_VM, "head and tail", "off"),
    (ACCEPT, "mirror roots", "v3"),
]


@pytest.mark.parametrize(("case", "split", "pamt"), HONEST)
def test_a_refusal_and_a_reschedule_in_one_run_leave_nothing_either(case, split, pamt):
    of = (case, split, pamt)
    for one, _, _ in later(of, FaultPlan(), "refuse"):
        for plan, calls, same in later(of, one, "resched"):
            done_the_same(case, pamt, plan, calls, same)


@pytest.mark.parametrize(
    ("case", "split", "pamt"), [(PLAIN[1], "v3", "off"), (ACCEPT, "v3", "R2"), (BOTH, "v3", "off")]
)
@pytest.mark.parametrize("field", ["refuse", "resched"])
def test_two_faults_of_a_kind_leave_nothing_in_the_call_or_in_its_retry(case, split, pamt, field):
    of = (case, split, pamt)
    for one, _, _ in later(of, FaultPlan(), field):
        for plan, calls, same in later(of, one, field):
            done_the_same(case, pamt, plan, calls, same)


def test_a_refused_retry_keeps_what_it_split_too():
    """Requests 2 and 4 of the plain VM: one leaf each is split before; 2 counts on into the retry."""
    calls, same = watched(PLAIN[1], "v3", "off", FaultPlan((2, 4)))
    assert [call.returned for call in calls] == [ENOMEM, ENOMEM, 0]
    assert [split_by([call]) for call in calls] == [
        needed(PLAIN[1])[:1],
        needed(PLAIN[1])[1:2],
        needed(PLAIN[1])[2:],
    ]
    assert same


# ---- the table -----------------------------------------------------------------------------------------


def test_every_failure_of_a_kind_is_run_once():
    of = (PLAIN[1], "v3", "off")

    def numbers(*fields: str) -> list[FaultPlan]:
        plans = [FaultPlan()]
        for field in fields:
            plans = [plan for one in plans for plan, _, _ in later(of, one, field)]
        return plans

    for kind, fields in {
        "refusals": [("refuse",)],
        "reschedules": [("resched",)],
        "both": [("refuse", "resched")],
        "pairs": [("refuse", "refuse"), ("refuse", "resched"), ("resched", "resched")],
    }.items():
        runs = every_failure(of[0], kind, split=of[1], pamt=of[2]).runs
        assert [run.plan for run in runs] == [plan for names in fields for plan in numbers(*names)]


def test_the_table_has_a_line_for_each_outcome_and_no_column_without_news():
    assert repr(every_failure(BY_FILE, "refusals")).splitlines() == [
        "conversion by file, split v3, Dynamic PAMT off, refusals: 4 runs, each ends well",
        "refused       returns      first call split  in the end",
        "------------  -----------  ----------------  -----------------",
        "1 page table  -12, then 0  nothing           as without faults",
        "2 S-EPT page  -12, then 0  nothing           as without faults",
        "3 page table  -12, then 0  private [0, 8)    as without faults",
        "4 S-EPT page  -12, then 0  private [0, 8)    as without faults",
    ]
    assert repr(every_failure(BY_FILE, "reschedules")).splitlines()[3:] == [
        "1-2, 4-6        0         0        private [0, 8) [8, 16)  as without faults",
        "3, 7-12         1         0        private [0, 8) [8, 16)  as without faults",
    ]
    assert "  [0, 8) [8, 16), private [0, 8)  " in repr(every_failure(BOTH, "refusals"))
    # Of two reschedules: the root's entry and the leaf's are visited for a page and again with it.
    assert repr(every_failure(ACCEPT, "pairs")).splitlines()[-1].split()[:3] == ["none", "6", "pairs"]


def test_the_table_says_what_v3_as_posted_leaves():
    """S107: stored and reported, and still mapped. S196: done in the end, and faults are retried for ever."""
    lost = every_failure(PER_VM, "refusals", split=POSTED)
    assert len(lost.unsound) == len(lost.runs) == 4
    assert repr(lost).splitlines()[0].endswith("refusals: 4 runs, 4 of them end badly")
    assert (
        repr(lost).splitlines()[3] == "1 page table  0        nothing           differs: trees, S-EPT, splits"
    )
    left_open = every_failure(OPEN, "refusals")
    assert repr(left_open).splitlines()[3] == (
        "1 page table  -12, then 0  nothing           an invalidation in progress  differs: invalidation"
    )


def test_a_run_that_ends_with_an_errno_is_not_sound_though_all_is_done(monkeypatch):
    def call(td, split):
        yield from CASES[BY_FILE].call(td, split)
        return EIO

    monkeypatch.setitem(CASES, "lies", CASES[BY_FILE]._replace(call=call))
    run = run_failing("lies")
    assert (run.differs, run.calls[0].left, run.is_sound) == ((), ("its result on record",), False)
    call = run.calls[0]._replace(left=())
    assert not run._replace(calls=(call,)).is_sound
    assert run._replace(calls=(call._replace(returned=0),)).is_sound
    assert not run._replace(calls=(call._replace(returned=0, left=("a dead VM",)),)).is_sound


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        InvalidValueError, match="a kind of failure is one of refusals, reschedules, both, pairs"
    ):
        every_failure(BY_FILE, "triples")
    assert {*KINDS} == {"refusals", "reschedules", "both", "pairs"}
