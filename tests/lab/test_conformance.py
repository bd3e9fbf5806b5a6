"""The conformance command: right engines pass, wrong ones fail, and what is no vector is said to be none."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tdpkit.engine import mmu, roots, tdp_mmu
from tdpkit.engine.tdp_iter import TdpIter
from tdpkit.lab import conformance
from tests.oracles.vectors import KINDS, VECTORS, Case, cases_of

# What the recorder wrote down of the kernel's behaviour, by tests/vectors/README.md. The rest of a case says
# what was done to get it.
_SPLIT = {"ret", "n_splits", "iterations", "allocations", "lock_drops", "yields", "splits", "final"} | {
    "tables_after"
}
OUTPUTS = {
    "walk": {"n_visits", "visits"},
    "split_all": {*_SPLIT, "tables_before"},
    "split_cross": {*_SPLIT, "tables_before"},
    "faults": _SPLIT
    | {"api_ret_v3_bool", "failed_cmpxchg", "unused_sp_freed", "pages_leaked"}
    | {"clean_iterations", "clean_allocations"}
    | {"inject.race_fired", "inject.race_gfn", "inject.race_level"}
    | {f"retry.{name}" for name in ("ret", "n_splits", "iterations", "allocations", "equals_clean_run")},
    "zap": {"pre_n_splits", "before_zap", "zapped", "frames_zapped_in_range", "frames_zapped_outside_range"}
    | {"flush", "iterations", "final", "tables_after"},
    "roots": {
        "gfn_direct_bits",
        "root_types",
        "iterations",
        "allocations",
        "external_set_calls_split",
        "flush",
    }
    | {"splits_direct", "splits_mirror", "first_root", "final_direct_table_gfn", "final_mirror"},
    "spte_bits": {"children", "changed_bits_besides_pfn"},
}
TAGS = {"id", "layout", "range", "variant"}


def shortest(kind: str, wanted=lambda case: True) -> Case:
    """The quickest case of a kind that has what is wanted."""
    found = [case for case in cases_of(kind) if wanted(case)]
    return min(found, key=lambda case: (case.get("iterations", 0) > 400, len(json.dumps(case))))


def race(name: str):
    return lambda case: case["inject"]["race"] == name and case["inject"]["race_fired"]


CHOSEN = [
    ("walk", shortest("walk", lambda case: len(case["visits"]) > 4)),
    ("split_all", shortest("split_all", lambda case: case["n_splits"] > 1)),
    ("split_cross", shortest("split_cross", lambda case: case["n_splits"] > 2)),
    ("faults", shortest("faults", lambda case: case["ret"] == -12 and case["retry"]["n_splits"] > 0)),
    ("faults", shortest("faults", lambda case: case["yields"] > 1 and case["n_splits"] > 1)),
    ("faults", shortest("faults", lambda case: race("cas_split")(case) and case["failed_cmpxchg"] > 0)),
    ("faults", shortest("faults", lambda case: race("drop_split")(case) and case["unused_sp_freed"])),
    ("zap", shortest("zap", lambda case: case["pre_n_splits"] > 0 and len(case["zapped"]) > 1)),
    ("zap", shortest("zap", lambda case: case["frames_zapped_outside_range"] > 0)),
    ("roots", shortest("roots", lambda case: case["splits_mirror"] and case["splits_direct"])),
    ("roots", shortest("roots", lambda case: case["vm"] == "default" and case["splits_direct"])),
    ("roots", shortest("roots", lambda case: case["vm"] == "tdx" and case["flush"])),
    ("spte_bits", shortest("spte_bits", lambda case: case["nx_huge_pages"] and case["huge_level"] == 2)),
]
EACH_CASE = pytest.mark.parametrize(
    ("kind", "case"), CHOSEN, ids=[f"{kind} {case['id']}" for kind, case in CHOSEN]
)


def chosen(kind: str) -> Case:
    return next(case for of, case in CHOSEN if of == kind)


class Command:
    """Runs the command on a folder of its own; keeps status, stdout and stderr of the last run."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def write(self, kind: str, *cases: Case) -> None:
        text = "".join(json.dumps(case) + "\n" for case in cases)
        (self.folder / f"{kind}.jsonl").write_text(text, encoding="utf-8")

    def run(self, *arguments: str) -> int:
        status = conformance.main(list(arguments) or [str(self.folder)])
        self.out, self.err = self.capsys.readouterr()
        return status

    def on(self, kind: str, *cases: Case) -> int:
        self.write(kind, *cases)
        return self.run()

    def refuses(self, *needles: str, arguments: tuple[str, ...] = ()) -> None:
        """Exit status 2 and one sentence that has all `needles`."""
        assert self.run(*arguments) == 2, (needles, self.out)
        assert self.out == ""
        assert len(self.err.splitlines()) == 1
        assert len(self.err) < 1000
        for needle in needles:
            assert needle in self.err


@pytest.fixture
def command(tmp_path, capsys) -> Command:
    return Command(tmp_path, capsys)


# ---- the recorded vectors ------------------------------------------------------------------------------


QUICK = ("walk", "split_cross", "zap", "roots", "spte_bits")
"""Two thirds of the cases, in a tenth of the time."""


@pytest.mark.parametrize("kinds", [pytest.param(KINDS, marks=pytest.mark.slow), QUICK], ids=["all", "quick"])
def test_every_recorded_case_is_replayed_and_passes(command, kinds):
    folder = VECTORS if kinds == KINDS else command.folder
    for kind in kinds if folder != VECTORS else ():
        command.write(kind, *cases_of(kind))
    assert command.run(str(folder)) == 0
    assert command.err == ""
    expected = [f"{kind} {len(cases_of(kind))}/{len(cases_of(kind))}" for kind in kinds]
    assert sorted(command.out.splitlines()) == sorted(expected)


@pytest.mark.parametrize(("change", "status"), [({}, 0), ({"ret": -5}, 1), ({"ret": "0"}, 2)])
def test_the_command_ends_with_its_verdict(command, change, status):
    """In a process of its own, as CI calls it: a module that is never run would pass every test here."""
    command.write("split_cross", {**chosen("split_cross"), **change})
    call = [sys.executable, "-m", "tdpkit.lab.conformance", str(command.folder)]
    done = subprocess.run(call, cwd=VECTORS.parents[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert done.stdout.partition("\n")[0] == ("split_cross 1/1", "split_cross 0/1", "")[status]
    assert bool(done.stderr) == (status == 2)


def test_the_recorded_files_are_all_there():
    """An empty folder would pass in silence if the command only counted what it finds."""
    assert {file.stem for file in VECTORS.glob("*.jsonl")} == set(KINDS)
    assert all(len(cases_of(kind)) > 50 for kind in KINDS)


@EACH_CASE
def test_a_chosen_case_passes_as_it_was_recorded(command, kind, case):
    assert command.on(kind, case) == 0
    assert command.out == f"{kind} 1/1\n"
    assert command.err == ""


# ---- each field in turn --------------------------------------------------------------------------------


def fields(case: Case) -> Iterator[tuple[str, Any]]:
    """(name, value) of every field, those inside a field as ``inject.race``; these objects themselves too."""
    for name, value in case.items():
        yield name, value
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", deeper) for inner, deeper in value.items())


NOTHING = object()


def with_field(case: Case, name: str, value: Any) -> Case:
    """The case with another value in a field, or with NOTHING without the field."""
    changed = json.loads(json.dumps(case))
    *outer, inner = name.split(".")
    there = changed[outer[0]] if outer else changed
    there[inner] = value
    if value is NOTHING:
        del there[inner]
    return changed


ROW_WIDTH = {"splits": 3, "splits_direct": 3, "splits_mirror": 3}


def others(name: str, value: Any) -> list[Any]:
    """Values of the same form that the recorder might have written, had the kernel done otherwise."""
    if name == "first_root":
        return [other for other in (None, "direct", "mirror") if other != value]
    if value is None:
        return [[]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1] + [value - 1] * (value != 0) + [-12] * (name.endswith("ret") and value != -12)
    if isinstance(value, str):
        return [f"{int(value, 16) ^ 1 << bit:#018x}" for bit in (0, 7, 63)]
    if not value:
        return [[[0] * ROW_WIDTH.get(name, 4)]]
    if isinstance(value[0], int):
        return [[value[0] + 1, *value[1:]], [*value[:-1], value[-1] + 1], value[:-1]]
    first, last = others(name, value[0][-1])[0], others(name, value[-1][-1])[0]
    changed = [[[*value[0][:-1], first], *value[1:]], [*value[:-1], [*value[-1][:-1], last]]]
    if name != "children":  # which children were recorded is the recorder's choice
        changed += [value[:-1], [*value, value[-1]]] + [value[::-1]] * (len(value) > 1)
    return changed


@pytest.mark.slow
@EACH_CASE
def test_each_recorded_answer_is_compared(command, kind, case):
    """An answer that nobody compares would let a wrong engine pass."""
    compared = 0
    for name, value in fields(case):
        for other in others(name, value) if name in OUTPUTS[kind] else ():
            assert command.on(kind, with_field(case, name, other)) == 1, (name, other)
            assert command.out.startswith(f"{kind} 0/1\n")
            assert case["id"] in command.out
            assert f"field {name}\n" in command.out
            compared += 1
    assert compared > len(OUTPUTS[kind]) - 8  # a race has neither retry nor clean run


def test_every_answer_of_every_kind_was_changed_in_some_case():
    for kind in KINDS:
        changed = {name for of, case in CHOSEN if of == kind for name, _ in fields(case)}
        assert changed >= OUTPUTS[kind]


def misfits(value: Any) -> list[Any]:
    """Values that no field with such a value may have."""
    if isinstance(value, bool):
        return [0, 1, "true", None, 1.0]
    if isinstance(value, int):
        return [True, 1.5, float(value), str(value), None, [value]]
    if isinstance(value, str):
        return [7, True, ["x"], {}]
    if value is None:
        return [7, True, "nonsense", {}]
    if isinstance(value, dict):
        return [[], "x", None, 7]
    return [{}, "x", 7, [True], [0.5], [None], [[]], [[-1, 1, 1, 1]], [[0.5, 1, 1, 1]], ["x"]]


@pytest.mark.slow
@EACH_CASE
def test_a_field_of_another_form_is_no_vector(command, kind, case):
    for name, value in fields(case):
        for misfit in misfits(value):
            command.write(kind, with_field(case, name, misfit))
            # Without a readable race nobody can say which fields the case has.
            named = [f"'{name.split('.')[-1]}'", "malformed value"] if name != "inject.race" else []
            command.refuses(f"{kind}.jsonl, line 1", *named)


@EACH_CASE
def test_a_missing_field_is_named(command, kind, case):
    for name, _ in fields(case):
        command.write(kind, with_field(case, name, NOTHING))
        named = [f"the field '{name.split('.')[-1]}' is missing"] if name != "inject.race" else []
        command.refuses(f"{kind}.jsonl, line 1", *named)


@EACH_CASE
def test_an_unknown_field_is_named(command, kind, case):
    for place in ("", *(f"{name}." for name, value in fields(case) if isinstance(value, dict))):
        command.write(kind, with_field(case, f"{place}surprise", 1))
        command.refuses(f"{kind}.jsonl, line 1", "the field 'surprise' is unknown")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("root_level", [3, 6, 0]),
        ("target_level", [0, 3]),
        ("start", [-1]),
        ("inject.race", ["nonsense", ""]),
        ("inject.enomem_what", ["nonsense", None]),
        ("inject.yield_mode", ["sticky"]),
        ("inject.yield_every", [5]),
        ("inject.enomem_at", [0]),
        ("n_splits", [-1]),
    ],
)
def test_a_value_that_the_recorder_never_writes_is_no_vector(command, name, values):
    case = shortest("faults", lambda case: case["inject"]["enomem_at"] and not case["inject"]["yield_every"])
    for value in values:
        command.write("faults", with_field(case, name, value))
        command.refuses("faults.jsonl, line 1")


@EACH_CASE
def test_a_tag_may_say_anything(command, kind, case):
    for name in TAGS & case.keys():
        assert command.on(kind, with_field(case, name, "another word")) == 0


def test_a_retry_of_a_race_is_unknown(command):
    """Only a call without a race has a clean run to be compared with."""
    calm, raced = chosen("faults"), shortest("faults", race("cas_zap"))
    command.write("faults", {**raced, "retry": calm["retry"]})
    command.refuses("line 1", "'retry' is unknown")


# ---- what is printed -----------------------------------------------------------------------------------


def test_a_mismatch_shows_case_field_expected_and_got_of_the_first_one_of_each_file(command):
    good = chosen("split_cross")
    one = {**good, "id": "first-wrong", "ret": -5}
    two = {**good, "id": "second-wrong", "n_splits": 99}
    command.write("walk", chosen("walk"))
    assert command.on("split_cross", good, one, two) == 1
    assert command.out == (
        "walk 1/1\n"
        "split_cross 1/3\n"
        "  first mismatch: first-wrong, field ret\n"
        "    expected -5\n"
        "    got      0\n"
    )


def test_a_long_value_is_shortened(command):
    case = chosen("walk")
    assert command.on("walk", {**case, "visits": [[0, 1, 0, 1]] * 1000}) == 1
    assert all(len(line) < 200 for line in command.out.splitlines())
    assert "..." in command.out


@pytest.mark.parametrize("identity", ["\ud800", "a\u2028b", "a\x85b", "\u001b[2J"])
def test_any_text_can_be_an_id(command, identity):
    """A line separator inside a string ends no line of the file, and what cannot be printed is no crash."""
    for changes, status in (({}, 0), ({"n_visits": 10**6}, 1)):
        case = {**chosen("walk"), "id": identity, **changes}
        text = json.dumps(case, ensure_ascii=identity == "\ud800")
        (command.folder / "walk.jsonl").write_text(text + "\n", encoding="utf-8", newline="")
        assert command.run() == status
    assert "walk 0/1\n" in command.out
    assert "field n_visits\n" in command.out


def test_other_files_are_ignored(command):
    (command.folder / "README.md").write_text("# notes")
    (command.folder / "walk.json").write_text("{")
    (command.folder / "walk.jsonl.bak").write_text("{")
    (command.folder / "deeper").mkdir()
    (command.folder / "deeper" / "zap.jsonl").write_text("{")
    assert command.on("walk", chosen("walk")) == 0
    assert command.out == "walk 1/1\n"


# ---- what is no folder of vectors ----------------------------------------------------------------------


def test_a_missing_folder_is_named(command):
    command.refuses("nowhere", "no such folder", arguments=(str(command.folder / "nowhere"),))


def test_a_file_in_the_place_of_the_folder_is_named(command):
    command.write("walk", chosen("walk"))
    command.refuses("walk.jsonl", "no such folder", arguments=(str(command.folder / "walk.jsonl"),))


def test_a_folder_without_vectors_is_refused(command):
    (command.folder / "notes.txt").write_text("nothing")
    command.refuses(str(command.folder), "no *.jsonl")


def test_a_file_of_no_known_kind_is_named_and_the_known_kinds_listed(command):
    command.write("walk", chosen("walk"))
    command.write("surprise")
    command.refuses("surprise.jsonl", "no known kind", *KINDS)


def test_a_file_without_a_case_is_refused(command):
    command.write("zap")
    command.refuses("zap.jsonl", "no case")


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_any_number_of_arguments_but_one_is_a_misuse(arguments, capsys):
    assert conformance.main(arguments) == 2
    assert "usage: python -m tdpkit.lab.conformance FOLDER" in capsys.readouterr().err


GOOD_WALK = json.dumps(chosen("walk"))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "",
        "   ",
        GOOD_WALK[:-20],
        GOOD_WALK + "}",
        GOOD_WALK + GOOD_WALK,
        GOOD_WALK.replace('"n_visits": ', '"n_visits": 1, "n_visits": '),
        GOOD_WALK.replace('"seed": ', '"seed": NaN, "x": '),
        GOOD_WALK.replace('"seed": ', '"seed": Infinity, "x": '),
        GOOD_WALK.replace('"seed": ', '"seed": 1e3, "x": '),
        GOOD_WALK.replace('"seed": ', '"seed": ' + "9" * 5000),
        "[" * 100_000,
        "[]",
        "3",
        "null",
        '"walk"',
        "{}",
        '{"name": "tdpkit", "version": 1}',
        "\ufeff" + GOOD_WALK,
    ],
    ids=lambda line: line[:12] + "..." + line[-12:],
)
def test_a_line_that_is_no_case_is_refused_with_file_and_line(command, line):
    (command.folder / "walk.jsonl").write_text(f"{GOOD_WALK}\n{GOOD_WALK}\n{line}\n", encoding="utf-8")
    command.refuses("walk.jsonl, line 3")


def test_a_field_that_is_twice_there_is_named_as_such(command):
    twice = GOOD_WALK.replace('"n_visits": ', '"n_visits": 1, "n_visits": ')
    (command.folder / "walk.jsonl").write_text(twice, encoding="utf-8")
    command.refuses("walk.jsonl, line 1", "twice")


def test_a_truncated_file_is_refused_at_its_last_line(command):
    text = (VECTORS / "zap.jsonl").read_text(encoding="utf-8")
    lines = text[: len(text) // 2].splitlines()
    (command.folder / "zap.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command.refuses(f"zap.jsonl, line {len(lines)}", "malformed JSON")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00{", GOOD_WALK.encode("utf-16"), b"\x1f\x8b\x08\x00\x80\x81"]
)
def test_a_file_that_is_no_text_is_refused(command, content):
    (command.folder / "walk.jsonl").write_bytes(content)
    command.refuses("walk.jsonl", "cannot be read as text")


def test_a_folder_with_the_name_of_a_file_is_refused(command):
    (command.folder / "walk.jsonl").mkdir()
    command.refuses("walk.jsonl", "cannot be read")


@pytest.mark.parametrize(
    ("kind", "changes", "rule"),
    [
        ("walk", {"leaves": [[0, 2, 2, 0], [512, 2, 1, 0]]}, "do not overlap"),
        ("walk", {"leaves": [[1, 2, 1, 0]]}, "multiple of 2M"),
        ("walk", {"leaves": [[0, 4, 1, 0]]}, "largest leaf"),
        ("walk", {"leaves": [[0, 1, 0, 0]]}, "at least 1 leaf"),
        ("walk", {"leaves": [[0, 1, 1, 2**40]]}, "40 bits"),
        ("walk", {"leaves": [[2**45, 1, 1, 0]]}, "beyond it"),
        ("split_all", {"start": 9, "end": 3}, "at or after its start"),
        ("split_cross", {"start": 9, "end": 3}, "at or after its start"),
        ("faults", {"start": 2**45, "end": 2**45}, "inside the root"),
        ("zap", {"start": 2**45, "end": 2**45 + 1}, "inside the root"),
        ("zap", {"start": 9, "end": 3}, "at or after its start"),
        ("roots", {"vm": "default", "mapped_in": ["mirror"]}, "without a mirror"),
        ("roots", {"start": 9, "end": 3}, "at or after its start"),
        ("spte_bits", {"children": [[600, "0x0000000000000000"]]}, "600 is no index"),
        ("spte_bits", {"huge_spte": "0x8000000000000000"}, "present huge leaf"),
    ],
)
def test_an_input_that_the_engine_refuses_is_refused_with_file_and_line(command, kind, changes, rule):
    """Neither a crash nor a mismatch: the kernel's recorder cannot have run such a case."""
    command.write(kind, chosen(kind), {**chosen(kind), **changes})
    command.refuses(f"{kind}.jsonl, line 2", rule)


# ---- engines that are wrong ----------------------------------------------------------------------------


def ends_early(it: TdpIter, start: int, end: int) -> bool:
    return not (it.gfn >= start and it.gfn + (1 << it.shifts[it.level]) < end)


def starts_late(it: TdpIter, start: int, end: int) -> bool:
    return not (it.gfn > start and it.gfn + (1 << it.shifts[it.level]) <= end)


def next_without_restart(it: TdpIter, original=TdpIter.next) -> None:
    it.yielded = False
    original(it)


def side_step_stops_short(it: TdpIter, original=TdpIter.try_step_side) -> bool:
    return it.index != it.last_index - 1 and original(it)


def plain_store(root, it, new_spte):
    yield from tdp_mmu._tdp_mmu_set_spte(root, it, new_spte)
    return 0


def keeps_the_page_size_bit(*arguments, original=conformance.make_small_spte, **options) -> int:
    return original(*arguments, **options) | 1 << 7


def never_as_posted(
    *arguments, as_posted=False, original=conformance.kvm_split_cross_boundary_leafs, **options
):
    return original(*arguments, **options)


def half_of_the_range(root, start, end, original=conformance.tdp_mmu_zap_leafs):
    return original(root, start, start + (end - start) // 2)


WRONG = [
    ("split_cross", tdp_mmu, "iter_cross_boundary", ends_early),
    ("split_cross", tdp_mmu, "iter_cross_boundary", starts_late),
    ("split_cross", tdp_mmu, "iter_cross_boundary", lambda it, start, end: True),
    ("split_cross", TdpIter, "next", next_without_restart),
    ("split_all", TdpIter, "next", next_without_restart),
    ("walk", TdpIter, "try_step_side", side_step_stops_short),
    ("faults", tdp_mmu, "tdp_mmu_set_spte_atomic", plain_store),
    ("faults", tdp_mmu, "ENOMEM", 0),
    ("faults", conformance, "kvm_split_cross_boundary_leafs", never_as_posted),
    ("spte_bits", conformance, "make_small_spte", keeps_the_page_size_bit),
    ("zap", conformance, "tdp_mmu_zap_leafs", half_of_the_range),
    ("zap", tdp_mmu, "SHADOW_NONPRESENT_VALUE", 0),
    ("roots", mmu, "kvm_gfn_range_filter_to_root_types", lambda vm, attr_filter: roots.KVM_DIRECT_ROOTS),
    ("roots", mmu, "kvm_gfn_range_filter_to_root_types", lambda vm, attr_filter: roots.KVM_VALID_ROOTS),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "where", "name", "wrong"),
    WRONG,
    ids=[f"{kind} {name} {getattr(wrong, '__name__', wrong)}" for kind, _, name, wrong in WRONG],
)
def test_a_wrong_engine_fails(command, monkeypatch, kind, where, name, wrong):
    quick = [case for case in cases_of(kind) if case.get("iterations", 0) < 100 and len(str(case)) < 3000]
    command.write(kind, *quick[:40])
    assert command.run() == 0
    monkeypatch.setattr(where, name, wrong)
    assert command.run() == 1
    assert f"{kind} " in command.out
    assert "first mismatch" in command.out
