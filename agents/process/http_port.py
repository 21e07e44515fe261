"""The worker's HTTP port: metrics for Prometheus, and whether it is alive and ready.

/metrics   Prometheus text format
/healthz   200 while every component gets on, 503 and the reasons when one is stuck or has refused
           the topics
/readyz    200 once every component owns its partitions

Whoever reaches the port can hold up neither it nor the worker: a request is to be there and
answered within ANSWERED_WITHIN_S, its head has at most MAX_HEAD_BYTES, and of more than
MAX_CONNECTIONS the oldest is cut off: a probe and a scrape, which take milliseconds, never are.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import LineTooLong
from io import BufferedReader
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import CollectorRegistry, disable_created_metrics, make_wsgi_app

from agents.process.liveness import Liveness
from topics.errors import AnabranchError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


MAX_CONNECTIONS = 32
ANSWERED_WITHIN_S = 10.0
MAX_HEAD_BYTES = 16 * 1024


class PortUnavailable(AnabranchError):
    """Nothing can listen there."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: {cause}; give another --metrics-port, or 0 for any"
        )


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        self._since: dict[socket.socket, float] = {}
        """When each connection began, the oldest first."""
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Deal with a new connection; too many are one fewer then."""
        with self._lock:
            if len(self._since) >= MAX_CONNECTIONS:
                self._cut(next(iter(self._since)))
            self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection is done with."""
        with self._lock:  # before its number can be that of another
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off what has taken too long; the server calls this twice a second."""
        with self._lock:
            late = time.monotonic() - ANSWERED_WITHIN_S
            for request in [request for request, since in self._since.items() if since < late]:
                self._cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever was cut off, or went away, is no news."""

    def _cut(self, request: socket.socket) -> None:
        """End both directions, so that the thread that deals with it ends too."""
        del self._since[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)


class _Head:
    """A request as far as its handler reads it: so many bytes, and no more."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int = -1) -> bytes:
        """The next line. Raises LineTooLong, which the handler answers with 431."""
        most = self._left + 1 if size < 0 else min(size, self._left + 1)
        line = self._stream.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("head")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Handler(WSGIRequestHandler):
    timeout = ANSWERED_WITHIN_S
    rfile: Any

    def setup(self) -> None:
        """Read from the connection no more than a head."""
        super().setup()
        self.rfile = _Head(self.rfile)

    def handle(self) -> None:
        """Answer one request, also one whose first line is too long already."""
        try:
            super().handle()
        except LineTooLong:
            self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
            self.send_error(431)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its interface
        """Nothing: a scrape every few seconds is no news."""


@contextmanager
def http_server(
    host: str, port: int, registry: CollectorRegistry, liveness: Liveness
) -> Iterator[int]:
    """Serve on *host*:*port* (0: any that is free) meanwhile; yields the port.

    Raises PortUnavailable.
    """
    # Or each counter and histogram has one more series, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
    app = _routed(make_wsgi_app(registry), liveness)
    try:
        listener = make_server(host, port, app, _Server, _Handler)
    except OSError as exc:
        raise PortUnavailable(host, port, exc.strerror or str(exc)) from exc
    with listener as server:
        threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def _routed(metrics: WSGIApplication, liveness: Liveness) -> WSGIApplication:
    def health() -> tuple[bool, dict[str, object]]:
        stuck, refused = liveness.stuck(), liveness.refused
        live = not stuck and refused is None
        return live, {"live": live, "stuck": stuck, "refused": refused}

    def readiness() -> tuple[bool, dict[str, object]]:
        return liveness.ready, {"ready": liveness.ready}

    states: dict[str, Callable[[], tuple[bool, dict[str, object]]]] = {
        "/healthz": health, "/readyz": readiness,
    }  # fmt: skip

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path in ("/metrics", "/"):
            return metrics(environ, start_response)
        if path not in states:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /healthz and /readyz are here\n"]
        is_fine, body = states[path]()
        status = "200 OK" if is_fine else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [orjson.dumps(body)]

    return app
