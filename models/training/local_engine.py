"""Tasks in processes of this machine, one for each core (joblib's loky)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import joblib
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from models.training.engines import RETRIES, Done, Result, Task, WorkerLost, nobody, one_thread

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class SharedValue:
    """A value in a file, which workers map into their memory."""

    path: Path


class LocalEngine:
    """Processes that live until the end of the context."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._folder = TemporaryDirectory(prefix="anabranch-shared-")
        self._shared = 0
        self._pool: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_pool()
        self._folder.cleanup()

    def share(self, value: Any) -> SharedValue:
        """Write *value* to a file; its arrays are mapped by the workers, read-only."""
        path = Path(self._folder.name) / f"{self._shared}.joblib"
        self._shared += 1
        joblib.dump(value, path)
        return SharedValue(path)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        """Queue the task; processes start with the first one."""
        return Task(function, arguments, self._started(function, arguments))

    def gather(self, tasks: Sequence[Task[Result]], done: Done = nobody) -> list[Result]:
        """Wait for the tasks; those whose process died are queued again, in a new pool."""
        left, finished = list(tasks), set[int]()
        for _ in range(1 + RETRIES):
            left = [self._again(task) for task in left]
            try:
                return _finished([task.handle for task in left], finished, done)
            except BrokenProcessPool as exc:
                cause = str(exc).splitlines()[0]
        raise WorkerLost(next(task.name for task in left if _is_lost(task.handle)), cause)

    def joblib(self) -> dict[str, Any]:
        """As many processes as this engine has, of joblib's own."""
        return {"backend": "loky", "n_jobs": self._workers, "inner_max_num_threads": 1}

    def _again(self, task: Task[Result]) -> Task[Result]:
        """The same, queued again if its pool broke down meanwhile."""
        if not _is_lost(task.handle):
            return task
        return replace(task, handle=self._started(task.function, task.arguments))

    def _started(self, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Any:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._workers, env=_ONE_THREAD)
        try:
            return self._pool.submit(_run, function, arguments)
        except BrokenProcessPool:  # a worker died since the last task
            self._end_pool()
            return self._started(function, arguments)

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None


def _finished(futures: Sequence[Future[Result]], finished: set[int], done: Done) -> list[Result]:
    """The results; *done* is told of those that *finished* does not name yet."""
    running = set(futures)
    while running:
        _, running = wait(running, return_when=FIRST_COMPLETED)
        for place, future in enumerate(futures):
            if place not in finished and future.done() and not _is_lost(future):
                finished.add(place)
                done(place)
    return [future.result() for future in futures]


def _is_lost(future: Future[Any]) -> bool:
    """Whether the task ended because a process of its pool died."""
    return future.done() and isinstance(future.exception(), BrokenProcessPool)


def _run(function: Callable[..., Result], arguments: Sequence[Any]) -> Result:
    with one_thread():
        return function(
            *(joblib.load(each.path, mmap_mode="r") if isinstance(each, SharedValue) else each
              for each in arguments)
        )  # fmt: skip
