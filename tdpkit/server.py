"""A Jupyter server that sends each message of a kernel at once.

A slider makes the kernel answer with several small messages in a row. By default TCP holds the second back
until the browser has acknowledged the first (Nagle's algorithm), and a browser takes up to 40 ms for that:
several times what the kernel needs to compute the picture. `make lab` starts JupyterLab with this class.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """The server's own kernel connection, with TCP_NODELAY on its websocket."""

    def connect(self) -> Any:
        """Connect as the server does, once nothing is held back any more."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()
