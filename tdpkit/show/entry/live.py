"""The entry decoder, live: an entry typed, chosen or picked from real tables, bit by bit, and its children.

Its state is an entry, its level, a child's index and the NX-huge-page rule. A 64-bit value is text in the
browser and an integer here; no control holds it as a number, which a browser would round.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import ipywidgets

from tdpkit.engine.gfn import X86_5LEVEL, InvalidValueError, check_gfn, format_gfn
from tdpkit.lab.entries import entry_on_the_way, parse_entry, read_entry
from tdpkit.lab.guest import Guest

from ..exhibit import Exhibit, address_field, as_frame, check_flag, line
from ..theme import Palette
from .picture import entry_svg, entry_table, entry_text
from .state import EntryState, entry_state
from .words import way_note

_GEOMETRY = X86_5LEVEL
"""It has every level there is; a machine with fewer differs in its root alone."""


class Example(NamedTuple):
    """An entry worth a look: its name in the menu, its value, its level."""

    title: str
    spte: int
    level: int


EXAMPLES = {
    "2M": Example("2M leaf", 0x80A0_0001_C8A0_0FB7, 2),
    "1G": Example("1G leaf", 0x80A1_9DA4_C000_0FB7, 3),
    "4K": Example("4K leaf", 0x80A0_0001_C8A0_3F37, 1),
    "table": Example("table", 0x8000_0000_0123_4D07, 2),
    "empty": Example("empty", 0x8000_0000_0000_0000, 1),
    "frozen": Example("FROZEN", 0x8000_0000_0000_05A0, 1),
    "mmio": Example("MMIO", 0x0000_0000_FEE0_0006, 1),
    "write-protected": Example("2M leaf, write-protected", 0x80A0_C6E3_8CA0_0FB5, 2),
    "dirty-cleared": Example("2M leaf, Dirty cleared", 0x80A3_F430_86A0_0DB7, 2),
    "access-tracked": Example("2M leaf, access-tracked", 0xD0F1_8DA7_E660_0AB0, 2),
    "nx": Example("2M leaf, not executable (NX)", 0x80A2_1F9B_3120_0BB3, 2),
    "unaligned": Example("no leaf: its frame is askew", 0x80A0_0001_C8A0_3FB7, 2),
}
"""Entries by name; sources: kernel-facts 2.1b-2.5, and huge leaves recorded from the kernel (spte_bits)."""


class Machine(NamedTuple):
    """A guest to pick entries from: its name in the menu, and the address it opens at."""

    title: str
    at: str


MACHINES = {
    "mixed": Machine("4 GiB of mixed leaves", "2G+512M"),
    "one-1G": Machine("one 1G leaf at 1G", "1G"),
    "16T": Machine("16 TiB of 2M leaves", "2T+4K"),
}
"""Machines by the name of their layout (tdpkit.lab.layouts)."""


class Choice(NamedTuple):
    """What the controls say: all that the state follows from. No example and no machine: typed."""

    spte: int
    level: int
    example: str = ""
    machine: str = ""
    at: int = 0
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    exec_allowed: bool = True
    nx_huge_pages: bool = False


class EntryDecoder(Exhibit):
    """The exhibit. Display it; or read `state`, and change it with :meth:`show`.

    entry: a name in EXAMPLES, or an entry as :meth:`show` takes it, found at `level` (1 to 5; an example has
    its own). Raises InvalidTypeError or InvalidValueError for what breaks a rule, as :meth:`show` does.
    """

    prefix = "ed"
    good = "entry"

    def __init__(self, entry: str | int = "2M", level: int | None = None) -> None:
        self._guests: dict[str, Guest] = {}
        self.choice = Choice(EXAMPLES["2M"].spte, EXAMPLES["2M"].level, "2M")
        super().__init__()
        self._connect()
        if isinstance(entry, str) and entry in EXAMPLES:
            self.show(example=entry, level=level)
        else:
            self.show(entry=entry, level=level)

    # ---- the state --------------------------------------------------------------------------------------

    def show(  # type: ignore[override]  # the base class leaves the names open
        self,
        *,
        entry: str | int | None = None,
        level: int | None = None,
        example: str | None = None,
        machine: str | None = None,
        at: str | int | None = None,
        index: int | None = None,
        exec_allowed: bool | None = None,
        nx_huge_pages: bool | None = None,
    ) -> None:
        """Go to another state; what is not named stays.

        entry: 64 bits as an integer or in hexadecimal; example: a name in EXAMPLES; machine: a name in
        MACHINES, whose entry of `level` on the way to `at` is picked (the way may end above that level).
        Raises InvalidTypeError or InvalidValueError for what breaks a rule; the state is then as before.
        """
        if sum(source is not None for source in (entry, example, machine)) > 1:
            raise InvalidValueError(
                "an entry is typed, an example or picked from a machine; take one of them"
            )
        choice = self.choice
        if entry is not None:
            spte = parse_entry(entry) if isinstance(entry, str) else entry
            choice = choice._replace(spte=spte, example="", machine="")
        elif example is not None:
            choice = self._with_example(choice, example)
        elif machine is not None:
            choice = self._with_machine(choice, machine)
        if level is not None:
            moved = level != choice.level and example is None
            choice = choice._replace(level=level, example="" if moved else choice.example)
        if at is not None:
            if not choice.machine:
                raise InvalidValueError("an address says which entry of a machine; choose a machine first")
            choice = choice._replace(at=check_gfn(as_frame(at)))
        if exec_allowed is not None:
            choice = choice._replace(exec_allowed=check_flag(exec_allowed, "exec_allowed"))
        if nx_huge_pages is not None:
            choice = choice._replace(nx_huge_pages=check_flag(nx_huge_pages, "nx_huge_pages"))
        if index is not None:
            choice = choice._replace(index=index)
        self._go(choice)

    def _with_example(self, choice: Choice, name: str) -> Choice:
        if not name:
            return choice._replace(example="")
        if name not in EXAMPLES:
            raise InvalidValueError(f"an example is one of {', '.join(EXAMPLES)}; {name!r} is none")
        return choice._replace(spte=EXAMPLES[name].spte, level=EXAMPLES[name].level, example=name, machine="")

    def _with_machine(self, choice: Choice, name: str) -> Choice:
        if not name:
            return choice._replace(machine="")
        if name not in MACHINES:
            raise InvalidValueError(f"a machine is one of {', '.join(MACHINES)}; {name!r} is none")
        return choice._replace(machine=name, example="", at=as_frame(MACHINES[name].at))

    def _go(self, choice: Choice) -> None:
        note = ""
        if choice.machine:
            guest = self._guest(choice.machine)
            found = entry_on_the_way(guest.root, choice.at, choice.level)
            note = way_note(found, choice.level, choice.at, guest.geometry)
            choice = choice._replace(spte=found.spte, level=found.level)
        entry = read_entry(choice.spte, choice.level, _GEOMETRY)
        state = entry_state(
            entry,
            choice.index,
            exec_allowed=choice.exec_allowed,
            nx_huge_pages=choice.nx_huge_pages,
            note=note,
        )
        self.choice = choice._replace(spte=entry.spte, level=entry.level)
        self.state: EntryState = state
        self._sync()

    def _guest(self, layout: str) -> Guest:
        if layout not in self._guests:
            self._guests[layout] = Guest(layout, "plain")
        return self._guests[layout]

    # ---- the controls -----------------------------------------------------------------------------------

    def _build_controls(self) -> Iterable[ipywidgets.Widget]:
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
        self.at_text = address_field("the way to this address", "2G+512M")
        self.index_slider = ipywidgets.IntSlider(
            description="child", max=_GEOMETRY.entries - 1, layout=wide, style=label
        )
        check = {"indent": False, "layout": {"width": "auto"}}
        self.nx_box = ipywidgets.Checkbox(
            description="NX huge pages", tooltip="the mitigation that forbids executable huge pages", **check
        )
        self.exec_box = ipywidgets.Checkbox(
            description="role.access has x", tooltip="the child's page allows execution", **check
        )
        return (
            line(self.entry_text, self.level_menu, self.example_menu),
            line(self.machine_menu, ipywidgets.Label("on the way to"), self.at_text),
            line(self.index_slider, self.nx_box, self.exec_box),
        )

    def _connect(self) -> None:
        self.proposes(
            entry=self.entry_text,
            level=self.level_menu,
            example=self.example_menu,
            machine=self.machine_menu,
            at=self.at_text,
            index=self.index_slider,
            nx_huge_pages=self.nx_box,
            exec_allowed=self.exec_box,
        )

    def _follow(self, refused: bool) -> None:
        choice = self.choice
        if not refused:
            self.put(self.entry_text, value=f"{choice.spte:#018x}")
            self.put(self.at_text, value=format_gfn(choice.at) if choice.machine else "")
        self.put(self.level_menu, value=choice.level)
        self.put(self.example_menu, value=choice.example)
        self.put(self.machine_menu, value=choice.machine)
        self.put(self.index_slider, value=choice.index)
        self.put(self.nx_box, value=choice.nx_huge_pages)
        self.put(self.exec_box, value=choice.exec_allowed)

    def _svg(self, palette: Palette, ids: str = "") -> str:
        return entry_svg(self.state, palette, ids)

    def _text(self) -> str:
        return entry_text(self.state)

    def _table(self) -> str:
        return entry_table(self.state)
