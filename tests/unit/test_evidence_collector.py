"""From topics and registry to a pack: all that is needed, or one clear sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.evidence.archive import write_archive
from agents.evidence.collector import EvidenceCollector
from agents.evidence.errors import EventInFlight, EvidenceGone
from agents.evidence.packed_record import packed_record, stems
from agents.evidence.verifier import Verification, verify_pack
from agents.explanations.errors import VersionGone
from agents.trace.errors import EventGone
from models.registry import Background
from models.registry.errors import ContentGone
from models.registry.registry import Registry, WeightsCard
from tests.unit.evidence_pack import (
    ONNX,
    PIPELINE,
    POLICY,
    SOURCE,
    WEIGHTS,
    Entries,
    decided_entries,
)
from tests.unit.test_recorded_event import Tail
from topics.pipeline.file import load_pipeline
from topics.records.control import ControlState, PolicyDeployment


@dataclass
class Scene:
    """What topics, registry and control topic hold of the event."""

    home: Path
    tail: Tail
    registry: Registry
    control: ControlState

    @classmethod
    def of(cls, home: Path, **decision: Any) -> Scene:
        """With a decision of these fields."""
        (home / "p.yaml").write_text(PIPELINE)
        (home / "risk.onnx").write_bytes(ONNX)
        registry, tail = Registry(home / "registry"), Tail()
        card = WeightsCard(values=WEIGHTS, rows=9, created_at="", metrics={}, models={})
        entries = decided_entries()
        background = Background.from_bytes(entries["background.npz"])
        registry.add_weights("p", card)
        registry.add_weights("p", card, background)
        own = {
            "pipeline_file": registry.keep("p", PIPELINE.encode()),
            "policy": registry.keep("p", POLICY.content),
            "weights": registry.weights("p", 2).digest,
        }
        entries = decided_entries(**{"provenance": own} | decision)
        names = [*entries]
        records = [packed_record(stem, names, entries.__getitem__).record for stem in stems(names)]
        tail.write(sorted(records, key=lambda record: (record.topic, record.offset)))
        tail.first = {TP(record.topic, 0): record.offset for record in records}
        return cls(home, tail, registry, ControlState())

    async def collected(self) -> Entries:
        tail: Any = self.tail  # as far as it is asked
        file = load_pipeline(self.home / "p.yaml")
        return await EvidenceCollector(tail, file, self.registry, self.control).collect(SOURCE)

    async def verified(self) -> Verification:
        path = self.home / "pack.zip"
        write_archive(path, await self.collected())
        return verify_pack(path)

    def forget(self, topic: str) -> ConsumerRecord:
        """Its record is gone by retention."""
        (record,) = self.tail.records.pop(TP(topic, 0))
        self.tail.first[TP(topic, 0)] = record.offset + 1
        return record


async def test_what_topics_and_registry_hold_is_proven(tmp_path: Path) -> None:
    scene = Scene.of(tmp_path)
    result = await scene.verified()
    assert result.holds, result.findings
    assert result.agreement == "bits"
    assert result.manifest is not None
    assert result.manifest.without_explanation is None


async def test_the_file_that_decided_counts_whatever_it_is_now(tmp_path: Path) -> None:
    scene = Scene.of(tmp_path)
    before = await scene.collected()
    path = tmp_path / "p.yaml"
    path.write_text(PIPELINE.replace("decline: 0.9", "decline: 0.4") + "partitions: 1\n")
    assert await scene.collected() == before
    for kept in (tmp_path / "registry" / "p" / "@decided-by").iterdir():
        kept.unlink()
    with pytest.raises(ContentGone, match="put it back"):
        await scene.collected()


async def test_a_promoted_policy_is_taken_from_where_it_is(tmp_path: Path) -> None:
    other = POLICY.model_copy(update={"version": 2, "thresholds": {"review": 0.2, "decline": 0.9}})
    old = {"provenance": None, "policy": "p@2"}
    scene = Scene.of(tmp_path, **old)
    with pytest.raises(VersionGone, match=r"the policy p@2 decided about this event"):
        await scene.collected()
    scene.control.policy = PolicyDeployment(policy=POLICY, previous=other)
    result = await scene.verified()
    assert result.holds, result.findings
    said = {each.what: each.said for each in result.findings}
    assert said["decision"] == "review by p@2"
    assert said["named files"].startswith("the decision names no pipeline file")


async def test_what_is_gone_from_the_registry_is_named(tmp_path: Path) -> None:
    with pytest.raises(VersionGone, match=r"weights@7 decided about this event and is no longer"):
        await Scene.of(tmp_path, weights=7).collected()
    other = tmp_path / "other"
    other.mkdir()
    scene = Scene.of(other)
    (scene.home / "risk.onnx").write_bytes(ONNX + b"\0")
    with pytest.raises(VersionGone, match=r"the model risk@3 \(sha256:"):
        await scene.collected()


@pytest.mark.parametrize(
    ("topic", "error", "said"),
    [
        ("p.events", EvidenceGone, "the event is gone from p.events by retention"),
        ("p.risk", EvidenceGone, "p.risk no longer has what risk said of it"),
        ("p.decisions", EventInFlight, "it may still be in flight"),
    ],
)
async def test_what_is_gone_by_retention_is_named(
    tmp_path: Path, topic: str, error: type[Exception], said: str
) -> None:
    scene = Scene.of(tmp_path)
    scene.forget(topic)
    with pytest.raises(error, match=said):
        await scene.collected()


async def test_of_an_event_that_is_gone_whole_nothing_can_be_said(tmp_path: Path) -> None:
    scene = Scene.of(tmp_path)
    for topic in ("p.events", "p.decisions", "p.features", "p.risk", "p.own"):
        scene.forget(topic)
    with pytest.raises(EventGone, match=r"p\.events/0/7 is gone by retention"):
        await scene.collected()
