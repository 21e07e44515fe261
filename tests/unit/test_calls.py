"""Components that ask another system, here a real one over HTTP: a call costs its own rows."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agents.components import open_component
from agents.components.running import transform
from models.calls import CallingComponent
from models.calls.answer_cache import AnswerCache
from models.component import Batch, Component, RowsFailed, StageOutput
from models.errors import CallsFailed
from models.registry import Registry
from models.training.data import TrainingData
from models.training.train import train
from topics.pipeline import Calls, load_pipeline

LIMIT = 100.0


class Service:
    """Says min(amount / 100, 1) of each amount; what it does with some amounts can be told."""

    def __init__(self) -> None:
        self.asked: list[list[float]] = []
        self.refused: set[float] = set()
        """Answered with 500, as is every call that holds one of them."""
        self.fails_first = Counter[float]()
        """How often a call is refused before it is answered."""
        self.hangs: set[float] = set()
        self.let_go = threading.Event()
        self.at_once, self.most_at_once = 0, 0
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, amounts: list[float]) -> tuple[int, bytes]:
        with self.lock:
            self.asked.append(amounts)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hangs.intersection(amounts):
                self.let_go.wait(30)
            with self.lock:
                again = [amount for amount in amounts if self.fails_first[amount] > 0]
                self.fails_first.subtract(again)
            if again or self.refused.intersection(amounts):
                return 500, b""
            return 200, json.dumps([min(amount / LIMIT, 1) for amount in amounts]).encode()
        finally:
            with self.lock:
                self.at_once -= 1


@contextmanager
def running(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # its interface
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = service.answer(json.loads(body))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield service
    finally:
        service.let_go.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with running(Service()) as one:
        yield one


class Asks(Component):
    """As deploy/pipelines/README.md has it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def transform(self, batch: Batch) -> StageOutput:
        body = json.dumps(batch.columns["amount"].tolist()).encode()
        with urllib.request.urlopen(self._url, body, timeout=20) as answer:  # noqa: S310
            return StageOutput.of_signal(np.array(json.load(answer)))


def calling(service: Service, **changes: Any) -> CallingComponent:
    asked = {"timeout": "20s", "deadline": "30s", "backoff": "1ms", "retries": 0, **changes}
    return CallingComponent("asks", Asks(service.url), Calls(**asked))


def amounts(*values: float) -> Batch:
    return Batch(len(values), {"amount": np.array(values, np.float64)})


def test_each_row_gets_its_own_answer(service: Service) -> None:
    values = np.arange(50, dtype=np.float64)
    stage = calling(service, rows=7, concurrency=3).transform(amounts(*values))
    assert stage.signal.tolist() == (values / LIMIT).astype(np.float32).tolist()
    assert sorted(map(len, service.asked)) == [1, *[7] * 7]
    assert service.most_at_once <= 3


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_a_call_that_fails_on_a_row_fails_that_row_alone(service: Service, rows: int) -> None:
    service.refused = {3.0, 11.0}
    outputs = transform(calling(service, rows=rows), amounts(*range(16)))
    assert np.flatnonzero(~outputs.present).tolist() == [3, 11]
    assert set(outputs.errors) == {3, 11}
    assert outputs.errors[3] == ("HTTPError", "HTTP Error 500: Internal Server Error")
    expected = np.where(outputs.present, np.arange(16) / LIMIT, 0).astype(np.float32)
    assert outputs.signal.tolist() == expected.tolist()


def test_a_call_is_made_again_but_not_for_ever(service: Service) -> None:
    service.fails_first = Counter({1.0: 2, 2.0: 3})
    with pytest.raises(RowsFailed) as caught:
        calling(service, retries=2).transform(amounts(1.0, 2.0, 3.0))
    assert list(caught.value.errors) == [1]
    assert Counter(one for (one,) in service.asked) == {1.0: 3, 2.0: 3, 3.0: 1}


def test_a_service_that_is_down_is_asked_a_bounded_number_of_times(service: Service) -> None:
    service.refused = set(map(float, range(64)))
    outputs = transform(calling(service, rows=64, retries=2), amounts(*range(64)))
    assert not outputs.present.any()
    assert len(service.asked) == 3 + 2 + 4 + 8 + 16 + 32 + 64


def test_a_call_that_hangs_costs_its_rows_and_a_bounded_time(service: Service) -> None:
    service.hangs = {5.0}
    component = calling(service, timeout="200ms", concurrency=2)
    outputs = transform(component, amounts(*range(8)))
    assert outputs.errors == {5: ("CallTimeout", "no answer within 200ms")}
    again = transform(component, amounts(1.0, 2.0))  # the other thread still answers
    assert again.present.all()


def test_calls_that_hang_are_never_more_than_allowed_and_the_rest_ends_at_the_deadline(
    service: Service,
) -> None:
    service.hangs = {1.0, 2.0}
    component = calling(service, timeout="200ms", deadline="300ms", concurrency=2)
    outputs = transform(component, amounts(1.0, 2.0, 3.0))
    assert outputs.errors[0][0] == outputs.errors[1][0] == "CallTimeout"
    assert outputs.errors[2] == ("CallDeadline", "no answer within 300ms")
    assert service.most_at_once == 2
    service.let_go.set()
    while service.at_once:  # they return, and make room
        threading.Event().wait(0.01)
    assert transform(calling(service), amounts(3.0)).present.all()


def test_without_a_deadline_calls_that_hang_still_end(service: Service) -> None:
    service.hangs = {1.0, 2.0}
    component = calling(service, timeout="100ms", concurrency=2).without_deadline()
    outputs = transform(component, amounts(1.0, 2.0, 3.0))
    assert outputs.errors[2] == ("CallTimeout", "all 2 calls that may be made at a time hang")


def test_a_deadline_is_of_serving_and_not_of_training(service: Service) -> None:
    service.fails_first = Counter({3.0: 1})
    hasty = {"timeout": "100ms", "deadline": "100ms", "retries": 1, "backoff": "200ms"}
    outputs = transform(calling(service, **hasty), amounts(*range(5)))
    assert outputs.errors[3] == ("CallDeadline", "no answer within 100ms")
    service.fails_first = Counter({3.0: 1})
    patient = {**hasty, "timeout": "20s", "deadline": "20s"}
    assert transform(calling(service, **patient).without_deadline(), amounts(3.0)).present.all()


def test_a_default_stands_in_for_what_has_no_answer(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.refused = {2.0}
    stage = calling(service, default=0.25).transform(amounts(1.0, 2.0))
    assert stage.signal.tolist() == pytest.approx([0.01, 0.25])
    assert stage.output[:, 0].tolist() == pytest.approx([0.01, 0.25])
    assert "asks: 1 of 2 rows have the default, 0.25" in caplog.text


def test_answers_are_kept_and_failures_are_not(service: Service) -> None:
    component = calling(service, cache=10)
    service.refused = {2.0}
    transform(component, amounts(1.0, 2.0))
    service.refused = set()
    outputs = transform(component, amounts(1.0, 2.0, 1.0))
    assert outputs.present.all()
    assert Counter(one for (one,) in service.asked) == {1.0: 1, 2.0: 2}


def test_rows_that_are_equal_in_what_counts_share_an_answer(service: Service) -> None:
    component = calling(service, cache=10, cache_by=["amount"])
    for event in ("a", "b"):
        batch = Batch(1, {"id": np.array([event], dtype=object), "amount": np.array([7.0])})
        assert component.transform(batch).signal.tolist() == pytest.approx([0.07])
    assert service.asked == [[7.0]]


def test_an_answer_is_kept_no_longer_and_no_more_of_them_than_told() -> None:
    now = [0.0]
    cache, answer = AnswerCache(2, 10, lambda: now[0]), (np.ones(1), np.float32(1))
    for key in (b"a", b"b", b"c"):
        cache.put(key, answer)
    assert [cache.get(key) is None for key in (b"a", b"b", b"c")] == [True, False, False]
    now[0] = 10.0
    assert cache.get(b"c") is None


def test_rows_that_differ_anywhere_do_not_share_an_answer(service: Service) -> None:
    class Sums(Component):
        def transform(self, batch: Batch) -> StageOutput:
            return StageOutput.of_signal(batch.columns["v"].sum(axis=1) / 1e6)

    vectors = np.zeros((2, 5000))
    vectors[1, 2500] = 7e5
    component = CallingComponent("sums", Sums(), Calls(cache=10))
    batch = Batch(2, {"v": vectors, "name": np.array(["a", "a"], dtype=object)})
    assert component.transform(batch).signal.tolist() == pytest.approx([0.0, 0.7])


def test_what_a_call_gives_in_the_wrong_shape_fails_its_rows() -> None:
    class Short(Component):
        def transform(self, batch: Batch) -> StageOutput:
            return StageOutput(np.zeros((batch.rows, 1)), np.zeros(batch.rows + 1, np.float32))

    outputs = transform(CallingComponent("short", Short(), Calls(rows=2)), amounts(1.0, 2.0))
    assert {name for name, _ in outputs.errors.values()} == {"InvalidOutput"}


def test_batches_that_run_side_by_side_get_their_own_answers(service: Service) -> None:
    component = calling(service, concurrency=2, cache=5)
    with ThreadPoolExecutor(4) as pool:
        batches = [amounts(*range(first, first + 6)) for first in range(8)]
        stages = list(pool.map(component.transform, batches))
    for first, stage in enumerate(stages):
        assert stage.signal.tolist() == pytest.approx([(first + at) / LIMIT for at in range(6)])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("calls: {timeout: 10s}", "timeout: 10s is more than deadline: 5s"),
        ("calls: {default_output: [1]}", "default_output goes with a default"),
        ("calls: {cache: 10}", "goes with cache_by: the fields that an answer follows from"),
        ("calls: {cache: 10, cache_by: [nothing]}", "no event field 'nothing'"),
        ("calls: {cache_by: [amount]}", "cache_by goes with a cache"),
        ("calls: {concurrency: 1000}", "less than or equal to 64"),
        ("calls: {deadline: 60s}", "60s is not less than weighting.stall_timeout_s, 30000 ms"),
        ("calls: {}, deterministic: true", "neither deterministic nor pure"),
    ],
)
def test_calls_that_cannot_be_are_refused(tmp_path: Path, wrong: str, said: str) -> None:
    from topics.pipeline import PipelineFileError

    with pytest.raises((PipelineFileError, ValidationError), match=said):
        pipeline_file(tmp_path, wrong)


def pipeline_file(folder: Path, calls: str, url: str = "http://127.0.0.1:1/") -> Any:
    (folder / "asking.yaml").write_text(f"""
pipeline: asking
partitions: 1
event:
  id: id
  key: id
  time: at
  fields:
    id: {{type: string}}
    at: {{type: timestamp}}
    amount: {{type: number}}
data: {{label: fraud}}
components:
  - name: features
    kind: extract_features
    from: [events]
    features:
      - {{name: amount, of: amount}}
  - name: asks
    import: "tests.unit.test_calls:Asks"
    options: {{url: "{url}"}}
    from: [events]
    {calls.replace(", deterministic", chr(10) + "    deterministic")}
  - name: decision
    kind: decide
    from: [features, asks]
    model: {{estimator: sklearn.linear_model.LogisticRegression}}
weighting: {{from: [asks, decision], weights: learned}}
policy: {{otherwise: approve, thresholds: {{decline: 0.5}}}}
""")
    return load_pipeline(folder / "asking.yaml")


def rows(count: int = 400) -> TrainingData:
    rng = np.random.default_rng(0)
    values = np.round(rng.uniform(0, 100, count), 3)
    columns = {
        "id": np.array([f"e{row}" for row in range(count)], dtype=object),
        "at": np.arange(count) * 60_000, "amount": values,
    }  # fmt: skip
    return TrainingData(columns, values + rng.normal(0, 20, count) > 60)


def trained(file: Any, data: TrainingData, home: Path) -> Any:
    return train(
        file.pipeline, file.path.parent, data, Registry(home), open_component=open_component
    )


def test_training_leaves_out_the_rows_on_which_calls_fail_and_says_so(
    service: Service, tmp_path: Path
) -> None:
    data = rows()
    service.refused = set(data.columns["amount"][[5, 17, 300]].tolist())
    calls = "calls: {rows: 50, retries: 1, backoff: 1ms, timeout: 20s, deadline: 25s}"
    report = trained(pipeline_file(tmp_path, calls, service.url), data, tmp_path / "registry")
    assert report.rows == 397
    assert report.calls_failed["asks"].startswith("3 of 400 rows (HTTPError: ")
    assert "left out, for the calls of asks failed: 3 of 400 rows" in report.notes[0]
    alone = Counter(one for asked in service.asked if len(asked) == 1 for one in asked)
    assert set(alone) >= service.refused
    assert len(service.asked) < 100  # each row once, and halves of what failed


def test_training_stops_where_the_service_is_down(service: Service, tmp_path: Path) -> None:
    data = rows()
    service.refused = set(data.columns["amount"].tolist())
    calls = "calls: {rows: 400, retries: 0, timeout: 20s, deadline: 25s}"
    file = pipeline_file(tmp_path, calls, service.url)
    with pytest.raises(CallsFailed, match="its calls failed on 400 of 400 rows, most of them by"):
        trained(file, data, tmp_path / "registry")


def test_training_takes_the_default_as_serving_does(service: Service, tmp_path: Path) -> None:
    data = rows()
    service.refused = set(data.columns["amount"][:90].tolist())
    calls = "calls: {rows: 50, retries: 0, timeout: 20s, deadline: 25s, default: 0.5}"
    report = trained(pipeline_file(tmp_path, calls, service.url), data, tmp_path / "registry")
    assert (report.rows, report.calls_failed) == (400, {})
