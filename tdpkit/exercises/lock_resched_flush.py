"""The exercises of notebook 06: write the schedule of a lie, choose flush rules, repair the wrapper.

A submitted schedule is replayed, step by step. A chosen flush rule is attacked by every schedule of its use.
A submitted wrapper takes the place of kvm_split_cross_boundary_leafs(): where each page is refused in turn,
where it may not sleep, where nothing protects its range, and below the callers of the series.

Sources: the schedule, S106, S211; the rules, M0; the wrapper, S100, S105, S107.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from tdpkit.engine.events import ENOMEM, EOPNOTSUPP, Coroutine, Recording, Trace, record, run
from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_2M, GfnRange
from tdpkit.engine.kvm import (
    KVM_FILTER_PRIVATE,
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Kvm,
    KvmGfnRange,
    kvm_mmu_invalidate_begin,
)
from tdpkit.engine.mmu import kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs
from tdpkit.engine.tree import LeafRun, TdpMmuRoot, leaf_runs, map_leaf
from tdpkit.lab.flush_rules import RULES, USES, attack
from tdpkit.lab.layouts import DEEP_TOY
from tdpkit.lab.lost_errno import CALLERS, Caller
from tdpkit.lab.schedules import Replay, Setting, explored
from tdpkit.lab.schedules.threads import Access, Report
from tdpkit.lab.words import capital, count_of, group_digits, listed
from tdpkit.lab.worlds import CountingWorld, Faults, FaultWorld

from .checking import Wrong, about, answered, check, items, one_of, refused
from .guess import Guess, choice
from .submitted import WRITE, submitted

# ---- a guess before the first search -------------------------------------------------------------------

IN_HAND = Setting(pages="in hand")
_ANSWERS = ("never", "in some schedule")


@check(f"choose one of: {', '.join(_ANSWERS)}.")
def check_in_hand(guess: Any) -> str:
    """Whether "nothing was split" is ever false if mmu_lock, held for read, is never dropped."""
    one_of(guess, _ANSWERS, "the answer")
    _, found = explored(IN_HAND)
    lie = found.witness.get("no misreport")
    all_of = f"the search went through all {group_digits(found.interleavings or 0)} schedules"
    told = f"{all_of}; the shortest in which it is false has {len(lie.moves)} steps" if lie else all_of
    if (guess == "in some schedule") is not bool(lie):
        raise Wrong(f"you said {guess}; {told}.")
    return f"{told}."


def guess_in_hand() -> Guess:
    """Ask whether the report of a call can be false that never drops the lock."""
    return choice(
        "Two threads hold mmu_lock for read, and have their pages in hand: neither drops the lock. One of "
        'them returns and says "nothing was split, no flush needed". Was a leaf split during its call?',
        "it was",
        _ANSWERS,
        check_in_hand,
    )


# ---- the lie -------------------------------------------------------------------------------------------

LIE = Setting(lock="exclusive")
"""Two threads split the same range; mmu_lock is held for write, and dropped for a page."""
_LIAR = "A"
"""In the notebook's own schedule it is B."""


@check('a schedule as text, such as "A:lock A:read"; each step names a thread and what it does.')
def check_lie(schedule: Any) -> str:
    """Replay a schedule of LIE; right if A's call returns in it and says wrongly that nothing was split.

    schedule: its text, or a list of its words. The counterexample is the step that does not fit, or the state
    of each thread at the end.
    """
    explorer, found = explored(LIE)
    replay = Replay(explorer, _text(schedule))
    for why in replay.why:
        if why.property == "no misreport":
            liar = replay.look(why.step).thread
            if liar != _LIAR:
                raise Wrong(f"{why.text}. That is {liar}; let {_LIAR} be the liar.")
            shortest = len(found.witness[why.property].moves)
            return f"{why.text}. This one has {count_of(len(replay), 'step')}, the shortest {shortest}."
    steps = count_of(len(replay), "step") if len(replay) else "no step"
    raise Wrong(f"after {steps} no call has lied: {'; '.join(_standing(replay))}.")


def _text(schedule: Any) -> str:
    if isinstance(schedule, str):
        return schedule
    words = items(schedule, 1000) if isinstance(schedule, list | tuple) else None
    if words is None or not all(isinstance(word, str) for word in words):
        raise refused('a schedule is text, such as "A:lock A:read"', schedule)
    return " ".join(words)


def _standing(replay: Replay) -> Iterator[str]:
    """For each thread: the truth of its report, or what it would do next."""
    looks, names = replay.looks[1:], replay.explorer.names
    for number, name in enumerate(names):
        mine = [look for look in looks if look.thread == name]
        result = mine[-1].access.result if mine and mine[-1].access else None
        if isinstance(result, Report) and result.says_none:
            split = next(look for look in looks if look.thread != name and _splits(look.access))
            yield (
                f"{name} says that nothing was split, and that is true of its call, since {split.thread}'s "
                f"split was step {split.number} and {name}'s call began with step {mine[0].number}"
            )
        elif isinstance(result, Report):
            yield f"{name} says that it split a leaf, and it did"
        else:
            next_one = replay.choices(len(replay))[number]
            yield f"{name} {next_one.why_not}" if next_one.why_not else f"{name} would {next_one.token} next"


def _splits(access: Access | None) -> bool:
    return access is not None and access.changed


# ---- the flush rules -----------------------------------------------------------------------------------


def _ask_rule(use: str) -> str:
    return f"{use}: when does the caller flush? One of {', '.join(RULES)}."


@check()
def check_flush_rules(answers: Any) -> str:
    """Let every schedule attack the rule that was chosen for each use.

    answers: a dict, for each of USES a key of RULES. The counterexample is the shortest schedule that harms.
    A rule that survives is right, also where one with fewer flushes would do; the verdict says so.
    """
    notes, schedules = [], 0
    for use, said in answered(answers, USES, "a rule for each use", _ask_rule):
        with about(use):
            rule = one_of(said, RULES, "a rule")
            found = attack(use, rule)
            if found.witness:
                raise Wrong(f"“{rule}” fails. {found.witness}: {found.why}.")
        schedules += found.interleavings
        names = [*RULES]
        fewer = (other for other in names[: names.index(rule)] if not attack(use, other).witness)
        notes += [f"{use}: “{cheaper}” survives too, and flushes less" for cheaper in [*fewer][:1]]
    survived = f"no harm in any of {group_digits(schedules)} schedules"
    return f"{survived}. {capital('; '.join(notes))}." if notes else f"{survived}, and no rule flushes less."


# ---- the wrapper ---------------------------------------------------------------------------------------

_CROSSING = GfnRange(5, 27)
"""Both edges lie inside leaves, of 16 frames and of four."""


class WrapperCase(NamedTuple):
    """A VM, the lock that the caller holds, and the range."""

    kind: str
    vm_type: int
    level: int
    """Of the leaves that map it."""
    shared: bool
    span: GfnRange

    @property
    def words(self) -> str:
        """The case in a few words."""
        leaves = count_of(DEEP_TOY.pages(self.level), "frame")
        return f"{self.kind} with leaves of {leaves}, [{self.span.start}, {self.span.end})"

    def made(self) -> tuple[Kvm, TdpMmuRoot]:
        """The VM and the root of the range, with two leaves."""
        kvm = Kvm(self.vm_type, DEEP_TOY)
        root = kvm.mirror_root or kvm.direct_root
        for gfn in range(0, 32, DEEP_TOY.pages(self.level)):
            map_leaf(root, gfn, self.level, gfn)
        return kvm, root


WRAPPER_CASES = (
    WrapperCase("a plain VM", KVM_X86_DEFAULT_VM, PG_LEVEL_1G, False, GfnRange(0, 16)),
    WrapperCase("a plain VM", KVM_X86_DEFAULT_VM, PG_LEVEL_1G, False, _CROSSING),
    WrapperCase("under the read lock, a plain VM", KVM_X86_DEFAULT_VM, PG_LEVEL_1G, True, _CROSSING),
    WrapperCase("a TD", KVM_X86_TDX_VM, PG_LEVEL_2M, False, _CROSSING),
)
"""The easiest first."""
_PROTECTED = ("an invalidation is in progress", "slots_lock is held", "SRCU is held")
_HEED = tuple(name for name in CALLERS if name != "memory failure")
"""The callers that heed what the wrapper returns; a memory failure goes on whatever comes back (S194)."""


@check(f"let wrapper return {WRITE}.")
def check_wrapper(wrapper: Any) -> str:
    """Attack ``wrapper(kvm, gfn_range, shared)``, in the place of kvm_split_cross_boundary_leafs().

    It returns a coroutine of the engine, whose value is 0 or a negative errno. The first VM on which it
    returns something else, or splits something else, or forgets a rule of the patch, is the counterexample.
    """
    if not callable(wrapper):
        raise refused("wrapper is a function of kvm, gfn_range and shared", wrapper)
    refusals = 0
    for case in WRAPPER_CASES:
        with about(case.words):
            refusals += _Attack(case, wrapper).attack()
    for name in _HEED:
        with about(name):
            refusals += _below(CALLERS[name], wrapper)
    return (
        f"-12 for each page that is refused ({refusals} refusals, on each VM and below {listed(_HEED)}), "
        "else 0; -95 for a range that may not block; a warning of lockdep where nothing protects the range."
    )


class _Attack:
    """The submission on the VM of one case."""

    def __init__(self, case: WrapperCase, wrapper: Callable[..., Any]) -> None:
        self.case = case
        self.wrapper = wrapper
        kvm, root = case.made()
        self.before = leaf_runs(root)
        gfn_range = KvmGfnRange(kvm.slot, case.span.start, case.span.end)
        honest = kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs(kvm, gfn_range, shared=case.shared)
        world = CountingWorld()
        run(honest, world)
        self.pages = world.allocations
        self.after = leaf_runs(root)

    def attack(self) -> int:
        """Raise Wrong for what goes wrong; the number of pages that were refused."""
        for protection in _PROTECTED:
            said, tree = self.call(protection=protection)
            self.hold(said, 0, protection, tree, self.after)
            if _warnings(said):
                raise Wrong(f"{protection}, and lockdep warns all the same: {_warnings(said)[0]}.")
        for refused_page in range(1, self.pages + 1):
            said, tree = self.call(refused_page)
            if said.result != -ENOMEM:
                raise Wrong(
                    f"page {refused_page} is refused, and it returned {said.result} instead of {-ENOMEM} "
                    f"(-ENOMEM). {_made_of_it(self.wrapper)}"
                )
        self.hold_rules()
        return self.pages

    def hold_rules(self) -> None:
        """The rules that the patch checks before its walk."""
        said, tree = self.call(may_block=False)
        self.hold(said, -EOPNOTSUPP, "the range may not block", tree, self.before)
        said, tree = self.call(tdp_mmu_enabled=False)
        self.hold(said, 0, "the TDP MMU is off", tree, self.before)
        said, tree = self.call(protection="")
        if not _warnings(said):
            raise Wrong("nothing protects the range, and lockdep does not warn.")
        self.hold(said, 0, "nothing protects the range", tree, self.after)

    def call(
        self,
        refused_page: int = 0,
        *,
        protection: str = _PROTECTED[0],
        may_block: bool = True,
        tdp_mmu_enabled: bool = True,
    ) -> tuple[Recording, list[LeafRun]]:
        """Call the submission on a fresh VM; what it did, and the leaves afterwards."""
        kvm, root = self.case.made()
        kvm.tdp_mmu_enabled = tdp_mmu_enabled
        span, shared = self.case.span, self.case.shared
        gfn_range = KvmGfnRange(kvm.slot, span.start, span.end, may_block=may_block)
        call = submitted("wrapper", self.wrapper, kvm, gfn_range, shared, shared=shared)
        with ExitStack() as held:
            if protection == _PROTECTED[0]:
                kvm_mmu_invalidate_begin(kvm, span)
            elif protection:
                held.enter_context(kvm.slots_lock if protection == _PROTECTED[1] else kvm.srcu)
            said = record(call, FaultWorld(root, Faults(refuse_page=refused_page)))
        return said, leaf_runs(root)

    def hold(
        self, said: Recording, value: int, when: str, tree: list[LeafRun], expected: list[LeafRun]
    ) -> None:
        """Raise Wrong unless it returned `value` and left the leaves as expected."""
        if said.result != value:
            name = " (-EOPNOTSUPP)" if value else ""
            raise Wrong(f"{when}, and it returned {said.result} instead of {value}{name}.")
        if tree != expected:
            should = "nothing" if expected == self.before else "the leaves that cross an edge, and no others,"
            raise Wrong(f"{when}, and {should} should be split; it left {_leaves(tree)}.")


def _leaves(tree: list[LeafRun]) -> str:
    return listed(f"{run.count} of level {run.level} from frame {run.gfn}" for run in tree[:4])


def _warnings(said: Recording) -> list[str]:
    traces = (event for event in said.events if isinstance(event, Trace))
    return [event.name for event in traces if str(event.name).startswith("WARN")]


# ---- below the callers ---------------------------------------------------------------------------------


def _called(caller: Caller, wrapper: Callable[..., Any], refused_request: int) -> tuple[int | None, bool]:
    """What one caller's call returns on a fresh TD with this request refused, and whether it made it."""
    td = caller.prepare()
    td.refuse(refused_request)
    last = len(td.tdx.pages.requests) + refused_request

    def of_range(kvm: Kvm, gfn_range: KvmGfnRange) -> Coroutine[int]:
        return submitted("wrapper", wrapper, kvm, gfn_range, False)

    def of_page(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
        first = kvm.geometry.gfn_round_for_level(gfn, level)
        slot = kvm.slot_of(gfn) or kvm.slot
        return of_range(kvm, KvmGfnRange(slot, first, first + kvm.geometry.pages(level), KVM_FILTER_PRIVATE))

    split = of_page if caller is CALLERS["ACCEPT"] else of_range
    span = caller.page or GfnRange(6, 12)
    returned = td.run(caller.call(td, split, span, False))
    return returned, bool(refused_request) and len(td.tdx.pages.requests) >= last


def _below(caller: Caller, wrapper: Callable[..., Any]) -> int:
    """Raise Wrong unless the call returns 0, or -12 for each request that is refused; how many there were."""
    returned, _ = _called(caller, wrapper, 0)
    if returned != 0:
        raise Wrong(f"it returns {_for_ever(returned)} instead of 0.")
    for request in range(1, 100):
        returned, came = _called(caller, wrapper, request)
        if not came:
            return request - 1
        if returned != -ENOMEM:
            raise Wrong(f"request {request} is refused, and it returns {_for_ever(returned)}, not {-ENOMEM}.")
    raise Wrong("it asks for memory 100 times.")


def _for_ever(returned: int | None) -> str:
    return "nothing, for the guest faults for ever" if returned is None else str(returned)


def _made_of_it(wrapper: Callable[..., Any]) -> str:
    """Say what each caller makes of the first refusal."""
    call = partial(_called, wrapper=wrapper, refused_request=1)
    parts = [f"{name} returns {_for_ever(call(CALLERS[name])[0])}" for name in _HEED]
    return f"Callers make of it: {'; '.join(parts)}."
