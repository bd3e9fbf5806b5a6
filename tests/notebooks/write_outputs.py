"""Run every notebook from top to bottom and store its outputs: `make outputs`.

Stored are text and SVG, which nbval compares. Not stored: the live view of a widget (it exists only while
its kernel does; elsewhere it would show as an error in place of the picture), widget state, times, and the
version of the Python that ran.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tdpkit.server import drop_dead_views

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook at `path`, run in this environment's kernel, with what is to be stored."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=120,
        record_timing=False,
        coalesce_streams=True,  # else it is chance where one print ends and the next begins
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    title = notebook.metadata.get("title")
    notebook.metadata = nbformat.from_dict({**METADATA, **({"title": title} if title else {})})
    drop_dead_views(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise SystemExit(f"{path.name}: a cell writes to stderr: {output.text}")
    return notebook


def main() -> None:
    """Run and write all of them."""
    for path in NOTEBOOKS:
        nbformat.write(run(path), path)
        print(f"{path.relative_to(ROOT)}: outputs stored")


if __name__ == "__main__":
    main()
