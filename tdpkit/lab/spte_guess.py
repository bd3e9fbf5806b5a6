"""Guess which layout entries have, from their values alone, and say what decided and what stays open.

A value fits a layout if KVM of that age could have made it: no bit set that the layout does not use, none
clear that all its entries have. The layout that most values fit is taken, so a few stale ones do not decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tdpkit.engine.gfn import PG_LEVEL_1G, PG_LEVEL_4K
from tdpkit.engine.spte import (
    PT_PAGE_SIZE_MASK,
    SPTE_BASE_ADDR_MASK,
    VMX_EPT_READABLE_MASK,
    VMX_EPT_RWX_MASK,
    VMX_EPT_SUPPRESS_VE_BIT,
    VMX_EPT_USER_EXECUTABLE_MASK,
    VMX_EPT_WRITABLE_MASK,
)

from .spte_layouts import (
    LAYOUTS,
    MEMORY_TYPES,
    PT_CACHING,
    SpteLayout,
    guard_bits,
    guard_widths,
    memory_type,
    mmio_gfn,
    used_bits,
)
from .words import count_of, listed

_USUAL_TYPES = (0, 6)
"""UC for a device and WB for memory; the others need a guest whose MTRRs have a say."""


class Guess(NamedTuple):
    """A layout, and two sentences (without a full stop) about the choice."""

    layout: SpteLayout
    reason: str
    """What decided."""
    doubt: str
    """Which other layouts the values fit as well; empty if there is none."""


def guess_layout(
    entries: Iterable[tuple[int, int]], among: Iterable[SpteLayout] = tuple(LAYOUTS.values())
) -> Guess:
    """The layout of `among` that most of `entries`, pairs of value and level, fit; of equals the first.

    Each value counts once. Of layouts that equally many fit, the one wins in which more values are usual: a
    writable leaf that the host and KVM's MMU let be writable, memory that is write-back or uncached.
    """
    values = dict(entries)
    layouts = tuple(among)
    fitting = {layout: [pair for pair in values.items() if fits(*pair, layout)] for layout in layouts}
    usual = {layout: sum(_is_usual(*pair, layout) for pair in found) for layout, found in fitting.items()}
    best = max(layouts, key=lambda layout: (len(fitting[layout]), usual[layout]))
    if not values:
        return Guess(best, "there is no value to go by", "")
    if not fitting[best]:
        return Guess(best, "no value fits any layout", f"{best.name} is as good as any")
    rivals = [one for one in layouts if one != best and set(fitting[one]) >= set(fitting[best])]
    return Guess(best, _reason(best, fitting[best], len(values)), _doubt(best, rivals, usual, len(values)))


def fits(spte: int, level: int, layout: SpteLayout) -> bool:
    """Whether KVM of this layout could have `spte` in a table of `level`.

    As strict as the flaws of :func:`tdpkit.lab.entries.read_entry`, on masks alone.
    """
    kind = layout.kind_of(spte, level)
    if kind == "non-present":
        return spte in layout.empty
    if kind == "frozen":
        return True
    if kind == "mmio":
        return not spte & VMX_EPT_SUPPRESS_VE_BIT
    used = used_bits(layout)
    if spte & used.needed != used.needed or spte & layout.ad_type == layout.ad_type:
        return False
    if not _rights_agree(spte, layout) or spte & ~(used.table if kind == "table" else used.leaf):
        return False
    if kind == "table":
        return True
    if level > PG_LEVEL_1G or (spte & SPTE_BASE_ADDR_MASK) % (0x1000 << 9 * (level - 1)):
        return False
    if level == PG_LEVEL_4K and spte & PT_PAGE_SIZE_MASK:
        return False
    return not layout.is_ept or memory_type(spte) in MEMORY_TYPES


def _rights_agree(spte: int, layout: SpteLayout) -> bool:
    if spte & VMX_EPT_WRITABLE_MASK and not spte & VMX_EPT_READABLE_MASK:
        return False
    return spte & layout.executable in (0, layout.executable)


def is_likely(spte: int, level: int, layout: SpteLayout) -> bool:
    """Whether `spte` fits `layout` at `level`, and is a usual value there."""
    return fits(spte, level, layout) and _is_usual(spte, level, layout)


def _is_usual(spte: int, level: int, layout: SpteLayout) -> bool:
    kind = layout.kind_of(spte, level)
    if kind == "mmio":  # from 5.13 bits 53:52 are part of a generation that seldom gets so far
        return not layout.has_present_bit or spte >> 52 & 3 != 3
    if kind == "table":
        granted = layout.readable | layout.writable | layout.user | layout.executable
        return spte & granted == granted
    if kind != "leaf":
        return True
    writable = layout.host_writable | layout.mmu_writable
    if spte & layout.writable and spte & writable != writable:
        return False
    if spte & layout.saved and not layout.is_access_tracked(spte):
        return False
    return memory_type(spte) in _USUAL_TYPES if layout.is_ept else not spte & PT_CACHING


class GuardGuess(NamedTuple):
    """The guard bits of an MMIO entry, as a mask (0: none), and a sentence about them, empty for none."""

    guard: int
    said: str


def guess_guard(
    spte: int, layout: SpteLayout, phys_bits: int | None = None, gfn: int | None = None
) -> GuardGuess:
    """Which address bits of an MMIO entry are guard bits (S262).

    phys_bits: the host's physical address bits, if known; gfn: the guest frame that it should stand for, if
    known: it decides between widths. Raises InvalidValueError for a width that no host of the kind has.
    """
    widths = guard_widths(spte, layout)
    if phys_bits is not None:
        guard = guard_bits(phys_bits)
        if guard & ~spte:
            return GuardGuess(
                0, f"no guard bits: of a host's {phys_bits} bits the five highest are not all set"
            )
        return GuardGuess(guard, _say_guard([phys_bits], phys_bits))
    if not widths or gfn == mmio_gfn(spte, layout):
        return GuardGuess(0, "")
    frames = {width: mmio_gfn(spte, layout, guard_bits(width)) for width in widths}
    fitting = [width for width in widths if frames[width] == gfn] or list(widths)
    width = fitting[-1]
    said = _say_guard(fitting, width)
    if len(fitting) > 1:
        others = [f"{frames[other]:#x} with {other}" for other in fitting if frames[other] != frames[width]]
        said += f"; the frame would be {listed(others)}" if others else "; the frame is the same"
    if frames[width] != gfn:
        said += f"; without guard bits it would be frame {mmio_gfn(spte, layout):#x}"
    return GuardGuess(guard_bits(width), said)


def _say_guard(widths: Iterable[int], width: int) -> str:
    host = f"a host with {listed(map(str, widths), 'or')} physical address bits"
    return f"bits {width - 1}:{width - 5} are guard bits, no part of the frame, on {host}"


# ---- in words ----------------------------------------------------------------------------------------


def _reason(layout: SpteLayout, fitting: list[tuple[int, int]], values: int) -> str:
    seen = dict.fromkeys(mark for pair in fitting for mark in _marks(*pair, layout))
    every = {1: "the value fits", 2: "both values fit"}.get(values, f"all {values} values fit")
    some = f"{len(fitting)} of {count_of(values, 'value')} {'fits' if len(fitting) == 1 else 'fit'}"
    return f"{every if len(fitting) == values else some}: {listed(seen)}"


def _marks(spte: int, level: int, layout: SpteLayout) -> Iterator[str]:
    """What in `spte` tells its layout from others."""
    kind = layout.kind_of(spte, level)
    if kind == "frozen":
        yield f"{spte:#x} means frozen"
    elif kind == "non-present":
        yield f"an empty entry is {spte:#x}"
    elif kind == "mmio":
        yield _mmio_mark(layout)
    else:
        yield from _present_marks(spte, kind, layout)


def _mmio_mark(layout: SpteLayout) -> str:
    if not layout.has_present_bit:
        return f"an MMIO entry has 3 in bits 53:52 and {'W and X without R' if layout.is_ept else 'P'}"
    return f"an MMIO entry has {'W and X without R' if layout.is_ept else 'P and bit 51 without bit 11'}"


def _present_marks(spte: int, kind: str, layout: SpteLayout) -> Iterator[str]:
    if not layout.is_ept:
        yield "P, W, U, A and D are where page tables have them"
    if kind == "table":
        yield f"tables {'have' if layout.has_present_bit else 'lack'} bit 11"
    writable = [bit for bit in range(64) if (layout.host_writable | layout.mmu_writable) >> bit & 1]
    if kind == "leaf" and spte & layout.host_writable:
        yield f"host- and MMU-writable are bits {listed(map(str, writable))}"
    if layout.is_ept and layout.has_present_bit:
        yield f"bit 63 is {'set' if layout.suppress_ve else 'clear'} in present entries"
        if spte & VMX_EPT_RWX_MASK & layout.executable:
            with_it = layout.executable & VMX_EPT_USER_EXECUTABLE_MASK
            yield f"X comes {'with' if with_it else 'without'} bit 10"


def _doubt(best: SpteLayout, rivals: list[SpteLayout], usual: dict[SpteLayout, int], values: int) -> str:
    equal = [rival.name for rival in rivals if usual[rival] >= usual[best]]
    rarer = [rival.name for rival in rivals if usual[rival] < usual[best]]
    fit = "the value fits" if values == 1 else "the values fit"
    said = f"{fit} {listed(equal)} as well" if equal else ""
    if rarer:
        said += f"{f', and {listed(rarer)}' if said else f'{fit} {listed(rarer)} as well'}, with rarer bits"
    return said
