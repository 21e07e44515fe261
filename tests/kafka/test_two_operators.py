"""Two operators on a real cluster, where a transaction shuts the other out."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiokafka.errors import UnknownError
from aiokafka.producer.sender import EndTxnHandler

from agents.broker.pipeline_topics import ensure_topics
from agents.control.control_topic import ControlTopic
from agents.control.exclusive_writer import WriterFenced, exclusive_writer
from tests.integration.test_two_operators import one_of_two_is_told, state_of, with_policy
from topics.pipeline.topology import Topology
from topics.records.control import AuditEntry, WeightsDeployment
from topics.records.reports import keyed_records
from topics.settings import BrokerSettings


def name() -> str:
    return f"two-operators-{time.time():.0f}"


async def test_of_two_operators_at_once_the_second_is_told(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    await one_of_two_is_told(broker, tmp_path, name())


async def test_what_a_writer_writes_after_another_has_begun_is_never_read(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    topology = Topology.of(with_policy(tmp_path, f"{name()}-late", 1).pipeline)
    await ensure_topics(broker, topology)
    first, second = (
        keyed_records({"weights": WeightsDeployment(version=version)}, 0) for version in (1, 2)
    )

    async def both() -> None:
        async with exclusive_writer(broker, topology.control) as early:
            async with exclusive_writer(broker, topology.control) as late:
                await late(second)
            await early(first)

    with pytest.raises(WriterFenced):
        await both()
    async with ControlTopic(broker, topology) as control:
        await control.catch_up()
    assert (await state_of(broker, topology)).weights == WeightsDeployment(version=2)


@pytest.mark.parametrize("step", ["do", "handle_response"], ids=["unwritten", "written"])
async def test_a_commit_of_unknown_end_is_looked_for_and_made_once(
    broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A broker may answer a commit with an error that says nothing: it can have been made."""
    topology = Topology.of(with_policy(tmp_path, f"{name()}-{step[:2]}", 1).pipeline)
    await ensure_topics(broker, topology)
    as_it_is, tried = getattr(EndTxnHandler, step), 0

    def unknown_once(handler: EndTxnHandler, argument: object) -> object:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise UnknownError
        return as_it_is(handler, argument)

    monkeypatch.setattr(EndTxnHandler, step, unknown_once)
    entry = AuditEntry(
        action="promote", what="weights", version=1, before=None, by="me", reason="",
        at="2026-01-01",
    )  # fmt: skip
    async with ControlTopic(broker, topology) as control:
        await control.change({"weights": WeightsDeployment(version=1)}, entry)
    state = await state_of(broker, topology)
    assert state.weights == WeightsDeployment(version=1)
    assert [each.version for each in state.audit] == [1]
    assert tried == (2 if step == "do" else 1)
