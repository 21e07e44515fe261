"""The Open Inference Protocol: stock tritonclient, in a process of its own, and by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import FAILS, GOOD
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

TRITON = """
import sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("own")
assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
about = client.get_model_metadata("own")
assert client.is_model_ready("own", "1") and not client.is_model_ready("other")

def tensors(binary):
    columns = {
        "transaction_id": np.array([b"t-1", b"t-2", "t-\u00e4".encode()], object),
        "occurred_at": np.array([b"2026-01-31T12:00:00Z"] * 3, object),
        "customer_id": np.array([b"c-1", b"c-2", b"c-3"], object),
        "terminal_id": np.array([b"t"] * 3, object),
        "amount": np.array([12.01, 50.03, 500.01]),
    }
    inputs = []
    for each in about["inputs"]:
        given = columns[each["name"]]
        tensor = triton.InferInput(each["name"], list(given.shape), each["datatype"])
        tensor.set_data_from_numpy(given, binary_data=binary)
        inputs.append(tensor)
    return inputs

def check(result):
    assert result.get_response()["id"] == "7"
    assert result.as_numpy("decision").tolist() == [b"approve", b"approve", b"decline"] or (
        result.as_numpy("decision").tolist() == ["approve", "approve", "decline"])
    large = np.minimum(np.array([12.01, 50.03, 500.01]) / 500, 1)
    assert np.allclose(result.as_numpy("signal.large"), large)
    assert np.allclose(result.as_numpy("score"), 0.75 * large + 0.25 * 0.5)

for binary in (True, False):
    check(client.infer("own", tensors(binary), request_id="7"))
    check(client.infer("own", tensors(binary), request_id="7", model_version="1", outputs=[
        triton.InferRequestedOutput(name, binary_data=not binary)
        for name in ("decision", "signal.large", "score")]))
for wrong in ("other", "own"):
    try:
        client.infer(wrong, tensors(True)[:1])
    except triton.InferenceServerException as exc:
        print(exc.status(), exc.message())
    else:
        raise AssertionError
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    own: Trained = own_components(tmp_path_factory.mktemp("own"), "fail")
    with EmbeddedBroker() as embedded:
        broker = BrokerSettings(broker=embedded.address, embedded=True)
        words = ("--deadline-ms", "60000", "--max-events", "50")
        with worker_process(own, broker), gateway_process(own, broker, *words) as gateway:
            yield gateway


def test_stock_tritonclient_gets_decisions(gateway: RunningGateway) -> None:
    place = f"127.0.0.1:{gateway.port}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRITON, place],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other, missing = done.stdout.splitlines()
    assert other == "404 no model 'other'; there is own"
    assert missing.startswith("400 event 0: occurred_at: Field required (and 11 more)")


def tensor(name: str, data: list[Any], datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data, **more}


def rows(amounts: list[Any], datatype: str = "FP64", **changed: Any) -> list[dict[str, Any]]:
    n = len(amounts)
    tensors = {
        "transaction_id": tensor("transaction_id", [f"t-{number}" for number in range(n)]),
        "occurred_at": tensor("occurred_at", [1_769_860_800_000] * n, "INT64"),
        "customer_id": tensor("customer_id", ["c"] * n),
        "terminal_id": tensor("terminal_id", ["t"] * n),
        "amount": tensor("amount", amounts, datatype),
    }
    return [*(tensors | changed).values()]


def infer(gateway: RunningGateway, content: object, **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    url = f"{gateway.url}/v2/models/own/infer"
    return httpx.post(url, content=body, headers=headers, timeout=PATIENCE_S)


def test_json_alone_will_do(gateway: RunningGateway) -> None:
    nested = tensor("amount", [[12.01], [500.01]], "FP64") | {"shape": [2, 1]}
    content = {"inputs": rows([1, 2], amount=nested), "outputs": [{"name": "score"}]}
    answer = infer(gateway, content)
    assert answer.status_code == 200, answer.text
    output = answer.json()["outputs"][0]
    assert (output["name"], output["shape"], output["datatype"]) == ("score", [2], "FP64")
    assert output["data"] == pytest.approx([0.75 * 12.01 / 500 + 0.125, 0.75 + 0.125])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"inputs": rows(["x"], "BYTES")}, "amount: Input should be a valid number"),
        ({"inputs": rows([GOOD], amount=tensor("amount", [1, 2], "FP64"))}, "amount: 2 rows"),
        ({"inputs": [*rows([GOOD]), tensor("more", [1], "FP64")]}, "more: no such input"),
        ({"inputs": [*rows([GOOD]), *rows([GOOD])]}, "transaction_id: it is given twice"),
        ({"inputs": rows([GOOD], "FP13")}, "amount: no datatype that is known"),
        ({"inputs": [tensor("amount", [1], "FP64") | {"shape": [3]}]}, "do not fit the shape"),
        ({"inputs": [tensor("amount", [1], "FP64") | {"shape": [-1]}]}, "no shape that can be"),
        ({"inputs": [tensor("amount", [1], "FP64") | {"shape": [10**9, 10**9]}]}, "no shape"),
        ({"inputs": rows([GOOD]), "outputs": [{"name": "mood"}]}, "no output 'mood'"),
        ({"inputs": rows([GOOD]), "parameters": {"timeout": -1}}, "timeout: "),
        ({"inputs": rows([GOOD]), "id": "x" * 2000}, "id: 1,024 characters at most"),
        ({"inputs": {}}, "inputs: a list"), ({}, "inputs: a list"), ([], "no JSON object"),
        (b"{", "malformed JSON"), (b"", "does not fit"), ({"inputs": []}, "there is no row"),
        ({"inputs": [{"name": "amount", "shape": [1], "datatype": "FP64",
                      "parameters": {"binary_data_size": 8}}]}, "does not fit the body"),
        ({"inputs": rows([FAILS])}, "is a dead letter: mendable"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_the_protocol_has_it(
    gateway: RunningGateway, content: object, said: str
) -> None:
    answer = infer(gateway, content)
    assert answer.status_code == 400, answer.text
    assert [*answer.json()] == ["error"]
    assert said in answer.json()["error"]


def test_nan_names_its_input_and_too_many_rows_are_refused(gateway: RunningGateway) -> None:
    body = orjson.dumps({"inputs": rows([0.5])}).replace(b"0.5", b"NaN")
    assert "amount: Input should be a finite number" in infer(gateway, body).json()["error"]
    many = infer(gateway, {"inputs": rows([GOOD] * 51)})
    assert (many.status_code, "51 rows" in many.json()["error"]) == (413, True)
    cut = infer(gateway, b"{}", **{"inference-header-content-length": "70"})
    assert (cut.status_code, "does not fit the body" in cut.text) == (400, True)


def test_metadata_names_each_field_and_each_output(gateway: RunningGateway) -> None:
    about = gateway.get("/v2/models/own/versions/1").json()
    assert [each["name"] for each in about["inputs"]] == [
        "transaction_id", "occurred_at", "customer_id", "terminal_id", "amount"
    ]  # fmt: skip
    assert [each["name"] for each in about["outputs"]] == [
        "score", "decision", "signal.large", "signal.mendable"
    ]  # fmt: skip
    assert gateway.get("/v2/models/own/versions/2").json() == {
        "error": "no version '2' of own; there is 1"
    }
    assert gateway.get("/v2/nowhere").status_code == 404
    assert [*gateway.get("/v2/nowhere").json()] == ["error"]
