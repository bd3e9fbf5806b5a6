"""The exercises of notebook 04: the table of root types, the hunt for a wrong root, the mend.

The table is held against zaps in a TD that has all four kinds of roots. In the hunt a guest accepts one page
and the VM dies, because KVM called the wrong split: a log and the two trees are there to be read, and a
suspect is answered by running it on the same TD. The mend is a split of the learner's own, run on one TD
after another.

The call of the hunt is that of RFC v5 41 (S140), and the TDX side of hunt and mend that of RFC v5. The hunt
has a second case, the same call on v3's TDX side, where the guest accepts for ever; no series posted the two
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import zip_longest
from typing import Any, NamedTuple

from tdpkit.engine.events import (
    ENOMEM,
    Coroutine,
    Event,
    record,
    run,
)
from tdpkit.engine.gfn import PG_LEVEL_2M, PG_LEVEL_4K, Geometry
from tdpkit.engine.kvm import (
    KVM_ALL_ROOTS,
    KVM_FILTER_PRIVATE,
    KVM_VALID_ROOTS,
    KVM_X86_TDX_VM,
    TDX_SERIES,
    Kvm,
    KvmGfnRange,
)
from tdpkit.engine.mmu import (
    KVM_LPAGE_GUEST_INHIBIT_FLAG,
    kvm_mmu_slot_try_split_huge_pages,
    kvm_mmu_try_split_huge_pages,
    kvm_split_cross_boundary_leafs,
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs,
    kvm_tdp_mmu_try_split_huge_pages,
    weak_kvm_split_cross_boundary_leafs,
)
from tdpkit.engine.roots import (
    each_tdp_mmu_root,
    kvm_mmu_reload,
    kvm_tdp_mmu_invalidate_roots,
    warn_unless_root_types,
)
from tdpkit.engine.splits import (
    AcceptSplit,
    kvm_tdp_mmu_mirrors_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages,
    kvm_tdp_mmu_split_huge_pages_cross_boundary,
    kvm_tdp_mmu_split_huge_pages_log_dirty,
)
from tdpkit.engine.tdp_mmu import tdp_mmu_zap_leafs
from tdpkit.engine.tree import LeafRun, TdpMmuRoot, leaf_runs, map_leaf
from tdpkit.lab.layouts import TD_4LEVEL, TOY
from tdpkit.lab.td import Td
from tdpkit.lab.two_roots import Question, ask, name_types
from tdpkit.lab.words import count_of, group_digits, known_name, listed
from tdpkit.tdx.abi import TDX_SUCCESS, status_name
from tdpkit.tdx.guest import td_accept
from tdpkit.tdx.kvm_tdx import KvmTdx, TdxWorld

from .checking import (
    Wrong,
    about,
    answered,
    check,
    one_of,
    ordered,
    refused,
    truth,
)
from .guess import Guess, choice
from .submitted import WRITE, submitted

# ---- the table of root types ---------------------------------------------------------------------------

ROOTS = ("valid direct", "invalid direct", "valid mirror", "invalid mirror")
"""The kinds of roots, in the order of a row of the table."""
ROOT_TYPES = range(KVM_ALL_ROOTS + 1)
"""Every number that the three bits of the root types make (S42)."""


def four_roots() -> tuple[Kvm, dict[str, TdpMmuRoot]]:
    """A TD with a root of each kind, by its name in ROOTS; each has one huge leaf at frame 0.

    The invalid ones are left by an invalidation of all roots, after which the vCPU took new ones.
    """
    kvm = Kvm(KVM_X86_TDX_VM, TOY)
    old = (kvm.direct_root, kvm.mirror_root)
    _map_at_0(kvm)
    kvm_tdp_mmu_invalidate_roots(kvm, KVM_VALID_ROOTS)
    kvm_mmu_reload(kvm)
    _map_at_0(kvm)
    roots = (kvm.direct_root, old[0], kvm.mirror_root, old[1])
    return kvm, {name: root for name, root in zip(ROOTS, roots, strict=True) if root is not None}


def _map_at_0(kvm: Kvm) -> None:
    for root in (kvm.direct_root, kvm.mirror_root):
        if root is not None:
            map_leaf(root, 0, PG_LEVEL_2M, 0)


def zap_of_types(kvm: Kvm, types: int) -> Coroutine[None]:
    """Zap frame 0 in the roots that match `types`: the loop of every caller, around one zap."""
    yield from warn_unless_root_types(types)
    with closing(each_tdp_mmu_root(kvm, 0, types)) as roots:
        for root in roots:
            yield from tdp_mmu_zap_leafs(root, 0, 1)


def zapped_by(types: int) -> tuple[dict[str, bool], bool]:
    """Which of the four roots have lost their leaf after a zap of `types`; and whether the kernel WARNs."""
    kvm, roots = four_roots()
    recording = record(zap_of_types(kvm, types))
    lost = {name: not leaf_runs(root) for name, root in roots.items()}
    return lost, any("WARN" in str(event) for event in recording.events)


def _types(types: int) -> str:
    return f"types {types} ({name_types(types)})"


def _ask_row(types: int) -> str:
    return f"{_types(types)}: which roots match? Four answers, True or False, for: {', '.join(ROOTS)}."


@check()
def check_root_types(table: Any) -> str:
    """Run a zap of each number of root types on a TD with four roots, and compare with the table.

    table: a dict, for each of ROOT_TYPES four answers in the order of ROOTS: True or False (1 or 0), does
    such a root match? The first wrong answer is the counterexample.
    """
    for types, said in answered(table, ROOT_TYPES, "four answers for each number", _ask_row):
        asked, row = _types(types), ordered(said, len(ROOTS))
        if row is None:
            raise refused(f"{asked}: four answers are wanted, in order", said)
        lost, warned = zapped_by(types)
        for answer, (name, reached) in zip(row, lost.items(), strict=True):
            yes = truth(answer)
            if yes is None:
                raise refused(f"{asked}, {name} root: True or False is wanted", answer)
            if yes != reached:
                raise Wrong(f"{asked}, {name} root: {_not_so(name, lost, warned)}.")
    return (
        "eight zaps, and each took the leaves of the roots that you named. DIRECT and MIRROR choose roots; "
        "INVALID lets in the invalid ones among them, and chooses none by itself."
    )


def _not_so(name: str, lost: Mapping[str, bool], warned: bool) -> str:
    if lost[name]:
        pages = count_of(TOY.pages(PG_LEVEL_2M), "frame")
        return f"you said that it does not match; a zap of frame 0 took its {pages}"
    others = [other for other, gone in lost.items() if gone]
    took = f"the leaves of: {', '.join(others)}" if others else "no leaf at all"
    warns = ", and the kernel WARNs" if warned else ""
    return f"you said that it matches; a zap of frame 0 took {took}{warns}"


# ---- a guess before the exhibit ------------------------------------------------------------------------

REACHED = ("the direct tree", "the mirror tree", "both trees", "no tree")


@check(f"choose one of: {', '.join(REACHED)}.")
def check_plain_zap(guess: Any) -> str:
    """Which tree a zap with the filter "private" reaches in a VM that is no TD: one of REACHED."""
    one_of(guess, REACHED, "the answer")
    outcome = ask(Question(kind="plain", filter="private", operation="zap"))
    names = [root.name for root in outcome.roots if root.reached]
    there = [root.name for root in outcome.roots]
    found = {(): "no tree", ("direct",): "the direct tree", ("mirror",): "the mirror tree"}
    lost = count_of(sum(root.zapped for root in outcome.roots), "frame")
    reached = (
        f"this VM has {count_of(len(there), 'root')}, {listed(there)}. Whatever the filter, the zap "
        f"asks for root types {outcome.types} ({outcome.type_names}), and took {lost} there."
    )
    if guess != found.get(tuple(names), "both trees"):
        raise Wrong(f"you said {guess}; {reached}")
    return reached


def guess_plain_zap() -> Guess:
    """Ask which tree a zap with the filter "private" reaches in a plain VM."""
    return choice(
        'A plain VM, and a zap whose filter is "private". Which tree does it reach?',
        "it reaches",
        REACHED,
        check_plain_zap,
    )


# ---- the suspects of the hunt --------------------------------------------------------------------------

_Split = Callable[..., Coroutine[Any]]
_Call = Callable[[Kvm, KvmGfnRange, int], Coroutine[Any]]


def _of_page(split: _Split) -> _Call:
    return lambda kvm, page, level: split(kvm, page, shared=False)


def _of_slot(split: _Split) -> _Call:
    return lambda kvm, page, level: split(kvm, page.slot, page.start, page.end, level, shared=False)


_CALLS: dict[_Split, _Call] = {
    kvm_split_cross_boundary_leafs: _of_page(kvm_split_cross_boundary_leafs),
    kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs: _of_page(
        kvm_tdp_mmu_gfn_range_split_cross_boundary_leafs
    ),
    weak_kvm_split_cross_boundary_leafs: _of_page(weak_kvm_split_cross_boundary_leafs),
    kvm_tdp_mmu_split_huge_pages_log_dirty: _of_slot(kvm_tdp_mmu_split_huge_pages_log_dirty),
    kvm_tdp_mmu_split_huge_pages_cross_boundary: (
        lambda kvm, page, level: kvm_tdp_mmu_split_huge_pages_cross_boundary(kvm, page, level, shared=False)
    ),
    kvm_tdp_mmu_try_split_huge_pages: _of_slot(kvm_tdp_mmu_try_split_huge_pages),
    kvm_mmu_slot_try_split_huge_pages: (
        lambda kvm, page, level: kvm_mmu_slot_try_split_huge_pages(kvm, page.slot)
    ),
    kvm_mmu_try_split_huge_pages: (
        lambda kvm, page, level: kvm_mmu_try_split_huge_pages(kvm, page.slot, page.start, page.end)
    ),
    kvm_tdp_mmu_mirrors_split_huge_pages: (
        lambda kvm, page, level: kvm_tdp_mmu_mirrors_split_huge_pages(kvm, page.start, page.end, level)
    ),
    kvm_tdp_mmu_split_huge_pages: (
        lambda kvm, page, level: kvm_tdp_mmu_split_huge_pages(kvm, page.start, page.end, level, shared=False)
    ),
}
"""The split functions of `mmu` and `splits`, each with the call that its authors would make."""
SUSPECTS = {split.__name__: split for split in _CALLS}
"""The split functions, by name."""


def _as_accept_split(call: _Call) -> AcceptSplit:
    """A call on the accepted page, of the private half where it takes a half; a void one counts as 0."""

    def split(kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
        page = KvmGfnRange(kvm.slot, gfn, gfn + kvm.geometry.pages(level), KVM_FILTER_PRIVATE)
        return (yield from call(kvm, page, level)) or 0

    return split


ACCEPT_SPLITS = {split.__name__: _as_accept_split(call) for split, call in _CALLS.items()}
"""Each as KVM would call it where an ACCEPT finds a larger page."""


# ---- the hunt: its log ---------------------------------------------------------------------------------

PAGE = 0x205
"""The private frame that the guest touched, and then accepts as a page of 4K."""
TRIES = 8

_DONE_BY = kvm_tdp_mmu_split_huge_pages.__name__
_POSTED = "RFC v5"
"""The series that posted this call, and whose TDX side it met."""
_TD_BLOCKS = 4
"""The TD's memory in leaves of 2M: two private ones, then two shared ones."""


class _LogWorld(TdxWorld):
    """Writes down every event and every call of the TDX module, in their order."""

    def __init__(self, tdx: KvmTdx) -> None:
        super().__init__(tdx)
        self.lines: list[str] = []
        self._seen = len(tdx.module.log)

    def answer(self, event: Event) -> Any:
        self.take_calls()
        self.lines.append(str(event))
        got = super().answer(event)
        self.take_calls()
        return got

    def take_calls(self) -> None:
        """The module's calls since the last look."""
        log = self.tdx.module.log
        self.lines += [repr(call) for call in log[self._seen :]]
        self._seen = len(log)


def _rounds(lines: list[str]) -> Iterator[list[str]]:
    """The log, cut where the guest accepts anew."""
    starts = [at for at, line in enumerate(lines) if line.startswith("TDG.")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start:end]


# ---- the hunt: its two trees and the case --------------------------------------------------------------


class Hunt(NamedTuple):
    """The case as it is handed out: the trees before and after, the log, the number of tries."""

    tdx_side: str
    """The series whose TDX side stood below: of TDX_SERIES."""
    before: tuple[str, ...]
    log: tuple[str, ...]
    """Line by line, of the first two rounds (the others are as the second); all if there are fewer."""
    tries: int
    """How often the guest accepted."""
    end: str
    """What came of it, in words."""
    accepted: bool
    after: tuple[str, ...]

    def __repr__(self) -> str:
        mixed = f"{_POSTED}'s call on {self.tdx_side}'s TDX side: no series posted the two together."
        again = f"rounds 3 to {self.tries} are as the second: " if self.tries > 2 else ""
        return "\n".join(
            [
                *[mixed] * (self.tdx_side != _POSTED),
                f"The guest accepts frame {PAGE:#x}, a page of 4K, after it touched it.",
                "Before:",
                *(f"  {line}" for line in self.before),
                "What happened:",
                *(f"  {number:2} {line}" for number, line in enumerate(self.log, 1)),
                f"  {again}{self.end}.",
                "After:",
                *(f"  {line}" for line in self.after),
            ]
        )


def hunt(*, shared_leaf: bool = False, tdx_side: str = _POSTED) -> Hunt:
    """The case: a TD of 8M, half of it private, whose guest accepts PAGE.

    shared_leaf: a shared leaf of 2M lies in the direct tree at the same frame (laid out, not argued: KVM
    zaps it when the frame becomes private); tdx_side: "RFC v5", as posted, or "v3", where the guest accepts
    again and again: with this call a combination that no series posted. Raises InvalidValueError for another
    name.
    """
    return _handled_by(ACCEPT_SPLITS[_DONE_BY], shared_leaf, known_name(tdx_side, TDX_SERIES, "a TDX side"))


def _handled_by(split: AcceptSplit, shared_leaf: bool = False, tdx_side: str = _POSTED) -> Hunt:
    td = _the_td(shared_leaf, tdx_side)
    before = _trees(td)
    world = _LogWorld(td.tdx)
    status = run(td_accept(td.tdx, td.vcpu, PAGE, PG_LEVEL_4K, split=split, tries=TRIES), world)
    world.take_calls()
    rounds = list(_rounds(world.lines))
    log = tuple(line for one in rounds[:2] for line in one)
    end, accepted = _outcome(status, td), status == TDX_SUCCESS
    return Hunt(tdx_side, before, log, len(rounds), end, accepted, _trees(td))


def _the_td(shared_leaf: bool = False, tdx_side: str = _POSTED) -> Td:
    block = TD_4LEVEL.pages(PG_LEVEL_2M)
    td = Td(TD_4LEVEL, _TD_BLOCKS * block, accepted=False, series=tdx_side)
    td.convert(_TD_BLOCKS // 2 * block, td.frames)
    td.touch(PAGE)
    td.read(_TD_BLOCKS // 2 * block)
    if shared_leaf:
        map_leaf(td.kvm.direct_root, block, PG_LEVEL_2M, 2 * td.frames + block)
    td.forget()
    return td


def _trees(td: Td) -> tuple[str, ...]:
    kvm = td.kvm
    roots = {"mirror root": kvm.mirror_root, "direct root": kvm.direct_root, "S-EPT": td.module.sept}
    lines = [f"{name + ':':12} {_leaves(root)}" for name, root in roots.items() if root is not None]
    inhibited = sorted(
        gfn
        for (level, gfn), flags in kvm.disallow_lpage.items()
        if level == PG_LEVEL_2M and flags & KVM_LPAGE_GUEST_INHIBIT_FLAG
    )
    where = ", ".join(f"{gfn:#x}" for gfn in inhibited) or "none"
    return (*lines, f"2M blocks that the guest accepts in smaller pages: {where}")


def _leaves(root: TdpMmuRoot) -> str:
    parts = []
    for leaf in leaf_runs(root):
        label = root.geometry.level(leaf.level).label
        one = f"a {label} leaf at {leaf.gfn:#x}"
        many = f"{group_digits(leaf.count)} {label} leaves from {leaf.gfn:#x}"
        parts.append(one if leaf.count == 1 else many)
    return ", ".join(parts) or "no leaf"


# ---- the hunt: the answer ------------------------------------------------------------------------------

_ROOT_NAMES = {
    "direct": "direct",
    "direct root": "direct",
    "root.hpa": "direct",
    "mirror": "mirror",
    "mirror root": "mirror",
    "mirror_root_hpa": "mirror",
}


@check('which split function was called, and which root did it walk: "direct" or "mirror"?')
def check_hunt(call: Any, root: Any) -> str:
    """Whether `call` is what KVM called in the case of :func:`hunt`, and `root` the root that it walked.

    call: one of SUSPECTS, the function or its name; root: "direct" or "mirror". Another suspect is run on
    the same TD, and its log held against the one of the hunt.
    """
    name = _name_of(call)
    if name is None:
        raise refused("the call is one of the split functions that SUSPECTS lists", call)
    case = hunt()
    if other := _difference(case, _handled_by(ACCEPT_SPLITS[name])):
        raise Wrong(f"{name} was run on the same TD. {other}")
    said = _ROOT_NAMES.get(root) if isinstance(root, str) else None
    if said is None:
        raise refused('the root is "direct" or "mirror"', root)
    if said != "direct":
        raise Wrong(f"{name} is right. {_where_it_began(case)}")
    return (
        f"{name} takes the vCPU's root.hpa, the direct root. No private page is mapped there, so it splits "
        "nothing and returns 0. KVM then marks the block as one that needs no split any more. The fault of "
        f"the same exit finds the leaf whole, under the read lock: in {_POSTED} a KVM_BUG_ON."
    )


def _name_of(call: Any) -> str | None:
    if isinstance(call, str):
        name = call.strip().removesuffix("()").rpartition(".")[2]
        return name if name in SUSPECTS else None
    return next((name for name, function in SUSPECTS.items() if call is function), None)


def _difference(case: Hunt, suspected: Hunt) -> str:
    """The first line in which the logs differ; empty if they are equal."""
    both = zip_longest(case.log, suspected.log, fillvalue="(the log ends)")
    for number, (there, here) in enumerate(both, 1):
        if there != here:
            end = ", and the guest gets its page" if suspected.accepted else ""
            return f"Line {number} of its log is “{here}”, where the hunt has “{there}”{end}."
    return ""


def _where_it_began(case: Hunt) -> str:
    """The walk's first index, beside those that the frame has in either root."""
    td = _the_td()
    level = td.geometry.root_level
    index = {root.is_mirror: td.geometry.index(PAGE | root.gfn_bits, level) for root in td.kvm.tdp_mmu_roots}
    visit = next(line for line in case.log if line.startswith("visit"))
    return (
        f"But the first entry that it visited is “{visit}”; frame {PAGE:#x} has index "
        f"{index[True]} in the table of the mirror root, and {index[False]} in that of the direct root."
    )


# ---- the mend ------------------------------------------------------------------------------------------


class MendCase(NamedTuple):
    """A TD, and the page of 4K that its guest accepts."""

    words: str
    geometry: Geometry
    gfn: int
    touched: tuple[int, ...]
    """Private frames that the guest touched before: KVM mapped a huge PENDING leaf around each."""
    shared_leaf: bool = False
    """A shared huge leaf lies at the same frame in the direct tree."""
    refused: str = ""
    """Requests for host memory of this kind are refused."""

    def made(self) -> Td:
        """The TD, laid out."""
        td = Td(self.geometry, 4 * self.geometry.pages(PG_LEVEL_2M), accepted=False, series=_POSTED)
        for gfn in self.touched:
            td.touch(gfn)
        if self.shared_leaf:
            first = self.geometry.gfn_round_for_level(self.gfn, PG_LEVEL_2M)
            map_leaf(td.kvm.direct_root, first, PG_LEVEL_2M, 2 * td.frames + first)
        return td


MEND_CASES = (
    MendCase("in the middle of a leaf", TOY, 5, (5,)),
    MendCase("the first frame of a leaf, beside another one", TOY, 8, (0, 8)),
    MendCase("the last frame of a leaf, beside another one", TOY, 15, (15, 16)),
    MendCase("a shared leaf lies at the same frame", TOY, 5, (5,), shared_leaf=True),
    MendCase("nothing is mapped there yet", TOY, 5, (16,)),
    MendCase("nothing is mapped there, but a shared leaf is", TOY, 5, (), shared_leaf=True),
    MendCase("leaves of 512 frames", TD_4LEVEL, 0x205, (0x3, 0x205, 0x400), shared_leaf=True),
    MendCase("no page for the table", TOY, 5, (5,), refused="page table"),
    MendCase("no page for the S-EPT", TOY, 5, (5,), refused="S-EPT page"),
)
"""The easiest first."""


@check(f"let split return {WRITE}.")
def check_mend(split: Any) -> str:
    """Attack ``split(kvm, gfn, level)``, KVM's split for an ACCEPT that finds a larger page.

    It returns a coroutine of the engine, whose value is 0 or a negative errno. mmu_lock is held for write.
    The first TD of MEND_CASES on which the guest does not get its page, or something else is changed, or an
    errno is lost, is the counterexample.
    """
    if not callable(split):
        raise refused("split is a function of kvm, gfn and level", split)
    for case in MEND_CASES:
        td = f"a TD with leaves of {count_of(case.geometry.pages(PG_LEVEL_2M), 'frame')}"
        with about(f"{td}, {case.words}; the guest accepts frame {case.gfn:#x}"):
            _Accept(case, split).attack()
    refusals = sum(bool(case.refused) for case in MEND_CASES)
    return (
        f"{len(MEND_CASES)} TDs: the guest gets its page, no other leaf is split, in neither tree, and an "
        f"errno comes back as it is ({count_of(refusals, 'refusal')})."
    )


class _Accept:
    """The guest of one TD accepts, and the submission splits."""

    def __init__(self, case: MendCase, split: Callable[..., Any]) -> None:
        self.case = case
        self.split = split
        self.returned: list[int] = []
        """The errnos that the submission returned, call by call."""
        self.td = case.made()

    def attack(self) -> None:
        """Raise Wrong for what goes wrong."""
        case, td = self.case, self.td
        direct, mapped = leaf_runs(td.kvm.direct_root), _mapped(td)
        if case.refused:
            td.tdx.pages.refuse = lambda number, what: what == case.refused
        got = self.accepts()
        if (now := leaf_runs(td.kvm.direct_root)) != direct:
            was = f"was {_leaf_count(direct)} and is {_leaf_count(now)}"
            raise Wrong(f"the direct tree, which has the shared half, {was}.")
        if case.refused:
            got = self.accepts_again(got, mapped)
        if got != TDX_SUCCESS:
            whole_leaf = " The leaf is still whole." if _mapped(td).get(case.gfn) == PG_LEVEL_2M else ""
            raise Wrong(f"{_outcome(got, td)}.{whole_leaf}")
        self.hold_others(mapped)

    def accepts_again(self, first: int | None, mapped: dict[int, int]) -> int | None:
        """With memory there again after a refusal, which has to be reported and to change nothing."""
        if _mapped(self.td) != mapped:
            raise Wrong("it is refused, and the private tree has changed.")
        got, then = first, _outcome(first, self.td)
        if not self.td.tdx.dead:
            self.td.tdx.pages.refuse = lambda number, what: False
            got = self.accepts()
            then += f"; with memory there again, {_outcome(got, self.td)}"
        errno = self.returned[0]
        if errno != -ENOMEM:
            returned = f"split returned {errno} instead of {-ENOMEM} (-ENOMEM)"
            raise Wrong(f"it is refused, and {returned}. Then {then}.")
        return got

    def hold_others(self, mapped: dict[int, int]) -> None:
        """The rest of the leaf is mapped, and no other leaf changed."""
        case, now, block = self.case, _mapped(self.td), self.case.geometry.pages(PG_LEVEL_2M)
        others = {gfn: level for gfn, level in mapped.items() if gfn // block != case.gfn // block}
        if changed := [gfn for gfn, level in others.items() if now.get(gfn) != level]:
            how = "split" if changed[0] in now else "gone"
            raise Wrong(f"the leaf that maps frame {changed[0]:#x} is {how} too; nobody asked for that.")
        if lost := sorted(mapped.keys() - now):
            raise Wrong(
                f"the guest gets its page, but {count_of(len(lost), 'frame')} of the leaf, the first of them "
                f"{lost[0]:#x}, are not mapped any more. A split keeps them."
            )

    def accepts(self) -> int | None:
        """Let the guest accept, and say with which status; the vCPU is put inside first if it is not."""
        td = self.td
        if td.vcpu not in td.module.vcpus_inside:
            td.module.vp_enter(td.vcpu)
        got: int | None = run(td_accept(td.tdx, td.vcpu, self.case.gfn, PG_LEVEL_4K, split=self), td.world)
        return got

    def __call__(self, kvm: Kvm, gfn: int, level: int) -> Coroutine[int]:
        """The split that KVM calls."""
        self.returned.append((yield from submitted("split", self.split, kvm, gfn, level)))
        return self.returned[-1]


def _mapped(td: Td) -> dict[int, int]:
    """Private frames that KVM maps -> the level of the leaf."""
    assert td.kvm.mirror_root is not None
    found: dict[int, int] = {}
    for leaves in leaf_runs(td.kvm.mirror_root):
        pages = leaves.count * td.geometry.pages(leaves.level)
        found |= dict.fromkeys(range(leaves.gfn, leaves.gfn + pages), leaves.level)
    return found


def _leaf_count(runs: list[LeafRun]) -> str:
    return count_of(sum(leaves.count for leaves in runs), "leaf", "leaves")


def _outcome(got: int | None, td: Td) -> str:
    """What came of an ACCEPT, in words."""
    if got is None:
        return "the guest accepts it for ever"
    if td.tdx.dead:
        return f"the VM is dead, and userspace gets {got} (-EIO)"
    if got < 0:
        return f"KVM gives up with {got}"
    return f"the guest gets {status_name(got)}"
