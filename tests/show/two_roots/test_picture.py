"""The two-trees markup and words: well formed, of one size, room for each word, and true each time."""

import re
from itertools import combinations, product
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, ask
from tdpkit.show.theme import DARK, LIGHT, contrast
from tdpkit.show.two_roots.live import OPERATION_LABELS
from tdpkit.show.two_roots.picture import two_trees_svg, two_trees_table, two_trees_text
from tdpkit.show.two_roots.words import TITLE
from tests.oracles.svgs import (
    SVG,
    beside,
    check_alone,
    check_form,
    check_inside,
    check_lines_apart,
    check_texts_apart,
    check_whole_numbers,
    drawn,
    extent,
    texts,
    tree,
    written,
)

EXAMPLE = 0x322A84D
FLAGS = (False, True)
QUESTIONS = [
    Question(EXAMPLE, *fields) for fields in product(VM_KINDS, (4, 5), FILTERS, OPERATIONS, FLAGS, FLAGS)
]
BITS = {4: "MIRROR", 2: "DIRECT", 1: "INVALID"}
TDX_STEPS = ("BLOCK", "TRACK", "kick vCPUs", "DEMOTE", "REMOVE", "512 × WBINVD")

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
    wedge = mixed(theme["grid"], ground, 0.25)
    assert contrast(theme[role], ground) >= 4.5
    assert contrast(theme[role], wedge) >= 4.5


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


def is_bad(outcome, root) -> bool:
    """Private frames besides g are gone, or the root that was walked is not the one of the private leaf."""
    takes_private = root.is_mirror and outcome.question.operation == "zap"
    return root.reached and (takes_private or (outcome.is_td and outcome.types is None))


def test_only_reached_trees_are_framed_and_in_the_colour_of_what_is_bad_where_it_is(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        frames = [
            path.get("stroke")
            for path in svg.iter(f"{SVG}path")
            if path.get("stroke-width") == "2" and re.fullmatch(r"M\d+ \d+ H\d+ V\d+ H\d+ Z", path.get("d"))
        ]
        good, bad = [], []
        for root in outcome.roots:
            copies = 1 + (root.is_mirror and bool(outcome.tdx_steps))  # the S-EPT does what the mirror does
            (bad if is_bad(outcome, root) else good).extend([root] * copies * root.reached)
        assert (frames.count(LIGHT["good"]), frames.count(LIGHT["bad"])) == (len(good), len(bad))


def test_a_tick_is_for_what_is_right_and_what_is_bad_has_another_mark(outcomes, trees):
    """A sign per root that matches and one per tree reached; of the signs between trees, ≠ is dark."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        discs = [(d.get("cx"), d.get("cy"), d.get("fill")) for d in svg.iter(f"{SVG}circle")]
        wrong = outcome.is_td and outcome.types is None
        bad = sum(is_bad(outcome, root) for root in outcome.roots)
        bad += wrong * sum(root.matches for root in outcome.roots)
        marks = [d.partition(" ")[0] for d in (path.get("d") for path in svg.iter(f"{SVG}path"))]
        for x, _, fill in discs:
            if fill == LIGHT["bad"]:
                assert f"M{x}" in marks
            if fill == LIGHT["good"]:
                assert f"M{int(x) - 4}" in marks
        fills = [fill for _, _, fill in discs]
        assert fills.count(LIGHT["bad"]) == bad
        assert fills.count(LIGHT["good"]) == 2 * sum(root.matches for root in outcome.roots) - bad
        assert fills.count(LIGHT["ink"]) == outcome.is_td
        assert fills.count(LIGHT["paper"]) == outcome.is_td * (outcome.question.root_level - 1)


def test_the_headline_is_red_where_frames_are_lost_or_the_root_is_wrong_or_the_kernel_warns(outcomes):
    for outcome in outcomes:
        bad = outcome.warnings or any(is_bad(outcome, root) for root in outcome.roots)
        assert two_trees_svg(outcome, LIGHT).role == ("bad" if bad else "ink"), outcome.question
        loses = "511 private frames besides g are lost" in outcome.answer
        assert loses is any(root.is_mirror and root.zapped == 512 for root in outcome.roots)


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


def test_the_tdx_side_s_steps_are_written_in_order_and_their_calls_counted(outcomes, trees):
    """A split is BLOCK, TRACK and DEMOTE, a removal BLOCK, TRACK, REMOVE and a WBINVD for each 4K page."""
    seen = set()
    for outcome, svg in zip(outcomes, trees, strict=True):
        written = texts(svg)
        assert [text for text in written if text in TDX_STEPS] == list(outcome.tdx_steps)
        said = "the mirror tree did not change: no SEAMCALL" in written
        assert said is (outcome.is_td and not outcome.tdx_steps)
        counts = {int(found[1]) for text in written if (found := re.match(r"(\d+) SEAMCALLs; ", text))}
        changed = {3 + 512 if root.zapped else 3 for root in outcome.roots if root.external}
        assert counts == changed
        assert all(f": {count} SEAMCALLs" in two_trees_text(outcome) for count in counts)
        seen |= counts
    assert seen == {3, 515}


def test_the_steps_of_a_removal_fit_the_s_ept_s_panel():
    """The panel's strips end at 964; boxes of 20 units hold the steps."""
    svg = tree(two_trees_svg(ask(Question(operation="zap")), LIGHT))
    boxes = [one for one in svg.iter(f"{SVG}rect") if one.get("height") == "20" and int(one.get("y")) > 460]
    ends = [int(one.get("x")) + int(one.get("width")) for one in boxes]
    assert len(ends) == 5
    assert max(ends) <= 964


def above_legend(svg) -> list:
    return [rect for rect in drawn(svg, "rect") if int(rect.get("y")) < 630]


NAMES = {
    "2M leaves": LIGHT["leaf2"],
    "was split": "url(#x-crossing)",
    "its new 4K leaves": "url(#x-split)",
    "zapped: lost": "url(#x-lost)",
    "zapped: re-faulted": "url(#x-refaulted)",
    "nothing mapped": LIGHT["hole"],
}


@pytest.mark.slow
def test_the_legend_names_what_is_drawn_and_nothing_else(outcomes):
    for outcome in outcomes:
        svg = tree(two_trees_svg(outcome, LIGHT, "x"))
        fills = {rect.get("fill") for rect in above_legend(svg)}
        named = {name for text in svg.iter(f"{SVG}text") if (name := text.text) in NAMES}
        assert named == {name for name, fill in NAMES.items() if fill in fills}, outcome.question
        for name in named:
            [text] = written(svg, name)
            assert beside(svg, text).get("fill") == NAMES[name]


@pytest.mark.slow
def test_a_split_a_zap_and_what_stays_whole_are_told_apart_by_hatch_and_word(outcomes):
    for outcome in outcomes:
        svg = tree(two_trees_svg(outcome, LIGHT, "x"))
        said = texts(svg)
        assert said.count("its new table, all 4K leaves") == sum(
            root.splits for root in outcome.roots if root.valid
        )
        hatched = [rect.get("fill") for rect in above_legend(svg)].count("url(#x-split)")
        copies = sum(root.splits for root in outcome.roots if root.is_mirror)  # in the S-EPT once more
        assert hatched == sum(root.splits for root in outcome.roots) + copies
        lost = [root for root in outcome.roots if root.is_mirror and root.zapped]
        assert ("zapped whole: 511 frames besides g are lost" in said) is bool(lost)
        again = [root for root in outcome.roots if root.name == "direct" and root.zapped]
        assert ("zapped whole: 511 frames besides g are re-faulted" in said) is bool(again)


def test_warnings_are_written_in_full(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        assert [text for text in texts(svg) if text.startswith("WARN_ON")] == list(outcome.warnings)


def test_the_one_tree_of_a_plain_vm_has_the_room_of_all_that_it_does_not_have():
    svg = tree(two_trees_svg(ask(Question(kind="plain")), LIGHT))
    said = texts(svg)
    assert "no mirror root" in said
    assert "hardware walks it for every GPA" in said
    assert "a plain VM has no shared bit: one tree, one path" in said
    assert not [text for text in said if "S-bit" in text or "never used" in text or "S-EPT" in text]
    assert frames_of(svg) == {(24, 208): (976, 612)}
    svg = tree(two_trees_svg(ask(Question(kind="plain", invalid_root=True, operation="zap")), LIGHT))
    assert frames_of(svg) == {(24, 208): (976, 450), (24, 460): (976, 612)}


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
# A TD's panels begin at 24 and 544 and are 432 wide, that of a plain VM has the whole width, less 96 for the
# names of levels; strips begin and end 12 further in.

PANEL_OF = {"direct": (24, 208), "mirror": (544, 208), "invalid direct": (24, 460), "S-EPT": (544, 460)}


def sides_of(outcome, name: str) -> tuple[int, int]:
    """Where the strips of a live root begin and end."""
    if not outcome.is_td:
        return 132, 964
    return (36, 444) if name == "direct" else (556, 964)


def strips_of(svg, outcome, name: str) -> list[tuple[int, int]]:
    """Top and height of each strip of a live root, the root's own first."""
    low, high = sides_of(outcome, name)
    box = re.compile(rf"M{low} (\d+) H{high} V(\d+) H{low} Z")
    found = (box.fullmatch(path.get("d")) for path in svg.iter(f"{SVG}path"))
    return sorted((int(one[1]), int(one[2]) - int(one[1])) for one in found if one)


def frames_of(svg) -> dict[tuple[int, int], tuple[int, int]]:
    """The frames around what was reached: where each begins, and where it ends."""
    box = re.compile(r"M(\d+) (\d+) H(\d+) V(\d+) H\1 Z")
    paths = (path for path in svg.iter(f"{SVG}path") if path.get("stroke-width") == "2")
    found = [box.fullmatch(p.get("d")) for p in paths if p.get("stroke") in (LIGHT["good"], LIGHT["bad"])]
    return {(int(one[1]), int(one[2])): (int(one[3]), int(one[4])) for one in found if one}


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
        assert said_at(svg, 36, 102) == ["operation on [g, g+1)"]
        assert said_at(svg, 312, 102) == ["filter"]
        assert said_at(svg, 458, 102) == ["root types"]
        assert said_at(svg, 666, 102) == ["roots of this VM"]
        there = {root.name for root in outcome.roots}
        for name, y in (("direct", 124), ("invalid direct", 148), ("mirror", 172)):
            assert said_at(svg, 686, y) == [name if name in there else f"no {name} root"]


def test_each_needle_is_at_the_index_of_its_level(outcomes, trees):
    """A needle of three units, or around g's own 2M leaf a box of eleven."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        expected, leaves, heights = set(), set(), set()
        for root in outcome.roots:
            if root.valid:
                low, high = sides_of(outcome, root.name)
                for at, (top, height) in zip(root.path, strips_of(svg, outcome, root.name), strict=True):
                    x = low + (high - low) * at.index // 512
                    heights.add(height)
                    if (at.level, at.before) == (2, "leaf"):
                        leaves.add((x, top - 4))
                    else:
                        expected.add((min(x, high - 3), top - 3))
        [height] = heights
        assert rects(svg, 3, height + 6) == expected, outcome.question
        assert leaves <= rects(svg, 3, 4)


def test_the_frame_of_a_reached_tree_is_around_its_own_panel(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        reached = [root.name for root in outcome.roots if root.reached]
        reached += ["S-EPT"] * any(root.external for root in outcome.roots)
        assert set(frames_of(svg)) == {PANEL_OF[name] for name in reached}, outcome.question


def test_hardware_has_a_chip_and_what_no_hardware_walks_a_sheet(outcomes, trees):
    for outcome, svg in zip(outcomes, trees, strict=True):
        hardware = ["direct", *["S-EPT"] * outcome.is_td]
        chips = {(24 if x < 500 else 544, 208 if y < 450 else 460) for x, y in rects(svg, 16, 16)}
        assert chips == {PANEL_OF[name] for name in hardware}
        paper = re.compile(r"M(\d+) (\d+) H\d+ L\d+ \d+ V\d+ H\1 Z")
        found = (paper.fullmatch(path.get("d")) for path in svg.iter(f"{SVG}path"))
        sheets = {
            (24 if int(one[1]) < 500 else 544, 208 if int(one[2]) < 450 else 460) for one in found if one
        }
        assert sheets == {PANEL_OF[one.name] for one in outcome.roots if one.name != "direct"}


def test_unused_is_written_on_the_part_of_a_root_that_its_tree_cannot_have(outcomes, trees):
    """Bit 47 halves a root of 512 entries; bit 51 leaves each tree 8, so that the rest lies right of both."""
    for outcome, svg in zip(outcomes, trees, strict=True):
        at = [int(text.get("x")) for text in svg.iter(f"{SVG}text") if text.text == "never used here"]
        halves = {4: [36 + 102, 556 + 306], 5: [36 + 408 * 264 // 512, 556 + 408 * 260 // 512]}
        expected = halves[outcome.question.root_level] if outcome.is_td else []
        assert len(at) == len(expected)
        assert all(abs(x - middle) <= 1 for x, middle in zip(at, expected, strict=True)), at


# ---- what can be dragged and pressed -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize("levels", [4, 5])
@pytest.mark.parametrize("gfn", [EXAMPLE, 0, 2**35 - 1])
def test_where_g_is_dragged_to_its_needle_then_is(kind, levels, gfn):
    """The track says a place for each frame along a strip, straight from knot to knot."""
    names = ["direct", *["mirror"] * (kind == "TD")]
    picture = two_trees_svg(ask(Question(gfn, kind, levels)), LIGHT)
    assert [track.name for track in picture.tracks] == len(names) * [
        f"level {level}" for level in range(levels, 0, -1)
    ]
    for number, track in enumerate(picture.tracks):
        name, pages = names[number // levels], 512 ** (levels - 1 - number % levels)
        (first, left), (end, right) = track.knots
        assert (end - first) % pages == (gfn - first) % pages == 0
        assert first <= gfn < end
        assert track.keyed is (name == "direct")
        for index in {0, (end - first) // pages // 3, (end - first) // pages - 1}:
            moved = ask(Question(first + index * pages, kind, levels))
            root = next(root for root in moved.roots if root.name == name)
            svg = tree(two_trees_svg(moved, LIGHT))
            low, high = sides_of(moved, name)
            top, height = strips_of(svg, moved, name)[number % levels]
            assert (track.top, track.bottom) == (top, top + height)
            x = left + (right - left) * index * pages // (end - first)
            at = root.path[number % levels]
            if (at.level, at.before) == (2, "leaf"):
                boxes = [mark - 4 for mark, y in rects(svg, 3, 4) if y == top - 4]  # in the middle of eleven
                assert any(box <= x <= box + 11 for box in boxes)
            else:
                assert (
                    min(abs(min(x, high - 3) - n) for n, y in rects(svg, 3, height + 6) if y == top - 3) <= 1
                )
            assert low <= left < right <= high


def test_the_frames_of_a_track_are_those_that_the_vm_has():
    """A TD's frames end where the shared bit begins, those of a root of five levels where the host's memory
    ends, at 4P.
    """
    for question, end in (
        (Question(), 2**35),
        (Question(root_level=5), 2**39),
        (Question(kind="plain"), 2**36),
        (Question(kind="plain", root_level=5), 2**40),
    ):
        top, *_ = two_trees_svg(ask(question), LIGHT).tracks
        (first, _), (last, _) = top.knots
        pages = 512 ** (question.root_level - 1)
        assert (first, last) == (EXAMPLE % pages, end + EXAMPLE % pages)


def test_each_bit_of_the_filter_and_each_thing_a_vm_can_have_is_pressed_where_it_is_drawn(outcomes):
    for outcome in outcomes[::3]:
        picture, asked = two_trees_svg(outcome, LIGHT), outcome.question
        svg, spots = tree(picture), {spot.name: spot for spot in picture.spots}
        there = {
            "filter:private": (bool(FILTERS[asked.filter] & 2), "PRIVATE"),
            "filter:shared": (bool(FILTERS[asked.filter] & 1), "SHARED"),
            "vm:leaf": (asked.shared_leaf, "shared leaf at g"),
            "vm:invalid": (
                asked.invalid_root,
                "invalid direct" if asked.invalid_root else "no invalid direct root",
            ),
            "vm:mirror": (asked.kind == "TD", "mirror" if asked.kind == "TD" else "no mirror root"),
        }
        if not outcome.is_td:
            del there["vm:leaf"]
        assert {name: spot.chosen for name, spot in spots.items()} == {n: on for n, (on, _) in there.items()}
        boxes = [path.get("d") for path in svg.iter(f"{SVG}path")]
        for name, (_, said) in there.items():
            spot, [text] = spots[name], written(svg, said)
            low, high = extent(text)
            assert spot.bottom - spot.top >= 20
            if name.startswith("vm"):
                assert spot.left <= low - 20
                assert high <= spot.right
                assert spot.top < int(text.get("y")) - 9 < int(text.get("y")) + 3 < spot.bottom
            else:
                assert abs((low + high) / 2 - (spot.left + spot.right) / 2) <= 1
                box = f"M{spot.left} {spot.top} H{spot.right} V{spot.bottom - 3} H{spot.left} Z"
                assert box in boxes
        for one, other in combinations(picture.spots, 2):  # 24 units apart, or more
            below = other.top + other.bottom >= one.top + one.bottom + 48
            assert one.right <= other.left or other.right <= one.left or below


def test_no_text_is_smaller_than_twelve_units(outcomes):
    assert {two_trees_svg(outcome, LIGHT).smallest for outcome in outcomes[::5]} == {12}


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


def test_every_operation_has_a_label():
    assert list(OPERATION_LABELS) == list(OPERATIONS)
