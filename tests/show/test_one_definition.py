"""A strategy is one definition: whatever reads the lab's strategies shows a fourteenth, and was not told."""

import pytest

from tdpkit.engine.gfn import GfnRange
from tdpkit.lab.search import UNIVERSES, search
from tdpkit.lab.statements import STATEMENTS
from tdpkit.lab.strategies import CONTENDERS, STRATEGIES, Curve, PlannedCall, once, smallest_block, strategy
from tdpkit.show.cost_curves import CostCurves
from tdpkit.show.race import StrategyRace
from tdpkit.show.race.guests import MOST_ROWS
from tdpkit.show.theme import LIGHT

BEFORE = len(STRATEGIES), len(CONTENDERS)


@pytest.fixture
def tail_first():
    @strategy(
        "tail first",
        "smallest {small} or {large} block, e then s",
        "the same blocks; the end's comes first",
        source="this test",
        curve=Curve("tail first", "ink", ":"),
    )
    def tail_first(geometry, s, e):
        """The smallest block of e, then that of s."""
        return once([*smallest_block(geometry, e), *smallest_block(geometry, s)])

    yield tail_first
    del STRATEGIES["tail_first"], CONTENDERS["tail_first"]


def test_it_is_planned(tail_first):
    """Guards that do not hold make no call: of 1G+2M the 1G block only, of 2M none but its 1G block."""
    calls = tail_first(StrategyRace("mixed").state.race.geometry, GfnRange.parse("2M", "1G+2M"))
    assert calls == [PlannedCall(1 << 18, 1 << 19, 2), PlannedCall(0, 1 << 18, 2)]


def test_it_races_with_its_words_on_the_machine_s_leaves(tail_first):
    race = StrategyRace("toy", rows=STRATEGIES, selected="tail_first")
    assert len(race.state.rows) == len(STRATEGIES) == BEFORE[0] + 1 <= MOST_ROWS
    row = race.state.row
    assert row.rule == ("tail first", "smallest 4 or 16 block, e then s", tail_first.rule.idea)
    assert (row.verdict, [call.target_level for call in row.calls]) == ("exact", [1, 1])
    assert ">tail first<" in race._svg(LIGHT)
    assert f"{BEFORE[0] + 1} ways to make the edges" in race._text()


def test_it_is_searched(tail_first):
    [tally] = search(UNIVERSES["three levels"], {"tail_first": STRATEGIES["tail_first"]}).values()
    assert repr(tally) == "exact in all 64 980 cases"


def test_it_is_drawn_among_the_cost_curves(tail_first):
    curves = CostCurves(["2M leaves"])
    [line] = [line for line in curves.figure().axes[0].lines if line.get_label() == "split: tail first"]
    assert line.get_linestyle() == ":"
    assert tuple(line.get_ydata()) == curves.curves["2M leaves"].split["one_block_per_edge"]
    assert ", tail first 12; the zap visits" in repr(curves)


@pytest.mark.slow
def test_it_can_be_proved(tail_first):
    """The plan that runs is the plan that is proved: nothing is written twice."""
    from tdpkit.lab.proofs import prove

    statement = STATEMENTS["walk_v3"]
    about = statement._replace(claim=statement._replace(broken={"plan": tail_first.plan}).twin.claim)
    assert prove(about).proved
    wrong = lambda geometry, s, e: smallest_block(geometry, s)  # noqa: E731
    assert not prove(statement._replace(broken={"plan": wrong}).twin).proved


def test_without_it_all_is_as_before():
    assert (len(STRATEGIES), len(CONTENDERS)) == BEFORE
