"""An evidence pack made by hand: of features, a network, and a component of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.evidence.contents import model_entry
from agents.evidence.packed_record import PackedRecord
from agents.evidence.sealing import sealed
from models.onnx.session import ModelSession
from models.registry import Background, RecordedOutput, StoredWeights, card_digest, digest_of
from models.registry.card_files import sealed as sealed_card
from models.registry.registry import WeightsCard
from models.weighting import combine
from tests.unit.onnx_networks import network
from tests.unit.topic_log import record
from topics.pipeline.policy import Policy
from topics.records.bytes_column import BytesColumn
from topics.records.decision import Source, rfc3339_time
from topics.records.stage_batch import ModelRef, Rows, StageBatch
from topics.records.wire import encode

PIPELINE = """
pipeline: p
event:
  id: name
  key: name
  time: at
  fields: {name: {type: string}, at: {type: timestamp}, amount: {type: number}}
components:
  - name: features
    kind: extract_features
    from: [events]
    features:
      - {name: amount, of: amount}
      - {name: size, of: amount, apply: log1p}
  - {name: risk, kind: assess_risk, from: [features], model: {path: risk.onnx}}
  - {name: own, import: "elsewhere:Component", from: [events]}
weighting: {from: [risk, own], late: {fallback: review}}
policy: {thresholds: {review: 0.3, decline: 0.9}}
"""
SOURCE = Source(topic="p.events", partition=0, offset=7)
AT_MS = 1_800_000_000_000
EVENT = {"name": "tx-7", "at": "2027-01-15T08:00:00Z", "amount": 12.5}
WEIGHTS = {"risk": 0.75, "own": 0.25}
ONNX = network(2)
POLICY = Policy(thresholds={"review": 0.3, "decline": 0.9})
_CODE = "code"

Entries = dict[str, bytes]


def stage_row(component: str, output: list[float], signal: Any, model: ModelRef) -> StageBatch:
    """What a component says of the event."""
    rows = Rows(
        np.array([SOURCE.offset]), np.array([AT_MS + 5]), np.array([AT_MS]), np.array([False]),
        BytesColumn.of([b"tx-7"]), BytesColumn.of([b"tx-7"]),
    )  # fmt: skip
    return StageBatch(
        component=component, topic=SOURCE.topic, partition=0, covers_from=7, rows=rows,
        present=np.array([True]), output=np.array([output]),
        signal=np.array([signal], np.float32), model=model,
    )  # fmt: skip


def stage_rows() -> dict[str, StageBatch]:
    """What the components say of the event."""
    features = np.array([[12.5, np.log1p(12.5)]])
    session = ModelSession.of(ONNX, "risk.onnx")
    signal = session.signal(features.astype(np.float32))
    return {
        "features": stage_row("features", features[0].tolist(), 0, ModelRef("features", "", _CODE)),
        "risk": replace(
            stage_row("risk", [0], signal[0], ModelRef("risk@3", digest_of(ONNX), "fp32")),
            output=signal[:, None],
        ),
        "own": stage_row("own", [0.5], 0.5, ModelRef("own", "", _CODE)),
    }


def decision_of(rows: dict[str, StageBatch]) -> dict[str, Any]:
    """The decision record's content."""
    signals = np.array([[rows[name].signal[0] for name in WEIGHTS]])
    weighed = combine(signals, np.ones((1, 2), np.bool_), np.array([*WEIGHTS.values()]))
    return {
        "schema": 1, "event_id": "tx-7", "pipeline": "p",
        "decision": "review", "decided_by": "score", "score": float(weighed.scores[0]),
        "contributions": {
            name: {
                "signal": float(rows[name].signal[0]), "weight": WEIGHTS[name],
                "contribution": float(weighed.contributions[0, place]),
                **rows[name].model._asdict(),
            }
            for place, name in enumerate(WEIGHTS)
        },
        "degraded": False, "missing": [], "missing_because": {}, "weights": 2, "policy": "p@1",
        "source": SOURCE.model_dump(), "event_time": rfc3339_time(AT_MS),
        "decided_at": rfc3339_time(AT_MS + 20), "latency_ms": 15.0,
    }  # fmt: skip


def provenance() -> dict[str, str]:
    """What the decision names by digest."""
    entries = entries_of(())
    return {
        "pipeline_file": digest_of(entries["pipeline.yaml"]), "policy": digest_of(POLICY.content),
        "weights": card_digest(entries["weights.json"]),
    }  # fmt: skip


def event_record(content: object = EVENT, published_ms: int = AT_MS + 5) -> ConsumerRecord:
    """The source record."""
    return record(
        "p.events", 7, json.dumps(content).encode(), key=b"tx-7", published_ms=published_ms,
        headers=[("traceparent", b"00-")],
    )  # fmt: skip


def entries_of(records: Iterable[PackedRecord]) -> Entries:
    """What a pack of these records has besides explanation and manifest."""
    signal = np.linspace(0, 1, 8).astype(np.float32)
    outputs = {
        "features": RecordedOutput(
            np.random.default_rng(1).normal(10, 5, (8, 2)), signal, ["amount", "size"]
        ),
        "own": RecordedOutput(signal[:, None], signal, ["own"]),
    }
    background = Background(outputs).to_bytes()
    card = WeightsCard(values=WEIGHTS, rows=9, created_at="", metrics={}, models={})
    weights = sealed_card(
        StoredWeights(of="@weights@2", background=digest_of(background), card=card)
    )
    entries = {
        "pipeline.yaml": PIPELINE.encode(),
        "policy.json": POLICY.content,
        "weights.json": weights,
        "background.npz": background,
        model_entry(digest_of(ONNX)): ONNX,
        "trace.json": b"{}",
    }
    for each in records:
        entries |= each.entries()
    return entries


def decided_entries(
    change: Callable[[dict[str, StageBatch]], None] = lambda _: None,
    **decision: Any,
) -> Entries:
    """A decided event's, with its rows changed, and the decision's fields as given."""
    rows = stage_rows()
    content = decision_of(rows) | {"provenance": provenance()} | decision
    change(rows)
    records = [PackedRecord(event_record())]
    for at, (name, row) in enumerate(rows.items()):
        value, headers = encode(row)
        records.append(PackedRecord(record(f"p.{name}", at, value, headers=headers)))
    ce_id = [("ce_id", b"p.events/0/7")]
    decided = record("p.decisions", 7, json.dumps(content).encode(), headers=ce_id)
    return entries_of([*records, PackedRecord(decided)])


def pack_of(entries: Entries) -> Entries:
    """With explanation and manifest, as the collector makes them."""
    return sealed(entries, SOURCE, event_id="tx-7", attempt=1)
