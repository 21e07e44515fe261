"""The gateway's gRPC messages: what their .proto makes, and the public protocol's numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROTO = "agents/gateway/inference/open_inference.proto"
NUMBERS = """
import sys
sys.path[:0] = sys.argv[2:]
from importlib import import_module
file = import_module(sys.argv[1]).DESCRIPTOR

def told(message):
    for field in message.fields:
        of = field.message_type.full_name if field.message_type else field.type
        print(message.full_name, field.name, field.number, of, field.is_repeated)
    for nested in message.nested_types:
        told(nested)

for method in file.services_by_name["GRPCInferenceService"].methods:
    print(method.full_name, method.input_type.full_name, method.output_type.full_name)
for message in file.message_types_by_name.values():
    told(message)
"""


def test_the_committed_messages_are_what_the_proto_makes(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}",
         f"--pyi_out={tmp_path}", PROTO],
        cwd=ROOT, check=True,
    )  # fmt: skip
    folder = Path(PROTO).parent
    made_files = [*(tmp_path / folder).iterdir()]
    assert made_files
    for made in made_files:
        committed = ROOT / folder / made.name
        assert made.read_text() == committed.read_text(), "run `make generated`"


@pytest.fixture(scope="module")
def numbers() -> dict[str, set[str]]:
    """Of our messages and tritonclient's, each in a process: their names are the same."""

    def told(module: str) -> set[str]:
        words: list[Any] = [sys.executable, "-W", "ignore", "-c", NUMBERS, module, str(ROOT)]
        return {
            *subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
        }

    return {
        "ours": told("agents.gateway.inference.open_inference_pb2"),
        "triton": told("tritonclient.grpc.service_pb2"),
    }


def test_names_numbers_and_types_are_those_of_the_protocol(numbers: dict[str, set[str]]) -> None:
    assert len(numbers["ours"]) > 60
    assert numbers["ours"] <= numbers["triton"]
