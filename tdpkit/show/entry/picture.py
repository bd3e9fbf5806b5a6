"""The entry decoder's markup: a picture, lines and a table of one state, all pure functions of it."""

from __future__ import annotations

from tdpkit.lab.entries import Child, Field, bit_numbers
from tdpkit.lab.words import html_table

from ..drawing import LEFT, LINE, RIGHT, WIDTH, Drawing, text_width
from ..theme import Palette
from .state import EntryState
from .words import READERS, entry_words

_PER_ROW = 32
"""Half an entry to a row: 64 bits in one would leave each 14 units, too few for its digit and its number."""
_BITS_LEFT, _BIT, _NIBBLE, _BOX = 82, 27, 4, 24
"""Boxes begin right of the words "entry" and "child"; 32 of them and a gap after each nibble end at 974."""
_ROW, _ROW_WITH_CHILD = 68, 108
"""Numbers, the entry's boxes and the fields' labels; with a child, its boxes and the marks below them."""
_ENTRY_TOP, _CHILD_TOP = 16, 62
"""Where the boxes begin in a row."""
_FILLS = {"frame": "leaf2", "CPU": "leaf1", "KVM": "hole", "": "paper"}
"""Grounds of the boxes by who reads them: the frame darkest, for it is what a split changes; KVM's own also
have a bar, which does not depend on colour."""
_COLUMNS = {"bits": 24, "label": 72, "name": 122, "value": 344, "child": 452, "meaning": 574}
"""Columns of the list, as wide as the longest of each: "51:12", a label, the kernel's name, 12 digits."""
_MEANING_ALONE = 468
"""Where the meaning begins if there is no child."""


def entry_svg(state: EntryState, palette: Palette, ids: str = "") -> str:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    said = entry_words(state)
    bits_top = 68 + LINE * len(said.below)
    row = _ROW_WITH_CHILD if state.child else _ROW
    caption_top = bits_top + 2 * row + 16
    legend_top = caption_top + (44 if said.rule else 26)
    list_top = legend_top + 32
    drawing = Drawing(WIDTH, list_top + LINE * len(state.entry.fields) + 14, palette, ids, "ed")
    y = drawing.headed(said.title, said.answer, said.role)
    for number, (text, role) in enumerate(said.below, start=1):
        drawing.text(LEFT, y + LINE * number, text, role)
    for half in range(2):
        _draw_half(drawing, state, 63 - half * _PER_ROW, bits_top + half * row)
    drawing.text(LEFT, caption_top, said.caption, size=13, weight=600)
    if said.rule:
        drawing.text(LEFT, caption_top + LINE, said.rule)
    _draw_legend(drawing, state, legend_top)
    _draw_list(drawing, state, list_top)
    return drawing.svg(said.title, said.answer)


def entry_text(state: EntryState) -> str:
    """`state` in plain text: the answer, then a line per field."""
    said = entry_words(state)
    lines = [f"{said.title}. {said.answer}", *(text for text, _ in said.below), said.caption]
    lines += [said.rule] * bool(said.rule)
    for field in state.entry.fields:
        child = _child_value(field, state.child)
        value = (
            f"{_hex(field.value)} → {_hex(child)}" if child not in (None, field.value) else _hex(field.value)
        )
        lines.append(f"bits {field.bits}  {field.name} = {value}: {field.meaning}")
    return "\n".join(lines)


def entry_table(state: EntryState) -> str:
    """`state` as an HTML table for those who read rather than look: the picture's text twin."""
    said = entry_words(state)
    heads = ["bits", "name", "value", "meaning", *(["in the child"] if state.child else [])]

    def cells(field: Field) -> list[str]:
        child = _child_value(field, state.child)
        last = [] if child is None else ["the same" if child == field.value else _hex(child)]
        return [field.bits, field.name, _hex(field.value), field.meaning, *last]

    below = (f"{text.rstrip('.')}." for text, _ in said.below)
    caption = " ".join([f"{said.title}. {said.answer}", *below, said.caption, said.rule]).strip()
    return html_table(caption, heads, map(cells, state.entry.fields))


def _hex(value: int | None) -> str:
    return "" if value is None else f"{value}" if value < 2 else f"{value:#x}"


def _child_value(field: Field, child: Child | None) -> int | None:
    return None if child is None else field.value_in(child.spte)


# ---- the bits ------------------------------------------------------------------------------------------


def _x(bit: int) -> int:
    column = _PER_ROW - 1 - bit % _PER_ROW
    return _BITS_LEFT + column * _BIT + column // 4 * _NIBBLE


def _draw_half(drawing: Drawing, state: EntryState, high: int, top: int) -> None:
    """Bits `high` down to ``high - 31``: their numbers, the entry, the fields' labels, the child."""
    drawing.text(LEFT, top + 32, "entry", weight=600)
    if state.child:
        drawing.text(LEFT, top + 78, "child", weight=600)
    for field in state.entry.fields:
        first, last = min(field.high, high), max(field.low, high - _PER_ROW + 1)
        if first < last:
            continue
        for bit in range(first, last - 1, -1):
            drawing.text(_x(bit) + _BIT // 2, top + 11, f"{bit}", "muted", size=9, anchor="middle")
            _draw_bit(drawing, field, state.entry.spte, bit, top + _ENTRY_TOP)
            if state.child:
                _draw_bit(drawing, field, state.child.spte, bit, top + _CHILD_TOP)
        _draw_label(drawing, field, _x(first), _x(last) + _BIT, top + 40)
    if state.child:
        _draw_changes(drawing, state.child, high, top + _CHILD_TOP)


def _draw_bit(drawing: Drawing, field: Field, spte: int, bit: int, top: int) -> None:
    digit = spte >> bit & 1
    drawing.rect(_x(bit), top, _BIT, _BOX, drawing.palette[_FILLS[field.reader]], "line")
    if field.reader == "KVM":
        drawing.path(f"M{_x(bit) + 1} {top + 2} H{_x(bit) + _BIT - 1}", "range", width=3)
    role, weight = ("ink", 700) if digit else ("muted" if not field.reader else "ink", 400)
    drawing.text(_x(bit) + _BIT // 2, top + 17, f"{digit}", role, anchor="middle", mono=True, weight=weight)


def _draw_label(drawing: Drawing, field: Field, left: int, right: int, top: int) -> None:
    if field.label:
        if right - left > _BIT:
            drawing.path(f"M{left + 2} {top + 3} V{top + 6} H{right - 2} V{top + 3}", "line")
        drawing.text((left + right) // 2, top + 17, field.label, anchor="middle", size=10, weight=600)


def _draw_changes(drawing: Drawing, child: Child, high: int, top: int) -> None:
    for mask, role, glyph in (
        (child.frame_bits, "split-mark", _triangle),
        (child.other_bits, "crossing-mark", _diamond),
    ):
        for bit in bit_numbers(mask):
            if high - _PER_ROW < bit <= high:
                x = _x(bit)
                drawing.path(f"M{x} {top} H{x + _BIT} V{top + _BOX} H{x} Z", role, width=3)
                drawing.path(glyph(x + _BIT // 2, top + _BOX + 5), fill=role)


def _triangle(x: int, top: int) -> str:
    return f"M{x} {top} L{x + 5} {top + 9} H{x - 5} Z"


def _diamond(x: int, top: int) -> str:
    return f"M{x} {top} L{x + 5} {top + 5} L{x} {top + 10} L{x - 5} {top + 5} Z"


# ---- words ---------------------------------------------------------------------------------------------


def _draw_legend(drawing: Drawing, state: EntryState, top: int) -> None:
    readers = {field.reader for field in state.entry.fields}
    left = LEFT
    for reader, name in READERS.items():
        if reader in readers:
            drawing.rect(left, top - 11, 16, 14, drawing.palette[_FILLS[reader]], "line")
            if reader == "KVM":
                drawing.path(f"M{left + 1} {top - 9} H{left + 15}", "range", width=3)
            drawing.text(left + 22, top, name, "muted")
            left += 22 + text_width(name) + 20
    if not state.child:
        return
    for glyph, role, name in (
        (_triangle, "split-mark", "frame bit of the child's index"),
        (_diamond, "crossing-mark", "other bit that changed"),
    ):
        drawing.path(glyph(left + 8, top - 9), fill=role)
        drawing.text(left + 22, top, name, "muted")
        left += 22 + text_width(name) + 20


def _draw_list(drawing: Drawing, state: EntryState, top: int) -> None:
    columns = {name: x for name, x in _COLUMNS.items() if state.child or name != "child"}
    if not state.child:
        columns["meaning"] = _MEANING_ALONE
    heads = {"label": "", "child": "in the child"}
    for name, x in columns.items():
        drawing.text(x, top, heads.get(name, name), "muted", size=11, weight=600)
    for number, field in enumerate(state.entry.fields, start=1):
        y = top + LINE * number
        drawing.path(f"M{LEFT} {y - 13} H{RIGHT}", "grid")
        drawing.text(columns["bits"], y, field.bits, mono=True)
        drawing.text(columns["label"], y, field.label, weight=600)
        drawing.text(columns["name"], y, field.name, "muted", mono=True, size=11)
        drawing.text(columns["value"], y, _hex(field.value), mono=True, weight=600)
        drawing.text(columns["meaning"], y, field.meaning)
        if state.child:
            _draw_child_value(drawing, field, state.child, columns["child"], y)


def _draw_child_value(drawing: Drawing, field: Field, child: Child, x: int, y: int) -> None:
    value = field.value_in(child.spte)
    if value == field.value:
        drawing.text(x, y, "the same", "muted", size=11)
        return
    frame = bool(child.frame_bits & field.mask)
    role = "split-mark" if frame else "crossing-mark"
    drawing.path((_triangle if frame else _diamond)(x + 5, y - 9), fill=role)
    drawing.text(x + 15, y, _hex(value), role, mono=True, weight=700)
