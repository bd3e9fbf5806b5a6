"""A function's parameters say what it is in place of; what is no variant is refused, and says why."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tdpkit.engine.gfn import InvalidTypeError, InvalidValueError
from tdpkit.engine.mmu import kvm_split_cross_boundary_leafs
from tdpkit.engine.splits import split_head_and_tail
from tdpkit.engine.tdp_mmu import tdp_mmu_split_huge_pages_root
from tdpkit.lab.strategies import STRATEGIES
from tdpkit.lab.trial import KNOWN, load, variant, variant_of
from tdpkit.lab.trial.known import variant_named
from tdpkit.lab.trial.variant import PLAN, PRIVATE, ROOT, WRAPPER


@pytest.mark.parametrize(
    ("function", "form"),
    [
        (STRATEGIES["walk_v3"], PLAN),
        (lambda geometry, s, e: [], PLAN),
        (tdp_mmu_split_huge_pages_root, ROOT),
        (kvm_split_cross_boundary_leafs, WRAPPER),
        (partial(kvm_split_cross_boundary_leafs, as_posted=True), WRAPPER),
        (lambda kvm, span, **options: None, WRAPPER),
        (split_head_and_tail, PRIVATE),
        (lambda kvm, span, cleverly=True: None, PRIVATE),
        (lambda kvm, span, shared: None, WRAPPER),
        (lambda root, start, end, level, shared, only_cross_boundary: None, ROOT),
    ],
    ids=range(10),
)
def test_parameters_say_the_form(function: Any, form: str) -> None:
    assert variant_of(function).form == form


def test_every_variant_of_the_kit_has_the_form_of_its_parameters() -> None:
    for name, known in KNOWN.items():
        assert variant_of(known.variant.function).form == known.variant.form, name
        assert variant_named(name) is known.variant


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda root: None, lambda root, start, end, level: None, lambda a, b, c, d, e: None],
    ids=range(4),
)
def test_other_parameters_are_refused_with_all_forms(function: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"parameters of one of these") as refused:
        variant_of(function)
    for word in ("plan(geometry, s, e)", "only_cross_boundary", "kvm_split_cross_boundary_leafs"):
        assert word in str(refused.value)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(InvalidTypeError, match="a variant is a function; int is 3"):
        variant_of(3)
    with pytest.raises(InvalidValueError, match="a variant of the kit is one of v3 as posted, v3, R2"):
        variant_named("v4")


def test_a_variant_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def plan(geometry, s, e):\n    return []\n\nlimit = 3\n", encoding="utf-8")
    assert load(f"{file}:plan").form == PLAN
    for text, words in {
        f"{file}": "is named FILE.py:NAME",
        f"{file}:": "is named FILE.py:NAME",
        f"{file}:no such": "is named FILE.py:NAME",
        f"{tmp_path / 'none.py'}:plan": "there is no file",
        f"{file}:plen": "has no 'plen'; it has plan",
    }.items():
        with pytest.raises(InvalidValueError, match=words):
            load(text)
    with pytest.raises(InvalidTypeError, match="a variant is a function; limit is 3"):
        load(f"{file}:limit")
    other = tmp_path / "mine.txt"
    other.write_text("", encoding="utf-8")
    with pytest.raises(InvalidValueError, match="a file of Python"):
        load(f"{other}:plan")
    file.write_text("\n1 / 0", encoding="utf-8")
    with pytest.raises(
        InvalidValueError, match=r"it raised ZeroDivisionError: .* by zero \(mine\.py, line 2\)"
    ):
        load(f"{file}:plan")
    file.write_text("raise SystemExit(3)", encoding="utf-8")
    with pytest.raises(InvalidValueError, match="it raised SystemExit: 3"):
        load(f"{file}:plan")


def test_a_file_may_import_the_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_my_split.py").write_text(
        "def plan(geometry, s, e):\n    return []\n", encoding="utf-8"
    )
    # Of the name of a package that is imported already: that one stays what it is.
    for name in ("mine", "tdpkit"):
        file = tmp_path / f"{name}.py"
        file.write_text("from beside_my_split import plan\nfrom tdpkit.lab import trial\n", encoding="utf-8")
        assert load(f"{file}:plan").form == PLAN


def test_a_file_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(variant, "_LOAD_SECONDS", 0.3)
    file = tmp_path / "mine.py"
    file.write_text("while True:\n    pass\n", encoding="utf-8")
    with pytest.raises(
        InvalidValueError, match=r"mine.py cannot be read: it did not end within 0\.3 seconds"
    ):
        load(f"{file}:plan")
