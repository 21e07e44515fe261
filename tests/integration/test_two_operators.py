"""Two people change what is in service at once: the second is told, nothing is lost unseen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from agents.broker.pipeline_topics import ensure_topics
from agents.control.control_topic import ControlTopic
from agents.control.errors import ChangedMeanwhile
from agents.service.promotion import Promoter
from models.registry.registry import Registry
from topics.pipeline.file import PipelineFile, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.control import AuditEntry, ControlState, WeightsDeployment
from topics.settings import BrokerSettings

STATELESS = Path(__file__).parents[1] / "unit" / "stateless.yaml"


def with_policy(folder: Path, name: str, version: int) -> PipelineFile:
    """The same pipeline with another version of its policy."""
    content = yaml.safe_load(STATELESS.read_text())
    content |= {"pipeline": name, "policy": {**content["policy"], "version": version}}
    path = folder / f"{version}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_pipeline(path)


async def state_of(broker: BrokerSettings, topology: Topology) -> ControlState:
    async with ControlTopic(broker, topology) as control:
        return control.state


async def one_of_two_is_told(broker: BrokerSettings, folder: Path, name: str) -> None:
    """Both have looked before either has written; what only one of them changes is no matter."""
    files = [with_policy(folder, name, version) for version in (2, 3)]
    topology = Topology.of(files[0].pipeline)
    await ensure_topics(broker, topology)
    registry = Registry(folder / "registry")
    async with ControlTopic(broker, topology) as ours, ControlTopic(broker, topology) as theirs:
        promoters = [
            Promoter(control, file, registry)
            for control, file in zip((ours, theirs), files, strict=True)
        ]
        done = await asyncio.gather(
            *(promoter.promote_policy(f"reason {i}") for i, promoter in enumerate(promoters)),
            return_exceptions=True,
        )
        (told,) = (each for each in done if isinstance(each, BaseException))
        assert isinstance(told, ChangedMeanwhile), told
        (won,) = (each for each in done if isinstance(each, int))
        said = f"policy was changed meanwhile by .*promote of version {won} .*reason {won - 2}"
        with pytest.raises(ChangedMeanwhile, match=said):
            raise told

        state = await state_of(broker, topology)
        assert state.policy is not None
        assert state.policy.policy.version == won
        assert [(each.what, each.version) for each in state.audit] == [("policy", won)]

        loser = promoters[3 - won]  # it has read what there is, and may say it again
        assert await loser.promote_policy("after all") == 5 - won
        entry = state.audit[0].model_copy(update={"what": "weights", "version": 7})
        other = promoters[won - 2]._control
        await other.change({"weights": WeightsDeployment(version=7)}, entry)

    state = await state_of(broker, topology)
    assert state.policy is not None
    assert (state.policy.policy.version, state.policy.previous) == (
        5 - won, files[won - 2].pipeline.policy,
    )  # fmt: skip
    assert state.weights == WeightsDeployment(version=7)
    assert [each.version for each in state.audit] == [won, 5 - won, 7]


async def test_of_two_operators_at_once_the_second_is_told(
    broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path))
    await one_of_two_is_told(broker, tmp_path, "two-operators")


async def test_of_the_audit_trail_the_newest_entries_stay(
    broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path))
    monkeypatch.setattr("topics.records.control.AUDIT_KEPT", 3)
    topology = Topology.of(with_policy(tmp_path, "trail", 1).pipeline)
    await ensure_topics(broker, topology)
    async with ControlTopic(broker, topology) as control:
        for version in range(1, 6):
            entry = AuditEntry(
                action="promote", what="weights", version=version, before=None, by="me",
                reason="", at=f"2026-01-0{version}",
            )  # fmt: skip
            await control.change({"weights": WeightsDeployment(version=version)}, entry)
    assert [each.version for each in (await state_of(broker, topology)).audit] == [3, 4, 5]
