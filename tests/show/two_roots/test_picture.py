"""The two-trees markup and words: well formed, of one size, room for each word, and true each time."""

import re
from itertools import product
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, ask
from tdpkit.show.drawing import HATCHED
from tdpkit.show.theme import DARK, LIGHT, contrast
from tdpkit.show.two_roots.live import OPERATION_LABELS
from tdpkit.show.two_roots.picture import two_trees_svg, two_trees_table, two_trees_text
from tdpkit.show.two_roots.words import TITLE
from tests.oracles.svgs import (
    check_alone,
    check_form,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    check_whole_numbers,
    texts,
    tree,
)

EXAMPLE = 0x322A84D
FLAGS = (False, True)
QUESTIONS = [
    Question(EXAMPLE, *fields) for fields in product(VM_KINDS, (4, 5), FILTERS, OPERATIONS, FLAGS, FLAGS)
]
BITS = {4: "MIRROR", 2: "DIRECT", 1: "INVALID"}
SEPT_CALLS = ("BLOCK", "TRACK", "kick vCPUs", "DEMOTE", "REMOVE")

questions = st.builds(
    Question,
    st.one_of(st.sampled_from([0, 2**35 - 1, 511, 512 * 511, 2**18 - 1]), st.integers(0, 2**35 - 1)),
    st.sampled_from([*VM_KINDS]),
    st.sampled_from([4, 5]),
    st.sampled_from([*FILTERS]),
    st.sampled_from([*OPERATIONS]),
    st.booleans(),
    st.booleans(),
)


@pytest.fixture(scope="module")
def outcomes():
    return [ask(question) for question in QUESTIONS]


@pytest.fixture(scope="module")
def trees(outcomes):
    return [tree(two_trees_svg(outcome, LIGHT)) for outcome in outcomes]


def check_all(svg, outcome):
    picture = tree(svg)
    check_form(picture, TITLE, outcome.answer)
    check_whole_numbers(picture)
    check_inside(picture, outcome.question)
    check_alone(svg)
    check_texts_apart(picture, outcome.question)
    check_lines_apart(picture, outcome.question)


# ---- house rules ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_picture_keeps_the_house_rules(outcomes):
    for outcome in outcomes:
        check_all(two_trees_svg(outcome, LIGHT), outcome)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(questions)
def test_every_picture_of_any_frame_keeps_the_house_rules(question):
    outcome = ask(question)
    svg = two_trees_svg(outcome, LIGHT)
    check_all(svg, outcome)
    assert svg == two_trees_svg(ask(question), LIGHT)


@pytest.mark.parametrize(
    ("kind", "level", "gfn"),
    [("TD", 4, 2**35 - 1), ("TD", 5, 2**39 - 1), ("plain", 4, 2**36 - 1), ("plain", 5, 2**40 - 1)],
)
def test_the_longest_frames_have_room(kind, level, gfn):
    for operation, flag in product(OPERATIONS, FLAGS):
        outcome = ask(Question(gfn, kind, level, "both", operation, flag, flag))
        check_all(two_trees_svg(outcome, LIGHT), outcome)


@pytest.mark.slow
def test_all_pictures_are_of_one_size_so_that_nothing_below_jumps(trees):
    assert len({svg.get("viewBox") for svg in trees}) == 1


def mixed(over: str, under: str, share: float) -> str:
    pairs = zip(*((int(c[at : at + 2], 16) for at in (1, 3, 5)) for c in (over, under)), strict=True)
    return "#" + "".join(f"{round(share * one + (1 - share) * other):02x}" for one, other in pairs)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(
    "role", ["ink", "muted", "good", "bad", "lost-mark", "refaulted-mark", "crossing-mark"]
)
def test_words_on_the_ground_of_a_reached_tree_and_on_a_wedge_there_can_be_read(theme, role):
    ground = mixed(theme["split"], theme["paper"], 0.35)
    wedge = mixed(theme["grid"], ground, 0.4)
    assert contrast(theme[role], ground) >= 4.5
    assert contrast(theme[role], wedge) >= 3.9


def test_no_words_are_drawn_pale(trees):
    """What is not reached is paler, but can be read."""
    for svg in trees:
        for group in svg.iter("{http://www.w3.org/2000/svg}g"):
            assert group.get("opacity") == ".5"
            assert texts(group) == []


# ---- what it shows -------------------------------------------------------------------------------------


def test_set_bits_are_written_and_no_others(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        written = texts(svg)
        assert outcome.operation.function in written
        dark = [text.text for text in svg.iter() if text.get("fill") == LIGHT["paper"] and text.text != "≠"]
        bits = [text for text in dark if text]
        filter_bits = [
            f"{bit}" for bit in (2, 1) if outcome.filter_read and FILTERS[outcome.question.filter] & bit
        ]
        assert bits == filter_bits + [f"{bit}" for bit in BITS if (outcome.types or 0) & bit]
        assert ("not looked at" in written) is not outcome.filter_read
        assert ("none: root.hpa" in written) is (outcome.types is None)


def test_roots_that_do_not_match_say_what_they_need(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        needs = [text for text in texts(svg) if text.startswith("needs ")]
        missing = [root.missing for root in outcome.roots if root.missing]
        assert needs == [f"needs {' + '.join(bits)}" for bits in missing]


def test_each_tree_says_whether_it_was_reached(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        written = texts(svg)
        told = [text for text in written if text == "not touched" or text.startswith("reached: ")]
        assert sorted(told) == sorted(root.effect for root in outcome.roots)
        pale = len(list(svg.iter("{http://www.w3.org/2000/svg}g")))
        unreached = [root for root in outcome.roots if not root.reached]
        assert pale == len(unreached) + any(
            root.is_mirror for root in unreached
        )  # and the S-EPT's copy of it


def test_only_reached_trees_are_framed_and_a_wrong_one_in_the_colour_of_what_is_bad(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        frames = [part.get("stroke") for part in svg.iter() if part.get("stroke-width") == "2"]
        good = frames.count(LIGHT["good"])
        reached = sum(root.reached for root in outcome.roots)
        assert good == (0 if outcome.wrong_root else reached + bool(outcome.seamcalls))
        assert frames.count(LIGHT["bad"]) == (1 if outcome.wrong_root else 0)


def test_ticks_and_signs_are_in_the_colour_of_what_they_say(outcomes, trees):
    """A tick per root that matches and one per tree reached; of the signs between the trees, ≠ is dark."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        discs = [disc.get("fill") for disc in svg.iter("{http://www.w3.org/2000/svg}circle")]
        ticks = 2 * sum(root.matches for root in outcome.roots)
        assert discs.count(LIGHT["bad"]) == (ticks if outcome.wrong_root else 0)
        assert discs.count(LIGHT["good"]) == (0 if outcome.wrong_root else ticks)
        assert discs.count(LIGHT["ink"]) == outcome.is_td
        assert discs.count(LIGHT["paper"]) == outcome.is_td * (outcome.question.root_level - 1)


def test_the_paths_and_every_index_are_written_out(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        written = texts(svg)
        for root in outcome.roots:
            for index in root.indices:
                assert f"{index}" in written
            if root.valid:
                of = "g | S" if outcome.is_td and not root.is_mirror else "g"
                assert f"path({of}) = {list(root.indices)}" in written
        levels = outcome.question.root_level
        assert written.count("=") == (levels - 1 if outcome.is_td else 0)
        assert written.count("≠") == outcome.is_td


def test_seamcalls_are_written_in_order_exactly_where_there_are_some(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        written = texts(svg)
        assert [text for text in written if text in SEPT_CALLS] == list(outcome.seamcalls)
        said = "the mirror tree did not change: no SEAMCALL" in written
        assert said is (outcome.is_td and not outcome.seamcalls)


@pytest.mark.slow
def test_a_split_a_zap_and_what_stays_whole_are_told_apart_by_hatch_and_word(outcomes):
    for outcome in outcomes:
        svg = two_trees_svg(outcome, LIGHT, "x").partition("its new 4K leaves")[0]  # without the legend
        said = texts(tree(two_trees_svg(outcome, LIGHT)))
        split = sum(root.splits for root in outcome.roots)
        assert said.count("its new table, all 4K leaves") == sum(
            root.splits for root in outcome.roots if root.valid
        )
        drawn = svg.partition("</defs>")[2].count("url(#x-split)")
        mirrored = sum(
            root.splits for root in outcome.roots if root.is_mirror
        )  # the S-EPT shows it once more
        assert drawn - 1 == split + mirrored
        lost = [root for root in outcome.roots if root.is_mirror and root.zapped]
        assert ("zapped whole: 511 frames besides g are lost" in said) is bool(lost)
        again = [root for root in outcome.roots if root.name == "direct" and root.zapped]
        assert ("zapped whole: 511 frames besides g are re-faulted" in said) is bool(again)


def test_warnings_are_written_in_full(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        assert [text for text in texts(svg) if text.startswith("WARN_ON")] == list(outcome.warnings)


def test_a_plain_vm_has_the_places_of_the_others_and_says_why_they_are_empty():
    said = texts(tree(two_trees_svg(ask(Question(kind="plain")), LIGHT)))
    assert "A plain VM has no mirror root:" in said
    assert "And no S-EPT." in said
    assert "No direct root of this VM is invalid." in said
    assert "hardware walks it for every GPA" in said
    assert "a plain VM has no shared bit: one tree, one path" in said
    assert not [text for text in said if "S-bit" in text or "never used" in text]


def test_pictures_of_different_outcomes_differ(outcomes):
    """But for what is the same by its nature: a shared leaf more in a plain VM, a filter nobody reads."""
    seen: dict[str, tuple] = {}
    for outcome in outcomes:
        if outcome.is_td or not outcome.question.shared_leaf:
            svg = two_trees_svg(outcome, LIGHT, "x")
            read = outcome.question.filter if outcome.filter_read else ""
            key = outcome.question._replace(filter=read)
            assert seen.setdefault(svg, key) == key


# ---- places: where the marks stand ---------------------------------------------------------------------
#
# The panels begin at 24 and 516; the strips of the upper ones are 436 units wide, 12 further in.

SVG = "{http://www.w3.org/2000/svg}"
LEFT_OF = {"direct": 36, "mirror": 528}
PANEL_OF = {"direct": (24, 224), "mirror": (516, 224), "invalid direct": (24, 516), "S-EPT": (516, 516)}


def said_at(svg, x: int, y: int) -> list[str]:
    at = (f"{x}", f"{y}")
    return [text.text for text in svg.iter(f"{SVG}text") if (text.get("x"), text.get("y")) == at]


def rects(svg, width: int, height: int) -> set[tuple[int, int]]:
    size = (f"{width}", f"{height}")
    found = (one for one in svg.iter(f"{SVG}rect") if (one.get("width"), one.get("height")) == size)
    return {(int(one.get("x")), int(one.get("y"))) for one in found}


def test_title_heads_and_the_roots_of_the_vm_are_written_where_they_belong(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        assert said_at(svg, 24, 32) == ["One frame, two trees: which one does the operation reach?"]
        assert said_at(svg, 36, 108) == ["operation on [g, g+1)"]
        assert said_at(svg, 300, 108) == ["filter"]
        assert said_at(svg, 448, 108) == ["root types"]
        assert said_at(svg, 654, 108) == ["roots of this VM"]
        there = {root.name for root in outcome.roots}
        for name, y in (("direct", 130), ("invalid direct", 151), ("mirror", 172)):
            assert said_at(svg, 678, y) == [name if name in there else f"no {name} root"]


def test_each_needle_is_at_the_index_of_its_level(outcomes, trees):
    """A needle of three units, or around g's own 2M leaf a box of eleven."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        needles, stubs = rects(svg, 3, 28), rects(svg, 3, 4)
        expected, leaves = set(), set()
        for root in outcome.roots:
            if root.valid:
                left = LEFT_OF[root.name]
                for text in svg.iter(f"{SVG}text"):
                    level = re.fullmatch(r"level (\d)", text.text or "")
                    if level and (text.get("x"), text.get("font-size")) == (f"{left}", "12"):
                        at = next(one for one in root.path if one.level == int(level[1]))
                        x, top = left + 436 * at.index // 512, int(text.get("y")) + 5
                        if (at.level, at.before) == (2, "leaf"):
                            leaves.add((x, top - 4))
                        else:
                            expected.add((min(x, left + 433), top - 3))
        assert needles == expected, outcome.question
        assert leaves <= stubs


def test_the_frame_of_a_reached_tree_is_around_its_own_panel(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        frames = {
            tuple(map(int, re.match(r"M(\d+) (\d+)", path.get("d")).groups()))
            for path in svg.iter(f"{SVG}path")
            if path.get("stroke-width") == "2" and path.get("stroke") in (LIGHT["good"], LIGHT["bad"])
        }
        reached = [root.name for root in outcome.roots if root.reached]
        reached += ["S-EPT"] * any(root.external for root in outcome.roots)
        assert frames == {PANEL_OF[name] for name in reached}, outcome.question


def test_hardware_has_a_chip_and_what_no_hardware_walks_a_sheet(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        hardware = ["direct", *["S-EPT"] * outcome.is_td]
        chips = {(24 if x < 500 else 516, 224 if y < 500 else 516) for x, y in rects(svg, 16, 16)}
        assert chips == {PANEL_OF[name] for name in hardware}
        paper = re.compile(r"M(\d+) (\d+) H\d+ L\d+ \d+ V\d+ H\1 Z")
        found = (paper.fullmatch(path.get("d")) for path in svg.iter(f"{SVG}path"))
        sheets = {
            (24 if int(one[1]) < 500 else 516, 224 if int(one[2]) < 500 else 516) for one in found if one
        }
        assert sheets == {PANEL_OF[one.name] for one in outcome.roots if one.name != "direct"}


def test_unused_is_written_on_the_part_of_a_root_that_its_tree_cannot_have(outcomes, trees):
    """Bit 47 halves a root of 512 entries; bit 51 leaves each tree 8, so that the rest lies right of both."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        at = [int(text.get("x")) for text in svg.iter(f"{SVG}text") if text.text == "never used here"]
        halves = {4: [36 + 109, 528 + 327], 5: [36 + 436 * 264 // 512, 528 + 436 * 260 // 512]}
        expected = halves[outcome.question.root_level] if outcome.is_td else []
        assert len(at) == len(expected)
        assert all(abs(x - middle) <= 1 for x, middle in zip(at, expected, strict=True)), at


# ---- words ---------------------------------------------------------------------------------------------


def test_the_table_says_what_the_picture_says(outcomes):
    for outcome in outcomes:
        table = ElementTree.fromstring(f"<div>{two_trees_table(outcome)}</div>").find("table")
        assert outcome.answer in table.find("caption").text
        for warning in outcome.warnings:
            assert warning in table.find("caption").text
        rows = [["".join(cell.itertext()) for cell in row] for row in table.find("tbody")]
        assert [row[0] for row in rows] == [root.name for root in outcome.roots]
        for row, root in zip(rows, outcome.roots, strict=True):
            _, types, matches, path, before, after, effect = row
            assert types == ("none: root.hpa" if outcome.types is None else " + ".join(root.needs))
            assert matches.startswith("yes") is root.matches
            assert all(bit in matches for bit in root.missing)
            assert path == f"{list(root.indices)}"
            sizes = {0: "nothing", 1: "4K", 2: "2M"}
            assert (before, after) == (sizes[root.level_before], sizes[root.level_after])
            assert effect == root.effect


def test_the_table_is_followed_by_the_event_log():
    outcome = ask(Question())
    log = ElementTree.fromstring(f"<div>{two_trees_table(outcome)}</div>").find("ol")
    assert [line.text for line in log] == list(outcome.log)


def test_the_plain_text_starts_with_the_answer_and_has_a_line_per_root(outcomes):
    for outcome in outcomes:
        lines = two_trees_text(outcome).split("\n")
        assert lines[0] == f"{TITLE} {outcome.answer}"
        for root in outcome.roots:
            [line] = [line for line in lines if line.startswith(f"{root.name} root: ")]
            assert f"{list(root.indices)}" in line
            assert line.endswith(root.effect)
            assert (", matches, " in line) is root.matches
        assert set(outcome.warnings) <= set(lines)


def test_what_the_shared_bit_does_is_said_with_its_numbers():
    assert "S is GPA bit 47, GFN bit 35" in two_trees_text(ask(Question()))
    assert "only the index at level 4 differs, by 256." in two_trees_text(ask(Question()))
    five = two_trees_text(ask(Question(root_level=5)))
    assert "S is GPA bit 51, GFN bit 39" in five
    assert "only the index at level 5 differs, by 8." in five


def test_every_operation_has_a_label_and_every_hatch_of_the_legend_exists():
    assert list(OPERATION_LABELS) == list(OPERATIONS)
    used = set(re.findall(r"url\(#x-([a-z]+)\)", two_trees_svg(ask(Question()), LIGHT, "x")))
    assert {"split", "crossing", "lost", "refaulted"} <= used <= set(HATCHED)
