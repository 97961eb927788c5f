# SPDX-License-Identifier: Apache-2.0
"""Serves a WSGI application in a process of its own; for the modules that run in the environment of the services."""

import socketserver
import threading
from collections.abc import Callable
from typing import Any
from wsgiref import simple_server


class _Server(simple_server.WSGIServer):
    #: Called twice a second, between requests.
    idle: Callable[[], None] | None = None

    def service_actions(self) -> None:
        if self.idle is not None:
            self.idle()


class _ThreadingServer(socketserver.ThreadingMixIn, _Server):
    daemon_threads = True


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the services log their requests."""


def serve(application: Any, port: int, idle: Callable[[], None] | None = None) -> None:
    """Serve for ever, on the loopback address.

    :param idle: a function to call twice a second. Requests then wait for it and for each other; without it, each has a
        thread
    """
    kind = _ThreadingServer if idle is None else _Server
    server = simple_server.make_server('127.0.0.1', port, application, kind, _Quiet)
    server.idle = idle
    server.serve_forever()


def in_turn(application: Any) -> Any:
    """Return a WSGI application that handles one request at a time, for one that is not made for threads."""
    turn = threading.Lock()

    def handle(environ: Any, start_response: Any) -> Any:
        with turn:
            return application(environ, start_response)

    return handle


def begin_immediately() -> None:
    """Make each transaction of SQLite in this process wait for the others at its beginning."""
    # By default a transaction takes the lock with its first write: of two that have read and then write, one fails at
    # once with "database is locked", whatever the timeout is.
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def immediate(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        return ('BEGIN IMMEDIATE' if statement == 'BEGIN' else statement), parameters

    event.listen(Engine, 'before_cursor_execute', immediate, retval=True)
