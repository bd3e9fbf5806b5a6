"""What the server extension does to a notebook that is saved, and that it is there at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupyter_server.services.kernels.connection.base import BaseKernelWebsocketConnection
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tdpkit import server
from tdpkit.server import LIVE_VIEW, PromptConnection

STATE = "application/vnd.jupyter.widget-state+json"
PLAIN = {"name": "python"}
FULL = {"name": "python", "version": "3.11.2", "codemirror_mode": {"name": "ipython", "version": 3}}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def view(model: str = "a1") -> dict[str, Any]:
    return {LIVE_VIEW: {"model_id": model, "version_major": 2, "version_minor": 0}}


def displayed(**data: Any) -> Any:
    return new_output("display_data", data=data)


@pytest.fixture
def manager(tmp_path: Path) -> LargeFileManager:
    """A server's own manager of files, with the extension attached to it."""
    manager = LargeFileManager(root_dir=str(tmp_path))
    settings = {"kernel_websocket_connection_class": ZMQChannelsWebsocketConnection}
    app = SimpleNamespace(contents_manager=manager, web_app=SimpleNamespace(settings=settings))
    server._load_jupyter_server_extension(app)
    return manager


def saved(manager: LargeFileManager, notebook: Any, path: str = "a/b.ipynb") -> Any:
    """`notebook` as its file has it, after the manager saved it."""
    file = Path(manager.root_dir, path)
    file.parent.mkdir(exist_ok=True)
    manager.save({"type": "notebook", "format": "json", "content": json.loads(json.dumps(notebook))}, path)
    return nbformat.read(file, as_version=4)


def with_outputs(*outputs: Any, **metadata: Any) -> Any:
    return new_notebook(
        cells=[new_markdown_cell("#"), new_code_cell(outputs=list(outputs))], metadata=metadata
    )


def test_a_dead_view_is_dropped_and_what_stands_beside_it_stays(manager: LargeFileManager) -> None:
    stream, words = new_output("stream", text="said"), {"text/plain": "a slider"}
    kept = saved(
        manager, with_outputs(displayed(**view()), stream, displayed(**view(), **words), displayed(**words))
    )
    assert kept.cells[1].outputs == [stream, displayed(**words), displayed(**words)]


def test_an_output_that_was_empty_before_stays(manager: LargeFileManager) -> None:
    assert saved(manager, with_outputs(displayed())).cells[1].outputs == [displayed()]


def test_a_view_that_is_saved_with_its_model_is_not_dead(manager: LargeFileManager) -> None:
    widgets = {STATE: {"state": {"a1": {"model_name": "IntSliderModel"}}, "version_major": 2}}
    outputs = displayed(**view("a1")), displayed(**view("b2"))
    kept = saved(manager, with_outputs(*outputs, widgets=widgets))
    assert kept.cells[1].outputs == [displayed(**view("a1"))]
    assert kept.metadata.widgets == widgets


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [
        (PLAIN, FULL, PLAIN),
        (FULL, FULL, FULL),
        ({**PLAIN, "version": "3.10"}, FULL, FULL),  # no longer true
        ({"name": "R"}, FULL, FULL),
        (PLAIN, {"name": "R"}, {"name": "R"}),
    ],
)
def test_what_the_file_says_of_its_language_stays_while_it_is_true(
    manager: LargeFileManager, before: dict[str, Any], new: dict[str, Any], after: dict[str, Any]
) -> None:
    nbformat.write(new_notebook(metadata={"language_info": before}), Path(manager.root_dir, "b.ipynb"))
    kept = saved(manager, new_notebook(metadata={"language_info": new, "kernelspec": KERNEL}), "b.ipynb")
    assert kept.metadata == {"language_info": after, "kernelspec": KERNEL}


def test_the_same_for_its_kernel(manager: LargeFileManager) -> None:
    nbformat.write(new_notebook(metadata={"kernelspec": KERNEL}), Path(manager.root_dir, "b.ipynb"))
    more = {**KERNEL, "metadata": {"debugger": True}}
    assert (
        saved(manager, new_notebook(metadata={"kernelspec": more}), "b.ipynb").metadata.kernelspec == KERNEL
    )
    other = {**more, "name": "another", "display_name": "Another"}
    kept = saved(manager, new_notebook(metadata={"kernelspec": other}), "b.ipynb")
    assert kept.metadata.kernelspec == other


@pytest.mark.parametrize(
    "there", [None, "", "{", "[]", '{"cells": []}', '{"metadata": null}', "ü".encode("latin1")]
)
def test_a_new_notebook_and_one_in_place_of_something_else_keep_all_they_say(
    manager: LargeFileManager, there: str | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if there is not None:
        file = Path(manager.root_dir, "b.ipynb")
        file.write_bytes(there if isinstance(there, bytes) else there.encode())
    metadata = {"language_info": FULL, "kernelspec": KERNEL}
    assert saved(manager, new_notebook(metadata=metadata), "b.ipynb").metadata == metadata
    assert caplog.records == [], "a manager takes a hook's error for no reason not to save, but says so"


def test_other_files_are_saved_as_they_are(manager: LargeFileManager) -> None:
    text = json.dumps(with_outputs(displayed(**view())))
    manager.save({"type": "file", "format": "text", "content": text}, "b.txt")
    assert Path(manager.root_dir, "b.txt").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("chosen", "then"),
    [
        (ZMQChannelsWebsocketConnection, PromptConnection),
        (BaseKernelWebsocketConnection, BaseKernelWebsocketConnection),
    ],
)
def test_messages_are_prompt_where_nobody_chose_otherwise(chosen: type, then: type) -> None:
    settings = {"kernel_websocket_connection_class": chosen}
    manager = SimpleNamespace(register_pre_save_hook=lambda hook: None)
    server._load_jupyter_server_extension(
        SimpleNamespace(contents_manager=manager, web_app=SimpleNamespace(settings=settings))
    )
    assert settings == {"kernel_websocket_connection_class": then}


@pytest.mark.slow
def test_every_jupyter_server_of_the_environment_loads_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jupyter", "server", "extension", "list"]
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path)}  # nobody switched it off there
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = re.sub(r"\x1b\[\d*m", "", f"{listed.stdout}{listed.stderr}").splitlines()
    assert "tdpkit.server enabled" in [line.strip() for line in lines]
    assert [line for line in lines if re.search(r"tdpkit\.server .*OK$", line)], "and it can be loaded"
