"""The strategy race's state: against numbers counted elsewhere, and against trees that are really split."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.engine.pool import PageTablePool
from tdpkit.engine.scan import scan
from tdpkit.engine.tree import TdpMmuRoot, leaf_runs, translate
from tdpkit.lab.judge import forced_in, judge, run_strategy
from tdpkit.lab.layouts import map_layout
from tdpkit.lab.strategies import STRATEGIES, PlannedCall, kai_two_step
from tdpkit.lab.words import Names
from tdpkit.lab.worlds import JournalWorld
from tdpkit.show.race.guests import GUESTS, MOST_ROWS, OPENING_ROWS, checked, rows_of, rule_of
from tdpkit.show.race.state import MOST_LANES, Track, axis_for, lanes_of, run_race

ALL = rows_of(STRATEGIES)
OPENING = rows_of(OPENING_ROWS)
SMALL = ("mixed", "one-1G", "toy")


@pytest.fixture(scope="session")
def tracks():
    return {name: Track(guest.layout) for name, guest in GUESTS.items()}


def opened(tracks, name, rows=OPENING):
    guest = GUESTS[name]
    return run_race(tracks[name], rows, parse_gfn(guest.start), parse_gfn(guest.end))


# ---- numbers counted elsewhere -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "visits"),
    [
        # The kernel's own C code (S230), and prototypes older than this code (S233, S122, S133).
        ("16T-2M", [6303777, 523, 16, 12, 12, 25178142, 16]),
        ("16T-1G", [12837, 527, 20, 16, 16, None, None]),
        ("one-1G", [8, 522, 10, 8, 11, 8, None]),
        ("16T-empty", [25, None, None, None, None, 25, None]),
    ],
)
def test_visits_are_those_that_were_counted_before_this_code(tracks, guest, visits):
    rows = opened(tracks, guest).rows
    assert [row.name for row in rows] == list(OPENING_ROWS)
    assert [row.visits if known else None for row, known in zip(rows, visits, strict=True)] == visits


def test_verdicts_splits_and_frames_of_the_thread_s_range(tracks):
    race = opened(tracks, "16T-2M")
    *exact, plain, w1 = race.rows
    assert {(row.verdict, row.needed, row.needless, row.missing, row.outside) for row in exact} == {
        ("exact", 2, 0, 0, 0)
    }
    assert (plain.verdict, plain.needed, plain.needless, plain.priced) == ("needless", 2, 6291455, True)
    assert (w1.verdict, w1.needed, w1.needless, w1.missing, w1.outside) == ("wrong", 1, 1, 1, 1)
    assert race.zap_visits == 6304283  # S122
    assert [row.priced for row in race.rows].count(True) == 1


@pytest.mark.parametrize(
    ("guest", "start", "end", "forced"),
    [
        # S142, shifted to where the leaf lies in this guest
        ("one-1G", 0x40000 + 0x207, 0x40000 + 0x209, 2),
        ("one-1G", 0x40000 + 0x3FF, 0x40000 + 0x401, 3),
        ("one-1G", 0x40000 + 0x200, 0x40000 + 0x400, 1),
        ("one-1G", 0x40001, 0x80000, 2),
        ("one-1G", 0x40000, 0x80000, 0),
        ("16T-1G", 0x3FFFF, 0x40001, 4),
        ("16T-1G", 7, 0xC0005, 4),
        ("16T-1G", 0x200, 0xC0200, 2),
        ("16T-2M", 0x1FF, 0x201, 2),
        ("16T-2M", 1, 0x1FF, 1),
        ("16T-2M", 0, 0x201, 1),
    ],
)
def test_the_exact_ones_make_as_many_splits_as_were_recorded(tracks, guest, start, end, forced):
    race = run_race(tracks[guest], OPENING, start, end)
    for row in race.rows[:5]:
        assert (row.verdict, row.splits, row.missing) == ("exact", forced, 0), row.name


def test_frames_outside_are_those_of_the_recorded_tables(tracks):
    """S142, collateral frames: a strategy that does nothing saves none of them."""
    nothing = rows_of({"nothing": lambda geometry, span: []})
    for guest, start, end, frames in (
        ("one-1G", 0x40000 + 0x200, 0x40000 + 0x400, 261632),
        ("one-1G", 0x40000 + 0x207, 0x40000 + 0x209, 262142),
        ("16T-1G", 0x3FFFF, 0x40001, 524286),
        ("16T-1G", 7, 0xC0005, 262146),
        ("16T-2M", 1, 0x1FF, 2),
        ("16T-2M", 0x1FF, 0x201, 1022),
        ("16T-2M", 0, 0x200, 0),
    ):
        [row] = run_race(tracks[guest], nothing, start, end).rows
        assert (row.outside, row.verdict) == (frames, "wrong" if frames else "exact")


@pytest.mark.parametrize("guest", GUESTS)
def test_the_zap_s_visits_are_those_of_a_walk_of_the_exact_tree(tracks, guest):
    track, span = tracks[guest], GfnRange.parse(GUESTS[guest].start, GUESTS[guest].end)
    world = JournalWorld(track.root.pool)
    run_strategy(track.root, kai_two_step, span, world=world)
    visited = scan(track.root, span.start, span.end, 1).visited
    world.undo()
    assert opened(tracks, guest).zap_visits == visited


# ---- the tree is taken back ----------------------------------------------------------------------------


def in_use(root) -> dict[int, bytes]:
    """Every table below `root`, byte by byte."""
    pool, rows, tables = root.pool, [root.row], {}
    while rows:
        row = rows.pop()
        tables[row] = bytes(pool.table(row))
        level = pool.role[row] & 0xF
        for spte in pool.table(row) if level > 1 else ():
            if spte & 1 << 11 and not spte & 1 << 7:  # present, and no leaf
                rows.append(spte >> 12 & (1 << 40) - 1)
    return tables


@pytest.mark.parametrize("guest", ["16T-1G", "16T-empty", *SMALL])
def test_the_tree_is_bit_for_bit_what_it_was(guest):
    track = Track(GUESTS[guest].layout)
    opened({guest: track}, guest)  # the pool has grown
    before, pages = in_use(track.root), track.root.pool.rows_in_use
    assert len(before) == pages
    rng = random.Random(7)
    for _ in range(8):
        start, end = sorted(rng.randrange(track.layout.frames + 1) for _ in range(2))
        run_race(track, ALL, start, min(end, track.layout.frames))
        assert track.root.pool.rows_in_use == pages
    assert in_use(track.root) == before


@pytest.mark.slow
def test_the_tree_of_16_tib_is_what_it_was(tracks):
    track = tracks["16T-2M"]
    runs, pages = list(leaf_runs(track.root)), track.root.pool.rows_in_use
    opened(tracks, "16T-2M", ALL)
    assert (list(leaf_runs(track.root)), track.root.pool.rows_in_use) == (runs, pages)


@pytest.mark.slow
def test_the_same_range_gives_the_same_race(tracks):
    for guest in SMALL:
        first = opened(tracks, guest, ALL)
        run_race(tracks[guest], ALL, 3, 60)
        assert opened(tracks, guest, ALL) == first


def test_a_strategy_that_fails_on_the_way_leaves_the_tree_as_it_was():
    track = Track(GUESTS["toy"].layout)
    before = in_use(track.root)

    def stumbles(geometry, span):
        return [PlannedCall(span.start, span.end, 1), PlannedCall(9, 3, 1)]

    for strategy in (stumbles, lambda geometry, span: 1 // 0, lambda geometry, span: [(1, 2, 1)]):
        with pytest.raises((InvalidValueError, InvalidTypeError)):
            run_race(track, {"mine": strategy}, 5, 34)
        assert in_use(track.root) == before
    assert track.root.pool.rows_in_use == 1


# ---- what is drawn is what is there --------------------------------------------------------------------


def really(layout, strategy, span):
    """A fresh tree on which the strategy's calls were made to the end, and its report."""
    root = TdpMmuRoot(PageTablePool(layout.geometry))
    map_layout(root, layout)
    return root, run_strategy(root, strategy, span, stepwise=1 << 40)


def samples(rng, race):
    """Frames in sight: around every border of a segment, and some between."""
    for window in race.axis.windows:
        segments = [segment for row in race.rows for segment in row.segments]
        ends = {frame for segment in segments for frame in (segment.first, segment.last - 1)}
        yield from sorted(frame for frame in ends if frame in window)
        yield from (rng.randrange(window.start, window.end) for _ in range(20))


SPANS = {
    "toy": [(0, 64), (5, 34), (16, 32), (1, 63), (7, 7), (17, 18), (0, 0), (64 - 1, 64), (4, 12)],
    "one-1G": [(0x40207, 0x40209), (0x40200, 0x40400), (0x50001, 0x50001), (0x3FFFF, 0x80001), (1, 7)],
    "mixed": [
        *[(0x603, 0xE0100), (0, 1 << 20), (0x40001, 0x7FFFF), (0x3FF, 0x401), (0xA0001, 0xC0200)],
        (0x80000, 0x80005),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(("guest", "span"), [(guest, span) for guest in SPANS for span in SPANS[guest]])
def test_segments_and_marks_are_those_of_a_tree_that_is_really_split(tracks, guest, span):
    layout, rng = GUESTS[guest].layout, random.Random(3)
    race = run_race(tracks[guest], ALL, *span)
    frames, edges = list(samples(rng, race)), GfnRange(*span)
    forced = set(forced_in(tracks[guest].root, edges))
    for row in race.rows:
        root, report = really(layout, ALL[row.name], edges)
        judged = judge(report, edges, forced_in(tracks[guest].root, edges))
        assert (row.visits, row.splits) == (report.all_visits, report.splits)
        assert (row.verdict, row.needless, row.missing, row.outside) == (
            judged.verdict,
            judged.needless,
            len(judged.missing),
            judged.outside_frames,
        ), row.name
        made = {(gfn, level) for gfn, level in report.made}
        for frame in frames:
            [segment] = [one for one in row.segments if one.first <= frame < one.last]
            leaf = translate(root, frame)
            if leaf is None:
                assert (segment.kind, segment.level) == ("hole", 0)
                continue
            pages = layout.geometry.pages(leaf.level)
            assert segment.level == leaf.level, (row.name, hex(frame))
            crosses = any(leaf.gfn < edge < leaf.gfn + pages for edge in span)
            parent = frame >> layout.geometry.shifts[leaf.level + 1] << layout.geometry.shifts[leaf.level + 1]
            kind = "split" if (parent, leaf.level + 1) in made else f"leaf{leaf.level}"
            if crosses:
                kind = "crossing" if frame in edges else "lost"
            assert segment.kind == kind, (row.name, hex(frame))
        marked(layout.geometry, race, row, made, forced)


def marked(geometry, race, row, made, forced):
    """Every split in sight has a mark of its kind, and no mark is without splits."""
    for kind, expected in (
        ("needed", made & forced),
        ("missing", forced - made),
        ("needless", made - forced),
    ):
        for window in race.axis.windows:
            for level in range(2, geometry.max_leaf_level + 1):
                pages = geometry.pages(level)
                drawn = {
                    gfn
                    for mark in row.marks
                    if (mark.kind, mark.level) == (kind, level)
                    for gfn in range(mark.first, mark.last, pages)
                    if gfn < window.end and window.start < gfn + pages
                }
                there = {
                    gfn
                    for gfn, n in expected
                    if n == level and gfn < window.end and window.start < gfn + pages
                }
                assert drawn == there, (row.name, kind, level)


# ---- axis and lanes ------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.sampled_from(sorted(GUESTS)), st.data())
def test_the_axis_shows_both_edges_in_order_and_whole_numbers(name, data):
    layout = GUESTS[name].layout
    frame = st.integers(0, layout.frames)
    start, end = sorted((data.draw(frame), data.draw(frame)))
    axis = axis_for(layout.geometry, layout.frames, GfnRange(start, end))
    assert axis.in_sight(start)
    assert axis.in_sight(end)
    points = axis.points
    assert points == sorted(set(points))
    assert 0 <= axis.first < axis.last <= layout.frames
    xs = [axis.x(point, 188, 560) for point in points]
    assert (xs[0], xs[-1]) == (188, 560)
    assert xs == sorted(xs)
    if not axis.is_whole:
        assert all(high - low >= 6 for low, high in pairwise(xs)), "each stretch can be seen"
    for window in axis.windows:
        assert window.pages > 0
    assert len(axis.windows) <= 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=8))
def test_calls_on_one_lane_do_not_overlap(spans):
    calls = [PlannedCall(start, start + pages, 1) for start, pages in spans]
    lanes = lanes_of(calls)
    assert len(lanes) == len(calls)
    assert set(lanes) == set(range(max(lanes, default=-1) + 1)), "no lane is left free"
    for at, one in enumerate(calls):
        for other in range(at):
            if lanes[at] == lanes[other] < MOST_LANES - 1:
                frames = [
                    set(range(call.start, max(call.end, call.start + 1))) for call in (one, calls[other])
                ]
                assert frames[0].isdisjoint(frames[1])


# ---- who races -----------------------------------------------------------------------------------------


def test_every_strategy_of_the_lab_has_its_words():
    x86, toy = (Names(GUESTS[name].layout.geometry, toy=name == "toy") for name in ("16T-2M", "toy"))
    titles = [rule_of(name, strategy, x86).title for name, strategy in STRATEGIES.items()]
    assert len(set(titles)) == len(titles)
    assert not any("{" in text for one in STRATEGIES.values() for text in one.rule.on(x86))
    # On the toy leaves hold 16, 4 and 1 frames, and all sizes are counts of frames.
    for names, small, frame in ((x86, "2M", "4K"), (toy, "4", "1")):
        title, rule, _ = rule_of("one_2m_pass", STRATEGIES["one_2m_pass"], names)
        assert (title, rule) == (f"one pass at {small}", f"blocks of {small} only, to {frame}")


def test_a_strategy_of_one_s_own_is_shown_by_its_name_and_its_docstring():
    def mine(geometry, span):
        """Splits nothing, and hopes.

        Not for use.
        """
        return []

    geometry = GUESTS["toy"].layout.geometry
    assert rule_of("my_way", mine, geometry) == ("my way", "your own", "Splits nothing, and hopes.")
    assert rule_of("walk_v3", mine, geometry).title == "walk v3", "a name alone makes nobody the lab's"
    # Names have 160 units: a bold x of 13 has 8.45 of them, a W 14.3, the dots 13.
    assert rule_of("x" * 99, mine, geometry).title == "x" * 17 + "…"
    assert rule_of("W" * 99, mine, geometry).title == "W" * 10 + "…"
    assert rule_of("my_own_way_to_split", mine, geometry).title == "my own way to split"
    assert rule_of("f", lambda geometry, span: [], geometry).idea == "a plan of your own"


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ("walk_v3", InvalidTypeError),
        (["walk_v3", "nope"], InvalidValueError),
        ([], InvalidValueError),
        ({}, InvalidValueError),
        (["walk_v3", "walk_v3"], InvalidValueError),
        ({"mine": 3}, InvalidTypeError),
        ({"": kai_two_step}, InvalidTypeError),
        ({3: kai_two_step}, InvalidTypeError),
        ({f"s{n}": kai_two_step for n in range(MOST_ROWS + 1)}, InvalidValueError),
        ([["walk_v3"]], InvalidValueError),
    ],
)
def test_rows_that_are_none_are_refused(rows, error):
    with pytest.raises(error):
        rows_of(rows)


def test_a_plan_s_mistakes_are_answered_in_words():
    geometry, span = GUESTS["toy"].layout.geometry, GfnRange(5, 34)
    for strategy, said in (
        (lambda geometry, span: {}["x"], "KeyError"),
        (lambda geometry, span: None, "TypeError"),
        (list, "TypeError"),
        (lambda geometry, span: [(1, 2, 1)], "plans PlannedCalls"),
        (lambda geometry, span: [PlannedCall(0, 4, 1)] * 257, "256 calls"),
    ):
        with pytest.raises((InvalidValueError, InvalidTypeError)) as refused:
            checked("mine", strategy)(geometry, span)
        assert said in str(refused.value)
        assert "mine" in str(refused.value)


@pytest.mark.parametrize(("start", "end"), [(5, 4), (0, 65), (64, 64), (-1, 4), (3.0, 5)])
def test_a_range_that_is_not_the_guest_s_is_refused(tracks, start, end):
    with pytest.raises((InvalidValueError, InvalidTypeError)):
        run_race(tracks["toy"], OPENING, start, end)
