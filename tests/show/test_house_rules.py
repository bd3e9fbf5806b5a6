"""The rules that every picture of the kit keeps, checked once over samples of every exhibit.

A sample is a function of a palette and the ids' prefix. An exhibit's own tests say what its picture shows;
here it is held to its form: it scales, is read out, stays inside its frame, and no two texts meet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest

from tdpkit.engine.gfn import parse_gfn
from tdpkit.lab.guest import ACTIONS, VM_KINDS, Guest
from tdpkit.lab.lost_errno import run_short
from tdpkit.lab.page_life import PageLife
from tdpkit.lab.search import SAMPLED, UNIVERSES, sample
from tdpkit.lab.strategies import STRATEGIES
from tdpkit.lab.two_roots import ask
from tdpkit.show.boundary import BoundaryExplorer
from tdpkit.show.boundary.picture import boundary_svg
from tdpkit.show.boundary.state import boundary_state, left_state
from tdpkit.show.case import CasePicture
from tdpkit.show.case.picture import case_svg
from tdpkit.show.case.state import case_state
from tdpkit.show.claim_ledger import ClaimLedger
from tdpkit.show.claim_ledger.picture import ledger_svg
from tdpkit.show.entry import EntryDecoder
from tdpkit.show.entry.picture import entry_svg
from tdpkit.show.exhibit import Exhibit
from tdpkit.show.lost_errno import LostErrno
from tdpkit.show.lost_errno.picture import lost_errno_svg
from tdpkit.show.memory import memory_state, memory_svg
from tdpkit.show.page_life import PageLifeStepper
from tdpkit.show.page_life.picture import life_svg
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.picture import race_svg
from tdpkit.show.race.state import Track
from tdpkit.show.schedule_player import SchedulePlayer
from tdpkit.show.schedule_player.picture import player_svg
from tdpkit.show.split_budget import SplitBudget
from tdpkit.show.split_budget.picture import budget_svg
from tdpkit.show.theme import DARK, LIGHT, LIVE, Palette, still
from tdpkit.show.trace import TraceViewer
from tdpkit.show.trace.picture import trace_svg
from tdpkit.show.two_roots import TwoTrees
from tdpkit.show.two_roots.picture import two_trees_svg
from tdpkit.show.walk import WalkStepper
from tdpkit.show.walk.picture import walk_svg
from tdpkit.show.walk.state import walk_state
from tests.oracles.ledgers import SMALL
from tests.oracles.svgs import (
    check_all,
    check_ids,
    check_themes,
    darkened,
    ids_of,
    printed_whatever_the_hash_seed,
)
from tests.show.boundary.test_picture import SPANS as BOUNDARY_SPANS
from tests.show.claim_ledger.test_picture import STATES as LEDGERS
from tests.show.entry.test_picture import PATHS, STATES
from tests.show.lost_errno.test_picture import ALL as SHORTAGES
from tests.show.memory.test_picture import STRIPS
from tests.show.page_life.test_picture import STORIES
from tests.show.race.test_picture import GUESTS, SETS, state_of
from tests.show.race.test_picture import SPANS as RACE_SPANS
from tests.show.schedule_player.test_picture import states as schedules
from tests.show.split_budget.test_picture import BUDGETS, DESIGNS
from tests.show.test_theme import TEXT_ROLES
from tests.show.trace.test_picture import states as traces
from tests.show.two_roots.test_picture import QUESTIONS
from tests.show.walk.test_picture import calls

pytestmark = pytest.mark.slow

Draw = Callable[[Palette, str], str]


def boundary() -> Iterator[Draw]:
    for name, spans in BOUNDARY_SPANS.items():
        for at, kind in enumerate(VM_KINDS):
            guest = Guest(name, kind)
            for number, (start, end) in enumerate(spans):
                for action in ACTIONS[(number + at) % 2 :: 2]:
                    state = boundary_state(guest, parse_gfn(start), parse_gfn(end), action)
                    yield partial(boundary_svg, state)
    for kind in VM_KINDS:
        guest = Guest("toy", kind)
        for start, end in ((5, 12), (26, 27)):
            guest.zap(start, end)
            yield partial(boundary_svg, left_state(guest, 5, 14))


def case() -> Iterator[Draw]:
    for geometry in (*SAMPLED.values(), *(universe.geometry for universe in UNIVERSES.values())):
        for tally in sample(geometry, STRATEGIES, 30).values():
            if tally.smallest:
                yield partial(case_svg, case_state(tally.smallest))


def claim_ledger() -> Iterator[Draw]:
    yield from (partial(ledger_svg, state) for state in LEDGERS)


def race() -> Iterator[Draw]:
    for guest, spans in RACE_SPANS.items():
        track = Track(GUESTS[guest].layout)
        for at, (start, end) in enumerate(spans):
            rows = SETS[["opening", "own", "all"][at % 3]]
            order = ("as argued", "by visits")[at % 2]
            state = state_of(track, rows, parse_gfn(start), parse_gfn(end), at, order)
            yield partial(race_svg, state)


def walk() -> Iterator[Draw]:
    for name, call in calls().items():
        steps = range(len(call.steps))
        for at in sorted({0, *Random(name).sample(steps, min(5, len(steps))), len(steps) - 1}):
            yield partial(walk_svg, walk_state(call, at, hidden=at % 3 == 2))


def entry() -> Iterator[Draw]:
    yield from (partial(entry_svg, state) for state in [*STATES.values()][::2])
    yield from (picture.svg for picture in PATHS.values())


def two_roots() -> Iterator[Draw]:
    yield from (partial(two_trees_svg, ask(question)) for question in QUESTIONS[::9])


def lost_errno() -> Iterator[Draw]:
    for shortage in SHORTAGES[::3]:
        yield partial(lost_errno_svg, shortage, run_short(shortage))


def page_life() -> Iterator[Draw]:
    for name, how in STORIES.items():
        life = PageLife(**how)
        steps = range(len(life.steps))
        rarest = [n for n in steps if any(run.state == "PENDING_BLOCKED" for run in life.steps[n].view.sept)]
        for at in sorted({0, *rarest[:1], *Random(name).sample(steps, 5), len(steps) - 1}):
            yield partial(life_svg, life, at)


def schedule_player() -> Iterator[Draw]:
    yield from (partial(player_svg, state) for state in schedules()[::9])


def split_budget() -> Iterator[Draw]:
    for number, state in enumerate(BUDGETS):
        yield partial(budget_svg, state._replace(designs=DESIGNS) if number % 9 == 4 else state)


def memory() -> Iterator[Draw]:
    for shown in STRIPS:
        yield partial(memory_svg, memory_state(shown))


def trace() -> Iterator[Draw]:
    yield from (partial(trace_svg, state) for state in traces())


SAMPLES = {
    "boundary": boundary,
    "case": case,
    "claim_ledger": claim_ledger,
    "entry": entry,
    "lost_errno": lost_errno,
    "memory": memory,
    "page_life": page_life,
    "race": race,
    "schedule_player": schedule_player,
    "split_budget": split_budget,
    "trace": trace,
    "two_roots": two_roots,
    "walk": walk,
}
EXHIBITS: dict[str, Callable[[], Exhibit]] = {
    "boundary": BoundaryExplorer,
    "claim_ledger": partial(ClaimLedger, SMALL, claim="C7"),
    "entry": partial(EntryDecoder, "nx"),
    "lost_errno": LostErrno,
    "page_life": PageLifeStepper,
    "race": partial(StrategyRace, "toy", rows=STRATEGIES, order="by visits"),
    "schedule_player": SchedulePlayer,
    "split_budget": partial(SplitBudget, "x86", size="large", kind="TD with Dynamic PAMT"),
    "trace": TraceViewer,
    "two_roots": TwoTrees,
    "walk": WalkStepper,
}
NAMES = pytest.mark.parametrize("name", SAMPLES)


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Draw]]:
    return {name: list(draws()) for name, draws in SAMPLES.items()}


@pytest.fixture(scope="module")
def pictures(samples: dict[str, list[Draw]]) -> dict[str, list[str]]:
    """In the light theme, with ids of their own."""
    return {name: [draw(LIGHT, "") for draw in draws] for name, draws in samples.items()}


def test_there_are_samples_of_every_exhibit(samples: dict[str, list[Draw]]) -> None:
    assert {name for name, draws in samples.items() if len(draws) < 20} == set()
    assert set(EXHIBITS) == set(SAMPLES) - {"case", "memory"}


@NAMES
def test_it_scales_is_read_out_stays_inside_and_no_word_runs_into_another(
    pictures: dict[str, list[str]], name: str
) -> None:
    for number, svg in enumerate(pictures[name]):
        check_all(svg, (name, number), headed=name != "memory")


@NAMES
def test_no_text_has_a_colour_whose_contrast_is_not_computed(
    pictures: dict[str, list[str]], name: str
) -> None:
    """The role paper is for words on dark ground, of which there are few."""
    roles = {LIGHT[role] for role in (*TEXT_ROLES, "paper")}
    for svg in pictures[name]:
        assert set(re.findall(r'<text [^>]*fill="([^"]*)"', svg)) <= roles


def test_no_colour_is_without_use(samples: dict[str, list[Draw]]) -> None:
    drawn = "".join(draw(LIVE, "x") for draws in samples.values() for draw in draws)
    assert set(re.findall(r"var\(--tdp-([a-z0-9-]+),", drawn)) == set(LIGHT)


@NAMES
def test_its_themes_differ_in_colours_alone(samples: dict[str, list[Draw]], name: str) -> None:
    for draw in samples[name][::3]:
        check_themes(*(draw(palette, "") for palette in (LIGHT, DARK, LIVE)))


@NAMES
def test_a_still_on_a_dark_page_is_the_picture_in_the_dark_theme(
    samples: dict[str, list[Draw]], name: str
) -> None:
    for draw in samples[name][::3]:
        assert darkened(still(draw(LIGHT, ""))) == draw(DARK, "")


@NAMES
def test_ids_carry_the_prefix_they_are_given(samples: dict[str, list[Draw]], name: str) -> None:
    for draw in samples[name][::3]:
        check_ids(draw(LIGHT, "x-17"), "x-17")


def test_different_pictures_on_one_page_share_no_id_though_nobody_named_them(
    pictures: dict[str, list[str]],
) -> None:
    """A page that inlines static pictures would fill one with the other's hatches, or read out its title."""
    different = list(dict.fromkeys(svg for svgs in pictures.values() for svg in svgs))
    ids = ids_of(different)
    assert all(ids)
    assert sum(map(len, ids)) == len(set().union(*ids))


def digests() -> list[tuple[str, str]]:
    """A hash of each sample, and of what each exhibit is on a page without a kernel and as a table."""
    said = [(name, draw(LIVE, "x")) for name, draws in SAMPLES.items() for draw in [*draws()][::4]]
    for name, exhibit in EXHIBITS.items():
        shown = exhibit()
        said += [(name, json.dumps(shown._repr_mimebundle_())), (name, shown._table())]
    found = sample(UNIVERSES["three levels"].geometry, STRATEGIES, 100).values()
    said += [("case", repr(CasePicture(tally.smallest))) for tally in found if tally.smallest]
    return [(name, hashlib.sha256(text.encode()).hexdigest()) for name, text in said]


def test_every_picture_text_and_table_is_the_same_whatever_the_hash_seed() -> None:
    code = "import json; from tests.show.test_house_rules import digests; print(json.dumps(digests()))"
    printed = printed_whatever_the_hash_seed(code)
    assert {name for name, _ in printed} == set(SAMPLES)
    assert len(printed) > 100
