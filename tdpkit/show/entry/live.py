"""The entry decoder, live: an entry typed, chosen or picked from real tables, bit by bit, and its children.

Its choice is an entry, its level and layout, a child's index and the NX-huge-page rule. A 64-bit value is
text in the browser and an integer here; no control holds it as a number, which a browser would round.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, ClassVar, NamedTuple

import ipywidgets

from tdpkit.engine.gfn import X86_5LEVEL, InvalidValueError, check_gfn, format_gfn, parse_gfn
from tdpkit.lab.entries import Found, entry_on_the_way, parse_entry, read_entry
from tdpkit.lab.guest import Guest
from tdpkit.lab.spte_guess import guess_guard, guess_layout
from tdpkit.lab.spte_layouts import EPT_7_2, LAYOUTS
from tdpkit.lab.words import capital

from ..drawing import Picture, Track
from ..exhibit import Exhibit, address_field, fold, line
from ..handles import slider
from ..theme import Palette
from .picture import entry_svg, entry_table, entry_text
from .state import EntryState, entry_state
from .words import EntryWords, entry_words, way_note

_GEOMETRY = X86_5LEVEL
"""It has every level there is; a machine with fewer differs in its root alone."""


GUESS = "guess"
"""Among the layouts: take the one that the value fits."""


class EntryExample(NamedTuple):
    """An entry worth a look: its name in the menu, its value, its level and its layout."""

    title: str
    spte: int
    level: int
    layout: str = EPT_7_2.name


EXAMPLES = {
    "2M": EntryExample("2M leaf", 0x80A0_0001_C8A0_0FB7, 2),
    "1G": EntryExample("1G leaf", 0x80A1_9DA4_C000_0FB7, 3),
    "4K": EntryExample("4K leaf", 0x80A0_0001_C8A0_3F37, 1),
    "table": EntryExample("table", 0x8000_0000_0123_4D07, 2),
    "empty": EntryExample("empty", 0x8000_0000_0000_0000, 1),
    "frozen": EntryExample("FROZEN", 0x8000_0000_0000_05A0, 1),
    "mmio": EntryExample("MMIO", 0x0000_0000_FEE0_0006, 1),
    "write-protected": EntryExample("2M leaf, write-protected", 0x80A0_C6E3_8CA0_0FB5, 2),
    "dirty-cleared": EntryExample("2M leaf, Dirty cleared", 0x80A3_F430_86A0_0DB7, 2),
    "access-tracked": EntryExample("2M leaf, access-tracked", 0xD0F1_8DA7_E660_0AB0, 2),
    "nx": EntryExample("2M leaf, not executable (NX)", 0x80A2_1F9B_3120_0BB3, 2),
    "unaligned": EntryExample("no leaf: its frame is askew", 0x80A0_0001_C8A0_3FB7, 2),
    "5.13": EntryExample("2M leaf of 5.13, NX", 0x0600_0003_2260_0BF3, 2, "ept-5.13"),
    "5.12": EntryExample("4K leaf of 5.12", 0x0000_0003_10AA_1F77, 1, "ept-5.12"),
    "npt": EntryExample("2M leaf of NPT, NX", 0x8000_0003_2260_0EE7, 2, "npt-7.2"),
    "guarded": EntryExample("MMIO of 5.13, guard bits", 0x0000_3E00_FEE0_0056, 1, "ept-5.13"),
}
"""Entries by name; sources: S20-S25, S260-S262, and huge leaves recorded from the kernel (spte_bits)."""


class PickedGuest(NamedTuple):
    """A guest to pick entries from: its name in the menu, and the address it opens at."""

    title: str
    at: str


MACHINES = {
    "mixed": PickedGuest("4 GiB of mixed leaves", "2G+512M"),
    "one-1G": PickedGuest("one 1G leaf at 1G", "1G"),
    "16T": PickedGuest("16 TiB of 2M leaves", "2T+4K"),
}
"""Machines by the name of their layout (tdpkit.lab.layouts)."""


class EntryChoice(NamedTuple):
    """What the controls say. The entry is typed, an example or picked from a machine."""

    entry: int
    """64 bits; typed in hexadecimal."""
    level: int
    """Asked for: what is picked may be found above, at `state.entry.level`."""
    example: str = ""
    """A name in EXAMPLES, which brings entry and level."""
    machine: str = ""
    """A name in MACHINES: its entry of `level` on the way to `at` is picked, or the one the way ends at."""
    at: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    exec_allowed: bool = True
    nx_huge_pages: bool = False
    layout: str = EPT_7_2.name
    """A name in LAYOUTS, or GUESS. An example brings its own; what is picked from a machine has 7.2's."""


class EntryDecoder(Exhibit[EntryChoice, EntryState]):
    """The exhibit. Display it; or read `choice`, `state` and `words`, and change it with `show`.

    entry: a name in EXAMPLES, or an entry found at `level` (1 to 5; an example has its own). `show` takes the
    fields of EntryChoice, but only one of entry, example and machine at a time. Raises InvalidTypeError or
    InvalidValueError for whatever breaks a rule.
    """

    prefix = "ed"
    good = "entry"
    reads: ClassVar = {"entry": parse_entry, "at": parse_gfn}
    names: ClassVar = {
        "example": ("", *EXAMPLES),
        "machine": ("", *MACHINES),
        "layout": (*LAYOUTS, GUESS),
    }

    def __init__(self, entry: str | int = "2M", level: int | None = None) -> None:
        self._guest = cache(lambda layout: Guest(layout, "plain"))
        known = isinstance(entry, str) and entry in EXAMPLES
        change: dict[str, Any] = {"example" if known else "entry": entry}
        change |= {} if level is None else {"level": level}
        super().__init__(EntryChoice(EXAMPLES["2M"].spte, EXAMPLES["2M"].level), **change)

    @property
    def words(self) -> EntryWords:
        """Title, answer, caption and rule of the state, as the picture says them."""
        return entry_words(self.state)

    def _opening(self, change: dict[str, Any]) -> EntryChoice:
        """A typed entry, an example and a pick replace each other.

        Another entry, level, layout or address begins with what was found; a child is one of what was asked
        for. Another layout leaves example and machine, whose entries have their own.
        """
        if len({"entry", "example", "machine"} & {*change}) > 1:
            raise InvalidValueError(
                "an entry is typed, an example or picked from a machine; take one of them"
            )
        choice = self.choice
        if choice.machine and not {*change} <= {"index", "exec_allowed", "nx_huge_pages"}:
            choice = choice._replace(level=self.state.entry.level)
        if "at" in change and not change.get("machine", choice.machine):
            raise InvalidValueError("an address says which entry of a machine; choose a machine first")
        if change.get("example"):
            _, spte, level, layout = EXAMPLES[change["example"]]
            return choice._replace(entry=spte, level=level, layout=layout, machine="")
        if change.get("machine"):
            at = parse_gfn(MACHINES[change["machine"]].at)
            return choice._replace(example="", at=at, layout=EPT_7_2.name)
        relaid = change.get("layout", choice.layout) != choice.layout
        if "entry" in change or relaid:
            return choice._replace(example="", machine="")
        moved = change.get("level", choice.level) != choice.level
        return choice._replace(example="" if moved else choice.example)

    def _chosen(self, change: dict[str, Any]) -> EntryChoice:
        choice = super()._chosen(change)
        if not choice.machine:
            return choice._replace(at=0)
        return choice._replace(entry=self._pick(choice).spte)

    def _pick(self, choice: EntryChoice) -> Found:
        return entry_on_the_way(self._guest(choice.machine).root, check_gfn(choice.at), choice.level)

    def _state_of(self, choice: EntryChoice) -> EntryState:
        level, note = choice.level, ""
        if choice.machine:
            found = self._pick(choice)
            level, note = found.level, way_note(found, level, choice.at, self._guest(choice.machine).geometry)
        layout = LAYOUTS.get(choice.layout)
        if layout is None:
            layout, reason, doubt = guess_layout([(choice.entry, level)])
            note = "\n".join([f"Layout guessed: {reason}.", *[f"{capital(doubt)}."] * bool(doubt)])
        guard = 0
        if layout.kind_of(choice.entry, level) == "mmio":
            guard, said = guess_guard(choice.entry, layout)
            note = "\n".join([note] * bool(note) + [f"{capital(said)}."] * bool(said))
        return entry_state(
            read_entry(choice.entry, level, _GEOMETRY, layout, guard),
            choice.index,
            exec_allowed=choice.exec_allowed,
            nx_huge_pages=choice.nx_huge_pages,
            note=note,
        )

    def _controls(self) -> Iterable[ipywidgets.Widget]:
        label = {"description_width": "64px"}
        wide = ipywidgets.Layout(width="auto", flex="1 1 240px")
        levels = [_GEOMETRY.level(number) for number in range(1, _GEOMETRY.root_level + 1)]
        self.entry_text = ipywidgets.Text(
            description="entry",
            tooltip="an entry: 64 bits in hexadecimal, such as 0x80a00001c8a00fb7",
            continuous_update=False,
            layout={"width": "260px"},
            style=label,
        )
        self.level_menu = ipywidgets.Dropdown(
            options=[(f"{number}: {size} per entry", number) for number, _, size in levels],
            description="at level",
            layout={"width": "240px"},
            style=label,
        )
        self.example_menu = ipywidgets.Dropdown(
            options=[("none", ""), *((example.title, name) for name, example in EXAMPLES.items())],
            description="example",
            layout=wide,
            style=label,
        )
        self.machine_menu = ipywidgets.Dropdown(
            options=[("no machine", ""), *((machine.title, name) for name, machine in MACHINES.items())],
            description="pick from",
            layout={"width": "320px"},
            style=label,
        )
        self.layout_menu = ipywidgets.Dropdown(
            options=[
                *((layout.title, name) for name, layout in LAYOUTS.items()),
                ("guess it from the value", GUESS),
            ],
            description="layout",
            tooltip="which kernels lay an entry out so",
            layout={"width": "330px"},
            style=label,
        )
        self.at_text = address_field("at", "2G+512M")
        self.index_number = ipywidgets.BoundedIntText(
            description="child",
            tooltip="index of the child in view",
            max=_GEOMETRY.entries - 1,
            layout={"width": "150px"},
            style=label,
        )
        check = {"indent": False, "layout": {"width": "auto"}}
        self.nx_box = ipywidgets.Checkbox(
            description="NX huge pages", tooltip="the mitigation that forbids executable huge pages", **check
        )
        self.exec_box = ipywidgets.Checkbox(
            description="role.access has x", tooltip="the child's page allows execution", **check
        )
        self.bind(lambda spte: f"{spte:#018x}", entry=self.entry_text)
        self.bind(lambda _: self.state.entry.level, level=self.level_menu)
        self.bind(lambda at: format_gfn(at) if self.choice.machine else "", at=self.at_text)
        self.bind(
            example=self.example_menu,
            layout=self.layout_menu,
            machine=self.machine_menu,
            index=self.index_number,
            nx_huge_pages=self.nx_box,
            exec_allowed=self.exec_box,
        )
        self.spots["bit"] = self._flip
        self.moving["index"] = lambda: self.choice.index
        self.tracks["index"] = self._cursor
        self.follow(self.index_number, disabled=lambda: not self.state.child)
        self.pick_button, picks = fold(
            self, "pick from a machine", lambda: bool(self.choice.machine), self.machine_menu, self.at_text
        )
        return (
            line(self.entry_text, self.level_menu, self.example_menu),
            line(self.layout_menu, self.pick_button, ipywidgets.Label("a click on a bit flips it")),
            line(self.index_number, self.nx_box, self.exec_box),
            picks,
        )

    def _flip(self, bit: str) -> None:
        self.propose(entry=self.choice.entry ^ 1 << int(bit))

    def _cursor(self, track: Track, number: int) -> list[dict[str, Any]]:
        last, index = _GEOMETRY.entries - 1, self.choice.index
        text = f"child {index} of {_GEOMETRY.entries}"
        return [slider(track, number, "cursor", "child", text, 0, last, of="index", page=64)]

    def _svg(self, palette: Palette, ids: str = "") -> Picture:
        return entry_svg(self.state, palette, ids)

    def _text(self) -> str:
        return entry_text(self.state)

    def _table(self) -> str:
        return entry_table(self.state)
