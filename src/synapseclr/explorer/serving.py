"""Starts the explorer's web server on this machine's loopback address."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from synapseclr.errors import ConfigurationError

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.serving import BaseWSGIServer

HOST = "127.0.0.1"
UNFINISHED_REQUEST_S = 20.0
"""Longest pause within a request, or in taking an answer; a connection that is silent for longer is closed."""


def make_explorer_server(app: Flask, port: int) -> BaseWSGIServer:
    """Bind the server, one thread per request; connections are kept open.

    Args:
        app: From :func:`synapseclr.explorer.server.create_app`.
        port: 0 takes any free one; ``server.port`` says which.

    Raises:
        ConfigurationError: If the port is taken.
    """
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = UNFINISHED_REQUEST_S

        def log_request(self, *arguments: Any, **options: Any) -> None:
            """Say nothing of what went well."""

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    try:
        return make_server(HOST, port, app, threaded=True, request_handler=Handler)
    except (OSError, SystemExit) as error:
        raise ConfigurationError(
            f"Port {port} on {HOST} is taken, perhaps by an explorer that still runs. Choose another one, such as "
            f"--port={port + 1}."
        ) from error
