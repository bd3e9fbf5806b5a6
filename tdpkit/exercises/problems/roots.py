"""Root types: which roots of a VM an operation reaches, after what became of them (S42-S49)."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.kvm import (
    KVM_DIRECT_ROOTS,
    KVM_FILTER_PRIVATE,
    KVM_FILTER_SHARED,
    KVM_INVALID_ROOTS,
    KVM_MIRROR_ROOTS,
    KVM_VALID_ROOTS,
)
from tdpkit.lab.two_roots import FILTERS, name_types
from tdpkit.lab.words import listed

from ..checking import Wrong, one_of
from .kind import Kind, listed_items, markdown_table, steps, varied

CALLS = {
    "zap": "kvm_tdp_mmu_unmap_gfn_range() zaps a range: it asks for the types of the filter, and INVALID",
    "split": "kvm_split_cross_boundary_leafs() splits at the edges: it asks for the types of the filter",
    "dirty-log split": "dirty logging splits a slot: it asks for VALID, whatever the filter",
    "split in mirror roots": "a split asks for MIRROR alone, whatever the filter",
}
"""Operations of `tdpkit.lab.two_roots`, and the root types that each asks for."""


class Root(NamedTuple):
    """A root on the VM's list."""

    name: str
    tree: str
    """"direct" or "mirror"."""
    valid: bool


class Roots(NamedTuple):
    """A VM's roots, what happens to them, and an operation.

    types: what the operation asks for, if that is said outright; else call and filter decide. happens: of
    "invalidate 2" (the types in a number), "reload", "zap invalidated".
    """

    vm: str
    roots: tuple[Root, ...]
    happens: tuple[str, ...] = ()
    types: int | None = None
    call: str = ""
    filter: str = ""


# ---- drawn -------------------------------------------------------------------------------------------------


def draw(chance: Random, level: int) -> Roots:
    """Types as a number; an operation and a filter; and before it an invalidation, new roots, zaps."""
    return varied(chance, lambda: _some_roots(chance, level), lambda given: not right(given))


def _some_roots(chance: Random, level: int) -> Roots:
    vm = chance.choice(("plain", "TD", "TD"))
    if level == 3:
        roots = (Root("D1", "direct", True), *[Root("M1", "mirror", True)] * (vm == "TD"))
        call = chance.choice(["zap", "zap", "split", *CALLS])
        return Roots(vm, roots, _some_story(chance, vm), None, call, _filter(chance))
    # vCPUs share a valid root, so there is one of a tree; invalid ones may linger.
    trees = ["direct", "mirror"] if vm == "TD" else ["direct"]
    drawn = [(tree, True) for tree in trees if chance.random() < 0.8]
    drawn += [(chance.choice(trees), False) for _ in range(chance.randint(1, 3))]
    chance.shuffle(drawn)
    roots = tuple(Root(f"R{number}", *kind) for number, kind in enumerate(drawn, 1))
    if level == 1:
        return Roots(vm, roots, (), chance.randrange(8))
    return Roots(vm, roots, (), None, chance.choice([*CALLS]), _filter(chance))


def _filter(chance: Random) -> str:
    return chance.choice(["private", "private", "shared", *FILTERS])


def _some_story(chance: Random, vm: str) -> tuple[str, ...]:
    """Two to four events that begin with an invalidation; the vCPU mostly takes new roots after it."""
    types = [KVM_DIRECT_ROOTS, KVM_VALID_ROOTS, KVM_MIRROR_ROOTS if vm == "TD" else KVM_DIRECT_ROOTS]
    story = [f"invalidate {chance.choice(types)}"]
    for _ in range(chance.randint(1, 3)):
        more = ["reload", "reload", "zap invalidated", f"invalidate {chance.choice(types)}"]
        story.append(chance.choice([event for event in more if event != story[-1]]))
    if "reload" not in story and chance.random() < 0.8:
        return _some_story(chance, vm)
    return tuple(story)


# ---- what becomes of the roots -----------------------------------------------------------------------------


@dataclass
class _Held:
    """A root and who holds a reference on it."""

    name: str
    tree: str
    valid: bool = True
    holders: set[str] = field(default_factory=lambda: {"the vCPU", "KVM"})

    def __str__(self) -> str:
        return f"{self.name} ({'valid' if self.valid else 'invalid'})"


def _matches(tree: str, valid: bool, types: int) -> bool:
    of_tree = KVM_MIRROR_ROOTS if tree == "mirror" else KVM_DIRECT_ROOTS
    return bool(types & of_tree) and (valid or bool(types & KVM_INVALID_ROOTS))


def _lived(given: Roots) -> tuple[list[_Held], list[str]]:
    """The list of roots after all that happens, and a line for each event."""
    there = [_Held(root.name, root.tree, root.valid) for root in given.roots]
    numbers = {"direct": 1, "mirror": 1}
    lines = []
    for event in given.happens:
        name, _, types = event.partition(" ")
        if name == "invalidate":
            for root in there:
                root.valid = root.valid and not _matches(root.tree, True, int(types))
        elif name == "reload":
            for root in [root for root in there if not root.valid and "the vCPU" in root.holders]:
                root.holders.discard("the vCPU")
                numbers[root.tree] += 1
                there.append(_Held(f"{root.tree[0].upper()}{numbers[root.tree]}", root.tree))
        else:
            for root in there:
                if not root.valid:
                    root.holders.discard("KVM")
        there = [root for root in there if root.holders]
        lines.append(f"{_event_words(event)}: on the list are then {listed(map(str, there))}.")
    return there, lines


def _event_words(event: str) -> str:
    if event == "reload":
        return "The vCPU enters, and takes new roots for its invalid ones"
    if event == "zap invalidated":
        return "KVM zaps its invalidated roots"
    types = int(event.split()[1])
    return f"KVM invalidates the roots of types {types} ({name_types(types)})"


def _types(given: Roots) -> int:
    """The root types that the operation asks for."""
    if given.types is not None:
        return given.types
    if given.call == "dirty-log split":
        return KVM_VALID_ROOTS
    if given.call == "split in mirror roots":
        return KVM_MIRROR_ROOTS
    return _filter_types(given) | (KVM_INVALID_ROOTS if given.call == "zap" else 0)


def _filter_types(given: Roots) -> int:
    if given.vm != "TD":
        return KVM_DIRECT_ROOTS
    bits = FILTERS[given.filter]
    mirror = KVM_MIRROR_ROOTS if bits & KVM_FILTER_PRIVATE else 0
    return mirror | (KVM_DIRECT_ROOTS if bits & KVM_FILTER_SHARED else 0)


# ---- asked and answered ------------------------------------------------------------------------------------


def ask(given: Roots) -> str:
    """Give the roots, the rules, and the operation."""
    vm = "A TD" if given.vm == "TD" else "A plain VM"
    rows = [(root.name, root.tree, "valid" if root.valid else "invalid") for root in given.roots]
    said = [
        f"{vm} has these roots:\n\n{markdown_table(('root', 'tree', ''), rows)}",
        "Root types are bits: INVALID 1, DIRECT 2, MIRROR 4; VALID is DIRECT and MIRROR. A mirror root "
        "matches MIRROR, any other root DIRECT; an invalid root must be let in by INVALID besides.",
    ]
    if given.happens:
        events = steps(f"{_event_words(event)}." for event in given.happens)
        said.append(
            "One vCPU runs, and holds a reference on each of its roots; KVM holds one on every root until it "
            "has zapped the root as an invalidated one. A root without a reference is gone. New roots are "
            f"called D2, D3, … and M2, M3, … Now this happens:\n\n{events}"
        )
    if given.types is not None:
        said.append(f"An operation asks for root types {given.types}. Which roots does it reach?")
    else:
        said.append(
            "The types of a filter: in a TD private means MIRROR and shared DIRECT; in a plain VM each "
            f"filter means DIRECT.\n\nThen {CALLS[given.call]}. The filter is {_filter_name(given)}. Which "
            "roots does it reach?"
        )
    return "\n\n".join(said)


def _filter_name(given: Roots) -> str:
    return {"both": "private and shared", "neither": "empty"}.get(given.filter, given.filter)


def form(given: Roots) -> str:
    """Names, in any order."""
    first = given.roots[0].name
    return f'the names of these roots as a list, such as `["{first}"]`, in any order; `[]` for none.'


def right(given: Roots) -> list[str]:
    """The names of the roots that are reached, the oldest first."""
    there, _ = _lived(given)
    return [root.name for root in there if _matches(root.tree, root.valid, _types(given))]


def hold(given: Roots, answer: Any) -> str:
    """The counterexample is a root, and the bit that lets it in or keeps it out."""
    there, _ = _lived(given)
    types = _types(given)
    asked = f"the operation asks for {types} ({name_types(types)})"
    known = [*dict.fromkeys([*(root.name for root in given.roots), *(root.name for root in there)])]
    said = {
        one_of(item, known, "a root")
        for item in listed_items(answer, "the answer is a list of names of roots")
    }
    for name in known:
        root = next((root for root in there if root.name == name), None)
        if root is None:
            if name in said:
                raise Wrong(f"{name} is gone: nobody holds a reference on it any more.")
            continue
        reached = _matches(root.tree, root.valid, types)
        if reached != (name in said):
            state = f"{name} is {'a valid' if root.valid else 'an invalid'} {root.tree} root"
            fault = "which lets it in, and you left it out" if reached else "which keeps it out"
            raise Wrong(f"{state}; {asked}, {fault}.")
    return f"{asked}."


def work(given: Roots) -> str:
    """Follow the roots, find the types, match each."""
    there, lines = _lived(given)
    types = _types(given)
    if given.types is None:
        by_filter = given.call in ("zap", "split")
        of_vm = f"The filter is {_filter_name(given)}, in a {'TD' if given.vm == 'TD' else 'plain VM'}"
        why = f"{of_vm if by_filter else 'The filter does not matter'}: "
        lines.append(f"{why}the operation asks for types {types} ({name_types(types)}).")
    else:
        lines.append(f"Types {types} are {name_types(types)}.")
    for root in there:
        reached = "reached" if _matches(root.tree, root.valid, types) else "not reached"
        lines.append(f"{root.name}, {'valid' if root.valid else 'invalid'} and {root.tree}: {reached}.")
    return steps(lines)


KIND = Kind("root types", draw, ask, form, right, hold, work)
