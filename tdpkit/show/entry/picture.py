"""The entry decoder's markup: a picture, lines and a table of one state, all pure functions of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from tdpkit.lab.entries import Child, Field, bit_numbers
from tdpkit.lab.words import html_table

from ..drawing import LEFT, LINE, RIGHT, WIDTH, Drawing, Key, Picture, Spot, Track, box, diamond
from ..theme import Palette
from .state import EntryState
from .words import READERS, entry_words

_PER_ROW = 32
"""Half an entry to a row: 64 bits in one would leave each 14 units, too few for its digit and its number."""
_BITS_LEFT, _BIT, _NIBBLE = 82, 27, 4
"""Boxes begin right of the words "entry" and "child"; 32 of them and a gap after each nibble end at 974."""
_BITS_RIGHT = _BITS_LEFT + _PER_ROW * _BIT + (_PER_ROW // 4 - 1) * _NIBBLE
_ENTRY, _CHILD = (14, 41), (64, 82)
"""From where to where the boxes go in a row, below the numbers, and below the fields' labels. The entry's are
square, to be pressed."""
_ROW = 100
"""Both, and the marks of what changed. A row without a child is no lower: flipped back and forth, a bit stays
under the pointer."""
_STRIP = 12
"""Height of the children's strip; its track is twice as high, to be grasped."""
_LINE = 16
"""From line to line of the list: a field takes one."""
_FILLS = {"frame": "leaf2", "CPU": "leaf1", "KVM": "hole", "": "paper"}
"""Grounds of the boxes by who reads them: the frame darkest, for it is what a split changes; KVM's own also
have a bar, which does not depend on colour."""
_COLUMNS = {"bits": 24, "label": 72, "name": 122, "value": 344, "child": 452, "meaning": 574}
"""Columns of the list, as wide as the longest of each: "51:12", a label, the kernel's name, 12 digits."""
_MEANING_ALONE = 468
"""Where the meaning begins if there is no child."""


def entry_svg(state: EntryState, palette: Palette, ids: str = "") -> Picture:
    """`state` as an SVG string in the colours of `palette`; `ids` prefixes every id in it."""
    said = entry_words(state)
    drawing = Drawing(WIDTH, 0, palette, ids, "ed")
    top = drawing.headed(said.title, said.answer, said.role) + 12
    _draw_bits(drawing, state, top)
    below = [(text, role, 12, 400) for text, role in said.below]
    if state.child:
        y = top + 2 * _ROW + 3 + _STRIP
        _draw_children(drawing, state.child, state.entry.geometry.entries, y - _STRIP)
        below += [(said.caption, "ink", 13, 600), (said.rule, "ink", 12, 400)]
    else:
        drawing.text(_BITS_LEFT, top + _CHILD[1] - 5, said.caption, size=13, weight=600)
        y = top + _ROW + _CHILD[0]
    y += 4
    for text, role, size, weight in below:
        y += LINE
        drawing.text(LEFT, y, text, role, size=size, weight=weight)
    y = _draw_list(drawing, state, y + 22)
    y = drawing.keys(y + 24, _keys(drawing, state))
    drawing.height = y + 14
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


def _place(bit: int, top: int) -> tuple[int, int]:
    """The left end of a bit's boxes, and the top of its row."""
    row, column = divmod(63 - bit, _PER_ROW)
    return _BITS_LEFT + column * _BIT + column // 4 * _NIBBLE, top + row * _ROW


def _bits(field: Field) -> range:
    return range(field.high, field.low - 1, -1)


def _draw_bits(drawing: Drawing, state: EntryState, top: int) -> None:
    """Two rows: the bits' numbers, the entry, the fields' labels, the child; a press flips a bit."""
    fields, child = state.entry.fields, state.child
    _draw_boxes(drawing, fields, top, [_ENTRY, _CHILD] if child else [_ENTRY])
    _draw_digits(drawing, fields, state.entry.spte, top + 32, 14)
    drawing.texts(_above(range(64), top + 10), "muted", anchor="middle")
    _draw_labels(drawing, fields, top)
    words = [("entry", 32)]
    if child:
        _draw_digits(drawing, fields, child.spte, top + 77, 12)
        _draw_changes(drawing, child, top)
        words.append(("child", 77))
    rows = [(LEFT, top + row + down, word) for row in (0, _ROW) for word, down in words]
    drawing.texts(rows, weight=600)
    for field in fields:
        for bit in _bits(field):
            x, y = _place(bit, top)
            label = f"bit {bit}, {field.name}"
            is_set = bool(state.entry.spte >> bit & 1)
            drawing.spot(Spot(f"bit:{bit}", label, x, y + _ENTRY[0], x + _BIT, y + _ENTRY[1], is_set))


def _above(bits: Iterable[int], top: int) -> list[tuple[int, int, str]]:
    """The numbers of bits, each in the middle of its box."""
    return [(x + _BIT // 2, y, f"{bit}") for bit in bits for x, y in [_place(bit, top)]]


def _draw_boxes(drawing: Drawing, fields: Iterable[Field], top: int, rows: Iterable[tuple[int, int]]) -> None:
    boxes, bars = dict.fromkeys(_FILLS, ""), ""
    for field in fields:
        for bit in _bits(field):
            x, y = _place(bit, top)
            for upper, lower in rows:
                boxes[field.reader] += box(x, y + upper, x + _BIT, y + lower)
                bars += f"M{x + 1} {y + upper + 2} H{x + _BIT - 1}" * (field.reader == "KVM")
    for reader, d in boxes.items():
        drawing.path(d, "line", fill=_FILLS[reader])
    drawing.path(bars, "range", width=3)


def _draw_digits(drawing: Drawing, fields: Iterable[Field], spte: int, y: int, size: int) -> None:
    """The ones bold, the zeros that nobody reads pale."""
    looks: dict[tuple[str, int], list[tuple[int, int, str]]] = {}
    for field in fields:
        for bit in _bits(field):
            digit = spte >> bit & 1
            look = ("ink", 700) if digit else ("ink" if field.reader else "muted", 400)
            left, at = _place(bit, y)
            looks.setdefault(look, []).append((left + _BIT // 2, at, f"{digit}"))
    for (role, weight), places in looks.items():
        drawing.texts(places, role, size=size, anchor="middle", weight=weight, mono=True)


def _draw_labels(drawing: Drawing, fields: Iterable[Field], top: int) -> None:
    """Below the middle of each field's bits in a row, with a bracket if there are several."""
    labels: dict[str, list[tuple[int, int, str]]] = {"ink": [], "muted": []}
    brackets = ""
    for field in fields:
        role = "ink" if field.reader else "muted"
        for row in (range(63, 31, -1), range(31, -1, -1)):
            bits = [bit for bit in row if field.low <= bit <= field.high]
            if bits and field.label:
                (left, y), (last, _) = _place(bits[0], top), _place(bits[-1], top)
                right = last + _BIT
                labels[role].append(((left + right) // 2, y + 59, field.label))
                brackets += f"M{left + 2} {y + 44} V{y + 47} H{right - 2} V{y + 44}" * (len(bits) > 1)
    drawing.path(brackets, "line")
    for role, places in labels.items():
        drawing.texts(places, role, anchor="middle")


def _triangle(x: int, y: int) -> str:
    return f"M{x} {y - 5} L{x + 5} {y + 4} H{x - 5} Z"


_Glyph = Callable[[int, int], str]
_CHANGES: tuple[tuple[str, _Glyph, str], ...] = (
    ("split-mark", _triangle, "frame bit of the child's index"),
    ("crossing-mark", diamond, "other bit that changed"),
)
"""Of the bits in which a child differs, in the frame field and elsewhere: role, mark, name."""


def _masks(child: Child) -> tuple[int, int]:
    return child.frame_bits, child.other_bits


def _draw_changes(drawing: Drawing, child: Child, top: int) -> None:
    for mask, (role, glyph, _) in zip(_masks(child), _CHANGES, strict=True):
        frames, marks = "", ""
        for bit in bit_numbers(mask):
            x, y = _place(bit, top)
            frames += box(x, y + _CHILD[0], x + _BIT, y + _CHILD[1])
            marks += glyph(x + _BIT // 2, y + _CHILD[1] + 7)
        drawing.path(frames, role, width=3)
        drawing.path(marks, fill=role)


def _draw_children(drawing: Drawing, child: Child, children: int, top: int) -> None:
    """The table of children as a strip, along which the one in view is chosen; a tick for each eighth."""
    bottom = top + _STRIP
    track = Track("index", ((0, _BITS_LEFT + 4), (children - 1, _BITS_RIGHT - 4)), top - 6, bottom + 6)
    (_, low), (last, high) = track.knots
    drawing.text(LEFT, bottom - 2, "index", weight=600)
    drawing.path(box(_BITS_LEFT, top, _BITS_RIGHT, bottom), "line", fill="paper")
    eighths = ((_BITS_RIGHT - _BITS_LEFT) * part // 8 + _BITS_LEFT for part in range(1, 8))
    drawing.path("".join(f"M{x} {top} V{bottom}" for x in eighths), "line")
    x = low + (high - low) * child.index // last
    drawing.rect(x - 4, top - 3, 9, _STRIP + 6, drawing.palette["ink"])
    drawing.track(track)


# ---- words ---------------------------------------------------------------------------------------------


def _keys(drawing: Drawing, state: EntryState) -> Iterable[Key]:
    def swatch(reader: str, x: int, y: int) -> None:
        drawing.rect(x, y - 11, 16, 14, drawing.palette[_FILLS[reader]], "line")
        if reader == "KVM":
            drawing.path(f"M{x + 1} {y - 9} H{x + 15}", "range", width=3)

    def mark(glyph: _Glyph, role: str, x: int, y: int) -> None:
        drawing.path(glyph(x + 8, y - 4), fill=role)

    readers = {field.reader for field in state.entry.fields}
    for reader, name in READERS.items():
        if reader in readers:
            yield Key(partial(swatch, reader), 16, name)
    if state.child:
        for mask, (role, glyph, name) in zip(_masks(state.child), _CHANGES, strict=True):
            if mask:
                yield Key(partial(mark, glyph, role), 16, name)


def _draw_list(drawing: Drawing, state: EntryState, top: int) -> int:
    """The fields that are read or set, a line each; the y of the last."""
    columns = {name: x for name, x in _COLUMNS.items() if state.child or name != "child"}
    if not state.child:
        columns["meaning"] = _MEANING_ALONE
    heads = {"label": "", "child": "in the child"}
    drawing.texts([(x, top, heads.get(name, name)) for name, x in columns.items()], "muted", weight=600)
    fields = [field for field in state.entry.fields if field.reader or field.value]
    lines = [(top + _LINE * number, field) for number, field in enumerate(fields, start=1)]
    drawing.path("".join(f"M{LEFT} {y - 12} H{RIGHT}" for y, _ in lines), "grid")

    def column(name: str, write: Callable[[Field], str], role: str = "ink", weight: int = 400) -> None:
        mono = name not in ("label", "meaning")
        places = [(columns[name], y, write(field)) for y, field in lines]
        drawing.texts(places, role, weight=weight, mono=mono)

    column("bits", lambda field: field.bits)
    column("label", lambda field: field.label, weight=600)
    column("name", lambda field: field.name, "muted")
    column("value", lambda field: _hex(field.value), weight=600)
    column("meaning", lambda field: field.meaning)
    if state.child:
        _draw_child_values(drawing, lines, state.child, columns["child"])
    return top + _LINE * len(lines)


def _draw_child_values(drawing: Drawing, lines: Iterable[tuple[int, Field]], child: Child, x: int) -> None:
    same = []
    for y, field in lines:
        value = field.value_in(child.spte)
        if value == field.value:
            same.append((x, y, "the same"))
        for mask, (role, glyph, _) in zip(_masks(child), _CHANGES, strict=True):
            if mask & field.mask:
                drawing.path(glyph(x + 5, y - 4), fill=role)
                drawing.text(x + 15, y, _hex(value), role, mono=True, weight=700)
    drawing.texts(same, "muted")
