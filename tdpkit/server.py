"""What a Jupyter server does for the kit: notebooks that reopen as they were, and prompt answers.

The file `server.json`, installed with the package, enables it in every Jupyter server of the environment.

* A live view exists only as long as its kernel does. Stored, it opens as "Error displaying widget" and
  covers the picture beside it. So no dead view is saved.
* JupyterLab writes the running Python's version into each notebook that it opens. What the file says of its
  language stays as long as it is true, so a notebook that was merely opened and run is still what git has.
* A slider makes the kernel answer with several small messages in a row. By default TCP holds the second back
  until the browser has acknowledged the first (Nagle's algorithm), and a browser takes up to 40 ms for that:
  several times what the kernel needs to compute the picture. So each message is sent at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

LIVE_VIEW = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """How Jupyter finds the extension."""
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    """Attach to a server that starts; a connection class that somebody chose stays."""
    app.contents_manager.register_pre_save_hook(before_saving)
    settings, name = app.web_app.settings, "kernel_websocket_connection_class"
    if settings[name] is ZMQChannelsWebsocketConnection:
        settings[name] = PromptConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """The server's own kernel connection, with TCP_NODELAY on its websocket."""

    def connect(self) -> Any:
        """Connect as the server does, once nothing is held back any more."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


def before_saving(*, model: dict[str, Any], path: str, contents_manager: Any) -> None:
    """Drop dead views from a notebook, and keep what its file says of kernel and language while it holds.

    model: what is to be saved, of any type; changed in place. path: its place below the manager's folder.
    """
    if model["type"] != "notebook":
        return
    notebook = model["content"]
    drop_dead_views(notebook)
    metadata = notebook["metadata"]
    for name, said in _said_in(Path(contents_manager.root_dir, path.strip("/"))).items():
        new = metadata.get(name, {})
        if all(new.get(key) == value for key, value in said.items()):
            metadata[name] = said


def _said_in(file: Path) -> dict[str, Any]:
    """What the notebook in `file` says of its kernel and language; nothing if it is new, or no notebook."""
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))["metadata"]
        return {name: metadata[name] for name in ("kernelspec", "language_info") if metadata.get(name)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def drop_dead_views(notebook: Any) -> None:
    """Drop each live view from the outputs of `notebook`, and an output that is nothing else.

    A view whose model is saved with the notebook is not dead: somebody asked for that. It stays.
    """
    saved = notebook["metadata"].get("widgets", {}).get(_STATE, {}).get("state", {})

    def lasts(output: Any) -> bool:
        data = output.get("data", {})
        if LIVE_VIEW not in data or data[LIVE_VIEW].get("model_id") in saved:
            return True
        del data[LIVE_VIEW]
        return bool(data)

    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if lasts(output)]
