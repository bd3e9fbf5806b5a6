"""The recorded vectors: the fields of each kind of case, and a strict reader.

A file holds one kind, a line one JSON object. If a field is missing, unknown or malformed, the file is not
what it claims to be and none of it is replayed. tests/vectors/README.md explains the formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .worlds import RACES

Case = dict[str, Any]
Form = Callable[[Any], bool]


class VectorError(ValueError):
    """A folder or file cannot be replayed; the text says which and why."""


def integer(value: Any) -> bool:
    """Whether `value` is a JSON integer (a boolean is not)."""
    return type(value) is int


def boolean(value: Any) -> bool:
    """Whether `value` is true or false."""
    return type(value) is bool


def text(value: Any) -> bool:
    """Whether `value` is a string."""
    return type(value) is str


def count(value: Any) -> bool:
    """Whether `value` is an integer of at least 0."""
    return integer(value) and value >= 0


def hexadecimal(value: Any) -> bool:
    """Whether `value` is a 64-bit value as the recorder writes it: 0x and 16 digits."""
    return (
        text(value) and len(value) == 18 and value[:2] == "0x" and set(value[2:]) <= set("0123456789abcdef")
    )


def one_of(*allowed: Any) -> Form:
    """The form of these values, of their own types (1 is not true)."""
    return lambda value: any(type(value) is type(known) and value == known for known in allowed)


def nullable(form: Form) -> Form:
    """The form of null and of all that has `form`."""
    return lambda value: value is None or form(value)


def rows(*columns: Form) -> Form:
    """The form of a list of lists with these columns."""
    return lambda value: (
        type(value) is list
        and all(
            type(row) is list
            and len(row) == len(columns)
            and all(f(x) for f, x in zip(columns, row, strict=True))
            for row in value
        )
    )


def items(form: Form) -> Form:
    """The form of a list whose items have `form`."""
    return lambda value: type(value) is list and all(map(form, value))


def leaf_count(value: Any) -> bool:
    """Whether so many leaves can be mapped one by one; the recorder maps some thousands."""
    return count(value) and value <= 1 << 20


LEAF_RUNS = rows(count, count, leaf_count, count)
SPLIT_RUNS = rows(count, count, count)

_TAGS: dict[str, Form] = {"id": text, "seed": count, "layout": text, "range": text}
_PLACE: dict[str, Form] = {"root_level": one_of(4, 5), "start": count, "end": count, "leaves": LEAF_RUNS}
_CALL: dict[str, Form] = {
    **_TAGS,
    **_PLACE,
    "target_level": one_of(1, 2),
    "only_cross_boundary": boolean,
    "shared": boolean,
    "ret": integer,
    "n_splits": count,
    "iterations": count,
    "allocations": count,
    "lock_drops": count,
    "yields": count,
    "splits": SPLIT_RUNS,
    "final": LEAF_RUNS,
    "tables_after": items(count),
}
INJECT: dict[str, Form] = {
    "enomem_at": count,
    "enomem_what": one_of(None, "header", "page"),
    "yield_every": count,
    "yield_mode": one_of(None, "pulse", "sticky"),
    "race": one_of(*RACES),
    "race_at": count,
    "race_fired": boolean,
    "race_gfn": count,
    "race_level": count,
}
RETRY: dict[str, Form] = {
    "ret": integer,
    "n_splits": count,
    "iterations": count,
    "allocations": count,
    "equals_clean_run": boolean,
}
_FAULTS: dict[str, Form] = {
    **_CALL,
    "inject": lambda value: type(value) is dict,
    "api_ret_v3_bool": integer,
    "failed_cmpxchg": count,
    "unused_sp_freed": boolean,
    "pages_leaked": integer,
}
_WITHOUT_RACE: dict[str, Form] = {
    "clean_iterations": count,
    "clean_allocations": count,
    "retry": lambda value: type(value) is dict,
}

FIELDS: dict[str, dict[str, Form]] = {
    "walk": {**_TAGS, **_PLACE, "min_level": one_of(1, 2, 3, 4, 5), "n_visits": count,
             "visits": rows(count, count, one_of(0, 1, 2), count)},
    "split_all": {**_CALL, "tables_before": items(count)},
    "split_cross": {**_CALL, "tables_before": items(count)},
    "faults": _FAULTS,
    "zap": {**_TAGS, **_PLACE, "pre_split": one_of(None, "cross"), "pre_n_splits": count,
            "before_zap": LEAF_RUNS, "zapped": LEAF_RUNS, "frames_zapped_in_range": count,
            "frames_zapped_outside_range": count, "flush": boolean, "iterations": count,
            "final": LEAF_RUNS, "tables_after": items(count)},
    "roots": {"id": text, "seed": count, "vm": one_of("default", "tdx"), **_PLACE, "gfn_direct_bits": count,
              "attr_filter": one_of(0, 1, 2, 3), "mapped_in": items(one_of("direct", "mirror")),
              "then_unmap": boolean, "root_types": count, "iterations": count, "allocations": count,
              "external_set_calls_split": count, "flush": boolean, "splits_direct": SPLIT_RUNS,
              "splits_mirror": SPLIT_RUNS, "first_root": one_of(None, "direct", "mirror"),
              "final_direct_table_gfn": LEAF_RUNS, "final_mirror": nullable(LEAF_RUNS)},
    "spte_bits": {"id": text, "masks": one_of("EPT A/D on", "EPT A/D off", "non-EPT (AMD NPT)"),
                  "nx_huge_pages": boolean, "huge_level": one_of(2, 3), "variant": text,
                  "role_access": one_of("rwx", "rw-"), "huge_spte": hexadecimal,
                  "children": rows(count, hexadecimal), "changed_bits_besides_pfn": hexadecimal},
}  # fmt: skip


def load_folder(folder: Path) -> dict[str, list[Case]]:
    """Every case of every ``*.jsonl`` in `folder`, by kind, in the order of FIELDS.

    Other files are ignored. Raises VectorError.
    """
    if not folder.is_dir():
        raise VectorError(f"{folder}: there is no such folder")
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise VectorError(f"{folder}: the folder holds no *.jsonl file")
    for file in files:
        if file.stem not in FIELDS:
            raise VectorError(f"{file}: '{file.stem}' is no known kind; known are {', '.join(FIELDS)}")
    by_kind = {file.stem: _load_file(file) for file in files}
    return {kind: by_kind[kind] for kind in FIELDS if kind in by_kind}


def _load_file(file: Path) -> list[Case]:
    try:
        # Not splitlines(): a JSON string may hold characters that it takes for ends of lines.
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise VectorError(f"{file}: cannot be read as text: {error}") from None
    if lines == [""]:
        raise VectorError(f"{file}: the file holds no case")
    return [_load_case(line, file.stem, f"{file}, line {number}") for number, line in enumerate(lines, 1)]


def _load_case(line: str, kind: str, where: str) -> Case:
    try:
        case: Case = json.loads(line, object_pairs_hook=_unique)
    except ValueError as error:
        raise VectorError(f"{where}: malformed JSON: {error}") from None
    except RecursionError:
        raise VectorError(f"{where}: malformed JSON: nested too deeply") from None
    inject = case.get("inject") if kind == "faults" and type(case) is dict else None
    if type(inject) is dict:
        _check_fields(inject, INJECT, f"{where}, inject")
    without_race = type(inject) is dict and inject["race"] == "none"
    _check_fields(case, FIELDS[kind] | (_WITHOUT_RACE if without_race else {}), where)
    if kind == "faults":
        for used, name in (("enomem_at", "enomem_what"), ("yield_every", "yield_mode")):
            if bool(case["inject"][used]) == (case["inject"][name] is None):
                raise VectorError(f"{where}, inject: '{name}' is null if and only if '{used}' is 0")
        if "retry" in case:
            _check_fields(case["retry"], RETRY, f"{where}, retry")
    return case


def _check_fields(case: Any, fields: dict[str, Form], where: str) -> None:
    if type(case) is not dict:
        raise VectorError(f"{where}: a case is a JSON object, this is a {type(case).__name__}")
    for name in fields:
        if name not in case:
            raise VectorError(f"{where}: the field '{name}' is missing")
    for name, value in case.items():
        if name not in fields:
            raise VectorError(f"{where}: the field '{name}' is unknown")
        if not fields[name](value):
            raise VectorError(f"{where}: the field '{name}' has a malformed value: {shorten(value)}")


def _unique(pairs: list[tuple[str, Any]]) -> Case:
    case = dict(pairs)
    if len(case) < len(pairs):
        raise ValueError("a field stands twice in one object")
    return case


def shorten(value: Any, width: int = 160) -> str:
    """`value` as JSON on one line, cut in the middle if it is long."""
    line = json.dumps(value)
    return line if len(line) <= width else f"{line[: width * 2 // 3]} ... {line[-width // 3 :]}"
