"""The Engine API's listening side: `wherry.http`'s server in Docker's style."""

from __future__ import annotations

from wherry import __version__
from wherry.api.status import error_response, render_error
from wherry.api.versions import CURRENT, render_version
from wherry.http import server
from wherry.http.messages import AtOnce, Handler
from wherry.http.style import Style

STYLE = Style(
    fields=(
        f"Api-Version: {render_version(CURRENT)}\r\nDocker-Experimental: false\r\nOstype: linux\r\n"
        f"Server: Wherry/{__version__} (linux)\r\n"
    ),
    render_fault=render_error,
    render_error=error_response,
)


class Server(server.Server):
    """Serves `handler`, the whole API, on any number of listening sockets."""

    def __init__(self, handler: Handler, at_once: AtOnce | None = None) -> None:
        super().__init__(handler, STYLE, at_once)
