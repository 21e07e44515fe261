"""Where the fits of a training run: here, on all cores, or on a Ray cluster.

A fit is a task that depends on nothing but its arguments, and computes with one thread, so
every engine gives the same bits. What many tasks read is shared: it is placed once.

joblib's Ray backend (ray.util.joblib) runs scikit-learn's own searches, not these tasks: it gives
up when a worker dies, and cannot tell of the tasks that are done.

AnabranchError
└── EngineError
    ├── EngineUnreachable   nobody answers at the cluster's address
    ├── WorkerLost          the workers of one task died again and again
    └── WorkerDiffers       a worker has other libraries than this process
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from joblib import cpu_count
from threadpoolctl import threadpool_limits

from topics.errors import AnabranchError

Result = TypeVar("Result")
EngineName = Literal["local", "ray"]
Done = Callable[[int], None]
"""Called with the place of each task that is done."""

RETRIES = 3
"""How often a task is run again whose worker died."""
_FEWEST_ROWS = 20_000
"""With fewer, processes take longer to start than most fits take."""


class EngineError(AnabranchError):
    """The engine cannot run its tasks."""


class EngineUnreachable(EngineError):
    """Nobody answers at the cluster's address."""

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(
            f"no Ray cluster answers at {address}: {cause}; start one with `ray start --head`, "
            "or leave --address out to start Ray here; a cluster with tokens needs "
            "RAY_AUTH_MODE=token here too"
        )


class WorkerLost(EngineError):
    """The workers of one task died again and again."""

    def __init__(self, task: str, cause: str) -> None:
        super().__init__(
            f"{task}: {1 + RETRIES} workers in a row died of it ({cause}); mostly the machine "
            "has too little memory: train on fewer rows, or on a larger machine"
        )


class WorkerDiffers(EngineError):
    """A worker has other libraries than this process, so its models would be other ones."""

    def __init__(self, versions: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        wrong = [
            f"{name} {versions.get(name, '(none)')} instead of {version}"
            for name, version in wanted.items()
            if versions.get(name) != version
        ]
        super().__init__(
            f"a worker has {', '.join(wrong)}; install the same versions on every node"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[Result]):
    """A task that was submitted."""

    function: Callable[..., Result]
    arguments: tuple[Any, ...]
    handle: Any = None
    """The engine's own."""

    @property
    def name(self) -> str:
        """What the task is called in messages."""
        return self.function.__name__


class Engine(Protocol):
    """Runs independent tasks, in any order and place, to the same results."""

    def share(self, value: Any) -> Any:
        """What stands for *value* among the arguments of tasks; it is placed only once."""

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        """Have *function* called with *arguments*; both can be pickled."""

    def gather(self, tasks: Sequence[Task[Result]], done: Done = ...) -> list[Result]:
        """The results in the order of *tasks*; raises what the first of them has raised.

        Tells *done* of each as it comes. Raises EngineError when it does not come.
        """

    def joblib(self) -> dict[str, Any]:
        """Settings for `joblib.parallel_config`, to have scikit-learn's own tasks run there."""


def nobody(_place: int) -> None:
    """Tell nobody."""


class InProcess:
    """Tasks run here, one after the other, when they are gathered."""

    def share(self, value: Any) -> Any:
        """The value itself."""
        return value

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Task[Result]:
        """Remember the task."""
        return Task(function, arguments)

    def gather(self, tasks: Sequence[Task[Result]], done: Done = nobody) -> list[Result]:
        """Run the tasks."""
        results = []
        for place, task in enumerate(tasks):
            results.append(task.function(*task.arguments))
            done(place)
        return results

    def joblib(self) -> dict[str, Any]:
        """One task at a time."""
        return {"n_jobs": 1}


def one_thread() -> AbstractContextManager[Any]:
    """Within it, BLAS and OpenMP compute with one thread.

    With more, sums are split by the number of cores, and the last bits of a fitted model, so
    its digest, depend on the machine that fitted it.
    """
    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def open_engine(
    name: EngineName, address: str | None = None, *, rows: int
) -> AbstractContextManager[Engine]:
    """The engine called *name* for *rows* rows, until the end of the context.

    `address` is a Ray cluster's. With few rows, local tasks run in this process: others take
    seconds to start. Raises MissingExtra and EngineUnreachable.
    """
    if name == "ray":
        from models.training.ray_engine import RayEngine

        return RayEngine(address)
    from models.training.local_engine import LocalEngine

    if rows < _FEWEST_ROWS or (cores := cpu_count()) == 1:
        return nullcontext(InProcess())
    return LocalEngine(cores)
