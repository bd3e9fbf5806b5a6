"""`make` says in one sentence what is missing, and leaves no half-made .venv.

Here python3 is a stand-in, so nothing is downloaded; `make test` shows by running that the real set-up works.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What `make` was asked by whoever runs these tests must not reach the `make` under test.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "PORT", "BROWSER"}
}

# A stand-in for python3 that is the running Python but for what a test changes; it makes a .venv whose Python
# notes what it was asked instead of installing.
PYTHON = """\
#!/bin/sh
echo "python3 $*" >>{log}
{change}
case "$1 $2" in
"-m venv")
    mkdir -p "$3/bin"
    cp {venv_python} "$3/bin/python"
    exit;;
esac
exec {real} "$@"
"""
VENV_PYTHON = """\
#!/bin/sh
[ "$1" = -I ] && exec echo "$PWD/tdpkit/__init__.py"
echo "venv $*" >>{log}
{change}
"""


class Kit:
    """A copy of the set-up's files, in a folder with a space in its name, and a python3 to set up with."""

    def __init__(self, folder: Path):
        self.root = folder / "a kit"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.root.mkdir()
        self.bin.mkdir()
        self.log.touch()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.root)
        self.python()

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def script(self, name: str, text: str, change: str) -> None:
        path = self.bin / name
        values = {"log": self.log, "venv_python": self.bin / "venv-python", "real": sys.executable}
        quoted = {key: shlex.quote(str(value)) for key, value in values.items()}
        path.write_text(text.format(change=change, **quoted), encoding="utf-8")
        path.chmod(0o755)

    def python(self, change: str = "", venv_change: str = "") -> None:
        self.script("python3", PYTHON, change)
        self.script("venv-python", VENV_PYTHON, venv_change)

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.root,
            env={**ENVIRONMENT, "PATH": f"{self.bin}{os.pathsep}{ENVIRONMENT['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A group of its own can be interrupted as a terminal does it; in a background job, as CI may be,
            # Ctrl-C would be ignored from birth.
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def make(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def fails_saying(self, sentence: str, *arguments: str) -> None:
        """It fails, nothing of .venv stays, and of what it says one line is the kit's own: this sentence."""
        status, _, err = self.make(*(arguments or ("test",)))
        assert status == 2, err
        said = [line for line in err.splitlines() if not line.startswith("make: ")]
        own = [line for line in said if line.startswith("tdpkit: ")]
        assert len(own) == 1, err
        assert re.search(sentence, own[0]), err
        assert re.fullmatch(r"tdpkit: [^.]+(\.\w[^.]*)*\.", own[0]), "not one sentence"
        assert "Traceback" not in err
        assert not self.venv.exists()


def pretending(statement: str) -> str:
    """A change to the stand-in: what is asked with -c is asked of a Python in which this was done first."""
    return f"""[ "$1" = -c ] && exec {shlex.quote(sys.executable)} -c "import sys; {statement}; $2" """


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path)


@pytest.mark.parametrize("target", ["lab", "test", "soak", "bench", "outputs"])
def test_no_python_at_all(kit, target):
    kit.fails_saying(r"no 'python9' on the PATH", target, "PYTHON=python9")


def test_a_python_that_does_not_run(kit):
    """A version manager's stub is on the PATH and answers nothing but an error."""
    kit.python("exit 127")
    kit.fails_saying(r"'python3' does not run")


def test_a_python_that_is_too_old_is_named_with_its_version(kit):
    kit.python(pretending("sys.version_info = (3, 9, 2)"))
    kit.fails_saying(r"Python 3\.11 or newer is needed, and 'python3' is Python 3\.9:")


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_its_venv_module(kit, module):
    kit.python(pretending(f"sys.modules['{module}'] = None"))
    kit.fails_saying(r"Python's venv module is missing: .*python3-venv")


def test_a_venv_that_fails_half_way_leaves_no_folder(kit):
    """Debian's does, without its package for ensurepip."""
    kit.python("""[ "$2" = venv ] && { mkdir -p .venv/bin; echo "it was not created"; exit 1; }""")
    kit.fails_saying(r"'python3 -m venv' failed")


def test_a_failed_download_leaves_no_folder(kit):
    kit.python(venv_change="""case "$*" in *require-hashes*) echo "ERROR: no network" >&2; exit 1;; esac""")
    kit.fails_saying(r"requirements\.lock could not be installed")


def test_a_failed_install_of_the_package_leaves_no_folder(kit):
    kit.python(venv_change="""case "$*" in *" -e ."*) echo "ERROR: bad metadata" >&2; exit 1;; esac""")
    kit.fails_saying(r"tdpkit itself could not be installed")


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_set_up_leaves_no_folder(kit, name, times):
    """Also if whoever waits presses Ctrl-C again while it cleans up; there is something to clean."""
    kit.python(venv_change="exec sleep 30")
    process = kit.start("test")
    deadline = time.monotonic() + 30
    while "require-hashes" not in kit.log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, "the download never started"
        time.sleep(0.01)
    assert kit.venv.exists()
    for number in range(300):
        (kit.venv / f"file {number}").touch()
    for _ in range(times):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, getattr(signal, name))
        time.sleep(0.003)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not kit.venv.exists()


def asked(kit: Kit) -> list[str]:
    """What the set-up asked of Python since the last look."""
    lines = kit.log.read_text(encoding="utf-8").splitlines()
    kit.log.write_text("", encoding="utf-8")
    return lines


def test_the_set_up_checks_hashes_and_installs_the_package_without_downloads(kit):
    status, out, err = kit.make(".venv/ready")
    assert status == 0, err
    assert "Setting up .venv" in out
    locked, package = [line for line in asked(kit) if line.startswith("venv -m pip install")]
    assert "--require-hashes -r requirements.lock" in locked
    assert "--no-deps --no-build-isolation -e ." in package
    assert (kit.venv / "share/jupyter/lab/settings/overrides.json").is_file()


def test_what_a_killed_set_up_left_is_thrown_away(kit):
    """Nothing cleans up after a power cut; the next run starts from nothing all the same."""
    (kit.venv / "bin").mkdir(parents=True)
    (kit.venv / "half-made").touch()
    assert kit.make(".venv/ready")[0] == 0
    assert not (kit.venv / "half-made").exists()


def test_a_second_run_does_nothing(kit):
    assert kit.make(".venv/ready")[0] == 0
    asked(kit)
    assert kit.make(".venv/ready")[0] == 0
    assert asked(kit) == []


@pytest.mark.parametrize(
    ("changed", "steps"), [("requirements.lock", 2), ("pyproject.toml", 1), ("Makefile", 1), (None, 0)]
)
def test_a_changed_file_is_installed_anew(kit, changed, steps):
    """The lock from nothing, so that a package that it no longer names is gone; the rest in place."""
    assert kit.make(".venv/ready")[0] == 0
    asked(kit)
    if changed:
        later = time.time() + 10
        os.utime(kit.root / changed, (later, later))
    assert kit.make(".venv/ready")[0] == 0
    assert len([line for line in asked(kit) if "pip install" in line]) == steps


def test_an_update_that_fails_keeps_what_worked(kit):
    """A slip in pyproject.toml must not cost a download of everything."""
    assert kit.make(".venv/ready")[0] == 0
    (kit.venv / "bin/python").write_text(
        '#!/bin/sh\n[ "$1" = -I ] && exec echo "$PWD/tdpkit/__init__.py"\nexit 1\n', encoding="utf-8"
    )
    later = time.time() + 10
    os.utime(kit.root / "pyproject.toml", (later, later))
    status, _, err = kit.make(".venv/ready")
    assert status == 2
    assert "tdpkit itself could not be installed" in err
    assert (kit.venv / "ready").exists()


def test_a_moved_folder_is_set_up_again(kit):
    """Scripts in .venv hold its absolute path, and the editable install would still be the old folder's."""
    assert kit.make(".venv/ready")[0] == 0
    (kit.venv / "bin/python").write_text("#!/bin/sh\necho /elsewhere/tdpkit/__init__.py\n", encoding="utf-8")
    asked(kit)
    assert kit.make(".venv/ready")[0] == 0
    assert len([line for line in asked(kit) if "pip install" in line]) == 2


def test_make_alone_lists_every_target(kit):
    status, out, _ = kit.make()
    assert status == 0
    phony = re.search(r"^\.PHONY: help (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^make (\w+)", out, re.MULTILINE) == phony[1].split()
