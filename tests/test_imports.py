"""Arrows point down only, there is no circle of files, and what is light to import stays light."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tdpkit"
ROOMS = ("engine", "tdx", "lab", "show", "exercises")  # each may know those before it
GLANCE = "tdpkit.glance"
"""Stands above the lab to give it pictures: it knows what the room of pictures knows."""
NAMES = ("state", "words", "picture", "live")  # of an exhibit: each may know those before it
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("numpy", "matplotlib", "ipywidgets", "anywidget", "z3", "IPython")


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(file: Path) -> set[str]:
    """Full names of all that `file` imports, wherever in it the statement stands."""
    package, found = file.relative_to(ROOT).with_suffix("").parts[:-1], set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*up, *([node.module] if node.module else [])))
            found |= {f"{origin}.{alias.name}" for alias in node.names}
    return found


MODULES = {module_of(file): file for file in FILES}


def known(file: Path) -> set[str]:
    """The modules of the house that `file` imports."""
    found = set()
    for name in imports(file):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found.add(name)
    return found - {"", "tdpkit", module_of(file)}


def room(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "tdpkit" and parts[1] in ROOMS else None


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


@pytest.mark.parametrize("file", FILES, ids=names(FILES))
def test_a_module_knows_its_own_room_and_those_below(file):
    here = "show" if module_of(file) == GLANCE else room(module_of(file))
    allowed = ROOMS[: ROOMS.index(here) + 1] if here else ()
    assert {room(name) for name in imports(file)} - {None} <= set(allowed)


def test_nobody_but_the_package_itself_knows_what_gives_the_lab_its_pictures():
    assert [name for name, file in MODULES.items() if GLANCE in known(file)] == ["tdpkit"]


def circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_circle_of_files():
    assert circle({name: known(file) for name, file in MODULES.items()}) == []


def test_a_circle_would_be_found():
    """The graph is not empty, and one arrow back closes it."""
    graph = {name: known(file) for name, file in MODULES.items()}
    assert "tdpkit.engine.kvm" in graph["tdpkit.engine.roots"]
    graph["tdpkit.engine.gfn"].add("tdpkit.engine.roots")
    assert {"tdpkit.engine.gfn", "tdpkit.engine.roots"} <= set(circle(graph))


EXHIBITS = sorted(file.parent for file in PACKAGE.glob("show/*/live.py"))


@pytest.mark.parametrize("folder", EXHIBITS, ids=[folder.name for folder in EXHIBITS])
def test_inside_an_exhibit_live_knows_the_picture_the_picture_the_words_the_words_the_state(folder):
    package = module_of(folder / "__init__.py")
    for at, name in enumerate(NAMES):
        file = folder / f"{name}.py"
        if file.exists():
            above = {f"{package}.{later}" for later in NAMES[at + 1 :]}
            assert known(file) & above == set()


ENGINE = [file for file in FILES if file.parent.name == "engine"]


@pytest.mark.parametrize("file", ENGINE, ids=names(ENGINE))
def test_the_engine_needs_nothing_but_the_standard_library_and_scan_numpy(file):
    foreign = {name.split(".")[0] for name in imports(file)} - {"tdpkit"} - sys.stdlib_module_names
    assert foreign <= ({"numpy"} if file.name == "scan.py" else set())


def test_the_rooms_are_all_there_and_the_reader_of_imports_sees_them():
    """A package that moved away, or imports read as none, would pass everything above."""
    assert set(ROOMS) <= {file.parent.name for file in FILES}
    assert len(EXHIBITS) >= 6
    assert "numpy" in set(imports(PACKAGE / "engine" / "scan.py"))
    assert {room(name) for name in imports(PACKAGE / "lab" / "conformance.py")} >= {"engine", "lab"}


LIGHT = [
    "tdpkit",
    "tdpkit.engine",
    "tdpkit.engine.kvm",
    "tdpkit.tdx",
    "tdpkit.tdx.guest",
    "tdpkit.lab.conformance",
    "tdpkit.lab.claims.ledger",
]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_what_is_light_loads_nothing_heavy(module):
    """A browser's Python has none of them, and `import tdpkit` has 50 ms."""
    code = f"import sys, {module}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_in_a_shell_pictures_are_promised_without_loading_what_draws_them():
    """A notebook's first import must not wait for widgets; what is imported after it is drawn too."""
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
import tdpkit
new = {name for name in set(sys.modules) - before if not name.startswith("tdpkit")}
ours = [name for name in sys.modules if name.startswith("tdpkit")]
print(sorted(ours), sorted(new - sys.stdlib_module_names))
from tdpkit.lab.guest import Guest
shown, _ = shell.display_formatter.format(Guest("eight", "TD"))
print(sorted(shown), "ipywidgets" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "['tdpkit', 'tdpkit.glance'] []",
        "['image/svg+xml', 'text/plain'] False",
    ]


@pytest.mark.parametrize("package", ["tdpkit.engine", "tdpkit.tdx"])
def test_a_front_door_has_every_name_it_lists_from_the_module_it_lists_it_under(package):
    """Notebooks import from the door; it is lazy, so a wrong entry would show only when it is asked for."""
    door = import_module(package)
    assert dir(door) == sorted({*vars(door), *door.__all__})
    for module, listed in door.DOOR.items():
        for name in listed:
            there = import_module(f"{package}.{module}")
            assert getattr(door, name) is getattr(there, name)
            assert getattr(getattr(door, name), "__module__", there.__name__) in (there.__name__, "builtins")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = door.no_such_name
