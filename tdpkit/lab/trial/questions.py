"""Questions about one call at a time: the rules, the tree it leaves, faults, roots, pages.

Each question is a function of a :class:`.answers.Bench`; it answers, or raises `Failed` with the first and
smallest case that it met. All but the first rely on the rules being kept.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdpkit.engine.events import ENOMEM
from tdpkit.engine.gfn import PAGE_SHIFT, PG_LEVEL_4K, GfnRange, InvalidValueError
from tdpkit.engine.kvm import (
    KVM_VALID_ROOTS,
    KVM_X86_DEFAULT_VM,
    KVM_X86_TDX_VM,
    Kvm,
    KvmGfnRange,
)
from tdpkit.engine.roots import kvm_mmu_reload, kvm_tdp_mmu_invalidate_roots
from tdpkit.engine.spte import (
    EPT_SPTE_MMU_WRITABLE,
    PT_PAGE_SIZE_MASK,
    VMX_EPT_ACCESS_BIT,
    VMX_EPT_DIRTY_BIT,
    VMX_EPT_WRITABLE_MASK,
)
from tdpkit.engine.tree import leaves, map_run

from ..budget import predict
from ..layouts import layout_of
from ..search import Tally
from ..shapes import NotTheTree
from ..spec import split_as_forced
from ..strategies import made
from ..two_roots import FILTERS
from ..untrusted import RAISED
from ..words import count_of, group_digits, listed
from .answers import FAILS, HOLDS, NOTE, Answer, Bench, Failed, said
from .rules import TrialWorld, WatchingWorld, drive
from .toys import FEW, MACHINE, TD, UNIVERSE, Place, ToyTd
from .variant import PRIVATE

SPANS = [span for span in UNIVERSE.ranges if span.pages]
"""Every range of the toy that is not empty, the shortest first."""


def _places(*names: str) -> Iterator[tuple[ToyTd, GfnRange, Place]]:
    """Every range on trees of FEW, each on a toy of its tree."""
    for shape in map(FEW.__getitem__, names):
        toy = ToyTd(shape)
        for span in SPANS:
            yield toy, span, Place(shape, span)


def _cases(number: int) -> str:
    return count_of(number, "case")


# ---- the rules -----------------------------------------------------------------------------------------


def kernel_rules(bench: Bench) -> Answer:
    """It ends, returns an errno, announces each store, and handles mmu_lock and RCU as KVM does."""
    variant, tried = bench.variant, 0
    for shared in (False, True)[: 1 + variant.takes_lock]:
        for toy, span, place in _places(*FEW):
            toy.world = WatchingWorld(toy.root, shared=shared)
            held = "read" if shared else "write"
            try:
                ret = toy.call(variant, span)
                toy.undo()
            except RAISED as error:
                raise Failed(f"{said(error)} (mmu_lock held for {held})", place) from None
            if ret:
                raise Failed(f"it returned {ret}, and nothing failed", place)
            tried += 1
    locks = "both locks" if variant.takes_lock else "the write lock"
    return Answer(HOLDS, _cases(tried), f"each call ends, and each store is announced, under {locks}")


# ---- the tree ------------------------------------------------------------------------------------------


def exact(bench: Bench) -> Answer:
    """No leaf crosses an edge, and nothing else is split: trees as a TD of the series maps them."""
    return _of(bench.all_trees.small)


def exact_1g(bench: Bench) -> Answer:
    """The same with leaves of a third size, in place of 1G; in a TD of the series a what-if (S3)."""
    answer = _of(bench.all_trees.large)
    if answer.verdict == FAILS and bench.variant.form == PRIVATE:
        return answer._replace(verdict=NOTE, found=f"a what-if, for a TD maps none: {answer.found}")
    return answer


def _of(tally: Tally) -> Answer:
    if tally.exact == tally.cases:
        return Answer(HOLDS, _cases(tally.cases), "exact in all: the spec's own tree each time")
    case = tally.smallest
    assert case is not None
    what = (
        "a leaf still crosses an edge"
        if case.verdict == "wrong"
        else f"{count_of(case.splits, 'split')} where {case.forced} would do"
    )
    found = (
        f"{group_digits(tally.wrong)} wrong, {group_digits(tally.needless)} with needless splits; "
        f"the smallest: {Place(case.shape, case.span)}: {what}"
    )
    return Answer(FAILS, _cases(tally.cases), found, case)


def empty_range(bench: Bench) -> Answer:
    """A range that ends where it starts: v3 splits the leaf around it, and a zap would take that leaf."""
    trees = bench.empty_ranges
    tried = _cases(trees.cases)
    for tally in (trees.small, trees.large):
        if tally.needless:
            return _of(tally)
    wrong = trees.small.wrong + trees.large.wrong
    if not wrong:
        return Answer(HOLDS, tried, "split as at an edge: no leaf is left around it")
    case = trees.small.smallest or trees.large.smallest
    assert case is not None
    place = Place(case.shape, case.span)
    found = f"{group_digits(wrong)} times a leaf stays around it, as for {place}; the zap takes such a leaf"
    return Answer(NOTE, tried, found, case)


_BITS = {
    "not dirty": VMX_EPT_DIRTY_BIT,
    "read-only": VMX_EPT_WRITABLE_MASK | EPT_SPTE_MMU_WRITABLE,
    "not accessed": VMX_EPT_ACCESS_BIT,
}
"""Bits that are missing in a leaf, and must be missing in its children."""


def translations(bench: Bench) -> Answer:
    """Every frame keeps its host frame, and a child all the bits of its leaf but the page size (S26)."""
    variant, trees = bench.variant, bench.all_trees
    if trees.broken:
        raise Failed(trees.broken[0])
    tried = trees.cases
    for what, bits in _BITS.items():
        for name in ("1G leaves", "2M leaves"):
            toy = ToyTd(FEW[name], missing=bits)
            parents = [*leaves(toy.root)]
            for span in SPANS:
                toy.world.again()
                toy.call(variant, span)
                for leaf in leaves(toy.root):
                    parent = max((one for one in parents if one.gfn <= leaf.gfn), key=lambda one: one.gfn)
                    child = parent.spte + (leaf.gfn - parent.gfn << PAGE_SHIFT)
                    if leaf.level == PG_LEVEL_4K:
                        child &= ~PT_PAGE_SIZE_MASK
                    if leaf.spte != child:
                        raise Failed(
                            f"the entry of frame {leaf.gfn} is {leaf.spte:#x}; it should be {child:#x}",
                            f"{Place(FEW[name], span)}, {what}",
                        )
                toy.undo()
                tried += 1
    return Answer(HOLDS, _cases(tried), "every frame keeps its host frame, every child its leaf's bits")


def end_beyond(bench: Bench) -> Answer:
    """A range that ends beyond what the root can map: the walk stops there, arithmetic may go on (S235)."""
    variant, tried = bench.variant, 0
    spans = [
        GfnRange(start, TD.root_pages + past) for start in range(MACHINE.root_pages) for past in (1, 2, 3)
    ]
    for name in ("1G leaves", "2M leaves"):
        toy = ToyTd(FEW[name])
        for span in spans:
            beyond = f"[{span.start}, {span.end}) in a root of {TD.root_pages} frames"
            for call in made(variant.planned(TD, span)):
                if call.start >= TD.root_pages:
                    return _starts_beyond(f"{beyond}: it plans a call from frame {call.start} on", tried)
            toy.world.again()
            try:
                toy.call(variant, span)
            except InvalidValueError as error:
                return _starts_beyond(f"{beyond}: {error}", tried)
            if split_as_forced(MACHINE, after := toy.tree(), frozenset({span.start})) != after:
                raise Failed("a leaf still crosses the start", beyond)
            toy.undo()
            tried += 1
    return Answer(HOLDS, _cases(tried), "nothing happens at that end")


def _starts_beyond(found: str, tried: int) -> Answer:
    return Answer(
        NOTE,
        _cases(tried + 1),
        f"{found}; beyond the root the kernel's iterator meets a low entry. No range of a slot ends there",
    )


# ---- faults --------------------------------------------------------------------------------------------

_TREES = ("1G leaves", "2M leaves", "mixed")


def no_memory(bench: Bench) -> Answer:
    """Each page refused once: -ENOMEM comes back, nothing is lost, another call completes the work (S80)."""
    variant, tried = bench.variant, 0
    for toy, span, place in _places(*_TREES):
        world = toy.world
        world.again()
        toy.call(variant, span)
        unfailed, pages = toy.tree(), world.allocations
        toy.undo()
        for refused in range(1, pages + 1):
            page = f"page {refused} of {pages} refused"
            world.again(refuse=refused)
            ret = toy.call(variant, span)
            _check_books(toy, f"{place}, {page}")
            if ret == 0 and toy.tree() != unfailed:
                raise Failed("it returned 0 and did not split all", f"{place}, {page}")
            if ret not in (0, -ENOMEM):
                told = "; its callers take what is positive for something else" if ret > 0 else ""
                raise Failed(f"it returned {ret}, not {-ENOMEM} (-ENOMEM){told}", f"{place}, {page}")
            world.again()
            again = toy.call(variant, span)
            _check_books(toy, f"{place}, {page}, called again")
            if again or toy.tree() != unfailed:
                raise Failed(
                    f"called again it returned {again}, and the work is not complete", f"{place}, {page}"
                )
            toy.undo()
            tried += 1
    if not tried:
        return Answer(NOTE, "no case", "it never asks for a page")
    return Answer(HOLDS, _cases(tried), f"{-ENOMEM} each time, nothing lost, and a second call completes it")


def _check_books(toy: ToyTd, place: str) -> None:
    """Raise Failed unless every frame, page and reference is where it should be."""
    try:
        toy.tree()
    except NotTheTree as error:
        raise Failed(str(error), place) from None
    if toy.lost_tables():
        raise Failed(f"{count_of(toy.lost_tables(), 'page table')} in no tree and not freed", place)
    if toy.has_references_left():
        raise Failed("it keeps a reference on a root", place)


def reschedules(bench: Bench) -> Answer:
    """A reschedule due at one visit, then at each: the same tree, and an end (S65)."""
    variant, tried, gave_way, chances, visited = bench.variant, 0, 0, 0, 0
    for toy, span, place in _places(*FEW):
        world = toy.world
        world.again()
        toy.call(variant, span)
        undisturbed, visits = toy.tree(), world.iterations
        visited += visits
        toy.undo()
        for due in (*range(1, visits + 1), 0):
            when = f"a reschedule due at {f'visit {due} of {visits}' if due else 'every visit'}"
            world.again(resched=due)
            try:
                ret = toy.call(variant, span)
            except RAISED as error:
                raise Failed(said(error), f"{place}, {when}") from None
            _check_books(toy, f"{place}, {when}")
            if ret or toy.tree() != undisturbed:
                raise Failed(f"it returned {ret} and left another tree", f"{place}, {when}")
            gave_way, chances = gave_way + world.yields, chances + world.chances
            world.chances = 0
            toy.undo()
            tried += 1
    if not visited:
        return Answer(NOTE, _cases(tried), "it never asks whether a reschedule is due")
    if not gave_way and chances:
        return Answer(NOTE, _cases(tried), "it never drops mmu_lock for one that is due")
    why = "" if gave_way else ", for its walks end before their goal has moved"
    return Answer(
        HOLDS, _cases(tried), f"the same tree each time; it gave way {count_of(gave_way, 'time')}{why}"
    )


# ---- roots ---------------------------------------------------------------------------------------------

_HALVES = {"private": {"mirror"}, "shared": {"direct"}, "both": {"mirror", "direct"}, "neither": set()}
"""The valid roots of a TD that a filter selects (S43, S44); a plain VM's direct root is selected by any."""


def roots(bench: Bench) -> Answer:
    """Which roots it reaches, by kind of VM and filter; invalid ones stay as they are, references balance."""
    variant, tried, wrong = bench.variant, 0, []
    for kind in ("TD",) if variant.form == PRIVATE else ("TD", "plain VM"):
        for name in ("private",) if variant.form == PRIVATE else _HALVES:
            expected = _HALVES[name] if kind == "TD" else {"direct"}
            for refuse in (0, 1):
                reached, kept = _reached(bench, kind, FILTERS[name], refuse)
                if not refuse and reached != expected:
                    wrong.append(f"{kind}, {name}: it splits in {_named(reached)}, not in {_named(expected)}")
                if kept:
                    wrong.append(
                        f"{kind}, {name}{', a page refused' * refuse}: it keeps a reference on a root"
                    )
                tried += 1
    if wrong:
        raise Failed(f"{wrong[0]}{f' ({len(wrong) - 1} more)' if wrong[1:] else ''}")
    which = "private memory's root" if variant.form == PRIVATE else "each filter's roots"
    return Answer(HOLDS, _cases(tried), f"{which} and no other; references balance")


def _named(roots_: set[str]) -> str:
    return listed(f"the {name} root" for name in sorted(roots_)) if roots_ else "none"


def _reached(bench: Bench, kind: str, attr_filter: int, refuse: int) -> tuple[set[str], bool]:
    """The roots in which a call split a leaf, of those of a VM with invalid roots too; whether it keeps a
    reference.
    """
    kvm = Kvm(KVM_X86_TDX_VM if kind == "TD" else KVM_X86_DEFAULT_VM, TD)
    _fill(kvm)
    kvm_tdp_mmu_invalidate_roots(kvm, KVM_VALID_ROOTS)
    kvm_mmu_reload(kvm)
    _fill(kvm)
    every = [*kvm.tdp_mmu_roots]
    before = [([*leaves(root)], root.tdp_mmu_root_count) for root in every]
    world = TrialWorld(kvm.pool)
    world.again(refuse=refuse)
    with kvm.slots_lock:
        drive(bench.variant.call(kvm, KvmGfnRange(kvm.slot, 1, 3, attr_filter)), world)
    reached = {
        "invalid " * root.invalid + ("mirror" if root.is_mirror else "direct")
        for root, (was, _) in zip(every, before, strict=True)
        if [*leaves(root)] != was
    }
    return reached, [count for _, count in before] != [root.tdp_mmu_root_count for root in every]


def _fill(kvm: Kvm) -> None:
    """Two leaves of two frames in each valid root."""
    for root in {kvm.direct_root, kvm.mirror_root} - {None}:
        assert root is not None
        map_run(root, 0, 2, 2, 0)


# ---- pages ---------------------------------------------------------------------------------------------

_LAYOUTS = {"1G leaves": layout_of(MACHINE, 8, (0, 3, 2)), "2M leaves": layout_of(MACHINE, 8, (0, 2, 4))}


def pages(bench: Bench) -> Answer:
    """Pages for page tables against what the two edges predict (`lab.budget`)."""
    variant, tried, most = bench.variant, 0, 0
    for name, layout in _LAYOUTS.items():
        for toy, span, place in _places(name):
            toy.world.again()
            toy.call(variant, span)
            used = toy.world.allocations
            need = predict(layout, span.start, span.end).need.tables
            if used > need:
                raise Failed(f"{count_of(used, 'page')}, and the edges need {need}", place)
            most = max(most, used)
            toy.undo()
            tried += 1
    return Answer(HOLDS, _cases(tried), f"never more than the edges need; at most {most}")
