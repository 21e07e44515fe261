"""Tasks on a Ray cluster, or on a Ray that is started here (extra `ray`)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Self

from models.registry import library_versions
from models.training.engines import (
    RETRIES,
    Done,
    EngineUnreachable,
    Result,
    Task,
    WorkerDiffers,
    WorkerLost,
    nobody,
    one_thread,
)
from topics.errors import MissingExtra

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what a later Ray does anyway; else it warns
}
_CONNECT_S = 5.0


class RayEngine:
    """Ray, from the start of the context to its end.

    `address` is a cluster's (`auto`, HOST:PORT or ray://HOST:PORT); without it, and without
    RAY_ADDRESS, Ray starts here and ends with the context. Shared values lie once in its
    object store. A task needs one CPU; one whose worker or node dies is run again.
    Raises MissingExtra and EngineUnreachable.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as exc:
            raise MissingExtra("--engine ray", "ray") from exc
        self._ray: Any = ray
        self._address, self._workers = address, workers
        self._libraries = library_versions()

    def __enter__(self) -> Self:
        address = self._address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            _check_answers(address)
        own = {} if address is not None else {
            "num_cpus": self._workers, "include_dashboard": False,
        }  # fmt: skip
        try:
            # `local`, as without an address Ray would join one that runs on this machine.
            self._ray.init(
                address or "local", log_to_driver=False, logging_level=logging.ERROR, **own
            )
        except (ConnectionError, RuntimeError, ValueError) as exc:
            cause = str(exc).strip().splitlines()[0]
            raise EngineUnreachable(address or "this machine", cause) from exc
        self._remote = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def share(self, value: Any) -> Any:
        """Put *value* into the object store; its arrays are read-only in the workers."""
        return self._ray.put(value)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        """Queue the task with Ray."""
        handle = self._remote.remote(self._libraries, function, *arguments)
        return Task(function, arguments, handle)

    def gather(self, tasks: Sequence[Task[Result]], done: Done = nobody) -> list[Result]:
        """Wait for the tasks."""
        places = {task.handle: place for place, task in enumerate(tasks)}
        running = list(places)
        while running:
            ready, running = self._ray.wait(running)
            for handle in ready:
                done(places[handle])
        return [self._result(task) for task in tasks]

    def joblib(self) -> dict[str, Any]:
        """Every CPU of the cluster, by Ray's own backend for joblib."""
        import_module("ray.util.joblib").register_ray()
        return {"backend": "ray", "n_jobs": int(self._ray.cluster_resources()["CPU"])}

    def _result(self, task: Task[Result]) -> Result:
        try:
            result: Result = self._ray.get(task.handle)
        except self._ray.exceptions.RayTaskError as exc:
            raise exc.cause from None
        except self._ray.exceptions.RayError as exc:
            raise WorkerLost(task.name, str(exc).strip().splitlines()[0]) from exc
        return result


def _check_answers(address: str) -> None:
    """Raise EngineUnreachable where nobody listens: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto, for example
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as exc:
        raise EngineUnreachable(address, str(exc)) from exc


def _run(libraries: Mapping[str, str], function: Callable[..., Result], *arguments: Any) -> Result:
    if (versions := library_versions()) != libraries:
        raise WorkerDiffers(versions, libraries)
    with one_thread():
        return function(*arguments)
