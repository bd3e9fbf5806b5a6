"""The schedule player's sentences: what a step did, what holds now, and what the search says of the rest."""

from __future__ import annotations

from tdpkit.lab.schedules import POLICIES, PROPERTIES
from tdpkit.lab.schedules.machine import LeafAt
from tdpkit.lab.schedules.scenarios import BUGS, USES
from tdpkit.lab.schedules.threads import Access, Report
from tdpkit.lab.schedules.words import entry_words
from tdpkit.lab.words import capital, count_of, listed

from .state import FIRST, OWN, SAMPLES, Lane, PlayerState

API_ONLY = "the API allows it, no caller in the series does it"
_ROLES = {
    "split": "splits",
    "track": "splits, tracks",
    "zap": "zaps",
    "convert": "converts",
    "fault": "faults on",
    "guest": "writes to",
}
_SAMPLES = dict(zip(SAMPLES, ("one thread after the other", "in turn", "drawn by a seed"), strict=True))


def title(state: PlayerState) -> str:
    """What runs at once."""
    setting = state.setting
    if setting.use not in ("split", "track"):
        return f"Schedule player: {USES[setting.use] if state.scenario == OWN else state.scenario}"
    tracking = "dirty tracking, " if setting.use == "track" else ""
    policy = policy_words(setting.flush, setting.use)
    return f"Schedule player: {tracking}mmu_lock {setting.lock}, pages {setting.pages}, {policy}"


def policy_words(name: str, use: str) -> str:
    """Name a flush policy; where dirty bits are cleared too, a split is not all that a call changes."""
    title = POLICIES[name].title
    return title.replace("if I split", "if I changed an entry") if use == "track" else title


def answer(state: PlayerState) -> str:
    """What the present step did, and what it broke or left whole."""
    step = f"Step {state.at} of {state.last}: {state.look.did}" if state.at else "Before the first step"
    if (why := state.reason) is None:
        return f"{step}. {_whole(state)}"
    others = [name for name in PROPERTIES if name in state.look.broken and name != why.property]
    more = f" Broken too: {listed(others)}." if others else ""
    return f"{step}. ✗ {why.property}: {why.text}.{more}"


def _whole(state: PlayerState) -> str:
    """Nothing is broken so far; and what of the rest."""
    if not state.search.breaks:
        return f"✓ Nothing breaks: {extent_words(state)}."
    done = len(state.look.finished) == len(state.lanes)
    return "✓ Every rule holds in this schedule." if done else "✓ Every rule holds so far."


def extent_words(state: PlayerState) -> str:
    """How much was searched: ``167 states, 1 512 interleavings, explored whole``."""
    states, interleavings, extent, _ = state.search
    ways = (
        count_of(interleavings, "interleaving") if interleavings is not None else "interleavings not counted"
    )
    return f"{count_of(states, 'state')}, {ways}, {extent}"


def remark(state: PlayerState) -> str:
    """What is to be known of the setting."""
    setting = state.setting
    parts = [f"planted bug: {BUGS[setting.bug]}"] if setting.bug != "none" else []
    parts += ["a reschedule at every visit"] if setting.resched else []
    parts += [API_ONLY] if state.is_api_only else []
    return capital("; ".join(parts))


def lane_words(state: PlayerState, lane: Lane) -> str:
    """What a thread is about: ``splits [2, 4)``."""
    first, last = lane.span.start, lane.span.end
    what = "ACCEPTs" if state.setting.use == "accept" else _ROLES[lane.role]
    return f"{what} {first}" if last == first + 1 else f"{what} [{first}, {last})"


def step_words(access: Access) -> tuple[str, str]:
    """A step in two short lines: its token, and what came of it."""
    return access.token, _came_of(access)


def _came_of(access: Access) -> str:
    match access.token:
        case "lock":
            return "read" if access.shared else "write"
        case "swap":
            return "won" if access.changed else "lost"
        case "store":
            return entry_words(access.after, access.level)
        case "read":
            return entry_words(access.before, access.level) if access.level else "tables"
        case "flush":
            return "all TLBs"
        case "return":
            return _returned(access.result)
        case "external":
            return f"leaf {access.gfn}"
        case "write":
            return f"frame {access.gfn}"
    if not access.name or access.name == "mmu_lock" or access.token.startswith(("take-", "give-")):
        return ""
    changed = access.before != access.after
    return f"{access.before} → {access.after}" if changed else f"{access.before}"


def _returned(result: object) -> str:
    """What a call reports, in two words at most."""
    if not isinstance(result, Report):
        return "" if result is None else str(int(result)) if isinstance(result, int) else str(result)
    if result.ret:
        return "bug" if isinstance(result.ret, str) else str(result.ret)
    return "none split" if result.says_none else "split" if result.split else "flushed"


def leaves_words(state: PlayerState, leaves: tuple[LeafAt, ...]) -> str:
    """``[0, 2) [2, 4)``: the frames of each leaf."""
    pages = state.geometry.pages
    return " ".join(f"[{gfn}, {gfn + pages(level)})" for gfn, level, _ in leaves) or "nothing"


def tlb_words(state: PlayerState, at: int) -> str:
    """What a TLB may hold after step `at`."""
    return tlb_names(state, at)[0]


def tlb_names(state: PlayerState, at: int) -> tuple[str, ...]:
    """The same in ever fewer words."""
    kind, leaves = state.tlb[at]
    said = leaves_words(state, leaves)
    return {
        "none": ("nothing: the leaf is PENDING" if state.setting.use == "accept" else "left out here",),
        "true": ("what the tree holds", "the tree"),
        "owed": (f"{said}, gone: a flush is owed", f"{said}, gone", said),
        "left": (f"{said}, gone: nobody flushes", f"{said}, gone", said),
        "stale": (f"{said}, stale after a return", f"{said}: stale", said),
    }[kind]


def lock_words(state: PlayerState, at: int) -> str:
    """Who holds which lock after step `at`."""
    look = state.looks[at]
    held = [f"{look.writer} for write"] if look.writer else []
    held += [f"{listed(look.readers)} for read"] if look.readers else []
    held += [f"{holder}: {name}" for name, holder in look.locks.items()]
    return ", ".join(held) or "nobody"


def shared_words(state: PlayerState, at: int) -> str:
    """The shared words after step `at`: ``dirty 1``."""
    return ", ".join(f"{name} {value}" for name, value in state.looks[at].words.items())


def verdict_words(state: PlayerState, name: str) -> str:
    """What the search says of a property."""
    steps = dict(state.search.breaks).get(name)
    if steps:
        return f"breaks in {count_of(steps, 'step')}"
    return "never breaks" if state.search.extent == "explored whole" else "not seen to break"


def now_words(state: PlayerState, name: str) -> str:
    """Whether a property holds now, and since when not."""
    since = next((why.step for why in state.why if why.property == name and why.step <= state.at), 0)
    return f"broken at step {since}" if since else "holds"


def shown_words(name: str, breaks: dict[str, int]) -> str:
    """A schedule in the menu; `breaks`: as the search found."""
    if name == OWN:
        return "your own"
    if name == FIRST:
        return "what breaks first" if breaks else "nothing breaks: a sample"
    if name in _SAMPLES:
        return f"a sample: {_SAMPLES[name]}"
    return f"{name} breaks, in {count_of(breaks[name], 'step')}"
