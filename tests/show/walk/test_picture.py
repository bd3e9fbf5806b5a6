"""The walk stepper's markup: well formed, in whole numbers, inside its frame, and the same in every run."""

import re
from itertools import pairwise
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from tdpkit.lab.split_call import SplitCall
from tdpkit.lab.worlds import RACES, Faults
from tdpkit.show.theme import DARK, LIGHT, LIVE
from tdpkit.show.walk import WalkStepper
from tdpkit.show.walk.live import OPENINGS
from tdpkit.show.walk.picture import walk_svg, walk_table, walk_text
from tdpkit.show.walk.state import walk_state
from tdpkit.show.walk.words import walk_words
from tests.oracles.svgs import (
    SVG,
    check_alone,
    check_form,
    check_ids,
    check_inside,
    check_texts_apart,
    check_themes,
    check_whole_numbers,
    drawn,
    extent,
    ids_of,
    printed_whatever_the_hash_seed,
    texts,
    tree,
)

ROOT = Path(__file__).parents[3]


def opening(layout: str, **how: object) -> SplitCall:
    return WalkStepper(layout, **how).call


def calls() -> dict[str, SplitCall]:
    """Every opening in both forms, and the toy under every difficulty."""
    found = {name: opening(name) for name in OPENINGS}
    found |= {
        f"{name}, plain": opening(name, only_cross_boundary=False) for name in ("steps", "toy", "large")
    }
    found |= {f"steps, {race}": opening("steps", race=race, race_at=1) for race in RACES if race != "none"}
    found["steps, a page left over"] = opening("steps", race="drop_split", race_at=3)
    found["steps, refused"] = opening("steps", refuse_page=2)
    found["steps, resched"] = opening("steps", resched_at=7, shared=False)
    found["steps, to 16K"] = opening("steps", only_cross_boundary=False, target_level=2)
    found["empty"] = SplitCall("steps", 6, 6)
    found["nothing"] = SplitCall("steps", 0, 0)
    found["beyond the root"] = SplitCall("steps", 5, 1000)
    found["beyond the guest"] = SplitCall("one-1G", 5 << 18, 1 << 40)
    found["two levels"] = SplitCall("eight", 3, 4)
    return found


@pytest.fixture(scope="module")
def states():
    """Every step of the short calls, some of the long ones, with what is to come shown and hidden."""
    found = {}
    for name, call in calls().items():
        steps = range(len(call.steps))
        if len(steps) > 70:
            steps = sorted({0, 1, *Random(name).sample(steps, 12), len(steps) - 1})
        for at in steps:
            found[name, at, False] = walk_state(call, at)
            if at % 7 == 0:
                found[name, at, True] = walk_state(call, at, hidden=True)
    return found


@pytest.fixture(scope="module")
def trees(states):
    return {case: tree(walk_svg(state, LIGHT)) for case, state in states.items()}


@pytest.fixture(scope="module")
def words(states):
    return {case: walk_words(state) for case, state in states.items()}


# ---- form ----------------------------------------------------------------------------------------------


def test_there_are_pictures_of_every_kind_of_step(states):
    kinds = {state.rail.kinds[at] for (_, at, _), state in states.items()}
    visited = {"start", "visit", "drop", "resched", "page", "refused", "retake", "store", "split", "lost"}
    assert kinds == visited | {"fail", "other", "free", "return"}
    assert {state.whole for state in states.values()} == {True, False}


def test_a_picture_scales_with_its_container_and_is_read_out_as_an_image(words, trees):
    for case, svg in trees.items():
        check_form(svg, words[case].title, words[case].answer)


def test_coordinates_are_whole_numbers(trees):
    for svg in trees.values():
        check_whole_numbers(svg)


def test_nothing_is_drawn_outside_the_picture(trees):
    for case, svg in trees.items():
        check_inside(svg, case)
        width, height = map(int, svg.get("viewBox").split()[2:])
        for disc in drawn(svg, "circle"):
            x, y, r = (int(disc.get(name)) for name in ("cx", "cy", "r"))
            assert r <= x <= width - r, case
            assert r <= y <= height - r, case


def test_a_picture_loads_nothing_and_styles_nothing_around_it(states):
    for state in states.values():
        check_alone(walk_svg(state, LIGHT))


def test_ids_carry_their_prefix_are_unique_and_every_reference_resolves(states):
    for state in states.values():
        check_ids(walk_svg(state, LIGHT, "ws-17"), "ws-17")


def test_pictures_of_different_steps_share_no_id_though_nobody_named_them(states):
    one, other = ids_of(walk_svg(states["steps", at, False], LIGHT) for at in (3, 4))
    assert one
    assert other
    assert one.isdisjoint(other)


def test_the_two_themes_differ_in_colours_alone(states):
    for state in states.values():
        check_themes(*(walk_svg(state, palette) for palette in (LIGHT, DARK, LIVE)))


def test_the_picture_keeps_its_height_from_step_to_step(trees):
    """A picture that grows and shrinks makes the page jump under the learner's hand."""
    for name in {name for name, _, _ in trees}:
        boxes = {svg.get("viewBox") for (of, _, _), svg in trees.items() if of == name}
        assert len(boxes) == 1, name


# ---- what it shows -------------------------------------------------------------------------------------


def test_answer_code_log_locks_counters_and_legend_are_all_written_out(states, words, trees):
    for case, said in words.items():
        written = texts(trees[case])
        assert said.title in written
        assert said.answer in " ".join(written)
        for needed in (
            *(text for _, _, text in said.code),
            *(text for _, text in said.log),
            *(text for text, _ in said.pills),
            *(text for pair in said.counters for text in pair),
            *(name for _, name in said.legend),
            *[said.totals] * bool(said.totals),
            *(said.edges if states[case].whole else ()),
        ):
            assert needed in written, (case, needed)


def badges(svg: ElementTree.Element) -> list[int]:
    discs = {(disc.get("cx"), disc.get("cy")) for disc in drawn(svg, "circle") if disc.get("r") == "9"}
    return [
        int(text.text)
        for text in svg.iter(f"{SVG}text")
        if (text.get("x"), str(int(text.get("y")) - 4)) in discs and text.text
    ]


def test_every_visit_so_far_has_its_number_on_the_toy(states, trees):
    """Twelve visits in all (findings 1), no entry more than twice."""
    for (name, at, hidden), state in states.items():
        if name == "steps":
            visits = state.rail.kinds[: at + 1].count("visit")
            assert sorted(badges(trees[name, at, hidden])) == list(range(1, visits + 1))
    assert max(max(badges(svg), default=0) for (name, _, _), svg in trees.items() if name == "steps") == 12


def test_where_there_is_no_room_the_latest_visits_have_their_numbers(trees):
    """An entry of 40 units has room for two badges; the level 2 entry at 4 is visited at 2, 4 and 5."""
    last = max(at for of, at, _ in trees if of == "steps, cas_dirty_clear")
    assert sorted(badges(trees["steps, cas_dirty_clear", last, False])) == [1, *range(3, 14)]


def test_the_current_line_of_the_code_is_marked(words, trees):
    for case, state in words.items():
        bold = {
            text.text
            for text in trees[case].iter(f"{SVG}text")
            if "mono" in text.get("font-family")
            and text.get("font-size") == "11"
            and text.get("font-weight") == "700"
        }
        marked = {text for key, _, text in state.code if key == state.code_key}
        assert marked
        assert marked <= bold
        assert not bold & {text for key, _, text in state.code if key != state.code_key}


def test_what_is_to_come_is_pale_or_hidden(states, trees):
    """Steps after the current one lie under a sheet of paper; in predict mode they are not there at all."""
    for case, state in states.items():
        covers = [p for p in drawn(trees[case], "path") if p.get("fill-opacity") == ".62"]
        assert len(covers) == (0 if state.hidden or state.at == len(state.rail.kinds) - 1 else 1), case
        if state.hidden:
            assert len(state.rail.kinds) == state.at + 1
            total = len(states[case[0], 0, False].rail.kinds)
            assert f"{state.at + 1} of {total}" not in " ".join(texts(trees[case]))


def test_a_long_call_is_ticks_and_runs_not_a_box_per_step(states):
    """1 291 visits; and strips of 512 entries."""
    sizes = {case: len(walk_svg(state, LIGHT)) for case, state in states.items() if case[0] == "mixed"}
    assert len(states["mixed", 0, False].rail.kinds) > 1000
    assert max(sizes.values()) < 40_000


# ---- room for the words --------------------------------------------------------------------------------


def test_no_two_texts_of_a_line_run_into_each_other(trees):
    for case, svg in trees.items():
        check_texts_apart(svg, case)


def test_the_answer_has_two_lines_at_most_and_ends_inside_the_picture(words, trees):
    for case, state in words.items():
        lines = [
            t for t in trees[case].iter(f"{SVG}text") if t.get("font-size") == "13" and int(t.get("y")) < 90
        ]
        assert " ".join(line.text or "" for line in lines) == state.answer
        assert len(lines) <= 2, case
        assert all(extent(line)[1] <= 976 for line in lines), case


def test_code_and_log_stay_in_their_boxes(trees):
    """Both lie between 688 and 976."""
    for case, svg in trees.items():
        for text in svg.iter(f"{SVG}text"):
            if int(text.get("x")) >= 688 and text.get("text-anchor") == "start":
                assert extent(text)[1] <= 976, (case, text.text)


# ---- the same in every run -----------------------------------------------------------------------------

PRINT_ALL = """
import json
from tdpkit.show.walk.live import OPENINGS
from tdpkit.show.walk import WalkStepper
said = []
for name in OPENINGS:
    for step in (1, 9):
        for predict in (False, True):
            stepper = WalkStepper(name, step=step, predict=predict)
            stepper.table_box.value = True
            said.append([stepper.table.value, stepper.said.value, stepper.message.value])
            said += [v for k, v in stepper._repr_mimebundle_().items() if "widget-view" not in k]
print(json.dumps(said))
"""


def test_markup_and_bundle_are_the_same_whatever_the_hash_seed():
    assert len(printed_whatever_the_hash_seed(PRINT_ALL)) == len(OPENINGS) * 12


def test_pictures_of_different_steps_differ(states):
    for name in ("steps", "mixed"):
        shown = [
            walk_svg(state, LIGHT) for (of, _, hidden), state in states.items() if of == name and not hidden
        ]
        assert len(set(shown)) == len(shown)


# ---- the text twins ------------------------------------------------------------------------------------


def test_the_table_is_well_formed_and_its_current_row_is_the_step():
    for name, call in calls().items():
        for at in {0, len(call.steps) // 2, len(call.steps) - 1}:
            table = ElementTree.fromstring(walk_table(walk_state(call, at)))
            rows = [[cell.text or "" for cell in row] for row in table.iter("tr")]
            assert rows[0] == ["step", "event", "entry", "mmu_lock", "RCU", "visits", "splits"]
            [here] = [row for row in table.iter("tr") if row.get("aria-current") == "step"]
            step = call.steps[at]
            said = [cell.text or "" for cell in here]
            assert said[0] == str(at + 1), name
            assert said[3:5] == ["held" if step.held else "dropped", "held" if step.rcu else "not held"]
            assert [int(cell.replace(" ", "")) for cell in said[5:]] == [step.visits, step.splits]
            numbers = [int(row[0]) for row in rows[1:]]
            assert all(after == before + 1 for before, after in pairwise(numbers))
            assert len(numbers) <= 25
            assert walk_words(walk_state(call, at)).answer.split(": ", 1)[1] in table.find("caption").text


def test_the_table_hides_what_the_picture_hides():
    call = opening("steps")
    table = ElementTree.fromstring(walk_table(walk_state(call, 8, hidden=True)))
    numbers = [row[0].text for row in table.iter("tr")][1:]
    assert numbers == [str(n) for n in range(1, 10)]
    assert "29" not in "".join(table.itertext())


def test_the_text_starts_with_the_answer_and_ends_with_the_kernels_trace_lines():
    """Formats of kernel-facts 11; the first leaf split is the level 2 one at frame 4."""
    call = opening("steps")
    at = next(n for n, step in enumerate(call.steps) if step.kind == "split")
    state = walk_state(call, at)
    lines = walk_text(state).split("\n")
    said = walk_words(state)
    assert lines[0] == f"{said.title}. {said.answer}"
    assert lines[1] == "mmu_lock: held for read; RCU: held; page in hand: none"
    assert lines[2].startswith("4 visits, 1 split, 1 lock drop, 1 restart (whole call: 12 visits")
    assert re.fullmatch(
        r"trace: kvm_tdp_mmu_spte_changed: as id 0 gfn 4 level 2 old_spte [0-9a-f]+ new_spte [0-9a-f]+",
        lines[3],
    )
    assert re.fullmatch(r"trace: kvm_mmu_split_huge_page: gfn 4 spte [0-9a-f]+ level 2 errno 0", lines[4])
    failed = SplitCall("steps", 6, 34, faults=Faults(refuse_page=1))
    at = next(n for n, step in enumerate(failed.steps) if step.kind == "fail")
    assert walk_text(walk_state(failed, at)).endswith("level 2 errno -12")
