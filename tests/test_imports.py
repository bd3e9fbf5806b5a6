"""Arrows point down only: exercises, show, lab, engine. And what is light to import stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tdpkit"
ROOMS = ("engine", "tdx", "lab", "show", "exercises")  # each may know those before it
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("numpy", "matplotlib", "ipywidgets", "z3", "IPython")


def imports(file: Path) -> Iterator[str]:
    """Full names of all that `file` imports, wherever in it the statement stands."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*up, *([node.module] if node.module else [])))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "tdpkit" and parts[1] in ROOMS else None


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_a_module_knows_its_own_room_and_those_below(file):
    here = room(".".join(file.relative_to(ROOT).with_suffix("").parts))
    allowed = ROOMS[: ROOMS.index(here) + 1] if here else ()
    assert {room(name) for name in imports(file)} - {None} <= set(allowed)


ENGINE = [file for file in FILES if file.parent.name == "engine"]


@pytest.mark.parametrize("file", ENGINE, ids=names(ENGINE))
def test_the_engine_needs_nothing_but_the_standard_library_and_scan_numpy(file):
    foreign = {name.split(".")[0] for name in imports(file)} - {"tdpkit"} - sys.stdlib_module_names
    assert foreign <= ({"numpy"} if file.name == "scan.py" else set())


def test_the_rooms_are_all_there_and_the_reader_of_imports_sees_them():
    """A package that moved away, or imports read as none, would pass everything above."""
    assert set(ROOMS) <= {file.parent.name for file in FILES}
    assert "numpy" in set(imports(PACKAGE / "engine" / "scan.py"))
    assert {room(name) for name in imports(PACKAGE / "lab" / "conformance.py")} >= {"engine", "lab"}


@pytest.mark.parametrize("module", ["tdpkit", "tdpkit.engine.kvm", "tdpkit.lab.conformance"])
def test_importing_what_is_light_loads_nothing_heavy(module):
    """A browser's Python has none of them, and `import tdpkit` has 50 ms."""
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
