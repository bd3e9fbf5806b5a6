"""The life of a range, against a model that knows no tables: of each frame its half, its state, its byte."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from random import Random

import pytest

from tdpkit.engine.gfn import GfnRange, InvalidTypeError, InvalidValueError
from tdpkit.engine.splits import SPLITS
from tdpkit.engine.tree import TdpMmuRoot, leaves
from tdpkit.lab.layouts import LIFE_TOY
from tdpkit.lab.page_life import PageLife, story
from tdpkit.lab.page_life.fold import LifeView, fold
from tdpkit.lab.page_life.record import Act, Deed, Fact, Recorder, Standing, Work
from tdpkit.lab.page_life.story import FOLIOS, MACHINES
from tdpkit.lab.page_life.words import ACTORS, AGAIN
from tdpkit.lab.words import Names
from tdpkit.tdx.abi import Call

FRAMES, BLOCK = 32, 8
"""The toy: four leaves of eight frames."""
OWN, SHARED = 0x10, 0xA0
"""First bytes: of the guest's own, of userspace's."""
PARTS = {"", "attributes", "direct", "mirror", "sept", "finds"}


def ranges(count: int, seed: int) -> list[tuple[int, int]]:
    random = Random(seed)
    drawn = [sorted(random.sample(range(FRAMES + 1), 2)) for _ in range(count)]
    return [(0, 32), (8, 16), (5, 12), (5, 6), (31, 32), (1, 31), *((low, high) for low, high in drawn)]


def block(frame: int) -> range:
    """The frames that share a leaf with `frame` after the guest took its memory by eights."""
    return range(frame // BLOCK * BLOCK, frame // BLOCK * BLOCK + BLOCK)


def lost_frames(start: int, end: int, split: str) -> set[int]:
    """Those that share a leaf with the range and lie outside; only where nothing is split."""
    if split != "none":
        return set()
    return {frame for inside in range(start, end) for frame in block(inside)} - set(range(start, end))


def crossing(start: int, end: int) -> list[int]:
    """First frames of the blocks with an edge of the range strictly inside."""
    return sorted({edge // BLOCK * BLOCK for edge in (start, end) if edge % BLOCK})


def at_end_of(life: PageLife, act: str) -> LifeView:
    return life.steps[life.acts[act][-1]].view


def state_of(view: LifeView, frame: int) -> str:
    [state] = [run.state for run in view.sept if run.gfn <= frame < run.end] or ["FREE"]
    return state


def found(view: LifeView) -> list[str]:
    """What the guest finds, frame by frame."""
    return [find.kind for find in view.finds for _ in range(find.gfn, find.end)]


def private(view: LifeView) -> set[int]:
    return {frame for part in view.private for frame in range(*part)}


# ---- the story of a conversion -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_after_each_act_every_frame_has_the_half_the_state_and_the_byte_of_the_model(split):
    everyone = set(range(FRAMES))
    for start, end in ranges(4, 3):
        life = PageLife(start, end, split=split)
        span, lost = set(range(start, end)), lost_frames(start, end, split)
        assert list(life.acts) == ["touch and accept", "convert", "use", "convert back"]
        assert life.result == 0

        view = at_end_of(life, "touch and accept")
        assert private(view) == everyone
        assert list(view.bytes) == [f"{OWN + frame:02x}" for frame in range(FRAMES)]
        assert found(view) == ["own"] * FRAMES

        view = at_end_of(life, "convert")
        assert private(view) == everyone - span
        for frame in range(FRAMES):
            gone = frame in span | lost
            assert state_of(view, frame) == ("FREE" if gone else "PRESENT")
            assert view.bytes[frame] == ("--" if gone else f"{OWN + frame:02x}")
            kind = "none" if frame in span else "lost" if frame in lost else "own"
            assert found(view)[frame] == kind

        view = at_end_of(life, "use")
        for frame in range(FRAMES):
            own = 0 if frame in lost else OWN + frame
            assert view.bytes[frame] == f"{SHARED + frame if frame in span else own:02x}"
            assert state_of(view, frame) == ("FREE" if frame in span else "PRESENT")

        view = at_end_of(life, "convert back")
        assert private(view) == everyone
        assert view.direct == ()
        for frame in range(FRAMES):
            assert state_of(view, frame) == "PRESENT"
            assert view.bytes[frame] == f"{0 if frame in span | lost else OWN + frame:02x}"
            kind = "zeros" if frame in span else "lost" if frame in lost else "own"
            assert found(view)[frame] == kind


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_frames_lost_are_those_that_share_a_leaf_with_the_range_and_only_without_a_split(split):
    for start, end in ranges(4, 4):
        life = PageLife(start, end, split=split)
        assert life.lost == len(lost_frames(start, end, split))
        assert life.saved == (0 if split == "none" else len(lost_frames(start, end, "none")))
        lost = [step.view.lost for step in life.steps]
        assert lost == sorted(lost)


def test_on_x86_a_leaf_of_2m_loses_all_its_other_frames():
    for split, lost, saved in (("none", 261 + 256, 0), ("v3", 0, 261 + 256), ("head and tail", 0, 261 + 256)):
        life = PageLife(261, 1280, split=split, machine="x86")
        assert (life.lost, life.saved, life.result) == (lost, saved, 0)
        assert at_end_of(life, "convert").private == ((0, 261), (1280, 2048))


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_with_folios_of_4k_no_leaf_crosses_an_edge(split):
    for start, end in ranges(3, 5):
        life = PageLife(start, end, split=split, folios="4K")
        assert (life.lost, life.saved, life.requests) == (0, 0, 0)
        assert {run.level for step in life.steps for run in step.view.sept} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_folios_of_4k_are_accepted_page_by_page_and_no_frame_is_left_pending(split):
    """A guest that means a whole block tries 2M first, as Linux does, and is told TDX_PAGE_SIZE_MISMATCH."""
    everyone = set(range(FRAMES))
    for start, end in ((4, 8), *ranges(2, 12)):
        life = PageLife(start, end, split=split, folios="4K")
        span = set(range(start, end))
        assert found(at_end_of(life, "touch and accept")) == ["own"] * FRAMES
        for act, left in (("convert", everyone - span), ("use", everyone - span), ("convert back", everyone)):
            view = at_end_of(life, act)
            states = {frame: state_of(view, frame) for frame in range(FRAMES)}
            assert states == {frame: "PRESENT" if frame in left else "FREE" for frame in range(FRAMES)}
        assert found(view) == ["zeros" if frame in span else "own" for frame in range(FRAMES)]
        tried = {call.gfn for call in life.td.module.log if call.status == 0xC0000B0B << 32}
        assert tried == set(range(0, FRAMES, BLOCK))


# ---- holes ---------------------------------------------------------------------------------------------


def test_a_hole_has_to_be_of_whole_folios():
    for start, end in ranges(6, 6):
        life = PageLife(start, end, then="punch hole", split="none")
        whole = start % BLOCK == 0 and end % BLOCK == 0
        assert life.result == (0 if whole else -22)
        assert life.lost == 0
        after = at_end_of(life, "punch a hole")
        assert {frame for frame in range(FRAMES) if state_of(after, frame) == "FREE"} == (
            set(range(start, end)) if whole else set()
        )


def test_a_hole_of_one_folio_loses_frames_where_a_mapping_spans_folios_and_a_split_saves_them():
    for start, end in ranges(5, 7):
        for split in ("none", "v3"):
            life = PageLife(start, end, then="punch hole", split=split, folios="4K, spanned")
            lost = lost_frames(start, end, split)
            assert (life.result, life.lost) == (0, len(lost))
            view = at_end_of(life, "use")
            for frame in set(range(FRAMES)) - set(range(start, end)):
                assert view.bytes[frame] == f"{0 if frame in lost else OWN + frame:02x}"
            view = at_end_of(life, "touch the hole")
            assert all(view.bytes[frame] == "00" for frame in range(start, end))
            assert private(view) == set(range(FRAMES))


def test_a_hole_that_fails_is_put_down_to_folios_only_where_they_are_cut():
    cut = PageLife(5, 12, then="punch hole")
    refused = PageLife(5, 12, then="punch hole", folios="4K, spanned", refuse=1)
    last = [life.steps[life.acts["punch a hole"][-1]].said.sentence for life in (cut, refused)]
    assert [life.result for life in (cut, refused)] == [-22, -12]
    assert ["folios" in sentence for sentence in last] == [True, False]
    assert [life.requests for life in (cut, refused)] == [0, 1]


def test_a_leaf_that_came_back_too_large_is_split_while_it_is_pending():
    """The hole's block is mapped whole again; the guest accepts 4K of it (S173)."""
    life = PageLife(5, 12, then="punch hole", split="none", folios="4K, spanned")
    use = [life.steps[number] for number in life.acts["use"]]
    states = {run.state for step in use for run in step.view.sept}
    assert "PENDING_BLOCKED" in states
    titles = [step.said.title for step in use]
    at = titles.index("TDH.MEM.PAGE.DEMOTE")
    assert titles[at - 3 : at + 2] == [
        "TDH.MEM.RANGE.BLOCK",
        "TDH.MEM.TRACK",
        "kick vCPUs",
        "TDH.MEM.PAGE.DEMOTE",
        "accept level",
    ]
    assert "eight pages, still PENDING" in use[at].said.sentence


# ---- a page that is refused ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_refused_page_leaves_splits_that_were_made_and_nothing_else():
    """Each crossing leaf needs two pages: its table, and the S-EPT's."""
    for start, end in ranges(4, 8):
        first = crossing(start, end)
        for k in range(1, 6):
            life = PageLife(start, end, refuse=k)
            if k > 2 * len(first):
                assert (life.result, life.requests) == (0, 2 * len(first))
                continue
            assert (life.result, life.requests) == (-12, k)
            assert list(life.acts)[-1] == "call again"
            for act in ("convert", "use"):
                view = at_end_of(life, act)
                assert private(view) == set(range(FRAMES))
                assert list(view.bytes) == [f"{OWN + frame:02x}" for frame in range(FRAMES)]
                assert view.invalidating is None
                small = {run.gfn for run in view.sept if run.level == 1}
                assert small == set(first[: (k - 1) // 2])
            view = at_end_of(life, "call again")
            assert private(view) == set(range(FRAMES)) - set(range(start, end))
            assert life.lost == 0


@pytest.mark.parametrize(("split", "returned"), [("v3 as posted", "returns 0"), ("v3", "returns -12")])
def test_only_the_bool_of_v3_as_posted_loses_the_errno_of_a_split(split, returned):
    """[5, 12) of 8-frame leaves takes two splits, of a page table and an S-EPT page each: requests 1 to 4.

    An ``int ret`` brings the errno to the caller (S107): the call fails, and nothing is lost.
    """
    for refuse in range(1, 5):
        steps = PageLife(5, 12, split=split, refuse=refuse).steps
        assert returned in [step.said.title for step in steps], refuse
        told = any("the errno of the split was lost" in step.said.sentence for step in steps)
        assert told is (split == "v3 as posted"), refuse


def test_v3_as_posted_returns_0_for_a_refused_page_and_leaves_the_private_pages_mapped():
    life = PageLife(5, 12, split="v3 as posted", refuse=3)
    view = at_end_of(life, "convert")
    assert life.result == 0
    assert private(view) == set(range(5)) | set(range(12, 32))
    assert {state_of(view, frame) for frame in range(FRAMES)} == {"PRESENT"}
    said = life.steps[life.acts["convert"][-1]].said.sentence
    assert said.startswith("KVM_SET_MEMORY_ATTRIBUTES returns 0. But nothing was zapped")
    kept = PageLife(5, 12).steps[PageLife(5, 12).acts["convert"][-1]].said.sentence
    assert kept == "KVM_SET_MEMORY_ATTRIBUTES returns 0."


# ---- order ---------------------------------------------------------------------------------------------

STORIES = [
    {},
    {"split": "none"},
    {"split": "head and tail"},
    {"refuse": 3},
    {"split": "v3 as posted", "refuse": 2},
    {"folios": "4K"},
    {"then": "punch hole", "folios": "4K, spanned", "split": "none"},
    {"then": "punch hole", "folios": "4K, spanned", "split": "v3"},
]


@pytest.fixture(scope="module")
def lives():
    return [
        *(PageLife(5, 12, **how) for how in STORIES),
        PageLife(0, 32, split="none"),
        PageLife(261, 1280, machine="x86"),
        PageLife(5, 6, split="none", machine="x86"),
    ]


@pytest.mark.slow
def test_a_leaf_is_removed_or_demoted_after_block_then_track_then_every_vcpu_out_and_in(lives):
    for life in lives:
        blocked: dict[tuple[int, int], set[str]] = {}
        for call in life.td.module.log:
            where = call.gfn, call.level
            if call.name == "TDH.MEM.RANGE.BLOCK":
                blocked[where] = set()
            elif call.name == "TDH.MEM.TRACK":
                for done in blocked.values():
                    done.add("track")
            elif call.name == "TDH.VP.ENTER":
                for done in blocked.values():
                    if "track" in done:
                        done.add(f"vCPU {call.vcpu}")
            elif call.name in ("TDH.MEM.PAGE.REMOVE", "TDH.MEM.PAGE.DEMOTE"):
                needed = {"track", "vCPU 1"}  # vCPU 0 may be outside, in the fault that needs the split
                assert needed <= blocked.pop(where), call
        assert blocked == {}
        assert {call.status for call in life.td.module.log} <= {0, None, 0xC0000B0B << 32}


def test_the_conversion_goes_in_the_order_of_the_kernel():
    """S196, S198: invalidate, split, zap, flush, attributes, flags, the invalidation ends."""
    life = PageLife(5, 12)
    told = [life.steps[number].said.title for number in life.acts["convert"]]
    split = ["mmu_lock dropped", "page", "mmu_lock: write", "mirror: split"]
    calls = ["TDH.MEM.RANGE.BLOCK", "TDH.MEM.TRACK", "kick vCPUs"]
    demoted = [*split, *calls, "TDH.MEM.PAGE.DEMOTE"]
    zapped = ["mirror: zap", *calls, "TDH.MEM.PAGE.REMOVE", "TDH.PHYMEM.PAGE.WBINVD"]
    rest = [title for title in told if not title.startswith(AGAIN)]
    assert rest == [
        *("map_gpa", "mmu_lock: write", "invalidate begin"),
        *demoted,
        *demoted,
        *zapped,
        *("flush TLBs", "attributes", "mmu_lock: write", "huge-page flags", "invalidate end", "returns 0"),
    ]


def test_a_shared_frame_is_faulted_in_by_an_exit_and_a_page_fault():
    life = PageLife(5, 7)
    told = [life.steps[number].said.title for number in life.acts["use"]]
    fault = ["EPT violation", "pages in hand", "mmu_lock: read", "direct tree: leaf", "TDH.VP.ENTER"]
    assert told[:8] == ["goes on", *fault, "read shared", "again: read shared"]
    views = [life.steps[number].view for number in life.acts["use"]][:8]
    assert [view.entered[0][1] is None for view in views] == [False, *[True] * 4, False, False, False]
    assert [sum(run.pages for run in view.direct) for view in views] == [0, 0, 0, 0, 1, 1, 1, 2]


def test_faults_have_to_retry_from_before_the_first_change_until_the_attributes_are_stored(lives):
    for life in lives:
        numbers = life.acts.get("convert") or life.acts["punch a hole"]
        steps = [life.steps[number] for number in numbers]
        titles = [step.said.title for step in steps]
        assert titles.count("invalidate begin") == titles.count("invalidate end") == 1
        begin, end = titles.index("invalidate begin"), titles.index("invalidate end")
        for number, step in enumerate(steps):
            assert (step.view.invalidating is not None) == (begin <= number < end)
            if step.said.part in ("mirror", "sept"):
                assert begin < number < end


def test_the_mirror_and_the_sept_agree_whenever_mmu_lock_is_free(lives):
    def shape(runs):
        return [(run.gfn, run.pages, run.level) for run in runs]

    for life in lives:
        apart = 0
        for step in life.steps:
            view = step.view
            joined = join(shape(view.sept))
            if view.lock == "":
                assert join(shape(view.mirror)) == joined, step
            apart += join(shape(view.mirror)) != joined
        assert apart, "and not when a change is on its way"


def join(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Runs of one level side by side, whatever their state."""
    joined: list[tuple[int, int, int]] = []
    for gfn, pages, level in runs:
        if joined and joined[-1][2] == level and sum(joined[-1][:2]) == gfn:
            gfn, pages = joined[-1][0], joined.pop()[1] + pages
        joined.append((gfn, pages, level))
    return joined


# ---- steps ---------------------------------------------------------------------------------------------


def frames_of(root: TdpMmuRoot) -> list[tuple[int, int]]:
    """Frame and level of all that is mapped, read from the tables."""
    found = []
    for leaf in leaves(root):
        first = leaf.gfn & ~root.gfn_bits
        found += [(frame, leaf.level) for frame in range(first, first + root.geometry.pages(leaf.level))]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, *STORIES[4:7]], ids=str)
def test_at_every_moment_the_writes_of_the_record_add_up_to_the_trees(how, monkeypatch):
    """KVM's trees are read as the next thing happens, for a store follows its event; the S-EPT at once."""
    note, kvm_trees, septs = Recorder.note, [], []

    def read_all(self, *args, **more):
        note(self, *args, **more)
        kvm = self.td.kvm
        kvm_trees.append((frames_of(kvm.direct_root), frames_of(kvm.mirror_root)))
        septs.append(frames_of(self.td.module.sept))

    monkeypatch.setattr(Recorder, "note", read_all)
    life = PageLife(5, 12, **how)
    for number in range(0, len(life.facts) - 1, 3):
        facts = life.facts[: number + 1]
        look = Fact(Deed("goes on around", 5, 12), facts[-1].standing)
        view = fold([*facts, look], life.names, life.span, life.frames)[-1].view
        folded = [
            [(frame, run.level) for run in runs if run.state != "FROZEN" for frame in range(run.gfn, run.end)]
            for runs in (view.direct, view.mirror, view.sept)
        ]
        assert folded == [*kvm_trees[number + 1], septs[number]], facts[-1]


def test_counters_and_epochs_are_those_of_the_log(lives):
    for life in lives:
        for step in life.steps:
            log = life.td.module.log[: step.calls]
            names = [call.name for call in log]
            assert step.view.seamcalls == sum(name.startswith("TDH.") for name in names)
            assert step.view.td_epoch == 1 + names.count("TDH.MEM.TRACK")
            for vcpu, epoch in step.view.entered:
                entries = [at for at, call in enumerate(log) if call.vcpu == vcpu]
                if epoch is not None and entries:
                    assert epoch == 1 + names[: entries[-1]].count("TDH.MEM.TRACK")


def test_the_pages_of_a_leaf_are_written_back_in_one_step_and_each_call_is_counted(lives):
    """S161: one WBINVD per 4K page of the leaf that was removed: 1, 8 on the toy, 512 on x86."""
    seen = set()
    for life in lives:
        for before, step in pairwise(life.steps):
            if step.said.title == "TDH.PHYMEM.PAGE.WBINVD":
                assert before.said.title == REMOVE
                pages = before.focus[1] - before.focus[0]
                assert step.calls - before.calls == step.view.seamcalls - before.view.seamcalls == pages
                many = f"{pages} × TDH.PHYMEM.PAGE.WBINVD, one per 4K page"
                assert step.said.sentence.startswith(many) == (pages > 1)
                seen.add(pages)
    assert seen == {1, 8, 512}


def test_a_vcpu_s_tlb_is_emptied_at_an_entry_only_if_the_epoch_is_new_to_it(lives):
    """S166. A TRACK since the vCPU's last entry began a new epoch; both vCPUs begin inside, in epoch 1."""
    seen = set()
    for life in lives:
        for step in life.steps:
            if step.said.title != "TDH.VP.ENTER":
                continue
            *before, now = life.td.module.log[: step.calls]
            last = max((at for at, call in enumerate(before) if call.vcpu == now.vcpu), default=0)
            new = any(call.name == TRACK for call in before[last:])
            assert ("its TLB is emptied" in step.said.sentence) == new
            assert ("its TLB keeps what it holds" in step.said.sentence) != new
            seen.add(new)
    assert seen == {False, True}


def test_a_step_of_a_call_is_the_last_line_of_the_log(lives):
    for life in lives:
        for before, step in pairwise(life.steps):
            assert before.calls <= step.calls
            if step.said.title.startswith(("TDH.", "TDG.")):
                assert life.td.module.log[step.calls - 1].name == step.said.title
                assert before.calls < step.calls
        assert life.steps[-1].calls == len(life.td.module.log)


def test_steps_are_made_of_known_parts_and_say_a_sentence(lives):
    for life in lives:
        for step in life.steps:
            assert step.said.actor in ACTORS
            assert step.said.part in PARTS
            assert step.said.title
            assert step.said.sentence.endswith(".")
            first = step.said.sentence.split()[0]
            assert (
                first[0].isupper()
                or first[0].isdigit()
                or first in ("mmu_lock", "#VE:", "fallocate(PUNCH_HOLE)")
            )
            if step.focus:
                assert 0 <= step.focus[0] < step.focus[1]
                assert step.focus[0] < life.frames
        assert list(life.acts) == list(dict.fromkeys(step.act for step in life.steps))
        assert [number for act in life.acts.values() for number in act] == list(range(len(life.steps)))


def test_folded_steps_stand_for_all_the_pages_that_they_pass_over(lives):
    for life in lives:
        removed = sum(call.name == "TDH.MEM.PAGE.REMOVE" for call in life.td.module.log)
        steps = [step for step in life.steps if step.said.title in ("mirror: zap", f"{AGAIN}: zap")]
        assert sum(step.pages for step in steps) == removed
        for step in steps:
            if step.said.title.startswith(AGAIN):
                assert step.focus is not None
                frames = step.focus[1] - step.focus[0]
                assert frames % step.pages == 0


@pytest.mark.slow
def test_no_story_is_longer_than_a_slider_can_tell():
    for start, end in ranges(0, 9):
        for how in STORIES[:6]:
            assert len(PageLife(start, end, **how).steps) <= 130, (start, end, how)
    for start, end in ((1, 2047), (511, 513)):
        for split in ("v3", "none"):
            assert len(PageLife(start, end, split=split, machine="x86").steps) <= 130


@pytest.mark.parametrize(
    ("start", "end", "how"),
    [
        (261, 1280, {}),
        (1, 2047, {"folios": "4K, spanned"}),
        (0, 2000, {"split": "none", "then": "punch hole"}),
        (700, 702, {"split": "head and tail", "refuse": 1}),
    ],
    ids=str,
)
def test_pages_recorded_as_a_run_are_told_as_pages_recorded_one_by_one(start, end, how, monkeypatch):
    run = PageLife(start, end, machine="x86", **how)
    one_by_one = partial(Recorder, every=True)
    monkeypatch.setattr(story, "Recorder", lambda td, every: one_by_one(td))
    each = PageLife(start, end, machine="x86", **how)
    assert run.steps == each.steps
    assert run.td.module.log == each.td.module.log
    pages = sum(getattr(fact.what, "name", "") == REMOVE for fact in each.facts)
    assert len(each.facts) - len(run.facts) >= 8 * (pages - 8), "or the runs are as long as the pages"


BLOCK_CALL, TRACK, REMOVE = "TDH.MEM.RANGE.BLOCK", "TDH.MEM.TRACK", "TDH.MEM.PAGE.REMOVE"
STILL = Standing(private=(0, 32), flags={}, invalidating=None, entered={0: 1}, td_epoch=1)


def told(toy: bool, *pieces: tuple[str, ...]) -> list[tuple[str, int]]:
    """Titles and pages of what is told of pieces of work, page after page, each a few calls."""
    facts = [Fact(Act("touch and accept"), STILL)]
    for page, names in enumerate(pieces):
        facts.append(Fact(Work("accept", page, page + 1), STILL))
        facts += [Fact(Call(name, page, 1, 0), STILL) for name in names]
    steps = fold(facts, Names(LIFE_TOY, toy), GfnRange(5, 12), FRAMES)
    return [(step.said.title, step.pages) for step in steps]


def test_what_goes_another_way_is_told_in_full_and_what_leaves_something_out_is_not():
    same, other = (BLOCK_CALL, TRACK, REMOVE), (BLOCK_CALL, REMOVE, TRACK)
    once = [(title, 1) for title in same]
    assert told(True, same, same) == [*once, ("again: accept", 1)]
    assert told(True, same, other) == [*once, *((title, 1) for title in other)]
    assert told(True, same, same[1:]) == [*once, ("again: accept", 1)]
    assert told(True, same[1:], same) == [*once[1:], *once]


def test_on_the_toy_three_pages_that_go_the_same_way_have_a_step_each():
    assert told(True, *[(BLOCK_CALL,)] * 9) == [
        (BLOCK_CALL, 1),
        ("again: accept", 1),
        ("again: accept", 1),
        ("again: accept", 6),
    ]
    assert told(False, *[(BLOCK_CALL,)] * 9) == [(BLOCK_CALL, 1), ("again: accept", 8)]


# ---- input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error", "rule"),
    [
        ({"start": 5, "end": 5}, InvalidValueError, "at least"),
        ({"start": 12, "end": 5}, InvalidValueError, "ends at or after its start"),
        ({"start": 0, "end": 33}, InvalidValueError, "0x20 (128K) at most"),
        ({"start": -1, "end": 5}, InvalidValueError, "at least 0"),
        ({"start": 1.5, "end": 5}, InvalidTypeError, "whole numbers"),
        ({"start": 5, "end": 12, "split": "v4"}, InvalidValueError, "'v4' is none"),
        ({"start": 5, "end": 12, "machine": "arm"}, InvalidValueError, "toy, x86"),
        ({"start": 5, "end": 12, "then": "sleep"}, InvalidValueError, "convert, punch hole"),
        ({"start": 5, "end": 12, "folios": []}, InvalidValueError, "'2M', '4K'"),
        ({"start": 5, "end": 12, "refuse": -1}, InvalidValueError, "at least 0"),
        ({"start": 5, "end": 12, "refuse": True}, InvalidTypeError, "whole numbers"),
        ({"start": 5, "end": 12, "machine": "x86", "folios": "4K"}, InvalidValueError, "0x800 (8M)"),
    ],
)
def test_a_story_that_no_td_has_is_refused_in_words(how, error, rule):
    with pytest.raises(error) as refused:
        PageLife(**how)
    assert rule in str(refused.value)


def test_what_there_is_to_choose_from():
    assert list(MACHINES) == ["toy", "x86"]
    assert list(FOLIOS) == ["2M", "4K", "4K, spanned"]
    assert repr(PageLife(5, 12, split="none")) == "life of [20K, 48K): 74 steps, 9 frames lost"
