"""The worker's HTTP port: metrics for Prometheus, and whether it is alive and ready.

/metrics   Prometheus text format
/healthz   200 while every component gets on, 503 and the reasons when one is stuck or has refused
           the topics
/readyz    200 once every component owns its partitions
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import CollectorRegistry, make_wsgi_app

from agents.liveness import Liveness
from topics.errors import AnabranchError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


class PortUnavailable(AnabranchError):
    """Nothing can listen there."""

    def __init__(self, host: str, port: int, cause: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: {cause}; give another --metrics-port, or 0 for any"
        )


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its interface
        """Nothing: a scrape every few seconds is no news."""


@contextmanager
def serving(host: str, port: int, registry: CollectorRegistry, liveness: Liveness) -> Iterator[int]:
    """Serve on *host*:*port* (0: any that is free) meanwhile; yields the port.

    Raises PortUnavailable.
    """
    app = _routed(make_wsgi_app(registry), liveness)
    try:
        made = make_server(host, port, app, _Server, _Quiet)
    except OSError as exc:
        raise PortUnavailable(host, port, exc.strerror or str(exc)) from exc
    with made as server:
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
        fine, said = states[path]()
        status = "200 OK" if fine else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [orjson.dumps(said)]

    return app
