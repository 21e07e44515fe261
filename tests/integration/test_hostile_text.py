"""Each command gets what somebody wrote to be obeyed by a terminal, and prints it as what it is."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from agents.broker.pipeline_topics import ensure_topics
from agents.cli import app
from agents.commands.models.list import print_versions
from agents.commands.models.show import print_facts
from agents.commands.terminal import print_json
from agents.control.control_topic import now_ms
from tests.integration.harness import publish_raw
from topics.errors import AnabranchError
from topics.kafka.batches import Headers, Record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.printable import printable
from topics.records.control import AuditEntry, audit_key
from topics.records.dead_letter import dead_letter
from topics.records.reports import (
    InService,
    StatusReport,
    WorkerReport,
    keyed_records,
    status_key,
    worker_key,
)
from topics.records.stage_batch import Failure
from topics.settings import BrokerSettings

HOSTILE = "a\x1b]0;t\x07\x1b[2J\r\nerror: lost\x9b31m\u202egnp.exe\u2066\u2028 [/b][red]:boom:"
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What no terminal may get, line ends aside."""
TOPOLOGY = Topology.of(load_pipeline(find_pipeline("card-fraud")).pipeline)
NAME = HOSTILE.replace("/", "")
"""As part of a key, where slashes divide."""
BYTES = HOSTILE.encode()
EVENT = orjson.dumps({"transaction_id": HOSTILE, "note": [HOSTILE]})
HEADERS: Headers = [(HOSTILE, BYTES), ("null", None)]  # type: ignore[list-item]  # as Kafka has it
ENTRY = AuditEntry(
    action="promote", what=HOSTILE, version=1, before=None, by=HOSTILE, reason=HOSTILE, at=NAME
)
REFUSED = WorkerReport(version=1, state="refused", reason=HOSTILE, at=HOSTILE)
IN_SERVICE = InService(what=HOSTILE, version=HOSTILE, digest=HOSTILE, variant=HOSTILE)


async def written(broker: BrokerSettings) -> None:
    """Everything that commands read holds the text."""
    await ensure_topics(broker, TOPOLOGY)
    status = StatusReport(state="running", started_ms=0, said_ms=now_ms(), in_service=(IN_SERVICE,))
    said: Mapping[str, Any] = {
        status_key("weigh", NAME): status, worker_key("weigh", NAME): REFUSED,
    }  # fmt: skip
    letter = dead_letter(
        Failure(0, HOSTILE, HOSTILE, HOSTILE), (TOPOLOGY.events, 0, 0), (BYTES, EVENT, HEADERS),
        now_ms(), published_ms=now_ms(),
    )  # fmt: skip
    for topic, some in {
        TOPOLOGY.events: [
            Record(BYTES, EVENT, now_ms(), HEADERS), Record(None, BYTES, now_ms()),
            Record(None, None, now_ms(), HEADERS),
            Record(b"\xff\x9b", b"[" * 400 + b"]" * 400, now_ms()),
        ],
        TOPOLOGY.dead_letters: [letter, Record(BYTES, None, now_ms(), HEADERS)],
        TOPOLOGY.control: [
            *keyed_records({audit_key(ENTRY, "x"): ENTRY}, now_ms()),
            Record(BYTES, BYTES, now_ms()),
        ],
        TOPOLOGY.reports: [*keyed_records(said, now_ms()), Record(BYTES, BYTES, now_ms())],
    }.items():  # fmt: skip
        await publish_raw(broker, topic, 0, some)


@pytest.fixture
def hostile(
    broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BrokerSettings:
    asyncio.run(written(broker))
    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path))
    monkeypatch.setenv("ANABRANCH_BROKER", broker.broker)
    monkeypatch.setenv("ANABRANCH_EMBEDDED", "true")
    return broker


def run(*words: str) -> Result:
    """Run a command in this process; an error that is none of ours fails the test."""
    done = CliRunner().invoke(app, [*words])
    if done.exception is not None and not isinstance(
        done.exception, SystemExit | AnabranchError
    ):  # fmt: skip
        raise done.exception
    return done


COMMANDS = {
    "watch events": ("watch", TOPOLOGY.events, "--from-start", "-n", "4"),
    "watch dead letters": ("watch", TOPOLOGY.dead_letters, "--from-start", "-n", "2"),
    "watch reports": ("watch", TOPOLOGY.reports, "--from-start", "-n", "3"),
    "list": ("dead-letters", "list", "card-fraud"),
    "show": ("dead-letters", "show", "card-fraud", "0@0"),
    "log": ("models", "log", "card-fraud"),
    "status": ("status", "card-fraud"),
    "audit": ("audit", "card-fraud"),
    "topics": ("topics", "card-fraud"),
}


def test_commands_print_it_as_what_it_is(hostile: BrokerSettings) -> None:
    shown = printable(HOSTILE)
    for name, words in COMMANDS.items():
        for form in ([], ["--json"]):
            done = run(*words, *form)
            assert not OBEYED.search(done.output.replace("\n", "")), (name, form)
            assert "\nerror: lost" not in done.output, (name, form)
            if form:
                content = [json.loads(line) for line in done.stdout.splitlines()]
                assert content, name
                exact = name not in ("audit", "topics", "watch reports")
                assert not exact or HOSTILE in strings(content), (name, "is not exact")
            elif name.startswith("watch"):
                assert shown in done.output or json.dumps(HOSTILE)[1:40] in done.output, name


def test_a_header_without_a_value_is_null(hostile: BrokerSettings) -> None:
    first, _, third, _ = run(*COMMANDS["watch events"], "--json").stdout.splitlines()
    assert json.loads(first)["headers"] == {HOSTILE: HOSTILE, "null": None}
    assert json.loads(third)["value"] is None
    letter = json.loads(run(*COMMANDS["show"], "--json").stdout)
    assert letter["headers"] == {HOSTILE: HOSTILE, "null": None}
    assert "header    null: null" in run(*COMMANDS["show"]).stdout.splitlines()


def test_what_a_pipeline_file_of_others_says_is_a_line_for_each_mistake(tmp_path: Path) -> None:
    path = tmp_path / "p\x1b[2J.yaml"
    path.write_text(f"{json.dumps(HOSTILE)}: 1\npipeline: {json.dumps(HOSTILE)}\n")
    done = run("check", str(path))
    assert isinstance(done.exception, AnabranchError)
    lines = done.exception.lines
    assert len(lines) == len({printable(line) for line in lines}) > 1
    assert any(HOSTILE in line for line in lines), "main() cleans them"


def test_tables_of_the_registry_print_it_as_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = {"note": HOSTILE, "metrics": {HOSTILE: 0.5}, "columns": [HOSTILE, HOSTILE]}
    print_facts(facts)
    listed = {
        "component": HOSTILE, "version": 1, "variant": HOSTILE, "digest": HOSTILE, "rows": 1,
        "metrics": {HOSTILE: 0.5}, "parent": None, "created_at": HOSTILE,
    }  # fmt: skip
    print_versions({"models": [listed], "weights": [listed]})
    print_json(orjson.dumps(facts))
    printed = capsys.readouterr().out
    assert not OBEYED.search(printed.replace("\n", ""))
    assert json.loads(printed.splitlines()[-1]) == facts


def strings(value: Any) -> set[str]:
    """Every text in a JSON value, names too."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return strings([*value, *value.values()])
    if isinstance(value, list):
        return {text for each in value for text in strings(each)}
    return set()
