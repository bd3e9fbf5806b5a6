"""pyproject.toml, requirements.lock and environment.yml name the same packages, and no address or path."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

# conda-forge's name where it is not the one in pyproject.toml. Its plain `matplotlib` adds Qt, and its plain
# `playwright` is the Node.js tool.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "playwright": "playwright-python"}

ADDRESS = re.compile(
    r"://|--(extra-)?index-url|--find-links|--trusted-host|\b[\w-]+\.(?:org|com|net|io|dev)\b"
    r"|(?<![\w.])/(?:work|root|home|opt|Users)/"
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PYPROJECT = tomllib.loads(read("pyproject.toml"))
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PYPROJECT["project"]["optional-dependencies"].items()
}
BUILD = [
    Requirement(line)
    for line in PYPROJECT["build-system"]["requires"] + PYPROJECT["dependency-groups"]["build"]
]
DIRECT = [*EXTRAS["lab"], *EXTRAS["test"], *BUILD]


def lock_entries() -> list[tuple[Requirement, str]]:
    """Each pin of the lock, and the text of its hashes."""
    text = re.sub(r"(?m)^\s*#.*\n?", "", read("requirements.lock")).replace("\\\n", " ")
    entries = []
    for line in text.splitlines():
        requirement, _, hashes = line.partition("--hash=")
        entries.append((Requirement(requirement.strip()), "--hash=" + hashes))
    return entries


def conda_packages() -> dict[str, SpecifierSet]:
    """What environment.yml asks of conda and of pip, without Python, pip and this folder."""
    *dependencies, by_pip = yaml.safe_load(read("environment.yml"))["dependencies"]
    lines = [*dependencies, *(line for line in by_pip["pip"] if not line.startswith("-e"))]
    requirements = [Requirement(line) for line in lines if line != "pip" and not line.startswith("python=")]
    return {requirement.name: requirement.specifier for requirement in requirements}


def oldest_python() -> str:
    requires = PYPROJECT["project"]["requires-python"]
    assert requires.startswith(">=")
    return requires.removeprefix(">=")


def test_the_machine_itself_depends_on_nothing():
    assert PYPROJECT["project"]["dependencies"] == []


def test_every_locked_package_is_pinned_and_has_hashes():
    """A pin without a hash would let another file of that version in."""
    entries = lock_entries()
    assert len(entries) > len(DIRECT)
    for requirement, hashes in entries:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert re.fullmatch(r"(--hash=sha256:[0-9a-f]{64}\s*)+", hashes), requirement


@pytest.mark.parametrize("wanted", DIRECT, ids=str)
def test_the_lock_holds_every_direct_dependency_within_its_bounds(wanted):
    pins = [
        next(iter(requirement.specifier)).version
        for requirement, _ in lock_entries()
        if canonicalize_name(requirement.name) == canonicalize_name(wanted.name)
    ]
    assert pins, f"{wanted.name} is not in requirements.lock: run `make lock`"
    assert all(wanted.specifier.contains(pin) for pin in pins), f"{pins} for {wanted}: run `make lock`"


def test_every_direct_dependency_has_a_lower_and_an_upper_bound():
    for requirement in DIRECT:
        assert sorted(bound.operator for bound in requirement.specifier) == ["<", ">="], requirement


def test_conda_gets_the_same_packages_within_the_same_bounds():
    expected = {CONDA_NAMES.get(r.name, r.name): r.specifier for r in [*EXTRAS["lab"], *EXTRAS["test"]]}
    assert conda_packages() == expected


def test_conda_uses_conda_forge_alone_and_installs_this_folder():
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["name"] == PYPROJECT["project"]["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *packages, folder = environment["dependencies"][-1]["pip"]
    assert folder == "-e ."
    assert packages == ["axe-playwright-python >=0.1.5,<0.2"], "what conda-forge is not known to have"
    assert "pip" in environment["dependencies"]


def test_everything_names_the_same_oldest_python():
    """The lock, the linter and the sentence that `make` says must not promise different Pythons."""
    oldest = oldest_python()
    makefile = read("Makefile")
    assert PYPROJECT["tool"]["mypy"]["python_version"] == oldest
    assert set(re.findall(r"--python-version (\S+)", makefile)) == {oldest}
    assert set(re.findall(r"version_info < \((\d+), (\d+)\)", makefile)) == {tuple(oldest.split("."))}
    assert set(re.findall(r"Python (\S+) or newer", makefile)) == {oldest}
    conda_python = re.search(r"python=(\S+)", read("environment.yml"))
    assert conda_python
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(conda_python[1])


@pytest.mark.parametrize(
    "name", ["requirements.lock", "Makefile", "pyproject.toml", "environment.yml", ".ci/run", ".gitignore"]
)
def test_no_package_address_and_no_path_of_a_machine_is_written_down(name):
    """Packages come from wherever the reader's own pip or conda is told to look."""
    lines = read(name).splitlines()
    assert [line for line in lines if ADDRESS.search(line)] == []


def test_jupyterlab_knows_every_setting_that_the_makefile_overrides():
    """JupyterLab ignores an unknown setting in silence, and the news popup would be back."""
    overrides = json.loads(re.search(r"define OVERRIDES\n(.*?)\nendef", read("Makefile"), re.DOTALL)[1])
    share = Path(sys.prefix) / "share/jupyter"
    for plugin, settings in overrides.items():
        package, _, name = plugin.partition(":")
        found = [
            *share.glob(f"lab/schemas/{package}/{name}.json"),
            *share.glob(f"labextensions/{package}/schemas/{package}/{name}.json"),
        ]
        assert found, f"JupyterLab has no plugin {plugin}"
        properties = json.loads(found[0].read_text(encoding="utf-8"))["properties"]
        for setting, value in settings.items():
            kind = {bool: "boolean", str: "string"}[type(value)]
            assert properties[setting]["type"] == kind, setting
            allowed = [choice["const"] for choice in properties[setting].get("oneOf", [])]
            assert not allowed or value in allowed, setting


def test_ci_runs_the_test_command_of_the_readme():
    script = ROOT / ".ci/run"
    blocks = re.findall(r"^```\w*\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert "make test" in commands
    assert "make lab" in commands
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"
    assert script.stat().st_mode & 0o111
