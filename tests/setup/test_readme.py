"""What the README shows is there, and its example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert "README.svg" in links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_course_table_links_to_every_notebook() -> None:
    linked = set(re.findall(r"\((notebooks/[^)]+)\)", README))
    assert linked == {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_its_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "level=1, count=512" in run.stdout
    assert " object at " not in run.stdout


def test_it_names_the_folders_of_the_house() -> None:
    for folder in ("engine", "tdx", "lab", "show", "exercises"):
        assert f"tdpkit/{folder}/" in README
        assert (ROOT / "tdpkit" / folder / "__init__.py").is_file()
