"""Every engine gives the same results, in order, and survives workers that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from models.errors import FitFailed
from models.registry.registry import Registry
from models.training.engines import (
    RETRIES,
    Engine,
    InProcess,
    WorkerDiffers,
    WorkerLost,
    open_engine,
)
from models.training.export import NotExportable
from models.training.local_engine import LocalEngine
from tests.unit.test_training import FOLDER, NAMES, card_fraud, open_component, transactions
from topics.errors import AnabranchError, MissingExtra

ENGINES = ["in process", "local", "ray"]


def opened(name: str) -> AbstractContextManager[Engine]:
    if name == "in process":
        return nullcontext(InProcess())
    if name == "local":
        return LocalEngine(2)
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from models.training.ray_engine import RayEngine

    return RayEngine(workers=2)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with opened(request.param) as it:
        yield it


def share_of(values: NDArray[np.float64], place: int) -> float:
    return float(values[place] / values.sum())


def refuse(kind: str) -> None:
    raise FitFailed(kind, "it is no use")


def largest_pool() -> int:
    np.ones((2, 2)) @ np.ones((2, 2))
    return max(int(each["num_threads"]) for each in threadpool_info())


def die_until(marks: Path, deaths: int) -> int:
    """Kill this process, so often; then how often it was tried."""
    tried = len(list(marks.iterdir()))
    (marks / str(tried)).touch()
    if tried < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return tried


def test_results_come_in_the_order_of_the_tasks(engine: Engine) -> None:
    values = engine.share(np.arange(20.0))
    tasks = [engine.submit(share_of, values, place) for place in range(20)]
    done: list[int] = []
    assert engine.gather(tasks, done.append) == [place / 190 for place in range(20)]
    assert sorted(done) == list(range(20))
    assert engine.gather([]) == []


def test_an_error_of_a_task_is_the_same_error_here(engine: Engine) -> None:
    tasks = [engine.submit(refuse, "Forest")]
    with pytest.raises(FitFailed, match=r"^estimator Forest cannot be fitted: it is no use$"):
        engine.gather(tasks)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_tasks_compute_with_one_thread(name: str) -> None:
    with opened(name) as engine:
        assert engine.gather([engine.submit(largest_pool)]) == [1]


@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_task_whose_worker_is_killed_is_run_again(name: str, tmp_path: Path) -> None:
    with opened(name) as engine:
        others = [engine.submit(share_of, np.arange(4.0), place) for place in range(4)]
        killed = engine.submit(die_until, tmp_path, 2)
        later = [engine.submit(share_of, np.arange(4.0), 3)]
        assert engine.gather([killed]) == [2]
        assert engine.gather(others) == [0, 1 / 6, 2 / 6, 3 / 6]
        assert engine.gather(later) == [3 / 6]


@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_task_that_kills_every_worker_is_one_message(name: str, tmp_path: Path) -> None:
    with opened(name) as engine:
        task = engine.submit(die_until, tmp_path, 100)
        with pytest.raises(WorkerLost, match=r"^die_until: 4 workers in a row died") as caught:
            engine.gather([task])
    assert len(list(tmp_path.iterdir())) == 1 + RETRIES
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ENGINES[1:])
def test_training_gives_the_same_models_on_every_engine(name: str, tmp_path: Path) -> None:
    from models.training.train import train

    def models(folder: str, engine: Engine | None) -> dict[str, Any]:
        registry = Registry(tmp_path / folder)
        report = train(
            card_fraud(), FOLDER, transactions(), registry, engine=engine,
            open_component=open_component, progress=lambda at, share: seen.append((at, share)),
        )  # fmt: skip
        version = {at: registry.latest("card-fraud", at) for at in NAMES}
        said = {
            at: (each.digest, each.card.metrics, each.card.rows) for at, each in version.items()
        }
        return {**said, "weights": report.weights}

    seen: list[tuple[str, float]] = []
    here = models("here", None)
    in_order = sorted(seen)
    seen.clear()
    with opened(name) as engine:
        assert models("there", engine) == here
    assert sorted(seen) == in_order


@pytest.mark.parametrize("name", ENGINES[1:])
def test_nothing_is_registered_when_a_task_fails(name: str, tmp_path: Path) -> None:
    from models.training.train import train

    written = card_fraud().model_dump(by_alias=True)
    written["components"][1]["model"]["parameters"] = {"max_iter": -1}
    with opened(name) as engine, pytest.raises(FitFailed, match="max_iter"):
        train(
            type(card_fraud()).model_validate(written), FOLDER, transactions(),
            Registry(tmp_path / "registry"), engine=engine, open_component=open_component,
        )  # fmt: skip
    assert not (tmp_path / "registry").exists()


def test_a_worker_with_other_libraries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from models.training import ray_engine

    monkeypatch.setattr(ray_engine, "library_versions", lambda: {"numpy": "0.1"})
    with opened("ray") as engine, pytest.raises(WorkerDiffers, match=r"instead of 0\.1; install"):
        engine.gather([engine.submit(largest_pool)])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_nobody_runs_is_one_message(address: str) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from models.training.engines import EngineUnreachable
    from models.training.ray_engine import RayEngine

    with pytest.raises(EngineUnreachable, match=f"no Ray cluster answers at {address}: ") as caught:
        RayEngine(address).__enter__()
    assert "\n" not in str(caught.value)


def test_without_the_extra_ray_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"anabranch\[ray\]"):
        open_engine("ray", rows=10)


def test_few_rows_are_not_worth_processes() -> None:
    with open_engine("local", rows=500) as engine:
        assert isinstance(engine, InProcess)


@pytest.mark.parametrize("error", [FitFailed("Forest", "no"), NotExportable("Forest", "no")])
def test_an_error_for_people_can_be_pickled(error: AnabranchError) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again)) == (type(error), str(error))
