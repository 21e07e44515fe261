"""`anabranch serve`: started, asked and ended as SageMaker does with a container."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx
import numpy as np
import orjson
import psutil
import pytest

from agents.commands import labelled_events
from agents.commands import serve as command
from agents.components.catalogue import open_component
from models.component import Batch, StageOutput
from models.features.windows import over_all_rows
from tests.integration.harness import PATIENCE_S, Trained, records_of
from tests.kafka_nodes import free_ports
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

PLACES = (("c-1", "t-1"), ("c-2", "t-2"), ("c-3", "t-3"))


def event(number: int, customer: str, terminal: str) -> dict[str, Any]:
    return {
        "transaction_id": f"tx-{number}", "occurred_at": f"2026-01-31T23:{number:02}:00Z",
        "customer_id": customer, "terminal_id": terminal, "amount": 40.0 + 97.5 * number,
    }  # fmt: skip


EVENTS = [event(number, *PLACES[number % 3]) for number in range(9)]
"""Of three customers, each again and again, in the order of their times."""


@dataclass(frozen=True)
class Container:
    """What SageMaker sees."""

    url: str
    process: subprocess.Popen[bytes]

    def ping(self) -> int:
        try:
            return httpx.get(f"{self.url}/ping", timeout=PATIENCE_S).status_code
        except httpx.ConnectError:
            return 0

    def until_ready(self) -> set[int]:
        """The statuses of /ping before it was 200."""
        before, deadline = set[int](), time.monotonic() + PATIENCE_S
        while (status := self.ping()) != 200:
            assert time.monotonic() < deadline
            assert self.process.poll() is None, "it has ended"
            before.add(status)
            time.sleep(0.05)
        return before

    def invoke(self, body: bytes, kind: str) -> httpx.Response:
        headers = {"content-type": kind}
        answer = httpx.post(
            f"{self.url}/invocations", content=body, headers=headers, timeout=PATIENCE_S
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(kind)
        return answer


@contextmanager
def container(
    trained: Trained, home: Path, models: Path, *words: str, **environment: str
) -> Iterator[Container]:
    """The image's command, `serve`, and nothing but its environment; killed in the end."""
    port = free_ports(1)[0]
    ours = {
        "ANABRANCH_PIPELINE": str(trained.file.path), "ANABRANCH_SERVE_MODELS": str(models),
        "ANABRANCH_HOME": str(home), "ANABRANCH_DEADLINE_MS": "60000",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if name != "ANABRANCH_BROKER"}
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "serve", *words],
            env=inherited | ours | environment,
            stderr=said,
        )
        try:
            yield Container(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()
            process.wait()
            said.seek(0)
            print(f"serve ended with {process.returncode}:", said.read().decode())


@pytest.fixture
def models(trained: Trained, tmp_path: Path) -> Path:
    """The models alone, as an archive of them is extracted."""
    folder = tmp_path / "model"
    name = trained.pipeline.name
    shutil.copytree(trained.home / "registry" / name, folder / name)
    return folder


def scores_without_kafka(trained: Trained, events: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the models, and their weights, say of *events*, in the order of their times."""
    pipeline, registry = trained.pipeline, trained.registry
    columns = labelled_events.collected(
        pipeline, [(dict(each), False) for each in events], lambda _: None
    ).columns
    none = np.zeros(len(events), np.bool_)
    made: dict[str, StageOutput] = {}
    for spec in pipeline.components:
        windows = over_all_rows(pipeline, spec.name, columns, none) if spec.windowed else {}
        batch = Batch(len(events), {**columns, **windows},
                      {name: made[name] for name in spec.inputs if name != "events"})  # fmt: skip
        component = open_component(pipeline, spec.name, registry, trained.home).component
        made[spec.name] = component.transform(batch)
    weights = registry.weights(pipeline.name).card.values
    parts = [weights[name] * made[name].signal.astype(np.float64) for name in weights]
    return [float(score) for score in np.sum(parts, axis=0)]


def test_it_answers_in_each_form_with_what_the_models_say(
    trained: Trained, tmp_path: Path, models: Path
) -> None:
    port = free_ports(1)[0]
    words = ("--metrics-port", str(port))
    with container(trained, tmp_path / "home", models, *words) as served:
        assert 503 in served.until_ready()
        owned = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S)
        assert owned.status_code == 200, "it is ready before its components are"
        single = [
            served.invoke(orjson.dumps(each), "application/json").json() for each in EVENTS[:3]
        ]
        lines = b"".join(orjson.dumps(each) + b"\n" for each in EVENTS[3:6])
        listed = served.invoke(lines, "application/jsonlines").content.splitlines()
        rows = "".join(",".join(map(str, each.values())) + "\n" for each in EVENTS[6:])
        table = served.invoke(rows.encode(), "text/csv").text.splitlines()

        records = [*single, *map(orjson.loads, listed)]
        assert [record["event_id"] for record in records] == [f"tx-{n}" for n in range(6)]
        said = [record["score"] for record in records]
        said += [float(row.partition(",")[2]) for row in table]
        assert said == pytest.approx(scores_without_kafka(trained, EVENTS), abs=1e-6)
        assert len({*said}) == 9

        workers = psutil.Process(served.process.pid).children(recursive=True)
        assert workers
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(timeout=PATIENCE_S) == 0
        gone, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
        assert not alive, f"{gone} ended, and not all"


def test_it_decides_on_a_named_broker_and_ends_with_its_components(
    trained: Trained, tmp_path: Path, models: Path
) -> None:
    with (
        EmbeddedBroker() as broker,
        container(
            trained, tmp_path / "home", models,
            ANABRANCH_BROKER=broker.address, ANABRANCH_EMBEDDED="true",
        ) as served,
    ):  # fmt: skip
        served.until_ready()
        answer = served.invoke(orjson.dumps(EVENTS[0]), "application/json").json()
        settings = BrokerSettings(broker=broker.address, embedded=True)
        decided = asyncio.run(records_of(settings, "card-fraud.decisions"))
        assert [orjson.loads(record.value) for record in decided] == [answer]
        for child in psutil.Process(served.process.pid).children():
            child.kill()
        assert served.process.wait(timeout=PATIENCE_S) == 1


def test_it_ends_at_once_while_its_components_start(
    trained: Trained, tmp_path: Path, models: Path
) -> None:
    with container(trained, tmp_path / "home", models) as served:
        while served.ping() == 0:
            time.sleep(0.05)
        served.process.terminate()
        assert served.process.wait(timeout=PATIENCE_S) == 0


def test_without_models_it_says_so_and_starts_nothing(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with container(trained, tmp_path / "home", tmp_path / "empty") as served:
        assert served.process.wait(timeout=PATIENCE_S) == 1


def test_sagemakers_folder_comes_before_the_registry_where_it_holds_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    monkeypatch.setattr(command, "_MODELS", folder)
    monkeypatch.setenv("ANABRANCH_REGISTRY", str(tmp_path / "registry"))
    for _ in range(2):
        assert command._registry(None).root == tmp_path / "registry"
        folder.mkdir(exist_ok=True)
    (folder / "card-fraud").mkdir()
    assert command._registry(None).root == folder
    assert command._registry(tmp_path).root == tmp_path
