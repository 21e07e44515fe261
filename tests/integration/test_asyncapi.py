"""The AsyncAPI documents of pipelines, by the official parser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from agents.contract.asyncapi import asyncapi_document
from tests.integration.test_cli import anabranch
from tests.node_packages import installed
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.settings import SecuritySettings

PARSER = Path(__file__).parents[1] / "asyncapi"
SECRET = "a-secret"  # noqa: S105  # of nobody
LATEST = "asyncapi-latest-version"
"""The parser's advice to use a version that others cannot read yet."""


def judged(document: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What the parser finds, and the operations that it has read."""
    said = subprocess.run(
        ["node", "findings.js"], cwd=installed(PARSER), input=document, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    answer = orjson.loads(said.stdout)
    findings = [each for each in answer["findings"] if each["code"] != LATEST]
    assert answer["valid"] or findings
    return findings, answer["operations"]


@pytest.mark.parametrize(
    "name", ["card-fraud", "machine-maintenance", "road-risk", "tumour-triage"]
)
def test_the_parser_has_nothing_against_the_document_of_a_pipeline(name: str) -> None:
    said = anabranch(None, "topics", name, "--asyncapi", broker="one:9092,two:9093")
    assert said.returncode == 0, said.stderr
    findings, operations = judged(said.stdout)
    assert findings == []
    document = yaml.safe_load(said.stdout)
    assert [server["host"] for server in document["servers"].values()] == ["one:9092", "two:9093"]
    assert {"receiveEvents", "receiveOutcomes", "sendDecisions", "sendDeadLetters"} <= {*operations}
    as_json = anabranch(None, "topics", name, "--asyncapi", "--json", broker="one:9092,two:9093")
    assert json.loads(as_json.stdout) == document


def test_the_parser_takes_how_a_broker_is_protected() -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    here = Path(__file__)
    security = SecuritySettings(
        tls=True, tls_certificate=here, sasl_mechanism="SCRAM-SHA-512", sasl_username="u",
        sasl_password=SECRET,
    )  # fmt: skip
    document = json.dumps(asyncapi_document(pipeline, ["kafka:9093"], security))
    assert judged(document)[0] == []
    assert SECRET not in document
    server = json.loads(document)["servers"]["broker-1"]
    assert server["protocol"] == "kafka-secure"
    assert [each["$ref"].rpartition("/")[2] for each in server["security"]] == [
        "certificate", "login",
    ]  # fmt: skip


def test_the_parser_refuses_a_document_that_is_wrong() -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    document = asyncapi_document(pipeline, ["kafka:9092"], SecuritySettings())
    document["operations"]["sendDecisions"]["action"] = "publish"
    findings, _ = judged(json.dumps(document))
    assert any(each["severity"] == 0 for each in findings)
