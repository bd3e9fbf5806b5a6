"""What every live exhibit's tests read of it, and each exhibit with something for every control to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import ipywidgets

from tdpkit.lab.claims.claim import HOLDS
from tdpkit.lab.schedules import SCENARIOS, Setting, explored
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.claim_ledger import ClaimLedger
from tdpkit.show.entry import EntryDecoder
from tdpkit.show.exhibit import Exhibit
from tdpkit.show.lost_errno import LostErrno
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.race import StrategyRace
from tdpkit.show.schedule_player import SchedulePlayer
from tdpkit.show.split_budget import SplitBudget
from tdpkit.show.trace import TraceViewer
from tdpkit.show.trace.state import TraceText
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.walk import WalkStepper
from tests.oracles.ledgers import SMALL
from tests.oracles.told import told_guest

# ---- reading an exhibit ------------------------------------------------------------------------------------


class Head(NamedTuple):
    """What stands above the picture: its title, its answer, and a remark or what was refused."""

    heading: str
    answer: str
    remark: str


def head_of(exhibit: Exhibit) -> Head:
    """The head as it is read: its markup must be well formed, with a title and one place for the rest."""
    box = ElementTree.fromstring(exhibit.head.value)
    heading, said = box
    assert said.get("role") == "status", "it is announced when it changes"
    assert not [*heading]
    assert {part.tag for part in said} == {"span"}
    assert not [below for part in said for below in part], "what was typed is text there, never markup"
    texts = {part.get("class", "answer"): part.text or "" for part in said}
    return Head(heading.text or "", texts.get("answer", ""), texts.get("tdpkit-remark", ""))


def words(exhibit: Exhibit) -> str:
    """The exhibit's remark, or what it says of what it refused."""
    return head_of(exhibit).remark


def picture_of(exhibit: Exhibit) -> str:
    """The picture without the ids of its instance."""
    [prefix] = set(re.findall(r'<title id="([^"]*)-title">', exhibit.picture.value))
    return exhibit.picture.value.replace(prefix, "ids")


def below(widget: ipywidgets.Widget) -> Iterator[ipywidgets.Widget]:
    """All widgets inside `widget`, in the order of the page."""
    for child in getattr(widget, "children", ()):
        yield child
        yield from below(child)


def controls(exhibit: Exhibit) -> list[ipywidgets.Widget]:
    """What can be clicked, moved or typed into, in the order of the page."""
    inert = (ipywidgets.HTML, ipywidgets.Label, ipywidgets.Box)
    return [widget for widget in below(exhibit.box) if not isinstance(widget, inert)]


LOOKS = ("value", "options", "description", "disabled", "min", "max", "button_style")


def seen(exhibit: Exhibit, *, typed: bool = True) -> dict[str, Any]:
    """All that a learner sees of an exhibit; not `typed`: but for texts in fields and the message."""
    apart = [exhibit.head, exhibit.picture, exhibit.table, exhibit.handles]
    looks = []
    for widget in below(exhibit.box):
        if widget not in apart:
            hidden = not typed and isinstance(widget, ipywidgets.Text)
            names = [name for name in LOOKS if widget.has_trait(name) and not (hidden and name == "value")]
            looks.append([widget.layout.display, *(getattr(widget, name) for name in names)])
    state = exhibit.state
    if hasattr(state, "call"):  # a recorded call is equal to itself alone
        state = state._replace(call=None)
    return {
        "choice": exhibit.choice,
        "state": state,
        "picture": picture_of(exhibit),
        "table": exhibit.table.value,
        "controls": looks,
        "handles": {name: what for name, what in exhibit.handles.state.items() if name != "answered"},
        "head": exhibit.head.value if typed else "",
    }


def part(exhibit: Exhibit, name: str) -> Any:
    """A control by its name, ``range.start_text`` for one of the range's; ``drag.start`` is the picture."""
    if name.startswith(("drag.", "press.")):
        return exhibit.handles
    for attribute in name.split("."):
        exhibit = getattr(exhibit, attribute)
    return exhibit


def value_of(exhibit: Exhibit, control: str) -> Any:
    """What a control says, and what brings it back to that."""
    if control.startswith("drag."):
        return exhibit.moving[control.removeprefix("drag.")]()
    return None if control.startswith("press.") else part(exhibit, control).value


def use(exhibit: Exhibit, control: str, value: Any) -> None:
    """Give a control a value; drag something on the picture to it; or press what is named after it there."""
    how, _, what = control.partition(".")
    if how == "drag":
        _ask(exhibit, set={what: str(value)})
    elif how == "press":
        _ask(exhibit, press=f"{what}:{value}")
    else:
        part(exhibit, control).value = value


def _ask(exhibit: Exhibit, **wish: Any) -> None:
    """As the page's script does (tdpkit/show/handles.js)."""
    exhibit.handles.ask = {"n": exhibit.handles.ask.get("n", 0) + 1, **wish}


# ---- one of each -------------------------------------------------------------------------------------------


class Move(NamedTuple):
    """A control, a value for it, and the fields of the choice that must change, to what: its own first.

    control: a name for `part`; or ``drag.`` and a field, or ``press.`` and a group of spots of the picture.
    wanted: the fields; or what computes them, if that takes long: not before a test asks.
    """

    control: str
    value: Any
    wanted: dict[str, Any] | Callable[[], dict[str, Any]]
    returns: bool = True
    """Its former value brings everything back."""

    @property
    def fields(self) -> dict[str, Any]:
        return self.wanted() if callable(self.wanted) else self.wanted


class Sample(NamedTuple):
    """An exhibit on something small, with one move for each control but the buttons."""

    make: Callable[[], Exhibit]
    moves: list[Move]

    def move(self, control: str) -> Move:
        return next(move for move in self.moves if move.control == control)


def _range(start: int, end: int, unit: int) -> list[Move]:
    """Moves of a range's controls."""
    return [
        Move("range.unit_menu", unit, {"unit_level": unit}),
        Move("drag.start", start, {"start": start}),
        Move("drag.end", end, {"end": end}),
        Move("range.start_text", f"{start:#x}", {"start": start}),
        Move("range.end_text", f"{4 * end}K", {"end": end}),
    ]


def _scenario(name: str) -> Move:
    """A scenario from the menu: what of its setting the player's opening does not have, and its schedule."""
    setting, opening = SCENARIOS[name].setting, SCENARIOS["shared, in hand"].setting._asdict()
    change = {field: value for field, value in setting._asdict().items() if value != opening[field]}
    return Move("scenario_menu", name, lambda: {"scenario": name, **change, **_plays(setting)})


def _plays(setting: Setting) -> dict[str, Any]:
    """The schedule that a setting opens with, at its last step: the shortest witness, or a sample."""
    _, found = explored(setting)
    shortest = sorted(found.witness.values(), key=lambda schedule: len(schedule.moves))
    schedule = [*shortest, *found.samples][0]
    return {"schedule": str(schedule), "step": len(schedule.moves)}


_IN_HAND = SCENARIOS["shared, in hand"].setting


def _own(control: str, field: str, value: str) -> Move:
    """What makes of the opening a setting that has no name."""
    return Move(
        control,
        value,
        lambda: {field: value, "scenario": "own", **_plays(_IN_HAND._replace(**{field: value}))},
    )


def _stale() -> dict[str, Any]:
    """The schedule that leaves a stale TLB."""
    _, found = explored(_IN_HAND)
    return {"shown": "no stale TLB", "schedule": str(found.witness["no stale TLB"])}


_TRACES = Path(__file__).parents[2] / "notebooks/traces"
_TOLD = TraceText("told.txt", "\n".join(told_guest(4, 3).lines).encode())


def _opened(text: TraceText) -> tuple[dict[str, Any], ...]:
    """A file as the browser hands it over."""
    kind = {"type": "text/plain", "size": len(text.content), "last_modified": datetime.now(UTC)}
    return ({"name": text.name, "content": memoryview(text.content), **kind},)


SAMPLES = {
    "boundary": Sample(
        lambda: BoundaryExplorer("toy"),
        [
            Move(
                "preset_menu",
                "one-1G",
                {"preset": "one-1G", "kind": "plain", "start": 0x40100, "end": 0x80000, "unit_level": 2},
            ),
            Move("kind_buttons", "plain", {"kind": "plain"}),
            *_range(7, 32, 2),
            Move("action_buttons", "zap", {"action": "zap"}),
        ],
    ),
    "entry": Sample(
        EntryDecoder,
        [
            Move("entry_text", "80a1_9da4 c000_0fb7", {"entry": 0x80A19DA4C0000FB7, "example": ""}, False),
            Move("level_menu", 3, {"level": 3, "example": ""}, False),
            Move("example_menu", "1G", {"example": "1G", "entry": 0x80A19DA4C0000FB7, "level": 3}),
            Move("layout_menu", "ept-5.13", {"layout": "ept-5.13", "example": ""}, False),
            Move(
                "machine_menu",
                "one-1G",
                # Leaves of the layouts lie on host frames of the same number.
                {"machine": "one-1G", "at": 1 << 18, "entry": 0x80A0_0000_4000_0FB7, "example": ""},
                returns=False,
            ),
            # Bit 11 says present: without it the leaf is no entry of KVM's making.
            Move("press.bit", "11", {"entry": 0x80A0_0001_C8A0_07B7, "example": ""}, False),
            Move("index_number", 300, {"index": 300}),
            Move("drag.index", 300, {"index": 300}),
            Move("nx_box", True, {"nx_huge_pages": True}),
            Move("exec_box", False, {"exec_allowed": False}),
        ],
    ),
    "entry, picked": Sample(
        lambda: _decoder_on("one-1G"),
        # A leaf of 1G was found; at its level nothing is mapped here.
        [Move("at_text", "2G", {"at": 2 << 18, "entry": 1 << 63, "level": 3}, False)],
    ),
    "claim_ledger": Sample(
        lambda: ClaimLedger(SMALL),
        [
            Move("order_buttons", "by verdict", {"order": "by verdict"}),
            Move("verdict_menu", HOLDS, {"verdict": HOLDS}),
            Move("press.verdict", HOLDS, {"verdict": HOLDS}, returns=False),
            Move("by_menu", "M7", {"by": "M7"}),
            Move("notebook_menu", "03", {"notebook": "03"}),
            Move("kind_menu", "experiment", {"kind": "experiment"}),
            Move("find_text", "4096", {"find": "4096"}),
            Move("claim_menu", "C18", {"claim": "C18"}),
            Move("press.row", "C7", {"claim": "C7"}, returns=False),
        ],
    ),
    "race": Sample(
        lambda: StrategyRace("toy"),
        [
            Move("guest_menu", "one-1G", {"guest": "one-1G", "start": 0x40207, "end": 0x40209}),
            *_range(6, 16, 2),
            Move("order_buttons", "by visits", {"order": "by visits"}),
            Move("press.row", "plain_split", {"selected": "plain_split"}, returns=False),
        ],
    ),
    "split_budget": Sample(
        SplitBudget,
        [
            Move("guest_menu", "x86", {"guest": "x86", "start": 0x100100, "end": 0x4FFF00, "unit_level": 2}),
            Move("size_menu", "large", {"size": "large"}),
            *_range(7, 32, 2),
            Move("kind_buttons", "TD", {"kind": "TD"}),
            Move("split_buttons", "everything", {"split": "everything"}),
        ],
    ),
    "two_roots": Sample(
        TwoTrees,
        [
            Move("gfn_text", "200G", {"gfn": 200 << 18}),
            Move("kind_buttons", "plain", {"kind": "plain"}),
            Move("level_buttons", 5, {"root_level": 5}),
            Move("drag.gfn", 0x322A000, {"gfn": 0x322A000}),
            Move("press.vm", "leaf", {"shared_leaf": True}, returns=False),
            Move("press.vm", "invalid", {"invalid_root": True}, returns=False),
            Move("press.filter", "shared", {"filter": "both"}, returns=False),
            Move("operation_menu", "zap", {"operation": "zap"}),
        ],
    ),
    "walk": Sample(
        WalkStepper,
        [
            Move("predict_box", True, {"predict": True}),
            Move("layout_menu", "toy", {"layout": "toy", "start": 5, "end": 12}),
            Move("form_buttons", False, {"only_cross_boundary": False}),
            Move("lock_buttons", False, {"shared": False}),
            *_range(7, 40, 2),
            Move("refuse_number", 2, {"refuse_page": 2}),
            Move("resched_number", 5, {"resched_at": 5}),
            Move("race_menu", "drop_zap", {"race": "drop_zap"}),
            Move("step_slider", 17, {"step": 17}),
            Move("play", 3, {"step": 3}),
        ],
    ),
    "walk, raced": Sample(
        lambda: WalkStepper(only_cross_boundary=False, race="drop_zap"),
        [
            Move("target_menu", 2, {"target_level": 2}),
            Move("race_number", 2, {"race_at": 2}),
        ],
    ),
    "page_life": Sample(
        PageLifeStepper,
        [
            Move("machine_menu", "x86", {"machine": "x86", "start": 0x105, "end": 0x500}),
            Move("split_menu", "none", {"split": "none"}),
            Move("then_menu", "punch hole", {"then": "punch hole"}),
            Move("folios_menu", "4K, spanned", {"folios": "4K, spanned"}),
            Move("refuse_number", 3, {"refuse": 3}),
            *_range(3, 16, 2),
            Move("step_slider", 32, {"step": 32}),
            Move("play", 2, {"step": 2}),
            Move("drag.step", 41, {"step": 41}),
        ],
    ),
    "trace": Sample(
        lambda: TraceViewer("one-split"),
        [
            Move("example_menu", "lost-pages", {"trace": "lost-pages", "step": 20}),
            Move(
                "path_text",
                f"{_TRACES / 'lost-pages.txt'}",
                {"trace": f"{_TRACES / 'lost-pages.txt'}", "step": 20},
                returns=False,
            ),
            Move("upload", _opened(_TOLD), {"trace": _TOLD, "step": 1}, returns=False),
            Move("layout_menu", "ept-7.2", {"layout": "ept-7.2"}),
            Move("press.step", 3, {"step": 3}, returns=False),
            Move("step_slider", 4, {"step": 4}),
            Move("play", 1, {"step": 1}),
            Move("drag.step", 0, {"step": 0}),
        ],
    ),
    "trace, a range": Sample(
        lambda: TraceViewer("lost-pages", start=0x84D, end=0x86E),
        [
            Move("start_text", "850", {"start": 0x850}),
            Move("end_text", "8M+512K", {"end": 0x880}),
            Move("view_buttons", "whole", {"view": "whole"}),
        ],
    ),
    "lost_errno": Sample(
        LostErrno,
        [
            *_range(3, 16, 2),
            Move("press.request", 3, {"refuse": 3}, returns=False),
            Move("lasting_box", True, {"lasting": True}),
            Move("pamt_box", True, {"dynamic_pamt": True}),
            Move("type_buttons", "int", {"declared": "int"}),
            Move("again_box", True, {"again": True}),
        ],
    ),
    "lost_errno, honest": Sample(
        # Only an errno leaves an invalidation open, the 1 of a bool does not.
        lambda: LostErrno(declared="int"),
        [Move("open_box", True, {"leaves_open": True})],
    ),
    "schedule_player": Sample(
        SchedulePlayer,
        [
            Move("shown_menu", "no stale TLB", _stale),
            Move("press.rule", "no stale TLB", _stale, returns=False),
            Move(
                "schedule_text",
                "A:lock  A:read",
                {"schedule": "A:lock A:read", "shown": "own", "step": 2},
                returns=False,
            ),
            _scenario("dirty tracking, flush always"),
            _scenario("conversion, no invalidation"),
            _scenario("ACCEPT, neither"),
            _scenario("cache: mutex"),
            _scenario("plain store"),
            _scenario("exclusive, in hand, resched"),
            Move(
                "lock_buttons",
                "exclusive",
                lambda: {
                    "lock": "exclusive",
                    "scenario": "exclusive, in hand",
                    **_plays(_IN_HAND._replace(lock="exclusive")),
                },
            ),
            Move(
                "pages_buttons",
                "on demand",
                lambda: {
                    "pages": "on demand",
                    "scenario": "shared, on demand",
                    **_plays(_IN_HAND._replace(pages="on demand")),
                },
            ),
            _own("flush_menu", "flush", "always"),
            _own("other_menu", "other", "fault"),
            _own("ranges_menu", "ranges", "two edges"),
            Move("step_slider", 3, {"step": 3}),
            Move("play", 0, {"step": 0}),
            Move("drag.step", 5, {"step": 5}),
        ],
    ),
}
"""Each exhibit, some twice where a control is of use only in another state."""


def _decoder_on(machine: str) -> EntryDecoder:
    decoder = EntryDecoder()
    decoder.show(machine=machine)
    return decoder
