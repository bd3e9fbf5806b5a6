"""Decode an entry: its kind, its frame and what it grants; and the child that a split makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from tdpkit.engine.gfn import X86_5LEVEL, as_integer
from tdpkit.engine.spte import (
    EPT_SPTE_MMU_WRITABLE,
    FROZEN_SPTE,
    SHADOW_ACC_TRACK_MASK,
    SHADOW_ACC_TRACK_SAVED_BITS_MASK,
    SHADOW_ACC_TRACK_SAVED_BITS_SHIFT,
    SHADOW_NONPRESENT_VALUE,
    SPTE_TDP_AD_DISABLED,
    VMX_EPT_ACCESS_BIT,
    VMX_EPT_DIRTY_BIT,
    VMX_EPT_EXECUTABLE_MASK,
    VMX_EPT_MISCONFIG_WX_VALUE,
    VMX_EPT_USER_EXECUTABLE_MASK,
    VMX_EPT_WRITABLE_MASK,
    decode,
    make_leaf_spte,
    make_nonleaf_spte,
)
from tdpkit.lab.entries import Child, Entry, child_of, parse_entry, read_entry
from tdpkit.lab.words import listed

from ..checking import Wrong, frame, one_of, ordered, refused
from .kind import Kind, markdown_table, steps

_KINDS = ("leaf", "table", "non-present", "frozen", "mmio")
_X_BITS = VMX_EPT_EXECUTABLE_MASK | VMX_EPT_USER_EXECUTABLE_MASK


class Value(NamedTuple):
    """A 64-bit entry found at a level; with an index, the child of its split that is asked for.

    nx: the NX-huge-page mitigation is on; exec_allowed: the role of the new table allows execution.
    """

    spte: int
    level: int
    index: int | None = None  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    nx: bool = False
    exec_allowed: bool = True

    @property
    def entry(self) -> Entry:
        """It, taken apart."""
        return read_entry(self.spte, self.level)

    @property
    def child(self) -> Child:
        """The child; only of a problem that asks for one."""
        assert self.index is not None
        return child_of(self.entry, self.index, exec_allowed=self.exec_allowed, nx_huge_pages=self.nx)


# ---- drawn -------------------------------------------------------------------------------------------------


def draw(chance: Random, level: int) -> Value:
    """A leaf, a table or nothing; any kind, with rights taken away; a child of a split."""
    if level == 3:
        at = chance.choice((2, 2, 3))
        exec_allowed = chance.random() < 0.6
        return Value(
            _some_leaf(chance, at, 28), at, chance.randrange(512), chance.random() < 0.7, exec_allowed
        )
    at = chance.choice((1, 2, 3))
    kind = chance.choice(("leaf", "table") if level == 1 else ("leaf", "leaf", "leaf", "table", "mmio"))
    if chance.random() < 0.08:
        return Value(FROZEN_SPTE if level == 2 and chance.random() < 0.5 else SHADOW_NONPRESENT_VALUE, at)
    if kind == "table":
        at = chance.choice((2, 3, 4))
        return Value(make_nonleaf_spte(chance.randrange(1, 1 << 12 * level)), at)
    if kind == "mmio":
        generation = chance.randrange(1 << 8) << 3
        return Value(chance.randrange(1 << 20) << 12 | generation | VMX_EPT_MISCONFIG_WX_VALUE, at)
    if level == 1:
        return Value(_plain_leaf(chance, at, 8) & ~chance.choice((0, 0, VMX_EPT_WRITABLE_MASK)), at)
    return Value(_some_leaf(chance, at, 20), at)


def _plain_leaf(chance: Random, level: int, bits: int) -> int:
    """A leaf on one of the first 2 ** bits blocks of its size."""
    return make_leaf_spte(chance.randrange(1, 1 << bits) << 9 * (level - 1) & (1 << 40) - 1, level)


def _some_leaf(chance: Random, level: int, bits: int) -> int:
    """A leaf that may be write-protected, not executable, clean, and access-tracked."""
    spte = _plain_leaf(chance, level, bits)
    for mask, odds in (
        (_X_BITS, 0.4),
        (VMX_EPT_WRITABLE_MASK, 0.3),
        (VMX_EPT_DIRTY_BIT, 0.3),
        (EPT_SPTE_MMU_WRITABLE, 0.1),
    ):
        if chance.random() < odds:
            spte &= ~mask
    if chance.random() < 0.35:
        saved = spte & SHADOW_ACC_TRACK_SAVED_BITS_MASK
        spte &= ~(SHADOW_ACC_TRACK_MASK | VMX_EPT_ACCESS_BIT | VMX_EPT_DIRTY_BIT)
        spte |= SPTE_TDP_AD_DISABLED | saved << SHADOW_ACC_TRACK_SAVED_BITS_SHIFT
    return spte


# ---- asked -------------------------------------------------------------------------------------------------

_BITS = (
    ("0, 1, 2", "R, W, X: read, write, execute"),
    ("7", "page size"),
    ("11", "present, as KVM sees it"),
    ("51:12", "the frame: the first host frame of a leaf, or the frame of a table"),
)
_MORE_BITS = (
    ("10", "XU, execute in user mode: goes with X"),
    ("52, 54, 62", "R, X and XU, saved while the entry is access-tracked"),
    ("60", "A and D are off; if R, W, X and XU are clear too, the entry is access-tracked"),
)
_OTHER_KINDS = (
    "A present entry is a leaf at level 1 or with bit 7, else it points to a table. Of the others, "
    f"{FROZEN_SPTE:#x} is frozen, one with W and X and without R is mmio, and any other is non-present."
)
_CHILD_RULES = (
    "A split gives each child its parent's bits, with the frame advanced by the frames of the children "
    "before it. Bit 7 goes at 4K. If the NX-huge-page mitigation is on, a child of 4K gets X and XU if the "
    "new table's role allows execution, and loses them if not; in an access-tracked entry the saved bits 54 "
    "and 62 take their place."
)


def ask(given: Value) -> str:
    """Give the value, its level and the layout."""
    label = given.entry.label
    what = (
        f"An EPT entry of Linux 7.2 reads `{given.spte:#018x}`. It lies in a table of level {given.level}, "
        f"whose entries cover {label}."
    )
    if given.index is None:
        layout = markdown_table(("bits", "meaning"), _BITS)
        return f"{what}\n\n{layout}\n\n{_OTHER_KINDS} Take the entry apart."
    layout = markdown_table(("bits", "meaning"), (*_BITS, *_MORE_BITS))
    mitigation = f"The mitigation is {'on' if given.nx else 'off'}"
    role = f"the role {'allows' if given.exec_allowed else 'does not allow'} execution"
    asked = f"{mitigation}, {role}. What are the 64 bits of child {given.index}?"
    return f"{what}\n\n{layout}\n\n{_CHILD_RULES}\n\n{asked}"


def form(given: Value) -> str:
    """Three parts; or a value."""
    if given.index is not None:
        return "the child's 64 bits, as text in hexadecimal or as a number."
    return (
        f"a list of its kind ({listed(_KINDS, 'or')}), its frame (None without one: only a leaf and a table "
        'have one), and those of R, W and X that are set, such as `["leaf", "0x200", "RW"]`.'
    )


def right(given: Value) -> Any:
    """[kind, frame, rights], or the child's value in hexadecimal."""
    if given.index is not None:
        return f"{given.child.spte:#018x}"
    kind, pfn, bits = decode(given.spte, given.level)
    return [kind, None if pfn is None else hex(pfn), "".join(bit for bit in bits if bit in "RWX")]


# ---- answered ----------------------------------------------------------------------------------------------


def hold(given: Value, answer: Any) -> str:
    """The counterexample is a bit."""
    if given.index is not None:
        return _hold_child(given, answer)
    three = ordered(answer, 3) if not isinstance(answer, str) else None
    if three is None:
        raise refused("the answer is a list of three: kind, frame, rights", answer)
    kind, pfn, rights = right(given)
    said = one_of(three[0], _KINDS, "a kind")
    if said != kind:
        raise Wrong(f"it is no {said} entry: {_why_kind(given)}.")
    said_frame = None if three[1] is None else hex(frame(three[1], "a frame"))
    if said_frame != pfn:
        field = f"bits 51:12 are {given.entry.pfn:#x}"
        raise Wrong(f"{field}{'' if pfn else ', and this kind has no frame of the host'}.")
    if not isinstance(three[2], str) or not {*three[2]} <= {*"RWX"}:
        raise refused("rights are text with some of the letters R, W and X", three[2])
    if wrong := {*three[2]} ^ {*rights}:
        letter = min(wrong, key="RWX".index)
        bit = "RWX".index(letter)
        raise Wrong(f"bit {bit}, {letter}, is {given.spte >> bit & 1}.")
    return f"{_why_kind(given)}."


def _why_kind(given: Value) -> str:
    spte, kind = given.spte, decode(given.spte, given.level).kind
    if kind == "frozen":
        return "this value, which is not present, is KVM's mark for hands off"
    if kind == "mmio":
        return "bit 11 is clear, W and X are set without R: mmio"
    if kind == "non-present":
        return "bit 11 is clear: non-present"
    if given.level == 1:
        return "bit 11 is set, and at level 1 each present entry is a leaf"
    return f"bit 11 is set, and bit 7 is {spte >> 7 & 1} at level {given.level}: a {kind}"


def _hold_child(given: Value, answer: Any) -> str:
    said = parse_entry(answer) if isinstance(answer, str) else as_integer(answer, "an entry")
    if not 0 <= said < 1 << 64:
        raise refused("an entry has 64 bits", answer)
    child = read_entry(given.child.spte, given.child.level)
    for field in reversed(child.fields):
        mine = field.value_in(said)
        if mine != field.value:
            bits = f"bit {field.bits} is" if field.high == field.low else f"bits {field.bits} are"
            parent = field.value_in(given.spte)
            raise Wrong(
                f"{bits} {mine:#x} in your value, {field.value:#x} in the child and {parent:#x} in the "
                f"parent ({field.name})."
            )
    return f"{child.kind} of {child.label}, frame {child.pfn:#x}."


# ---- solved ------------------------------------------------------------------------------------------------


def work(given: Value) -> str:
    """Kind, frame, rights; for a child the rules in turn."""
    return steps(_taken_apart(given) if given.index is None else _made(given))


def _taken_apart(given: Value) -> Iterator[str]:
    _, pfn, rights = right(given)
    yield f"Kind: {_why_kind(given)}."
    yield f"Frame: bits 51:12 are {given.entry.pfn:#x}" + (
        "." if pfn else "; only a leaf and a table have a frame of the host, so None."
    )
    low = given.spte & 7
    yield f"Rights: bits 2:0 are {low:03b}, so {rights or 'none'}."


def _made(given: Value) -> Iterator[str]:
    child, parent = given.child, given.entry
    size = X86_5LEVEL.pages(child.level)
    made = read_entry(child.spte, child.level)
    yield (
        f"A child covers {made.label}, so the frame is {parent.pfn:#x} + {child.index} × {size:#x} = "
        f"{made.pfn:#x}."
    )
    if child.level > 1:
        yield "The child has 2M, so bit 7 stays, and the mitigation, a rule for 4K, changes nothing."
        return
    yield "The child has 4K, so bit 7 goes."
    if not given.nx:
        yield "The mitigation is off: the rights stay."
        return
    bits = "bits 54 and 62 (the entry is access-tracked)" if parent.is_access_tracked else "bits 2 and 10"
    does, done = ("allows", "set") if given.exec_allowed else ("forbids", "cleared")
    yield f"The mitigation is on, and the role {does} execution: {bits} are {done}."


KIND = Kind("decode an entry", draw, ask, form, right, hold, work)
