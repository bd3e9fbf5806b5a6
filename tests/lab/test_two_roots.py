"""Two trees: which roots an operation asks for, reaches and changes.

Truth: the tables of S43, S44 and S49 written out here, index paths by plain arithmetic, and
trees rebuilt entry by entry (tests/engine/brute.py).
"""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError, parse_gfn
from tdpkit.lab import two_roots as two_trees
from tdpkit.lab.guest import VM_KINDS
from tdpkit.lab.two_roots import FILTERS, OPERATIONS, Question, ask
from tests.oracles import brute

G = 200 * 2**18 + 680 * 2**8 + 308 // 4
SPLITS = [name for name in OPERATIONS if name != "zap"]
QUESTIONS = [
    Question(G, *fields)
    for fields in product(VM_KINDS, (4, 5), FILTERS, OPERATIONS, (False, True), (False, True))
]
SHARED_BIT = {4: 1 << 35, 5: 1 << 39}
"""S8: GPA bits 47 and 51."""

BY_FILTER = {"shared": 2, "private": 4, "both": 6, "neither": 0}
"""S44, for a TD."""
MATCHES = {
    0: set(),
    1: set(),
    2: {"direct"},
    3: {"direct", "invalid direct"},
    4: {"mirror"},
    5: {"mirror"},
    6: {"direct", "mirror"},
    7: {"direct", "invalid direct", "mirror"},
}
"""S43, without an invalid mirror, which there is none of here."""
NEEDS = {"direct": ["DIRECT"], "invalid direct": ["DIRECT", "INVALID"], "mirror": ["MIRROR"]}
BITS = {"INVALID": 1, "DIRECT": 2, "MIRROR": 4}


def types_of(question) -> int | None:
    """S44, S49, S81, S140."""
    by_filter = BY_FILTER[question.filter] if question.kind == "TD" else 2
    return {
        "split": by_filter,
        "zap": by_filter | 1,
        "dirty-log split": 6,
        "split in mirror roots": 4,
        "split at root.hpa": None,
    }[question.operation]


def meant(question) -> set[str]:
    """Names of the roots that the operation is to reach, of those that the VM has."""
    types = types_of(question)
    return {"direct"} if types is None else MATCHES[types] & there(question)


def there(question) -> set[str]:
    return {"direct", *["mirror"] * (question.kind == "TD"), *["invalid direct"] * question.invalid_root}


def holds_g(question) -> set[str]:
    """Names of the roots that map g at first."""
    direct = question.shared_leaf or question.kind == "plain"
    return there(question) - (set() if direct else {"direct"})


def path(gfn: int, root_level: int) -> list[int]:
    return [gfn >> 9 * (level - 1) & 0x1FF for level in range(root_level, 0, -1)]


def name(root) -> str:
    return "mirror" if root.is_mirror else "invalid direct" if root.invalid else "direct"


@pytest.fixture(scope="module")
def asked():
    return [ask(question) for question in QUESTIONS]


@pytest.fixture
def watched(monkeypatch):
    """`ask`, and what lay in memory before and after: by root, as lists."""
    vms, trees = [], []

    def keep(*args, **kwargs):
        vms.append(real_vm(*args, **kwargs))
        return vms[-1]

    def look():
        trees.append({name(root): brute.read(root) for root in vms[-1].tdp_mmu_roots})

    def recorded(call):
        look()
        recording = real_record(call)
        look()
        return recording

    real_vm, real_record = two_trees.Kvm, two_trees.record
    monkeypatch.setattr(two_trees, "Kvm", keep)
    monkeypatch.setattr(two_trees, "record", recorded)
    return lambda question: (ask(question), *trees[-2:], vms[-1])


# ---- which roots ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_root_types_are_those_of_the_facts(asked):
    for outcome in asked:
        assert outcome.types == types_of(outcome.question), outcome.question


def test_a_vm_has_the_roots_it_should_and_those_match_that_the_table_says(asked):
    for outcome in asked:
        assert {root.name for root in outcome.roots} == there(outcome.question)
        matching = {root.name for root in outcome.roots if root.matches}
        assert matching == meant(outcome.question), outcome.question


def test_a_root_is_reached_exactly_if_it_matches(asked):
    for outcome in asked:
        assert [root.reached for root in outcome.roots] == [root.matches for root in outcome.roots]


def test_a_root_that_does_not_match_is_told_the_bits_it_lacks(asked):
    for outcome in asked:
        for root in outcome.roots:
            assert list(root.needs) == NEEDS[root.name]
            types = outcome.types
            lacking = [] if types is None else [bit for bit in NEEDS[root.name] if not types & BITS[bit]]
            assert list(root.missing) == lacking
            assert types is None or root.matches is (lacking == [])


def test_an_invalid_root_is_let_in_by_a_modifier_that_matches_nothing_alone():
    def matching(filter_, operation):
        outcome = ask(Question(filter=filter_, operation=operation, invalid_root=True))
        return {root.name for root in outcome.roots if root.matches}

    assert matching("shared", "split") == {"direct"}
    assert matching("shared", "zap") == {"direct", "invalid direct"}
    assert matching("private", "zap") == {"mirror"}
    assert matching("neither", "zap") == set()


def test_a_filter_that_names_neither_half_of_a_td_is_warned_of_and_nothing_else_is(asked):
    for outcome in asked:
        asked_for = outcome.question
        warned = asked_for.filter == "neither" and asked_for.kind == "TD"
        warned &= asked_for.operation in ("split", "zap")
        expected = ["!(filter & (KVM_FILTER_SHARED | KVM_FILTER_PRIVATE))", "!(types & KVM_VALID_ROOTS)"]
        assert list(outcome.warnings) == [f"WARN_ON_ONCE({text})" for text in expected] * warned
        assert ("WARN" in outcome.answer) is warned


# ---- where ---------------------------------------------------------------------------------------------


def test_the_path_is_that_of_g_and_in_a_td_s_direct_trees_that_of_g_with_the_shared_bit(asked):
    for outcome in asked:
        level, is_td = outcome.question.root_level, outcome.question.kind == "TD"
        bit = SHARED_BIT[level] if is_td else 0
        assert outcome.shared_bit == bit
        for root in outcome.roots:
            where = G if root.is_mirror else G | bit
            assert list(root.indices) == path(where, level)
            assert [step.level for step in root.path] == list(range(level, 0, -1))


def test_the_example_of_the_notebook():
    direct, mirror = ask(Question()).roots
    assert direct.indices == (256, 200, 340, 77)
    assert mirror.indices == (0, 200, 340, 77)
    direct, mirror = ask(Question(root_level=5)).roots
    assert direct.indices == (8, 0, 200, 340, 77)
    assert mirror.indices == (0, 0, 200, 340, 77)


@given(st.integers(0, 2**35 - 1), st.sampled_from([*VM_KINDS]), st.sampled_from([4, 5]))
def test_only_the_top_index_differs_whatever_the_frame(gfn, kind, level):
    outcome = ask(Question(gfn, kind, level, "both", "split", True))
    paths = {root.name: root.indices for root in outcome.roots}
    bit = SHARED_BIT[level] if kind == "TD" else 0
    assert list(paths["direct"]) == path(gfn | bit, level)
    if kind == "TD":
        assert list(paths["mirror"]) == path(gfn, level)
        assert paths["direct"][1:] == paths["mirror"][1:]
        assert paths["direct"][0] - paths["mirror"][0] == {4: 256, 5: 8}[level]
    assert all((root.level_before, root.level_after, root.splits) == (2, 1, 1) for root in outcome.roots)


# ---- what happens there ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", VM_KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("root_level", [4, 5])
def test_memory_becomes_what_brute_force_makes_of_the_trees_meant_and_no_other_changes(
    watched, kind, operation, root_level
):
    for filter_, shared, invalid in product(FILTERS, (False, True), (False, True)):
        question = Question(G, kind, root_level, filter_, operation, shared, invalid)
        outcome, before, after, kvm = watched(question)
        bit = SHARED_BIT[root_level] if kind == "TD" else 0
        assert set(before) == set(after) == there(question)
        for root in outcome.roots:
            at = G if root.is_mirror else G | bit
            expected, done = before[root.name], []
            if root.name in meant(question):
                if operation == "zap":
                    expected, done = brute.zap(kvm.geometry, expected, at, at + 1)
                else:
                    expected, done = brute.split_at_edges(kvm.geometry, expected, at, at + 1)
            assert after[root.name] == expected, question
            assert len(done) == (root.name in meant(question) & holds_g(question))
            assert root.splits == (0 if operation == "zap" else len(done))
            assert root.zapped == (512 * len(done) if operation == "zap" else 0)
            assert root.level_before == (2 if root.name in holds_g(question) else 0)
            assert root.level_after == (root.level_before if not done else 0 if operation == "zap" else 1)
            calls = ["remove" if operation == "zap" else "split"] * (root.is_mirror and len(done))
            assert list(root.external) == calls


@pytest.mark.slow
def test_the_runs_of_leaves_and_the_steps_are_those_in_memory(watched):
    for question in QUESTIONS:
        outcome, before, after, _ = watched(question)
        for root in outcome.roots:
            for tree, told in ((before, "before"), (after, "after")):
                entry, seen = tree[root.name], []
                for index in root.indices:
                    entry = entry[index] if isinstance(entry, list) else None
                    seen.append(
                        "table"
                        if isinstance(entry, list)
                        else {None: "", True: "leaf", False: "none"}[entry and bool(entry & brute.PRESENT)]
                    )
                assert [getattr(step, told) for step in root.path] == seen
            table = after[root.name]
            for index in root.indices[:-2]:
                table = table[index] if isinstance(table, list) else brute.HOLE
            entries = table if isinstance(table, list) else []
            leaves = {at for at, entry in enumerate(entries) if brute.is_leaf(entry)}
            assert {at for first, last in root.leaves for at in range(first, last)} == leaves
            assert all(first < last for first, last in root.leaves)


def test_private_and_shared_half_of_the_gib_are_laid_out_apart(watched):
    """But for g itself, where a shared leaf is asked for."""
    for shared in (False, True):
        _, before, _, kvm = watched(Question(shared_leaf=shared))
        private = {gfn for gfn, _, _ in brute.leaves(kvm.geometry, before["mirror"])}
        public = {gfn - SHARED_BIT[4] for gfn, _, _ in brute.leaves(kvm.geometry, before["direct"])}
        at_g = G // 512 * 512
        assert private & public == ({at_g} if shared else set())
        assert private | public == set(range(G // 2**18 * 2**18, (G // 2**18 + 1) * 2**18, 512))
        assert at_g in private


# ---- the stories ---------------------------------------------------------------------------------------


def test_the_posted_call_leaves_the_private_leaf_whole_and_may_split_a_shared_one_for_nothing():
    for shared in (False, True):
        outcome = ask(Question(operation="split at root.hpa", shared_leaf=shared))
        direct, mirror = outcome.roots
        assert outcome.returned == 0
        assert (mirror.level_after, mirror.splits) == (2, 0)
        assert direct.splits == shared
        assert outcome.wrong_root
        assert ("for nothing" in outcome.answer) is shared
        assert "the 2M leaf that was meant stays whole" in outcome.answer
    fixed = ask(Question(operation="split in mirror roots", shared_leaf=True))
    assert [(root.name, root.splits) for root in fixed.roots] == [("direct", 0), ("mirror", 1)]
    assert not ask(Question(kind="plain", operation="split at root.hpa")).wrong_root


def test_dirty_logging_reaches_private_memory_whatever_the_filter():
    for filter_ in FILTERS:
        outcome = ask(Question(operation="dirty-log split", filter=filter_))
        assert {root.name: root.splits for root in outcome.roots} == {"direct": 0, "mirror": 1}
        assert outcome.returned is None


@pytest.mark.parametrize("operation", ["split", "zap"])
def test_an_operation_on_one_half_never_touches_the_tree_of_the_other(watched, operation):
    for filter_, other in (("shared", "mirror"), ("private", "direct")):
        for shared in (False, True):
            _, before, after, _ = watched(Question(G, "TD", 4, filter_, operation, shared))
            assert before[other] == after[other]


def test_each_change_of_the_mirror_goes_down_in_the_order_of_the_facts(asked):
    """S161, S167: block, track, kick the vCPUs, then demote, or remove and write back each 4K page of 2M."""
    for outcome in asked:
        changed = [root for root in outcome.roots if root.is_mirror and root.splits + root.zapped]
        zap = outcome.question.operation == "zap"
        last = ["REMOVE", "512 × WBINVD"] if zap else ["DEMOTE"]
        expected = ["BLOCK", "TRACK", "kick vCPUs", *last] if changed else []
        assert list(outcome.tdx_steps) == expected
        assert outcome.seamcalls == (3 + 512 * zap if changed else 0), "a kick is no SEAMCALL"
        ends = [line.partition("; ")[2] for line in outcome.log if ": call the TDX side: " in line]
        assert ends == [", ".join(expected)] * len(changed)


def test_a_split_returns_0_and_a_zap_whether_a_flush_is_owed(asked):
    for outcome in asked:
        if outcome.question.operation == "zap":
            zapped = meant(outcome.question) & holds_g(outcome.question)
            assert outcome.returned is bool(zapped - {"invalid direct"})  # no TLB holds what nobody enters
        elif outcome.question.operation == "dirty-log split":
            assert outcome.returned is None
        else:
            assert outcome.returned == 0


def test_the_log_tells_each_tree_s_visits_in_the_order_of_the_roots(asked):
    for outcome in asked:
        for root in outcome.roots:
            assert sum(line.startswith(f"{root.name}: visit") for line in outcome.log) == root.visits
        assert [line for line in outcome.log if line != line.strip() or "\n" in line] == []
    split = ask(Question()).log
    assert split[0] == "mirror: visit level 4, index 0, at 0: table"
    assert split[2] == "mirror: visit level 2, index 340, at 200G+680M: leaf"
    side = "mirror: call the TDX side: split, level 2, at 200G+680M; BLOCK, TRACK, kick vCPUs, DEMOTE"
    assert side in split


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            {},
            "Filter private → root types 4 (MIRROR): the split reaches the mirror tree; "
            "the direct tree is not touched.",
        ),
        (
            {"filter": "both"},
            "Filter both → root types 6 (MIRROR + DIRECT): the split reaches the mirror tree, and the direct "
            "tree, which maps nothing at g.",
        ),
        (
            {"filter": "shared", "operation": "zap", "invalid_root": True, "shared_leaf": True},
            "Filter shared → root types 3 (DIRECT + INVALID): the zap reaches the direct tree and the "
            "invalid direct tree; the mirror tree is not touched.",
        ),
        (
            {"filter": "private", "operation": "zap"},
            "Filter private → root types 5 (MIRROR + INVALID): the zap reaches the mirror tree; the direct "
            "tree is not touched; 511 private frames besides g are lost.",
        ),
        (
            {"filter": "neither"},
            "Filter neither → WARN, root types 0 (none): no root matches, the split reaches nothing.",
        ),
        (
            {"kind": "plain"},
            "A VM without a mirror gets root types 2 (DIRECT) whatever the filter: the split reaches the "
            "direct tree.",
        ),
        (
            {"kind": "plain", "operation": "split in mirror roots"},
            "The split in mirror roots asks for root types 4 (MIRROR) whatever the filter: no root matches, "
            "the split reaches nothing.",
        ),
        (
            {"operation": "split at root.hpa", "shared_leaf": True},
            "No root type is asked for, root.hpa is the direct root: the split reaches the direct tree and "
            "splits a shared leaf for nothing; the mirror tree is not touched, the 2M leaf that was meant "
            "stays whole.",
        ),
    ],
)
def test_the_answer_is_one_sentence(question, answer):
    assert ask(Question(**question)).answer == answer


def test_every_answer_names_the_trees_that_were_reached_before_those_that_were_not(asked):
    for outcome in asked:
        names = [root.name for root in outcome.roots if root.reached]
        reached, _, missed = outcome.answer.partition(";")
        for root in outcome.roots:
            if names:
                assert f"the {root.name} tree" in (reached if root.reached else missed)
                assert f"the {root.name} tree" not in (missed if root.reached else reached)
        assert outcome.answer.endswith(".")


# ---- what is refused -----------------------------------------------------------------------------------


def test_a_frame_may_be_typed_and_the_outcome_has_it_as_a_number():
    outcome = ask(Question("200G+680M+308K"))
    assert outcome.gfn == outcome.question.gfn == G == 0x322A84D == parse_gfn("0x322_a84d")
    assert outcome == ask(Question(G))


@pytest.mark.parametrize(
    ("question", "error", "rule"),
    [
        ({"gfn": "banana"}, InvalidValueError, "no frame number"),
        ({"gfn": "128T"}, InvalidValueError, "the shared bit"),
        ({"gfn": 1 << 35 | G}, InvalidValueError, "the shared bit"),
        ({"gfn": "2P", "root_level": 5}, InvalidValueError, "the shared bit"),
        ({"gfn": "256T", "kind": "plain"}, InvalidValueError, "inside the root"),
        ({"gfn": "4P", "kind": "plain", "root_level": 5}, InvalidValueError, "the host's memory"),
        ({"gfn": -1}, InvalidValueError, "at least 0"),
        ({"gfn": 1.5}, InvalidTypeError, "whole numbers"),
        ({"gfn": True}, InvalidTypeError, "whole numbers"),
        ({"gfn": None}, InvalidTypeError, "whole numbers"),
        ({"kind": "SEV"}, InvalidValueError, "kind is one of TD, plain"),
        ({"kind": ["TD"]}, InvalidValueError, "kind is one of"),
        ({"root_level": 3}, InvalidValueError, "4 or 5"),
        ({"root_level": 4.0}, InvalidValueError, "4 or 5"),
        ({"root_level": "4"}, InvalidValueError, "4 or 5"),
        ({"filter": 2}, InvalidValueError, "filter is one of shared, private, both, neither"),
        ({"operation": "merge"}, InvalidValueError, "operation is one of split, zap"),
        ({"shared_leaf": 1}, InvalidTypeError, "shared_leaf is True or False"),
        ({"invalid_root": None}, InvalidTypeError, "invalid_root is True or False"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_words(question, error, rule):
    with pytest.raises(error, match=rule):
        ask(Question(**question))


@pytest.mark.parametrize(
    ("kind", "root_level", "last"),
    [("TD", 4, 2**35), ("TD", 5, 2**39), ("plain", 4, 2**36), ("plain", 5, 2**40)],
)
def test_the_last_frame_is_a_frame_like_any_other(kind, root_level, last):
    for gfn in (0, last - 1):
        outcome = ask(Question(gfn, kind, root_level, "both", "zap", True, True))
        assert [root.zapped for root in outcome.roots] == [512] * len(outcome.roots)
    with pytest.raises(InvalidValueError):
        ask(Question(last, kind, root_level))
