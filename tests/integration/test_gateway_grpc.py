"""The Open Inference Protocol over gRPC: stock tritonclient, and calls by hand.

tritonclient is in a process of its own: its messages have the names that ours have.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2 as health

from agents.gateway.inference import open_inference_pb2 as messages
from agents.gateway.inference.open_inference import GRPC_SERVICE
from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained, worker_process
from tests.integration.test_cli import anabranch
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_guard import new_key
from tests.integration.test_gateway_inference import infer, rows, tensor
from tests.integration.test_gateway_refusals import FAILS, GOOD
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

TRITON = """
import sys
import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("own")
assert "binary_tensor_data" in client.get_server_metadata().extensions
about = client.get_model_metadata("own")
assert client.is_model_ready("own", "1") and not client.is_model_ready("other")
columns = {
    "transaction_id": np.array([b"t-1", b"t-2", "t-\u00e4".encode()], object),
    "occurred_at": np.array([b"2026-01-31T12:00:00Z"] * 3, object),
    "customer_id": np.array([b"c-1", b"c-2", b"c-3"], object),
    "terminal_id": np.array([b"t"] * 3, object),
    "amount": np.array([12.01, 50.03, 500.01]),
}
inputs = []
for each in about.inputs:
    tensor = triton.InferInput(each.name, [3], each.datatype)
    tensor.set_data_from_numpy(columns[each.name])
    inputs.append(tensor)
large = np.minimum(columns["amount"] / 500, 1)
wanted = [triton.InferRequestedOutput(n) for n in ("decision", "signal.large", "score")]
for outputs in (None, wanted):
    result = client.infer("own", inputs, request_id="7", outputs=outputs, timeout=60_000_000)
    assert result.get_response().id == "7"
    assert result.as_numpy("decision").tolist() == [b"approve", b"approve", b"decline"]
    assert np.allclose(result.as_numpy("signal.large"), large)
    assert np.allclose(result.as_numpy("score"), 0.75 * large + 0.25 * 0.5)
    assert (result.as_numpy("signal.mendable") is None) == (outputs is wanted)
for wrong, columns in (("other", inputs), ("own", inputs[:1])):
    try:
        client.infer(wrong, columns)
    except triton.InferenceServerException as exc:
        print(exc.status(), exc.message())
    else:
        raise AssertionError
try:
    client.get_model_config("own")
except triton.InferenceServerException as exc:
    print(exc.status())
"""
TENSOR = messages.ModelInferRequest.InferInputTensor
CODE = grpc.StatusCode
MS = 1_769_860_800_000
SCORE = 0.75 * GOOD / 500 + 0.25 * 0.5


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        yield BrokerSettings(broker=embedded.address, embedded=True)


@pytest.fixture(scope="module")
def gateway(own: Trained, broker: BrokerSettings) -> Iterator[RunningGateway]:
    words = ("--grpc-port", "0", "--deadline-ms", "60000", "--max-events", "50",
             "--max-body", "65536")  # fmt: skip
    with worker_process(own, broker), gateway_process(own, broker, *words) as gateway:
        yield gateway


@contextmanager
def channel_to(gateway: RunningGateway, **options: int) -> Iterator[grpc.Channel]:
    given = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.insecure_channel(gateway.grpc, given) as channel:
        yield channel


@pytest.fixture(scope="module")
def channel(gateway: RunningGateway) -> Iterator[grpc.Channel]:
    with channel_to(gateway) as channel:
        yield channel


def call(
    channel: grpc.Channel, method: str, message: Any, timeout_s: float = PATIENCE_S, **metadata: str
) -> Any:
    """The answer of *method*; *message* may be bytes, and the answer is bytes then."""
    answers: dict[str, Any] = {
        "ModelInfer": messages.ModelInferResponse, "ModelReady": messages.ModelReadyResponse,
        "ServerReady": messages.ServerReadyResponse, "ServerLive": messages.ServerLiveResponse,
        "ModelMetadata": messages.ModelMetadataResponse,
        "ServerMetadata": messages.ServerMetadataResponse,
    }  # fmt: skip
    path = f"/{GRPC_SERVICE}/{method}" if "/" not in method else method
    is_raw = isinstance(message, bytes)
    ask = channel.unary_unary(
        path, None if is_raw else type(message).SerializeToString,
        None if is_raw or method not in answers else answers[method].FromString,
    )  # fmt: skip
    given = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    return ask(message, timeout=timeout_s, metadata=given)


def refusal(channel: grpc.Channel, message: Any, method: str = "ModelInfer", **more: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, message, **more)
    return caught.value


def typed(amounts: list[Any], first: str = "t", **changed: TENSOR) -> messages.ModelInferRequest:
    """A request whose elements are in the fields of their types."""
    n = len(amounts)

    def texts(name: str, values: list[str]) -> TENSOR:
        contents = messages.InferTensorContents(bytes_contents=[v.encode() for v in values])
        return TENSOR(name=name, datatype="BYTES", shape=[n], contents=contents)

    tensors = {
        "transaction_id": texts("transaction_id", [f"{first}-{number}" for number in range(n)]),
        "occurred_at": TENSOR(
            name="occurred_at", datatype="INT64", shape=[n],
            contents=messages.InferTensorContents(int64_contents=[MS] * n),
        ),
        "customer_id": texts("customer_id", ["c"] * n),
        "terminal_id": texts("terminal_id", ["t"] * n),
        "amount": TENSOR(
            name="amount", datatype="FP64", shape=[n],
            contents=messages.InferTensorContents(fp64_contents=amounts),
        ),
    }  # fmt: skip
    return messages.ModelInferRequest(model_name="own", inputs=(tensors | changed).values())


def scores(answer: messages.ModelInferResponse) -> list[float]:
    names = [output.name for output in answer.outputs]
    raw = answer.raw_output_contents[names.index("score")]
    values: list[float] = np.frombuffer(raw, "<f8").tolist()
    return values


def amount(datatype: str, shape: list[int], **contents: list[Any]) -> TENSOR:
    return TENSOR(
        name="amount", datatype=datatype, shape=shape,
        contents=messages.InferTensorContents(**contents),
    )  # fmt: skip


def test_stock_tritonclient_gets_decisions(gateway: RunningGateway) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRITON, gateway.grpc],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other, missing, unknown = done.stdout.splitlines()
    assert other == "StatusCode.NOT_FOUND no model 'other'; there is own"
    assert missing.startswith(
        "StatusCode.INVALID_ARGUMENT event 0: occurred_at: Field required (and 11 more)"
    )
    assert unknown == "StatusCode.UNIMPLEMENTED"


def test_typed_elements_and_any_number_type_will_do(channel: grpc.Channel) -> None:
    assert scores(call(channel, "ModelInfer", typed([12.01, 500.01]))) == pytest.approx(
        [0.75 * 12.01 / 500 + 0.125, 0.75 + 0.125]
    )
    for fifty in (
        amount("INT8", [1, 1], int_contents=[50]), amount("UINT32", [1], uint_contents=[50]),
        amount("UINT64", [1], uint64_contents=[50]), amount("FP32", [1], fp32_contents=[50]),
    ):  # fmt: skip
        # `Mendable` fails on it: the amount has come through.
        assert (
            "is a dead letter: mendable" in refusal(channel, typed([GOOD], amount=fifty)).details()
        )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (amount("FP64", [2], fp64_contents=[1, 2]), "amount: 2 rows"),
        (amount("FP64", [1], fp64_contents=[]), "0 elements do not fit the shape (1,)"),
        (amount("FP64", [1], fp32_contents=[1]), "elements of FP64 are fp64_contents, not fp32"),
        (amount("FP13", [1], fp32_contents=[1]), "amount: no datatype that is known"),
        (amount("FP16", [1], fp32_contents=[1]), "0 elements do not fit"),
        (amount("FP64", [-1], fp64_contents=[1]), "no shape that can be"),
        (amount("FP64", [1 << 62, 4], fp64_contents=[1]), "no shape that can be"),
        (amount("FP64", [1], fp64_contents=[float("nan")]), "amount: Input should be a finite"),
        (amount("BYTES", [1], bytes_contents=[b"\xff"]), "amount: an element is not UTF-8"),
        (amount("BYTES", [1], bytes_contents=[b"x"]), "amount: Input should be a valid number"),
        (amount("FP64", [1], fp64_contents=[FAILS]), "is a dead letter: mendable"),
    ],
)
def test_what_is_wrong_with_a_tensor_is_said(
    channel: grpc.Channel, changed: TENSOR, said: str
) -> None:
    refused = refusal(channel, typed([GOOD], amount=changed))
    assert (refused.code(), said in refused.details()) == (CODE.INVALID_ARGUMENT, True), refused


def test_raw_and_typed_elements_exclude_each_other(channel: grpc.Channel) -> None:
    request = typed([GOOD])
    request.raw_input_contents.append(b"x")
    assert "1 of them, and there are 5 inputs" in refusal(channel, request).details()
    request.raw_input_contents.extend([b"x"] * 4)
    assert "contents, and raw_input_contents too" in refusal(channel, request).details()
    request = messages.ModelInferRequest(
        model_name="own", inputs=[TENSOR(name="amount", datatype="FP64", shape=[2])],
        raw_input_contents=[b"1234567"],
    )  # fmt: skip
    assert "7 bytes are not 2 elements of FP64" in refusal(channel, request).details()


def test_wrong_outputs_and_parameters_are_refused(channel: grpc.Channel) -> None:
    request = typed([GOOD])
    request.outputs.add(name="mood")
    assert "no output 'mood'" in refusal(channel, request).details()
    request = typed([GOOD])
    request.parameters["timeout"].int64_param = -1
    assert "timeout: a number of microseconds" in refusal(channel, request).details()
    request = typed([GOOD])
    request.outputs.add(name="score").parameters["classification"].int64_param = 3
    assert "score is no list of classes" in refusal(channel, request).details()
    assert (
        "no version '2' of own"
        in refusal(
            channel, messages.ModelInferRequest(model_name="own", model_version="2")
        ).details()
    )


def test_what_is_too_much_or_no_message_is_refused(
    gateway: RunningGateway, channel: grpc.Channel
) -> None:
    many = refusal(channel, typed([GOOD] * 51))
    assert (many.code(), "51 rows" in many.details()) == (CODE.INVALID_ARGUMENT, True)
    large = refusal(channel, typed([GOOD], first="x" * 70_000))
    assert (large.code(), "larger" in large.details()) == (CODE.RESOURCE_EXHAUSTED, True)
    broken = refusal(channel, b"\xff\xff")
    assert broken.code() == CODE.INVALID_ARGUMENT
    assert "no inference.ModelInferRequest" in broken.details()
    with channel_to(gateway, default_compression_algorithm=2) as packed:
        assert refusal(packed, typed([GOOD])).code() == CODE.UNIMPLEMENTED
    head = refusal(channel, typed([GOOD]), x_filler="x" * 40_000)
    assert head.code() in {CODE.RESOURCE_EXHAUSTED, CODE.INTERNAL}, head
    assert scores(call(channel, "ModelInfer", typed([GOOD]))) == pytest.approx([SCORE])


def test_what_has_too_many_parts_is_refused_by_their_number(channel: grpc.Channel) -> None:
    request = messages.ModelInferRequest(model_name="own")
    request.inputs.extend(TENSOR(name="a") for _ in range(10_000))
    assert "inputs: 10,000 of them, and there are 5" in refusal(channel, request).details()
    request = typed([GOOD])
    for _ in range(10_000):
        request.outputs.add()
    assert "outputs: 10,000 of them" in refusal(channel, request).details()
    request = typed([GOOD])
    for number in range(1000):
        request.parameters[f"p{number}"].bool_param = True
    assert "parameters: 1,000 of them" in refusal(channel, request).details()
    request = typed([GOOD])
    request.id = "x" * 2000
    assert "id: 1,024 characters at most" in refusal(channel, request).details()
    request = typed([GOOD])
    request.inputs[-1].shape.extend([1] * 50_000)
    assert "amount: no shape that can be: [1, 1, 1" in refusal(channel, request).details()


def test_a_caller_without_a_message_is_sent_away(channel: grpc.Channel) -> None:
    ask = channel.stream_unary(f"/{GRPC_SERVICE}/ModelInfer", None, None)
    with pytest.raises(grpc.RpcError) as caught:
        ask(iter([]), timeout=PATIENCE_S)
    assert caught.value.code() == CODE.INVALID_ARGUMENT
    assert caught.value.details() == "there is no message"


def test_many_calls_at_once_are_all_answered(channel: grpc.Channel) -> None:
    ask = channel.unary_unary(
        f"/{GRPC_SERVICE}/ModelInfer", None, messages.ModelInferResponse.FromString
    )
    waiting = {}
    for number in range(300):
        request = typed([GOOD], first=f"many-{number}")
        request.id = str(number)
        waiting[request.id] = ask.future(request.SerializeToString(), timeout=PATIENCE_S)
    for request_id, call_ in waiting.items():
        assert call_.result().id == request_id
        assert scores(call_.result()) == pytest.approx([SCORE])


def test_calls_that_are_cancelled_at_once_leave_nothing_that_waits(
    gateway: RunningGateway, channel: grpc.Channel
) -> None:
    ask = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")
    request = typed([GOOD]).SerializeToString()
    for call_ in [ask.future(request) for _ in range(1000)]:
        call_.cancel()
    assert scores(call(channel, "ModelInfer", typed([GOOD]))) == pytest.approx([SCORE])
    until_metric(gateway, 'in_flight_events{pipeline="own"} 0.0')


def test_a_key_stands_for_one_event_over_both_protocols(
    gateway: RunningGateway, channel: grpc.Channel
) -> None:
    request = typed([GOOD], first="keyed")
    first = call(channel, "ModelInfer", request, idempotency_key="k-1")
    assert call(channel, "ModelInfer", request, idempotency_key="k-1") == first
    tensors = rows([GOOD], transaction_id=tensor("transaction_id", ["keyed-0"]))
    again = infer(gateway, {"inputs": tensors}, **{"idempotency-key": "k-1"})
    assert again.status_code == 200, again.text
    assert again.json()["outputs"][0]["data"] == scores(first)
    published = gateway.get("/decisions/keyed-0")
    assert published.status_code == 200, f"published more than once: {published.text}"
    assert published.json()["score"] == pytest.approx(SCORE)
    other = refusal(channel, typed([GOOD + 0.01]), idempotency_key="k-1")
    assert (other.code(), "other events" in other.details()) == (CODE.INVALID_ARGUMENT, True)


def test_health_says_whether_it_lives_and_whether_it_is_ready(channel: grpc.Channel) -> None:
    def state(service: str) -> int:
        asked = health.HealthCheckRequest(service=service).SerializeToString()
        answer = call(channel, "/grpc.health.v1.Health/Check", asked)
        status: int = health.HealthCheckResponse.FromString(answer).status
        return status

    assert state("") == state(GRPC_SERVICE) == health.HealthCheckResponse.SERVING
    other = refusal(channel, b"\x0a\x01x", "/grpc.health.v1.Health/Check")
    assert other.code() == CODE.NOT_FOUND
    assert refusal(channel, b"", "/grpc.health.v1.Health/Watch").code() == CODE.UNIMPLEMENTED


def test_a_call_ends_with_its_deadline_and_says_what_is_waited_for(
    own: Trained, gateway: RunningGateway, channel: grpc.Channel
) -> None:
    halt = own.home / "halt"
    halt.touch()
    try:
        assert refusal(channel, typed([GOOD]), timeout_s=1).code() == CODE.DEADLINE_EXCEEDED
        request = typed([GOOD])
        request.parameters["timeout"].int64_param = 100_000
        late = refusal(channel, request)
        assert late.code() == CODE.DEADLINE_EXCEEDED
        assert "within 0.1 s; it waits for" in late.details()

        path = f"/{GRPC_SERVICE}/ModelInfer"
        waiting = channel.unary_unary(path).future(typed([GOOD]).SerializeToString())
        until_metric(gateway, 'in_flight_events{pipeline="own"} 1.0')
        waiting.cancel()
        until_metric(gateway, 'in_flight_events{pipeline="own"} 0.0')
        until_metric(gateway, f'route="{path}",status="504"')
        until_metric(gateway, f'route="{path}",status="499"')
    finally:
        halt.unlink()


def test_a_call_that_is_here_when_the_gateway_ends_is_answered(
    own: Trained, broker: BrokerSettings, gateway: RunningGateway
) -> None:
    halt = own.home / "halt"
    halt.touch()
    with gateway_process(own, broker, "--grpc-port", "0") as ending, channel_to(ending) as channel:
        request = typed([GOOD]).SerializeToString()
        ask = channel.unary_unary(
            f"/{GRPC_SERVICE}/ModelInfer", None, messages.ModelInferResponse.FromString
        )
        waiting = ask.future(request, timeout=9)
        until_metric(ending, 'in_flight_events{pipeline="own"} 1.0')
        ending.process.terminate()
        until_closed(ending)
        halt.unlink()
        assert scores(waiting.result()) == pytest.approx([SCORE])
        assert ending.process.wait(timeout=PATIENCE_S) == 0


def until_closed(gateway: RunningGateway) -> None:
    with suppress(httpx.HTTPError):
        while gateway.get("/healthz"):
            time.sleep(0.01)


def until_metric(gateway: RunningGateway, line: str) -> None:
    deadline = time.monotonic() + 20
    while line not in (text := gateway.get("/metrics").text):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)


def test_without_a_pipeline_calls_are_unavailable_and_guarded_by_role(
    own: Trained, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    publish = new_key(own, keys, "shop", "--role", "publish")
    read = new_key(own, keys, "analyst", "--role", "read")
    words = ("--grpc-port", "0", "--keys", str(keys), "--max-rate", "10000")
    with EmbeddedBroker() as embedded:
        nobody = BrokerSettings(broker=embedded.address, embedded=True)
        with (
            gateway_process(own, nobody, *words, ready=False) as gateway,
            channel_to(gateway) as channel,
        ):
            down = refusal(channel, typed([GOOD]), authorization=f"Bearer {publish}")
            assert down.code() == CODE.UNAVAILABLE
            assert dict(down.trailing_metadata())["retry-after"] == "5"
            assert refusal(channel, typed([GOOD]), x_api_key=read).code() == CODE.PERMISSION_DENIED
            unknown = refusal(channel, typed([GOOD]))
            assert unknown.code() == CODE.UNAUTHENTICATED
            assert dict(unknown.trailing_metadata())["www-authenticate"] == "Bearer"
            about = messages.ModelMetadataRequest(name="own")
            assert refusal(channel, about, "ModelMetadata").code() == CODE.UNAUTHENTICATED
            named = call(channel, "ModelMetadata", about, x_api_key=read)
            assert [each.name for each in named.inputs][-1] == "amount"
            assert call(channel, "ServerLive", messages.ServerLiveRequest()).live
            assert not call(channel, "ServerReady", messages.ServerReadyRequest()).ready
            asked = messages.ModelReadyRequest(name="own")
            assert not call(channel, "ModelReady", asked, x_api_key=read).ready
            service = health.HealthCheckRequest(service=GRPC_SERVICE).SerializeToString()
            answer = call(channel, "/grpc.health.v1.Health/Check", service)
            state = health.HealthCheckResponse
            assert state.FromString(answer).status == state.NOT_SERVING


def test_tls_and_an_address_that_is_taken(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    authority, file = trustme.CA(), tmp_path / "gateway.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    words = ("--grpc-port", "0", "--tls-certificate", str(file))
    with gateway_process(own, broker, *words, ready=False) as gateway:
        with grpc.secure_channel(gateway.grpc, trusted) as channel:
            assert call(channel, "ServerLive", messages.ServerLiveRequest()).live
        with channel_to(gateway) as plain:
            asked = messages.ServerLiveRequest()
            assert refusal(plain, asked, "ServerLive", timeout_s=5).code() == CODE.UNAVAILABLE
        number = gateway.grpc.rpartition(":")[2]
        done = anabranch(
            own, "gateway", str(own.file.path), "--port", "0", "--grpc-port", number,
            broker=broker.broker,
        )  # fmt: skip
        assert (done.returncode, f"cannot listen on 127.0.0.1:{number}" in done.stderr) == (1, True)
        assert "--grpc-port" in done.stderr
        gateway.process.terminate()
        assert gateway.process.wait(timeout=30) == 0
        with pytest.raises(httpx.HTTPError):
            httpx.get(gateway.url, verify=False)  # noqa: S501  # it is gone
